/* Disco packets: what opens and what does not, keys that must be refused, nonces. */
#include <stdlib.h>
#include <string.h>

#include "base/disco_look.h"
#include "crypto/wipe.h"
#include "disco/disco.h"
#include "tests/unit/testing.h"

/* Two nodes with the keys that they share. */
typedef struct pair {
  testing_rng rng;
  msock_env env;
  msock_disco_identity a, b;
  msock_disco_shared ab, ba; /* as a and as b have computed it */
} pair;

static void pair_init(pair *p, uint64_t seed) {
  p->env = testing_env(&p->rng, seed);
  msock_disco_identity_generate(&p->env, &p->a);
  msock_disco_identity_generate(&p->env, &p->b);
  ck_assert_int_eq(msock_disco_shared_init(&p->ab, &p->a, &p->b.key), MSOCK_OK);
  ck_assert_int_eq(msock_disco_shared_init(&p->ba, &p->b, &p->a.key), MSOCK_OK);
}

static bool all_zero(const void *p, size_t len) {
  const uint8_t *b = p;
  uint8_t any = 0;
  for (size_t i = 0; i < len; i++) {
    any |= b[i];
  }
  return any == 0;
}

START_TEST(both_ends_compute_the_same_key_and_wipe_it) {
  pair p;
  pair_init(&p, 1);
  ck_assert(msock_ct_equal(&p.ab, &p.ba, sizeof p.ab));
  const msock_disco_identity again = msock_disco_identity_of(&p.a.secret);
  ck_assert(msock_disco_key_equal(&again.key, &p.a.key));
  msock_disco_shared_wipe(&p.ab);
  msock_disco_identity_wipe(&p.a);
  ck_assert(all_zero(&p.ab, sizeof p.ab));
  ck_assert(all_zero(&p.a, sizeof p.a));
}
END_TEST

START_TEST(a_packet_opens_at_its_receiver) {
  pair p;
  pair_init(&p, 2);
  uint8_t msg[300], packet[sizeof msg + MSOCK_DISCO_OVERHEAD + 1], got[sizeof msg];
  memset(msg, 0x5a, sizeof msg);
  for (size_t len = 0; len <= sizeof msg; len++) {
    const size_t sealed = len + MSOCK_DISCO_OVERHEAD;
    msock_disco_key sender;
    memset(packet, 0xee, sizeof packet);
    ck_assert_int_eq(msock_disco_seal(&p.a, &p.ab, &p.env, msg, len, packet, sealed - 1),
                     MSOCK_ERR_NOBUF);
    ck_assert_uint_eq(packet[0], 0xee); /* untouched */
    ck_assert_int_eq(msock_disco_seal(&p.a, &p.ab, &p.env, msg, len, packet, sealed),
                     (ptrdiff_t)sealed);
    ck_assert_uint_eq(packet[sealed], 0xee);
    ck_assert(msock_disco_sender(packet, sealed, &sender));
    ck_assert(msock_disco_key_equal(&sender, &p.a.key));
    ck_assert_int_eq(msock_disco_open(&p.ba, packet, sealed, got, len), (ptrdiff_t)len);
    ck_assert_mem_eq(got, msg, len);
    if (len > 0) {
      ck_assert_int_eq(msock_disco_open(&p.ba, packet, sealed, got, len - 1), MSOCK_ERR_NOBUF);
    }
  }
  ck_assert_int_eq(msock_disco_seal(&p.a, &p.ab, &p.env, msg, SIZE_MAX, packet, sizeof packet),
                   MSOCK_ERR_NOBUF);
  ck_assert_int_eq(msock_disco_seal(&p.a, &p.ab, &p.env, msg, 0, packet, 0), MSOCK_ERR_NOBUF);
}
END_TEST

