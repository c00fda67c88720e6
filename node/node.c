#include "node/node.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/disco_look.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "node/node_internal.h"

#define PUMP_PASSES                                                                                \
  3 /* one part's output is another one's input: control, homing, plane, relay                     \
     */

/* --- parts talk to each other only through these --- */

static bool send_relay(void *ctx, const msock_node_key *dst, msock_region_id region,
                       const uint8_t *p, size_t len) {
  msock_node *n = ctx;
  return msock_relay_send(n->relay, msock_loop_now_us(), dst, region, p, len);
}

static void send_direct(void *ctx, const msock_packet *pkts, const msock_addr *to, size_t count) {
  msock_node *n = ctx;
  msock_udp *udp = msock_underlay_udp(n->underlay);
  if (udp) {
    msock_udp_send(udp, MSOCK_PURPOSE_WG, pkts, to, count);
  }
}

static void on_relay_packet(void *ctx, uint64_t now_us, msock_region_id region,
                            const msock_node_key *src, const uint8_t *data, size_t len) {
  msock_node *n = ctx;
  msock_home_on_derp_frame(msock_homing_machine(n->homing), now_us, region);
  if (msock_has_disco_magic(data, len)) { /* never data: magicsock.md 1.7 */
    msock_engine_on_derp(msock_paths_engine(n->paths), now_us, region, src, data, len);
    msock_dataplane_peer_hello(n->plane, now_us, msock_dataplane_peer_find(n->plane, src));
    return;
  }
  msock_dataplane_on_relay(n->plane, now_us, region, src, data, len);
}

static void on_peer_gone(void *ctx, uint64_t now_us, msock_region_id region,
                         const msock_node_key *peer) {
  const msock_node *n = ctx;
  char key[MSOCK_KEY_SHORT_MAX];
  (void)now_us;
  msock_logf(n->deps.log, MSOCK_LOG_DEBUG, "derp.peer_gone", "region=%" PRIu64 " peer=%s", region,
             msock_node_key_short(peer, key));
}

static void on_relay_home(void *ctx, uint64_t now_us, msock_region_id region, bool connected) {
  msock_node *n = ctx;
  (void)now_us;
  (void)region;
  n->home_connected = connected;
}

/* A relay came up: whoever waits for a handshake there can be asked again at once. */
static void on_region_up(void *ctx, uint64_t now_us, msock_region_id region) {
  msock_node *n = ctx;
  msock_engine_on_derp_up(msock_paths_engine(n->paths), now_us, region, NULL);
  for (uint32_t id = 0; id < msock_dataplane_peer_bound(n->plane); id++) {
    const msock_dataplane_peer *p = msock_dataplane_peer_at(n->plane, id);
    if (p && (p->home == region || p->home == 0)) {
      msock_dataplane_peer_news(n->plane, now_us, id);
    }
  }
}

static void on_region_lost(void *ctx, uint64_t now_us, msock_region_id region) {
  msock_node *n = ctx;
  msock_home_on_derp_lost(msock_homing_machine(n->homing), now_us, region);
}

static void on_relay_connected(void *ctx, msock_region_id region, uint64_t connect_us) {
  msock_node *n = ctx;
  msock_home_on_derp_connected(msock_homing_machine(n->homing), region, connect_us);
}

static void on_reprobe(void *ctx, uint64_t now_us) {
  msock_node *n = ctx;
  msock_home_probe(msock_homing_machine(n->homing), now_us);
}

/* A STUN server saw our socket: what peers outside can be told. */
static void on_reflexive(void *ctx, uint64_t now_us, const msock_addr *server,
                         const msock_addr *mapped) {
  msock_node *n = ctx;
  msock_engine_on_reflexive(msock_paths_engine(n->paths), now_us, server, mapped);
}

static void on_home_changed(void *ctx, uint64_t now_us, msock_region_id region) {
  msock_node *n = ctx;
  msock_derp_pool_set_home(msock_relay_pool(n->relay), now_us, region);
  msock_engine_set_home(msock_paths_engine(n->paths), region);
  msock_node_on_home_report(n, now_us, msock_home_report_of(msock_homing_machine(n->homing)));
}

/* "cap:" sources of the packet filter: the owner of the address by the netmap. */
static bool has_cap(void *ctx, const msock_ip *src, const char *cap) {
  const msock_node *n = ctx;
  const msock_peer *p =
      n->control
          ? msock_netmap_find_ip(msock_control_netmap(msock_control_link_machine(n->control)), src)
          : NULL;
  return p && msock_strlist_has(&p->caps, cap);
}

/* --- one turn --- */

