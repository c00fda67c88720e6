/* tests/sim/observer.h: reads disco as somebody who has every node's private disco key: which ping
 * went where, which pong answers it. Nodes are small numbers given by the caller. */
#ifndef MSOCK_TESTS_SIM_OBSERVER_H
#define MSOCK_TESTS_SIM_OBSERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/key.h"
#include "tests/sim/world.h"

#define SIM_OBSERVER_KEYS 256u /* disco keys of all runs of all nodes */

typedef struct sim_observer sim_observer;
sim_observer *sim_observer_new(sim_world *w);
void sim_observer_free(sim_observer *o);
/* A disco key of node, from now on. Earlier ones stay known. */
void sim_observer_learn(sim_observer *o, uint32_t node, const msock_disco_private *key);

typedef enum sim_disco_sent {
  SIM_DISCO_PING = 0,
  SIM_DISCO_ANSWER,     /* a pong to the address that the ping came from */
  SIM_DISCO_UNASKED,    /* a pong without such a ping */
  SIM_DISCO_OTHER,      /* another message */
  SIM_DISCO_UNOPENED,   /* for a key that nobody here has */
  SIM_DISCO_NOT_ITS_KEY /* the sender key is not the node's */
} sim_disco_sent;
/* node sends a disco datagram to dst. */
sim_disco_sent sim_observer_sent(sim_observer *o, uint32_t node, const msock_addr *dst,
                                 const uint8_t *p, size_t len);
/* node gets one from src. True: it is a pong of *peer to a ping of node's to *addr, under the keys
 * of now: *addr is confirmed. */
bool sim_observer_received(sim_observer *o, uint32_t node, const msock_addr *src, const uint8_t *p,
                           size_t len, uint32_t *peer, msock_addr *addr);

#endif
