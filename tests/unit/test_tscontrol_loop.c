/* tscontrol on real sockets of the loopback: heads, our client machine, the relay, STUN. */
#include "tests/unit/io_testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/control.h"
#include "crypto/x25519.h"
#include "derp/client.h"
#include "io/stream.h"
#include "io/udp.h"
#include "netcheck/stun.h"
#include "tests/unit/testing.h"
#include "tscontrol/relay.h"
#include "tscontrol/server.h"

#define BUDGET_US (5 * MSOCK_SEC)

static msock_loop *loop;
static msock_egress *eg;
static msock_env env;
static msock_machine_private key;
static msock_tailnet *tailnet;
static msock_tscontrol *server;
static msock_tscontrol_relay *relay;
static size_t saved;
static bool done;

static void on_changed(void *ctx) {
  size_t len;
  (void)ctx;
  free(msock_tailnet_state(tailnet, &len));
  saved++;
}

static void setup(void) {
  char why[MSOCK_TLS_WHY_MAX];
  msock_derp_map map;
  loop = msock_loop_new(NULL);
  eg = io_test_egress(loop, MSOCK_PROFILE_FULL, false);
  env = msock_loop_env(loop);
  const msock_tscontrol_relay_cfg rc = {.on = io_test_local(0), .name = ""};
  ck_assert_msg(msock_tscontrol_relay_new(loop, eg, &rc, &relay, why) == MSOCK_OK, "%s", why);
  ck_assert_int_eq(msock_tscontrol_relay_map(relay, &map), MSOCK_OK);
  const msock_tailnet_cfg tc = {.domain = "demo.example", .derp_map = &map};
  tailnet = msock_tailnet_new(&env, &tc);
  msock_derp_map_clear(&map);
  msock_machine_private_generate(&env, &key);
  const msock_tscontrol_cfg sc = {.listen = io_test_local(0),
                                  .key = &key,
                                  .tailnet = tailnet,
                                  .early_payload = true,
                                  .changed = on_changed};
  ck_assert_int_eq(msock_tscontrol_new(loop, eg, &sc, &server), MSOCK_OK);
  done = false;
  saved = 0;
}

static void teardown(void) {
  msock_tscontrol_free(server);
  msock_tscontrol_relay_free(relay);
  msock_tailnet_free(tailnet);
  msock_egress_free(eg);
  msock_loop_free(loop);
}

/* --- a plain client: sends, collects until the end --- */

typedef struct plain {
  msock_stream *s;
  const char *tx;
  size_t tx_len, rx_len;
  char rx[4096];
  msock_err err;
} plain;

static void on_bytes(void *ctx, const uint8_t *p, size_t len) {
  plain *c = ctx;
  ck_assert_uint_lt(c->rx_len + len, sizeof c->rx);
  memcpy(c->rx + c->rx_len, p, len);
  c->rx_len += len;
}

static void on_peek(void *ctx, const uint8_t **p, size_t *len) {
  plain *c = ctx;
  *p = (const uint8_t *)c->tx;
  *len = c->tx_len;
}

static void on_consume(void *ctx, size_t n) {
  plain *c = ctx;
  c->tx += n;
  c->tx_len -= n;
}

static void on_closed(void *ctx, msock_err err, const char *reason) {
  plain *c = ctx;
  (void)reason;
  c->err = err;
  done = true;
}

static const msock_stream_handlers plain_handlers = {
    .readable = on_bytes, .tx_peek = on_peek, .tx_consume = on_consume, .closed = on_closed};

static void exchange(plain *c, const char *bytes, size_t len) {
  msock_stream_config cfg = {.budget_us = BUDGET_US};
  *c = (plain){.tx = bytes, .tx_len = len};
  msock_tcp_target_host(&cfg.target, MSOCK_PURPOSE_CTL, "127.0.0.1",
                        msock_tscontrol_addr(server).port, BUDGET_US);
  ck_assert_int_eq(msock_stream_dial(eg, &cfg, &plain_handlers, c, &c->s), MSOCK_OK);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  msock_stream_free(c->s);
}

