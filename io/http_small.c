/* The small HTTP provider: one request per connection over io/stream, no proxies. Every call of the
 * small build; in the ordinary one those with TLS rules that libcurl does not have. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http1.h"
#include "io/body.h"
#include "io/http_internal.h"
#include "io/stream.h"

#define HEAD_BYTES 4096u

typedef struct call {
  void *token;
  msock_stream *stream;
  msock_loop *loop;
  msock_loop_timer timer; /* the whole call */
  uint64_t began_us, connect_us, ready_us;
  uint8_t *tx;
  size_t tx_len, tx_at;
  msock_body body;
  uint8_t *got; /* the answer's body */
  size_t got_len, got_cap, max_body;
  bool too_long;
} call;

static const char *name(void) {
  return "small";
}

static void *open_state(const msock_http_env *env) {
  msock_http_env *copy = malloc(sizeof *copy);
  if (copy != NULL) {
    *copy = *env;
  }
  return copy;
}

static void free_call(call *c) {
  msock_loop_set_deadline(c->loop, &c->timer, MSOCK_NEVER);
  msock_stream_free(c->stream);
  msock_body_clear(&c->body);
  free(c->tx);
  free(c->got);
  free(c);
}

static void cancel(void *impl) {
  free_call(impl);
}

static void finish(call *c, msock_err err, const char *why) {
  const bool ok = err == MSOCK_OK;
  const uint64_t now_us = msock_loop_now_us();
  msock_http_result r = {.err = err,
                         .status = ok ? c->body.status : 0,
                         .body = ok ? c->got : NULL,
                         .body_len = ok ? c->got_len : 0,
                         .head = ok ? c->body.head : NULL,
                         .head_len = ok ? c->body.head_len : 0,
                         .connect_us = c->connect_us,
                         .answer_us = c->ready_us ? now_us - c->ready_us : 0,
                         .total_us = now_us - c->began_us,
                         .why = why};
  void *token = c->token;
  msock_http_done(token, &r); /* impl is still ours: the result borrows from it */
  free_call(c);
}

static bool take_body(void *ctx, const uint8_t *p, size_t len) {
  call *c = ctx;
  if (len > c->max_body - c->got_len) {
    c->too_long = true;
    return false;
  }
  if (c->got_len + len > c->got_cap) {
    const size_t cap = 2 * (c->got_len + len);
    uint8_t *bigger = realloc(c->got, cap);
    if (bigger == NULL) {
      return false;
    }
    c->got = bigger;
    c->got_cap = cap;
  }
  memcpy(c->got + c->got_len, p, len);
  c->got_len += len;
  return true;
}

static void on_up(void *ctx, const msock_stream_info *info) {
  call *c = ctx;
  c->connect_us = info->tcp_us;
  c->ready_us = msock_loop_now_us();
}

static void judge(call *c, msock_err err) {
  if (err == MSOCK_OK) {
    finish(c, MSOCK_OK, "");
  } else if (err == MSOCK_ERR_INVALID) {
    finish(c, err, "the server's answer is not HTTP, or it ends too early");
  } else if (c->too_long) {
    finish(c, MSOCK_ERR_INVALID, "the server's answer is longer than expected");
  } else if (err != MSOCK_ERR_AGAIN) {
    finish(c, MSOCK_ERR_NOMEM, "out of memory");
  }
}

static void on_bytes(void *ctx, const uint8_t *p, size_t len) {
  call *c = ctx;
  judge(c, msock_body_feed(&c->body, p, len));
}

static void tx_peek(void *ctx, const uint8_t **p, size_t *len) {
  const call *c = ctx;
  *p = c->tx + c->tx_at;
  *len = c->tx_len - c->tx_at;
}

static void tx_consume(void *ctx, size_t n) {
  call *c = ctx;
  c->tx_at += n;
}

static void on_closed(void *ctx, msock_err err, const char *reason) {
  call *c = ctx;
  if (err == MSOCK_ERR_CLOSED) {
    judge(c, c->tx_at == c->tx_len ? msock_body_end(&c->body) : MSOCK_ERR_INVALID);
    return;
  }
  finish(c, err, reason);
}

static void on_timer(void *ctx, uint64_t now_us) {
  (void)now_us;
  finish(ctx, MSOCK_ERR_TIMEOUT, "no complete answer in time; is the server overloaded?");
}

