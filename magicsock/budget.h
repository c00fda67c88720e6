/* magicsock/budget.h: a rate with a burst, in 8 bytes: the time at which the last grant is paid for
 * (GCRA, ITU-T I.371). Zero is a full budget. */
#ifndef MSOCK_MAGICSOCK_BUDGET_H
#define MSOCK_MAGICSOCK_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"

typedef struct msock_budget {
  uint64_t paid_us;
} msock_budget;

/* Is one of burst grants left? Each comes back after interval_us. */
static inline bool msock_budget_has(const msock_budget *b, uint64_t now_us, uint64_t burst,
                                    uint64_t interval_us) {
  return b->paid_us <= now_us + (burst - 1) * interval_us;
}

static inline void msock_budget_spend(msock_budget *b, uint64_t now_us, uint64_t interval_us) {
  b->paid_us = (b->paid_us > now_us ? b->paid_us : now_us) + interval_us;
}

static inline bool msock_budget_take(msock_budget *b, uint64_t now_us, uint64_t burst,
                                     uint64_t interval_us) {
  if (!msock_budget_has(b, now_us, burst, interval_us)) {
    return false;
  }
  msock_budget_spend(b, now_us, interval_us);
  return true;
}

#endif
