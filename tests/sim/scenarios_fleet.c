/* Many nodes that come and go, what policy forbids, and strangers. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disco/disco.h"
#include "tests/sim/lab.h"

#define UP_US (20 * MSOCK_SEC)
#define DIRECT_US (5 * MSOCK_SEC)
#define MESH 20u
#define GAP_US (3 * MSOCK_SEC)

/* --- twenty nodes --- */

typedef struct mesh {
  sim_node *node[MESH];
  sim_kind kind[MESH];
  sim_flow *flow[MESH]; /* to the next one */
} mesh;

static void mesh_start(sim_lab *l, mesh *m) {
  char name[8];
  for (uint32_t i = 0; i < MESH; i++) {
    snprintf(name, sizeof name, "n%u", i);
    m->kind[i] = (sim_kind)sim_rng_below(&l->rng, SIM_KINDS);
    m->node[i] = sim_lab_node_behind(l, name, m->kind[i], NULL, NULL);
    sim_node_start(m->node[i]);
    sim_lab_run(l, sim_lab_between(l, 0, MSOCK_SEC));
  }
  for (uint32_t i = 0; i < MESH; i++) {
    sim_lab_until_up(l, m->node[i], UP_US);
  }
  for (uint32_t i = 0; i < MESH; i++) {
    m->flow[i] = sim_flow_start(m->node[i], m->node[(i + 1) % MESH], SIM_PING_US, 64);
  }
}

/* Public ones and full cones are reached directly by everybody who has UDP. */
static void expect_open_ones_direct(sim_lab *l, const mesh *m) {
  for (uint32_t i = 0; i < MESH; i++) {
    const uint32_t k = (i + 1) % MESH;
    const bool open = m->kind[i] <= SIM_FULL_CONE || m->kind[k] <= SIM_FULL_CONE;
    if (open && m->kind[i] != SIM_BLOCKED && m->kind[k] != SIM_BLOCKED) {
      sim_expect(l, sim_lab_both_direct(m->node[i], m->node[k]), "%s and %s are not direct",
                 sim_node_name(m->node[i]), sim_node_name(m->node[k]));
    }
  }
}

/* Eight of them restart, half in order and half not, at any time. */
static void mesh_changes(sim_lab *l) {
  mesh m = {0};
  mesh_start(l, &m);
  sim_lab_run(l, 15 * MSOCK_SEC);
  expect_open_ones_direct(l, &m);
  for (uint32_t i = 0; i < MESH; i++) {
    sim_flow_reset(m.flow[i]);
  }
  for (uint32_t k = 0; k < 8; k++) {
    const uint32_t i = (uint32_t)sim_rng_below(&l->rng, MESH);
    sim_node_restart(m.node[i], k % 2 == 0, sim_lab_between(l, MSOCK_MS, 5 * MSOCK_SEC));
    sim_lab_run(l, sim_lab_between(l, 0, 4 * MSOCK_SEC));
  }
  sim_lab_run(l, 15 * MSOCK_SEC);
  for (uint32_t i = 0; i < MESH; i++) {
    sim_lab_expect_gap(l, m.flow[i], 30 * MSOCK_SEC); /* some were away several times */
    sim_flow_reset(m.flow[i]);
  }
  sim_lab_run(l, 10 * MSOCK_SEC);
  expect_open_ones_direct(l, &m);
  for (uint32_t i = 0; i < MESH; i++) {
    sim_lab_expect_gap(l, m.flow[i], 1 * MSOCK_SEC);
  }
}

/* --- policy: the invariants hold it; here it is also of use --- */

static void settle(sim_lab *l, sim_node *a, sim_node *b, bool direct) {
  sim_lab_watch(l, a, b);
  sim_lab_watch(l, b, a);
  sim_node_start(a);
  sim_node_start(b);
  sim_lab_until_up(l, a, UP_US);
  sim_lab_until_up(l, b, UP_US);
  sim_flow *f = sim_flow_start(a, b, SIM_PING_US, 64);
  if (direct) {
    l->outcome->direct_us = sim_lab_until_direct(l, a, b, DIRECT_US);
  }
  sim_lab_run(l, 60 * MSOCK_SEC);
  sim_expect(l, sim_node_is_direct(a, b) == direct && sim_node_is_direct(b, a) == direct,
             direct ? "the direct path did not last" : "direct although it is not allowed");
  sim_lab_expect_gap(l, f, GAP_US);
}

/* direct: false on one side: nothing to peers; a: and in the privacy profile not one datagram. */
static void direct_off(sim_lab *l) {
  const sim_options off = {.direct_off = true, .privacy = l->a != 0};
  sim_node *a = sim_lab_node_behind(l, "a", SIM_PUBLIC, &off, NULL);
  sim_node *b = sim_lab_node_behind(l, "b", SIM_PUBLIC, NULL, NULL);
  settle(l, a, b, false);
  sim_lab_expect_why(l, a, b, "switched off on this node");
  const sim_observed *seen = sim_invariants_observed(l->invariants, a);
  sim_expect(l, seen->pings + seen->pongs + seen->data_datagrams == 0,
             "%" PRIu64 " pings, %" PRIu64 " pongs", seen->pings, seen->pongs);
  sim_expect(l, l->a == 0 || seen->stun == 0, "%" PRIu64 " STUN requests", seen->stun);
}