/* closes: STUN-14 */
START_TEST(a_relay_whose_stun_port_is_taken_does_not_start) {
  char why[MSOCK_TLS_WHY_MAX] = "", port[16];
  msock_tscontrol_relay *other = NULL;
  int fd = -1;
  const msock_addr at = msock_tscontrol_relay_addr(relay); /* a port that was free for both */
  msock_tscontrol_relay_free(relay);
  relay = NULL;
  ck_assert_int_eq(msock_egress_udp_bind(eg, MSOCK_PURPOSE_LISTEN, &at, &fd, NULL), MSOCK_OK);
  const msock_tscontrol_relay_cfg rc = {.on = at, .name = ""};
  ck_assert_int_eq(msock_tscontrol_relay_new(loop, eg, &rc, &other, why), MSOCK_ERR_IO);
  ck_assert_ptr_null(other);
  snprintf(port, sizeof port, ":%u", at.port);
  ck_assert_msg(strstr(why, port) != NULL && strstr(why, "in use") != NULL, "%s", why);
  close(fd); /* with the port free it does */
  ck_assert_msg(msock_tscontrol_relay_new(loop, eg, &rc, &other, why) == MSOCK_OK, "%s", why);
  msock_tscontrol_relay_free(other);
}
END_TEST

/* closes: CTRL-75 (an answer reaches a client that has sent more than was read) */
START_TEST(answers_are_not_lost_to_a_reset) {
  const size_t len = 600000;
  char *bytes = malloc(len);
  plain c;
  memset(bytes, 'x', len);
  memcpy(bytes, "POST /nothing HTTP/1.1\r\nContent-Length: 599900\r\n\r\n", 50);
  exchange(&c, bytes, len);
  ck_assert_int_eq(c.err, MSOCK_ERR_CLOSED);
  ck_assert_int_eq(strncmp(c.rx, "HTTP/1.1 404 ", 13), 0);
  free(bytes);
}
END_TEST

/* closes: CTRL-75 (garbage handshake: the server goes on) */
START_TEST(garbage_does_not_disturb_others) {
  static const char key_request[] = "GET /key?v=138 HTTP/1.1\r\nHost: x\r\n\r\n";
  uint8_t garbage[5000];
  plain c;
  for (int i = 0; i < 20; i++) {
    env.random(env.ctx, garbage, sizeof garbage);
    garbage[100] = garbage[101] = '\n'; /* a head that ends */
    done = false;
    exchange(&c, (char *)garbage, sizeof garbage);
  }
  done = false;
  exchange(&c, key_request, sizeof key_request - 1);
  ck_assert_int_eq(strncmp(c.rx, "HTTP/1.1 200 ", 13), 0);
}
END_TEST

/* --- our control client over a socket --- */

typedef struct ctl {
  msock_control *c;
  msock_stream *s;
  plain key;
} ctl;

static void pump_ctl(ctl *x);

static void ctl_bytes(void *ctx, const uint8_t *p, size_t len) {
  ctl *x = ctx;
  msock_control_conn_feed(x->c, msock_loop_now_us(), msock_loop_wall_us(), p, len);
  pump_ctl(x);
}

static void ctl_up(void *ctx, const msock_stream_info *info) {
  ctl *x = ctx;
  (void)info;
  msock_control_conn_up(x->c, msock_loop_now_us(), msock_loop_wall_us());
  pump_ctl(x);
}

static void ctl_peek(void *ctx, const uint8_t **p, size_t *len) {
  ctl *x = ctx;
  *len = msock_control_conn_tx_peek(x->c, p);
}

static void ctl_consume(void *ctx, size_t n) {
  ctl *x = ctx;
  msock_control_conn_tx_consume(x->c, n);
}

static void ctl_closed(void *ctx, msock_err err, const char *reason) {
  (void)ctx;
  ck_abort_msg("closed: %d %s", err, reason);
}

static const msock_stream_handlers ctl_handlers = {.up = ctl_up,
                                                   .readable = ctl_bytes,
                                                   .tx_peek = ctl_peek,
                                                   .tx_consume = ctl_consume,
                                                   .closed = ctl_closed};

