/* io/loop.h on virtual time, and the four calls of libuv's resolver that io/egress.c makes. */
#include "io/loop.h"

#include <assert.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "io/loop_internal.h"
#include "io/sockaddr.h"
#include "io/stream.h"
#include "tests/sim/io_internal.h"

struct msock_loop_fd {
  struct msock_loop_fd *prev, *next; /* in the loop's ring of those that may be ready; NULL: not */
  msock_loop *loop;
  sim_fd *fd;
  msock_loop_fd_cb cb;
  void *ctx;
  bool readable, writable; /* wanted */
};

typedef struct look_up {
  struct look_up *next;
  msock_loop *loop;
  msock_loop_timer timer;
  uv_getaddrinfo_t *req;
  uv_getaddrinfo_cb cb;
  char name[256];
  int family;
  bool cancelled;
} look_up;

struct msock_loop {
  uv_loop_t uv; /* .data: this loop. Nothing else of it is used */
  sim_process *process;
  const msock_log *log;
  msock_loop_timer timers; /* sentinel of a ring sorted by deadline */
  msock_loop_hook hooks;   /* sentinel of a ring */
  msock_loop_fd ready;     /* sentinel of a ring */
  msock_loop_fd *calling;  /* whose callback runs; NULL once it was freed */
  void (*on_suspend)(void *ctx, uint64_t slept_us);
  void *suspend_ctx;
  uint8_t *chunk;
  look_up *look_ups;
};

/* --- clocks and randomness --- */

uint64_t msock_loop_now_us(void) {
  return sim_process_now_us(sim_process_current());
}

uint64_t msock_loop_wall_us(void) {
  const sim_process *p = sim_process_current();
  const uint64_t since_us = sim_world_now_us(sim_process_world(p)) - SIM_START_US;
  return SIM_WALL_START_US + since_us + (uint64_t)p->wall_offset_us;
}

msock_env msock_loop_env(const msock_loop *loop) {
  msock_env env = sim_process_env(loop->process);
  env.log = loop->log;
  return env;
}

/* --- timers --- */

void msock_loop_timer_init(msock_loop_timer *t, void (*cb)(void *ctx, uint64_t now_us), void *ctx) {
  *t = (msock_loop_timer){.deadline_us = MSOCK_NEVER, .cb = cb, .ctx = ctx};
}

static void unlink_timer(msock_loop_timer *t) {
  if (t->next != NULL) {
    t->prev->next = t->next;
    t->next->prev = t->prev;
    t->prev = t->next = NULL;
  }
}

static void insert_timer(msock_loop_timer *ring, msock_loop_timer *t) {
  msock_loop_timer *after = ring->prev;
  while (after != ring && after->deadline_us > t->deadline_us) {
    after = after->prev;
  }
  t->prev = after;
  t->next = after->next;
  after->next->prev = t;
  after->next = t;
}

void msock_loop_set_deadline(msock_loop *loop, msock_loop_timer *t, uint64_t deadline_us) {
  if (t->next != NULL && t->deadline_us == deadline_us) {
    return;
  }
  unlink_timer(t);
  t->deadline_us = deadline_us;
  if (deadline_us != MSOCK_NEVER) {
    insert_timer(&loop->timers, t);
  }
  sim_process_rearm(loop->process);
}

uint64_t msock_loop_next_deadline(const msock_loop *loop) {
  return loop->timers.next == &loop->timers ? MSOCK_NEVER : loop->timers.next->deadline_us;
}

uint64_t sim_loop_next_us(const msock_loop *loop) {
  const uint64_t at_us = msock_loop_next_deadline(loop);
  if (loop->ready.next != &loop->ready) {
    return sim_world_now_us(sim_process_world(loop->process));
  }
  if (at_us == MSOCK_NEVER) {
    return MSOCK_NEVER;
  }
  return at_us > loop->process->boot_offset_us ? at_us - loop->process->boot_offset_us : 0;
}

/* Only what was due when the turn began: a callback that sets itself to "now" waits a turn. */
static void fire_due(msock_loop *loop) {
  const uint64_t now_us = msock_loop_now_us();
  msock_loop_timer due = {.prev = &due, .next = &due};

  while (msock_loop_next_deadline(loop) <= now_us) {
    msock_loop_timer *t = loop->timers.next;
    unlink_timer(t);
    insert_timer(&due, t);
  }
  while (due.next != &due) {
    msock_loop_timer *t = due.next;
    unlink_timer(t);
    t->deadline_us = MSOCK_NEVER;
    t->cb(t->ctx, now_us);
  }
}

/* --- hooks --- */

