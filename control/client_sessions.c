/* control/client_sessions.c: the three loops on a connection: auth, map stream, lite updates
 * (control.md 3, 4, 6). Each has its own back-off; a failed lite update never kills the stream. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/client_internal.h"
#include "control/map_request.h"
#include "control/wire_time.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"

static uint64_t sooner(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

static void drop_register_body(msock_control *c) {
  free(c->register_body);
  c->register_body = NULL;
  c->register_len = 0;
}

static void drop_map(msock_control *c) {
  msock_map_stream_free(c->map);
  c->map = NULL;
  c->map_id = 0;
  c->map_status = 0;
  c->connected = false;
  c->watchdog_us = MSOCK_NEVER;
  c->error_len = 0;
}

void client_sessions_drop(msock_control *c) {
  drop_register_body(c);
  drop_map(c);
  c->register_stream = 0;
  c->register_guard_us = MSOCK_NEVER;
  if (c->lite_id != 0) {
    c->lite_id = 0;
    c->lite_dirty = true; /* nobody confirmed it */
  }
  c->lite_guard_us = MSOCK_NEVER;
}

/* Retry-After if there is a sensible one, else fallback. */
static uint64_t retry_after(const msock_control *c, uint64_t now_us, const char *header,
                            uint64_t fallback) {
  uint64_t wait = 0;
  if (*header == '\0' ||
      msock_retry_after_parse(header, client_wall(c, now_us), &wait) != MSOCK_OK) {
    return fallback;
  }
  return wait < CLIENT_HOUR_US ? wait : CLIENT_HOUR_US;
}

static uint64_t busy_delay(const msock_control *c, uint64_t now_us, const char *header) {
  return retry_after(c, now_us, header,
                     CLIENT_BUSY_MIN_US + msock_env_uniform(c->env, CLIENT_BUSY_MIN_US));
}

/* --- auth: control.md 3 --- */

void client_new_key(msock_control *c) {
  c->old_node = c->node;
  msock_node_private_generate(c->env, &c->node);
  c->stored = false;
  client_push(c,
              (client_event){.kind = MSOCK_CONTROL_EV_NODE_KEY,
                             .node_key = msock_node_private_public(&c->node)},
              NULL);
}

static bool node_is_zero(const msock_node_private *k) {
  static const msock_node_private zero;
  return msock_ct_equal(k->b, zero.b, sizeof k->b);
}

static void send_register(msock_control *c, uint64_t now_us) {
  const bool followup = c->auth == AUTH_FOLLOWUP;
  const bool logout = c->auth == AUTH_LOGOUT;
  const bool with_key = c->use_auth_key && c->auth_key && c->auth == AUTH_WANTED;
  msock_register_request r = {.version = c->version,
                              .node_key = msock_node_private_public(&c->node),
                              .auth_key = with_key ? c->auth_key : NULL,
                              .followup = followup ? c->auth_url : NULL,
                              .logout = logout,
                              .ephemeral = c->ephemeral,
                              .hostinfo = &c->hostinfo};
  size_t len = 0;

  if (!node_is_zero(&c->old_node)) {
    r.old_node_key = msock_node_private_public(&c->old_node);
  }
  char *body = msock_register_encode(&r, &len);
  if (body == NULL) {
    c->register_due_us = now_us + CLIENT_FLOOR_US;
    return;
  }
  const int32_t id = msock_channel_request(c->channel, "POST", MSOCK_REGISTER_PATH, body, len);
  msock_wipe(body, len);
  free(body);
  if (id <= 0) {
    c->register_due_us = now_us + CLIENT_FLOOR_US;
    return;
  }
  c->register_stream = id;
  c->register_status = 0;
  c->register_retry[0] = '\0';
  c->sent_auth_key = with_key;
  c->register_guard_us = now_us + (followup ? CLIENT_FOLLOWUP_US : CLIENT_ANSWER_US);
  c->stats.registers++;
  msock_logf(c->env->log, MSOCK_LOG_INFO, "control.register", "auth_key=%d followup=%d logout=%d",
             with_key, followup, logout);
}

