/* magicsock/engine_internal.h: the engine's own struct, and the calls between engine.c (life,
 * netmap, polling), receive.c (packets in), path.c (search, heartbeats, choice) and cmm.c. */
#ifndef MSOCK_MAGICSOCK_ENGINE_INTERNAL_H
#define MSOCK_MAGICSOCK_ENGINE_INTERNAL_H

#include "magicsock/budget.h"
#include "magicsock/due_heap.h"
#include "magicsock/eligible.h"
#include "magicsock/magicsock.h"
#include "magicsock/peers.h"
#include "magicsock/self.h"
#include "magicsock/sources.h"

typedef enum msock_send_kind {
  MSOCK_SENDS_PING = 1,
  MSOCK_SENDS_PONG,
  MSOCK_SENDS_CMM
} msock_send_kind;

/* A datagram to be sealed when it is polled. */
typedef struct msock_send {
  msock_send_kind kind;
  uint32_t peer;
  uint64_t serial; /* of the peer: if it is another one by now, the datagram is dropped */
  bool derp;
  msock_region_id region;
  msock_addr addr; /* UDP: where to */
  msock_addr src;  /* pong: where the ping came from */
  uint8_t txid[MSOCK_TXID_LEN];
} msock_send;

/* A ping for the user. */
typedef struct msock_user_ping {
  uint64_t serial; /* 0: free slot */
  uint64_t tag;
  uint32_t peer;
  uint64_t deadline_us;
  bool done, timed_out, derp;
  msock_addr addr;
  msock_region_id region;
  uint64_t rtt_us;
} msock_user_ping;

struct msock_engine {
  msock_engine_config cfg;
  msock_env env;
  msock_disco_identity me;
  msock_eligible filter;
  msock_path_peers peers;
  msock_path_heap heap;
  msock_sources sources;
  msock_self self;
  msock_region_id home;
  uint16_t port;    /* 0: inert */
  uint32_t rebinds; /* sockets so far */
  bool netmap;      /* there is one */
  bool warned_no_netmap;

  uint64_t tick_us;  /* next */
  uint64_t stun_us;  /* next round; MSOCK_NEVER while inert */
  uint64_t alive_us; /* when to look for data without an answer; MSOCK_NEVER */
  bool want_stun, want_rebind;
  uint64_t stun_asked_us, rebind_asked_us; /* last; MSOCK_NEVER */
  msock_budget ping_budget, cmm_budget;

  uint64_t user_serial;
  msock_user_ping user[MSOCK_ENGINE_USER_PINGS_MAX];
  msock_path_peer *tell; /* ring of peers with something to tell: the first */
  uint32_t send_head, n_sends;
  msock_send sends[MSOCK_ENGINE_SENDS_MAX];
  msock_engine_counters counters;
};

/* Microseconds since t; MSOCK_NEVER when t never was. */
static inline uint64_t msock_since(uint64_t now_us, uint64_t t) {
  return t == MSOCK_NEVER ? MSOCK_NEVER : now_us - t;
}

/* A socket to use and the wish to use it. */
static inline bool msock_engine_live(const msock_engine *e) {
  return e->port != 0 && !e->cfg.direct_off;
}

/* engine.c */
bool msock_engine_send(msock_engine *e, const msock_send *s); /* false: full, counted */
void msock_engine_tell(msock_engine *e, msock_path_peer *p, unsigned what); /* MSOCK_TELL_* */
void msock_engine_untell(msock_engine *e, msock_path_peer *p);
void msock_engine_rearm(msock_engine *e, msock_path_peer *p);
/* A STUN round, unless one was asked for within gap_us. */
void msock_engine_ask_stun(msock_engine *e, uint64_t now_us, uint64_t gap_us);
/* The region by which a peer is reached; 0: none known. */
msock_region_id msock_engine_region(const msock_engine *e, const msock_path_peer *p);
/* The port that may be guessed behind a hard NAT; 0: none. */
uint16_t msock_engine_guess_port(const msock_engine *e);
void msock_engine_user_pong(msock_engine *e, uint64_t now_us, const msock_ping *ping,
                            msock_region_id region);

