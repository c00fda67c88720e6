#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"
#include "magicsock/engine_internal.h"

/* --- life --- */

msock_engine *msock_engine_new(const msock_engine_config *cfg, const msock_env *env,
                               const msock_disco_private *disco, uint64_t now_us) {
  msock_engine *e = calloc(1, sizeof *e);
  uint64_t seed;

  if (e == NULL) {
    return NULL;
  }
  e->cfg = *cfg;
  e->env = *env;
  msock_disco_identity_set(&e->me, disco);
  e->filter =
      (msock_eligible){.lan = !cfg->lan_off, .ipv6 = cfg->ipv6, .loopback = cfg->allow_loopback};
  env->random(env->ctx, &seed, sizeof seed);
  msock_peers_init(&e->peers, seed);
  e->sources.seed = seed;
  msock_self_init(&e->self);
  e->tick_us = now_us + MSOCK_ENGINE_TICK_US;
  e->stun_us = e->alive_us = e->stun_asked_us = e->rebind_asked_us = MSOCK_NEVER;
  return e;
}

void msock_engine_free(msock_engine *e) {
  if (e == NULL) {
    return;
  }
  msock_peers_free(&e->peers);
  msock_path_heap_free(&e->heap);
  msock_sources_free(&e->sources);
  msock_disco_identity_wipe(&e->me);
  free(e);
}

msock_disco_key msock_engine_disco_key(const msock_engine *e) {
  return e->me.key;
}

void msock_engine_disco_private(const msock_engine *e, msock_disco_private *out) {
  *out = e->me.secret;
}

msock_err msock_engine_set_overlay(msock_engine *e, const msock_prefix *p, size_t n) {
  if (n > MSOCK_ENGINE_OVERLAY_MAX) {
    return MSOCK_ERR_NOMEM;
  }
  memcpy(e->filter.overlay, p, n * sizeof *p);
  e->filter.n_overlay = n;
  return MSOCK_OK;
}

/* What was in flight belongs to the old socket or key. */
static void restart_all(msock_engine *e, uint64_t now_us, msock_why_kind reason) {
  e->n_sends = 0;
  for (uint32_t id = 0; id < e->peers.end; id++) {
    msock_path_peer *p = msock_peers_get(&e->peers, id);
    if (p != NULL) {
      msock_path_reset(e, now_us, p, reason);
    }
  }
  for (uint32_t id = 0; id < e->peers.end; id++) {
    msock_path_peer *p = msock_peers_get(&e->peers, id);
    if (p == NULL) {
      continue;
    }
    if (msock_path_eager(e, p, now_us)) {
      msock_path_wake(e, now_us, p);
    } else {
      p->cmm_next_us = now_us + 1 + msock_env_uniform(&e->env, MSOCK_ENGINE_CMM_EAGER_US);
    }
    msock_engine_rearm(e, p);
  }
}

void msock_engine_set_disco(msock_engine *e, uint64_t now_us, const msock_disco_private *disco) {
  msock_peers_forget_shared(&e->peers);
  msock_disco_identity_wipe(&e->me);
  msock_disco_identity_set(&e->me, disco);
  msock_engine_ask_stun(e, now_us, 0);
  restart_all(e, now_us, MSOCK_WHY_KEY_CHANGED);
}

void msock_engine_on_socket(msock_engine *e, uint64_t now_us, uint16_t port) {
  if (port == 0 && e->port == 0) {
    return;
  }
  e->port = port;
  e->rebinds += port != 0;
  e->want_rebind = false;
  msock_self_forget_reflexive(&e->self);
  e->stun_us = MSOCK_NEVER;
  if (port != 0) {
    msock_engine_ask_stun(e, now_us, 0);
    if (e->self.publish_us == MSOCK_NEVER) { /* the answer is worth waiting for */
      e->self.publish_us = now_us + MSOCK_ENGINE_REBIND_HOLD_US;
    }
  }
  restart_all(e, now_us, MSOCK_WHY_REBOUND);
}

bool msock_engine_transport_get(const msock_engine *e, msock_engine_transport *out) {
  if (!msock_engine_live(e)) {
    return false;
  }
  *out = (msock_engine_transport){.id = 1, .rebinds = e->rebinds, .port = e->port};
  return true;
}

/* --- own addresses --- */

uint16_t msock_engine_guess_port(const msock_engine *e) {
  return e->cfg.fixed_port ? e->port : 0;
}

