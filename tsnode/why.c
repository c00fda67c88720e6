/* why PEER: the decisions behind the current path, and one piece of advice. */
#include <stdio.h>
#include <stdlib.h>

#include "tsnode/cli.h"

msock_exit msock_cmd_why(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  char ip[64], target[128];
  char *text = NULL;
  size_t len = 0;
  msock_words words;
  msock_exit code;
  if (!msock_cli_flags(verb, NULL, 0, argc, argv, 1, &words, &code)) {
    return code;
  }
  if (words.n == 0) {
    return msock_cli_fail(MSOCK_EXIT_USAGE,
                          "why: name a peer: an address, a host name or a MagicDNS name");
  }
  code = msock_cli_resolve(cli, words.at[0], ip);
  if (code != MSOCK_EXIT_OK) {
    return code;
  }
  snprintf(target, sizeof target, "/localapi/v0/why?ip=%s", ip);
  const msock_cli_call call = {.method = "GET", .target = target};
  code = msock_cli_ask_bytes(cli, &call, &text, &len);
  if (code == MSOCK_EXIT_OK) {
    fwrite(text, 1, len, stdout);
  }
  free(text);
  return code;
}
