#include "tests/sim/lab.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STEP_US (2 * MSOCK_MS) /* resolution of waiting for something */
#define LATENCY_MIN_US (5 * MSOCK_MS)
#define LATENCY_MAX_US (40 * MSOCK_MS)
#define FAR_US                                                                                     \
  (30 * MSOCK_MS)              /* of the second relay: nobody's home while the first one answers   \
                                */
#define UP_US (20 * MSOCK_SEC) /* a node is on the tailnet after this at the latest */

const char *const sim_kind_names[SIM_KINDS] = {
    "public",    "full-cone",        "restricted", "port-restricted", "address-dependent",
    "symmetric", "symmetric-random", "blocked"};

static uint64_t cpu_us(void) {
  struct timespec t = {0};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (uint64_t)t.tv_sec * MSOCK_SEC + (uint64_t)t.tv_nsec / 1000;
}

uint64_t sim_lab_now(const sim_lab *l) {
  return sim_world_now_us(l->w);
}

static void sum_up(sim_lab *l) {
  l->outcome->virtual_us = sim_lab_now(l) - SIM_START_US;
  l->outcome->cpu_us = cpu_us() - l->outcome->cpu_us;
  for (uint32_t i = 0; i < l->n_watches; i++) {
    l->outcome->downgrades += l->watches[i].downgrades;
    l->outcome->flaps += l->watches[i].flaps;
  }
  l->outcome->ran = true;
}

void sim_fail(sim_lab *l, const char *format, ...) {
  va_list args;
  char text[400];
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  const uint64_t t = sim_lab_now(l) - SIM_START_US;
  snprintf(l->outcome->why, sizeof l->outcome->why, "at %" PRIu64 ".%06" PRIu64 " s: %s",
           t / MSOCK_SEC, t % MSOCK_SEC, text);
  sim_trace(l->w, "FAIL", "%s", text);
  l->outcome->failed = true;
  sum_up(l);
  fflush(NULL);
  _exit(1); /* the run has a process of its own; nothing is worth freeing */
}

static void on_broken(void *ctx, const char *text) {
  sim_fail(ctx, "%s", text);
}

/* --- building --- */

static sim_host *server_host(sim_lab *l, const char *name) {
  sim_host *h = sim_host_new(l->net, name);
  sim_host_attach(h, sim_net_internet(l->net), NULL, "eth0");
  sim_host_set_latency(h, 1 * MSOCK_MS);
  return h;
}

sim_relay *sim_lab_relay(sim_lab *l) {
  static const char *const codes[SIM_LAB_RELAYS] = {"one", "two", "three"};
  char name[16];
  assert(l->n_relays < SIM_LAB_RELAYS);
  const uint32_t k = l->n_relays++;
  snprintf(name, sizeof name, "relay%u", k + 1);
  l->relays[k] = sim_relay_new(l->io, server_host(l, name), k + 1, codes[k]);
  const msock_addr stun = sim_relay_addr(l->relays[k]);
  sim_invariants_add_server(l->invariants, &stun);
  return l->relays[k];
}

static void watch_tick(void *ctx);

void sim_lab_run_scenario(const sim_scenario *s, uint64_t seed, FILE *trace, sim_outcome *outcome) {
  sim_lab l = {.a = s->a, .b = s->b, .outcome = outcome};
  outcome->cpu_us = cpu_us();
  l.w = sim_world_new(seed);
  sim_world_set_trace(l.w, trace);
  sim_rng_init(&l.rng, l.w, "scenario");
  l.net = sim_net_new(l.w);
  l.io = sim_io_new(l.net);
  l.invariants = sim_invariants_new(l.io, on_broken, &l);
  sim_event_init(&l.watch_tick, watch_tick, &l);
  sim_world_set(l.w, &l.watch_tick, sim_lab_now(&l) + SIM_WATCH_US);
  sim_lab_relay(&l);
  sim_host_set_latency(sim_relay_host(sim_lab_relay(&l)), FAR_US);
  l.control = sim_control_new(l.io, server_host(&l, "control"),
                              &(sim_control_config){.relays = l.relays, .n_relays = 2});
  s->run(&l);
  sim_invariants_check(l.invariants);
  sum_up(&l);
}

