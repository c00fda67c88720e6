/* The simulated network itself: times to the microsecond, losses, streams. */
#include "tests/sim/net.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/testing.h"

static const sim_nat_config CONE = {.mapping = SIM_EIM, .filtering = SIM_EIF};
static const sim_nat_config RESTRICTED = {.mapping = SIM_EIM, .filtering = SIM_APDF};

static sim_world *w;
static sim_net *n;

static void make(void) {
  w = sim_world_new(3);
  n = sim_net_new(w);
}

static void done(void) {
  sim_net_free(n);
  sim_world_free(w);
}

static sim_host *host_in(const char *name, sim_realm *r) {
  sim_host *h = sim_host_new(n, name);
  sim_host_attach(h, r, NULL, "eth0");
  sim_host_set_latency(h, 10 * MSOCK_MS);
  return h;
}

static void run(uint64_t for_us) {
  sim_world_run_until(w, sim_world_now_us(w) + for_us);
}

/* A socket that keeps what it got last. */
typedef struct inbox {
  sim_udp *u;
  uint32_t got;
  uint64_t at_us;
  msock_addr src;
  uint8_t last[64];
  bool echo;
} inbox;

static void on_datagram(void *ctx, const msock_addr *src, const msock_addr *dst,
                        const uint8_t *bytes, size_t len) {
  inbox *b = ctx;
  (void)dst;
  b->got++;
  b->at_us = sim_world_now_us(w);
  b->src = *src;
  memcpy(b->last, bytes, len < sizeof b->last ? len : sizeof b->last);
  if (b->echo) {
    ck_assert_int_eq(sim_udp_send(b->u, src, bytes, len), 0);
  }
}

static void open_box(inbox *b, sim_host *h, uint16_t port) {
  const msock_addr on = {.ip = msock_ip_v4(0, 0, 0, 0), .port = port};
  *b = (inbox){.u = sim_udp_bind(h, &on, on_datagram, b)};
  ck_assert_ptr_nonnull(b->u);
}

static msock_addr at(const sim_host *h, uint16_t port) {
  return (msock_addr){.ip = sim_host_address(h), .port = port};
}

static int send_to(inbox *b, const msock_addr *to) {
  return sim_udp_send(b->u, to, (const uint8_t *)"hello", 5);
}

START_TEST(events_run_in_order_and_can_be_cancelled) {
  sim_event e;
  make();
  sim_event_init(&e, (void (*)(void *))done, NULL);
  sim_world_set(w, &e, SIM_START_US + 5);
  ck_assert_uint_eq(sim_world_next_us(w), SIM_START_US + 5);
  sim_world_set(w, &e, SIM_START_US + 3);
  ck_assert_uint_eq(sim_world_next_us(w), SIM_START_US + 3);
  sim_world_cancel(w, &e);
  ck_assert(!sim_event_is_set(&e));
  run(10);
  ck_assert_uint_eq(sim_world_now_us(w), SIM_START_US + 10);
  done();
}
END_TEST

START_TEST(datagram_takes_the_sum_of_both_links) {
  inbox a, b;
  make();
  sim_host *x = host_in("x", sim_net_internet(n)), *y = host_in("y", sim_net_internet(n));
  sim_host_up(x)->latency_us = 7 * MSOCK_MS;
  open_box(&a, x, 1000);
  open_box(&b, y, 2000);
  const msock_addr to = at(y, 2000), from = at(x, 1000);
  ck_assert_int_eq(send_to(&a, &to), 0);
  run(17 * MSOCK_MS - 1);
  ck_assert_uint_eq(b.got, 0);
  run(1);
  ck_assert_uint_eq(b.got, 1);
  ck_assert(msock_addr_equal(&b.src, &from));
  done();
}
END_TEST

