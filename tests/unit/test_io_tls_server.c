/* The accepting side of TLS: identities, pins, streams over a listener. */
#include "tests/unit/io_testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/pem.h>
#include <mbedtls/pk.h>

#include "io/stream.h"
#include "io/tcp_listener.h"
#include "io/tls_server.h"
#include "tests/unit/testing.h"
#include "tests/unit/tls_testing.h"

#define BULK 300000u
#define BUDGET_US (5 * MSOCK_SEC)

static char why[MSOCK_TLS_WHY_MAX];
static int pair[2];

static void setup(void) {
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
}

static void teardown(void) {
  close(pair[0]);
  close(pair[1]);
}

/* Handshake on the socket pair; gives the client's result. Then a byte goes both ways. */
static msock_err shake(msock_tls_identity *id, const msock_tls_config *config) {
  msock_tls *c = NULL, *s = NULL;
  uint8_t got[4];
  msock_err client = msock_tls_new(config, pair[0], &c);
  ck_assert_int_eq(msock_tls_accept(id, pair[1], &s), MSOCK_OK);
  msock_err server = MSOCK_ERR_AGAIN;
  for (int i = 0; i < 100 && client != MSOCK_ERR_AUTH; i++) {
    client = client == MSOCK_OK && i > 0 && server == MSOCK_OK ? client : msock_tls_handshake(c);
    server = server == MSOCK_OK ? server : msock_tls_handshake(s);
    if (client == MSOCK_OK && server == MSOCK_OK) {
      break;
    }
  }
  snprintf(why, sizeof why, "%s", msock_tls_error_text(c));
  if (client == MSOCK_OK) {
    ck_assert_int_eq(server, MSOCK_OK);
    ck_assert_int_eq(msock_tls_write(c, (const uint8_t *)"abc", 3), 3);
    ck_assert_int_eq(msock_tls_read(s, got, sizeof got), 3);
    ck_assert_mem_eq(got, "abc", 3);
    ck_assert_int_eq(msock_tls_write(s, (const uint8_t *)"de", 2), 2);
    ck_assert_int_eq(msock_tls_read(c, got, sizeof got), 2);
    msock_tls_free(c);
    c = NULL;
    ck_assert_int_eq(msock_tls_read(s, got, sizeof got), MSOCK_ERR_CLOSED);
    ck_assert_ptr_nonnull(strstr(msock_tls_error_text(s), "the client closed"));
  }
  msock_tls_free(c);
  msock_tls_free(s);
  return client;
}

#define LONG_NAME /* 125 bytes: its DER lengths take two bytes */                                  \
  "a-name-of-125-bytes-takes-two-lengths-aaaaaaaaaaaaa."                                           \
  "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.example.com"

static const char *const hosts[] = {
    "127.0.0.1",
    "fd00::1",
    "relay.example",
    LONG_NAME,
};

/* closes: SERVER-23 (the leaf: CN is no derpkey, and clients find it by its pin) */
START_TEST(a_certificate_made_here_is_accepted_by_its_pin) {
  msock_tls_identity *id = NULL, *other = NULL;
  char pin[MSOCK_TLS_PIN_TEXT_MAX], other_pin[MSOCK_TLS_PIN_TEXT_MAX];
  ck_assert_int_eq(msock_tls_identity_self_signed(hosts[_i], msock_loop_wall_us(), &id, why),
                   MSOCK_OK);
  ck_assert_int_eq(msock_tls_identity_self_signed(hosts[_i], msock_loop_wall_us(), &other, why),
                   MSOCK_OK);
  ck_assert_int_eq(strncmp(msock_tls_identity_pin(id, pin), MSOCK_TLS_PIN_PREFIX, 11), 0);
  ck_assert_uint_eq(strlen(pin), 11 + 64);
  ck_assert_str_ne(pin, msock_tls_identity_pin(other, other_pin)); /* a key of its own each time */
  msock_tls_config config = {.host = hosts[_i], .cert_name = pin};
  ck_assert_msg(shake(id, &config) == MSOCK_OK, "%s", why);
  config.cert_name = other_pin;
  teardown();
  setup();
  ck_assert_int_eq(shake(id, &config), MSOCK_ERR_AUTH);
  config.cert_name = pin;
  config.host = "another.example"; /* a host that is a name must be in it */
  teardown();
  setup();
  ck_assert_int_eq(shake(id, &config), MSOCK_ERR_AUTH);
  msock_tls_identity_free(id);
  msock_tls_identity_free(other);
}
END_TEST

