/* Who may claim what: hand-made disco packets against one engine. */
#include <stdlib.h>
#include <string.h>

#include "disco/disco.h"
#include "tests/unit/engine_rig.h"

/* A peer that is no engine: it sends what it likes. */
typedef struct rogue {
  msock_disco_identity me;
  msock_node_key node;
  msock_addr at;
} rogue;

typedef struct bench {
  testing_rng rng;
  testing_log log;
  msock_env env;
  msock_engine *e;
  msock_disco_key engine_key;
  msock_node_key engine_node;
  uint64_t now;
  uint32_t udp, derp, publications;
  msock_engine_output last;
  uint8_t last_bytes[MSOCK_ENGINE_PACKET_MAX];
  size_t last_len;
} bench;

static void drain(bench *b) {
  msock_engine_output out;
  uint8_t buf[MSOCK_ENGINE_PACKET_MAX];
  size_t len;
  while (msock_engine_next_output(b->e, b->now, &out, buf, sizeof buf, &len) > 0) {
    b->publications += out.kind == MSOCK_ENGINE_PUBLISH;
    if (out.kind == MSOCK_ENGINE_SEND_UDP || out.kind == MSOCK_ENGINE_SEND_DERP) {
      b->udp += out.kind == MSOCK_ENGINE_SEND_UDP;
      b->derp += out.kind == MSOCK_ENGINE_SEND_DERP;
      b->last = out;
      b->last_len = len;
      memcpy(b->last_bytes, buf, len);
    }
  }
}

static bench *bench_new(const msock_engine_config *cfg) {
  bench *b = calloc(1, sizeof *b);
  msock_engine_config mine = *cfg;
  msock_disco_private secret;
  b->env = testing_env(&b->rng, 42);
  testing_log_init(&b->log);
  b->env.log = &b->log.log;
  b->env.random(b->env.ctx, secret.b, sizeof secret.b);
  b->env.random(b->env.ctx, mine.self.b, sizeof mine.self.b);
  b->now = 5 * MSOCK_SEC;
  b->e = msock_engine_new(&mine, &b->env, &secret, b->now);
  b->engine_key = msock_engine_disco_key(b->e);
  b->engine_node = mine.self;
  msock_engine_set_home(b->e, 1);
  msock_engine_on_socket(b->e, b->now, RIG_PORT);
  drain(b);
  return b;
}

static void bench_free(bench *b) {
  msock_engine_free(b->e);
  free(b);
}

static rogue rogue_new(bench *b, const char *at) {
  rogue r = {.at = rig_addr(at)};
  msock_disco_identity_generate(&b->env, &r.me);
  b->env.random(b->env.ctx, r.node.b, sizeof r.node.b);
  return r;
}

static uint32_t admit(bench *b, const rogue *r) {
  const msock_engine_peer p = {.node = r->node, .disco = r->me.key, .home = 7};
  uint32_t id;
  ck_assert_int_eq(msock_engine_peer_put(b->e, b->now, &p, &id), MSOCK_OK);
  drain(b);
  return id;
}

static size_t sealed(bench *b, const rogue *r, const uint8_t *msg, size_t len, uint8_t *dst) {
  msock_disco_shared to;
  ck_assert_int_eq(msock_disco_shared_init(&to, &r->me, &b->engine_key), MSOCK_OK);
  const ptrdiff_t n =
      msock_disco_seal(&r->me, &to, &b->env, msg, len, dst, MSOCK_ENGINE_PACKET_MAX);
  ck_assert_int_gt(n, 0);
  return (size_t)n;
}

static size_t ping_of(bench *b, const rogue *r, const msock_node_key *claim, uint16_t padding,
                      uint8_t *dst) {
  uint8_t msg[MSOCK_ENGINE_PACKET_MAX];
  msock_disco_ping ping = {.has_node_key = claim != NULL, .padding = padding};
  if (claim != NULL) {
    ping.node_key = *claim;
  }
  b->env.random(b->env.ctx, ping.txid, sizeof ping.txid);
  const ptrdiff_t n = msock_disco_encode_ping(&ping, msg, sizeof msg);
  ck_assert_int_gt(n, 0);
  return sealed(b, r, msg, (size_t)n, dst);
}

static void ping_udp(bench *b, const rogue *r, const msock_node_key *claim, uint16_t padding) {
  uint8_t p[MSOCK_ENGINE_PACKET_MAX];
  const size_t n = ping_of(b, r, claim, padding, p);
  msock_engine_on_udp(b->e, b->now, &r->at, p, n);
  drain(b);
}

