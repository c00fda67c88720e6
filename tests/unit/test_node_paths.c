/* Whole nodes on the loopback: what is bridged between the socket and the data plane, what a rebind
 * keeps, and what a node without a socket does. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disco/disco.h"
#include "node/echo.h"
#include "tests/unit/node_rig.h"

#define CANDIDATES_MAX 16u

static node_rig *r;

static void setup(void) {
  r = node_rig_new();
}

static void teardown(void) {
  node_rig_free(r);
}

static msock_node *node(size_t i) {
  return r->node[i].n;
}

static msock_engine *engine(size_t i) {
  return msock_paths_engine(node(i)->paths);
}

static msock_udp *udp(size_t i) {
  return msock_underlay_udp(node(i)->underlay);
}

static const msock_dataplane_counters *plane(size_t i) {
  return msock_dataplane_counters_get(node(i)->plane);
}

static bool know_each_other(node_rig *rig) {
  return node_rig_running(rig, 0) && node_rig_running(rig, 1) &&
         node_rig_path_id(rig, 0, 1) != MSOCK_ENGINE_PEER_NONE &&
         node_rig_path_id(rig, 1, 0) != MSOCK_ENGINE_PEER_NONE;
}

static msock_ip known_ip[NODE_RIG_NODES]; /* of nodes that have stopped as well */

static msock_ip tunnel_ip(size_t i) {
  if (node(i) == NULL) {
    return known_ip[i];
  }
  const msock_peer *self =
      msock_netmap_self(msock_control_netmap(msock_control_link_machine(node(i)->control)));
  known_ip[i] = self->addresses[0].ip;
  return known_ip[i];
}

/* --- traffic through the tunnel: ICMP echo, which a node without TUN answers itself --- */

static size_t n_echoed;

static void count_echo(void *ctx, const uint8_t *p, size_t len) {
  (void)ctx;
  n_echoed += len > 20 && p[9] == 1 && p[20] == 0; /* a reply over IPv4 */
}

/* n <= MSOCK_BATCH_MAX echo requests, as a TUN would give them. */
static void echo(size_t from, size_t to, uint16_t first, size_t n) {
  static uint8_t slots[MSOCK_BATCH_MAX][512];
  const msock_ip src = tunnel_ip(from), dst = tunnel_ip(to);
  const uint8_t payload[100] = {1, 2, 3};
  msock_packet p[MSOCK_BATCH_MAX];
  for (size_t i = 0; i < n; i++) {
    p[i] = (msock_packet){.buf = slots[i], .cap = sizeof slots[i], .off = MSOCK_PACKET_HEADROOM};
    p[i].len = (uint32_t)msock_echo_request(slots[i] + p[i].off, 256, &src, &dst, 7,
                                            (uint16_t)(first + i), payload, sizeof payload);
  }
  msock_dataplane_set_tap(node(from)->plane, count_echo);
  msock_dataplane_on_tun(node(from)->plane, p, n, msock_loop_now_us());
}

static size_t wanted;

static bool all_echoed(node_rig *rig) {
  (void)rig;
  return n_echoed >= wanted;
}

/* One echo there and back; repeated, because the first may wait for a session. */
static bool talks(size_t from, size_t to) {
  wanted = n_echoed + 1;
  for (int k = 0; k < 20 && n_echoed < wanted; k++) {
    echo(from, to, 0, 1);
    node_rig_turns(r, 100 * MSOCK_MS);
  }
  return n_echoed >= wanted;
}

static bool direct_both_ways(node_rig *rig) {
  return know_each_other(rig) && node_rig_direct(rig, 0, 1) && node_rig_direct(rig, 1, 0);
}

/* Two nodes that run, with a path and a session; flags of node 0. */
static void start_pair(const char *const *flags) {
  node_rig_start(r, 0, NULL, flags);
  node_rig_start(r, 1, NULL, NULL);
  ck_assert(node_rig_wait(r, know_each_other));
  ck_assert(talks(0, 1));
}

static void start_direct_pair(const char *const *flags) {
  start_pair(flags);
  ck_assert(node_rig_wait(r, direct_both_ways));
}

