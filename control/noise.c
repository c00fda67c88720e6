#include "control/noise.h"

#include <stdio.h>
#include <string.h>

#include "crypto/aead.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"

#define NOISE_NAME "Noise_IK_25519_ChaChaPoly_BLAKE2s"
#define PROLOGUE_PREFIX "Tailscale Control Protocol v"
#define INITIATION_PAYLOAD 96u
#define RESPONSE_PAYLOAD 48u

/* Offsets: control.md 2.4. */
#define INIT_VERSION 0u
#define INIT_TYPE 2u
#define INIT_LEN 3u
#define INIT_EPHEMERAL 5u
#define INIT_STATIC 37u
#define INIT_TAG 85u
#define RESP_EPHEMERAL 3u
#define RESP_TAG 35u
#define SEALED_STATIC_LEN 48u

static uint16_t be16(const uint8_t *p) {
  return (uint16_t)(p[0] << 8 | p[1]);
}

static void put_be16(uint8_t *p, uint16_t v) {
  p[0] = (uint8_t)(v >> 8);
  p[1] = (uint8_t)v;
}

static void start(msock_noise *n, uint16_t version, const uint8_t server_public[static 32]) {
  char prologue[sizeof PROLOGUE_PREFIX + 8];
  const int len = snprintf(prologue, sizeof prologue, PROLOGUE_PREFIX "%u", (unsigned)version);
  msock_noise_init(n, NOISE_NAME);
  msock_noise_mix_hash(n, (const uint8_t *)prologue, (size_t)len);
  msock_noise_mix_hash(n, server_public, 32);
}

static void split(msock_noise *n, bool initiator, msock_control_records *out) {
  memset(out, 0, sizeof *out);
  if (initiator) {
    msock_noise_split(n, out->tx_key, out->rx_key);
  } else {
    msock_noise_split(n, out->rx_key, out->tx_key);
  }
  memcpy(out->hash, n->h, sizeof out->hash);
}

void msock_control_records_wipe(msock_control_records *r) {
  msock_wipe(r, sizeof *r);
  r->poisoned = true;
}

void msock_control_initiator_wipe(msock_control_initiator *hs) {
  msock_wipe(hs, sizeof *hs);
}

msock_err msock_control_initiate(msock_control_initiator *hs, uint16_t version,
                                 const msock_machine_private *machine,
                                 const msock_machine_key *server,
                                 const uint8_t ephemeral[static 32],
                                 uint8_t out[static MSOCK_CONTROL_INITIATION_LEN]) {
  msock_machine_key machine_public = msock_machine_private_public(machine);

  memcpy(hs->machine, machine->b, sizeof hs->machine);
  memcpy(hs->ephemeral, ephemeral, sizeof hs->ephemeral);
  start(&hs->noise, version, server->b);
  put_be16(out + INIT_VERSION, version);
  out[INIT_TYPE] = MSOCK_CONTROL_MSG_INITIATION;
  put_be16(out + INIT_LEN, INITIATION_PAYLOAD);

  msock_x25519_public(out + INIT_EPHEMERAL, ephemeral);
  msock_noise_mix_hash(&hs->noise, out + INIT_EPHEMERAL, 32);
  if (msock_noise_mix_dh(&hs->noise, hs->ephemeral, server->b) != MSOCK_OK) {
    msock_control_initiator_wipe(hs);
    return MSOCK_ERR_AUTH;
  }
  msock_noise_seal(&hs->noise, machine_public.b, sizeof machine_public.b, out + INIT_STATIC);
  if (msock_noise_mix_dh(&hs->noise, hs->machine, server->b) != MSOCK_OK) {
    msock_control_initiator_wipe(hs);
    return MSOCK_ERR_AUTH;
  }
  msock_noise_seal(&hs->noise, (const uint8_t *)"", 0, out + INIT_TAG);
  return MSOCK_OK;
}

msock_err msock_control_initiator_finish(msock_control_initiator *hs,
                                         const uint8_t msg[static MSOCK_CONTROL_RESPONSE_LEN],
                                         msock_control_records *records) {
  uint8_t nothing[1];
  msock_err err = MSOCK_ERR_INVALID;

  if (msg[0] != MSOCK_CONTROL_MSG_RESPONSE || be16(msg + 1) != RESPONSE_PAYLOAD) {
    goto out;
  }
  msock_noise_mix_hash(&hs->noise, msg + RESP_EPHEMERAL, 32);
  err = msock_noise_mix_dh(&hs->noise, hs->ephemeral, msg + RESP_EPHEMERAL);
  if (err == MSOCK_OK) {
    err = msock_noise_mix_dh(&hs->noise, hs->machine, msg + RESP_EPHEMERAL);
  }
  if (err == MSOCK_OK) {
    err = msock_noise_open(&hs->noise, msg + RESP_TAG, MSOCK_AEAD_TAG_LEN, nothing);
  }
  if (err == MSOCK_OK) {
    split(&hs->noise, true, records);
  }
out:
  msock_control_initiator_wipe(hs);
  return err;
}

