#include "wg/wg.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"
#include "wg/engine_internal.h"

#define STAGED_MAX 65536u /* slabs that a configuration may ask for */
#define RETIRED_MAX 64u   /* ids at rest before the table of allowed IPs is swept */

/* Queues of active peers: circular, the head is in the engine. */

static void queue_init(msock_wg_link *head) {
  *head = (msock_wg_link){.prev = head, .next = head};
}

static void queue_push(msock_wg_link *head, msock_wg_link *l) {
  if (l->next == NULL) {
    l->prev = head->prev;
    l->next = head;
    l->prev->next = l;
    head->prev = l;
  }
}

static void queue_remove(msock_wg_link *l) {
  if (l->next != NULL) {
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->prev = NULL;
    l->next = NULL;
  }
}

void msock_wg_post(msock_wg *wg, msock_wg_active *a, unsigned output) {
  a->outputs |= output;
  queue_push(&wg->outputs, &a->output_link);
}

void msock_wg_tell(msock_wg *wg, msock_wg_active *a, unsigned event) {
  a->events |= event;
  queue_push(&wg->events, &a->event_link);
}

/* Life of the engine. */

static bool apply_defaults(msock_wg_config *c) {
  c->mtu_bytes = c->mtu_bytes ? c->mtu_bytes : MSOCK_WG_MTU_DEFAULT;
  c->staged_packets = c->staged_packets ? c->staged_packets : MSOCK_WG_STAGED_DEFAULT;
  c->handshakes_per_second =
      c->handshakes_per_second ? c->handshakes_per_second : MSOCK_WG_HANDSHAKES_DEFAULT;
  return c->mtu_bytes >= MSOCK_WG_MTU_MIN && c->mtu_bytes <= MSOCK_WG_MTU_MAX &&
         c->staged_packets <= STAGED_MAX;
}

msock_wg *msock_wg_new(const msock_env *env, const msock_node_private *key,
                       const msock_wg_config *cfg) {
  msock_wg_config c = cfg ? *cfg : (msock_wg_config){0};
  uint64_t seeds[2];

  if (!apply_defaults(&c)) {
    return NULL;
  }
  msock_wg *wg = calloc(1, sizeof *wg);
  if (wg == NULL) {
    return NULL;
  }
  if (msock_wg_staged_init(&wg->staged, c.staged_packets, c.mtu_bytes) != MSOCK_OK) {
    free(wg);
    return NULL;
  }
  wg->env = *env;
  wg->cfg = c;
  queue_init(&wg->outputs);
  queue_init(&wg->events);
  env->random(env->ctx, seeds, sizeof seeds);
  msock_wg_peers_init(&wg->peers, seeds[0]);
  wg->routes.seed = seeds[1];
  msock_wg_guard_init(&wg->guard, env, c.handshakes_per_second);
  msock_wg_identity_init(&wg->id, key);
  return wg;
}

static void free_active(msock_wg *wg, msock_wg_active *a) {
  msock_wg_erase_keys(wg, a);
  wg->counters.tx_staged_drop += msock_wg_staged_clear(&wg->staged, &a->staged);
  queue_remove(&a->output_link);
  queue_remove(&a->event_link);
  msock_wg_due_remove(&wg->due, a);
  msock_wg_peers_get(&wg->peers, a->peer_id)->active = NULL;
  msock_wipe(a, sizeof *a);
  free(a);
}

void msock_wg_free(msock_wg *wg) {
  if (wg == NULL) {
    return;
  }
  for (msock_wg_active *a = NULL; (a = msock_wg_due_top(&wg->due)) != NULL;) {
    free_active(wg, a);
  }
  msock_wg_due_free(&wg->due);
  msock_wg_index_free(&wg->index);
  msock_wg_allowed_ips_free(&wg->routes);
  msock_wg_staged_free(&wg->staged);
  msock_wg_peers_free(&wg->peers);
  msock_wipe(wg, sizeof *wg);
  free(wg);
}

