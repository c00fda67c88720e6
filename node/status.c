#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/node_internal.h"
#include "node/status_json.h"

#define ACTIVE_US                                                                                  \
  (120 * MSOCK_SEC) /* "active": traffic in the last two minutes, as tailscale's                   \
                     */
#define HEALTH_MAX (MSOCK_NETMAP_HEALTH_MAX + 8u)
#define EXPIRY_MAX 192u
#define HOUR_US (3600 * MSOCK_SEC)
#define DAY_US (24 * HOUR_US)
#define EXPIRY_WARN_US (14 * DAY_US) /* ours: two weeks are enough to plan a login */

static msock_netmap *netmap_of(const msock_node *n) {
  return n->control ? msock_control_netmap(msock_control_link_machine(n->control)) : NULL;
}

static const char *region_code(const msock_netmap *nm, msock_region_id id) {
  const msock_derp_region *r = nm ? msock_derp_map_find(msock_netmap_derp_map(nm), id) : NULL;
  return r ? r->code : "";
}

/* What one peer's entry borrows beside the netmap. */
typedef struct peer_parts {
  msock_ip ips[MSOCK_NETMAP_ADDRESSES_MAX];
  const char *tags[MSOCK_NETMAP_TAGS_MAX];
} peer_parts;

static void fill_node(const msock_netmap *nm, const msock_peer *p, msock_status_peer *out,
                      peer_parts *parts) {
  size_t n_tags = 0;
  for (size_t i = 0; i < p->n_addresses; i++) {
    parts->ips[i] = p->addresses[i].ip;
  }
  for (const char *t = NULL; (t = msock_strlist_next(&p->tags, t)) != NULL;) {
    if (n_tags < MSOCK_NETMAP_TAGS_MAX) {
      parts->tags[n_tags++] = t;
    }
  }
  *out = (msock_status_peer){
      .id = p->stable_id,
      .public_key = p->key,
      .host_name = p->hostname,
      .dns_name = p->name,
      .os = p->os,
      .user_id = p->user_id,
      .tailscale_ips = parts->ips,
      .n_tailscale_ips = p->n_addresses,
      .allowed_ips = p->allowed,
      .n_allowed_ips = p->n_allowed,
      .primary_routes = p->primary,
      .n_primary_routes = p->n_primary,
      .tags = parts->tags,
      .n_tags = n_tags,
      .relay = region_code(nm, p->home_derp),
      .derp_region = p->home_derp,
      .last_seen_us = p->online == MSOCK_PEER_ONLINE_YES ? 0 : p->last_seen_us,
      .key_expiry_us = p->key_expiry_us,
      .online = p->online == MSOCK_PEER_ONLINE_YES,
      .in_network_map = true,
      .expired = p->expired,
  };
}

static void fill_traffic(msock_node *n, const msock_netmap *nm, uint64_t now_us,
                         msock_status_peer *out) {
  const uint32_t id = msock_dataplane_peer_find(n->plane, &out->public_key);
  const msock_dataplane_peer *d = msock_dataplane_peer_at(n->plane, id);
  msock_wg_peer_status st;
  msock_route route;
  msock_why why;

  if (d == NULL ||
      msock_wg_peer_status_get(msock_dataplane_wg(n->plane), now_us, id, &st) != MSOCK_OK) {
    return;
  }
  const uint64_t last = d->last_rx_us > d->last_tx_us ? d->last_rx_us : d->last_tx_us;
  out->in_magic_sock = true;
  out->in_engine = st.has_session || st.handshake_pending;
  out->active = last != 0 && now_us - last < ACTIVE_US;
  out->rx_bytes = st.rx_bytes;
  out->tx_bytes = st.tx_bytes;
  out->last_handshake_us = st.last_handshake_wall_us;
  out->last_write_us = d->last_tx_us ? msock_loop_wall_us() - (now_us - d->last_tx_us) : 0;
  out->tx_dropped = d->tx_dropped;
  msock_engine_route(msock_paths_engine(n->paths), d->path, now_us, &route);
  if (route.via == MSOCK_VIA_DIRECT) {
    out->cur_addr = route.addr;
    if (msock_engine_why(msock_paths_engine(n->paths), d->path, now_us, &why)) {
      out->rtt_us = (uint32_t)why.rtt_us;
    }
  }
  if (out->derp_region == 0) { /* the netmap does not know its home: where it was heard */
    out->derp_region = d->rx_region;
    out->relay = region_code(nm, d->rx_region);
  }
}

