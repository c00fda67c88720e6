/* Pairs of NATs: who becomes direct, within which time, and who must not (magicsock.md section 6).
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/lab.h"

#define DIRECT_US (2 * MSOCK_SEC) /* from the first packet; the median is far below */
#define UP_US (20 * MSOCK_SEC)
#define SETTLE_US (40 * MSOCK_SEC)
#define GAP_US                                                                                     \
  (3 * MSOCK_SEC) /* the first session too; without STUN the home is found by HTTPS                \
                   */

/* What section 6 says of a pair. */
static bool can_be_direct(int a, int b) {
  static const struct {
    bool mapping_stable; /* the address that STUN gives is the one that peers see */
    int filter;          /* 0 anybody, 1 by address, 2 by address and port */
  } kind[SIM_KINDS] = {[SIM_PUBLIC] = {true, 0},
                       [SIM_FULL_CONE] = {true, 0},
                       [SIM_RESTRICTED] = {true, 1},
                       [SIM_PORT_RESTRICTED] = {true, 2},
                       [SIM_ADDRESS_DEPENDENT] = {false, 1},
                       [SIM_SYMMETRIC] = {false, 2},
                       [SIM_SYMMETRIC_RANDOM] = {false, 2}};
  if (a == SIM_BLOCKED || b == SIM_BLOCKED) {
    return false;
  }
  if (kind[a].mapping_stable && kind[b].mapping_stable) {
    return true;
  }
  if (!kind[a].mapping_stable && !kind[b].mapping_stable) {
    return false;
  }
  return kind[kind[a].mapping_stable ? a : b].filter < 2; /* the port of the other is a surprise */
}

static bool is_hard(int kind) {
  return kind == SIM_ADDRESS_DEPENDENT || kind == SIM_SYMMETRIC || kind == SIM_SYMMETRIC_RANDOM;
}

/* What `why` has to say where nothing helps, seen from a node of kind `own`. */
static const char *reason(int own, int peer) {
  return own == SIM_BLOCKED                    ? "STUN got no answer"
         : is_hard(own) && is_hard(peer)       ? "hard NAT on both sides"
         : is_hard(own) && peer != SIM_BLOCKED ? "hard NAT on our side"
                                               : "why: ";
}

/* Odd seeds change the roles: b starts first and sends. Two symmetric ones stay on the relay.
 * closes: M37 */
static void pair(sim_lab *l) {
  const bool swap = sim_world_seed(l->w) % 2 == 1;
  const int ka = swap ? l->b : l->a, kb = swap ? l->a : l->b;
  sim_couple c = sim_lab_couple(l, (sim_kind)ka, (sim_kind)kb, NULL);
  if (can_be_direct(ka, kb)) {
    l->outcome->direct_us = sim_lab_until_direct(l, c.a, c.b, DIRECT_US);
    sim_lab_run(l, SETTLE_US);
    sim_expect(l, sim_lab_both_direct(c.a, c.b), "the direct path did not last");
  } else {
    sim_lab_run(l, SETTLE_US);
    sim_expect(l, l->watches[0].direct_us == 0 && l->watches[1].direct_us == 0,
               "direct where no direct path is possible");
    sim_lab_expect_why(l, c.a, c.b, reason(ka, kb));
    sim_lab_expect_why(l, c.b, c.a, reason(kb, ka));
  }
  sim_expect(l, l->watches[0].downgrades + l->watches[1].downgrades == 0,
             "it left the direct path");
  sim_lab_expect_gap(l, c.flow, GAP_US);
}

/* --- more boxes on the way --- */

