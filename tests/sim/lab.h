/* tests/sim/lab.h: one run of one scenario: a small internet with relays and a control server,
 * nodes behind boxes, the invariants, and what is measured. A failed expectation ends the run at
 * once: the runner (main.c) gives each run a process of its own. */
#ifndef MSOCK_TESTS_SIM_LAB_H
#define MSOCK_TESTS_SIM_LAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tests/sim/invariants.h"
#include "tests/sim/net.h"
#include "tests/sim/node.h"
#include "tests/sim/services.h"
#include "tests/sim/world.h"

#define SIM_LAB_RELAYS 3u
#define SIM_LAB_WATCHES 8u
#define SIM_LAB_LEFT 16u             /* addresses that a path left, remembered for flaps */
#define SIM_FLAP_US (60 * MSOCK_SEC) /* PATH-34: back to the same address within this is a flap */
#define SIM_PING_US (200 * MSOCK_MS) /* the ping over the tunnel that must always arrive */

/* What a run gives, in memory that the runner shares with it. */
typedef struct sim_outcome {
  bool ran, failed;
  char why[500];       /* failed: with the virtual time */
  uint64_t direct_us;  /* from the start of traffic until both sides are direct; 0: not measured */
  uint64_t gap_us;     /* longest time without an answer to the pings; 0: not measured */
  uint32_t downgrades; /* direct to relay, all watched pairs */
  uint32_t flaps;
  uint64_t virtual_us, cpu_us;
} sim_outcome;

/* One ordered pair, looked at every SIM_WATCH_US. */
#define SIM_WATCH_US (10 * MSOCK_MS)
typedef struct sim_watch {
  const sim_node *from, *to;
  msock_route route;        /* at the last look */
  uint64_t first_direct_us; /* world's time; 0: never */
  uint64_t since_us;        /* of this route */
  uint64_t direct_us;       /* in sum */
  uint32_t downgrades, switches, flaps;
  struct {
    msock_addr addr;
    uint64_t at_us;
  } left[SIM_LAB_LEFT];
  uint32_t n_left;
} sim_watch;

typedef struct sim_lab {
  int a, b;            /* the scenario's parameters */
  uint64_t latency_us; /* of each node's link, each way; 0: a random one of 5 to 40 ms for each */
  sim_world *w;
  sim_net *net;
  sim_io *io;
  sim_relay *relays[SIM_LAB_RELAYS];
  uint32_t n_relays, n_boxes;
  sim_control *control;
  const char *control_url; /* for nodes made from now on; NULL: the server's address */
  sim_invariants *invariants;
  sim_rng rng; /* of the scenario: latencies, times of events */
  sim_watch watches[SIM_LAB_WATCHES];
  uint32_t n_watches;
  sim_event watch_tick;
  sim_outcome *outcome;
} sim_lab;

typedef struct sim_scenario {
  const char *name;
  void (*run)(sim_lab *l);
  int a, b;       /* for the run: l->a, l->b */
  uint32_t seeds; /* in the normal run; 0: SIM_SEEDS */
} sim_scenario;
#define SIM_SEEDS 20u

/* The scenarios of one file; *n is their number. Names and memory are static. */
const sim_scenario *sim_scenarios_nat(size_t *n);     /* pairs of NATs; scenarios_nat.c */
const sim_scenario *sim_scenarios_change(size_t *n);  /* something happens: scenarios_change.c */
const sim_scenario *sim_scenarios_quality(size_t *n); /* loss, jitter, MTU: scenarios_quality.c */
const sim_scenario *sim_scenarios_relay(size_t *n);   /* restarts, many clients */
const sim_scenario *sim_scenarios_chaos(size_t *n);   /* everything, at random */
const sim_scenario *sim_scenarios_control(size_t *n); /* keys, peers, the server away */
const sim_scenario *
sim_scenarios_fleet(size_t *n); /* many nodes, keys, policy: scenarios_fleet.c */

