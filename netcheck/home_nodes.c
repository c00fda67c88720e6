#include "netcheck/home_internal.h"

/* The host name of a node may be a literal itself. */
static msock_ip host_literal(const msock_derp_node *n) {
  msock_ip ip = {0};
  if (msock_ip_parse(n->host_name, &ip) != MSOCK_OK) {
    return (msock_ip){0};
  }
  return ip;
}

static msock_ip known_ip(const msock_derp_node *n, uint8_t family) {
  const msock_derp_family how = family == 4 ? n->v4 : n->v6;
  const msock_ip host = host_literal(n);
  if (how == MSOCK_DERP_FAMILY_LITERAL) {
    return family == 4 ? n->ipv4 : n->ipv6;
  }
  if (how == MSOCK_DERP_FAMILY_RESOLVE && host.family == family) {
    return host;
  }
  return (msock_ip){0};
}

void home_nodes_reset(msock_home *h) {
  for (size_t i = 0; i < h->map.n_regions; i++) {
    const msock_derp_region *r = &h->map.regions[i];
    for (size_t j = 0; j < r->n_nodes; j++) {
      h->regions[i].nodes[j] =
          (home_node){.v4 = known_ip(&r->nodes[j], 4), .v6 = known_ip(&r->nodes[j], 6)};
    }
  }
}

/* Would resolving the host name give an address of the family. */
static bool by_name(const msock_home *h, const msock_derp_node *n, uint8_t family) {
  const msock_derp_family how = family == 4 ? n->v4 : n->v6;
  return how == MSOCK_DERP_FAMILY_RESOLVE && n->host_name[0] != '\0' &&
         host_literal(n).family == 0 && (family == 4 || h->config.ipv6);
}

static bool is_stun_node(const msock_derp_node *n) {
  return n->stun_port != 0;
}

void home_nodes_want(msock_home *h, size_t region, bool relay, bool again) {
  const msock_derp_region *r = &h->map.regions[region];
  for (size_t j = 0; j < r->n_nodes && !h->config.no_names; j++) {
    const msock_derp_node *n = &r->nodes[j];
    home_node *state = &h->regions[region].nodes[j];
    const bool used = relay ? !n->stun_only : is_stun_node(n) && n->stun_test_ip.family == 0;
    if (used && (by_name(h, n, 4) || by_name(h, n, 6)) &&
        (state->name == NAME_IDLE || (state->name == NAME_DONE && again))) {
      state->name = NAME_WANTED;
    }
  }
}

/* The address of a node over one family. */
static home_address node_ip(const msock_home *h, size_t region, size_t node, uint8_t family,
                            msock_ip *out) {
  const msock_derp_node *n = &h->map.regions[region].nodes[node];
  const home_node *state = &h->regions[region].nodes[node];
  const msock_ip *ip = family == 4 ? &state->v4 : &state->v6;
  if (family == 6 && !h->config.ipv6) {
    return ADDRESS_NEVER;
  }
  if (ip->family != 0) {
    *out = *ip;
    return ADDRESS_KNOWN;
  }
  return by_name(h, n, family) && !h->config.no_names && state->name != NAME_DONE ? ADDRESS_LATER
                                                                                  : ADDRESS_NEVER;
}

static home_address stun_address(const msock_home *h, size_t region, size_t node, uint8_t family,
                                 msock_addr *out) {
  const msock_derp_node *n = &h->map.regions[region].nodes[node];
  out->port = n->stun_port;
  if (!is_stun_node(n) || (family == 6 && !h->config.ipv6)) {
    return ADDRESS_NEVER;
  }
  if (n->stun_test_ip.family != 0) { /* overrides everything, netcheck.md 2.5 */
    out->ip = n->stun_test_ip;
    return n->stun_test_ip.family == family ? ADDRESS_KNOWN : ADDRESS_NEVER;
  }
  return node_ip(h, region, node, family, &out->ip);
}

size_t home_nodes_count_stun(msock_home *h, size_t region, uint8_t family) {
  const msock_derp_region *r = &h->map.regions[region];
  size_t count = 0;
  for (size_t j = 0; j < r->n_nodes; j++) {
    msock_addr addr;
    if (stun_address(h, region, j, family, &addr) != ADDRESS_NEVER) {
      count++;
    } else if (h->config.no_names && is_stun_node(&r->nodes[j]) &&
               by_name(h, &r->nodes[j], family)) {
      h->stats.stun_skipped_name++;
    }
  }
  return count;
}

home_address home_nodes_pick_stun(const msock_home *h, const msock_plan_set *set, unsigned k,
                                  size_t *node, msock_addr *addr) {
  const msock_derp_region *r = &h->map.regions[set->region];
  size_t usable[MSOCK_DERP_NODES_MAX];
  size_t n = 0;
  for (size_t j = 0; j < r->n_nodes && n < MSOCK_DERP_NODES_MAX; j++) {
    if (stun_address(h, set->region, j, set->family, addr) != ADDRESS_NEVER) {
      usable[n++] = j;
    }
  }
  for (size_t i = 0; i < n; i++) { /* the k-th, or the next one whose address is known */
    *node = usable[(set->first + k + i) % n];
    if (stun_address(h, set->region, *node, set->family, addr) == ADDRESS_KNOWN) {
      return ADDRESS_KNOWN;
    }
  }
  return n > 0 ? ADDRESS_LATER : ADDRESS_NEVER;
}

home_address home_nodes_relay(const msock_home *h, size_t region, size_t node, msock_addr *addr) {
  const msock_derp_node *n = &h->map.regions[region].nodes[node];
  addr->port = n->derp_port;
  if (n->stun_only) {
    return ADDRESS_NEVER;
  }
  const home_address v4 = node_ip(h, region, node, 4, &addr->ip);
  if (v4 == ADDRESS_KNOWN) {
    return v4;
  }
  const home_address v6 = node_ip(h, region, node, 6, &addr->ip);
  return v6 > v4 ? v6 : v4;
}

bool home_nodes_next_name(msock_home *h, size_t *region, size_t *node) {
  for (*region = 0; *region < h->map.n_regions; ++*region) {
    for (*node = 0; *node < h->map.regions[*region].n_nodes; ++*node) {
      if (h->regions[*region].nodes[*node].name == NAME_WANTED) {
        return true;
      }
    }
  }
  return false;
}

bool home_region_eligible(const msock_home *h, size_t region) {
  const msock_derp_region *r = &h->map.regions[region];
  bool relay = false;
  for (size_t j = 0; j < r->n_nodes; j++) {
    msock_addr addr;
    /* a name that failed may be found by the next look-up: only the profile rules it out */
    relay =
        relay || (!r->nodes[j].stun_only &&
                  (!h->config.no_names || home_nodes_relay(h, region, j, &addr) != ADDRESS_NEVER));
  }
  return relay && !r->no_measure_no_home && (!r->avoid || r->id == h->home);
}
