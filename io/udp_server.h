/* io/udp_server.h: a UDP port that answers each datagram at once, from the address that was asked
 * (IP_PKTINFO: tailscale#15014, derp.md 5.2, 26), such as STUN. No state per client, no queue: an
 * answer that the socket does not take is dropped and counted. */
#ifndef MSOCK_IO_UDP_SERVER_H
#define MSOCK_IO_UDP_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "io/egress.h"

#define MSOCK_UDP_SERVER_REQUEST_MAX 1500u /* longer ones are cut, so they do not parse */
#define MSOCK_UDP_SERVER_ANSWER_MAX 256u
#define MSOCK_UDP_SERVER_BATCH 32u /* datagrams per system call */
#define MSOCK_UDP_SERVER_CALLS 8u  /* calls before the other descriptors get their turn */

typedef struct msock_udp_server_stats {
  uint64_t received, answered, read_errors, write_errors;
} msock_udp_server_stats;

typedef struct msock_udp_server msock_udp_server;
/* on: family 6 unspecified takes both families. answer: writes at most MSOCK_UDP_SERVER_ANSWER_MAX
 * bytes, gives their number, 0 = silence. Errors as msock_egress_udp_bind; errno tells why on
 * MSOCK_ERR_IO. */
msock_err msock_udp_server_new(msock_egress *eg, msock_purpose p, const msock_addr *on,
                               size_t (*answer)(void *ctx, const msock_addr *from, const uint8_t *p,
                                                size_t len, uint8_t *dst),
                               void *ctx, msock_udp_server **out);
void msock_udp_server_free(msock_udp_server *s); /* NULL is fine */
msock_addr msock_udp_server_addr(const msock_udp_server *s);
msock_udp_server_stats msock_udp_server_get_stats(const msock_udp_server *s);

#endif
