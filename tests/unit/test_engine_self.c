/* Our own addresses, what control is told of them, and call-me-maybe. */
#include <string.h>

#include "disco/disco.h"
#include "magicsock/self.h"
#include "tests/unit/engine_rig.h"

static const msock_engine_config plain = {0};
static const msock_engine_config strict = {.lan_off = true};

/* Node 0 behind a NAT that hides it, node 1 without UDP: they never get direct. */
static rig *relayed_pair(const msock_engine_config *cfg) {
  rig *r = rig_new(1, 2, cfg);
  r->node[0].nat = RIG_RESTRICTED;
  r->node[1].nat = RIG_BLOCKED;
  rig_socket(r, 0);
  rig_socket(r, 1);
  return r;
}

static size_t cmm_len(size_t n) {
  return 80 + 18 * n;
}

/* closes: T39 PATH-15 */
START_TEST(call_me_maybe_every_5_s_with_traffic_and_less_without) {
  for (int traffic = 0; traffic <= 1; traffic++) {
    rig *r = relayed_pair(&plain);
    rig_run(r, 1 * MSOCK_SEC);
    rig_meet(r);
    const uint64_t t = r->now_us, until = t + (traffic ? 600 : 60) * MSOCK_SEC;
    if (traffic) {
      rig_traffic(r, 0, 1, 1 * MSOCK_SEC, false, until);
    }
    rig_run(r, until - 1);
    uint64_t last = 0;
    uint32_t n = 0;
    for (const rig_entry *x; (x = rig_find(r, 0, MSOCK_ENGINE_SEND_DERP, 0, t, n)) != NULL; n++) {
      if (n > (uint32_t)traffic) { /* with traffic the first packet calls as well */
        ck_assert_uint_ge(x->at_us - last, 4500 * MSOCK_MS);
        ck_assert_uint_le(x->at_us - last, 5500 * MSOCK_MS);
      }
      last = x->at_us;
    }
    ck_assert_uint_ge(n, traffic ? 115 : 11);
    if (!traffic) { /* 10, 20, 40, 60, 60 s, each +- 10 % */
      static const uint64_t gaps[] = {10, 20, 40, 60, 60};
      rig_run(r, until + 300 * MSOCK_SEC);
      const rig_entry *a = rig_find(r, 0, MSOCK_ENGINE_SEND_DERP, 0, until - 1 * MSOCK_MS, 0);
      for (uint32_t k = 0; k < 5; k++) {
        const rig_entry *b = rig_find(r, 0, MSOCK_ENGINE_SEND_DERP, 0, a->at_us + 1, 0);
        ck_assert_ptr_nonnull(b);
        ck_assert_uint_ge(b->at_us - a->at_us, gaps[k] * 900 * MSOCK_MS);
        ck_assert_uint_le(b->at_us - a->at_us, gaps[k] * 1100 * MSOCK_MS + 400 * MSOCK_MS);
        a = b;
      }
    }
    rig_free(r);
  }
}
END_TEST

/* closes: T40 PATH-15 NC-24 (call-me-maybe) */
START_TEST(no_call_without_an_address_seen_from_outside) {
  rig *r = relayed_pair(&plain);
  r->node[0].stun_silent = true;
  r->n_flight = 0; /* the answers under way are lost */
  rig_run(r, 1 * MSOCK_SEC);
  rig_meet(r);
  rig_traffic(r, 0, 1, 1 * MSOCK_SEC, false, 61 * MSOCK_SEC);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_DERP, 0, 0, r->now_us), 0);
  ck_assert_uint_gt(msock_engine_counters_get(r->node[0].e).tx_cmm_no_reflexive, 0);
  /* The first answer releases one to the active peer at once. */
  const msock_addr server = rig_addr("192.0.2.10:3478"), seen = rig_addr("203.0.113.1:7777");
  msock_engine_on_reflexive(r->node[0].e, r->now_us, &server, &seen);
  rig_poll(r, 0);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_DERP, 0, r->now_us, r->now_us), 1);
  rig_free(r);
}
END_TEST

