/* Who may be on a relay: limits of connections, admission, bans, the drain; and the events and
 * counters of all that, at exact ticks. */
#include <stdlib.h>
#include <string.h>

#include "crypto/x25519.h"
#include "tests/unit/relay_rig.h"
#include "tests/unit/testing.h"

#define T0 (1000 * MSOCK_SEC)

static testing_rng rng;
static msock_env env;
static msock_derp_server *s;
static msock_derp_server_settings set;

static void setup(void) {
  msock_node_private secret;
  env = testing_env(&rng, 9);
  msock_node_private_generate(&env, &secret);
  s = msock_derp_server_new(&env, &secret);
  ck_assert_ptr_nonnull(s);
  set = msock_derp_server_settings_default();
  msock_derp_server_keep_events(s, 1000);
}

static void teardown(void) {
  msock_derp_server_free(s);
}

static void configure(void) {
  ck_assert_int_eq(msock_derp_server_configure(s, T0, &set), MSOCK_OK);
}

static msock_derp_server_event event_of(msock_derp_server_event_kind kind) {
  msock_derp_server_event ev = {0};
  do {
    ck_assert_msg(msock_derp_server_next_event(s, &ev), "no event of kind %d", (int)kind);
  } while (ev.kind != kind);
  return ev;
}

static bool has_event(msock_derp_server_event_kind kind) {
  msock_derp_server_event ev;
  while (msock_derp_server_next_event(s, &ev)) {
    if (ev.kind == kind) {
      return true;
    }
  }
  return false;
}

static msock_addr addr(uint8_t net, uint8_t host, uint16_t port) {
  return (msock_addr){.ip = msock_ip_v4(192, 0, net, host), .port = port};
}

/* A client that comes from an address. False: refused, why says. */
static bool come(relay_client *c, uint64_t now, const msock_addr *from,
                 const msock_node_private *secret, msock_derp_cause *why) {
  relay_client_init(c, &env, s, now, secret);
  relay_client_close(c, now);
  c->open = msock_derp_server_accept(s, now, from, &c->conn, why) == MSOCK_OK;
  return c->open;
}

static void introduce(relay_client *c, uint64_t now) {
  const msock_derp_client_info info = msock_derp_client_info_default();
  relay_client_introduce(c, now, &info);
}

/* The Health text that a refused client is given, then its end. */
static void check_refused(relay_client *c, uint64_t now, msock_derp_cause why) {
  msock_derp_frame f;
  const char *text = msock_derp_cause_text(why);
  ck_assert(relay_client_take(c, now, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_HEALTH);
  ck_assert_uint_eq(f.u.health.len, strlen(text));
  ck_assert_mem_eq(f.u.health.text, text, f.u.health.len);
  ck_assert(!relay_client_write(c, now, "x", 1));
  msock_derp_server_on_expiry(s, now + set.refusal_us - 1);
  ck_assert(!msock_derp_server_is_done(s, c->conn));
  msock_derp_server_on_expiry(s, now + set.refusal_us);
  ck_assert(msock_derp_server_is_done(s, c->conn));
}

/* closes: M08 F19 F52 */
START_TEST(the_hundred_and_first_is_refused_and_counted) {
  relay_client c, first = {0};
  set.conns = 100;
  configure();
  for (int i = 0; i < 100; i++) {
    relay_client_init(&c, &env, s, T0, NULL);
    relay_client_login(&c, T0);
    if (i == 0) {
      first = c;
    } else {
      relay_client_free(&c);
    }
  }
  relay_client_init(&c, &env, s, T0, NULL);
  introduce(&c, T0);
  ck_assert_uint_eq(msock_derp_server_count(s), 100);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).refused[MSOCK_DERP_CAUSE_CONNS], 1);
  const msock_derp_server_event ev = event_of(MSOCK_DERP_SERVER_DENIED);
  ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_CONNS);
  ck_assert(ev.has_key && msock_node_key_equal(&ev.key, &c.key));
  ck_assert_uint_eq(ev.total, 100);
  check_refused(&c, T0, MSOCK_DERP_CAUSE_CONNS);
  ck_assert(relay_client_packet(&first, T0, &first.key, "old ones stay", 13));
  relay_client_close(&c, T0);
  relay_client_close(&first, T0); /* room again */
  relay_client_free(&c);
  relay_client_init(&c, &env, s, T0, NULL);
  relay_client_login(&c, T0);
  relay_client_free(&c);
  relay_client_free(&first);
}
END_TEST

