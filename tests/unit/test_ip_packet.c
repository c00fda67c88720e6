/* The one parser of inner IP packets: lengths, fragments, extension headers, checksums. */
#include <stdlib.h>
#include <string.h>

#include "base/ip_packet.h"
#include "tests/unit/testing.h"

#define V4_LEN 20u
#define V6_LEN 40u

/* Parses from a heap block of exactly len bytes, so that a read past the end is seen. */
static msock_err parse(const uint8_t *p, size_t len, msock_ip_packet *out) {
  uint8_t *copy = malloc(len ? len : 1);
  ck_assert_ptr_nonnull(copy);
  memcpy(copy, p, len);
  const msock_err e = msock_ip_packet_parse(copy, len, out);
  free(copy);
  return e;
}

static void v4(uint8_t pkt[static 128], uint8_t proto, uint16_t total) {
  static const uint8_t addresses[] = {100, 64, 0, 2, 100, 64, 0, 1};
  memset(pkt, 0, 128);
  pkt[0] = 0x45;
  pkt[2] = (uint8_t)(total >> 8);
  pkt[3] = (uint8_t)total;
  pkt[9] = proto;
  memcpy(pkt + 12, addresses, sizeof addresses);
}

static void v6(uint8_t pkt[static 128], uint8_t next, uint16_t payload) {
  memset(pkt, 0, 128);
  pkt[0] = 0x60;
  pkt[4] = (uint8_t)(payload >> 8);
  pkt[5] = (uint8_t)payload;
  pkt[6] = next;
  pkt[8] = pkt[24] = 0xfd;
  pkt[23] = 2;
  pkt[39] = 1;
}

static const struct {
  uint8_t proto;
  uint16_t needed; /* bytes of upper header */
} uppers[] = {{MSOCK_PROTO_TCP, 20},
              {MSOCK_PROTO_UDP, 8},
              {MSOCK_PROTO_SCTP, 12},
              {MSOCK_PROTO_ICMP, 4},
              {MSOCK_PROTO_ICMPV6, 4},
              {MSOCK_PROTO_TSMP, 0},
              {47, 0}};

START_TEST(upper_headers_must_be_whole) {
  for (size_t i = 0; i < sizeof uppers / sizeof *uppers; i++) {
    uint8_t pkt[128];
    msock_ip_packet k;
    const uint16_t needed = uppers[i].needed;
    v4(pkt, uppers[i].proto, (uint16_t)(V4_LEN + needed));
    ck_assert_int_eq(parse(pkt, V4_LEN + needed, &k), MSOCK_OK);
    ck_assert_uint_eq(k.proto, uppers[i].proto);
    ck_assert_uint_eq(k.upper_off, V4_LEN);
    v6(pkt, uppers[i].proto, needed);
    ck_assert_int_eq(parse(pkt, V6_LEN + needed, &k), MSOCK_OK);
    ck_assert_uint_eq(k.upper_off, V6_LEN);
    if (needed > 0) {
      k.total_len = 77;
      v4(pkt, uppers[i].proto, (uint16_t)(V4_LEN + needed - 1));
      ck_assert_int_eq(parse(pkt, V4_LEN + needed - 1u, &k), MSOCK_ERR_SHORT);
      v6(pkt, uppers[i].proto, (uint16_t)(needed - 1));
      ck_assert_int_eq(parse(pkt, V6_LEN + needed - 1u, &k), MSOCK_ERR_SHORT);
      ck_assert_uint_eq(k.total_len, 77); /* untouched */
    }
  }
}
END_TEST