static void pump_ctl(ctl *x) {
  msock_control_action a;
  msock_control_event ev;
  while (msock_control_next_action(x->c, &a)) {
    ck_assert_int_ne(a.kind, MSOCK_CONTROL_FETCH_KEY); /* it has been told the key */
    if (a.kind == MSOCK_CONTROL_DIAL) {
      msock_stream_config cfg = {.budget_us = BUDGET_US};
      msock_tcp_target_host(&cfg.target, MSOCK_PURPOSE_CTL, "127.0.0.1", a.port, BUDGET_US);
      ck_assert_int_eq(msock_stream_dial(eg, &cfg, &ctl_handlers, x, &x->s), MSOCK_OK);
    }
  }
  while (msock_control_next_event(x->c, &ev)) {
  }
  if (x->s != NULL) {
    msock_stream_want_write(x->s);
  }
  done = msock_control_connected(x->c);
}

START_TEST(our_client_joins_over_sockets) {
  ctl x = {0};
  msock_control_cfg cfg = {
      .host = "127.0.0.1",
      .port = msock_tscontrol_addr(server).port,
      .hostinfo = {
          .hostname = "box", .os = "linux", .app_version = "0.1", .backend_log_id = "00ff"}};
  msock_machine_private_generate(&env, &cfg.machine);
  cfg.server_key = msock_machine_private_public(&key);
  x.c = msock_control_new(&env, &cfg);
  msock_control_set_want_running(x.c, msock_loop_now_us(), true);
  pump_ctl(&x);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  const msock_derp_map *map = msock_netmap_derp_map(msock_control_netmap(x.c));
  ck_assert_uint_eq(map->n_regions, 1);
  const msock_derp_node *n = &map->regions[0].nodes[0];
  ck_assert_uint_eq(n->derp_port, msock_tscontrol_relay_addr(relay).port);
  ck_assert_int_eq(strncmp(n->cert_name, "sha256-raw:", 11), 0);
  ck_assert_uint_ge(saved, 1);
  msock_stream_free(x.s);
  msock_control_free(x.c);
}
END_TEST

/* --- the relay --- */

static bool got_answer;
static msock_addr mapped;

static void on_datagrams(void *ctx, msock_packet *pkts, const msock_addr *from, size_t n,
                         uint64_t now_us) {
  msock_stun_txid txid;
  (void)ctx;
  (void)now_us;
  ck_assert_uint_eq(n, 1);
  ck_assert_int_eq(msock_stun_decode_response(msock_packet_data(&pkts[0]), pkts[0].len, &from[0],
                                              &txid, &mapped),
                   MSOCK_OK);
  ck_assert_uint_eq(txid.b[0], 2); /* the first request was not one of ours: silence */
  got_answer = true;
}

START_TEST(stun_beside_the_relay) {
  static const msock_udp_handlers h = {.received = on_datagrams};
  const msock_addr on = io_test_local(0), to = msock_tscontrol_relay_addr(relay);
  msock_udp *u = NULL;
  uint8_t bytes[64];
  ck_assert_int_eq(msock_udp_new(eg, MSOCK_PURPOSE_STUN, &on, &h, NULL, &u), MSOCK_OK);
  got_answer = false;
  for (uint8_t i = 1; i <= 2; i++) {
    const msock_stun_txid txid = {{i}};
    const ptrdiff_t n = msock_stun_encode_request(&txid, i == 1 /* plain */, bytes, sizeof bytes);
    const msock_packet p = {.buf = bytes, .cap = sizeof bytes, .len = (uint32_t)n};
    ck_assert_uint_eq(msock_udp_send(u, MSOCK_PURPOSE_STUN, &p, &to, 1), 1);
  }
  ck_assert(io_test_run(loop, &got_answer, IO_TEST_DEADLINE_US));
  const msock_addr local = msock_udp_local(u);
  ck_assert(msock_addr_equal(&mapped, &local));
  msock_udp_free(u);
}
END_TEST

