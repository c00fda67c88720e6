/* node/node_internal.h: the daemon object that wires the parts. Each file here owns one subject:
 *   node.c         life: parts made, pumped once per turn, freed
 *   reload.c       configuration applied at start and at SIGHUP, orderly stop
 *   session.c      login, preferences, control events, backend state
 *   netmap_apply.c netmap changes into data plane, filter, relay, TUN
 *   api.c          LocalAPI requests; api_netcheck.c, api_debug.c and api_bus.c those verbs
 *   status.c       the status document and metrics */
#ifndef MSOCK_NODE_INTERNAL_H
#define MSOCK_NODE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/netlink.h"
#include "io/tun.h"
#include "io/udp.h"
#include "node/capture.h"
#include "node/control_link.h"
#include "node/dataplane.h"
#include "node/deps.h"
#include "node/homing.h"
#include "node/link.h"
#include "node/localapi.h"
#include "node/localapi_server.h"
#include "node/node_main.h"
#include "node/paths.h"
#include "node/relay.h"
#include "node/state.h"
#include "node/underlay_socket.h"

#define MSOCK_NODE_HOST_ROUTES_MAX 1024u /* above: one route per tailnet range instead */
#define MSOCK_NODE_ERROR_MAX 640u
#define MSOCK_NODE_PING_US (5 * MSOCK_SEC) /* LocalAPI pings wait this long, as tailscaled's */

/* A LocalAPI ping that waits for its answer; tag of the data plane = index + 1. */
typedef struct msock_node_ping {
  bool in_use;
  msock_localapi_req req;
  char ip[MSOCK_IP_TEXT_MAX];
} msock_node_ping;

/* LocalAPI network checks that wait for the next full report. */
#define MSOCK_NODE_NETCHECKS_MAX 16u
typedef struct msock_node_netchecks {
  msock_localapi_req reqs[MSOCK_NODE_NETCHECKS_MAX];
  size_t n;
  msock_loop_timer timer; /* runs while n > 0 */
} msock_node_netchecks;

/* LocalAPI programs that watch (watch-ipn-bus), and what was told to them last. */
#define MSOCK_NODE_WATCHERS_MAX 16u
typedef struct msock_node_bus {
  msock_localapi_req reqs[MSOCK_NODE_WATCHERS_MAX];
  size_t n;
  const char *state; /* of msock_node_backend_state; NULL: nothing was told yet */
  char url[512];
  char error[MSOCK_NODE_ERROR_MAX];
  bool prefs_changed;
} msock_node_bus;

/* The TUN and what is set on it. All NULL / empty in userspace mode. */
typedef struct msock_node_device {
  msock_tun *tun;
  msock_netlink *netlink;
  bool routes_collapsed; /* said once */
} msock_node_device;

typedef struct msock_node {
  msock_node_deps deps;
  const msock_node_options *opt; /* borrowed */

  msock_state state;
  msock_state_lock lock;

  msock_underlay *underlay; /* the UDP socket; NULL only before it is made */
  msock_paths *paths;       /* of the node key in use; never NULL once made */
  msock_node_key paths_key; /* the node key that its pings claim */
  uint64_t rx_udp_junk;     /* datagrams that are nothing we speak */
  msock_homing *homing;
  msock_relay *relay;
  msock_dataplane *plane;
  msock_node_device device;
  uint32_t mtu_bytes;          /* of the tunnel */
  msock_link *link;            /* NULL: address changes are not seen */
  msock_control_link *control; /* NULL until a server is known and wanted */
  msock_localapi_server *api_server;

  msock_loop_timer timer;
  msock_loop_hook hook;

  bool routes_dirty, self_dirty, filter_dirty, derp_map_dirty;
  bool home_connected;
  bool stopping;                         /* an ephemeral node logs out, then the loop ends */
  char last_error[MSOCK_NODE_ERROR_MAX]; /* why the last login or map failed; "" = none */
  msock_control_error last_error_code;
  msock_node_ping pings[MSOCK_PINGS_MAX];
  msock_node_netchecks netchecks;
  msock_node_bus bus;
  uint64_t tunnel_packets; /* at the last turn: more now is activity */
  msock_capture capture;   /* one at a time */
  msock_localapi_req capture_req;
  msock_loop_timer capture_timer;
} msock_node;

