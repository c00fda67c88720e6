#include "derp/route.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAP 64u
#define CAP_MAX (2u * MSOCK_DERP_ROUTES_MAX) /* at most half full: short probes */

void msock_derp_routes_init(msock_derp_routes *r, const msock_env *env) {
  *r = (msock_derp_routes){0};
  env->random(env->ctx, &r->seed, sizeof r->seed);
}

void msock_derp_routes_free(msock_derp_routes *r) {
  free(r->slot);
  *r = (msock_derp_routes){.seed = r->seed};
}

static size_t hash(const msock_derp_routes *r, const msock_node_key *peer) {
  uint64_t h = r->seed;
  for (size_t i = 0; i < sizeof peer->b; i += sizeof h) {
    uint64_t word;
    memcpy(&word, peer->b + i, sizeof word);
    h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    h ^= h >> 32;
  }
  return (size_t)h & (r->cap - 1);
}

/* The peer's slot, or the free one where it would go. The table is never full. */
static size_t find(const msock_derp_routes *r, const msock_node_key *peer) {
  size_t i = hash(r, peer);
  while (r->slot[i].conn != 0 && !msock_node_key_equal(&r->slot[i].peer, peer)) {
    i = (i + 1) & (r->cap - 1);
  }
  return i;
}

uint64_t msock_derp_routes_get(const msock_derp_routes *r, const msock_node_key *peer) {
  return r->n > 0 ? r->slot[find(r, peer)].conn : 0;
}

/* Frees slot i and moves later entries of the same run up, so that no probe stops early. */
static void erase(msock_derp_routes *r, size_t i) {
  const size_t mask = r->cap - 1;
  size_t hole = i;
  for (size_t j = (i + 1) & mask; r->slot[j].conn != 0; j = (j + 1) & mask) {
    const size_t home = hash(r, &r->slot[j].peer);
    if (((j - home) & mask) >= ((j - hole) & mask)) { /* its home is not between hole and j */
      r->slot[hole] = r->slot[j];
      hole = j;
    }
  }
  r->slot[hole] = (msock_derp_route){0};
  r->n--;
}

static msock_err grow(msock_derp_routes *r) {
  msock_derp_routes bigger = *r;
  bigger.cap = r->cap == 0 ? FIRST_CAP : 2 * r->cap;
  bigger.slot = calloc(bigger.cap, sizeof *bigger.slot);
  if (bigger.slot == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  for (size_t i = 0; i < r->cap; i++) {
    if (r->slot[i].conn != 0) {
      bigger.slot[find(&bigger, &r->slot[i].peer)] = r->slot[i];
    }
  }
  free(r->slot);
  *r = bigger;
  return MSOCK_OK;
}

static void evict_one(msock_derp_routes *r) {
  while (r->slot[r->hand & (r->cap - 1)].conn == 0) {
    r->hand++;
  }
  erase(r, r->hand & (r->cap - 1));
  r->evicted++;
}

msock_err msock_derp_routes_set(msock_derp_routes *r, const msock_node_key *peer, uint64_t conn) {
  if (r->n > 0) {
    msock_derp_route *known = &r->slot[find(r, peer)];
    if (known->conn != 0) {
      known->conn = conn;
      return MSOCK_OK;
    }
  }
  if (2 * (r->n + 1) > r->cap) {
    if (r->cap == CAP_MAX) {
      evict_one(r);
    } else if (grow(r) != MSOCK_OK) {
      return MSOCK_ERR_NOMEM;
    }
  }
  r->slot[find(r, peer)] = (msock_derp_route){.peer = *peer, .conn = conn};
  r->n++;
  return MSOCK_OK;
}

void msock_derp_routes_remove(msock_derp_routes *r, const msock_node_key *peer, uint64_t conn) {
  if (r->n == 0) {
    return;
  }
  const size_t i = find(r, peer);
  if (r->slot[i].conn != 0 && r->slot[i].conn == conn) {
    erase(r, i);
  }
}

void msock_derp_routes_drop_conn(msock_derp_routes *r, uint64_t conn) {
  for (size_t i = 0; i < r->cap;) {
    if (r->slot[i].conn == conn) {
      erase(r, i); /* may move another entry here: look again */
    } else {
      i++;
    }
  }
}
