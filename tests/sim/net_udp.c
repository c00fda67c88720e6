/* Datagrams: out through the sender's boxes when they are sent, in through the receiver's when they
 * arrive. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/net_internal.h"

typedef struct sim_flight {
  struct sim_flight *prev, *next; /* ring of the network */
  sim_net *net;
  sim_host *from;
  uint64_t serial;  /* of the socket */
  sim_realm *realm; /* where dst lives */
  msock_addr src, dst;
  bool lan;
  sim_event arrival;
  size_t len;
  uint8_t bytes[];
} sim_flight;

/* --- sockets --- */

static bool taken(const sim_host *h, uint16_t port) {
  for (const sim_udp *u = h->sockets; u != NULL; u = u->next) {
    if (u->local.port == port) {
      return true;
    }
  }
  return false;
}

sim_udp *sim_udp_bind(sim_host *h, const msock_addr *on, sim_udp_cb cb, void *ctx) {
  msock_addr local = on != NULL ? *on : (msock_addr){.ip = msock_ip_v4(0, 0, 0, 0)};

  if (!msock_ip_is_unspecified(&local.ip) && !sim_host_has(h, &local.ip)) {
    errno = EADDRNOTAVAIL;
    return NULL;
  }
  if (local.port == 0) {
    local.port = sim_host_ephemeral(h, taken);
  } else if (taken(h, local.port)) {
    errno = EADDRINUSE;
    return NULL;
  }
  sim_udp *u = calloc(1, sizeof *u);
  if (u == NULL) {
    return NULL;
  }
  *u = (sim_udp){.host = h, .serial = ++h->net->n_sockets, .local = local, .cb = cb, .ctx = ctx};
  u->next = h->sockets;
  u->self = &h->sockets;
  if (u->next != NULL) {
    u->next->self = &u->next;
  }
  h->sockets = u;
  return u;
}

void sim_udp_free(sim_udp *u) {
  if (u == NULL) {
    return;
  }
  *u->self = u->next;
  if (u->next != NULL) {
    u->next->self = u->self;
  }
  free(u);
}

msock_addr sim_udp_local(const sim_udp *u) {
  return u->local;
}

void sim_net_free_udp(sim_net *n) {
  while (n->flights != NULL) {
    sim_flight *f = n->flights;
    n->flights = f->next;
    sim_world_cancel(n->w, &f->arrival);
    free(f);
  }
  for (sim_host *h = n->hosts; h != NULL; h = h->next) {
    while (h->sockets != NULL) {
      sim_udp_free(h->sockets);
    }
  }
}

/* --- what observers see --- */

static void tap(sim_net *n, const sim_tap_event *ev) {
  n->stats.sent += ev->kind == SIM_TAP_SENT;
  n->stats.received += ev->kind == SIM_TAP_RECEIVED;
  n->stats.lost += ev->kind == SIM_TAP_LOST;
  n->stats.bytes += ev->kind == SIM_TAP_SENT ? ev->len : 0;
  if (n->tap != NULL) {
    n->tap(n->tap_ctx, ev);
  }
}

static void lose(sim_net *n, sim_tap_event *ev, const char *why) {
  ev->kind = SIM_TAP_LOST;
  ev->socket = NULL;
  ev->why = why;
  tap(n, ev);
}

/* --- arrival --- */

static sim_udp *socket_for(const sim_host *h, const msock_addr *to) {
  for (sim_udp *u = h->sockets; u != NULL; u = u->next) {
    const bool any =
        msock_ip_is_unspecified(&u->local.ip) && (u->local.ip.family == 6 || to->ip.family == 4);
    if (u->local.port == to->port && (any || msock_ip_equal(&u->local.ip, &to->ip))) {
      return u;
    }
  }
  return NULL;
}

static void unlink_flight(sim_flight *f) {
  if (f->prev != NULL) {
    f->prev->next = f->next;
  } else {
    f->net->flights = f->next;
  }
  if (f->next != NULL) {
    f->next->prev = f->prev;
  }
}

static const char *refused_by(const sim_flight *f, const sim_host *h) {
  const size_t whole = f->len + (f->dst.ip.family == 6 ? 48u : SIM_UDP_OVERHEAD);
  const sim_link *l = &h->down;
  if (!h->on) {
    return "receiver is off";
  }
  if (!f->lan && l->udp_blocked) {
    return "UDP is blocked at the receiver";
  }
  return !f->lan && l->mtu_bytes != 0 && whole > l->mtu_bytes ? "too long for the receiver's link"
                                                              : NULL;
}

static void arrive(void *ctx) {
  sim_flight *f = ctx;
  sim_net *n = f->net;
  msock_addr inside;
  const char *why;
  sim_host *h = sim_net_descend(n, f->realm, SIM_UDP, &f->src, &f->dst, false, &inside, &why);
  sim_udp *u = NULL;

  unlink_flight(f);
  if (h != NULL) {
    why = refused_by(f, h);
    u = why == NULL ? socket_for(h, &inside) : NULL;
    why = why == NULL && u == NULL ? "no socket" : why;
  }
  sim_tap_event ev = {.kind = SIM_TAP_RECEIVED,
                      .host = u != NULL ? h : f->from,
                      .socket = u,
                      .from = f->from,
                      .socket_serial = f->serial,
                      .src = f->src,
                      .sent_to = f->dst,
                      .dst = u != NULL ? inside : f->dst,
                      .bytes = f->bytes,
                      .len = f->len};
  if (u == NULL) {
    lose(n, &ev, why);
  } else {
    tap(n, &ev);
    u->cb(u->ctx, &f->src, &inside, f->bytes, f->len);
  }
  free(f);
}

