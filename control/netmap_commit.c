/* control/netmap_commit.c: a parsed message into the store, as a whole (control.md 4.4).
 *
 * Two halves: prepare builds everything that can fail beside the store; swap cannot fail, moves it
 * in and queues what changed. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "control/netmap_internal.h"

typedef struct netmap_next { /* what swap will move in */
  netmap_peers peers;        /* nodes that are not of the old store belong to it until swap */
  const msock_peer *self;    /* the new or the old one */
  bool reindex;
  bool *shadow; /* of peers; when reindex */
  uint32_t *slots;
  size_t n_slots;
  uint64_t conflicts;
  bool has_filter;
  netmap_filter_set *sets;
  size_t n_sets;
  msock_policy_rule *rules; /* the union */
  size_t n_rules;
  bool has_health;
  msock_health_message *health;
  size_t n_health;
  uint64_t server_us;
} netmap_next;

/* --- prepare: peers --- */

typedef struct placed { /* a node and where in the message it stood */
  msock_peer *p;
  size_t at;
} placed;

static int by_id(const void *a, const void *b) {
  const placed *x = a, *y = b;
  if (x->p->id != y->p->id) {
    return x->p->id < y->p->id ? -1 : 1;
  }
  return x->at < y->at ? -1 : x->at > y->at;
}

static msock_peer *find(const netmap_peers *v, uint64_t id, size_t *at) {
  size_t lo = 0, hi = v->n;
  while (lo < hi) {
    const size_t mid = lo + (hi - lo) / 2;
    if (v->p[mid]->id < id) {
      lo = mid + 1;
    } else {
      hi = mid;
    }
  }
  *at = lo;
  return lo < v->n && v->p[lo]->id == id ? v->p[lo] : NULL;
}

static bool is_sorted(const netmap_peers *v) {
  for (size_t i = 1; i < v->n; i++) {
    if (v->p[i - 1]->id >= v->p[i]->id) {
      return false;
    }
  }
  return true;
}

/* Sorts; of nodes with one ID the later wins; self is no peer. False: out of memory. */
static bool normalise(netmap_peers *v, uint64_t self_id) {
  if (!is_sorted(v)) {
    placed *all = malloc(v->n * sizeof *all);
    if (all == NULL) {
      return false;
    }
    for (size_t i = 0; i < v->n; i++) {
      all[i] = (placed){v->p[i], i};
    }
    qsort(all, v->n, sizeof *all, by_id);
    for (size_t i = 0; i < v->n; i++) {
      v->p[i] = all[i].p;
    }
    free(all);
  }
  size_t n = 0;
  for (size_t i = 0; i < v->n; i++) {
    if (v->p[i]->id == self_id || (i + 1 < v->n && v->p[i + 1]->id == v->p[i]->id)) {
      netmap_peer_free(v->p[i]);
    } else {
      v->p[n++] = v->p[i];
    }
  }
  v->n = n;
  return true;
}

static bool is_old(const msock_netmap *nm, const msock_peer *p) {
  size_t at = 0;
  return find(&nm->peers, p->id, &at) == p;
}

static bool is_removed(const msock_netmap_update *u, uint64_t id) {
  for (size_t i = 0; i < u->n_removed; i++) {
    if (u->removed[i] == id) {
      return true;
    }
  }
  return false;
}

/* Old nodes from..to without the removed ones. Nodes are looked at only when some were removed: a
 * patch of one peer must not touch the memory of thousands (CTRL-72). */
static void keep_old(const msock_netmap *nm, const msock_netmap_update *u, size_t from, size_t to,
                     netmap_peers *out) {
  for (size_t i = from; i < to; i++) {
    if (u->n_removed == 0 || !is_removed(u, nm->peers.p[i]->id)) {
      out->p[out->n++] = nm->peers.p[i];
    }
  }
}