static size_t call_of(bench *b, const rogue *r, const msock_addr *ep, uint8_t n, uint8_t *dst) {
  uint8_t msg[MSOCK_DISCO_MESSAGE_MAX];
  msock_disco_call_me_maybe call = {.n = n};
  memcpy(call.endpoints, ep, n * sizeof *ep);
  const ptrdiff_t len = msock_disco_encode_call_me_maybe(&call, msg, sizeof msg);
  ck_assert_int_gt(len, 0);
  return sealed(b, r, msg, (size_t)len, dst);
}

static void call_derp(bench *b, const rogue *r, const msock_node_key *src, const msock_addr *ep,
                      uint8_t n) {
  uint8_t p[MSOCK_ENGINE_PACKET_MAX];
  const size_t len = call_of(b, r, ep, n, p);
  msock_engine_on_derp(b->e, b->now, 7, src, p, len);
  drain(b);
}

/* Opens what the engine last sent to r. */
static size_t opened(bench *b, const rogue *r, uint8_t *msg) {
  msock_disco_shared from;
  ck_assert_int_eq(msock_disco_shared_init(&from, &r->me, &b->engine_key), MSOCK_OK);
  const ptrdiff_t n =
      msock_disco_open(&from, b->last_bytes, b->last_len, msg, MSOCK_ENGINE_PACKET_MAX);
  ck_assert_int_gt(n, 0);
  return (size_t)n;
}

static size_t n_candidates(const bench *b, uint32_t id) {
  msock_engine_candidate c[1];
  return msock_engine_candidates(b->e, id, c, 1);
}

static msock_engine_counters counters(const bench *b) {
  return msock_engine_counters_get(b->e);
}

static const msock_engine_config plain = {0};

/* closes: DISCO-13 T18 T19 T21 T22 DISCO-05 DISCO-15 PRIV-10 NC-24 (pings, empty map) */
START_TEST(a_ping_needs_exactly_the_bound_node_key) {
  bench *b = bench_new(&plain);
  const rogue r = rogue_new(b, "198.51.100.5:1000"), other = rogue_new(b, "198.51.100.6:1000");

  ping_udp(b, &r, &r.node, 0); /* no netmap at all */
  ck_assert_uint_eq(counters(b).rx_no_netmap, 1);
  admit(b, &other);
  ping_udp(b, &r, &r.node, 0); /* a stranger: nothing is decrypted */
  ck_assert_uint_eq(counters(b).rx_stranger, 1);
  ck_assert_uint_eq(counters(b).opened, 0);
  const uint32_t id = admit(b, &r);
  ping_udp(b, &r, &other.node, 0); /* a member that claims another one */
  ping_udp(b, &r, NULL, 0);        /* no claim */
  ck_assert_uint_eq(counters(b).rx_claim, 2);
  ck_assert_uint_eq(counters(b).opened, 2);
  ck_assert_uint_eq(b->udp + b->derp, 0); /* so far: no answer of any kind */
  ck_assert_uint_eq(n_candidates(b, id), 0);
  ck_assert_uint_eq(msock_engine_peer_of_source(b->e, &r.at), MSOCK_ENGINE_PEER_NONE);
  ping_udp(b, &r, &r.node, 0);
  ck_assert_uint_eq(b->udp, 2); /* the pong, and our own ping */
  ck_assert_uint_eq(n_candidates(b, id), 1);
  ck_assert_uint_eq(msock_engine_peer_of_source(b->e, &r.at), id);
  uint8_t p[MSOCK_ENGINE_PACKET_MAX]; /* its last ping is believed */
  const size_t n = ping_of(b, &r, &r.node, 0, p);
  msock_engine_on_udp(b->e, b->now, &r.at, p, n);
  drain(b);
  ck_assert_uint_eq(b->udp, 3);
  msock_engine_peer_remove(b->e, id); /* revoked: the same again, and a new one, are a stranger's */
  msock_engine_on_udp(b->e, b->now, &r.at, p, n);
  ping_udp(b, &r, &r.node, 0);
  drain(b);
  ck_assert_uint_eq(b->udp, 3);
  ck_assert_uint_eq(counters(b).rx_stranger, 3);
  ck_assert_uint_eq(counters(b).rx_ping, 2);
  bench_free(b);
}
END_TEST

