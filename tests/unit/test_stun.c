/* STUN codec rules and the table of requests in flight (netcheck.md 1). */
#include <stdlib.h>
#include <string.h>

#include "netcheck/stun.h"
#include "netcheck/transactions.h"
#include "tests/unit/testing.h"

static const msock_stun_txid id = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}};

static msock_addr address(const char *text) {
  msock_addr a = {0};
  ck_assert_msg(msock_addr_parse(text, &a) == MSOCK_OK, "%s", text);
  return a;
}

/* ISO 3309, bit by bit: not the code under test. */
static uint32_t crc32_of(const uint8_t *p, size_t len) {
  uint32_t crc = UINT32_MAX;
  for (size_t i = 0; i < len; i++) {
    crc ^= p[i];
    for (int k = 0; k < 8; k++) {
      crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
  }
  return ~crc;
}

/* The 40 bytes to the last one; other ids are in the vectors.
 * closes: STUN-01 T33 */
START_TEST(requests_have_two_forms) {
  uint8_t p[40];
  memset(p, 0xee, sizeof p);
  ck_assert_int_eq(msock_stun_encode_request(&id, true, p, 19), MSOCK_ERR_NOBUF);
  ck_assert_int_eq(msock_stun_encode_request(&id, false, p, 39), MSOCK_ERR_NOBUF);
  ck_assert_uint_eq(p[0], 0xee);
  ck_assert_int_eq(msock_stun_encode_request(&id, true, p, 20), 20);
  static const uint8_t plain[20] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1,  2,
                                    3, 4, 5, 6, 7,    8,    9,    10,   11, 12};
  ck_assert_mem_eq(p, plain, sizeof plain);
  ck_assert_uint_eq(p[20], 0xee);
  ck_assert_int_eq(msock_stun_encode_request(&id, false, p, 40), 40);
  static const uint8_t head[32] = {0, 1, 0,   20,  0x21, 0x12, 0xa4, 0x42, 1,   2,    3,
                                   4, 5, 6,   7,   8,    9,    10,   11,   12,  0x80, 0x22,
                                   0, 8, 't', 'a', 'i',  'l',  'n',  'o',  'd', 'e'};
  ck_assert_mem_eq(p, head, sizeof head);
  static const uint8_t fingerprint[4] = {0x80, 0x28, 0, 4};
  ck_assert_mem_eq(p + 32, fingerprint, sizeof fingerprint);
  const uint32_t crc = (crc32_of(p, 32) ^ 0x5354554eu); /* RFC 8489 14.7 */
  const uint8_t sum[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8),
                          (uint8_t)crc};
  ck_assert_mem_eq(p + 36, sum, sizeof sum);
  ck_assert(msock_stun_fingerprint_ok(p, 40));
  ck_assert(msock_stun_demux(p, 40));
}
END_TEST

/* Builds a response with one XOR-MAPPED-ADDRESS and gives what decode says. */
static msock_err answer(const char *mapped, const char *server, msock_addr *got) {
  uint8_t p[MSOCK_STUN_RESPONSE_MAX];
  const msock_addr m = address(mapped), s = address(server);
  msock_stun_txid txid;
  const ptrdiff_t n = msock_stun_encode_response(&id, &m, false, p, sizeof p);
  ck_assert_int_gt(n, 0);
  return msock_stun_decode_response(p, (size_t)n, &s, &txid, got);
}

