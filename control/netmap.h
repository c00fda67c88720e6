/* control/netmap.h: what the control server told us, as a value: self, peers, DERP map, packet
 * filter, DNS, users, health.
 *
 * Fed by control/map_stream.h, one message at a time, applied as a whole or not at all (control.md
 * 4.4): a message is parsed into a msock_netmap_update beside the store, and one commit swaps it
 * in. The commit queues changes, so that a consumer does small updates: an identical node gives no
 * change. Pointers out of the store are valid until the next call that may commit (msock_control_
 * conn_feed, msock_netmap_commit) or msock_netmap_on_expiry. Single-threaded; no clock: wall_us is
 * microseconds since 1970. Sources: control.md 4.3 - 4.6, 5. */
#ifndef MSOCK_CONTROL_NETMAP_H
#define MSOCK_CONTROL_NETMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/derp_map.h"
#include "base/env.h"
#include "base/err.h"
#include "base/key.h"
#include "base/policy.h"

/* Bounds. A table that is full drops the new entry, counts it and logs it once per message. */
#define MSOCK_NETMAP_PEERS_MAX 20000u    /* ours: a tailnet twice the size of the design's 10,000 */
#define MSOCK_NETMAP_ADDRESSES_MAX 16u   /* per node; real ones have 1 or 2 */
#define MSOCK_NETMAP_ROUTES_MAX 512u     /* AllowedIPs, PrimaryRoutes per node */
#define MSOCK_NETMAP_ENDPOINTS_MAX 64u   /* control.md 5.1 */
#define MSOCK_NETMAP_CAPS_MAX 128u       /* capability names per node */
#define MSOCK_NETMAP_TAGS_MAX 32u        /* per node */
#define MSOCK_NETMAP_NAME_MAX 255u       /* bytes of any name kept */
#define MSOCK_NETMAP_USERS_MAX 4096u     /* user profiles */
#define MSOCK_NETMAP_FILTER_SETS_MAX 64u /* named packet filters */
#define MSOCK_NETMAP_RULES_MAX 8192u     /* rules of all named filters */
#define MSOCK_NETMAP_RULE_ENTRIES_MAX 4096u /* sources, destinations, ... of one rule */
#define MSOCK_NETMAP_DNS_MAX 1024u          /* records, routes */
#define MSOCK_NETMAP_HEALTH_MAX 32u         /* messages kept */
#define MSOCK_NETMAP_CHANGES_MAX 65536u     /* queued; beyond it one RESYNC replaces them all */

/* A list of texts in one block: the texts with their NULs one after the other. Owner: the struct
 * that holds it. Walk: for (const char *s = NULL; (s = msock_strlist_next(&l, s)) != NULL;). */
typedef struct msock_strlist {
  char *text; /* NULL when empty */
  uint32_t len;
  uint32_t n;
} msock_strlist;
const char *msock_strlist_next(const msock_strlist *l, const char *after);
bool msock_strlist_has(const msock_strlist *l, const char *text);

/* One node: self or a peer (control.md 5.1). */
typedef struct msock_peer {
  uint64_t id; /* NodeID: the key of all deltas */
  uint64_t user_id;
  msock_node_key key;
  msock_disco_key disco;     /* zero: no direct path with this peer, DERP only */
  msock_region_id home_derp; /* HomeDERP, else the legacy DERP text; 0 = unknown */
  uint64_t key_expiry_us;    /* wall time; 0 = never */
  uint64_t last_seen_us;     /* wall time; 0 = unknown */
  char *stable_id;           /* texts are never NULL; "" when absent */
  char *name;                /* FQDN with trailing dot */
  char *hostname;
  char *os;
  msock_prefix *addresses; /* /32 and /128 */
  msock_prefix *allowed;   /* AllowedIPs as the server means them: absent/null = addresses. The
                              same block as addresses when they are equal */
  msock_prefix *primary;   /* PrimaryRoutes */
  msock_addr *endpoints;   /* no port 0, multicast, unspecified */
  msock_strlist caps;      /* names out of CapMap and Capabilities; values are not kept */
  msock_strlist tags;
  uint16_t n_addresses, n_allowed, n_primary, n_endpoints;
  uint16_t peerapi4_port, peerapi6_port; /* Hostinfo.Services; 0 = none */
  uint32_t cap;               /* TRAP control.md 2.8: Headscale writes OUR version here */
  uint8_t online;             /* 0 = unknown, 1 = no, 2 = yes; advice, never a reason not to send */
  bool expired_flag;          /* Node.Expired as sent */
  bool expired;               /* in effect: the flag, or key_expiry_us has passed in server time */
  bool machine_authorized;    /* means something on self only */
  bool wireguard_only;        /* plain WireGuard peer: no disco, no DERP, only endpoints */
  bool peer_relay;            /* Hostinfo.PeerRelay */
  bool unsigned_peerapi_only; /* allowed is already cut to addresses; no inbound, no caps */
  bool has_routes;            /* allowed holds more than addresses */
  bool
      shadowed; /* loses a conflict (same key or address as a lower ID, or our own key): not used */
  msock_ip masq4, masq6; /* SelfNodeV4/V6MasqAddrForThisPeer; family 0 = none */
} msock_peer;

