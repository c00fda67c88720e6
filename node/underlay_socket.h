/* node/underlay_socket.h: the life of the one UDP socket: family, port, what happens when it cannot
 * be bound, and how it comes back.
 *
 * IPv4 wildcard by default; with ipv6 one dual-stack socket, or IPv4 where the system has no IPv6
 * (one warning). Without any socket the node is inert: relays only. It then tries again after 1 s,
 * 2 s ... 30 s, and at once when the network changes (magicsock.md 3.12, 5.3, 5.6). */
#ifndef MSOCK_NODE_UNDERLAY_SOCKET_H
#define MSOCK_NODE_UNDERLAY_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "io/udp.h"
#include "node/deps.h"

typedef struct msock_underlay_config {
  bool off; /* there shall be none: inert for good */
  bool ipv6;
  uint16_t port; /* 0 = any; another one is the only one that the first socket may have */
} msock_underlay_config;

typedef struct msock_underlay_handlers {
  /* As in msock_udp_handlers; both with the ctx below. */
  void (*received)(void *ctx, msock_packet *pkts, const msock_addr *from, size_t n,
                   uint64_t now_us);
  void (*fault)(void *ctx, const msock_addr *to, msock_udp_fault fault, size_t n);
  /* Another socket than before, or none (NULL). The one before is gone. Not called by _new. */
  void (*changed)(void *ctx, uint64_t now_us, msock_udp *udp);
} msock_underlay_handlers;

typedef struct msock_underlay msock_underlay;

/* Tries to bind; that it failed is no error: see msock_underlay_udp. NULL: no memory. */
msock_underlay *msock_underlay_new(const msock_node_deps *deps, const msock_underlay_config *cfg,
                                   const msock_underlay_handlers *handlers, void *ctx);
void msock_underlay_free(msock_underlay *u);            /* NULL is fine */
msock_udp *msock_underlay_udp(const msock_underlay *u); /* NULL while inert */

/* Another socket, on the same port if it can be had. While inert nothing happens: the retry is
 * under way. Not from inside received or fault: then msock_underlay_want_rebind. */
void msock_underlay_rebind(msock_underlay *u, uint64_t now_us);
/* The same in the next turn of the loop. */
void msock_underlay_want_rebind(msock_underlay *u);
/* The network changed: another socket, also when there was none. */
void msock_underlay_network_changed(msock_underlay *u, uint64_t now_us);

#endif