/* closes: M09 M28 F20 */
START_TEST(the_sixth_of_one_key_is_refused) {
  relay_client c[7];
  relay_client_init(&c[0], &env, s, T0, NULL);
  relay_client_login(&c[0], T0);
  for (int i = 1; i < 6; i++) {
    relay_client_init(&c[i], &env, s, T0, &c[0].secret);
    introduce(&c[i], T0);
  }
  ck_assert_uint_eq(msock_derp_server_count(s), 5);
  const msock_derp_server_event ev = event_of(MSOCK_DERP_SERVER_DENIED);
  ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_CONNS_PER_KEY);
  ck_assert(msock_node_key_equal(&ev.key, &c[0].key));
  ck_assert_uint_eq(ev.conn, c[5].conn);
  check_refused(&c[5], T0, MSOCK_DERP_CAUSE_CONNS_PER_KEY);
  relay_client_init(&c[6], &env, s, T0, NULL); /* another key */
  relay_client_login(&c[6], T0);
  for (int i = 0; i < 7; i++) {
    relay_client_free(&c[i]);
  }
}
END_TEST

/* closes: M26 M27 */
START_TEST(connections_and_reservations_are_reported) {
  const msock_addr from = addr(2, 1, 4000);
  msock_derp_frame f;
  relay_client a, b;
  ck_assert(come(&a, T0, &from, NULL, NULL));
  relay_client_login(&a, T0);
  msock_derp_server_event ev = event_of(MSOCK_DERP_SERVER_OPENED);
  ck_assert(ev.has_key && msock_node_key_equal(&ev.key, &a.key));
  ck_assert(msock_addr_equal(&ev.from, &from));
  ck_assert_uint_eq(ev.at_us, T0);
  ck_assert_uint_eq(ev.count, 1);
  ck_assert_uint_eq(ev.total, 1);
  ev = event_of(MSOCK_DERP_SERVER_ADMITTED);
  ck_assert(!ev.renewed);
  ck_assert(come(&b, T0 + 1, &from, &a.secret, NULL));
  relay_client_login(&b, T0 + 1);
  ev = event_of(MSOCK_DERP_SERVER_OPENED);
  ck_assert_uint_eq(ev.count, 2);
  ev = event_of(MSOCK_DERP_SERVER_ADMITTED);
  ck_assert(ev.renewed);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).dup_keys, 1);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).dup_conns, 2);
  ck_assert(relay_client_packet(&b, T0 + 2, &b.key, "12345", 5));
  ck_assert(relay_client_take(&b, T0 + 2, &f));
  relay_client_close(&b, T0 + 11);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).dup_keys, 0);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).dup_conns, 0);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).dup_conns_total, 1);
  ev = event_of(MSOCK_DERP_SERVER_CLOSED);
  ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_EOF);
  ck_assert(msock_node_key_equal(&ev.key, &a.key) && msock_addr_equal(&ev.from, &from));
  ck_assert_uint_eq(ev.count, 1); /* remaining */
  ck_assert_uint_eq(ev.duration_us, 10);
  ck_assert_uint_eq(ev.bytes_in, 5);
  ck_assert_uint_eq(ev.bytes_out, 5);
  ck_assert_uint_eq(ev.packets_in, 1);
  ck_assert(!relay_client_write(&a, T0 + 12, "\x04\0\0\0\x01x", 6)); /* malformed */
  relay_client_close(&a, T0 + 12);
  ev = event_of(MSOCK_DERP_SERVER_CLOSED);
  ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_PROTOCOL);
  ck_assert_uint_eq(ev.count, 0);
  ck_assert_uint_eq(ev.total, 0);
  relay_client_free(&a);
  relay_client_free(&b);
}
END_TEST

