/* wg/handshake.h: the Noise_IKpsk2 handshake of WireGuard, one message at a time (dataplane.md 3,
 * whitepaper 5.4.1 to 5.4.5). Pure functions: ephemeral, timestamp and indices are arguments, and
 * nothing is committed here. mac1 and mac2 are cookie.h's.
 *
 * All states hold secrets: msock_wipe them when the handshake ends. */
#ifndef MSOCK_WG_HANDSHAKE_H
#define MSOCK_WG_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/key.h"
#include "crypto/noise.h"
#include "wg/messages.h"

/* Our own static key and what follows from it. */
typedef struct msock_wg_identity {
  msock_node_private private_key;
  msock_node_key public_key;
  uint8_t c0[32];          /* HASH(construction) */
  uint8_t h0[32];          /* HASH(c0 | identifier) */
  uint8_t h_responder[32]; /* HASH(h0 | our public): the start of a handshake towards us */
  uint8_t mac1_key[32];    /* of messages to us */
  uint8_t cookie_key[32];  /* of cookie replies that we send */
} msock_wg_identity;

/* A peer's static key and what follows from it. */
typedef struct msock_wg_remote {
  msock_node_key public_key;
  uint8_t h_responder[32];   /* HASH(h0 | its public) */
  uint8_t mac1_key[32];      /* of messages to it */
  uint8_t cookie_key[32];    /* of cookie replies that it sends */
  uint8_t static_static[32]; /* DH(our static, its static), filled at first use */
  bool has_static_static;
} msock_wg_remote;

/* One handshake between its messages. */
typedef struct msock_wg_handshake {
  msock_noise noise;
  uint8_t ephemeral[32];        /* initiator: our private one */
  uint8_t remote_ephemeral[32]; /* responder: the initiator's public one */
  uint32_t local_index;
  uint32_t remote_index;
} msock_wg_handshake;

/* Transport keys, from our side. */
typedef struct msock_wg_keys {
  uint8_t send[32];
  uint8_t recv[32];
} msock_wg_keys;

void msock_wg_identity_init(msock_wg_identity *id, const msock_node_private *key);
void msock_wg_remote_init(msock_wg_remote *r, const msock_wg_identity *id,
                          const msock_node_key *key);

/* ck = C0, h = h_responder, then the initiator's ephemeral is mixed into both. */
void msock_wg_noise_start(msock_noise *n, const msock_wg_identity *id,
                          const uint8_t h_responder[static 32], const uint8_t ephemeral[static 32]);

/* Initiator. Fills hs and m except its macs. ephemeral is the private scalar, taken as it is;
 * timestamp is TAI64N. MSOCK_ERR_AUTH when a shared secret is zero (the peer's key is bad); hs is
 * wiped then. */
msock_err msock_wg_initiation_make(const msock_wg_identity *id, msock_wg_remote *r,
                                   const uint8_t ephemeral[static 32],
                                   const uint8_t timestamp[static MSOCK_WG_TIMESTAMP_LEN],
                                   uint32_t index, msock_wg_handshake *hs, msock_wg_initiation *m);

/* Responder, first half: one DH. Gives the initiator's static key, not yet known to be fresh.
 * MSOCK_ERR_AUTH; hs is wiped then. */
msock_err msock_wg_initiation_open_static(const msock_wg_identity *id, const msock_wg_initiation *m,
                                          msock_wg_handshake *hs, msock_node_key *who);
/* Second half, once the peer is known. MSOCK_ERR_AUTH; hs is wiped then. */
msock_err msock_wg_initiation_open_timestamp(const msock_wg_identity *id, msock_wg_remote *r,
                                             const msock_wg_initiation *m, msock_wg_handshake *hs,
                                             uint8_t timestamp[static MSOCK_WG_TIMESTAMP_LEN]);
/* Responder: fills m except its macs, and the keys; hs is wiped in any case. */
msock_err msock_wg_response_make(msock_wg_handshake *hs, const msock_wg_remote *r,
                                 const uint8_t psk[static 32], const uint8_t ephemeral[static 32],
                                 uint32_t index, msock_wg_response *m, msock_wg_keys *keys);

/* Initiator: opens the response with a copy of hs, which stays as it was on MSOCK_ERR_AUTH (a
 * forged response must not end the wait for the true one); wipe it after MSOCK_OK. */
msock_err msock_wg_response_open(const msock_wg_identity *id, const msock_wg_handshake *hs,
                                 const uint8_t psk[static 32], const msock_wg_response *m,
                                 msock_wg_keys *keys);

/* TAI64N from a stamp, which counts in whitened units so that the clock leaks little: seconds * 64
 * + nanoseconds / 2^24. */
uint64_t msock_wg_stamp_from_wall(uint64_t wall_us);
uint64_t msock_wg_stamp_next(uint64_t stamp); /* the smallest one after it */
void msock_wg_stamp_encode(uint64_t stamp, uint8_t out[static MSOCK_WG_TIMESTAMP_LEN]);

#endif
