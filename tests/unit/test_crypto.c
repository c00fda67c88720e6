#include <string.h>

#include "crypto/aead.h"
#include "crypto/blake2s.h"
#include "crypto/box.h"
#include "crypto/noise.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "tests/unit/testing.h"

/* closes: PERF-02 */
START_TEST(the_provider_passes_its_self_test_and_a_broken_one_does_not) {
  ck_assert(msock_aead_self_test(msock_aead_get()));
  msock_aead broken = msock_aead_sodium;
  broken.open = broken.xopen; /* reads 24 bytes of nonce: another cipher */
  ck_assert(!msock_aead_self_test(&broken));
}
END_TEST

START_TEST(blake2s_keyed_differs_from_hmac) {
  uint8_t key[32], mac[16], hmac[32], out[32];
  for (unsigned i = 0; i < sizeof key; i++) {
    key[i] = (uint8_t)i;
  }
  msock_blake2s_mac16(mac, key, sizeof key, &(msock_bytes){"x", 1}, 1);
  msock_blake2s_hmac(hmac, key, sizeof key, &(msock_bytes){"x", 1}, 1);
  ck_assert_mem_ne(mac, hmac, sizeof mac);
  const msock_bytes split[] = {{"ab", 2}, {"", 0}, {"c", 1}};
  uint8_t whole[32];
  msock_blake2s(out, split, 3);
  msock_blake2s(whole, &(msock_bytes){"abc", 3}, 1);
  ck_assert_mem_eq(out, whole, sizeof out);
}
END_TEST

/* closes: CTRL-20 */
START_TEST(low_order_points_abort) {
  static const uint8_t zero[32];
  testing_rng rng;
  const msock_env env = testing_env(&rng, 3);
  uint8_t scalar[32], out[32];
  msock_noise n;
  msock_box_shared shared;
  msock_x25519_generate(&env, scalar);
  ck_assert_int_eq(msock_x25519(out, scalar, zero), MSOCK_ERR_AUTH);
  msock_noise_init(&n, "test");
  ck_assert_int_eq(msock_noise_mix_dh(&n, scalar, zero), MSOCK_ERR_AUTH);
  ck_assert_int_eq(msock_noise_mix_dh_chain(&n, scalar, zero), MSOCK_ERR_AUTH);
  ck_assert_int_eq(msock_box_precompute(&shared, zero, scalar), MSOCK_ERR_AUTH);
}
END_TEST

START_TEST(box_opens_only_what_was_sealed) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, 4);
  msock_node_private a, b;
  msock_node_private_generate(&env, &a);
  msock_node_private_generate(&env, &b);
  const msock_node_key pa = msock_node_private_public(&a), pb = msock_node_private_public(&b);
  msock_box_shared ab, ba;
  uint8_t sealed[5 + MSOCK_BOX_OVERHEAD], open[5];
  ck_assert_int_eq(msock_box_precompute(&ab, pb.b, a.b), MSOCK_OK);
  ck_assert_int_eq(msock_box_precompute(&ba, pa.b, b.b), MSOCK_OK);
  msock_box_seal(&ab, &env, (const uint8_t *)"hello", 5, sealed);
  ck_assert_int_eq(msock_box_open(&ba, sealed, sizeof sealed, open), MSOCK_OK);
  ck_assert_mem_eq(open, "hello", 5);
  sealed[30] ^= 1;
  ck_assert_int_eq(msock_box_open(&ba, sealed, sizeof sealed, open), MSOCK_ERR_AUTH);
  ck_assert_int_eq(msock_box_open(&ba, sealed, MSOCK_BOX_OVERHEAD - 1, open), MSOCK_ERR_SHORT);
}
END_TEST

START_TEST(noise_states_agree_and_a_failed_open_changes_nothing) {
  msock_noise a, b, before;
  uint8_t ct[5 + MSOCK_AEAD_TAG_LEN], pt[5], k1[32], k2[32], r1[32], r2[32];
  msock_noise_init(&a, "proto");
  msock_noise_init(&b, "proto");
  msock_noise_mix_key(&a, (const uint8_t *)"k", 1);
  msock_noise_mix_key(&b, (const uint8_t *)"k", 1);
  msock_noise_seal(&a, (const uint8_t *)"hello", 5, ct);
  before = b;
  ct[0] ^= 1;
  ck_assert_int_eq(msock_noise_open(&b, ct, sizeof ct, pt), MSOCK_ERR_AUTH);
  ck_assert_mem_eq(&before, &b, sizeof b);
  ct[0] ^= 1;
  ck_assert_int_eq(msock_noise_open(&b, ct, sizeof ct, pt), MSOCK_OK);
  ck_assert_mem_eq(pt, "hello", 5);
  msock_noise_split(&a, k1, k2);
  msock_noise_split(&b, r1, r2);
  ck_assert_mem_eq(k1, r1, 32);
  ck_assert_mem_eq(k2, r2, 32);
  ck_assert_mem_ne(k1, k2, 32);
}
END_TEST

START_TEST(wipe_and_compare) {
  uint8_t a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, zero[8] = {0};
  ck_assert(!msock_ct_equal(a, zero, sizeof a));
  msock_wipe(a, sizeof a);
  ck_assert(msock_ct_equal(a, zero, sizeof a));
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, the_provider_passes_its_self_test_and_a_broken_one_does_not);
  tcase_add_test(tc, blake2s_keyed_differs_from_hmac);
  tcase_add_test(tc, low_order_points_abort);
  tcase_add_test(tc, box_opens_only_what_was_sealed);
  tcase_add_test(tc, noise_states_agree_and_a_failed_open_changes_nothing);
  tcase_add_test(tc, wipe_and_compare);
  return testing_main("crypto", tc);
}
