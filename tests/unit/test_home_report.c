/* What a round reports, where UDP is blocked and where it is not, and when rounds happen at all
 * (netcheck.md 2.1 to 2.5, 2.8). */
#include <stdlib.h>
#include <string.h>

#include "netcheck/captive.h"
#include "netcheck/home_internal.h"
#include "netcheck/nat.h"
#include "netcheck/plan.h"
#include "tests/unit/home_rig.h"

static void block_udp(world *w) {
  for (size_t i = 0; i < w->map.n_regions; i++) {
    w->stun_us[i] = SILENT;
  }
}

START_TEST(a_good_network_in_all_fields) {
  world *w = world_new(2);
  const uint64_t t0 = w->now_us;
  world_config(w, (msock_home_config){.os_has_ipv6 = true});
  start(w);
  run_until(w, t0 + SEC);
  const msock_home_report *r = report(w);
  ck_assert(r->final && r->full && r->udp && r->ipv4 && !r->ipv6);
  ck_assert(r->ipv4_can_send && !r->ipv6_can_send && r->os_has_ipv6);
  ck_assert_uint_eq(r->at_us, t0 + 20 * MS);
  ck_assert_int_eq(r->captive_portal, MSOCK_TRISTATE_UNKNOWN); /* nobody asked */
  ck_assert_int_eq(r->mapping_varies, MSOCK_TRISTATE_FALSE);
  ck_assert_uint_eq(r->global_v4.port, 40000);
  ck_assert_uint_eq(r->n_v4_counters, 1);
  ck_assert_uint_eq(r->v4_counters[0].n, 2);
  ck_assert_uint_eq(r->n_v6_counters, 0);
  ck_assert_uint_eq(r->preferred, 1);
  ck_assert_uint_eq(w->requests[0] + w->requests[1] + w->looks[0] + w->looks[1], 0);
  run_until(w, t0 + 30 * SEC);
  ck_assert(!report(w)->full); /* the second one */
  ck_assert(report(w)->os_has_ipv6);
  world_free(w);
}
END_TEST

START_TEST(can_send_is_what_the_system_says) {
  world *w = world_new(1);
  const uint64_t t0 = w->now_us;
  w->send_fails = 1;
  w->stun_us[0] = SILENT;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, t0 + 6 * SEC);
  ck_assert(!report(w)->ipv4_can_send && !report(w)->udp);
  ck_assert(report(w)->ipv4); /* by HTTPS */
  w->send_fails = 0;
  msock_home_probe(w->h, w->now_us);
  run_until(w, t0 + 12 * SEC);
  ck_assert(report(w)->ipv4_can_send && !report(w)->udp);
  world_free(w);
}
END_TEST

/* closes: NC-09 */
START_TEST(odd_sightings_are_not_advertised) {
  static const struct {
    const char *name;
    uint16_t port_step;
    size_t regions, counters, advertised;
    uint32_t first_n;
  } cases[] = {{"one mapping", 0, 3, 1, 1, 3},
               {"one for each server", 1, 3, 3, 1, 1},
               {"one answer", 0, 1, 1, 1, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    world *w = world_new(cases[i].regions);
    msock_addr out[4];
    w->port_step = cases[i].port_step;
    world_config(w, (msock_home_config){0});
    start(w);
    run_until(w, w->now_us + SEC);
    const msock_home_report *r = report(w);
    ck_assert_uint_eq(r->global_v4.port, 40000); /* of the first answer, region 1's */
    ck_assert_msg(r->n_v4_counters == cases[i].counters, "%s", cases[i].name);
    ck_assert_uint_eq(r->v4_counters[0].n, cases[i].first_n);
    ck_assert_msg(msock_home_reflexive(r, out, 4) == cases[i].advertised, "%s", cases[i].name);
    ck_assert(msock_addr_equal(&out[0], &r->global_v4));
    world_free(w);
  }
}
END_TEST

/* closes: NC-09 */
START_TEST(a_second_mapping_seen_twice_is_advertised) {
  msock_home_report r = {0};
  msock_addr out[4];
  r.global_v4 = (msock_addr){msock_ip_v4(203, 0, 113, 7), 1};
  r.global_v6 = (msock_addr){{6, {0x20, 1, [15] = 7}}, 1};
  r.v4_counters[0] = (msock_home_counter){r.global_v4, 1};
  r.v4_counters[1] = (msock_home_counter){{msock_ip_v4(203, 0, 113, 7), 2}, 1};
  r.v4_counters[2] = (msock_home_counter){{msock_ip_v4(203, 0, 113, 7), 3}, 2};
  r.n_v4_counters = 3;
  r.v6_counters[0] = (msock_home_counter){r.global_v6, 9};
  r.n_v6_counters = 1;
  ck_assert_uint_eq(msock_home_reflexive(&r, out, 4), 3);
  ck_assert_uint_eq(out[0].port, 1);
  ck_assert_uint_eq(out[1].port, 3);
  ck_assert_uint_eq(out[2].ip.family, 6);
  ck_assert_uint_eq(msock_home_reflexive(&r, out, 1), 1); /* bounded */
  r.global_v4.ip.family = 0;
  r.n_v4_counters = 0;
  ck_assert_uint_eq(msock_home_reflexive(&r, out, 4), 1);
  ck_assert_uint_eq(out[0].ip.family, 6);
}
END_TEST

START_TEST(every_answer_is_told_with_its_server) {
  world *w = world_new(2);
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, w->now_us + 10 * MS);
  ck_assert_uint_eq(w->n_reflexive, 1);
  ck_assert_uint_eq(w->reflexive_server.ip.b[3], 1);
  ck_assert_uint_eq(w->reflexive.port, 40000);
  run_until(w, w->now_us + 10 * MS);
  ck_assert_uint_eq(w->n_reflexive, 2);
  ck_assert_uint_eq(w->reflexive_server.ip.b[3], 2);
  world_free(w);
}
END_TEST

