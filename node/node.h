/* node/node.h: the daemon object: one node on one tailnet. */
#ifndef MSOCK_NODE_NODE_H
#define MSOCK_NODE_NODE_H

#include "base/err.h"
#include "node/deps.h"
#include "node/node_main.h"
#include "node/prefs.h"

typedef struct msock_node msock_node;

/* Takes the state directory's lock, loads the state, opens UDP, TUN and LocalAPI, and logs in again
 * when the state says so. opt and what deps names are borrowed. On error *out is NULL and why says
 * what failed and what to do: MSOCK_ERR_DENIED, _INVALID, _UNKNOWN for the state file and its
 * directory, MSOCK_ERR_IO for the system. */
msock_err msock_node_new(const msock_node_deps *deps, const msock_node_options *opt,
                         msock_node **out, char why[static MSOCK_WHY_MAX]);
/* Loads the configuration again and carries out what changed; what it could not do is in the log.
 */
void msock_node_reload(msock_node *n);
/* Begins an orderly stop. True: it is under way and will stop the loop itself (logout of an
 * ephemeral node); false: stop now. */
bool msock_node_stop(msock_node *n);
/* Closes everything; routes and addresses go with the TUN. NULL is fine. */
void msock_node_free(msock_node *n);

#endif
