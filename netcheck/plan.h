/* netcheck/plan.h: which STUN probes a round sends, and when (netcheck.md 2.3).
 *
 * Pure. A set is one region and one family; it ends at its first answer. */
#ifndef MSOCK_NETCHECK_PLAN_H
#define MSOCK_NETCHECK_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MSOCK_PLAN_TRIES_MAX 4u
#define MSOCK_PLAN_SWEEP_MAX 8u /* servers of a sweep; netcheck.md 2.8 (P) */

typedef struct msock_plan_region {
  bool v4, v6;      /* there is a node that STUN can reach over the family; neither: no probe */
  bool home;        /* the current home */
  size_t servers;   /* nodes that STUN can reach over IPv4; for sweeps only */
  uint64_t last_us; /* latency in the last report; 0 = none */
} msock_plan_region;

typedef struct msock_plan_set {
  size_t region; /* index into the regions given */
  uint8_t family;
  uint8_t tries;
  uint8_t first; /* index among the region's reachable nodes where the tries begin */
  uint64_t delay_us[MSOCK_PLAN_TRIES_MAX]; /* of each try, from the start of the round */
} msock_plan_set;

/* Every region and family, three probes each. sets must hold 2 * n; gives how many were filled. */
size_t msock_plan_full(const msock_plan_region *regions, size_t n, msock_plan_set *sets);

/* The three fastest regions of the last report and home. had_v4, had_v6: an answer came over that
 * family in the last report. */
size_t msock_plan_incremental(const msock_plan_region *regions, size_t n, bool had_v4, bool had_v6,
                              msock_plan_set *sets);

/* The privacy profile's: one request at once to each IPv4 server, home region first, at most
 * MSOCK_PLAN_SWEEP_MAX in all (netcheck.md 2.8). sets must hold as many. */
size_t msock_plan_sweep(const msock_plan_region *regions, size_t n, msock_plan_set *sets);

#endif
