#include "crypto/box.h"

#include <sodium.h>

msock_err msock_box_precompute(msock_box_shared *out, const uint8_t their_public[static 32],
                               const uint8_t my_private[static 32]) {
  return crypto_box_beforenm(out->k, their_public, my_private) == 0 ? MSOCK_OK : MSOCK_ERR_AUTH;
}

void msock_box_seal(const msock_box_shared *s, const msock_env *env, const uint8_t *src, size_t len,
                    uint8_t *dst) {
  env->random(env->ctx, dst, MSOCK_BOX_NONCE_LEN);
  crypto_box_easy_afternm(dst + MSOCK_BOX_NONCE_LEN, src, len, dst, s->k);
}

msock_err msock_box_open(const msock_box_shared *s, const uint8_t *src, size_t len, uint8_t *dst) {
  if (len < MSOCK_BOX_OVERHEAD) {
    return MSOCK_ERR_SHORT;
  }
  if (crypto_box_open_easy_afternm(dst, src + MSOCK_BOX_NONCE_LEN, len - MSOCK_BOX_NONCE_LEN, src,
                                   s->k) != 0) {
    return MSOCK_ERR_AUTH;
  }
  return MSOCK_OK;
}