#define MSOCK_PEER_ONLINE_UNKNOWN 0u
#define MSOCK_PEER_ONLINE_NO 1u
#define MSOCK_PEER_ONLINE_YES 2u

typedef struct msock_user_profile {
  uint64_t id;
  char *login;
  char *display;
} msock_user_profile;

typedef struct msock_dns_record {
  char *name;
  char *type; /* "" = A or AAAA by the value */
  char *value;
} msock_dns_record;

typedef struct msock_dns_route {
  char *suffix;
  msock_strlist resolvers; /* "ip", "ip:port" or a URL; empty = answer locally */
} msock_dns_route;

/* control.md 5.3. Reverse zones without a resolver are not kept. */
typedef struct msock_dns_config {
  bool proxied;          /* MagicDNS */
  msock_strlist domains; /* search list; the first is the tailnet's base domain */
  msock_strlist resolvers;
  msock_strlist fallback_resolvers;
  msock_dns_route *routes;
  size_t n_routes;
  msock_dns_record *records;
  size_t n_records;
} msock_dns_config;

typedef struct msock_health_message {
  char *id; /* key of DisplayMessages, or "" for an entry of the older Health list */
  char *title;
  char *text;
  char *severity; /* "high", "medium", "low" or "" */
} msock_health_message;

typedef enum msock_netmap_change_kind {
  MSOCK_NETMAP_SELF = 1,     /* what: bits; self may be NULL now (after logout) */
  MSOCK_NETMAP_PEER_ADDED,   /* id, key */
  MSOCK_NETMAP_PEER_REMOVED, /* id, key = the key it had: drop session, routes, disco, DERP state */
  MSOCK_NETMAP_PEER_CHANGED, /* id, what; key = the key before when what has KEY, else the key */
  MSOCK_NETMAP_ROUTES,       /* ask msock_netmap_accepted_routes again for every peer */
  MSOCK_NETMAP_DERP_MAP,
  MSOCK_NETMAP_FILTER,
  MSOCK_NETMAP_DNS,
  MSOCK_NETMAP_USERS,
  MSOCK_NETMAP_HEALTH,
  MSOCK_NETMAP_DOMAIN,
  MSOCK_NETMAP_RESYNC /* the queue overflowed: compare everything with the store */
} msock_netmap_change_kind;

enum {                           /* bits of msock_netmap_change.what */
       MSOCK_PEER_KEY = 1u << 0, /* new WireGuard session, DERP address; disco binding void */
       MSOCK_PEER_DISCO = 1u << 1,
       MSOCK_PEER_ENDPOINTS = 1u << 2,
       MSOCK_PEER_DERP = 1u << 3,
       MSOCK_PEER_ADDRESSES = 1u << 4,
       MSOCK_PEER_ALLOWED = 1u << 5, /* AllowedIPs or PrimaryRoutes: a ROUTES change follows */
       MSOCK_PEER_ONLINE = 1u << 6,  /* online or last seen */
       MSOCK_PEER_EXPIRY = 1u << 7,  /* expired came or went, or key_expiry_us moved */
       MSOCK_PEER_NAME = 1u << 8,    /* name, host name, OS, user, tags */
       MSOCK_PEER_CAPS = 1u << 9,    /* capabilities, capability version */
       MSOCK_PEER_OTHER = 1u << 10   /* any other kept field */
};

