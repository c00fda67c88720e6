#include "tests/sim/io_process.h"

#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crypto/init.h"
#include "tests/sim/io_internal.h"

typedef struct sim_name {
  struct sim_name *next;
  char name[256];
  msock_ip v4, v6; /* family 0: none */
} sim_name;

/* Whose code runs. The system calls have no other way to know, as in a kernel. */
static sim_process *current;

sim_process *sim_process_current(void) {
  assert(current != NULL && "node code ran outside of sim_process_enter");
  return current;
}

/* --- randomness that does not come through an env: none is expected, all of it is seeded --- */

static const char *random_name(void) {
  return "simulated";
}

static void random_buf(void *const dst, const size_t len) {
  sim_rng_fill(&sim_process_current()->rng, dst, len);
}

static uint32_t random_word(void) {
  uint32_t v;
  random_buf(&v, sizeof v);
  return v;
}

static randombytes_implementation seeded = {
    .implementation_name = random_name, .random = random_word, .buf = random_buf};

/* --- what processes share --- */

sim_io *sim_io_new(sim_net *net) {
  sim_io *io = calloc(1, sizeof *io);
  assert(io != NULL);
  io->net = net;
  const msock_err e = msock_crypto_init();
  assert(e == MSOCK_OK);
  (void)e;
  randombytes_set_implementation(&seeded); /* not before: starting the library draws some */
  return io;
}

void sim_io_free(sim_io *io) {
  if (io == NULL) {
    return;
  }
  while (io->names != NULL) {
    sim_name *n = io->names;
    io->names = n->next;
    free(n);
  }
  free(io);
}

sim_net *sim_io_net(const sim_io *io) {
  return io->net;
}

sim_world *sim_io_world(const sim_io *io) {
  return sim_net_world(io->net);
}

void sim_io_set_log(sim_io *io, sim_log_cb cb, void *ctx) {
  io->log = cb;
  io->log_ctx = ctx;
}

void sim_io_set_accounting(sim_io *io, bool on) {
  io->accounting = on;
}

static sim_name *find_name(const sim_io *io, const char *name) {
  for (sim_name *n = io->names; n != NULL; n = n->next) {
    if (strcmp(n->name, name) == 0) {
      return n;
    }
  }
  return NULL;
}

void sim_io_set_name(sim_io *io, const char *name, const msock_ip *ip) {
  sim_name *n = find_name(io, name);
  if (n == NULL) {
    n = calloc(1, sizeof *n);
    assert(n != NULL);
    snprintf(n->name, sizeof n->name, "%s", name);
    n->next = io->names;
    io->names = n;
  }
  if (ip->family == 0) {
    n->v4 = n->v6 = *ip;
  } else if (ip->family == 4) {
    n->v4 = *ip;
  } else {
    n->v6 = *ip;
  }
}

msock_ip sim_io_lookup(const sim_io *io, const char *name, uint8_t family) {
  const sim_name *n = find_name(io, name);
  return n == NULL ? (msock_ip){0} : family == 4 ? n->v4 : n->v6;
}

/* --- one process --- */

static void log_line(void *ctx, msock_log_level level, const char *event, const char *text) {
  const sim_process *p = ctx;
  if (p->io->log != NULL) {
    p->io->log(p->io->log_ctx, p, level, event, text);
  }
  if (p->log.max == MSOCK_LOG_DEBUG) {
    sim_trace(sim_io_world(p->io), p->name, "%s %s", event, text);
  }
}

