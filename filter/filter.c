#include "filter/filter.h"

#include <stdlib.h>
#include <string.h>

#include "filter/flows.h"
#include "filter/rules.h"

/* Later fragments that begin inside the largest IPv4 header plus a TCP header (60 + 20 bytes, in
 * units of 8) are refused: they serve only to overwrite what the first one showed (RFC 1858). The
 * limit is the reference's. */
#define FRAGMENT_OFF_MIN 10u

enum { ICMP_ECHO_REPLY = 0, ICMP_UNREACHABLE = 3, ICMP_TIME_EXCEEDED = 11, ICMP_PARAMETER = 12 };
enum { ICMPV6_UNREACHABLE = 1, ICMPV6_PARAMETER = 4, ICMPV6_ECHO_REPLY = 129 };

typedef struct prefixes {
  msock_prefix *list;
  size_t n;
} prefixes;

struct msock_filter {
  msock_rules *rules;
  msock_rules_caps caps;
  bool shields_up;
  prefixes addresses, routes;
  msock_flows *ours;     /* started by us: replies pass */
  msock_flows *answered; /* started by peers under a rule */
  msock_filter_stats stats;
  const msock_log *log;
};

static const char *const verdict_names[MSOCK_FILTER_VERDICTS] = {
    [MSOCK_FILTER_PASS_OUT] = "pass-out",
    [MSOCK_FILTER_PASS_RULE] = "pass-rule",
    [MSOCK_FILTER_PASS_FLOW] = "pass-flow",
    [MSOCK_FILTER_PASS_TCP] = "pass-tcp",
    [MSOCK_FILTER_PASS_ICMP] = "pass-icmp",
    [MSOCK_FILTER_PASS_TSMP] = "pass-tsmp",
    [MSOCK_FILTER_PASS_FRAGMENT] = "pass-fragment",
    [MSOCK_FILTER_DROP_MALFORMED] = "drop-malformed",
    [MSOCK_FILTER_DROP_MULTICAST] = "drop-multicast",
    [MSOCK_FILTER_DROP_LINK_LOCAL] = "drop-link-local",
    [MSOCK_FILTER_DROP_FRAGMENT] = "drop-fragment",
    [MSOCK_FILTER_DROP_NOT_OURS] = "drop-not-ours",
    [MSOCK_FILTER_DROP_NO_RULE] = "drop-no-rule",
    [MSOCK_FILTER_DROP_SHIELDS] = "drop-shields",
};

const char *msock_filter_verdict_name(uint8_t verdict) {
  return verdict < MSOCK_FILTER_VERDICTS ? verdict_names[verdict] : "?";
}

msock_filter *msock_filter_new(const msock_filter_config *config) {
  uint64_t seed[2] = {0};
  msock_filter *f = calloc(1, sizeof *f);
  if (!f) {
    return NULL;
  }
  config->env.random(config->env.ctx, seed, sizeof seed);
  f->log = config->env.log;
  f->caps = (msock_rules_caps){config->has_cap, config->ctx};
  f->rules = msock_rules_new(NULL);
  f->ours = msock_flows_new(MSOCK_FILTER_FLOWS_MAX, seed[0]);
  f->answered = msock_flows_new(MSOCK_FILTER_ANSWERED_MAX, seed[1]);
  if (!f->rules || !f->ours || !f->answered) {
    msock_filter_free(f);
    return NULL;
  }
  return f;
}

void msock_filter_free(msock_filter *f) {
  if (!f) {
    return;
  }
  msock_rules_free(f->rules);
  msock_flows_free(f->ours);
  msock_flows_free(f->answered);
  free(f->addresses.list);
  free(f->routes.list);
  free(f);
}

/* Would the rules let this flow's packets in today. */
static bool still_allowed(void *ctx, const msock_flow *flow) {
  const msock_filter *f = ctx;
  const msock_ip_packet k = {.src = flow->remote,
                             .dst = flow->local,
                             .proto = flow->proto,
                             .src_port = flow->remote_port,
                             .dst_port = flow->local_port};
  return msock_rules_match(f->rules, &f->caps, &k);
}

void msock_filter_recheck(msock_filter *f) {
  msock_flows_retain(f->answered, still_allowed, f);
}

