#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/schema_internal.h"

#define EDITS_MAX 3u /* typing mistakes that a suggestion may mend: ours */

/* -- life -------------------------------------------------------------------------------------- */

/* Puts a text into a row without asking for the rank. */
static bool set_text(msock_config *c, const msock_config_row *row, const char *text) {
  char why[MSOCK_CONFIG_WHY_MAX];
  size_t bad_item;
  msock_config_slot slot;
  const char *const items[] = {text};
  if (!msock_config_value_parse(row, &(msock_config_input){.items = items, .n = 1}, &slot, why,
                                &bad_item)) {
    return false;
  }
  msock_config_value_store(row, c->values, slot);
  return true;
}

/* A type without an empty text (numbers, choices, bools) starts as zero without a default. */
static bool set_default(msock_config *c, const msock_config_row *row) {
  const bool has_empty = row->type == MSOCK_CONFIG_STRING || row->type == MSOCK_CONFIG_SECRET ||
                         row->type == MSOCK_CONFIG_SECRET_FILE;
  if (row->default_text == NULL && !has_empty) {
    msock_config_slot zero;
    memset(&zero, 0, sizeof zero);
    msock_config_value_store(row, c->values, zero);
    return true;
  }
  return set_text(c, row, row->default_text ? row->default_text : "");
}

msock_config *msock_config_new(const msock_config_schema *s) {
  msock_config *c = calloc(1, sizeof *c);
  assert(s->n_rows <= MSOCK_CONFIG_ROWS_MAX);
  if (c == NULL) {
    return NULL;
  }
  c->schema = s;
  c->values = calloc(1, s->size);
  c->origins = calloc(s->n_rows, sizeof *c->origins);
  if (c->values == NULL || c->origins == NULL) {
    msock_config_free(c);
    return NULL;
  }
  for (size_t i = 0; i < s->n_rows; i++) {
    if (!set_default(c, &s->rows[i])) { /* the tables' tests load every default */
      msock_config_free(c);
      return NULL;
    }
  }
  return c;
}

void msock_config_free(msock_config *c) {
  if (c == NULL) {
    return;
  }
  for (size_t i = 0; c->values && i < c->schema->n_rows; i++) {
    msock_config_slot slot = msock_config_value_load(&c->schema->rows[i], c->values);
    msock_config_value_clear(&c->schema->rows[i], &slot);
  }
  free(c->values);
  free(c->origins);
  free(c->file_name);
  free(c);
}

const void *msock_config_values(const msock_config *c) {
  return c->values;
}

const msock_config_row *msock_config_find_row(const msock_config_schema *s, const char *key) {
  for (size_t i = 0; i < s->n_rows; i++) {
    if (strcmp(s->rows[i].key, key) == 0) {
      return &s->rows[i];
    }
  }
  return NULL;
}

msock_config_origin_value *msock_config_origin_of(const msock_config *c,
                                                  const msock_config_row *row) {
  return &c->origins[row - c->schema->rows];
}

/* -- names ------------------------------------------------------------------------------------- */

void msock_config_variable_name(const msock_config_schema *s, const msock_config_row *row,
                                char buf[static MSOCK_CONFIG_KEY_MAX * 2]) {
  (void)snprintf(buf, MSOCK_CONFIG_KEY_MAX * 2, "%s%s", s->env_prefix, row->key);
  for (char *p = buf; *p != '\0'; p++) {
    *p = *p == '.' ? '_' : (char)toupper((unsigned char)*p);
  }
}

void msock_config_flag_name(const msock_config_row *row, char buf[static MSOCK_CONFIG_KEY_MAX]) {
  (void)snprintf(buf, MSOCK_CONFIG_KEY_MAX, "%s", row->key);
  for (char *p = buf; *p != '\0'; p++) {
    *p = *p == '.' || *p == '_' ? '-' : *p;
  }
}

static void fold_name(const char *name, char buf[static MSOCK_CONFIG_KEY_MAX]) {
  size_t n = 0;
  for (; *name != '\0' && n + 1 < MSOCK_CONFIG_KEY_MAX; name++) {
    if (isalnum((unsigned char)*name)) {
      buf[n++] = (char)tolower((unsigned char)*name);
    }
  }
  buf[n] = '\0';
}

