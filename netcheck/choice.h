/* netcheck/choice.h: which region becomes home, given what was measured (netcheck.md 2.6). Pure. */
#ifndef MSOCK_NETCHECK_CHOICE_H
#define MSOCK_NETCHECK_CHOICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/derp_map.h"
#include "base/env.h"

#define MSOCK_CHOICE_HEARD_US (8u * MSOCK_SEC)        /* a frame that recent: reachable */
#define MSOCK_CHOICE_HEARD_LONG_US (120u * MSOCK_SEC) /* twice the DERP keep-alive */
#define MSOCK_CHOICE_MARGIN_US (10u * MSOCK_MS)       /* a smaller gain moves nobody */

typedef struct msock_choice_region {
  msock_region_id id;
  bool can_be_home;  /* has a relay node, and the map lets it */
  uint64_t now_us;   /* latency in this report, scaled by the region's score; 0 = not measured */
  uint64_t best_us;  /* the smallest of the kept reports, this one included, scaled */
  uint64_t heard_us; /* age of the last DERP frame from it; MSOCK_NEVER = none */
} msock_choice_region;

/* Home by this report alone, given the previous one (0 = none); 0 = this report says nothing.
 *   round_age_us  time since the round began: a frame since then makes a region reachable */
msock_region_id msock_choice_pick(const msock_choice_region *regions, size_t n,
                                  msock_region_id previous, uint64_t round_age_us);

/* The region to use when nothing was ever measured: the first that can be home, else 0. */
msock_region_id msock_choice_blind(const msock_choice_region *regions, size_t n);

#endif
