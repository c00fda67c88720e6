/* The classes of datagrams at their boundaries, and that classes never overlap. */
#include <stdlib.h>
#include <string.h>

#include "disco/datagram.h"
#include "tests/unit/testing.h"

static const uint8_t magic[6] = {0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac};

/* A copy of exactly that size, so that a read past the end is seen. */
static msock_datagram_kind kind_of(const uint8_t *p, size_t len) {
  uint8_t *copy = malloc(len ? len : 1);
  memcpy(copy, p, len);
  const msock_datagram d = msock_disco_classify(copy, len);
  const bool geneve =
      d.kind == MSOCK_DATAGRAM_GENEVE_DISCO || d.kind == MSOCK_DATAGRAM_GENEVE_WIREGUARD;
  ck_assert_ptr_eq(d.payload, copy + (geneve ? MSOCK_GENEVE_LEN : 0));
  ck_assert_uint_eq(d.len, len - (geneve ? MSOCK_GENEVE_LEN : 0));
  free(copy);
  return d.kind;
}

START_TEST(disco_begins_at_38_bytes) {
  uint8_t p[8 + 80] = {0, 0, 0x7a, 0x11, 0, 0, 1, 0};
  memcpy(p + 8, magic, sizeof magic);
  for (size_t len = 0; len <= 80; len++) {
    ck_assert_int_eq(kind_of(p + 8, len), len >= 38 ? MSOCK_DATAGRAM_DISCO : MSOCK_DATAGRAM_JUNK);
    ck_assert_int_eq(kind_of(p, 8 + len),
                     len >= 38 ? MSOCK_DATAGRAM_GENEVE_DISCO : MSOCK_DATAGRAM_JUNK);
  }
}
END_TEST

START_TEST(stun_is_binding_with_cookie_and_20_bytes) {
  uint8_t p[40] = {0x01, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42};
  for (size_t len = 0; len <= sizeof p; len++) {
    ck_assert_int_eq(kind_of(p, len), len >= 20 ? MSOCK_DATAGRAM_STUN : MSOCK_DATAGRAM_JUNK);
  }
  p[1] = 0x03; /* another method */
  ck_assert_int_eq(kind_of(p, sizeof p), MSOCK_DATAGRAM_JUNK);
  p[1] = 0x01;
  for (size_t i = 4; i < 8; i++) {
    p[i] ^= 1;
    ck_assert_int_eq(kind_of(p, sizeof p), MSOCK_DATAGRAM_JUNK);
    p[i] ^= 1;
  }
  p[0] = 0x41;
  ck_assert_int_eq(kind_of(p, sizeof p), MSOCK_DATAGRAM_JUNK);
}
END_TEST

START_TEST(wireguard_is_types_1_to_4_and_three_zero_bytes) {
  uint8_t p[8 + 32] = {0, 0, 0x7a, 0x12, 0, 0, 1, 0};
  for (int type = 0; type < 256; type++) {
    const bool good = type >= 1 && type <= 4;
    p[8] = (uint8_t)type;
    ck_assert_int_eq(kind_of(p + 8, 32), good ? MSOCK_DATAGRAM_WIREGUARD : MSOCK_DATAGRAM_JUNK);
    ck_assert_int_eq(kind_of(p, sizeof p),
                     good ? MSOCK_DATAGRAM_GENEVE_WIREGUARD : MSOCK_DATAGRAM_JUNK);
  }
  p[8] = 4;
  ck_assert_int_eq(kind_of(p + 8, 3), MSOCK_DATAGRAM_JUNK);
  ck_assert_int_eq(kind_of(p + 8, 4), MSOCK_DATAGRAM_WIREGUARD);
  for (size_t i = 9; i < 12; i++) {
    p[i] = 0x10;
    ck_assert_int_eq(kind_of(p + 8, 32), MSOCK_DATAGRAM_JUNK);
    ck_assert_int_eq(kind_of(p, sizeof p), MSOCK_DATAGRAM_JUNK);
    p[i] = 0;
  }
}
END_TEST

