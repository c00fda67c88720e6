#include "control/tailnet.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/tailnet_internal.h"

#define LABEL_MAX 55u     /* a label has 63: room for "-64" and more */
#define ID_LAST 0x3ffffeu /* 100.64.0.0/10 ends there */

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

void msock_tailnet_respond(msock_tailnet *t, uint64_t conn, int32_t stream, int status,
                           const char *text) {
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
  if (n->stream == 0) {
    return;
  }
  n->keepalive_us = now_us + MSOCK_TAILNET_KEEPALIVE_US;
  if (msock_tailnet_frame(json, len, n->compress, &out.body, &out.len)) {
    push_out(t, out);
  }
}

void msock_tailnet_send(msock_tailnet *t, uint64_t now_us, tailnet_node *n,
                        const tailnet_text *msg) {
  if (!msg->bad) {
    send_map(t, now_us, n, msg->p, msg->len);
  }
}

void msock_tailnet_send_others(msock_tailnet *t, uint64_t now_us, const tailnet_node *but,
                               const tailnet_text *msg) {
  for (size_t i = 0; i < t->n_nodes && !msg->bad; i++) {
    if (t->nodes[i] != but) {
      send_map(t, now_us, t->nodes[i], msg->p, msg->len);
    }
  }
}

void msock_tailnet_announce(msock_tailnet *t, uint64_t now_us, uint64_t wall_us,
                            const tailnet_node *n) {
  tailnet_text msg = {0};
  msock_tailnet_changed_text(t, n, wall_us, &msg);
  msock_tailnet_send_others(t, now_us, n, &msg);
  free(msg.p);
}

/* --- nodes --- */

tailnet_node *msock_tailnet_by_machine(msock_tailnet *t, const msock_machine_key *m) {
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
  char label[LABEL_MAX + 1];
  size_t k = 0;
  for (const char *p = n->hostname; *p && *p != '.' && k < LABEL_MAX; p++) {
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

bool msock_tailnet_rename(msock_tailnet *t, tailnet_node *n, const char *hostname) {
  char cut[sizeof n->hostname];
  size_t len = strlen(hostname);
  if (len >= sizeof cut) { /* never in the middle of a character */
    len = sizeof cut - 1;
    while (len > 0 && ((unsigned char)hostname[len] & 0xc0) == 0x80) {
      len--;
    }
  }
  memcpy(cut, hostname, len);
  cut[len] = '\0';
  if (n->name[0] && strcmp(cut, n->hostname) == 0) {
    return false;
  }
  memcpy(n->hostname, cut, sizeof cut);
  give_name(t, n);
  t->dirty = true;
  return true;
}

tailnet_node *msock_tailnet_add(msock_tailnet *t, uint64_t wall_us, const msock_machine_key *m) {
  tailnet_node *n = NULL;
  if (t->n_nodes == MSOCK_TAILNET_NODES_MAX || t->last_id >= ID_LAST ||
      (n = calloc(1, sizeof *n)) == NULL) {
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

void msock_tailnet_remove(msock_tailnet *t, uint64_t now_us, tailnet_node *n) {
  tailnet_text msg = {0};
  msock_tailnet_addf(&msg, "{\"PeersRemoved\":[%" PRIu64 "]}", n->id);
  msock_tailnet_send_others(t, now_us, n, &msg);
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
  free(n->endpoint_types);
  free(n);
  t->dirty = true;
}

void msock_tailnet_open_stream(msock_tailnet *t, uint64_t now_us, uint64_t wall_us, uint64_t conn,
                               int32_t stream, tailnet_node *n, bool compress) {
  tailnet_text msg = {0};
  close_stream(t, n);
  n->conn = conn;
  n->stream = stream;
  n->compress = compress;
  push_out(t, (msock_tailnet_out){
                  .kind = MSOCK_TAILNET_BEGIN, .conn = conn, .stream = stream, .status = 200});
  msock_tailnet_full_text(t, n, wall_us, &msg);
  msock_tailnet_send(t, now_us, n, &msg);
  free(msg.p);
}

static void went_offline(msock_tailnet *t, tailnet_node *n) {
  tailnet_text msg = {0};
  n->stream = 0;
  n->keepalive_us = MSOCK_NEVER;
  msock_tailnet_addf(&msg, "{\"PeersChangedPatch\":[{\"NodeID\":%" PRIu64 ",\"Online\":false}]}",
                     n->id);
  msock_tailnet_send_others(t, t->now_us, n, &msg);
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
  t->first_region = cfg->derp_map->n_regions ? cfg->derp_map->regions[0].id : 0;
  t->derp_map = msock_tailnet_derp_text(cfg->derp_map);
  t->cfg.derp_map = NULL; /* borrowed for this call only */
  t->fakes = cfg->fake_peers ? malloc(cfg->fake_peers * sizeof *t->fakes) : NULL;
  if (t->derp_map == NULL || (cfg->fake_peers && t->fakes == NULL)) {
    msock_tailnet_free(t);
    return NULL;
  }
  if (cfg->fake_peers) {
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
    free(t->nodes[i]->endpoint_types);
    free(t->nodes[i]);
  }
  free(t->derp_map);
  free(t->fakes);
  free(t);
}

size_t msock_tailnet_count(const msock_tailnet *t) {
  return t->n_nodes;
}

bool msock_tailnet_is_dirty(const msock_tailnet *t) {
  return t->dirty;
}
