#include "control/netmap.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "control/netmap_internal.h"

#define GROW_FIRST 8u

bool netmap_grow(void **p, size_t *cap, size_t n, size_t size) {
  if (n < *cap) {
    return true;
  }
  const size_t want = *cap ? *cap * 2 : GROW_FIRST;
  void *grown = realloc(*p, want * size);
  if (grown == NULL) {
    return false;
  }
  *p = grown;
  *cap = want;
  return true;
}

/* --- lists of texts --- */

const char *msock_strlist_next(const msock_strlist *l, const char *after) {
  const char *next = after ? after + strlen(after) + 1 : l->text;
  return l->n > 0 && next < l->text + l->len ? next : NULL;
}

bool msock_strlist_has(const msock_strlist *l, const char *text) {
  for (const char *s = NULL; (s = msock_strlist_next(l, s)) != NULL;) {
    if (strcmp(s, text) == 0) {
      return true;
    }
  }
  return false;
}

bool netmap_strlist_add(msock_strlist *l, const char *text) {
  const size_t len = strlen(text) + 1;
  char *grown = realloc(l->text, l->len + len);
  if (grown == NULL) {
    return false;
  }
  memcpy(grown + l->len, text, len);
  l->text = grown;
  l->len += (uint32_t)len;
  l->n++;
  return true;
}

void netmap_strlist_clear(msock_strlist *l) {
  free(l->text);
  *l = (msock_strlist){0};
}

bool netmap_strlist_copy(msock_strlist *to, const msock_strlist *from) {
  *to = *from;
  if (from->text) {
    to->text = malloc(from->len);
    if (to->text == NULL) {
      *to = (msock_strlist){0};
      return false;
    }
    memcpy(to->text, from->text, from->len);
  }
  return true;
}

bool netmap_strlist_equal(const msock_strlist *a, const msock_strlist *b) {
  return a->len == b->len && (a->len == 0 || memcmp(a->text, b->text, a->len) == 0);
}

/* --- nodes --- */

void netmap_peer_free(msock_peer *p) {
  if (p == NULL) {
    return;
  }
  free(p->stable_id); /* one block holds the four texts */
  if (p->allowed != p->addresses) {
    free(p->allowed);
  }
  free(p->addresses);
  free(p->primary);
  free(p->endpoints);
  netmap_strlist_clear(&p->caps);
  netmap_strlist_clear(&p->tags);
  free(p);
}

static bool copy_block(void *to, const void *from, size_t len) {
  void *block = NULL;
  if (len > 0) {
    block = malloc(len);
    if (block == NULL) {
      return false;
    }
    memcpy(block, from, len);
  }
  memcpy(to, &block, sizeof block);
  return true;
}

static bool copy_allowed(msock_peer *c, const msock_peer *p) {
  if (p->allowed == p->addresses) {
    c->allowed = c->addresses;
    return true;
  }
  return copy_block(&c->allowed, p->allowed, p->n_allowed * sizeof *p->allowed);
}

msock_peer *netmap_peer_copy(const msock_peer *p) {
  msock_peer *c = malloc(sizeof *c);
  if (c == NULL) {
    return NULL;
  }
  *c = *p;
  c->stable_id = NULL;
  c->addresses = c->allowed = c->primary = NULL;
  c->endpoints = NULL;
  c->caps = c->tags = (msock_strlist){0};
  const size_t texts = (size_t)(p->os - p->stable_id) + strlen(p->os) + 1;
  if (!copy_block(&c->stable_id, p->stable_id, texts) ||
      !copy_block(&c->addresses, p->addresses, p->n_addresses * sizeof *p->addresses) ||
      !copy_allowed(c, p) ||
      !copy_block(&c->primary, p->primary, p->n_primary * sizeof *p->primary) ||
      !copy_block(&c->endpoints, p->endpoints, p->n_endpoints * sizeof *p->endpoints) ||
      !netmap_strlist_copy(&c->caps, &p->caps) || !netmap_strlist_copy(&c->tags, &p->tags)) {
    netmap_peer_free(c);
    return NULL;
  }
  c->name = c->stable_id + (p->name - p->stable_id);
  c->hostname = c->stable_id + (p->hostname - p->stable_id);
  c->os = c->stable_id + (p->os - p->stable_id);
  return c;
}

