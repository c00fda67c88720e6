#include "node/localapi_conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "crypto/wipe.h"
#include "node/json_text.h"

#define FIRST_CAP 2048u

void msock_localapi_conn_init(msock_localapi_conn *c, uint64_t now_us, uint32_t uid) {
  *c = (msock_localapi_conn){.uid = uid, .deadline_us = now_us + MSOCK_LOCALAPI_IDLE_US};
}

static void drop_input(msock_localapi_conn *c) {
  if (c->in != NULL) {
    msock_wipe(c->in, c->in_cap); /* an auth key may have been in it */
    free(c->in);
  }
  c->in = NULL;
  c->in_len = c->in_cap = 0;
}

void msock_localapi_conn_clear(msock_localapi_conn *c) {
  drop_input(c);
  free(c->out);
  *c = (msock_localapi_conn){.stage = MSOCK_LOCALAPI_DEAD, .deadline_us = MSOCK_NEVER};
}

/* Not realloc: it would leave an unwiped copy behind. */
static bool reserve(msock_localapi_conn *c, size_t cap) {
  size_t want = c->in_cap ? c->in_cap : FIRST_CAP;
  if (cap <= c->in_cap) {
    return true;
  }
  while (want < cap) {
    want *= 2;
  }
  uint8_t *in = calloc(1, want);
  if (in == NULL) {
    return false;
  }
  const size_t len = c->in_len;
  if (len > 0) {
    memcpy(in, c->in, len);
  }
  drop_input(c);
  c->in = in;
  c->in_len = len;
  c->in_cap = want;
  return true;
}

char *msock_localapi_error_body(const char *message, size_t *len) {
  msock_json_text j = {0};
  msock_json_open(&j, NULL, '{');
  msock_json_str(&j, "error", message);
  msock_json_close(&j, '}');
  return msock_json_text_take(&j, len);
}

/* An answer of our own; the framing is in doubt, so the connection ends. */
static void refuse(msock_localapi_conn *c, uint64_t now_us, int status, const char *message) {
  size_t len;
  char *body = msock_localapi_error_body(message, &len);
  c->last = true;
  msock_localapi_conn_answer(c, now_us, status, "application/json", body, len);
}

void msock_localapi_conn_feed(msock_localapi_conn *c, uint64_t now_us, const uint8_t *p,
                              size_t len) {
  if (c->stage >= MSOCK_LOCALAPI_LINGER || (c->last && c->stage >= MSOCK_LOCALAPI_WAIT) ||
      len == 0) {
    return;
  }
  if (c->stage == MSOCK_LOCALAPI_HEAD && c->in_len == 0) {
    c->deadline_us = now_us + MSOCK_LOCALAPI_RECV_US;
  }
  /* While a request is under way one head may be sent early. Before, poll bounds the head. */
  const bool early = c->stage != MSOCK_LOCALAPI_HEAD &&
                     len > c->head_len + c->body_len + MSOCK_HTTP1_HEAD_MAX - c->in_len;
  if (!early && reserve(c, c->in_len + len)) {
    memcpy(c->in + c->in_len, p, len);
    c->in_len += len;
  } else if (c->stage == MSOCK_LOCALAPI_WAIT || c->stage == MSOCK_LOCALAPI_SEND) {
    c->last = true; /* the present request is still answered */
  } else {
    refuse(c, now_us, 413, "the request is too large");
  }
}

/* The request under way again: its head was parsed before, but the buffer may have moved. */
static bool parse_again(const msock_localapi_conn *c, msock_localapi_request *out) {
  out->body = (const char *)c->in + c->head_len;
  out->body_len = c->body_len;
  return msock_http1_parse_request(c->in, c->head_len, &out->head) == (ptrdiff_t)c->head_len;
}

static bool keeps_open(const msock_http1_head *head) {
  const msock_http1_header *h = msock_http1_find(head, "connection");
  if (head->minor_version == 0) {
    return h != NULL && msock_http1_list_has(h->value, "keep-alive");
  }
  return h == NULL || !msock_http1_list_has(h->value, "close");
}

