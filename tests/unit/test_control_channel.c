/* One connection against the peer of control_peer.h, and the streaming readers behind it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/channel.h"
#include "control/json_split.h"
#include "crypto/x25519.h"
#include "tests/unit/control_rig.h"

typedef struct link {
  testing_rng rng, peer_rng;
  msock_env env, peer_env;
  msock_machine_private machine, server;
  msock_channel *ch;
  peer *p;
  uint64_t now;
  size_t chunk;
  bool ready, goaway;
  int status;
  size_t body_len, ends;
  bool clean;
} link;

static void link_init(link *l, peer_early early, uint16_t port) {
  memset(l, 0, sizeof *l);
  l->env = testing_env(&l->rng, 1);
  l->peer_env = testing_env(&l->peer_rng, 2);
  msock_machine_private_generate(&l->peer_env, &l->machine);
  msock_machine_private_generate(&l->peer_env, &l->server);
  const msock_machine_key server = msock_machine_private_public(&l->server);
  const msock_channel_cfg cfg = {.host = port == 80 ? "control.example" : "2001:db8::1",
                                 .port = port,
                                 .default_port = port == 80,
                                 .version = 138,
                                 .machine = &l->machine,
                                 .server = &server};
  l->ch = msock_channel_new(&l->env, &cfg, 0);
  l->p = peer_new(&l->peer_env, &l->server, early);
  ck_assert_ptr_nonnull(l->ch);
}

static void link_free(link *l) {
  msock_channel_free(l->ch);
  peer_free(l->p);
}

static void take(link *l) {
  msock_channel_event ev;
  while (msock_channel_next_event(l->ch, &ev)) {
    l->ready = l->ready || ev.kind == MSOCK_CHANNEL_EV_READY;
    l->goaway = l->goaway || ev.kind == MSOCK_CHANNEL_EV_GOAWAY;
    if (ev.kind == MSOCK_CHANNEL_EV_RESPONSE) {
      l->status = ev.status;
    } else if (ev.kind == MSOCK_CHANNEL_EV_DATA) {
      l->body_len += ev.len;
    } else if (ev.kind == MSOCK_CHANNEL_EV_END) {
      l->ends++;
      l->clean = ev.clean;
    }
  }
}

static void feed(link *l, const uint8_t *b, size_t len) {
  int status;
  const char *text;
  while (len > 0 && msock_channel_failed(l->ch, &status, &text) == MSOCK_CHANNEL_ALIVE) {
    const size_t step = l->chunk && l->chunk < len ? l->chunk : len;
    const size_t n = msock_channel_feed(l->ch, l->now, b, step);
    take(l);
    b += n;
    len -= n;
  }
}

static void pump(link *l) {
  for (int i = 0; i < 5000; i++) {
    const uint8_t *b;
    size_t n = msock_channel_tx_peek(l->ch, &b);
    const bool sent = n > 0;
    ck_assert(peer_feed(l->p, b, n));
    msock_channel_tx_consume(l->ch, n);
    uint8_t *out = peer_tx(l->p, &n);
    feed(l, out, n);
    free(out);
    if (!sent && n == 0) {
      return;
    }
  }
  ck_abort_msg("never at rest");
}

/* closes: CTRL-09 */
START_TEST(upgrade_head) {
  link l;
  const uint8_t *b;
  link_init(&l, PEER_EARLY_NONE, 80);
  size_t n = msock_channel_tx_peek(l.ch, &b);
  char *head = strndup((const char *)b, n);
  char *value = strstr(head, "X-Tailscale-Handshake: ");
  ck_assert_ptr_nonnull(value);
  value += 23;
  ck_assert_uint_eq(strcspn(value, "\r"), 136);
  ck_assert_int_eq(value[135], '='); /* 101 bytes: padded */
  memset(value, 'x', 136);
  char want[512];
  char xs[137];
  memset(xs, 'x', 136);
  xs[136] = '\0';
  snprintf(want, sizeof want,
           "POST /ts2021 HTTP/1.1\r\nHost: control.example\r\n"
           "Upgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n"
           "X-Tailscale-Handshake: %s\r\nContent-Length: 0\r\n\r\n",
           xs);
  ck_assert_str_eq(head, want);
  free(head);
  link_free(&l);
  link_init(&l, PEER_EARLY_NONE, 8080);
  n = msock_channel_tx_peek(l.ch, &b);
  ck_assert_ptr_nonnull(memmem(b, n, "Host: [2001:db8::1]:8080\r\n", 26));
  link_free(&l);
}
END_TEST

