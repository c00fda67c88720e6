/* derp/server_buffer.h: the packet memory of a relay: buffers of a few sizes from a bounded pool.
 *
 * A buffer holds one whole frame, ready to be sent: a packet is copied into it from the bytes of
 * its sender, handed from queue to queue by reference, and given back when the last byte is in the
 * destination's socket. Free buffers are kept for the next packet, up to a bound. */
#ifndef MSOCK_DERP_SERVER_BUFFER_H
#define MSOCK_DERP_SERVER_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RELAY_POOL_CLASSES 5u
#define RELAY_POOL_KEEP (1u << 20) /* free bytes kept; more go back to the system */

typedef struct relay_buf {
  struct relay_buf *next;
  uint64_t at_us;    /* when it was queued */
  uint32_t len, cap; /* bytes in data, room */
  bool is_packet;    /* counted; else a notice of ours */
  bool is_disco;
  bool is_forward; /* to another relay: two keys in front */
  uint8_t data[];  /* one whole frame, header first */
} relay_buf;

typedef struct relay_list {
  relay_buf *head, *tail;
  uint32_t n, bytes;
} relay_list;

typedef struct relay_pool {
  relay_buf *free[RELAY_POOL_CLASSES];
  size_t kept;        /* bytes in them */
  uint64_t used, max; /* bytes given out, and their bound */
} relay_pool;

/* Room for len bytes or more; NULL: the bound is reached, or no memory. */
relay_buf *relay_buf_new(relay_pool *p, size_t len);
/* b with room for len, the bytes kept; NULL as above, b then untouched. b may be NULL. */
relay_buf *relay_buf_fit(relay_pool *p, relay_buf *b, size_t len);
void relay_buf_free(relay_pool *p, relay_buf *b); /* NULL is fine */
void relay_pool_free(relay_pool *p);

void relay_list_push(relay_list *l, relay_buf *b);
relay_buf *relay_list_pop(relay_list *l); /* the oldest, or NULL */

#endif