/* What a client sends before the owner has answered is not lost, and nothing passes before. */
START_TEST(admission_is_asked_and_what_came_meanwhile_waits) {
  const msock_addr from = addr(2, 9, 77);
  msock_derp_question q;
  msock_derp_frame f;
  relay_client a;
  uint32_t woken;
  set.admission = MSOCK_DERP_ADMIT_ASK;
  configure();
  ck_assert(come(&a, T0, &from, NULL, NULL));
  introduce(&a, T0);
  ck_assert_int_eq(msock_derp_server_feed(s, T0, a.conn, (const uint8_t *)"\x07\0\0\0\x01\x01", 6),
                   MSOCK_ERR_AGAIN);
  ck_assert(!relay_client_packet(&a, T0, &a.key, "early", 5)); /* AGAIN: no more, please */
  ck_assert(!msock_derp_server_wants_read(s, a.conn));
  ck_assert(!relay_client_take(&a, T0, &f));
  ck_assert_uint_eq(msock_derp_server_count(s), 0);
  ck_assert(msock_derp_server_next_question(s, &q));
  ck_assert_uint_eq(q.conn, a.conn);
  ck_assert(msock_node_key_equal(&q.key, &a.key) && msock_addr_equal(&q.from, &from));
  ck_assert(!q.renewal);
  ck_assert_uint_eq(q.deadline_us, T0 + MSOCK_DERP_SERVER_LOGIN_US);
  ck_assert(!msock_derp_server_next_question(s, &q)); /* once */
  while (msock_derp_server_next_wake(s, &woken)) {
  }
  msock_derp_server_answer(s, T0 + 5, a.conn, true);
  ck_assert(msock_derp_server_wants_read(s, a.conn));
  ck_assert(msock_derp_server_next_wake(s, &woken));
  ck_assert_uint_eq(woken, a.conn);
  ck_assert(relay_client_take(&a, T0 + 5, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_SERVER_INFO);
  ck_assert(relay_client_take(&a, T0 + 5, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_RECV_PACKET);
  ck_assert_mem_eq(f.u.packet.data, "early", 5);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).home, 1);
  msock_derp_server_answer(s, T0 + 6, a.conn, false); /* nobody asked */
  ck_assert(!msock_derp_server_is_done(s, a.conn));
  relay_client_close(&a, T0 + 6);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).home, 0);
  relay_client_free(&a);
}
END_TEST

/* Limits hold when the answer comes, not only when the question goes out. */
START_TEST(two_answers_do_not_share_the_last_place) {
  msock_derp_question q;
  relay_client a, b;
  set.admission = MSOCK_DERP_ADMIT_ASK;
  set.conns = 1;
  configure();
  relay_client_init(&a, &env, s, T0, NULL);
  relay_client_init(&b, &env, s, T0, NULL);
  introduce(&a, T0);
  introduce(&b, T0);
  while (msock_derp_server_next_question(s, &q)) {
    msock_derp_server_answer(s, T0, q.conn, true);
  }
  ck_assert_uint_eq(msock_derp_server_count(s), 1);
  check_refused(&b, T0, MSOCK_DERP_CAUSE_CONNS);
  relay_client_free(&a);
  relay_client_free(&b);
}
END_TEST

