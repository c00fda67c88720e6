/* One ts2021 connection at the server, against the client's channel: heads, handshake, streams,
 * bounds, deadlines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http1.h"
#include "control/channel.h"
#include "control/noise.h"
#include "control/server_conn.h"
#include "crypto/x25519.h"
#include "tests/unit/testing.h"

#define T0 (1000 * MSOCK_SEC)
#define RX_MAX (3u << 20)

static testing_rng rng;
static msock_env env;
static msock_machine_private server_key, machine;
static msock_machine_key server_pub;
static msock_server_conn *s;
static msock_channel *c;
static char *body; /* of the answer that came last */
static size_t body_len;
static int status;
static bool ended;

static void setup(void) {
  env = testing_env(&rng, 3);
  msock_machine_private_generate(&env, &server_key);
  msock_machine_private_generate(&env, &machine);
  server_pub = msock_machine_private_public(&server_key);
  s = msock_server_conn_new(&env, &server_key, true, T0);
  body = malloc(RX_MAX);
  ck_assert(s != NULL && body != NULL);
}

static void teardown(void) {
  msock_channel_free(c);
  c = NULL;
  msock_server_conn_free(s);
  free(body);
}

static void dial(uint16_t version) {
  const msock_channel_cfg cfg = {.host = "control.example",
                                 .port = 80,
                                 .default_port = true,
                                 .version = version,
                                 .machine = &machine,
                                 .server = &server_pub};
  c = msock_channel_new(&env, &cfg, T0);
  ck_assert_ptr_nonnull(c);
}

static void take_channel_events(void) {
  msock_channel_event ev;
  while (msock_channel_next_event(c, &ev)) {
    if (ev.kind == MSOCK_CHANNEL_EV_RESPONSE) {
      status = ev.status;
      body_len = 0;
    } else if (ev.kind == MSOCK_CHANNEL_EV_DATA) {
      ck_assert_uint_le(body_len + ev.len, RX_MAX);
      memcpy(body + body_len, ev.p, ev.len);
      body_len += ev.len;
    } else if (ev.kind == MSOCK_CHANNEL_EV_END) {
      ended = true;
    }
  }
}

/* Bytes both ways until nothing moves, chunk bytes a time. */
static void pump_by(uint64_t now, size_t chunk) {
  const uint8_t *p;
  for (bool moved = true; moved;) {
    moved = false;
    size_t n = msock_channel_tx_peek(c, &p);
    if (n > 0) {
      n = n < chunk ? n : chunk;
      msock_server_conn_feed(s, now, p, n);
      msock_channel_tx_consume(c, n);
      moved = true;
    }
    n = msock_server_conn_tx_peek(s, &p);
    if (n > 0) {
      n = n < chunk ? n : chunk;
      const size_t used = msock_channel_feed(c, now, p, n);
      take_channel_events();
      ck_assert(used > 0 || msock_channel_failed(c, NULL, NULL) != MSOCK_CHANNEL_ALIVE);
      msock_server_conn_tx_consume(s, used > 0 ? used : n);
      moved = true;
    }
  }
}

static void pump(uint64_t now) {
  pump_by(now, SIZE_MAX);
}

static msock_server_request next_request(void) {
  msock_server_event ev;
  do {
    ck_assert_msg(msock_server_conn_next_event(s, &ev), "no request came");
  } while (ev.kind != MSOCK_SERVER_EV_REQUEST);
  return ev.request;
}

static void open_channel(void) {
  msock_server_event ev;
  dial(138);
  pump(T0);
  ck_assert(msock_channel_is_ready(c));
  ck_assert(msock_server_conn_next_event(s, &ev));
  ck_assert_int_eq(ev.kind, MSOCK_SERVER_EV_READY);
}

/* Sends raw bytes; the whole answer lands in body, NUL-terminated. */
static void raw(const char *bytes, size_t len) {
  const uint8_t *p;
  size_t n;
  msock_server_conn_feed(s, T0, (const uint8_t *)bytes, len);
  while ((n = msock_server_conn_tx_peek(s, &p)) > 0) {
    ck_assert_uint_lt(body_len + n, RX_MAX);
    memcpy(body + body_len, p, n);
    body_len += n;
    msock_server_conn_tx_consume(s, n);
  }
  body[body_len] = '\0';
}