void msock_wg_set_private_key(msock_wg *wg, const msock_node_private *key) {
  msock_wg_identity_init(&wg->id, key);
  wg->queue_pos = (msock_wg_queue){0}; /* messages to the old key */
  wg->reply_pos = (msock_wg_queue){0};
  for (uint32_t i = 0; i < wg->due.n; i++) {
    msock_wg_active *a = wg->due.at[i];
    msock_wg_erase_keys(wg, a);
    msock_wg_remote_init(&a->remote, &wg->id, &msock_wg_peers_get(&wg->peers, a->peer_id)->key);
    if (a->wanted) {
      a->retransmit_us = MSOCK_NEVER;
      msock_wg_post(wg, a, MSOCK_WG_DO_INITIATION);
    } else { /* about to be sealed by a session that is gone */
      wg->counters.tx_staged_drop += msock_wg_staged_clear(&wg->staged, &a->staged);
    }
  }
}

/* A peer's active block. */

msock_wg_active *msock_wg_activate(msock_wg *wg, uint32_t peer_id) {
  msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, peer_id);
  if (peer->active != NULL) {
    return peer->active;
  }
  msock_wg_active *a = calloc(1, sizeof *a);
  if (a == NULL) {
    return NULL;
  }
  a->peer_id = peer_id;
  a->output_link.owner = a;
  a->event_link.owner = a;
  msock_wg_staged_list_init(&a->staged);
  msock_wg_timers_init(a, &wg->env);
  if (msock_wg_due_insert(&wg->due, a) != MSOCK_OK) {
    free(a);
    return NULL;
  }
  msock_wg_remote_init(&a->remote, &wg->id, &peer->key);
  peer->active = a;
  return a;
}

void msock_wg_drop_session(msock_wg *wg, msock_wg_session **slot) {
  if (*slot != NULL) {
    msock_wg_index_remove(&wg->index, (*slot)->local_index);
    msock_wg_session_free(*slot);
    *slot = NULL;
  }
}

void msock_wg_drop_handshake(msock_wg *wg, msock_wg_active *a) {
  if (a->waiting) {
    msock_wg_index_remove(&wg->index, a->handshake.local_index);
    msock_wipe(&a->handshake, sizeof a->handshake);
    a->waiting = false;
  }
}

void msock_wg_erase_keys(msock_wg *wg, msock_wg_active *a) {
  msock_wg_drop_session(wg, &a->previous);
  msock_wg_drop_session(wg, &a->current);
  msock_wg_drop_session(wg, &a->next);
  msock_wg_drop_handshake(wg, a);
  msock_wipe(a->cookie, sizeof a->cookie);
  a->cookie_us = MSOCK_NEVER;
  msock_wipe(a->last_mac1, sizeof a->last_mac1);
  a->has_mac1 = false;
  msock_wipe(a->response, sizeof a->response);
  msock_wipe(a->remote.static_static, sizeof a->remote.static_static);
  a->remote.has_static_static = false;
  a->outputs &= MSOCK_WG_DO_INITIATION; /* the rest would need what is gone */
  a->data_in_us = MSOCK_NEVER;
  a->data_out_us = MSOCK_NEVER;
  a->one_more = false;
}

void msock_wg_deactivate_if_idle(msock_wg *wg, msock_wg_active *a) {
  if (!a->wanted && !a->waiting && a->staged.count == 0 && a->outputs == 0 && a->events == 0 &&
      a->previous == NULL && a->current == NULL && a->next == NULL) {
    free_active(wg, a);
  }
}

/* Peers. */

static bool is_live(const void *ctx, uint32_t peer_id) {
  return msock_wg_peers_get(ctx, peer_id) != NULL;
}

static void forget_cached(msock_wg *wg) {
  wg->cache_out = (msock_wg_route_cache){0};
  wg->cache_in = (msock_wg_route_cache){0};
}

/* Ids of removed peers rest until no route names them. */
static void sweep_retired(msock_wg *wg) {
  const bool full = wg->peers.end == MSOCK_WG_PEERS_MAX && wg->peers.n_retired > 0;
  if (wg->peers.free == MSOCK_WG_PEER_NONE && (full || wg->peers.n_retired >= RETIRED_MAX) &&
      msock_wg_allowed_ips_retain(&wg->routes, is_live, &wg->peers) == MSOCK_OK) {
    msock_wg_peers_release(&wg->peers);
    forget_cached(wg);
  }
}

