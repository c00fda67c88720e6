#include "magicsock/key_index.h"

#include <stdlib.h>
#include <string.h>

#define CAP_MIN 16u

/* Keys come from control and are uniform; the seed keeps strangers, who only probe, from aiming. */
static uint32_t place(const msock_key_index *ix, const void *key) {
  uint64_t h;
  memcpy(&h, key, sizeof h);
  h = (h ^ ix->seed) * UINT64_C(0x9e3779b97f4a7c15);
  return (uint32_t)(h >> 32) & (ix->cap - 1);
}

void msock_key_index_free(msock_key_index *ix) {
  free(ix->slots);
  *ix = (msock_key_index){0};
}

void msock_key_index_insert(msock_key_index *ix, void *record) {
  uint32_t i = place(ix, record);
  while (ix->slots[i] != NULL) {
    i = (i + 1) & (ix->cap - 1);
  }
  ix->slots[i] = record;
  ix->n++;
}

msock_err msock_key_index_reserve(msock_key_index *ix, uint32_t extra) {
  const uint64_t n = (uint64_t)ix->n + extra, want = n + n / 2 + 1; /* two thirds full at most */
  uint32_t cap = ix->cap > 0 ? ix->cap : CAP_MIN;
  while (cap < want) {
    cap *= 2;
  }
  if (cap == ix->cap) {
    return MSOCK_OK;
  }
  msock_key_index bigger = {.slots = calloc(cap, sizeof *bigger.slots), .cap = cap};
  if (bigger.slots == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  bigger.seed = ix->seed;
  for (uint32_t i = 0; i < ix->cap; i++) {
    if (ix->slots[i] != NULL) {
      msock_key_index_insert(&bigger, ix->slots[i]);
    }
  }
  free(ix->slots);
  *ix = bigger;
  return MSOCK_OK;
}

static uint32_t slot_of(const msock_key_index *ix, const uint8_t *key) {
  for (uint32_t i = place(ix, key);; i = (i + 1) & (ix->cap - 1)) {
    if (ix->slots[i] == NULL || memcmp(ix->slots[i], key, MSOCK_KEY_LEN) == 0) {
      return i;
    }
  }
}

void msock_key_index_remove(msock_key_index *ix, const void *record) {
  uint32_t hole = slot_of(ix, record);
  ix->slots[hole] = NULL;
  ix->n--;
  /* Records behind the hole move up unless that would put them before their own place. */
  for (uint32_t i = (hole + 1) & (ix->cap - 1); ix->slots[i] != NULL; i = (i + 1) & (ix->cap - 1)) {
    const uint32_t home = place(ix, ix->slots[i]);
    if (((i - home) & (ix->cap - 1)) >= ((i - hole) & (ix->cap - 1))) {
      ix->slots[hole] = ix->slots[i];
      ix->slots[i] = NULL;
      hole = i;
    }
  }
}

void *msock_key_index_find(const msock_key_index *ix, const uint8_t key[static MSOCK_KEY_LEN]) {
  return ix->cap > 0 ? ix->slots[slot_of(ix, key)] : NULL;
}