/* closes: DISCO-16 PRIV-06 */
START_TEST(before_the_first_netmap_one_warning) {
  bench *b = bench_new(&plain);
  const rogue r = rogue_new(b, "198.51.100.5:1000");
  for (int i = 0; i < 100; i++) {
    ping_udp(b, &r, &r.node, 0);
  }
  uint32_t warnings = 0;
  for (size_t i = 0; i < b->log.n; i++) {
    warnings += strstr(b->log.events[i], "path.no_netmap") != NULL;
  }
  ck_assert_uint_eq(warnings, 1);
  ck_assert_uint_eq(b->udp + b->derp, 0);
  bench_free(b);
}
END_TEST

/* closes: DISCO-11 DISCO-12 PRIV-11 */
START_TEST(padded_pings_are_answered_by_a_small_pong_with_the_source_as_seen) {
  static const uint16_t padding[] = {0, 1, 31, 32, 1000, 1472 - 124};
  for (size_t i = 0; i < sizeof padding / sizeof padding[0]; i++) {
    bench *b = bench_new(&plain);
    rogue r = rogue_new(b, "198.51.100.5:1000");
    uint8_t msg[MSOCK_ENGINE_PACKET_MAX];
    msock_disco_pong pong;
    admit(b, &r);
    /* As a dual-stack socket shows IPv4. */
    const uint8_t mapped[16] = {
        [10] = 0xff, [11] = 0xff, [12] = 198, [13] = 51, [14] = 100, [15] = 5};
    r.at.ip = msock_ip_from_bytes16(mapped);
    uint8_t p[MSOCK_ENGINE_PACKET_MAX];
    msock_engine_output out;
    size_t len;
    const size_t n = ping_of(b, &r, &r.node, padding[i], p);
    ck_assert_uint_eq(n, 124u + padding[i]);
    msock_engine_on_udp(b->e, b->now, &r.at, p, n);
    ck_assert_int_eq(
        msock_engine_next_output(b->e, b->now, &out, b->last_bytes, sizeof b->last_bytes, &len), 1);
    b->last_len = len;
    ck_assert_uint_eq(len, RIG_PONG_LEN); /* never more than was asked with */
    const size_t m = opened(b, &r, msg);
    ck_assert_int_eq(msock_disco_decode_pong(msg, m, &pong), MSOCK_OK);
    const msock_addr seen = rig_addr("198.51.100.5:1000");
    ck_assert(msock_addr_equal(&pong.src, &seen));
    ck_assert(msock_addr_equal(&out.addr, &seen));
    bench_free(b);
  }
}
END_TEST

/* closes: DISCO-07 DISCO-06 */
START_TEST(own_and_worthless_keys_are_refused) {
  bench *b = bench_new(&plain);
  const rogue member = rogue_new(b, "198.51.100.5:1000");
  uint8_t p[MSOCK_ENGINE_PACKET_MAX];
  rogue low = member;
  admit(b, &member);
  const size_t n = ping_of(b, &member, &member.node, 0, p);
  memcpy(p + 6, b->engine_key.b, 32); /* says: from yourself */
  msock_engine_on_udp(b->e, b->now, &member.at, p, n);
  ck_assert_uint_eq(counters(b).rx_own_key, 1);
  memset(p + 6, 0, 32);
  msock_engine_on_udp(b->e, b->now, &member.at, p, n);
  ck_assert_uint_eq(counters(b).rx_stranger, 1);
  low.node.b[0] ^= 1; /* control lists a key of low order */
  low.me.key = (msock_disco_key){.b = {1}};
  admit(b, &low);
  memcpy(p + 6, low.me.key.b, 32);
  msock_engine_on_udp(b->e, b->now, &member.at, p, n);
  ck_assert_uint_eq(counters(b).rx_bad_key, 1);
  ck_assert_uint_eq(counters(b).opened, 0);
  drain(b);
  ck_assert_uint_eq(b->udp + b->derp, 0);
  bench_free(b);
}
END_TEST

/* The engine's part of DISCO-10; unique nonces are test_disco_envelope's.
 * closes: DISCO-10 */
START_TEST(our_pings_carry_our_node_key_in_124_bytes) {
  bench *b = bench_new(&plain);
  const rogue r = rogue_new(b, "198.51.100.5:1000");
  uint8_t msg[MSOCK_ENGINE_PACKET_MAX];
  msock_disco_ping ping;
  admit(b, &r);
  ping_udp(b, &r, &r.node, 0);
  ck_assert_uint_eq(b->last_len, RIG_PING_LEN);
  const size_t n = opened(b, &r, msg);
  ck_assert_int_eq(msock_disco_decode_ping(msg, n, &ping), MSOCK_OK);
  ck_assert(ping.has_node_key && msock_node_key_equal(&ping.node_key, &b->engine_node));
  ck_assert_uint_eq(ping.padding, 0);
  bench_free(b);
}
END_TEST

