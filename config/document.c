#include "config/document.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* A node with its texts behind it, in one allocation. */
typedef struct owned_node {
  msock_document_node node;
  struct owned_node *next_owned;
  size_t texts_len;
  char texts[]; /* value NUL key NUL */
} owned_node;

struct msock_document {
  char *file_name;
  owned_node *owned; /* newest first */
  size_t n_nodes;
  const msock_document_node *root;
};

/* An open sequence or mapping while the events come in. */
typedef struct open_node {
  msock_document_node *node;
  msock_document_node *last; /* newest child */
  char *key;                 /* mapping: key whose value is still to come, allocated */
  uint32_t key_line, key_column;
} open_node;

typedef struct builder {
  msock_document *d;
  msock_config_report *report;
  const char *text; /* the document, NUL-terminated, for hints */
  open_node open[MSOCK_DOCUMENT_DEPTH_MAX];
  size_t depth;
} builder;

/* -- refusals ---------------------------------------------------------------------------------- */

static msock_err refuse(const builder *b, yaml_mark_t at, const char *field, const char *way_out,
                        const char *reason) {
  char where[MSOCK_CONFIG_WHERE_MAX];
  (void)snprintf(where, sizeof where, "%s:%zu:%zu", b->d->file_name, at.line + 1, at.column + 1);
  msock_config_report_add(b->report, false, where, field, way_out, "%s", reason);
  return MSOCK_ERR_INVALID;
}

static void refuse_memory(const char *file_name, msock_config_report *report) {
  msock_config_report_add(report, false, file_name, NULL, NULL, "not enough memory to read it");
}

static bool line_is_indented_by_tab(const char *text, size_t line) {
  for (; line > 0; line--) {
    text = strchr(text, '\n');
    if (text == NULL) {
      return false;
    }
    text++;
  }
  return text[strspn(text, " ")] == '\t';
}

static const char *syntax_way_out(const builder *b, const yaml_parser_t *p) {
  if (line_is_indented_by_tab(b->text, p->problem_mark.line)) {
    return "indent with spaces, not with tabs";
  }
  if (p->problem != NULL && strstr(p->problem, "mapping values") != NULL) {
    return "write KEY: VALUE, one on each line, and put a value that holds \": \" in quotes";
  }
  return "check the quotes, brackets and indentation here and on the line above";
}

static msock_err refuse_syntax(const builder *b, const yaml_parser_t *p) {
  if (p->error == YAML_MEMORY_ERROR) {
    refuse_memory(b->d->file_name, b->report);
    return MSOCK_ERR_NOMEM;
  }
  if (p->error == YAML_READER_ERROR) { /* has an offset, but no line */
    yaml_mark_t at = {0};
    for (const char *c = b->text; *c != '\0' && (size_t)(c - b->text) < p->problem_offset; c++) {
      at.line += *c == '\n' ? 1 : 0;
      at.column = *c == '\n' ? 0 : at.column + 1;
    }
    return refuse(b, at, NULL, "save the file as UTF-8 text", p->problem);
  }
  return refuse(b, p->problem_mark, NULL, syntax_way_out(b, p),
                p->problem ? p->problem : "not a YAML or JSON document");
}

/* -- the tree ---------------------------------------------------------------------------------- */

