/* Flows of the relay core (limits, events, who has heard whom), rates and quotas, at exact ticks.
 */
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
static relay_client a, b;

static void setup(void) {
  msock_node_private secret;
  env = testing_env(&rng, 11);
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

static bool find_event(msock_derp_server_event_kind kind, msock_derp_server_event *ev) {
  while (msock_derp_server_next_event(s, ev)) {
    if (ev->kind == kind) {
      return true;
    }
  }
  return false;
}

static msock_derp_server_event event_of(msock_derp_server_event_kind kind) {
  msock_derp_server_event ev = {0};
  ck_assert_msg(find_event(kind, &ev), "no event of kind %d", (int)kind);
  return ev;
}

static bool passes(relay_client *from, relay_client *to, uint64_t now, size_t len) {
  static const uint8_t data[2000];
  msock_derp_frame f;
  ck_assert(relay_client_packet(from, now, &to->key, data, len));
  return relay_client_take(to, now, &f) && f.type == MSOCK_DERP_RECV_PACKET &&
         f.u.packet.len == len;
}

static uint64_t dropped_by_flow(void) {
  return msock_derp_server_get_stats(s).dropped[MSOCK_DERP_DROP_FLOW_LIMIT][MSOCK_DERP_KIND_OTHER];
}

/* Runs its timers up to a moment. */
static void run_until(uint64_t t) {
  uint64_t next;
  while ((next = msock_derp_server_next_expiry(s)) <= t) {
    msock_derp_server_on_expiry(s, next);
  }
  relay_client_pump(&a, t);
  relay_client_pump(&b, t);
  a.rx_len = b.rx_len = 0;
}

/* closes: M30 M32 */
START_TEST(a_flow_is_reported_with_both_keys_duration_and_bytes) {
  ck_assert(passes(&a, &b, T0, 100));
  msock_derp_server_event ev = event_of(MSOCK_DERP_SERVER_FLOW_OPENED);
  ck_assert(ev.has_key && msock_node_key_equal(&ev.key, &a.key));
  ck_assert(msock_node_key_equal(&ev.peer, &b.key));
  ck_assert(passes(&a, &b, T0 + 7, 200));
  ck_assert(!find_event(MSOCK_DERP_SERVER_FLOW_OPENED, &ev)); /* once */
  ck_assert_uint_eq(msock_derp_server_get_stats(s).flows_open, 1);
  relay_client_close(&a, T0 + 1000);
  ev = event_of(MSOCK_DERP_SERVER_FLOW_CLOSED);
  ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_FLOW_LEFT);
  ck_assert(msock_node_key_equal(&ev.key, &a.key) && msock_node_key_equal(&ev.peer, &b.key));
  ck_assert_uint_eq(ev.duration_us, 1000);
  ck_assert_uint_eq(ev.bytes_in, 300);
  ck_assert_uint_eq(ev.packets_in, 2);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).flow_bytes, 300);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).flows_open, 0);
}
END_TEST

START_TEST(a_quiet_flow_ends_at_its_tick_and_opens_again) {
  ck_assert(passes(&a, &b, T0, 1));
  ck_assert(passes(&a, &b, T0 + 10 * MSOCK_SEC, 1));
  const uint64_t end = T0 + 10 * MSOCK_SEC + MSOCK_DERP_SERVER_FLOW_IDLE_US;
  msock_derp_server_event ev;
  run_until(end - 1);
  ck_assert(!find_event(MSOCK_DERP_SERVER_FLOW_CLOSED, &ev));
  run_until(end);
  ev = event_of(MSOCK_DERP_SERVER_FLOW_CLOSED);
  ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_FLOW_IDLE);
  ck_assert_uint_eq(ev.at_us, end);
  ck_assert(passes(&a, &b, end, 1));
  (void)event_of(MSOCK_DERP_SERVER_FLOW_OPENED);
}
END_TEST

