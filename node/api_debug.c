/* LocalAPI for people who look for a fault: relays, netmap, packets, and one file to send along. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/http.h"
#include "node/anonymize.h"
#include "node/json_text.h"
#include "node/node_internal.h"

static msock_localapi *api_of(const msock_node *n) {
  return msock_localapi_server_api(n->api_server);
}

static const msock_netmap *netmap_of(const msock_node *n) {
  return n->control ? msock_control_netmap(msock_control_link_machine(n->control)) : NULL;
}

static void reply(msock_node *n, msock_localapi_req req, const char *type, char *text, size_t len) {
  msock_localapi_reply(api_of(n), msock_loop_now_us(), req, 200, type, text, len);
}

/* --- relays --- */

static void put_region(msock_node *n, msock_json_text *j, const msock_derp_conn_status *s) {
  static const char *const states[] = {"idle", "waiting", "dialing", "login", "open"};
  const uint64_t now_us = msock_loop_now_us();
  const msock_netmap *nm = netmap_of(n);
  const msock_derp_region *r =
      nm ? msock_derp_map_find(msock_netmap_derp_map(nm), s->region) : NULL;
  msock_json_open(j, NULL, '{');
  msock_json_u64(j, "RegionID", s->region);
  msock_json_str(j, "RegionCode", r ? r->code : "");
  msock_json_str(j, "Node", r && s->node_index < r->n_nodes ? r->nodes[s->node_index].name : "");
  msock_json_str(j, "State", states[s->state]);
  msock_json_bool(j, "Home", s->is_home);
  msock_json_seconds(j, "SecondsInState", now_us - s->since_us);
  if (s->last_write_us) {
    msock_json_seconds(j, "SecondsSinceWrite", now_us - s->last_write_us);
  }
  if (s->last_frame_us) {
    msock_json_seconds(j, "SecondsSinceFrame", now_us - s->last_frame_us);
  }
  msock_json_u64(j, "FailuresInARow", s->failures);
  msock_json_u64(j, "Queued", s->queued);
  msock_json_u64(j, "DroppedFromQueue", s->drops_data + s->drops_disco);
  msock_json_str(j, "LastError", s->last_error);
  msock_json_str(j, "Health", s->health);
  msock_json_close(j, '}');
}

static char *derp_text(msock_node *n, size_t *len) {
  const msock_derp_pool *pool = msock_relay_pool(n->relay);
  const msock_derp_pool_counters c = msock_derp_pool_get_counters(pool);
  msock_derp_conn_status s;
  msock_json_text j = {0};
  msock_json_open(&j, NULL, '{');
  msock_json_open(&j, "Regions", '[');
  for (size_t i = 0; msock_derp_pool_status(pool, i, &s); i++) {
    put_region(n, &j, &s);
  }
  msock_json_close(&j, ']');
  msock_json_open(&j, "Counters", '{');
  msock_json_u64(&j, "Dials", c.dials);
  msock_json_u64(&j, "Logins", c.logins);
  msock_json_u64(&j, "Losses", c.losses);
  msock_json_u64(&j, "Failures", c.failures);
  msock_json_u64(&j, "IdleCloses", c.idle_closes);
  msock_json_u64(&j, "NoRoute", c.tx_no_route);
  msock_json_u64(&j, "SentByLearnedRoute", c.tx_by_route);
  msock_json_u64(&j, "LearnedRoutes", c.routes);
  msock_json_close(&j, '}');
  msock_json_close(&j, '}');
  return msock_json_text_take(&j, len);
}

void msock_node_debug_derp(void *ctx, msock_localapi_req req) {
  size_t len = 0;
  char *text = derp_text(ctx, &len);
  reply(ctx, req, "application/json", text, len);
}

/* --- netmap --- */

static void put_prefixes(msock_json_text *j, const char *key, const msock_prefix *list, size_t n) {
  char text[MSOCK_PREFIX_TEXT_MAX];
  msock_json_open(j, key, '[');
  for (size_t i = 0; i < n; i++) {
    msock_json_str(j, NULL, msock_prefix_text(&list[i], text));
  }
  msock_json_close(j, ']');
}