/* old minus removed, merged with changed (both ascending). Takes the changed nodes. */
static bool merge(const msock_netmap *nm, msock_netmap_update *u, netmap_peers *out) {
  const size_t room = nm->peers.n + u->changed.n;
  out->p = malloc((room + 1) * sizeof(msock_peer *));
  if (out->p == NULL) {
    return false;
  }
  out->cap = room + 1;
  size_t i = 0;
  for (size_t j = 0; j < u->changed.n; j++) {
    msock_peer *new = u->changed.p[j];
    size_t at = 0;
    const bool replaces = find(&nm->peers, new->id, &at) != NULL;
    keep_old(nm, u, i, at, out);
    out->p[out->n++] = new;
    i = at + replaces;
  }
  keep_old(nm, u, i, nm->peers.n, out);
  u->changed.n = 0;
  while (out->n > MSOCK_NETMAP_PEERS_MAX) { /* the table is full: the highest IDs go */
    msock_peer *last = out->p[--out->n];
    u->over_bounds++;
    if (!is_old(nm, last)) {
      netmap_peer_free(last);
    }
  }
  return true;
}

static bool apply_values(msock_peer *p, const netmap_patch *patch, uint64_t server_us) {
  if (patch->has & PATCH_KEY) {
    /* TRAP control.md 4.4: a new key un-expires, the encoder drops the zero KeyExpiry. */
    if (!msock_node_key_equal(&p->key, &patch->key)) {
      p->key_expiry_us = 0;
      p->expired_flag = false;
    }
    p->key = patch->key;
  }
  p->home_derp = patch->has & PATCH_DERP ? patch->home_derp : p->home_derp;
  p->cap = patch->has & PATCH_CAP ? patch->cap : p->cap;
  p->disco = patch->has & PATCH_DISCO ? patch->disco : p->disco;
  p->online = patch->has & PATCH_ONLINE ? patch->online : p->online;
  p->last_seen_us = patch->has & PATCH_LAST_SEEN ? patch->last_seen_us : p->last_seen_us;
  p->last_seen_us = patch->has & PATCH_SEEN_NOW ? server_us : p->last_seen_us;
  p->key_expiry_us = patch->has & PATCH_KEY_EXPIRY ? patch->key_expiry_us : p->key_expiry_us;
  if (patch->has & PATCH_CAPS) {
    netmap_strlist_clear(&p->caps);
    if (!netmap_strlist_copy(&p->caps, &patch->caps)) {
      return false;
    }
  }
  if (patch->has & PATCH_ENDPOINTS) {
    msock_addr *copy = malloc(patch->n_endpoints * sizeof *copy + 1);
    if (copy == NULL) {
      return false;
    }
    if (patch->n_endpoints > 0) {
      memcpy(copy, patch->endpoints, patch->n_endpoints * sizeof *copy);
    }
    free(p->endpoints);
    p->endpoints = copy;
    p->n_endpoints = patch->n_endpoints;
  }
  return true;
}

static bool apply_patches(const msock_netmap *nm, const netmap_patches *v, netmap_next *next) {
  for (size_t i = 0; i < v->n; i++) {
    size_t at = 0;
    msock_peer *p = find(&next->peers, v->p[i].id, &at);
    if (p && is_old(nm, p)) { /* readers still see the old one until swap */
      p = netmap_peer_copy(p);
      if (p == NULL) {
        return false;
      }
      next->peers.p[at] = p;
    }
    if (p && !apply_values(p, &v->p[i], next->server_us)) {
      return false;
    }
  }
  return true;
}

/* Whether who wins conflicts may have changed: a node came, went, or moved key or address. */
static bool needs_index(const msock_netmap *nm, const netmap_next *next) {
  if (nm->peers.n != next->peers.n || nm->n_key_slots == 0 ||
      (nm->self == NULL) != (next->self == NULL) ||
      (nm->self && !msock_node_key_equal(&nm->self->key, &next->self->key))) {
    return true;
  }
  for (size_t i = 0; i < nm->peers.n; i++) {
    const msock_peer *a = nm->peers.p[i], *b = next->peers.p[i];
    if (a != b && (a->id != b->id ||
                   (netmap_peer_diff(a, b) & (MSOCK_PEER_KEY | MSOCK_PEER_ADDRESSES)) != 0)) {
      return true;
    }
  }
  return false;
}

