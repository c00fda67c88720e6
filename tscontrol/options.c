#include "tscontrol/options.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/derp_map_file.h"
#include "config/flags.h"
#include "control/tailnet.h"
#include "crypto/wipe.h"
#include "io/file.h"

#define DEFAULT_LISTEN "127.0.0.1:8080"
#define DEFAULT_DOMAIN "demo.example"
#define DERP_REGION 900u /* 900..999 are for self-hosters: derp.md 1.1 */
#define DEFAULT_STUN_PORT 3478u
#define DOMAIN_MAX 200u
#define KEY_MIN 8u /* ours: shorter ones are typing errors or guessable */

/* What the flags say, before it is checked. */
typedef struct raw_flags {
  const char *listen, *state, *auth_key, *policy, *derp_map, *derp, *derp_cert_name, *domain;
  const char *relay, *relay_cert, *relay_name, *level;
  uint64_t fake_peers;
  bool insecure, version;
} raw_flags;

#define FLAGS(f)                                                                                     \
  {                                                                                                  \
    {"listen",                                                                                       \
     MSOCK_FLAG_TEXT,                                                                                \
     &(f)->listen,                                                                                   \
     NULL,                                                                                           \
     "address and port to serve (default " DEFAULT_LISTEN ")",                                       \
     0},                                                                                             \
        {"auth-key",                                                                                 \
         MSOCK_FLAG_TEXT,                                                                            \
         &(f)->auth_key,                                                                             \
         NULL,                                                                                       \
         "keys that admit nodes, by comma or repeated; file:PATH has one a line",                    \
         0},                                                                                         \
        {"state",                                                                                    \
         MSOCK_FLAG_TEXT,                                                                            \
         &(f)->state,                                                                                \
         NULL,                                                                                       \
         "file that keeps key and nodes over restarts (default: in memory)",                         \
         0},                                                                                         \
        {"policy",                                                                                   \
         MSOCK_FLAG_TEXT,                                                                            \
         &(f)->policy,                                                                               \
         NULL,                                                                                       \
         "packet filter, PacketFilters JSON (default: allow all)",                                   \
         0},                                                                                         \
        {"relay",                                                                                    \
         MSOCK_FLAG_TEXT,                                                                            \
         &(f)->relay,                                                                                \
         NULL,                                                                                       \
         "address and port of our relay and STUN, or none (default: beside --listen)",               \
         0},                                                                                         \
        {"relay-cert",                                                                               \
         MSOCK_FLAG_TEXT,                                                                            \
         &(f)->relay_cert,                                                                           \
         NULL,                                                                                       \
         "PEM file of its certificate and key (default: one is made and pinned)",                    \
         0},                                                                                         \
        {"relay-name", MSOCK_FLAG_TEXT, &(f)->relay_name, NULL, "host name of that certificate", 0}, \
        {"derp-map",                                                                                 \
         MSOCK_FLAG_TEXT,                                                                            \
         &(f)->derp_map,                                                                             \
         NULL,                                                                                       \
         "other relays: Headscale's YAML or tailscale's JSON",                                       \
         0},                                                                                         \
        {"derp",                                                                                     \
         MSOCK_FLAG_TEXT,                                                                            \
         &(f)->derp,                                                                                 \
         NULL,                                                                                       \
         "one other relay, HOST:PORT[:STUNPORT] (STUN 3478; 0: none)",                               \
         0},                                                                                         \
        {"derp-cert-name",                                                                           \
         MSOCK_FLAG_TEXT,                                                                            \
         &(f)->derp_cert_name,                                                                       \
         NULL,                                                                                       \
         "name or sha256-raw: pin of its certificate (default: its host)",                           \
         0},                                                                                         \
        {"derp-insecure-for-tests",                                                                  \
         MSOCK_FLAG_BOOL,                                                                            \
         &(f)->insecure,                                                                             \
         NULL,                                                                                       \
         "nodes do not verify its certificate",                                                      \
         0},                                                                                         \
        {"domain",                                                                                   \
         MSOCK_FLAG_TEXT,                                                                            \
         &(f)->domain,                                                                               \
         NULL,                                                                                       \
         "base of node names (default " DEFAULT_DOMAIN ")",                                          \
         0},                                                                                         \
        {"fake-peers",                                                                               \
         MSOCK_FLAG_NUMBER,                                                                          \
         &(f)->fake_peers,                                                                           \
         NULL,                                                                                       \
         "peers that exist only in the netmap, for measurements",                                    \
         MSOCK_TAILNET_FAKES_MAX},                                                                   \
        {"log-level",                                                                                \
         MSOCK_FLAG_TEXT,                                                                            \
         &(f)->level,                                                                                \
         NULL,                                                                                       \
         "error, warn, info, debug or trace (default info)",                                         \
         0},                                                                                         \
        {"version", MSOCK_FLAG_BOOL, &(f)->version, NULL, "print the version", 0},                   \
  }

