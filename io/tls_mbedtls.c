/* The mbedTLS backend of io/tls.h, for 2.28 (no TLS 1.3) and 3.x. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#if MBEDTLS_VERSION_MAJOR >= 3
#include <psa/crypto.h>
#endif
#include <sodium.h>

#include "crypto/init.h"
#include "crypto/wipe.h"
#include "io/tls.h"
#include "io/tls_common.h"
#include "io/tls_mbedtls_internal.h"

const char *msock_tls_backend(void) {
  return MBEDTLS_VERSION_STRING_FULL;
}

/* Socket and random callbacks */

static int bio_send(void *ctx, const unsigned char *p, size_t len) {
  msock_tls *t = ctx;
  const ssize_t n = send(t->fd, p, len, MSG_NOSIGNAL);
  if (n >= 0) {
    return (int)n;
  }
  if (errno == EAGAIN || errno == EINTR) {
    return MBEDTLS_ERR_SSL_WANT_WRITE;
  }
  t->io_errno = errno;
  return errno == EPIPE || errno == ECONNRESET ? MBEDTLS_ERR_NET_CONN_RESET
                                               : MBEDTLS_ERR_NET_SEND_FAILED;
}

static int bio_recv(void *ctx, unsigned char *p, size_t len) {
  msock_tls *t = ctx;
  const ssize_t n = recv(t->fd, p, len, 0);
  if (n >= 0) {
    return (int)n;
  }
  if (errno == EAGAIN || errno == EINTR) {
    return MBEDTLS_ERR_SSL_WANT_READ;
  }
  t->io_errno = errno;
  return errno == EPIPE || errno == ECONNRESET ? MBEDTLS_ERR_NET_CONN_RESET
                                               : MBEDTLS_ERR_NET_RECV_FAILED;
}

int msock_tls_mbedtls_random(void *ctx, unsigned char *dst, size_t len) {
  msock_crypto_random(ctx, dst, len);
  return 0;
}

/* Verification */

static bool has_pinned_key(const msock_tls *t, const mbedtls_x509_crt *crt) {
  uint8_t digest[crypto_hash_sha256_BYTES];
  msock_x509_cert c;
  if (!msock_x509_parse(crt->raw.p, crt->raw.len, &c)) {
    return false;
  }
  crypto_hash_sha256(digest, c.spki.p, c.spki.len);
  return msock_ct_equal(digest, t->rules.spki_pin, sizeof digest);
}

static const char no_spki_match[] =
    "no certificate of the chain has the pinned key; if the server's key was replaced, update "
    "pin_sha256, else somebody is in between";

/* Called for each certificate of the chain that leads to a root, the root first, the leaf (depth 0)
 * last. The library compares the SNI with dNSName and CN and knows no addresses: that verdict is
 * replaced by ours. */
static int on_chain(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags) {
  msock_tls *t = ctx;
  msock_x509_cert leaf;

  t->spki_seen = t->spki_seen || (t->rules.has_spki_pin && has_pinned_key(t, crt));
  if (depth != 0) {
    return 0;
  }
  *flags &= ~(uint32_t)MBEDTLS_X509_BADCERT_CN_MISMATCH;
  if (!msock_x509_parse(crt->raw.p, crt->raw.len, &leaf)) {
    snprintf(t->why, sizeof t->why, "the server's certificate is malformed");
    *flags |= MBEDTLS_X509_BADCERT_OTHER;
  } else if (!msock_tls_rules_name_ok(&t->rules, &leaf, t->why, sizeof t->why)) {
    *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
  } else if (t->rules.has_spki_pin && !t->spki_seen) {
    snprintf(t->why, sizeof t->why, "%s", no_spki_match);
    *flags |= MBEDTLS_X509_BADCERT_OTHER;
  }
  return 0;
}

static bool is_usable_root(const uint8_t *der, size_t len) {
  mbedtls_x509_crt crt;
  mbedtls_x509_crt_init(&crt);
  const bool usable = mbedtls_x509_crt_parse_der(&crt, der, len) == 0;
  mbedtls_x509_crt_free(&crt);
  return usable;
}

static void add_root(void *ctx, const uint8_t *der, size_t len) {
  /* one that it cannot read is left out: the rest is used */
  (void)mbedtls_x509_crt_parse_der(ctx, der, len);
}

