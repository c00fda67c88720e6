/* Configuration in the life of the node: applied at start, again at SIGHUP, and the orderly stop of
 * an ephemeral node. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crypto/wipe.h"
#include "node/node.h"
#include "node/node_internal.h"

static void log_report(const msock_log *log, const msock_config_report *r) {
  char text[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  for (size_t i = 0; i < r->n; i++) {
    msock_logf(log, r->problems[i].warning ? MSOCK_LOG_WARN : MSOCK_LOG_ERROR, "config.problem",
               "%s", msock_config_problem_text(&r->problems[i], text));
  }
}

void msock_node_apply_settings(msock_node *n, bool changed_only) {
  const uint64_t now_us = msock_loop_now_us();
  msock_prefs p = n->state.prefs;
  char why[MSOCK_WHY_MAX];
  uint32_t bits = 0;
  msock_err e = msock_settings_to_prefs(n->opt->settings, changed_only,
                                        msock_state_has_node_key(&n->state), &p, &bits, why);
  if (e == MSOCK_OK && bits != 0) {
    e = msock_node_set_prefs(n, now_us, &p, bits, why);
  }
  if (e != MSOCK_OK) {
    msock_logf(n->deps.log, MSOCK_LOG_ERROR, "config.not_applied", "reason=\"%s\"", why);
  }
}

/* A new key in the configuration is the way out of a login that waits. */
static void login_again(msock_node *n) {
  char key[MSOCK_SETTINGS_KEY_MAX], why[MSOCK_WHY_MAX] = "";
  const char *state = msock_node_backend_state(n);
  if (!n->state.prefs.want_running || strcmp(state, "NeedsLogin") != 0) {
    return;
  }
  msock_err e = msock_settings_auth_key(n->opt->settings, key, why);
  if (e == MSOCK_OK && key[0] != '\0') {
    e = msock_node_login(n, msock_loop_now_us(), key, false, why);
  }
  if (e != MSOCK_OK) {
    msock_logf(n->deps.log, MSOCK_LOG_ERROR, "config.login_failed", "reason=\"%s\"", why);
  }
  msock_wipe(key, sizeof key);
}

void msock_node_reload(msock_node *n) {
  const msock_config_row *const *rows;
  msock_config_report report = {0};

  const msock_err e = msock_settings_load(n->opt->settings, &report);
  log_report(n->deps.log, &report);
  if (e != MSOCK_OK) {
    msock_logf(n->deps.log, MSOCK_LOG_ERROR, "config.kept",
               "text=\"the configuration has errors: the one before stays in force\"");
    return;
  }
  const size_t count = msock_settings_changed(n->opt->settings, &rows);
  for (size_t i = 0; i < count; i++) {
    msock_logf(n->deps.log, rows[i]->reloadable ? MSOCK_LOG_INFO : MSOCK_LOG_WARN,
               rows[i]->reloadable ? "config.changed" : "config.needs_restart", "key=%s",
               rows[i]->key);
  }
  msock_logf(n->deps.log, MSOCK_LOG_INFO, "config.loaded", "changed=%zu", count);
  msock_node_apply_settings(n, true);
  login_again(n);
}

bool msock_node_stop(msock_node *n) {
  if (n->opt->state_file != NULL || n->stopping || n->control == NULL ||
      !msock_state_has_node_key(&n->state)) {
    return false;
  }
  n->stopping = true;
  msock_logf(n->deps.log, MSOCK_LOG_INFO, "node.logging_out",
             "text=\"an ephemeral node leaves the tailnet when it stops\"");
  msock_node_logout(n, msock_loop_now_us());
  return true;
}
