#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/loop.h"
#include "node/prefs.h"
#include "tsnode/cli.h"
#include "tsnode/qr.h"

/* Limits and timers. All are ours. */
#define POLL_US UINT64_C(1000000)      /* how often status is asked while waiting without news */
#define PROGRESS_US UINT64_C(1000000)  /* silence before the first line about waiting */
#define ASK_LOGIN_US UINT64_C(2000000) /* no URL by then: ask for one */
#define LOGOUT_US UINT64_C(10000000)   /* for the server to confirm */
#define AUTH_KEY_MAX 512u
#define FLAGS_MAX 32u

typedef struct up_flags {
  const char *login_server, *auth_key, *hostname, *operator_user, *routes, *tags;
  bool accept_routes, accept_dns, shields_up, reset, force, qr;
  uint64_t timeout_us;
  struct {
    bool login_server, hostname, operator_user, routes, tags;
    bool accept_routes, accept_dns, shields_up;
  } given;
} up_flags;

/* Flags of preferences, for up, login and set. Gives their number. */
static size_t pref_flags(up_flags *f, msock_flag *out) {
  const msock_flag list[] = {
      {"accept-routes", MSOCK_FLAG_BOOL, &f->accept_routes, &f->given.accept_routes,
       "use routes that other nodes offer", 0},
      {"accept-dns", MSOCK_FLAG_BOOL, &f->accept_dns, &f->given.accept_dns, "use the tailnet's DNS",
       0},
      {"hostname", MSOCK_FLAG_TEXT, &f->hostname, &f->given.hostname,
       "name of this node; empty: the machine's", 0},
      {"operator", MSOCK_FLAG_TEXT, &f->operator_user, &f->given.operator_user,
       "user who may run tsnode without root", 0},
      {"shields-up", MSOCK_FLAG_BOOL, &f->shields_up, &f->given.shields_up,
       "refuse connections from the tailnet", 0},
      {"advertise-routes", MSOCK_FLAG_TEXT, &f->routes, &f->given.routes,
       "routes to offer, separated by commas; empty: none", 0},
      {"advertise-tags", MSOCK_FLAG_TEXT, &f->tags, &f->given.tags,
       "tags to ask for, separated by commas; empty: none", 0},
      {"advertise-exit-node", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"exit-node", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"exit-node-allow-lan-access", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"snat-subnet-routes", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"stateful-filtering", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"netfilter-mode", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"relay-server-port", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"relay-server-static-endpoints", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"ssh", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
  };
  _Static_assert(sizeof list / sizeof *list <= FLAGS_MAX / 2, "table is too small");
  memcpy(out, list, sizeof list);
  return sizeof list / sizeof *list;
}

/* Flags of a login, for up and login. */
static size_t login_flags(up_flags *f, msock_flag *out) {
  const msock_flag list[] = {
      {"login-server", MSOCK_FLAG_TEXT, &f->login_server, &f->given.login_server,
       "URL of the control server", 0},
      {"auth-key", MSOCK_FLAG_TEXT, &f->auth_key, NULL,
       "pre-auth key, or file:PATH with one (also in TS_AUTHKEY)", 0},
      {"authkey", MSOCK_FLAG_TEXT, &f->auth_key, NULL, NULL, 0},
      {"force-reauth", MSOCK_FLAG_BOOL, &f->force, NULL, "log in again with a new node key", 0},
      {"timeout", MSOCK_FLAG_DURATION, &f->timeout_us, NULL,
       "give up after this time; 0: wait for ever", 0},
      {"reset", MSOCK_FLAG_BOOL, &f->reset, NULL, "what is not given goes back to its default", 0},
      {"json", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"qr", msock_qr_is_built() ? MSOCK_FLAG_BOOL : MSOCK_FLAG_ABSENT, &f->qr, NULL,
       "show the login URL as a QR code too", 0},
  };
  _Static_assert(sizeof list / sizeof *list <= FLAGS_MAX / 2, "table is too small");
  memcpy(out, list, sizeof list);
  return sizeof list / sizeof *list;
}

/* A comma list as a JSON list of texts. */
static json_object *list_of(const char *text) {
  json_object *list = json_object_new_array();
  while (*text) {
    const size_t len = strcspn(text, ",");
    if (len > 0) {
      json_object_array_add(list, json_object_new_string_len(text, (int)len));
    }
    text += len + (text[len] == ',');
  }
  return list;
}

/* Takes v. With a mask "<name>Set" goes along (MaskedPrefs). */
static void put(json_object *doc, bool masked, const char *name, json_object *v) {
  char set[64];
  json_object_object_add(doc, name, v);
  if (masked) {
    snprintf(set, sizeof set, "%sSet", name);
    json_object_object_add(doc, set, json_object_new_boolean(true));
  }
}

static json_object *prefs_of(const up_flags *f, bool masked) {
  json_object *doc = json_object_new_object();
  if (f->given.login_server) {
    put(doc, masked, "ControlURL", json_object_new_string(f->login_server));
  }
  if (f->given.hostname) {
    put(doc, masked, "Hostname", json_object_new_string(f->hostname));
  }
  if (f->given.operator_user) {
    put(doc, masked, "OperatorUser", json_object_new_string(f->operator_user));
  }
  if (f->given.accept_routes) {
    put(doc, masked, "RouteAll", json_object_new_boolean(f->accept_routes));
  }
  if (f->given.accept_dns) {
    put(doc, masked, "CorpDNS", json_object_new_boolean(f->accept_dns));
  }
  if (f->given.shields_up) {
    put(doc, masked, "ShieldsUp", json_object_new_boolean(f->shields_up));
  }
  if (f->given.routes) {
    put(doc, masked, "AdvertiseRoutes", list_of(f->routes));
  }
  if (f->given.tags) {
    put(doc, masked, "AdvertiseTags", list_of(f->tags));
  }
  return doc;
}

/* --reset: what is not given is sent with its default. The server stays: it is who we are. */
static void reset_rest(up_flags *f) {
  msock_prefs p;
  msock_prefs_default(&p);
  f->hostname = f->given.hostname ? f->hostname : "";
  f->operator_user = f->given.operator_user ? f->operator_user : "";
  f->routes = f->given.routes ? f->routes : "";
  f->tags = f->given.tags ? f->tags : "";
  f->accept_routes = f->given.accept_routes ? f->accept_routes : p.accept_routes;
  f->accept_dns = f->given.accept_dns ? f->accept_dns : p.accept_dns;
  f->shields_up = f->given.shields_up ? f->shields_up : p.shields_up;
  f->given.hostname = f->given.operator_user = f->given.routes = f->given.tags = true;
  f->given.accept_routes = f->given.accept_dns = f->given.shields_up = true;
}

/* Checks that need no daemon, so that a slip is told at once. */
static msock_exit check(const up_flags *f) {
  char why[MSOCK_WHY_MAX];
  if ((f->given.hostname && msock_prefs_check_hostname(f->hostname, why) != MSOCK_OK) ||
      (f->given.login_server && msock_prefs_check_control_url(f->login_server, why) != MSOCK_OK)) {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "%s", why);
  }
  return MSOCK_EXIT_OK;
}

