#include "wg/due_heap.h"

#include <stdlib.h>

#define CAP_MIN 16u

void msock_wg_due_free(msock_wg_due_heap *h) {
  free(h->at);
  *h = (msock_wg_due_heap){0};
}

static void put(msock_wg_due_heap *h, uint32_t pos, msock_wg_active *a) {
  h->at[pos] = a;
  a->heap_pos = pos;
}

static void sift(msock_wg_due_heap *h, uint32_t pos) {
  msock_wg_active *a = h->at[pos];

  while (pos > 0 && h->at[(pos - 1) / 2]->due_us > a->due_us) {
    put(h, pos, h->at[(pos - 1) / 2]);
    pos = (pos - 1) / 2;
  }
  for (uint32_t child = 2 * pos + 1; child < h->n; child = 2 * pos + 1) {
    if (child + 1 < h->n && h->at[child + 1]->due_us < h->at[child]->due_us) {
      child++;
    }
    if (h->at[child]->due_us >= a->due_us) {
      break;
    }
    put(h, pos, h->at[child]);
    pos = child;
  }
  put(h, pos, a);
}

msock_err msock_wg_due_insert(msock_wg_due_heap *h, msock_wg_active *a) {
  if (h->n == h->cap) {
    const uint32_t cap = h->cap ? h->cap * 2 : CAP_MIN;
    msock_wg_active **bigger = realloc(h->at, cap * sizeof *bigger);
    if (bigger == NULL) {
      return MSOCK_ERR_NOMEM;
    }
    h->at = bigger;
    h->cap = cap;
  }
  put(h, h->n++, a);
  sift(h, a->heap_pos);
  return MSOCK_OK;
}

void msock_wg_due_remove(msock_wg_due_heap *h, msock_wg_active *a) {
  msock_wg_active *last = h->at[--h->n];
  if (last != a) {
    put(h, a->heap_pos, last);
    sift(h, last->heap_pos);
  }
}

void msock_wg_due_set(msock_wg_due_heap *h, msock_wg_active *a, uint64_t due_us) {
  a->due_us = due_us;
  sift(h, a->heap_pos);
}

msock_wg_active *msock_wg_due_top(const msock_wg_due_heap *h) {
  return h->n > 0 ? h->at[0] : NULL;
}