/* closes: NC-16 (HTTPS; ICMP is not used) */
START_TEST(blocked_udp_is_measured_by_https_within_the_report) {
  world *w = world_new(3);
  const uint64_t t0 = w->now_us;
  block_udp(w);
  w->https_us[2] = SILENT;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, t0 + 1000 * MS + 30 * MS - 1);
  ck_assert(!report(w)->final);
  run_until(w, t0 + 5 * SEC);
  const msock_home_report *r = report(w);
  ck_assert(r->final && !r->udp && r->ipv4 && !r->ipv6);
  ck_assert_uint_eq(r->regions[0].https_us, 15 * MS);
  ck_assert_uint_eq(r->regions[0].best_us, 15 * MS);
  ck_assert_uint_eq(r->regions[0].v4_us, 0);
  ck_assert_uint_eq(r->regions[1].best_us, 30 * MS);
  ck_assert_uint_eq(r->regions[2].best_us, 0);
  ck_assert_uint_eq(r->preferred, 1);
  ck_assert_uint_eq(r->global_v4.ip.family, 0);
  ck_assert_int_eq(r->mapping_varies, MSOCK_TRISTATE_UNKNOWN);
  ck_assert_uint_eq(w->https_sent_at[0], t0 + 1000 * MS);
  world_free(w);
}
END_TEST

START_TEST(a_region_asks_its_next_node_after_two_seconds) {
  world *w = world_new(2);
  msock_derp_node both[2] = {w->nodes[0], w->nodes[1]};
  const uint64_t t0 = w->now_us;
  block_udp(w);
  w->regions[0].nodes = both;
  w->regions[0].n_nodes = 2;
  w->map.n_regions = 1;
  w->https_us[0] = 3600 * SEC; /* swallowed */
  w->https_us[1] = 40 * MS;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, t0 + 3 * SEC - 1);
  ck_assert_uint_eq(w->requests[1], 0);
  run_until(w, t0 + 3 * SEC + 40 * MS);
  ck_assert_uint_eq(w->requests[0], 1);
  ck_assert_uint_eq(w->requests[1], 1);
  ck_assert(report(w)->final);
  ck_assert_uint_eq(report(w)->regions[0].https_us, 40 * MS);
  world_free(w);
}
END_TEST

START_TEST(an_ipv6_relay_is_asked_over_ipv6) {
  world *w = world_new(1);
  w->nodes[0].v4 = MSOCK_DERP_FAMILY_OFF;
  w->nodes[0].v6 = MSOCK_DERP_FAMILY_LITERAL;
  w->nodes[0].ipv6 = (msock_ip){6, {0x20, 1, [15] = 1}};
  block_udp(w);
  world_config(w, (msock_home_config){.ipv6 = true});
  start(w);
  run_until(w, w->now_us + 5 * SEC);
  ck_assert(report(w)->ipv6 && !report(w)->ipv4 && !report(w)->udp);
  world_free(w);
}
END_TEST

