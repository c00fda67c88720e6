/* One connection: bytes between its stream and the core. */
#include <stdlib.h>
#include <string.h>

#include "derpd/relay_internal.h"

#define OUT_FIRST 512u

bool relay_put(relay_client *c, const void *p, size_t len) {
  const size_t have = c->out ? c->out->len : 0;
  if (have + len > RELAY_OUT_MAX) {
    return false;
  }
  if (c->out == NULL || have + len > c->out->cap) {
    size_t cap = c->out ? 2u * c->out->cap : OUT_FIRST;
    while (cap < have + len) {
      cap *= 2;
    }
    relay_bytes *out = realloc(c->out, sizeof *out + cap);
    if (out == NULL) {
      return false;
    }
    if (c->out == NULL) {
      out->len = out->at = 0;
    }
    out->cap = (uint32_t)cap;
    c->out = out;
  }
  memcpy(c->out->b + c->out->len, p, len);
  c->out->len += (uint32_t)len;
  return true;
}

void relay_feed_core(relay_client *c, const uint8_t *p, size_t len) {
  if (len == 0) {
    return;
  }
  const msock_err e = msock_derp_server_feed(c->relay->core, msock_loop_now_us(), c->id, p, len);
  if (e == MSOCK_ERR_AGAIN || e == MSOCK_ERR_CLOSED) { /* a wake tells how it goes on */
    msock_stream_pause_read(c->stream, true);
  }
}

static void feed_websocket(relay_client *c, const uint8_t *p, size_t len) {
  while (len > 0 && !c->over && c->phase == RELAY_PHASE_WEBSOCKET) {
    msock_derpd_ws_step step;
    size_t n;
    const size_t used = msock_derpd_ws_feed(c->ws, p, len, &step, c->relay->scratch, &n);
    if (step == MSOCK_DERPD_WS_DATA) {
      relay_feed_core(c, c->relay->scratch, n);
    } else if (!relay_put(c, c->relay->scratch, n)) {
      relay_end(c);
    } else {
      c->phase = step == MSOCK_DERPD_WS_CLOSE ? RELAY_PHASE_ANSWER : c->phase;
      msock_stream_want_write(c->stream);
    }
    p += used;
    len -= used;
  }
}

static void on_readable(void *ctx, const uint8_t *p, size_t len) {
  relay_client *c = ctx;
  if (!c->over && c->phase == RELAY_PHASE_HEAD) {
    const size_t used = relay_feed_head(c, p, len);
    p += used;
    len -= used;
  }
  if (c->over || len == 0) {
    return;
  }
  if (c->phase == RELAY_PHASE_DERP) {
    relay_feed_core(c, p, len);
  } else if (c->phase == RELAY_PHASE_WEBSOCKET) {
    feed_websocket(c, p, len);
  } /* RELAY_PHASE_ANSWER: whatever follows a request that ends the connection */
}

/* The core's bytes as one message. */
static void wrap_message(relay_client *c) {
  const uint8_t *p;
  uint8_t head[MSOCK_DERPD_WS_HEAD_MAX];
  const uint64_t now_us = msock_loop_now_us();
  const size_t n = msock_derp_server_tx_peek(c->relay->core, now_us, c->id, &p);
  if (n > 0 && (!relay_put(c, head, msock_derpd_ws_head(n, head)) || !relay_put(c, p, n))) {
    relay_end(c);
    return;
  }
  if (n > 0) {
    msock_derp_server_tx_consume(c->relay->core, now_us, c->id, n);
  }
}

static void on_tx_peek(void *ctx, const uint8_t **p, size_t *len) {
  relay_client *c = ctx;
  *len = 0;
  if (c->over) {
    return;
  }
  if (c->phase == RELAY_PHASE_WEBSOCKET && c->out == NULL) {
    wrap_message(c);
  }
  if (c->out != NULL) {
    *p = c->out->b + c->out->at;
    *len = c->out->len - c->out->at;
  } else if (c->phase == RELAY_PHASE_DERP) {
    *len = msock_derp_server_tx_peek(c->relay->core, msock_loop_now_us(), c->id, p);
  }
}

static void on_tx_consume(void *ctx, size_t n) {
  relay_client *c = ctx;
  if (c->out == NULL) {
    msock_derp_server_tx_consume(c->relay->core, msock_loop_now_us(), c->id, n);
  } else if ((c->out->at += (uint32_t)n) == c->out->len) {
    free(c->out);
    c->out = NULL;
    if (c->phase == RELAY_PHASE_ANSWER) {
      relay_end(c);
    }
  }
  if (c->out == NULL && msock_derp_server_is_done(c->relay->core, c->id)) {
    relay_end(c);
  }
}

static void on_up(void *ctx, const msock_stream_info *info) {
  relay_client *c = ctx;
  if (c->kind == RELAY_KIND_LINK) {
    relay_link_up(c);
    return;
  }
  c->up = true;
  c->is_tls13 = info->tls->is_tls13;
  c->relay->stats.tls13 += c->is_tls13;
  c->relay->stats.tls12 += !c->is_tls13;
  c->relay->stats.tls13_total += c->is_tls13;
  c->relay->stats.tls12_total += !c->is_tls13;
}

static void on_closed(void *ctx, msock_err err, const char *reason) {
  relay_client *c = ctx;
  char from[MSOCK_ADDR_TEXT_MAX];
  (void)err;
  if (c->kind == RELAY_KIND_LINK) {
    msock_logf(c->relay->cfg.log, MSOCK_LOG_WARN, "mesh.link_ended", "host=%s reason=\"%s\"",
               c->link->http_host, reason);
  } else if (!c->up) {
    c->relay->stats.handshake_failures++;
    msock_logf(c->relay->cfg.log, MSOCK_LOG_DEBUG, "tls.failed", "from=%s reason=\"%s\"",
               msock_addr_text(&c->peer, from), reason);
  } else {
    msock_logf(c->relay->cfg.log, MSOCK_LOG_TRACE, "stream.closed", "conn=%u reason=\"%s\"",
               (unsigned)c->id, reason);
  }
  relay_end(c);
}

const msock_stream_handlers relay_stream_handlers = {.up = on_up,
                                                     .readable = on_readable,
                                                     .tx_peek = on_tx_peek,
                                                     .tx_consume = on_tx_consume,
                                                     .closed = on_closed};
