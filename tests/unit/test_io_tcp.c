#include "tests/unit/io_testing.h"

#include <string.h>

#include "io/tcp.h"
#include "tests/unit/testing.h"

static msock_loop *loop;
static msock_egress *eg;
static bool done;
static msock_tcp_result got;

static void setup(void) {
  done = false;
  loop = msock_loop_new(NULL);
  eg = io_test_egress(loop, MSOCK_PROFILE_FULL, true);
}

static void teardown(void) {
  msock_egress_free(eg);
  msock_loop_free(loop);
}

static void on_result(void *ctx, const msock_tcp_result *r) {
  (void)ctx;
  ck_assert(!done);
  done = true;
  got = *r;
}

static uint64_t dial(const msock_tcp_target *t) {
  msock_tcp_dial *d = NULL;
  const uint64_t began_us = msock_loop_now_us();
  ck_assert_int_eq(msock_tcp_dial_new(eg, t, on_result, NULL, &d), MSOCK_OK);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  msock_tcp_dial_free(d);
  return msock_loop_now_us() - began_us;
}

static int listen_v6(uint16_t port) {
  int fd = -1;
  const msock_addr on = {.ip = {.family = 6, .b = {[15] = 1}}, .port = port};
  return msock_egress_tcp_listen(eg, MSOCK_PURPOSE_LISTEN, &on, &fd, NULL) == MSOCK_OK ? fd : -1;
}

/* A listener whose queue is full: the kernel drops further SYNs. The sockets stay open. */
static void fill_queue(const msock_addr *at) {
  for (int i = 0; i < 4; i++) {
    int fd = -1;
    msock_egress_tcp_connect(eg, MSOCK_PURPOSE_CTL, at, &fd);
  }
}

static int black_hole(msock_addr *at) {
  struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof sa;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
  ck_assert_int_eq(listen(fd, 0), 0);
  ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
  *at = io_test_local(ntohs(sa.sin_port));
  fill_queue(at);
  return fd;
}

START_TEST(connects_and_says_from_where) {
  msock_tcp_target t;
  msock_addr at;
  const int l = io_test_listen(eg, &at);
  msock_tcp_target_host(&t, MSOCK_PURPOSE_CTL, "127.0.0.1", at.port, MSOCK_SEC);
  dial(&t);
  ck_assert_int_eq(got.err, MSOCK_OK);
  ck_assert(msock_addr_equal(&got.remote, &at));
  ck_assert(msock_ip_is_loopback(&got.local.ip));
  ck_assert_uint_ne(got.local.port, 0);
  close(got.fd);
  close(l);
}
END_TEST

START_TEST(a_name_is_resolved_and_dialled) {
  msock_tcp_target t;
  msock_addr at;
  const int l = io_test_listen(eg, &at);
  msock_tcp_target_host(&t, MSOCK_PURPOSE_CTL, "localhost", at.port, 5 * MSOCK_SEC);
  dial(&t);
  ck_assert_int_eq(got.err, MSOCK_OK);
  close(got.fd);
  close(l);
}
END_TEST

START_TEST(a_refused_candidate_lets_the_other_win_without_the_delay) {
  msock_tcp_target t = {.purpose = MSOCK_PURPOSE_CTL,
                        .budget_us = 5 * MSOCK_SEC,
                        .v4_delay_us = 4 * MSOCK_SEC,
                        .literal = {{0}, {.family = 6, .b = {[15] = 1}}}};
  msock_addr at;
  const int l = io_test_listen(eg, &at); /* nobody on [::1] with that port */
  t.literal[0] = at.ip;
  t.port = at.port;
  const uint64_t took_us = dial(&t);
  ck_assert_int_eq(got.err, MSOCK_OK);
  ck_assert_uint_eq(got.remote.ip.family, 4);
  ck_assert_uint_lt(took_us, 4 * MSOCK_SEC);
  close(got.fd);
  close(l);
}
END_TEST

START_TEST(all_refused_ends_at_once_with_a_reason) {
  msock_tcp_target t;
  int fd;
  const msock_addr at = io_test_refusing(&fd);
  msock_tcp_target_host(&t, MSOCK_PURPOSE_CTL, "127.0.0.1", at.port, 10 * MSOCK_SEC);
  const uint64_t took_us = dial(&t);
  ck_assert_int_eq(got.err, MSOCK_ERR_IO);
  ck_assert_int_eq(got.fd, -1);
  ck_assert_uint_lt(took_us, 10 * MSOCK_SEC);
  ck_assert_ptr_nonnull(strstr(got.why, "refused"));
  ck_assert_ptr_nonnull(strstr(got.why, "127.0.0.1"));
  close(fd);
}
END_TEST

