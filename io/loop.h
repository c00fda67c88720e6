/* io/loop.h: the event loop: libuv for descriptors and signals, one CLOCK_BOOTTIME timerfd for
 * every deadline (libuv's own timers are whole milliseconds and stop in suspend).
 *
 * One turn: descriptors that are ready call their owners, due timers fire, then the after-turn
 * hooks run once (flush batches there), then the loop sleeps. Callbacks may free any loop object,
 * their own included. One thread: no call here is safe from another one.
 *
 * Files of this room: egress (opens every descriptor), tcp and tls under stream, http, udp, tun,
 * netlink, file, unix_server, unix_client. */
#ifndef MSOCK_IO_LOOP_H
#define MSOCK_IO_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"

typedef struct msock_loop msock_loop;

/* NULL when the system refuses (no memory, no descriptors). The log is borrowed, may be NULL. */
msock_loop *msock_loop_new(const msock_log *log);
/* Free every watch, timer owner and resolver before; what is left is closed without a callback. */
void msock_loop_free(msock_loop *loop);

/* Runs turns until msock_loop_stop, which may be called from any callback. */
void msock_loop_run(msock_loop *loop);
void msock_loop_stop(msock_loop *loop);
/* One turn; wait = sleep until something happens. For embedders and tests. */
void msock_loop_turn(msock_loop *loop, bool wait);
/* A descriptor that polls readable when a turn has work, deadlines included. */
int msock_loop_backend_fd(const msock_loop *loop);
/* The earliest deadline, or MSOCK_NEVER. */
uint64_t msock_loop_next_deadline(const msock_loop *loop);

/* CLOCK_BOOTTIME, microseconds: the now_us of every machine. */
uint64_t msock_loop_now_us(void);
/* CLOCK_REALTIME, microseconds since 1970. */
uint64_t msock_loop_wall_us(void);
/* The env for pure machines: the crypto room's CSPRNG, and this loop's log. */
msock_env msock_loop_env(const msock_loop *loop);

/* A deadline. Lives in its owner's struct; the fields are the loop's. */
typedef struct msock_loop_timer {
  struct msock_loop_timer *prev, *next; /* NULL when not armed */
  uint64_t deadline_us;
  void (*cb)(void *ctx, uint64_t now_us);
  void *ctx;
} msock_loop_timer;

void msock_loop_timer_init(msock_loop_timer *t, void (*cb)(void *ctx, uint64_t now_us), void *ctx);
/* Fires once at the first turn at or after deadline_us; replaces an earlier setting. MSOCK_NEVER
 * disarms. Timers with equal deadlines fire in the order they were set. Disarm before the owner's
 * memory goes. */
void msock_loop_set_deadline(msock_loop *loop, msock_loop_timer *t, uint64_t deadline_us);

/* A watched descriptor. Level triggered. Errors and hang-ups are shown as readable and writable, so
 * that the owner's next read or write tells. */
typedef struct msock_loop_fd msock_loop_fd;
typedef void (*msock_loop_fd_cb)(void *ctx, bool readable, bool writable);
/* Borrows fd; nothing is wanted at first. NULL: no memory, or epoll cannot watch fd. */
msock_loop_fd *msock_loop_fd_new(msock_loop *loop, int fd, msock_loop_fd_cb cb, void *ctx);
void msock_loop_fd_want(msock_loop_fd *w, bool readable, bool writable);
/* No callback after this; the owner may close fd at once. NULL is fine. */
void msock_loop_fd_free(msock_loop_fd *w);

/* Called once per turn after all descriptors and timers. Lives in its owner's struct. */
typedef struct msock_loop_hook {
  struct msock_loop_hook *prev, *next;
  void (*cb)(void *ctx, uint64_t now_us);
  void *ctx;
} msock_loop_hook;
void msock_loop_hook_add(msock_loop *loop, msock_loop_hook *h, void (*cb)(void *, uint64_t),
                         void *ctx);
void msock_loop_hook_remove(msock_loop_hook *h); /* no-op when not added */

#define MSOCK_LOOP_SIGNALS_MAX 8u
/* Watches a signal; SIGPIPE is ignored by the loop anyway. MSOCK_ERR_NOMEM over the bound. */
msock_err msock_loop_on_signal(msock_loop *loop, int signo, void (*cb)(void *ctx, int signo),
                               void *ctx);

/* Sleep of the machine: the gap between BOOTTIME and MONOTONIC grows. */
#define MSOCK_SUSPEND_MIN_US (2 * MSOCK_SEC) /* smaller growth is clock noise */
typedef struct msock_suspend {
  uint64_t gap_us;
} msock_suspend;
/* True when the gap grew by MSOCK_SUSPEND_MIN_US or more since the last call that said so; slept_us
 * is that growth. Pure. */
bool msock_suspend_check(msock_suspend *s, uint64_t boot_us, uint64_t mono_us, uint64_t *slept_us);
/* One callback per loop, called in the first turn after a sleep, before that turn's timers. */
void msock_loop_on_suspend(msock_loop *loop, void (*cb)(void *ctx, uint64_t slept_us), void *ctx);

#endif
