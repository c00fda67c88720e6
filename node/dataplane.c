#include "node/dataplane.h"

#include <stdlib.h>
#include <string.h>

#include "base/ip_packet.h"
#include "node/echo.h"

#define GROW_MAX 256u /* peers more than asked for, at most */
#define SLOT_LEN (MSOCK_PACKET_HEADROOM + 2048u + MSOCK_PACKET_TAILROOM)
#define DATAGRAM_MAX 2048u
#define PING_HEADERS                                                                               \
  48u /* IPv6 and ICMPv6 header, the longer pair, in front of an echo payload                      \
       */

struct msock_dataplane {
  msock_node_deps deps;
  msock_dataplane_handlers handlers;
  void *ctx;
  msock_dataplane_tap tap; /* NULL = nobody looks */
  msock_wg *wg;
  msock_filter *filter;
  msock_tun *tun;
  msock_engine *engine;
  uint32_t mtu_bytes;

  msock_dataplane_peer *peers; /* by wg id */
  uint32_t n_peers;
  uint64_t next_news_us, next_hello_us;

  msock_ip own[MSOCK_DATAPLANE_ADDRS_MAX];
  size_t n_own;
  msock_pings pings;

  /* datagrams of one relay source, waiting for the pump */
  uint8_t *arena; /* MSOCK_BATCH_MAX slots */
  msock_packet rx[MSOCK_BATCH_MAX];
  size_t n_rx;
  msock_node_key rx_src;
  msock_region_id rx_region;
  msock_addr rx_addr; /* of the batch at hand; family 0: by relay */

  /* sealed datagrams with a direct path, waiting for one send */
  msock_packet direct[MSOCK_BATCH_MAX];
  msock_addr direct_to[MSOCK_BATCH_MAX];
  size_t n_direct;

  uint8_t *out_buf;
  size_t out_cap;
  msock_dataplane_counters counters;
};

msock_dataplane *msock_dataplane_new(const msock_node_deps *deps, const msock_node_private *key,
                                     uint32_t mtu_bytes, const msock_filter_config *filter,
                                     const msock_dataplane_handlers *handlers, void *ctx) {
  msock_dataplane *d = calloc(1, sizeof *d);
  const msock_wg_config cfg = {.mtu_bytes = mtu_bytes};

  if (d == NULL) {
    return NULL;
  }
  d->deps = *deps;
  d->mtu_bytes = mtu_bytes;
  d->handlers = *handlers;
  d->ctx = ctx;
  d->next_news_us = d->next_hello_us = MSOCK_NEVER;
  msock_node_pings_init(&d->pings);
  d->wg = msock_wg_new(&deps->env, key, &cfg);
  d->filter = msock_filter_new(filter);
  d->arena = malloc((size_t)MSOCK_BATCH_MAX * SLOT_LEN);
  if (d->wg) {
    d->out_cap = msock_wg_output_max(d->wg);
    d->out_buf = malloc(d->out_cap);
  }
  if (d->filter == NULL || d->arena == NULL || d->out_buf == NULL) {
    msock_dataplane_free(d);
    return NULL;
  }
  return d;
}

void msock_dataplane_free(msock_dataplane *d) {
  if (d == NULL) {
    return;
  }
  msock_wg_free(d->wg);
  msock_filter_free(d->filter);
  free(d->peers);
  free(d->arena);
  free(d->out_buf);
  free(d);
}

void msock_dataplane_set_engine(msock_dataplane *d, msock_engine *engine) {
  d->engine = engine;
}

void msock_dataplane_set_tun(msock_dataplane *d, msock_tun *tun) {
  d->tun = tun;
}

void msock_dataplane_set_tap(msock_dataplane *d, msock_dataplane_tap tap) {
  d->tap = tap;
}

static void show(msock_dataplane *d, const msock_packet *p) {
  if (d->tap) {
    d->tap(d->ctx, msock_packet_data(p), p->len);
  }
}

void msock_dataplane_set_private_key(msock_dataplane *d, const msock_node_private *key) {
  msock_wg_set_private_key(d->wg, key);
}