static msock_document_node *add_node(builder *b, msock_document_kind kind, yaml_mark_t at,
                                     const char *text, size_t len) {
  open_node *parent = b->depth > 0 ? &b->open[b->depth - 1] : NULL;
  const size_t key_len = parent && parent->key ? strlen(parent->key) : 0;
  const size_t texts_len = len + 1 + key_len + 1;
  owned_node *o = calloc(1, sizeof *o + texts_len);
  if (o == NULL) {
    return NULL;
  }
  o->texts_len = texts_len;
  o->next_owned = b->d->owned;
  b->d->owned = o;
  b->d->n_nodes++;
  if (len > 0) {
    memcpy(o->texts, text, len);
  }

  msock_document_node *n = &o->node;
  n->kind = kind;
  n->line = (uint32_t)at.line + 1;
  n->column = (uint32_t)at.column + 1;
  n->text = o->texts;
  if (parent == NULL) {
    b->d->root = n;
    return n;
  }
  if (parent->key) {
    memcpy(o->texts + len + 1, parent->key, key_len);
    n->key = o->texts + len + 1;
    n->key_line = parent->key_line;
    n->key_column = parent->key_column;
    free(parent->key);
    parent->key = NULL;
  }
  if (parent->last) {
    parent->last->next = n;
  } else {
    parent->node->first = n;
  }
  parent->last = n;
  parent->node->n_children++;
  return n;
}

static bool wants_key(const builder *b) {
  return b->depth > 0 && b->open[b->depth - 1].node->kind == MSOCK_DOCUMENT_MAPPING &&
         b->open[b->depth - 1].key == NULL;
}

static msock_err take_key(builder *b, yaml_mark_t at, const char *text, size_t len) {
  open_node *parent = &b->open[b->depth - 1];
  const msock_document_node *twin = msock_document_find(parent->node, text);
  if (twin) {
    char reason[MSOCK_CONFIG_WHY_MAX];
    (void)snprintf(reason, sizeof reason, "written twice, first on line %u", twin->key_line);
    return refuse(b, at, text, "keep one of the two", reason);
  }
  if (parent->node->n_children >= MSOCK_DOCUMENT_KEYS_MAX) {
    return refuse(b, at, NULL, NULL, "more than 1024 keys in one mapping");
  }
  parent->key = calloc(1, len + 1);
  if (parent->key == NULL) {
    refuse_memory(b->d->file_name, b->report);
    return MSOCK_ERR_NOMEM;
  }
  memcpy(parent->key, text, len);
  parent->key_line = (uint32_t)at.line + 1;
  parent->key_column = (uint32_t)at.column + 1;
  return MSOCK_OK;
}

static msock_err on_scalar(builder *b, const yaml_event_t *e) {
  const char *text = (const char *)e->data.scalar.value;
  const size_t len = e->data.scalar.length;
  if (memchr(text, '\0', len) != NULL) {
    return refuse(b, e->start_mark, NULL, "remove it", "a zero byte inside a text");
  }
  if (wants_key(b)) {
    return take_key(b, e->start_mark, text, len);
  }
  msock_document_node *n = add_node(b, MSOCK_DOCUMENT_SCALAR, e->start_mark, text, len);
  if (n == NULL) {
    refuse_memory(b->d->file_name, b->report);
    return MSOCK_ERR_NOMEM;
  }
  n->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
  return MSOCK_OK;
}

static msock_err on_open(builder *b, const yaml_event_t *e, msock_document_kind kind) {
  if (wants_key(b)) {
    return refuse(b, e->start_mark, NULL, "write a plain word as the key",
                  "a key that is not text");
  }
  if (b->depth == MSOCK_DOCUMENT_DEPTH_MAX) {
    return refuse(b, e->start_mark, NULL, NULL, "nested more than 32 levels deep");
  }
  msock_document_node *n = add_node(b, kind, e->start_mark, NULL, 0);
  if (n == NULL) {
    refuse_memory(b->d->file_name, b->report);
    return MSOCK_ERR_NOMEM;
  }
  b->open[b->depth++] = (open_node){.node = n};
  return MSOCK_OK;
}

/* Anchors, aliases and tags: a configuration that needs them is one that nobody can read. */
static bool is_decorated(const yaml_event_t *e) {
  switch (e->type) {
  case YAML_ALIAS_EVENT:
    return true;
  case YAML_SCALAR_EVENT:
    return e->data.scalar.anchor || e->data.scalar.tag;
  case YAML_SEQUENCE_START_EVENT:
    return e->data.sequence_start.anchor || e->data.sequence_start.tag;
  case YAML_MAPPING_START_EVENT:
    return e->data.mapping_start.anchor || e->data.mapping_start.tag;
  default:
    return false;
  }
}

