/* wg/due_heap.h: active peers by due_us, the earliest on top: a binary heap with places kept in the
 * peers. One entry for a peer: its timers are times in the peer, and only the earliest counts here,
 * so data packets leave the heap alone (dataplane.md 9.5 suggests a wheel; with one lazy entry per
 * active peer the heap is touched once in 10 s and gives the exact next deadline for nothing). */
#ifndef MSOCK_WG_DUE_HEAP_H
#define MSOCK_WG_DUE_HEAP_H

#include <stdint.h>

#include "wg/peers.h"

typedef struct msock_wg_due_heap {
  msock_wg_active **at;
  uint32_t n, cap; /* n is at most the number of peers */
} msock_wg_due_heap;

void msock_wg_due_free(msock_wg_due_heap *h);
msock_err msock_wg_due_insert(msock_wg_due_heap *h, msock_wg_active *a); /* MSOCK_ERR_NOMEM */
void msock_wg_due_remove(msock_wg_due_heap *h, msock_wg_active *a);
void msock_wg_due_set(msock_wg_due_heap *h, msock_wg_active *a, uint64_t due_us);
msock_wg_active *msock_wg_due_top(const msock_wg_due_heap *h); /* NULL when empty */

#endif
