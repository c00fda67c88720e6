#include "filter/rules.h"

#include <stdlib.h>
#include <string.h>

/* Protocols of a rule that lists none (control.md 5.2). */
static const uint8_t default_protos[] = {MSOCK_PROTO_TCP, MSOCK_PROTO_UDP, MSOCK_PROTO_ICMP,
                                         MSOCK_PROTO_ICMPV6};

enum { V4, V6, FAMILIES };

/* An address as a number: IPv4 in lo. Compared within one family only. */
typedef struct key {
  uint64_t hi, lo;
} key;

typedef struct range {
  key first, last;
} range;

typedef struct target {
  range addresses;
  uint16_t port_first, port_last;
} target;

typedef struct names {
  char **list;
  size_t n;
} names;

typedef struct grant {
  msock_prefix *dsts;
  size_t n_dsts;
  names caps;
} grant;

typedef struct rule {
  uint8_t protos[32]; /* bit set */
  bool from_any;
  range *from[FAMILIES]; /* sorted by first, disjoint */
  size_t n_from[FAMILIES];
  names from_caps;
  target *to[FAMILIES];
  size_t n_to[FAMILIES];
  grant *grants;
  size_t n_grants;
} rule;

struct msock_rules {
  rule *rules;
  size_t n_rules;
};

static int family_of(const msock_ip *ip) {
  return ip->family == 4 ? V4 : V6;
}

static uint64_t be64(const uint8_t *p) {
  uint64_t v = 0;
  for (int i = 0; i < 8; i++) {
    v = v << 8 | p[i];
  }
  return v;
}

static key key_of(const msock_ip *ip) {
  if (ip->family == 4) {
    return (key){.lo = be64(ip->b) >> 32};
  }
  return (key){.hi = be64(ip->b), .lo = be64(ip->b + 8)};
}

static bool less(key a, key b) {
  return a.hi < b.hi || (a.hi == b.hi && a.lo < b.lo);
}

static bool within(const range *r, key k) {
  return !less(k, r->first) && !less(r->last, k);
}

static range range_of(const msock_ip_range *r, int family) {
  if (!r->any) {
    return (range){key_of(&r->lo), key_of(&r->hi)};
  }
  return (range){.last = family == V4 ? (key){.lo = UINT32_MAX} : (key){UINT64_MAX, UINT64_MAX}};
}

static bool names_add(names *to, const char *name) {
  char *copy = strdup(name);
  if (copy) {
    to->list[to->n++] = copy;
  }
  return copy != NULL;
}

static void names_clear(names *n) {
  for (size_t i = 0; i < n->n; i++) {
    free(n->list[i]);
  }
  free(n->list);
}

/* An array for n elements; never NULL for n = 0. */
static void *array(size_t n, size_t size) {
  return calloc(n ? n : 1, size);
}

static int by_first(const void *a, const void *b) {
  const range *x = a, *y = b;
  return less(x->first, y->first) ? -1 : less(y->first, x->first) ? 1 : 0;
}

/* Sorts and joins ranges that overlap, so that a binary search finds the only candidate. */
static size_t merge(range *r, size_t n) {
  size_t kept = 0;
  qsort(r, n, sizeof *r, by_first);
  for (size_t i = 0; i < n; i++) {
    if (kept > 0 && !less(r[kept - 1].last, r[i].first)) {
      if (less(r[kept - 1].last, r[i].last)) {
        r[kept - 1].last = r[i].last;
      }
    } else {
      r[kept++] = r[i];
    }
  }
  return kept;
}

