#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/memory.h"
#include "node/node_internal.h"

#define TRIM_CHANGES 100u /* a batch of more leaves much free memory behind */
#define NEWS_BITS                                                                                  \
  (MSOCK_PEER_KEY | MSOCK_PEER_DISCO | MSOCK_PEER_ENDPOINTS | MSOCK_PEER_DERP | MSOCK_PEER_ONLINE)

static msock_netmap *netmap_of(const msock_node *n) {
  return n->control ? msock_control_netmap(msock_control_link_machine(n->control)) : NULL;
}

/* --- peers --- */

static void remove_key(msock_node *n, const msock_node_key *key) {
  const uint32_t id = msock_dataplane_peer_find(n->plane, key);
  msock_engine *e = msock_paths_engine(n->paths);
  if (id != MSOCK_WG_PEER_NONE) {
    msock_dataplane_peer_remove(n->plane, id);
  }
  msock_engine_peer_remove(e, msock_engine_peer_find(e, key));
}

/* The path engine's view of a peer: its endpoints in the netmap are the whole list. */
static void put_path(msock_node *n, uint64_t now_us, const msock_peer *p, uint32_t id) {
  const msock_engine_peer k = {.node = p->key,
                               .disco = p->disco,
                               .home = p->home_derp,
                               .endpoints = p->endpoints,
                               .n_endpoints = p->n_endpoints};
  uint32_t path = MSOCK_ENGINE_PEER_NONE;
  if (msock_engine_peer_put(msock_paths_engine(n->paths), now_us, &k, &path) != MSOCK_OK) {
    msock_logf(n->deps.log, MSOCK_LOG_WARN, "path.peer_refused", "id=%" PRIu64, p->id);
  }
  msock_dataplane_peer_set_path(n->plane, id, path);
}

/* The data plane gets the peer as the netmap has it now, or loses it. */
static void put_peer(msock_node *n, uint64_t now_us, const msock_peer *p, uint32_t what) {
  uint32_t id = MSOCK_WG_PEER_NONE;

  if (p->shadowed || p->expired || p->wireguard_only || msock_node_key_is_zero(&p->key)) {
    remove_key(n, &p->key);
    return;
  }
  const msock_dataplane_record r = {
      .node_id = p->id, .key = p->key, .disco = p->disco, .home = p->home_derp};
  const msock_err e = msock_dataplane_peer_put(n->plane, now_us, &r, &id);
  if (e != MSOCK_OK) {
    msock_logf(n->deps.log, MSOCK_LOG_WARN, "node.peer_refused", "id=%" PRIu64 " reason=\"%s\"",
               p->id, msock_err_text(e));
    return;
  }
  put_path(n, now_us, p, id);
  if (what & NEWS_BITS) {
    msock_dataplane_peer_news(n->plane, now_us, id);
  }
}

static msock_route_policy route_policy(const msock_node *n) {
  return (msock_route_policy){.accept_routes = n->state.prefs.accept_routes};
}

/* Prefixes of one peer, for a peer that came alone. */
static void put_routes_of(msock_node *n, const msock_peer *p) {
  msock_prefix prefixes[MSOCK_NETMAP_ROUTES_MAX];
  const msock_route_policy policy = route_policy(n);
  const uint32_t id = msock_dataplane_peer_find(n->plane, &p->key);

  if (id != MSOCK_WG_PEER_NONE) {
    const size_t count =
        msock_netmap_accepted_routes(netmap_of(n), &policy, p, prefixes, MSOCK_NETMAP_ROUTES_MAX);
    msock_wg_peer_set_allowed_ips(msock_dataplane_wg(n->plane), id, prefixes, count);
  }
}

/* --- routes of everybody --- */

typedef struct route_list {
  msock_wg_route *items;
  size_t n, cap;
} route_list;

static bool add_routes(route_list *l, const msock_prefix *prefixes, size_t count, uint32_t id) {
  if (l->n + count > l->cap) {
    const size_t cap = (l->n + count) * 2;
    msock_wg_route *items = realloc(l->items, cap * sizeof *items);
    if (items == NULL) {
      return false;
    }
    l->items = items;
    l->cap = cap;
  }
  for (size_t i = 0; i < count; i++) {
    l->items[l->n++] = (msock_wg_route){.prefix = prefixes[i], .peer_id = id};
  }
  return true;
}

