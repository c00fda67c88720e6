#include "node/homing.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/tcp.h"

typedef struct homing_job {
  msock_homing *owner;
  uint32_t id;
  bool in_use;
  msock_resolve *resolve;
  msock_tcp_dial *dial;
} homing_job;

struct msock_homing {
  msock_node_deps deps;
  msock_homing_handlers handlers;
  void *ctx;
  msock_udp *udp;
  msock_home *home;
  homing_job jobs[MSOCK_HOMING_JOBS_MAX];
};

msock_homing *msock_homing_new(const msock_node_deps *deps, msock_udp *udp,
                               const msock_homing_handlers *handlers, void *ctx) {
  msock_homing *h = calloc(1, sizeof *h);
  if (h == NULL) {
    return NULL;
  }
  const msock_home_config cfg = {
      .env = deps->env,
      .ipv6 = udp && msock_udp_local(udp).ip.family == 6,
      .no_names = !msock_egress_may_resolve(deps->egress, MSOCK_PURPOSE_STUN),
      .no_stun = udp == NULL,
  };
  h->deps = *deps;
  h->handlers = *handlers;
  h->ctx = ctx;
  h->udp = udp;
  h->home = msock_home_new(&cfg);
  if (h->home == NULL) {
    free(h);
    return NULL;
  }
  return h;
}

static void job_end(homing_job *j) {
  msock_resolve_cancel(j->resolve);
  msock_tcp_dial_free(j->dial);
  *j = (homing_job){0};
}

void msock_homing_free(msock_homing *h) {
  if (h == NULL) {
    return;
  }
  for (size_t i = 0; i < MSOCK_HOMING_JOBS_MAX; i++) {
    if (h->jobs[i].in_use) {
      job_end(&h->jobs[i]);
    }
  }
  msock_home_free(h->home);
  free(h);
}

msock_home *msock_homing_machine(msock_homing *h) {
  return h->home;
}

uint64_t msock_homing_next_expiry(const msock_homing *h) {
  return msock_home_next_expiry(h->home);
}

static homing_job *job_new(msock_homing *h, uint32_t id) {
  for (size_t i = 0; i < MSOCK_HOMING_JOBS_MAX; i++) {
    if (!h->jobs[i].in_use) {
      h->jobs[i] = (homing_job){.owner = h, .id = id, .in_use = true};
      return &h->jobs[i];
    }
  }
  return NULL;
}

static void on_resolved(void *ctx, msock_err err, const msock_ip *ips, size_t n, const char *why) {
  homing_job *j = ctx;
  msock_homing *h = j->owner;
  const uint32_t id = j->id;
  if (err != MSOCK_OK) {
    msock_logf(h->deps.log, MSOCK_LOG_DEBUG, "netcheck.resolve_failed", "reason=\"%s\"", why);
  }
  j->resolve = NULL; /* gone with this call */
  job_end(j);
  msock_home_on_resolved(h->home, msock_loop_now_us(), id, ips, err == MSOCK_OK ? n : 0);
}

static void on_dialled(void *ctx, const msock_tcp_result *r) {
  homing_job *j = ctx;
  msock_homing *h = j->owner;
  const uint32_t id = j->id;
  const bool ok = r->err == MSOCK_OK;
  if (ok) {
    close(r->fd);
  }
  job_end(j);
  msock_home_on_tcp_result(h->home, msock_loop_now_us(), id, ok);
}

static void start_resolve(msock_homing *h, uint64_t now_us, const msock_home_output *o) {
  homing_job *j = job_new(h, o->id);
  if (j && msock_egress_resolve(h->deps.egress, MSOCK_PURPOSE_STUN, o->host, 0, on_resolved, j,
                                &j->resolve) == MSOCK_OK) {
    return;
  }
  if (j) {
    *j = (homing_job){0};
  }
  msock_home_on_resolved(h->home, now_us, o->id, NULL, 0);
}

static void start_dial(msock_homing *h, uint64_t now_us, const msock_home_output *o) {
  homing_job *j = job_new(h, o->id);
  msock_tcp_target t;
  char host[MSOCK_IP_TEXT_MAX];
  msock_tcp_target_host(&t, MSOCK_PURPOSE_DERP_HTTP, msock_ip_text(&o->addr.ip, host), o->addr.port,
                        MSOCK_TCP_NODE_BUDGET_US);
  if (j && msock_tcp_dial_new(h->deps.egress, &t, on_dialled, j, &j->dial) == MSOCK_OK) {
    return;
  }
  if (j) {
    *j = (homing_job){0};
  }
  msock_home_on_tcp_result(h->home, now_us, o->id, false);
}

void msock_homing_pump(msock_homing *h, uint64_t now_us) {
  msock_home_output o;

  if (msock_home_next_expiry(h->home) <= now_us) {
    msock_home_on_expiry(h->home, now_us);
  }
  while (msock_home_next_output(h->home, now_us, &o)) {
    switch (o.kind) {
    case MSOCK_HOME_SEND_STUN:
      msock_egress_sendto(h->deps.egress, MSOCK_PURPOSE_STUN, msock_udp_fd(h->udp), &o.addr,
                          o.bytes, o.len);
      break;
    case MSOCK_HOME_RESOLVE:
      start_resolve(h, now_us, &o);
      break;
    case MSOCK_HOME_TCP_PROBE:
      start_dial(h, now_us, &o);
      break;
    case MSOCK_HOME_REPORT:
      h->handlers.report(h->ctx, now_us, msock_home_report_of(h->home));
      break;
    case MSOCK_HOME_CHANGED:
      msock_logf(h->deps.log, MSOCK_LOG_INFO, "netcheck.home", "region=%" PRIu64, o.region);
      h->handlers.home_changed(h->ctx, now_us, o.region);
      break;
    }
  }
}