/* A latency of an old round or of a node that is not asked means nothing. */
START_TEST(stale_https_answers_are_ignored) {
  world *w = world_new(1);
  msock_home_output o;
  world_config(w, (msock_home_config){.no_stun = true, .no_captive = true});
  start(w);
  ck_assert(msock_home_next_output(w->h, w->now_us, &o));
  ck_assert_int_eq(o.kind, MSOCK_HOME_HTTPS_PROBE);
  ck_assert_uint_eq(o.budget_us, 2 * SEC);
  ck_assert_ptr_eq(o.target, &msock_home_map(w->h)->regions[0].nodes[0]);
  msock_home_on_https_result(w->h, w->now_us, o.id ^ 1u, 5 * MS);
  msock_home_on_https_result(w->h, w->now_us, o.id ^ (1u << 12), 5 * MS);
  ck_assert_uint_eq(msock_home_region(w->h), 0);
  const uint32_t old = o.id;
  msock_home_link_changed(w->h, w->now_us);
  ck_assert(msock_home_next_output(w->h, w->now_us, &o));
  msock_home_on_https_result(w->h, w->now_us, old, 5 * MS);
  ck_assert_uint_eq(msock_home_region(w->h), 0);
  msock_home_on_https_result(w->h, w->now_us, o.id, 7 * MS);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  ck_assert_uint_eq(report(w)->regions[0].https_us, 7 * MS);
  world_free(w);
}
END_TEST

/* The privacy profile: nothing but STUN to literals, then the lowest region that can be dialled. */
START_TEST(without_https_the_lowest_literal_region_is_home) {
  world *w = world_new(3);
  const uint64_t t0 = w->now_us;
  block_udp(w);
  w->nodes[0].v4 = MSOCK_DERP_FAMILY_RESOLVE;
  w->nodes[0].can_port80 = w->nodes[1].can_port80 = true;
  world_config(w, (msock_home_config){
                      .no_names = true, .no_https = true, .no_captive = true, .sweep = true});
  start(w);
  run_until(w, t0 + 5 * SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 2);
  ck_assert_uint_eq(w->changed_at[0], t0 + SEC);
  ck_assert_uint_eq(w->requests[0] + w->requests[1] + w->requests[2], 0);
  ck_assert_uint_eq(w->looks[0] + w->looks[1] + w->lookups, 0);
  ck_assert_uint_eq(w->sent[0], 0);
  ck_assert_uint_eq(w->sent[1], 1);
  world_free(w);
}
END_TEST

