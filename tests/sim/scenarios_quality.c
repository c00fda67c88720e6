/* Bad links: loss, jitter, disorder, lopsided latency, small MTU. */
#include <inttypes.h>
#include <stdlib.h>

#include "disco/disco.h"
#include "tests/sim/lab.h"

#define FIRST_US (8 * MSOCK_SEC)
#define STEADY_US (600 * MSOCK_MS) /* two late pings */

static sim_couple couple(sim_lab *l, sim_kind a, sim_kind b) {
  sim_couple c = sim_lab_couple(l, a, b, NULL);
  l->outcome->direct_us = sim_lab_until_direct(l, c.a, c.b, FIRST_US);
  sim_lab_run(l, 5 * MSOCK_SEC);
  sim_flow_reset(c.flow);
  return c;
}

/* Loses so much of what goes from one to the other, each way. The relay loses nothing. */
static void lose(sim_lab *l, const sim_couple *c, uint32_t permille) {
  const sim_link link = {.loss_permille = permille};
  sim_net_set_pair(l->net, sim_node_host(c->a), sim_node_host(c->b), &link);
  sim_net_set_pair(l->net, sim_node_host(c->b), sim_node_host(c->a), &link);
}

/* --- loss --- */

/* a: permille each way; b: for how many seconds. At most one downgrade in all, and never back to an
 * address within 60 s.   closes: PATH-34 */
static void loss(sim_lab *l) {
  sim_couple c = couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED);
  lose(l, &c, (uint32_t)l->a);
  sim_lab_run(l, (uint64_t)l->b * MSOCK_SEC);
  sim_expect(l, l->watches[0].downgrades <= 1 && l->watches[1].downgrades <= 1,
             "%" PRIu32 " and %" PRIu32 " downgrades", l->watches[0].downgrades,
             l->watches[1].downgrades);
  sim_lab_expect_no_flap(l);
  sim_lab_expect_gap(l, c.flow, 4 * MSOCK_SEC);
}

/* 30 % each way: the relay is clean and measured; data is there in the end, and why tells it. */
static void loss_and_relay(sim_lab *l) {
  sim_couple c = couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED);
  bool told = false;
  lose(l, &c, (uint32_t)l->a);
  for (int k = 0; k < l->b; k++) {
    sim_lab_run(l, MSOCK_SEC);
    told = told || sim_lab_why_says(c.a, c.b, "of pings, the relay hardly any");
  }
  sim_expect(l, told, "no choice by measurement in %d s", l->b);
  sim_expect(l, l->watches[0].flaps + l->watches[1].flaps <= 2, "it flaps");
  sim_lab_expect_gap(l, c.flow, 4 * MSOCK_SEC);
  lose(l, &c, 0); /* the link is repaired */
  sim_lab_run(l, 300 * MSOCK_SEC);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "not direct 300 s after the link was repaired");
}

/* --- time --- */

static void jitter(sim_lab *l) {
  sim_couple c = couple(l, SIM_PORT_RESTRICTED, (sim_kind)l->b);
  for (int k = 0; k < 2; k++) {
    sim_link *up = sim_host_up(sim_node_host(k == 0 ? c.a : c.b));
    up->jitter_us = up->latency_us * 4 / 5;
    up->reorder_permille = (uint32_t)l->a;
    up->reorder_us = 50 * MSOCK_MS;
  }
  sim_lab_run(l, 180 * MSOCK_SEC);
  sim_expect(l, l->watches[0].downgrades + l->watches[1].downgrades == 0, "a direct path was left");
  sim_lab_expect_gap(l, c.flow, STEADY_US);
}

/* Slow one way: a = ms from a to b, b = ms back. */
static void lopsided(sim_lab *l) {
  sim_couple c = couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED);
  const sim_link there = {.latency_us = (uint64_t)l->a * MSOCK_MS};
  const sim_link back = {.latency_us = (uint64_t)l->b * MSOCK_MS};
  sim_net_set_pair(l->net, sim_node_host(c.a), sim_node_host(c.b), &there);
  sim_net_set_pair(l->net, sim_node_host(c.b), sim_node_host(c.a), &back);
  sim_lab_run(l, 20 * MSOCK_SEC);
  sim_flow_reset(c.flow);
  sim_lab_run(l, 120 * MSOCK_SEC);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "not direct");
  sim_expect(l, l->watches[0].downgrades + l->watches[1].downgrades == 0, "a direct path was left");
  sim_lab_expect_gap(l, c.flow, 800 * MSOCK_MS);
}

