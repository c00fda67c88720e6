/* The life of the one UDP socket, in a network namespace of our own: families, ports, a configured
 * interface, and how it comes back. Needs root; else skipped (77). */
#include "node/underlay_socket.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/node_rig.h"

static msock_loop *loop;
static msock_egress *eg;
static msock_underlay *u;
static testing_log tlog;
static msock_node_deps deps;
static size_t n_got, n_changed;
static msock_addr got_from[8];
static bool done;

/* Errors that bind gives instead of trying; 0 = none. */
static int bind_error[2]; /* IPv4, IPv6 */
static unsigned binds;
static uint16_t refused_port; /* only this one, when not 0 */

int __real_bind(int fd, const struct sockaddr *sa, socklen_t len);
int __wrap_bind(int fd, const struct sockaddr *sa, socklen_t len);
int __wrap_bind(int fd, const struct sockaddr *sa, socklen_t len) {
  const bool v6 = sa->sa_family == AF_INET6;
  if ((v6 || sa->sa_family == AF_INET) && bind_error[v6] != 0) {
    const struct sockaddr_in *in =
        (const struct sockaddr_in *)sa; /* the port is where it is in both */
    if (refused_port == 0 || ntohs(in->sin_port) == refused_port) {
      binds++;
      errno = bind_error[v6];
      return -1;
    }
  }
  return __real_bind(fd, sa, len);
}

static void on_received(void *ctx, msock_packet *pkts, const msock_addr *from, size_t n,
                        uint64_t now_us) {
  (void)ctx;
  (void)pkts;
  (void)now_us;
  for (size_t i = 0; i < n && n_got < 8; i++) {
    got_from[n_got++] = from[i];
  }
  done = true;
}

static void on_fault(void *ctx, const msock_addr *to, msock_udp_fault fault, size_t n) {
  (void)ctx;
  (void)to;
  (void)fault;
  (void)n;
}

static void on_changed(void *ctx, uint64_t now_us, msock_udp *udp) {
  (void)ctx;
  (void)now_us;
  ck_assert_ptr_eq(udp, msock_underlay_udp(u));
  n_changed++;
  done = true;
}

static const msock_underlay_handlers handlers = {
    .received = on_received, .fault = on_fault, .changed = on_changed};

static void start(bool ipv6, uint16_t port, const char *device) {
  msock_egress_config cfg = {.ipv6 = ipv6};
  snprintf(cfg.device, sizeof cfg.device, "%s", device);
  testing_log_init(&tlog);
  loop = msock_loop_new(NULL);
  eg = msock_egress_new(loop, &cfg, &tlog.log);
  deps = (msock_node_deps){.loop = loop, .egress = eg, .log = &tlog.log};
  u = msock_underlay_new(&deps, &(msock_underlay_config){.ipv6 = ipv6, .port = port}, &handlers,
                         NULL);
  ck_assert_ptr_nonnull(u);
}

static void setup(void) {
  ck_assert(node_rig_enter_namespace());
}

static void teardown(void) {
  msock_underlay_free(u);
  msock_egress_free(eg);
  msock_loop_free(loop);
}

static size_t logged(const char *event) {
  size_t n = 0;
  for (size_t i = 0; i < tlog.n; i++) {
    n += strstr(tlog.events[i], event) != NULL;
  }
  return n;
}

static msock_addr local(void) {
  return msock_udp_local(msock_underlay_udp(u));
}

/* One datagram to the socket from a socket of that family; gives the sender's address. */
static msock_addr knock(const char *ip) {
  const msock_addr any = {.ip = {.family = strchr(ip, ':') ? 6 : 4}};
  msock_addr to = {.port = local().port}, at;
  int fd = -1;
  ck_assert_int_eq(msock_ip_parse(ip, &to.ip), MSOCK_OK);
  ck_assert_int_eq(msock_egress_udp_bind(eg, MSOCK_PURPOSE_WG, &any, &fd, &at), MSOCK_OK);
  ck_assert_int_eq(msock_egress_sendto(eg, MSOCK_PURPOSE_WG, fd, &to, "hello", 5), MSOCK_OK);
  done = false;
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  close(fd);
  return (msock_addr){.ip = to.ip, .port = at.port};
}

