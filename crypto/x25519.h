/* crypto/x25519.h: Curve25519 keys and shared secrets (RFC 7748), over libsodium.
 *
 * Private bytes may be unclamped: X25519 clamps anyway; generated ones are clamped. Typed makers
 * keep node, machine and disco keys apart. */
#ifndef MSOCK_CRYPTO_X25519_H
#define MSOCK_CRYPTO_X25519_H

#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "base/key.h"

/* out = X25519(scalar, point). MSOCK_ERR_AUTH on an all-zero result: abort the message (out is
 * wiped then). */
msock_err msock_x25519(uint8_t out[static 32], const uint8_t scalar[static 32],
                       const uint8_t point[static 32]);
/* Public key of a scalar. */
void msock_x25519_public(uint8_t out[static 32], const uint8_t scalar[static 32]);
/* Fresh clamped scalar from env's random bytes. */
void msock_x25519_generate(const msock_env *env, uint8_t scalar[static 32]);

void msock_node_private_generate(const msock_env *env, msock_node_private *out);
void msock_machine_private_generate(const msock_env *env, msock_machine_private *out);
void msock_disco_private_generate(const msock_env *env, msock_disco_private *out);
msock_node_key msock_node_private_public(const msock_node_private *k);
msock_machine_key msock_machine_private_public(const msock_machine_private *k);
msock_disco_key msock_disco_private_public(const msock_disco_private *k);

#endif
