#include "io/tcp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/sockaddr.h"

typedef enum attempt_state {
  ATTEMPT_WAITING = 0,
  ATTEMPT_CONNECTING,
  ATTEMPT_FAILED
} attempt_state;

typedef struct attempt {
  msock_tcp_dial *dial;
  msock_addr to;
  uint64_t start_us;
  attempt_state state;
  int fd; /* -1 unless connecting */
  msock_loop_fd *watch;
} attempt;

struct msock_tcp_dial {
  msock_egress *eg;
  msock_loop *loop;
  msock_tcp_target target;
  void (*cb)(void *ctx, const msock_tcp_result *r);
  void *ctx;
  uint64_t began_us, deadline_us;
  msock_loop_timer timer;
  msock_resolve *resolve[2]; /* IPv4, IPv6 */
  attempt attempts[MSOCK_TCP_CANDIDATES_MAX];
  size_t n_attempts;
  bool any_denied_only; /* every refusal so far was the profile's */
  bool done;
  char why[MSOCK_TCP_WHY_MAX]; /* the last failure */
};

static void copy_text(char *dst, size_t cap, const char *src) {
  snprintf(dst, cap, "%s", src);
}

void msock_tcp_target_host(msock_tcp_target *t, msock_purpose p, const char *host, uint16_t port,
                           uint64_t budget_us) {
  *t = (msock_tcp_target){.purpose = p, .port = port, .budget_us = budget_us};
  copy_text(t->host, sizeof t->host, host);
  if (msock_ip_parse(host, &t->literal[0]) != MSOCK_OK) {
    t->resolve_v4 = t->resolve_v6 = true;
  }
}

void msock_tcp_target_derp(msock_tcp_target *t, const msock_derp_node *n, bool ipv6_works) {
  msock_ip host_ip = {0};
  *t = (msock_tcp_target){.purpose = MSOCK_PURPOSE_DERP,
                          .port = n->derp_port,
                          .budget_us = MSOCK_TCP_NODE_BUDGET_US,
                          .v4_delay_us = ipv6_works ? MSOCK_TCP_V4_DELAY_US : 0};
  copy_text(t->host, sizeof t->host, n->host_name);
  const bool host_is_ip = msock_ip_parse(n->host_name, &host_ip) == MSOCK_OK;

  if (n->v4 == MSOCK_DERP_FAMILY_LITERAL) {
    t->literal[0] = n->ipv4;
  } else if (n->v4 == MSOCK_DERP_FAMILY_RESOLVE && host_is_ip && host_ip.family == 4) {
    t->literal[0] = host_ip;
  } else {
    t->resolve_v4 = n->v4 == MSOCK_DERP_FAMILY_RESOLVE && !host_is_ip;
  }
  if (n->v6 == MSOCK_DERP_FAMILY_LITERAL) {
    t->literal[1] = n->ipv6;
  } else if (n->v6 == MSOCK_DERP_FAMILY_RESOLVE && host_is_ip && host_ip.family == 6) {
    t->literal[1] = host_ip;
  } else {
    t->resolve_v6 = n->v6 == MSOCK_DERP_FAMILY_RESOLVE && !host_is_ip;
  }
}

static void close_attempt(attempt *a) {
  msock_loop_fd_free(a->watch);
  a->watch = NULL;
  if (a->fd >= 0) {
    close(a->fd);
    a->fd = -1;
  }
}

static void stop(msock_tcp_dial *d) {
  d->done = true;
  msock_loop_set_deadline(d->loop, &d->timer, MSOCK_NEVER);
  for (size_t i = 0; i < 2; i++) {
    msock_resolve_cancel(d->resolve[i]);
    d->resolve[i] = NULL;
  }
  for (size_t i = 0; i < d->n_attempts; i++) {
    close_attempt(&d->attempts[i]);
  }
}

void msock_tcp_dial_free(msock_tcp_dial *d) {
  if (d != NULL) {
    stop(d);
    free(d);
  }
}

/* The end. The callback may free the dial: nothing is touched after it. */
static void finish(msock_tcp_dial *d, msock_tcp_result *r) {
  stop(d);
  d->cb(d->ctx, r);
}

