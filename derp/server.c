#include "derp/server.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "derp/server_internal.h"

#define NO_SLOT UINT32_MAX
#define FIRST_SLOTS 64u
#define HELD_MAX (128u << 10) /* bytes that may come while the owner is asked: eight reads */

/* --- the machine --- */

msock_derp_server *msock_derp_server_new(const msock_env *env, const msock_node_private *key) {
  _Static_assert(1u << RELAY_SLOT_BITS == MSOCK_DERP_SERVER_CONNS_MAX, "ids hold the slot");
  msock_derp_server *s = calloc(1, sizeof *s);
  if (s == NULL) {
    return NULL;
  }
  relay_link *const rings[] = {&s->wakes, &s->half,          &s->questions,
                               &s->held,  &s->idle_prefixes, &s->flows_by_age};
  for (size_t i = 0; i < sizeof rings / sizeof *rings; i++) {
    relay_ring_init(rings[i]);
  }
  s->env = env;
  s->key = *key;
  s->public_key = msock_node_private_public(key);
  s->set = msock_derp_server_settings_default();
  s->pool.max = s->set.memory_bytes;
  s->free_first = s->free_last = NO_SLOT;
  s->total_timer.kind = RELAY_TIMER_TOTAL;
  s->idle_timer.kind = RELAY_TIMER_IDLE;
  env->random(env->ctx, &s->seed, sizeof s->seed);
  relay_wheel_init(&s->wheel);
  relay_table *const tables[] = {&s->keys, &s->prefixes, &s->flows, &s->bans};
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
    if (!relay_table_init(tables[i])) {
      msock_derp_server_free(s);
      return NULL;
    }
  }
  return s;
}

static void free_conn(msock_derp_server *s, relay_conn *c) {
  relay_drop_queues(s, c);
  relay_buf_free(&s->pool, c->rx);
  free(c);
}

void msock_derp_server_free(msock_derp_server *s) {
  if (s == NULL) {
    return;
  }
  for (uint32_t i = 0; i < s->n_slots; i++) {
    if (s->slots[i].c != NULL) {
      free_conn(s, s->slots[i].c);
    }
  }
  relay_keys_free(s);
  relay_prefixes_free(s);
  relay_bans_free(s);
  relay_table_free(&s->flows);
  relay_pool_free(&s->pool);
  free(s->slots);
  free(s->events);
  msock_wipe(&s->key, sizeof s->key);
  msock_wipe(&s->set, sizeof s->set);
  free(s);
}

msock_err msock_derp_server_configure(msock_derp_server *s, uint64_t now_us,
                                      const msock_derp_server_settings *settings) {
  if (msock_derp_server_settings_check(settings) != NULL) {
    return MSOCK_ERR_INVALID;
  }
  s->set = *settings;
  s->pool.max = settings->memory_bytes;
  relay_limits_changed(s, now_us);
  return MSOCK_OK;
}

/* --- ids --- */

relay_conn *relay_find(const msock_derp_server *s, uint32_t conn) {
  const uint32_t i = conn & (MSOCK_DERP_SERVER_CONNS_MAX - 1);
  relay_conn *c = i < s->n_slots ? s->slots[i].c : NULL;
  return c != NULL && c->id == conn ? c : NULL;
}

static bool more_slots(msock_derp_server *s) {
  const uint32_t n = s->n_slots > 0 ? 2 * s->n_slots : FIRST_SLOTS;
  relay_slot *slots =
      n <= MSOCK_DERP_SERVER_CONNS_MAX ? realloc(s->slots, n * sizeof *slots) : NULL;
  if (slots == NULL) {
    return false;
  }
  for (uint32_t i = s->n_slots; i < n; i++) {
    slots[i] = (relay_slot){.next_free = i + 1 < n ? i + 1 : NO_SLOT};
  }
  s->free_first = s->n_slots;
  s->free_last = n - 1;
  s->slots = slots;
  s->n_slots = n;
  return true;
}

static bool take_slot(msock_derp_server *s, relay_conn *c) {
  if (s->free_first == NO_SLOT && !more_slots(s)) {
    return false;
  }
  const uint32_t i = s->free_first;
  relay_slot *slot = &s->slots[i];
  s->free_first = slot->next_free;
  if (s->free_first == NO_SLOT) {
    s->free_last = NO_SLOT;
  }
  slot->c = c;
  slot->generation++;
  c->id = slot->generation << RELAY_SLOT_BITS | i;
  if (c->id == 0) { /* the generation came round */
    c->id = ++slot->generation << RELAY_SLOT_BITS | i;
  }
  s->n_open++;
  return true;
}

