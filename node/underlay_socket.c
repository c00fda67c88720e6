#include "node/underlay_socket.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* magicsock.md 5.3: bind again with back-off 1 .. 30 s. */
#define RETRY_MIN_US (1 * MSOCK_SEC)
#define RETRY_MAX_US (30 * MSOCK_SEC)

struct msock_underlay {
  msock_node_deps deps;
  msock_underlay_config cfg;
  msock_underlay_handlers handlers;
  void *ctx;
  msock_udp *udp;
  uint16_t port;     /* that of the last socket; before: the configured one */
  bool was_bound;    /* from then on another port is better than none */
  bool said_no_ipv6; /* warned, and no IPv6 since */
  bool said_inert;   /* reported, and no socket since */
  bool died;         /* the socket at hand gave a read error */
  uint64_t wait_us;  /* until the next attempt, once inert */
  uint64_t bound_us; /* when the socket was bound */
  msock_loop_timer retry;
};

/* --- binding --- */

static void on_received(void *ctx, msock_packet *pkts, const msock_addr *from, size_t n,
                        uint64_t now_us) {
  msock_underlay *u = ctx;
  u->handlers.received(u->ctx, pkts, from, n, now_us);
}

static void on_fault(void *ctx, const msock_addr *to, msock_udp_fault fault, size_t n) {
  msock_underlay *u = ctx;
  u->handlers.fault(u->ctx, to, fault, n);
}

/* The socket is calling us: it goes in the next turn. */
static void on_dead(void *ctx, int system_errno) {
  msock_underlay *u = ctx;
  msock_logf(u->deps.log, MSOCK_LOG_ERROR, "udp.dead", "errno=%d reason=\"%s\"", system_errno,
             strerror(system_errno));
  u->died = true;
  msock_loop_set_deadline(u->deps.loop, &u->retry, msock_loop_now_us());
}

static const msock_udp_handlers udp_handlers = {
    .received = on_received, .fault = on_fault, .dead = on_dead};

typedef struct attempt {
  msock_addr on;
  msock_err err;
  int system_errno;
} attempt;

/* One address of the family; *last says what was tried last. */
static bool try_family(msock_underlay *u, uint8_t family, attempt *last) {
  const uint16_t ports[2] = {u->port, 0};
  const size_t n = u->was_bound && u->port != 0 ? 2 : 1; /* a fresh port rather than none */
  for (size_t i = 0; i < n && u->udp == NULL; i++) {
    *last = (attempt){.on = {.ip = {.family = family}, .port = ports[i]}};
    errno = 0;
    last->err =
        msock_udp_new(u->deps.egress, MSOCK_PURPOSE_WG, &last->on, &udp_handlers, u, &u->udp);
    last->system_errno = errno;
    if (last->err != MSOCK_OK) {
      u->udp = NULL;
    }
  }
  return u->udp != NULL;
}

static const char *reason(const attempt *a) {
  return a->err == MSOCK_ERR_IO ? strerror(a->system_errno) : msock_err_text(a->err);
}

static void say_no_ipv6(msock_underlay *u, const attempt *a) {
  char text[MSOCK_ADDR_TEXT_MAX];
  if (!u->said_no_ipv6) {
    u->said_no_ipv6 = true;
    msock_logf(u->deps.log, MSOCK_LOG_WARN, "udp.no_ipv6",
               "addr=%s ipv6=on reason=\"%s\" text=\"going on with IPv4 alone\"",
               msock_addr_text(&a->on, text), reason(a));
  }
}

static void say_inert(msock_underlay *u, const attempt *a) {
  char text[MSOCK_ADDR_TEXT_MAX];
  msock_logf(u->deps.log, u->said_inert ? MSOCK_LOG_DEBUG : MSOCK_LOG_ERROR, "udp.bind_failed",
             "addr=%s ipv6=%s reason=\"%s\" retry_s=%" PRIu64
             " text=\"going on by DERP alone; another port: --port\"",
             msock_addr_text(&a->on, text), u->cfg.ipv6 ? "on" : "off", reason(a),
             u->wait_us / MSOCK_SEC);
  u->said_inert = true;
}

