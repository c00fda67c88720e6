#include "crypto/noise.h"

#include <string.h>

#include "crypto/aead.h"
#include "crypto/blake2s.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"

static const uint8_t zero_nonce[12];

void msock_noise_init(msock_noise *n, const char *name) {
  memset(n, 0, sizeof *n);
  msock_blake2s(n->h, &(msock_bytes){name, strlen(name)}, 1);
  memcpy(n->ck, n->h, sizeof n->ck);
}

void msock_noise_mix_hash(msock_noise *n, const uint8_t *data, size_t len) {
  const msock_bytes parts[] = {{n->h, sizeof n->h}, {data, len}};
  msock_blake2s(n->h, parts, 2);
}

void msock_noise_mix_chain(msock_noise *n, const uint8_t *input, size_t len) {
  msock_blake2s_kdf(n->ck, NULL, NULL, n->ck, input, len);
}

void msock_noise_mix_key(msock_noise *n, const uint8_t *input, size_t len) {
  msock_blake2s_kdf(n->ck, n->k, NULL, n->ck, input, len);
}

msock_err msock_noise_mix_dh(msock_noise *n, const uint8_t scalar[static 32],
                             const uint8_t point[static 32]) {
  uint8_t shared[32];
  const msock_err e = msock_x25519(shared, scalar, point);
  if (e == MSOCK_OK) {
    msock_noise_mix_key(n, shared, sizeof shared);
    msock_wipe(shared, sizeof shared);
  }
  return e;
}

msock_err msock_noise_mix_dh_chain(msock_noise *n, const uint8_t scalar[static 32],
                                   const uint8_t point[static 32]) {
  uint8_t shared[32];
  const msock_err e = msock_x25519(shared, scalar, point);
  if (e == MSOCK_OK) {
    msock_noise_mix_chain(n, shared, sizeof shared);
    msock_wipe(shared, sizeof shared);
  }
  return e;
}

void msock_noise_mix_psk(msock_noise *n, const uint8_t psk[static 32]) {
  uint8_t t[32];
  msock_blake2s_kdf(n->ck, t, n->k, n->ck, psk, 32);
  msock_noise_mix_hash(n, t, sizeof t);
  msock_wipe(t, sizeof t);
}

void msock_noise_seal(msock_noise *n, const uint8_t *src, size_t len, uint8_t *dst) {
  msock_aead_get()->seal(dst, src, len, n->h, sizeof n->h, zero_nonce, n->k);
  msock_noise_mix_hash(n, dst, len + MSOCK_AEAD_TAG_LEN);
}

msock_err msock_noise_open(msock_noise *n, const uint8_t *src, size_t len, uint8_t *dst) {
  if (len < MSOCK_AEAD_TAG_LEN) {
    return MSOCK_ERR_SHORT;
  }
  if (!msock_aead_get()->open(dst, src, len, n->h, sizeof n->h, zero_nonce, n->k)) {
    return MSOCK_ERR_AUTH;
  }
  msock_noise_mix_hash(n, src, len);
  return MSOCK_OK;
}

void msock_noise_split(const msock_noise *n, uint8_t k1[static 32], uint8_t k2[static 32]) {
  msock_blake2s_kdf(k1, k2, NULL, n->ck, (const uint8_t *)"", 0);
}
