/* io/http.h: one-shot HTTP/1.1 client requests: the control key, latency checks, captive portals,
 * admission URLs. Two providers with the same behaviour: http_curl.c (libcurl) and http_small.c
 * (base/http1 over io/stream, no proxies), chosen by the build option `http`.
 *
 * Redirects are not followed; cookies do not exist; the body is bounded. Names are resolved by the
 * egress module alone. */
#ifndef MSOCK_IO_HTTP_H
#define MSOCK_IO_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "io/egress.h"
#include "io/tls.h"

#define MSOCK_HTTP_HEADERS_MAX 16u
#define MSOCK_HTTP_CALLS_MAX 64u /* calls under way; more: MSOCK_ERR_NOMEM */
#define MSOCK_HTTP_WHY_MAX 320u

typedef struct msock_http msock_http;
/* Borrows all three until freed. */
msock_http *msock_http_new(msock_egress *eg, msock_tls_roots *roots, const msock_log *log);
void msock_http_free(
    msock_http *h); /* cancels what is under way; not inside a callback of a call */
const char *msock_http_provider(void); /* "libcurl/7.88.1" or "small" */

typedef struct msock_http_request { /* everything is copied */
  msock_purpose purpose;
  const char *method;                          /* "GET", "HEAD", "POST" */
  const char *url;                             /* http:// or https:// */
  const char *headers[MSOCK_HTTP_HEADERS_MAX]; /* "Name: value", up to the first NULL */
  const void *body;                            /* POST */
  size_t body_len;
  size_t max_body;       /* a longer answer is MSOCK_ERR_INVALID */
  uint64_t timeout_us;   /* the whole call */
  msock_ip connect_ip;   /* dial this instead of looking the host up; family 0 = look up */
  uint16_t connect_port; /* dial this port instead of the URL's (tailscale#19940); 0 = the URL's */
  const char *cert_name; /* as msock_tls_config; NULL = the URL's host */
  bool has_spki_pin;
  uint8_t spki_pin[MSOCK_TLS_PIN_LEN];
  bool insecure_for_tests;
} msock_http_request;

typedef struct msock_http_result { /* valid for the callback */
  msock_err err; /* MSOCK_OK: an answer came, whatever its status. AUTH: TLS verification failed */
  int status;    /* 0 without an answer */
  const uint8_t *body;
  size_t body_len;
  const uint8_t *head; /* the answer's head, as base/http1.h parses it */
  size_t head_len;
  uint64_t connect_us; /* TCP connect time */
  uint64_t answer_us;  /* from the connection being ready, TLS included, to the answer's end */
  uint64_t total_us;
  const char *why; /* on error: words for the user; else "" */
} msock_http_result;

typedef struct msock_http_call msock_http_call;
/* cb is called once, in a later turn; *out (may be NULL) is for cancelling and is gone after cb.
 * MSOCK_ERR_INVALID: URL or method; MSOCK_ERR_DENIED: the profile forbids it (or needs a literal
 * address); MSOCK_ERR_NOMEM. */
msock_err msock_http_start(msock_http *h, const msock_http_request *r,
                           void (*cb)(void *ctx, const msock_http_result *r), void *ctx,
                           msock_http_call **out);
void msock_http_cancel(msock_http_call *c); /* cb is not called; NULL is fine */
/* Copies a header of the answer into dst (cut to cap, NUL-terminated); false when absent. */
bool msock_http_result_header(const msock_http_result *r, const char *name, char *dst, size_t cap);

/* A URL's parts. Strict: no user info, no fragment, printable ASCII only. */
typedef struct msock_http_url {
  bool https;
  char host[256]; /* brackets of an IPv6 literal removed */
  bool host_is_ip;
  msock_ip ip; /* when host_is_ip */
  uint16_t port;
  bool default_port;
  char target[1024]; /* path and query; "/" when empty */
} msock_http_url;
msock_err msock_http_url_parse(const char *url, msock_http_url *out);

#endif
