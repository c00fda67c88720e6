#include "magicsock/sources.h"

#include <stdlib.h>
#include <string.h>

#define CAP_MIN 64u
#define NOBODY UINT32_MAX

static uint32_t place(const msock_sources *t, const msock_addr *addr) {
  uint64_t hi, lo;
  memcpy(&hi, addr->ip.b, sizeof hi);
  memcpy(&lo, addr->ip.b + sizeof hi, sizeof lo);
  uint64_t h = (hi ^ t->seed) * UINT64_C(0x9e3779b97f4a7c15);
  h = (h ^ (h >> 29) ^ lo ^ addr->port) * UINT64_C(0xbf58476d1ce4e5b9);
  return (uint32_t)(h >> 32) & (t->cap - 1);
}

static msock_source *slot_of(const msock_sources *t, const msock_addr *addr) {
  for (uint32_t i = place(t, addr);; i = (i + 1) & (t->cap - 1)) {
    if (t->slots[i].refs == 0 || msock_addr_equal(&t->slots[i].addr, addr)) {
      return &t->slots[i];
    }
  }
}

void msock_sources_free(msock_sources *t) {
  free(t->slots);
  *t = (msock_sources){.seed = t->seed};
}

static bool make_room(msock_sources *t) {
  if (t->n >= MSOCK_ENGINE_SOURCES_MAX) {
    return false;
  }
  if (4 * (t->n + 1) <= 3 * t->cap) {
    return true;
  }
  msock_sources bigger = {.cap = t->cap > 0 ? t->cap * 2 : CAP_MIN, .n = t->n, .seed = t->seed};
  bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
  if (bigger.slots == NULL) {
    return false;
  }
  for (uint32_t i = 0; i < t->cap; i++) {
    if (t->slots[i].refs > 0) {
      *slot_of(&bigger, &t->slots[i].addr) = t->slots[i];
    }
  }
  free(t->slots);
  *t = bigger;
  return true;
}

void msock_sources_add(msock_sources *t, const msock_addr *addr, uint32_t peer) {
  if (!make_room(t)) {
    return;
  }
  msock_source *s = slot_of(t, addr);
  if (s->refs == 0) {
    *s = (msock_source){.addr = *addr, .peer = peer};
    t->n++;
  } else if (!s->proved) {
    s->peer = NOBODY;
  }
  s->refs++;
}

void msock_sources_prove(msock_sources *t, const msock_addr *addr, uint32_t peer) {
  msock_source *s = t->cap > 0 ? slot_of(t, addr) : NULL;
  if (s != NULL && s->refs > 0 && !s->proved) {
    s->peer = peer;
    s->proved = true;
  }
}

static void erase(msock_sources *t, msock_source *s) {
  uint32_t hole = (uint32_t)(s - t->slots);
  *s = (msock_source){0};
  t->n--;
  for (uint32_t i = (hole + 1) & (t->cap - 1); t->slots[i].refs > 0; i = (i + 1) & (t->cap - 1)) {
    const uint32_t home = place(t, &t->slots[i].addr);
    if (((i - home) & (t->cap - 1)) >= ((i - hole) & (t->cap - 1))) {
      t->slots[hole] = t->slots[i];
      t->slots[i] = (msock_source){0};
      hole = i;
    }
  }
}

void msock_sources_drop(msock_sources *t, const msock_addr *addr, uint32_t peer) {
  msock_source *s = t->cap > 0 ? slot_of(t, addr) : NULL;
  if (s == NULL || s->refs == 0) {
    return;
  }
  if (s->peer == peer) {
    s->peer = NOBODY;
    s->proved = false;
  }
  if (--s->refs == 0) {
    erase(t, s);
  }
}

uint32_t msock_sources_find(const msock_sources *t, const msock_addr *addr) {
  const msock_source *s = t->cap > 0 ? slot_of(t, addr) : NULL;
  return s != NULL && s->refs > 0 ? s->peer : NOBODY;
}
