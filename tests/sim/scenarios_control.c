/* What the control server does to a running tailnet: keys change, peers come and go, it is away, it
 * moves. The data plane does not depend on it (control.md 4.4; requirements.md section 6). */
#include <stdio.h>
#include <stdlib.h>

#include "control/netmap.h"
#include "tests/sim/lab.h"

#define FIRST_US (5 * MSOCK_SEC)
#define QUIET_US (10 * MSOCK_SEC)
#define SEARCH_US (12 * MSOCK_SEC)
#define UP_US (40 * MSOCK_SEC)     /* a login that found no server: back-off up to 30 s */
#define STEADY_US (400 * MSOCK_MS) /* one lost ping */
#define CROWD 12u
#define CROWD_FAKES 1000u

static sim_couple direct_couple(sim_lab *l) {
  sim_couple c = sim_lab_couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, NULL);
  l->outcome->direct_us = sim_lab_until_direct(l, c.a, c.b, FIRST_US);
  sim_lab_run(l, sim_lab_between(l, QUIET_US, 2 * QUIET_US));
  sim_flow_reset(c.flow);
  return c;
}

static void expect_back(sim_lab *l, const sim_couple *c, uint64_t gap_us) {
  sim_lab_until_direct(l, c->a, c->b, SEARCH_US);
  sim_lab_run(l, QUIET_US);
  sim_expect(l, sim_lab_both_direct(c->a, c->b), "the new direct path did not last");
  sim_lab_expect_gap(l, c->flow, gap_us);
}

/* --- keys --- */

/* A new login gives b a new node key: a's tunnel is with another peer now. l->a: one way's
 * milliseconds of each link, 0: some. Answers that take long must not be outrun by new tries. */
static void rekey(sim_lab *l) {
  l->latency_us = (uint64_t)l->a * MSOCK_MS;
  sim_couple c = direct_couple(l);
  const msock_node_key before = sim_node_key(c.b);
  sim_node_rekey(c.b);
  sim_lab_run(l, 2 * MSOCK_SEC);
  const msock_node_key after = sim_node_key(c.b);
  sim_expect(l, !msock_node_key_equal(&before, &after), "the node key is still the old one");
  expect_back(l, &c, 3 * MSOCK_SEC + 12 * l->latency_us);
}

/* The server says that b's key is over; b logs in again with the key of its configuration. */
static void expire(sim_lab *l) {
  sim_couple c = direct_couple(l);
  const msock_node_key before = sim_node_key(c.b);
  sim_control_expire(l->control, c.b);
  sim_lab_run(l, 5 * MSOCK_SEC);
  sim_lab_until_up(l, c.b, UP_US);
  const msock_node_key after = sim_node_key(c.b);
  sim_expect(l, !msock_node_key_equal(&before, &after), "an expired key is still in use");
  expect_back(l, &c, 5 * MSOCK_SEC);
}

/* The admin deletes b. Nothing goes to it any more; it joins as a new node. */
static void removed(sim_lab *l) {
  sim_couple c = direct_couple(l);
  const msock_ip before = sim_node_ip(c.b);
  sim_control_remove(l->control, c.b);
  sim_lab_run(l, 20 * MSOCK_SEC);
  sim_lab_until_up(l, c.b, UP_US);
  const msock_ip after = sim_node_ip(c.b);
  sim_expect(l, !msock_ip_equal(&before, &after), "a deleted node has its old address");
  expect_back(l, &c, 30 * MSOCK_SEC);
}

/* --- the server is away --- */

/* A restart of the server is no event for those who are connected; one that forgets disco keys and
 * endpoints costs a short way by the relay. */
static void restart(sim_lab *l) {
  sim_couple c = direct_couple(l);
  sim_control_set_forgetful(l->control, l->a != 0);
  for (int k = 0; k < 3; k++) {
    sim_control_kill(l->control);
    sim_lab_run(l, sim_lab_between(l, 100 * MSOCK_MS, 5 * MSOCK_SEC));
    sim_control_start(l->control);
    sim_lab_run(l, 60 * MSOCK_SEC);
    sim_expect(l, sim_control_has(l->control, c.a) && sim_control_has(l->control, c.b),
               "the server has forgotten a node");
  }
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "the direct path is gone");
  sim_expect(l, l->a != 0 || l->watches[0].downgrades + l->watches[1].downgrades == 0,
             "a direct path was left");
  sim_lab_expect_gap(l, c.flow, STEADY_US);
}