static bool prepare_peers(const msock_netmap *nm, msock_netmap_update *u, bool first,
                          netmap_next *next) {
  const uint64_t self_id = next->self ? next->self->id : 0;
  if (!normalise(&u->peers, self_id) || !normalise(&u->changed, self_id)) {
    return false;
  }
  if (u->peers.n > 0) { /* the complete list; hides the other peer fields */
    next->peers = u->peers;
    u->peers = (netmap_peers){0};
  } else {
    if (first) { /* no Peers in a first message: there are none (but what it adds itself) */
      next->peers = u->changed;
      u->changed = (netmap_peers){0};
    } else if (!merge(nm, u, &next->peers)) {
      return false;
    }
    if (!apply_patches(nm, &u->early_patches, next) || !apply_patches(nm, &u->patches, next)) {
      return false;
    }
  }
  next->reindex = needs_index(nm, next);
  if (!next->reindex) {
    return true;
  }
  next->shadow = calloc(next->peers.n + 1, sizeof *next->shadow);
  return next->shadow && netmap_index(&next->peers, next->self, next->shadow, &next->slots,
                                      &next->n_slots, &next->conflicts);
}

/* --- prepare: filter, health --- */

static netmap_filter_set *set_named(netmap_filter_set *sets, size_t n, const char *name) {
  for (size_t i = 0; i < n; i++) {
    if (strcmp(sets[i].name, name) == 0) {
      return &sets[i];
    }
  }
  return NULL;
}

/* Puts the update's sets of one form over those in next (shallow; ownership is settled in swap). */
static void lay_over(msock_netmap_update *u, bool legacy, netmap_next *next) {
  for (size_t i = 0; i < u->n_sets; i++) {
    const netmap_filter_set *s = &u->sets[i];
    netmap_filter_set *at = set_named(next->sets, next->n_sets, s->name);
    if (s->legacy != legacy) {
      continue;
    }
    if (s->deleted && at) {
      *at = next->sets[--next->n_sets];
    } else if (!s->deleted && at) {
      *at = *s;
    } else if (!s->deleted && next->n_sets < MSOCK_NETMAP_FILTER_SETS_MAX) {
      next->sets[next->n_sets++] = *s;
    } else if (!s->deleted) {
      u->over_bounds++;
    }
  }
}

static bool prepare_filter(const msock_netmap *nm, msock_netmap_update *u, netmap_next *next) {
  next->has_filter = u->clear_filters || u->n_sets > 0;
  if (!next->has_filter) {
    return true;
  }
  next->sets = calloc(nm->n_sets + u->n_sets + 1, sizeof *next->sets);
  if (next->sets == NULL) {
    return false;
  }
  if (nm->n_sets > 0) {
    memcpy(next->sets, nm->sets, nm->n_sets * sizeof *nm->sets);
  }
  next->n_sets = nm->n_sets;
  lay_over(u, true, next);
  next->n_sets = u->clear_filters ? 0 : next->n_sets;
  lay_over(u, false, next);
  size_t n = 0;
  for (size_t i = 0; i < next->n_sets; i++) {
    n += next->sets[i].policy.n_rules;
  }
  next->rules = calloc(n + 1, sizeof *next->rules);
  for (size_t i = 0; next->rules && i < next->n_sets; i++) {
    for (size_t j = 0; j < next->sets[i].policy.n_rules; j++) {
      next->rules[next->n_rules++] = next->sets[i].policy.rules[j];
    }
  }
  return next->rules != NULL;
}

