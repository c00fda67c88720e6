/* Configuration as the daemon uses it: sources on disk, reload, preferences, secrets in files,
 * extra relays. And docs/config.md, which must hold a line for each setting. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/settings.h"
#include "tests/unit/testing.h"

static char path[64];

static void put(const char *text) {
  FILE *f = fopen(path, "w");
  ck_assert_ptr_nonnull(f);
  fputs(text, f);
  fclose(f);
}

static void setup(void) {
  snprintf(path, sizeof path, "/tmp/tsnode-settings-XXXXXX");
  const int fd = mkstemp(path);
  ck_assert_int_ge(fd, 0);
  close(fd);
}

static void teardown(void) {
  unlink(path);
}

static msock_settings *load(const char *text) {
  msock_config_report r = {0};
  put(text);
  msock_settings *s = msock_settings_new(&(msock_settings_sources){.file = path});
  ck_assert_int_eq(msock_settings_load(s, &r), MSOCK_OK);
  return s;
}

START_TEST(a_bad_file_keeps_what_is_in_force) {
  msock_settings *s = load("hostname: one\nport: 1\n");
  const msock_config_row *const *rows;
  msock_config_report r = {0};
  put("hostname: two\nno_such: 1\n");
  ck_assert_int_eq(msock_settings_load(s, &r), MSOCK_ERR_INVALID);
  ck_assert_uint_eq(r.n_errors, 1);
  ck_assert_str_eq(msock_settings_values(s)->hostname, "one");
  put("hostname: two\nport: 2\n");
  r = (msock_config_report){0};
  ck_assert_int_eq(msock_settings_load(s, &r), MSOCK_OK);
  ck_assert_uint_eq(msock_settings_changed(s, &rows), 2);
  ck_assert_str_eq(rows[0]->key, "hostname");
  ck_assert(rows[0]->reloadable);
  ck_assert_str_eq(rows[1]->key, "port");
  ck_assert(!rows[1]->reloadable);
  unlink(path);
  r = (msock_config_report){0};
  ck_assert_int_eq(msock_settings_load(s, &r), MSOCK_ERR_INVALID); /* it was asked for */
  ck_assert_str_eq(msock_settings_values(s)->hostname, "two");
  msock_settings_free(s);
}
END_TEST

START_TEST(a_usual_place_may_be_empty) {
  msock_config_report r = {0};
  const msock_settings_default defaults[] = {{"tun", "none", "without root"}};
  msock_settings *s = msock_settings_new(&(msock_settings_sources){.file = "/nowhere/tsnode.yaml",
                                                                   .file_is_optional = true,
                                                                   .defaults = defaults,
                                                                   .n_defaults = 1});
  char origin[MSOCK_CONFIG_ORIGIN_MAX];
  ck_assert_int_eq(msock_settings_load(s, &r), MSOCK_OK);
  ck_assert_str_eq(msock_settings_values(s)->tun, "none");
  ck_assert_str_eq(msock_config_origin(msock_settings_config(s), "tun", origin), "without root");
  msock_settings_free(s);
}
END_TEST

START_TEST(what_is_given_becomes_preferences) {
  msock_settings *s = load("login_server: https://hs.example/\naccept_routes: true\n"
                           "advertise_routes: [10.2.0.0/16, 10.1.0.0/16]\n"
                           "advertise_tags: [tag:a]\noperator: ann\n");
  char why[MSOCK_WHY_MAX];
  uint32_t bits = 0;
  msock_prefs p;
  msock_prefs_default(&p);
  snprintf(p.hostname, sizeof p.hostname, "kept");
  ck_assert_int_eq(msock_settings_to_prefs(s, false, false, &p, &bits, why), MSOCK_OK);
  ck_assert_str_eq(p.control_url, "https://hs.example");
  ck_assert_str_eq(p.hostname, "kept"); /* not written: the user's */
  ck_assert_str_eq(p.operator_user, "ann");
  ck_assert_str_eq(p.advertise_tags[0], "tag:a");
  ck_assert_uint_eq(p.n_advertise_routes, 2);
  ck_assert_uint_eq(p.advertise_routes[0].ip.b[1], 1); /* ascending */
  ck_assert(p.accept_routes && p.accept_dns && p.want_running);
  ck_assert_uint_eq(bits & MSOCK_PREF_HOSTNAME, 0);
  msock_settings_free(s);
}
END_TEST

