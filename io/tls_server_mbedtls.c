/* The mbedTLS backend of io/tls_server.h, for 2.28 and 3.x. */
#include "io/tls_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <mbedtls/bignum.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <sodium.h>

#include "base/addr.h"
#include "base/hex.h"
#include "crypto/wipe.h"
#include "io/tls_mbedtls_internal.h"

#define SAN_MAX 260u /* a DNS name and its headers */
#define PEM_MAX 4096 /* of the certificate, and of the key */
#define SUBJECT "CN=DERP relay"
#define DNS_NAME_MAX 253u

struct msock_tls_identity {
  unsigned refs; /* the owner's, and one for each connection */
  mbedtls_x509_crt chain;
  mbedtls_pk_context key;
  mbedtls_ssl_config conf;
};

static msock_tls_identity *make(void) {
  msock_tls_identity *id = calloc(1, sizeof *id);
  if (id != NULL) {
    id->refs = 1;
    mbedtls_x509_crt_init(&id->chain);
    mbedtls_pk_init(&id->key);
    mbedtls_ssl_config_init(&id->conf);
  }
  return id;
}

void msock_tls_identity_free(msock_tls_identity *id) {
  if (id != NULL && --id->refs == 0) {
    mbedtls_ssl_config_free(&id->conf);
    mbedtls_pk_free(&id->key); /* zeroes it */
    mbedtls_x509_crt_free(&id->chain);
    free(id);
  }
}

static msock_err refuse(char *why, const char *what, int rc) {
  char text[100] = "";
  if (rc != 0) {
    mbedtls_strerror(rc, text, sizeof text);
  }
  snprintf(why, MSOCK_TLS_WHY_MAX, "%s%s%s", what, rc != 0 ? ": " : "", text);
  return MSOCK_ERR_INVALID;
}

/* Chain and key are there: the settings that its connections share. */
static msock_err finish(msock_tls_identity *id, char *why) {
  const msock_err err = msock_tls_mbedtls_defaults(&id->conf, MBEDTLS_SSL_IS_SERVER);
  if (err != MSOCK_OK) {
    snprintf(why, MSOCK_TLS_WHY_MAX, "cannot set up TLS: %s", msock_err_text(err));
    return err;
  }
#if defined(MBEDTLS_SSL_SESSION_TICKETS)
  mbedtls_ssl_conf_session_tickets(&id->conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
#endif
  const int rc = mbedtls_ssl_conf_own_cert(&id->conf, &id->chain, &id->key);
  return rc == 0 ? MSOCK_OK : refuse(why, "cannot use the certificate", rc);
}

static int parse_key(mbedtls_pk_context *key, const char *pem) {
  const unsigned char *p = (const unsigned char *)pem;
#if MBEDTLS_VERSION_MAJOR >= 3
  return mbedtls_pk_parse_key(key, p, strlen(pem) + 1, NULL, 0, msock_tls_mbedtls_random, NULL);
#else
  return mbedtls_pk_parse_key(key, p, strlen(pem) + 1, NULL, 0);
#endif
}

static int check_pair(const msock_tls_identity *id) {
#if MBEDTLS_VERSION_MAJOR >= 3
  return mbedtls_pk_check_pair(&id->chain.pk, &id->key, msock_tls_mbedtls_random, NULL);
#else
  return mbedtls_pk_check_pair(&id->chain.pk, &id->key);
#endif
}

msock_err msock_tls_identity_from_pem(const char *pem, msock_tls_identity **out,
                                      char why[static MSOCK_TLS_WHY_MAX]) {
  msock_tls_identity *id = make();
  msock_err err = MSOCK_OK;
  if (id == NULL) {
    snprintf(why, MSOCK_TLS_WHY_MAX, "out of memory");
    return MSOCK_ERR_NOMEM;
  }
  int rc = mbedtls_x509_crt_parse(&id->chain, (const unsigned char *)pem, strlen(pem) + 1);
  if (rc != 0) {
    err = refuse(why, "cannot read the certificate (PEM)", rc < 0 ? rc : 0);
  }
  if (err == MSOCK_OK && (rc = parse_key(&id->key, pem)) != 0) {
    err = refuse(why, "cannot read the private key (PEM, without a password)", rc);
  }
  if (err == MSOCK_OK && check_pair(id) != 0) {
    err = refuse(why, "the private key does not belong to the first certificate", 0);
  }
  if (err == MSOCK_OK) {
    err = finish(id, why);
  }
  if (err != MSOCK_OK) {
    msock_tls_identity_free(id);
    return err;
  }
  *out = id;
  return MSOCK_OK;
}

/* --- a certificate made here --- */

/* subjectAltName with one entry: SEQUENCE { [7] address | [2] name }. 0: not a possible host. */
static size_t san_der(const char *host, uint8_t dst[static SAN_MAX]) {
  msock_ip ip;
  const bool literal = msock_ip_parse(host, &ip) == MSOCK_OK;
  const size_t n = literal ? msock_ip_bits(&ip) / 8u : strlen(host);
  size_t at = 0;
  if (n == 0 || n > DNS_NAME_MAX) {
    return 0;
  }
  const size_t entry = n + (n > 127 ? 3 : 2);
  dst[at++] = 0x30;
  if (entry > 127) {
    dst[at++] = 0x81;
  }
  dst[at++] = (uint8_t)entry;
  dst[at++] = literal ? 0x87 : 0x82;
  if (n > 127) {
    dst[at++] = 0x81;
  }
  dst[at++] = (uint8_t)n;
  memcpy(dst + at, literal ? (const void *)ip.b : (const void *)host, n);
  return at + n;
}

static int set_serial(mbedtls_x509write_cert *w) {
  uint8_t serial[8];
  msock_tls_mbedtls_random(NULL, serial, sizeof serial);
  serial[0] = (serial[0] & 0x7f) | 0x01; /* positive, and not zero */
#if MBEDTLS_VERSION_NUMBER >= 0x03040000
  return mbedtls_x509write_crt_set_serial_raw(w, serial, sizeof serial);
#else
  mbedtls_mpi n;
  mbedtls_mpi_init(&n);
  int rc = mbedtls_mpi_read_binary(&n, serial, sizeof serial);
  rc = rc == 0 ? mbedtls_x509write_crt_set_serial(w, &n) : rc;
  mbedtls_mpi_free(&n);
  return rc;
#endif
}

static int set_validity(mbedtls_x509write_cert *w, unsigned days, uint64_t wall_us) {
  char from[16], to[16];
  struct tm tm;
  const time_t now = (time_t)(wall_us / 1000000);
  const time_t begin = now - (time_t)MSOCK_TLS_SELF_SIGNED_SLACK_S;
  const time_t end = now + (time_t)days * 86400;
  strftime(from, sizeof from, "%Y%m%d%H%M%S", gmtime_r(&begin, &tm));
  strftime(to, sizeof to, "%Y%m%d%H%M%S", gmtime_r(&end, &tm));
  return mbedtls_x509write_crt_set_validity(w, from, to);
}

/* PEM_MAX bytes at dst. */
static int write_certificate(mbedtls_pk_context *key, const char *host, unsigned days,
                             uint64_t wall_us, char *dst) {
  uint8_t san[SAN_MAX];
  const size_t san_len = san_der(host, san);
  mbedtls_x509write_cert w;
  int rc = san_len > 0 ? 0 : MBEDTLS_ERR_X509_BAD_INPUT_DATA;

  mbedtls_x509write_crt_init(&w);
  mbedtls_x509write_crt_set_version(&w, MBEDTLS_X509_CRT_VERSION_3);
  mbedtls_x509write_crt_set_md_alg(&w, MBEDTLS_MD_SHA256);
  mbedtls_x509write_crt_set_subject_key(&w, key);
  mbedtls_x509write_crt_set_issuer_key(&w, key);
  rc = rc == 0 ? mbedtls_x509write_crt_set_subject_name(&w, SUBJECT) : rc;
  rc = rc == 0 ? mbedtls_x509write_crt_set_issuer_name(&w, SUBJECT) : rc;
  rc = rc == 0 ? set_serial(&w) : rc;
  rc = rc == 0 ? set_validity(&w, days, wall_us) : rc;
  rc = rc == 0 ? mbedtls_x509write_crt_set_basic_constraints(&w, 0, -1) : rc;
  rc = rc == 0 ? mbedtls_x509write_crt_set_extension(&w, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                                     MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME),
                                                     0, san, san_len)
               : rc;
  rc = rc == 0 ? mbedtls_x509write_crt_pem(&w, (unsigned char *)dst, PEM_MAX,
                                           msock_tls_mbedtls_random, NULL)
               : rc;
  mbedtls_x509write_crt_free(&w);
  return rc;
}

