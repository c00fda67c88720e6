/* The relay's core (derp/server.h) with three connections: the first is fed from its first byte on,
 * the others behind a login that is done for them. Input: steps [what:1][operand...]; bytes to feed
 * are [length:2 BE][bytes]. */
#include <stdlib.h>
#include <string.h>

#include "crypto/x25519.h"
#include "derp/login.h"
#include "derp/server.h"
#include "tests/fuzz/fuzzing.h"

#define CONNS 3u
#define START_US (1000 * MSOCK_SEC)
#define OUTPUT_MAX (32u << 20) /* of one connection: more than any input can ask for */

typedef struct relay {
  msock_env env;
  msock_derp_server *s;
  uint32_t conns[CONNS];
  uint64_t now_us, sent;
} relay;

static void read_some(relay *r, uint32_t conn, size_t limit) {
  const uint8_t *p = NULL;
  size_t n;
  while (limit > 0 && (n = msock_derp_server_tx_peek(r->s, r->now_us, conn, &p)) > 0) {
    n = n < limit ? n : limit;
    fuzz_touch(p, n);
    msock_derp_server_tx_consume(r->s, r->now_us, conn, n);
    limit -= n;
    r->sent += n;
  }
}

static void log_in(relay *r, uint32_t conn, unsigned i) {
  static const char head[] = "GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\n\r\n";
  const msock_derp_client_info info = msock_derp_client_info_default();
  const msock_node_key server = msock_derp_server_key(r->s);
  const msock_node_private key = {{(uint8_t)(i + 1)}};
  uint8_t frame[MSOCK_DERP_LOGIN_FRAME_MAX];
  const ptrdiff_t n =
      msock_derp_client_info_seal(&info, &key, &server, &r->env, frame, sizeof frame);
  msock_derp_server_feed(r->s, r->now_us, conn, (const uint8_t *)head, sizeof head - 1);
  FUZZ_CHECK(n > 0);
  FUZZ_CHECK(msock_derp_server_feed(r->s, r->now_us, conn, frame, (size_t)n) == MSOCK_OK);
  read_some(r, conn, SIZE_MAX);
}

static void open_one(relay *r, unsigned i) {
  FUZZ_CHECK(msock_derp_server_open(r->s, r->now_us, &r->conns[i]) == MSOCK_OK);
  if (i > 0) {
    log_in(r, r->conns[i], i);
  }
}

static void feed(relay *r, msock_reader *in, uint32_t conn) {
  const size_t want = msock_read_be16(in);
  size_t len = 0;
  uint8_t *p = fuzz_take(in, want, &len);
  const msock_err e = msock_derp_server_feed(r->s, r->now_us, conn, p, len);
  FUZZ_CHECK(e == MSOCK_OK || e == MSOCK_ERR_CLOSED);
  free(p);
}

static void step(relay *r, msock_reader *in) {
  const unsigned what = fuzz_choice(in, 5);
  const unsigned i = fuzz_choice(in, CONNS);
  uint32_t woken;
  if (what <= 1) {
    feed(r, in, r->conns[i]);
  } else if (what == 2) {
    read_some(r, r->conns[i], msock_read_be16(in));
  } else if (what == 3) {
    r->now_us += msock_read_be16(in) * MSOCK_MS;
    msock_derp_server_on_expiry(r->s, r->now_us);
    FUZZ_CHECK(msock_derp_server_next_expiry(r->s) > r->now_us);
  } else {
    msock_derp_server_close(r->s, r->now_us, r->conns[i]);
    open_one(r, i);
  }
  for (unsigned n = 0; msock_derp_server_next_wake(r->s, &woken); n++) {
    FUZZ_CHECK(n < CONNS); /* each connection once */
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  msock_reader in = msock_reader_init(data, size);
  fuzz_rng rng;
  relay r = {.env = fuzz_env(&rng, 1), .now_us = START_US};
  const msock_node_private key = {{99}};

  r.s = msock_derp_server_new(&r.env, &key);
  FUZZ_CHECK(r.s != NULL);
  for (unsigned i = 0; i < CONNS; i++) {
    open_one(&r, i);
  }
  while (fuzz_more(&in)) {
    step(&r, &in);
  }
  for (unsigned i = 0; i < CONNS; i++) {
    read_some(&r, r.conns[i], SIZE_MAX);
    msock_derp_server_close(r.s, r.now_us, r.conns[i]);
  }
  FUZZ_CHECK(msock_derp_server_count(r.s) == 0 && r.sent < OUTPUT_MAX);
  msock_derp_server_free(r.s);
  return 0;
}
