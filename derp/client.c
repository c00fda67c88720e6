#include "derp/client.h"

#include <stdlib.h>
#include <string.h>

#include "base/http1.h"
#include "crypto/wipe.h"

/* Our own bounds. The stream buffer holds what may be on its way to TLS: one packet of the largest
 * size, or about 45 of an ordinary one, in one run; login and control frames have room of their own
 * behind that. */
#define TX_FIRST 4096u
#define TX_PACKETS_MAX (MSOCK_DERP_PACKET_OVERHEAD + MSOCK_DERP_PACKET_MAX)
#define TX_MAX (TX_PACKETS_MAX + 2048u)
#define CARRY_FIRST 2048u
#define CARRY_KEEP_MAX 131072u /* a larger buffer is given back after its frame */
/* Longer frames are skipped without being kept, ServerInfo excepted. */
#define KEEP_PAYLOAD_MAX (MSOCK_KEY_LEN + MSOCK_DERP_PACKET_MAX)
/* Rates above this are no limit in practice, and keep the token arithmetic inside 64 bits. */
#define RATE_MAX UINT64_C(100000000000)

typedef enum phase {
  PHASE_HTTP = 1,  /* waiting for the 101 */
  PHASE_GREETING,  /* waiting for ServerKey */
  PHASE_FRAMES,    /* ClientInfo is in tx or beyond */
  PHASE_FAST_HTTP, /* collecting the HTTP text that answered fast start */
  PHASE_CLOSED
} phase;

typedef enum step { STEP_WAIT, STEP_MORE, STEP_EVENT } step;

typedef struct frame_view {
  uint8_t type;
  const uint8_t *payload;
  uint32_t len;
} frame_view;

struct msock_derp_client {
  const msock_env *env;
  msock_derp_client_cfg cfg;
  phase phase;
  bool first_header; /* fast start: the first frame header has not been seen */
  bool confirmed;    /* ServerInfo opened */
  uint64_t now_us;   /* of the last feed */

  const uint8_t *in; /* borrowed from feed, not yet looked at */
  size_t in_len;
  uint8_t *carry; /* beginning of a frame (or HTTP head) that a read cut off */
  size_t carry_len, carry_cap;
  bool carry_done;    /* the frame in carry was delivered: drop it at the next step */
  uint8_t skip_type;  /* of the frame being skipped */
  uint32_t skip_left; /* its bytes still to come */
  bool skipping;

  uint8_t *tx; /* [tx_head, tx_tail) is to be written */
  size_t tx_head, tx_tail, tx_cap;
  bool preferred_told; /* last NotePreferred on the wire */

  uint64_t rate, burst, tokens; /* bytes; rate 0 = no limit */
  uint64_t tokens_at_us;

  uint64_t read_deadline_us;
  uint8_t ping[MSOCK_DERP_PING_LEN];
  uint64_t ping_sent_us;
  uint64_t ping_deadline_us; /* MSOCK_NEVER: none in flight */

  msock_derp_closed closed;
  int http_status;
  bool closed_told;
  msock_derp_client_counters counters;
};

static step close_with(msock_derp_client *c, msock_derp_closed reason) {
  c->phase = PHASE_CLOSED;
  c->closed = reason;
  c->in_len = 0;
  return STEP_MORE;
}

/* ---- output ---- */

/* Room for n more bytes when no more than limit are pending then; NULL otherwise. */
static uint8_t *tx_room(msock_derp_client *c, size_t n, size_t limit) {
  const size_t pending = c->tx_tail - c->tx_head;
  if (pending + n > limit) {
    return NULL;
  }
  if (c->tx_tail + n > c->tx_cap && c->tx_head > 0) {
    memmove(c->tx, c->tx + c->tx_head, pending);
    c->tx_head = 0;
    c->tx_tail = pending;
  }
  if (c->tx_tail + n > c->tx_cap) {
    size_t cap = c->tx_cap == 0 ? TX_FIRST : c->tx_cap;
    while (cap < c->tx_tail + n) {
      cap *= 2;
    }
    uint8_t *bigger = realloc(c->tx, cap < TX_MAX ? cap : TX_MAX);
    if (bigger == NULL) {
      return NULL;
    }
    c->tx = bigger;
    c->tx_cap = cap < TX_MAX ? cap : TX_MAX;
  }
  return c->tx + c->tx_tail;
}

