/* magicsock/why.h: why a peer is on the path that it is on: its last events, and sentences made of
 * them. */
#ifndef MSOCK_MAGICSOCK_WHY_H
#define MSOCK_MAGICSOCK_WHY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/derp_map.h"
#include "magicsock/limits.h"

typedef enum msock_why_kind {
  MSOCK_WHY_NONE = 0,
  MSOCK_WHY_PEER_NEW,      /* value: addresses in the netmap */
  MSOCK_WHY_BURST,         /* value: candidates pinged */
  MSOCK_WHY_PING_IN,       /* from addr */
  MSOCK_WHY_CMM_IN,        /* value: addresses taken */
  MSOCK_WHY_CMM_OUT,       /* value: addresses listed */
  MSOCK_WHY_CMM_HELD,      /* no reflexive address of ours is known */
  MSOCK_WHY_CMM_NO_REGION, /* no relay to send it by */
  MSOCK_WHY_CONFIRMED,     /* addr, value: round trip in us. Now direct */
  MSOCK_WHY_SWITCHED,      /* addr, value: round trip in us. A better address */
  MSOCK_WHY_SILENT,        /* addr, value: heartbeats unanswered. Left the path */
  MSOCK_WHY_LAPSED,        /* addr: 6.5 s without a pong. Left the path */
  MSOCK_WHY_WITHDRAWN,     /* addr: control or the peer took it back. Left the path */
  MSOCK_WHY_UNREACHABLE,   /* addr: the system has no way to it. Left the path */
  MSOCK_WHY_DATA_STALLED,  /* addr: disco passes, WireGuard does not. Left the path for 60 s */
  MSOCK_WHY_LOSSY,         /* addr, value: loss in permille. Left the path for the relay */
  MSOCK_WHY_RETURNED,      /* addr: a pause is over */
  MSOCK_WHY_REBOUND,       /* our socket or network changed. Left the path */
  MSOCK_WHY_KEY_CHANGED,   /* the peer's disco key, or ours. Left the path */
  MSOCK_WHY_FLAP_GUARD     /* addr, value: pongs needed */
} msock_why_kind;

typedef struct msock_why_event {
  uint64_t at_us;
  msock_addr addr; /* family 0: none */
  uint8_t kind;    /* msock_why_kind */
  uint32_t value;
} msock_why_event;

/* Everything that the sentences are made of. */
typedef struct msock_why {
  uint64_t now_us;
  bool direct;            /* data goes to addr now */
  bool has_relay;         /* else by the region */
  bool inert, direct_off; /* no socket; direct paths switched off */
  bool no_disco_key;
  bool barred, lossy;  /* a confirmed path is not used: data does not pass; much loss */
  bool self_reflexive; /* some address of ours as seen from outside is known */
  bool self_hard;      /* our NAT gives each destination another port */
  bool peer_hard;      /* the peer lists one address with several ports: so does its */
  bool peer_private;   /* it lists addresses, and none that the Internet could reach */
  bool offline;        /* control says so; the caller's to set, the engine does not know */
  bool active;         /* data was sent in the last 45 s */
  bool ping_heard;     /* a ping of the peer came by UDP, ever */
  bool cmm_heard;      /* the peer has called, ever */
  msock_addr addr;     /* direct: where to */
  msock_region_id region;
  uint64_t rtt_us, pong_us; /* of addr: smoothed; when last */
  uint32_t n_candidates;    /* addresses of the peer that may be used */
  uint32_t n_pinged;        /* of them pinged since the last path */
  uint32_t n_filtered;      /* addresses refused by policy in the last netmap or call */
  uint32_t loss_permille;   /* of the last 64 heartbeats, both ways together; 0 with fewer */
  uint64_t barred_until_us;
  size_t n_events; /* oldest first */
  msock_why_event events[MSOCK_WHY_EVENTS_MAX];
} msock_why;

/* What decides the advice. */
typedef enum msock_why_situation {
  MSOCK_WHY_IS_DIRECT = 0,
  MSOCK_WHY_IS_DIRECT_OFF,
  MSOCK_WHY_IS_INERT,
  MSOCK_WHY_IS_NO_DISCO_KEY,
  MSOCK_WHY_IS_DATA_STALLED,
  MSOCK_WHY_IS_LOSSY,
  MSOCK_WHY_IS_OFFLINE,       /* control says that the peer is */
  MSOCK_WHY_IS_LOST,          /* there was a path in the last two minutes */
  MSOCK_WHY_IS_NO_CANDIDATES, /* no address of the peer may be used */
  MSOCK_WHY_IS_NO_REFLEXIVE,  /* STUN got no answer */
  MSOCK_WHY_IS_HARD_BOTH,     /* hard NAT on both sides */
  MSOCK_WHY_IS_HARD_SELF,     /* ours only */
  MSOCK_WHY_IS_HARD_PEER,     /* the peer's only */
  MSOCK_WHY_IS_PEER_PRIVATE,  /* no address of the peer is known from outside */
  MSOCK_WHY_IS_PROBING,       /* under way for less than 5 s */
  MSOCK_WHY_IS_NO_PONG,       /* pinged, nothing came back */
  MSOCK_WHY_IS_IDLE           /* nobody has sent anything */
} msock_why_situation;

msock_why_situation msock_why_judge(const msock_why *w);

/* A few lines of text, each ended by a newline: the path, why, the last events, one line of advice
 * ("advice: ..."). peer and relay are names for people; relay may be NULL (the number is printed).
 * hide: no addresses. Gives the length as snprintf does; buf holds at most cap bytes with the NUL.
 */
size_t msock_why_explain(const msock_why *w, const char *peer, const char *relay, bool hide,
                         char *buf, size_t cap);
#define MSOCK_WHY_TEXT_MAX 4096u /* enough for every text */

#endif