size_t msock_config_name_distance(const char *a, const char *b) {
  char x[MSOCK_CONFIG_KEY_MAX], y[MSOCK_CONFIG_KEY_MAX];
  size_t row[MSOCK_CONFIG_KEY_MAX];
  fold_name(a, x);
  fold_name(b, y);
  const size_t nx = strlen(x), ny = strlen(y);
  for (size_t j = 0; j <= ny; j++) {
    row[j] = j;
  }
  for (size_t i = 1; i <= nx; i++) { /* edit distance, one row of the matrix at a time */
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= ny; j++) {
      const size_t replace = diagonal + (x[i - 1] == y[j - 1] ? 0 : 1);
      const size_t shorter = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
      diagonal = row[j];
      row[j] = replace < shorter ? replace : shorter;
    }
  }
  const size_t longer = nx > ny ? nx : ny;
  return row[ny] <= EDITS_MAX && row[ny] * 2 <= longer ? row[ny] : SIZE_MAX;
}

/* -- one value --------------------------------------------------------------------------------- */

static void list_example(const char *text, char *buf, size_t cap) {
  (void)snprintf(buf, cap, "[%s]", text);
}

void msock_config_example(const msock_config_schema *s, const msock_config_row *row,
                          msock_config_layer layer, char buf[static MSOCK_CONFIG_WHY_MAX]) {
  char name[MSOCK_CONFIG_KEY_MAX * 2], value[MSOCK_CONFIG_WHY_MAX / 3];
  const char *example = row->example ? row->example : row->default_text;
  const char *leaf = strrchr(row->key, '.') ? strrchr(row->key, '.') + 1 : row->key;
  if (example == NULL || *example == '\0') {
    buf[0] = '\0';
    return;
  }
  (void)snprintf(value, sizeof value, "%s", example);
  if (layer == MSOCK_CONFIG_LAYER_ENVIRONMENT) {
    msock_config_variable_name(s, row, name);
    (void)snprintf(buf, MSOCK_CONFIG_WHY_MAX, "for example: %s=%s", name, value);
  } else if (layer == MSOCK_CONFIG_LAYER_FLAG) {
    msock_config_flag_name(row, name);
    (void)snprintf(buf, MSOCK_CONFIG_WHY_MAX, "for example: --%s=%s", name, value);
  } else {
    if (row->type == MSOCK_CONFIG_STRINGS || row->type == MSOCK_CONFIG_PREFIXES) {
      list_example(example, value, sizeof value);
    }
    (void)snprintf(buf, MSOCK_CONFIG_WHY_MAX, "for example: %s: %s", leaf, value);
  }
}

static void origin_text(const msock_config *c, const msock_config_origin_value *o, char *buf,
                        size_t cap) {
  switch (o->layer) {
  case MSOCK_CONFIG_LAYER_DEFAULT:
    (void)snprintf(buf, cap, "default");
    return;
  case MSOCK_CONFIG_LAYER_IMPLIED:
    (void)snprintf(buf, cap, "%s", o->name);
    return;
  case MSOCK_CONFIG_LAYER_FILE:
    (void)snprintf(buf, cap, "%s:%u:%u", c->file_name, o->line, o->column);
    return;
  case MSOCK_CONFIG_LAYER_ENVIRONMENT:
    (void)snprintf(buf, cap, "environment %s", o->name);
    return;
  case MSOCK_CONFIG_LAYER_FLAG:
    (void)snprintf(buf, cap, "flag %s", o->name);
    return;
  }
}

/* Where to point: the value or the item in a file, else the variable or flag. */
static void assignment_where(const msock_config *c, const msock_config_assignment *a,
                             size_t bad_item, char where[static MSOCK_CONFIG_WHERE_MAX]) {
  const msock_document_node *n = a->doc_node;
  if (n == NULL) {
    origin_text(c, &a->origin, where, MSOCK_CONFIG_WHERE_MAX);
    return;
  }
  if (bad_item != SIZE_MAX && n->kind == MSOCK_DOCUMENT_SEQUENCE) {
    n = n->first;
    for (; bad_item > 0; bad_item--) {
      n = n->next;
    }
  }
  msock_document_where(a->doc, n, where);
}

