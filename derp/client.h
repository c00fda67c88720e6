/* derp/client.h: one DERP connection as a pure machine.
 *
 * Bytes and time go in, bytes, events and a deadline come out. Life of one: new (the TLS stream is
 * up) -> HTTP upgrade, or fast start -> ServerKey -> ClientInfo -> frames both ways -> CLOSED.
 * Packets flow as soon as ClientInfo is on its way; ServerInfo only confirms the login
 * (derp.md 2.2).
 *
 *   msock_derp_client_feed(c, now_us, bytes, n);
 *   while (msock_derp_client_next_event(c, &ev)) { ... }         bytes may be reused after this
 *   while (msock_derp_client_tx_peek(c, now_us, &p, &n), n > 0) { write; tx_consume(c, written); }
 */
#ifndef MSOCK_DERP_CLIENT_H
#define MSOCK_DERP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "base/key.h"
#include "derp/frame.h"
#include "derp/login.h"
#include "derp/queue.h"

#define MSOCK_DERP_HOST_MAX 272u                      /* HostName, brackets, ":65535", NUL */
#define MSOCK_DERP_READ_DEADLINE_US (120 * MSOCK_SEC) /* without a complete frame: derp.md 0 */

typedef struct msock_derp_client msock_derp_client;

typedef struct msock_derp_client_cfg {
  msock_node_private key;         /* copied; wiped on free */
  char host[MSOCK_DERP_HOST_MAX]; /* Host header: HostName[:port unless 443] */
  char ideal_node[64];            /* Ideal-Node header; "" = the connected node is ideal */
  bool fast_start;                /* TLS >= 1.3 and a meta certificate: server_key is set */
  msock_node_key server_key;      /* from the meta certificate; used with fast_start only */
  bool preferred;                 /* home: NotePreferred(1) follows ClientInfo */
  msock_derp_client_info info;    /* msock_derp_client_info_default() for a node */
  msock_derp_queue *queue;        /* borrowed, outlives the client: unsent packets stay in it */
} msock_derp_client_cfg;

typedef enum msock_derp_closed {
  MSOCK_DERP_CLOSED_EOF = 1,     /* after ServerInfo: an ordinary loss */
  MSOCK_DERP_CLOSED_REFUSED,     /* EOF before ServerInfo: the server does not want us */
  MSOCK_DERP_CLOSED_HTTP_STATUS, /* upgrade answered with another status than 101 */
  MSOCK_DERP_CLOSED_HTTP_BAD,    /* not an HTTP/1.1 reply */
  MSOCK_DERP_CLOSED_FAST_HTTP,   /* HTTP text in answer to fast start: retry without it */
  MSOCK_DERP_CLOSED_GREETING,    /* no well-formed ServerKey */
  MSOCK_DERP_CLOSED_TOO_LARGE,   /* frame over MSOCK_DERP_CLIENT_PAYLOAD_MAX */
  MSOCK_DERP_CLOSED_SERVER_INFO, /* ServerInfo does not open or is not JSON */
  MSOCK_DERP_CLOSED_SILENT,      /* 120 s without a complete frame */
  MSOCK_DERP_CLOSED_NO_PONG,     /* a ping with a time limit went unanswered */
  MSOCK_DERP_CLOSED_NOMEM
} msock_derp_closed;

typedef enum msock_derp_event_kind {
  MSOCK_DERP_EVENT_CONNECTED = 1, /* ServerInfo came and opened; once */
  MSOCK_DERP_EVENT_PACKET,
  MSOCK_DERP_EVENT_PEER_GONE,
  MSOCK_DERP_EVENT_HEALTH,
  MSOCK_DERP_EVENT_RESTARTING,
  MSOCK_DERP_EVENT_PONG,  /* answer to the ping in flight */
  MSOCK_DERP_EVENT_CLOSED /* the last one: free the client */
} msock_derp_event_kind;

