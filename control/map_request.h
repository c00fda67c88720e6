/* control/map_request.h: /machine/map requests (control.md 4.1) and the Hostinfo object that
 * register shares. Every request carries the complete current state (4.1 [rule]). */
#ifndef MSOCK_CONTROL_MAP_REQUEST_H
#define MSOCK_CONTROL_MAP_REQUEST_H

#include <json-c/json.h>

#include "control/control.h"

#define MSOCK_MAP_PATH "/machine/map"

typedef struct msock_map_request {
  uint32_t version;
  msock_node_key node_key;
  msock_disco_key disco_key;
  bool stream; /* the long poll; else a lite update (OmitPeers) */
  const msock_hostinfo *hostinfo;
  const msock_netinfo *netinfo; /* NULL = not known yet */
  const msock_endpoint *endpoints;
  size_t n_endpoints; /* 0 = absent: the server keeps what it has */
} msock_map_request;

/* Allocated JSON text, NULL when out of memory; the caller frees. */
char *msock_map_encode(const msock_map_request *r, size_t *len);
/* A new json-c object (netinfo may be NULL), or NULL. */
json_object *msock_hostinfo_json(const msock_hostinfo *h, const msock_netinfo *netinfo);
/* The object's text, allocated; consumes o (may be NULL). */
char *msock_control_json_text(json_object *o, size_t *len);

/* Deep copy with owned texts; MSOCK_ERR_NOMEM leaves *to zero. */
msock_err msock_hostinfo_copy(msock_hostinfo *to, const msock_hostinfo *from);
void msock_hostinfo_clear(msock_hostinfo *h); /* of a copy only */
bool msock_netinfo_equal(const msock_netinfo *a, const msock_netinfo *b);

#endif
