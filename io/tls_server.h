/* io/tls_server.h: the accepting side of the TLS seam. What comes back is a msock_tls like a
 * client's: handshake, read, write and free are those of io/tls.h. TLS 1.2 or newer, no client
 * certificates, no ALPN, no session tickets.
 *
 * An identity is a certificate with its key: from PEM, or made on the spot and known to clients by
 * its pin (derp.md 1.3). */
#ifndef MSOCK_IO_TLS_SERVER_H
#define MSOCK_IO_TLS_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "io/tls.h"

#define MSOCK_TLS_PIN_TEXT_MAX 80u           /* "sha256-raw:" + 64 hex digits + NUL */
#define MSOCK_TLS_SELF_SIGNED_DAYS 365u      /* validity of a certificate made here */
#define MSOCK_TLS_SELF_SIGNED_SLACK_S 86400u /* it begins a day ago: clients' clocks differ */

#define MSOCK_TLS_META_VERSION 2u /* serial number: DERP's protocol version, derp.md 1.3 */
#define MSOCK_TLS_META_DAYS 30u   /* on both sides of its making: derp.md 1.3 */

typedef struct msock_tls_identity msock_tls_identity;

/* pem: the chain, leaf first, and the leaf's key, in any order. MSOCK_ERR_INVALID with why. */
msock_err msock_tls_identity_from_pem(const char *pem, msock_tls_identity **out,
                                      char why[static MSOCK_TLS_WHY_MAX]);
/* A fresh P-256 key and a certificate for host (a DNS name or an address literal). */
msock_err msock_tls_identity_self_signed(const char *host, uint64_t wall_us,
                                         msock_tls_identity **out,
                                         char why[static MSOCK_TLS_WHY_MAX]);
/* The same as PEM, certificate and key, so that it can be kept and its pin with it: allocated; wipe
 * and free it. days: validity. */
msock_err msock_tls_self_signed_pem(const char *host, unsigned days, uint64_t wall_us, char **pem,
                                    char why[static MSOCK_TLS_WHY_MAX]);
/* Appends the relay's meta certificate (CN "derpkey" + hex of key) to what connections from now on
 * are shown: clients of TLS 1.3 then know the relay's key after the handshake (derp.md 1.3). Call
 * once. MSOCK_ERR_UNKNOWN: this backend has no TLS 1.3, nothing was changed; MSOCK_ERR_NOMEM. */
msock_err msock_tls_identity_add_meta(msock_tls_identity *id, const uint8_t key[static 32],
                                      uint64_t wall_us);
/* Drops the owner's reference; connections that were accepted with it keep theirs, so that a new
 * certificate can take its place at any time. NULL is fine. */
void msock_tls_identity_free(msock_tls_identity *id);
/* "sha256-raw:<hex>" of the leaf, for a DERP map's CertName; "" when there is a chain behind it,
 * which pin mode refuses. Returns buf. */
char *msock_tls_identity_pin(const msock_tls_identity *id, char buf[static MSOCK_TLS_PIN_TEXT_MAX]);

/* Borrows fd (non-blocking), keeps a reference to id. *out is set even on error when memory allows.
 */
msock_err msock_tls_accept(msock_tls_identity *id, int fd, msock_tls **out);

#endif
