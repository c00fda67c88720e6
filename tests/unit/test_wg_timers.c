/* Every timer of dataplane.md section 4 at its exact tick, and the handshake requests of the path
 * engine: stalled, gave up, unsent, kick. */
#include "tests/unit/wg_rig.h"

#define JITTER_US (333 * MSOCK_MS)

static void open_session(rig *r, rig_end *e) {
  msock_wg_peer_open_session(e->wg, r->now, e->peer);
  rig_poll(r, e);
}

/* Nothing is sent before t, something is at t. Gives what. */
static rig_msg sent_exactly_at(rig *r, rig_end *e, uint64_t t) {
  e->n_out = 0;
  rig_run_silent(r, t - 1);
  ck_assert_uint_eq(e->n_out, 0);
  rig_run_silent(r, t);
  ck_assert_uint_eq(e->n_out, 1);
  return rig_take(e);
}

/* closes: WG-16 */
START_TEST(retransmission_is_new_and_jittered) {
  rig *r = rig_new(NULL);
  uint64_t sent_us = r->now;
  uint64_t least = MSOCK_NEVER, most = 0;

  open_session(r, &r->a);
  rig_msg last = rig_take(&r->a);
  for (int i = 0; i < 16; i++) {
    const uint64_t due = rig_active(&r->a)->retransmit_us;
    const uint64_t jitter = due - sent_us - 5 * MSOCK_SEC;
    ck_assert_uint_ge(due, sent_us + 5 * MSOCK_SEC);
    ck_assert_uint_le(jitter, JITTER_US);
    least = jitter < least ? jitter : least;
    most = jitter > most ? jitter : most;
    const rig_msg m = sent_exactly_at(r, &r->a, due);
    ck_assert_int_eq(m.kind, MSOCK_WG_OUT_INITIATION);
    ck_assert_mem_ne(m.b + 4, last.b + 4, 4);    /* index */
    ck_assert_mem_ne(m.b + 8, last.b + 8, 32);   /* ephemeral */
    ck_assert_mem_ne(m.b + 88, last.b + 88, 28); /* timestamp */
    rig_deliver(r, &r->a, &m);
    last = m;
    sent_us = due;
  }
  ck_assert_uint_ne(least, most);
  /* each one was newer than the one before it */
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiations, 16);
  rig_free(r);
}
END_TEST

/* closes: WG-16 */
START_TEST(gives_up_after_90_s_and_a_new_packet_starts_again) {
  rig *r = rig_new(NULL);
  const uint64_t start = r->now;

  ck_assert(!rig_send(r, &r->a, 1));
  rig_run_silent(r, start + 90 * MSOCK_SEC - 1);
  ck_assert_uint_eq(r->a.events[MSOCK_WG_EV_GAVE_UP], 0);
  ck_assert_uint_eq(rig_counters(&r->a)->tx_staged_drop, 0);
  rig_run_silent(r, start + 90 * MSOCK_SEC);
  ck_assert_uint_eq(r->a.events[MSOCK_WG_EV_GAVE_UP], 1);
  ck_assert_uint_eq(rig_counters(&r->a)->tx_staged_drop, 1);
  const size_t tries = r->a.sent[MSOCK_WG_OUT_INITIATION];
  ck_assert(tries >= 17 && tries <= 18);
  rig_run_silent(r, start + 200 * MSOCK_SEC);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_INITIATION], tries); /* silence */

  const uint64_t again = r->now;
  ck_assert(!rig_send(r, &r->a, 2));
  rig_poll(r, &r->a);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_INITIATION], tries + 1);
  rig_run_silent(r, again + 90 * MSOCK_SEC - 1);
  ck_assert_uint_eq(r->a.events[MSOCK_WG_EV_GAVE_UP], 1);
  rig_run_silent(r, again + 90 * MSOCK_SEC);
  ck_assert_uint_eq(r->a.events[MSOCK_WG_EV_GAVE_UP], 2);
  rig_free(r);
}
END_TEST

