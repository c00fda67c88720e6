/* derp/server_send.c: the queues of a connection and the bytes that leave it.
 *
 * Three queues wait: notices of ours, disco, data. What goes into the next write moves to `out`,
 * from where nothing is dropped: the same bytes are shown until the socket has taken them. */
#include <string.h>

#include "derp/server_internal.h"

#define QUEUE_TIME_ALPHA 0.1 /* derp_average_queue_duration_ms: derp.md 4.7 */
#define WINDOW_US (10 * MSOCK_SEC)

void relay_count_drop(msock_derp_server *s, msock_derp_drop why, bool is_disco, uint64_t bytes) {
  const unsigned kind = is_disco ? MSOCK_DERP_KIND_DISCO : MSOCK_DERP_KIND_OTHER;
  s->stats.dropped[why][kind]++;
  s->stats.dropped_bytes[why][kind] += bytes;
}

static uint64_t payload_of(const relay_buf *b) {
  return b->len - (b->is_forward ? RELAY_FORWARD_OVERHEAD : MSOCK_DERP_PACKET_OVERHEAD);
}

/* A packet that was queued goes nowhere. */
static void drop(msock_derp_server *s, relay_conn *c, relay_buf *b, msock_derp_drop why) {
  if (b->is_packet) {
    relay_count_drop(s, why, b->is_disco, payload_of(b));
    s->stats.packets_queued--;
    c->dropped++;
  }
  relay_buf_free(&s->pool, b);
}

void relay_drop_oldest(msock_derp_server *s, relay_conn *c) {
  drop(s, c, relay_list_pop(&c->data), MSOCK_DERP_DROP_QUEUE_HEAD);
}

static void drop_list(msock_derp_server *s, relay_conn *c, relay_list *l, msock_derp_drop why) {
  relay_buf *b;
  while ((b = relay_list_pop(l)) != NULL) {
    drop(s, c, b, why);
  }
}

void relay_drop_queues(msock_derp_server *s, relay_conn *c) {
  drop_list(s, c, &c->notices, MSOCK_DERP_DROP_GONE_DISCONNECTED);
  drop_list(s, c, &c->disco, MSOCK_DERP_DROP_GONE_DISCONNECTED);
  drop_list(s, c, &c->data, MSOCK_DERP_DROP_GONE_DISCONNECTED);
  drop_list(s, c, &c->out, MSOCK_DERP_DROP_WRITE_ERROR);
}

void relay_drop_waiting(msock_derp_server *s, relay_conn *c) {
  drop_list(s, c, &c->disco, MSOCK_DERP_DROP_GONE_DISCONNECTED);
  drop_list(s, c, &c->data, MSOCK_DERP_DROP_GONE_DISCONNECTED);
}

bool relay_notice(msock_derp_server *s, relay_conn *c, const void *frame, size_t len) {
  const uint32_t max = c->is_watcher ? MSOCK_DERP_SERVER_WATCH_MAX : MSOCK_DERP_SERVER_NOTICES_MAX;
  relay_buf *b = c->notices.n < max ? relay_buf_new(&s->pool, len) : NULL;
  if (b == NULL) {
    s->stats.notices_lost++;
    return false;
  }
  memcpy(b->data, frame, len);
  b->len = (uint32_t)len;
  relay_list_push(&c->notices, b);
  relay_wake(s, c);
  return true;
}

bool relay_notice_frame(msock_derp_server *s, relay_conn *c, const msock_derp_frame *f) {
  uint8_t buf[256];
  const ptrdiff_t n = msock_derp_frame_encode(f, buf, sizeof buf);
  return n > 0 && relay_notice(s, c, buf, (size_t)n);
}

void relay_queue(msock_derp_server *s, uint64_t now_us, relay_conn *c, relay_buf *b) {
  relay_list *l = b->is_disco ? &c->disco : &c->data;
  const uint32_t max = b->is_disco ? s->set.queue_disco : s->set.queue_packets;
  while (l->n > 0 && (l->n >= max || (!b->is_disco && l->bytes + b->len > s->set.queue_bytes))) {
    drop(s, c, relay_list_pop(l), MSOCK_DERP_DROP_QUEUE_HEAD);
  }
  b->is_packet = true;
  b->at_us = now_us;
  s->stats.packets_queued++;
  relay_list_push(l, b);
  relay_wake(s, c);
}

bool relay_has_output(const relay_conn *c) {
  return c->out.n + c->notices.n + c->disco.n + c->data.n > 0 || c->pong_due || c->keepalive_due;
}

/* --- what leaves next --- */

static bool has_room(const relay_conn *c, size_t len) {
  return c->out.n == 0 || c->out.bytes - c->out_at + len <= MSOCK_DERP_SERVER_TX_MAX;
}

