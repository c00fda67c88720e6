#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tsnode/cli.h"

static int by_name(const void *a, const void *b) {
  char x[MSOCK_CLI_NAME_MAX], y[MSOCK_CLI_NAME_MAX];
  return strcmp(msock_cli_node_name(*(json_object *const *)a, x),
                msock_cli_node_name(*(json_object *const *)b, y));
}

/* Its user's login up to the "@", as stock clients print it; tagged nodes have no person. */
static char *owner(json_object *status, json_object *node, char buf[static MSOCK_CLI_NAME_MAX]) {
  char id[24];
  json_object *tags = msock_cli_get(node, "Tags");
  if (json_object_is_type(tags, json_type_array) && json_object_array_length(tags) > 0) {
    snprintf(buf, MSOCK_CLI_NAME_MAX, "tagged-devices");
    return buf;
  }
  snprintf(id, sizeof id, "%" PRIu64, msock_cli_u64(node, "UserID"));
  const char *login = msock_cli_str(msock_cli_get(msock_cli_get(status, "User"), id), "LoginName");
  const size_t len = strcspn(login, "@");
  snprintf(buf, MSOCK_CLI_NAME_MAX, "%.*s%s", (int)len, login, login[len] ? "@" : "");
  return buf;
}

static void print_path(json_object *node) {
  const char *direct = msock_cli_str(node, "CurAddr");
  const char *peer_relay = msock_cli_str(node, "PeerRelay");
  const char *relay = msock_cli_str(node, "Relay");
  printf("active; ");
  if (msock_cli_bool(node, "ExitNode")) {
    printf("exit node; ");
  } else if (msock_cli_bool(node, "ExitNodeOption")) {
    printf("offers exit node; ");
  }
  if (*direct) {
    printf("direct %s", direct);
  } else if (*peer_relay) {
    printf("peer-relay %s", peer_relay);
  } else if (*relay) {
    printf("relay \"%s\"", relay);
  } else {
    printf("no relay known");
  }
}

static void print_node(json_object *status, json_object *node) {
  char name[MSOCK_CLI_NAME_MAX], user[MSOCK_CLI_NAME_MAX];
  const uint64_t tx = msock_cli_u64(node, "TxBytes"), rx = msock_cli_u64(node, "RxBytes");
  const bool online = msock_cli_bool(node, "Online");
  printf("%-15s %-20s %-12s %-7s ", msock_cli_node_ip(node, 0), msock_cli_node_name(node, name),
         owner(status, node, user), msock_cli_str(node, "OS"));
  if (msock_cli_bool(node, "Active")) {
    print_path(node);
    printf("%s", online ? "" : "; offline");
  } else if (msock_cli_bool(node, "ExitNode")) {
    printf("idle; exit node%s", online ? "" : "; offline");
  } else if (msock_cli_bool(node, "ExitNodeOption")) {
    printf("idle; offers exit node%s", online ? "" : "; offline");
  } else if (tx + rx > 0) {
    printf("idle%s", online ? "" : "; offline");
  } else {
    printf("%s", online ? "-" : "offline");
  }
  if (tx + rx > 0) {
    printf(", tx %" PRIu64 " rx %" PRIu64, tx, rx);
  }
  putchar('\n');
}

static msock_exit print_peers(json_object *status, bool active_only) {
  json_object *peers = msock_cli_get(status, "Peer");
  const int count =
      json_object_is_type(peers, json_type_object) ? json_object_object_length(peers) : 0;
  json_object **list = calloc((size_t)count + 1, sizeof *list);
  size_t n = 0;
  if (list == NULL) {
    return msock_cli_fail(MSOCK_EXIT_OTHER, "out of memory");
  }
  if (count > 0) {
    json_object_object_foreach(peers, key, peer) {
      (void)key;
      list[n++] = peer;
    }
  }
  qsort(list, n, sizeof *list, by_name);
  for (size_t i = 0; i < n; i++) {
    if (!active_only || msock_cli_bool(list[i], "Active")) {
      print_node(status, list[i]);
    }
  }
  free(list);
  return MSOCK_EXIT_OK;
}

static void print_health(json_object *status) {
  json_object *health = msock_cli_get(status, "Health");
  const size_t n =
      json_object_is_type(health, json_type_array) ? json_object_array_length(health) : 0;
  if (n > 0) {
    puts("\n# Health check:");
  }
  for (size_t i = 0; i < n; i++) {
    printf("#     - %s\n", json_object_get_string(json_object_array_get_idx(health, i)));
  }
}

