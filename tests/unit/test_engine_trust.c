/* Trust in a confirmed path: how long it lasts, what ends it sooner, and how it comes back. */
#include <string.h>

#include "magicsock/engine_internal.h"
#include "tests/unit/engine_rig.h"

static const msock_engine_config plain = {0};
static const msock_engine_config slow = {.fast_failover_off = true};

static rig *direct_pair(uint64_t seed, const msock_engine_config *cfg) {
  rig *r = rig_new(seed, 2, cfg);
  rig_socket(r, 0);
  rig_socket(r, 1);
  rig_run(r, 1 * MSOCK_SEC);
  rig_meet(r);
  rig_run(r, 3 * MSOCK_SEC);
  ck_assert(rig_direct(r, 0, 1));
  ck_assert(rig_direct(r, 1, 0));
  return r;
}

static uint64_t last_pong(const rig *r, uint32_t who) {
  msock_engine_candidate c[8];
  const size_t n = msock_engine_candidates(r->node[who].e, rig_id(r, who, 1 - who), c, 8);
  for (size_t i = 0; i < n; i++) {
    if (c[i].best) {
      return c[i].last_pong_us;
    }
  }
  ck_abort_msg("no best");
  return 0;
}

static msock_path_via via(const rig *r, uint32_t who, uint64_t at_us) {
  msock_route route;
  msock_engine_route(r->node[who].e, rig_id(r, who, 1 - who), at_us, &route);
  return route.via;
}

/* closes: PATH-02 T11 T13 */
START_TEST(trust_ends_6500_ms_after_the_last_pong_without_any_event) {
  for (int fast = 0; fast <= 1; fast++) {
    rig *r = direct_pair(1, fast ? &plain : &slow);
    uint32_t ids[4];
    const uint64_t end = last_pong(r, 0) + 6500 * MSOCK_MS;
    /* No call into the engine from here on: time alone passes. */
    ck_assert_int_eq(via(r, 0, end), MSOCK_VIA_DIRECT);
    ck_assert_uint_eq(msock_engine_direct_peers(r->node[0].e, end, ids, 4), 1);
    ck_assert_int_eq(via(r, 0, end + 1), MSOCK_VIA_DERP);
    ck_assert_uint_eq(msock_engine_direct_peers(r->node[0].e, end + 1, ids, 4), 0);
    r->now_us = end; /* the last packet of a silenced path, and the one after it */
    r->n_flight = 0;
    rig_data(r, 0, 1);
    r->now_us = end + 1;
    rig_data(r, 0, 1);
    uint32_t by_derp = 0, by_udp = 0;
    for (uint32_t i = 0; i < r->n_flight; i++) {
      by_derp += r->flight[i].data && r->flight[i].derp;
      by_udp += r->flight[i].data && !r->flight[i].derp;
    }
    ck_assert_uint_eq(by_udp, 1);
    ck_assert_uint_eq(by_derp, 1);
    rig_free(r);
  }
}
END_TEST

/* closes: PATH-03 T12 */
START_TEST(who_is_no_direct_peer) {
  rig *r = rig_new(1, 2, &plain);
  uint32_t ids[4];
  msock_route route;
  msock_engine *e = r->node[0].e;
  const msock_addr b = {.ip = r->node[1].outside, .port = RIG_PORT};
  const msock_engine_peer no_disco = {
      .node = r->node[1].node, .home = RIG_REGION, .endpoints = &b, .n_endpoints = 1};

  ck_assert_uint_eq(msock_engine_direct_peers(e, 0, ids, 4), 0); /* no netmap */
  msock_engine_route(e, 12345, 0, &route);                       /* unknown id */
  ck_assert_int_eq(route.via, MSOCK_VIA_NONE);
  rig_socket(r, 0);
  rig_socket(r, 1);
  rig_run(r, 1 * MSOCK_SEC);
  ck_assert_int_eq(msock_engine_peer_put(e, r->now_us, &no_disco, NULL), MSOCK_OK);
  rig_know(r, 1, 0, NULL, 0);
  rig_run(r, 10 * MSOCK_SEC);
  ck_assert_uint_eq(msock_engine_direct_peers(e, r->now_us, ids, 4), 0); /* no disco key */
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_UDP, 0, 0, r->now_us), 0);
  r->node[1].udp_cut = true; /* a key and addresses, but no pong */
  rig_meet(r);
  for (uint64_t s = 11; s <= 20; s++) {
    rig_run(r, s * MSOCK_SEC);
    ck_assert_uint_eq(msock_engine_direct_peers(e, r->now_us, ids, 4), 0);
  }
  ck_assert_uint_gt(rig_count(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, 0, r->now_us), 0);
  r->node[1].udp_cut = false;
  rig_run(r, 30 * MSOCK_SEC);
  ck_assert_uint_eq(msock_engine_direct_peers(e, r->now_us, ids, 4), 1);
  msock_engine_on_socket(e, r->now_us, 0); /* inert */
  ck_assert_uint_eq(msock_engine_direct_peers(e, r->now_us, ids, 4), 0);
  rig_free(r);
}
END_TEST