/* --- health --- */

/* An expired or soon expiring key of this node, and what happens then; false = nothing to say. */
static bool expiry_text(const msock_node *n, const msock_netmap *nm, char buf[static EXPIRY_MAX]) {
  const msock_peer *self = nm ? msock_netmap_self(nm) : NULL;
  const msock_tsnode_config *v = msock_settings_values(n->opt->settings);
  const bool has_key = v->auth_key[0] != '\0' || v->auth_key_file[0] != '\0';
  const char *next = has_key ? "it is renewed with the auth key of the configuration"
                             : "log in again with: tsnode up --force-reauth";
  const uint64_t wall_us =
      msock_loop_wall_us() + (uint64_t)(nm ? msock_netmap_clock_offset_us(nm) : 0);
  if (self == NULL || (!self->expired && self->key_expiry_us == 0)) {
    return false;
  }
  if (self->expired || self->key_expiry_us <= wall_us) {
    snprintf(buf, EXPIRY_MAX, "The key of this node has expired: %s.", next);
    return true;
  }
  const uint64_t left_us = self->key_expiry_us - wall_us;
  if (left_us >= EXPIRY_WARN_US) {
    return false;
  }
  snprintf(buf, EXPIRY_MAX, "The key of this node expires in %" PRIu64 " %s: %s.",
           left_us / (left_us < DAY_US ? HOUR_US : DAY_US), left_us < DAY_US ? "hours" : "days",
           next);
  return true;
}

/* Lines of Health that are made for one status. */
typedef struct health_texts {
  char expiry[EXPIRY_MAX];
  char control[MSOCK_NODE_ERROR_MAX + 128];
} health_texts;

static const char *control_text(const msock_node *n, health_texts *t) {
  snprintf(t->control, sizeof t->control,
           "Not connected to the control server: traffic goes on with the last netmap.%s%s",
           n->last_error[0] ? " The reason: " : "", n->last_error);
  return t->control;
}

static size_t fill_health(const msock_node *n, const msock_netmap *nm, const char *state,
                          health_texts *texts, const char **out) {
  const msock_health_message *m = NULL;
  const size_t n_msg = nm ? msock_netmap_health(nm, &m) : 0;
  size_t k = 0;

  if (strcmp(state, "Running") == 0) {
    if (!msock_control_connected(msock_control_link_machine(n->control))) {
      out[k++] = control_text(n, texts);
    }
    if (!n->home_connected) {
      out[k++] = "Not connected to the home relay: peers cannot reach this node by DERP.";
    }
  }
  if (expiry_text(n, nm, texts->expiry)) {
    out[k++] = texts->expiry;
  }
  if (nm && n->state.prefs.accept_dns && n->device.tun && msock_netmap_dns(nm)->proxied) {
    out[k++] = "Names of the tailnet are not resolved in this build; this message goes with: "
               "tsnode set --accept-dns=false";
  }
  if (n->device.tun == NULL && n->state.prefs.n_advertise_routes > 0) {
    out[k++] = "Routes are offered, but without a network interface nothing is forwarded.";
  }
  if (msock_underlay_udp(n->underlay) == NULL) {
    out[k++] = !msock_settings_values(n->opt->settings)->direct
                   ? "Direct paths are off: relayed by DERP only."
                   : "The UDP socket could not be bound: relayed by DERP only.";
  } else if (msock_settings_values(n->opt->settings)->ipv6 &&
             msock_udp_local(msock_underlay_udp(n->underlay)).ip.family == 4) {
    out[k++] = "IPv6 is on, but this system has none for us: IPv4 only.";
  }
  for (size_t i = 0; i < n_msg && k < HEALTH_MAX; i++) {
    out[k++] = m[i].text[0] ? m[i].text : m[i].title;
  }
  return k;
}

