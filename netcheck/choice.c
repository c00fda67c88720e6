#include "netcheck/choice.h"

static const msock_choice_region *find(const msock_choice_region *regions, size_t n,
                                       msock_region_id id) {
  for (size_t i = 0; i < n; i++) {
    if (id != 0 && regions[i].id == id && regions[i].can_be_home) {
      return &regions[i];
    }
  }
  return NULL;
}

static bool heard_within(const msock_choice_region *r, uint64_t age_us) {
  return r->heard_us != MSOCK_NEVER && r->heard_us <= age_us;
}

/* Is the gain too small to move from home to best. An unmeasured home counts as 0: it stays. */
static bool gain_is_small(const msock_choice_region *home, const msock_choice_region *best) {
  return home->now_us < best->best_us + MSOCK_CHOICE_MARGIN_US ||
         best->best_us > home->now_us / 3 * 2;
}

msock_region_id msock_choice_pick(const msock_choice_region *regions, size_t n,
                                  msock_region_id previous, uint64_t round_age_us) {
  const msock_choice_region *home = find(regions, n, previous), *best = NULL;
  for (size_t i = 0; i < n; i++) {
    const msock_choice_region *r = &regions[i];
    if (r->can_be_home && r->now_us != 0 && (!best || r->best_us < best->best_us)) {
      best = r;
    }
  }
  if (!best) {
    return home && heard_within(home, MSOCK_CHOICE_HEARD_LONG_US) ? home->id : 0;
  }
  const bool reachable = home && (home->now_us != 0 || heard_within(home, MSOCK_CHOICE_HEARD_US) ||
                                  heard_within(home, round_age_us));
  return reachable && gain_is_small(home, best) ? home->id : best->id;
}

msock_region_id msock_choice_blind(const msock_choice_region *regions, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (regions[i].can_be_home) {
      return regions[i].id;
    }
  }
  return 0;
}
