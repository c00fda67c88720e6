#include "tests/sim/world.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* An event of sim_world_at. */
typedef struct one_shot {
  struct one_shot *prev, *next;
  sim_world *w;
  sim_event event;
  void (*cb)(void *ctx);
  void *ctx;
} one_shot;

struct sim_world {
  uint64_t seed, now_us, order;
  sim_event **heap;
  uint32_t n, cap;
  one_shot shots; /* head of a ring */
  bool stopped;
  FILE *trace;
};

sim_world *sim_world_new(uint64_t seed) {
  sim_world *w = calloc(1, sizeof *w);
  if (w == NULL) {
    return NULL;
  }
  w->seed = seed;
  w->now_us = SIM_START_US;
  w->shots.prev = w->shots.next = &w->shots;
  return w;
}

void sim_world_free(sim_world *w) {
  if (w == NULL) {
    return;
  }
  for (one_shot *s = w->shots.next; s != &w->shots;) {
    one_shot *next = s->next;
    free(s);
    s = next;
  }
  free(w->heap);
  free(w);
}

uint64_t sim_world_now_us(const sim_world *w) {
  return w->now_us;
}

uint64_t sim_world_seed(const sim_world *w) {
  return w->seed;
}

/* --- the heap --- */

static bool before(const sim_event *a, const sim_event *b) {
  return a->at_us < b->at_us || (a->at_us == b->at_us && a->order < b->order);
}

static void place(sim_world *w, uint32_t i, sim_event *e) {
  w->heap[i] = e;
  e->slot = i + 1;
}

static void sift_up(sim_world *w, uint32_t i) {
  sim_event *e = w->heap[i];
  while (i > 0 && before(e, w->heap[(i - 1) / 2])) {
    place(w, i, w->heap[(i - 1) / 2]);
    i = (i - 1) / 2;
  }
  place(w, i, e);
}

static void sift_down(sim_world *w, uint32_t i) {
  sim_event *e = w->heap[i];
  for (;;) {
    uint32_t child = 2 * i + 1;
    if (child >= w->n) {
      break;
    }
    if (child + 1 < w->n && before(w->heap[child + 1], w->heap[child])) {
      child++;
    }
    if (!before(w->heap[child], e)) {
      break;
    }
    place(w, i, w->heap[child]);
    i = child;
  }
  place(w, i, e);
}

void sim_world_cancel(sim_world *w, sim_event *e) {
  if (e->slot == 0) {
    return;
  }
  const uint32_t i = e->slot - 1;
  sim_event *last = w->heap[--w->n];
  e->slot = 0;
  if (i < w->n) {
    place(w, i, last);
    sift_up(w, i);
    sift_down(w, last->slot - 1);
  }
}

void sim_event_init(sim_event *e, void (*cb)(void *ctx), void *ctx) {
  *e = (sim_event){.at_us = MSOCK_NEVER, .cb = cb, .ctx = ctx};
}

bool sim_event_is_set(const sim_event *e) {
  return e->slot != 0;
}

void sim_world_set(sim_world *w, sim_event *e, uint64_t at_us) {
  sim_world_cancel(w, e);
  e->at_us = at_us;
  if (at_us == MSOCK_NEVER) {
    return;
  }
  if (at_us < w->now_us) {
    e->at_us = w->now_us;
  }
  e->order = w->order++;
  if (w->n == w->cap) {
    w->cap = w->cap == 0 ? 256 : 2 * w->cap;
    w->heap = realloc(w->heap, w->cap * sizeof *w->heap);
    assert(w->heap != NULL);
  }
  w->heap[w->n] = e;
  sift_up(w, w->n++);
}

static void fire_shot(void *ctx) {
  one_shot s = *(one_shot *)ctx;
  s.prev->next = s.next;
  s.next->prev = s.prev;
  free(ctx);
  s.cb(s.ctx);
}

