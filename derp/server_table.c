#include "derp/server_table.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAP 64u

bool relay_table_init(relay_table *t) {
  *t = (relay_table){.slots = calloc(FIRST_CAP, sizeof *t->slots), .cap = FIRST_CAP};
  return t->slots != NULL;
}

void relay_table_free(relay_table *t) {
  free(t->slots);
  *t = (relay_table){0};
}

relay_hash *relay_table_first(const relay_table *t, uint64_t hash) {
  return t->slots[hash & (t->cap - 1)];
}

static void grow(relay_table *t) {
  const size_t cap = t->cap * 2;
  relay_hash **slots = calloc(cap, sizeof *slots);
  if (slots == NULL) {
    return;
  }
  for (size_t i = 0; i < t->cap; i++) {
    relay_hash *next;
    for (relay_hash *h = t->slots[i]; h != NULL; h = next) {
      relay_hash **at = &slots[h->hash & (cap - 1)];
      next = h->next;
      h->next = *at;
      *at = h;
    }
  }
  free(t->slots);
  t->slots = slots;
  t->cap = cap;
}

void relay_table_add(relay_table *t, relay_hash *h, uint64_t hash) {
  if (t->n >= t->cap) {
    grow(t);
  }
  relay_hash **at = &t->slots[hash & (t->cap - 1)];
  h->hash = hash;
  h->next = *at;
  *at = h;
  t->n++;
}

void relay_table_remove(relay_table *t, relay_hash *h) {
  for (relay_hash **at = &t->slots[h->hash & (t->cap - 1)]; *at != NULL; at = &(*at)->next) {
    if (*at == h) {
      *at = h->next;
      t->n--;
      return;
    }
  }
}

relay_hash *relay_table_walk(const relay_table *t, size_t *bucket, size_t *depth) {
  for (; *bucket < t->cap; ++*bucket, *depth = 0) {
    relay_hash *h = t->slots[*bucket];
    for (size_t i = 0; h != NULL && i < *depth; i++) {
      h = h->next;
    }
    if (h != NULL) {
      ++*depth;
      return h;
    }
  }
  return NULL;
}

uint64_t relay_hash_bytes(uint64_t seed, const void *p, size_t len) {
  const uint8_t *b = p;
  uint64_t h = seed;
  for (size_t i = 0; i < len; i += 8) {
    uint64_t word;
    memcpy(&word, b + i, 8);
    h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    h ^= h >> 29;
  }
  h *= UINT64_C(0xbf58476d1ce4e5b9);
  return h ^ h >> 32;
}