void msock_engine_set_local(msock_engine *e, uint64_t now_us, const msock_endpoint *ep, size_t n) {
  msock_self_set_local(&e->self, ep, n);
  msock_self_review(&e->self, now_us, &e->filter, msock_engine_guess_port(e));
}

void msock_engine_ask_stun(msock_engine *e, uint64_t now_us, uint64_t gap_us) {
  if (!msock_engine_live(e) || msock_since(now_us, e->stun_asked_us) < gap_us) {
    return;
  }
  e->want_stun = true;
  e->stun_asked_us = now_us;
  e->stun_us = now_us + MSOCK_ENGINE_STUN_US;
}

void msock_engine_on_stun_servers(msock_engine *e, uint64_t now_us) {
  msock_engine_ask_stun(e, now_us, 0);
}

void msock_engine_on_reflexive(msock_engine *e, uint64_t now_us, const msock_addr *server,
                               const msock_addr *mapped) {
  const msock_addr addr = {.ip = msock_ip_unmap(mapped->ip), .port = mapped->port};
  if (!msock_engine_live(e) || addr.ip.family == 0 || addr.port == 0) {
    return;
  }
  const bool news = msock_self_reflexive(&e->self, now_us, server, &addr);
  msock_self_review(&e->self, now_us, &e->filter, msock_engine_guess_port(e));
  msock_cmm_on_stun(e, now_us, news);
}

void msock_engine_set_home(msock_engine *e, msock_region_id region) {
  e->home = region;
}

bool msock_engine_mapping_varies(const msock_engine *e) {
  return msock_self_varies(&e->self);
}

size_t msock_engine_self_endpoints(const msock_engine *e,
                                   msock_endpoint out[static MSOCK_ENGINE_SELF_MAX]) {
  memcpy(out, e->self.published, e->self.n_published * sizeof out[0]);
  return e->self.n_published;
}

/* --- data --- */

msock_region_id msock_engine_region(const msock_engine *e, const msock_path_peer *p) {
  return p->home != 0 ? p->home : p->heard != 0 ? p->heard : e->home;
}

void msock_engine_route(const msock_engine *e, uint32_t id, uint64_t now_us, msock_route *out) {
  const msock_path_peer *p = msock_peers_get(&e->peers, id);
  *out = (msock_route){0};
  if (p == NULL) {
    return;
  }
  if (msock_path_direct(p, now_us)) {
    out->via = MSOCK_VIA_DIRECT;
    out->addr = p->best;
    return;
  }
  out->region = msock_engine_region(e, p);
  out->via = out->region != 0 ? MSOCK_VIA_DERP : MSOCK_VIA_NONE;
}

void msock_engine_on_data_sent(msock_engine *e, uint64_t now_us, uint32_t id,
                               const msock_addr *addr) {
  msock_path_peer *p = msock_peers_get(&e->peers, id);
  if (p == NULL) {
    return;
  }
  const bool rested = !msock_path_active(p, now_us);
  p->sent_us = now_us;
  if (addr != NULL && p->unanswered_us == MSOCK_NEVER) {
    p->unanswered_us = now_us;
    if (now_us + MSOCK_ENGINE_UNANSWERED_US < e->alive_us) {
      e->alive_us = now_us + MSOCK_ENGINE_UNANSWERED_US;
    }
  }
  if (rested && !msock_path_direct(p, now_us)) {
    msock_cmm_news(p, now_us);
    msock_path_wake(e, now_us, p);
  }
}

void msock_engine_on_data_received(msock_engine *e, uint64_t now_us, uint32_t id,
                                   const msock_addr *addr, msock_region_id region) {
  msock_path_peer *p = msock_peers_get(&e->peers, id);
  if (p == NULL) {
    return;
  }
  if (addr != NULL) {
    msock_path_heard(p, now_us, addr);
  } else if (region != 0) {
    p->heard = region;
  }
}

void msock_engine_on_data_stalled(msock_engine *e, uint64_t now_us, uint32_t id) {
  msock_path_peer *p = msock_peers_get(&e->peers, id);
  if (p != NULL) {
    msock_path_stalled(e, now_us, p);
  }
}

void msock_engine_on_data_session(msock_engine *e, uint32_t id) {
  msock_path_peer *p = msock_peers_get(&e->peers, id);
  if (p != NULL) {
    p->stall_due_us = MSOCK_NEVER;
  }
}

