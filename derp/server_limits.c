/* derp/server_limits.c: token buckets, quotas, and what one address prefix may have.
 *
 * A bucket is charged for what was read already and may owe; a connection whose buckets owe is not
 * read until they do not. So a rate holds over time, and nothing is dropped. */
#include <stdlib.h>
#include <string.h>

#include "derp/server_internal.h"

#define READ_TOKENS 16384.0 /* what one resumed connection is expected to send: one read */
#define IDLE_PREFIXES_MAX 16384u
#define CHARGE_MAX MSOCK_DERP_SERVER_BURST_MIN /* of one frame: derp.md 4.4 */

/* --- buckets --- */

static double burst_of(msock_derp_rate r, bool bytes) {
  const uint64_t min = bytes ? MSOCK_DERP_SERVER_BURST_MIN : 1;
  return (double)(r.burst < min ? min : r.burst);
}

/* Time in which that many tokens come, rounded up. */
static uint64_t time_for(double tokens, msock_derp_rate r) {
  const double us = tokens * (double)MSOCK_SEC / (double)r.per_s;
  const uint64_t whole = (uint64_t)us;
  return (double)whole < us ? whole + 1 : whole;
}

static void refill(relay_bucket *b, uint64_t now_us, msock_derp_rate r, double burst) {
  if (b->at_us == 0) {
    b->tokens = burst;
  } else {
    const double more = (double)(now_us - b->at_us) * (double)r.per_s / (double)MSOCK_SEC;
    b->tokens = b->tokens + more < burst ? b->tokens + more : burst;
  }
  b->at_us = now_us;
}

/* One token, if there is one. */
static bool take(relay_bucket *b, uint64_t now_us, msock_derp_rate r) {
  if (r.per_s == 0) {
    return true;
  }
  refill(b, now_us, r, burst_of(r, false));
  if (b->tokens < 1.0) {
    return false;
  }
  b->tokens -= 1.0;
  return true;
}

/* When the bucket owes nothing any more; now_us: it owes nothing. */
static uint64_t charge(relay_bucket *b, uint64_t now_us, msock_derp_rate r, double bytes) {
  if (r.per_s == 0) {
    return now_us;
  }
  refill(b, now_us, r, burst_of(r, true));
  b->tokens -= bytes;
  return b->tokens >= 0 ? now_us : now_us + time_for(-b->tokens, r);
}

/* --- prefixes --- */

static bool has_prefix_limits(const msock_derp_server *s) {
  return s->set.conns_per_prefix > 0 || s->set.accept_prefix.per_s > 0 || s->set.prefix.per_s > 0;
}

static msock_ip mask(const msock_derp_server *s, const msock_ip *ip) {
  const msock_ip plain = msock_ip_unmap(*ip);
  const msock_prefix p = {.ip = plain,
                          .bits = plain.family == 4 ? s->set.prefix4_bits : s->set.prefix6_bits};
  return msock_prefix_mask(p).ip;
}

static uint64_t hash_of(const msock_derp_server *s, const msock_ip *ip) {
  return relay_hash_bytes(s->seed ^ ip->family, ip->b, sizeof ip->b);
}

static relay_prefix *find(const msock_derp_server *s, const msock_ip *ip) {
  const uint64_t hash = hash_of(s, ip);
  for (relay_hash *h = relay_table_first(&s->prefixes, hash); h != NULL; h = h->next) {
    relay_prefix *p = RELAY_OF(relay_prefix, hash, h);
    if (h->hash == hash && msock_ip_equal(&p->ip, ip)) {
      return p;
    }
  }
  return NULL;
}

static void forget(msock_derp_server *s, relay_prefix *p) {
  if (relay_ring_has(&p->idle)) {
    relay_ring_remove(&p->idle);
    s->n_idle_prefixes--;
  }
  relay_table_remove(&s->prefixes, &p->hash);
  free(p);
}

/* Has no connection: it is kept for its buckets, the longest idle first to go. */
static void rest(msock_derp_server *s, relay_prefix *p) {
  if (s->n_idle_prefixes >= IDLE_PREFIXES_MAX) {
    forget(s, RELAY_OF(relay_prefix, idle, s->idle_prefixes.next));
  }
  relay_ring_add(&s->idle_prefixes, &p->idle);
  s->n_idle_prefixes++;
}