static bool copy_health(msock_health_message *to, const msock_health_message *from) {
  *to = (msock_health_message){.id = strdup(from->id),
                               .title = strdup(from->title),
                               .text = strdup(from->text),
                               .severity = strdup(from->severity)};
  return to->id && to->title && to->text && to->severity;
}

static bool put_health(netmap_next *next, const msock_health_message *m) {
  if (next->n_health == MSOCK_NETMAP_HEALTH_MAX) {
    return true; /* the first ones are kept */
  }
  return copy_health(&next->health[next->n_health++], m);
}

/* The new list: what the message does not replace of the old one, then its own (control.md 4.4). */
static bool prepare_health(const msock_netmap *nm, const msock_netmap_update *u,
                           netmap_next *next) {
  next->has_health = u->has_health || u->clear_display || u->n_display > 0;
  if (!next->has_health) {
    return true;
  }
  next->health = calloc(MSOCK_NETMAP_HEALTH_MAX, sizeof *next->health);
  bool ok = next->health != NULL;
  for (size_t i = 0; ok && i < nm->n_health; i++) {
    const msock_health_message *m = &nm->health[i];
    bool replaced = *m->id ? u->clear_display : u->has_health;
    for (size_t j = 0; j < u->n_display && *m->id; j++) {
      replaced = replaced || strcmp(u->display[j].m.id, m->id) == 0;
    }
    ok = replaced || put_health(next, m);
  }
  for (size_t i = 0; ok && i < u->n_display; i++) {
    ok = u->display[i].deleted || put_health(next, &u->display[i].m);
  }
  return ok;
}

/* Room for the new users, so that swap cannot fail. */
static bool prepare_users(msock_netmap *nm, const msock_netmap_update *u) {
  if (u->n_users == 0 || nm->n_users + u->n_users <= nm->cap_users) {
    return true;
  }
  msock_user_profile *grown = realloc(nm->users, (nm->n_users + u->n_users) * sizeof *nm->users);
  if (grown == NULL) {
    return false;
  }
  nm->users = grown;
  nm->cap_users = nm->n_users + u->n_users;
  return true;
}

/* A failed prepare: everything that is not of the store goes. */
static void discard(const msock_netmap *nm, netmap_next *next) {
  for (size_t i = 0; i < next->peers.n; i++) {
    if (!is_old(nm, next->peers.p[i])) {
      netmap_peer_free(next->peers.p[i]);
    }
  }
  free(next->peers.p);
  free(next->shadow);
  free(next->slots);
  free(next->sets); /* shallow */
  free(next->rules);
  for (size_t i = 0; i < next->n_health; i++) {
    netmap_health_clear(&next->health[i]);
  }
  free(next->health);
}

/* --- swap --- */

static void push(msock_netmap *nm, msock_netmap_change_kind kind) {
  netmap_push_change(nm, (msock_netmap_change){.kind = kind});
}

/* Settles one place of the merged walk; old or new may be NULL. Frees the old node. Gives whether
 * routes may have changed. */
static bool settle(msock_netmap *nm, msock_peer *old, msock_peer *new) {
  const bool was = old && !old->shadowed, is = new && !new->shadowed;
  const uint32_t what = old && new ? netmap_peer_diff(old, new) : 0;
  bool routes = false;
  if (was && !is) {
    netmap_push_change(nm, (msock_netmap_change){
                               .kind = MSOCK_NETMAP_PEER_REMOVED, .id = old->id, .key = old->key});
    routes = old->has_routes;
  } else if (!was && is) {
    netmap_push_change(
        nm, (msock_netmap_change){.kind = MSOCK_NETMAP_PEER_ADDED, .id = new->id, .key = new->key});
    routes = new->has_routes;
  } else if (is && what != 0) {
    netmap_push_change(
        nm, (msock_netmap_change){
                .kind = MSOCK_NETMAP_PEER_CHANGED, .what = what, .id = new->id, .key = old->key});
    routes = (what & (MSOCK_PEER_ALLOWED | MSOCK_PEER_ADDRESSES)) != 0 ||
             ((what & MSOCK_PEER_EXPIRY) != 0 && (old->has_routes || new->has_routes));
  }
  netmap_peer_free(old);
  return routes;
}

