/* What the engine keeps in memory: keys that are gone are gone (WG-22), and packets allocate
 * nothing (PERF-01). Every block of the program is watched through wrapped malloc and free. */
#include <stdio.h>

#include "tests/unit/wg_rig.h"

/* Live blocks, in an open-addressed table that is no block itself. */
#define BLOCKS 65536u
static struct {
  uint8_t *p;
  size_t len;
} blocks[BLOCKS];
static size_t n_blocks, live_bytes;

#define SECRETS 32u
static uint8_t secrets[SECRETS][32];
static size_t n_secrets;
static size_t freed_with_secret;

static uint32_t slot_of(const void *p) {
  uint32_t at = (uint32_t)((uintptr_t)p >> 4) * 2654435761u % BLOCKS;
  while (blocks[at].p != NULL && blocks[at].p != p) {
    at = (at + 1) % BLOCKS;
  }
  return at;
}

static bool holds_secret(const uint8_t *p, size_t len) {
  for (size_t s = 0; s < n_secrets; s++) {
    if (memmem(p, len, secrets[s], sizeof secrets[s]) != NULL) {
      return true;
    }
  }
  return false;
}

static void on_alloc(void *p, size_t len) {
  if (n_blocks >= BLOCKS / 2) {
    abort(); /* check allocates itself: no ck_assert in here */
  }
  const uint32_t at = slot_of(p);
  blocks[at].p = p;
  blocks[at].len = len;
  n_blocks++;
  live_bytes += len;
}

static void on_free(void *p) {
  uint32_t at = slot_of(p);
  if (blocks[at].p == NULL) {
    return; /* older than the watch */
  }
  freed_with_secret += holds_secret(blocks[at].p, blocks[at].len);
  live_bytes -= blocks[at].len;
  n_blocks--;
  blocks[at].p = NULL;
  for (uint32_t next = (at + 1) % BLOCKS; blocks[next].p != NULL; next = (next + 1) % BLOCKS) {
    uint8_t *const moved = blocks[next].p; /* close the gap */
    const size_t len = blocks[next].len;
    blocks[next].p = NULL;
    const uint32_t to = slot_of(moved);
    blocks[to].p = moved;
    blocks[to].len = len;
  }
}

static void watch(void) {
  rig_on_alloc = on_alloc;
  rig_on_free = on_free;
}

static void unwatch(void) {
  rig_on_alloc = NULL;
  rig_on_free = NULL;
}

static size_t live_with_secret(void) {
  size_t n = 0;
  for (uint32_t i = 0; i < BLOCKS; i++) {
    n += blocks[i].p != NULL && holds_secret(blocks[i].p, blocks[i].len);
  }
  return n;
}

static void remember(const uint8_t *secret) {
  static const uint8_t zero[32];
  ck_assert_uint_lt(n_secrets, SECRETS);
  if (memcmp(secret, zero, 32) != 0) {
    memcpy(secrets[n_secrets++], secret, 32);
  }
}

static void remember_session(const msock_wg_session *s) {
  if (s != NULL) {
    remember(s->keys.send);
    remember(s->keys.recv);
  }
}

static void remember_peer(const rig_end *e) {
  const msock_wg_active *a = rig_active(e);
  remember_session(a->previous);
  remember_session(a->current);
  remember_session(a->next);
  if (a->waiting) {
    remember(a->handshake.ephemeral);
    remember(a->handshake.noise.ck);
    remember(a->handshake.noise.h);
  }
  if (a->remote.has_static_static) {
    remember(a->remote.static_static);
  }
}

/* The rig itself keeps packets and copies of private keys: only blocks of the engines count. */
static rig *watched_rig(void) {
  rig *r = rig_new(NULL);
  msock_wg_free(r->a.wg);
  msock_wg_free(r->b.wg);
  watch();
  r->a.wg = msock_wg_new(&r->a.env, &r->a.key, NULL);
  r->b.wg = msock_wg_new(&r->b.env, &r->b.key, NULL);
  rig_end_knows(&r->a, &r->b, NULL);
  rig_end_knows(&r->b, &r->a, NULL);
  return r;
}

