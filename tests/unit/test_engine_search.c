/* The search for a direct path between two engines: how soon it ends, behind which NATs, what is
 * sent meanwhile and what is not. */
#include <stdlib.h>
#include <string.h>

#include "disco/disco.h"
#include "tests/unit/engine_rig.h"

static const msock_engine_config plain = {0};

/* Two nodes with STUN results and published addresses that know each other, at rest. */
static rig *pair_with(uint64_t seed, rig_nat a, rig_nat b, const msock_engine_config *cfg) {
  rig *r = rig_new(seed, 2, cfg);
  r->node[0].nat = a;
  r->node[1].nat = b;
  rig_socket(r, 0);
  rig_socket(r, 1);
  rig_run(r, 1 * MSOCK_SEC);
  return r;
}

static rig *pair(rig_nat a, rig_nat b) {
  return pair_with(1, a, b, &plain);
}

/* closes: PATH-11 PATH-12 */
START_TEST(first_packet_pings_at_once_and_again_after_100_ms) {
  rig *r = pair(RIG_PUBLIC, RIG_PUBLIC);
  const msock_addr nowhere = rig_addr("198.51.100.9:1000");
  rig_know(r, 0, 1, &nowhere, 1);
  rig_run(r, 100 * MSOCK_SEC); /* long after its own burst */
  rig_run(r, r->now_us + 5 * MSOCK_SEC + 700 * MSOCK_MS);
  const uint64_t t = r->now_us;
  rig_data(r, 0, 1);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, t, t), 1);
  rig_run(r, t + 100 * MSOCK_MS - 1);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, t, r->now_us), 1);
  rig_run(r, t + 100 * MSOCK_MS);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, t, r->now_us), 2);
  static const uint64_t steps_ms[] = {300, 700, 1500, 3000};
  for (uint32_t i = 0; i < 4; i++) {
    const rig_entry *x = rig_find(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, t, 2 + i);
    rig_run(r, t + steps_ms[i] * MSOCK_MS);
    x = rig_find(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, t, 2 + i);
    ck_assert_ptr_nonnull(x);
    ck_assert_uint_eq(x->at_us, t + steps_ms[i] * MSOCK_MS);
  }
  rig_free(r);
}
END_TEST

/* closes: PATH-08 */
START_TEST(outside_bursts_a_candidate_is_pinged_every_5_s_at_most) {
  rig *r = pair(RIG_PUBLIC, RIG_PUBLIC);
  const msock_addr nowhere = rig_addr("198.51.100.9:1000");
  rig_know(r, 0, 1, &nowhere, 1);
  rig_run(r, 10 * MSOCK_SEC); /* the burst of the new peer is over */
  rig_run(r, 310 * MSOCK_SEC);
  uint64_t last = 0;
  uint32_t n = 0;
  for (;; n++) {
    const rig_entry *x = rig_find(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, 10 * MSOCK_SEC, n);
    if (x == NULL) {
      break;
    }
    ck_assert(n == 0 || x->at_us - last >= 5 * MSOCK_SEC);
    last = x->at_us;
  }
  ck_assert_uint_ge(n, 300 / 7); /* and it does go on: floor 5 s on a 2 s tick */
  rig_free(r);
}
END_TEST

/* closes: PATH-36 */
START_TEST(restricted_nats_meet_within_relay_and_three_round_trips) {
  rig *r = pair_with((uint64_t)_i + 1, RIG_RESTRICTED, RIG_RESTRICTED, &plain);
  const uint64_t t = r->now_us;
  rig_meet(r);
  rig_data(r, 0, 1);
  rig_run(r, t + 5 * MSOCK_SEC);
  const uint64_t limit = t + r->derp_us + 3 * 2 * r->one_way_us + 50 * MSOCK_MS;
  ck_assert_uint_le(rig_direct_at(r, 0, t), limit);
  ck_assert_uint_le(rig_direct_at(r, 1, t), limit);
  rig_free(r);
}
END_TEST

/* Only one of the two has something to say, and neither knew an address of the other. */
START_TEST(call_me_maybe_alone_is_enough) {
  rig *r = pair(RIG_RESTRICTED, RIG_RESTRICTED);
  rig_know(r, 0, 1, NULL, 0);
  rig_know(r, 1, 0, NULL, 0);
  const uint64_t t = 120 * MSOCK_SEC + 300 * MSOCK_MS;
  rig_run(r, t);
  ck_assert(rig_direct(r, 0, 1));
  ck_assert(rig_direct(r, 1, 0));
  rig_free(r);
}
END_TEST

/* Both call before either has pinged: what the calls make the other side send meets closed NATs.
 * tailscaled sends it once and then rests for 5 s, so the call is repeated once ours is open. */
