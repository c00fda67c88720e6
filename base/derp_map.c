#include "base/derp_map.h"

#include <stdlib.h>
#include <string.h>

const msock_derp_region *msock_derp_map_find(const msock_derp_map *m, msock_region_id id) {
  for (size_t i = 0; m && i < m->n_regions; i++) {
    if (m->regions[i].id == id) {
      return &m->regions[i];
    }
  }
  return NULL;
}

void msock_derp_map_clear(msock_derp_map *m) {
  for (size_t i = 0; i < m->n_regions; i++) {
    free(m->regions[i].nodes);
  }
  free(m->regions);
  *m = (msock_derp_map){0};
}

msock_err msock_derp_map_copy(msock_derp_map *out, const msock_derp_map *from) {
  *out = (msock_derp_map){0};
  if (from->n_regions == 0) {
    return MSOCK_OK;
  }
  out->regions = calloc(from->n_regions, sizeof *out->regions);
  if (out->regions == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  for (; out->n_regions < from->n_regions; out->n_regions++) {
    const msock_derp_region *src = &from->regions[out->n_regions];
    msock_derp_region *dst = &out->regions[out->n_regions];
    *dst = *src;
    dst->nodes = NULL;
    if (src->n_nodes == 0) {
      continue;
    }
    dst->nodes = calloc(src->n_nodes, sizeof *dst->nodes);
    if (dst->nodes == NULL) {
      msock_derp_map_clear(out);
      return MSOCK_ERR_NOMEM;
    }
    memcpy(dst->nodes, src->nodes, src->n_nodes * sizeof *dst->nodes);
  }
  return MSOCK_OK;
}

static bool node_equal(const msock_derp_node *a, const msock_derp_node *b) {
  return strcmp(a->name, b->name) == 0 && a->region_id == b->region_id &&
         strcmp(a->host_name, b->host_name) == 0 && strcmp(a->cert_name, b->cert_name) == 0 &&
         a->v4 == b->v4 && a->v6 == b->v6 && msock_ip_equal(&a->ipv4, &b->ipv4) &&
         msock_ip_equal(&a->ipv6, &b->ipv6) && a->derp_port == b->derp_port &&
         a->stun_port == b->stun_port && a->stun_only == b->stun_only &&
         a->insecure_for_tests == b->insecure_for_tests && a->can_port80 == b->can_port80 &&
         a->stun_plain == b->stun_plain && msock_ip_equal(&a->stun_test_ip, &b->stun_test_ip);
}

bool msock_derp_region_equal(const msock_derp_region *a, const msock_derp_region *b) {
  if (a->id != b->id || a->n_nodes != b->n_nodes || strcmp(a->code, b->code) != 0 ||
      strcmp(a->name, b->name) != 0 || a->no_measure_no_home != b->no_measure_no_home ||
      a->avoid != b->avoid || a->score < b->score || a->score > b->score) {
    return false;
  }
  for (size_t i = 0; i < a->n_nodes; i++) {
    if (!node_equal(&a->nodes[i], &b->nodes[i])) {
      return false;
    }
  }
  return true;
}

static msock_derp_family family_of(const char *text, uint8_t family, msock_ip *ip) {
  *ip = (msock_ip){0};
  if (text == NULL || *text == '\0') {
    return MSOCK_DERP_FAMILY_RESOLVE;
  }
  if (msock_ip_parse(text, ip) != MSOCK_OK || ip->family != family) {
    *ip = (msock_ip){0};
    return MSOCK_DERP_FAMILY_OFF;
  }
  return MSOCK_DERP_FAMILY_LITERAL;
}

void msock_derp_node_set_ipv4(msock_derp_node *n, const char *text) {
  n->v4 = family_of(text, 4, &n->ipv4);
}

void msock_derp_node_set_ipv6(msock_derp_node *n, const char *text) {
  n->v6 = family_of(text, 6, &n->ipv6);
}
