#include "tests/unit/io_testing.h"

#include <signal.h>
#include <string.h>

#include "tests/unit/testing.h"

static struct {
  char order[16];
  size_t n;
  bool done;
  msock_loop *loop;
  msock_loop_timer a, b, c, d;
  uint64_t fired_us;
} w;

static void note(char c) {
  ck_assert_uint_lt(w.n, sizeof w.order - 1);
  w.order[w.n++] = c;
}

static void on_timer(void *ctx, uint64_t now_us) {
  const char *name = ctx;
  note(name[0]);
  w.fired_us = now_us;
  w.done = name[0] == 'd';
}

static void setup(void) {
  memset(&w, 0, sizeof w);
  w.loop = msock_loop_new(NULL);
  ck_assert_ptr_nonnull(w.loop);
}

static void teardown(void) {
  msock_loop_free(w.loop);
}

START_TEST(timers_fire_by_deadline_and_equal_ones_in_order) {
  const uint64_t now_us = msock_loop_now_us();
  msock_loop_timer_init(&w.a, on_timer, (void *)"a");
  msock_loop_timer_init(&w.b, on_timer, (void *)"b");
  msock_loop_timer_init(&w.c, on_timer, (void *)"c");
  msock_loop_timer_init(&w.d, on_timer, (void *)"d");
  msock_loop_set_deadline(w.loop, &w.d, now_us + 3000);
  msock_loop_set_deadline(w.loop, &w.b, now_us + 2000);
  msock_loop_set_deadline(w.loop, &w.c, now_us + 2000);
  msock_loop_set_deadline(w.loop, &w.a, now_us + 9000000);
  ck_assert_uint_eq(msock_loop_next_deadline(w.loop), now_us + 2000);
  msock_loop_set_deadline(w.loop, &w.a, now_us + 1000); /* moved to the front */
  ck_assert_uint_eq(msock_loop_next_deadline(w.loop), now_us + 1000);
  ck_assert(io_test_run(w.loop, &w.done, IO_TEST_DEADLINE_US));
  ck_assert_str_eq(w.order, "abcd");
  ck_assert_uint_ge(w.fired_us, now_us + 3000); /* never early */
  ck_assert_uint_eq(msock_loop_next_deadline(w.loop), MSOCK_NEVER);
}
END_TEST

static void cancel_b_and_again(void *ctx, uint64_t now_us) {
  (void)ctx;
  note('a');
  msock_loop_set_deadline(w.loop, &w.b, MSOCK_NEVER); /* due in this very turn */
  if (w.n < 3) {
    msock_loop_set_deadline(w.loop, &w.a, now_us);
  }
}

START_TEST(a_timer_may_cancel_a_due_one_and_rearm_itself) {
  const uint64_t now_us = msock_loop_now_us();
  msock_loop_timer_init(&w.a, cancel_b_and_again, NULL);
  msock_loop_timer_init(&w.b, on_timer, (void *)"b");
  msock_loop_timer_init(&w.d, on_timer, (void *)"d");
  msock_loop_set_deadline(w.loop, &w.a, now_us);
  msock_loop_set_deadline(w.loop, &w.b, now_us);
  msock_loop_set_deadline(w.loop, &w.d, now_us + 2000);
  ck_assert(io_test_run(w.loop, &w.done, IO_TEST_DEADLINE_US));
  ck_assert_str_eq(w.order, "aaad");
}
END_TEST

static msock_loop_fd *watch;
static int pair[2];

static void on_fd(void *ctx, bool readable, bool writable) {
  char c;
  (void)ctx;
  ck_assert(readable && !writable);
  ck_assert_int_eq(read(pair[0], &c, 1), 1);
  note(c);
  w.done = c == 'z';
  if (w.done) {
    msock_loop_fd_free(watch); /* inside its own callback */
    close(pair[0]);
  }
}

static void on_hook(void *ctx, uint64_t now_us) {
  (void)ctx;
  (void)now_us;
  if (w.n > 0 && w.order[w.n - 1] != 'h') {
    note('h');
  }
}

START_TEST(descriptors_then_hooks) {
  msock_loop_hook hook;
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  msock_loop_hook_add(w.loop, &hook, on_hook, NULL);
  watch = msock_loop_fd_new(w.loop, pair[0], on_fd, NULL);
  msock_loop_fd_want(watch, true, false);
  ck_assert_int_eq(write(pair[1], "y", 1), 1);
  msock_loop_turn(w.loop, true);
  ck_assert_str_eq(w.order, "yh"); /* the hook ran in the same turn */
  ck_assert_int_eq(write(pair[1], "z", 1), 1);
  ck_assert(io_test_run(w.loop, &w.done, IO_TEST_DEADLINE_US));
  ck_assert_str_eq(w.order, "yhzh");
  msock_loop_hook_remove(&hook);
  close(pair[1]);
}
END_TEST

static void on_signal(void *ctx, int signo) {
  (void)ctx;
  note(signo == SIGUSR1 ? 's' : '?');
  w.done = true;
}

START_TEST(signals_arrive_as_callbacks) {
  ck_assert_int_eq(msock_loop_on_signal(w.loop, SIGUSR1, on_signal, NULL), MSOCK_OK);
  raise(SIGUSR1);
  ck_assert(io_test_run(w.loop, &w.done, IO_TEST_DEADLINE_US));
  ck_assert_str_eq(w.order, "s");
}
END_TEST

START_TEST(suspend_is_a_growing_gap) {
  msock_suspend s = {0};
  uint64_t slept_us = 0;
  ck_assert(msock_suspend_check(&s, 100 * MSOCK_SEC, 90 * MSOCK_SEC, &slept_us));
  ck_assert_uint_eq(slept_us, 10 * MSOCK_SEC);
  ck_assert(!msock_suspend_check(&s, 200 * MSOCK_SEC, 190 * MSOCK_SEC, &slept_us));
  /* one microsecond under the bound, then the bound */
  ck_assert(!msock_suspend_check(&s, 300 * MSOCK_SEC + MSOCK_SUSPEND_MIN_US - 1, 290 * MSOCK_SEC,
                                 &slept_us));
  ck_assert(
      msock_suspend_check(&s, 300 * MSOCK_SEC + MSOCK_SUSPEND_MIN_US, 290 * MSOCK_SEC, &slept_us));
  ck_assert_uint_eq(slept_us, MSOCK_SUSPEND_MIN_US);
}
END_TEST

START_TEST(env_random_is_not_constant) {
  const msock_env env = msock_loop_env(w.loop);
  uint8_t a[32] = {0}, b[32] = {0};
  env.random(env.ctx, a, sizeof a);
  env.random(env.ctx, b, sizeof b);
  ck_assert_int_ne(memcmp(a, b, sizeof a), 0);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, timers_fire_by_deadline_and_equal_ones_in_order);
  tcase_add_test(tc, a_timer_may_cancel_a_due_one_and_rearm_itself);
  tcase_add_test(tc, descriptors_then_hooks);
  tcase_add_test(tc, signals_arrive_as_callbacks);
  tcase_add_test(tc, suspend_is_a_growing_gap);
  tcase_add_test(tc, env_random_is_not_constant);
  return testing_main("io_loop", tc);
}
