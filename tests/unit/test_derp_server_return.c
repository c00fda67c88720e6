/* Keys of the relay core that leave and come back (what they had used up is not renewed by it), and
 * two devices with one key, at exact ticks. */
#include <stdlib.h>
#include <string.h>

#include "crypto/x25519.h"
#include "tests/unit/relay_rig.h"
#include "tests/unit/testing.h"

#define T0 (1000 * MSOCK_SEC) /* on the grid of the relay's own timers: 250 ms */
#define CHARGED (MSOCK_DERP_PACKET_MAX + MSOCK_KEY_LEN) /* of the largest packet */

static testing_rng rng;
static msock_env env;
static msock_derp_server *s;
static msock_derp_server_settings set;
static relay_client a, b;

static void setup(void) {
  msock_node_private secret;
  env = testing_env(&rng, 12);
  msock_node_private_generate(&env, &secret);
  s = msock_derp_server_new(&env, &secret);
  ck_assert_ptr_nonnull(s);
  set = msock_derp_server_settings_default();
  msock_derp_server_keep_events(s, 1000);
  relay_client_init(&a, &env, s, T0, NULL);
  relay_client_init(&b, &env, s, T0, NULL);
  relay_client_login(&a, T0);
  relay_client_login(&b, T0);
}

static void teardown(void) {
  relay_client_free(&a);
  relay_client_free(&b);
  msock_derp_server_free(s);
}

static void configure(void) {
  ck_assert_int_eq(msock_derp_server_configure(s, T0, &set), MSOCK_OK);
}

/* Closes and comes back with the same key. */
static void come_back(relay_client *c, uint64_t left, uint64_t back) {
  const msock_node_private secret = c->secret;
  relay_client_close(c, left);
  relay_client_free(c);
  relay_client_init(c, &env, s, back, &secret);
  relay_client_login(c, back);
}

static void discard(relay_client *c, uint64_t now) {
  relay_client_pump(c, now);
  c->rx_len = 0;
}

static bool passes(relay_client *from, relay_client *to, uint64_t now, size_t len) {
  static const uint8_t data[MSOCK_DERP_PACKET_MAX];
  msock_derp_frame f;
  discard(to, now);
  (void)relay_client_packet(from, now, &to->key, data, len);
  return relay_client_take(to, now, &f) && f.type == MSOCK_DERP_RECV_PACKET &&
         f.u.packet.len == len;
}

static void run_until(uint64_t t) {
  uint64_t next;
  while ((next = msock_derp_server_next_expiry(s)) <= t) {
    msock_derp_server_on_expiry(s, next);
  }
  discard(&a, t);
  discard(&b, t);
}

static msock_derp_server_event event_of(msock_derp_server_event_kind kind) {
  msock_derp_server_event ev = {0};
  do {
    ck_assert_msg(msock_derp_server_next_event(s, &ev), "no event of kind %d", (int)kind);
  } while (ev.kind != kind);
  return ev;
}

static uint64_t keys_idle(void) {
  return msock_derp_server_get_stats(s).keys_idle;
}

static bool is_read(const relay_client *c) {
  return msock_derp_server_wants_read(s, c->conn);
}

/* --- buckets --- */

/* Whenever it comes back, it is read again at the moment at which it would have been without having
 * left. */
START_TEST(a_bucket_outlives_the_connection) {
  const uint64_t away = (uint64_t)_i * 10 * MSOCK_SEC;
  const uint64_t due = T0 + 31136 * MSOCK_MS; /* 2 * 65568 - 100000 bytes at 1000 a second */
  set.key = (msock_derp_rate){.per_s = 1000, .burst = 100000};
  configure();
  ck_assert(passes(&a, &b, T0, MSOCK_DERP_PACKET_MAX));
  ck_assert(is_read(&a));
  come_back(&a, T0, T0 + away);
  ck_assert(is_read(&a));
  ck_assert(passes(&a, &b, T0 + away, MSOCK_DERP_PACKET_MAX));
  ck_assert(!is_read(&a)); /* a new burst would have held it */
  come_back(&a, T0 + away, T0 + away);
  ck_assert(!is_read(&a)); /* owing, it is not read for one frame more */
  run_until(due - 1);
  ck_assert(!is_read(&a));
  run_until(due);
  ck_assert(is_read(&a));
}
END_TEST