/* The first line of a key file. */
static msock_exit read_key_file(const char *path, char key[static AUTH_KEY_MAX]) {
  char why[MSOCK_FILE_WHY_MAX];
  char *text = NULL;
  size_t len = 0;
  if (msock_file_read(path, AUTH_KEY_MAX - 1, false, &text, &len, why) != MSOCK_OK) {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "--auth-key: %s", why);
  }
  snprintf(key, AUTH_KEY_MAX, "%.*s", (int)strcspn(text, "\r\n"), text);
  explicit_bzero(text, len);
  free(text);
  return MSOCK_EXIT_OK;
}

/* The key from flag, file or environment; "" = none. The argument is blanked, as other users can
 * read it. Never printed. */
static msock_exit take_key(const up_flags *f, char key[static AUTH_KEY_MAX]) {
  const char *from = f->auth_key ? f->auth_key : getenv("TS_AUTHKEY");
  key[0] = '\0';
  if (from == NULL || *from == '\0') {
    return MSOCK_EXIT_OK;
  }
  if (strncmp(from, "file:", 5) == 0) {
    const msock_exit code = read_key_file(from + 5, key);
    if (code != MSOCK_EXIT_OK) {
      return code;
    }
  } else if (strlen(from) < AUTH_KEY_MAX) {
    snprintf(key, AUTH_KEY_MAX, "%s", from);
    explicit_bzero((void *)(uintptr_t)from, strlen(from));
  }
  for (const char *c = key; *c; c++) {
    if (*c <= ' ' || *c >= 0x7f || *c == '"' || *c == '\\') {
      explicit_bzero(key, AUTH_KEY_MAX);
      return msock_cli_fail(MSOCK_EXIT_USAGE, "--auth-key: that does not look like a key");
    }
  }
  return *key ? MSOCK_EXIT_OK
              : msock_cli_fail(MSOCK_EXIT_USAGE, "--auth-key: the key is empty or too long");
}

/* Everything in one call: it is taken whole, or nothing changes. Written by hand, as the key must
 * not stay in the JSON library's memory. */
