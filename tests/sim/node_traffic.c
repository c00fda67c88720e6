#include "tests/sim/node_traffic.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "node/echo.h"

/* What an echo request carries, padded to its size. */
typedef struct payload {
  uint64_t id, sent_us;
} payload;

typedef struct probe {
  struct probe *next;
  sim_traffic *traffic;
  uint64_t id, sent_us;
  sim_event due; /* time-out, or the end that was asked for */
  bool sent;
  sim_ping_result result;
  const sim_node *to;
  uint64_t timeout_us;
  void (*cb)(void *ctx, const sim_ping_result *r);
  void *ctx;
} probe;

struct sim_flow {
  sim_flow *next;
  sim_traffic *traffic;
  const sim_node *to;
  uint64_t id, period_us;
  size_t bytes;
  sim_event tick;
  uint64_t last_good_us; /* when the newest answered request was sent */
  sim_flow_stats stats;
};

struct sim_traffic {
  sim_node *node;
  sim_world *w;
  probe *probes;
  sim_flow *flows;
  uint64_t last_id;
};

sim_traffic *sim_traffic_new(sim_node *n) {
  sim_traffic *t = calloc(1, sizeof *t);
  assert(t != NULL);
  t->node = n;
  t->w = sim_net_world(sim_host_net(sim_node_host(n)));
  return t;
}

/* --- in --- */

static void end_probe(probe *k) {
  probe **at = &k->traffic->probes;
  while (*at != k) {
    at = &(*at)->next;
  }
  *at = k->next;
  sim_world_cancel(k->traffic->w, &k->due);
  k->cb(k->ctx, &k->result);
  free(k);
}

static void note_gap(sim_flow *f, uint64_t from_us, uint64_t to_us) {
  if (to_us > from_us && to_us - from_us > f->stats.longest_gap_us) {
    f->stats.longest_gap_us = to_us - from_us;
    f->stats.longest_gap_at_us = from_us;
  }
}

/* From the answer before, or from the first request. */
static void note_silence(sim_flow_stats *s, uint64_t to_us) {
  const uint64_t from_us = s->last_answer_us != 0 ? s->last_answer_us : s->first_sent_us;
  if (to_us > from_us && to_us - from_us > s->longest_silence_us) {
    s->longest_silence_us = to_us - from_us;
    s->longest_silence_at_us = from_us;
  }
}

static void flow_answered(sim_flow *f, uint64_t now_us, uint64_t sent_us) {
  sim_flow_stats *s = &f->stats;
  if (sent_us < s->first_sent_us || s->first_sent_us == 0) {
    return; /* from before a reset */
  }
  s->answered++;
  s->first_answer_us = s->first_answer_us == 0 ? now_us : s->first_answer_us;
  note_silence(s, now_us);
  s->last_answer_us = now_us;
  s->rtt_sum_us += now_us - sent_us;
  s->rtt_max_us = now_us - sent_us > s->rtt_max_us ? now_us - sent_us : s->rtt_max_us;
  if (sent_us > f->last_good_us) {
    note_gap(f, f->last_good_us, sent_us);
    f->last_good_us = sent_us;
  }
}

static void on_reply(sim_traffic *t, const payload *y) {
  const uint64_t now_us = sim_world_now_us(t->w);
  for (probe *k = t->probes; k != NULL; k = k->next) {
    if (k->id == y->id) {
      k->result = (sim_ping_result){.answered = true, .rtt_us = now_us - y->sent_us};
      sim_world_set(t->w, &k->due, now_us);
      return;
    }
  }
  for (sim_flow *f = t->flows; f != NULL; f = f->next) {
    if (f->id == y->id) {
      flow_answered(f, now_us, y->sent_us);
      return;
    }
  }
}

/* A packet that came out of the tunnel. */
static void on_tun(void *ctx, const uint8_t *packet, size_t len) {
  sim_traffic *t = ctx;
  sim_process *p = sim_node_process(t->node);
  uint8_t copy[MSOCK_TUN_PACKET_MAX];
  msock_prefix addrs[SIM_ADDRESSES_MAX];
  msock_ip own[SIM_ADDRESSES_MAX];
  msock_echo_reply reply;
  payload y;
  const size_t n = sim_process_tun_addresses(p, addrs, SIM_ADDRESSES_MAX);

  for (size_t i = 0; i < n; i++) {
    own[i] = addrs[i].ip;
  }
  if (msock_echo_parse_reply(packet, len, &reply) == MSOCK_OK && reply.payload_len >= sizeof y) {
    memcpy(&y, reply.payload, sizeof y);
    on_reply(t, &y);
    return;
  }
  assert(len <= sizeof copy);
  memcpy(copy, packet, len);
  const size_t answer = msock_echo_answer(copy, len, own, n);
  if (answer > 0) {
    sim_process_tun_inject(p, copy, answer);
  }
}

