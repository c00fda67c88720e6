/* The relay's core (derp/server.h) with five connections: the first is fed from its first byte on
 * (request head, login), the others behind a login that is done for them, one of these as a mesh
 * peer; the last is a link of ours to another relay. Input: steps [what:1][operand...]; bytes to
 * feed are [length:2 BE][bytes]. Settings, bans, answers about admission and a drain come in
 * between. The books must balance after every step. */
#include <stdlib.h>
#include <string.h>

#include "crypto/x25519.h"
#include "derp/frame.h"
#include "derp/login.h"
#include "derp/server.h"
#include "tests/fuzz/fuzzing.h"

#define CONNS 5u
#define MESH 3u
#define LINK 4u
#define MEMORY (2u << 20)
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

static msock_derp_server_settings settings(void) {
  msock_derp_server_settings set = msock_derp_server_settings_default();
  set.has_mesh_key = true;
  memset(set.mesh_key, 1, sizeof set.mesh_key);
  set.memory_bytes = MEMORY;
  return set;
}

static void answer(relay *r, bool yes) {
  msock_derp_question q;
  while (msock_derp_server_next_question(r->s, &q)) {
    msock_derp_server_answer(r->s, r->now_us, q.conn, yes);
  }
}

static void log_in(relay *r, uint32_t conn, unsigned i) {
  static const char head[] = "GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\n\r\n";
  const msock_node_key server = msock_derp_server_key(r->s);
  const msock_node_private key = {{(uint8_t)(i + 1)}};
  msock_derp_client_info info = msock_derp_client_info_default();
  uint8_t frame[MSOCK_DERP_LOGIN_FRAME_MAX];
  info.has_mesh_key = i == MESH;
  memset(info.mesh_key, 1, sizeof info.mesh_key);
  const ptrdiff_t n =
      msock_derp_client_info_seal(&info, &key, &server, &r->env, frame, sizeof frame);
  msock_derp_server_feed(r->s, r->now_us, conn, (const uint8_t *)head, sizeof head - 1);
  FUZZ_CHECK(n > 0);
  msock_derp_server_feed(r->s, r->now_us, conn, frame, (size_t)n);
  answer(r, true);
  read_some(r, conn, SIZE_MAX);
}

/* What another relay answers, up to its ServerInfo. */
static void link_up(relay *r, uint32_t conn) {
  static const char head[] = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
  const msock_node_private key = {{77}};
  const msock_node_key mine = msock_derp_server_key(r->s);
  const msock_derp_server_info info = {.version = 2};
  const msock_derp_frame greeting = {.type = MSOCK_DERP_SERVER_KEY,
                                     .u.server_key.key = msock_node_private_public(&key)};
  uint8_t frame[MSOCK_DERP_LOGIN_FRAME_MAX];
  msock_derp_server_feed(r->s, r->now_us, conn, (const uint8_t *)head, sizeof head - 1);
  ptrdiff_t n = msock_derp_frame_encode(&greeting, frame, sizeof frame);
  msock_derp_server_feed(r->s, r->now_us, conn, frame, (size_t)n);
  n = msock_derp_server_info_seal(&info, &key, &mine, &r->env, frame, sizeof frame);
  msock_derp_server_feed(r->s, r->now_us, conn, frame, (size_t)n);
  read_some(r, conn, SIZE_MAX);
}

static void open_one(relay *r, unsigned i) {
  const msock_addr from = {.ip = msock_ip_v4(192, 0, 2, (uint8_t)i), .port = 1000};
  msock_derp_cause why;
  r->conns[i] = 0;
  if (i == LINK) {
    if (msock_derp_server_link(r->s, r->now_us, "x", &r->conns[i]) == MSOCK_OK) {
      link_up(r, r->conns[i]);
    }
    return;
  }
  if (msock_derp_server_accept(r->s, r->now_us, &from, &r->conns[i], &why) == MSOCK_OK && i > 0) {
    log_in(r, r->conns[i], i);
  }
}

