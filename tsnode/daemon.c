#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/node_main.h"
#include "node/state.h"
#include "tsnode/cli.h"

#define TUN_DEFAULT "tsnode0"
#define TUN_NAME_MAX 15u /* IFNAMSIZ without its NUL */

typedef struct daemon_flags {
  const char *statedir, *state, *tun, *config, *log_format, *socket;
  uint64_t port, verbose;
  bool debug, cleanup;
} daemon_flags;

/* Missing parents of the user's own state directory: ~/.local/state need not be there yet. The
 * directory itself is made, and judged, by the daemon. */
static void make_parents(const char *dir) {
  char path[MSOCK_CLI_PATH_MAX];
  snprintf(path, sizeof path, "%s", dir);
  for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
      return; /* the daemon says what is wrong with the directory */
    }
    *slash = '/';
  }
}

/* NULL = no TUN. Without rights for one the default is none. */
static const char *choose_tun(const char *given) {
  const char *userspace = getenv("TS_USERSPACE");
  if (given == NULL && userspace != NULL && *userspace) {
    given = strcmp(userspace, "true") == 0 || strcmp(userspace, "1") == 0 ? "none" : TUN_DEFAULT;
  }
  if (given == NULL) {
    given = geteuid() == 0 ? TUN_DEFAULT : "none";
  }
  return strcmp(given, "none") == 0 || strcmp(given, "userspace-networking") == 0 ? NULL : given;
}

static msock_exit check(const daemon_flags *f, msock_node_options *opt) {
  if (opt->tun != NULL && (*opt->tun == '\0' || strlen(opt->tun) > TUN_NAME_MAX ||
                           strpbrk(opt->tun, "/ :\t") != NULL)) {
    return msock_cli_fail(MSOCK_EXIT_USAGE,
                          "--tun takes an interface name of 1 to 15 characters, or none");
  }
  if (f->log_format != NULL && strcmp(f->log_format, "human") != 0 &&
      strcmp(f->log_format, "json") != 0) {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "--log-format takes human or json");
  }
  if (f->state != NULL && (strcmp(f->state, "mem:") == 0 || strncmp(f->state, "kube:", 5) == 0 ||
                           strncmp(f->state, "arn:", 4) == 0)) {
    return msock_cli_fail(MSOCK_EXIT_NOT_BUILT, "--state takes a file in this build");
  }
  return MSOCK_EXIT_OK;
}

msock_exit msock_cmd_daemon(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  daemon_flags f = {0};
  const msock_flag flags[] = {
      {"statedir", MSOCK_FLAG_TEXT, &f.statedir, NULL,
       "directory of the state (default /var/lib/tsnode)", 0},
      {"state", MSOCK_FLAG_TEXT, &f.state, NULL,
       "state file (default " MSOCK_STATE_FILE " in the state directory)", 0},
      {"socket", MSOCK_FLAG_TEXT, &f.socket, NULL,
       "socket of the LocalAPI (default /var/run/tsnode/tsnode.sock)", 0},
      {"tun", MSOCK_FLAG_TEXT, &f.tun, NULL,
       "interface name, or none for userspace mode (default " TUN_DEFAULT ")", 0},
      {"port", MSOCK_FLAG_NUMBER, &f.port, NULL, "UDP port (default 0: any)", UINT16_MAX},
      {"config", MSOCK_FLAG_TEXT, &f.config, NULL, "configuration file", 0},
      {"verbose", MSOCK_FLAG_LEVEL, &f.verbose, NULL, "log more: 1 = debug, 2 = trace", 2},
      {"v", MSOCK_FLAG_BOOL, &f.debug, NULL, "the same as --verbose=1", 0},
      {"log-format", MSOCK_FLAG_TEXT, &f.log_format, NULL, "human or json", 0},
      {"cleanup", MSOCK_FLAG_BOOL, &f.cleanup, NULL,
       "undo what a dead daemon left (interface, routes, DNS) and exit", 0},
      {"no-logs-no-support", MSOCK_FLAG_BOOL, NULL, NULL, "accepted: there is no log upload", 0},
      {"socks5-server", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"outbound-http-proxy-listen", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"debug", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"bird-socket", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"encrypt-state", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
  };
  char dir[MSOCK_CLI_PATH_MAX], file[MSOCK_CLI_PATH_MAX + sizeof MSOCK_STATE_FILE + 1];
  msock_words words;
  msock_exit code;
  if (!msock_cli_flags(verb, flags, sizeof flags / sizeof *flags, argc, argv, 0, &words, &code)) {
    return code;
  }
  if (f.statedir == NULL) {
    f.statedir = msock_cli_default_statedir(dir);
    if (f.state == NULL) {
      make_parents(f.statedir);
    }
  }
  if (strlen(f.statedir) >= MSOCK_CLI_PATH_MAX) {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "--statedir is too long");
  }
  snprintf(file, sizeof file, "%s/" MSOCK_STATE_FILE, f.statedir);
  msock_node_options opt = {
      .state_file = f.state ? f.state : file,
      .socket = f.socket ? f.socket : cli->socket,
      .tun = choose_tun(f.tun),
      .config = f.config,
      .port = (uint16_t)f.port,
      .level = f.verbose >= 2              ? MSOCK_LOG_TRACE
               : f.verbose == 1 || f.debug ? MSOCK_LOG_DEBUG
                                           : MSOCK_LOG_INFO,
      .log_format = f.log_format && strcmp(f.log_format, "json") == 0 ? MSOCK_NODE_LOG_JSON
                                                                      : MSOCK_NODE_LOG_HUMAN,
      .cleanup = f.cleanup,
  };
  code = check(&f, &opt);
  return code == MSOCK_EXIT_OK ? (msock_exit)msock_node_main(&opt) : code;
}
