/* control/rules_json.c: one packet-filter rule (control.md 5.2) to base/policy.h. */
#include <stdlib.h>
#include <string.h>

#include "control/netmap_internal.h"

#define CAP_PREFIX "cap:"

static size_t bounded_len(json_object *a) {
  const size_t n = a ? json_object_array_length(a) : 0;
  return n < MSOCK_NETMAP_RULE_ENTRIES_MAX ? n : MSOCK_NETMAP_RULE_ENTRIES_MAX;
}

static const char *text_at(json_object *a, size_t i) {
  json_object *v = json_object_array_get_idx(a, i);
  return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

static msock_err parse_sources(json_object *a, msock_policy_rule *r, uint64_t *bad) {
  const size_t n = bounded_len(a);
  r->srcs = n ? calloc(n, sizeof *r->srcs) : NULL;
  if (n && r->srcs == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  for (size_t i = 0; i < n; i++) {
    msock_policy_src *s = &r->srcs[r->n_srcs];
    const char *text = text_at(a, i);
    if (text && strncmp(text, CAP_PREFIX, sizeof CAP_PREFIX - 1) == 0) {
      s->cap = netmap_text(text + sizeof CAP_PREFIX - 1, MSOCK_NETMAP_NAME_MAX);
      if (s->cap == NULL) {
        return MSOCK_ERR_NOMEM;
      }
      r->n_srcs++;
    } else if (text && msock_ip_range_parse(text, &s->range) == MSOCK_OK) {
      r->n_srcs++;
    } else {
      (*bad)++; /* voids this entry only */
    }
  }
  return MSOCK_OK;
}

static bool port_field(json_object *ports, const char *name, uint16_t *out) {
  json_object *v = NULL;
  if (!json_object_object_get_ex(ports, name, &v) || !json_object_is_type(v, json_type_int)) {
    *out = 0; /* absent, as Go leaves it */
    return v == NULL;
  }
  const int64_t port = json_object_get_int64(v);
  *out = (uint16_t)port;
  return port >= 0 && port <= UINT16_MAX;
}

/* Ports{First,Last}: 0..65535 and in order, else the entry is void. */
static bool parse_ports(json_object *entry, msock_policy_dst *d) {
  json_object *ports = NULL;
  return json_object_object_get_ex(entry, "Ports", &ports) &&
         json_object_is_type(ports, json_type_object) &&
         port_field(ports, "First", &d->port_first) && port_field(ports, "Last", &d->port_last) &&
         d->port_first <= d->port_last;
}

static msock_err parse_destinations(json_object *a, msock_policy_rule *r, uint64_t *bad) {
  const size_t n = bounded_len(a);
  r->dsts = n ? calloc(n, sizeof *r->dsts) : NULL;
  if (n && r->dsts == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  for (size_t i = 0; i < n; i++) {
    json_object *entry = json_object_array_get_idx(a, i);
    msock_policy_dst *d = &r->dsts[r->n_dsts];
    const char *ip = netmap_str(entry, "IP");
    json_object *bits = NULL;
    if (json_object_object_get_ex(entry, "Bits", &bits) && bits != NULL) {
      return MSOCK_ERR_UNKNOWN; /* the protocol of 2020: control.md 5.2 */
    }
    if (ip && msock_ip_range_parse(ip, &d->range) == MSOCK_OK && parse_ports(entry, d)) {
      r->n_dsts++;
    } else {
      (*bad)++;
    }
  }
  return MSOCK_OK;
}

static msock_err parse_protocols(json_object *a, msock_policy_rule *r) {
  const size_t n = bounded_len(a);
  r->protos = n ? calloc(n, 1) : NULL;
  if (n && r->protos == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  for (size_t i = 0; i < n; i++) {
    json_object *v = json_object_array_get_idx(a, i);
    const int64_t proto = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;
    if (proto >= 0 && proto <= UINT8_MAX) {
      r->protos[r->n_protos++] = (uint8_t)proto;
    }
  }
  r->no_proto = n > 0 && r->n_protos == 0;
  return MSOCK_OK;
}

static bool add_cap(msock_policy_grant *g, size_t cap, const char *name) {
  for (size_t i = 0; i < g->n_caps; i++) {
    if (strcmp(g->caps[i], name) == 0) {
      return true;
    }
  }
  if (g->n_caps == cap) {
    return true;
  }
  g->caps[g->n_caps] = netmap_text(name, MSOCK_NETMAP_NAME_MAX);
  return g->caps[g->n_caps] != NULL && ++g->n_caps > 0;
}

static bool parse_grant_caps(json_object *o, msock_policy_grant *g) {
  json_object *list = netmap_array(o, "Caps");
  json_object *map = NULL;
  const bool has_map =
      json_object_object_get_ex(o, "CapMap", &map) && json_object_is_type(map, json_type_object);
  size_t cap = bounded_len(list) + (has_map ? (size_t)json_object_object_length(map) : 0);
  cap = cap < MSOCK_NETMAP_RULE_ENTRIES_MAX ? cap : MSOCK_NETMAP_RULE_ENTRIES_MAX;
  g->caps = cap ? calloc(cap, sizeof *g->caps) : NULL;
  if (cap && g->caps == NULL) {
    return false;
  }
  for (size_t i = 0; i < bounded_len(list); i++) {
    const char *name = text_at(list, i);
    if (name && !add_cap(g, cap, name)) {
      return false;
    }
  }
  if (has_map) {
    json_object_object_foreach(map, name, values) {
      (void)values; /* a list or null: the name alone counts */
      if (!add_cap(g, cap, name)) {
        return false;
      }
    }
  }
  return true;
}

static msock_err parse_grants(json_object *a, msock_policy_rule *r, uint64_t *bad) {
  const size_t n = bounded_len(a);
  r->grants = n ? calloc(n, sizeof *r->grants) : NULL;
  if (n && r->grants == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  for (size_t i = 0; i < n; i++) {
    json_object *o = json_object_array_get_idx(a, i);
    json_object *dsts = netmap_array(o, "Dsts");
    msock_policy_grant *g = &r->grants[r->n_grants++];
    g->dsts = calloc(bounded_len(dsts) + 1, sizeof *g->dsts);
    if (g->dsts == NULL || !parse_grant_caps(o, g)) {
      return MSOCK_ERR_NOMEM;
    }
    for (size_t j = 0; j < bounded_len(dsts); j++) {
      const char *text = text_at(dsts, j);
      if (text && msock_prefix_parse(text, &g->dsts[g->n_dsts]) == MSOCK_OK) {
        g->n_dsts++;
      } else {
        (*bad)++;
      }
    }
  }
  return MSOCK_OK;
}

msock_err netmap_rule_parse(json_object *o, msock_policy_rule *out, uint64_t *bad_entries) {
  json_object *old_form = NULL;
  msock_policy_rule r = {0};

  if (!json_object_is_type(o, json_type_object)) {
    return MSOCK_ERR_INVALID;
  }
  if (json_object_object_get_ex(o, "SrcBits", &old_form) && old_form != NULL) {
    return MSOCK_ERR_UNKNOWN; /* the protocol of 2020: control.md 5.2 */
  }
  msock_err err = parse_sources(netmap_array(o, "SrcIPs"), &r, bad_entries);
  if (err == MSOCK_OK) {
    err = parse_destinations(netmap_array(o, "DstPorts"), &r, bad_entries);
  }
  if (err == MSOCK_OK) {
    err = parse_protocols(netmap_array(o, "IPProto"), &r);
  }
  if (err == MSOCK_OK) {
    err = parse_grants(netmap_array(o, "CapGrant"), &r, bad_entries);
  }
  if (err != MSOCK_OK) {
    msock_policy_rule_clear(&r);
    return err;
  }
  *out = r;
  return MSOCK_OK;
}