/* closes: PATH-07 T26 */
START_TEST(a_late_tick_runs_once_and_the_next_comes_2_s_later) {
  rig *r = rig_new(1, 2, &slow);
  const msock_addr nowhere = rig_addr("198.51.100.9:1000");
  rig_socket(r, 0);
  rig_run(r, 1 * MSOCK_SEC);
  rig_know(r, 0, 1, &nowhere, 1);
  rig_run(r, 20 * MSOCK_SEC);
  for (int stall = 0; stall < 2; stall++) {
    const uint64_t t = r->now_us + (stall == 0 ? 10 : 20) * MSOCK_SEC;
    r->now_us = t;
    msock_engine_on_expiry(r->node[0].e, t);
    rig_poll(r, 0);
    /* One ping for the one candidate, not one for each tick that was missed. */
    ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, t, t), 1);
    rig_run(r, t + 6 * MSOCK_SEC - 1);
    ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, t, r->now_us), 1);
    rig_run(r, t + 6 * MSOCK_SEC); /* ticks at +2, +4, +6: the first after the 5 s floor */
    ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, t, r->now_us), 2);
  }
  rig_free(r);
}
END_TEST

/* closes: PATH-09 */
START_TEST(a_steady_path_never_lapses_in_an_hour) {
  static const uint64_t rtt_ms[] = {1, 50, 400, 1000};
  rig *r = direct_pair(1, _i % 2 == 0 ? &plain : &slow);
  r->one_way_us = rtt_ms[_i / 2] * MSOCK_MS / 2;
  rig_run(r, 20 * MSOCK_SEC); /* the round trip has been learned */
  r->log_off = true;
  const uint64_t downs = msock_engine_counters_get(r->node[0].e).paths_down;
  rig_run(r, 3620 * MSOCK_SEC);
  ck_assert(rig_direct(r, 0, 1));
  ck_assert_uint_eq(msock_engine_counters_get(r->node[0].e).paths_down, downs);
  rig_free(r);
}
END_TEST

/* closes: PATH-10 */
START_TEST(only_a_best_above_5_ms_is_challenged_once_a_minute) {
  for (int far = 0; far <= 1; far++) {
    rig *r = rig_new(1, 2, &plain);
    const msock_addr ep[2] = {{.ip = r->node[1].outside, .port = RIG_PORT},
                              rig_addr("198.51.100.9:1000")};
    rig_socket(r, 0);
    rig_socket(r, 1);
    r->one_way_us = far ? 2600 : 2500;
    rig_run(r, 1 * MSOCK_SEC);
    rig_know(r, 1, 0, NULL, 0);
    rig_know(r, 0, 1, ep, 2);
    rig_run(r, 5 * MSOCK_SEC);
    ck_assert(rig_direct(r, 0, 1));
    const uint64_t t = r->now_us;
    rig_run(r, t + 600 * MSOCK_SEC);
    uint32_t sweeps = 0;
    for (uint32_t k = 0;; k++) {
      const rig_entry *x = rig_find(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, t, k);
      if (x == NULL) {
        break;
      }
      sweeps += msock_addr_equal(&x->out.addr, &ep[1]);
    }
    if (far) {
      ck_assert_uint_ge(sweeps, 9); /* 60 s, up to 4 s of jitter, 2 s of tick */
      ck_assert_uint_le(sweeps, 10);
    } else {
      ck_assert_uint_eq(sweeps, 0);
    }
    rig_free(r);
  }
}
END_TEST

