/* tests/sim/node_traffic.h: the host behind a simulated node's TUN: it answers echo requests and
 * sends those of pings and flows (node.h). */
#ifndef MSOCK_TESTS_SIM_NODE_TRAFFIC_H
#define MSOCK_TESTS_SIM_NODE_TRAFFIC_H

#include "tests/sim/node.h"

#define SIM_FLOW_GRACE_US (1 * MSOCK_SEC) /* a request that is younger may still be answered */

typedef struct sim_traffic sim_traffic;
sim_traffic *sim_traffic_new(sim_node *n);
/* Pings that wait are called as unanswered. */
void sim_traffic_free(sim_traffic *t);
/* The node started; its TUN is the host's from now on. */
void sim_traffic_attach(sim_traffic *t, sim_process *p);
sim_traffic *sim_node_traffic(const sim_node *n);

#endif
