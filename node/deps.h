/* node/deps.h: what every part of the node borrows from the daemon: loop, egress, TLS roots, HTTP
 * client, env. All outlive the parts. */
#ifndef MSOCK_NODE_DEPS_H
#define MSOCK_NODE_DEPS_H

#include "base/env.h"
#include "base/log.h"
#include "io/egress.h"
#include "io/http.h"
#include "io/log_sink.h"
#include "io/loop.h"
#include "io/tls.h"

typedef struct msock_node_deps {
  msock_loop *loop;
  msock_egress *egress;
  msock_tls_roots *roots;
  msock_http *http;
  msock_env env;
  const msock_log *log;
  const msock_log_sink *sink; /* behind log, for its newest lines; NULL = none */
} msock_node_deps;

#endif