/* closes: WG-22 */
START_TEST(keys_are_gone_after_540_s) {
  rig *r = watched_rig();
  msock_wg_peer_open_session(r->a.wg, r->now, r->a.peer);
  rig_settle(r);
  rig_run(r, r->now + 121 * MSOCK_SEC);
  rig_send(r, &r->a, 1); /* a second session, so that previous is filled */
  rig_settle(r);
  const uint64_t born = r->now;
  rig_run(r, born + 6 * MSOCK_SEC);
  rig_active(&r->a)->current->send_counter = MSOCK_WG_REKEY_AFTER_MESSAGES + 1;
  rig_send(r, &r->a, 2); /* and a handshake that nobody answers */
  rig_poll(r, &r->a);
  remember_peer(&r->a);
  remember_peer(&r->b);
  ck_assert_uint_ge(n_secrets, 2 * 4 + 3 + 1);
  r->a.n_out = 0;
  ck_assert_uint_ge(live_with_secret(), 4);

  rig_run_silent(r, born + 540 * MSOCK_SEC - 1);
  remember_peer(&r->a);
  ck_assert_uint_gt(live_with_secret(), 0);
  rig_run_silent(r, born + 540 * MSOCK_SEC);
  ck_assert_uint_eq(live_with_secret(), 0);
  ck_assert_uint_eq(freed_with_secret, 0);
  unwatch();
  rig_free(r);
}
END_TEST

/* What a handshake mixed is erased as soon as it has given its keys (dataplane.md 3). */
START_TEST(handshake_is_gone_when_it_ends) {
  rig *r = watched_rig();
  msock_wg_peer_open_session(r->a.wg, r->now, r->a.peer);
  rig_poll(r, &r->a);
  const msock_wg_handshake *hs = &rig_active(&r->a)->handshake;
  remember(hs->ephemeral);
  remember(hs->noise.ck);
  remember(hs->noise.h);
  remember(hs->noise.k);
  ck_assert_uint_eq(live_with_secret(), 1);
  rig_settle(r);
  ck_assert(rig_has_session(r, &r->a));
  ck_assert_uint_eq(live_with_secret(), 0);
  unwatch();
  rig_free(r);
}
END_TEST

/* closes: WG-22 */
START_TEST(keys_are_gone_after_removal_and_after_free) {
  rig *r = watched_rig();
  msock_wg_peer_open_session(r->a.wg, r->now, r->a.peer);
  rig_settle(r);
  remember_peer(&r->a);
  remember(r->b.key.b);
  msock_wg_peer_remove(r->a.wg, r->a.peer);
  msock_wg_peer_remove(r->b.wg, r->b.peer);
  ck_assert_uint_eq(live_with_secret(), 1); /* b's private key is still in use */
  msock_wg_free(r->a.wg);
  msock_wg_free(r->b.wg);
  ck_assert_uint_eq(live_with_secret(), 0);
  ck_assert_uint_eq(freed_with_secret, 0);
  unwatch();
  free(r);
}
END_TEST

START_TEST(everything_is_given_back) {
  rig *r = watched_rig();
  msock_wg_peer_open_session(r->a.wg, r->now, r->a.peer);
  rig_settle(r);
  rig_send(r, &r->a, 1);
  rig_settle(r);
  msock_wg_free(r->a.wg);
  msock_wg_free(r->b.wg);
  ck_assert_uint_eq(n_blocks, 0);
  unwatch();
  free(r);
}
END_TEST

