/* Packet filter: the order of its tests, rules, flows, policy changes (control.md 5.2). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filter/filter.h"
#include "filter/flows.h"
#include "tests/unit/testing.h"

#define SYN MSOCK_TCP_SYN
#define ACK MSOCK_TCP_ACK

static msock_ip ip(const char *text) {
  msock_ip out = {0};
  ck_assert_msg(msock_ip_parse(text, &out) == MSOCK_OK, "%s", text);
  return out;
}

/* A policy of at most 8 rules, built in place; the texts are borrowed. */
typedef struct builder {
  msock_policy policy;
  msock_policy_rule rules[8];
  msock_policy_src srcs[8][4];
  msock_policy_dst dsts[8][4];
  uint8_t protos[8][4];
} builder;

/* Adds a rule; src "cap:x" is a capability source. Bad entries are left out, as control does. */
static msock_policy_rule *add_rule(builder *b, const char *src, const char *dst, uint16_t first,
                                   uint16_t last) {
  const size_t i = b->policy.n_rules++;
  msock_policy_rule *r = &b->rules[i];
  *r = (msock_policy_rule){.srcs = b->srcs[i], .dsts = b->dsts[i], .protos = b->protos[i]};
  b->policy.rules = b->rules;
  if (strncmp(src, "cap:", 4) == 0) {
    b->srcs[i][r->n_srcs++] = (msock_policy_src){.cap = (char *)(uintptr_t)(src + 4)};
  } else if (msock_ip_range_parse(src, &b->srcs[i][0].range) == MSOCK_OK) {
    r->n_srcs++;
  }
  if (msock_ip_range_parse(dst, &b->dsts[i][0].range) == MSOCK_OK) {
    b->dsts[i][0].port_first = first;
    b->dsts[i][0].port_last = last;
    r->n_dsts++;
  }
  return r;
}

static void add_src(msock_policy_rule *r, const char *src) {
  if (msock_ip_range_parse(src, &r->srcs[r->n_srcs].range) == MSOCK_OK) {
    r->n_srcs++;
  }
}

static void add_proto(msock_policy_rule *r, uint8_t proto) {
  r->protos[r->n_protos++] = proto;
}

static const char *cap_holder; /* text of the one address that holds "cap" */
static bool has_cap(void *ctx, const msock_ip *src, const char *cap) {
  char text[MSOCK_IP_TEXT_MAX];
  return strcmp(cap, ctx) == 0 && cap_holder && strcmp(msock_ip_text(src, text), cap_holder) == 0;
}

static msock_filter *new_filter(void) {
  static testing_rng rng;
  const msock_filter_config config = {.env = testing_env(&rng, 7),
                                      .has_cap = has_cap,
                                      .ctx = (void *)(uintptr_t) "example.com/cap"};
  msock_filter *f = msock_filter_new(&config);
  const msock_prefix own[] = {{ip("100.64.0.1"), 32}, {ip("fd7a::1"), 128}};
  const msock_prefix routes[] = {{ip("10.44.0.0"), 24}};
  ck_assert_ptr_nonnull(f);
  ck_assert_int_eq(msock_filter_set_local(f, own, 2, routes, 1), MSOCK_OK);
  return f;
}

static msock_ip_packet packet(const char *src, const char *dst, uint8_t proto, uint16_t sport,
                              uint16_t dport) {
  return (msock_ip_packet){
      .src = ip(src), .dst = ip(dst), .proto = proto, .src_port = sport, .dst_port = dport};
}

static msock_filter_verdict in(msock_filter *f, const char *src, const char *dst, uint8_t proto,
                               uint16_t dport) {
  msock_ip_packet k = packet(src, dst, proto, 1000, dport);
  k.tcp_flags = proto == MSOCK_PROTO_TCP ? SYN : 0;
  k.icmp_type = proto == MSOCK_PROTO_ICMP ? 8 : proto == MSOCK_PROTO_ICMPV6 ? 128 : 0;
  return msock_filter_in_one(f, &k);
}

static void out(msock_filter *f, const char *src, const char *dst, uint8_t proto, uint16_t sport,
                uint16_t dport) {
  const msock_ip_packet k = packet(src, dst, proto, sport, dport);
  ck_assert_int_eq(msock_filter_out_one(f, &k), MSOCK_FILTER_PASS_OUT);
}