/* closes: T41 T42 T46 */
START_TEST(calls_go_by_relay_to_who_has_a_key_and_end_with_a_path) {
  rig *r = rig_new(1, 2, &plain);
  rig_socket(r, 0);
  rig_socket(r, 1);
  rig_run(r, 1 * MSOCK_SEC);
  const msock_engine_peer keyless = {.node = r->node[1].node, .home = RIG_REGION};
  ck_assert_int_eq(msock_engine_peer_put(r->node[0].e, r->now_us, &keyless, NULL), MSOCK_OK);
  rig_traffic(r, 0, 1, 1 * MSOCK_SEC, false, 20 * MSOCK_SEC);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_DERP, 0, 0, r->now_us), 0);
  rig_meet(r);
  rig_run(r, 21 * MSOCK_SEC);
  ck_assert(rig_direct(r, 0, 1));
  const uint64_t t = r->now_us;
  rig_traffic(r, 0, 1, 1 * MSOCK_SEC, true, t + 60 * MSOCK_SEC);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_DERP, 0, t, r->now_us), 0);
  for (uint32_t i = 0; i < r->n_log; i++) { /* by UDP: pings and pongs, nothing else */
    ck_assert(r->log[i].out.kind != MSOCK_ENGINE_SEND_UDP || r->log[i].len == RIG_PING_LEN ||
              r->log[i].len == RIG_PONG_LEN);
  }
  rig_free(r);
}
END_TEST

/* closes: T43 T44 PATH-17 */
START_TEST(region_of_a_call) {
  static const struct {
    msock_region_id peer_home, heard, own_home, want;
  } cases[] = {{3, 4, 5, 3}, {0, 4, 5, 4}, {0, 0, 5, 5}, {0, 0, 0, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    rig *r = relayed_pair(&plain);
    const msock_engine_peer p = {.node = r->node[1].node,
                                 .disco = msock_engine_disco_key(r->node[1].e),
                                 .home = cases[i].peer_home};
    msock_engine *e = r->node[0].e;
    rig_run(r, 1 * MSOCK_SEC);
    msock_engine_set_home(e, cases[i].own_home);
    uint32_t id;
    ck_assert_int_eq(msock_engine_peer_put(e, r->now_us, &p, &id), MSOCK_OK);
    rig_poll(r, 0);
    if (cases[i].heard != 0) {
      msock_engine_on_data_received(e, r->now_us, id, NULL, cases[i].heard);
    }
    while (rig_count(r, 0, MSOCK_ENGINE_SEND_DERP, 0, 0, MSOCK_NEVER) < 2 &&
           r->now_us < 20 * MSOCK_SEC) {
      rig_run(r, r->now_us + 1 * MSOCK_SEC);
    }
    const rig_entry *x = rig_find(r, 0, MSOCK_ENGINE_SEND_DERP, 0, 1 * MSOCK_SEC + 1, 0);
    if (cases[i].want == 0) { /* the round is skipped, no harm done */
      ck_assert_ptr_null(x);
      ck_assert_uint_gt(msock_engine_counters_get(e).tx_cmm_no_region, 0);
    } else {
      ck_assert_ptr_nonnull(x);
      ck_assert_uint_eq(x->out.region, cases[i].want);
    }
    rig_free(r);
  }
}
END_TEST

/* closes: T45 PATH-16 PRIV-14 */
START_TEST(a_call_lists_what_control_was_told) {
  rig *r = relayed_pair(&plain);
  rig_run(r, 1 * MSOCK_SEC);
  rig_meet(r);
  const msock_addr server = rig_addr("192.0.2.10:3478"), moved = rig_addr("203.0.113.200:5");
  rig_run(r, 2 * MSOCK_SEC);
  /* The NAT has a new address: published in the same event, before the call. */
  msock_engine_on_reflexive(r->node[0].e, r->now_us, &server, &moved);
  msock_engine_output out;
  uint8_t buf[MSOCK_ENGINE_PACKET_MAX], msg[MSOCK_ENGINE_PACKET_MAX];
  size_t len;
  ck_assert_int_eq(msock_engine_next_output(r->node[0].e, r->now_us, &out, buf, sizeof buf, &len),
                   1);
  ck_assert_int_eq(out.kind, MSOCK_ENGINE_PUBLISH);
  const msock_engine_output told = out;
  do {
    ck_assert_int_eq(msock_engine_next_output(r->node[0].e, r->now_us, &out, buf, sizeof buf, &len),
                     1);
  } while (out.kind != MSOCK_ENGINE_SEND_DERP);
  /* Opened with the peer's key. */
  const msock_disco_identity me = msock_disco_identity_of(&r->node[1].disco);
  const msock_disco_key from = msock_engine_disco_key(r->node[0].e);
  msock_disco_shared shared;
  msock_disco_call_me_maybe call;
  ck_assert_int_eq(msock_disco_shared_init(&shared, &me, &from), MSOCK_OK);
  const ptrdiff_t n = msock_disco_open(&shared, buf, len, msg, sizeof msg);
  ck_assert_int_gt(n, 0);
  ck_assert_int_eq(msock_disco_decode_call_me_maybe(msg, (size_t)n, &call), MSOCK_OK);
  ck_assert_uint_eq(call.n, told.n_endpoints);
  ck_assert_uint_eq(len, cmm_len(call.n));
  bool listed = false;
  for (uint8_t i = 0; i < call.n; i++) {
    ck_assert(msock_addr_equal(&call.endpoints[i], &told.endpoints[i].addr));
    listed = listed || msock_addr_equal(&call.endpoints[i], &moved);
  }
  ck_assert(listed);
  rig_free(r);
}
END_TEST

/* closes: PATH-18 */
START_TEST(old_addresses_are_refreshed_before_a_call) {
  for (int silent = 0; silent <= 1; silent++) {
    rig *r = relayed_pair(&plain);
    rig_run(r, 1 * MSOCK_SEC); /* STUN was at 0, answered at 20 ms */
    const uint64_t t = 27 * MSOCK_SEC + 20 * MSOCK_MS + 1;
    rig_run(r, t);
    r->node[0].stun_silent = silent;
    rig_know(r, 0, 1, NULL, 0);
    rig_data(r, 0, 1);
    ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_WANT_STUN, 0, t, t), 1);
    ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_DERP, 0, t, t), 0);
    const uint64_t release = t + (silent ? MSOCK_ENGINE_CMM_WAIT_US : r->stun_us);
    rig_run(r, release - 1);
    ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_DERP, 0, t, r->now_us), 0);
    rig_run(r, release);
    ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_DERP, 0, t, r->now_us), 1);
    rig_free(r);
  }
}
END_TEST