START_TEST(stalled_after_5_s_without_an_answer) {
  rig *r = rig_new(NULL);
  const uint64_t start = r->now;
  open_session(r, &r->a);
  rig_run_silent(r, start + 5 * MSOCK_SEC - 1);
  ck_assert_uint_eq(r->a.events[MSOCK_WG_EV_STALLED], 0);
  rig_run_silent(r, start + 5 * MSOCK_SEC);
  ck_assert_uint_eq(r->a.events[MSOCK_WG_EV_STALLED], 1);
  rig_free(r);

  r = rig_connected(NULL); /* answered: never */
  rig_run(r, r->now + 60 * MSOCK_SEC);
  ck_assert_uint_eq(r->a.events[MSOCK_WG_EV_STALLED], 0);
  rig_free(r);
}
END_TEST

/* closes: WG-17 */
START_TEST(rekey_at_120_s_by_the_initiator_only) {
  rig *r = rig_connected(NULL);
  const uint64_t born = r->now;
  rig_run(r, born + 120 * MSOCK_SEC - 1);
  rig_send(r, &r->a, 1);
  rig_settle(r);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_INITIATION], 1);
  rig_run(r, born + 120 * MSOCK_SEC);
  rig_send(r, &r->b, 2); /* the responder does not ask */
  rig_settle(r);
  ck_assert_uint_eq(r->b.sent[MSOCK_WG_OUT_INITIATION], 0);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_INITIATION], 1);
  rig_send(r, &r->a, 3);
  rig_settle(r);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_INITIATION], 2);
  ck_assert_uint_eq(r->a.events[MSOCK_WG_EV_SESSION_UP], 2);
  rig_free(r);
}
END_TEST

/* closes: WG-17 */
START_TEST(last_minute_rekey_on_receive_at_165_s) {
  rig *r = rig_connected(NULL);
  const uint64_t born = r->now;
  rig_run(r, born + 165 * MSOCK_SEC - 1);
  rig_send(r, &r->b, 1);
  rig_msg m = rig_take(&r->b);
  rig_deliver(r, &r->b, &m);
  rig_poll(r, &r->a);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_INITIATION], 1);
  rig_at(r, born + 165 * MSOCK_SEC);
  for (int i = 0; i < 3; i++) { /* asked once for this session */
    rig_send(r, &r->b, 2);
    m = rig_take(&r->b);
    rig_deliver(r, &r->b, &m);
    rig_poll(r, &r->a);
    ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_INITIATION], 2);
  }
  /* the responder never does on receive */
  rig_send(r, &r->a, 3);
  m = r->a.out[r->a.n_out - 1];
  ck_assert_int_eq(rig_deliver(r, &r->a, &m).kind, MSOCK_WG_PLAIN);
  rig_poll(r, &r->b);
  ck_assert_uint_eq(r->b.sent[MSOCK_WG_OUT_INITIATION], 0);
  rig_free(r);
}
END_TEST

/* closes: WG-17 */
START_TEST(no_data_under_a_session_of_180_s) {
  static const uint64_t age_us[] = {180 * MSOCK_SEC - 1, 180 * MSOCK_SEC};
  rig *r = rig_connected(NULL);
  const uint64_t born = r->now;
  rig_send(r, &r->a, 1);
  const rig_msg held = rig_take(&r->a);
  rig_run_silent(r, born + age_us[_i]);
  r->b.n_out = 0;
  ck_assert_int_eq(rig_deliver(r, &r->a, &held).kind, _i ? MSOCK_WG_DROP : MSOCK_WG_PLAIN);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_expired, (uint64_t)_i);
  ck_assert_int_eq(rig_send(r, &r->b, 2), _i == 0);
  ck_assert_int_eq(rig_has_session(r, &r->b), _i == 0);
  rig_free(r);
}
END_TEST