START_TEST(a_call_that_left_before_our_first_ping_is_repeated_once) {
  rig *r = pair(RIG_RESTRICTED, RIG_RESTRICTED);
  const uint64_t t = r->now_us;
  rig_know(r, 0, 1, NULL, 0);
  rig_know(r, 1, 0, NULL, 0);
  rig_run(r, t + r->derp_us - 1);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_DERP, 0, t, r->now_us), 1);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, t, r->now_us), 0);
  rig_run(r, t + r->derp_us);
  const rig_entry *ping = rig_find(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, t, 0);
  const rig_entry *call = rig_find(r, 0, MSOCK_ENGINE_SEND_DERP, 0, t, 1);
  ck_assert_ptr_nonnull(ping);
  ck_assert_ptr_nonnull(call);
  ck_assert_uint_eq(call->at_us, t + r->derp_us);
  ck_assert(ping < call); /* the log is in order */
  rig_run(r, t + 900 * MSOCK_MS);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_DERP, 0, t, r->now_us), 2);
  rig_free(r);
}
END_TEST

static const struct {
  rig_nat a, b;
  bool direct;
} matrix[] = {
    {RIG_PUBLIC, RIG_PUBLIC, true},         {RIG_PUBLIC, RIG_CONE, true},
    {RIG_PUBLIC, RIG_RESTRICTED, true},     {RIG_PUBLIC, RIG_SYMMETRIC, true},
    {RIG_PUBLIC, RIG_BLOCKED, false},       {RIG_CONE, RIG_CONE, true},
    {RIG_CONE, RIG_RESTRICTED, true},       {RIG_CONE, RIG_SYMMETRIC, true},
    {RIG_RESTRICTED, RIG_RESTRICTED, true}, {RIG_RESTRICTED, RIG_SYMMETRIC, false},
    {RIG_SYMMETRIC, RIG_SYMMETRIC, false},  {RIG_RESTRICTED, RIG_BLOCKED, false},
    {RIG_BLOCKED, RIG_BLOCKED, false},
};

/* closes: T14 PATH-01 PRIV-05 */
START_TEST(nat_matrix_in_both_roles_never_sends_data_to_the_unconfirmed) {
  for (int role = 0; role < 2; role++) {
    rig *r = pair(role == 0 ? matrix[_i].a : matrix[_i].b, role == 0 ? matrix[_i].b : matrix[_i].a);
    rig_meet(r);
    uint64_t pong_us = MSOCK_NEVER;
    for (uint32_t k = 0; k < 400; k++) { /* route says direct only from the first pong on */
      rig_data(r, 0, 1);
      if (pong_us == MSOCK_NEVER && msock_engine_counters_get(r->node[0].e).rx_pong > 0) {
        pong_us = r->now_us;
      }
      ck_assert(!rig_direct(r, 0, 1) || pong_us != MSOCK_NEVER);
      rig_run(r, r->now_us + 20 * MSOCK_MS);
    }
    ck_assert_int_eq(rig_direct(r, 0, 1), matrix[_i].direct);
    /* All 400 packets have arrived, whichever way. */
    rig_run(r, r->now_us + 100 * MSOCK_MS);
    ck_assert_uint_eq(r->node[1].data_got_udp + r->node[1].data_got_derp, 400);
    ck_assert(matrix[_i].direct || r->node[1].data_got_udp == 0);
    rig_free(r);
  }
}
END_TEST

/* closes: PATH-13 */
START_TEST(a_ping_is_answered_by_a_ping_of_ours_in_the_same_event) {
  rig *r = pair(RIG_PUBLIC, RIG_PUBLIC);
  const msock_addr b = {.ip = r->node[1].outside, .port = RIG_PORT};
  rig_know(r, 1, 0, NULL, 0);
  rig_know(r, 0, 1, NULL, 0); /* a knows no address of b */
  rig_run(r, 1 * MSOCK_SEC + 1);
  r->one_way_us = 0;
  const uint64_t t = r->now_us;
  const msock_addr a = {.ip = r->node[0].outside, .port = RIG_PORT};
  rig_know(r, 1, 0, &a, 1); /* its burst starts here, and arrives at once */
  rig_run(r, t);
  const rig_entry *back = rig_find(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, t, 0);
  ck_assert_ptr_nonnull(back);
  ck_assert_uint_eq(back->at_us, t);
  ck_assert(msock_addr_equal(&back->out.addr, &b));
  ck_assert(rig_direct(r, 0, 1));
  rig_free(r);
}
END_TEST

/* closes: T32 */
START_TEST(without_stun_two_peers_tell_who_we_are) {
  rig *r = rig_new(3, 3, &plain);
  msock_endpoint ep[MSOCK_ENGINE_SELF_MAX];
  r->node[0].nat = RIG_RESTRICTED;
  r->node[0].stun_silent = true;
  for (uint32_t i = 0; i < 3; i++) {
    rig_socket(r, i);
  }
  rig_run(r, 1 * MSOCK_SEC);
  ck_assert_uint_eq(msock_engine_self_endpoints(r->node[0].e, ep), 1); /* its private one */
  rig_meet(r);
  rig_run(r, 4 * MSOCK_SEC);
  const size_t n = msock_engine_self_endpoints(r->node[0].e, ep);
  ck_assert_uint_eq(n, 2);
  ck_assert(msock_ip_equal(&ep[1].addr.ip, &r->node[0].outside));
  ck_assert_int_eq(ep[1].type, MSOCK_ENDPOINT_STUN);
  rig_free(r);
}
END_TEST

