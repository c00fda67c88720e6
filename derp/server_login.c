/* derp/server_login.c: who may be here: ClientInfo, limits, the owner's answer, and the leaving. */
#include "derp/login.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"
#include "derp/server_internal.h"

/* --- refused --- */

static void deny(msock_derp_server *s, uint64_t now_us, relay_conn *c, msock_derp_cause why) {
  msock_derp_server_event ev = relay_event(
      s, now_us,
      why == MSOCK_DERP_CAUSE_LOGIN_TIME ? MSOCK_DERP_SERVER_TIMED_OUT : MSOCK_DERP_SERVER_DENIED,
      c);
  ev.cause = why;
  ev.has_key = true;
  ev.key = c->who;
  relay_emit(s, &ev);
  s->stats.refused[why]++;
  c->was_denied = true;
  c->was_asked = false;
  relay_finish_told(s, now_us, c, why);
}

static msock_derp_cause may_log_in(const msock_derp_server *s, const relay_conn *c) {
  if (s->is_draining) {
    return MSOCK_DERP_CAUSE_RESTART;
  }
  if (c->is_mesh) {
    return MSOCK_DERP_CAUSE_NONE;
  }
  const msock_derp_cause ban = relay_is_banned(s, &c->who, &c->from);
  if (ban != MSOCK_DERP_CAUSE_NONE) {
    return ban;
  }
  const relay_key *k = relay_key_find(s, &c->who);
  if (s->set.conns > 0 && s->stats.conns - s->stats.mesh >= s->set.conns) {
    return MSOCK_DERP_CAUSE_CONNS;
  }
  if (k != NULL && s->set.conns_per_key > 0 && k->n_conns >= s->set.conns_per_key) {
    return MSOCK_DERP_CAUSE_CONNS_PER_KEY;
  }
  if (k != NULL && k->quota == RELAY_QUOTA_OVER && s->set.throttle.per_s == 0) {
    return MSOCK_DERP_CAUSE_QUOTA;
  }
  return MSOCK_DERP_CAUSE_NONE;
}

/* --- admitted --- */

static bool send_server_info(msock_derp_server *s, relay_conn *c) {
  static const msock_derp_server_info mine = {.version = MSOCK_DERP_PROTOCOL_VERSION};
  uint8_t frame[MSOCK_DERP_LOGIN_FRAME_MAX];
  const ptrdiff_t n =
      msock_derp_server_info_seal(&mine, &s->key, &c->who, s->env, frame, sizeof frame);
  return n > 0 && relay_notice(s, c, frame, (size_t)n);
}

/* On a grid, so that thousands of connections wake the process a few times a second. Both the first
 * and the later distances are 60..65 s. */
static void start_keep_alive(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  const uint64_t steps = MSOCK_DERP_SERVER_KEEPALIVE_SPREAD_US / RELAY_KEEPALIVE_GRID_US;
  c->period_us =
      MSOCK_DERP_SERVER_KEEPALIVE_US + msock_env_uniform(s->env, steps) * RELAY_KEEPALIVE_GRID_US;
  const uint64_t due = now_us + c->period_us + RELAY_KEEPALIVE_GRID_US - 1;
  c->keepalive_us = due - due % RELAY_KEEPALIVE_GRID_US;
}

static void count_join(msock_derp_server *s, const relay_conn *c) {
  const relay_key *k = c->key;
  s->stats.logins++;
  s->stats.keys += k->n_conns == 1;
  s->stats.conns++;
  s->stats.mesh += c->is_mesh;
  s->stats.not_ideal += c->is_not_ideal;
  if (k->n_conns > 1) {
    s->stats.dup_conns_total++;
    s->stats.dup_keys += k->n_conns == 2;
    s->stats.dup_conns += k->n_conns == 2 ? 2 : 1;
  }
}

