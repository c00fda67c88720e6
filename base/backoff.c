#include "base/backoff.h"

uint64_t msock_backoff_next(msock_backoff *b, const msock_env *env, uint64_t floor_us) {
  if (b->failures < 10000) {
    b->failures++;
  }
  uint64_t delay = (uint64_t)b->failures * b->failures * 10u * MSOCK_MS;
  delay = delay < floor_us ? floor_us : delay;
  delay = delay > b->cap_us ? b->cap_us : delay;
  return delay / 2 + msock_env_uniform(env, delay + 1);
}
