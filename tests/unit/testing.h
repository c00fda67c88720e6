/* tests/unit/testing.h: what unit tests share: a runner over check, a seeded env, a log that
 * records. */
#ifndef MSOCK_TESTS_TESTING_H
#define MSOCK_TESTS_TESTING_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/log.h"

/* Usage: int main(void) { TCase *tc = testing_case(); tcase_add_test(tc, f); ... return
 * testing_main("name", tc); } Initialises crypto. */
TCase *testing_case(void);
int testing_main(const char *name, TCase *tc);

/* Deterministic env: splitmix64 from the seed. Not for secrets. */
typedef struct testing_rng {
  uint64_t state;
} testing_rng;
msock_env testing_env(testing_rng *rng, uint64_t seed);

/* Log sink that keeps the last events: testing_log_has(l, "derp.connected"). */
#define TESTING_LOG_MAX 64
typedef struct testing_log {
  msock_log log;
  char events[TESTING_LOG_MAX][256]; /* "event text" */
  size_t n;
} testing_log;
void testing_log_init(testing_log *l); /* then use &l->log */
bool testing_log_has(const testing_log *l, const char *event);

/* Hex text to bytes; aborts the test on bad hex. Returns the length; dst holds cap bytes. */
size_t testing_unhex(const char *hex, uint8_t *dst, size_t cap);
/* The same, allocated: caller frees. */
uint8_t *testing_unhex_alloc(const char *hex, size_t *len);

#endif
