/* The schema machinery on a table that has every type and nested keys, as a relay's will. */
#include "config/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/testing.h"

typedef struct relay {
  char *name;
  bool verbose;
  int mode;
  msock_addr listen;
  msock_ip bind;
  char *token;
  char *token_file;
  int64_t limit_clients;
  uint64_t limit_rate;
  uint64_t limit_idle;
  msock_config_strings deny_words;
  msock_config_prefixes deny_prefixes;
} relay;

static const char *const modes[] = {"open", "list", NULL};
static const msock_config_rename mode_words[] = {{"everybody", "open"}, {NULL, NULL}};

static bool check_name(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "expected a name without a blank");
  return strchr(text, ' ') == NULL;
}

#define AT(m) offsetof(relay, m)
static const msock_config_row rows[] = {
    {.key = "name",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(name),
     .check = check_name,
     .example = "r1",
     .sentence = "Name."},
    {.key = "verbose",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(verbose),
     .default_text = "false",
     .reloadable = true,
     .sentence = "Verbose."},
    {.key = "mode",
     .type = MSOCK_CONFIG_ENUM,
     .offset = AT(mode),
     .default_text = "list",
     .choices = modes,
     .renames = mode_words,
     .sentence = "Mode."},
    {.key = "listen",
     .type = MSOCK_CONFIG_ADDRESS,
     .offset = AT(listen),
     .default_text = ":443",
     .sentence = "Where to listen."},
    {.key = "bind", .type = MSOCK_CONFIG_IP, .offset = AT(bind), .sentence = "Bind."},
    {.key = "token",
     .type = MSOCK_CONFIG_SECRET,
     .offset = AT(token),
     .secret_file_key = "token_file",
     .sentence = "Token."},
    {.key = "token_file",
     .type = MSOCK_CONFIG_SECRET_FILE,
     .offset = AT(token_file),
     .sentence = "Token file."},
    {.key = "limits.clients",
     .type = MSOCK_CONFIG_INT,
     .offset = AT(limit_clients),
     .default_text = "100",
     .min = -1,
     .max = 1000,
     .reloadable = true,
     .sentence = "Clients."},
    {.key = "limits.rate",
     .type = MSOCK_CONFIG_SIZE,
     .offset = AT(limit_rate),
     .default_text = "1MiB",
     .min = 1024,
     .max = INT64_C(1) << 40,
     .reloadable = true,
     .sentence = "Rate."},
    {.key = "limits.idle",
     .type = MSOCK_CONFIG_DURATION,
     .offset = AT(limit_idle),
     .default_text = "2m",
     .min = 1000000,
     .max = INT64_C(86400000000),
     .sentence = "Idle."},
    {.key = "limits.deny.words",
     .type = MSOCK_CONFIG_STRINGS,
     .offset = AT(deny_words),
     .max = 3,
     .example = "x",
     .check = check_name,
     .sentence = "Words."},
    {.key = "limits.deny.prefixes",
     .type = MSOCK_CONFIG_PREFIXES,
     .offset = AT(deny_prefixes),
     .example = "192.0.2.0/24",
     .sentence = "Prefixes."},
};
static const msock_config_alias env_aliases[] = {
    {.name = "OLD_NAME", .key = "name"},
    {.name = "OLDER_NAME", .key = "name"},
    {.name = "OPEN", .key = "mode", .when_true = "open", .when_false = "list"},
    {.name = "ARGS", .is_flags = true},
    {.name = "QUIET"},
    {.name = "RADIO", .note = "no radio here"},
};
static const msock_config_alias flag_aliases[] = {
    {.name = "n", .key = "name"},
    {.name = "open", .key = "mode", .when_true = "open", .when_false = "list"},
    {.name = "old-switch", .is_switch = true},
    {.name = "old-value", .note = "does nothing"},
    {.name = "ssh", .note = "not in this build", .is_refused = true, .is_switch = true},
};
static const msock_config_schema schema = {
    .program = "relay",
    .command = "relay",
    .file_name = "relay.yaml",
    .env_prefix = "RELAY_",
    .size = sizeof(relay),
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .env_aliases = env_aliases,
    .n_env_aliases = sizeof env_aliases / sizeof env_aliases[0],
    .flag_aliases = flag_aliases,
    .n_flag_aliases = sizeof flag_aliases / sizeof flag_aliases[0],
};

static const relay *values(const msock_config *c) {
  return msock_config_values(c);
}

