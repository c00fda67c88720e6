/* DERP: one frame of any type, and a client connection fed by a hostile relay, from its first byte
 * or behind a login that is done for it. */
#include <stdlib.h>
#include <string.h>

#include "crypto/x25519.h"
#include "derp/client.h"
#include "tests/fuzz/fuzzing.h"

#define START_US (1000 * MSOCK_SEC)

/* What decodes must encode to something that decodes to the same kind and length or shorter. */
static void frame(msock_reader *r) {
  const uint8_t type = msock_read_u8(r);
  msock_derp_frame f;
  size_t len = 0;
  uint8_t *p = fuzz_rest(r, &len);

  if (msock_derp_frame_decode(type, p, len, &f) == MSOCK_OK) {
    const size_t cap = len + MSOCK_DERP_HEADER_LEN;
    uint8_t *again = malloc(cap);
    const ptrdiff_t n = msock_derp_frame_encode(&f, again, cap);
    FUZZ_CHECK(f.type == type && n != MSOCK_ERR_INVALID && n <= (ptrdiff_t)cap);
    if (n > 0) { /* short forms of old peers grow by the fields they lack: NOBUF */
      const msock_derp_header h = msock_derp_header_read(again);
      msock_derp_frame g;
      FUZZ_CHECK(h.type == type && h.len == (size_t)n - MSOCK_DERP_HEADER_LEN);
      FUZZ_CHECK(msock_derp_frame_decode(type, again + MSOCK_DERP_HEADER_LEN, h.len, &g) ==
                 MSOCK_OK);
    }
    free(again);
  }
  (void)msock_derp_from_client((msock_derp_header){.type = type, .len = (uint32_t)len}, false);
  (void)msock_derp_from_client((msock_derp_header){.type = type, .len = (uint32_t)len}, true);
  free(p);
}

static void login_frames(msock_reader *r, const msock_node_private *me,
                         const msock_node_private *server) {
  const bool at_server = (msock_read_u8(r) & 1) != 0;
  const msock_node_key server_public = msock_node_private_public(server);
  msock_derp_client_info client_info;
  msock_derp_server_info server_info;
  msock_node_key who;
  size_t len = 0;
  uint8_t *p = fuzz_rest(r, &len);

  if (at_server) {
    (void)msock_derp_client_info_open(p, len, server, &who, &client_info);
  } else {
    (void)msock_derp_server_info_open(p, len, me, &server_public, &server_info);
  }
  free(p);
}

typedef struct session {
  msock_derp_client *c;
  uint64_t now_us;
  unsigned n_closed;
} session;

static void poll_session(session *s) {
  msock_derp_event ev;
  const uint8_t *tx = NULL;
  size_t n = 0;

  while (msock_derp_client_next_event(s->c, &ev)) {
    FUZZ_CHECK(s->n_closed == 0); /* CLOSED is the last one */
    if (ev.kind == MSOCK_DERP_EVENT_PACKET) {
      FUZZ_CHECK(ev.u.packet.len <= MSOCK_DERP_PACKET_MAX);
      fuzz_touch(ev.u.packet.data, ev.u.packet.len);
    } else if (ev.kind == MSOCK_DERP_EVENT_HEALTH) {
      fuzz_touch(ev.u.health.text, ev.u.health.len);
    } else if (ev.kind == MSOCK_DERP_EVENT_CLOSED) {
      FUZZ_CHECK(msock_derp_closed_text(ev.u.closed.reason)[0] != '\0');
      s->n_closed++;
    }
  }
  for (int i = 0; i < 64; i++) { /* a peer that makes us send without end would be found here */
    msock_derp_client_tx_peek(s->c, s->now_us, &tx, &n);
    if (n == 0) {
      return;
    }
    FUZZ_CHECK(i < 63);
    fuzz_touch(tx, n);
    msock_derp_client_tx_consume(s->c, n);
  }
}

