/* One peer's way: the search for a direct path, its heartbeats, its loss, and the choice between
 * addresses and between direct and relay (magicsock.md 3.3 to 3.5, 3.9). */
#include <string.h>

#include "magicsock/choice.h"
#include "magicsock/engine_internal.h"

/* Pings go unpadded: 3.5 counts them all as this. */
#define PING_MTU_BYTES 1360u

static const uint64_t burst_at_ms[MSOCK_ENGINE_BURST_STEPS] = MSOCK_ENGINE_BURST_AT_MS;

static uint64_t earlier(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

/* --- state --- */

bool msock_path_active(const msock_path_peer *p, uint64_t now_us) {
  return msock_since(now_us, p->sent_us) < MSOCK_ENGINE_ACTIVE_US;
}

bool msock_path_eager(const msock_engine *e, const msock_path_peer *p, uint64_t now_us) {
  return e->peers.n <= MSOCK_ENGINE_EAGER_PEERS || msock_path_active(p, now_us);
}

static bool trusted(const msock_path_peer *p, uint64_t now_us) {
  return p->has_best && !p->suspect && now_us <= p->trust_until_us;
}

bool msock_path_direct(const msock_path_peer *p, uint64_t now_us) {
  return trusted(p, now_us) && now_us >= p->barred_until_us;
}

static msock_candidate *best_of(const msock_path_peer *p) {
  return p->has_best ? msock_candidates_find(&p->candidates, &p->best) : NULL;
}

/* The one place where a change of path is noticed: tells it once, with its reason. */
static void review(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_why_kind reason) {
  const bool direct = msock_path_direct(p, now_us);
  const bool same_addr = msock_addr_equal(&p->told_addr, &p->best);
  char node[MSOCK_KEY_SHORT_MAX], addr[MSOCK_ADDR_TEXT_MAX] = "-";

  if (direct == p->told_direct && (!direct || same_addr)) {
    return;
  }
  if (direct && !p->told_direct) {
    e->counters.paths_up++;
    msock_engine_tell(e, p, MSOCK_TELL_KICK);
  } else if (!direct) {
    e->counters.paths_down++;
  }
  p->told_direct = direct;
  p->told_addr = direct ? p->best : (msock_addr){0};
  p->told_reason = (uint8_t)reason;
  msock_engine_tell(e, p, MSOCK_TELL_PATH);
  if (direct && !e->cfg.hide_addresses) {
    msock_addr_text(&p->best, addr);
  }
  msock_logf(e->env.log, msock_path_eager(e, p, now_us) ? MSOCK_LOG_INFO : MSOCK_LOG_DEBUG,
             direct ? "path.direct" : "path.relay", "peer=%s addr=%s reason=%d",
             msock_node_key_short(&p->node, node), addr, (int)reason);
}

static void stop_probe(msock_path_peer *p) {
  p->probe_tries = 0;
  p->probe_next_us = MSOCK_NEVER;
}

/* --- candidates --- */

msock_candidate *msock_path_learn(msock_engine *e, msock_path_peer *p, const msock_addr *addr,
                                  uint8_t from) {
  bool fresh = false;
  if (!msock_eligible_addr(&e->filter, MSOCK_USE_CANDIDATE, addr)) {
    e->counters.candidates_filtered++;
    p->n_filtered++;
    return NULL;
  }
  msock_candidate *c = msock_candidates_add(&p->candidates, addr, from, &fresh);
  if (c == NULL) {
    e->counters.candidates_full++;
  } else if (fresh) {
    msock_sources_add(&e->sources, addr, p->id);
  }
  return c;
}

void msock_path_unlearn(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_candidate *c,
                        uint8_t from) {
  const msock_addr addr = c->addr;
  c->from = (uint8_t)(c->from & ~from);
  if (c->from != 0) {
    return;
  }
  msock_sources_drop(&e->sources, &addr, p->id);
  msock_candidates_remove(&p->candidates, c);
  if (p->has_best && msock_addr_equal(&p->best, &addr)) {
    msock_path_leave(e, now_us, p, MSOCK_WHY_WITHDRAWN, 0);
  }
}

/* Ping sources that have been silent go, unless data rides on them. */
static void expire_learned(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  for (uint16_t i = p->candidates.n; i-- > 0;) {
    msock_candidate *c = &p->candidates.at[i];
    const bool used = trusted(p, now_us) && msock_addr_equal(&c->addr, &p->best);
    if ((c->from & MSOCK_FROM_PING) != 0 && !used &&
        msock_since(now_us, msock_candidate_heard_us(c)) >= MSOCK_ENGINE_LEARNED_LIFE_US) {
      msock_path_unlearn(e, now_us, p, c, MSOCK_FROM_PING);
    }
  }
}

/* --- pings --- */

/* Idle peers leave part of the node's burst to those with traffic. */
static bool has_budget(const msock_engine *e, uint64_t now_us, const msock_path_peer *p) {
  const uint64_t burst = msock_path_active(p, now_us)
                             ? MSOCK_ENGINE_NODE_PINGS
                             : MSOCK_ENGINE_NODE_PINGS - MSOCK_ENGINE_IDLE_PINGS;
  return msock_budget_has(&p->ping_budget, now_us, MSOCK_ENGINE_PEER_PINGS,
                          MSOCK_SEC / MSOCK_ENGINE_PEER_PINGS_PER_SEC) &&
         msock_budget_has(&e->ping_budget, now_us, burst,
                          MSOCK_SEC / MSOCK_ENGINE_NODE_PINGS_PER_SEC);
}

static bool within_budget(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  if (!has_budget(e, now_us, p)) {
    e->counters.tx_ping_budget++;
    return false;
  }
  msock_budget_spend(&p->ping_budget, now_us, MSOCK_SEC / MSOCK_ENGINE_PEER_PINGS_PER_SEC);
  msock_budget_spend(&e->ping_budget, now_us, MSOCK_SEC / MSOCK_ENGINE_NODE_PINGS_PER_SEC);
  return true;
}

bool msock_path_ping(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_candidate *c,
                     msock_region_id region, msock_ping_why why, uint64_t user) {
  if (p->disco == NULL || e->cfg.direct_off || (c != NULL && (e->port == 0 || c->muted)) ||
      (c == NULL && region == 0) || !within_budget(e, now_us, p)) {
    return false;
  }
  msock_ping ping = {.derp = c == NULL,
                     .heartbeat = why == MSOCK_PING_BEAT,
                     .relay_test = why == MSOCK_PING_RELAY,
                     .beat = p->beats + 1,
                     .sent_us = now_us,
                     .user = user};
  msock_send s = {.kind = MSOCK_SENDS_PING,
                  .peer = p->id,
                  .serial = p->serial,
                  .derp = c == NULL,
                  .region = region};
  if (c != NULL) {
    ping.addr = s.addr = c->addr;
  }
  e->env.random(e->env.ctx, ping.txid, sizeof ping.txid);
  memcpy(s.txid, ping.txid, sizeof s.txid);
  if (!msock_pings_add(&p->pings, &ping)) {
    return false;
  }
  if (!msock_engine_send(e, &s)) {
    msock_pings_remove(&p->pings, &p->pings.at[p->pings.n - 1]);
    return false;
  }
  if (c != NULL) {
    c->ping_us = now_us;
  }
  if (why == MSOCK_PING_BEAT) { /* lost until its pong is there */
    p->beats++;
    p->lost = p->lost << 1 | 1;
    if (p->beats_known < MSOCK_ENGINE_LOSS_SAMPLES) {
      p->beats_known++;
    }
  }
  e->counters.tx_ping++;
  return true;
}

/* Which to ping first: last confirmed, then where pings came from, called, listed by control. */
static uint32_t rank(const msock_candidate *c) {
  if (c->pong_us != MSOCK_NEVER) {
    return 0;
  }
  return (c->from & MSOCK_FROM_PING) != 0 ? 1 : (c->from & MSOCK_FROM_CMM) != 0 ? 2 : 3;
}

/* Pings candidates that were not pinged for floor_us. */
static uint32_t ping_all(msock_engine *e, uint64_t now_us, msock_path_peer *p, uint64_t floor_us) {
  uint32_t sent = 0;

  p->sweep_us = now_us;
  p->sweep_every_us = (uint32_t)(MSOCK_ENGINE_UPGRADE_US +
                                 msock_env_uniform(&e->env, MSOCK_ENGINE_UPGRADE_JITTER_US));
  for (uint32_t r = 0; r <= 3; r++) {
    for (uint16_t i = 0; i < p->candidates.n && sent < MSOCK_ENGINE_BURST_CANDIDATES; i++) {
      msock_candidate *c = &p->candidates.at[i];
      /* A refused one does not end the round: the next may be of another kind (PATH-32). */
      if (rank(c) == r && msock_since(now_us, c->ping_us) >= floor_us) {
        sent += msock_path_ping(e, now_us, p, c, 0, MSOCK_PING_SEARCH, 0);
      }
    }
  }
  return sent;
}

void msock_path_burst(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  if (!msock_engine_live(e) || p->disco == NULL || p->candidates.n == 0) {
    return;
  }
  p->burst_us = now_us;
  p->burst_step = 1;
  const uint32_t sent = ping_all(e, now_us, p, 0);
  msock_why_note(e, now_us, p, MSOCK_WHY_BURST, NULL, sent);
  msock_engine_rearm(e, p);
}

void msock_path_wake(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  msock_path_burst(e, now_us, p);
  msock_cmm_call(e, now_us, p);
}

static uint64_t burst_due(const msock_path_peer *p) {
  return p->burst_step < MSOCK_ENGINE_BURST_STEPS
             ? p->burst_us + burst_at_ms[p->burst_step] * MSOCK_MS
             : MSOCK_NEVER;
}

static void burst_step(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  /* Steps that were slept through are not made up for. */
  while (burst_due(p) <= now_us) {
    p->burst_step++;
  }
  ping_all(e, now_us, p, 0);
}

/* --- confirmation and choice --- */

static void ping_again(msock_path_peer *p, const msock_addr *addr, uint64_t at_us) {
  p->again = *addr;
  p->again_us = at_us;
}

/* A path that keeps being lost has to prove itself more than once. */
static bool guard_passed(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_candidate *c,
                         uint64_t last_pong_us) {
  const uint32_t need = msock_candidate_guard(c, now_us);
  if (need <= 1) {
    return true;
  }
  uint8_t *const pongs = &c->past->guard_pongs; /* it was lost before, more than once */
  if (*pongs == 0) {
    msock_why_note(e, now_us, p, MSOCK_WHY_FLAP_GUARD, &c->addr, need);
  }
  if (*pongs == 0 || msock_since(now_us, last_pong_us) >= MSOCK_ENGINE_FLAP_GAP_US) {
    (*pongs)++;
  }
  if (*pongs >= need) {
    *pongs = 0;
    return true;
  }
  ping_again(p, &c->addr, now_us + MSOCK_ENGINE_FLAP_GAP_US);
  return false;
}

static void adopt(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_candidate *c,
                  msock_why_kind reason) {
  const bool first = !p->told_direct;
  if (!p->has_best || !msock_addr_equal(&p->best, &c->addr)) {
    p->barred_until_us = 0; /* the bar was the other address's */
    p->barred = p->lossy = false;
    p->beats_known = 0;
  }
  p->adopted_us = now_us;
  p->stall_due_us = p->carried_us = MSOCK_NEVER;
  p->has_best = true;
  p->best = c->addr;
  p->suspect = false;
  p->trust_until_us = c->pong_us + MSOCK_ENGINE_TRUST_US;
  p->unanswered_us = MSOCK_NEVER;
  c->wins = 0;
  stop_probe(p);
  if (first) {
    ping_again(p, &c->addr, now_us + c->rtt_us); /* a second sample for the average */
  }
  msock_why_note(e, now_us, p, reason, &c->addr, c->rtt_us);
  review(e, now_us, p, reason);
  if (msock_path_direct(p, now_us)) {
    p->cmm_next_us = p->cmm_wait_us = MSOCK_NEVER;
  }
}

static void challenge(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_candidate *c) {
  const msock_candidate *best = best_of(p);
  const msock_choice mine = {.addr = c->addr, .latency_us = c->rtt_us, .mtu_bytes = PING_MTU_BYTES};
  const msock_choice theirs = {
      .addr = p->best, .latency_us = best != NULL ? best->rtt_us : 0, .mtu_bytes = PING_MTU_BYTES};

  if (!msock_choice_better(&mine, &theirs)) {
    c->wins = 0;
    return;
  }
  if (++c->wins >= 2) {
    adopt(e, now_us, p, c, MSOCK_WHY_SWITCHED);
  } else {
    ping_again(p, &c->addr, now_us + c->rtt_us);
  }
}

void msock_path_on_pong(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_candidate *c,
                        const msock_ping *ping, uint64_t rtt_us) {
  const bool is_best = p->has_best && msock_addr_equal(&p->best, &c->addr);
  const uint64_t last_pong_us = c->pong_us;

  msock_candidate_pong(c, now_us, rtt_us);
  msock_sources_prove(&e->sources, &c->addr, p->id);
  p->burst_step = MSOCK_ENGINE_BURST_STEPS;
  p->cmm_sweep_due_us = MSOCK_NEVER;
  if (ping->heartbeat && p->beats - ping->beat < MSOCK_ENGINE_LOSS_SAMPLES) {
    p->lost &= ~(UINT64_C(1) << (p->beats - ping->beat));
  }
  if (is_best) {
    p->unanswered_us = MSOCK_NEVER;
    stop_probe(p);
  }
  if (is_best && trusted(p, now_us)) {
    p->trust_until_us = now_us + MSOCK_ENGINE_TRUST_US;
    review(e, now_us, p, MSOCK_WHY_RETURNED);
  } else if (!msock_path_direct(p, now_us)) {
    if (guard_passed(e, now_us, p, c, last_pong_us)) {
      adopt(e, now_us, p, c, MSOCK_WHY_CONFIRMED);
    }
  } else if (p->probe_tries > MSOCK_ENGINE_PROBE_YIELD) { /* the best is silent */
    if (guard_passed(e, now_us, p, c, last_pong_us)) {
      adopt(e, now_us, p, c, MSOCK_WHY_SWITCHED);
    }
  } else {
    challenge(e, now_us, p, c);
  }
  msock_engine_rearm(e, p);
}

void msock_path_on_relay_pong(msock_path_peer *p, const msock_ping *ping) {
  if (ping->relay_test && p->relay_sent > 0) {
    p->relay_got++;
  }
}

void msock_path_heard(msock_path_peer *p, uint64_t now_us, const msock_addr *from) {
  if (p->has_best && msock_addr_equal(&p->best, from)) {
    p->unanswered_us = p->stall_due_us = MSOCK_NEVER;
    p->carried_us = now_us;
    if (p->probe_tries > 1) {
      p->probe_tries = 1; /* silence is counted anew */
    }
  }
}

/* --- loss --- */

void msock_path_leave(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_why_kind reason,
                      uint32_t value) {
  msock_candidate *c = best_of(p);

  if (!p->has_best) {
    return;
  }
  msock_why_note(e, now_us, p, reason, &p->best, value);
  if (reason == MSOCK_WHY_SILENT) {
    p->suspect = true; /* a pong from there brings it back */
  } else {
    p->has_best = false;
    p->suspect = false;
    p->barred_until_us = 0;
    p->barred = p->lossy = false;
  }
  if (c != NULL && (reason == MSOCK_WHY_SILENT || reason == MSOCK_WHY_LAPSED) &&
      msock_path_eager(e, p, now_us)) {
    msock_candidate_lost(c, now_us);
  }
  p->unanswered_us = p->stall_due_us = MSOCK_NEVER;
  p->again_us = MSOCK_NEVER;
  p->beats_known = 0;
  p->relay_sent = p->relay_got = 0;
  stop_probe(p);
  review(e, now_us, p, reason);
  if (msock_path_eager(e, p, now_us)) {
    msock_cmm_news(p, now_us);
    msock_path_wake(e, now_us, p);
  } else {
    p->cmm_next_us = now_us + MSOCK_ENGINE_CMM_EAGER_US;
  }
  msock_engine_rearm(e, p);
}

void msock_path_bar(msock_engine *e, uint64_t now_us, msock_path_peer *p, bool lossy,
                    uint32_t loss_permille) {
  const msock_why_kind reason = lossy ? MSOCK_WHY_LOSSY : MSOCK_WHY_DATA_STALLED;
  const bool renewed = now_us < p->barred_until_us;

  p->barred_until_us = now_us + (lossy ? MSOCK_ENGINE_LOSSY_HOLD_US : MSOCK_ENGINE_BARRED_US);
  p->barred = true;
  p->lossy = lossy;
  p->stall_due_us = MSOCK_NEVER;
  if (!renewed) {
    msock_why_note(e, now_us, p, reason, &p->best, loss_permille);
  }
  review(e, now_us, p, reason);
  msock_engine_rearm(e, p);
}

void msock_path_stalled(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  /* One lost initiation is 5 s without an answer; what else comes by this path tells. */
  if (!msock_path_direct(p, now_us) ||
      msock_since(now_us, p->carried_us) < MSOCK_ENGINE_CARRIES_US) {
    return;
  }
  if (msock_since(now_us, p->adopted_us) >= MSOCK_ENGINE_STALL_US) {
    msock_path_bar(e, now_us, p, false, 0);
  } else { /* the peer may have slept, or been reached another way, until a moment ago */
    p->stall_due_us = p->adopted_us + MSOCK_ENGINE_STALL_US;
    msock_engine_rearm(e, p);
  }
}

void msock_path_reset(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_why_kind reason) {
  msock_pings_clear(&p->pings);
  for (uint16_t i = 0; i < p->candidates.n; i++) {
    msock_candidate_forget(&p->candidates.at[i]);
  }
  p->burst_step = MSOCK_ENGINE_BURST_STEPS;
  p->sweep_us = p->again_us = p->stall_due_us = MSOCK_NEVER;
  p->cmm_next_us = p->cmm_wait_us = p->cmm_sweep_due_us = MSOCK_NEVER;
  p->relay_sent = p->relay_got = 0;
  p->beats_known = 0;
  stop_probe(p);
  if (p->has_best) {
    msock_why_note(e, now_us, p, reason, &p->best, 0);
    p->has_best = p->suspect = false;
    p->barred_until_us = 0;
    p->barred = p->lossy = false;
    review(e, now_us, p, reason);
  }
  msock_cmm_news(p, now_us);
}

/* --- heartbeats --- */

/* fast_failover: an unanswered heartbeat is repeated soon, not in 2 s. */
static void beat(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  msock_candidate *c = best_of(p);
  if (c == NULL || !msock_path_ping(e, now_us, p, c, 0, MSOCK_PING_BEAT, 0)) {
    p->probe_next_us = p->probe_tries > 0 ? now_us + MSOCK_ENGINE_PROBE_MAX_US : MSOCK_NEVER;
    return;
  }
  if (e->cfg.fast_failover_off) {
    return;
  }
  uint64_t wait_us = 3 * c->rtt_us;
  wait_us = wait_us > MSOCK_ENGINE_PROBE_MIN_US ? wait_us : MSOCK_ENGINE_PROBE_MIN_US;
  p->probe_began_us = p->probe_tries == 0 ? now_us : p->probe_began_us;
  p->probe_tries++;
  p->probe_next_us = now_us + earlier(wait_us, MSOCK_ENGINE_PROBE_MAX_US);
}

/* The best is silent. An address that has answered since is a path; the others are asked. */
static bool yield(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  msock_candidate *other = NULL;

  for (uint16_t i = 0; i < p->candidates.n; i++) {
    msock_candidate *c = &p->candidates.at[i];
    if (!msock_addr_equal(&c->addr, &p->best) && !c->muted && c->pong_us != MSOCK_NEVER &&
        c->pong_us > p->probe_began_us && msock_candidate_guard(c, now_us) <= 1 &&
        (other == NULL || c->rtt_us < other->rtt_us)) {
      other = c;
    }
  }
  if (other == NULL) {
    ping_all(e, now_us, p, MSOCK_ENGINE_REVERSE_GAP_US); /* as in a burst */
    return false;
  }
  adopt(e, now_us, p, other, MSOCK_WHY_SWITCHED);
  return true;
}

/* The wait for a heartbeat's pong is over. */
static void probe_step(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  if (!trusted(p, now_us)) {
    stop_probe(p);
  } else if (p->probe_tries == MSOCK_ENGINE_PROBE_YIELD && yield(e, now_us, p)) {
    return;
  } else if (p->probe_tries < MSOCK_ENGINE_PROBE_TRIES) {
    beat(e, now_us, p);
  } else { /* and nothing was heard from there meanwhile: msock_path_heard */
    msock_path_leave(e, now_us, p, MSOCK_WHY_SILENT, p->probe_tries);
  }
}

void msock_path_probe(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  if (p->probe_tries == 0 && trusted(p, now_us)) {
    beat(e, now_us, p);
    msock_engine_rearm(e, p);
  }
}

uint32_t msock_path_loss(const msock_path_peer *p) {
  uint32_t lost = 0;
  if (p->beats_known < MSOCK_ENGINE_LOSS_SAMPLES) {
    return 0;
  }
  for (uint64_t bits = p->lost; bits != 0; bits &= bits - 1) {
    lost++;
  }
  return lost * 1000 / MSOCK_ENGINE_LOSS_SAMPLES;
}

/* A direct path that loses much is measured against the relay: one ping there in each tick. */
static void weigh_relay(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  const uint32_t loss = msock_path_loss(p);
  const msock_region_id region = msock_engine_region(e, p);

  if (e->cfg.lossy_relay_off || region == 0 || !trusted(p, now_us) ||
      !msock_path_active(p, now_us)) {
    return;
  }
  if (p->relay_sent >= MSOCK_ENGINE_RELAY_PROBES) {
    const bool good = p->relay_got >= MSOCK_ENGINE_RELAY_GOOD;
    p->relay_sent = p->relay_got = 0;
    if (good && loss >= MSOCK_ENGINE_LOSSY_PERMILLE && (p->lossy || !p->barred)) {
      msock_path_bar(e, now_us, p, true, loss);
    }
    return;
  }
  if ((p->relay_sent > 0 || loss >= MSOCK_ENGINE_LOSSY_PERMILLE) &&
      msock_path_ping(e, now_us, p, NULL, region, MSOCK_PING_RELAY, 0)) {
    p->relay_sent++;
  }
}

/* --- time --- */

static void heartbeat(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  const msock_candidate *c = best_of(p);
  if (c != NULL && p->probe_tries == 0 && trusted(p, now_us) &&
      msock_since(now_us, c->pong_us) >= MSOCK_ENGINE_TICK_US - MSOCK_ENGINE_TICK_SLACK_US) {
    beat(e, now_us, p);
  }
}

static void sweep(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  const msock_candidate *c = best_of(p);
  if (p->burst_step < MSOCK_ENGINE_BURST_STEPS) {
    return;
  }
  if (msock_choice_sweep(c != NULL, trusted(p, now_us), c != NULL ? c->rtt_us : 0, p->sweep_us,
                         p->sweep_every_us, now_us)) {
    ping_all(e, now_us, p, MSOCK_ENGINE_CANDIDATE_FLOOR_US);
  }
}

/* An idle peer among many: now and then one ping to where it last was, else to everywhere. */
static void idle_round(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  const uint64_t fifth = MSOCK_ENGINE_IDLE_US / 5;
  const bool start = p->idle_us == MSOCK_NEVER;

  if (!start && (now_us < p->idle_us || !has_budget(e, now_us, p))) {
    return; /* in the second case its turn comes with a later tick */
  }
  p->idle_us =
      now_us + (start ? msock_env_uniform(&e->env, MSOCK_ENGINE_IDLE_US)
                      : MSOCK_ENGINE_IDLE_US - fifth + msock_env_uniform(&e->env, 2 * fifth + 1));
  if (start) {
    return; /* spread: they all came with one netmap */
  }
  for (uint16_t i = 0; i < p->candidates.n; i++) {
    if (msock_since(now_us, p->candidates.at[i].pong_us) < 2 * MSOCK_ENGINE_IDLE_US) {
      msock_path_ping(e, now_us, p, &p->candidates.at[i], 0, MSOCK_PING_SEARCH, 0);
      return;
    }
  }
  ping_all(e, now_us, p, MSOCK_ENGINE_CANDIDATE_FLOOR_US);
}

void msock_path_tick(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  msock_pings_expire(&p->pings, now_us);
  expire_learned(e, now_us, p);
  if (p->disco == NULL || !msock_engine_live(e)) {
    return;
  }
  if (!msock_path_eager(e, p, now_us)) {
    idle_round(e, now_us, p);
    return;
  }
  p->idle_us = MSOCK_NEVER;
  weigh_relay(e, now_us, p);
  heartbeat(e, now_us, p);
  sweep(e, now_us, p);
  msock_engine_rearm(e, p);
}

void msock_path_expire(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  if (p->has_best && !p->suspect && now_us > p->trust_until_us) {
    msock_path_leave(e, now_us, p, MSOCK_WHY_LAPSED, 0);
  }
  if (p->barred && now_us >= p->barred_until_us) {
    p->barred = p->lossy = false;
    p->adopted_us = now_us;
    msock_why_note(e, now_us, p, MSOCK_WHY_RETURNED, &p->best, 0);
    review(e, now_us, p, MSOCK_WHY_RETURNED);
  }
  if (p->stall_due_us <= now_us) {
    p->stall_due_us = MSOCK_NEVER;
    msock_path_stalled(e, now_us, p);
  }
  if (burst_due(p) <= now_us) {
    burst_step(e, now_us, p);
  }
  if (p->again_us <= now_us) {
    msock_candidate *c = msock_candidates_find(&p->candidates, &p->again);
    p->again_us = MSOCK_NEVER;
    if (c != NULL) {
      msock_path_ping(e, now_us, p, c, 0, MSOCK_PING_SEARCH, 0);
    }
  }
  if (p->probe_next_us <= now_us) {
    probe_step(e, now_us, p);
  }
  if (p->cmm_sweep_due_us <= now_us) {
    p->cmm_sweep_due_us = MSOCK_NEVER;
    p->cmm_sweep_us = now_us;
    msock_path_burst(e, now_us, p);
  }
  msock_cmm_expire(e, now_us, p);
}

uint64_t msock_path_due(const msock_path_peer *p) {
  uint64_t due = earlier(burst_due(p), p->again_us);
  due = earlier(due, p->probe_next_us);
  due = earlier(due, p->stall_due_us);
  due = earlier(due, p->cmm_sweep_due_us);
  due = earlier(due, msock_cmm_due(p));
  if (p->has_best && !p->suspect) {
    due = earlier(due, p->trust_until_us + 1);
  }
  return p->barred ? earlier(due, p->barred_until_us) : due;
}
