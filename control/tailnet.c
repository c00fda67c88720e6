#include "control/tailnet.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "control/tailnet_internal.h"
#include "control/wire_time.h"
#include "crypto/wipe.h"

/* --- output queue --- */

static void push_out(msock_tailnet *t, msock_tailnet_out out) {
  tailnet_item *item = calloc(1, sizeof *item);
  if (item == NULL) {
    free(out.body);
    return;
  }
  item->out = out;
  *t->out_tail = item;
  t->out_tail = &item->next;
}

bool msock_tailnet_next_output(msock_tailnet *t, msock_tailnet_out *out) {
  tailnet_item *item = t->out_head;
  if (item == NULL) {
    return false;
  }
  *out = item->out;
  t->out_head = item->next;
  if (t->out_head == NULL) {
    t->out_tail = &t->out_head;
  }
  free(item);
  return true;
}

static void respond(msock_tailnet *t, uint64_t conn, int32_t stream, int status, const char *text) {
  const size_t len = strlen(text);
  uint8_t *body = len ? malloc(len) : NULL;
  if (body) {
    memcpy(body, text, len);
  }
  push_out(t, (msock_tailnet_out){.kind = MSOCK_TAILNET_RESPOND,
                                  .conn = conn,
                                  .stream = stream,
                                  .status = status,
                                  .body = body,
                                  .len = body ? len : 0});
}

/* --- map messages to one node or to all others --- */

static void send_map(msock_tailnet *t, uint64_t now_us, tailnet_node *n, const char *json,
                     size_t len) {
  msock_tailnet_out out = {.kind = MSOCK_TAILNET_WRITE, .conn = n->conn, .stream = n->stream};
  if (n->stream == 0 || !msock_tailnet_frame(json, len, n->compress, &out.body, &out.len)) {
    return;
  }
  n->keepalive_us = now_us + MSOCK_TAILNET_KEEPALIVE_US;
  push_out(t, out);
}

static void send_others(msock_tailnet *t, uint64_t now_us, const tailnet_node *but,
                        const tailnet_text *msg) {
  for (size_t i = 0; i < t->n_nodes && !msg->bad; i++) {
    if (t->nodes[i] != but) {
      send_map(t, now_us, t->nodes[i], msg->p, msg->len);
    }
  }
}

static void announce(msock_tailnet *t, uint64_t now_us, uint64_t wall_us, const tailnet_node *n) {
  tailnet_text msg = {0};
  msock_tailnet_changed_text(t, n, wall_us, &msg);
  send_others(t, now_us, n, &msg);
  free(msg.p);
}

/* --- nodes --- */

static tailnet_node *by_machine(msock_tailnet *t, const msock_machine_key *m) {
  for (size_t i = 0; i < t->n_nodes; i++) {
    if (msock_machine_key_equal(&t->nodes[i]->machine, m)) {
      return t->nodes[i];
    }
  }
  return NULL;
}

static bool name_taken(const msock_tailnet *t, const tailnet_node *but, const char *name) {
  for (size_t i = 0; i < t->n_nodes; i++) {
    if (t->nodes[i] != but && strcmp(t->nodes[i]->name, name) == 0) {
      return true;
    }
  }
  return false;
}

/* A DNS label from the host name, made unique by a number. */
static void give_name(const msock_tailnet *t, tailnet_node *n) {
  char label[56];
  size_t k = 0;
  for (const char *p = n->hostname; *p && *p != '.' && k < sizeof label - 1; p++) {
    const char c = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && k > 0)) {
      label[k++] = c;
    }
  }
  while (k > 0 && label[k - 1] == '-') {
    k--;
  }
  label[k] = '\0';
  snprintf(n->name, sizeof n->name, "%s", k ? label : "node");
  for (unsigned i = 1; name_taken(t, n, n->name); i++) {
    snprintf(n->name, sizeof n->name, "%.50s-%u", k ? label : "node", i);
  }
}

static tailnet_node *add_node(msock_tailnet *t, uint64_t wall_us, const msock_machine_key *m) {
  tailnet_node *n = NULL;
  if (t->n_nodes == MSOCK_TAILNET_NODES_MAX || (n = calloc(1, sizeof *n)) == NULL) {
    return NULL;
  }
  n->id = ++t->last_id;
  n->machine = *m;
  n->created_us = wall_us;
  n->keepalive_us = MSOCK_NEVER;
  t->nodes[t->n_nodes++] = n;
  t->dirty = true;
  return n;
}

static void close_stream(msock_tailnet *t, tailnet_node *n) {
  if (n->stream) {
    push_out(t,
             (msock_tailnet_out){.kind = MSOCK_TAILNET_END, .conn = n->conn, .stream = n->stream});
    n->stream = 0;
    n->keepalive_us = MSOCK_NEVER;
  }
}