static msock_exit post_start(const msock_cli *cli, const up_flags *f, const char *key) {
  json_object *prefs = prefs_of(f, false), *none = NULL;
  put(prefs, false, "WantRunning", json_object_new_boolean(true));
  const char *text = json_object_to_json_string_ext(prefs, JSON_C_TO_STRING_PLAIN);
  const size_t cap = strlen(text) + AUTH_KEY_MAX + 64;
  char *body = calloc(1, cap);
  msock_exit code = MSOCK_EXIT_OTHER;
  if (body != NULL) {
    snprintf(body, cap, "{\"AuthKey\":\"%s\",\"ForceReauth\":%s,\"UpdatePrefs\":%s}", key,
             f->force ? "true" : "false", text);
    const msock_cli_call call = {"POST", "/localapi/v0/start", body, 0, false};
    code = msock_cli_ask(cli, &call, &none);
    explicit_bzero(body, cap);
    free(body);
  }
  json_object_put(prefs);
  json_object_put(none);
  return code;
}

/* What was already said while waiting, so that each thing is said once. */
typedef struct waiting {
  const msock_cli *cli;
  bool with_key, qr;
  uint64_t begun_us, deadline_us;
  char url[512], said[512];
  bool said_waiting, said_approval, asked_login;
} waiting;

static void say(waiting *w, const char *text) {
  if (strcmp(w->said, text) != 0) {
    snprintf(w->said, sizeof w->said, "%s", text);
    fprintf(stderr, "tsnode: still trying: %s\n", text);
  }
}

static void show_progress(waiting *w, const char *state, const char *error, uint64_t now_us) {
  if (now_us - w->begun_us < PROGRESS_US) {
    return;
  }
  if (*error) {
    say(w, error);
  } else if (!w->said_waiting && *w->url == '\0') {
    w->said_waiting = true;
    fprintf(stderr, "tsnode: connecting (%s)...\n", state);
  }
}

static void show_url(waiting *w, const char *url) {
  if (*url && strcmp(w->url, url) != 0) {
    snprintf(w->url, sizeof w->url, "%s", url);
    fprintf(stderr, "\nTo authenticate, visit:\n\n\t%s\n\n", url);
    if (w->qr && !msock_qr_print(stderr, url)) {
      fputs("tsnode: the URL does not fit a QR code\n", stderr);
    }
    fputs("tsnode: waiting for the login...\n", stderr);
  }
}

/* A login waits for a person, and no URL came by itself. */
static void ask_for_url(waiting *w) {
  const msock_cli_call call = {"POST", "/localapi/v0/login-interactive", NULL, 0, true};
  json_object *none = NULL;
  w->asked_login = true;
  msock_cli_ask(w->cli, &call, &none);
  json_object_put(none);
}

/* One look at the status. True: *code is final. */
static bool look(waiting *w, json_object *status, uint64_t now_us, msock_exit *code) {
  const char *state = msock_cli_str(status, "BackendState");
  const char *url = msock_cli_str(status, "AuthURL");
  const char *error = msock_cli_str(msock_cli_get(status, "TSNode"), "LastError");
  *code = MSOCK_EXIT_OK;
  if (strcmp(state, "Running") == 0) {
    if (*w->url) {
      fputs("Success.\n", stderr);
    }
    return true;
  }
  if (strcmp(state, "Stopped") == 0 && now_us - w->begun_us >= PROGRESS_US) {
    *code = msock_cli_fail(MSOCK_EXIT_STOPPED, "somebody stopped the node meanwhile; try again");
    return true;
  }
  if (strcmp(state, "NeedsLogin") == 0 && w->with_key && *error) {
    *code = msock_cli_fail(MSOCK_EXIT_NEEDS_LOGIN,
                           "login failed: %s\n        make a new key on the control server, or "
                           "leave --auth-key out to log in with a browser",
                           error);
    return true;
  }
  if (strcmp(state, "NeedsMachineAuth") == 0 && !w->said_approval) {
    w->said_approval = true;
    fputs("tsnode: waiting for an admin of the control server to approve this node\n", stderr);
  }
  show_url(w, url);
  show_progress(w, state, error, now_us);
  if (strcmp(state, "NeedsLogin") == 0 && !w->with_key && *url == '\0' && !w->asked_login &&
      now_us - w->begun_us >= ASK_LOGIN_US) {
    ask_for_url(w);
  }
  return false;
}

