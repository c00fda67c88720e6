/* control/control.h: the control client (ts2021) as a pure machine, and the tour of this room.
 *
 *   noise.h       Noise_IK handshake, both sides, and records (control.md 2.4, 2.5)
 *   channel.h     upgrade head, Noise, early payload, HTTP/2 streams on one connection (2.2 - 2.7)
 *   json_split.h  walks a JSON text of any size, hands out one element at a time
 *   map_stream.h  length-prefixed map messages, zstd or plain, into the netmap (4.2)
 *   netmap.h      the store and its changes (4.4 - 5)
 *   register.h    register request and the meaning of its answer (3)
 *   map_request.h map request JSON: stream and lite (4.1)
 *   client.c      this machine: key, dial, register, stream, updates, back-off (3 - 6)
 *
 * Life of a session: next_action gives FETCH_KEY, the owner does the HTTP(S) GET and calls
 * on_key_response; then DIAL, conn_up, bytes both ways (conn_feed, conn_tx_peek); the machine
 * registers, opens the map stream, and emits NETMAP events; the owner takes changes out of
 * msock_control_netmap. Anything may fail at any time: the machine closes, waits, dials again, and
 * keeps the netmap; the data plane never depends on it. After EVERY call take actions until NONE,
 * events until NONE, send what tx_peek shows, and arm next_expiry.
 *
 * Time: now_us monotonic (counts suspend), wall_us microseconds since 1970 beside it where a rule
 * needs wall time. */
#ifndef MSOCK_CONTROL_CONTROL_H
#define MSOCK_CONTROL_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/derp_map.h"
#include "base/endpoint.h"
#include "base/env.h"
#include "base/err.h"
#include "base/key.h"
#include "base/tristate.h"
#include "control/netmap.h"

/* Claimed capability version: control.md 2.8. Never below 121 where peer relay is wanted. */
#define MSOCK_CONTROL_CAPVER 138u
#define MSOCK_CONTROL_URL_MAX 2048u       /* AuthURL and ping URL: control.md 3.4 */
#define MSOCK_CONTROL_KEY_BODY_MAX 65536u /* give up reading /key beyond this: control.md 2.1 */
#define MSOCK_CONTROL_ENDPOINTS_MAX 64u
#define MSOCK_CONTROL_ROUTES_MAX 128u
#define MSOCK_CONTROL_TAGS_MAX 32u
#define MSOCK_CONTROL_LATENCIES_MAX 64u

/* What we tell about this host. Texts and arrays are copied by every call that takes it. */
typedef struct msock_hostinfo {
  const char *hostname;
  const char *os;             /* "linux" */
  const char *app_version;    /* IPNVersion */
  const char *backend_log_id; /* any stable random hex */
  const msock_prefix *routable_ips;
  size_t n_routable_ips; /* exit node: 0.0.0.0/0 and ::/0 */
  const char *const *request_tags;
  size_t n_request_tags;
  bool peer_relay; /* willing to be a peer relay */
} msock_hostinfo;

typedef struct msock_derp_latency {
  msock_region_id region;
  uint8_t family; /* 4 or 6 */
  uint64_t rtt_us;
} msock_derp_latency;

/* Hostinfo.NetInfo (control.md 4.1). */
typedef struct msock_netinfo {
  msock_region_id preferred_derp; /* 0 = none: nobody can reach us by DERP */
  msock_tristate working_udp;
  msock_tristate working_ipv6;
  msock_tristate os_has_ipv6;
  msock_tristate mapping_varies_by_dest_ip;
  msock_tristate upnp, pmp, pcp;
  msock_derp_latency latencies[MSOCK_CONTROL_LATENCIES_MAX];
  size_t n_latencies;
} msock_netinfo;

