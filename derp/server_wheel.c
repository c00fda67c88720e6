#include "derp/server_wheel.h"

#include <stddef.h>

#define MASK (RELAY_WHEEL_SLOTS - 1u)

void relay_wheel_init(relay_wheel *w) {
  *w = (relay_wheel){.next_us = MSOCK_NEVER, .is_known = true};
}

/* Nothing is due before next_us: the present slot may follow the clock. */
static bool follow(relay_wheel *w, uint64_t now_us) {
  const uint64_t now = now_us >> RELAY_WHEEL_SHIFT;
  if (!w->is_known || w->next_us <= now_us) {
    return false;
  }
  w->tick = now > w->tick ? now : w->tick;
  return true;
}

static void unlink_timer(relay_wheel *w, relay_timer *t) {
  *t->at = t->next;
  if (t->next != NULL) {
    t->next->at = t->at;
  } else if (t->at >= w->slots && t->at < w->slots + RELAY_WHEEL_SLOTS) { /* it was the only one */
    const size_t i = (size_t)(t->at - w->slots);
    w->used[i / 64] &= ~(UINT64_C(1) << i % 64);
  }
  t->at = NULL;
}

/* The slot in which a deadline waits: its own, the present one when it is past, the last one when
 * it is far. */
static uint64_t tick_of(const relay_wheel *w, uint64_t due_us) {
  const uint64_t tick = due_us >> RELAY_WHEEL_SHIFT;
  if (tick < w->tick) {
    return w->tick;
  }
  return tick - w->tick > MASK ? w->tick + MASK : tick;
}

static void place(relay_wheel *w, relay_timer *t) {
  const size_t i = (size_t)(tick_of(w, t->due_us) & MASK);
  t->next = w->slots[i];
  t->at = &w->slots[i];
  if (t->next != NULL) {
    t->next->at = &t->next;
  }
  w->slots[i] = t;
  w->used[i / 64] |= UINT64_C(1) << i % 64;
}

/* When something has to happen for t: at its deadline, or when its slot comes, if it is far. */
static uint64_t acts_at(const relay_wheel *w, const relay_timer *t) {
  const uint64_t tick = t->due_us >> RELAY_WHEEL_SHIFT;
  return tick > w->tick + MASK ? (w->tick + MASK) << RELAY_WHEEL_SHIFT : t->due_us;
}

void relay_wheel_arm(relay_wheel *w, uint64_t now_us, relay_timer *t, uint64_t due_us) {
  (void)follow(w, now_us);
  if (t->at != NULL) {
    if (t->due_us == due_us) {
      return;
    }
    w->is_known = w->is_known && w->next_us < t->due_us;
    unlink_timer(w, t);
  }
  t->due_us = due_us;
  if (due_us == MSOCK_NEVER) {
    return;
  }
  place(w, t);
  const uint64_t at = acts_at(w, t);
  if (w->is_known && at < w->next_us) {
    w->next_us = at;
  }
}

/* The first used slot from the present one on; RELAY_WHEEL_SLOTS: none. */
static uint64_t first_used(const relay_wheel *w) {
  uint64_t i = 0;
  while (i < RELAY_WHEEL_SLOTS) {
    const size_t slot = (size_t)((w->tick + i) & MASK);
    const uint64_t word = w->used[slot / 64] >> slot % 64;
    if (word != 0) {
      return i + (uint64_t)__builtin_ctzll(word);
    }
    i += 64 - slot % 64;
  }
  return RELAY_WHEEL_SLOTS;
}

uint64_t relay_wheel_next(relay_wheel *w) {
  if (w->is_known) {
    return w->next_us;
  }
  const uint64_t ahead = first_used(w);
  w->is_known = true;
  w->next_us = MSOCK_NEVER;
  if (ahead == RELAY_WHEEL_SLOTS) {
    return w->next_us;
  }
  const uint64_t tick = w->tick + ahead;
  for (const relay_timer *t = w->slots[tick & MASK]; t != NULL; t = t->next) {
    const bool is_far = t->due_us >> RELAY_WHEEL_SHIFT > tick;
    const uint64_t at = is_far ? tick << RELAY_WHEEL_SHIFT : t->due_us;
    w->next_us = at < w->next_us ? at : w->next_us;
  }
  return w->next_us;
}

relay_timer *relay_wheel_pop(relay_wheel *w, uint64_t now_us) {
  const uint64_t now = now_us >> RELAY_WHEEL_SHIFT;
  if (follow(w, now_us)) {
    return NULL;
  }
  for (;;) {
    const uint64_t ahead = first_used(w);
    if (ahead == RELAY_WHEEL_SLOTS || w->tick + ahead > now) {
      w->tick = now > w->tick ? now : w->tick;
      w->is_known = false;
      return NULL;
    }
    w->tick += ahead;
    relay_timer *next;
    for (relay_timer *t = w->slots[w->tick & MASK]; t != NULL; t = next) {
      next = t->next;
      if (t->due_us <= now_us) {
        unlink_timer(w, t);
        w->is_known = false;
        return t;
      }
      if (t->due_us >> RELAY_WHEEL_SHIFT > w->tick) { /* it was far */
        unlink_timer(w, t);
        place(w, t);
      }
    }
    if (w->tick == now) {
      w->is_known = false;
      return NULL;
    }
    w->tick++;
  }
}
