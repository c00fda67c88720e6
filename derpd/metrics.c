#include "derpd/metrics.h"

#include <inttypes.h>

static void head(msock_derpd_text *t, const char *name, const char *type, const char *help) {
  msock_derpd_text_add(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void gauge(msock_derpd_text *t, const char *name, uint64_t v, const char *help) {
  head(t, name, "gauge", help);
  msock_derpd_text_add(t, "%s %" PRIu64 "\n", name, v);
}

static void counter(msock_derpd_text *t, const char *name, uint64_t v, const char *help) {
  head(t, name, "counter", help);
  msock_derpd_text_add(t, "%s %" PRIu64 "\n", name, v);
}

static void gauges(const msock_derpd_snapshot *s, msock_derpd_text *t) {
  const msock_derp_server_stats *c = &s->core;
  gauge(t, "derp_current_connections", c->conns, "Clients that are logged in.");
  gauge(t, "derp_current_home_connections", c->home, "Of these, whose home region this is.");
  gauge(t, "derp_current_notideal_connections", c->not_ideal,
        "Of these, that would rather be on another node.");
  gauge(t, "derp_clients_total", c->keys + c->remote_keys,
        "Node keys that are connected to a node of the mesh.");
  gauge(t, "derp_clients_local", c->keys, "Node keys that are connected to this node.");
  gauge(t, "derp_clients_remote", c->remote_keys,
        "Node keys that are connected to other nodes of the mesh.");
  gauge(t, "derp_watchers", c->watchers, "Mesh peers that watch who is connected.");
  gauge(t, "derp_current_dup_client_keys", c->dup_keys, "Keys with more than one connection.");
  gauge(t, "derp_current_dup_client_conns", c->dup_conns, "Their connections.");
  gauge(t, "derp_current_file_descriptors", s->open_files, "Descriptors that are open.");
  gauge(t, "derp_memstats_sys0", s->rss_bytes, "Memory that the process has of the system.");
  gauge(t, "process_resident_memory_bytes", s->rss_bytes, "Resident memory.");
  gauge(t, "tsderp_half_open_connections", c->half_open, "Connections that are not logged in.");
  gauge(t, "tsderp_mesh_connections", c->mesh, "Connections with the mesh key.");
  gauge(t, "tsderp_mesh_links", c->links, "Links to other relays.");
  gauge(t, "tsderp_packets_queued", c->packets_queued, "Packets that wait to be sent.");
  gauge(t, "tsderp_packet_memory_bytes", c->memory_bytes, "Memory of waiting packets.");
  gauge(t, "tsderp_flows_open", c->flows_open, "Pairs of keys that exchange packets.");
  gauge(t, "tsderp_ban_entries", c->bans, "Entries of the ban list.");
  gauge(t, "tsderp_drain_active", s->draining, "1 while the relay is shutting down.");
  gauge(t, "tsderp_start_uptime_seconds", (s->now_us - s->started_us) / 1000000,
        "Seconds since the start.");
  head(t, "derp_average_queue_duration_ms", "gauge",
       "Moving average of how long packets wait to be sent.");
  msock_derpd_text_add(t, "derp_average_queue_duration_ms %.3f\n", c->queue_duration_ms);
  head(t, "derper_tls_active_version", "gauge", "TLS versions of the open connections.");
  msock_derpd_text_add(t, "derper_tls_active_version{version=\"tls12\"} %" PRIu64 "\n",
                       s->relay.tls12);
  msock_derpd_text_add(t, "derper_tls_active_version{version=\"tls13\"} %" PRIu64 "\n",
                       s->relay.tls13);
}

static void traffic(const msock_derpd_snapshot *s, msock_derpd_text *t) {
  const msock_derp_server_stats *c = &s->core;
  counter(t, "derp_accepts", c->accepted, "Connections that were accepted.");
  counter(t, "derp_bytes_received", c->bytes_in, "Packet payload from clients.");
  counter(t, "derp_bytes_sent", c->bytes_out, "Packet payload to clients.");
  counter(t, "derp_packets_received", c->packets_in, "Packets from clients.");
  counter(t, "derp_packets_sent", c->packets_out, "Packets to clients.");
  head(t, "derp_packets_received_kind", "counter", "Packets from clients by kind.");
  msock_derpd_text_add(t, "derp_packets_received_kind{kind=\"disco\"} %" PRIu64 "\n",
                       c->packets_in_kind[MSOCK_DERP_KIND_DISCO]);
  msock_derpd_text_add(t, "derp_packets_received_kind{kind=\"other\"} %" PRIu64 "\n",
                       c->packets_in_kind[MSOCK_DERP_KIND_OTHER]);
  static const char *const kinds[] = {"disco", "other"};
  head(t, "derp_packets_dropped", "counter", "Packets that were dropped, by reason and kind.");
  for (unsigned d = 0; d < MSOCK_DERP_DROPS; d++) {
    for (unsigned k = 0; k < 2; k++) {
      msock_derpd_text_add(t, "derp_packets_dropped{reason=\"%s\",kind=\"%s\"} %" PRIu64 "\n",
                           msock_derp_drop_word((msock_derp_drop)d), kinds[k], c->dropped[d][k]);
    }
  }
  head(t, "derp_bytes_dropped", "counter", "Their payload.");
  for (unsigned d = 0; d < MSOCK_DERP_DROPS; d++) {
    for (unsigned k = 0; k < 2; k++) {
      msock_derpd_text_add(t, "derp_bytes_dropped{reason=\"%s\",kind=\"%s\"} %" PRIu64 "\n",
                           msock_derp_drop_word((msock_derp_drop)d), kinds[k],
                           c->dropped_bytes[d][k]);
    }
  }
  counter(t, "derp_packets_forwarded_in", c->forwarded_in, "Packets from the mesh.");
  counter(t, "derp_packets_forwarded_out", c->forwarded_out, "Packets to the mesh.");
}

static void protocol(const msock_derpd_snapshot *s, msock_derpd_text *t) {
  const msock_derp_server_stats *c = &s->core;
  counter(t, "derp_peer_gone_disconnected_frames", c->gone_disconnected,
          "Notices that a peer has left.");
  counter(t, "derp_peer_gone_not_here_frames", c->gone_not_here, "Notices that a peer is absent.");
  counter(t, "derp_got_ping", c->pings, "Pings from clients.");
  counter(t, "derp_sent_pong", c->pongs, "Pongs to clients.");
  counter(t, "derp_unknown_frames", c->unknown_frames, "Frames of unknown type.");
  counter(t, "derp_home_moves_in", c->home_moves_in, "Clients that made this their home.");
  counter(t, "derp_home_moves_out", c->home_moves_out, "Clients that left it as their home.");
  counter(t, "derp_total_dup_client_conns", c->dup_conns_total,
          "Further connections of connected keys.");
  counter(t, "derp_sclient_write_timeouts", c->stalls,
          "Clients that were cut because they took nothing.");
  counter(t, "derp_websocket_accepts", s->relay.websocket_accepts, "WebSocket clients.");
  counter(t, "derp_rate_limit_per_client_waited", c->rate_waits,
          "Reads that were held back by a rate.");
  counter(t, "bootstrap_dns_requests", s->relay.bootstrap_requests,
          "Requests for names, of which none are published.");
  counter(t, "tls_listener_accepted_connections", s->relay.tls_accepted,
          "TCP connections that were let into their handshake.");
  counter(t, "tls_listener_rejected_connections", s->relay.tls_rejected,
          "TCP connections that were closed at once.");
  head(t, "derper_tls_request_version", "counter", "TLS versions of all connections.");
  msock_derpd_text_add(t, "derper_tls_request_version{version=\"tls12\"} %" PRIu64 "\n",
                       s->relay.tls12_total);
  msock_derpd_text_add(t, "derper_tls_request_version{version=\"tls13\"} %" PRIu64 "\n",
                       s->relay.tls13_total);
  head(t, "stun_requests", "counter", "STUN datagrams by what became of them.");
  msock_derpd_text_add(t,
                       "stun_requests{disposition=\"success\"} %" PRIu64
                       "\nstun_requests{disposition=\"not_stun\"} %" PRIu64
                       "\nstun_requests{disposition=\"read_error\"} %" PRIu64
                       "\nstun_requests{disposition=\"write_error\"} %" PRIu64 "\n",
                       s->stun.success, s->stun.not_stun, s->stun.read_errors,
                       s->stun.write_errors);
  head(t, "stun_addrfamily", "counter", "STUN answers by address family.");
  msock_derpd_text_add(t,
                       "stun_addrfamily{family=\"ipv4\"} %" PRIu64
                       "\nstun_addrfamily{family=\"ipv6\"} %" PRIu64 "\n",
                       s->stun.family4, s->stun.family6);
}

static void by_cause(msock_derpd_text *t, const char *name, const char *help,
                     const uint64_t counts[static MSOCK_DERP_CAUSES]) {
  head(t, name, "counter", help);
  for (unsigned c = 1; c < MSOCK_DERP_CAUSES; c++) {
    msock_derpd_text_add(t, "%s{cause=\"%s\"} %" PRIu64 "\n", name,
                         msock_derp_cause_word((msock_derp_cause)c), counts[c]);
  }
}

static void ours(const msock_derpd_snapshot *s, msock_derpd_text *t) {
  const msock_derp_server_stats *c = &s->core;
  by_cause(t, "tsderp_refused_total", "Connections and flows that were refused.", c->refused);
  by_cause(t, "tsderp_closed_total", "Connections that ended.", c->closed);
  counter(t, "tsderp_logins_total", c->logins, "Logins.");
  counter(t, "tsderp_login_failures_total", c->login_failures, "Logins that were not well-formed.");
  counter(t, "tsderp_protocol_errors_total", c->protocol_errors, "Malformed frames.");
  counter(t, "tsderp_tls_handshake_failures_total", s->relay.handshake_failures,
          "TLS handshakes that did not end well.");
  counter(t, "tsderp_http_requests_total", s->relay.http_requests, "HTTP requests.");
  counter(t, "tsderp_flows_opened_total", c->flows_opened, "Pairs of keys that began to talk.");
  counter(t, "tsderp_flows_closed_total", c->flows_closed, "Pairs of keys that ended.");
  counter(t, "tsderp_flow_bytes_total", c->flow_bytes, "Payload of pairs that ended.");
  counter(t, "tsderp_quota_throttled_total", c->throttled,
          "Reads that were held back because a quota is used up.");
  counter(t, "tsderp_quota_saves_total", s->quota_saves, "Writes of the quota counters.");
  counter(t, "tsderp_quota_save_failures_total", s->quota_save_failures,
          "Writes of the quota counters that failed.");
  counter(t, "tsderp_drain_restarting_total", c->restarting_sent,
          "Clients that were told of a restart.");
  counter(t, "tsderp_admission_asked_total", s->admission.asked, "Logins that were looked at.");
  counter(t, "tsderp_admission_admitted_total", s->admission.admitted, "Of these, admitted.");
  counter(t, "tsderp_admission_refused_total", s->admission.refused, "Of these, refused.");
  counter(t, "tsderp_admission_url_calls_total", s->admission.url_calls, "Calls of the URL.");
  counter(t, "tsderp_admission_url_errors_total", s->admission.url_errors,
          "Calls of the URL without a usable answer.");
  counter(t, "tsderp_admission_cache_hits_total", s->admission.cache_hits,
          "Logins that an earlier answer decided.");
  counter(t, "tsderp_admission_stale_total", s->admission.stale,
          "Logins that an old answer decided while the URL was silent.");
  counter(t, "tsderp_reloads_total", s->reloads, "Reloads of the configuration.");
  counter(t, "tsderp_reload_failures_total", s->reload_failures,
          "Reloads that were refused; the old settings stay.");
  counter(t, "tsderp_events_lost_total", c->events_lost, "Events that did not reach the log.");
}

void msock_derpd_metrics_write(const msock_derpd_snapshot *s, msock_derpd_text *t) {
  gauges(s, t);
  traffic(s, t);
  protocol(s, t);
  ours(s, t);
}