static void move(msock_derp_server *s, uint64_t now_us, relay_conn *c, relay_list *from) {
  while (from->n > 0 && has_room(c, from->head->len)) {
    relay_buf *b = relay_list_pop(from);
    if (b->is_packet) {
      const double waited_ms = (double)(now_us - b->at_us) / 1000.0;
      s->stats.queue_duration_ms += QUEUE_TIME_ALPHA * (waited_ms - s->stats.queue_duration_ms);
    }
    relay_list_push(&c->out, b);
  }
}

static void fill(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  if (c->pong_due) {
    msock_derp_frame f = {.type = MSOCK_DERP_PONG};
    memcpy(f.u.ping, c->pong, sizeof c->pong);
    c->pong_due = false;
    s->stats.pongs += relay_notice_frame(s, c, &f);
  }
  if (c->keepalive_due) {
    const msock_derp_frame f = {.type = MSOCK_DERP_KEEP_ALIVE};
    c->keepalive_due = false;
    (void)relay_notice_frame(s, c, &f);
  }
  do {
    move(s, now_us, c, &c->notices);
  } while (c->is_watcher && c->notices.n == 0 && relay_watch_next(s, c));
  if (c->notices.n == 0) {
    move(s, now_us, c, &c->disco);
    move(s, now_us, c, &c->data);
  }
}

/* out, put together; out_at bytes of the first are gone already. */
static size_t assemble(msock_derp_server *s, const relay_conn *c) {
  size_t at = 0, skip = c->out_at;
  for (const relay_buf *b = c->out.head; b != NULL; b = b->next) {
    memcpy(s->scratch + at, b->data + skip, b->len - skip);
    at += b->len - skip;
    skip = 0;
  }
  return at;
}

size_t msock_derp_server_tx_peek(msock_derp_server *s, uint64_t now_us, uint32_t conn,
                                 const uint8_t **p) {
  relay_conn *c = relay_find(s, conn);
  if (c == NULL || c->dead) {
    return 0;
  }
  if (!c->peeked) {
    fill(s, now_us, c);
  }
  if (c->out.n == 0 || c->dead) {
    return 0;
  }
  c->peeked = true;
  if (c->stall_us == MSOCK_NEVER) {
    relay_settle(s, now_us);
    c->stall_us = now_us + (c->is_mesh ? s->set.mesh_stall_us : s->set.stall_us);
    s->unsettled = conn;
  }
  const size_t left = c->out.head->len - c->out_at;
  if (c->out.n == 1 || left > MSOCK_DERP_SERVER_TX_MAX) {
    *p = c->out.head->data + c->out_at;
    return left;
  }
  *p = s->scratch;
  return assemble(s, c);
}

/* --- what has left --- */

void relay_windows(relay_conn *c, uint64_t now_us) {
  const uint64_t span = now_us - c->window_us;
  if (span >= WINDOW_US) {
    c->rate_in = c->window_in * MSOCK_SEC / span;
    c->rate_out = c->window_out * MSOCK_SEC / span;
    c->window_in = c->window_out = 0;
    c->window_us = now_us;
  }
}

static void count_sent(msock_derp_server *s, relay_conn *c, const relay_buf *b) {
  const uint64_t n = payload_of(b);
  s->stats.packets_queued--;
  s->stats.forwarded_out += b->is_forward; /* the others are clients' */
  s->stats.packets_out += !b->is_forward;
  s->stats.bytes_out += b->is_forward ? 0 : n;
  c->packets_out++;
  c->bytes_out += n;
  c->window_out += n;
}

void msock_derp_server_tx_consume(msock_derp_server *s, uint64_t now_us, uint32_t conn, size_t n) {
  relay_conn *c = relay_find(s, conn);
  if (c == NULL || n == 0) {
    return;
  }
  c->peeked = false;
  n += c->out_at;
  while (c->out.n > 0 && n >= c->out.head->len) {
    relay_buf *b = relay_list_pop(&c->out);
    n -= b->len;
    if (b->is_packet) {
      count_sent(s, c, b);
    }
    relay_buf_free(&s->pool, b);
  }
  c->out_at = (uint32_t)n;
  relay_windows(c, now_us);
  if (c->out.n == 0) {
    c->out_at = 0;
    c->stall_us = MSOCK_NEVER;
  } else {
    relay_settle(s, now_us);
    c->stall_us = now_us + (c->is_mesh ? s->set.mesh_stall_us : s->set.stall_us);
    s->unsettled = conn;
  }
  if (c->stall_armed) {
    relay_arm(s, now_us, c);
  }
}
