#include "node/echo.h"

#include <string.h>

#include "base/cursor.h"
#include "base/ip_packet.h"

#define V4_HEADER_LEN 20u
#define V6_HEADER_LEN 40u
#define ECHO_HEADER_LEN 8u
#define PAYLOAD_MAX 65000u
#define HOP_LIMIT 64u          /* RFC 1700: default TTL */
#define TSMP_PING_LEN 9u       /* type and data */
#define TSMP_PONG_LEN 11u      /* and the port */
#define V4_DONT_FRAGMENT 0x40u /* in byte 6 */

enum { ICMP_REPLY = 0, ICMP_REQUEST = 8, ICMPV6_REQUEST = 128, ICMPV6_REPLY = 129 };

static size_t header_len(const msock_ip *ip) {
  return ip->family == 4 ? V4_HEADER_LEN : V6_HEADER_LEN;
}

static void put16(uint8_t *p, uint16_t v) {
  p[0] = (uint8_t)(v >> 8);
  p[1] = (uint8_t)v;
}

/* Writes a fresh IP header for upper_len bytes behind it. */
static void write_ip(uint8_t *p, const msock_ip *src, const msock_ip *dst, uint8_t proto,
                     size_t upper_len) {
  memset(p, 0, header_len(src));
  if (src->family == 4) {
    p[0] = 0x45;
    put16(p + 2, (uint16_t)(V4_HEADER_LEN + upper_len));
    p[6] = V4_DONT_FRAGMENT;
    p[8] = HOP_LIMIT;
    p[9] = proto;
    memcpy(p + 12, src->b, 4);
    memcpy(p + 16, dst->b, 4);
    put16(p + 10, msock_ip_sum_fold(msock_ip_sum(0, p, V4_HEADER_LEN)));
  } else {
    p[0] = 0x60;
    put16(p + 4, (uint16_t)upper_len);
    p[6] = proto;
    p[7] = HOP_LIMIT;
    memcpy(p + 8, src->b, 16);
    memcpy(p + 24, dst->b, 16);
  }
}

/* Sum over an ICMP or ICMPv6 message; 0 when its checksum is in place and right. */
static uint16_t icmp_sum(const uint8_t *u, size_t len, const msock_ip *src, const msock_ip *dst) {
  const uint32_t pseudo =
      src->family == 6 ? msock_ip_pseudo_sum(src, dst, MSOCK_PROTO_ICMPV6, (uint32_t)len) : 0;
  return msock_ip_sum_fold(msock_ip_sum(pseudo, u, len));
}

static void write_icmp_sum(uint8_t *u, size_t len, const msock_ip *src, const msock_ip *dst) {
  put16(u + 2, 0);
  put16(u + 2, icmp_sum(u, len, src, dst));
}

ptrdiff_t msock_echo_request(uint8_t *buf, size_t cap, const msock_ip *src, const msock_ip *dst,
                             uint16_t id, uint16_t seq, const uint8_t *payload,
                             size_t payload_len) {
  if (src->family != dst->family || src->family == 0 || payload_len > PAYLOAD_MAX) {
    return MSOCK_ERR_INVALID;
  }
  const size_t header = header_len(src), upper = ECHO_HEADER_LEN + payload_len;
  if (cap < header + upper) {
    return MSOCK_ERR_NOBUF;
  }
  uint8_t *u = buf + header;
  const bool v4 = src->family == 4;
  write_ip(buf, src, dst, v4 ? MSOCK_PROTO_ICMP : MSOCK_PROTO_ICMPV6, upper);
  u[0] = v4 ? ICMP_REQUEST : ICMPV6_REQUEST;
  u[1] = 0;
  put16(u + 4, id);
  put16(u + 6, seq);
  if (payload_len > 0) {
    memcpy(u + ECHO_HEADER_LEN, payload, payload_len);
  }
  write_icmp_sum(u, upper, src, dst);
  return (ptrdiff_t)(header + upper);
}

static bool is_one_of(const msock_ip *ip, const msock_ip *own, size_t n_own) {
  for (size_t i = 0; i < n_own; i++) {
    if (msock_ip_equal(ip, &own[i])) {
      return true;
    }
  }
  return false;
}

/* A whole packet without options or extension headers, to one of own, from somebody who can be
 * answered. */
static bool is_for_us(const msock_ip_packet *k, const msock_ip *own, size_t n_own) {
  return !k->later_fragment && !k->more_fragments && k->upper_off == header_len(&k->src) &&
         is_one_of(&k->dst, own, n_own) && !is_one_of(&k->src, own, n_own) &&
         !msock_ip_is_unspecified(&k->src) && !msock_ip_is_multicast(&k->src) &&
         !msock_ip_is_loopback(&k->src);
}

/* An ICMP message of the packet's family with a whole echo header. */
static bool is_echo(const msock_ip_packet *k, uint8_t v4_type, uint8_t v6_type) {
  const bool v4 = k->src.family == 4;
  return k->proto == (v4 ? MSOCK_PROTO_ICMP : MSOCK_PROTO_ICMPV6) &&
         k->icmp_type == (v4 ? v4_type : v6_type) && k->icmp_code == 0 &&
         k->total_len - k->upper_off >= ECHO_HEADER_LEN;
}

