/* node/homing.h: the shell around netcheck/home.h: STUN from the node's one UDP socket, name
 * look-ups, and the HTTP requests of a network without UDP. */
#ifndef MSOCK_NODE_HOMING_H
#define MSOCK_NODE_HOMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/udp.h"
#include "netcheck/home.h"
#include "node/deps.h"

#define MSOCK_HOMING_JOBS_MAX 32u /* look-ups and requests at once; more are answered "failed" */

typedef struct msock_homing_handlers {
  void (*home_changed)(void *ctx, uint64_t now_us, msock_region_id region);
  void (*report)(void *ctx, uint64_t now_us, const msock_home_report *report);
  /* A STUN server sees the UDP socket at mapped. May be NULL. */
  void (*reflexive)(void *ctx, uint64_t now_us, const msock_addr *server, const msock_addr *mapped);
} msock_homing_handlers;

typedef struct msock_homing msock_homing;

/* udp NULL: the socket could not be bound, HTTPS only. NULL: no memory. */
msock_homing *msock_homing_new(const msock_node_deps *deps, msock_udp *udp,
                               const msock_homing_handlers *handlers, void *ctx);
void msock_homing_free(msock_homing *h);
/* The socket was bound again, or is gone (NULL). */
void msock_homing_set_socket(msock_homing *h, msock_udp *udp);
/* The machine itself: map, start, stop and reports go straight to it; pump afterwards. */
msock_home *msock_homing_machine(msock_homing *h);
void msock_homing_pump(msock_homing *h, uint64_t now_us);
uint64_t msock_homing_next_expiry(const msock_homing *h);

#endif