static const char *const empty_policies[] = {"never set", "null", "no rules"};
/* closes: CTRL-61 */
START_TEST(without_rules_all_inbound_is_dropped_and_replies_pass) {
  msock_filter *f = new_filter();
  const msock_policy none = {0};
  if (_i > 0) {
    ck_assert_msg(msock_filter_set_policy(f, _i == 1 ? NULL : &none) == MSOCK_OK, "%s",
                  empty_policies[_i]);
  }
  ck_assert_int_eq(in(f, "100.64.0.2", "100.64.0.1", MSOCK_PROTO_TCP, 22),
                   MSOCK_FILTER_DROP_NO_RULE);
  ck_assert_int_eq(in(f, "100.64.0.2", "100.64.0.1", MSOCK_PROTO_UDP, 53),
                   MSOCK_FILTER_DROP_NO_RULE);
  ck_assert_int_eq(in(f, "100.64.0.2", "100.64.0.1", MSOCK_PROTO_ICMP, 0),
                   MSOCK_FILTER_DROP_NO_RULE);
  ck_assert_int_eq(in(f, "fd7a::2", "fd7a::1", MSOCK_PROTO_ICMPV6, 0), MSOCK_FILTER_DROP_NO_RULE);
  ck_assert_int_eq(in(f, "100.64.0.2", "100.64.0.1", 47, 0), MSOCK_FILTER_DROP_NO_RULE);

  msock_ip_packet k = packet("100.64.0.2", "100.64.0.1", MSOCK_PROTO_TCP, 22, 40000);
  k.tcp_flags = SYN | ACK;
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_PASS_TCP);
  k.tcp_flags = MSOCK_TCP_RST;
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_PASS_TCP);
  out(f, "100.64.0.1", "100.64.0.2", MSOCK_PROTO_UDP, 5000, 53);
  k = packet("100.64.0.2", "100.64.0.1", MSOCK_PROTO_UDP, 53, 5000);
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_PASS_FLOW);
  k.src_port = 54;
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_DROP_NO_RULE);
  k = packet("100.64.0.2", "100.64.0.1", MSOCK_PROTO_ICMP, 0, 0); /* type 0: echo reply */
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_PASS_ICMP);
  msock_filter_free(f);
}
END_TEST

START_TEST(a_reply_must_match_the_whole_flow) {
  msock_filter *f = new_filter();
  out(f, "100.64.0.1", "100.64.0.2", MSOCK_PROTO_UDP, 5000, 53);
  msock_ip_packet k = packet("100.64.0.2", "100.64.0.1", MSOCK_PROTO_SCTP, 53, 5000);
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_DROP_NO_RULE);
  k = packet("100.64.0.3", "100.64.0.1", MSOCK_PROTO_UDP, 53, 5000);
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_DROP_NO_RULE);
  k = packet("100.64.0.2", "100.64.0.1", MSOCK_PROTO_UDP, 53, 5001);
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_DROP_NO_RULE);
  k = packet("100.64.0.2", "10.44.0.1", MSOCK_PROTO_UDP, 53, 5000);
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_DROP_NO_RULE);
  out(f, "fd7a::1", "fd7a::2", MSOCK_PROTO_SCTP, 1, 2);
  k = packet("fd7a::2", "fd7a::1", MSOCK_PROTO_SCTP, 2, 1);
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_PASS_FLOW);
  msock_filter_free(f);
}
END_TEST