START_TEST(dates_are_checked_against_the_clock_of_the_maker) {
  const uint64_t year_us = UINT64_C(366) * 86400 * MSOCK_SEC;
  msock_tls_identity *id = NULL;
  char pin[MSOCK_TLS_PIN_TEXT_MAX];
  ck_assert_int_eq(
      msock_tls_identity_self_signed("127.0.0.1", msock_loop_wall_us() - year_us, &id, why),
      MSOCK_OK);
  const msock_tls_config config = {.host = "127.0.0.1",
                                   .cert_name = msock_tls_identity_pin(id, pin)};
  ck_assert_int_eq(shake(id, &config), MSOCK_ERR_AUTH);
  ck_assert_ptr_nonnull(strstr(why, "expired"));
  msock_tls_identity_free(id);
}
END_TEST

/* closes: SERVER-23 (the meta certificate, where the backend has TLS 1.3: last in the chain, not
 * counted by a pin, its key known to the client after the handshake) */
START_TEST(a_meta_certificate_tells_the_key_of_the_relay) {
  static const uint8_t key[32] = {1, 2, 3, 0xfe};
  msock_tls_identity *id = NULL;
  msock_tls *c = NULL, *s = NULL;
  char pin[MSOCK_TLS_PIN_TEXT_MAX];
  ck_assert_int_eq(msock_tls_identity_self_signed("127.0.0.1", msock_loop_wall_us(), &id, why),
                   MSOCK_OK);
  const msock_err e = msock_tls_identity_add_meta(id, key, msock_loop_wall_us());
  ck_assert_int_eq(e,
                   strncmp(msock_tls_backend(), "OpenSSL", 7) == 0 ? MSOCK_OK : MSOCK_ERR_UNKNOWN);
  const msock_tls_config config = {.host = "127.0.0.1",
                                   .cert_name = msock_tls_identity_pin(id, pin)};
  ck_assert_uint_eq(strlen(pin), 11 + 64);
  ck_assert_int_eq(msock_tls_new(&config, pair[0], &c), MSOCK_OK);
  ck_assert_int_eq(msock_tls_accept(id, pair[1], &s), MSOCK_OK);
  msock_err client = MSOCK_ERR_AGAIN, server = MSOCK_ERR_AGAIN;
  for (int i = 0; i < 100 && (client == MSOCK_ERR_AGAIN || server == MSOCK_ERR_AGAIN); i++) {
    client = client == MSOCK_ERR_AGAIN ? msock_tls_handshake(c) : client;
    server = server == MSOCK_ERR_AGAIN ? msock_tls_handshake(s) : server;
  }
  ck_assert_msg(client == MSOCK_OK && server == MSOCK_OK, "%s", msock_tls_error_text(c));
  const msock_tls_info *info = msock_tls_get_info(c);
  ck_assert_int_eq(info->has_meta_key, e == MSOCK_OK);
  if (e == MSOCK_OK) {
    ck_assert(info->is_tls13);
    ck_assert_mem_eq(info->meta_key, key, sizeof key);
    ck_assert_uint_eq(info->meta_version, 2);
  }
  msock_tls_free(c);
  msock_tls_free(s);
  msock_tls_identity_free(id);
}
END_TEST