static msock_err apply_text(msock_config *c, const char *text, msock_config_report *r) {
  msock_document *d = msock_document_read("r.yaml", (const uint8_t *)text, strlen(text), r);
  ck_assert_ptr_nonnull(d);
  const msock_err err = msock_config_apply_document(c, d, r);
  msock_document_free(d);
  return err;
}

static msock_err apply_flag(msock_config *c, const char *word, msock_config_report *r) {
  return msock_config_apply_flags(c, &word, 1, r);
}

static msock_err apply_variable(msock_config *c, const char *text, msock_config_report *r) {
  const char *const environment[] = {text, NULL};
  return msock_config_apply_environment(c, environment, r);
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

START_TEST(defaults_are_in_force) {
  msock_config *c = msock_config_new(&schema);
  ck_assert_ptr_nonnull(c);
  ck_assert_str_eq(values(c)->name, "");
  ck_assert(!values(c)->verbose);
  ck_assert_int_eq(values(c)->mode, 1);
  ck_assert_uint_eq(values(c)->listen.port, 443);
  ck_assert_uint_eq(values(c)->listen.ip.family, 0);
  ck_assert_str_eq(values(c)->token, "");
  ck_assert_int_eq(values(c)->limit_clients, 100);
  ck_assert_uint_eq(values(c)->limit_rate, 1048576);
  ck_assert_uint_eq(values(c)->limit_idle, 120000000);
  ck_assert_uint_eq(values(c)->deny_words.n, 0);
  ck_assert_str_eq(origin(c, "limits.idle"), "default");
  ck_assert(msock_config_is_default(c, "name"));
  msock_config_free(c);
}
END_TEST

static const char whole_file[] = "name: r7\n"
                                 "verbose: yes\n"
                                 "mode: everybody\n"
                                 "listen: \"[2001:db8::1]:8443\"\n"
                                 "bind: 192.0.2.1\n"
                                 "token: geheim\n"
                                 "limits:\n"
                                 "  clients: -1\n"
                                 "  rate: 10MB\n"
                                 "  idle: 1m30s\n"
                                 "  deny:\n"
                                 "    words: [a, \"b, c\"]\n"
                                 "    prefixes: 10.0.0.0/8, fd00::/8\n";

START_TEST(file_fills_every_type) {
  msock_config_report r = {0};
  msock_config *c = msock_config_new(&schema);
  ck_assert_int_eq(apply_text(c, whole_file, &r), MSOCK_ERR_INVALID);
  ck_assert_str_eq(problem(&r, 0),
                   "r.yaml:12:16: limits.deny.words[1]: expected a name without a blank, found "
                   "\"b, c\"; for example: words: [x]");
  ck_assert_uint_eq(r.n, 1);
  const relay *v = values(c);
  ck_assert_str_eq(v->name, "r7");
  ck_assert(v->verbose);
  ck_assert_int_eq(v->mode, 0);
  ck_assert_uint_eq(v->listen.port, 8443);
  ck_assert_uint_eq(v->listen.ip.family, 6);
  ck_assert_uint_eq(v->bind.family, 4);
  ck_assert_str_eq(v->token, "geheim");
  ck_assert_int_eq(v->limit_clients, -1);
  ck_assert_uint_eq(v->limit_rate, 10000000);
  ck_assert_uint_eq(v->limit_idle, 90000000);
  ck_assert_uint_eq(v->deny_words.n, 0); /* refused as a whole */
  ck_assert_uint_eq(v->deny_prefixes.n, 2);
  ck_assert_uint_eq(v->deny_prefixes.v[1].bits, 8);
  ck_assert_str_eq(origin(c, "limits.deny.prefixes"), "file r.yaml:13:5");
  msock_config_free(c);
}
END_TEST

/* part of: M05 */
START_TEST(layers_go_by_rank_in_any_order) {
  msock_config_report r = {0};
  msock_config *c = msock_config_new(&schema);
  ck_assert_int_eq(apply_flag(c, "--limits-clients=4", &r), MSOCK_OK);
  ck_assert_int_eq(apply_variable(c, "RELAY_LIMITS_CLIENTS=3", &r), MSOCK_OK);
  ck_assert_int_eq(apply_text(c, "limits: {clients: 2}\nname: f", &r), MSOCK_OK);
  ck_assert_int_eq(values(c)->limit_clients, 4);
  ck_assert_str_eq(origin(c, "limits.clients"), "flag --limits-clients");
  ck_assert_str_eq(origin(c, "name"), "file r.yaml:2:1");
  ck_assert_int_eq(apply_variable(c, "RELAY_NAME=e", &r), MSOCK_OK);
  ck_assert_str_eq(origin(c, "name"), "environment RELAY_NAME");
  ck_assert_str_eq(values(c)->name, "e");
  ck_assert_int_eq(msock_config_imply(c, "name", "i", "mode list"), MSOCK_OK);
  ck_assert_str_eq(values(c)->name, "e");
  ck_assert_int_eq(msock_config_imply(c, "verbose", "true", "mode list"), MSOCK_OK);
  ck_assert(values(c)->verbose);
  ck_assert_str_eq(origin(c, "verbose"), "mode list");
  ck_assert_int_eq(msock_config_override(c, "name", "o", "mode list"), MSOCK_OK);
  ck_assert_str_eq(values(c)->name, "o");
  ck_assert_uint_eq(r.n, 0);
  msock_config_free(c);
}
END_TEST

/* closes: M20 */
static const struct {
  const char *text, *problem;
} bad_files[] = {
    {"nme: x\n", "r.yaml:1:1: nme: unknown key; did you mean name?"},
    {"limits:\n  client: 3\n",
     "r.yaml:2:3: limits.client: unknown key; did you mean limits.clients?"},
    {"limits:\n  colour: red\n", "r.yaml:2:3: limits.colour: unknown key; remove it, or see all "
                                 "keys with relay --generate-config"},
    {"limits.clients: 3\n",
     "r.yaml:1:1: limits.clients: unknown key; did you mean limits.clients?"},
    {"Token-File: x\n", "r.yaml:1:1: Token-File: unknown key; did you mean token_file?"},
    {"limits: 3\n", "r.yaml:1:9: limits: expected a mapping of settings; put its settings on "
                    "indented lines below it"},
    {"- a\n", "r.yaml:1:1: expected a mapping of settings, found a list; write KEY: VALUE on each "
              "line, with a blank after the colon"},
    {"name:x\n", "r.yaml:1:1: expected a mapping of settings, found a text; write KEY: VALUE on "
                 "each line, with a blank after the colon"},
    {"verbose: maybe\n", "r.yaml:1:10: verbose: expected true or false, found \"maybe\"; for "
                         "example: verbose: false"},
    {"mode: closed\n", "r.yaml:1:7: mode: expected one of open, list, found \"closed\"; for "
                       "example: mode: list"},
    {"limits: {clients: 1001}\n", "r.yaml:1:19: limits.clients: expected a whole number from -1 "
                                  "to 1000, found \"1001\"; for example: clients: 100"},
    {"limits: {clients: -2}\n", "r.yaml:1:19: limits.clients: expected a whole number from -1 to "
                                "1000, found \"-2\"; for example: clients: 100"},
    {"limits: {clients: 1.5}\n", "r.yaml:1:19: limits.clients: expected a whole number from -1 to "
                                 "1000, found \"1.5\"; for example: clients: 100"},
    {"limits: {clients: [1]}\n", "r.yaml:1:19: limits.clients: expected a whole number from -1 to "
                                 "1000, found a list; for example: clients: 100"},
    {"limits: {clients: {a: 1}}\n", "r.yaml:1:19: limits.clients: expected a whole number from -1 "
                                    "to 1000, found a mapping; for example: clients: 100"},
    {"limits: {idle: 30}\n",
     "r.yaml:1:16: limits.idle: expected a time with its unit (ms, s, m, h, d) from 1s to 24h, "
     "found \"30\"; for example: idle: 2m"},
    {"limits: {idle: 999ms}\n",
     "r.yaml:1:16: limits.idle: expected a time with its unit (ms, s, m, h, d) from 1s to 24h, "
     "found \"999ms\"; for example: idle: 2m"},
    {"limits: {rate: 1000}\n",
     "r.yaml:1:16: limits.rate: expected a size (bytes, KiB, MiB, GiB) from 1KiB to 1024GiB, found "
     "\"1000\"; for example: rate: 1MiB"},
    {"limits: {rate: 99999999999GiB}\n",
     "r.yaml:1:16: limits.rate: expected a size (bytes, KiB, MiB, GiB) from 1KiB to 1024GiB, found "
     "\"99999999999GiB\"; for example: rate: 1MiB"},
    {"limits: {deny: {words: [a, b, c, d]}}\n",
     "r.yaml:1:24: limits.deny.words: more than 3 items; for example: words: [x]"},
    {"limits: {deny: {words: [a, [b]]}}\n",
     "r.yaml:1:28: limits.deny.words[1]: expected a text, found a list, a mapping or nothing; for "
     "example: words: [x]"},
    {"limits: {deny: {prefixes: [10.0.0.0/8, 10.0.0.1/8]}}\n",
     "r.yaml:1:40: limits.deny.prefixes[1]: expected a prefix, ADDRESS/BITS with zero host bits, "
     "found \"10.0.0.1/8\"; for example: prefixes: [192.0.2.0/24]"},
    {"listen: 443\n", "r.yaml:1:9: listen: expected an address with a port, or a colon and a port, "
                      "found \"443\"; for example: listen: :443"},
    {"bind: example.com\n", "r.yaml:1:7: bind: expected an IP address, found \"example.com\""},
    {"token: two words\n", "r.yaml:1:8: token: expected one word without blanks; put the real one "
                           "there, or name a file that holds it: token_file"},
    {"token: [a]\n", "r.yaml:1:8: token: expected one word without blanks, found a list; put the "
                     "real one there, or name a file that holds it: token_file"},
    {"token: \"file:\"\n", "r.yaml:1:8: token: \"file:\" without a path; put the real one there, "
                           "or name a file that holds it: token_file"},
    {"name: \"a\\tb\"\n", "r.yaml:1:7: name: expected a text without control characters; for "
                          "example: name: r1"},
};

START_TEST(bad_files_are_explained) {
  msock_config_report r = {0};
  msock_config *c = msock_config_new(&schema);
  ck_assert_int_eq(apply_text(c, bad_files[_i].text, &r), MSOCK_ERR_INVALID);
  ck_assert_uint_eq(r.n_errors, 1);
  ck_assert_str_eq(problem(&r, 0), bad_files[_i].problem);
  char *print = msock_config_print(c); /* nothing of it took effect */
  msock_config *fresh = msock_config_new(&schema);
  char *untouched = msock_config_print(fresh);
  ck_assert_str_eq(print, untouched);
  free(print);
  free(untouched);
  msock_config_free(fresh);
  msock_config_free(c);
}
END_TEST

START_TEST(all_problems_of_a_file_are_reported) {
  msock_config_report r = {0};
  msock_config *c = msock_config_new(&schema);
  ck_assert_int_eq(apply_text(c, "nme: x\nverbose: 3\nname: ok\nlimits: {idle: x}\n", &r),
                   MSOCK_ERR_INVALID);
  ck_assert_uint_eq(r.n_errors, 3);
  ck_assert_str_eq(values(c)->name, "ok");
  msock_config_free(c);
}
END_TEST

/* part of: M16 (the program exits with it) */
static const struct {
  const char *text;
  bool is_placeholder;
} secrets[] = {
    {"changeme", true},
    {"CHANGE_ME", true},
    {"<your-auth-key>", true},
    {"your-key-here", true},
    {"tskey-auth-xxxx", true},
    {"${TS_AUTHKEY}", true},
    {"placeholder", true},
    {"secret", true},
    {"xxxx", true},
    {"tskey-auth-kXy9", false},
    {"0123456789abcdef", false},
    {"secretary-17", false},
    {"xxl-shirt", false},
};

START_TEST(placeholders_are_refused_without_showing_them) {
  msock_config_report r = {0};
  char text[128];
  msock_config *c = msock_config_new(&schema);
  (void)snprintf(text, sizeof text, "token: \"%s\"\n", secrets[_i].text);
  const msock_err err = apply_text(c, text, &r);
  if (secrets[_i].is_placeholder) {
    ck_assert_msg(err == MSOCK_ERR_INVALID, "%s", secrets[_i].text);
    ck_assert_str_eq(problem(&r, 0),
                     "r.yaml:1:8: token: a placeholder, not a real secret; put the real one there, "
                     "or name a file that holds it: token_file");
  } else {
    ck_assert_msg(err == MSOCK_OK, "%s", secrets[_i].text);
    ck_assert_str_eq(values(c)->token, secrets[_i].text);
  }
  msock_config_free(c);
}
END_TEST

START_TEST(secrets_never_reach_any_output) {
  static const char *const sources[] = {"RELAY_TOKEN=top-hidden", "RELAY_NME=top-hidden",
                                        "ARGS=--token 'top-hidden' top-hidden --tokn=top-hidden",
                                        "OPEN=1", NULL};
  static const char *const words[] = {"--token", "top-hidden", "top-hidden", "--tokn=top-hidden"};
  msock_config_report r = {0};
  msock_config *c = msock_config_new(&schema);
  (void)apply_text(c, "token: top-hidden\n", &r);
  (void)msock_config_apply_environment(c, sources, &r);
  (void)msock_config_apply_flags(c, words, 4, &r);
  (void)apply_text(c, "token: top-hidden and more\ntokens: top-hidden\n", &r);
  ck_assert_str_eq(values(c)->token, "top-hidden");
  ck_assert_uint_ge(r.n_errors, 4);
  for (size_t i = 0; i < r.n; i++) {
    ck_assert_ptr_null(strstr(problem(&r, i), "hidden"));
  }
  char *print = msock_config_print(c);
  ck_assert_ptr_null(strstr(print, "hidden"));
  ck_assert_ptr_nonnull(strstr(print, "token = (set)   (flag --token)\n"));
  free(print);
  msock_config_free(c);
}
END_TEST

START_TEST(secret_and_its_file) {
  msock_config_report r = {0};
  msock_config *c = msock_config_new(&schema);
  ck_assert_int_eq(apply_text(c, "token: file:/run/t\n", &r), MSOCK_OK);
  ck_assert_int_eq(msock_config_finish(c, &r), MSOCK_OK);
  ck_assert_str_eq(values(c)->token, "");
  ck_assert_str_eq(values(c)->token_file, "/run/t");
  ck_assert_str_eq(origin(c, "token_file"), "file r.yaml:1:1");

  ck_assert_int_eq(apply_variable(c, "RELAY_TOKEN=abc", &r), MSOCK_OK); /* a higher layer */
  ck_assert_int_eq(msock_config_finish(c, &r), MSOCK_OK);
  ck_assert_str_eq(values(c)->token, "abc");
  ck_assert_str_eq(values(c)->token_file, "");
  ck_assert_str_eq(origin(c, "token_file"), "default");

  ck_assert_int_eq(apply_variable(c, "RELAY_TOKEN_FILE=/t", &r), MSOCK_OK); /* the same layer */
  ck_assert_int_eq(msock_config_finish(c, &r), MSOCK_ERR_INVALID);
  ck_assert_str_eq(problem(&r, 0), "environment RELAY_TOKEN_FILE: token_file: token is given as "
                                   "well; keep one of the two");
  msock_config_free(c);
}
END_TEST

static const struct {
  const char *bytes;
  size_t len;
  const char *want, *why; /* want NULL: refused */
} secret_files[] = {
    {"abc\n", 4, "abc", NULL},
    {" abc \r\nrest", 11, "abc", NULL},
    {"abc", 3, "abc", NULL},
    {"", 0, NULL, "its first line is empty"},
    {"\nabc", 4, NULL, "its first line is empty"},
    {"a\0b\n", 4, NULL, "its first line is too long or not a text"},
    {"a b\n", 4, NULL, "expected one word without blanks"},
    {"changeme\n", 9, NULL, "a placeholder, not a real secret"},
};

START_TEST(secret_from_file) {
  msock_config_report r = {0};
  char *got = msock_config_secret_from_file(&schema, "token", "/run/t",
                                            (const uint8_t *)secret_files[_i].bytes,
                                            secret_files[_i].len, &r);
  if (secret_files[_i].want) {
    ck_assert_ptr_nonnull(got);
    ck_assert_str_eq(got, secret_files[_i].want);
    ck_assert_uint_eq(r.n, 0);
  } else {
    ck_assert_ptr_null(got);
    ck_assert_str_eq(r.problems[0].where, "/run/t");
    ck_assert_str_eq(r.problems[0].field, "token");
    ck_assert_str_eq(r.problems[0].reason, secret_files[_i].why);
  }
  msock_config_free_secret(got);
}
END_TEST

START_TEST(variables_have_an_order) {
  static const char *const all[] = {"OLDER_NAME=c", "ARGS=--name=d", "OLD_NAME=b", "RELAY_NAME=a",
                                    NULL};
  static const char *const aliases[] = {"OLDER_NAME=c", "ARGS=--name=d", "OLD_NAME=b",
                                        "RELAY_NAME=", NULL};
  msock_config_report r = {0};
  msock_config *c = msock_config_new(&schema);
  ck_assert_int_eq(msock_config_apply_environment(c, all, &r), MSOCK_OK);
  ck_assert_str_eq(values(c)->name, "a");
  ck_assert_str_eq(problem(&r, 0), "warning: environment OLD_NAME: name: RELAY_NAME is set as well "
                                   "and is the one that counts; unset one of the two");
  ck_assert_uint_eq(r.n, 1);
  msock_config_free(c);

  r = (msock_config_report){0};
  c = msock_config_new(&schema);
  ck_assert_int_eq(msock_config_apply_environment(c, aliases, &r), MSOCK_OK);
  ck_assert_str_eq(values(c)->name, "b"); /* an empty variable counts as not set */
  ck_assert_str_eq(origin(c, "name"), "environment OLD_NAME");
  ck_assert_uint_eq(r.n, 0);
  msock_config_free(c);
}
END_TEST

static const struct {
  const char *variable, *problem; /* NULL: none */
  bool warning;
} variables[] = {
    {"OPEN=true", NULL, false},
    {"QUIET=1", NULL, false},
    {"HOME=/root", NULL, false},
    {"RADIO=on", "warning: environment RADIO: no radio here", true},
    {"RELAY_VERBOS=1",
     "warning: environment RELAY_VERBOS: no setting has this name; did you mean RELAY_VERBOSE?",
     true},
    {"RELAY_UNICORNS=1", "warning: environment RELAY_UNICORNS: no setting has this name", true},
    {"OPEN=perhaps", "environment OPEN: mode: expected true or false, found \"perhaps\"", false},
    {"RELAY_LIMITS_CLIENTS=x",
     "environment RELAY_LIMITS_CLIENTS: limits.clients: expected a whole "
     "number from -1 to 1000, found \"x\"; for example: "
     "RELAY_LIMITS_CLIENTS=100",
     false},
    {"ARGS=--name 'a",
     "environment ARGS: a quote that is not closed, or more than 256 words; close "
     "it, or put a \\ before it",
     false},
    {"ARGS=--nmae=a", "environment ARGS --nmae: unknown flag; did you mean --name?", false},
    {"ARGS=--limits-clients=x",
     "environment ARGS --limits-clients: limits.clients: expected a "
     "whole number from -1 to 1000, found \"x\"; for example: "
     "RELAY_LIMITS_CLIENTS=100",
     false},
};

START_TEST(variables_are_explained) {
  msock_config_report r = {0};
  msock_config *c = msock_config_new(&schema);
  const msock_err err = apply_variable(c, variables[_i].variable, &r);
  const bool is_error = variables[_i].problem && !variables[_i].warning;
  ck_assert_msg(err == (is_error ? MSOCK_ERR_INVALID : MSOCK_OK), "%s", variables[_i].variable);
  ck_assert_uint_eq(r.n_errors, is_error);
  if (variables[_i].problem) {
    ck_assert_str_eq(problem(&r, 0), variables[_i].problem);
  } else {
    ck_assert_uint_eq(r.n, 0);
  }
  msock_config_free(c);
}
END_TEST

static const struct {
  const char *args, *name;
} quoted[] = {
    {"--name=plain", "plain"},
    {"  --name   two\t", "two"},
    {"--name='$HOME\\n'", "$HOME\\n"},
    {"--name \"a\\\"b\\\\c\\d\"", "a\"b\\c\\d"},
    {"--name=a\"b\"'c'd\\ e", NULL}, /* a blank: refused by the rule of the row */
    {"--name=''", ""},
    {"--verbose --name=after-switch", "after-switch"},
    {"--verbose=false -n short", "short"},
};

START_TEST(flag_lists_are_split_as_a_shell_does) {
  msock_config_report r = {0};
  char variable[128];
  msock_config *c = msock_config_new(&schema);
  (void)snprintf(variable, sizeof variable, "ARGS=%s", quoted[_i].args);
  const msock_err err = apply_variable(c, variable, &r);
  if (quoted[_i].name == NULL) {
    ck_assert_int_eq(err, MSOCK_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(problem(&r, 0), "found \"abcd e\""));
  } else {
    ck_assert_int_eq(err, MSOCK_OK);
    ck_assert_str_eq(values(c)->name, quoted[_i].name);
    ck_assert_int_eq(strncmp(origin(c, "name"), "environment ARGS --n", 20), 0);
  }
  msock_config_free(c);
}
END_TEST

static const struct {
  const char *word, *problem; /* NULL: fine */
  bool warning;
} flags[] = {
    {"--verbose", NULL, false},
    {"-verbose=off", NULL, false},
    {"--open", NULL, false},
    {"--old-switch", NULL, false},
    {"--old-value=3", "warning: flag --old-value: does nothing", true},
    {"--ssh", "flag --ssh: not in this build", false},
    {"--limit-clients=3", "flag --limit-clients: unknown flag; did you mean --limits-clients?",
     false},
    {"--zzz", "flag --zzz: unknown flag; see all flags with relay --help", false},
    {"--name", "flag --name: name: needs a value; for example: --name=r1", false},
    {"stray",
     "flags, word 1: a word that is neither a flag nor the value of one; write "
     "--NAME=VALUE",
     false},
    {"--", "flags, word 1: a word that is neither a flag nor the value of one; write --NAME=VALUE",
     false},
    {"--mode=shut",
     "flag --mode: mode: expected one of open, list, found \"shut\"; for example: "
     "--mode=list",
     false},
};

START_TEST(flags_are_explained) {
  msock_config_report r = {0};
  msock_config *c = msock_config_new(&schema);
  const msock_err err = apply_flag(c, flags[_i].word, &r);
  const bool is_error = flags[_i].problem && !flags[_i].warning;
  ck_assert_msg(err == (is_error ? MSOCK_ERR_INVALID : MSOCK_OK), "%s", flags[_i].word);
  if (flags[_i].problem) {
    ck_assert_str_eq(problem(&r, 0), flags[_i].problem);
  } else {
    ck_assert_uint_eq(r.n, 0);
  }
  msock_config_free(c);
}
END_TEST

START_TEST(print_names_every_origin) {
  static const char want[] = "name = r1   (flag --name)\n"
                             "verbose = true   (environment RELAY_VERBOSE)\n"
                             "mode = list   (default)\n"
                             "listen = \":443\"   (default)\n"
                             "bind = \"\"   (default)\n"
                             "token = (not set)   (default)\n"
                             "token_file = \"\"   (default)\n"
                             "limits.clients = 7   (file r.yaml:1:10)\n"
                             "limits.rate = 1536KiB   (file r.yaml:1:22)\n"
                             "limits.idle = 1h500ms   (file r.yaml:1:37)\n"
                             "limits.deny.words = [a, \"b\\\"\", \"-c\"]   (file r.yaml:2:17)\n"
                             "limits.deny.prefixes = [10.0.0.0/8, \"::/0\"]   (file r.yaml:3:3)\n";
  msock_config_report r = {0};
  msock_config *c = msock_config_new(&schema);
  ck_assert_int_eq(apply_text(c,
                              "limits: {clients: 7, rate: 1536KiB, idle: 1h500ms,\n"
                              "         deny: {words: [a, b\", \"-c\"],\n"
                              "  prefixes: [10.0.0.0/8, \"::/0\"]}}\n",
                              &r),
                   MSOCK_OK);
  ck_assert_int_eq(apply_variable(c, "RELAY_VERBOSE=1", &r), MSOCK_OK);
  ck_assert_int_eq(apply_flag(c, "--name=r1", &r), MSOCK_OK);
  char *print = msock_config_print(c);
  ck_assert_str_eq(print, want);
  free(print);
  msock_config_free(c);
}
END_TEST

/* Takes the "#" from the lines that hold settings. */
static void uncomment(char *text) {
  char *to = text;
  bool is_indent = false;
  for (const char *p = text; *p != '\0'; p++) {
    const bool first = p == text || p[-1] == '\n' || (p[-1] == ' ' && is_indent);
    is_indent = first && *p == ' ';
    if (first && *p == '#' && p[1] != ' ') {
      continue;
    }
    *to++ = *p;
  }
  *to = '\0';
}

/* part of: M03 (the program writes it) */
START_TEST(generated_file_loads_and_changes_nothing) {
  msock_config_report r = {0};
  char *text = msock_config_generate(&schema);
  ck_assert_ptr_nonnull(strstr(text, "\n#limits:\n"));
  ck_assert_ptr_nonnull(strstr(text, "\n  #deny:\n"));
  ck_assert_ptr_nonnull(strstr(text, "\n  #clients: 100\n"));
  ck_assert_ptr_nonnull(strstr(text, "\n    #words: []\n"));
  ck_assert_ptr_nonnull(strstr(text, "RELAY_LIMITS_CLIENTS, --limits-clients; reloaded at SIGHUP"));
  msock_config *c = msock_config_new(&schema), *fresh = msock_config_new(&schema);
  ck_assert_int_eq(apply_text(c, text, &r), MSOCK_OK);
  ck_assert_uint_eq(msock_config_diff(fresh, c, NULL, 0), 0);
  ck_assert(msock_config_is_default(c, "mode"));

  uncomment(text);
  const msock_err err = apply_text(c, text, &r);
  ck_assert_msg(err == MSOCK_OK, "%s\n%s", r.n ? problem(&r, 0) : "", text);
  ck_assert_uint_eq(msock_config_diff(fresh, c, NULL, 0), 0);
  for (size_t i = 0; i < schema.n_rows; i++) { /* every key was there */
    ck_assert_msg(!msock_config_is_default(c, rows[i].key), "%s", rows[i].key);
  }
  free(text);
  msock_config_free(c);
  msock_config_free(fresh);
}
END_TEST

START_TEST(diff_tells_what_can_be_reloaded) {
  const msock_config_row *changed[2];
  msock_config_report r = {0};
  msock_config *a = msock_config_new(&schema), *b = msock_config_new(&schema);
  ck_assert_uint_eq(msock_config_diff(a, b, changed, 2), 0);
  ck_assert_int_eq(apply_text(a, "name: x\ntoken: k1\n", &r), MSOCK_OK);
  ck_assert_int_eq(apply_text(b,
                              "token: k2\nname: x\nlimits: {clients: 5, deny: {words: [a], "
                              "prefixes: [\"::1\"]}}\n",
                              &r),
                   MSOCK_OK);
  ck_assert_uint_eq(msock_config_diff(a, b, changed, 2), 4);
  ck_assert_str_eq(changed[0]->key, "token");
  ck_assert(!changed[0]->reloadable);
  ck_assert_str_eq(changed[1]->key, "limits.clients");
  ck_assert(changed[1]->reloadable);
  msock_config_free(a);
  msock_config_free(b);
}
END_TEST

/* part of: M02 M21 (the program opens it) */
START_TEST(file_is_found_or_its_making_explained) {
  static const char *const home[] = {"HOME=/home/u", NULL};
  static const char *const xdg[] = {"HOME=/home/u", "XDG_CONFIG_HOME=/c", NULL};
  static const char *const relative[] = {"HOME=/home/u", "XDG_CONFIG_HOME=c", NULL};
  static const char *const none[] = {"HOME=", NULL};
  static const struct {
    const char *const *environment;
    bool is_root;
    const char *want;
  } cases[] = {{home, false, "/home/u/.config/relay/relay.yaml"},
               {xdg, false, "/c/relay/relay.yaml"},
               {relative, false, "/home/u/.config/relay/relay.yaml"},
               {home, true, "/etc/relay/relay.yaml"},
               {none, false, NULL}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char *path = msock_config_default_path(&schema, cases[i].environment, cases[i].is_root);
    ck_assert_pstr_eq(path, cases[i].want);
    free(path);
  }
  msock_config_report r = {0};
  msock_config_report_unreadable(&schema, MSOCK_ERR_UNKNOWN, "cannot read /x/relay.yaml: absent",
                                 &r);
  ck_assert_str_eq(problem(&r, 0), "configuration: cannot read /x/relay.yaml: absent; make one "
                                   "with: relay --generate-config > relay.yaml");
  msock_config_report_unreadable(&schema, MSOCK_ERR_IO, "cannot read /x/relay.yaml: denied", &r);
  ck_assert_str_eq(problem(&r, 1), "configuration: cannot read /x/relay.yaml: denied; name another "
                                   "one with --config, or run as a user who may read it");
}
END_TEST

#define N_OF(a) ((int)(sizeof(a) / sizeof(a)[0]))

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, defaults_are_in_force);
  tcase_add_test(tc, file_fills_every_type);
  tcase_add_test(tc, layers_go_by_rank_in_any_order);
  tcase_add_loop_test(tc, bad_files_are_explained, 0, N_OF(bad_files));
  tcase_add_test(tc, all_problems_of_a_file_are_reported);
  tcase_add_loop_test(tc, placeholders_are_refused_without_showing_them, 0, N_OF(secrets));
  tcase_add_test(tc, secrets_never_reach_any_output);
  tcase_add_test(tc, secret_and_its_file);
  tcase_add_loop_test(tc, secret_from_file, 0, N_OF(secret_files));
  tcase_add_test(tc, variables_have_an_order);
  tcase_add_loop_test(tc, variables_are_explained, 0, N_OF(variables));
  tcase_add_loop_test(tc, flag_lists_are_split_as_a_shell_does, 0, N_OF(quoted));
  tcase_add_loop_test(tc, flags_are_explained, 0, N_OF(flags));
  tcase_add_test(tc, print_names_every_origin);
  tcase_add_test(tc, generated_file_loads_and_changes_nothing);
  tcase_add_test(tc, diff_tells_what_can_be_reloaded);
  tcase_add_test(tc, file_is_found_or_its_making_explained);
  return testing_main("config_schema", tc);
}
