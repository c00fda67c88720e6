/* control/tailnet.h: the tiny control server's mind: who has joined, who hears what.
 *
 * Pure. Requests of server_conn.h go in; answers and pushes come out, polled. At most
 * MSOCK_TAILNET_NODES_MAX nodes, one map stream for each (the newest wins), identified by their
 * Noise machine key. Files: tailnet.c (nodes, streams, pushes), tailnet_requests.c (register, map),
 * tailnet_text.c (map messages), tailnet_files.c (policy, DERP map, state). For demos and tests,
 * never a Headscale replacement. Source: control.md 7. */
#ifndef MSOCK_CONTROL_TAILNET_H
#define MSOCK_CONTROL_TAILNET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/derp_map.h"
#include "base/env.h"
#include "base/err.h"
#include "base/key.h"
#include "control/server_conn.h"

#define MSOCK_TAILNET_NODES_MAX 64u
#define MSOCK_TAILNET_FAKES_MAX 20000u
#define MSOCK_TAILNET_KEEPALIVE_US (50 * MSOCK_SEC) /* control.md 4.3, 7 */

typedef struct msock_tailnet_cfg { /* texts are borrowed for life */
  const char *domain;              /* base of node names, such as "demo.example" */
  const char *const *auth_keys;    /* none: whoever connects may join */
  size_t n_auth_keys;
  const char *packet_filters;     /* as msock_tailnet_filters_text gave it; NULL = allow all */
  const msock_derp_map *derp_map; /* borrowed for the call of new only */
  uint32_t fake_peers;            /* peers that exist only in the netmap, for measurements */
} msock_tailnet_cfg;

/* The wire's PacketFilters value from a policy file: {"NAME": [rules]} or a bare list of rules,
 * which is named "base" (control.md 5.2). Every rule is read as a node reads it: anything that a
 * node would skip is refused here. Allocated; NULL with the reason in why. */
#define MSOCK_TAILNET_WHY_MAX 200u
char *msock_tailnet_filters_text(const char *json, size_t len,
                                 char why[static MSOCK_TAILNET_WHY_MAX]);

typedef enum msock_tailnet_out_kind {
  MSOCK_TAILNET_RESPOND = 1, /* a whole answer */
  MSOCK_TAILNET_BEGIN,       /* 200, a body that goes on */
  MSOCK_TAILNET_WRITE,       /* more of it */
  MSOCK_TAILNET_END
} msock_tailnet_out_kind;

typedef struct msock_tailnet_out {
  msock_tailnet_out_kind kind;
  uint64_t conn;
  int32_t stream;
  int status;
  uint8_t *body; /* allocated, the receiver frees it; NULL = empty */
  size_t len;
} msock_tailnet_out;

typedef struct msock_tailnet msock_tailnet;

/* NULL: no memory, or a bound exceeded. */
msock_tailnet *msock_tailnet_new(const msock_env *env, const msock_tailnet_cfg *cfg);
void msock_tailnet_free(msock_tailnet *t);

/* A request of a connection; conn is the caller's name for it. Every request gets one answer. */
void msock_tailnet_on_request(msock_tailnet *t, uint64_t now_us, uint64_t wall_us, uint64_t conn,
                              const msock_machine_key *machine, const msock_server_request *r);
/* The client closed the stream, or the connection went. */
void msock_tailnet_on_stream_closed(msock_tailnet *t, uint64_t conn, int32_t stream);
void msock_tailnet_on_conn_closed(msock_tailnet *t, uint64_t conn);
/* False when there is none. */
bool msock_tailnet_next_output(msock_tailnet *t, msock_tailnet_out *out);
uint64_t msock_tailnet_next_expiry(const msock_tailnet *t);
void msock_tailnet_on_expiry(msock_tailnet *t, uint64_t now_us);

size_t msock_tailnet_count(const msock_tailnet *t);
/* True when what msock_tailnet_state keeps has changed since it was called: time to save. */
bool msock_tailnet_is_dirty(const msock_tailnet *t);
/* The nodes as JSON (allocated, NUL-terminated; public keys only), and back. load:
 * MSOCK_ERR_INVALID leaves the tailnet empty. */
char *msock_tailnet_state(msock_tailnet *t, size_t *len);
msock_err msock_tailnet_load(msock_tailnet *t, const char *text);

#endif