static void reconfigure(relay *r, msock_reader *in) {
  msock_derp_server_settings set = settings();
  const unsigned what = fuzz_choice(in, 8);
  const uint64_t n = msock_read_be16(in);
  set.key.per_s = what == 1 ? n : 0;
  set.total.per_s = what == 2 ? n : 0;
  set.prefix.per_s = what == 3 ? n : 0;
  set.quota_day = what == 4 ? n : 0;
  set.quota_month = what == 5 ? n : 0;
  set.throttle.per_s = n & 1 ? n : 0;
  set.flow_bytes = what == 6 ? n : 0;
  set.flows_per_key = what == 6 ? 1 : 0;
  set.flows = what == 7 ? 1 : set.flows;
  set.queue_packets = what == 7 ? 1 : set.queue_packets;
  set.admission = what == 7 ? MSOCK_DERP_ADMIT_ASK : MSOCK_DERP_ADMIT_ALL;
  set.refusal_us = n & 2 ? MSOCK_SEC : 0;
  FUZZ_CHECK(msock_derp_server_configure(r->s, r->now_us, &set) == MSOCK_OK);
}

static void rule(relay *r, msock_reader *in) {
  const msock_derp_drain drain = {.spread_us = MSOCK_SEC, .reconnect_spread_ms = 100};
  const unsigned what = fuzz_choice(in, 16);
  const msock_node_private key = {{(uint8_t)(what % 4 + 1)}};
  const msock_derp_ban ban = {.kind = MSOCK_DERP_BAN_KEY, .key = msock_node_private_public(&key)};
  if (what < 4) {
    FUZZ_CHECK(msock_derp_server_ban(r->s, r->now_us, &ban) == MSOCK_OK);
  } else if (what < 8) {
    msock_derp_server_unban(r->s, &ban);
  } else if (what < 15) {
    msock_derp_server_set_date(r->s, r->now_us, what, 1);
  } else {
    msock_derp_server_drain(r->s, r->now_us, &drain);
  }
}

/* Every packet is somewhere, and memory within its bound. */
static void check_books(const relay *r) {
  const msock_derp_server_stats n = msock_derp_server_get_stats(r->s);
  uint64_t out = n.packets_out + n.forwarded_out + n.packets_queued;
  for (unsigned i = 0; i < MSOCK_DERP_DROPS; i++) {
    out += n.dropped[i][0] + n.dropped[i][1];
  }
  FUZZ_CHECK(n.packets_in + n.forwarded_in == out);
  FUZZ_CHECK(n.memory_bytes <= MEMORY);
  FUZZ_CHECK(n.conns <= CONNS && n.home <= n.conns && n.mesh <= n.conns);
}

static void feed(relay *r, msock_reader *in, uint32_t conn) {
  const size_t want = msock_read_be16(in);
  size_t len = 0;
  uint8_t *p = fuzz_take(in, want, &len);
  const msock_err e = msock_derp_server_feed(r->s, r->now_us, conn, p, len);
  FUZZ_CHECK(e == MSOCK_OK || e == MSOCK_ERR_CLOSED || e == MSOCK_ERR_AGAIN);
  free(p);
}

static void step(relay *r, msock_reader *in) {
  const unsigned what = fuzz_choice(in, 8);
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
  } else if (what == 4) {
    msock_derp_server_close(r->s, r->now_us, r->conns[i]);
    open_one(r, i);
  } else if (what == 5) {
    reconfigure(r, in);
  } else if (what == 6) {
    answer(r, i > 0);
  } else {
    rule(r, in);
  }
  check_books(r);
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
  const msock_derp_server_settings set = settings();
  FUZZ_CHECK(msock_derp_server_configure(r.s, r.now_us, &set) == MSOCK_OK);
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
  FUZZ_CHECK(msock_derp_server_count_all(r.s) == 0 && r.sent < OUTPUT_MAX);
  msock_derp_server_free(r.s);
  return 0;
}
