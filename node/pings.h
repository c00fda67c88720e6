/* node/pings.h: pings that wait for their answer: ICMP echo and TSMP, each with a deadline.
 *
 * A plain value with init; no allocation. Whoever asked is told by the tag. */
#ifndef MSOCK_NODE_PINGS_H
#define MSOCK_NODE_PINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/env.h"
#include "base/err.h"

#define MSOCK_PINGS_MAX 64u /* full: the new one is refused */

typedef enum msock_ping_kind { MSOCK_PING_ICMP = 1, MSOCK_PING_TSMP } msock_ping_kind;

typedef struct msock_ping {
  uint64_t id; /* ICMP: id << 16 | seq; TSMP: the 8 bytes, big endian. Unique per kind */
  msock_ping_kind kind;
  msock_ip peer; /* who must answer */
  uint64_t sent_us;
  uint64_t deadline_us;
  uint64_t tag; /* the caller's */
} msock_ping;

typedef struct msock_pings {
  msock_ping entries[MSOCK_PINGS_MAX]; /* oldest first */
  size_t n;
} msock_pings;

void msock_node_pings_init(msock_pings *t);

/* Draws an unused random id into p->id and keeps a copy of *p. MSOCK_ERR_NOMEM when full,
 * MSOCK_ERR_INVALID when the deadline is not after sent_us. */
msock_err msock_node_pings_add(msock_pings *t, const msock_env *env, msock_ping *p);

/* An answer: removes its ping and copies it to out. False: nobody waits for it, it comes from
 * another address, or its deadline has passed (it stays for msock_node_pings_expire). */
bool msock_node_pings_match(msock_pings *t, uint64_t now_us, msock_ping_kind kind, uint64_t id,
                            const msock_ip *from, msock_ping *out);

/* MSOCK_NEVER when empty. */
uint64_t msock_node_pings_next_expiry(const msock_pings *t);
/* Removes one ping whose deadline is now or past and copies it to out; false when there is none. */
bool msock_node_pings_expire(msock_pings *t, uint64_t now_us, msock_ping *out);
/* Removes every ping with the tag (whoever asked went away). */
void msock_node_pings_forget(msock_pings *t, uint64_t tag);

#endif
