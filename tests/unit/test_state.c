#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/x25519.h"
#include "io/file.h"
#include "node/state.h"
#include "tests/unit/testing.h"

static char dir[64], path[96];

static void make_dir(void) {
  snprintf(dir, sizeof dir, "/tmp/tsnode-state-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
  snprintf(path, sizeof path, "%s/" MSOCK_STATE_FILE, dir);
}

static void remove_dir(void) {
  DIR *d = opendir(dir);
  ck_assert_ptr_nonnull(d);
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    unlinkat(dirfd(d), e->d_name, 0);
  }
  closedir(d);
  rmdir(dir);
}

static void put_file(const char *text, mode_t mode) {
  FILE *f = fopen(path, "w");
  ck_assert_ptr_nonnull(f);
  fputs(text, f);
  fclose(f);
  chmod(path, mode);
}

static void get_file(char *out, size_t cap) {
  FILE *f = fopen(path, "r");
  ck_assert_ptr_nonnull(f);
  const size_t n = fread(out, 1, cap - 1, f);
  out[n] = '\0';
  fclose(f);
}

static void sample(msock_state *s, uint64_t seed) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, seed);
  msock_state_fresh(s, &env);
  snprintf(s->server_url, sizeof s->server_url, "https://hs.example");
  memset(s->server_key.b, 0x11, sizeof s->server_key.b);
  msock_node_private_generate(&env, &s->node_private);
  msock_node_private_generate(&env, &s->old_node_private);
  snprintf(s->node_id, sizeof s->node_id, "n12");
  ck_assert_int_eq(msock_prefix_parse("100.64.0.1/32", &s->self_addrs[0]), MSOCK_OK);
  s->n_self_addrs = 1;
  snprintf(s->prefs.hostname, sizeof s->prefs.hostname, "box");
}

/* closes: CTRL-02 */
START_TEST(saved_0600_and_read_back_equal) {
  msock_state s, got;
  char why[MSOCK_WHY_MAX];
  struct stat st;
  bool fresh = true;
  make_dir();
  sample(&s, 1);
  ck_assert_msg(msock_state_save(path, &s, why) == MSOCK_OK, "%s", why);
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert_uint_eq(st.st_mode & 07777, 0600);
  testing_rng rng;
  const msock_env env = testing_env(&rng, 2);
  ck_assert_msg(msock_state_load(path, &env, &got, &fresh, why) == MSOCK_OK, "%s", why);
  ck_assert(!fresh);
  ck_assert_mem_eq(&s, &got, sizeof s);
  remove_dir();
}
END_TEST

START_TEST(absent_file_is_a_fresh_start_and_writes_nothing) {
  msock_state a, b;
  char why[MSOCK_WHY_MAX];
  bool fresh = false;
  testing_rng rng;
  const msock_env env = testing_env(&rng, 3);
  make_dir();
  ck_assert_int_eq(msock_state_load(path, &env, &a, &fresh, why), MSOCK_OK);
  ck_assert(fresh);
  ck_assert(!msock_state_has_node_key(&a));
  ck_assert_uint_eq(strlen(a.log_id), 64);
  ck_assert_int_eq(msock_state_load(path, &env, &b, NULL, why), MSOCK_OK);
  ck_assert_mem_ne(&a.machine_private, &b.machine_private, sizeof a.machine_private);
  ck_assert_int_ne(access(path, F_OK), 0);
  remove_dir();
}
END_TEST

/* closes: CTRL-03 */
START_TEST(file_open_to_others_is_refused) {
  static const mode_t modes[] = {0640, 0620, 0610, 0604, 0602, 0601};
  msock_state s, got = {.n_self_addrs = 99};
  char why[MSOCK_WHY_MAX];
  testing_rng rng;
  const msock_env env = testing_env(&rng, 4);
  make_dir();
  sample(&s, 4);
  ck_assert_int_eq(msock_state_save(path, &s, why), MSOCK_OK);
  chmod(path, modes[_i]);
  ck_assert_int_eq(msock_state_load(path, &env, &got, NULL, why), MSOCK_ERR_DENIED);
  ck_assert_msg(strstr(why, path) && strstr(why, "chmod"), "%s", why);
  ck_assert_uint_eq(got.n_self_addrs, 99); /* untouched */
  remove_dir();
}
END_TEST