/* closes: T08 */
START_TEST(ten_thousand_datagrams_each_way) {
  enum { COUNT = 10000 };
  start_direct_pair(NULL);
  const msock_dataplane_counters before[2] = {*plane(0), *plane(1)};
  const uint64_t rx[2] = {msock_udp_get_stats(udp(0))->rx_packets,
                          msock_udp_get_stats(udp(1))->rx_packets};
  n_echoed = wanted = 0;
  for (size_t sent = 0; sent < COUNT; sent += wanted - sent) { /* a batch fits any socket buffer */
    const size_t n = COUNT - sent < MSOCK_BATCH_MAX ? COUNT - sent : MSOCK_BATCH_MAX;
    wanted = sent + n;
    echo(0, 1, (uint16_t)sent, n);
    ck_assert_msg(node_rig_wait(r, all_echoed), "lost after %zu", n_echoed);
  }
  ck_assert_uint_eq(n_echoed, COUNT);
  for (size_t i = 0; i < 2; i++) { /* by the transport, not by the relay */
    ck_assert_uint_ge(plane(i)->tx_direct_packets - before[i].tx_direct_packets, COUNT);
    ck_assert_uint_ge(plane(i)->rx_direct_packets - before[i].rx_direct_packets, COUNT);
    ck_assert_uint_ge(msock_udp_get_stats(udp(i))->rx_packets - rx[i], COUNT);
  }
}
END_TEST

/* Datagrams of all kinds of nonsense, some of them with a plausible first bytes. */
static void throw_rubbish(const msock_addr *to, size_t n) {
  static const uint8_t heads[4][8] = {{'T', 'S', 0xf0, 0x9f, 0x92, 0xac},
                                      {1, 0, 0, 0},
                                      {4, 0, 0, 0},
                                      {1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42}};
  const msock_addr any = io_test_local(0);
  uint8_t b[1500];
  int fd = -1;
  ck_assert_int_eq(msock_egress_udp_bind(r->egress, MSOCK_PURPOSE_WG, &any, &fd, NULL), MSOCK_OK);
  for (size_t i = 0; i < n; i++) {
    r->env.random(r->env.ctx, b, sizeof b);
    if (i % 2 == 0) {
      memcpy(b, heads[i / 2 % 4], sizeof heads[0]);
    }
    ck_assert_int_eq(msock_egress_sendto(r->egress, MSOCK_PURPOSE_WG, fd, to, b,
                                         msock_env_uniform(&r->env, sizeof b + 1)),
                     MSOCK_OK);
    if (i % 32 == 31) {
      msock_loop_turn(r->loop, false);
    }
  }
  node_rig_turns(r, 50 * MSOCK_MS);
  ck_assert_int_eq(recv(fd, b, sizeof b, MSG_DONTWAIT), -1); /* no reply of any kind */
  close(fd);
}

static void local_firewall(bool drop, uint16_t port) {
  char cmd[256];
  if (drop) {
    snprintf(cmd, sizeof cmd,
             "nft 'table inet t { chain o { type filter hook output priority 0; udp sport %u drop; "
             "}; }'",
             port);
  } else {
    snprintf(cmd, sizeof cmd, "nft delete table inet t");
  }
  ck_assert_int_eq(system(cmd), 0);
}

/* closes: T09 PRIV-10 (fuzzed) */
START_TEST(neither_rubbish_nor_a_refused_send_stops_the_bridge) {
  start_direct_pair(NULL);
  msock_addr at = msock_udp_local(udp(0));
  at.ip = msock_ip_v4(127, 0, 0, 1);
  const uint64_t rx = msock_udp_get_stats(udp(0))->rx_packets;
  throw_rubbish(&at, 1000);
  ck_assert_uint_ge(msock_udp_get_stats(udp(0))->rx_packets - rx, 1000);
  ck_assert(talks(1, 0));
  ck_assert(node_rig_direct(r, 1, 0));
  if (!r->own_namespace) {
    return; /* no firewall of our own: the engine's half is test_engine_trust's */
  }
  local_firewall(true, at.port);
  const uint64_t refused = msock_udp_get_stats(udp(0))->tx_fault[MSOCK_UDP_FAULT_LOST];
  echo(0, 1, 0, 8); /* EPERM, each of them; the node asks for another socket, not twice */
  ck_assert_uint_ge(msock_udp_get_stats(udp(0))->tx_fault[MSOCK_UDP_FAULT_LOST], refused + 8);
  local_firewall(false, 0);
  ck_assert(talks(0, 1));
  ck_assert(talks(1, 0));
  ck_assert(node_rig_wait(r, direct_both_ways));
}
END_TEST

static size_t baseline_fds;

static bool fds_are_back(node_rig *rig) {
  (void)rig;
  return node_rig_open_fds() <= baseline_fds;
}

