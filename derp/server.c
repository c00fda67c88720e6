#include "derp/server.h"

#include <stdlib.h>
#include <string.h>

#include "base/disco_look.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "derp/login.h"
#include "derp/server_internal.h"

#define SLOT_BITS 6u     /* RELAY_SLOTS slots */
#define TX_BATCH 16384u  /* small frames go together, one TLS record at most */
#define RX_KEEP 4096u    /* a larger buffer is given back when it is empty */
#define BIG_PACKET 4096u /* queue slots that held a longer one are given back when empty */

/* --- connections --- */

static relay_conn *find(const msock_derp_server *s, uint32_t conn) {
  relay_conn *c = s->conns[conn % RELAY_SLOTS];
  return c != NULL && c->id == conn ? c : NULL;
}

static uint64_t bit_of(const relay_conn *c) {
  return UINT64_C(1) << c->id % RELAY_SLOTS;
}

/* The connection that gets the packets of a key: the one that spoke last (derp.md 4.2). NULL: the
 * key is not here. */
static relay_conn *active(const msock_derp_server *s, const msock_node_key *key,
                          const relay_conn *but) {
  relay_conn *best = NULL;
  for (size_t i = 0; i < RELAY_SLOTS; i++) {
    relay_conn *c = s->conns[i];
    if (c != NULL && c != but && c->phase == RELAY_UP && msock_node_key_equal(&c->key, key) &&
        (best == NULL || c->spoke > best->spoke)) {
      best = c;
    }
  }
  return best;
}

msock_derp_server *msock_derp_server_new(const msock_env *env, const msock_node_private *key) {
  _Static_assert(1u << SLOT_BITS == RELAY_SLOTS, "ids hold the slot");
  msock_derp_server *s = calloc(1, sizeof *s);
  if (s != NULL) {
    s->env = env;
    s->key = *key;
    s->public_key = msock_node_private_public(key);
  }
  return s;
}

static void free_conn(relay_conn *c) {
  msock_derp_queue_clear(&c->queue);
  free(c->rx);
  free(c->tx);
  free(c);
}

void msock_derp_server_free(msock_derp_server *s) {
  if (s == NULL) {
    return;
  }
  for (size_t i = 0; i < RELAY_SLOTS; i++) {
    if (s->conns[i] != NULL) {
      free_conn(s->conns[i]);
    }
  }
  msock_wipe(&s->key, sizeof s->key);
  free(s);
}

msock_err msock_derp_server_open(msock_derp_server *s, uint64_t now_us, uint32_t *conn) {
  relay_conn *c = NULL;
  uint32_t slot = 0;
  while (slot < RELAY_SLOTS && s->conns[slot] != NULL) {
    slot++;
  }
  if (slot == RELAY_SLOTS || (c = calloc(1, sizeof *c)) == NULL) {
    s->stats.refused_full++;
    return MSOCK_ERR_NOMEM;
  }
  c->id = ++s->generation << SLOT_BITS | slot;
  c->phase = RELAY_HTTP;
  c->login_us = now_us + MSOCK_DERP_SERVER_LOGIN_US;
  c->keepalive_us = c->stall_us = MSOCK_NEVER;
  s->conns[slot] = c;
  s->stats.accepted++;
  *conn = c->id;
  return MSOCK_OK;
}

/* --- what waits for the socket --- */

static bool grow(relay_conn *c, uint8_t **p, size_t *cap, size_t want) {
  if (*cap < want) {
    uint8_t *more = realloc(*p, want);
    if (more == NULL) {
      c->dead = c->wake = true;
      return false;
    }
    *p = more;
    *cap = want;
  }
  return true;
}

bool relay_rx_fit(relay_conn *c, size_t cap) {
  return grow(c, &c->rx, &c->rx_cap, cap);
}

bool relay_send(relay_conn *c, const void *p, size_t len) {
  if (!grow(c, &c->tx, &c->tx_cap, c->tx_len + len)) {
    return false;
  }
  if (len > 0) {
    memcpy(c->tx + c->tx_len, p, len);
    c->tx_len += len;
    c->wake = true;
  }
  return true;
}