/* closes: DISCO-08 (each bit of a Geneve header that must be clear) */
START_TEST(geneve_headers_of_ours_only) {
  uint8_t p[8 + 78] = {0, 0, 0x7a, 0x11, 0xab, 0xcd, 0xef, 0};
  memcpy(p + 8, magic, sizeof magic);
  const msock_datagram d = msock_disco_classify(p, sizeof p);
  ck_assert_int_eq(d.kind, MSOCK_DATAGRAM_GENEVE_DISCO);
  ck_assert_uint_eq(d.geneve.vni, 0xabcdef);
  ck_assert(!d.geneve.control);
  for (size_t bit = 0; bit < 8 * 8; bit++) {
    const size_t at = bit / 8;
    const uint8_t mask = (uint8_t)(1u << bit % 8);
    /* control, critical and VNI may be set */
    const bool free_bit = (at == 1 && (mask & 0xc0)) || (at >= 4 && at <= 6);
    p[at] ^= mask;
    ck_assert_msg((kind_of(p, sizeof p) == MSOCK_DATAGRAM_GENEVE_DISCO) == free_bit, "bit %zu",
                  bit);
    p[at] ^= mask;
  }
  p[1] = 0x80;
  ck_assert(msock_disco_classify(p, sizeof p).geneve.control);
  p[3] = 0x12; /* WireGuard never with the control bit */
  memset(p + 8, 0, sizeof magic);
  p[8] = 4;
  ck_assert_int_eq(kind_of(p, sizeof p), MSOCK_DATAGRAM_JUNK);
  p[1] = 0;
  ck_assert_int_eq(kind_of(p, sizeof p), MSOCK_DATAGRAM_GENEVE_WIREGUARD);
}
END_TEST

/* closes: DISCO-09 (what a header holds comes back) */
START_TEST(geneve_headers_come_back) {
  for (unsigned version = 0; version <= 5; version++) {
    const msock_geneve h = {.version = (uint8_t)version,
                            .control = version % 2 == 0,
                            .protocol = MSOCK_GENEVE_WIREGUARD,
                            .vni = MSOCK_GENEVE_VNI_MAX};
    uint8_t p[MSOCK_GENEVE_LEN] = {0xee};
    msock_geneve got;
    ck_assert_int_eq(msock_disco_geneve_encode(&h, p, sizeof p),
                     version <= 3 ? (ptrdiff_t)sizeof p : MSOCK_ERR_INVALID);
    if (version > 3) {
      ck_assert_uint_eq(p[0], 0xee);
      continue;
    }
    ck_assert_int_eq(msock_disco_geneve_encode(&h, p, sizeof p - 1), MSOCK_ERR_NOBUF);
    ck_assert_int_eq(msock_disco_geneve_decode(p, sizeof p, &got), MSOCK_OK);
    ck_assert_uint_eq(got.version, h.version);
    ck_assert_int_eq(got.control, h.control);
    ck_assert_uint_eq(got.protocol, h.protocol);
    ck_assert_uint_eq(got.vni, h.vni);
    ck_assert_int_eq(msock_disco_geneve_decode(p, sizeof p - 1, &got), MSOCK_ERR_SHORT);
  }
  const msock_geneve unset = {.vni = MSOCK_GENEVE_VNI_UNSET};
  uint8_t p[MSOCK_GENEVE_LEN];
  ck_assert_int_eq(msock_disco_geneve_encode(&unset, p, sizeof p), MSOCK_ERR_INVALID);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, disco_begins_at_38_bytes);
  tcase_add_test(tc, stun_is_binding_with_cookie_and_20_bytes);
  tcase_add_test(tc, wireguard_is_types_1_to_4_and_three_zero_bytes);
  tcase_add_test(tc, geneve_headers_of_ours_only);
  tcase_add_test(tc, geneve_headers_come_back);
  return testing_main("disco_datagram", tc);
}
