#include "node/relay.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/stream.h"

typedef struct relay_conn {
  struct relay_conn *next;
  msock_relay *relay;
  msock_derp_conn_id id;
  msock_region_id region;
  char host[256];
  char cert_name[256];
  bool was_up;
  msock_stream *stream;
} relay_conn;

struct msock_relay {
  msock_node_deps deps;
  msock_relay_handlers handlers;
  void *ctx;
  msock_derp_pool *pool;
  relay_conn *conns;
};

msock_relay *msock_relay_new(const msock_node_deps *deps, const msock_relay_handlers *handlers,
                             void *ctx) {
  msock_relay *r = calloc(1, sizeof *r);
  if (r == NULL) {
    return NULL;
  }
  r->deps = *deps;
  r->handlers = *handlers;
  r->ctx = ctx;
  r->pool = msock_derp_pool_new(&r->deps.env);
  if (r->pool == NULL) {
    free(r);
    return NULL;
  }
  msock_derp_pool_set_v6(r->pool, msock_egress_allows(deps->egress, MSOCK_PURPOSE_IPV6), false);
  return r;
}

static void conn_free(msock_relay *r, relay_conn *c) {
  for (relay_conn **at = &r->conns; *at; at = &(*at)->next) {
    if (*at == c) {
      *at = c->next;
      break;
    }
  }
  msock_stream_free(c->stream);
  free(c);
}

void msock_relay_free(msock_relay *r) {
  if (r == NULL) {
    return;
  }
  while (r->conns) {
    conn_free(r, r->conns);
  }
  msock_derp_pool_free(r->pool);
  free(r);
}

msock_derp_pool *msock_relay_pool(msock_relay *r) {
  return r->pool;
}

static relay_conn *conn_find(const msock_relay *r, msock_derp_conn_id id) {
  for (relay_conn *c = r->conns; c; c = c->next) {
    if (c->id == id) {
      return c;
    }
  }
  return NULL;
}

/* --- what the pool reports --- */

static void log_down(msock_relay *r, const msock_derp_pool_event *ev) {
  msock_logf(r->deps.log, ev->u.down.was_up ? MSOCK_LOG_WARN : MSOCK_LOG_INFO,
             ev->u.down.was_up ? "derp.disconnected" : "derp.connect_failed",
             "region=%" PRIu64 " restarting=%d reason=\"%s\"", ev->region, ev->u.down.restarting,
             ev->u.down.text ? ev->u.down.text : "");
}

static void on_event(msock_relay *r, uint64_t now_us, const msock_derp_pool_event *ev) {
  switch (ev->kind) {
  case MSOCK_DERP_POOL_PACKET:
    r->handlers.packet(r->ctx, now_us, ev->region, &ev->u.packet.src, ev->u.packet.data,
                       ev->u.packet.len);
    break;
  case MSOCK_DERP_POOL_PEER_GONE:
    r->handlers.peer_gone(r->ctx, now_us, ev->region, &ev->u.peer_gone.peer);
    break;
  case MSOCK_DERP_POOL_REGION_UP:
    msock_logf(r->deps.log, MSOCK_LOG_INFO, "derp.connected", "region=%" PRIu64, ev->region);
    r->handlers.region_up(r->ctx, now_us, ev->region);
    break;
  case MSOCK_DERP_POOL_REGION_DOWN:
    log_down(r, ev);
    if (ev->u.down.was_up) {
      r->handlers.region_lost(r->ctx, now_us, ev->region);
    }
    break;
  case MSOCK_DERP_POOL_HOME:
    r->handlers.home(r->ctx, now_us, ev->region, ev->u.home.connected);
    break;
  case MSOCK_DERP_POOL_HEALTH:
    msock_logf(r->deps.log, MSOCK_LOG_WARN, "derp.health", "region=%" PRIu64 " text=\"%s\"",
               ev->region, ev->u.health.text);
    break;
  case MSOCK_DERP_POOL_RESTARTING:
    msock_logf(r->deps.log, MSOCK_LOG_INFO, "derp.restarting",
               "region=%" PRIu64 " reconnect_in_ms=%" PRIu32 " try_for_ms=%" PRIu32, ev->region,
               ev->u.restarting.reconnect_in_ms, ev->u.restarting.try_for_ms);
    break;
  case MSOCK_DERP_POOL_PONG:
    break;
  case MSOCK_DERP_POOL_REPROBE:
    r->handlers.reprobe(r->ctx, now_us);
    break;
  }
}

static void drain_events(msock_relay *r, uint64_t now_us) {
  msock_derp_pool_event ev;
  while (msock_derp_pool_next_event(r->pool, now_us, &ev)) {
    on_event(r, now_us, &ev);
  }
}

/* --- the stream's callbacks --- */

static void on_up(void *ctx, const msock_stream_info *info) {
  relay_conn *c = ctx;
  msock_derp_conn_info up = {.local = info->local.ip};
  if (info->tls) {
    up.is_tls13 = info->tls->is_tls13;
    up.has_meta_key = info->tls->has_meta_key;
    memcpy(up.meta_key.b, info->tls->meta_key, sizeof up.meta_key.b);
  }
  c->was_up = true;
  c->relay->handlers.connected(c->relay->ctx, c->region, info->tcp_us);
  msock_derp_pool_conn_up(c->relay->pool, msock_loop_now_us(), c->id, &up);
}

