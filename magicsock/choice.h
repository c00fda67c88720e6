/* magicsock/choice.h: the pure rules of path choice (magicsock.md 3.4, 3.5). */
#ifndef MSOCK_MAGICSOCK_CHOICE_H
#define MSOCK_MAGICSOCK_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

/* A path as the comparison sees it. */
typedef struct msock_choice {
  msock_addr addr;     /* family 0: none */
  uint32_t vni;        /* of a peer relay's session; 0 = direct */
  uint64_t latency_us; /* any unit, the same on both sides */
  uint32_t mtu_bytes;
} msock_choice;

/* Is a better than b? Not antisymmetric: latencies within 1 % keep what there is. */
bool msock_choice_better(const msock_choice *a, const msock_choice *b);

/* Is it time to ping all candidates, not only the best? trusted: the best address is confirmed now.
 * last_sweep_us MSOCK_NEVER: there was none. every_us: the interval of upgrades. */
bool msock_choice_sweep(bool has_best, bool trusted, uint64_t rtt_us, uint64_t last_sweep_us,
                        uint64_t every_us, uint64_t now_us);

#endif
