#include "derp/pool.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"
#include "derp/pool_internal.h"

/* ---- making and settings ---- */

msock_derp_pool *msock_derp_pool_new(const msock_env *env) {
  msock_derp_pool *p = calloc(1, sizeof *p);
  if (p == NULL) {
    return NULL;
  }
  p->env = env;
  p->network_up = true;
  p->v6_allowed = true;
  p->sweep_at_us = MSOCK_NEVER;
  msock_derp_routes_init(&p->routes, env);
  return p;
}

static void remove_all(msock_derp_pool *p) {
  while (p->n_links > 0) {
    msock_derp_link_remove(p, p->n_links - 1);
  }
}

void msock_derp_pool_free(msock_derp_pool *p) {
  if (p == NULL) {
    return;
  }
  remove_all(p);
  free(p->links);
  msock_derp_routes_free(&p->routes);
  msock_derp_map_clear(&p->map);
  msock_wipe(p, sizeof *p);
  free(p);
}

/* Home is permanent: whenever it can be dialled and nothing is under way, dial. */
static void open_home(msock_derp_pool *p, uint64_t now_us) {
  msock_derp_link *l = p->home != 0 ? msock_derp_link_get(p, p->home) : NULL;
  p->dirty = true;
  if (l == NULL) {
    return;
  }
  const bool parked = l->state == MSOCK_DERP_REGION_WAITING && l->retry_at_us == MSOCK_NEVER;
  if (l->state == MSOCK_DERP_REGION_IDLE || parked) {
    msock_derp_link_dial(p, l, now_us);
  }
}

/* Same place to connect to? The score matters to netcheck alone. */
static bool same_region(const msock_derp_region *a, const msock_derp_region *b) {
  msock_derp_region x = *a;
  x.score = b->score;
  return msock_derp_region_equal(&x, b);
}

msock_err msock_derp_pool_set_map(msock_derp_pool *p, uint64_t now_us, const msock_derp_map *map) {
  msock_derp_map old = p->map;
  msock_derp_map fresh = {0};
  if (map != NULL && msock_derp_map_copy(&fresh, map) != MSOCK_OK) {
    return MSOCK_ERR_NOMEM;
  }
  p->map = fresh;
  p->has_map = map != NULL;
  for (size_t i = p->n_links; i-- > 0;) {
    msock_derp_link *l = p->links[i];
    const msock_derp_region *was = msock_derp_map_find(&old, l->region);
    const msock_derp_region *is = msock_derp_map_find(&p->map, l->region);
    if (is != NULL && was != NULL && same_region(was, is)) {
      continue;
    }
    p->reprobe = p->has_map;
    if (is == NULL) {
      msock_derp_link_remove(p, i);
      continue;
    }
    l->no_fast_start = false;
    msock_derp_link_stop(p, l, now_us, "region changed in the map", true);
    if (!msock_derp_queue_is_empty(&l->queue)) {
      msock_derp_link_dial(p, l, now_us);
    }
  }
  msock_derp_map_clear(&old);
  open_home(p, now_us);
  return MSOCK_OK;
}

void msock_derp_pool_set_private_key(msock_derp_pool *p, uint64_t now_us,
                                     const msock_node_private *key) {
  if (key != NULL && p->has_key && msock_ct_equal(key->b, p->key.b, sizeof key->b)) {
    return;
  }
  for (size_t i = 0; i < p->n_links; i++) {
    msock_derp_link_stop(p, p->links[i], now_us, "node key changed", false);
  }
  msock_wipe(&p->key, sizeof p->key);
  p->has_key = key != NULL;
  if (key != NULL) {
    p->key = *key;
  }
  open_home(p, now_us);
}

static void arm_sweep(msock_derp_pool *p, uint64_t now_us) {
  if (p->sweep_at_us == MSOCK_NEVER) {
    p->sweep_at_us = now_us + MSOCK_DERP_SWEEP_US;
  }
}

void msock_derp_pool_set_home(msock_derp_pool *p, uint64_t now_us, msock_region_id region) {
  if (region == p->home) {
    return;
  }
  msock_derp_link *l = p->home != 0 ? msock_derp_link_find(p, p->home) : NULL;
  if (l != NULL) { /* it becomes an ordinary region and closes by the ordinary rule */
    l->last_write_us = now_us;
    arm_sweep(p, now_us);
    if (l->client != NULL) {
      msock_derp_client_set_preferred(l->client, false);
    }
  }
  p->home = region;
  l = region != 0 ? msock_derp_link_find(p, region) : NULL;
  if (l != NULL && l->client != NULL) {
    msock_derp_client_set_preferred(l->client, true);
  }
  open_home(p, now_us);
}