static bool tx_control(msock_derp_client *c, const msock_derp_frame *f) {
  uint8_t buf[MSOCK_DERP_HEADER_LEN + MSOCK_DERP_PING_LEN];
  const ptrdiff_t n = msock_derp_frame_encode(f, buf, sizeof buf);
  uint8_t *room = n > 0 ? tx_room(c, (size_t)n, TX_MAX) : NULL;
  if (room == NULL) {
    return false;
  }
  memcpy(room, buf, (size_t)n);
  c->tx_tail += (size_t)n;
  return true;
}

/* Takes n bytes out of the bucket that ServerInfo set; false when they are not there. */
static bool take_tokens(msock_derp_client *c, uint64_t now_us, uint64_t n) {
  if (c->rate == 0) {
    return true;
  }
  uint64_t elapsed = now_us > c->tokens_at_us ? now_us - c->tokens_at_us : 0;
  elapsed = elapsed < 60 * MSOCK_SEC ? elapsed : 60 * MSOCK_SEC;
  const uint64_t gained = elapsed * c->rate / MSOCK_SEC;
  if (gained > 0) { /* else keep the time: a slow rate must not lose its fractions */
    c->tokens = c->tokens + gained < c->burst ? c->tokens + gained : c->burst;
    c->tokens_at_us = now_us;
  }
  if (c->tokens < n) {
    c->counters.tx_drop_rate++;
    return false;
  }
  c->tokens -= n;
  return true;
}

static void count_packet(msock_derp_client *c, size_t frame_len) {
  c->tx_tail += frame_len;
  c->counters.tx_packets++;
  c->counters.tx_bytes += frame_len - MSOCK_DERP_PACKET_OVERHEAD;
}

/* Moves what waits into the stream buffer as far as it fits. */
static void tx_fill(msock_derp_client *c, uint64_t now_us) {
  if (c->phase != PHASE_FRAMES) {
    return;
  }
  if (c->preferred_told != c->cfg.preferred &&
      tx_control(c, &(msock_derp_frame){.type = MSOCK_DERP_NOTE_PREFERRED,
                                        .u.preferred = c->cfg.preferred})) {
    c->preferred_told = c->cfg.preferred;
  }
  const msock_derp_slot *s = NULL;
  while ((s = msock_derp_queue_peek(c->cfg.queue)) != NULL) {
    uint8_t *room = tx_room(c, s->len, TX_PACKETS_MAX);
    if (room == NULL) {
      return;
    }
    if (take_tokens(c, now_us, s->len)) {
      memcpy(room, s->frame, s->len);
      count_packet(c, s->len);
    }
    msock_derp_queue_pop(c->cfg.queue);
  }
}

/* ---- opening ---- */

/* derp.md 1.4, headers in the order of the reference client. */
static bool put_request(msock_derp_client *c) {
  const size_t cap = 1024;
  uint8_t *room = tx_room(c, cap, TX_MAX);
  msock_http1_builder b;
  if (room == NULL) {
    return false;
  }
  msock_http1_begin_request(&b, (char *)room, cap, "GET", "/derp");
  msock_http1_add(&b, "Host", c->cfg.host);
  msock_http1_add(&b, "User-Agent", "Go-http-client/1.1");
  msock_http1_add(&b, "Connection", "Upgrade");
  if (c->cfg.fast_start) {
    msock_http1_add(&b, "Derp-Fast-Start", "1");
  }
  if (c->cfg.ideal_node[0] != '\0') {
    msock_http1_add(&b, "Ideal-Node", c->cfg.ideal_node);
  }
  msock_http1_add(&b, "Upgrade", "DERP");
  const ptrdiff_t n = msock_http1_finish(&b);
  c->tx_tail += n > 0 ? (size_t)n : 0;
  return n > 0;
}

static bool put_client_info(msock_derp_client *c) {
  uint8_t *room = tx_room(c, MSOCK_DERP_LOGIN_FRAME_MAX, TX_MAX);
  if (room == NULL) {
    return false;
  }
  const ptrdiff_t n = msock_derp_client_info_seal(&c->cfg.info, &c->cfg.key, &c->cfg.server_key,
                                                  c->env, room, MSOCK_DERP_LOGIN_FRAME_MAX);
  if (n <= 0) {
    return false;
  }
  c->tx_tail += (size_t)n;
  c->phase = PHASE_FRAMES;
  return true;
}

