#include "tests/unit/engine_rig.h"

#include <stdlib.h>
#include <string.h>

msock_addr rig_addr(const char *text) {
  msock_addr a;
  ck_assert_msg(msock_addr_parse(text, &a) == MSOCK_OK, "%s", text);
  return a;
}

static msock_addr stun_server(uint32_t k) {
  return (msock_addr){.ip = msock_ip_v4(192, 0, 2, (uint8_t)(10 + k)), .port = 3478};
}

void rig_socket(rig *r, uint32_t i) {
  rig_node *n = &r->node[i];
  const msock_endpoint local = {
      .addr = {.ip = n->nat == RIG_PUBLIC ? n->outside : n->inside, .port = RIG_PORT},
      .type = MSOCK_ENDPOINT_LOCAL};
  n->n_mappings = 0;
  n->next_port = (uint16_t)(n->next_port + 100);
  msock_engine_on_socket(n->e, r->now_us, RIG_PORT);
  msock_engine_set_local(n->e, r->now_us, &local, 1);
  rig_poll(r, i);
}

rig *rig_new(uint64_t seed, uint32_t n, const msock_engine_config *cfg) {
  rig *r = calloc(1, sizeof *r);
  ck_assert_ptr_nonnull(r);
  r->n = n;
  r->one_way_us = 20 * MSOCK_MS;
  r->derp_us = 30 * MSOCK_MS;
  r->stun_us = 20 * MSOCK_MS;
  r->rng.state = seed * 977 + 5;
  for (uint32_t i = 0; i < n; i++) {
    rig_node *node = &r->node[i];
    msock_engine_config mine = *cfg;
    const msock_env env = testing_env(&node->rng, seed * 31 + i);
    env.random(env.ctx, node->disco.b, sizeof node->disco.b);
    env.random(env.ctx, node->node.b, sizeof node->node.b);
    mine.self = node->node;
    node->inside = msock_ip_v4(10, 0, (uint8_t)i, 2);
    node->outside = msock_ip_v4(203, 0, 113, (uint8_t)(i + 1));
    node->next_port = (uint16_t)(20000 + 1000 * i);
    node->e = msock_engine_new(&mine, &env, &node->disco, 0);
    ck_assert_ptr_nonnull(node->e);
    msock_engine_set_home(node->e, RIG_REGION);
  }
  return r;
}

void rig_free(rig *r) {
  for (uint32_t i = 0; i < r->n; i++) {
    msock_engine_free(r->node[i].e);
  }
  free(r);
}

void rig_know(rig *r, uint32_t who, uint32_t whom, const msock_addr *ep, size_t n) {
  const msock_engine_peer p = {.node = r->node[whom].node,
                               .disco = msock_engine_disco_key(r->node[whom].e),
                               .home = RIG_REGION,
                               .endpoints = ep,
                               .n_endpoints = n};
  ck_assert_int_eq(msock_engine_peer_put(r->node[who].e, r->now_us, &p, NULL), MSOCK_OK);
  rig_poll(r, who);
}

void rig_meet(rig *r) {
  for (uint32_t a = 0; a < r->n; a++) {
    for (uint32_t b = 0; b < r->n; b++) {
      msock_endpoint ep[MSOCK_ENGINE_SELF_MAX];
      msock_addr addr[MSOCK_ENGINE_SELF_MAX];
      const size_t n = msock_engine_self_endpoints(r->node[b].e, ep);
      for (size_t i = 0; i < n; i++) {
        addr[i] = ep[i].addr;
      }
      if (a != b) {
        rig_know(r, a, b, addr, n);
      }
    }
  }
}

/* --- the network --- */

static void fly(rig *r, const rig_flight *f) {
  ck_assert_uint_lt(r->n_flight, RIG_FLIGHT);
  r->flight[r->n_flight] = *f;
  r->flight[r->n_flight++].order = r->order++;
}

/* The address that dst sees, made when there is none. */
static msock_addr map_out(rig_node *n, const msock_addr *dst) {
  if (n->nat == RIG_PUBLIC) {
    return (msock_addr){.ip = n->outside, .port = RIG_PORT};
  }
  for (uint32_t i = 0; i < n->n_mappings; i++) {
    if (msock_addr_equal(&n->mappings[i].dst, dst)) {
      return (msock_addr){.ip = n->outside, .port = n->mappings[i].port};
    }
  }
  ck_assert_uint_lt(n->n_mappings, RIG_MAPPINGS);
  const uint16_t port =
      n->nat == RIG_SYMMETRIC ? (uint16_t)(n->next_port + n->n_mappings) : n->next_port;
  n->mappings[n->n_mappings++] = (rig_mapping){.dst = *dst, .port = port};
  return (msock_addr){.ip = n->outside, .port = port};
}

