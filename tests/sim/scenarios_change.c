/* Something happens to a running tailnet: traffic goes on within a bound, and paths come back. */
#include <stdlib.h>

#include "tests/sim/lab.h"

#define FIRST_US (5 * MSOCK_SEC)  /* until direct, from the first packet */
#define QUIET_US (10 * MSOCK_SEC) /* of steady traffic before something happens */
#define LOST_US (4200 * MSOCK_MS) /* until traffic goes on: PATH-33, and one ping */
#define SEARCH_US                                                                                  \
  (12 * MSOCK_SEC) /* until direct again: a call-me-maybe each 5 s, and the search */

#define ONE_WAY_US                                                                                 \
  (12500 * UINT64_C(1)) /* of each host's link: 50 ms there and back, as PATH-33 has it */

/* Two that are direct, with steady traffic for a random while. */
static sim_couple direct_couple(sim_lab *l, sim_kind a, sim_kind b, const sim_options *o) {
  l->latency_us = ONE_WAY_US;
  sim_couple c = sim_lab_couple(l, a, b, o);
  l->outcome->direct_us = sim_lab_until_direct(l, c.a, c.b, FIRST_US);
  sim_lab_run(l, sim_lab_between(l, QUIET_US, 2 * QUIET_US));
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "the direct path did not last");
  sim_flow_reset(c.flow);
  return c;
}

static sim_couple relayed_couple(sim_lab *l, const sim_options *o) {
  l->latency_us = ONE_WAY_US;
  sim_couple c = sim_lab_couple(l, SIM_BLOCKED, SIM_PORT_RESTRICTED, o);
  sim_lab_run(l, sim_lab_between(l, QUIET_US, 2 * QUIET_US));
  sim_flow_reset(c.flow);
  return c;
}

/* --- UDP is blocked and free again --- */

typedef enum block { BLOCK_BOTH, BLOCK_IN, BLOCK_OUT } block;

static void udp_block_with(sim_lab *l, const sim_options *o, uint64_t left_us) {
  sim_couple c = direct_couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, o);
  sim_host *h = sim_node_host(c.a);
  sim_host_block_udp(h, l->a != BLOCK_OUT, l->a != BLOCK_IN);
  sim_lab_until_relayed(l, c.b, c.a, left_us);
  sim_lab_until_relayed(l, c.a, c.b, left_us);
  sim_lab_run(l, 30 * MSOCK_SEC);
  sim_expect(l, !sim_node_is_direct(c.a, c.b) && !sim_node_is_direct(c.b, c.a),
             "direct although UDP is blocked");
  sim_lab_expect_why(l, c.b, c.a, "was lost");
  sim_lab_expect_gap(l, c.flow, left_us + 500 * MSOCK_MS);
  sim_host_block_udp(h, false, false);
  sim_lab_until_direct(l, c.a, c.b, SEARCH_US);
  sim_lab_run(l, QUIET_US);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "the new direct path did not last");
  sim_lab_expect_gap(l, c.flow, left_us + 500 * MSOCK_MS);
}

/* closes: PATH-33 */
static void udp_block(sim_lab *l) {
  udp_block_with(l, NULL, 4 * MSOCK_SEC);
}

static void udp_block_slow(sim_lab *l) {
  udp_block_with(l, &(sim_options){.fast_failover_off = true},
                 6600 * MSOCK_MS); /* 6.5 s from a pong that was under way */
}

/* --- the boxes and addresses --- */

static void nat_flush(sim_lab *l) {
  sim_couple c = direct_couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, NULL);
  sim_nat_drop_mappings(c.box_a);
  sim_lab_run(l, 30 * MSOCK_SEC);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "not direct 30 s after the NAT forgot its mappings");
  sim_lab_expect_gap(l, c.flow, LOST_US);
}

static void nat_renumber(sim_lab *l) {
  sim_couple c = direct_couple(l, SIM_PORT_RESTRICTED, (sim_kind)l->b, NULL);
  sim_nat_renumber(c.box_a, NULL);
  sim_lab_run(l, 40 * MSOCK_SEC);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "not direct 40 s after the public address changed");
  sim_lab_expect_gap(l, c.flow, l->b == SIM_PUBLIC ? 1500 * MSOCK_MS : LOST_US);
}