static const struct {
  const char *request, *status, *has;
} heads[] = {
    {"GET /key?v=138 HTTP/1.1\r\nHost: x\r\n\r\n", "200", "\"publicKey\":\"mkey:"},
    {"GET /key?v=138 HTTP/1.1\r\nHost: x\r\n\r\n", "200", "\"legacyPublicKey\":\"mkey:00000000"},
    {"GET /key HTTP/1.1\r\nHost: x\r\n\r\n", "400", "capability version must be set"},
    {"GET /key?v= HTTP/1.1\r\nHost: x\r\n\r\n", "400", "capability version must be set"},
    {"GET /key?v=abc HTTP/1.1\r\nHost: x\r\n\r\n", "400", "not a number"},
    {"GET /key?v=99999999999999999999 HTTP/1.1\r\nHost: x\r\n\r\n", "400", "not a number"},
    {"POST /key?v=138 HTTP/1.1\r\nHost: x\r\n\r\n", "405", "not allowed"},
    {"GET /keys HTTP/1.1\r\nHost: x\r\n\r\n", "404", "not found"},
    {"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "200", "pass"},
    {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404", "not found"},
    {"GET /ts2021 HTTP/1.1\r\nHost: x\r\n\r\n", "405", "not allowed"},
    {"POST /ts2021 HTTP/1.1\r\nHost: x\r\n\r\n", "400", "next protocol"},
    {"POST /ts2021 HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", "400", "next protocol"},
    {"POST /ts2021 HTTP/1.1\r\nUpgrade: tailscale-control-protocol\r\n\r\n", "400", "Handshake"},
    {"POST /ts2021 HTTP/1.1\r\nUpgrade: tailscale-control-protocol\r\n"
     "X-Tailscale-Handshake: AAAA\r\n\r\n",
     "400", "Handshake"},
    {"\x16\x03\x01 not HTTP\r\n\r\n", "400", "malformed"},
};

/* closes: CTRL-75 (paths and heads outside Noise) */
START_TEST(heads_before_the_upgrade) {
  char line[32];
  raw(heads[_i].request, strlen(heads[_i].request));
  snprintf(line, sizeof line, "HTTP/1.1 %s ", heads[_i].status);
  ck_assert_msg(strncmp(body, line, strlen(line)) == 0, "not %s but %s", line, body);
  ck_assert_msg(strstr(body, heads[_i].has) != NULL, "no \"%s\" in %s", heads[_i].has, body);
  ck_assert(msock_server_conn_is_done(s));
  ck_assert_int_eq(msock_server_conn_feed(s, T0, (const uint8_t *)"more", 4), MSOCK_ERR_CLOSED);
}
END_TEST

/* closes: CTRL-75 (garbage handshake): 101, then the end, as Headscale does (control.md 2.2) */
START_TEST(a_garbage_handshake_gets_a_101_and_the_end) {
  char request[512];
  char text[137];
  memset(text, "ABq/"[_i], 134);
  strcpy(text + 134, "A=");
  const int n = snprintf(request, sizeof request,
                         "POST /ts2021 HTTP/1.1\r\nUpgrade: tailscale-control-protocol\r\n"
                         "Connection: upgrade\r\nX-Tailscale-Handshake: %s\r\n\r\n",
                         text);
  raw(request, (size_t)n);
  ck_assert_int_eq(strncmp(body, "HTTP/1.1 101 ", 13), 0);
  ck_assert_str_eq(body + body_len - 4, "\r\n\r\n"); /* and not a byte behind it */
  ck_assert(msock_server_conn_is_done(s));
}
END_TEST

/* closes: CTRL-75 (an endless head) */
START_TEST(a_head_without_end_is_refused) {
  char *head = malloc(MSOCK_HTTP1_HEAD_MAX);
  memset(head, 'a', MSOCK_HTTP1_HEAD_MAX);
  memcpy(head, "GET / HTTP/1.1\r\nX: ", 19);
  raw(head, MSOCK_HTTP1_HEAD_MAX);
  ck_assert_int_eq(strncmp(body, "HTTP/1.1 400 ", 13), 0);
  ck_assert(msock_server_conn_is_done(s));
  free(head);
}
END_TEST

/* closes: CTRL-24 (server's side: the early payload in three records) */
START_TEST(a_handshake_tells_machine_and_version_in_any_split) {
  static const size_t chunks[] = {SIZE_MAX, 1, 7};
  msock_server_event ev;
  const msock_machine_key want = msock_machine_private_public(&machine);
  if (_i == 3) { /* without the early payload */
    msock_server_conn_free(s);
    s = msock_server_conn_new(&env, &server_key, false, T0);
  }
  dial(121);
  pump_by(T0, chunks[_i % 3]);
  ck_assert(msock_channel_is_ready(c));
  ck_assert(msock_server_conn_next_event(s, &ev));
  ck_assert_int_eq(ev.kind, MSOCK_SERVER_EV_READY);
  ck_assert(msock_machine_key_equal(msock_server_conn_machine(s), &want));
  ck_assert_uint_eq(msock_server_conn_version(s), 121);
}
END_TEST

START_TEST(whole_answers_and_a_long_one) {
  static const char hello[] = "{\"hello\":1}";
  open_channel();
  const int32_t id = msock_channel_request(c, "POST", "/machine/map?x=1", hello, sizeof hello - 1);
  pump_by(T0, 100);
  const msock_server_request r = next_request();
  ck_assert_int_eq(r.stream, id);
  ck_assert_str_eq(r.method, "POST");
  ck_assert_str_eq(r.path, "/machine/map?x=1");
  ck_assert_uint_eq(r.body_len, sizeof hello - 1);
  ck_assert_mem_eq(r.body, hello, sizeof hello - 1);
  ck_assert_int_eq(msock_server_conn_begin(s, id, 200), MSOCK_OK);
  ck_assert_int_eq(msock_server_conn_begin(s, id, 200), MSOCK_ERR_CLOSED); /* once */
  pump(T0);
  ck_assert_int_eq(status, 200);
  ck_assert_int_eq(msock_server_conn_write(s, id, "one ", 4), MSOCK_OK);
  pump(T0);
  ck_assert_int_eq(msock_server_conn_write(s, id, "two", 3), MSOCK_OK);
  pump(T0);
  ck_assert_uint_eq(body_len, 7);
  ck_assert_mem_eq(body, "one two", 7);
  ck_assert(!ended);
  msock_server_conn_end(s, id);
  msock_server_conn_end(s, id);
  pump(T0);
  ck_assert(ended);
  ck_assert_int_eq(msock_server_conn_write(s, id, "x", 1), MSOCK_ERR_CLOSED);
  const int32_t id2 = msock_channel_request(c, "GET", "/machine/nothing", NULL, 0);
  pump(T0);
  ck_assert_uint_eq(next_request().body_len, 0);
  ck_assert_int_eq(msock_server_conn_respond(s, id2, 404, "", 0), MSOCK_OK);
  pump(T0);
  ck_assert_int_eq(status, 404);
  ck_assert_uint_eq(body_len, 0);
}
END_TEST

/* An answer of 2 MB: over the windows of stream and connection. */
START_TEST(flow_control_of_a_large_answer) {
  const size_t len = 2u << 20;
  char *big = malloc(len);
  for (size_t i = 0; i < len; i++) {
    big[i] = (char)(i * 31 >> 5);
  }
  open_channel();
  const int32_t id = msock_channel_request(c, "POST", "/machine/map", "{}", 2);
  pump(T0);
  next_request();
  ck_assert_int_eq(msock_server_conn_respond(s, id, 200, big, len), MSOCK_OK);
  pump(T0);
  ck_assert(ended);
  ck_assert_uint_eq(body_len, len);
  ck_assert_int_eq(memcmp(body, big, len), 0);
  free(big);
}
END_TEST

/* closes: CTRL-75 (oversized body: 1 MiB passes, a byte more is 413) */
START_TEST(request_bodies_are_bounded) {
  char *big = calloc(1, MSOCK_SERVER_BODY_MAX);
  open_channel();
  const int32_t id = msock_channel_request(c, "POST", "/machine/map", big, MSOCK_SERVER_BODY_MAX);
  ck_assert_int_gt(id, 0);
  pump(T0);
  ck_assert_uint_eq(next_request().body_len, MSOCK_SERVER_BODY_MAX);
  /* while this one is kept, another of the same size fits, a third does not */
  ck_assert_int_gt(msock_channel_request(c, "POST", "/machine/map", big, MSOCK_SERVER_BODY_MAX), 0);
  pump(T0);
  ck_assert_uint_eq(next_request().body_len, MSOCK_SERVER_BODY_MAX);
  ck_assert_int_gt(msock_channel_request(c, "POST", "/machine/map", "x", 1), 0);
  pump(T0);
  ck_assert_int_eq(status, 413);
  ck_assert_int_eq(msock_server_conn_respond(s, id, 200, "", 0), MSOCK_OK);
  pump(T0); /* its body is free again */
  ck_assert_int_gt(msock_channel_request(c, "POST", "/machine/map", "x", 1), 0);
  pump(T0);
  ck_assert_uint_eq(next_request().body_len, 1);
  free(big);
}
END_TEST

/* closes: CTRL-75 (a path over its bound) */
START_TEST(long_paths_are_not_found) {
  char path[200];
  memset(path, 'a', sizeof path);
  path[0] = '/';
  path[sizeof path - 1] = '\0';
  open_channel();
  ck_assert_int_gt(msock_channel_request(c, "POST", path, "{}", 2), 0);
  pump(T0);
  ck_assert_int_eq(status, 404);
  msock_server_event ev;
  while (msock_server_conn_next_event(s, &ev)) {
    ck_assert_int_ne(ev.kind, MSOCK_SERVER_EV_REQUEST);
  }
}
END_TEST

/* closes: CTRL-75 (a record that does not open, a frame of another type) */
START_TEST(a_broken_record_ends_the_connection) {
  uint8_t record[64] = {4, 0, 61};
  open_channel();
  record[0] = _i == 0 ? 4 : 5;
  ck_assert_int_eq(msock_server_conn_feed(s, T0, record, sizeof record), MSOCK_ERR_CLOSED);
  ck_assert(msock_server_conn_is_done(s));
}
END_TEST

START_TEST(garbage_in_place_of_http2_ends_the_connection) {
  /* sealed properly, so it reaches HTTP/2 */
  msock_control_initiator hs;
  msock_control_records records;
  uint8_t first[MSOCK_CONTROL_INITIATION_LEN], ephemeral[32], record[256];
  uint8_t reply[MSOCK_CONTROL_RESPONSE_LEN], early[MSOCK_CONTROL_PLAIN_MAX];
  char text[137], request[512];
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  env.random(env.ctx, ephemeral, sizeof ephemeral);
  ck_assert_int_eq(msock_control_initiate(&hs, 138, &machine, &server_pub, ephemeral, first),
                   MSOCK_OK);
  for (size_t i = 0; i < 34; i++) {
    const uint32_t v = (uint32_t)first[i * 3] << 16 |
                       (i * 3 + 1 < sizeof first ? (uint32_t)first[i * 3 + 1] << 8 : 0) |
                       (i * 3 + 2 < sizeof first ? first[i * 3 + 2] : 0);
    for (int k = 0; k < 4; k++) {
      text[i * 4 + (size_t)k] = alphabet[v >> (18 - 6 * k) & 63];
    }
  }
  strcpy(text + 135, "=");
  const int n = snprintf(request, sizeof request,
                         "POST /ts2021 HTTP/1.1\r\nUpgrade: tailscale-control-protocol\r\n"
                         "X-Tailscale-Handshake: %s\r\n\r\n",
                         text);
  raw(request, (size_t)n);
  const char *end = strstr(body, "\r\n\r\n");
  ck_assert_ptr_nonnull(end);
  memcpy(reply, end + 4, sizeof reply);
  ck_assert_int_eq(msock_control_initiator_finish(&hs, reply, &records), MSOCK_OK);
  /* the early payload's magic is the first record */
  const uint8_t *at = (const uint8_t *)end + 4 + sizeof reply;
  const ptrdiff_t size = msock_control_record_size(&records, at);
  ck_assert_int_eq(msock_control_record_open(&records, at, (size_t)size, early), 5);
  ck_assert_mem_eq(early, "\xff\xff\xffTS", 5);
  const ptrdiff_t len = msock_control_record_seal(
      &records, (const uint8_t *)"GET / HTTP/1.1\r\n\r\nxxxxxxxxxx", 28, record);
  msock_server_conn_feed(s, T0, record, (size_t)len);
  ck_assert(msock_server_conn_is_done(s));
}
END_TEST

/* closes: CTRL-75 (a client that never finishes its handshake) */
START_TEST(the_login_has_ten_seconds) {
  ck_assert_uint_eq(msock_server_conn_next_expiry(s), T0 + 10 * MSOCK_SEC);
  msock_server_conn_feed(s, T0, (const uint8_t *)"GET", 3);
  msock_server_conn_on_expiry(s, T0 + 10 * MSOCK_SEC - 1);
  ck_assert(!msock_server_conn_is_done(s));
  msock_server_conn_on_expiry(s, T0 + 10 * MSOCK_SEC);
  ck_assert(msock_server_conn_is_done(s));
}
END_TEST

START_TEST(an_idle_connection_ends_and_one_with_a_stream_does_not) {
  open_channel();
  ck_assert_uint_eq(msock_server_conn_next_expiry(s), T0 + MSOCK_SERVER_IDLE_US);
  const int32_t id = msock_channel_request(c, "POST", "/machine/map", "{}", 2);
  pump(T0 + MSOCK_SEC);
  next_request();
  ck_assert_uint_eq(msock_server_conn_next_expiry(s), MSOCK_NEVER);
  msock_server_conn_respond(s, id, 200, "x", 1);
  pump(T0 + 2 * MSOCK_SEC);
  const uint64_t due = msock_server_conn_next_expiry(s);
  ck_assert_uint_eq(due, T0 + MSOCK_SEC + MSOCK_SERVER_IDLE_US); /* since it was last heard */
  msock_server_conn_on_expiry(s, due - 1);
  ck_assert(!msock_server_conn_is_done(s));
  msock_server_conn_on_expiry(s, due);
  ck_assert(msock_server_conn_is_done(s));
}
END_TEST

/* A client that resets its stream before the answer: the request is forgotten, its body too. */
START_TEST(a_stream_that_is_reset_is_told_once) {
  msock_server_event ev;
  open_channel();
  const int32_t id = msock_channel_request(c, "POST", "/machine/map", "{}", 2);
  pump(T0);
  msock_channel_cancel(c, id);
  pump(T0);
  ck_assert(msock_server_conn_next_event(s, &ev)); /* in place of the request */
  ck_assert_int_eq(ev.kind, MSOCK_SERVER_EV_STREAM_CLOSED);
  ck_assert_int_eq(ev.request.stream, id);
  ck_assert_int_eq(msock_server_conn_respond(s, id, 200, "x", 1), MSOCK_ERR_CLOSED);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_loop_test(tc, heads_before_the_upgrade, 0, (int)(sizeof heads / sizeof *heads));
  tcase_add_loop_test(tc, a_garbage_handshake_gets_a_101_and_the_end, 0, 4);
  tcase_add_test(tc, a_head_without_end_is_refused);
  tcase_add_loop_test(tc, a_handshake_tells_machine_and_version_in_any_split, 0, 4);
  tcase_add_test(tc, whole_answers_and_a_long_one);
  tcase_add_test(tc, flow_control_of_a_large_answer);
  tcase_add_test(tc, request_bodies_are_bounded);
  tcase_add_test(tc, long_paths_are_not_found);
  tcase_add_loop_test(tc, a_broken_record_ends_the_connection, 0, 2);
  tcase_add_test(tc, garbage_in_place_of_http2_ends_the_connection);
  tcase_add_test(tc, the_login_has_ten_seconds);
  tcase_add_test(tc, an_idle_connection_ends_and_one_with_a_stream_does_not);
  tcase_add_test(tc, a_stream_that_is_reset_is_told_once);
  return testing_main("server_conn", tc);
}
