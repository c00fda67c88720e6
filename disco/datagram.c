#include "disco/datagram.h"

#include "base/cursor.h"
#include "base/disco_look.h"
#include "base/stun_look.h"

enum {
  VERSION_MAX = 3,
  VERSION_SHIFT = 6,
  OPTION_LENGTH_MASK = 0x3f, /* byte 0 */
  CONTROL = 0x80,            /* byte 1 */
  RESERVED_MASK = 0x3f       /* byte 1: all but control and critical */
};

ptrdiff_t msock_disco_geneve_encode(const msock_geneve *h, uint8_t *dst, size_t cap) {
  msock_writer w = msock_writer_init(dst, cap);

  if (h->version > VERSION_MAX || h->vni == MSOCK_GENEVE_VNI_UNSET) {
    return MSOCK_ERR_INVALID;
  }
  if (cap < MSOCK_GENEVE_LEN) {
    return MSOCK_ERR_NOBUF;
  }
  msock_write_u8(&w, (uint8_t)(h->version << VERSION_SHIFT));
  msock_write_u8(&w, h->control ? CONTROL : 0);
  msock_write_be16(&w, h->protocol);
  msock_write_be32(&w, h->vni << 8);
  return MSOCK_GENEVE_LEN;
}

msock_err msock_disco_geneve_decode(const uint8_t *p, size_t len, msock_geneve *out) {
  msock_reader r = msock_reader_init(p, len);

  if (len < MSOCK_GENEVE_LEN) {
    return MSOCK_ERR_SHORT;
  }
  out->version = msock_read_u8(&r) >> VERSION_SHIFT;
  out->control = (msock_read_u8(&r) & CONTROL) != 0;
  out->protocol = msock_read_be16(&r);
  out->vni = msock_read_be32(&r) >> 8;
  return MSOCK_OK;
}

static bool looks_like_wireguard(const uint8_t *p, size_t len) {
  return len >= 4 && p[0] >= 1 && p[0] <= 4 && p[1] == 0 && p[2] == 0 && p[3] == 0;
}

/* What a datagram is when it has a Geneve header of ours; JUNK when not. */
static msock_datagram_kind behind_geneve(const uint8_t *p, size_t len, const msock_geneve *h) {
  const uint8_t *inner = p + MSOCK_GENEVE_LEN;
  const size_t inner_len = len - MSOCK_GENEVE_LEN;

  if (h->version != 0 || (p[0] & OPTION_LENGTH_MASK) != 0 || (p[1] & RESERVED_MASK) != 0 ||
      p[7] != 0) {
    return MSOCK_DATAGRAM_JUNK;
  }
  if (h->protocol == MSOCK_GENEVE_DISCO && msock_routes_as_disco(inner, inner_len)) {
    return MSOCK_DATAGRAM_GENEVE_DISCO;
  }
  if (h->protocol == MSOCK_GENEVE_WIREGUARD && !h->control &&
      looks_like_wireguard(inner, inner_len)) {
    return MSOCK_DATAGRAM_GENEVE_WIREGUARD;
  }
  return MSOCK_DATAGRAM_JUNK;
}

msock_datagram msock_disco_classify(const uint8_t *p, size_t len) {
  msock_datagram d = {.payload = p, .len = len};
  msock_geneve h;

  if (msock_looks_like_stun_binding(p, len)) {
    d.kind = MSOCK_DATAGRAM_STUN;
    return d;
  }
  if (msock_disco_geneve_decode(p, len, &h) == MSOCK_OK) {
    d.kind = behind_geneve(p, len, &h);
    if (d.kind != MSOCK_DATAGRAM_JUNK) {
      d.geneve = h;
      d.payload = p + MSOCK_GENEVE_LEN;
      d.len = len - MSOCK_GENEVE_LEN;
      return d;
    }
  }
  if (msock_routes_as_disco(p, len)) {
    d.kind = MSOCK_DATAGRAM_DISCO;
  } else if (looks_like_wireguard(p, len)) {
    d.kind = MSOCK_DATAGRAM_WIREGUARD;
  }
  return d;
}
