#include "tests/unit/node_rig.h"

#include <dirent.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "crypto/x25519.h"

bool node_rig_enter_namespace(void) {
  struct ifreq req = {.ifr_name = "lo"};
  if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) {
    return false;
  }
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  req.ifr_flags = IFF_UP | IFF_RUNNING;
  ck_assert_int_eq(ioctl(fd, SIOCSIFFLAGS, &req), 0);
  close(fd);
  return true;
}

static void keep_endpoints(void *ctx, msock_log_level level, const char *event, const char *text) {
  node_rig *r = ctx;
  size_t i = 0;
  (void)level;
  if (strcmp(event, "tailnet.endpoints") == 0 && sscanf(text, "node=n%zu", &i) == 1 &&
      i < NODE_RIG_NODES) {
    snprintf(r->told[i], sizeof r->told[i], "%s", text);
  }
}

node_rig *node_rig_new(void) {
  return node_rig_new_at("127.0.0.1");
}

node_rig *node_rig_new_at(const char *ip) {
  msock_addr at = {0};
  char why[MSOCK_TLS_WHY_MAX];
  msock_derp_map map;
  node_rig *r = calloc(1, sizeof *r);
  ck_assert_ptr_nonnull(r);
  r->own_namespace = node_rig_enter_namespace();
  snprintf(r->host, sizeof r->host, "%s", ip);
  ck_assert_int_eq(msock_ip_parse(ip, &at.ip), MSOCK_OK);
  if (!msock_ip_is_loopback(&at.ip)) {
    char cmd[128];
    ck_assert(r->own_namespace);
    snprintf(cmd, sizeof cmd, "ip addr add %s/%s", r->host,
             at.ip.family == 4 ? "32 dev lo"
                               : "128 dev lo nodad"); /* or it is tentative for a while */
    ck_assert_int_eq(system(cmd), 0);
  }
  r->loop = msock_loop_new(NULL);
  r->egress = io_test_egress(r->loop, MSOCK_PROFILE_FULL, at.ip.family == 6);
  r->env = msock_loop_env(r->loop);
  r->log = (msock_log){.ctx = r, .max = MSOCK_LOG_INFO, .sink = keep_endpoints};
  r->env.log = &r->log;
  const msock_tscontrol_relay_cfg rc = {.on = at, .name = ""};
  ck_assert_msg(msock_tscontrol_relay_new(r->loop, r->egress, &rc, &r->relay, why) == MSOCK_OK,
                "%s", why);
  ck_assert_int_eq(msock_tscontrol_relay_map(r->relay, &map), MSOCK_OK);
  const msock_tailnet_cfg tc = {.domain = "rig.example", .derp_map = &map};
  r->tailnet = msock_tailnet_new(&r->env, &tc);
  msock_derp_map_clear(&map);
  msock_machine_private_generate(&r->env, &r->key);
  const msock_tscontrol_cfg sc = {
      .listen = at, .key = &r->key, .tailnet = r->tailnet, .early_payload = true};
  ck_assert_int_eq(msock_tscontrol_new(r->loop, r->egress, &sc, &r->server), MSOCK_OK);
  return r;
}

/* --- log --- */

static void keep_line(void *ctx, msock_log_level level, const char *event, const char *text) {
  node_rig_node *x = ctx;
  const int n = snprintf(x->text + x->len, sizeof x->text - x->len, "%s %s %s\n",
                         msock_log_level_name(level), event, text);
  ck_assert_int_lt(n, (int)(sizeof x->text - x->len));
  x->len += (size_t)n;
}

size_t node_rig_lines(const node_rig *r, size_t i, const char *first, ...) {
  const char *line = r->node[i].text;
  size_t found = 0;
  while (*line != '\0') {
    const size_t len = strcspn(line, "\n");
    char one[2048];
    bool all = true;
    va_list words;
    snprintf(one, sizeof one, "%.*s", (int)len, line);
    va_start(words, first);
    for (const char *w = first; w != NULL; w = va_arg(words, const char *)) {
      all = all && strstr(one, w) != NULL;
    }
    va_end(words);
    found += all;
    line += len + 1;
  }
  return found;
}

/* --- nodes --- */

