#include "netcheck/transactions.h"

#include <string.h>

void msock_stun_table_init(msock_stun_table *t) {
  *t = (msock_stun_table){0};
}

static void remove_at(msock_stun_table *t, size_t i, size_t n) {
  memmove(&t->entries[i], &t->entries[i + n], (t->n - i - n) * sizeof *t->entries);
  t->n -= n;
}

void msock_stun_table_expire(msock_stun_table *t, uint64_t now_us) {
  size_t old = 0;
  while (old < t->n && t->entries[old].sent_us + MSOCK_STUN_LIFETIME_US <= now_us) {
    old++;
  }
  if (old > 0) {
    remove_at(t, 0, old);
  }
}

msock_err msock_stun_table_add(msock_stun_table *t, uint64_t now_us, const msock_env *env,
                               const msock_addr *server, uint32_t tag, msock_stun_txid *txid) {
  msock_stun_table_expire(t, now_us);
  if (t->n == MSOCK_STUN_INFLIGHT_MAX) {
    return MSOCK_ERR_NOMEM;
  }
  msock_stun_transaction *e = &t->entries[t->n++];
  *e = (msock_stun_transaction){.server = *server, .sent_us = now_us, .tag = tag};
  e->server.ip = msock_ip_unmap(server->ip);
  env->random(env->ctx, e->txid.b, sizeof e->txid.b);
  *txid = e->txid;
  return MSOCK_OK;
}

static size_t find(const msock_stun_table *t, const msock_stun_txid *txid) {
  size_t i = 0;
  while (i < t->n && memcmp(t->entries[i].txid.b, txid->b, sizeof txid->b) != 0) {
    i++;
  }
  return i;
}

bool msock_stun_table_find(msock_stun_table *t, uint64_t now_us, const msock_stun_txid *txid,
                           const msock_addr *from, msock_stun_transaction *out) {
  const msock_addr source = {msock_ip_unmap(from->ip), from->port};
  msock_stun_table_expire(t, now_us);
  const size_t i = find(t, txid);
  if (i == t->n) {
    t->unknown++;
    return false;
  }
  if (!msock_addr_equal(&t->entries[i].server, &source)) {
    t->wrong_source++;
    return false;
  }
  *out = t->entries[i];
  return true;
}

void msock_stun_table_close(msock_stun_table *t, const msock_stun_txid *txid) {
  const size_t i = find(t, txid);
  if (i < t->n) {
    remove_at(t, i, 1);
  }
}

void msock_stun_table_clear(msock_stun_table *t) {
  t->n = 0;
}
