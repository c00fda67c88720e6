/* The OpenSSL backend of io/tls.h: TLS 1.2 and 1.3. The relay's choice: sealing by assembly, and
 * record buffers that exist only while bytes are in them. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sodium.h>

#include "crypto/wipe.h"
#include "io/tls_openssl_internal.h"

#define VERSION_TEXT_MAX 48u
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
#define READ_AHEAD_BYTES 32768u /* of records in one system call; given back when empty */

const char *msock_tls_backend(void) {
  static char text[VERSION_TEXT_MAX]; /* the same bytes at every call */
  snprintf(text, sizeof text, "OpenSSL %s", OpenSSL_version(OPENSSL_VERSION_STRING));
  return text;
}

void msock_tls_openssl_say(msock_tls *t, const char *fmt, ...) {
  va_list ap;
  if (t->why == NULL) {
    t->why = malloc(MSOCK_TLS_WHY_MAX);
  }
  if (t->why != NULL) {
    va_start(ap, fmt);
    vsnprintf(t->why, MSOCK_TLS_WHY_MAX, fmt, ap);
    va_end(ap);
  }
}

static bool has_said(const msock_tls *t) {
  return t->why != NULL && t->why[0] != '\0';
}

/* The socket: OpenSSL's own BIO would raise SIGPIPE and forget errno. */

static int bio_write(BIO *b, const char *p, int len) {
  msock_tls *t = BIO_get_data(b);
  BIO_clear_retry_flags(b);
  const ssize_t n = send(t->fd, p, (size_t)len, MSG_NOSIGNAL);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    BIO_set_retry_write(b);
  } else if (n < 0) {
    t->io_errno = errno;
  }
  return (int)n;
}

static int bio_read(BIO *b, char *p, int len) {
  msock_tls *t = BIO_get_data(b);
  BIO_clear_retry_flags(b);
  const ssize_t n = recv(t->fd, p, (size_t)len, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    BIO_set_retry_read(b);
  } else if (n < 0) {
    t->io_errno = errno;
  } else if (n == 0) {
    BIO_set_flags(b, BIO_FLAGS_IN_EOF);
  }
  return (int)n;
}

static long bio_ctrl(BIO *b, int cmd, long number, void *p) {
  (void)number;
  (void)p;
  return cmd == BIO_CTRL_FLUSH || cmd == BIO_CTRL_DUP ? 1
         : cmd == BIO_CTRL_EOF                        ? BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0
                                                      : 0;
}

/* One table of functions for the life of the process; the library offers no static form. */
static CRYPTO_ONCE method_once = CRYPTO_ONCE_STATIC_INIT;
static BIO_METHOD *method;

static void make_method(void) {
  method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "socket");
  if (method != NULL) {
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_ctrl(method, bio_ctrl);
  }
}

/* Verification */

static bool der_of(X509 *crt, uint8_t **der, size_t *len) {
  *der = NULL;
  const int n = i2d_X509(crt, der);
  *len = n > 0 ? (size_t)n : 0;
  return n > 0;
}

static bool has_pinned_key(const msock_tls *t, X509 *crt) {
  uint8_t digest[crypto_hash_sha256_BYTES], *der;
  size_t len;
  msock_x509_cert c;
  bool is = false;
  if (der_of(crt, &der, &len) && msock_x509_parse(der, len, &c)) {
    crypto_hash_sha256(digest, c.spki.p, c.spki.len);
    is = msock_ct_equal(digest, t->client->rules.spki_pin, sizeof digest);
  }
  OPENSSL_free(der);
  return is;
}

static const char no_spki_match[] =
    "no certificate of the chain has the pinned key; if the server's key was replaced, update "
    "pin_sha256, else somebody is in between";

static bool leaf_ok(msock_tls *t, X509 *leaf) {
  uint8_t *der;
  size_t len;
  msock_x509_cert c;
  char why[MSOCK_TLS_WHY_MAX];
  bool ok = false;
  if (!der_of(leaf, &der, &len) || !msock_x509_parse(der, len, &c)) {
    msock_tls_openssl_say(t, "the server's certificate is malformed");
  } else if (!msock_tls_rules_name_ok(&t->client->rules, &c, why, sizeof why)) {
    msock_tls_openssl_say(t, "%s", why);
  } else {
    ok = true;
  }
  OPENSSL_free(der);
  return ok;
}