static bool let_in(const rig_node *n, const msock_addr *src, const msock_addr *dst) {
  if (!msock_ip_equal(&n->outside, &dst->ip) || n->nat == RIG_BLOCKED) {
    return false;
  }
  if (n->nat == RIG_PUBLIC) {
    return dst->port == RIG_PORT;
  }
  for (uint32_t i = 0; i < n->n_mappings; i++) {
    if (n->mappings[i].port == dst->port &&
        (n->nat == RIG_CONE || msock_addr_equal(&n->mappings[i].dst, src))) {
      return true;
    }
  }
  return false;
}

static bool lost(rig *r) {
  r->rng.state += UINT64_C(0x9e3779b97f4a7c15);
  uint64_t z = r->rng.state;
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return (z ^ (z >> 31)) % 1000 < r->loss_permille;
}

static void send_udp(rig *r, uint32_t from, const msock_addr *dst, const uint8_t *p, size_t len,
                     bool data) {
  rig_node *n = &r->node[from];
  if (n->nat == RIG_BLOCKED || n->udp_cut || n->udp_out_cut || msock_ip_is_private(&dst->ip)) {
    return;
  }
  rig_flight f = {.at_us = r->now_us + r->one_way_us, .from = from, .data = data, .dst = *dst};
  f.src = map_out(n, dst);
  f.len = len;
  memcpy(f.bytes, p, len);
  if (!lost(r)) {
    fly(r, &f);
  }
}

static void send_derp(rig *r, uint32_t from, const msock_node_key *to, const uint8_t *p, size_t len,
                      bool data) {
  for (uint32_t i = 0; i < r->n; i++) {
    if (msock_node_key_equal(&r->node[i].node, to)) {
      rig_flight f = {.at_us = r->now_us + r->derp_us,
                      .from = from,
                      .to = i,
                      .derp = true,
                      .data = data,
                      .len = len};
      memcpy(f.bytes, p, len);
      fly(r, &f);
    }
  }
}

static void send_stun(rig *r, uint32_t i) {
  rig_node *n = &r->node[i];
  if (n->nat == RIG_BLOCKED || n->stun_silent || n->udp_cut) {
    return;
  }
  for (uint32_t k = 0; k < 2; k++) {
    const msock_addr server = stun_server(k);
    fly(r, &(rig_flight){.at_us = r->now_us + r->stun_us,
                         .to = i,
                         .stun = true,
                         .src = server,
                         .dst = map_out(n, &server)});
  }
}

void rig_poll(rig *r, uint32_t i) {
  rig_node *n = &r->node[i];
  msock_engine_output out;
  uint8_t buf[MSOCK_ENGINE_PACKET_MAX];
  size_t len;

  while (msock_engine_next_output(n->e, r->now_us, &out, buf, sizeof buf, &len) > 0) {
    if (!r->log_off) {
      ck_assert_uint_lt(r->n_log, RIG_LOG);
      r->log[r->n_log++] = (rig_entry){r->now_us, i, out, len};
    }
    if (out.kind == MSOCK_ENGINE_SEND_UDP) {
      send_udp(r, i, &out.addr, buf, len, false);
    } else if (out.kind == MSOCK_ENGINE_SEND_DERP) {
      send_derp(r, i, &out.node, buf, len, false);
    } else if (out.kind == MSOCK_ENGINE_WANT_STUN) {
      send_stun(r, i);
    }
  }
}

static void got_data(rig *r, uint32_t to, const rig_flight *f) {
  const uint32_t id = rig_id(r, to, f->from);
  r->node[to].data_got_derp += f->derp;
  r->node[to].data_got_udp += !f->derp;
  msock_engine_on_data_received(r->node[to].e, r->now_us, id, f->derp ? NULL : &f->src, RIG_REGION);
}

static void arrive(rig *r, const rig_flight *f) {
  if (f->stun) {
    msock_engine_on_reflexive(r->node[f->to].e, r->now_us, &f->src, &f->dst);
    rig_poll(r, f->to);
    return;
  }
  if (f->derp) {
    if (f->data) {
      got_data(r, f->to, f);
    } else {
      msock_engine_on_derp(r->node[f->to].e, r->now_us, RIG_REGION, &r->node[f->from].node,
                           f->bytes, f->len);
    }
    rig_poll(r, f->to);
    return;
  }
  for (uint32_t i = 0; i < r->n; i++) {
    if (!r->node[i].udp_cut && let_in(&r->node[i], &f->src, &f->dst)) {
      if (f->data) {
        got_data(r, i, f);
      } else {
        msock_engine_on_udp(r->node[i].e, r->now_us, &f->src, f->bytes, f->len);
      }
      rig_poll(r, i);
    }
  }
}