msock_derp_client *msock_derp_client_new(const msock_env *env, const msock_derp_client_cfg *cfg,
                                         uint64_t now_us) {
  msock_derp_client *c = calloc(1, sizeof *c);
  if (c == NULL) {
    return NULL;
  }
  c->env = env;
  c->cfg = *cfg;
  c->phase = PHASE_HTTP;
  c->first_header = cfg->fast_start;
  c->now_us = now_us;
  c->read_deadline_us = now_us + MSOCK_DERP_READ_DEADLINE_US;
  c->ping_deadline_us = MSOCK_NEVER;
  if (!put_request(c) || (cfg->fast_start && !put_client_info(c))) {
    msock_derp_client_free(c);
    return NULL;
  }
  return c;
}

void msock_derp_client_free(msock_derp_client *c) {
  if (c == NULL) {
    return;
  }
  free(c->carry);
  free(c->tx);
  msock_wipe(c, sizeof *c);
  free(c);
}

/* ---- input: cutting the stream ---- */

/* Moves n bytes of the input into carry. */
static bool stash(msock_derp_client *c, size_t n) {
  if (n == 0) {
    return true;
  }
  if (c->carry_len + n > c->carry_cap) {
    size_t cap = c->carry_cap == 0 ? CARRY_FIRST : c->carry_cap;
    while (cap < c->carry_len + n) {
      cap *= 2;
    }
    uint8_t *bigger = realloc(c->carry, cap);
    if (bigger == NULL) {
      close_with(c, MSOCK_DERP_CLOSED_NOMEM);
      return false;
    }
    c->carry = bigger;
    c->carry_cap = cap;
  }
  memcpy(c->carry + c->carry_len, c->in, n);
  c->carry_len += n;
  c->in += n;
  c->in_len -= n;
  return true;
}

static void drop_carry(msock_derp_client *c) {
  c->carry_len = 0;
  c->carry_done = false;
  if (c->carry_cap > CARRY_KEEP_MAX) {
    free(c->carry);
    c->carry = NULL;
    c->carry_cap = 0;
  }
}

/* The reply head. Bytes behind it stay input: they are the first frames. */
static step read_http(msock_derp_client *c) {
  const size_t room = MSOCK_HTTP1_HEAD_MAX - c->carry_len;
  msock_http1_head head;
  if (!stash(c, c->in_len < room ? c->in_len : room)) {
    return STEP_MORE;
  }
  if (c->carry_len == 0) {
    return STEP_WAIT;
  }
  const ptrdiff_t n = msock_http1_parse_response(c->carry, c->carry_len, &head);
  if (n == MSOCK_ERR_AGAIN && c->carry_len < MSOCK_HTTP1_HEAD_MAX) {
    return STEP_WAIT;
  }
  c->http_status = n > 0 ? head.status : 0;
  if (c->phase == PHASE_FAST_HTTP) {
    return close_with(c, MSOCK_DERP_CLOSED_FAST_HTTP);
  }
  if (n <= 0) {
    return close_with(c, MSOCK_DERP_CLOSED_HTTP_BAD);
  }
  if (head.status != 101) {
    return close_with(c, MSOCK_DERP_CLOSED_HTTP_STATUS);
  }
  /* No head was complete before this read, so all surplus came with it. */
  const size_t surplus = c->carry_len - (size_t)n;
  c->in -= surplus;
  c->in_len += surplus;
  drop_carry(c);
  c->phase = PHASE_GREETING;
  return STEP_MORE;
}

/* Whether a frame of that header is read past instead of kept. */
static bool is_skipped(msock_derp_header h) {
  switch (h.type) {
  case MSOCK_DERP_SERVER_INFO:
    return false;
  case MSOCK_DERP_RECV_PACKET:
  case MSOCK_DERP_PEER_GONE:
  case MSOCK_DERP_PING:
  case MSOCK_DERP_PONG:
  case MSOCK_DERP_HEALTH:
  case MSOCK_DERP_RESTARTING:
    return h.len > KEEP_PAYLOAD_MAX;
  default: /* KeepAlive, ServerKey after login, mesh frames, what clients send, the future */
    return true;
  }
}

