/* wg/wg.h: the WireGuard engine as a pure machine: plain IP packets, datagrams and time go in;
 * datagrams, plain IP packets, events and one deadline come out. No socket, clock or thread.
 *
 * It stores NO endpoint: an output says "this message to peer P", and where peer P is reached is
 * the caller's decision. Peers are found by index (types 2, 3, 4) or by their decrypted static key
 * (type 1), never by source address (dataplane.md 6).
 *
 * The files, in the order of a message's life:
 *   messages.[ch]     the wire format and every constant of the protocol
 *   handshake.[ch]    Noise_IKpsk2: make and open initiation and response, no state of its own
 *   cookie.[ch]       mac1, mac2, cookie secrets, the load test and the per-source limits
 *   session.[ch]      one keypair: seal and open in place; replay.[ch] its window
 *   index_table.[ch]  receiver index to handshake or session
 *   allowed_ips.[ch]  longest prefix match: exact host tables, then poptrie.[ch]
 *   staged.[ch]       packets that wait for a session: one shared pool
 *   due_heap.[ch]     the peers with a deadline, earliest first
 *   peers.[ch]        the peer table: 144 B for an idle peer, one block more for an active one
 *   timers.[ch]       what happened to a peer, and what that means for its deadlines
 *   exchange.c        handshake messages in and out; data.c the batches; engine.c the rest
 *
 * The loop of a caller, after EACH call that takes a time:
 *   while ((len = msock_wg_next_output(wg, now, wall, &out, buf, cap)) > 0) send(out, buf, len);
 *   while (msock_wg_next_event(wg, &ev)) ...;
 *   sleep until msock_wg_next_expiry(wg), then msock_wg_on_expiry(wg, now, wall);
 * Outputs polled to the end before the next msock_wg_seal keep staged packets in front of new ones.
 *
 * now_us counts suspend; wall_us is UTC (base/env.h). Ids given by a caller must be live ones, from
 * msock_wg_peer_add or msock_wg_peer_find: an unknown id is answered with MSOCK_ERR_UNKNOWN, or
 * ignored where nothing is returned. Standard: the WireGuard whitepaper; dataplane.md 1 to 7. */
#ifndef MSOCK_WG_WG_H
#define MSOCK_WG_WG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/env.h"
#include "base/err.h"
#include "base/key.h"
#include "base/packet.h"

#define MSOCK_WG_HEADER_LEN 16u /* in front of a sealed packet: type, index, counter */
#define MSOCK_WG_TAG_LEN 16u    /* behind it */
#define MSOCK_WG_OVERHEAD (MSOCK_WG_HEADER_LEN + MSOCK_WG_TAG_LEN)
#define MSOCK_WG_MTU_DEFAULT 1280u /* what the field uses in tailnets (dataplane.md 9.8) */
#define MSOCK_WG_MTU_MIN 576u
#define MSOCK_WG_MTU_MAX 65488u
#define MSOCK_WG_PEERS_MAX 100000u       /* PERF-15; peer_add says MSOCK_ERR_NOMEM beyond */
#define MSOCK_WG_ROUTES_MAX 1000000u     /* prefixes in the table; MSOCK_ERR_NOMEM beyond */
#define MSOCK_WG_STAGED_DEFAULT 256u     /* slabs of the shared pool (dataplane.md 9.4) */
#define MSOCK_WG_HANDSHAKES_DEFAULT 200u /* per second before "under load" (dataplane.md 5) */
#define MSOCK_WG_PSK_LEN 32u
#define MSOCK_WG_PEER_NONE UINT32_MAX

typedef struct msock_wg msock_wg;

typedef struct msock_wg_config {
  uint32_t mtu_bytes;             /* tunnel MTU; 0 = MSOCK_WG_MTU_DEFAULT */
  uint32_t staged_packets;        /* slabs shared by all peers; 0 = MSOCK_WG_STAGED_DEFAULT */
  uint32_t handshakes_per_second; /* more is load; 0 = MSOCK_WG_HANDSHAKES_DEFAULT */
} msock_wg_config;

/* One prefix of the table of allowed IPs. Host bits are ignored. */
typedef struct msock_wg_route {
  msock_prefix prefix;
  uint32_t peer_id;
} msock_wg_route;

/* Where a datagram came from, in the caller's words. Used for cookies, limits and hints only. */
typedef struct msock_wg_source {
  bool by_relay;        /* true: relay is the sender by the relay's word; false: addr */
  msock_addr addr;      /* UDP source (also of a peer relay) */
  msock_node_key relay; /* DERP: source node key, in place of an address (dataplane.md 5) */
  uint32_t tag;         /* the caller's own (DERP region, socket): copied back, never read */
} msock_wg_source;

typedef enum msock_wg_result_kind {
  MSOCK_WG_DROP = 0,      /* counted; the packet's bytes are undefined */
  MSOCK_WG_PLAIN = 1,     /* the packet is now the inner IP packet; its source belongs to peer_id */
  MSOCK_WG_KEEPALIVE = 2, /* authentic, empty; consumed */
  MSOCK_WG_HANDSHAKE = 3, /* types 1 to 3, consumed; what came of it shows in the events */
  MSOCK_WG_NO_SESSION = 4 /* data for a session that is not here, counted and dropped as
                           * MSOCK_WG_DROP: anybody may send it, so it proves nothing */
} msock_wg_result_kind;