/* closes: F41 (with a rate: remembered until the bucket is full, which is the same as forgotten) */
START_TEST(a_key_is_forgotten_when_its_bucket_is_full) {
  const uint64_t full = T0 + 65568 * MSOCK_MS, grid = T0 + 65750 * MSOCK_MS;
  set.key = (msock_derp_rate){.per_s = 1000, .burst = 100000};
  configure();
  ck_assert(passes(&a, &b, T0, MSOCK_DERP_PACKET_MAX));
  relay_client_close(&a, T0);
  ck_assert_uint_eq(keys_idle(), 1);
  relay_client_close(&b, T0); /* has sent nothing: nothing is kept */
  ck_assert_uint_eq(keys_idle(), 1);
  ck_assert_uint_eq(msock_derp_server_next_expiry(s), grid);
  msock_derp_server_on_expiry(s, full);
  ck_assert_uint_eq(keys_idle(), 1);
  msock_derp_server_on_expiry(s, grid);
  ck_assert_uint_eq(keys_idle(), 0);
  ck_assert_uint_eq(msock_derp_server_next_expiry(s), MSOCK_NEVER);
}
END_TEST

START_TEST(a_new_rate_acts_on_those_who_left) {
  set.key = (msock_derp_rate){.per_s = 1000, .burst = 100000};
  configure();
  ck_assert(passes(&a, &b, T0, MSOCK_DERP_PACKET_MAX));
  relay_client_close(&a, T0);
  ck_assert_uint_eq(keys_idle(), 1);
  set.key.per_s = 4000; /* four times as soon */
  configure();
  run_until(T0 + 16500 * MSOCK_MS - 1);
  ck_assert_uint_eq(keys_idle(), 1);
  run_until(T0 + 16500 * MSOCK_MS); /* 16392 ms, and the grid */
  ck_assert_uint_eq(keys_idle(), 0);
  ck_assert(passes(&b, &b, T0, 1000));
  relay_client_close(&b, T0);
  ck_assert_uint_eq(keys_idle(), 1);
  set.key.per_s = 0;
  configure();
  ck_assert_uint_eq(keys_idle(), 0);
}
END_TEST

/* A full table forgets what says least: the bucket that is full the soonest. */
START_TEST(the_table_of_absent_keys_is_bounded) {
  relay_client c;
  msock_derp_usage u = {.day = 20000, .month = 657, .day_bytes = 1, .month_bytes = 1};
  set.key = (msock_derp_rate){.per_s = 1000, .burst = 100000};
  configure();
  msock_derp_server_set_date(s, T0, 20000, 657);
  for (uint32_t i = 1; i < MSOCK_DERP_SERVER_KEYS_IDLE_MAX; i++) {
    memcpy(u.key.b, &i, sizeof i);
    ck_assert_int_eq(msock_derp_server_add_usage(s, &u), MSOCK_OK);
  }
  relay_client_init(&c, &env, s, T0, NULL);
  relay_client_login(&c, T0);
  ck_assert(passes(&b, &b, T0, MSOCK_DERP_PACKET_MAX)); /* the most */
  ck_assert(passes(&a, &b, T0, 50000));
  ck_assert(passes(&c, &b, T0, 40000)); /* the least */
  const relay_client *const all[] = {&a, &b, &c};
  for (int i = 0; i < 3; i++) { /* a has a place, b takes it from a, c gets none */
    msock_derp_server_close(s, T0, all[i]->conn);
    ck_assert_uint_eq(keys_idle(), MSOCK_DERP_SERVER_KEYS_IDLE_MAX);
  }
  u.key.b[31] = 1;
  ck_assert_int_eq(msock_derp_server_add_usage(s, &u), MSOCK_ERR_NOMEM);
  come_back(&b, T0, T0);
  ck_assert_uint_eq(keys_idle(), MSOCK_DERP_SERVER_KEYS_IDLE_MAX - 1);
  come_back(&a, T0, T0);
  come_back(&c, T0, T0);
  ck_assert_uint_eq(keys_idle(), MSOCK_DERP_SERVER_KEYS_IDLE_MAX - 1);
  ck_assert(passes(&a, &b, T0, MSOCK_DERP_PACKET_MAX) && is_read(&a));
  ck_assert(passes(&c, &b, T0, MSOCK_DERP_PACKET_MAX) && is_read(&c));
  ck_assert(passes(&b, &a, T0, MSOCK_DERP_PACKET_MAX) && !is_read(&b));
  relay_client_free(&c);
}
END_TEST