typedef struct msock_control_cfg {
  bool https;       /* scheme of the server URL */
  const char *host; /* DNS name or IP literal without brackets; copied */
  uint16_t port;    /* 0 = 443 or 80 */
  uint32_t capver;  /* 0 = MSOCK_CONTROL_CAPVER; at most 65535 */
  msock_machine_private machine;
  msock_node_private node;     /* of the state file; zero = none yet: one is made */
  msock_node_private old_node; /* while a login was under way; zero = none */
  msock_disco_key disco;       /* public only: the private one never comes here */
  msock_hostinfo hostinfo;
  const char *auth_key; /* pre-auth key or NULL; copied, wiped on free, never logged */
  bool ephemeral;
  msock_machine_key server_key; /* known key of the server (state file, server_key:), else zero */
  bool pin_server_key; /* a different key from /key is refused and reported; else it is a cache */
  bool allow_loopback_endpoints; /* labs */
} msock_control_cfg;

typedef struct msock_control msock_control;

/* Starts stopped: call set_want_running. NULL: no memory, or host empty or too long (255). */
msock_control *msock_control_new(const msock_env *env, const msock_control_cfg *cfg);
void msock_control_free(msock_control *c); /* wipes keys */

/* --- actions: what the owner shall do --- */
typedef enum msock_control_action_kind {
  MSOCK_CONTROL_NONE = 0,
  MSOCK_CONTROL_FETCH_KEY, /* GET path from the configured origin, TLS verified; text = path. Answer
                              with on_key_response or on_key_failed; a newer one supersedes */
  MSOCK_CONTROL_DIAL,      /* TCP (and TLS when tls) to host:port, then conn_up or conn_down */
  MSOCK_CONTROL_CLOSE,     /* drop the connection or the dial; call nothing for it any more */
  MSOCK_CONTROL_PING_HEAD  /* HEAD text (an URL of the configured origin), no redirects, 5 s; the
                              answer does not matter here. Origin already checked */
} msock_control_action_kind;

typedef struct msock_control_action {
  msock_control_action_kind kind;
  const char *host; /* DIAL: as configured; lives as long as the machine */
  uint16_t port;
  bool tls;
  char text[MSOCK_CONTROL_URL_MAX + 1];
} msock_control_action;

/* False when there is nothing to do. At most one connection exists at a time: a DIAL is preceded by
 * CLOSE when one is still there. */
bool msock_control_next_action(msock_control *c, msock_control_action *out);

/* --- inputs --- */
void msock_control_on_key_response(msock_control *c, uint64_t now_us, int http_status,
                                   const uint8_t *body, size_t len);
/* reason in words for the log and the user: "certificate has expired", "connection refused". */
void msock_control_on_key_failed(msock_control *c, uint64_t now_us, const char *reason);

typedef enum msock_conn_down {
  MSOCK_CONN_EOF = 0, /* the other side closed in order */
  MSOCK_CONN_REFUSED,
  MSOCK_CONN_RESET,
  MSOCK_CONN_TLS,     /* TLS failed */
  MSOCK_CONN_RESOLVE, /* no address for the host */
  MSOCK_CONN_LOST     /* anything else: unreachable, time-out, local address gone */
} msock_conn_down;
void msock_control_conn_up(msock_control *c, uint64_t now_us, uint64_t wall_us);
/* All bytes are taken. Do not feed after CLOSE (ignored). */
void msock_control_conn_feed(msock_control *c, uint64_t now_us, uint64_t wall_us, const uint8_t *p,
                             size_t len);
/* Bytes to send: gives their number, *p valid until the next call on this machine; 0 = none. */
size_t msock_control_conn_tx_peek(msock_control *c, const uint8_t **p);
void msock_control_conn_tx_consume(msock_control *c, size_t n);
void msock_control_conn_down(msock_control *c, uint64_t now_us, msock_conn_down why);

void msock_control_on_expiry(msock_control *c, uint64_t now_us, uint64_t wall_us);
uint64_t msock_control_next_expiry(const msock_control *c); /* MSOCK_NEVER = none */

/* The network changed or the machine woke. conn_lost: the connection's local address is gone, so it
 * is dropped at once; else it is PINGed with a limit of 3 s. Waiting dials start now. */
void msock_control_on_link_change(msock_control *c, uint64_t now_us, bool conn_lost);

