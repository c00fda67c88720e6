#include "magicsock/self.h"

#include <stdlib.h>
#include <string.h>

void msock_self_init(msock_self *s) {
  *s = (msock_self){.stun_us = MSOCK_NEVER, .publish_us = MSOCK_NEVER};
}

void msock_self_set_local(msock_self *s, const msock_endpoint *ep, size_t n) {
  s->n_local = n < MSOCK_ENGINE_LOCAL_MAX ? n : MSOCK_ENGINE_LOCAL_MAX;
  for (size_t i = 0; i < s->n_local; i++) {
    s->local[i] = ep[i];
    s->local[i].addr.ip = msock_ip_unmap(ep[i].addr.ip);
  }
}

static void drop_reflexive(msock_self *s, size_t i) {
  s->n_reflexive--;
  memmove(&s->reflexive[i], &s->reflexive[i + 1], (s->n_reflexive - i) * sizeof s->reflexive[0]);
}

/* A server that now sees us elsewhere does not see us at its old address any more. */
static void retract(msock_self *s, const msock_addr *server, const msock_addr *mapped) {
  for (size_t i = s->n_reflexive; i-- > 0;) {
    msock_reflexive *r = &s->reflexive[i];
    if (msock_addr_equal(&r->addr, mapped)) {
      continue;
    }
    for (uint32_t k = 0; k < r->n_servers; k++) {
      if (msock_addr_equal(&r->servers[k], server)) {
        r->servers[k] = r->servers[--r->n_servers];
        r->next_server = r->n_servers % MSOCK_REFLEXIVE_SERVERS_MAX;
        break;
      }
    }
    if (r->n_servers == 0) {
      drop_reflexive(s, i);
    }
  }
}

static void witness(msock_reflexive *r, const msock_addr *server) {
  for (uint32_t k = 0; k < r->n_servers; k++) {
    if (msock_addr_equal(&r->servers[k], server)) {
      return;
    }
  }
  r->servers[r->next_server] = *server;
  r->next_server = (r->next_server + 1) % MSOCK_REFLEXIVE_SERVERS_MAX;
  if (r->n_servers < MSOCK_REFLEXIVE_SERVERS_MAX) {
    r->n_servers++;
  }
}

static msock_reflexive *find_reflexive(msock_self *s, const msock_addr *addr) {
  for (size_t i = 0; i < s->n_reflexive; i++) {
    if (msock_addr_equal(&s->reflexive[i].addr, addr)) {
      return &s->reflexive[i];
    }
  }
  return NULL;
}

bool msock_self_reflexive(msock_self *s, uint64_t now_us, const msock_addr *server,
                          const msock_addr *mapped) {
  const size_t before = s->n_reflexive;
  retract(s, server, mapped);
  const bool moved = s->n_reflexive != before;

  s->stun_us = now_us;
  msock_reflexive *r = find_reflexive(s, mapped);
  const bool news = r == NULL;
  if (news) {
    if (s->n_reflexive == MSOCK_ENGINE_REFLEXIVE_MAX) {
      size_t oldest = 0;
      for (size_t i = 1; i < s->n_reflexive; i++) {
        oldest = s->reflexive[i].last_us < s->reflexive[oldest].last_us ? i : oldest;
      }
      drop_reflexive(s, oldest);
    }
    r = &s->reflexive[s->n_reflexive++];
    *r = (msock_reflexive){.addr = *mapped, .first_us = now_us};
  }
  r->last_us = now_us;
  witness(r, server);
  return news || moved;
}

static bool believed(const msock_self *s, const msock_claim *c) {
  for (size_t i = 0; i < s->n_reflexive; i++) {
    if (msock_ip_equal(&s->reflexive[i].addr.ip, &c->addr.ip)) {
      return true;
    }
  }
  for (size_t i = 0; i < s->n_claims; i++) {
    const msock_claim *other = &s->claims[i];
    if (other->peer_serial != c->peer_serial && msock_addr_equal(&other->addr, &c->addr)) {
      return true;
    }
  }
  return false;
}

