/* node/json_text.h: writes JSON straight into one growing buffer: the status of a large tailnet
 * never exists as a tree. Pure. Commas are placed by the writer; nesting is the caller's promise.
 */
#ifndef MSOCK_NODE_JSON_TEXT_H
#define MSOCK_NODE_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct msock_json_text {
  char *buf; /* grows; owned until msock_json_text_take */
  size_t len, cap;
  bool comma; /* the next value needs one in front */
  bool bad;   /* out of memory: sticky */
} msock_json_text;

/* Start with {0}. key is NULL inside arrays and for the outermost value. */
void msock_json_open(msock_json_text *j, const char *key, char bracket);    /* '{' or '[' */
void msock_json_close(msock_json_text *j, char bracket);                    /* '}' or ']' */
void msock_json_str(msock_json_text *j, const char *key, const char *text); /* NULL prints "" */
void msock_json_bool(msock_json_text *j, const char *key, bool v);
void msock_json_u64(msock_json_text *j, const char *key, uint64_t v);
/* Microseconds as seconds with six decimals. */
void msock_json_seconds(msock_json_text *j, const char *key, uint64_t us);
void msock_json_null(msock_json_text *j, const char *key);
void msock_json_raw(msock_json_text *j, const char *key, const char *json); /* is JSON already */
/* RFC 3339 in UTC; 0 prints the reference's zero time, "0001-01-01T00:00:00Z". */
void msock_json_time(msock_json_text *j, const char *key, uint64_t wall_us);

/* The text, NUL-terminated, now the caller's; NULL without memory. */
char *msock_json_text_take(msock_json_text *j, size_t *len);

#endif