static msock_err on_event(builder *b, const yaml_event_t *e) {
  if (is_decorated(e)) {
    return refuse(b, e->start_mark, NULL,
                  "write the value out, and put a text that begins with &, * or ! in quotes",
                  "anchors, aliases and tags are not read");
  }
  const bool adds = e->type == YAML_SCALAR_EVENT || e->type == YAML_SEQUENCE_START_EVENT ||
                    e->type == YAML_MAPPING_START_EVENT;
  if (adds && b->d->n_nodes >= MSOCK_DOCUMENT_NODES_MAX) {
    return refuse(b, e->start_mark, NULL, NULL, "more than 65536 values in one document");
  }
  switch (e->type) {
  case YAML_SCALAR_EVENT:
    return on_scalar(b, e);
  case YAML_SEQUENCE_START_EVENT:
    return on_open(b, e, MSOCK_DOCUMENT_SEQUENCE);
  case YAML_MAPPING_START_EVENT:
    return on_open(b, e, MSOCK_DOCUMENT_MAPPING);
  case YAML_SEQUENCE_END_EVENT:
  case YAML_MAPPING_END_EVENT:
    b->depth--;
    return MSOCK_OK;
  case YAML_DOCUMENT_START_EVENT:
    if (b->d->root != NULL) {
      return refuse(b, e->start_mark, NULL, "keep one document in each file",
                    "a second document begins here");
    }
    return MSOCK_OK;
  default:
    return MSOCK_OK;
  }
}

static msock_err read_events(builder *b, size_t len) {
  yaml_parser_t parser;
  yaml_event_t event;
  msock_err err = MSOCK_OK;
  bool at_end = false;

  if (!yaml_parser_initialize(&parser)) {
    refuse_memory(b->d->file_name, b->report);
    return MSOCK_ERR_NOMEM;
  }
  yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&parser, (const unsigned char *)b->text, len);
  while (err == MSOCK_OK && !at_end) {
    if (!yaml_parser_parse(&parser, &event)) {
      err = refuse_syntax(b, &parser);
      break;
    }
    err = on_event(b, &event);
    at_end = event.type == YAML_STREAM_END_EVENT;
    yaml_event_delete(&event);
  }
  yaml_parser_delete(&parser);
  for (size_t i = 0; i < b->depth; i++) { /* keys without a value, after a refusal */
    free(b->open[i].key);
  }
  if (err == MSOCK_OK && b->d->root == NULL &&
      add_node(b, MSOCK_DOCUMENT_SCALAR, (yaml_mark_t){0}, NULL, 0) == NULL) {
    refuse_memory(b->d->file_name, b->report);
    return MSOCK_ERR_NOMEM;
  }
  return err;
}

/* -- JSON comments ----------------------------------------------------------------------------- */

/* After these a comment may begin; after others, and after a colon above all, "//" is part of a
 * plain text such as a URL. The end of a string stands for the beginning of the document. */
static bool may_precede_comment(char c) {
  return strchr(" \t\r\n,{}[]\"", c) != NULL;
}

/* Length of the comment at p, its end included; 0 = none. */
static size_t comment_len(const char *p) {
  if (p[0] == '/' && p[1] == '/') {
    return strcspn(p, "\n");
  }
  if (p[0] == '/' && p[1] == '*') {
    const char *end = strstr(p + 2, "*/");
    return end ? (size_t)(end - p) + 2 : 0;
  }
  return 0;
}

static const char *skip_blanks(const char *p) {
  for (size_t len = 1; len > 0; p += len) {
    p += strspn(p, " \t\r\n");
    len = comment_len(p);
  }
  return p;
}

