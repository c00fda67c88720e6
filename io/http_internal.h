/* io/http_internal.h: between http.c and its providers. */
#ifndef MSOCK_IO_HTTP_INTERNAL_H
#define MSOCK_IO_HTTP_INTERNAL_H

#include "io/http.h"

typedef struct msock_http_env {
  msock_egress *eg;
  msock_tls_roots *roots;
  const msock_log *log;
} msock_http_env;

/* A call ends with msock_http_done(token, result), in a later turn than start; after it the
 * provider frees its part and touches neither token nor the client. */
typedef struct msock_http_provider_ops {
  const char *(*name)(void);
  void *(*open)(const msock_http_env *env); /* NULL: no memory */
  void (*close)(void *state);
  msock_err (*start)(void *state, const msock_http_request *r, const msock_http_url *url,
                     void *token, void **impl);
  void (*cancel)(void *impl);
} msock_http_provider_ops;

extern const msock_http_provider_ops msock_http_curl;
extern const msock_http_provider_ops msock_http_small; /* state: a msock_http_env */

void msock_http_done(void *token, const msock_http_result *r);

/* The proxy that the environment names for this URL ("http://host:port", https too), or false:
 * none, or NO_PROXY covers the host. */
bool msock_http_env_proxy(const msock_http_url *url, char *dst, size_t cap);

#endif