static bool prefixes_equal(const msock_prefix *a, size_t na, const msock_prefix *b, size_t nb) {
  for (size_t i = 0; na == nb && i < na; i++) {
    if (!msock_prefix_equal(&a[i], &b[i])) {
      return false;
    }
  }
  return na == nb;
}

static bool endpoints_equal(const msock_peer *a, const msock_peer *b) {
  for (size_t i = 0; a->n_endpoints == b->n_endpoints && i < a->n_endpoints; i++) {
    if (!msock_addr_equal(&a->endpoints[i], &b->endpoints[i])) {
      return false;
    }
  }
  return a->n_endpoints == b->n_endpoints;
}

static bool names_equal(const msock_peer *a, const msock_peer *b) {
  return strcmp(a->stable_id, b->stable_id) == 0 && strcmp(a->name, b->name) == 0 &&
         strcmp(a->hostname, b->hostname) == 0 && strcmp(a->os, b->os) == 0 &&
         a->user_id == b->user_id && netmap_strlist_equal(&a->tags, &b->tags);
}

static bool others_equal(const msock_peer *a, const msock_peer *b) {
  return a->peerapi4_port == b->peerapi4_port && a->peerapi6_port == b->peerapi6_port &&
         a->machine_authorized == b->machine_authorized && a->wireguard_only == b->wireguard_only &&
         a->peer_relay == b->peer_relay && a->unsigned_peerapi_only == b->unsigned_peerapi_only &&
         msock_ip_equal(&a->masq4, &b->masq4) && msock_ip_equal(&a->masq6, &b->masq6);
}

uint32_t netmap_peer_diff(const msock_peer *a, const msock_peer *b) {
  uint32_t what = 0;
  what |= msock_node_key_equal(&a->key, &b->key) ? 0 : MSOCK_PEER_KEY;
  what |= msock_disco_key_equal(&a->disco, &b->disco) ? 0 : MSOCK_PEER_DISCO;
  what |= endpoints_equal(a, b) ? 0 : MSOCK_PEER_ENDPOINTS;
  what |= a->home_derp == b->home_derp ? 0 : MSOCK_PEER_DERP;
  what |= prefixes_equal(a->addresses, a->n_addresses, b->addresses, b->n_addresses)
              ? 0
              : MSOCK_PEER_ADDRESSES;
  what |= prefixes_equal(a->allowed, a->n_allowed, b->allowed, b->n_allowed) &&
                  prefixes_equal(a->primary, a->n_primary, b->primary, b->n_primary)
              ? 0
              : MSOCK_PEER_ALLOWED;
  what |= a->online == b->online && a->last_seen_us == b->last_seen_us ? 0 : MSOCK_PEER_ONLINE;
  what |= a->expired == b->expired && a->expired_flag == b->expired_flag &&
                  a->key_expiry_us == b->key_expiry_us
              ? 0
              : MSOCK_PEER_EXPIRY;
  what |= names_equal(a, b) ? 0 : MSOCK_PEER_NAME;
  what |= a->cap == b->cap && netmap_strlist_equal(&a->caps, &b->caps) ? 0 : MSOCK_PEER_CAPS;
  what |= others_equal(a, b) ? 0 : MSOCK_PEER_OTHER;
  return what;
}

bool netmap_is_expired(const msock_peer *p, uint64_t server_us) {
  return p->expired_flag || (p->key_expiry_us != 0 && p->key_expiry_us <= server_us);
}

uint64_t netmap_server_now(const msock_netmap *nm, uint64_t wall_us) {
  const int64_t now = (int64_t)wall_us + nm->clock_offset_us;
  return now > 0 ? (uint64_t)now : 0;
}

