/* wg/session.h: one pair of transport keys with its counter and its window (dataplane.md 3, 4;
 * whitepaper 5.4.6). About 1.2 KiB, allocated when a handshake ends, wiped and freed at erasure. */
#ifndef MSOCK_WG_SESSION_H
#define MSOCK_WG_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/packet.h"
#include "wg/handshake.h"
#include "wg/replay.h"

typedef struct msock_wg_session {
  msock_wg_keys keys;
  uint64_t send_counter; /* of the next packet */
  uint64_t created_us;
  uint64_t heard_us; /* the last packet that opened under it; 0: none yet */
  uint32_t local_index;
  uint32_t remote_index;
  uint32_t peer_id;
  bool initiator;   /* we sent the initiation */
  bool rekey_asked; /* the last-minute rekey was asked for */
  msock_wg_replay replay;
} msock_wg_session;

/* now - since, and 0 for a since in the future. */
static inline uint64_t msock_wg_elapsed(uint64_t now_us, uint64_t since_us) {
  return now_us > since_us ? now_us - since_us : 0;
}

/* NULL when memory ran out. Takes a copy of keys. */
msock_wg_session *msock_wg_session_new(const msock_wg_keys *keys, uint64_t now_us,
                                       uint32_t local_index, uint32_t remote_index,
                                       uint32_t peer_id, bool initiator);
void msock_wg_session_free(msock_wg_session *s); /* wipes; NULL is fine */

/* Younger than 180 s. NULL is not. */
bool msock_wg_session_alive(const msock_wg_session *s, uint64_t now_us);
/* Alive, and a counter is left. */
bool msock_wg_session_can_send(const msock_wg_session *s, uint64_t now_us);
/* 120 s or 2^60 messages old: a new handshake is due (dataplane.md 4, on send). */
bool msock_wg_session_wants_rekey(const msock_wg_session *s, uint64_t now_us);
/* 165 s old, ours, not asked yet: true once (on receive). NULL gives false. */
bool msock_wg_session_last_minute(msock_wg_session *s, uint64_t now_us);

/* Seals in place: header in front, padding (never beyond mtu_bytes) and tag behind. The session can
 * send. MSOCK_ERR_NOBUF when headroom or tail room is missing; nothing is changed then. */
msock_err msock_wg_session_seal(msock_wg_session *s, msock_packet *p, uint32_t mtu_bytes);

/* Opens a transport message in place; p is then the padded plaintext (0 bytes for a keepalive).
 * MSOCK_ERR_AUTH (tag) or MSOCK_ERR_INVALID (replay; asked only once the tag is good). */
msock_err msock_wg_session_open(msock_wg_session *s, uint64_t counter, msock_packet *p);

#endif