/* Judges a frame by its header; the connection is closed when this gives false. */
static bool admit(msock_derp_client *c, const uint8_t *p, msock_derp_header h) {
  if (c->phase == PHASE_GREETING) {
    if (h.type != MSOCK_DERP_SERVER_KEY || h.len < MSOCK_DERP_SERVER_KEY_MIN ||
        h.len > MSOCK_DERP_SERVER_KEY_MAX) {
      close_with(c, MSOCK_DERP_CLOSED_GREETING);
      return false;
    }
    return true;
  }
  if (c->first_header) {
    c->first_header = false;
    if (memcmp(p, "HTTP/", MSOCK_DERP_HEADER_LEN) == 0) {
      c->phase = PHASE_FAST_HTTP;
      return false;
    }
  }
  if (h.len > MSOCK_DERP_CLIENT_PAYLOAD_MAX) {
    close_with(c, MSOCK_DERP_CLOSED_TOO_LARGE);
    return false;
  }
  return true;
}

static void on_whole_frame(msock_derp_client *c) {
  c->counters.rx_frames++;
  c->read_deadline_us = c->now_us + MSOCK_DERP_READ_DEADLINE_US;
}

/* A quiet minute: what traffic made us allocate goes back. */
static void trim(msock_derp_client *c) {
  if (msock_derp_queue_is_empty(c->cfg.queue)) {
    msock_derp_queue_trim(c->cfg.queue);
  }
  if (c->tx_head == c->tx_tail) {
    free(c->tx);
    c->tx = NULL;
    c->tx_head = c->tx_tail = c->tx_cap = 0;
  }
}

static void on_skipped(msock_derp_client *c) {
  c->skipping = false;
  on_whole_frame(c);
  switch (c->skip_type) {
  case MSOCK_DERP_KEEP_ALIVE:
    c->counters.rx_keep_alive++;
    trim(c);
    break;
  case MSOCK_DERP_RECV_PACKET:
  case MSOCK_DERP_PEER_GONE:
  case MSOCK_DERP_PING:
  case MSOCK_DERP_PONG:
  case MSOCK_DERP_HEALTH:
  case MSOCK_DERP_RESTARTING:
    c->counters.rx_short++;
    break;
  default:
    c->counters.rx_unknown++;
    break;
  }
}

static step skip(msock_derp_client *c) {
  const size_t n = c->in_len < c->skip_left ? c->in_len : c->skip_left;
  c->in = n > 0 ? c->in + n : c->in;
  c->in_len -= n;
  c->skip_left -= (uint32_t)n;
  if (c->skip_left > 0) {
    return STEP_WAIT;
  }
  on_skipped(c);
  return STEP_MORE;
}

static step begin_skip(msock_derp_client *c, msock_derp_header h) {
  c->skipping = true;
  c->skip_type = h.type;
  c->skip_left = h.len;
  return STEP_MORE;
}

/* A frame whose beginning is in carry: completes it there. STEP_EVENT: *f is set. */
static step take_carried(msock_derp_client *c, frame_view *f) {
  if (c->carry_len < MSOCK_DERP_HEADER_LEN) {
    const size_t want = MSOCK_DERP_HEADER_LEN - c->carry_len;
    if (!stash(c, c->in_len < want ? c->in_len : want)) {
      return STEP_MORE;
    }
    if (c->carry_len < MSOCK_DERP_HEADER_LEN) {
      return STEP_WAIT;
    }
  }
  const msock_derp_header h = msock_derp_header_read(c->carry);
  if (c->carry_len == MSOCK_DERP_HEADER_LEN) {
    if (!admit(c, c->carry, h)) {
      return STEP_MORE;
    }
    if (c->phase == PHASE_FRAMES && is_skipped(h)) {
      drop_carry(c);
      return begin_skip(c, h);
    }
  }
  const size_t want = MSOCK_DERP_HEADER_LEN + (size_t)h.len - c->carry_len;
  if (!stash(c, c->in_len < want ? c->in_len : want)) {
    return STEP_MORE;
  }
  if (c->carry_len < MSOCK_DERP_HEADER_LEN + (size_t)h.len) {
    return STEP_WAIT;
  }
  c->carry_done = true;
  *f = (frame_view){h.type, c->carry + MSOCK_DERP_HEADER_LEN, h.len};
  return STEP_EVENT;
}

