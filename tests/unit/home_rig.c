#include "tests/unit/home_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

world *world_new(size_t n) {
  world *w = calloc(1, sizeof *w);
  ck_assert_ptr_nonnull(w);
  w->now_us = 1000 * SEC;
  w->mapped = msock_ip_v4(203, 0, 113, 7);
  w->map = (msock_derp_map){w->regions, n};
  for (size_t i = 0; i < n; i++) {
    w->nodes[i] = (msock_derp_node){.region_id = i + 1, .derp_port = 443, .stun_port = 3478};
    w->nodes[i].v4 = MSOCK_DERP_FAMILY_LITERAL;
    w->nodes[i].ipv4 = msock_ip_v4(192, 0, 2, (uint8_t)(i + 1));
    w->nodes[i].v6 = MSOCK_DERP_FAMILY_OFF;
    snprintf(w->nodes[i].host_name, sizeof w->nodes[i].host_name, "derp%zu.example", i + 1);
    w->regions[i] =
        (msock_derp_region){.id = i + 1, .score = 1.0, .nodes = &w->nodes[i], .n_nodes = 1};
    w->stun_us[i] = (i + 1) * 10 * MS;
    w->https_us[i] = (i + 1) * 15 * MS;
    w->captive[i] = 204;
  }
  return w;
}

void world_config(world *w, msock_home_config config) {
  config.env = testing_env(&w->rng, 5);
  w->h = msock_home_new(&config);
  ck_assert_ptr_nonnull(w->h);
}

void world_free(world *w) {
  msock_home_free(w->h);
  free(w);
}

static size_t server_at(const msock_ip *ip) {
  return (size_t)ip->b[ip->family == 4 ? 3 : 15] - 1;
}

static void handle_output(world *w, const msock_home_output *o) {
  event e = {.kind = o->kind, .cause = *o, .at_us = MSOCK_NEVER};
  switch (o->kind) {
  case MSOCK_HOME_SEND_STUN:
    e.server = server_at(&o->addr.ip);
    ck_assert_uint_lt(e.server, SERVERS);
    ck_assert_uint_eq(o->addr.port, 3478);
    ck_assert(!msock_ip_equal(&o->addr.ip, &w->mapped)); /* never to ourselves: no hairpin */
    msock_home_on_sent(w->h, o->addr.ip.family, !(w->send_fails >> e.server & 1u));
    if (w->sent[e.server] < 8) {
      w->sent_at[e.server][w->sent[e.server]] = w->now_us;
    }
    w->sent[e.server]++;
    if (w->stun_us[e.server] != SILENT && !(w->send_fails >> e.server & 1u)) {
      e.at_us = w->now_us + w->stun_us[e.server];
    }
    break;
  case MSOCK_HOME_HTTPS_PROBE:
    e.server = server_at(&o->addr.ip);
    ck_assert_uint_eq(o->addr.port, 443);
    ck_assert_ptr_nonnull(o->target);
    w->requests[e.server]++;
    w->https_sent_at[e.server] = w->now_us;
    if (w->https_us[e.server] != MSOCK_NEVER) {
      e.at_us = w->now_us + (w->https_us[e.server] == SILENT        ? MS
                             : w->https_us[e.server] > o->budget_us ? o->budget_us
                                                                    : w->https_us[e.server]);
    }
    break;
  case MSOCK_HOME_CAPTIVE_PROBE:
    e.server = server_at(&o->addr.ip);
    ck_assert_uint_eq(o->addr.port, 80);
    w->looks[e.server]++;
    e.at_us = w->now_us + (w->captive[e.server] < 0 ? o->budget_us : MS);
    break;
  case MSOCK_HOME_REFLEXIVE:
    w->reflexive_server = o->addr;
    w->reflexive = o->mapped;
    w->n_reflexive++;
    break;
  case MSOCK_HOME_RESOLVE:
    ck_assert_int_eq(sscanf(o->host, "derp%zu.example", &e.server), 1);
    e.server--;
    w->lookups++;
    e.at_us = w->now_us + w->dns_us;
    break;
  case MSOCK_HOME_CHANGED:
    ck_assert_uint_lt(w->n_changes, 16);
    w->changed_at[w->n_changes] = w->now_us;
    w->changes[w->n_changes++] = o->region;
    break;
  case MSOCK_HOME_REPORT:
    if (w->reports < 64) {
      w->report_at[w->reports] = w->now_us;
    }
    w->reports++;
    break;
  }
  if (e.at_us != MSOCK_NEVER) {
    ck_assert_uint_lt(w->n_events, EVENTS);
    w->events[w->n_events++] = e;
  }
}