/* closes: PATH-24 T36 T38 PATH-27 */
START_TEST(published_on_change_sorted_and_soon) {
  rig *r = relayed_pair(&plain);
  msock_endpoint ep[3] = {{rig_addr("10.0.0.9:41641"), MSOCK_ENDPOINT_LOCAL},
                          {rig_addr("10.0.0.2:41641"), MSOCK_ENDPOINT_LOCAL},
                          {rig_addr("198.51.100.200:41641"), MSOCK_ENDPOINT_EXPLICIT}};
  rig_run(r, 10 * MSOCK_SEC);
  r->n_log = 0;
  const uint64_t t = r->now_us;
  msock_engine_set_local(r->node[0].e, t, ep, 3);
  rig_run(r, t + 5 * MSOCK_SEC);
  const rig_entry *x = rig_find(r, 0, MSOCK_ENGINE_PUBLISH, 0, t, 0);
  ck_assert_ptr_nonnull(x);
  ck_assert_uint_eq(x->out.n_endpoints, 4);
  for (size_t i = 1; i < 4; i++) {
    const msock_endpoint *a = &x->out.endpoints[i - 1], *b = &x->out.endpoints[i];
    ck_assert_int_lt(msock_ip_compare(&a->addr.ip, &b->addr.ip), 0);
  }
  for (size_t i = 0; i < 4; i++) { /* ports of the one socket, inside or outside */
    const msock_addr *a = &x->out.endpoints[i].addr;
    ck_assert(a->port == RIG_PORT || a->port == r->node[0].mappings[0].port);
  }
  /* The same set in another order, for a minute: nothing more. */
  const msock_endpoint swapped[3] = {ep[2], ep[1], ep[0]};
  msock_engine_set_local(r->node[0].e, r->now_us, swapped, 3);
  rig_run(r, t + 65 * MSOCK_SEC);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_PUBLISH, 0, t, r->now_us), 1);
  /* A new list of servers is asked at once, not at the next round. */
  const uint64_t u = r->now_us;
  msock_engine_on_stun_servers(r->node[0].e, u);
  rig_poll(r, 0);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_WANT_STUN, 0, u, u), 1);
  rig_free(r);
}
END_TEST

/* The cadence of PATH-25; servers and requests are netcheck's. */
START_TEST(stun_at_start_and_every_30_s) {
  rig *r = relayed_pair(&plain);
  rig_run(r, 100 * MSOCK_SEC);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_WANT_STUN, 0, 0, r->now_us), 4);
  for (uint32_t k = 0; k < 4; k++) {
    ck_assert_uint_eq(rig_find(r, 0, MSOCK_ENGINE_WANT_STUN, 0, 0, k)->at_us, k * 30 * MSOCK_SEC);
  }
  rig_free(r);
}
END_TEST

