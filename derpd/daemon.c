#include "derpd/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "derpd/admin.h"
#include "derpd/admission.h"
#include "derpd/events.h"
#include "derpd/identity.h"
#include "derpd/lists.h"
#include "derpd/map.h"
#include "derpd/mesh.h"
#include "derpd/page.h"
#include "derpd/quota_file.h"
#include "derpd/relay.h"
#include "derpd/stun_server.h"
#include "io/file.h"
#include "io/log_sink.h"
#include "io/memory.h"

#define EVENTS_KEPT 4096u
#define CHANGED_MAX 64u
#define DRAIN_SLACK_US MSOCK_SEC /* after the last connection's moment */
#define TRY_FOR_MS 60000u        /* clients keep to this relay for so long */
#define TRIM_ENDS 256u           /* connections that ended: their memory goes back to the system, */
#define TRIM_DELAY_US (5 * MSOCK_SEC) /* in one go for all that end in so much time */
#define DATE_STEP_US (60 * MSOCK_SEC)

typedef struct relay_daemon {
  const msock_derpd_options *o;
  msock_config *config;
  const msock_derpd_config *v;
  msock_derpd_lists lists;
  msock_log_sink sink;
  msock_loop *loop;
  msock_egress *egress;
  msock_env env;
  msock_node_private key;
  msock_tls_roots *roots;
  msock_http *http;
  msock_derpd_relay *relay;
  msock_derpd_stun *stun;
  msock_derpd_admission *admission;
  msock_derpd_admin *admin;
  msock_derpd_mesh *mesh;
  msock_derpd_totals totals;
  msock_derpd_history history;
  msock_loop_hook hook;
  msock_loop_timer core_timer, house_timer, sample_timer, end_timer, trim_timer;
  uint64_t started_us, saved_us, unsaved, trimmed_ends;
  uint64_t quota_saves, quota_save_failures, reloads, reload_failures;
  char cert_host[256];
  char pin[MSOCK_TLS_PIN_TEXT_MAX];
  int lock; /* of statedir; -1 = none */
  bool draining, trim_armed;
} relay_daemon;

