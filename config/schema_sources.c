/* Variables and flags: the layers above the file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/schema_internal.h"

/* -- shared ------------------------------------------------------------------------------------ */

/* One text for a row, from a variable or flag of that name. alias may be NULL. */
static msock_err assign_text(msock_config *c, const msock_config_row *row,
                             const msock_config_alias *alias, const char *text,
                             const msock_config_origin_value *origin, msock_config_report *report) {
  const char *items[] = {text};
  bool on;
  if (alias && alias->when_true) {
    if (!msock_config_parse_bool(text, &on)) {
      char where[MSOCK_CONFIG_WHERE_MAX];
      (void)snprintf(where, sizeof where, "%s %s",
                     origin->layer == MSOCK_CONFIG_LAYER_FLAG ? "flag" : "environment",
                     origin->name);
      msock_config_report_add(report, false, where, row->key, NULL,
                              "expected true or false, found \"%.40s\"", text);
      return MSOCK_ERR_INVALID;
    }
    items[0] = on ? alias->when_true : alias->when_false;
  }
  const msock_config_assignment a = {
      .row = row, .input = {.items = items, .n = 1}, .origin = *origin};
  return msock_config_assign(c, &a, report);
}

static const msock_config_alias *find_alias(const msock_config_alias *aliases, size_t n,
                                            const char *name) {
  for (size_t i = 0; i < n; i++) {
    if (strcmp(aliases[i].name, name) == 0) {
      return &aliases[i];
    }
  }
  return NULL;
}

/* -- flags ------------------------------------------------------------------------------------- */

/* A list of flags while it is read. */
typedef struct flag_reader {
  const char *const *words;
  size_t n_words, at;
  msock_config_layer layer;
  const char *variable; /* that holds the list; NULL = the command line */
} flag_reader;

static void flag_where(const flag_reader *f, const char *name,
                       char buf[static MSOCK_CONFIG_WHERE_MAX]) {
  if (f->variable) {
    (void)snprintf(buf, MSOCK_CONFIG_WHERE_MAX, "environment %s --%s", f->variable, name);
  } else {
    (void)snprintf(buf, MSOCK_CONFIG_WHERE_MAX, "flag --%s", name);
  }
}

static const msock_config_row *row_of_flag(const msock_config_schema *s, const char *name) {
  char flag[MSOCK_CONFIG_KEY_MAX];
  for (size_t i = 0; i < s->n_rows; i++) {
    msock_config_flag_name(&s->rows[i], flag);
    if (strcmp(flag, name) == 0) {
      return &s->rows[i];
    }
  }
  return NULL;
}

static msock_err refuse_flag(const msock_config *c, const flag_reader *f, const char *name,
                             msock_config_report *report) {
  const msock_config_schema *s = c->schema;
  char where[MSOCK_CONFIG_WHERE_MAX], way[MSOCK_CONFIG_WHY_MAX], flag[MSOCK_CONFIG_KEY_MAX];
  size_t best = SIZE_MAX;
  (void)snprintf(way, sizeof way, "see all flags with %s --help", s->command);
  for (size_t i = 0; i < s->n_rows; i++) {
    const size_t d = msock_config_name_distance(name, s->rows[i].key);
    if (d < best) {
      best = d;
      msock_config_flag_name(&s->rows[i], flag);
      (void)snprintf(way, sizeof way, "did you mean --%s?", flag);
    }
  }
  flag_where(f, name, where);
  msock_config_report_add(report, false, where, NULL, way, "unknown flag");
  return MSOCK_ERR_INVALID;
}

/* The value of a flag: after "=", true for a switch, else the next word. NULL when there is none.
 */
static const char *flag_value(flag_reader *f, const char *after_equals, bool is_switch) {
  if (after_equals) {
    return after_equals;
  }
  if (is_switch) {
    return "true";
  }
  return f->at < f->n_words ? f->words[f->at++] : NULL;
}

