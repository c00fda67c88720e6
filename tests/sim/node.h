/* tests/sim/node.h: a machine that runs the real node: configuration and state on a disk, the
 * daemon's parts as node_main.c makes them, a TUN with a small host behind it that answers pings.
 */
#ifndef MSOCK_TESTS_SIM_NODE_H
#define MSOCK_TESTS_SIM_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "magicsock/magicsock.h"
#include "node/dataplane.h"
#include "tests/sim/io_process.h"
#include "tests/sim/net.h"

typedef struct msock_node msock_node;
typedef struct sim_node sim_node;

typedef struct sim_node_config {
  const char *login_server; /* sim_control_url */
  const char *yaml;         /* more lines of tsnode.yaml, such as "direct: false\n"; NULL: none */
  bool userspace;           /* no TUN: answers pings itself, sends none */
  bool ephemeral;           /* state in memory alone */
  uint64_t boot_offset_us;  /* its clock is so far ahead of the world's; 0: a random one */
  int64_t wall_offset_us;   /* its wall clock is wrong by so much */
} sim_node_config;

/* A machine with its disk; not started yet. name: host name on the tailnet, too. */
sim_node *sim_node_new(sim_io *io, sim_host *host, const char *name, const sim_node_config *config);
void sim_node_free(sim_node *n); /* kill first, if it runs */

/* The daemon starts (again): state of the disk, a new disco key. Nothing when it runs. */
void sim_node_start(sim_node *n);
/* SIGTERM: an orderly end; an ephemeral node first logs out (it takes a while). */
void sim_node_stop(sim_node *n);
/* kill -9: the system closes its sockets. For a machine that vanishes: sim_host_set_power before.
 */
void sim_node_kill(sim_node *n);
/* stop or kill, and start after down_us. */
void sim_node_restart(sim_node *n, bool orderly, uint64_t down_us);
/* Sleep of the machine for so long, from now. */
void sim_node_suspend(sim_node *n, uint64_t for_us);
/* The state file is lost: a new machine key, at the next start. */
void sim_node_lose_state(sim_node *n);
/* A new node key by a new login, as `up --force-reauth` asks for. */
void sim_node_rekey(sim_node *n);
/* Other lines of tsnode.yaml, and SIGHUP when it runs. */
void sim_node_reload(sim_node *n, const char *yaml);
/* A new UDP socket: `tsnode debug rebind`. */
void sim_node_rebind(sim_node *n);
void sim_node_jump_wall_clock(sim_node *n, int64_t by_us);

/* --- questions; of a node that does not run: nothing, 0 --- */

const char *sim_node_name(const sim_node *n);
sim_host *sim_node_host(const sim_node *n);
sim_process *sim_node_process(const sim_node *n);
msock_node *
sim_node_get(const sim_node *n);        /* NULL: not running. Calls: inside sim_process_enter */
bool sim_node_is_up(const sim_node *n); /* backend state "Running" */
const char *sim_node_state(const sim_node *n); /* "Running", "NeedsLogin", ...; "off" */
msock_ip sim_node_ip(const sim_node *n); /* IPv4 of the tunnel, the last one known; family 0 */
msock_node_key sim_node_key(const sim_node *n);
msock_region_id sim_node_home(const sim_node *n); /* home region of its relay */
msock_addr sim_node_udp(const sim_node *n);       /* its one socket; port 0: none */
msock_engine *sim_node_engine(const sim_node *n); /* NULL: not running */
/* Its id for a peer in the engine; MSOCK_ENGINE_PEER_NONE. */
uint32_t sim_node_peer_id(const sim_node *n, const sim_node *peer);
/* The way of data to this peer now. via is MSOCK_VIA_NONE for an unknown peer. */
msock_route sim_node_route(const sim_node *n, const sim_node *peer);
bool sim_node_is_direct(const sim_node *n, const sim_node *peer);
/* `tsnode why`, `status`: allocated text; NULL when not running or unknown. */
char *sim_node_why(sim_node *n, const sim_node *peer);
char *sim_node_status(sim_node *n);
size_t sim_node_peer_count(const sim_node *n);                        /* of its netmap */
const msock_dataplane_counters *sim_node_counters(const sim_node *n); /* NULL: not running */
uint64_t sim_node_cpu_ns(const sim_node *n); /* of all its runs: sim_io_set_accounting */
uint64_t sim_node_turns(const sim_node *n);

/* --- traffic: ICMP echo through the tunnel, from the host behind the TUN --- */

typedef struct sim_ping_result {
  bool answered;
  uint64_t rtt_us;
} sim_ping_result;
/* cb is called once, in a later event; also when the node was stopped meanwhile. */
void sim_node_ping(sim_node *from, const sim_node *to, uint64_t timeout_us,
                   void (*cb)(void *ctx, const sim_ping_result *r), void *ctx);

/* One echo request of `bytes` payload each period, until stopped. */
typedef struct sim_flow sim_flow;
typedef struct sim_flow_stats {
  uint64_t sent, answered;
  uint64_t first_sent_us, first_answer_us, last_answer_us; /* the world's time; 0: none yet */
  uint64_t longest_gap_us;    /* between the sending times of answered requests; also to the newest
                                 sent one (after one RTT of grace) */
  uint64_t longest_gap_at_us; /* when that gap began */
  uint64_t rtt_sum_us, rtt_max_us;
  uint64_t
      longest_silence_us; /* between answers as they came, whenever they were sent; also to now */
  uint64_t longest_silence_at_us;
} sim_flow_stats;
/* bytes >= 16. */
sim_flow *sim_flow_start(sim_node *from, const sim_node *to, uint64_t period_us, size_t bytes);
const sim_flow_stats *sim_flow_get(sim_flow *f);
void sim_flow_reset(sim_flow *f); /* gaps and sums anew, from now: after the start is over */
void sim_flow_stop(sim_flow *f);  /* frees; flows of a freed node are freed with it */

#endif