sim_realm *sim_lab_realm(sim_lab *l, sim_kind kind, sim_realm *outside, sim_nat **box) {
  static const sim_nat_config boxes[SIM_KINDS] = {
      [SIM_FULL_CONE] = {.mapping = SIM_EIM, .filtering = SIM_EIF},
      [SIM_RESTRICTED] = {.mapping = SIM_EIM, .filtering = SIM_ADF},
      [SIM_PORT_RESTRICTED] = {.mapping = SIM_EIM, .filtering = SIM_APDF},
      [SIM_ADDRESS_DEPENDENT] = {.mapping = SIM_ADM, .filtering = SIM_ADF},
      [SIM_SYMMETRIC] = {.mapping = SIM_EDM_SEQUENTIAL, .filtering = SIM_APDF},
      [SIM_SYMMETRIC_RANDOM] = {.mapping = SIM_EDM_RANDOM, .filtering = SIM_APDF},
      [SIM_BLOCKED] = {.mapping = SIM_EIM, .filtering = SIM_APDF},
  };
  char name[16];
  if (box != NULL) {
    *box = NULL;
  }
  if (kind == SIM_PUBLIC) {
    return outside;
  }
  snprintf(name, sizeof name, "box%u", ++l->n_boxes);
  sim_nat *b = sim_nat_new(l->net, name, outside, &boxes[kind], NULL, false);
  assert(b != NULL);
  if (box != NULL) {
    *box = b;
  }
  return sim_nat_inside(b);
}

uint64_t sim_lab_between(sim_lab *l, uint64_t from_us, uint64_t to_us) {
  return from_us + sim_rng_below(&l->rng, to_us - from_us + 1);
}

sim_node *sim_lab_node(sim_lab *l, const char *name, sim_realm *r, const sim_options *o) {
  const sim_options none = {0};
  char yaml[400];
  sim_host *h = sim_host_new(l->net, name);

  o = o != NULL ? o : &none;
  sim_host_attach(h, r, NULL, "eth0");
  const uint64_t latency_us = sim_lab_between(l, LATENCY_MIN_US, LATENCY_MAX_US);
  sim_host_set_latency(h, l->latency_us != 0 ? l->latency_us : latency_us);
  snprintf(yaml, sizeof yaml, "%s%s%s%s%sport: %u\n", o->lan_off ? "lan: false\n" : "",
           o->direct_off ? "direct: false\n" : "", o->ipv6 ? "ipv6: true\n" : "",
           o->privacy ? "profile: privacy-proxy\n" : "",
           o->fast_failover_off ? "fast_failover: false\n" : "", o->port);
  sim_node *n = sim_node_new(l->io, h, name,
                             &(sim_node_config){.login_server = l->control_url != NULL
                                                                    ? l->control_url
                                                                    : sim_control_url(l->control),
                                                .yaml = yaml,
                                                .userspace = o->userspace,
                                                .ephemeral = o->ephemeral});
  sim_invariants_add(l->invariants, n,
                     &(sim_policy){.direct = !o->direct_off,
                                   .stun = !o->direct_off || !o->privacy,
                                   .lan = !o->lan_off && !o->privacy,
                                   .ipv6 = o->ipv6 && !o->privacy});
  return n;
}

sim_node *sim_lab_node_behind(sim_lab *l, const char *name, sim_kind kind, const sim_options *o,
                              sim_nat **box) {
  sim_node *n = sim_lab_node(l, name, sim_lab_realm(l, kind, sim_net_internet(l->net), box), o);
  if (kind == SIM_BLOCKED) {
    sim_host_block_udp(sim_node_host(n), true, true);
  }
  return n;
}

sim_couple sim_lab_couple(sim_lab *l, sim_kind a, sim_kind b, const sim_options *o) {
  sim_couple c = {0};
  c.a = sim_lab_node_behind(l, "a", a, o, &c.box_a);
  c.b = sim_lab_node_behind(l, "b", b, o, &c.box_b);
  sim_lab_watch(l, c.a, c.b);
  sim_lab_watch(l, c.b, c.a);
  sim_node_start(c.a);
  sim_lab_run(l, sim_lab_between(l, 0, 3 * MSOCK_SEC));
  sim_node_start(c.b);
  sim_lab_until_up(l, c.a, UP_US);
  sim_lab_until_up(l, c.b, UP_US);
  c.began_us = sim_lab_now(l);
  c.flow = sim_flow_start(c.a, c.b, SIM_PING_US, 64);
  return c;
}

/* --- watching --- */

static void leave(sim_watch *x, const msock_addr *addr, uint64_t now_us) {
  x->left[x->n_left % SIM_LAB_LEFT].addr = *addr;
  x->left[x->n_left++ % SIM_LAB_LEFT].at_us = now_us;
}

static bool left_lately(const sim_watch *x, const msock_addr *addr, uint64_t now_us) {
  for (uint32_t i = 0; i < x->n_left && i < SIM_LAB_LEFT; i++) {
    if (msock_addr_equal(&x->left[i].addr, addr) && now_us < x->left[i].at_us + SIM_FLAP_US) {
      return true;
    }
  }
  return false;
}

