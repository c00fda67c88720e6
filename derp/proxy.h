/* derp/proxy.h: the HTTP CONNECT exchange that goes before TLS when a relay is reached through a
 * proxy (derp.md 1.2, RFC 9110 9.3.6). The proxy is always given the node's HostName and port,
 * never an address of the map. */
#ifndef MSOCK_DERP_PROXY_H
#define MSOCK_DERP_PROXY_H

#include <stddef.h>
#include <stdint.h>

#include "base/derp_map.h"
#include "base/err.h"

/* Writes the request head. authorization: value of Proxy-Authorization ("Basic ..."), or NULL.
 * Gives its length, or MSOCK_ERR_NOBUF when it does not fit or a value is not fit for a header. */
ptrdiff_t msock_derp_proxy_request(const msock_derp_node *node, const char *authorization,
                                   char *dst, size_t cap);

/* Reads the proxy's reply from all bytes received so far.
 *   status  set whenever a whole head was read
 *   gives   length of the head when the status is 200: bytes behind it belong to the tunnel;
 *           MSOCK_ERR_AGAIN: feed more; MSOCK_ERR_DENIED: another status; MSOCK_ERR_INVALID */
ptrdiff_t msock_derp_proxy_reply(const uint8_t *p, size_t len, int *status);

#endif