/* closes: T10 T52 */
START_TEST(a_node_that_stops_in_full_traffic_ends_within_a_second_and_closes_all) {
  node_rig_start(r, 0, NULL, NULL);
  node_rig_turns(r, 500 * MSOCK_MS); /* its connections stand */
  baseline_fds = node_rig_open_fds();
  node_rig_start(r, 1, NULL, NULL);
  ck_assert(node_rig_wait(r, know_each_other));
  ck_assert(talks(0, 1));
  ck_assert(node_rig_wait(r, direct_both_ways));
  ck_assert_uint_gt(node_rig_open_fds(), baseline_fds);
  for (uint16_t k = 0; k < 20; k++) { /* in its socket, in its data plane, on the way to it */
    echo(0, 1, (uint16_t)(k * MSOCK_BATCH_MAX), MSOCK_BATCH_MAX);
    echo(1, 0, (uint16_t)(k * MSOCK_BATCH_MAX), MSOCK_BATCH_MAX);
  }
  const uint64_t began = msock_loop_now_us();
  node_rig_stop(r, 1);
  ck_assert(node_rig_wait(r, fds_are_back)); /* the server's ends of its connections with it */
  ck_assert_uint_le(msock_loop_now_us() - began, 1 * MSOCK_SEC);
  for (uint16_t k = 0; k < 20; k++) { /* the other goes on, also towards the one that is gone */
    echo(0, 1, k, 8);
    node_rig_turns(r, 5 * MSOCK_MS);
  }
  ck_assert(node_rig_running(r, 0));
  node_rig_start(r, 1, NULL, NULL); /* and it can come back */
  ck_assert(node_rig_wait(r, know_each_other));
  ck_assert(talks(0, 1));
}
END_TEST

static uint64_t pings_before;

static bool probed(node_rig *rig) {
  (void)rig;
  return msock_engine_counters_get(engine(0)).tx_ping > pings_before;
}

static size_t addresses(msock_addr *out) {
  msock_engine_candidate c[CANDIDATES_MAX];
  const size_t n = msock_engine_candidates(engine(0), node_rig_path_id(r, 0, 1), c, CANDIDATES_MAX);
  ck_assert_uint_le(n, CANDIDATES_MAX);
  for (size_t i = 0; i < n; i++) {
    out[i] = c[i].addr;
  }
  return n;
}

/* The reflexive address that goes with it is test_engine_trust's.
 * closes: PATH-21 PATH-22 T07 */
START_TEST(a_rebind_is_a_new_socket_on_the_same_port_and_probes_at_once) {
  msock_addr before[CANDIDATES_MAX], after[CANDIDATES_MAX];
  msock_engine_transport tr;
  start_direct_pair(NULL);
  const uint64_t inode = node_rig_inode(msock_udp_fd(udp(0)));
  const uint16_t port = msock_udp_local(udp(0)).port;
  const size_t n = addresses(before);
  ck_assert_uint_ge(n, 1);
  echo(0, 1, 1, 1); /* somebody cares */
  pings_before = msock_engine_counters_get(engine(0)).tx_ping;
  const uint64_t t = msock_loop_now_us();
  msock_underlay_rebind(node(0)->underlay, t);
  ck_assert_uint_ne(node_rig_inode(msock_udp_fd(udp(0))), inode);
  ck_assert_uint_eq(msock_udp_local(udp(0)).port, port);
  ck_assert(!node_rig_direct(r, 0, 1));
  ck_assert_uint_eq(addresses(after), n);
  for (size_t i = 0; i < n; i++) {
    ck_assert(msock_addr_equal(&before[i], &after[i]));
  }
  ck_assert(node_rig_wait(r, probed));
  ck_assert_uint_le(msock_loop_now_us() - t, 100 * MSOCK_MS);
  ck_assert(node_rig_wait(r, direct_both_ways)); /* pongs came in on the new socket */
  ck_assert_uint_gt(msock_udp_get_stats(udp(0))->rx_packets, 0);
  const uint64_t in = plane(0)->rx_direct_packets;
  ck_assert(talks(1, 0)); /* and data, which the peer sends first */
  ck_assert_uint_gt(plane(0)->rx_direct_packets, in);
  const size_t fds = node_rig_open_fds(); /* however often: one socket, one transport */
  for (int k = 0; k < 10; k++) {
    msock_underlay_rebind(node(0)->underlay, msock_loop_now_us());
    node_rig_turns(r, 1 * MSOCK_MS);
    ck_assert_uint_eq(node_rig_open_fds(), fds);
  }
  ck_assert(msock_engine_transport_get(engine(0), &tr));
  ck_assert_uint_eq(tr.id, 1);
  ck_assert_uint_eq(tr.rebinds, 12);
}
END_TEST

static uint64_t inode_before;

static bool another_socket(node_rig *rig) {
  (void)rig;
  return udp(0) != NULL && node_rig_inode(msock_udp_fd(udp(0))) != inode_before;
}

