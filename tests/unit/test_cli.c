/* The verbs against a daemon's LocalAPI: the real server on a real socket in a child process, with
 * a scripted backend behind it. Checks words, streams and exit codes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/egress.h"
#include "io/loop.h"
#include "node/localapi_server.h"
#include "node/netcheck_json.h"
#include "node/status_json.h"
#include "tests/unit/testing.h"
#include "tsnode/cli.h"

const msock_verb msock_verbs[] = {{"verb", "A sentence.", "", msock_cmd_up}};
const size_t msock_n_verbs = 1;

/* Shared by the test and its daemon. */
typedef struct script {
  char state[24], auth_url[64], error[64];
  char after_start[24]; /* state once /start came; "" = stays */
  char ping_err[32];    /* "" = pongs */
  bool ping_silent;
  int network; /* of be_netcheck */
  unsigned pings, logins;
  char start[512], edit[512];
} script;

static script *sh;
static msock_localapi_server *server;
static char dir[64], sock[96];
static pid_t daemon_pid;

static void give(msock_localapi_req req, char *text, size_t len) {
  msock_localapi_reply(msock_localapi_server_api(server), msock_loop_now_us(), req, 200,
                       "application/json", text, len);
}

static const msock_status_peer *only_peer(void *ctx, size_t i) {
  (void)i;
  return ctx;
}

static void be_status(void *ctx, msock_localapi_req req, bool with_peers) {
  static const msock_ip self_ips[2] = {{4, {100, 64, 0, 1}}, {6, {0xfd, 0x7a, [15] = 1}}};
  static const msock_ip peer_ips[1] = {{4, {100, 64, 0, 2}}};
  static const char *const health[] = {"something is off"};
  const msock_status_user user = {5, "ann@example.org", "Ann", ""};
  const msock_status_peer self = {.host_name = "me",
                                  .dns_name = "me.tail.example.",
                                  .os = "linux",
                                  .user_id = 5,
                                  .tailscale_ips = self_ips,
                                  .n_tailscale_ips = 2,
                                  .online = true};
  msock_status_peer peer = {.host_name = "box",
                            .dns_name = "box.tail.example.",
                            .os = "linux",
                            .user_id = 5,
                            .tailscale_ips = peer_ips,
                            .n_tailscale_ips = 1,
                            .relay = "fra",
                            .tx_bytes = 10,
                            .rx_bytes = 20,
                            .online = true,
                            .active = true};
  const msock_status s = {.version = "9.9.9",
                          .backend_state = sh->state,
                          .auth_url = sh->auth_url,
                          .last_error = sh->error,
                          .self = &self,
                          .peer_at = only_peer,
                          .peer_ctx = &peer,
                          .n_peers = 1,
                          .users = &user,
                          .n_users = 1,
                          .health = health,
                          .n_health = 1};
  size_t len;
  char *text = msock_status_json(&s, with_peers, &len);
  (void)ctx;
  give(req, text, len);
}

static void be_prefs(void *ctx, msock_localapi_req req) {
  (void)ctx;
  give(req, strdup("{}"), 2);
}

static void be_edit(void *ctx, msock_localapi_req req, json_object *doc) {
  (void)ctx;
  snprintf(sh->edit, sizeof sh->edit, "%s",
           json_object_to_json_string_ext(doc, JSON_C_TO_STRING_PLAIN));
  give(req, strdup("{}"), 2);
}

static void be_start(void *ctx, msock_localapi_req req, const char *key, json_object *prefs,
                     bool force) {
  msock_localapi *api = msock_localapi_server_api(server);
  (void)ctx;
  snprintf(sh->start, sizeof sh->start, "%s %d %s", key, force,
           json_object_to_json_string_ext(prefs, JSON_C_TO_STRING_PLAIN));
  if (*sh->after_start) {
    memcpy(sh->state, sh->after_start, sizeof sh->state);
  }
  if (strcmp(key, "refuse") == 0) {
    msock_localapi_reply_error(api, msock_loop_now_us(), req, 400, "no login server is set");
  } else {
    msock_localapi_reply_none(api, msock_loop_now_us(), req);
  }
}

static void be_login(void *ctx, msock_localapi_req req) {
  (void)ctx;
  sh->logins++;
  snprintf(sh->auth_url, sizeof sh->auth_url, "https://hs.example/register/abc");
  msock_localapi_reply_none(msock_localapi_server_api(server), msock_loop_now_us(), req);
}

