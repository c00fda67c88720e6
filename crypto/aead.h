/* crypto/aead.h: ChaCha20-Poly1305 as a table of four functions, so that a faster provider can be
 * chosen at start (design.md section 3). libsodium is the default and the fallback.
 *
 * seal/open: RFC 8439, 12-byte nonce. xseal/xopen: XChaCha20-Poly1305, 24-byte nonce (cookie
 * replies). The tag of 16 bytes follows the ciphertext. dst may equal src (in place). */
#ifndef MSOCK_CRYPTO_AEAD_H
#define MSOCK_CRYPTO_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MSOCK_AEAD_TAG_LEN 16u

typedef struct msock_aead {
  const char *name;
  /* dst gets len + 16 bytes. */
  void (*seal)(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t *ad, size_t ad_len,
               const uint8_t nonce[12], const uint8_t key[32]);
  /* len counts the tag (>= 16); dst gets len - 16 bytes. False: authentic failure, dst undefined.
   */
  bool (*open)(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t *ad, size_t ad_len,
               const uint8_t nonce[12], const uint8_t key[32]);
  void (*xseal)(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t *ad, size_t ad_len,
                const uint8_t nonce[24], const uint8_t key[32]);
  bool (*xopen)(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t *ad, size_t ad_len,
                const uint8_t nonce[24], const uint8_t key[32]);
} msock_aead;

extern const msock_aead msock_aead_sodium;

/* The provider in use: the fastest whose self-test passed. Constant after msock_crypto_init. */
const msock_aead *msock_aead_get(void);

/* Known-answer test against RFC 8439 and against libsodium, with lengths around block borders and a
 * tampered tag. */
bool msock_aead_self_test(const msock_aead *a);

#endif
