#include "derp/queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/disco_look.h"
#include "derp/frame.h"

/* A slot's first buffer: one WireGuard datagram of an ordinary MTU with its header. */
#define SLOT_MIN 1536u

/* Room for len bytes; the old content may be lost. */
static bool fit(msock_derp_slot *s, size_t len) {
  if (s->cap >= len) {
    return true;
  }
  const size_t cap = len < SLOT_MIN ? SLOT_MIN : len;
  uint8_t *frame = malloc(cap);
  if (frame == NULL) {
    return false;
  }
  free(s->frame);
  s->frame = frame;
  s->cap = (uint32_t)cap;
  return true;
}

msock_err msock_derp_queue_push(msock_derp_queue *q, const msock_node_key *dst, const uint8_t *pkt,
                                size_t len) {
  const bool is_disco = msock_looks_like_disco(pkt, len);
  msock_derp_ring *r = is_disco ? &q->disco : &q->data;
  const size_t frame_len = MSOCK_DERP_PACKET_OVERHEAD + len;
  msock_derp_slot *s = &r->slot[(r->head + r->n) % MSOCK_DERP_QUEUE_LEN];

  if (len > MSOCK_DERP_PACKET_MAX) {
    return MSOCK_ERR_INVALID;
  }
  if (!fit(s, frame_len)) {
    return MSOCK_ERR_NOMEM;
  }
  if (r->n == MSOCK_DERP_QUEUE_LEN) { /* s is the oldest: it is overwritten */
    r->head = (r->head + 1) % MSOCK_DERP_QUEUE_LEN;
    r->n--;
    if (is_disco) {
      q->dropped_disco++;
    } else {
      q->dropped_data++;
    }
  }
  s->len = (uint32_t)frame_len;
  msock_derp_header_write(s->frame, (msock_derp_header){.type = MSOCK_DERP_SEND_PACKET,
                                                        .len = (uint32_t)(MSOCK_KEY_LEN + len)});
  memcpy(s->frame + MSOCK_DERP_HEADER_LEN, dst->b, sizeof dst->b);
  if (len > 0) {
    memcpy(s->frame + MSOCK_DERP_PACKET_OVERHEAD, pkt, len);
  }
  r->n++;
  return MSOCK_OK;
}

const msock_derp_slot *msock_derp_queue_peek(const msock_derp_queue *q) {
  const msock_derp_ring *r = q->disco.n > 0 ? &q->disco : &q->data;
  return r->n > 0 ? &r->slot[r->head] : NULL;
}

void msock_derp_queue_pop(msock_derp_queue *q) {
  msock_derp_ring *r = q->disco.n > 0 ? &q->disco : &q->data;
  if (r->n > 0) {
    r->head = (r->head + 1) % MSOCK_DERP_QUEUE_LEN;
    r->n--;
  }
}

bool msock_derp_queue_is_empty(const msock_derp_queue *q) {
  return q->disco.n == 0 && q->data.n == 0;
}

static void trim(msock_derp_ring *r) {
  for (uint32_t i = r->n; i < MSOCK_DERP_QUEUE_LEN; i++) {
    msock_derp_slot *s = &r->slot[(r->head + i) % MSOCK_DERP_QUEUE_LEN];
    free(s->frame);
    *s = (msock_derp_slot){0};
  }
}

void msock_derp_queue_trim(msock_derp_queue *q) {
  trim(&q->disco);
  trim(&q->data);
}

void msock_derp_queue_clear(msock_derp_queue *q) {
  q->disco.n = 0;
  q->data.n = 0;
  msock_derp_queue_trim(q);
}
