/* WireGuard: a live engine with one peer, and everything that may arrive at it: any datagram, true
 * messages with bytes altered, handshakes from a stranger, inner packets of any shape from the
 * peer. WG-36: what is not authentic is never answered, except by cookie replies under load. */
#include <stdlib.h>
#include <string.h>

#include "crypto/x25519.h"
#include "tests/fuzz/fuzzing.h"
#include "wg/cookie.h"
#include "wg/handshake.h"
#include "wg/wg.h"

#define WALL_US (UINT64_C(1795000000) * MSOCK_SEC)
#define MSG_MAX 2048u
#define KEPT 8u
#define STEPS_MAX 200u
#define STORM_MAX 256u

typedef struct side {
  fuzz_rng rng;
  msock_env env;
  msock_node_private key;
  msock_node_key public_key;
  msock_ip ip;
  msock_wg *wg;
  uint32_t peer;
  uint8_t kept[KEPT][MSG_MAX]; /* the last messages that it sent */
  size_t kept_len[KEPT];
  size_t n_kept;
  uint64_t answers; /* outputs other than cookie replies */
  uint64_t cookies; /* cookie replies */
} side;

typedef struct world {
  uint64_t now_us;
  side node, peer; /* the engine under test, and the peer that it knows */
} world;

static msock_wg_source source_of(uint8_t n) {
  const msock_wg_source s = {.by_relay = (n & 1) != 0,
                             .addr = {.ip = msock_ip_v4(192, 0, 2, n), .port = (uint16_t)(n + 1)},
                             .relay = {{n}}};
  return s;
}

static uint64_t wall(const world *w) {
  return WALL_US + w->now_us;
}

static void side_init(side *s, uint64_t seed, uint8_t host) {
  s->env = fuzz_env(&s->rng, seed);
  msock_node_private_generate(&s->env, &s->key);
  s->public_key = msock_node_private_public(&s->key);
  s->ip = msock_ip_v4(100, 64, 0, host);
  s->wg = msock_wg_new(&s->env, &s->key, &(msock_wg_config){.handshakes_per_second = 20});
  FUZZ_CHECK(s->wg != NULL);
}

static void side_knows(side *s, const side *other) {
  const msock_wg_route route[1] = {{{other->ip, 32}, 0}};
  msock_wg_route mine = route[0];
  FUZZ_CHECK(msock_wg_peer_add(s->wg, &other->public_key, NULL, &s->peer) == MSOCK_OK);
  mine.peer_id = s->peer;
  FUZZ_CHECK(msock_wg_set_allowed_ips(s->wg, &mine, 1) == MSOCK_OK);
}

static void keep(side *s, const uint8_t *p, size_t len) {
  const size_t at = s->n_kept++ % KEPT;
  memcpy(s->kept[at], p, len);
  s->kept_len[at] = len;
}

static void poll_side(world *w, side *s) {
  uint8_t buf[MSG_MAX];
  msock_wg_output out;
  msock_wg_event ev;
  size_t len = 0;

  FUZZ_CHECK(msock_wg_output_max(s->wg) <= sizeof buf);
  while ((len = msock_wg_next_output(s->wg, w->now_us, wall(w), &out, buf, sizeof buf)) > 0) {
    FUZZ_CHECK(len <= msock_wg_output_max(s->wg));
    if (out.kind != MSOCK_WG_OUT_COOKIE) {
      FUZZ_CHECK(out.peer_id == s->peer);
      s->answers++;
    } else {
      /* each for one message that came under load; the load may be over when it is polled */
      FUZZ_CHECK(++s->cookies <= msock_wg_counters_get(s->wg)->rx_under_load);
    }
    keep(s, buf, len);
  }
  while (msock_wg_next_event(s->wg, &ev)) {
    FUZZ_CHECK(ev.peer_id == s->peer);
  }
}

/* Gives the result; whatever is delivered must be an IP packet of the peer's address. */
static msock_wg_result_kind deliver(world *w, side *to, const side *from, const uint8_t *p,
                                    size_t len, uint8_t source) {
  const size_t cap = MSOCK_PACKET_HEADROOM + len + MSOCK_PACKET_TAILROOM;
  const msock_wg_source src = source_of(source);
  uint8_t *buf = malloc(cap);
  msock_packet pkt = {
      .buf = buf, .cap = (uint32_t)cap, .off = MSOCK_PACKET_HEADROOM, .len = (uint32_t)len};
  msock_wg_result result;

  memcpy(buf + pkt.off, p, len);
  msock_wg_open(to->wg, w->now_us, wall(w), &src, &pkt, 1, &result);
  if (result.kind == MSOCK_WG_PLAIN) {
    FUZZ_CHECK(result.peer_id == to->peer && pkt.off + pkt.len <= cap && pkt.len >= 20);
    FUZZ_CHECK(memcmp(msock_packet_data(&pkt) + 12, from->ip.b, 4) == 0);
  }
  free(buf);
  fuzz_count_messages(1);
  return result.kind;
}