/* closes: WG-20 */
START_TEST(passive_keepalive_once_per_silence) {
  rig *r = rig_connected(NULL);
  const uint64_t t0 = r->now;
  rig_send(r, &r->a, 1);
  rig_msg m = rig_take(&r->a);
  rig_deliver(r, &r->a, &m);
  rig_run_silent(r, t0 + 10 * MSOCK_SEC - 1);
  ck_assert_uint_eq(r->b.sent[MSOCK_WG_OUT_KEEPALIVE], 0);
  rig_run_silent(r, t0 + 10 * MSOCK_SEC);
  ck_assert_uint_eq(r->b.sent[MSOCK_WG_OUT_KEEPALIVE], 1);
  m = rig_take(&r->b);
  ck_assert_uint_eq(m.len, 32);
  ck_assert_int_eq(rig_deliver(r, &r->b, &m).kind, MSOCK_WG_KEEPALIVE);
  const size_t before = r->a.sent[MSOCK_WG_OUT_KEEPALIVE];
  rig_run(r, t0 + 110 * MSOCK_SEC); /* no ping-pong of empty packets */
  ck_assert_uint_eq(r->b.sent[MSOCK_WG_OUT_KEEPALIVE], 1);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_KEEPALIVE], before);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_INITIATION], 1);
  rig_free(r);
}
END_TEST

/* closes: WG-20 */
START_TEST(passive_keepalive_one_more_and_none_after_an_answer) {
  rig *r = rig_connected(NULL);
  const uint64_t t0 = r->now;
  rig_send(r, &r->a, 1);
  rig_msg m = rig_take(&r->a);
  rig_deliver(r, &r->a, &m);
  rig_run_silent(r, t0 + 3 * MSOCK_SEC);
  rig_send(r, &r->a, 2); /* while the timer is armed */
  m = rig_take(&r->a);
  rig_deliver(r, &r->a, &m);
  rig_run_silent(r, t0 + 20 * MSOCK_SEC - 1);
  ck_assert_uint_eq(r->b.sent[MSOCK_WG_OUT_KEEPALIVE], 1);
  rig_run_silent(r, t0 + 20 * MSOCK_SEC);
  ck_assert_uint_eq(r->b.sent[MSOCK_WG_OUT_KEEPALIVE], 2);
  rig_run_silent(r, t0 + 60 * MSOCK_SEC);
  ck_assert_uint_eq(r->b.sent[MSOCK_WG_OUT_KEEPALIVE], 2);
  rig_free(r);

  r = rig_connected(NULL); /* anything sent meanwhile takes its place */
  rig_send(r, &r->a, 1);
  rig_settle(r);
  rig_run(r, r->now + 9 * MSOCK_SEC);
  rig_send(r, &r->b, 1);
  const size_t before = r->b.sent[MSOCK_WG_OUT_KEEPALIVE];
  rig_run_silent(r, r->now + 9 * MSOCK_SEC);
  ck_assert_uint_eq(r->b.sent[MSOCK_WG_OUT_KEEPALIVE], before);
  rig_free(r);
}
END_TEST

/* closes: WG-21 */
START_TEST(nothing_heard_for_15_s_starts_a_handshake) {
  rig *r = rig_connected(NULL);
  const uint64_t t0 = r->now;
  rig_run(r, t0 + 20 * MSOCK_SEC); /* silence alone is no reason */
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_INITIATION], 1);
  const uint64_t sent_us = r->now;
  const uint64_t due = sent_us + 15 * MSOCK_SEC + rig_active(&r->a)->jitter_us;
  ck_assert_uint_le(rig_active(&r->a)->jitter_us, JITTER_US);
  rig_send(r, &r->a, 1);
  rig_at(r, sent_us + 4 * MSOCK_SEC);
  rig_send(r, &r->a, 2); /* counts from the first unanswered one */
  const rig_msg m = sent_exactly_at(r, &r->a, due);
  ck_assert_int_eq(m.kind, MSOCK_WG_OUT_INITIATION);
  rig_free(r);

  r = rig_connected(NULL); /* anything authentic heard ends the wait */
  rig_send(r, &r->a, 1);
  rig_settle(r);
  rig_run(r, r->now + 14 * MSOCK_SEC); /* b's passive keepalive came at 10 s */
  rig_run(r, r->now + 60 * MSOCK_SEC);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_INITIATION], 1);
  rig_free(r);
}
END_TEST