void msock_derp_pool_set_v6(msock_derp_pool *p, bool allow, bool works) {
  p->v6_allowed = allow;
  p->v6_works = works;
}

void msock_derp_pool_set_network(msock_derp_pool *p, uint64_t now_us, bool up) {
  if (p->network_up == up) {
    return;
  }
  p->network_up = up;
  for (size_t i = 0; i < p->n_links; i++) {
    msock_derp_link *l = p->links[i];
    if (!up) {
      msock_derp_link_stop(p, l, now_us, "network is down", true);
    } else if (!msock_derp_queue_is_empty(&l->queue)) {
      msock_derp_link_dial(p, l, now_us);
    }
  }
  open_home(p, now_us);
}

/* ---- actions ---- */

static void make_dial(msock_derp_pool *p, msock_derp_link *l, msock_derp_action *out) {
  const msock_derp_region *r = msock_derp_map_find(&p->map, l->region);
  *out = (msock_derp_action){
      .kind = MSOCK_DERP_ACTION_DIAL,
      .conn = l->conn,
      .region = l->region,
      .node_index = l->node,
      .node = r->nodes[l->node],
      .plan = msock_derp_dial_plan_make(&r->nodes[l->node], p->v6_allowed, p->v6_works),
      .tcp_budget_us = MSOCK_DERP_TCP_BUDGET_US,
      .deadline_us = l->attempt_deadline_us,
  };
  msock_derp_check_make(&r->nodes[l->node], &out->check); /* link.c dials only what passes this */
  l->dial_due = false;
  p->counters.dials++;
}

bool msock_derp_pool_next_action(msock_derp_pool *p, uint64_t now_us, msock_derp_action *out) {
  (void)now_us;
  if (p->n_closes > 0) {
    *out = (msock_derp_action){.kind = MSOCK_DERP_ACTION_CLOSE, .conn = p->closes[--p->n_closes]};
    return true;
  }
  for (size_t i = 0; i < p->n_links; i++) {
    msock_derp_link *l = p->links[i];
    if (l->dial_due) {
      make_dial(p, l, out);
      return true;
    }
    if (l->client != NULL && !l->write_told && msock_derp_client_tx_wanted(l->client)) {
      l->write_told = true;
      *out = (msock_derp_action){
          .kind = MSOCK_DERP_ACTION_WRITE, .conn = l->conn, .region = l->region};
      return true;
    }
  }
  return false;
}

/* ---- reports ---- */

/* The link of a conn id that the shell reports about; NULL, counted, when given up meanwhile. */
static msock_derp_link *reported(msock_derp_pool *p, msock_derp_conn_id id) {
  msock_derp_link *l = msock_derp_link_by_conn(p, id);
  if (l == NULL || l->dial_due) {
    p->counters.stale_reports++;
    return NULL;
  }
  return l;
}

void msock_derp_pool_conn_up(msock_derp_pool *p, uint64_t now_us, msock_derp_conn_id id,
                             const msock_derp_conn_info *info) {
  msock_derp_link *l = reported(p, id);
  if (l != NULL && l->state == MSOCK_DERP_REGION_DIALING) {
    msock_derp_link_up(p, l, now_us, info);
  }
}

void msock_derp_pool_conn_down(msock_derp_pool *p, uint64_t now_us, msock_derp_conn_id id,
                               msock_derp_down why, const char *text) {
  static const char *const words[] = {"", "cannot connect", "TLS failed", "closed by server",
                                      "connection broke"};
  msock_derp_link *l = reported(p, id);
  msock_derp_event ev;
  const char *error = text != NULL ? text : words[why];
  if (l == NULL) {
    return;
  }
  if (l->client == NULL && why == MSOCK_DERP_DOWN_TCP) {
    msock_derp_link_next_node(p, l, now_us, error);
    return;
  }
  if (l->client != NULL && why == MSOCK_DERP_DOWN_EOF) {
    msock_derp_client_eof(l->client); /* knows whether that is a refusal */
    if (msock_derp_client_next_event(l->client, &ev)) {
      msock_derp_link_client_closed(p, l, now_us, &ev, false);
      return;
    }
  }
  msock_derp_link_lost(p, l, now_us, error, false);
}

