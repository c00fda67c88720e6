/* node/status_json.h: the status document, with tailscaled's names (ipnstate.Status of 1.102;
 * requirements.md 5.2), from a plain struct. Pure.
 *
 * Promise: names and meanings below stay as they are while TSNode.Schema is 1; fields may be added.
 * Everything of our own is under "TSNode", in the document and in each peer. */
#ifndef MSOCK_NODE_STATUS_JSON_H
#define MSOCK_NODE_STATUS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/derp_map.h"
#include "base/err.h"
#include "base/key.h"

#define MSOCK_STATUS_SCHEMA 1

typedef struct msock_status_peer {
  const char *id;            /* ID: stable node id */
  msock_node_key public_key; /* PublicKey, and the key in Peer */
  const char *host_name;     /* HostName */
  const char *dns_name;      /* DNSName, with its trailing dot */
  const char *os;            /* OS: "linux", "windows", "macOS", ... as the server names it */
  uint64_t user_id;          /* UserID, a key of User */
  const msock_ip *tailscale_ips;
  size_t n_tailscale_ips;
  const msock_prefix *allowed_ips;
  size_t n_allowed_ips;
  const msock_prefix *primary_routes;
  size_t n_primary_routes;
  const char *const *tags; /* "tag:name" */
  size_t n_tags;
  const msock_addr *addrs; /* Addrs: own endpoints of Self; empty for peers */
  size_t n_addrs;
  msock_addr cur_addr;    /* CurAddr: confirmed direct path; family 0 = "" */
  const char *relay;      /* Relay: code of the home region; "" = none */
  const char *peer_relay; /* PeerRelay: "ip:port:vni:n"; "" = none */
  uint64_t rx_bytes, tx_bytes;
  uint64_t created_us; /* wall clock, microseconds since 1970; 0 = unknown, printed as year 1 */
  uint64_t last_write_us;
  uint64_t last_seen_us;
  uint64_t last_handshake_us;
  uint64_t key_expiry_us; /* 0 = never: the name is left out */
  bool online;
  bool active; /* traffic in the last two minutes */
  bool exit_node;
  bool exit_node_option;
  bool in_network_map, in_magic_sock, in_engine;
  bool expired;
  /* under "TSNode" */
  uint32_t rtt_us;             /* of the path in use; 0 = not measured */
  msock_region_id derp_region; /* home region; 0 = none */
  uint64_t tx_dropped;         /* packets for this peer that found no way */
} msock_status_peer;

typedef struct msock_status_user {
  uint64_t id;
  const char *login_name, *display_name, *profile_pic_url;
} msock_status_user;

typedef struct msock_status_counter {
  const char *name; /* "rx_disco_auth_fail": stable, lower case */
  uint64_t value;
} msock_status_counter;

typedef struct msock_status {
  const char *version;       /* Version */
  bool tun;                  /* TUN */
  const char *backend_state; /* NoState NeedsLogin NeedsMachineAuth Stopped Starting Running */
  bool have_node_key;        /* HaveNodeKey */
  const char *auth_url;      /* AuthURL: "" unless an interactive login waits */
  const msock_ip *tailscale_ips;
  size_t n_tailscale_ips;
  const msock_status_peer *self;
  /* Peer i < n_peers, valid until the next call: thousands of them never exist side by side. */
  const msock_status_peer *(*peer_at)(void *ctx, size_t i);
  void *peer_ctx;
  size_t n_peers;
  const char *const *health; /* sentences for people */
  size_t n_health;
  const char *magic_dns_suffix; /* "tail.example", no dots at the ends */
  const char *tailnet_name;     /* CurrentTailnet.Name; NULL = no CurrentTailnet yet */
  bool magic_dns_enabled;
  const msock_status_user *users;
  size_t n_users;
  /* under "TSNode" */
  const char *control_url;
  bool control_connected;
  msock_region_id home_region;
  const char *home_region_code;
  const char *last_error; /* why the last login or map failed, for people; "" = no failure */
  const msock_status_counter *counters;
  size_t n_counters;
} msock_status;

/* NULL strings count as "". with_peers = false prints an empty Peer. Gives allocated text of *len
 * bytes plus a NUL; NULL without memory. Caller frees. */
char *msock_status_json(const msock_status *s, bool with_peers, size_t *len);

/* One object with Node (the peer), UserProfile and CapMap: the answer of whois
 * (apitype.WhoIsResponse). user may be NULL. */
char *msock_whois_json(const msock_status_peer *peer, const msock_status_user *user, size_t *len);

/* The answer of ping (ipnstate.PingResult). */
typedef struct msock_ping_result {
  const char *ip;        /* IP: what was asked for */
  const char *node_ip;   /* NodeIP: address of the node that answered or should have */
  const char *node_name; /* NodeName: its name without the tailnet's suffix */
  const char *err;       /* Err: "" = it answered */
  uint64_t latency_us;   /* LatencySeconds */
  msock_addr endpoint;   /* Endpoint: direct address the answer came by; family 0 = "" */
  const char *peer_relay;
  msock_region_id derp_region; /* DERPRegionID, 0 = not by DERP */
  const char *derp_code;       /* DERPRegionCode */
} msock_ping_result;
char *msock_ping_json(const msock_ping_result *r, size_t *len);

/* The number of a BackendState on the wire (ipn.State); 0, NoState, for a name that is none. */
uint64_t msock_status_state_number(const char *name);

#endif
