#include "tests/unit/io_testing.h"

#include <errno.h>
#include <string.h>

#include "io/udp.h"
#include "tests/unit/testing.h"

#define COUNT 200u

static msock_loop *loop;
static msock_egress *eg;
static msock_udp *a, *b;
static bool done;
static size_t n_got, want;
static uint8_t got[COUNT + 1][2048];
static size_t got_len[COUNT + 1];
static msock_addr last_from;
static msock_udp_fault last_fault;
static size_t n_fault;

/* Refuses trains (messages with UDP_SEGMENT) as a device without checksum offload does, from the
 * given one on. */
static bool no_trains;
static unsigned trains_before, trains_refused;

int __real_sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags) {
  unsigned good = 0;
  while (good < n && !(no_trains && m[good].msg_hdr.msg_controllen > 0 && trains_before == 0)) {
    trains_before -= no_trains && m[good].msg_hdr.msg_controllen > 0;
    good++;
  }
  if (good == 0) {
    trains_refused++;
    errno = EIO;
    return -1;
  }
  return __real_sendmmsg(fd, m, good, flags);
}

static void on_received(void *ctx, msock_packet *pkts, const msock_addr *from, size_t n,
                        uint64_t now_us) {
  (void)ctx;
  ck_assert_uint_gt(now_us, 0);
  ck_assert_uint_le(n, MSOCK_BATCH_MAX);
  for (size_t i = 0; i < n && n_got <= COUNT; i++) {
    ck_assert_uint_ge(pkts[i].off, MSOCK_PACKET_HEADROOM);
    ck_assert_uint_le(pkts[i].off + pkts[i].len + MSOCK_PACKET_TAILROOM, pkts[i].cap);
    memcpy(got[n_got], msock_packet_data(&pkts[i]), pkts[i].len);
    got_len[n_got++] = pkts[i].len;
    last_from = from[i];
  }
  done = n_got >= want;
}

static void on_fault(void *ctx, const msock_addr *to, msock_udp_fault fault, size_t n) {
  (void)ctx;
  (void)to;
  last_fault = fault;
  n_fault += n;
}

static void on_dead(void *ctx, int system_errno) {
  (void)ctx;
  ck_abort_msg("socket died: %d", system_errno);
}

static const msock_udp_handlers handlers = {
    .received = on_received, .fault = on_fault, .dead = on_dead};

static void start(msock_profile profile) {
  const msock_addr on = io_test_local(0);
  done = false;
  n_got = n_fault = 0;
  loop = msock_loop_new(NULL);
  eg = io_test_egress(loop, profile, false);
  ck_assert_int_eq(msock_udp_new(eg, MSOCK_PURPOSE_WG, &on, &handlers, NULL, &a), MSOCK_OK);
  ck_assert_int_eq(msock_udp_new(eg, MSOCK_PURPOSE_WG, &on, &handlers, NULL, &b), MSOCK_OK);
}

static void teardown(void) {
  msock_udp_free(a);
  msock_udp_free(b);
  msock_egress_free(eg);
  msock_loop_free(loop);
}

/* Packet i: size bytes of a pattern that names i. */
static void fill(msock_packet *p, uint8_t *buf, size_t i, size_t size) {
  for (size_t k = 0; k < size; k++) {
    buf[MSOCK_PACKET_HEADROOM + k] = (uint8_t)(i * 13 + k);
  }
  *p = (msock_packet){.buf = buf, .cap = 2300, .off = MSOCK_PACKET_HEADROOM, .len = (uint32_t)size};
}

/* With and without trains: the same datagrams arrive, in order, each whole. */
START_TEST(batches_arrive_whole_and_in_order) {
  static uint8_t bufs[MSOCK_BATCH_MAX][2300];
  static const size_t sizes[] = {1400, 1400, 1400, 900, 1400, 32, 0, 1400, 1, 1400};
  msock_packet p[MSOCK_BATCH_MAX];
  msock_addr to[MSOCK_BATCH_MAX];
  start(MSOCK_PROFILE_FULL);
  msock_udp_set_gso(a, _i == 1 && msock_udp_get_stats(a)->gso);
  want = MSOCK_BATCH_MAX;
  for (size_t i = 0; i < MSOCK_BATCH_MAX; i++) {
    fill(&p[i], bufs[i], i, sizes[i % 10]);
    to[i] = msock_udp_local(b);
  }
  ck_assert_uint_eq(msock_udp_send(a, MSOCK_PURPOSE_WG, p, to, MSOCK_BATCH_MAX), MSOCK_BATCH_MAX);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  ck_assert_uint_eq(n_got, MSOCK_BATCH_MAX);
  size_t bytes = 0;
  for (size_t i = 0; i < MSOCK_BATCH_MAX; i++) {
    ck_assert_uint_eq(got_len[i], sizes[i % 10]);
    ck_assert_mem_eq(got[i], bufs[i] + MSOCK_PACKET_HEADROOM, got_len[i]);
    bytes += got_len[i];
  }
  const msock_addr from = msock_udp_local(a);
  ck_assert(msock_addr_equal(&last_from, &from));
  ck_assert_uint_eq(msock_udp_get_stats(a)->tx_packets, MSOCK_BATCH_MAX);
  ck_assert_uint_eq(msock_udp_get_stats(a)->tx_bytes, bytes);
  ck_assert_uint_eq(msock_udp_get_stats(b)->rx_packets, MSOCK_BATCH_MAX);
  ck_assert_uint_eq(msock_egress_get_row(eg, MSOCK_PURPOSE_WG)->packets, MSOCK_BATCH_MAX);
  ck_assert_uint_eq(msock_egress_get_row(eg, MSOCK_PURPOSE_WG)->bytes, bytes);
}
END_TEST

