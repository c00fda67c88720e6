/* sim_bench: what a simulated second costs, and what a node costs by the simulator's accounting of
 * CPU time (system calls not included: there are none). Prints; nothing here is a test. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/sim/node.h"
#include "tests/sim/services.h"

#define SETTLE_US (120 * MSOCK_SEC) /* join, first pings of everybody */
#define MEASURE_US (600 * MSOCK_SEC)
#define IDLE_GOAL_PERMILLE 1.0 /* of a core, with 1,000 peers: 0.1 % */

typedef struct lab {
  sim_world *w;
  sim_net *net;
  sim_io *io;
  sim_relay *relay;
  sim_control *control;
  sim_node *a, *b;
} lab;

static uint64_t wall_ns(void) {
  struct timespec ts = {0};
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static sim_host *host(lab *l, const char *name, sim_realm *r) {
  sim_host *h = sim_host_new(l->net, name);
  sim_host_attach(h, r, NULL, "eth0");
  sim_host_set_latency(h, 10 * MSOCK_MS);
  return h;
}

static sim_node *node(lab *l, const char *name) {
  const sim_nat_config box = {.mapping = SIM_EIM, .filtering = SIM_APDF};
  sim_nat *b = sim_nat_new(l->net, name, sim_net_internet(l->net), &box, NULL, false);
  sim_node *n = sim_node_new(l->io, host(l, name, sim_nat_inside(b)), name,
                             &(sim_node_config){.login_server = sim_control_url(l->control)});
  sim_node_start(n);
  return n;
}

static void make(lab *l, uint32_t fakes) {
  l->w = sim_world_new(1);
  l->net = sim_net_new(l->w);
  l->io = sim_io_new(l->net);
  sim_realm *internet = sim_net_internet(l->net);
  l->relay = sim_relay_new(l->io, host(l, "relay", internet), 1, "one");
  l->control = sim_control_new(
      l->io, host(l, "control", internet),
      &(sim_control_config){.relays = &l->relay, .n_relays = 1, .fake_peers = fakes});
  l->a = node(l, "a");
  l->b = node(l, "b");
}

static void clear(lab *l) {
  sim_node_free(l->a);
  sim_node_free(l->b);
  sim_control_free(l->control);
  sim_relay_free(l->relay);
  sim_io_free(l->io);
  sim_net_free(l->net);
  sim_world_free(l->w);
}

static void run_for(lab *l, uint64_t us) {
  sim_world_run_until(l->w, sim_world_now_us(l->w) + us);
}

static void measure(uint32_t peers, bool traffic) {
  lab l;
  make(&l, peers - 1);
  sim_flow *f = traffic ? sim_flow_start(l.a, l.b, 200 * MSOCK_MS, 64) : NULL;
  run_for(&l, SETTLE_US);
  if (sim_node_peer_count(l.a) != peers || sim_node_peer_count(l.b) != peers) {
    fprintf(stderr, "bench: the nodes have %zu and %zu peers\n", sim_node_peer_count(l.a),
            sim_node_peer_count(l.b));
    exit(1);
  }
  uint64_t began_ns = wall_ns();
  run_for(&l, MEASURE_US);
  const double wall_s = (double)(wall_ns() - began_ns) / 1e9;
  sim_io_set_accounting(l.io, true); /* reads the clock twice a turn: not in the figure above */
  const uint64_t turns = sim_node_turns(l.a), cpu_ns = sim_node_cpu_ns(l.a);
  run_for(&l, MEASURE_US);
  const double seconds = (double)MEASURE_US / (double)MSOCK_SEC;
  const double permille = (double)(sim_node_cpu_ns(l.a) - cpu_ns) / 1e6 / seconds;
  printf("  %5" PRIu32
         " peers, %-9s %10.0f node-seconds per second; a node takes %.3f %% of a core "
         "(%.1f turns/s)",
         peers, traffic ? "5 pings/s" : "idle", 2 * seconds / wall_s, permille / 10,
         (double)(sim_node_turns(l.a) - turns) / seconds);
  if (!traffic && peers >= 1000) {
    printf("; goal below 0.1 %%: %s", permille < IDLE_GOAL_PERMILLE ? "yes" : "NO");
  }
  printf("\n");
  if (f != NULL) {
    sim_flow_stop(f);
  }
  clear(&l);
}

int main(void) {
  printf("simulator: 2 nodes behind NATs, %" PRIu64 " minutes of virtual time each\n",
         MEASURE_US / (60 * MSOCK_SEC));
  measure(1, false);
  measure(1, true);
  measure(1000, false);
  measure(1000, true);
  return 0;
}
