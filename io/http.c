#include "io/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http1.h"
#include "io/http_internal.h"

static bool parse_port(const char *p, size_t len, uint16_t *out) {
  uint32_t v = 0;
  if (len == 0 || len > 5) {
    return false;
  }
  for (size_t i = 0; i < len; i++) {
    if (p[i] < '0' || p[i] > '9') {
      return false;
    }
    v = v * 10 + (uint32_t)(p[i] - '0');
  }
  *out = (uint16_t)v;
  return v > 0 && v <= UINT16_MAX;
}

/* "host", "host:port", "[v6]", "[v6]:port". */
static bool parse_authority(const char *p, size_t len, msock_http_url *u) {
  const bool brackets = len > 0 && p[0] == '[';
  size_t host_len;
  const char *host = p;

  if (brackets) {
    const char *end = memchr(p, ']', len);
    if (end == NULL) {
      return false;
    }
    host = p + 1;
    host_len = (size_t)(end - host);
    len -= host_len + 2;
    p = end + 1;
  } else {
    const char *colon = memchr(p, ':', len);
    host_len = colon != NULL ? (size_t)(colon - p) : len;
    len -= host_len;
    p += host_len;
  }
  if (host_len == 0 || host_len >= sizeof u->host || memchr(host, '@', host_len) != NULL ||
      (len > 0 && (p[0] != ':' || !parse_port(p + 1, len - 1, &u->port)))) {
    return false;
  }
  memcpy(u->host, host, host_len);
  u->host[host_len] = '\0';
  u->host_is_ip = msock_ip_parse(u->host, &u->ip) == MSOCK_OK;
  return !brackets || (u->host_is_ip && u->ip.family == 6);
}

msock_err msock_http_url_parse(const char *url, msock_http_url *out) {
  msock_http_url u = {0};

  for (const char *c = url; *c != '\0'; c++) {
    if (*c <= 0x20 || *c >= 0x7f || *c == '#') {
      return MSOCK_ERR_INVALID;
    }
  }
  if (strncmp(url, "https://", 8) == 0) {
    u.https = true;
    url += 8;
  } else if (strncmp(url, "http://", 7) == 0) {
    url += 7;
  } else {
    return MSOCK_ERR_INVALID;
  }
  const uint16_t default_port = u.https ? 443 : 80;
  const size_t authority = strcspn(url, "/?");
  u.port = default_port;
  if (!parse_authority(url, authority, &u)) {
    return MSOCK_ERR_INVALID;
  }
  u.default_port = u.port == default_port;
  const char *rest = url + authority;
  const int n = snprintf(u.target, sizeof u.target, "%s%s", rest[0] == '/' ? "" : "/", rest);
  if (n < 0 || (size_t)n >= sizeof u.target) {
    return MSOCK_ERR_INVALID;
  }
  *out = u;
  return MSOCK_OK;
}

bool msock_http_result_header(const msock_http_result *r, const char *name, char *dst, size_t cap) {
  msock_http1_head head;
  if (r->head_len == 0 || msock_http1_parse_response(r->head, r->head_len, &head) <= 0) {
    return false;
  }
  const msock_http1_header *h = msock_http1_find(&head, name);
  if (h == NULL) {
    return false;
  }
  snprintf(dst, cap, "%.*s", (int)h->value.len, h->value.p);
  return true;
}

/* Calls: the front keeps them, a provider carries each out */

struct msock_http_call {
  msock_http *h;
  msock_http_call *prev, *next;
  const msock_http_provider_ops *ops;
  void *impl;
  void (*cb)(void *ctx, const msock_http_result *r);
  void *ctx;
};

struct msock_http {
  msock_http_env env;
  void *main_state; /* of the main provider */
  msock_http_call *calls;
  size_t n_calls;
};

#ifdef MSOCK_HTTP_CURL
#define MAIN_PROVIDER (&msock_http_curl)
#else
#define MAIN_PROVIDER (&msock_http_small)
#endif

