#include "config/flags.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/duration.h"

#define NAME_MAX_BYTES 40u /* longer words are near to nothing */

static msock_exit refuse(char *why, msock_exit code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static msock_exit refuse(char *why, msock_exit code, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(why, MSOCK_FLAGS_WHY_MAX, fmt, ap);
  va_end(ap);
  return code;
}

/* Levenshtein distance, one row at a time. */
static size_t distance(const char *a, const char *b) {
  size_t row[NAME_MAX_BYTES + 1];
  const size_t len = strlen(b);
  for (size_t j = 0; j <= len; j++) {
    row[j] = j;
  }
  for (size_t i = 1; a[i - 1]; i++) {
    size_t corner = row[0];
    row[0] = i;
    for (size_t j = 1; j <= len; j++) {
      const size_t above = row[j];
      size_t best = corner + (a[i - 1] != b[j - 1]);
      best = above + 1 < best ? above + 1 : best;
      best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
      row[j] = best;
      corner = above;
    }
  }
  return row[len];
}

const char *msock_nearest(const char *text, const void *table, size_t n, size_t stride) {
  const size_t len = strlen(text);
  const char *best = NULL;
  size_t best_distance = len / 3 + 1;
  if (len > NAME_MAX_BYTES) {
    return NULL;
  }
  for (size_t i = 0; i < n; i++) {
    const char *name;
    memcpy(&name, (const char *)table + i * stride, sizeof name);
    const size_t d = strlen(name) <= NAME_MAX_BYTES ? distance(text, name) : SIZE_MAX;
    if (d <= best_distance && (best == NULL || d < best_distance)) {
      best = name;
      best_distance = d;
    }
  }
  return best;
}

static const msock_flag *find(const msock_flag *flags, size_t n, const char *name, size_t len) {
  for (size_t i = 0; i < n; i++) {
    if (strlen(flags[i].name) == len && memcmp(flags[i].name, name, len) == 0) {
      return &flags[i];
    }
  }
  return NULL;
}

static bool parse_bool(const char *text, bool *out) {
  static const char *const yes[] = {"true", "1", "t", "TRUE", "True"};
  static const char *const no[] = {"false", "0", "f", "FALSE", "False"};
  for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
    if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
      *out = strcmp(text, yes[i]) == 0;
      return true;
    }
  }
  return false;
}

static bool parse_number(const char *text, uint64_t max, uint64_t *out) {
  uint64_t v = 0;
  if (*text == '\0') {
    return false;
  }
  for (; *text; text++) {
    if (*text < '0' || *text > '9' || v > max / 10) {
      return false;
    }
    v = v * 10 + (uint64_t)(*text - '0');
  }
  *out = v;
  return v <= max;
}

/* Values are not quoted back: one may be a key. */
static msock_exit store(const msock_flag *f, const char *value, char *why) {
  bool b = false;
  uint64_t v = 0;
  switch (f->kind) {
  case MSOCK_FLAG_BOOL:
    if (!parse_bool(value, &b)) {
      return refuse(why, MSOCK_EXIT_USAGE, "--%s takes true or false", f->name);
    }
    if (f->to != NULL) {
      *(bool *)f->to = b;
    }
    break;
  case MSOCK_FLAG_TEXT:
    if (f->to != NULL) {
      *(const char **)f->to = value;
    }
    break;
  case MSOCK_FLAG_DURATION:
    if (!msock_duration_parse(value, &v)) {
      return refuse(why, MSOCK_EXIT_USAGE, "--%s takes a duration such as 500ms, 10s or 1m30s",
                    f->name);
    }
    break;
  case MSOCK_FLAG_NUMBER:
  case MSOCK_FLAG_LEVEL:
    if (!parse_number(value, f->max, &v)) {
      return refuse(why, MSOCK_EXIT_USAGE, "--%s takes a number from 0 to %" PRIu64, f->name,
                    f->max);
    }
    break;
  case MSOCK_FLAG_ABSENT:
    if (!parse_bool(value, &b) || b) {
      return refuse(why, MSOCK_EXIT_NOT_BUILT, "--%s is not in this build; nothing was changed",
                    f->name);
    }
    break;
  }
  if (f->to != NULL && f->kind >= MSOCK_FLAG_DURATION && f->kind <= MSOCK_FLAG_LEVEL) {
    *(uint64_t *)f->to = v;
  }
  if (f->given != NULL) {
    *f->given = true;
  }
  return MSOCK_EXIT_OK;
}