/* Reload: the owner lets go of an identity while connections that began with it are in use. */
START_TEST(connections_outlive_the_owner_of_their_identity) {
  msock_tls_identity *id = NULL;
  msock_tls *c = NULL, *s = NULL;
  char pin[MSOCK_TLS_PIN_TEXT_MAX];
  uint8_t got[4];
  ck_assert_int_eq(msock_tls_identity_self_signed("127.0.0.1", msock_loop_wall_us(), &id, why),
                   MSOCK_OK);
  const msock_tls_config config = {.host = "127.0.0.1",
                                   .cert_name = msock_tls_identity_pin(id, pin)};
  ck_assert_int_eq(msock_tls_new(&config, pair[0], &c), MSOCK_OK);
  ck_assert_int_eq(msock_tls_accept(id, pair[1], &s), MSOCK_OK);
  msock_tls_identity_free(id); /* in the middle of a handshake */
  msock_err client = MSOCK_ERR_AGAIN, server = MSOCK_ERR_AGAIN;
  for (int i = 0; i < 100 && (client == MSOCK_ERR_AGAIN || server == MSOCK_ERR_AGAIN); i++) {
    client = client == MSOCK_ERR_AGAIN ? msock_tls_handshake(c) : client;
    server = server == MSOCK_ERR_AGAIN ? msock_tls_handshake(s) : server;
  }
  ck_assert_int_eq(client, MSOCK_OK);
  ck_assert_int_eq(server, MSOCK_OK);
  ck_assert_int_eq(msock_tls_write(c, (const uint8_t *)"abc", 3), 3);
  ck_assert_int_eq(msock_tls_read(s, got, sizeof got), 3);
  msock_tls_free(c);
  msock_tls_free(s);
}
END_TEST

/* Part of a record has come: a reader that was told "later" is not sent round in circles. */
START_TEST(half_a_record_is_not_pending) {
  msock_tls_identity *id = NULL;
  msock_tls *c = NULL, *s = NULL;
  char pin[MSOCK_TLS_PIN_TEXT_MAX];
  uint8_t bytes[64], got[64];
  int second[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, second), 0);
  ck_assert_int_eq(msock_tls_identity_self_signed("127.0.0.1", msock_loop_wall_us(), &id, why),
                   MSOCK_OK);
  const msock_tls_config config = {.host = "127.0.0.1",
                                   .cert_name = msock_tls_identity_pin(id, pin)};
  ck_assert_int_eq(msock_tls_new(&config, pair[0], &c), MSOCK_OK);
  ck_assert_int_eq(msock_tls_accept(id, second[0], &s), MSOCK_OK);
  msock_err client = MSOCK_ERR_AGAIN, server = MSOCK_ERR_AGAIN;
  uint8_t wire[8192];
  for (int i = 0; i < 100 && (client == MSOCK_ERR_AGAIN || server == MSOCK_ERR_AGAIN); i++) {
    client = client == MSOCK_ERR_AGAIN ? msock_tls_handshake(c) : client;
    ssize_t n = read(pair[1], wire, sizeof wire);
    ck_assert(n <= 0 || write(second[1], wire, (size_t)n) == n);
    server = server == MSOCK_ERR_AGAIN ? msock_tls_handshake(s) : server;
    n = read(second[1], wire, sizeof wire);
    ck_assert(n <= 0 || write(pair[1], wire, (size_t)n) == n);
  }
  ck_assert(client == MSOCK_OK && server == MSOCK_OK);
  memset(bytes, 7, sizeof bytes);
  ck_assert_int_eq(msock_tls_write(c, bytes, sizeof bytes), sizeof bytes);
  const ssize_t n = read(pair[1], wire, sizeof wire);
  ck_assert_int_gt(n, 40);
  ck_assert_int_eq(write(second[1], wire, 40), 40);
  ck_assert_int_eq(msock_tls_read(s, got, sizeof got), MSOCK_ERR_AGAIN);
  ck_assert(!msock_tls_pending(s));
  ck_assert_int_eq(write(second[1], wire + 40, (size_t)n - 40), n - 40);
  ck_assert_int_eq(msock_tls_read(s, got, 10), 10);
  ck_assert(msock_tls_pending(s)); /* 54 are decrypted and wait */
  ck_assert_int_eq(msock_tls_read(s, got, sizeof got), 54);
  ck_assert(!msock_tls_pending(s));
  msock_tls_free(c);
  msock_tls_free(s);
  msock_tls_identity_free(id);
  close(second[0]);
  close(second[1]);
}
END_TEST

static void add_pem(char *pem, size_t cap, const tls_test_cert *c) {
  size_t n = 0;
  const size_t at = strlen(pem);
  ck_assert_int_eq(mbedtls_pem_write_buffer("-----BEGIN CERTIFICATE-----\n",
                                            "-----END CERTIFICATE-----\n", c->der, c->len,
                                            (uint8_t *)pem + at, cap - at, &n),
                   0);
}