const char *msock_http_provider(void) {
  return MAIN_PROVIDER->name();
}

msock_http *msock_http_new(msock_egress *eg, msock_tls_roots *roots, const msock_log *log) {
  msock_http *h = calloc(1, sizeof *h);
  if (h == NULL) {
    return NULL;
  }
  h->env = (msock_http_env){.eg = eg, .roots = roots, .log = log};
  h->main_state = MAIN_PROVIDER->open(&h->env);
  if (h->main_state == NULL) {
    free(h);
    return NULL;
  }
  return h;
}

static void drop(msock_http_call *c) {
  msock_http *h = c->h;
  if (c->prev != NULL) {
    c->prev->next = c->next;
  } else {
    h->calls = c->next;
  }
  if (c->next != NULL) {
    c->next->prev = c->prev;
  }
  h->n_calls--;
  free(c);
}

void msock_http_cancel(msock_http_call *c) {
  if (c != NULL) {
    c->ops->cancel(c->impl);
    drop(c);
  }
}

void msock_http_free(msock_http *h) {
  if (h == NULL) {
    return;
  }
  while (h->calls != NULL) {
    msock_http_cancel(h->calls);
  }
  MAIN_PROVIDER->close(h->main_state);
  free(h);
}

void msock_http_done(void *token, const msock_http_result *r) {
  msock_http_call *c = token;
  void (*cb)(void *, const msock_http_result *) = c->cb;
  void *ctx = c->ctx;
  drop(c);
  cb(ctx, r);
}

/* libcurl verifies the URL's host and pins leaf keys only: other rules are for our own TLS. */
static bool needs_own_tls(const msock_http_request *r, const msock_http_url *url) {
  return url->https && (r->has_spki_pin || (r->cert_name != NULL && r->cert_name[0] != '\0' &&
                                            strcmp(r->cert_name, url->host) != 0));
}

static msock_err check(const msock_http *h, const msock_http_request *r, const msock_http_url *u) {
  if (strcmp(r->method, "GET") != 0 && strcmp(r->method, "HEAD") != 0 &&
      strcmp(r->method, "POST") != 0) {
    return MSOCK_ERR_INVALID;
  }
  if (h->n_calls == MSOCK_HTTP_CALLS_MAX) {
    return MSOCK_ERR_NOMEM;
  }
  const bool literal = r->connect_ip.family != 0 || u->host_is_ip;
  if (!literal && !msock_egress_may_resolve(h->env.eg, r->purpose)) {
    return MSOCK_ERR_DENIED;
  }
  return msock_egress_allows(h->env.eg, r->purpose) ? MSOCK_OK : MSOCK_ERR_DENIED;
}

msock_err msock_http_start(msock_http *h, const msock_http_request *r,
                           void (*cb)(void *ctx, const msock_http_result *r), void *ctx,
                           msock_http_call **out) {
  msock_http_url url;
  msock_err err = msock_http_url_parse(r->url, &url);
  if (err == MSOCK_OK) {
    err = check(h, r, &url);
  }
  msock_http_call *c = err == MSOCK_OK ? calloc(1, sizeof *c) : NULL;
  if (c == NULL) {
    return err == MSOCK_OK ? MSOCK_ERR_NOMEM : err;
  }
  const bool own = MAIN_PROVIDER == &msock_http_small || needs_own_tls(r, &url);
  *c = (msock_http_call){.h = h, .cb = cb, .ctx = ctx, .next = h->calls};
  c->ops = own ? &msock_http_small : MAIN_PROVIDER;
  void *state = own ? (void *)&h->env : h->main_state;
  err = c->ops->start(state, r, &url, c, &c->impl);
  if (err != MSOCK_OK) {
    free(c);
    return err;
  }
  if (c->next != NULL) {
    c->next->prev = c;
  }
  h->calls = c;
  h->n_calls++;
  if (out != NULL) {
    *out = c;
  }
  return MSOCK_OK;
}