START_TEST(addresses_that_cannot_be_ours_are_refused) {
  static const struct {
    const char *mapped, *server;
    msock_err want;
  } cases[] = {
      {"203.0.113.7:41641", "192.0.2.1:3478", MSOCK_OK},
      {"10.0.0.7:41641", "192.0.2.1:3478", MSOCK_OK}, /* carriers do that */
      {"203.0.113.7:0", "192.0.2.1:3478", MSOCK_ERR_INVALID},
      {"0.0.0.0:1", "192.0.2.1:3478", MSOCK_ERR_INVALID},
      {"[::]:1", "[2001:db8::1]:3478", MSOCK_ERR_INVALID},
      {"224.0.0.1:1", "192.0.2.1:3478", MSOCK_ERR_INVALID},
      {"255.255.255.255:1", "192.0.2.1:3478", MSOCK_ERR_INVALID},
      {"[ff02::1]:1", "[2001:db8::1]:3478", MSOCK_ERR_INVALID},
      {"127.0.0.1:1", "192.0.2.1:3478", MSOCK_ERR_INVALID},
      {"127.0.0.1:1", "127.0.0.1:3478", MSOCK_OK},
      {"[::1]:1", "[::1]:3478", MSOCK_OK},
      {"[2001:db8::7]:1", "192.0.2.1:3478", MSOCK_ERR_INVALID}, /* another family */
      {"203.0.113.7:1", "[2001:db8::1]:3478", MSOCK_ERR_INVALID},
      {"203.0.113.7:1", "[::ffff:192.0.2.1]:3478", MSOCK_OK},
      {"[::ffff:203.0.113.7]:1", "192.0.2.1:3478", MSOCK_OK},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    msock_addr got = {.port = 9};
    ck_assert_msg(answer(cases[i].mapped, cases[i].server, &got) == cases[i].want, "%s from %s",
                  cases[i].mapped, cases[i].server);
    if (cases[i].want != MSOCK_OK) {
      ck_assert_uint_eq(got.port, 9);
    } else {
      msock_addr want = address(cases[i].mapped);
      want.ip = msock_ip_unmap(want.ip);
      ck_assert(msock_addr_equal(&got, &want));
    }
  }
}
END_TEST

/* Cut at every length, from a block of exactly that size. */
START_TEST(cut_messages_are_refused) {
  uint8_t p[MSOCK_STUN_RESPONSE_MAX];
  const msock_addr m = address("203.0.113.7:41641"), s = address("192.0.2.1:3478");
  const ptrdiff_t n = msock_stun_encode_response(&id, &m, true, p, sizeof p);
  ck_assert_int_eq(n, 40);
  for (size_t len = 0; len <= (size_t)n; len++) {
    uint8_t *copy = malloc(len ? len : 1);
    msock_stun_txid txid;
    msock_stun_request r;
    msock_addr got;
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, p, len);
    const msock_err e = msock_stun_decode_response(copy, len, &s, &txid, &got);
    ck_assert_int_eq(e, len < 20 ? MSOCK_ERR_UNKNOWN : len < 40 ? MSOCK_ERR_INVALID : MSOCK_OK);
    ck_assert_int_eq(msock_stun_fingerprint_ok(copy, len), len == 40);
    ck_assert_int_ne(msock_stun_check_request(copy, len, true, &r), MSOCK_STUN_ACCEPT);
    free(copy);
  }
  msock_stun_txid txid;
  msock_addr got;
  p[n - 1] ^= 1; /* a FINGERPRINT at the end must be right */
  ck_assert_int_eq(msock_stun_decode_response(p, (size_t)n, &s, &txid, &got), MSOCK_ERR_INVALID);
}
END_TEST

START_TEST(random_bytes_after_the_header_never_read_past_the_end) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, (uint64_t)_i);
  const msock_addr s = address("192.0.2.1:3478");
  for (int round = 0; round < 20000; round++) {
    const size_t len = 20 + (size_t)msock_env_uniform(&env, 60);
    uint8_t *p = malloc(len);
    msock_stun_txid txid;
    msock_stun_request r;
    msock_addr got;
    ck_assert_ptr_nonnull(p);
    env.random(env.ctx, p, len);
    msock_stun_encode_request(&id, true, p, len);
    p[0] = (uint8_t)(round % 2);
    p[3] = (uint8_t)msock_env_uniform(&env, len - 19);
    for (size_t i = 20; i + 4 <= len; i += 4) { /* lengths that are often sound */
      p[i] = (uint8_t)(round % 3 ? 0x80 : 0);
      p[i + 2] = 0;
      p[i + 3] &= 15;
    }
    (void)msock_stun_decode_response(p, len, &s, &txid, &got);
    (void)msock_stun_check_request(p, len, true, &r);
    (void)msock_stun_fingerprint_ok(p, len);
    free(p);
  }
}
END_TEST

