/* Home region: probe plan, choice, and whole rounds against a small world of servers with virtual
 * time (netcheck.md 2). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netcheck/choice.h"
#include "netcheck/plan.h"
#include "tests/unit/home_rig.h"

/* closes: NC-05 */
START_TEST(one_region_is_home_upon_its_first_answer) {
  world *w = world_new(1);
  const uint64_t t0 = w->now_us;
  world_config(w, (msock_home_config){0});
  ck_assert_ptr_nonnull(report(w));
  start(w);
  run_until(w, t0 + 10 * MS - 1);
  ck_assert_uint_eq(msock_home_region(w->h), 0);
  run_until(w, t0 + 10 * MS);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  ck_assert_uint_eq(w->n_changes, 1);
  ck_assert_uint_eq(w->reports, 1);
  ck_assert_uint_eq(w->sent[0], 1); /* the set ended at its first answer */
  ck_assert(report(w)->final && report(w)->udp && report(w)->ipv4 && !report(w)->ipv6);
  ck_assert_uint_eq(report(w)->regions[0].v4_us, 10 * MS);
  ck_assert_uint_eq(report(w)->global_v4.port, 40000);
  ck_assert_int_eq(report(w)->mapping_varies, MSOCK_TRISTATE_UNKNOWN);
  world_free(w);
}
END_TEST

START_TEST(all_answers_decide_at_once) {
  world *w = world_new(2);
  const uint64_t t0 = w->now_us;
  w->stun_us[0] = 14 * MS;
  w->stun_us[1] = 9 * MS;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, t0 + 14 * MS - 1);
  ck_assert_uint_eq(msock_home_region(w->h), 0);
  run_until(w, t0 + 14 * MS);
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  ck_assert(report(w)->final);
  world_free(w);
}
END_TEST

/* Twice the first latency, but 20 ms at least and 100 ms at most. */
static const struct {
  uint64_t first_ms, wait_ms;
} early[] = {{3, 20}, {10, 20}, {11, 22}, {40, 80}, {60, 100}};
START_TEST(a_silent_region_delays_the_first_choice_a_little) {
  world *w = world_new(3);
  const uint64_t at = w->now_us + (early[_i].first_ms + early[_i].wait_ms) * MS;
  w->stun_us[0] = SILENT;
  w->stun_us[1] = early[_i].first_ms * MS;
  w->stun_us[2] = SILENT;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, at - 1);
  ck_assert_uint_eq(msock_home_region(w->h), 0);
  run_until(w, at);
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  ck_assert(!report(w)->final);
  ck_assert_uint_eq(w->requests[1], 0);
  world_free(w);
}
END_TEST

/* closes: NC-01 NC-07 */
START_TEST(the_first_round_sends_three_probes_and_ends_in_time) {
  world *w = world_new(2);
  const uint64_t t0 = w->now_us;
  w->stun_us[0] = SILENT;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, t0 + 3 * SEC - 1);
  ck_assert_uint_eq(w->sent[0], 3);
  ck_assert_uint_eq(w->sent_at[0][0], t0);
  ck_assert_uint_eq(w->sent_at[0][1], t0 + 100 * MS);
  ck_assert_uint_eq(w->sent_at[0][2], t0 + 200 * MS);
  ck_assert(!report(w)->final);
  run_until(w, t0 + 3 * SEC);
  ck_assert(report(w)->final);
  world_free(w);

  w = world_new(2); /* everything is a black hole */
  w->stun_us[0] = w->stun_us[1] = SILENT;
  w->https_us[0] = w->https_us[1] = MSOCK_NEVER;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, t0 + 5 * SEC - 1);
  ck_assert_uint_eq(w->reports, 0);
  ck_assert_uint_eq(msock_home_region(w->h), 0);
  run_until(w, t0 + 5 * SEC);
  ck_assert(report(w)->final && !report(w)->udp);
  ck_assert_uint_eq(report(w)->preferred, 0);
  ck_assert_uint_eq(msock_home_region(w->h), 1); /* the first of the map */
  world_free(w);
}
END_TEST