/* Pointers are valid until the next call on this client. */
typedef struct msock_derp_event {
  msock_derp_event_kind kind;
  union {
    msock_derp_server_info connected;
    struct {
      msock_node_key src;
      const uint8_t *data;
      size_t len;
    } packet;
    struct {
      msock_node_key peer;
      uint8_t reason; /* 0 when the server gave none */
    } peer_gone;
    struct {
      const char *text; /* not NUL-terminated; from the network: clean before printing */
      size_t len;       /* 0 = healthy again */
    } health;
    struct {
      uint32_t reconnect_in_ms;
      uint32_t try_for_ms;
    } restarting;
    uint64_t pong_rtt_us;
    struct {
      msock_derp_closed reason;
      int http_status; /* HTTP_STATUS, FAST_HTTP; 0 = unknown */
    } closed;
  } u;
} msock_derp_event;

typedef struct msock_derp_client_counters {
  uint64_t tx_packets, tx_bytes; /* relayed packets handed to the stream; bytes of packets alone */
  uint64_t rx_packets, rx_bytes;
  uint64_t tx_drop_rate; /* over the rate that ServerInfo set */
  uint64_t rx_frames;    /* complete frames of any type */
  uint64_t rx_short;     /* frames too short or over-long for their type: skipped */
  uint64_t rx_unknown;   /* types that a client does not handle: skipped */
  uint64_t rx_keep_alive;
  uint64_t rx_ping;
} msock_derp_client_counters;

/* env is borrowed for the client's life; cfg for the call. NULL when out of memory or when cfg does
 * not make a legal request. The upgrade request (with ClientInfo behind it, on fast start) is ready
 * in tx. */
msock_derp_client *msock_derp_client_new(const msock_env *env, const msock_derp_client_cfg *cfg,
                                         uint64_t now_us);
void msock_derp_client_free(msock_derp_client *c);

/* Takes bytes from the stream, in any split. They are BORROWED until next_event has returned false.
 * MSOCK_ERR_AGAIN: earlier bytes are not drained yet, nothing was taken; MSOCK_ERR_CLOSED. */
msock_err msock_derp_client_feed(msock_derp_client *c, uint64_t now_us, const uint8_t *bytes,
                                 size_t len);
/* The stream ended, cleanly or not. CLOSED (EOF or REFUSED) is the next event. */
void msock_derp_client_eof(msock_derp_client *c);
/* False when there is nothing (more) to report. */
bool msock_derp_client_next_event(msock_derp_client *c, msock_derp_event *ev);

/* Queues a packet for dst; before ClientInfo has been sent it waits. Never blocks: over the bounds
 * the oldest of its kind is dropped and counted (derp/queue.h). MSOCK_ERR_INVALID: over 65536
 * bytes; MSOCK_ERR_CLOSED; MSOCK_ERR_NOMEM. */
msock_err msock_derp_client_send(msock_derp_client *c, uint64_t now_us, const msock_node_key *dst,
                                 const uint8_t *pkt, size_t len);
/* Pings the server with 8 random bytes; replaces a ping in flight. Without a pong after timeout_us
 * the connection is CLOSED (NO_PONG). MSOCK_ERR_AGAIN before login or when tx is full. */
msock_err msock_derp_client_ping(msock_derp_client *c, uint64_t now_us, uint64_t timeout_us);
/* Home or not: tells the server when that differs from what it was told. */
void msock_derp_client_set_preferred(msock_derp_client *c, bool preferred);

/* What to write now: one contiguous run of as many frames as fit, *len = 0 when nothing. Valid
 * until the next call on this client. Bytes once shown stay the next to be written, in that order,
 * though a later peek may show more behind them. */
void msock_derp_client_tx_peek(msock_derp_client *c, uint64_t now_us, const uint8_t **p,
                               size_t *len);
/* The first n bytes of the run were written. */
void msock_derp_client_tx_consume(msock_derp_client *c, size_t n);
bool msock_derp_client_tx_wanted(const msock_derp_client *c); /* would peek show bytes? */

uint64_t msock_derp_client_next_expiry(const msock_derp_client *c);
void msock_derp_client_on_expiry(msock_derp_client *c, uint64_t now_us);

/* ClientInfo is in tx or beyond: the connect budget is over, packets flow. */
bool msock_derp_client_is_logged_in(const msock_derp_client *c);
bool msock_derp_client_is_closed(const msock_derp_client *c);
const msock_derp_client_counters *msock_derp_client_get_counters(const msock_derp_client *c);

/* Stable English for a reason ("refused by server"). Never NULL. */
const char *msock_derp_closed_text(msock_derp_closed reason);

#endif