/* closes: CTRL-62 */
START_TEST(sources_are_ranges_prefixes_any_and_capabilities) {
  static const struct {
    const char *src, *from;
    bool want;
  } cases[] = {
      {"100.64.0.5-100.64.0.9", "100.64.0.4", false},
      {"100.64.0.5-100.64.0.9", "100.64.0.5", true},
      {"100.64.0.5-100.64.0.9", "100.64.0.9", true},
      {"100.64.0.5-100.64.0.9", "100.64.0.10", false},
      {"100.64.4.0/22", "100.64.3.255", false},
      {"100.64.4.0/22", "100.64.4.0", true},
      {"100.64.4.0/22", "100.64.7.255", true},
      {"100.64.4.0/22", "100.64.8.0", false},
      {"0.0.0.0/0", "255.255.255.254", true},
      {"*", "1.2.3.4", true},
      {"100.64.0.7", "100.64.0.7", true},
      {"100.64.0.7", "100.64.0.8", false},
      {"cap:example.com/cap", "100.64.0.66", true},
      {"cap:example.com/cap", "100.64.0.67", false},
      {"cap:example.com/other", "100.64.0.66", false},
  };
  cap_holder = "100.64.0.66";
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    msock_filter *f = new_filter();
    builder b = {0};
    add_rule(&b, cases[i].src, "*", 0, 65535);
    ck_assert_int_eq(msock_filter_set_policy(f, &b.policy), MSOCK_OK);
    const bool got = msock_filter_passes((uint8_t)in(f, cases[i].from, "100.64.0.1", 6, 22));
    ck_assert_msg(got == cases[i].want, "%s from %s", cases[i].src, cases[i].from);
    msock_filter_free(f);
  }
}
END_TEST

/* closes: CTRL-62 */
START_TEST(a_bad_entry_does_not_void_its_neighbours) {
  msock_filter *f = new_filter();
  builder b = {0};
  msock_policy_rule *r = add_rule(&b, "100.64.0.300", "100.64.0.1", 22, 22);
  add_src(r, "100.64.0.9-100.64.0.5");
  add_src(r, "100.64.0.2");
  add_rule(&b, "100.64.0.3", "nonsense", 0, 65535);
  add_rule(&b, "100.64.0.3", "100.64.0.1", 80, 80);
  ck_assert_int_eq(msock_filter_set_policy(f, &b.policy), MSOCK_OK);
  ck_assert_int_eq(in(f, "100.64.0.2", "100.64.0.1", 6, 22), MSOCK_FILTER_PASS_RULE);
  ck_assert_int_eq(in(f, "100.64.0.3", "100.64.0.1", 6, 22), MSOCK_FILTER_DROP_NO_RULE);
  ck_assert_int_eq(in(f, "100.64.0.3", "100.64.0.1", 6, 80), MSOCK_FILTER_PASS_RULE);
  ck_assert_int_eq(in(f, "100.64.0.7", "100.64.0.1", 6, 22), MSOCK_FILTER_DROP_NO_RULE);
  msock_filter_free(f);
}
END_TEST

START_TEST(overlapping_sources_in_any_order_are_one_set) {
  msock_filter *f = new_filter();
  builder b = {0};
  msock_policy_rule *r = add_rule(&b, "100.64.0.100-100.64.0.120", "*", 0, 65535);
  add_src(r, "100.64.0.10-100.64.0.50");
  add_src(r, "100.64.0.20-100.64.0.30");
  add_src(r, "fd7a::10-fd7a::20");
  ck_assert_int_eq(msock_filter_set_policy(f, &b.policy), MSOCK_OK);
  for (unsigned last = 0; last < 256; last++) {
    char src[32];
    snprintf(src, sizeof src, "100.64.0.%u", last);
    const bool want = (last >= 10 && last <= 50) || (last >= 100 && last <= 120);
    ck_assert_msg(msock_filter_passes((uint8_t)in(f, src, "100.64.0.1", 6, 1)) == want, "%s", src);
  }
  ck_assert_int_eq(in(f, "fd7a::f", "fd7a::1", 6, 1), MSOCK_FILTER_DROP_NO_RULE);
  ck_assert_int_eq(in(f, "fd7a::20", "fd7a::1", 6, 1), MSOCK_FILTER_PASS_RULE);
  ck_assert_int_eq(in(f, "fd7a::21", "fd7a::1", 6, 1), MSOCK_FILTER_DROP_NO_RULE);
  msock_filter_free(f);
}
END_TEST

