/* config/schema.h: a program's settings as a table, and one loader for all programs.
 *
 * A row names a setting once: key in the file, type, default, limits, sentence, whether a running
 * program can take a new value. The environment variable (prefix + key in capitals) and the flag
 * (key with hyphens) follow from the key; other names are aliases. The loader merges
 *     built-in < file < environment < flag
 * into a plain struct, by offset, and keeps the origin of each value. Loading never stops at the
 * first problem: all go to the report, and a value that was refused leaves the setting as it was.
 *
 * Life of a load: new -> apply_document, apply_environment, apply_flags (in any order: rank
 * decides, not order) -> finish -> the program's own cross checks -> use if report.n_errors == 0.
 * SIGHUP: load a second one the same way, msock_config_diff, keep one of the two.
 *
 * Files: value.c reads and prints single values, schema.c merges, schema_sources.c reads variables
 * and flags, schema_text.c writes what --check-config and --generate-config print. Values of
 * secrets are never printed. */
#ifndef MSOCK_CONFIG_SCHEMA_H
#define MSOCK_CONFIG_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "config/document.h"
#include "config/report.h"

/* Limits. All are ours. */
#define MSOCK_CONFIG_ROWS_MAX 256u   /* rows of one table */
#define MSOCK_CONFIG_TEXT_MAX 4096u  /* bytes of one value, NUL included */
#define MSOCK_CONFIG_LIST_MAX 1024u  /* items of one list */
#define MSOCK_CONFIG_KEY_MAX 64u     /* "limits.clients_per_key", NUL included */
#define MSOCK_CONFIG_ORIGIN_MAX 384u /* "file PATH:3:1", NUL included */
#define MSOCK_CONFIG_FLAGS_MAX 256u  /* words in one list of flags */

typedef struct msock_config_strings {
  char **v;
  size_t n;
} msock_config_strings;

typedef struct msock_config_prefixes {
  msock_prefix *v;
  size_t n;
} msock_config_prefixes;

/* Type of a setting, and of the struct member at its offset. The text forms are the same in file,
 * variable and flag; in the file a list is a sequence or one text with commas. */
typedef enum msock_config_type {
  MSOCK_CONFIG_STRING = 0, /* char *, never NULL; "" = unset */
  MSOCK_CONFIG_BOOL,       /* bool: true false yes no on off 1 0 */
  MSOCK_CONFIG_INT,        /* int64_t */
  MSOCK_CONFIG_DURATION,   /* uint64_t us: 250ms 5s 1m30s 2h 1d; a bare number only when 0 */
  MSOCK_CONFIG_SIZE,       /* uint64_t bytes: 512, 64KiB, 10MiB, 1GiB (KB, MB, GB: powers of 10) */
  MSOCK_CONFIG_ENUM,       /* int: index in choices */
  MSOCK_CONFIG_STRINGS,    /* msock_config_strings */
  MSOCK_CONFIG_IP,         /* msock_ip; "" = family 0 */
  MSOCK_CONFIG_ADDRESS,    /* msock_addr; ":443" = all addresses (family 0); "" = all zero */
  MSOCK_CONFIG_PREFIXES,   /* msock_config_prefixes; host bits must be zero */
  MSOCK_CONFIG_SECRET,     /* char *, never NULL; placeholders are refused; "file:PATH" sets the
                              row secret_file_key instead */
  MSOCK_CONFIG_SECRET_FILE /* char *, never NULL: path of a file whose first line is the secret */
} msock_config_type;

/* Another word for a value ("userspace-networking" = "none"); tables end with {NULL, NULL}. */
typedef struct msock_config_rename {
  const char *from, *to;
} msock_config_rename;

typedef struct msock_config_row {
  const char *key; /* snake_case; a dot steps into a mapping ("limits.clients"). Rows of one mapping
                      stand together, after the plain keys of their parent */
  msock_config_type type;
  size_t offset;            /* offsetof(the program's struct, member) */
  const char *default_text; /* as the file would hold it; NULL = unset, zero or an empty list */
  const char *sentence;     /* what it does, one sentence */
  bool reloadable;          /* a running program takes a new value at SIGHUP */
  /* INT, DURATION (us), SIZE (bytes): inclusive; both 0 = the whole range. Lists: max = most items,
   * 0 = MSOCK_CONFIG_LIST_MAX. */
  int64_t min, max;
  const char *const *choices; /* ENUM: ends with NULL */
  const msock_config_rename *renames;
  const char *example;         /* a value that is accepted, for messages; NULL = default_text */
  const char *secret_file_key; /* SECRET: the SECRET_FILE row beside it */
  /* Extra rule for STRING, SECRET, SECRET_FILE and each item of STRINGS, not asked for "". False
   * with the reason ("expected ...") in why, which must not repeat the value. */
  bool (*check)(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]);
} msock_config_row;

/* A further variable or flag. */
typedef struct msock_config_alias {
  const char *name;                   /* "TS_AUTHKEY", or a flag without its hyphens ("authkey") */
  const char *key;                    /* row that it sets; NULL = accepted without effect */
  const char *note;                   /* key NULL: warning that is given; NULL = silent */
  const char *when_true, *when_false; /* not NULL: the value is a bool and stands for these texts */
  bool is_switch;                     /* flag with key NULL: takes no value */
  bool is_refused;                    /* key NULL: the note is an error */
  bool is_flags; /* variable that holds flags, split as a shell does, without expansion */
} msock_config_alias;

