#include "tests/unit/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "crypto/init.h"

TCase *testing_case(void) {
  TCase *tc = tcase_create("cases");
  tcase_set_timeout(tc, 60);
  return tc;
}

int testing_main(const char *name, TCase *tc) {
  if (msock_crypto_init() != MSOCK_OK) {
    fprintf(stderr, "crypto self-test failed\n");
    return 1;
  }
  Suite *s = suite_create(name);
  suite_add_tcase(s, tc);
  SRunner *sr = srunner_create(s);
  srunner_run_all(sr, CK_ENV);
  const int failed = srunner_ntests_failed(sr);
  srunner_free(sr);
  return failed == 0 ? 0 : 1;
}

static void seeded_random(void *ctx, void *dst, size_t len) {
  testing_rng *rng = ctx;
  uint8_t *p = dst;
  while (len > 0) {
    uint64_t z = (rng->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    const size_t n = len < sizeof z ? len : sizeof z;
    memcpy(p, &z, n);
    p += n;
    len -= n;
  }
}

msock_env testing_env(testing_rng *rng, uint64_t seed) {
  rng->state = seed;
  return (msock_env){.ctx = rng, .random = seeded_random, .log = NULL};
}

static void record(void *ctx, msock_log_level level, const char *event, const char *text) {
  testing_log *l = ctx;
  (void)level;
  if (l->n == TESTING_LOG_MAX) {
    memmove(l->events[0], l->events[1], sizeof l->events - sizeof l->events[0]);
    l->n--;
  }
  snprintf(l->events[l->n++], sizeof l->events[0], "%s %.200s", event, text);
}

void testing_log_init(testing_log *l) {
  memset(l, 0, sizeof *l);
  l->log = (msock_log){.ctx = l, .max = MSOCK_LOG_TRACE, .sink = record};
}

bool testing_log_has(const testing_log *l, const char *event) {
  const size_t len = strlen(event);
  for (size_t i = 0; i < l->n; i++) {
    if (strncmp(l->events[i], event, len) == 0 && l->events[i][len] == ' ') {
      return true;
    }
  }
  return false;
}

size_t testing_unhex(const char *hex, uint8_t *dst, size_t cap) {
  const size_t len = strlen(hex) / 2;
  if (strlen(hex) % 2 != 0 || len > cap || !msock_hex_decode(hex, dst, len)) {
    fprintf(stderr, "bad hex in a test: %.40s\n", hex);
    abort();
  }
  return len;
}

uint8_t *testing_unhex_alloc(const char *hex, size_t *len) {
  uint8_t *p = malloc(strlen(hex) / 2 + 1);
  if (p == NULL) {
    abort();
  }
  *len = testing_unhex(hex, p, strlen(hex) / 2);
  return p;
}