/* closes: CTRL-63 */
START_TEST(protocols_of_a_rule) {
  msock_filter *f = new_filter();
  builder b = {0};
  add_rule(&b, "100.64.0.2", "100.64.0.1", 0, 65535); /* the default protocols */
  add_rule(&b, "100.64.0.2", "fd7a::1", 0, 65535);
  add_proto(add_rule(&b, "100.64.0.3", "100.64.0.1", 0, 65535), 47);
  add_proto(add_rule(&b, "100.64.0.4", "100.64.0.1", 1, 65535), 47);
  add_proto(add_rule(&b, "100.64.0.5", "100.64.0.1", 22, 22), MSOCK_PROTO_UDP);
  add_rule(&b, "100.64.0.6", "100.64.0.1", 0, 65535)->no_proto = true;
  ck_assert_int_eq(msock_filter_set_policy(f, &b.policy), MSOCK_OK);
  static const struct {
    const char *src;
    uint8_t proto;
    msock_filter_verdict want;
  } cases[] = {
      {"100.64.0.2", MSOCK_PROTO_TCP, MSOCK_FILTER_PASS_RULE},
      {"100.64.0.2", MSOCK_PROTO_UDP, MSOCK_FILTER_PASS_RULE},
      {"100.64.0.2", MSOCK_PROTO_ICMP, MSOCK_FILTER_PASS_RULE},
      {"100.64.0.2", MSOCK_PROTO_SCTP, MSOCK_FILTER_DROP_NO_RULE},
      {"100.64.0.2", 47, MSOCK_FILTER_DROP_NO_RULE},
      {"100.64.0.3", 47, MSOCK_FILTER_PASS_RULE},
      {"100.64.0.3", 50, MSOCK_FILTER_DROP_NO_RULE},
      {"100.64.0.3", MSOCK_PROTO_TCP, MSOCK_FILTER_DROP_NO_RULE},
      {"100.64.0.4", 47, MSOCK_FILTER_DROP_NO_RULE}, /* not all ports */
      {"100.64.0.5", MSOCK_PROTO_UDP, MSOCK_FILTER_PASS_RULE},
      {"100.64.0.5", MSOCK_PROTO_TCP, MSOCK_FILTER_DROP_NO_RULE},
      {"100.64.0.5", MSOCK_PROTO_ICMP, MSOCK_FILTER_PASS_RULE}, /* ICMP: addresses only */
      {"100.64.0.6", MSOCK_PROTO_ICMP, MSOCK_FILTER_DROP_NO_RULE},
      {"100.64.0.6", MSOCK_PROTO_TCP, MSOCK_FILTER_DROP_NO_RULE},
      {"100.64.0.9", MSOCK_PROTO_TSMP, MSOCK_FILTER_PASS_TSMP},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    ck_assert_msg(in(f, cases[i].src, "100.64.0.1", cases[i].proto, 22) == cases[i].want,
                  "%s proto %u", cases[i].src, cases[i].proto);
  }
  msock_filter_free(f);
}
END_TEST