msock_err msock_control_respond(const msock_machine_private *server,
                                const uint8_t ephemeral[static 32],
                                const uint8_t msg[static MSOCK_CONTROL_INITIATION_LEN],
                                uint8_t out[static MSOCK_CONTROL_RESPONSE_LEN], uint16_t *version,
                                msock_machine_key *client, msock_control_records *records) {
  const msock_machine_key server_public = msock_machine_private_public(server);
  const uint16_t claimed = be16(msg + INIT_VERSION);
  uint8_t reply[MSOCK_CONTROL_RESPONSE_LEN];
  msock_machine_key peer;
  msock_noise n;
  uint8_t nothing[1];
  msock_err err = MSOCK_ERR_AUTH;

  if (msg[INIT_TYPE] != MSOCK_CONTROL_MSG_INITIATION ||
      be16(msg + INIT_LEN) != INITIATION_PAYLOAD || claimed == 0) {
    return MSOCK_ERR_INVALID;
  }
  start(&n, claimed, server_public.b);
  msock_noise_mix_hash(&n, msg + INIT_EPHEMERAL, 32);
  if (msock_noise_mix_dh(&n, server->b, msg + INIT_EPHEMERAL) != MSOCK_OK ||
      msock_noise_open(&n, msg + INIT_STATIC, SEALED_STATIC_LEN, peer.b) != MSOCK_OK ||
      msock_noise_mix_dh(&n, server->b, peer.b) != MSOCK_OK ||
      msock_noise_open(&n, msg + INIT_TAG, MSOCK_AEAD_TAG_LEN, nothing) != MSOCK_OK) {
    goto out;
  }
  reply[0] = MSOCK_CONTROL_MSG_RESPONSE;
  put_be16(reply + 1, RESPONSE_PAYLOAD);
  msock_x25519_public(reply + RESP_EPHEMERAL, ephemeral);
  msock_noise_mix_hash(&n, reply + RESP_EPHEMERAL, 32);
  if (msock_noise_mix_dh(&n, ephemeral, msg + INIT_EPHEMERAL) != MSOCK_OK ||
      msock_noise_mix_dh(&n, ephemeral, peer.b) != MSOCK_OK) {
    goto out;
  }
  msock_noise_seal(&n, (const uint8_t *)"", 0, reply + RESP_TAG);
  split(&n, false, records);
  memcpy(out, reply, sizeof reply);
  *version = claimed;
  *client = peer;
  err = MSOCK_OK;
out:
  msock_wipe(&n, sizeof n);
  return err;
}

void msock_control_nonce(uint64_t n, uint8_t out[static 12]) {
  memset(out, 0, 4);
  for (int i = 0; i < 8; i++) {
    out[4 + i] = (uint8_t)(n >> (56 - 8 * i));
  }
}

ptrdiff_t msock_control_record_seal(msock_control_records *r, const uint8_t *src, size_t len,
                                    uint8_t *dst) {
  uint8_t nonce[12];
  if (r->poisoned || r->tx_n == UINT64_MAX || len > MSOCK_CONTROL_PLAIN_MAX) {
    r->poisoned = true;
    return MSOCK_ERR_CLOSED;
  }
  msock_control_nonce(r->tx_n, nonce);
  dst[0] = MSOCK_CONTROL_MSG_RECORD;
  put_be16(dst + 1, (uint16_t)(len + MSOCK_AEAD_TAG_LEN));
  msock_aead_get()->seal(dst + MSOCK_CONTROL_MSG_HEADER_LEN, src, len, NULL, 0, nonce, r->tx_key);
  r->tx_n++;
  return (ptrdiff_t)(MSOCK_CONTROL_MSG_HEADER_LEN + len + MSOCK_AEAD_TAG_LEN);
}

ptrdiff_t msock_control_record_size(msock_control_records *r,
                                    const uint8_t head[static MSOCK_CONTROL_MSG_HEADER_LEN]) {
  const size_t len = be16(head + 1);
  if (r->poisoned) {
    return MSOCK_ERR_CLOSED;
  }
  if (head[0] != MSOCK_CONTROL_MSG_RECORD || len < MSOCK_AEAD_TAG_LEN ||
      len > MSOCK_CONTROL_FRAME_MAX - MSOCK_CONTROL_MSG_HEADER_LEN) {
    r->poisoned = true;
    return MSOCK_ERR_INVALID;
  }
  return (ptrdiff_t)(MSOCK_CONTROL_MSG_HEADER_LEN + len);
}

ptrdiff_t msock_control_record_open(msock_control_records *r, const uint8_t *frame,
                                    size_t frame_len, uint8_t *dst) {
  uint8_t nonce[12];
  if (r->poisoned || r->rx_n == UINT64_MAX ||
      frame_len < MSOCK_CONTROL_MSG_HEADER_LEN + MSOCK_AEAD_TAG_LEN) {
    r->poisoned = true;
    return MSOCK_ERR_CLOSED;
  }
  msock_control_nonce(r->rx_n, nonce);
  if (!msock_aead_get()->open(dst, frame + MSOCK_CONTROL_MSG_HEADER_LEN,
                              frame_len - MSOCK_CONTROL_MSG_HEADER_LEN, NULL, 0, nonce,
                              r->rx_key)) {
    r->poisoned = true;
    return MSOCK_ERR_AUTH;
  }
  r->rx_n++;
  return (ptrdiff_t)(frame_len - MSOCK_CONTROL_MSG_HEADER_LEN - MSOCK_AEAD_TAG_LEN);
}
