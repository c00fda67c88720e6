/* control/client.c: life of the client machine: key, connection, back-off, time (control.md 2, 6).
 */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/client_internal.h"
#include "control/map_request.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"

uint64_t client_wall(const msock_control *c, uint64_t now_us) {
  return (uint64_t)((int64_t)now_us + c->wall_offset_us);
}

static void set_wall(msock_control *c, uint64_t now_us, uint64_t wall_us) {
  c->wall_offset_us = (int64_t)wall_us - (int64_t)now_us;
}

static bool node_is_zero(const msock_node_private *k) {
  static const msock_node_private zero;
  return msock_ct_equal(k->b, zero.b, sizeof k->b);
}

/* --- life --- */

static bool take_cfg(msock_control *c, const msock_control_cfg *cfg) {
  const uint32_t version = cfg->capver ? cfg->capver : MSOCK_CONTROL_CAPVER;
  if (cfg->host == NULL || *cfg->host == '\0' || strlen(cfg->host) > CLIENT_HOST_MAX ||
      version > UINT16_MAX) {
    return false;
  }
  memcpy(c->host, cfg->host, strlen(cfg->host) + 1);
  c->https = cfg->https;
  c->port = cfg->port ? cfg->port : (cfg->https ? 443 : 80);
  c->version = (uint16_t)version;
  c->machine = cfg->machine;
  c->server_key = cfg->server_key;
  c->pin = cfg->pin_server_key;
  c->ephemeral = cfg->ephemeral;
  c->disco = cfg->disco;
  c->old_node = cfg->old_node;
  c->node = cfg->node;
  c->stored = !node_is_zero(&cfg->node);
  if (!c->stored) {
    msock_node_private_generate(c->env, &c->node);
  }
  if (cfg->auth_key && !client_set_text(&c->auth_key, cfg->auth_key)) {
    return false;
  }
  /* A stored key is first tried by itself: a spent one-shot key must not log a node out. */
  c->use_auth_key = !c->stored && c->auth_key != NULL;
  return msock_hostinfo_copy(&c->hostinfo, &cfg->hostinfo) == MSOCK_OK;
}

msock_control *msock_control_new(const msock_env *env, const msock_control_cfg *cfg) {
  msock_control *c = calloc(1, sizeof *c);
  if (c == NULL) {
    return NULL;
  }
  c->env = env;
  c->backoff.cap_us = CLIENT_CAP_US;
  c->register_backoff.cap_us = CLIENT_CAP_US;
  c->lite_backoff.cap_us = CLIENT_CAP_US;
  c->outage_us = c->conn_due_us = c->drain_due_us = MSOCK_NEVER;
  c->register_guard_us = c->logout_due_us = MSOCK_NEVER;
  c->watchdog_us = c->lite_due_us = c->lite_guard_us = MSOCK_NEVER;
  c->netmap = msock_netmap_new(env, cfg->allow_loopback_endpoints);
  if (c->netmap == NULL || !take_cfg(c, cfg)) {
    msock_control_free(c);
    return NULL;
  }
  return c;
}

void msock_control_free(msock_control *c) {
  if (c == NULL) {
    return;
  }
  client_sessions_drop(c);
  msock_channel_free(c->channel);
  msock_netmap_free(c->netmap);
  msock_hostinfo_clear(&c->hostinfo);
  client_queue_free(c);
  client_set_auth_key(c, NULL);
  client_set_text(&c->auth_url, NULL);
  client_set_text(&c->browse_url, NULL);
  msock_wipe(c, sizeof *c);
  free(c);
}

/* --- back-off --- */

uint64_t client_backoff(msock_control *c, uint64_t now_us, uint64_t floor_us) {
  if (c->outage_us == MSOCK_NEVER) {
    c->outage_us = now_us;
  }
  /* A short outage, such as a restart, is over soon: do not let the delay outgrow it (CTRL-69). */
  c->backoff.cap_us = now_us - c->outage_us < CLIENT_YOUNG_US ? CLIENT_CAP_YOUNG_US : CLIENT_CAP_US;
  return msock_backoff_next(&c->backoff, c->env, floor_us);
}

