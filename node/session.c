#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "node/netcheck_json.h"
#include "node/node_internal.h"

static void save(msock_node *n) {
  char why[MSOCK_WHY_MAX];
  if (msock_state_save(n->opt->state_file, &n->state, why) != MSOCK_OK) {
    msock_logf(n->deps.log, MSOCK_LOG_ERROR, "state.save_failed", "reason=\"%s\"", why);
    snprintf(n->last_error, sizeof n->last_error, "the state could not be saved: %s", why);
  }
}

static msock_control *machine_of(const msock_node *n) {
  return n->control ? msock_control_link_machine(n->control) : NULL;
}

const char *msock_node_backend_state(const msock_node *n) {
  const msock_control *c = machine_of(n);
  if (!n->state.prefs.want_running && msock_state_has_node_key(&n->state)) {
    return "Stopped";
  }
  if (c == NULL) {
    return n->state.prefs.want_running && msock_state_has_node_key(&n->state) ? "NoState"
                                                                              : "NeedsLogin";
  }
  switch (msock_control_get_state(c)) {
  case MSOCK_CONTROL_STOPPED:
    return msock_state_has_node_key(&n->state) ? "Stopped" : "NeedsLogin";
  case MSOCK_CONTROL_STARTING:
    return "Starting";
  case MSOCK_CONTROL_NEEDS_LOGIN:
  case MSOCK_CONTROL_EXPIRED:
    return "NeedsLogin";
  case MSOCK_CONTROL_NEEDS_APPROVAL:
    return "NeedsMachineAuth";
  case MSOCK_CONTROL_RUNNING:
    return "Running";
  }
  return "NoState";
}

/* --- what we tell the server about this host --- */

static const char *host_name(const msock_node *n, char buf[static 256]) {
  if (n->state.prefs.hostname[0]) {
    return n->state.prefs.hostname;
  }
  if (gethostname(buf, 255) != 0 || buf[0] == '\0') {
    return "tsnode";
  }
  buf[255] = '\0';
  return buf;
}

typedef struct hostinfo_parts {
  char name[256];
  const char *tags[MSOCK_PREFS_TAGS_MAX];
} hostinfo_parts;

static msock_hostinfo hostinfo(const msock_node *n, hostinfo_parts *parts) {
  const msock_prefs *p = &n->state.prefs;
  for (size_t i = 0; i < p->n_advertise_tags; i++) {
    parts->tags[i] = p->advertise_tags[i];
  }
  return (msock_hostinfo){
      .hostname = host_name(n, parts->name),
      .os = "linux",
      .app_version = "tsnode-" TSNODE_VERSION,
      .backend_log_id = n->state.log_id,
      .routable_ips = p->advertise_routes,
      .n_routable_ips = p->n_advertise_routes,
      .request_tags = parts->tags,
      .n_request_tags = p->n_advertise_tags,
  };
}

void msock_node_on_home_report(void *ctx, uint64_t now_us, const msock_home_report *report) {
  msock_node *n = ctx;
  msock_control *c = machine_of(n);
  const msock_netinfo ni =
      msock_netcheck_netinfo(report, msock_home_region(msock_homing_machine(n->homing)));

  if (c && ni.preferred_derp) {
    msock_control_set_netinfo(c, now_us, &ni);
  }
  msock_node_netcheck_report(n, now_us, report);
}

/* --- events of the control machine --- */

static void on_registered(msock_node *n, uint64_t now_us, const msock_control_event *ev) {
  const msock_node_private *key = msock_control_node_private(machine_of(n));

  n->last_error[0] = '\0';
  n->last_error_code = MSOCK_CONTROL_E_NONE;
  n->state.node_private = *key;
  msock_wipe(&n->state.old_node_private, sizeof n->state.old_node_private);
  n->state.prefs.logged_out = false;
  snprintf(n->state.server_url, sizeof n->state.server_url, "%s", n->state.prefs.control_url);
  save(n);
  msock_dataplane_set_private_key(n->plane, key);
  msock_derp_pool_set_private_key(msock_relay_pool(n->relay), now_us, key);
  const msock_node_key pub = msock_node_private_public(key);
  if (!msock_node_key_equal(&pub, &n->paths_key)) { /* pings claim the node key */
    msock_node_make_paths(n, now_us);
    msock_node_restore_netmap(n, now_us);
  }
  msock_logf(n->deps.log, MSOCK_LOG_INFO, "control.registered", "login=\"%s\"", ev->text);
}