void netmap_peers_clear(netmap_peers *v) {
  for (size_t i = 0; i < v->n; i++) {
    netmap_peer_free(v->p[i]);
  }
  free(v->p);
  *v = (netmap_peers){0};
}

bool netmap_peers_push(netmap_peers *v, msock_peer *p) {
  if (!netmap_grow((void **)&v->p, &v->cap, v->n, sizeof(msock_peer *))) {
    return false;
  }
  v->p[v->n++] = p;
  return true;
}

/* --- other values --- */

void netmap_patch_clear(netmap_patch *p) {
  free(p->endpoints);
  netmap_strlist_clear(&p->caps);
  *p = (netmap_patch){0};
}

void netmap_user_clear(msock_user_profile *u) {
  free(u->login);
  free(u->display);
  *u = (msock_user_profile){0};
}

void netmap_set_clear(netmap_filter_set *s) {
  free(s->name);
  msock_policy_clear(&s->policy);
  *s = (netmap_filter_set){0};
}

void netmap_health_clear(msock_health_message *m) {
  free(m->id);
  free(m->title);
  free(m->text);
  free(m->severity);
  *m = (msock_health_message){0};
}

void netmap_dns_clear(msock_dns_config *d) {
  for (size_t i = 0; i < d->n_routes; i++) {
    free(d->routes[i].suffix);
    netmap_strlist_clear(&d->routes[i].resolvers);
  }
  for (size_t i = 0; i < d->n_records; i++) {
    free(d->records[i].name);
    free(d->records[i].type);
    free(d->records[i].value);
  }
  free(d->routes);
  free(d->records);
  netmap_strlist_clear(&d->domains);
  netmap_strlist_clear(&d->resolvers);
  netmap_strlist_clear(&d->fallback_resolvers);
  *d = (msock_dns_config){0};
}

/* --- the store --- */

static void clear(msock_netmap *nm) {
  netmap_peer_free(nm->self);
  netmap_peers_clear(&nm->peers);
  free(nm->key_slots);
  msock_derp_map_clear(&nm->derp);
  free(nm->scores);
  free(nm->filter.rules); /* the rules' insides belong to the sets */
  for (size_t i = 0; i < nm->n_sets; i++) {
    netmap_set_clear(&nm->sets[i]);
  }
  free(nm->sets);
  netmap_dns_clear(&nm->dns);
  for (size_t i = 0; i < nm->n_users; i++) {
    netmap_user_clear(&nm->users[i]);
  }
  free(nm->users);
  free(nm->domain);
  for (size_t i = 0; i < nm->n_health; i++) {
    netmap_health_clear(&nm->health[i]);
  }
  free(nm->health);
}

msock_netmap *msock_netmap_new(const msock_env *env, bool allow_loopback) {
  msock_netmap *nm = calloc(1, sizeof *nm);
  if (nm) {
    nm->env = env;
    nm->allow_loopback = allow_loopback;
    nm->expiry_due_us = MSOCK_NEVER;
  }
  return nm;
}

void msock_netmap_free(msock_netmap *nm) {
  if (nm == NULL) {
    return;
  }
  clear(nm);
  free(nm->changes);
  free(nm);
}

