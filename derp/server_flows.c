/* derp/server_flows.c: who sends to whom: limits on it, events about it, and the memory of who has
 * to be told when somebody leaves. */
#include <stdlib.h>

#include "derp/server_internal.h"

#define DENIED_EVERY_US MSOCK_SEC /* a refused flow is reported so often, per sender */
#define SECOND_CHANCES 64u        /* flows that are looked at for one that is unused */

static uint64_t hash_of(const msock_derp_server *s, const relay_key *src, const relay_key *dst) {
  const uint64_t pair[2] = {src->hash.hash, dst->hash.hash};
  return relay_hash_bytes(s->seed, pair, sizeof pair);
}

static relay_flow *find(const msock_derp_server *s, const relay_key *src, const relay_key *dst) {
  const uint64_t hash = hash_of(s, src, dst);
  for (relay_hash *h = relay_table_first(&s->flows, hash); h != NULL; h = h->next) {
    relay_flow *f = RELAY_OF(relay_flow, hash, h);
    if (h->hash == hash && f->src == src && f->dst == dst) {
      return f;
    }
  }
  return NULL;
}

static void report(msock_derp_server *s, uint64_t now_us, const relay_flow *f,
                   msock_derp_server_event_kind kind, msock_derp_cause why) {
  msock_derp_server_event ev = relay_event(s, now_us, kind, NULL);
  ev.cause = why;
  ev.has_key = true;
  ev.key = f->src->key;
  ev.peer = f->dst->key;
  ev.count = f->src->n_flows;
  if (kind == MSOCK_DERP_SERVER_FLOW_CLOSED) {
    ev.duration_us = now_us - f->opened_us;
    ev.bytes_in = f->bytes - f->before;
    ev.packets_in = f->packets;
  }
  relay_emit(s, &ev);
}

/* OPEN no more. */
static void end(msock_derp_server *s, uint64_t now_us, relay_flow *f, msock_derp_cause why,
                relay_flow_state state) {
  if (f->state != RELAY_FLOW_OPEN) {
    return;
  }
  f->state = state;
  f->src->n_flows--;
  s->stats.flows_open--;
  s->stats.flows_closed++;
  s->stats.flow_bytes += f->bytes - f->before;
  f->paused_us = now_us + s->set.flow_pause_us;
  relay_wheel_arm(&s->wheel, now_us, &f->timer, MSOCK_NEVER);
  report(s, now_us, f, MSOCK_DERP_SERVER_FLOW_CLOSED, why);
}

void relay_flow_free(msock_derp_server *s, relay_flow *f) {
  for (relay_conn *c = f->src->conns; c != NULL; c = c->same_key) {
    c->flow = c->flow == f ? NULL : c->flow;
  }
  relay_wheel_arm(&s->wheel, 0, &f->timer, MSOCK_NEVER);
  relay_ring_remove(&f->out);
  relay_ring_remove(&f->in);
  relay_ring_remove(&f->age);
  relay_table_remove(&s->flows, &f->hash);
  free(f);
}

/* Room for one more: the oldest goes that was not used since it was last looked at. */
static void make_room(msock_derp_server *s, uint64_t now_us) {
  for (unsigned i = 0; s->flows.n >= s->set.flows; i++) {
    relay_flow *f = RELAY_OF(relay_flow, age, s->flows_by_age.next);
    if (i < SECOND_CHANCES && f->last_us > f->aged_us) {
      f->aged_us = now_us;
      relay_ring_remove(&f->age);
      relay_ring_add(&s->flows_by_age, &f->age);
      continue;
    }
    end(s, now_us, f, MSOCK_DERP_CAUSE_FLOW_ROOM, RELAY_FLOW_QUIET);
    relay_flow_free(s, f);
  }
}

static relay_flow *make(msock_derp_server *s, uint64_t now_us, relay_key *src, relay_key *dst) {
  make_room(s, now_us);
  relay_flow *f = calloc(1, sizeof *f);
  if (f == NULL) {
    return NULL;
  }
  f->src = src;
  f->dst = dst;
  f->state = RELAY_FLOW_QUIET;
  f->aged_us = now_us;
  f->timer.kind = RELAY_TIMER_FLOW;
  relay_ring_add(&src->out, &f->out);
  relay_ring_add(&dst->in, &f->in);
  relay_ring_add(&s->flows_by_age, &f->age);
  relay_table_add(&s->flows, &f->hash, hash_of(s, src, dst));
  return f;
}

