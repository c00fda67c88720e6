/* Disco datagrams in: who sent it, may they say that, and what follows (magicsock.md 2.3, 3.9). The
 * sender's key is looked up before anything is decrypted. */
#include <string.h>

#include "magicsock/binding.h"
#include "magicsock/engine_internal.h"

/* Where a message came from. */
typedef struct arrival {
  uint64_t now_us;
  bool derp;
  msock_addr from;               /* UDP, unmapped */
  msock_region_id region;        /* DERP */
  const msock_node_key *relayed; /* DERP: the source by the relay's word */
} arrival;

static void dlog(const msock_engine *e, const char *event, const msock_disco_key *sender) {
  char key[MSOCK_KEY_SHORT_MAX];
  msock_logf(e->env.log, MSOCK_LOG_DEBUG, event, "disco=%s", msock_disco_key_short(sender, key));
}

/* --- ping --- */

static void pong(msock_engine *e, const arrival *a, msock_path_peer *p,
                 const msock_disco_ping *ping) {
  msock_send s = {.kind = MSOCK_SENDS_PONG,
                  .peer = p->id,
                  .serial = p->serial,
                  .derp = a->derp,
                  .region = a->region,
                  .addr = a->from,
                  .src = a->from};

  if (!msock_budget_take(&p->pong_budget, a->now_us, MSOCK_ENGINE_PEER_PONGS,
                         MSOCK_SEC / MSOCK_ENGINE_PEER_PONGS_PER_SEC)) {
    e->counters.rx_pong_budget++;
    return;
  }
  if (a->derp) { /* the stand-in of a relay (1.7); regions above 65535 do not fit and are cut */
    s.src = (msock_addr){.ip = msock_ip_v4(127, 3, 3, 40), .port = (uint16_t)a->region};
  }
  memcpy(s.txid, ping->txid, sizeof s.txid);
  if (msock_engine_send(e, &s)) {
    e->counters.tx_pong++;
  }
}

static void on_ping_udp(msock_engine *e, const arrival *a, msock_path_peer *p,
                        const msock_disco_ping *ping) {
  const uint64_t now_us = a->now_us;
  msock_candidate *c = msock_candidates_find(&p->candidates, &a->from);

  if (!msock_eligible_addr(&e->filter, MSOCK_USE_CANDIDATE, &a->from)) {
    e->counters.rx_filtered++;
    return;
  }
  if (c != NULL && msock_candidate_repeated(c, ping->txid)) {
    e->counters.rx_duplicate++;
    return;
  }
  e->counters.rx_ping++;
  pong(e, a, p, ping);
  const bool fresh = c == NULL;
  c = msock_path_learn(e, p, &a->from, MSOCK_FROM_PING);
  if (c == NULL || !msock_candidate_heard(c, now_us, ping->txid)) {
    return; /* full: answered, not kept */
  }
  p->ping_heard = true;
  msock_sources_prove(&e->sources, &a->from, p->id);
  if (fresh) {
    msock_why_note(e, now_us, p, MSOCK_WHY_PING_IN, &a->from, 0);
  }
  /* The other side's ping has opened the way: ours gets through now (section 0, 4). */
  const bool is_best = p->has_best && msock_addr_equal(&p->best, &a->from);
  if ((!is_best || !msock_path_direct(p, now_us)) && msock_candidate_reverse(c, now_us)) {
    msock_path_ping(e, now_us, p, c, 0, MSOCK_PING_SEARCH, 0);
  }
}

static void on_ping(msock_engine *e, const arrival *a, msock_disco_member *m, const uint8_t *msg,
                    size_t len) {
  msock_disco_ping ping;
  if (msock_disco_decode_ping(msg, len, &ping) != MSOCK_OK) {
    e->counters.rx_malformed++;
    return;
  }
  msock_path_peer *p = msock_binding_ping(&e->peers, m, &ping);
  if (p == NULL || (a->derp && msock_binding_relayed(&e->peers, m, a->relayed) != p)) {
    e->counters.rx_claim++;
    dlog(e, "path.claim", &m->key);
    return;
  }
  if (a->derp) { /* tells nothing about this host that the relay did not know */
    e->counters.rx_ping++;
    pong(e, a, p, &ping);
  } else {
    on_ping_udp(e, a, p, &ping);
  }
}

/* --- pong --- */