void msock_netmap_reset(msock_netmap *nm) {
  static const msock_netmap_change_kind gone[] = {MSOCK_NETMAP_ROUTES, MSOCK_NETMAP_DERP_MAP,
                                                  MSOCK_NETMAP_FILTER, MSOCK_NETMAP_DNS,
                                                  MSOCK_NETMAP_USERS,  MSOCK_NETMAP_HEALTH};
  for (size_t i = 0; i < nm->peers.n; i++) {
    if (!nm->peers.p[i]->shadowed) {
      netmap_push_change(nm, (msock_netmap_change){.kind = MSOCK_NETMAP_PEER_REMOVED,
                                                   .id = nm->peers.p[i]->id,
                                                   .key = nm->peers.p[i]->key});
    }
  }
  if (nm->self) {
    netmap_push_change(nm, (msock_netmap_change){.kind = MSOCK_NETMAP_SELF,
                                                 .what = UINT32_MAX,
                                                 .id = nm->self->id,
                                                 .key = nm->self->key});
  }
  for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
    netmap_push_change(nm, (msock_netmap_change){.kind = gone[i]});
  }
  clear(nm);
  const msock_netmap kept = {.env = nm->env,
                             .allow_loopback = nm->allow_loopback,
                             .expiry_due_us = MSOCK_NEVER,
                             .changes = nm->changes,
                             .changes_at = nm->changes_at,
                             .n_changes = nm->n_changes,
                             .cap_changes = nm->cap_changes,
                             .resync = nm->resync,
                             .stats = nm->stats};
  *nm = kept;
}

const msock_peer *msock_netmap_self(const msock_netmap *nm) {
  return nm->self;
}

size_t msock_netmap_count(const msock_netmap *nm) {
  return nm->peers.n;
}

const msock_peer *msock_netmap_at(const msock_netmap *nm, size_t i) {
  return i < nm->peers.n ? nm->peers.p[i] : NULL;
}

const msock_peer *msock_netmap_find_id(const msock_netmap *nm, uint64_t id) {
  size_t lo = 0, hi = nm->peers.n;
  while (lo < hi) {
    const size_t mid = lo + (hi - lo) / 2;
    if (nm->peers.p[mid]->id < id) {
      lo = mid + 1;
    } else {
      hi = mid;
    }
  }
  const msock_peer *p = lo < nm->peers.n ? nm->peers.p[lo] : NULL;
  return p && p->id == id && !p->shadowed ? p : NULL;
}

static size_t hash_bytes(const uint8_t *p, size_t len) {
  uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
  for (size_t i = 0; i < len; i++) {
    h = (h ^ p[i]) * UINT64_C(0x100000001b3);
  }
  return (size_t)(h ^ h >> 32);
}

const msock_peer *msock_netmap_find_key(const msock_netmap *nm, const msock_node_key *key) {
  if (nm->n_key_slots == 0) {
    return NULL;
  }
  size_t at = hash_bytes(key->b, sizeof key->b) & (nm->n_key_slots - 1);
  for (; nm->key_slots[at] != 0; at = (at + 1) & (nm->n_key_slots - 1)) {
    const msock_peer *p = nm->peers.p[nm->key_slots[at] - 1];
    if (msock_node_key_equal(&p->key, key)) {
      return p;
    }
  }
  return NULL;
}

const msock_peer *msock_netmap_find_ip(const msock_netmap *nm, const msock_ip *ip) {
  for (size_t i = 0; i < nm->peers.n; i++) {
    const msock_peer *p = nm->peers.p[i];
    for (size_t j = 0; !p->shadowed && j < p->n_addresses; j++) {
      if (msock_ip_equal(&p->addresses[j].ip, ip)) {
        return p;
      }
    }
  }
  return NULL;
}

const msock_peer *msock_netmap_find_name(const msock_netmap *nm, const char *name) {
  size_t len = strlen(name);
  len -= len > 0 && name[len - 1] == '.';
  const bool label_only = memchr(name, '.', len) == NULL;
  for (size_t i = 0; len > 0 && i < nm->peers.n; i++) {
    const msock_peer *p = nm->peers.p[i];
    size_t have = label_only ? strcspn(p->name, ".") : strlen(p->name);
    have -= have > 0 && p->name[have - 1] == '.';
    if (!p->shadowed && have == len && strncasecmp(p->name, name, len) == 0) {
      return p;
    }
  }
  return NULL;
}

const msock_user_profile *msock_netmap_user(const msock_netmap *nm, uint64_t id) {
  for (size_t i = 0; i < nm->n_users; i++) {
    if (nm->users[i].id == id) {
      return &nm->users[i];
    }
  }
  return NULL;
}