/* closes: DISCO-17 */
START_TEST(nodes_that_share_a_disco_key_have_paths_of_their_own) {
  bench *b = bench_new(&plain);
  const rogue one = rogue_new(b, "198.51.100.5:1000");
  rogue two = one;
  uint32_t ids[4];
  two.at = rig_addr("198.51.100.6:1000");
  two.node.b[0] ^= 0xff;
  const uint32_t id1 = admit(b, &one), id2 = admit(b, &two);
  ck_assert_uint_eq(msock_engine_peers_of_disco(b->e, &one.me.key, ids, 4), 2);
  ping_udp(b, &one, &one.node, 0);
  ck_assert_uint_eq(n_candidates(b, id1), 1);
  ck_assert_uint_eq(n_candidates(b, id2), 0);
  /* The engine's ping to one is answered: one is direct, two is not. */
  uint8_t msg[MSOCK_ENGINE_PACKET_MAX], p[MSOCK_ENGINE_PACKET_MAX];
  msock_disco_ping ping;
  size_t m = opened(b, &one, msg);
  ck_assert_int_eq(msock_disco_decode_ping(msg, m, &ping), MSOCK_OK);
  msock_disco_pong pong = {.src = rig_addr("203.0.113.1:41641")};
  memcpy(pong.txid, ping.txid, sizeof pong.txid);
  m = (size_t)msock_disco_encode_pong(&pong, msg, sizeof msg);
  const size_t n = sealed(b, &one, msg, m, p);
  b->now += 10 * MSOCK_MS;
  msock_engine_on_udp(b->e, b->now, &two.at, p, n); /* from elsewhere: PATH-04 */
  msock_route route;
  msock_engine_route(b->e, id1, b->now, &route);
  ck_assert_int_eq(route.via, MSOCK_VIA_DIRECT);
  ck_assert(msock_addr_equal(&route.addr, &one.at));
  msock_engine_route(b->e, id2, b->now, &route);
  ck_assert_int_eq(route.via, MSOCK_VIA_DERP);
  msock_engine_on_udp(b->e, b->now, &one.at, p, n); /* the same again: PATH-05 */
  ck_assert_uint_eq(counters(b).rx_unknown_txid, 1);
  bench_free(b);
}
END_TEST

/* A pong to the engine's last ping, at now + 10 ms. */
static void answer(bench *b, const rogue *r, const char *src, bool derp) {
  uint8_t msg[MSOCK_ENGINE_PACKET_MAX], p[MSOCK_ENGINE_PACKET_MAX];
  msock_disco_ping ping;
  size_t m = opened(b, r, msg);
  ck_assert_int_eq(msock_disco_decode_ping(msg, m, &ping), MSOCK_OK);
  msock_disco_pong pong = {.src = rig_addr(src)};
  memcpy(pong.txid, ping.txid, sizeof pong.txid);
  m = (size_t)msock_disco_encode_pong(&pong, msg, sizeof msg);
  const size_t n = sealed(b, r, msg, m, p);
  b->now += 10 * MSOCK_MS;
  if (derp) {
    msock_engine_on_derp(b->e, b->now, 7, &r->node, p, n);
  } else {
    msock_engine_on_udp(b->e, b->now, &r->at, p, n);
  }
  drain(b);
}

static bool direct(const bench *b, uint32_t id) {
  msock_route route;
  msock_engine_route(b->e, id, b->now, &route);
  return route.via == MSOCK_VIA_DIRECT;
}