START_TEST(a_change_of_network_is_a_rebind_and_a_new_search) {
  static const char *const changes[] = {
      "ip link add eth0 type veth peer name eth0p && ip link set eth0p up && "
      "ip addr add 10.0.0.2/24 dev eth0 && ip link set eth0 up && "
      "ip route add default via 10.0.0.1",
      "ip route change default via 10.0.0.254", "ip link set eth0 down"};
  if (!r->own_namespace) {
    return;
  }
  start_direct_pair(NULL);
  for (size_t k = 0; k < sizeof changes / sizeof *changes; k++) {
    inode_before = node_rig_inode(msock_udp_fd(udp(0)));
    const uint16_t port = msock_udp_local(udp(0)).port;
    ck_assert_int_eq(system(changes[k]), 0);
    ck_assert(node_rig_wait(r, another_socket));
    ck_assert_uint_eq(msock_udp_local(udp(0)).port, port);
    ck_assert_uint_eq(node_rig_lines(r, 0, "link.changed", NULL), k + 1);
    ck_assert(node_rig_wait(r, direct_both_ways));
    ck_assert(talks(0, 1));
  }
}
END_TEST

/* --- no socket --- */

static bool is_bound(node_rig *rig) {
  (void)rig;
  return udp(0) != NULL;
}

/* closes: T05 T06 T17 T51 T54 NC-23 PATH-23 */
START_TEST(without_a_socket_a_node_runs_on_relays_and_binds_later) {
  char flag[32];
  msock_addr taken;
  int squatter = -1;
  msock_engine_transport tr;
  uint32_t ids[4];
  const msock_addr any = {.ip = msock_ip_v4(0, 0, 0, 0)};
  ck_assert_int_eq(msock_egress_udp_bind(r->egress, MSOCK_PURPOSE_WG, &any, &squatter, &taken),
                   MSOCK_OK);
  snprintf(flag, sizeof flag, "--port=%u", taken.port);
  const char *flags[] = {flag, NULL};
  node_rig_start(r, 0, NULL, flags);
  ck_assert_ptr_null(udp(0));
  ck_assert(!msock_engine_transport_get(engine(0), &tr));
  node_rig_start(r, 1, NULL, NULL); /* its netmap is followed: the other joins now */
  ck_assert(node_rig_wait(r, know_each_other));
  ck_assert(talks(0, 1));
  ck_assert(talks(1, 0));
  msock_route route;
  msock_engine_route(engine(0), node_rig_path_id(r, 0, 1), msock_loop_now_us(), &route);
  ck_assert_int_eq(route.via, MSOCK_VIA_DERP);
  ck_assert_uint_eq(msock_engine_direct_peers(engine(0), msock_loop_now_us(), ids, 4), 0);
  ck_assert_uint_eq(plane(0)->tx_direct_packets, 0);
  msock_underlay_rebind(node(0)->underlay, msock_loop_now_us()); /* a no-op: the retry waits */
  ck_assert_ptr_null(udp(0));
  char at[64];
  snprintf(at, sizeof at, "addr=0.0.0.0:%u ", taken.port);
  ck_assert_uint_eq(node_rig_lines(r, 0, "error ", NULL), 1); /* the one error line */
  ck_assert_uint_eq(node_rig_lines(r, 0, "error ", "udp.bind_failed", at, "ipv6=off",
                                   "reason=\"Address already in use\"", NULL),
                    1);
  close(squatter);
  ck_assert(node_rig_wait(r, is_bound));
  ck_assert_uint_eq(msock_udp_local(udp(0)).port, taken.port);
  ck_assert(node_rig_wait(r, direct_both_ways));
  ck_assert_uint_eq(node_rig_lines(r, 0, "error ", NULL), 1);
}
END_TEST

/* --- families and interfaces --- */

static void write_file(const char *path, const char *text) {
  FILE *f = fopen(path, "w");
  ck_assert_ptr_nonnull(f);
  ck_assert_int_ge(fputs(text, f), 0);
  ck_assert_int_eq(fclose(f), 0);
}

/* closes: T04 T54 PRIV-03 */
START_TEST(where_ipv6_is_switched_off_the_node_starts_on_ipv4_with_one_warning) {
  static const char *const flags[] = {"--ipv6=true", NULL};
  if (!r->own_namespace) {
    return; /* the switch of this machine is not ours */
  }
  write_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
  start_direct_pair(flags);
  ck_assert_uint_eq(msock_udp_local(udp(0)).ip.family, 4);
  msock_underlay_rebind(node(0)->underlay, msock_loop_now_us());
  ck_assert(node_rig_wait(r, direct_both_ways));
  ck_assert_uint_eq(node_rig_lines(r, 0, "udp.no_ipv6", NULL), 1);
  ck_assert_uint_eq(node_rig_lines(r, 0, "warn ", "udp.no_ipv6", "addr=[::]:0 ", "ipv6=on",
                                   "reason=\"Address family not supported by protocol\"", NULL),
                    1);
  ck_assert_uint_eq(node_rig_lines(r, 0, "error ", NULL), 0);
}
END_TEST