static void explain_chain(msock_tls *t, int code) {
  const char *host = t->client->rules.host;
  switch (code) {
  case X509_V_ERR_CERT_HAS_EXPIRED:
    msock_tls_openssl_say(t,
                          "the certificate of %s (or of its issuer) has expired; renew it, or set "
                          "this machine's clock",
                          host);
    break;
  case X509_V_ERR_CERT_NOT_YET_VALID:
    msock_tls_openssl_say(t,
                          "the certificate of %s (or of its issuer) is not valid yet; set this "
                          "machine's clock",
                          host);
    break;
  case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
  case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
  case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
  case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    msock_tls_openssl_say(t,
                          "the certificate of %s is not signed by a known authority; name its CA "
                          "(ca_file or SSL_CERT_FILE), or pin the certificate",
                          host);
    break;
  default:
    msock_tls_openssl_say(t, "the certificate of %s is refused: %s", host,
                          X509_verify_cert_error_string(code));
  }
}

static X509 *read_cert(const uint8_t *der, size_t len) {
  const uint8_t *p = der;
  return d2i_X509(NULL, &p, (long)len);
}

static bool is_usable_root(const uint8_t *der, size_t len) {
  X509 *crt = read_cert(der, len);
  X509_free(crt);
  ERR_clear_error();
  return crt != NULL;
}

static void add_root(void *ctx, const uint8_t *der, size_t len) {
  X509 *crt = read_cert(der, len);
  if (crt != NULL && sk_X509_push(ctx, crt) <= 0) {
    X509_free(crt); /* left out: the rest is used */
  }
  ERR_clear_error();
}

/* The roots that leaf and untrusted ask for. */
static bool find_roots(msock_tls *t, X509 *leaf, STACK_OF(X509) * untrusted,
                       STACK_OF(X509) * roots) {
  msock_x509_span issuers[MSOCK_TLS_PEER_CERTS_MAX];
  uint8_t *names[MSOCK_TLS_PEER_CERTS_MAX] = {NULL};
  char why[MSOCK_TLS_WHY_MAX];
  size_t n = 0;
  for (int i = -1; i < sk_X509_num(untrusted) && n < MSOCK_TLS_PEER_CERTS_MAX; i++) {
    X509 *crt = i < 0 ? leaf : sk_X509_value(untrusted, i);
    const int len = i2d_X509_NAME(X509_get_issuer_name(crt), &names[n]);
    if (len > 0) {
      issuers[n] = (msock_x509_span){names[n], (size_t)len};
      n++;
    }
  }
  const bool ok =
      msock_tls_roots_find(t->client->roots, issuers, n, add_root, roots, why, sizeof why);
  for (size_t i = 0; i < n; i++) {
    OPENSSL_free(names[i]);
  }
  if (!ok) {
    msock_tls_openssl_say(t, "%s", why);
  }
  return ok;
}

/* The chain leads to this root. The first certificate says best what is wrong with it: a root of
 * the right name with another key only says that it is not the one. */
static bool leads_to(msock_tls *t, X509_STORE_CTX *given, X509 *root, int *error) {
  X509_STORE *store = X509_STORE_new();
  X509_STORE_CTX *chain = X509_STORE_CTX_new();
  bool ok = false;
  if (store != NULL && chain != NULL && (root == NULL || X509_STORE_add_cert(store, root) == 1) &&
      X509_STORE_CTX_init(chain, store, X509_STORE_CTX_get0_cert(given),
                          X509_STORE_CTX_get0_untrusted(given)) == 1) {
    X509_STORE_CTX_set_default(chain, "ssl_server");
    X509_STORE_CTX_set_flags(chain, X509_V_FLAG_PARTIAL_CHAIN); /* whatever is in it is trusted */
    ok = X509_verify_cert(chain) == 1;
    const int code = X509_STORE_CTX_get_error(chain);
    const bool dates = code == X509_V_ERR_CERT_HAS_EXPIRED || code == X509_V_ERR_CERT_NOT_YET_VALID;
    *error = *error == X509_V_OK || dates ? code : *error;
  }
  STACK_OF(X509) *verified = ok ? X509_STORE_CTX_get0_chain(chain) : NULL;
  for (int i = 0; t->client->rules.has_spki_pin && i < sk_X509_num(verified); i++) {
    t->client->spki_seen = t->client->spki_seen || has_pinned_key(t, sk_X509_value(verified, i));
  }
  X509_STORE_CTX_free(chain);
  X509_STORE_free(store);
  ERR_clear_error();
  return ok;
}

/* The chain leads to one of the roots; then names and pins. One root at a time: of two with the
 * same name the library would try only the first. */