static void be_ping(void *ctx, msock_localapi_req req, const msock_ip *ip,
                    msock_localapi_ping_type type, uint32_t size) {
  char addr[MSOCK_IP_TEXT_MAX];
  const msock_ping_result r = {.ip = msock_ip_text(ip, addr),
                               .node_ip = addr,
                               .node_name = "box",
                               .err = sh->ping_err,
                               .latency_us = 11600,
                               .derp_region = 900,
                               .derp_code = "fra"};
  size_t len;
  (void)ctx;
  (void)type;
  (void)size;
  sh->pings++;
  if (!sh->ping_silent) {
    char *text = msock_ping_json(&r, &len);
    give(req, text, len);
  }
}

static void be_whois(void *ctx, msock_localapi_req req, const char *addr) {
  (void)ctx;
  (void)addr;
  msock_localapi_reply_error(msock_localapi_server_api(server), msock_loop_now_us(), req, 404,
                             "no node of this tailnet has that address");
}

static void be_metrics(void *ctx, msock_localapi_req req) {
  (void)ctx;
  msock_localapi_reply(msock_localapi_server_api(server), msock_loop_now_us(), req, 200,
                       "text/plain", strdup("a 1\n"), 4);
}

static void be_debug_derp(void *ctx, msock_localapi_req req) {
  char *text = strdup("{\"Regions\":[{\"RegionID\":900,\"RegionCode\":\"fra\",\"State\":\"open\","
                      "\"Home\":true,\"SecondsInState\":12.5,\"LastError\":\"was away\"}]}");
  (void)ctx;
  give(req, text, strlen(text));
}

static void be_debug_netmap(void *ctx, msock_localapi_req req) {
  (void)ctx;
  msock_localapi_reply_error(msock_localapi_server_api(server), msock_loop_now_us(), req, 404,
                             "there is no netmap yet");
}

/* Bytes that are no text: the file must get all of them. */
static void be_capture(void *ctx, msock_localapi_req req, uint64_t seconds, uint64_t bytes) {
  char *body = calloc(1, 64);
  (void)ctx;
  snprintf(sh->edit, sizeof sh->edit, "%u %u", (unsigned)seconds, (unsigned)bytes);
  memset(body + 32, 0xff, 32);
  give(req, body, 64);
}

/* 0: an easy NAT, two of three regions measured; 1: UDP blocked; 2: nothing answers. */
static void be_netcheck(void *ctx, msock_localapi_req req) {
  static msock_derp_region regions[] = {{.id = 900, .code = "fra", .name = "Frankfurt"},
                                        {.id = 901, .code = "sin", .name = "Singapore"},
                                        {.id = 7, .code = "ams", .name = "Amsterdam"}};
  const msock_derp_map map = {regions, 3};
  msock_home_report r = {.at_us = 1, .final = true, .full = true, .n_regions = 3};
  const msock_nat nat[] = {MSOCK_NAT_EASY, MSOCK_NAT_BLOCKED, MSOCK_NAT_OFFLINE};
  size_t len;
  (void)ctx;
  for (size_t i = 0; i < 3; i++) {
    r.regions[i].region = regions[i].id;
  }
  if (sh->network == 0) {
    r.udp = r.ipv4 = r.os_has_ipv6 = true;
    r.mapping_varies = MSOCK_TRISTATE_FALSE;
    r.global_v4 = (msock_addr){msock_ip_v4(203, 0, 113, 7), 40001};
    r.regions[0].best_us = r.regions[0].v4_us = 23449;
    r.regions[1].best_us = r.regions[1].v4_us = 9050;
    r.preferred = 901;
  } else if (sh->network == 1) {
    r.captive_portal = MSOCK_TRISTATE_FALSE;
    r.regions[0].best_us = r.regions[0].https_us = 1234560;
    r.preferred = 900;
  }
  const msock_netcheck_view v = {&r, &map, r.preferred, nat[sh->network],
                                 UINT64_C(1700000000500000)};
  char *text = msock_netcheck_json(&v, &len);
  give(req, text, len);
}

static void be_watch(void *ctx, msock_localapi_req req, uint64_t mask) {
  char text[64];
  (void)ctx;
  (void)mask;
  const int n = snprintf(text, sizeof text, "{\"State\":%u}\n",
                         (unsigned)msock_status_state_number(sh->state));
  msock_localapi_stream(msock_localapi_server_api(server), msock_loop_now_us(), req,
                        "application/json");
  msock_localapi_push(msock_localapi_server_api(server), msock_loop_now_us(), req, text, (size_t)n);
}

static void be_bugreport(void *ctx, msock_localapi_req req) {
  (void)ctx;
  give(req, strdup("== version ==\n"), 14);
}

