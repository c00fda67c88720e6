/* derp/server_mesh.c: links from this relay to others of its region (derp.md 4.3).
 *
 * A link is a connection in which this relay is the client: it logs in with its own key and the
 * mesh key, watches who is there, and forwards packets for them, one hop. What a relay does for
 * those that link to it is in server_route.c. A key that several relays have belongs to the one
 * that said so first; local connections come before all. */
#include <stdlib.h>
#include <string.h>

#include "base/http1.h"
#include "crypto/wipe.h"
#include "derp/login.h"
#include "derp/server_internal.h"

/* --- the keys of other relays --- */

static relay_remote *find_remote(relay_key *k, const relay_conn *link) {
  relay_remote *r = k != NULL ? k->remotes : NULL;
  while (r != NULL && r->link != link) {
    r = r->next;
  }
  return r;
}

static void add_remote(msock_derp_server *s, relay_conn *link, const msock_node_key *key) {
  if (msock_node_key_equal(key, &s->public_key)) { /* we, as its client */
    return;
  }
  relay_key *k = relay_key_find(s, key);
  if (find_remote(k, link) != NULL) {
    return;
  }
  relay_remote *r = s->n_remotes < MSOCK_DERP_SERVER_REMOTES_MAX ? calloc(1, sizeof *r) : NULL;
  k = r != NULL ? relay_key_get(s, key) : NULL;
  if (k == NULL) {
    free(r);
    s->stats.notices_lost++;
    return;
  }
  relay_remote **end = &k->remotes; /* the earliest comes first */
  s->stats.remote_keys += k->remotes == NULL;
  while (*end != NULL) {
    end = &(*end)->next;
  }
  r->key = k;
  r->link = link;
  *end = r;
  relay_ring_add(&link->remotes, &r->of_link);
  s->n_remotes++;
}

static void remove_remote(msock_derp_server *s, uint64_t now_us, relay_remote *r) {
  relay_key *k = r->key;
  relay_remote **at = &k->remotes;
  while (*at != r) {
    at = &(*at)->next;
  }
  *at = r->next;
  relay_ring_remove(&r->of_link);
  free(r);
  s->n_remotes--;
  if (k->remotes == NULL) {
    s->stats.remote_keys--;
    if (k->conns == NULL) { /* gone from the region */
      relay_flows_leave(s, now_us, k);
      relay_key_release(s, now_us, k);
    }
  }
}

/* --- packets --- */

void relay_forward_out(msock_derp_server *s, uint64_t now_us, relay_conn *from, relay_key *dst,
                       const uint8_t *data, size_t len, bool is_disco) {
  relay_conn *link = dst->remotes->link;
  relay_flow *f = relay_flow_pass(s, now_us, from, dst, len);
  relay_buf *b =
      f != NULL && !link->dead ? relay_buf_new(&s->pool, RELAY_FORWARD_OVERHEAD + len) : NULL;
  if (b == NULL) {
    relay_count_drop(s,
                     f == NULL    ? MSOCK_DERP_DROP_FLOW_LIMIT
                     : link->dead ? MSOCK_DERP_DROP_GONE_DISCONNECTED
                                  : MSOCK_DERP_DROP_QUEUE_TAIL,
                     is_disco, len);
    return;
  }
  msock_derp_header_write(b->data, (msock_derp_header){.type = MSOCK_DERP_FORWARD_PACKET,
                                                       .len = (uint32_t)(2 * MSOCK_KEY_LEN + len)});
  memcpy(b->data + MSOCK_DERP_HEADER_LEN, from->key->key.b, MSOCK_KEY_LEN);
  memcpy(b->data + MSOCK_DERP_HEADER_LEN + MSOCK_KEY_LEN, dst->key.b, MSOCK_KEY_LEN);
  memcpy(b->data + RELAY_FORWARD_OVERHEAD, data, len);
  b->len = (uint32_t)(RELAY_FORWARD_OVERHEAD + len);
  b->is_disco = is_disco;
  b->is_forward = true;
  relay_queue(s, now_us, link, b);
}

void relay_heard_remote(msock_derp_server *s, uint64_t now_us, const msock_node_key *src,
                        relay_conn *to) {
  relay_key *k = relay_key_find(s, src);
  relay_flow *f = k != NULL && k->remotes != NULL ? relay_flow_note(s, now_us, k, to->key) : NULL;
  if (f != NULL) {
    relay_flow_heard(f, to);
  }
}

/* --- the life of a link --- */

msock_err msock_derp_server_link(msock_derp_server *s, uint64_t now_us, const char *host,
                                 uint32_t *conn) {
  char head[512];
  msock_http1_builder b;
  if (!s->set.has_mesh_key || s->is_draining) {
    return MSOCK_ERR_DENIED;
  }
  msock_http1_begin_request(&b, head, sizeof head, "GET", "/derp");
  msock_http1_add(&b, "Host", host);
  msock_http1_add(&b, "User-Agent", "derpd");
  msock_http1_add(&b, "Connection", "Upgrade");
  msock_http1_add(&b, "Upgrade", "DERP");
  const ptrdiff_t n = msock_http1_finish(&b);
  if (n < 0) {
    return MSOCK_ERR_INVALID;
  }
  relay_conn *c = relay_conn_new(s, now_us, NULL);
  if (c == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  c->phase = RELAY_LINK_HEAD;
  c->is_mesh = true;
  relay_ring_init(&c->remotes);
  *conn = c->id;
  if (!relay_notice(s, c, head, (size_t)n)) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_MEMORY);
  }
  return MSOCK_OK;
}

