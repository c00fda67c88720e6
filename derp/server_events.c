#include "derp/server_events.h"

#include <stdlib.h>
#include <string.h>

#include "derp/server_internal.h"

#define FIRST_EVENTS 64u

static const struct {
  const char *word, *text;
} causes[MSOCK_DERP_CAUSES] = {
    [MSOCK_DERP_CAUSE_NONE] = {"none", "no reason"},
    [MSOCK_DERP_CAUSE_EOF] = {"eof", "the connection ended"},
    [MSOCK_DERP_CAUSE_PROTOCOL] = {"protocol", "malformed frame"},
    [MSOCK_DERP_CAUSE_STALL] = {"write_timeout", "the client took no data for too long"},
    [MSOCK_DERP_CAUSE_LOGIN] = {"login", "no well-formed login"},
    [MSOCK_DERP_CAUSE_LOGIN_TIME] = {"login_timeout", "admission was not decided in time"},
    [MSOCK_DERP_CAUSE_DISPLACED] = {"displaced", "too many logins at a time"},
    [MSOCK_DERP_CAUSE_CLOSE_PEER] = {"close_peer", "closed by another relay of the region"},
    [MSOCK_DERP_CAUSE_RESTART] = {"restart", "this relay restarts"},
    [MSOCK_DERP_CAUSE_MEMORY] = {"memory", "this relay is out of memory"},
    [MSOCK_DERP_CAUSE_HTTP] = {"http", "request answered"},
    [MSOCK_DERP_CAUSE_WATCH_BEHIND] = {"watch_behind", "the watcher does not keep up"},
    [MSOCK_DERP_CAUSE_LINK_SELF] = {"link_self", "the other relay is this one"},
    [MSOCK_DERP_CAUSE_LINK_SILENT] = {"link_silent", "the other relay is silent"},
    [MSOCK_DERP_CAUSE_ADMISSION] = {"admission", "this relay does not admit this node"},
    [MSOCK_DERP_CAUSE_BAN_KEY] = {"ban_key", "this node is banned from this relay"},
    [MSOCK_DERP_CAUSE_BAN_PREFIX] = {"ban_prefix", "this address is banned from this relay"},
    [MSOCK_DERP_CAUSE_CONNS] = {"conns", "this relay is full"},
    [MSOCK_DERP_CAUSE_CONNS_PER_KEY] = {"conns_per_key",
                                        "this node has too many connections to this relay"},
    [MSOCK_DERP_CAUSE_CONNS_PER_PREFIX] = {"conns_per_prefix",
                                           "too many connections from this address"},
    [MSOCK_DERP_CAUSE_ACCEPT_RATE] = {"accept_rate", "too many new connections"},
    [MSOCK_DERP_CAUSE_ACCEPT_RATE_PREFIX] = {"accept_rate_prefix",
                                             "too many new connections from this address"},
    [MSOCK_DERP_CAUSE_QUOTA] = {"quota", "this node has used up its quota on this relay"},
    [MSOCK_DERP_CAUSE_FLOWS_PER_KEY] = {"flows_per_key", "too many flows of this node"},
    [MSOCK_DERP_CAUSE_FLOW_TIME] = {"flow_time", "the flow has lasted its time"},
    [MSOCK_DERP_CAUSE_FLOW_BYTES] = {"flow_bytes", "the flow has carried its bytes"},
    [MSOCK_DERP_CAUSE_FLOW_IDLE] = {"flow_idle", "no packet for a while"},
    [MSOCK_DERP_CAUSE_FLOW_LEFT] = {"flow_left", "one end has left"},
    [MSOCK_DERP_CAUSE_FLOW_ROOM] = {"flow_room", "too many flows"},
};

static const char *const drops[MSOCK_DERP_DROPS] = {
    [MSOCK_DERP_DROP_UNKNOWN_DEST] = "unknown_dest",
    [MSOCK_DERP_DROP_UNKNOWN_DEST_ON_FWD] = "unknown_dest_on_fwd",
    [MSOCK_DERP_DROP_GONE_DISCONNECTED] = "gone_disconnected",
    [MSOCK_DERP_DROP_QUEUE_HEAD] = "queue_head",
    [MSOCK_DERP_DROP_QUEUE_TAIL] = "queue_tail",
    [MSOCK_DERP_DROP_WRITE_ERROR] = "write_error",
    [MSOCK_DERP_DROP_DUP_CLIENT] = "dup_client",
    [MSOCK_DERP_DROP_FLOW_LIMIT] = "flow_limit",
};

const char *msock_derp_cause_word(msock_derp_cause c) {
  return (unsigned)c < MSOCK_DERP_CAUSES ? causes[c].word : "unknown";
}

const char *msock_derp_cause_text(msock_derp_cause c) {
  return (unsigned)c < MSOCK_DERP_CAUSES ? causes[c].text : "unknown";
}

const char *msock_derp_drop_word(msock_derp_drop d) {
  return (unsigned)d < MSOCK_DERP_DROPS ? drops[d] : "unknown";
}

msock_derp_server_event relay_event(const msock_derp_server *s, uint64_t now_us,
                                    msock_derp_server_event_kind kind, const relay_conn *c) {
  msock_derp_server_event ev = {.kind = kind, .at_us = now_us, .total = (uint32_t)s->stats.conns};
  if (c == NULL) {
    return ev;
  }
  ev.conn = c->id;
  ev.cause = c->cause;
  ev.from = c->from;
  ev.is_mesh = c->is_mesh;
  ev.duration_us = now_us - c->since_us;
  if (c->key != NULL) {
    ev.has_key = true;
    ev.key = c->key->key;
    ev.count = c->key->n_conns;
    ev.bytes_in = c->bytes_in;
    ev.bytes_out = c->bytes_out;
    ev.packets_in = c->packets_in;
    ev.packets_out = c->packets_out;
  }
  return ev;
}

/* The ring doubles up to its bound. */
static bool grow(msock_derp_server *s) {
  uint32_t cap = s->events_cap > 0 ? 2 * s->events_cap : FIRST_EVENTS;
  cap = cap < s->events_max ? cap : s->events_max;
  msock_derp_server_event *more = cap > s->events_cap ? malloc(cap * sizeof *more) : NULL;
  if (more == NULL) {
    return false;
  }
  for (uint32_t i = 0; i < s->n_events; i++) {
    more[i] = s->events[(s->events_at + i) % s->events_cap];
  }
  free(s->events);
  s->events = more;
  s->events_cap = cap;
  s->events_at = 0;
  return true;
}

void relay_emit(msock_derp_server *s, const msock_derp_server_event *ev) {
  if (s->events_max == 0) {
    return;
  }
  if (s->n_events == s->events_cap && !grow(s)) {
    s->stats.events_lost++;
    return;
  }
  s->events[(s->events_at + s->n_events++) % s->events_cap] = *ev;
}

void msock_derp_server_keep_events(msock_derp_server *s, uint32_t max) {
  s->events_max = max < MSOCK_DERP_SERVER_EVENTS_MAX ? max : MSOCK_DERP_SERVER_EVENTS_MAX;
}

bool msock_derp_server_next_event(msock_derp_server *s, msock_derp_server_event *ev) {
  if (s->n_events == 0) {
    return false;
  }
  *ev = s->events[s->events_at];
  s->events_at = (s->events_at + 1) % s->events_cap;
  s->n_events--;
  return true;
}
