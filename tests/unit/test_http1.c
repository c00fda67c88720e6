#include <string.h>

#include "base/http1.h"
#include "tests/unit/testing.h"

#define REQ(s) (const uint8_t *)(s), sizeof(s) - 1

START_TEST(a_request_is_parsed_at_its_last_byte_and_not_before) {
  static const char in[] = "GET /derp HTTP/1.1\r\nHost: x:8443\r\nUpgrade:  DERP \r\n\r\nrest";
  const size_t head = sizeof in - 1 - 4;
  msock_http1_head h;
  for (size_t n = 0; n < head; n++) {
    ck_assert_int_eq(msock_http1_parse_request((const uint8_t *)in, n, &h), MSOCK_ERR_AGAIN);
  }
  ck_assert_int_eq(msock_http1_parse_request(REQ(in), &h), (ptrdiff_t)head);
  ck_assert(msock_http1_str_is(h.method, "GET"));
  ck_assert(msock_http1_str_is(h.target, "/derp"));
  ck_assert_int_eq(h.minor_version, 1);
  ck_assert_uint_eq(h.n_headers, 2);
  ck_assert(msock_http1_str_is(msock_http1_find(&h, "uPGRADE")->value, "derp"));
  ck_assert_ptr_null(msock_http1_find(&h, "connection"));
  ck_assert_int_eq(h.content_length, -1);
}
END_TEST

START_TEST(a_response_with_and_without_reason) {
  msock_http1_head h;
  ck_assert_int_gt(
      msock_http1_parse_response(
          REQ("HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\n\r\n"), &h),
      0);
  ck_assert_int_eq(h.status, 101);
  ck_assert(msock_http1_list_has(msock_http1_find(&h, "connection")->value, "upgrade"));
  ck_assert(!msock_http1_list_has(msock_http1_find(&h, "connection")->value, "keep"));
  ck_assert_int_gt(msock_http1_parse_response(REQ("HTTP/1.0 204\nContent-Length: 0\n\n"), &h), 0);
  ck_assert_int_eq(h.status, 204);
  ck_assert_int_eq(h.content_length, 0);
}
END_TEST

static const char *const malformed[] = {
    "GET  / HTTP/1.1\r\n\r\n",
    "GET / HTTP/2.0\r\n\r\n",
    "GET /\r\n\r\n",
    " GET / HTTP/1.1\r\n\r\n",
    "G(T / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nno colon\r\n\r\n",
    "GET / HTTP/1.1\r\nA : b\r\n\r\n",
    "GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
    "GET / HTTP/1.1\r\n: b\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
};

START_TEST(malformed_heads_are_refused) {
  msock_http1_head h;
  const char *in = malformed[_i];
  ck_assert_msg(msock_http1_parse_request((const uint8_t *)in, strlen(in), &h) == MSOCK_ERR_INVALID,
                "%s", in);
}
END_TEST

START_TEST(bounds_hold) {
  static char in[MSOCK_HTTP1_HEAD_MAX + 64];
  msock_http1_head h;
  size_t n = 0;
  memset(in, 'a', sizeof in);
  memcpy(in, "GET / HTTP/1.1\r\nA: ", 19);
  ck_assert_int_eq(msock_http1_parse_request((uint8_t *)in, MSOCK_HTTP1_HEAD_MAX - 1, &h),
                   MSOCK_ERR_AGAIN);
  ck_assert_int_eq(msock_http1_parse_request((uint8_t *)in, MSOCK_HTTP1_HEAD_MAX, &h),
                   MSOCK_ERR_INVALID);

  n = 16;
  for (unsigned i = 0; i <= MSOCK_HTTP1_HEADERS_MAX; i++) {
    memcpy(in + n, "a:b\r\n", 5);
    n += 5;
  }
  memcpy(in + n, "\r\n", 2);
  ck_assert_int_eq(msock_http1_parse_request((uint8_t *)in, n + 2, &h),
                   MSOCK_ERR_INVALID); /* one too many */
  memcpy(in + n - 5, "\r\n", 2);
  ck_assert_int_eq(msock_http1_parse_request((uint8_t *)in, n - 3, &h), (ptrdiff_t)n - 3);
}
END_TEST

START_TEST(the_builder_writes_heads_and_refuses_injection) {
  char buf[256];
  msock_http1_builder b;
  msock_http1_begin_request(&b, buf, sizeof buf, "POST", "/ts2021");
  msock_http1_add(&b, "Host", "h");
  msock_http1_add_number(&b, "Content-Length", 0);
  ck_assert_int_gt(msock_http1_finish(&b), 0);
  ck_assert_str_eq(buf, "POST /ts2021 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");

  msock_http1_begin_response(&b, buf, sizeof buf, 426);
  ck_assert_int_gt(msock_http1_finish(&b), 0);
  ck_assert_str_eq(buf, "HTTP/1.1 426 Upgrade Required\r\n\r\n");

  msock_http1_begin_request(&b, buf, sizeof buf, "GET", "/");
  msock_http1_add(&b, "Host", "h\r\nEvil: 1");
  ck_assert_int_eq(msock_http1_finish(&b), MSOCK_ERR_NOBUF);
  msock_http1_begin_request(&b, buf, sizeof buf, "GET", "/ HTTP/1.1\r\nEvil: 1");
  ck_assert_int_eq(msock_http1_finish(&b), MSOCK_ERR_NOBUF);
  msock_http1_begin_request(&b, buf, 20, "GET", "/too/long/for/this");
  ck_assert_int_eq(msock_http1_finish(&b), MSOCK_ERR_NOBUF);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, a_request_is_parsed_at_its_last_byte_and_not_before);
  tcase_add_test(tc, a_response_with_and_without_reason);
  tcase_add_loop_test(tc, malformed_heads_are_refused, 0,
                      (int)(sizeof malformed / sizeof *malformed));
  tcase_add_test(tc, bounds_hold);
  tcase_add_test(tc, the_builder_writes_heads_and_refuses_injection);
  return testing_main("http1", tc);
}
