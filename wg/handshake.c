#include "wg/handshake.h"

#include <string.h>

#include "base/cursor.h"
#include "crypto/blake2s.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"

static const char construction[] = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
static const char identifier[] = "WireGuard v1 zx2c4 Jason@zx2c4.com"; /* without its NUL */
static const char label_mac1[] = "mac1----";
static const char label_cookie[] = "cookie--";

/* TAI64 of 1970-01-01: 2^62 + 10 leap seconds. */
#define TAI64_EPOCH UINT64_C(0x400000000000000a)
#define STAMP_NANOS_SHIFT 24u /* low bits of the nanoseconds that are cleared */
#define STAMP_UNITS_BITS 6u   /* 10^9 >> 24 = 59 fits */
#define STAMP_UNIT_LAST 59u

static void hash2(uint8_t out[static 32], const void *a, size_t a_len, const void *b,
                  size_t b_len) {
  msock_blake2s(out, (const msock_bytes[]){{a, a_len}, {b, b_len}}, 2);
}

static void keys_of(const uint8_t h0[static 32], const msock_node_key *key, uint8_t h[static 32],
                    uint8_t mac1[static 32], uint8_t cookie[static 32]) {
  hash2(h, h0, 32, key->b, sizeof key->b);
  hash2(mac1, label_mac1, sizeof label_mac1 - 1, key->b, sizeof key->b);
  hash2(cookie, label_cookie, sizeof label_cookie - 1, key->b, sizeof key->b);
}

void msock_wg_identity_init(msock_wg_identity *id, const msock_node_private *key) {
  id->private_key = *key;
  id->public_key = msock_node_private_public(key);
  msock_blake2s(id->c0, &(msock_bytes){construction, sizeof construction - 1}, 1);
  hash2(id->h0, id->c0, sizeof id->c0, identifier, sizeof identifier - 1);
  keys_of(id->h0, &id->public_key, id->h_responder, id->mac1_key, id->cookie_key);
}

void msock_wg_remote_init(msock_wg_remote *r, const msock_wg_identity *id,
                          const msock_node_key *key) {
  memset(r, 0, sizeof *r);
  r->public_key = *key;
  keys_of(id->h0, key, r->h_responder, r->mac1_key, r->cookie_key);
}

void msock_wg_noise_start(msock_noise *n, const msock_wg_identity *id,
                          const uint8_t h_responder[static 32],
                          const uint8_t ephemeral[static 32]) {
  memcpy(n->ck, id->c0, sizeof n->ck);
  memcpy(n->h, h_responder, sizeof n->h);
  memset(n->k, 0, sizeof n->k);
  msock_noise_mix_hash(n, ephemeral, 32);
  msock_noise_mix_chain(n, ephemeral, 32);
}

/* (ck, k) = KDF2(ck, DH(s, s)), the product kept for the life of the remote. */
static msock_err mix_static_static(const msock_wg_identity *id, msock_wg_remote *r,
                                   msock_noise *n) {
  if (!r->has_static_static) {
    const msock_err e = msock_x25519(r->static_static, id->private_key.b, r->public_key.b);
    if (e != MSOCK_OK) {
      return e;
    }
    r->has_static_static = true;
  }
  msock_noise_mix_key(n, r->static_static, sizeof r->static_static);
  return MSOCK_OK;
}

msock_err msock_wg_initiation_make(const msock_wg_identity *id, msock_wg_remote *r,
                                   const uint8_t ephemeral[static 32],
                                   const uint8_t timestamp[static MSOCK_WG_TIMESTAMP_LEN],
                                   uint32_t index, msock_wg_handshake *hs, msock_wg_initiation *m) {
  memset(hs, 0, sizeof *hs);
  memset(m, 0, sizeof *m);
  m->sender = index;
  hs->local_index = index;
  memcpy(hs->ephemeral, ephemeral, sizeof hs->ephemeral);
  msock_x25519_public(m->ephemeral, ephemeral);
  msock_wg_noise_start(&hs->noise, id, r->h_responder, m->ephemeral);

  msock_err e = msock_noise_mix_dh(&hs->noise, ephemeral, r->public_key.b);
  if (e == MSOCK_OK) {
    msock_noise_seal(&hs->noise, id->public_key.b, sizeof id->public_key.b, m->enc_static);
    e = mix_static_static(id, r, &hs->noise);
  }
  if (e != MSOCK_OK) {
    msock_wipe(hs, sizeof *hs);
    return e;
  }
  msock_noise_seal(&hs->noise, timestamp, MSOCK_WG_TIMESTAMP_LEN, m->enc_timestamp);
  return MSOCK_OK;
}

