/* The simulated system calls under the shipped io room: streams with and without TLS, names,
 * datagrams and their errors, sleep, files, randomness. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/init.h"
#include "io/file.h"
#include "io/stream.h"
#include "io/tcp_listener.h"
#include "io/udp.h"
#include "tests/sim/io_process.h"
#include "tests/unit/testing.h"

#define ONE_WAY_US (10 * MSOCK_MS) /* of each host's link; 40 ms there and back */
#define RTT_US (4 * ONE_WAY_US)
#define PORT 443u

typedef struct end {
  sim_process *p;
  msock_loop *loop;
  msock_egress *egress;
  msock_stream *stream;
  msock_tcp_listener *listener;
  msock_tls_identity *identity;
  msock_stream_info info;
  bool up, closed;
  msock_err err;
  char reason[200];
  char got[64];
  const char *say;
  size_t said;
  uint64_t up_us;
} end;

typedef struct rig {
  sim_world *w;
  sim_net *net;
  sim_io *io;
  sim_host *host[2];
  sim_disk *disk;
  end client, server;
} rig;

static rig r;

static void begin(end *e, int i, const char *name) {
  const msock_egress_config full = {.profile = MSOCK_PROFILE_FULL, .ipv6 = true};
  *e = (end){.p = sim_process_new(r.io, r.host[i], name, 1, r.disk), .say = ""};
  sim_process *before = sim_process_enter(e->p);
  e->loop = msock_loop_new(sim_process_log(e->p));
  e->egress = msock_egress_new(e->loop, &full, NULL);
  sim_process_leave(before);
}

static void finish(end *e) {
  if (e->p == NULL) {
    return;
  }
  sim_process *before = sim_process_enter(e->p);
  msock_stream_free(e->stream);
  msock_tcp_listener_free(e->listener);
  msock_tls_identity_free(e->identity);
  msock_egress_free(e->egress);
  msock_loop_free(e->loop);
  sim_process_leave(before);
  sim_process_free(e->p);
  e->p = NULL;
}

static void setup(void) {
  r = (rig){.w = sim_world_new(1)};
  r.net = sim_net_new(r.w);
  r.io = sim_io_new(r.net);
  r.disk = sim_disk_new();
  for (int i = 0; i < 2; i++) {
    r.host[i] = sim_host_new(r.net, i == 0 ? "left" : "right");
    sim_host_attach(r.host[i], sim_net_internet(r.net), NULL, "eth0");
    sim_host_set_latency(r.host[i], ONE_WAY_US);
  }
  begin(&r.client, 0, "client");
  begin(&r.server, 1, "server");
}

static void teardown(void) {
  finish(&r.client);
  finish(&r.server);
  sim_disk_free(r.disk);
  sim_io_free(r.io);
  sim_net_free(r.net);
  sim_world_free(r.w);
}

static void run_for(uint64_t us) {
  sim_world_run_until(r.w, sim_world_now_us(r.w) + us);
}

/* --- streams --- */

static void on_up(void *ctx, const msock_stream_info *info) {
  end *e = ctx;
  e->up = true;
  e->info = *info;
  e->up_us = sim_world_now_us(r.w);
}

static void on_readable(void *ctx, const uint8_t *p, size_t len) {
  end *e = ctx;
  strncat(e->got, (const char *)p, len);
}

static void on_peek(void *ctx, const uint8_t **p, size_t *len) {
  end *e = ctx;
  *p = (const uint8_t *)e->say + e->said;
  *len = strlen(e->say) - e->said;
}

static void on_consume(void *ctx, size_t n) {
  end *e = ctx;
  e->said += n;
}

static void on_closed(void *ctx, msock_err err, const char *reason) {
  end *e = ctx;
  e->closed = true;
  e->err = err;
  snprintf(e->reason, sizeof e->reason, "%s", reason);
}

static const msock_stream_handlers handlers = {.up = on_up,
                                               .readable = on_readable,
                                               .tx_peek = on_peek,
                                               .tx_consume = on_consume,
                                               .closed = on_closed};

static void on_accepted(void *ctx, int fd, const msock_addr *peer) {
  end *e = ctx;
  const msock_ip from = sim_host_address(r.host[0]);
  ck_assert(msock_ip_equal(&peer->ip, &from));
  if (e->identity != NULL) {
    ck_assert_int_eq(
        msock_stream_accept_tls(e->loop, fd, e->identity, MSOCK_SEC, &handlers, e, &e->stream),
        MSOCK_OK);
  } else {
    ck_assert_int_eq(msock_stream_adopt(e->loop, fd, &handlers, e, &e->stream), MSOCK_OK);
  }
}

