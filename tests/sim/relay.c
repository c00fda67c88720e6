/* A relay of simulated hosts: derpd's parts (relay, STUN, the core's settings) as its daemon wires
 * them, with the settings of a fresh installation. Admission and status page are left out. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/derpd_config.h"
#include "crypto/x25519.h"
#include "derpd/lists.h"
#include "derpd/relay.h"
#include "derpd/stun_server.h"
#include "tests/sim/services.h"
#include "tests/sim/services_internal.h"

#define WHY_MAX 512u
#define TRY_FOR_MS 60000u        /* as the daemon says it */
#define DRAIN_SLACK_US MSOCK_SEC /* after the last connection's moment */

struct sim_relay {
  sim_server s;
  msock_derp_region region;
  msock_derp_node node;
  msock_addr at;
  msock_node_private key;
  sim_event drained; /* the end of an orderly stop */
  uint64_t up_at_us; /* start then; MSOCK_NEVER: not */
  /* running */
  msock_config *config;
  msock_derpd_relay *relay;
  msock_derpd_stun *stun;
  msock_env env;
  msock_loop_hook hook;
  msock_loop_timer timer;
};

static void pump(void *ctx, uint64_t now_us) {
  sim_relay *r = ctx;
  (void)now_us;
  msock_derpd_relay_pump(r->relay, msock_loop_now_us());
  msock_loop_set_deadline(r->s.loop, &r->timer, msock_derpd_relay_next_expiry(r->relay));
}

/* Wakes the loop; the hook at the end of the turn does the work. */
static void on_timer(void *ctx, uint64_t now_us) {
  (void)ctx;
  (void)now_us;
}