START_TEST(a_no_is_told_and_no_packet_passes) {
  msock_derp_question q;
  relay_client a;
  set.admission = MSOCK_DERP_ADMIT_ASK;
  set.refusal_us = _i == 0 ? MSOCK_DERP_SERVER_REFUSAL_US : 0;
  configure();
  relay_client_init(&a, &env, s, T0, NULL);
  introduce(&a, T0);
  (void)relay_client_packet(&a, T0, &a.key, "early", 5);
  ck_assert(msock_derp_server_next_question(s, &q));
  msock_derp_server_answer(s, T0, q.conn, false);
  const msock_derp_server_event ev = event_of(MSOCK_DERP_SERVER_DENIED);
  ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_ADMISSION);
  ck_assert(msock_node_key_equal(&ev.key, &a.key));
  if (_i == 0) {
    check_refused(&a, T0, MSOCK_DERP_CAUSE_ADMISSION);
  } else {
    msock_derp_frame f;
    ck_assert(!relay_client_take(&a, T0, &f));
    ck_assert(msock_derp_server_is_done(s, a.conn));
  }
  ck_assert_uint_eq(msock_derp_server_get_stats(s).packets_in, 0);
  ck_assert_uint_eq(msock_derp_server_count(s), 0);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).refused[MSOCK_DERP_CAUSE_ADMISSION], 1);
  relay_client_close(&a, T0);
  ck_assert(!has_event(MSOCK_DERP_SERVER_FAILED)); /* told once */
  relay_client_free(&a);
}
END_TEST

/* closes: M29 (no answer; the second case: an admitted key whose renewal is not answered) */
START_TEST(no_answer_is_a_no) {
  msock_derp_question q;
  relay_client a;
  const uint64_t ttl = 3600 * MSOCK_SEC;
  set.admission = MSOCK_DERP_ADMIT_ASK;
  set.admission_ttl_us = ttl;
  configure();
  relay_client_init(&a, &env, s, T0, NULL);
  introduce(&a, T0);
  uint64_t deadline = T0 + MSOCK_DERP_SERVER_LOGIN_US;
  if (_i == 1) {
    ck_assert(msock_derp_server_next_question(s, &q));
    msock_derp_server_answer(s, T0, q.conn, true);
    for (uint64_t t; (t = msock_derp_server_next_expiry(s)) < T0 + ttl;) {
      msock_derp_server_on_expiry(s, t);
      relay_client_pump(&a, t);
      ck_assert(!msock_derp_server_next_question(s, &q));
    }
    msock_derp_server_on_expiry(s, T0 + ttl);
    relay_client_pump(&a, T0 + ttl);
    a.rx_len = 0;
    ck_assert(msock_derp_server_next_question(s, &q));
    ck_assert(q.renewal);
    deadline = T0 + ttl + MSOCK_DERP_SERVER_LOGIN_US;
    ck_assert_uint_eq(q.deadline_us, deadline);
    ck_assert(relay_client_packet(&a, T0 + ttl, &a.key, "goes on", 7));
    relay_client_pump(&a, T0 + ttl);
    a.rx_len = 0;
  }
  msock_derp_server_on_expiry(s, deadline - 1);
  ck_assert(!has_event(MSOCK_DERP_SERVER_TIMED_OUT));
  msock_derp_server_on_expiry(s, deadline);
  const msock_derp_server_event ev = event_of(MSOCK_DERP_SERVER_TIMED_OUT);
  ck_assert(ev.has_key && msock_node_key_equal(&ev.key, &a.key));
  ck_assert_uint_eq(ev.at_us, deadline);
  ck_assert_uint_eq(msock_derp_server_count(s), 0);
  check_refused(&a, deadline, MSOCK_DERP_CAUSE_LOGIN_TIME);
  relay_client_free(&a);
}
END_TEST