/* Two of the privacy profile: direct over public addresses, never over the LAN that they share. */
static void privacy(sim_lab *l) {
  const sim_options o = {.privacy = true};
  const sim_nat_config c = {.mapping = SIM_EIM, .filtering = SIM_APDF, .hairpin = l->a != 0};
  sim_nat *box = sim_nat_new(l->net, "box", sim_net_internet(l->net), &c, NULL, false);
  sim_node *a = sim_lab_node(l, "a", sim_nat_inside(box), &o);
  sim_node *b = sim_lab_node(l, "b", sim_nat_inside(box), &o);
  settle(l, a, b, l->a != 0);
}

/* Hosts with both families. a: IPv6 is on. */
static void both_families(sim_lab *l) {
  sim_node *n[2];
  for (int k = 0; k < 2; k++) {
    const char *const names[] = {"a", "b"};
    const msock_ip six = {.family = 6, .b = {0x20, 0x01, 0x0d, 0xb9, [15] = (uint8_t)(k + 1)}};
    n[k] = sim_lab_node_behind(l, names[k], SIM_SYMMETRIC_RANDOM, &(sim_options){.ipv6 = l->a != 0},
                               NULL);
    sim_host_attach(sim_node_host(n[k]), sim_net_internet(l->net), &six, "eth1");
  }
  sim_node_start(n[0]);
  sim_lab_until_up(l, n[0], UP_US);
  if (l->a != 0 && sim_node_udp(n[0]).ip.family != 6) {
    return; /* the kernel below has IPv6 switched off, which the node has seen */
  }
  settle(l, n[0], n[1], l->a != 0); /* over IPv4 there is no way */
  if (l->a != 0) {
    sim_expect(l, sim_node_route(n[0], n[1]).addr.ip.family == 6, "not by IPv6");
  }
}

/* --- strangers --- */

typedef struct stranger {
  sim_lab *l;
  uint64_t answers;
} stranger;

static void on_answer(void *ctx, const msock_addr *src, const msock_addr *dst, const uint8_t *bytes,
                      size_t len) {
  stranger *s = ctx;
  (void)src;
  (void)dst;
  (void)bytes;
  s->answers += len > 0;
}

/* Whatever a stranger sends to the socket: no answer of any kind, and nothing else changes.
 * closes: PRIV-10 */
static void strangers(sim_lab *l) {
  static const uint8_t magic[] = {0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac};
  sim_couple c = sim_lab_couple(l, SIM_PUBLIC, SIM_PORT_RESTRICTED, NULL);
  stranger s = {.l = l};
  sim_host *h = sim_host_new(l->net, "stranger");
  sim_host_attach(h, sim_net_internet(l->net), NULL, "eth0");
  sim_udp *u = sim_udp_bind(h, NULL, on_answer, &s);
  sim_lab_until_direct(l, c.a, c.b, DIRECT_US);
  sim_lab_run(l, 5 * MSOCK_SEC);
  const msock_disco_key key = msock_engine_disco_key(sim_node_engine(c.b));
  const msock_addr to = {.ip = sim_host_address(sim_node_host(c.a)),
                         .port = sim_node_udp(c.a).port};
  sim_flow_reset(c.flow);
  for (int k = 0; k < 4000; k++) {
    uint8_t p[200];
    const size_t len = sim_rng_below(&l->rng, sizeof p) + 1;
    sim_rng_fill(&l->rng, p, len);
    if (k % 4 == 1 && len > 4) { /* WireGuard by its looks: an initiation, data, ... */
      memcpy(p, (uint8_t[4]){(uint8_t)(k / 4 % 4 + 1)}, 4);
    } else if (k % 4 == 2 && len > 62) { /* disco of somebody unknown, or of b by its word */
      memcpy(p, magic, sizeof magic);
      memcpy(p + sizeof magic, key.b, k % 8 == 2 ? sizeof key.b : 0);
    } else if (k % 4 == 3 && len > 20) { /* a STUN request, or an answer that nobody asked for */
      memcpy(p, (uint8_t[8]){k % 8 == 3 ? 1 : 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, 8);
    }
    sim_expect(l, sim_udp_send(u, &to, p, len) == 0, "the stranger cannot send");
    sim_lab_run(l, 5 * MSOCK_MS);
  }
  sim_lab_run(l, MSOCK_SEC);
  sim_expect(l, s.answers == 0, "%" PRIu64 " answers to a stranger", s.answers);
  sim_expect(l, sim_lab_both_direct(c.a, c.b), "the direct path is gone");
  sim_lab_expect_gap(l, c.flow, 400 * MSOCK_MS);
}

static const sim_scenario all[] = {
    {"fleet/twenty", mesh_changes, 0, 0, 0},
    {"policy/direct-off", direct_off, 0, 0, 0},
    {"policy/direct-off-privacy", direct_off, 1, 0, 0},
    {"policy/privacy", privacy, 0, 0, 0},
    {"policy/privacy-hairpin", privacy, 1, 0, 0},
    {"policy/ipv6-on", both_families, 1, 0, 0},
    {"policy/ipv6-off", both_families, 0, 0, 0},
    {"policy/strangers", strangers, 0, 0, 0},
};

const sim_scenario *sim_scenarios_fleet(size_t *n) {
  *n = sizeof all / sizeof *all;
  return all;
}
