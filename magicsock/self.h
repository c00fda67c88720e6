/* magicsock/self.h: our own addresses: those of the interfaces, what STUN servers and peers see us
 * at, the set made of them, and when it is published (magicsock.md 3.8, 3.10, 3.11). */
#ifndef MSOCK_MAGICSOCK_SELF_H
#define MSOCK_MAGICSOCK_SELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "magicsock/budget.h"
#include "magicsock/eligible.h"
#include "magicsock/limits.h"
#include "magicsock/magicsock.h"

#define MSOCK_REFLEXIVE_SERVERS_MAX 4u /* kept per address; the oldest is replaced */

/* An address at which STUN servers see us. */
typedef struct msock_reflexive {
  msock_addr addr;
  msock_addr servers[MSOCK_REFLEXIVE_SERVERS_MAX];
  uint32_t n_servers, next_server;
  uint64_t first_us, last_us;
} msock_reflexive;

/* What a pong says that we are seen at: one claim per peer, believed when STUN has seen the same IP
 * or another peer claims the same (one peer alone could make us advertise anything). */
typedef struct msock_claim {
  msock_addr addr;
  uint64_t peer_serial;
  uint64_t last_us;
} msock_claim;

typedef struct msock_self {
  msock_endpoint local[MSOCK_ENGINE_LOCAL_MAX];
  size_t n_local;
  msock_reflexive reflexive[MSOCK_ENGINE_REFLEXIVE_MAX];
  size_t n_reflexive;
  msock_claim claims[MSOCK_ENGINE_CLAIMS_MAX];
  size_t n_claims;
  uint64_t stun_us; /* last STUN answer; MSOCK_NEVER */

  msock_endpoint published[MSOCK_ENGINE_SELF_MAX];
  size_t n_published;
  uint64_t publish_us; /* when a change is to be told; MSOCK_NEVER */
  msock_budget publications;
  bool publish_now; /* an output is due */
} msock_self;

void msock_self_init(msock_self *s);
void msock_self_set_local(msock_self *s, const msock_endpoint *ep, size_t n);
/* True: mapped is news, an address that no server had reported, or another for this server. */
bool msock_self_reflexive(msock_self *s, uint64_t now_us, const msock_addr *server,
                          const msock_addr *mapped);
/* A pong of a peer says that we are seen at addr. True: it is believed and news. */
bool msock_self_claim(msock_self *s, uint64_t now_us, uint64_t peer_serial, const msock_addr *addr);
/* Is addr one that STUN has seen, or that is ours? */
bool msock_self_knows(const msock_self *s, const msock_addr *addr);
void msock_self_forget_reflexive(msock_self *s);
void msock_self_expire(msock_self *s, uint64_t now_us);
bool msock_self_has_reflexive(const msock_self *s, const msock_eligible *f);
bool msock_self_varies(const msock_self *s);

/* The set to advertise: filtered, each address once, at most MSOCK_ENGINE_SELF_MAX with reflexive
 * ones first, then sorted by (address, type). local_port: guess it behind a hard NAT (type 4); 0 =
 * do not. */
size_t msock_self_set(const msock_self *s, const msock_eligible *f, uint16_t local_port,
                      msock_endpoint out[static MSOCK_ENGINE_SELF_MAX]);
/* Compares the set with the published one and arms publish_us. */
void msock_self_review(msock_self *s, uint64_t now_us, const msock_eligible *f,
                       uint16_t local_port);
/* Publishes a change at once (before a call-me-maybe, which lists what control was told). */
void msock_self_publish(msock_self *s, uint64_t now_us, const msock_eligible *f,
                        uint16_t local_port);

#endif
