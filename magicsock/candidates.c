#include "magicsock/candidates.h"

#include <stdlib.h>
#include <string.h>

void msock_candidates_free(msock_candidates *t) {
  for (uint16_t i = 0; i < t->n; i++) {
    free(t->at[i].past);
  }
  free(t->at);
  *t = (msock_candidates){0};
}

msock_err msock_candidates_reserve(msock_candidates *t, size_t n) {
  const size_t most = MSOCK_ENGINE_NETMAP_ADDRS_MAX + MSOCK_ENGINE_LEARNED_MAX;
  size_t cap = t->cap;

  n = n < most ? n : most;
  if (n <= cap) {
    return MSOCK_OK;
  }
  cap = cap > 0 ? cap : n; /* as many as the netmap has; most peers never learn another */
  while (cap < n) {
    cap *= 2;
  }
  msock_candidate *bigger = realloc(t->at, cap * sizeof *bigger);
  if (bigger == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  t->at = bigger;
  t->cap = (uint16_t)cap;
  return MSOCK_OK;
}

msock_candidate *msock_candidates_find(const msock_candidates *t, const msock_addr *addr) {
  for (uint16_t i = 0; i < t->n; i++) {
    if (msock_addr_equal(&t->at[i].addr, addr)) {
      return &t->at[i];
    }
  }
  return NULL;
}

static bool share_full(const msock_candidates *t, bool netmap) {
  uint32_t n = 0;
  for (uint16_t i = 0; i < t->n; i++) {
    n += ((t->at[i].from & MSOCK_FROM_NETMAP) != 0) == netmap;
  }
  return n >= (netmap ? MSOCK_ENGINE_NETMAP_ADDRS_MAX : MSOCK_ENGINE_LEARNED_MAX);
}

msock_candidate *msock_candidates_add(msock_candidates *t, const msock_addr *addr, uint8_t from,
                                      bool *fresh) {
  const bool netmap = (from & MSOCK_FROM_NETMAP) != 0;
  msock_candidate *c = msock_candidates_find(t, addr);

  *fresh = c == NULL;
  if (c != NULL) {
    if (netmap && (c->from & MSOCK_FROM_NETMAP) == 0 && share_full(t, true)) {
      return NULL;
    }
    c->from |= from;
    return c;
  }
  if (share_full(t, netmap) || msock_candidates_reserve(t, t->n + 1u) != MSOCK_OK) {
    return NULL;
  }
  c = &t->at[t->n++];
  *c = (msock_candidate){.addr = *addr, .from = from};
  msock_candidate_forget(c);
  return c;
}

void msock_candidates_remove(msock_candidates *t, msock_candidate *c) {
  free(c->past);
  *c = t->at[--t->n];
}

static msock_candidate_past *past_of(msock_candidate *c) {
  if (c->past == NULL) {
    c->past = calloc(1, sizeof *c->past);
    if (c->past != NULL) {
      c->past->heard_us = c->past->reverse_us = c->past->window_us = MSOCK_NEVER;
    }
  }
  return c->past;
}

bool msock_candidate_heard(msock_candidate *c, uint64_t now_us,
                           const uint8_t txid[static MSOCK_TXID_LEN]) {
  msock_candidate_past *past = past_of(c);
  if (past == NULL) {
    return false;
  }
  past->heard_us = now_us;
  memcpy(past->heard_txid, txid, sizeof past->heard_txid);
  return true;
}

bool msock_candidate_repeated(const msock_candidate *c, const uint8_t txid[static MSOCK_TXID_LEN]) {
  return msock_candidate_heard_us(c) != MSOCK_NEVER &&
         memcmp(c->past->heard_txid, txid, sizeof c->past->heard_txid) == 0;
}

uint64_t msock_candidate_heard_us(const msock_candidate *c) {
  return c->past != NULL ? c->past->heard_us : MSOCK_NEVER;
}

void msock_candidate_pong(msock_candidate *c, uint64_t now_us, uint64_t rtt_us) {
  c->pong_us = now_us;
  if (c->rtt_us == 0) {
    c->rtt_us = rtt_us > 0 ? rtt_us : 1;
  } else {
    c->rtt_us = (3 * c->rtt_us + rtt_us + 2) / 4;
  }
}

bool msock_candidate_reverse(msock_candidate *c, uint64_t now_us) {
  msock_candidate_past *past = c->past;
  if (past == NULL || (past->reverse_us != MSOCK_NEVER &&
                       now_us - past->reverse_us < MSOCK_ENGINE_REVERSE_GAP_US)) {
    return false;
  }
  if (past->window_us == MSOCK_NEVER ||
      now_us - past->window_us >= MSOCK_ENGINE_REVERSE_WINDOW_US) {
    past->window_us = now_us;
    past->reverse_n = 0;
  }
  if (past->reverse_n >= MSOCK_ENGINE_REVERSE_MAX) {
    return false;
  }
  past->reverse_n++;
  past->reverse_us = now_us;
  return true;
}

void msock_candidate_lost(msock_candidate *c, uint64_t now_us) {
  msock_candidate_past *past = past_of(c);
  if (past == NULL) {
    return;
  }
  memmove(&past->loss_us[1], &past->loss_us[0], sizeof past->loss_us - sizeof past->loss_us[0]);
  past->loss_us[0] = now_us;
  if (past->losses < UINT8_MAX) {
    past->losses++;
  }
  past->guard_pongs = 0;
}

uint32_t msock_candidate_guard(const msock_candidate *c, uint64_t now_us) {
  uint32_t recent = 0;
  const uint32_t losses = c->past != NULL ? c->past->losses : 0;
  const uint32_t kept = losses < MSOCK_ENGINE_FLAP_PONGS_MAX ? losses : MSOCK_ENGINE_FLAP_PONGS_MAX;
  for (uint32_t i = 0; i < kept; i++) {
    recent += now_us - c->past->loss_us[i] < MSOCK_ENGINE_FLAP_WINDOW_US;
  }
  if (recent <= MSOCK_ENGINE_FLAP_LOSSES) {
    return 1;
  }
  /* The third loss in the window asks for two pongs, every further one for three. */
  return losses > MSOCK_ENGINE_FLAP_LOSSES + 1 ? MSOCK_ENGINE_FLAP_PONGS_MAX
                                               : MSOCK_ENGINE_FLAP_PONGS_MAX - 1;
}

void msock_candidate_forget(msock_candidate *c) {
  c->muted = false;
  c->wins = 0;
  if (c->past != NULL) {
    c->past->guard_pongs = 0;
    c->past->losses = 0;
    c->past->reverse_n = 0;
    c->past->reverse_us = c->past->window_us = MSOCK_NEVER;
  }
  c->ping_us = c->pong_us = MSOCK_NEVER;
  c->rtt_us = 0;
}