/* closes: CTRL-10 CTRL-24 */
START_TEST(early_payload_forms_and_splits) {
  link l;
  link_init(&l, (peer_early)(_i % 3), 80);
  l.chunk = _i < 3 ? 0 : 1;
  ck_assert_int_gt(msock_channel_request(l.ch, "POST", "/machine/map", "{}", 2), 0);
  pump(&l);
  ck_assert(l.ready);
  peer_stream *s = peer_take(l.p);
  ck_assert_ptr_nonnull(s);
  ck_assert_str_eq(s->body, "{}");
  peer_answer(l.p, s, 200, NULL, "hello", 5, true);
  pump(&l);
  ck_assert_int_eq(l.status, 200);
  ck_assert_uint_eq(l.body_len, 5);
  ck_assert(l.clean && l.ends == 1);
  link_free(&l);
}
END_TEST

/* A server without the peer's HTTP/2: 101, response, then raw records of ours. */
static void to_handshake(link *l) {
  const uint8_t *b;
  const size_t n = msock_channel_tx_peek(l->ch, &b);
  ck_assert(peer_feed(l->p, b, n));
  msock_channel_tx_consume(l->ch, n);
}

START_TEST(early_payload_over_64_kib_is_refused) {
  link l;
  int status;
  const char *text;
  const uint8_t head[9] = {0xff, 0xff, 0xff, 0x54, 0x53, 0, 1, 0, (uint8_t)_i};
  size_t n = 0;
  link_init(&l, PEER_EARLY_NONE, 80);
  to_handshake(&l);
  peer_early_head(l.p, head, sizeof head);
  uint8_t *out = peer_tx(l.p, &n);
  feed(&l, out, n);
  free(out);
  ck_assert_int_eq(msock_channel_failed(l.ch, &status, &text),
                   _i == 0 ? MSOCK_CHANNEL_ALIVE : MSOCK_CHANNEL_F_EARLY);
  link_free(&l);
}
END_TEST

/* closes: CTRL-22 */
START_TEST(ten_thousand_empty_records) {
  link l;
  int status;
  const char *text;
  link_init(&l, PEER_EARLY_NONE, 80);
  pump(&l);
  for (int i = 0; i < 10000; i++) {
    peer_raw_record(l.p, "", 0);
  }
  pump(&l);
  ck_assert_int_eq(msock_channel_failed(l.ch, &status, &text), MSOCK_CHANNEL_ALIVE);
  ck_assert_int_gt(msock_channel_request(l.ch, "GET", "/x", NULL, 0), 0);
  pump(&l);
  ck_assert_ptr_nonnull(peer_take(l.p));
  link_free(&l);
}
END_TEST