/* --- settings; each may come at any time; changes travel by one coalesced lite update --- */
void msock_control_set_netinfo(msock_control *c, uint64_t now_us, const msock_netinfo *ni);
/* Entries over MSOCK_CONTROL_ENDPOINTS_MAX are dropped. */
void msock_control_set_endpoints(msock_control *c, uint64_t now_us, const msock_endpoint *eps,
                                 size_t n);
msock_err msock_control_set_hostinfo(msock_control *c, uint64_t now_us, const msock_hostinfo *h);
void msock_control_set_disco_key(msock_control *c, uint64_t now_us, const msock_disco_key *k);
/* False: close the connection and stay away (the netmap is kept). */
void msock_control_set_want_running(msock_control *c, uint64_t now_us, bool want);
/* A person wants the connection now: what waits for its time starts, and a server whose key was
 * refused is looked at again. */
void msock_control_hurry(msock_control *c, uint64_t now_us);
/* (Re-)login with a new node key. auth_key NULL = interactive: an AUTH_URL event comes. After
 * logout, or to get out of NEEDS_LOGIN, or by force. */
msock_err msock_control_login(msock_control *c, uint64_t now_us, const char *auth_key);
/* Tells the server (3.5), waits 10 s at most, then forgets the node keys: LOGGED_OUT. At once when
 * the server's key is refused. */
void msock_control_logout(msock_control *c, uint64_t now_us);
/* The next connection asks /key and takes what it says, as the first one did: for the time after a
 * logout, which is how a person accepts a new key of the server. */
void msock_control_forget_server_key(msock_control *c);

/* --- events --- */
typedef enum msock_control_state {
  MSOCK_CONTROL_STOPPED = 0,    /* not wanted */
  MSOCK_CONTROL_STARTING,       /* no map yet since start, login or the like */
  MSOCK_CONTROL_NEEDS_LOGIN,    /* a person has to act: AUTH_URL, or an error says what */
  MSOCK_CONTROL_NEEDS_APPROVAL, /* registered, the machine is not authorized yet */
  MSOCK_CONTROL_RUNNING,        /* netmap in use; see msock_control_connected for the stream */
  MSOCK_CONTROL_EXPIRED         /* the self key has expired; a new login is under way or needed */
} msock_control_state;

/* Error codes are stable: LocalAPI and tests use them by name. */
typedef enum msock_control_error {
  MSOCK_CONTROL_E_NONE = 0,
  /* /key (control.md 2.1) */
  MSOCK_CONTROL_E_KEY_UNREACHABLE, /* no HTTP answer; the text has the reason */
  MSOCK_CONTROL_E_KEY_STATUS,      /* another status than 200 */
  MSOCK_CONTROL_E_KEY_EMPTY,       /* empty 200: the server finds our version too old */
  MSOCK_CONTROL_E_KEY_NOT_JSON,    /* HTML or the like: not a control server */
  MSOCK_CONTROL_E_KEY_TOO_LONG,
  MSOCK_CONTROL_E_KEY_LEGACY,  /* bare hex, or no publicKey: the server is too old */
  MSOCK_CONTROL_E_KEY_CHANGED, /* pinned key differs; stopped until restarted or re-configured */
  /* connection */
  MSOCK_CONTROL_E_CONNECT,  /* dial failed */
  MSOCK_CONTROL_E_UPGRADE,  /* another status than 101; the text names status and proxy */
  MSOCK_CONTROL_E_REJECTED, /* 101, then EOF: key changed or client version too old */
  MSOCK_CONTROL_E_HANDSHAKE,
  MSOCK_CONTROL_E_PROTOCOL, /* record, early payload or HTTP/2 failed */
  MSOCK_CONTROL_E_TIMEOUT,  /* dial, handshake, PING, watchdog */
  /* register (control.md 3.3), one per row */
  MSOCK_CONTROL_E_AUTHKEY_USED,
  MSOCK_CONTROL_E_AUTHKEY_EXPIRED,
  MSOCK_CONTROL_E_AUTHKEY_REVOKED,
  MSOCK_CONTROL_E_AUTHKEY_INVALID,
  MSOCK_CONTROL_E_AUTHKEY_MALFORMED,
  MSOCK_CONTROL_E_OTHER_MACHINE, /* the node key belongs to another machine key */
  MSOCK_CONTROL_E_REGISTRATION_ID,
  MSOCK_CONTROL_E_EXTEND_EXPIRY,
  MSOCK_CONTROL_E_NODE_KEY_EXPIRED, /* again after one regeneration */
  MSOCK_CONTROL_E_TAILNET_LOCK,
  MSOCK_CONTROL_E_VERSION, /* 400 unsupported client version: tried again each hour */
  MSOCK_CONTROL_E_BUSY,    /* 429 / 503 */
  MSOCK_CONTROL_E_REFUSED, /* any other Error text */
  MSOCK_CONTROL_E_REGISTER_STATUS,
  MSOCK_CONTROL_E_REGISTER_BODY, /* not JSON, null, or a bad AuthURL */
  /* map */
  MSOCK_CONTROL_E_MAP_STATUS,
  MSOCK_CONTROL_E_MAP_NOT_FOUND, /* 404: the node was deleted; registering anew */
  MSOCK_CONTROL_E_MAP_BODY,      /* over a limit, not zstd, not JSON, first message without Node */
  MSOCK_CONTROL_E_MAP_ENDED      /* the stream ended */
} msock_control_error;
const char *msock_control_error_name(msock_control_error e); /* "authkey-used"; never NULL */
/* What a person can do about it, one sentence, or "" when it heals by itself. */
const char *msock_control_error_advice(msock_control_error e);
const char *msock_control_state_name(msock_control_state s); /* tailscaled's: "NeedsLogin" */

