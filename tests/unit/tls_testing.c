#include "tests/unit/tls_testing.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <mbedtls/asn1write.h>
#include <mbedtls/bignum.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>

#include "base/hex.h"

static int test_random(void *ctx, unsigned char *p, size_t len) {
  (void)ctx;
  randombytes_buf(p, len);
  return 0;
}

/* subjectAltName: GeneralNames of the spec. */
static size_t san_der(const tls_test_spec *spec, uint8_t *dst) {
  size_t at = 2;
  for (size_t i = 0; i < 3 && spec->dns[i] != NULL; i++) {
    const size_t n = strlen(spec->dns[i]);
    dst[at++] = 0x82;
    dst[at++] = (uint8_t)n;
    memcpy(dst + at, spec->dns[i], n);
    at += n;
  }
  if (spec->ip != NULL) {
    dst[at++] = 0x87;
    dst[at++] = 4;
    memcpy(dst + at, spec->ip, 4);
    at += 4;
  }
  ck_assert_uint_lt(at, 128);
  dst[0] = 0x30;
  dst[1] = (uint8_t)(at - 2);
  return at > 2 ? at : 0;
}

void tls_test_make(tls_test_cert *c, const tls_test_spec *spec, const tls_test_cert *issuer,
                   const char *issuer_cn) {
  mbedtls_x509write_cert w;
  mbedtls_mpi serial;
  uint8_t san[128], der[2048];

  memset(c, 0, sizeof *c);
  mbedtls_pk_init(&c->key);
  ck_assert_int_eq(mbedtls_pk_setup(&c->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
  ck_assert_int_eq(
      mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(c->key), test_random, NULL), 0);
  mbedtls_mpi_init(&serial);
  mbedtls_mpi_lset(&serial, 4660);
  mbedtls_x509write_crt_init(&w);
  mbedtls_x509write_crt_set_version(&w, MBEDTLS_X509_CRT_VERSION_3);
  mbedtls_x509write_crt_set_md_alg(&w, MBEDTLS_MD_SHA256);
  mbedtls_x509write_crt_set_subject_key(&w, &c->key);
  mbedtls_x509write_crt_set_issuer_key(&w, issuer != NULL ? (mbedtls_pk_context *)&issuer->key
                                                          : &c->key);
  ck_assert_int_eq(mbedtls_x509write_crt_set_subject_name(&w, spec->cn), 0);
  ck_assert_int_eq(
      mbedtls_x509write_crt_set_issuer_name(&w, issuer_cn != NULL ? issuer_cn : spec->cn), 0);
  mbedtls_x509write_crt_set_serial(&w, &serial);
  mbedtls_x509write_crt_set_validity(&w, spec->not_before ? spec->not_before : "20200101000000",
                                     spec->not_after ? spec->not_after : "20491231235959");
  mbedtls_x509write_crt_set_basic_constraints(&w, spec->is_ca, -1);
  const size_t san_len = san_der(spec, san);
  if (san_len > 0) {
    ck_assert_int_eq(mbedtls_x509write_crt_set_extension(
                         &w, MBEDTLS_OID_SUBJECT_ALT_NAME,
                         MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), 0, san, san_len),
                     0);
  }
  const int n = mbedtls_x509write_crt_der(&w, der, sizeof der, test_random, NULL);
  ck_assert_int_gt(n, 0);
  memcpy(c->der, der + sizeof der - (size_t)n, (size_t)n); /* it writes at the end */
  c->len = (size_t)n;
  mbedtls_x509write_crt_free(&w);
  mbedtls_mpi_free(&serial);
}

void tls_test_free(tls_test_cert *c) {
  mbedtls_pk_free(&c->key);
}

void tls_test_write_pem(const tls_test_cert *c, const char *path) {
  uint8_t pem[4096];
  size_t n = 0;
  ck_assert_int_eq(mbedtls_pem_write_buffer("-----BEGIN CERTIFICATE-----\n",
                                            "-----END CERTIFICATE-----\n", c->der, c->len, pem,
                                            sizeof pem, &n),
                   0);
  FILE *f = fopen(path, "w");
  ck_assert_ptr_nonnull(f);
  ck_assert_uint_eq(fwrite(pem, 1, strlen((char *)pem), f), strlen((char *)pem));
  fclose(f);
}

/* Prepends a tag and length to the len bytes at the end of buf[..end). Gives the new begin. */
static size_t wrap(uint8_t *buf, size_t begin, size_t end, uint8_t tag) {
  const size_t len = end - begin;
  if (len >= 256) {
    buf[--begin] = (uint8_t)len;
    buf[--begin] = (uint8_t)(len >> 8);
    buf[--begin] = 0x82;
  } else if (len >= 128) {
    buf[--begin] = (uint8_t)len;
    buf[--begin] = 0x81;
  } else {
    buf[--begin] = (uint8_t)len;
  }
  buf[--begin] = tag;
  return begin;
}

static size_t prepend(uint8_t *buf, size_t begin, const void *p, size_t len) {
  memcpy(buf + begin - len, p, len);
  return begin - len;
}

static size_t prepend_name(uint8_t *buf, size_t begin, const char *cn) {
  static const uint8_t oid[] = {0x06, 0x03, 0x55, 0x04, 0x03};
  const size_t end = begin;
  begin = prepend(buf, begin, cn, strlen(cn));
  begin = wrap(buf, begin, end, 0x13);
  begin = prepend(buf, begin, oid, sizeof oid);
  begin = wrap(buf, begin, end, 0x30);
  begin = wrap(buf, begin, end, 0x31);
  return wrap(buf, begin, end, 0x30);
}