static void arm(msock_derp_server *s, uint64_t now_us, relay_flow *f) {
  const uint64_t idle_us = f->last_us + s->set.flow_idle_us;
  const uint64_t end_us = s->set.flow_us > 0 ? f->start_us + s->set.flow_us : MSOCK_NEVER;
  relay_wheel_arm(&s->wheel, now_us, &f->timer, idle_us < end_us ? idle_us : end_us);
}

static bool is_full(const msock_derp_server *s, const relay_key *src, const relay_conn *from) {
  return s->set.flows_per_key > 0 && src->n_flows >= s->set.flows_per_key && !from->is_mesh;
}

static void deny(msock_derp_server *s, uint64_t now_us, relay_key *src, const relay_key *dst) {
  s->stats.refused[MSOCK_DERP_CAUSE_FLOWS_PER_KEY]++;
  if (src->denied_us != 0 && now_us - src->denied_us < DENIED_EVERY_US) {
    return;
  }
  msock_derp_server_event ev = relay_event(s, now_us, MSOCK_DERP_SERVER_FLOW_DENIED, NULL);
  src->denied_us = now_us;
  ev.cause = MSOCK_DERP_CAUSE_FLOWS_PER_KEY;
  ev.has_key = true;
  ev.key = src->key;
  ev.peer = dst->key;
  ev.count = src->n_flows;
  relay_emit(s, &ev);
}

/* Until when a flow that is not open keeps what its limits have counted: a limit's pause; when an
 * end has left, the moment at which the flow would have ended had nobody left. */
static uint64_t kept_until(const msock_derp_server *s, const relay_flow *f) {
  if (f->state == RELAY_FLOW_PAUSED) {
    return f->paused_us;
  }
  if (f->state != RELAY_FLOW_LEFT || (s->set.flow_us == 0 && s->set.flow_bytes == 0)) {
    return 0;
  }
  const uint64_t idle_us = f->last_us + s->set.flow_idle_us;
  if (s->set.flow_us > 0 && f->start_us + s->set.flow_us <= idle_us) {
    return f->start_us + s->set.flow_us + s->set.flow_pause_us;
  }
  return idle_us;
}

static bool reopen(msock_derp_server *s, uint64_t now_us, relay_conn *from, relay_flow *f) {
  if (f->state == RELAY_FLOW_PAUSED && now_us < f->paused_us) {
    return false;
  }
  const bool goes_on = f->state == RELAY_FLOW_LEFT && now_us < kept_until(s, f) && !from->is_mesh;
  if (goes_on && s->set.flow_us > 0 && now_us - f->start_us >= s->set.flow_us) {
    return false; /* its time was up meanwhile: the pause */
  }
  if (is_full(s, f->src, from)) {
    deny(s, now_us, f->src, f->dst);
    return false;
  }
  if (!goes_on) {
    f->start_us = now_us;
    f->bytes = 0;
  }
  f->state = RELAY_FLOW_OPEN;
  f->opened_us = f->last_us = now_us;
  f->before = f->bytes;
  f->packets = 0;
  f->src->n_flows++;
  s->stats.flows_open++;
  s->stats.flows_opened++;
  arm(s, now_us, f);
  report(s, now_us, f, MSOCK_DERP_SERVER_FLOW_OPENED, MSOCK_DERP_CAUSE_NONE);
  return true;
}

/* False: a limit has ended it now. */
static bool within(msock_derp_server *s, uint64_t now_us, const relay_conn *from, relay_flow *f,
                   size_t len) {
  if (from->is_mesh) {
    return true;
  }
  if (s->set.flow_us > 0 && now_us - f->start_us >= s->set.flow_us) {
    end(s, now_us, f, MSOCK_DERP_CAUSE_FLOW_TIME, RELAY_FLOW_PAUSED);
  } else if (s->set.flow_bytes > 0 && f->bytes + len > s->set.flow_bytes) {
    end(s, now_us, f, MSOCK_DERP_CAUSE_FLOW_BYTES, RELAY_FLOW_PAUSED);
  }
  return f->state == RELAY_FLOW_OPEN;
}

