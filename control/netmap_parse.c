/* control/netmap_parse.c: the text of one map message into a msock_netmap_update, element by
 * element (control.md 4.4, 4.5). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/netmap_internal.h"
#include "control/wire_time.h"
#include "crypto/blake2s.h"

#define LEGACY_FILTER_NAME "base" /* PacketFilter is the older form of this one: control.md 4.4 */
#define REVERSE_ZONE ".arpa"

/* --- what of a message is read, and how --- */

static msock_json_mode mode_of(void *ctx, const msock_json_path *path) {
  /* Containers walked element by element; "*" is any key or element. */
  static const struct {
    const char *key[3];
    size_t depth;
    msock_json_mode mode;
  } rules[] = {
      {{"Peers"}, 1, MSOCK_JSON_DESCEND},
      {{"PeersChanged"}, 1, MSOCK_JSON_DESCEND},
      {{"PeersRemoved"}, 1, MSOCK_JSON_DESCEND},
      {{"PeersChangedPatch"}, 1, MSOCK_JSON_DESCEND},
      {{"PeerSeenChange"}, 1, MSOCK_JSON_DESCEND},
      {{"OnlineChange"}, 1, MSOCK_JSON_DESCEND},
      {{"UserProfiles"}, 1, MSOCK_JSON_DESCEND},
      {{"PacketFilter"}, 1, MSOCK_JSON_DESCEND},
      {{"PacketFilters"}, 1, MSOCK_JSON_DESCEND},
      {{"PacketFilters", "*"}, 2, MSOCK_JSON_DESCEND},
      {{"DERPMap"}, 1, MSOCK_JSON_DESCEND},
      {{"DERPMap", "Regions"}, 2, MSOCK_JSON_DESCEND},
      {{"DERPMap", "HomeParams"}, 2, MSOCK_JSON_WHOLE},
      {{"DNSConfig"}, 1, MSOCK_JSON_DESCEND},
      {{"DNSConfig", "Routes"}, 2, MSOCK_JSON_DESCEND},
      {{"DNSConfig", "ExtraRecords"}, 2, MSOCK_JSON_DESCEND},
      {{"DNSConfig", "*"}, 2, MSOCK_JSON_WHOLE},
      {{"DisplayMessages"}, 1, MSOCK_JSON_DESCEND},
      {{"Health"}, 1, MSOCK_JSON_DESCEND},
      {{"Node"}, 1, MSOCK_JSON_WHOLE},
      {{"Domain"}, 1, MSOCK_JSON_WHOLE},
      {{"ControlTime"}, 1, MSOCK_JSON_WHOLE},
      {{"KeepAlive"}, 1, MSOCK_JSON_WHOLE},
      {{"PingRequest"}, 1, MSOCK_JSON_WHOLE},
      {{"PopBrowserURL"}, 1, MSOCK_JSON_WHOLE},
      {{"Debug"}, 1, MSOCK_JSON_WHOLE},
  };
  (void)ctx;
  if (path->depth == 0) {
    return MSOCK_JSON_DESCEND;
  }
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
    bool same = rules[i].depth == path->depth;
    for (size_t j = 0; same && j < path->depth; j++) {
      same = strcmp(rules[i].key[j], "*") == 0 || strcmp(rules[i].key[j], path->key[j]) == 0;
    }
    if (same) {
      return rules[i].mode;
    }
  }
  /* An element of a container above. */
  if (strcmp(path->key[0], "DERPMap") == 0) {
    return path->depth == 3 ? MSOCK_JSON_WHOLE : MSOCK_JSON_SKIP;
  }
  return path->depth >= 2 ? MSOCK_JSON_WHOLE : MSOCK_JSON_SKIP;
}

/* --- digests: a repeated filter or DNS configuration is no change --- */

static void digest_add(uint8_t digest[static NETMAP_DIGEST_LEN], const char *text, size_t len) {
  const msock_bytes parts[] = {{digest, NETMAP_DIGEST_LEN}, {text, len}};
  msock_blake2s(digest, parts, 2);
}

/* --- beginning a container --- */

static void clear_users(msock_netmap_update *u) {
  for (size_t i = 0; i < u->n_users; i++) {
    netmap_user_clear(&u->users[i]);
  }
  free(u->users);
  u->users = NULL;
  u->n_users = u->cap_users = 0;
}

