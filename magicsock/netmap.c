/* The netmap in: peers added, changed and removed. Whatever may fail is done before anything
 * changes, and nothing is judged in between: a packet sees the old netmap or the new one. */
#include <stdlib.h>
#include <string.h>

#include "magicsock/engine_internal.h"

/* Control's list replaces what control said before, and nothing else. True: something is new. */
static bool reconcile(msock_engine *e, uint64_t now_us, msock_path_peer *p,
                      const msock_engine_peer *in) {
  bool news = false;

  p->n_filtered = 0;
  for (uint16_t i = p->candidates.n; i-- > 0;) {
    msock_candidate *c = &p->candidates.at[i];
    bool listed = false;
    for (size_t k = 0; k < in->n_endpoints && !listed; k++) {
      const msock_addr addr = {.ip = msock_ip_unmap(in->endpoints[k].ip),
                               .port = in->endpoints[k].port};
      listed = msock_addr_equal(&addr, &c->addr);
    }
    if (!listed && (c->from & MSOCK_FROM_NETMAP) != 0) {
      msock_path_unlearn(e, now_us, p, c, MSOCK_FROM_NETMAP);
    }
  }
  for (size_t k = 0; k < in->n_endpoints; k++) {
    const msock_addr addr = {.ip = msock_ip_unmap(in->endpoints[k].ip),
                             .port = in->endpoints[k].port};
    const bool had = msock_candidates_find(&p->candidates, &addr) != NULL;
    const bool has = msock_path_learn(e, p, &addr, MSOCK_FROM_NETMAP) != NULL;
    news = news || (has && !had);
  }
  return news;
}

/* Candidates that only the old key's owner has shown us go with it (2.5). */
static void change_key(msock_engine *e, uint64_t now_us, msock_path_peer *p,
                       const msock_disco_key *key) {
  msock_path_reset(e, now_us, p, MSOCK_WHY_KEY_CHANGED);
  for (uint16_t i = p->candidates.n; i-- > 0;) {
    msock_path_unlearn(e, now_us, p, &p->candidates.at[i], MSOCK_FROM_CMM | MSOCK_FROM_PING);
  }
  msock_peers_set_disco(&e->peers, p, key);
  p->cmm_heard = p->ping_heard = false;
  p->cmm_sent_us = p->cmm_sweep_us = MSOCK_NEVER;
}

static bool same_key(const msock_path_peer *p, const msock_disco_key *key) {
  return p->disco != NULL ? msock_disco_key_equal(&p->disco->key, key)
                          : msock_disco_key_is_zero(key);
}

/* There is room for everything. */
static void apply(msock_engine *e, uint64_t now_us, msock_path_peer *p, const msock_engine_peer *in,
                  bool fresh) {
  const bool rekeyed = !same_key(p, &in->disco);

  p->home = in->home;
  if (rekeyed) {
    change_key(e, now_us, p, &in->disco);
  }
  const bool news = reconcile(e, now_us, p, in);
  if (fresh) {
    msock_why_note(e, now_us, p, MSOCK_WHY_PEER_NEW, NULL, p->candidates.n);
  }
  if (p->disco == NULL || !(fresh || rekeyed || news)) {
    return;
  }
  if (msock_path_eager(e, p, now_us)) {
    msock_cmm_news(p, now_us);
    msock_path_wake(e, now_us, p);
  } else { /* among many, it comes to life with its first packet */
    p->cmm_next_us = now_us + 1 + msock_env_uniform(&e->env, MSOCK_ENGINE_CMM_EAGER_US);
  }
  msock_engine_rearm(e, p);
}

static void forget(msock_engine *e, msock_path_peer *p) {
  for (uint16_t i = 0; i < p->candidates.n; i++) {
    msock_sources_drop(&e->sources, &p->candidates.at[i].addr, p->id);
  }
  msock_engine_untell(e, p);
  msock_path_heap_remove(&e->heap, p);
  msock_peers_remove(&e->peers, p);
}

static int by_node(const void *a, const void *b) {
  const msock_engine_peer *const *x = a, *const *y = b;
  return memcmp((*x)->node.b, (*y)->node.b, MSOCK_KEY_LEN);
}

