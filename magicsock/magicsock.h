/* magicsock/magicsock.h: the path engine: which way each peer is reached, as a pure machine. Disco
 * datagrams, peers, own addresses and time go in; datagrams, events and one deadline come out. No
 * socket, clock or thread. Source: magicsock.md, section 3 above all.
 *
 * WireGuard data never passes here: msock_engine_route answers where to send, from the best address
 * and the time until which a pong lets it be trusted, and the caller sends its own buffer. STUN's
 * codec is netcheck's: the engine asks for a round and is told what was seen.
 *
 * The files, in the order of a message's life:
 *   binding.[ch]     who may claim what: B1 to B7
 *   receive.c        ping, pong and call-me-maybe, once opened
 *   peers.[ch]       peer table, sets of node keys per disco key, shared keys
 *   eligible.[ch]    the candidate filter
 *   candidates.[ch]  a peer's addresses, where each was learned, what was measured
 *   pings.[ch]       pings in flight, budgets
 *   choice.[ch]      pure rules: which address is better, when to look for another
 *   path.c           bursts, heartbeats, loss of a path, the choice between direct and relay
 *   cmm.c            when to send call-me-maybe
 *   self.[ch]        our own addresses: local, reflexive, published
 *   sources.[ch]     which peer a source address belongs to
 *   why.[ch]         events of a peer; explain.c turns them into sentences
 *   netmap.c         peers in: all of an update, or nothing of it
 *   engine.c         the rest;  limits.h  every bound and timer
 *
 * The loop of a caller, after EACH call that takes a time:
 *   while (msock_engine_next_output(e, now, &out, buf, sizeof buf) > 0) act(&out);
 *   sleep until msock_engine_next_expiry(e), then msock_engine_on_expiry(e, now);
 * Same inputs and random bytes give the same outputs.
 *
 * Peer ids are small integers for the caller's own tables; a removed peer's id may be given to
 * another later. Unknown ids are ignored, or answered as "no path". */
#ifndef MSOCK_MAGICSOCK_MAGICSOCK_H
#define MSOCK_MAGICSOCK_MAGICSOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/derp_map.h"
#include "base/endpoint.h"
#include "base/env.h"
#include "base/err.h"
#include "base/key.h"
#include "magicsock/limits.h"
#include "magicsock/why.h"

#define MSOCK_ENGINE_PEER_NONE UINT32_MAX

typedef struct msock_engine msock_engine;

typedef struct msock_engine_config {
  msock_node_key self;       /* what our pings claim */
  bool direct_off;           /* no UDP at all, no call-me-maybe: relays only */
  bool lan_off;              /* no private, shared (100.64/10) or ULA address in or out */
  bool ipv6;                 /* off: no IPv6 address is pinged, advertised or accepted */
  bool allow_loopback;       /* for labs only */
  bool fast_failover_off;    /* on: a path is left when heartbeats go unanswered (3.9) */
  bool lossy_relay_off;      /* on: a clean relay replaces a very lossy direct path */
  bool fixed_port;           /* the UDP port was configured: guess it behind a hard NAT (type 4) */
  bool hide_addresses;       /* no addresses in the log (privacy profile) */
  bool no_rebind_on_refusal; /* EPERM on send is only counted (privacy profile) */
} msock_engine_config;

/* --- life ---------------------------------------------------------------------------------------
 */

/* disco is copied and wiped on free. NULL: no memory. The engine starts without a socket and
 * without a netmap: it sends and believes nothing. */
msock_engine *msock_engine_new(const msock_engine_config *cfg, const msock_env *env,
                               const msock_disco_private *disco, uint64_t now_us);
void msock_engine_free(msock_engine *e);
/* Our new disco key: shared keys and pings in flight go, paths too, STUN and probes follow. The
 * caller publishes the key (2.5). */
void msock_engine_set_disco(msock_engine *e, uint64_t now_us, const msock_disco_private *disco);
msock_disco_key msock_engine_disco_key(const msock_engine *e);
/* For the engine that takes over (another node key). The engine is the one owner of the key: wipe
 * *out as soon as the other one has it. */