static void nat_reboot(sim_lab *l) {
  sim_couple c = direct_couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, NULL);
  sim_nat_reboot(c.box_a, 20 * MSOCK_SEC);
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "not direct 40 s after the NAT was back");
  sim_lab_expect_gap(l, c.flow, 22 * MSOCK_SEC);
}

/* From one network into another, behind another box. */
static void roam(sim_lab *l) {
  sim_couple c = direct_couple(l, SIM_PORT_RESTRICTED, (sim_kind)l->b, NULL);
  sim_realm *to = sim_lab_realm(l, (sim_kind)l->a, sim_net_internet(l->net), NULL);
  sim_host_move(sim_node_host(c.a), 1, to, NULL);
  sim_lab_run(l, 30 * MSOCK_SEC);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "not direct 30 s after the host moved");
  sim_lab_expect_gap(l, c.flow, 1500 * MSOCK_MS);
}

static void link_down(sim_lab *l) {
  sim_couple c = direct_couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, NULL);
  sim_host_set_interface_up(sim_node_host(c.a), 1, false);
  sim_lab_run(l, 10 * MSOCK_SEC);
  sim_host_set_interface_up(sim_node_host(c.a), 1, true);
  sim_lab_run(l, 30 * MSOCK_SEC);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "not direct 30 s after the link was back");
  sim_lab_expect_gap(l, c.flow, 11 * MSOCK_SEC);
}

/* --- the servers --- */

/* Those who are direct do not notice. */
static void relay_outage_direct(sim_lab *l) {
  sim_couple c = direct_couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, NULL);
  sim_relay_kill(l->relays[0]);
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_relay_start(l->relays[0]);
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_expect(l, l->watches[0].downgrades + l->watches[1].downgrades == 0, "a direct path was left");
  sim_lab_expect_gap(l, c.flow, 400 * MSOCK_MS);
}

/* The only relay is gone for a while, and no direct path is possible. */
static void relay_outage(sim_lab *l) {
  sim_couple c;
  sim_control_set_derp_map(l->control, l->relays, 1);
  c = relayed_couple(l, NULL);
  sim_relay_kill(l->relays[0]);
  sim_lab_run(l, 20 * MSOCK_SEC);
  sim_relay_start(l->relays[0]);
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_lab_expect_gap(l, c.flow, 22 * MSOCK_SEC);
}

/* There is another relay: traffic moves there, and may come back. */
static void relay_failover(sim_lab *l) {
  sim_couple c = relayed_couple(l, NULL);
  sim_relay_kill(l->relays[0]);
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_expect(l, sim_node_home(c.a) == 2 && sim_node_home(c.b) == 2,
             "home is region %u and %u, not the one that is left", (unsigned)sim_node_home(c.a),
             (unsigned)sim_node_home(c.b));
  sim_lab_expect_gap(l, c.flow, 5 * MSOCK_SEC);
  sim_relay_start(l->relays[0]);
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_lab_expect_gap(l, c.flow, 5 * MSOCK_SEC);
}

/* The admin takes the first region out of the map and puts another in. */
static void relay_move(sim_lab *l) {
  sim_couple c = relayed_couple(l, NULL);
  sim_lab_relay(l);
  sim_control_set_derp_map(l->control, l->relays + 1, 2);
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_expect(l, sim_node_home(c.a) != 1 && sim_node_home(c.b) != 1,
             "home is a region that is gone");
  sim_lab_expect_gap(l, c.flow, 1 * MSOCK_SEC);
}

static void control_outage(sim_lab *l) {
  sim_couple c = direct_couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, NULL);
  sim_control_kill(l->control);
  sim_lab_run(l, 30 * MSOCK_SEC);
  sim_lab_expect_gap(l, c.flow, 400 * MSOCK_MS);
  sim_nat_drop_mappings(c.box_b); /* paths are found without control, too */
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "no direct path without control");
  sim_lab_expect_gap(l, c.flow, LOST_US);
  sim_control_start(l->control);
  sim_node *late = sim_lab_node_behind(l, "late", SIM_PUBLIC, NULL, NULL);
  sim_node_start(late);
  sim_lab_until_up(l, late, 40 * MSOCK_SEC);
  sim_flow *f = sim_flow_start(c.a, late, SIM_PING_US, 64);
  sim_lab_until_direct(l, c.a, late, 70 * MSOCK_SEC);
  sim_lab_run(l, QUIET_US);
  sim_expect(l, sim_flow_get(f)->answered > 0, "the late node does not answer");
  sim_lab_expect_gap(l, c.flow, LOST_US);
}

