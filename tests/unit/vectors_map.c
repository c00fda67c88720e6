/* map_*.json: every MapResponse body that real servers sent, applied and compared with its own
 * JSON; every register answer and every request in them too. closes: CTRL-47 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/map_request.h"
#include "control/map_stream.h"
#include "control/register.h"
#include "crypto/init.h"
#include "tests/unit/testing.h"
#include "tests/unit/vectors.h"

#define FILES_MAX 256
#define WALL_US 1 /* so that the clock offset shows ControlTime itself */

static const char *file; /* of the case that runs */
static testing_rng rng;
static msock_env env;

static json_object *get(json_object *o, const char *name) {
  json_object *v = NULL;
  return json_object_object_get_ex(o, name, &v) ? v : NULL;
}

static const char *str(json_object *o, const char *name) {
  json_object *v = get(o, name);
  return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

static int64_t num(json_object *o, const char *name) {
  return json_object_get_int64(get(o, name));
}

static size_t len_of(json_object *a) {
  return json_object_is_type(a, json_type_array) ? json_object_array_length(a) : 0;
}

static void check(const char *what, bool ok, const char *field) {
  vectors_case(file, what, ok, "%s differs", field);
}

/* Independent of the room's parser. Both zero forms give 0. */
static uint64_t time_of(const char *text) {
  struct tm tm = {0};
  char fraction[16] = "0";
  if (*text == '\0' || strncmp(text, "0001", 4) == 0) {
    return 0;
  }
  sscanf(text, "%d-%d-%dT%d:%d:%d.%15[0-9]", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
         &tm.tm_min, &tm.tm_sec, fraction);
  tm.tm_year -= 1900;
  tm.tm_mon -= 1;
  char padded[8] = "000000";
  const size_t n = strlen(fraction) < 6 ? strlen(fraction) : 6;
  memcpy(padded, fraction, n);
  return (uint64_t)timegm(&tm) * 1000000u + (strchr(text, '.') ? strtoull(padded, NULL, 10) : 0);
}

/* --- nodes --- */

static bool prefixes_are(json_object *a, const msock_prefix *p, size_t n) {
  char text[MSOCK_PREFIX_TEXT_MAX];
  bool ok = len_of(a) == n;
  for (size_t i = 0; ok && i < n; i++) {
    ok = strcmp(msock_prefix_text(&p[i], text),
                json_object_get_string(json_object_array_get_idx(a, i))) == 0;
  }
  return ok;
}

static bool endpoints_are(json_object *a, const msock_peer *p) {
  char text[MSOCK_ADDR_TEXT_MAX];
  bool ok = len_of(a) == p->n_endpoints;
  for (size_t i = 0; ok && i < p->n_endpoints; i++) {
    ok = strcmp(msock_addr_text(&p->endpoints[i], text),
                json_object_get_string(json_object_array_get_idx(a, i))) == 0;
  }
  return ok;
}

static bool list_is(json_object *a, const msock_strlist *l) {
  const char *s = NULL;
  bool ok = len_of(a) == l->n;
  for (size_t i = 0; ok && i < l->n; i++) {
    s = msock_strlist_next(l, s);
    ok = s && strcmp(s, json_object_get_string(json_object_array_get_idx(a, i))) == 0;
  }
  return ok;
}

static bool caps_are(json_object *map, const msock_peer *p) {
  size_t n = 0;
  bool ok = true;
  if (json_object_is_type(map, json_type_object)) {
    json_object_object_foreach(map, key, value) {
      (void)value;
      ok = ok && msock_strlist_has(&p->caps, key);
      n++;
    }
  }
  return ok && p->caps.n == n;
}

static uint8_t online_of(json_object *o) {
  json_object *v = get(o, "Online");
  return v == NULL                    ? MSOCK_PEER_ONLINE_UNKNOWN
         : json_object_get_boolean(v) ? MSOCK_PEER_ONLINE_YES
                                      : MSOCK_PEER_ONLINE_NO;
}

static void check_node(const char *what, json_object *o, const msock_peer *p) {
  char key[MSOCK_KEY_TEXT_MAX];
  json_object *host = get(o, "Hostinfo");
  if (p == NULL) {
    check(what, false, "presence");
    return;
  }
  check(what, p->id == (uint64_t)num(o, "ID"), "ID");
  check(what, strcmp(p->stable_id, str(o, "StableID")) == 0, "StableID");
  check(what, strcmp(p->name, str(o, "Name")) == 0, "Name");
  check(what, p->user_id == (uint64_t)num(o, "User"), "User");
  check(what, strcmp(msock_node_key_text(&p->key, key), str(o, "Key")) == 0, "Key");
  check(what,
        get(o, "DiscoKey") ? strcmp(msock_disco_key_text(&p->disco, key), str(o, "DiscoKey")) == 0
                           : msock_disco_key_is_zero(&p->disco),
        "DiscoKey");
  check(what, prefixes_are(get(o, "Addresses"), p->addresses, p->n_addresses), "Addresses");
  json_object *allowed = get(o, "AllowedIPs") ? get(o, "AllowedIPs") : get(o, "Addresses");
  check(what, prefixes_are(allowed, p->allowed, p->n_allowed), "AllowedIPs");
  check(what, prefixes_are(get(o, "PrimaryRoutes"), p->primary, p->n_primary), "PrimaryRoutes");
  check(what, endpoints_are(get(o, "Endpoints"), p), "Endpoints");
  check(what, p->home_derp == (uint64_t)num(o, "HomeDERP"), "HomeDERP");
  check(what, p->cap == (uint32_t)num(o, "Cap"), "Cap");
  check(what, p->online == online_of(o), "Online");
  check(what, p->last_seen_us == time_of(str(o, "LastSeen")), "LastSeen");
  check(what, p->key_expiry_us == time_of(str(o, "KeyExpiry")), "KeyExpiry");
  check(what, p->expired_flag == (bool)json_object_get_boolean(get(o, "Expired")), "Expired");
  check(what, p->machine_authorized == (bool)json_object_get_boolean(get(o, "MachineAuthorized")),
        "MachineAuthorized");
  check(what, strcmp(p->hostname, str(host, "Hostname")) == 0, "Hostinfo.Hostname");
  check(what, strcmp(p->os, str(host, "OS")) == 0, "Hostinfo.OS");
  check(what, p->peer_relay == (bool)json_object_get_boolean(get(host, "PeerRelay")),
        "Hostinfo.PeerRelay");
  check(what, caps_are(get(o, "CapMap"), p), "CapMap");
  check(what, list_is(get(o, "Tags"), &p->tags), "Tags");
}

/* closes: CTRL-50 */
static void check_patch(const char *what, json_object *o, const msock_peer *before,
                        const msock_peer *p) {
  char key[MSOCK_KEY_TEXT_MAX];
  if (before == NULL) {
    check(what, p == NULL, "an unknown NodeID made a peer");
    return;
  }
  if (p == NULL) {
    check(what, false, "presence");
    return;
  }
  const bool new_key = get(o, "Key") && !msock_node_key_equal(&before->key, &p->key);
  check(what,
        get(o, "Key") == NULL ? msock_node_key_equal(&before->key, &p->key)
                              : strcmp(msock_node_key_text(&p->key, key), str(o, "Key")) == 0,
        "Key");
  check(what,
        get(o, "DiscoKey") == NULL
            ? msock_disco_key_equal(&before->disco, &p->disco)
            : strcmp(msock_disco_key_text(&p->disco, key), str(o, "DiscoKey")) == 0,
        "DiscoKey");
  check(what, get(o, "Online") == NULL ? p->online == before->online : p->online == online_of(o),
        "Online");
  const uint64_t expiry = get(o, "KeyExpiry") ? time_of(str(o, "KeyExpiry"))
                          : new_key           ? 0
                                              : before->key_expiry_us;
  check(what, p->key_expiry_us == expiry, "KeyExpiry");
  check(what, p->expired_flag == (before->expired_flag && !new_key), "Expired");
  check(what,
        get(o, "Endpoints") == NULL ? p->n_endpoints == before->n_endpoints
                                    : endpoints_are(get(o, "Endpoints"), p),
        "Endpoints");
  check(what,
        p->home_derp == (num(o, "DERPRegion") ? (uint64_t)num(o, "DERPRegion") : before->home_derp),
        "DERPRegion");
  check(what, strcmp(p->name, before->name) == 0, "Name");
}

/* --- filter --- */

static bool range_is(const char *text, const msock_ip_range *r) {
  char lo[MSOCK_IP_TEXT_MAX], hi[MSOCK_IP_TEXT_MAX], pair[2 * MSOCK_IP_TEXT_MAX];
  msock_prefix p;
  if (strcmp(text, "*") == 0 || r->any) {
    return r->any && strcmp(text, "*") == 0;
  }
  msock_ip_text(&r->lo, lo);
  msock_ip_text(&r->hi, hi);
  if (strchr(text, '-')) {
    snprintf(pair, sizeof pair, "%s-%s", lo, hi);
    return strcmp(text, pair) == 0;
  }
  if (msock_prefix_parse(text, &p) != MSOCK_OK || !msock_ip_equal(&p.ip, &r->lo)) {
    return false;
  }
  for (size_t bit = p.bits; bit < msock_ip_bits(&p.ip); bit++) {
    p.ip.b[bit / 8] |= (uint8_t)(0x80u >> (bit % 8));
  }
  return msock_ip_equal(&p.ip, &r->hi);
}

static void check_rule(const char *what, json_object *o, const msock_policy_rule *r) {
  json_object *srcs = get(o, "SrcIPs"), *dsts = get(o, "DstPorts"), *protos = get(o, "IPProto");
  json_object *grants = get(o, "CapGrant");
  bool ok = len_of(srcs) == r->n_srcs;
  for (size_t i = 0; ok && i < r->n_srcs; i++) {
    const char *text = json_object_get_string(json_object_array_get_idx(srcs, i));
    ok = r->srcs[i].cap ? strncmp(text, "cap:", 4) == 0 && strcmp(text + 4, r->srcs[i].cap) == 0
                        : range_is(text, &r->srcs[i].range);
  }
  check(what, ok, "SrcIPs");
  ok = len_of(dsts) == r->n_dsts;
  for (size_t i = 0; ok && i < r->n_dsts; i++) {
    json_object *d = json_object_array_get_idx(dsts, i);
    ok = range_is(str(d, "IP"), &r->dsts[i].range) &&
         num(get(d, "Ports"), "First") == r->dsts[i].port_first &&
         num(get(d, "Ports"), "Last") == r->dsts[i].port_last;
  }
  check(what, ok, "DstPorts");
  ok = len_of(protos) == r->n_protos && !r->no_proto;
  for (size_t i = 0; ok && i < r->n_protos; i++) {
    ok = json_object_get_int(json_object_array_get_idx(protos, i)) == r->protos[i];
  }
  check(what, ok, "IPProto");
  ok = len_of(grants) == r->n_grants;
  for (size_t i = 0; ok && i < r->n_grants; i++) {
    json_object *g = json_object_array_get_idx(grants, i);
    const msock_policy_grant *have = &r->grants[i];
    json_object *map = get(g, "CapMap");
    const size_t named =
        json_object_is_type(map, json_type_object) ? (size_t)json_object_object_length(map) : 0;
    ok = prefixes_are(get(g, "Dsts"), have->dsts, have->n_dsts) &&
         have->n_caps == named + len_of(get(g, "Caps"));
    for (size_t j = 0; ok && j < have->n_caps; j++) {
      json_object *v = NULL;
      ok = named == 0 || json_object_object_get_ex(map, have->caps[j], &v);
    }
  }
  check(what, ok, "CapGrant");
}

static void check_filters(const char *what, json_object *filters, const msock_netmap *nm) {
  const msock_policy *have = msock_netmap_filter(nm);
  size_t at = 0;
  if (have == NULL) {
    check(what, false, "presence");
    return;
  }
  json_object_object_foreach(filters, name, rules) {
    (void)name;
    for (size_t i = 0; i < len_of(rules); i++, at++) {
      if (at < have->n_rules) {
        check_rule(what, json_object_array_get_idx(rules, i), &have->rules[at]);
      }
    }
  }
  check(what, at == have->n_rules, "number of rules");
}

/* --- DERP map, DNS, users --- */

static void check_derp(const char *what, json_object *regions, const msock_derp_map *m) {
  size_t n = 0;
  json_object_object_foreach(regions, id, o) {
    if (o == NULL) {
      check(what, msock_derp_map_find(m, strtoull(id, NULL, 10)) == NULL, "null region");
      continue;
    }
    n++;
    const msock_derp_region *r = msock_derp_map_find(m, strtoull(id, NULL, 10));
    json_object *nodes = get(o, "Nodes");
    bool ok = r && r->id == (uint64_t)num(o, "RegionID") &&
              strcmp(r->code, str(o, "RegionCode")) == 0 &&
              strcmp(r->name, str(o, "RegionName")) == 0 && r->n_nodes == len_of(nodes);
    check(what, ok, "DERPMap region");
    for (size_t i = 0; ok && i < r->n_nodes; i++) {
      json_object *node = json_object_array_get_idx(nodes, i);
      const msock_derp_node *d = &r->nodes[i];
      const int64_t stun = num(node, "STUNPort"), derp = num(node, "DERPPort");
      ok = strcmp(d->name, str(node, "Name")) == 0 &&
           strcmp(d->host_name, str(node, "HostName")) == 0 &&
           d->region_id == (uint64_t)num(node, "RegionID") && d->derp_port == (derp ? derp : 443) &&
           d->stun_port == (stun == 0  ? 3478
                            : stun < 0 ? 0
                                       : stun);
      check(what, ok, "DERPMap node");
    }
  }
  check(what, n == m->n_regions, "number of regions");
}

static bool resolvers_are(json_object *a, const msock_strlist *l) {
  const char *s = NULL;
  bool ok = len_of(a) == l->n;
  for (size_t i = 0; ok && i < l->n; i++) {
    s = msock_strlist_next(l, s);
    ok = s && strcmp(s, str(json_object_array_get_idx(a, i), "Addr")) == 0;
  }
  return ok;
}

static void check_dns(const char *what, json_object *o, const msock_dns_config *d) {
  json_object *records = get(o, "ExtraRecords"), *routes = get(o, "Routes");
  size_t n = 0;
  check(what, d->proxied == (bool)json_object_get_boolean(get(o, "Proxied")), "DNS Proxied");
  check(what, list_is(get(o, "Domains"), &d->domains), "DNS Domains");
  check(what, resolvers_are(get(o, "Resolvers"), &d->resolvers), "DNS Resolvers");
  bool ok = len_of(records) == d->n_records;
  for (size_t i = 0; ok && i < d->n_records; i++) {
    json_object *r = json_object_array_get_idx(records, i);
    ok = strcmp(d->records[i].name, str(r, "Name")) == 0 &&
         strcmp(d->records[i].type, str(r, "Type")) == 0 &&
         strcmp(d->records[i].value, str(r, "Value")) == 0;
  }
  check(what, ok, "DNS ExtraRecords");
  ok = true;
  if (json_object_is_type(routes, json_type_object)) {
    json_object_object_foreach(routes, suffix, list) {
      const char *tail = strlen(suffix) > 5 ? suffix + strlen(suffix) - 5 : "";
      if (strcmp(tail, ".arpa") == 0 && len_of(list) == 0) {
        continue; /* not kept */
      }
      ok = ok && n < d->n_routes && strcmp(d->routes[n].suffix, suffix) == 0 &&
           resolvers_are(list, &d->routes[n].resolvers);
      n++;
    }
  }
  check(what, ok && n == d->n_routes, "DNS Routes");
}

/* --- one message --- */

static void check_message(const char *what, json_object *m, msock_netmap *nm,
                          msock_peer *const *before, size_t n_before,
                          const msock_map_notice *notice) {
  const msock_peer *self = msock_netmap_self(nm);
  json_object *changed = get(m, "PeersChanged"), *peers = get(m, "Peers");
  json_object *patches = get(m, "PeersChangedPatch"), *removed = get(m, "PeersRemoved");
  if (get(m, "Node")) {
    check_node(what, get(m, "Node"), self);
  }
  for (size_t i = 0; i < len_of(peers); i++) {
    json_object *o = json_object_array_get_idx(peers, i);
    check_node(what, o, msock_netmap_find_id(nm, (uint64_t)num(o, "ID")));
  }
  if (len_of(peers) > 0) {
    check(what, msock_netmap_count(nm) == len_of(peers), "number of peers");
  }
  for (size_t i = 0; i < len_of(changed); i++) {
    json_object *o = json_object_array_get_idx(changed, i);
    if ((uint64_t)num(o, "ID") != self->id) {
      check_node(what, o, msock_netmap_find_id(nm, (uint64_t)num(o, "ID")));
    }
  }
  for (size_t i = 0; i < len_of(removed); i++) {
    const int64_t id = json_object_get_int64(json_object_array_get_idx(removed, i));
    check(what, msock_netmap_find_id(nm, (uint64_t)id) == NULL, "PeersRemoved");
  }
  for (size_t i = 0; i < len_of(patches); i++) {
    json_object *o = json_object_array_get_idx(patches, i);
    const msock_peer *old = NULL;
    for (size_t j = 0; j < n_before; j++) {
      old = before[j]->id == (uint64_t)num(o, "NodeID") ? before[j] : old;
    }
    check_patch(what, o, old, msock_netmap_find_id(nm, (uint64_t)num(o, "NodeID")));
  }
  if (json_object_is_type(get(m, "PacketFilters"), json_type_object)) {
    check_filters(what, get(m, "PacketFilters"), nm);
  }
  if (json_object_is_type(get(get(m, "DERPMap"), "Regions"), json_type_object)) {
    check_derp(what, get(get(m, "DERPMap"), "Regions"), msock_netmap_derp_map(nm));
  }
  if (get(m, "DNSConfig")) {
    check_dns(what, get(m, "DNSConfig"), msock_netmap_dns(nm));
  }
  for (size_t i = 0; i < len_of(get(m, "UserProfiles")); i++) {
    json_object *o = json_object_array_get_idx(get(m, "UserProfiles"), i);
    const msock_user_profile *u = msock_netmap_user(nm, (uint64_t)num(o, "ID"));
    check(what,
          u && strcmp(u->login, str(o, "LoginName")) == 0 &&
              strcmp(u->display, str(o, "DisplayName")) == 0,
          "UserProfiles");
  }
  if (*str(m, "Domain")) {
    check(what, strcmp(msock_netmap_domain(nm), str(m, "Domain")) == 0, "Domain");
  }
  if (*str(m, "ControlTime")) {
    check(what,
          msock_netmap_clock_offset_us(nm) == (int64_t)(time_of(str(m, "ControlTime")) - WALL_US),
          "ControlTime");
  }
  check(what, strcmp(notice->ping_url, str(get(m, "PingRequest"), "URL")) == 0, "PingRequest");
  check(what, notice->keep_alive == (bool)json_object_get_boolean(get(m, "KeepAlive")),
        "KeepAlive");
}

/* Small deep-enough copies of the peers before a message (what check_patch looks at). */
static msock_peer **snapshot(const msock_netmap *nm, size_t *n) {
  *n = msock_netmap_count(nm);
  msock_peer **copy = calloc(*n + 1, sizeof *copy);
  for (size_t i = 0; i < *n; i++) {
    copy[i] = malloc(sizeof **copy);
    *copy[i] = *msock_netmap_at(nm, i);
    copy[i]->name = strdup(copy[i]->name);
  }
  return copy;
}

static bool apply(msock_map_stream *s, json_object *m, const msock_map_notice **notice) {
  size_t used = 0, len = 0;
  const char *text = json_object_to_json_string_length(m, JSON_C_TO_STRING_PLAIN, &len);
  const uint8_t head[4] = {(uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16), 0};
  return msock_map_stream_feed(s, 0, WALL_US, head, 4, &used, notice) == MSOCK_MAP_FINE &&
         msock_map_stream_feed(s, 0, WALL_US, (const uint8_t *)text, len, &used, notice) ==
             MSOCK_MAP_FINE &&
         *notice != NULL;
}

/* A list of messages of one stream. Without Node in front, base starts the stream. */
static void run_stream(const char *what, json_object *list, json_object *base) {
  msock_netmap *nm = msock_netmap_new(&env, true);
  msock_map_stream *s = msock_map_stream_new(&env, nm, false);
  const msock_map_notice *notice = NULL;
  json_object *first = json_object_array_get_idx(list, 0);
  char name[160];
  if (get(first, "Node") == NULL && !apply(s, base, &notice)) {
    check(what, false, "the base message");
  }
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *m = json_object_array_get_idx(list, i);
    size_t n = 0;
    msock_peer **before = snapshot(nm, &n);
    snprintf(name, sizeof name, "%s[%zu]", what, i);
    const bool ok = apply(s, m, &notice);
    vectors_case(file, name, ok, "not applied");
    if (ok) {
      check_message(name, m, nm, before, n, notice);
      check(name, msock_netmap_get_stats(nm).bad_elements == 0, "malformed elements");
    }
    for (size_t j = 0; j < n; j++) {
      free(before[j]->name);
      free(before[j]);
    }
    free(before);
  }
  msock_map_stream_free(s);
  msock_netmap_free(nm);
}