/* In another file form the setting goes by another name. */
static void field_of_other_form(const msock_config_assignment *a, size_t bad_item,
                                char field[static MSOCK_CONFIG_FIELD_MAX],
                                char way[static MSOCK_CONFIG_WHY_MAX]) {
  const char *example = a->row->example ? a->row->example : "";
  (void)snprintf(field, MSOCK_CONFIG_FIELD_MAX, "%.64s", a->doc_node->key);
  if (bad_item != SIZE_MAX) {
    (void)snprintf(field + strlen(field), MSOCK_CONFIG_FIELD_MAX - strlen(field), "[%zu]",
                   bad_item);
  }
  (void)snprintf(way, MSOCK_CONFIG_WHY_MAX, "%s%.200s", *example ? "for example: " : "", example);
}

static void refuse_value(const msock_config *c, const msock_config_assignment *a, size_t bad_item,
                         const char *why, msock_config_report *report) {
  const msock_config_row *row = a->row;
  char where[MSOCK_CONFIG_WHERE_MAX], field[MSOCK_CONFIG_FIELD_MAX], way[MSOCK_CONFIG_WHY_MAX];

  assignment_where(c, a, bad_item, where);
  if (bad_item == SIZE_MAX) {
    (void)snprintf(field, sizeof field, "%s", row->key);
  } else {
    (void)snprintf(field, sizeof field, "%s[%zu]", row->key, bad_item);
  }
  const char *leaf = strrchr(row->key, '.') ? strrchr(row->key, '.') + 1 : row->key;
  if (a->doc_node && a->doc_node->key && strcmp(a->doc_node->key, leaf) != 0) {
    field_of_other_form(a, bad_item, field, way);
  } else if (row->type == MSOCK_CONFIG_SECRET && row->secret_file_key) {
    (void)snprintf(way, sizeof way, "put the real one there, or name a file that holds it: %s",
                   row->secret_file_key);
  } else {
    msock_config_example(c->schema, row, a->origin.layer, way);
  }
  msock_config_report_add(report, false, where, field, way, "%s", why);
}

/* "file:PATH" where a secret is wanted sets the row of the path. */
static bool redirect_to_file(const msock_config *c, msock_config_assignment *a, const char **path) {
  if (a->row->type != MSOCK_CONFIG_SECRET || a->row->secret_file_key == NULL || a->input.is_list ||
      strncmp(a->input.items[0], "file:", 5) != 0) {
    return false;
  }
  *path = a->input.items[0] + 5;
  a->row = msock_config_find_row(c->schema, a->row->secret_file_key);
  a->input.items = path;
  return true;
}

msock_err msock_config_assign(msock_config *c, const msock_config_assignment *given,
                              msock_config_report *report) {
  char why[MSOCK_CONFIG_WHY_MAX];
  size_t bad_item = SIZE_MAX;
  msock_config_slot slot;
  const char *path;
  msock_config_assignment a = *given;

  if (redirect_to_file(c, &a, &path) && *path == '\0') {
    a.row = given->row;
    refuse_value(c, &a, SIZE_MAX, "\"file:\" without a path", report);
    return MSOCK_ERR_INVALID;
  }
  if (!msock_config_value_parse(a.row, &a.input, &slot, why, &bad_item)) {
    refuse_value(c, &a, bad_item, why, report);
    return MSOCK_ERR_INVALID;
  }
  msock_config_origin_value *origin = msock_config_origin_of(c, a.row);
  if (a.origin.layer < origin->layer) {
    msock_config_value_clear(a.row, &slot);
    return MSOCK_OK;
  }
  msock_config_value_store(a.row, c->values, slot);
  *origin = a.origin;
  return MSOCK_OK;
}

