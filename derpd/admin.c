#include "derpd/admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/http1.h"
#include "derpd/listen_error.h"
#include "io/stream.h"
#include "io/tcp_listener.h"

#define REQUEST_MAX 4096u

typedef struct admin_conn {
  struct admin_conn *next;
  msock_derpd_admin *a;
  msock_stream *stream;
  msock_loop_timer deadline;
  uint8_t in[REQUEST_MAX];
  size_t in_len;
  msock_derpd_text out;
  size_t sent;
  bool answered, over;
} admin_conn;

struct msock_derpd_admin {
  msock_derpd_admin_cfg cfg;
  msock_loop *loop;
  msock_tcp_listener *at[2 * MSOCK_DERPD_LISTEN_MAX];
  size_t n, n_conns;
  admin_conn *conns;
};

/* --- answers --- */

static void respond(admin_conn *c, int status, const char *type, const msock_derpd_text *body,
                    bool send_body) {
  char head[512];
  msock_http1_builder b;
  msock_http1_begin_response(&b, head, sizeof head, status);
  msock_http1_add(&b, "Content-Type", type);
  msock_http1_add(&b, "Cache-Control", "no-store");
  msock_http1_add(&b, "X-Content-Type-Options", "nosniff");
  msock_http1_add(&b, "Content-Security-Policy",
                  "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
  msock_http1_add_number(&b, "Content-Length", body->len);
  msock_http1_add(&b, "Connection", "close");
  const ptrdiff_t n = msock_http1_finish(&b);
  if (n < 0 || body->failed) {
    c->over = true;
    return;
  }
  msock_derpd_text_bytes(&c->out, head, (size_t)n);
  if (send_body) {
    msock_derpd_text_bytes(&c->out, body->p, body->len);
  }
  c->over = c->over || c->out.failed;
  c->answered = true;
  msock_stream_want_write(c->stream);
}

static void respond_text(admin_conn *c, int status, const char *text, bool send_body) {
  msock_derpd_text body = {0};
  msock_derpd_text_add(&body, "%s\n", text);
  respond(c, status, "text/plain; charset=utf-8", &body, send_body);
  msock_derpd_text_clear(&body);
}

static void on_request(admin_conn *c, const msock_http1_head *h) {
  static msock_derpd_snapshot s; /* large; filled anew each time */
  msock_derpd_text body = {0};
  const bool head = msock_http1_str_is(h->method, "HEAD");
  if (!head && !msock_http1_str_is(h->method, "GET")) {
    respond_text(c, 405, "GET or HEAD", true);
  } else if (msock_http1_str_is(h->target, "/healthz")) {
    respond_text(c, 200, "ok", !head);
  } else if (msock_http1_str_is(h->target, "/readyz")) {
    c->a->cfg.snapshot(c->a->cfg.ctx, &s);
    respond_text(c, s.draining ? 503 : 200, s.draining ? "draining" : "ready", !head);
  } else if (msock_http1_str_is(h->target, "/metrics") ||
             msock_http1_str_is(h->target, "/debug/varz")) {
    c->a->cfg.snapshot(c->a->cfg.ctx, &s);
    msock_derpd_metrics_write(&s, &body);
    respond(c, 200, "text/plain; version=0.0.4; charset=utf-8", &body, !head);
  } else if (msock_http1_str_is(h->target, "/")) {
    c->a->cfg.write_page(c->a->cfg.ctx, &body);
    respond(c, 200, "text/html; charset=utf-8", &body, !head);
  } else {
    respond_text(c, 404, "/ is the status page; /metrics, /healthz and /readyz are for programs",
                 !head);
  }
  msock_derpd_text_clear(&body);
}

/* --- connections --- */

static void on_readable(void *ctx, const uint8_t *p, size_t len) {
  admin_conn *c = ctx;
  msock_http1_head h;
  if (c->answered || c->over) {
    return;
  }
  const size_t room = sizeof c->in - c->in_len;
  const size_t n = len < room ? len : room;
  memcpy(c->in + c->in_len, p, n);
  c->in_len += n;
  const ptrdiff_t used = msock_http1_parse_request(c->in, c->in_len, &h);
  if (used > 0) {
    on_request(c, &h);
  } else if (used != MSOCK_ERR_AGAIN || c->in_len == sizeof c->in) {
    respond_text(c, 400, "malformed request", true);
  }
}

static void on_tx_peek(void *ctx, const uint8_t **p, size_t *len) {
  admin_conn *c = ctx;
  *len = c->out.len - c->sent;
  *p = *len > 0 ? (const uint8_t *)c->out.p + c->sent : NULL;
}

static void on_tx_consume(void *ctx, size_t n) {
  admin_conn *c = ctx;
  c->sent += n;
  if (c->sent == c->out.len) {
    msock_stream_finish(c->stream); /* the client ends it, or the deadline */
  }
}

static void on_closed(void *ctx, msock_err err, const char *reason) {
  admin_conn *c = ctx;
  (void)err;
  (void)reason;
  c->over = true;
}

static const msock_stream_handlers handlers = {.readable = on_readable,
                                               .tx_peek = on_tx_peek,
                                               .tx_consume = on_tx_consume,
                                               .closed = on_closed};

static void on_deadline(void *ctx, uint64_t now_us) {
  admin_conn *c = ctx;
  (void)now_us;
  c->over = true;
}

static void on_accepted(void *ctx, int fd, const msock_addr *peer) {
  msock_derpd_admin *a = ctx;
  admin_conn *c = NULL;
  (void)peer;
  if (a->n_conns == MSOCK_DERPD_ADMIN_CONNS || (c = calloc(1, sizeof *c)) == NULL) {
    close(fd);
    return;
  }
  c->a = a;
  if (msock_stream_adopt(a->loop, fd, &handlers, c, &c->stream) != MSOCK_OK) {
    free(c);
    return;
  }
  msock_loop_timer_init(&c->deadline, on_deadline, c);
  msock_loop_set_deadline(a->loop, &c->deadline,
                          msock_loop_now_us() + MSOCK_DERPD_ADMIN_DEADLINE_US);
  c->next = a->conns;
  a->conns = c;
  a->n_conns++;
}

static void free_conn(admin_conn *c) {
  msock_loop_set_deadline(c->a->loop, &c->deadline, MSOCK_NEVER);
  msock_stream_free(c->stream);
  msock_derpd_text_clear(&c->out);
  free(c);
}

void msock_derpd_admin_pump(msock_derpd_admin *a, uint64_t now_us) {
  (void)now_us;
  for (admin_conn **at = &a->conns; *at;) {
    admin_conn *c = *at;
    if (!c->over) {
      at = &c->next;
      continue;
    }
    *at = c->next;
    a->n_conns--;
    free_conn(c);
  }
}

/* --- life --- */

static msock_err listen_on(msock_derpd_admin *a, const msock_addr *on) {
  msock_addr at = *on;
  at.ip.family = on->ip.family ? on->ip.family : 4;
  msock_err e = msock_tcp_listener_new(a->cfg.egress, MSOCK_PURPOSE_LISTEN, &at, on_accepted, a,
                                       &a->at[a->n]);
  a->n += e == MSOCK_OK;
  if (e == MSOCK_OK && on->ip.family == 0) {
    at.ip.family = 6; /* a machine without IPv6 has one socket */
    a->n += msock_tcp_listener_new(a->cfg.egress, MSOCK_PURPOSE_LISTEN, &at, on_accepted, a,
                                   &a->at[a->n]) == MSOCK_OK;
  }
  return e;
}

msock_err msock_derpd_admin_new(const msock_derpd_admin_cfg *cfg, const msock_derpd_config *v,
                                msock_derpd_admin **out, char *why, size_t cap) {
  msock_derpd_admin *a = calloc(1, sizeof *a);
  if (a == NULL) {
    snprintf(why, cap, "out of memory");
    return MSOCK_ERR_NOMEM;
  }
  a->cfg = *cfg;
  a->loop = msock_egress_loop(cfg->egress);
  for (size_t i = 0; !msock_derpd_is_none(&v->admin_listen) && i < v->admin_listen.n; i++) {
    msock_addr on;
    msock_err e = msock_derpd_parse_listen(v->admin_listen.v[i], &on);
    e = e == MSOCK_OK ? listen_on(a, &on) : e;
    if (e != MSOCK_OK) {
      msock_derpd_listen_error(e, "the status page", v->admin_listen.v[i], "admin_listen", why,
                               cap);
      msock_derpd_admin_free(a);
      return e;
    }
  }
  *out = a;
  return MSOCK_OK;
}

void msock_derpd_admin_free(msock_derpd_admin *a) {
  if (a == NULL) {
    return;
  }
  while (a->conns != NULL) {
    admin_conn *c = a->conns;
    a->conns = c->next;
    free_conn(c);
  }
  for (size_t i = 0; i < a->n; i++) {
    msock_tcp_listener_free(a->at[i]);
  }
  free(a);
}

size_t msock_derpd_admin_count(const msock_derpd_admin *a) {
  return a->n;
}

msock_addr msock_derpd_admin_addr(const msock_derpd_admin *a, size_t i) {
  return msock_tcp_listener_addr(a->at[i]);
}