static void give_slot(msock_derp_server *s, uint32_t conn) {
  const uint32_t i = conn & (MSOCK_DERP_SERVER_CONNS_MAX - 1);
  s->slots[i].c = NULL;
  s->slots[i].next_free = NO_SLOT;
  if (s->free_last != NO_SLOT) {
    s->slots[s->free_last].next_free = i;
  } else {
    s->free_first = i;
  }
  s->free_last = i;
  s->n_open--;
}

/* --- a connection comes --- */

void relay_leave_half(msock_derp_server *s, relay_conn *c) {
  if (relay_ring_has(&c->half)) {
    relay_ring_remove(&c->half);
    s->n_half--;
  }
}

static void displace_oldest(msock_derp_server *s) {
  relay_conn *c = RELAY_OF(relay_conn, half, s->half.next);
  relay_leave_half(s, c);
  relay_kill(s, c, MSOCK_DERP_CAUSE_DISPLACED);
}

relay_conn *relay_conn_new(msock_derp_server *s, uint64_t now_us, const msock_addr *from) {
  relay_conn *c = calloc(1, sizeof *c);
  if (c == NULL || !take_slot(s, c)) {
    free(c);
    return NULL;
  }
  c->phase = RELAY_HTTP;
  c->from = from != NULL ? *from : (msock_addr){0};
  c->since_us = now_us;
  c->login_us = now_us + s->set.login_us;
  c->keepalive_us = c->stall_us = c->close_us = c->lease_us = c->resume_us = MSOCK_NEVER;
  c->timer.kind = RELAY_TIMER_CONN;
  if (s->n_half >= s->set.half_open) {
    displace_oldest(s);
  }
  relay_ring_add(&s->half, &c->half);
  s->n_half++;
  relay_arm(s, now_us, c);
  return c;
}

static msock_err refuse(msock_derp_server *s, uint64_t now_us, const msock_addr *from,
                        msock_derp_cause cause, msock_derp_cause *why) {
  msock_derp_server_event ev = relay_event(s, now_us, MSOCK_DERP_SERVER_DENIED, NULL);
  ev.cause = cause;
  ev.from = from != NULL ? *from : (msock_addr){0};
  s->stats.refused[cause]++;
  relay_emit(s, &ev);
  if (why != NULL) {
    *why = cause;
  }
  return MSOCK_ERR_DENIED;
}