static void on_logged_out(msock_node *n, uint64_t now_us) {
  msock_state_forget_login(&n->state);
  if (msock_settings_values(n->opt->settings)->server_key[0] == '\0') {
    /* The next login decides anew whom to trust: the way to accept a new key of the server. */
    n->state.server_key = (msock_machine_key){{0}};
    msock_control_forget_server_key(machine_of(n));
  }
  n->state.prefs.want_running = false;
  n->state.prefs.logged_out = true;
  save(n);
  msock_control_set_want_running(machine_of(n), now_us, false);
  msock_node_clear_netmap(n, now_us);
  msock_derp_pool_set_private_key(msock_relay_pool(n->relay), now_us, NULL);
  msock_logf(n->deps.log, MSOCK_LOG_INFO, "control.logged_out", "%s", "");
  if (n->stopping) {
    msock_loop_stop(n->deps.loop);
  }
}

static void on_error(msock_node *n, const msock_control_event *ev) {
  const char *advice = msock_control_error_advice(ev->error);
  n->last_error_code = ev->error;
  snprintf(n->last_error, sizeof n->last_error, "%.400s%s%.200s", ev->text, *advice ? ". " : "",
           advice);
  msock_logf(n->deps.log, MSOCK_LOG_WARN, "control.error", "code=%s reason=\"%s\" next=\"%s\"",
             msock_control_error_name(ev->error), ev->text, advice);
}

static void on_control_event(void *ctx, uint64_t now_us, const msock_control_event *ev) {
  msock_node *n = ctx;
  switch (ev->kind) {
  case MSOCK_CONTROL_EV_STATE:
    msock_logf(n->deps.log, MSOCK_LOG_INFO, "control.state", "state=%s",
               msock_control_state_name(ev->state));
    if (ev->state == MSOCK_CONTROL_RUNNING) {
      n->last_error[0] = '\0';
      n->last_error_code = MSOCK_CONTROL_E_NONE;
    }
    break;
  case MSOCK_CONTROL_EV_SERVER_KEY:
    if (!msock_machine_key_equal(&n->state.server_key, &ev->server_key)) {
      n->state.server_key = ev->server_key;
      snprintf(n->state.server_url, sizeof n->state.server_url, "%s", n->state.prefs.control_url);
      save(n);
    }
    break;
  case MSOCK_CONTROL_EV_AUTH_URL:
    msock_logf(n->deps.log, MSOCK_LOG_INFO, "control.auth_url",
               "text=\"a person has to approve this node: see tsnode status\"");
    break;
  case MSOCK_CONTROL_EV_NODE_KEY:
    break; /* stored when the server has accepted it */
  case MSOCK_CONTROL_EV_REGISTERED:
    on_registered(n, now_us, ev);
    break;
  case MSOCK_CONTROL_EV_LOGGED_OUT:
    on_logged_out(n, now_us);
    break;
  case MSOCK_CONTROL_EV_NETMAP:
    if (msock_control_get_state(machine_of(n)) == MSOCK_CONTROL_RUNNING &&
        msock_control_connected(machine_of(n))) { /* it is there again: what went wrong is past */
      n->last_error[0] = '\0';
      n->last_error_code = MSOCK_CONTROL_E_NONE;
    }
    msock_node_apply_netmap(n, now_us);
    break;
  case MSOCK_CONTROL_EV_BROWSE_URL:
    msock_logf(n->deps.log, MSOCK_LOG_INFO, "control.browse_url", "url=\"%s\"", ev->text);
    break;
  case MSOCK_CONTROL_EV_ERROR:
    on_error(n, ev);
    break;
  case MSOCK_CONTROL_EV_NONE:
    break;
  }
}