static bool add_sources(rule *to, const msock_policy_rule *p) {
  to->from_caps.list = array(p->n_srcs, sizeof *to->from_caps.list);
  to->from[V4] = array(p->n_srcs, sizeof **to->from);
  to->from[V6] = array(p->n_srcs, sizeof **to->from);
  if (!to->from_caps.list || !to->from[V4] || !to->from[V6]) {
    return false;
  }
  for (size_t i = 0; i < p->n_srcs; i++) {
    const msock_policy_src *s = &p->srcs[i];
    if (s->cap) {
      if (!names_add(&to->from_caps, s->cap)) {
        return false;
      }
    } else if (s->range.any) {
      to->from_any = true;
    } else {
      const int family = family_of(&s->range.lo);
      to->from[family][to->n_from[family]++] = range_of(&s->range, family);
    }
  }
  for (int family = 0; family < FAMILIES; family++) {
    to->n_from[family] = merge(to->from[family], to->n_from[family]);
  }
  return true;
}

static bool add_targets(rule *to, const msock_policy_rule *p) {
  for (int family = 0; family < FAMILIES; family++) {
    to->to[family] = array(p->n_dsts, sizeof **to->to);
    if (!to->to[family]) {
      return false;
    }
    for (size_t i = 0; i < p->n_dsts; i++) {
      const msock_policy_dst *d = &p->dsts[i];
      if (d->range.any || family_of(&d->range.lo) == family) {
        to->to[family][to->n_to[family]++] =
            (target){range_of(&d->range, family), d->port_first, d->port_last};
      }
    }
  }
  return true;
}

static bool add_grants(rule *to, const msock_policy_rule *p) {
  to->grants = array(p->n_grants, sizeof *to->grants);
  if (!to->grants) {
    return false;
  }
  for (size_t i = 0; i < p->n_grants; i++) {
    const msock_policy_grant *from = &p->grants[i];
    grant *g = &to->grants[to->n_grants++];
    g->dsts = array(from->n_dsts, sizeof *g->dsts);
    g->caps.list = array(from->n_caps, sizeof *g->caps.list);
    if (!g->dsts || !g->caps.list) {
      return false;
    }
    for (; g->n_dsts < from->n_dsts; g->n_dsts++) {
      g->dsts[g->n_dsts] = from->dsts[g->n_dsts];
    }
    for (size_t j = 0; j < from->n_caps; j++) {
      if (!names_add(&g->caps, from->caps[j])) {
        return false;
      }
    }
  }
  return true;
}

static void add_protos(rule *to, const msock_policy_rule *p) {
  const uint8_t *protos = p->n_protos > 0 ? p->protos : default_protos;
  const size_t n = p->n_protos > 0 ? p->n_protos : sizeof default_protos;
  for (size_t i = 0; i < n; i++) {
    to->protos[protos[i] / 8] |= (uint8_t)(1u << (protos[i] % 8));
  }
}

msock_rules *msock_rules_new(const msock_policy *p) {
  msock_rules *r = calloc(1, sizeof *r);
  if (!r) {
    return NULL;
  }
  r->rules = array(p ? p->n_rules : 0, sizeof *r->rules);
  bool ok = r->rules != NULL;
  for (size_t i = 0; ok && p && i < p->n_rules; i++) {
    if (p->rules[i].no_proto) {
      continue; /* matches nothing, not even by address */
    }
    rule *to = &r->rules[r->n_rules++];
    add_protos(to, &p->rules[i]);
    ok = add_sources(to, &p->rules[i]) && add_targets(to, &p->rules[i]) &&
         add_grants(to, &p->rules[i]);
  }
  if (!ok) {
    msock_rules_free(r);
    return NULL;
  }
  return r;
}

void msock_rules_free(msock_rules *r) {
  if (!r) {
    return;
  }
  for (size_t i = 0; i < r->n_rules; i++) {
    rule *x = &r->rules[i];
    for (int family = 0; family < FAMILIES; family++) {
      free(x->from[family]);
      free(x->to[family]);
    }
    for (size_t j = 0; j < x->n_grants; j++) {
      free(x->grants[j].dsts);
      names_clear(&x->grants[j].caps);
    }
    free(x->grants);
    names_clear(&x->from_caps);
  }
  free(r->rules);
  free(r);
}