void client_finish_logout(msock_control *c, uint64_t now_us) {
  msock_wipe(&c->node, sizeof c->node);
  msock_wipe(&c->old_node, sizeof c->old_node);
  c->registered = c->stored = c->regenerated = c->relogin = false;
  c->auth = AUTH_BLOCKED;
  c->logout_due_us = MSOCK_NEVER;
  client_set_text(&c->auth_url, NULL);
  client_disconnect(c, now_us, 0);
  msock_netmap_reset(c->netmap);
  client_push(c, (client_event){.kind = MSOCK_CONTROL_EV_NETMAP}, NULL);
  client_push(c, (client_event){.kind = MSOCK_CONTROL_EV_LOGGED_OUT}, NULL);
  if (c->want) {
    client_set_state(c, MSOCK_CONTROL_NEEDS_LOGIN);
  }
}

static void on_registered(msock_control *c, uint64_t now_us, const msock_register_answer *a) {
  const msock_node_key key = msock_node_private_public(&c->node);
  msock_wipe(&c->old_node, sizeof c->old_node);
  c->auth = AUTH_DONE;
  c->registered = c->stored = true;
  c->use_auth_key = c->regenerated = c->relogin = false;
  client_set_text(&c->auth_url, NULL);
  msock_backoff_reset(&c->register_backoff);
  client_push(c, (client_event){.kind = MSOCK_CONTROL_EV_REGISTERED, .node_key = key}, a->login);
  if (c->map_id != 0) { /* it is bound to the old key: control.md 3.5 */
    msock_channel_cancel(c->channel, c->map_id);
    drop_map(c);
  }
  c->map_due_us = now_us;
  if (c->state == MSOCK_CONTROL_NEEDS_LOGIN || c->state == MSOCK_CONTROL_NEEDS_APPROVAL) {
    client_set_state(c, MSOCK_CONTROL_STARTING);
  }
}

static void on_auth_url(msock_control *c, uint64_t now_us, const msock_register_answer *a) {
  const bool again = c->auth_url && strcmp(c->auth_url, a->auth_url) == 0;
  if (!c->sent_auth_key && c->auth_key && c->auth == AUTH_WANTED) {
    c->use_auth_key = true; /* the server forgot a stored key: now with the auth key */
    c->register_due_us = now_us;
    return;
  }
  if (!client_set_text(&c->auth_url, a->auth_url)) {
    c->register_due_us = now_us + CLIENT_FLOOR_US;
    return;
  }
  /* The same one again while it is followed: back off. */
  c->register_due_us =
      now_us + (again && c->auth == AUTH_FOLLOWUP
                    ? msock_backoff_next(&c->register_backoff, c->env, CLIENT_FLOOR_US)
                    : 0);
  c->auth = AUTH_FOLLOWUP;
  if (!again) {
    client_push(c, (client_event){.kind = MSOCK_CONTROL_EV_AUTH_URL}, a->auth_url);
  }
  if (c->state != MSOCK_CONTROL_EXPIRED) {
    client_set_state(c, MSOCK_CONTROL_NEEDS_LOGIN);
  }
}

static void block_auth(msock_control *c) {
  c->auth = AUTH_BLOCKED;
  client_set_text(&c->auth_url, NULL);
  if (c->want && c->state != MSOCK_CONTROL_EXPIRED) {
    client_set_state(c, MSOCK_CONTROL_NEEDS_LOGIN);
  }
}

static void on_key_expired(msock_control *c, uint64_t now_us) {
  if (c->regenerated) {
    client_error(c, MSOCK_CONTROL_E_NODE_KEY_EXPIRED, "the server calls a new node key expired");
    block_auth(c);
    return;
  }
  client_new_key(c);
  c->regenerated = true;
  c->auth = AUTH_WANTED;
  c->use_auth_key = c->auth_key != NULL;
  c->register_due_us = now_us;
}

static void on_unsupported(msock_control *c, uint64_t now_us, const char *text) {
  client_error(c, MSOCK_CONTROL_E_VERSION, text);
  client_disconnect(c, now_us, CLIENT_HOUR_US);
  c->register_due_us = c->map_due_us = now_us + CLIENT_HOUR_US;
}

/* The auth key of the last login, tried by itself after an expiry or a deletion, is spent: without
 * it the server gives an AuthURL, which is the way back for a person. */
