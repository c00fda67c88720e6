/* derp/server_bans.c: keys and address prefixes that are not served. */
#include <stdlib.h>
#include <string.h>

#include "derp/server_internal.h"

static uint64_t hash_of(const msock_derp_server *s, const msock_derp_ban *b) {
  if (b->kind == MSOCK_DERP_BAN_KEY) {
    return relay_hash_bytes(s->seed, b->key.b, sizeof b->key.b);
  }
  return relay_hash_bytes(s->seed ^ ((uint64_t)b->prefix.bits << 8 | b->prefix.ip.family),
                          b->prefix.ip.b, sizeof b->prefix.ip.b);
}

static bool equal(const msock_derp_ban *a, const msock_derp_ban *b) {
  return a->kind == b->kind &&
         (a->kind == MSOCK_DERP_BAN_KEY ? msock_node_key_equal(&a->key, &b->key)
                                        : msock_prefix_equal(&a->prefix, &b->prefix));
}

static relay_ban *find(const msock_derp_server *s, const msock_derp_ban *b) {
  const uint64_t hash = hash_of(s, b);
  for (relay_hash *h = relay_table_first(&s->bans, hash); h != NULL; h = h->next) {
    relay_ban *have = RELAY_OF(relay_ban, hash, h);
    if (h->hash == hash && equal(&have->ban, b)) {
      return have;
    }
  }
  return NULL;
}

static bool is_banned_ip(const msock_derp_server *s, const msock_ip *any) {
  const msock_ip ip = msock_ip_unmap(*any);
  const uint32_t *lengths = ip.family == 4 ? s->ban_bits4 : s->ban_bits6;
  for (unsigned bits = 0; bits <= msock_ip_bits(&ip) && ip.family != 0; bits++) {
    if (lengths[bits] > 0) {
      const msock_prefix p = {.ip = ip, .bits = (uint8_t)bits};
      const msock_derp_ban b = {.kind = MSOCK_DERP_BAN_PREFIX, .prefix = msock_prefix_mask(p)};
      if (find(s, &b) != NULL) {
        return true;
      }
    }
  }
  return false;
}

msock_derp_cause relay_is_banned(const msock_derp_server *s, const msock_node_key *key,
                                 const msock_addr *from) {
  if (key != NULL) {
    const msock_derp_ban b = {.kind = MSOCK_DERP_BAN_KEY, .key = *key};
    if (find(s, &b) != NULL) {
      return MSOCK_DERP_CAUSE_BAN_KEY;
    }
  }
  return from != NULL && is_banned_ip(s, &from->ip) ? MSOCK_DERP_CAUSE_BAN_PREFIX
                                                    : MSOCK_DERP_CAUSE_NONE;
}

static void count_length(msock_derp_server *s, const msock_derp_ban *b, uint32_t by) {
  if (b->kind == MSOCK_DERP_BAN_PREFIX) {
    uint32_t *lengths = b->prefix.ip.family == 4 ? s->ban_bits4 : s->ban_bits6;
    lengths[b->prefix.bits] += by;
  }
}

static bool is_sound(const msock_derp_ban *b) {
  const msock_prefix masked = msock_prefix_mask(b->prefix);
  return b->kind == MSOCK_DERP_BAN_KEY ||
         (b->kind == MSOCK_DERP_BAN_PREFIX && b->prefix.ip.family != 0 &&
          b->prefix.bits <= msock_ip_bits(&b->prefix.ip) &&
          msock_prefix_equal(&masked, &b->prefix));
}

static msock_err add(msock_derp_server *s, const msock_derp_ban *ban) {
  if (find(s, ban) != NULL) {
    return MSOCK_OK;
  }
  relay_ban *b = s->bans.n < MSOCK_DERP_SERVER_BANS_MAX ? calloc(1, sizeof *b) : NULL;
  if (b == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  b->ban = *ban;
  relay_table_add(&s->bans, &b->hash, hash_of(s, ban));
  count_length(s, ban, 1);
  return MSOCK_OK;
}

static void clear(relay_table *t) {
  size_t bucket = 0, depth = 0;
  relay_hash *h;
  while (t->slots != NULL && (h = relay_table_walk(t, &bucket, &depth)) != NULL) {
    relay_table_remove(t, h);
    depth = 0;
    free(RELAY_OF(relay_ban, hash, h));
  }
  relay_table_free(t);
}

void relay_bans_free(msock_derp_server *s) {
  clear(&s->bans);
}

/* Whoever is here and may not be. */
static void enforce(msock_derp_server *s, uint64_t now_us) {
  for (uint32_t i = 0; i < s->n_slots; i++) {
    relay_conn *c = s->slots[i].c;
    if (c == NULL || c->dead || c->phase == RELAY_LEFT) {
      continue;
    }
    const bool is_proven = c->phase == RELAY_UP || c->phase == RELAY_ASKED;
    const msock_derp_cause why = relay_is_banned(s, is_proven ? &c->who : NULL, &c->from);
    if (why == MSOCK_DERP_CAUSE_NONE) {
      continue;
    }
    s->stats.refused[why]++;
    if (is_proven) {
      relay_finish_told(s, now_us, c, why);
    } else {
      relay_kill(s, c, why);
    }
  }
}

msock_err msock_derp_server_set_bans(msock_derp_server *s, uint64_t now_us,
                                     const msock_derp_ban *bans, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (!is_sound(&bans[i])) {
      return MSOCK_ERR_INVALID;
    }
  }
  relay_table before = s->bans;
  uint32_t bits4[33], bits6[129];
  msock_err e = n <= MSOCK_DERP_SERVER_BANS_MAX ? MSOCK_OK : MSOCK_ERR_INVALID;
  if (e != MSOCK_OK || !relay_table_init(&s->bans)) {
    s->bans = before;
    return e != MSOCK_OK ? e : MSOCK_ERR_NOMEM;
  }
  memcpy(bits4, s->ban_bits4, sizeof bits4);
  memcpy(bits6, s->ban_bits6, sizeof bits6);
  memset(s->ban_bits4, 0, sizeof s->ban_bits4);
  memset(s->ban_bits6, 0, sizeof s->ban_bits6);
  for (size_t i = 0; i < n && e == MSOCK_OK; i++) {
    e = add(s, &bans[i]);
  }
  if (e != MSOCK_OK) { /* the old list holds */
    clear(&s->bans);
    s->bans = before;
    memcpy(s->ban_bits4, bits4, sizeof bits4);
    memcpy(s->ban_bits6, bits6, sizeof bits6);
    return e;
  }
  clear(&before);
  enforce(s, now_us);
  return MSOCK_OK;
}

msock_err msock_derp_server_ban(msock_derp_server *s, uint64_t now_us, const msock_derp_ban *ban) {
  const msock_err e = is_sound(ban) ? add(s, ban) : MSOCK_ERR_INVALID;
  if (e == MSOCK_OK) {
    enforce(s, now_us);
  }
  return e;
}

void msock_derp_server_unban(msock_derp_server *s, const msock_derp_ban *ban) {
  relay_ban *b = find(s, ban);
  if (b != NULL) {
    relay_table_remove(&s->bans, &b->hash);
    count_length(s, ban, UINT32_MAX); /* one less */
    free(b);
  }
}