msock_err msock_wg_peer_add(msock_wg *wg, const msock_node_key *key, const uint8_t *psk,
                            uint32_t *peer_id) {
  uint32_t id = 0;

  if (msock_node_key_is_zero(key) || msock_node_key_equal(key, &wg->id.public_key) ||
      msock_wg_peers_find(&wg->peers, key) != MSOCK_WG_PEER_NONE) {
    return MSOCK_ERR_INVALID;
  }
  sweep_retired(wg);
  const msock_err e = msock_wg_peers_add(&wg->peers, key, &id);
  if (e != MSOCK_OK) {
    return e;
  }
  if (psk != NULL) {
    memcpy(msock_wg_peers_get(&wg->peers, id)->psk, psk, MSOCK_WG_PSK_LEN);
  }
  *peer_id = id;
  return MSOCK_OK;
}

void msock_wg_peer_remove(msock_wg *wg, uint32_t peer_id) {
  msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, peer_id);
  if (peer == NULL) {
    return;
  }
  if (peer->active != NULL) {
    free_active(wg, peer->active);
  }
  for (uint32_t i = 0; i < wg->hint_pos.count; i++) {
    msock_wg_hint *h = &wg->hints[(wg->hint_pos.head + i) % MSOCK_WG_HINT_QUEUE_LEN];
    h->peer_id = h->peer_id == peer_id ? MSOCK_WG_PEER_NONE : h->peer_id;
  }
  msock_wg_peers_remove(&wg->peers, peer_id);
}

uint32_t msock_wg_peer_find(const msock_wg *wg, const msock_node_key *key) {
  return msock_wg_peers_find(&wg->peers, key);
}

const msock_node_key *msock_wg_peer_key(const msock_wg *wg, uint32_t peer_id) {
  const msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, peer_id);
  return peer ? &peer->key : NULL;
}

msock_err msock_wg_peer_status_get(const msock_wg *wg, uint64_t now_us, uint32_t peer_id,
                                   msock_wg_peer_status *out) {
  const msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, peer_id);
  if (peer == NULL) {
    return MSOCK_ERR_UNKNOWN;
  }
  const msock_wg_active *a = peer->active;
  *out = (msock_wg_peer_status){
      .key = peer->key,
      .last_handshake_wall_us = peer->last_handshake_wall_us,
      .rx_bytes = peer->rx_bytes,
      .tx_bytes = peer->tx_bytes,
      .rx_packets = peer->rx_packets,
      .tx_packets = peer->tx_packets,
      .staged = a ? a->staged.count : 0,
      .has_session = a != NULL && msock_wg_session_can_send(a->current, now_us),
      .handshake_pending = a != NULL && a->wanted,
  };
  return MSOCK_OK;
}

/* Allowed IPs. */

msock_err msock_wg_set_allowed_ips(msock_wg *wg, const msock_wg_route *routes, size_t n) {
  msock_wg_allowed_ips next;

  if (n > MSOCK_WG_ROUTES_MAX) {
    return MSOCK_ERR_NOMEM;
  }
  for (size_t i = 0; i < n; i++) {
    if (msock_wg_peers_get(&wg->peers, routes[i].peer_id) == NULL) {
      return MSOCK_ERR_UNKNOWN;
    }
  }
  const msock_err e = msock_wg_allowed_ips_build(&next, wg->routes.seed, routes, n);
  if (e != MSOCK_OK) {
    return e;
  }
  msock_wg_allowed_ips_free(&wg->routes);
  wg->routes = next;
  forget_cached(wg);
  msock_wg_peers_release(&wg->peers);
  for (uint32_t id = 0; id < wg->peers.end; id++) {
    msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, id);
    if (peer != NULL) {
      peer->routed = false;
    }
  }
  for (size_t i = 0; i < n; i++) {
    msock_wg_peers_get(&wg->peers, routes[i].peer_id)->routed = true;
  }
  return MSOCK_OK;
}