static void note_expiry(msock_netmap *nm, const msock_peer *p, const netmap_next *next,
                        uint64_t now_us) {
  if (p->key_expiry_us > next->server_us) {
    const uint64_t wait = p->key_expiry_us - next->server_us;
    const uint64_t due =
        now_us + (wait < NETMAP_EXPIRY_RECHECK_US ? wait : NETMAP_EXPIRY_RECHECK_US);
    nm->expiry_due_us = due < nm->expiry_due_us ? due : nm->expiry_due_us;
  }
}

static void swap_peers(msock_netmap *nm, netmap_next *next, uint64_t now_us) {
  bool routes = false;
  size_t i = 0;
  for (size_t j = 0; j < next->peers.n; j++) {
    msock_peer *new = next->peers.p[j];
    if (!next->reindex && i < nm->peers.n && nm->peers.p[i] == new) {
      i++; /* as it was; not even looked at */
      continue;
    }
    for (; i < nm->peers.n && nm->peers.p[i] != new && nm->peers.p[i]->id < new->id; i++) {
      routes = settle(nm, nm->peers.p[i], NULL) || routes;
    }
    msock_peer *old = i < nm->peers.n && nm->peers.p[i]->id == new->id ? nm->peers.p[i++] : NULL;
    const bool shadowed = next->reindex ? next->shadow[j] : old && old->shadowed;
    if (old == new) {
      if (new->shadowed == shadowed) {
        continue;
      }
      new->shadowed = shadowed;
      netmap_push_change(nm, (msock_netmap_change){.kind = shadowed ? MSOCK_NETMAP_PEER_REMOVED
                                                                    : MSOCK_NETMAP_PEER_ADDED,
                                                   .id = new->id,
                                                   .key = new->key});
      routes = routes || new->has_routes;
      continue;
    }
    new->shadowed = shadowed;
    new->expired = netmap_is_expired(new, next->server_us);
    note_expiry(nm, new, next, now_us);
    routes = settle(nm, old, new) || routes;
  }
  for (; i < nm->peers.n; i++) {
    routes = settle(nm, nm->peers.p[i], NULL) || routes;
  }
  free(nm->peers.p);
  nm->peers = next->peers;
  if (next->reindex) {
    free(nm->key_slots);
    nm->key_slots = next->slots;
    nm->n_key_slots = next->n_slots;
    nm->stats.conflicts = next->conflicts;
    if (next->conflicts > 0) {
      msock_logf(nm->env->log, MSOCK_LOG_WARN, "control.peer-conflict", "peers=%" PRIu64,
                 next->conflicts);
    }
  }
  if (routes) {
    push(nm, MSOCK_NETMAP_ROUTES);
  }
}

static void swap_self(msock_netmap *nm, msock_netmap_update *u, const netmap_next *next,
                      uint64_t now_us) {
  if (u->self == NULL) {
    return;
  }
  u->self->expired = netmap_is_expired(u->self, next->server_us);
  const uint32_t what = nm->self ? netmap_peer_diff(nm->self, u->self) : UINT32_MAX;
  if (what != 0) {
    netmap_push_change(nm, (msock_netmap_change){.kind = MSOCK_NETMAP_SELF,
                                                 .what = what,
                                                 .id = u->self->id,
                                                 .key = nm->self ? nm->self->key : u->self->key});
  }
  netmap_peer_free(nm->self);
  nm->self = u->self;
  u->self = NULL;
  note_expiry(nm, nm->self, next, now_us);
}

static int user_by_id(const void *a, const void *b) {
  const msock_user_profile *x = a, *y = b;
  return x->id < y->id ? -1 : x->id > y->id;
}

