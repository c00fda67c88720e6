/* tests/unit/wg_rig.h: two WireGuard engines back to back on virtual time.
 *
 * Every message an end sends is kept in its outbox; a test delivers it, loses it, holds it, or lets
 * rig_settle deliver everything in order. Counts DHs and allocations of the rooms under test: the
 * programs that include this are linked with --wrap (meson.build). */
#ifndef MSOCK_TESTS_WG_RIG_H
#define MSOCK_TESTS_WG_RIG_H

#include <stdlib.h>
#include <string.h>

#include "crypto/x25519.h"
#include "tests/unit/testing.h"
#include "wg/engine_internal.h"
#include "wg/wg.h"

#define RIG_MSG_MAX 2048u
#define RIG_OUTBOX 256u
#define RIG_START_US (1000 * MSOCK_SEC)
#define RIG_WALL_US (UINT64_C(1700000000) * MSOCK_SEC)

typedef struct rig_msg {
  msock_wg_output_kind kind;
  size_t len;
  msock_wg_source source; /* cookies: where to */
  uint8_t b[RIG_MSG_MAX];
} rig_msg;

typedef struct rig_end {
  msock_wg *wg;
  testing_rng rng;
  msock_env env;
  msock_node_private key;
  msock_node_key pub;
  uint32_t peer; /* the other end */
  msock_ip ip;
  msock_wg_source source; /* as the other end sees it */
  rig_msg out[RIG_OUTBOX];
  size_t n_out;
  size_t sent[8];   /* by msock_wg_output_kind; sealed packets count as data */
  size_t events[8]; /* by msock_wg_event_kind */
  msock_wg_event last_hint;
  size_t plain; /* packets delivered */
  uint8_t last_plain[RIG_MSG_MAX];
  size_t last_len;
} rig_end;

typedef struct rig {
  uint64_t now, wall;
  rig_end a, b;
} rig;

/* What the wrapped functions count. */
static size_t rig_dh, rig_allocations;

msock_err __real_msock_x25519(uint8_t *out, const uint8_t *scalar, const uint8_t *point);
msock_err __wrap_msock_x25519(uint8_t *out, const uint8_t *scalar, const uint8_t *point);
msock_err __wrap_msock_x25519(uint8_t *out, const uint8_t *scalar, const uint8_t *point) {
  rig_dh++;
  return __real_msock_x25519(out, scalar, point);
}

/* A test may watch blocks come and go. */
static void (*rig_on_alloc)(void *p, size_t len);
static void (*rig_on_free)(void *p);

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static void *rig_note(void *p, size_t len) {
  rig_allocations++;
  if (rig_on_alloc != NULL && p != NULL) {
    rig_on_alloc(p, len);
  }
  return p;
}
void *__wrap_malloc(size_t n) {
  return rig_note(__real_malloc(n), n);
}
void *__wrap_calloc(size_t n, size_t size) {
  return rig_note(__real_calloc(n, size), n * size);
}
/* For a watcher the old block goes, looked at while it is still there, and a new one comes. */
void *__wrap_realloc(void *p, size_t n) {
  if (rig_on_free != NULL && p != NULL) {
    rig_on_free(p);
  }
  return rig_note(__real_realloc(p, n), n);
}
void __wrap_free(void *p) {
  if (rig_on_free != NULL && p != NULL) {
    rig_on_free(p);
  }
  __real_free(p);
}

static inline void rig_end_init(rig_end *e, uint64_t seed, uint8_t host, uint16_t port) {
  memset(e, 0, sizeof *e);
  e->env = testing_env(&e->rng, seed);
  msock_node_private_generate(&e->env, &e->key);
  e->pub = msock_node_private_public(&e->key);
  e->ip = msock_ip_v4(100, 64, 0, host);
  e->source = (msock_wg_source){.addr = {.ip = msock_ip_v4(192, 0, 2, host), .port = port}};
  e->wg = msock_wg_new(&e->env, &e->key, NULL);
  ck_assert_ptr_nonnull(e->wg);
}

