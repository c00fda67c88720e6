/* node/paths.h: the shell around the path engine (magicsock/magicsock.h): disco out by the one UDP
 * socket or by a relay, endpoints to control, path news to the data plane.
 *
 * What comes in: datagrams that node.c found to be disco, relayed disco, netmap changes, own
 * addresses. WireGuard data does not pass here: the data plane asks msock_engine_route. */
#ifndef MSOCK_NODE_PATHS_H
#define MSOCK_NODE_PATHS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/endpoint.h"
#include "io/udp.h"
#include "magicsock/magicsock.h"
#include "node/deps.h"

typedef struct msock_paths_handlers {
  /* One disco datagram by relay. */
  void (*send_relay)(void *ctx, uint64_t now_us, const msock_node_key *dst, msock_region_id region,
                     const uint8_t *p, size_t len);
  /* The set of own endpoints changed: tell control. */
  void (*publish)(void *ctx, uint64_t now_us, const msock_endpoint *ep, size_t n);
  /* A path to this peer appeared: a handshake that waits is sent now. */
  void (*kick)(void *ctx, uint64_t now_us, const msock_node_key *peer);
  void (*ping_done)(void *ctx, uint64_t now_us, const msock_engine_output *result);
  void (*want_stun)(void *ctx, uint64_t now_us);
  void (*want_rebind)(void *ctx, uint64_t now_us);
} msock_paths_handlers;

typedef struct msock_paths msock_paths;

/* disco is copied. NULL: no memory. */
msock_paths *msock_paths_new(const msock_node_deps *deps, const msock_engine_config *cfg,
                             const msock_disco_private *disco, const msock_paths_handlers *handlers,
                             void *ctx);
void msock_paths_free(msock_paths *p); /* NULL is fine */
/* The machine itself; pump afterwards. */
msock_engine *msock_paths_engine(msock_paths *p);
/* The socket was bound (again), or is gone (NULL). Borrowed until the next call. */
void msock_paths_set_socket(msock_paths *p, uint64_t now_us, msock_udp *udp);
void msock_paths_pump(msock_paths *p, uint64_t now_us);
uint64_t msock_paths_next_expiry(const msock_paths *p);

#endif
