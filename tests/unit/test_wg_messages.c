/* The codec at its boundaries; bytes of real peers are in vectors_wireguard.c. */
#include <string.h>

#include "crypto/blake2s.h"
#include "tests/unit/testing.h"
#include "wg/cookie.h"
#include "wg/messages.h"

static const struct {
  const char *name;
  uint8_t head[4];
  size_t len;
  uint8_t want;
} cases[] = {
    {"nothing", {0, 0, 0, 0}, 0, 0},
    {"only a type", {4, 0, 0, 0}, 4, 0},
    {"initiation, one short", {1, 0, 0, 0}, 147, 0},
    {"initiation", {1, 0, 0, 0}, 148, 1},
    {"initiation, one long", {1, 0, 0, 0}, 149, 0},
    {"response, one short", {2, 0, 0, 0}, 91, 0},
    {"response", {2, 0, 0, 0}, 92, 2},
    {"response, one long", {2, 0, 0, 0}, 93, 0},
    {"cookie reply, one short", {3, 0, 0, 0}, 63, 0},
    {"cookie reply", {3, 0, 0, 0}, 64, 3},
    {"cookie reply, one long", {3, 0, 0, 0}, 65, 0},
    {"transport, one short", {4, 0, 0, 0}, 31, 0},
    {"keepalive", {4, 0, 0, 0}, 32, 4},
    {"transport, any length above", {4, 0, 0, 0}, 33, 4},
    {"type 0", {0, 0, 0, 0}, 148, 0},
    {"type 5", {5, 0, 0, 0}, 148, 0},
    {"first reserved byte", {1, 1, 0, 0}, 148, 0},
    {"second reserved byte", {2, 0, 1, 0}, 92, 0},
    {"third reserved byte", {4, 0, 0, 1}, 32, 0},
};

/* closes: WG-04 */
START_TEST(type_needs_its_exact_length) {
  uint8_t b[160] = {0};
  memcpy(b, cases[_i].head, 4);
  ck_assert_msg(msock_wg_message_type(b, cases[_i].len) == cases[_i].want, "%s", cases[_i].name);
}
END_TEST

START_TEST(decoders_want_their_own_type) {
  msock_wg_initiation i = {.sender = 7};
  msock_wg_response r = {.sender = 7};
  msock_wg_cookie_reply c = {.receiver = 7};
  msock_wg_transport t = {.receiver = 7};
  uint8_t b[160] = {9};
  ck_assert_int_eq(msock_wg_initiation_decode(b, 148, &i), MSOCK_ERR_INVALID);
  ck_assert_int_eq(msock_wg_response_decode(b, 92, &r), MSOCK_ERR_INVALID);
  ck_assert_int_eq(msock_wg_cookie_reply_decode(b, 64, &c), MSOCK_ERR_INVALID);
  ck_assert_int_eq(msock_wg_transport_decode(b, 32, &t), MSOCK_ERR_INVALID);
  ck_assert_uint_eq(i.sender + r.sender + c.receiver + t.receiver, 28); /* untouched */
}
END_TEST

START_TEST(transport_header_is_little_endian) {
  const msock_wg_transport m = {.receiver = 0x0a0b0c0d, .counter = UINT64_C(0x0102030405060708)};
  static const uint8_t want[16] = {4, 0, 0, 0, 0x0d, 0x0c, 0x0b, 0x0a, 8, 7, 6, 5, 4, 3, 2, 1};
  uint8_t b[32] = {0};
  msock_wg_transport back;
  msock_wg_transport_encode(&m, b);
  ck_assert_mem_eq(b, want, 16);
  ck_assert_int_eq(msock_wg_transport_decode(b, sizeof b, &back), MSOCK_OK);
  ck_assert_uint_eq(back.receiver, m.receiver);
  ck_assert_uint_eq(back.counter, m.counter);
}
END_TEST

/* Computed by another implementation (Python's hashlib): keyed, 16 bytes; and what must not come
 * out, keyed with 32 bytes and cut. closes: WG-03 */
START_TEST(mac1_is_neither_hmac_nor_a_cut_digest) {
  static const uint8_t want[16] = {0x27, 0x63, 0xf5, 0xd5, 0xb1, 0x7e, 0xac, 0x8b,
                                   0x9c, 0x2a, 0xb8, 0xa8, 0x7b, 0x3f, 0xcd, 0xb0};
  static const uint8_t cut[16] = {0x70, 0x21, 0x25, 0xbf, 0xb5, 0xa4, 0xb6, 0x48,
                                  0xf1, 0x7c, 0xe3, 0x36, 0x0b, 0x14, 0x48, 0x6f};
  uint8_t key[32], msg[148], mac[16], hmac[32];
  memset(key, 3, sizeof key);
  memset(msg, 4, sizeof msg);
  msock_wg_mac1(key, msg, sizeof msg, mac);
  ck_assert_mem_eq(mac, want, 16);
  ck_assert_mem_ne(mac, cut, 16);
  const msock_bytes part = {msg, 116};
  msock_blake2s_hmac(hmac, key, sizeof key, &part, 1);
  ck_assert_mem_ne(mac, hmac, 16);
}
END_TEST

START_TEST(limits_are_the_published_ones) {
  ck_assert_uint_eq(MSOCK_WG_REJECT_AFTER_MESSAGES, UINT64_C(18446744073709543423));
  ck_assert_uint_eq(MSOCK_WG_LAST_MINUTE_REKEY_US, 165 * MSOCK_SEC);
  ck_assert_uint_eq(MSOCK_WG_STOP_HEARING_US, 15 * MSOCK_SEC);
  ck_assert_uint_eq(MSOCK_WG_ERASE_AFTER_US, 540 * MSOCK_SEC);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, type_needs_its_exact_length, 0, (int)(sizeof cases / sizeof *cases));
  tcase_add_test(tc, decoders_want_their_own_type);
  tcase_add_test(tc, transport_header_is_little_endian);
  tcase_add_test(tc, mac1_is_neither_hmac_nor_a_cut_digest);
  tcase_add_test(tc, limits_are_the_published_ones);
  return testing_main("wg_messages", tc);
}