static void wait(msock_underlay *u, uint64_t now_us) {
  msock_loop_set_deadline(u->deps.loop, &u->retry, now_us + u->wait_us);
  u->wait_us = u->wait_us * 2 < RETRY_MAX_US ? u->wait_us * 2 : RETRY_MAX_US;
}

static void bind_or_wait(msock_underlay *u, uint64_t now_us) {
  char text[MSOCK_ADDR_TEXT_MAX];
  attempt v6 = {0}, last = {0};
  const bool dual = u->cfg.ipv6 && try_family(u, 6, &v6);

  if (!dual && !try_family(u, 4, &last)) {
    say_inert(u, &last);
    wait(u, now_us);
    return;
  }
  if (u->cfg.ipv6 && !dual) {
    say_no_ipv6(u, &v6);
  }
  const msock_addr at = msock_udp_local(u->udp);
  u->port = at.port;
  u->was_bound = true;
  u->said_inert = false;
  u->said_no_ipv6 = u->said_no_ipv6 && !dual;
  u->bound_us = now_us;
  msock_loop_set_deadline(u->deps.loop, &u->retry, MSOCK_NEVER);
  msock_logf(u->deps.log, MSOCK_LOG_INFO, "udp.bound", "addr=%s ipv6=%s",
             msock_addr_text(&at, text), u->cfg.ipv6 ? "on" : "off");
}

/* --- life --- */

static void replace(msock_underlay *u, uint64_t now_us) {
  const bool had = u->udp != NULL;
  const bool again = u->died && now_us - u->bound_us < RETRY_MAX_US;
  if (had && !again) {
    u->wait_us = RETRY_MIN_US; /* the trouble before is history */
  }
  msock_udp_free(u->udp);
  u->udp = NULL;
  u->died = false;
  if (again) { /* sockets that die young: not one after the other without a pause */
    wait(u, now_us);
  } else {
    bind_or_wait(u, now_us);
  }
  if (had || u->udp != NULL) {
    u->handlers.changed(u->ctx, now_us, u->udp);
  }
}

static void on_retry(void *ctx, uint64_t now_us) {
  replace(ctx, now_us);
}

msock_underlay *msock_underlay_new(const msock_node_deps *deps, const msock_underlay_config *cfg,
                                   const msock_underlay_handlers *handlers, void *ctx) {
  msock_underlay *u = calloc(1, sizeof *u);
  if (u == NULL) {
    return NULL;
  }
  u->deps = *deps;
  u->cfg = *cfg;
  u->handlers = *handlers;
  u->ctx = ctx;
  u->port = cfg->port;
  u->wait_us = RETRY_MIN_US;
  msock_loop_timer_init(&u->retry, on_retry, u);
  if (!cfg->off) {
    bind_or_wait(u, msock_loop_now_us());
  }
  return u;
}

void msock_underlay_free(msock_underlay *u) {
  if (u != NULL) {
    msock_loop_set_deadline(u->deps.loop, &u->retry, MSOCK_NEVER);
    msock_udp_free(u->udp);
    free(u);
  }
}

msock_udp *msock_underlay_udp(const msock_underlay *u) {
  return u->udp;
}

void msock_underlay_rebind(msock_underlay *u, uint64_t now_us) {
  if (u->udp != NULL) {
    replace(u, now_us);
  }
}

void msock_underlay_want_rebind(msock_underlay *u) {
  if (u->udp != NULL) {
    msock_loop_set_deadline(u->deps.loop, &u->retry, msock_loop_now_us());
  }
}

void msock_underlay_network_changed(msock_underlay *u, uint64_t now_us) {
  if (!u->cfg.off) {
    replace(u, now_us);
  }
}
