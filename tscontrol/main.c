/* tscontrol: a small control server for demos, tests and labs (control.md 7). */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "crypto/init.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "io/file.h"
#include "tscontrol/options.h"
#include "tscontrol/relay.h"
#include "tscontrol/server.h"
#include "tscontrol/state.h"

typedef struct program {
  msock_tscontrol_options opt;
  msock_log log;
  msock_loop *loop;
  msock_egress *egress;
  msock_tscontrol_relay *relay; /* NULL: others, or none */
  msock_machine_private key;
  msock_env env;
  msock_tailnet *tailnet;
  msock_tscontrol *server;
  int lock; /* of the state file; -1 = none */
} program;

static msock_exit fail(msock_exit code, const char *why) {
  fprintf(stderr, "tscontrol: %s\n", why);
  return code;
}

/* "2026-11-21T02:05:34Z info  relay.joined conn=1" on stderr. */
static void log_line(void *ctx, msock_log_level level, const char *event, const char *text) {
  char at[32];
  struct tm tm;
  const time_t now = (time_t)(msock_loop_wall_us() / MSOCK_SEC);
  (void)ctx;
  strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
  fprintf(stderr, "%s %-5s %s %s\n", at, msock_log_level_name(level), event, text);
}

/* --- state --- */

static void save(void *ctx) {
  program *p = ctx;
  char why[MSOCK_FILE_WHY_MAX] = "";
  if (msock_tscontrol_state_save(p->opt.state, &p->key, p->tailnet, why) != MSOCK_OK) {
    msock_logf(&p->log, MSOCK_LOG_ERROR, "state.not_saved", "reason=\"%s\"", why);
  }
}

/* The key and, into *nodes, the nodes of the state file; a new key when there is none. */
static msock_exit load(program *p, char **nodes) {
  char why[MSOCK_FILE_WHY_MAX] = "";
  const msock_err e = p->opt.state
                          ? msock_tscontrol_state_load(p->opt.state, &p->lock, &p->key, nodes, why)
                          : MSOCK_ERR_UNKNOWN;
  if (e == MSOCK_ERR_UNKNOWN) {
    msock_machine_private_generate(&p->env, &p->key);
    return MSOCK_EXIT_OK;
  }
  return e == MSOCK_OK ? MSOCK_EXIT_OK : fail(MSOCK_EXIT_CONFIG, why);
}

static msock_exit make_tailnet(program *p) {
  char *nodes = NULL;
  msock_derp_map own = {0};
  msock_tailnet_cfg cfg = {.domain = p->opt.domain,
                           .auth_keys = p->opt.auth_keys,
                           .n_auth_keys = p->opt.n_auth_keys,
                           .packet_filters = p->opt.policy,
                           .derp_map = p->relay ? &own : &p->opt.derp_map,
                           .fake_peers = p->opt.fake_peers};
  msock_exit code = load(p, &nodes);
  if (code == MSOCK_EXIT_OK && p->relay && msock_tscontrol_relay_map(p->relay, &own) != MSOCK_OK) {
    code = fail(MSOCK_EXIT_OTHER, "out of memory");
  }
  if (code == MSOCK_EXIT_OK && (p->tailnet = msock_tailnet_new(&p->env, &cfg)) == NULL) {
    code = fail(MSOCK_EXIT_OTHER, "out of memory");
  }
  if (code == MSOCK_EXIT_OK && nodes && msock_tailnet_load(p->tailnet, nodes) != MSOCK_OK) {
    code = fail(MSOCK_EXIT_CONFIG, "the nodes in the state file cannot be read; move it away");
  }
  if (code == MSOCK_EXIT_OK && p->opt.state && nodes == NULL) {
    save(p); /* a path that cannot be written is known now */
  }
  free(nodes);
  msock_derp_map_clear(&own);
  return code;
}

/* --- sockets --- */

static msock_exit make_relay(program *p) {
  char why[MSOCK_TLS_WHY_MAX];
  const msock_tscontrol_relay_cfg cfg = {
      .on = p->opt.relay, .pem = p->opt.relay_pem, .name = p->opt.relay_name, .log = &p->log};
  if (p->opt.relay_kind != MSOCK_TSCONTROL_RELAY_OWN) {
    return MSOCK_EXIT_OK;
  }
  return msock_tscontrol_relay_new(p->loop, p->egress, &cfg, &p->relay, why) == MSOCK_OK
             ? MSOCK_EXIT_OK
             : fail(MSOCK_EXIT_OTHER, why);
}

static msock_exit make_server(program *p) {
  char text[MSOCK_ADDR_TEXT_MAX], why[256];
  const msock_tscontrol_cfg cfg = {.listen = p->opt.listen,
                                   .key = &p->key,
                                   .tailnet = p->tailnet,
                                   .early_payload = true,
                                   .changed = p->opt.state ? save : NULL,
                                   .ctx = p,
                                   .log = &p->log};
  const msock_err e = msock_tscontrol_new(p->loop, p->egress, &cfg, &p->server);
  if (e == MSOCK_OK) {
    return MSOCK_EXIT_OK;
  }
  const char *reason = e == MSOCK_ERR_IO ? strerror(errno) : msock_err_text(e);
  snprintf(why, sizeof why, "cannot listen on %s: %s%s", msock_addr_text(&p->opt.listen, text),
           reason,
           e == MSOCK_ERR_IO && errno == EADDRINUSE
               ? "; is another tscontrol running? --listen takes another port"
               : "");
  return fail(MSOCK_EXIT_OTHER, why);
}