/* pin: "" for a server without TLS. */
static void listen_with(bool tls, char pin[static MSOCK_TLS_PIN_TEXT_MAX]) {
  const msock_addr on = {.ip = msock_ip_v4(0, 0, 0, 0), .port = PORT};
  char why[MSOCK_TLS_WHY_MAX];
  end *e = &r.server;
  sim_process *before = sim_process_enter(e->p);
  pin[0] = '\0';
  if (tls) {
    ck_assert_int_eq(msock_tls_identity_self_signed("right", 0, &e->identity, why), MSOCK_OK);
    msock_tls_identity_pin(e->identity, pin);
  }
  ck_assert_int_eq(
      msock_tcp_listener_new(e->egress, MSOCK_PURPOSE_LISTEN, &on, on_accepted, e, &e->listener),
      MSOCK_OK);
  sim_process_leave(before);
}

static void dial(const char *host, bool tls, const char *pin) {
  end *e = &r.client;
  msock_stream_config cfg = {.tls = tls, .budget_us = 5 * MSOCK_SEC};
  msock_tcp_target_host(&cfg.target, MSOCK_PURPOSE_DERP, host, PORT, 5 * MSOCK_SEC);
  cfg.tls_config = (msock_tls_config){.host = host, .cert_name = pin};
  sim_process *before = sim_process_enter(e->p);
  ck_assert_int_eq(msock_stream_dial(e->egress, &cfg, &handlers, e, &e->stream), MSOCK_OK);
  sim_process_leave(before);
}

static const char *server_ip(char buf[static MSOCK_IP_TEXT_MAX]) {
  const msock_ip ip = sim_host_address(r.host[1]);
  return msock_ip_text(&ip, buf);
}

START_TEST(stream_carries_both_ways) {
  char pin[MSOCK_TLS_PIN_TEXT_MAX], ip[MSOCK_IP_TEXT_MAX];
  const bool tls = _i != 0;
  setup();
  listen_with(tls, pin);
  r.client.say = "hello";
  r.server.say = "world";
  const uint64_t began_us = sim_world_now_us(r.w);
  dial(server_ip(ip), tls, pin);
  run_for(MSOCK_SEC);
  ck_assert(r.client.up);
  ck_assert_str_eq(r.client.got, "world");
  ck_assert_str_eq(r.server.got, "hello");
  /* one round trip for TCP, two for TLS 1.2 */
  ck_assert_uint_eq(r.client.up_us - began_us, tls ? 3 * RTT_US : RTT_US);
  ck_assert_uint_eq(r.client.info.tcp_us, RTT_US);
  ck_assert_uint_eq(r.client.info.tls_us, tls ? 2 * RTT_US : 0);
  ck_assert(!tls || !r.client.info.tls->is_tls13);
  teardown();
}
END_TEST

START_TEST(another_certificate_is_refused) {
  char pin[MSOCK_TLS_PIN_TEXT_MAX], ip[MSOCK_IP_TEXT_MAX];
  setup();
  listen_with(true, pin);
  pin[strlen(pin) - 1] = pin[strlen(pin) - 1] == '0' ? '1' : '0';
  dial(server_ip(ip), true, pin);
  run_for(MSOCK_SEC);
  ck_assert(r.client.closed && !r.client.up);
  ck_assert_int_eq(r.client.err, MSOCK_ERR_AUTH);
  ck_assert(r.server.closed && !r.server.up); /* the client hung up in the handshake */
  teardown();
}
END_TEST

START_TEST(tls_and_plain_do_not_mix) {
  char pin[MSOCK_TLS_PIN_TEXT_MAX], ip[MSOCK_IP_TEXT_MAX];
  setup();
  listen_with(false, pin);
  r.server.say = "SSH-2.0";
  dial(server_ip(ip), true, NULL);
  run_for(MSOCK_SEC);
  ck_assert(r.client.closed && !r.client.up);
  ck_assert_int_eq(r.client.err, MSOCK_ERR_IO);
  teardown();
}
END_TEST

START_TEST(nobody_listens) {
  char ip[MSOCK_IP_TEXT_MAX];
  setup();
  dial(server_ip(ip), false, NULL);
  run_for(MSOCK_SEC);
  ck_assert(r.client.closed);
  ck_assert_int_eq(r.client.err, MSOCK_ERR_IO);
  ck_assert_ptr_nonnull(strstr(r.client.reason, "Connection refused"));
  teardown();
}
END_TEST

/* A killed program's end is told by its kernel; a machine without power says nothing. */
START_TEST(death_is_told_or_not) {
  char pin[MSOCK_TLS_PIN_TEXT_MAX], ip[MSOCK_IP_TEXT_MAX];
  const bool power = _i != 0;
  setup();
  listen_with(false, pin);
  dial(server_ip(ip), false, NULL);
  run_for(MSOCK_SEC);
  ck_assert(r.client.up && !r.client.closed);
  sim_process_mute(r.server.p);
  sim_host_set_power(r.host[1], power);
  finish(&r.server);
  run_for(5 * MSOCK_SEC);
  ck_assert_int_eq(r.client.closed, power);
  ck_assert(!power || r.client.err == MSOCK_ERR_CLOSED);
  teardown();
}
END_TEST