msock_err msock_dataplane_set_addresses(msock_dataplane *d, const msock_prefix *addrs, size_t n,
                                        const msock_prefix *routes, size_t n_routes) {
  d->n_own = 0;
  for (size_t i = 0; i < n && d->n_own < MSOCK_DATAPLANE_ADDRS_MAX; i++) {
    d->own[d->n_own++] = addrs[i].ip;
  }
  return msock_filter_set_local(d->filter, addrs, n, routes, n_routes);
}

msock_wg *msock_dataplane_wg(msock_dataplane *d) {
  return d->wg;
}
msock_filter *msock_dataplane_filter(msock_dataplane *d) {
  return d->filter;
}
const msock_dataplane_counters *msock_dataplane_counters_get(const msock_dataplane *d) {
  return &d->counters;
}

/* --- peers --- */

static msock_dataplane_peer *peer_of(const msock_dataplane *d, uint32_t id) {
  return id < d->n_peers && d->peers[id].in_use ? &d->peers[id] : NULL;
}

const msock_dataplane_peer *msock_dataplane_peer_at(const msock_dataplane *d, uint32_t id) {
  return peer_of(d, id);
}

const msock_node_key *msock_dataplane_peer_key(const msock_dataplane *d, uint32_t id) {
  return msock_wg_peer_key(d->wg, id);
}

uint32_t msock_dataplane_peer_bound(const msock_dataplane *d) {
  return d->n_peers;
}

uint32_t msock_dataplane_peer_find(const msock_dataplane *d, const msock_node_key *key) {
  return msock_wg_peer_find(d->wg, key);
}

static bool grow_peers(msock_dataplane *d, uint32_t id) {
  if (id < d->n_peers) {
    return true;
  }
  uint32_t n = d->n_peers ? d->n_peers : 8;
  while (n <= id) {
    n += n / 2 < GROW_MAX ? n / 2 : GROW_MAX;
  }
  msock_dataplane_peer *p = realloc(d->peers, n * sizeof *p);
  if (p == NULL) {
    return false;
  }
  memset(p + d->n_peers, 0, (n - d->n_peers) * sizeof *p);
  d->peers = p;
  d->n_peers = n;
  return true;
}

/* Enough of a random key to tell it from the next one; the path engine keeps it whole. */
static uint64_t disco_tag(const msock_disco_key *disco) {
  uint64_t tag;
  memcpy(&tag, disco->b, sizeof tag);
  return tag;
}

msock_err msock_dataplane_peer_put(msock_dataplane *d, uint64_t now_us,
                                   const msock_dataplane_record *r, uint32_t *id) {
  *id = msock_wg_peer_find(d->wg, &r->key);
  if (*id == MSOCK_WG_PEER_NONE) {
    const msock_err e = msock_wg_peer_add(d->wg, &r->key, NULL, id);
    if (e != MSOCK_OK) {
      return e;
    }
    if (!grow_peers(d, *id)) {
      msock_wg_peer_remove(d->wg, *id);
      return MSOCK_ERR_NOMEM;
    }
    d->peers[*id] = (msock_dataplane_peer){.in_use = true, .path = MSOCK_ENGINE_PEER_NONE};
  }
  msock_dataplane_peer *p = &d->peers[*id];
  const uint64_t tag = disco_tag(&r->disco);
  const bool anew = p->disco_tag != 0 && tag != 0 && tag != p->disco_tag;
  const bool moved = p->home != r->home;
  p->node_id = r->node_id;
  p->home = r->home;
  p->disco_tag = tag != 0 ? tag : p->disco_tag;
  if (anew) {
    msock_wg_peer_renew(d->wg, now_us, *id);
  }
  if (anew || moved) {
    msock_dataplane_peer_news(d, now_us, *id);
  }
  return MSOCK_OK;
}

void msock_dataplane_peer_remove(msock_dataplane *d, uint32_t id) {
  if (peer_of(d, id)) {
    msock_wg_peer_remove(d->wg, id);
    d->peers[id] = (msock_dataplane_peer){0};
  }
}