void world_drain(world *w) {
  msock_home_output o;
  while (msock_home_next_output(w->h, w->now_us, &o)) {
    handle_output(w, &o);
  }
}

size_t world_answer(const world *w, const event *e, uint8_t dst[static 64]) {
  const msock_stun_txid id = msock_stun_txid_of(e->cause.bytes);
  const msock_addr mapped = {w->mapped, (uint16_t)(40000 + w->port_step * e->server)};
  const ptrdiff_t n = msock_stun_encode_response(&id, &mapped, false, dst, 64);
  ck_assert_int_gt(n, 0);
  return (size_t)n;
}

static void deliver_captive(world *w, const event *e) {
  char good[80];
  snprintf(good, sizeof good, "response %s", e->cause.challenge);
  const bool found =
      w->captive[e->server] > 0 &&
      msock_captive_found(w->captive[e->server], w->captive_response ? w->captive_response : good,
                          e->cause.challenge);
  msock_home_on_captive_result(w->h, w->now_us, e->cause.id, found);
}

static void deliver(world *w, const event *e) {
  uint8_t p[64];
  if (e->kind == MSOCK_HOME_SEND_STUN) {
    const size_t n = world_answer(w, e, p);
    ck_assert(msock_home_on_udp(w->h, w->now_us, &e->cause.addr, p, n));
  } else if (e->kind == MSOCK_HOME_HTTPS_PROBE) {
    const uint64_t us = w->https_us[e->server];
    msock_home_on_https_result(w->h, w->now_us, e->cause.id, us > e->cause.budget_us ? 0 : us);
  } else if (e->kind == MSOCK_HOME_CAPTIVE_PROBE) {
    deliver_captive(w, e);
  } else {
    const msock_ip ips[] = {{6, {0x20, 1, [15] = 9}},
                            msock_ip_v4(192, 0, 2, (uint8_t)(e->server + 1))};
    msock_home_on_resolved(w->h, w->now_us, e->cause.id, ips, 2);
  }
}

void run_until(world *w, uint64_t end_us) {
  for (int guard = 0;; guard++) {
    ck_assert_msg(guard < 100000, "the machine does not come to rest");
    world_drain(w);
    const uint64_t timer = msock_home_next_expiry(w->h);
    size_t first = w->n_events;
    uint64_t at = timer;
    for (size_t i = 0; i < w->n_events; i++) {
      if (w->events[i].at_us <= at) {
        at = w->events[i].at_us;
        first = i;
      }
    }
    if (at > end_us) {
      break;
    }
    ck_assert_msg(at > w->now_us || first < w->n_events || guard < 90000, "a timer in the past");
    w->now_us = at > w->now_us ? at : w->now_us;
    if (!w->idle) {
      msock_home_on_activity(w->h, w->now_us);
    }
    if (first < w->n_events) {
      const event e = w->events[first];
      w->events[first] = w->events[--w->n_events];
      deliver(w, &e);
    } else {
      msock_home_on_expiry(w->h, w->now_us);
    }
  }
  w->now_us = end_us;
  world_drain(w);
}

void start(world *w) {
  ck_assert_int_eq(msock_home_set_map(w->h, w->now_us, &w->map), MSOCK_OK);
  msock_home_start(w->h, w->now_us);
}

const msock_home_report *report(const world *w) {
  return msock_home_report_of(w->h);
}