static void fail(msock_tcp_dial *d, msock_err err) {
  msock_tcp_result r = {.err = err, .fd = -1};
  char last[MSOCK_TCP_WHY_MAX];
  copy_text(last, sizeof last, d->why);
  if (err == MSOCK_ERR_TIMEOUT) {
    snprintf(r.why, sizeof r.why, "no connection to %.100s port %u within %llu ms; %s",
             d->target.host[0] != '\0' ? d->target.host : "the address", d->target.port,
             (unsigned long long)(d->target.budget_us / 1000),
             last[0] != '\0' ? "check the address and firewalls" : "no answer: a firewall?");
  } else {
    copy_text(r.why, sizeof r.why, last);
  }
  finish(d, &r);
}

static void note_failure(msock_tcp_dial *d, const attempt *a, msock_err err, int system_errno) {
  char text[MSOCK_ADDR_TEXT_MAX];
  msock_addr_text(&a->to, text);
  if (err == MSOCK_ERR_DENIED) {
    snprintf(d->why, sizeof d->why, "%s: the active profile forbids %s over %s", text,
             msock_purpose_text(d->target.purpose), a->to.ip.family == 6 ? "IPv6" : "IPv4");
    return;
  }
  d->any_denied_only = false;
  snprintf(d->why, sizeof d->why, "connect to %s: %s%s", text, strerror(system_errno),
           system_errno == ECONNREFUSED  ? "; is the server running on that port?"
           : system_errno == ENETUNREACH ? "; is this machine online?"
                                         : "");
}

static void advance(msock_tcp_dial *d);

static void succeed(attempt *a) {
  msock_tcp_dial *d = a->dial;
  msock_tcp_result r = {.err = MSOCK_OK, .fd = a->fd, .remote = a->to};
  msock_loop_fd_free(a->watch);
  a->watch = NULL;
  a->fd = -1; /* the receiver's now */
  msock_sockaddr_local(r.fd, &r.local);
  finish(d, &r);
}

static void on_connect(void *ctx, bool readable, bool writable) {
  attempt *a = ctx;
  int system_errno = 0;
  socklen_t len = sizeof system_errno;
  (void)readable;
  (void)writable;

  if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &system_errno, &len) != 0) {
    system_errno = errno;
  }
  if (system_errno == 0) {
    succeed(a);
    return;
  }
  close_attempt(a);
  a->state = ATTEMPT_FAILED;
  note_failure(a->dial, a, MSOCK_ERR_IO, system_errno);
  advance(a->dial);
}

static void start(attempt *a) {
  msock_tcp_dial *d = a->dial;
  const msock_err err = msock_egress_tcp_connect(d->eg, d->target.purpose, &a->to, &a->fd);
  if (err == MSOCK_OK) {
    a->watch = msock_loop_fd_new(d->loop, a->fd, on_connect, a);
    if (a->watch != NULL) {
      a->state = ATTEMPT_CONNECTING;
      msock_loop_fd_want(a->watch, false, true);
      return;
    }
  }
  const int system_errno = errno;
  close_attempt(a);
  a->state = ATTEMPT_FAILED;
  note_failure(d, a, err, system_errno);
}

/* Starts what is due; ends the dial when nothing is left; else sleeps to the next event. */
static void advance(msock_tcp_dial *d) {
  const uint64_t now_us = msock_loop_now_us();
  uint64_t next_us = d->deadline_us;
  size_t connecting = 0, waiting = 0;

  if (now_us >= d->deadline_us) {
    fail(d, MSOCK_ERR_TIMEOUT);
    return;
  }
  for (size_t i = 0; i < d->n_attempts; i++) {
    if (d->attempts[i].state == ATTEMPT_WAITING && d->attempts[i].start_us <= now_us) {
      start(&d->attempts[i]);
    }
    connecting += d->attempts[i].state == ATTEMPT_CONNECTING;
    waiting += d->attempts[i].state == ATTEMPT_WAITING;
  }
  const bool resolving = d->resolve[0] != NULL || d->resolve[1] != NULL;
  if (connecting == 0 && !resolving) {
    if (waiting == 0) {
      fail(d, d->any_denied_only ? MSOCK_ERR_DENIED : MSOCK_ERR_IO);
      return;
    }
    for (size_t i = 0; i < d->n_attempts; i++) { /* nothing else runs: do not wait out the delay */
      d->attempts[i].start_us = 0;
    }
    next_us = now_us;
  }
  for (size_t i = 0; i < d->n_attempts; i++) {
    if (d->attempts[i].state == ATTEMPT_WAITING && d->attempts[i].start_us < next_us) {
      next_us = d->attempts[i].start_us;
    }
  }
  msock_loop_set_deadline(d->loop, &d->timer, next_us);
}