/* ... unless a relay that was dialled for other reasons is known to be nearer. */
START_TEST(without_https_relays_that_were_dialled_stand_in) {
  const msock_home_config private_config = {
      .no_names = true, .no_https = true, .no_captive = true, .sweep = true};
  world *w = world_new(3);
  block_udp(w);
  world_config(w, private_config);
  start(w);
  run_until(w, w->now_us + 5 * SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  msock_home_on_derp_connected(w->h, 1, 90 * MS);
  msock_home_on_derp_connected(w->h, 3, 40 * MS);
  msock_home_on_derp_connected(w->h, 77, 1 * MS); /* not in the map */
  run_until(w, w->now_us + 31 * SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 3);
  ck_assert_uint_eq(report(w)->regions[2].best_us, 0); /* not a latency of the report */
  w->stun_us[0] = 5 * MS;                              /* STUN counts alone when it works */
  run_until(w, w->now_us + 31 * SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  world_free(w);

  w = world_new(2); /* HTTPS measures: the dial does not count */
  block_udp(w);
  world_config(w, (msock_home_config){0});
  start(w);
  msock_home_on_derp_connected(w->h, 2, 1 * MS);
  run_until(w, w->now_us + 5 * SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 1);
  world_free(w);
}
END_TEST

/* Captive portals. */

static const struct {
  const char *name;
  int status;           /* of the answers on port 80; 0 = refused, -1 = silence */
  const char *response; /* NULL = a relay's */
  msock_tristate want;
} portals[] = {
    {"a relay", 204, NULL, MSOCK_TRISTATE_FALSE},
    {"a page", 200, "", MSOCK_TRISTATE_TRUE},
    {"a redirect", 302, "", MSOCK_TRISTATE_TRUE},
    {"204 without echo", 204, "", MSOCK_TRISTATE_TRUE},
    {"204 with another echo", 204, "response ts_192.0.2.9", MSOCK_TRISTATE_TRUE},
    {"a page with echo", 200, NULL, MSOCK_TRISTATE_TRUE},
    {"refused", 0, NULL, MSOCK_TRISTATE_FALSE},
    {"silence", -1, NULL, MSOCK_TRISTATE_FALSE},
};
/* closes: NC-17 */
START_TEST(captive_portals_are_told_from_relays) {
  world *w = world_new(2);
  const uint64_t t0 = w->now_us;
  block_udp(w);
  for (size_t i = 0; i < 2; i++) {
    w->nodes[i].can_port80 = true;
    w->captive[i] = portals[_i].status;
  }
  w->captive_response = portals[_i].response;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, t0 + 200 * MS - 1);
  ck_assert_uint_eq(w->looks[0] + w->looks[1], 0);
  run_until(w, t0 + 200 * MS);
  ck_assert_uint_eq(w->looks[0], 1);
  ck_assert_uint_eq(w->looks[1], 1);
  run_until(w, t0 + 5 * SEC);
  ck_assert(report(w)->final);
  ck_assert_msg(report(w)->captive_portal == portals[_i].want, "%s", portals[_i].name);
  /* whoever is held by a portal looks for it in every round */
  const bool again = portals[_i].want == MSOCK_TRISTATE_TRUE;
  run_until(w, t0 + 40 * SEC);
  ck_assert_uint_eq(w->looks[0], again ? 2 : 1);
  ck_assert_int_eq(report(w)->full, again);
  world_free(w);
}
END_TEST

START_TEST(who_is_asked_for_a_captive_portal) {
  world *w = world_new(6);
  const uint64_t t0 = w->now_us;
  for (size_t i = 0; i < 6; i++) {
    w->nodes[i].can_port80 = true;
  }
  w->nodes[1].can_port80 = false;
  w->nodes[2].v4 = MSOCK_DERP_FAMILY_RESOLVE;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, t0 + 5 * SEC); /* STUN works: nobody */
  for (size_t i = 0; i < 6; i++) {
    ck_assert_uint_eq(w->looks[i], 0);
  }
  block_udp(w);
  msock_home_probe(w->h, w->now_us);
  run_until(w, t0 + 12 * SEC);
  static const size_t want[] = {1, 0, 0, 1, 1, 1}; /* port 80 and a literal only */
  for (size_t i = 0; i < 6; i++) {
    ck_assert_uint_eq(w->looks[i], want[i]);
  }
  run_until(w, t0 + 60 * SEC); /* incremental rounds do not look */
  ck_assert_uint_eq(w->looks[0], 1);
  world_free(w);

  w = world_new(2); /* one answer is enough, however long the round goes on */
  w->nodes[0].can_port80 = w->nodes[1].can_port80 = true;
  w->stun_us[1] = SILENT;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, w->now_us + 5 * SEC);
  ck_assert_uint_eq(report(w)->at_us - t0, 3 * SEC);
  ck_assert_uint_eq(w->looks[0] + w->looks[1], 0);
  world_free(w);

  w = world_new(1); /* not where the profile forbids it */
  w->nodes[0].can_port80 = true;
  block_udp(w);
  world_config(w, (msock_home_config){.no_captive = true});
  start(w);
  run_until(w, w->now_us + 5 * SEC);
  ck_assert_uint_eq(w->looks[0], 0);
  ck_assert_int_eq(report(w)->captive_portal, MSOCK_TRISTATE_UNKNOWN);
  world_free(w);
}
END_TEST

START_TEST(home_is_asked_first_and_five_at_most) {
  world *w = world_new(6);
  const uint64_t t0 = w->now_us;
  msock_home_output o;
  size_t n = 0;
  for (size_t i = 0; i < 6; i++) {
    w->nodes[i].can_port80 = true;
    w->stun_us[i] = 40 * MS;
  }
  w->stun_us[5] = 10 * MS;
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, t0 + 5 * SEC);
  ck_assert_uint_eq(msock_home_region(w->h), 6);
  msock_home_link_changed(w->h, w->now_us);
  while (msock_home_next_output(w->h, w->now_us, &o)) {
  }
  const uint64_t later = w->now_us + 200 * MS;
  msock_home_on_expiry(w->h, later);
  while (msock_home_next_output(w->h, later, &o)) {
    if (o.kind == MSOCK_HOME_CAPTIVE_PROBE) {
      static const msock_region_id order[] = {6, 1, 2, 3, 4};
      char want[MSOCK_CAPTIVE_TEXT_MAX];
      ck_assert_uint_lt(n, 5);
      ck_assert_uint_eq(o.region, order[n++]);
      ck_assert_str_eq(o.challenge, msock_captive_challenge(&o.addr.ip, want));
      ck_assert_uint_eq(o.budget_us, 3 * SEC);
    }
  }
  ck_assert_uint_eq(n, 5);
  world_free(w);
}
END_TEST

