#include "io/loop.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "crypto/init.h"
#include "io/loop_internal.h"
#include "io/stream.h"

struct msock_loop_fd {
  uv_poll_t poll;
  msock_loop_fd_cb cb; /* NULL once freed */
  void *ctx;
  bool readable, writable; /* wanted */
};

typedef struct loop_signal {
  uv_signal_t sig;
  void (*cb)(void *ctx, int signo);
  void *ctx;
} loop_signal;

struct msock_loop {
  uv_loop_t uv;
  uv_poll_t timer_poll;
  uv_prepare_t prepare;
  uv_check_t check;
  bool entered; /* run or turn was just called: what was queued outside is still to be done */
  int timerfd;
  uint64_t armed_us;       /* what the timerfd is set to; MSOCK_NEVER = disarmed */
  msock_loop_timer timers; /* sentinel of a ring sorted by deadline */
  msock_loop_hook hooks;   /* sentinel of a ring */
  loop_signal signals[MSOCK_LOOP_SIGNALS_MAX];
  size_t n_signals;
  msock_suspend suspend;
  void (*on_suspend)(void *ctx, uint64_t slept_us);
  void *suspend_ctx;
  const msock_log *log;
  uint8_t *chunk; /* MSOCK_STREAM_CHUNK bytes, made at first use */
};

static uint64_t clock_us(clockid_t id) {
  struct timespec ts = {0};
  clock_gettime(id, &ts);
  return (uint64_t)ts.tv_sec * MSOCK_SEC + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t msock_loop_now_us(void) {
  return clock_us(CLOCK_BOOTTIME);
}

uint64_t msock_loop_wall_us(void) {
  return clock_us(CLOCK_REALTIME);
}

msock_env msock_loop_env(const msock_loop *loop) {
  return (msock_env){.ctx = NULL, .random = msock_crypto_random, .log = loop->log};
}

uv_loop_t *msock_loop_uv(msock_loop *loop) {
  return &loop->uv;
}

uint8_t *msock_loop_chunk(msock_loop *loop) {
  if (loop->chunk == NULL) {
    loop->chunk = malloc(MSOCK_STREAM_CHUNK);
  }
  return loop->chunk;
}

/* Timers */

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
  msock_loop_timer *at = ring->prev; /* from the end: new deadlines are mostly late ones */
  while (at != ring && at->deadline_us > t->deadline_us) {
    at = at->prev;
  }
  t->prev = at;
  t->next = at->next;
  at->next->prev = t;
  at->next = t;
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
}

uint64_t msock_loop_next_deadline(const msock_loop *loop) {
  return loop->timers.next == &loop->timers ? MSOCK_NEVER : loop->timers.next->deadline_us;
}

