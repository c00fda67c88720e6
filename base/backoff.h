/* base/backoff.h: the reconnect delay that DERP and control share: the n-th failure in a row waits
 * min(n^2 * 10 ms, cap), at least floor, times a uniform factor 0.5 .. 1.5 (derp.md 3.2,
 * control.md 6). */
#ifndef MSOCK_BASE_BACKOFF_H
#define MSOCK_BASE_BACKOFF_H

#include <stdint.h>

#include "base/env.h"

typedef struct msock_backoff {
  uint64_t cap_us;
  uint32_t failures; /* in a row; msock_backoff_reset sets 0 */
} msock_backoff;

/* Counts one failure and gives the delay to wait, in microseconds. */
uint64_t msock_backoff_next(msock_backoff *b, const msock_env *env, uint64_t floor_us);

static inline void msock_backoff_reset(msock_backoff *b) {
  b->failures = 0;
}

#endif
