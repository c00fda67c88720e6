#include "tests/sim/observer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "disco/disco.h"

#define KEPT_US (30 * MSOCK_SEC) /* of a ping; engines forget theirs after 5 s */
#define BUCKETS 1024u

typedef struct identity {
  uint32_t node;
  msock_disco_identity keys;
} identity;

/* A ping under way, or one that came in and may be answered. */
typedef struct ping {
  struct ping *next;
  uint8_t txid[MSOCK_DISCO_TXID_LEN];
  bool came_in;
  uint32_t from, to; /* identities */
  msock_addr addr;   /* sent to; came from */
  uint64_t at_us;
} ping;

struct sim_observer {
  sim_world *w;
  identity id[SIM_OBSERVER_KEYS];
  uint32_t n;
  msock_disco_shared *shared[SIM_OBSERVER_KEYS][SIM_OBSERVER_KEYS]; /* [holder][other] */
  ping *pings[BUCKETS];
  uint32_t last_to[SIM_OBSERVER_KEYS]; /* whom a key wrote to last: tried first */
};

sim_observer *sim_observer_new(sim_world *w) {
  sim_observer *o = calloc(1, sizeof *o);
  assert(o != NULL);
  o->w = w;
  return o;
}

void sim_observer_free(sim_observer *o) {
  for (uint32_t i = 0; i < o->n; i++) {
    for (uint32_t j = 0; j < o->n; j++) {
      free(o->shared[i][j]);
    }
  }
  for (uint32_t i = 0; i < BUCKETS; i++) {
    while (o->pings[i] != NULL) {
      ping *p = o->pings[i];
      o->pings[i] = p->next;
      free(p);
    }
  }
  free(o);
}

void sim_observer_learn(sim_observer *o, uint32_t node, const msock_disco_private *key) {
  assert(o->n < SIM_OBSERVER_KEYS);
  o->id[o->n++] = (identity){.node = node, .keys = msock_disco_identity_of(key)};
}

static uint32_t find(const sim_observer *o, const msock_disco_key *key) {
  uint32_t i = o->n;
  while (i-- > 0 && !msock_disco_key_equal(&o->id[i].keys.key, key)) {
  }
  return i; /* UINT32_MAX: nobody's */
}

/* The node's key of now. */
static uint32_t current(const sim_observer *o, uint32_t node) {
  uint32_t i = o->n;
  while (i-- > 0 && o->id[i].node != node) {
  }
  return i;
}

static const msock_disco_shared *shared(sim_observer *o, uint32_t holder, uint32_t other) {
  msock_disco_shared **s = &o->shared[holder][other];
  if (*s == NULL) {
    *s = calloc(1, sizeof **s);
    assert(*s != NULL);
    const msock_err e = msock_disco_shared_init(*s, &o->id[holder].keys, &o->id[other].keys.key);
    assert(e == MSOCK_OK);
    (void)e;
  }
  return *s;
}

/* --- pings --- */

static ping **bucket(sim_observer *o, const uint8_t *txid) {
  return &o->pings[(txid[0] | (uint32_t)txid[1] << 8) % BUCKETS];
}

static void keep(sim_observer *o, const ping *x) {
  ping **at = bucket(o, x->txid);
  for (ping **p = at; *p != NULL;) {
    if ((*p)->at_us + KEPT_US < sim_world_now_us(o->w)) {
      ping *old = *p;
      *p = old->next;
      free(old);
    } else {
      p = &(*p)->next;
    }
  }
  ping *p = malloc(sizeof *p);
  assert(p != NULL);
  *p = *x;
  p->next = *at;
  *at = p;
}

static const ping *look_up(sim_observer *o, const uint8_t *txid, bool came_in, uint32_t from,
                           uint32_t to) {
  for (const ping *p = *bucket(o, txid); p != NULL; p = p->next) {
    if (memcmp(p->txid, txid, sizeof p->txid) == 0 && p->came_in == came_in && p->from == from &&
        p->to == to) {
      return p;
    }
  }
  return NULL;
}

/* --- datagrams --- */

typedef struct opened {
  uint32_t from, to; /* identities */
  size_t len;
  uint8_t text[2048];
} opened;

static bool open_for(sim_observer *o, uint32_t from, uint32_t to, const uint8_t *p, size_t len,
                     opened *out) {
  if (from == to) {
    return false;
  }
  const ptrdiff_t n = msock_disco_open(shared(o, to, from), p, len, out->text, sizeof out->text);
  out->from = from;
  out->to = to;
  out->len = n < 0 ? 0 : (size_t)n;
  return n >= 0;
}

static bool open_any(sim_observer *o, uint32_t from, const uint8_t *p, size_t len, opened *out) {
  if (open_for(o, from, o->last_to[from], p, len, out)) {
    return true;
  }
  for (uint32_t to = o->n; to-- > 0;) {
    if (open_for(o, from, to, p, len, out)) {
      o->last_to[from] = to;
      return true;
    }
  }
  return false;
}

sim_disco_sent sim_observer_sent(sim_observer *o, uint32_t node, const msock_addr *dst,
                                 const uint8_t *p, size_t len) {
  msock_disco_key key;
  opened m;
  msock_disco_ping in;
  msock_disco_pong out;

  const uint32_t from = msock_disco_sender(p, len, &key) ? find(o, &key) : UINT32_MAX;
  if (from == UINT32_MAX || o->id[from].node != node) {
    return SIM_DISCO_NOT_ITS_KEY;
  }
  if (!open_any(o, from, p, len, &m)) {
    return SIM_DISCO_UNOPENED;
  }
  if (msock_disco_decode_ping(m.text, m.len, &in) == MSOCK_OK) {
    ping x = {.from = from, .to = m.to, .addr = *dst, .at_us = sim_world_now_us(o->w)};
    memcpy(x.txid, in.txid, sizeof x.txid);
    keep(o, &x);
    return SIM_DISCO_PING;
  }
  if (msock_disco_decode_pong(m.text, m.len, &out) != MSOCK_OK) {
    return SIM_DISCO_OTHER;
  }
  const ping *asked = look_up(o, out.txid, true, m.to, from);
  return asked != NULL && msock_addr_equal(&asked->addr, dst) ? SIM_DISCO_ANSWER
                                                              : SIM_DISCO_UNASKED;
}

bool sim_observer_received(sim_observer *o, uint32_t node, const msock_addr *src, const uint8_t *p,
                           size_t len, uint32_t *peer, msock_addr *addr) {
  msock_disco_key key;
  opened m;
  msock_disco_ping in;
  msock_disco_pong out;
  const uint32_t from = msock_disco_sender(p, len, &key) ? find(o, &key) : UINT32_MAX;
  const uint32_t to = current(o, node);

  if (from == UINT32_MAX || to == UINT32_MAX || !open_for(o, from, to, p, len, &m)) {
    return false;
  }
  if (msock_disco_decode_ping(m.text, m.len, &in) == MSOCK_OK) {
    ping x = {
        .came_in = true, .from = from, .to = to, .addr = *src, .at_us = sim_world_now_us(o->w)};
    memcpy(x.txid, in.txid, sizeof x.txid);
    keep(o, &x);
    return false;
  }
  if (msock_disco_decode_pong(m.text, m.len, &out) != MSOCK_OK) {
    return false;
  }
  const ping *mine = look_up(o, out.txid, false, to, from);
  if (mine == NULL) {
    return false;
  }
  *peer = o->id[from].node;
  *addr = mine->addr;
  return true;
}
