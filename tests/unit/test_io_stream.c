#include "tests/unit/io_testing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/stream.h"
#include "tests/unit/testing.h"
#include "tests/unit/tls_testing.h"

#define BULK 500000u

static msock_loop *loop;
static msock_egress *eg;

/* One end: sends tx, collects what comes. */
typedef struct end {
  msock_stream *s;
  uint8_t *tx;
  size_t tx_len, tx_at;
  uint8_t *rx;
  size_t rx_len;
  bool up, closed, free_on_read, echo;
  msock_err err;
  char why[512];
  msock_stream_info info;
  size_t largest_read;
} end;

static end a, b;
static bool done;

static void on_up(void *ctx, const msock_stream_info *info) {
  end *e = ctx;
  ck_assert(!e->up);
  e->up = true;
  e->info = *info;
}

static void on_bytes(void *ctx, const uint8_t *p, size_t len) {
  end *e = ctx;
  ck_assert(!e->closed);
  ck_assert_uint_le(e->rx_len + len, BULK);
  memcpy(e->rx + e->rx_len, p, len);
  e->rx_len += len;
  e->largest_read = len > e->largest_read ? len : e->largest_read;
  if (e->echo) {
    e->tx_len = e->rx_len;
    e->tx = e->rx;
    msock_stream_want_write(e->s);
  }
  if (e->free_on_read) {
    msock_stream_free(e->s);
    e->s = NULL;
    done = true;
  }
  done = done || (e == &a && e->rx_len == a.tx_len);
}

static void tx_peek(void *ctx, const uint8_t **p, size_t *len) {
  end *e = ctx;
  *p = e->tx + e->tx_at;
  *len = e->tx_len - e->tx_at;
}

static void tx_consume(void *ctx, size_t n) {
  end *e = ctx;
  e->tx_at += n;
  ck_assert_uint_le(e->tx_at, e->tx_len);
}

static void on_closed(void *ctx, msock_err err, const char *reason) {
  end *e = ctx;
  ck_assert(!e->closed);
  e->closed = true;
  e->err = err;
  snprintf(e->why, sizeof e->why, "%s", reason);
  done = true;
}

static const msock_stream_handlers handlers = {.up = on_up,
                                               .readable = on_bytes,
                                               .tx_peek = tx_peek,
                                               .tx_consume = tx_consume,
                                               .closed = on_closed};

static void setup(void) {
  memset(&a, 0, sizeof a);
  memset(&b, 0, sizeof b);
  done = false;
  loop = msock_loop_new(NULL);
  eg = io_test_egress(loop, MSOCK_PROFILE_FULL, false);
  a.rx = malloc(BULK);
  b.rx = malloc(BULK);
  a.tx = malloc(BULK);
  for (size_t i = 0; i < BULK; i++) {
    a.tx[i] = (uint8_t)(i * 7 >> 2);
  }
}

static void teardown(void) {
  msock_stream_free(a.s);
  msock_stream_free(b.s);
  free(a.rx);
  free(b.rx);
  free(a.tx);
  msock_egress_free(eg);
  msock_loop_free(loop);
}

static msock_stream_config plain_to(const msock_addr *at) {
  msock_stream_config c = {.budget_us = 5 * MSOCK_SEC};
  msock_tcp_target_host(&c.target, MSOCK_PURPOSE_CTL, "127.0.0.1", at->port, 5 * MSOCK_SEC);
  return c;
}

static int accept_one(int l) {
  const int fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  ck_assert_int_ge(fd, 0);
  return fd;
}

static void connect_plain(void) {
  msock_addr at;
  const int l = io_test_listen(eg, &at);
  const msock_stream_config c = plain_to(&at);
  ck_assert_int_eq(msock_stream_dial(eg, &c, &handlers, &a, &a.s), MSOCK_OK);
  ck_assert(!a.up); /* nothing inside the call */
  ck_assert(io_test_run(loop, &a.up, IO_TEST_DEADLINE_US));
  ck_assert_ptr_null(a.info.tls);
  ck_assert(msock_addr_equal(&a.info.remote, &at));
  ck_assert_int_eq(msock_stream_adopt(loop, accept_one(l), &handlers, &b, &b.s), MSOCK_OK);
  close(l);
}

