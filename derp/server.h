/* derp/server.h: the core of a relay: many connections, one pure machine.
 *
 * A connection is a byte stream (TLS is the owner's) with an id of ours. Life of one: accept ->
 * HTTP head -> 101 and ServerKey (or, with fast start, ServerKey alone) -> ClientInfo -> admission
 * -> ServerInfo -> frames. A SendPacket becomes a RecvPacket in the queue of the destination's
 * active connection: kept once, in a buffer of a bounded pool; many leave in one write. Queues drop
 * their oldest packet when full, data and disco apart, so nobody waits for a slow reader. Source:
 * derp.md 1.4, 1.6, 2, 4.
 *
 * Files: server (life, time), server_http (request heads), server_login, server_frames (bytes in),
 * server_send (bytes out), server_route (forwarding, notices), server_mesh, server_flows,
 * server_limits (rates, quotas), server_keys, server_idle (keys that have left), server_clones,
 * server_bans, server_status (and the drain), server_events, with server_buffer, server_table and
 * server_wheel beneath. No verb walks all connections but those that say so.
 *
 *   if (msock_derp_server_feed(s, now_us, conn, bytes, n) == MSOCK_ERR_AGAIN) { stop reading it }
 *   while (msock_derp_server_next_wake(s, &conn)) {
 *     tx_peek, write, tx_consume; is_done -> close; wants_read -> read it again
 *   }
 *   while (msock_derp_server_next_question(s, &q)) { look q.key up; later: answer }
 *   while (msock_derp_server_next_event(s, &ev)) { log it }
 *   sleep until msock_derp_server_next_expiry(s), then on_expiry */
#ifndef MSOCK_DERP_SERVER_H
#define MSOCK_DERP_SERVER_H

#include "derp/server_events.h"
#include "derp/server_settings.h"

#define MSOCK_DERP_SERVER_TX_MAX                                                                   \
  16384u /* of tx_peek, a single larger frame excepted: one record                                 \
          */

typedef struct msock_derp_server msock_derp_server;

/* key is copied and wiped on free; env is borrowed for life. NULL: no memory. Default settings. */
msock_derp_server *msock_derp_server_new(const msock_env *env, const msock_node_private *key);
void msock_derp_server_free(msock_derp_server *s);

/* New settings, for those who are here as well: rates, quotas and flow limits act from the next
 * packet on; lower counts end nobody. MSOCK_ERR_INVALID: nothing is changed
 * (msock_derp_server_settings_check says why). */
msock_err msock_derp_server_configure(msock_derp_server *s, uint64_t now_us,
                                      const msock_derp_server_settings *settings);

/* --- one connection --- */

/* A new connection, told before its TLS handshake, so that a refused one costs nothing.
 *   from   its address; NULL or family 0 = not known (a Unix socket): no address limit holds
 *   why    the cause of a refusal; may be NULL
 *   gives  MSOCK_OK; MSOCK_ERR_DENIED: close the socket; MSOCK_ERR_NOMEM
 * Ids are not 0 and not reused soon; calls with the id of a connection that is gone do nothing. */
msock_err msock_derp_server_accept(msock_derp_server *s, uint64_t now_us, const msock_addr *from,
                                   uint32_t *conn, msock_derp_cause *why);
/* The same without an address. MSOCK_ERR_NOMEM for every refusal. */
msock_err msock_derp_server_open(msock_derp_server *s, uint64_t now_us, uint32_t *conn);
/* The real address, learned later (X-Forwarded-For, PROXY), before the login. MSOCK_ERR_DENIED: it
 * is banned or its prefix is full; the connection is over. */
msock_err msock_derp_server_set_from(msock_derp_server *s, uint64_t now_us, uint32_t conn,
                                     const msock_addr *from);
/* The owner has read the request head itself (server_http.h tells how) and has sent the 101, when
 * one is due: queues ServerKey and waits for ClientInfo. not_ideal: Ideal-Node was there. */
void msock_derp_server_start(msock_derp_server *s, uint64_t now_us, uint32_t conn, bool not_ideal);
/* The stream ended, or the owner has closed it: forgets the connection and tells its peers. */
void msock_derp_server_close(msock_derp_server *s, uint64_t now_us, uint32_t conn);

/* Bytes of the peer. All of them are taken, whatever comes back.
 *   MSOCK_ERR_AGAIN   read no more until wants_read (a wake tells): rate, quota, or a question open
 *   MSOCK_ERR_CLOSED  read no more at all; send what is left, then close */
msock_err msock_derp_server_feed(msock_derp_server *s, uint64_t now_us, uint32_t conn,
                                 const uint8_t *p, size_t len);
bool msock_derp_server_wants_read(const msock_derp_server *s, uint32_t conn);
/* Bytes to send, 0 = none: as many frames as go into one TLS record. *p is valid until the next
 * peek or consume of any connection; the same bytes come again until some are consumed. */
size_t msock_derp_server_tx_peek(msock_derp_server *s, uint64_t now_us, uint32_t conn,
                                 const uint8_t **p);
void msock_derp_server_tx_consume(msock_derp_server *s, uint64_t now_us, uint32_t conn, size_t n);
/* Everything is sent, or nothing may be sent any more: close it now. */
bool msock_derp_server_is_done(const msock_derp_server *s, uint32_t conn);
/* A connection that has something to send, may be read again, or is to be closed since it was last
 * given; false when there is none. */
bool msock_derp_server_next_wake(msock_derp_server *s, uint32_t *conn);

/* --- time --- */

uint64_t msock_derp_server_next_expiry(msock_derp_server *s);
void msock_derp_server_on_expiry(msock_derp_server *s, uint64_t now_us);

/* --- the mesh: links to other relays of the region --- */