/* The next whole frame, in place when the read held all of it. STEP_EVENT: *f is set. */
static step take_frame(msock_derp_client *c, frame_view *f) {
  if (c->skipping) {
    return skip(c);
  }
  if (c->carry_len > 0) {
    return take_carried(c, f);
  }
  if (c->in_len < MSOCK_DERP_HEADER_LEN) {
    stash(c, c->in_len);
    return STEP_WAIT;
  }
  const msock_derp_header h = msock_derp_header_read(c->in);
  if (!admit(c, c->in, h)) {
    return STEP_MORE;
  }
  if (c->phase == PHASE_FRAMES && is_skipped(h)) {
    c->in += MSOCK_DERP_HEADER_LEN;
    c->in_len -= MSOCK_DERP_HEADER_LEN;
    return begin_skip(c, h);
  }
  if (c->in_len - MSOCK_DERP_HEADER_LEN < h.len) {
    return stash(c, c->in_len) ? STEP_WAIT : STEP_MORE;
  }
  *f = (frame_view){h.type, c->in + MSOCK_DERP_HEADER_LEN, h.len};
  c->in += MSOCK_DERP_HEADER_LEN + h.len;
  c->in_len -= MSOCK_DERP_HEADER_LEN + h.len;
  return STEP_EVENT;
}

/* ---- input: frames ---- */

static step on_server_key(msock_derp_client *c, const frame_view *v) {
  msock_derp_frame f;
  if (msock_derp_frame_decode(v->type, v->payload, v->len, &f) != MSOCK_OK) {
    return close_with(c, MSOCK_DERP_CLOSED_GREETING);
  }
  c->cfg.server_key = f.u.server_key.key;
  return put_client_info(c) ? STEP_MORE : close_with(c, MSOCK_DERP_CLOSED_GREETING);
}

static step on_server_info(msock_derp_client *c, const frame_view *v, msock_derp_event *ev) {
  msock_derp_server_info info;
  if (msock_derp_server_info_open(v->payload, v->len, &c->cfg.key, &c->cfg.server_key, &info) !=
      MSOCK_OK) {
    return close_with(c, MSOCK_DERP_CLOSED_SERVER_INFO);
  }
  /* A burst smaller than one packet would stop everything: it is raised to one. */
  c->rate = info.bytes_per_second < RATE_MAX ? info.bytes_per_second : 0;
  c->burst = info.burst_bytes > TX_PACKETS_MAX ? info.burst_bytes : TX_PACKETS_MAX;
  c->burst = c->burst < RATE_MAX ? c->burst : RATE_MAX;
  c->tokens = c->burst;
  c->tokens_at_us = c->now_us;
  if (c->confirmed) {
    return STEP_MORE;
  }
  c->confirmed = true;
  *ev = (msock_derp_event){.kind = MSOCK_DERP_EVENT_CONNECTED, .u.connected = info};
  return STEP_EVENT;
}

static step on_pong(msock_derp_client *c, const msock_derp_frame *f, msock_derp_event *ev) {
  if (c->ping_deadline_us == MSOCK_NEVER || memcmp(f->u.ping, c->ping, sizeof c->ping) != 0) {
    return STEP_MORE; /* of a ping that was replaced, or never sent */
  }
  c->ping_deadline_us = MSOCK_NEVER;
  *ev = (msock_derp_event){.kind = MSOCK_DERP_EVENT_PONG,
                           .u.pong_rtt_us = c->now_us - c->ping_sent_us};
  return STEP_EVENT;
}

static step on_decoded(msock_derp_client *c, const msock_derp_frame *f, msock_derp_event *ev) {
  *ev = (msock_derp_event){0};
  switch (f->type) {
  case MSOCK_DERP_RECV_PACKET:
    c->counters.rx_packets++;
    c->counters.rx_bytes += f->u.packet.len;
    ev->kind = MSOCK_DERP_EVENT_PACKET;
    ev->u.packet.src = f->u.packet.key;
    ev->u.packet.data = f->u.packet.data;
    ev->u.packet.len = f->u.packet.len;
    return STEP_EVENT;
  case MSOCK_DERP_PEER_GONE:
    ev->kind = MSOCK_DERP_EVENT_PEER_GONE;
    ev->u.peer_gone.peer = f->u.peer_gone.key;
    ev->u.peer_gone.reason = f->u.peer_gone.reason;
    return STEP_EVENT;
  case MSOCK_DERP_PING: { /* best effort: no room, no pong */
    msock_derp_frame pong = *f;
    pong.type = MSOCK_DERP_PONG;
    c->counters.rx_ping++;
    tx_control(c, &pong);
    return STEP_MORE;
  }
  case MSOCK_DERP_PONG:
    return on_pong(c, f, ev);
  case MSOCK_DERP_HEALTH:
    ev->kind = MSOCK_DERP_EVENT_HEALTH;
    ev->u.health.text = f->u.health.text;
    ev->u.health.len = f->u.health.len;
    return STEP_EVENT;
  default: /* Restarting: is_skipped lets no other type through */
    ev->kind = MSOCK_DERP_EVENT_RESTARTING;
    ev->u.restarting.reconnect_in_ms = f->u.restarting.reconnect_in_ms;
    ev->u.restarting.try_for_ms = f->u.restarting.try_for_ms;
    return STEP_EVENT;
  }
}

