#include "node/status_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "node/json_text.h"

static void put_ips(msock_json_text *j, const char *key, const msock_ip *ips, size_t n) {
  char text[MSOCK_IP_TEXT_MAX];
  msock_json_open(j, key, '[');
  for (size_t i = 0; i < n; i++) {
    msock_json_str(j, NULL, msock_ip_text(&ips[i], text));
  }
  msock_json_close(j, ']');
}

static void put_prefixes(msock_json_text *j, const char *key, const msock_prefix *list, size_t n) {
  char text[MSOCK_PREFIX_TEXT_MAX];
  msock_json_open(j, key, '[');
  for (size_t i = 0; i < n; i++) {
    msock_json_str(j, NULL, msock_prefix_text(&list[i], text));
  }
  msock_json_close(j, ']');
}

static void put_texts(msock_json_text *j, const char *key, const char *const *list, size_t n) {
  msock_json_open(j, key, '[');
  for (size_t i = 0; i < n; i++) {
    msock_json_str(j, NULL, list[i]);
  }
  msock_json_close(j, ']');
}

static void put_addr(msock_json_text *j, const char *key, const msock_addr *a) {
  char text[MSOCK_ADDR_TEXT_MAX];
  msock_json_str(j, key, a->ip.family ? msock_addr_text(a, text) : "");
}

static void put_identity(msock_json_text *j, const msock_status_peer *p) {
  char key[MSOCK_KEY_TEXT_MAX];
  msock_json_str(j, "ID", p->id);
  msock_json_str(j, "PublicKey", msock_node_key_text(&p->public_key, key));
  msock_json_str(j, "HostName", p->host_name);
  msock_json_str(j, "DNSName", p->dns_name);
  msock_json_str(j, "OS", p->os);
  msock_json_u64(j, "UserID", p->user_id);
  put_ips(j, "TailscaleIPs", p->tailscale_ips, p->n_tailscale_ips);
  put_prefixes(j, "AllowedIPs", p->allowed_ips, p->n_allowed_ips);
  if (p->n_tags > 0) { /* like the reference: absent, not empty */
    put_texts(j, "Tags", p->tags, p->n_tags);
  }
  if (p->n_primary_routes > 0) {
    put_prefixes(j, "PrimaryRoutes", p->primary_routes, p->n_primary_routes);
  }
}

static void put_path(msock_json_text *j, const msock_status_peer *p) {
  if (p->n_addrs == 0) {
    msock_json_null(j, "Addrs");
  } else {
    msock_json_open(j, "Addrs", '[');
    for (size_t i = 0; i < p->n_addrs; i++) {
      put_addr(j, NULL, &p->addrs[i]);
    }
    msock_json_close(j, ']');
  }
  put_addr(j, "CurAddr", &p->cur_addr);
  msock_json_str(j, "Relay", p->relay);
  msock_json_str(j, "PeerRelay", p->peer_relay);
  msock_json_u64(j, "RxBytes", p->rx_bytes);
  msock_json_u64(j, "TxBytes", p->tx_bytes);
}

static void put_life(msock_json_text *j, const msock_status_peer *p) {
  msock_json_time(j, "Created", p->created_us);
  msock_json_time(j, "LastWrite", p->last_write_us);
  msock_json_time(j, "LastSeen", p->last_seen_us);
  msock_json_time(j, "LastHandshake", p->last_handshake_us);
  msock_json_bool(j, "Online", p->online);
  msock_json_bool(j, "ExitNode", p->exit_node);
  msock_json_bool(j, "ExitNodeOption", p->exit_node_option);
  msock_json_bool(j, "Active", p->active);
  msock_json_bool(j, "InNetworkMap", p->in_network_map);
  msock_json_bool(j, "InMagicSock", p->in_magic_sock);
  msock_json_bool(j, "InEngine", p->in_engine);
  if (p->expired) {
    msock_json_bool(j, "Expired", true);
  }
  if (p->key_expiry_us != 0) {
    msock_json_time(j, "KeyExpiry", p->key_expiry_us);
  }
}

static void put_peer(msock_json_text *j, const char *key, const msock_status_peer *p) {
  msock_json_open(j, key, '{');
  put_identity(j, p);
  put_path(j, p);
  put_life(j, p);
  msock_json_open(j, "TSNode", '{');
  msock_json_seconds(j, "RTTSeconds", p->rtt_us);
  msock_json_u64(j, "DERPRegionID", p->derp_region);
  msock_json_u64(j, "TxDropped", p->tx_dropped);
  msock_json_close(j, '}');
  msock_json_close(j, '}');
}

static void put_user(msock_json_text *j, const char *key, const msock_status_user *u) {
  msock_json_open(j, key, '{');
  msock_json_u64(j, "ID", u->id);
  msock_json_str(j, "LoginName", u->login_name);
  msock_json_str(j, "DisplayName", u->display_name);
  msock_json_str(j, "ProfilePicURL", u->profile_pic_url);
  msock_json_close(j, '}');
}

static void put_users(msock_json_text *j, const msock_status *s) {
  char key[24]; /* the id as text */
  msock_json_open(j, "User", '{');
  for (size_t i = 0; i < s->n_users; i++) {
    snprintf(key, sizeof key, "%" PRIu64, s->users[i].id);
    put_user(j, key, &s->users[i]);
  }
  msock_json_close(j, '}');
}