msock_err msock_derp_pool_conn_feed(msock_derp_pool *p, uint64_t now_us, msock_derp_conn_id id,
                                    const uint8_t *bytes, size_t len) {
  msock_derp_link *l = reported(p, id);
  if (l == NULL || l->client == NULL) {
    return MSOCK_ERR_CLOSED;
  }
  if (p->fed != NULL && p->fed != l) {
    return MSOCK_ERR_AGAIN;
  }
  const msock_err err = msock_derp_client_feed(l->client, now_us, bytes, len);
  if (err == MSOCK_OK) {
    l->last_frame_us = now_us;
    p->fed = l;
  }
  return err;
}

void msock_derp_pool_conn_tx_peek(msock_derp_pool *p, uint64_t now_us, msock_derp_conn_id id,
                                  const uint8_t **bytes, size_t *len) {
  msock_derp_link *l = msock_derp_link_by_conn(p, id);
  *bytes = NULL;
  *len = 0;
  if (l != NULL && l->client != NULL) {
    msock_derp_client_tx_peek(l->client, now_us, bytes, len);
    l->write_told = *len > 0;
  }
}

void msock_derp_pool_conn_tx_consume(msock_derp_pool *p, msock_derp_conn_id id, size_t n) {
  msock_derp_link *l = msock_derp_link_by_conn(p, id);
  if (l != NULL && l->client != NULL) {
    msock_derp_client_tx_consume(l->client, n);
  }
}

/* ---- events ---- */

static bool home_event(msock_derp_pool *p, msock_derp_pool_event *out) {
  const msock_derp_link *l = p->home != 0 ? msock_derp_link_find(p, p->home) : NULL;
  const bool connected = l != NULL && l->state == MSOCK_DERP_REGION_OPEN;
  const bool restarting = l != NULL && l->restart_until_us != 0;
  if (p->told_home == p->home && p->told_connected == connected &&
      p->told_restarting == restarting) {
    return false;
  }
  p->told_home = p->home;
  p->told_connected = connected;
  p->told_restarting = restarting;
  *out = (msock_derp_pool_event){.kind = MSOCK_DERP_POOL_HOME,
                                 .region = p->home,
                                 .u.home = {.connected = connected, .restarting = restarting}};
  return true;
}

static bool link_event(msock_derp_link *l, msock_derp_pool_event *out) {
  if (l->pending & MSOCK_DERP_PENDING_DOWN) { /* first: a later UP belongs to the next connection */
    l->pending &= ~MSOCK_DERP_PENDING_DOWN;
    *out = (msock_derp_pool_event){.kind = MSOCK_DERP_POOL_REGION_DOWN,
                                   .u.down = {.was_up = l->down_was_up,
                                              .restarting = l->restart_until_us != 0,
                                              .text = l->last_error}};
  } else if (l->pending & MSOCK_DERP_PENDING_UP) {
    l->pending &= ~MSOCK_DERP_PENDING_UP;
    *out = (msock_derp_pool_event){.kind = MSOCK_DERP_POOL_REGION_UP};
  } else if (l->pending & MSOCK_DERP_PENDING_HEALTH) {
    l->pending &= ~MSOCK_DERP_PENDING_HEALTH;
    *out = (msock_derp_pool_event){.kind = MSOCK_DERP_POOL_HEALTH, .u.health = {l->health}};
  } else {
    return false;
  }
  out->region = l->region;
  return true;
}

/* Events that state changes left behind. */
static bool state_event(msock_derp_pool *p, msock_derp_pool_event *out) {
  if (p->dirty) {
    for (size_t i = 0; i < p->n_links; i++) {
      if (p->links[i]->pending != 0 && link_event(p->links[i], out)) {
        return true;
      }
    }
    if (home_event(p, out)) {
      return true;
    }
    p->dirty = false;
  }
  if (p->reprobe) {
    p->reprobe = false;
    *out = (msock_derp_pool_event){.kind = MSOCK_DERP_POOL_REPROBE};
    return true;
  }
  return false;
}