/* Starts both and sends; direct or not, and so it stays. */
static void settle(sim_lab *l, sim_node *a, sim_node *b, bool direct) {
  sim_lab_watch(l, a, b);
  sim_lab_watch(l, b, a);
  sim_node_start(a);
  sim_lab_run(l, sim_lab_between(l, 0, 3 * MSOCK_SEC));
  sim_node_start(b);
  sim_lab_until_up(l, a, UP_US);
  sim_lab_until_up(l, b, UP_US);
  sim_flow *f = sim_flow_start(a, b, SIM_PING_US, 64);
  if (direct) {
    l->outcome->direct_us = sim_lab_until_direct(l, a, b, DIRECT_US);
  }
  sim_lab_run(l, SETTLE_US);
  sim_expect(l, sim_node_is_direct(a, b) == direct && sim_node_is_direct(b, a) == direct,
             direct ? "the direct path did not last" : "direct where no direct path is possible");
  sim_expect(l, l->watches[0].downgrades + l->watches[1].downgrades == 0,
             "it left the direct path");
  sim_lab_expect_gap(l, f, GAP_US);
}

/* Behind a carrier's box: a home box, and a host behind that. */
static sim_realm *home_of(sim_lab *l, sim_nat *carrier, sim_kind kind) {
  return sim_lab_realm(l, kind, sim_nat_inside(carrier), NULL);
}

static sim_nat *carrier_new(sim_lab *l, const char *name, bool hairpin) {
  const sim_nat_config c = {.mapping = SIM_EIM, .filtering = SIM_EIF, .hairpin = hairpin};
  return sim_nat_new(l->net, name, sim_net_internet(l->net), &c, NULL, true);
}

/* Two boxes on each side: as the stricter of the two. */
static void double_nat(sim_lab *l) {
  const int inner = l->a, kb = l->b;
  sim_realm *home = home_of(l, carrier_new(l, "carrier1", false), (sim_kind)inner);
  sim_node *a = sim_lab_node(l, "a", home, NULL);
  sim_realm *other = kb == SIM_KINDS
                         ? home_of(l, carrier_new(l, "carrier2", false), SIM_PORT_RESTRICTED)
                         : sim_lab_realm(l, (sim_kind)kb, sim_net_internet(l->net), NULL);
  sim_node *b = sim_lab_node(l, "b", other, NULL);
  settle(l, a, b, can_be_direct(inner, kb == SIM_KINDS ? SIM_PORT_RESTRICTED : kb));
}

/* Two homes behind one carrier's box, which turns packets to its own address round, or does not. */
static void one_carrier(sim_lab *l) {
  sim_nat *carrier = carrier_new(l, "carrier", l->a != 0);
  sim_node *a = sim_lab_node(l, "a", home_of(l, carrier, SIM_PORT_RESTRICTED), NULL);
  sim_node *b = sim_lab_node(l, "b", home_of(l, carrier, SIM_PORT_RESTRICTED), NULL);
  settle(l, a, b, l->a != 0);
}

/* Two hosts behind one box. a: hairpin; b: lan is on. */
static void one_lan(sim_lab *l) {
  const sim_options o = {.lan_off = l->b == 0};
  const sim_nat_config c = {.mapping = SIM_EIM, .filtering = SIM_APDF, .hairpin = l->a != 0};
  sim_nat *box = sim_nat_new(l->net, "box", sim_net_internet(l->net), &c, NULL, false);
  sim_node *a = sim_lab_node(l, "a", sim_nat_inside(box), &o);
  sim_node *b = sim_lab_node(l, "b", sim_nat_inside(box), &o);
  settle(l, a, b, l->a != 0 || l->b != 0);
  if (l->b != 0) {
    const msock_route r = sim_node_route(a, b);
    sim_expect(l, msock_ip_is_private(&r.addr.ip), "not by the LAN");
  }
}

/* UDP passes one way only: no path. */
static void half_blocked(sim_lab *l) {
  sim_node *a = sim_lab_node_behind(l, "a", SIM_PUBLIC, NULL, NULL);
  sim_node *b = sim_lab_node_behind(l, "b", SIM_PUBLIC, NULL, NULL);
  sim_host_block_udp(sim_node_host(a), l->a == 0, l->a != 0);
  settle(l, a, b, false);
}

