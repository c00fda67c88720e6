#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"
#include "node/node_internal.h"
#include "node/status_json.h"

#define JSON_TYPE "application/json"

static msock_localapi *api_of(const msock_node *n) {
  return msock_localapi_server_api(n->api_server);
}

static void reply_text(msock_node *n, msock_localapi_req req, const char *type, char *text,
                       size_t len) {
  msock_localapi_reply(api_of(n), msock_loop_now_us(), req, 200, type, text, len);
}

static void on_status(void *ctx, msock_localapi_req req, bool with_peers) {
  msock_node *n = ctx;
  size_t len = 0;
  char *text = msock_node_status_text(n, with_peers, &len);
  reply_text(n, req, JSON_TYPE, text, len);
}

static void reply_prefs(msock_node *n, msock_localapi_req req) {
  char *text = msock_prefs_text(&n->state.prefs);
  reply_text(n, req, JSON_TYPE, text, text ? strlen(text) : 0);
}

static void on_prefs(void *ctx, msock_localapi_req req) {
  reply_prefs(ctx, req);
}

/* UNKNOWN is a feature that is not in this build. */
static int status_of(msock_err e) {
  return e == MSOCK_ERR_INVALID ? 400 : e == MSOCK_ERR_UNKNOWN ? 501 : 500;
}

static void on_edit_prefs(void *ctx, msock_localapi_req req, json_object *doc) {
  msock_node *n = ctx;
  const uint64_t now_us = msock_loop_now_us();
  msock_prefs prefs = n->state.prefs;
  uint32_t changed = 0;
  char why[MSOCK_WHY_MAX];
  msock_err e = msock_prefs_apply_masked(&prefs, doc, &changed, why);

  if (e == MSOCK_OK) {
    e = msock_node_set_prefs(n, now_us, &prefs, changed, why);
  }
  if (e != MSOCK_OK) {
    msock_localapi_reply_error(api_of(n), now_us, req, status_of(e), why);
    return;
  }
  reply_prefs(n, req);
}

static void on_start(void *ctx, msock_localapi_req req, const char *auth_key,
                     json_object *update_prefs, bool force) {
  msock_node *n = ctx;
  const uint64_t now_us = msock_loop_now_us();
  msock_prefs prefs = n->state.prefs;
  uint32_t changed = 0;
  char why[MSOCK_WHY_MAX];
  msock_err e = MSOCK_OK;

  if (update_prefs) {
    e = msock_prefs_apply(&prefs, update_prefs, &changed, why);
  }
  prefs.logged_out = false;
  if (e == MSOCK_OK) {
    e = msock_node_set_prefs(n, now_us, &prefs, changed, why);
  }
  if (e == MSOCK_OK && prefs.want_running) {
    e = msock_node_login(n, now_us, auth_key, force, why);
  }
  if (e != MSOCK_OK) {
    msock_localapi_reply_error(api_of(n), now_us, req, status_of(e), why);
    return;
  }
  msock_localapi_reply_none(api_of(n), now_us, req);
}

static void on_login(void *ctx, msock_localapi_req req) {
  msock_node *n = ctx;
  const uint64_t now_us = msock_loop_now_us();
  char why[MSOCK_WHY_MAX];
  msock_prefs prefs = n->state.prefs;

  prefs.want_running = true;
  prefs.logged_out = false;
  msock_err e = msock_node_set_prefs(n, now_us, &prefs, MSOCK_PREF_WANT_RUNNING, why);
  if (e == MSOCK_OK) {
    e = msock_node_login(n, now_us, NULL, false, why);
  }
  if (e != MSOCK_OK) {
    msock_localapi_reply_error(api_of(n), now_us, req, status_of(e), why);
    return;
  }
  msock_localapi_reply_none(api_of(n), now_us, req);
}

static void on_logout(void *ctx, msock_localapi_req req) {
  msock_node *n = ctx;
  msock_node_logout(n, msock_loop_now_us());
  msock_localapi_reply_none(api_of(n), msock_loop_now_us(), req);
}

/* --- ping --- */

/* The netmap's peer behind a tunnel address; NULL when there is none. */
static const msock_peer *peer_by_ip(msock_node *n, const msock_ip *ip) {
  return n->control ? msock_netmap_find_ip(
                          msock_control_netmap(msock_control_link_machine(n->control)), ip)
                    : NULL;
}