/* The host's routes: one for each prefix, or the two tailnet ranges when there are too many. */
static void set_host_routes(msock_node *n, const route_list *l) {
  static const msock_prefix v4 = {.ip = {.family = 4, .b = {100, 64}}, .bits = 10};
  static const msock_prefix v6 = {.ip = {.family = 6, .b = {0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0}},
                                  .bits = 48};
  msock_prefix *routes = NULL;
  const bool collapse = l->n > MSOCK_NODE_HOST_ROUTES_MAX;
  size_t count = 0;

  if (n->device.netlink == NULL) {
    return;
  }
  routes = malloc((l->n + 2) * sizeof *routes);
  if (routes == NULL) {
    return;
  }
  if (collapse) {
    routes[count++] = v4;
    routes[count++] = v6;
    if (!n->device.routes_collapsed) {
      n->device.routes_collapsed = true;
      msock_logf(n->deps.log, MSOCK_LOG_INFO, "tun.routes_collapsed",
                 "peers routes=%zu text=\"one route for each tailnet range instead\"", l->n);
    }
  }
  for (size_t i = 0; i < l->n && count < MSOCK_NETLINK_ROUTES_MAX; i++) {
    const msock_prefix *p = &l->items[i].prefix;
    if (!collapse || (!msock_prefix_contains(&v4, &p->ip) && !msock_prefix_contains(&v6, &p->ip))) {
      routes[count++] = *p;
    }
  }
  if (msock_netlink_set_routes(n->device.netlink, routes, count, 0) != MSOCK_OK) {
    msock_logf(n->deps.log, MSOCK_LOG_ERROR, "tun.routes_failed", "reason=\"%s\"",
               msock_netlink_why(n->device.netlink));
  }
  free(routes);
}

static void put_all_routes(msock_node *n) {
  msock_prefix prefixes[MSOCK_NETMAP_ROUTES_MAX];
  const msock_route_policy policy = route_policy(n);
  const msock_netmap *nm = netmap_of(n);
  route_list l = {0};

  for (size_t i = 0; nm && i < msock_netmap_count(nm); i++) {
    const msock_peer *p = msock_netmap_at(nm, i);
    const uint32_t id = msock_dataplane_peer_find(n->plane, &p->key);
    if (id == MSOCK_WG_PEER_NONE || p->shadowed) {
      continue;
    }
    const size_t count =
        msock_netmap_accepted_routes(nm, &policy, p, prefixes, MSOCK_NETMAP_ROUTES_MAX);
    if (!add_routes(&l, prefixes, count, id)) {
      msock_logf(n->deps.log, MSOCK_LOG_ERROR, "node.routes_failed", "reason=\"out of memory\"");
      free(l.items);
      return;
    }
  }
  const msock_err e = msock_wg_set_allowed_ips(msock_dataplane_wg(n->plane), l.items, l.n);
  if (e != MSOCK_OK) {
    msock_logf(n->deps.log, MSOCK_LOG_ERROR, "node.routes_failed", "reason=\"%s\"",
               msock_err_text(e));
  } else {
    set_host_routes(n, &l);
  }
  free(l.items);
}

void msock_node_refresh_routes(msock_node *n) {
  if (netmap_of(n) && msock_netmap_self(netmap_of(n))) {
    put_all_routes(n);
  }
}

/* --- self, filter, relays --- */

static void put_device(msock_node *n, const msock_prefix *addrs, size_t count) {
  msock_netlink *nl = n->device.netlink;
  if (nl && (msock_netlink_set_mtu(nl, n->mtu_bytes) != MSOCK_OK ||
             msock_netlink_set_addresses(nl, addrs, count) != MSOCK_OK ||
             msock_netlink_set_up(nl, count > 0) != MSOCK_OK)) {
    msock_logf(n->deps.log, MSOCK_LOG_ERROR, "tun.setup_failed", "reason=\"%s\"",
               msock_netlink_why(nl));
  }
}