msock_exit msock_cli_judge(json_object *status, FILE *text) {
  const char *state = msock_cli_str(status, "BackendState");
  const char *url = msock_cli_str(status, "AuthURL");
  const char *error = msock_cli_str(msock_cli_get(status, "TSNode"), "LastError");
  if (strcmp(state, "Running") == 0) {
    return MSOCK_EXIT_OK;
  }
  if (strcmp(state, "Stopped") == 0) {
    if (text) {
      fputs("The node is stopped. Connect with: tsnode up\n", text);
    }
    return MSOCK_EXIT_STOPPED;
  }
  if (strcmp(state, "NeedsLogin") == 0) {
    if (text && *url) {
      fprintf(text, "Logged out.\nLog in at: %s\n", url);
    } else if (text) {
      fprintf(text, "Logged out%s%s. Log in with: tsnode up\n", *error ? ": " : "", error);
    }
    return MSOCK_EXIT_NEEDS_LOGIN;
  }
  if (strcmp(state, "NeedsMachineAuth") == 0) {
    if (text) {
      fputs("An admin of the control server has to approve this node.\n", text);
    }
    return MSOCK_EXIT_NEEDS_LOGIN;
  }
  if (text) {
    fprintf(text, "Not connected yet (%s)%s%s\n", state, *error ? ": " : "", error);
  }
  return MSOCK_EXIT_OTHER;
}

typedef struct status_flags {
  bool json, active, peers, self, header;
  const char *check;
} status_flags;

static msock_exit print_status(json_object *status, const status_flags *f) {
  if (f->json) {
    puts(json_object_to_json_string_ext(status,
                                        JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
    return MSOCK_EXIT_OK;
  }
  const msock_exit code = msock_cli_judge(status, stdout);
  if (code != MSOCK_EXIT_OK) {
    print_health(status);
    return code;
  }
  if (f->header) {
    printf("%-15s %-20s %-12s %-7s %s\n", "IP", "HOSTNAME", "OWNER", "OS", "STATUS");
  }
  json_object *self = msock_cli_get(status, "Self");
  if (f->self && self != NULL) {
    print_node(status, self);
  }
  const msock_exit printed = f->peers ? print_peers(status, f->active) : MSOCK_EXIT_OK;
  print_health(status);
  return printed;
}

msock_exit msock_cmd_status(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  status_flags f = {.peers = true, .self = true};
  const msock_flag flags[] = {
      {"json", MSOCK_FLAG_BOOL, &f.json, NULL, "print the whole status document", 0},
      {"active", MSOCK_FLAG_BOOL, &f.active, NULL, "only peers with traffic", 0},
      {"peers", MSOCK_FLAG_BOOL, &f.peers, NULL, "show peers (default true)", 0},
      {"self", MSOCK_FLAG_BOOL, &f.self, NULL, "show this node (default true)", 0},
      {"header", MSOCK_FLAG_BOOL, &f.header, NULL, "show column names", 0},
      {"check", MSOCK_FLAG_TEXT, &f.check, NULL,
       "print nothing, tell by exit code: live (daemon answers), ready (connected)", 0},
      {"web", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
  };
  msock_words words;
  json_object *status = NULL;
  msock_exit code;
  if (!msock_cli_flags(verb, flags, sizeof flags / sizeof *flags, argc, argv, 0, &words, &code)) {
    return code;
  }
  if (f.check != NULL && strcmp(f.check, "live") != 0 && strcmp(f.check, "ready") != 0) {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "status: --check takes live or ready");
  }
  code = msock_cli_status(cli, f.peers && f.check == NULL, false, &status);
  if (code == MSOCK_EXIT_OK && f.check == NULL) {
    code = print_status(status, &f);
  } else if (code == MSOCK_EXIT_OK && strcmp(f.check, "ready") == 0) {
    code = msock_cli_judge(status, NULL);
  }
  json_object_put(status);
  return code;
}

msock_exit msock_cmd_ip(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  bool v4 = false, v6 = false, first = false;
  const msock_flag flags[] = {
      {"4", MSOCK_FLAG_BOOL, &v4, NULL, "only the IPv4 address", 0},
      {"6", MSOCK_FLAG_BOOL, &v6, NULL, "only the IPv6 address", 0},
      {"1", MSOCK_FLAG_BOOL, &first, NULL, "only one address", 0},
  };
  msock_words words;
  json_object *status = NULL;
  msock_exit code;
  if (!msock_cli_flags(verb, flags, 3, argc, argv, 1, &words, &code)) {
    return code;
  }
  if (v4 + v6 + first > 1) {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "ip: -4, -6 and -1 exclude each other");
  }
  code = msock_cli_status(cli, words.n > 0, false, &status);
  if (code != MSOCK_EXIT_OK) {
    return code;
  }
  code = words.n == 0 ? msock_cli_judge(status, NULL) : MSOCK_EXIT_OK;
  json_object *node =
      words.n > 0 ? msock_cli_find_node(status, words.at[0]) : msock_cli_get(status, "Self");
  const char *ip4 = v6 ? "" : msock_cli_node_ip(node, 4);
  const char *ip6 = v4 || (first && *ip4) ? "" : msock_cli_node_ip(node, 6);
  if (*ip4) {
    puts(ip4);
  }
  if (*ip6) {
    puts(ip6);
  }
  if (*ip4 == '\0' && *ip6 == '\0') {
    code = words.n > 0 && node == NULL
               ? msock_cli_fail(MSOCK_EXIT_UNREACHABLE, "there is no peer \"%.64s\"", words.at[0])
               : msock_cli_fail(code == MSOCK_EXIT_OK ? MSOCK_EXIT_OTHER : code,
                                "no such address; see: tsnode status");
  } else {
    code = MSOCK_EXIT_OK;
  }
  json_object_put(status);
  return code;
}