/* A user's `down` and `logout` outlive a restart, unless `enabled` says otherwise. */
static const struct {
  const char *name, *text;
  bool has_login, logged_out, want;
} ups[] = {
    {"first start", "login_server: https://a.b\n", false, false, true},
    {"was down", "login_server: https://a.b\n", true, false, false},
    {"was logged out", "login_server: https://a.b\n", false, true, false},
    {"no server", "hostname: x\n", false, false, false},
    {"enabled", "enabled: true\n", true, false, true},
    {"disabled", "login_server: https://a.b\nenabled: false\n", false, false, false},
};

START_TEST(whether_it_comes_up) {
  msock_settings *s = load(ups[_i].text);
  char why[MSOCK_WHY_MAX];
  uint32_t bits = 0;
  msock_prefs p;
  msock_prefs_default(&p);
  p.logged_out = ups[_i].logged_out;
  ck_assert_int_eq(msock_settings_to_prefs(s, false, ups[_i].has_login, &p, &bits, why), MSOCK_OK);
  ck_assert_msg(p.want_running == ups[_i].want, "%s", ups[_i].name);
  msock_settings_free(s);
}
END_TEST

START_TEST(auth_key_comes_from_a_file) {
  char key[MSOCK_SETTINGS_KEY_MAX], why[MSOCK_WHY_MAX], key_path[96], text[256];
  snprintf(key_path, sizeof key_path, "%s.key", path);
  snprintf(text, sizeof text, "auth_key: file:%s\n", key_path);
  msock_settings *s = load(text);
  ck_assert_int_eq(msock_settings_auth_key(s, key, why), MSOCK_ERR_INVALID);
  ck_assert_ptr_nonnull(strstr(why, key_path));
  FILE *f = fopen(key_path, "w");
  fputs(" k-123 \nmore\n", f);
  fclose(f);
  ck_assert_int_eq(msock_settings_auth_key(s, key, why), MSOCK_OK);
  ck_assert_str_eq(key, "k-123");
  unlink(key_path);
  msock_settings_free(s);
}
END_TEST

START_TEST(extra_relays_are_merged) {
  char map_path[96], text[256];
  msock_config_report r = {0};
  msock_derp_node node = {.name = "1a", .region_id = 1, .host_name = "one.example"};
  msock_derp_region regions[2] = {{.id = 1, .code = "server", .nodes = &node, .n_nodes = 1},
                                  {.id = 9, .code = "nine"}};
  const msock_derp_map server = {regions, 2};
  msock_derp_map out = {0};
  snprintf(map_path, sizeof map_path, "%s.derp", path);
  snprintf(text, sizeof text, "derp_map_file: %s\n", map_path);
  msock_settings *s = load(text);
  ck_assert_int_ne(msock_settings_derp_map(s, &server, &out, &r), MSOCK_OK);
  FILE *f = fopen(map_path, "w");
  fputs("regions:\n", f);
  for (int id = 1; id <= 5; id += 4) {
    fprintf(f,
            "  %d:\n    regionid: %d\n    regioncode: mine\n    nodes:\n"
            "      - {name: %da, regionid: %d, hostname: r.example}\n",
            id, id, id, id);
  }
  fclose(f);
  ck_assert_int_eq(msock_settings_derp_map(s, &server, &out, &r), MSOCK_OK);
  ck_assert_uint_eq(out.n_regions, 3);
  ck_assert_uint_eq(out.regions[0].id, 1);
  ck_assert_str_eq(out.regions[0].code, "mine");
  ck_assert_uint_eq(out.regions[1].id, 5);
  ck_assert_uint_eq(out.regions[2].id, 9);
  msock_derp_map_clear(&out);
  unlink(map_path);
  msock_settings_free(s);
}
END_TEST