static void load_config(sim_relay *r) {
  char text[300], at[MSOCK_ADDR_TEXT_MAX];
  msock_config_report *report = calloc(1, sizeof *report);
  assert(report != NULL);
  msock_addr_text(&r->at, at);
  snprintf(text, sizeof text,
           "statedir: /var/lib/derpd\nlisten: [\"%s\"]\nstun_listen: [\"%s\"]\n"
           "http_listen: [none]\nadmin_listen: [none]\n",
           at, at);
  r->config = msock_derpd_config_load(&(msock_derpd_sources){.file_name = "derpd.yaml",
                                                             .file = (const uint8_t *)text,
                                                             .file_len = strlen(text)},
                                      report);
  if (r->config == NULL) {
    char problem[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
    fprintf(stderr, "sim: %s: %s\n", r->s.name,
            msock_config_problem_text(&report->problems[0], problem));
    abort();
  }
  free(report);
}

static void must(const sim_relay *r, msock_err e, const char *why) {
  if (e != MSOCK_OK) {
    fprintf(stderr, "sim: %s does not start: %s\n", r->s.name, why);
    abort();
  }
}

/* The certificate stays over restarts: for the simulated TLS it is made of any text. */
static void load_identity(sim_relay *r) {
  char why[MSOCK_TLS_WHY_MAX] = "", pin[MSOCK_TLS_PIN_TEXT_MAX];
  msock_tls_identity *id = NULL;
  must(r, msock_tls_identity_from_pem(r->s.name, &id, why), why);
  snprintf(r->node.cert_name, sizeof r->node.cert_name, "%s", msock_tls_identity_pin(id, pin));
  msock_derpd_relay_set_identity(r->relay, id);
}

void sim_relay_start(sim_relay *r) {
  char why[WHY_MAX] = "";
  msock_derp_server_settings settings;
  const msock_derpd_lists none = {0};
  if (r->s.process != NULL) {
    return;
  }
  sim_world_cancel(sim_io_world(r->s.io), &r->drained);
  r->up_at_us = MSOCK_NEVER;
  sim_process *before = sim_server_begin(&r->s);
  load_config(r);
  const msock_derpd_config *v = msock_derpd_config_values(r->config);
  r->env = msock_loop_env(r->s.loop);
  if (r->s.runs == 1) {
    msock_node_private_generate(&r->env, &r->key);
  }
  r->relay = msock_derpd_relay_new(&(msock_derpd_relay_cfg){
      .egress = r->s.egress, .log = sim_process_log(r->s.process), .env = &r->env, .key = &r->key});
  assert(r->relay != NULL);
  load_identity(r);
  msock_derpd_core_settings(v, &none, &settings);
  must(
      r,
      msock_derp_server_configure(msock_derpd_relay_core(r->relay), msock_loop_now_us(), &settings),
      "its settings are refused");
  msock_derpd_relay_use(r->relay, v);
  must(r, msock_derpd_relay_listen(r->relay, why, sizeof why), why);
  must(r, msock_derpd_stun_new(r->s.egress, v, &r->stun, why, sizeof why), why);
  msock_loop_timer_init(&r->timer, on_timer, r);
  msock_loop_hook_add(r->s.loop, &r->hook, pump, r);
  sim_process_leave(before);
  sim_process_wake(r->s.process);
}

static void end(sim_relay *r) {
  sim_process *before = sim_process_enter(r->s.process);
  msock_loop_hook_remove(&r->hook);
  msock_loop_set_deadline(r->s.loop, &r->timer, MSOCK_NEVER);
  msock_derpd_stun_free(r->stun);
  msock_derpd_relay_free(r->relay);
  msock_config_free(r->config);
  sim_server_finish(&r->s, before);
  sim_world_cancel(sim_io_world(r->s.io), &r->drained);
}

void sim_relay_kill(sim_relay *r) {
  if (r->s.process != NULL) {
    sim_process_mute(r->s.process);
    end(r);
  }
  r->up_at_us = MSOCK_NEVER;
  sim_world_cancel(sim_io_world(r->s.io), &r->drained);
}

/* Of the drain, then of the time below. */
static void on_drained(void *ctx) {
  sim_relay *r = ctx;
  if (r->s.process != NULL) {
    end(r);
  }
  if (r->up_at_us == MSOCK_NEVER) {
    return;
  }
  if (r->up_at_us <= sim_world_now_us(sim_io_world(r->s.io))) {
    sim_relay_start(r);
  } else {
    sim_world_set(sim_io_world(r->s.io), &r->drained, r->up_at_us);
  }
}

void sim_relay_restart(sim_relay *r, uint64_t down_us) {
  const msock_derpd_config *v;
  if (r->s.process == NULL) {
    return;
  }
  v = msock_derpd_config_values(r->config);
  sim_process *before = sim_process_enter(r->s.process);
  msock_derpd_relay_stop_listening(r->relay);
  msock_derp_server_drain(
      msock_derpd_relay_core(r->relay), msock_loop_now_us(),
      &(msock_derp_drain){.spread_us = v->drain_time,
                          .reconnect_in_ms = (uint32_t)(v->drain_time / 1000),
                          .reconnect_spread_ms = (uint32_t)(v->drain_spread / 1000),
                          .try_for_ms = TRY_FOR_MS});
  sim_process_leave(before);
  sim_process_wake(r->s.process);
  const uint64_t over_us = sim_world_now_us(sim_io_world(r->s.io)) + v->drain_time + DRAIN_SLACK_US;
  r->up_at_us = over_us + down_us;
  sim_world_set(sim_io_world(r->s.io), &r->drained, over_us);
}

sim_relay *sim_relay_new(sim_io *io, sim_host *host, msock_region_id region, const char *code) {
  sim_relay *r = calloc(1, sizeof *r);
  char ip[MSOCK_IP_TEXT_MAX];
  assert(r != NULL);
  r->s = (sim_server){.io = io, .host = host};
  snprintf(r->s.name, sizeof r->s.name, "relay-%.20s", code);
  r->at = (msock_addr){.ip = sim_host_address(host), .port = SIM_RELAY_PORT};
  r->region = (msock_derp_region){.id = region, .score = 1.0, .nodes = &r->node, .n_nodes = 1};
  snprintf(r->region.code, sizeof r->region.code, "%s", code);
  snprintf(r->region.name, sizeof r->region.name, "%s", code);
  snprintf(r->node.name, sizeof r->node.name, "%s", code);
  msock_ip_text(&r->at.ip, ip);
  snprintf(r->node.host_name, sizeof r->node.host_name, "%s", ip);
  r->node.region_id = region;
  msock_derp_node_set_ipv4(&r->node, ip);
  msock_derp_node_set_ipv6(&r->node, "none");
  r->node.derp_port = r->node.stun_port = SIM_RELAY_PORT;
  sim_event_init(&r->drained, on_drained, r);
  sim_relay_start(r);
  return r;
}

void sim_relay_free(sim_relay *r) {
  if (r != NULL) {
    sim_relay_kill(r);
    free(r);
  }
}

/* --- questions --- */

const msock_derp_region *sim_relay_map_region(const sim_relay *r) {
  return &r->region;
}

bool sim_relay_is_running(const sim_relay *r) {
  return r->s.process != NULL;
}

sim_host *sim_relay_host(const sim_relay *r) {
  return r->s.host;
}

msock_region_id sim_relay_region(const sim_relay *r) {
  return r->region.id;
}

msock_addr sim_relay_addr(const sim_relay *r) {
  return r->at;
}

size_t sim_relay_clients(const sim_relay *r) {
  return r->s.process != NULL ? msock_derp_server_count(msock_derpd_relay_core(r->relay)) : 0;
}

uint64_t sim_relay_cpu_ns(const sim_relay *r) {
  return sim_server_cpu_ns(&r->s);
}