static void on_readable(void *ctx, const uint8_t *p, size_t len) {
  relay_conn *c = ctx;
  const uint64_t now_us = msock_loop_now_us();
  /* the owner may free the stream only in pump: the actions wait there */
  msock_derp_pool_conn_feed(c->relay->pool, now_us, c->id, p, len);
  drain_events(c->relay, now_us);
}

static void on_tx_peek(void *ctx, const uint8_t **p, size_t *len) {
  relay_conn *c = ctx;
  msock_derp_pool_conn_tx_peek(c->relay->pool, msock_loop_now_us(), c->id, p, len);
}

static void on_tx_consume(void *ctx, size_t n) {
  relay_conn *c = ctx;
  msock_derp_pool_conn_tx_consume(c->relay->pool, c->id, n);
}

static void on_closed(void *ctx, msock_err err, const char *reason) {
  relay_conn *c = ctx;
  msock_relay *r = c->relay;
  const msock_derp_conn_id id = c->id;
  msock_derp_down why = MSOCK_DERP_DOWN_IO;
  char text[200];

  if (!c->was_up) {
    why = err == MSOCK_ERR_AUTH ? MSOCK_DERP_DOWN_TLS : MSOCK_DERP_DOWN_TCP;
  } else if (err == MSOCK_ERR_CLOSED) {
    why = MSOCK_DERP_DOWN_EOF;
  }
  strncpy(text, reason, sizeof text - 1);
  text[sizeof text - 1] = '\0';
  conn_free(r, c);
  msock_derp_pool_conn_down(r->pool, msock_loop_now_us(), id, why, text);
}

static const msock_stream_handlers stream_handlers = {
    .up = on_up,
    .readable = on_readable,
    .tx_peek = on_tx_peek,
    .tx_consume = on_tx_consume,
    .closed = on_closed,
};

/* --- what the pool asks for --- */

static void dial(msock_relay *r, uint64_t now_us, const msock_derp_action *a) {
  relay_conn *c = calloc(1, sizeof *c);
  msock_stream_config cfg = {.tls = true, .budget_us = a->deadline_us - now_us};

  if (c == NULL) {
    msock_derp_pool_conn_down(r->pool, now_us, a->conn, MSOCK_DERP_DOWN_IO, "out of memory");
    return;
  }
  c->relay = r;
  c->id = a->conn;
  c->region = a->region;
  memcpy(c->host, a->node.host_name, sizeof c->host);
  memcpy(c->cert_name, a->node.cert_name, sizeof c->cert_name);
  cfg.target = (msock_tcp_target){.purpose = MSOCK_PURPOSE_DERP, .budget_us = a->tcp_budget_us};
  memcpy(cfg.target.host, a->node.host_name, sizeof cfg.target.host);
  for (size_t i = 0; i < a->plan.n; i++) {
    const msock_derp_candidate *k = &a->plan.candidate[i];
    cfg.target.port = k->port;
    cfg.target.resolve_v4 |= k->resolve && k->family == 4;
    cfg.target.resolve_v6 |= k->resolve && k->family == 6;
    if (!k->resolve) {
      cfg.target.literal[i] = k->ip;
    }
    if (k->family == 4) {
      cfg.target.v4_delay_us = k->start_delay_us;
    }
  }
  cfg.tls_config = (msock_tls_config){.host = c->host,
                                      .cert_name = c->cert_name,
                                      .roots = r->deps.roots,
                                      .insecure_for_tests = a->node.insecure_for_tests};
  c->next = r->conns;
  r->conns = c;
  const msock_err e = msock_stream_dial(r->deps.egress, &cfg, &stream_handlers, c, &c->stream);
  if (e != MSOCK_OK) {
    conn_free(r, c);
    msock_derp_pool_conn_down(r->pool, now_us, a->conn, MSOCK_DERP_DOWN_TCP, msock_err_text(e));
  }
}

void msock_relay_pump(msock_relay *r, uint64_t now_us) {
  msock_derp_action a;

  if (msock_derp_pool_next_expiry(r->pool) <= now_us) {
    msock_derp_pool_on_expiry(r->pool, now_us);
  }
  drain_events(r, now_us);
  while (msock_derp_pool_next_action(r->pool, now_us, &a)) {
    relay_conn *c = conn_find(r, a.conn);
    if (a.kind == MSOCK_DERP_ACTION_DIAL) {
      dial(r, now_us, &a);
    } else if (a.kind == MSOCK_DERP_ACTION_CLOSE && c) {
      conn_free(r, c);
    } else if (a.kind == MSOCK_DERP_ACTION_WRITE && c) {
      msock_stream_want_write(c->stream);
    }
  }
  drain_events(r, now_us);
}

bool msock_relay_send(msock_relay *r, uint64_t now_us, const msock_node_key *dst,
                      msock_region_id home, const uint8_t *p, size_t len) {
  return msock_derp_pool_send(r->pool, now_us, dst, home, p, len) == MSOCK_OK;
}

uint64_t msock_relay_next_expiry(const msock_relay *r) {
  return msock_derp_pool_next_expiry(r->pool);
}
