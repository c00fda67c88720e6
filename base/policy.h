/* base/policy.h: packet-filter rules as values: control reads them from the map, filter enforces
 * them. Text forms and meanings: control.md 5.2. */
#ifndef MSOCK_BASE_POLICY_H
#define MSOCK_BASE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"

typedef struct msock_ip_range {
  bool any;        /* "*": every address of both families */
  msock_ip lo, hi; /* inclusive, same family; unset when any */
} msock_ip_range;

typedef struct msock_policy_src {
  char *cap; /* "cap:<name>" without the prefix, allocated; NULL = range */
  msock_ip_range range;
} msock_policy_src;

typedef struct msock_policy_dst {
  msock_ip_range range;
  uint16_t port_first, port_last; /* inclusive */
} msock_policy_dst;

typedef struct msock_policy_grant {
  msock_prefix *dsts;
  size_t n_dsts;
  char **caps; /* capability names: Caps and the keys of CapMap; values are not kept */
  size_t n_caps;
} msock_policy_grant;

typedef struct msock_policy_rule {
  msock_policy_src *srcs;
  size_t n_srcs;
  msock_policy_dst *dsts;
  size_t n_dsts;
  uint8_t *protos; /* empty and !no_proto: TCP, UDP, ICMP, ICMPv6 */
  size_t n_protos;
  bool no_proto; /* a list was given and nothing in it was 0..255: the rule matches nothing */
  msock_policy_grant *grants;
  size_t n_grants;
} msock_policy_rule;

/* A rule set; owns everything below it. */
typedef struct msock_policy {
  msock_policy_rule *rules;
  size_t n_rules;
} msock_policy;

/* "*", an address, a CIDR with zero host bits, or an inclusive range "a-b" (same family, a <= b).
 */
msock_err msock_ip_range_parse(const char *text, msock_ip_range *out);
bool msock_ip_range_contains(const msock_ip_range *r, const msock_ip *ip);

/* Frees everything below and zeroes *p. */
void msock_policy_clear(msock_policy *p);
void msock_policy_rule_clear(msock_policy_rule *r);

#endif