static bool find_roots(msock_tls *t, const mbedtls_x509_crt *chain, mbedtls_x509_crt *roots) {
  msock_x509_span issuers[MSOCK_TLS_PEER_CERTS_MAX];
  size_t n = 0;
  for (const mbedtls_x509_crt *c = chain; c != NULL && n < MSOCK_TLS_PEER_CERTS_MAX; c = c->next) {
    issuers[n++] = (msock_x509_span){c->issuer_raw.p, c->issuer_raw.len};
  }
  return msock_tls_roots_find(t->roots, issuers, n, add_root, roots, t->why, sizeof t->why);
}

/* Chain mode, called by the handshake for each certificate that the peer sent, the leaf last. The
 * library has no roots and its verdicts are void: the chain is judged here, once, against the few
 * roots that it asks for. */
static int on_verify(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags) {
  msock_tls *t = ctx;
  mbedtls_x509_crt roots;

  *flags = 0;
  if (depth != 0) {
    return 0;
  }
  mbedtls_x509_crt_init(&roots);
  if (!find_roots(t, crt, &roots)) {
    *flags = MBEDTLS_X509_BADCERT_OTHER;
  } else if (mbedtls_x509_crt_verify(crt, &roots, NULL, NULL, flags, on_chain, t) != 0 &&
             *flags == 0) {
    *flags = MBEDTLS_X509_BADCERT_NOT_TRUSTED;
  }
  mbedtls_x509_crt_free(&roots);
  return 0;
}

static bool dates_ok(msock_tls *t, const mbedtls_x509_crt *crt) {
  if (mbedtls_x509_time_is_past(&crt->valid_to)) {
    snprintf(t->why, sizeof t->why,
             "the certificate of %s has expired; renew it, or set this machine's clock",
             t->rules.host);
    return false;
  }
  if (mbedtls_x509_time_is_future(&crt->valid_from)) {
    snprintf(t->why, sizeof t->why,
             "the certificate of %s is not valid yet; set this machine's clock", t->rules.host);
    return false;
  }
  return true;
}

/* What the library does not check in pin and insecure mode: pins. */
static bool pins_ok(msock_tls *t) {
  const mbedtls_x509_crt *crt = mbedtls_ssl_get_peer_cert(&t->ssl);
  msock_tls_peer_cert certs[MSOCK_TLS_PEER_CERTS_MAX];
  size_t n = 0;

  for (const mbedtls_x509_crt *c = crt; c != NULL && n < MSOCK_TLS_PEER_CERTS_MAX; c = c->next) {
    certs[n++] = (msock_tls_peer_cert){c->raw.p, c->raw.len};
  }
  if (t->rules.pinned &&
      (!msock_tls_rules_pin_ok(&t->rules, certs, n, t->why, sizeof t->why) || !dates_ok(t, crt))) {
    return false;
  }
  if (t->rules.has_spki_pin && !t->spki_seen && (crt == NULL || !has_pinned_key(t, crt))) {
    snprintf(t->why, sizeof t->why, "%s", no_spki_match);
    return false;
  }
  return true;
}

static void explain_verify_failure(msock_tls *t) {
  const uint32_t flags = mbedtls_ssl_get_verify_result(&t->ssl);
  const mbedtls_x509_crt *crt = mbedtls_ssl_get_peer_cert(&t->ssl);

  if (flags & (MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE)) {
    snprintf(t->why, sizeof t->why,
             "the certificate of %s (or of its issuer) has expired or is not valid yet; renew it, "
             "or set this machine's clock",
             t->rules.host);
    if (crt != NULL) {
      dates_ok(t, crt);
    }
  } else if (flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) {
    snprintf(t->why, sizeof t->why,
             "the certificate of %s is not signed by a known authority; name its CA (ca_file or "
             "SSL_CERT_FILE), or pin the certificate",
             t->rules.host);
  } else if (t->why[0] == '\0') {
    mbedtls_x509_crt_verify_info(t->why, sizeof t->why, "", flags);
    t->why[strcspn(t->why, "\n")] = '\0';
  }
}