/* closes: STUN-12 STUN-13 */
START_TEST(a_server_answers_in_kind) {
  uint8_t req[64], ans[64];
  msock_stun_request r = {0};
  ck_assert_int_eq(msock_stun_encode_request(&id, true, req, sizeof req), 20);
  ck_assert_int_eq(msock_stun_check_request(req, 20, false, &r), MSOCK_STUN_OTHER_SOFTWARE);
  ck_assert_int_eq(msock_stun_check_request(req, 20, true, &r), MSOCK_STUN_ACCEPT);
  ck_assert(!r.fingerprint);
  ck_assert_mem_eq(r.txid.b, id.b, sizeof id.b);
  ck_assert_int_eq(msock_stun_encode_request(&id, false, req, sizeof req), 40);
  ck_assert_int_eq(msock_stun_check_request(req, 40, false, &r), MSOCK_STUN_ACCEPT);
  ck_assert(r.fingerprint);
  req[39] ^= 1; /* present and wrong: nobody gets an answer */
  ck_assert_int_eq(msock_stun_check_request(req, 40, true, &r), MSOCK_STUN_BAD_FINGERPRINT);

  const msock_addr v4 = address("203.0.113.7:1"), v6 = address("[2001:db8::7]:1"), none = {0};
  const msock_addr mapped = address("[::ffff:203.0.113.7]:1");
  memset(ans, 0xee, sizeof ans);
  ck_assert_int_eq(msock_stun_encode_response(&id, &v4, false, ans, 31), MSOCK_ERR_NOBUF);
  ck_assert_int_eq(msock_stun_encode_response(&id, &none, false, ans, 64), MSOCK_ERR_INVALID);
  ck_assert_uint_eq(ans[0], 0xee);
  ck_assert_int_eq(msock_stun_encode_response(&id, &v4, false, ans, 32), 32);
  ck_assert_int_eq(msock_stun_encode_response(&id, &v4, true, ans, 40), 40);
  ck_assert(msock_stun_fingerprint_ok(ans, 40));
  ck_assert_int_eq(msock_stun_encode_response(&id, &v6, false, ans, 44), 44);
  ck_assert_int_eq(msock_stun_encode_response(&id, &v6, true, ans, 52), 52);
  ck_assert_int_eq(msock_stun_encode_response(&id, &mapped, false, ans, 32), 32);
  ck_assert_uint_eq(ans[25], 1); /* family 1 */
}
END_TEST

/* closes: STUN-02 */
START_TEST(a_million_ids_are_all_different) {
  enum { N = 1000000, SLOTS = 1 << 21 };
  testing_rng rng;
  const msock_env env = testing_env(&rng, 3);
  const msock_addr s = address("192.0.2.1:3478");
  msock_stun_table *t = malloc(sizeof *t);
  uint64_t *seen = calloc(SLOTS, sizeof *seen);
  ck_assert(t && seen);
  msock_stun_table_init(t);
  for (uint64_t i = 0; i < N; i++) {
    msock_stun_txid txid;
    uint64_t key = 0;
    ck_assert_int_eq(msock_stun_table_add(t, i, &env, &s, 0, &txid), MSOCK_OK);
    msock_stun_table_close(t, &txid);
    memcpy(&key, txid.b, sizeof key); /* 8 of the 12 bytes differ already */
    size_t at = key % SLOTS;
    while (seen[at] != 0 && seen[at] != key) {
      at = (at + 1) % SLOTS;
    }
    ck_assert(seen[at] == 0 && key != 0);
    seen[at] = key;
  }
  free(seen);
  free(t);
}
END_TEST