static bool judge(msock_tls *t, X509_STORE_CTX *given, STACK_OF(X509) * roots) {
  int error = X509_V_OK;
  bool ok = false;
  for (int i = 0; i < sk_X509_num(roots) && !ok; i++) {
    ok = leads_to(t, given, sk_X509_value(roots, i), &error);
  }
  if (!ok && sk_X509_num(roots) == 0) {
    leads_to(t, given, NULL, &error); /* for its reason */
  }
  if (!ok) {
    explain_chain(t, error);
    return false;
  }
  if (!leaf_ok(t, X509_STORE_CTX_get0_cert(given))) {
    return false;
  }
  if (t->client->rules.has_spki_pin && !t->client->spki_seen) {
    msock_tls_openssl_say(t, "%s", no_spki_match);
    return false;
  }
  return true;
}

/* Chain mode: the library's own store is empty; the verdict is made here, against the few roots
 * that the chain asks for. */
static int on_verify(X509_STORE_CTX *given, void *ctx) {
  msock_tls *t = ctx;
  STACK_OF(X509) *roots = sk_X509_new_null();
  const bool ok =
      roots != NULL &&
      find_roots(t, X509_STORE_CTX_get0_cert(given), X509_STORE_CTX_get0_untrusted(given), roots) &&
      judge(t, given, roots);
  sk_X509_pop_free(roots, X509_free);
  if (!ok) {
    X509_STORE_CTX_set_error(given, X509_V_ERR_APPLICATION_VERIFICATION);
  }
  return ok;
}

static bool dates_ok(msock_tls *t, const X509 *crt) {
  const char *host = t->client->rules.host;
  if (X509_cmp_current_time(X509_get0_notAfter(crt)) < 0) {
    msock_tls_openssl_say(
        t, "the certificate of %s has expired; renew it, or set this machine's clock", host);
    return false;
  }
  if (X509_cmp_current_time(X509_get0_notBefore(crt)) > 0) {
    msock_tls_openssl_say(t, "the certificate of %s is not valid yet; set this machine's clock",
                          host);
    return false;
  }
  return true;
}

/* Pin mode: all of the peer's list. */
static bool pin_ok(msock_tls *t, STACK_OF(X509) * list) {
  msock_tls_peer_cert certs[MSOCK_TLS_PEER_CERTS_MAX];
  uint8_t *der[MSOCK_TLS_PEER_CERTS_MAX] = {NULL};
  char why[MSOCK_TLS_WHY_MAX];
  size_t n = 0;
  for (int i = 0; i < sk_X509_num(list) && n < MSOCK_TLS_PEER_CERTS_MAX; i++, n++) {
    size_t len = 0;
    (void)der_of(sk_X509_value(list, i), &der[n], &len); /* of no bytes: unreadable, counted */
    certs[n] = (msock_tls_peer_cert){der[n], len};
  }
  const bool ok = msock_tls_rules_pin_ok(&t->client->rules, certs, n, why, sizeof why);
  for (size_t i = 0; i < n; i++) {
    OPENSSL_free(der[i]);
  }
  if (!ok) {
    msock_tls_openssl_say(t, "%s", why);
  }
  return ok && dates_ok(t, sk_X509_value(list, 0));
}

/* What is not checked during the handshake in pin and insecure mode: pins. */
static bool pins_ok(msock_tls *t) {
  STACK_OF(X509) *list = SSL_get_peer_cert_chain(t->ssl);
  const msock_tls_rules *r = &t->client->rules;
  if (r->pinned && !pin_ok(t, list)) {
    return false;
  }
  if (r->has_spki_pin && !t->client->spki_seen &&
      (sk_X509_num(list) < 1 || !has_pinned_key(t, sk_X509_value(list, 0)))) {
    msock_tls_openssl_say(t, "%s", no_spki_match);
    return false;
  }
  return true;
}

/* Errors */

static bool is_not_tls(int reason) {
  return reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
         reason == SSL_R_HTTPS_PROXY_REQUEST || reason == SSL_R_PACKET_LENGTH_TOO_LONG ||
         reason == SSL_R_RECORD_LENGTH_MISMATCH || reason == SSL_R_UNEXPECTED_MESSAGE;
}

