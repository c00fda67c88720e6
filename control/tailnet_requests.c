/* control/tailnet_requests.c: what the tiny control server answers (control.md 3, 4.1, 7). */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "control/tailnet_internal.h"
#include "control/wire_time.h"
#include "crypto/wipe.h"

#define JSON_DEPTH_MAX 32
#define ENDPOINTS_MAX 64u /* of one node: control.md 5.1 */

/* --- /machine/register --- */

const char *msock_tailnet_str(json_object *o, const char *name) {
  json_object *v = NULL;
  return json_object_object_get_ex(o, name, &v) && json_object_is_type(v, json_type_string)
             ? json_object_get_string(v)
             : "";
}

static json_object *object_of(json_object *o, const char *name) {
  json_object *v = NULL;
  return json_object_object_get_ex(o, name, &v) && json_object_is_type(v, json_type_object) ? v
                                                                                            : NULL;
}

/* Takes host name, OS and home region; true when others are to be told. */
static bool take_hostinfo(msock_tailnet *t, tailnet_node *n, json_object *req) {
  json_object *hi = object_of(req, "Hostinfo"), *home = NULL;
  if (hi == NULL) {
    return false;
  }
  bool changed = msock_tailnet_rename(t, n, msock_tailnet_str(hi, "Hostname"));
  if (strlen(msock_tailnet_str(hi, "OS")) < sizeof n->os) {
    strcpy(n->os, msock_tailnet_str(hi, "OS"));
  }
  json_object *ni = object_of(hi, "NetInfo");
  if (ni && json_object_object_get_ex(ni, "PreferredDERP", &home)) {
    const int64_t region = json_object_get_int64(home);
    changed |= region != n->home_derp;
    n->home_derp = region;
  }
  return changed;
}

static bool key_is_good(const msock_tailnet *t, const char *key) {
  const size_t len = strlen(key);
  bool good = t->cfg.n_auth_keys == 0;
  for (size_t i = 0; i < t->cfg.n_auth_keys; i++) {
    const char *k = t->cfg.auth_keys[i];
    good |= strlen(k) == len && msock_ct_equal(k, key, len);
  }
  return good;
}

static bool is_logout(json_object *req, uint64_t wall_us) {
  uint64_t expiry_us = 0;
  msock_wire_time_parse(msock_tailnet_str(req, "Expiry"), &expiry_us);
  return expiry_us != 0 && expiry_us < wall_us;
}

/* A request and the place where its answer goes. */
typedef struct call {
  msock_tailnet *t;
  uint64_t now_us, wall_us, conn;
  int32_t stream;
  const msock_machine_key *machine;
  json_object *req;
} call;

static void answer(const call *c, int status, const char *text) {
  msock_tailnet_respond(c->t, c->conn, c->stream, status, text);
}

static void refuse(const call *c, const char *error) {
  char body[256];
  snprintf(body, sizeof body, "{\"MachineAuthorized\":false,\"Error\":\"%s\"}", error);
  answer(c, 200, body);
}

static void on_register(const call *c) {
  static const char welcome[] =
      "{\"User\":{\"ID\":1,\"DisplayName\":\"demo\"},\"Login\":{\"ID\":1,\"LoginName\":\"demo\","
      "\"DisplayName\":\"demo\"},\"NodeKeyExpired\":false,\"MachineAuthorized\":true,"
      "\"AuthURL\":\"\"}";
  json_object *auth = object_of(c->req, "Auth");
  tailnet_node *n = msock_tailnet_by_machine(c->t, c->machine);
  msock_node_key key;

  if (msock_node_key_parse(msock_tailnet_str(c->req, "NodeKey"), &key) != MSOCK_OK ||
      msock_node_key_is_zero(&key)) {
    answer(c, 400, "bad NodeKey\n");
    return;
  }
  const bool known = n != NULL && msock_node_key_equal(&n->key, &key);
  if (is_logout(c->req, c->wall_us)) {
    if (known) {
      msock_tailnet_remove(c->t, c->now_us, n);
    }
    answer(c, 200, "{\"NodeKeyExpired\":true,\"MachineAuthorized\":true}");
    return;
  }
  if (!known && !key_is_good(c->t, auth ? msock_tailnet_str(auth, "AuthKey") : "")) {
    refuse(c, "invalid pre auth key");
    return;
  }
  if (n == NULL && (n = msock_tailnet_add(c->t, c->wall_us, c->machine)) == NULL) {
    refuse(c, "this tailnet is full");
    return;
  }
  n->key = key;
  c->t->dirty |= !known;
  if ((take_hostinfo(c->t, n, c->req) || !known) && n->stream) {
    msock_tailnet_announce(c->t, c->now_us, c->wall_us, n); /* others can see it already */
  }
  answer(c, 200, welcome);
}

/* --- /machine/map --- */

static int type_at(json_object *types, size_t i) {
  json_object *v =
      json_object_is_type(types, json_type_array) && i < json_object_array_length(types)
          ? json_object_array_get_idx(types, i)
          : NULL;
  return json_object_is_type(v, json_type_int) ? json_object_get_int(v) : 0;
}

