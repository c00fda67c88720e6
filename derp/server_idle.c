/* derp/server_idle.c: keys that have left and are remembered: for their quota, for their bucket
 * until it is full again, and for flows whose limit is partly used. Who closes and opens again
 * gets no new burst by it.
 *
 * A heap with the key on top that means nothing any more the earliest: it goes at that moment, and
 * it goes first when the table is full. Of keys that are kept for their quota the one that left
 * first goes first. */
#include <stdlib.h>

#include "derp/server_internal.h"

#define FIRST_CAP 64u

static bool is_sooner(const relay_key *a, const relay_key *b) {
  return a->free_us != b->free_us ? a->free_us < b->free_us : a->left < b->left;
}

static void put(msock_derp_server *s, size_t i, relay_key *k) {
  s->idle_keys[i] = k;
  k->idle_at = (uint32_t)i + 1;
}

static void rise(msock_derp_server *s, size_t i, relay_key *k) {
  while (i > 0 && is_sooner(k, s->idle_keys[(i - 1) / 2])) {
    put(s, i, s->idle_keys[(i - 1) / 2]);
    i = (i - 1) / 2;
  }
  put(s, i, k);
}

static void sink(msock_derp_server *s, size_t i, relay_key *k) {
  size_t child;
  while ((child = 2 * i + 1) < s->n_idle_keys) {
    if (child + 1 < s->n_idle_keys && is_sooner(s->idle_keys[child + 1], s->idle_keys[child])) {
      child++;
    }
    if (!is_sooner(s->idle_keys[child], k)) {
      break;
    }
    put(s, i, s->idle_keys[child]);
    i = child;
  }
  put(s, i, k);
}

void relay_idle_remove(msock_derp_server *s, relay_key *k) {
  if (k->idle_at == 0) {
    return;
  }
  const size_t i = k->idle_at - 1;
  relay_key *last = s->idle_keys[--s->n_idle_keys];
  k->idle_at = 0;
  if (last != k) {
    sink(s, i, last);
    rise(s, last->idle_at - 1, last);
  }
}

static bool has_room(msock_derp_server *s) {
  if (s->n_idle_keys < s->idle_cap) {
    return true;
  }
  const size_t cap = s->idle_cap > 0 ? 2 * s->idle_cap : FIRST_CAP;
  relay_key **keys = realloc(s->idle_keys, cap * sizeof(relay_key *));
  if (keys == NULL) {
    return false;
  }
  s->idle_keys = keys;
  s->idle_cap = cap;
  return true;
}

/* On the grid of the keep-alives: however many keys have left, no further wake-ups. */
static void arm(msock_derp_server *s, uint64_t now_us) {
  uint64_t due = s->n_idle_keys > 0 ? s->idle_keys[0]->free_us : MSOCK_NEVER;
  if (due != MSOCK_NEVER) {
    due += RELAY_KEEPALIVE_GRID_US - 1;
    due -= due % RELAY_KEEPALIVE_GRID_US;
  }
  relay_wheel_arm(&s->wheel, now_us, &s->idle_timer, due);
}

bool relay_idle_add(msock_derp_server *s, relay_key *k) {
  if (!has_room(s)) {
    return false;
  }
  k->left = ++s->order;
  rise(s, s->n_idle_keys++, k);
  return true;
}

/* When nothing about an absent key matters any more. */
static uint64_t free_at(const msock_derp_server *s, const relay_key *k) {
  const bool has_quota = s->set.quota_day > 0 || s->set.quota_month > 0;
  if (has_quota && k->month_bytes > 0) {
    return MSOCK_NEVER;
  }
  const uint64_t full_us = relay_key_full_us(s, k), flows_us = relay_flows_kept_until(s, k);
  return full_us > flows_us ? full_us : flows_us;
}

void relay_idle_keep(msock_derp_server *s, uint64_t now_us, relay_key *k) {
  k->free_us = free_at(s, k);
  if (k->free_us <= now_us) {
    relay_key_forget(s, k);
    return;
  }
  if (s->n_idle_keys >= MSOCK_DERP_SERVER_KEYS_IDLE_MAX) {
    k->left = s->order + 1;
    if (is_sooner(k, s->idle_keys[0])) {
      relay_key_forget(s, k);
      return;
    }
    relay_key_forget(s, s->idle_keys[0]);
  }
  if (!relay_idle_add(s, k)) {
    relay_key_forget(s, k);
  }
  arm(s, now_us);
}

void relay_idle_expired(msock_derp_server *s, uint64_t now_us) {
  while (s->n_idle_keys > 0 && s->idle_keys[0]->free_us <= now_us) {
    relay_key_forget(s, s->idle_keys[0]);
  }
  arm(s, now_us);
}

void relay_idle_changed(msock_derp_server *s, uint64_t now_us) {
  for (size_t i = 0; i < s->n_idle_keys; i++) {
    s->idle_keys[i]->free_us = free_at(s, s->idle_keys[i]);
  }
  for (size_t i = s->n_idle_keys / 2; i-- > 0;) {
    sink(s, i, s->idle_keys[i]);
  }
  relay_idle_expired(s, now_us);
}
