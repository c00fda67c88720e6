#include "wg/allowed_ips.h"

#include <stdlib.h>
#include <string.h>

#define CAP_MIN 16u
#define HASH_ODD UINT64_C(0x9e3779b97f4a7c15) /* 2^64 / golden ratio: Fibonacci hashing */

static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 32) * HASH_ODD;
  x = (x ^ x >> 29) * HASH_ODD;
  return x ^ x >> 32;
}

static uint32_t load32(const uint8_t *p) {
  uint32_t v = 0;
  memcpy(&v, p, sizeof v);
  return v;
}

static uint32_t slot4(const msock_wg_hosts4 *h, uint64_t seed, uint32_t ip) {
  uint32_t at = (uint32_t)mix(seed ^ ip) & (h->cap - 1);
  while (h->slots[at].peer_id != MSOCK_WG_PEER_NONE && h->slots[at].ip != ip) {
    at = (at + 1) & (h->cap - 1);
  }
  return at;
}

static uint32_t slot6(const msock_wg_hosts6 *h, uint64_t seed, const uint8_t ip[static 16]) {
  uint64_t hi = 0, lo = 0;
  memcpy(&hi, ip, sizeof hi);
  memcpy(&lo, ip + 8, sizeof lo);
  uint32_t at = (uint32_t)mix(mix(seed ^ hi) ^ lo) & (h->cap - 1);
  while (h->slots[at].peer_id != MSOCK_WG_PEER_NONE && memcmp(h->slots[at].ip, ip, 16) != 0) {
    at = (at + 1) & (h->cap - 1);
  }
  return at;
}

/* Slots for n entries at a load of at most three quarters. */
static uint32_t cap_for(size_t n) {
  uint32_t cap = CAP_MIN;
  while ((size_t)cap * 3 / 4 < n) {
    cap *= 2;
  }
  return cap;
}

static msock_err hosts4_init(msock_wg_hosts4 *h, size_t n) {
  *h = (msock_wg_hosts4){0};
  if (n == 0) {
    return MSOCK_OK;
  }
  h->cap = cap_for(n);
  h->slots = malloc(h->cap * sizeof *h->slots);
  if (h->slots == NULL) {
    h->cap = 0;
    return MSOCK_ERR_NOMEM;
  }
  memset(h->slots, 0xff, h->cap * sizeof *h->slots); /* peer_id = MSOCK_WG_PEER_NONE */
  return MSOCK_OK;
}

static msock_err hosts6_init(msock_wg_hosts6 *h, size_t n) {
  *h = (msock_wg_hosts6){0};
  if (n == 0) {
    return MSOCK_OK;
  }
  h->cap = cap_for(n);
  h->slots = malloc(h->cap * sizeof *h->slots);
  if (h->slots == NULL) {
    h->cap = 0;
    return MSOCK_ERR_NOMEM;
  }
  memset(h->slots, 0xff, h->cap * sizeof *h->slots);
  return MSOCK_OK;
}

static void host_put(msock_wg_allowed_ips *t, const msock_ip *ip, uint32_t peer_id) {
  if (ip->family == 4) {
    const uint32_t key = load32(ip->b);
    const uint32_t at = slot4(&t->hosts4, t->seed, key);
    t->hosts4.used += t->hosts4.slots[at].peer_id == MSOCK_WG_PEER_NONE;
    t->hosts4.slots[at].ip = key;
    t->hosts4.slots[at].peer_id = peer_id;
  } else {
    const uint32_t at = slot6(&t->hosts6, t->seed, ip->b);
    t->hosts6.used += t->hosts6.slots[at].peer_id == MSOCK_WG_PEER_NONE;
    memcpy(t->hosts6.slots[at].ip, ip->b, 16);
    t->hosts6.slots[at].peer_id = peer_id;
  }
}

/* Sorting: by family, address, length; equal prefixes by their place in the input. */
typedef struct ordered {
  msock_wg_route route;
  size_t place;
} ordered;

static int by_prefix(const void *a, const void *b) {
  const ordered *x = a, *y = b;
  const int c = msock_ip_compare(&x->route.prefix.ip, &y->route.prefix.ip);
  if (c != 0) {
    return c;
  }
  if (x->route.prefix.bits != y->route.prefix.bits) {
    return x->route.prefix.bits < y->route.prefix.bits ? -1 : 1;
  }
  return x->place < y->place ? -1 : x->place > y->place;
}

static bool is_host(const msock_prefix *p) {
  return p->bits == msock_ip_bits(&p->ip);
}

static bool is_valid(const msock_prefix *p) {
  return (p->ip.family == 4 || p->ip.family == 6) && p->bits <= msock_ip_bits(&p->ip);
}

