#include "node/pings.h"

#include <string.h>

void msock_node_pings_init(msock_pings *t) {
  *t = (msock_pings){0};
}

static size_t find(const msock_pings *t, msock_ping_kind kind, uint64_t id) {
  size_t i = 0;
  while (i < t->n && (t->entries[i].kind != kind || t->entries[i].id != id)) {
    i++;
  }
  return i;
}

static void remove_at(msock_pings *t, size_t i) {
  memmove(&t->entries[i], &t->entries[i + 1], (t->n - i - 1) * sizeof *t->entries);
  t->n--;
}

msock_err msock_node_pings_add(msock_pings *t, const msock_env *env, msock_ping *p) {
  if (p->deadline_us <= p->sent_us) {
    return MSOCK_ERR_INVALID;
  }
  if (t->n == MSOCK_PINGS_MAX) {
    return MSOCK_ERR_NOMEM;
  }
  do {
    env->random(env->ctx, &p->id, sizeof p->id);
    if (p->kind == MSOCK_PING_ICMP) {
      p->id &= UINT32_MAX; /* identifier and sequence number */
    }
  } while (find(t, p->kind, p->id) < t->n);
  t->entries[t->n++] = *p;
  return MSOCK_OK;
}

bool msock_node_pings_match(msock_pings *t, uint64_t now_us, msock_ping_kind kind, uint64_t id,
                            const msock_ip *from, msock_ping *out) {
  const size_t i = find(t, kind, id);
  if (i == t->n || !msock_ip_equal(&t->entries[i].peer, from) ||
      t->entries[i].deadline_us <= now_us) {
    return false;
  }
  *out = t->entries[i];
  remove_at(t, i);
  return true;
}

uint64_t msock_node_pings_next_expiry(const msock_pings *t) {
  uint64_t first = MSOCK_NEVER;
  for (size_t i = 0; i < t->n; i++) {
    first = t->entries[i].deadline_us < first ? t->entries[i].deadline_us : first;
  }
  return first;
}

bool msock_node_pings_expire(msock_pings *t, uint64_t now_us, msock_ping *out) {
  for (size_t i = 0; i < t->n; i++) {
    if (t->entries[i].deadline_us <= now_us) {
      *out = t->entries[i];
      remove_at(t, i);
      return true;
    }
  }
  return false;
}

void msock_node_pings_forget(msock_pings *t, uint64_t tag) {
  for (size_t i = t->n; i > 0; i--) {
    if (t->entries[i - 1].tag == tag) {
      remove_at(t, i - 1);
    }
  }
}
