/* The engine's rules about handshakes and sessions: what is accepted, what is answered, which keys
 * are used. Deadlines: test_wg_timers.c. */
#include "crypto/noise.h"
#include "tests/unit/wg_rig.h"

static const uint8_t psk_bytes[32] = {0x55, 0x55, 0x01};

/* closes: WG-11 */
START_TEST(session_with_and_without_psk) {
  rig *r = rig_new(_i ? psk_bytes : NULL);
  ck_assert(!rig_send(r, &r->a, 0x11)); /* staged */
  rig_poll(r, &r->a);
  ck_assert_uint_eq(r->a.n_out, 1);
  ck_assert_int_eq(r->a.out[0].kind, MSOCK_WG_OUT_INITIATION);

  rig_msg m = rig_take(&r->a);
  ck_assert_int_eq(rig_deliver(r, &r->a, &m).kind, MSOCK_WG_HANDSHAKE);
  rig_poll(r, &r->b);
  ck_assert_uint_eq(r->b.sent[MSOCK_WG_OUT_RESPONSE], 1);
  /* the responder has keys but may not seal with them yet */
  ck_assert(!rig_has_session(r, &r->b));
  ck_assert(!rig_send(r, &r->b, 0x22));
  ck_assert_uint_eq(r->b.events[MSOCK_WG_EV_SESSION_UP], 0);

  m = rig_take(&r->b);
  rig_deliver(r, &r->b, &m);
  rig_poll(r, &r->a);
  /* the initiator sends its staged packet at once, and no keepalive beside it */
  ck_assert_uint_eq(r->a.n_out, 1);
  ck_assert_int_eq(r->a.out[0].kind, MSOCK_WG_OUT_DATA);
  rig_settle(r);
  ck_assert_uint_eq(r->b.plain, 1);
  ck_assert_uint_eq(r->b.last_len, 84);
  ck_assert_uint_eq(r->b.last_plain[83], 0x11);
  ck_assert_uint_eq(r->a.plain, 1); /* and the responder's went after that */
  ck_assert_uint_eq(r->a.last_plain[83], 0x22);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_KEEPALIVE], 0);
  ck_assert(rig_has_session(r, &r->a) && rig_has_session(r, &r->b));
  rig_free(r);
}
END_TEST

/* closes: WG-11 */
START_TEST(initiator_without_data_sends_a_keepalive) {
  rig *r = rig_connected(NULL);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_KEEPALIVE], 1);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_DATA], 0);
  ck_assert_uint_eq(r->b.sent[MSOCK_WG_OUT_KEEPALIVE], 0);
  rig_free(r);
}
END_TEST

START_TEST(psk_must_match) {
  rig *r = rig_new(psk_bytes);
  msock_wg_peer_remove(r->b.wg, r->b.peer);
  rig_end_knows(&r->b, &r->a, NULL);
  msock_wg_peer_open_session(r->a.wg, r->now, r->a.peer);
  rig_settle(r);
  ck_assert_uint_eq(rig_counters(&r->a)->rx_response_fail, 1);
  ck_assert_uint_eq(r->a.events[MSOCK_WG_EV_SESSION_UP], 0);
  rig_free(r);
}
END_TEST

static rig_msg initiation_of(rig *r, rig_end *e) {
  msock_wg_peer_open_session(e->wg, r->now, e->peer);
  rig_poll(r, e);
  return rig_take(e);
}

/* closes: WG-04 */
START_TEST(malformed_messages_cost_no_dh) {
  rig *r = rig_connected(NULL);
  static const size_t lengths[] = {0, 148, 92, 64, 32};
  uint8_t b[256] = {0};
  size_t dropped = 0;

  rig_dh = 0;
  for (uint8_t type = 1; type <= 4; type++) {
    for (int delta = -1; delta <= 1; delta += 2) {
      if (type == 4 && delta > 0) {
        continue; /* a longer transport message is well formed */
      }
      memset(b, 0, sizeof b);
      b[0] = type;
      ck_assert_int_eq(
          rig_inject(r, &r->b, &r->a.source, b, (size_t)((int)lengths[type] + delta)).kind,
          MSOCK_WG_DROP);
      ck_assert_uint_eq(rig_counters(&r->b)->rx_bad_message, ++dropped);
    }
    for (size_t at = 1; at <= 3; at++) {
      memset(b, 0, sizeof b);
      b[0] = type;
      b[at] = 1;
      ck_assert_int_eq(rig_inject(r, &r->b, &r->a.source, b, lengths[type]).kind, MSOCK_WG_DROP);
      ck_assert_uint_eq(rig_counters(&r->b)->rx_bad_message, ++dropped);
    }
  }
  static const uint8_t types[] = {0, 5, 255};
  for (size_t i = 0; i < sizeof types; i++) {
    for (size_t len = 0; len <= 148; len += 4) {
      memset(b, 0, sizeof b);
      b[0] = types[i];
      ck_assert_int_eq(rig_inject(r, &r->b, &r->a.source, b, len).kind, MSOCK_WG_DROP);
      ck_assert_uint_eq(rig_counters(&r->b)->rx_bad_message, ++dropped);
    }
  }
  ck_assert_uint_eq(rig_dh, 0);
  rig_poll(r, &r->b);
  ck_assert_uint_eq(r->b.n_out, 0);
  rig_free(r);
}
END_TEST

/* closes: WG-05 */
START_TEST(bad_mac1_costs_no_dh_and_no_memory) {
  rig *r = rig_new(NULL);
  rig_msg m = initiation_of(r, &r->a);

  for (size_t bit = 0; bit < 16 * 8; bit++) {
    rig_msg bad = m;
    bad.b[116 + bit / 8] ^= (uint8_t)(1u << bit % 8);
    rig_dh = 0;
    rig_allocations = 0;
    const msock_wg_result got = rig_deliver(r, &r->a, &bad);
    const size_t allocations = rig_allocations; /* check allocates too */
    ck_assert_uint_eq(rig_dh, 0);
    ck_assert_uint_eq(allocations, 0);
    ck_assert_int_eq(got.kind, MSOCK_WG_DROP);
    ck_assert_uint_eq(rig_counters(&r->b)->rx_mac1_fail, bit + 1);
  }
  rig_deliver(r, &r->a, &m); /* the unharmed one is good */
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiations, 1);
  rig_free(r);
}
END_TEST

/* closes: WG-07 */
START_TEST(unknown_static_key_costs_one_dh_and_is_silent) {
  rig *r = rig_new(NULL);
  msock_wg_peer_remove(r->b.wg, r->b.peer);
  const rig_msg m = initiation_of(r, &r->a);
  rig_dh = 0;
  rig_allocations = 0;
  rig_deliver(r, &r->a, &m);
  const size_t allocations = rig_allocations;
  ck_assert_uint_eq(rig_dh, 1);
  ck_assert_uint_eq(allocations, 0);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_unknown_peer, 1);
  rig_poll(r, &r->b);
  ck_assert_uint_eq(r->b.n_out, 0);
  ck_assert_uint_eq(r->b.events[MSOCK_WG_EV_AUTHENTICATED], 0);
  rig_free(r);
}
END_TEST