/* tailscaled reads its JSON with comments. They become blanks, so that positions stay. */
static void blank_comments(char *text) {
  bool in_string = false;
  char before = '\0';
  if (*skip_blanks(text) != '{') {
    return;
  }
  for (char *p = text; *p != '\0'; before = *p, p++) {
    if (in_string) {
      if (*p == '\\' && p[1] != '\0') {
        p++;
      } else if (*p == '"') {
        in_string = false;
      }
      continue;
    }
    in_string = *p == '"';
    const size_t len = may_precede_comment(before) ? comment_len(p) : 0;
    for (size_t i = 0; i < len; i++) {
      p[i] = p[i] == '\n' ? '\n' : ' ';
    }
  }
}

/* -- public ------------------------------------------------------------------------------------ */

static msock_document *document_new(const char *file_name) {
  msock_document *d = calloc(1, sizeof *d);
  if (d == NULL) {
    return NULL;
  }
  d->file_name = strdup(file_name);
  if (d->file_name == NULL) {
    free(d);
    return NULL;
  }
  return d;
}

msock_document *msock_document_read(const char *file_name, const uint8_t *bytes, size_t len,
                                    msock_config_report *report) {
  if (len > MSOCK_DOCUMENT_BYTES_MAX) {
    msock_config_report_add(report, false, file_name, NULL, "check that this is the right file",
                            "%zu bytes; at most %u are read", len, MSOCK_DOCUMENT_BYTES_MAX);
    return NULL;
  }
  msock_document *d = document_new(file_name);
  char *text = calloc(1, len + 1);
  if (d == NULL || text == NULL) {
    refuse_memory(file_name, report);
    msock_document_free(d);
    free(text);
    return NULL;
  }
  if (len > 0) {
    memcpy(text, bytes, len);
  }
  blank_comments(text);
  builder b = {.d = d, .report = report, .text = text};
  if (read_events(&b, len) != MSOCK_OK) {
    msock_document_free(d);
    d = NULL;
  }
  explicit_bzero(text, len); /* may hold secrets */
  free(text);
  return d;
}

void msock_document_free(msock_document *d) {
  if (d == NULL) {
    return;
  }
  while (d->owned) {
    owned_node *o = d->owned;
    d->owned = o->next_owned;
    explicit_bzero(o->texts, o->texts_len);
    free(o);
  }
  free(d->file_name);
  free(d);
}

const msock_document_node *msock_document_root(const msock_document *d) {
  return d->root;
}

const char *msock_document_file_name(const msock_document *d) {
  return d->file_name;
}

char *msock_document_where(const msock_document *d, const msock_document_node *n,
                           char buf[static MSOCK_CONFIG_WHERE_MAX]) {
  (void)snprintf(buf, MSOCK_CONFIG_WHERE_MAX, "%s:%u:%u", d->file_name, n->line, n->column);
  return buf;
}

char *msock_document_key_where(const msock_document *d, const msock_document_node *n,
                               char buf[static MSOCK_CONFIG_WHERE_MAX]) {
  if (n->key == NULL) {
    return msock_document_where(d, n, buf);
  }
  (void)snprintf(buf, MSOCK_CONFIG_WHERE_MAX, "%s:%u:%u", d->file_name, n->key_line, n->key_column);
  return buf;
}

const msock_document_node *msock_document_find(const msock_document_node *mapping,
                                               const char *key) {
  if (mapping->kind != MSOCK_DOCUMENT_MAPPING) {
    return NULL;
  }
  for (const msock_document_node *n = mapping->first; n; n = n->next) {
    if (strcmp(n->key, key) == 0) {
      return n;
    }
  }
  return NULL;
}

bool msock_document_is_null(const msock_document_node *n) {
  return n->kind == MSOCK_DOCUMENT_SCALAR && !n->quoted &&
         (n->text[0] == '\0' || strcmp(n->text, "~") == 0 || strcmp(n->text, "null") == 0);
}
