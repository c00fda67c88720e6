#include "base/ip_packet.h"

#include "base/cursor.h"

#define V4_HEADER_MIN 20u
#define V6_HEADER_LEN 40u
#define EXTENSIONS_MAX 8

static uint16_t be16(const uint8_t *p) {
  return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

msock_err msock_ip_packet_route(const uint8_t *p, size_t len, msock_ip *src, msock_ip *dst,
                                uint32_t *total_len) {
  uint32_t total = 0;

  if (len < V4_HEADER_MIN) {
    return MSOCK_ERR_SHORT;
  }
  if (p[0] >> 4 == 4) {
    const uint32_t header = (p[0] & 15u) * 4u;
    total = be16(p + 2);
    if (header < V4_HEADER_MIN || total < header) {
      return MSOCK_ERR_INVALID;
    }
    if (total > len) {
      return MSOCK_ERR_SHORT;
    }
    *src = msock_ip_from_bytes4(p + 12);
    *dst = msock_ip_from_bytes4(p + 16);
  } else if (p[0] >> 4 == 6) {
    if (len < V6_HEADER_LEN) {
      return MSOCK_ERR_SHORT;
    }
    total = V6_HEADER_LEN + be16(p + 4);
    if (total > len) {
      return MSOCK_ERR_SHORT;
    }
    *src = msock_ip_from_bytes16(p + 8);
    *dst = msock_ip_from_bytes16(p + 24);
  } else {
    return MSOCK_ERR_INVALID;
  }
  *total_len = total;
  return MSOCK_OK;
}

/* Walks IPv6 extension headers: sets proto, upper_off and the fragment fields. */
static msock_err walk_v6(const uint8_t *p, msock_ip_packet *k) {
  uint8_t next = p[6];
  uint32_t at = V6_HEADER_LEN;

  for (int i = 0; i <= EXTENSIONS_MAX; i++) {
    const bool options =
        next == 0 || next == 43 || next == 60; /* hop-by-hop, routing, destination */
    if (!options && next != MSOCK_PROTO_FRAGMENT) {
      k->proto = next;
      k->upper_off = at;
      return MSOCK_OK;
    }
    if (at + 8 > k->total_len) {
      return MSOCK_ERR_SHORT;
    }
    if (next == MSOCK_PROTO_FRAGMENT) {
      const uint16_t field = be16(p + at + 2);
      k->fragment_off = (uint16_t)(field >> 3);
      k->later_fragment = k->fragment_off != 0;
      k->more_fragments = (field & 1u) != 0;
      next = p[at];
      at += 8;
      if (k->later_fragment) {
        k->proto = next;
        k->upper_off = at;
        return MSOCK_OK;
      }
    } else {
      next = p[at];
      at += 8u + p[at + 1] * 8u;
    }
    if (at > k->total_len) {
      return MSOCK_ERR_SHORT;
    }
  }
  return MSOCK_ERR_INVALID;
}

static msock_err parse_upper(const uint8_t *p, msock_ip_packet *k) {
  const uint8_t *u = p + k->upper_off;
  const uint32_t left = k->total_len - k->upper_off;

  switch (k->proto) {
  case MSOCK_PROTO_TCP:
    if (left < 20) {
      return MSOCK_ERR_SHORT;
    }
    k->tcp_flags = u[13];
    break;
  case MSOCK_PROTO_UDP:
    if (left < 8) {
      return MSOCK_ERR_SHORT;
    }
    break;
  case MSOCK_PROTO_SCTP:
    if (left < 12) {
      return MSOCK_ERR_SHORT;
    }
    break;
  case MSOCK_PROTO_ICMP:
  case MSOCK_PROTO_ICMPV6:
    if (left < 4) {
      return MSOCK_ERR_SHORT;
    }
    k->icmp_type = u[0];
    k->icmp_code = u[1];
    k->icmp_id = left >= 8 ? be16(u + 4) : 0;
    return MSOCK_OK;
  default:
    return MSOCK_OK;
  }
  k->src_port = be16(u);
  k->dst_port = be16(u + 2);
  return MSOCK_OK;
}

msock_err msock_ip_packet_parse(const uint8_t *p, size_t len, msock_ip_packet *out) {
  msock_ip_packet k = {0};
  msock_err e = msock_ip_packet_route(p, len, &k.src, &k.dst, &k.total_len);

  if (e != MSOCK_OK) {
    return e;
  }
  if (k.src.family == 4) {
    const uint16_t fragment = be16(p + 6);
    k.fragment_off = fragment & 0x1fffu;
    k.later_fragment = k.fragment_off != 0;
    k.more_fragments = (fragment & 0x2000u) != 0;
    k.proto = p[9];
    k.upper_off = (p[0] & 15u) * 4u;
  } else {
    e = walk_v6(p, &k);
  }
  if (e == MSOCK_OK && !k.later_fragment) {
    e = parse_upper(p, &k);
  }
  if (e == MSOCK_OK) {
    *out = k;
  }
  return e;
}

uint32_t msock_ip_sum(uint32_t sum, const uint8_t *p, size_t len) {
  uint64_t s = sum;
  for (; len >= 2; p += 2, len -= 2) {
    s += be16(p);
  }
  if (len == 1) {
    s += (uint32_t)p[0] << 8;
  }
  while (s >> 32) {
    s = (s & 0xffffffffu) + (s >> 32);
  }
  return (uint32_t)s;
}

uint16_t msock_ip_sum_fold(uint32_t sum) {
  while (sum >> 16) {
    sum = (sum & 0xffffu) + (sum >> 16);
  }
  return (uint16_t)~sum;
}

uint32_t msock_ip_pseudo_sum(const msock_ip *src, const msock_ip *dst, uint8_t proto,
                             uint32_t len) {
  const size_t n = src->family == 4 ? 4 : 16;
  const uint8_t tail[8] = {(uint8_t)(len >> 24),
                           (uint8_t)(len >> 16),
                           (uint8_t)(len >> 8),
                           (uint8_t)len,
                           0,
                           0,
                           0,
                           proto};
  uint32_t sum = msock_ip_sum(0, src->b, n);
  sum = msock_ip_sum(sum, dst->b, n);
  return msock_ip_sum(sum, tail, sizeof tail);
}
