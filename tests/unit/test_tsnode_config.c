#include "config/tsnode_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tests/unit/testing.h"

#define MKEY "mkey:00000000000000000000000000000000000000000000000000000000000000ff"

static msock_config *load(const char *file_name, const char *text, const char *const *environment,
                          const char *const *flags, size_t n_flags, msock_config_report *r) {
  *r = (msock_config_report){0};
  return msock_tsnode_config_load(&(msock_tsnode_sources){.file_name = file_name,
                                                          .file = (const uint8_t *)text,
                                                          .file_len = text ? strlen(text) : 0,
                                                          .environment = environment,
                                                          .flags = flags,
                                                          .n_flags = n_flags},
                                  r);
}

static msock_config *load_yaml(const char *text, msock_config_report *r) {
  return load("tsnode.yaml", text, NULL, NULL, 0, r);
}

static const char *origin(const msock_config *c, const char *key) {
  static char buf[MSOCK_CONFIG_ORIGIN_MAX];
  return msock_config_origin(c, key, buf);
}

static const char *problem(const msock_config_report *r, size_t i) {
  static char buf[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  ck_assert_uint_lt(i, r->n);
  return msock_config_problem_text(&r->problems[i], buf);
}

/* design.md 1 and 3: IPv6 off, port 0, lan on, fast failover on, MTU 1280. */
START_TEST(defaults_are_the_plan) {
  msock_config_report r;
  msock_config *c = load(NULL, NULL, NULL, NULL, 0, &r);
  ck_assert_ptr_nonnull(c);
  ck_assert_uint_eq(r.n, 0);
  const msock_tsnode_config *v = msock_tsnode_config_values(c);
  ck_assert_int_eq(v->profile, MSOCK_TSNODE_PROFILE_FULL);
  ck_assert(v->enabled && v->lan && v->fast_failover && v->accept_dns);
  ck_assert(!v->ipv6 && !v->accept_routes && !v->shields_up && !v->allow_loopback);
  ck_assert_int_eq(v->port, 0);
  ck_assert_int_eq(v->mtu, 1280);
  ck_assert_str_eq(v->tun, "tsnode0");
  ck_assert_int_eq(v->log_level, MSOCK_LOG_INFO);
  ck_assert_int_eq(v->log_format, MSOCK_TSNODE_LOG_HUMAN);
  ck_assert_str_eq(v->login_server, "");
  msock_config_free(c);
}
END_TEST

/* The order of the words in the table is the order of the log levels. */
START_TEST(log_levels_match_the_log) {
  for (int level = MSOCK_LOG_ERROR; level <= MSOCK_LOG_TRACE; level++) {
    msock_config_report r;
    char text[64];
    (void)snprintf(text, sizeof text, "log_level: %s\n",
                   msock_log_level_name((msock_log_level)level));
    msock_config *c = load_yaml(text, &r);
    ck_assert_ptr_nonnull(c);
    ck_assert_int_eq(msock_tsnode_config_values(c)->log_level, level);
    msock_config_free(c);
  }
}
END_TEST

/* part of: M04 M05 (the program adds the option itself) */
START_TEST(sources_are_merged_with_origins) {
  static const char file[] = "profile: full\n"
                             "login_server: https://hs.example.com:8443/\n"
                             "server_key: " MKEY "\n"
                             "auth_key: file:/run/key\n"
                             "advertise_routes: [10.1.0.0/16, 'fd00:1::/32']\n"
                             "advertise_tags: tag:router,tag:lab-2\n"
                             "log_level: warning\n"
                             "netfilter_mode: off\n"
                             "port: 41641\n";
  static const char *const environment[] = {"TS_HOSTNAME=box",
                                            "TSNODE_LOG_LEVEL=debug",
                                            "TS_USERSPACE=true",
                                            "TS_STATE_DIR=/data",
                                            "TS_EXTRA_ARGS=--accept-routes --port=7 --reset",
                                            "PATH=/bin",
                                            NULL};
  static const char *const flags[] = {"--log-level", "error", "--shields-up"};
  msock_config_report r;
  msock_config *c = load("/etc/t.yaml", file, environment, flags, 3, &r);
  ck_assert_msg(c != NULL, "%s", r.n ? problem(&r, 0) : "");
  const msock_tsnode_config *v = msock_tsnode_config_values(c);
  ck_assert_str_eq(v->login_server, "https://hs.example.com:8443/");
  ck_assert_str_eq(v->server_key, MKEY);
  ck_assert_str_eq(v->auth_key, "");
  ck_assert_str_eq(v->auth_key_file, "/run/key");
  ck_assert_uint_eq(v->advertise_routes.n, 2);
  ck_assert_uint_eq(v->advertise_tags.n, 2);
  ck_assert_str_eq(v->advertise_tags.v[1], "tag:lab-2");
  ck_assert_int_eq(v->log_level, MSOCK_LOG_ERROR);
  ck_assert_int_eq(v->netfilter_mode, MSOCK_TSNODE_NETFILTER_OFF);
  ck_assert_str_eq(v->hostname, "box");
  ck_assert_str_eq(v->tun, "none");
  ck_assert_str_eq(v->statedir, "/data");
  ck_assert(v->accept_routes && v->shields_up);
  ck_assert_int_eq(v->port, 7);
  ck_assert_str_eq(origin(c, "log_level"), "flag --log-level");
  ck_assert_str_eq(origin(c, "port"), "environment TS_EXTRA_ARGS --port");
  ck_assert_str_eq(origin(c, "tun"), "environment TS_USERSPACE");
  ck_assert_str_eq(origin(c, "auth_key_file"), "file /etc/t.yaml:4:1");
  ck_assert_str_eq(origin(c, "mtu"), "default");
  ck_assert_uint_eq(r.n, 1);
  ck_assert_str_eq(problem(&r, 0), "warning: environment TS_EXTRA_ARGS --reset: belongs to the "
                                   "command line of one login: it has no effect here");
  msock_config_free(c);
}
END_TEST

/* Every variable of requirements.md 5.5 does what it says. */
static const struct {
  const char *variable, *key, *line; /* a line of the print; key NULL: no effect, no problem */
} variables[] = {
    {"TS_AUTHKEY=k1", "auth_key", "auth_key = (set)   (environment TS_AUTHKEY)\n"},
    {"TS_AUTHKEY=file:/k", "auth_key_file", "auth_key_file = /k   (environment TS_AUTHKEY)\n"},
    {"TSNODE_AUTH_KEY_FILE=/k", "auth_key_file",
     "auth_key_file = /k   (environment TSNODE_AUTH_KEY_FILE)\n"},
    {"TS_STATE_DIR=/s", "statedir", "statedir = /s   (environment TS_STATE_DIR)\n"},
    {"TS_SOCKET=/s.sock", "socket", "socket = /s.sock   (environment TS_SOCKET)\n"},
    {"TS_USERSPACE=false", "tun", "tun = tsnode0   (environment TS_USERSPACE)\n"},
    {"TSNODE_TUN=userspace-networking", "tun", "tun = none   (environment TSNODE_TUN)\n"},
    {"TS_HOSTNAME=h", "hostname", "hostname = h   (environment TS_HOSTNAME)\n"},
    {"TS_ROUTES=10.0.0.0/8,192.0.2.0/24", "advertise_routes",
     "advertise_routes = [10.0.0.0/8, 192.0.2.0/24]   (environment TS_ROUTES)\n"},
    {"TS_EXTRA_ARGS=--login-server=http://h:80", "login_server",
     "login_server = http://h:80   (environment TS_EXTRA_ARGS --login-server)\n"},
    {"TS_NO_LOGS_NO_SUPPORT=true", NULL, NULL},
    {"SSL_CERT_FILE=/c.pem", "ca_file", "ca_file = /c.pem   (environment SSL_CERT_FILE)\n"},
    {"HTTPS_PROXY=http://u:pw@p:3128", "https_proxy",
     "https_proxy = (set)   (environment HTTPS_PROXY)\n"},
    {"NO_PROXY=a, b", "no_proxy", "no_proxy = [a, b]   (environment NO_PROXY)\n"},
};

START_TEST(container_variables) {
  msock_config_report r;
  const char *const environment[] = {variables[_i].variable, NULL};
  msock_config *c = load(NULL, NULL, environment, NULL, 0, &r);
  ck_assert_msg(c != NULL && r.n == 0, "%s: %s", variables[_i].variable, r.n ? problem(&r, 0) : "");
  char *print = msock_config_print(c);
  if (variables[_i].line) {
    ck_assert_msg(strstr(print, variables[_i].line) != NULL, "%s\n%s", variables[_i].line, print);
  } else {
    ck_assert_ptr_null(strstr(print, "environment"));
  }
  free(print);
  msock_config_free(c);
}
END_TEST

/* closes: M20 */
static const struct {
  const char *text, *problem;
} bad_files[] = {
    {"hostnme: x\n", "tsnode.yaml:1:1: hostnme: unknown key; did you mean hostname?"},
    {"acceptRoutes: true\n",
     "tsnode.yaml:1:1: acceptRoutes: unknown key; did you mean accept_routes?"},
    {"# head\n\nport: 65536\n", "tsnode.yaml:3:7: port: expected a whole number from 0 to 65535, "
                                "found \"65536\"; for example: port: 41641"},
    {"port: http\n", "tsnode.yaml:1:7: port: expected a whole number from 0 to 65535, found "
                     "\"http\"; for example: port: 41641"},
    {"mtu: 575\n", "tsnode.yaml:1:6: mtu: expected a whole number from 576 to 1500, found \"575\"; "
                   "for example: mtu: 1280"},
    {"mtu: 1501\n", "tsnode.yaml:1:6: mtu: expected a whole number from 576 to 1500, found "
                    "\"1501\"; for example: mtu: 1280"},
    {"profile: privacy\n", "tsnode.yaml:1:10: profile: expected one of full, privacy-proxy, found "
                           "\"privacy\"; for example: profile: full"},
    {"hostname: bad_name\n",
     "tsnode.yaml:1:11: hostname: expected one DNS label: letters, digits and inner hyphens, at "
     "most 63, found \"bad_name\"; for example: hostname: router-1"},
    {"login_server: headscale.example.com\n",
     "tsnode.yaml:1:15: login_server: expected http:// or https://, a host and perhaps a port (1 "
     "to 65535), "
     "without user, password, path or query, found \"headscale.example.com\"; for example: "
     "login_server: "
     "https://headscale.example.com"},
    {"login_server: https://user:hidden@h\n", "tsnode.yaml:1:15: login_server: expected http:// or "
                                              "https://, a host and perhaps a port (1 to 65535), "
                                              "without user, password, path or query; for example: "
                                              "login_server: https://headscale.example.com"},
    {"login_server: https://h:0\n",
     "tsnode.yaml:1:15: login_server: expected http:// or https://, a host and perhaps a port (1 "
     "to 65535), "
     "without user, password, path or query, found \"https://h:0\"; for example: login_server: "
     "https://headscale.example.com"},
    {"server_key: mkey:12\n",
     "tsnode.yaml:1:13: server_key: expected mkey: and 64 lower-case hex digits, found "
     "\"mkey:12\"; for example: server_key: "
     "mkey:0000000000000000000000000000000000000000000000000000000000000001"},
    {"advertise_routes:\n  - 10.0.0.0/8\n  - 10.0.0.1/24\n",
     "tsnode.yaml:3:5: advertise_routes[1]: expected a prefix, ADDRESS/BITS with zero host bits, "
     "found \"10.0.0.1/24\"; for example: advertise_routes: [192.168.10.0/24]"},
    {"advertise_tags: [router]\n",
     "tsnode.yaml:1:18: advertise_tags[0]: expected tag: and a name of letters, digits and hyphens "
     "that begins with a letter, found \"router\"; for example: advertise_tags: [tag:router]"},
    {"tun: a-name-far-too-long\n",
     "tsnode.yaml:1:6: tun: expected none, or an interface name of at most 15 characters, found "
     "\"a-name-far-too-long\"; for example: tun: tsnode0"},
    {"statedir: state\n", "tsnode.yaml:1:11: statedir: expected a path that begins with /, found "
                          "\"state\"; for example: statedir: /var/lib/tsnode"},
    {"auth_key: <your key>\n",
     "tsnode.yaml:1:11: auth_key: expected one word without blanks; put the real one there, or "
     "name a file that holds it: auth_key_file"},
    {"auth_key: tskey-auth-xxxxxx\n",
     "tsnode.yaml:1:11: auth_key: a placeholder, not a real secret; put the real one there, or "
     "name a file that holds it: auth_key_file"},
    {"auth_key: abc123\nauth_key_file: /k\n",
     "tsnode.yaml:2:1: auth_key_file: auth_key is given as well; keep one of the two"},
    {"exit_node: 100.64.0.9\nadvertise_exit_node: true\n",
     "tsnode.yaml:1:1: exit_node: a node that offers itself as exit node cannot use another one; "
     "keep one of the two"},
    {"login_server: \"https://[2001:db8::1]:8080\"\n",
     "tsnode.yaml:1:1: login_server: an IPv6 address, and ipv6 is off; write an IPv4 address, or "
     "ipv6: true"},
    {"login_server: https://h\nlogin_server_address: \"::1\"\n",
     "tsnode.yaml:2:1: login_server_address: an IPv6 address, and ipv6 is off; write an IPv4 "
     "address, or ipv6: true"},
    {"https_proxy: socks5://p:1\n", "tsnode.yaml:1:14: https_proxy: expected http:// or https:// "
                                    "and the host of a proxy; for example: https_proxy: "
                                    "http://proxy.example.com:3128"},
};

START_TEST(bad_files_are_explained) {
  msock_config_report r;
  ck_assert_ptr_null(load_yaml(bad_files[_i].text, &r));
  ck_assert_uint_eq(r.n_errors, 1);
  ck_assert_str_eq(problem(&r, 0), bad_files[_i].problem);
}
END_TEST

static const struct {
  const char *text, *problem; /* NULL: accepted */
} privacy[] = {
    {"profile: privacy-proxy\n", NULL},
    {"profile: privacy-proxy\nlogin_server: https://192.0.2.1\n", NULL},
    {"profile: privacy-proxy\nlogin_server: https://h.example\nlogin_server_address: 192.0.2.1\n",
     NULL},
    {"profile: privacy-proxy\nlan: false\nipv6: false\n", NULL},
    {"profile: privacy-proxy\nlogin_server: https://h.example\n",
     "tsnode.yaml:2:1: login_server: profile privacy-proxy looks up no names, and this one would "
     "need it; pin its address (login_server_address: 192.0.2.10), or choose profile: full"},
    {"profile: privacy-proxy\nlan: true\n",
     "tsnode.yaml:2:1: lan: direct paths over private addresses are off in profile privacy-proxy; "
     "remove it, or choose profile: full"},
    {"profile: privacy-proxy\nipv6: true\n", "tsnode.yaml:2:1: ipv6: profile privacy-proxy is IPv4 "
                                             "only; remove it, or choose profile: full"},
};

START_TEST(privacy_profile_decides) {
  msock_config_report r;
  msock_config *c = load_yaml(privacy[_i].text, &r);
  if (privacy[_i].problem) {
    ck_assert_ptr_null(c);
    ck_assert_uint_eq(r.n_errors, 1);
    ck_assert_str_eq(problem(&r, 0), privacy[_i].problem);
    return;
  }
  ck_assert_msg(c != NULL, "%s", r.n ? problem(&r, 0) : "");
  ck_assert(!msock_tsnode_config_values(c)->lan);
  if (_i == 0) {
    ck_assert_str_eq(origin(c, "lan"), "profile privacy-proxy");
  }
  msock_config_free(c);
}
END_TEST

START_TEST(privacy_profile_ignores_proxies_and_says_so) {
  static const char *const environment[] = {"HTTPS_PROXY=http://p:1", NULL};
  msock_config_report r;
  msock_config *c = load("t", "profile: privacy-proxy\n", environment, NULL, 0, &r);
  ck_assert_ptr_nonnull(c);
  ck_assert_str_eq(msock_tsnode_config_values(c)->https_proxy, "");
  ck_assert_str_eq(problem(&r, 0), "warning: environment HTTPS_PROXY: https_proxy: not used in "
                                   "profile privacy-proxy");
  msock_config_free(c);
}
END_TEST

/* requirements.md 5.4: tailscaled's file, comments and trailing commas included. */
START_TEST(alpha_file_is_read) {
  static const char file[] = "// made by hand\n"
                             "{\n"
                             "  \"version\": \"alpha0\",\n"
                             "  \"locked\": false,\n"
                             "  \"ServerURL\": \"https://hs.example.com\", /* ours */\n"
                             "  \"AuthKey\": \"file:/run/key\",\n"
                             "  \"Enabled\": false,\n"
                             "  \"OperatorUser\": \"alice\",\n"
                             "  \"hostname\": \"box\",\n"
                             "  \"acceptDNS\": false,\n"
                             "  \"acceptRoutes\": true,\n"
                             "  \"exitNode\": null,\n"
                             "  \"allowLANWhileUsingExitNode\": true,\n"
                             "  \"AdvertiseRoutes\": [\"10.0.0.0/8\"],\n"
                             "  \"NetfilterMode\": \"nodivert\",\n"
                             "  \"ShieldsUp\": true,\n"
                             "  \"StaticEndpoints\": [\"192.0.2.1:41641\"],\n"
                             "  \"RelayServerPort\": 0,\n"
                             "  \"RelayServerStaticEndpoints\": [],\n"
                             "}\n";
  msock_config_report r;
  msock_config *c = load("t.json", file, NULL, NULL, 0, &r);
  ck_assert_msg(c != NULL, "%s", r.n ? problem(&r, 0) : "");
  const msock_tsnode_config *v = msock_tsnode_config_values(c);
  ck_assert_str_eq(v->login_server, "https://hs.example.com");
  ck_assert_str_eq(v->auth_key_file, "/run/key");
  ck_assert_str_eq(v->operator_user, "alice");
  ck_assert_str_eq(v->hostname, "box");
  ck_assert(!v->enabled && !v->accept_dns && v->accept_routes && v->shields_up);
  ck_assert(v->exit_node_allow_lan_access);
  ck_assert_str_eq(v->exit_node, "");
  ck_assert_uint_eq(v->advertise_routes.n, 1);
  ck_assert_int_eq(v->netfilter_mode, MSOCK_TSNODE_NETFILTER_NODIVERT);
  ck_assert_str_eq(origin(c, "hostname"), "file t.json:9:3");
  ck_assert_uint_eq(r.n, 2);
  ck_assert_str_eq(problem(&r, 0), "warning: t.json:17:3: StaticEndpoints: not in this build: it "
                                   "has no effect; remove it, or keep it for a later version");
  ck_assert_str_eq(problem(&r, 1), "warning: t.json:18:3: RelayServerPort: not in this build: it "
                                   "has no effect; remove it, or keep it for a later version");
  msock_config_free(c);
}
END_TEST

static const struct {
  const char *text, *problem;
} bad_alpha[] = {
    {"{\"version\": \"alpha1\"}",
     "t.json:1:13: version: expected alpha0, found \"alpha1\"; write \"version\": \"alpha0\", or "
     "use the keys of tsnode.yaml without a version"},
    {"{\"version\": \"alpha0\",\n \"Hostnam\": \"x\"}",
     "t.json:2:2: Hostnam: unknown field; did you mean Hostname?"},
    {"{\"version\": \"alpha0\",\n \"login_server\": \"x\"}",
     "t.json:2:2: login_server: unknown field; remove it"},
    {"{\"version\": \"alpha0\",\n \"AdvertiseRoutes\": [\"10.0.0.0/8\", \"x\"]}",
     "t.json:2:36: AdvertiseRoutes[1]: expected a prefix, ADDRESS/BITS with zero host bits, found "
     "\"x\"; for example: 192.168.10.0/24"},
    {"{\"version\": \"alpha0\",\n \"acceptDNS\": 7}",
     "t.json:2:15: acceptDNS: expected true or false, found \"7\""},
    {"{\"version\": \"alpha0\",\n \"Hostname\": {}}",
     "t.json:2:14: Hostname: expected a text without control characters, found a mapping; for "
     "example: router-1"},
};

START_TEST(bad_alpha_files_are_explained) {
  msock_config_report r;
  ck_assert_ptr_null(load("t.json", bad_alpha[_i].text, NULL, NULL, 0, &r));
  ck_assert_uint_eq(r.n_errors, 1);
  ck_assert_str_eq(problem(&r, 0), bad_alpha[_i].problem);
}
END_TEST

/* requirements.md 5.1: flags that are not built fail, before anything changes. */
START_TEST(flags_that_are_not_built_are_refused) {
  static const char *const names[] = {"--ssh", "--relay-server-port=1",
                                      "--snat-subnet-routes=false", "--socks5-server=:1080"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    msock_config_report r;
    ck_assert_ptr_null(load(NULL, NULL, NULL, &names[i], 1, &r));
    ck_assert_str_eq(r.problems[0].reason, "not in this build");
  }
}
END_TEST

/* SIGHUP: a bad file gives no new config, a good one tells what changed. */
START_TEST(reload_keeps_or_compares) {
  const msock_config_row *changed[4];
  msock_config_report r;
  msock_config *old = load_yaml("hostname: a\nport: 1\n", &r);
  ck_assert_ptr_null(load_yaml("hostname: b\nport: x\n", &r));
  ck_assert_str_eq(r.problems[0].where, "tsnode.yaml:2:7");
  ck_assert_str_eq(msock_tsnode_config_values(old)->hostname, "a");

  msock_config *new = load_yaml("hostname: b\nport: 2\n", &r);
  ck_assert_ptr_nonnull(new);
  ck_assert_uint_eq(msock_config_diff(old, new, changed, 4), 2);
  ck_assert_str_eq(changed[0]->key, "hostname");
  ck_assert(changed[0]->reloadable);
  ck_assert_str_eq(changed[1]->key, "port");
  ck_assert(!changed[1]->reloadable);
  msock_config_free(old);
  msock_config_free(new);
}
END_TEST

/* part of: M03 (the program writes it) */
START_TEST(generated_file_loads) {
  msock_config_report r;
  char *text = msock_config_generate(&msock_tsnode_schema);
  msock_config *c = load_yaml(text, &r), *fresh = load_yaml("", &r);
  ck_assert_ptr_nonnull(c);
  ck_assert_uint_eq(r.n, 0);
  ck_assert_uint_eq(msock_config_diff(fresh, c, NULL, 0), 0);
  msock_config_free(c);

  char *to = text; /* every setting, taken from behind its # */
  for (const char *p = text; *p != '\0'; p++) {
    if (!((p == text || p[-1] == '\n') && *p == '#' && p[1] != ' ')) {
      *to++ = *p;
    }
  }
  *to = '\0';
  c = load_yaml(text, &r);
  ck_assert_msg(c != NULL, "%s", r.n ? problem(&r, 0) : "");
  ck_assert_uint_eq(msock_config_diff(fresh, c, NULL, 0), 0);
  for (size_t i = 0; i < msock_tsnode_schema.n_rows; i++) {
    ck_assert(!msock_config_is_default(c, msock_tsnode_schema.rows[i].key));
  }
  free(text);
  msock_config_free(c);
  msock_config_free(fresh);
}
END_TEST

/* What the table itself promises: unique keys, sentences, examples that load, aliases that lead to
 * rows. */
START_TEST(table_is_sound) {
  const msock_config_schema *s = &msock_tsnode_schema;
  for (size_t i = 0; i < s->n_rows; i++) {
    const msock_config_row *row = &s->rows[i];
    ck_assert(row->sentence && row->sentence[strlen(row->sentence) - 1] == '.');
    for (size_t j = i + 1; j < s->n_rows; j++) {
      ck_assert_str_ne(row->key, s->rows[j].key);
      ck_assert_uint_ne(row->offset, s->rows[j].offset);
    }
    if (row->example) {
      msock_config_report r;
      char text[256];
      (void)snprintf(text, sizeof text, "%s: \"%s\"\n", row->key, row->example);
      msock_config *c = load_yaml(text, &r);
      ck_assert_msg(c != NULL, "%s", r.n ? problem(&r, 0) : "");
      msock_config_free(c);
    }
  }
  for (size_t a = 0; a < s->n_env_aliases + s->n_flag_aliases; a++) {
    const msock_config_alias *alias =
        a < s->n_env_aliases ? &s->env_aliases[a] : &s->flag_aliases[a - s->n_env_aliases];
    bool found = alias->key == NULL;
    for (size_t i = 0; i < s->n_rows; i++) {
      found = found || strcmp(alias->key, s->rows[i].key) == 0;
    }
    ck_assert_msg(found, "%s", alias->name);
  }
}
END_TEST

#define N_OF(a) ((int)(sizeof(a) / sizeof(a)[0]))

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, defaults_are_the_plan);
  tcase_add_test(tc, log_levels_match_the_log);
  tcase_add_test(tc, sources_are_merged_with_origins);
  tcase_add_loop_test(tc, container_variables, 0, N_OF(variables));
  tcase_add_loop_test(tc, bad_files_are_explained, 0, N_OF(bad_files));
  tcase_add_loop_test(tc, privacy_profile_decides, 0, N_OF(privacy));
  tcase_add_test(tc, privacy_profile_ignores_proxies_and_says_so);
  tcase_add_test(tc, alpha_file_is_read);
  tcase_add_loop_test(tc, bad_alpha_files_are_explained, 0, N_OF(bad_alpha));
  tcase_add_test(tc, flags_that_are_not_built_are_refused);
  tcase_add_test(tc, reload_keeps_or_compares);
  tcase_add_test(tc, generated_file_loads);
  tcase_add_test(tc, table_is_sound);
  return testing_main("tsnode_config", tc);
}
