#include "derpd/websocket.h"

#include <string.h>

#include <sodium.h>

#include "derpd/sha1.h"

enum {
  OP_CONTINUATION = 0x0,
  OP_BINARY = 0x2,
  OP_CLOSE = 0x8,
  OP_PING = 0x9,
  OP_PONG = 0xa,
};
#define FIN 0x80u
#define MASKED 0x80u
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 1.3 */
#define KEY_TEXT_LEN 24u                            /* 16 bytes in base64 */
#define KEY_LEN 16u

/* --- out --- */

size_t msock_derpd_ws_head(uint64_t len, uint8_t dst[static MSOCK_DERPD_WS_HEAD_MAX]) {
  dst[0] = FIN | OP_BINARY;
  if (len < 126) {
    dst[1] = (uint8_t)len;
    return 2;
  }
  const size_t bytes = len <= UINT16_MAX ? 2 : 8;
  dst[1] = bytes == 2 ? 126 : 127;
  for (size_t i = 0; i < bytes; i++) {
    dst[2 + i] = (uint8_t)(len >> 8 * (bytes - 1 - i));
  }
  return 2 + bytes;
}

size_t msock_derpd_ws_close(unsigned code, uint8_t dst[static MSOCK_DERPD_WS_HEAD_MAX]) {
  dst[0] = FIN | OP_CLOSE;
  dst[1] = 2;
  dst[2] = (uint8_t)(code >> 8);
  dst[3] = (uint8_t)code;
  return 4;
}

/* --- in --- */

static size_t head_size(const msock_derpd_ws *w) {
  const unsigned len = w->head_len < 2 ? 0 : w->head[1] & 0x7fu;
  return 2u + (len == 126 ? 2u : len == 127 ? 8u : 0u) + 4u;
}

static uint64_t payload_len(const msock_derpd_ws *w) {
  const unsigned len = w->head[1] & 0x7fu;
  const size_t bytes = len == 126 ? 2 : len == 127 ? 8 : 0;
  uint64_t v = bytes ? 0 : len;
  for (size_t i = 0; i < bytes; i++) {
    v = v << 8 | w->head[2 + i];
  }
  return v;
}

/* What is wrong with a head that is whole: a close code; 0 = nothing. */
static unsigned judge(const msock_derpd_ws *w) {
  const bool control = (w->opcode & 0x8) != 0;
  if ((w->head[0] & 0x70) != 0 || (w->head[1] & MASKED) == 0 || w->left >> 63 != 0) {
    return MSOCK_DERPD_WS_PROTOCOL; /* extension bits, no mask, or a length without meaning */
  }
  if (control) {
    const bool known = w->opcode == OP_CLOSE || w->opcode == OP_PING || w->opcode == OP_PONG;
    return known && w->fin && w->left <= MSOCK_DERPD_WS_CONTROL_MAX ? 0 : MSOCK_DERPD_WS_PROTOCOL;
  }
  if (w->opcode == OP_CONTINUATION || w->opcode == OP_BINARY) {
    return w->in_message == (w->opcode == OP_CONTINUATION) ? 0 : MSOCK_DERPD_WS_PROTOCOL;
  }
  return MSOCK_DERPD_WS_NOT_BINARY;
}

/* Gathers the head; *code is set when it is whole and wrong. */
static size_t read_head(msock_derpd_ws *w, const uint8_t *p, size_t len, unsigned *code) {
  size_t used = 0;
  *code = 0;
  while (used < len && w->head_len < head_size(w)) {
    w->head[w->head_len++] = p[used++];
  }
  if (w->head_len < 2 || w->head_len < head_size(w)) {
    return used;
  }
  w->opcode = w->head[0] & 0x0f;
  w->fin = (w->head[0] & FIN) != 0;
  w->left = payload_len(w);
  memcpy(w->mask, w->head + w->head_len - 4, 4);
  w->mask_at = 0;
  w->control_len = 0;
  w->in_payload = true;
  *code = judge(w);
  return used;
}

static void unmask(msock_derpd_ws *w, const uint8_t *p, size_t len, uint8_t *dst) {
  for (size_t i = 0; i < len; i++) {
    dst[i] = p[i] ^ w->mask[w->mask_at];
    w->mask_at = (uint8_t)((w->mask_at + 1u) & 3u);
  }
}