static void put_texts(msock_json_text *j, const char *key, const msock_strlist *l) {
  msock_json_open(j, key, '[');
  for (const char *t = NULL; (t = msock_strlist_next(l, t)) != NULL;) {
    msock_json_str(j, NULL, t);
  }
  msock_json_close(j, ']');
}

static void put_node(msock_json_text *j, const char *name, const msock_peer *p) {
  char key[MSOCK_KEY_TEXT_MAX], addr[MSOCK_ADDR_TEXT_MAX];
  msock_json_open(j, name, '{');
  msock_json_u64(j, "ID", p->id);
  msock_json_str(j, "StableID", p->stable_id);
  msock_json_str(j, "Name", p->name);
  msock_json_str(j, "Key", msock_node_key_text(&p->key, key));
  msock_json_str(j, "DiscoKey", msock_disco_key_text(&p->disco, key));
  msock_json_u64(j, "HomeDERP", p->home_derp);
  put_prefixes(j, "Addresses", p->addresses, p->n_addresses);
  put_prefixes(j, "AllowedIPs", p->allowed, p->n_allowed);
  put_prefixes(j, "PrimaryRoutes", p->primary, p->n_primary);
  msock_json_open(j, "Endpoints", '[');
  for (size_t i = 0; i < p->n_endpoints; i++) {
    msock_json_str(j, NULL, msock_addr_text(&p->endpoints[i], addr));
  }
  msock_json_close(j, ']');
  put_texts(j, "Tags", &p->tags);
  put_texts(j, "Capabilities", &p->caps);
  msock_json_time(j, "KeyExpiry", p->key_expiry_us);
  msock_json_bool(j, "Expired", p->expired);
  msock_json_bool(j, "Online", p->online == MSOCK_PEER_ONLINE_YES);
  msock_json_bool(j, "Shadowed", p->shadowed);
  msock_json_close(j, '}');
}

void msock_node_debug_netmap(void *ctx, msock_localapi_req req) {
  msock_node *n = ctx;
  const msock_netmap *nm = netmap_of(n);
  msock_json_text j = {0};
  size_t len = 0;
  if (nm == NULL || msock_netmap_self(nm) == NULL) {
    msock_localapi_reply_error(api_of(n), msock_loop_now_us(), req, 404,
                               "there is no netmap yet: the node has not joined");
    return;
  }
  const msock_netmap_stats st = msock_netmap_get_stats(nm);
  const msock_policy *filter = msock_netmap_filter(nm);
  const msock_dns_config *dns = msock_netmap_dns(nm);
  msock_json_open(&j, NULL, '{');
  msock_json_str(&j, "Domain", msock_netmap_domain(nm));
  put_node(&j, "SelfNode", msock_netmap_self(nm));
  msock_json_open(&j, "Peers", '[');
  for (size_t i = 0; i < msock_netmap_count(nm); i++) {
    put_node(&j, NULL, msock_netmap_at(nm, i));
  }
  msock_json_close(&j, ']');
  msock_json_bool(&j, "HavePacketFilter", filter != NULL);
  msock_json_u64(&j, "PacketFilterRules", filter ? filter->n_rules : 0);
  msock_json_bool(&j, "MagicDNS", dns->proxied);
  put_texts(&j, "DNSDomains", &dns->domains);
  msock_json_u64(&j, "DERPRegions", msock_netmap_derp_map(nm)->n_regions);
  msock_json_u64(&j, "Messages", st.messages);
  msock_json_u64(&j, "BadElements", st.bad_elements);
  msock_json_u64(&j, "Conflicts", st.conflicts);
  msock_json_u64(&j, "OverBounds", st.over_bounds);
  msock_json_close(&j, '}');
  char *text = msock_json_text_take(&j, &len);
  reply(n, req, "application/json", text, len);
}

/* --- packets --- */

