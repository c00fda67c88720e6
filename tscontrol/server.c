#include "tscontrol/server.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "control/server_conn.h"
#include "io/stream.h"
#include "io/tcp_listener.h"

typedef struct ctl_conn {
  struct ctl_conn *next;
  msock_tscontrol *server;
  uint64_t id;
  msock_server_conn *machine;
  msock_stream *stream;
  uint64_t linger_us; /* MSOCK_NEVER, or when to stop waiting for the client's end */
  bool over;          /* freed at the end of the turn */
} ctl_conn;

/* Ours: after a whole answer the client closes. A close by us over bytes that were not read would
 * reset the connection and could destroy the answer. */
#define LINGER_US (1 * MSOCK_SEC)

struct msock_tscontrol {
  msock_loop *loop;
  msock_tscontrol_cfg cfg;
  msock_env env;
  msock_tcp_listener *listener;
  msock_loop_timer timer;
  msock_loop_hook hook;
  ctl_conn *conns;
  size_t n_conns;
  uint64_t last_id;
};

static ctl_conn *find(const msock_tscontrol *s, uint64_t id) {
  for (ctl_conn *c = s->conns; c; c = c->next) {
    if (c->id == id && !c->over) {
      return c;
    }
  }
  return NULL;
}

/* --- one connection --- */

static void take_events(ctl_conn *c) {
  msock_tscontrol *s = c->server;
  msock_server_event ev;
  while (msock_server_conn_next_event(c->machine, &ev)) {
    if (ev.kind == MSOCK_SERVER_EV_REQUEST) {
      msock_logf(s->cfg.log, MSOCK_LOG_DEBUG, "request.received",
                 "conn=%" PRIu64 " path=%s bytes=%zu", c->id, ev.request.path, ev.request.body_len);
      msock_tailnet_on_request(s->cfg.tailnet, msock_loop_now_us(), msock_loop_wall_us(), c->id,
                               msock_server_conn_machine(c->machine), &ev.request);
    } else if (ev.kind == MSOCK_SERVER_EV_STREAM_CLOSED) {
      msock_tailnet_on_stream_closed(s->cfg.tailnet, c->id, ev.request.stream);
    }
  }
}

static void on_readable(void *ctx, const uint8_t *p, size_t len) {
  ctl_conn *c = ctx;
  msock_server_conn_feed(c->machine, msock_loop_now_us(), p, len);
  take_events(c);
}

static void on_tx_peek(void *ctx, const uint8_t **p, size_t *len) {
  ctl_conn *c = ctx;
  *len = msock_server_conn_tx_peek(c->machine, p);
}

static void on_tx_consume(void *ctx, size_t n) {
  ctl_conn *c = ctx;
  msock_server_conn_tx_consume(c->machine, n);
}

static void on_closed(void *ctx, msock_err err, const char *reason) {
  ctl_conn *c = ctx;
  (void)err;
  msock_logf(c->server->cfg.log, MSOCK_LOG_DEBUG, "connection.closed",
             "conn=%" PRIu64 " reason=\"%s\"", c->id, reason);
  c->over = true;
}

static const msock_stream_handlers handlers = {
    .readable = on_readable,
    .tx_peek = on_tx_peek,
    .tx_consume = on_tx_consume,
    .closed = on_closed,
};

static void on_accepted(void *ctx, int fd, const msock_addr *peer) {
  msock_tscontrol *s = ctx;
  ctl_conn *c = NULL;
  (void)peer;
  if (s->n_conns == MSOCK_TSCONTROL_CONNS_MAX || (c = calloc(1, sizeof *c)) == NULL) {
    close(fd);
    return;
  }
  c->server = s;
  c->linger_us = MSOCK_NEVER;
  c->id = ++s->last_id;
  c->machine =
      msock_server_conn_new(&s->env, s->cfg.key, s->cfg.early_payload, msock_loop_now_us());
  if (c->machine == NULL) {
    close(fd);
    free(c);
    return;
  }
  if (msock_stream_adopt(s->loop, fd, &handlers, c, &c->stream) != MSOCK_OK) {
    msock_server_conn_free(c->machine);
    free(c);
    return;
  }
  c->next = s->conns;
  s->conns = c;
  s->n_conns++;
}

/* --- one turn --- */