void msock_engine_disco_private(const msock_engine *e, msock_disco_private *out);
/* Prefixes of the tailnet itself, never a path to a peer (3.11). MSOCK_ERR_NOMEM: too many. */
msock_err msock_engine_set_overlay(msock_engine *e, const msock_prefix *p, size_t n);

/* The UDP socket is (again) bound to port; 0: it is not, the engine is inert. Each call is a
 * rebind: reflexive addresses, confirmed paths and pings in flight go, candidates stay; active
 * peers are probed at once and STUN is asked for. While inert a call with 0 changes nothing. */
void msock_engine_on_socket(msock_engine *e, uint64_t now_us, uint16_t port);
/* The one transport for direct paths; false while inert. */
typedef struct msock_engine_transport {
  uint32_t id;      /* always 1: there is one */
  uint32_t rebinds; /* sockets so far */
  uint16_t port;
} msock_engine_transport;
bool msock_engine_transport_get(const msock_engine *e, msock_engine_transport *out);

/* Our own addresses on the socket's port (type local) and configured ones (type explicit): the
 * whole set. Filtered before use (3.11). */
void msock_engine_set_local(msock_engine *e, uint64_t now_us, const msock_endpoint *ep, size_t n);
/* The list of STUN servers changed: a round is wanted at once. */
void msock_engine_on_stun_servers(msock_engine *e, uint64_t now_us);
/* A STUN server answered one of our requests: it sees us at mapped. */
void msock_engine_on_reflexive(msock_engine *e, uint64_t now_us, const msock_addr *server,
                               const msock_addr *mapped);
/* Our own home region; 0 = none. */
void msock_engine_set_home(msock_engine *e, msock_region_id region);

/* --- netmap -------------------------------------------------------------------------------------
 */

typedef struct msock_engine_peer {
  msock_node_key node;
  msock_disco_key disco;       /* zero: none; no direct path then */
  msock_region_id home;        /* 0 = unknown */
  const msock_addr *endpoints; /* the whole list: addresses that are gone are forgotten */
  size_t n_endpoints;
} msock_engine_peer;

/* Adds or updates one peer; *id (may be NULL) is set. MSOCK_ERR_NOMEM: nothing has changed. */
msock_err msock_engine_peer_put(msock_engine *e, uint64_t now_us, const msock_engine_peer *p,
                                uint32_t *id);
void msock_engine_peer_remove(msock_engine *e, uint32_t id);
/* The whole netmap at once: absent peers are removed first. MSOCK_ERR_NOMEM: nothing has changed.
 */
msock_err msock_engine_netmap(msock_engine *e, uint64_t now_us, const msock_engine_peer *peers,
                              size_t n);
/* No netmap any more (logged out): every peer goes. */
void msock_engine_netmap_clear(msock_engine *e);
uint32_t msock_engine_peer_find(const msock_engine *e, const msock_node_key *node);
/* The peers of a disco key: at most cap ids; gives how many there are. */
size_t msock_engine_peers_of_disco(const msock_engine *e, const msock_disco_key *disco,
                                   uint32_t *ids, size_t cap);
/* False: no such peer. disco is zero when it has none. */
bool msock_engine_peer_keys(const msock_engine *e, uint32_t id, msock_node_key *node,
                            msock_disco_key *disco);
size_t msock_engine_peer_count(const msock_engine *e);

/* --- input --------------------------------------------------------------------------------------
 */

/* A disco datagram from the socket, or from a relay (region, authenticated source). Bad ones are
 * counted drops. Over UDP give only what msock_disco_classify calls MSOCK_DATAGRAM_DISCO. */
void msock_engine_on_udp(msock_engine *e, uint64_t now_us, const msock_addr *from, const uint8_t *p,
                         size_t len);
void msock_engine_on_derp(msock_engine *e, uint64_t now_us, msock_region_id region,
                          const msock_node_key *src, const uint8_t *p, size_t len);
void msock_engine_on_expiry(msock_engine *e, uint64_t now_us);
/* A relay connection is up (peer NULL), or the relay says that a peer is there. */
void msock_engine_on_derp_up(msock_engine *e, uint64_t now_us, msock_region_id region,
                             const msock_node_key *peer);

