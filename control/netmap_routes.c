/* control/netmap_routes.c: which AllowedIPs of a peer we use (control.md 5.1). */
#include <string.h>

#include "control/netmap_internal.h"

static bool holds(const msock_prefix *list, size_t n, const msock_prefix *p) {
  for (size_t i = 0; i < n; i++) {
    if (msock_prefix_equal(&list[i], p)) {
      return true;
    }
  }
  return false;
}

static bool is_whole_address(const msock_prefix *p) {
  return p->bits == msock_ip_bits(&p->ip);
}

static bool usable(const msock_peer *p) {
  return !p->shadowed && !p->expired;
}

/* An address of self or of another peer: nobody else gets it, whatever AllowedIPs says. */
static bool is_foreign_address(const msock_netmap *nm, const msock_peer *peer,
                               const msock_prefix *p) {
  if (!is_whole_address(p)) {
    return false;
  }
  if (nm->self && holds(nm->self->addresses, nm->self->n_addresses, p)) {
    return true;
  }
  const msock_peer *owner = msock_netmap_find_ip(nm, &p->ip);
  return owner && owner != peer;
}

/* Whether another peer that offers the same subnet comes before this one: PrimaryRoutes first, then
 * the lower ID. */
static bool is_beaten(const msock_netmap *nm, const msock_peer *peer, const msock_prefix *p) {
  const bool primary = holds(peer->primary, peer->n_primary, p);
  for (size_t i = 0; i < nm->peers.n; i++) {
    const msock_peer *other = nm->peers.p[i];
    if (other == peer || !other->has_routes || !usable(other) ||
        !holds(other->allowed, other->n_allowed, p)) {
      continue;
    }
    const bool other_primary = holds(other->primary, other->n_primary, p);
    if (other_primary != primary ? other_primary : other->id < peer->id) {
      return true;
    }
  }
  return false;
}

static bool is_accepted(const msock_netmap *nm, const msock_route_policy *policy,
                        const msock_peer *peer, const msock_prefix *p) {
  if (is_foreign_address(nm, peer, p)) {
    return false;
  }
  if (holds(peer->addresses, peer->n_addresses, p)) {
    return true;
  }
  if (p->bits == 0) {
    return policy->exit_node_id != 0 && policy->exit_node_id == peer->id;
  }
  return policy->accept_routes && !is_beaten(nm, peer, p);
}

size_t msock_netmap_accepted_routes(const msock_netmap *nm, const msock_route_policy *policy,
                                    const msock_peer *peer, msock_prefix *out, size_t cap) {
  size_t n = 0;
  for (size_t i = 0; usable(peer) && i < peer->n_allowed && n < cap; i++) {
    if (is_accepted(nm, policy, peer, &peer->allowed[i])) {
      out[n++] = peer->allowed[i];
    }
  }
  return n;
}
