#include "tests/unit/io_testing.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/testing.h"

static msock_loop *loop;
static msock_egress *eg;
static bool done;

static void setup(void) {
  eg = NULL;
  done = false;
  loop = msock_loop_new(NULL);
}

static void teardown(void) {
  msock_egress_free(eg);
  msock_loop_free(loop);
}

static size_t open_descriptors(void) {
  size_t n = 0;
  DIR *d = opendir("/proc/self/fd");
  ck_assert_ptr_nonnull(d);
  while (readdir(d) != NULL) {
    n++;
  }
  closedir(d);
  return n;
}

/* netcheck.md 4.1, one row each: allowed in the full profile, in the privacy profile, names there.
 */
static const struct {
  msock_purpose p;
  const char *id;
  bool full, privacy;
} rows[] = {
    {MSOCK_PURPOSE_CTL, "ctl", true, true},
    {MSOCK_PURPOSE_DERP, "derp", true, true},
    {MSOCK_PURPOSE_DERP_HTTP, "derp-http", true, false},
    {MSOCK_PURPOSE_STUN, "stun", true, true},
    {MSOCK_PURPOSE_WG, "wg", true, true},
    {MSOCK_PURPOSE_DNS_SYS, "dns-sys", true, false},
    {MSOCK_PURPOSE_DNS_FWD, "dns-fwd", true, false},
    {MSOCK_PURPOSE_PORTMAP, "portmap", true, false},
    {MSOCK_PURPOSE_ICMP, "icmp", true, false},
    {MSOCK_PURPOSE_CAPTIVE, "captive", true, false},
    {MSOCK_PURPOSE_LOGS, "logs", false, false},
    {MSOCK_PURPOSE_UPDATE, "update", false, false},
    {MSOCK_PURPOSE_META, "meta", false, false},
    {MSOCK_PURPOSE_PROXY, "proxy", true, false},
    {MSOCK_PURPOSE_OCSP, "ocsp", false, false},
    {MSOCK_PURPOSE_MCAST, "mcast", true, false},
    {MSOCK_PURPOSE_LOCAL, "local", true, true},
    {MSOCK_PURPOSE_NETLINK, "netlink", true, true},
};

START_TEST(the_table_is_the_spec) {
  const msock_purpose p = rows[_i].p;
  ck_assert_str_eq(msock_purpose_text(p), rows[_i].id);
  eg = io_test_egress(loop, MSOCK_PROFILE_FULL, false);
  ck_assert_int_eq(msock_egress_allows(eg, p), rows[_i].full);
  msock_egress_free(eg);
  eg = io_test_egress(loop, MSOCK_PROFILE_PRIVACY_PROXY, true);
  ck_assert_int_eq(msock_egress_allows(eg, p), rows[_i].privacy);
  ck_assert(!msock_egress_may_resolve(eg, p));
}
END_TEST

/* A refusal opens nothing. */
START_TEST(a_forbidden_purpose_makes_no_descriptor) {
  int fd = -1;
  const msock_addr to = io_test_local(9);
  eg = io_test_egress(loop, MSOCK_PROFILE_PRIVACY_PROXY, false);
  const size_t before = open_descriptors();
  ck_assert_int_eq(msock_egress_tcp_connect(eg, MSOCK_PURPOSE_CAPTIVE, &to, &fd), MSOCK_ERR_DENIED);
  ck_assert_int_eq(msock_egress_udp_bind(eg, MSOCK_PURPOSE_PORTMAP, &to, &fd, NULL),
                   MSOCK_ERR_DENIED);
  ck_assert_int_eq(msock_egress_icmp(eg, 4, &fd), MSOCK_ERR_DENIED);
  ck_assert_int_eq(fd, -1);
  ck_assert_uint_eq(open_descriptors(), before);
  ck_assert_uint_eq(msock_egress_get_row(eg, MSOCK_PURPOSE_CAPTIVE)->denied, 1);
  ck_assert_uint_eq(msock_egress_get_row(eg, MSOCK_PURPOSE_CAPTIVE)->allowed, 0);
  msock_egress_verdict v[8];
  ck_assert_uint_eq(msock_egress_verdicts(eg, v, 8), 3);
  ck_assert_int_eq(v[0].purpose, MSOCK_PURPOSE_ICMP); /* newest first */
  ck_assert(!v[0].allowed);
  ck_assert(msock_addr_equal(&v[2].to, &to));
}
END_TEST

START_TEST(ipv6_needs_the_flag_and_the_full_profile) {
  const msock_addr on = {.ip = {.family = 6, .b = {[15] = 1}}};
  static const struct {
    msock_profile profile;
    bool flag, want;
  } cases[] = {{MSOCK_PROFILE_FULL, false, false},
               {MSOCK_PROFILE_FULL, true, true},
               {MSOCK_PROFILE_PRIVACY_PROXY, true, false}};
  for (size_t i = 0; i < 3; i++) {
    eg = io_test_egress(loop, cases[i].profile, cases[i].flag);
    ck_assert_int_eq(msock_egress_check(eg, MSOCK_PURPOSE_WG, &on) == MSOCK_OK, cases[i].want);
    ck_assert_uint_eq(msock_egress_get_row(eg, MSOCK_PURPOSE_IPV6)->denied, !cases[i].want);
    msock_egress_free(eg);
    eg = NULL;
  }
}
END_TEST