/* --- names --- */

START_TEST(names_are_those_of_the_table) {
  char pin[MSOCK_TLS_PIN_TEXT_MAX];
  setup();
  const msock_ip at = sim_host_address(r.host[1]);
  sim_io_set_name(r.io, "right.example", &at);
  listen_with(false, pin);
  const uint64_t began_us = sim_world_now_us(r.w);
  dial("right.example", false, NULL);
  run_for(MSOCK_SEC);
  ck_assert(r.client.up);
  ck_assert_uint_eq(r.client.up_us - began_us, SIM_RESOLVE_US + RTT_US);
  teardown();
}
END_TEST

START_TEST(an_unknown_name_is_an_error) {
  setup();
  dial("nobody.example", false, NULL);
  run_for(MSOCK_SEC);
  ck_assert(r.client.closed);
  ck_assert_ptr_nonnull(strstr(r.client.reason, "unknown name"));
  teardown();
}
END_TEST

START_TEST(a_look_up_may_be_given_up) {
  setup();
  dial("nobody.example", false, NULL);
  finish(&r.client); /* the loop hands the request back */
  run_for(MSOCK_SEC);
  ck_assert(!r.client.closed);
  teardown();
}
END_TEST

/* --- datagrams --- */

typedef struct box {
  size_t n, bytes;
  msock_udp_fault fault;
  size_t faults;
} box;

static void on_received(void *ctx, msock_packet *pkts, const msock_addr *from, size_t n,
                        uint64_t now_us) {
  box *b = ctx;
  (void)from;
  ck_assert_uint_eq(now_us, msock_loop_now_us());
  for (size_t i = 0; i < n; i++) {
    b->n++;
    b->bytes += pkts[i].len;
  }
}

static void on_fault(void *ctx, const msock_addr *to, msock_udp_fault fault, size_t n) {
  box *b = ctx;
  (void)to;
  b->fault = fault;
  b->faults += n;
}

static const msock_udp_handlers udp_handlers = {.received = on_received, .fault = on_fault};

static msock_udp *bind_udp(end *e, box *b) {
  msock_udp *u = NULL;
  sim_process *before = sim_process_enter(e->p);
  ck_assert_int_eq(msock_udp_new(e->egress, MSOCK_PURPOSE_WG, NULL, &udp_handlers, b, &u),
                   MSOCK_OK);
  sim_process_leave(before);
  return u;
}

static size_t send_batch(end *e, msock_udp *u, const msock_addr *to, size_t n, size_t len) {
  static uint8_t bytes[2048];
  msock_packet pkts[MSOCK_BATCH_MAX];
  msock_addr tos[MSOCK_BATCH_MAX];
  for (size_t i = 0; i < n; i++) {
    pkts[i] = (msock_packet){.buf = bytes, .cap = sizeof bytes, .len = (uint32_t)len};
    tos[i] = *to;
  }
  sim_process *before = sim_process_enter(e->p);
  const size_t sent = msock_udp_send(u, MSOCK_PURPOSE_WG, pkts, tos, n);
  sim_process_leave(before);
  return sent;
}

static void free_udp(end *e, msock_udp *u) {
  sim_process *before = sim_process_enter(e->p);
  msock_udp_free(u);
  sim_process_leave(before);
}

START_TEST(datagrams_and_their_errors) {
  box left = {0}, right = {0};
  setup();
  msock_udp *a = bind_udp(&r.client, &left), *b = bind_udp(&r.server, &right);
  msock_addr to = msock_udp_local(b);
  to.ip = sim_host_address(r.host[1]);
  ck_assert_uint_eq(send_batch(&r.client, a, &to, MSOCK_BATCH_MAX, 100), MSOCK_BATCH_MAX);
  ck_assert_uint_eq(send_batch(&r.client, a, &to, MSOCK_BATCH_MAX, 100), MSOCK_BATCH_MAX);
  run_for(MSOCK_SEC);
  ck_assert_uint_eq(right.n, 2 * MSOCK_BATCH_MAX);
  ck_assert_uint_eq(right.bytes, 200 * MSOCK_BATCH_MAX);

  sim_host_up(r.host[0])->udp_refused = true;
  ck_assert_uint_eq(send_batch(&r.client, a, &to, 2, 100), 0);
  ck_assert_uint_eq(left.faults, 2);
  ck_assert_int_eq(left.fault, MSOCK_UDP_FAULT_LOST);
  sim_host_up(r.host[0])->udp_refused = false;

  sim_host_up(r.host[0])->mtu_known = true;
  sim_host_up(r.host[0])->mtu_bytes = 1500;
  ck_assert_uint_eq(send_batch(&r.client, a, &to, 1, 2000), 0);
  ck_assert_int_eq(left.fault, MSOCK_UDP_FAULT_TOO_BIG);

  sim_host_set_interface_up(r.host[0], 1, false);
  ck_assert_uint_eq(send_batch(&r.client, a, &to, 1, 100), 0);
  ck_assert_int_eq(left.fault, MSOCK_UDP_FAULT_NETWORK);
  free_udp(&r.client, a);
  free_udp(&r.server, b);
  teardown();
}
END_TEST