/* closes: PATH-04 PATH-05 DISCO-23 DISCO-22 PATH-20 */
START_TEST(pongs) {
  bench *b = bench_new(&plain);
  const rogue r = rogue_new(b, "198.51.100.5:1000");
  const uint32_t id = admit(b, &r);
  uint8_t p[MSOCK_ENGINE_PACKET_MAX], msg[MSOCK_ENGINE_PACKET_MAX];
  msock_disco_pong pong;

  ping_udp(b, &r, &r.node, 0);
  answer(b, &r, "203.0.113.1:41641", true); /* by the relay: confirms nothing */
  ck_assert(!direct(b, id));
  ck_assert_uint_eq(counters(b).rx_wrong_transport, 1);
  const msock_disco_pong invented = {.txid = {1, 2, 3}, .src = rig_addr("203.0.113.1:41641")};
  const ptrdiff_t m1 = msock_disco_encode_pong(&invented, msg, sizeof msg);
  const size_t n1 = sealed(b, &r, msg, (size_t)m1, p);
  msock_engine_on_udp(b->e, b->now, &r.at, p, n1); /* to a ping that was never sent */
  ck_assert(!direct(b, id));
  ck_assert_uint_eq(counters(b).rx_unknown_txid, 1);
  answer(b, &r, "203.0.113.1:41641", false); /* it still counts when it comes the right way */
  ck_assert(direct(b, id));
  /* A ping by the relay is answered there, with the relay's stand-in as source. */
  const uint32_t udp = b->udp;
  const size_t n = ping_of(b, &r, &r.node, 0, p);
  msock_engine_on_derp(b->e, b->now, 7, &r.node, p, n);
  drain(b);
  ck_assert_uint_eq(b->udp, udp);
  ck_assert_int_eq(b->last.kind, MSOCK_ENGINE_SEND_DERP);
  ck_assert_uint_eq(b->last.region, 7);
  const size_t m = opened(b, &r, msg);
  ck_assert_int_eq(msock_disco_decode_pong(msg, m, &pong), MSOCK_OK);
  const msock_addr stand_in = rig_addr("127.3.3.40:7");
  ck_assert(msock_addr_equal(&pong.src, &stand_in));
  /* By the relay with another source than the claimed node: nothing. */
  const rogue other = rogue_new(b, "198.51.100.9:9");
  const uint32_t derp = b->derp;
  const size_t n2 = ping_of(b, &r, &r.node, 0, p);
  msock_engine_on_derp(b->e, b->now, 7, &other.node, p, n2);
  drain(b);
  ck_assert_uint_eq(b->derp, derp);
  bench_free(b);

  b = bench_new(&plain); /* a late pong for an address that is gone */
  const rogue q = rogue_new(b, "198.51.100.5:1000");
  const msock_engine_peer with = {
      .node = q.node, .disco = q.me.key, .home = 7, .endpoints = &q.at, .n_endpoints = 1};
  const msock_engine_peer without = {.node = q.node, .disco = q.me.key, .home = 7};
  uint32_t qid;
  ck_assert_int_eq(msock_engine_peer_put(b->e, b->now, &with, &qid), MSOCK_OK);
  drain(b);
  ck_assert_uint_eq(b->udp, 1);
  ck_assert_int_eq(msock_engine_peer_put(b->e, b->now, &without, &qid), MSOCK_OK);
  answer(b, &q, "203.0.113.1:41641", false);
  ck_assert(!direct(b, qid));
  ck_assert_uint_eq(n_candidates(b, qid), 0);
  bench_free(b);
}
END_TEST

/* closes: PATH-19 */
START_TEST(a_withdrawn_best_is_left_at_once_and_learned_ones_stay) {
  bench *b = bench_new(&plain);
  const rogue r = rogue_new(b, "198.51.100.5:1000");
  const msock_addr learned = rig_addr("198.51.100.6:6");
  const msock_engine_peer with = {
      .node = r.node, .disco = r.me.key, .home = 7, .endpoints = &r.at, .n_endpoints = 1};
  const msock_engine_peer without = {.node = r.node, .disco = r.me.key, .home = 7};
  msock_engine_candidate c[4];
  uint32_t id;
  ck_assert_int_eq(msock_engine_peer_put(b->e, b->now, &with, &id), MSOCK_OK);
  drain(b);
  answer(b, &r, "203.0.113.1:41641", false);
  ck_assert(direct(b, id));
  call_derp(b, &r, &r.node, &learned, 1);
  ck_assert_uint_eq(n_candidates(b, id), 2);
  ck_assert_int_eq(msock_engine_peer_put(b->e, b->now, &without, &id), MSOCK_OK);
  ck_assert(!direct(b, id));
  ck_assert_uint_eq(msock_engine_candidates(b->e, id, c, 4), 1);
  ck_assert(msock_addr_equal(&c[0].addr, &learned));
  ck_assert_uint_eq(msock_engine_peer_of_source(b->e, &r.at), MSOCK_ENGINE_PEER_NONE);
  bench_free(b);
}
END_TEST

