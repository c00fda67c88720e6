/* node/netcheck_json.h: what a report on the network becomes for others: a document with
 * tailscale's names (netcheck.Report of 1.102; netcheck.md 2.1), and NetInfo for the control
 * server. Pure. */
#ifndef MSOCK_NODE_NETCHECK_JSON_H
#define MSOCK_NODE_NETCHECK_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/derp_map.h"
#include "control/control.h"
#include "netcheck/home.h"
#include "netcheck/nat.h"

typedef struct msock_netcheck_view {
  const msock_home_report *report;
  const msock_derp_map *map; /* names of the regions */
  msock_region_id home;      /* in force; the report alone may say another */
  msock_nat nat;
  uint64_t wall_us; /* when the report was filed */
} msock_netcheck_view;

/* Latencies are nanoseconds by region id, as Go prints durations. What was not found out is absent:
 * UPnP, PMP and PCP (not probed), MappingVariesByDestIP and CaptivePortal while unknown; addresses
 * are "" then. ICMPv4 is always false: ICMP is not used. Ours, under "TSNode": NAT (a stable word),
 * Sentence, Home, Full, Reflexive (addresses worth telling others), RegionHTTPSLatency, Regions
 * with their names. Gives allocated text; NULL without memory. */
char *msock_netcheck_json(const msock_netcheck_view *v, size_t *len);

/* control.md 4.1: everything that a report can say. */
msock_netinfo msock_netcheck_netinfo(const msock_home_report *r, msock_region_id home);

#endif
