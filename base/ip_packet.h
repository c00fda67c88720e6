/* base/ip_packet.h: one parser of inner IP packets for wg (cryptokey routing), filter and the
 * node's own ICMP and TSMP answers. IPv4 (RFC 791) and IPv6 (RFC 8200). Pure; borrows nothing. */
#ifndef MSOCK_BASE_IP_PACKET_H
#define MSOCK_BASE_IP_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"

enum {
  MSOCK_PROTO_ICMP = 1,
  MSOCK_PROTO_TCP = 6,
  MSOCK_PROTO_UDP = 17,
  MSOCK_PROTO_FRAGMENT = 44,
  MSOCK_PROTO_ICMPV6 = 58,
  MSOCK_PROTO_NONE = 59,
  MSOCK_PROTO_TSMP = 99,
  MSOCK_PROTO_SCTP = 132
};

#define MSOCK_TCP_SYN 0x02u
#define MSOCK_TCP_RST 0x04u
#define MSOCK_TCP_ACK 0x10u

typedef struct msock_ip_packet {
  msock_ip src, dst;
  uint8_t proto;         /* the upper protocol, IPv6 extension headers walked */
  bool later_fragment;   /* fragment offset > 0: no upper header here */
  bool more_fragments;   /* first fragment of several */
  uint16_t fragment_off; /* in units of 8 bytes */
  uint16_t src_port;     /* TCP, UDP, SCTP; 0 otherwise */
  uint16_t dst_port;
  uint8_t tcp_flags; /* TCP only */
  uint8_t icmp_type; /* ICMP and ICMPv6 only */
  uint8_t icmp_code;
  uint16_t icmp_id;   /* echo only */
  uint32_t total_len; /* by the IP header: at most len */
  uint32_t upper_off; /* offset of the upper header */
} msock_ip_packet;

/* Addresses and total length only: what routing by allowed IPs needs. MSOCK_ERR_SHORT (less than an
 * IP header, or the header says more than len), MSOCK_ERR_INVALID (version nibble, header length).
 */
msock_err msock_ip_packet_route(const uint8_t *p, size_t len, msock_ip *src, msock_ip *dst,
                                uint32_t *total_len);

/* Everything. MSOCK_ERR_SHORT when a header that the protocol needs is cut off (also TCP below 20
 * bytes, UDP below 8, ICMP below 4), except in later fragments. At most 8 extension headers. */
msock_err msock_ip_packet_parse(const uint8_t *p, size_t len, msock_ip_packet *out);

/* Internet checksum helpers (RFC 1071): one's complement sum over data, continued from sum. */
uint32_t msock_ip_sum(uint32_t sum, const uint8_t *p, size_t len);
uint16_t msock_ip_sum_fold(uint32_t sum); /* the checksum field in host order: ~folded */
/* Pseudo-header sum for src, dst (same family), protocol and upper length. */
uint32_t msock_ip_pseudo_sum(const msock_ip *src, const msock_ip *dst, uint8_t proto, uint32_t len);

#endif
