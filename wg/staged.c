#include "wg/staged.h"

#include <stdlib.h>
#include <string.h>

#include "wg/messages.h"

msock_err msock_wg_staged_init(msock_wg_staged *s, uint32_t n, uint32_t slab_bytes) {
  *s = (msock_wg_staged){.slab_bytes = slab_bytes,
                         .n = n,
                         .free = MSOCK_WG_SLAB_NONE,
                         .oldest = MSOCK_WG_SLAB_NONE,
                         .newest = MSOCK_WG_SLAB_NONE};
  s->slabs = calloc(n, sizeof *s->slabs);
  s->bytes = calloc(n, slab_bytes);
  if (s->slabs == NULL || s->bytes == NULL) {
    msock_wg_staged_free(s);
    return MSOCK_ERR_NOMEM;
  }
  return MSOCK_OK;
}

void msock_wg_staged_free(msock_wg_staged *s) {
  free(s->slabs);
  free(s->bytes);
  s->slabs = NULL;
  s->bytes = NULL;
}

void msock_wg_staged_list_init(msock_wg_staged_list *l) {
  *l = (msock_wg_staged_list){.head = MSOCK_WG_SLAB_NONE, .tail = MSOCK_WG_SLAB_NONE};
}

static uint8_t *bytes_of(const msock_wg_staged *s, uint32_t slab) {
  return s->bytes + (size_t)slab * s->slab_bytes;
}

/* Takes the head off its list and off the order of ages, and frees it. */
static void drop_head(msock_wg_staged *s, msock_wg_staged_list *l) {
  const uint32_t at = l->head;
  msock_wg_slab *slab = &s->slabs[at];

  l->head = slab->next;
  if (l->head == MSOCK_WG_SLAB_NONE) {
    l->tail = MSOCK_WG_SLAB_NONE;
  }
  l->count--;
  if (slab->older != MSOCK_WG_SLAB_NONE) {
    s->slabs[slab->older].newer = slab->newer;
  } else {
    s->oldest = slab->newer;
  }
  if (slab->newer != MSOCK_WG_SLAB_NONE) {
    s->slabs[slab->newer].older = slab->older;
  } else {
    s->newest = slab->older;
  }
  slab->list = NULL;
  slab->next = s->free;
  s->free = at;
}

static uint32_t take(msock_wg_staged *s) {
  if (s->free != MSOCK_WG_SLAB_NONE) {
    const uint32_t at = s->free;
    s->free = s->slabs[at].next;
    return at;
  }
  return s->fresh++;
}

uint32_t msock_wg_staged_push(msock_wg_staged *s, msock_wg_staged_list *l, const uint8_t *p,
                              size_t len) {
  uint32_t lost = 0;

  if (len > s->slab_bytes) {
    return 1;
  }
  if (l->count >= MSOCK_WG_STAGED_PER_PEER) {
    drop_head(s, l);
    lost = 1;
  } else if (s->free == MSOCK_WG_SLAB_NONE && s->fresh == s->n) {
    /* both orders are by age, so the oldest of all is the head of its list */
    drop_head(s, s->slabs[s->oldest].list);
    lost = 1;
  }
  const uint32_t at = take(s);
  msock_wg_slab *slab = &s->slabs[at];
  *slab = (msock_wg_slab){.list = l,
                          .next = MSOCK_WG_SLAB_NONE,
                          .older = s->newest,
                          .newer = MSOCK_WG_SLAB_NONE,
                          .len = (uint32_t)len};
  memcpy(bytes_of(s, at), p, len);
  if (l->tail != MSOCK_WG_SLAB_NONE) {
    s->slabs[l->tail].next = at;
  } else {
    l->head = at;
  }
  l->tail = at;
  l->count++;
  if (s->newest != MSOCK_WG_SLAB_NONE) {
    s->slabs[s->newest].newer = at;
  } else {
    s->oldest = at;
  }
  s->newest = at;
  return lost;
}

size_t msock_wg_staged_pop(msock_wg_staged *s, msock_wg_staged_list *l, uint8_t *dst) {
  if (l->count == 0) {
    return 0;
  }
  const size_t len = s->slabs[l->head].len;
  memcpy(dst, bytes_of(s, l->head), len);
  drop_head(s, l);
  return len;
}

uint32_t msock_wg_staged_clear(msock_wg_staged *s, msock_wg_staged_list *l) {
  const uint32_t n = l->count;
  while (l->count > 0) {
    drop_head(s, l);
  }
  return n;
}
