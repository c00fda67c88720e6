/* When a call-me-maybe is sent (magicsock.md 3.6, 3.9): it asks the peer to ping us at once, so
 * that both NATs open within the same half second. It lists what control was told and nothing else.
 */
#include "magicsock/engine_internal.h"

/* 10 % to either side. */
static uint64_t jittered(msock_engine *e, uint64_t us) {
  return us - us / 10 + msock_env_uniform(&e->env, us / 5 + 1);
}

static uint64_t next_gap(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  static const uint64_t backoff_sec[MSOCK_ENGINE_CMM_BACKOFF_STEPS] = MSOCK_ENGINE_CMM_BACKOFF_SEC;
  const uint64_t quiet = msock_since(now_us, p->sent_us) < msock_since(now_us, p->news_us)
                             ? msock_since(now_us, p->sent_us)
                             : msock_since(now_us, p->news_us);

  if (msock_path_eager(e, p, now_us) && quiet < MSOCK_ENGINE_CMM_EAGER_US) {
    p->cmm_backoff = 0;
    return MSOCK_ENGINE_CMM_US;
  }
  if (!msock_path_eager(e, p, now_us)) {
    p->cmm_backoff = MSOCK_ENGINE_CMM_BACKOFF_STEPS - 1;
  }
  const uint64_t us = backoff_sec[p->cmm_backoff] * MSOCK_SEC;
  if (p->cmm_backoff + 1u < MSOCK_ENGINE_CMM_BACKOFF_STEPS) {
    p->cmm_backoff++;
  }
  return jittered(e, us);
}

static bool wanted(const msock_engine *e, uint64_t now_us, const msock_path_peer *p) {
  return msock_engine_live(e) && p->disco != NULL && !msock_path_direct(p, now_us);
}

/* Each reason not to call is noted once, until a call succeeds. */
static void hold(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_why_kind why) {
  if (why == MSOCK_WHY_CMM_HELD) {
    e->counters.tx_cmm_no_reflexive++;
  } else {
    e->counters.tx_cmm_no_region++;
  }
  if (!p->held_told) {
    p->held_told = true;
    msock_why_note(e, now_us, p, why, NULL, 0);
  }
}

static void send_call(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  const msock_region_id region = msock_engine_region(e, p);

  p->cmm_wait_us = MSOCK_NEVER;
  if (!wanted(e, now_us, p)) {
    p->cmm_next_us = MSOCK_NEVER;
    return;
  }
  p->cmm_next_us = now_us + next_gap(e, now_us, p);
  if (!msock_self_has_reflexive(&e->self, &e->filter)) {
    hold(e, now_us, p, MSOCK_WHY_CMM_HELD);
    return;
  }
  if (region == 0) {
    hold(e, now_us, p, MSOCK_WHY_CMM_NO_REGION);
    return;
  }
  if (!msock_budget_take(&e->cmm_budget, now_us, MSOCK_ENGINE_NODE_CMMS,
                         MSOCK_SEC / MSOCK_ENGINE_NODE_CMMS_PER_SEC)) {
    return;
  }
  msock_self_publish(&e->self, now_us, &e->filter, msock_engine_guess_port(e));
  const msock_send s = {
      .kind = MSOCK_SENDS_CMM, .peer = p->id, .serial = p->serial, .derp = true, .region = region};
  if (msock_engine_send(e, &s)) {
    e->counters.tx_cmm++;
    p->cmm_sent_us = now_us;
    p->held_told = false;
    msock_why_note(e, now_us, p, MSOCK_WHY_CMM_OUT, NULL, (uint32_t)e->self.n_published);
  }
}

void msock_cmm_call(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  if (!wanted(e, now_us, p) || p->cmm_wait_us != MSOCK_NEVER) {
    return;
  }
  const uint64_t age = msock_since(now_us, e->self.stun_us);
  if (age != MSOCK_NEVER && age > MSOCK_ENGINE_FRESH_US) {
    msock_engine_ask_stun(e, now_us, MSOCK_ENGINE_STUN_GAP_US);
  }
  /* Servers that never answered are asked at their own cadence; only a round under way is awaited.
   */
  if (age > MSOCK_ENGINE_FRESH_US &&
      msock_since(now_us, e->stun_asked_us) < MSOCK_ENGINE_CMM_WAIT_US) {
    p->cmm_wait_us = now_us + MSOCK_ENGINE_CMM_WAIT_US;
  } else {
    send_call(e, now_us, p);
  }
  msock_engine_rearm(e, p);
}

void msock_cmm_news(msock_path_peer *p, uint64_t now_us) {
  p->news_us = now_us;
  p->cmm_backoff = 0;
}

void msock_cmm_expire(msock_engine *e, uint64_t now_us, msock_path_peer *p) {
  if (p->cmm_wait_us <= now_us) {
    send_call(e, now_us, p);
  }
  if (p->cmm_next_us <= now_us) {
    p->cmm_next_us = MSOCK_NEVER;
    msock_cmm_call(e, now_us, p);
  }
}

uint64_t msock_cmm_due(const msock_path_peer *p) {
  return p->cmm_wait_us < p->cmm_next_us ? p->cmm_wait_us : p->cmm_next_us;
}

void msock_cmm_on_stun(msock_engine *e, uint64_t now_us, bool news) {
  for (uint32_t id = 0; id < e->peers.end; id++) {
    msock_path_peer *p = e->peers.at[id];
    if (p == NULL || p->disco == NULL) {
      continue;
    }
    const bool waits = p->cmm_wait_us != MSOCK_NEVER;
    const bool tell = news && msock_path_eager(e, p, now_us);
    if (tell) {
      msock_cmm_news(p, now_us);
    }
    if ((waits || tell) && wanted(e, now_us, p)) {
      send_call(e, now_us, p);
      msock_engine_rearm(e, p);
    }
  }
}