static void feed(session *s, const uint8_t *p, size_t len, uint8_t how) {
  for (size_t at = 0; at < len && s->n_closed == 0;) {
    const size_t n = fuzz_piece(how, len - at);
    uint8_t *piece = malloc(n); /* borrowed by the client until it is drained */
    memcpy(piece, p + at, n);
    const msock_err e = msock_derp_client_feed(s->c, s->now_us, piece, n);
    FUZZ_CHECK(e == MSOCK_OK || e == MSOCK_ERR_CLOSED);
    poll_session(s);
    free(piece);
    at += n;
  }
}

/* 101, ServerKey and, with `whole`, the ServerInfo sealed for this client. */
static void greet(session *s, const msock_env *env, const msock_node_private *me,
                  const msock_node_private *server, bool whole) {
  static const char head[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n"
                             "Connection: Upgrade\r\nDerp-Version: 2\r\n\r\n";
  const msock_node_key mine = msock_node_private_public(me);
  const msock_derp_server_info info = {
      .version = 2, .bytes_per_second = 100000, .burst_bytes = 20000};
  msock_derp_frame key = {.type = MSOCK_DERP_SERVER_KEY};
  uint8_t buf[MSOCK_DERP_LOGIN_FRAME_MAX];

  key.u.server_key.key = msock_node_private_public(server);
  feed(s, (const uint8_t *)head, sizeof head - 1, 0);
  const ptrdiff_t n = msock_derp_frame_encode(&key, buf, sizeof buf);
  FUZZ_CHECK(n > 0);
  feed(s, buf, (size_t)n, 0);
  FUZZ_CHECK(msock_derp_client_is_logged_in(s->c));
  if (whole) {
    const ptrdiff_t m = msock_derp_server_info_seal(&info, server, &mine, env, buf, sizeof buf);
    FUZZ_CHECK(m > 0);
    feed(s, buf, (size_t)m, 0);
  }
}

static void connection(msock_reader *r, const msock_env *env, const msock_node_private *me,
                       const msock_node_private *server) {
  const uint8_t flags = msock_read_u8(r), how = msock_read_u8(r);
  msock_derp_queue queue = {0};
  msock_derp_client_cfg cfg = {.key = *me,
                               .host = "derp.example.com",
                               .fast_start = (flags & 3) == 3,
                               .server_key = msock_node_private_public(server),
                               .preferred = (flags & 4) != 0,
                               .info = msock_derp_client_info_default(),
                               .queue = &queue};
  session s = {.c = msock_derp_client_new(env, &cfg, START_US), .now_us = START_US};
  size_t len = 0;

  FUZZ_CHECK(s.c != NULL);
  if ((flags & 3) == 1 || (flags & 3) == 2) {
    greet(&s, env, me, server, (flags & 3) == 2);
  }
  if (flags & 8) {
    msock_derp_client_ping(s.c, s.now_us, 5 * MSOCK_SEC);
  }
  if (flags & 16) {
    (void)msock_derp_client_send(s.c, s.now_us, &cfg.server_key, (const uint8_t *)"disco", 5);
  }
  poll_session(&s);
  uint8_t *p = fuzz_rest(r, &len);
  feed(&s, p, len, how);
  s.now_us += (uint64_t)(flags >> 5) * 20 * MSOCK_SEC;
  msock_derp_client_on_expiry(s.c, s.now_us);
  poll_session(&s);
  if (flags & 32) {
    msock_derp_client_eof(s.c);
    poll_session(&s);
    FUZZ_CHECK(s.n_closed == 1 && msock_derp_client_is_closed(s.c));
  }
  msock_derp_client_free(s.c);
  msock_derp_queue_clear(&queue);
  free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  msock_reader r = msock_reader_init(data, size);
  fuzz_rng rng;
  const msock_env env = fuzz_env(&rng, 1);
  msock_node_private me, server;

  msock_node_private_generate(&env, &me);
  msock_node_private_generate(&env, &server);
  switch (fuzz_choice(&r, 3)) {
  case 0:
    frame(&r);
    break;
  case 1:
    login_frames(&r, &me, &server);
    break;
  default:
    connection(&r, &env, &me, &server);
    break;
  }
  return 0;
}
