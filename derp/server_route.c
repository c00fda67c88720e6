/* derp/server_route.c: from whom to whom: packets, notices about who is here, the mesh. */
#include <string.h>

#include "base/disco_look.h"
#include "derp/server_internal.h"

/* --- notices --- */

void relay_tell_gone(msock_derp_server *s, relay_conn *c, const msock_node_key *key,
                     uint8_t reason) {
  msock_derp_frame f = {.type = MSOCK_DERP_PEER_GONE};
  f.u.peer_gone.key = *key;
  f.u.peer_gone.reason = reason;
  f.u.peer_gone.has_reason = true;
  if (relay_notice_frame(s, c, &f)) {
    s->stats.gone_disconnected += reason == MSOCK_DERP_GONE_DISCONNECTED;
    s->stats.gone_not_here += reason == MSOCK_DERP_GONE_NOT_HERE;
  }
}

/* A disco packet to a key that is not here: the sender may stop trying. Bounded, so that a scan
 * does not double its own traffic. */
static void tell_not_here(msock_derp_server *s, uint64_t now_us, relay_conn *c,
                          const msock_node_key *key) {
  const uint64_t refill = (now_us - c->gone_full_us) / MSOCK_DERP_SERVER_GONE_REFILL_US;
  if (refill > 0) {
    const uint64_t tokens = c->gone_tokens + refill;
    c->gone_tokens =
        tokens > MSOCK_DERP_SERVER_GONE_BURST ? MSOCK_DERP_SERVER_GONE_BURST : (uint32_t)tokens;
    c->gone_full_us += refill * MSOCK_DERP_SERVER_GONE_REFILL_US;
  }
  if (c->gone_tokens > 0) {
    if (c->gone_tokens == MSOCK_DERP_SERVER_GONE_BURST) {
      c->gone_full_us = now_us; /* the bucket begins to refill now */
    }
    c->gone_tokens--;
    relay_tell_gone(s, c, key, MSOCK_DERP_GONE_NOT_HERE);
  }
}

/* --- packets --- */

/* A buffer with the frame of a packet from src; NULL: no memory. */
static relay_buf *pack(msock_derp_server *s, relay_conn *to, const uint8_t *data, size_t len) {
  const size_t want = MSOCK_DERP_PACKET_OVERHEAD + len;
  relay_buf *b = relay_buf_new(&s->pool, want);
  while (b == NULL && to->data.n > 0) { /* the room of its own oldest */
    relay_drop_oldest(s, to);
    b = relay_buf_new(&s->pool, want);
  }
  if (b != NULL && len > 0) {
    memcpy(b->data + MSOCK_DERP_PACKET_OVERHEAD, data, len);
  }
  return b;
}

/* Makes b, which has the packet behind its header, the frame that leaves. */
static void address(relay_buf *b, const msock_node_key *src, size_t len, bool is_disco) {
  msock_derp_header_write(b->data, (msock_derp_header){.type = MSOCK_DERP_RECV_PACKET,
                                                       .len = (uint32_t)(MSOCK_KEY_LEN + len)});
  memcpy(b->data + MSOCK_DERP_HEADER_LEN, src->b, sizeof src->b);
  b->len = (uint32_t)(MSOCK_DERP_PACKET_OVERHEAD + len);
  b->is_disco = is_disco;
}

static void count_in(msock_derp_server *s, uint64_t now_us, relay_conn *from, size_t len,
                     bool is_disco) {
  s->stats.packets_in++;
  s->stats.bytes_in += len;
  s->stats.packets_in_kind[is_disco ? MSOCK_DERP_KIND_DISCO : MSOCK_DERP_KIND_OTHER]++;
  from->packets_in++;
  from->bytes_in += len;
  from->window_in += len;
  relay_windows(from, now_us);
}

static relay_key *destination(const msock_derp_server *s, const relay_conn *from,
                              const uint8_t *key) {
  msock_node_key k;
  if (from->flow != NULL && memcmp(from->flow->dst->key.b, key, sizeof k.b) == 0) {
    return from->flow->dst;
  }
  memcpy(k.b, key, sizeof k.b);
  relay_key *dst = relay_key_find(s, &k);
  return dst != NULL && (dst->conns != NULL || dst->remotes != NULL) ? dst : NULL;
}

static void no_such_key(msock_derp_server *s, uint64_t now_us, relay_conn *from, const uint8_t *key,
                        size_t len, bool is_disco, msock_derp_drop why) {
  relay_count_drop(s, why, is_disco, len);
  if (is_disco) {
    msock_node_key k;
    memcpy(k.b, key, sizeof k.b);
    tell_not_here(s, now_us, from, &k);
  }
}

bool relay_route(msock_derp_server *s, uint64_t now_us, relay_conn *from, const uint8_t *payload,
                 size_t len, relay_buf *b) {
  const uint8_t *data = payload + MSOCK_KEY_LEN;
  const size_t n = len - MSOCK_KEY_LEN;
  const bool is_disco = msock_looks_like_disco(data, n);
  count_in(s, now_us, from, n, is_disco);
  relay_key *dst = destination(s, from, payload);
  if (dst == NULL) {
    no_such_key(s, now_us, from, payload, n, is_disco, MSOCK_DERP_DROP_UNKNOWN_DEST);
    return false;
  }
  if (dst->conns == NULL) {
    relay_forward_out(s, now_us, from, dst, data, n, is_disco);
    return false;
  }
  relay_conn *to = dst->active;
  if (to->dead) {
    relay_count_drop(s, MSOCK_DERP_DROP_GONE_DISCONNECTED, is_disco, n);
    return false;
  }
  relay_flow *f = relay_flow_pass(s, now_us, from, dst, n);
  if (f == NULL) {
    relay_count_drop(s, MSOCK_DERP_DROP_FLOW_LIMIT, is_disco, n);
    return false;
  }
  relay_buf *out = b != NULL ? b : pack(s, to, data, n);
  if (out == NULL) {
    relay_count_drop(s, MSOCK_DERP_DROP_QUEUE_TAIL, is_disco, n);
    return false;
  }
  address(out, &from->key->key, n, is_disco);
  relay_flow_heard(f, to);
  relay_queue(s, now_us, to, out);
  return true;
}

