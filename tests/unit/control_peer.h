/* tests/unit/control_peer.h: the other end of a ts2021 connection for tests: HTTP upgrade, Noise
 * responder (control/noise.h), nghttp2 server session. It answers only what the test tells it to.
 */
#ifndef MSOCK_TESTS_CONTROL_PEER_H
#define MSOCK_TESTS_CONTROL_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/key.h"

#define PEER_STREAMS 64

typedef struct peer_stream {
  int32_t id;    /* 0 = free */
  bool complete; /* the request's body is whole */
  bool taken;    /* handed out by peer_take */
  bool closed;
  char method[16];
  char path[256];
  char content_type[64];
  char *body;
  size_t body_len;
  uint8_t *out; /* answer bytes not yet sent */
  size_t out_len, out_at;
  bool out_end, deferred;
} peer_stream;

typedef enum peer_early {
  PEER_EARLY_NONE,
  PEER_EARLY_ONE_RECORD,
  PEER_EARLY_THREE_RECORDS
} peer_early;

typedef struct peer peer;

peer *peer_new(const msock_env *env, const msock_machine_private *server, peer_early early);
void peer_free(peer *p);
/* Bytes of the client. False: the handshake was rejected or a record did not open. */
bool peer_feed(peer *p, const uint8_t *bytes, size_t len);
/* All bytes for the client; caller frees. The first ones are "101" + response + early + SETTINGS in
 * one piece. */
uint8_t *peer_tx(peer *p, size_t *len);
/* The HTTP/1.1 request head that came; "" before. */
const char *peer_head(const peer *p);
const msock_machine_key *peer_client(const peer *p);
uint16_t peer_version(const peer *p);
/* The next complete request not taken yet, or NULL. */
peer_stream *peer_take(peer *p);
/* Status, optional Retry-After, body; end: the answer is whole. */
void peer_answer(peer *p, peer_stream *s, int status, const char *retry_after, const void *body,
                 size_t len, bool end);
void peer_write(peer *p, peer_stream *s, const void *body, size_t len, bool end);
void peer_reset(peer *p, peer_stream *s);
void peer_goaway(peer *p);
/* Seals raw plaintext as a record of its own (an empty one too) after what is queued. */
void peer_raw_record(peer *p, const void *bytes, size_t len);
/* After the handshake and before HTTP/2: a record with these bytes. Then peer_tx gives only it. */
void peer_early_head(peer *p, const void *bytes, size_t len);
/* PING frames of the client seen; answered unless muted. */
size_t peer_pings(const peer *p);
void peer_mute(peer *p, bool mute); /* swallow everything for the client from now on */

#endif
