/* Under load: cookies, secrets and limits per source (dataplane.md 5). */
#include "tests/unit/wg_rig.h"

static rig_msg initiation_of(rig *r, rig_end *e) {
  msock_wg_peer_open_session(e->wg, r->now, e->peer);
  rig_poll(r, e);
  return rig_take(e);
}

/* An initiation with the right mac1 from a stranger: costs one DH, changes nothing. */
static rig_msg stranger(const rig_end *to, uint8_t mark) {
  rig_msg m = {.kind = MSOCK_WG_OUT_INITIATION, .len = MSOCK_WG_INITIATION_LEN};
  m.b[0] = 1;
  memset(m.b + 4, mark, 112);
  msock_wg_macs_write(m.b, m.len, to->wg->id.mac1_key, NULL);
  return m;
}

/* 200 handshakes within the second, none of them expensive for the test: the guard counts. */
static void put_under_load(rig *r, rig_end *e) {
  for (int i = 0; i <= 200; i++) {
    msock_wg_guard_observe(&e->wg->guard, r->now, 0);
  }
  ck_assert(msock_wg_under_load(e->wg, r->now));
}

START_TEST(load_is_seen_and_lasts_a_second) {
  msock_wg_guard g;
  testing_rng rng;
  const msock_env env = testing_env(&rng, 1);
  const uint64_t t = 50 * MSOCK_SEC;

  msock_wg_guard_init(&g, &env, 200);
  for (int i = 0; i < 200; i++) {
    ck_assert(!msock_wg_guard_observe(&g, t, 0));
  }
  ck_assert(msock_wg_guard_observe(&g, t, 0)); /* the 201st in a second */
  ck_assert(msock_wg_guard_loaded(&g, t + MSOCK_SEC - 1));
  ck_assert(!msock_wg_guard_loaded(&g, t + MSOCK_SEC));
  ck_assert(!msock_wg_guard_observe(&g, t + MSOCK_SEC, 0));  /* another second */
  ck_assert(!msock_wg_guard_observe(&g, t + MSOCK_SEC, 16)); /* an eighth of the queue */
  ck_assert(msock_wg_guard_observe(&g, t + MSOCK_SEC, 17));
}
END_TEST

/* closes: WG-24 */
START_TEST(under_load_a_cookie_comes_first) {
  rig *r = rig_new(NULL);
  put_under_load(r, &r->b);
  const rig_msg m = initiation_of(r, &r->a);
  rig_dh = 0;
  ck_assert_int_eq(rig_deliver(r, &r->a, &m).kind, MSOCK_WG_DROP);
  rig_poll(r, &r->b);
  ck_assert_uint_eq(rig_dh, 0);
  ck_assert_uint_eq(r->b.n_out, 1);
  ck_assert_int_eq(r->b.out[0].kind, MSOCK_WG_OUT_COOKIE);
  ck_assert_uint_eq(r->b.out[0].len, 64);
  ck_assert(msock_addr_equal(&r->b.out[0].source.addr, &r->a.source.addr));
  const rig_msg cookie = rig_take(&r->b);
  ck_assert_int_eq(rig_deliver(r, &r->b, &cookie).kind, MSOCK_WG_HANDSHAKE);
  rig_poll(r, &r->a);
  ck_assert_uint_eq(r->a.n_out, 0); /* no resend at once */

  rig_run_silent(r, rig_active(&r->a)->retransmit_us);
  put_under_load(r, &r->b);
  const rig_msg again = rig_take(&r->a);
  ck_assert_mem_ne(again.b + 132, (uint8_t[16]){0}, 16); /* mac2 is there */
  ck_assert_int_eq(rig_deliver(r, &r->a, &again).kind, MSOCK_WG_HANDSHAKE);
  rig_settle(r);
  ck_assert(rig_has_session(r, &r->a));
  rig_free(r);
}
END_TEST

/* A mac2 is good for its source alone. */
START_TEST(cookie_is_bound_to_its_source) {
  rig *r = rig_new(NULL);
  const msock_wg_source elsewhere = {.addr = {.ip = r->a.source.addr.ip, .port = 1}};
  put_under_load(r, &r->b);
  rig_msg m = stranger(&r->b, 1);
  uint8_t cookie[16];
  msock_wg_guard_cookie(&r->b.wg->guard, &r->b.env, r->now, &r->a.source, cookie);
  msock_wg_macs_write(m.b, m.len, r->b.wg->id.mac1_key, cookie);
  ck_assert_int_eq(rig_inject(r, &r->b, &elsewhere, m.b, m.len).kind, MSOCK_WG_DROP);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_under_load, 1);
  ck_assert_int_eq(rig_inject(r, &r->b, &r->a.source, m.b, m.len).kind, MSOCK_WG_HANDSHAKE);
  m.b[147] ^= 1;
  ck_assert_int_eq(rig_inject(r, &r->b, &r->a.source, m.b, m.len).kind, MSOCK_WG_DROP);
  rig_free(r);
}
END_TEST

