/* The ring of events of a peer, and the facts that msock_why_explain makes sentences of. */
#include <stdlib.h>

#include "magicsock/engine_internal.h"

#define EVENTS_FIRST 1u /* and doubled up to MSOCK_WHY_EVENTS_MAX, a power of two */

/* Room for one more event. NULL: no memory, and the event is left out: the path works without its
 * story. */
static msock_why_ring *room(msock_path_peer *p) {
  const msock_why_ring *old = p->why;
  if (old != NULL && (old->n < old->cap || old->cap == MSOCK_WHY_EVENTS_MAX)) {
    return p->why;
  }
  const uint32_t n = old != NULL ? old->n : 0, cap = old != NULL ? 2 * old->cap : EVENTS_FIRST;
  msock_why_ring *r = realloc(p->why, sizeof *r + cap * sizeof *r->at);
  if (r != NULL) {
    r->n = r->next = n;
    r->cap = cap;
    p->why = r;
  }
  return r;
}

void msock_why_note(const msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_why_kind kind,
                    const msock_addr *addr, uint64_t value) {
  msock_why_ring *r = msock_path_eager(e, p, now_us) ? room(p) : NULL;
  if (r == NULL) {
    return;
  }
  msock_why_event *ev = &r->at[r->next];
  *ev = (msock_why_event){.at_us = now_us,
                          .kind = (uint8_t)kind,
                          .value = value < UINT32_MAX ? (uint32_t)value : UINT32_MAX};
  if (addr != NULL) {
    ev->addr = *addr;
  }
  r->next = (r->next + 1) % r->cap;
  r->n += r->n < r->cap;
}

/* One public IPv4 address with several ports: the peer's NAT gives each destination another. */
static bool looks_hard(const msock_candidates *t) {
  for (uint16_t i = 0; i < t->n; i++) {
    for (uint16_t k = (uint16_t)(i + 1); k < t->n; k++) {
      const msock_addr *a = &t->at[i].addr, *b = &t->at[k].addr;
      if (a->ip.family == 4 && msock_eligible_public(a) && msock_ip_equal(&a->ip, &b->ip)) {
        return true;
      }
    }
  }
  return false;
}

static bool only_private(const msock_candidates *t) {
  for (uint16_t i = 0; i < t->n; i++) {
    if (msock_eligible_public(&t->at[i].addr)) {
      return false;
    }
  }
  return t->n > 0;
}

static void copy_events(const msock_path_peer *p, msock_why *w) {
  if (p->why == NULL) {
    return;
  }
  w->n_events = p->why->n;
  const uint32_t first = (p->why->next + p->why->cap - p->why->n) % p->why->cap;
  for (uint32_t i = 0; i < p->why->n; i++) {
    w->events[i] = p->why->at[(first + i) % p->why->cap];
  }
}

bool msock_engine_why(const msock_engine *e, uint32_t id, uint64_t now_us, msock_why *out) {
  const msock_path_peer *p = msock_peers_get(&e->peers, id);
  msock_route route;

  if (p == NULL) {
    return false;
  }
  msock_engine_route(e, id, now_us, &route);
  *out = (msock_why){
      .now_us = now_us,
      .direct = route.via == MSOCK_VIA_DIRECT,
      .has_relay = route.via == MSOCK_VIA_DERP,
      .inert = e->port == 0,
      .direct_off = e->cfg.direct_off,
      .no_disco_key = p->disco == NULL,
      .barred = now_us < p->barred_until_us && !p->lossy,
      .lossy = now_us < p->barred_until_us && p->lossy,
      .self_reflexive = msock_self_has_reflexive(&e->self, &e->filter),
      .self_hard = msock_self_varies(&e->self),
      .peer_hard = looks_hard(&p->candidates),
      .peer_private = only_private(&p->candidates),
      .active = msock_path_active(p, now_us),
      .ping_heard = p->ping_heard,
      .cmm_heard = p->cmm_heard,
      .addr = p->best,
      .region = msock_engine_region(e, p),
      .pong_us = MSOCK_NEVER,
      .n_candidates = p->candidates.n,
      .n_filtered = p->n_filtered,
      .loss_permille = msock_path_loss(p),
      .barred_until_us = p->barred_until_us,
  };
  for (uint16_t i = 0; i < p->candidates.n; i++) {
    const msock_candidate *c = &p->candidates.at[i];
    out->n_pinged += msock_since(now_us, c->ping_us) < MSOCK_ENGINE_UPGRADE_US;
    if (p->has_best && msock_addr_equal(&c->addr, &p->best)) {
      out->rtt_us = c->rtt_us;
      out->pong_us = c->pong_us;
    }
  }
  copy_events(p, out);
  return true;
}