START_TEST(without_udp_https_decides) {
  world *w = world_new(3);
  const uint64_t t0 = w->now_us;
  for (size_t i = 0; i < 3; i++) {
    w->stun_us[i] = SILENT;
  }
  w->https_us[0] = 40 * MS;
  w->https_us[1] = 5 * MS;
  w->https_us[2] = 2000 * MS;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, t0 + 1000 * MS - 1);
  ck_assert_uint_eq(w->requests[0] + w->requests[1] + w->requests[2], 0);
  run_until(w, t0 + 1000 * MS);
  ck_assert_uint_eq(w->requests[0] + w->requests[1] + w->requests[2], 3);
  run_until(w, t0 + (1000 + 5 + 50) * MS - 1);
  ck_assert_uint_eq(msock_home_region(w->h), 0);
  run_until(w, t0 + (1000 + 5 + 50) * MS);
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  ck_assert(!report(w)->udp);
  ck_assert_uint_eq(report(w)->regions[0].https_us, 40 * MS);
  run_until(w, t0 + 3000 * MS);
  ck_assert(report(w)->final);
  ck_assert_uint_eq(report(w)->regions[2].https_us, 2000 * MS);
  ck_assert_uint_eq(report(w)->regions[2].best_us, 2000 * MS);
  ck_assert_uint_eq(w->n_changes, 1);
  world_free(w);
}
END_TEST

START_TEST(without_stun_at_all_https_starts_at_once) {
  world *w = world_new(2);
  const uint64_t t0 = w->now_us;
  world_config(w, (msock_home_config){.no_stun = true});
  w->https_us[0] = SILENT; /* refused */
  start(w);
  run_until(w, t0 + 30 * MS);
  ck_assert_uint_eq(w->sent[0] + w->sent[1], 0);
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  ck_assert_uint_eq(w->changed_at[0], t0 + 30 * MS); /* everybody is known: no grace */
  world_free(w);

  w = world_new(2); /* nobody listens: the first region of the map, at once */
  world_config(w, (msock_home_config){.no_stun = true});
  w->https_us[0] = w->https_us[1] = SILENT;
  start(w);
  run_until(w, t0 + MS);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  world_free(w);
}
END_TEST

/* closes: NC-03 (NoMeasureNoHome) NC-04 NC-14 */
START_TEST(regions_and_nodes_that_are_not_asked) {
  world *w = world_new(4);
  world_config(w, (msock_home_config){0});
  w->regions[0].no_measure_no_home = true;
  w->nodes[1].stun_port = 0; /* the map said -1 */
  w->nodes[2].stun_only = true;
  w->stun_us[2] = 1 * MS;
  start(w);
  run_until(w, w->now_us + 10 * SEC);
  ck_assert_uint_eq(w->sent[0] + w->sent[1], 0);
  ck_assert_uint_eq(w->sent[2], 1); /* STUN-only nodes are probed like others */
  ck_assert_uint_eq(msock_home_region(w->h), 4);
  ck_assert_uint_eq(report(w)->regions[2].v4_us, 1 * MS);
  world_free(w);

  w = world_new(2); /* neither can be home, although one answers */
  world_config(w, (msock_home_config){0});
  w->regions[0].no_measure_no_home = true;
  w->nodes[1].stun_only = true;
  start(w);
  run_until(w, w->now_us + 10 * SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 0);
  ck_assert_uint_eq(w->requests[0] + w->requests[1], 0);
  world_free(w);
}
END_TEST

/* closes: NC-03 (Avoid) */
START_TEST(a_region_to_avoid_is_asked_once_or_while_it_is_home) {
  world *w = world_new(3);
  world_config(w, (msock_home_config){0});
  w->stun_us[0] = 2 * MS; /* by far the nearest */
  w->regions[0].avoid = true;
  start(w);
  run_until(w, w->now_us + 10 * SEC);
  ck_assert_uint_eq(w->sent[0], 1); /* the full round */
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  run_until(w, w->now_us + 100 * SEC);
  ck_assert_uint_ge(w->sent[1], 4);
  ck_assert_uint_eq(w->sent[0], 1); /* no incremental one */
  world_free(w);

  w = world_new(3); /* who is there already stays, and measures it */
  world_config(w, (msock_home_config){0});
  w->stun_us[0] = 2 * MS;
  start(w);
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  w->regions[0].avoid = true;
  ck_assert_int_eq(msock_home_set_map(w->h, w->now_us, &w->map), MSOCK_OK);
  const size_t sent = w->sent[0];
  run_until(w, w->now_us + 100 * SEC);
  ck_assert_uint_ge(w->sent[0], sent + 4);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  world_free(w);

  w = world_new(2); /* nor by HTTPS */
  w->stun_us[0] = w->stun_us[1] = SILENT;
  w->regions[0].avoid = true;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, w->now_us + 6 * SEC);
  ck_assert_uint_eq(w->requests[0], 0);
  ck_assert_uint_eq(w->requests[1], 1);
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  world_free(w);
}
END_TEST