/* closes: CTRL-11 */
static const struct {
  const char *name, *answer;
  int status;
} answers[] = {
    {"other upgrade", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 101},
    {"no upgrade", "HTTP/1.1 101 Switching Protocols\r\n\r\n", 101},
    {"200", "HTTP/1.1 200 OK\r\nServer: nginx/1.25\r\n\r\n", 200},
    {"301", "HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", 301},
    {"400", "HTTP/1.1 400 Bad Request\r\n\r\n", 400},
    {"426", "HTTP/1.1 426 Upgrade Required\r\n\r\n", 426},
    {"500", "HTTP/1.1 500 Internal Server Error\r\n\r\n", 500},
    {"not HTTP", "SSH-2.0-OpenSSH\r\n\r\n", 0},
};
START_TEST(other_answers_than_101) {
  link l;
  int status = -1;
  const char *text = "";
  char number[8];
  link_init(&l, PEER_EARLY_NONE, 80);
  msock_channel_feed(l.ch, 0, (const uint8_t *)answers[_i].answer, strlen(answers[_i].answer));
  ck_assert_int_eq(msock_channel_failed(l.ch, &status, &text), MSOCK_CHANNEL_F_STATUS);
  ck_assert_int_eq(status, answers[_i].status);
  snprintf(number, sizeof number, "%d", status);
  ck_assert_msg(status == 0 || strstr(text, number), "%s: %s", answers[_i].name, text);
  if (strstr(answers[_i].answer, "nginx")) {
    ck_assert_ptr_nonnull(strstr(text, "nginx"));
  }
  ck_assert_int_lt(msock_channel_request(l.ch, "GET", "/", NULL, 0), 0);
  link_free(&l);
}
END_TEST

/* closes: CTRL-12 */
START_TEST(ends_of_the_connection) {
  static const char ok[] =
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: tailscale-control-protocol\r\n\r\n\x02";
  link l;
  int status;
  const char *text;
  link_init(&l, PEER_EARLY_NONE, 80);
  msock_channel_feed(l.ch, 0, (const uint8_t *)ok, sizeof ok - 2 + (size_t)_i);
  msock_channel_eof(l.ch);
  ck_assert_int_eq(msock_channel_failed(l.ch, &status, &text),
                   _i == 0 ? MSOCK_CHANNEL_F_REJECTED : MSOCK_CHANNEL_F_HANDSHAKE);
  link_free(&l);
}
END_TEST

START_TEST(upgrade_takes_5_s_at_most) {
  link l;
  int status;
  const char *text;
  link_init(&l, PEER_EARLY_NONE, 80);
  ck_assert_uint_eq(msock_channel_next_expiry(l.ch), 5 * MSOCK_SEC);
  msock_channel_on_expiry(l.ch, 5 * MSOCK_SEC - 1);
  ck_assert_int_eq(msock_channel_failed(l.ch, &status, &text), MSOCK_CHANNEL_ALIVE);
  msock_channel_on_expiry(l.ch, 5 * MSOCK_SEC);
  ck_assert_int_eq(msock_channel_failed(l.ch, &status, &text), MSOCK_CHANNEL_F_TIMEOUT);
  link_free(&l);
}
END_TEST

/* closes: CTRL-26 */
START_TEST(five_megabytes_arrive) {
  link l;
  const size_t size = 5u << 20;
  char *body = calloc(1, size);
  link_init(&l, PEER_EARLY_THREE_RECORDS, 80);
  msock_channel_request(l.ch, "POST", "/machine/map", "{}", 2);
  pump(&l);
  peer_answer(l.p, peer_take(l.p), 200, NULL, body, size, true);
  pump(&l);
  ck_assert_uint_eq(l.body_len, size);
  ck_assert(l.clean);
  free(body);
  link_free(&l);
}
END_TEST

/* closes: CTRL-27 */
START_TEST(streams_run_side_by_side) {
  link l;
  peer_stream *s[8];
  link_init(&l, PEER_EARLY_THREE_RECORDS, 80);
  for (int i = 0; i < 8; i++) {
    ck_assert_int_eq(msock_channel_request(l.ch, "POST", "/machine/map", "{}", 2), 2 * i + 1);
  }
  pump(&l);
  for (int i = 0; i < 8; i++) {
    s[i] = peer_take(l.p);
    peer_answer(l.p, s[i], 200, NULL, "a", 1, false);
  }
  pump(&l);
  ck_assert_uint_eq(l.body_len, 8);
  peer_write(l.p, s[5], "b", 1, true);
  pump(&l);
  ck_assert_uint_eq(l.ends, 1);
  peer_reset(l.p, s[6]);
  pump(&l);
  ck_assert_uint_eq(l.ends, 2);
  ck_assert(!l.clean);
  msock_channel_cancel(l.ch, s[0]->id);
  pump(&l);
  ck_assert(s[0]->closed);
  ck_assert_uint_eq(l.ends, 2); /* no event for what was cancelled */
  ck_assert_uint_eq(msock_channel_open_streams(l.ch), 5);
  peer_goaway(l.p);
  pump(&l);
  ck_assert(l.goaway);
  ck_assert_int_eq(msock_channel_request(l.ch, "GET", "/", NULL, 0), MSOCK_ERR_CLOSED);
  peer_write(l.p, s[1], "b", 1, true); /* a running one still ends well */
  pump(&l);
  ck_assert(l.clean);
  link_free(&l);
}
END_TEST

