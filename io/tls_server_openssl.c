/* The OpenSSL backend of io/tls_server.h. An identity is an SSL_CTX; its connections keep it alive
 * by the library's own reference count. */
#include "io/tls_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sodium.h>

#include "base/addr.h"
#include "base/hex.h"
#include "crypto/wipe.h"
#include "io/tls_common.h"
#include "io/tls_openssl_internal.h"

#define SUBJECT "DERP relay"
#define DNS_NAME_MAX 253u
#define SERIAL_LEN 8u
#define DAY_S 86400
#define META_CN_LEN (7u + 64u) /* "derpkey" and hex */

struct msock_tls_identity {
  SSL_CTX *ctx;
  bool has_chain; /* more than the leaf, the meta certificate aside */
};

static msock_tls_identity *make(void) {
  msock_tls_identity *id = calloc(1, sizeof *id);
  if (id != NULL) {
    id->ctx = msock_tls_openssl_context();
  }
  if (id != NULL && id->ctx == NULL) {
    free(id);
    id = NULL;
  }
  return id;
}

void msock_tls_identity_free(msock_tls_identity *id) {
  if (id != NULL) {
    SSL_CTX_free(id->ctx);
    free(id);
  }
}

static msock_err refuse(char *why, const char *what) {
  const unsigned long code = ERR_peek_last_error();
  const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;
  snprintf(why, MSOCK_TLS_WHY_MAX, "%s%s%s", what, text != NULL ? ": " : "",
           text != NULL ? text : "");
  ERR_clear_error();
  return MSOCK_ERR_INVALID;
}

static msock_err no_memory(char *why) {
  snprintf(why, MSOCK_TLS_WHY_MAX, "out of memory");
  return MSOCK_ERR_NOMEM;
}

/* No prompt on the terminal: an encrypted key is an error. */
static int no_password(char *buf, int size, int rw, void *ctx) {
  (void)buf;
  (void)size;
  (void)rw;
  (void)ctx;
  return -1;
}

static X509 *next_cert(BIO *pem) {
  return PEM_read_bio_X509(pem, NULL, no_password, NULL);
}

static msock_err use_chain(msock_tls_identity *id, BIO *pem, char *why) {
  X509 *crt = next_cert(pem);
  if (crt == NULL) {
    return refuse(why, "cannot read the certificate (PEM)");
  }
  bool ok = SSL_CTX_use_certificate(id->ctx, crt) == 1;
  X509_free(crt);
  while (ok && (crt = next_cert(pem)) != NULL) {
    ok = SSL_CTX_add0_chain_cert(id->ctx, crt) == 1;
    id->has_chain = true;
    if (!ok) {
      X509_free(crt);
    }
  }
  if (!ok) {
    return refuse(why, "cannot use the certificate");
  }
  const int reason = ERR_GET_REASON(ERR_peek_last_error());
  if (reason != PEM_R_NO_START_LINE) {
    return refuse(why, "cannot read the certificate (PEM)");
  }
  ERR_clear_error();
  return MSOCK_OK;
}

static msock_err use_key(msock_tls_identity *id, BIO *pem, char *why) {
  EVP_PKEY *key = PEM_read_bio_PrivateKey(pem, NULL, no_password, NULL);
  if (key == NULL) {
    return refuse(why, "cannot read the private key (PEM, without a password)");
  }
  const bool ok = X509_check_private_key(SSL_CTX_get0_certificate(id->ctx), key) == 1 &&
                  SSL_CTX_use_PrivateKey(id->ctx, key) == 1;
  EVP_PKEY_free(key);
  if (!ok) {
    ERR_clear_error();
    return refuse(why, "the private key does not belong to the first certificate");
  }
  return MSOCK_OK;
}

