/* io/tls_common.h: what every TLS backend shares: root paths, pin texts, name rules, error texts.
 */
#ifndef MSOCK_IO_TLS_COMMON_H
#define MSOCK_IO_TLS_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "io/tls.h"
#include "io/x509_name.h"

/* A config, checked and owned. */
typedef struct msock_tls_rules {
  char host[256];
  msock_ip host_ip; /* family 0: host is a name */
  bool pinned;
  uint8_t pin[MSOCK_TLS_PIN_LEN];
  char verify_name[256]; /* cert_name or host; chain mode */
  msock_ip verify_ip;    /* family 0: verify_name is a name */
  bool has_spki_pin;
  uint8_t spki_pin[MSOCK_TLS_PIN_LEN];
  bool insecure;
} msock_tls_rules;

/* MSOCK_ERR_INVALID with why. */
msock_err msock_tls_rules_init(msock_tls_rules *r, const msock_tls_config *config, char *why,
                               size_t cap);
/* The name to send as SNI, or NULL. */
const char *msock_tls_rules_sni(const msock_tls_rules *r);
/* Chain mode: whether the leaf carries the verification name or address. */
bool msock_tls_rules_name_ok(const msock_tls_rules *r, const msock_x509_cert *leaf, char *why,
                             size_t cap);

/* A certificate of the peer's list as the backend shows it: [0] is the one the handshake proved. */
typedef struct msock_tls_peer_cert {
  const uint8_t *der;
  size_t len;
} msock_tls_peer_cert;
#define MSOCK_TLS_PEER_CERTS_MAX 16u
/* Pin mode, all but the dates: derp.md 1.3. */
bool msock_tls_rules_pin_ok(const msock_tls_rules *r, const msock_tls_peer_cert *certs, size_t n,
                            char *why, size_t cap);

/* The root store: io/tls_roots.c. Each file of the store can be read and holds a certificate that
 * the backend can use; looked at once. False with the reason in why. */
bool msock_tls_roots_check(msock_tls_roots *r, bool (*is_usable)(const uint8_t *der, size_t len),
                           char *why, size_t cap);
/* Hands over the roots that one of these issuers (whole Names, DER) may be, and may be none of
 * them; der is valid for the call. False with the reason in why: a file cannot be read. */
typedef void (*msock_tls_root_sink)(void *ctx, const uint8_t *der, size_t len);
bool msock_tls_roots_find(const msock_tls_roots *r, const msock_x509_span *issuers, size_t n,
                          msock_tls_root_sink sink, void *ctx, char *why, size_t cap);

/* First readable file of the system's store, honouring SSL_CERT_FILE; "" = none. */
void msock_tls_system_roots_path(char *dst, size_t cap);

#endif
