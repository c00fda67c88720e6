/* One DERP connection: login, stream cutting, limits, queues, deadlines. The test is the server. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http1.h"
#include "crypto/x25519.h"
#include "derp/client.h"
#include "tests/unit/testing.h"

#define T0 (1000 * MSOCK_SEC)

typedef struct fixture {
  testing_rng rng;
  msock_env env;
  msock_node_private server, peer_private;
  msock_node_key server_public, peer;
  msock_derp_queue queue;
  msock_derp_client_cfg cfg;
  msock_derp_client *c;
  uint64_t now;
  msock_derp_event ev; /* last one of feed_all */
  size_t n_events;
} fixture;

static fixture x;

static void setup(void) {
  memset(&x, 0, sizeof x);
  x.env = testing_env(&x.rng, 11);
  x.now = T0;
  msock_node_private_generate(&x.env, &x.server);
  msock_node_private_generate(&x.env, &x.peer_private);
  msock_node_private_generate(&x.env, &x.cfg.key);
  x.server_public = msock_node_private_public(&x.server);
  x.peer = msock_node_private_public(&x.peer_private);
  strcpy(x.cfg.host, "derp.example.com");
  x.cfg.info = msock_derp_client_info_default();
  x.cfg.queue = &x.queue;
}

static void teardown(void) {
  msock_derp_client_free(x.c);
  msock_derp_queue_clear(&x.queue);
}

/* Feeds and drains; keeps the last event in x.ev, gives how many came. */
static size_t feed(const void *bytes, size_t len) {
  msock_derp_event ev;
  x.n_events = 0;
  ck_assert_int_eq(msock_derp_client_feed(x.c, x.now, bytes, len), MSOCK_OK);
  while (msock_derp_client_next_event(x.c, &ev)) {
    x.ev = ev;
    x.n_events++;
  }
  return x.n_events;
}

static size_t feed_frame(const msock_derp_frame *f) {
  static uint8_t buf[70000];
  const ptrdiff_t n = msock_derp_frame_encode(f, buf, sizeof buf);
  ck_assert_int_gt(n, 0);
  return feed(buf, (size_t)n);
}

static size_t feed_raw(uint8_t type, const void *payload, uint32_t len) {
  static uint8_t buf[70000];
  msock_derp_header_write(buf, (msock_derp_header){type, len});
  memcpy(buf + 5, payload, len);
  return feed(buf, 5 + len);
}

/* Takes all of tx. */
static size_t drain(uint8_t *dst, size_t cap) {
  const uint8_t *p;
  size_t n, total = 0;
  while (msock_derp_client_tx_peek(x.c, x.now, &p, &n), n > 0) {
    ck_assert_uint_le(total + n, cap);
    memcpy(dst + total, p, n);
    total += n;
    msock_derp_client_tx_consume(x.c, n);
  }
  return total;
}