/* Turns a library error into words. */
static msock_err explain(msock_tls *t, int rc, const char *doing) {
  char text[100];

  if (rc == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED) {
    explain_verify_failure(t);
    return MSOCK_ERR_AUTH;
  }
  if (rc == 0 || rc == MBEDTLS_ERR_SSL_CONN_EOF || rc == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
    snprintf(t->why, sizeof t->why, "%s: the %s closed the connection", doing,
             t->is_server ? "client" : "server");
    return MSOCK_ERR_CLOSED;
  }
  if (rc == MBEDTLS_ERR_NET_CONN_RESET || rc == MBEDTLS_ERR_NET_SEND_FAILED ||
      rc == MBEDTLS_ERR_NET_RECV_FAILED) {
    snprintf(t->why, sizeof t->why, "%s: %s", doing, strerror(t->io_errno));
    return MSOCK_ERR_IO;
  }
  if (rc == MBEDTLS_ERR_SSL_INVALID_RECORD && !t->up) {
    snprintf(t->why, sizeof t->why,
             t->is_server ? "%s: the client does not speak TLS"
                          : "%s: the server does not speak TLS on this port; check the port and "
                            "the scheme",
             doing);
    return MSOCK_ERR_IO;
  }
  mbedtls_strerror(rc, text, sizeof text);
  snprintf(t->why, sizeof t->why, "%s: %s%s", doing, text,
           rc == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE && !t->is_server
               ? "; the server refused: does it know this host name, and TLS 1.2 or newer?"
               : "");
  return MSOCK_ERR_IO;
}

/* The five functions */

static msock_err set_names(msock_tls *t, const msock_tls_config *config) {
  const char *sni = msock_tls_rules_sni(&t->rules);
  if (mbedtls_ssl_set_hostname(&t->ssl, sni) != 0) {
    return MSOCK_ERR_NOMEM;
  }
  if (config->alpn != NULL) {
    snprintf(t->alpn_name, sizeof t->alpn_name, "%s", config->alpn);
    t->alpn[0] = t->alpn_name;
    if (mbedtls_ssl_conf_alpn_protocols(&t->conf, t->alpn) != 0) {
      return MSOCK_ERR_INVALID;
    }
  }
  return MSOCK_OK;
}

static msock_err set_trust(msock_tls *t, const msock_tls_config *config) {
  if (t->rules.pinned || t->rules.insecure) {
    /* Nothing for the library to judge; pins_ok decides before the first byte is passed. */
    mbedtls_ssl_conf_authmode(&t->conf, MBEDTLS_SSL_VERIFY_NONE);
    return MSOCK_OK;
  }
  if (config->roots == NULL ||
      !msock_tls_roots_check(config->roots, is_usable_root, t->why, sizeof t->why)) {
    return MSOCK_ERR_IO;
  }
  t->roots = config->roots;
  mbedtls_ssl_conf_authmode(&t->conf, MBEDTLS_SSL_VERIFY_REQUIRED);
  mbedtls_ssl_conf_ca_chain(&t->conf, &t->no_roots, NULL); /* REQUIRED wants one: it is empty */
  mbedtls_ssl_conf_verify(&t->conf, on_verify, t);
  return MSOCK_OK;
}

msock_err msock_tls_mbedtls_defaults(mbedtls_ssl_config *conf, int endpoint) {
#if MBEDTLS_VERSION_MAJOR >= 3
  if (psa_crypto_init() != PSA_SUCCESS) {
    return MSOCK_ERR_IO;
  }
#endif
  if (mbedtls_ssl_config_defaults(conf, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM,
                                  MBEDTLS_SSL_PRESET_DEFAULT) != 0) {
    return MSOCK_ERR_NOMEM;
  }
#if MBEDTLS_VERSION_MAJOR >= 3
  mbedtls_ssl_conf_min_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_2);
#else
  mbedtls_ssl_conf_min_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
#endif
  mbedtls_ssl_conf_rng(conf, msock_tls_mbedtls_random, NULL);
  return MSOCK_OK;
}

msock_err msock_tls_mbedtls_setup(msock_tls *t, const mbedtls_ssl_config *conf) {
  if (mbedtls_ssl_setup(&t->ssl, conf) != 0) {
    return MSOCK_ERR_NOMEM;
  }
  mbedtls_ssl_set_bio(&t->ssl, t, bio_send, bio_recv, NULL);
  return MSOCK_OK;
}

msock_tls *msock_tls_mbedtls_new(int fd) {
  msock_tls *t = calloc(1, sizeof *t);
  if (t != NULL) {
    mbedtls_ssl_init(&t->ssl);
    mbedtls_ssl_config_init(&t->conf);
    mbedtls_x509_crt_init(&t->no_roots);
    t->fd = fd;
  }
  return t;
}

