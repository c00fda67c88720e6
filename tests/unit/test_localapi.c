#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/localapi.h"
#include "tests/unit/testing.h"

#define OWN_UID 500u
#define OPERATOR_UID 1000u
#define STRANGER_UID 1001u
#define T0 (100 * MSOCK_SEC)

/* A backend that writes down what it was asked, and answers at once unless told to hold. */
typedef struct fake {
  msock_localapi *api;
  uint64_t now_us;
  bool hold;
  char last[512];
  msock_localapi_req req;
  unsigned calls, gone;
} fake;

static void note(fake *f, msock_localapi_req req, const char *text) {
  snprintf(f->last, sizeof f->last, "%s", text);
  f->req = req;
  f->calls++;
}

static void answer(fake *f, msock_localapi_req req, const char *text) {
  if (!f->hold) {
    msock_localapi_reply(f->api, f->now_us, req, 200, "application/json", strdup(text),
                         strlen(text));
  }
}

static void be_status(void *ctx, msock_localapi_req req, bool with_peers) {
  note(ctx, req, with_peers ? "status peers" : "status");
  answer(ctx, req, "{\"BackendState\":\"Running\"}");
}

static void be_prefs(void *ctx, msock_localapi_req req) {
  note(ctx, req, "prefs");
  answer(ctx, req, "{}");
}

static void be_edit(void *ctx, msock_localapi_req req, json_object *doc) {
  note(ctx, req, json_object_to_json_string_ext(doc, JSON_C_TO_STRING_PLAIN));
  answer(ctx, req, "{}");
}

static void be_start(void *ctx, msock_localapi_req req, const char *key, json_object *prefs,
                     bool force) {
  char text[256];
  fake *f = ctx;
  snprintf(text, sizeof text, "start key=%s prefs=%s force=%d", key,
           prefs ? json_object_to_json_string_ext(prefs, JSON_C_TO_STRING_PLAIN) : "-", force);
  note(f, req, text);
  msock_localapi_reply_none(f->api, f->now_us, req);
}

static void be_login(void *ctx, msock_localapi_req req) {
  fake *f = ctx;
  note(f, req, "login");
  msock_localapi_reply_none(f->api, f->now_us, req);
}

static void be_logout(void *ctx, msock_localapi_req req) {
  fake *f = ctx;
  note(f, req, "logout");
  msock_localapi_reply_none(f->api, f->now_us, req);
}

static void be_ping(void *ctx, msock_localapi_req req, const msock_ip *ip,
                    msock_localapi_ping_type type, uint32_t size) {
  char text[96], addr[MSOCK_IP_TEXT_MAX];
  snprintf(text, sizeof text, "ping %s type=%d size=%u", msock_ip_text(ip, addr), (int)type, size);
  note(ctx, req, text);
}

static void be_why(void *ctx, msock_localapi_req req, const msock_ip *ip) {
  char text[64], addr[MSOCK_IP_TEXT_MAX];
  snprintf(text, sizeof text, "why %s", msock_ip_text(ip, addr));
  note(ctx, req, text);
  answer(ctx, req, "{}");
}

static void be_whois(void *ctx, msock_localapi_req req, const char *addr) {
  fake *f = ctx;
  char text[160];
  snprintf(text, sizeof text, "whois %s", addr);
  note(f, req, text);
  msock_localapi_reply_error(f->api, f->now_us, req, 404, "no match for IP:port");
}

static void be_metrics(void *ctx, msock_localapi_req req) {
  fake *f = ctx;
  note(f, req, "metrics");
  msock_localapi_reply(f->api, f->now_us, req, 200, "text/plain; version=0.0.4", strdup("a 1\n"),
                       4);
}

static void be_watch(void *ctx, msock_localapi_req req, uint64_t mask) {
  char text[32];
  fake *f = ctx;
  snprintf(text, sizeof text, "watch %u", (unsigned)mask);
  note(f, req, text);
  msock_localapi_stream(f->api, f->now_us, req, "application/json");
}

static void be_gone(void *ctx, msock_localapi_req req) {
  fake *f = ctx;
  ck_assert_uint_eq(req.serial, f->req.serial);
  f->gone++;
}

static void be_netcheck(void *ctx, msock_localapi_req req) {
  note(ctx, req, "netcheck");
  answer(ctx, req, "{\"UDP\":true}");
}

