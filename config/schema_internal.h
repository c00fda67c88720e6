/* config/schema_internal.h: what the files of the schema loader share. */
#ifndef MSOCK_CONFIG_SCHEMA_INTERNAL_H
#define MSOCK_CONFIG_SCHEMA_INTERNAL_H

#include "config/schema.h"

/* -- value.c: one value ------------------------------------------------------------------------ */

/* A value outside its struct. Texts and lists are owned by whoever holds the slot. */
typedef union msock_config_slot {
  bool flag;
  int choice;
  int64_t number;
  uint64_t amount;
  char *text;
  msock_config_strings strings;
  msock_config_prefixes prefixes;
  msock_ip ip;
  msock_addr addr;
} msock_config_slot;

/* Text as it was written: one item, or the items of a sequence. */
typedef struct msock_config_input {
  const char *const *items;
  size_t n;
  bool is_list;
} msock_config_input;

/* Reads a value of the row's type. False with "expected ..., found ..." in why and the item that
 * was refused in bad_item (SIZE_MAX: the whole). The slot is filled only on true. */
bool msock_config_value_parse(const msock_config_row *row, const msock_config_input *in,
                              msock_config_slot *slot, char why[static MSOCK_CONFIG_WHY_MAX],
                              size_t *bad_item);
bool msock_config_parse_bool(const char *text, bool *out);
/* "expected a whole number from 0 to 65535" */
void msock_config_value_expected(const msock_config_row *row,
                                 char why[static MSOCK_CONFIG_WHY_MAX]);
bool msock_config_is_placeholder(const char *text);

msock_config_slot msock_config_value_load(const msock_config_row *row, const void *values);
/* Takes the slot over; what stood there before is freed. */
void msock_config_value_store(const msock_config_row *row, void *values, msock_config_slot slot);
void msock_config_value_clear(const msock_config_row *row, msock_config_slot *slot);
bool msock_config_value_equal(const msock_config_row *row, const msock_config_slot *a,
                              const msock_config_slot *b);
bool msock_config_value_is_unset(const msock_config_row *row, const msock_config_slot *slot);

/* A text that grows; `failed` is sticky. */
typedef struct msock_config_text {
  char *p; /* NUL-terminated once something was added */
  size_t len, cap;
  bool failed;
} msock_config_text;

void msock_config_text_add(msock_config_text *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The text, now the caller's; NULL after a failure. */
char *msock_config_text_take(msock_config_text *t);
/* Appends the value as the file would hold it; secrets as (set) or (not set). */
void msock_config_value_print(const msock_config_row *row, const msock_config_slot *slot,
                              msock_config_text *t);

/* -- schema.c: merging ------------------------------------------------------------------------- */

/* Rank: a value gives way to one of the same or a higher layer. */
typedef enum msock_config_layer {
  MSOCK_CONFIG_LAYER_DEFAULT = 0,
  MSOCK_CONFIG_LAYER_IMPLIED,
  MSOCK_CONFIG_LAYER_FILE,
  MSOCK_CONFIG_LAYER_ENVIRONMENT,
  MSOCK_CONFIG_LAYER_FLAG
} msock_config_layer;

typedef struct msock_config_origin_value {
  msock_config_layer layer;
  uint32_t line, column; /* FILE */
  char name[96];         /* variable, flag, or the setting that implied it */
} msock_config_origin_value;

struct msock_config {
  const msock_config_schema *schema;
  void *values;
  msock_config_origin_value *origins; /* one for each row */
  char *file_name;                    /* of the document; NULL before one was applied */
};

/* A value on its way in. */
typedef struct msock_config_assignment {
  const msock_config_row *row;
  msock_config_input input;
  msock_config_origin_value origin;
  const msock_document *doc;           /* FILE, else NULL */
  const msock_document_node *doc_node; /* FILE: for the position of the value and its items */
} msock_config_assignment;

msock_err msock_config_assign(msock_config *c, const msock_config_assignment *a,
                              msock_config_report *report);
const msock_config_row *msock_config_find_row(const msock_config_schema *s, const char *key);
msock_config_origin_value *msock_config_origin_of(const msock_config *c,
                                                  const msock_config_row *row);
/* "port: 41641" / "TSNODE_PORT=41641" / "--port=41641" for messages. */
void msock_config_example(const msock_config_schema *s, const msock_config_row *row,
                          msock_config_layer layer, char buf[static MSOCK_CONFIG_WHY_MAX]);
/* Names that follow from the key. */
void msock_config_variable_name(const msock_config_schema *s, const msock_config_row *row,
                                char buf[static MSOCK_CONFIG_KEY_MAX * 2]);
void msock_config_flag_name(const msock_config_row *row, char buf[static MSOCK_CONFIG_KEY_MAX]);
/* How far two names are apart for somebody who types: 0 = the same but for case, hyphens and
 * underscores, else edits; SIZE_MAX when too far to suggest one for the other. */
size_t msock_config_name_distance(const char *a, const char *b);

#endif