/* The owner has a stream (TLS is up) to another relay: logs in there with this relay's key and the
 * mesh key, watches who is there, and forwards packets for them, one hop. The id is used like any
 * other; when it is done, the owner closes it and dials again later.
 *   host   of the Host header: HostName[:port]
 *   gives  MSOCK_OK; MSOCK_ERR_DENIED: no mesh key is set, or draining; MSOCK_ERR_INVALID: host is
 *          not fit for a header; MSOCK_ERR_NOMEM
 * A link that turns out to lead to this relay ends with MSOCK_DERP_CAUSE_LINK_SELF: do not repeat
 * it. */
msock_err msock_derp_server_link(msock_derp_server *s, uint64_t now_us, const char *host,
                                 uint32_t *conn);

/* --- admission (settings.admission = MSOCK_DERP_ADMIT_ASK) --- */

typedef struct msock_derp_question {
  uint32_t conn;
  msock_node_key key; /* proven */
  msock_addr from;    /* family 0: not known */
  bool is_prober;
  bool renewal;         /* admitted before; admission_ttl_us is over. It goes on meanwhile */
  uint64_t deadline_us; /* no answer until then = refused */
} msock_derp_question;

/* A login that waits for an answer, each once; false when there is none. Mesh peers are never
 * asked about, nor is who is refused by a limit or a ban. */
bool msock_derp_server_next_question(msock_derp_server *s, msock_derp_question *q);
/* The answer; ignored when the connection waits for none. */
void msock_derp_server_answer(msock_derp_server *s, uint64_t now_us, uint32_t conn, bool admit);

/* --- bans --- */

/* Replaces the list. Connections that match are refused and closed (walks all). MSOCK_ERR_INVALID:
 * over MSOCK_DERP_SERVER_BANS_MAX or a prefix with host bits; MSOCK_ERR_NOMEM; unchanged then. */
msock_err msock_derp_server_set_bans(msock_derp_server *s, uint64_t now_us,
                                     const msock_derp_ban *bans, size_t n);
/* One more, or one less. The walk is as above; errors too. Removing what is not there is fine. */
msock_err msock_derp_server_ban(msock_derp_server *s, uint64_t now_us, const msock_derp_ban *ban);
void msock_derp_server_unban(msock_derp_server *s, const msock_derp_ban *ban);

/* --- quotas --- */

/* The wall date, for quotas: at the start and when it changes. A new day or month sets the bytes of
 * it to 0 (walks the keys). */
void msock_derp_server_set_date(msock_derp_server *s, uint64_t now_us, uint32_t day,
                                uint32_t month);
/* Every key that has sent something this month: *cursor = 0 first, false at the end. Changes of the
 * relay between calls may leave out or repeat one. */
bool msock_derp_server_next_usage(const msock_derp_server *s, uint32_t *cursor,
                                  msock_derp_usage *out);
/* What was kept; adds to what is counted. Of another day or month than the date: that part is
 * ignored. MSOCK_ERR_NOMEM: the table of absent keys is full. */
msock_err msock_derp_server_add_usage(msock_derp_server *s, const msock_derp_usage *u);
/* Bytes that were charged to quotas since the last call: when to write again. */
uint64_t msock_derp_server_take_unsaved(msock_derp_server *s);

/* --- the end --- */

typedef struct msock_derp_drain {
  uint64_t spread_us;           /* each connection is closed at a moment drawn from so much time */
  uint32_t reconnect_in_ms;     /* Restarting: come back after this ... */
  uint32_t reconnect_spread_ms; /* ... plus a number drawn from this */
  uint32_t try_for_ms;          /* and try for so long before giving up on the relay */
} msock_derp_drain;

/* Takes no new connection or login, tells everybody (Restarting) at once, relays on, and closes
 * each at its moment (walks all; derp.md 2.3, 4.8). A second call does nothing. */
void msock_derp_server_drain(msock_derp_server *s, uint64_t now_us, const msock_derp_drain *d);
bool msock_derp_server_is_draining(const msock_derp_server *s);

/* --- what is now --- */

/* The next event; false when there is none. Off until a bound is set: nobody polls them then. When
 * the bound is reached, new ones are lost and counted. */
void msock_derp_server_keep_events(msock_derp_server *s, uint32_t max);
bool msock_derp_server_next_event(msock_derp_server *s, msock_derp_server_event *ev);

msock_node_key msock_derp_server_key(const msock_derp_server *s);
/* Connections that are logged in, and all there are. */
size_t msock_derp_server_count(const msock_derp_server *s);
size_t msock_derp_server_count_all(const msock_derp_server *s);
msock_derp_server_stats msock_derp_server_get_stats(const msock_derp_server *s);

/* One connection that is logged in, for a status page. */
typedef struct msock_derp_server_peer {
  uint32_t conn;
  msock_node_key key;
  msock_addr from;
  uint64_t since_us;
  bool is_home, is_not_ideal, is_mesh, is_watcher, is_prober;
  bool is_active;        /* gets the packets of its key */
  uint32_t conns;        /* of its key */
  bool is_held;          /* not read now: rate or throttle */
  bool is_over_quota;    /* throttled */
  uint32_t queued;       /* packets */
  uint64_t memory_bytes; /* of its queues and partial frame */
  uint64_t bytes_in, bytes_out, packets_in, packets_out, dropped; /* dropped: on the way to it */
  uint64_t rate_in, rate_out;      /* bytes a second, of about the last 10 s */
  uint64_t day_bytes, month_bytes; /* of its key */
  uint32_t flows;                  /* open, by its key */
} msock_derp_server_peer;

/* *cursor = 0 first; false at the end. Changes of the relay between calls may leave out one. */
bool msock_derp_server_next_peer(const msock_derp_server *s, uint64_t now_us, uint32_t *cursor,
                                 msock_derp_server_peer *out);

#endif
