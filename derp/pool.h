/* derp/pool.h: the DERP connections of one node, all regions, as a pure machine.
 *
 * The pool decides which connections exist and which one carries a packet; the shell dials, does
 * TLS, moves bytes and reports. After any call: drain next_action, then next_event, then ask
 * next_expiry. Life of a connection: DIAL -> conn_up (TLS done) -> conn_feed / conn_tx_* -> CLOSE
 * or conn_down. A connection id names one dial and is never used again: reports about an id the
 * pool has given up are ignored.
 *
 * Choice of connection for a packet (derp.md 3.3): the open one to the peer's home; else the one
 * that last delivered a packet from the peer; else the peer's home is opened and the packet waits
 * in its queue. Learned routes go on PeerGone and with their connection, so a peer with neither
 * home nor route has no way. Home is permanent; others close 60 to 75 s after the last write. */
#ifndef MSOCK_DERP_POOL_H
#define MSOCK_DERP_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/derp_map.h"
#include "base/env.h"
#include "base/err.h"
#include "base/key.h"
#include "derp/client.h"
#include "derp/dial.h"

typedef struct msock_derp_pool msock_derp_pool;
typedef uint64_t msock_derp_conn_id; /* 0 = none */

/* ---- what the shell must do ---- */

typedef enum msock_derp_action_kind {
  MSOCK_DERP_ACTION_DIAL = 1,
  MSOCK_DERP_ACTION_CLOSE, /* drop the connection or the dial; no conn_down for it */
  MSOCK_DERP_ACTION_WRITE  /* conn_tx_peek has bytes; not repeated until it has shown none */
} msock_derp_action_kind;

typedef struct msock_derp_action {
  msock_derp_action_kind kind;
  msock_derp_conn_id conn;
  /* DIAL only: */
  msock_region_id region;
  size_t node_index;
  msock_derp_node node; /* a copy */
  msock_derp_dial_plan plan;
  msock_derp_check check;
  uint64_t tcp_budget_us; /* for TCP to this node (not through a proxy): then conn_down TCP */
  uint64_t deadline_us;   /* the pool itself closes the attempt then */
} msock_derp_action;

bool msock_derp_pool_next_action(msock_derp_pool *p, uint64_t now_us, msock_derp_action *out);

/* ---- what the shell reports ---- */

typedef struct msock_derp_conn_info {
  bool is_tls13;           /* TLS 1.3 or newer was negotiated */
  bool has_meta_key;       /* the peer's chain held a derpkey certificate */
  msock_node_key meta_key; /* from it */
  msock_ip local;          /* local address of the socket; family 0 = unknown */
} msock_derp_conn_info;

typedef enum msock_derp_down {
  MSOCK_DERP_DOWN_TCP = 1, /* could not connect (or name, or policy): the next node is tried */
  MSOCK_DERP_DOWN_TLS,     /* handshake or certificate: this attempt is over */
  MSOCK_DERP_DOWN_EOF,     /* the peer closed */
  MSOCK_DERP_DOWN_IO       /* read or write error, write deadline */
} msock_derp_down;

void msock_derp_pool_conn_up(msock_derp_pool *p, uint64_t now_us, msock_derp_conn_id id,
                             const msock_derp_conn_info *info);
/* text: reason in words for `status`; may be NULL. */
void msock_derp_pool_conn_down(msock_derp_pool *p, uint64_t now_us, msock_derp_conn_id id,
                               msock_derp_down why, const char *text);
/* Bytes are borrowed until next_event has returned false. MSOCK_ERR_AGAIN: drain events first;
 * MSOCK_ERR_CLOSED: the id is not (any more) a connection, close it. */
msock_err msock_derp_pool_conn_feed(msock_derp_pool *p, uint64_t now_us, msock_derp_conn_id id,
                                    const uint8_t *bytes, size_t len);
/* As msock_derp_client_tx_peek and _consume; *len = 0 for an unknown id. */
void msock_derp_pool_conn_tx_peek(msock_derp_pool *p, uint64_t now_us, msock_derp_conn_id id,
                                  const uint8_t **bytes, size_t *len);
void msock_derp_pool_conn_tx_consume(msock_derp_pool *p, msock_derp_conn_id id, size_t n);

/* ---- what the pool reports ---- */

typedef enum msock_derp_pool_event_kind {
  MSOCK_DERP_POOL_PACKET = 1,
  MSOCK_DERP_POOL_PEER_GONE,   /* the route is already removed */
  MSOCK_DERP_POOL_REGION_UP,   /* logged in: ServerInfo came */
  MSOCK_DERP_POOL_REGION_DOWN, /* an up region went down, or an attempt failed */
  MSOCK_DERP_POOL_HOME,        /* home region, or whether it is connected, changed */
  MSOCK_DERP_POOL_HEALTH,
  MSOCK_DERP_POOL_RESTARTING,
  MSOCK_DERP_POOL_PONG,
  MSOCK_DERP_POOL_REPROBE /* run a netcheck soon: a connection was lost, or the map changed */
} msock_derp_pool_event_kind;