static uint64_t earlier(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

/* Traffic of the tunnel keeps the network checks going. */
static void note_activity(msock_node *n, uint64_t now_us) {
  const msock_dataplane_counters *c = msock_dataplane_counters_get(n->plane);
  if (c->rx_packets + c->tx_packets != n->tunnel_packets) {
    n->tunnel_packets = c->rx_packets + c->tx_packets;
    msock_home_on_activity(msock_homing_machine(n->homing), now_us);
  }
}

static void pump(void *ctx, uint64_t now_us) {
  msock_node *n = ctx;
  uint64_t next = MSOCK_NEVER;

  note_activity(n, now_us);

  for (int i = 0; i < PUMP_PASSES; i++) {
    if (n->control) {
      msock_control_link_pump(n->control, now_us);
      msock_home_set_control_up(msock_homing_machine(n->homing),
                                msock_control_connected(msock_control_link_machine(n->control)));
    }
    msock_homing_pump(n->homing, now_us);
    msock_paths_pump(n->paths, now_us);
    msock_dataplane_pump(n->plane, now_us);
    msock_relay_pump(n->relay, now_us);
  }
  msock_node_bus_pump(n, now_us);
  next = earlier(msock_homing_next_expiry(n->homing), msock_dataplane_next_expiry(n->plane));
  next = earlier(next, msock_relay_next_expiry(n->relay));
  next = earlier(next, msock_paths_next_expiry(n->paths));
  if (n->control) {
    next = earlier(next, msock_control_link_next_expiry(n->control));
  }
  msock_loop_set_deadline(n->deps.loop, &n->timer, next);
}

/* The deadline only wakes the loop: the work is done by the hook at the end of the turn. */
static void on_deadline(void *ctx, uint64_t now_us) {
  (void)ctx;
  (void)now_us;
}

static bool is_gone(void *ctx, const msock_ip *local) {
  const msock_node *n = ctx;
  return n->link && !msock_link_has(n->link, local);
}

/* Addresses came or went: connections from an address that is gone end now, the others must answer
 * a ping, and the relays are measured anew. */
static void on_link_changed(void *ctx) {
  msock_node *n = ctx;
  const uint64_t now_us = msock_loop_now_us();
  if (n->control) {
    const msock_ip local = msock_control_link_local(n->control);
    msock_control_on_link_change(msock_control_link_machine(n->control), now_us,
                                 local.family != 0 && is_gone(n, &local));
  }
  msock_derp_pool_on_rebind(msock_relay_pool(n->relay), now_us, is_gone, n);
  msock_underlay_network_changed(n->underlay, now_us);
  msock_home_link_changed(msock_homing_machine(n->homing), now_us);
}

/* The machine slept: connections may be dead without knowing it. */
static void on_suspend(void *ctx, uint64_t slept_us) {
  msock_node *n = ctx;
  msock_logf(n->deps.log, MSOCK_LOG_INFO, "node.resumed", "slept_s=%" PRIu64, slept_us / MSOCK_SEC);
  on_link_changed(n);
}

/* --- life --- */

static msock_err open_device(msock_node *n, char why[static MSOCK_WHY_MAX]) {
  char tun_why[MSOCK_TUN_WHY_MAX];
  if (n->opt->tun == NULL) {
    return MSOCK_OK;
  }
  msock_err e = msock_tun_open(n->deps.loop, n->opt->tun, msock_dataplane_on_tun, n->plane,
                               &n->device.tun, tun_why);
  if (e != MSOCK_OK) {
    snprintf(why, MSOCK_WHY_MAX, "%s (without one: --tun=none)", tun_why);
    return e;
  }
  e = msock_netlink_new(n->deps.egress, msock_tun_name(n->device.tun), &n->device.netlink);
  if (e != MSOCK_OK) {
    snprintf(why, MSOCK_WHY_MAX, "%s",
             n->device.netlink ? msock_netlink_why(n->device.netlink) : msock_err_text(e));
    return e;
  }
  msock_dataplane_set_tun(n->plane, n->device.tun);
  return MSOCK_OK;
}

static msock_err make_parts(msock_node *n, char why[static MSOCK_WHY_MAX]) {
  const msock_filter_config filter = {.env = n->deps.env, .has_cap = has_cap, .ctx = n};
  const msock_dataplane_handlers plane = {
      .send_relay = send_relay, .send_direct = send_direct, .ping_done = msock_node_ping_done};
  const msock_homing_handlers homing = {.home_changed = on_home_changed,
                                        .reflexive = on_reflexive,
                                        .report = msock_node_on_home_report};
  const msock_relay_handlers relay = {.packet = on_relay_packet,
                                      .peer_gone = on_peer_gone,
                                      .home = on_relay_home,
                                      .region_up = on_region_up,
                                      .region_lost = on_region_lost,
                                      .connected = on_relay_connected,
                                      .reprobe = on_reprobe};
  msock_node_private key = n->state.node_private;

  if (!msock_state_has_node_key(&n->state)) { /* nobody's until a login */
    msock_node_private_generate(&n->deps.env, &key);
  }
  n->plane = msock_dataplane_new(&n->deps, &key, n->mtu_bytes, &filter, &plane, n);
  msock_wipe(&key, sizeof key);
  n->homing = msock_node_open_underlay(n)
                  ? msock_homing_new(&n->deps, msock_underlay_udp(n->underlay), &homing, n)
                  : NULL;
  n->relay = msock_relay_new(&n->deps, &relay, n);
  if (!n->plane || !n->homing || !n->relay || !msock_node_make_paths(n, msock_loop_now_us())) {
    snprintf(why, MSOCK_WHY_MAX, "out of memory");
    return MSOCK_ERR_NOMEM;
  }
  msock_filter_set_shields_up(msock_dataplane_filter(n->plane), n->state.prefs.shields_up);
  return open_device(n, why);
}

msock_err msock_node_new(const msock_node_deps *deps, const msock_node_options *opt,
                         msock_node **out, char why[static MSOCK_WHY_MAX]) {
  msock_node *n = calloc(1, sizeof *n);
  bool fresh = false;
  msock_err e = MSOCK_ERR_NOMEM;

  *out = NULL;
  if (n == NULL) {
    snprintf(why, MSOCK_WHY_MAX, "out of memory");
    return e;
  }
  n->deps = *deps;
  n->opt = opt;
  n->lock.fd = -1;
  n->mtu_bytes = (uint32_t)msock_settings_values(opt->settings)->mtu;
  msock_loop_timer_init(&n->timer, on_deadline, n);

  e = msock_state_take_lock(opt->state_file, &n->lock, why);
  if (e == MSOCK_OK) {
    e = msock_state_load(opt->state_file, &n->deps.env, &n->state, &fresh, why);
  }
  if (e == MSOCK_OK && fresh) { /* the machine key must not change after the server has seen it */
    e = msock_state_save(opt->state_file, &n->state, why);
  }
  if (e == MSOCK_OK) {
    e = make_parts(n, why);
  }
  if (e == MSOCK_OK && msock_link_new(deps, n->device.tun ? msock_tun_name(n->device.tun) : NULL,
                                      on_link_changed, n, &n->link) != MSOCK_OK) {
    n->link = NULL;
    msock_logf(deps->log, MSOCK_LOG_WARN, "link.unwatched",
               "text=\"no netlink: a change of network is noticed by time-outs only\"");
  }
  if (e == MSOCK_OK) {
    msock_node_tell_local(n, msock_loop_now_us());
  }
  /* before the LocalAPI's own hook: answers given by the pump leave in the same turn */
  msock_loop_hook_add(deps->loop, &n->hook, pump, n);
  if (e == MSOCK_OK) {
    const msock_localapi_backend backend = msock_node_api_backend(n);
    e = msock_localapi_server_new(deps->loop, deps->egress, opt->socket, &backend, deps->log,
                                  &n->api_server, why);
  }
  if (e != MSOCK_OK) {
    msock_node_free(n);
    return e;
  }
  msock_localapi_server_set_operator(n->api_server, n->state.prefs.operator_user);
  msock_loop_on_suspend(deps->loop, on_suspend, n);
  msock_node_apply_settings(n, false);
  msock_node_session_resume(n, msock_loop_now_us());
  *out = n;
  return MSOCK_OK;
}

void msock_node_free(msock_node *n) {
  if (n == NULL) {
    return;
  }
  msock_loop_hook_remove(&n->hook);
  msock_loop_set_deadline(n->deps.loop, &n->timer, MSOCK_NEVER);
  msock_node_debug_stop(n);
  msock_node_netcheck_stop(n);
  msock_localapi_server_free(n->api_server);
  msock_link_free(n->link);
  msock_control_link_free(n->control);
  msock_relay_free(n->relay);
  msock_homing_free(n->homing);
  msock_netlink_free(n->device.netlink);
  msock_tun_free(n->device.tun);
  msock_dataplane_free(n->plane);
  msock_paths_free(n->paths);
  msock_underlay_free(n->underlay);
  msock_state_unlock(&n->lock);
  msock_state_clear(&n->state);
  free(n);
}
