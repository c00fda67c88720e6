/* What relays do to those who need them: restarts that are announced, and many clients at once. */
#include <stdio.h>

#include "tests/sim/lab.h"

#define FIRST_US (5 * MSOCK_SEC)
#define QUIET_US (10 * MSOCK_SEC)
#define STEADY_US (400 * MSOCK_MS) /* one lost ping */
#define UP_US (40 * MSOCK_SEC)
#define CROWD 16u

/* Two whose data goes by relay alone; regions: in the DERP map. */
static sim_couple relayed_couple(sim_lab *l, uint32_t regions) {
  sim_control_set_derp_map(l->control, l->relays, regions);
  sim_couple c = sim_lab_couple(l, SIM_BLOCKED, SIM_PORT_RESTRICTED, NULL);
  sim_lab_run(l, sim_lab_between(l, QUIET_US, 2 * QUIET_US));
  sim_flow_reset(c.flow);
  return c;
}

/* derpd is told to restart; its clients know before it goes, and when to come back: they wait for
 * it even if there is another region. It closes them within 3 s, is gone after 4 s and back after
 * up to 2 s more; the first try of a client may come a moment too early. */
static void drain(sim_lab *l) {
  sim_couple c = relayed_couple(l, (uint32_t)l->a);
  sim_relay_restart(l->relays[0], sim_lab_between(l, 0, 2 * MSOCK_SEC));
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_expect(l, sim_relay_is_running(l->relays[0]), "the relay is not back");
  sim_lab_expect_gap(l, c.flow, 8 * MSOCK_SEC);
}

static void drain_direct(sim_lab *l) {
  sim_couple c = sim_lab_couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, NULL);
  sim_lab_until_direct(l, c.a, c.b, FIRST_US);
  sim_lab_run(l, QUIET_US);
  sim_flow_reset(c.flow);
  sim_relay_restart(l->relays[0], MSOCK_SEC);
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_expect(l, l->watches[0].downgrades + l->watches[1].downgrades == 0, "a direct path was left");
  sim_lab_expect_gap(l, c.flow, STEADY_US);
}

/* Sixteen nodes without UDP, each talks to its neighbour; the relay crashes, all come back. */
static void crowd(sim_lab *l) {
  sim_node *n[CROWD];
  sim_flow *flow[CROWD] = {NULL};
  char name[16];
  sim_control_set_derp_map(l->control, l->relays, 1);
  for (uint32_t i = 0; i < CROWD; i++) {
    snprintf(name, sizeof name, "n%u", i);
    n[i] = sim_lab_node_behind(l, name, SIM_BLOCKED, NULL, NULL);
    sim_node_start(n[i]);
  }
  for (uint32_t i = 0; i < CROWD; i++) {
    sim_lab_until_up(l, n[i], UP_US);
    flow[i] = i > 0 ? sim_flow_start(n[i], n[i - 1], SIM_PING_US, 64) : NULL;
  }
  sim_lab_run(l, 30 * MSOCK_SEC);
  sim_expect(l, sim_relay_clients(l->relays[0]) == CROWD, "%zu nodes are at the relay",
             sim_relay_clients(l->relays[0]));
  for (uint32_t i = 1; i < CROWD; i++) {
    sim_flow_reset(flow[i]);
  }
  sim_lab_run(l, QUIET_US);
  for (uint32_t i = 1; i < CROWD; i++) {
    sim_lab_expect_gap(l, flow[i], STEADY_US);
  }
  sim_relay_kill(l->relays[0]);
  const uint64_t down_us = sim_lab_between(l, MSOCK_SEC, 20 * MSOCK_SEC);
  sim_lab_run(l, down_us);
  sim_relay_start(l->relays[0]);
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_expect(l, sim_relay_clients(l->relays[0]) == CROWD, "%zu nodes came back",
             sim_relay_clients(l->relays[0]));
  for (uint32_t i = 1; i < CROWD; i++) {
    sim_lab_expect_gap(l, flow[i], down_us + 8 * MSOCK_SEC);
  }
}

static const sim_scenario all[] = {
    {"relay/drain", drain, 1, 0, 0},
    {"relay/drain-two-regions", drain, 2, 0, 0},
    {"relay/drain-direct", drain_direct, 0, 0, 0},
    {"relay/crowd", crowd, 0, 0, 0},
};

const sim_scenario *sim_scenarios_relay(size_t *n) {
  *n = sizeof all / sizeof *all;
  return all;
}