/* closes: T25 */
START_TEST(the_tick_pings_only_what_needs_it) {
  rig *r = direct_pair(1, &plain);
  rig_run(r, 30 * MSOCK_SEC);
  /* Every 2 s the tick finds a pong that is older than 1.5 s: one ping, to one address. */
  const uint64_t pong = last_pong(r, 0);
  const rig_entry *next = rig_find(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, r->now_us + 1, 0);
  ck_assert_ptr_null(next);
  rig_run(r, pong + 2 * MSOCK_SEC);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, pong, r->now_us), 1);
  /* A pong just before the tick: nothing needs a ping. */
  const uint64_t tick = rig_find(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, pong, 0)->at_us;
  rig_run(r, tick + 1 * MSOCK_SEC);
  ck_assert_int_eq(msock_engine_ping(r->node[0].e, r->now_us, rig_id(r, 0, 1), 9), MSOCK_OK);
  rig_poll(r, 0);
  const uint64_t asked = r->now_us;
  rig_run(r, tick + 2 * MSOCK_SEC + 500 * MSOCK_MS);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, asked + 1, r->now_us), 0);
  rig_free(r);
}
END_TEST

/* closes: PATH-33 */
START_TEST(a_dead_path_is_left_within_4_s_and_always_within_6500_ms) {
  for (int k = 0; k < 8; k++) { /* failover fast or not, one way or both, with data or idle */
    const bool fast = k & 1, one_way = k & 2, data = k & 4;
    rig *r = direct_pair((uint64_t)_i, fast ? &plain : &slow);
    r->one_way_us = 25 * MSOCK_MS;
    rig_run(r, 10 * MSOCK_SEC + (uint64_t)_i * 100 * MSOCK_MS);
    const uint64_t cut = r->now_us;
    /* A pong to a ping from just before may still come, and renews trust. */
    const uint64_t limit = cut + (fast ? 4000 * MSOCK_MS : 6500 * MSOCK_MS + 2 * r->one_way_us + 1);
    r->node[1].udp_cut = !one_way;
    r->node[1].udp_out_cut = one_way;
    if (data) {
      rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, limit - 100 * MSOCK_MS);
    }
    rig_run(r, limit);
    ck_assert_msg(!rig_direct(r, 0, 1), "case %d", k);
    ck_assert_msg(!rig_direct(r, 1, 0), "case %d", k);
    r->node[1].udp_cut = r->node[1].udp_out_cut = false; /* and it comes back by itself */
    rig_run(r, r->now_us + 6 * MSOCK_SEC);
    ck_assert(rig_direct(r, 0, 1));
    rig_free(r);
  }
}
END_TEST

START_TEST(unanswered_data_finds_a_dead_path_within_2_s) {
  rig *r = direct_pair((uint64_t)_i, &plain);
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, 10 * MSOCK_SEC + (uint64_t)_i * 100 * MSOCK_MS);
  const uint64_t cut = r->now_us;
  r->node[1].udp_cut = true;
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, true, cut + 2 * MSOCK_SEC);
  ck_assert(!rig_direct(r, 0, 1));
  ck_assert(!rig_direct(r, 1, 0));
  rig_free(r);
}
END_TEST

/* closes: PATH-34 */
START_TEST(ten_percent_loss_for_ten_minutes_is_no_flap) {
  rig *r = direct_pair((uint64_t)_i + 1, &plain);
  r->loss_permille = 100;
  r->log_off = true;
  const uint64_t before = msock_engine_counters_get(r->node[0].e).paths_down;
  rig_traffic(r, 0, 1, 500 * MSOCK_MS, _i % 2 == 0, r->now_us + 600 * MSOCK_SEC);
  ck_assert_uint_le(msock_engine_counters_get(r->node[0].e).paths_down - before, 1);
  rig_free(r);
}
END_TEST