void client_disconnect(msock_control *c, uint64_t now_us, uint64_t delay_us) {
  if (c->dial_taken) {
    c->act_close = true;
  }
  c->dial_taken = c->act_dial = c->act_fetch = false;
  client_sessions_drop(c);
  msock_channel_free(c->channel);
  c->channel = NULL;
  c->conn = CONN_NONE;
  c->conn_due_us = c->drain_due_us = MSOCK_NEVER;
  c->dial_due_us = now_us + delay_us;
}

/* --- key: control.md 2.1 --- */

static void start_connect(msock_control *c, uint64_t now_us) {
  if (c->verify_key || msock_machine_key_is_zero(&c->server_key)) {
    c->conn = CONN_KEY;
    c->act_fetch = true;
    c->conn_due_us = now_us + CLIENT_KEY_US;
    return;
  }
  c->conn = CONN_DIALING;
  c->act_dial = true;
  c->conn_due_us = now_us + CLIENT_DIAL_US;
  c->stats.dials++;
}

static void key_failed(msock_control *c, uint64_t now_us, msock_control_error e, const char *text) {
  const bool outdated = e == MSOCK_CONTROL_E_KEY_EMPTY || e == MSOCK_CONTROL_E_KEY_LEGACY;
  client_error(c, e, text);
  client_disconnect(c, now_us,
                    outdated ? CLIENT_HOUR_US : client_backoff(c, now_us, CLIENT_FLOOR_US));
}

/* The rejected handshake's question: has the key changed? */
static void key_known(msock_control *c, uint64_t now_us, const msock_machine_key *key) {
  const bool had = !msock_machine_key_is_zero(&c->server_key);
  const bool same = had && msock_machine_key_equal(&c->server_key, key);
  const bool verifying = c->verify_key;
  c->verify_key = false;

  if (had && !same && c->pin) {
    c->key_stopped = true;
    client_error(c, MSOCK_CONTROL_E_KEY_CHANGED, "the server's key is not the known one");
    client_disconnect(c, now_us, 0);
    return;
  }
  if (!same) {
    c->server_key = *key;
    client_push(c, (client_event){.kind = MSOCK_CONTROL_EV_SERVER_KEY, .server_key = *key}, NULL);
  }
  if (verifying && (same || c->key_retried)) {
    client_error(c, MSOCK_CONTROL_E_REJECTED, "server rejected the handshake: version too old?");
    client_disconnect(c, now_us, client_backoff(c, now_us, CLIENT_FLOOR_US));
    return;
  }
  c->key_retried = c->key_retried || verifying;
  start_connect(c, now_us);
}