void msock_loop_hook_add(msock_loop *loop, msock_loop_hook *h, void (*cb)(void *, uint64_t),
                         void *ctx) {
  *h = (msock_loop_hook){.cb = cb, .ctx = ctx, .prev = loop->hooks.prev, .next = &loop->hooks};
  loop->hooks.prev->next = h;
  loop->hooks.prev = h;
}

void msock_loop_hook_remove(msock_loop_hook *h) {
  if (h->next != NULL) {
    h->prev->next = h->next;
    h->next->prev = h->prev;
    h->prev = h->next = NULL;
  }
}

/* A marker walks the ring, so that a callback may remove any hook, also the next one. */
static void run_hooks(msock_loop *loop) {
  const uint64_t now_us = msock_loop_now_us();
  msock_loop_hook *h = loop->hooks.next;
  while (h != &loop->hooks) {
    msock_loop_hook mark = {.prev = h, .next = h->next};
    h->next->prev = &mark;
    h->next = &mark;
    if (h->cb != NULL) {
      h->cb(h->ctx, now_us);
    }
    h = mark.next;
    msock_loop_hook_remove(&mark);
  }
}

/* --- descriptors --- */

static void unlink_ready(msock_loop_fd *w) {
  if (w->next != NULL) {
    w->prev->next = w->next;
    w->next->prev = w->prev;
    w->prev = w->next = NULL;
  }
}

static bool is_due(const msock_loop_fd *w) {
  const bool wanted = w->readable || w->writable;
  return (w->readable && sim_fd_is_readable(w->fd)) || (w->writable && sim_fd_is_writable(w->fd)) ||
         (wanted && sim_fd_has_error(w->fd));
}

void sim_loop_fd_changed(msock_loop_fd *w) {
  if (w == NULL || w->next != NULL || !is_due(w)) {
    return;
  }
  w->prev = w->loop->ready.prev;
  w->next = &w->loop->ready;
  w->prev->next = w;
  w->next->prev = w;
  sim_process_rearm(w->loop->process);
}

msock_loop_fd *msock_loop_fd_new(msock_loop *loop, int fd, msock_loop_fd_cb cb, void *ctx) {
  msock_loop_fd *w = calloc(1, sizeof *w);
  assert(w != NULL && sim_fd_of(fd) != NULL);
  w->loop = loop;
  w->fd = sim_fd_of(fd);
  w->cb = cb;
  w->ctx = ctx;
  sim_fd_watch(w->fd, w);
  return w;
}

void msock_loop_fd_want(msock_loop_fd *w, bool readable, bool writable) {
  w->readable = readable;
  w->writable = writable;
  sim_loop_fd_changed(w);
}

void msock_loop_fd_free(msock_loop_fd *w) {
  if (w == NULL) {
    return;
  }
  if (w->loop->calling == w) {
    w->loop->calling = NULL;
  }
  unlink_ready(w);
  sim_fd_watch(w->fd, NULL);
  free(w);
}

/* Those that were ready when the turn began, once each; level triggered. */
static void call_ready(msock_loop *loop) {
  msock_loop_fd turn = {.prev = loop->ready.prev, .next = loop->ready.next};
  if (loop->ready.next == &loop->ready) {
    return;
  }
  turn.prev->next = turn.next->prev = &turn;
  loop->ready.prev = loop->ready.next = &loop->ready;
  while (turn.next != &turn) {
    msock_loop_fd *w = turn.next;
    unlink_ready(w);
    if (!is_due(w)) {
      continue;
    }
    const bool bad = sim_fd_has_error(w->fd);
    loop->calling = w;
    w->cb(w->ctx, bad || (w->readable && sim_fd_is_readable(w->fd)),
          bad || (w->writable && sim_fd_is_writable(w->fd)));
    if (loop->calling == w) {
      sim_loop_fd_changed(w);
    }
    loop->calling = NULL;
  }
}

void sim_loop_turn(msock_loop *loop, uint64_t slept_us) {
  call_ready(loop);
  if (slept_us >= MSOCK_SUSPEND_MIN_US) {
    msock_logf(loop->log, MSOCK_LOG_INFO, "io.suspend", "slept_ms=%llu",
               (unsigned long long)(slept_us / 1000));
    if (loop->on_suspend != NULL) {
      loop->on_suspend(loop->suspend_ctx, slept_us);
    }
  }
  fire_due(loop);
  run_hooks(loop);
}

/* --- life --- */

msock_loop *msock_loop_new(const msock_log *log) {
  sim_process *p = sim_process_current();
  msock_loop *loop = calloc(1, sizeof *loop);
  assert(loop != NULL && p->loop == NULL);
  loop->uv.data = loop;
  loop->process = p;
  loop->log = log;
  loop->timers.prev = loop->timers.next = &loop->timers;
  loop->hooks.prev = loop->hooks.next = &loop->hooks;
  loop->ready.prev = loop->ready.next = &loop->ready;
  p->loop = loop;
  return loop;
}