void msock_derpd_print_problems(const msock_config_report *r) {
  char text[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  for (size_t i = 0; i < r->n; i++) {
    fprintf(stderr, "derpd: %s\n", msock_config_problem_text(&r->problems[i], text));
  }
  if (r->n_left_out > 0) {
    fprintf(stderr, "derpd: and %zu more\n", r->n_left_out);
  }
}

static msock_exit fail(msock_exit code, const char *why) {
  fprintf(stderr, "derpd: %s\n", why);
  return code;
}

static msock_derp_server *core_of(relay_daemon *d) {
  return msock_derpd_relay_core(d->relay);
}

/* --- what is shown --- */

static uint64_t open_files(void) {
  DIR *dir = opendir("/proc/self/fd");
  uint64_t n = 0;
  while (dir != NULL && readdir(dir) != NULL) {
    n++;
  }
  if (dir != NULL) {
    closedir(dir);
  }
  return n > 3 ? n - 3 : 0; /* ".", ".." and the directory itself */
}

static uint64_t resident_bytes(void) {
  unsigned long size = 0, resident = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  if (f != NULL && fscanf(f, "%lu %lu", &size, &resident) != 2) {
    resident = 0;
  }
  if (f != NULL) {
    fclose(f);
  }
  return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void take_snapshot(void *ctx, msock_derpd_snapshot *out) {
  relay_daemon *d = ctx;
  *out = (msock_derpd_snapshot){.now_us = msock_loop_now_us(),
                                .started_us = d->started_us,
                                .key = msock_derp_server_key(core_of(d)),
                                .hostname = d->cert_host,
                                .draining = d->draining,
                                .core = msock_derp_server_get_stats(core_of(d)),
                                .relay = msock_derpd_relay_get_stats(d->relay),
                                .stun = msock_derpd_stun_get_stats(d->stun),
                                .admission = msock_derpd_admission_get_stats(d->admission),
                                .quota_saves = d->quota_saves,
                                .quota_save_failures = d->quota_save_failures,
                                .reloads = d->reloads,
                                .reload_failures = d->reload_failures,
                                .open_files = open_files(),
                                .rss_bytes = resident_bytes()};
}

static void write_page(void *ctx, msock_derpd_text *t) {
  relay_daemon *d = ctx;
  msock_derpd_snapshot s;
  take_snapshot(d, &s);
  msock_derpd_page_write(&s, &d->history, core_of(d), t);
}

static void on_sample(void *ctx, uint64_t now_us) {
  relay_daemon *d = ctx;
  const msock_derp_server_stats c = msock_derp_server_get_stats(core_of(d));
  msock_derpd_history_add(&d->history, now_us, c.bytes_in, c.bytes_out);
  msock_loop_set_deadline(d->loop, &d->sample_timer, now_us + MSOCK_DERPD_HISTORY_STEP_US);
}

/* --- quotas --- */

static bool has_quota(const relay_daemon *d) {
  return d->v->quota.day != 0 || d->v->quota.month != 0;
}

static void save_quota(relay_daemon *d, uint64_t now_us) {
  char why[MSOCK_FILE_WHY_MAX];
  d->unsaved += msock_derp_server_take_unsaved(core_of(d));
  d->saved_us = now_us;
  if (!has_quota(d) || d->unsaved == 0) {
    return;
  }
  if (msock_derpd_quota_save(d->v->statedir, core_of(d), why, sizeof why) == MSOCK_OK) {
    d->unsaved = 0;
    d->quota_saves++;
    return;
  }
  d->quota_save_failures++;
  msock_logf(&d->sink.log, MSOCK_LOG_ERROR, "quota.not_saved",
             "reason=\"%s\" then=\"the counters go on in memory, the last file is whole, the next "
             "try is in %" PRIu64 " s\"",
             why, d->v->quota.save_interval / MSOCK_SEC);
}

/* The date, and the counters when it is time. */
static void on_house(void *ctx, uint64_t now_us) {
  relay_daemon *d = ctx;
  uint32_t day, month;
  msock_derpd_date(msock_loop_wall_us(), &day, &month);
  msock_derp_server_set_date(core_of(d), now_us, day, month);
  if (now_us - d->saved_us >= d->v->quota.save_interval) {
    save_quota(d, now_us);
  }
  const uint64_t save_us = d->saved_us + d->v->quota.save_interval;
  const uint64_t date_us = now_us + DATE_STEP_US;
  msock_loop_set_deadline(d->loop, &d->house_timer,
                          !has_quota(d)       ? MSOCK_NEVER
                          : save_us < date_us ? save_us
                                              : date_us);
}

/* --- one turn --- */

static void on_answer(void *ctx, uint32_t conn, bool admit) {
  relay_daemon *d = ctx;
  msock_derp_server_answer(core_of(d), msock_loop_now_us(), conn, admit);
}

static void end_if_drained(relay_daemon *d) {
  if (d->draining && msock_derp_server_count_all(core_of(d)) == 0) {
    msock_loop_stop(d->loop);
  }
}

/* A flood of handshakes holds 50 KiB each for a moment; the allocator would keep that for good. */
static void on_trim(void *ctx, uint64_t now_us) {
  relay_daemon *d = ctx;
  (void)now_us;
  d->trimmed_ends = msock_derpd_relay_get_stats(d->relay).ended;
  d->trim_armed = false;
  msock_memory_trim();
}

static void look_for_ends(relay_daemon *d, uint64_t now_us) {
  const uint64_t ended = msock_derpd_relay_get_stats(d->relay).ended;
  if (!d->trim_armed && ended - d->trimmed_ends >= TRIM_ENDS) {
    d->trim_armed = true;
    msock_loop_set_deadline(d->loop, &d->trim_timer, now_us + TRIM_DELAY_US);
  }
}

static void pump(void *ctx, uint64_t now_us) {
  relay_daemon *d = ctx;
  msock_derp_question q;
  msock_derp_server_event ev;
  msock_derpd_relay_pump(d->relay, now_us);
  bool asked = false;
  while (msock_derp_server_next_question(core_of(d), &q)) {
    msock_derpd_admission_ask(d->admission, now_us, &q,
                              msock_derpd_relay_has_token(d->relay, q.conn));
    asked = true;
  }
  if (asked) { /* answers that were known have woken connections */
    msock_derpd_relay_pump(d->relay, now_us);
  }
  while (msock_derp_server_next_event(core_of(d), &ev)) {
    msock_derpd_event_log(&d->sink.log, &d->totals, &ev);
    if (d->mesh != NULL) {
      msock_derpd_mesh_on_event(d->mesh, &ev);
    }
  }
  msock_derpd_admin_pump(d->admin, now_us);
  look_for_ends(d, now_us);
  end_if_drained(d);
  msock_loop_set_deadline(d->loop, &d->core_timer, msock_derpd_relay_next_expiry(d->relay));
}

/* Wakes the loop; the hook at the end of the turn does the work. */
static void on_core_timer(void *ctx, uint64_t now_us) {
  (void)ctx;
  (void)now_us;
}

/* --- settings --- */

static msock_err check_settings(const msock_derpd_config *v, const msock_derpd_lists *l, char *why,
                                size_t cap) {
  msock_derp_server_settings s;
  msock_derpd_core_settings(v, l, &s);
  const char *wrong = msock_derp_server_settings_check(&s);
  msock_wipe(&s, sizeof s);
  if (wrong != NULL) {
    snprintf(why, cap, "the limits cannot be used: %s", wrong);
  }
  return wrong == NULL ? MSOCK_OK : MSOCK_ERR_INVALID;
}

/* Settings into the core, the admission and the others. */
static msock_err apply(relay_daemon *d, char *why, size_t cap) {
  const uint64_t now_us = msock_loop_now_us();
  msock_derp_server_settings s;
  msock_err e = check_settings(d->v, &d->lists, why, cap);
  if (e != MSOCK_OK) {
    return e;
  }
  msock_derpd_core_settings(d->v, &d->lists, &s);
  e = msock_derp_server_configure(core_of(d), now_us, &s);
  msock_wipe(&s, sizeof s);
  if (e != MSOCK_OK) {
    snprintf(why, cap, "the limits cannot be used: %s", msock_err_text(e));
    return e;
  }
  e = msock_derp_server_set_bans(core_of(d), now_us, d->lists.bans, d->lists.n_bans);
  if (e != MSOCK_OK) {
    snprintf(why, cap, "the ban list cannot be used: %s", msock_err_text(e));
    return e;
  }
  msock_derpd_admission_use(d->admission, &d->v->admission, &d->lists.admitted,
                            d->lists.has_admitted);
  msock_derpd_relay_use(d->relay, d->v);
  d->sink.log.max = (msock_log_level)d->v->log_level;
  return MSOCK_OK;
}

/* Who is on the list no more is cut off, as by a ban that is lifted at once. */
static void cut_unlisted(relay_daemon *d) {
  const uint64_t now_us = msock_loop_now_us();
  msock_derp_server_peer p;
  uint32_t cursor = 0;
  while (d->lists.has_admitted && msock_derp_server_next_peer(core_of(d), now_us, &cursor, &p)) {
    if (!p.is_mesh && !msock_derpd_keys_have(&d->lists.admitted, &p.key)) {
      const msock_derp_ban ban = {.kind = MSOCK_DERP_BAN_KEY, .key = p.key};
      if (msock_derp_server_ban(core_of(d), now_us, &ban) == MSOCK_OK) {
        msock_derp_server_unban(core_of(d), &ban);
      }
    }
  }
}

static msock_err load_identity(relay_daemon *d, const msock_derpd_config *v,
                               char why[static MSOCK_DERPD_WHY_MAX]) {
  const msock_node_key key = msock_derp_server_key(core_of(d));
  msock_tls_identity *id = NULL;
  why[0] = '\0';
  if (!v->tls) {
    return MSOCK_OK;
  }
  const msock_err e = msock_derpd_cert_load(v, &key, msock_loop_wall_us(), &id, why);
  if (e == MSOCK_OK) {
    msock_tls_identity_pin(id, d->pin);
    msock_derpd_relay_set_identity(d->relay, id);
    if (why[0]) {
      msock_logf(&d->sink.log, MSOCK_LOG_WARN, "certificate.note", "reason=\"%s\"", why);
    }
  }
  return e;
}

/* --- reload --- */

static void log_problems(relay_daemon *d, const msock_config_report *r) {
  char text[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  for (size_t i = 0; i < r->n; i++) {
    msock_logf(&d->sink.log, r->problems[i].warning ? MSOCK_LOG_WARN : MSOCK_LOG_ERROR,
               "relay.config", "problem=\"%s\"", msock_config_problem_text(&r->problems[i], text));
  }
}

static void log_changes(relay_daemon *d, const msock_config *before, const msock_config *after) {
  const msock_config_row *changed[CHANGED_MAX];
  const size_t n = msock_config_diff(before, after, changed, CHANGED_MAX);
  for (size_t i = 0; i < n && i < CHANGED_MAX; i++) {
    msock_logf(&d->sink.log, changed[i]->reloadable ? MSOCK_LOG_INFO : MSOCK_LOG_WARN,
               "relay.setting", "key=%s then=\"%s\"", changed[i]->key,
               changed[i]->reloadable ? "in force" : "takes a restart");
  }
}

/* All or nothing: what cannot be used leaves the old settings in force. */
static void on_reload(void *ctx, int signo) {
  relay_daemon *d = ctx;
  char why[MSOCK_DERPD_WHY_MAX] = "the configuration is refused";
  msock_config_report *report = calloc(1, sizeof *report);
  msock_derpd_lists lists = {0}, old_lists = d->lists;
  const msock_derpd_config *old_v = d->v;
  (void)signo;
  msock_config *fresh = report ? msock_derpd_options_load(d->o, report) : NULL;
  msock_err e = fresh ? MSOCK_OK : MSOCK_ERR_INVALID;
  if (e == MSOCK_OK) {
    d->v = msock_derpd_config_values(fresh);
    e = msock_derpd_lists_load(d->v, &lists, report);
  }
  e = e == MSOCK_OK ? check_settings(d->v, &lists, why, sizeof why) : e;
  e = e == MSOCK_OK ? load_identity(d, d->v, why) : e;
  if (e == MSOCK_OK) {
    d->lists = lists;
    e = apply(d, why, sizeof why);
  }
  if (report != NULL) {
    log_problems(d, report);
  }
  if (e == MSOCK_OK) {
    d->reloads++;
    log_changes(d, d->config, fresh);
    msock_config_free(d->config);
    msock_derpd_lists_clear(&old_lists);
    d->config = fresh;
    msock_derpd_stun_set_public(d->stun, d->v->stun_public);
    cut_unlisted(d);
    on_house(d, msock_loop_now_us());
    msock_logf(&d->sink.log, MSOCK_LOG_INFO, "relay.reloaded", "bans=%zu", d->lists.n_bans);
  } else {
    d->reload_failures++;
    d->v = old_v;
    d->lists = old_lists;
    msock_derpd_lists_clear(&lists);
    msock_config_free(fresh);
    (void)apply(d, why, 0); /* was in force a moment ago */
    msock_logf(&d->sink.log, MSOCK_LOG_ERROR, "relay.not_reloaded",
               "reason=\"%s\" then=\"the old settings stay in force\"", why);
  }
  free(report);
}

/* --- the end --- */

static void on_end(void *ctx, uint64_t now_us) {
  relay_daemon *d = ctx;
  (void)now_us;
  msock_loop_stop(d->loop);
}

static void on_stop(void *ctx, int signo) {
  relay_daemon *d = ctx;
  const uint64_t now_us = msock_loop_now_us();
  if (d->draining) { /* asked twice: at once */
    msock_loop_stop(d->loop);
    return;
  }
  d->draining = true;
  msock_logf(&d->sink.log, MSOCK_LOG_INFO, "relay.draining",
             "signal=%d connections=%zu time_ms=%" PRIu64, signo,
             msock_derp_server_count(core_of(d)), d->v->drain_time / 1000);
  msock_derpd_relay_stop_listening(d->relay);
  msock_derpd_mesh_free(d->mesh); /* the others route by what is left */
  d->mesh = NULL;
  const msock_derp_drain drain = {.spread_us = d->v->drain_time,
                                  .reconnect_in_ms = (uint32_t)(d->v->drain_time / 1000),
                                  .reconnect_spread_ms = (uint32_t)(d->v->drain_spread / 1000),
                                  .try_for_ms = TRY_FOR_MS};
  msock_derp_server_drain(core_of(d), now_us, &drain);
  msock_loop_set_deadline(d->loop, &d->end_timer, now_us + d->v->drain_time + DRAIN_SLACK_US);
}

/* --- start --- */

static void raise_descriptor_limit(void) {
  struct rlimit r;
  if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
    r.rlim_cur = r.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &r); /* a lower bound is told by accept errors */
  }
}

/* Missing parents of a user's own state directory. */
static void make_parents(const char *dir) {
  char path[MSOCK_DERPD_PATH_MAX];
  snprintf(path, sizeof path, "%s", dir);
  for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
      return; /* ensure_dir says what is wrong */
    }
    *slash = '/';
  }
}

