/* magicsock/sources.h: which peer a UDP source address belongs to (magicsock.md 5.4). Every
 * candidate is here; an address of several peers belongs to the one that a pong or a valid ping
 * proved, and is not stolen from it; without proof it belongs to nobody. Open
 * addressing, at most three quarters full. */
#ifndef MSOCK_MAGICSOCK_SOURCES_H
#define MSOCK_MAGICSOCK_SOURCES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "magicsock/limits.h"

typedef struct msock_source {
  msock_addr addr;
  uint32_t peer;      /* UINT32_MAX: nobody */
  uint32_t refs : 31; /* peers that have it as a candidate; 0: free slot */
  uint32_t proved : 1;
} msock_source;

typedef struct msock_sources {
  msock_source *slots;
  uint32_t cap, n;
  uint64_t seed;
} msock_sources;

void msock_sources_free(msock_sources *t);
/* The address became a candidate of peer. A full table leaves it unknown. */
void msock_sources_add(msock_sources *t, const msock_addr *addr, uint32_t peer);
void msock_sources_prove(msock_sources *t, const msock_addr *addr, uint32_t peer);
/* It is no candidate of peer any more. */
void msock_sources_drop(msock_sources *t, const msock_addr *addr, uint32_t peer);
uint32_t msock_sources_find(const msock_sources *t, const msock_addr *addr);

#endif