START_TEST(every_altered_bit_but_the_senders_key_is_seen) {
  pair p;
  pair_init(&p, 3);
  const uint8_t msg[32] = {MSOCK_DISCO_PONG};
  uint8_t packet[sizeof msg + MSOCK_DISCO_OVERHEAD], got[sizeof msg];

  ck_assert_int_gt(msock_disco_seal(&p.a, &p.ab, &p.env, msg, sizeof msg, packet, sizeof packet),
                   0);
  for (size_t i = 0; i < sizeof packet * 8; i++) {
    const size_t at = i / 8;
    packet[at] ^= (uint8_t)(1u << i % 8);
    const ptrdiff_t n = msock_disco_open(&p.ba, packet, sizeof packet, got, sizeof got);
    if (at < MSOCK_DISCO_MAGIC_LEN) {
      ck_assert_int_eq(n, MSOCK_ERR_UNKNOWN);
    } else if (at < MSOCK_DISCO_ROUTE_MIN) { /* it chooses the shared key, the caller's part */
      ck_assert_int_eq(n, sizeof msg);
    } else {
      ck_assert_int_eq(n, MSOCK_ERR_AUTH);
    }
    packet[at] ^= (uint8_t)(1u << i % 8);
  }
  ck_assert_int_eq(msock_disco_open(&p.ba, packet, sizeof packet, got, sizeof got), sizeof msg);
}
END_TEST

START_TEST(cut_packets) {
  pair p;
  pair_init(&p, 4);
  const uint8_t msg[2] = {MSOCK_DISCO_PING};
  uint8_t packet[sizeof msg + MSOCK_DISCO_OVERHEAD], got[sizeof msg];

  ck_assert_int_gt(msock_disco_seal(&p.a, &p.ab, &p.env, msg, sizeof msg, packet, sizeof packet),
                   0);
  for (size_t len = 0; len < sizeof packet; len++) {
    msock_disco_key sender = {{0x77}};
    uint8_t *cut = malloc(len); /* of that size: a read past the end is seen */
    memcpy(cut, packet, len);
    ck_assert_int_eq(msock_disco_open(&p.ba, cut, len, got, sizeof got),
                     len < MSOCK_DISCO_MAGIC_LEN  ? MSOCK_ERR_UNKNOWN
                     : len < MSOCK_DISCO_OVERHEAD ? MSOCK_ERR_SHORT
                                                  : MSOCK_ERR_AUTH);
    ck_assert_int_eq(msock_disco_sender(cut, len, &sender), len >= MSOCK_DISCO_LOOK_MIN);
    if (len < MSOCK_DISCO_LOOK_MIN) {
      ck_assert_uint_eq(sender.b[0], 0x77);
    }
    free(cut);
  }
}
END_TEST

START_TEST(a_stranger_opens_nothing) {
  pair p, other;
  pair_init(&p, 5);
  pair_init(&other, 6);
  const uint8_t msg[14] = {MSOCK_DISCO_PING};
  uint8_t packet[sizeof msg + MSOCK_DISCO_OVERHEAD], got[sizeof msg];
  msock_disco_shared s;

  ck_assert_int_gt(msock_disco_seal(&p.a, &p.ab, &p.env, msg, sizeof msg, packet, sizeof packet),
                   0);
  ck_assert_int_eq(msock_disco_shared_init(&s, &other.a, &p.a.key), MSOCK_OK);
  ck_assert_int_eq(msock_disco_open(&s, packet, sizeof packet, got, sizeof got), MSOCK_ERR_AUTH);
  ck_assert_int_eq(msock_disco_open(&other.ab, packet, sizeof packet, got, sizeof got),
                   MSOCK_ERR_AUTH);
}
END_TEST

/* Points of small order of Curve25519, and their non-canonical forms (RFC 7748 section 6.1). */
static const char *const low_order[] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

/* closes: DISCO-06 */
START_TEST(keys_of_low_order_are_refused) {
  pair p;
  msock_disco_key bad;
  pair_init(&p, 7);
  testing_unhex(low_order[_i], bad.b, sizeof bad.b);
  ck_assert_int_eq(msock_disco_shared_init(&p.ab, &p.a, &bad), MSOCK_ERR_AUTH);
  ck_assert(all_zero(&p.ab, sizeof p.ab)); /* nothing of the former key stays */
}
END_TEST

/* closes: DISCO-07 */
START_TEST(our_own_key_is_refused) {
  pair p;
  pair_init(&p, 8);
  ck_assert_int_eq(msock_disco_shared_init(&p.ab, &p.a, &p.a.key), MSOCK_ERR_AUTH);
  ck_assert(all_zero(&p.ab, sizeof p.ab));
}
END_TEST

