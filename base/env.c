#include "base/env.h"

uint64_t msock_env_uniform(const msock_env *env, uint64_t n) {
  const uint64_t limit = UINT64_MAX - UINT64_MAX % n; /* reject the tail: no modulo bias */
  uint64_t v = 0;
  do {
    env->random(env->ctx, &v, sizeof v);
  } while (v >= limit);
  return v % n;
}
