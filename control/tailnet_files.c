/* control/tailnet_files.c: what the tiny control server takes from files: policy, DERP map, and its
 * own state. */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/policy.h"
#include "control/netmap_internal.h"
#include "control/tailnet_internal.h"

#define STATE_VERSION 1u

/* --- state --- */

char *msock_tailnet_state(msock_tailnet *t, size_t *len) {
  tailnet_text s = {0};
  char machine[MSOCK_KEY_TEXT_MAX], key[MSOCK_KEY_TEXT_MAX];
  msock_tailnet_addf(&s, "{\"version\":%u,\"last_id\":%" PRIu64 ",\"nodes\":[", STATE_VERSION,
                     t->last_id);
  for (size_t i = 0; i < t->n_nodes; i++) {
    const tailnet_node *n = t->nodes[i];
    msock_tailnet_addf(&s,
                       "%s\n {\"id\":%" PRIu64 ",\"machine\":\"%s\",\"key\":\"%s\",\"name\":\"%s\","
                       "\"created_us\":%" PRIu64 "}",
                       i ? "," : "", n->id, msock_machine_key_text(&n->machine, machine),
                       msock_node_key_text(&n->key, key), n->name, n->created_us);
  }
  msock_tailnet_addf(&s, "\n]}\n");
  if (s.bad) {
    free(s.p);
    return NULL;
  }
  t->dirty = false;
  *len = s.len;
  return s.p;
}

/* A JSON number from 1 on; 0 otherwise. */
static uint64_t number(json_object *o, const char *name) {
  json_object *v = NULL;
  const int64_t n = json_object_object_get_ex(o, name, &v) && json_object_is_type(v, json_type_int)
                        ? json_object_get_int64(v)
                        : 0;
  return n > 0 ? (uint64_t)n : 0;
}

static bool load_node(msock_tailnet *t, json_object *o, uint64_t last_id) {
  const uint64_t id = number(o, "id");
  msock_machine_key machine;
  msock_node_key key;
  if (!json_object_is_type(o, json_type_object) || id == 0 || id > last_id ||
      msock_machine_key_parse(msock_tailnet_str(o, "machine"), &machine) != MSOCK_OK ||
      msock_node_key_parse(msock_tailnet_str(o, "key"), &key) != MSOCK_OK ||
      msock_tailnet_by_machine(t, &machine) != NULL) {
    return false;
  }
  for (size_t i = 0; i < t->n_nodes; i++) {
    if (t->nodes[i]->id == id) {
      return false;
    }
  }
  tailnet_node *n = msock_tailnet_add(t, number(o, "created_us"), &machine);
  if (n == NULL) {
    return false;
  }
  n->id = id;
  n->key = key;
  msock_tailnet_rename(t, n, msock_tailnet_str(o, "name"));
  return true;
}

msock_err msock_tailnet_load(msock_tailnet *t, const char *text) {
  json_object *o = json_tokener_parse(text), *nodes = NULL;
  bool ok = json_object_is_type(o, json_type_object) && number(o, "version") == STATE_VERSION &&
            json_object_object_get_ex(o, "nodes", &nodes) &&
            json_object_is_type(nodes, json_type_array);
  const uint64_t last_id = ok ? number(o, "last_id") : 0;
  for (size_t i = 0; ok && i < json_object_array_length(nodes); i++) {
    ok = load_node(t, json_object_array_get_idx(nodes, i), last_id);
  }
  while (!ok && t->n_nodes > 0) {
    free(t->nodes[--t->n_nodes]);
  }
  t->last_id = ok ? last_id : 0;
  t->dirty = false;
  json_object_put(o);
  return ok ? MSOCK_OK : MSOCK_ERR_INVALID;
}

/* --- policy --- */