/* closes: CTRL-02 : a crash between write and rename keeps the old keys */
START_TEST(crash_before_rename_keeps_the_old_keys) {
  msock_state old, next, got;
  char why[MSOCK_WHY_MAX];
  size_t len;
  testing_rng rng;
  const msock_env env = testing_env(&rng, 5);
  make_dir();
  sample(&old, 5);
  sample(&next, 6);
  ck_assert_int_eq(msock_state_save(path, &old, why), MSOCK_OK);
  char *text = msock_state_print(&next, &len);
  ck_assert_int_eq(msock_file_stage(dir, MSOCK_STATE_FILE, text, len, why), MSOCK_OK);
  free(text); /* here the machine loses power */
  ck_assert_int_eq(msock_state_load(path, &env, &got, NULL, why), MSOCK_OK);
  ck_assert_mem_eq(&got.machine_private, &old.machine_private, sizeof got.machine_private);
  /* The next save is not disturbed by what was left. */
  ck_assert_msg(msock_state_save(path, &next, why) == MSOCK_OK, "%s", why);
  ck_assert_int_eq(msock_state_load(path, &env, &got, NULL, why), MSOCK_OK);
  ck_assert_mem_eq(&got.machine_private, &next.machine_private, sizeof got.machine_private);
  remove_dir();
}
END_TEST

/* closes: CTRL-04 : the storage half: what is being tried is stored only by a save after success */
START_TEST(old_and_new_node_keys_are_told_apart) {
  msock_state s, got;
  char why[MSOCK_WHY_MAX];
  size_t len;
  sample(&s, 7);
  char *text = msock_state_print(&s, &len);
  ck_assert_int_eq(msock_state_parse(text, len, &got, why), MSOCK_OK);
  ck_assert_mem_eq(&got.node_private, &s.node_private, sizeof s.node_private);
  ck_assert_mem_eq(&got.old_node_private, &s.old_node_private, sizeof s.old_node_private);
  free(text);

  msock_state_forget_login(&s);
  ck_assert(!msock_state_has_node_key(&s));
  text = msock_state_print(&s, &len);
  ck_assert_int_eq(msock_state_parse(text, len, &got, why), MSOCK_OK);
  ck_assert(!msock_state_has_node_key(&got));
  ck_assert_mem_eq(&got.machine_private, &s.machine_private, sizeof s.machine_private);
  ck_assert_mem_eq(&got.server_key, &s.server_key, sizeof s.server_key);
  ck_assert_str_eq(got.prefs.hostname, "box");
  free(text);
}
END_TEST

/* closes: CTRL-05 : there is no place for a disco key: the file holds these names and no others */
START_TEST(file_holds_only_the_agreed_names) {
  static const char *const names[] = {
      "version",          "server_url", "server_key", "machine_private", "node_private",
      "old_node_private", "log_id",     "node_id",    "self_addrs",      "prefs"};
  msock_state s;
  size_t len;
  sample(&s, 8);
  char *text = msock_state_print(&s, &len);
  json_object *doc = json_tokener_parse(text);
  json_object_object_foreach(doc, key, v) {
    bool known = false;
    (void)v;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
      known = known || strcmp(names[i], key) == 0;
    }
    ck_assert_msg(known, "unexpected name %s", key);
  }
  ck_assert_int_eq(json_object_object_length(doc), (int)(sizeof names / sizeof *names));
  json_object_put(doc);
  free(text);
}
END_TEST

/* The keys of the text are gone from it after parsing: the caller's copy is safe to free. */
START_TEST(parse_takes_the_keys_out_of_the_text) {
  msock_state s, got;
  char why[MSOCK_WHY_MAX], key[MSOCK_KEY_TEXT_MAX];
  size_t len;
  sample(&s, 9);
  char *text = msock_state_print(&s, &len);
  ck_assert_ptr_nonnull(strstr(text, msock_machine_private_text(&s.machine_private, key)));
  ck_assert_int_eq(msock_state_parse(text, len, &got, why), MSOCK_OK);
  ck_assert_ptr_null(strstr(text, key));
  ck_assert_ptr_null(strstr(text, msock_node_private_text(&s.node_private, key)));
  free(text);
  msock_state_clear(&got);
  static const msock_state zero;
  ck_assert_mem_eq(&got, &zero, sizeof got);
}
END_TEST

