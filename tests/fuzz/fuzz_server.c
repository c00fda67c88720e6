/* The control server's side of a ts2021 connection and the tailnet behind it: bytes of a hostile
 * client, from the first one or behind a handshake that is done for it, and requests of any body.
 */
#include <stdlib.h>
#include <string.h>

#include "control/channel.h"
#include "control/noise.h"
#include "control/server_conn.h"
#include "control/tailnet.h"
#include "crypto/x25519.h"
#include "tests/fuzz/fuzzing.h"

#define NOW_US (1000 * MSOCK_SEC)
#define WALL_US (UINT64_C(1795000000) * MSOCK_SEC)
#define VERSION 138
#define CONN 1u

static const msock_derp_map no_relays;

typedef struct server {
  msock_env env;
  msock_machine_private key, machine;
  msock_server_conn *c;
  msock_tailnet *t;
  msock_machine_key who;
} server;

static void answers(server *s) {
  msock_tailnet_out out;
  while (msock_tailnet_next_output(s->t, &out)) {
    if (s->c != NULL && out.kind == MSOCK_TAILNET_RESPOND) {
      (void)msock_server_conn_respond(s->c, out.stream, out.status, out.body, out.len);
    } else if (s->c != NULL && out.kind == MSOCK_TAILNET_BEGIN) {
      (void)msock_server_conn_begin(s->c, out.stream, out.status);
    } else if (s->c != NULL && out.kind == MSOCK_TAILNET_WRITE) {
      (void)msock_server_conn_write(s->c, out.stream, out.body, out.len);
    } else if (s->c != NULL) {
      msock_server_conn_end(s->c, out.stream);
    }
    free(out.body);
  }
}

static void poll_conn(server *s) {
  msock_server_event ev;
  const uint8_t *p = NULL;

  while (msock_server_conn_next_event(s->c, &ev)) {
    if (ev.kind == MSOCK_SERVER_EV_REQUEST) {
      FUZZ_CHECK(ev.request.body_len <= MSOCK_SERVER_BODY_MAX);
      msock_tailnet_on_request(s->t, NOW_US, WALL_US, CONN, msock_server_conn_machine(s->c),
                               &ev.request);
    } else if (ev.kind == MSOCK_SERVER_EV_STREAM_CLOSED) {
      msock_tailnet_on_stream_closed(s->t, CONN, ev.request.stream);
    }
    answers(s);
  }
  for (size_t n, turns = 0; (n = msock_server_conn_tx_peek(s->c, &p)) > 0; turns++) {
    FUZZ_CHECK(turns < 4096);
    msock_server_conn_tx_consume(s->c, n);
  }
}

static bool feed(server *s, const uint8_t *p, size_t len, uint8_t how) {
  for (size_t at = 0; at < len;) {
    const size_t n = fuzz_piece(how, len - at);
    uint8_t *piece = malloc(n);
    memcpy(piece, p + at, n);
    const msock_err e = msock_server_conn_feed(s->c, NOW_US, piece, n);
    poll_conn(s);
    free(piece);
    if (e != MSOCK_OK) {
      FUZZ_CHECK(e == MSOCK_ERR_CLOSED);
      return false;
    }
    at += n;
  }
  return true;
}

/* The upgrade of a true client, taken from the client's own channel; its records are then ours. */
static msock_control_records upgrade(server *s, uint8_t how) {
  const msock_machine_key server_public = msock_machine_private_public(&s->key);
  static const char head[] = "POST /ts2021 HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n"
                             "Upgrade: tailscale-control-protocol\r\n"
                             "X-Tailscale-Handshake: ";
  uint8_t init[MSOCK_CONTROL_INITIATION_LEN], resp[MSOCK_CONTROL_RESPONSE_LEN], ephemeral[32];
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  char text[4 * ((MSOCK_CONTROL_INITIATION_LEN + 2) / 3) + 5];
  msock_control_initiator hs;
  msock_control_records records = {0};
  size_t n = 0;
  const uint8_t *tx = NULL;

  msock_x25519_generate(&s->env, ephemeral);
  FUZZ_CHECK(msock_control_initiate(&hs, VERSION, &s->machine, &server_public, ephemeral, init) ==
             MSOCK_OK);
  for (size_t i = 0; i < sizeof init; i += 3) { /* padded base64, RFC 4648 4 */
    const size_t left = sizeof init - i;
    const uint32_t v = (uint32_t)init[i] << 16 | (left > 1 ? (uint32_t)init[i + 1] << 8 : 0) |
                       (left > 2 ? init[i + 2] : 0);
    text[n++] = digits[v >> 18];
    text[n++] = digits[v >> 12 & 63];
    text[n++] = left > 1 ? digits[v >> 6 & 63] : '=';
    text[n++] = left > 2 ? digits[v & 63] : '=';
  }
  memcpy(text + n, "\r\n\r\n", 4);
  const uint8_t *h = (const uint8_t *)head;
  FUZZ_CHECK(msock_server_conn_feed(s->c, NOW_US, h, sizeof head - 1) == MSOCK_OK);
  FUZZ_CHECK(msock_server_conn_feed(s->c, NOW_US, (const uint8_t *)text, n + 4) == MSOCK_OK);
  const size_t have = msock_server_conn_tx_peek(s->c, &tx);
  const uint8_t *end = memmem(tx, have, "\r\n\r\n", 4);
  FUZZ_CHECK(end != NULL && (size_t)(tx + have - end) >= 4 + sizeof resp);
  memcpy(resp, end + 4, sizeof resp);
  FUZZ_CHECK(msock_control_initiator_finish(&hs, resp, &records) == MSOCK_OK);
  poll_conn(s);
  (void)how;
  return records;
}

