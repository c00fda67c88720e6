/* node/node_main.h: the daemon as one call, for the program on top of it. */
#ifndef MSOCK_NODE_NODE_MAIN_H
#define MSOCK_NODE_NODE_MAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "node/settings.h"

/* Strings are borrowed for the whole call. */
typedef struct msock_node_options {
  const char *state_file;   /* its directory is the state directory; NULL = in memory alone, and the
                               node is ephemeral: it logs out when it stops */
  const char *socket;       /* path of the LocalAPI socket */
  const char *tun;          /* interface name; NULL = no TUN (userspace mode) */
  msock_settings *settings; /* loaded; loaded again at SIGHUP */
} msock_node_options;

/* Runs until SIGTERM or SIGINT (an ephemeral node: until the logout is done, or a second signal).
 * SIGHUP loads the configuration again. Gives the exit code of the process (requirements.md 5.3): 0
 * after an orderly stop; 1 when it could not start or go on (the reason is in the log); 10 when the
 * configuration or the state file is refused. */
int msock_node_main(const msock_node_options *opt);

#endif