/* One flag by its bare name; the reader stands behind its word. */
static msock_err apply_one_flag(msock_config *c, flag_reader *f, const char *name,
                                const char *after_equals, msock_config_report *report) {
  const msock_config_schema *s = c->schema;
  char where[MSOCK_CONFIG_WHERE_MAX];
  const msock_config_alias *alias = find_alias(s->flag_aliases, s->n_flag_aliases, name);
  const msock_config_row *row = alias && alias->key ? msock_config_find_row(s, alias->key)
                                : alias             ? NULL
                                                    : row_of_flag(s, name);
  if (alias == NULL && row == NULL) {
    return refuse_flag(c, f, name, report);
  }
  const bool is_switch =
      row ? row->type == MSOCK_CONFIG_BOOL || (alias && alias->when_true) : alias->is_switch;
  const char *value = flag_value(f, after_equals, is_switch);
  flag_where(f, name, where);
  if (value == NULL) {
    char way[MSOCK_CONFIG_WHY_MAX];
    way[0] = '\0';
    if (row) {
      msock_config_example(s, row, MSOCK_CONFIG_LAYER_FLAG, way);
    }
    msock_config_report_add(report, false, where, row ? row->key : NULL, way, "needs a value");
    return MSOCK_ERR_INVALID;
  }
  if (row == NULL) {
    if (alias->note) {
      msock_config_report_add(report, !alias->is_refused, where, NULL, NULL, "%s", alias->note);
    }
    return alias->is_refused ? MSOCK_ERR_INVALID : MSOCK_OK;
  }
  msock_config_origin_value origin = {.layer = f->layer};
  (void)snprintf(origin.name, sizeof origin.name, "%s%s--%s", f->variable ? f->variable : "",
                 f->variable ? " " : "", name);
  return assign_text(c, row, alias, value, &origin, report);
}

static msock_err apply_flag_list(msock_config *c, flag_reader *f, msock_config_report *report) {
  msock_err result = MSOCK_OK;
  while (f->at < f->n_words) {
    char name[MSOCK_CONFIG_KEY_MAX];
    const char *word = f->words[f->at++];
    const char *bare = word + (word[0] == '-') + (word[0] == '-' && word[1] == '-');
    const size_t len = strcspn(bare, "=");
    if (bare == word || len == 0) { /* the word is not repeated: it may be a stray secret */
      char where[MSOCK_CONFIG_WHERE_MAX];
      (void)snprintf(where, sizeof where, "%s%s, word %zu", f->variable ? "environment " : "",
                     f->variable ? f->variable : "flags", f->at);
      msock_config_report_add(report, false, where, NULL, "write --NAME=VALUE",
                              "a word that is neither a flag nor the value of one");
      result = MSOCK_ERR_INVALID;
      continue;
    }
    (void)snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name), bare);
    const msock_err err =
        apply_one_flag(c, f, name, bare[len] == '=' ? bare + len + 1 : NULL, report);
    result = err != MSOCK_OK ? err : result;
  }
  return result;
}

msock_err msock_config_apply_flags(msock_config *c, const char *const *words, size_t n_words,
                                   msock_config_report *report) {
  flag_reader f = {.words = words, .n_words = n_words, .layer = MSOCK_CONFIG_LAYER_FLAG};
  return apply_flag_list(c, &f, report);
}

/* -- flags in a variable ----------------------------------------------------------------------- */

/* Takes one word from *from as a POSIX shell would (2.2 Quoting), without any expansion, into *to,
 * which may be the same memory. False when a quote is not closed. */