static bool gives_up_key(msock_control *c, uint64_t now_us) {
  if (!c->sent_auth_key || (!c->relogin && !c->not_found)) {
    return false;
  }
  client_set_auth_key(c, NULL);
  c->use_auth_key = false;
  c->register_due_us = now_us;
  return true;
}

static void on_register_failed(msock_control *c, uint64_t now_us, const msock_register_answer *a) {
  if (a->error == MSOCK_CONTROL_E_VERSION) {
    on_unsupported(c, now_us, a->text);
    return;
  }
  client_error(c, a->error, a->text);
  if (msock_register_is_final(a->error)) {
    if (gives_up_key(c, now_us)) {
      return;
    }
    block_auth(c);
    return;
  }
  if (c->auth == AUTH_FOLLOWUP && a->error == MSOCK_CONTROL_E_REGISTRATION_ID) {
    client_set_text(&c->auth_url, NULL); /* ask for a fresh one */
    c->auth = AUTH_WANTED;
  }
  c->register_due_us =
      now_us + (a->error == MSOCK_CONTROL_E_BUSY
                    ? busy_delay(c, now_us, c->register_retry)
                    : msock_backoff_next(&c->register_backoff, c->env, CLIENT_FLOOR_US));
}

static void end_register(msock_control *c, uint64_t now_us, bool clean) {
  msock_register_answer a;
  const bool logout = c->auth == AUTH_LOGOUT;
  c->register_stream = 0;
  c->register_guard_us = MSOCK_NEVER;
  if (!clean || c->register_status == 0) {
    drop_register_body(c);
    c->register_due_us = now_us + msock_backoff_next(&c->register_backoff, c->env, CLIENT_FLOOR_US);
    return;
  }
  msock_register_evaluate(c->register_status, c->register_body ? c->register_body : (uint8_t *)"",
                          c->register_len, c->auth_key, &a);
  drop_register_body(c);
  if (logout) { /* whatever it said: we forget the keys */
    client_finish_logout(c, now_us);
    return;
  }
  switch (a.outcome) {
  case MSOCK_REGISTER_DONE:
    on_registered(c, now_us, &a);
    break;
  case MSOCK_REGISTER_AUTH_URL:
    on_auth_url(c, now_us, &a);
    break;
  case MSOCK_REGISTER_KEY_EXPIRED:
    on_key_expired(c, now_us);
    break;
  case MSOCK_REGISTER_WAIT:
    client_set_state(c, MSOCK_CONTROL_NEEDS_APPROVAL);
    c->register_due_us = now_us + CLIENT_APPROVAL_US;
    break;
  case MSOCK_REGISTER_FAILED:
    on_register_failed(c, now_us, &a);
    break;
  }
}

static void register_event(msock_control *c, uint64_t now_us, const msock_channel_event *ev) {
  if (ev->kind == MSOCK_CHANNEL_EV_RESPONSE) {
    c->register_status = ev->status;
    memcpy(c->register_retry, ev->retry_after, sizeof c->register_retry);
  } else if (ev->kind == MSOCK_CHANNEL_EV_END) {
    end_register(c, now_us, ev->clean);
  } else if (c->register_len + ev->len <= MSOCK_REGISTER_BODY_MAX) {
    uint8_t *grown = realloc(c->register_body, c->register_len + ev->len + 1);
    if (grown) {
      memcpy(grown + c->register_len, ev->p, ev->len);
      c->register_body = grown;
      c->register_len += ev->len;
      c->register_body[c->register_len] = '\0';
    }
  }
}

/* --- map requests --- */

static int32_t send_map(msock_control *c, bool stream) {
  const msock_map_request r = {
      .version = c->version,
      .node_key = msock_node_private_public(c->relogin && !node_is_zero(&c->old_node) ? &c->old_node
                                                                                      : &c->node),
      .disco_key = c->disco,
      .stream = stream,
      .hostinfo = &c->hostinfo,
      .netinfo = c->has_netinfo ? &c->netinfo : NULL,
      .endpoints = c->endpoints,
      .n_endpoints = c->n_endpoints};
  size_t len = 0;
  char *body = msock_map_encode(&r, &len);
  const int32_t id =
      body ? msock_channel_request(c->channel, "POST", MSOCK_MAP_PATH, body, len) : 0;
  free(body);
  return id > 0 ? id : 0;
}