static inline void rig_end_knows(rig_end *e, const rig_end *other, const uint8_t *psk) {
  ck_assert_int_eq(msock_wg_peer_add(e->wg, &other->pub, psk, &e->peer), MSOCK_OK);
  const msock_wg_route route = {{other->ip, 32}, e->peer};
  ck_assert_int_eq(msock_wg_set_allowed_ips(e->wg, &route, 1), MSOCK_OK);
}

static inline rig *rig_new(const uint8_t *psk) {
  rig *r = calloc(1, sizeof *r);
  ck_assert_ptr_nonnull(r);
  r->now = RIG_START_US;
  r->wall = RIG_WALL_US;
  rig_end_init(&r->a, 1, 1, 41641);
  rig_end_init(&r->b, 2, 2, 51820);
  rig_end_knows(&r->a, &r->b, psk);
  rig_end_knows(&r->b, &r->a, psk);
  return r;
}

static inline void rig_free(rig *r) {
  msock_wg_free(r->a.wg);
  msock_wg_free(r->b.wg);
  free(r);
}

static inline rig_end *rig_other(rig *r, const rig_end *e) {
  return e == &r->a ? &r->b : &r->a;
}

static inline const msock_wg_counters *rig_counters(const rig_end *e) {
  return msock_wg_counters_get(e->wg);
}

static inline msock_wg_active *rig_active(const rig_end *e) {
  return msock_wg_peers_get(&e->wg->peers, e->peer)->active;
}

static inline void rig_keep(rig_end *e, msock_wg_output_kind kind, const uint8_t *b, size_t len) {
  ck_assert_uint_lt(e->n_out, RIG_OUTBOX);
  rig_msg *m = &e->out[e->n_out++];
  m->kind = kind;
  m->len = len;
  memcpy(m->b, b, len);
  e->sent[kind]++;
}

/* Polls outputs into the outbox and counts events. */
static inline void rig_poll(rig *r, rig_end *e) {
  uint8_t buf[RIG_MSG_MAX];
  msock_wg_output out;
  msock_wg_event ev;
  size_t len = 0;

  while ((len = msock_wg_next_output(e->wg, r->now, r->wall, &out, buf, sizeof buf)) > 0) {
    rig_keep(e, out.kind, buf, len);
    e->out[e->n_out - 1].source = out.source;
  }
  while (msock_wg_next_event(e->wg, &ev)) {
    e->events[ev.kind]++;
    if (ev.kind == MSOCK_WG_EV_AUTHENTICATED) {
      e->last_hint = ev;
    }
  }
}

/* One datagram into `to`, as if from source; kept plaintext in to->last_plain. */
static inline msock_wg_result rig_inject(rig *r, rig_end *to, const msock_wg_source *source,
                                         const uint8_t *b, size_t len) {
  uint8_t buf[MSOCK_PACKET_HEADROOM + RIG_MSG_MAX + MSOCK_PACKET_TAILROOM];
  msock_packet p = {.buf = buf, .cap = sizeof buf, .off = MSOCK_PACKET_HEADROOM};
  msock_wg_result result;

  memcpy(buf + p.off, b, len);
  p.len = (uint32_t)len;
  msock_wg_open(to->wg, r->now, r->wall, source, &p, 1, &result);
  if (result.kind == MSOCK_WG_PLAIN) {
    to->plain++;
    to->last_len = p.len;
    memcpy(to->last_plain, msock_packet_data(&p), p.len);
  }
  return result;
}

static inline msock_wg_result rig_deliver(rig *r, rig_end *from, const rig_msg *m) {
  return rig_inject(r, rig_other(r, from), &from->source, m->b, m->len);
}

/* Takes the oldest message out of the outbox. */
static inline rig_msg rig_take(rig_end *e) {
  ck_assert_uint_gt(e->n_out, 0);
  const rig_msg m = e->out[0];
  e->n_out--;
  memmove(&e->out[0], &e->out[1], e->n_out * sizeof *e->out);
  return m;
}

/* Delivers everything in both outboxes, and what comes of it, until all is quiet. */
static inline void rig_settle(rig *r) {
  rig_poll(r, &r->a);
  rig_poll(r, &r->b);
  while (r->a.n_out + r->b.n_out > 0) {
    rig_end *from = r->a.n_out > 0 ? &r->a : &r->b;
    const rig_msg m = rig_take(from);
    rig_deliver(r, from, &m);
    rig_poll(r, &r->a);
    rig_poll(r, &r->b);
  }
}