static msock_exit open_state(relay_daemon *d) {
  char why[MSOCK_DERPD_WHY_MAX], path[MSOCK_DERPD_PATH_MAX];
  if (d->o->statedir != NULL) {
    make_parents(d->v->statedir);
  }
  if (msock_file_ensure_dir(d->v->statedir, why) != MSOCK_OK) {
    return fail(MSOCK_EXIT_CONFIG, why);
  }
  snprintf(path, sizeof path, "%s/derpd.lock", d->v->statedir);
  if (msock_file_lock(path, &d->lock, why) != MSOCK_OK) {
    return fail(MSOCK_EXIT_OTHER, why);
  }
  return MSOCK_EXIT_OK;
}

static msock_exit make_relay(relay_daemon *d) {
  char why[MSOCK_DERPD_WHY_MAX];
  bool made = false;
  if (msock_derpd_key_load(d->v, &d->env, &d->key, &made, why) != MSOCK_OK) {
    return fail(MSOCK_EXIT_CONFIG, why);
  }
  const msock_derpd_relay_cfg cfg = {
      .egress = d->egress, .log = &d->sink.log, .env = &d->env, .key = &d->key};
  d->relay = msock_derpd_relay_new(&cfg);
  msock_wipe(&d->key, sizeof d->key);
  d->roots = msock_tls_roots_new(NULL);
  d->http = d->roots ? msock_http_new(d->egress, d->roots, &d->sink.log) : NULL;
  d->admission =
      d->http ? msock_derpd_admission_new(d->http, &d->sink.log, &d->env, on_answer, d) : NULL;
  if (d->relay == NULL || d->admission == NULL) {
    return fail(MSOCK_EXIT_OTHER, "out of memory");
  }
  msock_derp_server_keep_events(core_of(d), EVENTS_KEPT);
  msock_derpd_cert_host(d->v, d->cert_host);
  if (load_identity(d, d->v, why) != MSOCK_OK) {
    return fail(MSOCK_EXIT_CONFIG, why);
  }
  return apply(d, why, sizeof why) == MSOCK_OK ? MSOCK_EXIT_OK : fail(MSOCK_EXIT_CONFIG, why);
}

