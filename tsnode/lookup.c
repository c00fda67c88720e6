#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "io/loop.h"
#include "tsnode/cli.h"

#define POLL_US UINT64_C(1000000) /* how often status is asked while waiting without news */

static void print_whois(json_object *doc) {
  json_object *node = msock_cli_get(doc, "Node"), *user = msock_cli_get(doc, "UserProfile");
  json_object *addrs = msock_cli_get(node, "Addresses"), *tags = msock_cli_get(node, "Tags");
  printf("Machine:\n  Name:          %s\n  ID:            %s\n  Addresses:     %s\n",
         msock_cli_str(node, "Name"), msock_cli_str(node, "StableID"),
         json_object_to_json_string_ext(addrs, JSON_C_TO_STRING_NOSLASHESCAPE));
  if (tags != NULL) {
    printf("  Tags:          %s\n", json_object_to_json_string_ext(tags, JSON_C_TO_STRING_PLAIN));
  } else if (user != NULL) {
    printf("User:\n  Name:     %s\n  ID:       %" PRIu64 "\n", msock_cli_str(user, "LoginName"),
           msock_cli_u64(user, "ID"));
  }
}

/* Characters of addresses and keys pass; all others as %XX. */
static void encode(const char *text, char *out, size_t cap) {
  size_t n = 0;
  for (; *text && n + 4 < cap; text++) {
    const unsigned char c = (unsigned char)*text;
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '.' || c == ':' || c == '-';
    n += (size_t)snprintf(out + n, cap - n, plain ? "%c" : "%%%02X", c);
  }
  out[n] = '\0';
}

msock_exit msock_cmd_whois(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  bool json = false;
  const msock_flag flags[] = {
      {"json", MSOCK_FLAG_BOOL, &json, NULL, "print the answer as JSON", 0},
      {"proto", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
  };
  char target[512], addr[448] = "";
  msock_words words;
  json_object *doc = NULL;
  msock_exit code;
  if (!msock_cli_flags(verb, flags, 2, argc, argv, 1, &words, &code)) {
    return code;
  }
  if (words.n == 0) {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "whois: name an address of the tailnet");
  }
  encode(words.at[0], addr, sizeof addr);
  snprintf(target, sizeof target, "/localapi/v0/whois?addr=%s", addr);
  const msock_cli_call call = {.method = "GET", .target = target};
  code = msock_cli_ask(cli, &call, &doc);
  if (code == MSOCK_EXIT_OK && json) {
    puts(json_object_to_json_string_ext(doc,
                                        JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
  } else if (code == MSOCK_EXIT_OK) {
    print_whois(doc);
  }
  json_object_put(doc);
  return code;
}

msock_exit msock_cmd_metrics(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  const msock_cli_call call = {.method = "GET", .target = "/localapi/v0/metrics"};
  char *text = NULL;
  size_t len = 0;
  msock_words words;
  msock_exit code;
  if (!msock_cli_flags(verb, NULL, 0, argc, argv, 0, &words, &code)) {
    return code;
  }
  code = msock_cli_ask_bytes(cli, &call, &text, &len);
  if (code == MSOCK_EXIT_OK && text != NULL) {
    fputs(text, stdout);
  }
  free(text);
  return code;
}

/* A daemon that is not up yet is waited for too: at boot the order is not known. */
msock_exit msock_cmd_wait(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  uint64_t timeout_us = 0;
  const msock_flag flags[] = {
      {"timeout", MSOCK_FLAG_DURATION, &timeout_us, NULL, "give up after this time; 0: never", 0},
  };
  msock_words words;
  msock_exit code;
  if (!msock_cli_flags(verb, flags, 1, argc, argv, 0, &words, &code)) {
    return code;
  }
  const uint64_t end_us = timeout_us ? msock_loop_now_us() + timeout_us : MSOCK_NEVER;
  for (;;) {
    json_object *status = NULL;
    code = msock_cli_status(cli, false, true, &status);
    const bool running =
        code == MSOCK_EXIT_OK && strcmp(msock_cli_str(status, "BackendState"), "Running") == 0;
    const uint64_t now_us = msock_loop_now_us();
    if (running || now_us >= end_us) {
      code = running ? MSOCK_EXIT_OK
                     : msock_cli_fail(MSOCK_EXIT_TIMEOUT, "not connected in time (%s)",
                                      status ? msock_cli_str(status, "BackendState")
                                             : "no daemon answers");
      json_object_put(status);
      return code;
    }
    msock_cli_await_news(cli, status, end_us - now_us < POLL_US ? end_us - now_us : POLL_US);
    json_object_put(status);
  }
}