static void connect_sides(world *w) {
  msock_wg_peer_open_session(w->peer.wg, w->now_us, w->peer.peer);
  for (unsigned i = 0; i < 3; i++) { /* initiation, response, keepalive */
    side *from = i % 2 == 0 ? &w->peer : &w->node, *to = i % 2 == 0 ? &w->node : &w->peer;
    const size_t before = from->n_kept;
    poll_side(w, from);
    for (size_t j = before; j < from->n_kept; j++) {
      deliver(w, to, from, from->kept[j % KEPT], from->kept_len[j % KEPT], 2);
    }
  }
  msock_wg_peer_status st;
  FUZZ_CHECK(msock_wg_peer_status_get(w->node.wg, w->now_us, w->node.peer, &st) == MSOCK_OK);
  FUZZ_CHECK(st.has_session);
}

/* A message nobody sealed: no plaintext, no session, no answer but cookies may come of it. */
static void unauthentic(world *w, const uint8_t *p, size_t len, uint8_t source) {
  poll_side(w, &w->node);
  const uint64_t before = w->node.answers;
  const msock_wg_result_kind kind = deliver(w, &w->node, &w->peer, p, len, source);
  FUZZ_CHECK(kind == MSOCK_WG_DROP || kind == MSOCK_WG_NO_SESSION || kind == MSOCK_WG_HANDSHAKE);
  poll_side(w, &w->node);
  FUZZ_CHECK(w->node.answers == before);
}

static void any_datagram(world *w, msock_reader *r) {
  const uint8_t source = msock_read_u8(r);
  size_t len = 0;
  uint8_t *p = fuzz_take(r, msock_read_be16(r) % MSG_MAX, &len);
  unauthentic(w, p, len, source);
  free(p);
}

/* Handshake messages with a right mac1, which anybody who knows our public key can make. */
static void with_mac1(world *w, msock_reader *r) {
  const uint8_t source = msock_read_u8(r);
  const bool response = (source & 2) != 0;
  const size_t len = response ? MSOCK_WG_RESPONSE_LEN : MSOCK_WG_INITIATION_LEN;
  msock_wg_identity id;
  uint8_t p[MSOCK_WG_INITIATION_LEN] = {0};

  msock_wg_identity_init(&id, &w->node.key);
  msock_read_copy(r, p, r->left < len ? r->left : len);
  memcpy(p, (const uint8_t[4]){response ? 2 : 1}, 4);
  msock_wg_macs_write(p, len, id.mac1_key, NULL);
  unauthentic(w, p, len, source);
}

/* A whole, correct handshake of a key that is not in the table. */
static void stranger(world *w, msock_reader *r) {
  fuzz_rng rng;
  const msock_env env = fuzz_env(&rng, 77);
  msock_node_private key;
  msock_wg_identity id;
  msock_wg_remote remote;
  msock_wg_handshake hs;
  msock_wg_initiation m = {0};
  uint8_t ephemeral[32], stamp[MSOCK_WG_TIMESTAMP_LEN], p[MSOCK_WG_INITIATION_LEN];

  msock_node_private_generate(&env, &key);
  msock_x25519_generate(&env, ephemeral);
  msock_wg_identity_init(&id, &key);
  msock_wg_remote_init(&remote, &id, &w->node.public_key);
  msock_read_copy(r, stamp, r->left < sizeof stamp ? r->left : sizeof stamp);
  FUZZ_CHECK(msock_wg_initiation_make(&id, &remote, ephemeral, stamp, msock_read_be32(r), &hs,
                                      &m) == MSOCK_OK);
  msock_wg_initiation_encode(&m, p);
  msock_wg_macs_write(p, sizeof p, remote.mac1_key, NULL);
  unauthentic(w, p, sizeof p, msock_read_u8(r));
}

/* One true message of the peer, altered in at least one byte, many times. mac2 is left alone: it
 * counts under load only, so a handshake message with another one is still true. */