/* Streams stall for two minutes without a word, as in a bad network: the path stays. */
static void stall(sim_lab *l) {
  sim_couple c = direct_couple(l);
  sim_host *h = sim_control_host(l->control);
  sim_host_down(h)->tcp_blocked = sim_host_up(h)->tcp_blocked = true;
  sim_lab_run(l, 120 * MSOCK_SEC);
  sim_lab_expect_gap(l, c.flow, STEADY_US);
  sim_host_down(h)->tcp_blocked = sim_host_up(h)->tcp_blocked = false;
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "the direct path is gone");
  sim_lab_expect_gap(l, c.flow, STEADY_US);
  sim_control_rename(l->control, c.b, "renamed"); /* news arrive again */
  sim_node *late = sim_lab_node_behind(l, "late", SIM_PUBLIC, NULL, NULL);
  sim_node_start(late);
  sim_lab_until_up(l, late, UP_US);
  sim_lab_run(l, 5 * MSOCK_SEC);
  sim_expect(l, sim_node_peer_count(c.a) == 2, "the newcomer is not in a's netmap");
}

/* A node that starts while the server is away comes up when it is back. */
static void start_without(sim_lab *l) {
  sim_couple c = direct_couple(l);
  sim_control_kill(l->control);
  sim_node_restart(c.b, l->a != 0, MSOCK_SEC);
  sim_lab_run(l, sim_lab_between(l, 10 * MSOCK_SEC, 90 * MSOCK_SEC));
  sim_expect(l, !sim_node_is_up(c.b), "b is up without a netmap");
  sim_control_start(l->control);
  sim_lab_until_up(l, c.b, UP_US);
  sim_flow_reset(c.flow);
  expect_back(l, &c, 3 * MSOCK_SEC);
}

/* The server gets another address; nodes have its name. */
static void moves(sim_lab *l) {
  sim_host *h = sim_control_host(l->control);
  const msock_ip first = sim_host_address(h);
  sim_io_set_name(l->io, "control.sim.example", &first);
  l->control_url = "http://control.sim.example:8080";
  sim_couple c = direct_couple(l);
  sim_control_kill(l->control);
  sim_host_renumber(h, 1, NULL);
  const msock_ip second = sim_host_address(h);
  sim_io_set_name(l->io, "control.sim.example", &second);
  sim_control_start(l->control);
  sim_node *late = sim_lab_node_behind(l, "late", SIM_PUBLIC, NULL, NULL);
  sim_node_start(late);
  sim_lab_until_up(l, late, UP_US);
  sim_lab_run(l, UP_US);
  sim_expect(l, sim_node_peer_count(c.a) == 2, "the newcomer is not in a's netmap");
  sim_lab_expect_gap(l, c.flow, STEADY_US);
}

/* --- peers come and go --- */

/* The state is lost: b is another machine for the server, with another address. */
static void lost_state(sim_lab *l) {
  sim_couple c = direct_couple(l);
  const msock_ip before = sim_node_ip(c.b);
  sim_node_kill(c.b);
  sim_node_lose_state(c.b);
  sim_node_start(c.b);
  sim_lab_until_up(l, c.b, UP_US);
  const msock_ip after = sim_node_ip(c.b);
  sim_expect(l, !msock_ip_equal(&before, &after), "a new machine has an old address");
  sim_flow_reset(c.flow);
  expect_back(l, &c, 3 * MSOCK_SEC);
}

static void ephemeral_leaves(sim_lab *l) {
  sim_couple c = direct_couple(l);
  sim_node *guest =
      sim_lab_node_behind(l, "guest", SIM_FULL_CONE, &(sim_options){.ephemeral = true}, NULL);
  sim_node_start(guest);
  sim_lab_until_up(l, guest, UP_US);
  sim_lab_run(l, 5 * MSOCK_SEC);
  sim_expect(l, sim_node_peer_count(c.a) == 2, "the guest is not in a's netmap");
  sim_node_stop(guest);
  sim_lab_run(l, 2 * MSOCK_SEC);
  sim_expect(l, sim_node_process(guest) == NULL, "the guest has not stopped");
  sim_expect(l, sim_node_peer_count(c.a) == 1, "the guest is still in a's netmap");
  sim_lab_expect_gap(l, c.flow, STEADY_US);
}

