#include "netcheck/stun.h"

#include <string.h>

#include "base/cursor.h"
#include "base/stun_look.h"

#define COOKIE 0x2112a442u
#define FINGERPRINT_XOR 0x5354554eu /* RFC 8489 14.7 */
#define SOFTWARE_LEN 8u
#define FINGERPRINT_LEN 8u /* attribute header and value */

enum { TYPE_REQUEST = 0x0001, TYPE_RESPONSE = 0x0101 };
enum {
  ATTR_MAPPED = 0x0001,
  ATTR_XOR_MAPPED = 0x0020,
  ATTR_XOR_MAPPED_OLD = 0x8020, /* a common server mistake, netcheck.md 1.4 */
  ATTR_SOFTWARE = 0x8022,
  ATTR_FINGERPRINT = 0x8028
};
enum { FAMILY_V4 = 1, FAMILY_V6 = 2 };

static const uint8_t software[SOFTWARE_LEN] = "tailnode";

/* One attribute; value borrows from the message. */
typedef struct attribute {
  uint16_t type, len;
  const uint8_t *value;
  size_t at; /* offset of its header in the message */
} attribute;

/* Bitwise CRC-32/IEEE: messages are tens of bytes, a table would be larger than the codec. */
static uint32_t crc32_ieee(const uint8_t *p, size_t len) {
  uint32_t crc = UINT32_MAX;
  for (size_t i = 0; i < len; i++) {
    crc ^= p[i];
    for (int bit = 0; bit < 8; bit++) {
      crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
    }
  }
  return ~crc;
}

static uint16_t type_of(const uint8_t *p) {
  return (uint16_t)(p[0] << 8 | p[1]);
}

static size_t header_length(const uint8_t *p) {
  return (size_t)(p[2] << 8 | p[3]);
}

static void write_header(msock_writer *w, uint16_t type, size_t len, const msock_stun_txid *txid) {
  msock_write_be16(w, type);
  msock_write_be16(w, (uint16_t)len);
  msock_write_be32(w, COOKIE);
  msock_write_copy(w, txid->b, sizeof txid->b);
}

/* Over everything written so far; the header's length counts the attribute already. */
static void write_fingerprint(msock_writer *w) {
  const uint32_t crc = crc32_ieee(w->p - w->total, w->total);
  msock_write_be16(w, ATTR_FINGERPRINT);
  msock_write_be16(w, 4);
  msock_write_be32(w, crc ^ FINGERPRINT_XOR);
}

ptrdiff_t msock_stun_encode_request(const msock_stun_txid *txid, bool plain, uint8_t *dst,
                                    size_t cap) {
  const size_t len = plain ? MSOCK_STUN_HEADER_LEN : MSOCK_STUN_REQUEST_LEN;
  msock_writer w = msock_writer_init(dst, len);

  if (cap < len) {
    return MSOCK_ERR_NOBUF;
  }
  write_header(&w, TYPE_REQUEST, len - MSOCK_STUN_HEADER_LEN, txid);
  if (!plain) {
    msock_write_be16(&w, ATTR_SOFTWARE);
    msock_write_be16(&w, SOFTWARE_LEN);
    msock_write_copy(&w, software, SOFTWARE_LEN);
    write_fingerprint(&w);
  }
  return (ptrdiff_t)len;
}

bool msock_stun_looks(const uint8_t *p, size_t len) {
  return msock_looks_like_stun(p, len);
}

bool msock_stun_demux(const uint8_t *p, size_t len) {
  return msock_looks_like_stun_binding(p, len);
}

msock_stun_txid msock_stun_txid_of(const uint8_t *p) {
  msock_stun_txid id;
  memcpy(id.b, p + 8, sizeof id.b);
  return id;
}

/* Next attribute of [p, end): 1 = filled, 0 = end reached, -1 = malformed. */
static int next_attribute(const uint8_t *p, size_t end, size_t *at, attribute *a) {
  msock_reader r = msock_reader_init(p + *at, end - *at);
  if (r.left == 0) {
    return 0;
  }
  a->at = *at;
  a->type = msock_read_be16(&r);
  a->len = msock_read_be16(&r);
  a->value = msock_read_bytes(&r, a->len);
  msock_read_bytes(&r, (4u - a->len % 4u) % 4u);
  if (r.bad) {
    return -1;
  }
  *at = end - r.left;
  return 1;
}

static bool is_good_fingerprint(const uint8_t *p, const attribute *a) {
  msock_reader r = msock_reader_init(a->value, a->len);
  return a->len == 4 && msock_read_be32(&r) == (crc32_ieee(p, a->at) ^ FINGERPRINT_XOR);
}

/* The address of a (XOR-)MAPPED-ADDRESS. Longer values than needed are accepted. */
static bool read_address(const attribute *a, bool xored, const uint8_t *header, msock_addr *out) {
  msock_reader r = msock_reader_init(a->value, a->len);
  uint8_t b[16] = {0};
  msock_read_u8(&r);
  const uint8_t family = msock_read_u8(&r);
  const uint16_t port = msock_read_be16(&r);
  const size_t n = family == FAMILY_V4 ? 4 : 16;

  msock_read_copy(&r, b, n);
  if (r.bad || (family != FAMILY_V4 && family != FAMILY_V6)) {
    return false;
  }
  for (size_t i = 0; xored && i < n; i++) {
    b[i] ^= header[4 + i]; /* cookie, then transaction id */
  }
  const msock_ip ip = n == 4 ? msock_ip_from_bytes4(b) : msock_ip_from_bytes16(b);
  out->ip = msock_ip_unmap(ip);
  out->port = xored ? (uint16_t)(port ^ (COOKIE >> 16)) : port;
  return true;
}

