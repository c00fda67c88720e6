/* magicsock/due_heap.h: peers with a deadline, earliest on top: a binary heap with places kept in
 * the peers. Every peer of the table is in it, most with MSOCK_NEVER. */
#ifndef MSOCK_MAGICSOCK_DUE_HEAP_H
#define MSOCK_MAGICSOCK_DUE_HEAP_H

#include <stdint.h>

#include "magicsock/peers.h"

typedef struct msock_path_heap {
  msock_path_peer **at;
  uint32_t n, cap;
} msock_path_heap;

void msock_path_heap_free(msock_path_heap *h);
msock_err msock_path_heap_reserve(msock_path_heap *h, uint32_t extra); /* MSOCK_ERR_NOMEM */
void msock_path_heap_insert(msock_path_heap *h, msock_path_peer *p);   /* there is room */
void msock_path_heap_remove(msock_path_heap *h, msock_path_peer *p);
void msock_path_heap_set(msock_path_heap *h, msock_path_peer *p, uint64_t due_us);
msock_path_peer *msock_path_heap_top(const msock_path_heap *h); /* NULL when empty */

#endif