static void learn(msock_derp_pool *p, const msock_derp_link *l, const msock_node_key *src) {
  if (msock_derp_routes_get(&p->routes, src) != l->conn) {
    msock_derp_routes_set(&p->routes, src, l->conn); /* out of memory: the home is used */
  }
}

/* What one client event means to the pool; true when it is also one for the caller. */
static bool client_event(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us,
                         const msock_derp_event *ev, msock_derp_pool_event *out) {
  *out = (msock_derp_pool_event){.region = l->region};
  switch (ev->kind) {
  case MSOCK_DERP_EVENT_CONNECTED:
    msock_derp_link_opened(p, l, now_us);
    return false;
  case MSOCK_DERP_EVENT_PACKET:
    learn(p, l, &ev->u.packet.src);
    out->kind = MSOCK_DERP_POOL_PACKET;
    out->u.packet.src = ev->u.packet.src;
    out->u.packet.data = ev->u.packet.data;
    out->u.packet.len = ev->u.packet.len;
    return true;
  case MSOCK_DERP_EVENT_PEER_GONE:
    msock_derp_routes_remove(&p->routes, &ev->u.peer_gone.peer, l->conn);
    out->kind = MSOCK_DERP_POOL_PEER_GONE;
    out->u.peer_gone.peer = ev->u.peer_gone.peer;
    out->u.peer_gone.reason = ev->u.peer_gone.reason;
    return true;
  case MSOCK_DERP_EVENT_HEALTH:
    msock_derp_link_set_health(p, l, ev->u.health.text, ev->u.health.len);
    return false;
  case MSOCK_DERP_EVENT_RESTARTING:
    msock_derp_link_restarting(l, now_us, ev->u.restarting.reconnect_in_ms,
                               ev->u.restarting.try_for_ms);
    out->kind = MSOCK_DERP_POOL_RESTARTING;
    out->u.restarting.reconnect_in_ms = ev->u.restarting.reconnect_in_ms;
    out->u.restarting.try_for_ms = ev->u.restarting.try_for_ms;
    return true;
  case MSOCK_DERP_EVENT_PONG:
    out->kind = MSOCK_DERP_POOL_PONG;
    out->u.pong_rtt_us = ev->u.pong_rtt_us;
    return true;
  case MSOCK_DERP_EVENT_CLOSED:
    msock_derp_link_client_closed(p, l, now_us, ev, true);
    return false;
  }
  return false;
}

bool msock_derp_pool_next_event(msock_derp_pool *p, uint64_t now_us, msock_derp_pool_event *out) {
  msock_derp_event ev;
  for (;;) {
    if (state_event(p, out)) {
      return true;
    }
    msock_derp_link *l = p->fed;
    if (l == NULL) {
      return false;
    }
    if (!msock_derp_client_next_event(l->client, &ev)) {
      p->fed = NULL;
      return false;
    }
    if (client_event(p, l, now_us, &ev, out)) {
      return true;
    }
  }
}

/* ---- sending ---- */

/* derp.md 3.3, in that order. */
static msock_derp_link *choose(msock_derp_pool *p, const msock_node_key *dst,
                               msock_region_id dst_home) {
  msock_derp_link *home = dst_home != 0 ? msock_derp_link_find(p, dst_home) : NULL;
  if (home != NULL && msock_derp_link_is_usable(home)) {
    return home;
  }
  msock_derp_link *learned = msock_derp_link_by_conn(p, msock_derp_routes_get(&p->routes, dst));
  if (learned != NULL && msock_derp_link_is_usable(learned)) {
    p->counters.tx_by_route++;
    return learned;
  }
  return dst_home != 0 && p->has_key ? msock_derp_link_get(p, dst_home) : NULL;
}

msock_err msock_derp_pool_send(msock_derp_pool *p, uint64_t now_us, const msock_node_key *dst,
                               msock_region_id dst_home, const uint8_t *pkt, size_t len) {
  if (len > MSOCK_DERP_PACKET_MAX) {
    return MSOCK_ERR_INVALID;
  }
  msock_derp_link *l = choose(p, dst, dst_home);
  if (l == NULL) {
    p->counters.tx_no_route++;
    return MSOCK_ERR_UNKNOWN;
  }
  l->last_write_us = now_us;
  if (!msock_derp_link_is_home(p, l)) {
    arm_sweep(p, now_us);
  }
  if (msock_derp_link_is_usable(l)) {
    return msock_derp_client_send(l->client, now_us, dst, pkt, len);
  }
  const msock_err err = msock_derp_queue_push(&l->queue, dst, pkt, len);
  if (l->state == MSOCK_DERP_REGION_IDLE) {
    msock_derp_link_dial(p, l, now_us);
  }
  return err;
}