START_TEST(no_more_than_the_streams_there_is_room_for) {
  link l;
  link_init(&l, PEER_EARLY_NONE, 80);
  for (size_t i = 0; i < MSOCK_CHANNEL_STREAMS_MAX; i++) {
    ck_assert_int_gt(msock_channel_request(l.ch, "GET", "/", NULL, 0), 0);
  }
  ck_assert_int_eq(msock_channel_request(l.ch, "GET", "/", NULL, 0), MSOCK_ERR_NOMEM);
  link_free(&l);
}
END_TEST

/* --- JSON walk --- */

typedef struct walk {
  char out[4096];
} walk;

static msock_json_mode walk_mode(void *ctx, const msock_json_path *path) {
  (void)ctx;
  if (path->depth == 0 || path->key[0][0] == 'd') {
    return MSOCK_JSON_DESCEND;
  }
  return path->key[0][0] == 's' ? MSOCK_JSON_SKIP : MSOCK_JSON_WHOLE;
}

static msock_err walk_event(void *ctx, msock_json_event_kind kind, const msock_json_path *path,
                            const char *text, size_t len) {
  walk *w = ctx;
  size_t n = strlen(w->out);
  ck_assert_uint_eq(strlen(text), len);
  w->out[n++] = "?{[.=!"[kind];
  w->out[n] = '\0';
  for (size_t i = 0; i < path->depth; i++) {
    n += (size_t)snprintf(w->out + n, sizeof w->out - n, "/%s", path->key[i]);
  }
  snprintf(w->out + n, sizeof w->out - n, "%s%.40s ", len ? "=" : "", text);
  return MSOCK_OK;
}

static const struct {
  const char *json, *want;
  msock_err err;
} texts[] = {
    {"{}", "{ . ", MSOCK_OK},
    {" {\"w\" : [1, {\"a\":\"}\\\"\"}] , \"s\":{\"x\":[]}, \"d\":[1,\"two\",{\"k\":null},[]]} ",
     "{ =/w=[1,{\"a\":\"}\\\"\"}] [/d =/d/[]=1 =/d/[]=\"two\" {/d/[] =/d/[]/k=null ./d/[] [/d/[] "
     "./d/[] ./d . ",
     MSOCK_OK},
    {"{\"d\\u0041\\n\":true}", "{ =/dA\n=true . ", MSOCK_OK},
    {"{\"d\":{\"a\":{\"b\":{\"c\":{\"e\":1}}}}}", NULL, MSOCK_OK},
    {"", NULL, MSOCK_ERR_SHORT},
    {"{\"a\":1", NULL, MSOCK_ERR_SHORT},
    {"{\"a\":1]", NULL, MSOCK_ERR_INVALID},
    {"{\"a\":1}}", NULL, MSOCK_ERR_INVALID},
    {"{\"a\":1,}", NULL, MSOCK_ERR_INVALID},
    {"{\"a\" 1}", NULL, MSOCK_ERR_INVALID},
    {"{a:1}", NULL, MSOCK_ERR_INVALID},
    {"{\"a\":01}", NULL, MSOCK_ERR_INVALID},
    {"{\"a\":1.}", NULL, MSOCK_ERR_INVALID},
    {"{\"a\":-1.5e+3}", NULL, MSOCK_OK},
    {"{\"a\":nul}", NULL, MSOCK_ERR_INVALID},
    {"{\"a\":\"\\x\"}", NULL, MSOCK_ERR_INVALID},
    {"{\"a\":\"\\u12g4\"}", NULL, MSOCK_ERR_INVALID},
    {"{\"s\":\"\n\"}", NULL, MSOCK_ERR_INVALID},
    {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
     "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
     NULL, MSOCK_ERR_INVALID},
};
START_TEST(json_walk_in_every_split) {
  walk w;
  const msock_json_handler handler = {.ctx = &w, .mode = walk_mode, .event = walk_event};
  msock_json_split *s = msock_json_split_new(&handler);
  const size_t len = strlen(texts[_i].json);
  char first[4096] = "";
  for (size_t at = 0; at <= len; at++) {
    memset(&w, 0, sizeof w);
    msock_json_split_reset(s);
    msock_err err = msock_json_split_feed(s, (const uint8_t *)texts[_i].json, at);
    if (err == MSOCK_OK) {
      err = msock_json_split_feed(s, (const uint8_t *)texts[_i].json + at, len - at);
    }
    if (err == MSOCK_OK) {
      err = msock_json_split_finish(s);
    }
    ck_assert_msg(err == texts[_i].err, "%s at %zu: %d", texts[_i].json, at, (int)err);
    if (texts[_i].want) {
      ck_assert_str_eq(w.out, texts[_i].want);
    }
    if (at == 0) {
      memcpy(first, w.out, sizeof first);
    }
    ck_assert_str_eq(w.out, first);
  }
  msock_json_split_free(s);
}
END_TEST

