/* The relay core: heads, login, forwarding, notices, bounds and deadlines at exact ticks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/x25519.h"
#include "derp/client.h"
#include "derp/login.h"
#include "derp/queue.h"
#include "derp/server_http.h"
#include "tests/unit/relay_rig.h"
#include "tests/unit/testing.h"

#define T0 (1000 * MSOCK_SEC)

static testing_rng rng;
static msock_env env;
static msock_node_private server_secret;
static msock_derp_server *s;
static relay_client a, b;

static void setup(void) {
  env = testing_env(&rng, 5);
  msock_node_private_generate(&env, &server_secret);
  s = msock_derp_server_new(&env, &server_secret);
  ck_assert_ptr_nonnull(s);
  relay_client_init(&a, &env, s, T0, NULL);
  relay_client_init(&b, &env, s, T0, NULL);
}

static void teardown(void) {
  relay_client_free(&a);
  relay_client_free(&b);
  msock_derp_server_free(s);
}

static void login_both(void) {
  relay_client_login(&a, T0);
  relay_client_login(&b, T0);
  ck_assert_uint_eq(msock_derp_server_count(s), 2);
}

static bool gone(const msock_derp_frame *f, const msock_node_key *key, unsigned reason) {
  return f->type == MSOCK_DERP_PEER_GONE && f->u.peer_gone.has_reason &&
         f->u.peer_gone.reason == reason && msock_node_key_equal(&f->u.peer_gone.key, key);
}

/* A packet that looks like disco: the magic and 62 bytes. */
static size_t disco(uint8_t buf[static 62], uint8_t mark) {
  static const uint8_t magic[] = {'T', 'S', 0xf0, 0x9f, 0x92, 0xac};
  memset(buf, mark, 62);
  memcpy(buf, magic, sizeof magic);
  return 62;
}

static const struct {
  const char *request;
  int status;
  const char *has; /* in the answer */
} heads[] = {
    {"GET /derp HTTP/1.1\r\nHost: x\r\n\r\n", 426, "DERP requires connection upgrade"},
    {"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\n\r\n", 101, "Derp-Public-Key: "},
    {"POST /derp HTTP/1.1\r\nHost: x\r\nUpgrade: derp\r\n\r\n", 101, "Derp-Version: 2\r\n"},
    {"GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n", 200, "Access-Control-Allow-Origin: *"},
    {"HEAD /derp/latency-check HTTP/1.1\r\nHost: x\r\n\r\n", 200, "Content-Length: 0"},
    {"POST /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n", 405, "bogus probe method"},
    {"GET /generate_204 HTTP/1.1\r\nHost: x\r\nX-Tailscale-Challenge: ts_x.y:1-2\r\n\r\n", 204,
     "X-Tailscale-Response: response ts_x.y:1-2\r\n"},
    {"GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n", 200, "Disallow: /"},
    {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200, "relay"},
    {"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not found"},
    {"no HTTP at all\r\n\r\n", 400, "malformed"},
};

/* closes: SERVER-01 SERVER-02 (the paths of a relay; /bootstrap-dns and /debug are derpd's) */
START_TEST(request_heads) {
  char text[2048];
  relay_client_write(&a, T0, heads[_i].request, strlen(heads[_i].request));
  relay_client_pump(&a, T0);
  ck_assert_uint_lt(a.rx_len, sizeof text);
  memcpy(text, a.rx, a.rx_len);
  text[a.rx_len] = '\0';
  ck_assert_msg(memmem(a.rx, a.rx_len, heads[_i].has, strlen(heads[_i].has)) != NULL,
                "\"%s\" lacks %s", text, heads[_i].has);
  ck_assert_int_eq(relay_client_head(&a, T0), heads[_i].status);
  ck_assert_int_eq(msock_derp_server_is_done(s, a.conn), heads[_i].status != 101);
}
END_TEST

