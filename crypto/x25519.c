#include "crypto/x25519.h"

#include <sodium.h>

msock_err msock_x25519(uint8_t out[static 32], const uint8_t scalar[static 32],
                       const uint8_t point[static 32]) {
  /* libsodium refuses the low-order points itself; the all-zero check stays for other builds */
  if (crypto_scalarmult_curve25519(out, scalar, point) != 0 || sodium_is_zero(out, 32)) {
    sodium_memzero(out, 32);
    return MSOCK_ERR_AUTH;
  }
  return MSOCK_OK;
}

void msock_x25519_public(uint8_t out[static 32], const uint8_t scalar[static 32]) {
  crypto_scalarmult_curve25519_base(out, scalar);
}

void msock_x25519_generate(const msock_env *env, uint8_t scalar[static 32]) {
  env->random(env->ctx, scalar, 32);
  scalar[0] &= 248u;
  scalar[31] = (uint8_t)((scalar[31] & 127u) | 64u);
}

void msock_node_private_generate(const msock_env *env, msock_node_private *out) {
  msock_x25519_generate(env, out->b);
}
void msock_machine_private_generate(const msock_env *env, msock_machine_private *out) {
  msock_x25519_generate(env, out->b);
}
void msock_disco_private_generate(const msock_env *env, msock_disco_private *out) {
  msock_x25519_generate(env, out->b);
}

msock_node_key msock_node_private_public(const msock_node_private *k) {
  msock_node_key pub;
  msock_x25519_public(pub.b, k->b);
  return pub;
}
msock_machine_key msock_machine_private_public(const msock_machine_private *k) {
  msock_machine_key pub;
  msock_x25519_public(pub.b, k->b);
  return pub;
}
msock_disco_key msock_disco_private_public(const msock_disco_private *k) {
  msock_disco_key pub;
  msock_x25519_public(pub.b, k->b);
  return pub;
}