static msock_err set_up(msock_tls *t, const msock_tls_config *config) {
  msock_err err = msock_tls_rules_init(&t->rules, config, t->why, sizeof t->why);
  if (err == MSOCK_OK) {
    err = msock_tls_mbedtls_defaults(&t->conf, MBEDTLS_SSL_IS_CLIENT);
  }
  if (err == MSOCK_OK) {
    err = set_trust(t, config);
  }
  if (err == MSOCK_OK) {
    err = msock_tls_mbedtls_setup(t, &t->conf);
  }
  return err == MSOCK_OK ? set_names(t, config) : err;
}

msock_err msock_tls_new(const msock_tls_config *config, int fd, msock_tls **out) {
  msock_tls *t = msock_tls_mbedtls_new(fd);
  *out = t;
  return t == NULL ? MSOCK_ERR_NOMEM : set_up(t, config);
}

static void fill_info(msock_tls *t) {
  t->info.version = mbedtls_ssl_get_version(&t->ssl);
  t->info.cipher = mbedtls_ssl_get_ciphersuite(&t->ssl);
  t->info.is_tls13 = strcmp(t->info.version, "TLSv1.3") == 0;
  if (!t->info.is_tls13) { /* the meta certificate counts only where the list was encrypted */
    return;
  }
  for (const mbedtls_x509_crt *c = mbedtls_ssl_get_peer_cert(&t->ssl); c != NULL; c = c->next) {
    msock_x509_cert parsed;
    if (msock_x509_parse(c->raw.p, c->raw.len, &parsed) &&
        msock_x509_meta_key(&parsed, t->info.meta_key, &t->info.meta_version)) {
      t->info.has_meta_key = true;
      return;
    }
  }
}

static bool is_wait(msock_tls *t, int rc) {
  t->wants_write = rc == MBEDTLS_ERR_SSL_WANT_WRITE;
  return rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE;
}

msock_err msock_tls_handshake(msock_tls *t) {
  const int rc = mbedtls_ssl_handshake(&t->ssl);
  if (is_wait(t, rc)) {
    return MSOCK_ERR_AGAIN;
  }
  if (rc != 0) {
    return explain(t, rc, "TLS handshake");
  }
  if (!t->is_server && !pins_ok(t)) {
    mbedtls_ssl_send_alert_message(&t->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                   MBEDTLS_SSL_ALERT_MSG_BAD_CERT);
    return MSOCK_ERR_AUTH;
  }
  t->up = true;
  fill_info(t);
  return MSOCK_OK;
}

ptrdiff_t msock_tls_read(msock_tls *t, uint8_t *dst, size_t cap) {
  int rc;
  if (!t->up) {
    return MSOCK_ERR_CLOSED;
  }
  do {
    rc = mbedtls_ssl_read(&t->ssl, dst, cap);
#if defined(MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
  } while (rc == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET);
#else
  } while (false);
#endif
  if (rc > 0) {
    return rc;
  }
  return is_wait(t, rc) ? MSOCK_ERR_AGAIN : explain(t, rc, "TLS read");
}

/* A write that has to be repeated must have the length of the first try: the record is already
 * sealed, and the library reports the length of the call, not of the record. */
ptrdiff_t msock_tls_write(msock_tls *t, const uint8_t *src, size_t len) {
  if (!t->up) {
    return MSOCK_ERR_CLOSED;
  }
  if (t->resume_len != 0) {
    len = t->resume_len;
  }
  const int rc = mbedtls_ssl_write(&t->ssl, src, len);
  if (rc > 0) {
    t->resume_len = 0;
    return rc;
  }
  if (is_wait(t, rc)) {
    t->resume_len = rc == MBEDTLS_ERR_SSL_WANT_WRITE ? len : 0;
    return MSOCK_ERR_AGAIN;
  }
  return explain(t, rc, "TLS write");
}

void msock_tls_free(msock_tls *t) {
  if (t == NULL) {
    return;
  }
  if (t->up) {
    mbedtls_ssl_close_notify(&t->ssl);
  }
  mbedtls_ssl_free(&t->ssl);
  mbedtls_ssl_config_free(&t->conf);
  msock_tls_identity_free(t->identity); /* after the context that used it */
  free(t);
}

bool msock_tls_wants_write(const msock_tls *t) {
  return t->wants_write;
}

bool msock_tls_pending(const msock_tls *t) {
  return t->up && mbedtls_ssl_check_pending(&t->ssl) != 0;
}

const msock_tls_info *msock_tls_get_info(const msock_tls *t) {
  return &t->info;
}

const char *msock_tls_error_text(const msock_tls *t) {
  return t->why;
}