/* closes: WG-35 */
START_TEST(suspend_of_10_minutes) {
  rig *r = rig_connected(NULL);
  rig_send(r, &r->a, 1);
  const rig_msg held = rig_take(&r->a);
  rig_at(r, r->now + 600 * MSOCK_SEC); /* no timer ran meanwhile */
  if (_i == 0) {
    ck_assert(!rig_send(r, &r->a, 2)); /* packet first, then timers */
    ck_assert_int_eq(rig_deliver(r, &r->a, &held).kind, MSOCK_WG_DROP);
    rig_expire(r, &r->a);
    rig_expire(r, &r->b);
  } else {
    rig_expire(r, &r->a);
    rig_expire(r, &r->b);
    ck_assert(!rig_send(r, &r->a, 2));
    ck_assert_int_eq(rig_deliver(r, &r->a, &held).kind, MSOCK_WG_NO_SESSION); /* erased */
  }
  const size_t data = r->a.sent[MSOCK_WG_OUT_DATA];
  rig_poll(r, &r->a);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_DATA], data);
  rig_settle(r);
  ck_assert_uint_eq(r->b.plain, 1); /* only the new packet, under new keys */
  ck_assert_uint_eq(r->b.last_plain[40], 2);
  ck_assert_uint_eq(r->a.events[MSOCK_WG_EV_SESSION_UP], 2);
  rig_free(r);
}
END_TEST

/* A handshake that was pending when the machine slept is started again by the next packet. */
START_TEST(suspend_during_a_handshake) {
  rig *r = rig_new(NULL);
  ck_assert(!rig_send(r, &r->a, 1));
  rig_poll(r, &r->a);
  r->a.n_out = 0;
  rig_at(r, r->now + 600 * MSOCK_SEC);
  ck_assert(!rig_send(r, &r->a, 2));
  rig_settle(r);
  ck_assert_uint_eq(r->b.plain, 2);
  rig_free(r);
}
END_TEST

START_TEST(initiations_are_5_s_apart) {
  rig *r = rig_connected(NULL);
  const uint64_t t0 = r->now;
  rig_at(r, t0 + 2 * MSOCK_SEC);
  rig_active(&r->a)->current->send_counter = UINT64_MAX - 8192; /* used up */
  ck_assert(!rig_send(r, &r->a, 1));
  const rig_msg m = sent_exactly_at(r, &r->a, t0 + 5 * MSOCK_SEC);
  ck_assert_int_eq(m.kind, MSOCK_WG_OUT_INITIATION);
  rig_free(r);
}
END_TEST

START_TEST(unsent_handshake_goes_out_when_a_path_appears) {
  rig *r = rig_new(NULL);
  const uint64_t t0 = r->now;
  ck_assert(!rig_send(r, &r->a, 1));
  rig_poll(r, &r->a);
  const rig_msg first = rig_take(&r->a);
  msock_wg_peer_unsent(r->a.wg, r->a.peer);
  rig_at(r, t0 + 1);
  msock_wg_peer_kick(r->a.wg, r->now, r->a.peer);
  rig_poll(r, &r->a);
  ck_assert_uint_eq(r->a.n_out, 1); /* at once */
  ck_assert_mem_ne(r->a.out[0].b + 8, first.b + 8, 32);
  ck_assert_mem_ne(r->a.out[0].b + 88, first.b + 88, 28);
  ck_assert_uint_ge(rig_active(&r->a)->retransmit_us, t0 + 1 + 5 * MSOCK_SEC);
  rig_settle(r);
  ck_assert_uint_eq(r->b.plain, 1);
  rig_free(r);
}
END_TEST

