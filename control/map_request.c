#include "control/map_request.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_text(json_object *o, const char *name, const char *text) {
  if (text && *text) {
    json_object_object_add(o, name, json_object_new_string(text));
  }
}

/* Three-state: absent = unknown (control.md 4.1). */
static void add_tristate(json_object *o, const char *name, msock_tristate v) {
  if (v != MSOCK_TRISTATE_UNKNOWN) {
    json_object_object_add(o, name, json_object_new_boolean(v == MSOCK_TRISTATE_TRUE));
  }
}

static json_object *netinfo_json(const msock_netinfo *ni) {
  json_object *o = json_object_new_object();
  if (ni->preferred_derp != 0) {
    json_object_object_add(o, "PreferredDERP", json_object_new_int64((int64_t)ni->preferred_derp));
  }
  add_tristate(o, "WorkingUDP", ni->working_udp);
  add_tristate(o, "WorkingIPv6", ni->working_ipv6);
  add_tristate(o, "OSHasIPv6", ni->os_has_ipv6);
  add_tristate(o, "MappingVariesByDestIP", ni->mapping_varies_by_dest_ip);
  add_tristate(o, "UPnP", ni->upnp);
  add_tristate(o, "PMP", ni->pmp);
  add_tristate(o, "PCP", ni->pcp);
  if (ni->n_latencies > 0) {
    json_object *l = json_object_new_object();
    for (size_t i = 0; i < ni->n_latencies; i++) {
      char name[32], seconds[32];
      snprintf(name, sizeof name, "%" PRIu64 "-v%u", ni->latencies[i].region,
               (unsigned)ni->latencies[i].family);
      snprintf(seconds, sizeof seconds, "%" PRIu64 ".%06" PRIu64,
               ni->latencies[i].rtt_us / MSOCK_SEC, ni->latencies[i].rtt_us % MSOCK_SEC);
      json_object_object_add(
          l, name,
          json_object_new_double_s((double)ni->latencies[i].rtt_us / (double)MSOCK_SEC, seconds));
    }
    json_object_object_add(o, "DERPLatency", l);
  }
  return o;
}

json_object *msock_hostinfo_json(const msock_hostinfo *h, const msock_netinfo *netinfo) {
  char text[MSOCK_PREFIX_TEXT_MAX];
  json_object *o = json_object_new_object();
  add_text(o, "IPNVersion", h->app_version);
  add_text(o, "BackendLogID", h->backend_log_id);
  add_text(o, "OS", h->os);
  add_text(o, "Hostname", h->hostname);
  if (h->n_routable_ips > 0) {
    json_object *a = json_object_new_array();
    for (size_t i = 0; i < h->n_routable_ips; i++) {
      json_object_array_add(a,
                            json_object_new_string(msock_prefix_text(&h->routable_ips[i], text)));
    }
    json_object_object_add(o, "RoutableIPs", a);
  }
  if (h->n_request_tags > 0) {
    json_object *a = json_object_new_array();
    for (size_t i = 0; i < h->n_request_tags; i++) {
      json_object_array_add(a, json_object_new_string(h->request_tags[i]));
    }
    json_object_object_add(o, "RequestTags", a);
  }
  if (h->peer_relay) {
    json_object_object_add(o, "PeerRelay", json_object_new_boolean(true));
  }
  if (netinfo) {
    json_object_object_add(o, "NetInfo", netinfo_json(netinfo));
  }
  return o;
}

char *msock_control_json_text(json_object *o, size_t *len) {
  const char *text = o ? json_object_to_json_string_length(
                             o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, len)
                       : NULL;
  char *copy = text ? malloc(*len + 1) : NULL;
  if (copy) {
    memcpy(copy, text, *len + 1);
  }
  json_object_put(o);
  return copy;
}

static void add_endpoints(json_object *o, const msock_map_request *r) {
  char text[MSOCK_ADDR_TEXT_MAX];
  json_object *eps = json_object_new_array(), *types = json_object_new_array();
  for (size_t i = 0; i < r->n_endpoints; i++) {
    json_object_array_add(eps,
                          json_object_new_string(msock_addr_text(&r->endpoints[i].addr, text)));
    json_object_array_add(types, json_object_new_int((int)r->endpoints[i].type));
  }
  json_object_object_add(o, "Endpoints", eps);
  json_object_object_add(o, "EndpointTypes", types);
}