static void run_daemon(int ready) {
  const msock_localapi_backend be = {.status = be_status,
                                     .prefs = be_prefs,
                                     .edit_prefs = be_edit,
                                     .start = be_start,
                                     .login = be_login,
                                     .logout = be_login,
                                     .ping = be_ping,
                                     .whois = be_whois,
                                     .metrics = be_metrics,
                                     .watch = be_watch,
                                     .netcheck = be_netcheck,
                                     .debug_derp = be_debug_derp,
                                     .debug_netmap = be_debug_netmap,
                                     .capture = be_capture,
                                     .bugreport = be_bugreport};
  const msock_egress_config egress = {.profile = MSOCK_PROFILE_FULL};
  char why[MSOCK_WHY_MAX];
  msock_loop *loop = msock_loop_new(NULL);
  msock_egress *eg = msock_egress_new(loop, &egress, NULL);
  const msock_err e = msock_localapi_server_new(loop, eg, sock, &be, NULL, &server, why);
  if (e != MSOCK_OK || write(ready, "r", 1) != 1) {
    fprintf(stderr, "daemon: %s\n", why);
    _exit(1);
  }
  msock_loop_run(loop);
}

static void start_daemon(const char *state) {
  int ready[2];
  char c;
  snprintf(dir, sizeof dir, "/tmp/tsnode-cli-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(dir));
  snprintf(sock, sizeof sock, "%s/run/s", dir);
  sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ck_assert_ptr_ne(sh, MAP_FAILED);
  snprintf(sh->state, sizeof sh->state, "%s", state);
  ck_assert_int_eq(pipe(ready), 0);
  daemon_pid = fork();
  if (daemon_pid == 0) {
    run_daemon(ready[1]);
    _exit(1);
  }
  ck_assert_int_eq(read(ready[0], &c, 1), 1);
  close(ready[0]);
  close(ready[1]);
}

static void stop_daemon(void) {
  kill(daemon_pid, SIGKILL);
  waitpid(daemon_pid, NULL, 0);
  unlink(sock);
  char path[128];
  snprintf(path, sizeof path, "%s/run", dir);
  rmdir(path);
  rmdir(dir);
}

/* Output of the last verb. */
static char out[8192], err[8192];

static void slurp(int fd, char *dst, size_t cap) {
  const ssize_t n = pread(fd, dst, cap - 1, 0);
  dst[n > 0 ? n : 0] = '\0';
  close(fd);
}

static int capture(int fd, int *saved) {
  char name[] = "/tmp/tsnode-cli-out-XXXXXX";
  const int file = mkstemp(name);
  ck_assert_int_ge(file, 0);
  unlink(name);
  *saved = dup(fd);
  dup2(file, fd);
  return file;
}

typedef msock_exit (*verb_fn)(const msock_cli *, const msock_verb *, int, char **);

/* Runs a verb with the words of line. */
static msock_exit run(verb_fn verb, const char *line) {
  static char copy[512];
  const msock_cli cli = {.socket = sock};
  const msock_verb v = {"verb", "A sentence.", "[flags]", verb};
  char *argv[16];
  int argc = 0, saved_out, saved_err;
  snprintf(copy, sizeof copy, "%s", line);
  for (char *w = strtok(copy, " "); w; w = strtok(NULL, " ")) {
    argv[argc++] = w;
  }
  fflush(stdout);
  const int out_file = capture(1, &saved_out), err_file = capture(2, &saved_err);
  const msock_exit code = verb(&cli, &v, argc, argv);
  fflush(stdout);
  dup2(saved_out, 1);
  dup2(saved_err, 2);
  close(saved_out);
  close(saved_err);
  slurp(out_file, out, sizeof out);
  slurp(err_file, err, sizeof err);
  return code;
}

START_TEST(status_lines) {
  start_daemon("Running");
  ck_assert_int_eq(run(msock_cmd_status, ""), MSOCK_EXIT_OK);
  ck_assert_str_eq(
      out, "100.64.0.1      me                   ann@         linux   -\n"
           "100.64.0.2      box                  ann@         linux   active; relay \"fra\", tx 10 "
           "rx 20\n"
           "\n# Health check:\n#     - something is off\n");
  ck_assert_str_eq(err, "");
  ck_assert_int_eq(run(msock_cmd_status, "--peers=false --self=false --header"), MSOCK_EXIT_OK);
  ck_assert_ptr_null(strstr(out, "100.64"));
  ck_assert_int_eq(strncmp(out, "IP ", 3), 0);
  ck_assert_int_eq(run(msock_cmd_status, "--json"), MSOCK_EXIT_OK);
  json_object *doc = json_tokener_parse(out);
  ck_assert_str_eq(msock_cli_str(doc, "BackendState"), "Running");
  json_object_put(doc);
  ck_assert_int_eq(run(msock_cmd_ip, ""), MSOCK_EXIT_OK);
  ck_assert_str_eq(out, "100.64.0.1\nfd7a::1\n");
  ck_assert_int_eq(run(msock_cmd_ip, "-6"), MSOCK_EXIT_OK);
  ck_assert_str_eq(out, "fd7a::1\n");
  ck_assert_int_eq(run(msock_cmd_ip, "-1"), MSOCK_EXIT_OK);
  ck_assert_str_eq(out, "100.64.0.1\n");
  ck_assert_int_eq(run(msock_cmd_ip, "-4 box"), MSOCK_EXIT_OK);
  ck_assert_str_eq(out, "100.64.0.2\n");
  ck_assert_int_eq(run(msock_cmd_ip, "nobody"), MSOCK_EXIT_UNREACHABLE);
  ck_assert_str_eq(out, "");
  ck_assert_int_eq(run(msock_cmd_metrics, ""), MSOCK_EXIT_OK);
  ck_assert_str_eq(out, "a 1\n");
  ck_assert_int_eq(run(msock_cmd_whois, "100.64.0.77"), MSOCK_EXIT_OTHER);
  ck_assert_ptr_nonnull(strstr(err, "no node of this tailnet"));
  stop_daemon();
}
END_TEST

static const struct {
  const char *state;
  msock_exit code;
  const char *words;
} states[] = {
    {"Running", MSOCK_EXIT_OK, ""},
    {"Stopped", MSOCK_EXIT_STOPPED, "tsnode up"},
    {"NeedsLogin", MSOCK_EXIT_NEEDS_LOGIN, "tsnode up"},
    {"NeedsMachineAuth", MSOCK_EXIT_NEEDS_LOGIN, "approve"},
    {"Starting", MSOCK_EXIT_OTHER, "Starting"},
};
START_TEST(states_as_exit_codes) {
  start_daemon(states[_i].state);
  ck_assert_int_eq(run(msock_cmd_status, ""), states[_i].code);
  ck_assert_ptr_nonnull(strstr(out, states[_i].words));
  ck_assert_int_eq(run(msock_cmd_status, "--check ready"), states[_i].code);
  ck_assert_str_eq(out, "");
  ck_assert_int_eq(run(msock_cmd_status, "--check=live"), MSOCK_EXIT_OK);
  ck_assert_int_eq(run(msock_cmd_status, "--json"), MSOCK_EXIT_OK);
  stop_daemon();
}
END_TEST

START_TEST(no_daemon_says_how_to_start_it) {
  static const verb_fn verbs[] = {msock_cmd_status, msock_cmd_up, msock_cmd_down,
                                  msock_cmd_logout, msock_cmd_ip, msock_cmd_metrics};
  snprintf(sock, sizeof sock, "/tmp/tsnode-absent/s");
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
    ck_assert_int_eq(run(verbs[i], ""), MSOCK_EXIT_NO_DAEMON);
    ck_assert_str_eq(out, "");
    ck_assert_ptr_nonnull(strstr(err, "tsnode daemon"));
    ck_assert_ptr_nonnull(strstr(err, sock));
  }
  ck_assert_int_eq(run(msock_cmd_ping, "100.64.0.2"), MSOCK_EXIT_NO_DAEMON);
  ck_assert_int_eq(run(msock_cmd_wait, "--timeout=10ms"), MSOCK_EXIT_TIMEOUT);
}
END_TEST

