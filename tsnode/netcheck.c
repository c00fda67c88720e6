/* netcheck: the daemon's view of the network, in tailscale's lines and one sentence. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "io/loop.h"
#include "tsnode/cli.h"

#define CALL_US UINT64_C(15000000) /* the daemon gives up after 12 s */
#define EVERY_MIN_US MSOCK_SEC     /* faster would be a probe flood */
#define NS_PER_TENTH_MS 100000u

typedef struct netcheck_flags {
  const char *format;
  uint64_t every_us;
} netcheck_flags;

typedef struct region {
  json_object *doc;
  uint64_t id, latency_ns; /* 0 = none */
} region;

/* Measured regions by latency, then the others by id. */
static int by_latency(const void *a, const void *b) {
  const region *x = a, *y = b;
  if ((x->latency_ns == 0) != (y->latency_ns == 0)) {
    return x->latency_ns == 0 ? 1 : -1;
  }
  const uint64_t m = x->latency_ns ? x->latency_ns : x->id;
  const uint64_t n = x->latency_ns ? y->latency_ns : y->id;
  return m < n ? -1 : m > n;
}

/* The list of regions, sorted; caller frees. NULL: none, or no memory. */
static region *regions_of(json_object *report, size_t *n) {
  json_object *list = msock_cli_get(msock_cli_get(report, "TSNode"), "Regions");
  json_object *latencies = msock_cli_get(report, "RegionLatency");
  char id[24];
  *n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
  region *out = calloc(*n + 1, sizeof *out);
  for (size_t i = 0; out != NULL && i < *n; i++) {
    out[i].doc = json_object_array_get_idx(list, i);
    out[i].id = msock_cli_u64(out[i].doc, "RegionID");
    snprintf(id, sizeof id, "%" PRIu64, out[i].id);
    out[i].latency_ns = msock_cli_u64(latencies, id);
  }
  if (out != NULL) {
    qsort(out, *n, sizeof *out, by_latency);
  }
  return out;
}

/* "23.4ms" or "1.2s", as Go prints a duration rounded to a tenth of a millisecond. */
static void print_duration(char *buf, size_t cap, uint64_t ns) {
  const uint64_t tenths = (ns + NS_PER_TENTH_MS / 2) / NS_PER_TENTH_MS;
  if (ns == 0) {
    buf[0] = '\0';
  } else if (tenths >= 10000) {
    snprintf(buf, cap, "%.4gs", (double)tenths / 10000);
  } else if (tenths % 10 != 0) {
    snprintf(buf, cap, "%" PRIu64 ".%" PRIu64 "ms", tenths / 10, tenths % 10);
  } else {
    snprintf(buf, cap, "%" PRIu64 "ms", tenths / 10);
  }
}

static void print_nearest(const region *list, size_t n, uint64_t preferred) {
  for (size_t i = 0; i < n; i++) {
    if (list[i].id == preferred) {
      printf("\t* Nearest DERP: %s\n", msock_cli_str(list[i].doc, "RegionName"));
      return;
    }
  }
  printf("\t* Nearest DERP: [none]\n");
}

static msock_exit print_regions(json_object *report) {
  size_t n = 0;
  region *list = regions_of(report, &n);
  char text[32];
  if (list == NULL) {
    return msock_cli_fail(MSOCK_EXIT_OTHER, "out of memory");
  }
  if (n == 0 || list[0].latency_ns == 0) {
    printf("\t* Nearest DERP: unknown (no response to latency probes)\n");
    n = 0;
  } else {
    print_nearest(list, n, msock_cli_u64(report, "PreferredDERP"));
    printf("\t* DERP latency:\n");
  }
  for (size_t i = 0; i < n; i++) {
    print_duration(text, sizeof text, list[i].latency_ns);
    printf("\t\t- %3s: %-7s (%s)\n", msock_cli_str(list[i].doc, "RegionCode"), text,
           msock_cli_str(list[i].doc, "RegionName"));
  }
  free(list);
  return MSOCK_EXIT_OK;
}

