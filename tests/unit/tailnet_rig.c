#include "tests/unit/tailnet_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http1.h"
#include "crypto/x25519.h"

void trig_init(trig *r, const trig_options *o) {
  static const char *keys[1];
  memset(r, 0, sizeof *r);
  r->env = testing_env(&r->rng, 77);
  r->now = 1000 * MSOCK_SEC;
  r->wall = UINT64_C(1795000000) * MSOCK_SEC;
  msock_machine_private_generate(&r->env, &r->server);
  r->node = (msock_derp_node){.name = "900a",
                              .region_id = 900,
                              .host_name = "relay.example",
                              .derp_port = 443,
                              .stun_port = 3478};
  r->region = (msock_derp_region){
      .id = 900, .code = "lab", .name = "Lab", .score = 1.0, .nodes = &r->node, .n_nodes = 1};
  r->map = (msock_derp_map){.regions = &r->region, .n_regions = 1};
  keys[0] = o->auth_key;
  const msock_tailnet_cfg cfg = {.domain = "test.example",
                                 .auth_keys = keys,
                                 .n_auth_keys = o->auth_key != NULL,
                                 .packet_filters = o->policy,
                                 .derp_map = &r->map,
                                 .fake_peers = o->fakes};
  r->t = msock_tailnet_new(&r->env, &cfg);
  ck_assert_ptr_nonnull(r->t);
}

static void hang_up(trig_client *c) {
  if (c->s != NULL) {
    msock_tailnet_on_conn_closed(c->rig->t, c->conn);
    msock_server_conn_free(c->s);
    c->s = NULL;
  }
}

void trig_free(trig *r) {
  for (size_t i = 0; i < TRIG_CLIENTS; i++) {
    if (r->clients[i].c != NULL) {
      hang_up(&r->clients[i]);
      msock_control_free(r->clients[i].c);
    }
  }
  msock_tailnet_free(r->t);
}

trig_client *trig_client_add(trig *r, const char *hostname, const char *auth_key) {
  size_t i = 0;
  while (i < TRIG_CLIENTS && r->clients[i].c != NULL) {
    i++;
  }
  ck_assert_uint_lt(i, TRIG_CLIENTS);
  trig_client *c = &r->clients[i];
  c->rig = r;
  msock_control_cfg cfg = {.host = "control.example",
                           .hostinfo = {.hostname = hostname,
                                        .os = "linux",
                                        .app_version = "0.1",
                                        .backend_log_id = "00ff"},
                           .auth_key = auth_key};
  cfg.disco.b[0] = (uint8_t)(i + 1);
  msock_machine_private_generate(&r->env, &cfg.machine);
  c->c = msock_control_new(&r->env, &cfg);
  ck_assert_ptr_nonnull(c->c);
  msock_control_set_want_running(c->c, r->now, true);
  return c;
}

/* GET of the key over a connection of its own. */
static void fetch_key(trig_client *c, const char *path) {
  trig *r = c->rig;
  char request[256], answer[1024];
  const uint8_t *p;
  size_t len = 0, n;
  msock_http1_head head;
  if (c->cut) {
    msock_control_on_key_failed(c->c, r->now, "the network is gone");
    return;
  }
  msock_server_conn *s = msock_server_conn_new(&r->env, &r->server, true, r->now);
  n = (size_t)snprintf(request, sizeof request, "GET %.100s HTTP/1.1\r\nHost: x\r\n\r\n", path);
  msock_server_conn_feed(s, r->now, (const uint8_t *)request, n);
  while ((n = msock_server_conn_tx_peek(s, &p)) > 0) {
    ck_assert_uint_le(len + n, sizeof answer);
    memcpy(answer + len, p, n);
    len += n;
    msock_server_conn_tx_consume(s, n);
  }
  ck_assert(msock_server_conn_is_done(s));
  msock_server_conn_free(s);
  const ptrdiff_t used = msock_http1_parse_response((uint8_t *)answer, len, &head);
  ck_assert_int_gt(used, 0);
  ck_assert_int_eq(head.content_length, (int64_t)len - used);
  msock_control_on_key_response(c->c, r->now, head.status, (uint8_t *)answer + used,
                                len - (size_t)used);
}

static bool take_actions(trig_client *c) {
  trig *r = c->rig;
  msock_control_action a;
  msock_control_event ev;
  bool any = false;
  while (msock_control_next_action(c->c, &a)) {
    any = true;
    if (a.kind == MSOCK_CONTROL_CLOSE) {
      hang_up(c);
    } else if (a.kind == MSOCK_CONTROL_FETCH_KEY) {
      fetch_key(c, a.text);
    } else if (a.kind == MSOCK_CONTROL_DIAL) {
      c->dials++;
      if (c->cut) {
        msock_control_conn_down(c->c, r->now, MSOCK_CONN_REFUSED);
        continue;
      }
      c->s = msock_server_conn_new(&r->env, &r->server, true, r->now);
      c->conn = ++r->last_conn;
      msock_control_conn_up(c->c, r->now, r->wall);
    }
  }
  while (msock_control_next_event(c->c, &ev)) {
    any = true;
    if (ev.kind == MSOCK_CONTROL_EV_ERROR) {
      c->errors++;
      c->last_error = ev.error;
    }
    c->logged_out = c->logged_out || ev.kind == MSOCK_CONTROL_EV_LOGGED_OUT;
  }
  return any;
}

