#include "io/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/testing.h"

static char dir[64], path[128], why[MSOCK_FILE_WHY_MAX];

static void setup(void) {
  strcpy(dir, "/tmp/tsnode-file-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
  snprintf(path, sizeof path, "%s/state", dir);
}

static void teardown(void) {
  char cmd[128];
  snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
  ck_assert_int_eq(system(cmd), 0);
}

static void expect_content(const char *want) {
  char *p = NULL;
  size_t len = 0;
  ck_assert_msg(msock_file_read(path, 100, true, &p, &len, why) == MSOCK_OK, "%s", why);
  ck_assert_str_eq(p, want);
  ck_assert_uint_eq(len, strlen(want));
  free(p);
}

/* closes: CTRL-02 */
START_TEST(created_0600_and_replaced) {
  struct stat st;
  umask(0); /* the mode must not depend on it */
  ck_assert_int_eq(msock_file_write(dir, "state", "one", 3, why), MSOCK_OK);
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert_uint_eq(st.st_mode & 07777, 0600);
  const ino_t before = st.st_ino;
  ck_assert_int_eq(msock_file_write(dir, "state", "two", 3, why), MSOCK_OK);
  expect_content("two");
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert_uint_ne(st.st_ino, before); /* another file took the name: never rewritten in place */
}
END_TEST

/* closes: CTRL-02 */
START_TEST(a_crash_before_the_rename_keeps_the_old_content) {
  ck_assert_int_eq(msock_file_write(dir, "state", "old keys", 8, why), MSOCK_OK);
  const pid_t pid = fork();
  if (pid == 0) { /* dies between write and rename */
    _exit(msock_file_stage(dir, "state", "new keys", 8, why) == MSOCK_OK ? 7 : 1);
  }
  int status = 0;
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  ck_assert_int_eq(WEXITSTATUS(status), 7);
  expect_content("old keys");
  /* what the crash left does not stop the next write */
  ck_assert_msg(msock_file_write(dir, "state", "next keys", 9, why) == MSOCK_OK, "%s", why);
  expect_content("next keys");
}
END_TEST

/* closes: CTRL-03 */
START_TEST(a_secret_file_open_to_others_is_refused) {
  static const struct {
    mode_t mode;
    msock_err want;
  } cases[] = {{0600, MSOCK_OK},         {0400, MSOCK_OK},         {0640, MSOCK_ERR_DENIED},
               {0604, MSOCK_ERR_DENIED}, {0610, MSOCK_ERR_DENIED}, {0602, MSOCK_ERR_DENIED},
               {0666, MSOCK_ERR_DENIED}};
  ck_assert_int_eq(msock_file_write(dir, "state", "key", 3, why), MSOCK_OK);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char *p = NULL;
    size_t len = 0;
    ck_assert_int_eq(chmod(path, cases[i].mode), 0);
    ck_assert_int_eq(msock_file_read(path, 100, true, &p, &len, why), cases[i].want);
    if (cases[i].want != MSOCK_OK) {
      ck_assert_ptr_nonnull(strstr(why, "chmod 600"));
      ck_assert_ptr_null(p);
    }
    free(p);
    ck_assert_int_eq(msock_file_read(path, 100, false, &p, &len, why), MSOCK_OK); /* no secret */
    free(p);
  }
}
END_TEST

START_TEST(reading_is_bounded_and_says_what_is_missing) {
  char *p = NULL;
  size_t len = 0;
  ck_assert_int_eq(msock_file_read(path, 3, true, &p, &len, why), MSOCK_ERR_UNKNOWN);
  ck_assert_ptr_nonnull(strstr(why, path));
  ck_assert_int_eq(msock_file_write(dir, "state", "1234", 4, why), MSOCK_OK);
  ck_assert_int_eq(msock_file_read(path, 3, true, &p, &len, why), MSOCK_ERR_NOBUF);
  ck_assert_int_eq(msock_file_read(path, 4, true, &p, &len, why), MSOCK_OK);
  free(p);
  ck_assert_int_eq(msock_file_read(dir, 100, false, &p, &len, why), MSOCK_ERR_DENIED);
}
END_TEST

START_TEST(a_link_in_the_way_is_not_followed) {
  char target[128], temp[128];
  struct stat st;
  snprintf(target, sizeof target, "%s/elsewhere", dir);
  snprintf(temp, sizeof temp, "%s/.state.tmp", dir);
  ck_assert_int_eq(symlink(target, temp), 0);
  ck_assert_int_eq(msock_file_write(dir, "state", "x", 1, why), MSOCK_OK);
  ck_assert_int_ne(stat(target, &st), 0);
  expect_content("x");
}
END_TEST

START_TEST(the_directory_is_made_and_checked) {
  char sub[128];
  struct stat st;
  snprintf(sub, sizeof sub, "%s/sub", dir);
  ck_assert_int_eq(msock_file_ensure_dir(sub, why), MSOCK_OK);
  ck_assert_int_eq(stat(sub, &st), 0);
  ck_assert_uint_eq(st.st_mode & 0777, 0700);
  ck_assert_int_eq(msock_file_ensure_dir(sub, why), MSOCK_OK);
  chmod(sub, 0750);
  ck_assert_int_eq(msock_file_ensure_dir(sub, why), MSOCK_ERR_DENIED);
  ck_assert_ptr_nonnull(strstr(why, "chmod 700"));
  ck_assert_int_eq(msock_file_write(dir, "plain", "", 0, why), MSOCK_OK);
  snprintf(sub, sizeof sub, "%s/plain", dir);
  ck_assert_int_eq(msock_file_ensure_dir(sub, why), MSOCK_ERR_DENIED);
}
END_TEST

START_TEST(one_daemon_per_directory) {
  char pid[32];
  int a = -1, b = -1;
  snprintf(path, sizeof path, "%s/lock", dir);
  ck_assert_int_eq(msock_file_lock(path, &a, why), MSOCK_OK);
  ck_assert_int_eq(msock_file_lock(path, &b, why), MSOCK_ERR_AGAIN);
  snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
  ck_assert_ptr_nonnull(strstr(why, pid));
  msock_file_unlock(a);
  ck_assert_int_eq(msock_file_lock(path, &b, why), MSOCK_OK);
  msock_file_unlock(b);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, created_0600_and_replaced);
  tcase_add_test(tc, a_crash_before_the_rename_keeps_the_old_content);
  tcase_add_test(tc, a_secret_file_open_to_others_is_refused);
  tcase_add_test(tc, reading_is_bounded_and_says_what_is_missing);
  tcase_add_test(tc, a_link_in_the_way_is_not_followed);
  tcase_add_test(tc, the_directory_is_made_and_checked);
  tcase_add_test(tc, one_daemon_per_directory);
  return testing_main("io_file", tc);
}
