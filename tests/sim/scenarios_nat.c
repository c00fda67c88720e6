/* Pairs of NATs: who becomes direct, within which time, and who must not (magicsock.md section 6).
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/lab.h"

#define DIRECT_US (5 * MSOCK_SEC) /* from the first packet; the median is far below */
#define SETTLE_US (40 * MSOCK_SEC)
#define GAP_US (2 * MSOCK_SEC)

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

static void pair(sim_lab *l) {
  sim_couple c = sim_lab_couple(l, (sim_kind)l->a, (sim_kind)l->b, NULL);
  if (can_be_direct(l->a, l->b)) {
    l->outcome->direct_us = sim_lab_until_direct(l, c.a, c.b, DIRECT_US);
    sim_lab_run(l, SETTLE_US);
    sim_expect(l, sim_lab_both_direct(c.a, c.b), "the direct path did not last");
  } else {
    sim_lab_run(l, SETTLE_US);
    sim_expect(l, l->watches[0].direct_us == 0 && l->watches[1].direct_us == 0,
               "direct where no direct path is possible");
    sim_lab_expect_why(l, c.a, c.b, l->a == SIM_BLOCKED ? "STUN got no answer" : "why: ");
  }
  sim_expect(l, l->watches[0].downgrades + l->watches[1].downgrades == 0,
             "it left the direct path");
  sim_lab_expect_gap(l, c.flow, GAP_US);
}

#define MATRIX (SIM_KINDS * (SIM_KINDS + 1) / 2)

const sim_scenario *sim_scenarios_nat(size_t *n) {
  static sim_scenario all[MATRIX];
  static char names[MATRIX][48];
  size_t k = 0;
  for (int a = 0; a < SIM_KINDS; a++) {
    for (int b = a; b < SIM_KINDS; b++) {
      snprintf(names[k], sizeof names[k], "nat/%s+%s", sim_kind_names[a], sim_kind_names[b]);
      all[k] = (sim_scenario){.name = names[k], .run = pair, .a = a, .b = b};
      k++;
    }
  }
  *n = k;
  return all;
}
