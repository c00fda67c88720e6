/* base/http1.h: HTTP/1.1 heads, requests and responses, both directions. Bodies are the caller's.
 *
 * Incremental: feed the bytes as they come, in any split; parsing is restarted from the kept bytes,
 * so the head must fit one buffer (MSOCK_HTTP1_HEAD_MAX). Bounded: head size, number of headers.
 * Strict where smuggling lives (RFC 9112): no obsolete folding, no space before the colon, no bare
 * CR, Content-Length all digits and not twice with different values, both Content-Length and
 * Transfer-Encoding = malformed. Lenient: a bare LF ends a line.
 *
 * Used by DERP, ts2021, LocalAPI, derpd and tscontrol. */
#ifndef MSOCK_BASE_HTTP1_H
#define MSOCK_BASE_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MSOCK_HTTP1_HEAD_MAX 16384u
#define MSOCK_HTTP1_HEADERS_MAX 64u

typedef struct msock_http1_str {
  const char *p; /* not NUL-terminated; points into the bytes that were parsed */
  size_t len;
} msock_http1_str;

typedef struct msock_http1_header {
  msock_http1_str name;
  msock_http1_str value; /* surrounding blanks removed */
} msock_http1_header;

typedef struct msock_http1_head {
  bool is_response;
  int minor_version;      /* 0 or 1 */
  msock_http1_str method; /* requests */
  msock_http1_str target; /* requests: as sent */
  int status;             /* responses: 100..599 */
  msock_http1_str reason; /* responses: may be empty */
  msock_http1_header headers[MSOCK_HTTP1_HEADERS_MAX];
  size_t n_headers;
  int64_t content_length; /* -1 = no header */
  bool chunked;           /* Transfer-Encoding ends in chunked */
} msock_http1_head;

/* Parses a head from the beginning of p[0..len).
 *   gives the head's length in bytes, its blank line included (> 0): out borrows from p; the bytes
 *         after it belong to the body or the next protocol
 *         MSOCK_ERR_AGAIN: no complete head yet, feed more (only while len < MSOCK_HTTP1_HEAD_MAX)
 *         MSOCK_ERR_INVALID: malformed or over a bound */
ptrdiff_t msock_http1_parse_request(const uint8_t *p, size_t len, msock_http1_head *out);
ptrdiff_t msock_http1_parse_response(const uint8_t *p, size_t len, msock_http1_head *out);

/* First header of that name, compared without regard to case; NULL when absent. */
const msock_http1_header *msock_http1_find(const msock_http1_head *h, const char *name);
/* Equality without regard to case, and whether a comma-separated list holds the token. */
bool msock_http1_str_is(msock_http1_str s, const char *text);
bool msock_http1_list_has(msock_http1_str list, const char *token);

/* Builders append to a caller's buffer; any refusal is sticky and msock_http1_finish tells. Values
 * with CR, LF or NUL are refused (header injection). */
typedef struct msock_http1_builder {
  char *buf;
  size_t cap;
  size_t len;
  bool bad;
} msock_http1_builder;

void msock_http1_begin_request(msock_http1_builder *b, char *buf, size_t cap, const char *method,
                               const char *target);
void msock_http1_begin_response(msock_http1_builder *b, char *buf, size_t cap, int status);
void msock_http1_add(msock_http1_builder *b, const char *name, const char *value);
void msock_http1_add_number(msock_http1_builder *b, const char *name, uint64_t value);
/* Writes the blank line. Gives the head's length (no NUL counted; one is written when there is
 * room), or MSOCK_ERR_NOBUF when something did not fit or was refused. */
ptrdiff_t msock_http1_finish(msock_http1_builder *b);

const char *msock_http1_reason(int status); /* "Not Found"; "Unknown" for others */

#endif