START_TEST(names_are_resolved_and_not_counted_in_the_latency) {
  world *w = world_new(1);
  const uint64_t t0 = w->now_us;
  w->nodes[0].v4 = MSOCK_DERP_FAMILY_RESOLVE;
  w->nodes[0].v6 = MSOCK_DERP_FAMILY_RESOLVE;
  w->dns_us = 300 * MS;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, t0 + 310 * MS);
  ck_assert_uint_eq(w->lookups, 1);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  ck_assert_uint_eq(report(w)->regions[0].v4_us, 10 * MS);
  run_until(w, t0 + 100 * SEC);
  ck_assert_uint_eq(w->lookups, 1); /* known until the next full round */
  run_until(w, t0 + 400 * SEC);
  ck_assert_uint_eq(w->lookups, 2);
  world_free(w);

  w = world_new(1); /* a host name that is an address needs no look-up */
  w->nodes[0].v4 = MSOCK_DERP_FAMILY_RESOLVE;
  memcpy(w->nodes[0].host_name, "192.0.2.1", 10);
  world_config(w, (msock_home_config){.no_names = true});
  start(w);
  run_until(w, w->now_us + 10 * MS);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  world_free(w);
}
END_TEST

/* closes: NC-21 */
START_TEST(without_names_a_name_only_node_gets_no_packet_and_no_lookup) {
  world *w = world_new(2);
  w->nodes[0].v4 = MSOCK_DERP_FAMILY_RESOLVE;
  world_config(w, (msock_home_config){.no_names = true});
  start(w);
  run_until(w, w->now_us + 4 * SEC);
  ck_assert_uint_eq(w->lookups, 0);
  ck_assert_uint_eq(w->sent[0] + w->requests[0], 0);
  ck_assert_uint_eq(msock_home_get_stats(w->h).stun_skipped_name, 1);
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  world_free(w);
}
END_TEST

START_TEST(a_failed_name_or_a_refused_node_makes_room_for_the_next) {
  world *w = world_new(2);
  msock_derp_node both[2] = {w->nodes[0], w->nodes[1]};
  const uint64_t t0 = w->now_us;
  both[0].v4 = MSOCK_DERP_FAMILY_RESOLVE;
  w->regions[0].nodes = both;
  w->regions[0].n_nodes = 2;
  w->map.n_regions = 1;
  world_config(w, (msock_home_config){.no_stun = true});
  start(w);
  msock_home_output o;
  ck_assert(msock_home_next_output(w->h, t0, &o));
  ck_assert_int_eq(o.kind, MSOCK_HOME_RESOLVE);
  ck_assert_str_eq(o.host, "derp1.example");
  ck_assert(!msock_home_next_output(w->h, t0, &o) || o.kind != MSOCK_HOME_RESOLVE);
  msock_home_on_resolved(w->h, t0 + MS, o.id ^ 1u, NULL, 0); /* nobody asked that */
  ck_assert(!msock_home_next_output(w->h, t0 + MS, &o));
  msock_home_link_changed(w->h, t0 + 2 * MS);
  ck_assert(msock_home_next_output(w->h, t0 + 2 * MS, &o));
  ck_assert_int_eq(o.kind, MSOCK_HOME_RESOLVE);
  const uint32_t id = o.id;
  msock_home_on_resolved(w->h, t0 + 3 * MS, id, NULL, 0);
  ck_assert(msock_home_next_output(w->h, t0 + 3 * MS, &o));
  ck_assert_int_eq(o.kind, MSOCK_HOME_HTTPS_PROBE);
  ck_assert_uint_eq(o.node, 1);
  ck_assert_uint_eq(o.addr.ip.b[3], 2);
  world_free(w);
}
END_TEST

/* closes: NC-08 */
START_TEST(mapping_varies_needs_two_servers) {
  static const struct {
    size_t servers;
    uint16_t step;
    msock_tristate want;
  } cases[] = {{1, 0, MSOCK_TRISTATE_UNKNOWN},
               {2, 0, MSOCK_TRISTATE_FALSE},
               {2, 1, MSOCK_TRISTATE_TRUE},
               {3, 1, MSOCK_TRISTATE_TRUE}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    world *w = world_new(cases[i].servers);
    w->port_step = cases[i].step;
    world_config(w, (msock_home_config){0});
    start(w);
    run_until(w, w->now_us + 4 * SEC);
    ck_assert_int_eq(report(w)->mapping_varies, cases[i].want);
    ck_assert_uint_eq(report(w)->global_v4.port, 40000); /* of the first answer */
    world_free(w);
  }
}
END_TEST