static void learn_about_self(msock_engine *e, uint64_t now_us, msock_path_peer *p,
                             const msock_addr *src) {
  const bool allowed = msock_eligible_addr(&e->filter, MSOCK_USE_ADVERTISE, src);
  if (!allowed || !msock_eligible_public(src) || msock_self_knows(&e->self, src)) {
    return;
  }
  const bool had = msock_self_has_reflexive(&e->self, &e->filter);
  if (msock_self_claim(&e->self, now_us, p->serial, src)) {
    msock_self_review(&e->self, now_us, &e->filter, msock_engine_guess_port(e));
    msock_cmm_on_stun(e, now_us, !had);
  } else if (had) {
    /* Seen elsewhere than STUN says: the NAT may have a new address. Ask those who are believed. */
    msock_engine_ask_stun(e, now_us, MSOCK_ENGINE_CANDIDATE_FLOOR_US);
  }
}

static void on_pong(msock_engine *e, const arrival *a, msock_disco_member *m, const uint8_t *msg,
                    size_t len) {
  msock_disco_pong pong_in;
  msock_path_peer *p = m->peers;
  msock_ping *found = NULL;

  if (msock_disco_decode_pong(msg, len, &pong_in) != MSOCK_OK) {
    e->counters.rx_malformed++;
    return;
  }
  for (; p != NULL; p = p->next_same) {
    found = msock_pings_find(&p->pings, a->now_us, pong_in.txid);
    if (found != NULL) {
      break;
    }
  }
  if (found == NULL) {
    e->counters.rx_unknown_txid++;
    return;
  }
  if (found->derp != a->derp || (a->derp && msock_binding_relayed(&e->peers, m, a->relayed) != p)) {
    e->counters.rx_wrong_transport++; /* stays in flight: the right one may still come */
    return;
  }
  const msock_ping ping = *found;
  msock_pings_remove(&p->pings, found);
  e->counters.rx_pong++;
  msock_engine_user_pong(e, a->now_us, &ping, a->region);
  if (a->derp) {
    msock_path_on_relay_pong(p, &ping);
    return;
  }
  msock_candidate *c = msock_candidates_find(&p->candidates, &ping.addr);
  if (c == NULL) {
    return; /* taken away meanwhile */
  }
  msock_path_on_pong(e, a->now_us, p, c, &ping, a->now_us - ping.sent_us);
  learn_about_self(e, a->now_us, p, &pong_in.src);
}

/* --- call-me-maybe --- */

static bool lists(const msock_disco_call_me_maybe *call, const msock_addr *addr) {
  for (uint8_t i = 0; i < call->n; i++) {
    if (msock_addr_equal(&call->endpoints[i], addr)) {
      return true;
    }
  }
  return false;
}

/* Gives how many addresses were of use; with none, nothing has changed. */
static uint32_t take_endpoints(msock_engine *e, uint64_t now_us, msock_path_peer *p,
                               const msock_disco_call_me_maybe *call) {
  uint32_t eligible = 0, taken = 0;

  for (uint8_t i = 0; i < call->n; i++) {
    eligible += msock_eligible_addr(&e->filter, MSOCK_USE_CANDIDATE, &call->endpoints[i]);
  }
  p->n_filtered = 0;
  for (uint16_t i = p->candidates.n; eligible > 0 && i-- > 0;) {
    msock_candidate *c = &p->candidates.at[i];
    /* Unlisted: gone. Not the one that data rides on: a pong says more than a list. */
    const bool used = msock_path_direct(p, now_us) && msock_addr_equal(&c->addr, &p->best);
    if ((c->from & MSOCK_FROM_CMM) != 0 && !used && !lists(call, &c->addr)) {
      msock_path_unlearn(e, now_us, p, c, MSOCK_FROM_CMM);
    }
  }
  for (uint8_t i = 0; i < call->n; i++) {
    taken += msock_path_learn(e, p, &call->endpoints[i], MSOCK_FROM_CMM) != NULL;
  }
  return taken;
}

static bool has_unpinged(const msock_path_peer *p) {
  for (uint16_t i = 0; i < p->candidates.n; i++) {
    if (p->candidates.at[i].ping_us == MSOCK_NEVER) {
      return true;
    }
  }
  return false;
}