/* closes: M10 M31 */
START_TEST(the_seventeenth_flow_of_one_key_is_refused) {
  static relay_client c[17];
  msock_derp_server_event ev;
  set.flows_per_key = 16;
  configure();
  for (int i = 0; i < 17; i++) {
    relay_client_init(&c[i], &env, s, T0, NULL);
    relay_client_login(&c[i], T0);
    ck_assert_int_eq(passes(&a, &c[i], T0, 10), i < 16);
  }
  ev = event_of(MSOCK_DERP_SERVER_FLOW_DENIED);
  ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_FLOWS_PER_KEY);
  ck_assert(msock_node_key_equal(&ev.key, &a.key));
  ck_assert(msock_node_key_equal(&ev.peer, &c[16].key));
  ck_assert_uint_eq(ev.count, 16);
  ck_assert_uint_eq(dropped_by_flow(), 1);
  for (int i = 0; i < 5; i++) { /* no event for each packet, but a count */
    ck_assert(!passes(&a, &c[16], T0 + 1, 10));
  }
  ck_assert(!find_event(MSOCK_DERP_SERVER_FLOW_DENIED, &ev));
  ck_assert_uint_eq(msock_derp_server_get_stats(s).refused[MSOCK_DERP_CAUSE_FLOWS_PER_KEY], 6);
  ck_assert(passes(&a, &c[0], T0 + 1, 10)); /* the old ones go on, another sender begins */
  ck_assert(passes(&b, &c[16], T0 + 1, 10));
  relay_client_close(&c[3], T0 + 2); /* room */
  ck_assert(passes(&a, &c[16], T0 + 2, 10));
  for (int i = 0; i < 17; i++) {
    relay_client_free(&c[i]);
  }
}
END_TEST

/* closes: M11 */
START_TEST(a_flow_ends_after_its_duration) {
  msock_derp_server_event ev;
  set.flow_us = 120 * MSOCK_SEC;
  set.flow_pause_us = 30 * MSOCK_SEC;
  configure();
  for (uint64_t t = 0; t < 120; t += 10) {
    run_until(T0 + t * MSOCK_SEC);
    ck_assert(passes(&a, &b, T0 + t * MSOCK_SEC, 10));
  }
  const uint64_t end = T0 + set.flow_us;
  ck_assert(passes(&a, &b, end - 1, 10));
  run_until(end - 1);
  ck_assert(!find_event(MSOCK_DERP_SERVER_FLOW_CLOSED, &ev));
  run_until(end); /* without a packet */
  ev = event_of(MSOCK_DERP_SERVER_FLOW_CLOSED);
  ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_FLOW_TIME);
  ck_assert_uint_eq(ev.duration_us, set.flow_us);
  ck_assert(!passes(&a, &b, end, 10));
  ck_assert(passes(&b, &a, end, 10)); /* the other direction is a flow of its own */
  ck_assert(!passes(&a, &b, end + set.flow_pause_us - 1, 10));
  ck_assert(passes(&a, &b, end + set.flow_pause_us, 10));
  ck_assert_uint_eq(dropped_by_flow(), 2);
}
END_TEST

/* closes: M12 */
START_TEST(a_flow_ends_after_its_bytes) {
  msock_derp_server_event ev;
  set.flow_bytes = 10 << 20;
  configure();
  uint64_t sent = 0;
  while (passes(&a, &b, T0, 1000)) {
    sent += 1000;
  }
  ck_assert_uint_eq(sent, set.flow_bytes / 1000 * 1000);
  ev = event_of(MSOCK_DERP_SERVER_FLOW_CLOSED);
  ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_FLOW_BYTES);
  ck_assert_uint_eq(ev.bytes_in, sent);
  const msock_derp_server_stats n = msock_derp_server_get_stats(s);
  ck_assert_uint_eq(n.flow_bytes, sent); /* both counters agree */
  ck_assert_uint_eq(n.bytes_out, sent);
  ck_assert_uint_eq(n.bytes_in, sent + 1000);
  ck_assert(!passes(&a, &b, T0 + set.flow_pause_us - 1, 1));
  ck_assert(passes(&a, &b, T0 + set.flow_pause_us, 1));
}
END_TEST