START_TEST(json_element_over_the_limit_is_dropped_alone) {
  walk w = {{0}};
  const msock_json_handler handler = {.ctx = &w, .mode = walk_mode, .event = walk_event};
  msock_json_split *s = msock_json_split_new(&handler);
  char *big = malloc(MSOCK_JSON_ELEMENT_MAX);
  memset(big, 'x', MSOCK_JSON_ELEMENT_MAX);
  ck_assert_int_eq(msock_json_split_feed(s, (const uint8_t *)"{\"d\":[\"", 7), MSOCK_OK);
  ck_assert_int_eq(msock_json_split_feed(s, (const uint8_t *)big, MSOCK_JSON_ELEMENT_MAX),
                   MSOCK_OK);
  ck_assert_int_eq(msock_json_split_feed(s, (const uint8_t *)"\",7]}", 5), MSOCK_OK);
  ck_assert_int_eq(msock_json_split_finish(s), MSOCK_OK);
  ck_assert_str_eq(w.out, "{ [/d !/d/[] =/d/[]=7 ./d . ");
  ck_assert_uint_le(msock_json_split_memory(s), 2 * MSOCK_JSON_ELEMENT_MAX);
  msock_json_split_reset(s);
  ck_assert_uint_le(msock_json_split_memory(s), MSOCK_JSON_KEEP_BUFFER);
  free(big);
  msock_json_split_free(s);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, upgrade_head);
  tcase_add_loop_test(tc, early_payload_forms_and_splits, 0, 6);
  tcase_add_loop_test(tc, early_payload_over_64_kib_is_refused, 0, 2);
  tcase_add_test(tc, ten_thousand_empty_records);
  tcase_add_loop_test(tc, other_answers_than_101, 0, sizeof answers / sizeof *answers);
  tcase_add_loop_test(tc, ends_of_the_connection, 0, 2);
  tcase_add_test(tc, upgrade_takes_5_s_at_most);
  tcase_add_test(tc, five_megabytes_arrive);
  tcase_add_test(tc, streams_run_side_by_side);
  tcase_add_test(tc, no_more_than_the_streams_there_is_room_for);
  tcase_add_loop_test(tc, json_walk_in_every_split, 0, sizeof texts / sizeof *texts);
  tcase_add_test(tc, json_element_over_the_limit_is_dropped_alone);
  return testing_main("control_channel", tc);
}