static void swap_users(msock_netmap *nm, msock_netmap_update *u) {
  bool changed = false;
  for (size_t i = 0; i < u->n_users; i++) {
    msock_user_profile *new = &u->users[i];
    msock_user_profile *old = (msock_user_profile *)msock_netmap_user(nm, new->id);
    if (old && strcmp(old->login, new->login) == 0 && strcmp(old->display, new->display) == 0) {
      continue; /* freed with the update */
    }
    if (old) {
      netmap_user_clear(old);
      *old = *new;
    } else if (nm->n_users < MSOCK_NETMAP_USERS_MAX) {
      nm->users[nm->n_users++] = *new;
    } else {
      u->over_bounds++;
      continue;
    }
    *new = (msock_user_profile){0};
    changed = true;
  }
  if (changed) {
    qsort(nm->users, nm->n_users, sizeof *nm->users, user_by_id);
    push(nm, MSOCK_NETMAP_USERS);
  }
}

static bool maps_equal(const msock_derp_map *a, const msock_derp_map *b) {
  for (size_t i = 0; a->n_regions == b->n_regions && i < a->n_regions; i++) {
    if (!msock_derp_region_equal(&a->regions[i], &b->regions[i])) {
      return false;
    }
  }
  return a->n_regions == b->n_regions;
}

static void set_region_scores(msock_derp_map *m, const netmap_score *scores, size_t n) {
  for (size_t i = 0; i < m->n_regions; i++) {
    m->regions[i].score = 1.0;
    for (size_t j = 0; j < n; j++) {
      if (scores[j].id == m->regions[i].id) {
        m->regions[i].score = scores[j].score;
      }
    }
  }
}

static void swap_derp(msock_netmap *nm, msock_netmap_update *u) {
  bool changed = u->has_scores;
  if (u->has_scores) {
    free(nm->scores);
    nm->scores = u->scores;
    nm->n_scores = u->n_scores;
    u->scores = NULL;
  }
  if (u->has_regions) {
    set_region_scores(&u->derp, nm->scores, nm->n_scores);
    changed = !maps_equal(&nm->derp, &u->derp);
    msock_derp_map_clear(&nm->derp);
    nm->derp = u->derp;
    u->derp = (msock_derp_map){0};
  } else if (u->has_scores) {
    set_region_scores(&nm->derp, nm->scores, nm->n_scores);
  }
  if (changed) {
    push(nm, MSOCK_NETMAP_DERP_MAP);
  }
}

static bool sets_equal(const msock_netmap *nm, const netmap_next *next) {
  for (size_t i = 0; i < next->n_sets; i++) {
    const netmap_filter_set *old = set_named(nm->sets, nm->n_sets, next->sets[i].name);
    if (old == NULL || memcmp(old->digest, next->sets[i].digest, NETMAP_DIGEST_LEN) != 0) {
      return false;
    }
  }
  return next->n_sets == nm->n_sets;
}

/* Whether a set's rules live on in next. */
static bool is_kept(const netmap_filter_set *s, const netmap_next *next) {
  for (size_t i = 0; i < next->n_sets; i++) {
    if (next->sets[i].name == s->name) {
      return true;
    }
  }
  return false;
}

static void swap_filter(msock_netmap *nm, msock_netmap_update *u, netmap_next *next) {
  if (!next->has_filter) {
    return;
  }
  if (!nm->filter_seen || !sets_equal(nm, next)) {
    push(nm, MSOCK_NETMAP_FILTER);
  }
  for (size_t i = 0; i < nm->n_sets; i++) {
    if (!is_kept(&nm->sets[i], next)) {
      netmap_set_clear(&nm->sets[i]);
    }
  }
  for (size_t i = 0; i < u->n_sets; i++) {
    if (is_kept(&u->sets[i], next)) {
      u->sets[i] = (netmap_filter_set){0}; /* moved */
    }
  }
  free(nm->sets);
  free(nm->filter.rules);
  nm->sets = next->sets;
  nm->n_sets = next->n_sets;
  nm->filter = (msock_policy){.rules = next->rules, .n_rules = next->n_rules};
  nm->filter_seen = true;
}