static const struct {
  const char *request;
  msock_derp_http_verdict verdict;
  bool answered, not_ideal;
} judged[] = {
    {"GET /derp HTTP/1.1\r\nUpgrade: DERP\r\n\r\n", MSOCK_DERP_HTTP_UPGRADE, true, false},
    {"GET /derp HTTP/1.1\r\nUpgrade: derp\r\nDerp-Fast-Start: 1\r\nIdeal-Node: 1a\r\n\r\n",
     MSOCK_DERP_HTTP_UPGRADE, false, true},
    {"GET /derp HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: x, derp\r\n\r\n",
     MSOCK_DERP_HTTP_WEBSOCKET, false, false},
    {"GET /derp HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", MSOCK_DERP_HTTP_UPGRADE, true,
     false}, /* old clients: plain DERP */
    {"GET /derp HTTP/1.1\r\n\r\n", MSOCK_DERP_HTTP_ANSWER, true, false},
    {"GET /derp/probe HTTP/1.1\r\n\r\n", MSOCK_DERP_HTTP_ANSWER, true, false},
    {"GET /metrics HTTP/1.1\r\n\r\n", MSOCK_DERP_HTTP_OTHER, false, false},
};

/* What a program that reads the heads itself is told (derp/server_http.h). */
START_TEST(heads_for_a_program) {
  const msock_node_key key = msock_derp_server_key(s);
  msock_http1_head h;
  msock_derp_http_out out;
  ck_assert_int_gt(msock_http1_parse_request((const uint8_t *)judged[_i].request,
                                             strlen(judged[_i].request), &h),
                   0);
  msock_derp_http_judge(&h, &key, &out);
  ck_assert_int_eq(out.verdict, judged[_i].verdict);
  ck_assert_int_eq(out.len > 0, judged[_i].answered);
  ck_assert_int_eq(out.not_ideal, judged[_i].not_ideal);
}
END_TEST

/* A challenge that could break the head is not echoed. */
START_TEST(odd_challenges_are_not_echoed) {
  char request[256], long_one[66];
  memset(long_one, 'a', 65);
  long_one[65] = '\0';
  const char *const odd[] = {"a b", "a/b", long_one};
  for (size_t i = 0; i < 3; i++) {
    relay_client c;
    relay_client_init(&c, &env, s, T0, NULL);
    const int n =
        snprintf(request, sizeof request,
                 "GET /generate_204 HTTP/1.1\r\nX-Tailscale-Challenge: %s\r\n\r\n", odd[i]);
    relay_client_write(&c, T0, request, (size_t)n);
    relay_client_pump(&c, T0);
    ck_assert_ptr_null(memmem(c.rx, c.rx_len, "X-Tailscale-Response", 20));
    ck_assert_int_eq(relay_client_head(&c, T0), 204);
    relay_client_close(&c, T0);
    relay_client_free(&c);
  }
}
END_TEST