/* When rounds happen. */

/* closes: NC-18 */
START_TEST(an_idle_node_stops_and_the_next_packet_starts_a_round) {
  world *w = world_new(1);
  const uint64_t t0 = w->now_us;
  world_config(w, (msock_home_config){0});
  start(w);
  w->idle = true;
  run_until(w, t0 + 45 * SEC);
  const size_t reports = w->reports; /* the rounds that began within 45 s of the start */
  ck_assert_uint_ge(reports, 2);
  for (size_t i = 1; i < reports; i++) {
    ck_assert_uint_ge(w->report_at[i] - w->report_at[i - 1], 20 * SEC);
    ck_assert_uint_le(w->report_at[i] - w->report_at[i - 1], 26 * SEC + 10 * MS);
  }
  run_until(w, t0 + 3600 * SEC);
  ck_assert_uint_eq(w->reports, reports);
  ck_assert_uint_eq(msock_home_next_expiry(w->h), MSOCK_NEVER);
  const size_t sent = w->sent[0];
  msock_home_on_activity(w->h, w->now_us);
  world_drain(w);
  ck_assert_uint_eq(w->sent[0], sent + 1); /* at once */
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(w->reports, reports + 1);
  ck_assert(report(w)->full); /* an hour later */
  /* a request does not wait for traffic */
  run_until(w, w->now_us + 3600 * SEC);
  msock_home_probe(w->h, w->now_us);
  const size_t before = w->reports;
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(w->reports, before + 1);
  world_free(w);
}
END_TEST

START_TEST(traffic_up_to_45_seconds_ago_keeps_the_rounds_going) {
  for (uint64_t extra = 0; extra < 2; extra++) {
    world *w = world_new(1);
    world_config(w, (msock_home_config){0});
    start(w);
    w->idle = true;
    run_until(w, w->now_us + SEC);
    const uint64_t due = msock_home_next_expiry(w->h);
    /* moved back so that the last packet is just 45 s old when the round is due, or older */
    const uint64_t shift = 45 * SEC + extra - (due - w->now_us);
    msock_home_on_activity(w->h, w->now_us - shift);
    const size_t reports = w->reports;
    run_until(w, due + SEC);
    ck_assert_uint_eq(w->reports, extra ? reports : reports + 1);
    world_free(w);
  }
}
END_TEST

START_TEST(a_wanted_full_report_is_the_next_or_the_one_under_way) {
  world *w = world_new(2);
  const uint64_t t0 = w->now_us;
  w->stun_us[0] = 50 * MS;
  world_config(w, (msock_home_config){0});
  ck_assert(!msock_home_want_full(w->h, w->now_us)); /* not started */
  msock_home_start(w->h, w->now_us);
  ck_assert(!msock_home_want_full(w->h, w->now_us)); /* no map */
  msock_home_stop(w->h);
  start(w);
  run_until(w, t0 + 10 * MS);
  ck_assert(msock_home_want_full(w->h, w->now_us)); /* a full one is under way: that one */
  run_until(w, t0 + SEC);
  ck_assert_uint_eq(msock_home_get_stats(w->h).rounds, 1);
  ck_assert(msock_home_want_full(w->h, w->now_us));
  run_until(w, t0 + 2 * SEC);
  ck_assert_uint_eq(msock_home_get_stats(w->h).rounds, 2);
  ck_assert(report(w)->full && report(w)->final);
  const uint64_t due = msock_home_next_expiry(w->h);
  run_until(w, due + 10 * MS); /* an incremental one is under way */
  ck_assert_uint_eq(msock_home_get_stats(w->h).rounds, 3);
  ck_assert(msock_home_want_full(w->h, w->now_us));
  run_until(w, due + SEC);
  ck_assert_uint_eq(msock_home_get_stats(w->h).rounds, 4);
  ck_assert(report(w)->full);
  world_free(w);
}
END_TEST

