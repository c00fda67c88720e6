/* derp/server_wheel.h: the one timer wheel of a relay: every deadline of its connections and flows.
 *
 * Arming and stopping take constant time; deadlines are exact to the microsecond. A slot covers
 * 2^18 us (0.26 s), the wheel 512 slots (134 s); what lies behind that waits in the last slot and
 * is placed again from there. */
#ifndef MSOCK_DERP_SERVER_WHEEL_H
#define MSOCK_DERP_SERVER_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"

#define RELAY_WHEEL_SLOTS 512u
#define RELAY_WHEEL_SHIFT 18u

typedef struct relay_timer {
  struct relay_timer *next, **at; /* at NULL: not armed */
  uint64_t due_us;
  uint8_t kind; /* the owner's */
} relay_timer;

typedef struct relay_wheel {
  relay_timer *slots[RELAY_WHEEL_SLOTS];
  uint64_t used[RELAY_WHEEL_SLOTS / 64]; /* bit per slot that holds something */
  uint64_t tick;                         /* slot of now: what is older has been given out */
  uint64_t next_us;                      /* the earliest, when known */
  bool is_known;
} relay_wheel;

void relay_wheel_init(relay_wheel *w);
/* (Re)arms t; MSOCK_NEVER stops it. */
void relay_wheel_arm(relay_wheel *w, uint64_t now_us, relay_timer *t, uint64_t due_us);
/* The earliest deadline, or the moment at which a far one is to be placed again; MSOCK_NEVER. */
uint64_t relay_wheel_next(relay_wheel *w);
/* A timer that is due, stopped; NULL: none is. */
relay_timer *relay_wheel_pop(relay_wheel *w, uint64_t now_us);

#endif