static bool take_word(const char **from, char **to) {
  const char *p = *from;
  char *out = *to;
  char quote = '\0';
  for (; *p != '\0' && (quote || !strchr(" \t\r\n", *p)); p++) {
    if (quote == '\0' && (*p == '\'' || *p == '"')) {
      quote = *p;
    } else if (quote != '\0' && *p == quote) {
      quote = '\0';
    } else if (*p == '\\' && p[1] != '\0' && quote != '\'' &&
               (quote == '\0' || strchr("\"\\$`", p[1]))) {
      *out++ = *++p;
    } else {
      *out++ = *p;
    }
  }
  *out++ = '\0';
  *from = p;
  *to = out;
  return quote == '\0';
}

static msock_err apply_flag_variable(msock_config *c, const char *variable, const char *text,
                                     msock_config_report *report) {
  const char *words[MSOCK_CONFIG_FLAGS_MAX];
  char where[MSOCK_CONFIG_WHERE_MAX];
  size_t n = 0;
  bool ok = true;
  const size_t size = strlen(text) + 2; /* a word may end the text: room for its NUL */
  char *copy = calloc(1, size);
  char *to = copy;

  (void)snprintf(where, sizeof where, "environment %s", variable);
  if (copy == NULL) {
    msock_config_report_add(report, false, where, NULL, NULL, "not enough memory");
    return MSOCK_ERR_NOMEM;
  }
  for (text += strspn(text, " \t\r\n"); ok && *text != '\0'; text += strspn(text, " \t\r\n")) {
    if (n == MSOCK_CONFIG_FLAGS_MAX) {
      ok = false;
      break;
    }
    words[n++] = to;
    ok = take_word(&text, &to);
  }
  msock_err err = MSOCK_ERR_INVALID;
  if (ok) {
    flag_reader f = {.words = words,
                     .n_words = n,
                     .layer = MSOCK_CONFIG_LAYER_ENVIRONMENT,
                     .variable = variable};
    err = apply_flag_list(c, &f, report);
  } else {
    msock_config_report_add(report, false, where, NULL, "close it, or put a \\ before it",
                            "a quote that is not closed, or more than %u words",
                            MSOCK_CONFIG_FLAGS_MAX);
  }
  explicit_bzero(copy, size); /* may hold a key */
  free(copy);
  return err;
}

/* -- variables --------------------------------------------------------------------------------- */

/* NULL when it is absent or empty. */
static const char *variable_value(const char *const *environment, const char *name) {
  const size_t len = strlen(name);
  for (size_t i = 0; environment[i]; i++) {
    if (strncmp(environment[i], name, len) == 0 && environment[i][len] == '=') {
      return environment[i][len + 1] != '\0' ? environment[i] + len + 1 : NULL;
    }
  }
  return NULL;
}

static msock_err apply_alias(msock_config *c, const msock_config_alias *alias, const char *value,
                             msock_config_report *report) {
  msock_config_origin_value origin = {.layer = MSOCK_CONFIG_LAYER_ENVIRONMENT};
  if (alias->is_flags) {
    return apply_flag_variable(c, alias->name, value, report);
  }
  if (alias->key == NULL) {
    if (alias->note) {
      char where[MSOCK_CONFIG_WHERE_MAX];
      (void)snprintf(where, sizeof where, "environment %s", alias->name);
      msock_config_report_add(report, !alias->is_refused, where, NULL, NULL, "%s", alias->note);
    }
    return alias->is_refused ? MSOCK_ERR_INVALID : MSOCK_OK;
  }
  (void)snprintf(origin.name, sizeof origin.name, "%s", alias->name);
  return assign_text(c, msock_config_find_row(c->schema, alias->key), alias, value, &origin,
                     report);
}