/* underlay.c */
bool msock_node_open_underlay(msock_node *n); /* false: no memory */
/* A path engine for the node key in use; replaces the one before. The engine alone holds the disco
 * key, which is made here at start and never written. False: no memory. */
bool msock_node_make_paths(msock_node *n, uint64_t now_us);
/* The engine learns this host's addresses. */
void msock_node_tell_local(msock_node *n, uint64_t now_us);

/* reload.c */
/* Preferences from the configuration: all at start, what changed after a reload. */
void msock_node_apply_settings(msock_node *n, bool changed_only);

/* session.c */
/* Starts the control client when preferences and state say so. */
void msock_node_session_resume(msock_node *n, uint64_t now_us);
/* Preferences changed by bits (msock_pref_bit): saved, carried out. MSOCK_ERR_IO: not saved, not
 * changed; the reason in why. */
msock_err msock_node_set_prefs(msock_node *n, uint64_t now_us, const msock_prefs *prefs,
                               uint32_t changed, char why[static MSOCK_WHY_MAX]);
/* `up` with or without a key; force: a new node key even when logged in. */
msock_err msock_node_login(msock_node *n, uint64_t now_us, const char *auth_key, bool force,
                           char why[static MSOCK_WHY_MAX]);
void msock_node_logout(msock_node *n, uint64_t now_us);
/* tailscaled's names: NeedsLogin, NeedsMachineAuth, Stopped, Starting, Running. */
const char *msock_node_backend_state(const msock_node *n);
void msock_node_on_home_report(void *ctx, uint64_t now_us, const msock_home_report *report);

/* netmap_apply.c */
void msock_node_apply_netmap(msock_node *n, uint64_t now_us);
/* Everything again from the netmap of before msock_node_clear_netmap, if there is one. */
void msock_node_restore_netmap(msock_node *n, uint64_t now_us);
/* Takes everything down that came from a netmap: peers, routes, addresses, relays. */
void msock_node_clear_netmap(msock_node *n, uint64_t now_us);
/* Accepted routes again, after accept_routes or the exit node changed. */
void msock_node_refresh_routes(msock_node *n);

/* api.c */
msock_localapi_backend msock_node_api_backend(msock_node *n);
void msock_node_ping_done(void *ctx, const msock_dataplane_ping *r);
void msock_node_disco_ping_done(void *ctx, uint64_t now_us, const msock_engine_output *r);
/* Without a tunnel some things cannot be done. True: the request was answered so. */
bool msock_node_refuse_while_down(msock_node *n, msock_localapi_req req);
/* api_netcheck.c */
void msock_node_netcheck(void *ctx, msock_localapi_req req);
void msock_node_netcheck_report(msock_node *n, uint64_t now_us, const msock_home_report *report);
void msock_node_netcheck_gone(msock_node *n, msock_localapi_req req);
void msock_node_netcheck_stop(msock_node *n);
/* api_bus.c */
void msock_node_watch(void *ctx, msock_localapi_req req, uint64_t mask);
void msock_node_bus_gone(msock_node *n, msock_localapi_req req);
/* Once per turn: tells the watchers what has changed. */
void msock_node_bus_pump(msock_node *n, uint64_t now_us);
/* api_debug.c: the requests of debug and bugreport. */
void msock_node_debug_derp(void *ctx, msock_localapi_req req);
void msock_node_debug_netmap(void *ctx, msock_localapi_req req);
void msock_node_capture(void *ctx, msock_localapi_req req, uint64_t seconds, uint64_t bytes);
void msock_node_bugreport(void *ctx, msock_localapi_req req);
void msock_node_debug_gone(msock_node *n, msock_localapi_req req);
void msock_node_debug_stop(msock_node *n);
/* status.c: allocated text, caller frees; NULL without memory. */
char *msock_node_status_text(msock_node *n, bool with_peers, size_t *len);
char *msock_node_whois_text(msock_node *n, const char *addr, size_t *len); /* NULL: no such node */
/* Why a peer is on its path, as lines of text; NULL: no peer has that address. */
char *msock_node_why_text(msock_node *n, const msock_ip *ip, size_t *len);
/* Own endpoints and those of peers with what was measured, as JSON. */
char *msock_node_endpoints_text(msock_node *n, size_t *len);
char *msock_node_metrics_text(msock_node *n, size_t *len);

#endif
