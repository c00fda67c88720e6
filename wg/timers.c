/* What happened to a peer, and what that means for its deadlines (dataplane.md 4; whitepaper 6).
 *
 * A timer is a time kept in the peer; the heap holds a time at or before the earliest. Packets only
 * write times. A deadline that comes too early is found out here, and set anew from what is kept.
 */
#include "crypto/wipe.h"
#include "wg/engine_internal.h"

static void arm(msock_wg *wg, msock_wg_active *a, uint64_t at_us) {
  if (at_us < a->due_us) {
    msock_wg_due_set(&wg->due, a, at_us);
  }
}

static uint64_t after(uint64_t since_us, uint64_t span_us) {
  return since_us == MSOCK_NEVER ? MSOCK_NEVER : since_us + span_us;
}

static uint64_t draw_jitter(const msock_env *env) {
  return msock_env_uniform(env, MSOCK_WG_JITTER_MAX_US + 1);
}

void msock_wg_timers_init(msock_wg_active *a, const msock_env *env) {
  a->due_us = MSOCK_NEVER;
  a->attempt_us = MSOCK_NEVER;
  a->initiation_us = MSOCK_NEVER;
  a->accepted_us = MSOCK_NEVER;
  a->retransmit_us = MSOCK_NEVER;
  a->stalled_us = MSOCK_NEVER;
  a->erase_us = MSOCK_NEVER;
  a->data_in_us = MSOCK_NEVER;
  a->data_out_us = MSOCK_NEVER;
  a->cookie_us = MSOCK_NEVER;
  a->jitter_us = draw_jitter(env);
}

void msock_wg_want_handshake(msock_wg *wg, msock_wg_active *a, uint64_t now_us) {
  if (a->wanted && msock_wg_elapsed(now_us, a->attempt_us) < MSOCK_WG_REKEY_ATTEMPT_TIME_US) {
    return;
  }
  a->wanted = true;
  a->attempt_us = now_us;
  const uint64_t earliest = after(a->initiation_us, MSOCK_WG_REKEY_TIMEOUT_US);
  if (earliest != MSOCK_NEVER && now_us < earliest) {
    a->retransmit_us = earliest;
    arm(wg, a, earliest);
  } else {
    msock_wg_post(wg, a, MSOCK_WG_DO_INITIATION);
  }
}

void msock_wg_hurry_handshake(msock_wg *wg, msock_wg_active *a, uint64_t now_us) {
  if (!a->wanted || (a->outputs & MSOCK_WG_DO_INITIATION) != 0) {
    return;
  }
  const uint64_t earliest = after(a->initiation_us, MSOCK_WG_KICK_GAP_US);
  if (a->unsent || earliest == MSOCK_NEVER || now_us >= earliest) {
    a->retransmit_us = MSOCK_NEVER;
    msock_wg_post(wg, a, MSOCK_WG_DO_INITIATION);
  } else if (earliest < a->retransmit_us) {
    a->retransmit_us = earliest;
    arm(wg, a, earliest);
  }
}

void msock_wg_did_send(msock_wg_active *a) {
  a->data_in_us = MSOCK_NEVER;
  a->one_more = false;
}

void msock_wg_did_send_initiation(msock_wg *wg, msock_wg_active *a, uint64_t now_us) {
  const uint64_t give_up = after(a->attempt_us, MSOCK_WG_REKEY_ATTEMPT_TIME_US);

  msock_wg_did_send(a);
  a->unsent = false;
  a->initiation_us = now_us;
  a->jitter_us = draw_jitter(&wg->env);
  a->retransmit_us = now_us + MSOCK_WG_REKEY_TIMEOUT_US + a->jitter_us;
  if (give_up < a->retransmit_us) {
    a->retransmit_us = give_up;
  }
  if (a->stalled_us == MSOCK_NEVER) {
    a->stalled_us = now_us + MSOCK_WG_STALLED_US;
  }
  arm(wg, a, a->stalled_us);
  arm(wg, a, a->retransmit_us);
}

void msock_wg_did_send_data(msock_wg *wg, msock_wg_active *a, uint64_t now_us) {
  msock_wg_did_send(a);
  if (a->data_out_us == MSOCK_NEVER) {
    a->data_out_us = now_us;
    arm(wg, a, now_us + MSOCK_WG_STOP_HEARING_US + a->jitter_us);
  }
}

void msock_wg_did_send_keepalive(msock_wg *wg, msock_wg_active *a, uint64_t now_us) {
  const bool again = a->one_more;

  msock_wg_did_send(a);
  if (again) {
    a->data_in_us = now_us;
    arm(wg, a, now_us + MSOCK_WG_KEEPALIVE_TIMEOUT_US);
  }
}

void msock_wg_did_receive(msock_wg_active *a) {
  a->data_out_us = MSOCK_NEVER;
}