START_TEST(a_plain_echo_of_half_a_megabyte) {
  a.tx_len = BULK;
  b.echo = true;
  connect_plain();
  msock_stream_want_write(a.s);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  ck_assert_mem_eq(a.tx, a.rx, BULK);
  ck_assert_uint_le(b.largest_read, MSOCK_STREAM_CHUNK);
  ck_assert_uint_eq(msock_egress_get_row(eg, MSOCK_PURPOSE_CTL)->bytes, BULK);
}
END_TEST

START_TEST(an_orderly_end_and_half_close) {
  connect_plain();
  a.tx_len = 5;
  msock_stream_want_write(a.s);
  msock_stream_finish(a.s);
  ck_assert(io_test_run(loop, &b.closed, IO_TEST_DEADLINE_US));
  ck_assert_int_eq(b.err, MSOCK_ERR_CLOSED);
  ck_assert_uint_eq(b.rx_len, 5); /* all bytes first */
  msock_stream_free(b.s);
  b.s = NULL;
  ck_assert(io_test_run(loop, &a.closed, IO_TEST_DEADLINE_US));
  ck_assert_int_eq(a.err, MSOCK_ERR_CLOSED);
}
END_TEST

START_TEST(the_owner_may_free_in_a_callback) {
  connect_plain();
  a.tx_len = 100000;
  b.free_on_read = true;
  msock_stream_want_write(a.s);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  ck_assert(!b.closed); /* no callback after free */
  ck_assert(io_test_run(loop, &a.closed, IO_TEST_DEADLINE_US));
}
END_TEST

START_TEST(pausing_holds_the_bytes_back) {
  connect_plain();
  a.tx_len = 10;
  msock_stream_pause_read(b.s, true);
  msock_stream_want_write(a.s);
  bool never = false;
  io_test_run(loop, &never, 20 * MSOCK_MS);
  ck_assert_uint_eq(b.rx_len, 0);
  b.echo = true;
  msock_stream_pause_read(b.s, false);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  ck_assert_uint_eq(b.rx_len, 10);
}
END_TEST

START_TEST(a_refused_dial_says_why) {
  int fd;
  const msock_addr at = io_test_refusing(&fd);
  const msock_stream_config c = plain_to(&at);
  ck_assert_int_eq(msock_stream_dial(eg, &c, &handlers, &a, &a.s), MSOCK_OK);
  ck_assert(io_test_run(loop, &a.closed, IO_TEST_DEADLINE_US));
  ck_assert_int_eq(a.err, MSOCK_ERR_IO);
  ck_assert_ptr_nonnull(strstr(a.why, "refused"));
  ck_assert(!a.up);
  close(fd);
}
END_TEST

/* A TLS echo server on the loop. */
static struct {
  tls_test_server s;
  tls_test_cert cert;
  msock_loop_fd *accept_watch, *watch;
  int l, fd;
  uint8_t buf[BULK];
  size_t got, sent;
} srv;

static void server_work(void *ctx, bool readable, bool writable) {
  (void)ctx;
  (void)readable;
  (void)writable;
  if (tls_test_server_step(&srv.s) != 0) {
    return;
  }
  int n;
  while ((n = mbedtls_ssl_read(&srv.s.ssl, srv.buf + srv.got, BULK - srv.got)) > 0) {
    srv.got += (size_t)n;
    if (srv.got == BULK) {
      break;
    }
  }
  while (srv.sent < srv.got) {
    n = mbedtls_ssl_write(&srv.s.ssl, srv.buf + srv.sent, srv.got - srv.sent < 5000 ? 1 : 5000);
    if (n <= 0) {
      break;
    }
    srv.sent += (size_t)n;
  }
  msock_loop_fd_want(srv.watch, true, srv.sent < srv.got);
}

static void server_accept(void *ctx, bool readable, bool writable) {
  (void)ctx;
  (void)readable;
  (void)writable;
  const tls_test_der chain[] = {{srv.cert.der, srv.cert.len}};
  srv.fd = accept_one(srv.l);
  tls_test_server_init(&srv.s, srv.fd, chain, 1, &srv.cert.key);
  srv.watch = msock_loop_fd_new(loop, srv.fd, server_work, NULL);
  msock_loop_fd_want(srv.watch, true, false);
}