/* closes: PATH-42 (on a socket) */
START_TEST(on_a_dual_stack_socket_ipv4_peers_are_ipv4_candidates) {
  static const char *const flags[] = {"--ipv6=true", NULL};
  msock_addr c[CANDIDATES_MAX];
  start_direct_pair(flags);
  ck_assert_uint_eq(msock_udp_local(udp(0)).ip.family, 6);
  const size_t n = addresses(c);
  for (size_t i = 0; i < n; i++) { /* as control lists them, and as their pings come: one entry */
    ck_assert_uint_eq(c[i].ip.family, 4);
    for (size_t k = 0; k < i; k++) {
      ck_assert(!msock_addr_equal(&c[i], &c[k]));
    }
  }
  ck_assert(talks(0, 1));
  ck_assert(talks(1, 0));
}
END_TEST

static bool direct_by_ipv6(node_rig *rig) {
  msock_route route;
  if (!direct_both_ways(rig)) {
    return false;
  }
  msock_engine_route(engine(0), node_rig_path_id(rig, 0, 1), msock_loop_now_us(), &route);
  return route.addr.ip.family == 6;
}

/* Which family wins on one machine is noise: a few microseconds of latency. */
static bool direct_and_ipv6_confirmed(node_rig *rig) {
  msock_engine_candidate list[16];
  const size_t cap = sizeof list / sizeof *list;
  const size_t n = msock_engine_candidates(engine(0), node_rig_path_id(rig, 0, 1), list, cap);
  bool confirmed = false;
  for (size_t i = 0; i < n && i < cap; i++) {
    confirmed = confirmed || (list[i].addr.ip.family == 6 && list[i].last_pong_us != 0);
  }
  return confirmed && direct_both_ways(rig);
}

START_TEST(with_ipv6_on_both_sides_its_path_is_confirmed) {
  static const char *const flags[] = {"--ipv6=true", "--allow-loopback=false", NULL};
  msock_endpoint ep[MSOCK_ENGINE_SELF_MAX];
  bool told = false;
  if (!r->own_namespace) {
    return;
  }
  node_rig_free(r);
  r = node_rig_new_at("203.0.113.5");
  ck_assert_int_eq(system("ip addr add 2001:db8::5/128 dev lo nodad"), 0);
  node_rig_start(r, 0, NULL, flags);
  node_rig_start(r, 1, NULL, flags);
  ck_assert(node_rig_wait(r, know_each_other));
  ck_assert(talks(0, 1));
  ck_assert(node_rig_wait(r, direct_and_ipv6_confirmed));
  ck_assert(talks(1, 0));
  const size_t n = msock_engine_self_endpoints(engine(0), ep);
  for (size_t i = 0; i < n; i++) {
    told = told || (ep[i].addr.ip.family == 6 && ep[i].addr.port == msock_udp_local(udp(0)).port);
  }
  ck_assert(told);
  node_rig_stop(r, 1); /* a peer without IPv6 is reached by IPv4 */
  node_rig_start(r, 1, NULL, &flags[1]);
  ck_assert(node_rig_wait(r, direct_both_ways));
  ck_assert(!direct_by_ipv6(r));
  ck_assert(talks(0, 1));
}
END_TEST

static bool measured_over_ipv6(node_rig *rig) {
  const msock_home_report *h = msock_home_report_of(msock_homing_machine(node(0)->homing));
  (void)rig;
  return h->udp && h->ipv6;
}

/* Control, relay, STUN and the direct path, where there is no IPv4 but the loopback's. */
START_TEST(a_network_of_ipv6_alone_will_do) {
  static const char *const flags[] = {"--ipv6=true", "--allow-loopback=false", NULL};
  msock_ip ip;
  if (!r->own_namespace) {
    return;
  }
  node_rig_free(r);
  r = node_rig_new_at("2001:db8::7");
  ck_assert_int_eq(msock_ip_parse(r->host, &ip), MSOCK_OK);
  node_rig_start(r, 0, NULL, flags);
  node_rig_start(r, 1, NULL, flags);
  ck_assert(node_rig_wait(r, know_each_other));
  ck_assert(talks(0, 1)); /* by relay at first */
  ck_assert(node_rig_wait(r, measured_over_ipv6));
  const msock_home_report *h = msock_home_report_of(msock_homing_machine(node(0)->homing));
  ck_assert(msock_ip_equal(&h->global_v6.ip, &ip));
  ck_assert_uint_eq(h->global_v6.port, msock_udp_local(udp(0)).port); /* from the one socket */
  ck_assert(!h->ipv4);
  ck_assert(node_rig_wait(r, direct_by_ipv6));
  ck_assert(talks(1, 0));
}
END_TEST

