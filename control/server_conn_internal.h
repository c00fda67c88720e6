/* control/server_conn_internal.h: what server_conn.c (bytes, Noise) and server_h2.c (streams)
 * share. */
#ifndef MSOCK_CONTROL_SERVER_CONN_INTERNAL_H
#define MSOCK_CONTROL_SERVER_CONN_INTERNAL_H

#include <nghttp2/nghttp2.h>

#include "control/noise.h"
#include "control/server_conn.h"

#define SERVER_EVENTS_MAX 128u
#define SERVER_TX_CAP (8u * MSOCK_CONTROL_FRAME_MAX)

typedef enum server_phase { SERVER_HEAD = 0, SERVER_HTTP2 } server_phase;

typedef struct server_stream {
  int32_t id; /* 0 = free slot */
  char method[8];
  char path[128];
  bool path_too_long, body_too_long;
  uint8_t *body;
  size_t body_len, body_cap;
  bool answered, ended; /* headers submitted; no more bytes come */
  uint8_t *out;         /* answer bytes not yet taken by nghttp2: out[out_at..out_len) */
  size_t out_at, out_len, out_cap;
} server_stream;

struct msock_server_conn {
  const msock_env *env;
  const msock_machine_private *server;
  bool early;
  server_phase phase;
  bool closing;         /* send what is queued, then close */
  bool dead;            /* close now */
  uint64_t deadline_us; /* of the login; later: for being idle */
  uint64_t now_us;      /* of the last feed */
  uint8_t *head;        /* until the head is read */
  size_t head_len;
  msock_machine_key machine;
  uint16_t version;
  msock_control_records records;
  uint8_t rx[MSOCK_CONTROL_FRAME_MAX];
  size_t rx_len, rx_want;
  uint8_t plain[MSOCK_CONTROL_PLAIN_MAX];
  uint8_t tx[SERVER_TX_CAP];
  size_t tx_at, tx_len;
  const uint8_t *pending; /* of nghttp2, valid until the next mem_send */
  size_t pending_len;
  nghttp2_session *h2;
  server_stream streams[MSOCK_SERVER_STREAMS_MAX];
  size_t n_streams;
  size_t bodies; /* bytes of all request bodies that are kept */
  msock_server_event events[SERVER_EVENTS_MAX];
  size_t events_at, n_events;
};

/* A full queue ends the connection. */
void msock_server_queue(msock_server_conn *c, msock_server_event ev);
/* Arms or disarms the limit for being idle; after a change of n_streams. */
void msock_server_watch_idle(msock_server_conn *c);
/* Neither side has anything to say any more (GOAWAY, protocol error). */
bool msock_server_h2_is_over(const msock_server_conn *c);
bool msock_server_h2_start(msock_server_conn *c);
void msock_server_h2_stop(msock_server_conn *c);
void msock_server_h2_recv(msock_server_conn *c, const uint8_t *p, size_t len);
/* Up to cap bytes to send; gives their number. */
size_t msock_server_h2_send(msock_server_conn *c, uint8_t *dst, size_t cap);

#endif