/* closes: WG-08 */
START_TEST(replayed_initiation_is_dropped_also_after_erasure) {
  rig *r = rig_new(NULL);
  const rig_msg old = initiation_of(r, &r->a);
  rig_at(r, r->now + 6 * MSOCK_SEC);
  rig_expire(r, &r->a); /* the retransmission is newer */
  const rig_msg newer = rig_take(&r->a);

  rig_deliver(r, &r->a, &newer);
  rig_at(r, r->now + MSOCK_SEC);
  rig_deliver(r, &r->a, &newer);
  rig_deliver(r, &r->a, &old);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiation_replay, 2);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiations, 1);

  rig_run_silent(r, r->now + 1000 * MSOCK_SEC);
  ck_assert_ptr_null(rig_active(&r->b)); /* everything of the handshake is gone */
  rig_allocations = 0;
  rig_deliver(r, &r->a, &newer);
  const size_t allocations = rig_allocations;
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiation_replay, 3);
  ck_assert_uint_eq(allocations, 0);
  ck_assert_ptr_null(rig_active(&r->b));
  rig_free(r);
}
END_TEST

/* closes: WG-09 */
START_TEST(two_initiations_within_20_ms_get_one_response) {
  static const uint64_t gap_us[] = {20 * MSOCK_MS - 1, 20 * MSOCK_MS};
  rig *r = rig_new(NULL);
  const rig_msg first = initiation_of(r, &r->a);
  msock_wg_peer_unsent(r->a.wg, r->a.peer);
  msock_wg_peer_kick(r->a.wg, r->now, r->a.peer);
  rig_poll(r, &r->a);
  const rig_msg second = rig_take(&r->a);

  rig_deliver(r, &r->a, &first);
  rig_at(r, r->now + gap_us[_i]);
  rig_deliver(r, &r->a, &second);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiation_too_soon, _i == 0);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiations, _i == 0 ? 1 : 2);
  rig_free(r);
}
END_TEST

/* closes: WG-12 */
START_TEST(simultaneous_initiations_converge) {
  rig *r = rig_new(NULL);
  const uint64_t start = r->now;
  rig_msg from_a = initiation_of(r, &r->a), from_b = initiation_of(r, &r->b);
  if (_i != 1) {
    rig_deliver(r, &r->a, &from_a);
  }
  if (_i != 2) {
    rig_deliver(r, &r->b, &from_b);
  }
  rig_run(r, start + 5400 * MSOCK_MS);
  rig_settle(r);
  ck_assert(rig_has_session(r, &r->a) && rig_has_session(r, &r->b));
  const size_t handshakes = r->a.sent[MSOCK_WG_OUT_INITIATION] + r->b.sent[MSOCK_WG_OUT_INITIATION];
  for (uint8_t i = 0; i < 50; i++) { /* and it is enough: data flows, nobody asks again */
    ck_assert(rig_send(r, &r->a, i));
    ck_assert(rig_send(r, &r->b, i));
    rig_settle(r);
    rig_run(r, r->now + MSOCK_SEC);
  }
  ck_assert_uint_eq(r->a.plain, 50);
  ck_assert_uint_eq(r->b.plain, 50);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_INITIATION] + r->b.sent[MSOCK_WG_OUT_INITIATION],
                    handshakes);
  rig_free(r);
}
END_TEST

/* With loss: b has answered an initiation of a's and the answer was lost, so a never saw those keys
 * and seals with the old ones. A handshake of b's own must not end them before a has the new keys.
 */
START_TEST(keys_that_the_peer_still_uses_outlive_a_handshake) {
  rig *r = rig_connected(NULL);
  rig_at(r, r->now + 30 * MSOCK_SEC);
  msock_wg_peer_renew(r->a.wg, r->now, r->a.peer);
  rig_poll(r, &r->a);
  const rig_msg asked = rig_take(&r->a);
  rig_deliver(r, &r->a, &asked);
  rig_poll(r, &r->b);
  rig_take(&r->b); /* the answer is lost */

  rig_at(r, r->now + MSOCK_SEC);
  msock_wg_peer_renew(r->b.wg, r->now, r->b.peer);
  rig_poll(r, &r->b);
  rig_msg m = rig_take(&r->b);
  rig_deliver(r, &r->b, &m);
  rig_poll(r, &r->a);
  m = rig_take(&r->a);
  rig_deliver(r, &r->a, &m);
  rig_poll(r, &r->b);
  rig_take(&r->b); /* so is what would have told a that b has the new keys */

  ck_assert(rig_send(r, &r->a, 7));
  m = rig_take(&r->a);
  ck_assert_int_eq(rig_deliver(r, &r->a, &m).kind, MSOCK_WG_PLAIN);
  ck_assert(rig_send(r, &r->b, 8)); /* under the new keys, which a has by now */
  m = rig_take(&r->b);
  ck_assert_int_eq(rig_deliver(r, &r->b, &m).kind, MSOCK_WG_PLAIN);
  rig_free(r);
}
END_TEST

/* Both began at once, and each seals with the session that it began itself. Then b begins another,
 * and what would tell a is lost: a's packets still open. */
START_TEST(crossed_sessions_outlive_a_handshake) {
  rig *r = rig_new(NULL);
  const rig_msg from_a = initiation_of(r, &r->a), from_b = initiation_of(r, &r->b);
  rig_deliver(r, &r->a, &from_a);
  rig_deliver(r, &r->b, &from_b);
  rig_settle(r);
  rig_at(r, r->now + 30 * MSOCK_SEC);
  for (int k = 0; k < 2; k++) {
    ck_assert(rig_send(r, &r->a, 1));
    ck_assert(rig_send(r, &r->b, 2));
    rig_settle(r);
  }
  rig_at(r, r->now + MSOCK_SEC);
  msock_wg_peer_renew(r->b.wg, r->now, r->b.peer);
  rig_poll(r, &r->b);
  rig_msg m = rig_take(&r->b);
  rig_deliver(r, &r->b, &m);
  rig_poll(r, &r->a);
  m = rig_take(&r->a);
  rig_deliver(r, &r->a, &m);
  rig_poll(r, &r->b);
  r->b.n_out = 0;
  ck_assert(rig_send(r, &r->a, 3));
  m = rig_take(&r->a);
  ck_assert_int_eq(rig_deliver(r, &r->a, &m).kind, MSOCK_WG_PLAIN);
  rig_free(r);
}
END_TEST