static void take_requests(trig_client *c) {
  trig *r = c->rig;
  msock_server_event ev;
  while (c->s != NULL && msock_server_conn_next_event(c->s, &ev)) {
    if (ev.kind == MSOCK_SERVER_EV_REQUEST) {
      msock_tailnet_on_request(r->t, r->now, r->wall, c->conn, msock_server_conn_machine(c->s),
                               &ev.request);
    } else if (ev.kind == MSOCK_SERVER_EV_STREAM_CLOSED) {
      msock_tailnet_on_stream_closed(r->t, c->conn, ev.request.stream);
    }
  }
}

static bool carry_outputs(trig *r) {
  msock_tailnet_out o;
  bool any = false;
  while (msock_tailnet_next_output(r->t, &o)) {
    any = true;
    for (size_t i = 0; i < TRIG_CLIENTS; i++) {
      trig_client *c = &r->clients[i];
      const uint8_t none[1] = {0};
      const uint8_t *body = o.body ? o.body : none;
      if (c->s == NULL || c->conn != o.conn) {
        continue;
      }
      if (o.kind == MSOCK_TAILNET_RESPOND) {
        msock_server_conn_respond(c->s, o.stream, o.status, body, o.len);
      } else if (o.kind == MSOCK_TAILNET_BEGIN) {
        msock_server_conn_begin(c->s, o.stream, o.status);
      } else if (o.kind == MSOCK_TAILNET_WRITE) {
        msock_server_conn_write(c->s, o.stream, body, o.len);
      } else {
        msock_server_conn_end(c->s, o.stream);
      }
    }
    free(o.body);
  }
  return any;
}

static bool move_bytes(trig_client *c) {
  trig *r = c->rig;
  const uint8_t *p;
  bool any = false;
  size_t n = c->s != NULL ? msock_control_conn_tx_peek(c->c, &p) : 0;
  if (n > 0) {
    n = r->chunk && r->chunk < n ? r->chunk : n;
    msock_server_conn_feed(c->s, r->now, p, n);
    msock_control_conn_tx_consume(c->c, n);
    take_requests(c);
    any = true;
  }
  n = c->s != NULL ? msock_server_conn_tx_peek(c->s, &p) : 0;
  if (n > 0) {
    n = r->chunk && r->chunk < n ? r->chunk : n;
    msock_control_conn_feed(c->c, r->now, r->wall, p, n);
    msock_server_conn_tx_consume(c->s, n);
    any = true;
  }
  if (c->s != NULL && msock_server_conn_is_done(c->s)) {
    hang_up(c);
    msock_control_conn_down(c->c, r->now, MSOCK_CONN_EOF);
    any = true;
  }
  return any;
}

void trig_pump(trig *r) {
  for (int i = 0;; i++) {
    bool any = false;
    ck_assert_msg(i < 200000, "the tailnet never comes to rest");
    for (size_t k = 0; k < TRIG_CLIENTS; k++) {
      trig_client *c = &r->clients[k];
      if (c->c != NULL) {
        any = take_actions(c) || any;
        any = move_bytes(c) || any;
        take_requests(c);
      }
    }
    if (!(carry_outputs(r) || any)) {
      return;
    }
  }
}

static uint64_t next_deadline(const trig *r) {
  uint64_t next = msock_tailnet_next_expiry(r->t);
  for (size_t i = 0; i < TRIG_CLIENTS; i++) {
    const trig_client *c = &r->clients[i];
    if (c->c != NULL) {
      const uint64_t t = msock_control_next_expiry(c->c);
      next = t < next ? t : next;
    }
    if (c->s != NULL) {
      const uint64_t t = msock_server_conn_next_expiry(c->s);
      next = t < next ? t : next;
    }
  }
  return next;
}

void trig_until(trig *r, uint64_t t) {
  trig_pump(r);
  for (int n = 0; next_deadline(r) <= t; n++) {
    const uint64_t due = next_deadline(r);
    ck_assert_msg(n < 100000, "a deadline does not move");
    if (due > r->now) {
      r->wall += due - r->now;
      r->now = due;
    }
    msock_tailnet_on_expiry(r->t, r->now);
    for (size_t i = 0; i < TRIG_CLIENTS; i++) {
      trig_client *c = &r->clients[i];
      if (c->s != NULL && msock_server_conn_next_expiry(c->s) <= r->now) {
        msock_server_conn_on_expiry(c->s, r->now);
      }
      if (c->c != NULL && msock_control_next_expiry(c->c) <= r->now) {
        msock_control_on_expiry(c->c, r->now, r->wall);
      }
    }
    trig_pump(r);
  }
  r->wall += t - r->now;
  r->now = t;
}

void trig_cut(trig_client *c) {
  c->cut = true;
  hang_up(c);
  msock_control_conn_down(c->c, c->rig->now, MSOCK_CONN_LOST);
  trig_pump(c->rig);
}

bool trig_running(const trig_client *c) {
  return msock_control_get_state(c->c) == MSOCK_CONTROL_RUNNING && msock_control_connected(c->c);
}

const msock_peer *trig_sees(const trig_client *c, const trig_client *other) {
  const msock_node_key key = msock_node_private_public(msock_control_node_private(other->c));
  return msock_netmap_find_key(msock_control_netmap(c->c), &key);
}

void trig_set_home(trig_client *c, msock_region_id region) {
  const msock_netinfo ni = {.preferred_derp = region};
  msock_control_set_netinfo(c->c, c->rig->now, &ni);
}

void trig_set_endpoint(trig_client *c, const char *text) {
  msock_endpoint ep = {.type = MSOCK_ENDPOINT_LOCAL};
  ck_assert_int_eq(msock_addr_parse(text, &ep.addr), MSOCK_OK);
  msock_control_set_endpoints(c->c, c->rig->now, &ep, 1);
}

size_t trig_keep_alives(const trig_client *c) {
  return (size_t)msock_control_get_stats(c->c).keep_alives;
}