/* --- start and stop --- */

/* The key that the configuration keeps serves every login that brings none: the first, and those
 * after an expired node key or a node that was deleted. */
static msock_err make_control(msock_node *n, uint64_t now_us, const char *given_key,
                              char why[static MSOCK_WHY_MAX]) {
  const msock_tsnode_config *v = msock_settings_values(n->opt->settings);
  char key[MSOCK_SETTINGS_KEY_MAX] = "";
  msock_machine_key pin;
  msock_http_url url;
  hostinfo_parts parts;
  msock_state *st = &n->state;

  if (msock_http_url_parse(st->prefs.control_url, &url) != MSOCK_OK) {
    snprintf(why, MSOCK_WHY_MAX,
             "no control server is known: say `tsnode up --login-server URL` with the URL of your "
             "Headscale");
    return MSOCK_ERR_INVALID;
  }
  if (strcmp(st->server_url, st->prefs.control_url) != 0) { /* another server: other keys */
    msock_state_forget_login(st);
    st->server_key = (msock_machine_key){{0}};
  }
  if (given_key == NULL || given_key[0] == '\0') {
    const msock_err e = msock_settings_auth_key(n->opt->settings, key, why);
    if (e != MSOCK_OK && !msock_state_has_node_key(st)) {
      return e;
    }
    if (e != MSOCK_OK) { /* nobody needs it yet */
      msock_logf(n->deps.log, MSOCK_LOG_WARN, "config.auth_key", "reason=\"%s\"", why);
    }
    given_key = key;
  }
  if (v->server_key[0] != '\0') {
    (void)msock_machine_key_parse(v->server_key, &pin); /* checked when it was loaded */
  } else {
    pin = st->server_key;
  }
  const msock_control_cfg cfg = {
      .https = url.https,
      .host = url.host,
      .port = url.port,
      .machine = st->machine_private,
      .node = st->node_private,
      .old_node = st->old_node_private,
      .disco = msock_engine_disco_key(msock_paths_engine(n->paths)),
      .hostinfo = hostinfo(n, &parts),
      .auth_key = *given_key ? given_key : NULL,
      .ephemeral = n->opt->state_file == NULL,
      .server_key = pin,
      .pin_server_key = !url.https || v->server_key[0] != '\0',
      .allow_loopback_endpoints = v->allow_loopback,
  };
  n->control =
      msock_control_link_new(&n->deps, &cfg, &v->login_server_address, on_control_event, n);
  msock_wipe(key, sizeof key);
  if (n->control == NULL) {
    snprintf(why, MSOCK_WHY_MAX, "out of memory");
    return MSOCK_ERR_NOMEM;
  }
  if (msock_state_has_node_key(st)) {
    msock_dataplane_set_private_key(n->plane, &st->node_private);
    msock_derp_pool_set_private_key(msock_relay_pool(n->relay), now_us, &st->node_private);
    msock_node_make_paths(n, now_us);
  }
  return MSOCK_OK;
}

static void drop_control(msock_node *n, uint64_t now_us) {
  if (n->control) {
    msock_node_clear_netmap(n, now_us);
    msock_control_link_free(n->control);
    n->control = NULL;
  }
}

static void go_up(msock_node *n, uint64_t now_us) {
  msock_control *c = machine_of(n);
  if (msock_control_get_state(c) == MSOCK_CONTROL_STOPPED) {
    msock_control_set_want_running(c, now_us, true);
    msock_node_restore_netmap(n, now_us);
  }
}

static void go_down(msock_node *n, uint64_t now_us) {
  if (n->control) {
    msock_control_set_want_running(machine_of(n), now_us, false);
    msock_node_clear_netmap(n, now_us);
  }
}

