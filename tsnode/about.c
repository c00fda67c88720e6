#include <stdio.h>
#include <string.h>

#include "io/http.h"
#include "io/tls.h"
#include "tsnode/cli.h"
#include "tsnode/qr.h"

/* What this build can do: names are stable. */
static const char *const features[] = {"derp",      "icmp-ping", "localapi", "qr",
                                       "tsmp-ping", "tun",       "userspace"};

static bool is_built(const char *feature) {
  return strcmp(feature, "qr") != 0 || msock_qr_is_built();
}

static void print_json(void) {
  json_object *doc = json_object_new_object(), *list = json_object_new_array();
  for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
    if (is_built(features[i])) {
      json_object_array_add(list, json_object_new_string(features[i]));
    }
  }
  json_object_object_add(doc, "majorMinorPatch", json_object_new_string(TSNODE_VERSION));
  json_object_object_add(doc, "short", json_object_new_string(TSNODE_VERSION));
  json_object_object_add(doc, "long", json_object_new_string(TSNODE_VERSION));
  json_object_object_add(doc, "tls", json_object_new_string(msock_tls_backend()));
  json_object_object_add(doc, "http", json_object_new_string(msock_http_provider()));
  json_object_object_add(doc, "features", list);
  puts(json_object_to_json_string_ext(doc,
                                      JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
  json_object_put(doc);
}

msock_exit msock_cmd_version(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  bool json = false, daemon = false;
  const msock_flag flags[] = {
      {"json", MSOCK_FLAG_BOOL, &json, NULL, "print as JSON", 0},
      {"daemon", MSOCK_FLAG_BOOL, &daemon, NULL, "ask the running daemon too", 0},
  };
  msock_words words;
  msock_exit code;
  if (!msock_cli_flags(verb, flags, 2, argc, argv, 0, &words, &code)) {
    return code;
  }
  if (json) {
    print_json();
    return MSOCK_EXIT_OK;
  }
  printf("%s\n  tls: %s\n  http: %s\n  features:", TSNODE_VERSION, msock_tls_backend(),
         msock_http_provider());
  for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
    if (is_built(features[i])) {
      printf(" %s", features[i]);
    }
  }
  putchar('\n');
  if (daemon) {
    json_object *status = NULL;
    code = msock_cli_status(cli, false, false, &status);
    if (code == MSOCK_EXIT_OK) {
      printf("  daemon: %s\n", msock_cli_str(status, "Version"));
    }
    json_object_put(status);
  }
  return code;
}

static void print_names(void) {
  for (size_t i = 0; i < msock_n_verbs; i++) {
    printf("%s%s", i ? " " : "", msock_verbs[i].name);
  }
}

/* Verbs, and peers' names for the verbs that take one. */
msock_exit msock_cmd_completion(const msock_cli *cli, const msock_verb *verb, int argc,
                                char **argv) {
  msock_words words;
  msock_exit code;
  (void)cli;
  if (!msock_cli_flags(verb, NULL, 0, argc, argv, 1, &words, &code)) {
    return code;
  }
  const char *shell = words.n > 0 ? words.at[0] : "";
  if (strcmp(shell, "bash") == 0) {
    fputs("_tsnode() {\n  local cur=${COMP_WORDS[COMP_CWORD]}\n  case ${COMP_WORDS[1]} in\n"
          "  ping | ip) [ \"$COMP_CWORD\" -gt 1 ] && COMPREPLY=($(compgen -W \"$(tsnode status "
          "--self=false 2>/dev/null | awk '{print $2}')\" -- \"$cur\")) && return ;;\n  esac\n"
          "  [ \"$COMP_CWORD\" -eq 1 ] && COMPREPLY=($(compgen -W \"",
          stdout);
    print_names();
    puts("\" -- \"$cur\"))\n}\ncomplete -F _tsnode tsnode");
  } else if (strcmp(shell, "zsh") == 0) {
    fputs("#compdef tsnode\n_arguments '1:verb:(", stdout);
    print_names();
    puts(")' '*:peer:($(tsnode status --self=false 2>/dev/null | awk \"{print \\$2}\"))'");
  } else if (strcmp(shell, "fish") == 0) {
    for (size_t i = 0; i < msock_n_verbs; i++) {
      printf("complete -c tsnode -f -n __fish_use_subcommand -a %s -d '%.60s'\n",
             msock_verbs[i].name, msock_verbs[i].name);
    }
    puts("complete -c tsnode -f -n '__fish_seen_subcommand_from ping ip' -a \"(tsnode status "
         "--self=false 2>/dev/null | awk '{print \\$2}')\"");
  } else {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "completion: name a shell: bash, zsh or fish");
  }
  return MSOCK_EXIT_OK;
}