START_TEST(half_the_pings_lost_and_a_clean_relay_means_relay) {
  rig *r = direct_pair(5, &plain);
  msock_why w;
  char text[MSOCK_WHY_TEXT_MAX];
  r->loss_permille = 300;
  r->log_off = true;
  rig_traffic(r, 0, 1, 200 * MSOCK_MS, true, r->now_us + 300 * MSOCK_SEC);
  ck_assert(!rig_direct(r, 0, 1));
  ck_assert(msock_engine_why(r->node[0].e, rig_id(r, 0, 1), r->now_us, &w));
  ck_assert_int_eq(msock_why_judge(&w), MSOCK_WHY_IS_LOSSY);
  msock_why_explain(&w, "b", "lab", false, text, sizeof text);
  ck_assert_ptr_nonnull(strstr(text, "the relay hardly any"));
  r->loss_permille = 0; /* the link is repaired: direct again, after the hold */
  rig_traffic(r, 0, 1, 200 * MSOCK_MS, true, r->now_us + 200 * MSOCK_SEC);
  ck_assert(rig_direct(r, 0, 1));
  rig_free(r);
}
END_TEST

/* closes: PATH-46 */
START_TEST(stalled_data_leaves_the_path_for_60_s_and_no_longer) {
  rig *r = direct_pair(1, &plain);
  rig_run(r, 10 * MSOCK_SEC);
  const uint64_t t = r->now_us;
  msock_engine_on_data_stalled(r->node[0].e, t, rig_id(r, 0, 1)); /* wg's word, after 5 s */
  rig_poll(r, 0);
  ck_assert(!rig_direct(r, 0, 1)); /* at once: within 6 s of the first unanswered handshake */
  const rig_entry *x = rig_find(r, 0, MSOCK_ENGINE_PATH_CHANGED, 0, t, 0);
  ck_assert_ptr_nonnull(x);
  ck_assert_int_eq(x->out.reason, MSOCK_WHY_DATA_STALLED);
  rig_run(r, t + 60 * MSOCK_SEC - 1); /* disco passes all the time */
  ck_assert(!rig_direct(r, 0, 1));
  rig_run(r, t + 60 * MSOCK_SEC);
  ck_assert(rig_direct(r, 0, 1));
  rig_free(r);
}
END_TEST

/* The peer slept: WireGuard's 5 s were over when the path came up. It gets 5 s of its own. */
START_TEST(a_young_path_is_not_blamed_for_an_old_handshake) {
  for (int what = 0; what < 3; what++) { /* no answer; data from there; a session */
    rig *r = direct_pair(1, &plain);
    const uint64_t t = rig_direct_at(r, 0, 0);
    const uint32_t id = rig_id(r, 0, 1);
    const msock_addr b = {.ip = r->node[1].outside, .port = RIG_PORT};
    rig_run(r, t + 4 * MSOCK_SEC);
    msock_engine_on_data_stalled(r->node[0].e, r->now_us, id);
    rig_poll(r, 0);
    ck_assert(rig_direct(r, 0, 1));
    rig_run(r, t + 5 * MSOCK_SEC - 1);
    if (what == 1) {
      msock_engine_on_data_received(r->node[0].e, r->now_us, id, &b, 0);
    } else if (what == 2) {
      msock_engine_on_data_session(r->node[0].e, id);
    }
    ck_assert(rig_direct(r, 0, 1));
    rig_run(r, t + 5 * MSOCK_SEC);
    ck_assert_int_eq(rig_direct(r, 0, 1), what != 0);
    rig_free(r);
  }
}
END_TEST

/* With loss an initiation may be lost, 5 s are over, and data flows all the time. */
START_TEST(a_path_that_carries_data_is_not_blamed_for_a_handshake) {
  rig *r = direct_pair(1, &plain);
  const uint32_t id = rig_id(r, 0, 1);
  const msock_addr b = {.ip = r->node[1].outside, .port = RIG_PORT};
  rig_run(r, 10 * MSOCK_SEC);
  msock_engine_on_data_received(r->node[0].e, r->now_us, id, &b, 0);
  rig_run(r, 21 * MSOCK_SEC - 1);
  msock_engine_on_data_stalled(r->node[0].e, r->now_us, id);
  ck_assert(rig_direct(r, 0, 1));
  rig_run(r, 21 * MSOCK_SEC); /* 11 s: a peer that got data would have sent a keepalive */
  msock_engine_on_data_stalled(r->node[0].e, r->now_us, id);
  ck_assert(!rig_direct(r, 0, 1));
  rig_free(r);
}
END_TEST