void msock_dataplane_clear(msock_dataplane *d) {
  msock_wg_set_allowed_ips(d->wg, NULL, 0);
  for (uint32_t id = 0; id < d->n_peers; id++) {
    msock_dataplane_peer_remove(d, id);
  }
  d->n_own = 0;
  d->n_rx = 0;
  msock_filter_set_policy(d->filter, NULL);
  msock_filter_set_local(d->filter, NULL, 0, NULL, 0);
}

/* When the peer's handshake is tried again; MSOCK_NEVER: it is no news any more. */
static uint64_t next_kick(const msock_dataplane_peer *p) {
  static const uint16_t at_ms[] = MSOCK_DATAPLANE_NEWS_AT_MS;
  return p->news_until_us == 0 || p->news_kicks == sizeof at_ms / sizeof *at_ms
             ? MSOCK_NEVER
             : p->news_until_us - MSOCK_DATAPLANE_NEWS_US + at_ms[p->news_kicks] * MSOCK_MS;
}

void msock_dataplane_peer_news(msock_dataplane *d, uint64_t now_us, uint32_t id) {
  msock_dataplane_peer *p = peer_of(d, id);
  if (p == NULL) {
    return;
  }
  p->news_until_us = now_us + MSOCK_DATAPLANE_NEWS_US;
  p->news_kicks = 0;
  if (next_kick(p) < d->next_news_us) {
    d->next_news_us = next_kick(p);
  }
  msock_wg_peer_kick(d->wg, now_us, id);
}

/* Kicks again whoever is still news and unanswered. */
static void repeat_news(msock_dataplane *d, uint64_t now_us) {
  uint64_t next = MSOCK_NEVER;
  if (now_us < d->next_news_us) {
    return;
  }
  for (uint32_t id = 0; id < d->n_peers; id++) {
    msock_dataplane_peer *p = &d->peers[id];
    if (!p->in_use) {
      continue;
    }
    if (next_kick(p) <= now_us) {
      msock_wg_peer_kick(d->wg, now_us, id);
    }
    while (next_kick(p) <= now_us) { /* those that a sleep has missed are one */
      p->news_kicks++;
    }
    next = next_kick(p) < next ? next_kick(p) : next;
  }
  d->next_news_us = next;
}

void msock_dataplane_peer_hello(msock_dataplane *d, uint64_t now_us, uint32_t id) {
  msock_dataplane_peer *p = peer_of(d, id);
  if (p != NULL && p->hello_us == 0) {
    p->hello_us = now_us + MSOCK_DATAPLANE_HELLO_US;
    d->next_hello_us = p->hello_us < d->next_hello_us ? p->hello_us : d->next_hello_us;
  }
}

static void say_hellos(msock_dataplane *d, uint64_t now_us) {
  if (now_us < d->next_hello_us) {
    return;
  }
  d->next_hello_us = MSOCK_NEVER;
  for (uint32_t id = 0; id < d->n_peers; id++) {
    msock_dataplane_peer *p = &d->peers[id];
    if (!p->in_use || p->hello_us == 0) {
      continue;
    }
    if (p->hello_us <= now_us) {
      p->hello_us = 0;
      msock_wg_peer_open_session(d->wg, now_us, id);
      msock_wg_peer_kick(d->wg, now_us, id);
    } else if (p->hello_us < d->next_hello_us) {
      d->next_hello_us = p->hello_us;
    }
  }
}

/* --- out --- */

static void flush_direct(msock_dataplane *d) {
  if (d->n_direct > 0) {
    d->handlers.send_direct(d->ctx, d->direct, d->direct_to, d->n_direct);
    d->n_direct = 0;
  }
}