START_TEST(ports_are_inclusive) {
  msock_filter *f = new_filter();
  builder b = {0};
  add_rule(&b, "*", "100.64.0.1", 8000, 8100);
  ck_assert_int_eq(msock_filter_set_policy(f, &b.policy), MSOCK_OK);
  static const struct {
    uint16_t port;
    bool want;
  } cases[] = {{7999, false}, {8000, true}, {8100, true}, {8101, false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const uint16_t port = cases[i].port;
    ck_assert_int_eq(msock_filter_passes((uint8_t)in(f, "100.64.0.2", "100.64.0.1", 6, port)),
                     cases[i].want);
    ck_assert_int_eq(msock_filter_passes((uint8_t)in(f, "100.64.0.2", "100.64.0.1", 17, port)),
                     cases[i].want);
  }
  msock_filter_free(f);
}
END_TEST

START_TEST(tests_come_in_the_order_of_the_reference) {
  msock_filter *f = new_filter();
  builder b = {0};
  add_rule(&b, "*", "*", 0, 65535);
  ck_assert_int_eq(msock_filter_set_policy(f, &b.policy), MSOCK_OK);
  static const struct {
    const char *name, *dst;
    uint8_t proto;
    uint16_t fragment_off;
    msock_filter_verdict want;
  } cases[] = {
      {"multicast before fragment", "224.0.0.251", 17, 100, MSOCK_FILTER_DROP_MULTICAST},
      {"multicast 6", "ff02::1", 17, 0, MSOCK_FILTER_DROP_MULTICAST},
      {"broadcast", "255.255.255.255", 17, 0, MSOCK_FILTER_DROP_MULTICAST},
      {"link-local", "169.254.169.254", 6, 0, MSOCK_FILTER_DROP_LINK_LOCAL},
      {"link-local 6", "fe80::1", 6, 0, MSOCK_FILTER_DROP_LINK_LOCAL},
      {"fragment before destination", "8.8.8.8", 6, 10, MSOCK_FILTER_PASS_FRAGMENT},
      {"tiny fragment", "100.64.0.1", 6, 9, MSOCK_FILTER_DROP_FRAGMENT},
      {"not ours", "8.8.8.8", 6, 0, MSOCK_FILTER_DROP_NOT_OURS},
      {"not ours, TSMP", "100.64.0.3", 99, 0, MSOCK_FILTER_DROP_NOT_OURS},
      {"served route", "10.44.0.77", 6, 0, MSOCK_FILTER_PASS_RULE},
      {"past the served route", "10.44.1.0", 6, 0, MSOCK_FILTER_DROP_NOT_OURS},
      {"IPv6", "fd7a::1", 6, 0, MSOCK_FILTER_PASS_RULE},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const bool v6 = strchr(cases[i].dst, ':') != NULL;
    msock_ip_packet k =
        packet(v6 ? "fd7a::2" : "100.64.0.2", cases[i].dst, cases[i].proto, 1000, 2000);
    k.tcp_flags = SYN;
    k.fragment_off = cases[i].fragment_off;
    k.later_fragment = k.fragment_off > 0;
    ck_assert_msg(msock_filter_in_one(f, &k) == cases[i].want, "%s", cases[i].name);
  }
  msock_filter_free(f);
}
END_TEST

START_TEST(icmp_errors_pass_and_requests_need_a_rule) {
  msock_filter *f = new_filter();
  static const uint8_t pass4[] = {0, 3, 11, 12}, pass6[] = {129, 1, 2, 3, 4};
  for (unsigned type = 0; type < 256; type++) {
    msock_ip_packet k = packet("100.64.0.2", "100.64.0.1", MSOCK_PROTO_ICMP, 0, 0);
    k.icmp_type = (uint8_t)type;
    ck_assert_msg((msock_filter_in_one(f, &k) == MSOCK_FILTER_PASS_ICMP) ==
                      (memchr(pass4, (int)type, sizeof pass4) != NULL),
                  "ICMP %u", type);
    k = packet("fd7a::2", "fd7a::1", MSOCK_PROTO_ICMPV6, 0, 0);
    k.icmp_type = (uint8_t)type;
    ck_assert_msg((msock_filter_in_one(f, &k) == MSOCK_FILTER_PASS_ICMP) ==
                      (memchr(pass6, (int)type, sizeof pass6) != NULL),
                  "ICMPv6 %u", type);
  }
  /* ICMP of the other family is just another protocol */
  msock_ip_packet k = packet("fd7a::2", "fd7a::1", MSOCK_PROTO_ICMP, 0, 0);
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_DROP_NO_RULE);
  msock_filter_free(f);
}
END_TEST

START_TEST(shields_up_is_as_if_there_were_no_rules) {
  msock_filter *f = new_filter();
  builder b = {0};
  add_rule(&b, "*", "*", 0, 65535);
  ck_assert_int_eq(msock_filter_set_policy(f, &b.policy), MSOCK_OK);
  ck_assert_int_eq(in(f, "100.64.0.2", "100.64.0.1", 17, 53), MSOCK_FILTER_PASS_RULE);
  out(f, "100.64.0.1", "100.64.0.9", 17, 1, 2);
  msock_filter_set_shields_up(f, true);
  ck_assert_int_eq(in(f, "100.64.0.2", "100.64.0.1", 17, 53), MSOCK_FILTER_DROP_SHIELDS);
  ck_assert_int_eq(in(f, "100.64.0.2", "100.64.0.1", 6, 22), MSOCK_FILTER_DROP_SHIELDS);
  ck_assert_int_eq(in(f, "100.64.0.2", "100.64.0.1", 1, 0), MSOCK_FILTER_DROP_SHIELDS);
  ck_assert_int_eq(in(f, "100.64.0.2", "100.64.0.1", 99, 0), MSOCK_FILTER_PASS_TSMP);
  const msock_ip_packet k = packet("100.64.0.9", "100.64.0.1", 17, 2, 1);
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_PASS_FLOW);
  msock_filter_set_shields_up(f, false);
  ck_assert_int_eq(in(f, "100.64.0.2", "100.64.0.1", 17, 53), MSOCK_FILTER_PASS_RULE);
  msock_filter_free(f);
}
END_TEST