static void count_leave(msock_derp_server *s, const relay_conn *c) {
  const uint32_t n = c->key->n_conns; /* without it */
  s->stats.conns--;
  s->stats.keys -= n == 0;
  s->stats.mesh -= c->is_mesh;
  s->stats.not_ideal -= c->is_not_ideal;
  s->stats.home -= c->is_home;
  if (n > 0) {
    s->stats.dup_keys -= n == 1;
    s->stats.dup_conns -= n == 1 ? 2 : 1;
  }
}

static void join(msock_derp_server *s, uint64_t now_us, relay_conn *c, relay_key *k) {
  relay_leave_half(s, c);
  c->phase = RELAY_UP;
  c->key = k;
  c->same_key = k->conns;
  k->conns = k->active = c;
  k->n_conns++;
  c->spoke = ++s->order;
  c->since_us = c->window_us = c->gone_full_us = now_us;
  c->gone_tokens = MSOCK_DERP_SERVER_GONE_BURST;
  c->login_us = MSOCK_NEVER;
  c->lease_us =
      s->set.admission == MSOCK_DERP_ADMIT_ASK && s->set.admission_ttl_us > 0 && !c->is_mesh
          ? now_us + s->set.admission_ttl_us
          : MSOCK_NEVER;
  start_keep_alive(s, now_us, c);
  relay_arm(s, now_us, c);
  count_join(s, c);
  if (s->has_rates && !c->is_mesh) { /* who owed when it left is not read before that is over */
    relay_charge(s, now_us, c, 0);
  }
  relay_tell_present(s, c);
}

static void admit(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  relay_key *k = relay_key_get(s, &c->who);
  if (k == NULL || !send_server_info(s, c)) {
    if (k != NULL && k->n_conns == 0) {
      relay_key_release(s, now_us, k);
    }
    relay_kill(s, c, MSOCK_DERP_CAUSE_MEMORY);
    return;
  }
  const bool renewed = k->n_conns > 0;
  join(s, now_us, c, k);
  msock_derp_server_event ev = relay_event(s, now_us, MSOCK_DERP_SERVER_OPENED, c);
  relay_emit(s, &ev);
  ev.kind = MSOCK_DERP_SERVER_ADMITTED;
  ev.renewed = renewed;
  relay_emit(s, &ev);
}

/* --- asked --- */

static void ask(msock_derp_server *s, relay_conn *c) {
  c->was_asked = true;
  if (!relay_ring_has(&c->question)) {
    relay_ring_add(&s->questions, &c->question);
  }
}

void relay_log_in(msock_derp_server *s, uint64_t now_us, relay_conn *c, const uint8_t *payload,
                  size_t len) {
  msock_derp_client_info info;
  if (msock_derp_client_info_open(payload, len, &s->key, &c->who, &info) != MSOCK_OK) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_LOGIN);
    return;
  }
  c->is_mesh = info.has_mesh_key && s->set.has_mesh_key &&
               msock_ct_equal(info.mesh_key, s->set.mesh_key, sizeof info.mesh_key);
  c->is_prober = info.is_prober;
  msock_wipe(info.mesh_key, sizeof info.mesh_key);
  s->stats.accepted++;
  const msock_derp_cause why = may_log_in(s, c);
  if (why != MSOCK_DERP_CAUSE_NONE) {
    deny(s, now_us, c, why);
  } else if (c->is_mesh || s->set.admission == MSOCK_DERP_ADMIT_ALL) {
    admit(s, now_us, c);
  } else {
    c->phase = RELAY_ASKED;
    ask(s, c);
  }
}

bool msock_derp_server_next_question(msock_derp_server *s, msock_derp_question *q) {
  if (relay_ring_is_empty(&s->questions)) {
    return false;
  }
  relay_conn *c = RELAY_OF(relay_conn, question, s->questions.next);
  relay_ring_remove(&c->question);
  *q = (msock_derp_question){.conn = c->id,
                             .key = c->who,
                             .from = c->from,
                             .is_prober = c->is_prober,
                             .renewal = c->phase == RELAY_UP,
                             .deadline_us = c->phase == RELAY_UP ? c->lease_us : c->login_us};
  return true;
}