static void carry_out(msock_tscontrol *s, msock_tailnet_out *o) {
  ctl_conn *c = find(s, o->conn);
  static const uint8_t none[1] = {0};
  const uint8_t *body = o->body ? o->body : none;
  if (c) {
    switch (o->kind) {
    case MSOCK_TAILNET_RESPOND:
      msock_server_conn_respond(c->machine, o->stream, o->status, body, o->len);
      break;
    case MSOCK_TAILNET_BEGIN:
      msock_server_conn_begin(c->machine, o->stream, o->status);
      break;
    case MSOCK_TAILNET_WRITE:
      msock_server_conn_write(c->machine, o->stream, body, o->len);
      break;
    case MSOCK_TAILNET_END:
      msock_server_conn_end(c->machine, o->stream);
      break;
    }
    msock_stream_want_write(c->stream);
  }
  free(o->body);
}

static void free_conn(ctl_conn *c) {
  msock_stream_free(c->stream);
  msock_server_conn_free(c->machine);
  free(c);
}

/* Time, events and the end of one connection. */
static void look_after(msock_tscontrol *s, ctl_conn *c, uint64_t now_us) {
  if (msock_server_conn_next_expiry(c->machine) <= now_us) {
    msock_server_conn_on_expiry(c->machine, now_us);
  }
  take_events(c); /* streams that ended by what was sent */
  if (!c->over && c->linger_us == MSOCK_NEVER && msock_server_conn_is_done(c->machine)) {
    c->linger_us = now_us + LINGER_US;
    msock_stream_finish(c->stream);
  }
  c->over = c->over || c->linger_us <= now_us;
  if (c->over) {
    msock_tailnet_on_conn_closed(s->cfg.tailnet, c->id);
  }
}

/* Frees what is over; gives the next deadline of the others. */
static uint64_t sweep(msock_tscontrol *s) {
  uint64_t next = MSOCK_NEVER;
  for (ctl_conn **at = &s->conns; *at;) {
    ctl_conn *c = *at;
    const uint8_t *p = NULL;
    if (c->over) {
      *at = c->next;
      free_conn(c);
      s->n_conns--;
      continue;
    }
    if (msock_server_conn_tx_peek(c->machine, &p) > 0) {
      msock_stream_want_write(c->stream);
    }
    const uint64_t t = msock_server_conn_next_expiry(c->machine);
    next = t < next ? t : next;
    next = c->linger_us < next ? c->linger_us : next;
    at = &c->next;
  }
  return next;
}

/* The end of a turn of the loop. */
static void pump(void *ctx, uint64_t now_us) {
  msock_tscontrol *s = ctx;
  msock_tailnet_out out;

  msock_tailnet_on_expiry(s->cfg.tailnet, now_us);
  for (ctl_conn *c = s->conns; c; c = c->next) {
    look_after(s, c, now_us);
  }
  while (msock_tailnet_next_output(s->cfg.tailnet, &out)) {
    carry_out(s, &out);
  }
  const uint64_t ours = sweep(s);
  const uint64_t t = msock_tailnet_next_expiry(s->cfg.tailnet);
  msock_loop_set_deadline(s->loop, &s->timer, t < ours ? t : ours);
  if (msock_tailnet_is_dirty(s->cfg.tailnet) && s->cfg.changed) {
    s->cfg.changed(s->cfg.ctx);
  }
}

/* Wakes the loop; the hook at the end of the turn does the work. */
static void on_deadline(void *ctx, uint64_t now_us) {
  (void)ctx;
  (void)now_us;
}

msock_err msock_tscontrol_new(msock_loop *loop, msock_egress *eg, const msock_tscontrol_cfg *cfg,
                              msock_tscontrol **out) {
  msock_tscontrol *s = calloc(1, sizeof *s);
  if (s == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  s->loop = loop;
  s->cfg = *cfg;
  s->env = msock_loop_env(loop);
  msock_loop_timer_init(&s->timer, on_deadline, s);
  const msock_err e =
      msock_tcp_listener_new(eg, MSOCK_PURPOSE_LISTEN, &cfg->listen, on_accepted, s, &s->listener);
  if (e != MSOCK_OK) {
    free(s);
    return e;
  }
  msock_loop_hook_add(loop, &s->hook, pump, s);
  *out = s;
  return MSOCK_OK;
}

void msock_tscontrol_free(msock_tscontrol *s) {
  if (s == NULL) {
    return;
  }
  msock_loop_hook_remove(&s->hook);
  msock_loop_set_deadline(s->loop, &s->timer, MSOCK_NEVER);
  while (s->conns) {
    ctl_conn *c = s->conns;
    s->conns = c->next;
    free_conn(c);
  }
  msock_tcp_listener_free(s->listener);
  free(s);
}

msock_addr msock_tscontrol_addr(const msock_tscontrol *s) {
  return msock_tcp_listener_addr(s->listener);
}
