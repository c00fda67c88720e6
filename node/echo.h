/* node/echo.h: echo requests and answers inside the tunnel: ICMP (RFC 792), ICMPv6 (RFC 4443) and
 * the TSMP ping of peers (magicsock.md 2.7, IP protocol 99). Whole IP packets, checksums included.
 *
 * Pure functions over caller buffers. Used where no TUN has a host stack behind it, by
 * `tsnode ping --icmp` and `--tsmp`, and to answer TSMP always: that answer is the node's own. */
#ifndef MSOCK_NODE_ECHO_H
#define MSOCK_NODE_ECHO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/key.h"

#define MSOCK_TSMP_DATA_LEN 8u      /* opaque bytes of a ping */
#define MSOCK_TSMP_PACKET_MAX 51u   /* IPv6 header and the longest ping answer */
#define MSOCK_TSMP_ANSWER_GROWTH 2u /* bytes that an answer is longer than its request */

/* Echo request from src to dst (one family). Gives its length, MSOCK_ERR_NOBUF (buf untouched) or
 * MSOCK_ERR_INVALID (families differ, or payload over 65000 bytes). */
ptrdiff_t msock_echo_request(uint8_t *buf, size_t cap, const msock_ip *src, const msock_ip *dst,
                             uint16_t id, uint16_t seq, const uint8_t *payload, size_t payload_len);

/* Turns an echo request to one of own into its reply, in place; gives the reply's length, at most
 * len. 0, and the packet untouched, when it is none: another destination, a fragment, IP options or
 * extension headers, a wrong checksum, or a source that cannot be answered. */
size_t msock_echo_answer(uint8_t *pkt, size_t len, const msock_ip *own, size_t n_own);

typedef struct msock_echo_reply {
  msock_ip from, to;
  uint16_t id, seq;
  const uint8_t *payload; /* borrowed from the packet */
  size_t payload_len;
} msock_echo_reply;

/* Reads an echo reply. MSOCK_ERR_UNKNOWN (something else), MSOCK_ERR_INVALID (wrong checksum) or
 * what msock_ip_packet_parse says. */
msock_err msock_echo_parse_reply(const uint8_t *pkt, size_t len, msock_echo_reply *out);

/* TSMP ping from src to dst. Errors as above. */
ptrdiff_t msock_tsmp_request(uint8_t *buf, size_t cap, const msock_ip *src, const msock_ip *dst,
                             const uint8_t data[static MSOCK_TSMP_DATA_LEN]);

/* Turns a TSMP ping to one of own into its answer, in place; the buffer holds cap bytes and must
 * have MSOCK_TSMP_ANSWER_GROWTH of them free behind the packet. Gives the answer's length; 0, and
 * the packet untouched, when it is no such ping or there is no room.
 *   peerapi_port  the port of our peer API, 0 = none */
size_t msock_tsmp_answer(uint8_t *pkt, size_t len, size_t cap, const msock_ip *own, size_t n_own,
                         uint16_t peerapi_port);

typedef enum msock_tsmp_kind {
  MSOCK_TSMP_PING = 'p',
  MSOCK_TSMP_PONG = 'o',
  MSOCK_TSMP_DISCO_KEY = 'a', /* the sender's disco key, announced inside the tunnel */
  MSOCK_TSMP_REJECT = '!'
} msock_tsmp_kind;

typedef struct msock_tsmp {
  msock_tsmp_kind kind;
  msock_ip from, to;
  uint8_t data[MSOCK_TSMP_DATA_LEN]; /* PING, PONG */
  msock_disco_key disco;             /* DISCO_KEY */
  uint16_t peerapi_port;             /* PONG; 0 = none */
  uint8_t proto, reason, flags;      /* REJECT: what of ours was refused, and why */
  uint16_t src_port, dst_port;       /* REJECT */
} msock_tsmp;

/* Reads a TSMP packet. MSOCK_ERR_UNKNOWN: not TSMP, or of another type; MSOCK_ERR_SHORT: cut off.
 * PEER: answers of 9 or 10 bytes carry no port. */
msock_err msock_tsmp_decode(const uint8_t *pkt, size_t len, msock_tsmp *out);

#endif
