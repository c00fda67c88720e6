/* base/disco_look.h: the one predicate that rooms share to keep disco apart from data without
 * knowing what disco is: at least 62 bytes that start with the disco magic (derp.md section 0). */
#ifndef MSOCK_BASE_DISCO_LOOK_H
#define MSOCK_BASE_DISCO_LOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MSOCK_DISCO_LOOK_MIN 62u

static inline bool msock_looks_like_disco(const uint8_t *p, size_t len) {
  static const uint8_t magic[6] = {0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac};
  return len >= MSOCK_DISCO_LOOK_MIN && memcmp(p, magic, sizeof magic) == 0;
}

#endif
