/* The replay window against a set that remembers everything. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/testing.h"
#include "wg/messages.h"
#include "wg/replay.h"

/* closes: WG-33 */
START_TEST(window_is_8128_wide) {
  msock_wg_replay w = {0};
  ck_assert(msock_wg_replay_accept(&w, 100000));
  ck_assert(!msock_wg_replay_accept(&w, 100000 - 8129));
  ck_assert(msock_wg_replay_accept(&w, 100000 - 8128));
  ck_assert(!msock_wg_replay_accept(&w, 100000 - 8128));
  ck_assert(msock_wg_replay_accept(&w, 99999));
}
END_TEST

/* closes: WG-18 */
START_TEST(limit_is_exclusive) {
  msock_wg_replay w = {0};
  ck_assert(!msock_wg_replay_accept(&w, UINT64_MAX));
  ck_assert(!msock_wg_replay_accept(&w, MSOCK_WG_REJECT_AFTER_MESSAGES));
  ck_assert_uint_eq(w.last, 0);
  ck_assert(msock_wg_replay_accept(&w, 0));
  ck_assert(msock_wg_replay_accept(&w, MSOCK_WG_REJECT_AFTER_MESSAGES - 1));
}
END_TEST

/* Everything accepted is noted; the rule of the specification is asked again for each counter. */
#define SPACE (1u << 20)
START_TEST(agrees_with_a_set) {
  static uint8_t seen[SPACE];
  testing_rng rng;
  const msock_env env = testing_env(&rng, (uint64_t)_i);
  msock_wg_replay w = {0};
  uint64_t last = 0;
  memset(seen, 0, sizeof seen);
  for (int i = 0; i < 60000; i++) {
    const uint64_t forward = msock_env_uniform(&env, _i % 2 ? 40 : 4000);
    const uint64_t back = msock_env_uniform(&env, 3) ? msock_env_uniform(&env, 9000) : 0;
    uint64_t counter = last + forward;
    counter = counter > back ? counter - back : 0;
    if (counter >= SPACE) {
      break;
    }
    const bool want = !(last > counter && last - counter > 8128) && !seen[counter];
    ck_assert_msg(msock_wg_replay_accept(&w, counter) == want, "seed %d step %d", _i, i);
    if (want) {
      seen[counter] = 1;
      last = counter > last ? counter : last;
    }
  }
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, window_is_8128_wide);
  tcase_add_test(tc, limit_is_exclusive);
  tcase_add_loop_test(tc, agrees_with_a_set, 0, 8);
  return testing_main("wg_replay", tc);
}