/* One sealed datagram on its way. A direct one waits for flush_direct: its bytes must stay. */
static void to_peer(msock_dataplane *d, uint64_t now_us, uint32_t id, const msock_packet *k,
                    bool initiation) {
  msock_dataplane_peer *peer = peer_of(d, id);
  msock_route route = {.via = MSOCK_VIA_NONE};

  if (peer == NULL) {
    return;
  }
  msock_engine_route(d->engine, peer->path, now_us, &route);
  if (route.via == MSOCK_VIA_DIRECT) {
    if (d->n_direct == MSOCK_BATCH_MAX) {
      flush_direct(d);
    }
    d->direct[d->n_direct] = *k;
    d->direct_to[d->n_direct++] = route.addr;
    d->counters.tx_direct_packets++;
    d->counters.tx_direct_bytes += k->len;
    peer->last_tx_us = now_us;
    msock_engine_on_data_sent(d->engine, now_us, peer->path, &route.addr);
    return;
  }
  msock_engine_on_data_sent(d->engine, now_us, peer->path, NULL); /* also without a way: it looks */
  if (route.via == MSOCK_VIA_DERP &&
      d->handlers.send_relay(d->ctx, msock_wg_peer_key(d->wg, id), route.region,
                             msock_packet_data(k), k->len)) {
    peer->last_tx_us = now_us;
    return;
  }
  if (initiation) {
    msock_wg_peer_unsent(d->wg, id);
  }
  peer->tx_dropped++;
  d->counters.tx_no_path++;
}

/* A cookie reply has no peer yet: back where its cause came from. */
static void send_cookie(msock_dataplane *d, const msock_wg_source *to, const msock_packet *k) {
  if (to->by_relay) {
    d->handlers.send_relay(d->ctx, &to->relay, to->tag, msock_packet_data(k), k->len);
  } else {
    d->handlers.send_direct(d->ctx, k, &to->addr, 1);
  }
}

/* Handshakes, keepalives and packets that waited for a session. */
static void flush_engine(msock_dataplane *d, uint64_t now_us) {
  const uint64_t wall_us = msock_loop_wall_us();
  msock_wg_output out;
  msock_wg_event ev;
  size_t len = 0;

  while ((len = msock_wg_next_output(d->wg, now_us, wall_us, &out, d->out_buf, d->out_cap)) > 0) {
    const msock_packet k = {.buf = d->out_buf, .cap = (uint32_t)d->out_cap, .len = (uint32_t)len};
    if (out.kind == MSOCK_WG_OUT_COOKIE) {
      send_cookie(d, &out.source, &k);
    } else {
      to_peer(d, now_us, out.peer_id, &k, out.kind == MSOCK_WG_OUT_INITIATION);
      flush_direct(d); /* the buffer is used again */
    }
  }
  while (msock_wg_next_event(d->wg, &ev)) {
    msock_dataplane_peer *p = peer_of(d, ev.peer_id);
    if (p && ev.kind == MSOCK_WG_EV_SESSION_UP) {
      p->news_until_us = 0;
      msock_engine_on_data_session(d->engine, p->path);
    } else if (p && ev.kind == MSOCK_WG_EV_STALLED) {
      msock_engine_on_data_stalled(d->engine, now_us, p->path);
    }
  }
}

/* Filter, seal, send. Takes packets that are for peers; changes them in place. */
static void send_plain(msock_dataplane *d, msock_packet *pkts, size_t n, uint64_t now_us) {
  uint8_t verdicts[MSOCK_BATCH_MAX];
  uint32_t ids[MSOCK_BATCH_MAX];
  size_t kept = 0;

  msock_filter_out(d->filter, pkts, n, verdicts);
  for (size_t i = 0; i < n; i++) {
    if (msock_filter_passes(verdicts[i])) {
      d->counters.tx_packets++;
      d->counters.tx_bytes += pkts[i].len;
      show(d, &pkts[i]);
      pkts[kept++] = pkts[i];
    }
  }
  flush_engine(d, now_us); /* packets that waited go first */
  msock_wg_seal(d->wg, now_us, pkts, kept, ids);
  for (size_t i = 0; i < kept; i++) {
    if (ids[i] != MSOCK_WG_PEER_NONE) {
      to_peer(d, now_us, ids[i], &pkts[i], false);
    }
  }
  flush_direct(d);
}