static void be_capture(void *ctx, msock_localapi_req req, uint64_t seconds, uint64_t bytes) {
  char text[64];
  snprintf(text, sizeof text, "capture %u %u", (unsigned)seconds, (unsigned)bytes);
  note(ctx, req, text);
  answer(ctx, req, "{}");
}

static void start(fake *f) {
  *f = (fake){.now_us = T0};
  const msock_localapi_backend be = {.ctx = f,
                                     .status = be_status,
                                     .prefs = be_prefs,
                                     .edit_prefs = be_edit,
                                     .start = be_start,
                                     .login = be_login,
                                     .logout = be_logout,
                                     .ping = be_ping,
                                     .whois = be_whois,
                                     .metrics = be_metrics,
                                     .watch = be_watch,
                                     .why = be_why,
                                     .debug_endpoints = be_prefs,
                                     .debug_rebind = be_prefs,
                                     .netcheck = be_netcheck,
                                     .debug_derp = be_prefs,
                                     .debug_netmap = be_prefs,
                                     .capture = be_capture,
                                     .bugreport = be_prefs,
                                     .gone = be_gone};
  f->api = msock_localapi_new(&be, OWN_UID, NULL);
  ck_assert_ptr_nonnull(f->api);
}

static uint32_t open_as(fake *f, uint32_t uid) {
  const int id = msock_localapi_open(f->api, f->now_us, uid);
  ck_assert_int_ge(id, 0);
  return (uint32_t)id;
}

static void send_text(fake *f, uint32_t conn, const char *text) {
  msock_localapi_feed(f->api, f->now_us, conn, (const uint8_t *)text, strlen(text));
}

/* All bytes that wait, taken in pieces of at most step. */
static const char *take(fake *f, uint32_t conn, size_t step) {
  static char text[8192];
  size_t at = 0;
  const uint8_t *p;
  for (size_t n; (n = msock_localapi_tx_peek(f->api, conn, &p)) > 0;) {
    n = n < step ? n : step;
    ck_assert_uint_lt(at + n, sizeof text);
    memcpy(text + at, p, n);
    at += n;
    msock_localapi_tx_consume(f->api, f->now_us, conn, n);
  }
  text[at] = '\0';
  return text;
}

static int status_of(const char *answer_text) {
  int status = 0;
  sscanf(answer_text, "HTTP/1.1 %d", &status);
  return status;
}

/* One request from uid on a connection of its own; gives the answer's status. */
static int ask(fake *f, uint32_t uid, const char *request) {
  const uint32_t conn = open_as(f, uid);
  send_text(f, conn, request);
  const int status = status_of(take(f, conn, 8192));
  msock_localapi_closed(f->api, conn);
  return status;
}

#define GET(path) "GET /localapi/v0/" path " HTTP/1.1\r\nHost: local-tailscaled.sock\r\n\r\n"
#define POST(path) "POST /localapi/v0/" path " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
#define BODY(method, path, len, body)                                                              \
  method " /localapi/v0/" path " HTTP/1.1\r\nHost: x\r\nContent-Length: " #len "\r\n\r\n" body

