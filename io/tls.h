/* io/tls.h: the TLS seam: five functions on a connection, a root store and a config. Two backends
 * fit behind it (tls_mbedtls.c; OpenSSL for the relay); no library type shows.
 *
 * Client side, non-blocking, TLS 1.2 or newer. The peer is always verified, unless
 * insecure_for_tests. The rules are derp.md 1.3 and control.md 6:
 *   chain mode   chain to the roots; then the verification name (cert_name, else host) must be in
 *                subjectAltName: dNSName for names, iPAddress for literals. The subject CN is not
 *                consulted.
 *   pin mode     cert_name "sha256-raw:<64 hex>": certificates whose CN begins with "derpkey" are
 *                ignored, exactly one other must be there and be the one the handshake proves; its
 *                SHA-256 must match; dates are checked; a host that is a name must be in it. */
#ifndef MSOCK_IO_TLS_H
#define MSOCK_IO_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MSOCK_TLS_PIN_LEN 32u
#define MSOCK_TLS_WHY_MAX 480u
#define MSOCK_TLS_PIN_PREFIX "sha256-raw:"

/* Trusted roots, shared by all connections: where they are. What a handshake needs is read then. */
typedef struct msock_tls_roots msock_tls_roots;
/* ca_file: extra roots (PEM), NULL = none; a file that cannot be read fails the first connection
 * with a text that names it. The system's store comes from SSL_CERT_FILE, else the usual places. */
msock_tls_roots *msock_tls_roots_new(const char *ca_file);
void msock_tls_roots_free(msock_tls_roots *r); /* after every connection that borrows it */
/* The system store's path in use ("" = none found) and the extra file (NULL = none); for providers
 * that load themselves. */
const char *msock_tls_roots_system_path(const msock_tls_roots *r);
const char *msock_tls_roots_ca_file(const msock_tls_roots *r);

typedef struct msock_tls_config { /* strings and roots are borrowed until msock_tls_free */
  const char *host;               /* DNS name: SNI; IP literal: no SNI */
  const char *cert_name;  /* NULL or "": host. A name, or a pin in either case of hex digits */
  const char *alpn;       /* NULL: none offered (DERP); "http/1.1" for control */
  msock_tls_roots *roots; /* may be NULL in pin mode and with insecure_for_tests */
  bool has_spki_pin;      /* control's pin_sha256: some certificate of the verified chain has it */
  uint8_t spki_pin[MSOCK_TLS_PIN_LEN]; /* SHA-256 of its SubjectPublicKeyInfo, DER */
  bool insecure_for_tests;             /* no chain, no name; pins are still enforced */
} msock_tls_config;

/* "sha256//<base64>", "sha256:<64 hex>" or 64 bare hex digits, either case; MSOCK_ERR_INVALID. */
msock_err msock_tls_parse_spki_pin(const char *text, uint8_t out[static MSOCK_TLS_PIN_LEN]);

typedef struct msock_tls_info { /* filled when the handshake is done */
  bool is_tls13;
  const char *version; /* "TLSv1.2"; static */
  const char *cipher;  /* static */
  bool has_meta_key;   /* the relay's meta certificate was visible (derp.md 1.3) and TLS is 1.3 */
  uint8_t meta_key[32];
  uint8_t meta_version;
} msock_tls_info;

typedef struct msock_tls msock_tls;

/* Borrows fd (non-blocking), never closes it. MSOCK_ERR_NOMEM; MSOCK_ERR_INVALID (bad pin text, bad
 * name); MSOCK_ERR_IO (roots). *out is set even on error when memory allows, so that
 * msock_tls_error_text can tell; free it then. */
msock_err msock_tls_new(const msock_tls_config *config, int fd, msock_tls **out);
/* MSOCK_OK: done, peer verified. MSOCK_ERR_AGAIN: wait (msock_tls_wants_write says for what).
 * MSOCK_ERR_AUTH: the peer is not who it should be. MSOCK_ERR_CLOSED, MSOCK_ERR_IO. */
msock_err msock_tls_handshake(msock_tls *t);
/* Bytes read (> 0), MSOCK_ERR_AGAIN, MSOCK_ERR_CLOSED (orderly end), MSOCK_ERR_IO. */
ptrdiff_t msock_tls_read(msock_tls *t, uint8_t *dst, size_t cap);
/* Bytes taken (> 0, maybe fewer than len), MSOCK_ERR_AGAIN (then call again with the same bytes in
 * front), MSOCK_ERR_IO, MSOCK_ERR_CLOSED. */
ptrdiff_t msock_tls_write(msock_tls *t, const uint8_t *src, size_t len);
/* Tries a close_notify, frees. NULL is fine. */
void msock_tls_free(msock_tls *t);

/* After MSOCK_ERR_AGAIN: wait for writable instead of readable. */
bool msock_tls_wants_write(const msock_tls *t);
/* Decrypted bytes wait inside the library: read before sleeping. */
bool msock_tls_pending(const msock_tls *t);
const msock_tls_info *msock_tls_get_info(const msock_tls *t);
/* The last failure in words, with what to do next; "" when there was none. Owned by t. */
const char *msock_tls_error_text(const msock_tls *t);
/* "mbedTLS 2.28.3" */
const char *msock_tls_backend(void);

#endif