static void run(const char *command) {
  ck_assert_msg(system(command) == 0, "%s", command);
}

/* closes: T03 */
START_TEST(one_socket_takes_both_families) {
  int v6_only = 1, domain = 0;
  socklen_t len = sizeof v6_only;
  start(true, 0, "");
  const int fd = msock_udp_fd(msock_underlay_udp(u));
  ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len), 0);
  ck_assert_int_eq(domain, AF_INET6);
  ck_assert_int_eq(getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, &len), 0);
  ck_assert_int_eq(v6_only, 0);
  const msock_addr v4 = knock("127.0.0.1"), v6 = knock("::1");
  ck_assert_uint_eq(n_got, 2);
  ck_assert_uint_eq(got_from[0].ip.family, 4); /* not ::ffff:127.0.0.1 */
  ck_assert(msock_addr_equal(&got_from[0], &v4));
  ck_assert_uint_eq(got_from[1].ip.family, 6);
  ck_assert(msock_addr_equal(&got_from[1], &v6));
  ck_assert_int_eq(msock_udp_fd(msock_underlay_udp(u)), fd);
  /* And it sends to both: to itself, in a batch and one by one. */
  static uint8_t buf[512];
  const msock_packet p[2] = {{buf, sizeof buf, 128, 64}, {buf, sizeof buf, 128, 64}};
  const msock_addr to[2] = {{.ip = v4.ip, .port = local().port},
                            {.ip = v6.ip, .port = local().port}};
  ck_assert_uint_eq(msock_udp_send(msock_underlay_udp(u), MSOCK_PURPOSE_WG, p, to, 2), 2);
  ck_assert_int_eq(msock_egress_sendto(eg, MSOCK_PURPOSE_WG, fd, &to[0], buf, 9), MSOCK_OK);
  ck_assert_int_eq(msock_egress_sendto(eg, MSOCK_PURPOSE_WG, fd, &to[1], buf, 9), MSOCK_OK);
  for (done = false; n_got < 6; done = false) {
    ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  }
  for (size_t i = 2; i < 6; i++) {
    ck_assert_uint_eq(got_from[i].port, local().port);
    ck_assert_uint_eq(got_from[i].ip.family, i % 2 == 0 ? 4 : 6);
  }
}
END_TEST

/* The IPv6 half of T02: without the gate no such socket exists. */
START_TEST(without_the_gate_the_socket_is_ipv4) {
  int domain = 0;
  socklen_t len = sizeof domain;
  start(false, 0, "");
  ck_assert_int_eq(
      getsockopt(msock_udp_fd(msock_underlay_udp(u)), SOL_SOCKET, SO_DOMAIN, &domain, &len), 0);
  ck_assert_int_eq(domain, AF_INET);
  const msock_addr at = local();
  ck_assert(msock_ip_is_unspecified(&at.ip) && at.ip.family == 4 && at.port != 0);
  ck_assert_uint_eq(msock_egress_get_row(eg, MSOCK_PURPOSE_IPV6)->allowed, 0);
}
END_TEST