static msock_stream_config tls_server(msock_tls_roots *roots, bool insecure) {
  static const uint8_t ip[4] = {127, 0, 0, 1};
  static const tls_test_spec spec = {.cn = "CN=relay", .ip = ip};
  msock_addr at;
  memset(&srv, 0, sizeof srv);
  tls_test_make(&srv.cert, &spec, NULL, NULL);
  srv.l = io_test_listen(eg, &at);
  srv.accept_watch = msock_loop_fd_new(loop, srv.l, server_accept, NULL);
  msock_loop_fd_want(srv.accept_watch, true, false);
  msock_stream_config c = plain_to(&at);
  c.tls = true;
  c.tls_config =
      (msock_tls_config){.host = "127.0.0.1", .roots = roots, .insecure_for_tests = insecure};
  return c;
}

static void stop_server(void) {
  msock_loop_fd_free(srv.watch);
  msock_loop_fd_free(srv.accept_watch);
  close(srv.l);
  if (srv.watch != NULL) {
    tls_test_server_free(&srv.s);
    close(srv.fd);
  }
  tls_test_free(&srv.cert);
}

START_TEST(a_tls_echo_of_half_a_megabyte) {
  const msock_stream_config c = tls_server(NULL, true);
  a.tx_len = BULK;
  ck_assert_int_eq(msock_stream_dial(eg, &c, &handlers, &a, &a.s), MSOCK_OK);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  ck_assert_msg(!a.closed, "%s", a.why);
  ck_assert_mem_eq(a.tx, a.rx, BULK);
  ck_assert_ptr_nonnull(a.info.tls);
  ck_assert_uint_gt(a.info.tls_us, 0);
  stop_server();
}
END_TEST

/* closes: CTRL-13 */
START_TEST(an_unverified_peer_is_fatal_and_gets_nothing) {
  char path[] = "/tmp/tsnode-test-XXXXXX";
  tls_test_cert other;
  static const tls_test_spec spec = {.cn = "CN=other", .is_ca = true};
  close(mkstemp(path));
  tls_test_make(&other, &spec, NULL, NULL);
  tls_test_write_pem(&other, path);
  setenv("SSL_CERT_FILE", path, 1);
  msock_tls_roots *roots = msock_tls_roots_new(NULL);
  const msock_stream_config c = tls_server(roots, false);
  a.tx_len = 100;
  ck_assert_int_eq(msock_stream_dial(eg, &c, &handlers, &a, &a.s), MSOCK_OK);
  ck_assert(io_test_run(loop, &a.closed, IO_TEST_DEADLINE_US));
  ck_assert_int_eq(a.err, MSOCK_ERR_AUTH);
  ck_assert(!a.up);
  ck_assert_uint_eq(a.tx_at, 0);
  ck_assert_ptr_nonnull(strstr(a.why, "not signed by a known authority"));
  msock_tls_roots_free(roots);
  tls_test_free(&other);
  unlink(path);
  stop_server();
}
END_TEST

START_TEST(a_silent_server_ends_with_the_budget) {
  msock_addr at;
  const int l = io_test_listen(eg, &at); /* accepts, never speaks TLS */
  msock_stream_config c = plain_to(&at);
  c.tls = true;
  c.budget_us = 100 * MSOCK_MS;
  c.tls_config = (msock_tls_config){.host = "127.0.0.1", .insecure_for_tests = true};
  const uint64_t began_us = msock_loop_now_us();
  ck_assert_int_eq(msock_stream_dial(eg, &c, &handlers, &a, &a.s), MSOCK_OK);
  ck_assert(io_test_run(loop, &a.closed, IO_TEST_DEADLINE_US));
  ck_assert_int_eq(a.err, MSOCK_ERR_TIMEOUT);
  ck_assert_uint_ge(msock_loop_now_us() - began_us, 100 * MSOCK_MS);
  ck_assert_ptr_nonnull(strstr(a.why, "TLS handshake"));
  close(l);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, a_plain_echo_of_half_a_megabyte);
  tcase_add_test(tc, an_orderly_end_and_half_close);
  tcase_add_test(tc, the_owner_may_free_in_a_callback);
  tcase_add_test(tc, pausing_holds_the_bytes_back);
  tcase_add_test(tc, a_refused_dial_says_why);
  tcase_add_test(tc, a_tls_echo_of_half_a_megabyte);
  tcase_add_test(tc, an_unverified_peer_is_fatal_and_gets_nothing);
  tcase_add_test(tc, a_silent_server_ends_with_the_budget);
  return testing_main("io_stream", tc);
}