START_TEST(kicks_are_250_ms_apart) {
  rig *r = rig_new(NULL);
  const uint64_t t0 = r->now;
  open_session(r, &r->a);
  rig_at(r, t0 + 10 * MSOCK_MS);
  for (int i = 0; i < 5; i++) {
    msock_wg_peer_kick(r->a.wg, r->now, r->a.peer);
    rig_poll(r, &r->a);
  }
  const rig_msg m = sent_exactly_at(r, &r->a, t0 + 250 * MSOCK_MS);
  ck_assert_int_eq(m.kind, MSOCK_WG_OUT_INITIATION);
  rig_at(r, t0 + 500 * MSOCK_MS);
  msock_wg_peer_kick(r->a.wg, r->now, r->a.peer);
  rig_poll(r, &r->a);
  ck_assert_uint_eq(r->a.n_out, 1); /* the gap has passed */
  const uint64_t due = rig_active(&r->a)->retransmit_us;
  ck_assert(due >= r->now + 5 * MSOCK_SEC && due <= r->now + 5 * MSOCK_SEC + JITTER_US);
  rig_settle(r);
  const size_t sent = r->a.sent[MSOCK_WG_OUT_INITIATION];
  rig_at(r, t0 + 10 * MSOCK_SEC); /* with a session and nothing pending a kick does nothing */
  msock_wg_peer_kick(r->a.wg, r->now, r->a.peer);
  rig_poll(r, &r->a);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_INITIATION], sent);
  rig_free(r);
}
END_TEST

/* Nothing armed, nothing to wake up for; and the idle block goes away. */
/* A peer that was started anew: a new session although the old one could still be used. */
START_TEST(renewed_beside_a_session) {
  rig *r = rig_new(NULL);
  msock_wg_peer_renew(r->a.wg, r->now, r->a.peer); /* no session: nothing to renew */
  rig_poll(r, &r->a);
  ck_assert_uint_eq(r->a.n_out, 0);
  open_session(r, &r->a);
  rig_settle(r);
  const msock_wg_session *old = rig_active(&r->a)->current;
  rig_at(r, r->now + 60 * MSOCK_SEC);
  msock_wg_peer_open_session(r->a.wg, r->now, r->a.peer); /* it has one */
  rig_poll(r, &r->a);
  ck_assert_uint_eq(r->a.n_out, 0);
  msock_wg_peer_renew(r->a.wg, r->now, r->a.peer);
  rig_poll(r, &r->a);
  ck_assert_uint_eq(r->a.n_out, 1);
  ck_assert_int_eq(r->a.out[0].kind, MSOCK_WG_OUT_INITIATION);
  ck_assert(rig_send(r, &r->a, 1)); /* sealed under the old one meanwhile */
  ck_assert_ptr_eq(rig_active(&r->a)->current, old);
  rig_settle(r);
  ck_assert_ptr_ne(rig_active(&r->a)->current, old);
  ck_assert_uint_eq(r->b.plain, 1);
  rig_free(r);
}
END_TEST

START_TEST(idle_peer_has_no_deadline) {
  rig *r = rig_new(NULL);
  ck_assert_uint_eq(msock_wg_next_expiry(r->a.wg), MSOCK_NEVER);
  open_session(r, &r->a);
  rig_settle(r);
  const uint64_t born = r->now;
  rig_run(r, born + 540 * MSOCK_SEC - 1);
  ck_assert_ptr_nonnull(rig_active(&r->a));
  rig_run(r, born + 540 * MSOCK_SEC);
  ck_assert_ptr_null(rig_active(&r->a));
  ck_assert_uint_eq(msock_wg_next_expiry(r->a.wg), MSOCK_NEVER);
  rig_free(r);
}
END_TEST