static const struct {
  const char *text;
  const char *said; /* NULL = taken without a word */
} built[] = {
    {"netfilter_mode: off\n", NULL},
    {"netfilter_mode: on\n", "firewall"},
    {"exit_node: x\n", "exit nodes"},
    {"advertise_exit_node: true\n", "exit nodes"},
    {"exit_node_allow_lan_access: true\n", "exit nodes"},
    {"https_proxy: http://p.example:1\n", "proxies"},
    {"tun: none\nadvertise_routes: [10.0.0.0/8]\n", "network interface"},
    {"advertise_routes: [10.0.0.0/8]\n", NULL},
};

START_TEST(what_is_not_built_is_refused) {
  msock_config_report r = {0};
  put(built[_i].text);
  msock_settings *s = msock_settings_new(&(msock_settings_sources){.file = path});
  const msock_err e = msock_settings_load(s, &r);
  ck_assert_int_eq(e, built[_i].said ? MSOCK_ERR_INVALID : MSOCK_OK);
  ck_assert(built[_i].said == NULL || strstr(r.problems[0].reason, built[_i].said) != NULL);
  msock_settings_free(s);
}
END_TEST

START_TEST(a_variable_for_others_is_only_a_warning) {
  static const char *const environment[] = {"HTTPS_PROXY=http://p.example:1", NULL};
  msock_config_report r = {0};
  msock_settings *s = msock_settings_new(&(msock_settings_sources){.environment = environment});
  ck_assert_int_eq(msock_settings_load(s, &r), MSOCK_OK);
  ck_assert_uint_eq(r.n, 1);
  ck_assert(r.problems[0].warning);
  msock_settings_free(s);
}
END_TEST

/* One line of the table in docs/config.md. */
static void doc_line(const msock_config_row *row, char *buf, size_t cap) {
  snprintf(buf, cap, "| `%s` | %s%s%s | %s | %s |", row->key, row->default_text ? "`" : "",
           row->default_text ? row->default_text : "", row->default_text ? "`" : "",
           row->reloadable ? "SIGHUP" : "restart", row->sentence);
}

START_TEST(document_has_every_setting) {
  char line[1024], *text = calloc(1, 65536);
  FILE *f = fopen(DOCS_DIR "/config.md", "r");
  ck_assert_ptr_nonnull(f);
  const size_t len = fread(text, 1, 65535, f);
  fclose(f);
  ck_assert_uint_lt(len, 65535);
  for (size_t i = 0; i < msock_tsnode_schema.n_rows; i++) {
    doc_line(&msock_tsnode_schema.rows[i], line, sizeof line);
    ck_assert_msg(strstr(text, line) != NULL, "docs/config.md lacks this line: %s", line);
  }
  for (size_t i = 0; i < msock_tsnode_schema.n_env_aliases; i++) {
    snprintf(line, sizeof line, "`%s`", msock_tsnode_schema.env_aliases[i].name);
    ck_assert_msg(strstr(text, line) != NULL, "docs/config.md lacks the variable %s", line);
  }
  free(text);
}
END_TEST

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--print") == 0) { /* the table for the document */
    for (size_t i = 0; i < msock_tsnode_schema.n_rows; i++) {
      char line[1024];
      doc_line(&msock_tsnode_schema.rows[i], line, sizeof line);
      puts(line);
    }
    return 0;
  }
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, a_bad_file_keeps_what_is_in_force);
  tcase_add_test(tc, a_usual_place_may_be_empty);
  tcase_add_test(tc, what_is_given_becomes_preferences);
  tcase_add_loop_test(tc, whether_it_comes_up, 0, (int)(sizeof ups / sizeof *ups));
  tcase_add_test(tc, auth_key_comes_from_a_file);
  tcase_add_test(tc, extra_relays_are_merged);
  tcase_add_loop_test(tc, what_is_not_built_is_refused, 0, (int)(sizeof built / sizeof *built));
  tcase_add_test(tc, a_variable_for_others_is_only_a_warning);
  tcase_add_test(tc, document_has_every_setting);
  return testing_main("settings", tc);
}