/* A peer's flow that we answer must not turn into a flow of our own: revoking the rule ends it. */
START_TEST(a_policy_change_rechecks_flows_of_peers_and_keeps_ours) {
  msock_filter *f = new_filter();
  builder b = {0};
  add_rule(&b, "100.64.0.2", "100.64.0.1", 0, 65535);
  ck_assert_int_eq(msock_filter_set_policy(f, &b.policy), MSOCK_OK);
  const msock_ip_packet theirs = packet("100.64.0.2", "100.64.0.1", 17, 900, 53);
  const msock_ip_packet ours = packet("100.64.0.2", "100.64.0.1", 17, 53, 901);
  msock_ip_packet tcp = packet("100.64.0.2", "100.64.0.1", 6, 50000, 22);
  tcp.tcp_flags = ACK;
  ck_assert_int_eq(msock_filter_in_one(f, &theirs), MSOCK_FILTER_PASS_RULE);
  out(f, "100.64.0.1", "100.64.0.2", 17, 53, 900);
  out(f, "100.64.0.1", "100.64.0.2", 17, 901, 53);

  builder narrow = {0};
  add_rule(&narrow, "100.64.0.2", "100.64.0.1", 53, 53);
  ck_assert_int_eq(msock_filter_set_policy(f, &narrow.policy), MSOCK_OK);
  ck_assert_int_eq(msock_filter_in_one(f, &theirs), MSOCK_FILTER_PASS_RULE);
  ck_assert_int_eq(msock_filter_set_policy(f, NULL), MSOCK_OK);
  ck_assert_int_eq(msock_filter_in_one(f, &theirs), MSOCK_FILTER_DROP_NO_RULE);
  ck_assert_int_eq(msock_filter_in_one(f, &ours), MSOCK_FILTER_PASS_FLOW);
  ck_assert_int_eq(msock_filter_in_one(f, &tcp), MSOCK_FILTER_PASS_TCP);
  msock_filter_free(f);
}
END_TEST

START_TEST(a_lost_capability_ends_the_flows_it_allowed) {
  msock_filter *f = new_filter();
  builder b = {0};
  add_rule(&b, "cap:example.com/cap", "*", 0, 65535);
  cap_holder = "100.64.0.2";
  ck_assert_int_eq(msock_filter_set_policy(f, &b.policy), MSOCK_OK);
  ck_assert_int_eq(in(f, "100.64.0.2", "100.64.0.1", 17, 53), MSOCK_FILTER_PASS_RULE);
  cap_holder = NULL;
  msock_filter_recheck(f);
  ck_assert_int_eq(in(f, "100.64.0.2", "100.64.0.1", 17, 53), MSOCK_FILTER_DROP_NO_RULE);
  msock_filter_free(f);
}
END_TEST

START_TEST(the_flow_table_forgets_the_least_recently_used) {
  msock_filter *f = new_filter();
  for (unsigned i = 0; i < MSOCK_FILTER_FLOWS_MAX; i++) {
    out(f, "100.64.0.1", "100.64.0.2", 17, (uint16_t)i, 53);
  }
  ck_assert_uint_eq(msock_filter_get_stats(f)->flows_evicted, 0);
  msock_ip_packet k = packet("100.64.0.2", "100.64.0.1", 17, 53, 0);
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_PASS_FLOW); /* flow 0 is fresh again */
  out(f, "100.64.0.1", "100.64.0.2", 17, 60000, 53);
  ck_assert_uint_eq(msock_filter_get_stats(f)->flows_evicted, 1);
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_PASS_FLOW);
  k.dst_port = 1;
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_DROP_NO_RULE);
  k.dst_port = 2;
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_PASS_FLOW);
  k.dst_port = 60000;
  ck_assert_int_eq(msock_filter_in_one(f, &k), MSOCK_FILTER_PASS_FLOW);
  msock_filter_free(f);
}
END_TEST

