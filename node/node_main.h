/* node/node_main.h: the daemon as one call, for the program on top of it. */
#ifndef MSOCK_NODE_NODE_MAIN_H
#define MSOCK_NODE_NODE_MAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"

typedef enum msock_node_log_format {
  MSOCK_NODE_LOG_HUMAN = 0,
  MSOCK_NODE_LOG_JSON
} msock_node_log_format;

/* Strings are borrowed for the whole call. */
typedef struct msock_node_options {
  const char *state_file; /* path of the state file; its directory is the state directory */
  const char *socket;     /* path of the LocalAPI socket */
  const char *tun;        /* interface name; NULL = no TUN (userspace mode) */
  const char *config;     /* configuration file; NULL = none */
  uint16_t port;          /* UDP port; 0 = ephemeral */
  msock_log_level level;  /* most detailed level that is logged */
  msock_node_log_format log_format;
  bool cleanup; /* only undo what a dead daemon left behind (interface, routes, DNS), then return */
} msock_node_options;

/* Runs until SIGTERM or SIGINT. Gives the exit code of the process (requirements.md 5.3): 0 after
 * an orderly stop; 1 when it could not start or go on (the reason is in the log); 10 when the
 * configuration or the state file is refused. */
int msock_node_main(const msock_node_options *opt);

#endif