static void print_port_mapping(json_object *report) {
  static const char *const names[][2] = {{"UPnP", "UPnP"}, {"PMP", "NAT-PMP"}, {"PCP", "PCP"}};
  bool checked = false;
  const char *between = " ";
  printf("\t* PortMapping:");
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    checked = checked || msock_cli_get(report, names[i][0]) != NULL;
    if (msock_cli_bool(report, names[i][0])) {
      printf("%s%s", between, names[i][1]);
      between = ", ";
    }
  }
  puts(checked ? "" : " not checked");
}

/* true, false, or nothing while it is not known. */
static const char *tristate(json_object *report, const char *name) {
  return msock_cli_get(report, name) == NULL ? "" : msock_cli_bool(report, name) ? "true" : "false";
}

static msock_exit print_text(json_object *report) {
  const char *v4 = msock_cli_str(report, "GlobalV4"), *v6 = msock_cli_str(report, "GlobalV6");
  printf("\nReport:\n\t* Time: %s\n\t* UDP: %s\n", msock_cli_str(report, "Now"),
         msock_cli_bool(report, "UDP") ? "true" : "false");
  printf("\t* IPv4: %s%s\n", *v4 ? "yes, " : "(no addr found)", v4);
  if (*v6) {
    printf("\t* IPv6: yes, %s\n", v6);
  } else {
    printf("\t* IPv6: %s\n", msock_cli_bool(report, "IPv6")        ? "(no addr found)"
                             : msock_cli_bool(report, "OSHasIPv6") ? "no, but OS has support"
                                                                   : "no, unavailable in OS");
  }
  printf("\t* MappingVariesByDestIP: %s\n", tristate(report, "MappingVariesByDestIP"));
  print_port_mapping(report);
  if (msock_cli_get(report, "CaptivePortal") != NULL) {
    printf("\t* CaptivePortal: %s\n", tristate(report, "CaptivePortal"));
  }
  const msock_exit code = print_regions(report);
  printf("\n%s\n", msock_cli_str(msock_cli_get(report, "TSNode"), "Sentence"));
  return code;
}

static msock_exit check_once(const msock_cli *cli, const netcheck_flags *f) {
  const msock_cli_call call = {
      .method = "GET", .target = "/localapi/v0/netcheck", .timeout_us = CALL_US};
  json_object *report = NULL;
  msock_exit code = msock_cli_ask(cli, &call, &report);
  if (code == MSOCK_EXIT_OK && f->format != NULL && *f->format != '\0') {
    const int how =
        strcmp(f->format, "json") == 0 ? JSON_C_TO_STRING_PRETTY : JSON_C_TO_STRING_PLAIN;
    puts(json_object_to_json_string_ext(report, how | JSON_C_TO_STRING_NOSLASHESCAPE));
  } else if (code == MSOCK_EXIT_OK) {
    code = print_text(report);
  }
  fflush(stdout);
  json_object_put(report);
  return code;
}

msock_exit msock_cmd_netcheck(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  netcheck_flags f = {0};
  bool repeat = false;
  const msock_flag flags[] = {
      {"format", MSOCK_FLAG_TEXT, &f.format, NULL,
       "json, or json-line: one line for each report (default: text)", 0},
      {"every", MSOCK_FLAG_DURATION, &f.every_us, &repeat,
       "again and again at this interval (at least 1s)", 0},
      {"bind-address", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"bind-port", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
  };
  msock_words words;
  msock_exit code;
  if (!msock_cli_flags(verb, flags, sizeof flags / sizeof *flags, argc, argv, 0, &words, &code)) {
    return code;
  }
  if (f.format != NULL && *f.format && strcmp(f.format, "json") != 0 &&
      strcmp(f.format, "json-line") != 0) {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "netcheck: --format takes json or json-line");
  }
  repeat = repeat && f.every_us != 0;
  if (repeat && f.every_us < EVERY_MIN_US) {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "netcheck: --every must be at least 1s");
  }
  do {
    const uint64_t begun_us = msock_loop_now_us();
    code = check_once(cli, &f);
    const uint64_t took_us = msock_loop_now_us() - begun_us;
    if (repeat && code == MSOCK_EXIT_OK && took_us < f.every_us) {
      msock_cli_sleep_us(f.every_us - took_us);
    }
  } while (repeat && code == MSOCK_EXIT_OK);
  return code;
}