void sim_traffic_attach(sim_traffic *t, sim_process *p) {
  sim_process_on_tun(p, on_tun, t);
}

/* --- out --- */

static msock_ip source_of(const sim_process *p) {
  msock_prefix addrs[SIM_ADDRESSES_MAX];
  const size_t n = p != NULL ? sim_process_tun_addresses(p, addrs, SIM_ADDRESSES_MAX) : 0;
  for (size_t i = 0; i < n; i++) {
    if (addrs[i].ip.family == 4) {
      return addrs[i].ip;
    }
  }
  return (msock_ip){0};
}

/* False: there is no tunnel now, or the peer has no address. */
static bool send_request(sim_traffic *t, const sim_node *to, uint64_t id, size_t bytes) {
  sim_process *p = sim_node_process(t->node);
  uint8_t packet[MSOCK_TUN_PACKET_MAX], body[MSOCK_TUN_PACKET_MAX] = {0};
  const payload y = {.id = id, .sent_us = sim_world_now_us(t->w)};
  const msock_ip src = source_of(p), dst = sim_node_ip(to);
  if (src.family == 0 || dst.family == 0) {
    return false;
  }
  memcpy(body, &y, sizeof y);
  const ptrdiff_t len =
      msock_echo_request(packet, sizeof packet, &src, &dst, (uint16_t)id, 1, body, bytes);
  return len > 0 && sim_process_tun_inject(p, packet, (size_t)len);
}

static void on_probe_due(void *ctx) {
  probe *k = ctx;
  if (k->sent) {
    end_probe(k);
    return;
  }
  k->sent = true;
  send_request(k->traffic, k->to, k->id, 32);
  sim_world_set(k->traffic->w, &k->due, sim_world_now_us(k->traffic->w) + k->timeout_us);
}

void sim_node_ping(sim_node *from, const sim_node *to, uint64_t timeout_us,
                   void (*cb)(void *ctx, const sim_ping_result *r), void *ctx) {
  sim_traffic *t = sim_node_traffic(from);
  probe *k = calloc(1, sizeof *k);
  assert(k != NULL);
  *k = (probe){.next = t->probes,
               .traffic = t,
               .id = ++t->last_id,
               .to = to,
               .timeout_us = timeout_us,
               .cb = cb,
               .ctx = ctx};
  sim_event_init(&k->due, on_probe_due, k);
  t->probes = k;
  sim_world_set(t->w, &k->due, sim_world_now_us(t->w));
}

static void on_tick(void *ctx) {
  sim_flow *f = ctx;
  const uint64_t now_us = sim_world_now_us(f->traffic->w);
  sim_world_set(f->traffic->w, &f->tick, now_us + f->period_us);
  if (f->stats.first_sent_us == 0) {
    f->stats.first_sent_us = f->last_good_us = now_us;
  }
  f->stats.sent++;
  send_request(f->traffic, f->to, f->id, f->bytes);
}

sim_flow *sim_flow_start(sim_node *from, const sim_node *to, uint64_t period_us, size_t bytes) {
  sim_traffic *t = sim_node_traffic(from);
  sim_flow *f = calloc(1, sizeof *f);
  assert(f != NULL && bytes >= sizeof(payload) && period_us > 0);
  *f = (sim_flow){.next = t->flows,
                  .traffic = t,
                  .to = to,
                  .id = ++t->last_id,
                  .period_us = period_us,
                  .bytes = bytes};
  sim_event_init(&f->tick, on_tick, f);
  t->flows = f;
  sim_world_set(t->w, &f->tick, sim_world_now_us(t->w));
  return f;
}

const sim_flow_stats *sim_flow_get(sim_flow *f) {
  const uint64_t now_us = sim_world_now_us(f->traffic->w);
  if (f->stats.first_sent_us != 0 && now_us > SIM_FLOW_GRACE_US) {
    note_gap(f, f->last_good_us, now_us - SIM_FLOW_GRACE_US);
    note_silence(&f->stats, now_us);
  }
  return &f->stats;
}

void sim_flow_reset(sim_flow *f) {
  f->stats = (sim_flow_stats){0};
}

void sim_flow_stop(sim_flow *f) {
  sim_flow **at = &f->traffic->flows;
  while (*at != f) {
    at = &(*at)->next;
  }
  *at = f->next;
  sim_world_cancel(f->traffic->w, &f->tick);
  free(f);
}

void sim_traffic_free(sim_traffic *t) {
  if (t == NULL) {
    return;
  }
  while (t->probes != NULL) {
    end_probe(t->probes);
  }
  while (t->flows != NULL) {
    sim_flow_stop(t->flows);
  }
  free(t);
}