static void end_capture(msock_node *n) {
  size_t len = 0;
  const uint64_t packets = n->capture.packets;
  msock_dataplane_set_tap(n->plane, NULL);
  msock_loop_set_deadline(n->deps.loop, &n->capture_timer, MSOCK_NEVER);
  char *file = (char *)msock_capture_take(&n->capture, &len);
  msock_logf(n->deps.log, MSOCK_LOG_INFO, "capture.ended", "packets=%" PRIu64, packets);
  reply(n, n->capture_req, "application/vnd.tcpdump.pcap", file, len);
}

static void on_capture_time(void *ctx, uint64_t now_us) {
  (void)now_us;
  end_capture(ctx);
}

static void on_tap(void *ctx, const uint8_t *p, size_t len) {
  msock_node *n = ctx;
  msock_capture_add(&n->capture, msock_loop_wall_us(), p, len);
  if (msock_capture_is_full(&n->capture)) { /* ended in the next turn: this is the packet path */
    msock_loop_set_deadline(n->deps.loop, &n->capture_timer, msock_loop_now_us());
  }
}

void msock_node_capture(void *ctx, msock_localapi_req req, uint64_t seconds, uint64_t bytes) {
  msock_node *n = ctx;
  const uint64_t now_us = msock_loop_now_us();
  if (n->capture.buf != NULL) {
    msock_localapi_reply_error(api_of(n), now_us, req, 429, "a capture is running already");
    return;
  }
  if (msock_capture_begin(&n->capture, (size_t)bytes) != MSOCK_OK) {
    msock_localapi_reply_error(api_of(n), now_us, req, 500, "out of memory");
    return;
  }
  n->capture_req = req;
  msock_loop_timer_init(&n->capture_timer, on_capture_time, n);
  msock_loop_set_deadline(n->deps.loop, &n->capture_timer, now_us + seconds * MSOCK_SEC);
  msock_dataplane_set_tap(n->plane, on_tap);
  msock_logf(n->deps.log, MSOCK_LOG_INFO, "capture.started", "seconds=%" PRIu64, seconds);
}

void msock_node_debug_stop(msock_node *n) {
  size_t len = 0;
  if (n->capture.buf != NULL) {
    msock_dataplane_set_tap(n->plane, NULL);
    msock_loop_set_deadline(n->deps.loop, &n->capture_timer, MSOCK_NEVER);
    free(msock_capture_take(&n->capture, &len));
  }
}

void msock_node_debug_gone(msock_node *n, msock_localapi_req req) {
  if (n->capture_req.conn == req.conn && n->capture_req.serial == req.serial) {
    msock_node_debug_stop(n);
  }
}

/* --- bug report --- */

typedef struct report {
  msock_anonymize names;
  char *p;
  size_t len;
  bool bad;
} report;

/* A section; body is anonymised, and freed when it is the caller's to give. */
static void put_section(report *r, const char *title, const char *body) {
  char *clean = body ? msock_anonymize_text(&r->names, body) : strdup("(none)\n");
  const size_t more = strlen(title) + (clean ? strlen(clean) : 0) + 16;
  char *p = realloc(r->p, r->len + more);
  r->bad = r->bad || clean == NULL || p == NULL;
  r->p = p != NULL ? p : r->p;
  if (!r->bad) {
    r->len += (size_t)snprintf(r->p + r->len, more, "== %s ==\n%s\n\n", title, clean);
  }
  free(clean);
}

static void add_netmap_names(report *r, const msock_netmap *nm) {
  r->bad = r->bad || !msock_anonymize_add(&r->names, msock_netmap_domain(nm));
  for (size_t i = 0; i <= msock_netmap_count(nm); i++) {
    const msock_peer *p = i ? msock_netmap_at(nm, i - 1) : msock_netmap_self(nm);
    char label[MSOCK_NETMAP_NAME_MAX + 1];
    if (p == NULL) {
      continue;
    }
    snprintf(label, sizeof label, "%.*s", (int)strcspn(p->name, "."), p->name);
    const msock_user_profile *u = msock_netmap_user(nm, p->user_id);
    r->bad = r->bad || !msock_anonymize_add(&r->names, p->name) ||
             !msock_anonymize_add(&r->names, label) ||
             !msock_anonymize_add(&r->names, p->hostname) ||
             (u && (!msock_anonymize_add(&r->names, u->login) ||
                    !msock_anonymize_add(&r->names, u->display)));
  }
  const msock_derp_map *map = msock_netmap_derp_map(nm);
  for (size_t i = 0; i < map->n_regions; i++) {
    for (size_t k = 0; k < map->regions[i].n_nodes; k++) {
      r->bad = r->bad || !msock_anonymize_add(&r->names, map->regions[i].nodes[k].host_name);
    }
  }
  const msock_dns_config *dns = msock_netmap_dns(nm);
  for (const char *d = NULL; (d = msock_strlist_next(&dns->domains, d)) != NULL;) {
    r->bad = r->bad || !msock_anonymize_add(&r->names, d);
  }
}

