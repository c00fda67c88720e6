/* What the schema writes: --check-config, --generate-config, changes, and where the file is. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/schema_internal.h"

#define COMMENT_WIDTH 96u /* columns of prose in a generated file */

char *msock_config_print(const msock_config *c) {
  msock_config_text t = {0};
  char origin[MSOCK_CONFIG_ORIGIN_MAX];
  for (size_t i = 0; i < c->schema->n_rows; i++) {
    const msock_config_row *row = &c->schema->rows[i];
    const msock_config_slot slot = msock_config_value_load(row, c->values);
    msock_config_text_add(&t, "%s = ", row->key);
    msock_config_value_print(row, &slot, &t);
    msock_config_text_add(&t, "   (%s)\n", msock_config_origin(c, row->key, origin));
  }
  return msock_config_text_take(&t);
}

size_t msock_config_diff(const msock_config *before, const msock_config *after,
                         const msock_config_row **changed, size_t cap) {
  size_t n = 0;
  for (size_t i = 0; i < before->schema->n_rows; i++) {
    const msock_config_row *row = &before->schema->rows[i];
    const msock_config_slot a = msock_config_value_load(row, before->values);
    const msock_config_slot b = msock_config_value_load(row, after->values);
    if (msock_config_value_equal(row, &a, &b)) {
      continue;
    }
    if (n < cap) {
      changed[n] = row;
    }
    n++;
  }
  return n;
}

/* -- the generated file ------------------------------------------------------------------------ */

static size_t indent_of(const char *key) {
  size_t n = 0;
  for (; *key != '\0'; key++) {
    n += *key == '.' ? 2 : 0;
  }
  return n;
}

/* Text as "# " lines, broken at blanks. */
static void add_prose(msock_config_text *t, size_t indent, const char *text) {
  const size_t width = COMMENT_WIDTH - indent - 2;
  while (*text != '\0') {
    size_t len = strlen(text);
    if (len > width) {
      for (len = width; len > 0 && text[len] != ' '; len--) {
      }
      len = len > 0 ? len : strcspn(text, " ");
    }
    msock_config_text_add(t, "%*s# %.*s\n", (int)indent, "", (int)len, text);
    text += len;
    text += strspn(text, " ");
  }
}

/* "#limits:" before the first key of a mapping. before: the key of the row above, or "". */
static void add_groups(msock_config_text *t, const char *before, const char *key) {
  size_t start = 0;
  for (const char *dot = strchr(key, '.'); dot; dot = strchr(dot + 1, '.')) {
    const size_t len = (size_t)(dot - key) + 1;
    if (strncmp(before, key, len) != 0) {
      char group[MSOCK_CONFIG_KEY_MAX];
      (void)snprintf(group, sizeof group, "%.*s", (int)(len - 1 - start), key + start);
      msock_config_text_add(t, "\n%*s#%s:\n", (int)(indent_of(key) - indent_of(dot)), "", group);
    }
    start = len;
  }
}

static void add_names(msock_config_text *t, const msock_config_schema *s,
                      const msock_config_row *row, size_t indent) {
  char variable[MSOCK_CONFIG_KEY_MAX * 2], flag[MSOCK_CONFIG_KEY_MAX];
  msock_config_text line = {0};
  msock_config_variable_name(s, row, variable);
  msock_config_flag_name(row, flag);
  msock_config_text_add(&line, "%s, --%s; %s", variable, flag,
                        row->reloadable ? "reloaded at SIGHUP" : "needs a restart");
  char *text = msock_config_text_take(&line);
  t->failed = t->failed || text == NULL;
  if (text) {
    add_prose(t, indent, text);
  }
  free(text);
}