static msock_exit refuse(char *why, msock_exit code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static msock_exit refuse(char *why, msock_exit code, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(why, MSOCK_TSCONTROL_WHY_MAX, fmt, ap);
  va_end(ap);
  return code;
}

void msock_tscontrol_print_help(void) {
  raw_flags f = {0};
  const msock_flag flags[] = FLAGS(&f);
  fputs("usage: tscontrol [flags]\n\n"
        "A small control server for demos, tests and labs: tsnode and tailscaled can join it.\n"
        "It serves a DERP relay and STUN as well, unless told of others. Up to 64 nodes.\n\n",
        stdout);
  msock_flags_print(stdout, flags, sizeof flags / sizeof *flags);
}

static msock_exit read_file(const char *flag, const char *path, bool secret, char **out,
                            size_t *len, char *why) {
  char reason[MSOCK_FILE_WHY_MAX];
  return msock_file_read(path, MSOCK_TSCONTROL_FILE_MAX, secret, out, len, reason) == MSOCK_OK
             ? MSOCK_EXIT_OK
             : refuse(why, MSOCK_EXIT_CONFIG, "--%s: %s", flag, reason);
}

/* --- auth keys --- */

static msock_exit add_key(msock_tscontrol_options *o, char *key, char *why) {
  for (size_t i = 0; i < o->n_auth_keys; i++) {
    if (strcmp(o->auth_keys[i], key) == 0) {
      return MSOCK_EXIT_OK;
    }
  }
  if (strlen(key) < KEY_MIN) {
    return refuse(why, MSOCK_EXIT_USAGE, "--auth-key: a key needs at least %u characters", KEY_MIN);
  }
  if (o->n_auth_keys == MSOCK_TSCONTROL_KEYS_MAX) {
    return refuse(why, MSOCK_EXIT_USAGE, "--auth-key: at most %u keys", MSOCK_TSCONTROL_KEYS_MAX);
  }
  o->auth_keys[o->n_auth_keys++] = key;
  return MSOCK_EXIT_OK;
}

/* One value of --auth-key: keys by comma, or file:PATH with one a line. */
static msock_exit add_keys(msock_tscontrol_options *o, const char *value, char *why) {
  char *text = NULL, *rest = NULL;
  size_t len = 0;
  bool any = false;
  if (o->n_key_texts == MSOCK_TSCONTROL_KEYS_MAX) {
    return refuse(why, MSOCK_EXIT_USAGE, "--auth-key: given too often");
  }
  if (strncmp(value, "file:", 5) == 0) {
    const msock_exit code = read_file("auth-key", value + 5, false, &text, &len, why);
    if (code != MSOCK_EXIT_OK) {
      return code;
    }
  } else if ((text = strdup(value)) == NULL) {
    return refuse(why, MSOCK_EXIT_OTHER, "out of memory");
  }
  len = strlen(text);
  o->key_texts[o->n_key_texts++] = (msock_tscontrol_secret){text, len};
  for (char *key = strtok_r(text, ", \t\r\n", &rest); key;
       key = strtok_r(NULL, ", \t\r\n", &rest)) {
    const msock_exit code = add_key(o, key, why);
    if (code != MSOCK_EXIT_OK) {
      return code;
    }
    any = true;
  }
  return any ? MSOCK_EXIT_OK : refuse(why, MSOCK_EXIT_CONFIG, "--auth-key: there is no key in it");
}

/* The flag may be given several times, and the table keeps the last one only. */
static msock_exit collect_keys(int argc, char **argv, msock_tscontrol_options *o, char *why) {
  for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
    const char *word = argv[i] + (strncmp(argv[i], "--", 2) == 0 ? 2 : 1);
    const char *value = NULL;
    if (argv[i][0] != '-' || strncmp(word, "auth-key", 8) != 0) {
      continue;
    }
    if (word[8] == '=') {
      value = word + 9;
    } else if (word[8] == '\0' && i + 1 < argc) {
      value = argv[++i];
    }
    const msock_exit code = value ? add_keys(o, value, why) : MSOCK_EXIT_OK;
    if (code != MSOCK_EXIT_OK) {
      return code;
    }
  }
  return MSOCK_EXIT_OK;
}

