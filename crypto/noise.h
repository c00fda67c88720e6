/* crypto/noise.h: the symmetric state of the Noise framework with BLAKE2s and ChaCha20-Poly1305, as
 * WireGuard (IKpsk2) and ts2021 (IK) share it: chaining key, hash, and the one-use handshake key.
 *
 * Each handshake key is used once with nonce 0 (control.md 2.4, dataplane.md 3). */
#ifndef MSOCK_CRYPTO_NOISE_H
#define MSOCK_CRYPTO_NOISE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct msock_noise {
  uint8_t ck[32];
  uint8_t h[32];
  uint8_t k[32];
} msock_noise; /* all secret: wipe when the handshake ends */

/* ck = h = BLAKE2s(name). */
void msock_noise_init(msock_noise *n, const char *name);
/* h = BLAKE2s(h | data). */
void msock_noise_mix_hash(msock_noise *n, const uint8_t *data, size_t len);
/* ck = KDF1(ck, input). */
void msock_noise_mix_chain(msock_noise *n, const uint8_t *input, size_t len);
/* (ck, k) = KDF2(ck, input). */
void msock_noise_mix_key(msock_noise *n, const uint8_t *input, size_t len);
/* (ck, k) = KDF2(ck, X25519(scalar, point)); MSOCK_ERR_AUTH on an all-zero result. */
msock_err msock_noise_mix_dh(msock_noise *n, const uint8_t scalar[static 32],
                             const uint8_t point[static 32]);
/* ck = KDF1(ck, X25519(scalar, point)). */
msock_err msock_noise_mix_dh_chain(msock_noise *n, const uint8_t scalar[static 32],
                                   const uint8_t point[static 32]);
/* (ck, t, k) = KDF3(ck, psk); h = BLAKE2s(h | t). */
void msock_noise_mix_psk(msock_noise *n, const uint8_t psk[static 32]);
/* Seals with k, nonce 0, ad = h, then mixes the len + 16 bytes of ciphertext into h. dst != src. */
void msock_noise_seal(msock_noise *n, const uint8_t *src, size_t len, uint8_t *dst);
/* len counts the tag. On MSOCK_ERR_AUTH the state is unchanged. */
msock_err msock_noise_open(msock_noise *n, const uint8_t *src, size_t len, uint8_t *dst);
/* (k1, k2) = KDF2(ck, ""). */
void msock_noise_split(const msock_noise *n, uint8_t k1[static 32], uint8_t k2[static 32]);

#endif
