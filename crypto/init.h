/* crypto/init.h: once per process, before any other call of this room. */
#ifndef MSOCK_CRYPTO_INIT_H
#define MSOCK_CRYPTO_INIT_H

#include <stddef.h>

#include "base/err.h"

/* Starts libsodium, self-tests every AEAD provider, checks BLAKE2s against a known answer.
 * Idempotent. MSOCK_ERR_IO: nothing may be sent; stop the program. */
msock_err msock_crypto_init(void);

/* CSPRNG of libsodium; the random function that io/ puts into msock_env. */
void msock_crypto_random(void *ctx, void *dst, size_t len);

#endif
