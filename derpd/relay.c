#include "derpd/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/x25519.h"
#include "derpd/listen_error.h"
#include "derpd/relay_internal.h"

#define TABLE_FIRST 64u
#define SCRATCH (MSOCK_STREAM_CHUNK + MSOCK_DERPD_WS_CONTROL_MAX + MSOCK_DERPD_WS_HEAD_MAX)
#define HANDSHAKE_US MSOCK_DERP_SERVER_LOGIN_US /* TLS alone; the core counts from the accept */

/* --- clients by id --- */

static size_t slot_of(const msock_derpd_relay *r, uint32_t id) {
  size_t at = (id * 2654435769u) & (r->table_cap - 1);
  while (r->table[at] != NULL && r->table[at]->id != id) {
    at = (at + 1) & (r->table_cap - 1);
  }
  return at;
}

static relay_client *find(const msock_derpd_relay *r, uint32_t id) {
  return r->table[slot_of(r, id)];
}

static bool grow_table(msock_derpd_relay *r) {
  relay_client **old = r->table;
  const size_t old_cap = r->table_cap;
  relay_client **bigger = calloc(old_cap * 2, sizeof(relay_client *));
  if (bigger == NULL) {
    return false;
  }
  r->table = bigger;
  r->table_cap = old_cap * 2;
  for (size_t i = 0; i < old_cap; i++) {
    if (old[i] != NULL) {
      r->table[slot_of(r, old[i]->id)] = old[i];
    }
  }
  free(old);
  return true;
}

static bool insert(msock_derpd_relay *r, relay_client *c) {
  if (2 * (r->n_clients + 1) > r->table_cap && !grow_table(r)) {
    return false;
  }
  r->table[slot_of(r, c->id)] = c;
  r->n_clients++;
  return true;
}

/* Those behind the hole move up. */
static void take_out(msock_derpd_relay *r, const relay_client *c) {
  const size_t mask = r->table_cap - 1;
  size_t hole = slot_of(r, c->id);
  if (r->table[hole] != c) {
    return;
  }
  r->table[hole] = NULL;
  r->n_clients--;
  for (size_t at = (hole + 1) & mask; r->table[at] != NULL; at = (at + 1) & mask) {
    relay_client *moved = r->table[at];
    r->table[at] = NULL;
    r->table[slot_of(r, moved->id)] = moved;
  }
}

/* --- life of a client --- */

void relay_end(relay_client *c) {
  if (!c->over) {
    c->over = true;
    c->next_over = c->relay->over;
    c->relay->over = c;
  }
}

static void unlist_link(relay_client *c) {
  relay_client **at = c->prev_link ? &c->prev_link->next_link : &c->relay->links;
  *at = c->next_link;
  if (c->next_link != NULL) {
    c->next_link->prev_link = c->prev_link;
  }
}

static void free_client(relay_client *c) {
  msock_derpd_relay *r = c->relay;
  if (c->kind == RELAY_KIND_LINK) {
    unlist_link(c);
  } else if (c->up && c->is_tls) {
    r->stats.tls13 -= c->is_tls13;
    r->stats.tls12 -= !c->is_tls13;
  }
  r->stats.ended++;
  take_out(r, c);
  msock_derp_server_close(r->core, msock_loop_now_us(), c->id);
  msock_stream_free(c->stream);
  free(c->in);
  free(c->out);
  free(c->ws);
  if (c->link != NULL && c->link->ended != NULL) {
    c->link->ended(c->link->ctx);
  }
  free(c->link);
  free(c);
}

static msock_err open_stream(msock_derpd_relay *r, relay_client *c, int fd) {
  if (!c->is_tls) {
    return msock_stream_adopt(r->loop, fd, &relay_stream_handlers, c, &c->stream);
  }
  return msock_stream_accept_tls(r->loop, fd, r->identity, HANDSHAKE_US, &relay_stream_handlers, c,
                                 &c->stream);
}