size_t msock_echo_answer(uint8_t *pkt, size_t len, const msock_ip *own, size_t n_own) {
  msock_ip_packet k;
  if (msock_ip_packet_parse(pkt, len, &k) != MSOCK_OK || !is_for_us(&k, own, n_own) ||
      !is_echo(&k, ICMP_REQUEST, ICMPV6_REQUEST)) {
    return 0;
  }
  uint8_t *u = pkt + k.upper_off;
  const size_t upper = k.total_len - k.upper_off;
  if (icmp_sum(u, upper, &k.src, &k.dst) != 0) {
    return 0;
  }
  write_ip(pkt, &k.dst, &k.src, k.proto, upper);
  u[0] = k.src.family == 4 ? ICMP_REPLY : ICMPV6_REPLY;
  write_icmp_sum(u, upper, &k.dst, &k.src);
  return k.total_len;
}

msock_err msock_echo_parse_reply(const uint8_t *pkt, size_t len, msock_echo_reply *out) {
  msock_ip_packet k;
  const msock_err e = msock_ip_packet_parse(pkt, len, &k);
  if (e != MSOCK_OK) {
    return e;
  }
  if (k.later_fragment || k.more_fragments || !is_echo(&k, ICMP_REPLY, ICMPV6_REPLY)) {
    return MSOCK_ERR_UNKNOWN;
  }
  const uint8_t *u = pkt + k.upper_off;
  const size_t upper = k.total_len - k.upper_off;
  if (icmp_sum(u, upper, &k.src, &k.dst) != 0) {
    return MSOCK_ERR_INVALID;
  }
  *out = (msock_echo_reply){.from = k.src,
                            .to = k.dst,
                            .id = k.icmp_id,
                            .seq = (uint16_t)(u[6] << 8 | u[7]),
                            .payload = u + ECHO_HEADER_LEN,
                            .payload_len = upper - ECHO_HEADER_LEN};
  return MSOCK_OK;
}

ptrdiff_t msock_tsmp_request(uint8_t *buf, size_t cap, const msock_ip *src, const msock_ip *dst,
                             const uint8_t data[static MSOCK_TSMP_DATA_LEN]) {
  if (src->family != dst->family || src->family == 0) {
    return MSOCK_ERR_INVALID;
  }
  const size_t header = header_len(src);
  if (cap < header + TSMP_PING_LEN) {
    return MSOCK_ERR_NOBUF;
  }
  write_ip(buf, src, dst, MSOCK_PROTO_TSMP, TSMP_PING_LEN);
  buf[header] = MSOCK_TSMP_PING;
  memcpy(buf + header + 1, data, MSOCK_TSMP_DATA_LEN);
  return (ptrdiff_t)(header + TSMP_PING_LEN);
}

size_t msock_tsmp_answer(uint8_t *pkt, size_t len, size_t cap, const msock_ip *own, size_t n_own,
                         uint16_t peerapi_port) {
  msock_ip_packet k;
  if (msock_ip_packet_parse(pkt, len, &k) != MSOCK_OK || k.proto != MSOCK_PROTO_TSMP ||
      !is_for_us(&k, own, n_own)) {
    return 0;
  }
  uint8_t *u = pkt + k.upper_off;
  if (k.total_len - k.upper_off < TSMP_PING_LEN || u[0] != MSOCK_TSMP_PING ||
      cap < k.upper_off + TSMP_PONG_LEN) {
    return 0;
  }
  write_ip(pkt, &k.dst, &k.src, MSOCK_PROTO_TSMP, TSMP_PONG_LEN);
  u[0] = MSOCK_TSMP_PONG;
  put16(u + TSMP_PING_LEN, peerapi_port);
  return k.upper_off + TSMP_PONG_LEN;
}

/* data and port of a ping or pong; the reader stands behind the type. */
static void read_ping(msock_reader *r, msock_tsmp *m) {
  msock_read_copy(r, m->data, sizeof m->data);
  if (m->kind == MSOCK_TSMP_PONG && r->left >= 2) { /* PEER: 9 or 10 bytes carry no port */
    m->peerapi_port = msock_read_be16(r);
  }
}

static void read_reject(msock_reader *r, msock_tsmp *m) {
  m->proto = msock_read_u8(r);
  m->reason = msock_read_u8(r);
  m->src_port = msock_read_be16(r);
  m->dst_port = msock_read_be16(r);
  if (r->left >= 1) {
    m->flags = msock_read_u8(r);
  }
}

msock_err msock_tsmp_decode(const uint8_t *pkt, size_t len, msock_tsmp *out) {
  msock_ip_packet k;
  const msock_err e = msock_ip_packet_parse(pkt, len, &k);
  if (e != MSOCK_OK) {
    return e;
  }
  if (k.proto != MSOCK_PROTO_TSMP || k.later_fragment || k.more_fragments) {
    return MSOCK_ERR_UNKNOWN;
  }
  msock_reader r = msock_reader_init(pkt + k.upper_off, k.total_len - k.upper_off);
  msock_tsmp m = {.from = k.src, .to = k.dst};
  const uint8_t type = msock_read_u8(&r);
  if (!r.bad && type != MSOCK_TSMP_PING && type != MSOCK_TSMP_PONG && type != MSOCK_TSMP_REJECT &&
      type != MSOCK_TSMP_DISCO_KEY) {
    return MSOCK_ERR_UNKNOWN;
  }
  m.kind = (msock_tsmp_kind)type;
  if (m.kind == MSOCK_TSMP_REJECT) {
    read_reject(&r, &m);
  } else if (m.kind == MSOCK_TSMP_DISCO_KEY) {
    msock_read_copy(&r, m.disco.b, sizeof m.disco.b);
  } else {
    read_ping(&r, &m);
  }
  if (r.bad) {
    return MSOCK_ERR_SHORT;
  }
  *out = m;
  return MSOCK_OK;
}