void msock_wg_did_receive_data(msock_wg *wg, msock_wg_active *a, uint64_t now_us) {
  if (a->data_in_us != MSOCK_NEVER) {
    a->one_more = true;
    return;
  }
  a->data_in_us = now_us;
  arm(wg, a, now_us + MSOCK_WG_KEEPALIVE_TIMEOUT_US);
}

void msock_wg_did_derive_session(msock_wg *wg, msock_wg_active *a, uint64_t now_us) {
  a->erase_us = now_us + MSOCK_WG_ERASE_AFTER_US;
  arm(wg, a, a->erase_us);
}

/* No handshake of ours is under way any more. */
static void end_attempt(msock_wg_active *a) {
  a->wanted = false;
  a->unsent = false;
  a->retransmit_us = MSOCK_NEVER;
  a->stalled_us = MSOCK_NEVER;
  a->outputs &= ~(unsigned)MSOCK_WG_DO_INITIATION;
}

void msock_wg_did_complete(msock_wg *wg, msock_wg_active *a, uint64_t wall_us) {
  end_attempt(a);
  msock_wg_drop_handshake(wg, a);
  msock_wg_peers_get(&wg->peers, a->peer_id)->last_handshake_wall_us = wall_us;
  if (a->staged.count > 0) {
    msock_wg_post(wg, a, MSOCK_WG_DO_STAGED);
  }
  msock_wg_tell(wg, a, MSOCK_WG_TELL_UP);
}

void msock_wg_give_up(msock_wg *wg, msock_wg_active *a, uint64_t now_us) {
  end_attempt(a);
  wg->counters.tx_staged_drop += msock_wg_staged_clear(&wg->staged, &a->staged);
  if (a->erase_us == MSOCK_NEVER) {
    a->erase_us = now_us + MSOCK_WG_ERASE_AFTER_US;
    arm(wg, a, a->erase_us);
  }
  msock_wg_tell(wg, a, MSOCK_WG_TELL_GAVE_UP);
}

static void on_retransmit(msock_wg *wg, msock_wg_active *a, uint64_t now_us) {
  a->retransmit_us = MSOCK_NEVER;
  if (msock_wg_elapsed(now_us, a->attempt_us) >= MSOCK_WG_REKEY_ATTEMPT_TIME_US) {
    msock_wg_give_up(wg, a, now_us);
  } else {
    msock_wg_post(wg, a, MSOCK_WG_DO_INITIATION);
  }
}

/* What is older than 540 s goes, except a handshake that is under way. */
static void on_erase(msock_wg *wg, msock_wg_active *a, uint64_t now_us) {
  a->erase_us = MSOCK_NEVER;
  if (a->wanted) {
    msock_wg_drop_session(wg, &a->previous);
    msock_wg_drop_session(wg, &a->current);
    msock_wg_drop_session(wg, &a->next);
    return;
  }
  msock_wg_erase_keys(wg, a);
  /* unpolled events keep the block, now without secrets, for one more round */
  a->erase_us = now_us + MSOCK_WG_ERASE_AFTER_US;
}

static uint64_t earliest_of(const msock_wg_active *a) {
  const uint64_t deadlines[] = {
      a->retransmit_us,
      a->stalled_us,
      a->erase_us,
      after(a->data_in_us, MSOCK_WG_KEEPALIVE_TIMEOUT_US),
      after(a->data_out_us, MSOCK_WG_STOP_HEARING_US + a->jitter_us),
  };
  uint64_t at = MSOCK_NEVER;
  for (size_t i = 0; i < sizeof deadlines / sizeof *deadlines; i++) {
    at = deadlines[i] < at ? deadlines[i] : at;
  }
  return at;
}

void msock_wg_timers_expire(msock_wg *wg, msock_wg_active *a, uint64_t now_us) {
  if (a->stalled_us <= now_us) {
    a->stalled_us = MSOCK_NEVER;
    msock_wg_tell(wg, a, MSOCK_WG_TELL_STALLED);
  }
  if (a->retransmit_us <= now_us) {
    on_retransmit(wg, a, now_us);
  }
  if (after(a->data_in_us, MSOCK_WG_KEEPALIVE_TIMEOUT_US) <= now_us) {
    a->data_in_us = MSOCK_NEVER; /* one_more stays until the keepalive is sent */
    msock_wg_post(wg, a, MSOCK_WG_DO_KEEPALIVE);
  }
  if (after(a->data_out_us, MSOCK_WG_STOP_HEARING_US + a->jitter_us) <= now_us) {
    a->data_out_us = MSOCK_NEVER;
    msock_wg_want_handshake(wg, a, now_us);
  }
  const bool erased = a->erase_us <= now_us;
  if (erased) {
    on_erase(wg, a, now_us);
  }
  msock_wg_due_set(&wg->due, a, earliest_of(a));
  if (erased) {
    msock_wg_deactivate_if_idle(wg, a);
  }
}