/* WireGuard data went to a peer or came, authenticated, from it; addr NULL: by relay. Constant
 * time: stores times, and wakes the search for a path on the first packet after a rest. */
void msock_engine_on_data_sent(msock_engine *e, uint64_t now_us, uint32_t id,
                               const msock_addr *addr);
void msock_engine_on_data_received(msock_engine *e, uint64_t now_us, uint32_t id,
                                   const msock_addr *addr, msock_region_id region);
/* WireGuard has been without an answer to its handshake for 5 s: a direct path is left for 60 s,
 * unless data has come by it in the last 11 s; one that is younger than 5 s when it has become so
 * old, unless something comes from there. */
void msock_engine_on_data_stalled(msock_engine *e, uint64_t now_us, uint32_t id);
/* The handshake was answered after all. */
void msock_engine_on_data_session(msock_engine *e, uint32_t id);

typedef enum msock_send_error {
  MSOCK_SEND_REFUSED = 0,     /* EPERM, EACCES: a local firewall */
  MSOCK_SEND_UNREACHABLE = 1, /* EHOSTUNREACH: no best address any more, its history cleared */
  MSOCK_SEND_NO_ROUTE = 2,    /* ENETUNREACH, EADDRNOTAVAIL, EAFNOSUPPORT: muted until rebound */
  MSOCK_SEND_BROKEN = 3       /* EPIPE, ENOTCONN, EBADF: the socket is of no use */
} msock_send_error;
/* A send to addr failed; id is the peer, or MSOCK_ENGINE_PEER_NONE. Others (ENOBUFS, EMSGSIZE) are
 * the caller's to count. */
void msock_engine_on_send_error(msock_engine *e, uint64_t now_us, uint32_t id,
                                const msock_addr *addr, msock_send_error error);

/* A disco ping for the user: to the trusted address, else to all candidates and by the relay. The
 * first pong, or 5 s, gives MSOCK_ENGINE_PING_RESULT with tag. MSOCK_ERR_UNKNOWN: no such peer or
 * no disco key; MSOCK_ERR_NOMEM: too many pings under way; MSOCK_ERR_DENIED: no way to send one. */
msock_err msock_engine_ping(msock_engine *e, uint64_t now_us, uint32_t id, uint64_t tag);

/* --- output -------------------------------------------------------------------------------------
 */

typedef enum msock_engine_output_kind {
  MSOCK_ENGINE_SEND_UDP = 1,   /* buf to addr */
  MSOCK_ENGINE_SEND_DERP,      /* buf to node by region */
  MSOCK_ENGINE_PATH_CHANGED,   /* of peer: via, addr or region, rtt_us, reason */
  MSOCK_ENGINE_PUBLISH,        /* endpoints: tell control */
  MSOCK_ENGINE_PING_RESULT,    /* tag, timed_out, via, addr or region, rtt_us */
  MSOCK_ENGINE_KICK_HANDSHAKE, /* of peer: a path appeared, retry now */
  MSOCK_ENGINE_WANT_STUN,      /* one round to all servers from the socket */
  MSOCK_ENGINE_WANT_REBIND     /* the socket is of no use */
} msock_engine_output_kind;

typedef enum msock_path_via {
  MSOCK_VIA_NONE = 0, /* no relay known either: drop and count */
  MSOCK_VIA_DIRECT = 1,
  MSOCK_VIA_DERP = 2
} msock_path_via;

typedef struct msock_engine_output {
  msock_engine_output_kind kind;
  uint32_t peer; /* MSOCK_ENGINE_PEER_NONE where there is none */
  msock_node_key node;
  msock_path_via via;
  msock_addr addr;
  msock_region_id region;
  uint64_t rtt_us;
  msock_why_kind reason; /* of a change of path */
  uint64_t tag;
  bool timed_out;
  msock_endpoint endpoints[MSOCK_ENGINE_SELF_MAX]; /* sorted by address, then type */
  size_t n_endpoints;
} msock_engine_output;

/* 1: *out is filled, and *len bytes of buf for the two SEND kinds (0 for others). 0: nothing waits.
 * cap at least MSOCK_ENGINE_PACKET_MAX, else MSOCK_ERR_NOBUF. */