/* Can this be how the server sees us (netcheck.md 1.4, rules of ours). */
static bool plausible(const msock_addr *mapped, const msock_addr *server) {
  const msock_ip to = msock_ip_unmap(server->ip);
  return mapped->port != 0 && mapped->ip.family == to.family &&
         !msock_ip_is_unspecified(&mapped->ip) && !msock_ip_is_multicast(&mapped->ip) &&
         (!msock_ip_is_loopback(&mapped->ip) || msock_ip_is_loopback(&to));
}

msock_err msock_stun_decode_response(const uint8_t *p, size_t len, const msock_addr *server,
                                     msock_stun_txid *txid, msock_addr *mapped) {
  msock_addr xored = {0}, plain = {0};
  attribute a = {0};
  size_t at = MSOCK_STUN_HEADER_LEN;
  int more = 0;

  if (!msock_stun_looks(p, len) || type_of(p) != TYPE_RESPONSE) {
    return MSOCK_ERR_UNKNOWN;
  }
  const size_t end = MSOCK_STUN_HEADER_LEN + header_length(p);
  if (end > len) {
    return MSOCK_ERR_INVALID;
  }
  while ((more = next_attribute(p, end, &at, &a)) > 0) {
    if ((a.type == ATTR_XOR_MAPPED || a.type == ATTR_XOR_MAPPED_OLD) &&
        !read_address(&a, true, p, &xored)) {
      return MSOCK_ERR_INVALID;
    }
    if (a.type == ATTR_MAPPED && !read_address(&a, false, p, &plain)) {
      return MSOCK_ERR_INVALID;
    }
  }
  const msock_addr *found = xored.ip.family != 0 ? &xored : &plain;
  if (more < 0 || found->ip.family == 0 || !plausible(found, server) ||
      (a.type == ATTR_FINGERPRINT && !is_good_fingerprint(p, &a))) {
    return MSOCK_ERR_INVALID;
  }
  *txid = msock_stun_txid_of(p);
  *mapped = *found;
  return MSOCK_OK;
}

bool msock_stun_fingerprint_ok(const uint8_t *p, size_t len) {
  attribute a = {0};
  size_t at = MSOCK_STUN_HEADER_LEN;
  int more = 0;

  if (!msock_stun_looks(p, len) || MSOCK_STUN_HEADER_LEN + header_length(p) > len) {
    return false;
  }
  while ((more = next_attribute(p, MSOCK_STUN_HEADER_LEN + header_length(p), &at, &a)) > 0) {
  }
  return more == 0 && a.type == ATTR_FINGERPRINT && is_good_fingerprint(p, &a);
}

msock_stun_verdict msock_stun_check_request(const uint8_t *p, size_t len, bool open_to_all,
                                            msock_stun_request *out) {
  attribute a = {0};
  size_t at = MSOCK_STUN_HEADER_LEN;
  int more = 0;
  bool known = false;

  if (!msock_stun_looks(p, len)) {
    return MSOCK_STUN_NOT_STUN;
  }
  if (type_of(p) != TYPE_REQUEST) {
    return MSOCK_STUN_NOT_BINDING;
  }
  while ((more = next_attribute(p, len, &at, &a)) > 0) {
    known = known || (a.type == ATTR_SOFTWARE && a.len == SOFTWARE_LEN &&
                      memcmp(a.value, software, SOFTWARE_LEN) == 0);
  }
  const bool fingerprint = a.type == ATTR_FINGERPRINT;
  if (more < 0) {
    return MSOCK_STUN_MALFORMED;
  }
  if (!known && !open_to_all) {
    return MSOCK_STUN_OTHER_SOFTWARE;
  }
  if (!fingerprint && !open_to_all) {
    return MSOCK_STUN_NO_FINGERPRINT;
  }
  if (fingerprint && !is_good_fingerprint(p, &a)) {
    return MSOCK_STUN_BAD_FINGERPRINT;
  }
  if (header_length(p) != len - MSOCK_STUN_HEADER_LEN) {
    return MSOCK_STUN_BAD_LENGTH;
  }
  *out = (msock_stun_request){.txid = msock_stun_txid_of(p), .fingerprint = fingerprint};
  return MSOCK_STUN_ACCEPT;
}

ptrdiff_t msock_stun_encode_response(const msock_stun_txid *txid, const msock_addr *client,
                                     bool fingerprint, uint8_t *dst, size_t cap) {
  const msock_ip ip = msock_ip_unmap(client->ip);
  const size_t n = ip.family == 4 ? 4 : 16;
  const size_t attributes = 4u + 4u + n + (fingerprint ? FINGERPRINT_LEN : 0u);
  const size_t len = MSOCK_STUN_HEADER_LEN + attributes;
  msock_writer w = msock_writer_init(dst, len);

  if (ip.family == 0) {
    return MSOCK_ERR_INVALID;
  }
  if (cap < len) {
    return MSOCK_ERR_NOBUF;
  }
  write_header(&w, TYPE_RESPONSE, attributes, txid);
  msock_write_be16(&w, ATTR_XOR_MAPPED);
  msock_write_be16(&w, (uint16_t)(4u + n));
  msock_write_u8(&w, 0);
  msock_write_u8(&w, n == 4 ? FAMILY_V4 : FAMILY_V6);
  msock_write_be16(&w, (uint16_t)(client->port ^ (COOKIE >> 16)));
  for (size_t i = 0; i < n; i++) {
    msock_write_u8(&w, ip.b[i] ^ dst[4 + i]); /* cookie, then transaction id */
  }
  if (fingerprint) {
    write_fingerprint(&w);
  }
  return (ptrdiff_t)len;
}
