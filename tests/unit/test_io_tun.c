/* TUN and netlink in a network namespace of our own. Needs root; else skipped (77). */
#include "tests/unit/io_testing.h"

#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "io/netlink.h"
#include "io/tun.h"
#include "tests/unit/testing.h"

static msock_loop *loop;
static msock_egress *eg;
static msock_tun *tun;
static msock_netlink *nl;
static bool done;
static uint8_t got[2048];
static size_t got_len;

/* The first UDP packet over IPv4; the kernel's own chatter is passed over. */
static void on_packets(void *ctx, msock_packet *pkts, size_t n, uint64_t now_us) {
  (void)ctx;
  (void)now_us;
  for (size_t i = 0; i < n; i++) {
    const uint8_t *p = msock_packet_data(&pkts[i]);
    ck_assert_uint_eq(pkts[i].off, MSOCK_PACKET_HEADROOM);
    ck_assert_uint_ge(pkts[i].cap, pkts[i].off + pkts[i].len + MSOCK_PACKET_TAILROOM);
    if (!done && pkts[i].len >= 28 && p[0] == 0x45 && p[9] == IPPROTO_UDP) {
      memcpy(got, p, pkts[i].len);
      got_len = pkts[i].len;
      done = true;
    }
  }
}

static void setup(void) {
  char why[MSOCK_TUN_WHY_MAX] = "";
  ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
  loop = msock_loop_new(NULL);
  eg = io_test_egress(loop, MSOCK_PROFILE_FULL, false);
  ck_assert_msg(msock_tun_open(loop, "tsnode%d", on_packets, NULL, &tun, why) == MSOCK_OK, "%s",
                why);
  ck_assert_str_eq(msock_tun_name(tun), "tsnode0");
  ck_assert_int_eq(msock_netlink_new(eg, "tsnode0", &nl), MSOCK_OK);
}

static void teardown(void) {
  msock_netlink_free(nl);
  msock_tun_free(tun);
  msock_egress_free(eg);
  msock_loop_free(loop);
}

static msock_prefix prefix(const char *text) {
  msock_prefix p;
  ck_assert_int_eq(msock_prefix_parse(text, &p), MSOCK_OK);
  return p;
}

static void bring_up(void) {
  const msock_prefix addr = prefix("100.64.0.1/32");
  ck_assert_msg(msock_netlink_set_mtu(nl, 1280) == MSOCK_OK, "%s", msock_netlink_why(nl));
  ck_assert_msg(msock_netlink_set_addresses(nl, &addr, 1) == MSOCK_OK, "%s", msock_netlink_why(nl));
  ck_assert_msg(msock_netlink_set_up(nl, true) == MSOCK_OK, "%s", msock_netlink_why(nl));
}

/* Whether the kernel routes a datagram for ip to the device. */
static bool reaches(const char *ip) {
  msock_addr to = {.port = 9};
  int fd = -1;
  const msock_addr any = {.ip = msock_ip_v4(0, 0, 0, 0)};
  ck_assert_int_eq(msock_ip_parse(ip, &to.ip), MSOCK_OK);
  ck_assert_int_eq(msock_egress_udp_bind(eg, MSOCK_PURPOSE_WG, &any, &fd, NULL), MSOCK_OK);
  const msock_err err = msock_egress_sendto(eg, MSOCK_PURPOSE_WG, fd, &to, "abc", 3);
  close(fd);
  if (err != MSOCK_OK) {
    return false;
  }
  done = false;
  return io_test_run(loop, &done, 2 * MSOCK_SEC);
}

START_TEST(routes_follow_the_set) {
  const msock_prefix first[] = {prefix("100.64.0.2/32"), prefix("10.20.0.0/16")};
  const msock_prefix second[] = {prefix("10.20.0.0/16"), prefix("10.30.0.0/16")};
  bring_up();
  ck_assert(!reaches("100.64.0.2"));
  ck_assert_msg(msock_netlink_set_routes(nl, first, 2, 0) == MSOCK_OK, "%s", msock_netlink_why(nl));
  ck_assert(reaches("100.64.0.2"));
  ck_assert_uint_eq(got_len, 31);
  ck_assert_mem_eq(got + 28, "abc", 3);
  ck_assert(reaches("10.20.1.1"));
  ck_assert_int_eq(msock_netlink_set_routes(nl, second, 2, 0), MSOCK_OK);
  ck_assert(!reaches("100.64.0.2"));
  ck_assert(reaches("10.20.1.1"));
  ck_assert(reaches("10.30.1.1"));
  ck_assert_int_eq(msock_netlink_set_routes(nl, NULL, 0, 0), MSOCK_OK);
  ck_assert(!reaches("10.30.1.1"));
}
END_TEST

START_TEST(addresses_follow_the_set) {
  const msock_prefix two[] = {prefix("100.64.0.1/32"), prefix("fd7a:115c:a1e0::1/128")};
  const msock_prefix other = prefix("100.64.0.7/32");
  msock_netlink_addr list[8];
  size_t n = 0;
  bring_up();
  const msock_err err = msock_netlink_set_addresses(nl, two, 2);
  ck_assert_msg(err == MSOCK_OK, "%s", msock_netlink_why(nl));
  ck_assert_int_eq(msock_netlink_set_addresses(nl, &other, 1), MSOCK_OK);
  ck_assert_int_eq(msock_netlink_list_addresses(eg, NULL, list, 8, &n), MSOCK_OK);
  size_t v4 = 0;
  for (size_t i = 0; i < n; i++) {
    ck_assert_str_eq(list[i].ifname, "tsnode0");
    if (list[i].ip.family == 4) {
      v4++;
      ck_assert(msock_ip_equal(&list[i].ip, &other.ip));
      ck_assert_uint_eq(list[i].bits, 32);
    }
  }
  ck_assert_uint_eq(v4, 1);
  ck_assert_int_eq(msock_netlink_list_addresses(eg, "tsnode0", list, 8, &n), MSOCK_OK);
  ck_assert_uint_eq(n, 0);
}
END_TEST

