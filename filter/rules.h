/* filter/rules.h: a policy in the form that packets are matched against (control.md 5.2).
 *
 * One list of rules per address family; each rule holds the protocols as a bit set, the sources as
 * sorted ranges that do not overlap, and the destinations with their ports. Immutable once made. */
#ifndef MSOCK_FILTER_RULES_H
#define MSOCK_FILTER_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/ip_packet.h"
#include "base/policy.h"

typedef struct msock_rules msock_rules;

/* Who holds a capability; has may be NULL (nobody). */
typedef struct msock_rules_caps {
  bool (*has)(void *ctx, const msock_ip *src, const char *cap);
  void *ctx;
} msock_rules_caps;

/* Copies what it needs from p; p may be NULL (no rules). NULL when memory is short. */
msock_rules *msock_rules_new(const msock_policy *p);
void msock_rules_free(msock_rules *r);

/* A rule lists the protocol, the source and the destination with the destination port. */
bool msock_rules_match(const msock_rules *r, const msock_rules_caps *caps,
                       const msock_ip_packet *k);
/* Any rule names source and destination; protocols and ports are not looked at (ICMP). */
bool msock_rules_match_addresses(const msock_rules *r, const msock_rules_caps *caps,
                                 const msock_ip_packet *k);
/* A rule lists the protocol, source and destination, for all ports (protocols without any). */
bool msock_rules_match_all_ports(const msock_rules *r, const msock_rules_caps *caps,
                                 const msock_ip_packet *k);

/* Capability names granted to src towards dst: unique, borrowed from r, in the policy's order.
 * Gives how many were filled; what does not fit into cap is left out. */
size_t msock_rules_granted(const msock_rules *r, const msock_rules_caps *caps, const msock_ip *src,
                           const msock_ip *dst, const char **names, size_t cap);

#endif