static const struct {
  const char *request;
  int status;
  bool writes;
  const char *call; /* what the backend was asked; NULL = nothing */
} requests[] = {
    {GET("status"), 200, false, "status peers"},
    {GET("status?peers=true"), 200, false, "status peers"},
    {GET("status?peers=false"), 200, false, "status"},
    {GET("prefs"), 200, false, "prefs"},
    {GET("whois?addr=100.64.0.1%3A80"), 404, false, "whois 100.64.0.1:80"},
    {GET("whois?addr="), 400, false, NULL},
    {GET("whois?addr=%"), 400, false, NULL},
    {GET("whois?addr=%0"), 400, false, NULL},
    {GET("whois?addr=a%00b"), 400, false, NULL},
    {GET("metrics"), 200, false, "metrics"},
    {GET("watch-ipn-bus?mask=6"), 200, false, "watch 6"},
    {GET("watch-ipn-bus"), 200, false, "watch 0"},
    {GET("watch-ipn-bus?mask=-1"), 400, false, NULL},
    {GET("watch-ipn-bus?mask=0x2"), 400, false, NULL},
    {POST("watch-ipn-bus"), 405, false, NULL},
    {BODY("PATCH", "prefs", 18, "{\"WantRunning\":1 }"), 200, true, "{\"WantRunning\":1}"},
    {BODY("PATCH", "prefs", 2, "[]"), 400, true, NULL},
    {BODY("PATCH", "prefs", 1, "{"), 400, true, NULL},
    {BODY("PATCH", "prefs", 4, "{}{}"), 400, true, NULL},
    {POST("start"), 400, true, NULL},
    {BODY("POST", "start", 2, "{}"), 204, true, "start key= prefs=- force=0"},
    {BODY("POST", "start", 54, "{\"AuthKey\":\"k-1\",\"UpdatePrefs\":{},\"ForceReauth\":true }"),
     204, true, "start key=k-1 prefs={} force=1"},
    {BODY("POST", "start", 13, "{\"AuthKey\":1}"), 400, true, NULL},
    {POST("login-interactive"), 204, true, "login"},
    {POST("logout"), 204, true, "logout"},
    {POST("ping?ip=x&type=ICMP"), 400, false, NULL},
    {POST("ping?ip=100.64.0.1&type=smoke"), 400, false, NULL},
    {POST("ping?ip=100.64.0.1&type=ICMP&size=1201"), 400, false, NULL},
    {POST("ping?ip=100.64.0.1&type=ICMP&size=-1"), 400, false, NULL},
    {GET("netcheck"), 200, false, "netcheck"},
    {POST("netcheck"), 405, false, NULL},
    {GET("debug-derp"), 200, false, "prefs"},
    {GET("debug-endpoints"), 200, false, "prefs"},
    {GET("why?ip=100.64.0.2"), 200, false, "why 100.64.0.2"},
    {GET("why?ip=x"), 400, false, NULL},
    {GET("debug-netmap"), 200, false, "prefs"},
    {POST("debug-capture?seconds=600&bytes=4194304"), 200, true, "capture 600 4194304"},
    {POST("debug-capture?seconds=1&bytes=1"), 200, true, "capture 1 1"},
    {POST("debug-capture?seconds=601&bytes=1"), 400, true, NULL},
    {POST("debug-capture?seconds=1&bytes=4194305"), 400, true, NULL},
    {POST("debug-capture?seconds=0&bytes=1"), 400, true, NULL},
    {POST("debug-capture?seconds=-1&bytes=1"), 400, true, NULL},
    {POST("debug-capture?seconds=1s&bytes=1"), 400, true, NULL},
    {POST("debug-capture"), 400, true, NULL},
    {GET("bugreport"), 405, false, NULL},
    {POST("bugreport"), 200, true, "prefs"},
    {POST("status"), 405, false, NULL},
    {GET("logout"), 405, false, NULL},
    {GET("shutdown"), 404, false, NULL},
    {GET("../v0/status"), 404, false, NULL},
    {"GET /localapi/v1/status HTTP/1.1\r\n\r\n", 404, false, NULL},
    {"GET / HTTP/1.1\r\n\r\n", 404, false, NULL},
    {BODY("GET", "status", 2, "{}"), 400, false, NULL},
};
START_TEST(paths_and_methods) {
  fake f;
  start(&f);
  ck_assert_int_eq(ask(&f, 0, requests[_i].request), requests[_i].status);
  ck_assert_str_eq(f.last, requests[_i].call ? requests[_i].call : "");
  msock_localapi_free(f.api);
}
END_TEST

/* root, the daemon's user and the operator write; others read only, and are told so before their
 * body is read. */
START_TEST(rights_by_uid) {
  fake f;
  start(&f);
  msock_localapi_set_operator(f.api, true, OPERATOR_UID);
  ck_assert_int_eq(ask(&f, OWN_UID, requests[_i].request), requests[_i].status);
  ck_assert_int_eq(ask(&f, OPERATOR_UID, requests[_i].request), requests[_i].status);
  const unsigned before = f.calls;
  ck_assert_int_eq(ask(&f, STRANGER_UID, requests[_i].request),
                   requests[_i].writes ? 403 : requests[_i].status);
  ck_assert_uint_eq(f.calls, before + (!requests[_i].writes && requests[_i].call ? 1 : 0));
  msock_localapi_set_operator(f.api, false, 0);
  ck_assert_int_eq(ask(&f, OPERATOR_UID, requests[_i].request),
                   requests[_i].writes ? 403 : requests[_i].status);
  msock_localapi_free(f.api);
}
END_TEST

