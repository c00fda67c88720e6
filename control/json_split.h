/* control/json_split.h: a streaming walk over one JSON text of any size that hands out one element
 * at a time, so that a netmap of megabytes never exists as one tree (control.md 5.1, CTRL-72).
 *
 * The consumer decides for every value by its path: SKIP it (checked for structure only, not kept),
 * take it WHOLE (its text, to be parsed by json-c), or DESCEND into it (then it is asked again for
 * each member or element). Memory: one buffer of the largest WHOLE value, bounded; depth bounded.
 * The walk checks the grammar of containers and literals; the inside of WHOLE values is checked
 * again by the consumer's parser. */
#ifndef MSOCK_CONTROL_JSON_SPLIT_H
#define MSOCK_CONTROL_JSON_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MSOCK_JSON_DEPTH_MAX 64u           /* control.md 4.2 */
#define MSOCK_JSON_PATH_MAX 4u             /* levels that can be descended into; deeper = WHOLE */
#define MSOCK_JSON_KEY_MAX 255u            /* bytes of a key on the path; longer = SKIP */
#define MSOCK_JSON_ELEMENT_MAX (1u << 20)  /* text of one WHOLE value; longer = TOO_LONG event */
#define MSOCK_JSON_KEEP_BUFFER (64u << 10) /* a larger buffer is given back after the text */

typedef enum msock_json_mode {
  MSOCK_JSON_SKIP = 0,
  MSOCK_JSON_WHOLE,
  MSOCK_JSON_DESCEND /* a value that is no container is then handed out WHOLE */
} msock_json_mode;

typedef enum msock_json_event_kind {
  MSOCK_JSON_BEGIN_OBJECT = 1, /* of a container that is descended into */
  MSOCK_JSON_BEGIN_ARRAY,
  MSOCK_JSON_END,
  MSOCK_JSON_VALUE,   /* text */
  MSOCK_JSON_TOO_LONG /* a WHOLE value over the limit: dropped */
} msock_json_event_kind;

/* path[0..depth) names the value: a member's key, or "[]" for an array element. The top value has
 * depth 0. Valid for the call. */
typedef struct msock_json_path {
  const char *key[MSOCK_JSON_PATH_MAX];
  size_t depth;
} msock_json_path;

typedef struct msock_json_handler {
  void *ctx;
  msock_json_mode (*mode)(void *ctx, const msock_json_path *path);
  /* text: NUL-terminated, len bytes, for VALUE; valid for the call. Another result than MSOCK_OK
   * ends the walk and is given back by feed. */
  msock_err (*event)(void *ctx, msock_json_event_kind kind, const msock_json_path *path,
                     const char *text, size_t len);
} msock_json_handler;

typedef struct msock_json_split msock_json_split;

/* NULL when out of memory. */
msock_json_split *msock_json_split_new(const msock_json_handler *handler);
void msock_json_split_free(msock_json_split *s);
/* Makes ready for the next text. */
void msock_json_split_reset(msock_json_split *s);
/* In any split. MSOCK_OK, MSOCK_ERR_INVALID (not JSON, too deep, bytes after the top value),
 * MSOCK_ERR_NOMEM, or what the handler gave; after an error only reset helps. */
msock_err msock_json_split_feed(msock_json_split *s, const uint8_t *p, size_t len);
/* The text ends here: MSOCK_ERR_SHORT when it is not complete. */
msock_err msock_json_split_finish(msock_json_split *s);
/* Bytes of buffer held now. */
size_t msock_json_split_memory(const msock_json_split *s);

#endif
