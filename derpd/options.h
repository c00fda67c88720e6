/* derpd/options.h: the command line, and the configuration it leads to: flags over variables over
 * the file over what is built in. derper's flags are understood: those whose value means something
 * else here are rewritten (-stun-port 3478 = --stun-listen :3478), the others are aliases in
 * config/derpd_config.c. */
#ifndef MSOCK_DERPD_OPTIONS_H
#define MSOCK_DERPD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "config/derpd_config.h"
#include "config/exit_codes.h"

#define MSOCK_DERPD_WORDS_MAX 128u /* of the command line */
#define MSOCK_DERPD_USAGE_MAX 320u

typedef enum msock_derpd_verb { MSOCK_DERPD_RUN = 0, MSOCK_DERPD_MAP } msock_derpd_verb;

/* derpd map */
typedef struct msock_derpd_map_options {
  const char *format; /* NULL = yaml */
  const char *region, *code, *name;
  const char *address; /* literal for clients without DNS; NULL = none known */
} msock_derpd_map_options;

typedef struct msock_derpd_options {
  msock_derpd_verb verb;
  bool help, version, check_config, generate_config;
  char *file;         /* NULL = no such place */
  bool file_is_named; /* by flag or variable: must be there */
  msock_derpd_map_options map;
  char *words[2 * MSOCK_DERPD_WORDS_MAX]; /* flags of settings, rewritten; owned */
  size_t n_words;
  char *statedir; /* default of this user */
  const char *statedir_because;
  const char *const *environment;
} msock_derpd_options;

/* argv without the program. MSOCK_EXIT_OK, or MSOCK_EXIT_USAGE with the reason in why. */
msock_exit msock_derpd_options_parse(int argc, char **argv, const char *const *environment,
                                     bool is_root, msock_derpd_options *o,
                                     char why[static MSOCK_DERPD_USAGE_MAX]);
void msock_derpd_options_clear(msock_derpd_options *o);
/* The configuration as of now, its file and derper's rate file read. NULL with errors in report;
 * warnings either way. Caller: msock_config_free. */
msock_config *msock_derpd_options_load(const msock_derpd_options *o, msock_config_report *report);
void msock_derpd_print_help(void);

#endif