/* --- relays --- */

static msock_exit read_derp_map(const char *path, msock_tscontrol_options *o, char *why) {
  char *text = NULL, problem[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  size_t len = 0;
  msock_config_report report = {0};
  msock_exit code = read_file("derp-map", path, false, &text, &len, why);
  if (code != MSOCK_EXIT_OK) {
    return code;
  }
  if (msock_derp_map_read(path, (const uint8_t *)text, len, &o->derp_map, &report) != MSOCK_OK) {
    code = refuse(why, MSOCK_EXIT_CONFIG, "--derp-map: %s",
                  report.n ? msock_config_problem_text(&report.problems[0], problem)
                           : "out of memory");
  }
  free(text);
  o->derp_from = path;
  return code;
}

static bool parse_port(const char *text, uint16_t *out) {
  char *end = NULL;
  const unsigned long v = strtoul(text, &end, 10);
  *out = (uint16_t)v;
  return *text >= '0' && *text <= '9' && *end == '\0' && v <= UINT16_MAX;
}

/* HOST:PORT[:STUNPORT], the host of an IPv6 address in brackets. */
static bool parse_derp(const char *text, msock_derp_node *n) {
  char copy[sizeof n->host_name + 16];
  char *host = copy, *rest = NULL;
  n->stun_port = DEFAULT_STUN_PORT;
  if (strlen(text) >= sizeof copy) {
    return false;
  }
  strcpy(copy, text);
  if (*copy == '[') {
    host = copy + 1;
    rest = strchr(host, ']');
    if (rest == NULL || rest[1] != ':') {
      return false;
    }
    *rest++ = '\0';
  } else {
    rest = strchr(host, ':');
  }
  if (rest == NULL || rest == host || strlen(host) >= sizeof n->host_name) {
    return false;
  }
  *rest++ = '\0';
  char *stun = strchr(rest, ':');
  if (stun != NULL) {
    *stun++ = '\0';
  }
  strcpy(n->host_name, host);
  return parse_port(rest, &n->derp_port) && n->derp_port > 0 &&
         (stun == NULL || parse_port(stun, &n->stun_port));
}

static msock_exit one_relay(const raw_flags *f, msock_tscontrol_options *o, char *why) {
  msock_derp_region *r = calloc(1, sizeof *r);
  msock_derp_node *n = calloc(1, sizeof *n);
  msock_ip ip;
  o->derp_map = (msock_derp_map){.regions = r, .n_regions = r != NULL};
  if (r == NULL || n == NULL) {
    free(n);
    return refuse(why, MSOCK_EXIT_OTHER, "out of memory");
  }
  *r = (msock_derp_region){.id = DERP_REGION, .code = "demo", .name = "Demo", .score = 1.0};
  r->nodes = n;
  r->n_nodes = 1;
  n->region_id = DERP_REGION;
  snprintf(n->name, sizeof n->name, "%ua", DERP_REGION);
  if (!parse_derp(f->derp, n)) {
    return refuse(why, MSOCK_EXIT_USAGE,
                  "--derp takes HOST:PORT or HOST:PORT:STUNPORT, an IPv6 address in brackets");
  }
  if (msock_ip_parse(n->host_name, &ip) == MSOCK_OK) {
    msock_derp_node_set_ipv4(n, ip.family == 4 ? n->host_name : "none");
    msock_derp_node_set_ipv6(n, ip.family == 6 ? n->host_name : "none");
  }
  n->insecure_for_tests = f->insecure;
  if (f->derp_cert_name != NULL) {
    if (strlen(f->derp_cert_name) >= sizeof n->cert_name) {
      return refuse(why, MSOCK_EXIT_USAGE, "--derp-cert-name is too long");
    }
    strcpy(n->cert_name, f->derp_cert_name);
  }
  o->derp_from = f->derp;
  return MSOCK_EXIT_OK;
}

static msock_exit own_relay(const raw_flags *f, msock_tscontrol_options *o, char *why) {
  size_t len = 0;
  o->relay = (msock_addr){.ip = o->listen.ip};
  if (f->relay != NULL && msock_addr_parse(f->relay, &o->relay) != MSOCK_OK) {
    return refuse(why, MSOCK_EXIT_USAGE, "--relay takes ADDRESS:PORT or none");
  }
  if (msock_ip_is_unspecified(&o->relay.ip)) {
    return refuse(why, MSOCK_EXIT_USAGE,
                  "%s; give --relay ADDRESS:PORT with an address that nodes can reach, or another "
                  "relay with --derp or --derp-map, or --relay=none",
                  f->relay ? "--relay: nodes cannot dial an unspecified address"
                           : "--listen has no address at which nodes could find our relay");
  }
  if (f->relay_cert != NULL) {
    const msock_exit code = read_file("relay-cert", f->relay_cert, true, &o->relay_pem, &len, why);
    if (code != MSOCK_EXIT_OK) {
      return code;
    }
  }
  if (f->relay_name != NULL && strlen(f->relay_name) >= sizeof o->relay_name) {
    return refuse(why, MSOCK_EXIT_USAGE, "--relay-name is too long");
  }
  snprintf(o->relay_name, sizeof o->relay_name, "%s", f->relay_name ? f->relay_name : "");
  return MSOCK_EXIT_OK;
}

static msock_exit choose_relay(const raw_flags *f, msock_tscontrol_options *o, char *why) {
  const bool none = f->relay != NULL && strcmp(f->relay, "none") == 0;
  if ((f->derp != NULL) + (f->derp_map != NULL) + (f->relay != NULL && !none) > 1) {
    return refuse(why, MSOCK_EXIT_USAGE, "--relay, --derp and --derp-map exclude each other");
  }
  if (f->derp == NULL && (f->insecure || f->derp_cert_name != NULL)) {
    return refuse(why, MSOCK_EXIT_USAGE, "--%s goes with --derp",
                  f->insecure ? "derp-insecure-for-tests" : "derp-cert-name");
  }
  o->relay_kind = f->derp != NULL || f->derp_map != NULL ? MSOCK_TSCONTROL_RELAY_MAP
                  : none                                 ? MSOCK_TSCONTROL_RELAY_NONE
                                                         : MSOCK_TSCONTROL_RELAY_OWN;
  if (o->relay_kind != MSOCK_TSCONTROL_RELAY_OWN &&
      (f->relay_cert != NULL || f->relay_name != NULL)) {
    return refuse(why, MSOCK_EXIT_USAGE, "--relay-cert and --relay-name go with our own relay");
  }
  return f->derp_map != NULL                          ? read_derp_map(f->derp_map, o, why)
         : f->derp != NULL                            ? one_relay(f, o, why)
         : o->relay_kind == MSOCK_TSCONTROL_RELAY_OWN ? own_relay(f, o, why)
                                                      : MSOCK_EXIT_OK;
}

/* --- the rest --- */

static bool is_domain(const char *text) {
  char last = '.';
  if (strlen(text) > DOMAIN_MAX) {
    return false;
  }
  for (; *text; last = *text++) {
    const bool word = (*text >= 'a' && *text <= 'z') || (*text >= '0' && *text <= '9');
    if (!word && !(*text == '-' && last != '.') && !(*text == '.' && last != '.' && last != '-')) {
      return false;
    }
  }
  return last != '.' && last != '-';
}

static msock_exit take_policy(const char *path, msock_tscontrol_options *o, char *why) {
  char *text = NULL, reason[MSOCK_TAILNET_WHY_MAX];
  size_t len = 0;
  msock_exit code = read_file("policy", path, false, &text, &len, why);
  if (code != MSOCK_EXIT_OK) {
    return code;
  }
  o->policy_file = path;
  o->policy = msock_tailnet_filters_text(text, len, reason);
  free(text);
  return o->policy ? MSOCK_EXIT_OK
                   : refuse(why, MSOCK_EXIT_CONFIG, "--policy %s: %s", path, reason);
}

static msock_exit take_level(const char *text, msock_log_level *out, char *why) {
  for (int l = MSOCK_LOG_ERROR; l <= MSOCK_LOG_TRACE; l++) {
    if (strcmp(text, msock_log_level_name((msock_log_level)l)) == 0) {
      *out = (msock_log_level)l;
      return MSOCK_EXIT_OK;
    }
  }
  return refuse(why, MSOCK_EXIT_USAGE, "--log-level takes error, warn, info, debug or trace");
}

static msock_exit check(const raw_flags *f, msock_tscontrol_options *o, char *why) {
  o->state = f->state;
  o->domain = f->domain ? f->domain : DEFAULT_DOMAIN;
  o->fake_peers = (uint32_t)f->fake_peers;
  o->level = MSOCK_LOG_INFO;
  if (msock_addr_parse(f->listen ? f->listen : DEFAULT_LISTEN, &o->listen) != MSOCK_OK) {
    return refuse(why, MSOCK_EXIT_USAGE, "--listen takes ADDRESS:PORT, such as " DEFAULT_LISTEN);
  }
  if (!is_domain(o->domain)) {
    return refuse(why, MSOCK_EXIT_USAGE, "--domain takes a DNS name in lower case");
  }
  msock_exit code = f->level ? take_level(f->level, &o->level, why) : MSOCK_EXIT_OK;
  if (code == MSOCK_EXIT_OK && f->policy != NULL) {
    code = take_policy(f->policy, o, why);
  }
  return code == MSOCK_EXIT_OK ? choose_relay(f, o, why) : code;
}

msock_exit msock_tscontrol_options_parse(int argc, char **argv, msock_tscontrol_options *out,
                                         char why[static MSOCK_TSCONTROL_WHY_MAX]) {
  raw_flags f = {0};
  const msock_flag flags[] = FLAGS(&f);
  char reason[MSOCK_FLAGS_WHY_MAX];
  msock_words words;
  *out = (msock_tscontrol_options){0};
  why[0] = '\0';
  msock_exit code = msock_flags_parse(flags, sizeof flags / sizeof *flags, argc, argv, &words,
                                      &out->help, reason);
  if (code != MSOCK_EXIT_OK) {
    return refuse(why, code, "%s", reason);
  }
  out->version = f.version;
  if (out->help || out->version) {
    return MSOCK_EXIT_OK;
  }
  if (words.n > 0) {
    return refuse(why, MSOCK_EXIT_USAGE, "unknown word \"%.40s\": there are only flags",
                  words.at[0]);
  }
  code = collect_keys(argc, argv, out, why);
  return code == MSOCK_EXIT_OK ? check(&f, out, why) : code;
}

void msock_tscontrol_options_clear(msock_tscontrol_options *o) {
  for (size_t i = 0; i < o->n_key_texts; i++) {
    msock_wipe(o->key_texts[i].text, o->key_texts[i].len);
    free(o->key_texts[i].text);
  }
  if (o->relay_pem != NULL) {
    msock_wipe(o->relay_pem, strlen(o->relay_pem));
  }
  free(o->relay_pem);
  free(o->policy);
  msock_derp_map_clear(&o->derp_map);
  *o = (msock_tscontrol_options){0};
}