/* path.c: one peer's way. */
/* Peers that sent data lately, or all while they are few. Others rest. */
bool msock_path_active(const msock_path_peer *p, uint64_t now_us);
bool msock_path_eager(const msock_engine *e, const msock_path_peer *p, uint64_t now_us);
bool msock_path_direct(const msock_path_peer *p, uint64_t now_us);
/* Adds a filtered candidate. NULL: refused, or no room. */
msock_candidate *msock_path_learn(msock_engine *e, msock_path_peer *p, const msock_addr *addr,
                                  uint8_t from);
/* Takes away one source of a candidate, and the candidate with the last one. */
void msock_path_unlearn(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_candidate *c,
                        uint8_t from);
typedef enum msock_ping_why {
  MSOCK_PING_SEARCH = 0,
  MSOCK_PING_BEAT,  /* heartbeat */
  MSOCK_PING_RELAY, /* measures the relay */
  MSOCK_PING_USER
} msock_ping_why;
/* Sends one ping to c, or by region when c is NULL. False: no budget, no socket, muted. */
bool msock_path_ping(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_candidate *c,
                     msock_region_id region, msock_ping_why why, uint64_t user);
/* Pings all candidates now and on the ladder of a burst; nothing while inert. */
void msock_path_burst(msock_engine *e, uint64_t now_us, msock_path_peer *p);
/* Something changed for the better or was asked for: burst and call-me-maybe. */
void msock_path_wake(msock_engine *e, uint64_t now_us, msock_path_peer *p);
/* A pong by UDP for a ping to c's address. */
void msock_path_on_pong(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_candidate *c,
                        const msock_ping *ping, uint64_t rtt_us);
void msock_path_on_relay_pong(msock_path_peer *p, const msock_ping *ping);
/* WireGuard data, authenticated, came from a UDP address. A ping of the peer does not count: it
 * says nothing about the way there (PATH-33, one-way loss). */
void msock_path_heard(msock_path_peer *p, uint64_t now_us, const msock_addr *from);
/* Leaves the direct path, if there is one. */
void msock_path_leave(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_why_kind reason,
                      uint32_t value);
void msock_path_bar(msock_engine *e, uint64_t now_us, msock_path_peer *p, bool lossy,
                    uint32_t loss_permille);
/* WireGuard's handshakes go unanswered: bars the direct path, now or when it is old enough. */
void msock_path_stalled(msock_engine *e, uint64_t now_us, msock_path_peer *p);
/* The one heartbeat that is due now because data went unanswered. */
void msock_path_probe(msock_engine *e, uint64_t now_us, msock_path_peer *p);
void msock_path_tick(msock_engine *e, uint64_t now_us, msock_path_peer *p);
void msock_path_expire(msock_engine *e, uint64_t now_us, msock_path_peer *p);
uint64_t msock_path_due(const msock_path_peer *p);
uint32_t msock_path_loss(const msock_path_peer *p); /* permille; 0 with too few heartbeats */
/* Forgets pings, heartbeats and measurements: another socket, or another key. */
void msock_path_reset(msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_why_kind reason);

/* cmm.c */
/* A call-me-maybe as soon as it may be sent: now, or when STUN has answered. */
void msock_cmm_call(msock_engine *e, uint64_t now_us, msock_path_peer *p);
/* Addresses, keys or network are news for p: its cadence starts again. */
void msock_cmm_news(msock_path_peer *p, uint64_t now_us);
void msock_cmm_expire(msock_engine *e, uint64_t now_us, msock_path_peer *p);
uint64_t msock_cmm_due(const msock_path_peer *p);
/* A STUN answer came: news tells whether it changed our addresses. */
void msock_cmm_on_stun(msock_engine *e, uint64_t now_us, bool news);

/* why.c */
/* An event of p's story. Peers that rest call, are called, gain and lose their path in each round:
 * they have none, else thousands of them would fill their rings. */
void msock_why_note(const msock_engine *e, uint64_t now_us, msock_path_peer *p, msock_why_kind kind,
                    const msock_addr *addr, uint64_t value);

#endif
