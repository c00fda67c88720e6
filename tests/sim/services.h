/* tests/sim/services.h: the servers of a simulated tailnet: relays with STUN, and the control
 * server. The real programs' parts on simulated hosts: derpd (relay.c) and tscontrol (services.c).
 */
#ifndef MSOCK_TESTS_SIM_SERVICES_H
#define MSOCK_TESTS_SIM_SERVICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/derp_map.h"
#include "tests/sim/io_process.h"
#include "tests/sim/node.h"

/* --- a relay: DERP over TLS and STUN on one address and port --- */

#define SIM_RELAY_PORT 3478u
typedef struct sim_relay sim_relay;
/* Started. region: 1 and up; its key and certificate stay over restarts. */
sim_relay *sim_relay_new(sim_io *io, sim_host *host, msock_region_id region, const char *code);
void sim_relay_free(sim_relay *r);
void sim_relay_kill(sim_relay *r);  /* connections end, STUN is silent, the port refuses */
void sim_relay_start(sim_relay *r); /* again */
/* SIGTERM: clients are told and leave within derpd's drain_time; started again down_us later. */
void sim_relay_restart(sim_relay *r, uint64_t down_us);
bool sim_relay_is_running(const sim_relay *r);
sim_host *sim_relay_host(const sim_relay *r);
msock_region_id sim_relay_region(const sim_relay *r);
msock_addr sim_relay_addr(const sim_relay *r);
size_t sim_relay_clients(const sim_relay *r); /* logged in */
uint64_t sim_relay_cpu_ns(const sim_relay *r);

/* --- the control server --- */

#define SIM_CONTROL_PORT 8080u
typedef struct sim_control sim_control;
typedef struct sim_control_config {
  sim_relay *const *relays; /* the first DERP map */
  size_t n_relays;
  uint32_t fake_peers; /* that exist in the netmap alone */
  const char *policy;  /* packet filter as tscontrol takes it; NULL: allow all */
} sim_control_config;
/* Started. Keeps its nodes and its key over restarts. */
sim_control *sim_control_new(sim_io *io, sim_host *host, const sim_control_config *config);
void sim_control_free(sim_control *c);
void sim_control_kill(sim_control *c);
void sim_control_start(sim_control *c);
bool sim_control_is_running(const sim_control *c);
const char *sim_control_url(const sim_control *c); /* for sim_node_config.login_server */
sim_host *sim_control_host(const sim_control *c);

/* A restart loses disco keys, endpoints and homes, as tscontrol does it; else they stay, as with
 * Headscale. */
void sim_control_set_forgetful(sim_control *c, bool on);

/* Operations of an admin. While it is down: the DERP map and fake peers change for its next start,
 * the rest does nothing. */
void sim_control_set_derp_map(sim_control *c, sim_relay *const *relays, size_t n);
bool sim_control_has(const sim_control *c, const sim_node *n);
void sim_control_remove(sim_control *c, const sim_node *n);
void sim_control_rename(sim_control *c, const sim_node *n, const char *host_name);
/* The key is over: others lose the node, its next request is told to log in again. */
void sim_control_expire(sim_control *c, const sim_node *n);
/* More fake peers join, or the last n of those leave: one delta for every node. */
void sim_control_add_fakes(sim_control *c, uint32_t n);
void sim_control_remove_fakes(sim_control *c, uint32_t n);
uint64_t sim_control_cpu_ns(const sim_control *c);

#endif
