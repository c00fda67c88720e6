#include "magicsock/due_heap.h"

#include <stdlib.h>

#define CAP_MIN 16u

void msock_path_heap_free(msock_path_heap *h) {
  free(h->at);
  *h = (msock_path_heap){0};
}

msock_err msock_path_heap_reserve(msock_path_heap *h, uint32_t extra) {
  uint32_t cap = h->cap > 0 ? h->cap : CAP_MIN;
  while (cap < h->n + extra) {
    cap *= 2;
  }
  if (cap == h->cap) {
    return MSOCK_OK;
  }
  msock_path_peer **bigger = realloc(h->at, cap * sizeof *bigger);
  if (bigger == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  h->at = bigger;
  h->cap = cap;
  return MSOCK_OK;
}

static void put(msock_path_heap *h, uint32_t pos, msock_path_peer *p) {
  h->at[pos] = p;
  p->heap_pos = pos;
}

/* Moves the peer at pos to where it belongs, up or down. */
static void settle(msock_path_heap *h, uint32_t pos) {
  msock_path_peer *p = h->at[pos];

  for (; pos > 0 && h->at[(pos - 1) / 2]->due_us > p->due_us; pos = (pos - 1) / 2) {
    put(h, pos, h->at[(pos - 1) / 2]);
  }
  for (;;) {
    uint32_t child = 2 * pos + 1;
    if (child + 1 < h->n && h->at[child + 1]->due_us < h->at[child]->due_us) {
      child++;
    }
    if (child >= h->n || h->at[child]->due_us >= p->due_us) {
      break;
    }
    put(h, pos, h->at[child]);
    pos = child;
  }
  put(h, pos, p);
}

void msock_path_heap_insert(msock_path_heap *h, msock_path_peer *p) {
  put(h, h->n++, p);
  settle(h, p->heap_pos);
}

void msock_path_heap_remove(msock_path_heap *h, msock_path_peer *p) {
  msock_path_peer *last = h->at[--h->n];
  if (last != p) {
    put(h, p->heap_pos, last);
    settle(h, last->heap_pos);
  }
}

void msock_path_heap_set(msock_path_heap *h, msock_path_peer *p, uint64_t due_us) {
  p->due_us = due_us;
  settle(h, p->heap_pos);
}

msock_path_peer *msock_path_heap_top(const msock_path_heap *h) {
  return h->n > 0 ? h->at[0] : NULL;
}