msock_err msock_wg_peer_set_allowed_ips(msock_wg *wg, uint32_t peer_id,
                                        const msock_prefix *prefixes, size_t n) {
  msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, peer_id);

  if (peer == NULL) {
    return MSOCK_ERR_UNKNOWN;
  }
  if (n > MSOCK_WG_ROUTES_MAX - msock_wg_allowed_ips_count(&wg->routes)) {
    return MSOCK_ERR_NOMEM;
  }
  const msock_err e = msock_wg_allowed_ips_replace(&wg->routes, peer_id, prefixes, n);
  if (e == MSOCK_OK) {
    peer->routed = n > 0;
    forget_cached(wg);
  }
  return e;
}

bool msock_wg_lookup(const msock_wg *wg, const msock_ip *ip, uint32_t *peer_id) {
  const uint32_t id = msock_wg_allowed_ips_lookup(&wg->routes, ip);
  if (msock_wg_peers_get(&wg->peers, id) == NULL) {
    return false;
  }
  *peer_id = id;
  return true;
}

uint32_t msock_wg_owner(const msock_wg *wg, msock_wg_route_cache *cache, const msock_ip *ip) {
  if (cache->ip.family != ip->family || memcmp(cache->ip.b, ip->b, sizeof ip->b) != 0) {
    cache->ip = *ip;
    cache->peer_id = msock_wg_allowed_ips_lookup(&wg->routes, ip);
  }
  return is_live(&wg->peers, cache->peer_id) ? cache->peer_id : MSOCK_WG_PEER_NONE;
}

/* Polling. */

size_t msock_wg_output_max(const msock_wg *wg) {
  const size_t padded =
      ((size_t)wg->cfg.mtu_bytes + MSOCK_WG_PADDING - 1) / MSOCK_WG_PADDING * MSOCK_WG_PADDING;
  return padded + MSOCK_WG_OVERHEAD; /* the least MTU is longer than any handshake message */
}

/* One message of this peer, in the order of sending; 0 when it has none left. */
static size_t next_of_peer(msock_wg *wg, uint64_t now_us, uint64_t wall_us, msock_wg_active *a,
                           msock_wg_output_kind *kind, uint8_t *buf, size_t cap) {
  size_t len = 0;

  if (a->outputs & MSOCK_WG_DO_RESPONSE) {
    a->outputs &= ~(unsigned)MSOCK_WG_DO_RESPONSE;
    *kind = MSOCK_WG_OUT_RESPONSE;
    return msock_wg_response_out(wg, a, buf);
  }
  if (a->outputs & MSOCK_WG_DO_INITIATION) {
    a->outputs &= ~(unsigned)MSOCK_WG_DO_INITIATION;
    *kind = MSOCK_WG_OUT_INITIATION;
    len = msock_wg_initiation_out(wg, now_us, wall_us, a, buf);
  }
  if (len == 0 && (a->outputs & MSOCK_WG_DO_STAGED)) {
    *kind = MSOCK_WG_OUT_DATA;
    len = msock_wg_staged_out(wg, now_us, a, buf, cap);
    if (len == 0) {
      a->outputs &= ~(unsigned)MSOCK_WG_DO_STAGED;
    }
  }
  if (len == 0 && (a->outputs & MSOCK_WG_DO_KEEPALIVE)) {
    a->outputs &= ~(unsigned)MSOCK_WG_DO_KEEPALIVE;
    *kind = MSOCK_WG_OUT_KEEPALIVE;
    len = msock_wg_keepalive_out(wg, now_us, a, buf, cap);
  }
  return len;
}

size_t msock_wg_next_output(msock_wg *wg, uint64_t now_us, uint64_t wall_us, msock_wg_output *out,
                            uint8_t *buf, size_t cap) {
  assert(cap >= msock_wg_output_max(wg));
  *out = (msock_wg_output){.kind = MSOCK_WG_OUT_COOKIE, .peer_id = MSOCK_WG_PEER_NONE};
  size_t len = msock_wg_cookie_out(wg, now_us, &out->source, buf);

  while (len == 0 && wg->outputs.next != &wg->outputs) {
    msock_wg_active *a = wg->outputs.next->owner;
    out->peer_id = a->peer_id;
    len = next_of_peer(wg, now_us, wall_us, a, &out->kind, buf, cap);
    if (a->outputs == 0) {
      queue_remove(&a->output_link);
    }
  }
  return len;
}