/* A hard NAT with a manual forward of the configured port: peers guess it (type 4). */
static void forwarded(sim_lab *l) {
  const uint16_t port = 41641;
  sim_nat *box;
  sim_node *a =
      sim_lab_node_behind(l, "a", SIM_SYMMETRIC_RANDOM, &(sim_options){.port = port}, &box);
  sim_node *b = sim_lab_node_behind(l, "b", (sim_kind)l->a, NULL, NULL);
  const msock_addr inside = {.ip = sim_host_address(sim_node_host(a)), .port = port};
  sim_nat_forward(sim_nat_table_of(box), port, &inside);
  settle(l, a, b, true);
}

/* Mappings live for 20 s only, shorter than anything asks for: heartbeats keep them. */
static void short_lived(sim_lab *l) {
  const sim_nat_config c = {
      .mapping = SIM_EIM, .filtering = SIM_APDF, .udp_us = (uint64_t)l->a * MSOCK_SEC};
  sim_node *n[2];
  for (int k = 0; k < 2; k++) {
    const char *const names[] = {"box1", "box2"}, *const nodes[] = {"a", "b"};
    sim_nat *box = sim_nat_new(l->net, names[k], sim_net_internet(l->net), &c, NULL, false);
    n[k] = sim_lab_node(l, nodes[k], sim_nat_inside(box), NULL);
  }
  settle(l, n[0], n[1], true);
}

#define MATRIX (SIM_KINDS * (SIM_KINDS + 1) / 2)

static const sim_scenario others[] = {
    {"nat/double+public", double_nat, SIM_PORT_RESTRICTED, SIM_PUBLIC, 0},
    {"nat/double+port-restricted", double_nat, SIM_PORT_RESTRICTED, SIM_PORT_RESTRICTED, 0},
    {"nat/double+double", double_nat, SIM_PORT_RESTRICTED, SIM_KINDS, 0},
    {"nat/double-symmetric+restricted", double_nat, SIM_SYMMETRIC, SIM_RESTRICTED, 0},
    {"nat/double-symmetric+double", double_nat, SIM_SYMMETRIC, SIM_KINDS, 0},
    {"nat/one-carrier-hairpin", one_carrier, 1, 0, 0},
    {"nat/one-carrier-no-hairpin", one_carrier, 0, 0, 0},
    {"nat/one-lan", one_lan, 0, 1, 0},
    {"nat/one-lan-hairpin", one_lan, 1, 1, 0},
    {"nat/one-lan-lan-off", one_lan, 0, 0, 0},
    {"nat/one-lan-lan-off-hairpin", one_lan, 1, 0, 0},
    {"nat/blocked-in", half_blocked, 0, 0, 0},
    {"nat/blocked-out", half_blocked, 1, 0, 0},
    {"nat/forwarded+port-restricted", forwarded, SIM_PORT_RESTRICTED, 0, 0},
    {"nat/forwarded+symmetric", forwarded, SIM_SYMMETRIC_RANDOM, 0, 0},
    {"nat/mappings-of-20-s", short_lived, 20, 0, 0},
    {"nat/mappings-of-5-s", short_lived, 5, 0, 0},
};
#define OTHERS (sizeof others / sizeof *others)

const sim_scenario *sim_scenarios_nat(size_t *n) {
  static sim_scenario all[MATRIX + OTHERS];
  static char names[MATRIX][48];
  size_t k = 0;
  for (int a = 0; a < SIM_KINDS; a++) {
    for (int b = a; b < SIM_KINDS; b++) {
      snprintf(names[k], sizeof names[k], "nat/%s+%s", sim_kind_names[a], sim_kind_names[b]);
      all[k] = (sim_scenario){.name = names[k], .run = pair, .a = a, .b = b};
      k++;
    }
  }
  memcpy(&all[k], others, sizeof others);
  *n = k + OTHERS;
  return all;
}