/* A full table forgets the longest unused and goes on. */
START_TEST(the_table_of_flows_is_bounded) {
  static relay_client c[5];
  set.flows = 3;
  configure();
  for (int i = 0; i < 5; i++) {
    relay_client_init(&c[i], &env, s, T0, NULL);
    relay_client_login(&c[i], T0);
    ck_assert(passes(&a, &c[i], T0 + (uint64_t)i, 10));
    ck_assert(passes(&a, &c[0], T0 + (uint64_t)i, 10)); /* in use: stays */
  }
  ck_assert_uint_eq(msock_derp_server_get_stats(s).flows_open, 3);
  for (int i = 1; i <= 2; i++) {
    const msock_derp_server_event ev = event_of(MSOCK_DERP_SERVER_FLOW_CLOSED);
    ck_assert_int_eq(ev.cause, MSOCK_DERP_CAUSE_FLOW_ROOM);
    ck_assert(msock_node_key_equal(&ev.peer, &c[i].key));
  }
  for (int i = 0; i < 5; i++) {
    relay_client_free(&c[i]);
  }
}
END_TEST

/* closes: SERVER-12 (connections of one key that have heard, and one that has not) */
START_TEST(each_connection_that_heard_is_told_once) {
  relay_client b2, b3;
  msock_derp_frame f;
  relay_client_init(&b2, &env, s, T0, &b.secret);
  relay_client_login(&b2, T0);
  ck_assert(passes(&a, &b2, T0, 5)); /* the newest is active */
  ck_assert(relay_client_packet(&b, T0, &b.key, "now it is me", 12));
  ck_assert(relay_client_take(&b, T0, &f));
  ck_assert(passes(&a, &b, T0, 5));
  relay_client_init(&b3, &env, s, T0, &b.secret);
  relay_client_login(&b3, T0);
  relay_client_close(&a, T0);
  relay_client *const told[] = {&b, &b2};
  for (int i = 0; i < 2; i++) {
    ck_assert(relay_client_take(told[i], T0, &f));
    ck_assert_int_eq(f.type, MSOCK_DERP_PEER_GONE);
    ck_assert(msock_node_key_equal(&f.u.peer_gone.key, &a.key));
    ck_assert_uint_eq(f.u.peer_gone.reason, MSOCK_DERP_GONE_DISCONNECTED);
    ck_assert(!relay_client_take(told[i], T0, &f));
  }
  ck_assert(!relay_client_take(&b3, T0, &f));
  relay_client_free(&b2);
  relay_client_free(&b3);
}
END_TEST

/* --- rates --- */

static msock_err feed_one(relay_client *from, const msock_node_key *to, uint64_t now, size_t len) {
  static uint8_t frame[MSOCK_DERP_PACKET_MAX + MSOCK_DERP_PACKET_OVERHEAD];
  static const uint8_t data[MSOCK_DERP_PACKET_MAX];
  msock_derp_frame f = {.type = MSOCK_DERP_SEND_PACKET};
  f.u.packet.key = *to;
  f.u.packet.data = data;
  f.u.packet.len = len;
  const ptrdiff_t n = msock_derp_frame_encode(&f, frame, sizeof frame);
  return msock_derp_server_feed(s, now, from->conn, frame, (size_t)n);
}

static void discard(relay_client *c, uint64_t now) {
  relay_client_pump(c, now);
  c->rx_len = 0;
}

/* Sends whenever it may, for so long; gives the charged bytes. */
static uint64_t saturate(relay_client *const *from, size_t n, relay_client *to, uint64_t start,
                         uint64_t span, size_t len, uint64_t *each) {
  uint64_t sum = 0, now = start;
  while (now < start + span) {
    for (size_t i = 0; i < n; i++) {
      if (msock_derp_server_wants_read(s, from[i]->conn)) {
        const msock_err e = feed_one(from[i], &to->key, now, len);
        ck_assert(e == MSOCK_OK || e == MSOCK_ERR_AGAIN);
        each[i] += len + MSOCK_KEY_LEN;
        sum += len + MSOCK_KEY_LEN;
      }
    }
    discard(to, now);
    const uint64_t next = msock_derp_server_next_expiry(s);
    now = now + 200 < next ? now + 200 : next; /* 5,000 tries a second */
    msock_derp_server_on_expiry(s, now);
  }
  return sum;
}