msock_err msock_derp_server_accept(msock_derp_server *s, uint64_t now_us, const msock_addr *from,
                                   uint32_t *conn, msock_derp_cause *why) {
  const msock_derp_cause cause =
      s->is_draining ? MSOCK_DERP_CAUSE_RESTART : relay_may_accept(s, now_us, from);
  if (cause != MSOCK_DERP_CAUSE_NONE) {
    return refuse(s, now_us, from, cause, why);
  }
  relay_conn *c = relay_conn_new(s, now_us, from);
  if (c == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  (void)relay_join_prefix(s, c); /* relay_may_accept has seen that there is room */
  *conn = c->id;
  return MSOCK_OK;
}

msock_err msock_derp_server_open(msock_derp_server *s, uint64_t now_us, uint32_t *conn) {
  return msock_derp_server_accept(s, now_us, NULL, conn, NULL) == MSOCK_OK ? MSOCK_OK
                                                                           : MSOCK_ERR_NOMEM;
}

msock_err msock_derp_server_set_from(msock_derp_server *s, uint64_t now_us, uint32_t conn,
                                     const msock_addr *from) {
  relay_conn *c = relay_find(s, conn);
  if (c == NULL || c->phase >= RELAY_UP) {
    return MSOCK_OK;
  }
  relay_leave_prefix(s, c);
  c->from = *from;
  msock_derp_cause cause = relay_is_banned(s, NULL, from);
  if (cause == MSOCK_DERP_CAUSE_NONE && !relay_join_prefix(s, c)) {
    cause = MSOCK_DERP_CAUSE_CONNS_PER_PREFIX;
  }
  if (cause == MSOCK_DERP_CAUSE_NONE) {
    return MSOCK_OK;
  }
  c->was_denied = true;
  relay_kill(s, c, cause);
  return refuse(s, now_us, from, cause, NULL);
}

/* --- and goes --- */

void relay_wake(msock_derp_server *s, relay_conn *c) {
  if (!relay_ring_has(&c->wake)) {
    relay_ring_add(&s->wakes, &c->wake);
  }
}

static void set_cause(relay_conn *c, msock_derp_cause why) {
  c->cause = c->cause == MSOCK_DERP_CAUSE_NONE ? why : c->cause;
}

void relay_kill(msock_derp_server *s, relay_conn *c, msock_derp_cause why) {
  set_cause(c, why);
  c->dead = true;
  relay_wake(s, c);
}

void relay_finish(msock_derp_server *s, uint64_t now_us, relay_conn *c, msock_derp_cause why) {
  set_cause(c, why);
  if (c->phase == RELAY_UP) {
    relay_leave(s, now_us, c);
  }
  relay_ring_remove(&c->question);
  relay_buf_free(&s->pool, c->rx);
  c->rx = NULL;
  c->phase = RELAY_LEFT;
  relay_wake(s, c);
}

void relay_finish_told(msock_derp_server *s, uint64_t now_us, relay_conn *c, msock_derp_cause why) {
  if (s->set.refusal_us == 0) {
    relay_kill(s, c, why);
    return;
  }
  const char *text = msock_derp_cause_text(why);
  const msock_derp_frame f = {.type = MSOCK_DERP_HEALTH,
                              .u.health = {.text = text, .len = strlen(text)}};
  relay_finish(s, now_us, c, why);
  relay_drop_waiting(s, c);
  (void)relay_notice_frame(s, c, &f);
  c->linger = true;
  c->login_us = MSOCK_NEVER;
  c->close_us = now_us + s->set.refusal_us;
  relay_arm(s, now_us, c);
}

/* It ended before it was logged in. */
static void report_failed(msock_derp_server *s, uint64_t now_us, const relay_conn *c) {
  msock_derp_server_event ev = relay_event(s, now_us, MSOCK_DERP_SERVER_FAILED, c);
  s->stats.login_failures +=
      c->cause == MSOCK_DERP_CAUSE_LOGIN || c->cause == MSOCK_DERP_CAUSE_LOGIN_TIME;
  relay_emit(s, &ev);
}

void msock_derp_server_close(msock_derp_server *s, uint64_t now_us, uint32_t conn) {
  relay_conn *c = relay_find(s, conn);
  if (c == NULL) {
    return;
  }
  set_cause(c, MSOCK_DERP_CAUSE_EOF);
  if (c->phase == RELAY_UP) {
    relay_leave(s, now_us, c);
  } else if (c->phase == RELAY_LINK) {
    relay_link_lost(s, now_us, c);
    if (!c->is_linked) {
      report_failed(s, now_us, c);
    }
  } else if (c->phase != RELAY_LEFT && !c->was_denied) {
    report_failed(s, now_us, c);
  }
  s->stats.closed[c->cause]++;
  relay_leave_half(s, c);
  relay_leave_prefix(s, c);
  relay_ring_remove(&c->wake);
  relay_ring_remove(&c->question);
  relay_ring_remove(&c->held_link);
  relay_wheel_arm(&s->wheel, now_us, &c->timer, MSOCK_NEVER);
  give_slot(s, conn);
  free_conn(s, c);
}

/* --- bytes in --- */

/* What comes while the owner is asked; it should not be read then. */
static void stash(msock_derp_server *s, relay_conn *c, const uint8_t *p, size_t len) {
  const size_t have = c->rx != NULL ? c->rx->len : 0;
  relay_buf *rx = have + len <= HELD_MAX ? relay_buf_fit(&s->pool, c->rx, have + len) : NULL;
  if (rx == NULL) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_MEMORY);
    return;
  }
  memcpy(rx->data + have, p, len);
  rx->len = (uint32_t)(have + len);
  c->rx = rx;
}

msock_err msock_derp_server_feed(msock_derp_server *s, uint64_t now_us, uint32_t conn,
                                 const uint8_t *p, size_t len) {
  relay_conn *c = relay_find(s, conn);
  if (c == NULL) {
    return MSOCK_ERR_CLOSED;
  }
  while (len > 0 && c->phase == RELAY_HTTP && !c->dead) {
    const size_t used = relay_feed_http(s, now_us, c, p, len);
    p += used;
    len -= used;
  }
  while (len > 0 && c->phase == RELAY_LINK_HEAD && !c->dead) {
    const size_t used = relay_feed_link_head(s, c, p, len);
    p += used;
    len -= used;
  }
  if (len > 0 && !c->dead &&
      (c->phase == RELAY_LOGIN || c->phase == RELAY_UP || c->phase == RELAY_LINK)) {
    const size_t used = relay_feed_frames(s, now_us, c, p, len);
    p += used;
    len -= used;
  }
  if (len > 0 && !c->dead && c->phase == RELAY_ASKED) {
    stash(s, c, p, len);
  }
  if (c->dead || c->phase == RELAY_LEFT) {
    return MSOCK_ERR_CLOSED;
  }
  return c->held || c->phase == RELAY_ASKED ? MSOCK_ERR_AGAIN : MSOCK_OK;
}

