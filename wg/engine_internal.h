/* wg/engine_internal.h: the engine's own struct, and the calls between engine.c (peers, keys and
 * polling), exchange.c (handshake messages), data.c (batches) and timers.c. */
#ifndef MSOCK_WG_ENGINE_INTERNAL_H
#define MSOCK_WG_ENGINE_INTERNAL_H

#include "wg/allowed_ips.h"
#include "wg/cookie.h"
#include "wg/due_heap.h"
#include "wg/handshake.h"
#include "wg/index_table.h"
#include "wg/messages.h"
#include "wg/peers.h"
#include "wg/session.h"
#include "wg/staged.h"
#include "wg/wg.h"

/* An initiation or response with a good mac1, waiting for its DH. */
typedef struct msock_wg_queued {
  msock_wg_source source;
  uint8_t msg[MSOCK_WG_INITIATION_LEN];
  uint8_t len;
} msock_wg_queued;

/* A cookie reply to be made. */
typedef struct msock_wg_reply_due {
  msock_wg_source source;
  uint32_t receiver;
  uint8_t mac1[MSOCK_WG_MAC_LEN];
} msock_wg_reply_due;

typedef struct msock_wg_hint {
  msock_wg_source source;
  uint32_t peer_id;
} msock_wg_hint;

/* Positions of a bounded queue: head is the oldest. */
typedef struct msock_wg_queue {
  uint32_t head, count;
} msock_wg_queue;

/* The last answer of a lookup, by direction. */
typedef struct msock_wg_route_cache {
  msock_ip ip; /* family 0: nothing cached */
  uint32_t peer_id;
} msock_wg_route_cache;

struct msock_wg {
  msock_env env;
  uint64_t wall_lead_us; /* the most that the wall clock was ahead of now_us */
  msock_wg_config cfg;
  msock_wg_identity id;
  msock_wg_peers peers;
  msock_wg_index_table index;
  msock_wg_allowed_ips routes;
  msock_wg_route_cache cache_out, cache_in;
  msock_wg_due_heap due;
  msock_wg_staged staged;
  msock_wg_link outputs, events; /* heads of the two queues of active peers */
  msock_wg_guard guard;
  msock_wg_queue queue_pos, reply_pos, hint_pos;
  msock_wg_queued queue[MSOCK_WG_QUEUE_LEN];
  msock_wg_reply_due replies[MSOCK_WG_COOKIE_QUEUE_LEN];
  msock_wg_hint hints[MSOCK_WG_HINT_QUEUE_LEN];
  msock_wg_counters counters;
};

/* engine.c */
/* The peer's active block, made when there is none. NULL: no memory. */
msock_wg_active *msock_wg_activate(msock_wg *wg, uint32_t peer_id);
/* Wipes sessions, our handshake and the cookie, and takes their indices out of the table. */
void msock_wg_erase_keys(msock_wg *wg, msock_wg_active *a);
/* Wipes and frees the block if nothing of it is needed any more. */
void msock_wg_deactivate_if_idle(msock_wg *wg, msock_wg_active *a);
/* Ends our wait for a response. */
void msock_wg_drop_handshake(msock_wg *wg, msock_wg_active *a);
void msock_wg_drop_session(msock_wg *wg, msock_wg_session **slot);
void msock_wg_post(msock_wg *wg, msock_wg_active *a, unsigned output); /* MSOCK_WG_DO_* */
void msock_wg_tell(msock_wg *wg, msock_wg_active *a, unsigned event);  /* MSOCK_WG_TELL_* */
/* The live owner of an address, through a one-entry cache. */
uint32_t msock_wg_owner(const msock_wg *wg, msock_wg_route_cache *cache, const msock_ip *ip);

/* exchange.c */
/* Types 1 to 3. Everything that costs no DH is done at once; the rest is queued. False: dropped. */
bool msock_wg_handshake_in(msock_wg *wg, uint64_t now_us, const msock_wg_source *source,
                           const uint8_t *msg, size_t len, uint8_t type);
/* Works off at most MSOCK_WG_DH_BUDGET queued messages. */
void msock_wg_handshake_work(msock_wg *wg, uint64_t now_us, uint64_t wall_us);
/* Each writes its message to buf and gives its length, 0 when there is nothing to send after all.
 */
size_t msock_wg_initiation_out(msock_wg *wg, uint64_t now_us, uint64_t wall_us, msock_wg_active *a,
                               uint8_t *buf);
size_t msock_wg_response_out(msock_wg *wg, msock_wg_active *a, uint8_t *buf);
size_t msock_wg_cookie_out(msock_wg *wg, uint64_t now_us, msock_wg_source *to, uint8_t *buf);

/* data.c */
size_t msock_wg_staged_out(msock_wg *wg, uint64_t now_us, msock_wg_active *a, uint8_t *buf,
                           size_t cap);
size_t msock_wg_keepalive_out(msock_wg *wg, uint64_t now_us, msock_wg_active *a, uint8_t *buf,
                              size_t cap);

/* timers.c: things that happened to a peer. What follows for its deadlines is decided there. */
void msock_wg_timers_init(msock_wg_active *a, const msock_env *env);
/* A handshake is wanted; posts an initiation if one is due (dataplane.md 4). */
void msock_wg_want_handshake(msock_wg *wg, msock_wg_active *a, uint64_t now_us);
/* Path news: a wanted handshake starts again (see msock_wg_peer_kick). */
void msock_wg_hurry_handshake(msock_wg *wg, msock_wg_active *a, uint64_t now_us);
void msock_wg_did_send_initiation(msock_wg *wg, msock_wg_active *a, uint64_t now_us);
void msock_wg_did_send(msock_wg_active *a); /* anything authenticated */
void msock_wg_did_send_data(msock_wg *wg, msock_wg_active *a, uint64_t now_us);
void msock_wg_did_send_keepalive(msock_wg *wg, msock_wg_active *a, uint64_t now_us);
void msock_wg_did_receive(msock_wg_active *a); /* anything authenticated */
void msock_wg_did_receive_data(msock_wg *wg, msock_wg_active *a, uint64_t now_us);
void msock_wg_did_derive_session(msock_wg *wg, msock_wg_active *a, uint64_t now_us);
/* A session may be used for sending: ours was answered, or the peer's first packet came. */
void msock_wg_did_complete(msock_wg *wg, msock_wg_active *a, uint64_t wall_us);
/* Ends the attempt: packets are dropped, erasure is due later. */
void msock_wg_give_up(msock_wg *wg, msock_wg_active *a, uint64_t now_us);
/* Does what is due; a may be freed. */
void msock_wg_timers_expire(msock_wg *wg, msock_wg_active *a, uint64_t now_us);

#endif