START_TEST(up_sends_only_what_was_given) {
  start_daemon("NeedsLogin");
  snprintf(sh->after_start, sizeof sh->after_start, "Running");
  ck_assert_int_eq(run(msock_cmd_up, "--login-server https://hs.example --auth-key=k-1 --hostname "
                                     "box --accept-dns=false"),
                   MSOCK_EXIT_OK);
  ck_assert_str_eq(sh->start,
                   "k-1 0 {\"ControlURL\":\"https:\\/\\/hs.example\",\"Hostname\":\"box\""
                   ",\"CorpDNS\":false,\"WantRunning\":true}");
  ck_assert_ptr_null(strstr(err, "k-1"));
  ck_assert_int_eq(run(msock_cmd_up, "--force-reauth"), MSOCK_EXIT_OK);
  ck_assert_str_eq(sh->start, " 1 {\"WantRunning\":true}");
  ck_assert_int_eq(run(msock_cmd_up, "--reset --hostname=x"), MSOCK_EXIT_OK);
  ck_assert_ptr_nonnull(strstr(sh->start, "\"CorpDNS\":true"));
  ck_assert_ptr_nonnull(strstr(sh->start, "\"AdvertiseRoutes\":[]"));
  ck_assert_ptr_null(strstr(sh->start, "ControlURL"));
  ck_assert_int_eq(run(msock_cmd_set, "--shields-up --advertise-routes=10.0.0.0/8,fd00::/8"),
                   MSOCK_EXIT_OK);
  ck_assert_str_eq(sh->edit, "{\"ShieldsUp\":true,\"ShieldsUpSet\":true,\"AdvertiseRoutes\":"
                             "[\"10.0.0.0\\/8\",\"fd00::\\/8\"],\"AdvertiseRoutesSet\":true}");
  ck_assert_int_eq(run(msock_cmd_down, ""), MSOCK_EXIT_OK);
  ck_assert_str_eq(sh->edit, "{\"WantRunning\":false,\"WantRunningSet\":true}");
  stop_daemon();
}
END_TEST

