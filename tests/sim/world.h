/* tests/sim/world.h: virtual time: one queue of events, one clock, seeded randomness, a trace.
 *
 * Nothing happens between two events; the clock jumps from one to the next. Events at one time run
 * in the order in which they were set, so a run is a pure function of its seed. */
#ifndef MSOCK_TESTS_SIM_WORLD_H
#define MSOCK_TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/env.h"

#define SIM_START_US                                                                               \
  (1000 * MSOCK_SEC) /* the clock of a new world: never 0, as on a real machine */
#define SIM_WALL_START_US UINT64_C(1767225600000000) /* 2026-01-01, the wall clock then */

typedef struct sim_world sim_world;
sim_world *sim_world_new(uint64_t seed);
/* Events of the owners are forgotten; those of sim_world_at are freed without a call. */
void sim_world_free(sim_world *w);
uint64_t sim_world_now_us(const sim_world *w);
uint64_t sim_world_seed(const sim_world *w);

/* --- events --- */

/* Lives in its owner's struct; the fields are the world's. Cancel before the memory goes. */
typedef struct sim_event {
  uint64_t at_us, order;
  uint32_t slot; /* place in the heap + 1; 0: not set */
  void (*cb)(void *ctx);
  void *ctx;
} sim_event;

void sim_event_init(sim_event *e, void (*cb)(void *ctx), void *ctx);
/* Fires once at at_us (the past counts as now); replaces an earlier setting. MSOCK_NEVER cancels.
 * The event is unset before cb is called, which may set it again or free its memory. */
void sim_world_set(sim_world *w, sim_event *e, uint64_t at_us);
void sim_world_cancel(sim_world *w, sim_event *e);
bool sim_event_is_set(const sim_event *e);
/* Fire and forget: the world owns the event. */
void sim_world_at(sim_world *w, uint64_t at_us, void (*cb)(void *ctx), void *ctx);

/* Runs every event up to and including until_us; the clock is until_us then, unless stopped. */
void sim_world_run_until(sim_world *w, uint64_t until_us);
/* The next event, or MSOCK_NEVER. */
uint64_t sim_world_next_us(const sim_world *w);
/* From a callback: run_until returns after this event, the clock stays. */
void sim_world_stop(sim_world *w);
bool sim_world_stopped(const sim_world *w);

/* --- randomness: one independent stream for each use, so that one node's extra draw does not
 * change what happens to the others --- */

typedef struct sim_rng {
  uint64_t s[4];
} sim_rng;

/* The stream named `name` of this world: the same seed and name give the same stream. */
void sim_rng_init(sim_rng *r, const sim_world *w, const char *name);
uint64_t sim_rng_next(sim_rng *r);
/* Uniform in [0, n); n > 0. */
uint64_t sim_rng_below(sim_rng *r, uint64_t n);
/* True permille times out of 1000. 0 draws nothing. */
bool sim_rng_chance(sim_rng *r, uint32_t permille);
void sim_rng_fill(sim_rng *r, void *dst, size_t len);
/* ctx is a sim_rng: the random function of a msock_env. */
void sim_rng_env(void *ctx, void *dst, size_t len);

/* --- trace --- */

/* NULL: no trace. One line for each event: seconds since the start, who, what. */
void sim_world_set_trace(sim_world *w, FILE *to);
bool sim_world_traces(const sim_world *w);
void sim_trace(const sim_world *w, const char *who, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