/* closes: CLIENT-14 */
START_TEST(ipv4_starts_200_ms_late_and_only_when_needed) {
  msock_derp_node n = {.host_name = "unused.invalid", .derp_port = 1};
  msock_tcp_target t;
  msock_addr at;
  const int l4 = io_test_listen(eg, &at);
  const int l6 = listen_v6(at.port);
  if (l6 < 0) { /* a kernel without IPv6: nothing to race */
    close(l4);
    return;
  }
  msock_derp_node_set_ipv4(&n, "127.0.0.1");
  msock_derp_node_set_ipv6(&n, "::1");
  n.derp_port = at.port;
  msock_tcp_target_derp(&t, &n, true);
  ck_assert_uint_eq(t.v4_delay_us, 200 * MSOCK_MS);
  ck_assert_uint_eq(t.budget_us, 1500 * MSOCK_MS);
  dial(&t);
  ck_assert_int_eq(got.err, MSOCK_OK);
  ck_assert_uint_eq(got.remote.ip.family, 6);
  fcntl(l4, F_SETFL, O_NONBLOCK);
  ck_assert_int_eq(accept(l4, NULL, NULL), -1); /* IPv4 was never tried */
  close(got.fd);
  close(l4);
  close(l6);
}
END_TEST

/* closes: CLIENT-14 */
START_TEST(the_delayed_candidate_starts_at_its_tick) {
  msock_tcp_target t = {.purpose = MSOCK_PURPOSE_DERP,
                        .budget_us = 1500 * MSOCK_MS,
                        .v4_delay_us = MSOCK_TCP_V4_DELAY_US,
                        .literal = {{0}, {.family = 6}}};
  msock_addr at;
  const int l4 = io_test_listen(eg, &at);
  const int l6 = listen_v6(at.port);
  if (l6 < 0) {
    close(l4);
    return;
  }
  const msock_addr v6 = {.ip = {.family = 6, .b = {[15] = 1}}, .port = at.port};
  ck_assert_int_eq(listen(l6, 0), 0); /* shrink the queue, then fill it */
  fill_queue(&v6);
  t.literal[0] = at.ip;
  t.literal[1] = v6.ip;
  t.port = at.port;
  const uint64_t took_us = dial(&t);
  ck_assert_int_eq(got.err, MSOCK_OK);
  ck_assert_uint_eq(got.remote.ip.family, 4);
  ck_assert_uint_ge(took_us, MSOCK_TCP_V4_DELAY_US);
  ck_assert_uint_lt(took_us, 1500 * MSOCK_MS);
  close(got.fd);
  close(l4);
  close(l6);
}
END_TEST

/* closes: CLIENT-14 */
START_TEST(the_node_budget_ends_the_dial) {
  msock_derp_node n = {.host_name = "127.0.0.1"};
  msock_tcp_target t;
  msock_addr at;
  const int l = black_hole(&at);
  n.derp_port = at.port;
  n.v6 = MSOCK_DERP_FAMILY_OFF;
  msock_tcp_target_derp(&t, &n, false);
  const uint64_t took_us = dial(&t);
  ck_assert_int_eq(got.err, MSOCK_ERR_TIMEOUT);
  ck_assert_uint_ge(took_us, 1500 * MSOCK_MS);
  ck_assert_ptr_nonnull(strstr(got.why, "1500 ms"));
  close(l);
}
END_TEST