static const size_t sizes[] = {64, 1280, 65536};

/* closes: SERVER-20 F40 F53 M41 */
START_TEST(rates_hold_over_time_and_drop_nothing) {
  enum { RATE = 1000000, BURST = 100000 };
  const uint64_t span = 60 * MSOCK_SEC;
  relay_client *const from[] = {&a};
  uint64_t each[1] = {0};
  set.key = (msock_derp_rate){.per_s = RATE, .burst = BURST};
  configure();
  const uint64_t sum = saturate(from, 1, &b, T0, span, sizes[_i], each);
  const uint64_t want = sizes[_i] == 64 ? 96 * 5000 * 60 : RATE * (span / MSOCK_SEC) + BURST;
  ck_assert_uint_ge(sum, want - want / 20);
  ck_assert_uint_le(sum, want + want / 20);
  const msock_derp_server_stats n = msock_derp_server_get_stats(s);
  ck_assert_uint_eq(n.packets_in, n.packets_out);
  ck_assert_int_eq(n.rate_waits > 0, sizes[_i] != 64);
}
END_TEST

/* A burst below one packet is raised: the largest frame always passes in time. */
START_TEST(the_burst_holds_one_packet_at_least) {
  set.key = (msock_derp_rate){.per_s = 1000, .burst = 1};
  configure();
  ck_assert_int_eq(feed_one(&a, &b.key, T0, MSOCK_DERP_PACKET_MAX), MSOCK_OK); /* 65568 charged */
  ck_assert_int_eq(feed_one(&a, &b.key, T0, 1000 - MSOCK_KEY_LEN), MSOCK_ERR_AGAIN);
  ck_assert(!msock_derp_server_wants_read(s, a.conn));
  ck_assert(msock_derp_server_wants_read(s, b.conn));
  ck_assert_uint_eq(msock_derp_server_next_expiry(s), T0 + MSOCK_SEC);
  msock_derp_server_on_expiry(s, T0 + MSOCK_SEC - 1);
  ck_assert(!msock_derp_server_wants_read(s, a.conn));
  uint32_t woken;
  while (msock_derp_server_next_wake(s, &woken)) {
  }
  msock_derp_server_on_expiry(s, T0 + MSOCK_SEC);
  ck_assert(msock_derp_server_next_wake(s, &woken));
  ck_assert_uint_eq(woken, a.conn);
  ck_assert(msock_derp_server_wants_read(s, a.conn));
}
END_TEST

START_TEST(a_new_rate_acts_on_those_who_wait) {
  set.key = (msock_derp_rate){.per_s = 1, .burst = 1};
  configure();
  (void)feed_one(&a, &b.key, T0, MSOCK_DERP_PACKET_MAX);
  ck_assert_int_eq(feed_one(&a, &b.key, T0, 1000), MSOCK_ERR_AGAIN);
  msock_derp_server_on_expiry(s, T0 + 10 * MSOCK_SEC);
  ck_assert(!msock_derp_server_wants_read(s, a.conn));
  set.key.per_s = 0;
  ck_assert_int_eq(msock_derp_server_configure(s, T0 + 10 * MSOCK_SEC, &set), MSOCK_OK);
  ck_assert(msock_derp_server_wants_read(s, a.conn));
  set.half_open = 0; /* settings that cannot be used change nothing */
  ck_assert_ptr_nonnull(msock_derp_server_settings_check(&set));
  ck_assert_int_eq(msock_derp_server_configure(s, T0, &set), MSOCK_ERR_INVALID);
}
END_TEST

