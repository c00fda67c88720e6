/* io/body.h: an HTTP/1.1 answer as it comes: head (base/http1.h), then the body by Content-Length,
 * chunked (RFC 9112 7.1) or until the end. For the small HTTP provider and the LocalAPI client. */
#ifndef MSOCK_IO_BODY_H
#define MSOCK_IO_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/http1.h"

/* Takes body bytes; false = enough. */
typedef bool (*msock_body_sink)(void *ctx, const uint8_t *p, size_t len);

typedef enum msock_body_state {
  MSOCK_BODY_HEAD = 0,
  MSOCK_BODY_LENGTH,
  MSOCK_BODY_UNTIL_END,
  MSOCK_BODY_CHUNK_SIZE,
  MSOCK_BODY_CHUNK_DATA,
  MSOCK_BODY_CHUNK_CRLF,
  MSOCK_BODY_TRAILER,
  MSOCK_BODY_DONE
} msock_body_state;

typedef struct msock_body {
  msock_body_state state;
  bool no_body; /* answer to HEAD */
  msock_body_sink sink;
  void *ctx;
  int status;
  uint8_t *head; /* MSOCK_HTTP1_HEAD_MAX bytes; the head's bytes stay until clear */
  size_t head_len;
  uint64_t left; /* of the body or of the chunk */
  char line[64]; /* chunk-size or trailer line so far */
  size_t line_len;
} msock_body;

void msock_body_init(msock_body *b, bool answer_to_head, msock_body_sink sink, void *ctx);
void msock_body_clear(msock_body *b);
/* MSOCK_OK: the answer is complete. MSOCK_ERR_AGAIN: more. MSOCK_ERR_INVALID: malformed.
 * MSOCK_ERR_CLOSED: the sink said enough. MSOCK_ERR_NOMEM. 1xx answers are skipped. */
msock_err msock_body_feed(msock_body *b, const uint8_t *p, size_t len);
/* The peer closed: MSOCK_OK when that ends the answer, else MSOCK_ERR_INVALID. */
msock_err msock_body_end(msock_body *b);

#endif
