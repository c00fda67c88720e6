#include "node/homing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LATENCY_BODY_MAX 8192u  /* netcheck.md 2.5 */
#define CAPTIVE_BODY_MAX 65536u /* a portal's page; what it says does not matter */
#define URL_MAX 384u

typedef struct homing_job {
  msock_homing *owner;
  uint32_t id;
  bool in_use;
  msock_resolve *resolve; /* one of the two */
  msock_http_call *call;
  char challenge[MSOCK_CAPTIVE_TEXT_MAX];
} homing_job;

struct msock_homing {
  msock_node_deps deps;
  msock_homing_handlers handlers;
  void *ctx;
  msock_udp *udp;
  msock_home *home;
  homing_job jobs[MSOCK_HOMING_JOBS_MAX];
};

/* Can the system do IPv6 at all: only asked where the profile permits it (netcheck.md 2.1, 2.8). */
static bool os_has_ipv6(msock_egress *eg) {
  const msock_addr loopback = {.ip = {.family = 6, .b = {[15] = 1}}};
  int fd = -1;
  if (!msock_egress_allows(eg, MSOCK_PURPOSE_IPV6) ||
      msock_egress_udp_bind(eg, MSOCK_PURPOSE_STUN, &loopback, &fd, NULL) != MSOCK_OK) {
    return false;
  }
  close(fd);
  return true;
}

static bool speaks_ipv6(const msock_udp *udp) {
  return udp != NULL && msock_udp_local(udp).ip.family == 6;
}