static relay_prefix *get(msock_derp_server *s, const msock_ip *ip) {
  const msock_ip masked = mask(s, ip);
  relay_prefix *p = find(s, &masked);
  if (p == NULL && (p = calloc(1, sizeof *p)) != NULL) {
    p->ip = masked;
    relay_table_add(&s->prefixes, &p->hash, hash_of(s, &masked));
    rest(s, p);
  }
  return p;
}

bool relay_join_prefix(msock_derp_server *s, relay_conn *c) {
  if (c->prefix != NULL || c->from.ip.family == 0 || !has_prefix_limits(s)) {
    return true;
  }
  relay_prefix *p = get(s, &c->from.ip);
  if (p == NULL || (s->set.conns_per_prefix > 0 && p->n_conns >= s->set.conns_per_prefix)) {
    return false;
  }
  if (relay_ring_has(&p->idle)) {
    relay_ring_remove(&p->idle);
    s->n_idle_prefixes--;
  }
  p->n_conns++;
  c->prefix = p;
  return true;
}

void relay_leave_prefix(msock_derp_server *s, relay_conn *c) {
  relay_prefix *p = c->prefix;
  c->prefix = NULL;
  if (p != NULL && --p->n_conns == 0) {
    rest(s, p);
  }
}

void relay_prefixes_free(msock_derp_server *s) {
  size_t bucket = 0, depth = 0;
  relay_hash *h;
  while (s->prefixes.slots != NULL &&
         (h = relay_table_walk(&s->prefixes, &bucket, &depth)) != NULL) {
    relay_table_remove(&s->prefixes, h);
    depth = 0;
    free(RELAY_OF(relay_prefix, hash, h));
  }
  relay_table_free(&s->prefixes);
}

static bool is_full(relay_bucket *b, uint64_t now_us, msock_derp_rate r, bool bytes) {
  if (r.per_s == 0 || b->at_us == 0) { /* no rate, or never charged */
    return true;
  }
  refill(b, now_us, r, burst_of(r, bytes));
  return b->tokens >= burst_of(r, bytes);
}

/* An idle prefix whose buckets are full again says nothing: it is forgotten. */
static void forget_full(msock_derp_server *s, uint64_t now_us) {
  while (!relay_ring_is_empty(&s->idle_prefixes)) {
    relay_prefix *p = RELAY_OF(relay_prefix, idle, s->idle_prefixes.next);
    if (!is_full(&p->accepts, now_us, s->set.accept_prefix, false) ||
        !is_full(&p->bytes, now_us, s->set.prefix, true)) {
      return;
    }
    forget(s, p);
  }
}

msock_derp_cause relay_may_accept(msock_derp_server *s, uint64_t now_us, const msock_addr *from) {
  const bool known = from != NULL && from->ip.family != 0;
  const msock_derp_cause ban = known ? relay_is_banned(s, NULL, from) : MSOCK_DERP_CAUSE_NONE;
  if (ban != MSOCK_DERP_CAUSE_NONE) {
    return ban;
  }
  if (known && has_prefix_limits(s)) {
    forget_full(s, now_us);
    relay_prefix *p = get(s, &from->ip);
    if (p == NULL) {
      return MSOCK_DERP_CAUSE_MEMORY;
    }
    if (s->set.conns_per_prefix > 0 && p->n_conns >= s->set.conns_per_prefix) {
      return MSOCK_DERP_CAUSE_CONNS_PER_PREFIX;
    }
    if (!take(&p->accepts, now_us, s->set.accept_prefix)) {
      return MSOCK_DERP_CAUSE_ACCEPT_RATE_PREFIX;
    }
  }
  return take(&s->accepts, now_us, s->set.accept) ? MSOCK_DERP_CAUSE_NONE
                                                  : MSOCK_DERP_CAUSE_ACCEPT_RATE;
}

/* --- quotas --- */

