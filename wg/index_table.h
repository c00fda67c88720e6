/* wg/index_table.h: receiver index to what it names: a handshake that waits for its response, or a
 * session. Open addressing over entries of 16 bytes; an index is random, so it is its own hash
 * (dataplane.md 3, 9.5). At most four entries a peer, so the peer cap bounds it. */
#ifndef MSOCK_WG_INDEX_TABLE_H
#define MSOCK_WG_INDEX_TABLE_H

#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "wg/session.h"

typedef struct msock_wg_index_entry {
  uint32_t index;
  uint32_t peer_id;          /* MSOCK_WG_PEER_NONE: slot is empty */
  msock_wg_session *session; /* NULL: the waiting handshake of the peer */
} msock_wg_index_entry;

typedef struct msock_wg_index_table {
  msock_wg_index_entry *slots; /* NULL while empty */
  uint32_t cap;                /* a power of two */
  uint32_t used;
} msock_wg_index_table; /* zero-initialised = empty */

void msock_wg_index_free(msock_wg_index_table *t);

/* Draws a random index that is not in use and enters it for the peer's handshake.
 * MSOCK_ERR_NOMEM. */
msock_err msock_wg_index_draw(msock_wg_index_table *t, const msock_env *env, uint32_t peer_id,
                              uint32_t *index);
/* The entry, or NULL. Valid until the next draw or remove. */
msock_wg_index_entry *msock_wg_index_find(const msock_wg_index_table *t, uint32_t index);
/* Absent is fine. */
void msock_wg_index_remove(msock_wg_index_table *t, uint32_t index);

#endif