/* The record of node 0 as it should be: what its engine published. */
static bool record_is_right(node_rig *rig) {
  msock_endpoint ep[MSOCK_ENGINE_SELF_MAX];
  char want[1024], addr[MSOCK_ADDR_TEXT_MAX];
  const size_t n = msock_engine_self_endpoints(engine(0), ep);
  int at = snprintf(want, sizeof want, "node=n0 endpoints=[");
  for (size_t i = 0; i < n; i++) {
    at += snprintf(want + at, sizeof want - (size_t)at, "%s\"%s\"", i ? "," : "",
                   msock_addr_text(&ep[i].addr, addr));
  }
  at += snprintf(want + at, sizeof want - (size_t)at, "] types=[");
  for (size_t i = 0; i < n; i++) {
    at += snprintf(want + at, sizeof want - (size_t)at, "%s%d", i ? "," : "", (int)ep[i].type);
  }
  snprintf(want + at, sizeof want - (size_t)at, "]");
  return n > 0 && strcmp(rig->told[0], want) == 0;
}

/* closes: T37 */
START_TEST(endpoints_reach_the_control_servers_record_with_their_types) {
  if (!r->own_namespace) {
    return;
  }
  node_rig_free(r);
  r = node_rig_new_at("203.0.113.5");
  ck_assert_int_eq(system("ip addr add 10.5.0.1/32 dev lo"), 0);
  static const char *const flags[] = {"--allow-loopback=false", NULL};
  node_rig_start(r, 0, NULL, flags);
  node_rig_start(r, 1, NULL, flags);
  ck_assert(node_rig_wait(r, know_each_other));
  ck_assert(node_rig_wait(r, record_is_right));
  char local[64];
  snprintf(local, sizeof local, "\"10.5.0.1:%u\"", msock_udp_local(udp(0)).port);
  ck_assert_msg(strstr(r->told[0], local) != NULL, "%s", r->told[0]);
  ck_assert_msg(strstr(r->told[0], "types=[1,2]") != NULL, "%s", r->told[0]); /* local, STUN */
  ck_assert_int_eq(system("ip addr add 10.5.0.2/32 dev lo"), 0); /* and a change does */
  node_rig_turns(r, 500 * MSOCK_MS);
  ck_assert(node_rig_wait(r, record_is_right));
  ck_assert_ptr_nonnull(strstr(r->told[0], "\"10.5.0.2:"));
}
END_TEST

/* --- silence --- */

static void write_disco(uint8_t p[static 124], const msock_disco_identity *me) {
  msock_disco_shared to;
  uint8_t msg[64];
  const msock_disco_key key = msock_engine_disco_key(engine(0));
  msock_disco_ping ping = {.has_node_key = true};
  r->env.random(r->env.ctx, ping.txid, sizeof ping.txid);
  r->env.random(r->env.ctx, ping.node_key.b, sizeof ping.node_key.b);
  ck_assert_int_eq(msock_disco_shared_init(&to, me, &key), MSOCK_OK);
  const ptrdiff_t n = msock_disco_encode_ping(&ping, msg, sizeof msg);
  ck_assert_int_eq(msock_disco_seal(me, &to, &r->env, msg, (size_t)n, p, 124), 124);
}

/* closes: PRIV-06 T21 PRIV-10 (on a socket) */
START_TEST(without_a_netmap_the_socket_answers_nobody) {
  msock_disco_identity me;
  uint8_t p[124];
  int fd = -1;
  const msock_addr any = io_test_local(0);
  static const char *const flags[] = {"--enabled=false", NULL};
  node_rig_start(r, 0, NULL, flags);
  node_rig_turns(r, 50 * MSOCK_MS);
  ck_assert(!node_rig_running(r, 0));
  msock_addr at = msock_udp_local(udp(0));
  at.ip = msock_ip_v4(127, 0, 0, 1);
  throw_rubbish(&at, 200);
  msock_disco_identity_generate(&r->env, &me);
  ck_assert_int_eq(msock_egress_udp_bind(r->egress, MSOCK_PURPOSE_WG, &any, &fd, NULL), MSOCK_OK);
  for (int k = 0; k < 50; k++) { /* a ping that opens, of nobody we know */
    write_disco(p, &me);
    ck_assert_int_eq(msock_egress_sendto(r->egress, MSOCK_PURPOSE_WG, fd, &at, p, sizeof p),
                     MSOCK_OK);
    node_rig_turns(r, 1 * MSOCK_MS);
  }
  node_rig_turns(r, 50 * MSOCK_MS);
  ck_assert_int_eq(recv(fd, p, sizeof p, MSG_DONTWAIT), -1);
  close(fd);
  ck_assert_uint_ge(msock_engine_counters_get(engine(0)).rx_no_netmap, 50);
  ck_assert_uint_eq(msock_egress_get_row(r->node[0].egress, MSOCK_PURPOSE_WG)->packets, 0);
  ck_assert_uint_eq(msock_udp_get_stats(udp(0))->tx_packets, 0);
}
END_TEST