size_t relay_feed_link_head(msock_derp_server *s, relay_conn *c, const uint8_t *p, size_t len) {
  const size_t before = c->rx != NULL ? c->rx->len : 0;
  size_t n = 0;
  relay_buf *rx = relay_gather_head(s, c, p, len, &n);
  msock_http1_head h;
  if (rx == NULL) {
    return len;
  }
  const ptrdiff_t used = msock_http1_parse_response(rx->data, rx->len, &h);
  if (used == MSOCK_ERR_AGAIN) {
    return n;
  }
  const bool ok = used > 0 && h.status == 101;
  relay_buf_free(&s->pool, rx);
  c->rx = NULL;
  if (!ok) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_LOGIN);
    return len;
  }
  c->phase = RELAY_LINK;
  return (size_t)used - before;
}

/* What it may send; its frames are bounded as for any client (derp.md 0). */
msock_derp_verdict relay_judge_link(msock_derp_header h) {
  switch (h.type) {
  case MSOCK_DERP_SERVER_KEY:
  case MSOCK_DERP_SERVER_INFO:
  case MSOCK_DERP_PEER_PRESENT:
  case MSOCK_DERP_PEER_GONE:
  case MSOCK_DERP_PING:
    return h.len <= MSOCK_DERP_SERVER_KEY_MAX ? MSOCK_DERP_HANDLE : MSOCK_DERP_FATAL;
  default:
    return h.len <= MSOCK_DERP_CLIENT_PAYLOAD_MAX ? MSOCK_DERP_SKIP : MSOCK_DERP_FATAL;
  }
}

static void introduce(msock_derp_server *s, relay_conn *c, const msock_node_key *server) {
  static const uint8_t watch[MSOCK_DERP_HEADER_LEN] = {MSOCK_DERP_WATCH_CONNS};
  msock_derp_client_info info = msock_derp_client_info_default();
  uint8_t frame[MSOCK_DERP_LOGIN_FRAME_MAX];
  if (msock_node_key_equal(server, &s->public_key)) { /* its own address */
    relay_kill(s, c, MSOCK_DERP_CAUSE_LINK_SELF);
    return;
  }
  c->who = *server;
  info.has_mesh_key = true;
  memcpy(info.mesh_key, s->set.mesh_key, sizeof info.mesh_key);
  const ptrdiff_t n =
      msock_derp_client_info_seal(&info, &s->key, server, s->env, frame, sizeof frame);
  msock_wipe(info.mesh_key, sizeof info.mesh_key);
  if (n < 0 || !relay_notice(s, c, frame, (size_t)n) || !relay_notice(s, c, watch, sizeof watch)) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_LOGIN);
  }
}

static void go_up(msock_derp_server *s, uint64_t now_us, relay_conn *c, const uint8_t *payload,
                  size_t len) {
  msock_derp_server_info info;
  if (c->is_linked ||
      msock_derp_server_info_open(payload, len, &s->key, &c->who, &info) != MSOCK_OK) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_LOGIN);
    return;
  }
  relay_leave_half(s, c);
  c->is_linked = true;
  c->since_us = now_us;
  c->login_us = MSOCK_NEVER;
  c->lease_us = now_us + MSOCK_DERP_SERVER_LINK_SILENCE_US;
  relay_arm(s, now_us, c);
  s->stats.links++;
  msock_derp_server_event ev = relay_event(s, now_us, MSOCK_DERP_SERVER_LINKED, c);
  ev.has_key = true;
  ev.key = c->who;
  relay_emit(s, &ev);
}

void relay_on_link_frame(msock_derp_server *s, uint64_t now_us, relay_conn *c, msock_derp_header h,
                         const uint8_t *payload) {
  msock_derp_frame f;
  const bool is_greeted = !msock_node_key_is_zero(&c->who);
  if (h.type == MSOCK_DERP_SERVER_INFO && is_greeted) {
    go_up(s, now_us, c, payload, h.len);
    return;
  }
  if (msock_derp_frame_decode(h.type, payload, h.len, &f) != MSOCK_OK ||
      is_greeted != (f.type != MSOCK_DERP_SERVER_KEY)) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_PROTOCOL);
  } else if (f.type == MSOCK_DERP_SERVER_KEY) {
    introduce(s, c, &f.u.server_key.key);
  } else if (f.type == MSOCK_DERP_PEER_PRESENT) {
    add_remote(s, c, &f.u.peer_present.key);
  } else if (f.type == MSOCK_DERP_PEER_GONE) { /* "not here" too: it is to be found elsewhere */
    relay_remote *r = find_remote(relay_key_find(s, &f.u.peer_gone.key), c);
    if (r != NULL) {
      remove_remote(s, now_us, r);
    }
  } else {
    memcpy(c->pong, f.u.ping, sizeof c->pong);
    c->pong_due = true;
    relay_wake(s, c);
  }
}

void relay_link_silent(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  c->lease_us = c->heard_us + MSOCK_DERP_SERVER_LINK_SILENCE_US;
  if (c->lease_us <= now_us) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_LINK_SILENT);
  }
}

void relay_link_lost(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  while (!relay_ring_is_empty(&c->remotes)) {
    remove_remote(s, now_us, RELAY_OF(relay_remote, of_link, c->remotes.next));
  }
  if (!c->is_linked) {
    return;
  }
  msock_derp_server_event ev = relay_event(s, now_us, MSOCK_DERP_SERVER_UNLINKED, c);
  ev.has_key = true;
  ev.key = c->who;
  s->stats.links--;
  relay_emit(s, &ev);
}