const msock_derp_map *msock_netmap_derp_map(const msock_netmap *nm) {
  return &nm->derp;
}

const msock_policy *msock_netmap_filter(const msock_netmap *nm) {
  return nm->filter_seen ? &nm->filter : NULL;
}

const msock_dns_config *msock_netmap_dns(const msock_netmap *nm) {
  return &nm->dns;
}

const char *msock_netmap_domain(const msock_netmap *nm) {
  return nm->domain ? nm->domain : "";
}

size_t msock_netmap_health(const msock_netmap *nm, const msock_health_message **out) {
  *out = nm->health;
  return nm->n_health;
}

msock_netmap_stats msock_netmap_get_stats(const msock_netmap *nm) {
  return nm->stats;
}

int64_t msock_netmap_clock_offset_us(const msock_netmap *nm) {
  return nm->clock_offset_us;
}

/* --- conflicts (control.md 5.1) --- */

static size_t table_size(size_t entries) {
  size_t n = 16;
  while (n < entries * 2) {
    n *= 2;
  }
  return n;
}

typedef struct address_slot {
  msock_ip ip; /* family 0 = free */
} address_slot;

static bool address_taken(const address_slot *slots, size_t n, const msock_ip *ip, bool take,
                          address_slot *writable) {
  size_t at = hash_bytes(ip->b, sizeof ip->b) & (n - 1);
  for (; slots[at].ip.family != 0; at = (at + 1) & (n - 1)) {
    if (msock_ip_equal(&slots[at].ip, ip)) {
      return true;
    }
  }
  if (take) {
    writable[at].ip = *ip;
  }
  return false;
}

static bool key_taken(const netmap_peers *peers, uint32_t *slots, size_t n, size_t index,
                      bool take) {
  const msock_peer *p = peers->p[index];
  size_t at = hash_bytes(p->key.b, sizeof p->key.b) & (n - 1);
  for (; slots[at] != 0; at = (at + 1) & (n - 1)) {
    if (msock_node_key_equal(&peers->p[slots[at] - 1]->key, &p->key)) {
      return true;
    }
  }
  if (take) {
    slots[at] = (uint32_t)(index + 1);
  }
  return false;
}

/* In ascending ID, so that the lower ID keeps what two claim. */
static void mark_shadows(const netmap_peers *peers, const msock_peer *self, bool *shadow,
                         uint32_t *keys, size_t n_keys, address_slot *addrs, size_t n_addrs) {
  for (size_t i = 0; i < peers->n; i++) {
    const msock_peer *p = peers->p[i];
    shadow[i] = key_taken(peers, keys, n_keys, i, false) ||
                (self && msock_node_key_equal(&self->key, &p->key));
    for (size_t j = 0; j < p->n_addresses && !shadow[i]; j++) {
      shadow[i] = address_taken(addrs, n_addrs, &p->addresses[j].ip, false, NULL);
    }
    if (shadow[i]) {
      continue;
    }
    key_taken(peers, keys, n_keys, i, true);
    for (size_t j = 0; j < p->n_addresses; j++) {
      address_taken(addrs, n_addrs, &p->addresses[j].ip, true, addrs);
    }
  }
}

bool netmap_index(const netmap_peers *peers, const msock_peer *self, bool *shadow, uint32_t **slots,
                  size_t *n_slots, uint64_t *conflicts) {
  size_t n_addresses = 0;
  for (size_t i = 0; i < peers->n; i++) {
    n_addresses += peers->p[i]->n_addresses;
  }
  const size_t n_keys = table_size(peers->n), n_addrs = table_size(n_addresses);
  uint32_t *keys = calloc(n_keys, sizeof *keys);
  address_slot *addrs = calloc(n_addrs, sizeof *addrs);
  if (keys == NULL || addrs == NULL) {
    free(keys);
    free(addrs);
    return false;
  }
  mark_shadows(peers, self, shadow, keys, n_keys, addrs, n_addrs);
  free(addrs);
  *conflicts = 0;
  for (size_t i = 0; i < peers->n; i++) {
    *conflicts += shadow[i];
  }
  *slots = keys;
  *n_slots = n_keys;
  return true;
}

