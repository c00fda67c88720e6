/* node/link.h: watches the machine's own addresses and default routes and says when they changed.
 * The TUN's are left out: those changes are ours. IPv6 counts only where it may be used, and its
 * link-local addresses never: they come with every bridge and container. */
#ifndef MSOCK_NODE_LINK_H
#define MSOCK_NODE_LINK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"
#include "base/err.h"
#include "node/deps.h"

typedef struct msock_link msock_link;

/* device: the TUN's name, NULL = none; borrowed. With an interface in the egress' configuration no
 * other one counts. changed is called when addresses or default routes differ from before.
 * MSOCK_ERR_IO: no netlink here; the node works without. */
msock_err msock_link_new(const msock_node_deps *deps, const char *device,
                         void (*changed)(void *ctx), void *ctx, msock_link **out);
void msock_link_free(msock_link *l); /* NULL is fine */
/* The addresses now, at most cap; gives how many were written. */
size_t msock_link_addresses(const msock_link *l, msock_ip *out, size_t cap);
/* Whether the machine has this address now. Loopback always. */
bool msock_link_has(const msock_link *l, const msock_ip *ip);

#endif