bool msock_self_claim(msock_self *s, uint64_t now_us, uint64_t peer_serial,
                      const msock_addr *addr) {
  msock_claim *c = NULL;
  size_t oldest = 0;

  if (!msock_eligible_public(addr)) {
    return false;
  }
  for (size_t i = 0; i < s->n_claims; i++) {
    if (s->claims[i].peer_serial == peer_serial) {
      c = &s->claims[i];
    }
    oldest = s->claims[i].last_us < s->claims[oldest].last_us ? i : oldest;
  }
  if (c == NULL) {
    c = s->n_claims < MSOCK_ENGINE_CLAIMS_MAX ? &s->claims[s->n_claims++] : &s->claims[oldest];
    *c = (msock_claim){0};
  }
  const bool same = msock_addr_equal(&c->addr, addr);
  *c = (msock_claim){.addr = *addr, .peer_serial = peer_serial, .last_us = now_us};
  return !same && believed(s, c);
}

bool msock_self_knows(const msock_self *s, const msock_addr *addr) {
  for (size_t i = 0; i < s->n_reflexive; i++) {
    if (msock_addr_equal(&s->reflexive[i].addr, addr)) {
      return true;
    }
  }
  for (size_t i = 0; i < s->n_local; i++) {
    if (msock_addr_equal(&s->local[i].addr, addr)) {
      return true;
    }
  }
  return false;
}

void msock_self_forget_reflexive(msock_self *s) {
  s->n_reflexive = 0;
  s->n_claims = 0;
  s->stun_us = MSOCK_NEVER;
}

void msock_self_expire(msock_self *s, uint64_t now_us) {
  for (size_t i = s->n_reflexive; i-- > 0;) {
    if (now_us - s->reflexive[i].last_us >= MSOCK_ENGINE_REFLEXIVE_LIFE_US) {
      drop_reflexive(s, i);
    }
  }
  for (size_t i = s->n_claims; i-- > 0;) {
    if (now_us - s->claims[i].last_us >= MSOCK_ENGINE_REFLEXIVE_LIFE_US) {
      s->claims[i] = s->claims[--s->n_claims];
    }
  }
}

bool msock_self_varies(const msock_self *s) {
  for (size_t i = 0; i < s->n_reflexive; i++) {
    for (size_t k = i + 1; k < s->n_reflexive; k++) {
      const msock_reflexive *a = &s->reflexive[i], *b = &s->reflexive[k];
      const uint64_t apart =
          a->last_us > b->last_us ? a->last_us - b->last_us : b->last_us - a->last_us;
      if (a->addr.ip.family == 4 && b->addr.ip.family == 4 && a->addr.port != b->addr.port &&
          apart < MSOCK_ENGINE_VARIES_US) {
        return true;
      }
    }
  }
  return false;
}

/* --- the set --- */

typedef struct set {
  msock_endpoint *at;
  size_t n;
  const msock_eligible *filter;
} set;

static void put(set *out, const msock_addr *addr, msock_endpoint_type type) {
  if (!msock_eligible_addr(out->filter, MSOCK_USE_ADVERTISE, addr)) {
    return;
  }
  for (size_t i = 0; i < out->n; i++) {
    if (msock_addr_equal(&out->at[i].addr, addr)) {
      return;
    }
  }
  if (out->n < MSOCK_ENGINE_SELF_MAX) {
    out->at[out->n++] = (msock_endpoint){.addr = *addr, .type = type};
  }
}

static int order(const void *a, const void *b) {
  const msock_endpoint *x = a, *y = b;
  const int by_ip = msock_ip_compare(&x->addr.ip, &y->addr.ip);
  if (by_ip != 0) {
    return by_ip;
  }
  if (x->addr.port != y->addr.port) {
    return x->addr.port < y->addr.port ? -1 : 1;
  }
  return (x->type > y->type) - (x->type < y->type);
}