static step read_frame(msock_derp_client *c, msock_derp_event *ev) {
  frame_view v;
  msock_derp_frame f;
  const step got = take_frame(c, &v);
  if (got != STEP_EVENT) {
    return got;
  }
  on_whole_frame(c);
  if (c->phase == PHASE_GREETING) {
    return on_server_key(c, &v);
  }
  if (v.type == MSOCK_DERP_SERVER_INFO) {
    return on_server_info(c, &v, ev);
  }
  if (msock_derp_frame_decode(v.type, v.payload, v.len, &f) != MSOCK_OK) {
    c->counters.rx_short++;
    return STEP_MORE;
  }
  return on_decoded(c, &f, ev);
}

msock_err msock_derp_client_feed(msock_derp_client *c, uint64_t now_us, const uint8_t *bytes,
                                 size_t len) {
  if (c->phase == PHASE_CLOSED) {
    return MSOCK_ERR_CLOSED;
  }
  if (c->in_len > 0) {
    return MSOCK_ERR_AGAIN;
  }
  c->now_us = now_us;
  c->in = bytes;
  c->in_len = len;
  return MSOCK_OK;
}

void msock_derp_client_eof(msock_derp_client *c) {
  if (c->phase == PHASE_FAST_HTTP) {
    close_with(c, MSOCK_DERP_CLOSED_FAST_HTTP);
  } else if (c->phase != PHASE_CLOSED) {
    close_with(c, c->confirmed ? MSOCK_DERP_CLOSED_EOF : MSOCK_DERP_CLOSED_REFUSED);
  }
}

bool msock_derp_client_next_event(msock_derp_client *c, msock_derp_event *ev) {
  if (c->carry_done) {
    drop_carry(c);
  }
  for (;;) {
    step s = STEP_WAIT;
    switch (c->phase) {
    case PHASE_HTTP:
    case PHASE_FAST_HTTP:
      s = read_http(c);
      break;
    case PHASE_GREETING:
    case PHASE_FRAMES:
      s = read_frame(c, ev);
      break;
    case PHASE_CLOSED:
      if (c->closed_told) {
        return false;
      }
      c->closed_told = true;
      *ev = (msock_derp_event){.kind = MSOCK_DERP_EVENT_CLOSED,
                               .u.closed = {c->closed, c->http_status}};
      return true;
    }
    if (s != STEP_MORE) {
      return s == STEP_EVENT;
    }
    if (c->carry_done) {
      drop_carry(c);
    }
  }
}

/* ---- verbs ---- */

msock_err msock_derp_client_send(msock_derp_client *c, uint64_t now_us, const msock_node_key *dst,
                                 const uint8_t *pkt, size_t len) {
  if (c->phase == PHASE_CLOSED) {
    return MSOCK_ERR_CLOSED;
  }
  if (len > MSOCK_DERP_PACKET_MAX) {
    return MSOCK_ERR_INVALID;
  }
  const size_t frame_len = MSOCK_DERP_PACKET_OVERHEAD + len;
  uint8_t *room = NULL;
  if (c->phase == PHASE_FRAMES && msock_derp_queue_is_empty(c->cfg.queue)) {
    room = tx_room(c, frame_len, TX_PACKETS_MAX);
  }
  if (room == NULL) {
    return msock_derp_queue_push(c->cfg.queue, dst, pkt, len);
  }
  if (!take_tokens(c, now_us, frame_len)) {
    return MSOCK_OK; /* over the server's rate: dropped and counted, as a queue would */
  }
  msock_derp_header_write(room, (msock_derp_header){.type = MSOCK_DERP_SEND_PACKET,
                                                    .len = (uint32_t)(MSOCK_KEY_LEN + len)});
  memcpy(room + MSOCK_DERP_HEADER_LEN, dst->b, sizeof dst->b);
  if (len > 0) {
    memcpy(room + MSOCK_DERP_PACKET_OVERHEAD, pkt, len);
  }
  count_packet(c, frame_len);
  return MSOCK_OK;
}