static bool source_matches(const rule *r, const msock_rules_caps *caps, const msock_ip *src) {
  const int family = family_of(src);
  const range *ranges = r->from[family];
  const key k = key_of(src);
  size_t low = 0, high = r->n_from[family];

  if (r->from_any) {
    return true;
  }
  while (low < high) { /* the last range that begins at or before k */
    const size_t middle = low + (high - low) / 2;
    if (less(k, ranges[middle].first)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  if (low > 0 && within(&ranges[low - 1], k)) {
    return true;
  }
  for (size_t i = 0; caps->has && i < r->from_caps.n; i++) {
    if (caps->has(caps->ctx, src, r->from_caps.list[i])) {
      return true;
    }
  }
  return false;
}

static bool lists_proto(const rule *r, uint8_t proto) {
  return (r->protos[proto / 8] & 1u << (proto % 8)) != 0;
}

/* Which ports a target must have. */
typedef enum port_test { PORT_LISTED, PORT_ANY, PORT_ALL } port_test;

static bool target_matches(const rule *r, const msock_ip_packet *k, port_test test) {
  const int family = family_of(&k->dst);
  const key dst = key_of(&k->dst);
  for (size_t i = 0; i < r->n_to[family]; i++) {
    const target *t = &r->to[family][i];
    const bool port =
        test == PORT_ANY ||
        (test == PORT_ALL && t->port_first == 0 && t->port_last == UINT16_MAX) ||
        (test == PORT_LISTED && t->port_first <= k->dst_port && k->dst_port <= t->port_last);
    if (port && within(&t->addresses, dst)) {
      return true;
    }
  }
  return false;
}

/* Destination first: it is the cheaper test, and the one that a peer cannot choose freely. */
static bool match(const msock_rules *r, const msock_rules_caps *caps, const msock_ip_packet *k,
                  bool by_proto, port_test test) {
  for (size_t i = 0; i < r->n_rules; i++) {
    const rule *x = &r->rules[i];
    if ((!by_proto || lists_proto(x, k->proto)) && target_matches(x, k, test) &&
        source_matches(x, caps, &k->src)) {
      return true;
    }
  }
  return false;
}

bool msock_rules_match(const msock_rules *r, const msock_rules_caps *caps,
                       const msock_ip_packet *k) {
  return match(r, caps, k, true, PORT_LISTED);
}

bool msock_rules_match_addresses(const msock_rules *r, const msock_rules_caps *caps,
                                 const msock_ip_packet *k) {
  return match(r, caps, k, false, PORT_ANY);
}

bool msock_rules_match_all_ports(const msock_rules *r, const msock_rules_caps *caps,
                                 const msock_ip_packet *k) {
  return match(r, caps, k, true, PORT_ALL);
}

static bool grants_to(const grant *g, const msock_ip *dst) {
  for (size_t i = 0; i < g->n_dsts; i++) {
    if (msock_prefix_contains(&g->dsts[i], dst)) {
      return true;
    }
  }
  return false;
}

static bool holds_name(const char *const *list, size_t n, const char *name) {
  for (size_t i = 0; i < n; i++) {
    if (strcmp(list[i], name) == 0) {
      return true;
    }
  }
  return false;
}

static size_t add_unique(const names *from, const char **list, size_t n, size_t cap) {
  for (size_t i = 0; i < from->n && n < cap; i++) {
    if (!holds_name(list, n, from->list[i])) {
      list[n++] = from->list[i];
    }
  }
  return n;
}

size_t msock_rules_granted(const msock_rules *r, const msock_rules_caps *caps, const msock_ip *src,
                           const msock_ip *dst, const char **list, size_t cap) {
  size_t n = 0;
  for (size_t i = 0; i < r->n_rules; i++) {
    const rule *x = &r->rules[i];
    if (x->n_grants == 0 || !source_matches(x, caps, src)) {
      continue;
    }
    for (size_t j = 0; j < x->n_grants; j++) {
      if (grants_to(&x->grants[j], dst)) {
        n = add_unique(&x->grants[j].caps, list, n, cap);
      }
    }
  }
  return n;
}