START_TEST(box_translates_and_filters) {
  inbox a, b, c;
  make();
  sim_nat *box = sim_nat_new(n, "box", sim_net_internet(n), &RESTRICTED, NULL, false);
  sim_host *x = host_in("x", sim_nat_inside(box));
  sim_host *y = host_in("y", sim_net_internet(n)), *z = host_in("z", sim_net_internet(n));
  open_box(&a, x, 1000);
  open_box(&b, y, 2000);
  open_box(&c, z, 3000);
  const msock_addr to = at(y, 2000);
  const msock_ip outside = sim_nat_address(box);
  b.echo = true;
  send_to(&a, &to);
  run(MSOCK_SEC);
  ck_assert_uint_eq(b.got, 1);
  ck_assert(msock_ip_equal(&b.src.ip, &outside));
  ck_assert_uint_eq(a.got, 1); /* the echo */
  ck_assert(msock_addr_equal(&a.src, &to));
  const msock_addr mapped = b.src;
  send_to(&c, &mapped); /* a stranger */
  run(MSOCK_SEC);
  ck_assert_uint_eq(a.got, 1);
  sim_nat_renumber(box, NULL);
  send_to(&b, &mapped);
  run(MSOCK_SEC);
  ck_assert_uint_eq(a.got, 1);
  done();
}
END_TEST

START_TEST(double_box_and_hairpin) {
  inbox a, b;
  const sim_nat_config hairpin = {.mapping = SIM_EIM, .filtering = SIM_EIF, .hairpin = _i == 1};
  make();
  sim_nat *carrier = sim_nat_new(n, "carrier", sim_net_internet(n), &hairpin, NULL, true);
  sim_nat *home1 = sim_nat_new(n, "home1", sim_nat_inside(carrier), &CONE, NULL, false);
  sim_nat *home2 = sim_nat_new(n, "home2", sim_nat_inside(carrier), &CONE, NULL, false);
  sim_host *x = host_in("x", sim_nat_inside(home1)), *y = host_in("y", sim_nat_inside(home2));
  sim_host *server = host_in("server", sim_net_internet(n));
  inbox s;
  open_box(&a, x, 1000);
  open_box(&b, y, 2000);
  open_box(&s, server, 53);
  const msock_addr stun = at(server, 53);
  send_to(&b, &stun);
  run(MSOCK_SEC);
  const msock_addr public_b = s.src;
  const msock_ip outside = sim_nat_address(carrier);
  ck_assert(msock_ip_equal(&public_b.ip, &outside));
  send_to(&a, &public_b);
  run(MSOCK_SEC);
  ck_assert_uint_eq(b.got, (unsigned)_i);
  const msock_addr shared = {.ip = sim_nat_address(home2), .port = 0};
  ck_assert_uint_eq(shared.ip.b[0], 100); /* the carrier's own address space */
  done();
}
END_TEST

START_TEST(same_lan_needs_no_box) {
  inbox a, b;
  make();
  sim_nat *box = sim_nat_new(n, "box", sim_net_internet(n), &RESTRICTED, NULL, false);
  sim_host *x = host_in("x", sim_nat_inside(box)), *y = host_in("y", sim_nat_inside(box));
  open_box(&a, x, 1000);
  open_box(&b, y, 2000);
  const msock_addr to = at(y, 2000), from = at(x, 1000);
  send_to(&a, &to);
  run(SIM_LAN_US);
  ck_assert_uint_eq(b.got, 1);
  ck_assert(msock_addr_equal(&b.src, &from));
  done();
}
END_TEST

START_TEST(errors_are_those_of_linux) {
  inbox a;
  make();
  sim_host *x = host_in("x", sim_net_internet(n)), *y = host_in("y", sim_net_internet(n));
  const msock_addr to = at(y, 2000), six = {.ip = {.family = 6, .b = {0x20}}, .port = 1};
  static const uint8_t big[2000];
  open_box(&a, x, 1000);
  sim_host_up(x)->mtu_bytes = 1400;
  sim_host_up(x)->mtu_known = true;
  ck_assert_int_eq(sim_udp_send(a.u, &to, big, 1372), 0);
  ck_assert_int_eq(sim_udp_send(a.u, &to, big, 1373), EMSGSIZE);
  ck_assert_int_eq(send_to(&a, &six), EAFNOSUPPORT);
  sim_host_up(x)->udp_refused = true;
  ck_assert_int_eq(send_to(&a, &to), EPERM);
  sim_host_up(x)->udp_refused = false;
  const msock_addr fixed = at(x, 1001);
  sim_udp *u = sim_udp_bind(x, &fixed, on_datagram, &a);
  ck_assert_int_eq(sim_udp_send(u, &to, big, 10), 0);
  sim_host_renumber(x, 1, NULL);
  ck_assert_int_eq(sim_udp_send(u, &to, big, 10), EINVAL);
  ck_assert_ptr_null(sim_udp_bind(x, &fixed, on_datagram, &a));
  ck_assert_int_eq(errno, EADDRNOTAVAIL);
  ck_assert_ptr_null(
      sim_udp_bind(x, &(msock_addr){.ip = msock_ip_v4(0, 0, 0, 0), .port = 1000}, on_datagram, &a));
  ck_assert_int_eq(errno, EADDRINUSE);
  sim_host_set_interface_up(x, 1, false);
  ck_assert_int_eq(send_to(&a, &to), ENETUNREACH);
  done();
}
END_TEST