/* Pointers are valid until the next call on the pool. */
typedef struct msock_derp_pool_event {
  msock_derp_pool_event_kind kind;
  msock_region_id region;
  union {
    struct {
      msock_node_key src;
      const uint8_t *data;
      size_t len;
    } packet;
    struct {
      msock_node_key peer;
      uint8_t reason;
    } peer_gone;
    struct {
      bool was_up;
      bool restarting;  /* the server announced it: keep the home meanwhile */
      const char *text; /* NUL-terminated reason; valid until the next call */
    } down;
    struct {
      bool connected;
      bool restarting; /* not connected, and home is to be kept */
    } home;
    struct {
      const char *text; /* NUL-terminated, printable UTF-8; "" = healthy again */
    } health;
    struct {
      uint32_t reconnect_in_ms;
      uint32_t try_for_ms;
    } restarting;
    uint64_t pong_rtt_us;
  } u;
} msock_derp_pool_event;

bool msock_derp_pool_next_event(msock_derp_pool *p, uint64_t now_us, msock_derp_pool_event *out);

/* ---- verbs ---- */

/* env is borrowed for the pool's life. No map, key or home yet: nothing is dialled. */
msock_derp_pool *msock_derp_pool_new(const msock_env *env);
void msock_derp_pool_free(msock_derp_pool *p);

/* Copies the map; NULL = none: closes everything, home is remembered. Only regions whose definition
 * changed are closed (and redialled if home). MSOCK_ERR_NOMEM: the old map stays. */
msock_err msock_derp_pool_set_map(msock_derp_pool *p, uint64_t now_us, const msock_derp_map *map);
/* NULL or another key closes everything and drops what was queued. */
void msock_derp_pool_set_private_key(msock_derp_pool *p, uint64_t now_us,
                                     const msock_node_private *key);
/* 0 = none. A region that the map lacks is remembered and dialled when a map has it. */
void msock_derp_pool_set_home(msock_derp_pool *p, uint64_t now_us, msock_region_id region);
/* For the dial plan: whether IPv6 may be dialled at all (default yes), and works (default no). */
void msock_derp_pool_set_v6(msock_derp_pool *p, bool allow, bool works);
/* false closes everything and dials nothing; true (the default) resumes. */
void msock_derp_pool_set_network(msock_derp_pool *p, uint64_t now_us, bool up);

/* Sends a packet to dst, whose home is dst_home (0 = unknown). MSOCK_ERR_INVALID: over 65536 bytes;
 * MSOCK_ERR_UNKNOWN: no map, key or way (counted); MSOCK_ERR_NOMEM. */
msock_err msock_derp_pool_send(msock_derp_pool *p, uint64_t now_us, const msock_node_key *dst,
                               msock_region_id dst_home, const uint8_t *pkt, size_t len);

/* The network changed. Connections whose local address is_gone names are closed and redialled if
 * home; the others must answer a ping in 3 s. Waiting back-offs end now. */
void msock_derp_pool_on_rebind(msock_derp_pool *p, uint64_t now_us,
                               bool (*is_gone)(void *ctx, const msock_ip *local), void *ctx);
/* Pings the region's server; PONG follows, or the connection is closed after 5 s.
 * MSOCK_ERR_CLOSED: the region has no open connection; MSOCK_ERR_AGAIN. */
msock_err msock_derp_pool_ping(msock_derp_pool *p, uint64_t now_us, msock_region_id region);

uint64_t msock_derp_pool_next_expiry(const msock_derp_pool *p);
void msock_derp_pool_on_expiry(msock_derp_pool *p, uint64_t now_us);

/* ---- status ---- */

typedef enum msock_derp_region_state {
  MSOCK_DERP_REGION_IDLE = 0, /* no connection, none wanted */
  MSOCK_DERP_REGION_WAITING,  /* back-off, or nothing may be dialled now */
  MSOCK_DERP_REGION_DIALING,  /* until conn_up */
  MSOCK_DERP_REGION_LOGIN,    /* until ServerInfo */
  MSOCK_DERP_REGION_OPEN
} msock_derp_region_state;

typedef struct msock_derp_conn_status {
  msock_region_id region;
  msock_derp_region_state state;
  bool is_home;
  msock_derp_conn_id conn;          /* 0 when none */
  size_t node_index;                /* of the current or last dial */
  uint64_t since_us;                /* when the state began */
  uint64_t last_write_us;           /* 0 = never */
  uint64_t last_frame_us;           /* bytes last came from this region; 0 = never */
  uint32_t failures;                /* in a row */
  uint64_t drops_data, drops_disco; /* from the queue */
  size_t queued;
  msock_derp_client_counters counters; /* since the region was first used */
  char last_error[96];                 /* "" = none so far */
  char health[192];                    /* text from the server; "" = healthy */
} msock_derp_conn_status;

/* Regions with state, ascending by id; false past the last. */
bool msock_derp_pool_status(const msock_derp_pool *p, size_t index, msock_derp_conn_status *out);
/* By region; false when it was never used. */
bool msock_derp_pool_conn_status(const msock_derp_pool *p, msock_region_id region,
                                 msock_derp_conn_status *out);

typedef struct msock_derp_pool_counters {
  uint64_t dials;           /* DIAL actions given */
  uint64_t logins;          /* regions that came up */
  uint64_t losses;          /* open connections lost */
  uint64_t failures;        /* attempts that did not come up */
  uint64_t fast_start_http; /* HTTP text in answer to fast start */
  uint64_t idle_closes;
  uint64_t tx_no_route;
  uint64_t tx_by_route; /* packets sent by a learned route */
  uint64_t routes;      /* learned now */
  uint64_t routes_evicted;
  uint64_t stale_reports; /* about ids that the pool has given up */
} msock_derp_pool_counters;
msock_derp_pool_counters msock_derp_pool_get_counters(const msock_derp_pool *p);

#endif
