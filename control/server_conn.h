/* control/server_conn.h: one ts2021 connection of a control SERVER: HTTP/1.1 head, GET /key, the
 * upgrade, Noise responder, early payload, then HTTP/2 requests and answers. For tscontrol and for
 * tests of the client. Pure; the mirror of channel.h. Source: control.md 2 and 7.
 *
 *   bytes -> head -> /key | 404 | upgrade -> initiation -> records -> nghttp2 -> REQUEST events
 *
 * Files: server_conn.c (heads, Noise, bytes), server_h2.c (streams).
 * An answer is either whole (respond) or begun, written to and ended (the map's long poll). */
#ifndef MSOCK_CONTROL_SERVER_CONN_H
#define MSOCK_CONTROL_SERVER_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "base/key.h"

#define MSOCK_SERVER_LOGIN_US (10 * MSOCK_SEC) /* head and handshake: control.md 7 */
#define MSOCK_SERVER_IDLE_US (120 * MSOCK_SEC) /* ours: no stream open for so long: closed */
#define MSOCK_SERVER_BODY_MAX (1u << 20)       /* request body; longer: 413 (control.md 7) */
#define MSOCK_SERVER_BODIES_MAX (2u << 20)     /* ours: all bodies of a connection; over it: 413 */
#define MSOCK_SERVER_STREAMS_MAX 32u           /* at once on one connection */
#define MSOCK_SERVER_QUEUE_MAX (64u << 20)     /* unsent bytes of one answer; over it: RST_STREAM */

typedef struct msock_server_conn msock_server_conn;

typedef struct msock_server_request {
  int32_t stream;
  char method[8];
  char path[128]; /* with query; a longer one is answered 404 inside */
  const uint8_t *body;
  size_t body_len; /* borrowed until the answer is given or the stream is closed */
} msock_server_request;

typedef enum msock_server_event_kind {
  MSOCK_SERVER_EV_READY = 1, /* handshake done: machine and version are known */
  MSOCK_SERVER_EV_REQUEST,
  MSOCK_SERVER_EV_STREAM_CLOSED /* stream: by the client, or after the answer's end */
} msock_server_event_kind;

typedef struct msock_server_event {
  msock_server_event_kind kind;
  msock_server_request request; /* REQUEST; STREAM_CLOSED: stream only */
} msock_server_event;

/* early: send the early payload (a fresh challenge key). server and env are borrowed for life. */
msock_server_conn *msock_server_conn_new(const msock_env *env, const msock_machine_private *server,
                                         bool early, uint64_t now_us);
void msock_server_conn_free(msock_server_conn *c);

/* MSOCK_ERR_CLOSED: nothing more is read (bytes that come are ignored); send what tx_peek has, then
 * close. */
msock_err msock_server_conn_feed(msock_server_conn *c, uint64_t now_us, const uint8_t *p,
                                 size_t len);
/* Bytes to send, 0 = none; *p is valid until the next call. */
size_t msock_server_conn_tx_peek(msock_server_conn *c, const uint8_t **p);
void msock_server_conn_tx_consume(msock_server_conn *c, size_t n);
/* Close when everything is sent. */
bool msock_server_conn_is_done(const msock_server_conn *c);
uint64_t msock_server_conn_next_expiry(const msock_server_conn *c);
void msock_server_conn_on_expiry(msock_server_conn *c, uint64_t now_us);

/* False when there is none. */
bool msock_server_conn_next_event(msock_server_conn *c, msock_server_event *out);
/* After READY. */
const msock_machine_key *msock_server_conn_machine(const msock_server_conn *c);
uint16_t msock_server_conn_version(const msock_server_conn *c);

/* Answers: MSOCK_ERR_CLOSED when the stream is gone, MSOCK_ERR_NOMEM, MSOCK_ERR_AGAIN (the queue of
 * this answer is full: the stream was reset). Bytes are copied. */
msock_err msock_server_conn_respond(msock_server_conn *c, int32_t stream, int status,
                                    const void *body, size_t len);
msock_err msock_server_conn_begin(msock_server_conn *c, int32_t stream, int status);
msock_err msock_server_conn_write(msock_server_conn *c, int32_t stream, const void *p, size_t len);
/* Ends an answer that was begun; a stream that is gone is fine. */
void msock_server_conn_end(msock_server_conn *c, int32_t stream);

#endif