msock_err msock_config_imply(msock_config *c, const char *key, const char *text,
                             const char *because) {
  const msock_config_row *row = msock_config_find_row(c->schema, key);
  assert(row);
  return msock_config_origin_of(c, row)->layer > MSOCK_CONFIG_LAYER_IMPLIED
             ? MSOCK_OK
             : msock_config_override(c, key, text, because);
}

msock_err msock_config_override(msock_config *c, const char *key, const char *text,
                                const char *because) {
  const msock_config_row *row = msock_config_find_row(c->schema, key);
  assert(row);
  msock_config_origin_value *origin = msock_config_origin_of(c, row);
  if (!set_text(c, row, text)) {
    return MSOCK_ERR_INVALID;
  }
  *origin = (msock_config_origin_value){.layer = MSOCK_CONFIG_LAYER_IMPLIED};
  (void)snprintf(origin->name, sizeof origin->name, "%s", because);
  return MSOCK_OK;
}

/* -- documents --------------------------------------------------------------------------------- */

/* Nearest key that begins with prefix ("" or "limits."); NULL when none is near. */
static const char *nearest_key(const msock_config_schema *s, const char *path) {
  const char *best = NULL;
  size_t best_distance = SIZE_MAX;
  for (size_t i = 0; i < s->n_rows; i++) {
    const size_t d = msock_config_name_distance(path, s->rows[i].key);
    if (d < best_distance) {
      best = s->rows[i].key;
      best_distance = d;
    }
  }
  return best;
}

static void refuse_key(const msock_config *c, const msock_document *d, const msock_document_node *n,
                       const char *path, msock_config_report *report) {
  char where[MSOCK_CONFIG_WHERE_MAX], way[MSOCK_CONFIG_WHY_MAX];
  const char *near = nearest_key(c->schema, path);
  if (near) {
    (void)snprintf(way, sizeof way, "did you mean %s?", near);
  } else {
    (void)snprintf(way, sizeof way, "remove it, or see all keys with %s --generate-config",
                   c->schema->command);
  }
  msock_config_report_add(report, false, msock_document_key_where(d, n, where), path, way,
                          "unknown key");
}

/* True when rows stand below this path. */
static bool is_group(const msock_config_schema *s, const char *path) {
  const size_t len = strlen(path);
  for (size_t i = 0; i < s->n_rows; i++) {
    if (strncmp(s->rows[i].key, path, len) == 0 && s->rows[i].key[len] == '.') {
      return true;
    }
  }
  return false;
}

/* The texts of a sequence of scalars, allocated; NULL with a problem when it holds other things. */
static const char **sequence_items(const msock_config *c, const msock_config_assignment *a,
                                   msock_config_report *report, msock_err *err) {
  const msock_document_node *n = a->doc_node;
  const char **items = calloc(n->n_children + 1, sizeof *items);
  size_t i = 0;
  *err = MSOCK_ERR_NOMEM;
  if (items == NULL) {
    refuse_value(c, a, SIZE_MAX, "not enough memory", report);
  }
  for (const msock_document_node *item = n->first; items && item; item = item->next, i++) {
    if (item->kind != MSOCK_DOCUMENT_SCALAR || msock_document_is_null(item)) {
      refuse_value(c, a, i, "expected a text, found a list, a mapping or nothing", report);
      *err = MSOCK_ERR_INVALID;
      free(items);
      return NULL;
    }
    items[i] = item->text;
  }
  return items;
}

static msock_err assign_node(msock_config *c, const msock_config_row *row, const msock_document *d,
                             const msock_document_node *n, msock_config_report *report) {
  msock_config_assignment a = {
      .row = row,
      .doc = d,
      .doc_node = n,
      .origin = {.layer = MSOCK_CONFIG_LAYER_FILE, .line = n->key_line, .column = n->key_column}};
  msock_err err;
  if (msock_document_is_null(n)) {
    return MSOCK_OK;
  }
  if (n->kind == MSOCK_DOCUMENT_MAPPING) {
    char why[MSOCK_CONFIG_WHY_MAX];
    msock_config_value_expected(row, why);
    const size_t len = strlen(why);
    (void)snprintf(why + len, sizeof why - len, ", found a mapping");
    refuse_value(c, &a, SIZE_MAX, why, report);
    return MSOCK_ERR_INVALID;
  }
  if (n->kind == MSOCK_DOCUMENT_SCALAR) {
    const char *const items[] = {n->text};
    a.input = (msock_config_input){.items = items, .n = 1};
    return msock_config_assign(c, &a, report);
  }
  const char **items = sequence_items(c, &a, report, &err);
  if (items == NULL) {
    return err;
  }
  a.input = (msock_config_input){.items = items, .n = n->n_children, .is_list = true};
  err = msock_config_assign(c, &a, report);
  free(items);
  return err;
}

