/* crypto/box.h: NaCl crypto_box (X25519, XSalsa20-Poly1305), as DERP logins and disco use it.
 *
 * Wire form of the field: nonce 24 | tag 16 | ciphertext. */
#ifndef MSOCK_CRYPTO_BOX_H
#define MSOCK_CRYPTO_BOX_H

#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"

#define MSOCK_BOX_NONCE_LEN 24u
#define MSOCK_BOX_TAG_LEN 16u
#define MSOCK_BOX_OVERHEAD (MSOCK_BOX_NONCE_LEN + MSOCK_BOX_TAG_LEN)

typedef struct msock_box_shared {
  uint8_t k[32];
} msock_box_shared; /* precomputed shared key: a secret; wipe it */

/* MSOCK_ERR_AUTH when the peer's key is of low order. */
msock_err msock_box_precompute(msock_box_shared *out, const uint8_t their_public[static 32],
                               const uint8_t my_private[static 32]);
/* dst gets len + MSOCK_BOX_OVERHEAD bytes: a random nonce from env, then the box. dst and src may
 * not overlap. */
void msock_box_seal(const msock_box_shared *s, const msock_env *env, const uint8_t *src, size_t len,
                    uint8_t *dst);
/* Opens nonce|box of len bytes into dst (len - MSOCK_BOX_OVERHEAD bytes). MSOCK_ERR_SHORT,
 * MSOCK_ERR_AUTH; dst is undefined then. In place is allowed with dst == src + overhead. */
msock_err msock_box_open(const msock_box_shared *s, const uint8_t *src, size_t len, uint8_t *dst);

#endif
