#include "wg/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "crypto/aead.h"
#include "crypto/wipe.h"
#include "wg/wg.h"

msock_wg_session *msock_wg_session_new(const msock_wg_keys *keys, uint64_t now_us,
                                       uint32_t local_index, uint32_t remote_index,
                                       uint32_t peer_id, bool initiator) {
  msock_wg_session *s = calloc(1, sizeof *s);
  if (s == NULL) {
    return NULL;
  }
  s->keys = *keys;
  s->created_us = now_us;
  s->local_index = local_index;
  s->remote_index = remote_index;
  s->peer_id = peer_id;
  s->initiator = initiator;
  return s;
}

void msock_wg_session_free(msock_wg_session *s) {
  if (s != NULL) {
    msock_wipe(s, sizeof *s);
    free(s);
  }
}

bool msock_wg_session_alive(const msock_wg_session *s, uint64_t now_us) {
  return s != NULL && msock_wg_elapsed(now_us, s->created_us) < MSOCK_WG_REJECT_AFTER_TIME_US;
}

bool msock_wg_session_can_send(const msock_wg_session *s, uint64_t now_us) {
  return msock_wg_session_alive(s, now_us) && s->send_counter < MSOCK_WG_REJECT_AFTER_MESSAGES;
}

bool msock_wg_session_wants_rekey(const msock_wg_session *s, uint64_t now_us) {
  return s->send_counter > MSOCK_WG_REKEY_AFTER_MESSAGES ||
         (s->initiator && msock_wg_elapsed(now_us, s->created_us) >= MSOCK_WG_REKEY_AFTER_TIME_US);
}

bool msock_wg_session_last_minute(msock_wg_session *s, uint64_t now_us) {
  if (s == NULL || !s->initiator || s->rekey_asked ||
      msock_wg_elapsed(now_us, s->created_us) < MSOCK_WG_LAST_MINUTE_REKEY_US) {
    return false;
  }
  s->rekey_asked = true;
  return true;
}

/* 4 zero bytes | counter, little endian */
static void nonce_of(uint64_t counter, uint8_t nonce[static 12]) {
  msock_writer w = msock_writer_init(nonce, 12);
  msock_write_zero(&w, 4);
  msock_write_le64(&w, counter);
}

static uint32_t padded_len(uint32_t len, uint32_t mtu_bytes) {
  if (len >= mtu_bytes) {
    return len;
  }
  const uint32_t rounded = (len + MSOCK_WG_PADDING - 1) / MSOCK_WG_PADDING * MSOCK_WG_PADDING;
  return rounded < mtu_bytes ? rounded : mtu_bytes;
}

msock_err msock_wg_session_seal(msock_wg_session *s, msock_packet *p, uint32_t mtu_bytes) {
  const uint32_t padded = padded_len(p->len, mtu_bytes);
  uint8_t nonce[12];

  if (p->off < MSOCK_WG_HEADER_LEN || p->off > p->cap || padded < p->len ||
      p->cap - p->off < MSOCK_WG_TAG_LEN || p->cap - p->off - MSOCK_WG_TAG_LEN < padded) {
    return MSOCK_ERR_NOBUF;
  }
  uint8_t *data = msock_packet_data(p);
  const msock_wg_transport header = {.receiver = s->remote_index, .counter = s->send_counter++};

  memset(data + p->len, 0, padded - p->len);
  nonce_of(header.counter, nonce);
  msock_aead_get()->seal(data, data, padded, NULL, 0, nonce, s->keys.send);
  msock_wg_transport_encode(&header, data - MSOCK_WG_HEADER_LEN);
  p->off -= MSOCK_WG_HEADER_LEN;
  p->len = padded + MSOCK_WG_OVERHEAD;
  return MSOCK_OK;
}

msock_err msock_wg_session_open(msock_wg_session *s, uint64_t counter, msock_packet *p) {
  uint8_t *data = msock_packet_data(p) + MSOCK_WG_HEADER_LEN;
  const uint32_t len = p->len - MSOCK_WG_HEADER_LEN;
  uint8_t nonce[12];

  nonce_of(counter, nonce);
  if (!msock_aead_get()->open(data, data, len, NULL, 0, nonce, s->keys.recv)) {
    return MSOCK_ERR_AUTH;
  }
  if (!msock_wg_replay_accept(&s->replay, counter)) {
    return MSOCK_ERR_INVALID;
  }
  p->off += MSOCK_WG_HEADER_LEN;
  p->len = len - MSOCK_WG_TAG_LEN;
  return MSOCK_OK;
}
