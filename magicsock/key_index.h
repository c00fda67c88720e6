/* magicsock/key_index.h: finds a record by its 32-byte public key. Records begin with their key and
 * do not move; the index borrows them. Open addressing, at most two thirds full. */
#ifndef MSOCK_MAGICSOCK_KEY_INDEX_H
#define MSOCK_MAGICSOCK_KEY_INDEX_H

#include <stdint.h>

#include "base/err.h"
#include "base/key.h"

typedef struct msock_key_index {
  void **slots;
  uint32_t cap, n; /* cap is a power of two */
  uint64_t seed;
} msock_key_index;

void msock_key_index_free(msock_key_index *ix);
/* Room for extra more records. MSOCK_ERR_NOMEM. */
msock_err msock_key_index_reserve(msock_key_index *ix, uint32_t extra);
/* There is room, and no record with that key. */
void msock_key_index_insert(msock_key_index *ix, void *record);
void msock_key_index_remove(msock_key_index *ix, const void *record);
void *msock_key_index_find(const msock_key_index *ix, const uint8_t key[static MSOCK_KEY_LEN]);

#endif