static void storm(world *w, msock_reader *r) {
  const size_t which = msock_read_u8(r) % KEPT, n = 1 + msock_read_u8(r);
  const size_t len = w->peer.kept_len[which];
  const uint8_t *true_one = w->peer.kept[which];
  fuzz_rng rng;
  const msock_env env = fuzz_env(&rng, msock_read_be32(r));
  uint8_t p[MSG_MAX];

  poll_side(w, &w->node);
  const uint64_t before = w->node.answers;
  for (size_t i = 0; i < n && i < STORM_MAX && len > 0; i++) {
    const size_t span = true_one[0] <= 2 ? len - MSOCK_WG_MAC_LEN : len;
    memcpy(p, true_one, len);
    const uint64_t edits = 1 + msock_env_uniform(&env, 3);
    for (uint64_t e = 0; e < edits; e++) {
      p[msock_env_uniform(&env, span)] ^= (uint8_t)(1u << msock_env_uniform(&env, 8));
    }
    if (memcmp(p, true_one, len) == 0) { /* they cancelled out */
      p[0] ^= 0x80;
    }
    const msock_wg_result_kind kind =
        deliver(w, &w->node, &w->peer, p, len, (uint8_t)msock_env_uniform(&env, 256));
    FUZZ_CHECK(kind == MSOCK_WG_DROP || kind == MSOCK_WG_NO_SESSION || kind == MSOCK_WG_HANDSHAKE);
  }
  poll_side(w, &w->node);
  FUZZ_CHECK(w->node.answers == before);
}

/* An inner packet as the input has it, sealed by the peer. */
static void inner(world *w, msock_reader *r) {
  const uint8_t flags = msock_read_u8(r);
  size_t len = 0;
  uint8_t *p = fuzz_take(r, msock_read_be16(r) % (MSOCK_WG_MTU_DEFAULT + 1), &len);
  uint8_t buf[MSOCK_PACKET_HEADROOM + MSG_MAX + MSOCK_PACKET_TAILROOM] = {0};
  msock_packet pkt = {
      .buf = buf, .cap = sizeof buf, .off = MSOCK_PACKET_HEADROOM, .len = (uint32_t)len};
  uint32_t peer = 0;

  memcpy(buf + pkt.off, p, len);
  if ((flags & 1) && len >= 20) { /* to the node, so that it is not dropped at the sender */
    buf[pkt.off] = 0x45;
    memcpy(buf + pkt.off + 16, w->node.ip.b, 4);
  }
  if ((flags & 2) && len >= 20) {
    memcpy(buf + pkt.off + 12, w->peer.ip.b, 4);
  }
  msock_wg_seal(w->peer.wg, w->now_us, &pkt, 1, &peer);
  if (peer != MSOCK_WG_PEER_NONE) {
    keep(&w->peer, msock_packet_data(&pkt), pkt.len);
    deliver(w, &w->node, &w->peer, msock_packet_data(&pkt), pkt.len, flags);
  }
  poll_side(w, &w->node);
  free(p);
}

static void replay(world *w, msock_reader *r) {
  const size_t at = msock_read_u8(r) % KEPT;
  if (w->peer.kept_len[at] > 0) {
    const msock_wg_result_kind kind =
        deliver(w, &w->node, &w->peer, w->peer.kept[at], w->peer.kept_len[at], msock_read_u8(r));
    FUZZ_CHECK(kind != MSOCK_WG_PLAIN);
  }
}

/* Cookie replies and responses of the node may reach the peer, also altered. */
static void back(world *w, msock_reader *r) {
  const size_t at = msock_read_u8(r) % KEPT;
  const uint8_t edit = msock_read_u8(r);
  uint8_t p[MSG_MAX];

  if (w->node.kept_len[at] > 0) {
    memcpy(p, w->node.kept[at], w->node.kept_len[at]);
    p[edit % w->node.kept_len[at]] ^= edit & 1;
    deliver(w, &w->peer, &w->node, p, w->node.kept_len[at], edit);
    poll_side(w, &w->peer);
  }
}

static void pass_time(world *w, msock_reader *r) {
  w->now_us += (uint64_t)msock_read_be16(r) * (10 * MSOCK_MS);
  msock_wg_on_expiry(w->node.wg, w->now_us, wall(w));
  msock_wg_on_expiry(w->peer.wg, w->now_us, wall(w));
  poll_side(w, &w->node);
  poll_side(w, &w->peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static void (*const steps[])(world *, msock_reader *) = {
      any_datagram, with_mac1, stranger, storm, inner, replay, back, pass_time};
  msock_reader r = msock_reader_init(data, size);
  world *w = calloc(1, sizeof *w);

  FUZZ_CHECK(w != NULL);
  w->now_us = 1000 * MSOCK_SEC;
  side_init(&w->node, 1, 1);
  side_init(&w->peer, 2, 2);
  side_knows(&w->node, &w->peer);
  side_knows(&w->peer, &w->node);
  if (msock_read_u8(&r) & 1) {
    connect_sides(w);
  }
  for (unsigned i = 0; fuzz_more(&r) && i < STEPS_MAX; i++) {
    steps[fuzz_choice(&r, sizeof steps / sizeof *steps)](w, &r);
  }
  msock_wg_free(w->node.wg);
  msock_wg_free(w->peer.wg);
  free(w);
  return 0;
}