static void clear_patches(netmap_patches *v) {
  for (size_t i = 0; i < v->n; i++) {
    netmap_patch_clear(&v->p[i]);
  }
  free(v->p);
  *v = (netmap_patches){0};
}

static void clear_display(msock_netmap_update *u) {
  for (size_t i = 0; i < u->n_display; i++) {
    netmap_health_clear(&u->display[i].m);
  }
  free(u->display);
  u->display = NULL;
  u->n_display = u->cap_display = 0;
}

static netmap_filter_set *find_set(msock_netmap_update *u, const char *name, bool legacy) {
  for (size_t i = 0; i < u->n_sets; i++) {
    if (u->sets[i].legacy == legacy && strcmp(u->sets[i].name, name) == 0) {
      return &u->sets[i];
    }
  }
  return NULL;
}

/* Opens a set of that name, empty; a name that comes twice replaces the former one (last wins). Out
 * of room: counted, and its rules are dropped by add_rule. */
static msock_err open_set(msock_netmap_update *u, const char *name, bool legacy, bool deleted) {
  netmap_filter_set *s = find_set(u, name, legacy);
  if (s) {
    u->n_rules -= s->policy.n_rules;
    msock_policy_clear(&s->policy);
    s->deleted = deleted;
    memset(s->digest, 0, sizeof s->digest);
    return MSOCK_OK;
  }
  if (u->n_sets == MSOCK_NETMAP_FILTER_SETS_MAX) {
    u->over_bounds++;
    return MSOCK_OK;
  }
  if (!netmap_grow((void **)&u->sets, &u->cap_sets, u->n_sets, sizeof *u->sets)) {
    return MSOCK_ERR_NOMEM;
  }
  s = &u->sets[u->n_sets];
  *s = (netmap_filter_set){
      .name = netmap_text(name, MSOCK_NETMAP_NAME_MAX), .legacy = legacy, .deleted = deleted};
  if (s->name == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  u->n_sets++;
  return MSOCK_OK;
}

static msock_err begin_top(msock_netmap_update *u, const char *key) {
  if (strcmp(key, "Peers") == 0) {
    netmap_peers_clear(&u->peers);
  } else if (strcmp(key, "PeersChanged") == 0) {
    netmap_peers_clear(&u->changed);
  } else if (strcmp(key, "PeersRemoved") == 0) {
    u->n_removed = 0;
  } else if (strcmp(key, "PeersChangedPatch") == 0) {
    clear_patches(&u->patches);
  } else if (strcmp(key, "UserProfiles") == 0) {
    clear_users(u);
  } else if (strcmp(key, "PacketFilter") == 0) {
    return open_set(u, LEGACY_FILTER_NAME, true, false);
  } else if (strcmp(key, "Health") == 0) {
    u->has_health = true;
  } else if (strcmp(key, "DNSConfig") == 0) {
    netmap_dns_clear(&u->dns);
    memset(u->dns_digest, 0, sizeof u->dns_digest);
    u->has_dns = true;
  }
  return MSOCK_OK;
}

static msock_err on_begin(msock_netmap_update *u, const msock_json_path *path) {
  if (path->depth == 1) {
    return begin_top(u, path->key[0]);
  }
  if (path->depth == 2 && strcmp(path->key[0], "PacketFilters") == 0) {
    return open_set(u, path->key[1], false, false);
  }
  if (path->depth == 2 && strcmp(path->key[0], "DERPMap") == 0) {
    msock_derp_map_clear(&u->derp);
    u->cap_regions = 0;
    u->has_regions = true;
  }
  return MSOCK_OK;
}

/* --- elements --- */

static msock_err add_peer(msock_netmap_update *u, netmap_peers *to, json_object *o) {
  msock_peer *p = NULL;
  if (to->n == MSOCK_NETMAP_PEERS_MAX) {
    u->over_bounds++;
    return MSOCK_OK;
  }
  const msock_err err = netmap_node_parse(o, u->nm->allow_loopback, &p, &u->skipped_endpoints);
  if (err == MSOCK_ERR_INVALID) { /* one malformed peer is dropped, not the map */
    u->bad_elements++;
    return MSOCK_OK;
  }
  if (err != MSOCK_OK) {
    return err;
  }
  if (!netmap_peers_push(to, p)) {
    netmap_peer_free(p);
    return MSOCK_ERR_NOMEM;
  }
  return MSOCK_OK;
}

static msock_err add_removed(msock_netmap_update *u, json_object *o) {
  const int64_t id = json_object_is_type(o, json_type_int) ? json_object_get_int64(o) : 0;
  if (id <= 0 || u->n_removed == MSOCK_NETMAP_PEERS_MAX) {
    u->bad_elements++;
    return MSOCK_OK;
  }
  if (!netmap_grow((void **)&u->removed, &u->cap_removed, u->n_removed, sizeof *u->removed)) {
    return MSOCK_ERR_NOMEM;
  }
  u->removed[u->n_removed++] = (uint64_t)id;
  return MSOCK_OK;
}

static msock_err push_patch(msock_netmap_update *u, netmap_patches *to, netmap_patch p) {
  if (to->n == MSOCK_NETMAP_PEERS_MAX) {
    u->over_bounds++;
    netmap_patch_clear(&p);
    return MSOCK_OK;
  }
  if (!netmap_grow((void **)&to->p, &to->cap, to->n, sizeof *to->p)) {
    netmap_patch_clear(&p);
    return MSOCK_ERR_NOMEM;
  }
  to->p[to->n++] = p;
  return MSOCK_OK;
}

static msock_err add_patch(msock_netmap_update *u, json_object *o) {
  netmap_patch p = {0};
  const msock_err err = netmap_patch_parse(o, u->nm->allow_loopback, &p, &u->skipped_endpoints);
  if (err == MSOCK_ERR_INVALID) {
    u->bad_elements++;
    return MSOCK_OK;
  }
  return err == MSOCK_OK ? push_patch(u, &u->patches, p) : err;
}

/* PeerSeenChange {id: true = now, false = cleared}, OnlineChange {id: bool}. */
static msock_err add_flag(msock_netmap_update *u, bool seen, const char *key, json_object *o) {
  char *end = NULL;
  netmap_patch p = {.id = strtoull(key, &end, 10)};
  if (p.id == 0 || *end != '\0' || !json_object_is_type(o, json_type_boolean)) {
    u->bad_elements++;
    return MSOCK_OK;
  }
  const bool on = json_object_get_boolean(o);
  if (seen) {
    p.has = on ? PATCH_SEEN_NOW : PATCH_LAST_SEEN;
  } else {
    p.has = PATCH_ONLINE;
    p.online = on ? MSOCK_PEER_ONLINE_YES : MSOCK_PEER_ONLINE_NO;
  }
  return push_patch(u, &u->early_patches, p);
}

static msock_err add_user(msock_netmap_update *u, json_object *o) {
  msock_user_profile p = {.id = netmap_uint(o, "ID")};
  if (p.id == 0 || u->n_users == MSOCK_NETMAP_USERS_MAX) {
    u->bad_elements++;
    return MSOCK_OK;
  }
  if (!netmap_grow((void **)&u->users, &u->cap_users, u->n_users, sizeof *u->users)) {
    return MSOCK_ERR_NOMEM;
  }
  p.login = netmap_text(netmap_str(o, "LoginName"), MSOCK_NETMAP_NAME_MAX);
  p.display = netmap_text(netmap_str(o, "DisplayName"), MSOCK_NETMAP_NAME_MAX);
  if (p.login == NULL || p.display == NULL) {
    netmap_user_clear(&p);
    return MSOCK_ERR_NOMEM;
  }
  u->users[u->n_users++] = p;
  return MSOCK_OK;
}

static msock_err add_rule(msock_netmap_update *u, netmap_filter_set *s, json_object *o,
                          const char *text, size_t len) {
  if (s == NULL || u->n_rules == MSOCK_NETMAP_RULES_MAX) {
    u->over_bounds++;
    return MSOCK_OK;
  }
  digest_add(s->digest, text, len);
  msock_policy_rule *rules = realloc(s->policy.rules, (s->policy.n_rules + 1) * sizeof *rules);
  if (rules == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  s->policy.rules = rules;
  const msock_err err = netmap_rule_parse(o, &rules[s->policy.n_rules], &u->bad_elements);
  if (err == MSOCK_ERR_NOMEM) {
    return err;
  }
  if (err == MSOCK_OK) {
    s->policy.n_rules++;
    u->n_rules++;
  } else {
    u->bad_elements++;
  }
  return MSOCK_OK;
}

static msock_err add_region(msock_netmap_update *u, const char *key, json_object *o) {
  msock_derp_region r;
  if (o == NULL) {
    return MSOCK_OK; /* a null region is dropped: control.md 4.6 */
  }
  if (u->derp.n_regions == MSOCK_DERP_REGIONS_MAX) {
    u->over_bounds++;
    return MSOCK_OK;
  }
  const msock_err err = netmap_region_parse(o, key, &r);
  if (err == MSOCK_ERR_INVALID) {
    u->bad_elements++;
    return MSOCK_OK;
  }
  if (err != MSOCK_OK) {
    return err;
  }
  msock_derp_region *old = (msock_derp_region *)msock_derp_map_find(&u->derp, r.id);
  if (old) { /* last wins */
    free(old->nodes);
    *old = r;
    return MSOCK_OK;
  }
  if (!netmap_grow((void **)&u->derp.regions, &u->cap_regions, u->derp.n_regions, sizeof r)) {
    free(r.nodes);
    return MSOCK_ERR_NOMEM;
  }
  size_t at = u->derp.n_regions++;
  for (; at > 0 && u->derp.regions[at - 1].id > r.id; at--) {
    u->derp.regions[at] = u->derp.regions[at - 1];
  }
  u->derp.regions[at] = r;
  return MSOCK_OK;
}

/* HomeParams{RegionScore{id: x}}: absent = keep, {} = reset. */
static msock_err set_scores(msock_netmap_update *u, json_object *o) {
  json_object *map = NULL;
  if (!json_object_object_get_ex(o, "RegionScore", &map) ||
      !json_object_is_type(map, json_type_object)) {
    return MSOCK_OK;
  }
  u->has_scores = true;
  u->n_scores = 0;
  json_object_object_foreach(map, key, value) {
    char *end = NULL;
    const netmap_score s = {strtoull(key, &end, 10), json_object_get_double(value)};
    if (*end != '\0' || !(s.score > 0) || u->n_scores == MSOCK_DERP_REGIONS_MAX) {
      u->bad_elements++; /* a score <= 0 is ignored: derp.md 1.1 */
      continue;
    }
    if (!netmap_grow((void **)&u->scores, &u->cap_scores, u->n_scores, sizeof s)) {
      return MSOCK_ERR_NOMEM;
    }
    u->scores[u->n_scores++] = s;
  }
  return MSOCK_OK;
}

/* [{Addr}] */
static bool resolver_list(json_object *a, msock_strlist *l) {
  const size_t n = json_object_is_type(a, json_type_array) ? json_object_array_length(a) : 0;
  for (size_t i = 0; i < n && l->n < MSOCK_NETMAP_DNS_MAX; i++) {
    const char *addr = netmap_str(json_object_array_get_idx(a, i), "Addr");
    if (addr && *addr && strlen(addr) <= MSOCK_NETMAP_NAME_MAX && !netmap_strlist_add(l, addr)) {
      return false;
    }
  }
  return true;
}

static msock_err add_dns_route(msock_netmap_update *u, const char *suffix, json_object *o) {
  const size_t len = strlen(suffix);
  const size_t zone = sizeof REVERSE_ZONE - 1;
  msock_dns_route r = {0};
  if (!resolver_list(o, &r.resolvers)) {
    return MSOCK_ERR_NOMEM;
  }
  const bool reverse = len >= zone && strcmp(suffix + len - zone, REVERSE_ZONE) == 0;
  if ((reverse && r.resolvers.n == 0) || u->dns.n_routes == MSOCK_NETMAP_DNS_MAX) {
    netmap_strlist_clear(&r.resolvers);
    return MSOCK_OK;
  }
  r.suffix = netmap_text(suffix, MSOCK_NETMAP_NAME_MAX);
  msock_dns_route *routes = realloc(u->dns.routes, (u->dns.n_routes + 1) * sizeof *u->dns.routes);
  u->dns.routes = routes ? routes : u->dns.routes;
  if (routes == NULL || r.suffix == NULL) {
    free(r.suffix);
    netmap_strlist_clear(&r.resolvers);
    return MSOCK_ERR_NOMEM;
  }
  routes[u->dns.n_routes++] = r;
  return MSOCK_OK;
}

static msock_err add_dns_record(msock_netmap_update *u, json_object *o) {
  if (netmap_str(o, "Name") == NULL || netmap_str(o, "Value") == NULL ||
      u->dns.n_records == MSOCK_NETMAP_DNS_MAX) {
    u->bad_elements++;
    return MSOCK_OK;
  }
  msock_dns_record *records =
      realloc(u->dns.records, (u->dns.n_records + 1) * sizeof *u->dns.records);
  if (records == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  u->dns.records = records;
  msock_dns_record *r = &records[u->dns.n_records++];
  r->name = netmap_text(netmap_str(o, "Name"), MSOCK_NETMAP_NAME_MAX);
  r->type = netmap_text(netmap_str(o, "Type"), MSOCK_NETMAP_NAME_MAX);
  r->value = netmap_text(netmap_str(o, "Value"), MSOCK_NETMAP_NAME_MAX);
  return r->name && r->type && r->value ? MSOCK_OK : MSOCK_ERR_NOMEM;
}

static msock_err add_dns(msock_netmap_update *u, const msock_json_path *path, json_object *o,
                         const char *text, size_t len) {
  const char *key = path->key[1];
  for (size_t i = 1; i < path->depth; i++) {
    digest_add(u->dns_digest, path->key[i], strlen(path->key[i]) + 1);
  }
  digest_add(u->dns_digest, text, len);
  if (path->depth == 3 && strcmp(key, "Routes") == 0) {
    return add_dns_route(u, path->key[2], o);
  }
  if (path->depth == 3) {
    return add_dns_record(u, o);
  }
  bool ok = true;
  if (strcmp(key, "Proxied") == 0) {
    u->dns.proxied = json_object_is_type(o, json_type_boolean) && json_object_get_boolean(o);
  } else if (strcmp(key, "Resolvers") == 0) {
    ok = resolver_list(o, &u->dns.resolvers);
  } else if (strcmp(key, "FallbackResolvers") == 0) {
    ok = resolver_list(o, &u->dns.fallback_resolvers);
  } else if (strcmp(key, "Domains") == 0 && json_object_is_type(o, json_type_array)) {
    for (size_t i = 0; ok && i < json_object_array_length(o); i++) {
      char *name = netmap_text(json_object_get_string(json_object_array_get_idx(o, i)), 255);
      ok = name &&
           (u->dns.domains.n >= MSOCK_NETMAP_DNS_MAX || netmap_strlist_add(&u->dns.domains, name));
      free(name);
    }
  }
  return ok ? MSOCK_OK : MSOCK_ERR_NOMEM;
}

static msock_err add_health(msock_netmap_update *u, const char *id, json_object *o) {
  netmap_display d = {.deleted = o == NULL};
  const bool plain = json_object_is_type(o, json_type_string);
  if (*id != '\0' && strcmp(id, "*") == 0) {
    u->clear_display = u->clear_display || d.deleted;
    return MSOCK_OK;
  }
  if (u->n_display == 2 * MSOCK_NETMAP_HEALTH_MAX) {
    u->over_bounds++;
    return MSOCK_OK;
  }
  if (!netmap_grow((void **)&u->display, &u->cap_display, u->n_display, sizeof d)) {
    return MSOCK_ERR_NOMEM;
  }
  d.m.id = netmap_text(id, MSOCK_NETMAP_NAME_MAX);
  d.m.title = netmap_text(plain ? "" : netmap_str(o, "Title"), MSOCK_NETMAP_NAME_MAX);
  d.m.text = netmap_text(plain ? json_object_get_string(o) : netmap_str(o, "Text"), 1023);
  d.m.severity = netmap_text(plain ? "" : netmap_str(o, "Severity"), MSOCK_NETMAP_NAME_MAX);
  u->display[u->n_display++] = d;
  return d.m.id && d.m.title && d.m.text && d.m.severity ? MSOCK_OK : MSOCK_ERR_NOMEM;
}

/* --- members of the top object --- */

static void copy_url(char dst[static MSOCK_CONTROL_URL_MAX + 1], const char *url) {
  dst[0] = '\0';
  if (url && strlen(url) <= MSOCK_CONTROL_URL_MAX) {
    snprintf(dst, MSOCK_CONTROL_URL_MAX + 1, "%s", url);
  }
}

static void set_ping(msock_netmap_update *u, json_object *o) {
  const char *types = netmap_str(o, "Types");
  copy_url(u->notice.ping_url, netmap_str(o, "URL"));
  snprintf(u->notice.ping_types, sizeof u->notice.ping_types, "%.60s", types ? types : "");
  u->notice.ping_is_noise = netmap_bool(o, "URLIsNoise");
}

static msock_err set_self(msock_netmap_update *u, json_object *o) {
  uint64_t unused = 0;
  if (!json_object_is_type(o, json_type_object)) {
    return MSOCK_OK;
  }
  netmap_peer_free(u->self);
  u->self = NULL;
  u->notice.has_node = true;
  return netmap_node_parse(o, u->nm->allow_loopback, &u->self, &unused);
}

static msock_err set_top(msock_netmap_update *u, const char *key, json_object *o) {
  const char *text = json_object_is_type(o, json_type_string) ? json_object_get_string(o) : NULL;
  if (strcmp(key, "Node") == 0) {
    return set_self(u, o);
  }
  if (strcmp(key, "KeepAlive") == 0) {
    u->notice.keep_alive = json_object_is_type(o, json_type_boolean) && json_object_get_boolean(o);
  } else if (strcmp(key, "PingRequest") == 0) {
    set_ping(u, o);
  } else if (strcmp(key, "PopBrowserURL") == 0) {
    copy_url(u->notice.browse_url, text);
  } else if (strcmp(key, "Debug") == 0) {
    json_object *v = NULL; /* Debug.Exit is not even read: control.md 4.4 */
    const double s =
        json_object_object_get_ex(o, "SleepSeconds", &v) ? json_object_get_double(v) : 0;
    u->notice.sleep_seconds =
        s > 0 ? (s < MSOCK_MAP_SLEEP_MAX_S ? (uint32_t)s : MSOCK_MAP_SLEEP_MAX_S) : 0;
  } else if (strcmp(key, "ControlTime") == 0) {
    u->has_control_time = text && msock_wire_time_parse(text, &u->control_time_us) == MSOCK_OK &&
                          u->control_time_us != 0;
  } else if (strcmp(key, "Domain") == 0 && text && *text) {
    free(u->domain);
    u->domain = netmap_text(text, MSOCK_NETMAP_NAME_MAX);
    return u->domain ? MSOCK_OK : MSOCK_ERR_NOMEM;
  }
  return MSOCK_OK; /* null containers come here too: "unchanged" */
}

static msock_err on_element(msock_netmap_update *u, const msock_json_path *path, json_object *o,
                            const char *text, size_t len) {
  const char *top = path->key[0];
  const char *key = path->depth > 1 ? path->key[1] : "";
  if (path->depth == 1) {
    return set_top(u, top, o);
  }
  if (strcmp(top, "Peers") == 0) {
    return add_peer(u, &u->peers, o);
  }
  if (strcmp(top, "PeersChanged") == 0) {
    return add_peer(u, &u->changed, o);
  }
  if (strcmp(top, "PeersRemoved") == 0) {
    return add_removed(u, o);
  }
  if (strcmp(top, "PeersChangedPatch") == 0) {
    return add_patch(u, o);
  }
  if (strcmp(top, "PeerSeenChange") == 0 || strcmp(top, "OnlineChange") == 0) {
    return add_flag(u, *top == 'P', key, o);
  }
  if (strcmp(top, "UserProfiles") == 0) {
    return add_user(u, o);
  }
  if (strcmp(top, "PacketFilter") == 0) {
    return add_rule(u, find_set(u, LEGACY_FILTER_NAME, true), o, text, len);
  }
  if (strcmp(top, "PacketFilters") == 0 && path->depth == 3) {
    return add_rule(u, find_set(u, key, false), o, text, len);
  }
  if (strcmp(top, "PacketFilters") == 0 && o == NULL) { /* null: delete; "*": clear first */
    if (strcmp(key, "*") == 0) {
      u->clear_filters = true;
      return MSOCK_OK;
    }
    return open_set(u, key, false, true);
  }
  if (strcmp(top, "DERPMap") == 0) {
    return path->depth == 3                      ? add_region(u, path->key[2], o)
           : strcmp(key, "HomeParams") == 0 && o ? set_scores(u, o)
                                                 : MSOCK_OK;
  }
  if (strcmp(top, "DNSConfig") == 0) {
    return add_dns(u, path, o, text, len);
  }
  return strcmp(top, "Health") == 0            ? add_health(u, "", o)
         : strcmp(top, "DisplayMessages") == 0 ? add_health(u, key, o)
                                               : MSOCK_OK;
}

static msock_err on_event(void *ctx, msock_json_event_kind kind, const msock_json_path *path,
                          const char *text, size_t len) {
  msock_netmap_update *u = ctx;
  switch (kind) {
  case MSOCK_JSON_BEGIN_OBJECT:
  case MSOCK_JSON_BEGIN_ARRAY:
    if (path->depth == 0 && kind == MSOCK_JSON_BEGIN_ARRAY) {
      return MSOCK_ERR_INVALID; /* a message is an object */
    }
    return on_begin(u, path);
  case MSOCK_JSON_END:
    u->ended = path->depth == 0;
    return MSOCK_OK;
  case MSOCK_JSON_TOO_LONG:
    u->bad_elements++;
    return path->depth == 1 && strcmp(path->key[0], "Node") == 0 ? MSOCK_ERR_INVALID : MSOCK_OK;
  case MSOCK_JSON_VALUE:
    break;
  }
  if (path->depth == 0) {
    return MSOCK_ERR_INVALID;
  }
  json_tokener_reset(u->tokener);
  json_object *o = json_tokener_parse_ex(u->tokener, text, (int)len + 1);
  if (json_tokener_get_error(u->tokener) != json_tokener_success) {
    json_object_put(o);
    return MSOCK_ERR_INVALID; /* the grammar inside an element is broken: so is the message */
  }
  const msock_err err = on_element(u, path, o, text, len);
  json_object_put(o);
  return err;
}

/* --- the update --- */

msock_netmap_update *msock_netmap_update_new(const msock_env *env, msock_netmap *nm) {
  msock_netmap_update *u = calloc(1, sizeof *u);
  if (u == NULL) {
    return NULL;
  }
  const msock_json_handler handler = {.ctx = u, .mode = mode_of, .event = on_event};
  u->env = env;
  u->nm = nm;
  u->split = msock_json_split_new(&handler);
  u->tokener = json_tokener_new_ex((int)MSOCK_JSON_DEPTH_MAX);
  if (u->split == NULL || u->tokener == NULL) {
    msock_netmap_update_free(u);
    return NULL;
  }
  return u;
}

void msock_netmap_update_begin(msock_netmap_update *u) {
  netmap_peer_free(u->self);
  netmap_peers_clear(&u->peers);
  netmap_peers_clear(&u->changed);
  free(u->removed);
  clear_patches(&u->early_patches);
  clear_patches(&u->patches);
  clear_users(u);
  msock_derp_map_clear(&u->derp);
  free(u->scores);
  for (size_t i = 0; i < u->n_sets; i++) {
    netmap_set_clear(&u->sets[i]);
  }
  free(u->sets);
  netmap_dns_clear(&u->dns);
  free(u->domain);
  clear_display(u);
  const msock_netmap_update kept = {
      .env = u->env, .nm = u->nm, .split = u->split, .tokener = u->tokener};
  *u = kept;
  msock_json_split_reset(u->split);
}

void msock_netmap_update_free(msock_netmap_update *u) {
  if (u == NULL) {
    return;
  }
  if (u->split) {
    msock_netmap_update_begin(u);
  }
  msock_json_split_free(u->split);
  if (u->tokener) {
    json_tokener_free(u->tokener);
  }
  free(u);
}

msock_err msock_netmap_update_feed(msock_netmap_update *u, const uint8_t *p, size_t len) {
  return msock_json_split_feed(u->split, p, len);
}

msock_err msock_netmap_update_finish(msock_netmap_update *u, const msock_map_notice **notice) {
  const msock_err err = msock_json_split_finish(u->split);
  if (err != MSOCK_OK) {
    return err;
  }
  *notice = &u->notice;
  return u->ended ? MSOCK_OK : MSOCK_ERR_INVALID;
}

size_t msock_netmap_update_memory(const msock_netmap_update *u) {
  return msock_json_split_memory(u->split);
}