/* closes: NC-06 */
START_TEST(the_third_region_starts_the_stop_timer) {
  world *w = world_new(5);
  const uint64_t t0 = w->now_us;
  w->stun_us[3] = 300 * MS;
  w->stun_us[4] = SILENT;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, t0 + (30 + 60) * MS - 1); /* full: twice the slowest of three */
  ck_assert(!report(w)->final);
  run_until(w, t0 + (30 + 60) * MS);
  ck_assert(report(w)->final);
  ck_assert_uint_eq(report(w)->regions[3].best_us, 0);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  world_free(w);

  w = world_new(4); /* incremental: once the slowest. Home is asked beside the fastest three */
  world_config(w, (msock_home_config){0});
  w->stun_us[3] = 5 * MS;
  start(w);
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 4);
  for (size_t i = 0; i < 3; i++) {
    w->stun_us[i] = (30 + i) * MS; /* nearer now, but not by enough to move */
  }
  w->stun_us[3] = 35 * MS;
  run_until(w, w->now_us + 60 * SEC); /* two rounds: home has become the fourth */
  ck_assert_uint_eq(msock_home_region(w->h), 4);
  w->stun_us[3] = SILENT;
  const uint64_t begin = msock_home_next_expiry(w->h);
  run_until(w, begin + (32 + 32) * MS - 1);
  ck_assert(report(w)->at_us < begin || !report(w)->final);
  run_until(w, begin + (32 + 32) * MS);
  ck_assert(report(w)->at_us > begin && report(w)->final && !report(w)->full);
  world_free(w);
}
END_TEST

/* closes: NC-18 (gaps) NC-19 */
START_TEST(rounds_repeat_every_20_to_26_seconds_and_are_full_every_5_minutes) {
  world *w = world_new(6);
  uint64_t last = 0;
  bool was_full = true;
  const uint64_t t0 = w->now_us;
  uint64_t last_full = t0;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, t0 + 2 * SEC);
  last = report(w)->at_us;
  ck_assert_uint_ne(w->sent[5], 0);
  for (int round = 0; round < 40; round++) {
    const size_t sent = w->sent[5]; /* the slowest: in full rounds only */
    run_until(w, last + 20 * SEC - 1);
    ck_assert_uint_eq(report(w)->at_us, last);
    ck_assert_uint_eq(w->sent[5], sent);
    run_until(w, last + 26 * SEC + SEC);
    const uint64_t now = report(w)->at_us;
    ck_assert_uint_gt(now, last);
    was_full = w->sent[5] > sent;
    ck_assert_int_eq(was_full, now - last_full >= 300 * SEC + 100 * MS);
    last_full = was_full ? now : last_full;
    last = now;
  }
  world_free(w);
}
END_TEST

START_TEST(home_is_stable_and_moves_for_a_clear_gain) {
  world *w = world_new(2);
  world_config(w, (msock_home_config){0});
  w->stun_us[0] = 30 * MS;
  w->stun_us[1] = 40 * MS;
  start(w);
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  w->stun_us[1] = 21 * MS; /* better, but by less than 10 ms */
  msock_home_probe(w->h, w->now_us);
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  w->stun_us[0] = 60 * MS; /* now 10 ms and two thirds are exceeded */
  msock_home_probe(w->h, w->now_us);
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  ck_assert_uint_eq(w->n_changes, 2);
  world_free(w);
}
END_TEST

/* A frame of a moment ago keeps an unmeasured home, but not when its connection broke since. */
START_TEST(a_lost_home_is_left_at_once) {
  world *w = world_new(2);
  world_config(w, (msock_home_config){0});
  w->stun_us[0] = 30 * MS;
  w->stun_us[1] = 40 * MS;
  start(w);
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  w->stun_us[0] = SILENT;
  run_until(w, w->now_us + 10 * SEC);
  msock_home_on_derp_frame(w->h, w->now_us, 1);
  if (_i == 1) {
    msock_home_on_derp_lost(w->h, w->now_us, 1);
  }
  msock_home_probe(w->h, w->now_us);
  run_until(w, w->now_us + 6 * SEC);
  ck_assert_uint_eq(msock_home_region(w->h), _i == 1 ? 2 : 1);
  world_free(w);
}
END_TEST

