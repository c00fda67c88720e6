/* crypto/blake2s.h: BLAKE2s (RFC 7693) in the forms that Noise, WireGuard and peer relays use, over
 * libb2.
 *
 * MAC is the keyed mode with its length in the parameter block; HMAC is the HMAC construction with
 * a 64-byte block. They differ: dataplane.md section 1. */
#ifndef MSOCK_CRYPTO_BLAKE2S_H
#define MSOCK_CRYPTO_BLAKE2S_H

#include <stddef.h>
#include <stdint.h>

#define MSOCK_BLAKE2S_LEN 32u

/* One input range of a multi-part hash. */
typedef struct msock_bytes {
  const void *p;
  size_t len;
} msock_bytes;

/* out = BLAKE2s-256(parts[0] | parts[1] | ...), unkeyed. */
void msock_blake2s(uint8_t out[static 32], const msock_bytes *parts, size_t n);
/* Keyed BLAKE2s with a 16-byte digest; key of 1..32 bytes. */
void msock_blake2s_mac16(uint8_t out[static 16], const uint8_t *key, size_t key_len,
                         const msock_bytes *parts, size_t n);
/* The same with a 32-byte digest, of which the 16-byte one is no prefix. */
void msock_blake2s_mac32(uint8_t out[static 32], const uint8_t *key, size_t key_len,
                         const msock_bytes *parts, size_t n);
/* HMAC-BLAKE2s-256. key of any length up to 64 bytes. */
void msock_blake2s_hmac(uint8_t out[static 32], const uint8_t *key, size_t key_len,
                        const msock_bytes *parts, size_t n);
/* KDFn(ck, input): writes n (1..3) outputs of 32 bytes; out may be the ck that is read. Ck is 32
 * bytes. */
void msock_blake2s_kdf(uint8_t *out1, uint8_t *out2, uint8_t *out3, const uint8_t ck[static 32],
                       const uint8_t *input, size_t len); /* out2, out3 may be NULL */

#endif
