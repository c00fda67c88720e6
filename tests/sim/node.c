#include "tests/sim/node.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/node.h"
#include "node/node_internal.h"
#include "tests/sim/node_traffic.h"

#define CONFIG_PATH "/etc/tsnode/tsnode.yaml"
#define STATE_PATH "/var/lib/tsnode/tsnode.state"
#define YAML_MAX 4096u
#define BOOT_SPREAD_US (30 * 86400 * MSOCK_SEC) /* up to a month before the node starts */

struct sim_node {
  sim_io *io;
  sim_host *host;
  sim_world *w;
  char name[32], server[128];
  sim_disk *disk;
  bool userspace, ephemeral;
  uint64_t boot_offset_us;
  int64_t wall_offset_us;
  uint32_t runs;
  sim_event later;   /* start after a restart; the end of a sleep; the end of an orderly stop */
  uint64_t up_at_us; /* MSOCK_NEVER: not */
  sim_traffic *traffic;
  /* what was known last */
  msock_ip ip;
  msock_node_key key;
  uint64_t cpu_ns, turns; /* of runs that are over */
  /* running; process NULL: it does not */
  sim_process *process;
  bool asleep, stopping;
  msock_loop *loop;
  msock_settings_sources sources;
  msock_settings *settings;
  msock_node_options options;
  msock_node_deps deps;
  msock_node *node;
};

/* --- life --- */

static void write_config(sim_node *n, const char *yaml) {
  char text[YAML_MAX];
  const int len =
      snprintf(text, sizeof text,
               "login_server: %s\nhostname: %s\nauth_key: simulated\ntun: %s\nlog_level: debug\n%s",
               n->server, n->name, n->userspace ? "none" : "tsnode0", yaml != NULL ? yaml : "");
  assert(len > 0 && (size_t)len < sizeof text);
  sim_disk_write(n->disk, CONFIG_PATH, text, (size_t)len);
}

static void on_later(void *ctx);

sim_node *sim_node_new(sim_io *io, sim_host *host, const char *name,
                       const sim_node_config *config) {
  sim_node *n = calloc(1, sizeof *n);
  char stream[64];
  sim_rng rng;
  assert(n != NULL);
  n->io = io;
  n->host = host;
  n->w = sim_io_world(io);
  n->disk = sim_disk_new();
  n->userspace = config->userspace;
  n->ephemeral = config->ephemeral;
  n->wall_offset_us = config->wall_offset_us;
  n->up_at_us = MSOCK_NEVER;
  snprintf(n->name, sizeof n->name, "%s", name);
  snprintf(n->server, sizeof n->server, "%s", config->login_server);
  snprintf(stream, sizeof stream, "machine %s", name);
  sim_rng_init(&rng, n->w, stream);
  n->boot_offset_us = config->boot_offset_us != 0 ? config->boot_offset_us
                                                  : 1 + sim_rng_below(&rng, BOOT_SPREAD_US);
  n->traffic = sim_traffic_new(n);
  sim_event_init(&n->later, on_later, n);
  write_config(n, config->yaml);
  return n;
}

