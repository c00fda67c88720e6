#include "config/duration.h"
#include "tests/unit/testing.h"

static const struct {
  const char *text;
  bool ok;
  uint64_t us;
} cases[] = {
    {"0", true, 0},
    {"0s", true, 0},
    {"500ms", true, 500000},
    {"10ms", true, 10000},
    {"1s", true, 1000000},
    {"1.5s", true, 1500000},
    {".5s", true, 500000},
    {"1.s", true, 1000000},
    {"1m30s", true, 90000000},
    {"1h2m3s", true, UINT64_C(3723000000)},
    {"1.5h", true, UINT64_C(5400000000)},
    {"250us", true, 250},
    {"250\xc2\xb5s", true, 250},
    {"1999ns", true, 1},
    {"600ns600ns", true, 1}, /* parts add up before they are cut */
    {"0.000001s", true, 1},
    {"0.3333333333333333333s", true, 333333},
    {"2562047h", true, UINT64_C(2562047) * 3600000000},
    {"99999999h", false, 0},
    {"99999999999999999999999s", false, 0},
    {"", false, 0},
    {"10", false, 0},
    {"s", false, 0},
    {".s", false, 0},
    {"1 s", false, 0},
    {"1s ", false, 0},
    {"-1s", false, 0},
    {"+1s", false, 0},
    {"1S", false, 0},
    {"1d", false, 0},
    {"1m30", false, 0},
    {"1..5s", false, 0},
    {"1e3s", false, 0},
};
START_TEST(parse_like_go) {
  uint64_t us = 77;
  ck_assert_msg(msock_duration_parse(cases[_i].text, &us) == cases[_i].ok, "%s", cases[_i].text);
  ck_assert_uint_eq(us, cases[_i].ok ? cases[_i].us : 77);
}
END_TEST

static const struct {
  uint64_t us;
  const char *text;
} texts[] = {
    {0, "0s"},       {1, "1us"},          {1500, "1500us"},  {500000, "500ms"},
    {1000000, "1s"}, {90000000, "1m30s"}, {59999999, "59s"}, {UINT64_C(3723000000), "1h2m3s"},
};
START_TEST(print_like_go) {
  char buf[MSOCK_DURATION_TEXT_MAX];
  ck_assert_str_eq(msock_duration_text(texts[_i].us, buf), texts[_i].text);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, parse_like_go, 0, (int)(sizeof cases / sizeof *cases));
  tcase_add_loop_test(tc, print_like_go, 0, (int)(sizeof texts / sizeof *texts));
  return testing_main("duration", tc);
}