/* closes: DISCO-14 DISCO-18 DISCO-19 DISCO-20 T20 PATH-14 PATH-39
 *         PRIV-11 (to addresses that never proved themselves) */
START_TEST(call_me_maybe_in) {
  bench *b = bench_new(&plain);
  const rogue r = rogue_new(b, "198.51.100.5:1000"), other = rogue_new(b, "198.51.100.6:1000");
  uint8_t p[MSOCK_ENGINE_PACKET_MAX];
  msock_addr ep[16];
  for (int i = 0; i < 16; i++) {
    ep[i] = (msock_addr){.ip = msock_ip_v4(198, 51, 100, 77), .port = (uint16_t)(1 + i)};
  }
  call_derp(b, &r, &r.node, ep, 3); /* empty netmap */
  admit(b, &other);
  call_derp(b, &r, &r.node, ep, 3); /* stranger */
  ck_assert_uint_eq(b->udp, 0);
  const uint32_t id = admit(b, &r);
  size_t n = call_of(b, &r, ep, 3, p);
  msock_engine_on_udp(b->e, b->now, &r.at, p, n); /* by UDP */
  call_derp(b, &r, &other.node, ep, 3);           /* another source by the relay's word */
  ck_assert_uint_eq(b->udp, 0);
  ck_assert_uint_eq(n_candidates(b, id), 0);
  call_derp(b, &r, &r.node, ep, 3);
  ck_assert_uint_eq(b->udp, 3); /* pinged in the same event */
  ck_assert_uint_eq(n_candidates(b, id), 3);
  static const struct {
    size_t len;
    uint8_t version;
  } bad[] = {{2, 0}, {2 + 17, 0}, {2 + 19, 0}, {2 + 18, 1}}; /* empty, cut off, another version */
  for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
    uint8_t m[64] = {MSOCK_DISCO_CALL_ME_MAYBE, bad[k].version};
    memset(m + 2, 0x22, sizeof m - 2);
    n = sealed(b, &r, m, bad[k].len, p);
    msock_engine_on_derp(b->e, b->now, 7, &r.node, p, n);
    drain(b);
  }
  ck_assert_uint_eq(counters(b).rx_malformed, sizeof bad / sizeof *bad);
  ck_assert_uint_eq(n_candidates(b, id), 3);
  call_derp(b, &r, &r.node, ep, 3); /* again within a second: no second round now */
  ck_assert_uint_eq(b->udp, 3);
  /* A flood of lists with ever new addresses. */
  for (int k = 0; k < 1000; k++) {
    for (int i = 0; i < 16; i++) {
      ep[i].ip = msock_ip_v4(198, 51, (uint8_t)(k / 250), (uint8_t)(k % 250 + 1));
    }
    b->now += 1 * MSOCK_MS;
    call_derp(b, &r, &r.node, ep, 16);
    msock_engine_on_expiry(b->e, b->now);
    drain(b);
    ck_assert_uint_le(n_candidates(b, id), MSOCK_ENGINE_LEARNED_MAX);
  }
  ck_assert_uint_le(b->udp, 40 + 10 + 1); /* the peer's ping budget: 40, and 10 in each second */
  bench_free(b);
}
END_TEST

/* Messages of peer relays: by UDP they are not even looked at, by DERP they are not spoken yet.
 * closes: DISCO-18 (via, allocate) */
START_TEST(relay_messages_change_nothing) {
  static const uint8_t kinds[] = {MSOCK_DISCO_CALL_ME_MAYBE_VIA, MSOCK_DISCO_ALLOCATE_REQUEST,
                                  MSOCK_DISCO_ALLOCATE_RESPONSE};
  bench *b = bench_new(&plain);
  const rogue r = rogue_new(b, "198.51.100.5:1000");
  const uint32_t id = admit(b, &r);
  uint8_t p[MSOCK_ENGINE_PACKET_MAX], m[2 + 4 + 124 + 18] = {0};
  for (size_t k = 0; k < sizeof kinds; k++) {
    memset(m, 1, sizeof m);
    m[0] = kinds[k];
    m[1] = 0;
    const size_t n = sealed(b, &r, m, sizeof m, p);
    msock_engine_on_udp(b->e, b->now, &r.at, p, n);
    drain(b);
    ck_assert_uint_eq(counters(b).rx_wrong_transport + counters(b).rx_unspoken +
                          counters(b).rx_malformed,
                      2 * k + 1);
    msock_engine_on_derp(b->e, b->now, 7, &r.node, p, n);
    drain(b);
  }
  ck_assert_uint_eq(b->udp + b->derp, 0);
  ck_assert_uint_eq(n_candidates(b, id), 0);
  bench_free(b);
}
END_TEST