static bool odd(void *ctx, const msock_flow *flow) {
  (void)ctx;
  return flow->local_port % 2 == 1;
}

/* The table against a plain model under random use. */
START_TEST(flow_table_agrees_with_a_plain_list) {
  enum { CAP = 8, STEPS = 4000 };
  testing_rng rng;
  const msock_env env = testing_env(&rng, (uint64_t)_i);
  msock_flows *t = msock_flows_new(CAP, rng.state);
  uint16_t model[CAP]; /* newest last */
  size_t n = 0;
  for (int step = 0; step < STEPS; step++) {
    const uint16_t port = (uint16_t)msock_env_uniform(&env, 24);
    const msock_flow flow = {ip("10.0.0.1"), ip("10.0.0.2"), 7, port, 17};
    const bool add = msock_env_uniform(&env, 2) == 0;
    size_t at = 0;
    while (at < n && model[at] != port) {
      at++;
    }
    const bool known = at < n;
    if (add) {
      ck_assert_int_eq(msock_flows_add(t, &flow), !known && n == CAP);
    } else {
      ck_assert_int_eq(msock_flows_touch(t, &flow), known);
    }
    if (known || (add && n == CAP)) {
      const size_t gone = known ? at : 0;
      memmove(&model[gone], &model[gone + 1], (n - gone - 1) * sizeof *model);
      n--;
    }
    if (known || add) {
      model[n++] = port;
    }
    if (msock_env_uniform(&env, 100) == 0) {
      size_t kept = 0;
      msock_flows_retain(t, odd, NULL);
      for (size_t i = 0; i < n; i++) {
        if (model[i] % 2 == 1) {
          model[kept++] = model[i];
        }
      }
      n = kept;
    }
    ck_assert_uint_eq(msock_flows_count(t), n);
  }
  msock_flows_free(t);
}
END_TEST

START_TEST(grants_name_capabilities_and_open_no_port) {
  msock_filter *f = new_filter();
  builder b = {0};
  char *caps[] = {(char *)(uintptr_t) "example.com/a", (char *)(uintptr_t) "example.com/b",
                  (char *)(uintptr_t) "example.com/a"};
  msock_prefix to_us[] = {{ip("100.64.0.1"), 32}}, to_other[] = {{ip("100.64.0.2"), 32}};
  msock_policy_grant grants[] = {{to_us, 1, caps, 3}, {to_other, 1, caps, 3}};
  msock_policy_rule *r = add_rule(&b, "100.64.0.5-100.64.0.6", "", 0, 0);
  r->grants = &grants[0];
  r->n_grants = 1;
  r = add_rule(&b, "100.64.0.7", "", 0, 0);
  r->grants = &grants[1];
  r->n_grants = 1;
  ck_assert_int_eq(msock_filter_set_policy(f, &b.policy), MSOCK_OK);

  const char *names[4] = {0};
  msock_ip src = ip("100.64.0.5");
  ck_assert_uint_eq(msock_filter_caps_of(f, &src, names, 4), 2);
  ck_assert_str_eq(names[0], "example.com/a");
  ck_assert_str_eq(names[1], "example.com/b");
  ck_assert_uint_eq(msock_filter_caps_of(f, &src, names, 1), 1);
  src = ip("100.64.0.7"); /* granted towards somebody else */
  ck_assert_uint_eq(msock_filter_caps_of(f, &src, names, 4), 0);
  src = ip("100.64.0.8");
  ck_assert_uint_eq(msock_filter_caps_of(f, &src, names, 4), 0);
  src = ip("fd7a::5");
  ck_assert_uint_eq(msock_filter_caps_of(f, &src, names, 4), 0);
  ck_assert_int_eq(in(f, "100.64.0.5", "100.64.0.1", 6, 22), MSOCK_FILTER_DROP_NO_RULE);
  ck_assert_int_eq(in(f, "100.64.0.5", "100.64.0.1", 1, 0), MSOCK_FILTER_DROP_NO_RULE);
  msock_filter_free(f);
}
END_TEST