/* An IPv4 packet of len bytes (>= 20), filled with mark. */
static inline void rig_packet(uint8_t *p, size_t len, const msock_ip *src, const msock_ip *dst,
                              uint8_t mark) {
  memset(p, mark, len);
  p[0] = 0x45;
  p[2] = (uint8_t)(len >> 8);
  p[3] = (uint8_t)len;
  memcpy(p + 12, src->b, 4);
  memcpy(p + 16, dst->b, 4);
}

/* Seals one packet to an address; the datagram goes to the outbox. False: staged or dropped. */
static inline bool rig_send_to(rig *r, rig_end *e, const msock_ip *dst, size_t len, uint8_t mark) {
  uint8_t buf[MSOCK_PACKET_HEADROOM + RIG_MSG_MAX + MSOCK_PACKET_TAILROOM];
  msock_packet p = {
      .buf = buf, .cap = sizeof buf, .off = MSOCK_PACKET_HEADROOM, .len = (uint32_t)len};
  uint32_t peer = 0;

  rig_packet(buf + p.off, len, &e->ip, dst, mark);
  msock_wg_seal(e->wg, r->now, &p, 1, &peer);
  if (peer == MSOCK_WG_PEER_NONE) {
    return false;
  }
  ck_assert_uint_eq(peer, e->peer);
  rig_keep(e, MSOCK_WG_OUT_DATA, msock_packet_data(&p), p.len);
  return true;
}

static inline bool rig_send(rig *r, rig_end *e, uint8_t mark) {
  return rig_send_to(r, e, &rig_other(r, e)->ip, 84, mark);
}

static inline void rig_expire(rig *r, rig_end *e) {
  msock_wg_on_expiry(e->wg, r->now, r->wall);
  rig_poll(r, e);
}

/* Moves both clocks. */
static inline void rig_at(rig *r, uint64_t now) {
  ck_assert_uint_ge(now, r->now);
  r->wall += now - r->now;
  r->now = now;
}

/* Steps through every deadline of both ends up to t, then stands at t; nothing is delivered. */
static inline void rig_run_silent(rig *r, uint64_t t) {
  rig_poll(r, &r->a);
  rig_poll(r, &r->b);
  for (;;) {
    const uint64_t ea = msock_wg_next_expiry(r->a.wg), eb = msock_wg_next_expiry(r->b.wg);
    const uint64_t next = ea < eb ? ea : eb;
    if (next > t) {
      break;
    }
    rig_at(r, next > r->now ? next : r->now);
    rig_expire(r, &r->a);
    rig_expire(r, &r->b);
  }
  rig_at(r, t);
}

/* The same with a perfect wire. */
static inline void rig_run(rig *r, uint64_t t) {
  rig_settle(r);
  for (;;) {
    const uint64_t ea = msock_wg_next_expiry(r->a.wg), eb = msock_wg_next_expiry(r->b.wg);
    const uint64_t next = ea < eb ? ea : eb;
    if (next > t) {
      break;
    }
    rig_at(r, next > r->now ? next : r->now);
    rig_expire(r, &r->a);
    rig_expire(r, &r->b);
    rig_settle(r);
  }
  rig_at(r, t);
}

/* A session that a began, both ways confirmed, nothing unanswered. */
static inline rig *rig_connected(const uint8_t *psk) {
  rig *r = rig_new(psk);
  msock_wg_peer_open_session(r->a.wg, r->now, r->a.peer);
  rig_settle(r);
  ck_assert_uint_eq(r->a.events[MSOCK_WG_EV_SESSION_UP], 1);
  ck_assert_uint_eq(r->b.events[MSOCK_WG_EV_SESSION_UP], 1);
  return r;
}

static inline bool rig_has_session(const rig *r, const rig_end *e) {
  msock_wg_peer_status st;
  ck_assert_int_eq(msock_wg_peer_status_get(e->wg, r->now, e->peer, &st), MSOCK_OK);
  return st.has_session;
}

#endif
