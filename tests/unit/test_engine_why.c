/* Why a peer is on its path: situations made by engines, and the sentences about them. */
#include <string.h>

#include "tests/unit/engine_rig.h"

static const msock_engine_config plain = {0};

static void explain(const rig *r, msock_why_situation want, const char *line, const char *advice) {
  msock_why w;
  char text[MSOCK_WHY_TEXT_MAX];
  ck_assert(msock_engine_why(r->node[0].e, rig_id(r, 0, 1), r->now_us, &w));
  const size_t n = msock_why_explain(&w, "bob", "lab", false, text, sizeof text);
  ck_assert_uint_lt(n, sizeof text);
  ck_assert_uint_eq(n, strlen(text));
  ck_assert_msg(msock_why_judge(&w) == want, "%d: %s", (int)msock_why_judge(&w), text);
  ck_assert_msg(strstr(text, line) != NULL, "%s", text);
  ck_assert_msg(strstr(text, advice) != NULL, "%s", text);
  const char *first = strstr(text, "advice: "); /* one piece of advice, in the last line */
  ck_assert_ptr_nonnull(first);
  ck_assert_ptr_null(strstr(first + 1, "advice: "));
  ck_assert_ptr_eq(strchr(first, '\n') + 1, text + n);
}

static rig *pair(rig_nat a, rig_nat b, bool stun_silent) {
  rig *r = rig_new(1, 2, &plain);
  r->node[0].nat = a;
  r->node[1].nat = b;
  r->node[0].stun_silent = stun_silent;
  rig_socket(r, 0);
  rig_socket(r, 1);
  rig_run(r, 1 * MSOCK_SEC);
  rig_meet(r);
  return r;
}

START_TEST(direct_and_lost) {
  rig *r = pair(RIG_RESTRICTED, RIG_RESTRICTED, false);
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, 20 * MSOCK_SEC);
  explain(r, MSOCK_WHY_IS_DIRECT, "bob: direct 203.0.113.2:", "advice: none needed");
  r->node[1].udp_cut = true;
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, 32 * MSOCK_SEC);
  explain(r, MSOCK_WHY_IS_LOST, "after 10 heartbeats without an answer", "while the search runs");
  msock_why w;
  char text[MSOCK_WHY_TEXT_MAX];
  ck_assert(msock_engine_why(r->node[0].e, rig_id(r, 0, 1), r->now_us, &w));
  msock_why_explain(&w, "bob", NULL, true, text, sizeof text); /* the privacy profile */
  ck_assert_ptr_null(strstr(text, "203.0.113"));
  ck_assert_ptr_nonnull(strstr(text, "relay region 7"));
  rig_free(r);
}
END_TEST

START_TEST(hard_nats_on_both_sides) {
  rig *r = pair(RIG_SYMMETRIC, RIG_SYMMETRIC, false);
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, 20 * MSOCK_SEC);
  explain(r, MSOCK_WHY_IS_HARD_BOTH, "hard NAT on both sides", "forward a UDP port");
  rig_free(r);
}
END_TEST

START_TEST(hard_nat_on_one_side) {
  rig *r = pair(RIG_RESTRICTED, RIG_SYMMETRIC, false);
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, 20 * MSOCK_SEC);
  explain(r, MSOCK_WHY_IS_HARD_PEER, "hard NAT on the peer's side", "forward a UDP port");
  rig_free(r);
  r = pair(RIG_SYMMETRIC, RIG_RESTRICTED, false);
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, 20 * MSOCK_SEC);
  explain(r, MSOCK_WHY_IS_HARD_SELF, "hard NAT on our side", "forward a UDP port on our side");
  rig_free(r);
}
END_TEST

/* The peer without UDP lists what its interfaces have, which is of no use from here. */
START_TEST(a_peer_with_private_addresses_only) {
  const msock_addr inside = rig_addr("192.168.7.2:41641");
  rig *r = pair(RIG_RESTRICTED, RIG_BLOCKED, false);
  rig_know(r, 0, 1, &inside, 1);
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, 20 * MSOCK_SEC);
  explain(r, MSOCK_WHY_IS_PEER_PRIVATE, "only private addresses", "run netcheck on the peer");
  rig_free(r);
  r = pair(RIG_SYMMETRIC, RIG_BLOCKED, false); /* our hard NAT is not what is in the way */
  rig_know(r, 0, 1, &inside, 1);
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, 20 * MSOCK_SEC);
  explain(r, MSOCK_WHY_IS_PEER_PRIVATE, "only private addresses", "run netcheck on the peer");
  rig_free(r);
}
END_TEST

START_TEST(a_peer_without_addresses_and_one_whose_addresses_are_refused) {
  const msock_addr loopback = rig_addr("127.0.0.1:41641");
  rig *r = rig_new(1, 2, &plain);
  rig_socket(r, 0);
  rig_run(r, 1 * MSOCK_SEC);
  rig_know(r, 0, 1, NULL, 0); /* the other one never calls */
  rig_run(r, r->now_us + 130 * MSOCK_SEC);
  explain(r, MSOCK_WHY_IS_NO_CANDIDATES, "the peer lists no address", "on the other node");
  rig_know(r, 0, 1, &loopback, 1);
  explain(r, MSOCK_WHY_IS_NO_CANDIDATES, "(1 refused by policy)", "turn lan or ipv6 on");
  rig_free(r);
}
END_TEST