static void first_label(const char *name, char *dst, size_t cap) {
  snprintf(dst, cap, "%.*s", (int)strcspn(name, "."), name);
}

static void reply_ping(msock_node *n, msock_localapi_req req, const char *ip, const char *err,
                       const msock_dataplane_ping *r) {
  char name[MSOCK_NETMAP_NAME_MAX + 1] = "", node_ip[MSOCK_IP_TEXT_MAX] = "";
  msock_ping_result out = {.ip = ip, .err = err};
  msock_ip addr;
  size_t len = 0;
  const msock_peer *p = msock_ip_parse(ip, &addr) == MSOCK_OK ? peer_by_ip(n, &addr) : NULL;

  if (p) {
    first_label(p->name, name, sizeof name);
    msock_ip_text(&p->addresses[0].ip, node_ip);
    out.node_name = name;
    out.node_ip = node_ip;
  }
  if (r && r->answered && r->direct.ip.family != 0) {
    out.latency_us = r->latency_us;
    out.endpoint = r->direct;
  } else if (r && r->answered) {
    const msock_derp_map *map =
        msock_netmap_derp_map(msock_control_netmap(msock_control_link_machine(n->control)));
    const msock_derp_region *region = msock_derp_map_find(map, r->region);
    out.latency_us = r->latency_us;
    out.derp_region = r->region;
    out.derp_code = region ? region->code : "";
  }
  char *text = msock_ping_json(&out, &len);
  reply_text(n, req, JSON_TYPE, text, len);
}

void msock_node_ping_done(void *ctx, const msock_dataplane_ping *r) {
  msock_node *n = ctx;
  msock_node_ping *k = r->tag >= 1 && r->tag <= MSOCK_PINGS_MAX ? &n->pings[r->tag - 1] : NULL;
  if (k == NULL || !k->in_use) {
    return;
  }
  k->in_use = false;
  reply_ping(n, k->req, k->ip, r->answered ? "" : "timed out: no answer", r);
}

bool msock_node_refuse_while_down(msock_node *n, msock_localapi_req req) {
  const char *state = msock_node_backend_state(n);
  if (strcmp(state, "Stopped") == 0) {
    msock_localapi_reply_error(api_of(n), msock_loop_now_us(), req, MSOCK_LOCALAPI_STATUS_STOPPED,
                               "stopped: run `tsnode up`");
    return true;
  }
  if (strncmp(state, "Needs", 5) == 0) {
    msock_localapi_reply_error(api_of(n), msock_loop_now_us(), req,
                               MSOCK_LOCALAPI_STATUS_NEEDS_LOGIN, "not logged in: run `tsnode up`");
    return true;
  }
  return false;
}

static msock_err send_disco_ping(msock_node *n, const msock_ip *ip, uint64_t tag) {
  msock_engine *e = msock_paths_engine(n->paths);
  const msock_peer *p = peer_by_ip(n, ip);
  return p ? msock_engine_ping(e, msock_loop_now_us(), msock_engine_peer_find(e, &p->key), tag)
           : MSOCK_ERR_UNKNOWN;
}

void msock_node_disco_ping_done(void *ctx, uint64_t now_us, const msock_engine_output *r) {
  const msock_dataplane_ping done = {
      .answered = !r->timed_out,
      .latency_us = r->rtt_us,
      .tag = r->tag,
      .region = r->via == MSOCK_VIA_DERP ? r->region : 0,
      .direct = r->via == MSOCK_VIA_DIRECT ? r->addr : (msock_addr){.port = 0},
  };
  (void)now_us;
  msock_node_ping_done(ctx, &done);
}