/* After the settings, which hold the mesh key. */
static msock_exit make_mesh(relay_daemon *d) {
  char why[MSOCK_DERPD_WHY_MAX];
  msock_derpd_mesh_target t;
  for (size_t i = 0; i < d->v->mesh.with.n; i++) {
    if (msock_derpd_mesh_parse(d->v->mesh.with.v[i], &t) != MSOCK_OK) {
      snprintf(why, sizeof why,
               "mesh.with: \"%.200s\" is not HOST[:PORT], perhaps with /DIALHOST and "
               "#sha256-raw:PIN",
               d->v->mesh.with.v[i]);
      return fail(MSOCK_EXIT_CONFIG, why);
    }
  }
  d->mesh = msock_derpd_mesh_new(d->relay, d->egress, d->roots, &d->env, d->v);
  return d->mesh ? MSOCK_EXIT_OK : fail(MSOCK_EXIT_OTHER, "out of memory");
}

static msock_exit open_sockets(relay_daemon *d) {
  char why[MSOCK_DERPD_WHY_MAX];
  const msock_derpd_admin_cfg admin = {
      .egress = d->egress, .snapshot = take_snapshot, .write_page = write_page, .ctx = d};
  if (msock_derpd_relay_listen(d->relay, why, sizeof why) != MSOCK_OK ||
      msock_derpd_stun_new(d->egress, d->v, &d->stun, why, sizeof why) != MSOCK_OK ||
      msock_derpd_admin_new(&admin, d->v, &d->admin, why, sizeof why) != MSOCK_OK) {
    return fail(MSOCK_EXIT_OTHER, why);
  }
  return MSOCK_EXIT_OK;
}