/* closes: NC-15 */
START_TEST(without_control_an_existing_home_stays) {
  world *w = world_new(2);
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  msock_home_set_control_up(w->h, false);
  w->stun_us[0] = 500 * MS;
  msock_home_link_changed(w->h, w->now_us);
  run_until(w, w->now_us + 4 * SEC);
  ck_assert_uint_eq(report(w)->preferred, 2);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  msock_home_set_control_up(w->h, true);
  msock_home_probe(w->h, w->now_us);
  run_until(w, w->now_us + 4 * SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  world_free(w);
}
END_TEST

/* closes: NC-12 */
START_TEST(history_ends_after_5_minutes_and_5_seconds) {
  world *w = world_new(1);
  msock_derp_region two[2];
  msock_derp_node node = w->nodes[0];
  world_config(w, (msock_home_config){0});
  node.ipv4 = msock_ip_v4(192, 0, 2, 2);
  two[0] = w->regions[0];
  two[1] = (msock_derp_region){.id = 2, .score = 1.0, .nodes = &node, .n_nodes = 1};
  w->map = (msock_derp_map){two, 2};
  w->stun_us[0] = 20 * MS;
  w->stun_us[1] = 10 * MS; /* seen once as the fastest, then slow */
  start(w);
  run_until(w, w->now_us + SEC);
  const uint64_t seen_at = report(w)->at_us;
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  w->stun_us[1] = 200 * MS;
  run_until(w, seen_at + 300 * SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 2); /* by its best */
  run_until(w, seen_at + 305 * SEC + 27 * SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  ck_assert_uint_gt(w->changed_at[1], seen_at + 305 * SEC);
  world_free(w);
}
END_TEST

START_TEST(a_changed_map_starts_over_and_an_equal_one_does_not) {
  world *w = world_new(2);
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  const uint64_t rounds = msock_home_get_stats(w->h).rounds;
  ck_assert_int_eq(msock_home_set_map(w->h, w->now_us, &w->map), MSOCK_OK);
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(msock_home_get_stats(w->h).rounds, rounds);

  w->map = (msock_derp_map){&w->regions[1], 1}; /* home is gone */
  ck_assert_int_eq(msock_home_set_map(w->h, w->now_us, &w->map), MSOCK_OK);
  run_until(w, w->now_us + 20 * MS);
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  ck_assert_int_eq(msock_home_set_map(w->h, w->now_us, NULL), MSOCK_OK);
  ck_assert_uint_eq(msock_home_next_expiry(w->h), MSOCK_NEVER);
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  world_free(w);
}
END_TEST

START_TEST(answers_are_taken_only_from_the_server_and_within_a_round) {
  world *w = world_new(1);
  msock_home_output o;
  uint8_t p[64];
  world_config(w, (msock_home_config){0});
  start(w);
  ck_assert(msock_home_next_output(w->h, w->now_us, &o));
  ck_assert_int_eq(o.kind, MSOCK_HOME_SEND_STUN);
  const event e = {.cause = o};
  const size_t n = world_answer(w, &e, p);
  msock_addr other = o.addr;
  other.port++;
  ck_assert(msock_home_on_udp(w->h, w->now_us, &other, p, n));
  ck_assert(!msock_home_report_of(w->h)->udp);
  ck_assert_uint_eq(msock_home_get_stats(w->h).rx_wrong_source, 1);
  p[n - 1] ^= 1;
  p[25] = 3; /* a family that does not exist */
  ck_assert(msock_home_on_udp(w->h, w->now_us, &o.addr, p, n));
  ck_assert_uint_eq(msock_home_get_stats(w->h).rx_malformed, 1);
  p[n - 1] ^= 1;
  p[25] = 1; /* the transaction is still open */
  ck_assert(msock_home_on_udp(w->h, w->now_us + MS, &o.addr, p, n));
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  ck_assert(msock_home_on_udp(w->h, w->now_us + MS, &o.addr, p, n)); /* consumed, no effect */
  ck_assert_uint_eq(msock_home_get_stats(w->h).rx_unknown, 1);
  ck_assert(msock_home_on_udp(w->h, w->now_us + MS, &o.addr, o.bytes, o.len)); /* our own request */
  static const uint8_t wireguard[32] = {4};
  ck_assert(!msock_home_on_udp(w->h, w->now_us, &o.addr, wireguard, sizeof wireguard));
  world_free(w);
}
END_TEST

/* closes: T33 (which form goes where) */
START_TEST(a_plain_server_gets_the_plain_request) {
  for (int plain = 0; plain < 2; plain++) {
    world *w = world_new(1);
    msock_home_output o;
    w->nodes[0].stun_plain = plain;
    world_config(w, (msock_home_config){0});
    start(w);
    ck_assert(msock_home_next_output(w->h, w->now_us, &o));
    ck_assert_uint_eq(o.len, plain ? 20 : 40);
    ck_assert_uint_eq(o.bytes[3], plain ? 0 : 20); /* the length field */
    world_free(w);
  }
}
END_TEST

START_TEST(stop_ends_all_output) {
  world *w = world_new(2);
  msock_home_output o;
  world_config(w, (msock_home_config){0});
  start(w);
  msock_home_stop(w->h);
  ck_assert(!msock_home_next_output(w->h, w->now_us, &o));
  ck_assert_uint_eq(msock_home_next_expiry(w->h), MSOCK_NEVER);
  msock_home_start(w->h, w->now_us);
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  world_free(w);
}
END_TEST

START_TEST(every_random_world_ends_its_rounds_with_a_home) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, (uint64_t)_i);
  for (int run = 0; run < 40; run++) {
    world *w = world_new(1 + (size_t)msock_env_uniform(&env, SERVERS));
    for (size_t i = 0; i < w->map.n_regions; i++) {
      w->stun_us[i] = msock_env_uniform(&env, 3) ? SILENT : 1 + msock_env_uniform(&env, 900 * MS);
      w->https_us[i] = msock_env_uniform(&env, 3) ? SILENT : 1 + msock_env_uniform(&env, 3 * SEC);
      if (msock_env_uniform(&env, 3) == 0) {
        w->nodes[i].v4 = MSOCK_DERP_FAMILY_RESOLVE;
      }
      if (msock_env_uniform(&env, 6) == 0) {
        w->nodes[i].stun_port = 0;
      }
    }
    w->dns_us = msock_env_uniform(&env, 2 * SEC);
    world_config(w, (msock_home_config){0});
    const uint64_t t0 = w->now_us;
    start(w);
    for (int k = 0; k < 20; k++) {
      const uint64_t at = w->now_us + msock_env_uniform(&env, 8 * SEC);
      run_until(w, at);
      switch (msock_env_uniform(&env, 4)) {
      case 0:
        msock_home_probe(w->h, w->now_us);
        break;
      case 1:
        w->stun_us[0] = 1 + msock_env_uniform(&env, 900 * MS);
        break;
      default:
        break;
      }
      ck_assert(msock_home_region(w->h) != 0 || w->now_us - t0 < 5 * SEC);
    }
    world_free(w);
  }
}
END_TEST