/* closes: DISCO-24 */
START_TEST(rotation_of_a_peers_key) {
  bench *b = bench_new(&plain);
  rogue r = rogue_new(b, "198.51.100.5:1000");
  const uint32_t id = admit(b, &r);
  uint8_t p[MSOCK_ENGINE_PACKET_MAX];
  uint32_t ids[2];
  ping_udp(b, &r, &r.node, 0);
  answer(b, &r, "203.0.113.1:41641", false);
  ck_assert(direct(b, id));
  uint8_t msg[MSOCK_ENGINE_PACKET_MAX]; /* a ping of ours is in flight at the moment of change */
  msock_disco_ping asked;
  b->now += 3 * MSOCK_SEC;
  msock_engine_on_expiry(b->e, b->now);
  drain(b);
  const size_t asked_len = opened(b, &r, msg);
  ck_assert_int_eq(msock_disco_decode_ping(msg, asked_len, &asked), MSOCK_OK);
  const size_t n = ping_of(b, &r, &r.node, 0, p);
  rogue next = r;
  msock_disco_identity_generate(&b->env, &next.me);
  ck_assert_uint_eq(admit(b, &next), id);
  ck_assert(!direct(b, id));
  ck_assert_uint_eq(n_candidates(b, id), 0);
  ck_assert_uint_eq(msock_engine_peers_of_disco(b->e, &r.me.key, ids, 2), 0);
  const uint64_t strangers = counters(b).rx_stranger;
  msock_engine_on_udp(b->e, b->now, &r.at, p, n); /* the old key */
  ck_assert_uint_eq(counters(b).rx_stranger, strangers + 1);
  msock_disco_pong late = {.src = rig_addr("203.0.113.1:41641")}; /* to the ping from before */
  memcpy(late.txid, asked.txid, sizeof late.txid);
  const ptrdiff_t late_len = msock_disco_encode_pong(&late, msg, sizeof msg);
  const size_t n2 = sealed(b, &next, msg, (size_t)late_len, p);
  msock_engine_on_udp(b->e, b->now, &next.at, p, n2);
  ck_assert(!direct(b, id));
  ck_assert_uint_eq(counters(b).rx_unknown_txid, 1);
  ping_udp(b, &next, &next.node, 0);
  answer(b, &next, "203.0.113.1:41641", false);
  ck_assert(direct(b, id));
  bench_free(b);
}
END_TEST

/* closes: PRIV-02 PRIV-08 */
START_TEST(nothing_goes_to_addresses_outside_policy) {
  static const char *const local[] = {
      "10.1.2.3:1",  "172.16.5.5:1", "192.168.1.1:1",   "100.64.1.1:1",     "169.254.1.1:1",
      "127.0.0.1:1", "127.3.3.40:7", "0.0.0.0:1",       "224.0.0.1:1",      "8.8.8.8:0",
      "[fe80::1]:1", "[fd00::1]:1",  "[2001:db8::1]:1", "255.255.255.255:1"};
  const msock_engine_config strict = {.lan_off = true};
  bench *b = bench_new(&strict);
  rogue r = rogue_new(b, "198.51.100.5:1000");
  msock_addr ep[14];
  const size_t n = sizeof local / sizeof local[0];
  for (size_t i = 0; i < n; i++) {
    ep[i] = rig_addr(local[i]);
  }
  const msock_engine_peer all = {
      .node = r.node, .disco = r.me.key, .home = 7, .endpoints = ep, .n_endpoints = n};
  uint32_t id;
  ck_assert_int_eq(msock_engine_peer_put(b->e, b->now, &all, &id), MSOCK_OK);
  drain(b);
  call_derp(b, &r, &r.node, ep, (uint8_t)n);
  for (size_t i = 0; i < n; i++) {
    r.at = ep[i];
    ping_udp(b, &r, &r.node, 0);
  }
  for (int k = 0; k < 100; k++) {
    b->now += 1 * MSOCK_SEC;
    msock_engine_on_expiry(b->e, b->now);
    drain(b);
  }
  ck_assert_uint_eq(b->udp, 0);
  ck_assert_uint_eq(n_candidates(b, id), 0);
  ck_assert_uint_eq(counters(b).rx_filtered, n);
  bench_free(b);
}
END_TEST

