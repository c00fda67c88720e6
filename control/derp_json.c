/* control/derp_json.c: one region of DERPMap.Regions (control.md 4.6) to base/derp_map.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/netmap_internal.h"

#define DEFAULT_DERP_PORT 443u
#define DEFAULT_STUN_PORT 3478u

static void copy_text(char *dst, size_t cap, const char *text) {
  snprintf(dst, cap, "%s", text ? text : "");
}

static int64_t int_field(json_object *o, const char *name) {
  json_object *v = NULL;
  return json_object_object_get_ex(o, name, &v) && json_object_is_type(v, json_type_int)
             ? json_object_get_int64(v)
             : 0;
}

/* 0 or absent = the default; out of range = off (0). */
static uint16_t port_field(json_object *o, const char *name, uint16_t fallback) {
  const int64_t port = int_field(o, name);
  if (port == 0) {
    return fallback;
  }
  return port > 0 && port <= UINT16_MAX ? (uint16_t)port : 0;
}

static void parse_node(json_object *o, msock_region_id region, msock_derp_node *n) {
  const char *test_ip = netmap_str(o, "STUNTestIP");
  copy_text(n->name, sizeof n->name, netmap_str(o, "Name"));
  copy_text(n->host_name, sizeof n->host_name, netmap_str(o, "HostName"));
  copy_text(n->cert_name, sizeof n->cert_name, netmap_str(o, "CertName"));
  n->region_id = region;
  msock_derp_node_set_ipv4(n, netmap_str(o, "IPv4"));
  msock_derp_node_set_ipv6(n, netmap_str(o, "IPv6"));
  n->derp_port = port_field(o, "DERPPort", DEFAULT_DERP_PORT);
  n->stun_port = port_field(o, "STUNPort", DEFAULT_STUN_PORT);
  n->stun_only = netmap_bool(o, "STUNOnly");
  n->insecure_for_tests = netmap_bool(o, "InsecureForTests");
  n->can_port80 = netmap_bool(o, "CanPort80");
  if (test_ip && msock_ip_parse(test_ip, &n->stun_test_ip) != MSOCK_OK) {
    n->stun_test_ip = (msock_ip){0};
  }
}

msock_err netmap_region_parse(json_object *o, const char *key, msock_derp_region *out) {
  msock_derp_region r = {.score = 1.0};
  json_object *nodes = netmap_array(o, "Nodes");
  char *end = NULL;

  r.id = netmap_uint(o, "RegionID");
  if (r.id == 0) {
    r.id = strtoull(key, &end, 10);
    r.id = *end == '\0' ? r.id : 0;
  }
  if (r.id == 0 || !json_object_is_type(o, json_type_object)) {
    return MSOCK_ERR_INVALID;
  }
  copy_text(r.code, sizeof r.code, netmap_str(o, "RegionCode"));
  copy_text(r.name, sizeof r.name, netmap_str(o, "RegionName"));
  r.no_measure_no_home = netmap_bool(o, "NoMeasureNoHome");
  r.avoid = netmap_bool(o, "Avoid");
  size_t n = nodes ? json_object_array_length(nodes) : 0;
  n = n < MSOCK_DERP_NODES_MAX ? n : MSOCK_DERP_NODES_MAX;
  r.nodes = n ? calloc(n, sizeof *r.nodes) : NULL;
  if (n && r.nodes == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  for (size_t i = 0; i < n; i++) {
    json_object *node = json_object_array_get_idx(nodes, i);
    if (json_object_is_type(node, json_type_object)) {
      parse_node(node, r.id, &r.nodes[r.n_nodes++]);
    }
  }
  *out = r;
  return MSOCK_OK;
}