/* closes: CLIENT-14 */
START_TEST(derp_node_fields_become_a_target) {
  static const struct {
    const char *name, *host, *v4, *v6;
    bool resolve_v4, resolve_v6;
    uint8_t literal_v4, literal_v6; /* families */
  } cases[] = {
      {"empty: resolve both", "derp.example.com", "", "", true, true, 0, 0},
      {"none disables", "derp.example.com", "none", "", false, true, 0, 0},
      {"any other text disables", "derp.example.com", "", "off", true, false, 0, 0},
      {"literals", "derp.example.com", "192.0.2.1", "2001:db8::1", false, false, 4, 6},
      {"one literal", "derp.example.com", "192.0.2.1", "none", false, false, 4, 0},
      {"IPv4 host: its family only", "192.0.2.9", "", "", false, false, 4, 0},
      {"IPv6 host: its family only", "2001:db8::9", "", "", false, false, 0, 6},
      {"IPv4 host, disabled", "192.0.2.9", "none", "", false, false, 0, 0},
  };
  msock_derp_node n = {.derp_port = 8443};
  msock_tcp_target t;
  strcpy(n.host_name, cases[_i].host);
  msock_derp_node_set_ipv4(&n, cases[_i].v4);
  msock_derp_node_set_ipv6(&n, cases[_i].v6);
  msock_tcp_target_derp(&t, &n, false);
  ck_assert_msg(t.resolve_v4 == cases[_i].resolve_v4 && t.resolve_v6 == cases[_i].resolve_v6, "%s",
                cases[_i].name);
  ck_assert_uint_eq(t.literal[0].family, cases[_i].literal_v4);
  ck_assert_uint_eq(t.literal[1].family, cases[_i].literal_v6);
  ck_assert_uint_eq(t.port, 8443);
  ck_assert_uint_eq(t.v4_delay_us, 0);
}
END_TEST

/* closes: CLIENT-14 */
START_TEST(both_families_off_is_an_immediate_error) {
  msock_derp_node n = {.host_name = "derp.example.com", .derp_port = 443};
  msock_tcp_target t;
  msock_tcp_dial *d = NULL;
  n.v4 = n.v6 = MSOCK_DERP_FAMILY_OFF;
  msock_tcp_target_derp(&t, &n, false);
  ck_assert_int_eq(msock_tcp_dial_new(eg, &t, on_result, NULL, &d), MSOCK_ERR_INVALID);
  ck_assert_ptr_null(d);
}
END_TEST

START_TEST(privacy_refuses_names_and_ipv6) {
  msock_tcp_target t;
  msock_tcp_dial *d = NULL;
  msock_egress_free(eg);
  eg = io_test_egress(loop, MSOCK_PROFILE_PRIVACY_PROXY, true);
  msock_tcp_target_host(&t, MSOCK_PURPOSE_DERP, "derp.example.com", 443, MSOCK_SEC);
  ck_assert_int_eq(msock_tcp_dial_new(eg, &t, on_result, NULL, &d), MSOCK_ERR_DENIED);
  msock_tcp_target_host(&t, MSOCK_PURPOSE_DERP, "::1", 443, MSOCK_SEC);
  dial(&t);
  ck_assert_int_eq(got.err, MSOCK_ERR_DENIED);
  ck_assert_ptr_nonnull(strstr(got.why, "profile"));
}
END_TEST

START_TEST(a_freed_dial_calls_nobody) {
  msock_tcp_target t;
  msock_tcp_dial *d = NULL;
  msock_addr at;
  const int l = io_test_listen(eg, &at);
  msock_tcp_target_host(&t, MSOCK_PURPOSE_CTL, "127.0.0.1", at.port, MSOCK_SEC);
  ck_assert_int_eq(msock_tcp_dial_new(eg, &t, on_result, NULL, &d), MSOCK_OK);
  msock_tcp_dial_free(d);
  io_test_run(loop, &done, 20 * MSOCK_MS);
  ck_assert(!done);
  close(l);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, connects_and_says_from_where);
  tcase_add_test(tc, a_name_is_resolved_and_dialled);
  tcase_add_test(tc, a_refused_candidate_lets_the_other_win_without_the_delay);
  tcase_add_test(tc, all_refused_ends_at_once_with_a_reason);
  tcase_add_test(tc, ipv4_starts_200_ms_late_and_only_when_needed);
  tcase_add_test(tc, the_delayed_candidate_starts_at_its_tick);
  tcase_add_test(tc, the_node_budget_ends_the_dial);
  tcase_add_loop_test(tc, derp_node_fields_become_a_target, 0, 8);
  tcase_add_test(tc, both_families_off_is_an_immediate_error);
  tcase_add_test(tc, privacy_refuses_names_and_ipv6);
  tcase_add_test(tc, a_freed_dial_calls_nobody);
  return testing_main("io_tcp", tc);
}