static void look(sim_lab *l, sim_watch *x) {
  const msock_route r = sim_node_route(x->from, x->to);
  const uint64_t now_us = sim_lab_now(l);
  const bool was = x->route.via == MSOCK_VIA_DIRECT, is = r.via == MSOCK_VIA_DIRECT;

  x->direct_us += is ? SIM_WATCH_US : 0;
  if (was == is && (!is || msock_addr_equal(&r.addr, &x->route.addr))) {
    x->route = r;
    return;
  }
  if (was) {
    leave(x, &x->route.addr, now_us);
    x->downgrades += !is;
    x->switches += is;
  }
  if (is) {
    x->flaps += left_lately(x, &r.addr, now_us);
    x->first_direct_us = x->first_direct_us != 0 ? x->first_direct_us : now_us;
  }
  x->since_us = now_us;
  x->route = r;
}

static void watch_tick(void *ctx) {
  sim_lab *l = ctx;
  for (uint32_t i = 0; i < l->n_watches; i++) {
    look(l, &l->watches[i]);
  }
  sim_world_set(l->w, &l->watch_tick, sim_lab_now(l) + SIM_WATCH_US);
}

sim_watch *sim_lab_watch(sim_lab *l, const sim_node *from, const sim_node *to) {
  assert(l->n_watches < SIM_LAB_WATCHES);
  sim_watch *x = &l->watches[l->n_watches++];
  *x = (sim_watch){.from = from, .to = to, .since_us = sim_lab_now(l)};
  return x;
}

void sim_lab_expect_no_flap(sim_lab *l) {
  for (uint32_t i = 0; i < l->n_watches; i++) {
    sim_expect(l, l->watches[i].flaps == 0, "%s returned to an address for %s within 60 s",
               sim_node_name(l->watches[i].from), sim_node_name(l->watches[i].to));
  }
}

/* --- time --- */

void sim_lab_run(sim_lab *l, uint64_t for_us) {
  sim_world_run_until(l->w, sim_lab_now(l) + for_us);
}

bool sim_lab_both_direct(const sim_node *a, const sim_node *b) {
  return sim_node_is_direct(a, b) && sim_node_is_direct(b, a);
}

uint64_t sim_lab_until_direct(sim_lab *l, const sim_node *a, const sim_node *b,
                              uint64_t within_us) {
  const uint64_t began_us = sim_lab_now(l);
  while (!sim_lab_both_direct(a, b)) {
    sim_expect(l, sim_lab_now(l) < began_us + within_us,
               "%s and %s are not direct after %" PRIu64 " ms (%s is, %s is)", sim_node_name(a),
               sim_node_name(b), within_us / MSOCK_MS,
               sim_node_is_direct(a, b) ? sim_node_name(a) : "neither",
               sim_node_is_direct(b, a) ? sim_node_name(b) : "neither");
    sim_lab_run(l, STEP_US);
  }
  return sim_lab_now(l) - began_us;
}

uint64_t sim_lab_until_relayed(sim_lab *l, const sim_node *a, const sim_node *b,
                               uint64_t within_us) {
  const uint64_t began_us = sim_lab_now(l);
  while (sim_node_is_direct(a, b)) {
    sim_expect(l, sim_lab_now(l) < began_us + within_us,
               "%s still sends to %s directly after %" PRIu64 " ms", sim_node_name(a),
               sim_node_name(b), within_us / MSOCK_MS);
    sim_lab_run(l, STEP_US);
  }
  return sim_lab_now(l) - began_us;
}

void sim_lab_until_up(sim_lab *l, const sim_node *n, uint64_t within_us) {
  const uint64_t began_us = sim_lab_now(l);
  while (!sim_node_is_up(n)) {
    sim_expect(l, sim_lab_now(l) < began_us + within_us, "%s is not up after %" PRIu64 " ms: %s",
               sim_node_name(n), within_us / MSOCK_MS, sim_node_state(n));
    sim_lab_run(l, STEP_US);
  }
}

/* --- expecting --- */

void sim_lab_expect_gap(sim_lab *l, sim_flow *f, uint64_t at_most_us) {
  const sim_flow_stats *s = sim_flow_get(f);
  const uint64_t gap_us = s->longest_silence_us;
  l->outcome->gap_us = gap_us > l->outcome->gap_us ? gap_us : l->outcome->gap_us;
  sim_expect(l, s->answered > 0, "no ping was answered");
  sim_expect(l, gap_us <= at_most_us,
             "no answer for %" PRIu64 " ms from %" PRIu64 " ms on; the bound is %" PRIu64 " ms",
             gap_us / MSOCK_MS, (s->longest_silence_at_us - SIM_START_US) / MSOCK_MS,
             at_most_us / MSOCK_MS);
}

bool sim_lab_why_says(sim_node *a, const sim_node *b, const char *text) {
  char *why = sim_node_why(a, b);
  const bool says = why != NULL && strstr(why, text) != NULL;
  free(why);
  return says;
}

void sim_lab_expect_why(sim_lab *l, sim_node *a, const sim_node *b, const char *text) {
  char *why = sim_node_why(a, b);
  sim_expect(l, why != NULL && strstr(why, text) != NULL, "why says \"%s\", not \"%s\"",
             why != NULL ? why : "nothing", text);
  free(why);
}