typedef enum msock_control_event_kind {
  MSOCK_CONTROL_EV_NONE = 0,
  MSOCK_CONTROL_EV_STATE,      /* state */
  MSOCK_CONTROL_EV_SERVER_KEY, /* server_key: learnt by /key; store it (and pin it for http) */
  MSOCK_CONTROL_EV_AUTH_URL,   /* text: show it to the user; never hand it to a shell */
  MSOCK_CONTROL_EV_NODE_KEY,   /* node_key: a new trying key was made; not to be stored yet */
  MSOCK_CONTROL_EV_REGISTERED, /* node_key: store msock_control_node_private as current NOW and
                                  forget the old one; text = login name */
  MSOCK_CONTROL_EV_LOGGED_OUT, /* wipe node and old node key in the state file; keep the machine */
  MSOCK_CONTROL_EV_NETMAP,     /* take msock_netmap_next_change until false */
  MSOCK_CONTROL_EV_BROWSE_URL, /* text: PopBrowserURL, reported once per distinct URL */
  MSOCK_CONTROL_EV_ERROR       /* error, text; advice by msock_control_error_advice */
} msock_control_event_kind;

typedef struct msock_control_event {
  msock_control_event_kind kind;
  msock_control_state state;
  msock_control_error error;
  msock_machine_key server_key;
  msock_node_key node_key;
  char text[MSOCK_CONTROL_URL_MAX + 1];
} msock_control_event;

/* False when there is none. Up to 32 wait; a full queue drops the oldest ERROR or STATE first. */
bool msock_control_next_event(msock_control *c, msock_control_event *out);

/* --- what is now --- */
msock_control_state msock_control_get_state(const msock_control *c);
/* The map stream is up and its first message came. */
bool msock_control_connected(const msock_control *c);
/* Lives as long as the machine. Taking changes out is why it is not const. */
msock_netmap *msock_control_netmap(msock_control *c);
/* The key in use: the registered one, or the trying one before the first success. */
const msock_node_private *msock_control_node_private(const msock_control *c);
/* The trying key's predecessor while a login is under way; zero otherwise. */
const msock_node_private *msock_control_old_node_private(const msock_control *c);
const char *msock_control_auth_url(const msock_control *c); /* "" when none is open */

typedef struct msock_control_stats {
  uint64_t dials, handshakes, registers, streams, lite_updates, lite_failures;
  uint64_t map_messages, map_bytes, keep_alives, pings_answered, pings_refused;
  uint64_t last_message_us; /* now_us of the newest map message; 0 = none */
} msock_control_stats;
msock_control_stats msock_control_get_stats(const msock_control *c);

#endif