void msock_node_session_resume(msock_node *n, uint64_t now_us) {
  char why[MSOCK_WHY_MAX];
  const msock_prefs *p = &n->state.prefs;
  if (n->control != NULL || !p->want_running || p->logged_out || p->control_url[0] == '\0') {
    return;
  }
  if (make_control(n, now_us, NULL, why) == MSOCK_OK) {
    go_up(n, now_us);
  } else {
    snprintf(n->last_error, sizeof n->last_error, "%s", why);
  }
}

msock_err msock_node_set_prefs(msock_node *n, uint64_t now_us, const msock_prefs *prefs,
                               uint32_t changed, char why[static MSOCK_WHY_MAX]) {
  const msock_prefs before = n->state.prefs;
  hostinfo_parts parts;
  msock_err e = msock_prefs_check_built(prefs, changed, why);

  if (e != MSOCK_OK) {
    return e;
  }
  n->state.prefs = *prefs;
  e = msock_state_save(n->opt->state_file, &n->state, why);
  if (e != MSOCK_OK) {
    n->state.prefs = before;
    return e;
  }
  n->bus.prefs_changed = true;
  if (n->control && strcmp(before.control_url, prefs->control_url) != 0) {
    drop_control(n, now_us);
  }
  if (changed & MSOCK_PREF_OPERATOR_USER) {
    msock_localapi_server_set_operator(n->api_server, prefs->operator_user);
  }
  msock_filter_set_shields_up(msock_dataplane_filter(n->plane), prefs->shields_up);
  if (n->control) {
    if (changed & MSOCK_PREF_ADVERTISE_ROUTES) { /* which packets are for us */
      n->self_dirty = true;
      msock_node_apply_netmap(n, now_us);
    }
    const msock_hostinfo h = hostinfo(n, &parts);
    msock_control_set_hostinfo(machine_of(n), now_us, &h);
    if (before.accept_routes != prefs->accept_routes) {
      msock_node_refresh_routes(n);
    }
  }
  if (!prefs->want_running) {
    go_down(n, now_us);
  } else if (n->control) {
    go_up(n, now_us);
  } else if (msock_state_has_node_key(&n->state)) {
    msock_node_session_resume(n, now_us);
  }
  return MSOCK_OK;
}

msock_err msock_node_login(msock_node *n, uint64_t now_us, const char *auth_key, bool force,
                           char why[static MSOCK_WHY_MAX]) {
  const bool has_key = auth_key && *auth_key;

  n->last_error[0] = '\0';
  n->last_error_code = MSOCK_CONTROL_E_NONE;
  if (n->control == NULL) {
    const msock_err e = make_control(n, now_us, auth_key, why);
    if (e != MSOCK_OK) {
      return e;
    }
    go_up(n, now_us);
    if (!force) {
      return MSOCK_OK;
    }
  }
  const msock_control_state s = msock_control_get_state(machine_of(n));
  const bool waits = s == MSOCK_CONTROL_NEEDS_LOGIN || s == MSOCK_CONTROL_EXPIRED ||
                     !msock_state_has_node_key(&n->state);
  go_up(n, now_us);
  msock_control_hurry(machine_of(n), now_us);
  if (force || (waits && (has_key || *msock_control_auth_url(machine_of(n)) == '\0'))) {
    const msock_err e = msock_control_login(machine_of(n), now_us, has_key ? auth_key : NULL);
    if (e != MSOCK_OK) {
      snprintf(why, MSOCK_WHY_MAX, "%s", msock_err_text(e));
      return e;
    }
  }
  return MSOCK_OK;
}

void msock_node_logout(msock_node *n, uint64_t now_us) {
  char why[MSOCK_WHY_MAX];
  if (n->control == NULL && msock_state_has_node_key(&n->state) &&
      make_control(n, now_us, NULL, why) == MSOCK_OK) {
    msock_control_set_want_running(machine_of(n), now_us, true);
  }
  if (n->control) {
    msock_control_logout(machine_of(n), now_us);
  } else {
    msock_state_forget_login(&n->state);
    n->state.prefs.logged_out = true;
    save(n);
  }
}
