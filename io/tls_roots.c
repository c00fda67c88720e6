/* The root store of every backend. Debian's bundle has 144 roots, a megabyte once parsed; a
 * handshake needs one or two. So the store is the files' paths, and each handshake reads the few
 * certificates whose names its chain asks for. A store that was updated counts at once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/pem.h"
#include "io/tls_common.h"
#include "io/x509_name.h"

struct msock_tls_roots {
  bool checked; /* each file had a usable certificate */
  char system_path[512];
  char ca_file[512]; /* "" = none */
};

msock_tls_roots *msock_tls_roots_new(const char *ca_file) {
  msock_tls_roots *r = calloc(1, sizeof *r);
  if (r == NULL) {
    return NULL;
  }
  msock_tls_system_roots_path(r->system_path, sizeof r->system_path);
  snprintf(r->ca_file, sizeof r->ca_file, "%s", ca_file != NULL ? ca_file : "");
  return r;
}

void msock_tls_roots_free(msock_tls_roots *r) {
  free(r);
}

const char *msock_tls_roots_system_path(const msock_tls_roots *r) {
  return r->system_path;
}

const char *msock_tls_roots_ca_file(const msock_tls_roots *r) {
  return r->ca_file[0] != '\0' ? r->ca_file : NULL;
}

static bool cannot_read(const char *path, const char *reason, char *why, size_t cap) {
  snprintf(why, cap, "cannot read certificates from %.120s: %s; check the path and that it is PEM",
           path, reason);
  return false;
}

typedef struct look {
  bool (*is_usable)(const uint8_t *der, size_t len);
  bool found;
} look;

static bool until_usable(void *ctx, const uint8_t *der, size_t len) {
  look *l = ctx;
  l->found = l->is_usable(der, len);
  return !l->found;
}

static bool check_file(const char *path, bool (*is_usable)(const uint8_t *der, size_t len),
                       char *why, size_t cap) {
  look l = {.is_usable = is_usable};
  const int rc = msock_pem_walk(path, until_usable, &l);
  if (rc == 0 && l.found) {
    return true;
  }
  return cannot_read(path, rc != 0 ? strerror(rc) : "no usable certificate", why, cap);
}

bool msock_tls_roots_check(msock_tls_roots *r, bool (*is_usable)(const uint8_t *der, size_t len),
                           char *why, size_t cap) {
  if (r->checked) {
    return true;
  }
  if (r->system_path[0] == '\0' && r->ca_file[0] == '\0') {
    snprintf(why, cap,
             "no trusted CA certificates found; install ca-certificates, or set "
             "SSL_CERT_FILE or ca_file");
    return false;
  }
  r->checked = (r->system_path[0] == '\0' || check_file(r->system_path, is_usable, why, cap)) &&
               (r->ca_file[0] == '\0' || check_file(r->ca_file, is_usable, why, cap));
  return r->checked;
}

typedef struct search {
  const msock_x509_span *issuers; /* whole Names, of the chain as the peer sent it */
  size_t n;
  msock_tls_root_sink sink;
  void *ctx;
} search;

/* raw: a whole Name; content: what is behind its header. */
static bool same_name(const msock_x509_span *raw, const msock_x509_span *content) {
  return raw->len > content->len && raw->len - content->len <= 4 &&
         memcmp(raw->p + (raw->len - content->len), content->p, content->len) == 0;
}

/* Keeps roots that some certificate of the chain names as its issuer. Both names are written alike
 * (RFC 5280 4.1.2.6). A root that only the library can read is kept: it judges. */
static bool keep_wanted(void *ctx, const uint8_t *der, size_t len) {
  search *s = ctx;
  msock_x509_cert root;
  bool wanted = !msock_x509_parse(der, len, &root);
  for (size_t i = 0; i < s->n && !wanted; i++) {
    wanted = same_name(&s->issuers[i], &root.subject);
  }
  if (wanted) {
    s->sink(s->ctx, der, len);
  }
  return true;
}

bool msock_tls_roots_find(const msock_tls_roots *r, const msock_x509_span *issuers, size_t n,
                          msock_tls_root_sink sink, void *ctx, char *why, size_t cap) {
  search s = {.issuers = issuers, .n = n, .sink = sink, .ctx = ctx};
  const char *const paths[] = {r->system_path, r->ca_file};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    const int rc = paths[i][0] != '\0' ? msock_pem_walk(paths[i], keep_wanted, &s) : 0;
    if (rc != 0) {
      return cannot_read(paths[i], strerror(rc), why, cap);
    }
  }
  return true;
}
