#include "wg/peers.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"

#define BY_KEY_MIN 64u
#define HASH_ODD UINT64_C(0x9e3779b97f4a7c15) /* Fibonacci hashing */

void msock_wg_peers_init(msock_wg_peers *t, uint64_t seed) {
  memset(t, 0, sizeof *t);
  t->free = MSOCK_WG_PEER_NONE;
  t->retired = MSOCK_WG_PEER_NONE;
  t->seed = seed;
}

void msock_wg_peers_free(msock_wg_peers *t) {
  for (uint32_t i = 0; i < MSOCK_WG_PEER_CHUNKS; i++) {
    if (t->chunks[i] != NULL) {
      msock_wipe(t->chunks[i], MSOCK_WG_PEER_CHUNK * sizeof *t->chunks[i]);
      free(t->chunks[i]);
    }
  }
  free(t->by_key);
  msock_wg_peers_init(t, 0);
}

static msock_wg_peer *record(const msock_wg_peers *t, uint32_t peer_id) {
  return &t->chunks[peer_id / MSOCK_WG_PEER_CHUNK][peer_id % MSOCK_WG_PEER_CHUNK];
}

msock_wg_peer *msock_wg_peers_get(const msock_wg_peers *t, uint32_t peer_id) {
  if (peer_id >= t->end) {
    return NULL;
  }
  msock_wg_peer *p = record(t, peer_id);
  return p->live ? p : NULL;
}

static uint32_t home_of(const msock_wg_peers *t, const msock_node_key *key) {
  uint64_t a = 0, b = 0;
  memcpy(&a, key->b, sizeof a);
  memcpy(&b, key->b + sizeof a, sizeof b);
  const uint64_t h = ((a ^ t->seed) * HASH_ODD) ^ b;
  return (uint32_t)((h * HASH_ODD) >> 32) & (t->by_key_cap - 1);
}

/* The slot that holds the key, or the empty one where it would go. */
static uint32_t slot_of(const msock_wg_peers *t, const msock_node_key *key) {
  uint32_t at = home_of(t, key);
  while (t->by_key[at] != MSOCK_WG_PEER_NONE &&
         !msock_node_key_equal(&record(t, t->by_key[at])->key, key)) {
    at = (at + 1) & (t->by_key_cap - 1);
  }
  return at;
}

uint32_t msock_wg_peers_find(const msock_wg_peers *t, const msock_node_key *key) {
  return t->live == 0 ? MSOCK_WG_PEER_NONE : t->by_key[slot_of(t, key)];
}

static msock_err reserve_key(msock_wg_peers *t) {
  if ((t->live + 1) * 2 <= t->by_key_cap) {
    return MSOCK_OK;
  }
  const uint32_t cap = t->by_key_cap ? t->by_key_cap * 2 : BY_KEY_MIN;
  uint32_t *old = t->by_key;
  uint32_t *slots = malloc(cap * sizeof *slots);
  if (slots == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  memset(slots, 0xff, cap * sizeof *slots); /* MSOCK_WG_PEER_NONE */
  const uint32_t old_cap = t->by_key_cap;
  t->by_key = slots;
  t->by_key_cap = cap;
  for (uint32_t i = 0; i < old_cap; i++) {
    if (old[i] != MSOCK_WG_PEER_NONE) {
      slots[slot_of(t, &record(t, old[i])->key)] = old[i];
    }
  }
  free(old);
  return MSOCK_OK;
}

static msock_err take_id(msock_wg_peers *t, uint32_t *peer_id) {
  if (t->free != MSOCK_WG_PEER_NONE) {
    *peer_id = t->free;
    t->free = record(t, t->free)->next_free;
    return MSOCK_OK;
  }
  if (t->end >= MSOCK_WG_PEERS_MAX) {
    return MSOCK_ERR_NOMEM;
  }
  msock_wg_peer **chunk = &t->chunks[t->end / MSOCK_WG_PEER_CHUNK];
  if (*chunk == NULL) {
    *chunk = calloc(MSOCK_WG_PEER_CHUNK, sizeof **chunk);
    if (*chunk == NULL) {
      return MSOCK_ERR_NOMEM;
    }
  }
  *peer_id = t->end++;
  return MSOCK_OK;
}

msock_err msock_wg_peers_add(msock_wg_peers *t, const msock_node_key *key, uint32_t *peer_id) {
  if (reserve_key(t) != MSOCK_OK || take_id(t, peer_id) != MSOCK_OK) {
    return MSOCK_ERR_NOMEM;
  }
  msock_wg_peer *p = record(t, *peer_id);
  memset(p, 0, sizeof *p);
  p->key = *key;
  p->live = true;
  t->by_key[slot_of(t, key)] = *peer_id;
  t->live++;
  return MSOCK_OK;
}

static void forget_key(msock_wg_peers *t, const msock_node_key *key) {
  const uint32_t mask = t->by_key_cap - 1;
  uint32_t hole = slot_of(t, key);

  for (uint32_t at = (hole + 1) & mask; t->by_key[at] != MSOCK_WG_PEER_NONE; at = (at + 1) & mask) {
    const uint32_t home = home_of(t, &record(t, t->by_key[at])->key);
    if (((at - home) & mask) >= ((at - hole) & mask)) {
      t->by_key[hole] = t->by_key[at];
      hole = at;
    }
  }
  t->by_key[hole] = MSOCK_WG_PEER_NONE;
}

void msock_wg_peers_remove(msock_wg_peers *t, uint32_t peer_id) {
  msock_wg_peer *p = record(t, peer_id);
  const bool routed = p->routed;

  forget_key(t, &p->key);
  msock_wipe(p, sizeof *p);
  t->live--;
  if (routed) {
    p->next_free = t->retired;
    t->retired = peer_id;
    t->n_retired++;
  } else {
    p->next_free = t->free;
    t->free = peer_id;
  }
}

void msock_wg_peers_release(msock_wg_peers *t) {
  while (t->retired != MSOCK_WG_PEER_NONE) {
    const uint32_t peer_id = t->retired;
    msock_wg_peer *p = record(t, peer_id);
    t->retired = p->next_free;
    p->next_free = t->free;
    t->free = peer_id;
  }
  t->n_retired = 0;
}