static bool is_bare_hex(const uint8_t *p, size_t len) {
  size_t digits = 0;
  for (size_t i = 0; i < len; i++) {
    const bool digit = (p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f');
    if (!digit && p[i] != '\n') {
      return false;
    }
    digits += digit;
  }
  return digits == 2 * MSOCK_KEY_LEN;
}

static void read_key(msock_control *c, uint64_t now_us, const uint8_t *body, size_t len) {
  json_tokener *t = json_tokener_new_ex(8);
  json_object *o = t ? json_tokener_parse_ex(t, (const char *)body, (int)len) : NULL;
  json_object *v = NULL;
  msock_machine_key key;

  if (!json_object_is_type(o, json_type_object)) {
    const bool hex = is_bare_hex(body, len);
    key_failed(c, now_us, hex ? MSOCK_CONTROL_E_KEY_LEGACY : MSOCK_CONTROL_E_KEY_NOT_JSON,
               hex ? "/key answers a legacy key only" : "/key does not answer JSON");
  } else if (!json_object_object_get_ex(o, "publicKey", &v) ||
             !json_object_is_type(v, json_type_string) ||
             msock_machine_key_parse(json_object_get_string(v), &key) != MSOCK_OK ||
             msock_machine_key_is_zero(&key)) {
    key_failed(c, now_us, MSOCK_CONTROL_E_KEY_LEGACY, "/key has no publicKey");
  } else {
    key_known(c, now_us, &key);
  }
  json_object_put(o);
  if (t) {
    json_tokener_free(t);
  }
}

void msock_control_on_key_response(msock_control *c, uint64_t now_us, int http_status,
                                   const uint8_t *body, size_t len) {
  char text[64];
  if (c->conn != CONN_KEY) {
    return;
  }
  c->conn = CONN_NONE;
  if (http_status != 200) {
    snprintf(text, sizeof text, "/key answers HTTP %d", http_status);
    key_failed(c, now_us, MSOCK_CONTROL_E_KEY_STATUS, text);
  } else if (len > MSOCK_CONTROL_KEY_BODY_MAX) {
    key_failed(c, now_us, MSOCK_CONTROL_E_KEY_TOO_LONG, "/key answers more than 64 KiB");
  } else if (len == 0) {
    key_failed(c, now_us, MSOCK_CONTROL_E_KEY_EMPTY, "/key answers 200 without a body");
  } else {
    read_key(c, now_us, body, len);
  }
  client_drive(c, now_us);
}

void msock_control_on_key_failed(msock_control *c, uint64_t now_us, const char *reason) {
  if (c->conn == CONN_KEY) {
    key_failed(c, now_us, MSOCK_CONTROL_E_KEY_UNREACHABLE, reason);
    client_drive(c, now_us);
  }
}

/* --- connection --- */

void msock_control_conn_up(msock_control *c, uint64_t now_us, uint64_t wall_us) {
  const msock_channel_cfg cfg = {.host = c->host,
                                 .port = c->port,
                                 .default_port = c->port == (c->https ? 443 : 80),
                                 .version = c->version,
                                 .machine = &c->machine,
                                 .server = &c->server_key};
  set_wall(c, now_us, wall_us);
  if (c->conn != CONN_DIALING || c->act_dial) {
    return;
  }
  c->channel = msock_channel_new(c->env, &cfg, now_us);
  if (c->channel == NULL) {
    client_error(c, MSOCK_CONTROL_E_HANDSHAKE, "the server's key is not usable");
    client_disconnect(c, now_us, client_backoff(c, now_us, CLIENT_FLOOR_US));
    return;
  }
  c->conn = CONN_UP;
  c->conn_due_us = MSOCK_NEVER;
  client_drive(c, now_us);
}

static msock_control_error error_of(msock_channel_failure f) {
  switch (f) {
  case MSOCK_CHANNEL_F_STATUS:
    return MSOCK_CONTROL_E_UPGRADE;
  case MSOCK_CHANNEL_F_REJECTED:
    return MSOCK_CONTROL_E_REJECTED;
  case MSOCK_CHANNEL_F_HANDSHAKE:
    return MSOCK_CONTROL_E_HANDSHAKE;
  case MSOCK_CHANNEL_F_TIMEOUT:
    return MSOCK_CONTROL_E_TIMEOUT;
  case MSOCK_CHANNEL_F_EOF:
    return MSOCK_CONTROL_E_MAP_ENDED;
  default:
    return MSOCK_CONTROL_E_PROTOCOL;
  }
}

/* The channel is of no use any more: report, choose the delay, drop it. */
static void channel_failed(msock_control *c, uint64_t now_us) {
  int status = 0;
  const char *text = "";
  char copy[MSOCK_CHANNEL_TEXT_MAX + 1];
  const msock_channel_failure f = msock_channel_failed(c->channel, &status, &text);
  const bool was_connected = c->connected;
  uint64_t delay = 0;

  snprintf(copy, sizeof copy, "%s", text);
  if (f == MSOCK_CHANNEL_F_REJECTED || f == MSOCK_CHANNEL_F_HANDSHAKE) {
    c->verify_key = true; /* the next step asks /key and reports then */
    delay = c->backoff.failures == 0 ? 0 : client_backoff(c, now_us, CLIENT_FLOOR_US);
    msock_logf(c->env->log, MSOCK_LOG_WARN, "control.rejected", "text=\"%s\"", copy);
  } else {
    client_error(c, error_of(f), copy);
    delay = client_backoff(c, now_us, f == MSOCK_CHANNEL_F_STATUS ? CLIENT_FLOOR_US : 0);
  }
  if (f == MSOCK_CHANNEL_F_EOF && was_connected) { /* a restart hits all clients at once */
    delay = msock_env_uniform(c->env, CLIENT_EOF_JITTER_US);
  }
  client_disconnect(c, now_us, delay);
}

static void check_channel(msock_control *c, uint64_t now_us) {
  int status = 0;
  const char *text = "";
  if (c->channel && msock_channel_failed(c->channel, &status, &text) != MSOCK_CHANNEL_ALIVE) {
    channel_failed(c, now_us);
  }
}

static void take_channel_events(msock_control *c, uint64_t now_us) {
  msock_channel_event ev;
  while (c->channel && msock_channel_next_event(c->channel, &ev)) {
    if (ev.kind == MSOCK_CHANNEL_EV_READY) {
      c->stats.handshakes++;
    } else if (ev.kind == MSOCK_CHANNEL_EV_GOAWAY) {
      c->drain_due_us = now_us + CLIENT_DRAIN_US;
    } else {
      client_on_channel_event(c, now_us, &ev);
    }
  }
}

void msock_control_conn_feed(msock_control *c, uint64_t now_us, uint64_t wall_us, const uint8_t *p,
                             size_t len) {
  set_wall(c, now_us, wall_us);
  while (len > 0 && c->channel) {
    const size_t n = msock_channel_feed(c->channel, now_us, p, len);
    p += n;
    len -= n;
    take_channel_events(c, now_us);
    check_channel(c, now_us);
  }
  client_drive(c, now_us);
}

size_t msock_control_conn_tx_peek(msock_control *c, const uint8_t **p) {
  return c->channel && !c->act_close ? msock_channel_tx_peek(c->channel, p) : 0;
}

void msock_control_conn_tx_consume(msock_control *c, size_t n) {
  if (c->channel) {
    msock_channel_tx_consume(c->channel, n);
  }
}

void msock_control_conn_down(msock_control *c, uint64_t now_us, msock_conn_down why) {
  static const char *const reasons[] = {"closed by the server", "connection refused",
                                        "connection reset",     "TLS failed",
                                        "host name not found",  "connection lost"};
  const bool floor = why == MSOCK_CONN_REFUSED || why == MSOCK_CONN_RESET;
  if (c->conn != CONN_UP && (c->conn != CONN_DIALING || c->act_dial)) {
    return;
  }
  c->dial_taken = false; /* nothing to close */
  if (c->channel && why == MSOCK_CONN_EOF) {
    msock_channel_eof(c->channel);
    channel_failed(c, now_us);
  } else {
    const uint64_t delay = client_backoff(c, now_us, floor ? CLIENT_FLOOR_US : 0);
    client_error(c, MSOCK_CONTROL_E_CONNECT, reasons[why]);
    client_disconnect(c, now_us, delay);
  }
  client_drive(c, now_us);
}

/* --- time --- */

static void conn_expiry(msock_control *c, uint64_t now_us) {
  if (c->channel && now_us >= msock_channel_next_expiry(c->channel)) {
    msock_channel_on_expiry(c->channel, now_us);
    check_channel(c, now_us);
  }
  if (now_us >= c->conn_due_us) {
    if (c->conn == CONN_KEY) {
      key_failed(c, now_us, MSOCK_CONTROL_E_KEY_UNREACHABLE, "/key does not answer");
    } else {
      client_error(c, MSOCK_CONTROL_E_TIMEOUT, "no connection in 5 s");
      client_disconnect(c, now_us, client_backoff(c, now_us, 0));
    }
  }
  if (now_us >= c->drain_due_us) { /* GOAWAY: what could end has ended */
    client_disconnect(c, now_us, msock_env_uniform(c->env, CLIENT_EOF_JITTER_US));
  }
}

void msock_control_on_expiry(msock_control *c, uint64_t now_us, uint64_t wall_us) {
  set_wall(c, now_us, wall_us);
  conn_expiry(c, now_us);
  client_sessions_expiry(c, now_us);
  if (now_us >= msock_netmap_next_expiry(c->netmap)) {
    msock_netmap_on_expiry(c->netmap, now_us, wall_us);
    client_push(c, (client_event){.kind = MSOCK_CONTROL_EV_NETMAP}, NULL);
    client_update_state(c, now_us);
  }
  client_drive(c, now_us);
}

/* An expired node keeps its map stream, which tells when the expiry is lifted (control.md 3.5). */
static bool may_connect(const msock_control *c) {
  return !c->key_stopped &&
         ((c->want && (c->auth != AUTH_BLOCKED || c->relogin)) || c->auth == AUTH_LOGOUT);
}

static uint64_t sooner(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

uint64_t msock_control_next_expiry(const msock_control *c) {
  uint64_t due = sooner(c->conn_due_us, c->drain_due_us);
  due = sooner(due, msock_netmap_next_expiry(c->netmap));
  due = sooner(due, client_sessions_next_expiry(c));
  if (c->channel) {
    due = sooner(due, msock_channel_next_expiry(c->channel));
  }
  if (c->conn == CONN_NONE && may_connect(c)) {
    due = sooner(due, c->dial_due_us);
  }
  return due;
}

void client_drive(msock_control *c, uint64_t now_us) {
  if (!may_connect(c)) {
    if (c->conn != CONN_NONE) {
      client_disconnect(c, now_us, 0);
    }
  } else if (c->conn == CONN_NONE && now_us >= c->dial_due_us) {
    start_connect(c, now_us);
  }
  if (c->channel && msock_channel_is_draining(c->channel) &&
      msock_channel_open_streams(c->channel) == 0) {
    client_disconnect(c, now_us, msock_env_uniform(c->env, CLIENT_EOF_JITTER_US));
  }
  client_sessions_drive(c, now_us);
}

void msock_control_on_link_change(msock_control *c, uint64_t now_us, bool conn_lost) {
  if (c->conn == CONN_UP && !conn_lost) {
    msock_channel_ping(c->channel, now_us, MSOCK_CHANNEL_WAKE_ACK_US);
  } else if (c->conn != CONN_NONE && c->conn != CONN_KEY) {
    client_disconnect(c, now_us, 0);
  }
  c->dial_due_us = sooner(c->dial_due_us, now_us);
  c->register_due_us = sooner(c->register_due_us, now_us);
  c->map_due_us = sooner(c->map_due_us, now_us);
  msock_backoff_reset(&c->backoff);
  c->outage_us = MSOCK_NEVER;
  client_dirty(c, now_us, CLIENT_COALESCE_US);
  client_drive(c, now_us);
}

/* --- settings --- */

void msock_control_set_netinfo(msock_control *c, uint64_t now_us, const msock_netinfo *ni) {
  const bool first_home = ni->preferred_derp != 0 && c->netinfo.preferred_derp == 0;
  const bool changed = !c->has_netinfo || !msock_netinfo_equal(&c->netinfo, ni);
  c->netinfo = *ni;
  if (c->netinfo.n_latencies > MSOCK_CONTROL_LATENCIES_MAX) {
    c->netinfo.n_latencies = MSOCK_CONTROL_LATENCIES_MAX;
  }
  c->has_netinfo = true;
  if (changed) { /* the first home makes us reachable: it does not wait */
    client_dirty(c, now_us, first_home ? 0 : CLIENT_COALESCE_US);
    client_drive(c, now_us);
  }
}

void msock_control_set_endpoints(msock_control *c, uint64_t now_us, const msock_endpoint *eps,
                                 size_t n) {
  n = n < MSOCK_CONTROL_ENDPOINTS_MAX ? n : MSOCK_CONTROL_ENDPOINTS_MAX;
  bool changed = n != c->n_endpoints;
  for (size_t i = 0; !changed && i < n; i++) {
    changed = eps[i].type != c->endpoints[i].type ||
              !msock_addr_equal(&eps[i].addr, &c->endpoints[i].addr);
  }
  for (size_t i = 0; i < n; i++) {
    c->endpoints[i] = eps[i];
  }
  c->n_endpoints = n;
  if (changed) {
    client_dirty(c, now_us, CLIENT_COALESCE_US);
    client_drive(c, now_us);
  }
}

msock_err msock_control_set_hostinfo(msock_control *c, uint64_t now_us, const msock_hostinfo *h) {
  msock_hostinfo copy;
  const msock_err err = msock_hostinfo_copy(&copy, h);
  if (err == MSOCK_OK) {
    msock_hostinfo_clear(&c->hostinfo);
    c->hostinfo = copy;
    client_dirty(c, now_us, CLIENT_COALESCE_US);
    client_drive(c, now_us);
  }
  return err;
}

void msock_control_set_disco_key(msock_control *c, uint64_t now_us, const msock_disco_key *k) {
  if (!msock_disco_key_equal(&c->disco, k)) {
    c->disco = *k;
    client_dirty(c, now_us, CLIENT_COALESCE_US);
    client_drive(c, now_us);
  }
}

void msock_control_set_want_running(msock_control *c, uint64_t now_us, bool want) {
  if (c->want == want) {
    return;
  }
  c->want = want;
  c->key_stopped = false;
  if (want) {
    c->dial_due_us = c->register_due_us = c->map_due_us = now_us;
    if (c->auth == AUTH_FOLLOWUP) {
      c->auth = AUTH_WANTED;
    }
    client_set_state(c,
                     c->auth == AUTH_BLOCKED ? MSOCK_CONTROL_NEEDS_LOGIN : MSOCK_CONTROL_STARTING);
  } else {
    if (c->auth != AUTH_LOGOUT) {
      client_disconnect(c, now_us, 0);
    }
    client_set_text(&c->auth_url, NULL);
    client_set_state(c, MSOCK_CONTROL_STOPPED);
  }
  client_drive(c, now_us);
}

void msock_control_hurry(msock_control *c, uint64_t now_us) {
  c->key_stopped = false;
  c->dial_due_us = sooner(c->dial_due_us, now_us);
  c->register_due_us = sooner(c->register_due_us, now_us);
  c->map_due_us = sooner(c->map_due_us, now_us);
  client_drive(c, now_us);
}

void client_set_auth_key(msock_control *c, char *owned) {
  if (c->auth_key) {
    msock_wipe(c->auth_key, strlen(c->auth_key));
    free(c->auth_key);
  }
  c->auth_key = owned;
}

msock_err msock_control_login(msock_control *c, uint64_t now_us, const char *auth_key) {
  char *copy = auth_key ? strdup(auth_key) : NULL;
  if (auth_key && copy == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  client_set_auth_key(c, copy);
  if (c->stored || c->registered || node_is_zero(&c->node)) {
    client_new_key(c); /* else a trying key is there already, and stays */
  }
  if (c->channel && c->register_stream) {
    msock_channel_cancel(c->channel, c->register_stream);
    c->register_stream = 0;
  }
  client_set_text(&c->auth_url, NULL);
  c->auth = AUTH_WANTED;
  c->registered = c->regenerated = c->relogin = false;
  c->use_auth_key = auth_key != NULL;
  c->key_stopped = false;
  c->register_due_us = c->dial_due_us = now_us;
  c->logout_due_us = c->register_guard_us = MSOCK_NEVER;
  msock_backoff_reset(&c->register_backoff);
  if (c->want) {
    client_set_state(c, MSOCK_CONTROL_STARTING);
  }
  client_drive(c, now_us);
  return MSOCK_OK;
}

void msock_control_logout(msock_control *c, uint64_t now_us) {
  client_set_auth_key(c, NULL); /* it must not log in again by itself */
  if (c->auth == AUTH_LOGOUT) {
    return;
  }
  if (c->channel && c->register_stream) {
    msock_channel_cancel(c->channel, c->register_stream);
    c->register_stream = 0;
    c->register_guard_us = MSOCK_NEVER;
  }
  if ((!c->registered && !c->stored) || c->key_stopped) {
    client_finish_logout(c, now_us); /* the server does not know this key, or is not the one */
  } else {
    c->auth = AUTH_LOGOUT;
    c->dial_due_us = c->register_due_us = now_us;
    c->logout_due_us = now_us + CLIENT_LOGOUT_US;
  }
  client_drive(c, now_us);
}

void msock_control_forget_server_key(msock_control *c) {
  c->server_key = (msock_machine_key){{0}};
  c->key_stopped = c->verify_key = c->key_retried = false;
}

/* --- what is now --- */

msock_control_state msock_control_get_state(const msock_control *c) {
  return c->state;
}

bool msock_control_connected(const msock_control *c) {
  return c->connected;
}

msock_netmap *msock_control_netmap(msock_control *c) {
  return c->netmap;
}

const msock_node_private *msock_control_node_private(const msock_control *c) {
  return &c->node;
}

const msock_node_private *msock_control_old_node_private(const msock_control *c) {
  return &c->old_node;
}

const char *msock_control_auth_url(const msock_control *c) {
  return c->auth_url ? c->auth_url : "";
}

msock_control_stats msock_control_get_stats(const msock_control *c) {
  return c->stats;
}