/* The buckets of a prefix stay too, for bytes and for connections, whatever key comes from it. */
START_TEST(the_buckets_of_a_prefix_outlive_its_connections) {
  const msock_addr here = {.ip = msock_ip_v4(192, 0, 2, 1)};
  relay_client c[2];
  uint32_t conn;
  msock_derp_cause why = MSOCK_DERP_CAUSE_NONE;
  set.prefix = (msock_derp_rate){.per_s = 1000, .burst = 1};
  set.accept_prefix = (msock_derp_rate){.per_s = 1, .burst = 2};
  configure();
  for (int i = 0; i < 2; i++) {
    relay_client_init(&c[i], &env, s, T0, NULL);
    relay_client_close(&c[i], T0);
    ck_assert_int_eq(msock_derp_server_accept(s, T0, &here, &c[i].conn, NULL), MSOCK_OK);
    c[i].open = true;
    relay_client_login(&c[i], T0);
    (void)passes(&c[i], &b, T0, i == 0 ? MSOCK_DERP_PACKET_MAX : 1000 - MSOCK_KEY_LEN);
    ck_assert_int_eq(is_read(&c[i]), i == 0);
    if (i == 0) {
      relay_client_close(&c[i], T0);
    }
  }
  run_until(T0 + MSOCK_SEC - 1);
  ck_assert(!is_read(&c[1]));
  ck_assert_int_eq(msock_derp_server_accept(s, T0 + MSOCK_SEC - 1, &here, &conn, &why),
                   MSOCK_ERR_DENIED);
  ck_assert_int_eq(why, MSOCK_DERP_CAUSE_ACCEPT_RATE_PREFIX);
  run_until(T0 + MSOCK_SEC);
  ck_assert(is_read(&c[1]));
  ck_assert_int_eq(msock_derp_server_accept(s, T0 + MSOCK_SEC, &here, &conn, NULL), MSOCK_OK);
  relay_client_free(&c[0]);
  relay_client_free(&c[1]);
}
END_TEST

/* --- flows --- */

static relay_client *const ends[] = {&a, &b}; /* _i: which one leaves */

static int pass_all(uint64_t now) {
  int n = 0;
  while (n < 100 && passes(&a, &b, now, 1000)) {
    n++;
  }
  return n;
}

/* closes: M12 (coming back is no way around it) */
START_TEST(the_bytes_of_a_flow_outlive_its_ends) {
  msock_derp_server_event ev;
  set.flow_bytes = 10000;
  configure();
  for (int i = 0; i < 9; i++) {
    ck_assert(passes(&a, &b, T0, 1000));
  }
  come_back(ends[_i], T0, T0 + 5);
  ev = event_of(MSOCK_DERP_SERVER_FLOW_CLOSED);
  ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_FLOW_LEFT);
  ck_assert_uint_eq(ev.bytes_in, 9000);
  ck_assert_int_eq(pass_all(T0 + 5), 1);
  ev = event_of(MSOCK_DERP_SERVER_FLOW_CLOSED);
  ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_FLOW_BYTES);
  ck_assert_uint_eq(ev.bytes_in, 1000); /* of this opening */
  ck_assert_uint_eq(msock_derp_server_get_stats(s).flow_bytes, 10000);
  const uint64_t again = T0 + 5 + set.flow_pause_us;
  come_back(ends[_i], T0 + 6, again - 1); /* nor around the pause */
  ck_assert_int_eq(pass_all(again - 1), 0);
  ck_assert_int_eq(pass_all(again), 10);
}
END_TEST

/* Longer than a flow may be silent it is not remembered: nobody has to leave for that. */
START_TEST(a_flow_that_was_silent_begins_anew) {
  const uint64_t idle = T0 + MSOCK_DERP_SERVER_FLOW_IDLE_US;
  set.flow_bytes = 10000;
  configure();
  for (int i = 0; i < 9; i++) {
    ck_assert(passes(&a, &b, T0, 1000));
  }
  const bool is_late = _i / 2 != 0;
  come_back(ends[_i % 2], T0 + 1, is_late ? idle : idle - 1);
  ck_assert_int_eq(pass_all(is_late ? idle : idle - 1), is_late ? 10 : 1);
}
END_TEST

