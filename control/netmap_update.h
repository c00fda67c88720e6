/* control/netmap_update.h: one map message, parsed and not yet applied (control.md 4.4).
 *
 * begin, feed the message's JSON text in any split, finish, commit; or abandon it by begin. What a
 * message may hold is collected here by value, so that a bad message changes nothing. */
#ifndef MSOCK_CONTROL_NETMAP_UPDATE_H
#define MSOCK_CONTROL_NETMAP_UPDATE_H

#include "control/control.h"
#include "control/netmap.h"

typedef struct msock_netmap_update msock_netmap_update;

/* What a message says to the client machine rather than to the store. */
typedef struct msock_map_notice {
  bool keep_alive;
  bool has_node;
  char ping_url[MSOCK_CONTROL_URL_MAX + 1]; /* "" = no PingRequest */
  char ping_types[64];                      /* "" = HEAD, "c2n", or a list that we do not do */
  bool ping_is_noise;
  char browse_url[MSOCK_CONTROL_URL_MAX + 1]; /* PopBrowserURL, "" = none */
  uint32_t sleep_seconds;                     /* Debug.SleepSeconds, capped (control.md 4.4) */
} msock_map_notice;
#define MSOCK_MAP_SLEEP_MAX_S 300u

/* NULL when out of memory. env and nm are borrowed. */
msock_netmap_update *msock_netmap_update_new(const msock_env *env, msock_netmap *nm);
void msock_netmap_update_free(msock_netmap_update *u);

/* Forgets what was collected; ready for a new message. */
void msock_netmap_update_begin(msock_netmap_update *u);
/* MSOCK_ERR_INVALID: not JSON, or self is malformed; MSOCK_ERR_NOMEM. */
msock_err msock_netmap_update_feed(msock_netmap_update *u, const uint8_t *p, size_t len);
/* The text is complete: MSOCK_OK or as feed. notice is valid until begin. */
msock_err msock_netmap_update_finish(msock_netmap_update *u, const msock_map_notice **notice);
/* Bytes held by the walk's element buffer (not the collected values). */
size_t msock_netmap_update_memory(const msock_netmap_update *u);

/* Applies a finished update as a whole. first: the first message of a stream that is no keep-alive:
 * it must have Node, and replaces the former peers (none when Peers is missing). MSOCK_ERR_INVALID:
 * first without Node; MSOCK_ERR_NOMEM. The store is unchanged after an error. The update is empty
 * afterwards. */
msock_err msock_netmap_commit(msock_netmap *nm, msock_netmap_update *u, bool first, uint64_t now_us,
                              uint64_t wall_us);

#endif