static const struct {
  const char *line;
  msock_exit code;
  const char *words;
} wrong[] = {
    {"--hostname=x --unknown", MSOCK_EXIT_USAGE, "unknown flag --unknown"},
    {"--hostname=x --exit-node=y", MSOCK_EXIT_NOT_BUILT, "not in this build"},
    {"--hostname=a_b", MSOCK_EXIT_USAGE, "DNS label"},
    {"--login-server=hs.example", MSOCK_EXIT_USAGE, "https://"},
    {"--auth-key=\"SECRET\"", MSOCK_EXIT_USAGE, "does not look like a key"},
    {"--auth-key=file:/tmp/tsnode-absent/key", MSOCK_EXIT_USAGE, "/tmp/tsnode-absent/key"},
    {"--timeout=5", MSOCK_EXIT_USAGE, "duration"},
    {"word", MSOCK_EXIT_USAGE, "unexpected \"word\""},
};
START_TEST(wrong_flags_change_nothing) {
  start_daemon("Running");
  ck_assert_int_eq(run(msock_cmd_up, wrong[_i].line), wrong[_i].code);
  ck_assert_msg(strstr(err, wrong[_i].words) != NULL, "%s", err);
  ck_assert_ptr_null(strstr(err, "SECRET"));
  ck_assert_str_eq(sh->start, "");
  ck_assert_str_eq(out, "");
  stop_daemon();
}
END_TEST

START_TEST(key_from_a_file) {
  char path[96], line[160];
  start_daemon("NeedsLogin");
  snprintf(sh->after_start, sizeof sh->after_start, "Running");
  snprintf(path, sizeof path, "%s/key", dir);
  FILE *f = fopen(path, "w");
  fputs("k-from-file\n", f);
  fclose(f);
  snprintf(line, sizeof line, "--auth-key=file:%s", path);
  ck_assert_int_eq(run(msock_cmd_up, line), MSOCK_EXIT_OK);
  ck_assert_int_eq(strncmp(sh->start, "k-from-file 0", 13), 0);
  unlink(path);
  setenv("TS_AUTHKEY", "k-env", 1);
  ck_assert_int_eq(run(msock_cmd_up, ""), MSOCK_EXIT_OK);
  ck_assert_int_eq(strncmp(sh->start, "k-env 0", 7), 0);
  stop_daemon();
}
END_TEST

START_TEST(up_tells_why_it_failed) {
  start_daemon("NeedsLogin");
  snprintf(sh->error, sizeof sh->error, "authkey expired");
  ck_assert_int_eq(run(msock_cmd_up, "--auth-key=k-1"), MSOCK_EXIT_NEEDS_LOGIN);
  ck_assert_ptr_nonnull(strstr(err, "authkey expired"));
  ck_assert_ptr_nonnull(strstr(err, "make a new key"));
  ck_assert_int_eq(run(msock_cmd_up, "--auth-key=refuse"), MSOCK_EXIT_USAGE);
  ck_assert_ptr_nonnull(strstr(err, "no login server is set"));
  snprintf(sh->state, sizeof sh->state, "Starting");
  ck_assert_int_eq(run(msock_cmd_up, "--timeout=10ms"), MSOCK_EXIT_TIMEOUT);
  ck_assert_ptr_nonnull(strstr(err, "Starting"));
  ck_assert_int_eq(run(msock_cmd_wait, "--timeout=10ms"), MSOCK_EXIT_TIMEOUT);
  stop_daemon();
}
END_TEST

START_TEST(up_shows_the_url) {
  start_daemon("NeedsLogin");
  snprintf(sh->auth_url, sizeof sh->auth_url, "https://hs.example/register/xyz");
  ck_assert_int_eq(run(msock_cmd_up, "--timeout=10ms"), MSOCK_EXIT_TIMEOUT);
  ck_assert_ptr_nonnull(
      strstr(err, "To authenticate, visit:\n\n\thttps://hs.example/register/xyz"));
  ck_assert_str_eq(out, "");
  ck_assert_uint_eq(sh->logins, 0);
  stop_daemon();
}
END_TEST