/* --- counters under our own key --- */

static size_t fill_counters(msock_node *n, msock_status_counter *c) {
  const msock_dataplane_counters *d = msock_dataplane_counters_get(n->plane);
  const msock_wg_counters *w = msock_wg_counters_get(msock_dataplane_wg(n->plane));
  const msock_filter_stats *f = msock_filter_get_stats(msock_dataplane_filter(n->plane));
  uint64_t filtered = 0;
  size_t k = 0;

  for (int v = MSOCK_FILTER_DROP_MALFORMED; v < MSOCK_FILTER_VERDICTS; v++) {
    filtered += f->in[v];
  }
  const msock_engine_counters e = msock_engine_counters_get(msock_paths_engine(n->paths));
  c[k++] = (msock_status_counter){"rx_udp_junk", n->rx_udp_junk};
  c[k++] = (msock_status_counter){"disco_rx_stranger", e.rx_stranger};
  c[k++] = (msock_status_counter){"disco_rx_unopened", e.rx_unopened};
  c[k++] = (msock_status_counter){"disco_rx_claim", e.rx_claim};
  c[k++] = (msock_status_counter){"disco_tx_ping", e.tx_ping};
  c[k++] = (msock_status_counter){"disco_tx_cmm", e.tx_cmm};
  c[k++] = (msock_status_counter){"paths_up", e.paths_up};
  c[k++] = (msock_status_counter){"paths_down", e.paths_down};
  c[k++] = (msock_status_counter){"rx_unknown_source", d->rx_unknown_source};
  c[k++] = (msock_status_counter){"rx_too_long", d->rx_too_long};
  c[k++] = (msock_status_counter){"rx_filtered", filtered};
  c[k++] = (msock_status_counter){"rx_unclaimed", d->rx_unclaimed};
  c[k++] = (msock_status_counter){"rx_disco_keys", d->rx_disco_keys};
  c[k++] = (msock_status_counter){"tx_no_path", d->tx_no_path};
  c[k++] = (msock_status_counter){"wg_rx_bad_message", w->rx_bad_message};
  c[k++] = (msock_status_counter){"wg_rx_mac1_fail", w->rx_mac1_fail};
  c[k++] = (msock_status_counter){"wg_rx_unknown_index", w->rx_unknown_index};
  c[k++] = (msock_status_counter){"wg_rx_auth_fail", w->rx_auth_fail};
  c[k++] = (msock_status_counter){"wg_rx_replay", w->rx_replay};
  c[k++] = (msock_status_counter){"wg_rx_source_mismatch", w->rx_source_mismatch};
  c[k++] = (msock_status_counter){"wg_tx_no_route", w->tx_no_route};
  c[k++] = (msock_status_counter){"wg_tx_staged_drop", w->tx_staged_drop};
  c[k++] = (msock_status_counter){"wg_tx_initiations", w->tx_initiations};
  return k;
}

/* One entry at a time: the netmap's peer, and what its entry borrows. */
typedef struct peer_walk {
  msock_node *n;
  const msock_netmap *nm;
  uint64_t now_us;
  msock_status_peer entry;
  peer_parts parts;
} peer_walk;

static const msock_status_peer *peer_at(void *ctx, size_t i) {
  peer_walk *w = ctx;
  fill_node(w->nm, msock_netmap_at(w->nm, i), &w->entry, &w->parts);
  fill_traffic(w->n, w->nm, w->now_us, &w->entry);
  return &w->entry;
}

