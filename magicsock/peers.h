/* magicsock/peers.h: the peer table, the sets of node keys that share a disco key (magicsock.md
 * 2.4), and what is kept for each peer. Decides nothing. */
#ifndef MSOCK_MAGICSOCK_PEERS_H
#define MSOCK_MAGICSOCK_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/derp_map.h"
#include "base/key.h"
#include "disco/disco.h"
#include "magicsock/budget.h"
#include "magicsock/candidates.h"
#include "magicsock/key_index.h"
#include "magicsock/pings.h"
#include "magicsock/why.h"

struct msock_path_peer;

/* A disco key of the netmap, its node keys, and what it and our key give. */
typedef struct msock_disco_member {
  msock_disco_key key; /* first: key_index.h */
  msock_disco_shared shared;
  bool ready, bad;               /* shared is computed; it cannot be */
  struct msock_path_peer *peers; /* linked by next_same */
  struct msock_disco_member *next_spare;
} msock_disco_member;

/* The last events of a peer; grows up to MSOCK_WHY_EVENTS_MAX, and only then goes round. */
typedef struct msock_why_ring {
  uint32_t next, n, cap;
  msock_why_event at[];
} msock_why_ring;

/* Waiting to be polled. */
enum { MSOCK_TELL_PATH = 1u << 0, MSOCK_TELL_KICK = 1u << 1 };

/* Times are MSOCK_NEVER while they do not apply. There are thousands: narrow fields stand together.
 */
typedef struct msock_path_peer {
  msock_node_key node; /* first: key_index.h */
  uint32_t id;
  uint32_t heap_pos;
  uint64_t due_us;
  uint64_t serial;           /* never given twice: queued datagrams of a removed peer do not fit */
  msock_disco_member *disco; /* NULL: no key */
  struct msock_path_peer *next_same;
  msock_region_id home, heard; /* control's word; where its last packet came from */

  /* What route reads. */
  uint64_t trust_until_us;
  uint64_t barred_until_us; /* confirmed and not used until then; 0 */
  msock_addr best;
  bool has_best;
  bool suspect; /* heartbeats went unanswered */

  /* What was last told about the path. */
  bool told_direct;
  bool barred, lossy;  /* the bar is noticed; it is for loss */
  uint8_t told_reason; /* msock_why_kind */
  msock_addr told_addr;

  msock_addr again; /* gets one more ping at again_us */

  uint8_t tell;        /* MSOCK_TELL_* */
  uint8_t burst_step;  /* the next one; MSOCK_ENGINE_BURST_STEPS: none */
  uint8_t probe_tries; /* heartbeats since anything was heard from the best; 0: none under way */
  uint8_t beats_known; /* of the last heartbeats, how many are in lost */
  uint8_t relay_sent, relay_got; /* the measure of the relay; sent 0: none is under way */
  uint8_t cmm_backoff;
  bool held_told;
  bool ping_heard, cmm_heard; /* by UDP; ever, with this key */
  uint16_t n_filtered;
  uint32_t beats; /* heartbeats so far */
  uint32_t sweep_every_us;
  struct msock_path_peer *tell_prev, *tell_next;

  msock_candidates candidates;
  msock_pings pings;
  msock_budget ping_budget, pong_budget;
  msock_why_ring *why;

  /* Search for a path. */
  uint64_t burst_us;
  uint64_t sweep_us; /* last time all were pinged */
  uint64_t idle_us;  /* next round of an idle peer that is not eager */
  uint64_t again_us;

  /* Heartbeats. */
  uint64_t probe_next_us;
  uint64_t probe_began_us; /* the first of probe_tries */
  uint64_t unanswered_us;  /* first data sent to the best since anything was heard from it */
  uint64_t sent_us;        /* last data, by whichever way */
  uint64_t adopted_us;     /* the best is used since then */
  uint64_t carried_us;     /* last data, authenticated, that came from the best */
  uint64_t stall_due_us;   /* WireGuard had no answer when the path was too young to be blamed */
  uint64_t lost;           /* bit i: the heartbeat i before the last has no pong */

  /* Call-me-maybe. */
  uint64_t news_us; /* addresses, keys or network changed */
  uint64_t cmm_next_us, cmm_sent_us, cmm_wait_us;
  uint64_t cmm_sweep_us;     /* last burst that one has started */
  uint64_t cmm_sweep_due_us; /* one that has to wait */
} msock_path_peer;

typedef struct msock_path_peers {
  msock_path_peer **at; /* by id; NULL: free */
  uint32_t cap, n, end; /* ids below end have been used */
  uint64_t serial;
  msock_key_index by_node, by_disco;
  uint32_t free_from;        /* no id below is free */
  msock_disco_member *spare; /* for updates that may not fail half way */
} msock_path_peers;

void msock_peers_init(msock_path_peers *t, uint64_t seed);
/* Wipes and frees everything. */
void msock_peers_free(msock_path_peers *t);

msock_path_peer *msock_peers_get(const msock_path_peers *t, uint32_t id);
msock_path_peer *msock_peers_find(const msock_path_peers *t, const msock_node_key *node);
msock_disco_member *msock_peers_find_disco(const msock_path_peers *t, const msock_disco_key *key);

/* Room for extra peers and new disco keys. MSOCK_ERR_NOMEM: table full, or no memory. */
msock_err msock_peers_reserve(msock_path_peers *t, uint32_t extra, uint32_t disco_keys);
/* Gives back the room for disco keys that was not needed. */
void msock_peers_trim(msock_path_peers *t);
/* A record of its own for a peer to come; free() it if it is not wanted. NULL: no memory. */
msock_path_peer *msock_peers_make(const msock_node_key *node);
/* Takes it over. There is room. */
void msock_peers_insert(msock_path_peers *t, msock_path_peer *p);
/* Wipes and frees p. Its path, timers and sources are gone already. */
void msock_peers_remove(msock_path_peers *t, msock_path_peer *p);
/* Makes key (zero: none) the peer's; the old one is wiped when nobody has it any more. There is
 * room. */
void msock_peers_set_disco(msock_path_peers *t, msock_path_peer *p, const msock_disco_key *key);
/* The key that opens and seals for m; NULL: the peer's key is of no use. */
const msock_disco_shared *msock_member_shared(msock_disco_member *m,
                                              const msock_disco_identity *me);
/* Our own key changed: all are computed anew when they are needed. */
void msock_peers_forget_shared(msock_path_peers *t);

#endif
