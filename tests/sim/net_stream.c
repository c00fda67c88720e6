/* Streams: bytes in order, late by what a retransmission costs, stalled while there is no way. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/net_internal.h"

#define RTO_MIN_US (200 * MSOCK_MS) /* Linux' TCP_RTO_MIN */
#define SYN_RETRY_US (1 * MSOCK_SEC)
#define SEGMENT_MAX 16384u

typedef struct segment {
  struct segment *next;
  uint64_t arrive_us;
  bool fin;
  size_t len;
  uint8_t bytes[];
} segment;

typedef struct segments {
  segment *first, **last;
  size_t bytes;
} segments;

typedef struct sim_conn sim_conn;
struct sim_stream {
  sim_stream *next, **self; /* of the host */
  sim_conn *conn;
  sim_host *host;
  msock_addr local, remote;
  sim_stream_handlers on;
  void *ctx;
  bool owned;               /* somebody will free it */
  bool dead;                /* failed: nothing moves any more */
  bool told;                /* closed was called */
  bool finished;            /* the end of our bytes is in the queue */
  bool paused, fin_arrived; /* reading */
  bool wants_room;          /* a write was not taken whole */
  int error;
  segments out, in;
  uint64_t stalled_us; /* since when the first segment of out is tried in vain; 0: it is not */
  uint64_t retry_us;
  uint64_t last_us; /* when the last segment that was sent arrives */
  sim_event deliver, read, close, room, reset;
};

struct sim_conn {
  sim_net *net;
  sim_stream end[2]; /* 0 dialled */
  msock_addr seen;   /* how the dialling end looks from the other */
  bool lan, up, cut;
  uint64_t dial_us, syn_retry_us;
  sim_event syn, connected, reap;
};

struct sim_listener {
  sim_listener *next, **self;
  sim_host *host;
  msock_addr at;
  void (*accepted)(void *ctx, sim_stream *s, const msock_addr *peer);
  void *ctx;
};

static sim_world *world_of(const sim_stream *s) {
  return s->conn->net->w;
}

static sim_stream *other(const sim_stream *s) {
  return &s->conn->end[s == &s->conn->end[0]];
}

/* --- segments --- */

static void append(segments *q, segment *x) {
  x->next = NULL;
  if (q->first == NULL) {
    q->last = &q->first;
  }
  *q->last = x;
  q->last = &x->next;
  q->bytes += x->len;
}

static segment *take(segments *q) {
  segment *x = q->first;
  q->first = x->next;
  q->bytes -= x->len;
  return x;
}

static void clear(segments *q) {
  while (q->first != NULL) {
    free(take(q));
  }
}

/* --- the end --- */

static void reap(void *ctx) {
  sim_conn *c = ctx;
  for (int i = 0; i < 2; i++) {
    sim_stream *s = &c->end[i];
    sim_event *events[] = {&s->deliver, &s->read, &s->close, &s->room, &s->reset};
    for (size_t k = 0; k < sizeof events / sizeof *events; k++) {
      sim_world_cancel(c->net->w, events[k]);
    }
    clear(&s->out);
    clear(&s->in);
    if (s->self != NULL) {
      *s->self = s->next;
      if (s->next != NULL) {
        s->next->self = s->self;
      }
    }
  }
  sim_world_cancel(c->net->w, &c->syn);
  sim_world_cancel(c->net->w, &c->connected);
  sim_world_cancel(c->net->w, &c->reap);
  free(c);
}

/* Nobody holds it and nothing is under way: the memory goes, in an event of its own. */
static void perhaps_reap(sim_conn *c) {
  for (int i = 0; i < 2; i++) {
    if (c->end[i].owned || (!c->end[i].dead && c->end[i].out.first != NULL)) {
      return;
    }
  }
  if (!sim_event_is_set(&c->reap)) {
    sim_world_set(c->net->w, &c->reap, sim_world_now_us(c->net->w));
  }
}

static void tell_closed(void *ctx) {
  sim_stream *s = ctx;
  if (s->owned && !s->told) {
    s->told = true;
    s->on.closed(s->ctx, s->error);
  }
}