/* The users of self and the first count peers. NULL: no memory. */
static msock_status_user *list_users(const msock_netmap *nm, size_t count, size_t *n_users) {
  const size_t cap = count < MSOCK_NETMAP_USERS_MAX ? count + 1 : MSOCK_NETMAP_USERS_MAX;
  msock_status_user *users = calloc(cap, sizeof *users);
  *n_users = 0;
  for (size_t i = 0; users != NULL && i <= count; i++) { /* the last round is self */
    const msock_peer *p = i < count ? msock_netmap_at(nm, i) : msock_netmap_self(nm);
    size_t k = 0;
    while (k < *n_users && users[k].id != p->user_id) {
      k++;
    }
    const msock_user_profile *u = k == *n_users ? msock_netmap_user(nm, p->user_id) : NULL;
    if (u != NULL && k < cap) {
      users[(*n_users)++] =
          (msock_status_user){.id = u->id, .login_name = u->login, .display_name = u->display};
    }
  }
  return users;
}

static void fill_self(msock_node *n, const msock_netmap *nm, msock_status *s,
                      msock_status_peer *self, peer_parts *parts) {
  fill_node(nm, msock_netmap_self(nm), self, parts);
  self->online = msock_control_connected(msock_control_link_machine(n->control));
  self->relay = s->home_region_code;
  self->derp_region = s->home_region;
  s->self = self;
  s->tailscale_ips = parts->ips;
  s->n_tailscale_ips = self->n_tailscale_ips;
}

char *msock_node_status_text(msock_node *n, bool with_peers, size_t *len) {
  const uint64_t now_us = msock_loop_now_us();
  const msock_netmap *nm = netmap_of(n);
  const char *health[HEALTH_MAX];
  health_texts texts;
  const char *state = msock_node_backend_state(n);
  msock_status_counter counters[32];
  msock_status_user *users = NULL;
  msock_status_peer self;
  peer_parts self_parts;
  peer_walk walk = {.n = n, .nm = nm, .now_us = now_us};
  char *text = NULL;
  msock_status s = {
      .version = TSNODE_VERSION,
      .tun = n->device.tun != NULL,
      .backend_state = state,
      .have_node_key = msock_state_has_node_key(&n->state),
      .auth_url = n->control ? msock_control_auth_url(msock_control_link_machine(n->control)) : "",
      .health = health,
      .control_url = n->state.prefs.control_url,
      .control_connected =
          n->control && msock_control_connected(msock_control_link_machine(n->control)),
      .home_region = msock_home_region(msock_homing_machine(n->homing)),
      .last_error = n->last_error,
      .counters = counters,
  };

  s.home_region_code = region_code(nm, s.home_region);
  s.n_health = fill_health(n, nm, state, &texts, health);
  s.n_counters = fill_counters(n, counters);
  if (nm && msock_netmap_self(nm)) {
    const msock_dns_config *dns = msock_netmap_dns(nm);
    const char *suffix = msock_strlist_next(&dns->domains, NULL);
    s.magic_dns_suffix = suffix ? suffix : "";
    s.magic_dns_enabled = dns->proxied;
    s.tailnet_name = msock_netmap_domain(nm);
    fill_self(n, nm, &s, &self, &self_parts);
    s.n_peers = with_peers ? msock_netmap_count(nm) : 0;
    s.peer_at = peer_at;
    s.peer_ctx = &walk;
    s.users = users = list_users(nm, s.n_peers, &s.n_users);
    if (users == NULL) {
      return NULL;
    }
  }
  text = msock_status_json(&s, with_peers, len);
  free(users);
  return text;
}

