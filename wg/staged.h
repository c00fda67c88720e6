/* wg/staged.h: plain packets that wait for a session. One pool of slabs for all peers, and a list
 * for each (dataplane.md 4, 9.4). Full: a peer with 128 loses its own oldest, otherwise the oldest
 * of the whole pool goes, so that a scan of dead peers cannot shut out a live one. */
#ifndef MSOCK_WG_STAGED_H
#define MSOCK_WG_STAGED_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MSOCK_WG_SLAB_NONE UINT32_MAX

/* A peer's packets, oldest first. Must not move while it holds any. */
typedef struct msock_wg_staged_list {
  uint32_t head, tail;
  uint32_t count;
} msock_wg_staged_list;

typedef struct msock_wg_slab {
  msock_wg_staged_list *list;
  uint32_t next;         /* in the list, or among the free */
  uint32_t older, newer; /* over all lists */
  uint32_t len;
} msock_wg_slab;

typedef struct msock_wg_staged {
  msock_wg_slab *slabs;
  uint8_t *bytes; /* touched only as far as it is used */
  uint32_t slab_bytes;
  uint32_t n;
  uint32_t fresh;          /* slabs from here on have never been used */
  uint32_t free;           /* those given back */
  uint32_t oldest, newest; /* over all lists */
} msock_wg_staged;

msock_err msock_wg_staged_init(msock_wg_staged *s, uint32_t n, uint32_t slab_bytes);
void msock_wg_staged_free(msock_wg_staged *s);
void msock_wg_staged_list_init(msock_wg_staged_list *l);

/* Copies one packet to the end of the list. Gives how many packets were lost for it: 0, or 1 (an
 * older one, or this one when it is longer than a slab). */
uint32_t msock_wg_staged_push(msock_wg_staged *s, msock_wg_staged_list *l, const uint8_t *p,
                              size_t len);
/* Copies the oldest into dst (slab_bytes of room) and takes it off; its length, 0 when empty. */
size_t msock_wg_staged_pop(msock_wg_staged *s, msock_wg_staged_list *l, uint8_t *dst);
/* Drops all; gives how many. */
uint32_t msock_wg_staged_clear(msock_wg_staged *s, msock_wg_staged_list *l);

#endif