static void fail(sim_stream *s, int error) {
  if (s->dead || s->host == NULL) {
    return;
  }
  s->dead = true;
  s->error = error;
  clear(&s->out);
  clear(&s->in);
  sim_world_cancel(world_of(s), &s->deliver);
  sim_world_cancel(world_of(s), &s->read);
  sim_world_cancel(world_of(s), &s->room);
  sim_world_set(world_of(s), &s->close, sim_world_now_us(world_of(s)));
  perhaps_reap(s->conn);
}

static void fail_reset(void *ctx) {
  fail(ctx, ECONNRESET);
}

/* The host of `from` answers a segment that nobody wants. */
static void send_reset(const sim_stream *from) {
  sim_stream *to = other(from);
  if (!to->dead && !sim_event_is_set(&to->reset)) {
    sim_world_set(world_of(from), &to->reset,
                  sim_world_now_us(world_of(from)) +
                      sim_net_delay(from->conn->net, from->host, to->host, from->conn->lan));
  }
}

/* --- is there a way? --- */

typedef enum way { WAY_OPEN, WAY_STUCK, WAY_GONE } way;

static bool carried(const sim_conn *c, const sim_host *from, const sim_host *to) {
  const sim_pair *p = sim_net_pair(c->net, from, to);
  return from->on && to->on && !c->cut &&
         (c->lan || (!from->up.tcp_blocked && !to->down.tcp_blocked &&
                     (p == NULL || !p->has_link || !p->link.tcp_blocked)));
}

static sim_realm *realm_of(const sim_host *h, const msock_ip *ip) {
  for (uint32_t i = 0; i < h->n_interfaces; i++) {
    if (h->interfaces[i].up && msock_ip_equal(&h->interfaces[i].ip, ip)) {
      return h->interfaces[i].realm;
    }
  }
  return NULL;
}

/* For one packet of s, now. */
static way look(const sim_stream *s) {
  const sim_conn *c = s->conn;
  const sim_stream *to = other(s);
  const bool dialler = s == &c->end[0];
  sim_realm *from = realm_of(s->host, &s->local.ip);
  const char *why;
  msock_addr inside;
  sim_climb out;

  if (!carried(c, s->host, to->host) || from == NULL) {
    return WAY_STUCK;
  }
  const msock_addr dst = dialler ? s->remote : c->seen;
  sim_net_climb(c->net, from, SIM_TCP, &s->local, &dst, &out);
  if (out.lost != NULL) {
    return WAY_STUCK;
  }
  if (dialler && !msock_addr_equal(&out.src, &c->seen)) {
    return WAY_GONE; /* a new mapping: the other end knows no such connection */
  }
  sim_host *h = sim_net_descend(c->net, out.realm, SIM_TCP, &out.src, &dst, false, &inside, &why);
  return h == to->host && msock_addr_equal(&inside, &to->local) ? WAY_OPEN : WAY_STUCK;
}

/* --- bytes --- */

static void tell_room(void *ctx) {
  sim_stream *s = ctx;
  if (!s->dead && s->wants_room && s->owned && !s->told) {
    s->wants_room = false;
    s->on.writable(s->ctx);
  }
}

static size_t used(const sim_stream *s) {
  return s->out.bytes + other(s)->in.bytes;
}

static void perhaps_room(sim_stream *s) {
  if (s->wants_room && used(s) <= SIM_STREAM_WINDOW / 2 && !sim_event_is_set(&s->room)) {
    sim_world_set(world_of(s), &s->room,
                  sim_world_now_us(world_of(s)) +
                      sim_net_delay(s->conn->net, other(s)->host, s->host, s->conn->lan));
  }
}

static void read_on(void *ctx) {
  sim_stream *s = ctx;
  while (s->in.first != NULL && !s->paused && s->owned && !s->dead && !s->told) {
    segment *x = take(&s->in);
    s->on.readable(s->ctx, x->bytes, x->len);
    free(x);
  }
  perhaps_room(other(s));
  if (s->in.first == NULL && s->fin_arrived && !s->paused && s->owned && !s->dead && !s->told) {
    s->told = true;
    s->on.closed(s->ctx, 0);
  }
}

static void arrives(sim_stream *s, segment *x) {
  if (x->fin) {
    s->fin_arrived = true;
    free(x);
  } else if (s->dead || !s->owned || s->told) {
    send_reset(s);
    free(x);
    return;
  } else {
    append(&s->in, x);
  }
  read_on(s);
}

