/* disco/messages.h: encode and decode disco messages (magicsock.md 1.2 to 1.4).
 *
 * A message is [type:1][version:1][body]; integers are big endian. Input here has already been
 * opened (envelope.h), so it is authentic but not yet believed. Decoders fill their output only on
 * MSOCK_OK, as a copy that borrows nothing. Their errors:
 *   MSOCK_ERR_SHORT    the message ends early
 *   MSOCK_ERR_UNKNOWN  another type than the decoder's, or a version that is not spoken
 *   MSOCK_ERR_INVALID  values that no peer of good will sends: ignore the whole message
 * Encoders send version 0 and give the bytes written, or MSOCK_ERR_NOBUF, or MSOCK_ERR_INVALID for
 * what may not be sent; dst is untouched on errors. */
#ifndef MSOCK_DISCO_MESSAGES_H
#define MSOCK_DISCO_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/key.h"

#define MSOCK_DISCO_TXID_LEN 12u
#define MSOCK_DISCO_CHALLENGE_LEN 32u
/* Addresses sent and read in one message; further ones are counted and not kept (magicsock.md 1.7,
 * 3.6: a call-me-maybe over DERP could hold 3636). */
#define MSOCK_DISCO_ENDPOINTS_MAX 16u
#define MSOCK_DISCO_PING_LEN 46u /* with node key, without padding: 124 bytes sealed */
#define MSOCK_DISCO_PONG_LEN 32u /* 110 bytes sealed */
/* The longest message that we send, padded pings apart: allocate response, 16 addresses. */
#define MSOCK_DISCO_MESSAGE_MAX 418u

typedef enum msock_disco_type {
  MSOCK_DISCO_PING = 0x01,          /* UDP, DERP, Geneve */
  MSOCK_DISCO_PONG = 0x02,          /* the path that the ping took */
  MSOCK_DISCO_CALL_ME_MAYBE = 0x03, /* DERP only */
  MSOCK_DISCO_BIND = 0x04,          /* these three: Geneve with the control bit only */
  MSOCK_DISCO_BIND_CHALLENGE = 0x05,
  MSOCK_DISCO_BIND_ANSWER = 0x06,
  MSOCK_DISCO_CALL_ME_MAYBE_VIA = 0x07, /* these three: DERP only */
  MSOCK_DISCO_ALLOCATE_REQUEST = 0x08,
  MSOCK_DISCO_ALLOCATE_RESPONSE = 0x09
} msock_disco_type;

/* Type of an opened message, to choose its decoder. MSOCK_ERR_SHORT under 2 bytes,
 * MSOCK_ERR_UNKNOWN for a type that is not in the list. The version byte is the decoder's. */
msock_err msock_disco_type_of(const uint8_t *p, size_t len, msock_disco_type *out);
/* "ping", "call-me-maybe-via", ... for logs and traces; static storage. */
const char *msock_disco_type_text(msock_disco_type type);

typedef struct msock_disco_ping {
  uint8_t txid[MSOCK_DISCO_TXID_LEN]; /* random per ping; the pong echoes it */
  bool has_node_key;                  /* false from peers of 1.16 and earlier */
  msock_node_key node_key;            /* CLAIMED sender key: bind before use */
  uint16_t padding;                   /* trailing bytes, zero when sent: MTU probes */
} msock_disco_ping;

/* Reads an opened ping: p is [type:1][version:1][txid:12][node_key:32?][padding:*].
 *   gives MSOCK_OK, MSOCK_ERR_SHORT (len < 14), MSOCK_ERR_UNKNOWN (not a ping, or over 64 KiB)
 * PEER: any version byte is accepted. 1 to 31 bytes after txid are padding, not a cut-off key; 32
 * zero bytes or more are all padding (as 1.104.5 counts; 1.102 takes the first 32 for a key). */
msock_err msock_disco_decode_ping(const uint8_t *p, size_t len, msock_disco_ping *out);

/* 14 bytes, or 46 with a key, plus padding. MSOCK_ERR_INVALID for a key that is all zero. */
ptrdiff_t msock_disco_encode_ping(const msock_disco_ping *m, uint8_t *dst, size_t cap);

typedef struct msock_disco_pong {
  uint8_t txid[MSOCK_DISCO_TXID_LEN];
  msock_addr src; /* where the ping came from, as its receiver saw it; unmapped */
} msock_disco_pong;

/* p is [type:1][version:1][txid:12][address:16][port:2]. PEER: any version, trailing bytes. */
msock_err msock_disco_decode_pong(const uint8_t *p, size_t len, msock_disco_pong *out);
/* 32 bytes. src may be the pseudo address of a DERP region (magicsock.md 1.7); v4-mapped IPv6 and
 * IPv4 are the same on the wire. MSOCK_ERR_INVALID without an address. */
ptrdiff_t msock_disco_encode_pong(const msock_disco_pong *m, uint8_t *dst, size_t cap);

typedef struct msock_disco_call_me_maybe {
  uint8_t n;
  uint16_t left_out; /* decode: addresses beyond MSOCK_DISCO_ENDPOINTS_MAX; encode: ignored */
  msock_addr endpoints[MSOCK_DISCO_ENDPOINTS_MAX]; /* as sent: filter before use; unmapped */
} msock_disco_call_me_maybe;