static msock_err build_request(call *c, const msock_http_request *r, const msock_http_url *u) {
  char host[300], field[64];
  msock_http1_builder b;
  const bool v6 = u->host_is_ip && u->ip.family == 6;

  c->tx = malloc(HEAD_BYTES + r->body_len);
  if (c->tx == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  if (u->default_port) {
    snprintf(host, sizeof host, "%s%s%s", v6 ? "[" : "", u->host, v6 ? "]" : "");
  } else {
    snprintf(host, sizeof host, "%s%s%s:%u", v6 ? "[" : "", u->host, v6 ? "]" : "", u->port);
  }
  msock_http1_begin_request(&b, (char *)c->tx, HEAD_BYTES, r->method, u->target);
  msock_http1_add(&b, "Host", host);
  msock_http1_add(&b, "Connection", "close");
  for (size_t i = 0; i < MSOCK_HTTP_HEADERS_MAX && r->headers[i] != NULL; i++) {
    const char *colon = strchr(r->headers[i], ':');
    const size_t len = colon != NULL ? (size_t)(colon - r->headers[i]) : 0;
    if (len == 0 || len >= sizeof field) {
      return MSOCK_ERR_INVALID;
    }
    snprintf(field, sizeof field, "%.*s", (int)len, r->headers[i]);
    msock_http1_add(&b, field, colon + 1 + strspn(colon + 1, " "));
  }
  if (strcmp(r->method, "POST") == 0) {
    msock_http1_add_number(&b, "Content-Length", r->body_len);
  }
  const ptrdiff_t n = msock_http1_finish(&b);
  if (n < 0) {
    return MSOCK_ERR_INVALID;
  }
  c->tx_len = (size_t)n;
  if (strcmp(r->method, "POST") == 0 && r->body_len > 0) {
    memcpy(c->tx + n, r->body, r->body_len);
    c->tx_len += r->body_len;
  }
  return MSOCK_OK;
}

static msock_err dial(call *c, const msock_http_env *env, const msock_http_request *r,
                      const msock_http_url *u) {
  static const msock_stream_handlers handlers = {.up = on_up,
                                                 .readable = on_bytes,
                                                 .tx_peek = tx_peek,
                                                 .tx_consume = tx_consume,
                                                 .closed = on_closed};
  msock_stream_config sc = {.tls = u->https, .budget_us = r->timeout_us};
  msock_tcp_target_host(&sc.target, r->purpose, u->host,
                        r->connect_port != 0 ? r->connect_port : u->port, r->timeout_us);
  if (r->connect_ip.family != 0) {
    sc.target.literal[0] = r->connect_ip;
    sc.target.resolve_v4 = sc.target.resolve_v6 = false;
  }
  sc.tls_config = (msock_tls_config){.host = u->host,
                                     .cert_name = r->cert_name,
                                     .alpn = "http/1.1",
                                     .roots = env->roots,
                                     .has_spki_pin = r->has_spki_pin,
                                     .insecure_for_tests = r->insecure_for_tests};
  memcpy(sc.tls_config.spki_pin, r->spki_pin, sizeof r->spki_pin);
  return msock_stream_dial(env->eg, &sc, &handlers, c, &c->stream);
}

static msock_err start(void *state, const msock_http_request *r, const msock_http_url *url,
                       void *token, void **impl) {
  const msock_http_env *env = state;
  call *c = calloc(1, sizeof *c);
  if (c == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  c->token = token;
  c->loop = msock_egress_loop(env->eg);
  c->began_us = msock_loop_now_us();
  c->max_body = r->max_body;
  msock_loop_timer_init(&c->timer, on_timer, c);
  msock_body_init(&c->body, strcmp(r->method, "HEAD") == 0, take_body, c);
  msock_err err = build_request(c, r, url);
  if (err == MSOCK_OK) {
    err = dial(c, env, r, url);
  }
  if (err != MSOCK_OK) {
    free_call(c);
    return err;
  }
  /* A little after the stream's own budget, whose text says more. */
  msock_loop_set_deadline(c->loop, &c->timer, c->began_us + r->timeout_us + MSOCK_MS);
  *impl = c;
  return MSOCK_OK;
}

const msock_http_provider_ops msock_http_small = {
    .name = name, .open = open_state, .close = free, .start = start, .cancel = cancel};