typedef struct msock_wg_result {
  msock_wg_result_kind kind;
  uint32_t peer_id; /* PLAIN and KEEPALIVE: who sealed it, so (peer, source) is an authenticated
                     * hint; else MSOCK_WG_PEER_NONE */
} msock_wg_result;

typedef enum msock_wg_output_kind {
  MSOCK_WG_OUT_INITIATION = 1,
  MSOCK_WG_OUT_RESPONSE = 2,
  MSOCK_WG_OUT_COOKIE = 3, /* goes back to source; peer_id is MSOCK_WG_PEER_NONE */
  MSOCK_WG_OUT_DATA = 4,   /* a packet that was staged */
  MSOCK_WG_OUT_KEEPALIVE = 5
} msock_wg_output_kind;

typedef struct msock_wg_output {
  msock_wg_output_kind kind;
  uint32_t peer_id;
  msock_wg_source source; /* COOKIE only */
} msock_wg_output;

typedef enum msock_wg_event_kind {
  MSOCK_WG_EV_SESSION_UP = 1,    /* a new session may be used for sending */
  MSOCK_WG_EV_AUTHENTICATED = 2, /* a handshake message from source is authentic: a hint, no more */
  MSOCK_WG_EV_STALLED = 3, /* an initiation is 5 s without an answer: fall back to the relay */
  MSOCK_WG_EV_GAVE_UP = 4  /* 90 s without an answer: staged packets were dropped */
} msock_wg_event_kind;

typedef struct msock_wg_event {
  msock_wg_event_kind kind;
  uint32_t peer_id;
  msock_wg_source source; /* AUTHENTICATED only */
} msock_wg_event;

typedef struct msock_wg_peer_status {
  msock_node_key key;
  uint64_t last_handshake_wall_us; /* when the newest session came up; 0 = never */
  uint64_t rx_bytes, tx_bytes;     /* authentic WireGuard messages, headers and tags included */
  uint64_t rx_packets, tx_packets;
  uint32_t staged;        /* packets waiting for a session */
  bool has_session;       /* a packet would be sealed now */
  bool handshake_pending; /* an initiation is due or waits for its answer */
} msock_wg_peer_status;

/* Everything that is thrown away is counted exactly once. */
typedef struct msock_wg_counters {
  /* out */
  uint64_t tx_bad_packet;   /* not an IP packet */
  uint64_t tx_no_route;     /* no peer for the destination */
  uint64_t tx_no_room;      /* headroom or tail room missing: the caller's fault */
  uint64_t tx_staged_drop;  /* pool or peer's share full (oldest goes), too long, or given up */
  uint64_t tx_staged_moved; /* staged, but the destination has another owner by now */
  uint64_t tx_initiations, tx_responses, tx_cookies, tx_keepalives;
  uint64_t tx_handshake_fail; /* peer's key unusable, or no memory */
  /* in, any type */
  uint64_t rx_bad_message; /* type, reserved bytes or length */
  /* in, handshake */
  uint64_t rx_mac1_fail;
  uint64_t rx_unknown_index;       /* types 2, 3, 4: no such handshake or session */
  uint64_t rx_under_load;          /* answered with a cookie instead */
  uint64_t rx_rate_limited;        /* under load, mac2 good, source over 20/s */
  uint64_t rx_queue_full;          /* 128 handshake messages waiting */
  uint64_t rx_cookie_queue_full;   /* 64 cookie replies waiting */
  uint64_t rx_initiation_fail;     /* did not open, or a shared secret of zero */
  uint64_t rx_unknown_peer;        /* opened, but the static key is nobody's */
  uint64_t rx_initiation_replay;   /* timestamp not newer than the greatest seen */
  uint64_t rx_initiation_too_soon; /* within 20 ms of the peer's last one */
  uint64_t rx_response_fail;       /* did not open, or no longer awaited */
  uint64_t rx_cookie_fail;         /* did not open with the mac1 last sent */
  uint64_t rx_no_memory;           /* a session could not be allocated */
  uint64_t rx_hint_lost;           /* AUTHENTICATED events not polled in time */
  uint64_t rx_initiations, rx_responses, rx_cookies; /* accepted */
  /* in, transport */
  uint64_t rx_expired;         /* session of 180 s or more, or counter at the limit */
  uint64_t rx_auth_fail;       /* tag wrong */
  uint64_t rx_replay;          /* counter seen, or behind the window */
  uint64_t rx_bad_inner;       /* not IP, or the IP length does not fit */
  uint64_t rx_source_mismatch; /* inner source address is not the peer's */
} msock_wg_counters;

/* cfg NULL = defaults. env is copied, what it points to is borrowed until free. NULL when memory
 * ran out or cfg is out of range. msock_crypto_init must have succeeded. */
msock_wg *msock_wg_new(const msock_env *env, const msock_node_private *key,
                       const msock_wg_config *cfg);