void msock_dataplane_on_tun(void *ctx, msock_packet *pkts, size_t n, uint64_t now_us) {
  msock_dataplane *d = ctx;
  send_plain(d, pkts, n, now_us);
  flush_engine(d, now_us); /* handshakes that these packets started */
}

/* --- in --- */

static uint8_t proto_of(const msock_packet *p) {
  const uint8_t *b = msock_packet_data(p);
  return b[0] >> 4 == 4 ? b[9] : b[6];
}

static void ping_answered(msock_dataplane *d, uint64_t now_us, const msock_ping *p) {
  msock_dataplane_ping r = {.answered = true,
                            .latency_us = now_us - p->sent_us,
                            .tag = p->tag,
                            .peer = p->peer,
                            .region = d->rx_addr.ip.family ? 0 : d->rx_region,
                            .direct = d->rx_addr};
  d->handlers.ping_done(d->ctx, &r);
}

/* TSMP belongs to the node itself. An answer is left in the packet: true = send it back. */
static bool on_tsmp(msock_dataplane *d, msock_packet *p, uint64_t now_us) {
  msock_tsmp m;
  msock_ping hit;
  uint64_t id = 0;
  const size_t len =
      msock_tsmp_answer(msock_packet_data(p), p->len, p->cap - p->off, d->own, d->n_own, 0);

  if (len > 0) {
    p->len = (uint32_t)len;
    return true;
  }
  if (msock_tsmp_decode(msock_packet_data(p), p->len, &m) != MSOCK_OK) {
    return false;
  }
  d->counters.rx_disco_keys += m.kind == MSOCK_TSMP_DISCO_KEY; /* control's word counts: 2.6 */
  if (m.kind == MSOCK_TSMP_PONG) {
    for (size_t i = 0; i < MSOCK_TSMP_DATA_LEN; i++) {
      id = id << 8 | m.data[i];
    }
    if (msock_node_pings_match(&d->pings, now_us, MSOCK_PING_TSMP, id, &m.from, &hit)) {
      ping_answered(d, now_us, &hit);
    }
  }
  return false;
}

/* True: it answers a ping of ours and is consumed. */
static bool on_echo_reply(msock_dataplane *d, const msock_packet *p, uint64_t now_us) {
  msock_echo_reply r;
  msock_ping hit;
  if (d->pings.n == 0 || msock_echo_parse_reply(msock_packet_data(p), p->len, &r) != MSOCK_OK ||
      !msock_node_pings_match(&d->pings, now_us, MSOCK_PING_ICMP, (uint64_t)r.id << 16 | r.seq,
                              &r.from, &hit)) {
    return false;
  }
  ping_answered(d, now_us, &hit);
  return true;
}

/* Plain packets that peers sent: to the TUN, or answered here. */
static void deliver(msock_dataplane *d, msock_packet *pkts, size_t n, uint64_t now_us) {
  uint8_t verdicts[MSOCK_BATCH_MAX];
  msock_packet up[MSOCK_BATCH_MAX], back[MSOCK_BATCH_MAX];
  size_t n_up = 0, n_back = 0;

  msock_filter_in(d->filter, pkts, n, verdicts);
  for (size_t i = 0; i < n; i++) {
    if (!msock_filter_passes(verdicts[i])) {
      continue;
    }
    const uint8_t proto = proto_of(&pkts[i]);
    const bool icmp = proto == MSOCK_PROTO_ICMP || proto == MSOCK_PROTO_ICMPV6;
    d->counters.rx_packets++;
    d->counters.rx_bytes += pkts[i].len;
    show(d, &pkts[i]);
    if (proto == MSOCK_PROTO_TSMP) {
      if (on_tsmp(d, &pkts[i], now_us)) {
        back[n_back++] = pkts[i];
      }
    } else if (icmp && on_echo_reply(d, &pkts[i], now_us)) {
      continue;
    } else if (d->tun) {
      up[n_up++] = pkts[i];
    } else if (icmp &&
               msock_echo_answer(msock_packet_data(&pkts[i]), pkts[i].len, d->own, d->n_own) > 0) {
      back[n_back++] = pkts[i];
    } else {
      d->counters.rx_unclaimed++;
    }
  }
  if (n_up > 0) {
    msock_tun_write(d->tun, up, n_up);
  }
  if (n_back > 0) {
    send_plain(d, back, n_back, now_us);
  }
}