size_t tls_test_meta_der(uint8_t *dst, size_t cap, const uint8_t key[static 32]) {
  static const uint8_t alg[] = {0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70};
  static const uint8_t constraints[] = {0xa3, 0x10, 0x30, 0x0e, 0x30, 0x0c, 0x06, 0x03, 0x55,
                                        0x1d, 0x13, 0x01, 0x01, 0xff, 0x04, 0x02, 0x30, 0x00};
  static const char dates[] = "\x17\x0d"
                              "260101000000Z"
                              "\x17\x0d"
                              "260301000000Z";
  static const uint8_t start[] = {0xa0, 0x03, 0x02, 0x01, 0x02, 0x02, 0x01, 0x02};
  uint8_t buf[1024], pub[32], secret[64], sig[65] = {0};
  char cn[72] = "derpkey";
  size_t end = sizeof buf, at = end, mark;

  crypto_sign_keypair(pub, secret);
  msock_hex_encode(key, 32, cn + 7);
  at = prepend(buf, at, constraints, sizeof constraints);
  mark = at;
  at = prepend(buf, at, pub, 32);
  buf[--at] = 0; /* BIT STRING: no unused bits */
  at = wrap(buf, at, mark, 0x03);
  at = prepend(buf, at, alg, sizeof alg);
  at = wrap(buf, at, mark, 0x30);
  at = prepend_name(buf, at, cn);
  mark = at;
  at = prepend(buf, at, dates, sizeof dates - 1);
  at = wrap(buf, at, mark, 0x30);
  at = prepend_name(buf, at, cn);
  at = prepend(buf, at, alg, sizeof alg);
  at = prepend(buf, at, start, sizeof start);
  at = wrap(buf, at, end, 0x30);
  crypto_sign_detached(sig + 1, NULL, buf + at, end - at, secret);

  uint8_t all[1024];
  size_t n = sizeof all;
  n = prepend(all, n, sig, sizeof sig);
  n = wrap(all, n, sizeof all, 0x03);
  n = prepend(all, n, alg, sizeof alg);
  n = prepend(all, n, buf + at, end - at);
  n = wrap(all, n, sizeof all, 0x30);
  ck_assert_uint_le(sizeof all - n, cap);
  memcpy(dst, all + n, sizeof all - n);
  return sizeof all - n;
}

/* The server */

static int server_send(void *ctx, const unsigned char *p, size_t len) {
  const ssize_t n = send(*(int *)ctx, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
  return n >= 0 ? (int)n : errno == EAGAIN ? MBEDTLS_ERR_SSL_WANT_WRITE : -1;
}

static int server_recv(void *ctx, unsigned char *p, size_t len) {
  const ssize_t n = recv(*(int *)ctx, p, len, MSG_DONTWAIT);
  return n >= 0 ? (int)n : errno == EAGAIN ? MBEDTLS_ERR_SSL_WANT_READ : -1;
}

static int on_sni(void *ctx, mbedtls_ssl_context *ssl, const unsigned char *p, size_t len) {
  tls_test_server *s = ctx;
  (void)ssl;
  snprintf(s->sni, sizeof s->sni, "%.*s", (int)len, (const char *)p);
  return 0;
}

void tls_test_server_init(tls_test_server *s, int fd, const tls_test_der *chain, size_t n,
                          mbedtls_pk_context *key) {
  memset(s, 0, sizeof *s);
  s->fd = fd;
  mbedtls_ssl_init(&s->ssl);
  mbedtls_ssl_config_init(&s->conf);
  mbedtls_x509_crt_init(&s->chain);
  ck_assert_int_eq(mbedtls_x509_crt_parse_der(&s->chain, chain[0].p, chain[0].len), 0);
  mbedtls_x509_crt *last = &s->chain;
  for (size_t i = 1; i < n; i++) { /* raw: the library cannot parse an Ed25519 certificate */
    last->next = calloc(1, sizeof *last);
    last = last->next;
    ck_assert_ptr_nonnull(last);
    last->raw.p = (unsigned char *)chain[i].p;
    last->raw.len = chain[i].len;
  }
  ck_assert_int_eq(mbedtls_ssl_config_defaults(&s->conf, MBEDTLS_SSL_IS_SERVER,
                                               MBEDTLS_SSL_TRANSPORT_STREAM,
                                               MBEDTLS_SSL_PRESET_DEFAULT),
                   0);
  mbedtls_ssl_conf_rng(&s->conf, test_random, NULL);
  mbedtls_ssl_conf_sni(&s->conf, on_sni, s);
  ck_assert_int_eq(mbedtls_ssl_conf_own_cert(&s->conf, &s->chain, key), 0);
  ck_assert_int_eq(mbedtls_ssl_setup(&s->ssl, &s->conf), 0);
  mbedtls_ssl_set_bio(&s->ssl, &s->fd, server_send, server_recv, NULL);
}

int tls_test_server_step(tls_test_server *s) {
  const int rc = s->up ? 0 : mbedtls_ssl_handshake(&s->ssl);
  s->up = s->up || rc == 0;
  return rc;
}

void tls_test_server_free(tls_test_server *s) {
  mbedtls_ssl_free(&s->ssl);
  mbedtls_ssl_config_free(&s->conf);
  mbedtls_x509_crt_free(&s->chain);
}
