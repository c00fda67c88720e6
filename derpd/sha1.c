#include "derpd/sha1.h"

#include <string.h>

#define BLOCK 64u

static uint32_t rol(uint32_t x, unsigned n) {
  return x << n | x >> (32 - n);
}

static void block(uint32_t h[static 5], const uint8_t *p) {
  uint32_t w[80], v[5];
  for (size_t i = 0; i < 16; i++) {
    w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 |
           p[4 * i + 3];
  }
  for (size_t i = 16; i < 80; i++) {
    w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
  }
  memcpy(v, h, sizeof v);
  for (size_t i = 0; i < 80; i++) {
    const uint32_t f = i < 20   ? (v[1] & v[2]) | (~v[1] & v[3])
                       : i < 40 ? v[1] ^ v[2] ^ v[3]
                       : i < 60 ? (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3])
                                : v[1] ^ v[2] ^ v[3];
    const uint32_t k = i < 20   ? 0x5a827999u
                       : i < 40 ? 0x6ed9eba1u
                       : i < 60 ? 0x8f1bbcdcu
                                : 0xca62c1d6u;
    const uint32_t t = rol(v[0], 5) + f + v[4] + k + w[i];
    v[4] = v[3];
    v[3] = v[2];
    v[2] = rol(v[1], 30);
    v[1] = v[0];
    v[0] = t;
  }
  for (size_t i = 0; i < 5; i++) {
    h[i] += v[i];
  }
}

void msock_derpd_sha1(const uint8_t *p, size_t len, uint8_t out[static MSOCK_DERPD_SHA1_LEN]) {
  uint32_t h[5] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};
  uint8_t last[2 * BLOCK] = {0};
  const uint64_t bits = (uint64_t)len * 8;
  for (; len >= BLOCK; p += BLOCK, len -= BLOCK) {
    block(h, p);
  }
  memcpy(last, p, len);
  last[len] = 0x80;
  const size_t n = len + 9 <= BLOCK ? BLOCK : 2 * BLOCK;
  for (size_t i = 0; i < 8; i++) {
    last[n - 1 - i] = (uint8_t)(bits >> 8 * i);
  }
  for (size_t at = 0; at < n; at += BLOCK) {
    block(h, last + at);
  }
  for (size_t i = 0; i < MSOCK_DERPD_SHA1_LEN; i++) {
    out[i] = (uint8_t)(h[i / 4] >> 8 * (3 - i % 4));
  }
}