static void on_call(msock_engine *e, const arrival *a, msock_disco_member *m, const uint8_t *msg,
                    size_t len) {
  const uint64_t now_us = a->now_us;
  msock_disco_call_me_maybe call;

  if (!a->derp) {
    e->counters.rx_wrong_transport++;
    return;
  }
  msock_path_peer *p = msock_binding_relayed(&e->peers, m, a->relayed);
  if (p == NULL) {
    e->counters.rx_claim++;
    return;
  }
  if (msock_disco_decode_call_me_maybe(msg, len, &call) != MSOCK_OK) {
    e->counters.rx_malformed++;
    return;
  }
  e->counters.rx_cmm++;
  p->cmm_heard = true;
  const uint32_t taken = take_endpoints(e, now_us, p, &call);
  msock_why_note(e, now_us, p, MSOCK_WHY_CMM_IN, NULL, taken);
  if (taken == 0) {
    return;
  }
  msock_cmm_news(p, now_us);
  bool opened = false; /* our NAT, for an address that was never pinged before */
  if (msock_since(now_us, p->cmm_sweep_us) >= MSOCK_ENGINE_CMM_GAP_US) {
    p->cmm_sweep_us = now_us;
    opened = has_unpinged(p);
    msock_path_burst(e, now_us, p);
  } else {
    p->cmm_sweep_due_us = p->cmm_sweep_us + MSOCK_ENGINE_CMM_GAP_US;
  }
  /* PEER: tailscaled pings when it is called, and then not again for 5 s. What an earlier call of
   * ours made it send has met a closed NAT. */
  if (opened || msock_since(now_us, p->cmm_sent_us) >= MSOCK_ENGINE_CMM_GAP_US) {
    msock_cmm_call(e, now_us, p);
  }
  msock_engine_rearm(e, p);
}

/* --- every datagram --- */

static bool may_listen(msock_engine *e, const arrival *a) {
  if (e->cfg.direct_off || (!a->derp && e->port == 0)) {
    e->counters.rx_inert++;
    return false;
  }
  if (!e->netmap) { /* B1, B7: who nobody vouches for is refused */
    e->counters.rx_no_netmap++;
    if (!e->warned_no_netmap) {
      e->warned_no_netmap = true;
      msock_logf(e->env.log, MSOCK_LOG_WARN, "path.no_netmap",
                 "text=\"disco before the first netmap is dropped\"");
    }
    return false;
  }
  return true;
}

static void on_disco(msock_engine *e, const arrival *a, const uint8_t *p, size_t len) {
  uint8_t msg[MSOCK_ENGINE_PACKET_MAX];
  msock_disco_key sender;
  msock_disco_type type;

  if (!may_listen(e, a)) {
    return;
  }
  if (!msock_disco_sender(p, len, &sender)) {
    e->counters.rx_malformed++;
    return;
  }
  if (msock_disco_key_equal(&sender, &e->me.key)) {
    e->counters.rx_own_key++;
    return;
  }
  msock_disco_member *m = msock_peers_find_disco(&e->peers, &sender);
  if (m == NULL) {
    e->counters.rx_stranger++;
    return;
  }
  const msock_disco_shared *shared = msock_member_shared(m, &e->me);
  if (shared == NULL) {
    e->counters.rx_bad_key++;
    return;
  }
  e->counters.opened++;
  const ptrdiff_t n = msock_disco_open(shared, p, len, msg, sizeof msg);
  if (n < 0) {
    e->counters.rx_unopened++;
    return;
  }
  if (msock_disco_type_of(msg, (size_t)n, &type) != MSOCK_OK) {
    e->counters.rx_malformed++;
    return;
  }
  switch (type) {
  case MSOCK_DISCO_PING:
    on_ping(e, a, m, msg, (size_t)n);
    break;
  case MSOCK_DISCO_PONG:
    on_pong(e, a, m, msg, (size_t)n);
    break;
  case MSOCK_DISCO_CALL_ME_MAYBE:
    on_call(e, a, m, msg, (size_t)n);
    break;
  default:
    e->counters.rx_unspoken++;
    break;
  }
}

void msock_engine_on_udp(msock_engine *e, uint64_t now_us, const msock_addr *from, const uint8_t *p,
                         size_t len) {
  const arrival a = {.now_us = now_us,
                     .from = {.ip = msock_ip_unmap(from->ip), .port = from->port}};
  on_disco(e, &a, p, len);
}

void msock_engine_on_derp(msock_engine *e, uint64_t now_us, msock_region_id region,
                          const msock_node_key *src, const uint8_t *p, size_t len) {
  const arrival a = {.now_us = now_us, .derp = true, .region = region, .relayed = src};
  msock_path_peer *peer = msock_peers_find(&e->peers, src);
  if (peer != NULL) {
    peer->heard = region;
  }
  on_disco(e, &a, p, len);
}
