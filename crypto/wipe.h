/* crypto/wipe.h: erase secrets, compare secrets. */
#ifndef MSOCK_CRYPTO_WIPE_H
#define MSOCK_CRYPTO_WIPE_H

#include <stdbool.h>
#include <stddef.h>

/* Zeroes memory in a way the compiler keeps. */
void msock_wipe(void *p, size_t len);

/* Constant-time equality of two ranges of the same length. */
bool msock_ct_equal(const void *a, const void *b, size_t len);

#endif
