#include "node/node_main.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "crypto/init.h"
#include "io/log_sink.h"
#include "io/memory.h"
#include "node/anonymize.h"
#include "node/node.h"

enum { EXIT_OTHER = 1, EXIT_CONFIG = 10 }; /* requirements.md 5.3 */

typedef struct program {
  msock_loop *loop;
  msock_node *node; /* NULL while it is being made */
  msock_log_sink sink;
  msock_anonymous_log anonymous; /* in front of it in the privacy profile */
  const msock_log *log;          /* one of the two */
  const msock_node_options *opt;
} program;

static void on_stop(void *ctx, int signo) {
  program *p = ctx;
  (void)signo;
  if (p->node == NULL || !msock_node_stop(p->node)) {
    msock_loop_stop(p->loop);
  }
}

static void on_reload(void *ctx, int signo) {
  program *p = ctx;
  (void)signo;
  if (p->node != NULL) {
    msock_node_reload(p->node);
    p->sink.log.max = (msock_log_level)msock_settings_values(p->opt->settings)->log_level;
  }
}

static int run(program *p) {
  const msock_node_options *opt = p->opt;
  const msock_tsnode_config *v = msock_settings_values(opt->settings);
  msock_loop *loop = p->loop;
  const msock_log *log = p->log;
  msock_egress_config egress = {.profile = v->profile == MSOCK_TSNODE_PROFILE_FULL
                                               ? MSOCK_PROFILE_FULL
                                               : MSOCK_PROFILE_PRIVACY_PROXY,
                                .ipv6 = v->ipv6,
                                .mark = opt->tun ? MSOCK_EGRESS_MARK : 0};
  msock_node_deps deps = {.loop = loop, .env = msock_loop_env(loop), .log = log, .sink = &p->sink};
  char why[MSOCK_WHY_MAX] = "";
  int code = EXIT_OTHER;

  snprintf(egress.device, sizeof egress.device, "%s", v->bind_interface);
  deps.egress = msock_egress_new(loop, &egress, log);
  deps.roots = msock_tls_roots_new(v->ca_file[0] ? v->ca_file : NULL);
  deps.http = deps.egress && deps.roots ? msock_http_new(deps.egress, deps.roots, log) : NULL;
  if (deps.http == NULL) {
    msock_logf(log, MSOCK_LOG_ERROR, "node.start_failed", "reason=\"out of memory\"");
    goto out;
  }
  const msock_err e = msock_node_new(&deps, opt, &p->node, why);
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
  msock_node_free(p->node);
  p->node = NULL;
  msock_http_free(deps.http);
  msock_tls_roots_free(deps.roots);
  msock_egress_free(deps.egress);
  return code;
}

int msock_node_main(const msock_node_options *opt) {
  static program p;
  const msock_tsnode_config *v = msock_settings_values(opt->settings);

  msock_memory_setup();
  p.opt = opt;
  msock_log_sink_init(&p.sink, (msock_log_level)v->log_level,
                      v->log_format == MSOCK_TSNODE_LOG_JSON, msock_loop_now_us,
                      msock_loop_wall_us);
  msock_anonymous_log_init(&p.anonymous, &p.sink.log);
  p.log = v->profile == MSOCK_TSNODE_PROFILE_FULL ? &p.sink.log : &p.anonymous.log;
  if (msock_crypto_init() != MSOCK_OK) {
    msock_logf(p.log, MSOCK_LOG_ERROR, "crypto.self_test_failed",
               "text=\"nothing will be sent; the libraries of this machine are damaged\"");
    return EXIT_OTHER;
  }
  p.loop = msock_loop_new(p.log);
  if (p.loop == NULL) {
    msock_logf(p.log, MSOCK_LOG_ERROR, "node.start_failed", "reason=\"no event loop\"");
    return EXIT_OTHER;
  }
  msock_loop_on_signal(p.loop, SIGTERM, on_stop, &p);
  msock_loop_on_signal(p.loop, SIGINT, on_stop, &p);
  msock_loop_on_signal(p.loop, SIGHUP, on_reload, &p);
  const int code = run(&p);
  msock_loop_free(p.loop);
  return code;
}