/* Two addresses of b that are equally far, jitter of 20 %: at most one change a minute. */
static void two_addresses(sim_lab *l) {
  sim_node *a = sim_lab_node_behind(l, "a", SIM_PORT_RESTRICTED, NULL, NULL);
  sim_node *b = sim_lab_node_behind(l, "b", SIM_PUBLIC, NULL, NULL);
  sim_watch *x = sim_lab_watch(l, a, b);
  sim_host *h = sim_node_host(b);
  sim_host_attach(h, sim_net_internet(l->net), NULL, "eth1");
  sim_host_up(h)->jitter_us = sim_host_up(h)->latency_us / 5;
  sim_host_down(h)->jitter_us = sim_host_down(h)->latency_us / 5;
  sim_node_start(a);
  sim_node_start(b);
  sim_lab_until_up(l, a, 20 * MSOCK_SEC);
  sim_lab_until_up(l, b, 20 * MSOCK_SEC);
  sim_flow *f = sim_flow_start(a, b, SIM_PING_US, 64);
  l->outcome->direct_us = sim_lab_until_direct(l, a, b, FIRST_US);
  sim_lab_run(l, 600 * MSOCK_SEC);
  sim_expect(l, x->switches <= 10 && x->downgrades == 0,
             "%" PRIu32 " changes, %" PRIu32 " to the relay", x->switches, x->downgrades);
  sim_lab_expect_gap(l, f, 2 * MSOCK_SEC);
}

/* --- size --- */

/* Small packets pass, large ones vanish: what small packets there are is not disturbed. */
static void mtu_hole(sim_lab *l) {
  sim_couple c = couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED);
  const sim_link hole = {.mtu_bytes = 1300};
  sim_net_set_pair(l->net, sim_node_host(c.a), sim_node_host(c.b), &hole);
  sim_net_set_pair(l->net, sim_node_host(c.b), sim_node_host(c.a), &hole);
  sim_flow *big = sim_flow_start(c.a, c.b, SIM_PING_US, 1200); /* 1288 bytes outside */
  sim_lab_run(l, 200 * MSOCK_SEC);                             /* a rekey, too */
  sim_expect(l, l->watches[0].downgrades + l->watches[1].downgrades == 0, "a direct path was left");
  sim_lab_expect_gap(l, c.flow, STEADY_US);
  sim_lab_expect_gap(l, big, STEADY_US);
}

static bool is_wireguard(const uint8_t *bytes, size_t len) {
  return msock_disco_classify(bytes, len).kind == MSOCK_DATAGRAM_WIREGUARD;
}

/* Disco passes, WireGuard does not, from some moment on: relay 5 s after the first try of a
 * handshake, and a new look after 60 s.   closes: PATH-46 */
static void wireguard_hole(sim_lab *l) {
  sim_couple c = couple(l, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED);
  const sim_link hole = {.dropped = is_wireguard};
  sim_net_set_pair(l->net, sim_node_host(c.a), sim_node_host(c.b), &hole);
  sim_net_set_pair(l->net, sim_node_host(c.b), sim_node_host(c.a), &hole);
  sim_lab_until_relayed(l, c.a, c.b, 22 * MSOCK_SEC); /* 15 s until WireGuard tries, and 6 */
  sim_lab_expect_why(l, c.a, c.b, "WireGuard does not");
  sim_lab_run(l, 50 * MSOCK_SEC);
  sim_expect(l, !sim_node_is_direct(c.a, c.b), "direct again before 60 s were over");
  sim_net_set_pair(l->net, sim_node_host(c.a), sim_node_host(c.b), NULL);
  sim_net_set_pair(l->net, sim_node_host(c.b), sim_node_host(c.a), NULL);
  sim_lab_run(l, 90 * MSOCK_SEC);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "not direct again when WireGuard passes");
  sim_lab_expect_gap(l, c.flow, 40 * MSOCK_SEC);
}

static const sim_scenario all[] = {
    {"quality/loss-5", loss, 50, 180, 0},
    {"quality/loss-10", loss, 100, 180, 0},
    {"quality/loss-10-ten-minutes", loss, 100, 600, 200},
    {"quality/loss-20", loss, 200, 180, 0},
    {"quality/loss-30-ten-minutes", loss_and_relay, 300, 600, 0},
    {"quality/jitter", jitter, 0, SIM_PORT_RESTRICTED, 0},
    {"quality/jitter-and-disorder", jitter, 100, SIM_PORT_RESTRICTED, 0},
    {"quality/slow-there", lopsided, 150, 1, 0},
    {"quality/slow-back", lopsided, 1, 150, 0},
    {"quality/two-equal-addresses", two_addresses, 0, 0, 0},
    {"quality/mtu-hole", mtu_hole, 0, 0, 0},
    {"quality/wireguard-hole", wireguard_hole, 0, 0, 0},
};

const sim_scenario *sim_scenarios_quality(size_t *n) {
  *n = sizeof all / sizeof *all;
  return all;
}
