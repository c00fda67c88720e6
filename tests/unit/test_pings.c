/* Pings that wait for their answer. */
#include "node/pings.h"
#include "tests/unit/testing.h"

static const msock_ip peer = {4, {100, 64, 0, 2}}, other = {4, {100, 64, 0, 3}};

static msock_ping ping(msock_ping_kind kind, uint64_t sent_us, uint64_t tag) {
  return (msock_ping){.kind = kind,
                      .peer = peer,
                      .sent_us = sent_us,
                      .deadline_us = sent_us + 5 * MSOCK_SEC,
                      .tag = tag};
}

START_TEST(an_answer_matches_once_by_kind_id_and_peer) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, 1);
  msock_pings t;
  msock_ping p = ping(MSOCK_PING_ICMP, 100, 42), got;
  msock_node_pings_init(&t);
  ck_assert_int_eq(msock_node_pings_add(&t, &env, &p), MSOCK_OK);
  ck_assert_uint_le(p.id, UINT32_MAX);
  ck_assert(!msock_node_pings_match(&t, 200, MSOCK_PING_TSMP, p.id, &peer, &got));
  ck_assert(!msock_node_pings_match(&t, 200, MSOCK_PING_ICMP, p.id + 1, &peer, &got));
  ck_assert(!msock_node_pings_match(&t, 200, MSOCK_PING_ICMP, p.id, &other, &got));
  ck_assert(msock_node_pings_match(&t, 200, MSOCK_PING_ICMP, p.id, &peer, &got));
  ck_assert_uint_eq(got.tag, 42);
  ck_assert_uint_eq(got.sent_us, 100);
  ck_assert(!msock_node_pings_match(&t, 200, MSOCK_PING_ICMP, p.id, &peer, &got));
  ck_assert_uint_eq(msock_node_pings_next_expiry(&t), MSOCK_NEVER);
}
END_TEST

START_TEST(pings_expire_at_their_deadline) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, 2);
  msock_pings t;
  msock_ping late = ping(MSOCK_PING_TSMP, 2000, 1), soon = ping(MSOCK_PING_TSMP, 1000, 2), got;
  msock_node_pings_init(&t);
  ck_assert_int_eq(msock_node_pings_add(&t, &env, &late), MSOCK_OK);
  ck_assert_int_eq(msock_node_pings_add(&t, &env, &soon), MSOCK_OK);
  ck_assert_uint_eq(msock_node_pings_next_expiry(&t), soon.deadline_us);
  ck_assert(!msock_node_pings_expire(&t, soon.deadline_us - 1, &got));
  ck_assert(!msock_node_pings_match(&t, soon.deadline_us, MSOCK_PING_TSMP, soon.id, &peer, &got));
  ck_assert(msock_node_pings_expire(&t, soon.deadline_us, &got));
  ck_assert_uint_eq(got.tag, 2);
  ck_assert(!msock_node_pings_expire(&t, soon.deadline_us, &got));
  ck_assert(
      msock_node_pings_match(&t, late.deadline_us - 1, MSOCK_PING_TSMP, late.id, &peer, &got));
  late.deadline_us = late.sent_us;
  ck_assert_int_eq(msock_node_pings_add(&t, &env, &late), MSOCK_ERR_INVALID);
}
END_TEST

START_TEST(the_table_is_bounded_and_forgets_whole_callers) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, 3);
  msock_pings t;
  msock_ping p, got;
  msock_node_pings_init(&t);
  for (unsigned i = 0; i < MSOCK_PINGS_MAX; i++) {
    p = ping(MSOCK_PING_ICMP, 0, i % 2);
    ck_assert_int_eq(msock_node_pings_add(&t, &env, &p), MSOCK_OK);
  }
  p = ping(MSOCK_PING_ICMP, 0, 9);
  ck_assert_int_eq(msock_node_pings_add(&t, &env, &p), MSOCK_ERR_NOMEM);
  msock_node_pings_forget(&t, 1);
  ck_assert_uint_eq(t.n, MSOCK_PINGS_MAX / 2);
  while (msock_node_pings_expire(&t, 5 * MSOCK_SEC, &got)) {
    ck_assert_uint_eq(got.tag, 0);
  }
  ck_assert_uint_eq(t.n, 0);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, an_answer_matches_once_by_kind_id_and_peer);
  tcase_add_test(tc, pings_expire_at_their_deadline);
  tcase_add_test(tc, the_table_is_bounded_and_forgets_whole_callers);
  return testing_main("pings", tc);
}