static void load_settings(node_rig *r, node_rig_node *x, const char *const *flags) {
  msock_config_report report = {0};
  const bool v6 = strchr(r->host, ':') != NULL;
  char dir[64], api[96];
  size_t n = 0;
  memcpy(dir, x->dir, sizeof dir);
  memcpy(api, x->socket, sizeof api);
  snprintf(x->flags[0], sizeof x->flags[0], "--login-server=http://%s%s%s:%u", v6 ? "[" : "",
           r->host, v6 ? "]" : "", msock_tscontrol_addr(r->server).port);
  snprintf(x->flags[1], sizeof x->flags[1], "--statedir=%s", dir);
  snprintf(x->flags[2], sizeof x->flags[2], "--socket=%s", api);
  snprintf(x->flags[3], sizeof x->flags[3], "--hostname=n%zu", (size_t)(x - r->node));
  snprintf(x->flags[4], sizeof x->flags[4], "--tun=none");
  snprintf(x->flags[5], sizeof x->flags[5], "--allow-loopback=true");
  snprintf(x->flags[6], sizeof x->flags[6], "--accept-dns=false");
  while (n < 7) {
    x->all[n] = x->flags[n];
    n++;
  }
  for (size_t k = 0; flags != NULL && flags[k] != NULL; k++) {
    ck_assert_uint_lt(n, NODE_RIG_FLAGS_MAX);
    x->all[n++] = flags[k];
  }
  x->settings = msock_settings_new(&(msock_settings_sources){.flags = x->all, .n_flags = n});
  char problem[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  ck_assert_msg(msock_settings_load(x->settings, &report) == MSOCK_OK, "%s",
                report.n ? msock_config_problem_text(&report.problems[0], problem) : "no memory");
}

void node_rig_start(node_rig *r, size_t i, const msock_env *env, const char *const *flags) {
  node_rig_node *x = &r->node[i];
  char why[MSOCK_WHY_MAX] = "";
  if (x->dir[0] == '\0') {
    const char *tmp = getenv("TMPDIR");
    char dir[64];
    snprintf(dir, sizeof dir, "%.40s/node-rig-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    memcpy(x->dir, dir, sizeof dir);
    snprintf(x->state, sizeof x->state, "%s/state.json", dir);
    snprintf(x->socket, sizeof x->socket, "%s/api.sock", dir);
  }
  load_settings(r, x, flags);
  const msock_tsnode_config *v = msock_settings_values(x->settings);
  msock_egress_config ec = {.profile = v->profile == MSOCK_TSNODE_PROFILE_FULL
                                           ? MSOCK_PROFILE_FULL
                                           : MSOCK_PROFILE_PRIVACY_PROXY,
                            .ipv6 = v->ipv6};
  snprintf(ec.device, sizeof ec.device, "%s", v->bind_interface);
  x->log = (msock_log){.ctx = x, .max = MSOCK_LOG_TRACE, .sink = keep_line};
  msock_anonymous_log_init(&x->anonymous, &x->log);
  const msock_log *log = v->profile == MSOCK_TSNODE_PROFILE_FULL ? &x->log : &x->anonymous.log;
  x->egress = msock_egress_new(r->loop, &ec, log);
  x->roots = msock_tls_roots_new(NULL);
  x->http = msock_http_new(x->egress, x->roots, log);
  msock_node_deps deps = {.loop = r->loop,
                          .egress = x->egress,
                          .roots = x->roots,
                          .http = x->http,
                          .env = env ? *env : r->env,
                          .log = log};
  deps.env.log = log;
  x->opt =
      (msock_node_options){.state_file = x->state, .socket = x->socket, .settings = x->settings};
  ck_assert_msg(msock_node_new(&deps, &x->opt, &x->n, why) == MSOCK_OK, "%s", why);
}

void node_rig_stop(node_rig *r, size_t i) {
  node_rig_node *x = &r->node[i];
  if (x->settings == NULL) {
    return;
  }
  msock_node_free(x->n);
  msock_http_free(x->http);
  msock_tls_roots_free(x->roots);
  msock_egress_free(x->egress);
  msock_settings_free(x->settings);
  x->n = NULL;
  x->settings = NULL;
}

static void remove_dir(const char *path) {
  DIR *d = opendir(path);
  char name[512];
  for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
    snprintf(name, sizeof name, "%s/%s", path, e->d_name);
    unlink(name);
  }
  if (d != NULL) {
    closedir(d);
  }
  rmdir(path);
}

void node_rig_free(node_rig *r) {
  for (size_t i = 0; i < NODE_RIG_NODES; i++) {
    node_rig_stop(r, i);
    if (r->node[i].dir[0] != '\0') {
      remove_dir(r->node[i].dir);
    }
  }
  msock_tscontrol_free(r->server);
  msock_tscontrol_relay_free(r->relay);
  msock_tailnet_free(r->tailnet);
  msock_egress_free(r->egress);
  msock_loop_free(r->loop);
  free(r);
}

/* --- what is seen --- */

static void tick(void *ctx, uint64_t now_us) {
  (void)ctx;
  (void)now_us;
}

bool node_rig_wait(node_rig *r, bool (*cond)(node_rig *r)) {
  const uint64_t end_us = msock_loop_now_us() + IO_TEST_DEADLINE_US;
  msock_loop_timer limit;
  msock_loop_timer_init(&limit, tick, NULL);
  msock_loop_set_deadline(r->loop, &limit, end_us);
  while (!cond(r) && msock_loop_now_us() < end_us) {
    msock_loop_turn(r->loop, true);
  }
  msock_loop_set_deadline(r->loop, &limit, MSOCK_NEVER);
  return cond(r);
}

void node_rig_turns(node_rig *r, uint64_t us) {
  const bool never = false;
  io_test_run(r->loop, &never, us);
}

bool node_rig_running(const node_rig *r, size_t i) {
  return strcmp(msock_node_backend_state(r->node[i].n), "Running") == 0;
}

msock_node_key node_rig_key(const node_rig *r, size_t i) {
  return msock_node_private_public(&r->node[i].n->state.node_private);
}

uint32_t node_rig_path_id(const node_rig *r, size_t i, size_t j) {
  const msock_node_key key = node_rig_key(r, j);
  return msock_engine_peer_find(msock_paths_engine(r->node[i].n->paths), &key);
}

bool node_rig_direct(const node_rig *r, size_t i, size_t j) {
  msock_route route;
  msock_engine_route(msock_paths_engine(r->node[i].n->paths), node_rig_path_id(r, i, j),
                     msock_loop_now_us(), &route);
  return route.via == MSOCK_VIA_DIRECT;
}

uint64_t node_rig_inode(int fd) {
  struct stat st;
  return fd >= 0 && fstat(fd, &st) == 0 ? st.st_ino : 0;
}

size_t node_rig_open_fds(void) {
  DIR *d = opendir("/proc/self/fd");
  size_t n = 0;
  ck_assert_ptr_nonnull(d);
  while (readdir(d) != NULL) {
    n++;
  }
  closedir(d);
  return n - 3; /* itself, . and .. */
}
