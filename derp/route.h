/* derp/route.h: which connection last delivered a packet from a peer (derp.md 3.3): a bounded hash
 * table, node key -> connection id.
 *
 * Any stranger at a relay can send to us and so fill it; the hash is seeded, and when the table is
 * full a new route takes the place of another one (counted): its peer is then reached by its home.
 */
#ifndef MSOCK_DERP_ROUTE_H
#define MSOCK_DERP_ROUTE_H

#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "base/key.h"

#define MSOCK_DERP_ROUTES_MAX 4096u

typedef struct msock_derp_route {
  msock_node_key peer;
  uint64_t conn; /* 0 = free slot */
} msock_derp_route;

typedef struct msock_derp_routes {
  msock_derp_route *slot; /* cap slots, a power of two; NULL until the first route */
  size_t cap;
  size_t n;
  size_t hand; /* next victim when full */
  uint64_t seed;
  uint64_t evicted;
} msock_derp_routes;

void msock_derp_routes_init(msock_derp_routes *r, const msock_env *env);
void msock_derp_routes_free(msock_derp_routes *r);
/* 0 when none. */
uint64_t msock_derp_routes_get(const msock_derp_routes *r, const msock_node_key *peer);
/* MSOCK_ERR_NOMEM: not learned. conn > 0. */
msock_err msock_derp_routes_set(msock_derp_routes *r, const msock_node_key *peer, uint64_t conn);
/* Removes the peer's route if it goes by conn. */
void msock_derp_routes_remove(msock_derp_routes *r, const msock_node_key *peer, uint64_t conn);
/* Removes every route by conn. */
void msock_derp_routes_drop_conn(msock_derp_routes *r, uint64_t conn);

#endif
