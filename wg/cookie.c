#include "wg/cookie.h"

#include <string.h>

#include "crypto/aead.h"
#include "crypto/blake2s.h"
#include "crypto/wipe.h"

#define TOKEN_US ((uint32_t)(MSOCK_SEC / MSOCK_WG_SOURCE_RATE))
#define CREDIT_MAX_US (TOKEN_US * MSOCK_WG_SOURCE_BURST)

void msock_wg_mac1(const uint8_t key[static 32], const uint8_t *msg, size_t len,
                   uint8_t out[static MSOCK_WG_MAC_LEN]) {
  msock_blake2s_mac16(out, key, 32, &(msock_bytes){msg, len - MSOCK_WG_MACS_LEN}, 1);
}

void msock_wg_mac2(const uint8_t cookie[static MSOCK_WG_COOKIE_LEN], const uint8_t *msg, size_t len,
                   uint8_t out[static MSOCK_WG_MAC_LEN]) {
  msock_blake2s_mac16(out, cookie, MSOCK_WG_COOKIE_LEN, &(msock_bytes){msg, len - MSOCK_WG_MAC_LEN},
                      1);
}

void msock_wg_macs_write(uint8_t *msg, size_t len, const uint8_t mac1_key[static 32],
                         const uint8_t *cookie) {
  uint8_t *mac2 = msg + len - MSOCK_WG_MAC_LEN;

  msock_wg_mac1(mac1_key, msg, len, msg + len - MSOCK_WG_MACS_LEN);
  if (cookie != NULL) {
    msock_wg_mac2(cookie, msg, len, mac2);
  } else {
    memset(mac2, 0, MSOCK_WG_MAC_LEN);
  }
}

bool msock_wg_mac1_ok(const uint8_t key[static 32], const uint8_t *msg, size_t len) {
  uint8_t want[MSOCK_WG_MAC_LEN];
  msock_wg_mac1(key, msg, len, want);
  return msock_ct_equal(want, msg + len - MSOCK_WG_MACS_LEN, sizeof want);
}

void msock_wg_cookie_make(const uint8_t secret[static 32], const uint8_t *source, size_t len,
                          uint8_t out[static MSOCK_WG_COOKIE_LEN]) {
  msock_blake2s_mac16(out, secret, 32, &(msock_bytes){source, len}, 1);
}

void msock_wg_cookie_seal(const uint8_t cookie_key[static 32],
                          const uint8_t nonce[static MSOCK_WG_NONCE24_LEN],
                          const uint8_t cookie[static MSOCK_WG_COOKIE_LEN],
                          const uint8_t mac1[static MSOCK_WG_MAC_LEN], uint32_t receiver,
                          msock_wg_cookie_reply *out) {
  out->receiver = receiver;
  memcpy(out->nonce, nonce, sizeof out->nonce);
  msock_aead_get()->xseal(out->enc_cookie, cookie, MSOCK_WG_COOKIE_LEN, mac1, MSOCK_WG_MAC_LEN,
                          nonce, cookie_key);
}

msock_err msock_wg_cookie_open(const uint8_t cookie_key[static 32],
                               const uint8_t mac1[static MSOCK_WG_MAC_LEN],
                               const msock_wg_cookie_reply *m,
                               uint8_t out[static MSOCK_WG_COOKIE_LEN]) {
  uint8_t cookie[MSOCK_WG_COOKIE_LEN];
  if (!msock_aead_get()->xopen(cookie, m->enc_cookie, sizeof m->enc_cookie, mac1, MSOCK_WG_MAC_LEN,
                               m->nonce, cookie_key)) {
    return MSOCK_ERR_AUTH;
  }
  memcpy(out, cookie, sizeof cookie);
  msock_wipe(cookie, sizeof cookie);
  return MSOCK_OK;
}

size_t msock_wg_source_bytes(const msock_wg_source *s,
                             uint8_t out[static MSOCK_WG_SOURCE_BYTES_MAX]) {
  if (s->by_relay) {
    memcpy(out, s->relay.b, sizeof s->relay.b);
    return sizeof s->relay.b;
  }
  const msock_ip ip = msock_ip_unmap(s->addr.ip);
  const size_t n = ip.family == 4 ? 4 : 16;
  memcpy(out, ip.b, n);
  out[n] = (uint8_t)(s->addr.port >> 8);
  out[n + 1] = (uint8_t)s->addr.port;
  return n + 2;
}

void msock_wg_guard_init(msock_wg_guard *g, const msock_env *env, uint32_t limit) {
  memset(g, 0, sizeof *g);
  g->secret_us = MSOCK_NEVER;
  g->previous_secret_us = MSOCK_NEVER;
  g->limit = limit;
  env->random(env->ctx, g->seed, sizeof g->seed);
}

bool msock_wg_guard_loaded(const msock_wg_guard *g, uint64_t now_us) {
  return now_us < g->load_end_us;
}

bool msock_wg_guard_observe(msock_wg_guard *g, uint64_t now_us, uint32_t waiting) {
  if (now_us - g->window_us >= MSOCK_WG_LOAD_WINDOW_US) {
    g->window_us = now_us;
    g->window_count = 0;
  }
  g->window_count++;
  if (g->window_count > g->limit || waiting > MSOCK_WG_QUEUE_LOADED) {
    g->load_end_us = now_us + MSOCK_WG_LOAD_STICKY_US;
  }
  return msock_wg_guard_loaded(g, now_us);
}

