/* node/control_link.h: the shell around control/control.h: the key request over HTTP(S), the
 * connection, the ping answers. Events go to one handler, in pump. */
#ifndef MSOCK_NODE_CONTROL_LINK_H
#define MSOCK_NODE_CONTROL_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/control.h"
#include "node/deps.h"

#define MSOCK_CONTROL_DIAL_US (5 * MSOCK_SEC) /* TCP and TLS: control.md 2.3 */
#define MSOCK_CONTROL_KEY_US (10 * MSOCK_SEC) /* the whole GET /key */
#define MSOCK_CONTROL_PING_US (5 * MSOCK_SEC) /* HEAD for a PingRequest: control.md 4.7 */
#define MSOCK_CONTROL_PINGS_MAX 4u            /* at once; more are dropped */

typedef void (*msock_control_event_fn)(void *ctx, uint64_t now_us, const msock_control_event *ev);

typedef struct msock_control_link msock_control_link;

/* address: of the server, dialled instead of looking its name up; family 0 = look up. cfg is copied
 * as msock_control_new does. NULL: no memory, or a bad host. */
msock_control_link *msock_control_link_new(const msock_node_deps *deps,
                                           const msock_control_cfg *cfg, const msock_ip *address,
                                           msock_control_event_fn on_event, void *ctx);
void msock_control_link_free(msock_control_link *l);
/* The machine itself: settings and the netmap; pump afterwards. */
msock_control *msock_control_link_machine(msock_control_link *l);
/* The connection's own address; family 0 while there is none. */
msock_ip msock_control_link_local(const msock_control_link *l);
void msock_control_link_pump(msock_control_link *l, uint64_t now_us);
uint64_t msock_control_link_next_expiry(const msock_control_link *l);

#endif