/* closes: PATH-44 */
START_TEST(same_inputs_same_outputs) {
  rig *r[2];
  for (int k = 0; k < 2; k++) {
    r[k] = pair_with(77, RIG_RESTRICTED, RIG_CONE, &plain);
    r[k]->loss_permille = 200;
    rig_meet(r[k]);
    rig_traffic(r[k], 0, 1, 50 * MSOCK_MS, true, 40 * MSOCK_SEC);
  }
  ck_assert_uint_eq(r[0]->n_log, r[1]->n_log);
  ck_assert_uint_gt(r[0]->n_log, 100);
  for (uint32_t i = 0; i < r[0]->n_log; i++) {
    const rig_entry *a = &r[0]->log[i], *b = &r[1]->log[i];
    ck_assert(a->at_us == b->at_us && a->node == b->node && a->out.kind == b->out.kind &&
              a->len == b->len && msock_addr_equal(&a->out.addr, &b->out.addr));
  }
  rig_free(r[0]);
  rig_free(r[1]);
}
END_TEST

/* closes: PATH-38 */
START_TEST(a_thousand_idle_peers_cost_200_pings_a_second_at_most) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, 5);
  msock_disco_private secret;
  env.random(env.ctx, secret.b, sizeof secret.b);
  msock_engine_config cfg = plain;
  env.random(env.ctx, cfg.self.b, sizeof cfg.self.b);
  msock_engine *e = msock_engine_new(&cfg, &env, &secret, 0);
  msock_engine_peer *peers = calloc(1000, sizeof *peers);
  const msock_addr ep[3] = {rig_addr("198.51.100.9:1000"), rig_addr("198.51.100.9:1001"),
                            rig_addr("198.51.100.10:1002")};
  uint8_t buf[MSOCK_ENGINE_PACKET_MAX];
  msock_engine_output out;
  size_t len;
  uint32_t pings[61] = {0}, total = 0;

  ck_assert_ptr_nonnull(peers);
  msock_engine_on_socket(e, 0, RIG_PORT);
  for (uint32_t i = 0; i < 1000; i++) {
    msock_disco_private theirs;
    env.random(env.ctx, theirs.b, sizeof theirs.b);
    env.random(env.ctx, peers[i].node.b, sizeof peers[i].node.b);
    peers[i].disco = msock_disco_identity_of(&theirs).key;
    peers[i].home = RIG_REGION;
    peers[i].endpoints = ep;
    peers[i].n_endpoints = 3;
  }
  ck_assert_int_eq(msock_engine_netmap(e, 0, peers, 1000), MSOCK_OK);
  for (uint64_t now = 0; now < 60 * MSOCK_SEC; now = msock_engine_next_expiry(e)) {
    msock_engine_on_expiry(e, now);
    while (msock_engine_next_output(e, now, &out, buf, sizeof buf, &len) > 0) {
      pings[now / MSOCK_SEC] += out.kind == MSOCK_ENGINE_SEND_UDP;
      total += out.kind == MSOCK_ENGINE_SEND_UDP;
    }
  }
  for (uint32_t s = 0; s < 60; s++) { /* a tick each 2 s: a burst of 200 may fall into one second */
    ck_assert_uint_le(pings[s] + pings[s + 1], 400);
  }
  ck_assert_uint_ge(total, 3000); /* and each was pinged at each address once in 25 s +- 20 % */
  ck_assert_uint_le(total, 60 * 200);
  free(peers);
  msock_engine_free(e);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, first_packet_pings_at_once_and_again_after_100_ms);
  tcase_add_test(tc, outside_bursts_a_candidate_is_pinged_every_5_s_at_most);
  tcase_add_loop_test(tc, restricted_nats_meet_within_relay_and_three_round_trips, 0, 20);
  tcase_add_test(tc, call_me_maybe_alone_is_enough);
  tcase_add_test(tc, a_call_that_left_before_our_first_ping_is_repeated_once);
  tcase_add_loop_test(tc, nat_matrix_in_both_roles_never_sends_data_to_the_unconfirmed, 0,
                      (int)(sizeof matrix / sizeof matrix[0]));
  tcase_add_test(tc, a_ping_is_answered_by_a_ping_of_ours_in_the_same_event);
  tcase_add_test(tc, without_stun_two_peers_tell_who_we_are);
  tcase_add_test(tc, same_inputs_same_outputs);
  tcase_add_test(tc, a_thousand_idle_peers_cost_200_pings_a_second_at_most);
  return testing_main("engine_search", tc);
}