/* Makes a lab with two relays and a control server, runs the scenario, fills the outcome. */
void sim_lab_run_scenario(const sim_scenario *s, uint64_t seed, FILE *trace, sim_outcome *outcome);

/* --- building --- */

sim_relay *sim_lab_relay(sim_lab *l); /* one more: region 3; it is in no DERP map yet */
/* A box of a kind: those of the matrix. */
typedef enum sim_kind {
  SIM_PUBLIC = 0,        /* no box */
  SIM_FULL_CONE,         /* EIM, EIF */
  SIM_RESTRICTED,        /* EIM, ADF */
  SIM_PORT_RESTRICTED,   /* EIM, APDF */
  SIM_ADDRESS_DEPENDENT, /* ADM, ADF */
  SIM_SYMMETRIC,         /* EDM with neighbouring ports, APDF */
  SIM_SYMMETRIC_RANDOM,
  SIM_BLOCKED, /* no UDP */
  SIM_KINDS
} sim_kind;
extern const char *const sim_kind_names[SIM_KINDS];
/* The realm behind a new box of that kind; *box (may be NULL) is NULL for SIM_PUBLIC. */
sim_realm *sim_lab_realm(sim_lab *l, sim_kind kind, sim_realm *outside, sim_nat **box);

typedef struct sim_options { /* all zero: defaults of the daemon */
  bool lan_off, direct_off, ipv6, privacy, fast_failover_off, userspace, ephemeral;
  uint16_t port;
} sim_options;
/* A host in the realm with a random latency of 5 to 40 ms each way, and a node on it, not started.
 */
sim_node *sim_lab_node(sim_lab *l, const char *name, sim_realm *r, const sim_options *o);
/* The same behind a box of its own. */
sim_node *sim_lab_node_behind(sim_lab *l, const char *name, sim_kind kind, const sim_options *o,
                              sim_nat **box);
/* a and b of these kinds, started, joined, with traffic a to b; watched both ways. */
typedef struct sim_couple {
  sim_node *a, *b;
  sim_nat *box_a, *box_b;
  sim_flow *flow;
  uint64_t began_us;
} sim_couple;
sim_couple sim_lab_couple(sim_lab *l, sim_kind a, sim_kind b, const sim_options *o);

/* --- time --- */

uint64_t sim_lab_now(const sim_lab *l);
void sim_lab_run(sim_lab *l, uint64_t for_us);
/* Until both are direct; fails after within_us. Gives the time that it took. */
uint64_t sim_lab_until_direct(sim_lab *l, const sim_node *a, const sim_node *b, uint64_t within_us);
void sim_lab_until_up(sim_lab *l, const sim_node *n, uint64_t within_us);
/* Until a sends to b by relay. */
uint64_t sim_lab_until_relayed(sim_lab *l, const sim_node *a, const sim_node *b,
                               uint64_t within_us);
uint64_t sim_lab_between(sim_lab *l, uint64_t from_us, uint64_t to_us); /* random */

/* --- expecting --- */

void sim_fail(sim_lab *l, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
#define sim_expect(l, condition, ...)                                                              \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      sim_fail(l, __VA_ARGS__);                                                                    \
    }                                                                                              \
  } while (0)

bool sim_lab_both_direct(const sim_node *a, const sim_node *b);
/* Since the flow's last reset no time without an answer was longer than this; kept in the outcome.
 */
void sim_lab_expect_gap(sim_lab *l, sim_flow *f, uint64_t at_most_us);
/* `why` of a for b contains this text. */
void sim_lab_expect_why(sim_lab *l, sim_node *a, const sim_node *b, const char *text);
bool sim_lab_why_says(sim_node *a, const sim_node *b, const char *text);
sim_watch *sim_lab_watch(sim_lab *l, const sim_node *from, const sim_node *to);
void sim_lab_expect_no_flap(sim_lab *l);

#endif
