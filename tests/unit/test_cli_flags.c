#include <stdio.h>
#include <string.h>

#include "tests/unit/testing.h"
#include "tsnode/cli.h"

typedef struct got {
  bool json, peers, peers_given, routes;
  const char *key, *name;
  uint64_t timeout_us, count, verbose;
} got;

/* Parses a line of words. */
static msock_exit parse(got *g, const char *line, msock_words *words, bool *help, char *why) {
  static char copy[256];
  char *argv[16];
  int argc = 0;
  const msock_flag flags[] = {
      {"json", MSOCK_FLAG_BOOL, &g->json, NULL, "json", 0},
      {"peers", MSOCK_FLAG_BOOL, &g->peers, &g->peers_given, "peers", 0},
      {"auth-key", MSOCK_FLAG_TEXT, &g->key, NULL, "key", 0},
      {"hostname", MSOCK_FLAG_TEXT, &g->name, NULL, "name", 0},
      {"accept-routes", MSOCK_FLAG_BOOL, &g->routes, NULL, "routes", 0},
      {"timeout", MSOCK_FLAG_DURATION, &g->timeout_us, NULL, "time", 0},
      {"c", MSOCK_FLAG_NUMBER, &g->count, NULL, "count", 100},
      {"verbose", MSOCK_FLAG_LEVEL, &g->verbose, NULL, "level", 2},
      {"no-logs-no-support", MSOCK_FLAG_BOOL, NULL, NULL, NULL, 0},
      {"ssh", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
  };
  *g = (got){.peers = true};
  snprintf(copy, sizeof copy, "%s", line);
  for (char *w = strtok(copy, " "); w; w = strtok(NULL, " ")) {
    argv[argc++] = w;
  }
  return msock_flags_parse(flags, sizeof flags / sizeof *flags, argc, argv, words, help, why);
}

START_TEST(forms_of_go_flags) {
  got g;
  msock_words w;
  bool help;
  char why[MSOCK_FLAGS_WHY_MAX];
  ck_assert_int_eq(parse(&g,
                         "--json -peers=false peer1 --auth-key k1 --hostname=a=b -c 5 "
                         "--timeout=1m30s --no-logs-no-support -- -x",
                         &w, &help, why),
                   MSOCK_EXIT_OK);
  ck_assert(g.json && !g.peers && g.peers_given && !help);
  ck_assert_str_eq(g.key, "k1");
  ck_assert_str_eq(g.name, "a=b");
  ck_assert_uint_eq(g.count, 5);
  ck_assert_uint_eq(g.timeout_us, 90000000);
  ck_assert_uint_eq(w.n, 2);
  ck_assert_str_eq(w.at[0], "peer1");
  ck_assert_str_eq(w.at[1], "-x");

  ck_assert_int_eq(parse(&g, "--json=true peer", &w, &help, why), MSOCK_EXIT_OK);
  ck_assert(g.json && !g.peers_given && g.peers);
  ck_assert_int_eq(parse(&g, "--hostname=", &w, &help, why), MSOCK_EXIT_OK);
  ck_assert_str_eq(g.name, ""); /* given, and empty */
  ck_assert_int_eq(parse(&g, "-", &w, &help, why), MSOCK_EXIT_OK);
  ck_assert_str_eq(w.at[0], "-");
}
END_TEST

START_TEST(levels_with_and_without_a_number) {
  got g;
  msock_words w;
  bool help;
  char why[MSOCK_FLAGS_WHY_MAX];
  ck_assert_int_eq(parse(&g, "--verbose", &w, &help, why), MSOCK_EXIT_OK);
  ck_assert_uint_eq(g.verbose, 1);
  ck_assert_int_eq(parse(&g, "--verbose=2", &w, &help, why), MSOCK_EXIT_OK);
  ck_assert_uint_eq(g.verbose, 2);
  ck_assert_int_eq(parse(&g, "--verbose 0 --json", &w, &help, why), MSOCK_EXIT_OK);
  ck_assert_uint_eq(g.verbose, 0);
  ck_assert(g.json);
  ck_assert_int_eq(parse(&g, "--verbose peer", &w, &help, why), MSOCK_EXIT_OK);
  ck_assert_uint_eq(g.verbose, 1);
  ck_assert_uint_eq(w.n, 1);
}
END_TEST

static const struct {
  const char *line;
  msock_exit want;
  const char *why;
} refused[] = {
    {"--accept-route", MSOCK_EXIT_USAGE, "did you mean --accept-routes?"},
    {"--host-name=x", MSOCK_EXIT_USAGE, "did you mean --hostname?"},
    {"--zebra", MSOCK_EXIT_USAGE, "unknown flag --zebra; nothing was changed"},
    {"--", MSOCK_EXIT_OK, ""},
    {"--auth-key", MSOCK_EXIT_USAGE, "--auth-key needs a value"},
    {"--timeout", MSOCK_EXIT_USAGE, "needs a value"},
    {"--timeout 10", MSOCK_EXIT_USAGE, "duration"},
    {"--json=maybe", MSOCK_EXIT_USAGE, "true or false"},
    {"-c 101", MSOCK_EXIT_USAGE, "0 to 100"},
    {"-c -1", MSOCK_EXIT_USAGE, "0 to 100"},
    {"-c 99999999999999999999999", MSOCK_EXIT_USAGE, "0 to 100"},
    {"-c x", MSOCK_EXIT_USAGE, "0 to 100"},
    {"-c=", MSOCK_EXIT_USAGE, "0 to 100"},
    {"--verbose=3", MSOCK_EXIT_USAGE, "0 to 2"},
    {"--ssh", MSOCK_EXIT_NOT_BUILT, "--ssh is not in this build"},
    {"--ssh=true", MSOCK_EXIT_NOT_BUILT, "not in this build"},
    {"--ssh=false", MSOCK_EXIT_OK, ""},
    {"a b c d e", MSOCK_EXIT_USAGE, "too many"},
};
START_TEST(refusals_name_the_flag) {
  got g;
  msock_words w;
  bool help;
  char why[MSOCK_FLAGS_WHY_MAX];
  ck_assert_msg(parse(&g, refused[_i].line, &w, &help, why) == refused[_i].want, "%s: %s",
                refused[_i].line, why);
  ck_assert_msg(strstr(why, refused[_i].why) != NULL, "%s: %s", refused[_i].line, why);
}
END_TEST

/* closes: CTRL-06 : the half of the command line: a value is never quoted back */
START_TEST(values_are_not_quoted_back) {
  got g;
  msock_words w;
  bool help;
  char why[MSOCK_FLAGS_WHY_MAX];
  ck_assert_int_eq(parse(&g, "--auth-kye=SECRET", &w, &help, why), MSOCK_EXIT_USAGE);
  ck_assert_ptr_null(strstr(why, "SECRET"));
  ck_assert_ptr_nonnull(strstr(why, "--auth-key?"));
  ck_assert_int_eq(parse(&g, "--timeout=SECRET", &w, &help, why), MSOCK_EXIT_USAGE);
  ck_assert_ptr_null(strstr(why, "SECRET"));
}
END_TEST

START_TEST(help_stops) {
  got g;
  msock_words w;
  bool help = false;
  char why[MSOCK_FLAGS_WHY_MAX];
  ck_assert_int_eq(parse(&g, "--help --zebra", &w, &help, why), MSOCK_EXIT_OK);
  ck_assert(help);
  ck_assert_int_eq(parse(&g, "-h", &w, &help, why), MSOCK_EXIT_OK);
  ck_assert(help);
}
END_TEST

START_TEST(nearest_name) {
  static const char *const names[] = {"status", "set", "logout", "login"};
  ck_assert_str_eq(msock_nearest("stauts", names, 4, sizeof *names), "status");
  ck_assert_str_eq(msock_nearest("logn", names, 4, sizeof *names), "login");
  ck_assert_ptr_null(msock_nearest("completely-else", names, 4, sizeof *names));
}
END_TEST

START_TEST(nodes_are_found_by_all_their_names) {
  json_object *status = json_tokener_parse(
      "{\"Self\":{\"HostName\":\"me\",\"DNSName\":\"me.tail.example.\",\"TailscaleIPs\":[\"100.64."
      "0.1\",\"fd7a::1\"]},\"Peer\":{\"nodekey:1\":{\"HostName\":\"Box "
      "A\",\"DNSName\":\"box-a.tail."
      "example.\",\"TailscaleIPs\":[\"100.64.0.2\"]},\"nodekey:2\":{\"HostName\":\"x\","
      "\"TailscaleIPs\":[\"100.64.0.3\",\"fd7a::3\"]}}}");
  char name[MSOCK_CLI_NAME_MAX];
  static const struct {
    const char *text, *ip;
  } find[] = {
      {"100.64.0.2", "100.64.0.2"},
      {"box-a", "100.64.0.2"},
      {"BOX-A.tail.example", "100.64.0.2"},
      {"box-a.tail.example.", "100.64.0.2"},
      {"box a", "100.64.0.2"},
      {"x", "100.64.0.3"},
      {"FD7A::3", "100.64.0.3"},
      {"me", "100.64.0.1"},
      {"box", NULL},
      {"box-a.tail", NULL},
      {"", NULL},
      {".", NULL},
  };
  for (size_t i = 0; i < sizeof find / sizeof *find; i++) {
    json_object *node = msock_cli_find_node(status, find[i].text);
    ck_assert_msg((node != NULL) == (find[i].ip != NULL), "\"%s\"", find[i].text);
    if (node != NULL) {
      ck_assert_str_eq(msock_cli_node_ip(node, 4), find[i].ip);
    }
  }
  json_object *self = msock_cli_get(status, "Self");
  ck_assert_str_eq(msock_cli_node_ip(self, 6), "fd7a::1");
  ck_assert_str_eq(msock_cli_node_name(self, name), "me");
  json_object_put(status);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, forms_of_go_flags);
  tcase_add_test(tc, levels_with_and_without_a_number);
  tcase_add_loop_test(tc, refusals_name_the_flag, 0, (int)(sizeof refused / sizeof *refused));
  tcase_add_test(tc, values_are_not_quoted_back);
  tcase_add_test(tc, help_stops);
  tcase_add_test(tc, nearest_name);
  tcase_add_test(tc, nodes_are_found_by_all_their_names);
  return testing_main("cli_flags", tc);
}