static void send_frame(relay_conn *c, const msock_derp_frame *f) {
  uint8_t buf[MSOCK_DERP_HEADER_LEN + MSOCK_KEY_LEN + 8];
  const ptrdiff_t n = msock_derp_frame_encode(f, buf, sizeof buf);
  relay_send(c, buf, (size_t)n);
}

static void fill_control(msock_derp_server *s, relay_conn *c) {
  if (c->pong_due) {
    msock_derp_frame f = {.type = MSOCK_DERP_PONG};
    memcpy(f.u.ping, c->pong, sizeof c->pong);
    c->pong_due = false;
    send_frame(c, &f);
  }
  if (c->keepalive_due) {
    const msock_derp_frame f = {.type = MSOCK_DERP_KEEP_ALIVE};
    c->keepalive_due = false;
    send_frame(c, &f);
  }
  while (c->n_gone > 0) {
    const relay_gone *g = &c->gone[c->gone_at];
    msock_derp_frame f = {.type = MSOCK_DERP_PEER_GONE};
    f.u.peer_gone.key = g->key;
    f.u.peer_gone.reason = g->reason;
    f.u.peer_gone.has_reason = true;
    send_frame(c, &f);
    c->gone_at = (c->gone_at + 1) % 64;
    c->n_gone--;
    s->stats.gone_sent++;
  }
}

/* Moves frames from the queues to tx, up to a batch. A queued SendPacket frame has the layout of
 * the RecvPacket that leaves: the key in it is already the sender's. */
static void fill(msock_derp_server *s, relay_conn *c) {
  if (c->phase != RELAY_UP || c->closing) {
    return;
  }
  fill_control(s, c);
  const msock_derp_slot *slot;
  while ((slot = msock_derp_queue_peek(&c->queue)) != NULL &&
         (c->tx_len == 0 || c->tx_len + slot->len <= TX_BATCH)) {
    const size_t at = c->tx_len;
    if (!relay_send(c, slot->frame, slot->len)) {
      return;
    }
    c->tx[at] = MSOCK_DERP_RECV_PACKET;
    msock_derp_queue_pop(&c->queue);
    s->stats.packets_out++;
  }
  if (c->big && slot == NULL) {
    msock_derp_queue_trim(&c->queue);
    c->big = false;
  }
}

size_t msock_derp_server_tx_peek(msock_derp_server *s, uint64_t now_us, uint32_t conn,
                                 const uint8_t **p) {
  relay_conn *c = find(s, conn);
  if (c == NULL || c->dead) {
    return 0;
  }
  if (c->tx_at == c->tx_len) {
    c->tx_at = c->tx_len = 0;
    fill(s, c);
    c->wake = c->dead;
  }
  const size_t left = c->tx_len - c->tx_at;
  if (left > 0 && c->stall_us == MSOCK_NEVER) {
    c->stall_us = now_us + MSOCK_DERP_SERVER_STALL_US;
  }
  if (left == 0 || c->dead) { /* there may be no buffer yet */
    return 0;
  }
  *p = c->tx + c->tx_at;
  return left;
}

void msock_derp_server_tx_consume(msock_derp_server *s, uint64_t now_us, uint32_t conn, size_t n) {
  relay_conn *c = find(s, conn);
  if (c == NULL || n == 0) {
    return;
  }
  c->tx_at += n;
  c->stall_us = c->tx_at == c->tx_len ? MSOCK_NEVER : now_us + MSOCK_DERP_SERVER_STALL_US;
}

bool msock_derp_server_is_done(const msock_derp_server *s, uint32_t conn) {
  const relay_conn *c = find(s, conn);
  return c == NULL || c->dead || (c->closing && c->tx_at == c->tx_len);
}

bool msock_derp_server_next_wake(msock_derp_server *s, uint32_t *conn) {
  for (size_t i = 0; i < RELAY_SLOTS; i++) {
    s->wake_at = (s->wake_at + 1) % RELAY_SLOTS;
    relay_conn *c = s->conns[s->wake_at];
    if (c != NULL && c->wake) {
      c->wake = false;
      *conn = c->id;
      return true;
    }
  }
  return false;
}

