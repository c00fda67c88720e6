/* derp/server_frames.c: the byte stream of a client cut into frames, and what each one does. */
#include <string.h>

#include "derp/server_internal.h"

/* Before a login is complete nothing larger than this may wait when half of the packet memory is in
 * use: strangers cannot take it from those who are logged in. */
#define LOGIN_SMALL 1536u

static msock_derp_verdict judge_login(msock_derp_header h) {
  return h.type == MSOCK_DERP_CLIENT_INFO && h.len >= MSOCK_DERP_CLIENT_INFO_MIN &&
                 h.len <= MSOCK_DERP_CLIENT_INFO_MAX
             ? MSOCK_DERP_HANDLE
             : MSOCK_DERP_FATAL;
}

/* Whoever speaks gets the packets of its key (derp.md 4.2). */
static void has_spoken(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  c->spoke = ++s->order;
  if (c->key->active != c) {
    relay_taken_over(s, now_us, c);
  }
}

/* What to do with a frame by its header. A fatal one has ended the connection. */
static msock_derp_verdict judge(msock_derp_server *s, uint64_t now_us, relay_conn *c,
                                msock_derp_header h) {
  if (c->phase != RELAY_UP) {
    const bool is_link = c->phase == RELAY_LINK;
    const msock_derp_verdict v = is_link ? relay_judge_link(h) : judge_login(h);
    if (v == MSOCK_DERP_FATAL) {
      relay_kill(s, c, is_link ? MSOCK_DERP_CAUSE_PROTOCOL : MSOCK_DERP_CAUSE_LOGIN);
    }
    c->heard_us = now_us;
    return v;
  }
  const msock_derp_verdict v = msock_derp_from_client(h, c->is_mesh);
  if (v == MSOCK_DERP_FATAL) {
    s->stats.protocol_errors++;
    relay_kill(s, c, MSOCK_DERP_CAUSE_PROTOCOL);
    return v;
  }
  s->stats.unknown_frames += v == MSOCK_DERP_SKIP;
  has_spoken(s, now_us, c);
  if (s->has_rates && !c->is_mesh) {
    relay_charge(s, now_us, c, h.len);
  }
  return c->dead || c->phase != RELAY_UP ? MSOCK_DERP_FATAL : v;
}

static void note_home(msock_derp_server *s, uint64_t now_us, relay_conn *c, bool home) {
  if (c->is_home == home) {
    return;
  }
  c->is_home = home;
  s->stats.home += home ? 1 : UINT64_MAX; /* one less */
  if (now_us - c->since_us > MSOCK_DERP_SERVER_HOME_MOVE_US) {
    s->stats.home_moves_in += home;
    s->stats.home_moves_out += !home;
  }
}

static void on_other(msock_derp_server *s, uint64_t now_us, relay_conn *c, msock_derp_header h,
                     const uint8_t *payload) {
  msock_derp_frame f;
  if (msock_derp_frame_decode(h.type, payload, h.len, &f) != MSOCK_OK) {
    s->stats.protocol_errors++;
    relay_kill(s, c, MSOCK_DERP_CAUSE_PROTOCOL);
    return;
  }
  switch (f.type) {
  case MSOCK_DERP_PING: /* one slot: a flood is answered once (derp.md 2.3) */
    s->stats.pings++;
    memcpy(c->pong, f.u.ping, sizeof c->pong);
    c->pong_due = true;
    relay_wake(s, c);
    return;
  case MSOCK_DERP_NOTE_PREFERRED:
    note_home(s, now_us, c, f.u.preferred);
    return;
  case MSOCK_DERP_FORWARD_PACKET:
    relay_forwarded(s, now_us, c, &f);
    return;
  case MSOCK_DERP_WATCH_CONNS:
    relay_watch(s, c);
    return;
  case MSOCK_DERP_CLOSE_PEER:
    relay_close_peer(s, &f.u.close_peer);
    return;
  default: /* the verdict on the header lets nothing else through */
    return;
  }
}

