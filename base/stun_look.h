/* base/stun_look.h: the predicates that rooms share to keep STUN apart from everything else on a
 * UDP socket (netcheck.md 1.4, magicsock.md 1.5; RFC 8489 section 5). */
#ifndef MSOCK_BASE_STUN_LOOK_H
#define MSOCK_BASE_STUN_LOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MSOCK_STUN_LOOK_MIN 20u

/* A STUN message of any method: header length, top two bits zero, magic cookie. */
static inline bool msock_looks_like_stun(const uint8_t *p, size_t len) {
  return len >= MSOCK_STUN_LOOK_MIN && (p[0] & 0xc0u) == 0 && p[4] == 0x21 && p[5] == 0x12 &&
         p[6] == 0xa4 && p[7] == 0x42;
}

/* The Binding method, request or answer: the first test of a datagram. */
static inline bool msock_looks_like_stun_binding(const uint8_t *p, size_t len) {
  return msock_looks_like_stun(p, len) && p[1] == 0x01;
}

#endif