bool msock_derp_server_wants_read(const msock_derp_server *s, uint32_t conn) {
  const relay_conn *c = relay_find(s, conn);
  return c != NULL && !c->dead && !c->held && c->phase != RELAY_ASKED && c->phase != RELAY_LEFT;
}

bool msock_derp_server_is_done(const msock_derp_server *s, uint32_t conn) {
  const relay_conn *c = relay_find(s, conn);
  return c == NULL || c->dead || (c->phase == RELAY_LEFT && !c->linger && !relay_has_output(c));
}

bool msock_derp_server_next_wake(msock_derp_server *s, uint32_t *conn) {
  if (relay_ring_is_empty(&s->wakes)) {
    return false;
  }
  relay_conn *c = RELAY_OF(relay_conn, wake, s->wakes.next);
  relay_ring_remove(&c->wake);
  *conn = c->id;
  return true;
}

/* --- time --- */

static uint64_t earlier(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

void relay_arm(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  uint64_t due = earlier(earlier(c->login_us, c->keepalive_us), c->stall_us);
  due = earlier(due, earlier(earlier(c->close_us, c->lease_us), c->resume_us));
  c->stall_armed = c->stall_us != MSOCK_NEVER;
  relay_wheel_arm(&s->wheel, now_us, &c->timer, c->dead ? MSOCK_NEVER : due);
}

/* The write that was begun last has not been taken whole: only now its deadline is worth a timer.
 */
void relay_settle(msock_derp_server *s, uint64_t now_us) {
  relay_conn *c = relay_find(s, s->unsettled);
  s->unsettled = 0;
  if (c != NULL && c->stall_us != MSOCK_NEVER && !c->stall_armed) {
    relay_arm(s, now_us, c);
  }
}

uint64_t msock_derp_server_next_expiry(msock_derp_server *s) {
  relay_settle(s, 0);
  return relay_wheel_next(&s->wheel);
}

static void keep_alive(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  c->keepalive_us += c->period_us;
  if (c->keepalive_us <= now_us) { /* the process slept: no burst afterwards */
    c->keepalive_us = now_us - now_us % RELAY_KEEPALIVE_GRID_US + c->period_us;
  }
  c->keepalive_due = true;
  relay_wake(s, c);
}

static void login_is_late(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  if (c->phase == RELAY_ASKED) {
    relay_asked_in_vain(s, now_us, c);
  } else {
    relay_kill(s, c, MSOCK_DERP_CAUSE_LOGIN_TIME);
  }
}

static void conn_expired(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  if (c->stall_us <= now_us) {
    s->stats.stalls++;
    relay_kill(s, c, MSOCK_DERP_CAUSE_STALL);
    return;
  }
  if (c->login_us <= now_us) {
    c->login_us = MSOCK_NEVER;
    login_is_late(s, now_us, c);
  }
  if (c->close_us <= now_us) {
    c->close_us = MSOCK_NEVER;
    c->linger = false;
    relay_finish(s, now_us, c, MSOCK_DERP_CAUSE_RESTART);
  }
  if (c->lease_us <= now_us && c->phase == RELAY_LINK) {
    relay_link_silent(s, now_us, c);
  } else if (c->lease_us <= now_us) {
    c->lease_us = MSOCK_NEVER;
    relay_ask_again(s, now_us, c);
  }
  if (c->resume_us <= now_us) {
    c->resume_us = MSOCK_NEVER;
    relay_try_resume(s, now_us, c);
  }
  if (c->keepalive_us <= now_us) {
    keep_alive(s, now_us, c);
  }
  relay_arm(s, now_us, c);
}

void msock_derp_server_on_expiry(msock_derp_server *s, uint64_t now_us) {
  relay_timer *t;
  relay_settle(s, now_us);
  while ((t = relay_wheel_pop(&s->wheel, now_us)) != NULL) {
    if (t->kind == RELAY_TIMER_CONN) {
      conn_expired(s, now_us, RELAY_OF(relay_conn, timer, t));
    } else if (t->kind == RELAY_TIMER_FLOW) {
      relay_flow_expired(s, now_us, RELAY_OF(relay_flow, timer, t));
    } else if (t->kind == RELAY_TIMER_IDLE) {
      relay_idle_expired(s, now_us);
    } else {
      relay_total_expired(s, now_us);
    }
  }
}

/* --- what is now --- */

msock_node_key msock_derp_server_key(const msock_derp_server *s) {
  return s->public_key;
}

size_t msock_derp_server_count(const msock_derp_server *s) {
  return (size_t)s->stats.conns;
}

size_t msock_derp_server_count_all(const msock_derp_server *s) {
  return s->n_open;
}
