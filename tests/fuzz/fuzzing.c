#include "tests/fuzz/fuzzing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "crypto/init.h"

#define LOG_TEXT_MAX 1023u /* base/log.h */

static uint64_t n_messages;

void fuzz_check(bool holds, const char *condition, const char *file, int line) {
  if (!holds) {
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
  }
}

static void fixed_random(void *ctx, void *dst, size_t len) {
  fuzz_rng *rng = ctx;
  uint8_t *p = dst;
  while (len > 0) { /* splitmix64 */
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

static void checked_sink(void *ctx, msock_log_level level, const char *event, const char *text) {
  (void)ctx;
  (void)level;
  FUZZ_CHECK(strlen(text) <= LOG_TEXT_MAX);
  FUZZ_CHECK(strchr(event, '.') != NULL);
  for (const char *p = text; *p != '\0'; p++) {
    FUZZ_CHECK((unsigned char)*p >= ' ' && *p != 0x7f);
  }
}

msock_env fuzz_env(fuzz_rng *rng, uint64_t seed) {
  static const msock_log log = {.max = MSOCK_LOG_TRACE, .sink = checked_sink};
  rng->state = seed;
  return (msock_env){.ctx = rng, .random = fixed_random, .log = &log};
}

static uint8_t *exact(size_t len) {
  uint8_t *p = malloc(len);
  FUZZ_CHECK(p != NULL || len == 0);
  return p;
}

uint8_t *fuzz_take(msock_reader *r, size_t n, size_t *len) {
  *len = n < r->left ? n : r->left;
  uint8_t *p = exact(*len);
  msock_read_copy(r, p, *len);
  return p;
}

uint8_t *fuzz_rest(msock_reader *r, size_t *len) {
  return fuzz_take(r, r->left, len);
}

char *fuzz_rest_text(msock_reader *r, size_t *len) {
  *len = r->left;
  char *p = (char *)exact(*len + 1);
  msock_read_copy(r, p, *len);
  p[*len] = '\0';
  return p;
}

unsigned fuzz_choice(msock_reader *r, unsigned n) {
  return msock_read_u8(r) % n;
}

size_t fuzz_piece(uint8_t how, size_t left) {
  return how == 0 || how > left ? left : how;
}

void fuzz_touch(const void *p, size_t len) {
  const volatile uint8_t *b = p;
  for (size_t i = 0; i < len; i++) {
    (void)b[i];
  }
}

static void say_messages(void) {
  fprintf(stderr, "fuzz: %" PRIu64 " messages\n", n_messages);
}

void fuzz_count_messages(uint64_t n) {
  if (n_messages == 0) {
    (void)atexit(say_messages);
  }
  n_messages += n;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  FUZZ_CHECK(msock_crypto_init() == MSOCK_OK);
  return 0;
}