static void add_attempt(msock_tcp_dial *d, const msock_ip *ip) {
  if (d->n_attempts == MSOCK_TCP_CANDIDATES_MAX) {
    return;
  }
  attempt *a = &d->attempts[d->n_attempts++];
  *a = (attempt){.dial = d, .to = {.ip = *ip, .port = d->target.port}, .fd = -1};
  a->start_us = d->began_us + (ip->family == 4 ? d->target.v4_delay_us : 0);
}

static void on_names(msock_tcp_dial *d, size_t which, msock_err err, const msock_ip *ips, size_t n,
                     const char *why) {
  d->resolve[which] = NULL;
  if (err != MSOCK_OK) {
    if (d->why[0] == '\0') {
      snprintf(d->why, sizeof d->why, "look-up of %.100s: %.60s", d->target.host, why);
    }
    d->any_denied_only = false;
  }
  for (size_t i = 0; i < n; i++) {
    add_attempt(d, &ips[i]);
  }
  advance(d);
}

static void on_v4_names(void *ctx, msock_err err, const msock_ip *ips, size_t n, const char *why) {
  on_names(ctx, 0, err, ips, n, why);
}

static void on_v6_names(void *ctx, msock_err err, const msock_ip *ips, size_t n, const char *why) {
  on_names(ctx, 1, err, ips, n, why);
}

static void on_timer(void *ctx, uint64_t now_us) {
  (void)now_us;
  advance(ctx);
}

static msock_err begin_lookups(msock_tcp_dial *d) {
  msock_tcp_target *t = &d->target;
  msock_err err = MSOCK_OK;
  if (t->resolve_v4) {
    err = msock_egress_resolve(d->eg, t->purpose, t->host, 4, on_v4_names, d, &d->resolve[0]);
    if (err != MSOCK_OK && err != MSOCK_ERR_DENIED) {
      return err;
    }
  }
  if (t->resolve_v6 && msock_egress_allows(d->eg, MSOCK_PURPOSE_IPV6)) {
    const msock_err err6 =
        msock_egress_resolve(d->eg, t->purpose, t->host, 6, on_v6_names, d, &d->resolve[1]);
    if (err6 != MSOCK_OK && err6 != MSOCK_ERR_DENIED) {
      return err6;
    }
  }
  return err;
}

msock_err msock_tcp_dial_new(msock_egress *eg, const msock_tcp_target *t,
                             void (*cb)(void *ctx, const msock_tcp_result *r), void *ctx,
                             msock_tcp_dial **out) {
  if (!t->resolve_v4 && !t->resolve_v6 && t->literal[0].family == 0 && t->literal[1].family == 0) {
    return MSOCK_ERR_INVALID;
  }
  if (!msock_egress_allows(eg, t->purpose)) {
    const msock_addr to = {.ip = t->literal[0], .port = t->port};
    return msock_egress_check(eg, t->purpose, &to);
  }
  msock_tcp_dial *d = calloc(1, sizeof *d);
  if (d == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  d->eg = eg;
  d->loop = msock_egress_loop(eg);
  d->target = *t;
  d->cb = cb;
  d->ctx = ctx;
  d->any_denied_only = true;
  d->began_us = msock_loop_now_us();
  d->deadline_us = d->began_us + t->budget_us;
  msock_loop_timer_init(&d->timer, on_timer, d);
  for (size_t i = 2; i-- > 0;) { /* the IPv6 literal first, as peers do */
    if (t->literal[i].family != 0) {
      add_attempt(d, &t->literal[i]);
    }
  }
  const msock_err err = begin_lookups(d);
  if (err != MSOCK_OK && d->n_attempts == 0 && d->resolve[0] == NULL && d->resolve[1] == NULL) {
    msock_tcp_dial_free(d);
    return err;
  }
  msock_loop_set_deadline(d->loop, &d->timer, d->began_us); /* start in the next turn */
  *out = d;
  return MSOCK_OK;
}