/* The server does not know the node (any more): control.md 4.3. */
static void on_not_found(msock_control *c, uint64_t now_us) {
  client_error(c, MSOCK_CONTROL_E_MAP_NOT_FOUND, "the server does not know this node any more");
  if (c->map_id != 0) {
    msock_channel_cancel(c->channel, c->map_id);
  }
  drop_map(c);
  if (c->auth != AUTH_DONE) {
    return; /* a login is under way already */
  }
  c->registered = false;
  c->auth = AUTH_WANTED;
  c->use_auth_key = c->auth_key != NULL;
  c->register_due_us =
      now_us +
      (c->not_found ? msock_backoff_next(&c->register_backoff, c->env, CLIENT_FLOOR_US) : 0);
  c->not_found = true;
}

static bool is_unsupported(int status, const char *text) {
  return status == 400 && strncmp(text, "unsupported client version", 26) == 0;
}

/* --- map stream --- */

static void open_map(msock_control *c, uint64_t now_us) {
  c->map = msock_map_stream_new(c->env, c->netmap, true);
  c->map_id = c->map ? send_map(c, true) : 0;
  if (c->map_id == 0) {
    drop_map(c);
    c->map_due_us = now_us + CLIENT_FLOOR_US;
    return;
  }
  c->watchdog_us = now_us + CLIENT_WATCHDOG_US;
  c->stats.streams++;
  c->lite_dirty = false; /* the request carries all of it */
  c->lite_due_us = now_us + CLIENT_LITE_PERIOD_US;
  /* By contract a stream request only reads (control.md 2.8): say what we know in a lite one. */
  if ((c->has_netinfo && c->netinfo.preferred_derp != 0) || c->n_endpoints > 0) {
    client_dirty(c, now_us, CLIENT_COALESCE_US);
  }
}

/* The stream ended or broke: open another, on this connection if it lives. */
static void reopen_map(msock_control *c, uint64_t now_us, msock_control_error e, const char *text) {
  char copy[256];
  uint64_t delay = client_backoff(c, now_us, 0);
  snprintf(copy, sizeof copy, "%s", text);
  if (c->map_status == 429 || c->map_status == 503) {
    delay = busy_delay(c, now_us, c->map_retry);
  }
  client_error(c, e, copy);
  if (c->channel && c->map_id != 0) {
    msock_channel_cancel(c->channel, c->map_id);
  }
  drop_map(c);
  c->map_due_us = now_us + delay;
}

void client_update_state(msock_control *c, uint64_t now_us) {
  const msock_peer *self = msock_netmap_self(c->netmap);
  if (!c->want || self == NULL) {
    return;
  }
  if (self->expired) {
    client_set_state(c, MSOCK_CONTROL_EXPIRED);
    if (c->auth == AUTH_DONE && !c->relogin_tried) { /* control.md 3.5 */
      c->relogin_tried = c->relogin = c->regenerated = true;
      client_new_key(c);
      c->auth = AUTH_WANTED;
      c->use_auth_key = c->auth_key != NULL;
      c->register_due_us = now_us;
    }
    return;
  }
  c->relogin_tried = false;
  if (c->relogin) { /* the operator lifted the expiry: back to the key that works */
    if (c->channel && c->register_stream) {
      msock_channel_cancel(c->channel, c->register_stream);
      c->register_stream = 0;
      c->register_guard_us = MSOCK_NEVER;
    }
    c->node = c->old_node;
    msock_wipe(&c->old_node, sizeof c->old_node);
    c->auth = AUTH_DONE;
    c->registered = c->stored = true;
    c->relogin = c->regenerated = false;
    client_set_text(&c->auth_url, NULL);
    client_push(c,
                (client_event){.kind = MSOCK_CONTROL_EV_NODE_KEY,
                               .node_key = msock_node_private_public(&c->node)},
                NULL);
  }
  client_set_state(c,
                   self->machine_authorized ? MSOCK_CONTROL_RUNNING : MSOCK_CONTROL_NEEDS_APPROVAL);
}

