/* derp/server_internal.h: what server.c (frames, forwarding) and server_http.c (request heads)
 * share. */
#ifndef MSOCK_DERP_SERVER_INTERNAL_H
#define MSOCK_DERP_SERVER_INTERNAL_H

#include "base/env.h"
#include "derp/frame.h"
#include "derp/queue.h"
#include "derp/server.h"

#define RELAY_SLOTS 64u /* one bit each in a word */

typedef struct relay_counts {
  uint64_t accepted, refused_full;
  uint64_t logins, login_failures;
  uint64_t packets_in, packets_out;
  uint64_t dropped_unknown;
  uint64_t dropped_queue_disco, dropped_queue;
  uint64_t dropped_nomem;
  uint64_t protocol_errors, stalls;
  uint64_t gone_sent;
} relay_counts;

typedef enum relay_phase { RELAY_FREE = 0, RELAY_HTTP, RELAY_LOGIN, RELAY_UP } relay_phase;

typedef struct relay_gone {
  msock_node_key key;
  uint8_t reason;
} relay_gone;

typedef struct relay_conn {
  uint32_t id; /* slot and generation */
  relay_phase phase;
  bool closing; /* read nothing, send what is queued, close */
  bool dead;    /* close now */
  bool wake;
  uint64_t login_us;     /* deadline of the login */
  uint64_t keepalive_us; /* when the next one is due */
  uint64_t period_us;
  uint64_t stall_us; /* deadline for the next byte to be taken */

  msock_node_key key;    /* UP: authenticated */
  uint64_t spoke;        /* order of the last sign of life: the highest of a key is active */
  uint64_t heard;        /* bit per slot: has received a packet from that connection */
  uint32_t gone_tokens;  /* "not here" notices that it may still get */
  uint64_t gone_full_us; /* when the bucket was last counted */

  uint8_t *rx; /* an incomplete head or frame */
  size_t rx_len, rx_cap;
  uint64_t skip; /* payload bytes of a frame that is not looked at */
  uint8_t *tx;   /* tx[tx_at..tx_len) waits for the socket */
  size_t tx_at, tx_len, tx_cap;
  msock_derp_queue queue;
  bool big; /* a slot of the queue holds a large buffer */
  bool keepalive_due, pong_due;
  uint8_t pong[MSOCK_DERP_PING_LEN];
  relay_gone gone[64]; /* ring */
  size_t gone_at, n_gone;
} relay_conn;

struct msock_derp_server {
  const msock_env *env;
  msock_node_private key;
  msock_node_key public_key;
  relay_conn *conns[RELAY_SLOTS]; /* NULL = free slot */
  uint32_t generation;
  uint64_t order; /* source of relay_conn.spoke */
  size_t wake_at; /* where next_wake goes on */
  relay_counts stats;
};

/* Appends to what waits for the socket; false (and dead) when out of memory. */
bool relay_send(relay_conn *c, const void *p, size_t len);
/* The rest of rx. cap bytes at least; false (and dead) when out of memory. */
bool relay_rx_fit(relay_conn *c, size_t cap);
/* Bytes of a request head: gives how many were used. The connection is then in LOGIN (its
 * ServerKey queued), or closing with an answer queued. */
size_t relay_feed_http(msock_derp_server *s, relay_conn *c, const uint8_t *p, size_t len);

#endif