static void load_quota(relay_daemon *d) {
  char why[MSOCK_FILE_WHY_MAX];
  uint32_t day, month;
  msock_derpd_date(msock_loop_wall_us(), &day, &month);
  msock_derp_server_set_date(core_of(d), d->started_us, day, month);
  d->saved_us = d->started_us;
  if (has_quota(d) &&
      msock_derpd_quota_load(d->v->statedir, core_of(d), why, sizeof why) != MSOCK_OK) {
    msock_logf(&d->sink.log, MSOCK_LOG_WARN, "quota.not_loaded", "reason=\"%s\"", why);
  }
}

static msock_exit start(relay_daemon *d) {
  const msock_egress_config egress = {.profile = MSOCK_PROFILE_FULL, .ipv6 = true};
  msock_log_sink_init(&d->sink, (msock_log_level)d->v->log_level,
                      d->v->log_format == MSOCK_DERPD_LOG_JSON, msock_loop_now_us,
                      msock_loop_wall_us);
  d->sink.is_limited = msock_derpd_event_is_limited;
  raise_descriptor_limit();
  d->loop = msock_loop_new(&d->sink.log);
  d->egress = d->loop ? msock_egress_new(d->loop, &egress, &d->sink.log) : NULL;
  if (d->egress == NULL || msock_loop_on_signal(d->loop, SIGTERM, on_stop, d) != MSOCK_OK ||
      msock_loop_on_signal(d->loop, SIGINT, on_stop, d) != MSOCK_OK ||
      msock_loop_on_signal(d->loop, SIGHUP, on_reload, d) != MSOCK_OK) {
    return fail(MSOCK_EXIT_OTHER, "cannot start the event loop");
  }
  d->env = msock_loop_env(d->loop);
  d->started_us = msock_loop_now_us();
  msock_loop_timer_init(&d->core_timer, on_core_timer, d);
  msock_loop_timer_init(&d->house_timer, on_house, d);
  msock_loop_timer_init(&d->sample_timer, on_sample, d);
  msock_loop_timer_init(&d->end_timer, on_end, d);
  msock_loop_timer_init(&d->trim_timer, on_trim, d);
  msock_exit code = open_state(d);
  code = code == MSOCK_EXIT_OK ? make_relay(d) : code;
  code = code == MSOCK_EXIT_OK ? open_sockets(d) : code;
  code = code == MSOCK_EXIT_OK ? make_mesh(d) : code;
  if (code == MSOCK_EXIT_OK) {
    load_quota(d);
    msock_loop_hook_add(d->loop, &d->hook, pump, d);
    on_house(d, d->started_us);
    if (msock_derpd_admin_count(d->admin) > 0) {
      on_sample(d, d->started_us);
    }
  }
  return code;
}