/* closes: M11 (coming back is no way around it) */
START_TEST(the_duration_of_a_flow_outlives_its_ends) {
  msock_derp_server_event ev;
  const uint64_t end = T0 + 120 * MSOCK_SEC;
  set.flow_us = 120 * MSOCK_SEC;
  set.flow_pause_us = 30 * MSOCK_SEC;
  configure();
  ck_assert(passes(&a, &b, T0, 10));
  come_back(ends[_i % 2], T0 + 60 * MSOCK_SEC, T0 + 70 * MSOCK_SEC);
  ck_assert(passes(&a, &b, T0 + 70 * MSOCK_SEC, 10));
  (void)event_of(MSOCK_DERP_SERVER_FLOW_CLOSED);
  if (_i / 2 == 0) { /* stays */
    run_until(end);
    ev = event_of(MSOCK_DERP_SERVER_FLOW_CLOSED);
    ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_FLOW_TIME);
    ck_assert_uint_eq(ev.at_us, end);
    ck_assert_uint_eq(ev.duration_us, 50 * MSOCK_SEC); /* of this opening */
  } else { /* is away at that moment: the pause begins all the same */
    come_back(ends[_i % 2], end - 1, end + 10 * MSOCK_SEC);
  }
  ck_assert(!passes(&a, &b, end + 10 * MSOCK_SEC, 10));
  ck_assert(!passes(&a, &b, end + set.flow_pause_us - 1, 10));
  ck_assert(passes(&a, &b, end + set.flow_pause_us, 10));
}
END_TEST

/* Both ends away: what is remembered goes at its tick, and holds nothing back. */
START_TEST(a_flow_without_ends_is_forgotten) {
  set.flow_bytes = 10000;
  configure();
  ck_assert(passes(&a, &b, T0 + 1, 10));
  relay_client_close(&a, T0 + 2);
  relay_client_close(&b, T0 + 3);
  ck_assert_uint_eq(keys_idle(), 2);
  const uint64_t idle = T0 + 1 + MSOCK_DERP_SERVER_FLOW_IDLE_US;
  ck_assert_uint_eq(msock_derp_server_next_expiry(s), idle - 1 + 250 * MSOCK_MS);
  msock_derp_server_on_expiry(s, idle - 1 + 250 * MSOCK_MS);
  ck_assert_uint_eq(keys_idle(), 0);
}
END_TEST

/* --- two devices with one key --- */

static const uint8_t clone_frame[] =
    "\x14\x00\x00\x00\x84"
    "another device is connected with the node key of this one, so packets reach only one of "
    "them: log out and in again on one of the two";
static const uint8_t healthy_frame[] = {0x14, 0, 0, 0, 0};

static void speak(relay_client *c, uint64_t now) {
  const msock_derp_frame f = {.type = MSOCK_DERP_NOTE_PREFERRED, .u.preferred = true};
  ck_assert(relay_client_frame(c, now, &f));
}

static void check_got(relay_client *c, uint64_t now, const uint8_t *p, size_t len) {
  relay_client_pump(c, now);
  ck_assert_uint_eq(c->rx_len, len);
  ck_assert_int_eq(memcmp(c->rx, p, len), 0);
  c->rx_len = 0;
}

static void check_told(relay_client *c, uint64_t now) {
  check_got(c, now, clone_frame, sizeof clone_frame - 1);
}

static void check_nothing(relay_client *c, uint64_t now) {
  relay_client_pump(c, now);
  ck_assert_uint_eq(c->rx_len, 0);
}