/* part of DISCO-24 (our own rotation: packets under the old pair no longer open) */
START_TEST(after_a_new_key_old_packets_are_refused) {
  pair p;
  pair_init(&p, 9);
  const uint8_t msg[14] = {MSOCK_DISCO_PING};
  uint8_t packet[sizeof msg + MSOCK_DISCO_OVERHEAD], got[sizeof msg];
  ck_assert_int_gt(msock_disco_seal(&p.a, &p.ab, &p.env, msg, sizeof msg, packet, sizeof packet),
                   0);
  msock_disco_identity_generate(&p.env, &p.b);
  ck_assert_int_eq(msock_disco_shared_init(&p.ba, &p.b, &p.a.key), MSOCK_OK);
  ck_assert_int_eq(msock_disco_open(&p.ba, packet, sizeof packet, got, sizeof got), MSOCK_ERR_AUTH);
}
END_TEST

/* part of DISCO-11 (the envelope's part: a ping of 1472 bytes opens, the pong has 110) */
START_TEST(padded_pings_and_their_pong) {
  pair p;
  pair_init(&p, 10);
  const uint16_t padding = 1472 - 124;
  msock_disco_ping ping = {.has_node_key = true, .node_key = {{1}}, .padding = padding}, got;
  msock_disco_pong pong = {.src = {.ip = msock_ip_v4(192, 0, 2, 1), .port = 1}};
  uint8_t msg[1472], packet[1472], opened[1472];

  const ptrdiff_t n = msock_disco_encode_ping(&ping, msg, sizeof msg);
  ck_assert_int_eq(msock_disco_seal(&p.a, &p.ab, &p.env, msg, (size_t)n, packet, sizeof packet),
                   sizeof packet);
  const ptrdiff_t m = msock_disco_open(&p.ba, packet, sizeof packet, opened, sizeof opened);
  ck_assert_int_eq(msock_disco_decode_ping(opened, (size_t)m, &got), MSOCK_OK);
  ck_assert_uint_eq(got.padding, padding);
  const ptrdiff_t k = msock_disco_encode_pong(&pong, msg, sizeof msg);
  ck_assert_int_eq(msock_disco_seal(&p.b, &p.ba, &p.env, msg, (size_t)k, packet, sizeof packet),
                   110);
}
END_TEST

enum { SENDS = 1000000 };

static int by_bytes(const void *a, const void *b) {
  return memcmp(a, b, MSOCK_BOX_NONCE_LEN);
}

/* part of DISCO-10 (that pings carry our key is the path engine's) */
START_TEST(a_million_pings_have_124_bytes_and_nonces_of_their_own) {
  pair p;
  pair_init(&p, 11);
  const msock_disco_ping ping = {.has_node_key = true, .node_key = {{1}}};
  uint8_t msg[MSOCK_DISCO_PING_LEN], packet[124];
  uint8_t *nonces = malloc((size_t)SENDS * MSOCK_BOX_NONCE_LEN);

  ck_assert_ptr_nonnull(nonces);
  ck_assert_int_eq(msock_disco_encode_ping(&ping, msg, sizeof msg), sizeof msg);
  for (size_t i = 0; i < SENDS; i++) {
    if (msock_disco_seal(&p.a, &p.ab, &p.env, msg, sizeof msg, packet, sizeof packet) !=
        sizeof packet) {
      ck_abort_msg("send %zu", i);
    }
    memcpy(nonces + i * MSOCK_BOX_NONCE_LEN, packet + MSOCK_DISCO_ROUTE_MIN, MSOCK_BOX_NONCE_LEN);
  }
  qsort(nonces, SENDS, MSOCK_BOX_NONCE_LEN, by_bytes);
  for (size_t i = 1; i < SENDS; i++) {
    if (by_bytes(nonces + (i - 1) * MSOCK_BOX_NONCE_LEN, nonces + i * MSOCK_BOX_NONCE_LEN) == 0) {
      ck_abort_msg("a nonce twice");
    }
  }
  free(nonces);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, both_ends_compute_the_same_key_and_wipe_it);
  tcase_add_test(tc, a_packet_opens_at_its_receiver);
  tcase_add_test(tc, every_altered_bit_but_the_senders_key_is_seen);
  tcase_add_test(tc, cut_packets);
  tcase_add_test(tc, a_stranger_opens_nothing);
  tcase_add_loop_test(tc, keys_of_low_order_are_refused, 0, sizeof low_order / sizeof low_order[0]);
  tcase_add_test(tc, our_own_key_is_refused);
  tcase_add_test(tc, after_a_new_key_old_packets_are_refused);
  tcase_add_test(tc, padded_pings_and_their_pong);
  tcase_add_test(tc, a_million_pings_have_124_bytes_and_nonces_of_their_own);
  return testing_main("disco_envelope", tc);
}
