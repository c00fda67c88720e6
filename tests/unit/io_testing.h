/* tests/unit/io_testing.h: what the io tests share: a loop that runs until a condition or a
 * deadline, loopback helpers. No sleeps: tests wait on the loop. */
#ifndef MSOCK_TESTS_IO_TESTING_H
#define MSOCK_TESTS_IO_TESTING_H

#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/egress.h"
#include "io/loop.h"

#define IO_TEST_DEADLINE_US (20 * MSOCK_SEC) /* a hang, not a measure */

static void io_test_tick(void *ctx, uint64_t now_us) {
  (void)ctx;
  (void)now_us;
}

/* Turns until *done, or until limit_us has passed. Gives *done. */
static inline bool io_test_run(msock_loop *loop, const bool *done, uint64_t limit_us) {
  const uint64_t end_us = msock_loop_now_us() + limit_us;
  msock_loop_timer limit;
  msock_loop_timer_init(&limit, io_test_tick, NULL);
  msock_loop_set_deadline(loop, &limit, end_us);
  while (!*done && msock_loop_now_us() < end_us) {
    msock_loop_turn(loop, true);
  }
  msock_loop_set_deadline(loop, &limit, MSOCK_NEVER);
  return *done;
}

static inline msock_addr io_test_local(uint16_t port) {
  return (msock_addr){.ip = msock_ip_v4(127, 0, 0, 1), .port = port};
}

static inline msock_egress *io_test_egress(msock_loop *loop, msock_profile profile, bool ipv6) {
  const msock_egress_config config = {.profile = profile, .ipv6 = ipv6};
  msock_egress *eg = msock_egress_new(loop, &config, NULL);
  ck_assert_ptr_nonnull(eg);
  return eg;
}

/* A TCP listener on 127.0.0.1; the port is in *at. */
static inline int io_test_listen(msock_egress *eg, msock_addr *at) {
  int fd = -1;
  const msock_addr on = io_test_local(0);
  ck_assert_int_eq(msock_egress_tcp_listen(eg, MSOCK_PURPOSE_LISTEN, &on, &fd, at), MSOCK_OK);
  return fd;
}

/* A port of 127.0.0.1 on which nobody listens: bound, never listening. The caller closes *fd. */
static inline msock_addr io_test_refusing(int *fd) {
  struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof sa;
  *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_eq(bind(*fd, (struct sockaddr *)&sa, sizeof sa), 0);
  ck_assert_int_eq(getsockname(*fd, (struct sockaddr *)&sa, &len), 0);
  return io_test_local(ntohs(sa.sin_port));
}

#endif