typedef struct msock_config_schema {
  const char *program;    /* "tsnode" */
  const char *command;    /* that reads the file: "tsnode daemon" */
  const char *file_name;  /* "tsnode.yaml" */
  const char *env_prefix; /* "TSNODE_" */
  size_t size;            /* sizeof the program's struct */
  const msock_config_row *rows;
  size_t n_rows;
  const msock_config_alias *env_aliases;
  size_t n_env_aliases;
  const msock_config_alias *flag_aliases;
  size_t n_flag_aliases;
} msock_config_schema;

typedef struct msock_config msock_config;

/* All settings at their defaults. NULL without memory, or when the table holds a default that its
 * own row refuses (the test of each table loads it). The schema is borrowed for the life of the
 * config. */
msock_config *msock_config_new(const msock_config_schema *s);
void msock_config_free(msock_config *c); /* wipes secrets */
/* The program's struct; valid until the next call that takes a non-const config. */
const void *msock_config_values(const msock_config *c);

/* The layers. MSOCK_ERR_INVALID when this call added an error to the report; MSOCK_ERR_NOMEM.
 *   document     a mapping of keys; null values mean "not written". Unknown key = error
 *   environment  "NAME=value" texts that end with NULL (environ); empty values count as not set.
 *                Own prefix wins over aliases, aliases over flags held in a variable. Unknown names
 *                with the own prefix are a warning
 *   flags        --name value, --name=value, -name; switches also alone. Unknown flag = error */
msock_err msock_config_apply_document(msock_config *c, const msock_document *d,
                                      msock_config_report *report);
msock_err msock_config_apply_environment(msock_config *c, const char *const *environment,
                                         msock_config_report *report);
msock_err msock_config_apply_flags(msock_config *c, const char *const *words, size_t n_words,
                                   msock_config_report *report);
/* One setting from one node of a document, for other file forms (tailscaled's). */
msock_err msock_config_apply_node(msock_config *c, const char *key, const msock_document *d,
                                  const msock_document_node *n, msock_config_report *report);
/* A consequence of another setting: takes effect only where nobody set key. */
msock_err msock_config_imply(msock_config *c, const char *key, const char *text,
                             const char *because);
/* The same over any layer: what another setting forbids. */
msock_err msock_config_override(msock_config *c, const char *key, const char *text,
                                const char *because);
/* Last step: settles each secret against its file row: the higher layer wins, both in one layer is
 * an error. */
msock_err msock_config_finish(msock_config *c, msock_config_report *report);

/* First line of a secret's file as a secret (surrounding blanks removed), allocated: wipe with
 * msock_config_free_secret. NULL with an error in report when it is empty, too long, holds a NUL
 * byte or a placeholder, or is refused by the check of the row of key. */
char *msock_config_secret_from_file(const msock_config_schema *s, const char *key,
                                    const char *file_name, const uint8_t *bytes, size_t len,
                                    msock_config_report *report);
void msock_config_free_secret(char *secret);

/* Where the value of key comes from: "default", "file tsnode.yaml:3:1", "environment TS_HOSTNAME",
 * "environment TS_EXTRA_ARGS --hostname", "flag --hostname", "profile privacy-proxy". Returns buf.
 * msock_config_origin_where leaves out the word "file", for problems. */
char *msock_config_origin(const msock_config *c, const char *key,
                          char buf[static MSOCK_CONFIG_ORIGIN_MAX]);
char *msock_config_origin_where(const msock_config *c, const char *key,
                                char buf[static MSOCK_CONFIG_WHERE_MAX]);
bool msock_config_is_default(const msock_config *c, const char *key);

/* --check-config: one line for each row, "key = value   (origin)". Allocated; NULL without memory.
 */
char *msock_config_print(const msock_config *c);
/* --generate-config: every key with its sentence, default, variable and flag, all keys behind a
 * "#", so that it loads as it is and defaults of later versions stay in force. "# " begins prose,
 * "#key" a setting, both behind the indentation. Allocated; NULL without memory. */
char *msock_config_generate(const msock_config_schema *s);
/* Rows whose values differ (row->reloadable tells which need a restart), in table order; gives the
 * count, of which at most cap are written. Both must be of one schema. */
size_t msock_config_diff(const msock_config *before, const msock_config *after,
                         const msock_config_row **changed, size_t cap);

/* Where the file is looked for when no flag names one: for root /etc/PROGRAM/FILE, otherwise
 * $XDG_CONFIG_HOME/PROGRAM/FILE or $HOME/.config/PROGRAM/FILE. Allocated; NULL when there is no
 * such place or no memory. */
char *msock_config_default_path(const msock_config_schema *s, const char *const *environment,
                                bool is_root);
/* An error about the value of key, named with its origin: for the rules between values. */
void msock_config_refuse(const msock_config *c, const char *key, const char *way_out,
                         const char *reason, msock_config_report *report);
/* The error for a file that cannot be read; reason names it (msock_file_read). MSOCK_ERR_UNKNOWN:
 * it is not there, and the way out is
 * --generate-config; else it is there, and another one or another user. */
void msock_config_report_unreadable(const msock_config_schema *s, msock_err err, const char *reason,
                                    msock_config_report *report);

#endif