/* --- changes --- */

static void overflow(msock_netmap *nm) {
  nm->resync = true;
  nm->n_changes = nm->changes_at = 0;
}

void netmap_push_change(msock_netmap *nm, msock_netmap_change c) {
  if (nm->resync) {
    return; /* the consumer will compare everything */
  }
  if (nm->n_changes == nm->cap_changes && nm->changes_at > 0) {
    memmove(nm->changes, nm->changes + nm->changes_at,
            (nm->n_changes - nm->changes_at) * sizeof *nm->changes);
    nm->n_changes -= nm->changes_at;
    nm->changes_at = 0;
  }
  if (nm->n_changes == MSOCK_NETMAP_CHANGES_MAX ||
      !netmap_grow((void **)&nm->changes, &nm->cap_changes, nm->n_changes, sizeof c)) {
    overflow(nm);
    return;
  }
  nm->changes[nm->n_changes++] = c;
}

bool msock_netmap_next_change(msock_netmap *nm, msock_netmap_change *out) {
  if (nm->resync) {
    nm->resync = false;
    *out = (msock_netmap_change){.kind = MSOCK_NETMAP_RESYNC};
    return true;
  }
  if (nm->changes_at < nm->n_changes) {
    *out = nm->changes[nm->changes_at++];
    return true;
  }
  free(nm->changes); /* a first map of thousands of peers need not be kept as room */
  nm->changes = NULL;
  nm->changes_at = nm->n_changes = nm->cap_changes = 0;
  return false;
}

/* --- expiry --- */

static bool refresh_expired(msock_peer *p, uint64_t server_us) {
  const bool was = p->expired;
  p->expired = netmap_is_expired(p, server_us);
  return was != p->expired;
}

void msock_netmap_on_expiry(msock_netmap *nm, uint64_t now_us, uint64_t wall_us) {
  const uint64_t server_us = netmap_server_now(nm, wall_us);
  uint64_t next = UINT64_MAX;
  bool any = false, routes = false;

  for (size_t i = 0; i < nm->peers.n; i++) {
    msock_peer *p = nm->peers.p[i];
    if (refresh_expired(p, server_us) && !p->shadowed) {
      netmap_push_change(nm, (msock_netmap_change){.kind = MSOCK_NETMAP_PEER_CHANGED,
                                                   .what = MSOCK_PEER_EXPIRY,
                                                   .id = p->id,
                                                   .key = p->key});
      routes = routes || p->has_routes;
    }
    any = any || p->key_expiry_us != 0;
    next = p->key_expiry_us > server_us && p->key_expiry_us < next ? p->key_expiry_us : next;
  }
  if (nm->self && refresh_expired(nm->self, server_us)) {
    netmap_push_change(nm, (msock_netmap_change){.kind = MSOCK_NETMAP_SELF,
                                                 .what = MSOCK_PEER_EXPIRY,
                                                 .id = nm->self->id,
                                                 .key = nm->self->key});
  }
  if (nm->self && nm->self->key_expiry_us != 0) {
    const uint64_t at = nm->self->key_expiry_us;
    any = true;
    next = at > server_us && at < next ? at : next;
  }
  if (routes) {
    netmap_push_change(nm, (msock_netmap_change){.kind = MSOCK_NETMAP_ROUTES});
  }
  const uint64_t wait = next == UINT64_MAX ? UINT64_MAX : next - server_us;
  nm->expiry_due_us =
      any ? now_us + (wait < NETMAP_EXPIRY_RECHECK_US ? wait : NETMAP_EXPIRY_RECHECK_US)
          : MSOCK_NEVER;
}

uint64_t msock_netmap_next_expiry(const msock_netmap *nm) {
  return nm->expiry_due_us;
}