static char *refuse(char why[static MSOCK_TAILNET_WHY_MAX], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static char *refuse(char why[static MSOCK_TAILNET_WHY_MAX], const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(why, MSOCK_TAILNET_WHY_MAX, fmt, ap);
  va_end(ap);
  return NULL;
}

/* Reads a rule as a node does. */
static bool rule_is_good(json_object *o) {
  msock_policy_rule rule;
  uint64_t bad = 0;
  if (netmap_rule_parse(o, &rule, &bad) != MSOCK_OK) {
    return false;
  }
  const bool says_something =
      rule.n_srcs > 0 && (rule.n_dsts > 0 || rule.n_grants > 0) && !rule.no_proto;
  msock_policy_rule_clear(&rule);
  return bad == 0 && says_something;
}

static bool rules_are_good(const char *name, json_object *rules, char *why) {
  if (!json_object_is_type(rules, json_type_array)) {
    refuse(why, "filter \"%.40s\" is not a list of rules", name);
    return false;
  }
  for (size_t i = 0; i < json_object_array_length(rules); i++) {
    if (!rule_is_good(json_object_array_get_idx(rules, i))) {
      refuse(why,
             "rule %zu of filter \"%.40s\" is not in the wire's form "
             "{\"SrcIPs\":[...],\"DstPorts\":[{\"IP\":...,\"Ports\":{\"First\":..,\"Last\":..}}]}",
             i + 1, name);
      return false;
    }
  }
  return true;
}

char *msock_tailnet_filters_text(const char *json, size_t len,
                                 char why[static MSOCK_TAILNET_WHY_MAX]) {
  json_tokener *tok = json_tokener_new();
  json_object *o = NULL;
  char *text = NULL;
  if (tok == NULL || len > INT32_MAX) {
    json_tokener_free(tok);
    return refuse(why, "out of memory");
  }
  json_tokener_set_flags(tok, JSON_TOKENER_VALIDATE_UTF8);
  o = json_tokener_parse_ex(tok, json, (int)len);
  if (o == NULL) {
    const enum json_tokener_error e = json_tokener_get_error(tok);
    refuse(why, "not JSON: %s at byte %zu",
           e == json_tokener_continue ? "it ends too early" : json_tokener_error_desc(e),
           json_tokener_get_parse_end(tok));
  }
  json_tokener_free(tok);
  if (json_object_is_type(o, json_type_array)) {
    json_object *base = json_object_new_object();
    json_object_object_add(base, "base", o);
    o = base;
  }
  bool ok = json_object_is_type(o, json_type_object);
  if (o != NULL && !ok) {
    refuse(why, "neither an object of named filters nor a list of rules");
  }
  if (ok && json_object_object_length(o) == 0) { /* nodes would take it for "no change" */
    ok = false;
    refuse(why, "it names no filter; to deny all: {\"base\":[]}");
  }
  if (ok) {
    json_object_object_foreach(o, name, rules) {
      ok = ok && rules_are_good(name, rules, why);
    }
  }
  if (ok) {
    text = strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
  }
  json_object_put(o);
  return text;
}

/* --- DERP map --- */

static void add_family(tailnet_text *t, const char *name, msock_derp_family f, const msock_ip *ip) {
  char text[MSOCK_IP_TEXT_MAX];
  if (f != MSOCK_DERP_FAMILY_RESOLVE) {
    msock_tailnet_addf(t, ",\"%s\":\"%s\"", name,
                       f == MSOCK_DERP_FAMILY_LITERAL ? msock_ip_text(ip, text) : "none");
  }
}

static void add_derp_node(tailnet_text *t, const msock_derp_node *n, msock_region_id region) {
  char text[MSOCK_IP_TEXT_MAX];
  msock_tailnet_addf(t, "{\"Name\":");
  msock_tailnet_add_string(t, n->name);
  msock_tailnet_addf(t, ",\"RegionID\":%" PRIu64 ",\"HostName\":", region);
  msock_tailnet_add_string(t, n->host_name);
  if (n->cert_name[0]) {
    msock_tailnet_addf(t, ",\"CertName\":");
    msock_tailnet_add_string(t, n->cert_name);
  }
  add_family(t, "IPv4", n->v4, &n->ipv4);
  add_family(t, "IPv6", n->v6, &n->ipv6);
  msock_tailnet_addf(t, ",\"DERPPort\":%u,\"STUNPort\":%d%s%s%s", n->derp_port,
                     n->stun_port ? n->stun_port : -1, n->stun_only ? ",\"STUNOnly\":true" : "",
                     n->insecure_for_tests ? ",\"InsecureForTests\":true" : "",
                     n->can_port80 ? ",\"CanPort80\":true" : "");
  if (n->stun_test_ip.family != 0) {
    msock_tailnet_addf(t, ",\"STUNTestIP\":\"%s\"", msock_ip_text(&n->stun_test_ip, text));
  }
  msock_tailnet_addf(t, "}");
}

char *msock_tailnet_derp_text(const msock_derp_map *m) {
  tailnet_text t = {0};
  bool scores = false;
  msock_tailnet_addf(&t, "{\"Regions\":{");
  for (size_t i = 0; i < m->n_regions; i++) {
    const msock_derp_region *r = &m->regions[i];
    msock_tailnet_addf(&t,
                       "%s\"%" PRIu64 "\":{\"RegionID\":%" PRIu64 ",\"RegionCode\":", i ? "," : "",
                       r->id, r->id);
    msock_tailnet_add_string(&t, r->code);
    msock_tailnet_addf(&t, ",\"RegionName\":");
    msock_tailnet_add_string(&t, r->name);
    msock_tailnet_addf(&t, "%s%s,\"Nodes\":[", r->avoid ? ",\"Avoid\":true" : "",
                       r->no_measure_no_home ? ",\"NoMeasureNoHome\":true" : "");
    for (size_t k = 0; k < r->n_nodes; k++) {
      msock_tailnet_addf(&t, "%s", k ? "," : "");
      add_derp_node(&t, &r->nodes[k], r->id);
    }
    msock_tailnet_addf(&t, "]}");
    scores = scores || r->score < 1.0 || r->score > 1.0;
  }
  msock_tailnet_addf(&t, "},\"omitDefaultRegions\":true");
  for (size_t i = 0, n = 0; scores && i < m->n_regions; i++) {
    const msock_derp_region *r = &m->regions[i];
    msock_tailnet_addf(&t, "%s\"%" PRIu64 "\":%g", n++ ? "," : ",\"HomeParams\":{\"RegionScore\":{",
                       r->id, r->score);
  }
  msock_tailnet_addf(&t, "%s}", scores ? "}}" : "");
  if (t.bad) {
    free(t.p);
    return NULL;
  }
  return t.p;
}
