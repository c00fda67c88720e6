/* node/relay.h: the shell around the DERP pool: TLS streams under derp/pool.h's connections.
 *
 * Life of a frame in: stream readable -> pool feed -> packet event -> handlers.packet. Out:
 * msock_relay_send queues in the pool; the stream asks for as many frames as fit one write. */
#ifndef MSOCK_NODE_RELAY_H
#define MSOCK_NODE_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/derp_map.h"
#include "base/key.h"
#include "derp/pool.h"
#include "node/deps.h"

typedef struct msock_relay_handlers {
  /* data is valid for the call. */
  void (*packet)(void *ctx, uint64_t now_us, msock_region_id region, const msock_node_key *src,
                 const uint8_t *data, size_t len);
  void (*peer_gone)(void *ctx, uint64_t now_us, msock_region_id region, const msock_node_key *peer);
  void (*home)(void *ctx, uint64_t now_us, msock_region_id region, bool connected);
  void (*region_up)(void *ctx, uint64_t now_us, msock_region_id region);
  void (*region_lost)(void *ctx, uint64_t now_us, msock_region_id region); /* it had been up */
  /* A connection came up; its TCP connect took connect_us. */
  void (*connected)(void *ctx, msock_region_id region, uint64_t connect_us);
  void (*reprobe)(void *ctx, uint64_t now_us);
} msock_relay_handlers;

typedef struct msock_relay msock_relay;

/* NULL: no memory. */
msock_relay *msock_relay_new(const msock_node_deps *deps, const msock_relay_handlers *handlers,
                             void *ctx);
void msock_relay_free(msock_relay *r);
/* The pool itself: maps, keys, home and status go straight to it; pump afterwards. */
msock_derp_pool *msock_relay_pool(msock_relay *r);
/* False: no way to this peer is known now (nothing was queued). */
bool msock_relay_send(msock_relay *r, uint64_t now_us, const msock_node_key *dst,
                      msock_region_id home, const uint8_t *p, size_t len);
/* Carries out what the pool asks. Once per turn, after the inputs. */
void msock_relay_pump(msock_relay *r, uint64_t now_us);
uint64_t msock_relay_next_expiry(const msock_relay *r);

#endif
