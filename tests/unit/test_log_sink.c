#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "io/log_sink.h"
#include "tests/unit/testing.h"

static uint64_t now;
static char last[MSOCK_LOG_LINE_MAX + 1];
static unsigned lines;

static uint64_t clock_now(void) {
  return now;
}
static uint64_t clock_wall(void) {
  return UINT64_C(1795255872345678); /* 2026-11-21T10:11:12.345678Z */
}
static void keep(void *ctx, const char *line, size_t len) {
  (void)ctx;
  memcpy(last, line, len);
  last[len] = '\0';
  lines++;
}

static void start(msock_log_sink *s, bool json) {
  now = 5 * MSOCK_LOG_REFILL_US;
  lines = 0;
  msock_log_sink_init(s, MSOCK_LOG_INFO, json, clock_now, clock_wall);
  s->write = keep;
}

START_TEST(human_line) {
  static msock_log_sink s;
  start(&s, false);
  msock_logf(&s.log, MSOCK_LOG_INFO, "derp.connected", "region=%d host=%s", 900, "derp.example");
  ck_assert_str_eq(last,
                   "2026-11-21T10:11:12.345Z info  derp.connected region=900 host=derp.example\n");
  msock_logf(&s.log, MSOCK_LOG_DEBUG, "derp.detail", "x=1");
  ck_assert_uint_eq(lines, 1); /* above the level */
}
END_TEST

START_TEST(json_line_parses_whatever_is_logged) {
  static msock_log_sink s;
  json_object *v = NULL;
  start(&s, true);
  msock_logf(&s.log, MSOCK_LOG_WARN, "tls.failed", "host=h err=\"bad \\ name\nx\" loose words");
  json_object *o = json_tokener_parse(last);
  ck_assert_ptr_nonnull(o);
  ck_assert(json_object_object_get_ex(o, "comp", &v));
  ck_assert_str_eq(json_object_get_string(v), "tls");
  ck_assert(json_object_object_get_ex(o, "msg", &v));
  ck_assert_str_eq(json_object_get_string(v), "failed");
  ck_assert(json_object_object_get_ex(o, "err", &v));
  ck_assert_str_eq(json_object_get_string(v), "bad \\ name?x");
  ck_assert(json_object_object_get_ex(o, "text", &v));
  json_object_put(o);

  char big[900];
  memset(big, '"', sizeof big - 1);
  big[sizeof big - 1] = '\0';
  msock_logf(&s.log, MSOCK_LOG_WARN, "tls.failed", "a=%s", big);
  o = json_tokener_parse(last);
  ck_assert_ptr_nonnull(o);
  json_object_put(o);
}
END_TEST

START_TEST(repeats_are_held_back_and_counted) {
  static msock_log_sink s;
  start(&s, false);
  for (unsigned i = 0; i < MSOCK_LOG_BURST + 7; i++) {
    msock_logf(&s.log, MSOCK_LOG_INFO, "a.b", "n=%u", i);
  }
  ck_assert_uint_eq(lines, MSOCK_LOG_BURST);
  now += MSOCK_LOG_REFILL_US - 1;
  msock_logf(&s.log, MSOCK_LOG_INFO, "a.b", "still");
  ck_assert_uint_eq(lines, MSOCK_LOG_BURST);
  now += 1;
  msock_logf(&s.log, MSOCK_LOG_INFO, "a.b", "again");
  ck_assert_uint_eq(lines, MSOCK_LOG_BURST + 1);
  ck_assert_ptr_nonnull(strstr(last, "suppressed=8"));
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, human_line);
  tcase_add_test(tc, json_line_parses_whatever_is_logged);
  tcase_add_test(tc, repeats_are_held_back_and_counted);
  return testing_main("log_sink", tc);
}