void sim_world_at(sim_world *w, uint64_t at_us, void (*cb)(void *ctx), void *ctx) {
  one_shot *s = calloc(1, sizeof *s);
  assert(s != NULL);
  s->w = w;
  s->cb = cb;
  s->ctx = ctx;
  s->next = &w->shots;
  s->prev = w->shots.prev;
  s->prev->next = s->next->prev = s;
  sim_event_init(&s->event, fire_shot, s);
  sim_world_set(w, &s->event, at_us);
}

void sim_world_run_until(sim_world *w, uint64_t until_us) {
  w->stopped = false;
  while (w->n > 0 && w->heap[0]->at_us <= until_us) {
    sim_event *e = w->heap[0];
    assert(e->at_us >= w->now_us);
    w->now_us = e->at_us;
    sim_world_cancel(w, e);
    e->cb(e->ctx);
    if (w->stopped) {
      return;
    }
  }
  w->now_us = until_us > w->now_us ? until_us : w->now_us;
}

uint64_t sim_world_next_us(const sim_world *w) {
  return w->n > 0 ? w->heap[0]->at_us : MSOCK_NEVER;
}

void sim_world_stop(sim_world *w) {
  w->stopped = true;
}

bool sim_world_stopped(const sim_world *w) {
  return w->stopped;
}

/* --- randomness: xoshiro256**, seeded by splitmix64 over the seed and a hash of the name --- */

static uint64_t splitmix(uint64_t *state) {
  uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

void sim_rng_init(sim_rng *r, const sim_world *w, const char *name) {
  uint64_t state = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
  for (; *name != '\0'; name++) {
    state = (state ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
  }
  state ^= splitmix(&(uint64_t){w->seed});
  for (size_t i = 0; i < 4; i++) {
    r->s[i] = splitmix(&state);
  }
}

static uint64_t rotate(uint64_t x, unsigned k) {
  return (x << k) | (x >> (64 - k));
}

uint64_t sim_rng_next(sim_rng *r) {
  const uint64_t out = rotate(r->s[1] * 5, 7) * 9, t = r->s[1] << 17;
  r->s[2] ^= r->s[0];
  r->s[3] ^= r->s[1];
  r->s[1] ^= r->s[2];
  r->s[0] ^= r->s[3];
  r->s[2] ^= t;
  r->s[3] = rotate(r->s[3], 45);
  return out;
}

uint64_t sim_rng_below(sim_rng *r, uint64_t n) {
  const uint64_t fair = UINT64_MAX - UINT64_MAX % n; /* without modulo bias */
  uint64_t x = sim_rng_next(r);
  while (x >= fair) {
    x = sim_rng_next(r);
  }
  return x % n;
}

bool sim_rng_chance(sim_rng *r, uint32_t permille) {
  return permille > 0 && sim_rng_below(r, 1000) < permille;
}

void sim_rng_fill(sim_rng *r, void *dst, size_t len) {
  uint8_t *p = dst;
  while (len > 0) {
    uint64_t x = sim_rng_next(r);
    const size_t n = len < sizeof x ? len : sizeof x;
    for (size_t i = 0; i < n; i++, x >>= 8) {
      p[i] = (uint8_t)x; /* not memcpy: the same on every byte order */
    }
    p += n;
    len -= n;
  }
}

void sim_rng_env(void *ctx, void *dst, size_t len) {
  sim_rng_fill(ctx, dst, len);
}

/* --- trace --- */

void sim_world_set_trace(sim_world *w, FILE *to) {
  w->trace = to;
}

bool sim_world_traces(const sim_world *w) {
  return w->trace != NULL;
}

void sim_trace(const sim_world *w, const char *who, const char *format, ...) {
  if (w->trace == NULL) {
    return;
  }
  const uint64_t t = w->now_us - SIM_START_US;
  va_list args;
  fprintf(w->trace, "%4" PRIu64 ".%06" PRIu64 " %-8s ", t / MSOCK_SEC, t % MSOCK_SEC, who);
  va_start(args, format);
  vfprintf(w->trace, format, args);
  va_end(args);
  fputc('\n', w->trace);
}
