/* io/tun.h: a TUN device, batches in and out. IFF_TUN | IFF_NO_PI: each packet is a bare IP packet.
 * Addresses and routes: netlink.h. */
#ifndef MSOCK_IO_TUN_H
#define MSOCK_IO_TUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/packet.h"
#include "io/loop.h"

#define MSOCK_TUN_NAME_MAX 16u     /* IFNAMSIZ */
#define MSOCK_TUN_PACKET_MAX 2048u /* longest packet read; the device's MTU must be below */
#define MSOCK_TUN_WHY_MAX 200u

typedef struct msock_tun_stats {
  uint64_t rx_packets, rx_bytes; /* read: going out to peers */
  uint64_t tx_packets, tx_bytes; /* written: came from peers */
  uint64_t tx_dropped;           /* EAGAIN, ENOBUFS, device down */
} msock_tun_stats;

typedef struct msock_tun msock_tun;
/* n <= MSOCK_BATCH_MAX packets, each with MSOCK_PACKET_HEADROOM in front and MSOCK_PACKET_TAILROOM
 * behind; valid for the call, may be changed in place. */
typedef void (*msock_tun_read_cb)(void *ctx, msock_packet *pkts, size_t n, uint64_t now_us);

/* name: "tsnode0", or with %d. MSOCK_ERR_IO: why says what the system refused and what to do. */
msock_err msock_tun_open(msock_loop *loop, const char *name, msock_tun_read_cb cb, void *ctx,
                         msock_tun **out, char why[static MSOCK_TUN_WHY_MAX]);
void msock_tun_free(msock_tun *t); /* the device goes away */
const char *msock_tun_name(const msock_tun *t);
/* Writes n packets (each pkts[i].off .. +len). Gives how many the device took; the rest is counted.
 */
size_t msock_tun_write(msock_tun *t, const msock_packet *pkts, size_t n);
/* Back-pressure: leave packets in the kernel's queue. */
void msock_tun_pause(msock_tun *t, bool pause);
const msock_tun_stats *msock_tun_get_stats(const msock_tun *t);

#endif