static msock_exit wait_running(const msock_cli *cli, bool with_key, bool qr, uint64_t timeout_us) {
  waiting w = {.cli = cli, .with_key = with_key, .qr = qr, .begun_us = msock_loop_now_us()};
  w.deadline_us = timeout_us ? w.begun_us + timeout_us : MSOCK_NEVER;
  for (;;) {
    json_object *status = NULL;
    msock_exit code = msock_cli_status(cli, false, false, &status);
    const uint64_t now_us = msock_loop_now_us();
    const bool done = code != MSOCK_EXIT_OK || look(&w, status, now_us, &code);
    if (!done && now_us >= w.deadline_us) {
      const bool login = strncmp(msock_cli_str(status, "BackendState"), "Needs", 5) == 0;
      code = msock_cli_fail(MSOCK_EXIT_TIMEOUT, "not connected in time (%s%s%s); %s",
                            msock_cli_str(status, "BackendState"), *w.said ? ": " : "", w.said,
                            login ? "approve the login, then: tsnode wait"
                                  : "the daemon goes on trying, see: tsnode status");
      json_object_put(status);
      return code;
    }
    if (!done) {
      const uint64_t left = w.deadline_us - now_us;
      msock_cli_await_news(cli, status, left < POLL_US ? left : POLL_US);
    }
    json_object_put(status);
    if (done) {
      return code;
    }
  }
}

static msock_exit connect_node(const msock_cli *cli, const msock_verb *verb, int argc,
                               char **argv) {
  up_flags f = {0};
  msock_flag flags[FLAGS_MAX];
  char key[AUTH_KEY_MAX];
  msock_words words;
  msock_exit code;
  size_t n = pref_flags(&f, flags);
  n += login_flags(&f, flags + n);
  if (!msock_cli_flags(verb, flags, n, argc, argv, 0, &words, &code)) {
    return code;
  }
  if (f.reset) {
    reset_rest(&f);
  }
  code = check(&f);
  if (code == MSOCK_EXIT_OK) {
    code = take_key(&f, key);
  }
  if (code != MSOCK_EXIT_OK) {
    return code;
  }
  const bool with_key = key[0] != '\0';
  code = post_start(cli, &f, key);
  explicit_bzero(key, sizeof key);
  return code == MSOCK_EXIT_OK ? wait_running(cli, with_key, f.qr, f.timeout_us) : code;
}

msock_exit msock_cmd_up(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  return connect_node(cli, verb, argc, argv);
}

msock_exit msock_cmd_login(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  return connect_node(cli, verb, argc, argv);
}

/* Takes doc. */
static msock_exit patch(const msock_cli *cli, json_object *doc) {
  const msock_cli_call call = {"PATCH", "/localapi/v0/prefs",
                               json_object_to_json_string_ext(doc, JSON_C_TO_STRING_PLAIN), 0,
                               false};
  json_object *now = NULL;
  const msock_exit code = msock_cli_ask(cli, &call, &now);
  json_object_put(doc);
  json_object_put(now);
  return code;
}

msock_exit msock_cmd_set(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  up_flags f = {0};
  msock_flag flags[FLAGS_MAX];
  msock_words words;
  msock_exit code;
  const size_t n = pref_flags(&f, flags);
  if (!msock_cli_flags(verb, flags, n, argc, argv, 0, &words, &code)) {
    return code;
  }
  if (argc == 0) {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "set: say what to change (see tsnode set --help)");
  }
  code = check(&f);
  return code == MSOCK_EXIT_OK ? patch(cli, prefs_of(&f, true)) : code;
}

msock_exit msock_cmd_down(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  msock_words words;
  msock_exit code;
  if (!msock_cli_flags(verb, NULL, 0, argc, argv, 0, &words, &code)) {
    return code;
  }
  json_object *doc = json_object_new_object();
  put(doc, true, "WantRunning", json_object_new_boolean(false));
  return patch(cli, doc);
}

msock_exit msock_cmd_logout(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  msock_words words;
  msock_exit code;
  json_object *doc = NULL;
  if (!msock_cli_flags(verb, NULL, 0, argc, argv, 0, &words, &code)) {
    return code;
  }
  const msock_cli_call call = {"POST", "/localapi/v0/logout", NULL, 0, false};
  code = msock_cli_ask(cli, &call, &doc);
  json_object_put(doc);
  for (const uint64_t end_us = msock_loop_now_us() + LOGOUT_US; code == MSOCK_EXIT_OK;) {
    code = msock_cli_status(cli, false, false, &doc);
    const bool over = code != MSOCK_EXIT_OK || !msock_cli_bool(doc, "HaveNodeKey");
    const uint64_t now_us = msock_loop_now_us();
    if (!over && now_us < end_us) {
      msock_cli_await_news(cli, doc, end_us - now_us < POLL_US ? end_us - now_us : POLL_US);
    }
    json_object_put(doc);
    if (over) {
      return code;
    }
    if (now_us >= end_us) {
      return msock_cli_fail(MSOCK_EXIT_TIMEOUT,
                            "the control server has not confirmed the logout yet; the daemon goes "
                            "on trying, see: tsnode status");
    }
  }
  return code;
}