static uint16_t header_sum(const uint8_t *p) {
  uint32_t sum = 0;
  for (size_t i = 0; i < 20; i += 2) {
    sum += (uint32_t)p[i] << 8 | p[i + 1];
  }
  sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t) ~((sum & 0xffff) + (sum >> 16));
}

START_TEST(a_written_packet_reaches_a_socket) {
  uint8_t buf[256] = {0};
  uint8_t *p = buf + MSOCK_PACKET_HEADROOM;
  const msock_addr on = {.ip = msock_ip_v4(100, 64, 0, 1), .port = 7777};
  const msock_prefix peer = prefix("100.64.0.2/32");
  int fd = -1;
  char in[16];
  bring_up();
  ck_assert_int_eq(msock_netlink_set_routes(nl, &peer, 1, 0), MSOCK_OK);
  ck_assert_int_eq(msock_egress_udp_bind(eg, MSOCK_PURPOSE_WG, &on, &fd, NULL), MSOCK_OK);
  const uint8_t head[28] = {0x45, 0, 0,   31, 0, 0, 0, 0, 64,   17,   0, 0,  100, 64,
                            0,    2, 100, 64, 0, 1, 4, 0, 0x1e, 0x61, 0, 11, 0,   0};
  memcpy(p, head, sizeof head);
  memcpy(p + 28, "xyz", 3);
  const uint16_t sum = header_sum(p);
  p[10] = (uint8_t)(sum >> 8);
  p[11] = (uint8_t)sum;
  const msock_packet pkt = {.buf = buf, .cap = sizeof buf, .off = MSOCK_PACKET_HEADROOM, .len = 31};
  ck_assert_uint_eq(msock_tun_write(tun, &pkt, 1), 1);
  ck_assert_int_eq(recv(fd, in, sizeof in, 0), 3);
  ck_assert_mem_eq(in, "xyz", 3);
  ck_assert_uint_eq(msock_tun_get_stats(tun)->tx_packets, 1);
  ck_assert_int_eq(msock_netlink_set_up(nl, false), MSOCK_OK);
  ck_assert_uint_eq(msock_tun_write(tun, &pkt, 1), 0); /* down: dropped and counted */
  ck_assert_uint_eq(msock_tun_get_stats(tun)->tx_dropped, 1);
  close(fd);
}
END_TEST

static void on_changed(void *ctx) {
  (void)ctx;
  done = true;
}

START_TEST(the_monitor_tells_of_a_burst_once) {
  msock_netlink_monitor *m = NULL;
  ck_assert_int_eq(msock_netlink_monitor_new(eg, on_changed, NULL, &m), MSOCK_OK);
  const uint64_t began_us = msock_loop_now_us();
  bring_up();
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  ck_assert_uint_ge(msock_loop_now_us() - began_us, MSOCK_NETLINK_SETTLE_US);
  msock_netlink_monitor_free(m);
}
END_TEST

START_TEST(errors_name_the_device) {
  msock_netlink *other = NULL;
  char why[MSOCK_TUN_WHY_MAX] = "";
  msock_tun *t = NULL;
  const msock_prefix v6 = prefix("fd7a:115c:a1e0::/48");
  ck_assert_int_eq(msock_netlink_new(eg, "nosuch0", &other), MSOCK_ERR_IO);
  ck_assert_ptr_nonnull(strstr(msock_netlink_why(other), "nosuch0"));
  msock_netlink_free(other);
  ck_assert_int_ne(msock_tun_open(loop, "a-name-that-is-too-long", on_packets, NULL, &t, why),
                   MSOCK_OK);
  ck_assert_ptr_nonnull(strstr(why, "too long"));
  ck_assert_int_eq(msock_tun_open(loop, "tsnode0", on_packets, NULL, &t, why), MSOCK_ERR_IO);
  ck_assert_ptr_nonnull(strstr(why, "another program"));
  ck_assert_int_eq(msock_netlink_set_routes(nl, &v6, 1, 0), MSOCK_ERR_IO); /* the link is down */
  ck_assert_ptr_nonnull(strstr(msock_netlink_why(nl), "fd7a:115c:a1e0::/48"));
}
END_TEST

START_TEST(no_default_route_is_told) {
  msock_netlink_route route;
  ck_assert_int_eq(msock_netlink_default_route(eg, 4, NULL, &route), MSOCK_ERR_UNKNOWN);
  ck_assert_int_eq(msock_netlink_default_route(eg, 6, NULL, &route), MSOCK_ERR_UNKNOWN);
}
END_TEST

int main(void) {
  if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
    printf("io_tun: skipped (needs root and /dev/net/tun)\n");
    return 77;
  }
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, routes_follow_the_set);
  tcase_add_test(tc, addresses_follow_the_set);
  tcase_add_test(tc, a_written_packet_reaches_a_socket);
  tcase_add_test(tc, the_monitor_tells_of_a_burst_once);
  tcase_add_test(tc, errors_name_the_device);
  tcase_add_test(tc, no_default_route_is_told);
  return testing_main("io_tun", tc);
}
