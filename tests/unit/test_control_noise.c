/* Handshake and records by their borders; bytes of real peers are in vectors_control.c. */
#include <string.h>

#include "control/noise.h"
#include "crypto/x25519.h"
#include "tests/unit/testing.h"

typedef struct pair {
  msock_control_records client, server;
} pair;

static pair connect_pair(uint64_t seed) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, seed);
  msock_machine_private machine, server;
  msock_machine_key who;
  msock_control_initiator hs;
  uint8_t init[MSOCK_CONTROL_INITIATION_LEN], resp[MSOCK_CONTROL_RESPONSE_LEN], ce[32], se[32];
  uint16_t version = 0;
  pair p;
  msock_machine_private_generate(&env, &machine);
  msock_machine_private_generate(&env, &server);
  env.random(env.ctx, ce, 32);
  env.random(env.ctx, se, 32);
  const msock_machine_key server_public = msock_machine_private_public(&server);
  ck_assert_int_eq(msock_control_initiate(&hs, 138, &machine, &server_public, ce, init), MSOCK_OK);
  ck_assert_int_eq(msock_control_respond(&server, se, init, resp, &version, &who, &p.server),
                   MSOCK_OK);
  ck_assert_uint_eq(version, 138);
  const msock_machine_key machine_public = msock_machine_private_public(&machine);
  ck_assert(msock_machine_key_equal(&who, &machine_public));
  ck_assert_int_eq(msock_control_initiator_finish(&hs, resp, &p.client), MSOCK_OK);
  ck_assert_mem_eq(p.client.hash, p.server.hash, 32);
  return p;
}

/* closes: CTRL-18 */
START_TEST(nonces_are_big_endian) {
  static const uint8_t one[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  static const uint8_t big[12] = {0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
  uint8_t n[12];
  msock_control_nonce(1, n);
  ck_assert_mem_eq(n, one, 12);
  msock_control_nonce(UINT64_C(0x0102030405060708), n);
  ck_assert_mem_eq(n, big, 12);
}
END_TEST

/* closes: CTRL-21 */
START_TEST(record_sizes) {
  pair p = connect_pair(1);
  static uint8_t plain[4078], frame[4200], back[4200];
  ck_assert_int_eq(msock_control_record_seal(&p.client, plain, 4077, frame), 4096);
  ck_assert_int_eq(msock_control_record_size(&p.server, frame), 4096);
  ck_assert_int_eq(msock_control_record_open(&p.server, frame, 4096, back), 4077);
  ck_assert_int_eq(msock_control_record_seal(&p.client, plain, 0, frame), 19);
  ck_assert_int_eq(msock_control_record_open(&p.server, frame, 19, back), 0);
  ck_assert_int_eq(msock_control_record_seal(&p.client, plain, 4078, frame), MSOCK_ERR_CLOSED);
  const uint8_t big[3] = {4, 0x0f, 0xfe};
  ck_assert_int_eq(msock_control_record_size(&p.server, big), MSOCK_ERR_INVALID);
}
END_TEST

/* closes: CTRL-23 */
START_TEST(failed_open_poisons) {
  pair p = connect_pair(2);
  uint8_t frame[64], good[64], back[64];
  ck_assert_int_eq(msock_control_record_seal(&p.client, (const uint8_t *)"hello", 5, frame), 24);
  memcpy(good, frame, sizeof good);
  frame[10] ^= 1;
  ck_assert_int_eq(msock_control_record_open(&p.server, frame, 24, back), MSOCK_ERR_AUTH);
  ck_assert_int_eq(msock_control_record_open(&p.server, good, 24, back), MSOCK_ERR_CLOSED);
  ck_assert_int_eq(msock_control_record_size(&p.server, good), MSOCK_ERR_CLOSED);
  ck_assert_int_eq(msock_control_record_seal(&p.server, good, 5, back), MSOCK_ERR_CLOSED);
}
END_TEST

START_TEST(counter_is_never_used_up) {
  pair p = connect_pair(3);
  uint8_t frame[64];
  p.client.tx_n = UINT64_MAX - 1;
  ck_assert_int_gt(msock_control_record_seal(&p.client, frame, 1, frame + 20), 0);
  ck_assert_int_eq(msock_control_record_seal(&p.client, frame, 1, frame + 20), MSOCK_ERR_CLOSED);
}
END_TEST

/* closes: CTRL-20 */
START_TEST(all_zero_dh_aborts) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, 4);
  msock_machine_private machine;
  const msock_machine_key zero = {{0}};
  msock_control_initiator hs;
  uint8_t init[MSOCK_CONTROL_INITIATION_LEN], resp[MSOCK_CONTROL_RESPONSE_LEN] = {2, 0, 48};
  uint8_t e[32];
  msock_control_records r;
  msock_machine_private_generate(&env, &machine);
  env.random(env.ctx, e, 32);
  ck_assert_int_eq(msock_control_initiate(&hs, 138, &machine, &zero, e, init), MSOCK_ERR_AUTH);
  const msock_machine_key other = msock_machine_private_public(&machine);
  ck_assert_int_eq(msock_control_initiate(&hs, 138, &machine, &other, e, init), MSOCK_OK);
  ck_assert_int_eq(msock_control_initiator_finish(&hs, resp, &r), MSOCK_ERR_AUTH);
}
END_TEST

/* Every single flipped bit of both messages is refused. */
START_TEST(flipped_bits) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, 5);
  msock_machine_private machine, server;
  msock_machine_key who;
  msock_control_initiator hs, used;
  msock_control_records r;
  uint8_t init[MSOCK_CONTROL_INITIATION_LEN], resp[MSOCK_CONTROL_RESPONSE_LEN], out[51], e[32];
  uint16_t version;
  msock_machine_private_generate(&env, &machine);
  msock_machine_private_generate(&env, &server);
  env.random(env.ctx, e, 32);
  const msock_machine_key server_public = msock_machine_private_public(&server);
  ck_assert_int_eq(msock_control_initiate(&hs, 138, &machine, &server_public, e, init), MSOCK_OK);
  ck_assert_int_eq(msock_control_respond(&server, e, init, resp, &version, &who, &r), MSOCK_OK);
  for (size_t i = 0; i < sizeof init; i++) {
    init[i] ^= 1;
    ck_assert_msg(msock_control_respond(&server, e, init, out, &version, &who, &r) != MSOCK_OK,
                  "initiation byte %zu", i);
    init[i] ^= 1;
  }
  for (size_t i = 0; i < sizeof resp; i++) {
    used = hs;
    resp[i] ^= 0x80;
    ck_assert_msg(msock_control_initiator_finish(&used, resp, &r) != MSOCK_OK, "response byte %zu",
                  i);
    resp[i] ^= 0x80;
  }
  ck_assert_int_eq(msock_control_initiator_finish(&hs, resp, &r), MSOCK_OK);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, nonces_are_big_endian);
  tcase_add_test(tc, record_sizes);
  tcase_add_test(tc, failed_open_poisons);
  tcase_add_test(tc, counter_is_never_used_up);
  tcase_add_test(tc, all_zero_dh_aborts);
  tcase_add_test(tc, flipped_bits);
  return testing_main("control_noise", tc);
}
