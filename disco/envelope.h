/* disco/envelope.h: seal and open disco packets (magicsock.md 1.1).
 *
 * Packet: [magic:6][sender disco key:32][nonce:24][tag:16][ciphertext:n], NaCl crypto_box. There is
 * no replay protection: a packet opens as often as it is sent. */
#ifndef MSOCK_DISCO_ENVELOPE_H
#define MSOCK_DISCO_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "base/key.h"
#include "crypto/box.h"

#define MSOCK_DISCO_OVERHEAD 78u /* bytes of a packet beyond its message */

/* Our own disco key pair. Secret: wipe with msock_disco_identity_wipe. */
typedef struct msock_disco_identity {
  msock_disco_private secret;
  msock_disco_key key;
} msock_disco_identity;

/* What one peer disco key and our own give, computed once and kept by the caller. Secret: wipe with
 * msock_disco_shared_wipe when either key is gone. */
typedef struct msock_disco_shared {
  msock_box_shared box;
} msock_disco_shared;

/* A fresh key pair from env's random bytes. */
void msock_disco_identity_generate(const msock_env *env, msock_disco_identity *out);
/* The key pair of a known private key. */
msock_disco_identity msock_disco_identity_of(const msock_disco_private *secret);
/* The same in place: no copy of the secret stays behind on the stack. */
void msock_disco_identity_set(msock_disco_identity *out, const msock_disco_private *secret);
void msock_disco_identity_wipe(msock_disco_identity *me);

/* MSOCK_ERR_AUTH when the peer's key is zero, of low order, or our own: with our own key a packet
 * that comes back to us would open (STRICT, magicsock.md 2.3). out is all zero then. */
msock_err msock_disco_shared_init(msock_disco_shared *out, const msock_disco_identity *me,
                                  const msock_disco_key *peer);
void msock_disco_shared_wipe(msock_disco_shared *s);

/* The sender key that a packet claims: false, with out untouched, when p has fewer than 62 bytes or
 * no magic. The key is not proved by this. Costs nothing: no crypto for strangers. */
bool msock_disco_sender(const uint8_t *p, size_t len, msock_disco_key *out);

/* Writes the packet of a message of len bytes under a random nonce from env. Gives len +
 * MSOCK_DISCO_OVERHEAD, or MSOCK_ERR_NOBUF with dst untouched. msg and dst may not overlap. */
ptrdiff_t msock_disco_seal(const msock_disco_identity *me, const msock_disco_shared *to,
                           const msock_env *env, const uint8_t *msg, size_t len, uint8_t *dst,
                           size_t cap);

/* Opens a packet whose msock_disco_sender is the key of from. Gives the length of the message in
 * dst, len - MSOCK_DISCO_OVERHEAD, which may be 0.
 * MSOCK_ERR_UNKNOWN: no magic. MSOCK_ERR_SHORT: under 78 bytes, can never open. MSOCK_ERR_NOBUF:
 * the message is longer than cap. MSOCK_ERR_AUTH: not sealed by that key for us; the first len -
 * MSOCK_DISCO_OVERHEAD bytes of dst are undefined then. p and dst may not overlap. */
ptrdiff_t msock_disco_open(const msock_disco_shared *from, const uint8_t *p, size_t len,
                           uint8_t *dst, size_t cap);

#endif
