#include "magicsock/peers.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"

#define CAP_MIN 16u

void msock_peers_init(msock_path_peers *t, uint64_t seed) {
  *t = (msock_path_peers){.by_node = {.seed = seed}, .by_disco = {.seed = seed}};
}

static msock_disco_member *take_spare(msock_path_peers *t) {
  msock_disco_member *m = t->spare;
  t->spare = m->next_spare;
  m->next_spare = NULL;
  return m;
}

static bool stock_spares(msock_path_peers *t, uint32_t n) {
  uint32_t have = 0;
  for (const msock_disco_member *m = t->spare; m != NULL && have < n; m = m->next_spare) {
    have++;
  }
  for (; have < n; have++) {
    msock_disco_member *m = calloc(1, sizeof *m);
    if (m == NULL) {
      return false;
    }
    m->next_spare = t->spare;
    t->spare = m;
  }
  return true;
}

void msock_peers_trim(msock_path_peers *t) {
  while (t->spare != NULL) {
    free(take_spare(t));
  }
}

void msock_peers_free(msock_path_peers *t) {
  for (uint32_t id = 0; id < t->end; id++) {
    if (t->at[id] != NULL) {
      msock_peers_remove(t, t->at[id]);
    }
  }
  msock_peers_trim(t);
  msock_key_index_free(&t->by_node);
  msock_key_index_free(&t->by_disco);
  free(t->at);
  *t = (msock_path_peers){0};
}

msock_path_peer *msock_peers_get(const msock_path_peers *t, uint32_t id) {
  return id < t->end ? t->at[id] : NULL;
}

msock_path_peer *msock_peers_find(const msock_path_peers *t, const msock_node_key *node) {
  return msock_key_index_find(&t->by_node, node->b);
}

msock_disco_member *msock_peers_find_disco(const msock_path_peers *t, const msock_disco_key *key) {
  return msock_key_index_find(&t->by_disco, key->b);
}

msock_err msock_peers_reserve(msock_path_peers *t, uint32_t extra, uint32_t disco_keys) {
  if (t->n + (uint64_t)extra > MSOCK_ENGINE_PEERS_MAX) {
    return MSOCK_ERR_NOMEM;
  }
  if (t->n + extra > t->cap) {
    uint32_t cap = t->cap > 0 ? t->cap : CAP_MIN;
    while (cap < t->n + extra) {
      cap *= 2;
    }
    msock_path_peer **bigger = realloc(t->at, cap * sizeof *bigger);
    if (bigger == NULL) {
      return MSOCK_ERR_NOMEM;
    }
    t->at = bigger;
    t->cap = cap;
  }
  if (msock_key_index_reserve(&t->by_node, extra) != MSOCK_OK ||
      msock_key_index_reserve(&t->by_disco, disco_keys) != MSOCK_OK ||
      !stock_spares(t, disco_keys)) {
    return MSOCK_ERR_NOMEM;
  }
  return MSOCK_OK;
}

msock_path_peer *msock_peers_make(const msock_node_key *node) {
  msock_path_peer *p = calloc(1, sizeof *p);
  if (p == NULL) {
    return NULL;
  }
  p->node = *node;
  p->burst_step = MSOCK_ENGINE_BURST_STEPS;
  p->sweep_every_us = MSOCK_ENGINE_UPGRADE_US;
  p->due_us = p->sweep_us = p->idle_us = p->again_us = MSOCK_NEVER;
  p->unanswered_us = p->sent_us = p->news_us = MSOCK_NEVER;
  p->probe_next_us = p->stall_due_us = p->carried_us = MSOCK_NEVER;
  p->cmm_next_us = p->cmm_sent_us = p->cmm_wait_us = MSOCK_NEVER;
  p->cmm_sweep_us = p->cmm_sweep_due_us = MSOCK_NEVER;
  return p;
}

static uint32_t free_id(msock_path_peers *t) {
  if (t->n == t->end) {
    return t->end++;
  }
  while (t->at[t->free_from] != NULL) {
    t->free_from++;
  }
  return t->free_from;
}

void msock_peers_insert(msock_path_peers *t, msock_path_peer *p) {
  p->id = free_id(t);
  p->serial = ++t->serial;
  t->at[p->id] = p;
  t->n++;
  msock_key_index_insert(&t->by_node, p);
}

static void leave_member(msock_path_peers *t, msock_path_peer *p) {
  msock_disco_member *m = p->disco;
  if (m == NULL) {
    return;
  }
  msock_path_peer **at = &m->peers;
  while (*at != p) {
    at = &(*at)->next_same;
  }
  *at = p->next_same;
  p->next_same = NULL;
  p->disco = NULL;
  if (m->peers == NULL) {
    msock_key_index_remove(&t->by_disco, m);
    msock_wipe(m, sizeof *m);
    free(m);
  }
}

void msock_peers_remove(msock_path_peers *t, msock_path_peer *p) {
  leave_member(t, p);
  msock_key_index_remove(&t->by_node, p);
  t->at[p->id] = NULL;
  t->n--;
  t->free_from = p->id < t->free_from ? p->id : t->free_from;
  while (t->end > 0 && t->at[t->end - 1] == NULL) {
    t->end--;
  }
  msock_candidates_free(&p->candidates);
  msock_pings_free(&p->pings);
  free(p->why);
  free(p);
}

void msock_peers_set_disco(msock_path_peers *t, msock_path_peer *p, const msock_disco_key *key) {
  leave_member(t, p);
  if (!msock_disco_key_is_zero(key)) {
    msock_disco_member *m = msock_peers_find_disco(t, key);
    if (m == NULL) {
      m = take_spare(t);
      m->key = *key;
      msock_key_index_insert(&t->by_disco, m);
    }
    p->disco = m;
    p->next_same = m->peers;
    m->peers = p;
  }
}

const msock_disco_shared *msock_member_shared(msock_disco_member *m,
                                              const msock_disco_identity *me) {
  if (!m->ready && !m->bad) {
    m->ready = msock_disco_shared_init(&m->shared, me, &m->key) == MSOCK_OK;
    m->bad = !m->ready;
  }
  return m->ready ? &m->shared : NULL;
}

void msock_peers_forget_shared(msock_path_peers *t) {
  for (uint32_t id = 0; id < t->end; id++) {
    msock_disco_member *m = t->at[id] != NULL ? t->at[id]->disco : NULL;
    if (m != NULL) {
      msock_disco_shared_wipe(&m->shared);
      m->ready = m->bad = false;
    }
  }
}