/* closes: WG-13 */
START_TEST(response_to_a_replaced_handshake_is_dropped) {
  rig *r = rig_new(NULL);
  rig_msg m = initiation_of(r, &r->a);
  rig_deliver(r, &r->a, &m);
  rig_poll(r, &r->b);
  const rig_msg late = rig_take(&r->b);

  rig_msg foreign = late; /* the right shape, an index of nobody */
  foreign.b[8] ^= 0xff;
  msock_wg_macs_write(foreign.b, foreign.len, r->a.wg->id.mac1_key, NULL);
  rig_dh = 0;
  ck_assert_int_eq(rig_deliver(r, &r->b, &foreign).kind, MSOCK_WG_DROP);

  rig_at(r, r->now + 6 * MSOCK_SEC);
  rig_expire(r, &r->a);
  m = rig_take(&r->a);
  rig_dh = 0;
  ck_assert_int_eq(rig_deliver(r, &r->b, &late).kind, MSOCK_WG_DROP);
  ck_assert_uint_eq(rig_dh, 0);
  ck_assert_uint_eq(rig_counters(&r->a)->rx_unknown_index, 2);
  ck_assert(!rig_has_session(r, &r->a));
  rig_deliver(r, &r->a, &m); /* the new one goes through */
  rig_settle(r);
  ck_assert(rig_has_session(r, &r->a));
  /* and its response a second time has nobody waiting */
  ck_assert_int_eq(rig_deliver(r, &r->b, &late).kind, MSOCK_WG_DROP);
  rig_free(r);
}
END_TEST

/* A forged response must not end the wait for the true one. */
START_TEST(forged_response_does_not_end_the_handshake) {
  rig *r = rig_new(NULL);
  rig_msg m = initiation_of(r, &r->a);
  rig_deliver(r, &r->a, &m);
  rig_poll(r, &r->b);
  m = rig_take(&r->b);
  rig_msg forged = m;
  forged.b[44] ^= 1; /* the empty field */
  msock_wg_macs_write(forged.b, forged.len, r->a.wg->id.mac1_key, NULL);
  rig_deliver(r, &r->b, &forged);
  ck_assert_uint_eq(rig_counters(&r->a)->rx_response_fail, 1);
  rig_deliver(r, &r->b, &m);
  ck_assert(rig_has_session(r, &r->a));
  rig_free(r);
}
END_TEST

static void repeating_random(void *ctx, void *dst, size_t len) {
  /* each four bytes come twice: an index table must draw again */
  unsigned *n = ctx;
  memset(dst, (int)((*n)++ / 2), len);
}

/* closes: WG-14 */
START_TEST(indices_are_unique_and_end_with_their_session) {
  unsigned n = 0;
  const msock_env env = {.ctx = &n, .random = repeating_random};
  msock_wg_index_table t = {0};
  uint32_t got[100];

  for (uint32_t i = 0; i < 100; i++) {
    ck_assert_int_eq(msock_wg_index_draw(&t, &env, i, &got[i]), MSOCK_OK);
    ck_assert_uint_eq(got[i], i * UINT32_C(0x01010101));
  }
  for (uint32_t i = 0; i < 100; i += 3) {
    msock_wg_index_remove(&t, got[i]);
  }
  for (uint32_t i = 0; i < 100; i++) {
    const msock_wg_index_entry *e = msock_wg_index_find(&t, got[i]);
    ck_assert(i % 3 == 0 ? e == NULL : e != NULL && e->peer_id == i);
  }
  msock_wg_index_free(&t);

  rig *r = rig_connected(NULL);
  rig_send(r, &r->a, 1);
  const rig_msg held = rig_take(&r->a);
  ck_assert_uint_eq(r->b.wg->index.used, 1);
  rig_run_silent(r, r->now + 1200 * MSOCK_SEC);
  ck_assert_uint_eq(r->a.wg->index.used, 0);
  ck_assert_uint_eq(r->b.wg->index.used, 0);
  rig_deliver(r, &r->a, &held);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_unknown_index, 1);
  rig_free(r);
}
END_TEST

/* closes: WG-14 */
START_TEST(each_handshake_has_another_index) {
  rig *r = rig_new(NULL);
  uint32_t seen[16];
  msock_wg_peer_open_session(r->a.wg, r->now, r->a.peer);
  rig_run_silent(r, r->now + 80 * MSOCK_SEC);
  rig_poll(r, &r->a);
  ck_assert_uint_ge(r->a.n_out, 15);
  for (size_t i = 0; i < 15; i++) {
    memcpy(&seen[i], r->a.out[i].b + 4, 4);
    for (size_t j = 0; j < i; j++) {
      ck_assert_uint_ne(seen[i], seen[j]);
    }
  }
  ck_assert_uint_eq(r->a.wg->index.used, 1); /* only the last one is awaited */
  rig_free(r);
}
END_TEST

/* Makes e ask for a new session now: a counter of 2^60 is one of the reasons. */
static void exhaust(rig *r, rig_end *e) {
  rig_active(e)->current->send_counter = MSOCK_WG_REKEY_AFTER_MESSAGES + 1;
  ck_assert(rig_send(r, e, 0xee));
}

static uint32_t receiver_of(const rig_msg *m) {
  uint32_t v = 0;
  memcpy(&v, m->b + 4, 4);
  return v;
}

/* closes: WG-15 */
START_TEST(three_sessions_open_and_only_current_seals) {
  rig *r = rig_connected(NULL);
  rig_send(r, &r->b, 0); /* under session 0 */
  const rig_msg under0 = rig_take(&r->b);
  rig_at(r, r->now + 6 * MSOCK_SEC);
  exhaust(r, &r->a);
  rig_settle(r); /* session 1, begun by a */
  rig_send(r, &r->b, 1);
  const rig_msg under1 = rig_take(&r->b);
  rig_at(r, r->now + 6 * MSOCK_SEC);
  exhaust(r, &r->b); /* session 2, begun by b */
  rig_poll(r, &r->b);
  ck_assert_uint_eq(r->b.n_out, 2);
  rig_take(&r->b);
  const rig_msg initiation = rig_take(&r->b);
  rig_deliver(r, &r->b, &initiation);
  rig_poll(r, &r->a);
  rig_msg m = rig_take(&r->a);
  rig_deliver(r, &r->a, &m);
  rig_poll(r, &r->b);
  const rig_msg under2 = rig_take(&r->b); /* its keepalive */

  const msock_wg_active *a = rig_active(&r->a);
  ck_assert(a->previous != NULL && a->current != NULL && a->next != NULL);
  ck_assert_int_eq(rig_deliver(r, &r->b, &under0).kind, MSOCK_WG_PLAIN);
  ck_assert_int_eq(rig_deliver(r, &r->b, &under1).kind, MSOCK_WG_PLAIN);
  rig_send(r, &r->a, 1);
  ck_assert_uint_eq(receiver_of(&r->a.out[r->a.n_out - 1]), a->current->remote_index);
  ck_assert_uint_ne(a->current->remote_index, a->next->remote_index);
  const uint32_t next = a->next->remote_index;
  ck_assert_int_eq(rig_deliver(r, &r->b, &under2).kind, MSOCK_WG_KEEPALIVE);
  rig_send(r, &r->a, 2); /* the first packet under next made it current */
  ck_assert_uint_eq(receiver_of(&r->a.out[r->a.n_out - 1]), next);
  rig_settle(r);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_auth_fail + rig_counters(&r->b)->rx_unknown_index, 0);
  rig_free(r);
}
END_TEST

