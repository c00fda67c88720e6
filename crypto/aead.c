#include "crypto/aead.h"

#include <sodium.h>
#include <string.h>

static void sodium_seal(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t *ad,
                        size_t ad_len, const uint8_t nonce[12], const uint8_t key[32]) {
  crypto_aead_chacha20poly1305_ietf_encrypt(dst, NULL, src, len, ad, ad_len, NULL, nonce, key);
}

static bool sodium_open(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t *ad,
                        size_t ad_len, const uint8_t nonce[12], const uint8_t key[32]) {
  return len >= MSOCK_AEAD_TAG_LEN && crypto_aead_chacha20poly1305_ietf_decrypt(
                                          dst, NULL, NULL, src, len, ad, ad_len, nonce, key) == 0;
}

static void sodium_xseal(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t *ad,
                         size_t ad_len, const uint8_t nonce[24], const uint8_t key[32]) {
  crypto_aead_xchacha20poly1305_ietf_encrypt(dst, NULL, src, len, ad, ad_len, NULL, nonce, key);
}

static bool sodium_xopen(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t *ad,
                         size_t ad_len, const uint8_t nonce[24], const uint8_t key[32]) {
  return len >= MSOCK_AEAD_TAG_LEN && crypto_aead_xchacha20poly1305_ietf_decrypt(
                                          dst, NULL, NULL, src, len, ad, ad_len, nonce, key) == 0;
}

const msock_aead msock_aead_sodium = {
    .name = "libsodium",
    .seal = sodium_seal,
    .open = sodium_open,
    .xseal = sodium_xseal,
    .xopen = sodium_xopen,
};

const msock_aead *msock_aead_get(void) {
  return &msock_aead_sodium;
}

/* RFC 8439 section 2.8.2 */
static bool known_answer(const msock_aead *a) {
  static const char text[] = "Ladies and Gentlemen of the class of '99: If I could offer you only "
                             "one tip for the future, sunscreen would be it.";
  static const uint8_t ad[12] = {0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1,
                                 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7};
  static const uint8_t nonce[12] = {7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47};
  static const uint8_t tag[16] = {0x1a, 0xe1, 0x0b, 0x59, 0x4f, 0x09, 0xe2, 0x6a,
                                  0x7e, 0x90, 0x2e, 0xcb, 0xd0, 0x60, 0x06, 0x91};
  uint8_t key[32];
  uint8_t out[sizeof text - 1 + MSOCK_AEAD_TAG_LEN];
  const size_t len = sizeof text - 1;

  for (unsigned i = 0; i < sizeof key; i++) {
    key[i] = (uint8_t)(0x80 + i);
  }
  memcpy(out, text, len);
  a->seal(out, out, len, ad, sizeof ad, nonce, key);
  if (memcmp(out + len, tag, sizeof tag) != 0 ||
      !a->open(out, out, sizeof out, ad, sizeof ad, nonce, key) || memcmp(out, text, len) != 0) {
    return false;
  }
  a->seal(out, (const uint8_t *)text, len, ad, sizeof ad, nonce, key);
  out[len] ^= 1u;
  return !a->open(out, out, sizeof out, ad, sizeof ad, nonce, key);
}

static bool agrees_with_sodium(const msock_aead *a) {
  static const size_t lengths[] = {0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 511, 1420};
  uint8_t src[1420], mine[sizeof src + MSOCK_AEAD_TAG_LEN], theirs[sizeof mine];
  uint8_t key[32], nonce[24];

  for (size_t i = 0; i < sizeof src; i++) {
    src[i] = (uint8_t)(i * 31u + 7u);
  }
  memset(key, 0x42, sizeof key);
  memset(nonce, 0x24, sizeof nonce);
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    const size_t len = lengths[i], total = len + MSOCK_AEAD_TAG_LEN;
    a->seal(mine, src, len, NULL, 0, nonce, key);
    sodium_seal(theirs, src, len, NULL, 0, nonce, key);
    if (memcmp(mine, theirs, total) != 0 || !a->open(mine, mine, total, NULL, 0, nonce, key) ||
        memcmp(mine, src, len) != 0) {
      return false;
    }
    a->xseal(mine, src, len, key, sizeof key, nonce, key);
    sodium_xseal(theirs, src, len, key, sizeof key, nonce, key);
    if (memcmp(mine, theirs, total) != 0 ||
        !a->xopen(mine, mine, total, key, sizeof key, nonce, key) || memcmp(mine, src, len) != 0) {
      return false;
    }
  }
  return true;
}

bool msock_aead_self_test(const msock_aead *a) {
  return known_answer(a) && agrees_with_sodium(a);
}