/* --- register answers and requests --- */

static void check_register(const char *what, json_object *o) {
  msock_register_answer a;
  const char *text = json_object_to_json_string(o);
  msock_register_evaluate(200, (const uint8_t *)text, strlen(text), NULL, &a);
  const msock_register_outcome want =
      *str(o, "Error")                                       ? MSOCK_REGISTER_FAILED
      : json_object_get_boolean(get(o, "NodeKeyExpired"))    ? MSOCK_REGISTER_KEY_EXPIRED
      : *str(o, "AuthURL")                                   ? MSOCK_REGISTER_AUTH_URL
      : json_object_get_boolean(get(o, "MachineAuthorized")) ? MSOCK_REGISTER_DONE
                                                             : MSOCK_REGISTER_WAIT;
  check(what, a.outcome == want, "outcome");
  check(what, strcmp(a.auth_url, str(o, "AuthURL")) == 0, "AuthURL");
  check(what, strcmp(a.login, str(get(o, "Login"), "LoginName")) == 0, "LoginName");
}

static msock_hostinfo hostinfo_of(json_object *o, msock_prefix *routes) {
  json_object *a = get(o, "RoutableIPs");
  msock_hostinfo h = {.hostname = str(o, "Hostname"),
                      .os = str(o, "OS"),
                      .app_version = str(o, "IPNVersion"),
                      .backend_log_id = str(o, "BackendLogID"),
                      .peer_relay = json_object_get_boolean(get(o, "PeerRelay")),
                      .routable_ips = routes};
  for (size_t i = 0; i < len_of(a) && i < 16; i++) {
    if (msock_prefix_parse(json_object_get_string(json_object_array_get_idx(a, i)), &routes[i]) ==
        MSOCK_OK) {
      h.n_routable_ips++;
    }
  }
  return h;
}