static bool next_hint(msock_wg *wg, msock_wg_event *out) {
  msock_wg_queue *q = &wg->hint_pos;

  while (q->count > 0) {
    const msock_wg_hint *h = &wg->hints[q->head];
    q->head = (q->head + 1) % MSOCK_WG_HINT_QUEUE_LEN;
    q->count--;
    if (h->peer_id != MSOCK_WG_PEER_NONE) { /* the peer was not removed meanwhile */
      *out = (msock_wg_event){
          .kind = MSOCK_WG_EV_AUTHENTICATED, .peer_id = h->peer_id, .source = h->source};
      return true;
    }
  }
  return false;
}

bool msock_wg_next_event(msock_wg *wg, msock_wg_event *out) {
  static const struct {
    unsigned flag;
    msock_wg_event_kind kind;
  } order[] = {{MSOCK_WG_TELL_STALLED, MSOCK_WG_EV_STALLED},
               {MSOCK_WG_TELL_GAVE_UP, MSOCK_WG_EV_GAVE_UP},
               {MSOCK_WG_TELL_UP, MSOCK_WG_EV_SESSION_UP}};

  if (next_hint(wg, out)) {
    return true;
  }
  if (wg->events.next == &wg->events) {
    return false;
  }
  msock_wg_active *a = wg->events.next->owner;
  *out = (msock_wg_event){.peer_id = a->peer_id};
  for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
    if (a->events & order[i].flag) {
      a->events &= ~order[i].flag;
      out->kind = order[i].kind;
      break;
    }
  }
  if (a->events == 0) {
    queue_remove(&a->event_link);
  }
  return true;
}

uint64_t msock_wg_next_expiry(const msock_wg *wg) {
  const msock_wg_active *a = msock_wg_due_top(&wg->due);
  if (wg->queue_pos.count > 0) {
    return 0;
  }
  return a ? a->due_us : MSOCK_NEVER;
}

void msock_wg_on_expiry(msock_wg *wg, uint64_t now_us, uint64_t wall_us) {
  msock_wg_handshake_work(wg, now_us, wall_us);
  for (msock_wg_active *a = NULL;
       (a = msock_wg_due_top(&wg->due)) != NULL && a->due_us <= now_us;) {
    msock_wg_timers_expire(wg, a, now_us);
  }
}

/* Handshakes on request. */

void msock_wg_peer_open_session(msock_wg *wg, uint64_t now_us, uint32_t peer_id) {
  if (msock_wg_peers_get(&wg->peers, peer_id) == NULL) {
    return;
  }
  msock_wg_active *a = msock_wg_activate(wg, peer_id);
  if (a == NULL) {
    wg->counters.tx_handshake_fail++;
  } else if (!msock_wg_session_can_send(a->current, now_us)) {
    msock_wg_want_handshake(wg, a, now_us);
  }
}

void msock_wg_peer_renew(msock_wg *wg, uint64_t now_us, uint32_t peer_id) {
  const msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, peer_id);
  if (peer != NULL && peer->active != NULL && peer->active->current != NULL) {
    msock_wg_want_handshake(wg, peer->active, now_us);
  }
}

void msock_wg_peer_unsent(msock_wg *wg, uint32_t peer_id) {
  const msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, peer_id);
  if (peer != NULL && peer->active != NULL && peer->active->wanted) {
    peer->active->unsent = true;
  }
}

void msock_wg_peer_kick(msock_wg *wg, uint64_t now_us, uint32_t peer_id) {
  const msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, peer_id);
  if (peer != NULL && peer->active != NULL) {
    msock_wg_hurry_handshake(wg, peer->active, now_us);
  }
}

bool msock_wg_under_load(const msock_wg *wg, uint64_t now_us) {
  return msock_wg_guard_loaded(&wg->guard, now_us);
}

const msock_wg_counters *msock_wg_counters_get(const msock_wg *wg) {
  return &wg->counters;
}