START_TEST(refusal_says_what_to_do) {
  fake f;
  start(&f);
  const uint32_t conn = open_as(&f, STRANGER_UID);
  send_text(&f, conn, "PATCH /localapi/v0/prefs HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n");
  const char *text = take(&f, conn, 8192);
  ck_assert_int_eq(status_of(text), 403); /* not a byte of the body was needed */
  ck_assert_ptr_nonnull(strstr(text, "Connection: close\r\n"));
  ck_assert_ptr_nonnull(strstr(text, "\r\n\r\n{\"error\":\"access denied"));
  ck_assert_ptr_nonnull(strstr(text, "--operator="));
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, conn), MSOCK_LOCALAPI_FINISH);
  msock_localapi_free(f.api);
}
END_TEST

/* Byte by byte in and out is the same as all at once. */
START_TEST(any_split_of_the_bytes) {
  fake f;
  start(&f);
  const char *request = BODY("PATCH", "prefs", 7, "{\"a\":1}");
  const uint32_t conn = open_as(&f, 0);
  for (const char *p = request; *p; p++) {
    ck_assert_uint_eq(f.calls, 0);
    msock_localapi_feed(f.api, f.now_us, conn, (const uint8_t *)p, 1);
  }
  ck_assert_str_eq(f.last, "{\"a\":1}");
  ck_assert_str_eq(take(&f, conn, 1),
                   "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                   "X-Content-Type-Options: nosniff\r\nContent-Length: 2\r\n\r\n{}");
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, conn), MSOCK_LOCALAPI_OPEN);
  msock_localapi_free(f.api);
}
END_TEST

START_TEST(requests_sent_early_wait_their_turn) {
  fake f;
  start(&f);
  const uint32_t conn = open_as(&f, 0);
  f.hold = true;
  send_text(&f, conn, GET("prefs") BODY("PATCH", "prefs", 2, "{}") GET("metrics"));
  ck_assert_str_eq(f.last, "prefs");
  ck_assert_uint_eq(f.calls, 1);
  f.hold = false;
  answer(&f, f.req, "{}");
  const char *text = take(&f, conn, 8192);
  ck_assert_str_eq(f.last, "metrics");
  ck_assert_uint_eq(f.calls, 3);
  ck_assert_str_eq(text + strlen(text) - 4, "a 1\n");
  msock_localapi_free(f.api);
}
END_TEST

START_TEST(connection_close_is_honoured) {
  fake f;
  start(&f);
  uint32_t conn = open_as(&f, 0);
  send_text(&f, conn,
            "PATCH /localapi/v0/prefs HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\n");
  send_text(&f, conn, "{}"); /* the body still counts */
  ck_assert_int_eq(status_of(take(&f, conn, 8192)), 200);
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, conn), MSOCK_LOCALAPI_FINISH);
  ck_assert_int_eq(msock_localapi_next_ready(f.api, 0), (int)conn);
  f.now_us += MSOCK_LOCALAPI_LINGER_US;
  msock_localapi_on_expiry(f.api, f.now_us - 1);
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, conn), MSOCK_LOCALAPI_FINISH);
  msock_localapi_on_expiry(f.api, f.now_us);
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, conn), MSOCK_LOCALAPI_OVER);
  msock_localapi_closed(f.api, conn);

  conn = open_as(&f, 0);
  send_text(&f, conn, "GET /localapi/v0/prefs HTTP/1.0\r\n\r\n");
  take(&f, conn, 8192);
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, conn), MSOCK_LOCALAPI_FINISH);
  msock_localapi_free(f.api);
}
END_TEST

static const struct {
  const char *name, *request;
  int status;
} malformed[] = {
    {"not HTTP", "hello\r\n\r\n", 400},
    {"space before the colon", "GET / HTTP/1.1\r\na : b\r\n\r\n", 400},
    {"two lengths", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
    {"chunked", "POST /localapi/v0/start HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
    {"one byte over 1 MiB", "PATCH /localapi/v0/prefs HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n",
     413},
};
START_TEST(malformed_requests_end_the_connection) {
  fake f;
  start(&f);
  const uint32_t conn = open_as(&f, 0);
  send_text(&f, conn, malformed[_i].request);
  const int status = status_of(take(&f, conn, 8192));
  ck_assert_msg(status == malformed[_i].status, "%s: %d", malformed[_i].name, status);
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, conn), MSOCK_LOCALAPI_FINISH);
  send_text(&f, conn, GET("status"));
  ck_assert_uint_eq(f.calls, 0);
  msock_localapi_free(f.api);
}
END_TEST

