/* The netmap against the engine: reconciled, atomic, and forgotten without a trace. The allocator
 * can be told to fail. */
#include <stdlib.h>
#include <string.h>

#include "disco/disco.h"
#include "tests/unit/engine_rig.h"

static uint64_t allocations_left = UINT64_MAX;
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static bool may_allocate(void) {
  if (allocations_left == 0) {
    return false;
  }
  allocations_left -= allocations_left != UINT64_MAX;
  return true;
}

void *__wrap_calloc(size_t n, size_t size) {
  return may_allocate() ? __real_calloc(n, size) : NULL;
}

void *__wrap_realloc(void *p, size_t size) {
  return may_allocate() ? __real_realloc(p, size) : NULL;
}

static const msock_engine_config plain = {0};

static msock_engine_peer peer_of(const rig *r, uint32_t i, const msock_addr *ep, size_t n) {
  return (msock_engine_peer){.node = r->node[i].node,
                             .disco = msock_engine_disco_key(r->node[i].e),
                             .home = RIG_REGION,
                             .endpoints = ep,
                             .n_endpoints = n};
}

static bool has(const rig *r, uint32_t id, const msock_addr *a) {
  msock_engine_candidate c[96];
  const size_t n = msock_engine_candidates(r->node[0].e, id, c, 96);
  for (size_t i = 0; i < n; i++) {
    if (msock_addr_equal(&c[i].addr, a)) {
      return true;
    }
  }
  return false;
}

/* closes: T49 */
START_TEST(control_replaces_what_control_said) {
  rig *r = rig_new(1, 2, &plain);
  const msock_addr gone = rig_addr("198.51.100.1:1"), stays = rig_addr("198.51.100.2:2");
  const msock_addr both[2] = {gone, stays};
  rig_socket(r, 0);
  rig_socket(r, 1);
  r->node[1].udp_cut = true;
  rig_run(r, 1 * MSOCK_SEC);
  rig_know(r, 0, 1, both, 2);
  rig_run(r, 10 * MSOCK_SEC);
  const uint32_t id = rig_id(r, 0, 1);
  rig_know(r, 0, 1, &stays, 1);
  ck_assert(!has(r, id, &gone) && has(r, id, &stays));
  const uint64_t t = r->now_us;
  rig_run(r, t + 60 * MSOCK_SEC);
  for (uint32_t i = 0; i < r->n_log; i++) {
    ck_assert(r->log[i].at_us <= t || r->log[i].out.kind != MSOCK_ENGINE_SEND_UDP ||
              !msock_addr_equal(&r->log[i].out.addr, &gone));
  }
  rig_free(r);

  r = rig_new(1, 2, &plain); /* the best one is taken back; one that a ping taught stays */
  const msock_addr b = {.ip = r->node[1].outside, .port = RIG_PORT};
  rig_socket(r, 0);
  rig_socket(r, 1);
  rig_run(r, 1 * MSOCK_SEC);
  rig_know(r, 1, 0, NULL, 0);
  rig_know(r, 0, 1, &b, 1);
  rig_run(r, 1 * MSOCK_SEC + 40 * MSOCK_MS); /* our ping's pong; b's own ping came by then too */
  ck_assert(rig_direct(r, 0, 1));
  rig_know(r, 0, 1, NULL, 0);
  ck_assert(rig_direct(r, 0, 1) == has(r, rig_id(r, 0, 1), &b));
  const msock_engine_peer others = peer_of(r, 1, NULL, 0);
  msock_engine_peer stranger = others;
  stranger.node.b[0] ^= 1;
  stranger.disco = (msock_disco_key){0};
  ck_assert_int_eq(msock_engine_netmap(r->node[0].e, r->now_us, &stranger, 1), MSOCK_OK);
  ck_assert_uint_eq(rig_id(r, 0, 1), MSOCK_ENGINE_PEER_NONE);
  ck_assert_uint_eq(msock_engine_source_count(r->node[0].e), 0);
  rig_free(r);
}
END_TEST

