/* magicsock/eligible.h: which addresses may be used at all (magicsock.md 3.11). Asked when an
 * address is about to enter a table, so that nothing else need ask again. */
#ifndef MSOCK_MAGICSOCK_ELIGIBLE_H
#define MSOCK_MAGICSOCK_ELIGIBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "magicsock/limits.h"

typedef struct msock_eligible {
  bool lan, ipv6, loopback;
  msock_prefix overlay[MSOCK_ENGINE_OVERLAY_MAX];
  size_t n_overlay;
} msock_eligible;

typedef enum msock_eligible_use {
  MSOCK_USE_CANDIDATE = 0, /* of a peer: from control, a call-me-maybe or a ping's source */
  MSOCK_USE_ADVERTISE      /* one of ours, told to control and peers */
} msock_eligible_use;

/* addr is unmapped. */
bool msock_eligible_addr(const msock_eligible *f, msock_eligible_use use, const msock_addr *addr);
/* A public unicast address: what a pong may tell us about ourselves (3.10). */
bool msock_eligible_public(const msock_addr *addr);

#endif