/* The choice alone: netcheck.md 2.6. Region 1 is home, region 2 the rival; milliseconds. */
static const struct {
  const char *name;
  uint64_t home_now, home_best, rival_now, rival_best, heard_s;
  msock_region_id want;
} choices[] = {
    {"equal", 30, 30, 30, 30, UINT64_MAX, 1},
    {"9 ms better", 29, 29, 20, 20, UINT64_MAX, 1},
    {"10 ms better, not two thirds", 40, 40, 30, 30, UINT64_MAX, 1},
    {"10 ms better and just two thirds", 30, 30, 20, 20, UINT64_MAX, 2},
    {"10 ms better, just over two thirds", 33, 33, 23, 23, UINT64_MAX, 1},
    {"far better", 100, 100, 10, 10, UINT64_MAX, 2},
    {"home is worse now, best of all by history", 100, 5, 10, 10, UINT64_MAX, 1},
    {"the rival was better once", 30, 30, 30, 15, UINT64_MAX, 2},
    {"home not measured, silent", 0, 0, 50, 50, UINT64_MAX, 2},
    {"home not measured, heard 8 s ago", 0, 0, 5, 5, 8, 1},
    {"home not measured, heard 9 s ago", 0, 0, 5, 5, 9, 2},
    {"nobody measured, heard 119 s ago", 0, 30, 0, 20, 119, 1},
    {"nobody measured, heard 121 s ago", 0, 30, 0, 20, 121, 0},
    {"nobody measured, never heard", 0, 30, 0, 20, UINT64_MAX, 0},
};
/* closes: NC-10 NC-13 */
START_TEST(the_choice_has_hysteresis) {
  const uint64_t heard =
      choices[_i].heard_s == UINT64_MAX ? MSOCK_NEVER : choices[_i].heard_s * SEC;
  const msock_choice_region in[] = {
      {1, true, choices[_i].home_now * MS, choices[_i].home_best * MS, heard},
      {2, true, choices[_i].rival_now * MS, choices[_i].rival_best * MS, MSOCK_NEVER},
  };
  ck_assert_msg(msock_choice_pick(in, 2, 1, 3 * SEC) == choices[_i].want, "%s", choices[_i].name);
}
END_TEST