/* How many of n messages with a good mac2 from this source get through at once. */
static size_t passed(rig *r, const msock_wg_source *source, size_t n) {
  size_t got = 0;
  for (size_t i = 0; i < n; i++) {
    uint8_t cookie[16];
    rig_msg m = stranger(&r->b, (uint8_t)i);
    msock_wg_guard_cookie(&r->b.wg->guard, &r->b.env, r->now, source, cookie);
    msock_wg_macs_write(m.b, m.len, r->b.wg->id.mac1_key, cookie);
    got += rig_inject(r, &r->b, source, m.b, m.len).kind == MSOCK_WG_HANDSHAKE;
  }
  return got;
}

/* closes: WG-24 WG-27 */
START_TEST(sources_are_limited_under_load) {
  static const struct {
    const char *name;
    msock_wg_source one, same, other; /* same shares one's bucket */
  } cases[] = {
      {"IPv4 address, any port",
       {.addr = {.ip = {.family = 4, .b = {192, 0, 2, 1}}, .port = 1}},
       {.addr = {.ip = {.family = 4, .b = {192, 0, 2, 1}}, .port = 2}},
       {.addr = {.ip = {.family = 4, .b = {192, 0, 2, 2}}, .port = 1}}},
      {"IPv6 /64",
       {.addr = {.ip = {.family = 6, .b = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 1}}, .port = 1}},
       {.addr = {.ip = {.family = 6, .b = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 2}}, .port = 1}},
       {.addr = {.ip = {.family = 6, .b = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 2, 1}}, .port = 1}}},
      {"relay source by node key",
       {.by_relay = true, .relay = {{1}}, .tag = 1},
       {.by_relay = true, .relay = {{1}}, .tag = 2},
       {.by_relay = true, .relay = {{2}}, .tag = 1}},
  };
  rig *r = rig_new(NULL);
  put_under_load(r, &r->b);
  ck_assert_msg(passed(r, &cases[_i].one, 21) == 5, "%s", cases[_i].name);
  ck_assert_msg(passed(r, &cases[_i].same, 1) == 0, "%s", cases[_i].name);
  ck_assert_msg(passed(r, &cases[_i].other, 6) == 5, "%s", cases[_i].name);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_rate_limited, 18);
  rig_at(r, r->now + 50 * MSOCK_MS - 1);
  ck_assert_uint_eq(passed(r, &cases[_i].one, 1), 0);
  rig_at(r, r->now + 1);
  ck_assert_uint_eq(passed(r, &cases[_i].one, 2), 1); /* 20 a second */
  rig_free(r);
}
END_TEST

/* closes: WG-24 */
START_TEST(steady_source_gets_20_a_second) {
  msock_wg_guard g;
  testing_rng rng;
  const msock_env env = testing_env(&rng, 1);
  const msock_wg_source s = {.by_relay = true, .relay = {{4}}};
  size_t got = 0;
  msock_wg_guard_init(&g, &env, 200);
  for (int i = 0; i < 5; i++) {
    msock_wg_guard_allow(&g, MSOCK_SEC, &s); /* the burst is gone */
  }
  for (uint64_t t = 1; t <= 10000; t++) {
    got += msock_wg_guard_allow(&g, MSOCK_SEC + t * MSOCK_MS, &s);
  }
  ck_assert_uint_eq(got, 200);
}
END_TEST

START_TEST(more_sources_than_buckets) {
  msock_wg_guard g;
  testing_rng rng;
  const msock_env env = testing_env(&rng, 1);
  msock_wg_guard_init(&g, &env, 200);
  for (uint32_t i = 0; i < 4 * MSOCK_WG_BUCKETS; i++) {
    msock_wg_source s = {.addr = {.ip = msock_ip_v4(10, 0, (uint8_t)(i >> 8), (uint8_t)i)}};
    ck_assert(msock_wg_guard_allow(&g, MSOCK_SEC + i, &s)); /* the longest unused makes room */
  }
}
END_TEST

/* closes: WG-25 */
START_TEST(cookie_opens_with_the_last_mac1_only) {
  rig *r = rig_new(NULL);
  put_under_load(r, &r->b);
  const rig_msg first = initiation_of(r, &r->a);
  rig_deliver(r, &r->a, &first);
  rig_poll(r, &r->b);
  const rig_msg stale = rig_take(&r->b);
  rig_run_silent(r, rig_active(&r->a)->retransmit_us);
  const rig_msg second = rig_take(&r->a);
  rig_msg readdressed = stale; /* to the handshake that is waiting now */
  memcpy(readdressed.b + 4, second.b + 4, 4);
  ck_assert_int_eq(rig_deliver(r, &r->b, &stale).kind, MSOCK_WG_DROP);
  ck_assert_uint_eq(rig_counters(&r->a)->rx_unknown_index, 1);
  ck_assert_int_eq(rig_deliver(r, &r->b, &readdressed).kind, MSOCK_WG_DROP);
  ck_assert_uint_eq(rig_counters(&r->a)->rx_cookie_fail, 1);

  put_under_load(r, &r->b);
  rig_deliver(r, &r->a, &second);
  rig_poll(r, &r->b);
  rig_msg good = rig_take(&r->b);
  rig_msg bad = good;
  bad.b[40] ^= 1;
  ck_assert_int_eq(rig_deliver(r, &r->b, &bad).kind, MSOCK_WG_DROP);
  ck_assert_int_eq(rig_deliver(r, &r->b, &good).kind, MSOCK_WG_HANDSHAKE);
  const uint64_t due = rig_active(&r->a)->retransmit_us;
  rig_run_silent(r, due - 1);
  ck_assert_uint_eq(r->a.n_out, 0); /* the ordinary timer sends it */
  rig_run_silent(r, due);
  ck_assert_uint_eq(r->a.n_out, 1);
  rig_free(r);
}
END_TEST