relay_flow *relay_flow_pass(msock_derp_server *s, uint64_t now_us, relay_conn *from, relay_key *dst,
                            size_t len) {
  relay_flow *f = from->flow;
  if (f == NULL || f->dst != dst) {
    f = find(s, from->key, dst);
    if (f == NULL && is_full(s, from->key, from)) { /* leaves no trace: no table to fill */
      deny(s, now_us, from->key, dst);
      return NULL;
    }
    if (f == NULL && (f = make(s, now_us, from->key, dst)) == NULL) {
      return NULL;
    }
    from->flow = f;
  }
  if (f->state != RELAY_FLOW_OPEN && !reopen(s, now_us, from, f)) {
    return NULL;
  }
  if (!within(s, now_us, from, f, len)) {
    return NULL;
  }
  f->last_us = now_us;
  f->bytes += len;
  f->packets++;
  return f;
}

relay_flow *relay_flow_note(msock_derp_server *s, uint64_t now_us, relay_key *src, relay_key *dst) {
  relay_flow *f = find(s, src, dst);
  return f != NULL ? f : make(s, now_us, src, dst);
}

void relay_flow_heard(relay_flow *f, const relay_conn *to) {
  for (uint32_t i = 0; i < f->n_heard; i++) {
    if (f->heard[i] == to->id) {
      return;
    }
  }
  if (f->n_heard == RELAY_HEARD_MAX) { /* the first of many that share a key is forgotten */
    for (uint32_t i = 1; i < RELAY_HEARD_MAX; i++) {
      f->heard[i - 1] = f->heard[i];
    }
    f->n_heard--;
  }
  f->heard[f->n_heard++] = to->id;
}

void relay_flow_expired(msock_derp_server *s, uint64_t now_us, relay_flow *f) {
  const bool is_late = s->set.flow_us > 0 && now_us - f->start_us >= s->set.flow_us;
  if (is_late) {
    end(s, now_us, f, MSOCK_DERP_CAUSE_FLOW_TIME, RELAY_FLOW_PAUSED);
  } else if (now_us - f->last_us >= s->set.flow_idle_us) {
    end(s, now_us, f, MSOCK_DERP_CAUSE_FLOW_IDLE, RELAY_FLOW_QUIET);
  } else {
    arm(s, now_us, f);
  }
}

/* An end of it has left. */
static void part(msock_derp_server *s, uint64_t now_us, relay_flow *f) {
  end(s, now_us, f, MSOCK_DERP_CAUSE_FLOW_LEFT, RELAY_FLOW_LEFT);
  f->n_heard = 0;
  if (kept_until(s, f) <= now_us) {
    relay_flow_free(s, f);
  }
}

void relay_flows_leave(msock_derp_server *s, uint64_t now_us, relay_key *k) {
  relay_link *next;
  for (relay_link *l = k->out.next; l != &k->out; l = next) {
    relay_flow *f = RELAY_OF(relay_flow, out, l);
    next = l->next;
    for (uint32_t i = 0; i < f->n_heard; i++) {
      relay_conn *c = relay_find(s, f->heard[i]);
      if (c != NULL && c->phase == RELAY_UP && c->key != k) {
        relay_tell_gone(s, c, &k->key, MSOCK_DERP_GONE_DISCONNECTED);
      }
    }
    part(s, now_us, f);
  }
  for (relay_link *l = k->in.next; l != &k->in; l = next) {
    next = l->next;
    part(s, now_us, RELAY_OF(relay_flow, in, l));
  }
}

uint64_t relay_flows_kept_until(const msock_derp_server *s, const relay_key *k) {
  uint64_t until_us = 0;
  for (const relay_link *l = k->out.next; l != &k->out; l = l->next) {
    const uint64_t t = kept_until(s, RELAY_OF(const relay_flow, out, l));
    until_us = t > until_us ? t : until_us;
  }
  for (const relay_link *l = k->in.next; l != &k->in; l = l->next) {
    const uint64_t t = kept_until(s, RELAY_OF(const relay_flow, in, l));
    until_us = t > until_us ? t : until_us;
  }
  return until_us;
}
