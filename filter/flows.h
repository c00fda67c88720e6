/* filter/flows.h: a bounded table of UDP and SCTP flows, least recently used out first.
 *
 * Intrusive: entries sit in one array, linked by index into hash chains and into the use order.
 * Nothing is allocated after new. The hash is seeded, so that peers cannot aim at one chain. */
#ifndef MSOCK_FILTER_FLOWS_H
#define MSOCK_FILTER_FLOWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

/* As an inbound packet shows it: remote is its source, local its destination. */
typedef struct msock_flow {
  msock_ip remote, local;
  uint16_t remote_port, local_port;
  uint8_t proto;
} msock_flow;

typedef struct msock_flows msock_flows;

/* cap: 1 to 65534 entries. NULL when memory is short. */
msock_flows *msock_flows_new(size_t cap, uint64_t seed);
void msock_flows_free(msock_flows *t);

/* Is the flow there; if so it becomes the most recently used. */
bool msock_flows_touch(msock_flows *t, const msock_flow *flow);
/* Adds the flow or touches it. True when another one had to go. */
bool msock_flows_add(msock_flows *t, const msock_flow *flow);
/* Removes every flow that keep refuses. keep must not use the table. */
void msock_flows_retain(msock_flows *t, bool (*keep)(void *ctx, const msock_flow *flow), void *ctx);
size_t msock_flows_count(const msock_flows *t);

#endif
