/* Echo and TSMP packets: bytes, checksums, what is answered and what is not. */
#include <stdlib.h>
#include <string.h>

#include "base/ip_packet.h"
#include "node/echo.h"
#include "tests/unit/testing.h"

static const msock_ip a4 = {4, {100, 64, 0, 1}}, b4 = {4, {100, 64, 0, 2}};
static const msock_ip a6 = {6, {0xfd, 0x7a, [15] = 1}}, b6 = {6, {0xfd, 0x7a, [15] = 2}};
static const uint8_t payload[] = "abcdefghi"; /* with its NUL: 10 bytes */

/* Both checksums were summed independently of this code: 0x725a and 0x2104. */
START_TEST(request_has_known_bytes) {
  static const uint8_t want[] = {0x45, 0x00, 0x00, 0x20, 0x00, 0x00, 0x40, 0x00, 0x40, 0x01, 0x72,
                                 0x5a, 0x64, 0x40, 0x00, 0x01, 0x64, 0x40, 0x00, 0x02, 0x08, 0x00,
                                 0x21, 0x04, 0x12, 0x34, 0x00, 0x01, 0x61, 0x62, 0x63, 0x64};
  uint8_t p[64];
  memset(p, 0xee, sizeof p);
  ck_assert_int_eq(msock_echo_request(p, 31, &a4, &b4, 0x1234, 1, payload, 4), MSOCK_ERR_NOBUF);
  ck_assert_uint_eq(p[0], 0xee);
  ck_assert_int_eq(msock_echo_request(p, 32, &a4, &b4, 0x1234, 1, payload, 4), 32);
  ck_assert_mem_eq(p, want, sizeof want);
  ck_assert_int_eq(msock_echo_request(p, 64, &a4, &b6, 1, 1, payload, 4), MSOCK_ERR_INVALID);
  ck_assert_int_eq(msock_echo_request(p, 64, &a4, &b4, 1, 1, NULL, 65001), MSOCK_ERR_INVALID);
  ck_assert_int_eq(msock_echo_request(p, 64, &a4, &b4, 1, 1, NULL, 0), 28);
}
END_TEST

static uint16_t sum_of(const uint8_t *p, const msock_ip_packet *k) {
  const size_t len = k->total_len - k->upper_off;
  const uint32_t pseudo =
      k->src.family == 6 ? msock_ip_pseudo_sum(&k->src, &k->dst, MSOCK_PROTO_ICMPV6, (uint32_t)len)
                         : 0;
  return msock_ip_sum_fold(msock_ip_sum(pseudo, p + k->upper_off, len));
}

START_TEST(a_request_becomes_its_reply) {
  for (int v6 = 0; v6 < 2; v6++) {
    const msock_ip *a = v6 ? &a6 : &a4, *b = v6 ? &b6 : &b4;
    for (size_t n = 0; n <= sizeof payload; n++) { /* odd and even lengths */
      uint8_t p[128];
      msock_echo_reply r;
      msock_ip_packet k;
      const ptrdiff_t len = msock_echo_request(p, sizeof p, a, b, 0xfffe, 0x8001, payload, n);
      ck_assert_int_gt(len, 0);
      ck_assert_int_eq(msock_echo_parse_reply(p, (size_t)len, &r), MSOCK_ERR_UNKNOWN);
      p[v6 ? 7 : 8] = 3; /* hops left of the request do not limit the reply */
      p[len] = 0x55;     /* behind the packet */
      const msock_ip own[] = {{4, {10, 0, 0, 1}}, *b};
      ck_assert_uint_eq(msock_echo_answer(p, (size_t)len + 1, own, 2), (size_t)len);
      ck_assert_int_eq(msock_ip_packet_parse(p, (size_t)len, &k), MSOCK_OK);
      ck_assert_uint_eq(sum_of(p, &k), 0);
      if (!v6) {
        ck_assert_uint_eq(msock_ip_sum_fold(msock_ip_sum(0, p, 20)), 0);
      }
      ck_assert_uint_eq(p[v6 ? 7 : 8], 64);
      ck_assert_int_eq(msock_echo_parse_reply(p, (size_t)len, &r), MSOCK_OK);
      ck_assert(msock_ip_equal(&r.from, b) && msock_ip_equal(&r.to, a));
      ck_assert_uint_eq(r.id, 0xfffe);
      ck_assert_uint_eq(r.seq, 0x8001);
      ck_assert_uint_eq(r.payload_len, n);
      ck_assert_mem_eq(r.payload, payload, n);
      p[len - 1] ^= 1;
      ck_assert_int_eq(msock_echo_parse_reply(p, (size_t)len, &r), MSOCK_ERR_INVALID);
      ck_assert_uint_eq(msock_echo_answer(p, (size_t)len, own, 2), 0); /* a reply is no request */
    }
  }
}
END_TEST