static void put_ours(msock_json_text *j, const msock_status *s) {
  msock_json_open(j, "TSNode", '{');
  msock_json_u64(j, "Schema", MSOCK_STATUS_SCHEMA);
  msock_json_str(j, "ControlURL", s->control_url);
  msock_json_bool(j, "ControlConnected", s->control_connected);
  msock_json_u64(j, "HomeDERPRegionID", s->home_region);
  msock_json_str(j, "HomeDERPRegionCode", s->home_region_code);
  msock_json_str(j, "LastError", s->last_error);
  msock_json_open(j, "Counters", '{');
  for (size_t i = 0; i < s->n_counters; i++) {
    msock_json_u64(j, s->counters[i].name, s->counters[i].value);
  }
  msock_json_close(j, '}');
  msock_json_close(j, '}');
}

char *msock_status_json(const msock_status *s, bool with_peers, size_t *len) {
  msock_json_text j = {0};
  char key[MSOCK_KEY_TEXT_MAX];
  msock_json_open(&j, NULL, '{');
  msock_json_str(&j, "Version", s->version);
  msock_json_bool(&j, "TUN", s->tun);
  msock_json_str(&j, "BackendState", s->backend_state);
  msock_json_bool(&j, "HaveNodeKey", s->have_node_key);
  msock_json_str(&j, "AuthURL", s->auth_url);
  put_ips(&j, "TailscaleIPs", s->tailscale_ips, s->n_tailscale_ips);
  if (s->self != NULL) {
    put_peer(&j, "Self", s->self);
  } else {
    msock_json_null(&j, "Self");
  }
  put_texts(&j, "Health", s->health, s->n_health);
  msock_json_str(&j, "MagicDNSSuffix", s->magic_dns_suffix);
  if (s->tailnet_name != NULL) {
    msock_json_open(&j, "CurrentTailnet", '{');
    msock_json_str(&j, "Name", s->tailnet_name);
    msock_json_str(&j, "MagicDNSSuffix", s->magic_dns_suffix);
    msock_json_bool(&j, "MagicDNSEnabled", s->magic_dns_enabled);
    msock_json_close(&j, '}');
  } else {
    msock_json_null(&j, "CurrentTailnet");
  }
  msock_json_null(&j, "CertDomains");
  msock_json_open(&j, "Peer", '{');
  for (size_t i = 0; with_peers && i < s->n_peers; i++) {
    const msock_status_peer *p = s->peer_at(s->peer_ctx, i);
    put_peer(&j, msock_node_key_text(&p->public_key, key), p);
  }
  msock_json_close(&j, '}');
  put_users(&j, s);
  put_ours(&j, s);
  msock_json_close(&j, '}');
  return msock_json_text_take(&j, len);
}

/* apitype.WhoIsResponse: its Node is a tailcfg.Node, which has its own names. */
char *msock_whois_json(const msock_status_peer *peer, const msock_status_user *user, size_t *len) {
  msock_json_text j = {0};
  char key[MSOCK_KEY_TEXT_MAX];
  msock_json_open(&j, NULL, '{');
  msock_json_open(&j, "Node", '{');
  msock_json_str(&j, "StableID", peer->id);
  msock_json_str(&j, "Name", peer->dns_name);
  msock_json_str(&j, "ComputedName", peer->host_name);
  msock_json_u64(&j, "User", peer->user_id);
  msock_json_str(&j, "Key", msock_node_key_text(&peer->public_key, key));
  msock_json_open(&j, "Addresses", '[');
  for (size_t i = 0; i < peer->n_tailscale_ips; i++) {
    const msock_prefix own = {peer->tailscale_ips[i], msock_ip_bits(&peer->tailscale_ips[i])};
    char text[MSOCK_PREFIX_TEXT_MAX];
    msock_json_str(&j, NULL, msock_prefix_text(&own, text));
  }
  msock_json_close(&j, ']');
  put_prefixes(&j, "AllowedIPs", peer->allowed_ips, peer->n_allowed_ips);
  if (peer->n_tags > 0) {
    put_texts(&j, "Tags", peer->tags, peer->n_tags);
  }
  msock_json_open(&j, "Hostinfo", '{');
  msock_json_str(&j, "OS", peer->os);
  msock_json_str(&j, "Hostname", peer->host_name);
  msock_json_close(&j, '}');
  msock_json_bool(&j, "Online", peer->online);
  msock_json_close(&j, '}');
  if (user != NULL) {
    put_user(&j, "UserProfile", user);
  } else {
    msock_json_null(&j, "UserProfile");
  }
  msock_json_null(&j, "CapMap");
  msock_json_close(&j, '}');
  return msock_json_text_take(&j, len);
}

char *msock_ping_json(const msock_ping_result *r, size_t *len) {
  msock_json_text j = {0};
  msock_json_open(&j, NULL, '{');
  msock_json_str(&j, "IP", r->ip);
  msock_json_str(&j, "NodeIP", r->node_ip);
  msock_json_str(&j, "NodeName", r->node_name);
  msock_json_str(&j, "Err", r->err);
  msock_json_seconds(&j, "LatencySeconds", r->latency_us);
  put_addr(&j, "Endpoint", &r->endpoint);
  msock_json_str(&j, "PeerRelay", r->peer_relay);
  msock_json_u64(&j, "DERPRegionID", r->derp_region);
  msock_json_str(&j, "DERPRegionCode", r->derp_code);
  msock_json_close(&j, '}');
  return msock_json_text_take(&j, len);
}

uint64_t msock_status_state_number(const char *name) {
  static const char *const names[] = {"NoState", "InUseOtherUser", "NeedsLogin", "NeedsMachineAuth",
                                      "Stopped", "Starting",       "Running"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (strcmp(names[i], name) == 0) {
      return i;
    }
  }
  return 0;
}