typedef struct end {
  msock_derp_client *c;
  msock_derp_queue queue;
  msock_stream *s;
  msock_node_key key;
  size_t packets;
} end;

static end ends[2];

static void take(end *e) {
  msock_derp_event ev;
  static const uint8_t hello[1200] = "hello";
  while (msock_derp_client_next_event(e->c, &ev)) {
    if (ev.kind == MSOCK_DERP_EVENT_PACKET) {
      e->packets++;
      done = ends[0].packets == 1;
      if (e == &ends[1]) { /* back again */
        msock_derp_client_send(e->c, msock_loop_now_us(), &ends[0].key, hello, sizeof hello);
      }
    } else if (ev.kind == MSOCK_DERP_EVENT_CONNECTED && e == &ends[1]) {
      msock_derp_client_send(ends[0].c, msock_loop_now_us(), &e->key, hello, sizeof hello);
      msock_stream_want_write(ends[0].s);
    } else {
      ck_assert_int_ne(ev.kind, MSOCK_DERP_EVENT_CLOSED);
    }
  }
  msock_stream_want_write(e->s);
}

static void derp_bytes(void *ctx, const uint8_t *p, size_t len) {
  end *e = ctx;
  ck_assert_int_eq(msock_derp_client_feed(e->c, msock_loop_now_us(), p, len), MSOCK_OK);
  take(e);
}

static void derp_peek(void *ctx, const uint8_t **p, size_t *len) {
  end *e = ctx;
  msock_derp_client_tx_peek(e->c, msock_loop_now_us(), p, len);
}

static void derp_consume(void *ctx, size_t n) {
  end *e = ctx;
  msock_derp_client_tx_consume(e->c, n);
}

static void derp_closed(void *ctx, msock_err err, const char *reason) {
  (void)ctx;
  ck_abort_msg("closed: %d %s", err, reason);
}

static const msock_stream_handlers derp_handlers = {.readable = derp_bytes,
                                                    .tx_peek = derp_peek,
                                                    .tx_consume = derp_consume,
                                                    .closed = derp_closed};

static void begin(end *e, const msock_derp_node *n) {
  msock_derp_client_cfg cfg = {.host = "127.0.0.1", .queue = &e->queue};
  msock_stream_config sc = {.budget_us = BUDGET_US, .tls = true};
  cfg.info = msock_derp_client_info_default();
  msock_node_private_generate(&env, &cfg.key);
  e->key = msock_node_private_public(&cfg.key);
  e->c = msock_derp_client_new(&env, &cfg, msock_loop_now_us());
  msock_tcp_target_derp(&sc.target, n, false);
  sc.tls_config.host = n->host_name;
  sc.tls_config.cert_name = n->cert_name;
  ck_assert_int_eq(msock_stream_dial(eg, &sc, &derp_handlers, e, &e->s), MSOCK_OK);
}

START_TEST(two_clients_meet_at_the_relay) {
  msock_derp_map map;
  ck_assert_int_eq(msock_tscontrol_relay_map(relay, &map), MSOCK_OK);
  memset(ends, 0, sizeof ends);
  begin(&ends[0], &map.regions[0].nodes[0]);
  begin(&ends[1], &map.regions[0].nodes[0]);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  ck_assert_uint_eq(ends[1].packets, 1);
  for (size_t i = 0; i < 2; i++) {
    msock_stream_free(ends[i].s);
    msock_derp_client_free(ends[i].c);
    msock_derp_queue_clear(&ends[i].queue);
  }
  msock_derp_map_clear(&map);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, a_relay_whose_stun_port_is_taken_does_not_start);
  tcase_add_test(tc, answers_are_not_lost_to_a_reset);
  tcase_add_test(tc, garbage_does_not_disturb_others);
  tcase_add_test(tc, our_client_joins_over_sockets);
  tcase_add_test(tc, stun_beside_the_relay);
  tcase_add_test(tc, two_clients_meet_at_the_relay);
  return testing_main("tscontrol_loop", tc);
}
