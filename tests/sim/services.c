#include "tests/sim/services.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/tailnet_internal.h"
#include "crypto/x25519.h"
#include "tests/sim/node.h"
#include "tests/sim/services_internal.h"
#include "tscontrol/server.h"

sim_process *sim_server_begin(sim_server *s) {
  const msock_egress_config full = {.profile = MSOCK_PROFILE_FULL, .ipv6 = true};
  s->process = sim_process_new(s->io, s->host, s->name, ++s->runs, NULL);
  sim_process *before = sim_process_enter(s->process);
  s->loop = msock_loop_new(sim_process_log(s->process));
  s->egress = msock_egress_new(s->loop, &full, sim_process_log(s->process));
  sim_trace(sim_io_world(s->io), s->name, "starts");
  return before;
}

void sim_server_finish(sim_server *s, sim_process *before) {
  sim_trace(sim_io_world(s->io), s->name, "is gone");
  msock_egress_free(s->egress);
  msock_loop_free(s->loop);
  sim_process_leave(before);
  s->cpu_ns += sim_process_cpu_ns(s->process);
  sim_process_free(s->process);
  s->process = NULL;
}

uint64_t sim_server_cpu_ns(const sim_server *s) {
  return s->cpu_ns + (s->process != NULL ? sim_process_cpu_ns(s->process) : 0);
}

/* --- control --- */

struct sim_control {
  sim_server s;
  char url[64];
  msock_machine_private key;
  msock_derp_map map;
  uint32_t fakes;
  char *policy;
  sim_rng rng; /* of fake peers that come later */
  bool forgets;
  char *saved; /* the nodes, over a restart of a server that forgets; NULL: none yet */
  msock_env env;
  msock_tailnet *tailnet; /* NULL: not made yet, or down and forgotten */
  msock_tscontrol *server;
};

static int by_id(const void *a, const void *b) {
  const msock_derp_region *x = a, *y = b;
  return x->id < y->id ? -1 : x->id > y->id;
}

/* The relays' maps as one; borrows their nodes. */
static void join_maps(sim_relay *const *relays, size_t n, msock_derp_map *out) {
  msock_derp_region *regions = calloc(n > 0 ? n : 1, sizeof *regions);
  assert(regions != NULL);
  for (size_t i = 0; i < n; i++) {
    regions[i] = *sim_relay_map_region(relays[i]);
  }
  qsort(regions, n, sizeof *regions, by_id);
  const msock_derp_map joined = {.regions = regions, .n_regions = n};
  msock_derp_map_clear(out);
  const msock_err e = msock_derp_map_copy(out, &joined);
  assert(e == MSOCK_OK);
  (void)e;
  free(regions);
}

static void make_tailnet(sim_control *c) {
  const msock_tailnet_cfg tailnet = {.domain = "sim.example",
                                     .packet_filters = c->policy,
                                     .derp_map = &c->map,
                                     .fake_peers = c->fakes};
  c->tailnet = msock_tailnet_new(&c->env, &tailnet);
  assert(c->tailnet != NULL);
  if (c->saved != NULL) {
    const msock_err e = msock_tailnet_load(c->tailnet, c->saved);
    assert(e == MSOCK_OK);
    (void)e;
  }
}

/* The connections are gone: nobody is online, nothing is left to send. */
static void put_away(sim_control *c) {
  msock_tailnet_out out;
  size_t len = 0;
  for (size_t i = 0; i < c->tailnet->n_nodes; i++) {
    msock_tailnet_on_conn_closed(c->tailnet, c->tailnet->nodes[i]->conn);
  }
  while (msock_tailnet_next_output(c->tailnet, &out)) {
    free(out.body);
  }
  if (c->forgets) {
    free(c->saved);
    c->saved = msock_tailnet_state(c->tailnet, &len);
    msock_tailnet_free(c->tailnet);
    c->tailnet = NULL;
  }
}

static bool is_up(const sim_control *c) {
  return c->s.process != NULL;
}