static uint32_t earliest(const rig *r) {
  uint32_t best = 0;
  for (uint32_t i = 1; i < r->n_flight; i++) {
    const rig_flight *a = &r->flight[i], *b = &r->flight[best];
    if (a->at_us < b->at_us || (a->at_us == b->at_us && a->order < b->order)) {
      best = i;
    }
  }
  return best;
}

void rig_run(rig *r, uint64_t t) {
  for (;;) {
    uint64_t next = MSOCK_NEVER;
    uint32_t who = 0;
    for (uint32_t i = 0; i < r->n; i++) {
      const uint64_t due = msock_engine_next_expiry(r->node[i].e);
      if (due < next) {
        next = due;
        who = i;
      }
    }
    const uint32_t k = r->n_flight > 0 ? earliest(r) : 0;
    if (r->n_flight > 0 && r->flight[k].at_us <= next && r->flight[k].at_us <= t) {
      const rig_flight f = r->flight[k];
      r->flight[k] = r->flight[--r->n_flight];
      r->now_us = f.at_us;
      arrive(r, &f);
    } else if (next <= t) {
      r->now_us = next > r->now_us ? next : r->now_us;
      msock_engine_on_expiry(r->node[who].e, r->now_us);
      ck_assert_uint_gt(msock_engine_next_expiry(r->node[who].e), r->now_us);
      rig_poll(r, who);
    } else {
      break;
    }
  }
  r->now_us = t;
}

void rig_data(rig *r, uint32_t from, uint32_t to) {
  static const uint8_t wireguard[32] = {4};
  const uint32_t id = rig_id(r, from, to);
  msock_route route;

  msock_engine_route(r->node[from].e, id, r->now_us, &route);
  if (route.via == MSOCK_VIA_DIRECT) {
    send_udp(r, from, &route.addr, wireguard, sizeof wireguard, true);
  } else if (route.via == MSOCK_VIA_DERP) {
    send_derp(r, from, &r->node[to].node, wireguard, sizeof wireguard, true);
  }
  msock_engine_on_data_sent(r->node[from].e, r->now_us, id,
                            route.via == MSOCK_VIA_DIRECT ? &route.addr : NULL);
  rig_poll(r, from);
}

void rig_traffic(rig *r, uint32_t a, uint32_t b, uint64_t interval_us, bool two_way, uint64_t t) {
  while (r->now_us < t) {
    rig_data(r, a, b);
    if (two_way) {
      rig_data(r, b, a);
    }
    rig_run(r, r->now_us + interval_us);
  }
}

/* --- questions --- */

uint32_t rig_id(const rig *r, uint32_t who, uint32_t whom) {
  return msock_engine_peer_find(r->node[who].e, &r->node[whom].node);
}

bool rig_direct(const rig *r, uint32_t a, uint32_t b) {
  msock_route route;
  msock_engine_route(r->node[a].e, rig_id(r, a, b), r->now_us, &route);
  return route.via == MSOCK_VIA_DIRECT;
}

const rig_entry *rig_find(const rig *r, uint32_t node, msock_engine_output_kind kind, size_t len,
                          uint64_t from_us, uint32_t nth) {
  for (uint32_t i = 0; i < r->n_log; i++) {
    const rig_entry *x = &r->log[i];
    if (x->node == node && x->out.kind == kind && (len == 0 || x->len == len) &&
        x->at_us >= from_us && nth-- == 0) {
      return x;
    }
  }
  return NULL;
}

uint32_t rig_count(const rig *r, uint32_t node, msock_engine_output_kind kind, size_t len,
                   uint64_t from_us, uint64_t to_us) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < r->n_log; i++) {
    const rig_entry *x = &r->log[i];
    n += x->node == node && x->out.kind == kind && (len == 0 || x->len == len) &&
         x->at_us >= from_us && x->at_us <= to_us;
  }
  return n;
}

uint64_t rig_direct_at(const rig *r, uint32_t a, uint64_t from_us) {
  for (uint32_t k = 0;; k++) {
    const rig_entry *x = rig_find(r, a, MSOCK_ENGINE_PATH_CHANGED, 0, from_us, k);
    if (x == NULL) {
      return MSOCK_NEVER;
    }
    if (x->out.via == MSOCK_VIA_DIRECT) {
      return x->at_us;
    }
  }
}