void msock_engine_on_derp_up(msock_engine *e, uint64_t now_us, msock_region_id region,
                             const msock_node_key *peer) {
  for (uint32_t id = 0; id < e->peers.end; id++) {
    msock_path_peer *p = msock_peers_get(&e->peers, id);
    const bool meant = p != NULL && (peer != NULL ? msock_node_key_equal(&p->node, peer)
                                                  : msock_engine_region(e, p) == region);
    if (meant && msock_path_active(p, now_us) && !msock_path_direct(p, now_us) &&
        msock_since(now_us, p->cmm_sent_us) >= MSOCK_ENGINE_CMM_GAP_US) {
      msock_cmm_call(e, now_us, p);
    }
  }
}

static void ask_rebind(msock_engine *e, uint64_t now_us) {
  if (msock_since(now_us, e->rebind_asked_us) >= MSOCK_ENGINE_REBIND_GAP_US) {
    e->rebind_asked_us = now_us;
    e->want_rebind = true;
  }
}

void msock_engine_on_send_error(msock_engine *e, uint64_t now_us, uint32_t id,
                                const msock_addr *addr, msock_send_error error) {
  msock_path_peer *p = msock_peers_get(&e->peers, id);
  msock_candidate *c = p != NULL ? msock_candidates_find(&p->candidates, addr) : NULL;

  if (error == MSOCK_SEND_REFUSED || error == MSOCK_SEND_BROKEN) {
    e->counters.tx_refused += error == MSOCK_SEND_REFUSED;
    if (error == MSOCK_SEND_BROKEN || !e->cfg.no_rebind_on_refusal) {
      ask_rebind(e, now_us);
    }
    return;
  }
  if (c == NULL) {
    return;
  }
  msock_candidate_forget(c);
  c->muted = error == MSOCK_SEND_NO_ROUTE;
  if (p->has_best && msock_addr_equal(&p->best, addr)) {
    msock_path_leave(e, now_us, p, MSOCK_WHY_UNREACHABLE, 0);
  }
}

/* --- pings for the user --- */

