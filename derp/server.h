/* derp/server.h: the core of a small relay: many connections, one pure machine.
 *
 * A connection is a byte stream (TLS is the owner's) with an id of ours. Life of one: open -> HTTP
 * head -> 101 and ServerKey (or, with fast start, ServerKey alone) -> ClientInfo -> ServerInfo ->
 * frames. A SendPacket becomes a RecvPacket in the queue of the destination's active connection;
 * queues drop their oldest packet when full, data and disco apart, so nobody waits for a slow
 * reader. No mesh, no admission, no rate limit: whoever knows the address may use it. For demos,
 * tests and labs. Source: derp.md 1.4, 1.6, 2, 4.
 *
 *   msock_derp_server_feed(s, now_us, conn, bytes, n);
 *   while (msock_derp_server_next_wake(s, &conn)) { ... tx_peek, write, tx_consume ... } */
#ifndef MSOCK_DERP_SERVER_H
#define MSOCK_DERP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "base/key.h"

#define MSOCK_DERP_SERVER_CONNS_MAX 64u /* ours: one bit each in a word; more are refused */
#define MSOCK_DERP_SERVER_LOGIN_US (10 * MSOCK_SEC)     /* head and ClientInfo: derp.md 0 */
#define MSOCK_DERP_SERVER_KEEPALIVE_US (60 * MSOCK_SEC) /* plus 0..5 s, drawn once: derp.md 0 */
#define MSOCK_DERP_SERVER_KEEPALIVE_SPREAD_US (5 * MSOCK_SEC)
#define MSOCK_DERP_SERVER_STALL_US (2 * MSOCK_SEC) /* unsent bytes, none taken: derp.md 0 */
#define MSOCK_DERP_SERVER_GONE_BURST 3u            /* "not here" notices per sender: derp.md 2.3 */
#define MSOCK_DERP_SERVER_GONE_REFILL_US MSOCK_SEC
#define MSOCK_DERP_SERVER_GONE_QUEUE 64u /* notices waiting on one connection; more are dropped */

typedef struct msock_derp_server msock_derp_server;

typedef struct msock_derp_server_stats {
  uint64_t accepted, refused_full;
  uint64_t logins, login_failures;
  uint64_t packets_in, packets_out;
  uint64_t dropped_unknown;                    /* destination is not here */
  uint64_t dropped_queue_disco, dropped_queue; /* oldest of a full queue */
  uint64_t dropped_nomem;
  uint64_t protocol_errors, stalls;
  uint64_t gone_sent;
} msock_derp_server_stats;

/* key is copied and wiped on free; env is borrowed for life. NULL: no memory. */
msock_derp_server *msock_derp_server_new(const msock_env *env, const msock_node_private *key);
void msock_derp_server_free(msock_derp_server *s);

/* A new connection. MSOCK_ERR_NOMEM: the table is full (close the socket). Ids are not reused
 * soon; calls with the id of a connection that is gone do nothing. */
msock_err msock_derp_server_open(msock_derp_server *s, uint64_t now_us, uint32_t *conn);
/* The stream ended, or the owner has closed it: forgets the connection and tells its peers. */
void msock_derp_server_close(msock_derp_server *s, uint64_t now_us, uint32_t conn);
/* MSOCK_ERR_CLOSED: nothing more is read; send what is left, then close. */
msock_err msock_derp_server_feed(msock_derp_server *s, uint64_t now_us, uint32_t conn,
                                 const uint8_t *p, size_t len);
/* Bytes to send, 0 = none; *p is valid until the next call for this connection. */
size_t msock_derp_server_tx_peek(msock_derp_server *s, uint64_t now_us, uint32_t conn,
                                 const uint8_t **p);
void msock_derp_server_tx_consume(msock_derp_server *s, uint64_t now_us, uint32_t conn, size_t n);
/* Everything is sent, or nothing may be sent any more: close it now. */
bool msock_derp_server_is_done(const msock_derp_server *s, uint32_t conn);
/* A connection that has something to send or is to be closed since it was last given; false when
 * there is none. */
bool msock_derp_server_next_wake(msock_derp_server *s, uint32_t *conn);

uint64_t msock_derp_server_next_expiry(const msock_derp_server *s);
void msock_derp_server_on_expiry(msock_derp_server *s, uint64_t now_us);

msock_node_key msock_derp_server_key(const msock_derp_server *s);
/* Connections that are logged in. */
size_t msock_derp_server_count(const msock_derp_server *s);
msock_derp_server_stats msock_derp_server_get_stats(const msock_derp_server *s);

#endif