static msock_localapi_event poll_head(msock_localapi_conn *c, uint64_t now_us,
                                      msock_localapi_request *out) {
  if (c->in_len == 0) {
    return MSOCK_LOCALAPI_NONE;
  }
  const ptrdiff_t n = msock_http1_parse_request(c->in, c->in_len, &out->head);
  if (n == MSOCK_ERR_AGAIN) {
    return MSOCK_LOCALAPI_NONE;
  }
  c->head_len = c->body_len = 0;
  if (n < 0) {
    refuse(c, now_us, c->in_len < MSOCK_HTTP1_HEAD_MAX ? 400 : 431,
           "this is not an HTTP/1.1 request, or its head is too large");
    return MSOCK_LOCALAPI_NONE;
  }
  if (out->head.chunked) {
    refuse(c, now_us, 501, "send the body with a Content-Length, not chunked");
    return MSOCK_LOCALAPI_NONE;
  }
  if (out->head.content_length > (int64_t)MSOCK_LOCALAPI_BODY_MAX) {
    refuse(c, now_us, 413, "the body is larger than 1 MiB");
    return MSOCK_LOCALAPI_NONE;
  }
  c->head_len = (size_t)n;
  c->last = c->last || !keeps_open(&out->head);
  c->old = out->head.minor_version == 0;
  out->body = NULL;
  out->body_len = 0;
  return MSOCK_LOCALAPI_GOT_HEAD;
}

void msock_localapi_conn_accept(msock_localapi_conn *c, const msock_localapi_request *r) {
  c->body_len = r->head.content_length > 0 ? (size_t)r->head.content_length : 0;
  c->stage = MSOCK_LOCALAPI_BODY;
}

msock_localapi_event msock_localapi_conn_poll(msock_localapi_conn *c, uint64_t now_us,
                                              msock_localapi_request *out) {
  if (c->stage == MSOCK_LOCALAPI_HEAD) {
    return poll_head(c, now_us, out);
  }
  if (c->stage != MSOCK_LOCALAPI_BODY || c->in_len < c->head_len + c->body_len ||
      !parse_again(c, out)) {
    return MSOCK_LOCALAPI_NONE;
  }
  c->stage = MSOCK_LOCALAPI_WAIT;
  c->deadline_us = MSOCK_NEVER;
  return MSOCK_LOCALAPI_GOT_REQUEST;
}

static void finish_head(msock_localapi_conn *c, msock_http1_builder *b) {
  const ptrdiff_t n = msock_http1_finish(b);
  c->head_size = n > 0 ? (size_t)n : 0;
  c->head_sent = 0;
}

void msock_localapi_conn_answer(msock_localapi_conn *c, uint64_t now_us, int status,
                                const char *content_type, char *body, size_t len) {
  msock_http1_builder b;
  if (c->stage >= MSOCK_LOCALAPI_SEND) {
    free(body);
    return;
  }
  if (c->stage != MSOCK_LOCALAPI_WAIT) {
    c->last = true; /* a body that nobody reads would be taken for the next head */
  }
  msock_http1_begin_response(&b, c->head, sizeof c->head, status);
  if (body != NULL) {
    msock_http1_add(&b, "Content-Type", content_type);
    msock_http1_add(&b, "X-Content-Type-Options", "nosniff");
  }
  if (status != 204) {
    msock_http1_add_number(&b, "Content-Length", body ? len : 0);
  }
  if (c->last) {
    msock_http1_add(&b, "Connection", "close");
  }
  finish_head(c, &b);
  c->out = body;
  c->out_len = body ? len : 0;
  c->out_sent = 0;
  c->stage = MSOCK_LOCALAPI_SEND;
  c->deadline_us = now_us + MSOCK_LOCALAPI_SEND_US;
}

void msock_localapi_conn_stream(msock_localapi_conn *c, uint64_t now_us, const char *content_type) {
  msock_http1_builder b;
  if (c->stage != MSOCK_LOCALAPI_WAIT) {
    return;
  }
  c->last = true; /* what is sent after the request is not read any more */
  msock_http1_begin_response(&b, c->head, sizeof c->head, 200);
  msock_http1_add(&b, "Content-Type", content_type);
  msock_http1_add(&b, "X-Content-Type-Options", "nosniff");
  if (!c->old) {
    msock_http1_add(&b, "Transfer-Encoding", "chunked");
  }
  msock_http1_add(&b, "Connection", "close");
  finish_head(c, &b);
  c->stage = MSOCK_LOCALAPI_STREAM;
  c->deadline_us = now_us + MSOCK_LOCALAPI_SEND_US;
}