/* closes: T28 T31 PATH-25 PATH-32 (STUN) */
START_TEST(a_sweep_asks_each_literal_server_once_every_30_seconds) {
  world *w = world_new(5);
  const uint64_t t0 = w->now_us;
  w->nodes[3].v4 = w->nodes[4].v4 = MSOCK_DERP_FAMILY_RESOLVE;
  world_config(w, (msock_home_config){
                      .no_names = true, .no_https = true, .no_captive = true, .sweep = true});
  start(w);
  w->idle = true; /* from start, whatever the traffic */
  w->send_fails = 1;
  for (uint64_t k = 0; k < 4; k++) {
    run_until(w, t0 + k * 30 * SEC);
    for (size_t i = 0; i < 5; i++) {
      ck_assert_uint_eq(w->sent[i], i < 3 ? k + 1 : 0);
      ck_assert(i >= 3 || w->sent_at[i][k] == t0 + k * 30 * SEC);
    }
    run_until(w, t0 + (k + 1) * 30 * SEC - 1);
    ck_assert_uint_eq(w->sent[1], k + 1);
  }
  ck_assert_uint_eq(w->lookups, 0);
  ck_assert(report(w)->udp); /* by the two that answered */
  world_free(w);
}
END_TEST

/* closes: PATH-28 */
START_TEST(a_sweep_has_few_in_flight_for_5_s_and_strangers_teach_nothing) {
  world *w = world_new(SERVERS);
  msock_derp_node many[SERVERS][4]; /* 24 servers */
  for (size_t i = 0; i < SERVERS; i++) {
    for (size_t k = 0; k < 4; k++) {
      many[i][k] = w->nodes[i];
    }
    w->regions[i].nodes = many[i];
    w->regions[i].n_nodes = 4;
    w->stun_us[i] = SILENT;
  }
  world_config(w, (msock_home_config){
                      .no_names = true, .no_https = true, .no_captive = true, .sweep = true});
  start(w);
  const uint64_t t0 = w->now_us;
  run_until(w, t0 + 100 * MS);
  ck_assert_uint_gt(w->h->inflight.n, 0);
  ck_assert_uint_le(w->h->inflight.n, 16);
  /* An answer to nothing that was asked, from a server that was. */
  const msock_stun_txid invented = {{0xab, 1, 2, 3}};
  const msock_addr mapped = {.ip = msock_ip_v4(203, 0, 113, 66), .port = 6666};
  const msock_addr server = {.ip = msock_ip_v4(192, 0, 2, 1), .port = 3478};
  uint8_t p[MSOCK_STUN_RESPONSE_MAX];
  const ptrdiff_t n = msock_stun_encode_response(&invented, &mapped, false, p, sizeof p);
  ck_assert_int_gt(n, 0);
  ck_assert(msock_home_on_udp(w->h, w->now_us, &server, p, (size_t)n));
  world_drain(w);
  ck_assert_uint_eq(w->n_reflexive, 0);
  ck_assert_uint_eq(msock_home_get_stats(w->h).rx_unknown, 1);
  ck_assert_uint_eq(msock_home_region(w->h), 0);
  for (uint64_t s = 1; s < 100;
       s++) { /* rounds without an answer: never more, and none after 5 s */
    run_until(w, t0 + s * SEC);
    ck_assert_uint_le(w->h->inflight.n, 16);
    msock_stun_table_expire(&w->h->inflight, w->now_us);
    ck_assert(s % 30 < 5 || w->h->inflight.n == 0);
  }
  ck_assert(!report(w)->udp);
  world_free(w);
}
END_TEST

/* closes: T29 T32 */
START_TEST(a_sweep_without_servers_is_quiet) {
  world *w = world_new(1);
  w->nodes[0].v4 = MSOCK_DERP_FAMILY_OFF;
  w->nodes[0].v6 = MSOCK_DERP_FAMILY_LITERAL;
  w->nodes[0].ipv6 = (msock_ip){6, {0x20, 1, [15] = 1}};
  world_config(w, (msock_home_config){
                      .no_names = true, .no_https = true, .no_captive = true, .sweep = true});
  start(w);
  run_until(w, w->now_us + 100 * SEC);
  ck_assert_uint_eq(w->sent[0] + w->requests[0] + w->looks[0], 0);
  ck_assert(!report(w)->udp);
  world_free(w);
}
END_TEST

