/* tsnode/cli.h: what the verbs share: the table, the way to the daemon, words for people.
 *
 * Data goes to stdout, progress and errors to stderr. One file for each group of verbs: daemon.c,
 * up.c (up, login, set, down, logout), status.c (status, ip), ping.c, netcheck.c, lookup.c
 * (whois, metrics, wait), debug.c (debug, bugreport), about.c (version, completion). */
#ifndef MSOCK_TSNODE_CLI_H
#define MSOCK_TSNODE_CLI_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/exit_codes.h"
#include "config/flags.h"

#define MSOCK_CLI_CALL_US UINT64_C(10000000) /* a daemon that is well answers in milliseconds */

typedef struct msock_cli {
  const char *socket; /* of the daemon */
} msock_cli;

typedef struct msock_verb {
  const char *name;
  const char *sentence;
  const char *usage; /* what follows the name in the first line of its help */
  msock_exit (*run)(const msock_cli *cli, const struct msock_verb *verb, int argc, char **argv);
} msock_verb;

extern const msock_verb msock_verbs[];
extern const size_t msock_n_verbs;

/* Parses a verb's flags; prints its help or the refusal itself. True: go on. False: *code is the
 * exit code. At most max_words words besides flags. */
bool msock_cli_flags(const msock_verb *verb, const msock_flag *flags, size_t n_flags, int argc,
                     char **argv, size_t max_words, msock_words *words, msock_exit *code);

/* One call of the daemon. MSOCK_EXIT_OK on a 2xx answer: *doc is its document (NULL when it has
 * none), caller json_object_put. Otherwise the reason was printed, with what to do next; quiet
 * leaves it out. body may be NULL; it is not wiped here. */
typedef struct msock_cli_call {
  const char *method, *target, *body;
  uint64_t timeout_us; /* 0 = MSOCK_CLI_CALL_US */
  bool quiet;
} msock_cli_call;
msock_exit msock_cli_ask(const msock_cli *cli, const msock_cli_call *call, json_object **doc);
/* The same for answers that are no documents; a NUL follows the bytes; the caller frees them. */
msock_exit msock_cli_ask_bytes(const msock_cli *cli, const msock_cli_call *call, char **bytes,
                               size_t *len);
/* What the BackendState of a status document means as an exit code; text (may be NULL) gets the
 * sentence for people when it is not "Running". */
msock_exit msock_cli_judge(json_object *status, FILE *text);
/* GET status. */
msock_exit msock_cli_status(const msock_cli *cli, bool with_peers, bool quiet, json_object **doc);

/* "tsnode: ..." on stderr. Gives code. */
msock_exit msock_cli_fail(msock_exit code, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Members of a document; "" , 0, false or NULL when absent or of another type. */
const char *msock_cli_str(json_object *o, const char *name);
bool msock_cli_bool(json_object *o, const char *name);
uint64_t msock_cli_u64(json_object *o, const char *name);
json_object *msock_cli_get(json_object *o, const char *name);

/* Self or a peer of a status document by address, host name or DNS name (any case, trailing dot or
 * not, first label enough); NULL = none. */
json_object *msock_cli_find_node(json_object *status, const char *text);
/* First label of its DNS name, else its host name. Returns buf. */
#define MSOCK_CLI_NAME_MAX 64u
char *msock_cli_node_name(json_object *node, char buf[static MSOCK_CLI_NAME_MAX]);
/* Its first address of a family (4, 6; 0 = any); "" = none. */
const char *msock_cli_node_ip(json_object *node, int family);

void msock_cli_sleep_us(uint64_t us);
/* Waits until state or login URL are not those of seen (a status document; NULL: no daemon
 * answered) any more, or something else of the node has changed, and for at most about max_us. */
void msock_cli_await_news(const msock_cli *cli, json_object *seen, uint64_t max_us);

/* Paths by default: environment, then root's places or the user's own (XDG). Return buf. */
#define MSOCK_CLI_PATH_MAX 256u
char *msock_cli_default_socket(bool for_daemon, char buf[static MSOCK_CLI_PATH_MAX]);
char *msock_cli_default_statedir(char buf[static MSOCK_CLI_PATH_MAX]);

/* Verbs. */
msock_exit msock_cmd_daemon(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_up(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_login(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_set(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_down(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_logout(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_status(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_ip(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_ping(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_netcheck(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_whois(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_metrics(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_wait(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
/* The address of a peer given by address, host name or MagicDNS name. An address needs no look at
 * the peers: the daemon knows whether it exists. On an error the reason was printed. */
msock_exit msock_cli_resolve(const msock_cli *cli, const char *peer, char ip[static 64]);
msock_exit msock_cmd_why(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_debug(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_bugreport(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_version(const msock_cli *cli, const msock_verb *verb, int argc, char **argv);
msock_exit msock_cmd_completion(const msock_cli *cli, const msock_verb *verb, int argc,
                                char **argv);

#endif