/* The total is shared: everybody gets on, in the same measure of bytes. */
START_TEST(a_total_rate_is_shared_fairly) {
  enum { N = 4, RATE = 1000000 };
  relay_client c[N], *from[N];
  uint64_t each[N] = {0};
  const uint64_t span = 100 * MSOCK_SEC;
  set.total = (msock_derp_rate){.per_s = RATE, .burst = 1};
  configure();
  for (int i = 0; i < N; i++) {
    relay_client_init(&c[i], &env, s, T0, NULL);
    relay_client_login(&c[i], T0);
    from[i] = &c[i];
  }
  const uint64_t sum = saturate(from, N, &b, T0, span, 1280, each);
  const uint64_t want = RATE * (span / MSOCK_SEC);
  ck_assert_uint_ge(sum, want - want / 20);
  ck_assert_uint_le(sum, want + want / 20);
  for (int i = 0; i < N; i++) {
    ck_assert_uint_ge(each[i], sum / N - sum / N / 5);
    relay_client_free(&c[i]);
  }
}
END_TEST

/* Those who wait for it are let in one after another, the first to come first. */
START_TEST(the_total_lets_one_in_at_a_time) {
  enum { N = 4 };
  relay_client c[N];
  set.total = (msock_derp_rate){.per_s = 16384, .burst = 1};
  configure();
  for (int i = 0; i < N; i++) {
    relay_client_init(&c[i], &env, s, T0, NULL);
    relay_client_login(&c[i], T0);
  }
  (void)feed_one(&b, &b.key, T0, MSOCK_DERP_PACKET_MAX);
  for (int i = 0; i < N; i++) {
    ck_assert_int_eq(feed_one(&c[i], &b.key, T0, 16384 - MSOCK_KEY_LEN), MSOCK_ERR_AGAIN);
  }
  uint64_t last = 0;
  for (int i = 0; i < 3 * N; i++) {
    const uint64_t t = msock_derp_server_next_expiry(s);
    msock_derp_server_on_expiry(s, t);
    for (int k = 0; k < N; k++) {
      ck_assert_int_eq(msock_derp_server_wants_read(s, c[k].conn), k == i % N);
    }
    ck_assert_int_eq(feed_one(&c[i % N], &b.key, t, 16384 - MSOCK_KEY_LEN), MSOCK_ERR_AGAIN);
    ck_assert_uint_ge(t, last + (i > 0 ? MSOCK_SEC : 0)); /* a read's worth apart */
    last = t;
  }
  for (int i = 0; i < N; i++) {
    relay_client_free(&c[i]);
  }
}
END_TEST

/* closes: M41 (bytes of one address; another is not held) */
START_TEST(the_rate_of_a_prefix_holds_its_connections_together) {
  const msock_addr here = {.ip = msock_ip_v4(192, 0, 2, 1)},
                   there = {.ip = msock_ip_v4(10, 0, 0, 1)};
  relay_client c[3];
  set.prefix = (msock_derp_rate){.per_s = 1000, .burst = 1};
  configure();
  for (int i = 0; i < 3; i++) {
    relay_client_init(&c[i], &env, s, T0, NULL);
    ck_assert_int_eq(msock_derp_server_set_from(s, T0, c[i].conn, i < 2 ? &here : &there),
                     MSOCK_OK);
    relay_client_login(&c[i], T0);
  }
  (void)feed_one(&c[0], &b.key, T0, MSOCK_DERP_PACKET_MAX);
  ck_assert_int_eq(feed_one(&c[1], &b.key, T0, 1000), MSOCK_ERR_AGAIN);
  ck_assert_int_eq(feed_one(&c[0], &b.key, T0, 1000), MSOCK_ERR_AGAIN);
  ck_assert_int_eq(feed_one(&c[2], &b.key, T0, 1000), MSOCK_OK);
  const uint64_t due = msock_derp_server_next_expiry(s); /* of c[1], had c[0] not sent since */
  msock_derp_server_on_expiry(s, due);
  ck_assert(!msock_derp_server_wants_read(s, c[1].conn));
  msock_derp_server_on_expiry(s, msock_derp_server_next_expiry(s));
  ck_assert(msock_derp_server_wants_read(s, c[0].conn));
  ck_assert(msock_derp_server_wants_read(s, c[1].conn));
  for (int i = 0; i < 3; i++) {
    relay_client_free(&c[i]);
  }
}
END_TEST