static void on_ping(void *ctx, msock_localapi_req req, const msock_ip *ip,
                    msock_localapi_ping_type type, uint32_t size) {
  msock_node *n = ctx;
  const msock_ping_kind kind = type == MSOCK_LOCALAPI_PING_TSMP ? MSOCK_PING_TSMP : MSOCK_PING_ICMP;
  char text[MSOCK_IP_TEXT_MAX];
  size_t i = 0;

  msock_ip_text(ip, text);
  if (msock_node_refuse_while_down(n, req)) {
    return;
  }
  while (i < MSOCK_PINGS_MAX && n->pings[i].in_use) {
    i++;
  }
  if (i == MSOCK_PINGS_MAX) {
    msock_localapi_reply_error(api_of(n), msock_loop_now_us(), req, 429,
                               "too many pings at once: wait for some to end");
    return;
  }
  /* with direct paths off the engine says nothing: the default ping goes through the tunnel then */
  const bool disco =
      type == MSOCK_LOCALAPI_PING_DISCO && msock_settings_values(n->opt->settings)->direct;
  const msock_err e = disco ? send_disco_ping(n, ip, i + 1)
                            : msock_dataplane_ping_send(n->plane, msock_loop_now_us(), kind, ip,
                                                        size, MSOCK_NODE_PING_US, i + 1);
  if (e == MSOCK_ERR_UNKNOWN) {
    reply_ping(n, req, text, "no matching peer", NULL);
    return;
  }
  if (e != MSOCK_OK) {
    reply_ping(n, req, text, msock_err_text(e), NULL);
    return;
  }
  n->pings[i] = (msock_node_ping){.in_use = true, .req = req};
  memcpy(n->pings[i].ip, text, sizeof text);
}

static void on_gone(void *ctx, msock_localapi_req req) {
  msock_node *n = ctx;
  msock_node_debug_gone(n, req);
  msock_node_netcheck_gone(n, req);
  msock_node_bus_gone(n, req);
  for (size_t i = 0; i < MSOCK_PINGS_MAX; i++) {
    msock_node_ping *k = &n->pings[i];
    if (k->in_use && k->req.conn == req.conn && k->req.serial == req.serial) {
      k->in_use = false;
      msock_dataplane_ping_forget(n->plane, i + 1);
    }
  }
}

/* --- whois, metrics --- */

static void on_whois(void *ctx, msock_localapi_req req, const char *addr) {
  msock_node *n = ctx;
  size_t len = 0;
  char *text = msock_node_whois_text(n, addr, &len);
  if (text == NULL) {
    msock_localapi_reply_error(api_of(n), msock_loop_now_us(), req, 404,
                               "no node of this tailnet has that address");
    return;
  }
  reply_text(n, req, JSON_TYPE, text, len);
}

static void on_why(void *ctx, msock_localapi_req req, const msock_ip *ip) {
  msock_node *n = ctx;
  size_t len = 0;
  char *text = NULL;
  if (msock_node_refuse_while_down(n, req)) {
    return;
  }
  text = msock_node_why_text(n, ip, &len);
  if (text == NULL) {
    msock_localapi_reply_error(api_of(n), msock_loop_now_us(), req, 404,
                               "no peer of this tailnet has that address");
    return;
  }
  reply_text(n, req, "text/plain; charset=utf-8", text, len);
}

static void on_endpoints(void *ctx, msock_localapi_req req) {
  msock_node *n = ctx;
  size_t len = 0;
  char *text = msock_node_endpoints_text(n, &len);
  reply_text(n, req, JSON_TYPE, text, len);
}

static void on_rebind(void *ctx, msock_localapi_req req) {
  msock_node *n = ctx;
  msock_underlay_rebind(n->underlay, msock_loop_now_us());
  msock_localapi_reply_none(api_of(n), msock_loop_now_us(), req);
}

static void on_metrics(void *ctx, msock_localapi_req req) {
  msock_node *n = ctx;
  size_t len = 0;
  char *text = msock_node_metrics_text(n, &len);
  reply_text(n, req, "text/plain; version=0.0.4", text, len);
}

msock_localapi_backend msock_node_api_backend(msock_node *n) {
  return (msock_localapi_backend){
      .ctx = n,
      .status = on_status,
      .prefs = on_prefs,
      .edit_prefs = on_edit_prefs,
      .start = on_start,
      .login = on_login,
      .logout = on_logout,
      .ping = on_ping,
      .whois = on_whois,
      .metrics = on_metrics,
      .watch = msock_node_watch,
      .why = on_why,
      .debug_endpoints = on_endpoints,
      .debug_rebind = on_rebind,
      .netcheck = msock_node_netcheck,
      .debug_derp = msock_node_debug_derp,
      .debug_netmap = msock_node_debug_netmap,
      .capture = msock_node_capture,
      .bugreport = msock_node_bugreport,
      .gone = on_gone,
  };
}