START_TEST(loss_is_what_was_asked_for) {
  inbox a, b;
  make();
  sim_host *x = host_in("x", sim_net_internet(n)), *y = host_in("y", sim_net_internet(n));
  open_box(&a, x, 1000);
  open_box(&b, y, 2000);
  const msock_addr to = at(y, 2000);
  sim_host_up(x)->loss_permille = 100;
  for (int k = 0; k < 10000; k++) {
    send_to(&a, &to);
  }
  run(MSOCK_SEC);
  ck_assert_uint_ge(b.got, 8900); /* 9000 ± 3.3 sigma */
  ck_assert_uint_le(b.got, 9100);
  sim_host_block_udp(y, true, false);
  const uint32_t before = b.got;
  sim_host_up(x)->loss_permille = 0;
  send_to(&a, &to);
  run(MSOCK_SEC);
  ck_assert_uint_eq(b.got, before);
  send_to(&b, &(msock_addr){.ip = sim_host_address(x), .port = 1000});
  run(MSOCK_SEC);
  ck_assert_uint_eq(a.got, 1);
  done();
}
END_TEST

static bool is_loud(const uint8_t *bytes, size_t len) {
  return len > 0 && bytes[0] == 'H';
}

START_TEST(a_pair_has_figures_of_its_own) {
  inbox a, b;
  const sim_link wall = {.latency_us = 5 * MSOCK_MS, .mtu_bytes = 100, .dropped = is_loud};
  make();
  sim_host *x = host_in("x", sim_net_internet(n)), *y = host_in("y", sim_net_internet(n));
  open_box(&a, x, 1000);
  open_box(&b, y, 2000);
  const msock_addr to = at(y, 2000), back = at(x, 1000);
  static const uint8_t loud[] = "Hello", big[73];
  sim_net_set_pair(n, x, y, &wall);
  const uint64_t t = sim_world_now_us(w);
  send_to(&a, &to);
  sim_udp_send(a.u, &to, loud, sizeof loud);
  sim_udp_send(a.u, &to, big, sizeof big); /* 101 bytes with its headers */
  sim_udp_send(b.u, &back, loud, sizeof loud);
  run(MSOCK_SEC);
  ck_assert_uint_eq(b.got, 1);
  ck_assert_uint_eq(b.at_us - t, 25 * MSOCK_MS);
  ck_assert_uint_eq(a.got, 1); /* one direction only */
  ck_assert_uint_eq(a.at_us - t, 20 * MSOCK_MS);
  sim_net_set_pair(n, x, y, NULL);
  sim_udp_send(a.u, &to, loud, sizeof loud);
  run(MSOCK_SEC);
  ck_assert_uint_eq(b.got, 2);
  done();
}
END_TEST

START_TEST(jitter_alone_keeps_the_order) {
  inbox a, b;
  uint32_t disorder = 0;
  make();
  sim_host *x = host_in("x", sim_net_internet(n)), *y = host_in("y", sim_net_internet(n));
  open_box(&a, x, 1000);
  open_box(&b, y, 2000);
  const msock_addr to = at(y, 2000);
  sim_host_up(x)->jitter_us = 9 * MSOCK_MS;
  sim_host_up(x)->reorder_permille = _i == 1 ? 200 : 0;
  sim_host_up(x)->reorder_us = 30 * MSOCK_MS;
  uint8_t expected = 0;
  for (uint8_t k = 0; k < 200; k++) {
    ck_assert_int_eq(sim_udp_send(a.u, &to, &k, 1), 0);
  }
  while (b.got < 200) {
    const uint32_t before = b.got;
    sim_world_run_until(w, sim_world_next_us(w));
    if (b.got == before + 1) {
      disorder += b.last[0] != expected;
    }
    expected = (uint8_t)b.got;
  }
  ck_assert_int_eq(disorder > 0, _i == 1);
  done();
}
END_TEST