START_TEST(batches_give_one_verdict_each_and_are_counted) {
  msock_filter *f = new_filter();
  builder b = {0};
  add_rule(&b, "*", "100.64.0.1", 22, 22);
  ck_assert_int_eq(msock_filter_set_policy(f, &b.policy), MSOCK_OK);
  uint8_t bufs[3][60] = {{0}};
  msock_packet pkts[3];
  for (int i = 0; i < 3; i++) {
    static const uint8_t head[] = {0x45, 0,  0, 40, 0,   0,  0, 0, 64, 6, 0, 0,
                                   100,  64, 0, 2,  100, 64, 0, 1, 0,  9, 0, 22};
    memcpy(bufs[i] + 10, head, sizeof head);
    bufs[i][10 + 33] = SYN;
    pkts[i] = (msock_packet){bufs[i], sizeof bufs[i], 10, 40};
  }
  bufs[1][10 + 23] = 23;
  pkts[2].len = 39; /* shorter than the header says */
  uint8_t verdicts[3];
  msock_filter_in(f, pkts, 3, verdicts);
  ck_assert_uint_eq(verdicts[0], MSOCK_FILTER_PASS_RULE);
  ck_assert_uint_eq(verdicts[1], MSOCK_FILTER_DROP_NO_RULE);
  ck_assert_uint_eq(verdicts[2], MSOCK_FILTER_DROP_MALFORMED);
  bufs[1][10 + 16] = 224;
  msock_filter_out(f, pkts, 3, verdicts);
  ck_assert_uint_eq(verdicts[0], MSOCK_FILTER_PASS_OUT);
  ck_assert_uint_eq(verdicts[1], MSOCK_FILTER_DROP_MULTICAST);
  ck_assert_uint_eq(verdicts[2], MSOCK_FILTER_DROP_MALFORMED);
  const msock_filter_stats *s = msock_filter_get_stats(f);
  ck_assert_uint_eq(s->in[MSOCK_FILTER_PASS_RULE], 1);
  ck_assert_uint_eq(s->in[MSOCK_FILTER_DROP_NO_RULE], 1);
  ck_assert_uint_eq(s->in[MSOCK_FILTER_DROP_MALFORMED], 1);
  ck_assert_uint_eq(s->out[MSOCK_FILTER_PASS_OUT], 1);
  ck_assert_uint_eq(s->out[MSOCK_FILTER_DROP_MULTICAST], 1);
  for (unsigned v = 0; v < MSOCK_FILTER_VERDICTS; v++) {
    const char *name = msock_filter_verdict_name((uint8_t)v);
    ck_assert_int_eq(strncmp(name, "pass-", 5) == 0, msock_filter_passes((uint8_t)v));
  }
  ck_assert_str_eq(msock_filter_verdict_name(MSOCK_FILTER_VERDICTS), "?");
  msock_filter_free(f);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, without_rules_all_inbound_is_dropped_and_replies_pass, 0, 3);
  tcase_add_test(tc, a_reply_must_match_the_whole_flow);
  tcase_add_test(tc, sources_are_ranges_prefixes_any_and_capabilities);
  tcase_add_test(tc, a_bad_entry_does_not_void_its_neighbours);
  tcase_add_test(tc, overlapping_sources_in_any_order_are_one_set);
  tcase_add_test(tc, protocols_of_a_rule);
  tcase_add_test(tc, ports_are_inclusive);
  tcase_add_test(tc, tests_come_in_the_order_of_the_reference);
  tcase_add_test(tc, icmp_errors_pass_and_requests_need_a_rule);
  tcase_add_test(tc, shields_up_is_as_if_there_were_no_rules);
  tcase_add_test(tc, a_policy_change_rechecks_flows_of_peers_and_keeps_ours);
  tcase_add_test(tc, a_lost_capability_ends_the_flows_it_allowed);
  tcase_add_test(tc, the_flow_table_forgets_the_least_recently_used);
  tcase_add_loop_test(tc, flow_table_agrees_with_a_plain_list, 0, 4);
  tcase_add_test(tc, grants_name_capabilities_and_open_no_port);
  tcase_add_test(tc, batches_give_one_verdict_each_and_are_counted);
  return testing_main("filter", tc);
}