/* Addresses of the tailnet itself are never a path to a peer. */
static void set_overlay(msock_node *n, const msock_peer *self) {
  msock_prefix p[MSOCK_NETMAP_ADDRESSES_MAX + 2] = {
      {.ip = {.family = 4, .b = {100, 64}}, .bits = 10},
      {.ip = {.family = 6, .b = {0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0}}, .bits = 48}};
  memcpy(p + 2, self->addresses, self->n_addresses * sizeof *p);
  msock_engine_set_overlay(msock_paths_engine(n->paths), p, self->n_addresses + 2u);
}

static void put_self(msock_node *n, const msock_peer *self) {
  char why[MSOCK_WHY_MAX];
  char text[MSOCK_PREFIX_TEXT_MAX];
  msock_state *st = &n->state;
  const size_t count =
      self->n_addresses < MSOCK_STATE_ADDRS_MAX ? self->n_addresses : MSOCK_STATE_ADDRS_MAX;
  const bool same = count == st->n_self_addrs && strcmp(st->node_id, self->stable_id) == 0 &&
                    memcmp(st->self_addrs, self->addresses, count * sizeof *self->addresses) == 0;

  /* Without a TUN nobody forwards: then packets for our routes are not ours. */
  msock_dataplane_set_addresses(n->plane, self->addresses, self->n_addresses,
                                st->prefs.advertise_routes,
                                n->device.tun ? st->prefs.n_advertise_routes : 0);
  put_device(n, self->addresses, self->n_addresses);
  set_overlay(n, self);
  if (same) {
    return;
  }
  for (size_t i = 0; i < count; i++) {
    msock_logf(n->deps.log, MSOCK_LOG_INFO, "node.address", "addr=%s name=%s",
               msock_prefix_text(&self->addresses[i], text), self->name);
    st->self_addrs[i] = self->addresses[i];
  }
  st->n_self_addrs = count;
  strncpy(st->node_id, self->stable_id, sizeof st->node_id - 1);
  if (msock_state_save(n->opt->state_file, st, why) != MSOCK_OK) {
    msock_logf(n->deps.log, MSOCK_LOG_ERROR, "state.save_failed", "reason=\"%s\"", why);
  }
}