/* closes: SERVER-01 SERVER-03 SERVER-06 */
START_TEST(login_in_any_split_and_with_fast_start) {
  static const char head[] = "GET /derp HTTP/1.1\r\nHost: x\r\nDerp-Fast-Start: 1\r\n"
                             "Upgrade: DERP\r\n\r\n";
  const msock_derp_client_info info = msock_derp_client_info_default();
  const msock_node_key server = msock_derp_server_key(s);
  uint8_t all[4096], hello[] = "hello";
  size_t len = sizeof head - 1;
  msock_derp_frame f = {.type = MSOCK_DERP_SEND_PACKET};

  memcpy(all, head, len);
  len += (size_t)msock_derp_client_info_seal(&info, &a.secret, &server, &env, all + len, 1024);
  f.u.packet.key = a.key; /* to itself: delivered back */
  f.u.packet.data = hello;
  f.u.packet.len = 5;
  len += (size_t)msock_derp_frame_encode(&f, all + len, 1024);
  if (_i == 0) {
    ck_assert(relay_client_write(&a, T0, all, len));
  }
  for (size_t i = 0; _i == 1 && i < len; i++) {
    ck_assert(relay_client_write(&a, T0, all + i, 1));
  }
  ck_assert(relay_client_take(&a, T0, &f)); /* no HTTP answer in front */
  ck_assert_int_eq(f.type, MSOCK_DERP_SERVER_KEY);
  ck_assert(msock_node_key_equal(&f.u.server_key.key, &server));
  ck_assert(relay_client_take(&a, T0, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_SERVER_INFO);
  ck_assert(relay_client_take(&a, T0, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_RECV_PACKET);
  ck_assert(msock_node_key_equal(&f.u.packet.key, &a.key));
  ck_assert_mem_eq(f.u.packet.data, hello, 5);
  ck_assert(!relay_client_take(&a, T0, &f));
}
END_TEST

/* The machine of the other side logs in and exchanges packets through it. */
START_TEST(our_own_client_machine) {
  msock_derp_queue queue = {0};
  msock_derp_client_cfg cfg = {.key = a.secret, .host = "x", .queue = &queue, .preferred = true};
  cfg.info = msock_derp_client_info_default();
  msock_derp_client *c = msock_derp_client_new(&env, &cfg, T0);
  msock_derp_event ev;
  const uint8_t *p;
  size_t n, events = 0;
  static const uint8_t ping[] = "from b";
  relay_client_login(&b, T0);
  for (int turn = 0; turn < 10; turn++) {
    while (msock_derp_client_tx_peek(c, T0, &p, &n), n > 0) {
      ck_assert_int_eq(msock_derp_server_feed(s, T0, a.conn, p, n), MSOCK_OK);
      msock_derp_client_tx_consume(c, n);
    }
    while ((n = msock_derp_server_tx_peek(s, T0, a.conn, &p)) > 0) {
      ck_assert_int_eq(msock_derp_client_feed(c, T0, p, n), MSOCK_OK);
      while (msock_derp_client_next_event(c, &ev)) {
        events++;
        if (ev.kind == MSOCK_DERP_EVENT_CONNECTED) {
          ck_assert(relay_client_packet(&b, T0, &a.key, ping, sizeof ping));
        } else {
          ck_assert_int_eq(ev.kind, MSOCK_DERP_EVENT_PACKET);
        }
      }
      msock_derp_server_tx_consume(s, T0, a.conn, n);
    }
  }
  ck_assert_uint_eq(events, 2);
  msock_derp_client_free(c);
  msock_derp_queue_clear(&queue);
}
END_TEST

/* closes: SERVER-05 */
START_TEST(login_ends_after_ten_seconds) {
  uint32_t conn;
  relay_client_login(&a, T0);
  ck_assert_uint_eq(msock_derp_server_next_expiry(s), T0 + MSOCK_DERP_SERVER_LOGIN_US);
  msock_derp_server_on_expiry(s, T0 + MSOCK_DERP_SERVER_LOGIN_US - 1);
  ck_assert(!msock_derp_server_is_done(s, b.conn));
  while (msock_derp_server_next_wake(s, &conn)) {
  }
  msock_derp_server_on_expiry(s, T0 + MSOCK_DERP_SERVER_LOGIN_US);
  ck_assert(msock_derp_server_is_done(s, b.conn));
  ck_assert(!msock_derp_server_is_done(s, a.conn)); /* logged in: no deadline */
  ck_assert(msock_derp_server_next_wake(s, &conn));
  ck_assert_uint_eq(conn, b.conn);
  ck_assert(!msock_derp_server_next_wake(s, &conn));
}
END_TEST

static const size_t sizes[] = {0, 1, 1200, 1500, 16384, 65535, 65536};

/* closes: SERVER-07 */
START_TEST(packets_arrive_intact_with_the_proven_source) {
  uint8_t *data = malloc(sizes[_i] + 1);
  msock_derp_frame f;
  login_both();
  env.random(env.ctx, data, sizes[_i]);
  ck_assert(relay_client_packet(&a, T0, &b.key, data, sizes[_i]));
  ck_assert(relay_client_take(&b, T0, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_RECV_PACKET);
  ck_assert(msock_node_key_equal(&f.u.packet.key, &a.key));
  ck_assert_uint_eq(f.u.packet.len, sizes[_i]);
  ck_assert_int_eq(memcmp(f.u.packet.data, data, sizes[_i]), 0);
  ck_assert(!relay_client_take(&a, T0, &f));
  free(data);
}
END_TEST

/* closes: SERVER-09 */
START_TEST(keep_alive_at_its_tick_on_a_busy_connection) {
  msock_derp_frame f;
  relay_client_login(&a, T0);
  relay_client_close(&b, T0);
  const uint64_t due = msock_derp_server_next_expiry(s);
  ck_assert_uint_ge(due, T0 + MSOCK_DERP_SERVER_KEEPALIVE_US);
  ck_assert_uint_le(due,
                    T0 + MSOCK_DERP_SERVER_KEEPALIVE_US + MSOCK_DERP_SERVER_KEEPALIVE_SPREAD_US);
  const uint64_t period = due - T0;
  for (uint64_t i = 1; i <= 3; i++) {
    ck_assert(relay_client_packet(&a, T0 + i * period - 2, &a.key, "x", 1)); /* busy */
    ck_assert(relay_client_take(&a, T0 + i * period - 2, &f));
    msock_derp_server_on_expiry(s, T0 + i * period - 1);
    ck_assert(!relay_client_take(&a, T0 + i * period - 1, &f));
    msock_derp_server_on_expiry(s, T0 + i * period);
    ck_assert(relay_client_take(&a, T0 + i * period, &f));
    ck_assert_int_eq(f.type, MSOCK_DERP_KEEP_ALIVE);
  }
}
END_TEST

/* A process that slept sends one, not ten. */
START_TEST(keep_alives_are_not_made_up_for) {
  const uint64_t late = T0 + 600 * MSOCK_SEC;
  msock_derp_frame f;
  relay_client_login(&a, T0);
  relay_client_close(&b, T0);
  msock_derp_server_on_expiry(s, late);
  ck_assert(relay_client_take(&a, late, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_KEEP_ALIVE);
  ck_assert(!relay_client_take(&a, late, &f));
  const uint64_t next = msock_derp_server_next_expiry(s);
  ck_assert_uint_gt(next, late + 59 * MSOCK_SEC);
  ck_assert_uint_le(next, late + 65 * MSOCK_SEC);
}
END_TEST

/* closes: SERVER-10 */
START_TEST(a_ping_flood_gets_one_pong) {
  msock_derp_frame f = {.type = MSOCK_DERP_PING};
  login_both();
  for (uint8_t i = 0; i < 200; i++) {
    memset(f.u.ping, i, sizeof f.u.ping);
    ck_assert(relay_client_frame(&a, T0, &f));
  }
  ck_assert(relay_client_take(&a, T0, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_PONG);
  ck_assert_uint_eq(f.u.ping[0], 199);
  ck_assert_uint_eq(f.u.ping[7], 199);
  ck_assert(!relay_client_take(&a, T0, &f));
}
END_TEST

/* closes: SERVER-11 */
START_TEST(disco_to_an_absent_key_is_told_within_bounds) {
  uint8_t pkt[62];
  msock_node_private stranger;
  msock_derp_frame f;
  msock_node_private_generate(&env, &stranger);
  const msock_node_key absent = msock_node_private_public(&stranger);
  relay_client_login(&a, T0);
  ck_assert(relay_client_packet(&a, T0, &absent, "data", 4));
  ck_assert(!relay_client_take(&a, T0, &f));
  const size_t len = disco(pkt, 1);
  for (int i = 0; i < 5; i++) {
    ck_assert(relay_client_packet(&a, T0, &absent, pkt, len));
  }
  for (int i = 0; i < 3; i++) {
    ck_assert(relay_client_take(&a, T0, &f));
    ck_assert(gone(&f, &absent, MSOCK_DERP_GONE_NOT_HERE));
  }
  ck_assert(!relay_client_take(&a, T0, &f));
  ck_assert(relay_client_packet(&a, T0 + MSOCK_SEC - 1, &absent, pkt, len));
  ck_assert(!relay_client_take(&a, T0 + MSOCK_SEC - 1, &f));
  ck_assert(relay_client_packet(&a, T0 + MSOCK_SEC, &absent, pkt, len));
  ck_assert(relay_client_packet(&a, T0 + MSOCK_SEC, &absent, pkt, len));
  ck_assert(relay_client_take(&a, T0 + MSOCK_SEC, &f));
  ck_assert(!relay_client_take(&a, T0 + MSOCK_SEC, &f));
  ck_assert_uint_eq(msock_derp_server_get_stats(s).dropped[0][MSOCK_DERP_KIND_DISCO], 8);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).gone_not_here, 4);
}
END_TEST

/* closes: SERVER-12 */
START_TEST(those_who_heard_a_peer_learn_that_it_left) {
  relay_client c;
  msock_derp_frame f;
  login_both();
  for (int cycle = 0; cycle < 2; cycle++) { /* the second one is told again */
    relay_client_init(&c, &env, s, T0, cycle ? &c.secret : NULL);
    relay_client_login(&c, T0);
    ck_assert(relay_client_packet(&c, T0, &a.key, "x", 1));
    ck_assert(relay_client_take(&a, T0, &f));
    relay_client_close(&c, T0);
    ck_assert(relay_client_take(&a, T0, &f));
    ck_assert(gone(&f, &c.key, MSOCK_DERP_GONE_DISCONNECTED));
    ck_assert(!relay_client_take(&a, T0, &f));
    ck_assert(!relay_client_take(&b, T0, &f)); /* heard nothing from it */
    relay_client_free(&c);
  }
}
END_TEST

/* closes: SERVER-14 */
START_TEST(a_stalled_reader_loses_its_oldest_and_is_cut) {
  enum { ROOM = 32 };
  msock_derp_server_settings set = msock_derp_server_settings_default();
  set.queue_packets = ROOM;
  ck_assert_int_eq(msock_derp_server_configure(s, T0, &set), MSOCK_OK);
  const uint8_t *p;
  uint8_t n = 0;
  msock_derp_frame f;
  login_both();
  ck_assert(relay_client_packet(&a, T0, &b.key, "first", 5));
  ck_assert_uint_eq(msock_derp_server_tx_peek(s, T0, b.conn, &p), 5 + 32 + 5); /* in the socket */
  for (n = 0; n < 100; n++) {
    ck_assert(relay_client_packet(&a, T0, &b.key, &n, 1));
    ck_assert(relay_client_packet(&a, T0, &a.key, &n, 1)); /* others are not delayed */
    ck_assert(relay_client_take(&a, T0, &f));
    ck_assert_uint_eq(f.u.packet.data[0], n);
  }
  ck_assert_uint_eq(
      msock_derp_server_get_stats(s).dropped[MSOCK_DERP_DROP_QUEUE_HEAD][MSOCK_DERP_KIND_OTHER],
      100 - ROOM);
  const uint64_t cut = T0 + MSOCK_DERP_SERVER_STALL_US;
  ck_assert_uint_eq(msock_derp_server_next_expiry(s), cut);
  msock_derp_server_on_expiry(s, cut - 1);
  ck_assert(!msock_derp_server_is_done(s, b.conn));
  if (_i == 0) {
    msock_derp_server_on_expiry(s, cut);
    ck_assert(msock_derp_server_is_done(s, b.conn));
    ck_assert_uint_eq(msock_derp_server_tx_peek(s, cut, b.conn, &p), 0);
    return;
  }
  msock_derp_server_tx_consume(s, cut - 1, b.conn, 1); /* it goes on after all: no longer late */
  msock_derp_server_on_expiry(s, cut);
  ck_assert(!msock_derp_server_is_done(s, b.conn));
  relay_client_pump(&b, cut);
  memmove(b.rx + 1, b.rx, b.rx_len); /* the byte that was taken by hand */
  b.rx[0] = MSOCK_DERP_RECV_PACKET;
  b.rx_len++;
  ck_assert(relay_client_take(&b, cut, &f));
  ck_assert_mem_eq(f.u.packet.data, "first", 5);
  for (n = 100 - ROOM; n < 100; n++) {
    ck_assert(relay_client_take(&b, cut, &f));
    ck_assert_uint_eq(f.u.packet.data[0], n);
  }
  ck_assert(!relay_client_take(&b, cut, &f));
}
END_TEST

/* closes: SERVER-13 (of three, the one that spoke last takes over) */
START_TEST(the_last_to_speak_takes_over) {
  relay_client more[2];
  msock_derp_frame f = {.type = MSOCK_DERP_PING, .u.ping = {1}};
  login_both();
  for (int i = 0; i < 2; i++) {
    relay_client_init(&more[i], &env, s, T0, &a.secret);
    relay_client_login(&more[i], T0);
  }
  ck_assert(relay_client_frame(&a, T0, &f)); /* the oldest, the middle one, the newest: closes */
  ck_assert(relay_client_take(&a, T0, &f));
  f = (msock_derp_frame){.type = MSOCK_DERP_PING, .u.ping = {2}};
  ck_assert(relay_client_frame(&more[_i], T0, &f));
  relay_client_close(&more[_i], T0);
  ck_assert(relay_client_packet(&b, T0, &a.key, "x", 1));
  ck_assert(relay_client_take(&a, T0, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_RECV_PACKET);
  ck_assert(!relay_client_take(&more[1 - _i], T0, &f));
  relay_client_free(&more[0]);
  relay_client_free(&more[1]);
}
END_TEST

/* A queue is bounded by bytes as well. */
START_TEST(a_queue_holds_so_many_bytes) {
  static uint8_t big[20000];
  msock_derp_server_settings set = msock_derp_server_settings_default();
  msock_derp_frame f;
  set.queue_bytes = 100000;
  ck_assert_int_eq(msock_derp_server_configure(s, T0, &set), MSOCK_OK);
  login_both();
  for (uint8_t i = 0; i < 10; i++) {
    big[0] = i;
    ck_assert(relay_client_packet(&a, T0, &b.key, big, sizeof big));
  }
  for (uint8_t i = 6; i < 10; i++) { /* four of 20,037 bytes fit */
    ck_assert(relay_client_take(&b, T0, &f));
    ck_assert_uint_eq(f.u.packet.data[0], i);
  }
  ck_assert(!relay_client_take(&b, T0, &f));
}
END_TEST

/* closes: SERVER-15 */
START_TEST(data_does_not_evict_disco) {
  uint8_t pkt[62];
  msock_derp_frame f;
  login_both();
  const size_t len = disco(pkt, 7);
  ck_assert(relay_client_packet(&a, T0, &b.key, pkt, len));
  for (int i = 0; i < 1000; i++) {
    ck_assert(relay_client_packet(&a, T0, &b.key, "flood", 5));
  }
  ck_assert(relay_client_take(&b, T0, &f));
  ck_assert_uint_eq(f.u.packet.len, 62);
  ck_assert_mem_eq(f.u.packet.data, pkt, 62);
}
END_TEST

/* closes: SERVER-27 (bounded in number: the oldest that has not logged in makes room; the time is
 * SERVER-05's) */
START_TEST(half_open_connections_are_bounded_and_ids_are_not_reused) {
  msock_derp_server_settings set = msock_derp_server_settings_default();
  uint32_t first, more, woken;
  relay_client_login(&a, T0); /* never displaced */
  set.half_open = 16;
  ck_assert_int_eq(msock_derp_server_configure(s, T0, &set), MSOCK_OK);
  relay_client_close(&b, T0);
  while (msock_derp_server_next_wake(s, &woken)) {
  }
  ck_assert_int_eq(msock_derp_server_open(s, T0, &first), MSOCK_OK);
  for (int i = 1; i < 16; i++) {
    ck_assert_int_eq(msock_derp_server_open(s, T0, &more), MSOCK_OK);
  }
  ck_assert(!msock_derp_server_is_done(s, first));
  ck_assert_int_eq(msock_derp_server_open(s, T0, &more), MSOCK_OK);
  ck_assert(msock_derp_server_is_done(s, first));
  ck_assert(msock_derp_server_next_wake(s, &woken));
  ck_assert_uint_eq(woken, first);
  msock_derp_server_close(s, T0, first);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).half_open, 16);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).closed[MSOCK_DERP_CAUSE_DISPLACED], 1);
  ck_assert(!msock_derp_server_is_done(s, a.conn));
  for (int i = 0; i < 1000; i++) {
    ck_assert_int_eq(msock_derp_server_open(s, T0, &more), MSOCK_OK);
    ck_assert_uint_ne(more, first);
    msock_derp_server_close(s, T0, more);
  }
  ck_assert_int_eq(msock_derp_server_feed(s, T0, first, (const uint8_t *)"x", 1), MSOCK_ERR_CLOSED);
  ck_assert(msock_derp_server_is_done(s, first));
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_loop_test(tc, request_heads, 0, (int)(sizeof heads / sizeof *heads));
  tcase_add_test(tc, odd_challenges_are_not_echoed);
  tcase_add_loop_test(tc, login_in_any_split_and_with_fast_start, 0, 2);
  tcase_add_test(tc, our_own_client_machine);
  tcase_add_test(tc, login_ends_after_ten_seconds);
  tcase_add_loop_test(tc, packets_arrive_intact_with_the_proven_source, 0,
                      (int)(sizeof sizes / sizeof *sizes));
  tcase_add_test(tc, keep_alive_at_its_tick_on_a_busy_connection);
  tcase_add_test(tc, keep_alives_are_not_made_up_for);
  tcase_add_test(tc, a_ping_flood_gets_one_pong);
  tcase_add_test(tc, disco_to_an_absent_key_is_told_within_bounds);
  tcase_add_test(tc, those_who_heard_a_peer_learn_that_it_left);
  tcase_add_loop_test(tc, a_stalled_reader_loses_its_oldest_and_is_cut, 0, 2);
  tcase_add_loop_test(tc, the_last_to_speak_takes_over, 0, 2);
  tcase_add_test(tc, a_queue_holds_so_many_bytes);
  tcase_add_loop_test(tc, heads_for_a_program, 0, (int)(sizeof judged / sizeof *judged));
  tcase_add_test(tc, data_does_not_evict_disco);
  tcase_add_test(tc, half_open_connections_are_bounded_and_ids_are_not_reused);
  return testing_main("derp_server", tc);
}
