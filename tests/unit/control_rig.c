#include "tests/unit/control_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "crypto/x25519.h"

void rig_init(rig *r, uint64_t seed, const rig_options *o) {
  memset(r, 0, sizeof *r);
  testing_log_init(&r->log);
  r->env = testing_env(&r->rng, seed);
  r->env.log = &r->log.log;
  r->peer_env = testing_env(&r->peer_rng, seed + 1);
  r->now = 1000 * MSOCK_SEC;
  r->wall = UINT64_C(1795000000) * MSOCK_SEC;
  r->auto_accept = r->auto_key = true;
  msock_machine_private_generate(&r->peer_env, &r->server);
  msock_machine_private_generate(&r->peer_env, &r->machine);
  msock_control_cfg cfg = {.https = o->https,
                           .host = o->host ? o->host : "control.example",
                           .port = o->port,
                           .machine = r->machine,
                           .disco = {{7, 7, 7}},
                           .hostinfo = {.hostname = "box",
                                        .os = "linux",
                                        .app_version = "0.1",
                                        .backend_log_id = "00ff"},
                           .auth_key = o->auth_key,
                           .pin_server_key = o->pin,
                           .allow_loopback_endpoints = true};
  if (o->stored) {
    msock_node_private_generate(&r->peer_env, &cfg.node);
  }
  if (o->know_key) {
    cfg.server_key = msock_machine_private_public(&r->server);
  }
  if (o->wrong_key) {
    msock_machine_private other;
    msock_machine_private_generate(&r->peer_env, &other);
    cfg.server_key = msock_machine_private_public(&other);
  }
  r->c = msock_control_new(&r->env, &cfg);
  ck_assert_ptr_nonnull(r->c);
}

void rig_free(rig *r) {
  msock_control_free(r->c);
  peer_free(r->p);
}

void rig_answer_key(rig *r, const msock_machine_private *server) {
  char key[MSOCK_KEY_TEXT_MAX], body[256];
  const msock_machine_key public = msock_machine_private_public(server);
  const int n =
      snprintf(body, sizeof body, "{\"legacyPublicKey\":\"mkey:%064d\",\"publicKey\":\"%s\"}", 0,
               msock_machine_key_text(&public, key));
  ck_assert(r->fetching);
  r->fetching = false;
  msock_control_on_key_response(r->c, r->now, 200, (const uint8_t *)body, (size_t)n);
}

void rig_accept(rig *r) {
  ck_assert(r->dialing);
  r->dialing = false;
  peer_free(r->p);
  r->p = peer_new(&r->peer_env, &r->server, PEER_EARLY_THREE_RECORDS);
  msock_control_conn_up(r->c, r->now, r->wall);
}

void rig_down(rig *r, msock_conn_down why) {
  r->dialing = false;
  peer_free(r->p);
  r->p = NULL;
  msock_control_conn_down(r->c, r->now, why);
  rig_pump(r);
}

static bool take_actions(rig *r) {
  msock_control_action a;
  bool any = false;
  while (msock_control_next_action(r->c, &a)) {
    any = true;
    if (a.kind == MSOCK_CONTROL_CLOSE) {
      r->closes++;
      r->dialing = false;
      peer_free(r->p);
      r->p = NULL;
    } else if (a.kind == MSOCK_CONTROL_FETCH_KEY) {
      r->fetches++;
      r->fetching = true;
      snprintf(r->key_path, sizeof r->key_path, "%.60s", a.text);
      if (r->auto_key) {
        rig_answer_key(r, &r->server);
      }
    } else if (a.kind == MSOCK_CONTROL_DIAL) {
      ck_assert_ptr_null(r->p); /* at most one connection */
      r->dials++;
      r->dialing = true;
      r->dial = a;
      if (r->auto_accept) {
        rig_accept(r);
      }
    } else if (a.kind == MSOCK_CONTROL_PING_HEAD && r->n_pings < RIG_PINGS) {
      snprintf(r->pings[r->n_pings++], sizeof r->pings[0], "%.500s", a.text);
    }
  }
  while (r->n_events < RIG_EVENTS && msock_control_next_event(r->c, &r->events[r->n_events])) {
    r->n_events++;
    any = true;
  }
  return any;
}

static bool move_bytes(rig *r) {
  const uint8_t *b = NULL;
  bool any = false;
  size_t n = r->p ? msock_control_conn_tx_peek(r->c, &b) : 0;
  if (n > 0) {
    any = true;
    const bool ok = peer_feed(r->p, b, n);
    msock_control_conn_tx_consume(r->c, n);
    if (!ok) { /* as Headscale: 101, then it just closes */
      uint8_t *last = peer_tx(r->p, &n);
      msock_control_conn_feed(r->c, r->now, r->wall, last, n);
      free(last);
      rig_down(r, MSOCK_CONN_EOF);
      return true;
    }
  }
  if (r->p) {
    uint8_t *out = peer_tx(r->p, &n);
    for (size_t at = 0; at < n && r->p;) {
      const size_t step = r->chunk && r->chunk < n - at ? r->chunk : n - at;
      msock_control_conn_feed(r->c, r->now, r->wall, out + at, step);
      at += step;
      any = true;
      take_actions(r);
    }
    free(out);
  }
  return any;
}