/* closes: PRIV-09 */
START_TEST(direct_off_is_silent_for_an_hour) {
  const msock_engine_config off = {.direct_off = true};
  bench *b = bench_new(&off);
  const rogue r = rogue_new(b, "198.51.100.5:1000");
  const msock_addr ep = r.at, server = rig_addr("192.0.2.1:3478"), me = rig_addr("203.0.113.9:5");
  const msock_engine_peer p = {
      .node = r.node, .disco = r.me.key, .home = 7, .endpoints = &ep, .n_endpoints = 1};
  uint32_t id;
  ck_assert_int_eq(msock_engine_peer_put(b->e, b->now, &p, &id), MSOCK_OK);
  msock_engine_on_reflexive(b->e, b->now, &server, &me);
  for (int s = 0; s < 3600; s++) {
    b->now += 1 * MSOCK_SEC;
    msock_engine_on_data_sent(b->e, b->now, id, NULL);
    if (s % 60 == 0) {
      ping_udp(b, &r, &r.node, 0);
      call_derp(b, &r, &r.node, &ep, 1);
    }
    msock_engine_on_expiry(b->e, b->now);
    drain(b);
  }
  ck_assert_uint_eq(b->udp + b->derp + b->publications, 0);
  bench_free(b);
}
END_TEST

/* closes: PATH-43 */
START_TEST(rubbish_is_counted_and_forgotten) {
  bench *b = bench_new(&plain);
  const rogue r = rogue_new(b, "198.51.100.5:1000");
  uint8_t p[MSOCK_ENGINE_PACKET_MAX], m[MSOCK_ENGINE_PACKET_MAX];
  admit(b, &r);
  const size_t n = ping_of(b, &r, &r.node, 0, p);
  for (size_t k = 0; k < 20000; k++) {
    memcpy(m, p, n);
    const size_t cut = msock_env_uniform(&b->env, n + 1);
    if (k % 2 == 0) {
      m[6 + 32 + msock_env_uniform(&b->env, n - 38)] ^=
          (uint8_t)(1 + msock_env_uniform(&b->env, 255));
      msock_engine_on_udp(b->e, b->now, &r.at, m, n);
    } else if (cut < n) {
      msock_engine_on_derp(b->e, b->now, 7, &r.node, m, cut);
    }
    drain(b);
  }
  ck_assert_uint_eq(b->udp + b->derp, 0);
  ck_assert_uint_ge(counters(b).rx_unopened, 10000);
  ping_udp(b, &r, &r.node, 0); /* and the next good one is heard */
  ck_assert_uint_eq(b->udp, 2);
  bench_free(b);
}
END_TEST

/* closes: PATH-13 */
START_TEST(a_storm_of_pings_is_not_echoed) {
  bench *b = bench_new(&plain);
  const rogue r = rogue_new(b, "198.51.100.5:1000");
  admit(b, &r);
  for (int k = 0; k < 1000; k++) { /* 1000 pings in one second */
    ping_udp(b, &r, &r.node, 0);
    b->now += 1 * MSOCK_MS;
  }
  const uint64_t pings = counters(b).tx_ping;
  ck_assert_uint_ge(pings, 1);
  ck_assert_uint_le(pings, 5);
  ck_assert_uint_le(counters(b).tx_pong, 100); /* 50, and 50 in a second */
  bench_free(b);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, a_ping_needs_exactly_the_bound_node_key);
  tcase_add_test(tc, before_the_first_netmap_one_warning);
  tcase_add_test(tc, padded_pings_are_answered_by_a_small_pong_with_the_source_as_seen);
  tcase_add_test(tc, own_and_worthless_keys_are_refused);
  tcase_add_test(tc, our_pings_carry_our_node_key_in_124_bytes);
  tcase_add_test(tc, nodes_that_share_a_disco_key_have_paths_of_their_own);
  tcase_add_test(tc, pongs);
  tcase_add_test(tc, a_withdrawn_best_is_left_at_once_and_learned_ones_stay);
  tcase_add_test(tc, call_me_maybe_in);
  tcase_add_test(tc, relay_messages_change_nothing);
  tcase_add_test(tc, rotation_of_a_peers_key);
  tcase_add_test(tc, nothing_goes_to_addresses_outside_policy);
  tcase_add_test(tc, direct_off_is_silent_for_an_hour);
  tcase_add_test(tc, rubbish_is_counted_and_forgotten);
  tcase_add_test(tc, a_storm_of_pings_is_not_echoed);
  return testing_main("engine_binding", tc);
}