static msock_tristate tristate_of(json_object *o, const char *name) {
  json_object *v = get(o, name);
  return v == NULL                    ? MSOCK_TRISTATE_UNKNOWN
         : json_object_get_boolean(v) ? MSOCK_TRISTATE_TRUE
                                      : MSOCK_TRISTATE_FALSE;
}

/* Every member of theirs that we know how to say must be said the same by us. */
static bool says_all(json_object *theirs, json_object *ours, const char *const *skip) {
  json_object_object_foreach(theirs, key, value) {
    bool skipped = false;
    for (size_t i = 0; skip[i]; i++) {
      skipped = skipped || strcmp(skip[i], key) == 0;
    }
    json_object *mine = get(ours, key);
    if (!skipped && value != NULL &&
        strcmp(json_object_to_json_string(value), mine ? json_object_to_json_string(mine) : "") !=
            0 &&
        !json_object_equal(value, mine)) {
      return false;
    }
  }
  return true;
}

static void check_request(const char *what, json_object *o) {
  static const char *const skip[] = {"NLKey", "Compress", "OldNodeKey", NULL};
  msock_prefix routes[16];
  msock_endpoint eps[16];
  json_object *host = get(o, "Hostinfo"), *ni = get(host, "NetInfo"), *a = get(o, "Endpoints");
  const msock_hostinfo h = hostinfo_of(host, routes);
  msock_node_key key = {{0}}, old = {{0}};
  size_t len = 0;
  char *text = NULL;
  bool ok = msock_node_key_parse(str(o, "NodeKey"), &key) == MSOCK_OK;
  if (get(o, "Stream")) {
    const msock_netinfo netinfo = {.preferred_derp = (uint64_t)num(ni, "PreferredDERP"),
                                   .working_udp = tristate_of(ni, "WorkingUDP"),
                                   .working_ipv6 = tristate_of(ni, "WorkingIPv6")};
    msock_map_request r = {.version = (uint32_t)num(o, "Version"),
                           .node_key = key,
                           .stream = json_object_get_boolean(get(o, "Stream")),
                           .hostinfo = &h,
                           .netinfo = ni ? &netinfo : NULL,
                           .endpoints = eps};
    ok = ok && msock_disco_key_parse(str(o, "DiscoKey"), &r.disco_key) == MSOCK_OK;
    for (size_t i = 0; i < len_of(a) && i < 16; i++) {
      json_object *types = get(o, "EndpointTypes");
      ok = ok && msock_addr_parse(json_object_get_string(json_object_array_get_idx(a, i)),
                                  &eps[i].addr) == MSOCK_OK;
      eps[i].type =
          len_of(types) > i
              ? (msock_endpoint_type)json_object_get_int(json_object_array_get_idx(types, i))
              : MSOCK_ENDPOINT_UNKNOWN;
      r.n_endpoints++;
    }
    text = msock_map_encode(&r, &len);
  } else {
    const char *auth = str(get(o, "Auth"), "AuthKey");
    if (*str(o, "OldNodeKey")) {
      ok = ok && msock_node_key_parse(str(o, "OldNodeKey"), &old) == MSOCK_OK;
    }
    const msock_register_request r = {.version = (uint32_t)num(o, "Version"),
                                      .node_key = key,
                                      .old_node_key = old,
                                      .auth_key = *auth ? auth : NULL,
                                      .followup = get(o, "Followup") ? str(o, "Followup") : NULL,
                                      .logout = get(o, "Expiry") != NULL,
                                      .hostinfo = &h};
    text = msock_register_encode(&r, &len);
  }
  json_object *ours = text ? json_tokener_parse(text) : NULL;
  check(what, ok && ours && says_all(o, ours, skip), "request");
  if (*str(o, "OldNodeKey") && ours) {
    check(what, strcmp(str(ours, "OldNodeKey"), str(o, "OldNodeKey")) == 0, "OldNodeKey");
  }
  if (*str(o, "Compress") && ours) {
    check(what, strcmp(str(ours, "Compress"), str(o, "Compress")) == 0, "Compress");
  }
  json_object_put(ours);
  free(text);
}