/* Opens n datagrams of one source, delivers what is inside. */
static void open_from(msock_dataplane *d, uint64_t now_us, const msock_wg_source *src,
                      msock_region_id region, msock_packet *pkts, size_t n) {
  msock_wg_result results[MSOCK_BATCH_MAX];
  msock_packet plain[MSOCK_BATCH_MAX];
  const msock_addr *from = src->by_relay ? NULL : &src->addr;
  size_t n_plain = 0;
  bool no_session = false;

  d->rx_addr = src->by_relay ? (msock_addr){0} : src->addr;
  msock_wg_open(d->wg, now_us, msock_loop_wall_us(), src, pkts, n, results);
  for (size_t i = 0; i < n; i++) {
    msock_dataplane_peer *p = peer_of(d, results[i].peer_id);
    if (p) {
      p->last_rx_us = now_us;
      p->rx_region = src->by_relay ? region : p->rx_region;
      msock_engine_on_data_received(d->engine, now_us, p->path, from, region);
    }
    if (results[i].kind == MSOCK_WG_PLAIN) {
      plain[n_plain++] = pkts[i];
    }
    no_session = no_session || results[i].kind == MSOCK_WG_NO_SESSION;
  }
  if (no_session && src->by_relay) { /* this node was started anew, and the relay vouches for who
                                        does not know it: the peer's own time-out would take 15 s */
    msock_wg_peer_open_session(d->wg, now_us, msock_wg_peer_find(d->wg, &src->relay));
  } else if (no_session) { /* by UDP only where the engine confirmed the address for the peer */
    const uint32_t path = msock_engine_peer_of_source(d->engine, &src->addr);
    for (uint32_t id = 0; id < d->n_peers; id++) {
      if (d->peers[id].in_use && path != MSOCK_ENGINE_PEER_NONE && d->peers[id].path == path) {
        msock_wg_peer_open_session(d->wg, now_us, id);
      }
    }
  }
  flush_engine(d, now_us); /* a response lets staged packets go before any answer */
  deliver(d, plain, n_plain, now_us);
}

/* The collected batch of one relay source. */
static void open_batch(msock_dataplane *d, uint64_t now_us) {
  const msock_wg_source src = {.by_relay = true, .relay = d->rx_src, .tag = (uint32_t)d->rx_region};
  const size_t n = d->n_rx;
  d->n_rx = 0;
  if (n > 0) {
    open_from(d, now_us, &src, d->rx_region, d->rx, n);
  }
}

void msock_dataplane_on_udp(msock_dataplane *d, uint64_t now_us, msock_packet *pkts,
                            const msock_addr *from, size_t n) {
  for (size_t i = 0; i < n;) {
    size_t end = i + 1;
    const msock_wg_source src = {.addr = from[i]};
    while (end < n && msock_addr_equal(&from[end], &from[i])) {
      end++;
    }
    d->counters.rx_direct_packets += end - i;
    for (size_t k = i; k < end; k++) {
      d->counters.rx_direct_bytes += pkts[k].len;
    }
    open_from(d, now_us, &src, 0, pkts + i, end - i);
    i = end;
  }
}

void msock_dataplane_peer_set_path(msock_dataplane *d, uint32_t id, uint32_t path) {
  msock_dataplane_peer *p = peer_of(d, id);
  if (p) {
    p->path = path;
  }
}

