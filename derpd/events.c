#include "derpd/events.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WHO_MAX (2 * MSOCK_KEY_TEXT_MAX)

bool msock_derpd_event_is_limited(const char *event) {
  return strncmp(event, "connection.opened", 17) != 0 &&
         strncmp(event, "connection.closed", 17) != 0 &&
         strncmp(event, "reservation.accepted", 20) != 0 && strncmp(event, "circuit.", 8) != 0 &&
         strncmp(event, "relay.", 6) != 0;
}

/* "peer=[abcde] key=nodekey:..." */
static const char *who(const msock_derp_server_event *ev, char buf[static WHO_MAX]) {
  char key[MSOCK_KEY_TEXT_MAX], brief[MSOCK_KEY_SHORT_MAX];
  if (!ev->has_key) {
    return "peer=unknown";
  }
  snprintf(buf, WHO_MAX, "peer=%s key=%s", msock_node_key_short(&ev->key, brief),
           msock_node_key_text(&ev->key, key));
  return buf;
}

static void log_connection(const msock_log *log, msock_derpd_totals *t,
                           const msock_derp_server_event *ev, const char *peer, const char *from) {
  if (ev->kind == MSOCK_DERP_SERVER_OPENED) {
    t->connections++;
    msock_logf(log, MSOCK_LOG_INFO, "connection.opened",
               "conn=%" PRIu32 " %s from=%s count=%" PRIu32 " open=%" PRIu32 " total=%" PRIu64,
               ev->conn, peer, from, ev->count, ev->total, t->connections);
  } else if (ev->kind == MSOCK_DERP_SERVER_CLOSED) {
    msock_logf(log, MSOCK_LOG_INFO, "connection.closed",
               "conn=%" PRIu32 " %s from=%s cause=%s remaining=%" PRIu32 " open=%" PRIu32
               " duration_ms=%" PRIu64 " bytes_in=%" PRIu64 " bytes_out=%" PRIu64
               " packets_in=%" PRIu64 " packets_out=%" PRIu64 " total=%" PRIu64,
               ev->conn, peer, from, msock_derp_cause_word(ev->cause), ev->count, ev->total,
               ev->duration_us / 1000, ev->bytes_in, ev->bytes_out, ev->packets_in, ev->packets_out,
               t->connections);
  } else {
    msock_logf(log, MSOCK_LOG_DEBUG, "connection.failed", "conn=%" PRIu32 " %s from=%s cause=%s",
               ev->conn, peer, from, msock_derp_cause_word(ev->cause));
  }
}

static void log_reservation(const msock_log *log, msock_derpd_totals *t,
                            const msock_derp_server_event *ev, const char *peer, const char *from) {
  if (ev->kind == MSOCK_DERP_SERVER_ADMITTED) {
    t->reservations++;
    msock_logf(log, MSOCK_LOG_INFO, "reservation.accepted",
               "conn=%" PRIu32 " %s from=%s renewed=%s total=%" PRIu64, ev->conn, peer, from,
               ev->renewed ? "true" : "false", t->reservations);
  } else if (ev->kind == MSOCK_DERP_SERVER_DENIED) {
    t->denials++;
    msock_logf(log, MSOCK_LOG_WARN, "reservation.denied",
               "%s from=%s cause=%s reason=\"%s\" total=%" PRIu64, peer, from,
               msock_derp_cause_word(ev->cause), msock_derp_cause_text(ev->cause), t->denials);
  } else {
    msock_logf(log, MSOCK_LOG_WARN, "reservation.timed_out",
               "conn=%" PRIu32 " %s from=%s reason=\"%s\"", ev->conn, peer, from,
               msock_derp_cause_text(ev->cause));
  }
}

static void log_circuit(const msock_log *log, msock_derpd_totals *t,
                        const msock_derp_server_event *ev) {
  char src[MSOCK_KEY_TEXT_MAX], dst[MSOCK_KEY_TEXT_MAX];
  msock_node_key_text(&ev->key, src);
  msock_node_key_text(&ev->peer, dst);
  if (ev->kind == MSOCK_DERP_SERVER_FLOW_OPENED) {
    t->circuits++;
    msock_logf(log, MSOCK_LOG_INFO, "circuit.accepted", "src=%s dst=%s total=%" PRIu64, src, dst,
               t->circuits);
  } else if (ev->kind == MSOCK_DERP_SERVER_FLOW_DENIED) {
    msock_logf(log, MSOCK_LOG_WARN, "circuit.denied", "src=%s dst=%s cause=%s reason=\"%s\"", src,
               dst, msock_derp_cause_word(ev->cause), msock_derp_cause_text(ev->cause));
  } else {
    msock_logf(log, MSOCK_LOG_INFO, "circuit.closed",
               "src=%s dst=%s error=%s duration_ms=%" PRIu64 " bytes=%" PRIu64 " packets=%" PRIu64,
               src, dst, msock_derp_cause_word(ev->cause), ev->duration_us / 1000, ev->bytes_in,
               ev->packets_in);
  }
}

void msock_derpd_event_log(const msock_log *log, msock_derpd_totals *totals,
                           const msock_derp_server_event *ev) {
  char buf[WHO_MAX], from[MSOCK_ADDR_TEXT_MAX];
  const char *peer = who(ev, buf);
  msock_addr_text(&ev->from, from);
  switch (ev->kind) {
  case MSOCK_DERP_SERVER_OPENED:
  case MSOCK_DERP_SERVER_CLOSED:
  case MSOCK_DERP_SERVER_FAILED:
    log_connection(log, totals, ev, peer, from);
    break;
  case MSOCK_DERP_SERVER_ADMITTED:
  case MSOCK_DERP_SERVER_DENIED:
  case MSOCK_DERP_SERVER_TIMED_OUT:
    log_reservation(log, totals, ev, peer, from);
    break;
  case MSOCK_DERP_SERVER_FLOW_OPENED:
  case MSOCK_DERP_SERVER_FLOW_DENIED:
  case MSOCK_DERP_SERVER_FLOW_CLOSED:
    log_circuit(log, totals, ev);
    break;
  case MSOCK_DERP_SERVER_QUOTA_GRACE:
    msock_logf(log, MSOCK_LOG_WARN, "quota.grace", "%s", peer);
    break;
  case MSOCK_DERP_SERVER_QUOTA_OVER:
    msock_logf(log, MSOCK_LOG_WARN, "quota.over", "%s", peer);
    break;
  case MSOCK_DERP_SERVER_LINKED:
    msock_logf(log, MSOCK_LOG_INFO, "mesh.linked", "conn=%" PRIu32 " %s", ev->conn, peer);
    break;
  case MSOCK_DERP_SERVER_UNLINKED:
    msock_logf(log, MSOCK_LOG_WARN, "mesh.unlinked",
               "conn=%" PRIu32 " %s cause=%s reason=\"%s\" duration_ms=%" PRIu64, ev->conn, peer,
               msock_derp_cause_word(ev->cause), msock_derp_cause_text(ev->cause),
               ev->duration_us / 1000);
    break;
  }
}