static void stop(relay_daemon *d) {
  if (d->relay != NULL && d->loop != NULL && d->stun != NULL) {
    save_quota(d, msock_loop_now_us());
  }
  msock_loop_hook_remove(&d->hook);
  msock_derpd_admin_free(d->admin);
  msock_derpd_stun_free(d->stun);
  msock_derpd_mesh_free(d->mesh);
  msock_derpd_admission_free(d->admission);
  msock_derpd_relay_free(d->relay);
  msock_http_free(d->http);
  msock_tls_roots_free(d->roots);
  msock_egress_free(d->egress);
  msock_loop_free(d->loop);
  msock_derpd_lists_clear(&d->lists);
  msock_config_free(d->config);
  if (d->lock >= 0) {
    msock_file_unlock(d->lock);
  }
}

/* --- the banner --- */

static void print_addresses(const char *name, const relay_daemon *d, bool plain_http,
                            const char *note) {
  char text[MSOCK_ADDR_TEXT_MAX];
  bool any = false;
  for (size_t i = 0; i < msock_derpd_relay_count(d->relay); i++) {
    bool is_http;
    const msock_addr a = msock_derpd_relay_addr(d->relay, i, &is_http);
    if (is_http == plain_http) {
      printf("%s%s", any ? ", " : name, msock_addr_text(&a, text));
      any = true;
    }
  }
  if (any) {
    printf("  (%s)\n", note);
  }
}

