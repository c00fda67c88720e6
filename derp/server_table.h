/* derp/server_table.h: what the relay's tables are made of: hash chains and rings, both woven
 * through the things that they hold, so that an entry costs no allocation of its own. */
#ifndef MSOCK_DERP_SERVER_TABLE_H
#define MSOCK_DERP_SERVER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RELAY_OF(type, member, p) ((type *)(void *)((uint8_t *)(p)-offsetof(type, member)))

typedef struct relay_hash {
  struct relay_hash *next;
  uint64_t hash;
} relay_hash;

/* Chains; the array doubles when it is full. When there is no memory for that they get longer. */
typedef struct relay_table {
  relay_hash **slots;
  size_t cap, n; /* cap: a power of two */
} relay_table;

bool relay_table_init(relay_table *t);
void relay_table_free(relay_table *t);                              /* the array alone */
relay_hash *relay_table_first(const relay_table *t, uint64_t hash); /* then ->next; compare hash */
void relay_table_add(relay_table *t, relay_hash *h, uint64_t hash);
void relay_table_remove(relay_table *t, relay_hash *h);
/* Everything, in no order: *bucket and *depth = 0 first. NULL at the end. */
relay_hash *relay_table_walk(const relay_table *t, size_t *bucket, size_t *depth);

/* Of keys that strangers choose: nobody who lacks the seed can aim at one chain. len: a multiple of
 * 8. */
uint64_t relay_hash_bytes(uint64_t seed, const void *p, size_t len);

/* A ring with a head that holds nothing: first = head.next. */
typedef struct relay_link {
  struct relay_link *prev, *next; /* NULL: in no ring */
} relay_link;

static inline void relay_ring_init(relay_link *head) {
  head->prev = head->next = head;
}

static inline bool relay_ring_has(const relay_link *l) {
  return l->next != NULL;
}

static inline bool relay_ring_is_empty(const relay_link *head) {
  return head->next == head;
}

static inline void relay_ring_add(relay_link *head, relay_link *l) { /* at the end */
  l->prev = head->prev;
  l->next = head;
  head->prev->next = l;
  head->prev = l;
}

static inline void relay_ring_remove(relay_link *l) { /* fine when it is in none */
  if (l->next != NULL) {
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->prev = l->next = NULL;
  }
}

#endif