/* --- frames that come in --- */

static void tell_gone(relay_conn *c, const msock_node_key *key, uint8_t reason) {
  if (c->n_gone < 64) {
    relay_gone *g = &c->gone[(c->gone_at + c->n_gone++) % 64];
    g->key = *key;
    g->reason = reason;
    c->wake = true;
  }
}

/* A disco packet to a key that is not here: the sender may stop trying. Bounded, so that a scan
 * does not double its own traffic. */
static void tell_not_here(relay_conn *c, uint64_t now_us, const msock_node_key *key) {
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
    tell_gone(c, key, MSOCK_DERP_GONE_NOT_HERE);
  }
}

static void forward(msock_derp_server *s, uint64_t now_us, relay_conn *from,
                    const msock_derp_frame *f) {
  relay_conn *to = active(s, &f->u.packet.key, NULL);
  s->stats.packets_in++;
  if (to == NULL) {
    s->stats.dropped_unknown++;
    if (msock_looks_like_disco(f->u.packet.data, f->u.packet.len)) {
      tell_not_here(from, now_us, &f->u.packet.key);
    }
    return;
  }
  const uint64_t disco = to->queue.dropped_disco, data = to->queue.dropped_data;
  if (msock_derp_queue_push(&to->queue, &from->key, f->u.packet.data, f->u.packet.len) !=
      MSOCK_OK) {
    s->stats.dropped_nomem++;
    return;
  }
  s->stats.dropped_queue_disco += to->queue.dropped_disco - disco;
  s->stats.dropped_queue += to->queue.dropped_data - data;
  to->big = to->big || f->u.packet.len > BIG_PACKET;
  to->heard |= bit_of(from);
  to->wake = true;
}

static void log_in(msock_derp_server *s, uint64_t now_us, relay_conn *c, const uint8_t *payload,
                   size_t len) {
  static const msock_derp_server_info mine = {.version = MSOCK_DERP_PROTOCOL_VERSION};
  uint8_t frame[MSOCK_DERP_LOGIN_FRAME_MAX];
  char name[MSOCK_KEY_SHORT_MAX];
  msock_derp_client_info info;
  ptrdiff_t n = msock_derp_client_info_open(payload, len, &s->key, &c->key, &info);
  if (n == MSOCK_OK) {
    msock_wipe(info.mesh_key, sizeof info.mesh_key);
    n = msock_derp_server_info_seal(&mine, &s->key, &c->key, s->env, frame, sizeof frame);
  }
  if (n < 0) {
    s->stats.login_failures++;
    c->dead = c->wake = true;
    return;
  }
  relay_send(c, frame, (size_t)n);
  c->phase = RELAY_UP;
  c->login_us = MSOCK_NEVER;
  c->spoke = ++s->order;
  c->gone_tokens = MSOCK_DERP_SERVER_GONE_BURST;
  c->gone_full_us = now_us;
  c->period_us = MSOCK_DERP_SERVER_KEEPALIVE_US +
                 msock_env_uniform(s->env, MSOCK_DERP_SERVER_KEEPALIVE_SPREAD_US + 1);
  c->keepalive_us = now_us + c->period_us;
  s->stats.logins++;
  msock_logf(s->env->log, MSOCK_LOG_DEBUG, "relay.joined", "conn=%u peer=%s", (unsigned)c->id,
             msock_node_key_short(&c->key, name));
}

static void on_frame(msock_derp_server *s, uint64_t now_us, relay_conn *c, msock_derp_header h,
                     const uint8_t *payload) {
  msock_derp_frame f;
  if (c->phase == RELAY_LOGIN) {
    log_in(s, now_us, c, payload, h.len);
    return;
  }
  if (msock_derp_frame_decode(h.type, payload, h.len, &f) != MSOCK_OK) {
    s->stats.protocol_errors++;
    c->dead = c->wake = true;
    return;
  }
  if (f.type == MSOCK_DERP_SEND_PACKET) {
    forward(s, now_us, c, &f);
  } else if (f.type == MSOCK_DERP_PING) { /* one slot: a flood is answered once (derp.md 2.3) */
    memcpy(c->pong, f.u.ping, sizeof c->pong);
    c->pong_due = c->wake = true;
  }
}