typedef struct msock_netmap_change {
  msock_netmap_change_kind kind;
  uint32_t what;
  uint64_t id;
  msock_node_key key;
} msock_netmap_change;

typedef struct msock_netmap_stats {
  uint64_t messages;          /* committed, keep-alives included */
  uint64_t bad_elements;      /* one malformed or oversize peer, rule, region: dropped */
  uint64_t conflicts;         /* peers that lost a conflict, at the last check */
  uint64_t over_bounds;       /* entries over a MSOCK_NETMAP_*_MAX */
  uint64_t skipped_endpoints; /* port 0, multicast, unspecified, unwanted loopback */
} msock_netmap_stats;

typedef struct msock_netmap msock_netmap;

/* allow_loopback: keep 127.0.0.0/8 and ::1 among peers' endpoints (labs). env is borrowed. NULL
 * when out of memory. */
msock_netmap *msock_netmap_new(const msock_env *env, bool allow_loopback);
void msock_netmap_free(msock_netmap *nm);

/* NULL until the first full message. */
const msock_peer *msock_netmap_self(const msock_netmap *nm);
/* Peers in ascending ID, i < count; shadowed ones are skipped by the look-ups but are in here. */
size_t msock_netmap_count(const msock_netmap *nm);
const msock_peer *msock_netmap_at(const msock_netmap *nm, size_t i);
/* NULL when unknown or shadowed. */
const msock_peer *msock_netmap_find_id(const msock_netmap *nm, uint64_t id);
const msock_peer *msock_netmap_find_key(const msock_netmap *nm, const msock_node_key *key);
/* By one of its own addresses (linear). */
const msock_peer *msock_netmap_find_ip(const msock_netmap *nm, const msock_ip *ip);
/* By FQDN (trailing dot or not) or by its first label; letters compared without case (linear). */
const msock_peer *msock_netmap_find_name(const msock_netmap *nm, const char *name);
const msock_user_profile *msock_netmap_user(const msock_netmap *nm, uint64_t id);
const msock_derp_map *msock_netmap_derp_map(const msock_netmap *nm); /* never NULL */
/* The union of all named filters; NULL until the first one came (drop all inbound, control.md
 * 5.2), empty = drop all. The rules are borrowed by the policy of the store. */
const msock_policy *msock_netmap_filter(const msock_netmap *nm);
const msock_dns_config *msock_netmap_dns(const msock_netmap *nm); /* never NULL */
const char *msock_netmap_domain(const msock_netmap *nm);          /* "" until known */
size_t msock_netmap_health(const msock_netmap *nm, const msock_health_message **out);
msock_netmap_stats msock_netmap_get_stats(const msock_netmap *nm);
/* Server time - wall time, in microseconds; 0 while they agree within 60 s (control.md 5.1). */
int64_t msock_netmap_clock_offset_us(const msock_netmap *nm);

/* Which AllowedIPs of a peer we use (control.md 5.1): its own addresses when AllowedIPs has them;
 * subnet routes only with accept_routes; 0.0.0.0/0 and ::/0 only for the chosen exit node. A prefix
 * that several peers offer goes to one: PrimaryRoutes first, then the lower ID. Nobody gets the own
 * address of another peer or of self. Shadowed and expired peers get nothing. */
typedef struct msock_route_policy {
  bool accept_routes;
  uint64_t exit_node_id; /* 0 = none */
} msock_route_policy;
/* Writes at most cap prefixes (MSOCK_NETMAP_ROUTES_MAX always suffices) and gives their number. */
size_t msock_netmap_accepted_routes(const msock_netmap *nm, const msock_route_policy *policy,
                                    const msock_peer *peer, msock_prefix *out, size_t cap);

/* Forgets everything (after logout); queues what went. */
void msock_netmap_reset(msock_netmap *nm);

/* Takes the oldest change; false when there is none. */
bool msock_netmap_next_change(msock_netmap *nm, msock_netmap_change *out);

/* Node key expiry: marks peers (and self) whose time has come in server time, queues changes. Call
 * at msock_netmap_next_expiry; a wall clock that steps is noticed within 10 minutes. */
void msock_netmap_on_expiry(msock_netmap *nm, uint64_t now_us, uint64_t wall_us);
uint64_t msock_netmap_next_expiry(const msock_netmap *nm);

#endif
