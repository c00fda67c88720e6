/* wg/cookie.h: mac1 and mac2, cookies, the load test and the limits per source: what stands between
 * the network and a DH (dataplane.md 5; whitepaper 5.3, 5.4.4, 5.4.7). */
#ifndef MSOCK_WG_COOKIE_H
#define MSOCK_WG_COOKIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "wg/messages.h"
#include "wg/wg.h"

/* mac1 of a whole initiation or response: over all bytes in front of its place. */
void msock_wg_mac1(const uint8_t key[static 32], const uint8_t *msg, size_t len,
                   uint8_t out[static MSOCK_WG_MAC_LEN]);
/* mac2: over all bytes in front of its place, keyed by a cookie. */
void msock_wg_mac2(const uint8_t cookie[static MSOCK_WG_COOKIE_LEN], const uint8_t *msg, size_t len,
                   uint8_t out[static MSOCK_WG_MAC_LEN]);
/* Writes both macs into an encoded message; cookie NULL leaves mac2 zero. */
void msock_wg_macs_write(uint8_t *msg, size_t len, const uint8_t mac1_key[static 32],
                         const uint8_t *cookie);
bool msock_wg_mac1_ok(const uint8_t key[static 32], const uint8_t *msg, size_t len);

/* cookie = MAC(secret, source bytes). */
void msock_wg_cookie_make(const uint8_t secret[static 32], const uint8_t *source, size_t len,
                          uint8_t out[static MSOCK_WG_COOKIE_LEN]);
/* Fills the reply to the message that had this mac1. */
void msock_wg_cookie_seal(const uint8_t cookie_key[static 32],
                          const uint8_t nonce[static MSOCK_WG_NONCE24_LEN],
                          const uint8_t cookie[static MSOCK_WG_COOKIE_LEN],
                          const uint8_t mac1[static MSOCK_WG_MAC_LEN], uint32_t receiver,
                          msock_wg_cookie_reply *out);
/* mac1 is the one last sent. MSOCK_ERR_AUTH; out untouched then. */
msock_err msock_wg_cookie_open(const uint8_t cookie_key[static 32],
                               const uint8_t mac1[static MSOCK_WG_MAC_LEN],
                               const msock_wg_cookie_reply *m,
                               uint8_t out[static MSOCK_WG_COOKIE_LEN]);

#define MSOCK_WG_SOURCE_BYTES_MAX 32u
/* What a cookie is bound to: IPv4 or IPv6 address and port (big endian), or the relay's source key.
 * Returns the length: 6, 18 or 32. */
size_t msock_wg_source_bytes(const msock_wg_source *s,
                             uint8_t out[static MSOCK_WG_SOURCE_BYTES_MAX]);

/* Ours: 512 sources remembered; in a full set of eight the one longest unused is forgotten, which
 * gives it a new burst. Sources here have proved by a cookie that they receive. */
#define MSOCK_WG_BUCKETS 512u
#define MSOCK_WG_BUCKET_WAYS 8u

typedef struct msock_wg_bucket {
  uint8_t source[32]; /* IPv4 address, IPv6 /64 or relay key */
  uint8_t source_len; /* 0: free */
  uint32_t credit_us; /* one message costs 1 s / MSOCK_WG_SOURCE_RATE */
  uint64_t seen_us;
} msock_wg_bucket;

typedef struct msock_wg_guard {
  uint8_t secret[32], previous_secret[32];
  uint64_t secret_us;          /* when secret was drawn; MSOCK_NEVER: none yet */
  uint64_t previous_secret_us; /* the same of the previous one */
  uint64_t window_us;          /* the second that is being counted */
  uint32_t window_count;
  uint32_t limit;       /* handshake messages per second without load */
  uint64_t load_end_us; /* under load before this time */
  uint8_t seed[32];     /* hash key of the buckets */
  msock_wg_bucket buckets[MSOCK_WG_BUCKETS];
} msock_wg_guard;

void msock_wg_guard_init(msock_wg_guard *g, const msock_env *env, uint32_t limit);
/* Counts one message with a good mac1 while `waiting` others are queued; true: under load. */
bool msock_wg_guard_observe(msock_wg_guard *g, uint64_t now_us, uint32_t waiting);
bool msock_wg_guard_loaded(const msock_wg_guard *g, uint64_t now_us);
/* mac2 by the current secret or by the previous one, until 240 s after that was drawn. */
bool msock_wg_guard_mac2_ok(msock_wg_guard *g, const msock_env *env, uint64_t now_us,
                            const msock_wg_source *source, const uint8_t *msg, size_t len);
/* The cookie that this source gets now. */
void msock_wg_guard_cookie(msock_wg_guard *g, const msock_env *env, uint64_t now_us,
                           const msock_wg_source *source, uint8_t out[static MSOCK_WG_COOKIE_LEN]);
/* Takes a token of the source: 20 a second, 5 at once. */
bool msock_wg_guard_allow(msock_wg_guard *g, uint64_t now_us, const msock_wg_source *source);

#endif