/* --- sending --- */

static uint64_t arrival_us(sim_net *n, const sim_host *from, const sim_host *to, bool lan) {
  uint64_t at_us = sim_world_now_us(n->w) + sim_net_delay(n, from, to, lan);
  const sim_link *a = &from->up, *b = to != NULL ? &to->down : &from->up;

  if (to == NULL || lan) {
    return at_us;
  }
  if (sim_rng_chance(&n->rng, a->reorder_permille) ||
      sim_rng_chance(&n->rng, b->reorder_permille)) {
    return at_us + sim_rng_below(&n->rng, 1 + (a->reorder_us > b->reorder_us ? a->reorder_us
                                                                             : b->reorder_us));
  }
  if (a->jitter_us != 0 || b->jitter_us != 0) { /* jitter alone keeps the order */
    sim_pair *p = sim_net_make_pair(n, from, to);
    at_us = at_us > p->last_us ? at_us : p->last_us;
    p->last_us = at_us;
  }
  return at_us;
}

static const char *lost_on_the_way(sim_net *n, const sim_host *from, const sim_host *to,
                                   const msock_addr *dst, const uint8_t *bytes, size_t len) {
  const sim_pair *p = to != NULL ? sim_net_pair(n, from, to) : NULL;
  const size_t whole = len + (dst->ip.family == 6 ? 48u : SIM_UDP_OVERHEAD);

  if (from->up.udp_blocked) {
    return "UDP is blocked at the sender";
  }
  if (p != NULL && p->has_link && p->link.udp_blocked) {
    return "UDP is blocked between the two";
  }
  if (p != NULL && p->has_link && p->link.dropped != NULL && p->link.dropped(bytes, len)) {
    return "a firewall does not like it";
  }
  if ((from->up.mtu_bytes != 0 && whole > from->up.mtu_bytes) ||
      (p != NULL && p->has_link && p->link.mtu_bytes != 0 && whole > p->link.mtu_bytes)) {
    return "too long for the path";
  }
  return sim_rng_chance(&n->rng, sim_net_loss_permille(n, from, to)) ? "lost" : NULL;
}

static void fly(sim_net *n, const sim_climb *c, const msock_addr *dst, const sim_tap_event *ev,
                uint64_t at_us) {
  sim_flight *f = malloc(sizeof *f + ev->len);
  assert(f != NULL);
  f->net = n;
  f->from = ev->host;
  f->serial = ev->socket_serial;
  f->realm = c->realm;
  f->src = c->src;
  f->dst = *dst;
  f->lan = c->lan;
  f->len = ev->len;
  memcpy(f->bytes, ev->bytes, ev->len);
  f->prev = NULL;
  f->next = n->flights;
  if (f->next != NULL) {
    f->next->prev = f;
  }
  n->flights = f;
  sim_event_init(&f->arrival, arrive, f);
  sim_world_set(n->w, &f->arrival, at_us);
}

static int refusal(const sim_udp *u, const msock_addr *to, size_t len, const sim_interface **via) {
  const sim_host *h = u->host;
  const sim_link *l = &h->up;
  const size_t whole = len + (to->ip.family == 6 ? 48u : SIM_UDP_OVERHEAD);
  const msock_ip fixed = msock_ip_is_unspecified(&u->local.ip) ? (msock_ip){0} : u->local.ip;
  int error = 0;

  if (to->port == 0) {
    return EINVAL;
  }
  if (to->ip.family == 6 && u->local.ip.family == 4) {
    return EAFNOSUPPORT;
  }
  if (l->udp_refused) {
    return EPERM;
  }
  if (whole > SIM_DATAGRAM_MAX + SIM_UDP_OVERHEAD ||
      (l->mtu_known && l->mtu_bytes != 0 && whole > l->mtu_bytes)) {
    return EMSGSIZE;
  }
  *via = sim_host_route(h, to, &fixed, &error);
  return *via == NULL ? error : 0;
}

int sim_udp_send(sim_udp *u, const msock_addr *to, const uint8_t *bytes, size_t len) {
  sim_host *h = u->host;
  sim_net *n = h->net;
  const sim_interface *via = NULL;
  const int error = refusal(u, to, len, &via);
  msock_addr ignored;
  const char *why = NULL;
  sim_climb c;

  if (error != 0) {
    return error;
  }
  sim_tap_event ev = {.kind = SIM_TAP_SENT,
                      .host = h,
                      .socket = u,
                      .from = h,
                      .socket_serial = u->serial,
                      .src = {.ip = via->ip, .port = u->local.port},
                      .dst = *to,
                      .sent_to = *to,
                      .bytes = bytes,
                      .len = len};
  tap(n, &ev);
  if (!h->on) {
    lose(n, &ev, "sender is off");
    return 0;
  }
  sim_net_climb(n, via->realm, SIM_UDP, &ev.src, to, &c);
  if (c.lost != NULL) {
    lose(n, &ev, c.lost);
    return 0;
  }
  sim_host *guess = sim_net_descend(n, c.realm, SIM_UDP, &c.src, to, true, &ignored, &why);
  why = c.lan ? NULL : lost_on_the_way(n, h, guess, to, bytes, len);
  if (why != NULL) {
    lose(n, &ev, why);
    return 0;
  }
  fly(n, &c, to, &ev, arrival_us(n, h, guess, c.lan));
  return 0;
}
