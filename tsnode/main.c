/* tsnode: one program for the daemon and the command line (cli.h lists the files). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tsnode/cli.h"

const msock_verb msock_verbs[] = {
    {"up", "Connects to the tailnet, with a login when needed; flags not given keep their values.",
     "[flags]", msock_cmd_up},
    {"down", "Disconnects from the tailnet; stays logged in.", "", msock_cmd_down},
    {"login", "Logs in, again if need be, with a key or in a browser.", "[flags]", msock_cmd_login},
    {"logout", "Disconnects and forgets the login; the machine key stays.", "", msock_cmd_logout},
    {"set", "Changes preferences; what is not given stays.", "flags", msock_cmd_set},
    {"status", "Shows the state of this node and its peers.", "[flags]", msock_cmd_status},
    {"ip", "Prints the tailnet addresses of this node or of a peer.", "[-4|-6] [-1] [PEER]",
     msock_cmd_ip},
    {"ping", "Pings a peer through the tunnel and says by which path it answered.", "[flags] PEER",
     msock_cmd_ping},
    {"netcheck", "Measures the network: UDP, NAT, relays; says what that means for direct paths.",
     "[flags]", msock_cmd_netcheck},
    {"whois", "Tells which node and user have an address of the tailnet.", "[--json] IP[:PORT]",
     msock_cmd_whois},
    {"wait", "Waits until the node is connected.", "[--timeout DURATION]", msock_cmd_wait},
    {"metrics", "Prints the daemon's metrics in Prometheus form.", "", msock_cmd_metrics},
    {"debug", "Looks inside: relay connections, the netmap, packets of the tunnel as pcap.",
     "[flags] derp|netmap|endpoints|rebind|capture", msock_cmd_debug},
    {"why", "Says why a peer is on the path that it is on, with one piece of advice.", "PEER",
     msock_cmd_why},
    {"bugreport", "Writes one anonymised file about this node, to send along with a report.",
     "[-o FILE]", msock_cmd_bugreport},
    {"version", "Prints version, features and libraries.", "[--json]", msock_cmd_version},
    {"completion", "Prints a completion script: tsnode completion bash|zsh|fish.", "SHELL",
     msock_cmd_completion},
    {"daemon", "Runs the node in the foreground.", "[flags]", msock_cmd_daemon},
};
const size_t msock_n_verbs = sizeof msock_verbs / sizeof *msock_verbs;

static void print_usage(FILE *out) {
  fputs("usage: tsnode [--socket PATH] VERB [flags]\n\nverbs:\n", out);
  for (size_t i = 0; i < msock_n_verbs; i++) {
    fprintf(out, "  %-12s %s\n", msock_verbs[i].name, msock_verbs[i].sentence);
  }
  fputs("\nMore about a verb: tsnode VERB --help. The daemon is started with: tsnode daemon\n",
        out);
}

/* Flags in front of the verb. Gives the index of the verb, 0 = stop with *code. */
static int global_flags(int argc, char **argv, msock_cli *cli, msock_exit *code) {
  int i = 1;
  for (; i < argc && argv[i][0] == '-'; i++) {
    const char *name = argv[i] + (argv[i][1] == '-' ? 2 : 1);
    if (strncmp(name, "socket=", 7) == 0) {
      cli->socket = name + 7;
    } else if (strcmp(name, "socket") == 0 && i + 1 < argc) {
      cli->socket = argv[++i];
    } else if (strcmp(name, "h") == 0 || strcmp(name, "help") == 0) {
      print_usage(stdout);
      return 0;
    } else if (strcmp(name, "V") == 0 || strcmp(name, "version") == 0) {
      printf("%s\n", TSNODE_VERSION);
      return 0;
    } else {
      *code = msock_cli_fail(MSOCK_EXIT_USAGE, "unknown flag %.40s before the verb", argv[i]);
      return 0;
    }
  }
  if (i == argc) {
    print_usage(stderr);
    *code = MSOCK_EXIT_USAGE;
    return 0;
  }
  return i;
}

int main(int argc, char **argv) {
  char socket[MSOCK_CLI_PATH_MAX];
  msock_cli cli = {.socket = NULL};
  msock_exit code = MSOCK_EXIT_OK;
  const int at = global_flags(argc, argv, &cli, &code);
  if (at == 0) {
    return (int)code;
  }
  const char *name = argv[at];
  if (strcmp(name, "help") == 0) {
    print_usage(stdout);
    return MSOCK_EXIT_OK;
  }
  for (size_t i = 0; i < msock_n_verbs; i++) {
    const msock_verb *v = &msock_verbs[i];
    if (strcmp(v->name, name) == 0) {
      if (cli.socket == NULL) {
        cli.socket = msock_cli_default_socket(v->run == msock_cmd_daemon, socket);
      }
      return (int)v->run(&cli, v, argc - at - 1, argv + at + 1);
    }
  }
  const char *near = msock_nearest(name, msock_verbs, msock_n_verbs, sizeof *msock_verbs);
  return (int)msock_cli_fail(MSOCK_EXIT_USAGE, "unknown verb \"%.40s\"%s%s%s (see tsnode --help)",
                             name, near ? "; did you mean " : "", near ? near : "",
                             near ? "?" : "");
}