msock_err msock_filter_set_policy(msock_filter *f, const msock_policy *p) {
  msock_rules *rules = msock_rules_new(p);
  if (!rules) {
    return MSOCK_ERR_NOMEM;
  }
  msock_rules_free(f->rules);
  f->rules = rules;
  msock_filter_recheck(f);
  msock_logf(f->log, MSOCK_LOG_INFO, "filter.policy", "rules=%zu", p ? p->n_rules : 0);
  return MSOCK_OK;
}

static bool prefixes_copy(prefixes *to, const msock_prefix *list, size_t n) {
  to->list = calloc(n ? n : 1, sizeof *to->list);
  if (!to->list) {
    return false;
  }
  for (; to->n < n; to->n++) {
    to->list[to->n] = list[to->n];
  }
  return true;
}

msock_err msock_filter_set_local(msock_filter *f, const msock_prefix *addresses, size_t n_addresses,
                                 const msock_prefix *routes, size_t n_routes) {
  prefixes own = {0}, served = {0};
  if (!prefixes_copy(&own, addresses, n_addresses) || !prefixes_copy(&served, routes, n_routes)) {
    free(own.list);
    free(served.list);
    return MSOCK_ERR_NOMEM;
  }
  free(f->addresses.list);
  free(f->routes.list);
  f->addresses = own;
  f->routes = served;
  return MSOCK_OK;
}

void msock_filter_set_shields_up(msock_filter *f, bool up) {
  f->shields_up = up;
}

static bool contains(const prefixes *p, const msock_ip *ip) {
  for (size_t i = 0; i < p->n; i++) {
    if (msock_prefix_contains(&p->list[i], ip)) {
      return true;
    }
  }
  return false;
}

static bool is_icmp(const msock_ip_packet *k) {
  return k->proto == (k->src.family == 4 ? MSOCK_PROTO_ICMP : MSOCK_PROTO_ICMPV6);
}

static bool is_icmp_reply_or_error(const msock_ip_packet *k) {
  if (k->src.family == 4) {
    return k->icmp_type == ICMP_ECHO_REPLY || k->icmp_type == ICMP_UNREACHABLE ||
           k->icmp_type == ICMP_TIME_EXCEEDED || k->icmp_type == ICMP_PARAMETER;
  }
  return k->icmp_type == ICMPV6_ECHO_REPLY ||
         (k->icmp_type >= ICMPV6_UNREACHABLE && k->icmp_type <= ICMPV6_PARAMETER);
}

/* UDP and SCTP: a flow of our own needs no rule. One that a peer starts does, and is remembered so
 * that our answers to it do not make it our own (policy changes re-check it). */
static msock_filter_verdict flow_in(msock_filter *f, const msock_ip_packet *k) {
  const msock_flow flow = {k->src, k->dst, k->src_port, k->dst_port, k->proto};
  if (msock_flows_touch(f->ours, &flow)) {
    return MSOCK_FILTER_PASS_FLOW;
  }
  if (f->shields_up) {
    return MSOCK_FILTER_DROP_SHIELDS;
  }
  if (msock_flows_touch(f->answered, &flow)) {
    return MSOCK_FILTER_PASS_RULE;
  }
  if (!msock_rules_match(f->rules, &f->caps, k)) {
    return MSOCK_FILTER_DROP_NO_RULE;
  }
  msock_flows_add(f->answered, &flow);
  return MSOCK_FILTER_PASS_RULE;
}

static msock_filter_verdict rule_in(const msock_filter *f, const msock_ip_packet *k) {
  bool allowed = false;
  if (f->shields_up) {
    return MSOCK_FILTER_DROP_SHIELDS;
  }
  if (is_icmp(k)) {
    allowed = msock_rules_match_addresses(f->rules, &f->caps, k);
  } else if (k->proto == MSOCK_PROTO_TCP) {
    allowed = msock_rules_match(f->rules, &f->caps, k);
  } else {
    allowed = msock_rules_match_all_ports(f->rules, &f->caps, k);
  }
  return allowed ? MSOCK_FILTER_PASS_RULE : MSOCK_FILTER_DROP_NO_RULE;
}

/* Destinations that never cross the tunnel. PASS_OUT = none of them. */
static msock_filter_verdict destination(const msock_ip *dst) {
  if (msock_ip_is_multicast(dst)) {
    return MSOCK_FILTER_DROP_MULTICAST;
  }
  return msock_ip_is_link_local(dst) ? MSOCK_FILTER_DROP_LINK_LOCAL : MSOCK_FILTER_PASS_OUT;
}