msock_homing *msock_homing_new(const msock_node_deps *deps, msock_udp *udp,
                               const msock_homing_handlers *handlers, void *ctx) {
  msock_homing *h = calloc(1, sizeof *h);
  if (h == NULL) {
    return NULL;
  }
  const msock_home_config cfg = {
      .env = deps->env,
      .ipv6 = speaks_ipv6(udp),
      .no_names = !msock_egress_may_resolve(deps->egress, MSOCK_PURPOSE_STUN),
      .os_has_ipv6 = os_has_ipv6(deps->egress),
      .no_stun = udp == NULL,
      .no_https = !msock_egress_allows(deps->egress, MSOCK_PURPOSE_DERP_HTTP),
      .no_captive = !msock_egress_allows(deps->egress, MSOCK_PURPOSE_CAPTIVE),
      .sweep = msock_egress_get_config(deps->egress)->profile == MSOCK_PROFILE_PRIVACY_PROXY,
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
  msock_http_cancel(j->call);
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

void msock_homing_set_socket(msock_homing *h, msock_udp *udp) {
  h->udp = udp;
  msock_home_set_socket(h->home, udp != NULL, speaks_ipv6(udp));
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

static void on_latency(void *ctx, const msock_http_result *r) {
  homing_job *j = ctx;
  msock_homing *h = j->owner;
  const uint32_t id = j->id;
  const bool ok = r->err == MSOCK_OK && r->status >= 200 && r->status <= 299;
  if (!ok) {
    msock_logf(h->deps.log, MSOCK_LOG_DEBUG, "netcheck.https_failed", "status=%d reason=\"%s\"",
               r->status, r->why);
  }
  j->call = NULL; /* gone with this call */
  job_end(j);
  msock_home_on_https_result(h->home, msock_loop_now_us(), id,
                             !ok                 ? 0
                             : r->answer_us == 0 ? 1
                                                 : r->answer_us);
}

static void on_captive(void *ctx, const msock_http_result *r) {
  homing_job *j = ctx;
  msock_homing *h = j->owner;
  const uint32_t id = j->id;
  char response[MSOCK_CAPTIVE_TEXT_MAX + 16] = "";
  (void)msock_http_result_header(r, MSOCK_CAPTIVE_RESPONSE, response, sizeof response);
  /* INVALID is an answer too, longer than the longest or no HTTP: not a relay's */
  const bool found = r->err == MSOCK_OK ? msock_captive_found(r->status, response, j->challenge)
                                        : r->err == MSOCK_ERR_INVALID;
  msock_logf(h->deps.log, MSOCK_LOG_DEBUG, "netcheck.captive", "status=%d found=%d reason=\"%s\"",
             r->status, found, r->why);
  j->call = NULL;
  job_end(j);
  msock_home_on_captive_result(h->home, msock_loop_now_us(), id, found);
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

/* False: it could not even begin. */
static bool start_call(msock_homing *h, homing_job *j, const msock_http_request *r,
                       void (*cb)(void *ctx, const msock_http_result *r)) {
  if (j && msock_http_start(h->deps.http, r, cb, j, &j->call) == MSOCK_OK) {
    return true;
  }
  if (j) {
    *j = (homing_job){0};
  }
  return false;
}

static void start_latency(msock_homing *h, uint64_t now_us, const msock_home_output *o) {
  const msock_derp_node *n = o->target;
  const bool v6 = strchr(n->host_name, ':') != NULL;
  char url[URL_MAX];
  snprintf(url, sizeof url, "https://%s%s%s:%u/derp/latency-check", v6 ? "[" : "", n->host_name,
           v6 ? "]" : "", o->addr.port);
  const msock_http_request r = {.purpose = MSOCK_PURPOSE_DERP_HTTP,
                                .method = "GET",
                                .url = url,
                                .max_body = LATENCY_BODY_MAX,
                                .timeout_us = o->budget_us,
                                .connect_ip = o->addr.ip,
                                .cert_name = n->cert_name[0] ? n->cert_name : NULL,
                                .insecure_for_tests = n->insecure_for_tests};
  if (!start_call(h, job_new(h, o->id), &r, on_latency)) {
    msock_home_on_https_result(h->home, now_us, o->id, 0);
  }
}

static void start_captive(msock_homing *h, uint64_t now_us, const msock_home_output *o) {
  homing_job *j = job_new(h, o->id);
  char url[URL_MAX], header[128], ip[MSOCK_IP_TEXT_MAX];
  snprintf(url, sizeof url, "http://%s:%u/generate_204?t=%" PRIu64, msock_ip_text(&o->addr.ip, ip),
           o->addr.port, msock_loop_wall_us() / MSOCK_SEC);
  snprintf(header, sizeof header, MSOCK_CAPTIVE_CHALLENGE ": %s", o->challenge);
  const msock_http_request r = {.purpose = MSOCK_PURPOSE_CAPTIVE,
                                .method = "GET",
                                .url = url,
                                .headers = {header},
                                .max_body = CAPTIVE_BODY_MAX,
                                .timeout_us = o->budget_us,
                                .connect_ip = o->addr.ip};
  if (j) {
    memcpy(j->challenge, o->challenge, sizeof j->challenge);
  }
  if (!start_call(h, j, &r, on_captive)) {
    msock_home_on_captive_result(h->home, now_us, o->id, false);
  }
}

/* A full buffer or a local firewall (EPERM) is loss on the wire, not a family that cannot send. */
static void send_stun(msock_homing *h, const msock_home_output *o) {
  errno = 0;
  if (h->udp == NULL) { /* lost since: the round falls back to TCP */
    return;
  }
  const msock_err e = msock_egress_sendto(h->deps.egress, MSOCK_PURPOSE_STUN, msock_udp_fd(h->udp),
                                          &o->addr, o->bytes, o->len);
  const bool ok = e == MSOCK_OK || e == MSOCK_ERR_AGAIN || (e == MSOCK_ERR_IO && errno == EPERM);
  msock_home_on_sent(h->home, o->addr.ip.family, ok);
}

void msock_homing_pump(msock_homing *h, uint64_t now_us) {
  msock_home_output o;

  if (msock_home_next_expiry(h->home) <= now_us) {
    msock_home_on_expiry(h->home, now_us);
  }
  while (msock_home_next_output(h->home, now_us, &o)) {
    switch (o.kind) {
    case MSOCK_HOME_SEND_STUN:
      send_stun(h, &o);
      break;
    case MSOCK_HOME_RESOLVE:
      start_resolve(h, now_us, &o);
      break;
    case MSOCK_HOME_HTTPS_PROBE:
      start_latency(h, now_us, &o);
      break;
    case MSOCK_HOME_CAPTIVE_PROBE:
      start_captive(h, now_us, &o);
      break;
    case MSOCK_HOME_REFLEXIVE:
      if (h->handlers.reflexive) {
        h->handlers.reflexive(h->ctx, now_us, &o.addr, &o.mapped);
      }
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
