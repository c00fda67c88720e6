/* io/udp.h: one UDP socket, batches in and out (dataplane.md 9.1, 9.2; magicsock.md 5.2, 5.3).
 *
 * Out: consecutive packets to one address of one size (the last may be shorter) go as one GSO train
 * where the kernel has UDP_SEGMENT; trains go in one sendmmsg. In: recvmmsg, with UDP_GRO split
 * again. Both fall back for good when the kernel or the device refuses. */
#ifndef MSOCK_IO_UDP_H
#define MSOCK_IO_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/packet.h"
#include "io/egress.h"
#include "io/loop.h"

#define MSOCK_UDP_SOCKET_BUFFER                                                                    \
  (7u << 20)                         /* magicsock.md 5.2; the plain option if not permitted        \
                                      */
#define MSOCK_UDP_DATAGRAM_MAX 2048u /* longer datagrams are dropped and counted (rx_cut) */

/* What a send error asks of the owner, magicsock.md 5.3. */
typedef enum msock_udp_fault {
  MSOCK_UDP_FAULT_LOST = 0, /* EPERM: a local firewall; count, perhaps rebind */
  MSOCK_UDP_FAULT_REBIND,   /* EPIPE, ENOTCONN, EBADF and unknown ones */
  MSOCK_UDP_FAULT_HOST,     /* EHOSTUNREACH, EHOSTDOWN, ECONNREFUSED: this path is gone */
  MSOCK_UDP_FAULT_NETWORK,  /* ENETUNREACH, EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL: mute until link
                               change */
  MSOCK_UDP_FAULT_TOO_BIG,  /* EMSGSIZE */
  MSOCK_UDP_FAULT_FULL,     /* EAGAIN, ENOBUFS: dropped */
  MSOCK_UDP_FAULT_DENIED    /* the profile */
} msock_udp_fault;

typedef struct msock_udp_stats {
  uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
  uint64_t rx_cut, rx_errors;
  uint64_t tx_fault[MSOCK_UDP_FAULT_DENIED + 1]; /* packets */
  bool gso, gro;                                 /* in use now */
} msock_udp_stats;

typedef struct msock_udp_handlers {
  /* n <= MSOCK_BATCH_MAX packets; pkts and their storage are valid for the call and may be changed
   * in place. Bytes in front of a packet belong to it only as far as its own off says: packets of
   * one GRO train lie back to back. */
  void (*received)(void *ctx, msock_packet *pkts, const msock_addr *from, size_t n,
                   uint64_t now_us);
  /* n packets to this address were not sent. Called inside msock_udp_send. May be NULL. */
  void (*fault)(void *ctx, const msock_addr *to, msock_udp_fault fault, size_t n);
  /* The socket is dead (read error): free it and bind anew with back-off. */
  void (*dead)(void *ctx, int system_errno);
} msock_udp_handlers;

typedef struct msock_udp msock_udp;
/* on: NULL = 0.0.0.0:0. *out only on MSOCK_OK. */
msock_err msock_udp_new(msock_egress *eg, msock_purpose p, const msock_addr *on,
                        const msock_udp_handlers *handlers, void *ctx, msock_udp **out);
void msock_udp_free(msock_udp *u);
msock_addr msock_udp_local(const msock_udp *u);
int msock_udp_fd(const msock_udp *u);
/* Sends pkts[i] to to[i], n <= MSOCK_BATCH_MAX, in order, now. Gives the number handed to the
 * kernel; the others were reported by fault. Never blocks, never queues. */
size_t msock_udp_send(msock_udp *u, msock_purpose p, const msock_packet *pkts, const msock_addr *to,
                      size_t n);
/* Turns UDP_SEGMENT off (GSO trains). */
void msock_udp_set_gso(msock_udp *u, bool on);
const msock_udp_stats *msock_udp_get_stats(const msock_udp *u);

#endif