/* closes: WG-18 */
START_TEST(counter_limit_for_send_and_receive) {
  rig *r = rig_connected(NULL);
  const uint64_t limit = UINT64_MAX - 8192; /* 2^64 - 2^13 - 1 */
  msock_wg_session *s = rig_active(&r->a)->current;

  s->send_counter = limit - 1;
  ck_assert(rig_send(r, &r->a, 1));
  const rig_msg last = rig_take(&r->a);
  ck_assert(!rig_send(r, &r->a, 2)); /* nothing more under these keys */
  ck_assert_int_eq(rig_deliver(r, &r->a, &last).kind, MSOCK_WG_PLAIN);

  uint8_t buf[256] = {0};
  msock_packet p = {.buf = buf, .cap = sizeof buf, .off = 32, .len = 84};
  rig_packet(buf + 32, 84, &r->a.ip, &r->b.ip, 3);
  ck_assert_uint_eq(s->send_counter, limit);
  ck_assert_int_eq(msock_wg_session_seal(s, &p, 1280), MSOCK_OK); /* a peer that does not stop */
  ck_assert_int_eq(rig_inject(r, &r->b, &r->a.source, buf + p.off, p.len).kind, MSOCK_WG_DROP);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_expired, 1);
  rig_free(r);
}
END_TEST

/* closes: WG-19 */
START_TEST(forged_counter_does_not_move_the_window) {
  rig *r = rig_connected(NULL);
  rig_send(r, &r->a, 1);
  rig_msg m = rig_take(&r->a);
  rig_msg forged = m;
  memset(forged.b + 8, 0x7f, 8);
  rig_deliver(r, &r->a, &forged);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_auth_fail, 1);
  ck_assert_int_eq(rig_deliver(r, &r->a, &m).kind, MSOCK_WG_PLAIN);
  ck_assert_int_eq(rig_deliver(r, &r->a, &m).kind, MSOCK_WG_DROP);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_replay, 1);
  rig_free(r);
}
END_TEST

/* closes: WG-23 */
START_TEST(padding_and_trimming) {
  static const struct {
    size_t len, wire;
  } cases[] = {{20, 64},     {31, 64},     {32, 64},     {33, 80},    {84, 128},
               {1264, 1296}, {1265, 1312}, {1279, 1312}, {1280, 1312}};
  rig *r = rig_connected(NULL);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    ck_assert(rig_send_to(r, &r->a, &r->b.ip, cases[i].len, 9));
    const rig_msg m = rig_take(&r->a);
    ck_assert_uint_eq(m.len, cases[i].wire);
    ck_assert_int_eq(rig_deliver(r, &r->a, &m).kind, MSOCK_WG_PLAIN);
    ck_assert_uint_eq(r->b.last_len, cases[i].len);
  }
  rig_free(r);

  /* an MTU that is no multiple of 16 caps the padding; a longer packet is not padded */
  msock_wg_session s = {0};
  uint8_t buf[2048] = {0};
  static const size_t odd[][2] = {
      {1291, 1292}, {1292, 1292}, {1280, 1280}, {1281, 1292}, {1400, 1400}};
  for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
    msock_packet p = {.buf = buf, .cap = sizeof buf, .off = 32, .len = (uint32_t)odd[i][0]};
    ck_assert_int_eq(msock_wg_session_seal(&s, &p, 1292), MSOCK_OK);
    ck_assert_uint_eq(p.len, odd[i][1] + 32);
    ck_assert_uint_eq(p.off, 16);
  }
}
END_TEST

/* Seals bytes of a test's own as the end would. */
static msock_wg_result deliver_inner(rig *r, rig_end *from, const uint8_t *inner, size_t len) {
  uint8_t buf[512] = {0};
  msock_packet p = {.buf = buf, .cap = sizeof buf, .off = 32, .len = (uint32_t)len};
  memcpy(buf + 32, inner, len);
  ck_assert_int_eq(msock_wg_session_seal(rig_active(from)->current, &p, 1280), MSOCK_OK);
  return rig_inject(r, rig_other(r, from), &from->source, buf + p.off, p.len);
}

/* closes: WG-23 */
START_TEST(inner_length_must_fit) {
  rig *r = rig_connected(NULL);
  uint8_t in[96];
  rig_packet(in, 96, &r->a.ip, &r->b.ip, 7);
  in[3] = 96;
  ck_assert_int_eq(deliver_inner(r, &r->a, in, 96).kind, MSOCK_WG_PLAIN);
  in[3] = 97; /* one more than the plaintext */
  ck_assert_int_eq(deliver_inner(r, &r->a, in, 96).kind, MSOCK_WG_DROP);
  in[3] = 19; /* less than its own header */
  ck_assert_int_eq(deliver_inner(r, &r->a, in, 96).kind, MSOCK_WG_DROP);
  in[3] = 96;
  in[0] = 0x44; /* header of 16 bytes */
  ck_assert_int_eq(deliver_inner(r, &r->a, in, 96).kind, MSOCK_WG_DROP);
  in[0] = 0x55; /* version 5 */
  ck_assert_int_eq(deliver_inner(r, &r->a, in, 96).kind, MSOCK_WG_DROP);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_bad_inner, 4);
  rig_free(r);
}
END_TEST

/* closes: WG-28 */
START_TEST(inner_source_must_belong_to_the_peer) {
  rig *r = rig_connected(NULL);
  const msock_ip other = msock_ip_v4(100, 64, 0, 9);
  uint8_t in[64];

  rig_packet(in, 64, &other, &r->b.ip, 7); /* nobody's */
  ck_assert_int_eq(deliver_inner(r, &r->a, in, 64).kind, MSOCK_WG_DROP);
  uint32_t third = 0; /* somebody else's */
  msock_node_key key = {{9}};
  ck_assert_int_eq(msock_wg_peer_add(r->b.wg, &key, NULL, &third), MSOCK_OK);
  const msock_prefix prefix = {other, 32};
  ck_assert_int_eq(msock_wg_peer_set_allowed_ips(r->b.wg, third, &prefix, 1), MSOCK_OK);
  ck_assert_int_eq(deliver_inner(r, &r->a, in, 64).kind, MSOCK_WG_DROP);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_source_mismatch, 2);
  rig_packet(in, 64, &r->a.ip, &r->b.ip, 7);
  ck_assert_int_eq(deliver_inner(r, &r->a, in, 64).kind, MSOCK_WG_PLAIN);
  rig_free(r);
}
END_TEST

/* closes: WG-30 */
START_TEST(swap_of_routes_takes_effect_at_once) {
  rig *r = rig_connected(NULL);
  uint32_t other = 0;
  msock_node_key key = {{9}};
  ck_assert_int_eq(msock_wg_peer_add(r->a.wg, &key, NULL, &other), MSOCK_OK);
  ck_assert(rig_send(r, &r->a, 1)); /* the cache now knows the old owner */
  const msock_wg_route moved = {{r->b.ip, 32}, other};
  ck_assert_int_eq(msock_wg_set_allowed_ips(r->a.wg, &moved, 1), MSOCK_OK);
  ck_assert(!rig_send(r, &r->a, 2)); /* staged for the new owner, who has no session */
  rig_settle(r);
  ck_assert_uint_eq(r->b.plain, 1);
  const msock_wg_route none = {{msock_ip_v4(10, 0, 0, 1), 32}, other};
  ck_assert_int_eq(msock_wg_set_allowed_ips(r->a.wg, &none, 1), MSOCK_OK);
  ck_assert(!rig_send(r, &r->a, 3));
  ck_assert_uint_eq(rig_counters(&r->a)->tx_no_route, 1);
  const msock_wg_route nobody = {{r->b.ip, 32}, 77};
  ck_assert_int_eq(msock_wg_set_allowed_ips(r->a.wg, &nobody, 1), MSOCK_ERR_UNKNOWN);
  rig_free(r);
}
END_TEST

