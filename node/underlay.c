/* node/underlay.c: the one UDP socket, who gets each of its datagrams, and what the path engine is
 * told about this host. */
#include <inttypes.h>
#include <string.h>

#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "disco/disco.h"
#include "node/node_internal.h"

#define LOCAL_MAX 32u /* own addresses given to the engine; it keeps what it can use */

/* --- in --- */

static void on_udp(void *ctx, msock_packet *pkts, const msock_addr *from, size_t count,
                   uint64_t now_us) {
  msock_node *n = ctx;
  msock_packet data[MSOCK_BATCH_MAX];
  msock_addr data_from[MSOCK_BATCH_MAX];
  size_t n_data = 0;

  for (size_t i = 0; i < count; i++) {
    const uint8_t *p = msock_packet_data(&pkts[i]);
    switch (msock_disco_classify(p, pkts[i].len).kind) {
    case MSOCK_DATAGRAM_STUN:
      msock_home_on_udp(msock_homing_machine(n->homing), now_us, &from[i], p, pkts[i].len);
      break;
    case MSOCK_DATAGRAM_DISCO:
      msock_engine_on_udp(msock_paths_engine(n->paths), now_us, &from[i], p, pkts[i].len);
      break;
    case MSOCK_DATAGRAM_WIREGUARD:
      data[n_data] = pkts[i];
      data_from[n_data++] = from[i];
      break;
    case MSOCK_DATAGRAM_JUNK:
    case MSOCK_DATAGRAM_GENEVE_DISCO:
    case MSOCK_DATAGRAM_GENEVE_WIREGUARD:
      n->rx_udp_junk++;
      break;
    }
  }
  msock_dataplane_on_udp(n->plane, now_us, data, data_from, n_data);
}

/* --- the socket --- */

/* Data that the system would not send: the engine leaves the path, or asks for another socket. */
static void on_udp_fault(void *ctx, const msock_addr *to, msock_udp_fault fault, size_t count) {
  static const struct {
    msock_udp_fault fault;
    msock_send_error error;
  } known[] = {{MSOCK_UDP_FAULT_LOST, MSOCK_SEND_REFUSED},
               {MSOCK_UDP_FAULT_HOST, MSOCK_SEND_UNREACHABLE},
               {MSOCK_UDP_FAULT_NETWORK, MSOCK_SEND_NO_ROUTE},
               {MSOCK_UDP_FAULT_REBIND, MSOCK_SEND_BROKEN}};
  msock_node *n = ctx;
  msock_engine *e = msock_paths_engine(n->paths);
  (void)count;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (known[i].fault == fault) {
      msock_engine_on_send_error(e, msock_loop_now_us(), msock_engine_peer_of_source(e, to), to,
                                 known[i].error);
    }
  }
}

/* Local addresses with the socket's port, of the families that it speaks. */
void msock_node_tell_local(msock_node *n, uint64_t now_us) {
  msock_udp *udp = msock_underlay_udp(n->underlay);
  msock_ip ips[LOCAL_MAX];
  msock_endpoint ep[LOCAL_MAX];
  const size_t found = n->link && udp ? msock_link_addresses(n->link, ips, LOCAL_MAX) : 0;
  size_t count = 0;
  for (size_t i = 0; i < found; i++) {
    const msock_addr at = msock_udp_local(udp);
    if (ips[i].family == 4 || at.ip.family == 6) {
      ep[count++] =
          (msock_endpoint){.addr = {.ip = ips[i], .port = at.port}, .type = MSOCK_ENDPOINT_LOCAL};
    }
  }
  msock_engine_set_local(msock_paths_engine(n->paths), now_us, ep, count);
}

static void on_socket(void *ctx, uint64_t now_us, msock_udp *udp) {
  msock_node *n = ctx;
  msock_homing_set_socket(n->homing, udp);
  msock_paths_set_socket(n->paths, now_us, udp);
  msock_node_tell_local(n, now_us);
}