void sim_control_start(sim_control *c) {
  if (is_up(c)) {
    return;
  }
  sim_process *before = sim_server_begin(&c->s);
  c->env = msock_loop_env(c->s.loop);
  if (c->s.runs == 1) {
    msock_machine_private_generate(&c->env, &c->key);
  }
  if (c->tailnet == NULL) {
    make_tailnet(c);
  }
  const msock_tscontrol_cfg cfg = {
      .listen = {.ip = sim_host_address(c->s.host), .port = SIM_CONTROL_PORT},
      .key = &c->key,
      .tailnet = c->tailnet,
      .early_payload = true,
      .log = sim_process_log(c->s.process)};
  const msock_err e = msock_tscontrol_new(c->s.loop, c->s.egress, &cfg, &c->server);
  assert(e == MSOCK_OK);
  (void)e;
  sim_process_leave(before);
  sim_process_wake(c->s.process);
}

sim_control *sim_control_new(sim_io *io, sim_host *host, const sim_control_config *config) {
  sim_control *c = calloc(1, sizeof *c);
  char ip[MSOCK_IP_TEXT_MAX], why[MSOCK_TAILNET_WHY_MAX];
  const msock_ip at = sim_host_address(host);
  assert(c != NULL);
  c->s = (sim_server){.io = io, .host = host, .name = "control"};
  snprintf(c->url, sizeof c->url, "http://%s:%u", msock_ip_text(&at, ip), SIM_CONTROL_PORT);
  join_maps(config->relays, config->n_relays, &c->map);
  c->fakes = config->fake_peers;
  sim_rng_init(&c->rng, sim_io_world(io), "control: fake peers");
  if (config->policy != NULL) {
    c->policy = msock_tailnet_filters_text(config->policy, strlen(config->policy), why);
    assert(c->policy != NULL);
  }
  sim_control_start(c);
  return c;
}

void sim_control_kill(sim_control *c) {
  if (c->s.process != NULL) {
    sim_process_mute(c->s.process);
    sim_process *before = sim_process_enter(c->s.process);
    msock_tscontrol_free(c->server);
    c->server = NULL;
    put_away(c);
    sim_server_finish(&c->s, before);
  }
}

void sim_control_free(sim_control *c) {
  if (c != NULL) {
    sim_control_kill(c);
    msock_tailnet_free(c->tailnet);
    msock_derp_map_clear(&c->map);
    free(c->policy);
    free(c->saved);
    free(c);
  }
}

bool sim_control_is_running(const sim_control *c) {
  return is_up(c);
}

void sim_control_set_forgetful(sim_control *c, bool on) {
  c->forgets = on;
}

const char *sim_control_url(const sim_control *c) {
  return c->url;
}

sim_host *sim_control_host(const sim_control *c) {
  return c->s.host;
}

uint64_t sim_control_cpu_ns(const sim_control *c) {
  return sim_server_cpu_ns(&c->s);
}

/* --- what an admin does --- */

static tailnet_node *find_node(const sim_control *c, const sim_node *n) {
  const msock_node_key key = sim_node_key(n);
  for (size_t i = 0; c->tailnet != NULL && i < c->tailnet->n_nodes; i++) {
    if (msock_node_key_equal(&c->tailnet->nodes[i]->key, &key)) {
      return c->tailnet->nodes[i];
    }
  }
  return NULL;
}

/* The message goes out in the server's next turn; frees it. Nobody hears it while it is down. */
static void send_all(sim_control *c, const tailnet_node *but, tailnet_text *msg) {
  assert(!msg->bad);
  if (is_up(c)) {
    msock_tailnet_send_others(c->tailnet, sim_process_now_us(c->s.process), but, msg);
    sim_process_wake(c->s.process);
  }
  free(msg->p);
}

void sim_control_set_derp_map(sim_control *c, sim_relay *const *relays, size_t n) {
  tailnet_text msg = {0};
  join_maps(relays, n, &c->map);
  if (c->tailnet == NULL) {
    return; /* it is read at the next start */
  }
  free(c->tailnet->derp_map);
  c->tailnet->derp_map = msock_tailnet_derp_text(&c->map);
  c->tailnet->first_region = c->map.n_regions > 0 ? c->map.regions[0].id : 0;
  msock_tailnet_addf(&msg, "{\"DERPMap\":%s}", c->tailnet->derp_map);
  send_all(c, NULL, &msg);
}