/* --- files --- */

static bool is_message(json_object *o) {
  static const char *const members[] = {"Node",        "Peers",         "PeersChanged",
                                        "KeepAlive",   "PacketFilters", "PeersChangedPatch",
                                        "ControlTime", "PingRequest",   "PeersRemoved"};
  bool any = false;
  for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
    any = any || get(o, members[i]) != NULL;
  }
  return json_object_is_type(o, json_type_object) && any && get(o, "NodeKey") == NULL;
}

static void walk(const char *name, json_object *o, json_object *base) {
  char path[160];
  if (json_object_is_type(o, json_type_array)) {
    if (len_of(o) > 0 && is_message(json_object_array_get_idx(o, 0))) {
      run_stream(name, o, base);
      return;
    }
    for (size_t i = 0; i < len_of(o); i++) {
      snprintf(path, sizeof path, "%.120s[%zu]", name, i);
      walk(path, json_object_array_get_idx(o, i), base);
    }
  } else if (json_object_is_type(o, json_type_object)) {
    if (get(o, "NodeKey") && get(o, "Version")) {
      check_request(name, o);
    } else if (get(o, "MachineAuthorized") && get(o, "AuthURL")) {
      check_register(name, o);
    } else if (is_message(o)) {
      json_object *list = json_object_new_array();
      json_object_array_add(list, json_object_get(o));
      run_stream(name, list, base);
      json_object_put(list);
    } else {
      json_object_object_foreach(o, key, value) {
        snprintf(path, sizeof path, "%.60s%s%.60s", name, *name ? "." : "", key);
        walk(path, value, base);
      }
    }
  }
}

