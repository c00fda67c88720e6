/* control/channel.h: one ts2021 connection of the client: HTTP/1.1 upgrade, Noise, early payload,
 * then HTTP/2 with several requests at once.
 *
 * Pure byte-stream machine. The way of a byte: feed -> (head | response | record) -> early payload
 * -> nghttp2 -> event. feed stops after each record that made events, so that bodies are handed out
 * without a copy; take the events, feed the rest. Windows are replenished as body bytes are handed
 * out. Source: control.md 2.2 - 2.7. */
#ifndef MSOCK_CONTROL_CHANNEL_H
#define MSOCK_CONTROL_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "base/key.h"

/* Limits and timers. */
#define MSOCK_CHANNEL_UPGRADE_US (5 * MSOCK_SEC)   /* upgrade + handshake: control.md 2.3 */
#define MSOCK_CHANNEL_IDLE_US (30 * MSOCK_SEC)     /* then PING: control.md 2.7 */
#define MSOCK_CHANNEL_PING_ACK_US (15 * MSOCK_SEC) /* no ACK: dead: control.md 2.7 */
#define MSOCK_CHANNEL_WAKE_ACK_US (3 * MSOCK_SEC)  /* after a link change: control.md 6 */
#define MSOCK_CHANNEL_EARLY_MAX 65536u             /* early payload: control.md 2.6 */
#define MSOCK_CHANNEL_WINDOW (1u << 20)            /* both windows: control.md 2.7 */
#define MSOCK_CHANNEL_BODY_MAX (1u << 20)          /* request body: Headscale's cap, 2.7 */
#define MSOCK_CHANNEL_STREAMS_MAX 16u              /* ours: stream, lite, register, pings */
#define MSOCK_CHANNEL_TEXT_MAX 200u                /* reason in words */

typedef struct msock_channel_cfg {
  const char *host; /* as in the URL, IPv6 without brackets; copied */
  uint16_t port;
  bool default_port; /* leave the port out of Host and :authority */
  uint16_t version;  /* capability version */
  const msock_machine_private *machine;
  const msock_machine_key *server;
} msock_channel_cfg;

typedef enum msock_channel_failure {
  MSOCK_CHANNEL_ALIVE = 0,
  MSOCK_CHANNEL_F_STATUS,    /* another answer than 101; status has it (0 = not HTTP) */
  MSOCK_CHANNEL_F_REJECTED,  /* 101, then EOF without a byte, or an error frame */
  MSOCK_CHANNEL_F_HANDSHAKE, /* the response is malformed or does not open */
  MSOCK_CHANNEL_F_RECORD,    /* bad frame or failed open */
  MSOCK_CHANNEL_F_EARLY,     /* early payload over its limit */
  MSOCK_CHANNEL_F_HTTP2,
  MSOCK_CHANNEL_F_TIMEOUT, /* upgrade deadline, or no PING ACK */
  MSOCK_CHANNEL_F_EOF,     /* closed by the server at another time */
  MSOCK_CHANNEL_F_NOMEM
} msock_channel_failure;

typedef enum msock_channel_event_kind {
  MSOCK_CHANNEL_EV_READY = 1, /* handshake done; requests were possible before, they wait inside */
  MSOCK_CHANNEL_EV_RESPONSE,  /* stream, status, retry_after */
  MSOCK_CHANNEL_EV_DATA,      /* stream, p, len: body bytes, valid until the next feed */
  MSOCK_CHANNEL_EV_END,       /* stream: clean says whether the body is whole; code of RST_STREAM */
  MSOCK_CHANNEL_EV_GOAWAY     /* no new requests here; running ones may still end */
} msock_channel_event_kind;

typedef struct msock_channel_event {
  msock_channel_event_kind kind;
  int32_t stream;
  int status;
  char retry_after[48]; /* header value, "" when absent */
  const uint8_t *p;
  size_t len;
  bool clean;
  uint32_t code;
} msock_channel_event;

typedef struct msock_channel msock_channel;

/* NULL: out of memory, or a key pair with an all-zero DH result. The upgrade request waits in tx at
 * once. */
msock_channel *msock_channel_new(const msock_env *env, const msock_channel_cfg *cfg,
                                 uint64_t now_us);
void msock_channel_free(msock_channel *ch);

/* Takes bytes of the peer; gives how many were used: fewer than len only when events wait. 0 with
 * len > 0 and no event: the channel has failed (msock_channel_failed). */
size_t msock_channel_feed(msock_channel *ch, uint64_t now_us, const uint8_t *p, size_t len);
/* The peer closed. */
void msock_channel_eof(msock_channel *ch);
/* Bytes to send, valid until the next call; 0 = none. */
size_t msock_channel_tx_peek(msock_channel *ch, const uint8_t **p);
void msock_channel_tx_consume(msock_channel *ch, size_t n);

bool msock_channel_next_event(msock_channel *ch, msock_channel_event *out);

/* Opens a request on a new stream; body (may be NULL) is copied; content-type json goes with
 * it. Gives the stream id (> 0) or MSOCK_ERR_CLOSED (failed, GOAWAY), MSOCK_ERR_NOMEM. */
int32_t msock_channel_request(msock_channel *ch, const char *method, const char *path,
                              const void *body, size_t len);
/* Resets a stream; no event for it comes any more. */
void msock_channel_cancel(msock_channel *ch, int32_t stream);
size_t msock_channel_open_streams(const msock_channel *ch);

/* PINGs now (once READY) and fails when no ACK comes within limit_us. */
void msock_channel_ping(msock_channel *ch, uint64_t now_us, uint64_t limit_us);
void msock_channel_on_expiry(msock_channel *ch, uint64_t now_us);
uint64_t msock_channel_next_expiry(const msock_channel *ch);

msock_channel_failure msock_channel_failed(const msock_channel *ch, int *status, const char **text);
bool msock_channel_is_ready(const msock_channel *ch);
/* A GOAWAY came. */
bool msock_channel_is_draining(const msock_channel *ch);

#endif