static void put_reflexive(const msock_self *s, set *out) {
  for (size_t i = 0; i < s->n_reflexive; i++) {
    put(out, &s->reflexive[i].addr, MSOCK_ENDPOINT_STUN);
  }
  for (size_t i = 0; i < s->n_claims; i++) {
    if (believed(s, &s->claims[i])) {
      put(out, &s->claims[i].addr, MSOCK_ENDPOINT_STUN);
    }
  }
}

size_t msock_self_set(const msock_self *s, const msock_eligible *f, uint16_t local_port,
                      msock_endpoint out[static MSOCK_ENGINE_SELF_MAX]) {
  set made = {.at = out, .filter = f};

  put_reflexive(s, &made);
  for (size_t i = 0; i < s->n_local; i++) {
    if (s->local[i].type != MSOCK_ENDPOINT_LOCAL) {
      put(&made, &s->local[i].addr, s->local[i].type);
    }
  }
  if (local_port != 0 && msock_self_varies(s)) {
    for (size_t i = 0; i < s->n_reflexive; i++) {
      const msock_addr guess = {.ip = s->reflexive[i].addr.ip, .port = local_port};
      if (guess.ip.family == 4) {
        put(&made, &guess, MSOCK_ENDPOINT_STUN4_LOCAL_PORT);
      }
    }
  }
  for (size_t i = 0; i < s->n_local; i++) {
    if (s->local[i].type == MSOCK_ENDPOINT_LOCAL) {
      put(&made, &s->local[i].addr, MSOCK_ENDPOINT_LOCAL);
    }
  }
  qsort(out, made.n, sizeof out[0], order);
  return made.n;
}

bool msock_self_has_reflexive(const msock_self *s, const msock_eligible *f) {
  msock_endpoint at[MSOCK_ENGINE_SELF_MAX];
  set made = {.at = at, .filter = f};
  put_reflexive(s, &made);
  return made.n > 0;
}

/* --- telling control --- */

static bool same_set(const msock_self *s, const msock_endpoint *ep, size_t n) {
  if (n != s->n_published) {
    return false;
  }
  for (size_t i = 0; i < n; i++) {
    if (!msock_addr_equal(&ep[i].addr, &s->published[i].addr) ||
        ep[i].type != s->published[i].type) {
      return false;
    }
  }
  return true;
}

void msock_self_review(msock_self *s, uint64_t now_us, const msock_eligible *f,
                       uint16_t local_port) {
  msock_endpoint ep[MSOCK_ENGINE_SELF_MAX];
  const size_t n = msock_self_set(s, f, local_port, ep);

  if (same_set(s, ep, n)) {
    s->publish_us = MSOCK_NEVER;
    return;
  }
  if (s->publish_us != MSOCK_NEVER) {
    return;
  }
  s->publish_us = now_us + MSOCK_ENGINE_PUBLISH_DEBOUNCE_US;
  if (!msock_budget_has(&s->publications, now_us, MSOCK_ENGINE_PUBLISH_BURST,
                        MSOCK_ENGINE_PUBLISH_US)) {
    s->publish_us = now_us + MSOCK_ENGINE_PUBLISH_US;
  }
}

void msock_self_publish(msock_self *s, uint64_t now_us, const msock_eligible *f,
                        uint16_t local_port) {
  msock_endpoint ep[MSOCK_ENGINE_SELF_MAX];
  const size_t n = msock_self_set(s, f, local_port, ep);

  s->publish_us = MSOCK_NEVER;
  if (same_set(s, ep, n)) {
    return;
  }
  memcpy(s->published, ep, n * sizeof ep[0]);
  s->n_published = n;
  s->publish_now = true;
  msock_budget_spend(&s->publications, now_us, MSOCK_ENGINE_PUBLISH_US);
}
