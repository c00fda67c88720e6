/* Address ranges of packet-filter rules (control.md 5.2). */
#include <stdlib.h>
#include <string.h>

#include "base/policy.h"
#include "tests/unit/testing.h"

static msock_ip ip(const char *text) {
  msock_ip out = {0};
  ck_assert_msg(msock_ip_parse(text, &out) == MSOCK_OK, "%s", text);
  return out;
}

START_TEST(ranges_parse) {
  static const struct {
    const char *text, *lo, *hi;
  } cases[] = {
      {"100.64.0.0-100.115.91.255", "100.64.0.0", "100.115.91.255"},
      {"10.0.0.7-10.0.0.7", "10.0.0.7", "10.0.0.7"},
      {"10.44.0.0/24", "10.44.0.0", "10.44.0.255"},
      {"10.44.0.128/25", "10.44.0.128", "10.44.0.255"},
      {"0.0.0.0/0", "0.0.0.0", "255.255.255.255"},
      {"192.0.2.1", "192.0.2.1", "192.0.2.1"},
      {"192.0.2.1/32", "192.0.2.1", "192.0.2.1"},
      {"fd7a:115c:a1e0::/48", "fd7a:115c:a1e0::", "fd7a:115c:a1e0:ffff:ffff:ffff:ffff:ffff"},
      {"::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
      {"fd7a::1-fd7a::2", "fd7a::1", "fd7a::2"},
      {"::1", "::1", "::1"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    msock_ip_range r = {.any = true};
    const msock_ip lo = ip(cases[i].lo), hi = ip(cases[i].hi);
    ck_assert_msg(msock_ip_range_parse(cases[i].text, &r) == MSOCK_OK, "%s", cases[i].text);
    ck_assert(!r.any);
    ck_assert_msg(msock_ip_equal(&r.lo, &lo) && msock_ip_equal(&r.hi, &hi), "%s", cases[i].text);
  }
}
END_TEST

START_TEST(other_texts_are_refused_and_leave_the_output) {
  static const char *const bad[] = {"",
                                    "**",
                                    "10.0.0.1/24",
                                    "10.0.0.0/33",
                                    "10.0.0.9-10.0.0.8",
                                    "10.0.0.1-",
                                    "-10.0.0.1",
                                    "10.0.0.1-::1",
                                    "10.0.0.256",
                                    "10.0.0.0/24-10.0.1.0",
                                    "cap:x",
                                    "10.0.0.1 ",
                                    "10.0.0.1-10.0.0.2-10.0.0.3",
                                    "fd7a::1/64",
                                    "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000-::1"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    msock_ip_range r = {.any = true};
    ck_assert_msg(msock_ip_range_parse(bad[i], &r) == MSOCK_ERR_INVALID, "%s", bad[i]);
    ck_assert(r.any);
  }
}
END_TEST

START_TEST(ranges_include_both_ends_and_one_family) {
  static const struct {
    const char *range, *ip;
    bool want;
  } cases[] = {
      {"10.0.0.5-10.0.1.3", "10.0.0.4", false},
      {"10.0.0.5-10.0.1.3", "10.0.0.5", true},
      {"10.0.0.5-10.0.1.3", "10.0.0.255", true},
      {"10.0.0.5-10.0.1.3", "10.0.1.3", true},
      {"10.0.0.5-10.0.1.3", "10.0.1.4", false},
      {"0.0.0.0/0", "::1", false},
      {"::/0", "1.2.3.4", false},
      {"*", "1.2.3.4", true},
      {"*", "::1", true},
      {"fd7a::/16", "fd7a:ffff::", true},
      {"fd7a::/16", "fd7b::", false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    msock_ip_range r;
    const msock_ip at = ip(cases[i].ip);
    ck_assert_int_eq(msock_ip_range_parse(cases[i].range, &r), MSOCK_OK);
    ck_assert_msg(msock_ip_range_contains(&r, &at) == cases[i].want, "%s in %s", cases[i].ip,
                  cases[i].range);
  }
}
END_TEST

/* The leak checker is the judge. */
START_TEST(clear_frees_everything_and_may_be_repeated) {
  msock_policy p = {.rules = calloc(2, sizeof *p.rules), .n_rules = 2};
  msock_policy_rule *r = &p.rules[0];
  ck_assert_ptr_nonnull(r);
  r->srcs = calloc(2, sizeof *r->srcs);
  r->n_srcs = 2;
  r->srcs[0].cap = strdup("example.com/cap");
  r->dsts = calloc(1, sizeof *r->dsts);
  r->n_dsts = 1;
  r->protos = calloc(1, 1);
  r->n_protos = 1;
  r->grants = calloc(1, sizeof *r->grants);
  r->n_grants = 1;
  r->grants[0].dsts = calloc(1, sizeof *r->grants[0].dsts);
  r->grants[0].n_dsts = 1;
  r->grants[0].caps = calloc(1, sizeof *r->grants[0].caps);
  r->grants[0].caps[0] = strdup("example.com/a");
  r->grants[0].n_caps = 1;
  msock_policy_clear(&p);
  ck_assert_ptr_null(p.rules);
  ck_assert_uint_eq(p.n_rules, 0);
  msock_policy_clear(&p);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, ranges_parse);
  tcase_add_test(tc, other_texts_are_refused_and_leave_the_output);
  tcase_add_test(tc, ranges_include_both_ends_and_one_family);
  tcase_add_test(tc, clear_frees_everything_and_may_be_repeated);
  return testing_main("policy", tc);
}