/* --- banner --- */

static void print_relay(const program *p) {
  char text[MSOCK_ADDR_TEXT_MAX];
  if (p->relay) {
    const msock_addr at = msock_tscontrol_relay_addr(p->relay);
    printf("  relay         ours, %s (DERP over TLS; STUN on the same UDP port)\n",
           msock_addr_text(&at, text));
  } else if (p->opt.derp_from) {
    printf("  relay         from %s\n", p->opt.derp_from);
  } else {
    printf("  relay         none: nodes reach each other by direct paths only\n");
  }
}

static void print_banner(const program *p) {
  const msock_addr at = msock_tscontrol_addr(p->server);
  char address[MSOCK_ADDR_TEXT_MAX], url[MSOCK_ADDR_TEXT_MAX + 16];
  const bool any = msock_ip_is_unspecified(&at.ip);
  if (any) {
    snprintf(url, sizeof url, "http://ADDRESS:%u", at.port);
  } else {
    snprintf(url, sizeof url, "http://%s", msock_addr_text(&at, address));
  }
  printf("tscontrol %s is ready: a control server for demos, tests and labs\n\n", TSNODE_VERSION);
  printf("  login server  %s%s\n", url, any ? " (any address of this machine)" : "");
  if (p->opt.n_auth_keys == 0) {
    printf("  auth keys     NONE: WHOEVER REACHES THIS ADDRESS MAY JOIN%s\n",
           msock_ip_is_loopback(&at.ip) ? " (this machine only)" : "");
  } else {
    printf("  auth keys     %zu\n", p->opt.n_auth_keys);
  }
  printf("  policy        %s\n", p->opt.policy ? p->opt.policy_file : "allow all");
  if (p->opt.state) {
    printf("  state         %s (%zu nodes)\n", p->opt.state, msock_tailnet_count(p->tailnet));
  } else {
    printf("  state         in memory: nodes are forgotten at the end\n");
  }
  print_relay(p);
  if (p->opt.fake_peers) {
    printf("  fake peers    %" PRIu32 "\n", p->opt.fake_peers);
  }
  const char *key = p->opt.n_auth_keys ? " --auth-key=KEY" : "";
  printf("\nTo join:\n  tsnode up --login-server=%s%s\n  tailscale up --login-server=%s%s\n\n", url,
         key, url, key);
  fflush(stdout);
}

/* --- life --- */

static void on_stop(void *ctx, int signo) {
  program *p = ctx;
  (void)signo;
  msock_loop_stop(p->loop);
}

static msock_exit start(program *p) {
  const msock_egress_config egress = {.profile = MSOCK_PROFILE_FULL, .ipv6 = true};
  p->loop = msock_loop_new(&p->log);
  p->egress = p->loop ? msock_egress_new(p->loop, &egress, &p->log) : NULL;
  if (p->egress == NULL || msock_loop_on_signal(p->loop, SIGTERM, on_stop, p) != MSOCK_OK ||
      msock_loop_on_signal(p->loop, SIGINT, on_stop, p) != MSOCK_OK) {
    return fail(MSOCK_EXIT_OTHER, "cannot start the event loop");
  }
  p->env = msock_loop_env(p->loop);
  msock_exit code = make_relay(p);
  code = code == MSOCK_EXIT_OK ? make_tailnet(p) : code;
  return code == MSOCK_EXIT_OK ? make_server(p) : code;
}

static void stop(program *p) {
  msock_tscontrol_free(p->server);
  msock_tscontrol_relay_free(p->relay);
  msock_tailnet_free(p->tailnet);
  msock_egress_free(p->egress);
  if (p->loop) {
    msock_loop_free(p->loop);
  }
  msock_wipe(&p->key, sizeof p->key);
  if (p->lock >= 0) {
    msock_file_unlock(p->lock);
  }
  msock_tscontrol_options_clear(&p->opt);
}

int main(int argc, char **argv) {
  program p = {.lock = -1};
  char why[MSOCK_TSCONTROL_WHY_MAX];
  msock_exit code = msock_tscontrol_options_parse(argc - 1, argv + 1, &p.opt, why);
  if (code != MSOCK_EXIT_OK) {
    fail(code, why);
    if (code == MSOCK_EXIT_USAGE) {
      fprintf(stderr, "See: tscontrol --help\n");
    }
  } else if (p.opt.help) {
    msock_tscontrol_print_help();
  } else if (p.opt.version) {
    printf("%s\n", TSNODE_VERSION);
  } else if (msock_crypto_init() != MSOCK_OK) {
    code = fail(MSOCK_EXIT_OTHER, "libsodium does not start");
  } else {
    p.log = (msock_log){.max = p.opt.level, .sink = log_line};
    code = start(&p);
    if (code == MSOCK_EXIT_OK) {
      print_banner(&p);
      msock_loop_run(p.loop);
    }
  }
  stop(&p);
  return (int)code;
}
