/* derpd/relay_internal.h: what the files of the relay share. */
#ifndef MSOCK_DERPD_RELAY_INTERNAL_H
#define MSOCK_DERPD_RELAY_INTERNAL_H

#include "derp/server_http.h"
#include "derpd/relay.h"
#include "derpd/websocket.h"
#include "io/stream.h"
#include "io/tcp_listener.h"

/* Our own bytes that wait on one connection: the largest frame in a message, and answers to pings;
 * more close it. */
#define RELAY_OUT_MAX (2u * 65536u)

typedef enum relay_kind {
  RELAY_KIND_DERP = 0, /* listen */
  RELAY_KIND_HTTP,     /* http_listen */
  RELAY_KIND_LINK      /* dialled: another relay */
} relay_kind;

typedef enum relay_phase {
  RELAY_PHASE_HEAD = 0, /* the request head is not whole */
  RELAY_PHASE_ANSWER,   /* it was answered: what is left to send, then the end */
  RELAY_PHASE_DERP,
  RELAY_PHASE_WEBSOCKET
} relay_phase;

/* Bytes that wait, to be sent or for the rest of a head. */
typedef struct relay_bytes {
  uint32_t len, at, cap;
  uint8_t b[];
} relay_bytes;

typedef struct relay_socket {
  msock_derpd_relay *relay;
  relay_kind kind;
  msock_tcp_listener *listener; /* NULL: adopted */
} relay_socket;

typedef struct relay_client {
  struct relay_client *next_over;
  msock_derpd_relay *relay;
  msock_stream *stream;
  uint32_t id; /* in the core */
  uint8_t kind, phase;
  bool over; /* freed at the end of the turn */
  bool up;   /* TLS is up, or there is none */
  bool is_tls, is_tls13;
  bool has_token;
  msock_addr peer; /* of the socket */
  relay_bytes *in; /* the head so far; NULL = nothing */
  relay_bytes *out;
  msock_derpd_ws *ws;
  msock_derpd_relay_link *link; /* RELAY_KIND_LINK */
  struct relay_client *prev_link, *next_link;
} relay_client;

struct msock_derpd_relay {
  msock_derpd_relay_cfg cfg;
  msock_loop *loop;
  msock_derp_server *core;
  msock_node_key key;
  msock_tls_identity *identity;
  const msock_derpd_config *v;
  relay_socket sockets[MSOCK_DERPD_LISTENERS_MAX];
  size_t n_sockets;
  relay_client **table; /* by id: open addressing */
  size_t table_cap, n_clients;
  relay_client *over;  /* list */
  relay_client *links; /* list */
  msock_derpd_relay_stats stats;
  uint8_t *scratch; /* one WebSocket read, decoded */
};

/* relay.c */
void relay_accept(relay_socket *s, int fd, const msock_addr *peer);
/* A link's TLS is up: the core takes it. */
void relay_link_up(relay_client *c);
/* Ends it with this turn. */
void relay_end(relay_client *c);

/* relay_conn.c */
extern const msock_stream_handlers relay_stream_handlers;
/* Puts bytes behind those that wait in front of the core's. False: too many, or no memory. */
bool relay_put(relay_client *c, const void *p, size_t len);
/* Bytes of DERP to the core, with its wish about reading. */
void relay_feed_core(relay_client *c, const uint8_t *p, size_t len);

/* relay_http.c: takes bytes of the head; gives how many. */
size_t relay_feed_head(relay_client *c, const uint8_t *p, size_t len);

#endif