START_TEST(head_is_bounded) {
  fake f;
  char big[1024];
  start(&f);
  const uint32_t conn = open_as(&f, 0);
  send_text(&f, conn, "GET /localapi/v0/status HTTP/1.1\r\na: ");
  memset(big, 'x', sizeof big - 1);
  big[sizeof big - 1] = '\0';
  const uint8_t *p;
  for (int i = 0; i < 64 && msock_localapi_tx_peek(f.api, conn, &p) == 0; i++) {
    send_text(&f, conn, big);
  }
  ck_assert_int_eq(status_of(take(&f, conn, 8192)), 431);
  msock_localapi_free(f.api);
}
END_TEST

START_TEST(body_of_one_mebibyte_passes) {
  fake f;
  start(&f);
  const size_t len = MSOCK_LOCALAPI_BODY_MAX;
  char *body = malloc(len);
  const uint32_t conn = open_as(&f, 0);
  memset(body, ' ', len);
  body[0] = '{';
  body[len - 1] = '}';
  send_text(&f, conn, "PATCH /localapi/v0/prefs HTTP/1.1\r\nContent-Length: 1048576\r\n\r\n");
  for (size_t at = 0; at < len; at += 16384) {
    ck_assert_uint_eq(f.calls, 0);
    msock_localapi_feed(f.api, f.now_us, conn, (const uint8_t *)body + at, 16384);
  }
  ck_assert_str_eq(f.last, "{}");
  free(body);
  msock_localapi_free(f.api);
}
END_TEST

START_TEST(ping_is_answered_later) {
  fake f;
  start(&f);
  const uint32_t a = open_as(&f, STRANGER_UID), b = open_as(&f, 0);
  send_text(&f, a, POST("ping?ip=100.64.0.9&type=tsmp&size=100"));
  ck_assert_str_eq(f.last, "ping 100.64.0.9 type=1 size=100");
  const msock_localapi_req first = f.req;
  send_text(&f, b, GET("status")); /* others go on meanwhile */
  ck_assert_int_eq(status_of(take(&f, b, 8192)), 200);
  ck_assert_int_eq(msock_localapi_next_ready(f.api, 0), -1);
  f.now_us += 3600 * MSOCK_SEC; /* a request under way has no deadline of ours */
  msock_localapi_on_expiry(f.api, f.now_us);
  msock_localapi_reply(f.api, f.now_us, first, 200, "application/json", strdup("{\"IP\":\"\"}"), 9);
  ck_assert_int_eq(msock_localapi_next_ready(f.api, 0), (int)a);
  ck_assert_int_eq(status_of(take(&f, a, 8192)), 200);
  /* A second answer to the same request is dropped. */
  msock_localapi_reply(f.api, f.now_us, first, 200, "application/json", strdup("{}"), 2);
  const uint8_t *p;
  ck_assert_uint_eq(msock_localapi_tx_peek(f.api, a, &p), 0);
  msock_localapi_free(f.api);
}
END_TEST

START_TEST(caller_that_leaves_is_forgotten) {
  fake f;
  start(&f);
  const uint32_t a = open_as(&f, 0);
  send_text(&f, a, POST("ping?ip=100.64.0.9&type=ICMP"));
  const msock_localapi_req stale = f.req;
  msock_localapi_closed(f.api, a);
  ck_assert_uint_eq(f.gone, 1);
  const uint32_t b = open_as(&f, 0);
  ck_assert_uint_eq(b, a); /* the slot is used again, the serial is not */
  send_text(&f, b, POST("ping?ip=100.64.0.9&type=ICMP"));
  msock_localapi_reply(f.api, f.now_us, stale, 200, "application/json", strdup("{}"), 2);
  const uint8_t *p;
  ck_assert_uint_eq(msock_localapi_tx_peek(f.api, b, &p), 0);
  ck_assert_uint_eq(f.gone, 1);
  msock_localapi_free(f.api);
}
END_TEST