static void next_delivery(sim_stream *s) {
  sim_world_set(world_of(s), &s->deliver,
                s->dead || s->out.first == NULL || !s->conn->up ? MSOCK_NEVER
                                                                : s->out.first->arrive_us);
}

static void stall(sim_stream *s) {
  const uint64_t now_us = sim_world_now_us(world_of(s));
  s->stalled_us = s->stalled_us != 0 ? s->stalled_us : now_us;
  if (now_us - s->stalled_us >= SIM_STREAM_USER_TIMEOUT_US) {
    fail(s, ETIMEDOUT);
    return;
  }
  s->retry_us = s->retry_us == 0 ? RTO_MIN_US : 2 * s->retry_us;
  s->retry_us = s->retry_us > SIM_STREAM_RETRY_US ? SIM_STREAM_RETRY_US : s->retry_us;
  sim_world_set(world_of(s), &s->deliver, now_us + s->retry_us);
}

static void deliver(void *ctx) {
  sim_stream *s = ctx;
  sim_conn *c = s->conn;

  switch (look(s)) {
  case WAY_GONE:
    sim_world_set(c->net->w, &s->reset,
                  sim_world_now_us(c->net->w) +
                      sim_net_delay(c->net, other(s)->host, s->host, c->lan));
    return;
  case WAY_STUCK:
    stall(s);
    return;
  case WAY_OPEN:
    break;
  }
  s->stalled_us = s->retry_us = 0;
  segment *x = take(&s->out);
  next_delivery(s);
  arrives(other(s), x);
  perhaps_room(s);
  perhaps_reap(c);
}

/* When a segment that is sent now arrives: loss costs a round trip or the retransmission timer,
 * whichever is longer, and more each time. */
static uint64_t arrival_us(const sim_stream *s) {
  sim_net *n = s->conn->net;
  const sim_host *from = s->host, *to = other(s)->host;
  uint64_t late_us = sim_net_delay(n, from, to, s->conn->lan);
  uint64_t timer_us = 2 * late_us > RTO_MIN_US ? 2 * late_us : RTO_MIN_US;

  while (!s->conn->lan && timer_us < SIM_STREAM_RETRY_US &&
         sim_rng_chance(&n->rng, sim_net_loss_permille(n, from, to))) {
    late_us += timer_us;
    timer_us *= 2;
  }
  return sim_world_now_us(n->w) + late_us;
}

static void push(sim_stream *s, const uint8_t *bytes, size_t len, bool fin) {
  segment *x = malloc(sizeof *x + len);
  const bool first = s->out.first == NULL;
  assert(x != NULL);
  x->arrive_us = arrival_us(s);
  x->arrive_us = x->arrive_us > s->last_us ? x->arrive_us : s->last_us;
  s->last_us = x->arrive_us;
  x->fin = fin;
  x->len = len;
  if (len > 0) {
    memcpy(x->bytes, bytes, len);
  }
  append(&s->out, x);
  if (first) {
    next_delivery(s);
  }
}

size_t sim_stream_write(sim_stream *s, const uint8_t *bytes, size_t len) {
  if (s->dead || s->finished) {
    return len; /* into the void: closed tells */
  }
  const size_t room = SIM_STREAM_WINDOW > used(s) ? SIM_STREAM_WINDOW - used(s) : 0;
  const size_t n = len < room ? len : room;
  for (size_t done = 0; done < n;) {
    const size_t part = n - done < SEGMENT_MAX ? n - done : SEGMENT_MAX;
    push(s, bytes + done, part, false);
    done += part;
  }
  s->wants_room = s->wants_room || n < len;
  return n;
}

void sim_stream_pause(sim_stream *s, bool paused) {
  s->paused = paused;
  if (!paused && !s->dead && (s->in.first != NULL || s->fin_arrived)) {
    sim_world_set(world_of(s), &s->read, sim_world_now_us(world_of(s)));
  }
}

void sim_stream_finish(sim_stream *s) {
  if (!s->finished && !s->dead) {
    push(s, NULL, 0, true);
    s->finished = true;
  }
}