/* closes: T50 T24 */
START_TEST(a_thousand_come_and_go) {
  rig *r = rig_new(1, 1, &plain);
  msock_engine *e = r->node[0].e;
  msock_engine_peer *peers = calloc(1000, sizeof *peers);
  msock_addr *ep = calloc(1000, sizeof *ep);
  testing_rng rng;
  const msock_env env = testing_env(&rng, 9);
  uint32_t ids[4];

  rig_socket(r, 0);
  r->log_off = true;
  for (uint32_t i = 0; i < 1000; i++) {
    env.random(env.ctx, peers[i].node.b, sizeof peers[i].node.b);
    env.random(env.ctx, peers[i].disco.b, sizeof peers[i].disco.b);
    ep[i] = (msock_addr){.ip = msock_ip_v4(198, 51, (uint8_t)(i / 200), (uint8_t)(i % 200 + 1)),
                         .port = 1};
    peers[i].endpoints = &ep[i];
    peers[i].n_endpoints = 1;
  }
  ck_assert_int_eq(msock_engine_netmap(e, 1, peers, 1000), MSOCK_OK);
  ck_assert_uint_eq(msock_engine_peer_count(e), 1000);
  ck_assert_uint_eq(msock_engine_source_count(e), 1000);
  for (uint32_t i = 0; i < 1000; i++) { /* both ways, on the same table */
    msock_node_key node;
    msock_disco_key disco;
    ck_assert_uint_eq(msock_engine_peers_of_disco(e, &peers[i].disco, ids, 4), 1);
    ck_assert_uint_eq(msock_engine_peer_find(e, &peers[i].node), ids[0]);
    ck_assert(msock_engine_peer_keys(e, ids[0], &node, &disco));
    ck_assert(msock_node_key_equal(&node, &peers[i].node));
    ck_assert(msock_disco_key_equal(&disco, &peers[i].disco));
  }
  const msock_disco_key missing = {.b = {1, 2, 3}};
  ck_assert_uint_eq(msock_engine_peers_of_disco(e, &missing, ids, 4), 0);
  rig_poll(r, 0);
  for (uint32_t i = 0; i < 1000; i++) { /* one by one, in another order */
    msock_engine_peer_remove(e, msock_engine_peer_find(e, &peers[(i * 7) % 1000].node));
  }
  ck_assert_uint_eq(msock_engine_peer_count(e), 0);
  ck_assert_uint_eq(msock_engine_source_count(e), 0);
  rig_run(r, 60 * MSOCK_SEC);
  free(peers);
  free(ep);
  rig_free(r);
}
END_TEST

/* closes: PATH-45 PATH-47 T23 */
START_TEST(an_update_that_fails_changes_nothing) {
  rig *r = rig_new(1, 2, &plain);
  const msock_addr old = {.ip = r->node[1].outside, .port = RIG_PORT};
  msock_addr ep[20];
  for (uint16_t i = 0; i < 20; i++) {
    ep[i] = (msock_addr){.ip = msock_ip_v4(198, 51, 100, 1), .port = (uint16_t)(i + 1)};
  }
  rig_socket(r, 0);
  rig_socket(r, 1);
  rig_run(r, 1 * MSOCK_SEC);
  rig_meet(r);
  rig_run(r, 3 * MSOCK_SEC);
  msock_engine_peer next[2] = {peer_of(r, 1, ep, 20), peer_of(r, 1, ep, 20)};
  next[1].node.b[0] ^= 1;
  next[1].disco.b[0] ^= 1;
  uint64_t failures = 0;
  for (uint64_t allowed = 0;; allowed++) {
    allocations_left = allowed;
    const msock_err err = msock_engine_netmap(r->node[0].e, r->now_us, next, 2);
    allocations_left = UINT64_MAX;
    if (err == MSOCK_OK) {
      break;
    }
    failures++;
    ck_assert_int_eq(err, MSOCK_ERR_NOMEM);
    ck_assert_uint_eq(msock_engine_peer_count(r->node[0].e), 1);
    ck_assert(has(r, rig_id(r, 0, 1), &old) && !has(r, rig_id(r, 0, 1), &ep[0]));
    rig_data(r, 0, 1); /* and the old snapshot goes on working */
    rig_run(r, r->now_us + 1 * MSOCK_SEC);
    ck_assert(rig_direct(r, 0, 1));
  }
  ck_assert_uint_ge(failures, 3);
  ck_assert_uint_eq(msock_engine_counters_get(r->node[0].e).netmap_failed, failures);
  ck_assert_uint_eq(msock_engine_peer_count(r->node[0].e), 2);
  ck_assert(has(r, rig_id(r, 0, 1), &ep[0]));
  rig_free(r);
}
END_TEST

/* closes: PATH-42 */
START_TEST(mapped_sources_are_the_ipv4_candidates) {
  rig *r = rig_new(1, 2, &(msock_engine_config){.ipv6 = true});
  const msock_addr v4 = rig_addr("198.51.100.5:1000");
  const uint8_t bytes[16] = {[10] = 0xff, [11] = 0xff, [12] = 198, [13] = 51, [14] = 100, [15] = 5};
  const msock_addr mapped = {.ip = msock_ip_from_bytes16(bytes), .port = 1000};
  const msock_addr both[2] = {v4, mapped};
  msock_engine_candidate c[4];
  rig_socket(r, 0);
  rig_know(r, 0, 1, both, 2);
  ck_assert_uint_eq(msock_engine_candidates(r->node[0].e, rig_id(r, 0, 1), c, 4), 1);
  ck_assert(msock_addr_equal(&c[0].addr, &v4));
  ck_assert_uint_eq(msock_engine_peer_of_source(r->node[0].e, &mapped), rig_id(r, 0, 1));
  rig_free(r);
}
END_TEST