static const char reply_101[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n\r\n";

static size_t server_key_frame(uint8_t *dst, size_t cap) {
  const msock_derp_frame f = {.type = MSOCK_DERP_SERVER_KEY, .u.server_key.key = x.server_public};
  return (size_t)msock_derp_frame_encode(&f, dst, cap);
}

static size_t server_info_frame(uint8_t *dst, size_t cap, uint64_t rate, uint64_t burst) {
  const msock_derp_server_info info = {2, rate, burst};
  const msock_node_key me = msock_node_private_public(&x.cfg.key);
  const ptrdiff_t n = msock_derp_server_info_seal(&info, &x.server, &me, &x.env, dst, cap);
  ck_assert_int_gt(n, 0);
  return (size_t)n;
}

static void start(void) {
  x.c = msock_derp_client_new(&x.env, &x.cfg, x.now);
  ck_assert_ptr_nonnull(x.c);
}

static uint8_t out[300000];

/* Through 101, ServerKey, ClientInfo, ServerInfo. */
static void login(uint64_t rate, uint64_t burst) {
  uint8_t buf[1024];
  start();
  drain(out, sizeof out);
  ck_assert_uint_eq(feed(reply_101, sizeof reply_101 - 1), 0);
  ck_assert_uint_eq(feed(buf, server_key_frame(buf, sizeof buf)), 0);
  ck_assert(msock_derp_client_is_logged_in(x.c));
  drain(out, sizeof out);
  ck_assert_uint_eq(feed(buf, server_info_frame(buf, sizeof buf, rate, burst)), 1);
  ck_assert_int_eq(x.ev.kind, MSOCK_DERP_EVENT_CONNECTED);
}

static void expect_closed(msock_derp_closed reason) {
  msock_derp_event ev;
  ck_assert_uint_eq(x.n_events, 1);
  ck_assert_int_eq(x.ev.kind, MSOCK_DERP_EVENT_CLOSED);
  ck_assert_msg(x.ev.u.closed.reason == reason, "closed: %s",
                msock_derp_closed_text(x.ev.u.closed.reason));
  ck_assert(msock_derp_client_is_closed(x.c));
  ck_assert(!msock_derp_client_next_event(x.c, &ev));
  ck_assert_int_eq(msock_derp_client_feed(x.c, x.now, out, 1), MSOCK_ERR_CLOSED);
}

/* closes: CLIENT-01 */
START_TEST(request_asks_for_upgrade_and_takes_only_101) {
  static const int statuses[] = {100, 102, 200, 204, 301, 400, 404, 426, 500};
  const char want[] = "GET /derp HTTP/1.1\r\nHost: derp.example.com:8443\r\nUser-Agent: "
                      "Go-http-client/1.1\r\nConnection: Upgrade\r\nIdeal-Node: 900a\r\nUpgrade: "
                      "DERP\r\n\r\n";
  char reply[128];
  strcpy(x.cfg.host, "derp.example.com:8443");
  strcpy(x.cfg.ideal_node, "900a");
  start();
  ck_assert_uint_eq(drain(out, sizeof out), sizeof want - 1);
  ck_assert_mem_eq(out, want, sizeof want - 1);
  snprintf(reply, sizeof reply, "HTTP/1.1 %d Whatever\r\nUpgrade: DERP\r\n\r\n", statuses[_i]);
  feed(reply, strlen(reply));
  expect_closed(MSOCK_DERP_CLOSED_HTTP_STATUS);
  ck_assert_int_eq(x.ev.u.closed.http_status, statuses[_i]);
}
END_TEST

START_TEST(reply_that_is_not_http_closes) {
  start();
  feed("SSH-2.0-x\r\n\r\n", 13);
  expect_closed(MSOCK_DERP_CLOSED_HTTP_BAD);
}
END_TEST

START_TEST(endless_reply_head_closes) {
  static char line[20000];
  start();
  memset(line, 'a', sizeof line);
  memcpy(line, "HTTP/1.1 101 X\r\nA: ", 19);
  feed(line, sizeof line);
  expect_closed(MSOCK_DERP_CLOSED_HTTP_BAD);
}
END_TEST

START_TEST(header_injection_is_refused) {
  strcpy(x.cfg.host, "a\r\nX: y");
  ck_assert_ptr_null(msock_derp_client_new(&x.env, &x.cfg, x.now));
}
END_TEST

/* The whole login and one packet, cut at every place, give the same events.
 * closes: CLIENT-02 */
START_TEST(login_in_one_read_and_in_every_split) {
  uint8_t in[2048];
  msock_derp_frame pkt = {.type = MSOCK_DERP_RECV_PACKET};
  pkt.u.packet.key = x.peer;
  pkt.u.packet.data = (const uint8_t *)"hello";
  pkt.u.packet.len = 5;
  memcpy(in, reply_101, sizeof reply_101 - 1);
  size_t n = sizeof reply_101 - 1;
  n += server_key_frame(in + n, sizeof in - n);
  n += server_info_frame(in + n, sizeof in - n, 0, 0);
  n += (size_t)msock_derp_frame_encode(&pkt, in + n, sizeof in - n);
  for (size_t cut = 0; cut <= n; cut++) {
    start();
    uint8_t *first = malloc(cut + 1), *second = malloc(n - cut + 1); /* exact sizes, for ASan */
    memcpy(first, in, cut);
    memcpy(second, in + cut, n - cut);
    size_t events = feed(first, cut);
    free(first);
    events += feed(second, n - cut);
    ck_assert_uint_eq(events, 2);
    if (cut < n) {
      ck_assert_int_eq(x.ev.kind, MSOCK_DERP_EVENT_PACKET);
      ck_assert_mem_eq(x.ev.u.packet.data, "hello", 5);
      ck_assert(msock_node_key_equal(&x.ev.u.packet.src, &x.peer));
    }
    free(second);
    msock_derp_client_free(x.c);
    x.c = NULL;
  }
  start();
  size_t events = 0;
  for (size_t i = 0; i < n; i++) {
    events += feed(in + i, 1);
  }
  ck_assert_uint_eq(events, 2);
}
END_TEST

START_TEST(packets_in_one_read_are_not_copied) {
  uint8_t in[600];
  msock_derp_event ev;
  msock_derp_frame pkt = {.type = MSOCK_DERP_RECV_PACKET};
  login(0, 0);
  pkt.u.packet.data = (const uint8_t *)"0123456789";
  pkt.u.packet.len = 10;
  size_t n = 0;
  for (int i = 0; i < 3; i++) {
    n += (size_t)msock_derp_frame_encode(&pkt, in + n, sizeof in - n);
  }
  ck_assert_int_eq(msock_derp_client_feed(x.c, x.now, in, n), MSOCK_OK);
  ck_assert_int_eq(msock_derp_client_feed(x.c, x.now, in, n), MSOCK_ERR_AGAIN);
  for (size_t i = 0; i < 3; i++) {
    ck_assert(msock_derp_client_next_event(x.c, &ev));
    ck_assert_ptr_eq(ev.u.packet.data, in + i * 47 + 37);
  }
  ck_assert(!msock_derp_client_next_event(x.c, &ev));
}
END_TEST

static const struct {
  const char *name;
  uint8_t type;
  uint32_t len;
  bool spoil_magic, ok;
} greetings[] = {
    {"wrong type", MSOCK_DERP_SERVER_INFO, 40, false, false},
    {"wrong magic", MSOCK_DERP_SERVER_KEY, 40, true, false},
    {"39", MSOCK_DERP_SERVER_KEY, 39, false, false},
    {"40", MSOCK_DERP_SERVER_KEY, 40, false, true},
    {"extension", MSOCK_DERP_SERVER_KEY, 1024, false, true},
    {"1025", MSOCK_DERP_SERVER_KEY, 1025, false, false},
};

/* closes: CLIENT-03 */
START_TEST(greeting_bounds) {
  uint8_t buf[1100] = {0};
  start();
  feed(reply_101, sizeof reply_101 - 1);
  server_key_frame(buf, sizeof buf);
  msock_derp_header_write(buf, (msock_derp_header){greetings[_i].type, greetings[_i].len});
  buf[5] ^= greetings[_i].spoil_magic;
  feed(buf, 5 + greetings[_i].len);
  if (greetings[_i].ok) {
    ck_assert_msg(msock_derp_client_is_logged_in(x.c), "%s", greetings[_i].name);
    return;
  }
  expect_closed(MSOCK_DERP_CLOSED_GREETING);
}
END_TEST

/* closes: CLIENT-04 CLIENT-23 */
START_TEST(client_info_opens_and_note_preferred_follows) {
  uint8_t buf[64];
  msock_derp_client_info info;
  msock_node_key who;
  x.cfg.preferred = true;
  start();
  drain(out, sizeof out);
  feed(reply_101, sizeof reply_101 - 1);
  feed(buf, server_key_frame(buf, sizeof buf));
  const size_t n = drain(out, sizeof out);
  const msock_derp_header h = msock_derp_header_read(out);
  ck_assert_uint_eq(h.type, MSOCK_DERP_CLIENT_INFO);
  ck_assert_int_eq(msock_derp_client_info_open(out + 5, h.len, &x.server, &who, &info), MSOCK_OK);
  const msock_node_key me = msock_node_private_public(&x.cfg.key);
  ck_assert(msock_node_key_equal(&who, &me));
  ck_assert(!info.has_mesh_key && info.can_ack_pings && !info.is_prober && info.version == 2);
  const uint8_t note[] = {7, 0, 0, 0, 1, 1};
  ck_assert_uint_eq(n, 5 + h.len + sizeof note);
  ck_assert_mem_eq(out + 5 + h.len, note, sizeof note);

  msock_derp_client_set_preferred(x.c, true); /* no news, no frame */
  ck_assert(!msock_derp_client_tx_wanted(x.c));
  msock_derp_client_set_preferred(x.c, false);
  ck_assert(msock_derp_client_tx_wanted(x.c));
  ck_assert_uint_eq(drain(out, sizeof out), 6);
  ck_assert_uint_eq(out[5], 0);
}
END_TEST

static void start_fast(void) {
  x.cfg.fast_start = true;
  x.cfg.server_key = x.server_public;
  start();
}

/* Request head and ClientInfo go out in one write; the ServerKey frame that comes is skipped.
 * closes: CLIENT-05 */
START_TEST(fast_start) {
  uint8_t buf[1024];
  msock_http1_head head;
  start_fast();
  ck_assert(msock_derp_client_is_logged_in(x.c));
  const size_t n = drain(out, sizeof out);
  const ptrdiff_t head_len = msock_http1_parse_request(out, n, &head);
  ck_assert_int_gt(head_len, 0);
  const msock_http1_header *fast = msock_http1_find(&head, "Derp-Fast-Start");
  ck_assert(fast != NULL && msock_http1_str_is(fast->value, "1"));
  ck_assert_uint_eq(out[head_len], MSOCK_DERP_CLIENT_INFO);
  ck_assert_uint_eq(feed(buf, server_key_frame(buf, sizeof buf)), 0);
  ck_assert_uint_eq(feed(buf, server_info_frame(buf, sizeof buf, 0, 0)), 1);
  ck_assert_int_eq(x.ev.kind, MSOCK_DERP_EVENT_CONNECTED);
}
END_TEST

/* closes: CLIENT-05 */
START_TEST(server_info_by_another_key_is_fatal) {
  uint8_t buf[1024];
  start_fast();
  feed(buf, server_key_frame(buf, sizeof buf));
  msock_node_private_generate(&x.env, &x.server); /* an impostor */
  feed(buf, server_info_frame(buf, sizeof buf, 0, 0));
  expect_closed(MSOCK_DERP_CLOSED_SERVER_INFO);
}
END_TEST

/* closes: CLIENT-06 */
START_TEST(http_text_after_fast_start_is_told_apart) {
  static const char reply[] = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad";
  for (size_t cut = 0; cut < 30; cut++) {
    start_fast();
    ck_assert_uint_eq(feed(reply, cut), 0);
    feed(reply + cut, sizeof reply - 1 - cut);
    expect_closed(MSOCK_DERP_CLOSED_FAST_HTTP);
    ck_assert_int_eq(x.ev.u.closed.http_status, 502);
    msock_derp_client_free(x.c);
  }
  start_fast();
  ck_assert_uint_eq(feed("HTTP/1.1", 8), 0); /* cut off: still HTTP, status unknown */
  msock_derp_client_eof(x.c);
  ck_assert(msock_derp_client_next_event(x.c, &x.ev));
  ck_assert_int_eq(x.ev.u.closed.reason, MSOCK_DERP_CLOSED_FAST_HTTP);
  ck_assert_int_eq(x.ev.u.closed.http_status, 0);
}
END_TEST

START_TEST(http_text_later_is_an_ordinary_large_frame) {
  login(0, 0);
  feed("HTTP/1.1 200 OK\r\n\r\n", 19);
  expect_closed(MSOCK_DERP_CLOSED_TOO_LARGE);
}
END_TEST

START_TEST(eof_before_server_info_is_refusal_after_it_is_loss) {
  uint8_t buf[64];
  start();
  feed(reply_101, sizeof reply_101 - 1);
  feed(buf, server_key_frame(buf, sizeof buf));
  msock_derp_client_eof(x.c);
  ck_assert(msock_derp_client_next_event(x.c, &x.ev));
  ck_assert_int_eq(x.ev.u.closed.reason, MSOCK_DERP_CLOSED_REFUSED);
  msock_derp_client_free(x.c);
  login(0, 0);
  msock_derp_client_eof(x.c);
  ck_assert(msock_derp_client_next_event(x.c, &x.ev));
  ck_assert_int_eq(x.ev.u.closed.reason, MSOCK_DERP_CLOSED_EOF);
}
END_TEST

/* closes: CLIENT-08 */
START_TEST(peer_gone_without_reason_is_reason_0) {
  msock_derp_frame f = {.type = MSOCK_DERP_PEER_GONE, .u.peer_gone.key = x.peer};
  login(0, 0);
  ck_assert_uint_eq(feed_frame(&f), 1);
  ck_assert_int_eq(x.ev.kind, MSOCK_DERP_EVENT_PEER_GONE);
  ck_assert_uint_eq(x.ev.u.peer_gone.reason, 0);
  f.u.peer_gone.has_reason = true;
  f.u.peer_gone.reason = 0x77; /* of the future: reported all the same */
  ck_assert_uint_eq(feed_frame(&f), 1);
  ck_assert_uint_eq(x.ev.u.peer_gone.reason, 0x77);
  ck_assert(msock_node_key_equal(&x.ev.u.peer_gone.peer, &x.peer));
}
END_TEST

/* closes: CLIENT-09 */
START_TEST(pong_echoes_eight_bytes) {
  login(0, 0);
  feed_raw(MSOCK_DERP_PING, "abcdefgh", 8);
  feed_raw(MSOCK_DERP_PING, "12345678-and-more", 17);
  feed_raw(MSOCK_DERP_PING, "short!!", 7);
  ck_assert_uint_eq(drain(out, sizeof out), 26);
  ck_assert_mem_eq(out,
                   "\x13\0\0\0\x08"
                   "abcdefgh"
                   "\x13\0\0\0\x08"
                   "12345678",
                   26);
  ck_assert_uint_eq(msock_derp_client_get_counters(x.c)->rx_short, 1);
}
END_TEST

START_TEST(ping_flood_does_not_grow_memory) {
  const uint8_t *p;
  size_t n;
  login(0, 0);
  for (int i = 0; i < 20000; i++) {
    ck_assert_uint_eq(feed_raw(MSOCK_DERP_PING, "abcdefgh", 8), 0);
  }
  msock_derp_client_tx_peek(x.c, x.now, &p, &n);
  ck_assert_uint_le(n, MSOCK_DERP_PACKET_MAX + 4096);
  ck_assert_uint_eq(msock_derp_client_get_counters(x.c)->rx_ping, 20000);
}
END_TEST

/* Every type that a client has no business with, and every short frame; a packet still comes after.
 * closes: CLIENT-10 */
START_TEST(unknown_and_short_frames_are_skipped) {
  static uint8_t junk[66000];
  login(0, 0);
  for (unsigned type = 0; type < 256; type++) {
    if (type == MSOCK_DERP_SERVER_INFO) {
      continue;
    }
    if (type != MSOCK_DERP_HEALTH) {
      ck_assert_uint_eq(feed_raw((uint8_t)type, junk, 7), 0);
    }
    if (type == MSOCK_DERP_KEEP_ALIVE || type == MSOCK_DERP_SERVER_KEY || type > 0x15) {
      ck_assert_uint_eq(feed_raw((uint8_t)type, junk, sizeof junk), 0);
    }
  }
  ck_assert_uint_eq(feed_raw(MSOCK_DERP_RECV_PACKET, junk, 65569), 0);
  ck_assert_uint_eq(feed_raw(MSOCK_DERP_RECV_PACKET, junk, 31), 0);
  ck_assert_uint_eq(feed_raw(MSOCK_DERP_RECV_PACKET, junk, 32), 1);
  ck_assert_int_eq(x.ev.kind, MSOCK_DERP_EVENT_PACKET);
  ck_assert_uint_eq(x.ev.u.packet.len, 0);
}
END_TEST

/* closes: CLIENT-11 */
START_TEST(length_over_1_mib_closes_by_the_header_alone) {
  const uint8_t largest[] = {MSOCK_DERP_RECV_PACKET, 0, 0x10, 0, 0};
  const uint8_t over[] = {_i == 0 ? MSOCK_DERP_RECV_PACKET : 0x7f, 0, 0x10, 0, 1};
  login(0, 0);
  ck_assert_uint_eq(feed(largest, sizeof largest), 0);
  ck_assert(!msock_derp_client_is_closed(x.c));
  msock_derp_client_free(x.c);
  login(0, 0);
  feed(over, sizeof over);
  expect_closed(MSOCK_DERP_CLOSED_TOO_LARGE);
}
END_TEST

/* closes: CLIENT-12 */
START_TEST(dead_after_120_s_without_a_complete_frame) {
  const uint8_t keep_alive[] = {6, 0, 0, 0, 0};
  login(0, 0);
  x.now += 50 * MSOCK_SEC;
  feed(keep_alive, 5);
  const uint64_t dead_at = x.now + 120 * MSOCK_SEC;
  x.now += 100 * MSOCK_SEC;
  feed(keep_alive, 4); /* not complete: counts for nothing */
  ck_assert_uint_eq(msock_derp_client_next_expiry(x.c), dead_at);
  msock_derp_client_on_expiry(x.c, dead_at - 1);
  ck_assert(!msock_derp_client_is_closed(x.c));
  msock_derp_client_on_expiry(x.c, dead_at);
  ck_assert(msock_derp_client_next_event(x.c, &x.ev));
  ck_assert_int_eq(x.ev.u.closed.reason, MSOCK_DERP_CLOSED_SILENT);
  ck_assert_uint_eq(msock_derp_client_next_expiry(x.c), MSOCK_NEVER);
}
END_TEST

static uint8_t packet[70000];

/* closes: CLIENT-13 */
START_TEST(packet_over_65536_is_refused_here) {
  login(0, 0);
  ck_assert_int_eq(msock_derp_client_send(x.c, x.now, &x.peer, packet, 65537), MSOCK_ERR_INVALID);
  ck_assert(!msock_derp_client_tx_wanted(x.c));
  ck_assert_int_eq(msock_derp_client_send(x.c, x.now, &x.peer, packet, 65536), MSOCK_OK);
  ck_assert_uint_eq(drain(out, sizeof out), 5 + 32 + 65536);
  ck_assert_int_eq(msock_derp_client_send(x.c, x.now, &x.peer, packet, 0), MSOCK_OK);
  ck_assert_uint_eq(drain(out, sizeof out), 5 + 32);
}
END_TEST

/* closes: CLIENT-22 */
START_TEST(health_text_is_surfaced_and_cleared) {
  login(0, 0);
  ck_assert_uint_eq(feed_raw(MSOCK_DERP_HEALTH, "duplicate key", 13), 1);
  ck_assert_int_eq(x.ev.kind, MSOCK_DERP_EVENT_HEALTH);
  ck_assert_uint_eq(x.ev.u.health.len, 13);
  ck_assert_mem_eq(x.ev.u.health.text, "duplicate key", 13);
  ck_assert_uint_eq(feed_raw(MSOCK_DERP_HEALTH, "", 0), 1);
  ck_assert_uint_eq(x.ev.u.health.len, 0);
}
END_TEST

/* closes: CLIENT-24 */
START_TEST(server_rate_bounds_sending) {
  login(10000, 100000);
  size_t sent = 0;
  for (int i = 0; i < 200; i++) { /* 200 * 1000 bytes at once: the burst passes */
    ck_assert_int_eq(msock_derp_client_send(x.c, x.now, &x.peer, packet, 1000 - 37), MSOCK_OK);
    sent += drain(out, sizeof out);
  }
  ck_assert_uint_eq(sent, 100000);
  ck_assert_uint_eq(msock_derp_client_get_counters(x.c)->tx_drop_rate, 100);
  x.now += 99999; /* a microsecond short of one more packet */
  msock_derp_client_send(x.c, x.now, &x.peer, packet, 1000 - 37);
  ck_assert_uint_eq(drain(out, sizeof out), 0);
  x.now += 101;
  msock_derp_client_send(x.c, x.now, &x.peer, packet, 1000 - 37);
  ck_assert_uint_eq(drain(out, sizeof out), 1000);
}
END_TEST

START_TEST(burst_below_one_packet_does_not_stop_everything) {
  login(1000, 10);
  msock_derp_client_send(x.c, x.now, &x.peer, packet, 1400);
  ck_assert_uint_eq(drain(out, sizeof out), 1437);
}
END_TEST

/* What waits before login goes out right behind ClientInfo, without ServerInfo. */
START_TEST(packets_wait_for_client_info_only) {
  uint8_t buf[64];
  start();
  drain(out, sizeof out);
  memset(packet, 0x11, 100);
  ck_assert_int_eq(msock_derp_client_send(x.c, x.now, &x.peer, packet, 100), MSOCK_OK);
  ck_assert(!msock_derp_client_tx_wanted(x.c));
  feed(reply_101, sizeof reply_101 - 1);
  feed(buf, server_key_frame(buf, sizeof buf));
  const size_t n = drain(out, sizeof out);
  const size_t login_len = 5 + msock_derp_header_read(out).len;
  ck_assert_uint_eq(n, login_len + 137);
  ck_assert_uint_eq(out[login_len], MSOCK_DERP_SEND_PACKET);
  ck_assert_mem_eq(out + login_len + 5, x.peer.b, 32);
  ck_assert_mem_eq(out + login_len + 37, packet, 100);
}
END_TEST

static void make_disco(uint8_t *p, uint8_t mark) {
  static const uint8_t magic[6] = {0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac};
  memset(p, mark, 62);
  memcpy(p, magic, sizeof magic);
}

/* Before login 40 of disco and 1000 of data: the last 32 of each are left, disco first.
 * closes: POOL-04 */
START_TEST(full_queue_drops_the_oldest_and_disco_survives_data) {
  uint8_t buf[64], p[64];
  start();
  drain(out, sizeof out);
  for (unsigned i = 0; i < 40; i++) {
    make_disco(p, (uint8_t)i);
    ck_assert_int_eq(msock_derp_client_send(x.c, x.now, &x.peer, p, 62), MSOCK_OK);
  }
  for (unsigned i = 0; i < 1000; i++) {
    memset(p, (int)(i & 0xff), sizeof p);
    ck_assert_int_eq(msock_derp_client_send(x.c, x.now, &x.peer, p, 61), MSOCK_OK);
  }
  ck_assert_uint_eq(x.queue.dropped_disco, 8);
  ck_assert_uint_eq(x.queue.dropped_data, 968);
  feed(reply_101, sizeof reply_101 - 1);
  feed(buf, server_key_frame(buf, sizeof buf));
  const size_t n = drain(out, sizeof out);
  size_t at = 5 + msock_derp_header_read(out).len;
  for (unsigned i = 8; i < 40; i++, at += 5 + 32 + 62) {
    ck_assert_uint_eq(out[at + 5 + 32 + 61], i);
  }
  for (unsigned i = 968; i < 1000; i++, at += 5 + 32 + 61) {
    ck_assert_uint_eq(out[at + 5 + 32 + 60], i & 0xff);
  }
  ck_assert_uint_eq(at, n);
}
END_TEST

/* A stream that takes nothing: what was shown stays, the queue behind it drops its oldest, and a
 * disco packet still gets through first. */
START_TEST(stalled_stream_keeps_what_it_showed) {
  const uint8_t *p, *again;
  size_t n, n_again;
  uint8_t first[64], disco[62];
  login(0, 0);
  for (unsigned i = 0; i < 500; i++) {
    memset(packet, (int)(i & 0xff), 1400);
    ck_assert_int_eq(msock_derp_client_send(x.c, x.now, &x.peer, packet, 1400), MSOCK_OK);
    if (i == 0) {
      msock_derp_client_tx_peek(x.c, x.now, &p, &n);
      memcpy(first, p, sizeof first);
    }
  }
  make_disco(disco, 9);
  ck_assert_int_eq(msock_derp_client_send(x.c, x.now, &x.peer, disco, 62), MSOCK_OK);
  msock_derp_client_tx_peek(x.c, x.now, &again, &n_again);
  ck_assert_mem_eq(again, first, sizeof first);
  ck_assert_uint_gt(n_again, n);
  const uint64_t shown = n_again / 1437;
  ck_assert_uint_eq(x.queue.dropped_data, 500 - shown - 32);
  msock_derp_client_tx_consume(x.c, shown * 1437);
  drain(out, sizeof out);
  ck_assert_uint_eq(msock_derp_header_read(out).len, 32 + 62);
  ck_assert_uint_eq(out[5 + 32 + 61], 9);
  ck_assert_uint_eq(msock_derp_client_get_counters(x.c)->tx_packets, shown + 32 + 1);
}
END_TEST

/* A batch of datagrams is one run, so one TLS write. */
START_TEST(thirty_datagrams_are_one_write) {
  const uint8_t *p;
  size_t n;
  login(0, 0);
  for (int i = 0; i < 40; i++) {
    msock_derp_client_send(x.c, x.now, &x.peer, packet, 1280 + 32);
  }
  msock_derp_client_tx_peek(x.c, x.now, &p, &n);
  ck_assert_uint_eq(n, 40 * (5 + 32 + 1280 + 32));
}
END_TEST

START_TEST(partial_writes_keep_the_order) {
  const uint8_t *p;
  size_t n, at = 0, sent = 0;
  login(0, 0);
  while (at < 200000) {
    if (sent < 200) {
      memset(packet, (int)sent++, 1000);
      msock_derp_client_send(x.c, x.now, &x.peer, packet, 963);
    }
    msock_derp_client_tx_peek(x.c, x.now, &p, &n);
    n = n < 1013 ? n : 1013;
    memcpy(out + at, p, n);
    msock_derp_client_tx_consume(x.c, n);
    at += n;
  }
  for (size_t i = 0; i < 200; i++) {
    ck_assert_uint_eq(msock_derp_header_read(out + i * 1000).len, 995);
    ck_assert_uint_eq(out[i * 1000 + 999], i);
  }
}
END_TEST

START_TEST(ping_and_its_limit) {
  uint8_t pong[13];
  start();
  ck_assert_int_eq(msock_derp_client_ping(x.c, x.now, MSOCK_SEC), MSOCK_ERR_AGAIN);
  msock_derp_client_free(x.c);
  login(0, 0);
  ck_assert_int_eq(msock_derp_client_ping(x.c, x.now, 3 * MSOCK_SEC), MSOCK_OK);
  ck_assert_uint_eq(drain(pong, sizeof pong), 13);
  pong[0] = MSOCK_DERP_PONG;
  x.now += 70 * MSOCK_MS;
  ck_assert_uint_eq(feed(pong, 13), 1);
  ck_assert_int_eq(x.ev.kind, MSOCK_DERP_EVENT_PONG);
  ck_assert_uint_eq(x.ev.u.pong_rtt_us, 70 * MSOCK_MS);
  ck_assert_uint_eq(feed(pong, 13), 0); /* once */

  ck_assert_int_eq(msock_derp_client_ping(x.c, x.now, 3 * MSOCK_SEC), MSOCK_OK);
  ck_assert_uint_eq(feed(pong, 13), 0); /* of the earlier ping */
  ck_assert_uint_eq(msock_derp_client_next_expiry(x.c), x.now + 3 * MSOCK_SEC);
  msock_derp_client_on_expiry(x.c, x.now + 3 * MSOCK_SEC - 1);
  ck_assert(!msock_derp_client_is_closed(x.c));
  msock_derp_client_on_expiry(x.c, x.now + 3 * MSOCK_SEC);
  ck_assert(msock_derp_client_next_event(x.c, &x.ev));
  ck_assert_int_eq(x.ev.u.closed.reason, MSOCK_DERP_CLOSED_NO_PONG);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_loop_test(tc, request_asks_for_upgrade_and_takes_only_101, 0, 9);
  tcase_add_test(tc, reply_that_is_not_http_closes);
  tcase_add_test(tc, endless_reply_head_closes);
  tcase_add_test(tc, header_injection_is_refused);
  tcase_add_test(tc, login_in_one_read_and_in_every_split);
  tcase_add_test(tc, packets_in_one_read_are_not_copied);
  tcase_add_loop_test(tc, greeting_bounds, 0, sizeof greetings / sizeof greetings[0]);
  tcase_add_test(tc, client_info_opens_and_note_preferred_follows);
  tcase_add_test(tc, fast_start);
  tcase_add_test(tc, server_info_by_another_key_is_fatal);
  tcase_add_test(tc, http_text_after_fast_start_is_told_apart);
  tcase_add_test(tc, http_text_later_is_an_ordinary_large_frame);
  tcase_add_test(tc, eof_before_server_info_is_refusal_after_it_is_loss);
  tcase_add_test(tc, peer_gone_without_reason_is_reason_0);
  tcase_add_test(tc, pong_echoes_eight_bytes);
  tcase_add_test(tc, ping_flood_does_not_grow_memory);
  tcase_add_test(tc, unknown_and_short_frames_are_skipped);
  tcase_add_loop_test(tc, length_over_1_mib_closes_by_the_header_alone, 0, 2);
  tcase_add_test(tc, dead_after_120_s_without_a_complete_frame);
  tcase_add_test(tc, packet_over_65536_is_refused_here);
  tcase_add_test(tc, health_text_is_surfaced_and_cleared);
  tcase_add_test(tc, server_rate_bounds_sending);
  tcase_add_test(tc, burst_below_one_packet_does_not_stop_everything);
  tcase_add_test(tc, packets_wait_for_client_info_only);
  tcase_add_test(tc, full_queue_drops_the_oldest_and_disco_survives_data);
  tcase_add_test(tc, stalled_stream_keeps_what_it_showed);
  tcase_add_test(tc, thirty_datagrams_are_one_write);
  tcase_add_test(tc, partial_writes_keep_the_order);
  tcase_add_test(tc, ping_and_its_limit);
  return testing_main("derp_client", tc);
}