START_TEST(mesh_peers_are_exempt) {
  msock_derp_client_info info = msock_derp_client_info_default();
  relay_client m;
  set.key = set.total = (msock_derp_rate){.per_s = 1, .burst = 1};
  set.quota_day = 10;
  set.has_mesh_key = true;
  configure();
  info.has_mesh_key = true;
  memset(info.mesh_key, 0, sizeof info.mesh_key);
  relay_client_init(&m, &env, s, T0, NULL);
  relay_client_login_as(&m, T0, &info);
  for (int i = 0; i < 10; i++) {
    ck_assert_int_eq(feed_one(&m, &b.key, T0, 65000), MSOCK_OK);
  }
  relay_client_free(&m);
}
END_TEST

/* --- quotas --- */

START_TEST(a_quota_has_grace_then_throttle_then_a_new_day) {
  msock_derp_server_event ev;
  set.quota_day = 10000;
  set.quota_grace = 2000;
  set.throttle = (msock_derp_rate){.per_s = 1000, .burst = 1};
  configure();
  msock_derp_server_set_date(s, T0, 20000, 657);
  for (int i = 0; i < 10; i++) { /* 1000 bytes are charged each */
    ck_assert_int_eq(feed_one(&a, &b.key, T0, 968), MSOCK_OK);
  }
  ck_assert(!find_event(MSOCK_DERP_SERVER_QUOTA_GRACE, &ev));
  ck_assert_int_eq(feed_one(&a, &b.key, T0, 968), MSOCK_OK);
  ev = event_of(MSOCK_DERP_SERVER_QUOTA_GRACE);
  ck_assert(msock_node_key_equal(&ev.key, &a.key));
  ck_assert_int_eq(feed_one(&a, &b.key, T0, 968), MSOCK_OK);
  ck_assert_int_eq(feed_one(&a, &b.key, T0, 968), MSOCK_OK); /* over: the next one is charged */
  (void)event_of(MSOCK_DERP_SERVER_QUOTA_OVER);
  ck_assert_uint_eq(msock_derp_server_take_unsaved(s), 13000);
  ck_assert_uint_eq(msock_derp_server_take_unsaved(s), 0);
  relay_client *const from[] = {&a};
  uint64_t each[1] = {0};
  const uint64_t sum = saturate(from, 1, &b, T0, 100 * MSOCK_SEC, 968, each);
  ck_assert_uint_ge(sum, 95000 + MSOCK_DERP_SERVER_BURST_MIN);
  ck_assert_uint_le(sum, 105000 + MSOCK_DERP_SERVER_BURST_MIN);
  ck_assert_uint_gt(msock_derp_server_get_stats(s).throttled, 0);
  ck_assert_int_eq(feed_one(&b, &a.key, T0, 968), MSOCK_OK); /* another key */
  const uint64_t later = T0 + 100 * MSOCK_SEC;
  msock_derp_server_set_date(s, later, 20001, 657);
  ck_assert(msock_derp_server_wants_read(s, a.conn));
  for (int i = 0; i < 10; i++) {
    ck_assert_int_eq(feed_one(&a, &b.key, later, 968), MSOCK_OK);
  }
}
END_TEST