void sim_stream_free(sim_stream *s) {
  if (s == NULL) {
    return;
  }
  if (!s->conn->up && s == &s->conn->end[0]) {
    s->dead = true; /* the dial is given up */
  }
  sim_stream_finish(s);
  s->owned = false;
  clear(&s->in);
  perhaps_reap(s->conn);
}

void sim_stream_reset(sim_stream *s) {
  send_reset(s);
  s->dead = true;
  clear(&s->out);
  sim_stream_free(s);
}

msock_addr sim_stream_local(const sim_stream *s) {
  return s->local;
}

msock_addr sim_stream_remote(const sim_stream *s) {
  return s->remote;
}

/* --- listening and dialling --- */

static void init_end(sim_conn *c, sim_stream *s, sim_host *h, const msock_addr *local,
                     const msock_addr *remote) {
  s->conn = c;
  s->host = h;
  s->local = *local;
  s->remote = *remote;
  s->owned = true;
  s->next = h->streams;
  s->self = &h->streams;
  if (s->next != NULL) {
    s->next->self = &s->next;
  }
  h->streams = s;
  sim_event_init(&s->deliver, deliver, s);
  sim_event_init(&s->read, read_on, s);
  sim_event_init(&s->close, tell_closed, s);
  sim_event_init(&s->room, tell_room, s);
  sim_event_init(&s->reset, fail_reset, s);
}

static bool taken(const sim_host *h, uint16_t port) {
  for (const sim_stream *s = h->streams; s != NULL; s = s->next) {
    if (s->local.port == port) {
      return true;
    }
  }
  for (const sim_listener *l = h->listeners; l != NULL; l = l->next) {
    if (l->at.port == port) {
      return true;
    }
  }
  return false;
}

static sim_listener *listener_for(const sim_host *h, const msock_addr *to) {
  for (sim_listener *l = h->listeners; l != NULL; l = l->next) {
    if (l->at.port == to->port &&
        (msock_ip_is_unspecified(&l->at.ip) || msock_ip_equal(&l->at.ip, &to->ip))) {
      return l;
    }
  }
  return NULL;
}

static void refuse(sim_conn *c, const sim_host *by) {
  c->end[0].error = ECONNREFUSED;
  sim_world_set(c->net->w, &c->end[0].close,
                sim_world_now_us(c->net->w) + sim_net_delay(c->net, by, c->end[0].host, c->lan));
  c->end[0].dead = true;
}

static void on_connected(void *ctx) {
  sim_conn *c = ctx;
  sim_stream *s = &c->end[0];
  c->up = true;
  if (s->owned && !s->dead) {
    s->on.connected(s->ctx);
  } else {
    send_reset(s); /* given up in the meantime */
  }
  next_delivery(s);
  next_delivery(&c->end[1]);
}

static void syn(void *ctx);

static void syn_lost(sim_conn *c) {
  const uint64_t now_us = sim_world_now_us(c->net->w);
  if (now_us - c->dial_us >= SIM_STREAM_DIAL_US) {
    fail(&c->end[0], ETIMEDOUT);
    return;
  }
  c->syn_retry_us = c->syn_retry_us == 0 ? SYN_RETRY_US : 2 * c->syn_retry_us;
  sim_event_init(&c->syn, syn, c);
  sim_world_set(c->net->w, &c->syn, now_us + c->syn_retry_us);
}

/* The SYN is at the other side. */
static void syn_arrives(void *ctx) {
  sim_conn *c = ctx;
  sim_stream *s = &c->end[0];
  sim_climb out;
  msock_addr inside;
  const char *why;
  sim_realm *from = realm_of(s->host, &s->local.ip);

  if (s->dead) {
    perhaps_reap(c);
    return;
  }
  if (from == NULL) {
    syn_lost(c);
    return;
  }
  sim_net_climb(c->net, from, SIM_TCP, &s->local, &s->remote, &out);
  sim_host *h = out.lost != NULL ? NULL
                                 : sim_net_descend(c->net, out.realm, SIM_TCP, &out.src, &s->remote,
                                                   false, &inside, &why);
  if (h == NULL || !carried(c, s->host, h) || !carried(c, h, s->host)) {
    syn_lost(c);
    return;
  }
  sim_listener *l = listener_for(h, &inside);
  if (l == NULL) {
    refuse(c, h);
    return;
  }
  c->seen = out.src;
  init_end(c, &c->end[1], h, &inside, &out.src);
  sim_world_set(c->net->w, &c->connected,
                sim_world_now_us(c->net->w) + sim_net_delay(c->net, h, s->host, c->lan));
  l->accepted(l->ctx, &c->end[1], &out.src);
}

