/* config/flags.h: command-line flags by a table, in the forms that Go programs take: -x and --x, a
 * value behind a space or "=", for switches --x and --x=false. Flags and other words may be mixed;
 * "--" ends the flags. Pure. Act only after MSOCK_EXIT_OK: what stood before a refused flag was
 * taken. */
#ifndef MSOCK_CONFIG_FLAGS_H
#define MSOCK_CONFIG_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config/exit_codes.h"

#define MSOCK_FLAGS_WHY_MAX 256u
#define MSOCK_FLAGS_WORDS_MAX 4u /* words that are no flags; more is refused */

typedef enum msock_flag_kind {
  MSOCK_FLAG_BOOL = 0, /* bool */
  MSOCK_FLAG_TEXT,     /* const char *, borrowed from argv */
  MSOCK_FLAG_DURATION, /* uint64_t, microseconds */
  MSOCK_FLAG_NUMBER,   /* uint64_t, at most max */
  MSOCK_FLAG_LEVEL,    /* uint64_t, at most max; without a value 1 */
  MSOCK_FLAG_ABSENT    /* known from stock programs, not in this build: refused unless =false */
} msock_flag_kind;

typedef struct msock_flag {
  const char *name; /* without hyphens */
  msock_flag_kind kind;
  void *to;         /* NULL: accepted without effect */
  bool *given;      /* may be NULL */
  const char *help; /* one sentence; NULL = not shown (aliases) */
  uint64_t max;
} msock_flag;

typedef struct msock_words {
  const char *at[MSOCK_FLAGS_WORDS_MAX];
  size_t n;
} msock_words;

/* argv without the program and the verb. MSOCK_EXIT_OK; MSOCK_EXIT_USAGE or MSOCK_EXIT_NOT_BUILT
 * with the reason and a hint in why. *help is set by -h and --help: print the help and stop. */
msock_exit msock_flags_parse(const msock_flag *flags, size_t n_flags, int argc, char **argv,
                             msock_words *words, bool *help, char why[static MSOCK_FLAGS_WHY_MAX]);

/* "  --name VALUE   sentence", one line each. */
void msock_flags_print(FILE *out, const msock_flag *flags, size_t n_flags);

/* The nearest of n names (stride bytes apart; each begins with a const char *) to text, by edit
 * distance up to a third of its length; NULL = nothing is near. */
const char *msock_nearest(const char *text, const void *table, size_t n, size_t stride);

#endif