START_TEST(an_address_of_two_peers_belongs_to_who_proved_it) {
  rig *r = rig_new(1, 3, &plain);
  const msock_addr a = {.ip = r->node[1].outside, .port = RIG_PORT};
  for (uint32_t i = 0; i < 3; i++) {
    rig_socket(r, i);
  }
  rig_run(r, 1 * MSOCK_SEC);
  rig_know(r, 0, 1, &a, 1);
  ck_assert_uint_eq(msock_engine_peer_of_source(r->node[0].e, &a), rig_id(r, 0, 1));
  rig_know(r, 0, 2, &a, 1);
  ck_assert_uint_eq(msock_engine_peer_of_source(r->node[0].e, &a), MSOCK_ENGINE_PEER_NONE);
  rig_know(r, 1, 0, NULL, 0);
  rig_run(r, 2 * MSOCK_SEC);
  ck_assert_uint_eq(msock_engine_peer_of_source(r->node[0].e, &a), rig_id(r, 0, 1));
  rig_free(r);
}
END_TEST

START_TEST(a_ping_for_the_user) {
  rig *r = rig_new(1, 2, &plain);
  rig_socket(r, 0);
  rig_socket(r, 1);
  rig_run(r, 1 * MSOCK_SEC);
  msock_engine *e = r->node[0].e;
  ck_assert_int_eq(msock_engine_ping(e, r->now_us, 77, 1), MSOCK_ERR_UNKNOWN);
  rig_know(r, 0, 1, NULL, 0);
  rig_know(r, 1, 0, NULL, 0);
  r->node[1].udp_cut = true;
  const uint64_t t = r->now_us;
  const uint32_t id = rig_id(r, 0, 1);
  ck_assert_int_eq(msock_engine_ping(e, t, id, 1234), MSOCK_OK); /* no address: by the relay */
  rig_poll(r, 0);
  rig_run(r, t + 2 * r->derp_us);
  const rig_entry *x = rig_find(r, 0, MSOCK_ENGINE_PING_RESULT, 0, t, 0);
  ck_assert_ptr_nonnull(x);
  ck_assert(x->out.tag == 1234 && x->out.via == MSOCK_VIA_DERP && x->out.region == RIG_REGION);
  ck_assert_uint_eq(x->out.rtt_us, 2 * r->derp_us);
  r->node[1].udp_cut = false;
  rig_meet(r);
  rig_run(r, t + 5 * MSOCK_SEC);
  ck_assert(rig_direct(r, 0, 1));
  const uint64_t u = r->now_us;
  ck_assert_int_eq(msock_engine_ping(e, u, id, 5), MSOCK_OK);
  rig_poll(r, 0);
  rig_run(r, u + 2 * r->one_way_us);
  x = rig_find(r, 0, MSOCK_ENGINE_PING_RESULT, 0, u, 0);
  ck_assert_ptr_nonnull(x);
  ck_assert(x->out.via == MSOCK_VIA_DIRECT && x->out.rtt_us == 2 * r->one_way_us);
  r->node[1].udp_cut = true;
  const uint64_t v = r->now_us;
  ck_assert_int_eq(msock_engine_ping(e, v, id, 6), MSOCK_OK);
  rig_poll(r, 0);
  rig_run(r, v + 5 * MSOCK_SEC - 1);
  ck_assert_ptr_null(rig_find(r, 0, MSOCK_ENGINE_PING_RESULT, 0, v + 1, 0));
  rig_run(r, v + 5 * MSOCK_SEC);
  x = rig_find(r, 0, MSOCK_ENGINE_PING_RESULT, 0, v + 1, 0);
  ck_assert(x != NULL && x->out.timed_out && x->out.tag == 6);
  rig_free(r);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, control_replaces_what_control_said);
  tcase_add_test(tc, a_thousand_come_and_go);
  tcase_add_test(tc, an_update_that_fails_changes_nothing);
  tcase_add_test(tc, mapped_sources_are_the_ipv4_candidates);
  tcase_add_test(tc, an_address_of_two_peers_belongs_to_who_proved_it);
  tcase_add_test(tc, a_ping_for_the_user);
  return testing_main("engine_netmap", tc);
}
