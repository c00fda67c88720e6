/* Inner packets: the parser, the filter with rules, flows and shields, and routing by address. */
#include <stdlib.h>
#include <string.h>

#include "base/ip_packet.h"
#include "filter/filter.h"
#include "tests/fuzz/fuzzing.h"

#define PACKETS_MAX 256u

static const uint8_t own6[16] = {0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0, [15] = 1};

static void parse(const uint8_t *p, size_t len) {
  msock_ip src, dst;
  uint32_t total = 0;
  msock_ip_packet k = {0};
  const msock_err route = msock_ip_packet_route(p, len, &src, &dst, &total);
  const msock_err all = msock_ip_packet_parse(p, len, &k);

  FUZZ_CHECK(route != MSOCK_OK || total <= len);
  if (all == MSOCK_OK) {
    FUZZ_CHECK(route == MSOCK_OK && k.total_len == total);
    FUZZ_CHECK(k.upper_off <= k.total_len && k.total_len <= len);
    FUZZ_CHECK(msock_ip_equal(&k.src, &src) && msock_ip_equal(&k.dst, &dst));
    FUZZ_CHECK(k.later_fragment == (k.fragment_off > 0));
    const uint32_t upper = k.total_len - k.upper_off;
    uint32_t sum = msock_ip_pseudo_sum(&k.src, &k.dst, k.proto, upper);
    sum = msock_ip_sum(sum, p + k.upper_off, upper);
    (void)msock_ip_sum_fold(sum);
  }
}

static bool has_cap(void *ctx, const msock_ip *src, const char *cap) {
  (void)ctx;
  return (src->b[3] & 1) != 0 && strcmp(cap, "fuzz") == 0;
}

/* Two rules: an ordinary one and one by capability; which is in force the input says. */
static void set_policy(msock_filter *f, uint8_t which) {
  static uint8_t protos[2] = {MSOCK_PROTO_UDP, MSOCK_PROTO_TCP};
  static char cap[] = "fuzz";
  msock_policy_src net = {
      .range = {.lo = msock_ip_v4(100, 64, 0, 0), .hi = msock_ip_v4(100, 64, 0, 255)}};
  msock_policy_src all = {.range = {.any = true}};
  msock_policy_src holder = {.cap = cap};
  msock_policy_dst some = {.range = {.any = true}, .port_first = 22, .port_last = 443};
  msock_policy_dst any = {.range = {.any = true}, .port_first = 0, .port_last = UINT16_MAX};
  msock_policy_rule rules[2] = {
      {.srcs = (which & 1) ? &all : &net,
       .n_srcs = 1,
       .dsts = &some,
       .n_dsts = 1,
       .protos = protos,
       .n_protos = (which & 2) ? 2 : 0},
      {.srcs = &holder, .n_srcs = 1, .dsts = &any, .n_dsts = 1, .no_proto = (which & 4) != 0}};
  const msock_policy policy = {.rules = rules, .n_rules = which % 3};

  FUZZ_CHECK(msock_filter_set_policy(f, &policy) == MSOCK_OK);
}

static void set_local(msock_filter *f) {
  const msock_prefix own[2] = {{msock_ip_v4(100, 64, 0, 1), 32},
                               {msock_ip_from_bytes16(own6), 128}};
  const msock_prefix routes[1] = {{msock_ip_v4(10, 44, 0, 0), 24}};
  FUZZ_CHECK(msock_filter_set_local(f, own, 2, routes, 1) == MSOCK_OK);
}

static void one(msock_filter *f, uint8_t *p, size_t len, bool outbound) {
  msock_packet pkt = {.buf = p, .cap = (uint32_t)len, .len = (uint32_t)len};
  msock_ip_packet k;
  uint8_t verdict = MSOCK_FILTER_VERDICTS;

  (outbound ? msock_filter_out : msock_filter_in)(f, &pkt, 1, &verdict);
  FUZZ_CHECK(verdict < MSOCK_FILTER_VERDICTS);
  FUZZ_CHECK(msock_filter_verdict_name(verdict)[0] != '?');
  if (msock_ip_packet_parse(p, len, &k) != MSOCK_OK) {
    FUZZ_CHECK(!msock_filter_passes(verdict));
  } else if (!outbound && msock_filter_passes(verdict) && verdict != MSOCK_FILTER_PASS_FRAGMENT) {
    const msock_ip own4 = msock_ip_v4(100, 64, 0, 1), six = msock_ip_from_bytes16(own6);
    const msock_prefix route = {msock_ip_v4(10, 44, 0, 0), 24};
    FUZZ_CHECK(msock_ip_equal(&k.dst, &own4) || msock_ip_equal(&k.dst, &six) ||
               msock_prefix_contains(&route, &k.dst));
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  msock_reader r = msock_reader_init(data, size);
  fuzz_rng rng;
  const msock_filter_config cfg = {.env = fuzz_env(&rng, 1), .has_cap = has_cap};
  msock_filter *f = msock_filter_new(&cfg);
  const char *names[4];

  FUZZ_CHECK(f != NULL);
  set_local(f);
  for (unsigned i = 0; fuzz_more(&r) && i < PACKETS_MAX; i++) {
    const uint8_t op = msock_read_u8(&r);
    size_t len = 0;
    if ((op & 0xf0) == 0xf0) {
      set_policy(f, op & 15);
      continue;
    } else if ((op & 0xf0) == 0xe0) {
      msock_filter_set_shields_up(f, (op & 1) != 0);
      msock_filter_recheck(f);
      continue;
    }
    uint8_t *p = fuzz_take(&r, msock_read_be16(&r), &len);
    parse(p, len);
    one(f, p, len, (op & 1) != 0);
    free(p);
  }
  const msock_ip asker = msock_ip_v4(100, 64, 0, 2);
  FUZZ_CHECK(msock_filter_caps_of(f, &asker, names, 4) <= 4);
  msock_filter_free(f);
  return 0;
}