START_TEST(a_watcher_gets_pieces_until_it_leaves) {
  fake f;
  start(&f);
  const uint32_t conn = open_as(&f, STRANGER_UID);
  send_text(&f, conn, GET("watch-ipn-bus?mask=2") GET("status"));
  const msock_localapi_req req = f.req;
  const char *text = take(&f, conn, 8192);
  ck_assert_ptr_nonnull(strstr(text, "\r\nTransfer-Encoding: chunked\r\n"));
  ck_assert_ptr_nonnull(strstr(text, "\r\n\r\n"));
  ck_assert_str_eq(f.last, "watch 2"); /* what came after it is not read */
  f.now_us += 86400 * MSOCK_SEC;       /* nothing happens for a day */
  msock_localapi_on_expiry(f.api, f.now_us);
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, conn), MSOCK_LOCALAPI_OPEN);
  msock_localapi_push(f.api, f.now_us, req, "{\"State\":6}\n", 12);
  msock_localapi_push(f.api, f.now_us, req, "{}\n", 3);
  ck_assert_int_eq(msock_localapi_next_ready(f.api, 0), (int)conn);
  ck_assert_str_eq(take(&f, conn, 5), "c\r\n{\"State\":6}\n\r\n3\r\n{}\n\r\n");
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, conn), MSOCK_LOCALAPI_OPEN);
  msock_localapi_closed(f.api, conn);
  ck_assert_uint_eq(f.gone, 1);
  ck_assert_uint_eq(open_as(&f, 0), conn); /* its slot is another's now */
  msock_localapi_push(f.api, f.now_us, req, "{}\n", 3);
  const uint8_t *p;
  ck_assert_uint_eq(msock_localapi_tx_peek(f.api, conn, &p), 0);
  msock_localapi_free(f.api);
}
END_TEST

START_TEST(an_old_watcher_gets_no_chunks) {
  fake f;
  start(&f);
  const uint32_t conn = open_as(&f, 0);
  send_text(&f, conn, "GET /localapi/v0/watch-ipn-bus HTTP/1.0\r\n\r\n");
  ck_assert_ptr_null(strstr(take(&f, conn, 8192), "chunked"));
  msock_localapi_push(f.api, f.now_us, f.req, "{}\n", 3);
  ck_assert_str_eq(take(&f, conn, 8192), "{}\n");
  msock_localapi_free(f.api);
}
END_TEST

/* One that does not read costs no more than its backlog, and no longer than an answer. */
START_TEST(a_watcher_that_does_not_read_is_dropped) {
  static char piece[1000];
  fake f;
  start(&f);
  const uint32_t full = open_as(&f, 0);
  send_text(&f, full, GET("watch-ipn-bus"));
  take(&f, full, 8192);
  memset(piece, 'x', sizeof piece);
  const size_t framed = sizeof piece + strlen("3e8\r\n\r\n"),
               fit = MSOCK_LOCALAPI_BACKLOG_MAX / framed;
  for (size_t i = 0; i < fit; i++) {
    msock_localapi_push(f.api, f.now_us, f.req, piece, sizeof piece);
    ck_assert_int_eq(msock_localapi_conn_phase(f.api, full), MSOCK_LOCALAPI_OPEN);
  }
  msock_localapi_push(f.api, f.now_us, f.req, piece, sizeof piece);
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, full), MSOCK_LOCALAPI_OVER);
  const uint32_t slow = open_as(&f, 0);
  send_text(&f, slow, GET("watch-ipn-bus"));
  take(&f, slow, 8192);
  f.now_us += MSOCK_SEC;
  msock_localapi_push(f.api, f.now_us, f.req, piece, 1);
  f.now_us += MSOCK_SEC;
  msock_localapi_push(f.api, f.now_us, f.req, piece, 1); /* buys no time */
  const uint64_t due = f.now_us - MSOCK_SEC + MSOCK_LOCALAPI_SEND_US;
  msock_localapi_on_expiry(f.api, due - 1);
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, slow), MSOCK_LOCALAPI_OPEN);
  msock_localapi_on_expiry(f.api, due);
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, slow), MSOCK_LOCALAPI_OVER);
  msock_localapi_free(f.api);
}
END_TEST

START_TEST(table_is_bounded) {
  fake f;
  start(&f);
  for (unsigned i = 0; i < MSOCK_LOCALAPI_CONNS_MAX; i++) {
    open_as(&f, 0);
  }
  ck_assert_int_eq(msock_localapi_open(f.api, f.now_us, 0), MSOCK_ERR_AGAIN);
  msock_localapi_closed(f.api, 7);
  ck_assert_int_eq(msock_localapi_open(f.api, f.now_us, 0), 7);
  msock_localapi_free(f.api);
}
END_TEST

