/* Everything that can happen, at random and overlapping, then a calm: whatever came before, in the
 * calm every node finds all others again, directly where their NATs allow it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/lab.h"

#define NODES_MAX 6u
#define ROUNDS 8u
#define EVENTS 6u                   /* of one round */
#define GAP_US (15 * MSOCK_SEC)     /* between events, at most */
#define TROUBLE_US (40 * MSOCK_SEC) /* that an event lasts, at most */
#define CALM_US (150 * MSOCK_SEC)   /* back-offs of a minute, and the search after them */
#define STEADY_US (20 * MSOCK_SEC)  /* then this is measured */
#define STEADY_GAP_US (1 * MSOCK_SEC)

typedef struct member {
  sim_node *node;
  sim_nat *box; /* NULL: public */
  sim_kind kind;
  sim_flow *flow; /* to the next one */
} member;

typedef struct chaos {
  sim_lab *l;
  member m[NODES_MAX];
  uint32_t n;
} chaos;

static uint64_t lasting(chaos *c) {
  return sim_lab_between(c->l, MSOCK_SEC, TROUBLE_US);
}

/* --- what ends by itself --- */

static void link_up(void *ctx) {
  sim_host_set_interface_up(ctx, 1, true);
}

static void unblock(void *ctx) {
  sim_host_block_udp(ctx, false, false);
}

static void clean(void *ctx) {
  sim_host *h = ctx;
  sim_host_up(h)->loss_permille = sim_host_down(h)->loss_permille = 0;
}

static void relay_back(void *ctx) {
  sim_relay_start(ctx);
}

static void control_back(void *ctx) {
  sim_control_start(ctx);
}

static void later(chaos *c, void (*cb)(void *ctx), void *ctx) {
  sim_world_at(c->l->w, sim_lab_now(c->l) + lasting(c), cb, ctx);
}

/* --- events --- */

static void box_event(chaos *c, member *m) {
  if (m->box == NULL) {
    sim_host_renumber(sim_node_host(m->node), 1, NULL);
    return;
  }
  switch (sim_lab_between(c->l, 0, 2)) {
  case 0:
    sim_nat_drop_mappings(m->box);
    break;
  case 1:
    sim_nat_renumber(m->box, NULL);
    break;
  default:
    sim_nat_reboot(m->box, sim_lab_between(c->l, 0, 20 * MSOCK_SEC));
    break;
  }
}

static void host_event(chaos *c, member *m) {
  sim_host *h = sim_node_host(m->node);
  switch (sim_lab_between(c->l, 0, 4)) {
  case 0:
    sim_host_set_interface_up(h, 1, false);
    later(c, link_up, h);
    break;
  case 1:
    if (m->kind != SIM_BLOCKED) {
      sim_host_block_udp(h, true, true);
      later(c, unblock, h);
    }
    break;
  case 2:
    sim_host_break_streams(h, sim_lab_between(c->l, 0, 1) == 0);
    break;
  case 3:
    sim_host_up(h)->loss_permille = sim_host_down(h)->loss_permille = 100;
    later(c, clean, h);
    break;
  default:
    sim_host_set_latency(h, sim_lab_between(c->l, MSOCK_MS, 150 * MSOCK_MS));
    break;
  }
}

static void node_event(chaos *c, member *m) {
  switch (sim_lab_between(c->l, 0, 5)) {
  case 0:
    sim_node_restart(m->node, false, sim_lab_between(c->l, 0, 10 * MSOCK_SEC));
    break;
  case 1:
    sim_node_restart(m->node, true, sim_lab_between(c->l, 0, 10 * MSOCK_SEC));
    break;
  case 2:
    sim_node_suspend(m->node, lasting(c));
    break;
  case 3:
    sim_node_rebind(m->node);
    break;
  case 4:
    sim_node_jump_wall_clock(m->node, (int64_t)sim_lab_between(c->l, 0, 7200 * MSOCK_SEC) -
                                          (int64_t)(3600 * MSOCK_SEC));
    break;
  default:
    sim_node_rekey(m->node);
    break;
  }
}

static void server_event(chaos *c) {
  sim_relay *r = c->l->relays[sim_lab_between(c->l, 0, 1)];
  switch (sim_lab_between(c->l, 0, 3)) {
  case 0:
    sim_relay_kill(r);
    later(c, relay_back, r);
    break;
  case 1:
    sim_relay_restart(r, sim_lab_between(c->l, 0, 10 * MSOCK_SEC));
    break;
  case 2:
    sim_control_set_forgetful(c->l->control, sim_lab_between(c->l, 0, 1) == 0);
    sim_control_kill(c->l->control);
    later(c, control_back, c->l->control);
    break;
  default:
    sim_control_expire(c->l->control, c->m[sim_lab_between(c->l, 0, c->n - 1)].node);
    break;
  }
}