char *msock_map_encode(const msock_map_request *r, size_t *len) {
  char key[MSOCK_KEY_TEXT_MAX];
  json_object *o = json_object_new_object();
  json_object_object_add(o, "Version", json_object_new_int64(r->version));
  json_object_object_add(o, "KeepAlive", json_object_new_boolean(true));
  json_object_object_add(o, "NodeKey",
                         json_object_new_string(msock_node_key_text(&r->node_key, key)));
  json_object_object_add(o, "DiscoKey",
                         json_object_new_string(msock_disco_key_text(&r->disco_key, key)));
  json_object_object_add(o, "Stream", json_object_new_boolean(r->stream));
  if (r->stream) {
    add_text(o, "Compress", "zstd");
  } else {
    json_object_object_add(o, "OmitPeers", json_object_new_boolean(true));
  }
  if (r->n_endpoints > 0) {
    add_endpoints(o, r);
  }
  json_object_object_add(o, "Hostinfo", msock_hostinfo_json(r->hostinfo, r->netinfo));
  return msock_control_json_text(o, len);
}

/* --- owned copies --- */

static bool copy_text(const char **to, const char *from) {
  *to = strdup(from ? from : "");
  return *to != NULL;
}

msock_err msock_hostinfo_copy(msock_hostinfo *to, const msock_hostinfo *from) {
  msock_hostinfo h = {.peer_relay = from->peer_relay};
  const size_t n_ips = from->n_routable_ips < MSOCK_CONTROL_ROUTES_MAX ? from->n_routable_ips
                                                                       : MSOCK_CONTROL_ROUTES_MAX;
  const size_t n_tags =
      from->n_request_tags < MSOCK_CONTROL_TAGS_MAX ? from->n_request_tags : MSOCK_CONTROL_TAGS_MAX;
  msock_prefix *ips = calloc(n_ips + 1, sizeof *ips);
  const char **tags = calloc(n_tags + 1, sizeof *tags);

  h.routable_ips = ips;
  h.request_tags = tags;
  bool ok = ips && tags && copy_text(&h.hostname, from->hostname) && copy_text(&h.os, from->os) &&
            copy_text(&h.app_version, from->app_version) &&
            copy_text(&h.backend_log_id, from->backend_log_id);
  for (size_t i = 0; ok && i < n_ips; i++) {
    ips[h.n_routable_ips++] = from->routable_ips[i];
  }
  for (size_t i = 0; ok && i < n_tags; i++) {
    ok = copy_text(&tags[i], from->request_tags[i]);
    h.n_request_tags += ok;
  }
  if (!ok) {
    msock_hostinfo_clear(&h);
    *to = (msock_hostinfo){0};
    return MSOCK_ERR_NOMEM;
  }
  *to = h;
  return MSOCK_OK;
}

static void drop(const void *owned) {
  free((void *)(uintptr_t)owned);
}

void msock_hostinfo_clear(msock_hostinfo *h) {
  for (size_t i = 0; i < h->n_request_tags; i++) {
    drop(h->request_tags[i]);
  }
  drop(h->request_tags);
  drop(h->routable_ips);
  drop(h->hostname);
  drop(h->os);
  drop(h->app_version);
  drop(h->backend_log_id);
  *h = (msock_hostinfo){0};
}

/* Latencies jitter with every report and are no reason for an update by themselves. */
bool msock_netinfo_equal(const msock_netinfo *a, const msock_netinfo *b) {
  return a->preferred_derp == b->preferred_derp && a->working_udp == b->working_udp &&
         a->working_ipv6 == b->working_ipv6 && a->os_has_ipv6 == b->os_has_ipv6 &&
         a->mapping_varies_by_dest_ip == b->mapping_varies_by_dest_ip && a->upnp == b->upnp &&
         a->pmp == b->pmp && a->pcp == b->pcp;
}
