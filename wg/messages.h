/* wg/messages.h: the wire format of WireGuard and every constant of the protocol.
 *
 * Four messages (dataplane.md 2; WireGuard whitepaper 5.4). Integers are little endian; the length
 * is exact except for transport:
 *   1 initiation  148  [type:1][0:3][sender:4][ephemeral:32][enc_static:48][enc_timestamp:28]
 *                      [mac1:16][mac2:16]
 *   2 response     92  [type:1][0:3][sender:4][receiver:4][ephemeral:32][enc_empty:16][mac1:16]
 *                      [mac2:16]
 *   3 cookie reply 64  [type:1][0:3][receiver:4][nonce:24][enc_cookie:32]
 *   4 transport  >=32  [type:1][0:3][receiver:4][counter:8][ciphertext:*][tag:16]
 * Decoders copy; nothing here has been authenticated. */
#ifndef MSOCK_WG_MESSAGES_H
#define MSOCK_WG_MESSAGES_H

#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"

enum {
  MSOCK_WG_TYPE_INITIATION = 1,
  MSOCK_WG_TYPE_RESPONSE = 2,
  MSOCK_WG_TYPE_COOKIE = 3,
  MSOCK_WG_TYPE_TRANSPORT = 4
};

#define MSOCK_WG_INITIATION_LEN 148u
#define MSOCK_WG_RESPONSE_LEN 92u
#define MSOCK_WG_COOKIE_REPLY_LEN 64u
#define MSOCK_WG_TRANSPORT_MIN 32u
#define MSOCK_WG_MAC_LEN 16u
#define MSOCK_WG_MACS_LEN 32u /* mac1 and mac2 end both handshake messages */
#define MSOCK_WG_TIMESTAMP_LEN 12u
#define MSOCK_WG_NONCE24_LEN 24u
#define MSOCK_WG_COOKIE_LEN 16u

/* Timers and limits: dataplane.md 4, whitepaper 6.1 unless said otherwise. */
#define MSOCK_WG_REKEY_AFTER_MESSAGES (UINT64_C(1) << 60)
#define MSOCK_WG_REJECT_AFTER_MESSAGES (UINT64_MAX - (UINT64_C(1) << 13)) /* 2^64 - 2^13 - 1 */
#define MSOCK_WG_REKEY_AFTER_TIME_US (120 * MSOCK_SEC)
#define MSOCK_WG_REJECT_AFTER_TIME_US (180 * MSOCK_SEC)
#define MSOCK_WG_REKEY_ATTEMPT_TIME_US (90 * MSOCK_SEC)
#define MSOCK_WG_REKEY_TIMEOUT_US (5 * MSOCK_SEC)
#define MSOCK_WG_JITTER_MAX_US (333 * MSOCK_MS)
#define MSOCK_WG_KEEPALIVE_TIMEOUT_US (10 * MSOCK_SEC)
#define MSOCK_WG_LAST_MINUTE_REKEY_US                                                              \
  (MSOCK_WG_REJECT_AFTER_TIME_US - MSOCK_WG_KEEPALIVE_TIMEOUT_US - MSOCK_WG_REKEY_TIMEOUT_US)
#define MSOCK_WG_STOP_HEARING_US (MSOCK_WG_KEEPALIVE_TIMEOUT_US + MSOCK_WG_REKEY_TIMEOUT_US)
#define MSOCK_WG_ERASE_AFTER_US (3 * MSOCK_WG_REJECT_AFTER_TIME_US)
#define MSOCK_WG_STALLED_US (5 * MSOCK_SEC)        /* dataplane.md 6: then the relay is tried */
#define MSOCK_WG_KICK_GAP_US (250 * MSOCK_MS)      /* ours: path news may come in bursts */
#define MSOCK_WG_INITIATION_GAP_US (20 * MSOCK_MS) /* dataplane.md 3: accepted, per peer */
#define MSOCK_WG_COOKIE_LIFETIME_US (120 * MSOCK_SEC)
#define MSOCK_WG_PADDING 16u
#define MSOCK_WG_STAGED_PER_PEER 128u
#define MSOCK_WG_REPLAY_WINDOW 8128u /* 127 * 64: a ring of 128 words, RFC 6479 */
/* Under load: dataplane.md 5. */
#define MSOCK_WG_QUEUE_LEN 128u
#define MSOCK_WG_QUEUE_LOADED (MSOCK_WG_QUEUE_LEN / 8)
#define MSOCK_WG_LOAD_WINDOW_US MSOCK_SEC
#define MSOCK_WG_LOAD_STICKY_US MSOCK_SEC
#define MSOCK_WG_SOURCE_RATE 20u /* handshakes per second and source */
#define MSOCK_WG_SOURCE_BURST 5u
#define MSOCK_WG_DH_BUDGET 8u         /* messages that cost a DH, between two data batches */
#define MSOCK_WG_COOKIE_QUEUE_LEN 64u /* ours: replies waiting to be polled */
#define MSOCK_WG_HINT_QUEUE_LEN 64u   /* ours: eight calls of msock_wg_open without polling */

typedef struct msock_wg_initiation {
  uint32_t sender;
  uint8_t ephemeral[32];
  uint8_t enc_static[48];
  uint8_t enc_timestamp[28];
  uint8_t mac1[MSOCK_WG_MAC_LEN];
  uint8_t mac2[MSOCK_WG_MAC_LEN];
} msock_wg_initiation;

typedef struct msock_wg_response {
  uint32_t sender;
  uint32_t receiver;
  uint8_t ephemeral[32];
  uint8_t enc_empty[16];
  uint8_t mac1[MSOCK_WG_MAC_LEN];
  uint8_t mac2[MSOCK_WG_MAC_LEN];
} msock_wg_response;

typedef struct msock_wg_cookie_reply {
  uint32_t receiver;
  uint8_t nonce[MSOCK_WG_NONCE24_LEN];
  uint8_t enc_cookie[32];
} msock_wg_cookie_reply;

typedef struct msock_wg_transport {
  uint32_t receiver;
  uint64_t counter; /* the ciphertext and tag follow at MSOCK_WG_HEADER_LEN */
} msock_wg_transport;

/* The type 1..4 of a datagram whose type, three zero bytes and length are right; 0 otherwise
 * (WG-04). Every decoder below wants a message of its type. */
uint8_t msock_wg_message_type(const uint8_t *p, size_t len);

/* MSOCK_ERR_INVALID unless msock_wg_message_type gives their type; out untouched then. */
msock_err msock_wg_initiation_decode(const uint8_t *p, size_t len, msock_wg_initiation *out);
msock_err msock_wg_response_decode(const uint8_t *p, size_t len, msock_wg_response *out);
msock_err msock_wg_cookie_reply_decode(const uint8_t *p, size_t len, msock_wg_cookie_reply *out);
msock_err msock_wg_transport_decode(const uint8_t *p, size_t len, msock_wg_transport *out);

void msock_wg_initiation_encode(const msock_wg_initiation *m,
                                uint8_t dst[static MSOCK_WG_INITIATION_LEN]);
void msock_wg_response_encode(const msock_wg_response *m,
                              uint8_t dst[static MSOCK_WG_RESPONSE_LEN]);
void msock_wg_cookie_reply_encode(const msock_wg_cookie_reply *m,
                                  uint8_t dst[static MSOCK_WG_COOKIE_REPLY_LEN]);
/* The 16 bytes in front of the ciphertext. */
void msock_wg_transport_encode(const msock_wg_transport *m, uint8_t dst[static 16]);

#endif
