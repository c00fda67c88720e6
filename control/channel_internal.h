/* control/channel_internal.h: what channel.c (bytes, Noise, time) and h2.c (nghttp2) share. */
#ifndef MSOCK_CONTROL_CHANNEL_INTERNAL_H
#define MSOCK_CONTROL_CHANNEL_INTERNAL_H

#include <nghttp2/nghttp2.h>

#include "base/http1.h"
#include "control/channel.h"
#include "control/noise.h"

/* A record of 4077 bytes holds at most 407 DATA frames with a byte each. */
#define CHANNEL_EVENTS_MAX 512u
#define CHANNEL_TX_CAP (4u * MSOCK_CONTROL_FRAME_MAX) /* holds the upgrade head too */
#define CHANNEL_AUTHORITY_MAX 272u

typedef enum channel_phase {
  PHASE_HEAD = 0, /* waiting for the 101 */
  PHASE_RESPONSE, /* waiting for Noise message 2 */
  PHASE_EARLY,    /* records; first plaintext bytes: early payload or HTTP/2 */
  PHASE_HTTP2
} channel_phase;

typedef struct channel_stream {
  int32_t id; /* 0 = free slot */
  int status;
  bool announced; /* RESPONSE was queued */
  char retry_after[48];
  uint8_t *body;
  size_t body_len, body_at;
} channel_stream;

typedef struct channel_queued {
  msock_channel_event_kind kind;
  int32_t stream; /* 0 after cancel: skipped */
  uint32_t code;
  const uint8_t *p;
  size_t len;
  int status;
  char retry_after[48];
} channel_queued;

struct msock_channel {
  const msock_env *env;
  channel_phase phase;
  msock_channel_failure failure;
  int failure_status;
  char failure_text[MSOCK_CHANNEL_TEXT_MAX + 1];
  char authority[CHANNEL_AUTHORITY_MAX];

  msock_control_initiator hs;
  msock_control_records records;

  uint8_t *head; /* MSOCK_HTTP1_HEAD_MAX bytes until the 101 is read, then NULL */
  size_t head_len;
  uint8_t rx[MSOCK_CONTROL_FRAME_MAX]; /* the record (or message 2) being gathered */
  size_t rx_len;
  uint8_t plain[MSOCK_CONTROL_PLAIN_MAX];
  uint8_t early[9];
  size_t early_len;
  size_t early_skip; /* bytes of the early payload's JSON still to be skipped */

  uint8_t tx[CHANNEL_TX_CAP];
  size_t tx_at, tx_len;
  const uint8_t *pending; /* of nghttp2, not yet sealed; valid until the next mem_send */
  size_t pending_len;

  nghttp2_session *h2;
  channel_stream streams[MSOCK_CHANNEL_STREAMS_MAX];
  channel_queued *events;
  size_t events_at, events_len, events_cap;
  bool draining;

  uint64_t deadline_us; /* upgrade */
  uint64_t last_rx_us;
  uint64_t ping_due_us; /* MSOCK_NEVER = no PING is out */
};

/* Sets the failure once; text is cut and made printable. */
void msock_channel_fail(msock_channel *ch, msock_channel_failure why, const char *text, size_t len);
/* Queues an event; a full queue fails the channel. */
void msock_channel_queue(msock_channel *ch, channel_queued ev);

bool msock_channel_h2_start(msock_channel *ch);
void msock_channel_h2_stop(msock_channel *ch);
/* Plaintext of the peer. Pointers in DATA events point into p. */
void msock_channel_h2_recv(msock_channel *ch, const uint8_t *p, size_t len);
/* Up to cap bytes to send; gives their number. */
size_t msock_channel_h2_send(msock_channel *ch, uint8_t *dst, size_t cap);
void msock_channel_h2_ping(msock_channel *ch);

#endif