/* A message with Node and Peers to start delta streams from: of the files at hand, else a lone
 * self. */
static json_object *find_base(json_object *o) {
  json_object *found = NULL;
  if (json_object_is_type(o, json_type_object) && get(o, "Node") && get(o, "Peers")) {
    return json_object_get(o);
  }
  if (json_object_is_type(o, json_type_object)) {
    json_object_object_foreach(o, key, value) {
      (void)key;
      found = found ? found : find_base(value);
    }
  }
  for (size_t i = 0; i < len_of(o) && found == NULL; i++) {
    found = find_base(json_object_array_get_idx(o, i));
  }
  return found;
}

static json_object *lone_self(void) {
  return json_tokener_parse(
      "{\"Node\":{\"ID\":9007199254740991,\"Name\":\"self.\",\"Key\":\"nodekey:"
      "1111111111111111111111111111111111111111111111111111111111111111\","
      "\"MachineAuthorized\":true}}");
}

int main(void) {
  char *names[FILES_MAX];
  json_object *base = NULL;
  if (msock_crypto_init() != MSOCK_OK) {
    return 1;
  }
  env = testing_env(&rng, 1);
  const size_t n = vectors_list("map_", names, FILES_MAX);
  for (size_t i = 0; i < n && base == NULL; i++) {
    json_object *root = vectors_open(names[i]);
    base = find_base(root);
    json_object_put(root);
  }
  base = base ? base : lone_self();
  for (size_t i = 0; i < n; i++) {
    json_object *root = vectors_open(names[i]);
    file = names[i];
    if (root) {
      walk("", root, base);
      vectors_done(file);
    }
    json_object_put(root);
    free(names[i]);
  }
  json_object_put(base);
  return vectors_exit();
}