/* Sorts the nets in place, keeping the later of equal ones; gives how many are left. */
static size_t sort_nets(ordered *nets, size_t n) {
  size_t kept = 0;

  qsort(nets, n, sizeof *nets, by_prefix);
  for (size_t i = 0; i < n; i++) {
    if (kept > 0 && msock_prefix_equal(&nets[kept - 1].route.prefix, &nets[i].route.prefix)) {
      nets[kept - 1] = nets[i];
    } else {
      nets[kept++] = nets[i];
    }
  }
  return kept;
}

/* Takes n sorted nets into an empty t. */
static msock_err adopt_nets(msock_wg_allowed_ips *t, const ordered *nets, size_t n) {
  if (n == 0) {
    return MSOCK_OK;
  }
  t->nets = malloc(n * sizeof *t->nets);
  if (t->nets == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  size_t n4 = 0;
  for (size_t i = 0; i < n; i++) {
    t->nets[i] = nets[i].route;
    n4 += nets[i].route.prefix.ip.family == 4; /* family sorts first */
  }
  t->n_nets = n;
  const msock_err e = msock_wg_poptrie_build(&t->trie4, t->nets, n4);
  return e == MSOCK_OK ? msock_wg_poptrie_build(&t->trie6, t->nets + n4, n - n4) : e;
}

static msock_err fill_nets(msock_wg_allowed_ips *t, const msock_wg_route *routes, size_t n,
                           size_t n_nets) {
  ordered *nets = n_nets > 0 ? malloc(n_nets * sizeof *nets) : NULL;
  size_t k = 0;

  if (nets == NULL) {
    return n_nets > 0 ? MSOCK_ERR_NOMEM : MSOCK_OK;
  }
  for (size_t i = 0; i < n; i++) {
    if (!is_host(&routes[i].prefix)) {
      nets[k].route = routes[i];
      nets[k].route.prefix = msock_prefix_mask(routes[i].prefix);
      nets[k++].place = i;
    }
  }
  const msock_err e = adopt_nets(t, nets, sort_nets(nets, k));
  free(nets);
  return e;
}

static msock_err fill(msock_wg_allowed_ips *t, const msock_wg_route *routes, size_t n) {
  size_t n4 = 0, n6 = 0;

  for (size_t i = 0; i < n; i++) {
    if (!is_valid(&routes[i].prefix)) {
      return MSOCK_ERR_INVALID;
    }
    const bool host = is_host(&routes[i].prefix), v4 = routes[i].prefix.ip.family == 4;
    n4 += host && v4;
    n6 += host && !v4;
  }
  if (hosts4_init(&t->hosts4, n4) != MSOCK_OK || hosts6_init(&t->hosts6, n6) != MSOCK_OK) {
    return MSOCK_ERR_NOMEM;
  }
  for (size_t i = 0; i < n; i++) {
    if (is_host(&routes[i].prefix)) {
      host_put(t, &routes[i].prefix.ip, routes[i].peer_id);
    }
  }
  return fill_nets(t, routes, n, n - n4 - n6);
}

msock_err msock_wg_allowed_ips_build(msock_wg_allowed_ips *t, uint64_t seed,
                                     const msock_wg_route *routes, size_t n) {
  *t = (msock_wg_allowed_ips){.seed = seed};
  const msock_err e = fill(t, routes, n);
  if (e != MSOCK_OK) {
    msock_wg_allowed_ips_free(t);
  }
  return e;
}

void msock_wg_allowed_ips_free(msock_wg_allowed_ips *t) {
  const uint64_t seed = t->seed;
  free(t->hosts4.slots);
  free(t->hosts6.slots);
  free(t->nets);
  msock_wg_poptrie_free(&t->trie4);
  msock_wg_poptrie_free(&t->trie6);
  *t = (msock_wg_allowed_ips){.seed = seed};
}

uint32_t msock_wg_allowed_ips_lookup(const msock_wg_allowed_ips *t, const msock_ip *ip) {
  uint32_t peer_id = MSOCK_WG_PEER_NONE;

  if (ip->family == 4) {
    if (t->hosts4.used > 0) {
      peer_id = t->hosts4.slots[slot4(&t->hosts4, t->seed, load32(ip->b))].peer_id;
    }
    return peer_id != MSOCK_WG_PEER_NONE ? peer_id : msock_wg_poptrie_lookup(&t->trie4, ip->b);
  }
  if (ip->family != 6) {
    return MSOCK_WG_PEER_NONE;
  }
  if (t->hosts6.used > 0) {
    peer_id = t->hosts6.slots[slot6(&t->hosts6, t->seed, ip->b)].peer_id;
  }
  return peer_id != MSOCK_WG_PEER_NONE ? peer_id : msock_wg_poptrie_lookup(&t->trie6, ip->b);
}

size_t msock_wg_allowed_ips_count(const msock_wg_allowed_ips *t) {
  return t->hosts4.used + t->hosts6.used + t->n_nets;
}

static bool is_other(const void *ctx, uint32_t peer_id) {
  return peer_id != *(const uint32_t *)ctx;
}

/* Copies of the host tables with room for more, without the entries that keep refuses. */
static msock_err copy_hosts(msock_wg_allowed_ips *to, const msock_wg_allowed_ips *from,
                            msock_wg_keep_fn keep, const void *ctx, size_t more4, size_t more6) {
  msock_err e = hosts4_init(&to->hosts4, from->hosts4.used + more4);
  if (e == MSOCK_OK) {
    e = hosts6_init(&to->hosts6, from->hosts6.used + more6);
  }
  if (e != MSOCK_OK) {
    return e;
  }
  for (uint32_t i = 0; i < from->hosts4.cap; i++) {
    const uint32_t peer_id = from->hosts4.slots[i].peer_id;
    if (peer_id != MSOCK_WG_PEER_NONE && keep(ctx, peer_id)) {
      msock_ip ip = {.family = 4};
      memcpy(ip.b, &from->hosts4.slots[i].ip, 4);
      host_put(to, &ip, peer_id);
    }
  }
  for (uint32_t i = 0; i < from->hosts6.cap; i++) {
    const uint32_t peer_id = from->hosts6.slots[i].peer_id;
    if (peer_id != MSOCK_WG_PEER_NONE && keep(ctx, peer_id)) {
      const msock_ip ip = msock_ip_from_bytes16(from->hosts6.slots[i].ip);
      host_put(to, &ip, peer_id);
    }
  }
  return MSOCK_OK;
}

/* The new table beside the old one: what keep allows, then the prefixes of peer_id. */
static msock_err derive(msock_wg_allowed_ips *to, const msock_wg_allowed_ips *from,
                        msock_wg_keep_fn keep, const void *ctx, uint32_t peer_id,
                        const msock_prefix *prefixes, size_t n, ordered *nets) {
  size_t n_nets = 0, more4 = 0, more6 = 0;

  for (size_t i = 0; i < from->n_nets; i++) {
    if (keep(ctx, from->nets[i].peer_id)) {
      nets[n_nets] = (ordered){.route = from->nets[i], .place = n_nets};
      n_nets++;
    }
  }
  for (size_t i = 0; i < n; i++) {
    if (!is_valid(&prefixes[i])) {
      return MSOCK_ERR_INVALID;
    }
    if (is_host(&prefixes[i])) {
      more4 += prefixes[i].ip.family == 4;
      more6 += prefixes[i].ip.family == 6;
    } else {
      nets[n_nets] = (ordered){.route = {msock_prefix_mask(prefixes[i]), peer_id}, .place = n_nets};
      n_nets++;
    }
  }
  const msock_err e = copy_hosts(to, from, keep, ctx, more4, more6);
  if (e != MSOCK_OK) {
    return e;
  }
  for (size_t i = 0; i < n; i++) {
    if (is_host(&prefixes[i])) {
      host_put(to, &prefixes[i].ip, peer_id);
    }
  }
  return adopt_nets(to, nets, sort_nets(nets, n_nets));
}

static msock_err swap_in(msock_wg_allowed_ips *t, msock_wg_keep_fn keep, const void *ctx,
                         uint32_t peer_id, const msock_prefix *prefixes, size_t n) {
  msock_wg_allowed_ips next = {.seed = t->seed};
  ordered *nets = malloc((t->n_nets + n + 1) * sizeof *nets);
  if (nets == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  const msock_err e = derive(&next, t, keep, ctx, peer_id, prefixes, n, nets);
  if (e == MSOCK_OK) {
    msock_wg_allowed_ips_free(t);
    *t = next;
  } else {
    msock_wg_allowed_ips_free(&next);
  }
  free(nets);
  return e;
}

msock_err msock_wg_allowed_ips_replace(msock_wg_allowed_ips *t, uint32_t peer_id,
                                       const msock_prefix *prefixes, size_t n) {
  return swap_in(t, is_other, &peer_id, peer_id, prefixes, n);
}

msock_err msock_wg_allowed_ips_retain(msock_wg_allowed_ips *t, msock_wg_keep_fn keep,
                                      const void *ctx) {
  return swap_in(t, keep, ctx, MSOCK_WG_PEER_NONE, NULL, 0);
}
