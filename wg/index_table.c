#include "wg/index_table.h"

#include <stdlib.h>

#include "wg/wg.h"

#define CAP_MIN 64u

void msock_wg_index_free(msock_wg_index_table *t) {
  free(t->slots);
  *t = (msock_wg_index_table){0};
}

static msock_wg_index_entry *slot_for(const msock_wg_index_table *t, uint32_t index) {
  uint32_t at = index & (t->cap - 1);
  while (t->slots[at].peer_id != MSOCK_WG_PEER_NONE && t->slots[at].index != index) {
    at = (at + 1) & (t->cap - 1);
  }
  return &t->slots[at];
}

/* Room for one more at a load of at most a half. */
static msock_err reserve(msock_wg_index_table *t) {
  if ((t->used + 1) * 2 <= t->cap) {
    return MSOCK_OK;
  }
  msock_wg_index_table bigger = {.cap = t->cap ? t->cap * 2 : CAP_MIN, .used = t->used};
  bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
  if (bigger.slots == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  for (uint32_t i = 0; i < bigger.cap; i++) {
    bigger.slots[i].peer_id = MSOCK_WG_PEER_NONE;
  }
  for (uint32_t i = 0; i < t->cap; i++) {
    if (t->slots[i].peer_id != MSOCK_WG_PEER_NONE) {
      *slot_for(&bigger, t->slots[i].index) = t->slots[i];
    }
  }
  free(t->slots);
  *t = bigger;
  return MSOCK_OK;
}

msock_err msock_wg_index_draw(msock_wg_index_table *t, const msock_env *env, uint32_t peer_id,
                              uint32_t *index) {
  uint32_t drawn = 0;

  if (reserve(t) != MSOCK_OK) {
    return MSOCK_ERR_NOMEM;
  }
  do {
    uint8_t b[4];
    env->random(env->ctx, b, sizeof b);
    drawn = (uint32_t)b[3] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[1] << 8 | b[0];
  } while (slot_for(t, drawn)->peer_id != MSOCK_WG_PEER_NONE);
  *slot_for(t, drawn) = (msock_wg_index_entry){.index = drawn, .peer_id = peer_id};
  t->used++;
  *index = drawn;
  return MSOCK_OK;
}

msock_wg_index_entry *msock_wg_index_find(const msock_wg_index_table *t, uint32_t index) {
  if (t->used == 0) {
    return NULL;
  }
  msock_wg_index_entry *e = slot_for(t, index);
  return e->peer_id == MSOCK_WG_PEER_NONE ? NULL : e;
}

void msock_wg_index_remove(msock_wg_index_table *t, uint32_t index) {
  msock_wg_index_entry *e = msock_wg_index_find(t, index);
  if (e == NULL) {
    return;
  }
  /* Close the gap: pull back each entry of the run that would not be found past an empty slot. */
  const uint32_t mask = t->cap - 1;
  uint32_t hole = (uint32_t)(e - t->slots);
  for (uint32_t at = (hole + 1) & mask; t->slots[at].peer_id != MSOCK_WG_PEER_NONE;
       at = (at + 1) & mask) {
    const uint32_t home = t->slots[at].index & mask;
    if (((at - home) & mask) >= ((at - hole) & mask)) {
      t->slots[hole] = t->slots[at];
      hole = at;
    }
  }
  t->slots[hole] = (msock_wg_index_entry){.peer_id = MSOCK_WG_PEER_NONE};
  t->used--;
}