bool msock_node_open_underlay(msock_node *n) {
  static const msock_underlay_handlers handlers = {
      .received = on_udp, .fault = on_udp_fault, .changed = on_socket};
  const msock_tsnode_config *v = msock_settings_values(n->opt->settings);
  /* Without direct paths the full profile's socket still measures relays; privacy has none. */
  const bool off = !v->direct && v->profile != MSOCK_TSNODE_PROFILE_FULL;
  const msock_underlay_config cfg = {.off = off, .ipv6 = v->ipv6, .port = (uint16_t)v->port};
  n->underlay = msock_underlay_new(&n->deps, &cfg, &handlers, n);
  return n->underlay != NULL;
}

/* --- what the engine asks for --- */

static void on_send_relay(void *ctx, uint64_t now_us, const msock_node_key *dst,
                          msock_region_id region, const uint8_t *p, size_t len) {
  msock_node *n = ctx;
  msock_relay_send(n->relay, now_us, dst, region, p, len);
}

static void on_publish(void *ctx, uint64_t now_us, const msock_endpoint *ep, size_t count) {
  msock_node *n = ctx;
  char text[MSOCK_ADDR_TEXT_MAX];
  const bool hide = msock_settings_values(n->opt->settings)->profile != MSOCK_TSNODE_PROFILE_FULL;
  for (size_t i = 0; i < count && !hide; i++) {
    msock_logf(n->deps.log, MSOCK_LOG_DEBUG, "path.endpoint", "addr=%s type=%d",
               msock_addr_text(&ep[i].addr, text), (int)ep[i].type);
  }
  if (n->control && msock_settings_values(n->opt->settings)->direct) {
    msock_control_set_endpoints(msock_control_link_machine(n->control), now_us, ep, count);
  }
}

static void on_kick(void *ctx, uint64_t now_us, const msock_node_key *peer) {
  msock_node *n = ctx;
  const uint32_t id = msock_dataplane_peer_find(n->plane, peer);
  msock_dataplane_peer_news(n->plane, now_us, id);
  if (msock_engine_peer_count(msock_paths_engine(n->paths)) <= MSOCK_ENGINE_EAGER_PEERS) {
    msock_dataplane_peer_hello(n->plane, now_us, id);
  }
}

static void on_want_stun(void *ctx, uint64_t now_us) {
  msock_node *n = ctx;
  msock_home_probe(msock_homing_machine(n->homing), now_us);
}

static void on_want_rebind(void *ctx, uint64_t now_us) {
  msock_node *n = ctx;
  (void)now_us;
  msock_underlay_want_rebind(n->underlay);
}

bool msock_node_make_paths(msock_node *n, uint64_t now_us) {
  static const msock_paths_handlers handlers = {.send_relay = on_send_relay,
                                                .publish = on_publish,
                                                .kick = on_kick,
                                                .ping_done = msock_node_disco_ping_done,
                                                .want_stun = on_want_stun,
                                                .want_rebind = on_want_rebind};
  const msock_tsnode_config *v = msock_settings_values(n->opt->settings);
  const bool privacy = v->profile != MSOCK_TSNODE_PROFILE_FULL;
  const msock_engine_config cfg = {
      .self = msock_node_private_public(&n->state.node_private),
      .direct_off = !v->direct,
      .lan_off = !v->lan,
      .ipv6 = v->ipv6,
      .allow_loopback = v->allow_loopback,
      .fast_failover_off = !v->fast_failover,
      .fixed_port = v->port != 0,
      .hide_addresses = privacy,
      .no_rebind_on_refusal = privacy,
  };
  msock_disco_private disco;
  if (n->paths) {
    msock_engine_disco_private(msock_paths_engine(n->paths), &disco);
  } else {
    msock_disco_private_generate(&n->deps.env, &disco);
  }
  msock_paths *paths = msock_paths_new(&n->deps, &cfg, &disco, &handlers, n);
  msock_wipe(&disco, sizeof disco);
  if (paths == NULL) {
    return false;
  }
  msock_paths_free(n->paths);
  n->paths = paths;
  n->paths_key = cfg.self;
  msock_dataplane_set_engine(n->plane, msock_paths_engine(paths));
  msock_paths_set_socket(paths, now_us, msock_underlay_udp(n->underlay));
  msock_engine_set_home(msock_paths_engine(paths),
                        msock_home_region(msock_homing_machine(n->homing)));
  msock_node_tell_local(n, now_us);
  return true;
}