START_TEST(a_renewed_admission_lasts_as_long_again) {
  msock_derp_question q;
  relay_client a;
  set.admission = MSOCK_DERP_ADMIT_ASK;
  set.admission_ttl_us = 30 * MSOCK_SEC;
  configure();
  relay_client_init(&a, &env, s, T0, NULL);
  introduce(&a, T0);
  for (uint64_t i = 0; i < 5; i++) {
    const uint64_t t = T0 + i * set.admission_ttl_us;
    msock_derp_server_on_expiry(s, t - 1);
    ck_assert(i == 0 || !msock_derp_server_next_question(s, &q));
    msock_derp_server_on_expiry(s, t);
    relay_client_pump(&a, t);
    ck_assert(msock_derp_server_next_question(s, &q));
    msock_derp_server_answer(s, t, q.conn, i < 4);
    relay_client_pump(&a, t);
    if (i < 4) {
      ck_assert_int_eq(event_of(MSOCK_DERP_SERVER_ADMITTED).renewed, i > 0);
    }
  }
  ck_assert_int_eq(event_of(MSOCK_DERP_SERVER_DENIED).cause, MSOCK_DERP_CAUSE_ADMISSION);
  ck_assert_uint_eq(msock_derp_server_count(s), 0);
  relay_client_free(&a);
}
END_TEST

/* closes: SERVER-21 (the core: excess is refused, those within the rate come in, for ever) */
START_TEST(the_accept_rate_refuses_and_goes_on) {
  msock_derp_cause why = MSOCK_DERP_CAUSE_NONE;
  relay_client c;
  set.accept = (msock_derp_rate){.per_s = 2, .burst = 3};
  configure();
  unsigned in = 0;
  for (uint64_t t = T0; t < T0 + 100 * MSOCK_SEC; t += 100 * MSOCK_MS) {
    uint32_t conn;
    if (msock_derp_server_accept(s, t, NULL, &conn, &why) == MSOCK_OK) {
      in++;
      msock_derp_server_close(s, t, conn);
    }
  }
  ck_assert_int_eq(why, MSOCK_DERP_CAUSE_ACCEPT_RATE);
  ck_assert_uint_ge(in, 202);
  ck_assert_uint_le(in, 203);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).refused[MSOCK_DERP_CAUSE_ACCEPT_RATE],
                    1000 - in);
  const uint64_t later = T0 + 200 * MSOCK_SEC;
  relay_client_init(&c, &env, s, later, NULL);
  relay_client_login(&c, later);
  relay_client_free(&c);
}
END_TEST

/* closes: M41 (connections; bytes: rates_hold_over_time) */
START_TEST(one_prefix_is_limited_and_another_is_not) {
  msock_derp_cause why;
  uint32_t conn, kept[3];
  msock_addr a = addr(2, 1, 1), b = addr(3, 1, 1);
  set.prefix4_bits = 24;
  set.conns_per_prefix = 3;
  configure();
  for (uint8_t i = 0; i < 3; i++) {
    a = addr(2, i, i);
    ck_assert_int_eq(msock_derp_server_accept(s, T0, &a, &kept[i], &why), MSOCK_OK);
  }
  a = addr(2, 200, 1);
  ck_assert_int_eq(msock_derp_server_accept(s, T0, &a, &conn, &why), MSOCK_ERR_DENIED);
  ck_assert_int_eq(why, MSOCK_DERP_CAUSE_CONNS_PER_PREFIX);
  const msock_derp_server_event ev = event_of(MSOCK_DERP_SERVER_DENIED);
  ck_assert(msock_addr_equal(&ev.from, &a));
  ck_assert_int_eq(msock_derp_server_accept(s, T0, &b, &conn, &why), MSOCK_OK);
  msock_derp_server_close(s, T0, kept[1]);
  ck_assert_int_eq(msock_derp_server_accept(s, T0, &a, &conn, &why), MSOCK_OK);

  set.conns_per_prefix = 0; /* and its rate; the new setting counts those who are here */
  set.accept_prefix = (msock_derp_rate){.per_s = 1, .burst = 2};
  configure();
  for (int i = 0; i < 10; i++) {
    const msock_err want = i < 2 ? MSOCK_OK : MSOCK_ERR_DENIED;
    ck_assert_int_eq(msock_derp_server_accept(s, T0, &a, &conn, &why), want);
  }
  ck_assert_int_eq(why, MSOCK_DERP_CAUSE_ACCEPT_RATE_PREFIX);
  ck_assert_int_eq(msock_derp_server_accept(s, T0, &b, &conn, &why), MSOCK_OK);
  ck_assert_int_eq(msock_derp_server_accept(s, T0 + MSOCK_SEC - 1, &a, &conn, &why),
                   MSOCK_ERR_DENIED);
  ck_assert_int_eq(msock_derp_server_accept(s, T0 + MSOCK_SEC, &a, &conn, &why), MSOCK_OK);
}
END_TEST