/* closes: WG-30 */
START_TEST(staged_packets_do_not_go_to_the_old_owner) {
  rig *r = rig_new(NULL);
  ck_assert(!rig_send(r, &r->a, 1));
  uint32_t other = 0;
  msock_node_key key = {{9}};
  ck_assert_int_eq(msock_wg_peer_add(r->a.wg, &key, NULL, &other), MSOCK_OK);
  const msock_wg_route moved = {{r->b.ip, 32}, other};
  ck_assert_int_eq(msock_wg_set_allowed_ips(r->a.wg, &moved, 1), MSOCK_OK);
  rig_settle(r);
  ck_assert_uint_eq(r->b.plain, 0);
  ck_assert_uint_eq(rig_counters(&r->a)->tx_staged_moved, 1);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_KEEPALIVE], 1); /* the responder still gets its packet */
  ck_assert(rig_has_session(r, &r->b));
  rig_free(r);
}
END_TEST

/* closes: WG-31 WG-32 */
START_TEST(sources_change_and_nothing_else_does) {
  static const msock_wg_source sources[] = {
      {.by_relay = true, .relay = {{7}}, .tag = 3},
      {.addr = {.ip = {.family = 4, .b = {198, 51, 100, 1}}, .port = 1}},
      {.addr = {.ip = {.family = 4, .b = {198, 51, 100, 2}}, .port = 2}},
      {.addr = {.ip = {.family = 6, .b = {0x20, 1, 13}}, .port = 3}},
  };
  rig *r = rig_new(NULL);
  const rig_msg m = initiation_of(r, &r->a);
  rig_inject(r, &r->b, &sources[0], m.b, m.len);
  rig_poll(r, &r->b);
  ck_assert_uint_eq(r->b.events[MSOCK_WG_EV_AUTHENTICATED], 1);
  ck_assert(r->b.last_hint.source.by_relay);
  ck_assert_mem_eq(r->b.last_hint.source.relay.b, sources[0].relay.b, 32);
  ck_assert_uint_eq(r->b.last_hint.source.tag, 3);
  ck_assert_uint_eq(r->b.last_hint.peer_id, r->b.peer);
  rig_settle(r);
  const size_t handshakes = r->a.sent[MSOCK_WG_OUT_INITIATION];
  for (size_t i = 0; i < 40; i++) {
    ck_assert(rig_send(r, &r->a, (uint8_t)i));
    const rig_msg data = rig_take(&r->a);
    const msock_wg_result got = rig_inject(r, &r->b, &sources[i % 4], data.b, data.len);
    ck_assert_int_eq(got.kind, MSOCK_WG_PLAIN);
    ck_assert_uint_eq(got.peer_id, r->b.peer); /* found by index, whatever the source */
    ck_assert(rig_send(r, &r->b, (uint8_t)i)); /* an output names a peer, never an address */
    rig_settle(r);
  }
  ck_assert_uint_eq(r->a.plain, 40);
  ck_assert_uint_eq(r->a.sent[MSOCK_WG_OUT_INITIATION], handshakes);
  ck_assert_uint_eq(r->b.sent[MSOCK_WG_OUT_INITIATION], 0);
  rig_free(r);
}
END_TEST

/* closes: WG-33 */
START_TEST(reordering_over_the_whole_window) {
  rig *r = rig_connected(NULL);
  const uint64_t base = rig_active(&r->a)->current->send_counter;
  rig_msg behind_8129 = {0}, behind_8128 = {0}, newest = {0};
  for (uint64_t i = 0; i <= 8129; i++) {
    ck_assert(rig_send(r, &r->a, 1));
    const rig_msg m = rig_take(&r->a);
    behind_8129 = i == 0 ? m : behind_8129;
    behind_8128 = i == 1 ? m : behind_8128;
    newest = m;
  }
  ck_assert_uint_eq(rig_active(&r->a)->current->send_counter, base + 8130);
  ck_assert_int_eq(rig_deliver(r, &r->a, &newest).kind, MSOCK_WG_PLAIN);
  ck_assert_int_eq(rig_deliver(r, &r->a, &behind_8129).kind, MSOCK_WG_DROP);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_replay, 1);
  ck_assert_int_eq(rig_deliver(r, &r->a, &behind_8128).kind, MSOCK_WG_PLAIN);
  rig_free(r);
}
END_TEST

/* closes: WG-34 */
START_TEST(wall_clock_going_back_does_not_matter) {
  rig *r = rig_connected(NULL);
  r->wall -= 3600 * MSOCK_SEC;
  for (int i = 0; i < 3; i++) {
    rig_at(r, r->now + 121 * MSOCK_SEC);
    rig_send(r, &r->a, 1);
    rig_settle(r);
  }
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiation_replay, 0);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiations, 4);
  rig_free(r);

  /* strictly rising in the encoded form, over the end of a second too */
  uint64_t stamp = msock_wg_stamp_from_wall(UINT64_C(1700000000999999));
  uint8_t before[12], after[12];
  for (int i = 0; i < 200; i++) {
    msock_wg_stamp_encode(stamp, before);
    stamp = msock_wg_stamp_next(stamp);
    msock_wg_stamp_encode(stamp, after);
    ck_assert_int_lt(memcmp(before, after, 12), 0);
    ck_assert_uint_eq(after[9] | after[10] | after[11], 0); /* whitened */
    ck_assert_uint_lt((uint32_t)after[8] << 24, 1000000000);
  }
}
END_TEST

/* The peer keeps the newest stamp that it has seen; our record of it comes anew. */
START_TEST(wall_clock_going_back_spoils_no_new_record) {
  rig *r = rig_connected(NULL);
  r->wall -= 3600 * MSOCK_SEC;
  rig_at(r, r->now + 10 * MSOCK_SEC);
  msock_wg_peer_remove(r->a.wg, r->a.peer);
  ck_assert_int_eq(msock_wg_set_allowed_ips(r->a.wg, NULL, 0), MSOCK_OK);
  ck_assert_int_eq(msock_wg_peer_add(r->a.wg, &r->b.pub, NULL, &r->a.peer), MSOCK_OK);
  msock_wg_peer_open_session(r->a.wg, r->now, r->a.peer);
  rig_settle(r);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiation_replay, 0);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiations, 2);
  rig_free(r);
}
END_TEST

/* Points of small order (RFC 7748 6.1 wants their product refused). */
static const uint8_t order8[32] = {0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3,
                                   0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32,
                                   0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00};
