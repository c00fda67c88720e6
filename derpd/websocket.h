/* derpd/websocket.h: the server side of a WebSocket as a byte stream (RFC 6455; derp.md 1.5):
 * binary messages of any cut carry DERP frames of any cut. No extension, no fragmentation of ours.
 * Pure: no allocation, no I/O. */
#ifndef MSOCK_DERPD_WEBSOCKET_H
#define MSOCK_DERPD_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/http1.h"

#define MSOCK_DERPD_WS_HEAD_MAX 10u     /* of our frames: never masked */
#define MSOCK_DERPD_WS_CONTROL_MAX 125u /* RFC 6455 5.5 */
#define MSOCK_DERPD_WS_ACCEPT_MAX 29u   /* base64 of SHA-1, NUL included */

/* RFC 6455 7.4.1 */
#define MSOCK_DERPD_WS_PROTOCOL 1002u
#define MSOCK_DERPD_WS_NOT_BINARY 1003u

/* One client's stream; starts as {0}. */
typedef struct msock_derpd_ws {
  uint8_t head[14]; /* of the frame that is being read */
  uint8_t head_len;
  bool in_payload;
  bool in_message; /* a binary message goes on in the next frame */
  uint8_t opcode;
  bool fin;
  uint64_t left; /* payload bytes to come */
  uint8_t mask[4], mask_at;
  uint8_t control[MSOCK_DERPD_WS_CONTROL_MAX];
  uint8_t control_len;
} msock_derpd_ws;

typedef enum msock_derpd_ws_step {
  MSOCK_DERPD_WS_DATA = 1, /* dst holds n bytes of the stream, perhaps none */
  MSOCK_DERPD_WS_PONG,     /* send dst[0..n) as it is: the answer to a ping */
  MSOCK_DERPD_WS_CLOSE     /* send dst[0..n) as it is, then close */
} msock_derpd_ws_step;

/* Reads on: gives the bytes of p that were taken (> 0 while len > 0), what came out in *step, dst,
 * *n. dst holds len + MSOCK_DERPD_WS_CONTROL_MAX + MSOCK_DERPD_WS_HEAD_MAX bytes. Call again with
 * the rest. */
size_t msock_derpd_ws_feed(msock_derpd_ws *w, const uint8_t *p, size_t len,
                           msock_derpd_ws_step *step, uint8_t *dst, size_t *n);
/* Head of a whole binary message with len bytes; gives its length. */
size_t msock_derpd_ws_head(uint64_t len, uint8_t dst[static MSOCK_DERPD_WS_HEAD_MAX]);
/* A close frame with a status code; gives its length (4). */
size_t msock_derpd_ws_close(unsigned code, uint8_t dst[static MSOCK_DERPD_WS_HEAD_MAX]);

/* The 101 for an upgrade request, subprotocol "derp", into dst. MSOCK_ERR_INVALID: version is not
 * 13, or the key is not 16 bytes in base64 (RFC 6455 4.2.1); MSOCK_ERR_NOBUF. */
ptrdiff_t msock_derpd_ws_answer(const msock_http1_head *h, char *dst, size_t cap);
/* Sec-WebSocket-Accept of a key. */
void msock_derpd_ws_accept(const char *key, size_t len, char out[static MSOCK_DERPD_WS_ACCEPT_MAX]);

#endif