int msock_engine_next_output(msock_engine *e, uint64_t now_us, msock_engine_output *out,
                             uint8_t *buf, size_t cap, size_t *len);
uint64_t msock_engine_next_expiry(const msock_engine *e); /* MSOCK_NEVER: none */

/* --- questions ----------------------------------------------------------------------------------
 */

typedef struct msock_route {
  msock_path_via via;
  msock_addr addr;        /* direct */
  msock_region_id region; /* DERP: the peer's home, else where it was heard, else our own home */
} msock_route;

/* Where data for a peer goes now. A pure read of (best, trust_until, now): nothing needs to have
 * noticed that a path expired. Constant time. */
void msock_engine_route(const msock_engine *e, uint32_t id, uint64_t now_us, msock_route *out);
/* Peers with a direct path now: at most cap ids; gives how many there are. */
size_t msock_engine_direct_peers(const msock_engine *e, uint64_t now_us, uint32_t *ids, size_t cap);
/* Whom a source address belongs to (5.4): confirmed addresses, sources of valid pings, netmap
 * addresses that only one peer has. MSOCK_ENGINE_PEER_NONE: nobody known. */
uint32_t msock_engine_peer_of_source(const msock_engine *e, const msock_addr *from);
size_t msock_engine_source_count(const msock_engine *e);

/* What was last published. Gives the number (at most MSOCK_ENGINE_SELF_MAX). */
size_t msock_engine_self_endpoints(const msock_engine *e,
                                   msock_endpoint out[static MSOCK_ENGINE_SELF_MAX]);
/* STUN servers see us on different ports: a hard NAT (3.10). */
bool msock_engine_mapping_varies(const msock_engine *e);

typedef struct msock_engine_candidate {
  msock_addr addr;
  bool from_netmap, from_cmm, from_ping; /* where it was learned */
  bool best, muted;
  uint64_t rtt_us;       /* smoothed; 0 = no pong yet */
  uint64_t last_ping_us; /* sent; 0 = never */
  uint64_t last_pong_us; /* 0 = never */
} msock_engine_candidate;
/* At most cap; gives how many there are. */
size_t msock_engine_candidates(const msock_engine *e, uint32_t id, msock_engine_candidate *out,
                               size_t cap);

/* The facts behind the path of a peer, for msock_why_explain. False: no such peer. */
bool msock_engine_why(const msock_engine *e, uint32_t id, uint64_t now_us, msock_why *out);

typedef struct msock_engine_counters {
  uint64_t rx_ping, rx_pong, rx_cmm; /* believed */
  uint64_t rx_inert;                 /* no socket, or direct off */
  uint64_t rx_no_netmap;             /* B1, B7 */
  uint64_t rx_stranger;              /* B2: unknown key, nothing was decrypted */
  uint64_t rx_own_key;               /* sealed under our own key */
  uint64_t rx_bad_key;               /* of low order */
  uint64_t rx_unopened;              /* did not open */
  uint64_t rx_malformed;             /* opened, and no message of ours */
  uint64_t rx_unspoken;              /* relay messages: not spoken yet */
  uint64_t rx_claim;                 /* B3: another node key, or none */
  uint64_t rx_filtered;              /* source outside the candidate filter */
  uint64_t rx_wrong_transport;       /* a call-me-maybe by UDP, a pong by the other way */
  uint64_t rx_unknown_txid;          /* pongs: late, repeated, invented */
  uint64_t rx_duplicate;             /* pings seen before */
  uint64_t rx_pong_budget;           /* pings not answered */
  uint64_t opened;                   /* decryptions tried */
  uint64_t tx_ping, tx_pong, tx_cmm;
  uint64_t tx_ping_budget; /* pings not sent */
  uint64_t tx_queue_full;
  uint64_t tx_refused; /* MSOCK_SEND_REFUSED */
  uint64_t tx_cmm_no_reflexive, tx_cmm_no_region;
  uint64_t candidates_filtered, candidates_full;
  uint64_t netmap_failed; /* updates that could not be applied */
  uint64_t paths_up, paths_down;
} msock_engine_counters;
msock_engine_counters msock_engine_counters_get(const msock_engine *e);

#endif
