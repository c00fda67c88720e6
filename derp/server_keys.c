/* derp/server_keys.c: the keys that are here, and those that were and are remembered. */
#include <stdlib.h>
#include <string.h>

#include "derp/server_internal.h"

static uint64_t hash_of(const msock_derp_server *s, const msock_node_key *key) {
  return relay_hash_bytes(s->seed, key->b, sizeof key->b);
}

relay_key *relay_key_find(const msock_derp_server *s, const msock_node_key *key) {
  const uint64_t hash = hash_of(s, key);
  for (relay_hash *h = relay_table_first(&s->keys, hash); h != NULL; h = h->next) {
    relay_key *k = RELAY_OF(relay_key, hash, h);
    if (h->hash == hash && msock_node_key_equal(&k->key, key)) {
      return k;
    }
  }
  return NULL;
}

void relay_key_forget(msock_derp_server *s, relay_key *k) {
  while (!relay_ring_is_empty(&k->out)) {
    relay_flow_free(s, RELAY_OF(relay_flow, out, k->out.next));
  }
  while (!relay_ring_is_empty(&k->in)) {
    relay_flow_free(s, RELAY_OF(relay_flow, in, k->in.next));
  }
  relay_idle_remove(s, k);
  relay_table_remove(&s->keys, &k->hash);
  free(k);
}

relay_key *relay_key_get(msock_derp_server *s, const msock_node_key *key) {
  relay_key *k = relay_key_find(s, key);
  if (k != NULL) {
    relay_idle_remove(s, k);
    return k;
  }
  k = calloc(1, sizeof *k);
  if (k != NULL) {
    k->key = *key;
    relay_ring_init(&k->out);
    relay_ring_init(&k->in);
    relay_table_add(&s->keys, &k->hash, hash_of(s, key));
  }
  return k;
}

void relay_key_release(msock_derp_server *s, uint64_t now_us, relay_key *k) {
  if (k->remotes == NULL) {
    relay_idle_keep(s, now_us, k);
  }
}

static void free_flows(relay_key *k) {
  while (!relay_ring_is_empty(&k->out)) {
    relay_flow *f = RELAY_OF(relay_flow, out, k->out.next);
    relay_ring_remove(&f->out);
    free(f);
  }
}

void relay_keys_free(msock_derp_server *s) {
  size_t bucket = 0, depth = 0;
  relay_hash *h;
  while (s->keys.slots != NULL && (h = relay_table_walk(&s->keys, &bucket, &depth)) != NULL) {
    relay_key *k = RELAY_OF(relay_key, hash, h);
    relay_table_remove(&s->keys, h);
    depth = 0;
    free_flows(k);
    while (k->remotes != NULL) {
      relay_remote *r = k->remotes;
      k->remotes = r->next;
      free(r);
    }
    free(k);
  }
  relay_table_free(&s->keys);
  free(s->idle_keys);
}

/* --- quotas: what is kept over a restart --- */

void msock_derp_server_set_date(msock_derp_server *s, uint64_t now_us, uint32_t day,
                                uint32_t month) {
  if (day == s->day && month == s->month) {
    return;
  }
  size_t bucket = 0, depth = 0;
  relay_hash *h;
  while ((h = relay_table_walk(&s->keys, &bucket, &depth)) != NULL) {
    relay_key *k = RELAY_OF(relay_key, hash, h);
    k->day_bytes = day == s->day ? k->day_bytes : 0;
    k->month_bytes = month == s->month ? k->month_bytes : 0;
  }
  s->day = day;
  s->month = month;
  relay_quotas_changed(s, now_us);
}

bool msock_derp_server_next_usage(const msock_derp_server *s, uint32_t *cursor,
                                  msock_derp_usage *out) {
  size_t bucket = *cursor >> 8, depth = *cursor & 255;
  relay_hash *h;
  while ((h = relay_table_walk(&s->keys, &bucket, &depth)) != NULL) {
    const relay_key *k = RELAY_OF(relay_key, hash, h);
    *cursor = (uint32_t)(bucket << 8 | (depth & 255));
    if (k->month_bytes > 0) {
      *out = (msock_derp_usage){.key = k->key,
                                .day = s->day,
                                .month = s->month,
                                .day_bytes = k->day_bytes,
                                .month_bytes = k->month_bytes};
      return true;
    }
  }
  return false;
}

msock_err msock_derp_server_add_usage(msock_derp_server *s, const msock_derp_usage *u) {
  if (u->month != s->month || u->month_bytes == 0) {
    return MSOCK_OK;
  }
  relay_key *k = relay_key_find(s, &u->key);
  const bool is_new = k == NULL;
  if (is_new && (s->n_idle_keys >= MSOCK_DERP_SERVER_KEYS_IDLE_MAX ||
                 (k = relay_key_get(s, &u->key)) == NULL)) {
    return MSOCK_ERR_NOMEM;
  }
  if (is_new || k->idle_at != 0) { /* absent: its quota keeps it */
    relay_idle_remove(s, k);
    k->free_us = MSOCK_NEVER;
    if (!relay_idle_add(s, k)) {
      relay_key_forget(s, k);
      return MSOCK_ERR_NOMEM;
    }
  }
  k->month_bytes += u->month_bytes;
  k->day_bytes += u->day == s->day ? u->day_bytes : 0;
  k->quota = relay_quota_of(s, k);
  return MSOCK_OK;
}

uint64_t msock_derp_server_take_unsaved(msock_derp_server *s) {
  const uint64_t n = s->unsaved;
  s->unsaved = 0;
  return n;
}