char *msock_node_whois_text(msock_node *n, const char *addr, size_t *len) {
  msock_netmap *nm = netmap_of(n);
  msock_addr with_port;
  msock_node_key key;
  msock_ip ip = {0};
  const msock_peer *p = NULL;
  msock_status_peer out;
  peer_parts parts;

  if (nm == NULL || msock_netmap_self(nm) == NULL) {
    return NULL;
  }
  const msock_peer *self = msock_netmap_self(nm);
  if (msock_node_key_parse(addr, &key) == MSOCK_OK) {
    p = msock_node_key_equal(&key, &self->key) ? self : msock_netmap_find_key(nm, &key);
  } else {
    if (msock_addr_parse(addr, &with_port) == MSOCK_OK) {
      ip = with_port.ip;
    } else if (msock_ip_parse(addr, &ip) != MSOCK_OK) {
      return NULL;
    }
    for (size_t i = 0; i < self->n_addresses && p == NULL; i++) {
      p = msock_ip_equal(&self->addresses[i].ip, &ip) ? self : NULL;
    }
    p = p ? p : msock_netmap_find_ip(nm, &ip);
  }
  if (p == NULL) {
    return NULL;
  }
  fill_node(nm, p, &out, &parts);
  fill_traffic(n, nm, msock_loop_now_us(), &out);
  const msock_user_profile *u = msock_netmap_user(nm, p->user_id);
  const msock_status_user user = {
      .id = u ? u->id : 0, .login_name = u ? u->login : "", .display_name = u ? u->display : ""};
  return msock_whois_json(&out, u ? &user : NULL, len);
}

/* --- metrics: tailscaled's public names, then ours (requirements.md 5.8) --- */

typedef struct text {
  char *p;
  size_t len, cap;
  bool bad;
} text;