/* Only what was due when the turn began: a callback that sets itself to "now" waits a turn. */
static void fire_due(msock_loop *loop) {
  const uint64_t now_us = msock_loop_now_us();
  msock_loop_timer due = {.prev = &due, .next = &due};

  while (loop->timers.next != &loop->timers && loop->timers.next->deadline_us <= now_us) {
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

/* The timerfd follows the earliest deadline; set only when that changed, just before sleeping. */
static void arm_timerfd(msock_loop *loop) {
  const uint64_t want_us = msock_loop_next_deadline(loop);
  struct itimerspec spec = {0};

  if (want_us == loop->armed_us) {
    return;
  }
  loop->armed_us = want_us;
  if (want_us != MSOCK_NEVER) {
    spec.it_value.tv_sec = (time_t)(want_us / MSOCK_SEC);
    spec.it_value.tv_nsec = (long)(want_us % MSOCK_SEC * 1000);
    if (want_us == 0) {
      spec.it_value.tv_nsec = 1; /* zero would disarm */
    }
  }
  timerfd_settime(loop->timerfd, TFD_TIMER_ABSTIME, &spec, NULL);
}

bool msock_suspend_check(msock_suspend *s, uint64_t boot_us, uint64_t mono_us, uint64_t *slept_us) {
  const uint64_t gap_us = boot_us > mono_us ? boot_us - mono_us : 0;
  if (gap_us < s->gap_us + MSOCK_SUSPEND_MIN_US) {
    return false;
  }
  *slept_us = gap_us - s->gap_us;
  s->gap_us = gap_us;
  return true;
}

static void look_for_suspend(msock_loop *loop) {
  uint64_t slept_us = 0;
  const uint64_t mono_us = clock_us(CLOCK_MONOTONIC);
  if (msock_suspend_check(&loop->suspend, msock_loop_now_us(), mono_us, &slept_us)) {
    msock_logf(loop->log, MSOCK_LOG_INFO, "io.suspend", "slept_ms=%llu",
               (unsigned long long)(slept_us / 1000));
    if (loop->on_suspend != NULL) {
      loop->on_suspend(loop->suspend_ctx, slept_us);
    }
  }
}

void msock_loop_on_suspend(msock_loop *loop, void (*cb)(void *ctx, uint64_t slept_us), void *ctx) {
  loop->on_suspend = cb;
  loop->suspend_ctx = ctx;
}

static void on_timerfd(uv_poll_t *h, int status, int events) {
  msock_loop *loop = h->data;
  uint64_t expirations;
  (void)status;
  (void)events;
  /* One expiry; the result is of no interest: the ring says what is due. */
  if (read(loop->timerfd, &expirations, sizeof expirations) == (ssize_t)sizeof expirations) {
    loop->armed_us = MSOCK_NEVER;
  }
}

/* Hooks */

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

/* A marker hook walks the ring, so that a callback may remove any hook, also the next one. */
static void run_hooks(msock_loop *loop) {
  const uint64_t now_us = msock_loop_now_us();
  msock_loop_hook *h = loop->hooks.next;
  while (h != &loop->hooks) {
    msock_loop_hook mark = {.cb = NULL, .prev = h, .next = h->next};
    h->next->prev = &mark;
    h->next = &mark;
    if (h->cb != NULL) {
      h->cb(h->ctx, now_us);
    }
    h = mark.next;
    msock_loop_hook_remove(&mark);
  }
}

static void finish_turn(msock_loop *loop) {
  look_for_suspend(loop);
  fire_due(loop);
  run_hooks(loop);
}

/* After the descriptors of a turn. */
static void on_check(uv_check_t *c) {
  msock_loop *loop = c->data;
  finish_turn(loop);
  arm_timerfd(loop); /* an embedder sleeps on the backend descriptor next */
}

/* Before the loop sleeps. */
static void on_prepare(uv_prepare_t *p) {
  msock_loop *loop = p->data;
  if (loop->entered) {
    loop->entered = false;
    finish_turn(loop);
  }
  arm_timerfd(loop);
}

/* Life of the loop */

static bool start_timerfd(msock_loop *loop) {
  loop->timerfd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
  if (loop->timerfd < 0) {
    return false;
  }
  if (uv_poll_init(&loop->uv, &loop->timer_poll, loop->timerfd) != 0) {
    close(loop->timerfd);
    return false;
  }
  loop->timer_poll.data = loop;
  uv_poll_start(&loop->timer_poll, UV_READABLE, on_timerfd);
  return true;
}

msock_loop *msock_loop_new(const msock_log *log) {
  msock_loop *loop = calloc(1, sizeof *loop);
  uint64_t slept_us;

  if (loop == NULL || uv_loop_init(&loop->uv) != 0) {
    free(loop);
    return NULL;
  }
  if (!start_timerfd(loop)) {
    uv_loop_close(&loop->uv);
    free(loop);
    return NULL;
  }
  uv_prepare_init(&loop->uv, &loop->prepare);
  loop->prepare.data = loop;
  uv_prepare_start(&loop->prepare, on_prepare);
  uv_check_init(&loop->uv, &loop->check);
  loop->check.data = loop;
  uv_check_start(&loop->check, on_check);
  loop->log = log;
  loop->armed_us = MSOCK_NEVER;
  loop->timers.prev = loop->timers.next = &loop->timers;
  loop->hooks.prev = loop->hooks.next = &loop->hooks;
  /* Sleep before the start is not news. */
  msock_suspend_check(&loop->suspend, msock_loop_now_us(), clock_us(CLOCK_MONOTONIC), &slept_us);
  signal(SIGPIPE, SIG_IGN); /* a closed peer is an error code, not a signal */
  return loop;
}

static void free_watch(uv_handle_t *h) {
  free(h->data);
}

static void close_left(uv_handle_t *h, void *arg) {
  msock_loop *loop = arg;
  if (uv_is_closing(h)) {
    return;
  }
  const bool watch = h->type == UV_POLL && h != (uv_handle_t *)&loop->timer_poll;
  uv_close(h, watch ? free_watch : NULL);
}

void msock_loop_free(msock_loop *loop) {
  if (loop == NULL) {
    return;
  }
  uv_walk(&loop->uv, close_left, loop);
  uv_run(&loop->uv, UV_RUN_DEFAULT); /* until every close has finished */
  const int rc = uv_loop_close(&loop->uv);
  assert(rc == 0);
  (void)rc;
  close(loop->timerfd);
  free(loop->chunk);
  free(loop);
}

void msock_loop_run(msock_loop *loop) {
  loop->entered = true;
  uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void msock_loop_stop(msock_loop *loop) {
  uv_stop(&loop->uv);
}

void msock_loop_turn(msock_loop *loop, bool wait) {
  loop->entered = true;
  uv_run(&loop->uv, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}

int msock_loop_backend_fd(const msock_loop *loop) {
  return uv_backend_fd(&loop->uv);
}

/* Descriptors */

static void on_poll(uv_poll_t *h, int status, int events) {
  msock_loop_fd *w = h->data;
  if (w->cb == NULL) {
    return;
  }
  if (status < 0) {
    w->cb(w->ctx, true, true);
    return;
  }
  const bool gone = (events & UV_DISCONNECT) != 0;
  w->cb(w->ctx, gone || (events & UV_READABLE) != 0, (events & UV_WRITABLE) != 0);
}

msock_loop_fd *msock_loop_fd_new(msock_loop *loop, int fd, msock_loop_fd_cb cb, void *ctx) {
  msock_loop_fd *w = calloc(1, sizeof *w);
  if (w == NULL || uv_poll_init(&loop->uv, &w->poll, fd) != 0) {
    free(w);
    return NULL;
  }
  w->poll.data = w;
  w->cb = cb;
  w->ctx = ctx;
  return w;
}

void msock_loop_fd_want(msock_loop_fd *w, bool readable, bool writable) {
  if (w->readable == readable && w->writable == writable) {
    return;
  }
  w->readable = readable;
  w->writable = writable;
  if (!readable && !writable) {
    uv_poll_stop(&w->poll);
    return;
  }
  uv_poll_start(&w->poll, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0), on_poll);
}

void msock_loop_fd_free(msock_loop_fd *w) {
  if (w == NULL) {
    return;
  }
  w->cb = NULL;
  uv_close((uv_handle_t *)&w->poll, free_watch);
}

/* Signals */

static void on_signal(uv_signal_t *h, int signo) {
  loop_signal *s = h->data;
  s->cb(s->ctx, signo);
}

msock_err msock_loop_on_signal(msock_loop *loop, int signo, void (*cb)(void *ctx, int signo),
                               void *ctx) {
  if (loop->n_signals == MSOCK_LOOP_SIGNALS_MAX) {
    return MSOCK_ERR_NOMEM;
  }
  loop_signal *s = &loop->signals[loop->n_signals];
  if (uv_signal_init(&loop->uv, &s->sig) != 0) {
    return MSOCK_ERR_IO;
  }
  loop->n_signals++;
  s->sig.data = s;
  s->cb = cb;
  s->ctx = ctx;
  return uv_signal_start(&s->sig, on_signal, signo) == 0 ? MSOCK_OK : MSOCK_ERR_IO;
}