/* ---- network and time ---- */

void msock_derp_pool_on_rebind(msock_derp_pool *p, uint64_t now_us,
                               bool (*is_gone)(void *ctx, const msock_ip *local), void *ctx) {
  for (size_t i = 0; i < p->n_links; i++) {
    msock_derp_link *l = p->links[i];
    const bool gone = l->client != NULL && l->local.family != 0 && is_gone(ctx, &l->local);
    msock_derp_link_rebind(p, l, now_us, gone);
  }
}

msock_err msock_derp_pool_ping(msock_derp_pool *p, uint64_t now_us, msock_region_id region) {
  msock_derp_link *l = msock_derp_link_find(p, region);
  if (l == NULL || l->client == NULL) {
    return MSOCK_ERR_CLOSED;
  }
  return msock_derp_client_ping(l->client, now_us, MSOCK_DERP_PING_LIMIT_US);
}

/* Ends regions that are not home and were not written to for a minute. */
static void sweep(msock_derp_pool *p, uint64_t now_us) {
  bool more = false;
  for (size_t i = 0; i < p->n_links; i++) {
    msock_derp_link *l = p->links[i];
    if (msock_derp_link_is_home(p, l) || l->state == MSOCK_DERP_REGION_IDLE) {
      continue;
    }
    if (now_us - l->last_write_us >= MSOCK_DERP_IDLE_US) {
      p->counters.idle_closes++;
      msock_derp_link_stop(p, l, now_us, "not used", false);
    } else {
      more = true;
    }
  }
  p->sweep_at_us = more ? now_us + MSOCK_DERP_SWEEP_US : MSOCK_NEVER;
}

uint64_t msock_derp_pool_next_expiry(const msock_derp_pool *p) {
  uint64_t at = p->sweep_at_us;
  for (size_t i = 0; i < p->n_links; i++) {
    const uint64_t link_at = msock_derp_link_next_expiry(p->links[i]);
    at = link_at < at ? link_at : at;
  }
  return at;
}

void msock_derp_pool_on_expiry(msock_derp_pool *p, uint64_t now_us) {
  for (size_t i = 0; i < p->n_links; i++) {
    msock_derp_link_on_expiry(p, p->links[i], now_us);
  }
  if (now_us >= p->sweep_at_us) {
    sweep(p, now_us);
  }
}

/* ---- status ---- */

static void fill_status(const msock_derp_pool *p, const msock_derp_link *l,
                        msock_derp_conn_status *out) {
  *out = (msock_derp_conn_status){
      .region = l->region,
      .state = l->state,
      .is_home = msock_derp_link_is_home(p, l),
      .conn = l->conn,
      .node_index = l->node == SIZE_MAX ? 0 : l->node,
      .since_us = l->since_us,
      .last_write_us = l->last_write_us,
      .last_frame_us = l->last_frame_us,
      .failures = l->backoff.failures,
      .drops_data = l->queue.dropped_data,
      .drops_disco = l->queue.dropped_disco,
      .queued = l->queue.data.n + l->queue.disco.n,
      .counters = msock_derp_link_counters(l),
  };
  memcpy(out->last_error, l->last_error, sizeof out->last_error);
  memcpy(out->health, l->health, sizeof out->health);
}

bool msock_derp_pool_status(const msock_derp_pool *p, size_t index, msock_derp_conn_status *out) {
  if (index >= p->n_links) {
    return false;
  }
  fill_status(p, p->links[index], out);
  return true;
}

bool msock_derp_pool_conn_status(const msock_derp_pool *p, msock_region_id region,
                                 msock_derp_conn_status *out) {
  const msock_derp_link *l = msock_derp_link_find(p, region);
  if (l == NULL) {
    return false;
  }
  fill_status(p, l, out);
  return true;
}

msock_derp_pool_counters msock_derp_pool_get_counters(const msock_derp_pool *p) {
  msock_derp_pool_counters c = p->counters;
  c.routes = p->routes.n;
  c.routes_evicted = p->routes.evicted;
  return c;
}