/* A thousand peers join at once and leave in two waves; two who talk do not notice. */
static void fakes(sim_lab *l) {
  sim_couple c = direct_couple(l);
  sim_control_add_fakes(l->control, CROWD_FAKES);
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_expect(l, sim_node_peer_count(c.a) == CROWD_FAKES + 1, "a knows %zu peers",
             sim_node_peer_count(c.a));
  sim_control_remove_fakes(l->control, CROWD_FAKES / 2);
  sim_lab_run(l, 30 * MSOCK_SEC);
  sim_expect(l, sim_node_peer_count(c.a) == CROWD_FAKES / 2 + 1, "a knows %zu peers",
             sim_node_peer_count(c.a));
  sim_control_remove_fakes(l->control, CROWD_FAKES / 2);
  sim_lab_run(l, 30 * MSOCK_SEC);
  sim_expect(l, sim_node_peer_count(c.a) == 1 && sim_lab_both_direct(c.a, c.b),
             "a and b are not alone and direct");
  sim_lab_expect_gap(l, c.flow, STEADY_US);
}

/* Twelve nodes behind easy NATs join in three minutes, each talks to its neighbour; some restart;
 * in the end every pair is direct and every node knows all others. */
static void crowd(sim_lab *l) {
  sim_node *n[CROWD];
  sim_flow *flow[CROWD];
  char name[16];
  for (uint32_t i = 0; i < CROWD; i++) {
    const sim_kind kind = (sim_kind)sim_lab_between(l, SIM_PUBLIC, SIM_PORT_RESTRICTED);
    snprintf(name, sizeof name, "n%u", i);
    n[i] = sim_lab_node_behind(l, name, kind, NULL, NULL);
    sim_node_start(n[i]);
    sim_lab_run(l, sim_lab_between(l, 0, 15 * MSOCK_SEC));
    flow[i] = i > 0 ? sim_flow_start(n[i], n[i - 1], SIM_PING_US, 64) : NULL;
  }
  for (int k = 0; k < 4; k++) {
    const uint64_t i = sim_lab_between(l, 0, CROWD - 1);
    sim_node_restart(n[i], k % 2 == 0, sim_lab_between(l, 0, 5 * MSOCK_SEC));
    sim_lab_run(l, 10 * MSOCK_SEC);
  }
  sim_lab_run(l, 30 * MSOCK_SEC);
  for (uint32_t i = 0; i < CROWD; i++) {
    sim_expect(l, sim_node_peer_count(n[i]) == CROWD - 1, "%s knows %zu peers", sim_node_name(n[i]),
               sim_node_peer_count(n[i]));
    if (flow[i] != NULL) {
      sim_flow_reset(flow[i]);
    }
  }
  sim_lab_run(l, 60 * MSOCK_SEC);
  for (uint32_t i = 1; i < CROWD; i++) {
    sim_expect(l, sim_lab_both_direct(n[i], n[i - 1]), "%s and %s are not direct",
               sim_node_name(n[i]), sim_node_name(n[i - 1]));
    sim_lab_expect_gap(l, flow[i], STEADY_US);
  }
}

static const sim_scenario all[] = {
    {"control/rekey", rekey, 0, 0, 0},
    {"control/rekey-300-ms", rekey, 75, 0, 0},
    {"control/rekey-600-ms", rekey, 150, 0, 0},
    {"control/expire", expire, 0, 0, 0},
    {"control/removed", removed, 0, 0, 0},
    {"control/restart", restart, 0, 0, 0},
    {"control/restart-forgetful", restart, 1, 0, 0},
    {"control/stall", stall, 0, 0, 0},
    {"control/start-without", start_without, 0, 0, 0},
    {"control/start-without-orderly", start_without, 1, 0, 0},
    {"control/moves", moves, 0, 0, 0},
    {"control/lost-state", lost_state, 0, 0, 0},
    {"control/ephemeral-leaves", ephemeral_leaves, 0, 0, 0},
    {"control/fakes", fakes, 0, 0, 0},
    {"control/crowd", crowd, 0, 0, 0},
};

const sim_scenario *sim_scenarios_control(size_t *n) {
  *n = sizeof all / sizeof *all;
  return all;
}
