/* tests/unit/tls_testing.h: certificates made on the spot (P-256, mbedTLS) and a TLS server that is
 * pumped by hand, for the TLS tests. */
#ifndef MSOCK_TESTS_TLS_TESTING_H
#define MSOCK_TESTS_TLS_TESTING_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mbedtls/ecp.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>

typedef struct tls_test_cert {
  mbedtls_pk_context key;
  uint8_t der[2048];
  size_t len;
} tls_test_cert;

typedef struct tls_test_spec {
  const char *cn;                     /* "CN=..." */
  const char *dns[3];                 /* dNSName entries, up to the first NULL */
  const uint8_t *ip;                  /* iPAddress entry of 4 bytes, or NULL */
  const char *not_before, *not_after; /* NULL: 2020..2049 */
  bool is_ca;
} tls_test_spec;

/* Signed by issuer, or by itself when NULL. */
void tls_test_make(tls_test_cert *c, const tls_test_spec *spec, const tls_test_cert *issuer,
                   const char *issuer_cn);
void tls_test_free(tls_test_cert *c);
/* Writes c as PEM into path. */
void tls_test_write_pem(const tls_test_cert *c, const char *path);
/* An Ed25519 certificate as a relay appends it: CN derpkey + 64 hex digits, serial 2. */
size_t tls_test_meta_der(uint8_t *dst, size_t cap, const uint8_t key[static 32]);

typedef struct tls_test_der {
  const uint8_t *p;
  size_t len;
} tls_test_der;

/* A server end on a descriptor: sends chain[0..n) in that order, proves the key. */
typedef struct tls_test_server {
  mbedtls_ssl_context ssl;
  mbedtls_ssl_config conf;
  mbedtls_x509_crt chain;
  int fd;
  bool up;
  char sni[256]; /* what the client sent; "" = none */
} tls_test_server;
void tls_test_server_init(tls_test_server *s, int fd, const tls_test_der *chain, size_t n,
                          mbedtls_pk_context *key);
/* Goes on with the handshake. 0: done; negative: an mbedTLS code. */
int tls_test_server_step(tls_test_server *s);
void tls_test_server_free(tls_test_server *s);

#endif
