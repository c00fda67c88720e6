/* tests/fuzz/fuzzing.h: what the fuzz targets share, and the tour of this folder.
 *
 * fuzz_<noun>.c is one libFuzzer target: it reads its input as a small program (flags first, then
 * bytes for the decoder), feeds shipped code and checks what must hold for every input with
 * FUZZ_CHECK; the sanitizers check the rest. Secrets, handshakes and framing are done by the
 * target, so that the bytes reach what stands behind them. One input always does the same thing:
 * random numbers come from a fixed seed, time from the input, and nothing lives on between inputs.
 *
 *   corpus/<noun>/   seeds, made by make-corpus out of tests/vectors and of texts in it
 *   <noun>.dict      words of the format, where there are some
 *   replay.c         a main without libFuzzer: the corpus as an ordinary unit test
 *   run              what `./dev fuzz` calls */
#ifndef MSOCK_TESTS_FUZZ_FUZZING_H
#define MSOCK_TESTS_FUZZ_FUZZING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/env.h"

/* The target; libFuzzer's names. Gives 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Ends the process, with place and condition, when something that must hold does not. */
#define FUZZ_CHECK(condition) fuzz_check((condition), #condition, __FILE__, __LINE__)
void fuzz_check(bool holds, const char *condition, const char *file, int line);

/* A fixed sequence of random bytes, and a log at its highest level whose lines are checked: no
 * control bytes, bounded length. The rng must outlive the env. */
typedef struct fuzz_rng {
  uint64_t state;
} fuzz_rng;
msock_env fuzz_env(fuzz_rng *rng, uint64_t seed);

/* The next n bytes, or fewer when the input ends, in an allocation of just that size, so that a
 * read past the end is seen; the caller frees. */
uint8_t *fuzz_take(msock_reader *r, size_t n, size_t *len);
/* All that is left, as above. */
uint8_t *fuzz_rest(msock_reader *r, size_t *len);
/* All that is left as text with a NUL behind it. */
char *fuzz_rest_text(msock_reader *r, size_t *len);
/* The input goes on: the loop of targets that read one step after the other. */
static inline bool fuzz_more(const msock_reader *r) {
  return !r->bad && r->left > 0;
}
/* A value 0 .. n-1 from one byte. */
unsigned fuzz_choice(msock_reader *r, unsigned n);
/* Size of the next piece when `left` bytes are fed in pieces; how is the input's wish: 0 = all at
 * once, else at most how bytes. Never 0 while left > 0. */
size_t fuzz_piece(uint8_t how, size_t left);

/* Reads every byte, so that a sanitizer sees bytes that are not there or were never set. */
void fuzz_touch(const void *p, size_t len);

/* Says at the end how many messages all inputs held: the specs count those (run --long). */
void fuzz_count_messages(uint64_t n);

#endif