/* What to do with a frame by its header. */
static msock_derp_verdict judge(msock_derp_server *s, relay_conn *c, msock_derp_header h) {
  msock_derp_verdict v;
  if (c->phase == RELAY_LOGIN) {
    v = h.type == MSOCK_DERP_CLIENT_INFO && h.len >= MSOCK_DERP_CLIENT_INFO_MIN &&
                h.len <= MSOCK_DERP_CLIENT_INFO_MAX
            ? MSOCK_DERP_HANDLE
            : MSOCK_DERP_FATAL;
    s->stats.login_failures += v == MSOCK_DERP_FATAL;
  } else {
    c->spoke = ++s->order;
    v = msock_derp_from_client(h, false);
    s->stats.protocol_errors += v == MSOCK_DERP_FATAL;
  }
  c->dead = c->dead || v == MSOCK_DERP_FATAL;
  c->wake = c->wake || c->dead;
  return v;
}

/* Collects a frame that did not come whole. Gives the bytes used of p. */
static size_t gather(msock_derp_server *s, uint64_t now_us, relay_conn *c, const uint8_t *p,
                     size_t len) {
  size_t want = MSOCK_DERP_HEADER_LEN;
  if (c->rx_len >= want) {
    want += msock_derp_header_read(c->rx).len;
  }
  const size_t n = len < want - c->rx_len ? len : want - c->rx_len;
  if (!relay_rx_fit(c, want)) {
    return len;
  }
  memcpy(c->rx + c->rx_len, p, n);
  c->rx_len += n;
  if (c->rx_len < want) {
    return n;
  }
  const msock_derp_header h = msock_derp_header_read(c->rx);
  if (want == MSOCK_DERP_HEADER_LEN) { /* the header alone; an empty payload is complete too */
    const msock_derp_verdict v = judge(s, c, h);
    if (v == MSOCK_DERP_SKIP) {
      c->skip = h.len;
      c->rx_len = 0;
    }
    if (v != MSOCK_DERP_HANDLE || h.len > 0) {
      return n;
    }
  }
  c->rx_len = 0;
  on_frame(s, now_us, c, h, c->rx + MSOCK_DERP_HEADER_LEN);
  if (c->rx_cap > RX_KEEP) {
    free(c->rx);
    c->rx = NULL;
    c->rx_cap = 0;
  }
  return n;
}

static size_t feed_frames(msock_derp_server *s, uint64_t now_us, relay_conn *c, const uint8_t *p,
                          size_t len) {
  if (c->skip > 0) {
    const size_t n = c->skip < len ? (size_t)c->skip : len;
    c->skip -= n;
    return n;
  }
  if (c->rx_len > 0 || len < MSOCK_DERP_HEADER_LEN ||
      len - MSOCK_DERP_HEADER_LEN < msock_derp_header_read(p).len) {
    return gather(s, now_us, c, p, len);
  }
  const msock_derp_header h = msock_derp_header_read(p); /* whole: no copy */
  if (judge(s, c, h) == MSOCK_DERP_HANDLE) {
    on_frame(s, now_us, c, h, p + MSOCK_DERP_HEADER_LEN);
  }
  return MSOCK_DERP_HEADER_LEN + h.len;
}

msock_err msock_derp_server_feed(msock_derp_server *s, uint64_t now_us, uint32_t conn,
                                 const uint8_t *p, size_t len) {
  relay_conn *c = find(s, conn);
  if (c == NULL) {
    return MSOCK_ERR_CLOSED;
  }
  while (len > 0 && !c->dead && !c->closing) {
    const size_t used =
        c->phase == RELAY_HTTP ? relay_feed_http(s, c, p, len) : feed_frames(s, now_us, c, p, len);
    p += used;
    len -= used;
  }
  return c->dead || c->closing ? MSOCK_ERR_CLOSED : MSOCK_OK;
}