static const uint8_t zeros[32];

static void send_initiation(rig *r, const msock_wg_initiation *m) {
  uint8_t b[MSOCK_WG_INITIATION_LEN];
  msock_wg_initiation_encode(m, b);
  msock_wg_macs_write(b, sizeof b, r->b.wg->id.mac1_key, NULL);
  rig_inject(r, &r->b, &r->a.source, b, sizeof b);
}

/* closes: WG-06 */
START_TEST(zero_shared_secret_aborts_at_the_responder) {
  rig *r = rig_new(NULL);
  const msock_wg_identity *b = &r->b.wg->id;
  static const uint8_t stamp[12] = {0x40, 0, 0, 0, 0x70};
  msock_wg_initiation m = {.sender = 1};
  msock_noise n;

  /* es: whoever sends a bad ephemeral can compute everything with a secret of zero */
  memcpy(m.ephemeral, order8, 32);
  msock_wg_noise_start(&n, b, b->h_responder, m.ephemeral);
  msock_noise_mix_key(&n, zeros, 32);
  msock_noise_seal(&n, r->a.pub.b, 32, m.enc_static);
  send_initiation(r, &m);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiation_fail, 1);

  /* ss: a peer whose static key is bad */
  msock_node_key bad;
  uint32_t bad_id = 0;
  memcpy(bad.b, order8, 32);
  ck_assert_int_eq(msock_wg_peer_add(r->b.wg, &bad, NULL, &bad_id), MSOCK_OK);
  uint8_t scalar[32] = {0x77};
  msock_x25519_public(m.ephemeral, scalar);
  msock_wg_noise_start(&n, b, b->h_responder, m.ephemeral);
  ck_assert_int_eq(msock_noise_mix_dh(&n, scalar, b->public_key.b), MSOCK_OK);
  msock_noise_seal(&n, bad.b, 32, m.enc_static);
  msock_noise_mix_key(&n, zeros, 32);
  msock_noise_seal(&n, stamp, 12, m.enc_timestamp);
  send_initiation(r, &m);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiation_fail, 2);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_initiations, 0);
  rig_poll(r, &r->b);
  ck_assert_uint_eq(r->b.n_out, 0);

  /* ee and se, which no initiation that opened can reach */
  for (int se = 0; se < 2; se++) {
    msock_wg_handshake hs = {0};
    msock_wg_remote remote;
    msock_wg_response response;
    msock_wg_keys keys;
    msock_wg_remote_init(&remote, b, se ? &bad : &r->a.pub);
    memcpy(hs.remote_ephemeral, se ? r->a.pub.b : order8, 32);
    ck_assert_int_eq(msock_wg_response_make(&hs, &remote, zeros, scalar, 1, &response, &keys),
                     MSOCK_ERR_AUTH);
  }
  rig_free(r);
}
END_TEST

/* closes: WG-06 */
START_TEST(zero_shared_secret_aborts_at_the_initiator) {
  rig *r = rig_new(NULL);
  msock_node_key bad;
  uint32_t bad_id = 0;
  memcpy(bad.b, order8, 32);
  ck_assert_int_eq(msock_wg_peer_add(r->a.wg, &bad, NULL, &bad_id), MSOCK_OK);
  msock_wg_peer_open_session(r->a.wg, r->now, bad_id); /* es (and ss) */
  rig_poll(r, &r->a);
  ck_assert_uint_eq(r->a.n_out, 0);
  ck_assert_uint_eq(rig_counters(&r->a)->tx_handshake_fail, 1);
  ck_assert_uint_eq(r->a.events[MSOCK_WG_EV_GAVE_UP], 1);

  /* ss alone: a remote whose es is good cannot have a bad ss, so its cache is asked */
  msock_wg_remote remote;
  msock_wg_handshake hs;
  msock_wg_initiation init;
  static const uint8_t stamp[12] = {0x40};
  uint8_t scalar[32] = {0x77};
  msock_wg_remote_init(&remote, &r->a.wg->id, &bad);
  ck_assert_int_eq(msock_wg_initiation_make(&r->a.wg->id, &remote, scalar, stamp, 1, &hs, &init),
                   MSOCK_ERR_AUTH);
  ck_assert(!remote.has_static_static);

  /* ee and se: a response with a bad ephemeral, all its secrets zero */
  rig_msg sent = initiation_of(r, &r->a);
  msock_wg_response m = {.sender = 5};
  memcpy(&m.receiver, sent.b + 4, 4);
  memcpy(m.ephemeral, order8, 32);
  msock_noise n = rig_active(&r->a)->handshake.noise;
  msock_noise_mix_hash(&n, m.ephemeral, 32);
  msock_noise_mix_chain(&n, m.ephemeral, 32);
  msock_noise_mix_chain(&n, zeros, 32);
  msock_noise_mix_chain(&n, zeros, 32);
  msock_noise_mix_psk(&n, zeros);
  msock_noise_seal(&n, zeros, 0, m.enc_empty);
  uint8_t b[MSOCK_WG_RESPONSE_LEN];
  msock_wg_response_encode(&m, b);
  msock_wg_macs_write(b, sizeof b, r->a.wg->id.mac1_key, NULL);
  rig_inject(r, &r->a, &r->b.source, b, sizeof b);
  ck_assert_uint_eq(rig_counters(&r->a)->rx_response_fail, 1);
  ck_assert(!rig_has_session(r, &r->a));
  rig_free(r);
}
END_TEST

START_TEST(at_most_eight_dh_messages_in_a_call) {
  rig *r = rig_new(NULL);
  const rig_msg m = initiation_of(r, &r->a);
  msock_wg_peer_remove(r->b.wg, r->b.peer); /* one DH each, no state */
  uint8_t buf[64][160];
  msock_packet pkts[64];
  msock_wg_result results[64];
  for (size_t i = 0; i < 64; i++) {
    memcpy(buf[i], m.b, m.len);
    pkts[i] = (msock_packet){.buf = buf[i], .cap = sizeof buf[i], .len = (uint32_t)m.len};
  }
  /* 17 fit before the queue itself is a sign of load */
  rig_dh = 0;
  msock_wg_open(r->b.wg, r->now, r->wall, &r->a.source, pkts, 17, results);
  ck_assert_uint_eq(rig_dh, 8);
  ck_assert_uint_eq(msock_wg_next_expiry(r->b.wg), 0);
  msock_wg_on_expiry(r->b.wg, r->now, r->wall);
  ck_assert_uint_eq(rig_dh, 16);
  msock_wg_on_expiry(r->b.wg, r->now, r->wall);
  ck_assert_uint_eq(rig_dh, 17);
  ck_assert_uint_eq(msock_wg_next_expiry(r->b.wg), MSOCK_NEVER);
  ck_assert_uint_eq(rig_counters(&r->b)->rx_unknown_peer, 17);
  rig_free(r);
}
END_TEST

