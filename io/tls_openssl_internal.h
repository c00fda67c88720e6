/* io/tls_openssl_internal.h: one OpenSSL connection, for its two sides: tls_openssl.c and
 * tls_server_openssl.c. A relay has ten thousand of them, so what only a client or a failure needs
 * lies outside. */
#ifndef MSOCK_IO_TLS_OPENSSL_INTERNAL_H
#define MSOCK_IO_TLS_OPENSSL_INTERNAL_H

#include <openssl/ssl.h>

#include "io/tls.h"
#include "io/tls_common.h"

/* What a client verifies by. */
typedef struct msock_tls_openssl_client {
  msock_tls_rules rules;
  const msock_tls_roots *roots; /* chain mode; borrowed */
  bool spki_seen;               /* some certificate of the verified chain has the pinned key */
} msock_tls_openssl_client;

struct msock_tls {
  SSL *ssl; /* holds a reference to its SSL_CTX, which holds certificates and key */
  msock_tls_openssl_client *client; /* NULL: the accepting side */
  char *why;                        /* of the last failure; NULL = none */
  int fd;
  int io_errno; /* of the last failed send or recv */
  bool wants_write;
  bool up;
  bool drained; /* the last read took all there was */
  msock_tls_info info;
};

/* A context with the settings that both sides share; NULL: no memory. */
SSL_CTX *msock_tls_openssl_context(void);
/* A connection over fd in that context; NULL: no memory. */
msock_tls *msock_tls_openssl_new(SSL_CTX *ctx, int fd);
void msock_tls_openssl_say(msock_tls *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