/* The frame is over: what to do about a control frame. */
static msock_derpd_ws_step end_frame(msock_derpd_ws *w, uint8_t *dst, size_t *n) {
  w->in_payload = false;
  w->head_len = 0;
  if (w->opcode == OP_CONTINUATION || w->opcode == OP_BINARY) {
    w->in_message = !w->fin;
    return MSOCK_DERPD_WS_DATA;
  }
  if (w->opcode == OP_PONG) {
    return MSOCK_DERPD_WS_DATA;
  }
  dst[0] = FIN | (w->opcode == OP_PING ? OP_PONG : OP_CLOSE);
  dst[1] = w->control_len; /* a close is echoed: RFC 6455 5.5.1 */
  memcpy(dst + 2, w->control, w->control_len);
  *n = 2u + w->control_len;
  return w->opcode == OP_PING ? MSOCK_DERPD_WS_PONG : MSOCK_DERPD_WS_CLOSE;
}

size_t msock_derpd_ws_feed(msock_derpd_ws *w, const uint8_t *p, size_t len,
                           msock_derpd_ws_step *step, uint8_t *dst, size_t *n) {
  size_t used = 0;
  *step = MSOCK_DERPD_WS_DATA;
  *n = 0;
  if (!w->in_payload) {
    unsigned code;
    used = read_head(w, p, len, &code);
    if (code != 0) {
      *step = MSOCK_DERPD_WS_CLOSE;
      *n = msock_derpd_ws_close(code, dst);
      return used;
    }
    if (!w->in_payload) {
      return used;
    }
  }
  const size_t take = len - used < w->left ? len - used : (size_t)w->left;
  if (w->opcode & 0x8) {
    unmask(w, p + used, take, w->control + w->control_len);
    w->control_len = (uint8_t)(w->control_len + take);
  } else {
    unmask(w, p + used, take, dst);
    *n = take;
  }
  w->left -= take;
  if (w->left == 0) {
    *step = end_frame(w, dst, n);
  }
  return used + take;
}

/* --- the upgrade --- */

void msock_derpd_ws_accept(const char *key, size_t len,
                           char out[static MSOCK_DERPD_WS_ACCEPT_MAX]) {
  uint8_t digest[MSOCK_DERPD_SHA1_LEN];
  char text[KEY_TEXT_LEN + sizeof GUID] = "";
  len = len < KEY_TEXT_LEN ? len : KEY_TEXT_LEN;
  memcpy(text, key, len);
  memcpy(text + len, GUID, sizeof GUID - 1);
  msock_derpd_sha1((const uint8_t *)text, len + sizeof GUID - 1, digest);
  sodium_bin2base64(out, MSOCK_DERPD_WS_ACCEPT_MAX, digest, sizeof digest,
                    sodium_base64_VARIANT_ORIGINAL);
}

ptrdiff_t msock_derpd_ws_answer(const msock_http1_head *h, char *dst, size_t cap) {
  const msock_http1_header *version = msock_http1_find(h, "sec-websocket-version");
  const msock_http1_header *key = msock_http1_find(h, "sec-websocket-key");
  char accept[MSOCK_DERPD_WS_ACCEPT_MAX];
  uint8_t bytes[KEY_LEN];
  size_t n = 0;
  msock_http1_builder b;
  if (version == NULL || !msock_http1_str_is(version->value, "13") || key == NULL ||
      key->value.len != KEY_TEXT_LEN ||
      sodium_base642bin(bytes, sizeof bytes, key->value.p, key->value.len, NULL, &n, NULL,
                        sodium_base64_VARIANT_ORIGINAL) != 0 ||
      n != KEY_LEN) {
    return MSOCK_ERR_INVALID;
  }
  msock_derpd_ws_accept(key->value.p, key->value.len, accept);
  msock_http1_begin_response(&b, dst, cap, 101);
  msock_http1_add(&b, "Upgrade", "websocket");
  msock_http1_add(&b, "Connection", "Upgrade");
  msock_http1_add(&b, "Sec-WebSocket-Accept", accept);
  msock_http1_add(&b, "Sec-WebSocket-Protocol", "derp");
  return msock_http1_finish(&b);
}