START_TEST(batch_of_several_peers) {
  rig *r = rig_connected(NULL);
  rig_end c;
  rig_end_init(&c, 3, 3, 3);
  ck_assert_int_eq(msock_wg_peer_add(c.wg, &r->b.pub, NULL, &c.peer), MSOCK_OK);
  const msock_wg_route to_b = {{r->b.ip, 32}, c.peer};
  ck_assert_int_eq(msock_wg_set_allowed_ips(c.wg, &to_b, 1), MSOCK_OK);
  uint32_t c_id = 0;
  ck_assert_int_eq(msock_wg_peer_add(r->b.wg, &c.pub, NULL, &c_id), MSOCK_OK);
  const msock_prefix c_prefix = {c.ip, 32};
  ck_assert_int_eq(msock_wg_peer_set_allowed_ips(r->b.wg, c_id, &c_prefix, 1), MSOCK_OK);
  msock_wg_peer_open_session(c.wg, r->now, c.peer);
  uint8_t out_buf[RIG_MSG_MAX];
  msock_wg_output out;
  for (int i = 0; i < 4; i++) {
    size_t len = 0;
    while ((len = msock_wg_next_output(c.wg, r->now, r->wall, &out, out_buf, sizeof out_buf)) > 0) {
      rig_inject(r, &r->b, &c.source, out_buf, len);
    }
    while ((len = msock_wg_next_output(r->b.wg, r->now, r->wall, &out, out_buf, sizeof out_buf)) >
           0) {
      rig_inject(r, &c, &r->b.source, out_buf, len);
    }
  }
  uint8_t buf[4][512];
  msock_packet p[4];
  uint32_t ids[4];
  const msock_ip unknown = msock_ip_v4(8, 8, 8, 8);
  const msock_ip *dst[4] = {&r->a.ip, &c.ip, &unknown, &r->a.ip};
  for (size_t i = 0; i < 4; i++) {
    p[i] = (msock_packet){.buf = buf[i], .cap = sizeof buf[i], .off = 128, .len = 84};
    rig_packet(buf[i] + 128, 84, &r->b.ip, dst[i], (uint8_t)i);
  }
  msock_wg_seal(r->b.wg, r->now, p, 4, ids);
  ck_assert_uint_eq(ids[0], r->b.peer);
  ck_assert_uint_eq(ids[1], c_id);
  ck_assert_uint_eq(ids[2], MSOCK_WG_PEER_NONE);
  ck_assert_uint_eq(ids[3], r->b.peer);
  ck_assert_int_eq(rig_inject(r, &r->a, &r->b.source, buf[0] + p[0].off, p[0].len).kind,
                   MSOCK_WG_PLAIN);
  ck_assert_int_eq(rig_inject(r, &c, &r->b.source, buf[1] + p[1].off, p[1].len).kind,
                   MSOCK_WG_PLAIN);
  ck_assert_int_eq(rig_inject(r, &r->a, &r->b.source, buf[3] + p[3].off, p[3].len).kind,
                   MSOCK_WG_PLAIN);
  msock_wg_free(c.wg);
  rig_free(r);
}
END_TEST

START_TEST(no_room_is_counted_and_harmless) {
  rig *r = rig_connected(NULL);
  uint8_t buf[256];
  uint32_t id = 0;
  static const msock_packet shapes[] = {{.cap = 256, .off = 15, .len = 84},
                                        {.cap = 32 + 96 + 15, .off = 32, .len = 84}};
  for (size_t i = 0; i < 2; i++) {
    msock_packet p = shapes[i];
    p.buf = buf;
    rig_packet(buf + p.off, 84, &r->a.ip, &r->b.ip, 1);
    msock_wg_seal(r->a.wg, r->now, &p, 1, &id);
    ck_assert_uint_eq(id, MSOCK_WG_PEER_NONE);
  }
  ck_assert_uint_eq(rig_counters(&r->a)->tx_no_room, 2);
  msock_packet p = {.buf = buf, .cap = 32 + 96 + 16, .off = 16, .len = 84};
  rig_packet(buf + p.off, 84, &r->a.ip, &r->b.ip, 1);
  msock_wg_seal(r->a.wg, r->now, &p, 1, &id);
  ck_assert_uint_eq(id, r->a.peer);
  rig_free(r);
}
END_TEST

START_TEST(staged_oldest_go_first) {
  rig *r = rig_new(NULL);
  for (unsigned i = 0; i < 130; i++) {
    ck_assert(!rig_send(r, &r->a, (uint8_t)i));
  }
  ck_assert_uint_eq(rig_counters(&r->a)->tx_staged_drop, 2);
  msock_wg_peer_status st;
  msock_wg_peer_status_get(r->a.wg, r->now, r->a.peer, &st);
  ck_assert_uint_eq(st.staged, 128);
  rig_poll(r, &r->a);
  rig_msg m = rig_take(&r->a);
  rig_deliver(r, &r->a, &m);
  rig_poll(r, &r->b);
  m = rig_take(&r->b);
  rig_deliver(r, &r->b, &m);
  rig_poll(r, &r->a);
  ck_assert_uint_eq(r->a.n_out, 128);
  for (unsigned i = 0; i < 128; i++) { /* in order, without the first two */
    ck_assert_int_eq(rig_deliver(r, &r->a, &r->a.out[i]).kind, MSOCK_WG_PLAIN);
    ck_assert_uint_eq(r->b.last_plain[40], (uint8_t)(i + 2));
  }
  rig_free(r);

  /* a full pool: the oldest of all goes, not the newcomer */
  msock_wg_staged pool;
  msock_wg_staged_list one, two;
  uint8_t b[16] = {0};
  ck_assert_int_eq(msock_wg_staged_init(&pool, 4, 16), MSOCK_OK);
  msock_wg_staged_list_init(&one);
  msock_wg_staged_list_init(&two);
  ck_assert_uint_eq(msock_wg_staged_push(&pool, &one, b, 17), 1); /* too long */
  for (uint8_t i = 0; i < 4; i++) {
    b[0] = i;
    ck_assert_uint_eq(msock_wg_staged_push(&pool, i < 3 ? &one : &two, b, 16), 0);
  }
  b[0] = 4;
  ck_assert_uint_eq(msock_wg_staged_push(&pool, &two, b, 16), 1);
  ck_assert_uint_eq(one.count, 2);
  ck_assert_uint_eq(msock_wg_staged_pop(&pool, &one, b), 16);
  ck_assert_uint_eq(b[0], 1);
  ck_assert_uint_eq(msock_wg_staged_pop(&pool, &two, b), 16);
  ck_assert_uint_eq(b[0], 3);
  ck_assert_uint_eq(msock_wg_staged_clear(&pool, &one), 1);
  ck_assert_uint_eq(msock_wg_staged_clear(&pool, &two), 1);
  ck_assert_uint_eq(pool.oldest, MSOCK_WG_SLAB_NONE);
  msock_wg_staged_free(&pool);
}
END_TEST