static msock_filter_verdict decide_in(msock_filter *f, const msock_ip_packet *k) {
  const msock_filter_verdict to = destination(&k->dst);
  if (to != MSOCK_FILTER_PASS_OUT) {
    return to;
  }
  if (k->later_fragment) {
    return k->fragment_off < FRAGMENT_OFF_MIN ? MSOCK_FILTER_DROP_FRAGMENT
                                              : MSOCK_FILTER_PASS_FRAGMENT;
  }
  if (!contains(&f->addresses, &k->dst) && !contains(&f->routes, &k->dst)) {
    return MSOCK_FILTER_DROP_NOT_OURS;
  }
  if (k->proto == MSOCK_PROTO_TSMP) {
    return MSOCK_FILTER_PASS_TSMP;
  }
  if (k->proto == MSOCK_PROTO_TCP &&
      (k->tcp_flags & (MSOCK_TCP_SYN | MSOCK_TCP_ACK)) != MSOCK_TCP_SYN) {
    return MSOCK_FILTER_PASS_TCP;
  }
  if (is_icmp(k) && is_icmp_reply_or_error(k)) {
    return MSOCK_FILTER_PASS_ICMP;
  }
  if (k->proto == MSOCK_PROTO_UDP || k->proto == MSOCK_PROTO_SCTP) {
    return flow_in(f, k);
  }
  return rule_in(f, k);
}

static msock_filter_verdict decide_out(msock_filter *f, const msock_ip_packet *k) {
  const msock_filter_verdict to = destination(&k->dst);
  if (to == MSOCK_FILTER_PASS_OUT && !k->later_fragment &&
      (k->proto == MSOCK_PROTO_UDP || k->proto == MSOCK_PROTO_SCTP)) {
    const msock_flow flow = {k->dst, k->src, k->dst_port, k->src_port, k->proto};
    if (!msock_flows_touch(f->answered, &flow) && msock_flows_add(f->ours, &flow)) {
      f->stats.flows_evicted++;
    }
  }
  return to;
}

msock_filter_verdict msock_filter_in_one(msock_filter *f, const msock_ip_packet *k) {
  const msock_filter_verdict v = decide_in(f, k);
  f->stats.in[v]++;
  return v;
}

msock_filter_verdict msock_filter_out_one(msock_filter *f, const msock_ip_packet *k) {
  const msock_filter_verdict v = decide_out(f, k);
  f->stats.out[v]++;
  return v;
}

void msock_filter_in(msock_filter *f, const msock_packet *pkts, size_t n, uint8_t *verdicts) {
  for (size_t i = 0; i < n; i++) {
    msock_ip_packet k;
    if (msock_ip_packet_parse(msock_packet_data(&pkts[i]), pkts[i].len, &k) == MSOCK_OK) {
      verdicts[i] = (uint8_t)msock_filter_in_one(f, &k);
    } else {
      verdicts[i] = MSOCK_FILTER_DROP_MALFORMED;
      f->stats.in[MSOCK_FILTER_DROP_MALFORMED]++;
    }
  }
}

void msock_filter_out(msock_filter *f, const msock_packet *pkts, size_t n, uint8_t *verdicts) {
  for (size_t i = 0; i < n; i++) {
    msock_ip_packet k;
    if (msock_ip_packet_parse(msock_packet_data(&pkts[i]), pkts[i].len, &k) == MSOCK_OK) {
      verdicts[i] = (uint8_t)msock_filter_out_one(f, &k);
    } else {
      verdicts[i] = MSOCK_FILTER_DROP_MALFORMED;
      f->stats.out[MSOCK_FILTER_DROP_MALFORMED]++;
    }
  }
}

size_t msock_filter_caps_of(const msock_filter *f, const msock_ip *src, const char **names,
                            size_t cap) {
  for (size_t i = 0; i < f->addresses.n; i++) {
    const msock_ip *own = &f->addresses.list[i].ip;
    if (own->family == src->family) {
      return msock_rules_granted(f->rules, &f->caps, src, own, names, cap);
    }
  }
  return 0;
}

const msock_filter_stats *msock_filter_get_stats(const msock_filter *f) {
  return &f->stats;
}