/* Choices, range and example, where the default alone does not show the form. */
static void add_form(msock_config_text *t, const msock_config_row *row, size_t indent) {
  char form[MSOCK_CONFIG_WHY_MAX], example[MSOCK_CONFIG_WHY_MAX];
  const bool is_list = row->type == MSOCK_CONFIG_STRINGS || row->type == MSOCK_CONFIG_PREFIXES;
  if (row->type == MSOCK_CONFIG_ENUM || (!is_list && (row->min != 0 || row->max != 0))) {
    msock_config_value_expected(row, form); /* "expected one of a, b" */
    char *what = form + strlen("expected ");
    *what = (char)toupper((unsigned char)*what);
    add_prose(t, indent, what);
  }
  if (row->example) {
    (void)snprintf(example, sizeof example, "Example: %s", row->example);
    add_prose(t, indent, example);
  }
}

static void add_setting(msock_config_text *t, const msock_config *defaults,
                        const msock_config_row *row, size_t indent) {
  const msock_config_slot slot = msock_config_value_load(row, defaults->values);
  const char *leaf = strrchr(row->key, '.') ? strrchr(row->key, '.') + 1 : row->key;
  msock_config_text_add(t, "%*s#%s: ", (int)indent, "", leaf);
  if (row->type == MSOCK_CONFIG_SECRET) {
    msock_config_text_add(t, "\"\""); /* tables hold no secrets */
  } else {
    msock_config_value_print(row, &slot, t);
  }
  msock_config_text_add(t, "\n");
}

char *msock_config_generate(const msock_config_schema *s) {
  msock_config_text t = {0};
  msock_config *defaults = msock_config_new(s);
  const char *before = "";
  if (defaults == NULL) {
    return NULL;
  }
  msock_config_text_add(&t, "# %s: settings of %s, all at their defaults.\n", s->file_name,
                        s->program);
  add_prose(&t, 0,
            "Take the # away from a line to change it. Order: built-in, this file, environment, "
            "flag; the last one wins. --check-config shows each value with its origin.");
  for (size_t i = 0; i < s->n_rows; i++) {
    const msock_config_row *row = &s->rows[i];
    const size_t indent = indent_of(row->key);
    add_groups(&t, before, row->key);
    msock_config_text_add(&t, "\n");
    add_prose(&t, indent, row->sentence);
    add_form(&t, row, indent);
    add_names(&t, s, row, indent);
    add_setting(&t, defaults, row, indent);
    before = row->key;
  }
  msock_config_free(defaults);
  return msock_config_text_take(&t);
}

/* -- the file's place -------------------------------------------------------------------------- */

static const char *non_empty(const char *const *environment, const char *name) {
  const size_t len = strlen(name);
  for (size_t i = 0; environment && environment[i]; i++) {
    if (strncmp(environment[i], name, len) == 0 && environment[i][len] == '=' &&
        environment[i][len + 1] == '/') {
      return environment[i] + len + 1;
    }
  }
  return NULL;
}

char *msock_config_default_path(const msock_config_schema *s, const char *const *environment,
                                bool is_root) {
  msock_config_text t = {0};
  const char *xdg = non_empty(environment, "XDG_CONFIG_HOME"); /* absolute ones count alone */
  const char *home = non_empty(environment, "HOME");
  if (is_root) {
    msock_config_text_add(&t, "/etc/%s/%s", s->program, s->file_name);
  } else if (xdg) {
    msock_config_text_add(&t, "%s/%s/%s", xdg, s->program, s->file_name);
  } else if (home) {
    msock_config_text_add(&t, "%s/.config/%s/%s", home, s->program, s->file_name);
  }
  return msock_config_text_take(&t);
}

void msock_config_refuse(const msock_config *c, const char *key, const char *way_out,
                         const char *reason, msock_config_report *report) {
  char where[MSOCK_CONFIG_WHERE_MAX];
  msock_config_report_add(report, false, msock_config_origin_where(c, key, where), key, way_out,
                          "%s", reason);
}

void msock_config_report_unreadable(const msock_config_schema *s, msock_err err, const char *reason,
                                    msock_config_report *report) {
  char way[MSOCK_CONFIG_WHY_MAX] =
      "name another one with --config, or run as a user who may read it";
  if (err == MSOCK_ERR_UNKNOWN) {
    (void)snprintf(way, sizeof way, "make one with: %s --generate-config > %s", s->command,
                   s->file_name);
  }
  msock_config_report_add(report, false, "configuration", NULL, way, "%s", reason);
}
