/* The ring of events of a peer, and the facts that msock_why_explain makes sentences of. */
#include <stdlib.h>

#include "magicsock/engine_internal.h"

void msock_why_note(msock_path_peer *p, uint64_t now_us, msock_why_kind kind,
                    const msock_addr *addr, uint32_t value) {
  if (p->why == NULL && (p->why = calloc(1, sizeof *p->why)) == NULL) {
    return; /* the path works without its story */
  }
  msock_why_event *ev = &p->why->at[p->why->next];
  *ev = (msock_why_event){.at_us = now_us, .kind = (uint8_t)kind, .value = value};
  if (addr != NULL) {
    ev->addr = *addr;
  }
  p->why->next = (p->why->next + 1) % MSOCK_WHY_EVENTS_MAX;
  p->why->n += p->why->n < MSOCK_WHY_EVENTS_MAX;
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

static void copy_events(const msock_path_peer *p, msock_why *w) {
  if (p->why == NULL) {
    return;
  }
  w->n_events = p->why->n;
  const uint32_t first = (p->why->next + MSOCK_WHY_EVENTS_MAX - p->why->n) % MSOCK_WHY_EVENTS_MAX;
  for (uint32_t i = 0; i < p->why->n; i++) {
    w->events[i] = p->why->at[(first + i) % MSOCK_WHY_EVENTS_MAX];
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
      .active = msock_path_active(p, now_us),
      .ping_heard = p->ping_heard_us != MSOCK_NEVER,
      .cmm_heard = p->cmm_heard_us != MSOCK_NEVER,
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