/* The kernel has no IPv6 (other errors of bind alike): IPv4, and one warning however often. */
START_TEST(a_refused_ipv6_bind_falls_back_with_one_warning) {
  bind_error[1] = EADDRNOTAVAIL;
  start(true, 0, "");
  ck_assert_uint_eq(local().ip.family, 4);
  ck_assert_uint_eq(logged("udp.no_ipv6 addr=[::]:0 ipv6=on reason=\"Cannot assign"), 1);
  const uint16_t port = local().port;
  for (int k = 0; k < 5; k++) {
    msock_underlay_rebind(u, msock_loop_now_us());
    ck_assert_uint_eq(local().ip.family, 4);
    ck_assert_uint_eq(local().port, port);
  }
  ck_assert_uint_eq(logged("udp.no_ipv6"), 1);
  ck_assert_uint_eq(logged("udp.bind_failed"), 0);
  bind_error[1] = 0; /* IPv6 appeared: the next socket has it, on the same port */
  msock_underlay_network_changed(u, msock_loop_now_us());
  ck_assert_uint_eq(local().ip.family, 6);
  ck_assert_uint_eq(local().port, port);
  bind_error[1] = EADDRNOTAVAIL; /* gone again: that is news */
  msock_underlay_rebind(u, msock_loop_now_us());
  ck_assert_uint_eq(logged("udp.no_ipv6"), 2);
}
END_TEST

START_TEST(a_taken_port_gives_way_to_a_fresh_one_on_a_rebind) {
  start(false, 0, "");
  const uint64_t inode = node_rig_inode(msock_udp_fd(msock_underlay_udp(u)));
  refused_port = local().port;
  bind_error[0] = EADDRINUSE;
  msock_underlay_rebind(u, msock_loop_now_us());
  ck_assert_ptr_nonnull(msock_underlay_udp(u));
  ck_assert_uint_ne(local().port, refused_port);
  ck_assert_uint_ne(node_rig_inode(msock_udp_fd(msock_underlay_udp(u))), inode);
  ck_assert_uint_eq(n_changed, 1);
}
END_TEST

/* 1, 2, 4 s and so on up to 30 s, on the loop's clock; one error line, and a no-op rebind. */
START_TEST(without_a_socket_it_is_tried_again_with_back_off) {
  bind_error[0] = EACCES;
  start(false, 0, "");
  ck_assert_ptr_null(msock_underlay_udp(u));
  ck_assert_uint_eq(logged("udp.bind_failed addr=0.0.0.0:0 ipv6=off reason=\"Permission denied\" "
                           "retry_s=1"),
                    1);
  uint64_t due = msock_loop_next_deadline(loop), now = msock_loop_now_us();
  ck_assert_uint_le(due - now, 1 * MSOCK_SEC);
  const unsigned before = binds;
  msock_underlay_rebind(u, now); /* while inert: nothing */
  msock_underlay_want_rebind(u);
  ck_assert_uint_eq(binds, before);
  ck_assert_uint_eq(msock_loop_next_deadline(loop), due);
  static const uint64_t steps_s[] = {2, 4, 8, 16, 30, 30};
  for (size_t i = 0; i < sizeof steps_s / sizeof *steps_s; i++) {
    now = msock_loop_now_us();
    msock_underlay_network_changed(u, now); /* tries at once, and waits longer after it */
    ck_assert_uint_eq(binds, before + 1 + i);
    ck_assert_uint_eq(msock_loop_next_deadline(loop), now + steps_s[i] * MSOCK_SEC);
  }
  ck_assert_uint_eq(n_changed, 0); /* nothing changed for anybody */
  bind_error[0] = 0;
  msock_underlay_network_changed(u, msock_loop_now_us());
  ck_assert_ptr_nonnull(msock_underlay_udp(u));
  ck_assert_uint_eq(n_changed, 1);
  ck_assert_uint_eq(msock_loop_next_deadline(loop), MSOCK_NEVER);
}
END_TEST

START_TEST(the_first_retry_comes_by_itself) {
  bind_error[0] = EACCES;
  start(false, 0, "");
  bind_error[0] = 0;
  done = false;
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  ck_assert_ptr_nonnull(msock_underlay_udp(u));
}
END_TEST

