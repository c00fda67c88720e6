#include "tests/sim/invariants.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disco/disco.h"
#include "node/node_internal.h"
#include "tests/sim/observer.h"

#define CONFIRMED_MAX 256u /* per node; the oldest goes, which only makes the check stricter */
#define SERVERS_MAX 16u
#define CHECK_US MSOCK_SEC

/* What a pong showed: node may send data to addr, which is peer's. */
typedef struct confirmation {
  uint32_t peer;
  msock_addr addr;
  uint64_t at_us;
} confirmation;

typedef struct watched {
  sim_node *node;
  sim_policy policy;
  msock_disco_key disco;
  uint64_t socket_serial;
  confirmation confirmed[CONFIRMED_MAX];
  uint32_t n_confirmed;
  uint64_t tokens_us; /* of the ping budget, in microseconds of refill */
  uint64_t tokens_at_us;
  uint64_t queue_full;
  sim_observed seen;
} watched;

struct sim_invariants {
  sim_io *io;
  void (*broken)(void *ctx, const char *text);
  void *ctx;
  watched nodes[SIM_INVARIANTS_NODES];
  uint32_t n_nodes;
  msock_addr servers[SERVERS_MAX];
  uint32_t n_servers;
  sim_observer *observer;
  sim_event tick;
  bool errors_expected;
};

