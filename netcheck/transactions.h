/* netcheck/transactions.h: STUN requests in flight (netcheck.md 1.5).
 *
 * A plain value with init; no allocation. An answer counts once, and only from the very address
 * that was asked. A retransmission is a new transaction, so that late answers are timed right. */
#ifndef MSOCK_NETCHECK_TRANSACTIONS_H
#define MSOCK_NETCHECK_TRANSACTIONS_H

#include "base/env.h"
#include "netcheck/stun.h"

#define MSOCK_STUN_INFLIGHT_MAX 256u            /* netcheck.md 1.5 (P); full: nothing is added */
#define MSOCK_STUN_LIFETIME_US (5u * MSOCK_SEC) /* netcheck.md 1.5 (P) */

typedef struct msock_stun_transaction {
  msock_stun_txid txid;
  msock_addr server;
  uint64_t sent_us;
  uint32_t tag; /* the caller's: which probe */
} msock_stun_transaction;

typedef struct msock_stun_table {
  msock_stun_transaction entries[MSOCK_STUN_INFLIGHT_MAX]; /* oldest first */
  size_t n;
  uint64_t unknown;      /* answers without an open transaction */
  uint64_t wrong_source; /* answers from another address than the one asked */
} msock_stun_table;

void msock_stun_table_init(msock_stun_table *t);

/* Opens a transaction with a fresh random id, stamped now. Expired entries go first.
 * MSOCK_ERR_NOMEM when the table is full: do not send. */
msock_err msock_stun_table_add(msock_stun_table *t, uint64_t now_us, const msock_env *env,
                               const msock_addr *server, uint32_t tag, msock_stun_txid *txid);

/* Finds the open transaction of an answer without closing it. False, and counted, when there is
 * none or the answer comes from another address. */
bool msock_stun_table_find(msock_stun_table *t, uint64_t now_us, const msock_stun_txid *txid,
                           const msock_addr *from, msock_stun_transaction *out);

/* Closes a transaction: the next answer to it is unknown. */
void msock_stun_table_close(msock_stun_table *t, const msock_stun_txid *txid);

/* Drops what is MSOCK_STUN_LIFETIME_US old or older. */
void msock_stun_table_expire(msock_stun_table *t, uint64_t now_us);
/* Drops all, at the end of a report. */
void msock_stun_table_clear(msock_stun_table *t);

#endif