START_TEST(both_owners_of_a_key_are_told_and_the_one_that_stays_that_it_is_over) {
  relay_client twin, third;
  relay_client_init(&twin, &env, s, T0, &a.secret);
  relay_client_login(&twin, T0);
  speak(&twin, T0);
  speak(&a, T0); /* may be what its old connection had sent before */
  speak(&twin, T0 + 1);
  check_nothing(&a, T0 + 1);
  check_nothing(&twin, T0 + 1);
  speak(&a, T0 + 2); /* both are alive */
  check_told(&a, T0 + 2);
  check_told(&twin, T0 + 2);
  for (int i = 0; i < 100; i++) { /* once */
    speak(i % 2 == 0 ? &twin : &a, T0 + 3);
  }
  check_nothing(&a, T0 + 3);
  check_nothing(&twin, T0 + 3);
  relay_client_init(&third, &env, s, T0 + 4, &a.secret); /* told a minute later */
  relay_client_login(&third, T0 + 4);
  speak(&third, T0 + 4);
  speak(&a, T0 + 4);
  speak(&third, T0 + 2 + 60 * MSOCK_SEC - 1);
  check_nothing(&third, T0 + 2 + 60 * MSOCK_SEC - 1);
  speak(&a, T0 + 2 + 60 * MSOCK_SEC);
  check_told(&third, T0 + 2 + 60 * MSOCK_SEC);
  check_nothing(&a, T0 + 2 + 60 * MSOCK_SEC);
  relay_client_close(&a, T0 + 70 * MSOCK_SEC);
  check_nothing(&twin, T0 + 70 * MSOCK_SEC);
  relay_client_close(&third, T0 + 71 * MSOCK_SEC);
  check_got(&twin, T0 + 71 * MSOCK_SEC, healthy_frame, sizeof healthy_frame);
  relay_client_free(&twin);
  relay_client_free(&third);
}
END_TEST

/* A key that is cloned over and over is told once a minute. */
START_TEST(texts_about_clones_are_bounded_in_rate) {
  relay_client twin;
  const uint64_t times[] = {T0, T0 + 60 * MSOCK_SEC - 1, T0 + 60 * MSOCK_SEC};
  for (int i = 0; i < 3; i++) {
    relay_client_init(&twin, &env, s, times[i], &a.secret);
    relay_client_login(&twin, times[i]);
    for (int k = 0; k < 5; k++) {
      speak(k % 2 == 0 ? &a : &twin, times[i]);
      if (k == 1) { /* each time it has to be seen anew */
        check_nothing(&a, times[i]);
      }
    }
    if (i != 1) {
      check_told(&a, times[i]);
    }
    relay_client_close(&twin, times[i]);
    relay_client_free(&twin);
    if (i != 1) {
      check_got(&a, times[i], healthy_frame, sizeof healthy_frame);
    }
    check_nothing(&a, times[i]);
  }
}
END_TEST

/* A client that came back over another network, its old connection not yet known to be dead. */
START_TEST(a_client_that_came_back_is_told_nothing) {
  relay_client again;
  speak(&a, T0);
  relay_client_init(&again, &env, s, T0, &a.secret);
  relay_client_login(&again, T0);
  speak(&a, T0); /* under way while it switched */
  for (int i = 0; i < 10; i++) {
    speak(&again, T0 + 1);
  }
  check_nothing(&a, T0 + 1);
  check_nothing(&again, T0 + 1);
  relay_client_close(&a, T0 + 2);
  check_nothing(&again, T0 + 2);
  relay_client_free(&again);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_loop_test(tc, a_bucket_outlives_the_connection, 0, 4);
  tcase_add_test(tc, a_key_is_forgotten_when_its_bucket_is_full);
  tcase_add_test(tc, a_new_rate_acts_on_those_who_left);
  tcase_add_test(tc, the_table_of_absent_keys_is_bounded);
  tcase_add_test(tc, the_buckets_of_a_prefix_outlive_its_connections);
  tcase_add_loop_test(tc, the_bytes_of_a_flow_outlive_its_ends, 0, 2);
  tcase_add_loop_test(tc, a_flow_that_was_silent_begins_anew, 0, 4);
  tcase_add_loop_test(tc, the_duration_of_a_flow_outlives_its_ends, 0, 4);
  tcase_add_test(tc, a_flow_without_ends_is_forgotten);
  tcase_add_test(tc, both_owners_of_a_key_are_told_and_the_one_that_stays_that_it_is_over);
  tcase_add_test(tc, texts_about_clones_are_bounded_in_rate);
  tcase_add_test(tc, a_client_that_came_back_is_told_nothing);
  return testing_main("derp_server_return", tc);
}
