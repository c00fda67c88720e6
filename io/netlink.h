/* io/netlink.h: rtnetlink by libmnl: link, addresses and routes of one device; a monitor for link
 * changes. Blocking requests: the kernel answers at once. Routes are kept as a set: what leaves the
 * set is removed, and only what this object added. */
#ifndef MSOCK_IO_NETLINK_H
#define MSOCK_IO_NETLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "io/egress.h"
#include "io/loop.h"

#define MSOCK_NETLINK_ROUTES_MAX 4096u
#define MSOCK_NETLINK_ADDRS_MAX 64u
#define MSOCK_NETLINK_WHY_MAX 200u

typedef struct msock_netlink msock_netlink;
/* For the device with that name. MSOCK_ERR_IO: no such device, or no netlink; see the text. *out is
 * set whenever memory allows, for msock_netlink_why; free it. */
msock_err msock_netlink_new(msock_egress *eg, const char *device, msock_netlink **out);
void msock_netlink_free(msock_netlink *n); /* leaves the device as it is */
/* The last error in words: "cannot add route 10.0.0.0/8 to tsnode0: Operation not permitted; ..."
 */
const char *msock_netlink_why(const msock_netlink *n);

msock_err msock_netlink_set_mtu(msock_netlink *n, uint32_t mtu_bytes);
msock_err msock_netlink_set_up(msock_netlink *n, bool up);
/* The device's addresses become exactly these: new ones are added, those added here before and not
 * listed now are removed. */
msock_err msock_netlink_set_addresses(msock_netlink *n, const msock_prefix *addrs, size_t count);
/* The same for routes to the device; table 0 = main. Stops at the first refusal; call again. */
msock_err msock_netlink_set_routes(msock_netlink *n, const msock_prefix *routes, size_t count,
                                   uint32_t table);

/* Local addresses of the machine: not loopback, not of the device named by except, and only of
 * links that are up. */
typedef struct msock_netlink_addr {
  msock_ip ip;
  uint8_t bits;
  uint32_t ifindex;
  char ifname[16];
} msock_netlink_addr;
/* Fills up to cap, gives the count in *n. */
msock_err msock_netlink_list_addresses(msock_egress *eg, const char *except,
                                       msock_netlink_addr *dst, size_t cap, size_t *n);
/* The default route of a family (4 or 6) with the lowest metric in the main table, those by the
 * device named by except (may be NULL) left out. MSOCK_ERR_UNKNOWN: none. */
typedef struct msock_netlink_route {
  msock_ip gateway; /* family 0: none, straight to the link */
  uint32_t ifindex; /* 0: several (multipath) */
  uint32_t metric;
} msock_netlink_route;
msock_err msock_netlink_default_route(msock_egress *eg, uint8_t family, const char *except,
                                      msock_netlink_route *out);

/* Calls changed after link, address or default route changes, once for a burst (200 ms after the
 * last). */
#define MSOCK_NETLINK_SETTLE_US (200 * MSOCK_MS)
typedef struct msock_netlink_monitor msock_netlink_monitor;
msock_err msock_netlink_monitor_new(msock_egress *eg, void (*changed)(void *ctx), void *ctx,
                                    msock_netlink_monitor **out);
void msock_netlink_monitor_free(msock_netlink_monitor *m);

#endif