static void load_settings(sim_node *n) {
  static const char *const none[] = {NULL};
  msock_config_report *report = calloc(1, sizeof *report);
  char text[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  assert(report != NULL);
  n->sources = (msock_settings_sources){.file = CONFIG_PATH, .environment = none};
  n->settings = msock_settings_new(&n->sources);
  if (msock_settings_load(n->settings, report) != MSOCK_OK) {
    fprintf(stderr, "sim: %s: %s\n", n->name,
            msock_config_problem_text(&report->problems[0], text));
    abort();
  }
  free(report);
}

/* As node_main.c makes the parts. */
static void make_parts(sim_node *n) {
  const msock_tsnode_config *v = msock_settings_values(n->settings);
  const msock_egress_config egress = {.profile = v->profile == MSOCK_TSNODE_PROFILE_FULL
                                                     ? MSOCK_PROFILE_FULL
                                                     : MSOCK_PROFILE_PRIVACY_PROXY,
                                      .ipv6 = v->ipv6,
                                      .mark = n->userspace ? 0 : MSOCK_EGRESS_MARK};
  const msock_log *log = sim_process_log(n->process);
  char why[MSOCK_WHY_MAX] = "";
  n->loop = msock_loop_new(log);
  n->deps = (msock_node_deps){.loop = n->loop, .env = msock_loop_env(n->loop), .log = log};
  n->deps.egress = msock_egress_new(n->loop, &egress, log);
  n->deps.roots = msock_tls_roots_new(NULL);
  n->deps.http = msock_http_new(n->deps.egress, n->deps.roots, log);
  n->options = (msock_node_options){.state_file = n->ephemeral ? NULL : STATE_PATH,
                                    .socket = "/run/tsnode.sock",
                                    .tun = n->userspace ? NULL : "tsnode0",
                                    .settings = n->settings};
  if (msock_node_new(&n->deps, &n->options, &n->node, why) != MSOCK_OK) {
    fprintf(stderr, "sim: %s does not start: %s\n", n->name, why);
    abort();
  }
}

void sim_node_start(sim_node *n) {
  if (n->process != NULL) {
    return;
  }
  sim_world_cancel(n->w, &n->later);
  n->up_at_us = MSOCK_NEVER;
  n->process = sim_process_new(n->io, n->host, n->name, ++n->runs, n->disk);
  sim_process_set_boot_offset(n->process, n->boot_offset_us);
  sim_process_set_wall_offset(n->process, n->wall_offset_us);
  sim_trace(n->w, n->name, "starts");
  sim_process *before = sim_process_enter(n->process);
  load_settings(n);
  make_parts(n);
  sim_process_leave(before);
  sim_traffic_attach(n->traffic, n->process);
  n->key = n->node->paths_key;
  sim_process_wake(n->process); /* loops run a turn before they sleep */
}

static void refresh(sim_node *n);

static void end_process(sim_node *n, const char *how) {
  if (n->asleep) { /* somebody switched the machine on to end it */
    sim_host_set_power(n->host, true);
  }
  refresh(n);
  sim_trace(n->w, n->name, "%s", how);
  sim_process *before = sim_process_enter(n->process);
  msock_node_free(n->node);
  msock_http_free(n->deps.http);
  msock_tls_roots_free(n->deps.roots);
  msock_egress_free(n->deps.egress);
  msock_loop_free(n->loop);
  msock_settings_free(n->settings);
  sim_process_leave(before);
  n->cpu_ns += sim_process_cpu_ns(n->process);
  n->turns += sim_process_turns(n->process);
  sim_process_free(n->process);
  n->process = NULL;
  n->node = NULL;
  n->loop = NULL;
  n->asleep = n->stopping = false;
}

void sim_node_kill(sim_node *n) {
  if (n->process != NULL) {
    sim_process_mute(n->process);
    end_process(n, "is killed");
  }
  sim_world_cancel(n->w, &n->later);
}

#define STOP_POLL_US (50 * MSOCK_MS)

void sim_node_stop(sim_node *n) {
  if (n->process == NULL || n->stopping) {
    return;
  }
  sim_process *before = sim_process_enter(n->process);
  n->stopping = msock_node_stop(n->node);
  sim_process_leave(before);
  if (!n->stopping) {
    end_process(n, "stops");
    return;
  }
  sim_process_wake(n->process);
  sim_world_set(n->w, &n->later, sim_world_now_us(n->w) + STOP_POLL_US);
}

static void wake_up(sim_node *n) {
  n->asleep = false;
  sim_trace(n->w, n->name, "wakes up");
  sim_host_set_power(n->host, true);
  sim_process_resume(n->process);
}

static void on_later(void *ctx) {
  sim_node *n = ctx;
  if (n->asleep) {
    wake_up(n);
  } else if (n->stopping && !sim_process_stopped(n->process)) {
    sim_world_set(n->w, &n->later, sim_world_now_us(n->w) + STOP_POLL_US);
  } else if (n->stopping) {
    end_process(n, "stops");
    if (n->up_at_us != MSOCK_NEVER) {
      sim_world_set(n->w, &n->later, n->up_at_us);
    }
  } else if (n->up_at_us != MSOCK_NEVER) {
    sim_node_start(n);
  }
}

void sim_node_restart(sim_node *n, bool orderly, uint64_t down_us) {
  if (orderly) {
    sim_node_stop(n);
  } else {
    sim_node_kill(n);
  }
  n->up_at_us = sim_world_now_us(n->w) + down_us;
  if (n->process == NULL) {
    sim_world_set(n->w, &n->later, n->up_at_us);
  }
}

void sim_node_suspend(sim_node *n, uint64_t for_us) {
  if (n->process == NULL || n->asleep) {
    return;
  }
  sim_trace(n->w, n->name, "sleeps");
  n->asleep = true;
  sim_process_suspend(n->process);
  sim_host_set_power(n->host, false);
  sim_world_set(n->w, &n->later, sim_world_now_us(n->w) + for_us);
}

void sim_node_free(sim_node *n) {
  if (n == NULL) {
    return;
  }
  sim_node_kill(n);
  sim_traffic_free(n->traffic);
  sim_disk_free(n->disk);
  free(n);
}

/* --- what users do --- */

void sim_node_lose_state(sim_node *n) {
  sim_disk_remove(n->disk, STATE_PATH);
}

void sim_node_rekey(sim_node *n) {
  char why[MSOCK_WHY_MAX] = "";
  if (n->process == NULL) {
    return;
  }
  sim_process *before = sim_process_enter(n->process);
  const msock_err e =
      msock_node_login(n->node, sim_process_now_us(n->process), "simulated", true, why);
  assert(e == MSOCK_OK);
  (void)e;
  sim_process_leave(before);
  sim_process_wake(n->process);
}

void sim_node_reload(sim_node *n, const char *yaml) {
  write_config(n, yaml);
  if (n->process != NULL) {
    sim_process *before = sim_process_enter(n->process);
    msock_node_reload(n->node);
    sim_process_leave(before);
    sim_process_wake(n->process);
  }
}

void sim_node_rebind(sim_node *n) {
  if (n->process != NULL) {
    sim_process *before = sim_process_enter(n->process);
    msock_underlay_rebind(n->node->underlay, sim_process_now_us(n->process));
    sim_process_leave(before);
    sim_process_wake(n->process);
  }
}

void sim_node_jump_wall_clock(sim_node *n, int64_t by_us) {
  n->wall_offset_us += by_us;
  if (n->process != NULL) {
    sim_process_set_wall_offset(n->process, n->wall_offset_us);
  }
}

/* --- questions --- */

static msock_netmap *netmap_of(const sim_node *n) {
  return n->process != NULL && n->node->control != NULL
             ? msock_control_netmap(msock_control_link_machine(n->node->control))
             : NULL;
}

/* Keys and addresses stay known to others while the node is down. */
static void refresh(sim_node *n) {
  msock_netmap *nm = netmap_of(n);
  const msock_peer *self = nm != NULL ? msock_netmap_self(nm) : NULL;
  if (n->process != NULL) {
    n->key = n->node->paths_key;
  }
  for (size_t i = 0; self != NULL && i < self->n_addresses; i++) {
    if (self->addresses[i].ip.family == 4) {
      n->ip = self->addresses[i].ip;
    }
  }
}

const char *sim_node_name(const sim_node *n) {
  return n->name;
}

sim_host *sim_node_host(const sim_node *n) {
  return n->host;
}

sim_process *sim_node_process(const sim_node *n) {
  return n->process;
}

sim_traffic *sim_node_traffic(const sim_node *n) {
  return n->traffic;
}

msock_node *sim_node_get(const sim_node *n) {
  return n->node;
}

const char *sim_node_state(const sim_node *n) {
  return n->process != NULL ? msock_node_backend_state(n->node) : "off";
}

bool sim_node_is_up(const sim_node *n) {
  return strcmp(sim_node_state(n), "Running") == 0;
}

msock_ip sim_node_ip(const sim_node *n) {
  refresh((sim_node *)n); /* what is kept is no more than a memory of the answer */
  return n->ip;
}

msock_node_key sim_node_key(const sim_node *n) {
  refresh((sim_node *)n);
  return n->key;
}

msock_region_id sim_node_home(const sim_node *n) {
  return n->process != NULL ? msock_home_region(msock_homing_machine(n->node->homing)) : 0;
}

msock_addr sim_node_udp(const sim_node *n) {
  const msock_udp *u = n->process != NULL ? msock_underlay_udp(n->node->underlay) : NULL;
  return u != NULL ? msock_udp_local(u) : (msock_addr){.port = 0};
}

msock_engine *sim_node_engine(const sim_node *n) {
  return n->process != NULL ? msock_paths_engine(n->node->paths) : NULL;
}

uint32_t sim_node_peer_id(const sim_node *n, const sim_node *peer) {
  const msock_node_key key = sim_node_key(peer);
  return n->process != NULL ? msock_engine_peer_find(sim_node_engine(n), &key)
                            : MSOCK_ENGINE_PEER_NONE;
}

msock_route sim_node_route(const sim_node *n, const sim_node *peer) {
  msock_route r = {.via = MSOCK_VIA_NONE};
  if (n->process != NULL) {
    msock_engine_route(sim_node_engine(n), sim_node_peer_id(n, peer),
                       sim_process_now_us(n->process), &r);
  }
  return r;
}

bool sim_node_is_direct(const sim_node *n, const sim_node *peer) {
  return sim_node_route(n, peer).via == MSOCK_VIA_DIRECT;
}

char *sim_node_why(sim_node *n, const sim_node *peer) {
  const msock_ip ip = sim_node_ip(peer);
  size_t len = 0;
  if (n->process == NULL) {
    return NULL;
  }
  sim_process *before = sim_process_enter(n->process);
  char *text = msock_node_why_text(n->node, &ip, &len);
  sim_process_leave(before);
  return text;
}

char *sim_node_status(sim_node *n) {
  size_t len = 0;
  if (n->process == NULL) {
    return NULL;
  }
  sim_process *before = sim_process_enter(n->process);
  char *text = msock_node_status_text(n->node, true, &len);
  sim_process_leave(before);
  return text;
}

size_t sim_node_peer_count(const sim_node *n) {
  msock_netmap *nm = netmap_of(n);
  return nm != NULL ? msock_netmap_count(nm) : 0;
}

const msock_dataplane_counters *sim_node_counters(const sim_node *n) {
  return n->process != NULL ? msock_dataplane_counters_get(n->node->plane) : NULL;
}

uint64_t sim_node_cpu_ns(const sim_node *n) {
  return n->cpu_ns + (n->process != NULL ? sim_process_cpu_ns(n->process) : 0);
}

uint64_t sim_node_turns(const sim_node *n) {
  return n->turns + (n->process != NULL ? sim_process_turns(n->process) : 0);
}
