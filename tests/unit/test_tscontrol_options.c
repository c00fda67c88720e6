/* The command line of tscontrol and its state file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/x25519.h"
#include "tests/unit/testing.h"
#include "tscontrol/options.h"
#include "tscontrol/state.h"

static char dir[32];
static msock_tscontrol_options o;
static char why[MSOCK_TSCONTROL_WHY_MAX];

static void setup(void) {
  strcpy(dir, "/tmp/tsnode-test-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
  ck_assert_int_eq(chdir(dir), 0);
}

static void teardown(void) {
  char command[64];
  msock_tscontrol_options_clear(&o);
  snprintf(command, sizeof command, "rm -r %s", dir);
  ck_assert_int_eq(system(command), 0);
}

static void write_file(const char *name, const char *text, unsigned mode) {
  FILE *f = fopen(name, "w");
  ck_assert_ptr_nonnull(f);
  fputs(text, f);
  fclose(f);
  ck_assert_int_eq(chmod(name, mode), 0);
}

/* Parses a line of words. */
static msock_exit parse(const char *line) {
  static char copy[512];
  char *argv[24], *rest = NULL;
  int argc = 0;
  msock_tscontrol_options_clear(&o);
  snprintf(copy, sizeof copy, "%s", line);
  for (char *w = strtok_r(copy, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) {
    argv[argc++] = w;
  }
  return msock_tscontrol_options_parse(argc, argv, &o, why);
}

START_TEST(defaults_are_loopback_open_and_in_memory) {
  ck_assert_int_eq(parse(""), MSOCK_EXIT_OK);
  ck_assert(msock_ip_is_loopback(&o.listen.ip));
  ck_assert_uint_eq(o.listen.port, 8080);
  ck_assert_ptr_null(o.state);
  ck_assert_ptr_null(o.policy);
  ck_assert_uint_eq(o.n_auth_keys, 0);
  ck_assert_int_eq(o.relay_kind, MSOCK_TSCONTROL_RELAY_OWN);
  ck_assert(msock_ip_is_loopback(&o.relay.ip));
  ck_assert_uint_eq(o.relay.port, 0);
  ck_assert_str_eq(o.domain, "demo.example");
}
END_TEST

START_TEST(auth_keys_by_comma_by_repetition_and_from_a_file) {
  write_file("keys", "file-key-1\n\n  file-key-2\r\n", 0600);
  ck_assert_int_eq(parse("--auth-key=first-key,second-key --domain a.b --auth-key third-key "
                         "-auth-key=file:keys --auth-key first-key"),
                   MSOCK_EXIT_OK);
  static const char *const want[] = {"first-key", "second-key", "third-key", "file-key-1",
                                     "file-key-2"};
  ck_assert_uint_eq(o.n_auth_keys, 5);
  for (size_t i = 0; i < 5; i++) {
    ck_assert_str_eq(o.auth_keys[i], want[i]);
  }
}
END_TEST

START_TEST(one_relay_by_flag) {
  ck_assert_int_eq(parse("--derp derp.example:8443:0 --derp-insecure-for-tests "
                         "--derp-cert-name other.example"),
                   MSOCK_EXIT_OK);
  ck_assert_int_eq(o.relay_kind, MSOCK_TSCONTROL_RELAY_MAP);
  const msock_derp_node *n = &o.derp_map.regions[0].nodes[0];
  ck_assert_str_eq(n->host_name, "derp.example");
  ck_assert_uint_eq(n->derp_port, 8443);
  ck_assert_uint_eq(n->stun_port, 0);
  ck_assert_int_eq(n->v4, MSOCK_DERP_FAMILY_RESOLVE);
  ck_assert(n->insecure_for_tests);
  ck_assert_str_eq(n->cert_name, "other.example");
  ck_assert_int_eq(parse("--derp [2001:db8::1]:443"), MSOCK_EXIT_OK);
  n = &o.derp_map.regions[0].nodes[0];
  ck_assert_str_eq(n->host_name, "2001:db8::1");
  ck_assert_uint_eq(n->stun_port, 3478);
  ck_assert_int_eq(n->v4, MSOCK_DERP_FAMILY_OFF);
  ck_assert_int_eq(n->v6, MSOCK_DERP_FAMILY_LITERAL);
}
END_TEST

START_TEST(files_of_policy_and_derp_map) {
  write_file("policy.json",
             "[{\"SrcIPs\":[\"*\"],\"DstPorts\":[{\"IP\":\"*\",\"Ports\":"
             "{\"First\":1,\"Last\":2}}]}]",
             0644);
  write_file("derp.yaml",
             "regions:\n  900:\n    regionid: 900\n    regioncode: lab\n"
             "    nodes:\n      - name: 900a\n        regionid: 900\n"
             "        hostname: derp.example\n",
             0644);
  ck_assert_msg(parse("--policy policy.json --derp-map derp.yaml") == MSOCK_EXIT_OK, "%s", why);
  ck_assert_int_eq(strncmp(o.policy, "{\"base\":[{", 10), 0);
  ck_assert_uint_eq(o.derp_map.n_regions, 1);
  ck_assert_str_eq(o.derp_map.regions[0].nodes[0].host_name, "derp.example");
}
END_TEST

static const struct {
  const char *line;
  msock_exit code;
  const char *why;
} wrong[] = {
    {"--lissten=1", MSOCK_EXIT_USAGE, "did you mean --listen?"},
    {"serve", MSOCK_EXIT_USAGE, "only flags"},
    {"--listen 8080", MSOCK_EXIT_USAGE, "ADDRESS:PORT"},
    {"--listen localhost:80", MSOCK_EXIT_USAGE, "ADDRESS:PORT"},
    {"--listen 0.0.0.0:80", MSOCK_EXIT_USAGE, "--relay ADDRESS:PORT"},
    {"--relay 0.0.0.0:80", MSOCK_EXIT_USAGE, "unspecified"},
    {"--relay nonsense", MSOCK_EXIT_USAGE, "or none"},
    {"--relay 127.0.0.1:1 --derp a:1", MSOCK_EXIT_USAGE, "exclude"},
    {"--derp a:1 --derp-map b", MSOCK_EXIT_USAGE, "exclude"},
    {"--derp-insecure-for-tests", MSOCK_EXIT_USAGE, "goes with --derp"},
    {"--derp a:1 --relay-name x", MSOCK_EXIT_USAGE, "our own relay"},
    {"--derp nonsense", MSOCK_EXIT_USAGE, "HOST:PORT"},
    {"--derp a:0", MSOCK_EXIT_USAGE, "HOST:PORT"},
    {"--derp a:1:99999", MSOCK_EXIT_USAGE, "HOST:PORT"},
    {"--derp [::1:443", MSOCK_EXIT_USAGE, "HOST:PORT"},
    {"--derp :443", MSOCK_EXIT_USAGE, "HOST:PORT"},
    {"--auth-key short", MSOCK_EXIT_USAGE, "at least 8"},
    {"--auth-key ,", MSOCK_EXIT_CONFIG, "no key"},
    {"--auth-key file:nothere", MSOCK_EXIT_CONFIG, "nothere"},
    {"--auth-key", MSOCK_EXIT_USAGE, "needs a value"},
    {"--policy nothere", MSOCK_EXIT_CONFIG, "nothere"},
    {"--derp-map nothere", MSOCK_EXIT_CONFIG, "nothere"},
    {"--relay-cert nothere", MSOCK_EXIT_CONFIG, "nothere"},
    {"--domain Upper", MSOCK_EXIT_USAGE, "lower case"},
    {"--domain a..b", MSOCK_EXIT_USAGE, "lower case"},
    {"--domain -a", MSOCK_EXIT_USAGE, "lower case"},
    {"--domain a.", MSOCK_EXIT_USAGE, "lower case"},
    {"--domain a\"b", MSOCK_EXIT_USAGE, "lower case"},
    {"--fake-peers 20001", MSOCK_EXIT_USAGE, "20000"},
    {"--log-level loud", MSOCK_EXIT_USAGE, "debug"},
};

START_TEST(what_is_wrong_is_said) {
  ck_assert_int_eq(parse(wrong[_i].line), wrong[_i].code);
  ck_assert_msg(strstr(why, wrong[_i].why) != NULL, "%s: %s", wrong[_i].line, why);
}
END_TEST

START_TEST(any_address_is_fine_with_a_relay_that_nodes_can_find) {
  ck_assert_int_eq(parse("--listen 0.0.0.0:80 --relay 192.0.2.1:3340"), MSOCK_EXIT_OK);
  ck_assert_int_eq(parse("--listen 0.0.0.0:80 --relay none"), MSOCK_EXIT_OK);
  ck_assert_int_eq(o.relay_kind, MSOCK_TSCONTROL_RELAY_NONE);
  ck_assert_int_eq(parse("--listen [::]:80 --derp derp.example:443"), MSOCK_EXIT_OK);
  ck_assert_int_eq(parse("--help"), MSOCK_EXIT_OK);
  ck_assert(o.help);
  ck_assert_int_eq(parse("--version --log-level x"), MSOCK_EXIT_OK);
  ck_assert(o.version);
}
END_TEST

/* --- state file --- */

START_TEST(the_state_file_keeps_key_and_nodes) {
  static const char nodes_text[] =
      "{\"version\":1,\"last_id\":7,\"nodes\":[{\"id\":7,\"name\":\"a\",\"created_us\":1,"
      "\"machine\":"
      "\"mkey:1111111111111111111111111111111111111111111111111111111111111111\",\"key\":"
      "\"nodekey:2222222222222222222222222222222222222222222222222222222222222222\"}]}";
  testing_rng rng;
  const msock_env env = testing_env(&rng, 4);
  const msock_derp_map none = {0};
  const msock_tailnet_cfg cfg = {.domain = "x", .derp_map = &none};
  msock_machine_private key, got;
  char *nodes = NULL, reason[MSOCK_FILE_WHY_MAX] = "", path[64];
  int lock = -1, second = -1;
  struct stat st;
  snprintf(path, sizeof path, _i ? "state.json" : "%s/state.json", dir);
  msock_machine_private_generate(&env, &key);
  ck_assert_int_eq(msock_tscontrol_state_load(path, &lock, &got, &nodes, reason),
                   MSOCK_ERR_UNKNOWN); /* there is none yet */
  msock_tailnet *t = msock_tailnet_new(&env, &cfg);
  ck_assert_int_eq(msock_tailnet_load(t, nodes_text), MSOCK_OK);
  ck_assert_int_eq(msock_tscontrol_state_save(path, &key, t, reason), MSOCK_OK);
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert_uint_eq(st.st_mode & 0777, 0600);
  ck_assert_int_eq(msock_tscontrol_state_load(path, &second, &got, &nodes, reason),
                   MSOCK_ERR_AGAIN); /* one process at a time */
  msock_file_unlock(lock);
  ck_assert_int_eq(msock_tscontrol_state_load(path, &lock, &got, &nodes, reason), MSOCK_OK);
  ck_assert_mem_eq(&key, &got, sizeof key);
  msock_tailnet *again = msock_tailnet_new(&env, &cfg);
  ck_assert_int_eq(msock_tailnet_load(again, nodes), MSOCK_OK);
  ck_assert_uint_eq(msock_tailnet_count(again), 1);
  msock_file_unlock(lock);
  free(nodes);
  msock_tailnet_free(t);
  msock_tailnet_free(again);
}
END_TEST

static const struct {
  const char *text;
  unsigned mode;
  msock_err want;
} bad_files[] = {
    {"", 0600, MSOCK_ERR_INVALID},
    {"{}", 0600, MSOCK_ERR_INVALID},
    {"{\"private_key\":\"privkey:00\",\"tailnet\":{}}", 0600, MSOCK_ERR_INVALID},
    {"{\"private_key\":7,\"tailnet\":{}}", 0600, MSOCK_ERR_INVALID},
    {"{}", 0644, MSOCK_ERR_DENIED},
};

START_TEST(files_that_are_no_state_are_refused) {
  msock_machine_private got;
  char *nodes = NULL, reason[MSOCK_FILE_WHY_MAX] = "";
  int lock = -1;
  write_file("s", bad_files[_i].text, bad_files[_i].mode);
  ck_assert_int_eq(msock_tscontrol_state_load("s", &lock, &got, &nodes, reason),
                   bad_files[_i].want);
  ck_assert_ptr_null(nodes);
  ck_assert_str_ne(reason, "");
  msock_file_unlock(lock);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, defaults_are_loopback_open_and_in_memory);
  tcase_add_test(tc, auth_keys_by_comma_by_repetition_and_from_a_file);
  tcase_add_test(tc, one_relay_by_flag);
  tcase_add_test(tc, files_of_policy_and_derp_map);
  tcase_add_loop_test(tc, what_is_wrong_is_said, 0, (int)(sizeof wrong / sizeof *wrong));
  tcase_add_test(tc, any_address_is_fine_with_a_relay_that_nodes_can_find);
  tcase_add_loop_test(tc, the_state_file_keeps_key_and_nodes, 0, 2);
  tcase_add_loop_test(tc, files_that_are_no_state_are_refused, 0,
                      (int)(sizeof bad_files / sizeof *bad_files));
  return testing_main("tscontrol_options", tc);
}