static void on_map_message(msock_control *c, uint64_t now_us, const msock_map_notice *notice) {
  c->watchdog_us = now_us + CLIENT_WATCHDOG_US;
  c->stats.map_messages++;
  c->stats.keep_alives += notice->keep_alive;
  c->stats.last_message_us = now_us;
  if (msock_map_stream_started(c->map)) {
    c->connected = true;
    c->not_found = c->key_retried = false;
    c->outage_us = MSOCK_NEVER;
    msock_backoff_reset(&c->backoff);
    msock_backoff_reset(&c->register_backoff);
  }
  client_on_ping(c, notice);
  if (*notice->browse_url && msock_auth_url_is_sane(notice->browse_url) &&
      (c->browse_url == NULL || strcmp(c->browse_url, notice->browse_url) != 0)) {
    client_set_text(&c->browse_url, notice->browse_url);
    client_push(c, (client_event){.kind = MSOCK_CONTROL_EV_BROWSE_URL}, notice->browse_url);
  }
  if (notice->keep_alive) {
    return;
  }
  if (notice->sleep_seconds > 0) {
    c->hold_us = now_us + notice->sleep_seconds * MSOCK_SEC;
  }
  client_push(c, (client_event){.kind = MSOCK_CONTROL_EV_NETMAP}, NULL);
  client_update_state(c, now_us);
}

static void map_data(msock_control *c, uint64_t now_us, const uint8_t *p, size_t len) {
  if (c->map_status != 200) {
    const size_t room = CLIENT_ERROR_BODY_MAX - c->error_len;
    const size_t take = len < room ? len : room;
    memcpy(c->error_body + c->error_len, p, take);
    c->error_len += take;
    c->error_body[c->error_len] = '\0';
    return;
  }
  c->stats.map_bytes += len;
  while (len > 0 && c->map) {
    const msock_map_notice *notice = NULL;
    size_t used = 0;
    const msock_map_failure f =
        msock_map_stream_feed(c->map, now_us, client_wall(c, now_us), p, len, &used, &notice);
    p += used;
    len -= used;
    if (f != MSOCK_MAP_FINE) {
      reopen_map(c, now_us, MSOCK_CONTROL_E_MAP_BODY, msock_map_failure_text(f));
    } else if (notice) {
      on_map_message(c, now_us, notice);
    }
  }
}

static void end_map(msock_control *c, uint64_t now_us) {
  char text[CLIENT_ERROR_BODY_MAX + 32];
  c->map_id = 0;
  c->error_body[c->error_len] = '\0';
  c->error_body[strcspn(c->error_body, "\r\n")] = '\0';
  if (c->map_status == 404) {
    on_not_found(c, now_us);
  } else if (is_unsupported(c->map_status, c->error_body)) {
    on_unsupported(c, now_us, c->error_body);
  } else if (c->map_status != 200 && c->map_status != 0) {
    snprintf(text, sizeof text, "HTTP %d: %s", c->map_status, c->error_body);
    reopen_map(c, now_us, MSOCK_CONTROL_E_MAP_STATUS, text);
  } else {
    reopen_map(c, now_us, MSOCK_CONTROL_E_MAP_ENDED, "the map stream ended");
  }
}

/* --- lite updates --- */

void client_dirty(msock_control *c, uint64_t now_us, uint64_t delay_us) {
  /* A change joins an update that waits already, unless that is the periodic or a failed one. */
  const bool waiting = c->lite_dirty && c->lite_due_us != MSOCK_NEVER;
  c->lite_due_us = waiting ? sooner(c->lite_due_us, now_us + delay_us) : now_us + delay_us;
  c->lite_dirty = true;
}

static void send_lite(msock_control *c, uint64_t now_us) {
  c->lite_id = send_map(c, false);
  if (c->lite_id == 0) {
    c->lite_dirty = true;
    c->lite_due_us = now_us + CLIENT_FLOOR_US;
    return;
  }
  c->lite_dirty = false;
  c->lite_status = 0;
  c->lite_retry[0] = '\0';
  c->lite_due_us = now_us + CLIENT_LITE_PERIOD_US;
  c->lite_guard_us = now_us + CLIENT_ANSWER_US;
  c->stats.lite_updates++;
}