void msock_dataplane_on_relay(msock_dataplane *d, uint64_t now_us, msock_region_id region,
                              const msock_node_key *src, const uint8_t *p, size_t len) {
  if (msock_wg_peer_find(d->wg, src) == MSOCK_WG_PEER_NONE) {
    d->counters.rx_unknown_source++;
    return;
  }
  if (len > DATAGRAM_MAX) {
    d->counters.rx_too_long++;
    return;
  }
  if (d->n_rx == MSOCK_BATCH_MAX ||
      (d->n_rx > 0 && (d->rx_region != region || !msock_node_key_equal(&d->rx_src, src)))) {
    open_batch(d, now_us);
  }
  msock_packet *k = &d->rx[d->n_rx];
  *k = (msock_packet){.buf = d->arena + d->n_rx * SLOT_LEN,
                      .cap = SLOT_LEN,
                      .off = MSOCK_PACKET_HEADROOM,
                      .len = (uint32_t)len};
  memcpy(msock_packet_data(k), p, len);
  d->rx_src = *src;
  d->rx_region = region;
  d->n_rx++;
}

void msock_dataplane_pump(msock_dataplane *d, uint64_t now_us) {
  msock_ping late;

  open_batch(d, now_us);
  if (msock_wg_next_expiry(d->wg) <= now_us) {
    msock_wg_on_expiry(d->wg, now_us, msock_loop_wall_us());
  }
  repeat_news(d, now_us);
  say_hellos(d, now_us);
  flush_engine(d, now_us);
  while (msock_node_pings_expire(&d->pings, now_us, &late)) {
    const msock_dataplane_ping r = {.tag = late.tag, .peer = late.peer};
    d->handlers.ping_done(d->ctx, &r);
  }
}

uint64_t msock_dataplane_next_expiry(const msock_dataplane *d) {
  uint64_t t = msock_wg_next_expiry(d->wg);
  const uint64_t ping = msock_node_pings_next_expiry(&d->pings);
  t = ping < t ? ping : t;
  t = d->next_hello_us < t ? d->next_hello_us : t;
  return d->next_news_us < t ? d->next_news_us : t;
}

/* --- pings --- */

static const msock_ip *own_of_family(const msock_dataplane *d, uint8_t family) {
  for (size_t i = 0; i < d->n_own; i++) {
    if (d->own[i].family == family) {
      return &d->own[i];
    }
  }
  return NULL;
}

msock_err msock_dataplane_ping_send(msock_dataplane *d, uint64_t now_us, msock_ping_kind kind,
                                    const msock_ip *to, size_t size, uint64_t timeout_us,
                                    uint64_t tag) {
  uint8_t slot[SLOT_LEN];
  uint8_t payload[DATAGRAM_MAX] = {0};
  uint8_t data[MSOCK_TSMP_DATA_LEN];
  msock_packet k = {.buf = slot, .cap = sizeof slot, .off = MSOCK_PACKET_HEADROOM};
  msock_ping p = {
      .kind = kind, .peer = *to, .sent_us = now_us, .deadline_us = now_us + timeout_us, .tag = tag};
  const msock_ip *from = own_of_family(d, to->family);
  const size_t room = d->mtu_bytes - PING_HEADERS;
  uint32_t id = 0;
  ptrdiff_t len = 0;

  if (from == NULL || !msock_wg_lookup(d->wg, to, &id)) {
    return MSOCK_ERR_UNKNOWN;
  }
  const msock_err e = msock_node_pings_add(&d->pings, &d->deps.env, &p);
  if (e != MSOCK_OK) {
    return e;
  }
  if (kind == MSOCK_PING_TSMP) {
    for (size_t i = 0; i < MSOCK_TSMP_DATA_LEN; i++) {
      data[i] = (uint8_t)(p.id >> (56 - 8 * i));
    }
    len = msock_tsmp_request(slot + k.off, DATAGRAM_MAX, from, to, data);
  } else {
    len = msock_echo_request(slot + k.off, DATAGRAM_MAX, from, to, (uint16_t)(p.id >> 16),
                             (uint16_t)p.id, payload, size < room ? size : room);
  }
  if (len < 0) {
    msock_node_pings_forget(&d->pings, tag);
    return (msock_err)len;
  }
  k.len = (uint32_t)len;
  send_plain(d, &k, 1, now_us);
  flush_engine(d, now_us);
  return MSOCK_OK;
}

void msock_dataplane_ping_forget(msock_dataplane *d, uint64_t tag) {
  msock_node_pings_forget(&d->pings, tag);
}