/* Drawn lazily: without load no secret exists. The previous one lives only as long as the youngest
 * cookie that it could have made. */
static void rotate(msock_wg_guard *g, const msock_env *env, uint64_t now_us) {
  const uint64_t end = 2 * MSOCK_WG_COOKIE_LIFETIME_US;

  if (g->secret_us == MSOCK_NEVER || now_us - g->secret_us >= MSOCK_WG_COOKIE_LIFETIME_US) {
    memcpy(g->previous_secret, g->secret, sizeof g->previous_secret);
    g->previous_secret_us = g->secret_us;
    env->random(env->ctx, g->secret, sizeof g->secret);
    g->secret_us = now_us;
  }
  if (g->previous_secret_us != MSOCK_NEVER && now_us - g->previous_secret_us >= end) {
    msock_wipe(g->previous_secret, sizeof g->previous_secret);
    g->previous_secret_us = MSOCK_NEVER;
  }
}

void msock_wg_guard_cookie(msock_wg_guard *g, const msock_env *env, uint64_t now_us,
                           const msock_wg_source *source, uint8_t out[static MSOCK_WG_COOKIE_LEN]) {
  uint8_t bytes[MSOCK_WG_SOURCE_BYTES_MAX];
  rotate(g, env, now_us);
  msock_wg_cookie_make(g->secret, bytes, msock_wg_source_bytes(source, bytes), out);
}

bool msock_wg_guard_mac2_ok(msock_wg_guard *g, const msock_env *env, uint64_t now_us,
                            const msock_wg_source *source, const uint8_t *msg, size_t len) {
  uint8_t bytes[MSOCK_WG_SOURCE_BYTES_MAX];
  uint8_t cookie[MSOCK_WG_COOKIE_LEN];
  uint8_t want[MSOCK_WG_MAC_LEN];
  const uint8_t *got = msg + len - MSOCK_WG_MAC_LEN;
  const size_t n = msock_wg_source_bytes(source, bytes);

  rotate(g, env, now_us);
  msock_wg_cookie_make(g->secret, bytes, n, cookie);
  msock_wg_mac2(cookie, msg, len, want);
  if (msock_ct_equal(want, got, sizeof want)) {
    return true;
  }
  if (g->previous_secret_us == MSOCK_NEVER) {
    return false;
  }
  msock_wg_cookie_make(g->previous_secret, bytes, n, cookie);
  msock_wg_mac2(cookie, msg, len, want);
  return msock_ct_equal(want, got, sizeof want);
}

/* Whom the limit counts: IPv4 address, IPv6 /64, relay source key. */
static uint8_t limit_key(const msock_wg_source *s, uint8_t out[static 32]) {
  memset(out, 0, 32);
  if (s->by_relay) {
    memcpy(out, s->relay.b, sizeof s->relay.b);
    return sizeof s->relay.b;
  }
  const msock_ip ip = msock_ip_unmap(s->addr.ip);
  const uint8_t n = ip.family == 4 ? 4 : 8;
  memcpy(out, ip.b, n);
  return n;
}

static msock_wg_bucket *bucket_of(msock_wg_guard *g, uint64_t now_us, const uint8_t key[static 32],
                                  uint8_t len) {
  uint8_t hash[16];
  msock_blake2s_mac16(hash, g->seed, sizeof g->seed, &(msock_bytes){key, len}, 1);
  const uint32_t sets = MSOCK_WG_BUCKETS / MSOCK_WG_BUCKET_WAYS;
  const uint32_t set = ((uint32_t)hash[0] | (uint32_t)hash[1] << 8) % sets;
  msock_wg_bucket *b = &g->buckets[set * MSOCK_WG_BUCKET_WAYS];
  msock_wg_bucket *oldest = b;

  for (uint32_t i = 0; i < MSOCK_WG_BUCKET_WAYS; i++) {
    if (b[i].source_len == len && memcmp(b[i].source, key, len) == 0) {
      return &b[i];
    }
    if (oldest->source_len != 0 && (b[i].source_len == 0 || b[i].seen_us < oldest->seen_us)) {
      oldest = &b[i];
    }
  }
  memcpy(oldest->source, key, 32);
  oldest->source_len = len;
  oldest->credit_us = CREDIT_MAX_US;
  oldest->seen_us = now_us;
  return oldest;
}

bool msock_wg_guard_allow(msock_wg_guard *g, uint64_t now_us, const msock_wg_source *source) {
  uint8_t key[32];
  const uint8_t len = limit_key(source, key);
  msock_wg_bucket *b = bucket_of(g, now_us, key, len);
  const uint64_t credit = b->credit_us + (now_us - b->seen_us);

  b->credit_us = credit < CREDIT_MAX_US ? (uint32_t)credit : CREDIT_MAX_US;
  b->seen_us = now_us;
  if (b->credit_us < TOKEN_US) {
    return false;
  }
  b->credit_us -= TOKEN_US;
  return true;
}