/* closes: PRIV-09 (the socket; the hour is test_engine_binding's) */
START_TEST(direct_off_in_the_privacy_profile_is_no_udp_at_all) {
  static const char *const flags[] = {"--profile=privacy-proxy", "--direct=false", "--lan=false",
                                      NULL};
  start_pair(flags);
  node_rig_turns(r, 500 * MSOCK_MS);
  ck_assert(talks(1, 0));
  ck_assert_ptr_null(udp(0));
  ck_assert_uint_eq(msock_egress_get_row(r->node[0].egress, MSOCK_PURPOSE_WG)->packets, 0);
  ck_assert_uint_eq(msock_egress_get_row(r->node[0].egress, MSOCK_PURPOSE_STUN)->packets, 0);
  ck_assert_uint_eq(msock_engine_counters_get(engine(0)).tx_cmm, 0);
  ck_assert_uint_eq(node_rig_lines(r, 0, "udp.", NULL), 0);
}
END_TEST

/* --- what comes by the relay --- */

/* closes: DISCO-21 */
START_TEST(relayed_disco_never_reaches_the_data_plane) {
  static const size_t lengths[] = {62, 63, 77, 78, 79, 124, 1400};
  uint8_t b[1400] = {'T', 'S', 0xf0, 0x9f, 0x92, 0xac};
  start_pair(NULL);
  node_rig_turns(r, 200 * MSOCK_MS);
  const msock_node_key to = node_rig_key(r, 0), from = node_rig_key(r, 1);
  const uint32_t id = msock_dataplane_peer_find(node(0)->plane, &from);
  const msock_wg_counters wg = *msock_wg_counters_get(msock_dataplane_wg(node(0)->plane));
  const uint64_t rx = plane(0)->rx_packets, unknown = plane(0)->rx_unknown_source,
                 too_long = plane(0)->rx_too_long, unclaimed = plane(0)->rx_unclaimed;
  const msock_region_id region = msock_dataplane_peer_at(node(0)->plane, id)->home;
  const uint64_t strangers = msock_engine_counters_get(engine(0)).rx_stranger;
  for (size_t k = 0; k < 200; k++) {
    r->env.random(r->env.ctx, b + 6, sizeof b - 6);
    ck_assert(msock_relay_send(node(1)->relay, msock_loop_now_us(), &to, region, b,
                               lengths[k % (sizeof lengths / sizeof *lengths)]));
    node_rig_turns(r, 1 * MSOCK_MS);
  }
  node_rig_turns(r, 100 * MSOCK_MS);
  const msock_wg_counters *now = msock_wg_counters_get(msock_dataplane_wg(node(0)->plane));
  ck_assert_uint_ge(msock_engine_counters_get(engine(0)).rx_stranger, strangers + 200);
  ck_assert_uint_eq(now->rx_bad_message, wg.rx_bad_message);
  ck_assert_uint_eq(now->rx_mac1_fail, wg.rx_mac1_fail);
  ck_assert_uint_eq(now->rx_unknown_index, wg.rx_unknown_index);
  ck_assert_uint_eq(plane(0)->rx_packets, rx);
  ck_assert_uint_eq(plane(0)->rx_unknown_source, unknown);
  ck_assert_uint_eq(plane(0)->rx_too_long, too_long);
  ck_assert_uint_eq(plane(0)->rx_unclaimed, unclaimed);
  ck_assert(talks(1, 0));
}
END_TEST

static bool key_counted(node_rig *rig) {
  (void)rig;
  return plane(0)->rx_disco_keys >= 1;
}