static void spoil_destination(uint8_t *p) {
  p[19] = 9;
}
static void spoil_source_own(uint8_t *p) {
  p[15] = 2;
}
static void spoil_source_multicast(uint8_t *p) {
  p[12] = 224;
}
static void spoil_source_loopback(uint8_t *p) {
  p[12] = 127;
}
static void spoil_source_none(uint8_t *p) {
  memset(p + 12, 0, 4);
}
static void spoil_fragment(uint8_t *p) {
  p[6] = 0x20;
}
static void spoil_later(uint8_t *p) {
  p[7] = 20;
}
static void spoil_checksum(uint8_t *p) {
  p[22] ^= 1;
}
static void spoil_code(uint8_t *p) {
  p[21] = 1;
  p[23] = (uint8_t)(p[23] - 1); /* the checksum stays right */
}
static void spoil_proto(uint8_t *p) {
  p[9] = MSOCK_PROTO_ICMPV6;
}
static void spoil_length(uint8_t *p) {
  p[3] = 27;
}
static const struct {
  const char *name;
  void (*spoil)(uint8_t *p);
} spoils[] = {
    {"another destination", spoil_destination},
    {"from ourselves", spoil_source_own},
    {"from multicast", spoil_source_multicast},
    {"from loopback", spoil_source_loopback},
    {"from nobody", spoil_source_none},
    {"first fragment", spoil_fragment},
    {"later fragment", spoil_later},
    {"wrong checksum", spoil_checksum},
    {"a code", spoil_code},
    {"ICMPv6 in IPv4", spoil_proto},
    {"cut echo header", spoil_length},
};

START_TEST(what_is_not_answered_stays_untouched) {
  uint8_t p[64], before[64];
  memset(p, 0, sizeof p);
  const ptrdiff_t len = msock_echo_request(p, sizeof p, &a4, &b4, 7, 1, payload, 4);
  ck_assert_int_gt(len, 0);
  spoils[_i].spoil(p);
  memcpy(before, p, sizeof p);
  ck_assert_msg(msock_echo_answer(p, (size_t)len, &b4, 1) == 0, "%s", spoils[_i].name);
  ck_assert_mem_eq(p, before, sizeof p);
}
END_TEST

START_TEST(packets_with_options_are_not_answered) {
  uint8_t p[64] = {0};
  const ptrdiff_t len = msock_echo_request(p, sizeof p, &a4, &b4, 7, 1, payload, 4);
  ck_assert_int_eq(len, 32);
  memmove(p + 24, p + 20, 12);
  p[0] = 0x46;
  p[3] = 36;
  ck_assert_uint_eq(msock_echo_answer(p, 36, &b4, 1), 0);
}
END_TEST