START_TEST(lengths_of_the_ip_header) {
  uint8_t pkt[128];
  msock_ip_packet k;
  v4(pkt, 47, 20);
  ck_assert_int_eq(parse(pkt, 0, &k), MSOCK_ERR_SHORT);
  ck_assert_int_eq(parse(pkt, 19, &k), MSOCK_ERR_SHORT);
  ck_assert_int_eq(parse(pkt, 20, &k), MSOCK_OK);
  ck_assert_int_eq(parse(pkt, 30, &k), MSOCK_OK); /* padding behind the packet */
  ck_assert_uint_eq(k.total_len, 20);
  v4(pkt, 47, 21);
  ck_assert_int_eq(parse(pkt, 20, &k), MSOCK_ERR_SHORT);
  v4(pkt, 47, 19);
  ck_assert_int_eq(parse(pkt, 20, &k), MSOCK_ERR_INVALID);
  v4(pkt, 47, 60);
  pkt[0] = 0x44; /* header of 16 bytes */
  ck_assert_int_eq(parse(pkt, 60, &k), MSOCK_ERR_INVALID);
  pkt[0] = 0x4f; /* of 60 */
  ck_assert_int_eq(parse(pkt, 60, &k), MSOCK_OK);
  ck_assert_uint_eq(k.upper_off, 60);
  pkt[3] = 59; /* options past the end */
  ck_assert_int_eq(parse(pkt, 60, &k), MSOCK_ERR_INVALID);
  v6(pkt, MSOCK_PROTO_NONE, 0);
  ck_assert_int_eq(parse(pkt, 39, &k), MSOCK_ERR_SHORT);
  ck_assert_int_eq(parse(pkt, 40, &k), MSOCK_OK);
  ck_assert_uint_eq(k.proto, MSOCK_PROTO_NONE);
  pkt[5] = 1;
  ck_assert_int_eq(parse(pkt, 40, &k), MSOCK_ERR_SHORT);
  for (unsigned version = 0; version < 16; version++) {
    v4(pkt, 47, 60);
    pkt[0] = (uint8_t)(version << 4 | 5);
    ck_assert_int_eq(parse(pkt, 100, &k) == MSOCK_ERR_INVALID, version != 4 && version != 6);
  }
}
END_TEST

START_TEST(fields_of_the_upper_header) {
  uint8_t pkt[128];
  msock_ip_packet k;
  static const uint8_t upper[] = {0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0, 0, 0, 0, 0, 0, 0, 0x12};
  v4(pkt, MSOCK_PROTO_TCP, 40);
  memcpy(pkt + 20, upper, sizeof upper);
  ck_assert_int_eq(parse(pkt, 40, &k), MSOCK_OK);
  ck_assert_uint_eq(k.src_port, 0x1234);
  ck_assert_uint_eq(k.dst_port, 0x5678);
  ck_assert_uint_eq(k.tcp_flags, MSOCK_TCP_SYN | MSOCK_TCP_ACK);
  const msock_ip src = msock_ip_v4(100, 64, 0, 2), dst = msock_ip_v4(100, 64, 0, 1);
  ck_assert(msock_ip_equal(&k.src, &src) && msock_ip_equal(&k.dst, &dst));
  pkt[9] = MSOCK_PROTO_UDP;
  ck_assert_int_eq(parse(pkt, 40, &k), MSOCK_OK);
  ck_assert_uint_eq(k.dst_port, 0x5678);
  ck_assert_uint_eq(k.tcp_flags, 0);
  pkt[9] = MSOCK_PROTO_ICMP;
  ck_assert_int_eq(parse(pkt, 40, &k), MSOCK_OK);
  ck_assert_uint_eq(k.icmp_type, 0x12);
  ck_assert_uint_eq(k.icmp_code, 0x34);
  ck_assert_uint_eq(k.icmp_id, 0x9abc);
  ck_assert_uint_eq(k.src_port, 0);
}
END_TEST

START_TEST(fragments) {
  uint8_t pkt[128];
  msock_ip_packet k;
  v4(pkt, MSOCK_PROTO_TCP, 40);
  pkt[6] = 0x20;
  ck_assert_int_eq(parse(pkt, 40, &k), MSOCK_OK);
  ck_assert(k.more_fragments && !k.later_fragment);
  pkt[6] = 0x40; /* do not fragment */
  ck_assert_int_eq(parse(pkt, 40, &k), MSOCK_OK);
  ck_assert(!k.more_fragments && !k.later_fragment);
  v4(pkt, MSOCK_PROTO_TCP, 21); /* a later fragment needs no TCP header */
  pkt[6] = 0x1f;
  pkt[7] = 0xff;
  ck_assert_int_eq(parse(pkt, 21, &k), MSOCK_OK);
  ck_assert(k.later_fragment && !k.more_fragments);
  ck_assert_uint_eq(k.fragment_off, 0x1fff);
  ck_assert_uint_eq(k.dst_port, 0);

  v6(pkt, MSOCK_PROTO_FRAGMENT, 8 + 8);
  pkt[40] = MSOCK_PROTO_UDP;
  pkt[43] = 1; /* offset 0, more */
  ck_assert_int_eq(parse(pkt, 56, &k), MSOCK_OK);
  ck_assert(k.more_fragments && !k.later_fragment);
  ck_assert_uint_eq(k.proto, MSOCK_PROTO_UDP);
  ck_assert_uint_eq(k.upper_off, 48);
  pkt[43] = 8; /* offset 1 */
  pkt[5] = 8;
  ck_assert_int_eq(parse(pkt, 48, &k), MSOCK_OK);
  ck_assert(k.later_fragment && !k.more_fragments);
  ck_assert_uint_eq(k.fragment_off, 1);
  pkt[5] = 7; /* half a fragment header */
  ck_assert_int_eq(parse(pkt, 47, &k), MSOCK_ERR_SHORT);
}
END_TEST

