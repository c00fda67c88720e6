/* wg/peers.h: the peer table. An idle peer is 144 B here and 8 B in the key table (dataplane.md
 * 9.4); what a handshake, a session or a timer needs is one block more, the `active` one, made at
 * the first handshake and freed at erasure. Records sit in chunks and never move: a growing array
 * would leave copies of preshared keys behind. */
#ifndef MSOCK_WG_PEERS_H
#define MSOCK_WG_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "wg/handshake.h"
#include "wg/session.h"
#include "wg/staged.h"
#include "wg/wg.h"

/* Waiting to be polled, in the order of sending. */
enum {
  MSOCK_WG_DO_RESPONSE = 1u << 0,
  MSOCK_WG_DO_INITIATION = 1u << 1,
  MSOCK_WG_DO_STAGED = 1u << 2,
  MSOCK_WG_DO_KEEPALIVE = 1u << 3
};
enum {
  MSOCK_WG_TELL_UP = 1u << 0,
  MSOCK_WG_TELL_STALLED = 1u << 1,
  MSOCK_WG_TELL_GAVE_UP = 1u << 2
};

struct msock_wg_active;

/* A place in a queue of active peers; a peer is in it at most once. */
typedef struct msock_wg_link {
  struct msock_wg_link *prev, *next; /* NULL: not in the queue */
  struct msock_wg_active *owner;
} msock_wg_link;

/* Deadlines and times are MSOCK_NEVER while they do not apply. */
typedef struct msock_wg_active {
  uint32_t peer_id;
  uint32_t heap_pos; /* due_heap.h */
  uint64_t due_us;   /* at or before the earliest of its deadlines */

  msock_wg_session *previous, *current, *next; /* dataplane.md 3: all open, only current seals */
  msock_wg_handshake handshake;                /* ours, while it waits for a response */
  bool waiting;                                /* handshake is filled, its index in the table */
  bool wanted;                                 /* a handshake of ours is under way or due */
  bool unsent;                                 /* the last initiation found no path */
  bool one_more;                               /* data came while the passive keepalive was armed */

  uint64_t attempt_us;    /* when the handshake was first wanted */
  uint64_t initiation_us; /* last one sent */
  uint64_t accepted_us;   /* last one of the peer's that was answered */
  uint64_t retransmit_us; /* deadline */
  uint64_t stalled_us;    /* deadline */
  uint64_t erase_us;      /* deadline */
  uint64_t data_in_us;    /* first data since we last sent anything */
  uint64_t data_out_us;   /* first data since we last heard anything */
  uint64_t jitter_us;     /* 0..333 ms, drawn for each initiation */

  uint8_t last_mac1[MSOCK_WG_MAC_LEN]; /* of the last handshake message sent */
  uint8_t cookie[MSOCK_WG_COOKIE_LEN];
  uint64_t cookie_us; /* when it came */
  bool has_mac1;

  uint8_t response[MSOCK_WG_RESPONSE_LEN]; /* for MSOCK_WG_DO_RESPONSE */
  unsigned outputs, events;                /* what is waiting to be polled */
  msock_wg_link output_link, event_link;
  msock_wg_staged_list staged;
  msock_wg_remote remote;
} msock_wg_active;

typedef struct msock_wg_peer {
  msock_node_key key;
  uint8_t psk[MSOCK_WG_PSK_LEN];
  uint8_t rx_stamp[MSOCK_WG_TIMESTAMP_LEN]; /* greatest TAI64N accepted; kept for its life */
  uint32_t next_free;
  uint64_t tx_stamp; /* last stamp used; kept for its life */
  uint64_t last_handshake_wall_us;
  uint64_t rx_bytes, tx_bytes, rx_packets, tx_packets;
  msock_wg_active *active; /* NULL while idle */
  bool live;
  bool routed; /* the table of allowed IPs may name it */
} msock_wg_peer;

#define MSOCK_WG_PEER_CHUNK 256u
#define MSOCK_WG_PEER_CHUNKS ((MSOCK_WG_PEERS_MAX + MSOCK_WG_PEER_CHUNK - 1) / MSOCK_WG_PEER_CHUNK)

typedef struct msock_wg_peers {
  msock_wg_peer *chunks[MSOCK_WG_PEER_CHUNKS];
  uint32_t end;     /* ids below have been used */
  uint32_t live;    /* how many */
  uint32_t free;    /* ids that may be used again */
  uint32_t retired; /* ids that the table of allowed IPs may still name */
  uint32_t n_retired;
  uint32_t *by_key; /* open addressing over ids */
  uint32_t by_key_cap;
  uint64_t seed;
} msock_wg_peers;

void msock_wg_peers_init(msock_wg_peers *t, uint64_t seed);
void msock_wg_peers_free(msock_wg_peers *t); /* wipes; active blocks are gone already */

/* MSOCK_ERR_NOMEM. The key is not in the table. */
msock_err msock_wg_peers_add(msock_wg_peers *t, const msock_node_key *key, uint32_t *peer_id);
/* Wipes the record. Its id rests while routed; msock_wg_peers_release ends that. */
void msock_wg_peers_remove(msock_wg_peers *t, uint32_t peer_id);
void msock_wg_peers_release(msock_wg_peers *t);

/* NULL unless live. */
msock_wg_peer *msock_wg_peers_get(const msock_wg_peers *t, uint32_t peer_id);
uint32_t msock_wg_peers_find(const msock_wg_peers *t, const msock_node_key *key);

#endif