/* --- leaving --- */

void msock_derp_server_close(msock_derp_server *s, uint64_t now_us, uint32_t conn) {
  relay_conn *c = find(s, conn);
  (void)now_us;
  if (c == NULL) {
    return;
  }
  relay_conn *heir = c->phase == RELAY_UP ? active(s, &c->key, c) : NULL;
  const uint64_t bit = bit_of(c);
  s->conns[conn % RELAY_SLOTS] = NULL;
  for (size_t i = 0; i < RELAY_SLOTS; i++) {
    relay_conn *o = s->conns[i];
    if (o == NULL || !(o->heard & bit)) {
      continue;
    }
    o->heard &= ~bit;
    if (heir != NULL) { /* the key is still here: its last connection will tell */
      o->heard |= bit_of(heir);
    } else {
      tell_gone(o, &c->key, MSOCK_DERP_GONE_DISCONNECTED);
    }
  }
  free_conn(c);
}

/* --- time --- */

static uint64_t due(const relay_conn *c) {
  uint64_t t = c->keepalive_us < c->stall_us ? c->keepalive_us : c->stall_us;
  t = c->login_us < t ? c->login_us : t;
  return c->dead ? MSOCK_NEVER : t;
}

uint64_t msock_derp_server_next_expiry(msock_derp_server *s) {
  uint64_t next = MSOCK_NEVER;
  for (size_t i = 0; i < RELAY_SLOTS; i++) {
    if (s->conns[i] != NULL && due(s->conns[i]) < next) {
      next = due(s->conns[i]);
    }
  }
  return next;
}

void msock_derp_server_on_expiry(msock_derp_server *s, uint64_t now_us) {
  for (size_t i = 0; i < RELAY_SLOTS; i++) {
    relay_conn *c = s->conns[i];
    if (c == NULL || c->dead) {
      continue;
    }
    if (c->login_us <= now_us || c->stall_us <= now_us) {
      s->stats.login_failures += c->login_us <= now_us;
      s->stats.stalls += c->stall_us <= now_us;
      c->dead = c->wake = true;
    } else if (c->keepalive_us <= now_us) {
      c->keepalive_us = now_us + c->period_us;
      c->keepalive_due = c->wake = true;
    }
  }
}

/* --- what is now --- */

msock_node_key msock_derp_server_key(const msock_derp_server *s) {
  return s->public_key;
}

size_t msock_derp_server_count(const msock_derp_server *s) {
  size_t n = 0;
  for (size_t i = 0; i < RELAY_SLOTS; i++) {
    n += s->conns[i] != NULL && s->conns[i]->phase == RELAY_UP;
  }
  return n;
}

msock_derp_server_stats msock_derp_server_get_stats(const msock_derp_server *s) {
  const relay_counts *n = &s->stats;
  msock_derp_server_stats out = {.accepted = n->accepted,
                                 .logins = n->logins,
                                 .login_failures = n->login_failures,
                                 .packets_in = n->packets_in,
                                 .packets_out = n->packets_out,
                                 .protocol_errors = n->protocol_errors,
                                 .stalls = n->stalls,
                                 .gone_not_here = n->gone_sent};
  out.dropped[MSOCK_DERP_DROP_UNKNOWN_DEST][MSOCK_DERP_KIND_OTHER] = n->dropped_unknown;
  out.dropped[MSOCK_DERP_DROP_QUEUE_HEAD][MSOCK_DERP_KIND_DISCO] = n->dropped_queue_disco;
  out.dropped[MSOCK_DERP_DROP_QUEUE_HEAD][MSOCK_DERP_KIND_OTHER] = n->dropped_queue;
  out.dropped[MSOCK_DERP_DROP_QUEUE_TAIL][MSOCK_DERP_KIND_OTHER] = n->dropped_nomem;
  return out;
}
