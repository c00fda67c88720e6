/* base/packet.h: one packet in a buffer with headroom, and batches of them.
 *
 * Headroom is enough for every header put in front on the way out (WireGuard 16, Geneve 8,
 * DERP 5+32, TUN vnet 12), tail room for the AEAD tag and the padding: nothing is copied between
 * TUN and socket. Hot functions take an array of packets and a count. */
#ifndef MSOCK_BASE_PACKET_H
#define MSOCK_BASE_PACKET_H

#include <stddef.h>
#include <stdint.h>

#define MSOCK_PACKET_HEADROOM 128u
#define MSOCK_PACKET_TAILROOM 32u
#define MSOCK_BATCH_MAX 64u /* packets in one batch */

typedef struct msock_packet {
  uint8_t *buf; /* storage, owned by whoever made the batch; borrowed for the call */
  uint32_t cap; /* bytes of storage */
  uint32_t off; /* where the packet begins in buf */
  uint32_t len; /* its length; off + len <= cap */
} msock_packet;

static inline uint8_t *msock_packet_data(const msock_packet *p) {
  return p->buf + p->off;
}

#endif