/* IPv6 by site, and IPv4 in its mapped form is IPv4. */
START_TEST(prefixes_of_both_families) {
  static const struct {
    const char *first, *second;
    bool same;
  } pairs[] = {{"[2001:db8::1]:1", "[2001:db8:0:0:ffff::2]:2", true},
               {"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
               {"192.0.2.1:1", "[::ffff:192.0.2.1]:9", true},
               {"192.0.2.1:1", "192.0.2.2:1", false}};
  set.conns_per_prefix = 1;
  configure();
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    msock_addr a, b;
    uint32_t one, two = 0;
    ck_assert_int_eq(msock_addr_parse(pairs[i].first, &a), MSOCK_OK);
    ck_assert_int_eq(msock_addr_parse(pairs[i].second, &b), MSOCK_OK);
    ck_assert_int_eq(msock_derp_server_accept(s, T0, &a, &one, NULL), MSOCK_OK);
    const bool refused = msock_derp_server_accept(s, T0, &b, &two, NULL) == MSOCK_ERR_DENIED;
    ck_assert_msg(refused == pairs[i].same, "%s and %s", pairs[i].first, pairs[i].second);
    msock_derp_server_close(s, T0, one);
    msock_derp_server_close(s, T0, two);
  }
}
END_TEST

/* closes: M42 */
START_TEST(a_ban_acts_at_once_and_its_end_too) {
  const msock_addr from_a = addr(2, 1, 1), from_b = addr(3, 1, 1);
  msock_derp_cause why;
  relay_client a, b, again;
  msock_derp_frame f;
  ck_assert(come(&a, T0, &from_a, NULL, NULL));
  ck_assert(come(&b, T0, &from_b, NULL, NULL));
  relay_client_login(&a, T0);
  relay_client_login(&b, T0);
  msock_derp_ban ban = {.kind = MSOCK_DERP_BAN_KEY, .key = a.key};
  if (_i == 1) {
    ban.kind = MSOCK_DERP_BAN_PREFIX;
    ck_assert_int_eq(msock_prefix_parse("192.0.2.0/24", &ban.prefix), MSOCK_OK);
  } else if (_i == 2) {
    ban.kind = MSOCK_DERP_BAN_PREFIX;
    ck_assert_int_eq(msock_prefix_parse("192.0.2.1", &ban.prefix), MSOCK_OK);
  }
  const msock_derp_cause want = _i == 0 ? MSOCK_DERP_CAUSE_BAN_KEY : MSOCK_DERP_CAUSE_BAN_PREFIX;
  ck_assert(relay_client_packet(&b, T0, &a.key, "too late", 8)); /* waits for it: dropped */
  ck_assert_int_eq(msock_derp_server_set_bans(s, T0, &ban, 1), MSOCK_OK);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).packets_queued, 0);
  check_refused(&a, T0, want);
  relay_client_close(&a, T0);
  ck_assert_int_eq(event_of(MSOCK_DERP_SERVER_CLOSED).cause, want);
  ck_assert(relay_client_packet(&b, T0, &b.key, "x", 1)); /* the other is served */
  ck_assert(relay_client_take(&b, T0, &f));
  const bool in = come(&again, T0, &from_a, &a.secret, &why);
  ck_assert_int_eq(in, _i == 0);
  if (in) {
    introduce(&again, T0);
    ck_assert_int_eq(event_of(MSOCK_DERP_SERVER_DENIED).cause, want);
    relay_client_close(&again, T0);
  } else {
    ck_assert_int_eq(why, want);
  }
  ck_assert_uint_eq(msock_derp_server_count(s), 1);
  relay_client_free(&again);
  msock_derp_server_unban(s, &ban);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).bans, 0);
  ck_assert(come(&again, T0, &from_a, &a.secret, &why));
  relay_client_login(&again, T0);
  relay_client_free(&again);
  relay_client_free(&a);
  relay_client_free(&b);
}
END_TEST

