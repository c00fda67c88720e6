/* derpd/relay.h: the relay's sockets around the core of derp/server.h: listeners, TLS, request
 * heads, WebSocket, and the bytes of ten thousand connections.
 *
 * Life of one connection: accept (the core may refuse before the handshake) -> TLS -> request head
 * -> an answer and the end, or DERP frames between stream and core. Work is done in two places: the
 * callbacks of streams hand bytes to the core; msock_derpd_relay_pump, at the end of each turn of
 * the loop, writes what the turn produced, each connection once.
 *
 * Files: relay (life, pump), relay_conn (one connection), relay_http (request heads). */
#ifndef MSOCK_DERPD_RELAY_H
#define MSOCK_DERPD_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/key.h"
#include "base/log.h"
#include "config/derpd_config.h"
#include "derp/server.h"
#include "io/egress.h"
#include "io/stream.h"
#include "io/tls_server.h"

#define MSOCK_DERPD_LISTENERS_MAX (4u * MSOCK_DERPD_LISTEN_MAX) /* both families, both kinds */

typedef struct msock_derpd_relay msock_derpd_relay;

typedef struct msock_derpd_relay_stats {
  uint64_t websocket_accepts;  /* derp_websocket_accepts */
  uint64_t tls_accepted;       /* tls_listener_accepted_connections */
  uint64_t tls_rejected;       /* refused before their handshake */
  uint64_t handshake_failures; /* TLS never came up */
  uint64_t http_requests;      /* request heads that were read */
  uint64_t bootstrap_requests;
  uint64_t tls12, tls13; /* gauges: derper_tls_active_version */
  uint64_t tls12_total, tls13_total;
  uint64_t ended; /* connections of every kind that are gone */
} msock_derpd_relay_stats;

typedef struct msock_derpd_relay_cfg {
  msock_egress *egress;          /* borrowed for life */
  const msock_log *log;          /* borrowed for life */
  const msock_env *env;          /* borrowed for life */
  const msock_node_private *key; /* copied */
} msock_derpd_relay_cfg;

msock_derpd_relay *msock_derpd_relay_new(const msock_derpd_relay_cfg *cfg);
void msock_derpd_relay_free(msock_derpd_relay *r);

/* What new connections are shown; takes it over. Connections that live keep theirs. */
void msock_derpd_relay_set_identity(msock_derpd_relay *r, msock_tls_identity *id);
/* Settings that requests are answered by; borrowed until the next call. */
void msock_derpd_relay_use(msock_derpd_relay *r, const msock_derpd_config *v);
/* Opens the listeners of the settings in use. MSOCK_ERR_IO with a sentence in why. */
msock_err msock_derpd_relay_listen(msock_derpd_relay *r, char *why, size_t cap);
void msock_derpd_relay_stop_listening(msock_derpd_relay *r);
size_t msock_derpd_relay_count(const msock_derpd_relay *r);
/* Address of listener i; *plain_http tells the second kind. */
msock_addr msock_derpd_relay_addr(const msock_derpd_relay *r, size_t i, bool *plain_http);

/* A link to another relay: a stream that this side dials. up and ended get ctx: once the core has
 * it, with its id there; and once, when it is over, however it went. All is copied but ctx. */
typedef struct msock_derpd_relay_link {
  const msock_stream_config *stream;
  const char *http_host; /* borrowed until ended */
  void (*up)(void *ctx, uint32_t conn);
  void (*ended)(void *ctx);
  void *ctx;
} msock_derpd_relay_link;
/* Errors as msock_stream_dial; ended is not called then. */
msock_err msock_derpd_relay_dial(msock_derpd_relay *r, const msock_derpd_relay_link *link);
/* Ends all links, at once and untold. */
void msock_derpd_relay_drop_links(msock_derpd_relay *r);

/* The end of a turn: time, output, ends. */
void msock_derpd_relay_pump(msock_derpd_relay *r, uint64_t now_us);
/* The earliest moment at which pump has something to do. */
uint64_t msock_derpd_relay_next_expiry(msock_derpd_relay *r);

msock_derp_server *msock_derpd_relay_core(msock_derpd_relay *r);
/* Whether the connection showed the shared token in its request. */
bool msock_derpd_relay_has_token(const msock_derpd_relay *r, uint32_t conn);
msock_derpd_relay_stats msock_derpd_relay_get_stats(const msock_derpd_relay *r);

#endif