/* --- clocks --- */

static void on_slept(void *ctx, uint64_t slept_us) {
  *(uint64_t *)ctx += slept_us;
}

static void on_timer(void *ctx, uint64_t now_us) {
  *(uint64_t *)ctx = now_us;
}

START_TEST(sleep_stops_turns_and_is_told) {
  uint64_t slept_us = 0, fired_us = 0;
  msock_loop_timer t;
  setup();
  sim_process *before = sim_process_enter(r.client.p);
  const uint64_t began_us = msock_loop_now_us(), wall_us = msock_loop_wall_us();
  msock_loop_on_suspend(r.client.loop, on_slept, &slept_us);
  msock_loop_timer_init(&t, on_timer, &fired_us);
  msock_loop_set_deadline(r.client.loop, &t, began_us + MSOCK_SEC);
  sim_process_leave(before);
  sim_process_suspend(r.client.p);
  run_for(60 * MSOCK_SEC);
  ck_assert_uint_eq(fired_us, 0);
  sim_process_resume(r.client.p);
  run_for(0);
  ck_assert_uint_eq(slept_us, 60 * MSOCK_SEC);
  ck_assert_uint_eq(fired_us, began_us + 60 * MSOCK_SEC);
  sim_process_set_wall_offset(r.client.p, -(int64_t)(3600 * MSOCK_SEC));
  before = sim_process_enter(r.client.p);
  ck_assert_uint_eq(msock_loop_wall_us(), wall_us + 60 * MSOCK_SEC - 3600 * MSOCK_SEC);
  sim_process_leave(before);
  teardown();
}
END_TEST

/* --- files and randomness --- */

START_TEST(files_outlive_the_process) {
  char why[MSOCK_FILE_WHY_MAX], *text = NULL;
  size_t len = 0;
  setup();
  sim_process *before = sim_process_enter(r.client.p);
  ck_assert_int_eq(msock_file_write("/d", "f", "one", 3, why), MSOCK_OK);
  sim_disk_set_full(r.disk, true);
  ck_assert_int_eq(msock_file_write("/d", "f", "two", 3, why), MSOCK_ERR_IO);
  ck_assert_ptr_nonnull(strstr(why, "No space left"));
  sim_process_leave(before);
  finish(&r.client);
  begin(&r.client, 0, "client");
  before = sim_process_enter(r.client.p);
  ck_assert_int_eq(msock_file_read("/d/f", 100, true, &text, &len, why), MSOCK_OK);
  ck_assert_str_eq(text, "one");
  ck_assert_int_eq(msock_file_read("/d/g", 100, true, &text, &len, why), MSOCK_ERR_UNKNOWN);
  free(text);
  sim_process_leave(before);
  teardown();
}
END_TEST

/* Also what does not come through an env is the process's own seeded stream. */
START_TEST(randomness_is_seeded) {
  uint8_t got[2][32], other[32];
  for (int i = 0; i < 2; i++) {
    setup();
    sim_process *before = sim_process_enter(r.client.p);
    msock_crypto_random(NULL, got[i], sizeof got[i]);
    sim_process_enter(r.server.p);
    msock_crypto_random(NULL, other, sizeof other);
    sim_process_leave(before);
    teardown();
  }
  ck_assert_mem_eq(got[0], got[1], sizeof got[0]);
  ck_assert_mem_ne(got[0], other, sizeof other);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, stream_carries_both_ways, 0, 2);
  tcase_add_test(tc, another_certificate_is_refused);
  tcase_add_test(tc, tls_and_plain_do_not_mix);
  tcase_add_test(tc, nobody_listens);
  tcase_add_loop_test(tc, death_is_told_or_not, 0, 2);
  tcase_add_test(tc, names_are_those_of_the_table);
  tcase_add_test(tc, an_unknown_name_is_an_error);
  tcase_add_test(tc, a_look_up_may_be_given_up);
  tcase_add_test(tc, datagrams_and_their_errors);
  tcase_add_test(tc, sleep_stops_turns_and_is_told);
  tcase_add_test(tc, files_outlive_the_process);
  tcase_add_test(tc, randomness_is_seeded);
  return testing_main("sim_io", tc);
}