/* The value of a flag without "=": the next word, or what a switch means by itself. */
static const char *implied_value(const msock_flag *f, int argc, char **argv, int *i) {
  const bool digit =
      *i + 1 < argc && argv[*i + 1][0] >= '0' && argv[*i + 1][0] <= '9' && argv[*i + 1][1] == '\0';
  if (f->kind == MSOCK_FLAG_BOOL || f->kind == MSOCK_FLAG_ABSENT) {
    return "true";
  }
  if (f->kind == MSOCK_FLAG_LEVEL && !digit) {
    return "1";
  }
  return *i + 1 < argc ? argv[++*i] : NULL;
}

static msock_exit parse_flag(const msock_flag *flags, size_t n_flags, int argc, char **argv, int *i,
                             bool *help, char *why) {
  const char *name = argv[*i] + (argv[*i][1] == '-' ? 2 : 1);
  const char *eq = strchr(name, '=');
  const size_t len = eq != NULL ? (size_t)(eq - name) : strlen(name);
  if (strcmp(name, "h") == 0 || strcmp(name, "help") == 0) {
    *help = true;
    return MSOCK_EXIT_OK;
  }
  const msock_flag *f = find(flags, n_flags, name, len);
  if (f == NULL) {
    char text[NAME_MAX_BYTES + 2];
    snprintf(text, sizeof text, "%.*s", (int)(len < sizeof text ? len : sizeof text - 1), name);
    const char *near = msock_nearest(text, flags, n_flags, sizeof *flags);
    return refuse(why, MSOCK_EXIT_USAGE, "unknown flag --%s%s%s%s; nothing was changed", text,
                  near ? "; did you mean --" : "", near ? near : "", near ? "?" : "");
  }
  const char *value = eq != NULL ? eq + 1 : implied_value(f, argc, argv, i);
  if (value == NULL) {
    return refuse(why, MSOCK_EXIT_USAGE, "--%s needs a value", f->name);
  }
  return store(f, value, why);
}

msock_exit msock_flags_parse(const msock_flag *flags, size_t n_flags, int argc, char **argv,
                             msock_words *words, bool *help, char why[static MSOCK_FLAGS_WHY_MAX]) {
  bool only_words = false;
  *words = (msock_words){0};
  *help = false;
  why[0] = '\0';
  for (int i = 0; i < argc; i++) {
    if (!only_words && strcmp(argv[i], "--") == 0) {
      only_words = true;
    } else if (!only_words && argv[i][0] == '-' && argv[i][1] != '\0') {
      const msock_exit e = parse_flag(flags, n_flags, argc, argv, &i, help, why);
      if (e != MSOCK_EXIT_OK || *help) {
        return e;
      }
    } else if (words->n == MSOCK_FLAGS_WORDS_MAX) {
      return refuse(why, MSOCK_EXIT_USAGE, "too many words on the command line");
    } else {
      words->at[words->n++] = argv[i];
    }
  }
  return MSOCK_EXIT_OK;
}

void msock_flags_print(FILE *out, const msock_flag *flags, size_t n_flags) {
  static const char *const values[] = {"", " TEXT", " DURATION", " N", " N", ""};
  for (size_t i = 0; i < n_flags; i++) {
    char left[64];
    if (flags[i].help != NULL && flags[i].kind != MSOCK_FLAG_ABSENT) {
      snprintf(left, sizeof left, "%s%s%s", flags[i].name[1] ? "--" : "-", flags[i].name,
               values[flags[i].kind]);
      fprintf(out, "  %-26s %s\n", left, flags[i].help);
    }
  }
}