static void add_key(char *pem, size_t cap, tls_test_cert *c) {
  const size_t at = strlen(pem);
  ck_assert_int_eq(mbedtls_pk_write_key_pem(&c->key, (uint8_t *)pem + at, cap - at), 0);
}

START_TEST(identities_from_pem) {
  static const tls_test_spec ca_spec = {.cn = "CN=test ca", .is_ca = true};
  static const tls_test_spec spec = {.cn = "CN=relay", .dns = {"relay.example"}};
  tls_test_cert ca, leaf;
  msock_tls_identity *id = NULL;
  char pem[8192] = "", pin[MSOCK_TLS_PIN_TEXT_MAX], path[] = "/tmp/tsnode-test-XXXXXX";
  tls_test_make(&ca, &ca_spec, NULL, NULL);
  tls_test_make(&leaf, &spec, &ca, "CN=test ca");

  ck_assert_int_eq(msock_tls_identity_from_pem("", &id, why), MSOCK_ERR_INVALID);
  ck_assert_ptr_nonnull(strstr(why, "certificate"));
  add_pem(pem, sizeof pem, &leaf);
  ck_assert_int_eq(msock_tls_identity_from_pem(pem, &id, why), MSOCK_ERR_INVALID);
  ck_assert_ptr_nonnull(strstr(why, "key"));
  add_key(pem, sizeof pem, &ca);
  ck_assert_int_eq(msock_tls_identity_from_pem(pem, &id, why), MSOCK_ERR_INVALID);
  ck_assert_ptr_nonnull(strstr(why, "does not belong"));

  pem[0] = '\0';
  add_key(pem, sizeof pem, &leaf);
  add_pem(pem, sizeof pem, &leaf);
  ck_assert_msg(msock_tls_identity_from_pem(pem, &id, why) == MSOCK_OK, "%s", why);
  ck_assert_uint_eq(strlen(msock_tls_identity_pin(id, pin)), 75);
  msock_tls_identity_free(id);
  add_pem(pem, sizeof pem, &ca); /* a chain: to be verified by name, and has no pin */
  ck_assert_int_eq(msock_tls_identity_from_pem(pem, &id, why), MSOCK_OK);
  ck_assert_str_eq(msock_tls_identity_pin(id, pin), "");
  close(mkstemp(path));
  tls_test_write_pem(&ca, path);
  setenv("SSL_CERT_FILE", path, 1);
  msock_tls_roots *roots = msock_tls_roots_new(NULL);
  const msock_tls_config config = {.host = "relay.example", .roots = roots};
  ck_assert_msg(shake(id, &config) == MSOCK_OK, "%s", why);
  msock_tls_identity_free(id);
  msock_tls_roots_free(roots);
  unlink(path);
  tls_test_free(&ca);
  tls_test_free(&leaf);
}
END_TEST

/* --- streams --- */

typedef struct end {
  msock_stream *s;
  uint8_t *bytes;
  size_t rx, tx, tx_len;
  bool up, closed;
  char why[256];
} end;

static msock_loop *loop;
static msock_tls_identity *identity;
static end client, server;
static bool done;
static const msock_stream_handlers handlers;

static void on_up(void *ctx, const msock_stream_info *info) {
  end *e = ctx;
  e->up = true;
  ck_assert_ptr_nonnull(info->tls);
}

static void on_bytes(void *ctx, const uint8_t *p, size_t len) {
  end *e = ctx;
  ck_assert_uint_le(e->rx + len, BULK);
  if (e == &server) { /* echo */
    memcpy(e->bytes + e->rx, p, len);
    e->tx_len += len;
    msock_stream_want_write(e->s);
  } else {
    ck_assert_mem_eq(e->bytes + e->rx, p, len);
  }
  e->rx += len;
  done = client.rx == BULK;
}

static void on_peek(void *ctx, const uint8_t **p, size_t *len) {
  end *e = ctx;
  *p = e->bytes + e->tx;
  *len = e->tx_len - e->tx;
}

static void on_consume(void *ctx, size_t n) {
  end *e = ctx;
  e->tx += n;
}

