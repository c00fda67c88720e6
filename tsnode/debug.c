/* debug derp|netmap|capture, and bugreport. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/unix_client.h"
#include "node/capture.h"
#include "node/localapi.h"
#include "tsnode/cli.h"

#define SECONDS_DEFAULT 10u
#define ANSWER_US UINT64_C(10000000) /* beside the time of the capture */
#define SECOND_US UINT64_C(1000000)

typedef struct debug_flags {
  bool json;
  const char *out;
  uint64_t duration_us, bytes;
} debug_flags;

static void print_pretty(json_object *doc) {
  puts(json_object_to_json_string_ext(doc,
                                      JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void print_region(json_object *r) {
  const char *error = msock_cli_str(r, "LastError"), *health = msock_cli_str(r, "Health");
  printf("%-6" PRIu64 " %-8s %-8s %-8s %8.0fs %8" PRIu64 "  %s%s%s\n", msock_cli_u64(r, "RegionID"),
         msock_cli_str(r, "RegionCode"), msock_cli_str(r, "State"),
         msock_cli_bool(r, "Home") ? "home" : "-",
         json_object_get_double(msock_cli_get(r, "SecondsInState")),
         msock_cli_u64(r, "FailuresInARow"), error, *error && *health ? "; " : "", health);
}

static msock_exit debug_derp(const msock_cli *cli, const debug_flags *f) {
  const msock_cli_call call = {.method = "GET", .target = "/localapi/v0/debug-derp"};
  json_object *doc = NULL;
  const msock_exit code = msock_cli_ask(cli, &call, &doc);
  json_object *list = msock_cli_get(doc, "Regions");
  const size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
  if (code == MSOCK_EXIT_OK && f->json) {
    print_pretty(doc);
  } else if (code == MSOCK_EXIT_OK && n == 0) {
    puts("no relay was used yet");
  } else if (code == MSOCK_EXIT_OK) {
    printf("%-6s %-8s %-8s %-8s %9s %8s  %s\n", "REGION", "CODE", "STATE", "USE", "SINCE",
           "FAILURES", "LAST ERROR");
  }
  for (size_t i = 0; code == MSOCK_EXIT_OK && !f->json && i < n; i++) {
    print_region(json_object_array_get_idx(list, i));
  }
  json_object_put(doc);
  return code;
}

static msock_exit debug_netmap(const msock_cli *cli) {
  const msock_cli_call call = {.method = "GET", .target = "/localapi/v0/debug-netmap"};
  json_object *doc = NULL;
  const msock_exit code = msock_cli_ask(cli, &call, &doc);
  if (code == MSOCK_EXIT_OK) {
    print_pretty(doc);
  }
  json_object_put(doc);
  return code;
}

static msock_exit debug_endpoints(const msock_cli *cli) {
  const msock_cli_call call = {.method = "GET", .target = "/localapi/v0/debug-endpoints"};
  json_object *doc = NULL;
  const msock_exit code = msock_cli_ask(cli, &call, &doc);
  if (code == MSOCK_EXIT_OK) {
    print_pretty(doc);
  }
  json_object_put(doc);
  return code;
}

static msock_exit debug_rebind(const msock_cli *cli) {
  const msock_cli_call call = {.method = "POST", .target = "/localapi/v0/debug-rebind"};
  json_object *doc = NULL;
  const msock_exit code = msock_cli_ask(cli, &call, &doc);
  json_object_put(doc);
  return code;
}

/* A new file of our own only: nobody's file is written over, no link is followed. */
static int open_new(const char *path) {
  return open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static msock_exit write_out(const char *path, int fd, const char *p, size_t len) {
  while (len > 0) {
    const ssize_t n = write(fd, p, len);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return msock_cli_fail(MSOCK_EXIT_OTHER, "cannot write %s: %s", path, strerror(errno));
    }
    p += n;
    len -= (size_t)n;
  }
  return MSOCK_EXIT_OK;
}

static msock_exit debug_capture(const msock_cli *cli, const debug_flags *f) {
  char target[128];
  const uint64_t seconds = (f->duration_us + SECOND_US - 1) / SECOND_US;
  const bool to_stdout = f->out == NULL || strcmp(f->out, "-") == 0;
  char *body = NULL;
  size_t len = 0;
  if (to_stdout && isatty(STDOUT_FILENO)) {
    return msock_cli_fail(MSOCK_EXIT_USAGE,
                          "capture: a pcap file is not for a terminal: name a file with -o FILE");
  }
  if (seconds == 0 || seconds > MSOCK_LOCALAPI_CAPTURE_S_MAX) {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "capture: --duration takes 1s to %us",
                          MSOCK_LOCALAPI_CAPTURE_S_MAX);
  }
  const int fd = to_stdout ? STDOUT_FILENO : open_new(f->out);
  if (fd < 0) {
    return msock_cli_fail(MSOCK_EXIT_OTHER, "cannot make %s: %s", f->out, strerror(errno));
  }
  snprintf(target, sizeof target, "/localapi/v0/debug-capture?seconds=%" PRIu64 "&bytes=%" PRIu64,
           seconds, f->bytes);
  fprintf(stderr, "tsnode: capturing for %" PRIu64 " s...\n", seconds);
  const msock_cli_call call = {
      .method = "POST", .target = target, .timeout_us = seconds * SECOND_US + ANSWER_US};
  msock_exit code = msock_cli_ask_bytes(cli, &call, &body, &len);
  if (code == MSOCK_EXIT_OK) {
    code = write_out(to_stdout ? "the output" : f->out, fd, body, len);
  }
  if (!to_stdout) {
    close(fd);
    if (code != MSOCK_EXIT_OK) {
      unlink(f->out);
    } else {
      fprintf(stderr, "tsnode: wrote %s (%zu bytes): see it with tcpdump -r or wireshark\n", f->out,
              len);
    }
  }
  free(body);
  return code;
}

msock_exit msock_cmd_debug(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  debug_flags f = {.duration_us = SECONDS_DEFAULT * SECOND_US, .bytes = MSOCK_CAPTURE_BYTES_MAX};
  const msock_flag flags[] = {
      {"json", MSOCK_FLAG_BOOL, &f.json, NULL, "derp: print as JSON (netmap always is)", 0},
      {"o", MSOCK_FLAG_TEXT, &f.out, NULL, "capture: new file for the pcap; -: standard output", 0},
      {"duration", MSOCK_FLAG_DURATION, &f.duration_us, NULL,
       "capture: how long (default 10s, at most 10m)", 0},
      {"bytes", MSOCK_FLAG_NUMBER, &f.bytes, NULL,
       "capture: end at this size (default 4 MiB, at most)", MSOCK_CAPTURE_BYTES_MAX},
  };
  msock_words words;
  msock_exit code;
  if (!msock_cli_flags(verb, flags, sizeof flags / sizeof *flags, argc, argv, 1, &words, &code)) {
    return code;
  }
  const char *what = words.n > 0 ? words.at[0] : "";
  if (strcmp(what, "derp") == 0) {
    return debug_derp(cli, &f);
  }
  if (strcmp(what, "netmap") == 0) {
    return debug_netmap(cli);
  }
  if (strcmp(what, "endpoints") == 0) {
    return debug_endpoints(cli);
  }
  if (strcmp(what, "rebind") == 0) {
    return debug_rebind(cli);
  }
  if (strcmp(what, "capture") == 0) {
    return debug_capture(cli, &f);
  }
  return msock_cli_fail(MSOCK_EXIT_USAGE, "debug: say derp, netmap, endpoints, rebind or capture");
}

msock_exit msock_cmd_bugreport(const msock_cli *cli, const msock_verb *verb, int argc,
                               char **argv) {
  const char *out = NULL;
  const msock_flag flags[] = {
      {"o", MSOCK_FLAG_TEXT, &out, NULL,
       "new file (default tsnode-bugreport-TIME.txt here); -: print", 0},
  };
  char name[64];
  msock_words words;
  msock_exit code;
  char *text = NULL;
  size_t len = 0;
  if (!msock_cli_flags(verb, flags, 1, argc, argv, 0, &words, &code)) {
    return code;
  }
  const msock_cli_call call = {.method = "POST", .target = "/localapi/v0/bugreport"};
  code = msock_cli_ask_bytes(cli, &call, &text, &len);
  if (code != MSOCK_EXIT_OK) {
    return code;
  }
  const time_t now = time(NULL);
  struct tm tm;
  strftime(name, sizeof name, "tsnode-bugreport-%Y%m%d-%H%M%S.txt", gmtime_r(&now, &tm));
  out = out ? out : name;
  const bool to_stdout = strcmp(out, "-") == 0;
  const int fd = to_stdout ? STDOUT_FILENO : open_new(out);
  code = fd < 0 ? msock_cli_fail(MSOCK_EXIT_OTHER, "cannot make %s: %s", out, strerror(errno))
                : write_out(out, fd, text, len);
  if (fd >= 0 && !to_stdout) {
    close(fd);
    if (code == MSOCK_EXIT_OK) {
      printf("%s\n", out);
      fputs("tsnode: names, addresses and keys are replaced by short hashes; read it before you "
            "send it\n",
            stderr);
    }
  }
  free(text);
  return code;
}
