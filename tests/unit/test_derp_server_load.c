/* The relay core with many connections and much traffic: memory, wake-ups, books that balance, and
 * the pieces beneath: the timer wheel and the pool. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/x25519.h"
#include "derp/server_buffer.h"
#include "derp/server_wheel.h"
#include "tests/unit/relay_rig.h"
#include "tests/unit/testing.h"

#define T0 (1000 * MSOCK_SEC)
#define IDLE 10000u
#define IDLE_BYTES_MAX 2048u /* of the core, per idle connection: TLS has the rest of 16 KiB */

static testing_rng rng;
static msock_env env;

/* What is allocated now; 0 under a sanitizer, whose allocator does not tell. */
static size_t live_bytes(void) {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

static msock_derp_server *new_server(void) {
  msock_node_private secret;
  env = testing_env(&rng, 17);
  msock_node_private_generate(&env, &secret);
  msock_derp_server *s = msock_derp_server_new(&env, &secret);
  ck_assert_ptr_nonnull(s);
  return s;
}

/* A connection that is logged in, without a rig of its own. */
static uint32_t log_in_one(msock_derp_server *s, uint32_t number) {
  static const char head[] = "GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\n\r\n";
  const msock_derp_client_info info = msock_derp_client_info_default();
  const msock_node_key server = msock_derp_server_key(s);
  msock_node_private secret = {{1}};
  uint8_t buf[MSOCK_DERP_LOGIN_FRAME_MAX];
  const uint8_t *p;
  uint32_t conn;
  size_t n;
  memcpy(secret.b + 8, &number, sizeof number);
  ck_assert_int_eq(msock_derp_server_open(s, T0, &conn), MSOCK_OK);
  msock_derp_server_feed(s, T0, conn, (const uint8_t *)head, sizeof head - 1);
  const ptrdiff_t len = msock_derp_client_info_seal(&info, &secret, &server, &env, buf, sizeof buf);
  ck_assert_int_eq(msock_derp_server_feed(s, T0, conn, buf, (size_t)len), MSOCK_OK);
  while ((n = msock_derp_server_tx_peek(s, T0, conn, &p)) > 0) {
    msock_derp_server_tx_consume(s, T0, conn, n);
  }
  return conn;
}

/* closes: SERVER-29 D21 (the core's share: memory of one idle connection, and wake-ups) */
START_TEST(ten_thousand_idle_connections_are_cheap) {
  msock_derp_server *s = new_server();
  const size_t before = live_bytes();
  uint32_t conn, wakes = 0, sent = 0, others = 0;
  const uint8_t *p;
  size_t n;
  for (uint32_t i = 0; i < IDLE; i++) {
    (void)log_in_one(s, i);
  }
  while (msock_derp_server_next_wake(s, &conn)) {
  }
  const size_t each = (live_bytes() - before) / IDLE;
  printf("memory of one idle connection in the core: %zu bytes\n", each);
  ck_assert_uint_le(each, IDLE_BYTES_MAX);
  const uint64_t end = T0 + 600 * MSOCK_SEC;
  for (uint64_t t; (t = msock_derp_server_next_expiry(s)) < end; wakes++) {
    msock_derp_server_on_expiry(s, t);
    while (msock_derp_server_next_wake(s, &conn)) {
      while ((n = msock_derp_server_tx_peek(s, t, conn, &p)) > 0) {
        others += n != MSOCK_DERP_HEADER_LEN || p[0] != MSOCK_DERP_KEEP_ALIVE;
        msock_derp_server_tx_consume(s, t, conn, n);
        sent++;
      }
    }
  }
  ck_assert_uint_eq(others, 0);
  ck_assert_uint_ge(sent, 9 * IDLE); /* one a minute each */
  ck_assert_uint_le(sent, 10 * IDLE);
  ck_assert_uint_le(wakes, 600 * 4); /* not one for each of them */
  msock_derp_server_free(s);
}
END_TEST

typedef struct traffic {
  msock_derp_server *s;
  relay_client c[6];
} traffic;

static void random_step(traffic *t, uint64_t now) {
  uint8_t data[3000] = {'T', 'S', 0xf0, 0x9f, 0x92, 0xac};
  relay_client *from = &t->c[msock_env_uniform(&env, 6)];
  relay_client *to = &t->c[msock_env_uniform(&env, 6)];
  const uint64_t what = msock_env_uniform(&env, 20);
  const uint8_t *p;
  if (what == 0) { /* leaves with what is queued for it, and comes back */
    relay_client_close(from, now);
    from->rx_len = 0;
    ck_assert_int_eq(msock_derp_server_open(t->s, now, &from->conn), MSOCK_OK);
    from->open = true;
    relay_client_login(from, now);
  } else if (what == 1) { /* a key that is not here */
    msock_node_key none = {{9}};
    (void)relay_client_packet(from, now, &none, data, msock_env_uniform(&env, 100));
  } else if (what == 2) { /* reads a part */
    const size_t n = msock_derp_server_tx_peek(t->s, now, to->conn, &p);
    msock_derp_server_tx_consume(t->s, now, to->conn, n / 2);
    to->rx_len = 0;
  } else {
    data[0] = msock_env_uniform(&env, 2) ? 'T' : 'x';
    (void)relay_client_packet(from, now, &to->key, data, msock_env_uniform(&env, sizeof data));
  }
}

static uint64_t accounted(const msock_derp_server_stats *n) {
  uint64_t sum = n->packets_out + n->packets_queued;
  for (unsigned i = 0; i < MSOCK_DERP_DROPS; i++) {
    sum += n->dropped[i][MSOCK_DERP_KIND_DISCO] + n->dropped[i][MSOCK_DERP_KIND_OTHER];
  }
  return sum;
}

/* closes: SERVER-26 F18 (the core: received = sent + dropped + queued, at every moment) */
START_TEST(the_books_balance_after_every_step) {
  traffic t = {.s = new_server()};
  msock_derp_server_settings set = msock_derp_server_settings_default();
  msock_derp_server_stats n = {0};
  set.queue_packets = 20;
  set.queue_disco = 5;
  ck_assert_int_eq(msock_derp_server_configure(t.s, T0, &set), MSOCK_OK);
  for (int i = 0; i < 6; i++) {
    relay_client_init(&t.c[i], &env, t.s, T0, NULL);
    relay_client_login(&t.c[i], T0);
  }
  for (int i = 0; i < 20000; i++) {
    random_step(&t, T0 + (uint64_t)i);
    n = msock_derp_server_get_stats(t.s);
    ck_assert(n.packets_in == accounted(&n) &&
              n.packets_in == n.packets_in_kind[0] + n.packets_in_kind[1]);
  }
  ck_assert_uint_gt(n.dropped[MSOCK_DERP_DROP_UNKNOWN_DEST][MSOCK_DERP_KIND_OTHER], 0);
  ck_assert_uint_gt(n.dropped[MSOCK_DERP_DROP_QUEUE_HEAD][MSOCK_DERP_KIND_OTHER], 0);
  ck_assert_uint_gt(n.dropped[MSOCK_DERP_DROP_QUEUE_HEAD][MSOCK_DERP_KIND_DISCO], 0);
  ck_assert_uint_gt(n.dropped[MSOCK_DERP_DROP_GONE_DISCONNECTED][MSOCK_DERP_KIND_OTHER], 0);
  ck_assert_uint_gt(n.packets_out, 1000);
  for (int i = 0; i < 6; i++) {
    relay_client_close(&t.c[i], T0 + 20000);
    relay_client_free(&t.c[i]);
  }
  n = msock_derp_server_get_stats(t.s);
  ck_assert_uint_eq(n.packets_queued, 0);
  ck_assert_uint_eq(n.memory_bytes, 0);
  msock_derp_server_free(t.s);
}
END_TEST

/* closes: F39 (packet memory is bounded under a flood to readers that do not read; a good client is
 * served) */
START_TEST(a_flood_stays_within_its_memory) {
  enum { N = 40 };
  static relay_client c[N];
  static const uint8_t big[60000];
  msock_derp_server *s = new_server();
  msock_derp_server_settings set = msock_derp_server_settings_default();
  msock_derp_frame f;
  set.memory_bytes = 4 << 20;
  ck_assert_int_eq(msock_derp_server_configure(s, T0, &set), MSOCK_OK);
  for (int i = 0; i < N; i++) {
    relay_client_init(&c[i], &env, s, T0, NULL);
    relay_client_login(&c[i], T0);
  }
  for (int i = 0; i < 2000; i++) {
    ck_assert(relay_client_packet(&c[0], T0, &c[2 + i % (N - 2)].key, big, sizeof big));
    ck_assert_uint_le(msock_derp_server_get_stats(s).memory_bytes, set.memory_bytes);
  }
  const msock_derp_server_stats n = msock_derp_server_get_stats(s);
  ck_assert_uint_gt(n.dropped[MSOCK_DERP_DROP_QUEUE_TAIL][MSOCK_DERP_KIND_OTHER] +
                        n.dropped[MSOCK_DERP_DROP_QUEUE_HEAD][MSOCK_DERP_KIND_OTHER],
                    1900);
  ck_assert(relay_client_packet(&c[1], T0, &c[1].key, "small ones pass", 15));
  ck_assert(relay_client_take(&c[1], T0, &f));
  for (int i = 0; i < N; i++) {
    relay_client_free(&c[i]);
  }
  msock_derp_server_free(s);
}
END_TEST

/* Many frames leave in one write, and the same bytes are shown until some are taken. */
START_TEST(frames_leave_together_and_stay_until_taken) {
  msock_derp_server *s = new_server();
  relay_client a, b;
  const uint8_t *p;
  uint8_t before[MSOCK_DERP_SERVER_TX_MAX];
  relay_client_init(&a, &env, s, T0, NULL);
  relay_client_init(&b, &env, s, T0, NULL);
  relay_client_login(&a, T0);
  relay_client_login(&b, T0);
  for (uint8_t i = 0; i < 200; i++) {
    ck_assert(relay_client_packet(&a, T0, &b.key, &i, 1));
  }
  const size_t frame = MSOCK_DERP_PACKET_OVERHEAD + 1;
  const size_t n = msock_derp_server_tx_peek(s, T0, b.conn, &p);
  ck_assert_uint_eq(n, 200 * frame);
  memcpy(before, p, n);
  ck_assert(relay_client_packet(&a, T0, &b.key, "later", 5)); /* does not join what is shown */
  ck_assert_uint_eq(msock_derp_server_tx_peek(s, T0, b.conn, &p), n);
  ck_assert_mem_eq(p, before, n);
  msock_derp_server_tx_consume(s, T0, b.conn, frame + 3); /* in the middle of a frame */
  ck_assert_uint_eq(msock_derp_server_tx_peek(s, T0, b.conn, &p),
                    n - frame - 3 + MSOCK_DERP_PACKET_OVERHEAD + 5);
  ck_assert_mem_eq(p, before + frame + 3, n - frame - 3);
  for (int i = 0; i < 30; i++) { /* more than one write holds */
    ck_assert(relay_client_packet(&a, T0, &b.key, before, 1280));
  }
  size_t writes = 0, sum = 0, m;
  while ((m = msock_derp_server_tx_peek(s, T0, b.conn, &p)) > 0) {
    ck_assert_uint_le(m, MSOCK_DERP_SERVER_TX_MAX);
    msock_derp_server_tx_consume(s, T0, b.conn, m);
    sum += m;
    writes++;
  }
  ck_assert_uint_eq(sum, n - frame - 3 + MSOCK_DERP_PACKET_OVERHEAD + 5 +
                             30 * (MSOCK_DERP_PACKET_OVERHEAD + 1280));
  ck_assert_uint_le(writes, 5);
  relay_client_free(&a);
  relay_client_free(&b);
  msock_derp_server_free(s);
}
END_TEST

/* --- the wheel --- */

#define TIMERS 300

/* Timers near and far, moved and stopped: each comes out at its time, none before, none twice. */
START_TEST(the_wheel_is_exact) {
  static relay_timer timers[TIMERS];
  static relay_wheel w;
  uint64_t now = T0;
  unsigned late = 0;
  env = testing_env(&rng, (uint64_t)_i);
  memset(timers, 0, sizeof timers);
  relay_wheel_init(&w);
  for (int step = 0; step < 5000; step++) {
    relay_timer *t = &timers[msock_env_uniform(&env, TIMERS)];
    static const uint64_t spans[] = {1000, 300000, 60 * MSOCK_SEC, 4000 * MSOCK_SEC};
    const uint64_t span = spans[msock_env_uniform(&env, 4)];
    relay_wheel_arm(&w, now, t,
                    msock_env_uniform(&env, 8) == 0 ? MSOCK_NEVER
                                                    : now + msock_env_uniform(&env, span));
    if (msock_env_uniform(&env, 3) > 0) {
      continue;
    }
    const uint64_t next = relay_wheel_next(&w);
    uint64_t earliest = MSOCK_NEVER;
    for (int i = 0; i < TIMERS; i++) {
      earliest = timers[i].at != NULL && timers[i].due_us < earliest ? timers[i].due_us : earliest;
    }
    ck_assert_uint_le(next, earliest);
    ck_assert(earliest >= now + 100 * MSOCK_SEC || next == earliest); /* far ones: a look before */
    now = earliest == MSOCK_NEVER ? now : next > now ? next : now;
    while ((t = relay_wheel_pop(&w, now)) != NULL) {
      ck_assert_uint_le(t->due_us, now);
      ck_assert_ptr_null(t->at);
    }
    for (int i = 0; i < TIMERS; i++) {
      late += timers[i].at != NULL && timers[i].due_us <= now;
    }
  }
  ck_assert_uint_eq(late, 0);
}
END_TEST

START_TEST(the_pool_is_bounded_and_reuses) {
  relay_pool p = {.max = 10000};
  relay_buf *b[64] = {NULL};
  size_t n = 0;
  while (n < 64 && (b[n] = relay_buf_new(&p, 1400)) != NULL) {
    n++;
  }
  ck_assert_uint_eq(n, 6);
  ck_assert_uint_le(p.used, p.max);
  relay_buf_free(&p, b[2]);
  ck_assert_ptr_eq(relay_buf_new(&p, 1000), b[2]); /* the same one */
  ck_assert_ptr_null(relay_buf_new(&p, 100000));
  for (size_t i = 0; i < n; i++) {
    relay_buf_free(&p, b[i]);
  }
  ck_assert_uint_eq(p.used, 0);
  relay_pool_free(&p);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_set_timeout(tc, 120);
  tcase_add_test(tc, ten_thousand_idle_connections_are_cheap);
  tcase_add_test(tc, the_books_balance_after_every_step);
  tcase_add_test(tc, a_flood_stays_within_its_memory);
  tcase_add_test(tc, frames_leave_together_and_stay_until_taken);
  tcase_add_loop_test(tc, the_wheel_is_exact, 0, 20);
  tcase_add_test(tc, the_pool_is_bounded_and_reuses);
  return testing_main("derp_server_load", tc);
}