/* closes: PRIV-07 PRIV-02 (what is advertised) */
START_TEST(what_may_be_advertised) {
  static const char *const never[] = {"0.0.0.0:1",   "127.0.0.1:1",  "169.254.1.1:1",
                                      "224.0.0.1:1", "100.64.3.4:1", "255.255.255.255:1",
                                      "9.9.9.9:0",   "[fe80::1]:1",  "[::1]:1"};
  static const char *const lan[] = {"10.0.0.1:1", "192.168.0.1:1", "172.16.0.1:1", "[fd00::1]:1"};
  const msock_prefix overlay = {.ip = msock_ip_v4(203, 0, 113, 0), .bits = 24};
  msock_endpoint out[MSOCK_ENGINE_SELF_MAX];
  msock_self s;
  for (int on = 0; on <= 1; on++) {
    const msock_eligible f = {.lan = on, .ipv6 = true, .overlay = {overlay}, .n_overlay = 1};
    msock_endpoint ep[MSOCK_ENGINE_LOCAL_MAX];
    size_t n = 0;
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
      ep[n++] = (msock_endpoint){rig_addr(never[i]), MSOCK_ENDPOINT_LOCAL};
    }
    ep[n++] = (msock_endpoint){rig_addr("203.0.113.9:1"), MSOCK_ENDPOINT_LOCAL};
    msock_self_init(&s);
    msock_self_set_local(&s, ep, n);
    ck_assert_uint_eq(msock_self_set(&s, &f, 0, out), 0);
    for (size_t i = 0; i < sizeof lan / sizeof lan[0]; i++) {
      ep[i] = (msock_endpoint){rig_addr(lan[i]), MSOCK_ENDPOINT_LOCAL};
    }
    msock_self_set_local(&s, ep, sizeof lan / sizeof lan[0]);
    ck_assert_uint_eq(msock_self_set(&s, &f, 0, out), on ? 4 : 0);
    const msock_eligible v4_only = {.lan = on}; /* IPv6 off: none, however public */
    ep[0].addr = rig_addr("[2001:db8::1]:1");
    ep[1].addr = rig_addr("[fd00::1]:1");
    msock_self_set_local(&s, ep, 2);
    ck_assert_uint_eq(msock_self_set(&s, &v4_only, 0, out), 0);
    ck_assert_uint_eq(msock_self_set(&s, &f, 0, out), on ? 2 : 1);
  }
}
END_TEST

/* closes: PATH-29 */
START_TEST(reflexive_addresses_expire_and_the_oldest_gives_way) {
  const msock_eligible f = {.lan = true};
  msock_endpoint out[MSOCK_ENGINE_SELF_MAX];
  msock_self s;
  msock_self_init(&s);
  for (uint32_t k = 0; k < 17; k++) { /* seventeen servers, seventeen mappings */
    const msock_addr server = {.ip = msock_ip_v4(192, 0, 2, (uint8_t)k), .port = 3478};
    const msock_addr seen = {.ip = msock_ip_v4(198, 51, 100, 1), .port = (uint16_t)(100 + k)};
    ck_assert(msock_self_reflexive(&s, k * MSOCK_SEC, &server, &seen));
  }
  ck_assert_uint_eq(msock_self_set(&s, &f, 0, out), 16);
  ck_assert_uint_eq(out[0].addr.port, 101);
  ck_assert_uint_eq(out[15].addr.port, 116);
  msock_self_expire(&s, 16 * MSOCK_SEC + 310 * MSOCK_SEC - 1);
  ck_assert_uint_eq(msock_self_set(&s, &f, 0, out), 1);
  msock_self_expire(&s, 16 * MSOCK_SEC + 310 * MSOCK_SEC);
  ck_assert_uint_eq(msock_self_set(&s, &f, 0, out), 0);
}
END_TEST

