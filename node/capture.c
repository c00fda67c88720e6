#include "node/capture.h"

#include <stdlib.h>
#include <string.h>

#define FILE_HEADER 24u
#define RECORD_HEADER 16u
#define FIRST_CAP 65536u
#define MAGIC_US 0xa1b2c3d4u
#define LINKTYPE_RAW 101u

/* In the writer's byte order, which readers tell by the magic. */
static void put32(uint8_t *at, uint32_t v) {
  memcpy(at, &v, sizeof v);
}

msock_err msock_capture_begin(msock_capture *c, size_t limit) {
  const uint16_t version[2] = {2, 4};
  *c = (msock_capture){.limit = limit < MSOCK_CAPTURE_BYTES_MAX ? limit : MSOCK_CAPTURE_BYTES_MAX,
                       .cap = FIRST_CAP};
  c->buf = calloc(1, c->cap);
  if (c->buf == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  put32(c->buf, MAGIC_US);
  memcpy(c->buf + 4, version, sizeof version);
  put32(c->buf + 16, MSOCK_CAPTURE_SNAPLEN);
  put32(c->buf + 20, LINKTYPE_RAW);
  c->len = FILE_HEADER;
  return MSOCK_OK;
}

static bool reserve(msock_capture *c, size_t more) {
  size_t cap = c->cap;
  while (cap < c->len + more) {
    cap *= 2;
  }
  uint8_t *buf = cap > c->cap ? realloc(c->buf, cap) : c->buf;
  if (buf == NULL) {
    return false;
  }
  c->buf = buf;
  c->cap = cap;
  return true;
}

void msock_capture_add(msock_capture *c, uint64_t wall_us, const uint8_t *p, size_t len) {
  const size_t kept = len < MSOCK_CAPTURE_SNAPLEN ? len : MSOCK_CAPTURE_SNAPLEN;
  if (c->buf == NULL) {
    return;
  }
  if (c->len + RECORD_HEADER + kept > c->limit || !reserve(c, RECORD_HEADER + kept)) {
    c->dropped++;
    return;
  }
  uint8_t *at = c->buf + c->len;
  put32(at, (uint32_t)(wall_us / 1000000u));
  put32(at + 4, (uint32_t)(wall_us % 1000000u));
  put32(at + 8, (uint32_t)kept);
  put32(at + 12, (uint32_t)len);
  memcpy(at + RECORD_HEADER, p, kept);
  c->len += RECORD_HEADER + kept;
  c->packets++;
}

bool msock_capture_is_full(const msock_capture *c) {
  return c->dropped > 0;
}

uint8_t *msock_capture_take(msock_capture *c, size_t *len) {
  uint8_t *buf = c->buf;
  *len = c->len;
  *c = (msock_capture){0};
  return buf;
}
