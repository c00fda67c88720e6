/* The shipped node, control server and relay on a simulated network: two nodes join, ping each
 * other by the relay and become direct; the same seed gives the same run, byte by byte. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/node.h"
#include "tests/sim/services.h"
#include "tests/unit/testing.h"

#define SEEDS 5

typedef struct lab {
  sim_world *w;
  sim_net *net;
  sim_io *io;
  sim_relay *relay;
  sim_control *control;
  sim_node *a, *b;
} lab;

static sim_host *public_host(lab *l, const char *name) {
  sim_host *h = sim_host_new(l->net, name);
  sim_host_attach(h, sim_net_internet(l->net), NULL, "eth0");
  sim_host_set_latency(h, 10 * MSOCK_MS);
  return h;
}

static void lab_new(lab *l, uint64_t seed, FILE *trace, uint32_t fakes) {
  l->w = sim_world_new(seed);
  sim_world_set_trace(l->w, trace);
  l->net = sim_net_new(l->w);
  l->io = sim_io_new(l->net);
  l->relay = sim_relay_new(l->io, public_host(l, "relay-host"), 1, "one");
  l->control = sim_control_new(
      l->io, public_host(l, "control-host"),
      &(sim_control_config){.relays = &l->relay, .n_relays = 1, .fake_peers = fakes});
  const sim_node_config cfg = {.login_server = sim_control_url(l->control)};
  l->a = sim_node_new(l->io, public_host(l, "a-host"), "a", &cfg);
  l->b = sim_node_new(l->io, public_host(l, "b-host"), "b", &cfg);
}

static void lab_free(lab *l) {
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

static void on_ping(void *ctx, const sim_ping_result *r) {
  *(sim_ping_result *)ctx = *r;
}

/* 5 s to join, then a ping. */
static sim_ping_result join(lab *l) {
  sim_ping_result r = {0};
  sim_node_start(l->a);
  sim_node_start(l->b);
  run_for(l, 5 * MSOCK_SEC);
  sim_node_ping(l->a, l->b, 5 * MSOCK_SEC, on_ping, &r);
  run_for(l, 6 * MSOCK_SEC);
  return r;
}

START_TEST(two_nodes_join_and_become_direct) {
  lab l;
  lab_new(&l, (uint64_t)_i, NULL, 0);
  const sim_ping_result r = join(&l);
  ck_assert_str_eq(sim_node_state(l.a), "Running");
  ck_assert_str_eq(sim_node_state(l.b), "Running");
  ck_assert_uint_eq(sim_node_home(l.a), 1);
  ck_assert(r.answered);
  ck_assert(sim_node_is_direct(l.a, l.b));
  ck_assert(sim_node_is_direct(l.b, l.a));
  lab_free(&l);
}
END_TEST

static char *trace_of(uint64_t seed) {
  char *text = NULL;
  size_t len = 0;
  FILE *f = open_memstream(&text, &len);
  lab l;
  lab_new(&l, seed, f, 0);
  join(&l);
  lab_free(&l);
  fclose(f);
  return text;
}

START_TEST(a_seed_gives_one_trace) {
  char *first = trace_of(7), *second = trace_of(7), *other = trace_of(8);
  ck_assert_uint_gt(strlen(first), 1000);
  ck_assert_str_eq(first, second);
  ck_assert_str_ne(first, other);
  free(first);
  free(second);
  free(other);
}
END_TEST

int main(int argc, char **argv) {
  if (argc == 2) { /* test_sim_join SEED: the trace */
    char *text = trace_of(strtoull(argv[1], NULL, 10));
    fputs(text, stdout);
    free(text);
    return 0;
  }
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, two_nodes_join_and_become_direct, 0, SEEDS);
  tcase_add_test(tc, a_seed_gives_one_trace);
  return testing_main("join", tc);
}