relay_quota relay_quota_of(const msock_derp_server *s, const relay_key *k) {
  const uint64_t day = s->set.quota_day, month = s->set.quota_month, grace = s->set.quota_grace;
  if ((day > 0 && k->day_bytes > day + grace) || (month > 0 && k->month_bytes > month + grace)) {
    return RELAY_QUOTA_OVER;
  }
  if ((day > 0 && k->day_bytes > day) || (month > 0 && k->month_bytes > month)) {
    return RELAY_QUOTA_GRACE;
  }
  return RELAY_QUOTA_IN;
}

static bool is_throttled(const relay_key *k) {
  return k->quota == RELAY_QUOTA_OVER;
}

static msock_derp_rate rate_of(const msock_derp_server *s, const relay_key *k) {
  const msock_derp_rate key = s->set.key, slow = s->set.throttle;
  const bool slower = key.per_s == 0 || slow.per_s < key.per_s;
  return is_throttled(k) && slow.per_s > 0 && slower ? slow : key;
}

uint64_t relay_key_full_us(const msock_derp_server *s, const relay_key *k) {
  const msock_derp_rate r = rate_of(s, k);
  const double missing = burst_of(r, true) - k->bytes.tokens;
  if (r.per_s == 0 || k->bytes.at_us == 0 || missing <= 0) {
    return 0;
  }
  return k->bytes.at_us + time_for(missing, r);
}

/* The quota is used up and there is no throttle: all connections of the key end. */
static void end_key(msock_derp_server *s, uint64_t now_us, relay_key *k) {
  relay_conn *next;
  for (relay_conn *c = k->conns; c != NULL; c = next) {
    next = c->same_key;
    if (!c->is_mesh && !c->dead) { /* with the last one the key itself may go */
      s->stats.refused[MSOCK_DERP_CAUSE_QUOTA]++;
      relay_finish_told(s, now_us, c, MSOCK_DERP_CAUSE_QUOTA);
    }
  }
}

static void count_usage(msock_derp_server *s, uint64_t now_us, relay_conn *c, uint64_t bytes) {
  relay_key *k = c->key;
  k->day_bytes += bytes;
  k->month_bytes += bytes;
  s->unsaved += bytes;
  const relay_quota now = relay_quota_of(s, k);
  if (now == k->quota) {
    return;
  }
  k->quota = now;
  msock_derp_server_event ev = relay_event(
      s, now_us,
      now == RELAY_QUOTA_OVER ? MSOCK_DERP_SERVER_QUOTA_OVER : MSOCK_DERP_SERVER_QUOTA_GRACE, c);
  ev.cause = MSOCK_DERP_CAUSE_QUOTA;
  relay_emit(s, &ev);
  if (now == RELAY_QUOTA_OVER && s->set.throttle.per_s == 0) {
    end_key(s, now_us, k);
  }
}

/* --- charging --- */

static void hold(msock_derp_server *s, relay_conn *c) {
  if (!c->held) {
    c->held = true;
    s->stats.rate_waits++;
    s->stats.throttled += is_throttled(c->key);
  }
}

static void arm_total(msock_derp_server *s, uint64_t now_us, double wanted) {
  refill(&s->total, now_us, s->set.total, burst_of(s->set.total, true));
  const double missing = wanted - s->total.tokens;
  const uint64_t wait_us = missing > 0 ? time_for(missing, s->set.total) : 0;
  relay_wheel_arm(&s->wheel, now_us, &s->total_timer, now_us + wait_us);
}

static void wait_for_total(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  hold(s, c);
  if (!relay_ring_has(&c->held_link)) {
    relay_ring_add(&s->held, &c->held_link);
  }
  if (s->total_timer.at == NULL) {
    arm_total(s, now_us, 0);
  }
}