START_TEST(a_quota_without_throttle_ends_the_key) {
  msock_derp_frame f;
  relay_client again;
  set.quota_month = 1000;
  configure();
  msock_derp_server_set_date(s, T0, 20000, 657);
  ck_assert_int_eq(feed_one(&a, &b.key, T0, 968), MSOCK_OK);
  ck_assert_int_eq(feed_one(&a, &b.key, T0, 968), MSOCK_ERR_CLOSED);
  ck_assert(relay_client_take(&a, T0, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_HEALTH);
  ck_assert_int_eq(event_of(MSOCK_DERP_SERVER_CLOSED).cause, MSOCK_DERP_CAUSE_QUOTA);
  relay_client_close(&a, T0);
  relay_client_init(&again, &env, s, T0, &a.secret); /* coming back does not help */
  const msock_derp_client_info info = msock_derp_client_info_default();
  relay_client_introduce(&again, T0, &info);
  ck_assert_int_eq(event_of(MSOCK_DERP_SERVER_DENIED).cause, MSOCK_DERP_CAUSE_QUOTA);
  relay_client_close(&again, T0);
  relay_client_free(&again);
  msock_derp_server_set_date(s, T0, 20020, 658); /* the next month does */
  relay_client_init(&again, &env, s, T0, &a.secret);
  relay_client_login(&again, T0);
  relay_client_free(&again);
}
END_TEST

START_TEST(usage_survives_a_restart_by_way_of_the_owner) {
  msock_derp_usage u = {0}, kept[4] = {{{{0}}, 0, 0, 0, 0}};
  uint32_t cursor = 0;
  size_t n = 0;
  set.quota_day = 100000;
  configure();
  msock_derp_server_set_date(s, T0, 20000, 657);
  (void)feed_one(&a, &b.key, T0, 968);
  (void)feed_one(&b, &a.key, T0, 1968);
  relay_client_close(&a, T0); /* absent keys are remembered */
  while (msock_derp_server_next_usage(s, &cursor, &u)) {
    ck_assert_uint_lt(n, 4);
    kept[n++] = u;
  }
  ck_assert_uint_eq(n, 2);
  teardown();
  setup();
  configure();
  msock_derp_server_set_date(s, T0, 20001, 657); /* a day later */
  for (size_t i = 0; i < n; i++) {
    ck_assert_int_eq(msock_derp_server_add_usage(s, &kept[i]), MSOCK_OK);
  }
  kept[0].month = 656; /* an old month is nothing */
  ck_assert_int_eq(msock_derp_server_add_usage(s, &kept[0]), MSOCK_OK);
  uint64_t sum = 0;
  for (cursor = 0; msock_derp_server_next_usage(s, &cursor, &u);) {
    ck_assert_uint_eq(u.day_bytes, 0);
    sum += u.month_bytes;
  }
  ck_assert_uint_eq(sum, 3000);
}
END_TEST

/* closes: F41 (a key that leaves leaves nothing behind, unless a quota needs its bytes; addresses
 * never stay) */
START_TEST(what_left_is_forgotten) {
  uint32_t cursor = 0;
  msock_derp_usage u;
  ck_assert(passes(&a, &b, T0, 100));
  relay_client_close(&a, T0);
  relay_client_close(&b, T0);
  const msock_derp_server_stats n = msock_derp_server_get_stats(s);
  ck_assert_uint_eq(n.keys + n.keys_idle + n.flows_open + n.conns + n.half_open, 0);
  ck_assert_uint_eq(n.memory_bytes, 0);
  ck_assert(!msock_derp_server_next_usage(s, &cursor, &u));
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_set_timeout(tc, 60);
  tcase_add_test(tc, a_flow_is_reported_with_both_keys_duration_and_bytes);
  tcase_add_test(tc, a_quiet_flow_ends_at_its_tick_and_opens_again);
  tcase_add_test(tc, the_seventeenth_flow_of_one_key_is_refused);
  tcase_add_test(tc, a_flow_ends_after_its_duration);
  tcase_add_test(tc, a_flow_ends_after_its_bytes);
  tcase_add_test(tc, the_table_of_flows_is_bounded);
  tcase_add_test(tc, each_connection_that_heard_is_told_once);
  tcase_add_loop_test(tc, rates_hold_over_time_and_drop_nothing, 0,
                      (int)(sizeof sizes / sizeof *sizes));
  tcase_add_test(tc, the_burst_holds_one_packet_at_least);
  tcase_add_test(tc, a_new_rate_acts_on_those_who_wait);
  tcase_add_test(tc, a_total_rate_is_shared_fairly);
  tcase_add_test(tc, the_total_lets_one_in_at_a_time);
  tcase_add_test(tc, the_rate_of_a_prefix_holds_its_connections_together);
  tcase_add_test(tc, mesh_peers_are_exempt);
  tcase_add_test(tc, a_quota_has_grace_then_throttle_then_a_new_day);
  tcase_add_test(tc, a_quota_without_throttle_ends_the_key);
  tcase_add_test(tc, usage_survives_a_restart_by_way_of_the_owner);
  tcase_add_test(tc, what_left_is_forgotten);
  return testing_main("derp_server_flows", tc);
}