static void put_derp_map(msock_node *n, uint64_t now_us, const msock_derp_map *from_server) {
  msock_config_report *report = calloc(1, sizeof *report); /* 13 KiB: not for the stack */
  msock_derp_map merged = {0};
  char text[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  const bool extended = report != NULL && msock_settings_derp_map(n->opt->settings, from_server,
                                                                  &merged, report) == MSOCK_OK;
  const msock_derp_map *map = extended ? &merged : from_server;

  for (size_t i = 0; report != NULL && i < report->n; i++) {
    msock_logf(n->deps.log, MSOCK_LOG_WARN, "derp.map_file", "%s",
               msock_config_problem_text(&report->problems[i], text));
  }
  free(report);
  msock_derp_pool_set_map(msock_relay_pool(n->relay), now_us, map);
  msock_home_set_map(msock_homing_machine(n->homing), now_us, map);
  msock_home_start(msock_homing_machine(n->homing), now_us);
  msock_derp_map_clear(&merged);
}

/* --- the changes of one message --- */

static void resync_peers(msock_node *n, uint64_t now_us, const msock_netmap *nm) {
  for (uint32_t id = 0; id < msock_dataplane_peer_bound(n->plane); id++) {
    const msock_node_key *p = msock_dataplane_peer_key(n->plane, id);
    if (p && msock_netmap_find_key(nm, p) == NULL) {
      const msock_node_key key = *p;
      remove_key(n, &key);
    }
  }
  for (size_t i = 0; i < msock_netmap_count(nm); i++) {
    put_peer(n, now_us, msock_netmap_at(nm, i), 0);
  }
}

static void one_change(msock_node *n, uint64_t now_us, const msock_netmap *nm,
                       const msock_netmap_change *c) {
  const msock_peer *p = NULL;
  switch (c->kind) {
  case MSOCK_NETMAP_SELF:
    n->self_dirty = true;
    break;
  case MSOCK_NETMAP_PEER_REMOVED:
    remove_key(n, &c->key);
    break;
  case MSOCK_NETMAP_PEER_ADDED:
  case MSOCK_NETMAP_PEER_CHANGED:
    if (c->what & MSOCK_PEER_KEY) {
      remove_key(n, &c->key);
      n->routes_dirty = true;
    }
    p = msock_netmap_find_id(nm, c->id);
    if (p == NULL) { /* shadowed by another peer */
      remove_key(n, &c->key);
      break;
    }
    put_peer(n, now_us, p, c->kind == MSOCK_NETMAP_PEER_ADDED ? NEWS_BITS : c->what);
    if (c->kind == MSOCK_NETMAP_PEER_ADDED ||
        c->what & (MSOCK_PEER_EXPIRY | MSOCK_PEER_ADDRESSES)) {
      n->routes_dirty = true;
    } else if (c->what & MSOCK_PEER_ALLOWED) {
      put_routes_of(n, p);
    }
    break;
  case MSOCK_NETMAP_ROUTES:
    n->routes_dirty = true;
    break;
  case MSOCK_NETMAP_DERP_MAP:
    n->derp_map_dirty = true;
    break;
  case MSOCK_NETMAP_FILTER:
    n->filter_dirty = true;
    break;
  case MSOCK_NETMAP_RESYNC:
    resync_peers(n, now_us, nm);
    n->self_dirty = n->routes_dirty = n->filter_dirty = n->derp_map_dirty = true;
    break;
  case MSOCK_NETMAP_DNS:
  case MSOCK_NETMAP_USERS:
  case MSOCK_NETMAP_HEALTH:
  case MSOCK_NETMAP_DOMAIN:
    break; /* read from the netmap when asked for */
  }
}

void msock_node_apply_netmap(msock_node *n, uint64_t now_us) {
  msock_netmap *nm = netmap_of(n);
  msock_netmap_change c;
  size_t n_changes = 0;

  if (nm == NULL) {
    return;
  }
  for (; msock_netmap_next_change(nm, &c); n_changes++) {
    one_change(n, now_us, nm, &c);
  }
  /* The filter first: no packet may pass under rules that are gone. */
  if (n->filter_dirty && msock_filter_set_policy(msock_dataplane_filter(n->plane),
                                                 msock_netmap_filter(nm)) == MSOCK_OK) {
    n->filter_dirty = false;
  }
  if (n->self_dirty && msock_netmap_self(nm)) {
    n->self_dirty = false;
    put_self(n, msock_netmap_self(nm));
  }
  if (n->routes_dirty) {
    n->routes_dirty = false;
    put_all_routes(n);
  }
  if (n->derp_map_dirty) {
    n->derp_map_dirty = false;
    put_derp_map(n, now_us, msock_netmap_derp_map(nm));
  }
  if (n_changes >= TRIM_CHANGES) {
    msock_memory_trim();
  }
}

void msock_node_restore_netmap(msock_node *n, uint64_t now_us) {
  const msock_netmap *nm = netmap_of(n);
  if (nm && msock_netmap_self(nm)) {
    resync_peers(n, now_us, nm);
    n->self_dirty = n->routes_dirty = n->filter_dirty = n->derp_map_dirty = true;
    msock_node_apply_netmap(n, now_us);
  }
}

void msock_node_clear_netmap(msock_node *n, uint64_t now_us) {
  msock_dataplane_clear(n->plane);
  msock_engine_netmap_clear(msock_paths_engine(n->paths));
  msock_home_stop(msock_homing_machine(n->homing));
  msock_home_set_map(msock_homing_machine(n->homing), now_us, NULL);
  msock_derp_pool_set_home(msock_relay_pool(n->relay), now_us, 0);
  msock_derp_pool_set_map(msock_relay_pool(n->relay), now_us, NULL);
  if (n->device.netlink) {
    msock_netlink_set_routes(n->device.netlink, NULL, 0, 0);
    put_device(n, NULL, 0);
  }
  n->home_connected = false;
}
