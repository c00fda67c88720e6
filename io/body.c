#include "io/body.h"

#include <stdlib.h>
#include <string.h>

void msock_body_init(msock_body *b, bool answer_to_head, msock_body_sink sink, void *ctx) {
  *b = (msock_body){.no_body = answer_to_head, .sink = sink, .ctx = ctx};
}

void msock_body_clear(msock_body *b) {
  free(b->head);
  b->head = NULL;
}

static void after_head(msock_body *b, const msock_http1_head *h) {
  b->status = h->status;
  if (h->status >= 100 && h->status < 200) { /* another head follows */
    b->state = MSOCK_BODY_HEAD;
  } else if (b->no_body || h->status == 204 || h->status == 304 || h->content_length == 0) {
    b->state = MSOCK_BODY_DONE;
  } else if (h->chunked) {
    b->state = MSOCK_BODY_CHUNK_SIZE;
  } else if (h->content_length > 0) {
    b->state = MSOCK_BODY_LENGTH;
    b->left = (uint64_t)h->content_length;
  } else {
    b->state = MSOCK_BODY_UNTIL_END;
  }
}

/* Takes head bytes; *used tells how many of p. */
static msock_err feed_head(msock_body *b, const uint8_t *p, size_t len, size_t *used) {
  msock_http1_head h;
  const size_t before = b->head_len;
  const size_t room = MSOCK_HTTP1_HEAD_MAX - before;
  const size_t n = len < room ? len : room;

  if (b->head == NULL && (b->head = malloc(MSOCK_HTTP1_HEAD_MAX)) == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  memcpy(b->head + before, p, n);
  b->head_len += n;
  const ptrdiff_t head_len = msock_http1_parse_response(b->head, b->head_len, &h);
  if (head_len == MSOCK_ERR_AGAIN) {
    *used = n;
    return MSOCK_ERR_AGAIN;
  }
  if (head_len < 0 || (size_t)head_len < before) {
    return MSOCK_ERR_INVALID;
  }
  *used = (size_t)head_len - before;
  after_head(b, &h);
  b->head_len = b->state == MSOCK_BODY_HEAD ? 0 : (size_t)head_len;
  return MSOCK_ERR_AGAIN;
}

/* One byte of a chunk-size or trailer line. True when the line is complete in b->line. */
static bool feed_line(msock_body *b, uint8_t c, bool *bad) {
  if (c == '\n') {
    if (b->line_len > 0 && b->line[b->line_len - 1] == '\r') {
      b->line_len--;
    }
    b->line[b->line_len] = '\0';
    b->line_len = 0;
    return true;
  }
  if (b->line_len == sizeof b->line - 1) {
    *bad = b->state != MSOCK_BODY_TRAILER; /* trailers are skipped, however long a line is */
    return false;
  }
  b->line[b->line_len++] = (char)c;
  return false;
}

/* Hex digits, then the end or an extension. */
static bool chunk_size(const char *line, uint64_t *out) {
  uint64_t v = 0;
  size_t i = 0;
  for (; line[i] != '\0' && line[i] != ';' && line[i] != ' '; i++) {
    const char c = line[i];
    const int d = c >= '0' && c <= '9'   ? c - '0'
                  : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                         : -1;
    if (d < 0 || i >= 8) { /* 4 GiB: far over every bound here */
      return false;
    }
    v = v << 4 | (uint64_t)d;
  }
  *out = v;
  return i > 0;
}

static msock_err on_line(msock_body *b) {
  switch (b->state) {
  case MSOCK_BODY_CHUNK_SIZE:
    if (!chunk_size(b->line, &b->left)) {
      return MSOCK_ERR_INVALID;
    }
    b->state = b->left > 0 ? MSOCK_BODY_CHUNK_DATA : MSOCK_BODY_TRAILER;
    return MSOCK_ERR_AGAIN;
  case MSOCK_BODY_CHUNK_CRLF:
    b->state = MSOCK_BODY_CHUNK_SIZE;
    return b->line[0] == '\0' ? MSOCK_ERR_AGAIN : MSOCK_ERR_INVALID;
  default: /* trailer */
    if (b->line[0] == '\0') {
      b->state = MSOCK_BODY_DONE;
    }
    return MSOCK_ERR_AGAIN;
  }
}

static msock_err feed_data(msock_body *b, const uint8_t *p, size_t len, size_t *used) {
  const bool bounded = b->state != MSOCK_BODY_UNTIL_END;
  const size_t n = bounded && b->left < len ? (size_t)b->left : len;
  *used = n;
  if (!b->sink(b->ctx, p, n)) {
    return MSOCK_ERR_CLOSED;
  }
  if (bounded) {
    b->left -= n;
    if (b->left == 0) {
      b->state = b->state == MSOCK_BODY_LENGTH ? MSOCK_BODY_DONE : MSOCK_BODY_CHUNK_CRLF;
    }
  }
  return MSOCK_ERR_AGAIN;
}

msock_err msock_body_feed(msock_body *b, const uint8_t *p, size_t len) {
  msock_err err = MSOCK_ERR_AGAIN;
  while (len > 0 && err == MSOCK_ERR_AGAIN && b->state != MSOCK_BODY_DONE) {
    size_t used = 1;
    bool bad = false;
    switch (b->state) {
    case MSOCK_BODY_HEAD:
      err = feed_head(b, p, len, &used);
      break;
    case MSOCK_BODY_LENGTH:
    case MSOCK_BODY_UNTIL_END:
    case MSOCK_BODY_CHUNK_DATA:
      err = feed_data(b, p, len, &used);
      break;
    default:
      if (feed_line(b, p[0], &bad)) {
        err = on_line(b);
      } else if (bad) {
        err = MSOCK_ERR_INVALID;
      }
      break;
    }
    if (err == MSOCK_ERR_AGAIN) {
      p += used;
      len -= used;
    }
  }
  return err == MSOCK_ERR_AGAIN && b->state == MSOCK_BODY_DONE ? MSOCK_OK : err;
}

msock_err msock_body_end(msock_body *b) {
  return b->state == MSOCK_BODY_UNTIL_END || b->state == MSOCK_BODY_DONE ? MSOCK_OK
                                                                         : MSOCK_ERR_INVALID;
}