void relay_forwarded(msock_derp_server *s, uint64_t now_us, relay_conn *from,
                     const msock_derp_frame *f) {
  const bool is_disco = msock_looks_like_disco(f->u.forward.data, f->u.forward.len);
  relay_key *dst = relay_key_find(s, &f->u.forward.dst);
  s->stats.forwarded_in++;
  if (dst == NULL || dst->conns == NULL) { /* one hop: never forwarded again */
    no_such_key(s, now_us, from, f->u.forward.dst.b, f->u.forward.len, is_disco,
                MSOCK_DERP_DROP_UNKNOWN_DEST_ON_FWD);
    return;
  }
  relay_buf *b =
      dst->active->dead ? NULL : pack(s, dst->active, f->u.forward.data, f->u.forward.len);
  if (b == NULL) {
    relay_count_drop(
        s, dst->active->dead ? MSOCK_DERP_DROP_GONE_DISCONNECTED : MSOCK_DERP_DROP_QUEUE_TAIL,
        is_disco, f->u.forward.len);
    return;
  }
  address(b, &f->u.forward.src, f->u.forward.len, is_disco);
  relay_heard_remote(s, now_us, &f->u.forward.src, dst->active);
  relay_queue(s, now_us, dst->active, b);
}

/* --- the mesh: who is here --- */

static uint8_t flags_of(const relay_conn *c) {
  const unsigned flags = (c->is_mesh ? MSOCK_DERP_PRESENT_MESH : 0) |
                         (c->is_prober ? MSOCK_DERP_PRESENT_PROBER : 0) |
                         (c->is_not_ideal ? MSOCK_DERP_PRESENT_NOT_IDEAL : 0);
  return (uint8_t)(flags == 0 ? MSOCK_DERP_PRESENT_REGULAR : flags);
}

/* A watcher that misses one notice is wrong for good: it is closed, comes back and is told all. */
static void tell_watcher(msock_derp_server *s, relay_conn *w, const msock_derp_frame *f) {
  if (!relay_notice_frame(s, w, f)) {
    relay_kill(s, w, MSOCK_DERP_CAUSE_WATCH_BEHIND);
  }
}

static void tell_present_to(msock_derp_server *s, relay_conn *w, const relay_conn *c) {
  msock_derp_frame f = {.type = MSOCK_DERP_PEER_PRESENT};
  f.u.peer_present.key = c->key->key;
  f.u.peer_present.has_addr = f.u.peer_present.has_flags = true;
  f.u.peer_present.addr = c->from;
  f.u.peer_present.flags = flags_of(c);
  tell_watcher(s, w, &f);
}

static uint32_t slot_of(const relay_conn *c) {
  return c->id & (MSOCK_DERP_SERVER_CONNS_MAX - 1);
}

void relay_watch(msock_derp_server *s, relay_conn *c) {
  if (c->is_watcher || msock_node_key_equal(&c->key->key, &s->public_key)) { /* itself: nothing */
    return;
  }
  if (s->n_watchers == sizeof s->watchers / sizeof *s->watchers) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_WATCH_BEHIND);
    return;
  }
  s->watchers[s->n_watchers++] = c->id;
  c->is_watcher = true;
  c->watch_at = 0;
  relay_wake(s, c);
}

void relay_unwatch(msock_derp_server *s, relay_conn *c) {
  for (size_t i = 0; c->is_watcher && i < s->n_watchers; i++) {
    if (s->watchers[i] == c->id) {
      s->watchers[i] = s->watchers[--s->n_watchers];
      c->is_watcher = false;
    }
  }
}

bool relay_watch_next(msock_derp_server *s, relay_conn *c) {
  while (c->watch_at < s->n_slots) {
    const relay_conn *o = s->slots[c->watch_at++].c;
    if (o != NULL && o->phase == RELAY_UP && o->key->active == o) {
      tell_present_to(s, c, o);
      return !c->dead;
    }
  }
  return false;
}

/* Those whose first round has not come to the slot will be told by it. */
void relay_tell_present(msock_derp_server *s, const relay_conn *c) {
  for (size_t i = 0; i < s->n_watchers; i++) {
    relay_conn *w = relay_find(s, s->watchers[i]);
    if (w == NULL || w == c) {
      continue;
    }
    if (w->watch_at > slot_of(c)) {
      tell_present_to(s, w, c);
    } else {
      relay_wake(s, w);
    }
  }
}

void relay_tell_absent(msock_derp_server *s, const relay_conn *c) {
  msock_derp_frame f = {.type = MSOCK_DERP_PEER_GONE};
  f.u.peer_gone.key = c->key->key;
  f.u.peer_gone.has_reason = true;
  for (size_t i = 0; i < s->n_watchers; i++) {
    relay_conn *w = relay_find(s, s->watchers[i]);
    if (w != NULL && w != c) {
      tell_watcher(s, w, &f);
    }
  }
}

void relay_close_peer(msock_derp_server *s, const msock_node_key *key) {
  relay_key *k = relay_key_find(s, key);
  for (relay_conn *c = k != NULL ? k->conns : NULL; c != NULL; c = c->same_key) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_CLOSE_PEER);
  }
}
