#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "io/loop.h"
#include "tsnode/cli.h"

/* Limits and timers. Defaults as stock clients have them; the daemon itself waits 5 s. */
#define COUNT_DEFAULT 10u
#define COUNT_MAX 1000000000u
#define TIMEOUT_US UINT64_C(5000000)
#define INTERVAL_US UINT64_C(1000000)
#define INTERVAL_MIN_US UINT64_C(10000)
#define SIZE_MAX_BYTES 1200u

typedef struct ping_flags {
  uint64_t count, timeout_us, interval_us, size;
  bool icmp, tsmp, until_direct, verbose;
} ping_flags;

/* One ping; *answer as the daemon gave it, NULL when the time was over. */
static msock_exit ping_once(const msock_cli *cli, const ping_flags *f, const char *ip,
                            json_object **answer) {
  char target[160];
  snprintf(target, sizeof target, "/localapi/v0/ping?ip=%s&type=%s&size=%" PRIu64, ip,
           f->tsmp   ? "TSMP"
           : f->icmp ? "ICMP"
                     : "disco",
           f->size);
  const msock_cli_call call = {
      .method = "POST", .target = target, .timeout_us = f->timeout_us, .quiet = true};
  msock_exit code = msock_cli_ask(cli, &call, answer);
  if (code == MSOCK_EXIT_TIMEOUT) {
    return MSOCK_EXIT_OK;
  }
  if (code != MSOCK_EXIT_OK) { /* once more, for the words */
    const msock_cli_call loud = {
        .method = "POST", .target = target, .timeout_us = f->timeout_us, .quiet = false};
    json_object_put(*answer);
    code = msock_cli_ask(cli, &loud, answer);
  }
  return code;
}

/* "pong from NAME (IP) via ADDR:PORT|peer-relay(ADDR)|DERP(code) in 12ms". */
static void print_pong(json_object *r, const char *ip, bool tsmp) {
  const char *direct = msock_cli_str(r, "Endpoint"), *relay = msock_cli_str(r, "PeerRelay");
  const char *code = msock_cli_str(r, "DERPRegionCode"), *node_ip = msock_cli_str(r, "NodeIP");
  const double seconds = json_object_get_double(msock_cli_get(r, "LatencySeconds"));
  printf("pong from %s (%s) via ", msock_cli_str(r, "NodeName"), *node_ip ? node_ip : ip);
  if (*direct) {
    printf("%s", direct);
  } else if (*relay) {
    printf("peer-relay(%s)", relay);
  } else if (msock_cli_u64(r, "DERPRegionID") != 0) {
    printf("DERP(%s)", code);
  } else {
    printf("%s", tsmp ? "TSMP" : "ICMP");
  }
  printf(" in %" PRIu64 "ms\n", (uint64_t)(seconds * 1000 + 0.5));
  fflush(stdout);
}

typedef struct tally {
  uint64_t sent, pongs;
  bool direct;
} tally;

/* Counts and prints one answer. False: more pings make no sense. */
static bool take_answer(const ping_flags *f, const char *ip, json_object *answer, tally *t) {
  const char *err = msock_cli_str(answer, "Err");
  t->sent++;
  if (answer == NULL || strncmp(err, "timed out", 9) == 0) {
    fprintf(stderr, "ping \"%s\" timed out\n", ip);
  } else if (*err) {
    fprintf(stderr, "ping \"%s\": %s\n", ip, err);
    return false;
  } else {
    print_pong(answer, ip, f->tsmp);
    t->pongs++;
    t->direct = t->direct || *msock_cli_str(answer, "Endpoint");
  }
  return true;
}