static bool is_same(const char *have, const tailnet_text *now) {
  return strcmp(have ? have : "", now->p ? now->p : "") == 0;
}

/* The endpoints that parse, with their types; true when the addresses differ from before. */
static bool take_endpoints(const msock_tailnet *t, tailnet_node *n, json_object *req) {
  json_object *list = NULL, *types = NULL;
  tailnet_text text = {0}, kinds = {0};
  char printed[MSOCK_ADDR_TEXT_MAX];
  msock_addr a;
  if (!json_object_object_get_ex(req, "Endpoints", &list) ||
      !json_object_is_type(list, json_type_array)) {
    return false; /* absent: the stored ones stay (control.md 4.1) */
  }
  json_object_object_get_ex(req, "EndpointTypes", &types);
  const size_t count = json_object_array_length(list);
  for (size_t i = 0; i < count && i < ENDPOINTS_MAX; i++) {
    const char *s = json_object_get_string(json_object_array_get_idx(list, i));
    if (s && msock_addr_parse(s, &a) == MSOCK_OK) {
      msock_tailnet_addf(&kinds, "%s%d", text.len ? "," : "", type_at(types, i));
      msock_tailnet_addf(&text, "%s\"%s\"", text.len ? "," : "", msock_addr_text(&a, printed));
    }
  }
  const bool moved = !is_same(n->endpoints, &text);
  if (text.bad || kinds.bad || (!moved && is_same(n->endpoint_types, &kinds))) {
    free(text.p);
    free(kinds.p);
    return false;
  }
  free(n->endpoints);
  free(n->endpoint_types);
  n->endpoints = text.p;
  n->endpoint_types = kinds.p;
  msock_logf(t->env->log, MSOCK_LOG_INFO, "tailnet.endpoints", "node=%s endpoints=[%s] types=[%s]",
             n->name, n->endpoints ? n->endpoints : "", kinds.p ? kinds.p : "");
  return moved;
}

static void on_map(const call *c) {
  tailnet_node *n = msock_tailnet_by_machine(c->t, c->machine);
  json_object *stream = NULL;
  msock_node_key key;
  msock_disco_key disco = {{0}};

  if (msock_node_key_parse(msock_tailnet_str(c->req, "NodeKey"), &key) != MSOCK_OK || n == NULL ||
      !msock_node_key_equal(&n->key, &key)) {
    answer(c, 404, "node not found\n");
    return;
  }
  msock_disco_key_parse(msock_tailnet_str(c->req, "DiscoKey"), &disco); /* absent: void */
  bool changed = !msock_disco_key_equal(&n->disco, &disco);
  n->disco = disco;
  changed |= take_endpoints(c->t, n, c->req);
  changed |= take_hostinfo(c->t, n, c->req);
  if (json_object_object_get_ex(c->req, "Stream", &stream) && json_object_get_boolean(stream)) {
    changed |= n->stream == 0; /* it comes online */
    msock_tailnet_open_stream(c->t, c->now_us, c->wall_us, c->conn, c->stream, n,
                              strcmp(msock_tailnet_str(c->req, "Compress"), "zstd") == 0);
  } else {
    answer(c, 200, "");
  }
  if (changed) {
    msock_tailnet_announce(c->t, c->now_us, c->wall_us, n);
  }
}

/* --- requests --- */

/* NULL: not a JSON object. */
static json_object *parse(const msock_server_request *r) {
  json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX);
  json_object *o = NULL;
  if (tok && r->body_len > 0) {
    json_tokener_set_flags(tok, JSON_TOKENER_VALIDATE_UTF8);
    o = json_tokener_parse_ex(tok, (const char *)r->body, (int)r->body_len);
  }
  json_tokener_free(tok);
  if (!json_object_is_type(o, json_type_object)) {
    json_object_put(o);
    return NULL;
  }
  return o;
}

void msock_tailnet_on_request(msock_tailnet *t, uint64_t now_us, uint64_t wall_us, uint64_t conn,
                              const msock_machine_key *machine, const msock_server_request *r) {
  const bool reg = strcmp(r->path, "/machine/register") == 0;
  const bool map = strcmp(r->path, "/machine/map") == 0;
  call c = {t, now_us, wall_us, conn, r->stream, machine, NULL};

  t->now_us = now_us;
  if (!reg && !map) {
    const bool inside = strncmp(r->path, "/machine/", 9) == 0;
    answer(&c, inside ? 501 : 404,
           inside ? "not implemented by this demo server\n" : "not found\n");
  } else if (strcmp(r->method, "POST") != 0) {
    answer(&c, 405, "method not allowed\n");
  } else if ((c.req = parse(r)) == NULL) {
    answer(&c, 400, "the body is not a JSON object\n");
  } else if (reg) {
    on_register(&c);
  } else {
    on_map(&c);
  }
  json_object_put(c.req);
}
