#include "crypto/init.h"

#include <sodium.h>
#include <string.h>

#include "crypto/aead.h"
#include "crypto/blake2s.h"

/* RFC 7693 appendix B: BLAKE2s-256("abc"). */
static bool blake2s_known_answer(void) {
  static const uint8_t want[32] = {0x50, 0x8c, 0x5e, 0x8c, 0x32, 0x7c, 0x14, 0xe2, 0xe1, 0xa7, 0x2b,
                                   0xa3, 0x4e, 0xeb, 0x45, 0x2f, 0x37, 0x45, 0x8b, 0x20, 0x9e, 0xd6,
                                   0x3a, 0x29, 0x4d, 0x99, 0x9b, 0x4c, 0x86, 0x67, 0x59, 0x82};
  uint8_t got[32];
  msock_blake2s(got, &(msock_bytes){"abc", 3}, 1);
  return memcmp(got, want, sizeof got) == 0;
}

msock_err msock_crypto_init(void) {
  if (sodium_init() < 0 || !msock_aead_self_test(&msock_aead_sodium) || !blake2s_known_answer()) {
    return MSOCK_ERR_IO;
  }
  return MSOCK_OK;
}

void msock_crypto_random(void *ctx, void *dst, size_t len) {
  (void)ctx;
  randombytes_buf(dst, len);
}