msock_err msock_derp_client_ping(msock_derp_client *c, uint64_t now_us, uint64_t timeout_us) {
  msock_derp_frame f = {.type = MSOCK_DERP_PING};
  if (c->phase != PHASE_FRAMES) {
    return c->phase == PHASE_CLOSED ? MSOCK_ERR_CLOSED : MSOCK_ERR_AGAIN;
  }
  c->env->random(c->env->ctx, f.u.ping, sizeof f.u.ping);
  if (!tx_control(c, &f)) {
    return MSOCK_ERR_AGAIN;
  }
  memcpy(c->ping, f.u.ping, sizeof c->ping);
  c->ping_sent_us = now_us;
  c->ping_deadline_us = now_us + timeout_us;
  return MSOCK_OK;
}

void msock_derp_client_set_preferred(msock_derp_client *c, bool preferred) {
  c->cfg.preferred = preferred;
}

void msock_derp_client_tx_peek(msock_derp_client *c, uint64_t now_us, const uint8_t **p,
                               size_t *len) {
  if (c->phase == PHASE_CLOSED) {
    *p = NULL;
    *len = 0;
    return;
  }
  tx_fill(c, now_us);
  *p = c->tx != NULL ? c->tx + c->tx_head : NULL;
  *len = c->tx_tail - c->tx_head;
}

void msock_derp_client_tx_consume(msock_derp_client *c, size_t n) {
  const size_t pending = c->tx_tail - c->tx_head;
  c->tx_head += n < pending ? n : pending;
  if (c->tx_head == c->tx_tail) {
    c->tx_head = c->tx_tail = 0; /* light traffic then stays in the first pages of the buffer */
  }
}

bool msock_derp_client_tx_wanted(const msock_derp_client *c) {
  if (c->phase == PHASE_CLOSED) {
    return false;
  }
  return c->tx_tail > c->tx_head ||
         (c->phase == PHASE_FRAMES &&
          (c->preferred_told != c->cfg.preferred || !msock_derp_queue_is_empty(c->cfg.queue)));
}

uint64_t msock_derp_client_next_expiry(const msock_derp_client *c) {
  if (c->phase == PHASE_CLOSED) {
    return MSOCK_NEVER;
  }
  return c->read_deadline_us < c->ping_deadline_us ? c->read_deadline_us : c->ping_deadline_us;
}

void msock_derp_client_on_expiry(msock_derp_client *c, uint64_t now_us) {
  if (c->phase == PHASE_CLOSED) {
    return;
  }
  if (now_us >= c->ping_deadline_us) {
    close_with(c, MSOCK_DERP_CLOSED_NO_PONG);
  } else if (now_us >= c->read_deadline_us) {
    close_with(c, MSOCK_DERP_CLOSED_SILENT);
  }
}

bool msock_derp_client_is_logged_in(const msock_derp_client *c) {
  return c->phase == PHASE_FRAMES;
}

bool msock_derp_client_is_closed(const msock_derp_client *c) {
  return c->phase == PHASE_CLOSED;
}

const msock_derp_client_counters *msock_derp_client_get_counters(const msock_derp_client *c) {
  return &c->counters;
}

const char *msock_derp_closed_text(msock_derp_closed reason) {
  switch (reason) {
  case MSOCK_DERP_CLOSED_EOF:
    return "closed by server";
  case MSOCK_DERP_CLOSED_REFUSED:
    return "refused by server";
  case MSOCK_DERP_CLOSED_HTTP_STATUS:
    return "upgrade refused";
  case MSOCK_DERP_CLOSED_HTTP_BAD:
    return "reply is not HTTP";
  case MSOCK_DERP_CLOSED_FAST_HTTP:
    return "HTTP reply to fast start";
  case MSOCK_DERP_CLOSED_GREETING:
    return "bad server greeting";
  case MSOCK_DERP_CLOSED_TOO_LARGE:
    return "frame too large";
  case MSOCK_DERP_CLOSED_SERVER_INFO:
    return "bad server info";
  case MSOCK_DERP_CLOSED_SILENT:
    return "silent for 120 s";
  case MSOCK_DERP_CLOSED_NO_PONG:
    return "no answer to ping";
  case MSOCK_DERP_CLOSED_NOMEM:
    return "out of memory";
  }
  return "closed";
}