/* A whole frame. b: the buffer that it lies in, or NULL. True: b was taken over. */
static bool on_frame(msock_derp_server *s, uint64_t now_us, relay_conn *c, msock_derp_header h,
                     const uint8_t *payload, relay_buf *b) {
  if (c->phase == RELAY_LOGIN) {
    relay_log_in(s, now_us, c, payload, h.len);
    return false;
  }
  if (c->phase == RELAY_LINK) {
    relay_on_link_frame(s, now_us, c, h, payload);
    return false;
  }
  if (h.type == MSOCK_DERP_SEND_PACKET) {
    return relay_route(s, now_us, c, payload, h.len, b);
  }
  on_other(s, now_us, c, h, payload);
  return false;
}

/* Room for want bytes in rx; false: it is over. */
static bool fit(msock_derp_server *s, relay_conn *c, size_t want) {
  relay_buf *b = NULL;
  if (c->phase == RELAY_UP || want <= LOGIN_SMALL || s->pool.used + want < s->pool.max / 2) {
    b = relay_buf_fit(&s->pool, c->rx, want);
  }
  if (b == NULL) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_MEMORY);
    return false;
  }
  c->rx = b;
  return true;
}

static void drop_rx(msock_derp_server *s, relay_conn *c) {
  relay_buf_free(&s->pool, c->rx);
  c->rx = NULL;
}

static void finish_frame(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  relay_buf *b = c->rx;
  const msock_derp_header h = msock_derp_header_read(b->data);
  c->rx = NULL; /* the connection may end in the frame */
  if (!on_frame(s, now_us, c, h, b->data + MSOCK_DERP_HEADER_LEN, b)) {
    relay_buf_free(&s->pool, b);
  }
}

/* Collects a frame that did not come whole. Gives the bytes used of p. */
static size_t gather(msock_derp_server *s, uint64_t now_us, relay_conn *c, const uint8_t *p,
                     size_t len) {
  size_t have = c->rx != NULL ? c->rx->len : 0;
  size_t want = MSOCK_DERP_HEADER_LEN;
  if (have >= want) {
    want += msock_derp_header_read(c->rx->data).len;
  }
  const size_t n = len < want - have ? len : want - have;
  if (!fit(s, c, have + n)) { /* what has come, not what is promised */
    return len;
  }
  memcpy(c->rx->data + have, p, n);
  have += n;
  c->rx->len = (uint32_t)have;
  if (have < want) {
    return n;
  }
  if (want == MSOCK_DERP_HEADER_LEN) { /* the header alone; an empty payload is complete too */
    const msock_derp_header h = msock_derp_header_read(c->rx->data);
    const msock_derp_verdict v = judge(s, now_us, c, h);
    if (v == MSOCK_DERP_SKIP) {
      c->skip = h.len;
    }
    if (v != MSOCK_DERP_HANDLE) {
      drop_rx(s, c);
      return n;
    }
    if (h.len > 0) {
      return n;
    }
  }
  finish_frame(s, now_us, c);
  return n;
}

static bool reads_frames(const relay_conn *c) {
  return c->phase == RELAY_UP || c->phase == RELAY_LOGIN || c->phase == RELAY_LINK;
}

size_t relay_feed_frames(msock_derp_server *s, uint64_t now_us, relay_conn *c, const uint8_t *p,
                         size_t len) {
  const size_t all = len;
  while (len > 0 && !c->dead && reads_frames(c)) {
    size_t n;
    if (c->skip > 0) {
      n = c->skip < len ? (size_t)c->skip : len;
      c->skip -= n;
    } else if (c->rx != NULL || len < MSOCK_DERP_HEADER_LEN ||
               len - MSOCK_DERP_HEADER_LEN < msock_derp_header_read(p).len) {
      n = gather(s, now_us, c, p, len);
    } else { /* whole: looked at where it lies */
      const msock_derp_header h = msock_derp_header_read(p);
      n = MSOCK_DERP_HEADER_LEN + h.len;
      if (judge(s, now_us, c, h) == MSOCK_DERP_HANDLE) {
        (void)on_frame(s, now_us, c, h, p + MSOCK_DERP_HEADER_LEN, NULL);
      }
    }
    p += n;
    len -= n;
  }
  return all - len;
}