void relay_accept(relay_socket *s, int fd, const msock_addr *peer) {
  msock_derpd_relay *r = s->relay;
  const uint64_t now_us = msock_loop_now_us();
  const bool tls = s->kind == RELAY_KIND_DERP && r->v->tls;
  relay_client *c = calloc(1, sizeof *c);
  uint32_t id = 0;
  if (c == NULL || msock_derp_server_accept(r->core, now_us, peer, &id, NULL) != MSOCK_OK) {
    r->stats.tls_rejected += tls;
    close(fd);
    free(c);
    return;
  }
  *c = (relay_client){.relay = r, .id = id, .kind = (uint8_t)s->kind, .is_tls = tls, .peer = *peer};
  c->up = !tls;
  r->stats.tls_accepted += tls;
  if (!insert(r, c)) {
    close(fd);
    msock_derp_server_close(r->core, now_us, id);
    free(c);
  } else if (open_stream(r, c, fd) != MSOCK_OK) { /* the descriptor is closed */
    free_client(c);
  }
}

static void reap(msock_derpd_relay *r) {
  while (r->over != NULL) {
    relay_client *c = r->over;
    r->over = c->next_over;
    free_client(c);
  }
}

/* --- links to other relays --- */

msock_err msock_derpd_relay_dial(msock_derpd_relay *r, const msock_derpd_relay_link *link) {
  relay_client *c = calloc(1, sizeof *c);
  if (c == NULL || (c->link = malloc(sizeof *c->link)) == NULL) {
    free(c);
    return MSOCK_ERR_NOMEM;
  }
  *c->link = *link;
  c->relay = r;
  c->kind = RELAY_KIND_LINK;
  c->is_tls = true;
  const msock_err e =
      msock_stream_dial(r->cfg.egress, link->stream, &relay_stream_handlers, c, &c->stream);
  if (e != MSOCK_OK) {
    free(c->link);
    free(c);
    return e;
  }
  c->next_link = r->links;
  if (r->links != NULL) {
    r->links->prev_link = c;
  }
  r->links = c;
  return MSOCK_OK;
}

void relay_link_up(relay_client *c) {
  msock_derpd_relay *r = c->relay;
  const uint64_t now_us = msock_loop_now_us();
  if (msock_derp_server_link(r->core, now_us, c->link->http_host, &c->id) != MSOCK_OK ||
      !insert(r, c)) {
    relay_end(c);
    return;
  }
  c->up = true;
  c->phase = RELAY_PHASE_DERP;
  c->link->up(c->link->ctx, c->id);
  msock_stream_want_write(c->stream);
}

void msock_derpd_relay_drop_links(msock_derpd_relay *r) {
  for (relay_client *c = r->links; c != NULL; c = c->next_link) {
    c->link->ended = NULL;
    relay_end(c);
  }
  reap(r);
}

/* --- listeners --- */

static void on_accepted(void *ctx, int fd, const msock_addr *peer) {
  relay_accept(ctx, fd, peer);
}

static msock_err add_socket(msock_derpd_relay *r, relay_kind kind, const msock_addr *on) {
  if (r->n_sockets == MSOCK_DERPD_LISTENERS_MAX) {
    return MSOCK_ERR_NOMEM;
  }
  relay_socket *s = &r->sockets[r->n_sockets];
  *s = (relay_socket){.relay = r, .kind = kind};
  const msock_err e =
      msock_tcp_listener_new(r->cfg.egress, MSOCK_PURPOSE_LISTEN, on, on_accepted, s, &s->listener);
  r->n_sockets += e == MSOCK_OK;
  return e;
}

/* ":PORT" is one socket of each family; a machine without IPv6 has one. */
static msock_err listen_on(msock_derpd_relay *r, relay_kind kind, const msock_addr *on) {
  msock_addr at = *on;
  if (at.ip.family != 0) {
    return add_socket(r, kind, &at);
  }
  at.ip.family = 4;
  msock_err e = add_socket(r, kind, &at);
  if (e == MSOCK_OK) {
    at.ip.family = 6;
    if (at.port == 0) { /* the number that the system chose, for both */
      at.port = msock_tcp_listener_addr(r->sockets[r->n_sockets - 1].listener).port;
    }
    e = add_socket(r, kind, &at);
    e = e == MSOCK_ERR_IO && errno != EADDRINUSE ? MSOCK_OK : e;
  }
  return e;
}

static msock_err listen_list(msock_derpd_relay *r, relay_kind kind,
                             const msock_config_strings *list, char *why, size_t cap) {
  const bool http = kind == RELAY_KIND_HTTP;
  for (size_t i = 0; !msock_derpd_is_none(list) && i < list->n; i++) {
    msock_addr on;
    msock_err e = msock_derpd_parse_listen(list->v[i], &on);
    e = e == MSOCK_OK ? listen_on(r, kind, &on) : e;
    if (e != MSOCK_OK) {
      msock_derpd_listen_error(e, http ? "HTTP" : "clients", list->v[i],
                               http ? "http_listen" : "listen", why, cap);
      return e;
    }
  }
  return MSOCK_OK;
}