bool sim_control_has(const sim_control *c, const sim_node *n) {
  return find_node(c, n) != NULL;
}

void sim_control_remove(sim_control *c, const sim_node *n) {
  tailnet_node *t = find_node(c, n);
  if (t != NULL && is_up(c)) {
    sim_process *before = sim_process_enter(c->s.process);
    msock_tailnet_remove(c->tailnet, sim_process_now_us(c->s.process), t);
    sim_process_leave(before);
    sim_process_wake(c->s.process);
  }
}

static void announce(sim_control *c, const tailnet_node *t) {
  sim_process *before = sim_process_enter(c->s.process);
  msock_tailnet_announce(c->tailnet, msock_loop_now_us(), msock_loop_wall_us(), t);
  sim_process_leave(before);
  sim_process_wake(c->s.process);
}

void sim_control_rename(sim_control *c, const sim_node *n, const char *host_name) {
  tailnet_node *t = find_node(c, n);
  if (t != NULL && is_up(c) && msock_tailnet_rename(c->tailnet, t, host_name)) {
    announce(c, t);
  }
}

/* The node's record as `before`, a record that is over, `after`. */
static void add_expired(const sim_control *c, const tailnet_node *t, const char *before,
                        const char *after, tailnet_text *out) {
  tailnet_text changed = {0};
  msock_tailnet_changed_text(c->tailnet, t, SIM_WALL_START_US, &changed);
  const char *from = strchr(changed.p, '{') + 1, *to = strstr(from, "}],\"ControlTime\"");
  from = strchr(from, '{');
  assert(from != NULL && to != NULL);
  msock_tailnet_addf(out, "%s%.*s,\"KeyExpiry\":\"2025-01-01T00:00:00Z\"}%s", before,
                     (int)(to - from), from, after);
  free(changed.p);
}

void sim_control_expire(sim_control *c, const sim_node *n) {
  tailnet_node *t = find_node(c, n);
  tailnet_text others = {0}, own = {0};
  if (t == NULL || !is_up(c)) {
    return;
  }
  add_expired(c, t, "{\"PeersChanged\":[", "]}", &others);
  send_all(c, t, &others);
  add_expired(c, t, "{\"Node\":", "}", &own);
  msock_tailnet_send(c->tailnet, sim_process_now_us(c->s.process), t, &own);
  free(own.p);
  /* The old key is nobody's from now on: if this message is lost, the next request is refused. */
  sim_rng_fill(&c->rng, t->key.b, sizeof t->key.b);
  sim_process_wake(c->s.process);
}

void sim_control_add_fakes(sim_control *c, uint32_t n) {
  msock_tailnet *t = c->tailnet;
  tailnet_text msg = {0};
  c->fakes += n;
  if (t == NULL || n == 0) {
    return;
  }
  t->fakes = realloc(t->fakes, c->fakes * sizeof *t->fakes);
  assert(t->fakes != NULL && c->fakes <= MSOCK_TAILNET_FAKES_MAX);
  sim_rng_fill(&c->rng, t->fakes + t->cfg.fake_peers, n * sizeof *t->fakes);
  for (uint32_t i = t->cfg.fake_peers; i < c->fakes; i++) {
    msock_tailnet_addf(&msg, i == t->cfg.fake_peers ? "{\"PeersChanged\":[" : ",");
    msock_tailnet_add_fake(t, i, &msg);
  }
  t->cfg.fake_peers = c->fakes;
  msock_tailnet_addf(&msg, "]}");
  send_all(c, NULL, &msg);
}

void sim_control_remove_fakes(sim_control *c, uint32_t n) {
  tailnet_text msg = {0};
  assert(n <= c->fakes);
  c->fakes -= n;
  if (c->tailnet == NULL || n == 0) {
    return;
  }
  c->tailnet->cfg.fake_peers = c->fakes;
  for (uint32_t i = 0; i < n; i++) {
    msock_tailnet_addf(&msg, "%s%u", i == 0 ? "{\"PeersRemoved\":[" : ",",
                       MSOCK_TAILNET_FAKE_ID_BASE + c->fakes + i);
  }
  msock_tailnet_addf(&msg, "]}");
  send_all(c, NULL, &msg);
}