START_TEST(ping_lines_and_codes) {
  start_daemon("Running");
  ck_assert_int_eq(run(msock_cmd_ping, "-c 3 --interval=10ms box"), MSOCK_EXIT_OK);
  ck_assert_str_eq(out, "pong from box (100.64.0.2) via DERP(fra) in 12ms\n"
                        "pong from box (100.64.0.2) via DERP(fra) in 12ms\n"
                        "pong from box (100.64.0.2) via DERP(fra) in 12ms\n");
  ck_assert_uint_eq(sh->pings, 3);
  ck_assert_int_eq(run(msock_cmd_ping, "-c 1 box.tail.example"), MSOCK_EXIT_OK);
  ck_assert_int_eq(run(msock_cmd_ping, "-c 2 --interval 10ms --until-direct 100.64.0.2"),
                   MSOCK_EXIT_NOT_DIRECT);
  ck_assert_int_eq(run(msock_cmd_ping, "nobody"), MSOCK_EXIT_UNREACHABLE);
  ck_assert_int_eq(run(msock_cmd_ping, "--interval=9ms box"), MSOCK_EXIT_USAGE);
  ck_assert_int_eq(run(msock_cmd_ping, "--size=1201 box"), MSOCK_EXIT_USAGE);
  ck_assert_int_eq(run(msock_cmd_ping, "--icmp --tsmp box"), MSOCK_EXIT_USAGE);
  ck_assert_int_eq(run(msock_cmd_ping, ""), MSOCK_EXIT_USAGE);

  snprintf(sh->ping_err, sizeof sh->ping_err, "timed out: no answer");
  ck_assert_int_eq(run(msock_cmd_ping, "-c 2 --interval=10ms box"), MSOCK_EXIT_UNREACHABLE);
  ck_assert_str_eq(out, "");
  ck_assert_ptr_nonnull(strstr(err, "ping \"100.64.0.2\" timed out\n"));
  snprintf(sh->ping_err, sizeof sh->ping_err, "no matching peer");
  sh->pings = 0;
  ck_assert_int_eq(run(msock_cmd_ping, "-c 5 8.8.8.8"), MSOCK_EXIT_UNREACHABLE);
  ck_assert_uint_eq(sh->pings, 1); /* asking again would not help */
  sh->ping_silent = true;
  ck_assert_int_eq(run(msock_cmd_ping, "-c 1 --timeout=20ms 100.64.0.2"), MSOCK_EXIT_UNREACHABLE);
  ck_assert_ptr_nonnull(strstr(err, "timed out"));
  ck_assert_int_eq(run(msock_cmd_status, ""), MSOCK_EXIT_OK); /* it lives on */
  stop_daemon();
}
END_TEST

/* More callers at once than the table holds: the rest is turned away, nobody is hurt. */
START_TEST(many_silent_callers) {
  int fds[MSOCK_LOCALAPI_CONNS_MAX + 4];
  start_daemon("Running");
  for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
    ck_assert_int_eq(msock_egress_unix_connect(NULL, sock, &fds[i]), MSOCK_OK);
  }
  for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
    close(fds[i]);
  }
  msock_exit code = MSOCK_EXIT_OTHER;
  for (int i = 0; i < 200 && code != MSOCK_EXIT_OK; i++) { /* until the closes were seen */
    code = run(msock_cmd_status, "");
  }
  ck_assert_int_eq(code, MSOCK_EXIT_OK);
  stop_daemon();
}
END_TEST

START_TEST(version_and_completion) {
  ck_assert_int_eq(run(msock_cmd_version, "--json"), MSOCK_EXIT_OK);
  json_object *doc = json_tokener_parse(out);
  ck_assert_str_eq(msock_cli_str(doc, "short"), TSNODE_VERSION);
  ck_assert_str_ne(msock_cli_str(doc, "tls"), "");
  ck_assert_ptr_nonnull(msock_cli_get(doc, "features"));
  json_object_put(doc);
  ck_assert_int_eq(run(msock_cmd_version, ""), MSOCK_EXIT_OK);
  ck_assert_int_eq(strncmp(out, TSNODE_VERSION "\n", strlen(TSNODE_VERSION) + 1), 0);
  ck_assert_int_eq(run(msock_cmd_completion, "bash"), MSOCK_EXIT_OK);
  ck_assert_ptr_nonnull(strstr(out, "complete -F"));
  ck_assert_int_eq(run(msock_cmd_completion, "tcsh"), MSOCK_EXIT_USAGE);
}
END_TEST