/* Own names, after the aliases, which they overrule; a warning where both are set. */
static msock_err apply_own(msock_config *c, const msock_config_row *row, const char *value,
                           msock_config_report *report) {
  char name[MSOCK_CONFIG_KEY_MAX * 2], where[MSOCK_CONFIG_WHERE_MAX];
  msock_config_origin_value origin = {.layer = MSOCK_CONFIG_LAYER_ENVIRONMENT};
  const msock_config_origin_value *before = msock_config_origin_of(c, row);
  msock_config_variable_name(c->schema, row, name);
  (void)snprintf(origin.name, sizeof origin.name, "%.*s", (int)sizeof origin.name - 1, name);
  if (before->layer == MSOCK_CONFIG_LAYER_ENVIRONMENT && strcmp(before->name, origin.name) != 0) {
    (void)snprintf(where, sizeof where, "environment %s", before->name);
    msock_config_report_add(report, true, where, row->key, "unset one of the two",
                            "%s is set as well and is the one that counts", name);
  }
  return assign_text(c, row, NULL, value, &origin, report);
}

static bool is_known_variable(const msock_config_schema *s, const char *name, size_t len) {
  char own[MSOCK_CONFIG_KEY_MAX * 2];
  for (size_t i = 0; i < s->n_rows; i++) {
    msock_config_variable_name(s, &s->rows[i], own);
    if (strlen(own) == len && strncmp(own, name, len) == 0) {
      return true;
    }
  }
  for (size_t i = 0; i < s->n_env_aliases; i++) {
    if (strlen(s->env_aliases[i].name) == len && strncmp(s->env_aliases[i].name, name, len) == 0) {
      return true;
    }
  }
  return false;
}

/* A name that begins with the own prefix was meant for us: say when it does nothing. */
static void warn_unknown_variables(const msock_config_schema *s, const char *const *environment,
                                   msock_config_report *report) {
  const size_t prefix = strlen(s->env_prefix);
  for (size_t i = 0; environment[i]; i++) {
    char where[MSOCK_CONFIG_WHERE_MAX], way[MSOCK_CONFIG_WHY_MAX], own[MSOCK_CONFIG_KEY_MAX * 2];
    const size_t len = strcspn(environment[i], "=");
    if (strncmp(environment[i], s->env_prefix, prefix) != 0 ||
        is_known_variable(s, environment[i], len)) {
      continue;
    }
    (void)snprintf(where, sizeof where, "environment %.*s", (int)(len < 128 ? len : 128),
                   environment[i]);
    way[0] = '\0';
    size_t best = SIZE_MAX;
    for (size_t r = 0; r < s->n_rows; r++) {
      char bare[MSOCK_CONFIG_KEY_MAX];
      (void)snprintf(bare, sizeof bare, "%.*s", (int)(len - prefix < 63 ? len - prefix : 63),
                     environment[i] + prefix);
      const size_t d = msock_config_name_distance(bare, s->rows[r].key);
      if (d < best) {
        best = d;
        msock_config_variable_name(s, &s->rows[r], own);
        (void)snprintf(way, sizeof way, "did you mean %s?", own);
      }
    }
    msock_config_report_add(report, true, where, NULL, way, "no setting has this name");
  }
}

msock_err msock_config_apply_environment(msock_config *c, const char *const *environment,
                                         msock_config_report *report) {
  const msock_config_schema *s = c->schema;
  msock_err result = MSOCK_OK;
  for (int pass = 0; pass < 2; pass++) { /* later ones overrule: lists of flags, then aliases */
    for (size_t i = s->n_env_aliases; i > 0; i--) {
      const msock_config_alias *alias = &s->env_aliases[i - 1];
      const char *value = variable_value(environment, alias->name);
      if (value == NULL || alias->is_flags != (pass == 0)) {
        continue;
      }
      const msock_err err = apply_alias(c, alias, value, report);
      result = err != MSOCK_OK ? err : result;
    }
  }
  for (size_t i = 0; i < s->n_rows; i++) {
    char name[MSOCK_CONFIG_KEY_MAX * 2];
    msock_config_variable_name(s, &s->rows[i], name);
    const char *value = variable_value(environment, name);
    if (value == NULL) {
      continue;
    }
    const msock_err err = apply_own(c, &s->rows[i], value, report);
    result = err != MSOCK_OK ? err : result;
  }
  warn_unknown_variables(s, environment, report);
  return result;
}