START_TEST(peers_come_and_go) {
  rig *r = rig_connected(NULL);
  uint32_t id = 0;
  msock_node_key key = {{0}};
  ck_assert_int_eq(msock_wg_peer_add(r->a.wg, &key, NULL, &id), MSOCK_ERR_INVALID);
  ck_assert_int_eq(msock_wg_peer_add(r->a.wg, &r->a.pub, NULL, &id), MSOCK_ERR_INVALID);
  ck_assert_int_eq(msock_wg_peer_add(r->a.wg, &r->b.pub, NULL, &id), MSOCK_ERR_INVALID);
  ck_assert_uint_eq(msock_wg_peer_find(r->a.wg, &r->b.pub), r->a.peer);

  msock_wg_peer_remove(r->a.wg, r->a.peer);
  ck_assert_uint_eq(msock_wg_peer_find(r->a.wg, &r->b.pub), MSOCK_WG_PEER_NONE);
  ck_assert(!rig_send(r, &r->a, 1));
  ck_assert_uint_eq(rig_counters(&r->a)->tx_no_route, 1);
  uint32_t found = 0;
  ck_assert(!msock_wg_lookup(r->a.wg, &r->b.ip, &found));
  ck_assert_uint_eq(r->a.wg->index.used, 0);
  ck_assert_uint_eq(msock_wg_next_expiry(r->a.wg), MSOCK_NEVER);

  /* the id rests while a route names it: nobody inherits the old peer's traffic */
  uint32_t ids[300];
  for (uint32_t i = 0; i < 300; i++) {
    msock_node_key k = {{1, (uint8_t)i, (uint8_t)(i >> 8)}};
    ck_assert_int_eq(msock_wg_peer_add(r->a.wg, &k, NULL, &ids[i]), MSOCK_OK);
    ck_assert_uint_ne(ids[i], r->a.peer);
  }
  ck_assert_int_eq(msock_wg_set_allowed_ips(r->a.wg, NULL, 0), MSOCK_OK);
  msock_node_key k = {{2}};
  ck_assert_int_eq(msock_wg_peer_add(r->a.wg, &k, NULL, &id), MSOCK_OK);
  ck_assert_uint_eq(id, r->a.peer);
  for (uint32_t i = 0; i < 300; i += 2) {
    msock_wg_peer_remove(r->a.wg, ids[i]);
  }
  for (uint32_t i = 0; i < 300; i++) {
    msock_node_key gone = {{1, (uint8_t)i, (uint8_t)(i >> 8)}};
    ck_assert_uint_eq(msock_wg_peer_find(r->a.wg, &gone), i % 2 ? ids[i] : MSOCK_WG_PEER_NONE);
  }
  rig_free(r);
}
END_TEST

START_TEST(another_private_key_ends_everything) {
  rig *r = rig_connected(NULL);
  testing_rng rng;
  const msock_env env = testing_env(&rng, 99);
  msock_node_private key;
  msock_node_private_generate(&env, &key);
  msock_wg_set_private_key(r->a.wg, &key);
  ck_assert(!rig_has_session(r, &r->a));
  ck_assert_uint_eq(r->a.wg->index.used, 0);
  const msock_node_key pub = msock_node_private_public(&key);
  msock_wg_peer_remove(r->b.wg, r->b.peer);
  r->a.pub = pub;
  rig_end_knows(&r->b, &r->a, NULL);
  rig_at(r, r->now + 5 * MSOCK_SEC);
  ck_assert(!rig_send(r, &r->a, 1));
  rig_settle(r);
  ck_assert_uint_eq(r->b.plain, 1);
  rig_free(r);
}
END_TEST

START_TEST(status_counts_what_was_authentic) {
  rig *r = rig_connected(NULL);
  msock_wg_peer_status st;
  msock_wg_peer_status_get(r->b.wg, r->now, r->b.peer, &st);
  ck_assert_uint_eq(st.rx_packets, 2); /* initiation, keepalive */
  ck_assert_uint_eq(st.rx_bytes, 148 + 32);
  ck_assert_uint_eq(st.tx_bytes, 92);
  ck_assert_uint_eq(st.last_handshake_wall_us, r->wall);
  ck_assert(st.has_session && !st.handshake_pending);
  rig_send(r, &r->a, 1);
  rig_msg m = rig_take(&r->a);
  m.b[20] ^= 1;
  rig_deliver(r, &r->a, &m);
  msock_wg_peer_status_get(r->b.wg, r->now, r->b.peer, &st);
  ck_assert_uint_eq(st.rx_packets, 2);
  ck_assert_int_eq(msock_wg_peer_status_get(r->b.wg, r->now, 55, &st), MSOCK_ERR_UNKNOWN);
  rig_free(r);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, session_with_and_without_psk, 0, 2);
  tcase_add_test(tc, initiator_without_data_sends_a_keepalive);
  tcase_add_test(tc, psk_must_match);
  tcase_add_test(tc, malformed_messages_cost_no_dh);
  tcase_add_test(tc, bad_mac1_costs_no_dh_and_no_memory);
  tcase_add_test(tc, unknown_static_key_costs_one_dh_and_is_silent);
  tcase_add_test(tc, replayed_initiation_is_dropped_also_after_erasure);
  tcase_add_loop_test(tc, two_initiations_within_20_ms_get_one_response, 0, 2);
  tcase_add_loop_test(tc, simultaneous_initiations_converge, 0, 3);
  tcase_add_test(tc, keys_that_the_peer_still_uses_outlive_a_handshake);
  tcase_add_test(tc, crossed_sessions_outlive_a_handshake);
  tcase_add_test(tc, response_to_a_replaced_handshake_is_dropped);
  tcase_add_test(tc, forged_response_does_not_end_the_handshake);
  tcase_add_test(tc, indices_are_unique_and_end_with_their_session);
  tcase_add_test(tc, each_handshake_has_another_index);
  tcase_add_test(tc, three_sessions_open_and_only_current_seals);
  tcase_add_test(tc, counter_limit_for_send_and_receive);
  tcase_add_test(tc, forged_counter_does_not_move_the_window);
  tcase_add_test(tc, padding_and_trimming);
  tcase_add_test(tc, inner_length_must_fit);
  tcase_add_test(tc, inner_source_must_belong_to_the_peer);
  tcase_add_test(tc, swap_of_routes_takes_effect_at_once);
  tcase_add_test(tc, staged_packets_do_not_go_to_the_old_owner);
  tcase_add_test(tc, sources_change_and_nothing_else_does);
  tcase_add_test(tc, reordering_over_the_whole_window);
  tcase_add_test(tc, wall_clock_going_back_does_not_matter);
  tcase_add_test(tc, wall_clock_going_back_spoils_no_new_record);
  tcase_add_test(tc, zero_shared_secret_aborts_at_the_responder);
  tcase_add_test(tc, zero_shared_secret_aborts_at_the_initiator);
  tcase_add_test(tc, at_most_eight_dh_messages_in_a_call);
  tcase_add_test(tc, batch_of_several_peers);
  tcase_add_test(tc, no_room_is_counted_and_harmless);
  tcase_add_test(tc, staged_oldest_go_first);
  tcase_add_test(tc, peers_come_and_go);
  tcase_add_test(tc, another_private_key_ends_everything);
  tcase_add_test(tc, status_counts_what_was_authentic);
  return testing_main("wg_engine", tc);
}