START_TEST(extension_headers_are_walked_up_to_a_limit) {
  static const uint8_t kinds[] = {0, 43, 60};
  for (size_t n = 0; n <= 9; n++) {
    uint8_t pkt[128];
    msock_ip_packet k;
    v6(pkt, n ? kinds[0] : MSOCK_PROTO_UDP, (uint16_t)(n * 8 + 8));
    for (size_t i = 0; i < n; i++) {
      pkt[V6_LEN + i * 8] = i + 1 < n ? kinds[i % 3] : MSOCK_PROTO_UDP;
    }
    pkt[V6_LEN + n * 8 + 3] = 53;
    const msock_err e = parse(pkt, V6_LEN + n * 8 + 8, &k);
    if (n > 8) {
      ck_assert_int_eq(e, MSOCK_ERR_INVALID);
      continue;
    }
    ck_assert_int_eq(e, MSOCK_OK);
    ck_assert_uint_eq(k.proto, MSOCK_PROTO_UDP);
    ck_assert_uint_eq(k.dst_port, 53);
    ck_assert_uint_eq(k.upper_off, V6_LEN + n * 8);
  }
  uint8_t pkt[128];
  msock_ip_packet k;
  v6(pkt, 0, 24); /* one option header of 16 bytes, then UDP */
  pkt[40] = MSOCK_PROTO_UDP;
  pkt[41] = 1;
  ck_assert_int_eq(parse(pkt, 64, &k), MSOCK_OK);
  ck_assert_uint_eq(k.upper_off, 56);
  pkt[41] = 3; /* says more than there is */
  ck_assert_int_eq(parse(pkt, 64, &k), MSOCK_ERR_SHORT);
}
END_TEST

START_TEST(checksums_of_rfc_1071) {
  static const uint8_t example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  ck_assert_uint_eq(msock_ip_sum_fold(msock_ip_sum(0, example, sizeof example)),
                    (uint16_t)~0xddf2u);
  const uint32_t split = msock_ip_sum(msock_ip_sum(0, example, 4), example + 4, 4);
  ck_assert_uint_eq(msock_ip_sum_fold(split), (uint16_t)~0xddf2u);
  static const uint8_t odd[] = {0x12, 0x34, 0x56};
  ck_assert_uint_eq(msock_ip_sum_fold(msock_ip_sum(0, odd, 3)), (uint16_t) ~(0x1234u + 0x5600u));
  uint8_t ones[4096];
  memset(ones, 0xff, sizeof ones);
  ck_assert_uint_eq(msock_ip_sum_fold(msock_ip_sum(UINT32_MAX, ones, sizeof ones)), 0);

  const msock_ip a = msock_ip_v4(1, 2, 3, 4), b = msock_ip_v4(5, 6, 7, 8);
  ck_assert_uint_eq(msock_ip_pseudo_sum(&a, &b, 17, 9),
                    0x0102u + 0x0304 + 0x0506 + 0x0708 + 17 + 9);
  const msock_ip a6 = {6, {[15] = 1}}, b6 = {6, {[15] = 2}};
  ck_assert_uint_eq(msock_ip_pseudo_sum(&a6, &b6, 58, 0x10001), 1u + 2 + 58 + 1 + 1);
}
END_TEST

START_TEST(routing_needs_only_addresses) {
  uint8_t pkt[128];
  msock_ip src = {0}, dst = {0};
  uint32_t total = 0;
  v6(pkt, 0, 4); /* an extension header that is cut off is not looked at */
  ck_assert_int_eq(msock_ip_packet_route(pkt, 44, &src, &dst, &total), MSOCK_OK);
  ck_assert_uint_eq(total, 44);
  ck_assert_uint_eq(src.b[15], 2);
  ck_assert_uint_eq(dst.b[15], 1);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, upper_headers_must_be_whole);
  tcase_add_test(tc, lengths_of_the_ip_header);
  tcase_add_test(tc, fields_of_the_upper_header);
  tcase_add_test(tc, fragments);
  tcase_add_test(tc, extension_headers_are_walked_up_to_a_limit);
  tcase_add_test(tc, checksums_of_rfc_1071);
  tcase_add_test(tc, routing_needs_only_addresses);
  return testing_main("ip_packet", tc);
}