START_TEST(the_ledger_counts_what_was_sent) {
  msock_addr at, to;
  int a = -1, b = -1;
  char got[8];
  eg = io_test_egress(loop, MSOCK_PROFILE_FULL, false);
  const msock_addr on = io_test_local(0);
  ck_assert_int_eq(msock_egress_udp_bind(eg, MSOCK_PURPOSE_WG, &on, &a, &at), MSOCK_OK);
  ck_assert_int_eq(msock_egress_udp_bind(eg, MSOCK_PURPOSE_WG, &on, &b, &to), MSOCK_OK);
  ck_assert_int_eq(msock_egress_sendto(eg, MSOCK_PURPOSE_STUN, a, &to, "abc", 3), MSOCK_OK);
  ck_assert_int_eq(msock_egress_sendto(eg, MSOCK_PURPOSE_STUN, a, &to, "de", 2), MSOCK_OK);
  ck_assert_int_eq(recv(b, got, sizeof got, 0), 3);
  const msock_egress_row *row = msock_egress_get_row(eg, MSOCK_PURPOSE_STUN);
  ck_assert_uint_eq(row->packets, 2);
  ck_assert_uint_eq(row->bytes, 5);
  ck_assert_uint_gt(row->first_us, 0);
  ck_assert_uint_ge(row->last_us, row->first_us);
  msock_egress_remote r[4];
  ck_assert_uint_eq(msock_egress_remotes(eg, r, 4), 1);
  ck_assert(msock_addr_equal(&r[0].remote, &to));
  ck_assert_uint_eq(r[0].bytes, 5);
  close(a);
  close(b);
}
END_TEST

START_TEST(a_full_ledger_replaces_the_longest_unused) {
  static msock_egress_remote r[MSOCK_EGRESS_REMOTES_MAX];
  eg = io_test_egress(loop, MSOCK_PROFILE_FULL, false);
  for (uint16_t port = 1; port <= MSOCK_EGRESS_REMOTES_MAX + 1; port++) {
    const msock_addr to = io_test_local(port);
    const uint64_t before_us = msock_loop_now_us();
    msock_egress_account(eg, MSOCK_PURPOSE_WG, &to, 1, 10);
    while (msock_loop_now_us() == before_us) {
    }
  }
  ck_assert_uint_eq(msock_egress_remotes(eg, r, MSOCK_EGRESS_REMOTES_MAX),
                    MSOCK_EGRESS_REMOTES_MAX);
  ck_assert_uint_eq(r[0].remote.port, MSOCK_EGRESS_REMOTES_MAX + 1);
  ck_assert_uint_eq(r[MSOCK_EGRESS_REMOTES_MAX - 1].remote.port, 2); /* port 1 went */
  ck_assert_uint_eq(msock_egress_get_row(eg, MSOCK_PURPOSE_WG)->bytes,
                    10 * (MSOCK_EGRESS_REMOTES_MAX + 1)); /* the row is exact all the same */
}
END_TEST

static msock_err got_err;
static msock_ip got_ip;

static void on_names(void *ctx, msock_err err, const msock_ip *ips, size_t n, const char *why) {
  (void)ctx;
  (void)why;
  done = true;
  got_err = err;
  if (n > 0) {
    got_ip = ips[0];
  }
}

START_TEST(names_are_resolved_in_the_full_profile_only) {
  msock_resolve *r = NULL;
  eg = io_test_egress(loop, MSOCK_PROFILE_FULL, false);
  ck_assert_int_eq(msock_egress_resolve(eg, MSOCK_PURPOSE_CTL, "localhost", 4, on_names, NULL, &r),
                   MSOCK_OK);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  ck_assert_int_eq(got_err, MSOCK_OK);
  const msock_addr want = io_test_local(0);
  ck_assert(msock_ip_equal(&got_ip, &want.ip));
  ck_assert_uint_eq(msock_egress_get_row(eg, MSOCK_PURPOSE_DNS_SYS)->allowed, 1);
  ck_assert_int_eq(msock_egress_resolve(eg, MSOCK_PURPOSE_CTL, "192.0.2.1", 4, on_names, NULL, &r),
                   MSOCK_ERR_INVALID);
  msock_egress_free(eg);

  eg = io_test_egress(loop, MSOCK_PROFILE_PRIVACY_PROXY, false);
  ck_assert_int_eq(msock_egress_resolve(eg, MSOCK_PURPOSE_CTL, "localhost", 4, on_names, NULL, &r),
                   MSOCK_ERR_DENIED);
  ck_assert_uint_eq(msock_egress_get_row(eg, MSOCK_PURPOSE_DNS_SYS)->denied, 1);
}
END_TEST

START_TEST(a_cancelled_lookup_calls_nobody) {
  msock_resolve *r = NULL;
  eg = io_test_egress(loop, MSOCK_PROFILE_FULL, false);
  ck_assert_int_eq(msock_egress_resolve(eg, MSOCK_PURPOSE_CTL, "localhost", 4, on_names, NULL, &r),
                   MSOCK_OK);
  msock_resolve_cancel(r);
  io_test_run(loop, &done, 50 * MSOCK_MS);
  ck_assert(!done);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_loop_test(tc, the_table_is_the_spec, 0, (int)(sizeof rows / sizeof *rows));
  tcase_add_test(tc, a_forbidden_purpose_makes_no_descriptor);
  tcase_add_test(tc, ipv6_needs_the_flag_and_the_full_profile);
  tcase_add_test(tc, the_ledger_counts_what_was_sent);
  tcase_add_test(tc, a_full_ledger_replaces_the_longest_unused);
  tcase_add_test(tc, names_are_resolved_in_the_full_profile_only);
  tcase_add_test(tc, a_cancelled_lookup_calls_nobody);
  return testing_main("io_egress", tc);
}