START_TEST(the_choice_without_a_home_and_its_edges) {
  msock_choice_region in[] = {{1, true, 30 * MS, 30 * MS, MSOCK_NEVER},
                              {2, true, 30 * MS, 30 * MS, MSOCK_NEVER},
                              {3, false, 1 * MS, 1 * MS, MSOCK_NEVER}};
  ck_assert_uint_eq(msock_choice_pick(in, 3, 0, SEC), 1); /* a tie is stable */
  ck_assert_uint_eq(msock_choice_pick(in, 3, 9, SEC), 1); /* home is not in the map */
  ck_assert_uint_eq(msock_choice_pick(in, 3, 3, SEC), 1); /* home may not be one any more */
  ck_assert_uint_eq(msock_choice_pick(in, 0, 1, SEC), 0);
  in[1].heard_us = 12 * SEC; /* since the round began */
  in[1].now_us = 0;
  ck_assert_uint_eq(msock_choice_pick(in, 3, 2, 12 * SEC), 2);
  ck_assert_uint_eq(msock_choice_pick(in, 3, 2, 12 * SEC - 1), 1);
  in[0].can_be_home = false;
  ck_assert_uint_eq(msock_choice_blind(in, 3), 2);
  ck_assert_uint_eq(msock_choice_blind(in, 1), 0);
}
END_TEST

/* closes: NC-11 */
START_TEST(a_score_scales_a_region) {
  world *w = world_new(2); /* 10 and 20 ms */
  w->stun_us[1] = 19 * MS;
  w->regions[1].score = 0.5;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  ck_assert_uint_eq(report(w)->regions[1].best_us, 19 * MS); /* reported as measured */
  world_free(w);
}
END_TEST

/* closes: NC-01 (both families) */
START_TEST(the_full_plan_is_three_probes_for_each_region_and_family) {
  const msock_plan_region in[] = {{.v4 = true, .v6 = true, .last_us = 5 * MS},
                                  {0}, /* nobody to ask there */
                                  {.v6 = true, .home = true},
                                  {.v4 = true}};
  static const struct {
    size_t region;
    uint8_t family;
  } want[] = {{0, 4}, {0, 6}, {2, 6}, {3, 4}};
  msock_plan_set s[8];
  ck_assert_uint_eq(msock_plan_full(in, 4, s), 4);
  for (size_t i = 0; i < 4; i++) {
    ck_assert_uint_eq(s[i].region, want[i].region);
    ck_assert_uint_eq(s[i].family, want[i].family);
    ck_assert_uint_eq(s[i].tries, 3);
    for (size_t k = 0; k < 3; k++) {
      ck_assert_uint_eq(s[i].delay_us[k], k * 100 * MS);
    }
  }
}
END_TEST

/* closes: NC-02 */
START_TEST(incremental_plan) {
  const msock_plan_region in[] = {
      {.v4 = true, .last_us = 50 * MS},         {.v4 = true, .last_us = 10 * MS},
      {.v4 = true, .last_us = 30 * MS},         {.v4 = true, .last_us = 20 * MS},
      {.v4 = true, .last_us = 0, .home = true}, {.last_us = 1 * MS},
  };
  msock_plan_set s[12];
  ck_assert_uint_eq(msock_plan_incremental(in, 6, true, false, s), 4);
  ck_assert_uint_eq(s[0].region, 1);
  ck_assert_uint_eq(s[0].tries, 2);
  ck_assert_uint_eq(s[0].delay_us[0], 0);
  ck_assert_uint_eq(s[0].delay_us[1], 12 * MS);
  ck_assert_uint_eq(s[1].region, 2);
  ck_assert_uint_eq(s[1].tries, 1);
  ck_assert_uint_eq(s[2].region, 3);
  ck_assert_uint_eq(s[2].tries, 2);
  ck_assert_uint_eq(s[2].delay_us[1], 24 * MS);
  ck_assert_uint_eq(s[3].region, 4);
  ck_assert_uint_eq(s[3].tries, 4);
  ck_assert_uint_eq(s[3].delay_us[1], 200 * MS);
  ck_assert_uint_eq(s[3].delay_us[2], 400 * MS + 100 * MS);
  ck_assert_uint_eq(s[3].delay_us[3], 600 * MS + 150 * MS);
}
END_TEST