msock_err msock_tls_identity_from_pem(const char *pem, msock_tls_identity **out,
                                      char why[static MSOCK_TLS_WHY_MAX]) {
  msock_tls_identity *id = make();
  BIO *certs = BIO_new_mem_buf(pem, -1), *keys = BIO_new_mem_buf(pem, -1);
  msock_err err = MSOCK_OK;
  ERR_clear_error();
  if (id == NULL || certs == NULL || keys == NULL) {
    err = no_memory(why);
  }
  err = err == MSOCK_OK ? use_chain(id, certs, why) : err;
  err = err == MSOCK_OK ? use_key(id, keys, why) : err;
  BIO_free(certs);
  BIO_free(keys);
  if (err != MSOCK_OK) {
    msock_tls_identity_free(id);
    return err;
  }
  *out = id;
  return MSOCK_OK;
}

/* --- certificates made here --- */

static bool set_serial(X509 *crt, const uint8_t *bytes, size_t len) {
  BIGNUM *n = BN_bin2bn(bytes, (int)len, NULL);
  const bool ok = n != NULL && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(crt)) != NULL;
  BN_free(n);
  return ok;
}

/* Subject and issuer: one CN. The type is given as it is: the library's own limit of 64 characters
 * would refuse a meta certificate's 71. */
static bool set_names(X509 *crt, const char *cn) {
  X509_NAME *name = X509_NAME_new();
  const bool ok =
      name != NULL &&
      X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_PRINTABLESTRING,
                                 (const unsigned char *)cn, (int)strlen(cn), -1, 0) == 1 &&
      X509_set_subject_name(crt, name) == 1 && X509_set_issuer_name(crt, name) == 1;
  X509_NAME_free(name);
  return ok;
}

static bool set_validity(X509 *crt, uint64_t wall_us, long before_s, long after_s) {
  const time_t now = (time_t)(wall_us / 1000000);
  return ASN1_TIME_set(X509_getm_notBefore(crt), now - before_s) != NULL &&
         ASN1_TIME_set(X509_getm_notAfter(crt), now + after_s) != NULL;
}

static bool add_constraints(X509 *crt) {
  BASIC_CONSTRAINTS *none = BASIC_CONSTRAINTS_new();
  const bool ok = none != NULL &&
                  X509_add1_ext_i2d(crt, NID_basic_constraints, none, 1, X509V3_ADD_APPEND) == 1;
  BASIC_CONSTRAINTS_free(none);
  return ok;
}

static GENERAL_NAME *name_of(const char *host) {
  GENERAL_NAME *name = GENERAL_NAME_new();
  ASN1_STRING *text = ASN1_STRING_new();
  msock_ip ip;
  const bool literal = msock_ip_parse(host, &ip) == MSOCK_OK;
  const void *p = literal ? (const void *)ip.b : host;
  const size_t n = literal ? msock_ip_bits(&ip) / 8u : strlen(host);
  if (name == NULL || text == NULL || n == 0 || n > DNS_NAME_MAX ||
      ASN1_STRING_set(text, p, (int)n) != 1) {
    ASN1_STRING_free(text);
    GENERAL_NAME_free(name);
    return NULL;
  }
  GENERAL_NAME_set0_value(name, literal ? GEN_IPADD : GEN_DNS, text);
  return name;
}

static bool add_alt_name(X509 *crt, const char *host) {
  GENERAL_NAMES *names = GENERAL_NAMES_new();
  GENERAL_NAME *name = name_of(host);
  bool ok = names != NULL && name != NULL && sk_GENERAL_NAME_push(names, name) > 0;
  if (!ok) {
    GENERAL_NAME_free(name);
  }
  ok = ok && X509_add1_ext_i2d(crt, NID_subject_alt_name, names, 0, X509V3_ADD_APPEND) == 1;
  GENERAL_NAMES_free(names);
  return ok;
}

static bool fill_self_signed(X509 *crt, EVP_PKEY *key, const char *host, unsigned days,
                             uint64_t wall_us) {
  uint8_t serial[SERIAL_LEN];
  randombytes_buf(serial, sizeof serial);
  serial[0] = (serial[0] & 0x7f) | 0x01; /* positive, and not zero */
  return X509_set_version(crt, X509_VERSION_3) == 1 && set_serial(crt, serial, sizeof serial) &&
         set_names(crt, SUBJECT) &&
         set_validity(crt, wall_us, (long)MSOCK_TLS_SELF_SIGNED_SLACK_S, (long)days * DAY_S) &&
         X509_set_pubkey(crt, key) == 1 && add_constraints(crt) && add_alt_name(crt, host) &&
         X509_sign(crt, key, EVP_sha256()) > 0;
}