static void end_look_up(look_up *l, int status, struct addrinfo *list);

void msock_loop_free(msock_loop *loop) {
  if (loop == NULL) {
    return;
  }
  while (loop->look_ups != NULL) {
    end_look_up(loop->look_ups, UV_ECANCELED, NULL);
  }
  loop->process->loop = NULL;
  sim_process_rearm(loop->process);
  free(loop->chunk);
  free(loop);
}

void msock_loop_stop(msock_loop *loop) {
  loop->process->stopped = true;
}

void msock_loop_on_suspend(msock_loop *loop, void (*cb)(void *ctx, uint64_t slept_us), void *ctx) {
  loop->on_suspend = cb;
  loop->suspend_ctx = ctx;
}

uint8_t *msock_loop_chunk(msock_loop *loop) {
  if (loop->chunk == NULL) {
    loop->chunk = malloc(MSOCK_STREAM_CHUNK);
  }
  return loop->chunk;
}

uv_loop_t *msock_loop_uv(msock_loop *loop) {
  return &loop->uv;
}

/* --- names --- */

static void end_look_up(look_up *l, int status, struct addrinfo *list) {
  look_up **at = &l->loop->look_ups;
  while (*at != l) {
    at = &(*at)->next;
  }
  *at = l->next;
  msock_loop_set_deadline(l->loop, &l->timer, MSOCK_NEVER);
  l->cb(l->req, l->cancelled ? UV_ECANCELED : status, list);
  free(l);
}

static struct addrinfo *address_of(const sim_io *io, const char *name, uint8_t family,
                                   struct addrinfo *next) {
  const msock_addr a = {.ip = sim_io_lookup(io, name, family)};
  if (a.ip.family == 0) {
    return next;
  }
  struct {
    struct addrinfo info;
    struct sockaddr_storage sa;
  } *one = calloc(1, sizeof *one);
  assert(one != NULL);
  one->info.ai_addrlen = msock_sockaddr_from(&a, &one->sa);
  one->info.ai_family = one->sa.ss_family;
  one->info.ai_addr = (struct sockaddr *)&one->sa;
  one->info.ai_next = next;
  return &one->info;
}

static void on_answer(void *ctx, uint64_t now_us) {
  look_up *l = ctx;
  sim_process *p = l->loop->process;
  sim_interface up[SIM_INTERFACES];
  struct addrinfo *list = NULL;
  (void)now_us;
  if (l->cancelled) {
    end_look_up(l, UV_ECANCELED, NULL);
    return;
  }
  if (sim_host_interfaces(p->host, up) == 0) {
    end_look_up(l, UV_EAI_AGAIN, NULL);
    return;
  }
  if (l->family != AF_INET) {
    list = address_of(p->io, l->name, 6, list);
  }
  if (l->family != AF_INET6) {
    list = address_of(p->io, l->name, 4, list);
  }
  end_look_up(l, list != NULL ? 0 : UV_EAI_NONAME, list);
}

int uv_getaddrinfo(uv_loop_t *uv, uv_getaddrinfo_t *req, uv_getaddrinfo_cb cb, const char *node,
                   const char *service, const struct addrinfo *hints) {
  msock_loop *loop = uv->data;
  look_up *l = calloc(1, sizeof *l);
  (void)service;
  assert(l != NULL);
  *l = (look_up){.next = loop->look_ups, .loop = loop, .req = req, .cb = cb};
  l->family = hints->ai_family;
  snprintf(l->name, sizeof l->name, "%s", node);
  msock_loop_timer_init(&l->timer, on_answer, l);
  loop->look_ups = l;
  msock_loop_set_deadline(loop, &l->timer, msock_loop_now_us() + SIM_RESOLVE_US);
  return 0;
}

/* As libuv does: the callback comes in a later turn. */
int uv_cancel(uv_req_t *req) {
  msock_loop *loop = sim_process_current()->loop;
  for (look_up *l = loop->look_ups; l != NULL; l = l->next) {
    if ((uv_req_t *)l->req == req) {
      l->cancelled = true;
      msock_loop_set_deadline(loop, &l->timer, msock_loop_now_us());
    }
  }
  return 0;
}

void uv_freeaddrinfo(struct addrinfo *list) {
  while (list != NULL) {
    struct addrinfo *next = list->ai_next;
    free(list);
    list = next;
  }
}

const char *uv_strerror(int status) {
  return status == UV_EAI_AGAIN ? "temporary failure in name resolution" : "unknown name";
}