/* --- streams --- */

typedef struct pipe_end {
  sim_stream *s;
  bool connected, closed;
  int error;
  size_t got, room;
  uint64_t at_us;
  uint8_t first;
} pipe_end;

static pipe_end client, server;

static void on_connected(void *ctx) {
  pipe_end *e = ctx;
  e->connected = true;
  e->at_us = sim_world_now_us(w);
}
static void on_readable(void *ctx, const uint8_t *bytes, size_t len) {
  pipe_end *e = ctx;
  e->first = e->got == 0 ? bytes[0] : e->first;
  e->got += len;
  e->at_us = sim_world_now_us(w);
}
static void on_writable(void *ctx) {
  ((pipe_end *)ctx)->room++;
}
static void on_closed(void *ctx, int error) {
  pipe_end *e = ctx;
  ck_assert(!e->closed);
  e->closed = true;
  e->error = error;
  e->at_us = sim_world_now_us(w);
  sim_stream_free(e->s);
}
static const sim_stream_handlers HANDLERS = {on_connected, on_readable, on_writable, on_closed};

static void on_accept(void *ctx, sim_stream *s, const msock_addr *peer) {
  (void)ctx;
  (void)peer;
  server = (pipe_end){.s = s};
  sim_stream_accept(s, &HANDLERS, &server);
}

/* x behind box dials y. */
static void make_stream(sim_host **x, sim_host **y, sim_nat **box, uint16_t port) {
  make();
  *box = sim_nat_new(n, "box", sim_net_internet(n), &RESTRICTED, NULL, false);
  *x = host_in("x", sim_nat_inside(*box));
  *y = host_in("y", sim_net_internet(n));
  const msock_addr on = {.ip = msock_ip_v4(0, 0, 0, 0), .port = 443};
  ck_assert_ptr_nonnull(sim_listen(*y, &on, on_accept, NULL));
  const msock_addr to = at(*y, port);
  server = (pipe_end){0};
  client = (pipe_end){0};
  client.s = sim_stream_dial(*x, &to, &HANDLERS, &client);
}

START_TEST(stream_opens_carries_and_ends) {
  sim_host *x, *y;
  sim_nat *box;
  make_stream(&x, &y, &box, 443);
  const uint64_t t0 = sim_world_now_us(w);
  run(MSOCK_SEC);
  ck_assert(client.connected);
  ck_assert_uint_eq(client.at_us - t0, 40 * MSOCK_MS);
  ck_assert_uint_eq(sim_stream_write(client.s, (const uint8_t *)"abc", 3), 3);
  sim_stream_finish(client.s);
  run(20 * MSOCK_MS - 1);
  ck_assert_uint_eq(server.got, 0);
  run(1);
  ck_assert_uint_eq(server.got, 3);
  ck_assert_uint_eq(server.first, 'a');
  ck_assert(server.closed); /* and freed: its own end follows */
  ck_assert_int_eq(server.error, 0);
  run(20 * MSOCK_MS);
  ck_assert(client.closed);
  ck_assert_int_eq(client.error, 0);
  done();
}
END_TEST

START_TEST(nobody_listens_and_nobody_answers) {
  sim_host *x, *y;
  sim_nat *box;
  make_stream(&x, &y, &box, 444);
  run(MSOCK_SEC);
  ck_assert(client.closed);
  ck_assert_int_eq(client.error, ECONNREFUSED);
  done();
  make_stream(&x, &y, &box, 443);
  sim_host_set_power(y, false);
  run(60 * MSOCK_SEC);
  ck_assert_int_eq(client.error, ETIMEDOUT);
  done();
}
END_TEST