static void connection(msock_reader *r, server *s) {
  const uint8_t flags = msock_read_u8(r), how = msock_read_u8(r);
  uint8_t frame[MSOCK_CONTROL_FRAME_MAX];
  size_t len = 0;
  bool on = true;

  s->c = msock_server_conn_new(&s->env, &s->key, (flags & 2) != 0, NOW_US);
  FUZZ_CHECK(s->c != NULL);
  if (flags & 1) {
    msock_control_records tx = upgrade(s, how);
    while (on && fuzz_more(r)) {
      uint8_t *p = fuzz_take(r, (size_t)msock_read_u8(r) * 16, &len);
      const ptrdiff_t n = msock_control_record_seal(&tx, p, len, frame);
      FUZZ_CHECK(n > 0);
      on = feed(s, frame, (size_t)n, how);
      free(p);
    }
  } else {
    uint8_t *p = fuzz_rest(r, &len);
    (void)feed(s, p, len, how);
    free(p);
  }
  msock_server_conn_on_expiry(s->c, NOW_US + MSOCK_SERVER_LOGIN_US);
  poll_conn(s);
  msock_tailnet_on_conn_closed(s->t, CONN);
  msock_server_conn_free(s->c);
  s->c = NULL;
}

/* Requests straight to the tailnet: [path:1][length:2][body]... */
static void requests(msock_reader *r, server *s) {
  static const char *const paths[] = {"/machine/register", "/machine/map", "/machine/set-dns",
                                      "/machine/update-health", "/"};
  int32_t stream = 1;

  while (fuzz_more(r)) {
    msock_server_request q = {.stream = stream, .method = "POST"};
    size_t len = 0;
    const char *path = paths[fuzz_choice(r, sizeof paths / sizeof *paths)];
    memcpy(q.path, path, strlen(path) + 1);
    uint8_t *p = fuzz_take(r, msock_read_be16(r), &len);
    q.body = p;
    q.body_len = len;
    msock_tailnet_on_request(s->t, NOW_US, WALL_US, CONN, &s->who, &q);
    answers(s);
    if (len % 7 == 6) {
      msock_tailnet_on_stream_closed(s->t, CONN, stream);
    }
    stream += 2;
    free(p);
  }
  size_t len = 0;
  char *text = msock_tailnet_state(s->t, &len);
  FUZZ_CHECK(text != NULL && strlen(text) == len);
  msock_tailnet *again = msock_tailnet_new(
      &s->env, &(msock_tailnet_cfg){.domain = "d.example", .derp_map = &no_relays});
  FUZZ_CHECK(again != NULL && msock_tailnet_load(again, text) == MSOCK_OK);
  FUZZ_CHECK(msock_tailnet_count(again) == msock_tailnet_count(s->t));
  msock_tailnet_free(again);
  free(text);
}

/* A policy file: what is accepted must be accepted again. */
static void policy(msock_reader *r) {
  char why[MSOCK_TAILNET_WHY_MAX] = "";
  size_t len = 0;
  uint8_t *p = fuzz_rest(r, &len);
  char *text = msock_tailnet_filters_text((const char *)p, len, why);

  FUZZ_CHECK((text == NULL) == (why[0] != '\0'));
  if (text != NULL) {
    char *again = msock_tailnet_filters_text(text, strlen(text), why);
    FUZZ_CHECK(again != NULL && strcmp(text, again) == 0);
    free(again);
    free(text);
  }
  free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  msock_reader r = msock_reader_init(data, size);
  fuzz_rng rng;
  server s = {.env = fuzz_env(&rng, 1)};
  const unsigned what = fuzz_choice(&r, 5);
  const msock_tailnet_cfg cfg = {
      .domain = "d.example", .derp_map = &no_relays, .fake_peers = what == 3 ? 3 : 0};

  msock_machine_private_generate(&s.env, &s.key);
  msock_machine_private_generate(&s.env, &s.machine);
  s.who = msock_machine_private_public(&s.machine);
  s.t = msock_tailnet_new(&s.env, &cfg);
  FUZZ_CHECK(s.t != NULL);
  if (what == 0) {
    size_t len = 0;
    char *text = fuzz_rest_text(&r, &len);
    const msock_err e = msock_tailnet_load(s.t, text);
    FUZZ_CHECK(e == MSOCK_OK || msock_tailnet_count(s.t) == 0);
    free(text);
  } else if (what == 1) {
    requests(&r, &s);
  } else if (what == 4) {
    policy(&r);
  } else {
    connection(&r, &s);
  }
  answers(&s);
  msock_tailnet_on_expiry(s.t, NOW_US + 2 * MSOCK_TAILNET_KEEPALIVE_US);
  answers(&s);
  msock_tailnet_free(s.t);
  return 0;
}