START_TEST(netcheck_lines) {
  start_daemon("Running");
  ck_assert_int_eq(run(msock_cmd_netcheck, ""), MSOCK_EXIT_OK);
  ck_assert_str_eq(out, "\nReport:\n\t* Time: 2023-11-14T22:13:20.500000Z\n\t* UDP: true\n"
                        "\t* IPv4: yes, 203.0.113.7:40001\n\t* IPv6: no, but OS has support\n"
                        "\t* MappingVariesByDestIP: false\n\t* PortMapping: not checked\n"
                        "\t* Nearest DERP: Singapore\n\t* DERP latency:\n"
                        "\t\t- sin: 9.1ms   (Singapore)\n"
                        "\t\t- fra: 23.4ms  (Frankfurt)\n"
                        "\t\t- ams:         (Amsterdam)\n"
                        "\nYour NAT maps the same port for every destination (easy NAT): direct "
                        "paths will usually work.\n");
  ck_assert_str_eq(err, "");
  sh->network = 1;
  ck_assert_int_eq(run(msock_cmd_netcheck, ""), MSOCK_EXIT_OK);
  ck_assert_ptr_nonnull(strstr(out, "\t* UDP: false\n\t* IPv4: (no addr found)\n"
                                    "\t* IPv6: no, unavailable in OS\n"
                                    "\t* MappingVariesByDestIP: \n"));
  ck_assert_ptr_nonnull(strstr(out, "\t* CaptivePortal: false\n\t* Nearest DERP: Frankfurt\n"));
  ck_assert_ptr_nonnull(strstr(out, "- fra: 1.235s  (Frankfurt)"));
  ck_assert_ptr_nonnull(strstr(out, "\n\nUDP is blocked: peers are reached through relays only."));
  sh->network = 2;
  ck_assert_int_eq(run(msock_cmd_netcheck, ""), MSOCK_EXIT_OK);
  ck_assert_ptr_nonnull(strstr(out, "Nearest DERP: unknown (no response to latency probes)"));
  ck_assert_ptr_null(strstr(out, "DERP latency"));
  stop_daemon();
}
END_TEST

START_TEST(netcheck_formats_and_refusals) {
  start_daemon("Running");
  ck_assert_int_eq(run(msock_cmd_netcheck, "--format=json"), MSOCK_EXIT_OK);
  ck_assert_ptr_nonnull(strstr(out, "{\n  \"Now\":\"2023-"));
  json_object *doc = json_tokener_parse(out);
  ck_assert_uint_eq(msock_cli_u64(doc, "PreferredDERP"), 901);
  ck_assert_uint_eq(msock_cli_u64(msock_cli_get(doc, "RegionLatency"), "900"), 23449000);
  json_object_put(doc);
  ck_assert_int_eq(run(msock_cmd_netcheck, "--format json-line"), MSOCK_EXIT_OK);
  ck_assert_ptr_eq(strchr(out, '\n'), out + strlen(out) - 1);
  ck_assert_int_eq(run(msock_cmd_netcheck, "--format=yaml"), MSOCK_EXIT_USAGE);
  ck_assert_int_eq(run(msock_cmd_netcheck, "--every=10ms"), MSOCK_EXIT_USAGE);
  ck_assert_int_eq(run(msock_cmd_netcheck, "--bind-port=41641"), MSOCK_EXIT_NOT_BUILT);
  ck_assert_int_eq(run(msock_cmd_netcheck, "--bind-address=192.0.2.1"), MSOCK_EXIT_NOT_BUILT);
  ck_assert_int_eq(run(msock_cmd_netcheck, "word"), MSOCK_EXIT_USAGE);
  stop_daemon();
}
END_TEST