static void add_own_names(report *r, const msock_node *n) {
  const msock_prefs *p = &n->state.prefs;
  const msock_tsnode_config *v = msock_settings_values(n->opt->settings);
  const char *const urls[] = {p->control_url, v->login_server};
  char host[256] = "";
  msock_http_url url;
  if (gethostname(host, sizeof host - 1) == 0) {
    r->bad = r->bad || !msock_anonymize_add(&r->names, host);
  }
  r->bad = r->bad || !msock_anonymize_add(&r->names, p->hostname) ||
           !msock_anonymize_add(&r->names, v->hostname) ||
           !msock_anonymize_add(&r->names, p->operator_user) ||
           !msock_anonymize_add(&r->names, v->operator_user);
  const char *home = getenv("HOME"); /* a user's name stands in paths */
  if (geteuid() != 0 && home != NULL && strrchr(home, '/') != NULL) {
    r->bad = r->bad || !msock_anonymize_add(&r->names, strrchr(home, '/') + 1);
  }
  for (size_t i = 0; i < 2; i++) {
    if (msock_http_url_parse(urls[i], &url) == MSOCK_OK) {
      r->bad = r->bad || !msock_anonymize_add(&r->names, url.host);
    }
  }
}

/* One line for each member, so that a person can read it. */
static char *pretty(char *text) {
  json_object *doc = text ? json_tokener_parse(text) : NULL;
  const char *p =
      json_object_to_json_string_ext(doc, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
  char *copy = doc ? strdup(p) : NULL;
  json_object_put(doc);
  free(text);
  return copy;
}

static void put_parts(report *r, msock_node *n) {
  char about[256];
  char *log = calloc(1, MSOCK_LOG_RING + 1);
  size_t len = 0;
  snprintf(about, sizeof about, "tsnode %s\ntls %s\nhttp %s\ntun %s\n", TSNODE_VERSION,
           msock_tls_backend(), msock_http_provider(), n->device.tun ? "yes" : "no");
  char *texts[] = {msock_config_print(msock_settings_config(n->opt->settings)),
                   pretty(msock_node_status_text(n, true, &len)), pretty(derp_text(n, &len)),
                   msock_node_metrics_text(n, &len)};
  static const char *const titles[] = {"configuration", "status", "relays", "metrics"};
  put_section(r, "version", about);
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    put_section(r, titles[i], texts[i]);
    free(texts[i]);
  }
  if (log != NULL && n->deps.sink != NULL) {
    msock_log_sink_tail(n->deps.sink, log);
    put_section(r, "log", log);
  }
  free(log);
}

void msock_node_bugreport(void *ctx, msock_localapi_req req) {
  msock_node *n = ctx;
  report r = {0};
  const msock_netmap *nm = netmap_of(n);
  /* The machine's private key is known to nobody else, so the hashes cannot be guessed. */
  msock_anonymize_init(&r.names, &n->state.machine_private, sizeof n->state.machine_private);
  if (nm != NULL) {
    add_netmap_names(&r, nm);
  }
  add_own_names(&r, n);
  put_parts(&r, n);
  msock_anonymize_clear(&r.names);
  if (r.bad) {
    free(r.p);
    msock_localapi_reply_error(api_of(n), msock_loop_now_us(), req, 500, "out of memory");
    return;
  }
  reply(n, req, "text/plain; charset=utf-8", r.p, r.len);
}