/* What came while the owner was asked. */
static void replay(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  relay_buf *b = c->rx;
  c->rx = NULL;
  if (b != NULL) {
    (void)relay_feed_frames(s, now_us, c, b->data, b->len);
    relay_buf_free(&s->pool, b);
  }
  relay_wake(s, c); /* it may be read again */
}

/* An admitted client is admitted once more. */
static void renew(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  msock_derp_server_event ev = relay_event(s, now_us, MSOCK_DERP_SERVER_ADMITTED, c);
  ev.renewed = true;
  c->lease_us = s->set.admission_ttl_us > 0 ? now_us + s->set.admission_ttl_us : MSOCK_NEVER;
  relay_arm(s, now_us, c);
  relay_emit(s, &ev);
}

void msock_derp_server_answer(msock_derp_server *s, uint64_t now_us, uint32_t conn, bool yes) {
  relay_conn *c = relay_find(s, conn);
  if (c == NULL || c->dead || !c->was_asked || c->phase == RELAY_LEFT) {
    return;
  }
  c->was_asked = false;
  relay_ring_remove(&c->question);
  msock_derp_cause why = yes ? MSOCK_DERP_CAUSE_NONE : MSOCK_DERP_CAUSE_ADMISSION;
  if (c->phase == RELAY_ASKED && yes) { /* much may have happened since */
    why = may_log_in(s, c);
  }
  if (why != MSOCK_DERP_CAUSE_NONE) {
    deny(s, now_us, c, why);
  } else if (c->phase == RELAY_UP) {
    renew(s, now_us, c);
  } else {
    admit(s, now_us, c);
    replay(s, now_us, c);
  }
}

void relay_asked_in_vain(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  deny(s, now_us, c, MSOCK_DERP_CAUSE_LOGIN_TIME);
}

void relay_ask_again(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  if (c->phase != RELAY_UP) {
    return;
  }
  if (c->was_asked) { /* no answer since */
    relay_asked_in_vain(s, now_us, c);
  } else if (s->set.admission == MSOCK_DERP_ADMIT_ASK) {
    c->lease_us = now_us + s->set.login_us;
    ask(s, c);
  }
}

/* --- gone --- */

static void unchain(relay_conn *c) {
  relay_key *k = c->key;
  relay_conn **at = &k->conns;
  while (*at != c) {
    at = &(*at)->same_key;
  }
  *at = c->same_key;
  k->n_conns--;
  if (k->active == c) { /* the one that spoke last takes over (derp.md 4.2) */
    k->active = k->conns;
    for (relay_conn *o = k->conns; o != NULL; o = o->same_key) {
      k->active = o->spoke > k->active->spoke ? o : k->active;
    }
  }
}

void relay_leave(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  relay_key *k = c->key;
  msock_derp_server_event ev = relay_event(s, now_us, MSOCK_DERP_SERVER_CLOSED, c);
  relay_unwatch(s, c);
  unchain(c);
  relay_clone_left(s, k);
  count_leave(s, c);
  ev.count = k->n_conns;
  ev.total = (uint32_t)s->stats.conns;
  relay_ring_remove(&c->held_link);
  relay_ring_remove(&c->question);
  c->held = c->was_asked = false;
  c->flow = NULL;
  c->keepalive_us = c->lease_us = c->resume_us = MSOCK_NEVER;
  c->phase = RELAY_LEFT;
  if (k->n_conns == 0) {
    if (k->remotes == NULL) { /* else it is still in the region */
      relay_flows_leave(s, now_us, k);
    }
    relay_tell_absent(s, c);
    relay_key_release(s, now_us, k);
  }
  c->key = NULL;
  relay_emit(s, &ev);
}
