/* control/node_json.c: one Node or PeersChangedPatch element to a value (control.md 4.4, 5.1). */
#include <stdlib.h>
#include <string.h>

#include "control/netmap_internal.h"
#include "control/wire_time.h"

#define LEGACY_DERP_PREFIX "127.3.3.40:"        /* Node.DERP of older servers: control.md 5.1 */
#define SAFE_INTEGER UINT64_C(9007199254740991) /* 2^53 - 1: control.md 4.5 */

/* --- fields --- */

static json_object *field(json_object *o, const char *name) {
  json_object *v = NULL;
  return json_object_object_get_ex(o, name, &v) ? v : NULL;
}

const char *netmap_str(json_object *o, const char *name) {
  json_object *v = field(o, name);
  return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

bool netmap_bool(json_object *o, const char *name) {
  json_object *v = field(o, name);
  return json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

uint64_t netmap_uint(json_object *o, const char *name) {
  json_object *v = field(o, name);
  if (!json_object_is_type(v, json_type_int)) {
    return 0;
  }
  const int64_t n = json_object_get_int64(v);
  return n > 0 && (uint64_t)n <= SAFE_INTEGER ? (uint64_t)n : 0;
}

json_object *netmap_array(json_object *o, const char *name) {
  json_object *v = field(o, name);
  return json_object_is_type(v, json_type_array) ? v : NULL;
}

static size_t array_len(json_object *a) {
  return a ? json_object_array_length(a) : 0;
}

static const char *text_at(json_object *a, size_t i) {
  json_object *v = json_object_array_get_idx(a, i);
  return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

static uint64_t time_field(json_object *o, const char *name) {
  const char *text = netmap_str(o, name);
  uint64_t us = 0;
  return text && msock_wire_time_parse(text, &us) == MSOCK_OK ? us : 0;
}

/* Copies at most max bytes of text with control bytes as '?': names reach terminals. */
static size_t clean_copy(char *dst, const char *text, size_t max) {
  size_t n = 0;
  for (; text && text[n] != '\0' && n < max; n++) {
    const unsigned char c = (unsigned char)text[n];
    dst[n] = c < 0x20 || c == 0x7f ? '?' : text[n];
  }
  dst[n] = '\0';
  return n + 1;
}

char *netmap_text(const char *text, size_t max) {
  const size_t len = text ? strnlen(text, max) : 0;
  char *copy = malloc(len + 1);
  if (copy) {
    clean_copy(copy, text, len);
  }
  return copy;
}

/* --- lists --- */

/* Entries that do not parse are skipped, each voids itself only. */
static bool parse_prefixes(json_object *a, size_t max, msock_prefix **out, uint16_t *n_out) {
  const size_t n = array_len(a);
  msock_prefix p;
  *out = NULL;
  *n_out = 0;
  if (n == 0) {
    return true;
  }
  *out = malloc((n < max ? n : max) * sizeof **out);
  for (size_t i = 0; *out && i < n && *n_out < max; i++) {
    const char *text = text_at(a, i);
    if (text && msock_prefix_parse(text, &p) == MSOCK_OK) {
      (*out)[(*n_out)++] = p;
    }
  }
  return *out != NULL;
}

static bool usable(const msock_addr *a, bool allow_loopback) {
  return a->port != 0 && !msock_ip_is_multicast(&a->ip) && !msock_ip_is_unspecified(&a->ip) &&
         (allow_loopback || !msock_ip_is_loopback(&a->ip));
}

static bool parse_endpoints(json_object *a, bool allow_loopback, msock_addr **out, uint16_t *n_out,
                            uint64_t *skipped) {
  const size_t n = array_len(a);
  msock_addr addr;
  *out = NULL;
  *n_out = 0;
  if (n == 0) {
    return true;
  }
  const size_t room = n < MSOCK_NETMAP_ENDPOINTS_MAX ? n : MSOCK_NETMAP_ENDPOINTS_MAX;
  *out = malloc(room * sizeof **out);
  for (size_t i = 0; *out && i < n && *n_out < room; i++) {
    const char *text = text_at(a, i);
    if (text && msock_addr_parse(text, &addr) == MSOCK_OK && usable(&addr, allow_loopback)) {
      (*out)[(*n_out)++] = addr;
    } else {
      (*skipped)++;
    }
  }
  return *out != NULL;
}

static bool add_name(msock_strlist *l, const char *text, uint32_t max) {
  char clean[MSOCK_NETMAP_NAME_MAX + 1];
  if (text == NULL || *text == '\0' || l->n >= max) {
    return true;
  }
  clean_copy(clean, text, MSOCK_NETMAP_NAME_MAX);
  return msock_strlist_has(l, clean) || netmap_strlist_add(l, clean);
}

static bool parse_names(json_object *a, msock_strlist *l, uint32_t max) {
  for (size_t i = 0; i < array_len(a); i++) {
    if (!add_name(l, text_at(a, i), max)) {
      return false;
    }
  }
  return true;
}

/* A name counts whatever its value is: [], null, [false], [{}] (control.md 4.5). */
static bool parse_capmap(json_object *o, msock_strlist *l) {
  json_object *map = field(o, "CapMap");
  if (json_object_is_type(map, json_type_object)) {
    json_object_object_foreach(map, key, value) {
      (void)value;
      if (!add_name(l, key, MSOCK_NETMAP_CAPS_MAX)) {
        return false;
      }
    }
  }
  return true;
}

/* --- node --- */

static bool parse_texts(json_object *o, json_object *hostinfo, msock_peer *p) {
  const char *from[4] = {netmap_str(o, "StableID"), netmap_str(o, "Name"),
                         netmap_str(hostinfo, "Hostname"), netmap_str(hostinfo, "OS")};
  char **to[4] = {&p->stable_id, &p->name, &p->hostname, &p->os};
  size_t at = 0, total = 0;
  for (size_t i = 0; i < 4; i++) {
    total += (from[i] ? strnlen(from[i], MSOCK_NETMAP_NAME_MAX) : 0) + 1;
  }
  char *block = malloc(total);
  for (size_t i = 0; block && i < 4; i++) {
    *to[i] = block + at;
    at += clean_copy(block + at, from[i], MSOCK_NETMAP_NAME_MAX);
  }
  return block != NULL;
}

static msock_region_id parse_home(json_object *o) {
  const uint64_t home = netmap_uint(o, "HomeDERP");
  const char *legacy = netmap_str(o, "DERP");
  const size_t skip = sizeof LEGACY_DERP_PREFIX - 1;
  char *end = NULL;
  if (home != 0 || legacy == NULL || strncmp(legacy, LEGACY_DERP_PREFIX, skip) != 0) {
    return home;
  }
  const unsigned long region = strtoul(legacy + skip, &end, 10);
  return *end == '\0' && region <= UINT16_MAX ? region : 0;
}

static bool is_own_address(const msock_peer *p, const msock_prefix *prefix) {
  for (size_t i = 0; i < p->n_addresses; i++) {
    if (msock_prefix_equal(&p->addresses[i], prefix)) {
      return true;
    }
  }
  return false;
}

/* Most nodes serve no routes: one block for both lists. */
static void share_if_equal(msock_peer *p) {
  bool equal = p->n_allowed == p->n_addresses;
  for (size_t i = 0; equal && i < p->n_allowed; i++) {
    equal = msock_prefix_equal(&p->allowed[i], &p->addresses[i]);
  }
  if (equal) {
    free(p->allowed);
    p->allowed = p->addresses;
  }
}

static bool parse_allowed(json_object *o, msock_peer *p) {
  json_object *allowed = netmap_array(o, "AllowedIPs");
  p->unsigned_peerapi_only = netmap_bool(o, "UnsignedPeerAPIOnly");
  if (allowed == NULL || p->unsigned_peerapi_only) { /* absent or null: its addresses */
    p->allowed = p->addresses;
    p->n_allowed = p->n_addresses;
    return true;
  }
  if (!parse_prefixes(allowed, MSOCK_NETMAP_ROUTES_MAX, &p->allowed, &p->n_allowed)) {
    return false;
  }
  for (size_t i = 0; i < p->n_allowed; i++) {
    p->has_routes = p->has_routes || !is_own_address(p, &p->allowed[i]);
  }
  share_if_equal(p);
  return true;
}

static void parse_services(json_object *hostinfo, msock_peer *p) {
  json_object *a = netmap_array(hostinfo, "Services");
  for (size_t i = 0; i < array_len(a); i++) {
    json_object *s = json_object_array_get_idx(a, i);
    const char *proto = netmap_str(s, "Proto");
    const uint64_t port = netmap_uint(s, "Port");
    if (proto && port <= UINT16_MAX && strcmp(proto, "peerapi4") == 0) {
      p->peerapi4_port = (uint16_t)port;
    } else if (proto && port <= UINT16_MAX && strcmp(proto, "peerapi6") == 0) {
      p->peerapi6_port = (uint16_t)port;
    }
  }
}

static uint8_t parse_online(json_object *o, const char *name) {
  json_object *v = field(o, name);
  if (!json_object_is_type(v, json_type_boolean)) {
    return MSOCK_PEER_ONLINE_UNKNOWN;
  }
  return json_object_get_boolean(v) ? MSOCK_PEER_ONLINE_YES : MSOCK_PEER_ONLINE_NO;
}

static msock_ip parse_masq(json_object *o, const char *name, uint8_t family) {
  const char *text = netmap_str(o, name);
  msock_ip ip = {0};
  if (text && (msock_ip_parse(text, &ip) != MSOCK_OK || ip.family != family)) {
    ip = (msock_ip){0};
  }
  return ip;
}

static bool parse_lists(json_object *o, bool allow_loopback, msock_peer *p, uint64_t *skipped) {
  return parse_prefixes(netmap_array(o, "Addresses"), MSOCK_NETMAP_ADDRESSES_MAX, &p->addresses,
                        &p->n_addresses) &&
         parse_allowed(o, p) &&
         parse_prefixes(netmap_array(o, "PrimaryRoutes"), MSOCK_NETMAP_ROUTES_MAX, &p->primary,
                        &p->n_primary) &&
         parse_endpoints(netmap_array(o, "Endpoints"), allow_loopback, &p->endpoints,
                         &p->n_endpoints, skipped) &&
         parse_capmap(o, &p->caps) &&
         parse_names(netmap_array(o, "Capabilities"), &p->caps, MSOCK_NETMAP_CAPS_MAX) &&
         parse_names(netmap_array(o, "Tags"), &p->tags, MSOCK_NETMAP_TAGS_MAX);
}

msock_err netmap_node_parse(json_object *o, bool allow_loopback, msock_peer **out,
                            uint64_t *skipped_endpoints) {
  const char *key = netmap_str(o, "Key"), *disco = netmap_str(o, "DiscoKey");
  json_object *hostinfo = field(o, "Hostinfo");
  msock_node_key node_key;

  if (netmap_uint(o, "ID") == 0 || key == NULL ||
      msock_node_key_parse(key, &node_key) != MSOCK_OK || msock_node_key_is_zero(&node_key)) {
    return MSOCK_ERR_INVALID;
  }
  msock_peer *p = calloc(1, sizeof *p);
  if (p == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  p->id = netmap_uint(o, "ID");
  p->user_id = netmap_uint(o, "User");
  p->key = node_key;
  if (disco && msock_disco_key_parse(disco, &p->disco) != MSOCK_OK) {
    p->disco = (msock_disco_key){0}; /* no direct path, the node stays reachable by DERP */
  }
  p->home_derp = parse_home(o);
  p->key_expiry_us = time_field(o, "KeyExpiry");
  p->last_seen_us = time_field(o, "LastSeen");
  p->cap = (uint32_t)(netmap_uint(o, "Cap") & UINT32_MAX);
  p->online = parse_online(o, "Online");
  p->expired_flag = netmap_bool(o, "Expired");
  p->machine_authorized = netmap_bool(o, "MachineAuthorized");
  p->wireguard_only = netmap_bool(o, "IsWireGuardOnly");
  p->peer_relay = netmap_bool(hostinfo, "PeerRelay");
  p->masq4 = parse_masq(o, "SelfNodeV4MasqAddrForThisPeer", 4);
  p->masq6 = parse_masq(o, "SelfNodeV6MasqAddrForThisPeer", 6);
  parse_services(hostinfo, p);
  if (!parse_texts(o, hostinfo, p) || !parse_lists(o, allow_loopback, p, skipped_endpoints)) {
    netmap_peer_free(p);
    return MSOCK_ERR_NOMEM;
  }
  *out = p;
  return MSOCK_OK;
}

/* --- patch --- */

static bool patch_keys(json_object *o, netmap_patch *p) {
  const char *key = netmap_str(o, "Key"), *disco = netmap_str(o, "DiscoKey");
  if (key) {
    if (msock_node_key_parse(key, &p->key) != MSOCK_OK || msock_node_key_is_zero(&p->key)) {
      return false;
    }
    p->has |= PATCH_KEY;
  }
  if (disco) {
    if (msock_disco_key_parse(disco, &p->disco) != MSOCK_OK) {
      return false;
    }
    p->has |= PATCH_DISCO;
  }
  return true;
}

static void patch_times(json_object *o, netmap_patch *p) {
  const char *seen = netmap_str(o, "LastSeen"), *expiry = netmap_str(o, "KeyExpiry");
  if (seen && msock_wire_time_parse(seen, &p->last_seen_us) == MSOCK_OK) {
    p->has |= PATCH_LAST_SEEN;
  }
  if (expiry && msock_wire_time_parse(expiry, &p->key_expiry_us) == MSOCK_OK) {
    p->has |= PATCH_KEY_EXPIRY;
  }
}

msock_err netmap_patch_parse(json_object *o, bool allow_loopback, netmap_patch *out,
                             uint64_t *skipped_endpoints) {
  netmap_patch p = {.id = netmap_uint(o, "NodeID")};
  json_object *endpoints = netmap_array(o, "Endpoints");

  if (p.id == 0 || !patch_keys(o, &p)) {
    return MSOCK_ERR_INVALID;
  }
  p.home_derp = netmap_uint(o, "DERPRegion");
  p.cap = (uint32_t)(netmap_uint(o, "Cap") & UINT32_MAX);
  p.online = parse_online(o, "Online");
  p.has |= p.home_derp ? PATCH_DERP : 0;
  p.has |= p.cap ? PATCH_CAP : 0;
  p.has |= p.online ? PATCH_ONLINE : 0;
  p.has |= endpoints ? PATCH_ENDPOINTS : 0;
  p.has |= json_object_is_type(field(o, "CapMap"), json_type_object) ? PATCH_CAPS : 0;
  patch_times(o, &p);
  if (!parse_endpoints(endpoints, allow_loopback, &p.endpoints, &p.n_endpoints,
                       skipped_endpoints) ||
      !parse_capmap(o, &p.caps)) {
    netmap_patch_clear(&p);
    return MSOCK_ERR_NOMEM;
  }
  *out = p;
  return MSOCK_OK;
}