static void on_closed(void *ctx, msock_err err, const char *reason) {
  end *e = ctx;
  (void)err;
  e->closed = done = true;
  snprintf(e->why, sizeof e->why, "%s", reason);
}

static const msock_stream_handlers handlers = {.up = on_up,
                                               .readable = on_bytes,
                                               .tx_peek = on_peek,
                                               .tx_consume = on_consume,
                                               .closed = on_closed};

static uint64_t accept_budget_us;

static void on_accepted(void *ctx, int fd, const msock_addr *peer) {
  (void)ctx;
  ck_assert(msock_ip_is_loopback(&peer->ip));
  ck_assert_int_eq(
      msock_stream_accept_tls(loop, fd, identity, accept_budget_us, &handlers, &server, &server.s),
      MSOCK_OK);
}

/* A client that speaks TLS, or one that only connects. */
static void over_a_listener(bool tls, uint64_t budget_us) {
  char pin[MSOCK_TLS_PIN_TEXT_MAX];
  msock_tcp_listener *l = NULL;
  const msock_addr on = io_test_local(0);
  loop = msock_loop_new(NULL);
  msock_egress *eg = io_test_egress(loop, MSOCK_PROFILE_FULL, false);
  memset(&client, 0, sizeof client);
  memset(&server, 0, sizeof server);
  client.bytes = malloc(BULK);
  server.bytes = malloc(BULK);
  for (size_t i = 0; i < BULK; i++) {
    client.bytes[i] = (uint8_t)(i * 13 >> 3);
  }
  client.tx_len = tls ? BULK : 0;
  accept_budget_us = budget_us;
  done = false;
  ck_assert_int_eq(
      msock_tls_identity_self_signed("127.0.0.1", msock_loop_wall_us(), &identity, why), MSOCK_OK);
  ck_assert_int_eq(msock_tcp_listener_new(eg, MSOCK_PURPOSE_LISTEN, &on, on_accepted, NULL, &l),
                   MSOCK_OK);
  msock_stream_config c = {.budget_us = BUDGET_US, .tls = tls};
  msock_tcp_target_host(&c.target, MSOCK_PURPOSE_DERP, "127.0.0.1", msock_tcp_listener_addr(l).port,
                        BUDGET_US);
  c.tls_config.host = "127.0.0.1";
  c.tls_config.cert_name = msock_tls_identity_pin(identity, pin);
  msock_stream_handlers of_client = handlers;
  of_client.up = tls ? on_up : NULL;
  ck_assert_int_eq(msock_stream_dial(eg, &c, &of_client, &client, &client.s), MSOCK_OK);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  msock_stream_free(client.s);
  msock_stream_free(server.s);
  msock_tcp_listener_free(l);
  msock_tls_identity_free(identity);
  msock_egress_free(eg);
  msock_loop_free(loop);
  free(client.bytes);
  free(server.bytes);
}

START_TEST(an_echo_over_an_accepted_tls_stream) {
  over_a_listener(true, BUDGET_US);
  ck_assert(client.up && server.up);
  ck_assert_uint_eq(client.rx, BULK);
}
END_TEST

/* closes: SERVER-27 (a client that never begins its handshake is cut in its time) */
START_TEST(a_client_that_says_nothing_is_cut) {
  over_a_listener(false, 20 * MSOCK_MS);
  ck_assert(server.closed && !server.up);
  ck_assert_str_eq(server.why, "no TLS handshake with the client within 20 ms");
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_loop_test(tc, a_certificate_made_here_is_accepted_by_its_pin, 0,
                      (int)(sizeof hosts / sizeof *hosts));
  tcase_add_test(tc, dates_are_checked_against_the_clock_of_the_maker);
  tcase_add_test(tc, identities_from_pem);
  tcase_add_test(tc, a_meta_certificate_tells_the_key_of_the_relay);
  tcase_add_test(tc, connections_outlive_the_owner_of_their_identity);
  tcase_add_test(tc, half_a_record_is_not_pending);
  tcase_add_test(tc, an_echo_over_an_accepted_tls_stream);
  tcase_add_test(tc, a_client_that_says_nothing_is_cut);
  return testing_main("io_tls_server", tc);
}