/* closes: PATH-30 PATH-31 T34 */
START_TEST(what_peers_say_about_us) {
  const msock_eligible f = {.lan = true};
  const msock_addr server = rig_addr("192.0.2.1:3478"), seen = rig_addr("198.51.100.1:700");
  const msock_addr same_ip = rig_addr("198.51.100.1:701"), foreign = rig_addr("203.0.113.66:53");
  const msock_addr private_ip = rig_addr("192.168.7.7:41641");
  msock_endpoint out[MSOCK_ENGINE_SELF_MAX];
  msock_self s;
  msock_self_init(&s);
  msock_self_reflexive(&s, 1, &server, &seen);
  ck_assert(!msock_self_claim(&s, 2, 1, &foreign)); /* one peer alone: not believed */
  ck_assert(!msock_self_claim(&s, 3, 1, &foreign));
  ck_assert_uint_eq(msock_self_set(&s, &f, 41641, out), 1);
  ck_assert(!msock_self_claim(&s, 4, 2, &private_ip)); /* how a neighbour in the LAN sees us */
  ck_assert(!msock_self_claim(&s, 5, 3, &private_ip));
  ck_assert_uint_eq(msock_self_set(&s, &f, 41641, out), 1);
  ck_assert(!msock_self_varies(&s));
  ck_assert(msock_self_claim(&s, 6, 4, &same_ip)); /* where STUN sees us, another port */
  ck_assert_uint_eq(msock_self_set(&s, &f, 41641, out), 2);
  ck_assert_int_eq(out[1].type, MSOCK_ENDPOINT_STUN);
  ck_assert(!msock_self_varies(&s));               /* a peer's word is no second mapping */
  ck_assert(msock_self_claim(&s, 7, 5, &foreign)); /* a second peer says the same */
  ck_assert_uint_eq(msock_self_set(&s, &f, 41641, out), 3);
}
END_TEST

START_TEST(hard_nat_is_seen_and_the_fixed_port_guessed) {
  rig *r = rig_new(1, 1, &(msock_engine_config){.fixed_port = true});
  msock_endpoint ep[MSOCK_ENGINE_SELF_MAX];
  r->node[0].nat = RIG_SYMMETRIC;
  rig_socket(r, 0);
  rig_run(r, 2 * MSOCK_SEC);
  ck_assert(msock_engine_mapping_varies(r->node[0].e));
  const size_t n = msock_engine_self_endpoints(r->node[0].e, ep);
  bool guessed = false;
  for (size_t i = 0; i < n; i++) {
    guessed =
        guessed || (ep[i].type == MSOCK_ENDPOINT_STUN4_LOCAL_PORT && ep[i].addr.port == RIG_PORT &&
                    msock_ip_equal(&ep[i].addr.ip, &r->node[0].outside));
  }
  ck_assert(guessed);
  rig_free(r);
}
END_TEST

/* A server that sees us elsewhere: the old address goes at once, the new one is told at once. */
START_TEST(a_nat_that_changes_its_address_is_published_within_200_ms) {
  rig *r = relayed_pair(&strict);
  rig_run(r, 31 * MSOCK_SEC);
  r->node[0].outside = msock_ip_v4(198, 51, 100, 99);
  msock_engine_on_stun_servers(r->node[0].e, r->now_us);
  rig_poll(r, 0);
  rig_run(r, r->now_us + 200 * MSOCK_MS);
  msock_endpoint ep[MSOCK_ENGINE_SELF_MAX];
  ck_assert_uint_eq(msock_engine_self_endpoints(r->node[0].e, ep), 1);
  ck_assert(msock_ip_equal(&ep[0].addr.ip, &r->node[0].outside));
  rig_free(r);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, call_me_maybe_every_5_s_with_traffic_and_less_without);
  tcase_add_test(tc, no_call_without_an_address_seen_from_outside);
  tcase_add_test(tc, calls_go_by_relay_to_who_has_a_key_and_end_with_a_path);
  tcase_add_test(tc, region_of_a_call);
  tcase_add_test(tc, a_call_lists_what_control_was_told);
  tcase_add_test(tc, old_addresses_are_refreshed_before_a_call);
  tcase_add_test(tc, published_on_change_sorted_and_soon);
  tcase_add_test(tc, stun_at_start_and_every_30_s);
  tcase_add_test(tc, what_may_be_advertised);
  tcase_add_test(tc, reflexive_addresses_expire_and_the_oldest_gives_way);
  tcase_add_test(tc, what_peers_say_about_us);
  tcase_add_test(tc, hard_nat_is_seen_and_the_fixed_port_guessed);
  tcase_add_test(tc, a_nat_that_changes_its_address_is_published_within_200_ms);
  return testing_main("engine_self", tc);
}