static uint64_t cpu_now_ns(void) {
  struct timespec ts = {0};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* A process that turns again and again without letting time pass would burn a real machine. */
static void count_turn(sim_process *p) {
  const uint64_t now_us = sim_world_now_us(sim_io_world(p->io));
  if (p->busy_at_us != now_us) {
    p->busy_at_us = now_us;
    p->n_busy = 0;
  }
  p->turns++;
  if (++p->n_busy > SIM_TURNS_AT_ONCE_MAX) {
    fprintf(stderr, "sim: %s spins at %" PRIu64 " us (seed %" PRIu64 ")\n", p->name, now_us,
            sim_world_seed(sim_io_world(p->io)));
    abort();
  }
}

static void on_turn(void *ctx) {
  sim_process *p = ctx;
  const bool accounting = p->io->accounting;
  const uint64_t began_ns = accounting ? cpu_now_ns() : 0;
  uint64_t slept_us = 0;

  if (p->loop == NULL || p->asleep || p->in_turn) {
    return;
  }
  if (p->asleep_since_us != 0) {
    slept_us = sim_world_now_us(sim_io_world(p->io)) - p->asleep_since_us;
    p->asleep_since_us = 0;
  }
  count_turn(p);
  p->woken = false;
  sim_process *before = sim_process_enter(p);
  p->in_turn = true;
  sim_loop_turn(p->loop, slept_us);
  p->in_turn = false;
  sim_process_leave(before);
  sim_process_rearm(p);
  if (accounting) {
    p->cpu_ns += cpu_now_ns() - began_ns;
  }
}

void sim_process_rearm(sim_process *p) {
  if (!p->in_turn && !p->asleep) {
    uint64_t at_us = p->loop != NULL ? sim_loop_next_us(p->loop) : MSOCK_NEVER;
    if (p->woken) {
      at_us = sim_world_now_us(sim_io_world(p->io));
    }
    if (!sim_event_is_set(&p->turn) || p->turn.at_us != at_us) {
      sim_world_set(sim_io_world(p->io), &p->turn, at_us);
    }
  }
}

void sim_process_wake(sim_process *p) {
  p->woken = true;
  sim_process_rearm(p);
}

sim_process *sim_process_new(sim_io *io, sim_host *host, const char *name, uint32_t run,
                             sim_disk *disk) {
  sim_process *p = calloc(1, sizeof *p);
  char stream[64];
  assert(p != NULL);
  p->io = io;
  p->host = host;
  p->disk = disk;
  snprintf(p->name, sizeof p->name, "%s", name);
  snprintf(stream, sizeof stream, "process %s %" PRIu32, name, run);
  sim_rng_init(&p->rng, sim_io_world(io), stream);
  const bool traced = sim_world_traces(sim_io_world(io));
  p->log =
      (msock_log){.ctx = p, .max = traced ? MSOCK_LOG_DEBUG : MSOCK_LOG_WARN, .sink = log_line};
  sim_event_init(&p->turn, on_turn, p);
  return p;
}

void sim_process_free(sim_process *p) {
  if (p == NULL) {
    return;
  }
  assert(p->loop == NULL && !p->in_turn);
  sim_fd_close_all(p);
  sim_world_cancel(sim_io_world(p->io), &p->turn);
  free(p);
}

void sim_process_mute(sim_process *p) {
  p->muted = true;
}

sim_process *sim_process_enter(sim_process *p) {
  sim_process *before = current;
  current = p;
  return before;
}

void sim_process_leave(sim_process *before) {
  current = before;
}

sim_io *sim_process_io(const sim_process *p) {
  return p->io;
}

sim_host *sim_process_host(const sim_process *p) {
  return p->host;
}

sim_world *sim_process_world(const sim_process *p) {
  return sim_io_world(p->io);
}

const char *sim_process_name(const sim_process *p) {
  return p->name;
}

const msock_log *sim_process_log(const sim_process *p) {
  return &p->log;
}

msock_env sim_process_env(sim_process *p) {
  return (msock_env){.ctx = &p->rng, .random = sim_rng_env, .log = sim_process_log(p)};
}

void sim_process_set_boot_offset(sim_process *p, uint64_t boot_offset_us) {
  assert(p->loop == NULL);
  p->boot_offset_us = boot_offset_us;
}

void sim_process_set_wall_offset(sim_process *p, int64_t wall_offset_us) {
  p->wall_offset_us = wall_offset_us;
}

uint64_t sim_process_now_us(const sim_process *p) {
  return sim_world_now_us(sim_io_world(p->io)) + p->boot_offset_us;
}

void sim_process_suspend(sim_process *p) {
  if (!p->asleep) {
    p->asleep = true;
    p->asleep_since_us = sim_world_now_us(sim_io_world(p->io));
    sim_world_cancel(sim_io_world(p->io), &p->turn);
  }
}

void sim_process_resume(sim_process *p) {
  if (p->asleep) {
    p->asleep = false;
    sim_process_wake(p);
  }
}

bool sim_process_stopped(const sim_process *p) {
  return p->stopped;
}

uint64_t sim_process_cpu_ns(const sim_process *p) {
  return p->cpu_ns;
}

uint64_t sim_process_turns(const sim_process *p) {
  return p->turns;
}
