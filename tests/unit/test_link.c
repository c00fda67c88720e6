/* The link monitor in a network namespace of its own: what is a change of network, and what is not.
 * Needs root; else skipped (77). */
#include "node/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/netlink.h"
#include "tests/unit/node_rig.h"

static msock_loop *loop;
static msock_egress *eg;
static msock_link *l;
static testing_log tlog;
static size_t changes;
static bool changed;

static void on_changed(void *ctx) {
  (void)ctx;
  changes++;
  changed = true;
}

static void run(const char *command) {
  ck_assert_msg(system(command) == 0, "%s", command);
}

/* eth0 with an address and a default route; tun0 stands for our own device. */
static void setup(void) {
  ck_assert(node_rig_enter_namespace());
  run("ip link add eth0 type veth peer name eth0p && ip link set eth0p up && ip addr add "
      "10.0.0.2/24 dev eth0 && ip link set eth0 up && "
      "ip route add default via 10.0.0.1 && ip link add tun0 type veth peer name tun0p && ip link "
      "set tun0p up && "
      "ip addr add 100.64.0.1/32 dev tun0 && ip link set tun0 up");
}

static void start(bool ipv6, const char *device) {
  msock_egress_config cfg = {.ipv6 = ipv6};
  snprintf(cfg.device, sizeof cfg.device, "%s", device);
  testing_log_init(&tlog);
  loop = msock_loop_new(NULL);
  eg = msock_egress_new(loop, &cfg, NULL);
  const msock_node_deps deps = {.loop = loop, .egress = eg, .log = &tlog.log};
  ck_assert_int_eq(msock_link_new(&deps, "tun0", on_changed, NULL, &l), MSOCK_OK);
}

static void teardown(void) {
  msock_link_free(l);
  msock_egress_free(eg);
  msock_loop_free(loop);
}

static bool seen_within(const char *command, uint64_t us) {
  const size_t before = changes;
  changed = false;
  run(command);
  io_test_run(loop, &changed, us);
  ck_assert_uint_le(changes - before, 1);
  return changes > before;
}

/* Whether a command is seen as one change of network, however busy the machine is. */
static bool is_change(const char *command) {
  return seen_within(command, 20 * MSOCK_SEC);
}

static bool is_no_change(const char *command) {
  return !seen_within(command, 3 * MSOCK_NETLINK_SETTLE_US);
}

static size_t n_addresses(void) {
  msock_ip ips[16];
  return msock_link_addresses(l, ips, 16);
}

START_TEST(addresses_default_routes_and_links) {
  start(false, "");
  ck_assert_uint_eq(n_addresses(), 1);
  ck_assert(is_change("ip addr add 10.0.0.3/24 dev eth0"));
  ck_assert_uint_eq(n_addresses(), 2);
  ck_assert(is_change("ip addr del 10.0.0.3/24 dev eth0"));
  ck_assert(is_change("ip route change default via 10.0.0.254"));
  ck_assert(is_change("ip link add wlan0 type veth peer name wlan0p && ip link set wlan0p up && ip "
                      "link set wlan0 up && "
                      "ip addr add 10.1.0.2/24 dev wlan0"));
  ck_assert(is_change("ip route replace default via 10.1.0.1 dev wlan0")); /* wifi takes over */
  ck_assert(is_change("ip route del default"));
  ck_assert(is_change("ip route add default dev wlan0")); /* no gateway: a modem */
  ck_assert(is_change("ip link set wlan0 down"));         /* it keeps its address */
  ck_assert_uint_eq(n_addresses(), 1);
  ck_assert(is_change("ip link set wlan0 up"));
  ck_assert_uint_eq(n_addresses(), 2);
  ck_assert(is_change("ip link del wlan0"));
}
END_TEST

START_TEST(a_burst_is_one_change) {
  start(false, "");
  ck_assert(is_change("ip link set eth0 down && ip addr flush dev eth0 && "
                      "ip addr add 10.5.0.2/24 dev eth0 && ip link set eth0 up && "
                      "ip route add default via 10.5.0.1"));
}
END_TEST

START_TEST(what_is_no_change) {
  start(false, "");
  ck_assert(is_no_change("ip route add 192.0.2.0/24 via 10.0.0.1"));
  ck_assert(is_no_change("ip route del 192.0.2.0/24"));
  ck_assert(is_no_change("ip addr add 100.64.0.9/32 dev tun0"));     /* ours */
  ck_assert(is_no_change("ip route add default dev tun0 metric 1")); /* an exit node's, ours too */
  ck_assert(is_no_change("ip link set tun0 down"));
  ck_assert(
      is_no_change("ip link add br0 type veth peer name br0p && ip link set br0p up && ip link "
                   "set br0 up"));                                         /* link-local only */
  ck_assert(is_no_change("ip -6 addr add 2001:db8::2/64 dev eth0 nodad")); /* IPv6 is off */
  ck_assert(is_no_change("ip link set eth0 mtu 1400"));
  ck_assert(is_no_change("ip link set eth0p down")); /* the carrier alone */
}
END_TEST

START_TEST(ipv6_counts_where_it_may_be_used) {
  start(true, "");
  ck_assert(is_change("ip -6 addr add 2001:db8::2/64 dev eth0 nodad"));
  ck_assert_uint_eq(n_addresses(), 2);
  ck_assert(is_change("ip -6 route add default via 2001:db8::1 dev eth0"));
  ck_assert(is_no_change(
      "ip link add br0 type veth peer name br0p && ip link set br0p up && ip link set br0 up"));
}
END_TEST

/* PRIV-12's other half: what we tell of ourselves is of that interface. */
START_TEST(with_a_configured_interface_no_other_one_counts) {
  msock_ip ips[16];
  start(false, "eth0");
  ck_assert(is_no_change("ip link add wlan0 type veth peer name wlan0p && ip link set wlan0p up && "
                         "ip link set wlan0 up && "
                         "ip addr add 10.1.0.2/24 dev wlan0"));
  ck_assert_uint_eq(msock_link_addresses(l, ips, 16), 1);
  const msock_ip want = msock_ip_v4(10, 0, 0, 2);
  ck_assert(msock_ip_equal(&ips[0], &want));
  ck_assert(is_change("ip link del eth0"));
  ck_assert_uint_eq(n_addresses(), 0);
}
END_TEST

int main(void) {
  if (geteuid() != 0) {
    printf("link: skipped (needs root)\n");
    return 77;
  }
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_set_timeout(tc, 60);
  tcase_add_test(tc, addresses_default_routes_and_links);
  tcase_add_test(tc, a_burst_is_one_change);
  tcase_add_test(tc, what_is_no_change);
  tcase_add_test(tc, ipv6_counts_where_it_may_be_used);
  tcase_add_test(tc, with_a_configured_interface_no_other_one_counts);
  return testing_main("link", tc);
}