static void print_others(const relay_daemon *d) {
  char text[MSOCK_ADDR_TEXT_MAX];
  for (size_t i = 0; i < msock_derpd_stun_count(d->stun); i++) {
    const msock_addr a = msock_derpd_stun_addr(d->stun, i);
    printf("  STUN         %s  (UDP%s)\n", msock_addr_text(&a, text),
           d->v->stun_public ? ", anybody" : "");
  }
  for (size_t i = 0; i < msock_derpd_admin_count(d->admin); i++) {
    const msock_addr a = msock_derpd_admin_addr(d->admin, i);
    printf("  status page  http://%s/\n", msock_addr_text(&a, text));
  }
}

static void print_admission(const relay_daemon *d) {
  const msock_derpd_admission_config *a = &d->v->admission;
  if (!d->lists.has_admitted && !a->url[0] && !a->token[0]) {
    printf("  admission    open: whoever reaches this address may use it\n");
    return;
  }
  printf("  admission   ");
  if (d->lists.has_admitted) {
    printf(" %zu listed keys%s", d->lists.admitted.n, a->url[0] || a->token[0] ? " and" : "");
  }
  if (a->token[0]) {
    printf(" the shared token%s", a->url[0] ? " and" : "");
  }
  if (a->url[0]) {
    printf(" %s%s", a->url, a->fail_open ? " (open while it does not answer)" : "");
  }
  printf("\n");
}

static void print_banner(relay_daemon *d) {
  char key[MSOCK_KEY_TEXT_MAX];
  const msock_node_key public_key = msock_derp_server_key(core_of(d));
  bool plain;
  const bool any = msock_derpd_relay_count(d->relay) > 0;
  const msock_addr first = any ? msock_derpd_relay_addr(d->relay, 0, &plain) : (msock_addr){0};
  printf("derpd %s is ready\n\n", TSNODE_VERSION);
  if (any) {
    printf("  relay        %s://%s:%u/derp\n", d->v->tls ? "https" : "http", d->cert_host,
           first.port);
  }
  print_addresses("  clients      ", d, false,
                  d->v->tls ? "DERP over TLS" : "DERP over plain HTTP");
  print_addresses("  port 80      ", d, true, "captive portal checks");
  print_others(d);
  printf("  key          %s\n", msock_node_key_text(&public_key, key));
  if (d->v->tls && d->v->cert[0]) {
    printf("  certificate  %s\n", d->v->cert);
  } else if (d->v->tls) {
    printf("  certificate  made here for %s, pin %s\n", d->cert_host, d->pin);
  }
  print_admission(d);
  printf("  state        %s\n", d->v->statedir);
  printf(
      "\nThe entry for a DERP map: derpd map. Stop with Ctrl-C or SIGTERM: clients are told.\n\n");
  fflush(stdout);
}