START_TEST(a_sweep_is_bounded_and_begins_at_home) {
  msock_plan_region in[4] = {{.servers = 3}, {.servers = 4}, {.servers = 2, .home = true}, {0}};
  msock_plan_set s[MSOCK_PLAN_SWEEP_MAX];
  static const struct {
    size_t region;
    uint8_t first;
  } want[MSOCK_PLAN_SWEEP_MAX] = {{2, 0}, {2, 1}, {0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}};
  ck_assert_uint_eq(msock_plan_sweep(in, 4, s), MSOCK_PLAN_SWEEP_MAX);
  for (size_t i = 0; i < MSOCK_PLAN_SWEEP_MAX; i++) {
    ck_assert_uint_eq(s[i].region, want[i].region);
    ck_assert_uint_eq(s[i].first, want[i].first);
    ck_assert_uint_eq(s[i].family, 4);
    ck_assert_uint_eq(s[i].tries, 1);
    ck_assert_uint_eq(s[i].delay_us[0], 0);
  }
  ck_assert_uint_eq(msock_plan_sweep(in + 3, 1, s), 0);
}
END_TEST

/* Two servers of one region are two servers: each is asked, and the mapping can be judged. */
START_TEST(a_sweep_asks_all_nodes_of_a_region) {
  world *w = world_new(2);
  msock_derp_node both[2] = {w->nodes[0], w->nodes[1]};
  w->regions[0].nodes = both;
  w->regions[0].n_nodes = 2;
  w->map.n_regions = 1;
  world_config(w, (msock_home_config){.no_names = true, .sweep = true});
  start(w);
  run_until(w, w->now_us + SEC);
  ck_assert_uint_eq(w->sent[0], 1);
  ck_assert_uint_eq(w->sent[1], 1);
  ck_assert_int_eq(report(w)->mapping_varies, MSOCK_TRISTATE_FALSE);
  world_free(w);
}
END_TEST

/* closes: PATH-27 */
START_TEST(a_late_map_is_probed_at_once) {
  world *w = world_new(1);
  const uint64_t t0 = w->now_us;
  world_config(w, (msock_home_config){.sweep = true, .no_names = true});
  msock_home_start(w->h, t0);
  run_until(w, t0 + SEC);
  ck_assert_uint_eq(w->sent[0], 0);
  ck_assert_int_eq(msock_home_set_map(w->h, w->now_us, &w->map), MSOCK_OK);
  run_until(w, t0 + SEC);
  ck_assert_uint_eq(w->sent_at[0][0], t0 + SEC);
  world_free(w);
}
END_TEST

/* The sentence. */

