/* derp/queue.h: packets that wait for one region's connection: 32 of data and 32 of disco.
 *
 * Kept apart so that a data flood cannot evict disco (derp.md 3.3, POOL-04). When a half is full
 * the oldest of that half is dropped and counted; a push never blocks. Packets are held as ready
 * SendPacket frames. The queue outlives a connection: what waited while dialling goes out when the
 * connection is up. Each slot keeps its buffer, so a warm queue allocates nothing. */
#ifndef MSOCK_DERP_QUEUE_H
#define MSOCK_DERP_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/key.h"

#define MSOCK_DERP_QUEUE_LEN 32u /* of each kind: derp.md section 0 */

typedef struct msock_derp_slot {
  uint8_t *frame; /* allocated, cap bytes */
  uint32_t len;
  uint32_t cap;
} msock_derp_slot;

typedef struct msock_derp_ring {
  msock_derp_slot slot[MSOCK_DERP_QUEUE_LEN];
  uint32_t head; /* index of the oldest */
  uint32_t n;
} msock_derp_ring;

typedef struct msock_derp_queue {
  msock_derp_ring disco, data;
  uint64_t dropped_disco, dropped_data; /* oldest evicted by a newer one */
} msock_derp_queue;

/* A zeroed queue is empty and ready. */

/* Copies a packet in. MSOCK_ERR_INVALID: over MSOCK_DERP_PACKET_MAX; MSOCK_ERR_NOMEM. */
msock_err msock_derp_queue_push(msock_derp_queue *q, const msock_node_key *dst, const uint8_t *pkt,
                                size_t len);
/* The next frame to send, disco before data; NULL when empty. Valid until the next call. */
const msock_derp_slot *msock_derp_queue_peek(const msock_derp_queue *q);
/* Removes what peek gave; its buffer is kept for reuse. */
void msock_derp_queue_pop(msock_derp_queue *q);
bool msock_derp_queue_is_empty(const msock_derp_queue *q);
/* Gives back the buffers of free slots. */
void msock_derp_queue_trim(msock_derp_queue *q);
/* Drops everything (not counted) and frees the buffers. */
void msock_derp_queue_clear(msock_derp_queue *q);

#endif