START_TEST(received_cookie_is_used_for_120_s) {
  static const uint64_t age_us[] = {120 * MSOCK_SEC - 1, 120 * MSOCK_SEC};
  rig *r = rig_new(NULL);
  put_under_load(r, &r->b);
  rig_msg m = initiation_of(r, &r->a);
  const uint64_t got_us = r->now;
  rig_deliver(r, &r->a, &m);
  rig_poll(r, &r->b);
  m = rig_take(&r->b);
  rig_deliver(r, &r->b, &m);
  rig_run_silent(r, got_us + 100 * MSOCK_SEC); /* given up at 90 s */
  r->a.n_out = 0;
  rig_run_silent(r, got_us + age_us[_i]);
  m = initiation_of(r, &r->a);
  const uint8_t zero[16] = {0};
  ck_assert_int_eq(memcmp(m.b + 132, zero, 16) == 0, _i == 1);
  rig_free(r);
}
END_TEST

/* closes: WG-26 */
START_TEST(secret_rotates_at_120_s) {
  msock_wg_guard g;
  testing_rng rng;
  const msock_env env = testing_env(&rng, 1);
  const msock_wg_source s = {.addr = {.ip = msock_ip_v4(192, 0, 2, 1), .port = 9}};
  const uint64_t t = 1000 * MSOCK_SEC;
  uint8_t cookie[16], later[16], msg[148] = {1};

  msock_wg_guard_init(&g, &env, 200);
  msock_wg_guard_cookie(&g, &env, t, &s, cookie);
  msock_wg_mac2(cookie, msg, sizeof msg, msg + 132);
  msock_wg_guard_cookie(&g, &env, t + 120 * MSOCK_SEC - 1, &s, later);
  ck_assert_mem_eq(cookie, later, 16);
  msock_wg_guard_cookie(&g, &env, t + 120 * MSOCK_SEC, &s, later);
  ck_assert_mem_ne(cookie, later, 16);
  /* by the previous secret still good */
  ck_assert(msock_wg_guard_mac2_ok(&g, &env, t + 240 * MSOCK_SEC - 1, &s, msg, sizeof msg));
  /* from before the previous secret */
  ck_assert(!msock_wg_guard_mac2_ok(&g, &env, t + 240 * MSOCK_SEC, &s, msg, sizeof msg));
  ck_assert(!msock_wg_guard_mac2_ok(&g, &env, t + 500 * MSOCK_SEC, &s, msg, sizeof msg));

  /* a long pause: no rotation happened in between, the old one is refused all the same */
  msock_wg_guard_init(&g, &env, 200);
  msock_wg_guard_cookie(&g, &env, t, &s, cookie);
  msock_wg_mac2(cookie, msg, sizeof msg, msg + 132);
  ck_assert(!msock_wg_guard_mac2_ok(&g, &env, t + 1000 * MSOCK_SEC, &s, msg, sizeof msg));
}
END_TEST

START_TEST(flood_is_bounded) {
  rig *r = rig_new(NULL);
  rig_dh = 0;
  for (int i = 0; i < 10000; i++) {
    const rig_msg m = stranger(&r->b, (uint8_t)i);
    rig_deliver(r, &r->a, &m);
  }
  const msock_wg_counters *c = rig_counters(&r->b);
  ck_assert_uint_eq(rig_dh, 200); /* the rest got a cookie or nothing */
  ck_assert_uint_eq(c->rx_under_load, 64);
  ck_assert_uint_eq(c->rx_cookie_queue_full, 10000 - 200 - 64);
  rig_poll(r, &r->b);
  ck_assert_uint_eq(r->b.sent[MSOCK_WG_OUT_COOKIE], 64);
  ck_assert_uint_eq(r->b.n_out, 64);
  rig_free(r);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, load_is_seen_and_lasts_a_second);
  tcase_add_test(tc, under_load_a_cookie_comes_first);
  tcase_add_test(tc, cookie_is_bound_to_its_source);
  tcase_add_loop_test(tc, sources_are_limited_under_load, 0, 3);
  tcase_add_test(tc, steady_source_gets_20_a_second);
  tcase_add_test(tc, more_sources_than_buckets);
  tcase_add_test(tc, cookie_opens_with_the_last_mac1_only);
  tcase_add_loop_test(tc, received_cookie_is_used_for_120_s, 0, 2);
  tcase_add_test(tc, secret_rotates_at_120_s);
  tcase_add_test(tc, flood_is_bounded);
  return testing_main("wg_cookie", tc);
}
