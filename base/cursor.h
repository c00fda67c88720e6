/* base/cursor.h: bounded reads and writes over a byte range.
 *
 * A read or write past the end sets a sticky error, does nothing and gives zeros; check `bad` once
 * at the end. Integers: be = big endian, le = little endian. Borrows the range. */
#ifndef MSOCK_BASE_CURSOR_H
#define MSOCK_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct msock_reader {
  const uint8_t *p;
  size_t left;
  bool bad;
} msock_reader;

typedef struct msock_writer {
  uint8_t *p;   /* next byte to write */
  size_t left;  /* room left */
  size_t total; /* bytes written */
  bool bad;
} msock_writer;

static inline msock_reader msock_reader_init(const uint8_t *p, size_t len) {
  return (msock_reader){.p = p, .left = len};
}

/* The next n bytes, or NULL (sticky) when fewer are left. */
static inline const uint8_t *msock_read_bytes(msock_reader *r, size_t n) {
  if (r->bad || n > r->left) {
    r->bad = true;
    return NULL;
  }
  const uint8_t *at = r->p;
  r->p += n;
  r->left -= n;
  return at;
}

/* Copies n bytes to dst; zeroes dst when fewer are left. */
static inline void msock_read_copy(msock_reader *r, void *dst, size_t n) {
  const uint8_t *at = msock_read_bytes(r, n);
  if (at) {
    memcpy(dst, at, n);
  } else {
    memset(dst, 0, n);
  }
}

static inline uint8_t msock_read_u8(msock_reader *r) {
  const uint8_t *b = msock_read_bytes(r, 1);
  return b ? b[0] : 0;
}
static inline uint16_t msock_read_be16(msock_reader *r) {
  const uint8_t *b = msock_read_bytes(r, 2);
  return b ? (uint16_t)((unsigned)b[0] << 8 | b[1]) : 0;
}
static inline uint32_t msock_read_be32(msock_reader *r) {
  const uint8_t *b = msock_read_bytes(r, 4);
  return b ? (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3] : 0;
}
static inline uint32_t msock_read_le32(msock_reader *r) {
  const uint8_t *b = msock_read_bytes(r, 4);
  return b ? (uint32_t)b[3] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[1] << 8 | b[0] : 0;
}
static inline uint64_t msock_read_be64(msock_reader *r) {
  const uint64_t hi = msock_read_be32(r);
  return hi << 32 | msock_read_be32(r);
}
static inline uint64_t msock_read_le64(msock_reader *r) {
  const uint64_t lo = msock_read_le32(r);
  return (uint64_t)msock_read_le32(r) << 32 | lo;
}

static inline msock_writer msock_writer_init(uint8_t *p, size_t cap) {
  return (msock_writer){.p = p, .left = cap};
}

/* Room for n bytes to be filled by the caller, or NULL (sticky). */
static inline uint8_t *msock_write_room(msock_writer *w, size_t n) {
  if (w->bad || n > w->left) {
    w->bad = true;
    return NULL;
  }
  uint8_t *at = w->p;
  w->p += n;
  w->left -= n;
  w->total += n;
  return at;
}

static inline void msock_write_copy(msock_writer *w, const void *src, size_t n) {
  uint8_t *at = msock_write_room(w, n);
  if (at && n > 0) {
    memcpy(at, src, n);
  }
}
static inline void msock_write_zero(msock_writer *w, size_t n) {
  uint8_t *at = msock_write_room(w, n);
  if (at && n > 0) {
    memset(at, 0, n);
  }
}
static inline void msock_write_u8(msock_writer *w, uint8_t v) {
  msock_write_copy(w, &v, 1);
}
static inline void msock_write_be16(msock_writer *w, uint16_t v) {
  const uint8_t b[2] = {(uint8_t)(v >> 8), (uint8_t)v};
  msock_write_copy(w, b, sizeof b);
}
static inline void msock_write_be32(msock_writer *w, uint32_t v) {
  const uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
  msock_write_copy(w, b, sizeof b);
}
static inline void msock_write_le32(msock_writer *w, uint32_t v) {
  const uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
  msock_write_copy(w, b, sizeof b);
}
static inline void msock_write_be64(msock_writer *w, uint64_t v) {
  msock_write_be32(w, (uint32_t)(v >> 32));
  msock_write_be32(w, (uint32_t)v);
}
static inline void msock_write_le64(msock_writer *w, uint64_t v) {
  msock_write_le32(w, (uint32_t)v);
  msock_write_le32(w, (uint32_t)(v >> 32));
}

#endif
