/* derpd/mesh.h: links to the other relays of the region (derp.md 4.3): dialled at the start, and
 * again a while after they end. What goes over them is the core's (derp/server_mesh.c). */
#ifndef MSOCK_DERPD_MESH_H
#define MSOCK_DERPD_MESH_H

#include "config/derpd_config.h"
#include "derp/server_events.h"
#include "derpd/relay.h"

#define MSOCK_DERPD_MESH_BUDGET_US (10 * MSOCK_SEC) /* TCP and TLS */
#define MSOCK_DERPD_MESH_RETRY_US (5 * MSOCK_SEC)   /* fixed: derp.md 3.2 */
#define MSOCK_DERPD_MESH_SPREAD_US MSOCK_SEC        /* added at random */

/* One entry of mesh.with: HOST[:PORT][/DIALHOST][#sha256-raw:HEX]. */
typedef struct msock_derpd_mesh_target {
  char host[256];      /* name or address: SNI, Host, certificate */
  char dial[256];      /* where TCP goes; host when not given */
  char cert_name[80];  /* pin; "" = host */
  char http_host[264]; /* of the Host header */
  uint16_t port;
} msock_derpd_mesh_target;
/* MSOCK_ERR_INVALID. Pure. */
msock_err msock_derpd_mesh_parse(const char *text, msock_derpd_mesh_target *out);

typedef struct msock_derpd_mesh msock_derpd_mesh;
/* Dials all targets of v at the next turn. Borrows all for life. NULL: no memory. */
msock_derpd_mesh *msock_derpd_mesh_new(msock_derpd_relay *relay, msock_egress *eg,
                                       msock_tls_roots *roots, const msock_env *env,
                                       const msock_derpd_config *v);
void msock_derpd_mesh_free(msock_derpd_mesh *m); /* before the relay */
/* Events of the core: a link that has led back to this relay is not dialled again. */
void msock_derpd_mesh_on_event(msock_derpd_mesh *m, const msock_derp_server_event *ev);

#endif