/* Depth is bounded by the reader. */
static msock_err apply_mapping(msock_config *c, const msock_document *d,
                               const msock_document_node *mapping, const char *prefix,
                               msock_config_report *report) {
  msock_err result = MSOCK_OK;
  for (const msock_document_node *n = mapping->first; n; n = n->next) {
    char path[MSOCK_CONFIG_FIELD_MAX], where[MSOCK_CONFIG_WHERE_MAX];
    msock_err err = MSOCK_OK;
    (void)snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] ? "." : "", n->key);
    const msock_config_row *row =
        strchr(n->key, '.') ? NULL : msock_config_find_row(c->schema, path);
    const bool group = row == NULL && !strchr(n->key, '.') && is_group(c->schema, path);
    if (row) {
      err = assign_node(c, row, d, n, report);
    } else if (group && n->kind == MSOCK_DOCUMENT_MAPPING) {
      err = apply_mapping(c, d, n, path, report);
    } else if (group && !msock_document_is_null(n)) {
      msock_config_report_add(report, false, msock_document_where(d, n, where), path,
                              "put its settings on indented lines below it",
                              "expected a mapping of settings");
      err = MSOCK_ERR_INVALID;
    } else if (!group) {
      refuse_key(c, d, n, path, report);
      err = MSOCK_ERR_INVALID;
    }
    result = err != MSOCK_OK ? err : result;
  }
  return result;
}

/* The name of the file is needed as long as origins point into it. */
static msock_err keep_file_name(msock_config *c, const msock_document *d,
                                msock_config_report *report) {
  char *name = strdup(msock_document_file_name(d));
  if (name == NULL) {
    msock_config_report_add(report, false, msock_document_file_name(d), NULL, NULL,
                            "not enough memory");
    return MSOCK_ERR_NOMEM;
  }
  free(c->file_name);
  c->file_name = name;
  return MSOCK_OK;
}

msock_err msock_config_apply_document(msock_config *c, const msock_document *d,
                                      msock_config_report *report) {
  char where[MSOCK_CONFIG_WHERE_MAX];
  const msock_document_node *root = msock_document_root(d);
  const msock_err err = keep_file_name(c, d, report);
  if (err != MSOCK_OK || msock_document_is_null(root)) {
    return err;
  }
  if (root->kind != MSOCK_DOCUMENT_MAPPING) {
    msock_config_report_add(report, false, msock_document_where(d, root, where), NULL,
                            "write KEY: VALUE on each line, with a blank after the colon",
                            "expected a mapping of settings, found %s",
                            root->kind == MSOCK_DOCUMENT_SEQUENCE ? "a list" : "a text");
    return MSOCK_ERR_INVALID;
  }
  return apply_mapping(c, d, root, "", report);
}

msock_err msock_config_apply_node(msock_config *c, const char *key, const msock_document *d,
                                  const msock_document_node *n, msock_config_report *report) {
  const msock_config_row *row = msock_config_find_row(c->schema, key);
  assert(row);
  const msock_err err = keep_file_name(c, d, report);
  return err == MSOCK_OK ? assign_node(c, row, d, n, report) : err;
}

/* -- secrets ----------------------------------------------------------------------------------- */

static void reset(msock_config *c, const msock_config_row *row) {
  if (set_default(c, row)) {
    *msock_config_origin_of(c, row) = (msock_config_origin_value){0};
  }
}

