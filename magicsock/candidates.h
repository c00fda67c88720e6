/* magicsock/candidates.h: the addresses at which a peer may be found, where each was learned, and
 * what was measured there (magicsock.md 3.1). Confirms nothing: that is path.c's. */
#ifndef MSOCK_MAGICSOCK_CANDIDATES_H
#define MSOCK_MAGICSOCK_CANDIDATES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "magicsock/limits.h"

/* Where an address was learned; it stays while one of them holds. */
enum { MSOCK_FROM_NETMAP = 1u << 0, MSOCK_FROM_CMM = 1u << 1, MSOCK_FROM_PING = 1u << 2 };

#define MSOCK_TXID_LEN 12u

/* What only an address has that a ping came from or whose path was lost: few of those that control
 * lists. Times are MSOCK_NEVER while they do not apply. */
typedef struct msock_candidate_past {
  uint8_t reverse_n;                  /* reverse pings in the window */
  uint8_t guard_pongs;                /* pongs seen while the flap guard asks for more than one */
  uint8_t losses;                     /* times this path was lost in the flap window */
  uint8_t heard_txid[MSOCK_TXID_LEN]; /* of the last ping that came from here */
  uint64_t heard_us;                  /* when */
  uint64_t reverse_us;                /* last reverse ping */
  uint64_t window_us;                 /* start of the window of reverse pings */
  uint64_t loss_us[MSOCK_ENGINE_FLAP_PONGS_MAX]; /* when it was last lost, newest first */
} msock_candidate_past;

typedef struct msock_candidate {
  msock_addr addr;
  uint8_t from;               /* MSOCK_FROM_* */
  bool muted;                 /* the system has no route; until the next socket */
  uint8_t wins;               /* comparisons won in a row against a trusted best */
  uint64_t ping_us;           /* last sent; MSOCK_NEVER */
  uint64_t pong_us;           /* last heard; MSOCK_NEVER */
  uint64_t rtt_us;            /* smoothed, weight 1/4 for the new; 0 = none */
  msock_candidate_past *past; /* owned; NULL: nothing of the kind has happened */
} msock_candidate;

typedef struct msock_candidates {
  msock_candidate *at;
  uint16_t n, cap;
} msock_candidates;

void msock_candidates_free(msock_candidates *t);
/* Room for n in all. MSOCK_ERR_NOMEM. */
msock_err msock_candidates_reserve(msock_candidates *t, size_t n);
/* Valid until the next add or remove. NULL: not there. */
msock_candidate *msock_candidates_find(const msock_candidates *t, const msock_addr *addr);
/* Adds addr, or a source to it. NULL: its share of the table is full, or no memory. fresh tells
 * whether it is new here. */
msock_candidate *msock_candidates_add(msock_candidates *t, const msock_addr *addr, uint8_t from,
                                      bool *fresh);
/* The order of the others changes. */
void msock_candidates_remove(msock_candidates *t, msock_candidate *c);

/* A ping with txid came from here. False: no memory; it is as if none had come. */
bool msock_candidate_heard(msock_candidate *c, uint64_t now_us,
                           const uint8_t txid[static MSOCK_TXID_LEN]);
/* Is it the one that came last? */
bool msock_candidate_repeated(const msock_candidate *c, const uint8_t txid[static MSOCK_TXID_LEN]);
/* When the last one came; MSOCK_NEVER. */
uint64_t msock_candidate_heard_us(const msock_candidate *c);
/* A pong came: smooths the round trip. */
void msock_candidate_pong(msock_candidate *c, uint64_t now_us, uint64_t rtt_us);
/* Something was heard from here: may a reverse ping leave now? Counts it. */
bool msock_candidate_reverse(msock_candidate *c, uint64_t now_us);
/* This path was just lost. Without memory it is not held against it. */
void msock_candidate_lost(msock_candidate *c, uint64_t now_us);
/* Pongs in a row that it takes to trust it: 1, or more for a path that keeps being lost. */
uint32_t msock_candidate_guard(const msock_candidate *c, uint64_t now_us);
/* Forgets everything measured: another socket, another network. */
void msock_candidate_forget(msock_candidate *c);

#endif