/* p is [type:1][version:1]([address:16][port:2])*.
 * STRICT: peers take a version other than 0 and a length that is no multiple of 18 for an empty
 * list, and then forget all addresses; here the first is MSOCK_ERR_UNKNOWN, the second and an empty
 * list MSOCK_ERR_INVALID. */
msock_err msock_disco_decode_call_me_maybe(const uint8_t *p, size_t len,
                                           msock_disco_call_me_maybe *out);
/* 2 + 18 n bytes. MSOCK_ERR_INVALID: n too large or an endpoint without address. An empty list does
 * encode; peers then forget what they learned this way. */
ptrdiff_t msock_disco_encode_call_me_maybe(const msock_disco_call_me_maybe *m, uint8_t *dst,
                                           size_t cap);

/* The three steps of the handshake with a peer relay: bind, challenge, answer. */
typedef struct msock_disco_bind {
  msock_disco_type type; /* MSOCK_DISCO_BIND, _BIND_CHALLENGE or _BIND_ANSWER */
  uint32_t vni;          /* 1..2^24-1 */
  uint32_t generation;   /* client's, new per handshake; 0 is the server's to refuse */
  msock_disco_key remote;
  uint8_t challenge[MSOCK_DISCO_CHALLENGE_LEN]; /* zero in a bind; echoed in an answer */
} msock_disco_bind;

/* p is [type:1][version:1][vni:4][generation:4][remote:32][challenge:32]. PEER: any version,
 * trailing bytes. STRICT: MSOCK_ERR_INVALID for VNI 0 or over 24 bits and a zero key. */
msock_err msock_disco_decode_bind(const uint8_t *p, size_t len, msock_disco_bind *out);
/* 74 bytes. MSOCK_ERR_INVALID: what decoding refuses, and another type. */
ptrdiff_t msock_disco_encode_bind(const msock_disco_bind *m, uint8_t *dst, size_t cap);

/* A session that a peer relay has made for two clients, as two messages carry it:
 * [server:32][client:32][client:32][lamport:8][vni:4][bind lifetime:8][steady lifetime:8]
 * ([address:16][port:2])+ */
typedef struct msock_disco_relay_endpoint {
  msock_disco_key server;
  msock_disco_key clients[2]; /* ascending when sent (msock_disco_pair_sort); not checked on read */
  uint64_t lamport_id;
  uint32_t vni;               /* 1..2^24-1 */
  int64_t bind_lifetime_ns;   /* > 0 */
  int64_t steady_lifetime_ns; /* > 0 */
  uint8_t n;                  /* at least 1 */
  uint16_t left_out;          /* decode: addresses beyond the limit; encode: ignored */
  msock_addr endpoints[MSOCK_DISCO_ENDPOINTS_MAX]; /* of the server; as sent: filter before use */
} msock_disco_relay_endpoint;

/* p is [type:1][version:1][relay endpoint].
 * STRICT: version other than 0 is MSOCK_ERR_UNKNOWN (peers take it for all zero, and 1.102 crashes
 * on that); a part of an address, a lifetime of 0 or less, VNI 0 or over 24 bits and any zero key
 * are MSOCK_ERR_INVALID. */
msock_err msock_disco_decode_call_me_maybe_via(const uint8_t *p, size_t len,
                                               msock_disco_relay_endpoint *out);
/* 126 + 18 n bytes. MSOCK_ERR_INVALID: what decoding refuses, n of 0 or too large. */
ptrdiff_t msock_disco_encode_call_me_maybe_via(const msock_disco_relay_endpoint *m, uint8_t *dst,
                                               size_t cap);

typedef struct msock_disco_allocate_request {
  msock_disco_key clients[2]; /* ascending when sent; not checked on read */
  uint32_t generation;
} msock_disco_allocate_request;

/* p is [type:1][version:1][client:32][client:32][generation:4]. PEER: trailing bytes. STRICT: as
 * call-me-maybe-via for version and zero keys. */
msock_err msock_disco_decode_allocate_request(const uint8_t *p, size_t len,
                                              msock_disco_allocate_request *out);
/* 70 bytes. MSOCK_ERR_INVALID for a zero key. */
ptrdiff_t msock_disco_encode_allocate_request(const msock_disco_allocate_request *m, uint8_t *dst,
                                              size_t cap);

typedef struct msock_disco_allocate_response {
  uint32_t generation; /* of the request */
  msock_disco_relay_endpoint relay;
} msock_disco_allocate_response;

/* p is [type:1][version:1][generation:4][relay endpoint]; rules of call-me-maybe-via. */
msock_err msock_disco_decode_allocate_response(const uint8_t *p, size_t len,
                                               msock_disco_allocate_response *out);
/* 130 + 18 n bytes. MSOCK_ERR_INVALID as for call-me-maybe-via. */
ptrdiff_t msock_disco_encode_allocate_response(const msock_disco_allocate_response *m, uint8_t *dst,
                                               size_t cap);

#endif