msock_err msock_engine_ping(msock_engine *e, uint64_t now_us, uint32_t id, uint64_t tag) {
  msock_path_peer *p = msock_peers_get(&e->peers, id);
  msock_user_ping *u = NULL;
  uint32_t sent = 0;

  if (p == NULL || p->disco == NULL) {
    return MSOCK_ERR_UNKNOWN;
  }
  for (size_t i = 0; i < MSOCK_ENGINE_USER_PINGS_MAX && u == NULL; i++) {
    u = e->user[i].serial == 0 ? &e->user[i] : NULL;
  }
  if (u == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  const uint64_t serial = ++e->user_serial;
  for (uint16_t i = 0; i < p->candidates.n; i++) {
    msock_candidate *c = &p->candidates.at[i];
    if (!msock_path_direct(p, now_us) || msock_addr_equal(&c->addr, &p->best)) {
      sent += msock_path_ping(e, now_us, p, c, 0, MSOCK_PING_USER, serial);
    }
  }
  if (!msock_path_direct(p, now_us)) {
    sent += msock_path_ping(e, now_us, p, NULL, msock_engine_region(e, p), MSOCK_PING_USER, serial);
  }
  if (sent == 0) {
    return MSOCK_ERR_DENIED;
  }
  *u = (msock_user_ping){
      .serial = serial, .tag = tag, .peer = id, .deadline_us = now_us + MSOCK_ENGINE_PING_LIFE_US};
  return MSOCK_OK;
}

void msock_engine_user_pong(msock_engine *e, uint64_t now_us, const msock_ping *ping,
                            msock_region_id region) {
  for (size_t i = 0; i < MSOCK_ENGINE_USER_PINGS_MAX && ping->user != 0; i++) {
    msock_user_ping *u = &e->user[i];
    if (u->serial == ping->user && !u->done) {
      u->done = true;
      u->derp = ping->derp;
      u->addr = ping->addr;
      u->region = region;
      u->rtt_us = now_us - ping->sent_us;
    }
  }
}

/* --- time --- */

void msock_engine_rearm(msock_engine *e, msock_path_peer *p) {
  msock_path_heap_set(&e->heap, p, msock_path_due(p));
}

/* Those with traffic first: the node's budget may not reach for all. */
static void tick(msock_engine *e, uint64_t now_us) {
  e->tick_us = now_us + MSOCK_ENGINE_TICK_US; /* a late tick is not made up for */
  msock_self_expire(&e->self, now_us);
  msock_self_review(&e->self, now_us, &e->filter, msock_engine_guess_port(e));
  for (int idle = 0; idle <= 1; idle++) {
    for (uint32_t id = 0; id < e->peers.end; id++) {
      msock_path_peer *p = msock_peers_get(&e->peers, id);
      if (p != NULL && msock_path_active(p, now_us) == !idle) {
        msock_path_tick(e, now_us, p);
      }
    }
  }
}

/* Data went out and nothing came back: is the path still there? */
static void look_alive(msock_engine *e, uint64_t now_us) {
  e->alive_us = MSOCK_NEVER;
  for (uint32_t id = 0; id < e->peers.end; id++) {
    msock_path_peer *p = msock_peers_get(&e->peers, id);
    if (p == NULL || p->unanswered_us == MSOCK_NEVER) {
      continue;
    }
    if (msock_since(now_us, p->unanswered_us) >= MSOCK_ENGINE_UNANSWERED_US) {
      p->unanswered_us = MSOCK_NEVER; /* the next packet starts the wait anew */
      if (!e->cfg.fast_failover_off) {
        msock_path_probe(e, now_us, p);
      }
    } else if (p->unanswered_us + MSOCK_ENGINE_UNANSWERED_US < e->alive_us) {
      e->alive_us = p->unanswered_us + MSOCK_ENGINE_UNANSWERED_US;
    }
  }
}

static void expire_user_pings(msock_engine *e, uint64_t now_us) {
  for (size_t i = 0; i < MSOCK_ENGINE_USER_PINGS_MAX; i++) {
    msock_user_ping *u = &e->user[i];
    if (u->serial != 0 && !u->done && u->deadline_us <= now_us) {
      u->done = u->timed_out = true;
    }
  }
}

void msock_engine_on_expiry(msock_engine *e, uint64_t now_us) {
  expire_user_pings(e, now_us);
  for (msock_path_peer *p = msock_path_heap_top(&e->heap); p != NULL && p->due_us <= now_us;
       p = msock_path_heap_top(&e->heap)) {
    msock_path_expire(e, now_us, p);
    msock_engine_rearm(e, p);
  }
  if (e->alive_us <= now_us) {
    look_alive(e, now_us);
  }
  if (e->tick_us <= now_us) {
    tick(e, now_us);
  }
  if (e->stun_us <= now_us) {
    msock_engine_ask_stun(e, now_us, 0);
  }
  if (e->self.publish_us <= now_us) {
    msock_self_publish(&e->self, now_us, &e->filter, msock_engine_guess_port(e));
  }
}

uint64_t msock_engine_next_expiry(const msock_engine *e) {
  const msock_path_peer *p = msock_path_heap_top(&e->heap);
  uint64_t due = e->tick_us;
  const uint64_t others[] = {p != NULL ? p->due_us : MSOCK_NEVER, e->alive_us, e->stun_us,
                             e->self.publish_us};

  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
    due = others[i] < due ? others[i] : due;
  }
  for (size_t i = 0; i < MSOCK_ENGINE_USER_PINGS_MAX; i++) {
    const msock_user_ping *u = &e->user[i];
    if (u->serial != 0 && !u->done && u->deadline_us < due) {
      due = u->deadline_us;
    }
  }
  return due;
}

/* --- output --- */

bool msock_engine_send(msock_engine *e, const msock_send *s) {
  if (e->n_sends == MSOCK_ENGINE_SENDS_MAX) {
    e->counters.tx_queue_full++;
    return false;
  }
  e->sends[(e->send_head + e->n_sends++) % MSOCK_ENGINE_SENDS_MAX] = *s;
  return true;
}

void msock_engine_tell(msock_engine *e, msock_path_peer *p, unsigned what) {
  if (p->tell == 0) { /* to the end of the ring */
    msock_path_peer *first = e->tell != NULL ? e->tell : p;
    p->tell_next = first;
    p->tell_prev = first == p ? p : first->tell_prev;
    p->tell_prev->tell_next = p;
    first->tell_prev = p;
    e->tell = first;
  }
  p->tell = (uint8_t)(p->tell | what);
}

void msock_engine_untell(msock_engine *e, msock_path_peer *p) {
  if (p->tell == 0) {
    return;
  }
  p->tell = 0;
  e->tell = p->tell_next != p ? (e->tell == p ? p->tell_next : e->tell) : NULL;
  p->tell_prev->tell_next = p->tell_next;
  p->tell_next->tell_prev = p->tell_prev;
}