/* closes: DISCO-26 */
START_TEST(a_disco_key_announced_in_the_tunnel_is_counted_and_not_applied) {
  uint8_t slot[512];
  uint32_t ids[2];
  msock_node_key who;
  msock_disco_key before, after, announced;
  start_direct_pair(NULL);
  const msock_ip src = tunnel_ip(1), dst = tunnel_ip(0);
  const uint8_t data[MSOCK_TSMP_DATA_LEN] = {0};
  msock_packet p = {.buf = slot, .cap = sizeof slot, .off = MSOCK_PACKET_HEADROOM};
  const uint32_t id = node_rig_path_id(r, 0, 1);
  ck_assert(msock_engine_peer_keys(engine(0), id, &who, &before));
  r->env.random(r->env.ctx, announced.b, sizeof announced.b);
  ck_assert_int_eq(msock_tsmp_request(slot + p.off, 128, &src, &dst, data), 29);
  uint8_t *ip = slot + p.off; /* header of 20, type, key: 53 bytes; the checksum follows */
  const uint32_t sum = (uint32_t)(ip[10] << 8 | ip[11]) + (uint32_t)(29 - 53 + 0x10000 - 1);
  ip[3] = 53;
  ip[10] = (uint8_t)((sum & 0xffff) >> 8);
  ip[11] = (uint8_t)sum;
  ip[20] = MSOCK_TSMP_DISCO_KEY;
  memcpy(ip + 21, announced.b, sizeof announced.b);
  p.len = 53;
  msock_dataplane_on_tun(node(1)->plane, &p, 1, msock_loop_now_us());
  ck_assert(node_rig_wait(r, key_counted));
  ck_assert_uint_eq(plane(0)->rx_disco_keys, 1);
  ck_assert(msock_engine_peer_keys(engine(0), id, &who, &after));
  ck_assert_mem_eq(after.b, before.b, sizeof before.b);
  ck_assert_uint_eq(msock_engine_peers_of_disco(engine(0), &announced, ids, 2), 0);
  ck_assert(node_rig_direct(r, 0, 1));
}
END_TEST

static bool both_have_sessions(node_rig *rig) {
  (void)rig;
  for (size_t i = 0; i < 2; i++) {
    msock_wg_peer_status st = {0};
    const uint32_t id = msock_dataplane_peer_find(node(i)->plane, &node(1 - i)->paths_key);
    if (msock_wg_peer_status_get(msock_dataplane_wg(node(i)->plane), msock_loop_now_us(), id,
                                 &st) != MSOCK_OK ||
        !st.has_session) {
      return false;
    }
  }
  return true;
}

/* A stock node whose first initiation came too early repeats it only after 5 s: ours does not wait
 * for it. Nobody has sent a packet here. */
START_TEST(a_path_brings_a_session_before_there_is_data) {
  node_rig_start(r, 0, NULL, NULL);
  node_rig_start(r, 1, NULL, NULL);
  ck_assert(node_rig_wait(r, direct_both_ways));
  const uint64_t t = msock_loop_now_us();
  ck_assert(node_rig_wait(r, both_have_sessions));
  ck_assert_uint_lt(msock_loop_now_us() - t, 2 * MSOCK_SEC);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_set_timeout(tc, 60);
  tcase_add_test(tc, ten_thousand_datagrams_each_way);
  tcase_add_test(tc, neither_rubbish_nor_a_refused_send_stops_the_bridge);
  tcase_add_test(tc, a_node_that_stops_in_full_traffic_ends_within_a_second_and_closes_all);
  tcase_add_test(tc, a_rebind_is_a_new_socket_on_the_same_port_and_probes_at_once);
  tcase_add_test(tc, a_change_of_network_is_a_rebind_and_a_new_search);
  tcase_add_test(tc, without_a_socket_a_node_runs_on_relays_and_binds_later);
  tcase_add_test(tc, where_ipv6_is_switched_off_the_node_starts_on_ipv4_with_one_warning);
  tcase_add_test(tc, on_a_dual_stack_socket_ipv4_peers_are_ipv4_candidates);
  tcase_add_test(tc, with_ipv6_on_both_sides_its_path_is_confirmed);
  tcase_add_test(tc, a_network_of_ipv6_alone_will_do);
  tcase_add_test(tc, endpoints_reach_the_control_servers_record_with_their_types);
  tcase_add_test(tc, without_a_netmap_the_socket_answers_nobody);
  tcase_add_test(tc, direct_off_in_the_privacy_profile_is_no_udp_at_all);
  tcase_add_test(tc, relayed_disco_never_reaches_the_data_plane);
  tcase_add_test(tc, a_disco_key_announced_in_the_tunnel_is_counted_and_not_applied);
  tcase_add_test(tc, a_path_brings_a_session_before_there_is_data);
  return testing_main("node_paths", tc);
}
