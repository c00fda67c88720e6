/* node/why.c: the path of one peer in sentences, and the endpoints of everybody as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/json_text.h"
#include "node/node_internal.h"

#define CANDIDATES_MAX 64u
#define ONLINE_NO 1u /* msock_peer.online */

static const msock_netmap *netmap_of(const msock_node *n) {
  return n->control ? msock_control_netmap(msock_control_link_machine(n->control)) : NULL;
}

static bool hides(const msock_node *n) {
  return msock_settings_values(n->opt->settings)->profile != MSOCK_TSNODE_PROFILE_FULL;
}

char *msock_node_why_text(msock_node *n, const msock_ip *ip, size_t *len) {
  const msock_netmap *nm = netmap_of(n);
  const msock_peer *p = nm ? msock_netmap_find_ip(nm, ip) : NULL;
  const msock_engine *e = msock_paths_engine(n->paths);
  msock_why why;
  char name[MSOCK_NETMAP_NAME_MAX + 1];

  if (p == NULL ||
      !msock_engine_why(e, msock_engine_peer_find(e, &p->key), msock_loop_now_us(), &why)) {
    return NULL;
  }
  why.offline = p->online == ONLINE_NO;
  const msock_derp_region *r = msock_derp_map_find(msock_netmap_derp_map(nm), why.region);
  char *text = malloc(MSOCK_WHY_TEXT_MAX);
  if (text) {
    snprintf(name, sizeof name, "%.*s", (int)strcspn(p->name, "."), p->name);
    *len = msock_why_explain(&why, name, r ? r->code : NULL, hides(n), text, MSOCK_WHY_TEXT_MAX);
  }
  return text;
}

static void put_addr(msock_json_text *j, const char *name, const msock_addr *a) {
  char text[MSOCK_ADDR_TEXT_MAX];
  msock_json_str(j, name, msock_addr_text(a, text));
}

static void put_candidates(msock_node *n, msock_json_text *j, uint32_t id, uint64_t now_us) {
  msock_engine_candidate c[CANDIDATES_MAX];
  size_t count = msock_engine_candidates(msock_paths_engine(n->paths), id, c, CANDIDATES_MAX);
  count = count < CANDIDATES_MAX ? count : CANDIDATES_MAX;
  msock_json_open(j, "Candidates", '[');
  for (size_t i = 0; i < count; i++) {
    msock_json_open(j, NULL, '{');
    put_addr(j, "Addr", &c[i].addr);
    msock_json_bool(j, "Best", c[i].best);
    msock_json_bool(j, "FromNetmap", c[i].from_netmap);
    msock_json_bool(j, "FromCallMeMaybe", c[i].from_cmm);
    msock_json_bool(j, "FromPing", c[i].from_ping);
    msock_json_seconds(j, "RTTSeconds", c[i].rtt_us);
    if (c[i].last_ping_us) {
      msock_json_seconds(j, "SecondsSincePing", now_us - c[i].last_ping_us);
    }
    if (c[i].last_pong_us) {
      msock_json_seconds(j, "SecondsSincePong", now_us - c[i].last_pong_us);
    }
    msock_json_close(j, '}');
  }
  msock_json_close(j, ']');
}

char *msock_node_endpoints_text(msock_node *n, size_t *len) {
  static const char *const types[] = {"unknown",    "local",          "stun",
                                      "portmapped", "stun4localport", "explicit"};
  const uint64_t now_us = msock_loop_now_us();
  const msock_engine *e = msock_paths_engine(n->paths);
  msock_endpoint self[MSOCK_ENGINE_SELF_MAX];
  const size_t n_self = msock_engine_self_endpoints(e, self);
  msock_json_text j = {0};

  msock_json_open(&j, NULL, '{');
  msock_json_open(&j, "Self", '[');
  for (size_t i = 0; i < n_self; i++) {
    msock_json_open(&j, NULL, '{');
    put_addr(&j, "Addr", &self[i].addr);
    msock_json_str(&j, "Type", types[self[i].type]);
    msock_json_close(&j, '}');
  }
  msock_json_close(&j, ']');
  msock_json_bool(&j, "MappingVaries", msock_engine_mapping_varies(e));
  msock_json_open(&j, "Peers", '[');
  for (uint32_t id = 0; id < msock_dataplane_peer_bound(n->plane); id++) {
    const msock_dataplane_peer *p = msock_dataplane_peer_at(n->plane, id);
    char key[MSOCK_KEY_TEXT_MAX];
    if (p) {
      msock_json_open(&j, NULL, '{');
      msock_json_str(&j, "PublicKey",
                     msock_node_key_text(msock_dataplane_peer_key(n->plane, id), key));
      put_candidates(n, &j, p->path, now_us);
      msock_json_close(&j, '}');
    }
  }
  msock_json_close(&j, ']');
  msock_json_close(&j, '}');
  return msock_json_text_take(&j, len);
}