msock_err msock_tls_self_signed_pem(const char *host, unsigned days, uint64_t wall_us, char **pem,
                                    char why[static MSOCK_TLS_WHY_MAX]) {
  char *text = calloc(2, PEM_MAX);
  mbedtls_pk_context key;
  *pem = NULL;
  if (text == NULL) {
    snprintf(why, MSOCK_TLS_WHY_MAX, "out of memory");
    return MSOCK_ERR_NOMEM;
  }
  mbedtls_pk_init(&key);
  int rc = mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
  rc = rc == 0 ? mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(key),
                                     msock_tls_mbedtls_random, NULL)
               : rc;
  rc = rc == 0 ? write_certificate(&key, host, days, wall_us, text) : rc;
  const size_t at = strlen(text);
  rc = rc == 0 ? mbedtls_pk_write_key_pem(&key, (unsigned char *)text + at, PEM_MAX) : rc;
  mbedtls_pk_free(&key);
  if (rc != 0) {
    msock_wipe(text, 2 * (size_t)PEM_MAX);
    free(text);
    return refuse(why, "cannot make a certificate", rc);
  }
  *pem = text;
  return MSOCK_OK;
}

char *msock_tls_identity_pin(const msock_tls_identity *id,
                             char buf[static MSOCK_TLS_PIN_TEXT_MAX]) {
  uint8_t hash[crypto_hash_sha256_BYTES];
  buf[0] = '\0';
  if (id->chain.next == NULL) {
    crypto_hash_sha256(hash, id->chain.raw.p, id->chain.raw.len);
    memcpy(buf, MSOCK_TLS_PIN_PREFIX, sizeof MSOCK_TLS_PIN_PREFIX);
    msock_hex_encode(hash, sizeof hash, buf + sizeof MSOCK_TLS_PIN_PREFIX - 1);
  }
  return buf;
}

/* Without TLS 1.3 the list of certificates is not encrypted, and clients do not look for it. */
msock_err msock_tls_identity_add_meta(msock_tls_identity *id, const uint8_t key[static 32],
                                      uint64_t wall_us) {
  (void)id;
  (void)key;
  (void)wall_us;
  return MSOCK_ERR_UNKNOWN;
}

msock_err msock_tls_accept(msock_tls_identity *id, int fd, msock_tls **out) {
  msock_tls *t = msock_tls_mbedtls_new(fd);
  *out = t;
  if (t == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  t->is_server = true;
  t->identity = id;
  id->refs++;
  return msock_tls_mbedtls_setup(t, &id->conf);
}
