#include "node/node_main.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "crypto/init.h"
#include "node/log_sink.h"
#include "node/node.h"

enum { EXIT_OTHER = 1, EXIT_CONFIG = 10 }; /* requirements.md 5.3 */

static void on_stop(void *ctx, int signo) {
  msock_loop *loop = ctx;
  (void)signo;
  msock_loop_stop(loop);
}

static int run(const msock_node_options *opt, msock_loop *loop, const msock_log *log) {
  const msock_egress_config egress = {.profile = MSOCK_PROFILE_FULL,
                                      .mark = opt->tun ? MSOCK_EGRESS_MARK : 0};
  msock_node_deps deps = {.loop = loop, .env = msock_loop_env(loop), .log = log};
  msock_node *node = NULL;
  char why[MSOCK_WHY_MAX] = "";
  int code = EXIT_OTHER;

  deps.egress = msock_egress_new(loop, &egress, log);
  deps.roots = msock_tls_roots_new(NULL);
  deps.http = deps.egress && deps.roots ? msock_http_new(deps.egress, deps.roots, log) : NULL;
  if (deps.http == NULL) {
    msock_logf(log, MSOCK_LOG_ERROR, "node.start_failed", "reason=\"out of memory\"");
    goto out;
  }
  const msock_err e = msock_node_new(&deps, opt, &node, why);
  if (e != MSOCK_OK) {
    msock_logf(log, MSOCK_LOG_ERROR, "node.start_failed", "reason=\"%s\"", why);
    const bool refused = e == MSOCK_ERR_INVALID || e == MSOCK_ERR_UNKNOWN || e == MSOCK_ERR_DENIED;
    code = refused ? EXIT_CONFIG : EXIT_OTHER;
    goto out;
  }
  msock_logf(log, MSOCK_LOG_INFO, "node.ready",
             "version=%s socket=%s tun=%s tls=\"%s\" http=\"%s\"", TSNODE_VERSION, opt->socket,
             opt->tun ? opt->tun : "none", msock_tls_backend(), msock_http_provider());
  msock_loop_run(loop);
  msock_logf(log, MSOCK_LOG_INFO, "node.stopped", "%s", "");
  code = 0;
out:
  msock_node_free(node);
  msock_http_free(deps.http);
  msock_tls_roots_free(deps.roots);
  msock_egress_free(deps.egress);
  return code;
}

int msock_node_main(const msock_node_options *opt) {
  static msock_log_sink sink;

  msock_log_sink_init(&sink, opt->level, opt->log_format == MSOCK_NODE_LOG_JSON, msock_loop_now_us,
                      msock_loop_wall_us);
  if (msock_crypto_init() != MSOCK_OK) {
    msock_logf(&sink.log, MSOCK_LOG_ERROR, "crypto.self_test_failed",
               "text=\"nothing will be sent; the libraries of this machine are damaged\"");
    return EXIT_OTHER;
  }
  msock_loop *loop = msock_loop_new(&sink.log);
  if (loop == NULL) {
    msock_logf(&sink.log, MSOCK_LOG_ERROR, "node.start_failed", "reason=\"no event loop\"");
    return EXIT_OTHER;
  }
  msock_loop_on_signal(loop, SIGTERM, on_stop, loop);
  msock_loop_on_signal(loop, SIGINT, on_stop, loop);
  const int code = run(opt, loop, &sink.log);
  msock_loop_free(loop);
  return code;
}
