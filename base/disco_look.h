/* base/disco_look.h: the predicates that rooms share to keep disco apart from data without knowing
 * what disco is. */
#ifndef MSOCK_BASE_DISCO_LOOK_H
#define MSOCK_BASE_DISCO_LOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MSOCK_DISCO_MAGIC_LEN 6u
/* "TS" and U+1F4AC: initialises uint8_t[MSOCK_DISCO_MAGIC_LEN] */
#define MSOCK_DISCO_MAGIC_BYTES                                                                    \
  { 0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac }
#define MSOCK_DISCO_ROUTE_MIN 38u /* magic and sender key */
#define MSOCK_DISCO_LOOK_MIN 62u  /* and nonce */

/* Starts with the disco magic: never handed to WireGuard, whether or not it opens. */
static inline bool msock_has_disco_magic(const uint8_t *p, size_t len) {
  static const uint8_t magic[MSOCK_DISCO_MAGIC_LEN] = MSOCK_DISCO_MAGIC_BYTES;
  return len >= sizeof magic && memcmp(p, magic, sizeof magic) == 0;
}

/* Disco for one UDP socket's demux: 38 bytes or more (magicsock.md 1.5). */
static inline bool msock_routes_as_disco(const uint8_t *p, size_t len) {
  return len >= MSOCK_DISCO_ROUTE_MIN && msock_has_disco_magic(p, len);
}

/* Disco for a relay's queues, and for a look at the sender key: 62 bytes or more (derp.md section
 * 0, magicsock.md 1.1). */
static inline bool msock_looks_like_disco(const uint8_t *p, size_t len) {
  return len >= MSOCK_DISCO_LOOK_MIN && msock_has_disco_magic(p, len);
}

#endif