START_TEST(each_network_has_its_sentence) {
  const msock_addr public_addr = {msock_ip_v4(203, 0, 113, 7), 1};
  const msock_addr private_addr = {msock_ip_v4(10, 77, 0, 11), 1};
  const msock_addr none = {0};
  const struct {
    const char *what;
    bool udp;
    msock_addr v4;
    bool own;
    msock_tristate varies, captive;
    uint64_t https_us;
    bool https_asked;
    msock_nat want;
    const char *says;
  } cases[] = {
      {"blocked", false, none, false, 0, 0, 9, true, MSOCK_NAT_BLOCKED, "through relays only"},
      {"blocked, nobody asked relays", false, none, false, 0, 0, 0, false, MSOCK_NAT_BLOCKED,
       "UDP is blocked"},
      {"blocked, no portal", false, none, false, 0, MSOCK_TRISTATE_FALSE, 9, true,
       MSOCK_NAT_BLOCKED, "through relays only"},
      {"nothing", false, none, false, 0, 0, 0, true, MSOCK_NAT_OFFLINE, "no Internet"},
      {"portal", false, none, false, 0, MSOCK_TRISTATE_TRUE, 0, true, MSOCK_NAT_CAPTIVE,
       "log in to it"},
      {"public", true, public_addr, true, MSOCK_TRISTATE_FALSE, 0, 0, true, MSOCK_NAT_NONE,
       "No NAT: this node has a public address"},
      {"public, one answer", true, public_addr, true, 0, 0, 0, true, MSOCK_NAT_NONE, "No NAT"},
      {"own network", true, private_addr, true, 0, 0, 0, true, MSOCK_NAT_NONE_PRIVATE,
       "within this network"},
      {"easy", true, public_addr, false, MSOCK_TRISTATE_FALSE, 0, 0, true, MSOCK_NAT_EASY,
       "(easy NAT): direct paths will usually work"},
      {"hard", true, public_addr, false, MSOCK_TRISTATE_TRUE, 0, 0, true, MSOCK_NAT_HARD,
       "only towards peers with easy NAT or public addresses"},
      {"one server", true, public_addr, false, 0, 0, 0, true, MSOCK_NAT_ONE_ANSWER,
       "only one STUN server"},
      {"IPv6 alone", true, none, false, 0, 0, 0, true, MSOCK_NAT_IPV6_ONLY, "IPv6 only"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    msock_home_report r = {.at_us = 1,
                           .udp = cases[i].udp,
                           .global_v4 = cases[i].v4,
                           .mapping_varies = cases[i].varies,
                           .captive_portal = cases[i].captive,
                           .n_regions = 1};
    r.regions[0].best_us = cases[i].https_us;
    const msock_nat nat = msock_nat_of(&r, cases[i].own, cases[i].https_asked);
    ck_assert_msg(nat == cases[i].want, "%s", cases[i].what);
    ck_assert_msg(strstr(msock_nat_sentence(nat), cases[i].says) != NULL, "%s", cases[i].what);
    r.at_us = 0;
    ck_assert_int_eq(msock_nat_of(&r, cases[i].own, cases[i].https_asked), MSOCK_NAT_UNKNOWN);
  }
}
END_TEST

/* One sentence for every kind, no two alike. */
START_TEST(sentences_are_sentences) {
  for (unsigned i = 0; i < MSOCK_NAT_KINDS; i++) {
    const char *s = msock_nat_sentence((msock_nat)i);
    ck_assert_ptr_nonnull(s);
    ck_assert_int_eq(s[strlen(s) - 1], '.');
    ck_assert(s[0] >= 'A' && s[0] <= 'Z');
    for (unsigned k = 0; k < i; k++) {
      ck_assert_str_ne(s, msock_nat_sentence((msock_nat)k));
      ck_assert_str_ne(msock_nat_name((msock_nat)i), msock_nat_name((msock_nat)k));
    }
  }
}
END_TEST

/* closes: NC-25 */
START_TEST(no_packet_goes_to_our_own_mapped_address) { /* the rig checks every packet */
  world *w = world_new(2);
  world_config(w, (msock_home_config){0});
  start(w);
  run_until(w, w->now_us + 700 * SEC);
  ck_assert_uint_gt(w->reports, 20);
  msock_home_probe(w->h, w->now_us);
  run_until(w, w->now_us + 10 * SEC);
  world_free(w);
}
END_TEST

static void add_rounds(TCase *tc) {
  tcase_add_test(tc, an_idle_node_stops_and_the_next_packet_starts_a_round);
  tcase_add_test(tc, traffic_up_to_45_seconds_ago_keeps_the_rounds_going);
  tcase_add_test(tc, a_wanted_full_report_is_the_next_or_the_one_under_way);
  tcase_add_test(tc, a_sweep_asks_each_literal_server_once_every_30_seconds);
  tcase_add_test(tc, a_sweep_has_few_in_flight_for_5_s_and_strangers_teach_nothing);
  tcase_add_test(tc, a_sweep_without_servers_is_quiet);
  tcase_add_test(tc, a_sweep_is_bounded_and_begins_at_home);
  tcase_add_test(tc, a_sweep_asks_all_nodes_of_a_region);
  tcase_add_test(tc, a_late_map_is_probed_at_once);
  tcase_add_test(tc, no_packet_goes_to_our_own_mapped_address);
}

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, a_good_network_in_all_fields);
  tcase_add_test(tc, can_send_is_what_the_system_says);
  tcase_add_test(tc, odd_sightings_are_not_advertised);
  tcase_add_test(tc, a_second_mapping_seen_twice_is_advertised);
  tcase_add_test(tc, every_answer_is_told_with_its_server);
  tcase_add_test(tc, blocked_udp_is_measured_by_https_within_the_report);
  tcase_add_test(tc, a_region_asks_its_next_node_after_two_seconds);
  tcase_add_test(tc, an_ipv6_relay_is_asked_over_ipv6);
  tcase_add_test(tc, stale_https_answers_are_ignored);
  tcase_add_test(tc, without_https_the_lowest_literal_region_is_home);
  tcase_add_test(tc, without_https_relays_that_were_dialled_stand_in);
  tcase_add_loop_test(tc, captive_portals_are_told_from_relays, 0,
                      sizeof portals / sizeof *portals);
  tcase_add_test(tc, who_is_asked_for_a_captive_portal);
  tcase_add_test(tc, home_is_asked_first_and_five_at_most);
  tcase_add_test(tc, each_network_has_its_sentence);
  tcase_add_test(tc, sentences_are_sentences);
  add_rounds(tc);
  return testing_main("home_report", tc);
}