void rig_pump(rig *r) {
  for (int i = 0; i < 1000; i++) {
    const bool acted = take_actions(r);
    if (!move_bytes(r) && !acted) {
      return;
    }
  }
  ck_abort_msg("the machine never comes to rest");
}

void rig_until(rig *r, uint64_t t) {
  rig_pump(r);
  for (int i = 0; msock_control_next_expiry(r->c) <= t; i++) {
    const uint64_t due = msock_control_next_expiry(r->c);
    ck_assert_msg(i < 100000, "a deadline does not move");
    if (due > r->now) {
      r->wall += due - r->now;
      r->now = due;
    }
    msock_control_on_expiry(r->c, r->now, r->wall);
    rig_pump(r);
  }
  r->wall += t - r->now;
  r->now = t;
}

peer_stream *rig_request(rig *r, const char *path) {
  rig_pump(r);
  peer_stream *s = r->p ? peer_take(r->p) : NULL;
  ck_assert_msg(s != NULL, "no request waits for %s", path);
  ck_assert_str_eq(s->path, path);
  return s;
}

bool rig_idle(rig *r) {
  rig_pump(r);
  return r->p == NULL || peer_take(r->p) == NULL;
}

size_t rig_count(const rig *r, msock_control_event_kind kind) {
  size_t n = 0;
  for (size_t i = 0; i < r->n_events; i++) {
    n += r->events[i].kind == kind;
  }
  return n;
}

size_t rig_count_error(const rig *r, msock_control_error e) {
  size_t n = 0;
  for (size_t i = 0; i < r->n_events; i++) {
    n += r->events[i].kind == MSOCK_CONTROL_EV_ERROR && r->events[i].error == e;
  }
  return n;
}

void rig_register_ok(rig *r) {
  static const char ok[] = "{\"User\":{\"ID\":1},\"Login\":{\"ID\":1,\"LoginName\":\"alice\"},"
                           "\"NodeKeyExpired\":false,\"MachineAuthorized\":true,\"AuthURL\":\"\","
                           "\"NodeKeySignature\":null,\"Error\":\"\"}";
  peer_answer(r->p, rig_request(r, "/machine/register"), 200, NULL, ok, sizeof ok - 1, true);
  rig_pump(r);
}

uint8_t *rig_frame(const char *json, size_t len, bool zstd, size_t *out_len) {
  const size_t cap = zstd ? ZSTD_compressBound(len) : len;
  uint8_t *out = malloc(cap + 4);
  size_t n = len;
  if (zstd) {
    n = ZSTD_compress(out + 4, cap, json, len, 1);
    ck_assert(!ZSTD_isError(n));
  } else {
    memcpy(out + 4, json, len);
  }
  for (size_t i = 0; i < 4; i++) {
    out[i] = (uint8_t)(n >> (8 * i));
  }
  *out_len = n + 4;
  return out;
}

void rig_map(rig *r, peer_stream *s, const char *json) {
  size_t len = 0;
  uint8_t *frame = rig_frame(json, strlen(json), true, &len);
  peer_write(r->p, s, frame, len, false);
  free(frame);
  rig_pump(r);
}

peer_stream *rig_open_map(rig *r, const char *json) {
  peer_stream *s = rig_request(r, "/machine/map");
  ck_assert_ptr_nonnull(strstr(s->body, "\"Stream\":true"));
  peer_answer(r->p, s, 200, NULL, "", 0, false);
  rig_map(r, s, json);
  return s;
}

void rig_self(rig *r, char *buf, size_t cap, const char *extra, const char *top) {
  char key[MSOCK_KEY_TEXT_MAX];
  const msock_node_key public = msock_node_private_public(msock_control_node_private(r->c));
  const int n = snprintf(
      buf, cap,
      "{\"Node\":{\"ID\":1,\"StableID\":\"1\",\"Name\":\"box.lab.example.\",\"Key\":\"%s\","
      "\"Addresses\":[\"100.64.0.1/32\"],\"MachineAuthorized\":true%s}%s}",
      msock_node_key_text(&public, key), extra, top);
  ck_assert_int_lt(n, (int)cap);
}

peer_stream *rig_running(rig *r) {
  char json[1024];
  msock_control_set_want_running(r->c, r->now, true);
  rig_register_ok(r);
  rig_self(r, json, sizeof json, "", "");
  peer_stream *s = rig_open_map(r, json);
  ck_assert_int_eq(msock_control_get_state(r->c), MSOCK_CONTROL_RUNNING);
  return s;
}