msock_err msock_config_finish(msock_config *c, msock_config_report *report) {
  msock_err result = MSOCK_OK;
  for (size_t i = 0; i < c->schema->n_rows; i++) {
    const msock_config_row *row = &c->schema->rows[i];
    if (row->type != MSOCK_CONFIG_SECRET || row->secret_file_key == NULL) {
      continue;
    }
    const msock_config_row *file_row = msock_config_find_row(c->schema, row->secret_file_key);
    const msock_config_slot secret = msock_config_value_load(row, c->values);
    const msock_config_slot path = msock_config_value_load(file_row, c->values);
    if (msock_config_value_is_unset(row, &secret) || msock_config_value_is_unset(file_row, &path)) {
      continue;
    }
    const msock_config_layer layer = msock_config_origin_of(c, row)->layer;
    const msock_config_layer file_layer = msock_config_origin_of(c, file_row)->layer;
    if (layer == file_layer) {
      char where[MSOCK_CONFIG_WHERE_MAX];
      msock_config_report_add(report, false, msock_config_origin_where(c, file_row->key, where),
                              file_row->key, "keep one of the two", "%s is given as well",
                              row->key);
      result = MSOCK_ERR_INVALID;
    } else {
      reset(c, layer < file_layer ? row : file_row);
    }
  }
  return result;
}

char *msock_config_secret_from_file(const msock_config_schema *s, const char *key,
                                    const char *file_name, const uint8_t *bytes, size_t len,
                                    msock_config_report *report) {
  const msock_config_row *row = msock_config_find_row(s, key);
  const char *text = (const char *)bytes;
  char why[MSOCK_CONFIG_WHY_MAX];
  size_t bad_item, begin = 0;
  assert(row && row->type == MSOCK_CONFIG_SECRET);

  const char *newline = len > 0 ? memchr(text, '\n', len) : NULL;
  size_t end = newline ? (size_t)(newline - text) : len;
  while (end > begin && isspace((unsigned char)text[end - 1])) {
    end--;
  }
  while (begin < end && isspace((unsigned char)text[begin])) {
    begin++;
  }
  msock_config_slot slot = {.text = NULL};
  char *copy = end - begin < MSOCK_CONFIG_TEXT_MAX ? calloc(1, end - begin + 1) : NULL;
  if (begin == end || copy == NULL || memchr(text + begin, '\0', end - begin)) {
    (void)snprintf(why, sizeof why, "its first line is %s",
                   begin == end ? "empty" : "too long or not a text");
  } else {
    memcpy(copy, text + begin, end - begin);
    const char *const items[] = {copy};
    if (msock_config_value_parse(row, &(msock_config_input){.items = items, .n = 1}, &slot, why,
                                 &bad_item)) {
      why[0] = '\0';
    }
  }
  msock_config_free_secret(copy);
  if (slot.text == NULL) {
    msock_config_report_add(report, false, file_name, key,
                            "the secret stands alone on the first line of that file", "%s", why);
  }
  return slot.text;
}

/* -- origins ----------------------------------------------------------------------------------- */

char *msock_config_origin(const msock_config *c, const char *key,
                          char buf[static MSOCK_CONFIG_ORIGIN_MAX]) {
  const msock_config_row *row = msock_config_find_row(c->schema, key);
  assert(row);
  const msock_config_origin_value *o = msock_config_origin_of(c, row);
  const char *word = o->layer == MSOCK_CONFIG_LAYER_FILE ? "file " : "";
  const size_t len = strlen(word);
  memcpy(buf, word, len + 1);
  origin_text(c, o, buf + len, MSOCK_CONFIG_ORIGIN_MAX - len);
  return buf;
}

char *msock_config_origin_where(const msock_config *c, const char *key,
                                char buf[static MSOCK_CONFIG_WHERE_MAX]) {
  const msock_config_row *row = msock_config_find_row(c->schema, key);
  assert(row);
  origin_text(c, msock_config_origin_of(c, row), buf, MSOCK_CONFIG_WHERE_MAX);
  return buf;
}

bool msock_config_is_default(const msock_config *c, const char *key) {
  const msock_config_row *row = msock_config_find_row(c->schema, key);
  assert(row);
  return msock_config_origin_of(c, row)->layer == MSOCK_CONFIG_LAYER_DEFAULT;
}
