#include "crypto/wipe.h"

#include <sodium.h>

void msock_wipe(void *p, size_t len) {
  sodium_memzero(p, len);
}

bool msock_ct_equal(const void *a, const void *b, size_t len) {
  return sodium_memcmp(a, b, len) == 0;
}