/* The text of a memory BIO, which is wiped with it. */
static char *take_text(BIO *b) {
  char *p = NULL;
  const long n = BIO_get_mem_data(b, &p);
  char *text = n > 0 ? malloc((size_t)n + 1) : NULL;
  if (text != NULL) {
    memcpy(text, p, (size_t)n);
    text[n] = '\0';
  }
  if (n > 0) {
    msock_wipe(p, (size_t)n);
  }
  return text;
}

msock_err msock_tls_self_signed_pem(const char *host, unsigned days, uint64_t wall_us, char **pem,
                                    char why[static MSOCK_TLS_WHY_MAX]) {
  EVP_PKEY *key = EVP_EC_gen("P-256");
  X509 *crt = X509_new();
  BIO *text = BIO_new(BIO_s_mem());
  msock_err err = MSOCK_OK;
  ERR_clear_error();
  *pem = NULL;
  if (key == NULL || crt == NULL || text == NULL) {
    err = no_memory(why);
  } else if (!fill_self_signed(crt, key, host, days, wall_us) ||
             PEM_write_bio_X509(text, crt) != 1 ||
             PEM_write_bio_PrivateKey(text, key, NULL, NULL, 0, NULL, NULL) != 1) {
    err = refuse(why, "cannot make a certificate");
  } else if ((*pem = take_text(text)) == NULL) {
    err = no_memory(why);
  }
  X509_free(crt);
  EVP_PKEY_free(key);
  BIO_free(text);
  return err;
}

/* Readers look at CN and serial alone; dates and constraints are there for verifiers that want
 * them, and the signature for parsers (derp.md 1.3). */
msock_err msock_tls_identity_add_meta(msock_tls_identity *id, const uint8_t key[static 32],
                                      uint64_t wall_us) {
  static const uint8_t serial[] = {MSOCK_TLS_META_VERSION};
  const long days_s = (long)MSOCK_TLS_META_DAYS * DAY_S;
  char cn[META_CN_LEN + 1] = "derpkey";
  EVP_PKEY *signer = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
  X509 *crt = X509_new();
  msock_hex_encode(key, 32, cn + 7);
  const bool ok = signer != NULL && crt != NULL && X509_set_version(crt, X509_VERSION_3) == 1 &&
                  set_serial(crt, serial, sizeof serial) && set_names(crt, cn) &&
                  set_validity(crt, wall_us, days_s, days_s) && X509_set_pubkey(crt, signer) == 1 &&
                  add_constraints(crt) && X509_sign(crt, signer, NULL) > 0 &&
                  SSL_CTX_add1_chain_cert(id->ctx, crt) == 1;
  X509_free(crt);
  EVP_PKEY_free(signer);
  ERR_clear_error();
  return ok ? MSOCK_OK : MSOCK_ERR_NOMEM;
}

char *msock_tls_identity_pin(const msock_tls_identity *id,
                             char buf[static MSOCK_TLS_PIN_TEXT_MAX]) {
  uint8_t hash[crypto_hash_sha256_BYTES], *der = NULL;
  X509 *leaf = SSL_CTX_get0_certificate(id->ctx);
  const int n = i2d_X509(leaf, &der);
  buf[0] = '\0';
  if (!id->has_chain && n > 0) {
    crypto_hash_sha256(hash, der, (unsigned long long)n);
    memcpy(buf, MSOCK_TLS_PIN_PREFIX, sizeof MSOCK_TLS_PIN_PREFIX);
    msock_hex_encode(hash, sizeof hash, buf + sizeof MSOCK_TLS_PIN_PREFIX - 1);
  }
  OPENSSL_free(der);
  return buf;
}

msock_err msock_tls_accept(msock_tls_identity *id, int fd, msock_tls **out) {
  msock_tls *t = msock_tls_openssl_new(id->ctx, fd);
  *out = t;
  if (t == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  SSL_set_accept_state(t->ssl);
  return MSOCK_OK;
}