/* closes: STUN-09 STUN-10 */
START_TEST(an_answer_counts_once_and_from_the_server_only) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, 1);
  const msock_addr s = address("192.0.2.1:3478");
  static const char *const others[] = {"192.0.2.1:3479", "192.0.2.2:3478", "[2001:db8::1]:3478"};
  msock_stun_table t;
  msock_stun_transaction x;
  msock_stun_txid a, b;
  msock_stun_table_init(&t);
  ck_assert_int_eq(msock_stun_table_add(&t, 1000, &env, &s, 7, &a), MSOCK_OK);
  ck_assert_int_eq(msock_stun_table_add(&t, 2000, &env, &s, 8, &b), MSOCK_OK);
  for (size_t i = 0; i < 3; i++) {
    const msock_addr other = address(others[i]);
    ck_assert(!msock_stun_table_find(&t, 3000, &a, &other, &x));
  }
  ck_assert_uint_eq(t.wrong_source, 3);
  const msock_addr mapped = address("[::ffff:192.0.2.1]:3478"); /* of a dual-stack socket */
  ck_assert(msock_stun_table_find(&t, 3000, &a, &mapped, &x));
  ck_assert_uint_eq(x.tag, 7);
  ck_assert_uint_eq(x.sent_us, 1000);
  msock_stun_table_close(&t, &a);
  ck_assert(!msock_stun_table_find(&t, 3000, &a, &s, &x));
  ck_assert_uint_eq(t.unknown, 1);
  ck_assert(msock_stun_table_find(&t, 3000, &b, &s, &x));
  ck_assert_uint_eq(x.tag, 8);
  ck_assert(!msock_stun_table_find(&t, 3000, &id, &s, &x));
}
END_TEST

/* closes: T30 */
START_TEST(ten_thousand_unanswered_requests_stay_at_the_cap) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, 1);
  msock_stun_table *t = malloc(sizeof *t);
  msock_stun_txid txid;
  size_t refused = 0;
  ck_assert_ptr_nonnull(t);
  msock_stun_table_init(t);
  for (unsigned i = 0; i < 10000; i++) {
    const msock_addr s = {.ip = msock_ip_v4(192, 0, (uint8_t)(i >> 8), (uint8_t)i), .port = 3478};
    refused += msock_stun_table_add(t, i, &env, &s, i, &txid) == MSOCK_ERR_NOMEM;
    ck_assert_uint_le(t->n, MSOCK_STUN_INFLIGHT_MAX);
  }
  ck_assert_uint_eq(t->n, MSOCK_STUN_INFLIGHT_MAX);
  ck_assert_uint_eq(refused, 10000 - MSOCK_STUN_INFLIGHT_MAX); /* not sent, nobody pushed out */
  msock_stun_table_expire(t, MSOCK_STUN_LIFETIME_US + 10000);
  ck_assert_uint_eq(t->n, 0);
  free(t);
}
END_TEST

START_TEST(entries_end_after_five_seconds_and_the_table_is_bounded) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, 1);
  const msock_addr s = address("192.0.2.1:3478");
  msock_stun_table t;
  msock_stun_transaction x;
  msock_stun_txid first, txid;
  msock_stun_table_init(&t);
  ck_assert_int_eq(msock_stun_table_add(&t, 0, &env, &s, 0, &first), MSOCK_OK);
  for (unsigned i = 1; i < MSOCK_STUN_INFLIGHT_MAX; i++) {
    ck_assert_int_eq(msock_stun_table_add(&t, 1, &env, &s, i, &txid), MSOCK_OK);
  }
  ck_assert_int_eq(msock_stun_table_add(&t, 5 * MSOCK_SEC - 1, &env, &s, 0, &txid),
                   MSOCK_ERR_NOMEM);
  ck_assert(msock_stun_table_find(&t, 5 * MSOCK_SEC - 1, &first, &s, &x));
  ck_assert(!msock_stun_table_find(&t, 5 * MSOCK_SEC, &first, &s, &x));
  ck_assert_uint_eq(t.n, MSOCK_STUN_INFLIGHT_MAX - 1);
  ck_assert_int_eq(msock_stun_table_add(&t, 5 * MSOCK_SEC, &env, &s, 0, &txid), MSOCK_OK);
  msock_stun_table_clear(&t);
  ck_assert_uint_eq(t.n, 0);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, requests_have_two_forms);
  tcase_add_test(tc, addresses_that_cannot_be_ours_are_refused);
  tcase_add_test(tc, cut_messages_are_refused);
  tcase_add_loop_test(tc, random_bytes_after_the_header_never_read_past_the_end, 0, 3);
  tcase_add_test(tc, a_server_answers_in_kind);
  tcase_add_test(tc, a_million_ids_are_all_different);
  tcase_add_test(tc, an_answer_counts_once_and_from_the_server_only);
  tcase_add_test(tc, ten_thousand_unanswered_requests_stay_at_the_cap);
  tcase_add_test(tc, entries_end_after_five_seconds_and_the_table_is_bounded);
  return testing_main("stun", tc);
}