/* The peer moves: its new address is as far away as the old one was, so it is no better. */
START_TEST(a_silent_address_yields_to_one_that_answers) {
  rig *r = direct_pair((uint64_t)_i, &plain);
  rig_run(r, r->now_us + (uint64_t)_i * 100 * MSOCK_MS); /* anywhere between two heartbeats */
  const msock_addr before = {.ip = r->node[1].outside, .port = RIG_PORT};
  const msock_addr after = {.ip = msock_ip_v4(203, 0, 113, 77), .port = RIG_PORT};
  const msock_addr both[2] = {before, after};
  const uint64_t t = r->now_us;
  msock_route route;
  r->node[1].outside = after.ip;
  rig_know(r, 0, 1, both, 2);
  rig_traffic(r, 0, 1, 100 * MSOCK_MS, false, t + 1200 * MSOCK_MS);
  msock_engine_route(r->node[0].e, rig_id(r, 0, 1), r->now_us, &route);
  ck_assert_int_eq(route.via, MSOCK_VIA_DIRECT);
  ck_assert(msock_addr_equal(&route.addr, &after));
  const rig_entry *x = rig_find(r, 0, MSOCK_ENGINE_PATH_CHANGED, 0, t, 0);
  ck_assert_int_eq(x->out.reason, MSOCK_WHY_SWITCHED); /* not by way of the relay */
  /* It is trusted by its own pong, to the microsecond. */
  const uint64_t end = last_pong(r, 0) + MSOCK_ENGINE_TRUST_US;
  ck_assert_int_eq(via(r, 0, end), MSOCK_VIA_DIRECT);
  ck_assert_int_eq(via(r, 0, end + 1), MSOCK_VIA_DERP);
  rig_free(r);
}
END_TEST

/* closes: PATH-35 */
START_TEST(equal_addresses_with_jitter_switch_once_a_minute_at_most) {
  rig *r = rig_new((uint64_t)_i, 2, &plain);
  r->node[1].nat = RIG_CONE;
  rig_socket(r, 0);
  rig_socket(r, 1);
  rig_run(r, 1 * MSOCK_SEC);
  /* A second outside port of b that leads to the same socket. */
  r->node[1].mappings[r->node[1].n_mappings++] = (rig_mapping){.port = 999};
  const msock_addr ep[2] = {{.ip = r->node[1].outside, .port = r->node[1].mappings[0].port},
                            {.ip = r->node[1].outside, .port = 999}};
  rig_know(r, 1, 0, NULL, 0);
  rig_know(r, 0, 1, ep, 2);
  uint32_t changes = 0;
  for (uint64_t k = 0; k < 6000; k++) { /* 10 minutes; the one-way time wanders by 20 % */
    testing_rng rng;
    const msock_env env = testing_env(&rng, k + (uint64_t)_i * 10000);
    r->one_way_us = 16 * MSOCK_MS + msock_env_uniform(&env, 8 * MSOCK_MS);
    rig_data(r, 0, 1);
    rig_run(r, r->now_us + 100 * MSOCK_MS);
  }
  for (uint32_t k = 0; k < r->n_log; k++) {
    changes += r->log[k].node == 0 && r->log[k].out.kind == MSOCK_ENGINE_PATH_CHANGED;
  }
  ck_assert_uint_ge(changes, 1);
  ck_assert_uint_le(changes, 11);
  rig_free(r);
}
END_TEST

START_TEST(a_path_lost_three_times_in_a_minute_must_prove_itself) {
  rig *r = direct_pair(1, &plain);
  uint64_t back_us[5];
  for (int k = 0; k < 5; k++) {
    rig_run(r, r->now_us + 2 * MSOCK_SEC);
    r->node[1].udp_cut = true;
    while (rig_direct(r, 0, 1)) {
      rig_run(r, r->now_us + 10 * MSOCK_MS);
    }
    r->node[1].udp_cut = false;
    const uint64_t t = r->now_us;
    rig_run(r, t + 8 * MSOCK_SEC);
    back_us[k] = rig_direct_at(r, 0, t);
    ck_assert(back_us[k] != MSOCK_NEVER);
    /* Pongs that came before it was believed again. */
    msock_why w;
    ck_assert(msock_engine_why(r->node[0].e, rig_id(r, 0, 1), r->now_us, &w));
    bool guarded = false;
    for (size_t i = 0; i < w.n_events; i++) {
      guarded = guarded || (w.events[i].kind == MSOCK_WHY_FLAP_GUARD && w.events[i].at_us >= t);
    }
    ck_assert_int_eq(guarded, k >= 2);
  }
  rig_free(r);
}
END_TEST