static void remove_absent(msock_engine *e, const msock_engine_peer **sorted, size_t n) {
  for (uint32_t id = e->peers.end; id-- > 0;) {
    msock_path_peer *p = msock_peers_get(&e->peers, id);
    if (p == NULL) {
      continue;
    }
    const msock_engine_peer key = {.node = p->node}, *wanted = &key;
    if (n == 0 || bsearch(&wanted, sorted, n, sizeof *sorted, by_node) == NULL) {
      forget(e, p);
    }
  }
}

/* Everything of an update that may fail. made[i] is a record for the new peer i. */
static msock_err prepare(msock_engine *e, const msock_engine_peer *peers, size_t n,
                         msock_path_peer **made) {
  uint32_t fresh = 0, keys = 0;
  for (size_t i = 0; i < n; i++) {
    msock_path_peer *p = msock_peers_find(&e->peers, &peers[i].node);
    /* Also a key that is known now may be gone before it is given to its new peer. */
    keys += p == NULL || !same_key(p, &peers[i].disco);
    if (p == NULL) {
      fresh++;
      p = made[i] = msock_peers_make(&peers[i].node);
    }
    if (p == NULL || msock_candidates_reserve(&p->candidates,
                                              p->candidates.n + peers[i].n_endpoints) != MSOCK_OK) {
      return MSOCK_ERR_NOMEM;
    }
  }
  if (n > MSOCK_ENGINE_PEERS_MAX || msock_path_heap_reserve(&e->heap, fresh) != MSOCK_OK) {
    return MSOCK_ERR_NOMEM;
  }
  return msock_peers_reserve(&e->peers, fresh, keys);
}

static void give_up(msock_engine *e, msock_path_peer **made, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (made[i] != NULL) {
      msock_candidates_free(&made[i]->candidates);
      free(made[i]);
    }
  }
  msock_peers_trim(&e->peers);
  e->counters.netmap_failed++;
}

static void commit(msock_engine *e, uint64_t now_us, const msock_engine_peer *peers, size_t n,
                   msock_path_peer **made) {
  e->netmap = true;
  for (size_t i = 0; i < n;
       i++) { /* all in, before the first is woken: eager depends on how many */
    if (made[i] != NULL && msock_peers_find(&e->peers, &peers[i].node) != NULL) {
      msock_candidates_free(&made[i]->candidates); /* listed twice */
      free(made[i]);
      made[i] = NULL;
    } else if (made[i] != NULL) {
      msock_peers_insert(&e->peers, made[i]);
      msock_path_heap_insert(&e->heap, made[i]);
    }
  }
  for (size_t i = 0; i < n; i++) {
    msock_path_peer *p = msock_peers_find(&e->peers, &peers[i].node);
    apply(e, now_us, p, &peers[i], made[i] != NULL);
  }
  msock_peers_trim(&e->peers);
}

msock_err msock_engine_peer_put(msock_engine *e, uint64_t now_us, const msock_engine_peer *p,
                                uint32_t *id) {
  msock_path_peer *made = NULL;
  if (prepare(e, p, 1, &made) != MSOCK_OK) {
    give_up(e, &made, 1);
    return MSOCK_ERR_NOMEM;
  }
  commit(e, now_us, p, 1, &made);
  if (id != NULL) {
    *id = msock_peers_find(&e->peers, &p->node)->id;
  }
  return MSOCK_OK;
}

msock_err msock_engine_netmap(msock_engine *e, uint64_t now_us, const msock_engine_peer *peers,
                              size_t n) {
  msock_err err = MSOCK_ERR_NOMEM;
  const size_t slots = n > 0 ? n : 1;
  msock_path_peer **made = calloc(slots, sizeof *made);
  const msock_engine_peer **sorted = calloc(slots, sizeof *sorted);

  if (made == NULL || sorted == NULL) {
    e->counters.netmap_failed++;
    goto out;
  }
  err = prepare(e, peers, n, made);
  if (err != MSOCK_OK) {
    give_up(e, made, n);
    goto out;
  }
  for (size_t i = 0; i < n; i++) {
    sorted[i] = &peers[i];
  }
  qsort(sorted, n, sizeof *sorted, by_node);
  remove_absent(e, sorted, n);
  commit(e, now_us, peers, n, made);
out:
  free(made);
  free(sorted);
  return err;
}

void msock_engine_peer_remove(msock_engine *e, uint32_t id) {
  msock_path_peer *p = msock_peers_get(&e->peers, id);
  if (p != NULL) {
    forget(e, p);
  }
}

void msock_engine_netmap_clear(msock_engine *e) {
  remove_absent(e, NULL, 0);
  e->netmap = false;
}