/* closes: NC-02 */
START_TEST(incremental_plan_of_two_families) {
  const msock_plan_region in[] = {
      {.v4 = true, .v6 = true, .last_us = 10 * MS},
      {.v4 = true, .v6 = true, .last_us = 20 * MS},
      {.v4 = true, .v6 = true, .last_us = 30 * MS},
      {.v4 = true, .v6 = true, .last_us = 40 * MS},
  };
  msock_plan_set s[8];
  ck_assert_uint_eq(msock_plan_incremental(in, 4, true, true, s), 5);
  static const uint8_t both[] = {4, 6, 4, 6, 4}; /* the third, rank 2: IPv4 only */
  for (size_t i = 0; i < 5; i++) {
    ck_assert_uint_eq(s[i].family, both[i]);
  }
  ck_assert_uint_eq(s[1].tries, 2);
  ck_assert_uint_eq(msock_plan_incremental(in, 4, true, false, s), 5);
  static const uint8_t without[] = {4, 6, 4, 6, 4}; /* IPv6 for the fastest two, once */
  for (size_t i = 0; i < 5; i++) {
    ck_assert_uint_eq(s[i].family, without[i]);
    ck_assert_uint_eq(s[i].tries, i == 4 || without[i] == 6 ? 1 : 2);
  }
}
END_TEST

START_TEST(ipv6_servers_are_asked_when_the_socket_can) {
  for (int on = 0; on < 2; on++) {
    world *w = world_new(1);
    w->nodes[0].v4 = MSOCK_DERP_FAMILY_OFF;
    w->nodes[0].v6 = MSOCK_DERP_FAMILY_LITERAL;
    w->nodes[0].ipv6 = (msock_ip){6, {0x20, 1, [15] = 1}};
    w->mapped = (msock_ip){6, {0x20, 1, [15] = 77}};
    world_config(w, (msock_home_config){.ipv6 = on});
    start(w);
    run_until(w, w->now_us + SEC);
    ck_assert_uint_eq(w->sent[0], on ? 1u : 0u);
    ck_assert_int_eq(report(w)->ipv6, on);
    ck_assert_uint_eq(report(w)->regions[0].v6_us, on ? 10 * MS : 0);
    ck_assert_uint_eq(report(w)->global_v6.ip.b[15], on ? 77 : 0);
    world_free(w);
  }
}
END_TEST

static void add_choices(TCase *tc) {
  tcase_add_loop_test(tc, the_choice_has_hysteresis, 0, sizeof choices / sizeof *choices);
  tcase_add_test(tc, the_choice_without_a_home_and_its_edges);
  tcase_add_test(tc, a_score_scales_a_region);
  tcase_add_test(tc, the_full_plan_is_three_probes_for_each_region_and_family);
  tcase_add_test(tc, incremental_plan);
  tcase_add_test(tc, incremental_plan_of_two_families);
  tcase_add_test(tc, ipv6_servers_are_asked_when_the_socket_can);
}

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, one_region_is_home_upon_its_first_answer);
  tcase_add_test(tc, all_answers_decide_at_once);
  tcase_add_loop_test(tc, a_silent_region_delays_the_first_choice_a_little, 0,
                      sizeof early / sizeof *early);
  tcase_add_test(tc, the_first_round_sends_three_probes_and_ends_in_time);
  tcase_add_test(tc, without_udp_https_decides);
  tcase_add_test(tc, without_stun_at_all_https_starts_at_once);
  tcase_add_test(tc, regions_and_nodes_that_are_not_asked);
  tcase_add_test(tc, a_region_to_avoid_is_asked_once_or_while_it_is_home);
  tcase_add_test(tc, names_are_resolved_and_not_counted_in_the_latency);
  tcase_add_test(tc, without_names_a_name_only_node_gets_no_packet_and_no_lookup);
  tcase_add_test(tc, a_failed_name_or_a_refused_node_makes_room_for_the_next);
  tcase_add_test(tc, mapping_varies_needs_two_servers);
  tcase_add_test(tc, the_third_region_starts_the_stop_timer);
  tcase_add_test(tc, rounds_repeat_every_20_to_26_seconds_and_are_full_every_5_minutes);
  tcase_add_test(tc, home_is_stable_and_moves_for_a_clear_gain);
  tcase_add_loop_test(tc, a_lost_home_is_left_at_once, 0, 2);
  tcase_add_test(tc, without_control_an_existing_home_stays);
  tcase_add_test(tc, history_ends_after_5_minutes_and_5_seconds);
  tcase_add_test(tc, a_changed_map_starts_over_and_an_equal_one_does_not);
  tcase_add_test(tc, answers_are_taken_only_from_the_server_and_within_a_round);
  tcase_add_test(tc, a_plain_server_gets_the_plain_request);
  tcase_add_test(tc, stop_ends_all_output);
  tcase_add_loop_test(tc, every_random_world_ends_its_rounds_with_a_home, 0, 5);
  add_choices(tc);
  return testing_main("home", tc);
}
