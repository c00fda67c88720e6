/* tests/sim/invariants.h: what must hold at every step of every scenario, seen from outside.
 *
 * An observer of the network (net.h's tap) that knows all disco keys opens every disco datagram and
 * keeps a record of its own of what each pong confirmed; the path engine is not asked:
 *   1  a WireGuard datagram goes by UDP only to an address that a pong of the peer confirmed on the
 *      socket in use, at most 6.5 s ago, and reaches that peer (magicsock.md facts 1, 2, 5;
 * PATH-01); 2  no datagram goes to an address outside policy, STUN only to the servers,
 * call-me-maybe never by UDP, a pong only back to where its ping came from, everything from the one
 * socket (3.11, PRIV-01, 02, 08, 09, 10); 3  pings stay within the budget of the node (3.9), every
 * table within its bound; 4  no line of level error in a log, unless the scenario expects it. That
 * traffic always has a path is each scenario's to state: lab.h. */
#ifndef MSOCK_TESTS_SIM_INVARIANTS_H
#define MSOCK_TESTS_SIM_INVARIANTS_H

#include <stdbool.h>

#include "tests/sim/node.h"

#define SIM_INVARIANTS_NODES 64u

typedef struct sim_policy {
  bool direct; /* else no UDP to peers */
  bool stun;   /* else none to servers either */
  bool lan;    /* private addresses */
  bool ipv6;
} sim_policy;

typedef struct sim_invariants sim_invariants;
/* broken is called once for each violation, inside whatever caused it. Takes the network's tap. */
sim_invariants *sim_invariants_new(sim_io *io, void (*broken)(void *ctx, const char *text),
                                   void *ctx);
void sim_invariants_free(sim_invariants *v); /* gives the tap back */
void sim_invariants_add(sim_invariants *v, sim_node *n, const sim_policy *policy);
void sim_invariants_add_server(sim_invariants *v, const msock_addr *stun);
/* Errors in logs are expected from now on, or not. */
void sim_invariants_expect_errors(sim_invariants *v, bool expected);
/* Tables of every node; the observer does it once a virtual second by itself. */
void sim_invariants_check(sim_invariants *v);

typedef struct sim_observed {
  uint64_t data_datagrams; /* WireGuard, by UDP */
  uint64_t pings, pongs, stun;
  uint64_t confirmed; /* pongs that confirmed something */
  uint64_t unopened;  /* disco between a node and keys that no node here has */
} sim_observed;
/* Of one node; what it sent. */
const sim_observed *sim_invariants_observed(const sim_invariants *v, const sim_node *n);

#endif