/* The library's own trouble, from its queue. */
static msock_err explain_library(msock_tls *t, const char *doing) {
  const unsigned long code = ERR_peek_last_error();
  const int reason = ERR_GET_REASON(code);
  const bool is_server = t->client == NULL;
  if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    return MSOCK_ERR_AUTH; /* on_verify has said why */
  }
  if (!t->up && is_not_tls(reason)) {
    msock_tls_openssl_say(t,
                          is_server ? "%s: the client does not speak TLS"
                                    : "%s: the server does not speak TLS on this port; check the "
                                      "port and the scheme",
                          doing);
    return MSOCK_ERR_IO;
  }
  const char *text = ERR_reason_error_string(code);
  msock_tls_openssl_say(
      t, "%s: %s%s", doing, text != NULL ? text : "unknown error",
      reason > SSL_AD_REASON_OFFSET && !is_server
          ? "; the server refused: does it know this host name, and TLS 1.2 or newer?"
          : "");
  return MSOCK_ERR_IO;
}

/* Turns the result of a call into a code and words. */
static msock_err explain(msock_tls *t, int rc, const char *doing) {
  const int code = SSL_get_error(t->ssl, rc);
  msock_err err;
  t->wants_write = code == SSL_ERROR_WANT_WRITE;
  if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE) {
    return MSOCK_ERR_AGAIN;
  }
  if (code == SSL_ERROR_ZERO_RETURN || (code == SSL_ERROR_SYSCALL && t->io_errno == 0)) {
    msock_tls_openssl_say(t, "%s: the %s closed the connection", doing,
                          t->client == NULL ? "client" : "server");
    err = MSOCK_ERR_CLOSED;
  } else if (code == SSL_ERROR_SYSCALL) {
    msock_tls_openssl_say(t, "%s: %s", doing, strerror(t->io_errno));
    err = MSOCK_ERR_IO;
  } else {
    err = explain_library(t, doing);
  }
  ERR_clear_error();
  return err;
}

/* The five functions */

SSL_CTX *msock_tls_openssl_context(void) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_method());
  if (ctx == NULL) {
    return NULL;
  }
  SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
  /* A peer that goes without close_notify is an ordinary loss (derp.md 5.2, 32). Renegotiation and
   * compression are attack surface without a use here. */
  SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION |
                               SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(ctx, 0);
  /* AES-128 before AES-256, as the peers' own servers choose; ChaCha for clients that lead with it.
   */
  SSL_CTX_set_ciphersuites(ctx, CIPHERS_13);
  SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_default_read_buffer_len(ctx, READ_AHEAD_BYTES);
  SSL_CTX_set_read_ahead(ctx, 1); /* header, body and the next record in one system call */
  return ctx;
}

msock_tls *msock_tls_openssl_new(SSL_CTX *ctx, int fd) {
  msock_tls *t = calloc(1, sizeof *t);
  BIO *bio = NULL;
  if (t != NULL && CRYPTO_THREAD_run_once(&method_once, make_method) && method != NULL) {
    t->ssl = SSL_new(ctx);
    bio = BIO_new(method);
  }
  if (t == NULL || t->ssl == NULL || bio == NULL) {
    BIO_free(bio);
    msock_tls_free(t);
    return NULL;
  }
  t->fd = fd;
  BIO_set_data(bio, t);
  BIO_set_init(bio, 1);
  SSL_set_bio(t->ssl, bio, bio);
  return t;
}

static msock_err set_names(msock_tls *t, const msock_tls_config *config) {
  const char *sni = msock_tls_rules_sni(&t->client->rules);
  uint8_t alpn[64];
  if (sni != NULL && SSL_set_tlsext_host_name(t->ssl, sni) != 1) {
    return MSOCK_ERR_NOMEM;
  }
  if (config->alpn != NULL) {
    const size_t n = strlen(config->alpn);
    if (n == 0 || n >= sizeof alpn) {
      return MSOCK_ERR_INVALID;
    }
    alpn[0] = (uint8_t)n;
    memcpy(alpn + 1, config->alpn, n);
    if (SSL_set_alpn_protos(t->ssl, alpn, (unsigned)n + 1) != 0) {
      return MSOCK_ERR_NOMEM;
    }
  }
  return MSOCK_OK;
}

static msock_err set_trust(msock_tls *t, SSL_CTX *ctx, const msock_tls_config *config) {
  char why[MSOCK_TLS_WHY_MAX] = "out of memory";
  if (t->client->rules.pinned || t->client->rules.insecure) {
    /* Nothing for the library to judge; pins_ok decides before the first byte is passed. */
    SSL_set_verify(t->ssl, SSL_VERIFY_NONE, NULL);
    return MSOCK_OK;
  }
  if (config->roots == NULL ||
      !msock_tls_roots_check(config->roots, is_usable_root, why, sizeof why)) {
    msock_tls_openssl_say(t, "%s", why);
    return MSOCK_ERR_IO;
  }
  t->client->roots = config->roots;
  SSL_set_verify(t->ssl, SSL_VERIFY_PEER, NULL);
  SSL_CTX_set_cert_verify_callback(ctx, on_verify, t);
  return MSOCK_OK;
}