/* closes: PATH-40 */
START_TEST(trains_refused_with_eio_go_out_one_by_one_from_then_on) {
  static uint8_t bufs[MSOCK_BATCH_MAX][2300];
  msock_packet p[MSOCK_BATCH_MAX];
  msock_addr to[MSOCK_BATCH_MAX];
  start(MSOCK_PROFILE_FULL);
  if (!msock_udp_get_stats(a)->gso) {
    return; /* this kernel has none to refuse */
  }
  for (size_t i = 0; i < MSOCK_BATCH_MAX; i++) { /* trains of 16 */
    fill(&p[i], bufs[i], i, i % 16 == 15 ? 900 : 1200);
    to[i] = msock_udp_local(b);
  }
  no_trains = true;
  trains_before = (unsigned)_i; /* so many pass before */
  for (size_t round = 1; round <= 3; round++) {
    done = false;
    want = round * MSOCK_BATCH_MAX;
    ck_assert_uint_eq(msock_udp_send(a, MSOCK_PURPOSE_WG, p, to, MSOCK_BATCH_MAX), MSOCK_BATCH_MAX);
    ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
    ck_assert_uint_eq(n_got, want);
    for (size_t i = 0; i < MSOCK_BATCH_MAX; i++) {
      const size_t at = (round - 1) * MSOCK_BATCH_MAX + i;
      ck_assert_uint_eq(got_len[at], p[i].len);
      ck_assert_mem_eq(got[at], bufs[i] + MSOCK_PACKET_HEADROOM, got_len[at]);
    }
    ck_assert(!msock_udp_get_stats(a)->gso);
  }
  ck_assert_uint_eq(trains_refused, 1); /* never tried again on this socket */
  ck_assert_uint_eq(n_fault, 0);
  ck_assert_uint_eq(msock_udp_get_stats(a)->tx_packets, 3 * MSOCK_BATCH_MAX);
}
END_TEST

START_TEST(a_forbidden_destination_is_reported_and_the_others_go) {
  static uint8_t bufs[2][2300];
  msock_packet p[2];
  start(MSOCK_PROFILE_PRIVACY_PROXY);
  const msock_addr to[2] = {{.ip = {.family = 6, .b = {[15] = 1}}, .port = 9}, msock_udp_local(b)};
  fill(&p[0], bufs[0], 0, 10);
  fill(&p[1], bufs[1], 1, 10);
  want = 1;
  ck_assert_uint_eq(msock_udp_send(a, MSOCK_PURPOSE_WG, p, to, 2), 1);
  ck_assert_uint_eq(n_fault, 1);
  ck_assert_int_eq(last_fault, MSOCK_UDP_FAULT_DENIED);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  ck_assert_uint_eq(msock_udp_send(a, MSOCK_PURPOSE_PORTMAP, p, &to[1], 1), 0);
  ck_assert_uint_eq(n_fault, 2);
}
END_TEST

/* An ICMP error of an earlier send shows up at the next call: reading goes on. */
START_TEST(a_closed_port_does_not_stop_the_reader) {
  static uint8_t buf[2300];
  msock_packet p;
  start(MSOCK_PROFILE_FULL);
  const msock_addr dead_end = msock_udp_local(b), self = msock_udp_local(a);
  msock_udp_free(b);
  b = NULL;
  fill(&p, buf, 0, 20);
  msock_udp_send(a, MSOCK_PURPOSE_WG, &p, &dead_end, 1);
  want = 1;
  for (int i = 0; i < 3 && !done; i++) {
    msock_udp_send(a, MSOCK_PURPOSE_WG, &p, &self, 1);
    io_test_run(loop, &done, MSOCK_SEC);
  }
  ck_assert(done);
}
END_TEST

START_TEST(too_long_is_told_apart) {
  static uint8_t buf[70000];
  start(MSOCK_PROFILE_FULL);
  const msock_packet p = {.buf = buf, .cap = sizeof buf, .off = 0, .len = 66000};
  const msock_addr to = msock_udp_local(b);
  ck_assert_uint_eq(msock_udp_send(a, MSOCK_PURPOSE_WG, &p, &to, 1), 0);
  ck_assert_int_eq(last_fault, MSOCK_UDP_FAULT_TOO_BIG);
}
END_TEST

START_TEST(an_over_long_datagram_is_counted_and_dropped) {
  static uint8_t buf[8000];
  msock_packet p = {.buf = buf, .cap = sizeof buf, .off = 0, .len = MSOCK_UDP_DATAGRAM_MAX + 1};
  start(MSOCK_PROFILE_FULL);
  const msock_addr to = msock_udp_local(b);
  ck_assert_uint_eq(msock_udp_send(a, MSOCK_PURPOSE_WG, &p, &to, 1), 1);
  p.len = MSOCK_UDP_DATAGRAM_MAX;
  ck_assert_uint_eq(msock_udp_send(a, MSOCK_PURPOSE_WG, &p, &to, 1), 1);
  want = 1;
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  ck_assert_uint_eq(n_got, 1);
  ck_assert_uint_eq(got_len[0], MSOCK_UDP_DATAGRAM_MAX);
  ck_assert_uint_eq(msock_udp_get_stats(b)->rx_cut, 1);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, NULL, teardown);
  tcase_add_loop_test(tc, batches_arrive_whole_and_in_order, 0, 2);
  tcase_add_loop_test(tc, trains_refused_with_eio_go_out_one_by_one_from_then_on, 0, 4);
  tcase_add_test(tc, a_forbidden_destination_is_reported_and_the_others_go);
  tcase_add_test(tc, a_closed_port_does_not_stop_the_reader);
  tcase_add_test(tc, too_long_is_told_apart);
  tcase_add_test(tc, an_over_long_datagram_is_counted_and_dropped);
  return testing_main("io_udp", tc);
}