START_TEST(a_peer_that_control_calls_offline) {
  rig *r = pair(RIG_RESTRICTED, RIG_RESTRICTED, false);
  msock_why w;
  char text[MSOCK_WHY_TEXT_MAX];
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, 20 * MSOCK_SEC);
  ck_assert(msock_engine_why(r->node[0].e, rig_id(r, 0, 1), r->now_us, &w));
  w.offline = true; /* pongs are better news than control's */
  ck_assert_int_eq(msock_why_judge(&w), MSOCK_WHY_IS_DIRECT);
  r->node[1].udp_cut = true;
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, 40 * MSOCK_SEC);
  ck_assert(msock_engine_why(r->node[0].e, rig_id(r, 0, 1), r->now_us, &w));
  ck_assert(!w.offline);
  w.offline = true;
  ck_assert_int_eq(msock_why_judge(&w), MSOCK_WHY_IS_OFFLINE);
  msock_why_explain(&w, "bob", "lab", false, text, sizeof text);
  ck_assert_ptr_nonnull(strstr(text, "why: control says that the peer is offline\n"));
  ck_assert_ptr_nonnull(strstr(text, "advice: start the node on the other side"));
  rig_free(r);
}
END_TEST

START_TEST(no_answer_from_stun) {
  rig *r = pair(RIG_RESTRICTED, RIG_BLOCKED, true);
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, 20 * MSOCK_SEC);
  explain(r, MSOCK_WHY_IS_NO_REFLEXIVE, "STUN got no answer", "3478");
  rig_free(r);
}
END_TEST

START_TEST(pings_without_pongs) {
  rig *r = pair(RIG_RESTRICTED, RIG_RESTRICTED, false);
  r->node[1].udp_cut = true;
  r->n_flight = 0;
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, 4 * MSOCK_SEC);
  explain(r, MSOCK_WHY_IS_PROBING, "looking for a direct path", "wait some seconds");
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, 20 * MSOCK_SEC);
  explain(r, MSOCK_WHY_IS_NO_PONG, "no pong", "a firewall drops UDP");
  rig_free(r);
}
END_TEST

START_TEST(states_that_no_waiting_changes) {
  rig *r = pair(RIG_RESTRICTED, RIG_RESTRICTED, false);
  rig_run(r, 10 * MSOCK_SEC);
  msock_engine_on_data_stalled(r->node[0].e, r->now_us, rig_id(r, 0, 1));
  explain(r, MSOCK_WHY_IS_DATA_STALLED, "WireGuard does not; next try in 60 s", "firewall or MTU");
  msock_engine_on_socket(r->node[0].e, r->now_us, 0);
  explain(r, MSOCK_WHY_IS_INERT, "no UDP socket", "error of bind");
  const msock_engine_peer keyless = {.node = r->node[1].node, .home = RIG_REGION};
  msock_engine_on_socket(r->node[0].e, r->now_us, RIG_PORT);
  ck_assert_int_eq(msock_engine_peer_put(r->node[0].e, r->now_us, &keyless, NULL), MSOCK_OK);
  explain(r, MSOCK_WHY_IS_NO_DISCO_KEY, "no disco key", "the node on the other side");
  rig_free(r);
}
END_TEST

START_TEST(a_small_buffer_is_cut_not_overrun) {
  rig *r = pair(RIG_RESTRICTED, RIG_RESTRICTED, false);
  char text[40];
  msock_why w;
  ck_assert(msock_engine_why(r->node[0].e, rig_id(r, 0, 1), r->now_us, &w));
  memset(text, 'x', sizeof text);
  ck_assert_uint_gt(msock_why_explain(&w, "bob", "lab", false, text, 20), 20);
  ck_assert_uint_eq(strlen(text), 19);
  ck_assert_int_eq(text[20], 'x');
  rig_free(r);
}
END_TEST

/* Among many, a peer without traffic calls and is called every minute: thousands of such peers must
 * not fill a ring each. Its story begins with its first packet. */
START_TEST(a_resting_peer_has_no_story) {
  rig *r = pair(RIG_SYMMETRIC, RIG_SYMMETRIC, false);
  msock_why w;
  for (uint32_t i = 0; i < 2 * MSOCK_ENGINE_EAGER_PEERS; i++) {
    const msock_engine_peer other = {.node = {{200, (uint8_t)i}}, .home = RIG_REGION};
    ck_assert_int_eq(msock_engine_peer_put(r->node[0].e, r->now_us, &other, NULL), MSOCK_OK);
  }
  ck_assert(msock_engine_why(r->node[0].e, rig_id(r, 0, 1), r->now_us, &w));
  const size_t before = w.n_events; /* of the time when they were two */
  const uint64_t resting_us = r->now_us + MSOCK_ENGINE_ACTIVE_US;
  r->log_off = true;
  rig_run(r, resting_us + 600 * MSOCK_SEC);
  ck_assert(msock_engine_why(r->node[0].e, rig_id(r, 0, 1), r->now_us, &w));
  ck_assert(w.cmm_heard || w.ping_heard); /* they did talk */
  ck_assert_uint_eq(w.n_events, before);
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, r->now_us + 10 * MSOCK_SEC);
  ck_assert(msock_engine_why(r->node[0].e, rig_id(r, 0, 1), r->now_us, &w));
  ck_assert_uint_gt(w.n_events, before);
  rig_free(r);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, a_resting_peer_has_no_story);
  tcase_add_test(tc, direct_and_lost);
  tcase_add_test(tc, hard_nats_on_both_sides);
  tcase_add_test(tc, hard_nat_on_one_side);
  tcase_add_test(tc, a_peer_with_private_addresses_only);
  tcase_add_test(tc, a_peer_without_addresses_and_one_whose_addresses_are_refused);
  tcase_add_test(tc, a_peer_that_control_calls_offline);
  tcase_add_test(tc, no_answer_from_stun);
  tcase_add_test(tc, pings_without_pongs);
  tcase_add_test(tc, states_that_no_waiting_changes);
  tcase_add_test(tc, a_small_buffer_is_cut_not_overrun);
  return testing_main("engine_why", tc);
}
