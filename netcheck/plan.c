#include "netcheck/plan.h"

#include "base/env.h"

/* All from netcheck.md 2.3, the reference's. */
#define FULL_TRIES 3u
#define FULL_STEP_US (100u * MSOCK_MS)
#define FASTEST_REGIONS 3u
#define FASTEST_TRIES 2u /* of the fastest two */
#define HOME_TRIES 4u
#define RETRANSMIT_US (200u * MSOCK_MS) /* without a last latency */
#define LATE_TRY_EXTRA_US (50u * MSOCK_MS)

size_t msock_plan_full(const msock_plan_region *regions, size_t n, msock_plan_set *sets) {
  size_t count = 0;
  for (size_t i = 0; i < n; i++) {
    for (uint8_t family = 4; family <= 6; family += 2) {
      if (family == 4 ? regions[i].v4 : regions[i].v6) {
        msock_plan_set *s = &sets[count++];
        *s = (msock_plan_set){.region = i, .family = family, .tries = FULL_TRIES};
        for (unsigned k = 0; k < FULL_TRIES; k++) {
          s->delay_us[k] = k * FULL_STEP_US;
        }
      }
    }
  }
  return count;
}

static bool reachable(const msock_plan_region *r) {
  return r->v4 || r->v6;
}

/* Sorts before: faster; without latency last; the map's order decides among equals. */
static bool before(const msock_plan_region *regions, size_t a, size_t b) {
  const uint64_t x = regions[a].last_us, y = regions[b].last_us;
  if ((x == 0) != (y == 0)) {
    return x != 0;
  }
  return x != y ? x < y : a < b;
}

static size_t rank_of(const msock_plan_region *regions, size_t n, size_t at) {
  size_t rank = 0;
  for (size_t i = 0; i < n; i++) {
    rank += i != at && reachable(&regions[i]) && before(regions, i, at);
  }
  return rank;
}

static void add_set(const msock_plan_region *r, size_t region, uint8_t family, unsigned tries,
                    msock_plan_set *s) {
  const uint64_t step = r->last_us ? r->last_us * 120 / 100 : RETRANSMIT_US;
  *s = (msock_plan_set){.region = region, .family = family, .tries = (uint8_t)tries};
  for (unsigned k = 0; k < tries; k++) {
    s->delay_us[k] = k * step + (k > 1 ? k * LATE_TRY_EXTRA_US : 0);
  }
}

size_t msock_plan_incremental(const msock_plan_region *regions, size_t n, bool had_v4, bool had_v6,
                              msock_plan_set *sets) {
  size_t count = 0;
  for (size_t i = 0; i < n; i++) {
    const msock_plan_region *r = &regions[i];
    const size_t rank = reachable(r) ? rank_of(regions, n, i) : n;
    if (rank >= FASTEST_REGIONS && !(r->home && reachable(r))) {
      continue;
    }
    const bool fastest_two = rank < 2;
    bool v4 = r->v4, v6 = r->v6 && (fastest_two || had_v6);
    if (!fastest_two && had_v4 && had_v6) { /* both work: slower ranks take turns */
      v4 = v4 && rank % 2 == 0;
      v6 = v6 && rank % 2 == 1;
    }
    if (r->home && !v4 && !v6) { /* its turn is a family that it does not have */
      v4 = r->v4;
      v6 = r->v6;
    }
    const unsigned tries = r->home ? HOME_TRIES : fastest_two ? FASTEST_TRIES : 1u;
    if (v4) {
      add_set(r, i, 4, tries, &sets[count++]);
    }
    if (v6) {
      add_set(r, i, 6, had_v6 ? tries : 1u, &sets[count++]);
    }
  }
  return count;
}

static size_t add_servers(const msock_plan_region *r, size_t region, size_t count,
                          msock_plan_set *sets) {
  for (size_t i = 0; i < r->servers && count < MSOCK_PLAN_SWEEP_MAX; i++) {
    sets[count++] =
        (msock_plan_set){.region = region, .family = 4, .tries = 1, .first = (uint8_t)i};
  }
  return count;
}

size_t msock_plan_sweep(const msock_plan_region *regions, size_t n, msock_plan_set *sets) {
  size_t count = 0;
  for (int home = 1; home >= 0; home--) {
    for (size_t i = 0; i < n; i++) {
      count = regions[i].home == (home != 0) ? add_servers(&regions[i], i, count, sets) : count;
    }
  }
  return count;
}