static uint64_t tx_packets(const char *device) {
  FILE *f = fopen("/proc/net/dev", "r");
  char line[512], name[32];
  unsigned long long tx = 0;
  bool found = false;
  ck_assert_ptr_nonnull(f);
  snprintf(name, sizeof name, "%s:", device);
  while (!found && fgets(line, sizeof line, f) != NULL) {
    const char *at = strstr(line, name);
    found = at != NULL &&
            sscanf(at + strlen(name), "%*u %*u %*u %*u %*u %*u %*u %*u %*u %llu", &tx) == 1;
  }
  fclose(f);
  ck_assert_msg(found, "%s", device);
  return tx;
}

static void send_out(void) {
  static uint8_t buf[512];
  const msock_packet p = {buf, sizeof buf, 128, 64};
  const msock_addr to = {.ip = msock_ip_v4(198, 51, 100, 7), .port = 9};
  msock_udp_send(msock_underlay_udp(u), MSOCK_PURPOSE_WG, &p, &to, 1);
}

/* closes: PRIV-12 */
START_TEST(a_missing_interface_means_no_socket_and_not_another_interface) {
  char device[IFNAMSIZ] = "";
  socklen_t len = sizeof device;
  run("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"); /* the kernel itself keeps quiet */
  run("ip link add other0 type veth peer name other0p && ip link set other0p up && ip addr add "
      "10.9.0.1/24 dev other0 && "
      "ip link set other0 up && ip route add default dev other0");
  const msock_addr to = {.ip = msock_ip_v4(198, 51, 100, 7), .port = 9};
  int fd = -1;
  start(false, 0, "up0");
  ck_assert_ptr_null(msock_underlay_udp(u));
  ck_assert_uint_eq(logged("udp.bind_failed addr=0.0.0.0:0 ipv6=off reason=\"No such device\""), 1);
  ck_assert_int_eq(msock_egress_tcp_connect(eg, MSOCK_PURPOSE_DERP, &to, &fd), MSOCK_ERR_IO);
  ck_assert_int_eq(errno, ENODEV);
  const uint64_t other = tx_packets("other0");

  run("ip link add up0 type veth peer name up0p && ip link set up0p up && ip addr add 10.8.0.1/24 "
      "dev up0 && ip link set up0 up");
  msock_underlay_network_changed(u, msock_loop_now_us());
  ck_assert_ptr_nonnull(msock_underlay_udp(u));
  ck_assert_int_eq(
      getsockopt(msock_udp_fd(msock_underlay_udp(u)), SOL_SOCKET, SO_BINDTODEVICE, device, &len),
      0);
  ck_assert_str_eq(device, "up0");
  send_out(); /* the only default route is the other's */
  ck_assert_uint_eq(tx_packets("other0"), other);
  run("ip route add 198.51.100.0/24 dev up0 && "
      "ip neigh replace 198.51.100.7 lladdr 02:00:00:00:00:01 dev up0");
  const uint64_t tx = tx_packets("up0");
  send_out();
  ck_assert_uint_eq(tx_packets("up0"), tx + 1);

  run("ip link del up0"); /* it goes away under an open socket */
  send_out();
  msock_underlay_network_changed(u, msock_loop_now_us());
  ck_assert_ptr_null(msock_underlay_udp(u));
  ck_assert_uint_eq(n_changed, 2);
  ck_assert_uint_eq(tx_packets("other0"), other);
}
END_TEST

int main(void) {
  if (geteuid() != 0) {
    printf("underlay_socket: skipped (needs root)\n");
    return 77;
  }
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, one_socket_takes_both_families);
  tcase_add_test(tc, without_the_gate_the_socket_is_ipv4);
  tcase_add_test(tc, a_refused_ipv6_bind_falls_back_with_one_warning);
  tcase_add_test(tc, a_taken_port_gives_way_to_a_fresh_one_on_a_rebind);
  tcase_add_test(tc, without_a_socket_it_is_tried_again_with_back_off);
  tcase_add_test(tc, the_first_retry_comes_by_itself);
  tcase_add_test(tc, a_missing_interface_means_no_socket_and_not_another_interface);
  return testing_main("underlay_socket", tc);
}
