/* wg/replay.h: sliding window over transport counters, after RFC 6479: a ring of 128 words of which
 * 127 are always behind the newest counter, so 8128 counters (dataplane.md 4).
 *
 * Ask only after the tag verified: a forged counter must not move the window (WG-19). */
#ifndef MSOCK_WG_REPLAY_H
#define MSOCK_WG_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#define MSOCK_WG_REPLAY_WORDS 128u

typedef struct msock_wg_replay {
  uint64_t last; /* greatest counter accepted */
  uint64_t ring[MSOCK_WG_REPLAY_WORDS];
} msock_wg_replay; /* zero-initialised = empty */

/* True, and remembered: the counter is new and not behind the window. False at
 * MSOCK_WG_REJECT_AFTER_MESSAGES and beyond. */
bool msock_wg_replay_accept(msock_wg_replay *w, uint64_t counter);

#endif
