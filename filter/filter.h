/* filter/filter.h: the packet filter: which inner packets a peer may send to us (control.md 5.2).
 *
 * Pure. A policy (base/policy.h) is compiled into rule lists per address family with sorted, merged
 * source ranges; the list that packets see is replaced as a whole. Replies need no rule: a TCP
 * packet that is not a bare SYN, an ICMP answer or error, and UDP or SCTP whose reverse flow went
 * out before (flows.h) pass. The order of the tests is the one peers use:
 *
 *   in:  malformed, destination multicast or link-local, tiny later fragment: drop; later fragment:
 *        pass; destination not ours: drop; then by protocol.
 *   out: malformed, multicast, link-local: drop; all else passes, UDP and SCTP flows are recorded.
 *
 * Nothing is allocated per packet; policy and local addresses are allocated when they are set. */
#ifndef MSOCK_FILTER_FILTER_H
#define MSOCK_FILTER_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/env.h"
#include "base/err.h"
#include "base/ip_packet.h"
#include "base/packet.h"
#include "base/policy.h"

/* Flows that we started, remembered so that their replies pass; the least recently used makes room.
 * Peers keep 512. */
#define MSOCK_FILTER_FLOWS_MAX 4096u
/* Flows that peers started under a rule, remembered so that our answers are not taken for flows of
 * our own; the least recently used makes room. */
#define MSOCK_FILTER_ANSWERED_MAX 1024u

/* One byte per packet: what happens to it and why. */
typedef enum msock_filter_verdict {
  MSOCK_FILTER_PASS_OUT = 0,    /* outbound */
  MSOCK_FILTER_PASS_RULE,       /* a rule matches */
  MSOCK_FILTER_PASS_FLOW,       /* UDP, SCTP: the reverse flow went out */
  MSOCK_FILTER_PASS_TCP,        /* TCP, not a bare SYN */
  MSOCK_FILTER_PASS_ICMP,       /* echo reply or ICMP error */
  MSOCK_FILTER_PASS_TSMP,       /* protocol 99 */
  MSOCK_FILTER_PASS_FRAGMENT,   /* later fragment: useless without its first one */
  MSOCK_FILTER_DROP_MALFORMED,  /* shorter than its header, or not IP */
  MSOCK_FILTER_DROP_MULTICAST,  /* destination multicast or broadcast */
  MSOCK_FILTER_DROP_LINK_LOCAL, /* destination link-local */
  MSOCK_FILTER_DROP_FRAGMENT,   /* later fragment that could overwrite the first one's header */
  MSOCK_FILTER_DROP_NOT_OURS,   /* destination neither our address nor a route that we serve */
  MSOCK_FILTER_DROP_NO_RULE,    /* no rule matches, or no policy was set yet */
  MSOCK_FILTER_DROP_SHIELDS,    /* shields are up: rules are not looked at */
  MSOCK_FILTER_VERDICTS         /* count, not a verdict */
} msock_filter_verdict;

static inline bool msock_filter_passes(uint8_t verdict) {
  return verdict < MSOCK_FILTER_DROP_MALFORMED;
}

/* Stable short name: "pass-rule", "drop-no-rule". Static storage; "?" for no verdict. */
const char *msock_filter_verdict_name(uint8_t verdict);

typedef struct msock_filter_config {
  msock_env env; /* random: seed of the flow hash; log */
  /* Does the peer that owns this source address hold the capability (its CapMap has the name)?
   * Answers at once, never calls back in. NULL: "cap:" sources match nobody. */
  bool (*has_cap)(void *ctx, const msock_ip *src, const char *cap);
  void *ctx;
} msock_filter_config;

typedef struct msock_filter_stats {
  uint64_t in[MSOCK_FILTER_VERDICTS]; /* packets by verdict */
  uint64_t out[MSOCK_FILTER_VERDICTS];
  uint64_t flows_evicted; /* of our own flows, table full */
} msock_filter_stats;

typedef struct msock_filter msock_filter;

/* NULL when memory is short. Drops every new inbound flow until a policy is set. */
msock_filter *msock_filter_new(const msock_filter_config *config);
void msock_filter_free(msock_filter *f);

/* Replaces the rules as a whole; p is borrowed for the call. NULL or no rules: nothing is accepted
 * by rule. Flows that peers started under the old rules are checked against the new ones and
 * forgotten when nothing allows them; flows of our own and TCP connections live on.
 * MSOCK_ERR_NOMEM leaves the old rules in force. */
msock_err msock_filter_set_policy(msock_filter *f, const msock_policy *p);

/* Peers' capabilities changed: checks the flows that peers started once more (cap: sources). */
void msock_filter_recheck(msock_filter *f);

/* Our own addresses, and the routes that we serve (subnet router, exit node). Copied. Neither set:
 * every inbound packet is dropped as not ours. MSOCK_ERR_NOMEM leaves the old ones in force. */
msock_err msock_filter_set_local(msock_filter *f, const msock_prefix *addresses, size_t n_addresses,
                                 const msock_prefix *routes, size_t n_routes);

/* Shields up: as if there were no rules. */
void msock_filter_set_shields_up(msock_filter *f, bool up);

/* Inbound (from the tunnel): one verdict per packet. n up to any length. */
void msock_filter_in(msock_filter *f, const msock_packet *pkts, size_t n, uint8_t *verdicts);
/* Outbound (to the tunnel). */
void msock_filter_out(msock_filter *f, const msock_packet *pkts, size_t n, uint8_t *verdicts);
/* The same for one packet that is parsed already. Counted as well. */
msock_filter_verdict msock_filter_in_one(msock_filter *f, const msock_ip_packet *k);
msock_filter_verdict msock_filter_out_one(msock_filter *f, const msock_ip_packet *k);

/* Capabilities (CapGrant) that a source address holds towards us, that is towards our first address
 * of its family. Gives how many names were filled; what does not fit into cap is left out. Names
 * are unique and valid until the next set_policy. */
size_t msock_filter_caps_of(const msock_filter *f, const msock_ip *src, const char **names,
                            size_t cap);

/* Valid until free. */
const msock_filter_stats *msock_filter_get_stats(const msock_filter *f);

#endif