static void broken(sim_invariants *v, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void broken(sim_invariants *v, const char *format, ...) {
  char text[400];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  sim_trace(sim_io_world(v->io), "!", "%s", text);
  v->broken(v->ctx, text);
}

static uint64_t now(const sim_invariants *v) {
  return sim_world_now_us(sim_io_world(v->io));
}

/* --- whose datagram is it --- */

static watched *node_on(sim_invariants *v, const sim_host *h) {
  for (uint32_t i = 0; i < v->n_nodes; i++) {
    if (sim_node_host(v->nodes[i].node) == h) {
      return &v->nodes[i];
    }
  }
  return NULL;
}

/* A daemon that was started anew has another disco key and has confirmed nothing. */
static void refresh(sim_invariants *v, watched *n) {
  const msock_engine *e = sim_node_engine(n->node);
  msock_disco_private secret;
  if (e == NULL) {
    return;
  }
  const msock_disco_key key = msock_engine_disco_key(e);
  if (msock_disco_key_equal(&key, &n->disco)) {
    return;
  }
  n->disco = key;
  n->n_confirmed = 0;
  msock_engine_disco_private(e, &secret);
  sim_observer_learn(v->observer, (uint32_t)(n - v->nodes), &secret);
}

/* --- 1: data --- */

static confirmation *find(watched *n, uint32_t peer, const msock_addr *addr) {
  for (uint32_t i = 0; i < n->n_confirmed; i++) {
    if (n->confirmed[i].peer == peer && msock_addr_equal(&n->confirmed[i].addr, addr)) {
      return &n->confirmed[i];
    }
  }
  return NULL;
}

static void confirm(sim_invariants *v, watched *n, uint32_t peer, const msock_addr *addr) {
  confirmation *c = find(n, peer, addr);
  if (c == NULL) {
    if (n->n_confirmed == CONFIRMED_MAX) {
      memmove(n->confirmed, n->confirmed + 1, (CONFIRMED_MAX - 1) * sizeof *n->confirmed);
      n->n_confirmed--;
    }
    c = &n->confirmed[n->n_confirmed++];
    *c = (confirmation){.peer = peer, .addr = *addr};
  }
  c->at_us = now(v);
  n->seen.confirmed++;
}

static void data_sent(sim_invariants *v, watched *n, const sim_tap_event *ev) {
  char text[MSOCK_ADDR_TEXT_MAX];
  uint64_t best_us = 0;
  n->seen.data_datagrams++;
  for (uint32_t i = 0; i < n->n_confirmed; i++) {
    if (msock_addr_equal(&n->confirmed[i].addr, &ev->dst) && n->confirmed[i].at_us > best_us) {
      best_us = n->confirmed[i].at_us;
    }
  }
  if (best_us == 0) {
    broken(v, "%s sends WireGuard data to %s, which no pong has confirmed", sim_node_name(n->node),
           msock_addr_text(&ev->dst, text));
  } else if (now(v) > best_us + MSOCK_ENGINE_TRUST_US) {
    broken(v, "%s sends WireGuard data to %s, confirmed %" PRIu64 " ms ago", sim_node_name(n->node),
           msock_addr_text(&ev->dst, text), (now(v) - best_us) / MSOCK_MS);
  }
}

/* It arrived somewhere: that must be the peer whose pong it was. */
static void data_received(sim_invariants *v, const sim_tap_event *ev) {
  char text[MSOCK_ADDR_TEXT_MAX];
  watched *from = node_on(v, ev->from), *to = node_on(v, ev->host);
  if (from == NULL || ev->socket_serial != from->socket_serial) {
    return; /* the record of that socket is gone */
  }
  if (to == NULL || find(from, (uint32_t)(to - v->nodes), &ev->sent_to) == NULL) {
    broken(v, "WireGuard data of %s to %s reaches %s, which never confirmed that address",
           sim_node_name(from->node), msock_addr_text(&ev->sent_to, text), sim_host_name(ev->host));
  }
}

/* --- 2: policy --- */

static bool in_v4(const msock_ip *ip, uint8_t a, uint8_t b, uint8_t bits) {
  return msock_prefix_contains(&(msock_prefix){.ip = msock_ip_v4(a, b, 0, 0), .bits = bits}, ip);
}

static const char *outside_policy(const sim_policy *p, const msock_addr *to) {
  const msock_ip *ip = &to->ip;
  if (!p->direct) {
    return "direct paths are off";
  }
  if (ip->family == 6) {
    return !p->ipv6 ? "IPv6 is off"
           : msock_ip_is_link_local(ip) || msock_ip_is_multicast(ip) || msock_ip_is_loopback(ip)
               ? "no peer can be there"
           : !p->lan && msock_ip_is_private(ip) ? "lan is off"
                                                : NULL;
  }
  if (in_v4(ip, 0, 0, 8) || in_v4(ip, 127, 0, 8) || in_v4(ip, 169, 254, 16) ||
      in_v4(ip, 224, 0, 3)) {
    return "no peer can be there";
  }
  if (in_v4(ip, 100, 64, 10)) {
    return "it is of the tailnet itself";
  }
  return !p->lan && msock_ip_is_private(ip) ? "lan is off" : NULL;
}

static bool is_server(const sim_invariants *v, const msock_addr *to) {
  for (uint32_t i = 0; i < v->n_servers; i++) {
    if (msock_addr_equal(&v->servers[i], to)) {
      return true;
    }
  }
  return false;
}

/* --- 3: budget and tables --- */

static void spend_ping(sim_invariants *v, watched *n) {
  const uint64_t price_us = MSOCK_SEC / MSOCK_ENGINE_NODE_PINGS_PER_SEC;
  const uint64_t full_us = price_us * MSOCK_ENGINE_NODE_PINGS;
  n->tokens_us += now(v) - n->tokens_at_us;
  n->tokens_us = n->tokens_us > full_us ? full_us : n->tokens_us;
  n->tokens_at_us = now(v);
  n->seen.pings++;
  if (n->tokens_us < price_us) {
    broken(v, "%s pings over its budget of %u and %u/s", sim_node_name(n->node),
           MSOCK_ENGINE_NODE_PINGS, MSOCK_ENGINE_NODE_PINGS_PER_SEC);
    return;
  }
  n->tokens_us -= price_us;
}

static void check_peers(sim_invariants *v, watched *n, const msock_engine *e) {
  const size_t bound = MSOCK_ENGINE_NETMAP_ADDRS_MAX + MSOCK_ENGINE_LEARNED_MAX;
  const size_t peers = msock_engine_peer_count(e);
  size_t direct = msock_engine_direct_peers(e, now(v), NULL, 0);
  for (uint32_t i = 0; i < v->n_nodes; i++) {
    const uint32_t id = i == (uint32_t)(n - v->nodes) ? MSOCK_ENGINE_PEER_NONE
                                                      : sim_node_peer_id(n->node, v->nodes[i].node);
    const size_t count = id == MSOCK_ENGINE_PEER_NONE ? 0 : msock_engine_candidates(e, id, NULL, 0);
    if (count > bound) {
      broken(v, "%s keeps %zu addresses of %s, the bound is %zu", sim_node_name(n->node), count,
             sim_node_name(v->nodes[i].node), bound);
    }
  }
  if (direct > peers) {
    broken(v, "%s has %zu direct peers of %zu", sim_node_name(n->node), direct, peers);
  }
}

static void check_node(sim_invariants *v, watched *n) {
  const msock_node *real = sim_node_get(n->node);
  const msock_engine *e = sim_node_engine(n->node);
  msock_wg_peer_status st;
  uint32_t staged = 0;

  if (real == NULL || e == NULL) {
    return;
  }
  sim_process *before = sim_process_enter(sim_node_process(n->node));
  const msock_engine_counters c = msock_engine_counters_get(e);
  check_peers(v, n, e);
  if (msock_engine_source_count(e) > MSOCK_ENGINE_SOURCES_MAX) {
    broken(v, "%s knows too many sources", sim_node_name(n->node));
  }
  if (c.tx_queue_full > n->queue_full) {
    broken(v, "%s: the engine's queue of datagrams was full", sim_node_name(n->node));
  }
  n->queue_full = c.tx_queue_full;
  msock_wg *wg = msock_dataplane_wg(real->plane);
  for (uint32_t i = 0; i < msock_dataplane_peer_bound(real->plane); i++) {
    if (msock_wg_peer_status_get(wg, sim_process_now_us(sim_node_process(n->node)), i, &st) ==
        MSOCK_OK) {
      staged += st.staged;
    }
  }
  if (staged > MSOCK_WG_STAGED_DEFAULT) {
    broken(v, "%s holds %u packets for sessions", sim_node_name(n->node), staged);
  }
  sim_process_leave(before);
}

void sim_invariants_check(sim_invariants *v) {
  for (uint32_t i = 0; i < v->n_nodes; i++) {
    check_node(v, &v->nodes[i]);
  }
}

static void on_tick(void *ctx) {
  sim_invariants *v = ctx;
  sim_invariants_check(v);
  sim_world_set(sim_io_world(v->io), &v->tick, now(v) + CHECK_US);
}

/* --- the tap --- */

static sim_disco_sent observe(sim_invariants *v, const watched *n, const sim_tap_event *ev) {
  return sim_observer_sent(v->observer, (uint32_t)(n - v->nodes), &ev->dst, ev->bytes, ev->len);
}

static void disco_sent(sim_invariants *v, watched *n, const sim_tap_event *ev) {
  char text[MSOCK_ADDR_TEXT_MAX];
  sim_disco_sent what = observe(v, n, ev);
  if (what == SIM_DISCO_UNOPENED) { /* for a node that has not sent anything itself yet? */
    for (uint32_t i = 0; i < v->n_nodes; i++) {
      refresh(v, &v->nodes[i]);
    }
    what = observe(v, n, ev);
  }
  switch (what) {
  case SIM_DISCO_PING:
    spend_ping(v, n);
    break;
  case SIM_DISCO_ANSWER:
    n->seen.pongs++;
    break;
  case SIM_DISCO_UNASKED:
    broken(v, "%s sends a pong to %s, from where no ping came", sim_node_name(n->node),
           msock_addr_text(&ev->dst, text));
    break;
  case SIM_DISCO_OTHER:
    broken(v, "%s sends disco to %s that is neither ping nor pong", sim_node_name(n->node),
           msock_addr_text(&ev->dst, text));
    break;
  case SIM_DISCO_UNOPENED:
    n->seen.unopened++;
    break;
  case SIM_DISCO_NOT_ITS_KEY:
    broken(v, "%s sends disco under a key that is not its own", sim_node_name(n->node));
    break;
  }
}

static void on_sent(sim_invariants *v, const sim_tap_event *ev) {
  char text[MSOCK_ADDR_TEXT_MAX];
  watched *n = node_on(v, ev->host);
  if (n == NULL) {
    return; /* a server */
  }
  refresh(v, n);
  if (ev->socket_serial < n->socket_serial) {
    broken(v, "%s sends by a socket that it has replaced", sim_node_name(n->node));
  }
  if (ev->socket_serial != n->socket_serial) {
    n->socket_serial = ev->socket_serial;
    n->n_confirmed = 0;
  }
  const msock_datagram d = msock_disco_classify(ev->bytes, ev->len);
  const bool stun = d.kind == MSOCK_DATAGRAM_STUN;
  const char *why = !stun                     ? outside_policy(&n->policy, &ev->dst)
                    : !n->policy.stun         ? "UDP is off"
                    : !is_server(v, &ev->dst) ? "it is no STUN server"
                                              : NULL;
  if (why != NULL) {
    broken(v, "%s sends to %s although %s", sim_node_name(n->node), msock_addr_text(&ev->dst, text),
           why);
  }
  if (stun) {
    n->seen.stun++;
  } else if (d.kind == MSOCK_DATAGRAM_WIREGUARD) {
    data_sent(v, n, ev);
  } else if (d.kind == MSOCK_DATAGRAM_DISCO) {
    disco_sent(v, n, ev);
  } else {
    broken(v, "%s sends something that is no STUN, disco or WireGuard", sim_node_name(n->node));
  }
}

static void on_received(sim_invariants *v, const sim_tap_event *ev) {
  const msock_datagram d = msock_disco_classify(ev->bytes, ev->len);
  watched *n = node_on(v, ev->host);
  uint32_t peer;
  msock_addr addr;

  if (d.kind == MSOCK_DATAGRAM_WIREGUARD) {
    data_received(v, ev);
  } else if (d.kind == MSOCK_DATAGRAM_DISCO && n != NULL) {
    refresh(v, n);
    if (sim_observer_received(v->observer, (uint32_t)(n - v->nodes), &ev->src, ev->bytes, ev->len,
                              &peer, &addr)) {
      confirm(v, n, peer, &addr);
    }
  }
}

static void trace_datagram(const sim_invariants *v, const sim_tap_event *ev) {
  static const char *const kinds[] = {"junk",      "STUN",         "disco",
                                      "WireGuard", "Geneve disco", "Geneve WireGuard"};
  char src[MSOCK_ADDR_TEXT_MAX], dst[MSOCK_ADDR_TEXT_MAX];
  const char *kind = kinds[msock_disco_classify(ev->bytes, ev->len).kind];
  sim_trace(sim_io_world(v->io), sim_host_name(ev->host), "%s %s %s -> %s %zu bytes%s%s",
            ev->kind == SIM_TAP_SENT       ? "udp out"
            : ev->kind == SIM_TAP_RECEIVED ? "udp in "
                                           : "udp lost",
            kind, msock_addr_text(&ev->src, src), msock_addr_text(&ev->dst, dst), ev->len,
            ev->why != NULL ? ": " : "", ev->why != NULL ? ev->why : "");
}

static void on_tap(void *ctx, const sim_tap_event *ev) {
  sim_invariants *v = ctx;
  if (sim_world_traces(sim_io_world(v->io))) {
    trace_datagram(v, ev);
  }
  if (ev->kind == SIM_TAP_SENT) {
    on_sent(v, ev);
  } else if (ev->kind == SIM_TAP_RECEIVED) {
    on_received(v, ev);
  }
}

static void on_log(void *ctx, const sim_process *p, msock_log_level level, const char *event,
                   const char *text) {
  sim_invariants *v = ctx;
  if (level == MSOCK_LOG_ERROR && !v->errors_expected) {
    broken(v, "%s logs an error: %s %s", sim_process_name(p), event, text);
  }
}

/* --- life --- */

sim_invariants *sim_invariants_new(sim_io *io, void (*on_broken)(void *ctx, const char *text),
                                   void *ctx) {
  sim_invariants *v = calloc(1, sizeof *v);
  assert(v != NULL);
  v->io = io;
  v->broken = on_broken;
  v->ctx = ctx;
  v->observer = sim_observer_new(sim_io_world(io));
  sim_net_set_tap(sim_io_net(io), on_tap, v);
  sim_io_set_log(io, on_log, v);
  sim_event_init(&v->tick, on_tick, v);
  sim_world_set(sim_io_world(io), &v->tick, now(v) + CHECK_US);
  return v;
}

void sim_invariants_free(sim_invariants *v) {
  if (v == NULL) {
    return;
  }
  sim_net_set_tap(sim_io_net(v->io), NULL, NULL);
  sim_io_set_log(v->io, NULL, NULL);
  sim_world_cancel(sim_io_world(v->io), &v->tick);
  sim_observer_free(v->observer);
  free(v);
}

void sim_invariants_add(sim_invariants *v, sim_node *n, const sim_policy *policy) {
  assert(v->n_nodes < SIM_INVARIANTS_NODES);
  v->nodes[v->n_nodes++] =
      (watched){.node = n, .policy = *policy, .tokens_us = UINT64_MAX / 2, .tokens_at_us = now(v)};
}

void sim_invariants_add_server(sim_invariants *v, const msock_addr *stun) {
  assert(v->n_servers < SERVERS_MAX);
  v->servers[v->n_servers++] = *stun;
}

void sim_invariants_expect_errors(sim_invariants *v, bool expected) {
  v->errors_expected = expected;
}

const sim_observed *sim_invariants_observed(const sim_invariants *v, const sim_node *n) {
  for (uint32_t i = 0; i < v->n_nodes; i++) {
    if (v->nodes[i].node == n) {
      return &v->nodes[i].seen;
    }
  }
  return NULL;
}