static void remove_node(msock_tailnet *t, uint64_t now_us, tailnet_node *n) {
  tailnet_text msg = {0};
  msock_tailnet_addf(&msg, "{\"PeersRemoved\":[%" PRIu64 "]}", n->id);
  send_others(t, now_us, n, &msg);
  free(msg.p);
  close_stream(t, n);
  for (size_t i = 0; i < t->n_nodes; i++) {
    if (t->nodes[i] == n) {
      memmove(&t->nodes[i], &t->nodes[i + 1], (t->n_nodes - i - 1) * sizeof *t->nodes);
      t->n_nodes--;
      break;
    }
  }
  free(n->endpoints);
  free(n);
  t->dirty = true;
}

/* --- /machine/register --- */

static const char *text_of(json_object *o, const char *name) {
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

/* Takes host name and OS; true when something changed. */
static bool take_hostinfo(msock_tailnet *t, tailnet_node *n, json_object *req) {
  json_object *hi = object_of(req, "Hostinfo"), *ni = NULL, *home = NULL;
  bool changed = false;
  if (hi == NULL) {
    return false;
  }
  if (strncmp(n->hostname, text_of(hi, "Hostname"), sizeof n->hostname - 1) != 0) {
    snprintf(n->hostname, sizeof n->hostname, "%s", text_of(hi, "Hostname"));
    give_name(t, n);
    changed = true;
  }
  snprintf(n->os, sizeof n->os, "%s", text_of(hi, "OS"));
  ni = object_of(hi, "NetInfo");
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

static void refuse(msock_tailnet *t, uint64_t conn, int32_t stream, const char *error) {
  char body[256];
  snprintf(body, sizeof body, "{\"MachineAuthorized\":false,\"Error\":\"%s\"}", error);
  respond(t, conn, stream, 200, body);
}

static void on_register(msock_tailnet *t, uint64_t now_us, uint64_t wall_us, uint64_t conn,
                        const msock_machine_key *m, int32_t stream, json_object *req) {
  uint64_t expiry_us = 0;
  json_object *auth = object_of(req, "Auth");
  tailnet_node *n = by_machine(t, m);
  msock_node_key key;

  if (msock_node_key_parse(text_of(req, "NodeKey"), &key) != MSOCK_OK ||
      msock_node_key_is_zero(&key)) {
    respond(t, conn, stream, 400, "bad NodeKey\n");
    return;
  }
  msock_wire_time_parse(text_of(req, "Expiry"), &expiry_us);
  if (expiry_us != 0 && expiry_us < wall_us) { /* logout */
    if (n && msock_node_key_equal(&n->key, &key)) {
      remove_node(t, now_us, n);
    }
    respond(t, conn, stream, 200, "{\"NodeKeyExpired\":true,\"MachineAuthorized\":true}");
    return;
  }
  if ((n == NULL || !msock_node_key_equal(&n->key, &key)) &&
      !key_is_good(t, auth ? text_of(auth, "AuthKey") : "")) {
    refuse(t, conn, stream, "invalid pre auth key");
    return;
  }
  if (n == NULL && (n = add_node(t, wall_us, m)) == NULL) {
    refuse(t, conn, stream, "this tailnet is full");
    return;
  }
  const bool new_key = !msock_node_key_equal(&n->key, &key);
  n->key = key;
  if (take_hostinfo(t, n, req) || new_key) {
    t->dirty = true;
    if (n->stream) { /* a key change of a node that others can see */
      announce(t, now_us, wall_us, n);
    }
  }
  respond(
      t, conn, stream, 200,
      "{\"User\":{\"ID\":1,\"DisplayName\":\"demo\"},\"Login\":{\"ID\":1,\"LoginName\":\"demo\","
      "\"DisplayName\":\"demo\"},\"NodeKeyExpired\":false,\"MachineAuthorized\":true,"
      "\"AuthURL\":\"\"}");
}

/* --- /machine/map --- */

/* The endpoints that parse, as a JSON array; true when they differ from before. */
static bool take_endpoints(tailnet_node *n, json_object *req) {
  json_object *list = NULL;
  tailnet_text text = {0};
  msock_addr a;
  if (!json_object_object_get_ex(req, "Endpoints", &list) ||
      !json_object_is_type(list, json_type_array)) {
    return false; /* absent: the stored ones stay (control.md 4.1) */
  }
  const size_t count = json_object_array_length(list);
  for (size_t i = 0; i < count && i < 64; i++) {
    const char *s = json_object_get_string(json_object_array_get_idx(list, i));
    if (s && msock_addr_parse(s, &a) == MSOCK_OK) {
      msock_tailnet_addf(&text, "%s\"%s\"", text.len ? "," : "", s);
    }
  }
  const char *now = text.p ? text.p : "";
  if (text.bad || strcmp(n->endpoints ? n->endpoints : "", now) == 0) {
    free(text.p);
    return false;
  }
  free(n->endpoints);
  n->endpoints = text.p;
  return true;
}

static void start_stream(msock_tailnet *t, uint64_t now_us, uint64_t wall_us, uint64_t conn,
                         int32_t stream, tailnet_node *n, json_object *req) {
  tailnet_text msg = {0};
  close_stream(t, n);
  n->conn = conn;
  n->stream = stream;
  n->compress = strcmp(text_of(req, "Compress"), "zstd") == 0;
  push_out(t, (msock_tailnet_out){
                  .kind = MSOCK_TAILNET_BEGIN, .conn = conn, .stream = stream, .status = 200});
  msock_tailnet_full_text(t, n, wall_us, &msg);
  if (!msg.bad) {
    send_map(t, now_us, n, msg.p, msg.len);
  }
  free(msg.p);
}

static void on_map(msock_tailnet *t, uint64_t now_us, uint64_t wall_us, uint64_t conn,
                   const msock_machine_key *m, int32_t stream, json_object *req) {
  tailnet_node *n = by_machine(t, m);
  json_object *v = NULL;
  msock_node_key key;
  msock_disco_key disco = {{0}};

  if (msock_node_key_parse(text_of(req, "NodeKey"), &key) != MSOCK_OK || n == NULL ||
      !msock_node_key_equal(&n->key, &key)) {
    respond(t, conn, stream, 404, "node not found\n");
    return;
  }
  msock_disco_key_parse(text_of(req, "DiscoKey"), &disco); /* absent: the key is void */
  bool changed = !msock_disco_key_equal(&n->disco, &disco);
  n->disco = disco;
  changed |= take_endpoints(n, req);
  changed |= take_hostinfo(t, n, req);
  if (json_object_object_get_ex(req, "Stream", &v) && json_object_get_boolean(v)) {
    changed |= n->stream == 0; /* it comes online */
    start_stream(t, now_us, wall_us, conn, stream, n, req);
  } else {
    respond(t, conn, stream, 200, "");
  }
  if (changed) {
    t->dirty = true;
    announce(t, now_us, wall_us, n);
  }
}

/* --- requests --- */

void msock_tailnet_on_request(msock_tailnet *t, uint64_t now_us, uint64_t wall_us, uint64_t conn,
                              const msock_machine_key *machine, const msock_server_request *r) {
  const bool reg = strcmp(r->path, "/machine/register") == 0;
  const bool map = strcmp(r->path, "/machine/map") == 0;
  json_tokener *tok = NULL;
  json_object *req = NULL;

  t->now_us = now_us;
  if (!reg && !map) {
    const bool inside = strncmp(r->path, "/machine/", 9) == 0;
    respond(t, conn, r->stream, inside ? 501 : 404,
            inside ? "not implemented by this demo server\n" : "not found\n");
    return;
  }
  if (strcmp(r->method, "POST") != 0) {
    respond(t, conn, r->stream, 405, "method not allowed\n");
    return;
  }
  tok = json_tokener_new_ex(32);
  if (tok && r->body_len > 0) {
    req = json_tokener_parse_ex(tok, (const char *)r->body, (int)r->body_len);
  }
  if (req == NULL || !json_object_is_type(req, json_type_object)) {
    respond(t, conn, r->stream, 400, "the body is not a JSON object\n");
  } else if (reg) {
    on_register(t, now_us, wall_us, conn, machine, r->stream, req);
  } else {
    on_map(t, now_us, wall_us, conn, machine, r->stream, req);
  }
  json_object_put(req);
  json_tokener_free(tok);
}

static void went_offline(msock_tailnet *t, tailnet_node *n) {
  tailnet_text msg = {0};
  n->stream = 0;
  n->keepalive_us = MSOCK_NEVER;
  msock_tailnet_addf(&msg, "{\"PeersChangedPatch\":[{\"NodeID\":%" PRIu64 ",\"Online\":false}]}",
                     n->id);
  send_others(t, t->now_us, n, &msg);
  free(msg.p);
}

void msock_tailnet_on_stream_closed(msock_tailnet *t, uint64_t conn, int32_t stream) {
  for (size_t i = 0; i < t->n_nodes; i++) {
    if (t->nodes[i]->conn == conn && t->nodes[i]->stream == stream && stream != 0) {
      went_offline(t, t->nodes[i]);
    }
  }
}

void msock_tailnet_on_conn_closed(msock_tailnet *t, uint64_t conn) {
  for (size_t i = 0; i < t->n_nodes; i++) {
    if (t->nodes[i]->conn == conn && t->nodes[i]->stream != 0) {
      went_offline(t, t->nodes[i]);
    }
  }
}

uint64_t msock_tailnet_next_expiry(const msock_tailnet *t) {
  uint64_t next = MSOCK_NEVER;
  for (size_t i = 0; i < t->n_nodes; i++) {
    next = t->nodes[i]->keepalive_us < next ? t->nodes[i]->keepalive_us : next;
  }
  return next;
}

void msock_tailnet_on_expiry(msock_tailnet *t, uint64_t now_us) {
  static const char keepalive[] = "{\"KeepAlive\":true}";
  t->now_us = now_us;
  for (size_t i = 0; i < t->n_nodes; i++) {
    if (t->nodes[i]->keepalive_us <= now_us) {
      send_map(t, now_us, t->nodes[i], keepalive, sizeof keepalive - 1);
    }
  }
}

/* --- life --- */

msock_tailnet *msock_tailnet_new(const msock_env *env, const msock_tailnet_cfg *cfg) {
  msock_tailnet *t = calloc(1, sizeof *t);
  if (t == NULL || cfg->fake_peers > MSOCK_TAILNET_FAKES_MAX) {
    free(t);
    return NULL;
  }
  t->env = env;
  t->cfg = *cfg;
  t->out_tail = &t->out_head;
  if (cfg->fake_peers > 0) {
    t->fakes = malloc(cfg->fake_peers * sizeof *t->fakes);
    if (t->fakes == NULL) {
      free(t);
      return NULL;
    }
    env->random(env->ctx, t->fakes, cfg->fake_peers * sizeof *t->fakes);
  }
  return t;
}

void msock_tailnet_free(msock_tailnet *t) {
  msock_tailnet_out out;
  if (t == NULL) {
    return;
  }
  while (msock_tailnet_next_output(t, &out)) {
    free(out.body);
  }
  for (size_t i = 0; i < t->n_nodes; i++) {
    free(t->nodes[i]->endpoints);
    free(t->nodes[i]);
  }
  free(t->fakes);
  free(t);
}

size_t msock_tailnet_count(const msock_tailnet *t) {
  return t->n_nodes;
}

bool msock_tailnet_is_dirty(const msock_tailnet *t) {
  return t->dirty;
}

/* --- state --- */

char *msock_tailnet_state(msock_tailnet *t, size_t *len) {
  tailnet_text s = {0};
  char machine[MSOCK_KEY_TEXT_MAX], key[MSOCK_KEY_TEXT_MAX];
  msock_tailnet_addf(&s, "{\"version\":1,\"last_id\":%" PRIu64 ",\"nodes\":[", t->last_id);
  for (size_t i = 0; i < t->n_nodes; i++) {
    const tailnet_node *n = t->nodes[i];
    msock_tailnet_addf(&s,
                       "%s\n {\"id\":%" PRIu64 ",\"machine\":\"%s\",\"key\":\"%s\",\"name\":\"%s\","
                       "\"created_us\":%" PRIu64 "}",
                       i ? "," : "", n->id, msock_machine_key_text(&n->machine, machine),
                       msock_node_key_text(&n->key, key), n->name, n->created_us);
  }
  msock_tailnet_addf(&s, "\n]}\n");
  if (s.bad) {
    free(s.p);
    return NULL;
  }
  t->dirty = false;
  *len = s.len;
  return s.p;
}

static bool load_node(msock_tailnet *t, json_object *o) {
  msock_machine_key machine;
  json_object *id = NULL, *created = NULL;
  if (!json_object_is_type(o, json_type_object) ||
      msock_machine_key_parse(text_of(o, "machine"), &machine) != MSOCK_OK ||
      !json_object_object_get_ex(o, "id", &id) ||
      !json_object_object_get_ex(o, "created_us", &created)) {
    return false;
  }
  tailnet_node *n = add_node(t, json_object_get_uint64(created), &machine);
  if (n == NULL || msock_node_key_parse(text_of(o, "key"), &n->key) != MSOCK_OK) {
    return false;
  }
  n->id = json_object_get_uint64(id);
  snprintf(n->hostname, sizeof n->hostname, "%s", text_of(o, "name"));
  give_name(t, n);
  return n->id > 0;
}

msock_err msock_tailnet_load(msock_tailnet *t, const char *text) {
  json_object *o = json_tokener_parse(text), *nodes = NULL, *last = NULL;
  bool ok = o && json_object_object_get_ex(o, "nodes", &nodes) &&
            json_object_is_type(nodes, json_type_array) &&
            json_object_object_get_ex(o, "last_id", &last);
  for (size_t i = 0; ok && i < json_object_array_length(nodes); i++) {
    ok = load_node(t, json_object_array_get_idx(nodes, i));
  }
  if (ok) {
    t->last_id = json_object_get_uint64(last);
    t->dirty = false;
  } else {
    while (t->n_nodes > 0) {
      free(t->nodes[--t->n_nodes]);
    }
  }
  json_object_put(o);
  return ok ? MSOCK_OK : MSOCK_ERR_INVALID;
}