static void die(msock_localapi_conn *c) {
  c->stage = MSOCK_LOCALAPI_DEAD;
  c->deadline_us = MSOCK_NEVER;
}

void msock_localapi_conn_push(msock_localapi_conn *c, uint64_t now_us, const char *p, size_t len) {
  char size[24] = "";
  if (c->stage != MSOCK_LOCALAPI_STREAM || len == 0) {
    return;
  }
  const size_t size_len = c->old ? 0 : (size_t)snprintf(size, sizeof size, "%zx\r\n", len);
  const size_t tail_len = c->old ? 0 : 2, left = c->out_len - c->out_sent;
  const size_t total = left + size_len + len + tail_len;
  char *out = total <= MSOCK_LOCALAPI_BACKLOG_MAX ? malloc(total) : NULL;
  if (out == NULL) {
    die(c);
    return;
  }
  if (left > 0) {
    memcpy(out, c->out + c->out_sent, left);
  } else if (c->head_sent == c->head_size) {
    c->deadline_us = now_us + MSOCK_LOCALAPI_SEND_US;
  }
  memcpy(out + left, size, size_len);
  memcpy(out + left + size_len, p, len);
  memcpy(out + left + size_len + len, "\r\n", tail_len);
  free(c->out);
  c->out = out;
  c->out_len = total;
  c->out_sent = 0;
}

size_t msock_localapi_conn_peek(const msock_localapi_conn *c, const uint8_t **p) {
  if (c->stage != MSOCK_LOCALAPI_SEND && c->stage != MSOCK_LOCALAPI_STREAM) {
    return 0;
  }
  if (c->head_sent < c->head_size) {
    *p = (const uint8_t *)c->head + c->head_sent;
    return c->head_size - c->head_sent;
  }
  *p = (const uint8_t *)c->out + c->out_sent;
  return c->out_len - c->out_sent;
}

/* The answer is out: on to the next request, or to the end. */
static void finish_answer(msock_localapi_conn *c, uint64_t now_us) {
  free(c->out);
  c->out = NULL;
  if (c->last) {
    drop_input(c);
    c->stage = MSOCK_LOCALAPI_LINGER;
    c->deadline_us = now_us + MSOCK_LOCALAPI_LINGER_US;
    return;
  }
  const size_t used = c->head_len + c->body_len;
  const size_t left = c->in_len - used;
  uint8_t *in = c->in;
  const size_t cap = c->in_cap;
  c->in = NULL;
  c->in_len = c->in_cap = 0;
  if (left > 0 && reserve(c, left)) {
    memcpy(c->in, in + used, left);
    c->in_len = left;
  }
  msock_wipe(in, cap);
  free(in);
  c->stage = MSOCK_LOCALAPI_HEAD;
  c->deadline_us = now_us + (c->in_len > 0 ? MSOCK_LOCALAPI_RECV_US : MSOCK_LOCALAPI_IDLE_US);
}

void msock_localapi_conn_consume(msock_localapi_conn *c, uint64_t now_us, size_t n) {
  if ((c->stage != MSOCK_LOCALAPI_SEND && c->stage != MSOCK_LOCALAPI_STREAM) || n == 0) {
    return;
  }
  if (c->head_sent < c->head_size) {
    c->head_sent += n;
  } else {
    c->out_sent += n;
  }
  c->deadline_us = now_us + MSOCK_LOCALAPI_SEND_US;
  if (c->head_sent < c->head_size || c->out_sent < c->out_len) {
    return;
  }
  if (c->stage == MSOCK_LOCALAPI_STREAM) {
    c->deadline_us = MSOCK_NEVER; /* nothing may happen for days */
    return;
  }
  finish_answer(c, now_us);
}

void msock_localapi_conn_expire(msock_localapi_conn *c, uint64_t now_us) {
  if (now_us < c->deadline_us) {
    return;
  }
  if (c->stage <= MSOCK_LOCALAPI_BODY && c->in_len > 0) {
    refuse(c, now_us, 408, "the request did not arrive in time");
    return;
  }
  die(c);
}