msock_err msock_tls_new(const msock_tls_config *config, int fd, msock_tls **out) {
  char why[MSOCK_TLS_WHY_MAX] = "";
  SSL_CTX *ctx = msock_tls_openssl_context(); /* its own: clients are few */
  msock_tls *t = ctx != NULL ? msock_tls_openssl_new(ctx, fd) : NULL;
  *out = t;
  msock_err err = MSOCK_ERR_NOMEM;
  if (t != NULL && (t->client = calloc(1, sizeof *t->client)) != NULL) {
    SSL_set_connect_state(t->ssl);
    err = msock_tls_rules_init(&t->client->rules, config, why, sizeof why);
    if (err != MSOCK_OK) {
      msock_tls_openssl_say(t, "%s", why);
    }
    err = err == MSOCK_OK ? set_trust(t, ctx, config) : err;
    err = err == MSOCK_OK ? set_names(t, config) : err;
  }
  SSL_CTX_free(ctx);
  return err;
}

static void find_meta(msock_tls *t) {
  STACK_OF(X509) *list = SSL_get_peer_cert_chain(t->ssl);
  for (int i = 0; i < sk_X509_num(list) && !t->info.has_meta_key; i++) {
    uint8_t *der;
    size_t len;
    msock_x509_cert c;
    t->info.has_meta_key = der_of(sk_X509_value(list, i), &der, &len) &&
                           msock_x509_parse(der, len, &c) &&
                           msock_x509_meta_key(&c, t->info.meta_key, &t->info.meta_version);
    OPENSSL_free(der);
  }
}

static void fill_info(msock_tls *t) {
  t->info.version = SSL_get_version(t->ssl);
  t->info.cipher = SSL_get_cipher_name(t->ssl);
  t->info.is_tls13 = SSL_version(t->ssl) == TLS1_3_VERSION;
  if (t->info.is_tls13 && t->client != NULL) { /* it counts only where the list was encrypted */
    find_meta(t);
  }
}

msock_err msock_tls_handshake(msock_tls *t) {
  ERR_clear_error();
  const int rc = SSL_do_handshake(t->ssl);
  if (rc != 1) {
    return explain(t, rc, "TLS handshake");
  }
  if (t->client != NULL && !pins_ok(t)) {
    return MSOCK_ERR_AUTH;
  }
  t->up = true;
  fill_info(t);
  return MSOCK_OK;
}

/* Clearing an empty queue walks all of it, which shows on the way of a packet. */
static void clear_errors(void) {
  if (ERR_peek_error() != 0) {
    ERR_clear_error();
  }
}

ptrdiff_t msock_tls_read(msock_tls *t, uint8_t *dst, size_t cap) {
  size_t n = 0;
  if (!t->up) {
    return MSOCK_ERR_CLOSED;
  }
  clear_errors();
  const int rc = SSL_read_ex(t->ssl, dst, cap, &n);
  t->drained = rc != 1;
  if (rc == 1) {
    return (ptrdiff_t)n;
  }
  return explain(t, rc, "TLS read");
}

ptrdiff_t msock_tls_write(msock_tls *t, const uint8_t *src, size_t len) {
  size_t n = 0;
  if (!t->up) {
    return MSOCK_ERR_CLOSED;
  }
  clear_errors();
  const int rc = SSL_write_ex(t->ssl, src, len, &n);
  if (rc == 1) {
    return (ptrdiff_t)n;
  }
  return explain(t, rc, "TLS write");
}

void msock_tls_free(msock_tls *t) {
  if (t == NULL) {
    return;
  }
  if (t->up) {
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl); /* one try */
    ERR_clear_error();
  }
  SSL_free(t->ssl);
  free(t->client);
  free(t->why);
  free(t);
}

bool msock_tls_wants_write(const msock_tls *t) {
  return t->wants_write;
}

/* Bytes behind a read that found too few for a record are not pending: the rest has to come. */
bool msock_tls_pending(const msock_tls *t) {
  return t->up && !t->drained && SSL_has_pending(t->ssl) != 0;
}

const msock_tls_info *msock_tls_get_info(const msock_tls *t) {
  return &t->info;
}

const char *msock_tls_error_text(const msock_tls *t) {
  return has_said(t) ? t->why : "";
}
