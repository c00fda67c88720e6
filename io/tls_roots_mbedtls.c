/* The root store of the mbedTLS backend. Debian's bundle has 144 roots, a megabyte once parsed; a
 * handshake needs one or two. So the store is the files' paths, and each handshake reads the few
 * certificates whose names its chain asks for. A store that was updated counts at once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/x509_crt.h>

#include "io/pem.h"
#include "io/tls_mbedtls_internal.h"
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

/* Is there one certificate that the library can read? */
static bool until_usable(void *ctx, const uint8_t *der, size_t len) {
  bool *found = ctx;
  mbedtls_x509_crt crt;
  mbedtls_x509_crt_init(&crt);
  *found = mbedtls_x509_crt_parse_der(&crt, der, len) == 0;
  mbedtls_x509_crt_free(&crt);
  return !*found;
}

static bool check_file(const char *path, char *why, size_t cap) {
  bool found = false;
  const int rc = msock_pem_walk(path, until_usable, &found);
  if (rc == 0 && found) {
    return true;
  }
  return cannot_read(path, rc != 0 ? strerror(rc) : "no usable certificate", why, cap);
}

bool msock_tls_roots_check(msock_tls_roots *r, char *why, size_t cap) {
  if (r->checked) {
    return true;
  }
  if (r->system_path[0] == '\0' && r->ca_file[0] == '\0') {
    snprintf(why, cap,
             "no trusted CA certificates found; install ca-certificates, or set "
             "SSL_CERT_FILE or ca_file");
    return false;
  }
  r->checked = (r->system_path[0] == '\0' || check_file(r->system_path, why, cap)) &&
               (r->ca_file[0] == '\0' || check_file(r->ca_file, why, cap));
  return r->checked;
}

typedef struct search {
  const mbedtls_x509_crt *chain; /* as the peer sent it */
  mbedtls_x509_crt *found;
} search;

/* raw: a whole Name; content: what is behind its header. */
static bool same_name(const mbedtls_x509_buf *raw, const msock_x509_span *content) {
  return raw->len > content->len && raw->len - content->len <= 4 &&
         memcmp(raw->p + (raw->len - content->len), content->p, content->len) == 0;
}

/* Keeps roots that some certificate of the chain names as its issuer. Both names are written alike
 * (RFC 5280 4.1.2.6). A root that only the library can read is kept: it judges. */
static bool keep_wanted(void *ctx, const uint8_t *der, size_t len) {
  search *s = ctx;
  msock_x509_cert root;
  bool wanted = !msock_x509_parse(der, len, &root);
  for (const mbedtls_x509_crt *c = s->chain; c != NULL && !wanted; c = c->next) {
    wanted = same_name(&c->issuer_raw, &root.subject);
  }
  if (wanted) { /* one that it cannot read is left out: the rest is used */
    (void)mbedtls_x509_crt_parse_der(s->found, der, len);
  }
  return true;
}

bool msock_tls_roots_find(const msock_tls_roots *r, const mbedtls_x509_crt *chain,
                          mbedtls_x509_crt *found, char *why, size_t cap) {
  search s = {.chain = chain, .found = found};
  const char *const paths[] = {r->system_path, r->ca_file};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    const int rc = paths[i][0] != '\0' ? msock_pem_walk(paths[i], keep_wanted, &s) : 0;
    if (rc != 0) {
      return cannot_read(paths[i], strerror(rc), why, cap);
    }
  }
  return true;
}