START_TEST(tsmp_ping_and_pong) {
  static const uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  for (int v6 = 0; v6 < 2; v6++) {
    const msock_ip *a = v6 ? &a6 : &a4, *b = v6 ? &b6 : &b4;
    const size_t header = v6 ? 40 : 20;
    uint8_t p[MSOCK_TSMP_PACKET_MAX + 8];
    msock_tsmp m;
    ck_assert_int_eq(msock_tsmp_request(p, header + 8, a, b, data), MSOCK_ERR_NOBUF);
    ck_assert_int_eq(msock_tsmp_request(p, header + 9, a, b, data), (ptrdiff_t)header + 9);
    ck_assert_uint_eq(p[v6 ? 6 : 9], 99);
    ck_assert_uint_eq(p[header], 'p');
    ck_assert_mem_eq(p + header + 1, data, 8);
    ck_assert_int_eq(msock_tsmp_decode(p, header + 9, &m), MSOCK_OK);
    ck_assert_int_eq(m.kind, MSOCK_TSMP_PING);
    ck_assert(msock_ip_equal(&m.from, a) && msock_ip_equal(&m.to, b));

    ck_assert_uint_eq(msock_tsmp_answer(p, header + 9, header + 9, b, 1, 80), 0); /* no room */
    ck_assert_uint_eq(msock_tsmp_answer(p, header + 9, sizeof p, a, 1, 80), 0);   /* not for us */
    ck_assert_uint_eq(msock_tsmp_answer(p, header + 9, sizeof p, b, 1, 0x1f90), header + 11);
    ck_assert_int_eq(msock_tsmp_decode(p, header + 11, &m), MSOCK_OK);
    ck_assert_int_eq(m.kind, MSOCK_TSMP_PONG);
    ck_assert(msock_ip_equal(&m.from, b) && msock_ip_equal(&m.to, a));
    ck_assert_mem_eq(m.data, data, 8);
    ck_assert_uint_eq(m.peerapi_port, 8080);
    if (!v6) {
      ck_assert_uint_eq(msock_ip_sum_fold(msock_ip_sum(0, p, 20)), 0);
    }
    ck_assert_uint_eq(msock_tsmp_answer(p, header + 11, sizeof p, a, 1, 80), 0); /* a pong */
  }
}
END_TEST

START_TEST(tsmp_lengths) {
  static const struct {
    uint8_t type, len;
    msock_err want;
  } cases[] = {
      {'p', 0, MSOCK_ERR_SHORT}, {'p', 8, MSOCK_ERR_SHORT},   {'p', 9, MSOCK_OK},
      {'o', 8, MSOCK_ERR_SHORT}, {'o', 9, MSOCK_OK},          {'o', 10, MSOCK_OK},
      {'o', 11, MSOCK_OK},       {'!', 6, MSOCK_ERR_SHORT},   {'!', 7, MSOCK_OK},
      {'!', 8, MSOCK_OK},        {'x', 9, MSOCK_ERR_UNKNOWN}, {'a', 32, MSOCK_ERR_SHORT},
      {'a', 33, MSOCK_OK},       {'a', 34, MSOCK_OK},
  };
  static const uint8_t data[8] = {6, 2, 0x12, 0x34, 0x56, 0x78, 9, 8};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint8_t p[64] = {0};
    msock_tsmp m = {.reason = 77};
    ck_assert_int_eq(msock_tsmp_request(p, sizeof p, &a4, &b4, data), 29);
    p[20] = cases[i].type;
    p[29] = 0x1f;
    p[30] = 0x90;
    p[3] = (uint8_t)(20 + cases[i].len);
    ck_assert_msg(msock_tsmp_decode(p, 20u + cases[i].len, &m) == cases[i].want, "%c %u",
                  cases[i].type, cases[i].len);
    if (cases[i].want != MSOCK_OK) {
      ck_assert_uint_eq(m.reason, 77);
    } else if (cases[i].type == 'o') {
      ck_assert_uint_eq(m.peerapi_port, cases[i].len == 11 ? 0x1f90 : 0);
    } else if (cases[i].type == 'a') {
      ck_assert_mem_eq(m.disco.b, p + 21, 32);
    } else if (cases[i].type == '!') {
      ck_assert_uint_eq(m.proto, 6);
      ck_assert_uint_eq(m.reason, 2);
      ck_assert_uint_eq(m.src_port, 0x1234);
      ck_assert_uint_eq(m.dst_port, 0x5678);
      ck_assert_uint_eq(m.flags, cases[i].len == 8 ? 9 : 0);
    }
  }
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, request_has_known_bytes);
  tcase_add_test(tc, a_request_becomes_its_reply);
  tcase_add_loop_test(tc, what_is_not_answered_stays_untouched, 0, sizeof spoils / sizeof *spoils);
  tcase_add_test(tc, packets_with_options_are_not_answered);
  tcase_add_test(tc, tsmp_ping_and_pong);
  tcase_add_test(tc, tsmp_lengths);
  return testing_main("echo", tc);
}