static void swap_rest(msock_netmap *nm, msock_netmap_update *u, netmap_next *next) {
  if (u->has_dns) {
    if (memcmp(nm->dns_digest, u->dns_digest, sizeof nm->dns_digest) != 0) {
      push(nm, MSOCK_NETMAP_DNS);
    }
    memcpy(nm->dns_digest, u->dns_digest, sizeof nm->dns_digest);
    netmap_dns_clear(&nm->dns);
    nm->dns = u->dns;
    u->dns = (msock_dns_config){0};
  }
  if (u->domain) {
    if (nm->domain == NULL || strcmp(nm->domain, u->domain) != 0) {
      push(nm, MSOCK_NETMAP_DOMAIN);
    }
    free(nm->domain);
    nm->domain = u->domain;
    u->domain = NULL;
  }
  if (next->has_health) {
    for (size_t i = 0; i < nm->n_health; i++) {
      netmap_health_clear(&nm->health[i]);
    }
    free(nm->health);
    nm->health = next->health;
    nm->n_health = next->n_health;
    push(nm, MSOCK_NETMAP_HEALTH);
  }
}

/* --- commit --- */

/* Server time: control.md 5.1. A change of the offset moves every expiry. */
static void set_clock(msock_netmap *nm, const msock_netmap_update *u, uint64_t now_us,
                      uint64_t wall_us) {
  if (!u->has_control_time) {
    return;
  }
  const int64_t diff = (int64_t)u->control_time_us - (int64_t)wall_us;
  const int64_t slack = (int64_t)NETMAP_CLOCK_SLACK_US;
  const int64_t offset = diff > slack || diff < -slack ? diff : 0;
  if (offset != nm->clock_offset_us) {
    nm->clock_offset_us = offset;
    msock_netmap_on_expiry(nm, now_us, wall_us);
  }
}

static void count(msock_netmap *nm, msock_netmap_update *u) {
  nm->stats.messages++;
  nm->stats.bad_elements += u->bad_elements;
  nm->stats.over_bounds += u->over_bounds;
  nm->stats.skipped_endpoints += u->skipped_endpoints;
  if (u->bad_elements + u->over_bounds > 0) {
    msock_logf(nm->env->log, MSOCK_LOG_WARN, "control.map-elements-dropped",
               "malformed=%" PRIu64 " over_bounds=%" PRIu64, u->bad_elements, u->over_bounds);
  }
}

msock_err msock_netmap_commit(msock_netmap *nm, msock_netmap_update *u, bool first, uint64_t now_us,
                              uint64_t wall_us) {
  netmap_next next = {0};

  if (u->notice.keep_alive) { /* all but what the client machine reads is ignored */
    set_clock(nm, u, now_us, wall_us);
    count(nm, u);
    msock_netmap_update_begin(u);
    return MSOCK_OK;
  }
  if (first && u->self == NULL) {
    return MSOCK_ERR_INVALID;
  }
  next.self = u->self ? u->self : nm->self;
  next.server_us = u->has_control_time ? u->control_time_us : netmap_server_now(nm, wall_us);
  if (!prepare_peers(nm, u, first, &next) || !prepare_filter(nm, u, &next) ||
      !prepare_health(nm, u, &next) || !prepare_users(nm, u)) {
    discard(nm, &next);
    msock_netmap_update_begin(u);
    return MSOCK_ERR_NOMEM;
  }
  set_clock(nm, u, now_us, wall_us);
  next.server_us = netmap_server_now(nm, wall_us);
  swap_self(nm, u, &next, now_us);
  swap_peers(nm, &next, now_us);
  swap_users(nm, u);
  swap_derp(nm, u);
  swap_filter(nm, u, &next);
  swap_rest(nm, u, &next);
  free(next.shadow);
  count(nm, u);
  msock_netmap_update_begin(u);
  return MSOCK_OK;
}