static void tell_peer(msock_engine *e, msock_engine_output *out) {
  msock_path_peer *p = e->tell;

  out->peer = p->id;
  out->node = p->node;
  if ((p->tell & MSOCK_TELL_PATH) != 0) {
    const msock_candidate *c = msock_candidates_find(&p->candidates, &p->told_addr);
    out->kind = MSOCK_ENGINE_PATH_CHANGED;
    out->via = p->told_direct ? MSOCK_VIA_DIRECT : MSOCK_VIA_DERP;
    out->addr = p->told_addr;
    out->rtt_us = c != NULL ? c->rtt_us : 0;
    out->reason = (msock_why_kind)p->told_reason;
    if (!p->told_direct) {
      out->region = msock_engine_region(e, p);
      out->via = out->region != 0 ? MSOCK_VIA_DERP : MSOCK_VIA_NONE;
    }
    if (p->tell == MSOCK_TELL_PATH) {
      msock_engine_untell(e, p);
    } else {
      p->tell = (uint8_t)(p->tell & ~MSOCK_TELL_PATH);
    }
    return;
  }
  out->kind = MSOCK_ENGINE_KICK_HANDSHAKE;
  msock_engine_untell(e, p);
}

static bool tell_self(msock_engine *e, msock_engine_output *out) {
  if (e->self.publish_now) {
    e->self.publish_now = false;
    out->kind = MSOCK_ENGINE_PUBLISH;
    out->n_endpoints = msock_engine_self_endpoints(e, out->endpoints);
  } else if (e->want_rebind) {
    e->want_rebind = false;
    out->kind = MSOCK_ENGINE_WANT_REBIND;
  } else if (e->want_stun) {
    e->want_stun = false;
    out->kind = MSOCK_ENGINE_WANT_STUN;
  } else {
    return false;
  }
  return true;
}

static bool tell_user(msock_engine *e, msock_engine_output *out) {
  for (size_t i = 0; i < MSOCK_ENGINE_USER_PINGS_MAX; i++) {
    msock_user_ping *u = &e->user[i];
    if (u->serial == 0 || !u->done) {
      continue;
    }
    out->kind = MSOCK_ENGINE_PING_RESULT;
    out->peer = u->peer;
    out->tag = u->tag;
    out->timed_out = u->timed_out;
    out->via = u->timed_out ? MSOCK_VIA_NONE : u->derp ? MSOCK_VIA_DERP : MSOCK_VIA_DIRECT;
    out->addr = u->addr;
    out->region = u->region;
    out->rtt_us = u->rtt_us;
    *u = (msock_user_ping){0};
    return true;
  }
  return false;
}

/* The message of a datagram, unsealed. Length, or negative. */
static ptrdiff_t compose(const msock_engine *e, const msock_send *s, uint8_t *msg, size_t cap) {
  if (s->kind == MSOCK_SENDS_PING) {
    msock_disco_ping ping = {.has_node_key = true, .node_key = e->cfg.self};
    memcpy(ping.txid, s->txid, sizeof ping.txid);
    return msock_disco_encode_ping(&ping, msg, cap);
  }
  if (s->kind == MSOCK_SENDS_PONG) {
    msock_disco_pong pong = {.src = s->src};
    memcpy(pong.txid, s->txid, sizeof pong.txid);
    return msock_disco_encode_pong(&pong, msg, cap);
  }
  msock_disco_call_me_maybe call = {.n = (uint8_t)e->self.n_published};
  for (uint8_t i = 0; i < call.n; i++) {
    call.endpoints[i] = e->self.published[i].addr;
  }
  return call.n > 0 ? msock_disco_encode_call_me_maybe(&call, msg, cap) : MSOCK_ERR_INVALID;
}

/* Seals one datagram. False: its peer is gone meanwhile. */
static bool seal(msock_engine *e, const msock_send *s, msock_engine_output *out, uint8_t *buf,
                 size_t cap, size_t *len) {
  uint8_t msg[MSOCK_DISCO_MESSAGE_MAX];
  msock_path_peer *p = msock_peers_get(&e->peers, s->peer);

  if (p == NULL || p->serial != s->serial || p->disco == NULL || (!s->derp && e->port == 0)) {
    return false;
  }
  const msock_disco_shared *shared = msock_member_shared(p->disco, &e->me);
  const ptrdiff_t n = shared != NULL ? compose(e, s, msg, sizeof msg) : MSOCK_ERR_AUTH;
  const ptrdiff_t sealed =
      n > 0 ? msock_disco_seal(&e->me, shared, &e->env, msg, (size_t)n, buf, cap) : n;
  if (sealed < 0) {
    return false;
  }
  out->kind = s->derp ? MSOCK_ENGINE_SEND_DERP : MSOCK_ENGINE_SEND_UDP;
  out->peer = p->id;
  out->node = p->node;
  out->addr = s->addr;
  out->region = s->region;
  *len = (size_t)sealed;
  return true;
}