static void something(chaos *c) {
  member *m = &c->m[sim_lab_between(c->l, 0, c->n - 1)];
  const uint64_t what = sim_lab_between(c->l, 0, 9);
  if (what < 3) {
    host_event(c, m);
  } else if (what < 5) {
    box_event(c, m);
  } else if (what < 8) {
    node_event(c, m);
  } else {
    server_event(c);
  }
}

/* --- the calm --- */

static bool can_be_direct(sim_kind a, sim_kind b) {
  return a <= SIM_PORT_RESTRICTED && b <= SIM_PORT_RESTRICTED;
}

/* Into the trace: why each one is where it is with the next. */
static void explain(chaos *c) {
  for (uint32_t i = 0; i < c->n && sim_world_traces(c->l->w); i++) {
    const member *m = &c->m[i], *to = &c->m[(i + 1) % c->n];
    const sim_flow_stats *s = sim_flow_get(m->flow);
    char *why = sim_node_why(m->node, to->node);
    sim_trace(c->l->w, sim_node_name(m->node),
              "to %s: %" PRIu64 " of %" PRIu64 " pings answered; home %u; %s",
              sim_node_name(to->node), s->answered, s->sent, (unsigned)sim_node_home(m->node),
              why != NULL ? why : "not running");
    free(why);
  }
}

static void expect_all_well(chaos *c) {
  for (uint32_t i = 0; i < c->n; i++) {
    const member *m = &c->m[i], *to = &c->m[(i + 1) % c->n];
    sim_expect(c->l, sim_node_is_up(m->node), "%s is %s", sim_node_name(m->node),
               sim_node_state(m->node));
    sim_expect(c->l, sim_node_peer_count(m->node) == c->n - 1, "%s knows %zu peers",
               sim_node_name(m->node), sim_node_peer_count(m->node));
    sim_lab_expect_gap(c->l, m->flow, STEADY_GAP_US);
    sim_expect(c->l, !can_be_direct(m->kind, to->kind) || sim_node_is_direct(m->node, to->node),
               "%s (%s) sends to %s (%s) by relay", sim_node_name(m->node), sim_kind_names[m->kind],
               sim_node_name(to->node), sim_kind_names[to->kind]);
  }
}

static void calm(chaos *c) {
  sim_lab_run(c->l, TROUBLE_US); /* what lasts is over */
  sim_relay_start(c->l->relays[0]);
  sim_relay_start(c->l->relays[1]);
  sim_control_start(c->l->control);
  sim_lab_run(c->l, CALM_US);
  for (uint32_t i = 0; i < c->n; i++) {
    sim_flow_reset(c->m[i].flow);
  }
  sim_lab_run(c->l, STEADY_US);
  explain(c);
  expect_all_well(c);
}

static void chaos_of(sim_lab *l) {
  chaos c = {.l = l, .n = (uint32_t)l->a};
  char name[16];
  for (uint32_t i = 0; i < c.n; i++) {
    member *m = &c.m[i];
    m->kind = (sim_kind)sim_lab_between(l, SIM_PUBLIC, (uint64_t)l->b);
    snprintf(name, sizeof name, "n%u", i);
    m->node = sim_lab_node_behind(l, name, m->kind, NULL, &m->box);
    sim_node_start(m->node);
  }
  sim_lab_run(l, 10 * MSOCK_SEC);
  for (uint32_t i = 0; i < c.n; i++) {
    c.m[i].flow = sim_flow_start(c.m[i].node, c.m[(i + 1) % c.n].node, SIM_PING_US, 64);
  }
  for (uint32_t k = 0; k < ROUNDS; k++) {
    const uint64_t events = sim_lab_between(l, 1, EVENTS);
    for (uint64_t e = 0; e < events; e++) {
      something(&c);
      sim_lab_run(l, sim_lab_between(l, 0, GAP_US));
    }
    calm(&c);
  }
}

static const sim_scenario all[] = {
    {"chaos/two", chaos_of, 2, SIM_PORT_RESTRICTED, 0},
    {"chaos/three-any-nat", chaos_of, 3, SIM_BLOCKED, 0},
    {"chaos/six", chaos_of, 6, SIM_PORT_RESTRICTED, 0},
};

const sim_scenario *sim_scenarios_chaos(size_t *n) {
  *n = sizeof all / sizeof *all;
  return all;
}