/* The engine's part of PATH-21: the socket itself is test_node_paths'.
 * closes: T16 PATH-21 */
START_TEST(rebind_clears_paths_keeps_candidates_and_probes_at_once) {
  rig *r = direct_pair(1, &plain);
  msock_engine_candidate before[8], after[8];
  msock_engine_transport tr;
  const uint32_t id = rig_id(r, 0, 1);
  const size_t n = msock_engine_candidates(r->node[0].e, id, before, 8);
  rig_data(r, 0, 1);
  const uint64_t t = r->now_us;
  ck_assert_uint_ge(r->node[0].e->self.n_reflexive, 1);
  msock_engine_on_socket(r->node[0].e, t, RIG_PORT);
  ck_assert_uint_eq(r->node[0].e->self.n_reflexive, 0);
  ck_assert(!rig_direct(r, 0, 1));
  ck_assert_int_eq(via(r, 0, t), MSOCK_VIA_DERP);
  ck_assert_uint_eq(msock_engine_candidates(r->node[0].e, id, after, 8), n);
  for (size_t i = 0; i < n; i++) {
    ck_assert(msock_addr_equal(&before[i].addr, &after[i].addr));
    ck_assert(!after[i].best);
  }
  ck_assert(msock_engine_transport_get(r->node[0].e, &tr));
  ck_assert_uint_eq(tr.port, RIG_PORT);
  rig_poll(r, 0);
  ck_assert_uint_ge(rig_count(r, 0, MSOCK_ENGINE_SEND_UDP, RIG_PING_LEN, t, t), 1);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_WANT_STUN, 0, t, t), 1);
  rig_data(r, 0, 1); /* traffic goes by the relay until the pong */
  rig_run(r, t + 2 * r->one_way_us - 1);
  ck_assert_int_eq(via(r, 0, r->now_us), MSOCK_VIA_DERP);
  rig_run(r, t + 2 * r->one_way_us);
  ck_assert(rig_direct(r, 0, 1));
  rig_free(r);
}
END_TEST

/* closes: T06 T07 T17 T51 PATH-23 */
START_TEST(inert_without_a_socket) {
  rig *r = rig_new(1, 2, &plain);
  msock_engine_transport tr;
  msock_engine *e = r->node[0].e;
  msock_node_key node;
  msock_disco_key disco;

  rig_socket(r, 1);
  rig_run(r, 1 * MSOCK_SEC);
  ck_assert(!msock_engine_transport_get(e, &tr));
  msock_engine_on_socket(e, r->now_us, 0); /* rebind while inert: nothing */
  rig_meet(r);
  rig_run(r, 30 * MSOCK_SEC);
  ck_assert_int_eq(via(r, 0, r->now_us), MSOCK_VIA_DERP);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_SEND_UDP, 0, 0, r->now_us), 0);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_WANT_STUN, 0, 0, r->now_us), 0);
  ck_assert_uint_eq(msock_engine_peer_count(e), 1); /* the netmap is followed */
  ck_assert(msock_engine_peer_keys(e, rig_id(r, 0, 1), &node, &disco));
  ck_assert(msock_node_key_equal(&node, &r->node[1].node));
  for (uint32_t k = 1; k <= 10; k++) { /* however often it is bound: one transport */
    msock_engine_on_socket(e, r->now_us, RIG_PORT);
    ck_assert(msock_engine_transport_get(e, &tr));
    ck_assert_uint_eq(tr.id, 1);
    ck_assert_uint_eq(tr.rebinds, k);
  }
  msock_engine_on_socket(e, r->now_us, 0);
  ck_assert(!msock_engine_transport_get(e, &tr));
  rig_free(r);
}
END_TEST

