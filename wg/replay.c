#include "wg/replay.h"

#include "wg/messages.h"

#define WORD_BITS 64u

bool msock_wg_replay_accept(msock_wg_replay *w, uint64_t counter) {
  if (counter >= MSOCK_WG_REJECT_AFTER_MESSAGES) {
    return false;
  }
  if (counter < w->last && w->last - counter > MSOCK_WG_REPLAY_WINDOW) {
    return false;
  }
  const uint64_t word = counter / WORD_BITS;
  const uint64_t newest = w->last / WORD_BITS;
  if (word > newest) {
    /* words between the newest and this one have not been used in this lap */
    const uint64_t step =
        word - newest < MSOCK_WG_REPLAY_WORDS ? word - newest : MSOCK_WG_REPLAY_WORDS;
    for (uint64_t i = 1; i <= step; i++) {
      w->ring[(newest + i) % MSOCK_WG_REPLAY_WORDS] = 0;
    }
  }
  uint64_t *slot = &w->ring[word % MSOCK_WG_REPLAY_WORDS];
  const uint64_t bit = UINT64_C(1) << counter % WORD_BITS;
  if (*slot & bit) {
    return false;
  }
  *slot |= bit;
  if (counter > w->last) {
    w->last = counter;
  }
  return true;
}