msock_err msock_wg_initiation_open_static(const msock_wg_identity *id, const msock_wg_initiation *m,
                                          msock_wg_handshake *hs, msock_node_key *who) {
  memset(hs, 0, sizeof *hs);
  hs->remote_index = m->sender;
  memcpy(hs->remote_ephemeral, m->ephemeral, sizeof hs->remote_ephemeral);
  msock_wg_noise_start(&hs->noise, id, id->h_responder, m->ephemeral);

  msock_err e = msock_noise_mix_dh(&hs->noise, id->private_key.b, m->ephemeral);
  if (e == MSOCK_OK) {
    e = msock_noise_open(&hs->noise, m->enc_static, sizeof m->enc_static, who->b);
  }
  if (e != MSOCK_OK) {
    msock_wipe(hs, sizeof *hs);
  }
  return e;
}

msock_err msock_wg_initiation_open_timestamp(const msock_wg_identity *id, msock_wg_remote *r,
                                             const msock_wg_initiation *m, msock_wg_handshake *hs,
                                             uint8_t timestamp[static MSOCK_WG_TIMESTAMP_LEN]) {
  msock_err e = mix_static_static(id, r, &hs->noise);
  if (e == MSOCK_OK) {
    e = msock_noise_open(&hs->noise, m->enc_timestamp, sizeof m->enc_timestamp, timestamp);
  }
  if (e != MSOCK_OK) {
    msock_wipe(hs, sizeof *hs);
  }
  return e;
}

msock_err msock_wg_response_make(msock_wg_handshake *hs, const msock_wg_remote *r,
                                 const uint8_t psk[static 32], const uint8_t ephemeral[static 32],
                                 uint32_t index, msock_wg_response *m, msock_wg_keys *keys) {
  msock_noise *n = &hs->noise;

  memset(m, 0, sizeof *m);
  m->sender = index;
  m->receiver = hs->remote_index;
  msock_x25519_public(m->ephemeral, ephemeral);
  msock_noise_mix_hash(n, m->ephemeral, sizeof m->ephemeral);
  msock_noise_mix_chain(n, m->ephemeral, sizeof m->ephemeral);
  msock_err e = msock_noise_mix_dh_chain(n, ephemeral, hs->remote_ephemeral);
  if (e == MSOCK_OK) {
    e = msock_noise_mix_dh_chain(n, ephemeral, r->public_key.b);
  }
  if (e == MSOCK_OK) {
    msock_noise_mix_psk(n, psk);
    msock_noise_seal(n, (const uint8_t *)"", 0, m->enc_empty);
    msock_noise_split(n, keys->recv, keys->send);
  }
  msock_wipe(hs, sizeof *hs);
  return e;
}

msock_err msock_wg_response_open(const msock_wg_identity *id, const msock_wg_handshake *hs,
                                 const uint8_t psk[static 32], const msock_wg_response *m,
                                 msock_wg_keys *keys) {
  msock_noise n = hs->noise;
  uint8_t nothing[1];

  msock_noise_mix_hash(&n, m->ephemeral, sizeof m->ephemeral);
  msock_noise_mix_chain(&n, m->ephemeral, sizeof m->ephemeral);
  msock_err e = msock_noise_mix_dh_chain(&n, hs->ephemeral, m->ephemeral);
  if (e == MSOCK_OK) {
    e = msock_noise_mix_dh_chain(&n, id->private_key.b, m->ephemeral);
  }
  if (e == MSOCK_OK) {
    msock_noise_mix_psk(&n, psk);
    e = msock_noise_open(&n, m->enc_empty, sizeof m->enc_empty, nothing);
  }
  if (e == MSOCK_OK) {
    msock_noise_split(&n, keys->send, keys->recv);
  }
  msock_wipe(&n, sizeof n);
  return e;
}

uint64_t msock_wg_stamp_from_wall(uint64_t wall_us) {
  const uint64_t nanos = wall_us % MSOCK_SEC * 1000u;
  return (wall_us / MSOCK_SEC) << STAMP_UNITS_BITS | nanos >> STAMP_NANOS_SHIFT;
}

uint64_t msock_wg_stamp_next(uint64_t stamp) {
  const uint64_t mask = (UINT64_C(1) << STAMP_UNITS_BITS) - 1;
  return (stamp & mask) >= STAMP_UNIT_LAST ? (stamp | mask) + 1 : stamp + 1;
}

void msock_wg_stamp_encode(uint64_t stamp, uint8_t out[static MSOCK_WG_TIMESTAMP_LEN]) {
  const uint64_t mask = (UINT64_C(1) << STAMP_UNITS_BITS) - 1;
  msock_writer w = msock_writer_init(out, MSOCK_WG_TIMESTAMP_LEN);
  msock_write_be64(&w, TAI64_EPOCH + (stamp >> STAMP_UNITS_BITS));
  msock_write_be32(&w, (uint32_t)((stamp & mask) << STAMP_NANOS_SHIFT));
}