/* closes: PATH-41 PATH-32 */
START_TEST(send_errors) {
  rig *r = direct_pair(1, &plain);
  msock_engine *e = r->node[0].e;
  const uint32_t id = rig_id(r, 0, 1);
  msock_addr best = {.ip = r->node[1].outside, .port = RIG_PORT};
  const uint64_t t = r->now_us;

  for (int k = 0; k < 3; k++) { /* EPERM: lost; the path stays; a rebind is asked for once in 5 s */
    msock_engine_on_send_error(e, t, id, &best, MSOCK_SEND_REFUSED);
    rig_poll(r, 0);
  }
  ck_assert(rig_direct(r, 0, 1));
  ck_assert_uint_eq(msock_engine_counters_get(e).tx_refused, 3);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_WANT_REBIND, 0, t, t), 1);
  msock_engine_on_send_error(e, t + 5 * MSOCK_SEC - 1, id, &best, MSOCK_SEND_REFUSED);
  rig_poll(r, 0);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_WANT_REBIND, 0, t, MSOCK_NEVER), 1);
  msock_engine_on_send_error(e, t + 5 * MSOCK_SEC, id, &best, MSOCK_SEND_REFUSED);
  rig_poll(r, 0);
  ck_assert_uint_eq(rig_count(r, 0, MSOCK_ENGINE_WANT_REBIND, 0, t, MSOCK_NEVER), 2);
  /* EHOSTUNREACH: no best any more, this very moment. */
  msock_engine_on_send_error(e, t, id, &best, MSOCK_SEND_UNREACHABLE);
  ck_assert_int_eq(via(r, 0, t), MSOCK_VIA_DERP);
  rig_poll(r, 0);
  /* ENETUNREACH mutes one address; the sweep goes on to the others. */
  const msock_addr ep[3] = {rig_addr("198.51.100.1:1"), rig_addr("198.51.100.2:1"),
                            rig_addr("198.51.100.3:1")};
  rig_know(r, 0, 1, ep, 3);
  msock_engine_on_send_error(e, r->now_us, id, &ep[0], MSOCK_SEND_NO_ROUTE);
  r->n_log = 0;
  const uint64_t u = r->now_us + 70 * MSOCK_SEC; /* an upgrade sweep */
  rig_run(r, u);
  uint32_t to[3] = {0};
  for (uint32_t i = 0; i < r->n_log; i++) {
    for (int k = 0; k < 3; k++) {
      to[k] += r->log[i].node == 0 && r->log[i].out.kind == MSOCK_ENGINE_SEND_UDP &&
               msock_addr_equal(&r->log[i].out.addr, &ep[k]);
    }
  }
  ck_assert_uint_eq(to[0], 0);
  ck_assert_uint_gt(to[1], 0);
  ck_assert_uint_gt(to[2], 0);
  rig_free(r);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, trust_ends_6500_ms_after_the_last_pong_without_any_event);
  tcase_add_test(tc, who_is_no_direct_peer);
  tcase_add_test(tc, a_late_tick_runs_once_and_the_next_comes_2_s_later);
  tcase_add_loop_test(tc, a_steady_path_never_lapses_in_an_hour, 0, 8);
  tcase_add_test(tc, only_a_best_above_5_ms_is_challenged_once_a_minute);
  tcase_add_test(tc, the_tick_pings_only_what_needs_it);
  tcase_add_loop_test(tc, a_dead_path_is_left_within_4_s_and_always_within_6500_ms, 0, 20);
  tcase_add_loop_test(tc, unanswered_data_finds_a_dead_path_within_2_s, 0, 20);
  tcase_add_loop_test(tc, ten_percent_loss_for_ten_minutes_is_no_flap, 0, 20);
  tcase_add_test(tc, half_the_pings_lost_and_a_clean_relay_means_relay);
  tcase_add_test(tc, stalled_data_leaves_the_path_for_60_s_and_no_longer);
  tcase_add_test(tc, a_young_path_is_not_blamed_for_an_old_handshake);
  tcase_add_test(tc, a_path_that_carries_data_is_not_blamed_for_a_handshake);
  tcase_add_loop_test(tc, a_silent_address_yields_to_one_that_answers, 0, 20);
  tcase_add_loop_test(tc, equal_addresses_with_jitter_switch_once_a_minute_at_most, 0, 3);
  tcase_add_test(tc, a_path_lost_three_times_in_a_minute_must_prove_itself);
  tcase_add_test(tc, rebind_clears_paths_keeps_candidates_and_probes_at_once);
  tcase_add_test(tc, inert_without_a_socket);
  tcase_add_test(tc, send_errors);
  return testing_main("engine_trust", tc);
}
