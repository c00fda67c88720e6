/* derpd/events.h: what happened at the relay, as log lines: connections, reservations (admitted
 * keys), circuits (packets of one key to another), with running totals, so that a script over the
 * JSON log reproduces the counters (requirements.md M26 to M33, D14). */
#ifndef MSOCK_DERPD_EVENTS_H
#define MSOCK_DERPD_EVENTS_H

#include <stdbool.h>

#include "base/log.h"
#include "derp/server_events.h"

typedef struct msock_derpd_totals { /* since the start */
  uint64_t connections, reservations, circuits, denials;
} msock_derpd_totals;

void msock_derpd_event_log(const msock_log *log, msock_derpd_totals *totals,
                           const msock_derp_server_event *ev);
/* Events whose repeats are limited: those that strangers can cause at will. The others are counted
 * by scripts and bounded by the limits of the relay. */
bool msock_derpd_event_is_limited(const char *event);

#endif