void relay_charge(msock_derp_server *s, uint64_t now_us, relay_conn *c, uint64_t bytes) {
  const double n = (double)(bytes < CHARGE_MAX ? bytes : CHARGE_MAX);
  uint64_t until = charge(&c->key->bytes, now_us, rate_of(s, c->key), n);
  if (c->prefix != NULL) {
    const uint64_t p = charge(&c->prefix->bytes, now_us, s->set.prefix, n);
    until = p > until ? p : until;
  }
  const bool total_owes = charge(&s->total, now_us, s->set.total, n) > now_us;
  if (until > now_us) {
    hold(s, c);
    c->resume_us = until;
    relay_arm(s, now_us, c);
  } else if (total_owes) {
    wait_for_total(s, now_us, c);
  }
  if (s->set.quota_day > 0 || s->set.quota_month > 0) {
    count_usage(s, now_us, c, bytes); /* may end the connection: last */
  }
}

static void release(msock_derp_server *s, relay_conn *c) {
  relay_ring_remove(&c->held_link);
  c->held = false;
  relay_wake(s, c);
}

void relay_try_resume(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  if (c->phase != RELAY_UP) {
    return;
  }
  uint64_t until = charge(&c->key->bytes, now_us, rate_of(s, c->key), 0);
  if (c->prefix != NULL) {
    const uint64_t p = charge(&c->prefix->bytes, now_us, s->set.prefix, 0);
    until = p > until ? p : until;
  }
  if (until > now_us) { /* another connection of the key or prefix has spent it */
    c->resume_us = until;
  } else if (charge(&s->total, now_us, s->set.total, 0) > now_us) {
    wait_for_total(s, now_us, c);
  } else {
    release(s, c);
  }
}

/* The total owes nothing: those who waited longest are read, as many as it has tokens for. */
void relay_total_expired(msock_derp_server *s, uint64_t now_us) {
  refill(&s->total, now_us, s->set.total, burst_of(s->set.total, true));
  double tokens = s->total.tokens;
  double resumed = 0;
  while (!relay_ring_is_empty(&s->held) && (resumed == 0 || tokens >= READ_TOKENS)) {
    release(s, RELAY_OF(relay_conn, held_link, s->held.next));
    tokens -= READ_TOKENS;
    resumed += READ_TOKENS;
  }
  if (!relay_ring_is_empty(&s->held)) {
    arm_total(s, now_us, resumed);
  }
}

/* --- changes --- */

void relay_quotas_changed(msock_derp_server *s, uint64_t now_us) {
  size_t bucket = 0, depth = 0;
  relay_hash *h;
  while ((h = relay_table_walk(&s->keys, &bucket, &depth)) != NULL) {
    relay_key *k = RELAY_OF(relay_key, hash, h);
    k->quota = relay_quota_of(s, k);
  }
  relay_idle_changed(s, now_us);
  for (uint32_t i = 0; i < s->n_slots; i++) {
    relay_conn *c = s->slots[i].c;
    if (c == NULL || c->phase != RELAY_UP || c->dead || c->is_mesh) {
      continue;
    }
    if (is_throttled(c->key) && s->set.throttle.per_s == 0) {
      end_key(s, now_us, c->key);
    } else if (c->held) { /* what it waits for may be over */
      relay_ring_remove(&c->held_link);
      c->resume_us = MSOCK_NEVER;
      relay_try_resume(s, now_us, c);
      relay_arm(s, now_us, c);
    }
  }
}

void relay_limits_changed(msock_derp_server *s, uint64_t now_us) {
  const msock_derp_server_settings *set = &s->set;
  s->has_rates = set->key.per_s > 0 || set->prefix.per_s > 0 || set->total.per_s > 0 ||
                 set->quota_day > 0 || set->quota_month > 0;
  for (uint32_t i = 0; i < s->n_slots; i++) { /* counted under the new prefix lengths */
    relay_conn *c = s->slots[i].c;
    if (c != NULL) {
      relay_leave_prefix(s, c);
      if (!has_prefix_limits(s) || c->from.ip.family == 0) {
        continue;
      }
      c->prefix = get(s, &c->from.ip); /* lower counts end nobody */
      if (c->prefix != NULL && c->prefix->n_conns++ == 0 && relay_ring_has(&c->prefix->idle)) {
        relay_ring_remove(&c->prefix->idle);
        s->n_idle_prefixes--;
      }
    }
  }
  relay_wheel_arm(&s->wheel, now_us, &s->total_timer, MSOCK_NEVER);
  relay_quotas_changed(s, now_us);
}