#define KEY64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define REST "\"machine_private\":\"privkey:" KEY64 "\",\"log_id\":\"" KEY64 "\""
static const struct {
  const char *name, *text;
  msock_err want;
  const char *why;
} files[] = {
    {"minimal", "{\"version\":1," REST "}", MSOCK_OK, ""},
    {"edited by hand: a newline at the end", "{\"version\":1," REST "}\n", MSOCK_OK, ""},
    {"empty", "", MSOCK_ERR_INVALID, "too early"},
    {"cut", "{\"version\":1,\"machine_priv", MSOCK_ERR_INVALID, "too early"},
    {"garbage",
     "\x7f"
     "ELF",
     MSOCK_ERR_INVALID, "not JSON"},
    {"two documents", "{\"version\":1," REST "}{}", MSOCK_ERR_INVALID, "not JSON"},
    {"list", "[]", MSOCK_ERR_INVALID, "version"},
    {"no version", "{" REST "}", MSOCK_ERR_INVALID, "version"},
    {"newer", "{\"version\":2," REST "}", MSOCK_ERR_UNKNOWN, "version 2"},
    {"never existed", "{\"version\":0," REST "}", MSOCK_ERR_INVALID, "version 0"},
    {"no machine key", "{\"version\":1,\"log_id\":\"" KEY64 "\"}", MSOCK_ERR_INVALID,
     "machine_private"},
    {"short machine key", "{\"version\":1,\"machine_private\":\"privkey:00\"}", MSOCK_ERR_INVALID,
     "machine_private"},
    {"wrong prefix", "{\"version\":1,\"machine_private\":\"nodekey:" KEY64 "\"}", MSOCK_ERR_INVALID,
     "machine_private"},
    {"bad node key", "{\"version\":1,\"node_private\":\"x\"," REST "}", MSOCK_ERR_INVALID,
     "node_private"},
    {"bad server key", "{\"version\":1,\"server_key\":\"mkey:1\"," REST "}", MSOCK_ERR_INVALID,
     "server_key"},
    {"bad address", "{\"version\":1,\"self_addrs\":[\"x\"]," REST "}", MSOCK_ERR_INVALID,
     "self_addrs"},
    {"bad prefs", "{\"version\":1,\"prefs\":{\"Hostname\":\"a b\"}," REST "}", MSOCK_ERR_INVALID,
     "DNS label"},
};
START_TEST(damaged_files_are_named_and_left_alone) {
  msock_state got = {.n_self_addrs = 99};
  char why[MSOCK_WHY_MAX], left[4096];
  testing_rng rng;
  const msock_env env = testing_env(&rng, 10);
  make_dir();
  put_file(files[_i].text, 0600);
  const msock_err e = msock_state_load(path, &env, &got, NULL, why);
  ck_assert_msg(e == files[_i].want, "%s: %d %s", files[_i].name, e, why);
  if (e != MSOCK_OK) {
    ck_assert_msg(strstr(why, path) != NULL, "%s: %s", files[_i].name, why);
    ck_assert_msg(strstr(why, files[_i].why) != NULL, "%s: %s", files[_i].name, why);
    ck_assert_uint_eq(got.n_self_addrs, 99);
  }
  get_file(left, sizeof left);
  ck_assert_str_eq(left, files[_i].text);
  remove_dir();
}
END_TEST

START_TEST(failed_save_leaves_the_old_file) {
  msock_state s, got;
  char why[MSOCK_WHY_MAX] = "", gone[160];
  testing_rng rng;
  const msock_env env = testing_env(&rng, 11);
  make_dir();
  sample(&s, 11);
  ck_assert_int_eq(msock_state_save(path, &s, why), MSOCK_OK);
  /* A directory in the way of the temporary file fails for root too. */
  snprintf(gone, sizeof gone, "%s/.%s.tmp", dir, MSOCK_STATE_FILE);
  ck_assert_int_eq(mkdir(gone, 0700), 0);
  msock_state changed = s;
  changed.prefs.shields_up = true;
  ck_assert_int_ne(msock_state_save(path, &changed, why), MSOCK_OK);
  ck_assert_uint_gt(strlen(why), 0);
  ck_assert_int_eq(msock_state_load(path, &env, &got, NULL, why), MSOCK_OK);
  ck_assert_mem_eq(&s, &got, sizeof s);
  rmdir(gone);
  snprintf(gone, sizeof gone, "%s/absent/%s", dir, MSOCK_STATE_FILE);
  ck_assert_int_ne(msock_state_save(gone, &s, why), MSOCK_OK);
  remove_dir();
}
END_TEST

START_TEST(one_daemon_per_directory) {
  msock_state_lock a, b;
  char why[MSOCK_WHY_MAX];
  make_dir();
  ck_assert_msg(msock_state_take_lock(path, &a, why) == MSOCK_OK, "%s", why);
  ck_assert_int_eq(msock_state_take_lock(path, &b, why), MSOCK_ERR_AGAIN);
  ck_assert_uint_gt(strlen(why), 0);
  msock_state_unlock(&a);
  ck_assert_int_eq(msock_state_take_lock(path, &b, why), MSOCK_OK);
  msock_state_unlock(&b);
  msock_state_unlock(&b); /* twice is fine */
  remove_dir();
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, saved_0600_and_read_back_equal);
  tcase_add_test(tc, absent_file_is_a_fresh_start_and_writes_nothing);
  tcase_add_loop_test(tc, file_open_to_others_is_refused, 0, 6);
  tcase_add_test(tc, crash_before_rename_keeps_the_old_keys);
  tcase_add_test(tc, old_and_new_node_keys_are_told_apart);
  tcase_add_test(tc, file_holds_only_the_agreed_names);
  tcase_add_test(tc, parse_takes_the_keys_out_of_the_text);
  tcase_add_loop_test(tc, damaged_files_are_named_and_left_alone, 0,
                      (int)(sizeof files / sizeof *files));
  tcase_add_test(tc, failed_save_leaves_the_old_file);
  tcase_add_test(tc, one_daemon_per_directory);
  return testing_main("state", tc);
}
