/* base/env.h: what a pure machine is given from outside: random bytes and a log sink. Tests pass a
 * seeded generator. Time is never here: it is an argument of each call.
 *
 * Time everywhere: now_us = uint64_t microseconds of a clock that counts suspend; MSOCK_NEVER means
 * "no deadline". wall_us = microseconds since 1970-01-01 UTC, only where a format needs it. */
#ifndef MSOCK_BASE_ENV_H
#define MSOCK_BASE_ENV_H

#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

#define MSOCK_NEVER UINT64_MAX
#define MSOCK_MS UINT64_C(1000)
#define MSOCK_SEC UINT64_C(1000000)

typedef struct msock_env {
  void *ctx;
  void (*random)(void *ctx, void *dst, size_t len); /* CSPRNG; cannot fail */
  const msock_log *log;                             /* may be NULL */
} msock_env;

/* Uniform in [0, n); n > 0. */
uint64_t msock_env_uniform(const msock_env *env, uint64_t n);

#endif