static void log_start(relay_daemon *d) {
  char key[MSOCK_KEY_TEXT_MAX];
  const msock_node_key public_key = msock_derp_server_key(core_of(d));
  msock_logf(&d->sink.log, MSOCK_LOG_INFO, "relay.started", "version=%s tls=\"%s\" http=%s",
             TSNODE_VERSION, d->v->tls ? msock_tls_backend() : "off", msock_http_provider());
  msock_logf(&d->sink.log, MSOCK_LOG_INFO, "relay.identity", "key=%s",
             msock_node_key_text(&public_key, key));
  if (d->o->statedir_because && strncmp(d->o->statedir_because, "no HOME", 7) == 0) {
    msock_logf(&d->sink.log, MSOCK_LOG_WARN, "relay.statedir",
               "dir=\"%s\" reason=\"no HOME is set; name a directory with --statedir\"",
               d->v->statedir);
  }
}

static msock_exit load_lists(relay_daemon *d) {
  msock_config_report *report = calloc(1, sizeof *report);
  const msock_err e = report ? msock_derpd_lists_load(d->v, &d->lists, report) : MSOCK_ERR_NOMEM;
  if (report != NULL) {
    msock_derpd_print_problems(report);
  }
  free(report);
  return e == MSOCK_OK ? MSOCK_EXIT_OK : MSOCK_EXIT_CONFIG;
}

msock_exit msock_derpd_run(const msock_derpd_options *o, msock_config *config) {
  relay_daemon *d = calloc(1, sizeof *d);
  if (d == NULL) {
    msock_config_free(config);
    return fail(MSOCK_EXIT_OTHER, "out of memory");
  }
  d->o = o;
  d->config = config;
  d->v = msock_derpd_config_values(config);
  d->lock = -1;
  msock_exit code = load_lists(d);
  code = code == MSOCK_EXIT_OK ? start(d) : code;
  if (code == MSOCK_EXIT_OK) {
    print_banner(d);
    log_start(d);
    msock_loop_run(d->loop);
    msock_logf(&d->sink.log, MSOCK_LOG_INFO, "relay.stopped",
               "connections_total=%" PRIu64 " reservations_total=%" PRIu64
               " circuits_total=%" PRIu64,
               d->totals.connections, d->totals.reservations, d->totals.circuits);
  }
  stop(d);
  free(d);
  return code;
}

msock_exit msock_derpd_print_map(const msock_derpd_options *o, const msock_config *config) {
  const msock_derpd_config *v = msock_derpd_config_values(config);
  char why[MSOCK_DERPD_WHY_MAX], pin[MSOCK_TLS_PIN_TEXT_MAX] = "";
  msock_tls_identity *id = NULL;
  msock_derpd_text t = {0};
  const msock_node_key none = {{0}}; /* the meta certificate does not count for a pin */
  if (v->tls) {
    if (o->statedir != NULL) {
      make_parents(v->statedir);
    }
    if ((!v->cert[0] && msock_file_ensure_dir(v->statedir, why) != MSOCK_OK) ||
        msock_derpd_cert_load(v, &none, msock_loop_wall_us(), &id, why) != MSOCK_OK) {
      return fail(MSOCK_EXIT_CONFIG, why);
    }
    if (!v->cert[0]) { /* a certificate of an authority is verified by its name */
      msock_tls_identity_pin(id, pin);
    }
    msock_tls_identity_free(id);
  }
  const bool ok = msock_derpd_map_write(v, &o->map, pin, &t, why, sizeof why) && !t.failed;
  if (ok) {
    fputs(t.p, stdout);
  }
  msock_derpd_text_clear(&t);
  return ok ? MSOCK_EXIT_OK : fail(MSOCK_EXIT_USAGE, why);
}