START_TEST(debug_verbs_write_what_came) {
  char path[128], words[256];
  struct stat st;
  start_daemon("Running");
  ck_assert_int_eq(run(msock_cmd_debug, "derp"), MSOCK_EXIT_OK);
  ck_assert_ptr_nonnull(strstr(out, "900    fra      open     home           12s"));
  ck_assert_ptr_nonnull(strstr(out, "was away"));
  ck_assert_int_eq(run(msock_cmd_debug, "netmap"), MSOCK_EXIT_OTHER);
  ck_assert_ptr_nonnull(strstr(err, "no netmap yet"));
  ck_assert_int_eq(run(msock_cmd_debug, "nonsense"), MSOCK_EXIT_USAGE);
  snprintf(path, sizeof path, "%s/x.pcap", dir);
  snprintf(words, sizeof words, "capture -o %s --duration=1500ms --bytes=5000", path);
  ck_assert_int_eq(run(msock_cmd_debug, words), MSOCK_EXIT_OK);
  ck_assert_str_eq(sh->edit, "2 5000");
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert_int_eq(st.st_size, 64);
  ck_assert_int_eq(st.st_mode & 0777, 0600);
  ck_assert_int_eq(run(msock_cmd_debug, words), MSOCK_EXIT_OTHER); /* never over a file */
  ck_assert_ptr_nonnull(strstr(err, "File exists"));
  ck_assert_int_eq(run(msock_cmd_debug, "capture -o - --duration=11m"), MSOCK_EXIT_USAGE);
  ck_assert_int_eq(unlink(path), 0);
  ck_assert_int_eq(run(msock_cmd_bugreport, "-o -"), MSOCK_EXIT_OK);
  ck_assert_str_eq(out, "== version ==\n");
  stop_daemon();
}
END_TEST

/* The daemon's flags are its own and every setting; bad ones end it with 10 before it starts. */
START_TEST(daemon_settings) {
  char path[] = "/tmp/tsnode-cli-config-XXXXXX", words[256];
  const int fd = mkstemp(path); /* an empty file is a configuration */
  ck_assert_int_ge(fd, 0);
  close(fd);
  snprintf(words, sizeof words, "--check-config --config=%s --hostname=box -v", path);
  ck_assert_int_eq(run(msock_cmd_daemon, words), MSOCK_EXIT_OK);
  ck_assert_ptr_nonnull(strstr(out, "hostname = box   (flag --hostname)"));
  ck_assert_ptr_nonnull(strstr(out, "log_level = debug   (flag --log-level)"));
  ck_assert_int_eq(run(msock_cmd_daemon, "--check-config --no-such=1"), MSOCK_EXIT_CONFIG);
  ck_assert_ptr_nonnull(strstr(err, "unknown flag"));
  ck_assert_int_eq(run(msock_cmd_daemon, "--check-config --config=/nowhere.yaml"),
                   MSOCK_EXIT_CONFIG);
  ck_assert_ptr_nonnull(strstr(err, "--generate-config"));
  ck_assert_int_eq(run(msock_cmd_daemon, "--check-config --exit-node=x"), MSOCK_EXIT_CONFIG);
  ck_assert_ptr_nonnull(strstr(err, "not in this build"));
  ck_assert_int_eq(run(msock_cmd_daemon, "--generate-config"), MSOCK_EXIT_OK);
  ck_assert_ptr_nonnull(strstr(out, "#login_server:"));
  unlink(path);
}
END_TEST

START_TEST(help_is_short) {
  static const verb_fn verbs[] = {msock_cmd_up,         msock_cmd_login,   msock_cmd_set,
                                  msock_cmd_down,       msock_cmd_logout,  msock_cmd_ip,
                                  msock_cmd_status,     msock_cmd_ping,    msock_cmd_whois,
                                  msock_cmd_wait,       msock_cmd_debug,   msock_cmd_metrics,
                                  msock_cmd_version,    msock_cmd_daemon,  msock_cmd_bugreport,
                                  msock_cmd_completion, msock_cmd_netcheck};
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
    unsigned lines = 0;
    ck_assert_int_eq(run(verbs[i], "--help"), MSOCK_EXIT_OK);
    for (const char *p = out; *p; p++) {
      lines += *p == '\n';
    }
    ck_assert_uint_ge(lines, 3);
    ck_assert_uint_lt(lines, 40);
    ck_assert_str_eq(err, "");
  }
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, status_lines);
  tcase_add_loop_test(tc, states_as_exit_codes, 0, (int)(sizeof states / sizeof *states));
  tcase_add_test(tc, no_daemon_says_how_to_start_it);
  tcase_add_test(tc, up_sends_only_what_was_given);
  tcase_add_loop_test(tc, wrong_flags_change_nothing, 0, (int)(sizeof wrong / sizeof *wrong));
  tcase_add_test(tc, key_from_a_file);
  tcase_add_test(tc, up_tells_why_it_failed);
  tcase_add_test(tc, up_shows_the_url);
  tcase_add_test(tc, ping_lines_and_codes);
  tcase_add_test(tc, many_silent_callers);
  tcase_add_test(tc, version_and_completion);
  tcase_add_test(tc, netcheck_lines);
  tcase_add_test(tc, netcheck_formats_and_refusals);
  tcase_add_test(tc, debug_verbs_write_what_came);
  tcase_add_test(tc, daemon_settings);
  tcase_add_test(tc, help_is_short);
  return testing_main("cli", tc);
}
