/* io/tls_mbedtls_internal.h: one mbedTLS connection, for its two sides: tls_mbedtls.c and
 * tls_server_mbedtls.c. */
#ifndef MSOCK_IO_TLS_MBEDTLS_INTERNAL_H
#define MSOCK_IO_TLS_MBEDTLS_INTERNAL_H

#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>

#include "io/tls.h"
#include "io/tls_common.h"
#include "io/tls_server.h"

struct msock_tls {
  mbedtls_ssl_context ssl;
  mbedtls_ssl_config conf;      /* of a client; a server's is its identity's */
  mbedtls_x509_crt no_roots;    /* stays empty */
  const msock_tls_roots *roots; /* chain mode; borrowed */
  msock_tls_identity *identity; /* of the accepting side: one reference */
  int fd;
  int io_errno; /* of the last failed send or recv */
  bool is_server;
  bool wants_write;
  bool up;
  size_t resume_len; /* length of the write that is to be repeated; 0 = none */
  bool spki_seen;    /* some certificate of the verified chain has the pinned key */
  const char *alpn[2];
  char alpn_name[32];
  msock_tls_rules rules;
  msock_tls_info info;
  char why[MSOCK_TLS_WHY_MAX];
};

/* Zeroed and initialised; NULL: no memory. */
msock_tls *msock_tls_mbedtls_new(int fd);
/* Settings that both sides share; endpoint: MBEDTLS_SSL_IS_CLIENT or _SERVER. */
msock_err msock_tls_mbedtls_defaults(mbedtls_ssl_config *conf, int endpoint);
/* Ties the context to conf and the descriptor. */
msock_err msock_tls_mbedtls_setup(msock_tls *t, const mbedtls_ssl_config *conf);
int msock_tls_mbedtls_random(void *ctx, unsigned char *dst, size_t len);

#endif