START_TEST(a_bad_ban_list_changes_nothing) {
  msock_derp_ban bans[2] = {{.kind = MSOCK_DERP_BAN_PREFIX}, {.kind = MSOCK_DERP_BAN_PREFIX}};
  const msock_addr from = addr(2, 1, 1), other = addr(4, 1, 1);
  uint32_t conn;
  ck_assert_int_eq(msock_prefix_parse("192.0.2.0/24", &bans[0].prefix), MSOCK_OK);
  ck_assert_int_eq(msock_derp_server_set_bans(s, T0, bans, 1), MSOCK_OK);
  ck_assert_int_eq(msock_prefix_parse("192.0.4.0/24", &bans[0].prefix), MSOCK_OK);
  bans[1].prefix = (msock_prefix){.ip = msock_ip_v4(10, 0, 0, 1), .bits = 8}; /* host bits */
  ck_assert_int_eq(msock_derp_server_set_bans(s, T0, bans, 2), MSOCK_ERR_INVALID);
  ck_assert_int_eq(msock_derp_server_accept(s, T0, &from, &conn, NULL), MSOCK_ERR_DENIED);
  ck_assert_int_eq(msock_derp_server_accept(s, T0, &other, &conn, NULL), MSOCK_OK);
}
END_TEST

/* closes: SERVER-28 */
START_TEST(a_drain_tells_everybody_and_closes_them_spread_out) {
  enum { N = 50 };
  const msock_derp_drain drain = {.spread_us = 10 * MSOCK_SEC,
                                  .reconnect_in_ms = 2000,
                                  .reconnect_spread_ms = 5000,
                                  .try_for_ms = 30000};
  static relay_client c[N];
  uint32_t told[N], woken, conn;
  msock_derp_frame f;
  uint64_t last = 0;
  unsigned closings = 0, distinct = 0, closed = 0;
  for (int i = 0; i < N; i++) {
    relay_client_init(&c[i], &env, s, T0, NULL);
    relay_client_login(&c[i], T0);
  }
  ck_assert_int_eq(msock_derp_server_open(s, T0, &conn), MSOCK_OK); /* half-open */
  while (msock_derp_server_next_wake(s, &woken)) {
  }
  msock_derp_server_drain(s, T0, &drain);
  ck_assert(msock_derp_server_is_draining(s));
  ck_assert(msock_derp_server_is_done(s, conn));
  ck_assert_int_eq(msock_derp_server_open(s, T0, &conn), MSOCK_ERR_NOMEM);
  for (int i = 0; i < N; i++) {
    ck_assert(relay_client_take(&c[i], T0, &f));
    ck_assert_int_eq(f.type, MSOCK_DERP_RESTARTING);
    told[i] = f.u.restarting.reconnect_in_ms;
    ck_assert_uint_ge(told[i], 2000);
    ck_assert_uint_le(told[i], 7000);
    ck_assert_uint_eq(f.u.restarting.try_for_ms, 30000);
    distinct += i > 0 && told[i] != told[0];
  }
  ck_assert_uint_gt(distinct, N / 2);
  ck_assert(relay_client_packet(&c[0], T0, &c[0].key, "still relayed", 13));
  ck_assert(relay_client_take(&c[0], T0, &f));
  for (uint64_t t = T0; closed < N; closings++) {
    t = msock_derp_server_next_expiry(s);
    ck_assert_uint_le(t, T0 + drain.spread_us);
    msock_derp_server_on_expiry(s, t);
    while (msock_derp_server_next_wake(s, &woken)) {
      for (int i = 0; i < N; i++) {
        if (c[i].conn == woken) {
          relay_client_pump(&c[i], t);
          closed += msock_derp_server_is_done(s, woken);
        }
      }
    }
    last = t;
  }
  ck_assert_uint_gt(closings, N / 2); /* not together */
  ck_assert_uint_gt(last, T0 + drain.spread_us / 2);
  ck_assert_uint_eq(msock_derp_server_count(s), 0);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).restarting_sent, N);
  for (int i = 0; i < N; i++) {
    relay_client_free(&c[i]);
  }
}
END_TEST