void msock_wg_free(msock_wg *wg); /* wipes every key; NULL is fine */

/* Another identity: every session and handshake is wiped, a handshake under way starts again;
 * peers, routes and the timestamps seen stay. */
void msock_wg_set_private_key(msock_wg *wg, const msock_node_private *key);

/* psk NULL = none. Ids are small and dense; one is given again only after its removal and after no
 * route names it. MSOCK_ERR_INVALID (zero key, our own, or already present), MSOCK_ERR_NOMEM. */
msock_err msock_wg_peer_add(msock_wg *wg, const msock_node_key *key, const uint8_t *psk,
                            uint32_t *peer_id);
/* Wipes its keys, drops its staged packets, outputs, events; its routes lead nowhere at once. */
void msock_wg_peer_remove(msock_wg *wg, uint32_t peer_id);
/* MSOCK_WG_PEER_NONE when unknown. */
uint32_t msock_wg_peer_find(const msock_wg *wg, const msock_node_key *key);
/* NULL for an unknown id. Valid until the peer is removed. */
const msock_node_key *msock_wg_peer_key(const msock_wg *wg, uint32_t peer_id);
msock_err msock_wg_peer_status_get(const msock_wg *wg, uint64_t now_us, uint32_t peer_id,
                                   msock_wg_peer_status *out);

/* Replaces the whole table: built aside, then swapped; the old one stays on any error. Of equal
 * prefixes the later one wins. MSOCK_ERR_UNKNOWN (a peer that is not there), MSOCK_ERR_INVALID
 * (family or bits), MSOCK_ERR_NOMEM. */
msock_err msock_wg_set_allowed_ips(msock_wg *wg, const msock_wg_route *routes, size_t n);
/* Replaces the prefixes of one peer only; it takes over equal prefixes of others. The table is
 * copied and swapped, linear in its size and without a sort of the hosts: right for a netmap delta,
 * while a whole netmap is one call of the above. Errors as above. */
msock_err msock_wg_peer_set_allowed_ips(msock_wg *wg, uint32_t peer_id,
                                        const msock_prefix *prefixes, size_t n);
/* Longest prefix match. False: nobody's. */
bool msock_wg_lookup(const msock_wg *wg, const msock_ip *ip, uint32_t *peer_id);

/* Seals plain IP packets in place: 16 bytes in front, padding to 16 (never beyond the MTU) and the
 * tag behind; off and len then cover the datagram, and peer_ids[i] says for whom. A packet that
 * cannot be sealed yet is copied (staged) and a handshake starts: peer_ids[i] is then
 * MSOCK_WG_PEER_NONE, as it is for a dropped one; msock_wg_lookup tells "no route" apart. */
void msock_wg_seal(msock_wg *wg, uint64_t now_us, msock_packet *pkts, size_t n, uint32_t *peer_ids);

/* Takes datagrams of one source, for any number of peers; opens in place. Handshake messages are
 * queued (128); at most 8 that cost a DH are worked off, after the data; the rest by later calls of
 * this and of msock_wg_on_expiry (next_expiry is then 0). */
void msock_wg_open(msock_wg *wg, uint64_t now_us, uint64_t wall_us, const msock_wg_source *source,
                   msock_packet *pkts, size_t n, msock_wg_result *results);

/* The longest message of msock_wg_next_output: cap must be at least this. */
size_t msock_wg_output_max(const msock_wg *wg);
/* Next message to send, its length, or 0 when there is none. */
size_t msock_wg_next_output(msock_wg *wg, uint64_t now_us, uint64_t wall_us, msock_wg_output *out,
                            uint8_t *buf, size_t cap);
bool msock_wg_next_event(msock_wg *wg, msock_wg_event *out);

/* MSOCK_NEVER, or when on_expiry is due; a time that has passed means at once. */
uint64_t msock_wg_next_expiry(const msock_wg *wg);
void msock_wg_on_expiry(msock_wg *wg, uint64_t now_us, uint64_t wall_us);

/* Starts a handshake without a packet, unless a session is usable or one is under way. */
void msock_wg_peer_open_session(msock_wg *wg, uint64_t now_us, uint32_t peer_id);
/* The peer has lost its keys: it was started anew. Starts a handshake although the session could be
 * used; that one serves until the new one is up. Nothing for a peer without sessions. */
void msock_wg_peer_renew(msock_wg *wg, uint64_t now_us, uint32_t peer_id);
/* The last initiation could not be sent: no path is known. The next kick need not wait. */
void msock_wg_peer_unsent(msock_wg *wg, uint32_t peer_id);
/* Path news. If a handshake is unanswered, or packets wait for one, a fresh initiation goes out
 * now, and the retransmission timer counts from it. Within 250 ms of the last one that was not
 * reported unsent it goes out when these have passed. */
void msock_wg_peer_kick(msock_wg *wg, uint64_t now_us, uint32_t peer_id);

bool msock_wg_under_load(const msock_wg *wg, uint64_t now_us);
const msock_wg_counters *msock_wg_counters_get(const msock_wg *wg); /* live, until free */

#endif