static void end_lite(msock_control *c, uint64_t now_us, bool clean) {
  c->lite_id = 0;
  c->lite_guard_us = MSOCK_NEVER;
  if (clean && c->lite_status == 200) {
    msock_backoff_reset(&c->lite_backoff);
    return;
  }
  c->stats.lite_failures++;
  if (clean && c->lite_status == 404) {
    on_not_found(c, now_us);
  }
  const uint64_t delay = msock_backoff_next(&c->lite_backoff, c->env, CLIENT_COALESCE_US);
  c->lite_dirty = true;
  c->lite_due_us = now_us + (c->lite_status == 429 || c->lite_status == 503
                                 ? busy_delay(c, now_us, c->lite_retry)
                                 : delay);
}

/* --- dispatch, time --- */

void client_on_channel_event(msock_control *c, uint64_t now_us, const msock_channel_event *ev) {
  if (ev->stream == c->register_stream) {
    register_event(c, now_us, ev);
  } else if (ev->stream == c->map_id) {
    if (ev->kind == MSOCK_CHANNEL_EV_RESPONSE) {
      c->map_status = ev->status;
      memcpy(c->map_retry, ev->retry_after, sizeof c->map_retry);
    } else if (ev->kind == MSOCK_CHANNEL_EV_DATA) {
      map_data(c, now_us, ev->p, ev->len);
    } else {
      end_map(c, now_us);
    }
  } else if (ev->stream == c->lite_id) {
    if (ev->kind == MSOCK_CHANNEL_EV_RESPONSE) {
      c->lite_status = ev->status;
      memcpy(c->lite_retry, ev->retry_after, sizeof c->lite_retry);
    } else if (ev->kind == MSOCK_CHANNEL_EV_END) {
      end_lite(c, now_us, ev->clean);
    }
  }
}

static bool can_register(const msock_control *c) {
  return c->register_stream == 0 && c->auth != AUTH_DONE && c->auth != AUTH_BLOCKED;
}

/* During a re-login after expiry the old stream runs on (control.md 3.5). */
static bool can_map(const msock_control *c) {
  return c->want && c->map_id == 0 && (c->registered || c->relogin) && c->auth != AUTH_LOGOUT;
}

void client_sessions_drive(msock_control *c, uint64_t now_us) {
  if (c->channel == NULL || msock_channel_is_draining(c->channel)) {
    return;
  }
  if (can_register(c) && now_us >= c->register_due_us) {
    send_register(c, now_us);
  }
  if (now_us < c->hold_us) {
    return;
  }
  if (can_map(c) && now_us >= c->map_due_us) {
    open_map(c, now_us);
  }
  if (c->map_id != 0 && c->lite_id == 0 && now_us >= c->lite_due_us) {
    send_lite(c, now_us);
  }
}

void client_sessions_expiry(msock_control *c, uint64_t now_us) {
  if (now_us >= c->logout_due_us) { /* the server cannot be told */
    client_finish_logout(c, now_us);
  }
  if (c->channel && now_us >= c->register_guard_us) {
    msock_channel_cancel(c->channel, c->register_stream);
    end_register(c, now_us, false);
  }
  if (c->channel && now_us >= c->lite_guard_us) {
    msock_channel_cancel(c->channel, c->lite_id);
    end_lite(c, now_us, false);
  }
  if (now_us >= c->watchdog_us) {
    client_error(c, MSOCK_CONTROL_E_TIMEOUT, "no map message for 120 s");
    client_disconnect(c, now_us, client_backoff(c, now_us, 0));
  }
}

uint64_t client_sessions_next_expiry(const msock_control *c) {
  uint64_t due = sooner(c->logout_due_us, c->register_guard_us);
  due = sooner(due, sooner(c->lite_guard_us, c->watchdog_us));
  if (c->channel == NULL || msock_channel_is_draining(c->channel)) {
    return due;
  }
  if (can_register(c)) {
    due = sooner(due, c->register_due_us);
  }
  if (can_map(c)) {
    due = sooner(due, c->map_due_us > c->hold_us ? c->map_due_us : c->hold_us);
  }
  if (c->map_id != 0 && c->lite_id == 0 && c->lite_due_us != MSOCK_NEVER) {
    due = sooner(due, c->lite_due_us > c->hold_us ? c->lite_due_us : c->hold_us);
  }
  return due;
}
