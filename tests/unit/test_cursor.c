#include "base/backoff.h"
#include "base/cursor.h"
#include "tests/unit/testing.h"

START_TEST(reads_in_both_orders) {
  static const uint8_t in[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  msock_reader r = msock_reader_init(in, sizeof in);
  ck_assert_uint_eq(msock_read_u8(&r), 1);
  ck_assert_uint_eq(msock_read_be16(&r), 0x0203);
  ck_assert_uint_eq(msock_read_be32(&r), 0x04050607);
  ck_assert_uint_eq(msock_read_le64(&r), UINT64_C(0x0f0e0d0c0b0a0908));
  ck_assert(!r.bad);
  ck_assert_uint_eq(r.left, 0);
}
END_TEST

START_TEST(a_read_past_the_end_is_sticky_and_gives_zero) {
  static const uint8_t in[] = {1, 2, 3};
  uint8_t copy[4] = {9, 9, 9, 9};
  msock_reader r = msock_reader_init(in, sizeof in);
  ck_assert_uint_eq(msock_read_be32(&r), 0);
  ck_assert(r.bad);
  ck_assert_uint_eq(msock_read_u8(&r), 0); /* though a byte is there */
  msock_read_copy(&r, copy, sizeof copy);
  ck_assert_uint_eq(copy[0] | copy[3], 0);
}
END_TEST

START_TEST(writes_stop_at_the_cap) {
  uint8_t out[11] = {0};
  msock_writer w = msock_writer_init(out, 10);
  msock_write_be16(&w, 0x0102);
  msock_write_le32(&w, 0x01020304);
  msock_write_be32(&w, 0x0a0b0c0d);
  ck_assert(!w.bad);
  ck_assert_uint_eq(w.total, 10);
  msock_write_u8(&w, 0xff);
  ck_assert(w.bad);
  ck_assert_uint_eq(out[10], 0);
  static const uint8_t want[] = {1, 2, 4, 3, 2, 1, 10, 11, 12, 13};
  ck_assert_mem_eq(out, want, sizeof want);
}
END_TEST

START_TEST(backoff_grows_by_squares_to_its_cap_with_jitter) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, 1);
  msock_backoff b = {.cap_us = 5 * MSOCK_SEC};
  for (uint64_t n = 1; n <= 40; n++) {
    uint64_t base = n * n * 10 * MSOCK_MS;
    base = base > b.cap_us ? b.cap_us : base;
    const uint64_t d = msock_backoff_next(&b, &env, 0);
    ck_assert_uint_ge(d, base / 2);
    ck_assert_uint_le(d, base / 2 + base);
  }
  msock_backoff_reset(&b);
  ck_assert_uint_le(msock_backoff_next(&b, &env, 0), 15 * MSOCK_MS);
  ck_assert_uint_ge(msock_backoff_next(&b, &env, MSOCK_SEC), MSOCK_SEC / 2);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, reads_in_both_orders);
  tcase_add_test(tc, a_read_past_the_end_is_sticky_and_gives_zero);
  tcase_add_test(tc, writes_stop_at_the_cap);
  tcase_add_test(tc, backoff_grows_by_squares_to_its_cap_with_jitter);
  return testing_main("cursor", tc);
}