START_TEST(deadlines_at_the_tick) {
  fake f;
  start(&f);
  const uint32_t idle = open_as(&f, 0), slow = open_as(&f, 0);
  ck_assert_uint_eq(msock_localapi_next_expiry(f.api), T0 + MSOCK_LOCALAPI_IDLE_US);
  f.now_us += MSOCK_SEC;
  send_text(&f, slow, "GET /localapi");
  const uint64_t due = f.now_us + MSOCK_LOCALAPI_RECV_US;
  ck_assert_uint_eq(msock_localapi_next_expiry(f.api), due);
  f.now_us += 2 * MSOCK_SEC; /* dripping bytes buys no time */
  send_text(&f, slow, "/v0/");
  ck_assert_uint_eq(msock_localapi_next_expiry(f.api), due);
  msock_localapi_on_expiry(f.api, due - 1);
  ck_assert_int_eq(msock_localapi_next_ready(f.api, 0), -1);
  msock_localapi_on_expiry(f.api, due);
  f.now_us = due;
  const uint8_t *p;
  ck_assert_uint_gt(msock_localapi_tx_peek(f.api, slow, &p), 0);
  ck_assert_int_eq(status_of((const char *)p), 408);
  /* It does not even read the answer. */
  msock_localapi_on_expiry(f.api, due + MSOCK_LOCALAPI_SEND_US - 1);
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, slow), MSOCK_LOCALAPI_OPEN);
  msock_localapi_on_expiry(f.api, due + MSOCK_LOCALAPI_SEND_US);
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, slow), MSOCK_LOCALAPI_OVER);
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, idle), MSOCK_LOCALAPI_OPEN);
  msock_localapi_on_expiry(f.api, T0 + MSOCK_LOCALAPI_IDLE_US);
  ck_assert_int_eq(msock_localapi_conn_phase(f.api, idle), MSOCK_LOCALAPI_OVER);
  msock_localapi_free(f.api);
}
END_TEST

/* Random bytes, and real requests with damage: nothing but answers comes of it. */
START_TEST(noise) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, (uint64_t)_i);
  fake f;
  start(&f);
  for (int round = 0; round < 200; round++) {
    const uint32_t conn = open_as(&f, 0);
    char text[512];
    const size_t n_requests = sizeof requests / sizeof *requests;
    snprintf(text, sizeof text, "%s", requests[msock_env_uniform(&env, n_requests)].request);
    const size_t len = strlen(text);
    for (uint64_t hits = msock_env_uniform(&env, 4); hits > 0; hits--) {
      text[msock_env_uniform(&env, len)] = (char)msock_env_uniform(&env, 256);
    }
    msock_localapi_feed(f.api, f.now_us, conn, (const uint8_t *)text, len);
    take(&f, conn, 8192);
    msock_localapi_closed(f.api, conn);
  }
  msock_localapi_free(f.api);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  const int n = (int)(sizeof requests / sizeof *requests);
  tcase_add_loop_test(tc, paths_and_methods, 0, n);
  tcase_add_loop_test(tc, rights_by_uid, 0, n);
  tcase_add_test(tc, refusal_says_what_to_do);
  tcase_add_test(tc, any_split_of_the_bytes);
  tcase_add_test(tc, requests_sent_early_wait_their_turn);
  tcase_add_test(tc, connection_close_is_honoured);
  tcase_add_loop_test(tc, malformed_requests_end_the_connection, 0,
                      (int)(sizeof malformed / sizeof *malformed));
  tcase_add_test(tc, head_is_bounded);
  tcase_add_test(tc, body_of_one_mebibyte_passes);
  tcase_add_test(tc, ping_is_answered_later);
  tcase_add_test(tc, caller_that_leaves_is_forgotten);
  tcase_add_test(tc, a_watcher_gets_pieces_until_it_leaves);
  tcase_add_test(tc, an_old_watcher_gets_no_chunks);
  tcase_add_test(tc, a_watcher_that_does_not_read_is_dropped);
  tcase_add_test(tc, table_is_bounded);
  tcase_add_test(tc, deadlines_at_the_tick);
  tcase_add_loop_test(tc, noise, 0, 8);
  return testing_main("localapi", tc);
}