msock_err msock_derpd_relay_listen(msock_derpd_relay *r, char *why, size_t cap) {
  const msock_err e = listen_list(r, RELAY_KIND_DERP, &r->v->listen, why, cap);
  return e == MSOCK_OK ? listen_list(r, RELAY_KIND_HTTP, &r->v->http_listen, why, cap) : e;
}

void msock_derpd_relay_stop_listening(msock_derpd_relay *r) {
  for (size_t i = 0; i < r->n_sockets; i++) {
    msock_tcp_listener_free(r->sockets[i].listener);
  }
  r->n_sockets = 0;
}

size_t msock_derpd_relay_count(const msock_derpd_relay *r) {
  return r->n_sockets;
}

msock_addr msock_derpd_relay_addr(const msock_derpd_relay *r, size_t i, bool *plain_http) {
  *plain_http = r->sockets[i].kind == RELAY_KIND_HTTP;
  return msock_tcp_listener_addr(r->sockets[i].listener);
}

/* --- one turn --- */

static void wake(msock_derpd_relay *r, uint32_t id) {
  relay_client *c = find(r, id);
  if (c == NULL || c->over) {
    return;
  }
  msock_stream_flush(c->stream); /* may end it */
  if (c->over) {
    return;
  }
  if (c->out == NULL && msock_derp_server_is_done(r->core, id)) {
    relay_end(c);
  } else if (msock_derp_server_wants_read(r->core, id)) {
    msock_stream_pause_read(c->stream, false);
  }
}

void msock_derpd_relay_pump(msock_derpd_relay *r, uint64_t now_us) {
  uint32_t id;
  if (msock_derp_server_next_expiry(r->core) <= now_us) {
    msock_derp_server_on_expiry(r->core, now_us);
  }
  reap(r);
  while (msock_derp_server_next_wake(r->core, &id)) {
    wake(r, id);
    reap(r); /* a connection that goes has news for others */
  }
}

uint64_t msock_derpd_relay_next_expiry(msock_derpd_relay *r) {
  return msock_derp_server_next_expiry(r->core);
}

/* --- life --- */

msock_derpd_relay *msock_derpd_relay_new(const msock_derpd_relay_cfg *cfg) {
  msock_derpd_relay *r = calloc(1, sizeof *r);
  if (r == NULL) {
    return NULL;
  }
  r->cfg = *cfg;
  r->cfg.key = NULL;
  r->loop = msock_egress_loop(cfg->egress);
  r->key = msock_node_private_public(cfg->key);
  r->core = msock_derp_server_new(cfg->env, cfg->key);
  r->table = calloc(TABLE_FIRST, sizeof(relay_client *));
  r->table_cap = TABLE_FIRST;
  r->scratch = malloc(SCRATCH);
  if (r->core == NULL || r->table == NULL || r->scratch == NULL) {
    msock_derpd_relay_free(r);
    return NULL;
  }
  return r;
}

void msock_derpd_relay_free(msock_derpd_relay *r) {
  if (r == NULL) {
    return;
  }
  msock_derpd_relay_stop_listening(r);
  msock_derpd_relay_drop_links(r);
  for (size_t i = 0; r->table != NULL && i < r->table_cap; i++) {
    if (r->table[i] != NULL) {
      relay_end(r->table[i]);
    }
  }
  reap(r);
  msock_tls_identity_free(r->identity);
  msock_derp_server_free(r->core);
  free(r->scratch);
  free(r->table);
  free(r);
}

void msock_derpd_relay_set_identity(msock_derpd_relay *r, msock_tls_identity *id) {
  msock_tls_identity_free(r->identity);
  r->identity = id;
}

void msock_derpd_relay_use(msock_derpd_relay *r, const msock_derpd_config *v) {
  r->v = v;
}

msock_derp_server *msock_derpd_relay_core(msock_derpd_relay *r) {
  return r->core;
}

bool msock_derpd_relay_has_token(const msock_derpd_relay *r, uint32_t conn) {
  const relay_client *c = find(r, conn);
  return c != NULL && c->has_token;
}

msock_derpd_relay_stats msock_derpd_relay_get_stats(const msock_derpd_relay *r) {
  return r->stats;
}