static msock_exit ping_all(const msock_cli *cli, const ping_flags *f, const char *ip) {
  tally t = {0};
  while (f->count == 0 || t.sent < f->count) {
    json_object *answer = NULL;
    const uint64_t begun_us = msock_loop_now_us();
    const msock_exit code = ping_once(cli, f, ip, &answer);
    if (code != MSOCK_EXIT_OK) {
      json_object_put(answer);
      return code;
    }
    const bool go_on = take_answer(f, ip, answer, &t);
    json_object_put(answer);
    if (!go_on) {
      return MSOCK_EXIT_UNREACHABLE;
    }
    if (f->until_direct && t.direct) {
      return MSOCK_EXIT_OK;
    }
    const uint64_t took_us = msock_loop_now_us() - begun_us;
    if ((f->count == 0 || t.sent < f->count) && took_us < f->interval_us) {
      msock_cli_sleep_us(f->interval_us - took_us);
    }
  }
  if (t.pongs == 0) {
    return msock_cli_fail(MSOCK_EXIT_UNREACHABLE, "no reply from %s", ip);
  }
  if (f->until_direct) {
    return msock_cli_fail(MSOCK_EXIT_NOT_DIRECT, "it answers, but not by a direct path");
  }
  return MSOCK_EXIT_OK;
}

msock_exit msock_cli_resolve(const msock_cli *cli, const char *peer, char ip[static 64]) {
  json_object *status = NULL;
  msock_ip addr;
  if (msock_ip_parse(peer, &addr) == MSOCK_OK) {
    snprintf(ip, 64, "%s", peer);
    return MSOCK_EXIT_OK;
  }
  msock_exit code = msock_cli_status(cli, true, false, &status);
  if (code != MSOCK_EXIT_OK) {
    return code;
  }
  json_object *node = msock_cli_find_node(status, peer);
  if (node == NULL && (code = msock_cli_judge(status, stderr)) != MSOCK_EXIT_OK) {
    json_object_put(status);
    return code;
  }
  if (node == NULL) {
    code = msock_cli_fail(MSOCK_EXIT_UNREACHABLE,
                          "there is no peer \"%.64s\" in the tailnet; see: tsnode status", peer);
  } else {
    snprintf(ip, 64, "%s", msock_cli_node_ip(node, 0));
  }
  json_object_put(status);
  return code;
}

msock_exit msock_cmd_ping(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  ping_flags f = {.count = COUNT_DEFAULT, .timeout_us = TIMEOUT_US, .interval_us = INTERVAL_US};
  const msock_flag flags[] = {
      {"c", MSOCK_FLAG_NUMBER, &f.count, NULL, "how many pings; 0: until interrupted (default 10)",
       COUNT_MAX},
      {"timeout", MSOCK_FLAG_DURATION, &f.timeout_us, NULL, "for each answer (default 5s, at most)",
       0},
      {"interval", MSOCK_FLAG_DURATION, &f.interval_us, NULL,
       "from ping to ping (default 1s, at least 10ms)", 0},
      {"size", MSOCK_FLAG_NUMBER, &f.size, NULL, "payload bytes, at most 1200", SIZE_MAX_BYTES},
      {"icmp", MSOCK_FLAG_BOOL, &f.icmp, NULL, "ICMP echo through the tunnel", 0},
      {"tsmp", MSOCK_FLAG_BOOL, &f.tsmp, NULL, "TSMP ping: answered by the peer's node itself", 0},
      {"until-direct", MSOCK_FLAG_BOOL, &f.until_direct, NULL,
       "stop at the first direct answer; exit code 8 when there is none", 0},
      {"verbose", MSOCK_FLAG_BOOL, &f.verbose, NULL, "say which address a name stands for", 0},
      {"peerapi", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
  };
  char ip[64];
  msock_words words;
  msock_exit code;
  if (!msock_cli_flags(verb, flags, sizeof flags / sizeof *flags, argc, argv, 1, &words, &code)) {
    return code;
  }
  if (words.n == 0 || (f.icmp && f.tsmp) || f.interval_us < INTERVAL_MIN_US || f.timeout_us == 0) {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "ping: %s (see tsnode ping --help)",
                          words.n == 0 ? "name a peer: an address, a host name or a MagicDNS name"
                          : f.icmp && f.tsmp  ? "--icmp and --tsmp exclude each other"
                          : f.timeout_us == 0 ? "--timeout must be more than 0"
                                              : "--interval must be at least 10ms");
  }
  code = msock_cli_resolve(cli, words.at[0], ip);
  if (code != MSOCK_EXIT_OK) {
    return code;
  }
  if (f.verbose && strcmp(ip, words.at[0]) != 0) {
    fprintf(stderr, "%s is %s\n", words.at[0], ip);
  }
  return ping_all(cli, &f, ip);
}