static void syn(void *ctx) {
  sim_conn *c = ctx;
  sim_stream *s = &c->end[0];
  int error = 0;
  sim_climb out;
  msock_addr inside;
  const char *why;
  const sim_interface *via = sim_host_route(s->host, &s->remote, &(msock_ip){0}, &error);

  if (via == NULL) {
    fail(s, error);
    return;
  }
  s->local.ip = via->ip;
  sim_net_climb(c->net, via->realm, SIM_TCP, &s->local, &s->remote, &out);
  c->lan = out.lan;
  sim_host *h = out.lost != NULL ? NULL
                                 : sim_net_descend(c->net, out.realm, SIM_TCP, &out.src, &s->remote,
                                                   true, &inside, &why);
  if (h == NULL ||
      (!c->lan && sim_rng_chance(&c->net->rng, sim_net_loss_permille(c->net, s->host, h)))) {
    syn_lost(c);
    return;
  }
  sim_event_init(&c->syn, syn_arrives, c);
  sim_world_set(c->net->w, &c->syn,
                sim_world_now_us(c->net->w) + sim_net_delay(c->net, s->host, h, c->lan));
}

sim_stream *sim_stream_dial(sim_host *h, const msock_addr *to, const sim_stream_handlers *handlers,
                            void *ctx) {
  sim_conn *c = calloc(1, sizeof *c);
  if (c == NULL) {
    return NULL;
  }
  const msock_addr local = {.port = sim_host_ephemeral(h, taken)};
  c->net = h->net;
  c->dial_us = sim_world_now_us(h->net->w);
  init_end(c, &c->end[0], h, &local, to);
  c->end[0].on = *handlers;
  c->end[0].ctx = ctx;
  sim_event_init(&c->syn, syn, c);
  sim_event_init(&c->connected, on_connected, c);
  sim_event_init(&c->reap, reap, c);
  sim_world_set(h->net->w, &c->syn, c->dial_us);
  return &c->end[0];
}

void sim_stream_accept(sim_stream *s, const sim_stream_handlers *handlers, void *ctx) {
  s->on = *handlers;
  s->ctx = ctx;
}

sim_listener *sim_listen(sim_host *h, const msock_addr *on,
                         void (*accepted)(void *ctx, sim_stream *s, const msock_addr *peer),
                         void *ctx) {
  msock_addr at = *on;
  if (at.port == 0) {
    at.port = sim_host_ephemeral(h, taken);
  } else if (listener_for(h, &at) != NULL) {
    errno = EADDRINUSE;
    return NULL;
  }
  sim_listener *l = calloc(1, sizeof *l);
  if (l == NULL) {
    return NULL;
  }
  *l = (sim_listener){.host = h, .at = at, .accepted = accepted, .ctx = ctx};
  l->next = h->listeners;
  l->self = &h->listeners;
  if (l->next != NULL) {
    l->next->self = &l->next;
  }
  h->listeners = l;
  return l;
}

void sim_listener_free(sim_listener *l) {
  if (l == NULL) {
    return;
  }
  *l->self = l->next;
  if (l->next != NULL) {
    l->next->self = l->self;
  }
  free(l);
}

msock_addr sim_listener_addr(const sim_listener *l) {
  return l->at;
}

void sim_host_break_streams(sim_host *h, bool told) {
  for (sim_stream *s = h->streams; s != NULL; s = s->next) {
    if (told) {
      fail(s, ECONNRESET);
      fail(other(s), ECONNRESET);
    } else {
      s->conn->cut = true;
    }
  }
}

void sim_host_free_streams(sim_host *h) {
  while (h->streams != NULL) {
    reap(h->streams->conn);
  }
  while (h->listeners != NULL) {
    sim_listener_free(h->listeners);
  }
}