/* Data packets leave the heap alone: the deadline that is shown does not move with them. */
START_TEST(traffic_does_not_touch_the_heap) {
  rig *r = rig_connected(NULL);
  rig_run(r, r->now + 30 * MSOCK_SEC); /* what the handshake left has been found out */
  rig_send(r, &r->a, 1);
  rig_settle(r);
  rig_send(r, &r->b, 1);
  rig_settle(r);
  const uint64_t shown = msock_wg_next_expiry(r->a.wg);
  for (uint8_t i = 0; i < 90; i++) {
    rig_at(r, r->now + 100 * MSOCK_MS);
    rig_send(r, &r->a, i);
    rig_settle(r);
    rig_send(r, &r->b, i);
    rig_settle(r);
    ck_assert_uint_eq(msock_wg_next_expiry(r->a.wg), shown);
  }
  ck_assert_uint_gt(shown, r->now);
  rig_free(r);
}
END_TEST

/* One in three messages lost, order shuffled by holding back: sessions come up and data flows. */
START_TEST(lossy_wire) {
  rig *r = rig_new(NULL);
  testing_rng rng;
  const msock_env dice = testing_env(&rng, (uint64_t)_i + 77);
  size_t delivered = 0;
  for (int step = 0; step < 1500; step++) {
    rig_at(r, r->now + 200 * MSOCK_MS);
    rig_expire(r, &r->a);
    rig_expire(r, &r->b);
    rig_send(r, step % 2 ? &r->a : &r->b, (uint8_t)step);
    rig_poll(r, &r->a);
    rig_poll(r, &r->b);
    for (rig_end *e = &r->a;; e = &r->b) {
      for (size_t n = e->n_out; n > 0; n--) {
        const rig_msg m = rig_take(e);
        const uint64_t luck = msock_env_uniform(&dice, 6);
        if (luck < 3) {
          delivered += rig_deliver(r, e, &m).kind == MSOCK_WG_PLAIN;
        } else if (luck == 3) {
          rig_keep(e, m.kind, m.b, m.len); /* later */
        }
      }
      if (e == &r->b) {
        break;
      }
    }
  }
  ck_assert_uint_gt(delivered, 600);
  ck_assert_uint_eq(rig_counters(&r->a)->rx_auth_fail, 0);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_auth_fail, 0);
  rig_free(r);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, retransmission_is_new_and_jittered);
  tcase_add_test(tc, gives_up_after_90_s_and_a_new_packet_starts_again);
  tcase_add_test(tc, stalled_after_5_s_without_an_answer);
  tcase_add_test(tc, rekey_at_120_s_by_the_initiator_only);
  tcase_add_test(tc, last_minute_rekey_on_receive_at_165_s);
  tcase_add_loop_test(tc, no_data_under_a_session_of_180_s, 0, 2);
  tcase_add_test(tc, passive_keepalive_once_per_silence);
  tcase_add_test(tc, passive_keepalive_one_more_and_none_after_an_answer);
  tcase_add_test(tc, nothing_heard_for_15_s_starts_a_handshake);
  tcase_add_loop_test(tc, suspend_of_10_minutes, 0, 2);
  tcase_add_test(tc, suspend_during_a_handshake);
  tcase_add_test(tc, initiations_are_5_s_apart);
  tcase_add_test(tc, unsent_handshake_goes_out_when_a_path_appears);
  tcase_add_test(tc, kicks_are_250_ms_apart);
  tcase_add_test(tc, renewed_beside_a_session);
  tcase_add_test(tc, idle_peer_has_no_deadline);
  tcase_add_test(tc, traffic_does_not_touch_the_heap);
  tcase_add_loop_test(tc, lossy_wire, 0, 8);
  return testing_main("wg_timers", tc);
}