int msock_engine_next_output(msock_engine *e, uint64_t now_us, msock_engine_output *out,
                             uint8_t *buf, size_t cap, size_t *len) {
  (void)now_us;
  if (cap < MSOCK_ENGINE_PACKET_MAX) {
    return MSOCK_ERR_NOBUF;
  }
  *out = (msock_engine_output){.peer = MSOCK_ENGINE_PEER_NONE};
  *len = 0;
  if (e->tell != NULL) {
    tell_peer(e, out);
    return 1;
  }
  if (tell_self(e, out) || tell_user(e, out)) {
    return 1;
  }
  while (e->n_sends > 0) {
    const msock_send *s = &e->sends[e->send_head];
    e->send_head = (e->send_head + 1) % MSOCK_ENGINE_SENDS_MAX;
    e->n_sends--;
    if (seal(e, s, out, buf, cap, len)) {
      return 1;
    }
  }
  return 0;
}

/* --- questions --- */

uint32_t msock_engine_peer_find(const msock_engine *e, const msock_node_key *node) {
  const msock_path_peer *p = msock_peers_find(&e->peers, node);
  return p != NULL ? p->id : MSOCK_ENGINE_PEER_NONE;
}

size_t msock_engine_peers_of_disco(const msock_engine *e, const msock_disco_key *disco,
                                   uint32_t *ids, size_t cap) {
  const msock_disco_member *m = msock_peers_find_disco(&e->peers, disco);
  size_t n = 0;
  for (const msock_path_peer *p = m != NULL ? m->peers : NULL; p != NULL; p = p->next_same, n++) {
    if (n < cap) {
      ids[n] = p->id;
    }
  }
  return n;
}

bool msock_engine_peer_keys(const msock_engine *e, uint32_t id, msock_node_key *node,
                            msock_disco_key *disco) {
  const msock_path_peer *p = msock_peers_get(&e->peers, id);
  if (p == NULL) {
    return false;
  }
  *node = p->node;
  *disco = p->disco != NULL ? p->disco->key : (msock_disco_key){0};
  return true;
}

size_t msock_engine_peer_count(const msock_engine *e) {
  return e->peers.n;
}

size_t msock_engine_direct_peers(const msock_engine *e, uint64_t now_us, uint32_t *ids,
                                 size_t cap) {
  size_t n = 0;
  for (uint32_t id = 0; id < e->peers.end; id++) {
    const msock_path_peer *p = msock_peers_get(&e->peers, id);
    if (p != NULL && msock_path_direct(p, now_us)) {
      if (n < cap) {
        ids[n] = id;
      }
      n++;
    }
  }
  return n;
}

uint32_t msock_engine_peer_of_source(const msock_engine *e, const msock_addr *from) {
  const msock_addr addr = {.ip = msock_ip_unmap(from->ip), .port = from->port};
  return msock_sources_find(&e->sources, &addr);
}

size_t msock_engine_source_count(const msock_engine *e) {
  return e->sources.n;
}

size_t msock_engine_candidates(const msock_engine *e, uint32_t id, msock_engine_candidate *out,
                               size_t cap) {
  const msock_path_peer *p = msock_peers_get(&e->peers, id);
  const size_t n = p != NULL ? p->candidates.n : 0;

  for (size_t i = 0; i < n && i < cap; i++) {
    const msock_candidate *c = &p->candidates.at[i];
    out[i] = (msock_engine_candidate){.addr = c->addr,
                                      .from_netmap = (c->from & MSOCK_FROM_NETMAP) != 0,
                                      .from_cmm = (c->from & MSOCK_FROM_CMM) != 0,
                                      .from_ping = (c->from & MSOCK_FROM_PING) != 0,
                                      .best = p->has_best && msock_addr_equal(&c->addr, &p->best),
                                      .muted = c->muted,
                                      .rtt_us = c->rtt_us,
                                      .last_ping_us = c->ping_us != MSOCK_NEVER ? c->ping_us : 0,
                                      .last_pong_us = c->pong_us != MSOCK_NEVER ? c->pong_us : 0};
  }
  return n;
}

msock_engine_counters msock_engine_counters_get(const msock_engine *e) {
  return e->counters;
}
