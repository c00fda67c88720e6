#include "filter/flows.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT16_MAX

typedef struct entry {
  msock_flow flow;
  uint16_t chain;        /* next in the hash chain, or in the free list */
  uint16_t newer, older; /* use order */
} entry;

struct msock_flows {
  uint64_t seed;
  size_t cap, count;
  size_t used; /* entries[used..] were never touched: memory is taken only when needed */
  size_t n_buckets;
  uint16_t *buckets;
  uint16_t newest, oldest, free;
  entry *entries;
};

msock_flows *msock_flows_new(size_t cap, uint64_t seed) {
  msock_flows *t = calloc(1, sizeof *t);
  if (!t) {
    return NULL;
  }
  t->seed = seed;
  t->cap = cap < NONE ? cap : NONE - 1u;
  for (t->n_buckets = 16; t->n_buckets < t->cap; t->n_buckets *= 2) {
  }
  t->buckets = malloc(t->n_buckets * sizeof *t->buckets);
  t->entries = calloc(t->cap, sizeof *t->entries);
  if (!t->buckets || !t->entries) {
    msock_flows_free(t);
    return NULL;
  }
  memset(t->buckets, 0xff, t->n_buckets * sizeof *t->buckets);
  t->newest = t->oldest = t->free = NONE;
  return t;
}

void msock_flows_free(msock_flows *t) {
  if (t) {
    free(t->buckets);
    free(t->entries);
    free(t);
  }
}

/* Finalizer of splitmix64: every input bit reaches every output bit. */
static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
  return x ^ (x >> 31);
}

static uint64_t mix_ip(uint64_t h, const msock_ip *ip) {
  uint64_t half[2];
  memcpy(half, ip->b, sizeof half);
  return mix(mix(h ^ half[0]) + half[1] + ip->family);
}

static uint16_t *bucket_of(msock_flows *t, const msock_flow *f) {
  uint64_t h = mix_ip(mix_ip(t->seed, &f->remote), &f->local);
  h = mix(h ^ ((uint64_t)f->remote_port << 24 | (uint64_t)f->local_port << 8 | f->proto));
  return &t->buckets[h & (t->n_buckets - 1)];
}

static bool same(const msock_flow *a, const msock_flow *b) {
  return a->remote_port == b->remote_port && a->local_port == b->local_port &&
         a->proto == b->proto && msock_ip_equal(&a->remote, &b->remote) &&
         msock_ip_equal(&a->local, &b->local);
}

static uint16_t find(msock_flows *t, const msock_flow *flow) {
  uint16_t i = *bucket_of(t, flow);
  while (i != NONE && !same(&t->entries[i].flow, flow)) {
    i = t->entries[i].chain;
  }
  return i;
}

static void order_unlink(msock_flows *t, uint16_t i) {
  const entry *e = &t->entries[i];
  *(e->newer == NONE ? &t->newest : &t->entries[e->newer].older) = e->older;
  *(e->older == NONE ? &t->oldest : &t->entries[e->older].newer) = e->newer;
}

static void order_push(msock_flows *t, uint16_t i) {
  t->entries[i].newer = NONE;
  t->entries[i].older = t->newest;
  *(t->newest == NONE ? &t->oldest : &t->entries[t->newest].newer) = i;
  t->newest = i;
}

static void drop(msock_flows *t, uint16_t i) {
  uint16_t *link = bucket_of(t, &t->entries[i].flow);
  while (*link != i) {
    link = &t->entries[*link].chain;
  }
  *link = t->entries[i].chain;
  order_unlink(t, i);
  t->entries[i].chain = t->free;
  t->free = i;
  t->count--;
}

static uint16_t take(msock_flows *t) {
  const uint16_t i = t->free;
  if (i == NONE) {
    return (uint16_t)t->used++;
  }
  t->free = t->entries[i].chain;
  return i;
}

bool msock_flows_touch(msock_flows *t, const msock_flow *flow) {
  const uint16_t i = find(t, flow);
  if (i == NONE) {
    return false;
  }
  if (i != t->newest) {
    order_unlink(t, i);
    order_push(t, i);
  }
  return true;
}

bool msock_flows_add(msock_flows *t, const msock_flow *flow) {
  if (msock_flows_touch(t, flow)) {
    return false;
  }
  const bool full = t->count == t->cap;
  if (full) {
    drop(t, t->oldest);
  }
  const uint16_t i = take(t);
  uint16_t *bucket = bucket_of(t, flow);
  t->entries[i].flow = *flow;
  t->entries[i].chain = *bucket;
  *bucket = i;
  order_push(t, i);
  t->count++;
  return full;
}

void msock_flows_retain(msock_flows *t, bool (*keep)(void *ctx, const msock_flow *flow),
                        void *ctx) {
  for (uint16_t i = t->newest, next; i != NONE; i = next) {
    next = t->entries[i].older;
    if (!keep(ctx, &t->entries[i].flow)) {
      drop(t, i);
    }
  }
}

size_t msock_flows_count(const msock_flows *t) {
  return t->count;
}