/* TSNODE_LONG=1 makes it the 10^7 packets of the specification. closes: PERF-01 */
START_TEST(packets_allocate_nothing) {
  const char *wanted = getenv("TSNODE_LONG");
  const size_t batches = (wanted != NULL && *wanted == '1' ? 10000000u : 200000u) / MSOCK_BATCH_MAX;
  rig *r = rig_connected(NULL);
  static uint8_t buf[MSOCK_BATCH_MAX][512];
  msock_packet p[MSOCK_BATCH_MAX];
  uint32_t ids[MSOCK_BATCH_MAX];
  msock_wg_result results[MSOCK_BATCH_MAX];
  size_t opened = 0;

  for (size_t i = 0; i < MSOCK_BATCH_MAX; i++) {
    rig_packet(buf[i] + MSOCK_PACKET_HEADROOM, 64, &r->a.ip, &r->b.ip, 1);
  }
  rig_allocations = 0;
  for (size_t round = 0; round < batches; round++) {
    for (size_t i = 0; i < MSOCK_BATCH_MAX; i++) {
      p[i] = (msock_packet){
          .buf = buf[i], .cap = sizeof buf[i], .off = MSOCK_PACKET_HEADROOM, .len = 64};
    }
    msock_wg_seal(r->a.wg, r->now, p, MSOCK_BATCH_MAX, ids);
    msock_wg_open(r->b.wg, r->now, r->wall, &r->a.source, p, MSOCK_BATCH_MAX, results);
    for (size_t i = 0; i < MSOCK_BATCH_MAX; i++) {
      /* in place: the plaintext is back where it was */
      opened += results[i].kind == MSOCK_WG_PLAIN && p[i].off == MSOCK_PACKET_HEADROOM;
    }
    r->now += MSOCK_MS / 4;
  }
  const size_t allocations = rig_allocations;
  ck_assert_uint_eq(opened, batches * MSOCK_BATCH_MAX);
  ck_assert_uint_eq(allocations, 0);
  rig_free(r);
}
END_TEST

/* 100 000 idle peers with an IPv4 and an IPv6 address each within 260 B (dataplane.md 9.4). */
START_TEST(idle_peers_are_small) {
  const uint32_t n = MSOCK_WG_PEERS_MAX;
  testing_rng rng;
  const msock_env env = testing_env(&rng, 1);
  msock_node_private key = {{1}};
  msock_wg_route *routes = calloc(2 * n, sizeof *routes);
  watch();
  msock_wg *wg = msock_wg_new(&env, &key, NULL);
  const size_t before = live_bytes;
  uint32_t id = 0;
  for (uint32_t i = 0; i < n; i++) {
    msock_node_key k = {{0}};
    env.random(env.ctx, k.b, sizeof k.b);
    ck_assert_int_eq(msock_wg_peer_add(wg, &k, NULL, &id), MSOCK_OK);
    ck_assert_uint_eq(id, i);
    routes[2 * i] = (msock_wg_route){
        {msock_ip_v4(100, (uint8_t)(64 + (i >> 16)), (uint8_t)(i >> 8), (uint8_t)i), 32}, i};
    const uint8_t v6[16] = {0xfd, 0x7a, [13] = (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
    routes[2 * i + 1] = (msock_wg_route){{msock_ip_from_bytes16(v6), 128}, i};
  }
  msock_node_key one_more = {{5}};
  ck_assert_int_eq(msock_wg_peer_add(wg, &one_more, NULL, &id), MSOCK_ERR_NOMEM);
  ck_assert_int_eq(msock_wg_set_allowed_ips(wg, routes, 2 * n), MSOCK_OK);
  printf("wg: %zu bytes for an idle peer\n", (live_bytes - before) / n);
  ck_assert_uint_le((live_bytes - before) / n, 260);
  ck_assert(msock_wg_lookup(wg, &routes[77777].prefix.ip, &id));
  ck_assert_uint_eq(id, 77777 / 2);
  unwatch();
  msock_wg_free(wg);
  free(routes);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, keys_are_gone_after_540_s);
  tcase_add_test(tc, handshake_is_gone_when_it_ends);
  tcase_add_test(tc, keys_are_gone_after_removal_and_after_free);
  tcase_add_test(tc, everything_is_given_back);
  tcase_add_test(tc, packets_allocate_nothing);
  tcase_add_test(tc, idle_peers_are_small);
  return testing_main("wg_memory", tc);
}