START_TEST(back_pressure) {
  sim_host *x, *y;
  sim_nat *box;
  static uint8_t big[300000];
  make_stream(&x, &y, &box, 443);
  run(MSOCK_SEC);
  sim_stream_pause(server.s, true);
  ck_assert_uint_eq(sim_stream_write(client.s, big, sizeof big), SIM_STREAM_WINDOW);
  run(MSOCK_SEC);
  ck_assert_uint_eq(server.got, 0);
  ck_assert_uint_eq(client.room, 0);
  sim_stream_pause(server.s, false);
  run(MSOCK_SEC);
  ck_assert_uint_eq(server.got, SIM_STREAM_WINDOW);
  ck_assert_uint_eq(client.room, 1);
  done();
}
END_TEST

START_TEST(stall_ends_in_delivery_or_timeout) {
  sim_host *x, *y;
  sim_nat *box;
  make_stream(&x, &y, &box, 443);
  run(MSOCK_SEC);
  sim_host_up(x)->tcp_blocked = true;
  sim_stream_write(client.s, (const uint8_t *)"a", 1);
  run(5 * MSOCK_SEC);
  ck_assert_uint_eq(server.got, 0);
  sim_host_up(x)->tcp_blocked = false;
  run(SIM_STREAM_RETRY_US);
  ck_assert_uint_eq(server.got, 1);
  sim_host_up(x)->tcp_blocked = true;
  sim_stream_write(client.s, (const uint8_t *)"b", 1);
  run(SIM_STREAM_USER_TIMEOUT_US - MSOCK_SEC);
  ck_assert(!client.closed);
  run(SIM_STREAM_RETRY_US + MSOCK_SEC);
  ck_assert(client.closed);
  ck_assert_int_eq(client.error, ETIMEDOUT);
  ck_assert(!server.closed); /* it has said nothing, so it has noticed nothing */
  done();
}
END_TEST

START_TEST(lost_mapping_resets_a_stream) {
  sim_host *x, *y;
  sim_nat *box;
  make_stream(&x, &y, &box, 443);
  run(MSOCK_SEC);
  sim_nat_renumber(box, NULL);
  run(MSOCK_SEC);
  ck_assert(!client.closed);
  sim_stream_write(client.s, (const uint8_t *)"a", 1);
  run(MSOCK_SEC);
  ck_assert_int_eq(client.error, ECONNRESET);
  ck_assert_uint_eq(server.got, 0);
  done();
}
END_TEST

START_TEST(broken_streams_tell_both_or_nobody) {
  sim_host *x, *y;
  sim_nat *box;
  make_stream(&x, &y, &box, 443);
  run(MSOCK_SEC);
  sim_host_break_streams(y, _i == 1);
  run(MSOCK_SEC);
  ck_assert_int_eq(client.closed, _i == 1);
  ck_assert_int_eq(server.closed, _i == 1);
  done();
}
END_TEST

START_TEST(freed_end_resets_who_still_writes) {
  sim_host *x, *y;
  sim_nat *box;
  make_stream(&x, &y, &box, 443);
  run(MSOCK_SEC);
  sim_stream_pause(client.s, true); /* does not see the end */
  sim_stream_free(server.s);
  run(MSOCK_SEC);
  sim_stream_write(client.s, (const uint8_t *)"a", 1);
  run(MSOCK_SEC);
  ck_assert(client.closed);
  ck_assert_int_eq(client.error, ECONNRESET);
  done();
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, events_run_in_order_and_can_be_cancelled);
  tcase_add_test(tc, datagram_takes_the_sum_of_both_links);
  tcase_add_test(tc, box_translates_and_filters);
  tcase_add_loop_test(tc, double_box_and_hairpin, 0, 2);
  tcase_add_test(tc, same_lan_needs_no_box);
  tcase_add_test(tc, errors_are_those_of_linux);
  tcase_add_test(tc, loss_is_what_was_asked_for);
  tcase_add_test(tc, a_pair_has_figures_of_its_own);
  tcase_add_loop_test(tc, jitter_alone_keeps_the_order, 0, 2);
  tcase_add_test(tc, stream_opens_carries_and_ends);
  tcase_add_test(tc, nobody_listens_and_nobody_answers);
  tcase_add_test(tc, back_pressure);
  tcase_add_test(tc, stall_ends_in_delivery_or_timeout);
  tcase_add_test(tc, lost_mapping_resets_a_stream);
  tcase_add_loop_test(tc, broken_streams_tell_both_or_nobody, 0, 2);
  tcase_add_test(tc, freed_end_resets_who_still_writes);
  return testing_main("net", tc);
}