/* Events that nobody polls are bounded, and counted. */
START_TEST(events_are_bounded) {
  msock_derp_server_event ev;
  relay_client c;
  msock_derp_server_keep_events(s, 3);
  for (int i = 0; i < 3; i++) {
    relay_client_init(&c, &env, s, T0, NULL);
    relay_client_login(&c, T0); /* two each */
    relay_client_free(&c);
  }
  ck_assert_uint_eq(msock_derp_server_get_stats(s).events_lost, 3);
  for (int i = 0; i < 3; i++) {
    ck_assert(msock_derp_server_next_event(s, &ev));
  }
  ck_assert(!msock_derp_server_next_event(s, &ev));
}
END_TEST

/* closes: F39 (strangers who promise large logins get half of the memory at most) */
START_TEST(logins_cannot_take_all_memory) {
  enum { N = 200 };
  static relay_client c[N];
  static uint8_t half_a_login[100000] = {MSOCK_DERP_CLIENT_INFO, 0, 4, 0, 0}; /* of 262,144 */
  static const char head[] = "GET /derp HTTP/1.1\r\nUpgrade: DERP\r\n\r\n";
  relay_client good;
  set.memory_bytes = 4 << 20;
  configure();
  for (int i = 0; i < N; i++) {
    relay_client_init(&c[i], &env, s, T0, NULL);
    relay_client_write(&c[i], T0, head, sizeof head - 1);
    relay_client_write(&c[i], T0, half_a_login, sizeof half_a_login);
    ck_assert_uint_le(msock_derp_server_get_stats(s).memory_bytes, set.memory_bytes * 6 / 10);
  }
  relay_client_init(&good, &env, s, T0, NULL);
  relay_client_login(&good, T0);
  relay_client_free(&good);
  for (int i = 0; i < N; i++) {
    relay_client_free(&c[i]);
  }
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, the_hundred_and_first_is_refused_and_counted);
  tcase_add_test(tc, the_sixth_of_one_key_is_refused);
  tcase_add_test(tc, connections_and_reservations_are_reported);
  tcase_add_test(tc, admission_is_asked_and_what_came_meanwhile_waits);
  tcase_add_test(tc, two_answers_do_not_share_the_last_place);
  tcase_add_loop_test(tc, a_no_is_told_and_no_packet_passes, 0, 2);
  tcase_add_loop_test(tc, no_answer_is_a_no, 0, 2);
  tcase_add_test(tc, a_renewed_admission_lasts_as_long_again);
  tcase_add_test(tc, the_accept_rate_refuses_and_goes_on);
  tcase_add_test(tc, one_prefix_is_limited_and_another_is_not);
  tcase_add_test(tc, prefixes_of_both_families);
  tcase_add_loop_test(tc, a_ban_acts_at_once_and_its_end_too, 0, 3);
  tcase_add_test(tc, a_bad_ban_list_changes_nothing);
  tcase_add_test(tc, a_drain_tells_everybody_and_closes_them_spread_out);
  tcase_add_test(tc, events_are_bounded);
  tcase_add_test(tc, logins_cannot_take_all_memory);
  return testing_main("derp_server_login", tc);
}