static void addf(text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void addf(text *t, const char *fmt, ...) {
  char line[256];
  va_list ap;
  va_start(ap, fmt);
  const int n = vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  if (t->bad || n < 0 || (size_t)n >= sizeof line) {
    t->bad = true;
    return;
  }
  if (t->len + (size_t)n + 1 > t->cap) {
    const size_t cap = t->cap ? t->cap * 2 : 4096;
    char *p = realloc(t->p, cap);
    if (p == NULL) {
      t->bad = true;
      return;
    }
    t->p = p;
    t->cap = cap;
  }
  memcpy(t->p + t->len, line, (size_t)n + 1);
  t->len += (size_t)n;
}

static void head(text *t, const char *name, const char *type, const char *help) {
  addf(t, "# HELP %s %s\n", name, help);
  addf(t, "# TYPE %s %s\n", name, type);
}

static void add_standard(msock_node *n, text *t) {
  static const char *const reasons[] = {"error", "acl", "multicast"};
  const msock_dataplane_counters *d = msock_dataplane_counters_get(n->plane);
  const msock_wg_counters *w = msock_wg_counters_get(msock_dataplane_wg(n->plane));
  const msock_filter_stats *f = msock_filter_get_stats(msock_dataplane_filter(n->plane));
  const uint64_t in_acl = f->in[MSOCK_FILTER_DROP_NO_RULE] + f->in[MSOCK_FILTER_DROP_SHIELDS] +
                          f->in[MSOCK_FILTER_DROP_NOT_OURS];
  const uint64_t in_multicast =
      f->in[MSOCK_FILTER_DROP_MULTICAST] + f->in[MSOCK_FILTER_DROP_LINK_LOCAL];

  head(t, "tailscaled_inbound_bytes_total", "counter", "Bytes received from peers.");
  addf(t, "tailscaled_inbound_bytes_total{path=\"derp\"} %" PRIu64 "\n", d->rx_bytes);
  head(t, "tailscaled_inbound_packets_total", "counter", "Packets received from peers.");
  addf(t, "tailscaled_inbound_packets_total{path=\"derp\"} %" PRIu64 "\n", d->rx_packets);
  head(t, "tailscaled_outbound_bytes_total", "counter", "Bytes sent to peers.");
  addf(t, "tailscaled_outbound_bytes_total{path=\"derp\"} %" PRIu64 "\n", d->tx_bytes);
  head(t, "tailscaled_outbound_packets_total", "counter", "Packets sent to peers.");
  addf(t, "tailscaled_outbound_packets_total{path=\"derp\"} %" PRIu64 "\n", d->tx_packets);
  head(t, "tailscaled_inbound_dropped_packets_total", "counter",
       "Packets from peers not accepted.");
  addf(t, "tailscaled_inbound_dropped_packets_total{reason=\"%s\"} %" PRIu64 "\n", reasons[1],
       in_acl);
  addf(t, "tailscaled_inbound_dropped_packets_total{reason=\"%s\"} %" PRIu64 "\n", reasons[2],
       in_multicast);
  addf(t, "tailscaled_inbound_dropped_packets_total{reason=\"%s\"} %" PRIu64 "\n", reasons[0],
       f->in[MSOCK_FILTER_DROP_MALFORMED] + f->in[MSOCK_FILTER_DROP_FRAGMENT] +
           w->rx_source_mismatch + w->rx_bad_inner);
  head(t, "tailscaled_outbound_dropped_packets_total", "counter", "Packets to peers not sent.");
  addf(t, "tailscaled_outbound_dropped_packets_total{reason=\"%s\"} %" PRIu64 "\n", reasons[0],
       d->tx_no_path + w->tx_no_route + w->tx_staged_drop);
}

static size_t approved_routes(const msock_node *n, const msock_netmap *nm) {
  const msock_peer *self = msock_netmap_self(nm);
  const msock_prefs *p = &n->state.prefs;
  size_t count = 0;
  for (size_t i = 0; i < p->n_advertise_routes; i++) {
    for (size_t k = 0; k < self->n_allowed; k++) {
      count += msock_prefix_equal(&p->advertise_routes[i], &self->allowed[k]);
    }
  }
  return count;
}

char *msock_node_metrics_text(msock_node *n, size_t *len) {
  const msock_netmap *nm = netmap_of(n);
  const char *health[HEALTH_MAX];
  health_texts texts;
  msock_status_counter counters[32];
  text t = {0};

  add_standard(n, &t);
  head(&t, "tailscaled_health_messages", "gauge", "Warnings that are current.");
  addf(&t, "tailscaled_health_messages{type=\"warning\"} %zu\n",
       fill_health(n, nm, msock_node_backend_state(n), &texts, health));
  head(&t, "tailscaled_advertised_routes", "gauge", "Routes that this node offers.");
  addf(&t, "tailscaled_advertised_routes %zu\n", n->state.prefs.n_advertise_routes);
  head(&t, "tailscaled_approved_routes", "gauge", "Offered routes that the server approved.");
  addf(&t, "tailscaled_approved_routes %zu\n",
       nm && msock_netmap_self(nm) ? approved_routes(n, nm) : 0);
  head(&t, "tailscaled_home_derp_region_id", "gauge", "Home DERP region; 0 = none.");
  addf(&t, "tailscaled_home_derp_region_id %" PRIu64 "\n",
       msock_home_region(msock_homing_machine(n->homing)));
  head(&t, "tsnode_control_connected", "gauge", "1 while the map stream is up.");
  addf(&t, "tsnode_control_connected %d\n",
       n->control && msock_control_connected(msock_control_link_machine(n->control)));
  head(&t, "tsnode_peers", "gauge", "Peers in the netmap.");
  addf(&t, "tsnode_peers %zu\n", nm ? msock_netmap_count(nm) : 0);
  const size_t k = fill_counters(n, counters);
  for (size_t i = 0; i < k; i++) {
    addf(&t, "# TYPE tsnode_%s_total counter\n", counters[i].name);
    addf(&t, "tsnode_%s_total %" PRIu64 "\n", counters[i].name, counters[i].value);
  }
  if (t.bad) {
    free(t.p);
    return NULL;
  }
  *len = t.len;
  return t.p;
}
