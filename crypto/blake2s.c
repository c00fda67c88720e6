#include "crypto/blake2s.h"

#include <assert.h>
#include <blake2.h>
#include <string.h>

#include "crypto/wipe.h"

#define BLOCK_LEN 64u

void msock_blake2s(uint8_t out[static 32], const msock_bytes *parts, size_t n) {
  blake2s_state st;
  blake2s_init(&st, MSOCK_BLAKE2S_LEN);
  for (size_t i = 0; i < n; i++) {
    blake2s_update(&st, parts[i].p, parts[i].len);
  }
  blake2s_final(&st, out, MSOCK_BLAKE2S_LEN);
  msock_wipe(&st, sizeof st);
}

/* Keyed mode; the digest length is part of what is hashed. */
static void mac(uint8_t *out, size_t out_len, const uint8_t *key, size_t key_len,
                const msock_bytes *parts, size_t n) {
  blake2s_state st;
  assert(key_len >= 1 && key_len <= 32);
  blake2s_init_key(&st, out_len, key, key_len);
  for (size_t i = 0; i < n; i++) {
    blake2s_update(&st, parts[i].p, parts[i].len);
  }
  blake2s_final(&st, out, out_len);
  msock_wipe(&st, sizeof st);
}

void msock_blake2s_mac16(uint8_t out[static 16], const uint8_t *key, size_t key_len,
                         const msock_bytes *parts, size_t n) {
  mac(out, 16, key, key_len, parts, n);
}

void msock_blake2s_mac32(uint8_t out[static 32], const uint8_t *key, size_t key_len,
                         const msock_bytes *parts, size_t n) {
  mac(out, 32, key, key_len, parts, n);
}

void msock_blake2s_hmac(uint8_t out[static 32], const uint8_t *key, size_t key_len,
                        const msock_bytes *parts, size_t n) {
  uint8_t pad[BLOCK_LEN] = {0};
  uint8_t inner[MSOCK_BLAKE2S_LEN];
  blake2s_state st;

  assert(key_len <= BLOCK_LEN);
  memcpy(pad, key, key_len);
  for (size_t i = 0; i < BLOCK_LEN; i++) {
    pad[i] ^= 0x36;
  }
  blake2s_init(&st, MSOCK_BLAKE2S_LEN);
  blake2s_update(&st, pad, BLOCK_LEN);
  for (size_t i = 0; i < n; i++) {
    blake2s_update(&st, parts[i].p, parts[i].len);
  }
  blake2s_final(&st, inner, sizeof inner);

  for (size_t i = 0; i < BLOCK_LEN; i++) {
    pad[i] ^= 0x36 ^ 0x5c;
  }
  const msock_bytes outer[] = {{pad, BLOCK_LEN}, {inner, sizeof inner}};
  msock_blake2s(out, outer, 2);
  msock_wipe(&st, sizeof st);
  msock_wipe(pad, sizeof pad);
  msock_wipe(inner, sizeof inner);
}

void msock_blake2s_kdf(uint8_t *out1, uint8_t *out2, uint8_t *out3, const uint8_t ck[static 32],
                       const uint8_t *input, size_t len) {
  static const uint8_t one = 1, two = 2, three = 3;
  uint8_t prk[32], t[32];
  const msock_bytes in = {input, len};

  msock_blake2s_hmac(prk, ck, 32, &in, 1);
  msock_blake2s_hmac(t, prk, 32, &(msock_bytes){&one, 1}, 1);
  memcpy(out1, t, 32);
  if (out2) {
    msock_blake2s_hmac(t, prk, 32, (const msock_bytes[]){{t, 32}, {&two, 1}}, 2);
    memcpy(out2, t, 32);
  }
  if (out3) {
    assert(out2);
    msock_blake2s_hmac(t, prk, 32, (const msock_bytes[]){{t, 32}, {&three, 1}}, 2);
    memcpy(out3, t, 32);
  }
  msock_wipe(prk, sizeof prk);
  msock_wipe(t, sizeof t);
}
