#include "magicsock/pings.h"

#include <stdlib.h>
#include <string.h>

#define CAP_MIN 2u /* a peer with one address is pinged once and again */

void msock_pings_free(msock_pings *t) {
  free(t->at);
  *t = (msock_pings){0};
}

void msock_pings_clear(msock_pings *t) {
  t->n = 0;
}

bool msock_pings_add(msock_pings *t, const msock_ping *ping) {
  if (t->n == MSOCK_ENGINE_INFLIGHT_MAX) {
    msock_pings_remove(t, &t->at[0]);
  }
  if (t->n == t->cap) {
    const uint32_t cap = t->cap > 0 ? t->cap * 2u : CAP_MIN;
    msock_ping *bigger = realloc(t->at, cap * sizeof *bigger);
    if (bigger == NULL) {
      return false;
    }
    t->at = bigger;
    t->cap = (uint16_t)cap;
  }
  t->at[t->n++] = *ping;
  return true;
}

msock_ping *msock_pings_find(const msock_pings *t, uint64_t now_us,
                             const uint8_t txid[static MSOCK_TXID_LEN]) {
  for (uint16_t i = 0; i < t->n; i++) {
    if (memcmp(t->at[i].txid, txid, MSOCK_TXID_LEN) == 0) {
      return now_us - t->at[i].sent_us < MSOCK_ENGINE_PING_LIFE_US ? &t->at[i] : NULL;
    }
  }
  return NULL;
}

void msock_pings_remove(msock_pings *t, msock_ping *ping) {
  const size_t i = (size_t)(ping - t->at);
  memmove(ping, ping + 1, (t->n - i - 1) * sizeof *ping);
  t->n--;
}

void msock_pings_expire(msock_pings *t, uint64_t now_us) {
  uint16_t old = 0;
  while (old < t->n && now_us - t->at[old].sent_us >= MSOCK_ENGINE_PING_LIFE_US) {
    old++;
  }
  if (old > 0) {
    memmove(t->at, t->at + old, (size_t)(t->n - old) * sizeof *t->at);
    t->n = (uint16_t)(t->n - old);
    if (t->n == 0) { /* nobody answers there: thousands of such peers keep nothing */
      msock_pings_free(t);
    }
  }
}