/* --- clocks and processes --- */

static void suspend(sim_lab *l) {
  sim_couple c = direct_couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, NULL);
  const uint64_t for_us = (uint64_t)l->a * MSOCK_SEC;
  sim_node_suspend(c.b, for_us);
  sim_lab_run(l, for_us);
  sim_flow_reset(c.flow);
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "not direct 60 s after the sleep");
  sim_lab_expect_gap(l, c.flow, 1 * MSOCK_SEC);
}

static void wall_jump(sim_lab *l) {
  sim_couple c = direct_couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, NULL);
  sim_node_jump_wall_clock(c.a, (int64_t)l->a * (int64_t)MSOCK_SEC);
  sim_lab_run(l, 300 * MSOCK_SEC); /* over two rekeys */
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "the direct path did not last");
  sim_lab_expect_gap(l, c.flow, 400 * MSOCK_MS);
}

static void peer_restart(sim_lab *l) {
  sim_couple c = direct_couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, NULL);
  const uint64_t down_us = sim_lab_between(l, 100 * MSOCK_MS, 10 * MSOCK_SEC);
  sim_node_restart(c.b, l->a != 0, down_us);
  sim_lab_run(l, down_us);
  sim_flow_reset(c.flow);
  sim_lab_run(l, 30 * MSOCK_SEC);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "not direct 30 s after the start");
  sim_lab_expect_gap(l, c.flow, 2 * MSOCK_SEC);
}

static void rebind(sim_lab *l) {
  sim_couple c = direct_couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, NULL);
  for (int k = 0; k < 3; k++) {
    sim_node_rebind(k % 2 == 0 ? c.a : c.b);
    sim_lab_run(l, 20 * MSOCK_SEC);
    sim_expect(l, sim_lab_both_direct(c.a, c.b), "not direct 20 s after a rebind");
  }
  sim_lab_expect_gap(l, c.flow, 500 * MSOCK_MS);
}

static const sim_scenario all[] = {
    {"change/udp-block", udp_block, BLOCK_BOTH, 0, 0},
    {"change/udp-block-in", udp_block, BLOCK_IN, 0, 0},
    {"change/udp-block-out", udp_block, BLOCK_OUT, 0, 0},
    {"change/udp-block-no-fast-failover", udp_block_slow, BLOCK_BOTH, 0, 0},
    {"change/nat-flush", nat_flush, 0, 0, 0},
    {"change/nat-renumber", nat_renumber, 0, SIM_PORT_RESTRICTED, 0},
    {"change/nat-renumber-public-peer", nat_renumber, 0, SIM_PUBLIC, 0},
    {"change/nat-reboot", nat_reboot, 0, 0, 0},
    {"change/roam", roam, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, 0},
    {"change/roam-to-public", roam, SIM_PUBLIC, SIM_PORT_RESTRICTED, 0},
    {"change/roam-to-symmetric", roam, SIM_SYMMETRIC_RANDOM, SIM_RESTRICTED, 0},
    {"change/link-down", link_down, 0, 0, 0},
    {"change/relay-outage-direct", relay_outage_direct, 0, 0, 0},
    {"change/relay-outage", relay_outage, 0, 0, 0},
    {"change/relay-failover", relay_failover, 0, 0, 0},
    {"change/relay-move", relay_move, 0, 0, 0},
    {"change/control-outage", control_outage, 0, 0, 0},
    {"change/suspend-60s", suspend, 60, 0, 0},
    {"change/suspend-1h", suspend, 3600, 0, 0},
    {"change/wall-clock-forward", wall_jump, 3600, 0, 0},
    {"change/wall-clock-back", wall_jump, -3600, 0, 0},
    {"change/peer-killed", peer_restart, 0, 0, 0},
    {"change/peer-restarted", peer_restart, 1, 0, 0},
    {"change/rebind", rebind, 0, 0, 0},
};

const sim_scenario *sim_scenarios_change(size_t *n) {
  *n = sizeof all / sizeof *all;
  return all;
}
