#include "derp/server_buffer.h"

#include <stdlib.h>
#include <string.h>

/* With the header of a buffer: a notice, a small packet, a tunnel packet of ordinary MTU, a login,
 * a large packet. What is longer (a ClientInfo of 256 KiB) is not kept. */
static const uint32_t sizes[RELAY_POOL_CLASSES] = {96, 256, 1536, 8192, 65536 + 128};

static size_t class_of(size_t len) {
  size_t i = 0;
  while (i < RELAY_POOL_CLASSES && sizes[i] < len) {
    i++;
  }
  return i;
}

static size_t cost(uint32_t cap) {
  return sizeof(relay_buf) + cap;
}

relay_buf *relay_buf_new(relay_pool *p, size_t len) {
  const size_t i = class_of(len);
  const uint32_t cap = i < RELAY_POOL_CLASSES ? sizes[i] : (uint32_t)len;
  relay_buf *b = i < RELAY_POOL_CLASSES ? p->free[i] : NULL;
  if (p->used + cost(cap) > p->max) {
    return NULL;
  }
  if (b != NULL) {
    p->free[i] = b->next;
    p->kept -= cost(cap);
  } else if ((b = malloc(cost(cap))) == NULL) {
    return NULL;
  }
  p->used += cost(cap);
  b->next = NULL;
  b->len = 0;
  b->cap = cap;
  b->is_packet = b->is_disco = b->is_forward = false;
  return b;
}

relay_buf *relay_buf_fit(relay_pool *p, relay_buf *b, size_t len) {
  if (b != NULL && b->cap >= len) {
    return b;
  }
  relay_buf *more = relay_buf_new(p, len);
  if (more != NULL && b != NULL) {
    memcpy(more->data, b->data, b->len);
    more->len = b->len;
    relay_buf_free(p, b);
  }
  return more;
}

void relay_buf_free(relay_pool *p, relay_buf *b) {
  if (b == NULL) {
    return;
  }
  const size_t i = class_of(b->cap);
  p->used -= cost(b->cap);
  if (i == RELAY_POOL_CLASSES || p->kept + cost(b->cap) > RELAY_POOL_KEEP) {
    free(b);
    return;
  }
  p->kept += cost(b->cap);
  b->next = p->free[i];
  p->free[i] = b;
}

void relay_pool_free(relay_pool *p) {
  for (size_t i = 0; i < RELAY_POOL_CLASSES; i++) {
    while (p->free[i] != NULL) {
      relay_buf *b = p->free[i];
      p->free[i] = b->next;
      free(b);
    }
  }
}

void relay_list_push(relay_list *l, relay_buf *b) {
  b->next = NULL;
  if (l->tail != NULL) {
    l->tail->next = b;
  } else {
    l->head = b;
  }
  l->tail = b;
  l->n++;
  l->bytes += b->len;
}

relay_buf *relay_list_pop(relay_list *l) {
  relay_buf *b = l->head;
  if (b != NULL) {
    l->head = b->next;
    l->tail = l->head != NULL ? l->tail : NULL;
    l->n--;
    l->bytes -= b->len;
  }
  return b;
}
