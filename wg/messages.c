#include "wg/messages.h"

#include "base/cursor.h"

#define TYPE_FIELD_LEN 4u /* type and three zero bytes: one little-endian word */

uint8_t msock_wg_message_type(const uint8_t *p, size_t len) {
  msock_reader r = msock_reader_init(p, len);
  const uint32_t type = msock_read_le32(&r);

  switch (type) {
  case MSOCK_WG_TYPE_INITIATION:
    return len == MSOCK_WG_INITIATION_LEN ? (uint8_t)type : 0;
  case MSOCK_WG_TYPE_RESPONSE:
    return len == MSOCK_WG_RESPONSE_LEN ? (uint8_t)type : 0;
  case MSOCK_WG_TYPE_COOKIE:
    return len == MSOCK_WG_COOKIE_REPLY_LEN ? (uint8_t)type : 0;
  case MSOCK_WG_TYPE_TRANSPORT:
    return len >= MSOCK_WG_TRANSPORT_MIN ? (uint8_t)type : 0;
  default:
    return 0;
  }
}

static msock_reader body(const uint8_t *p, size_t len) {
  return msock_reader_init(p + TYPE_FIELD_LEN, len - TYPE_FIELD_LEN);
}

static msock_writer start(uint8_t *dst, size_t len, uint8_t type) {
  msock_writer w = msock_writer_init(dst, len);
  msock_write_le32(&w, type);
  return w;
}

msock_err msock_wg_initiation_decode(const uint8_t *p, size_t len, msock_wg_initiation *out) {
  if (msock_wg_message_type(p, len) != MSOCK_WG_TYPE_INITIATION) {
    return MSOCK_ERR_INVALID;
  }
  msock_reader r = body(p, len);
  out->sender = msock_read_le32(&r);
  msock_read_copy(&r, out->ephemeral, sizeof out->ephemeral);
  msock_read_copy(&r, out->enc_static, sizeof out->enc_static);
  msock_read_copy(&r, out->enc_timestamp, sizeof out->enc_timestamp);
  msock_read_copy(&r, out->mac1, sizeof out->mac1);
  msock_read_copy(&r, out->mac2, sizeof out->mac2);
  return MSOCK_OK;
}

msock_err msock_wg_response_decode(const uint8_t *p, size_t len, msock_wg_response *out) {
  if (msock_wg_message_type(p, len) != MSOCK_WG_TYPE_RESPONSE) {
    return MSOCK_ERR_INVALID;
  }
  msock_reader r = body(p, len);
  out->sender = msock_read_le32(&r);
  out->receiver = msock_read_le32(&r);
  msock_read_copy(&r, out->ephemeral, sizeof out->ephemeral);
  msock_read_copy(&r, out->enc_empty, sizeof out->enc_empty);
  msock_read_copy(&r, out->mac1, sizeof out->mac1);
  msock_read_copy(&r, out->mac2, sizeof out->mac2);
  return MSOCK_OK;
}

msock_err msock_wg_cookie_reply_decode(const uint8_t *p, size_t len, msock_wg_cookie_reply *out) {
  if (msock_wg_message_type(p, len) != MSOCK_WG_TYPE_COOKIE) {
    return MSOCK_ERR_INVALID;
  }
  msock_reader r = body(p, len);
  out->receiver = msock_read_le32(&r);
  msock_read_copy(&r, out->nonce, sizeof out->nonce);
  msock_read_copy(&r, out->enc_cookie, sizeof out->enc_cookie);
  return MSOCK_OK;
}

msock_err msock_wg_transport_decode(const uint8_t *p, size_t len, msock_wg_transport *out) {
  if (msock_wg_message_type(p, len) != MSOCK_WG_TYPE_TRANSPORT) {
    return MSOCK_ERR_INVALID;
  }
  msock_reader r = body(p, len);
  out->receiver = msock_read_le32(&r);
  out->counter = msock_read_le64(&r);
  return MSOCK_OK;
}

void msock_wg_initiation_encode(const msock_wg_initiation *m,
                                uint8_t dst[static MSOCK_WG_INITIATION_LEN]) {
  msock_writer w = start(dst, MSOCK_WG_INITIATION_LEN, MSOCK_WG_TYPE_INITIATION);
  msock_write_le32(&w, m->sender);
  msock_write_copy(&w, m->ephemeral, sizeof m->ephemeral);
  msock_write_copy(&w, m->enc_static, sizeof m->enc_static);
  msock_write_copy(&w, m->enc_timestamp, sizeof m->enc_timestamp);
  msock_write_copy(&w, m->mac1, sizeof m->mac1);
  msock_write_copy(&w, m->mac2, sizeof m->mac2);
}

void msock_wg_response_encode(const msock_wg_response *m,
                              uint8_t dst[static MSOCK_WG_RESPONSE_LEN]) {
  msock_writer w = start(dst, MSOCK_WG_RESPONSE_LEN, MSOCK_WG_TYPE_RESPONSE);
  msock_write_le32(&w, m->sender);
  msock_write_le32(&w, m->receiver);
  msock_write_copy(&w, m->ephemeral, sizeof m->ephemeral);
  msock_write_copy(&w, m->enc_empty, sizeof m->enc_empty);
  msock_write_copy(&w, m->mac1, sizeof m->mac1);
  msock_write_copy(&w, m->mac2, sizeof m->mac2);
}

void msock_wg_cookie_reply_encode(const msock_wg_cookie_reply *m,
                                  uint8_t dst[static MSOCK_WG_COOKIE_REPLY_LEN]) {
  msock_writer w = start(dst, MSOCK_WG_COOKIE_REPLY_LEN, MSOCK_WG_TYPE_COOKIE);
  msock_write_le32(&w, m->receiver);
  msock_write_copy(&w, m->nonce, sizeof m->nonce);
  msock_write_copy(&w, m->enc_cookie, sizeof m->enc_cookie);
}

void msock_wg_transport_encode(const msock_wg_transport *m, uint8_t dst[static 16]) {
  msock_writer w = start(dst, 16, MSOCK_WG_TYPE_TRANSPORT);
  msock_write_le32(&w, m->receiver);
  msock_write_le64(&w, m->counter);
}
