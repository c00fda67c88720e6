/* base/endpoint.h: one of a node's own addresses with how it was learned, as it is told to control
 * and to peers (control.md 4.1, magicsock.md 3.8). */
#ifndef MSOCK_BASE_ENDPOINT_H
#define MSOCK_BASE_ENDPOINT_H

#include "base/addr.h"

typedef enum msock_endpoint_type { /* codes of the control protocol */
                                   MSOCK_ENDPOINT_UNKNOWN = 0,
                                   MSOCK_ENDPOINT_LOCAL = 1,
                                   MSOCK_ENDPOINT_STUN = 2,
                                   MSOCK_ENDPOINT_PORTMAPPED = 3,
                                   MSOCK_ENDPOINT_STUN4_LOCAL_PORT = 4,
                                   MSOCK_ENDPOINT_EXPLICIT = 5 /* configured */
} msock_endpoint_type;

typedef struct msock_endpoint {
  msock_addr addr;
  msock_endpoint_type type;
} msock_endpoint;

#endif
