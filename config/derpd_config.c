#include "config/derpd_config.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/hex.h"
#include "base/key.h"

/* Limits, with their sources. */
#define NAME_MAX_BYTES 253u    /* a whole DNS name: RFC 1035 2.3.4 */
#define URL_MAX_BYTES 1000u    /* io/http.h: target of 1024 */
#define CONNECTIONS_MAX 131072 /* slots of the core: derp/server_settings.h */
#define RATE_MAX 1000000       /* accepts per second; ours */
#define FRAME_BYTES_MAX 65568  /* key and largest packet: derp.md 4.4 */
#define DURATION_MAX_US (INT64_C(31) * 86400 * 1000000)
#define BYTES_MAX (INT64_C(1) << 60)
#define KEYS_MAX 1024 /* in the configuration; more go into a file */
#define MESH_KEY_LEN 32u
#define MESH_MAX 16 /* relays of one region; ours */

/* -- rules of single values -------------------------------------------------------------------- */

static bool say(char why[static MSOCK_CONFIG_WHY_MAX], const char *expected) {
  (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "expected %s", expected);
  return false;
}

static bool is_port(const char *text, uint16_t *port) {
  unsigned n = 0;
  if (*text == '\0' || strlen(text) > 5) {
    return false;
  }
  for (; *text; text++) {
    if (!isdigit((unsigned char)*text)) {
      return false;
    }
    n = n * 10 + (unsigned)(*text - '0');
  }
  *port = (uint16_t)n;
  return n <= UINT16_MAX;
}

msock_err msock_derpd_parse_listen(const char *text, msock_addr *out) {
  if (text[0] == ':') {
    *out = (msock_addr){0};
    return is_port(text + 1, &out->port) ? MSOCK_OK : MSOCK_ERR_INVALID;
  }
  return msock_addr_parse(text, out);
}

bool msock_derpd_is_none(const msock_config_strings *list) {
  return list->n == 0 || (list->n == 1 && strcmp(list->v[0], "none") == 0);
}

static bool check_listen(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  msock_addr a;
  return strcmp(text, "none") == 0 || msock_derpd_parse_listen(text, &a) == MSOCK_OK ||
         say(why, "ADDRESS:PORT, [IPV6]:PORT, :PORT for every address, or none");
}

static bool check_host(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  msock_ip ip;
  bool ok = strlen(text) <= NAME_MAX_BYTES && text[0] != '.' && text[0] != '-';
  for (const char *p = text; *p; p++) {
    ok = ok && (isalnum((unsigned char)*p) || *p == '-' || *p == '.');
  }
  return ok || msock_ip_parse(text, &ip) == MSOCK_OK ||
         say(why, "a DNS name, or an address without a port");
}

static bool check_absolute(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  return text[0] == '/' || say(why, "a path that begins with /");
}

static bool check_url(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  const bool scheme = strncmp(text, "https://", 8) == 0 || strncmp(text, "http://", 7) == 0;
  bool ok = scheme && strlen(text) <= URL_MAX_BYTES;
  for (const char *p = text; *p; p++) {
    ok = ok && *p > ' ' && *p < 0x7f;
  }
  return ok || say(why, "http:// or https:// and an address");
}

static bool check_home(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  return strcmp(text, "blank") == 0 || check_url(text, why) || say(why, "blank, or a URL");
}

static bool check_node_key(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  msock_node_key key;
  return msock_node_key_parse(text, &key) == MSOCK_OK ||
         say(why, "nodekey: and 64 lower-case hex digits");
}

/* derp.md 2.2: exactly 64 hex digits. */
static bool check_mesh_key(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  char lower[2 * MESH_KEY_LEN + 1];
  uint8_t key[MESH_KEY_LEN];
  const size_t n = strlen(text);
  for (size_t i = 0; i <= n && n < sizeof lower; i++) {
    lower[i] = (char)tolower((unsigned char)text[i]);
  }
  return (n == sizeof lower - 1 && msock_hex_decode(lower, key, sizeof key)) ||
         say(why, "64 hex digits (make one with: openssl rand -hex 32)");
}

/* Its parts are read by derpd/mesh.c. */
static bool check_mesh_target(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  bool ok = strlen(text) < URL_MAX_BYTES / 4 && text[0] != '/' && text[0] != '#';
  for (const char *p = text; *p; p++) {
    ok = ok && (isalnum((unsigned char)*p) || strchr("-.:[]/#", *p) != NULL);
  }
  return ok || say(why, "HOST[:PORT], perhaps with /DIALHOST and #sha256-raw:PIN");
}

static bool check_token(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  bool ok = strlen(text) >= 16;
  for (const char *p = text; *p; p++) {
    ok = ok && *p > ' ' && *p < 0x7f;
  }
  return ok || say(why, "at least 16 printable characters without blanks (make one with: openssl "
                        "rand -hex 16)");
}

/* -- the table --------------------------------------------------------------------------------- */

static const char *const log_levels[] = {"error", "warn", "info", "debug", "trace", NULL};
static const char *const log_formats[] = {"human", "json", NULL};
static const msock_config_rename log_level_words[] = {{"warning", "warn"}, {NULL, NULL}};

#define AT(member) offsetof(msock_derpd_config, member)

static const msock_config_row rows[] = {
    {.key = "hostname",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(hostname),
     .example = "derp.example.com",
     .check = check_host,
     .sentence = "Name or address by which clients reach this relay: what a certificate that is "
                 "made here is valid for, and what derpd map prints."},
    {.key = "statedir",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(statedir),
     .default_text = "/var/lib/derpd",
     .check = check_absolute,
     .sentence = "Directory of the identity key, of a certificate that is made here and of the "
                 "quota counters; kept at mode 0700."},
    {.key = "key_file",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(key_file),
     .example = "/var/lib/derper/derper.key",
     .check = check_absolute,
     .sentence = "Identity key in derper's form, made when absent; empty is derpd.key in "
                 "statedir."},
    {.key = "listen",
     .type = MSOCK_CONFIG_STRINGS,
     .offset = AT(listen),
     .default_text = ":443",
     .max = MSOCK_DERPD_LISTEN_MAX,
     .check = check_listen,
     .example = "192.0.2.1:443",
     .sentence = "Where clients connect; :PORT is every IPv4 and IPv6 address."},
    {.key = "tls",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(tls),
     .default_text = "true",
     .sentence = "Speak TLS on listen; false is plain HTTP, for a reverse proxy in front."},
    {.key = "cert",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(cert),
     .example = "/etc/derpd/fullchain.pem",
     .reloadable = true,
     .sentence = "PEM file of the certificate chain, leaf first; empty makes a certificate for "
                 "hostname, which clients know by its pin (derpd map)."},
    {.key = "cert_key",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(cert_key),
     .example = "/etc/derpd/privkey.pem",
     .reloadable = true,
     .sentence = "PEM file of the certificate's private key; empty looks for it in cert."},
    {.key = "trusted_proxies",
     .type = MSOCK_CONFIG_PREFIXES,
     .offset = AT(trusted_proxies),
     .default_text = "127.0.0.0/8, ::1/128",
     .reloadable = true,
     .sentence = "With tls off: proxies whose X-Forwarded-For tells a client's address."},
    {.key = "http_listen",
     .type = MSOCK_CONFIG_STRINGS,
     .offset = AT(http_listen),
     .default_text = "none",
     .max = MSOCK_DERPD_LISTEN_MAX,
     .check = check_listen,
     .example = ":80",
     .sentence = "Plain HTTP listener for captive portal checks; everything else is redirected to "
                 "https."},
    {.key = "stun_listen",
     .type = MSOCK_CONFIG_STRINGS,
     .offset = AT(stun_listen),
     .default_text = ":3478",
     .max = MSOCK_DERPD_LISTEN_MAX,
     .check = check_listen,
     .sentence = "UDP addresses of the STUN server, or none."},
    {.key = "stun_public",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(stun_public),
     .default_text = "false",
     .reloadable = true,
     .sentence = "Answer any STUN client, not only tailnet nodes."},
    {.key = "admin_listen",
     .type = MSOCK_CONFIG_STRINGS,
     .offset = AT(admin_listen),
     .default_text = "127.0.0.1:3341",
     .max = MSOCK_DERPD_LISTEN_MAX,
     .check = check_listen,
     .sentence = "Plain HTTP listener of the status page, /metrics, /healthz and /readyz, or none; "
                 "whoever reaches it sees who is connected."},
    {.key = "derp",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(derp),
     .default_text = "true",
     .sentence = "Relay packets; false keeps STUN and the other HTTP endpoints only."},
    {.key = "home",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(home),
     .example = "https://example.com/",
     .check = check_home,
     .reloadable = true,
     .sentence = "What / shows: empty is a short page, blank an empty one, a URL a redirect."},
    {.key = "drain_time",
     .type = MSOCK_CONFIG_DURATION,
     .offset = AT(drain_time),
     .default_text = "3s",
     .max = INT64_C(600) * 1000000,
     .reloadable = true,
     .sentence = "After SIGTERM: how long connections stay open once clients were told of the "
                 "restart."},
    {.key = "drain_spread",
     .type = MSOCK_CONFIG_DURATION,
     .offset = AT(drain_spread),
     .default_text = "2s",
     .max = INT64_C(600) * 1000000,
     .reloadable = true,
     .sentence = "After SIGTERM: clients are asked to come back at a random time within this "
                 "span, so that they do not all come at once."},
    {.key = "rate_config",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(rate_config),
     .example = "/etc/derper/rate.json",
     .reloadable = true,
     .sentence = "derper's file of per-client rate limits (JSON); sets limits.key_rate and "
                 "limits.key_burst."},
    {.key = "log_level",
     .type = MSOCK_CONFIG_ENUM,
     .offset = AT(log_level),
     .default_text = "info",
     .choices = log_levels,
     .renames = log_level_words,
     .reloadable = true,
     .sentence = "Least important events that are logged."},
    {.key = "log_format",
     .type = MSOCK_CONFIG_ENUM,
     .offset = AT(log_format),
     .default_text = "human",
     .choices = log_formats,
     .sentence = "Form of log lines."},

    {.key = "admission.keys",
     .type = MSOCK_CONFIG_STRINGS,
     .offset = AT(admission.keys),
     .max = KEYS_MAX,
     .check = check_node_key,
     .example = "nodekey:0000000000000000000000000000000000000000000000000000000000000001",
     .reloadable = true,
     .sentence = "Node keys that are admitted; with a list (here or in keys_file) all others are "
                 "refused."},
    {.key = "admission.keys_file",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(admission.keys_file),
     .example = "/etc/derpd/keys",
     .reloadable = true,
     .sentence = "File with one node key a line (blank lines and # comments are fine), read again "
                 "at SIGHUP."},
    {.key = "admission.url",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(admission.url),
     .check = check_url,
     .example = "https://headscale.example.com/verify",
     .reloadable = true,
     .sentence = "Ask this URL about each client that logs in: Headscale's /verify, or anything "
                 "that speaks derper's JSON."},
    {.key = "admission.fail_open",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(admission.fail_open),
     .default_text = "false",
     .reloadable = true,
     .sentence = "Admit clients while the URL cannot be reached (derper's default; here it is "
                 "off)."},
    {.key = "admission.timeout",
     .type = MSOCK_CONFIG_DURATION,
     .offset = AT(admission.timeout),
     .default_text = "5s",
     .min = 100000,
     .max = 60000000,
     .reloadable = true,
     .sentence = "How long the URL may take to answer."},
    {.key = "admission.cache",
     .type = MSOCK_CONFIG_DURATION,
     .offset = AT(admission.cache),
     .default_text = "30s",
     .max = INT64_C(86400) * 1000000,
     .reloadable = true,
     .sentence = "How long an answer of the URL holds for further connections of that key."},
    {.key = "admission.last_good",
     .type = MSOCK_CONFIG_DURATION,
     .offset = AT(admission.last_good),
     .default_text = "1h",
     .max = DURATION_MAX_US,
     .reloadable = true,
     .sentence = "While the URL does not answer, a key that it admitted within this time is "
                 "admitted again; 0 never."},
    {.key = "admission.recheck",
     .type = MSOCK_CONFIG_DURATION,
     .offset = AT(admission.recheck),
     .default_text = "0",
     .max = DURATION_MAX_US,
     .example = "15m",
     .reloadable = true,
     .sentence = "Time until a connected client is looked at again, so that a node that was "
                 "removed is cut off; 0 asks once per connection, as derper does."},
    {.key = "admission.token",
     .type = MSOCK_CONFIG_SECRET,
     .offset = AT(admission.token),
     .secret_file_key = "admission.token_file",
     .check = check_token,
     .sentence = "Shared token that clients must show (Authorization: Bearer TOKEN); stock clients "
                 "cannot. file:PATH reads it from a file."},
    {.key = "admission.token_file",
     .type = MSOCK_CONFIG_SECRET_FILE,
     .offset = AT(admission.token_file),
     .example = "/run/secrets/derpd-token",
     .sentence = "File whose first line is the token."},

    {.key = "mesh.key",
     .type = MSOCK_CONFIG_SECRET,
     .offset = AT(mesh.key),
     .secret_file_key = "mesh.key_file",
     .check = check_mesh_key,
     .sentence = "Key of 64 hex digits with which other relays and monitors of this region may "
                 "watch and forward; file:PATH reads it from a file."},
    {.key = "mesh.key_file",
     .type = MSOCK_CONFIG_SECRET_FILE,
     .offset = AT(mesh.key_file),
     .example = "/etc/derpd/mesh.key",
     .sentence = "File whose first line is the mesh key."},
    {.key = "mesh.with",
     .type = MSOCK_CONFIG_STRINGS,
     .offset = AT(mesh.with),
     .max = MESH_MAX,
     .check = check_mesh_target,
     .example = "derp2.example.com",
     .sentence = "Other relays of the same region, HOST[:PORT][/DIALHOST][#sha256-raw:PIN]: their "
                 "clients and ours reach each other. Each relay names all others."},

    {.key = "limits.connections",
     .type = MSOCK_CONFIG_INT,
     .offset = AT(limits.connections),
     .default_text = "0",
     .max = CONNECTIONS_MAX,
     .example = "10000",
     .reloadable = true,
     .sentence = "Clients that may be logged in at a time; 0 is no limit."},
    {.key = "limits.connections_per_key",
     .type = MSOCK_CONFIG_INT,
     .offset = AT(limits.connections_per_key),
     .default_text = "5",
     .max = CONNECTIONS_MAX,
     .reloadable = true,
     .sentence = "Connections of one node key at a time; 0 is no limit."},
    {.key = "limits.connections_per_address",
     .type = MSOCK_CONFIG_INT,
     .offset = AT(limits.connections_per_address),
     .default_text = "0",
     .max = CONNECTIONS_MAX,
     .example = "64",
     .reloadable = true,
     .sentence = "Connections from one IPv4 address or IPv6 /64 at a time; 0 is no limit."},
    {.key = "limits.handshakes",
     .type = MSOCK_CONFIG_INT,
     .offset = AT(limits.handshakes),
     .default_text = "1024",
     .min = 1,
     .max = CONNECTIONS_MAX,
     .reloadable = true,
     .sentence =
         "Connections that have not logged in yet; a new one displaces the oldest of them."},
    {.key = "limits.accept_rate",
     .type = MSOCK_CONFIG_INT,
     .offset = AT(limits.accept_rate),
     .default_text = "0",
     .max = RATE_MAX,
     .example = "100",
     .reloadable = true,
     .sentence = "New connections per second; the excess is closed at once. 0 is no limit."},
    {.key = "limits.accept_burst",
     .type = MSOCK_CONFIG_INT,
     .offset = AT(limits.accept_burst),
     .default_text = "0",
     .max = RATE_MAX,
     .example = "200",
     .reloadable = true,
     .sentence = "New connections above the rate that are let through after a quiet time; 0 is one "
                 "second's worth."},
    {.key = "limits.address_accept_rate",
     .type = MSOCK_CONFIG_INT,
     .offset = AT(limits.address_accept_rate),
     .default_text = "0",
     .max = RATE_MAX,
     .example = "10",
     .reloadable = true,
     .sentence = "New connections per second from one IPv4 address or IPv6 /64; 0 is no limit."},
    {.key = "limits.address_accept_burst",
     .type = MSOCK_CONFIG_INT,
     .offset = AT(limits.address_accept_burst),
     .default_text = "0",
     .max = RATE_MAX,
     .example = "20",
     .reloadable = true,
     .sentence = "The burst for it; 0 is one second's worth."},
    {.key = "limits.key_rate",
     .type = MSOCK_CONFIG_SIZE,
     .offset = AT(limits.key_rate),
     .default_text = "0",
     .max = BYTES_MAX,
     .example = "1MB",
     .reloadable = true,
     .sentence = "Bytes per second that one key may send; a faster client is read more slowly, "
                 "nothing is dropped. 0 is no limit."},
    {.key = "limits.key_burst",
     .type = MSOCK_CONFIG_SIZE,
     .offset = AT(limits.key_burst),
     .default_text = "0",
     .max = BYTES_MAX,
     .example = "1MB",
     .reloadable = true,
     .sentence = "Bytes at full speed after a quiet time; at least one frame of 65568 bytes."},
    {.key = "limits.address_rate",
     .type = MSOCK_CONFIG_SIZE,
     .offset = AT(limits.address_rate),
     .default_text = "0",
     .max = BYTES_MAX,
     .example = "10MB",
     .reloadable = true,
     .sentence = "Bytes per second of all clients behind one IPv4 address or IPv6 /64; 0 is no "
                 "limit."},
    {.key = "limits.address_burst",
     .type = MSOCK_CONFIG_SIZE,
     .offset = AT(limits.address_burst),
     .default_text = "0",
     .max = BYTES_MAX,
     .example = "10MB",
     .reloadable = true,
     .sentence = "The burst for it; at least one frame of 65568 bytes."},
    {.key = "limits.total_rate",
     .type = MSOCK_CONFIG_SIZE,
     .offset = AT(limits.total_rate),
     .default_text = "0",
     .max = BYTES_MAX,
     .example = "100MB",
     .reloadable = true,
     .sentence = "Bytes per second of all clients together; 0 is no limit."},
    {.key = "limits.total_burst",
     .type = MSOCK_CONFIG_SIZE,
     .offset = AT(limits.total_burst),
     .default_text = "0",
     .max = BYTES_MAX,
     .example = "10MB",
     .reloadable = true,
     .sentence = "The burst for it; at least one frame of 65568 bytes."},
    {.key = "limits.flows_per_key",
     .type = MSOCK_CONFIG_INT,
     .offset = AT(limits.flows_per_key),
     .default_text = "0",
     .max = CONNECTIONS_MAX,
     .example = "16",
     .reloadable = true,
     .sentence = "Peers that one key may send to at a time; 0 is no limit."},
    {.key = "limits.flow_duration",
     .type = MSOCK_CONFIG_DURATION,
     .offset = AT(limits.flow_duration),
     .default_text = "0",
     .max = DURATION_MAX_US,
     .example = "2h",
     .reloadable = true,
     .sentence = "How long packets from one key to another are relayed before the flow ends; 0 is "
                 "no limit."},
    {.key = "limits.flow_bytes",
     .type = MSOCK_CONFIG_SIZE,
     .offset = AT(limits.flow_bytes),
     .default_text = "0",
     .max = BYTES_MAX,
     .example = "10GB",
     .reloadable = true,
     .sentence = "Bytes from one key to another before the flow ends; 0 is no limit."},
    {.key = "limits.write_timeout",
     .type = MSOCK_CONFIG_DURATION,
     .offset = AT(limits.write_timeout),
     .default_text = "2s",
     .min = 100000,
     .max = 600000000,
     .reloadable = true,
     .sentence = "A client that takes no byte for this long while some wait for it is cut off."},
    {.key = "limits.memory",
     .type = MSOCK_CONFIG_SIZE,
     .offset = AT(limits.memory),
     .default_text = "256MiB",
     .min = 1 << 20,
     .max = BYTES_MAX,
     .reloadable = true,
     .sentence = "Memory for packets that wait to be sent, of all clients together; past it the "
                 "newest are dropped."},

    {.key = "quota.day",
     .type = MSOCK_CONFIG_SIZE,
     .offset = AT(quota.day),
     .default_text = "0",
     .max = BYTES_MAX,
     .example = "5GB",
     .reloadable = true,
     .sentence = "Bytes that one key may send in a day (UTC); 0 is no quota."},
    {.key = "quota.month",
     .type = MSOCK_CONFIG_SIZE,
     .offset = AT(quota.month),
     .default_text = "0",
     .max = BYTES_MAX,
     .example = "50GB",
     .reloadable = true,
     .sentence = "Bytes that one key may send in a month (UTC); 0 is no quota."},
    {.key = "quota.grace",
     .type = MSOCK_CONFIG_SIZE,
     .offset = AT(quota.grace),
     .default_text = "0",
     .max = BYTES_MAX,
     .example = "500MB",
     .reloadable = true,
     .sentence = "Bytes above a quota that still pass at full speed."},
    {.key = "quota.throttle",
     .type = MSOCK_CONFIG_SIZE,
     .offset = AT(quota.throttle),
     .default_text = "16KiB",
     .max = BYTES_MAX,
     .reloadable = true,
     .sentence = "Bytes per second for a key whose quota and grace are used up; 0 ends its "
                 "connections until the day or month is over."},
    {.key = "quota.save_interval",
     .type = MSOCK_CONFIG_DURATION,
     .offset = AT(quota.save_interval),
     .default_text = "5m",
     .min = 1000000,
     .max = INT64_C(86400) * 1000000,
     .reloadable = true,
     .sentence = "Time between writes of the counters; what was counted since the last one is lost "
                 "by a crash."},

    {.key = "bans.keys",
     .type = MSOCK_CONFIG_STRINGS,
     .offset = AT(bans.keys),
     .max = KEYS_MAX,
     .check = check_node_key,
     .example = "nodekey:0000000000000000000000000000000000000000000000000000000000000001",
     .reloadable = true,
     .sentence = "Node keys that are refused, and cut off at the reload that names them."},
    {.key = "bans.prefixes",
     .type = MSOCK_CONFIG_PREFIXES,
     .offset = AT(bans.prefixes),
     .example = "192.0.2.0/24",
     .reloadable = true,
     .sentence = "Addresses and networks whose connections are refused and cut off."},
    {.key = "bans.file",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(bans.file),
     .example = "/etc/derpd/bans",
     .reloadable = true,
     .sentence = "File with further bans, one key, address or prefix a line."},
};

#define NOT_BUILT "not in this build"

static const msock_config_alias env_aliases[] = {
    {.name = "DERPD_CONFIG"}, /* read before this table: it names the file */
};

/* derper's flags whose value needs a translation are rewritten before this table is asked
 * (derpd/options.c). */
static const msock_config_alias flag_aliases[] = {
    {.name = "a", .key = "listen"},
    {.name = "l", .key = "log_level"},
    {.name = "mesh-psk-file", .key = "mesh.key_file"},
    {.name = "verify-client-url", .key = "admission.url"},
    {.name = "verify-client-url-fail-open", .key = "admission.fail_open"},
    {.name = "accept-connection-limit", .key = "limits.accept_rate"},
    {.name = "accept-connection-burst", .key = "limits.accept_burst"},
    {.name = "tcp-write-timeout", .key = "limits.write_timeout"},
    {.name = "verify-clients",
     .note = "not in this build: use --verify-client-url with the control server's /verify",
     .is_switch = true,
     .is_refused = true},
    {.name = "bootstrap-dns-names", .note = NOT_BUILT, .is_refused = true},
    {.name = "unpublished-bootstrap-dns-names", .note = NOT_BUILT, .is_refused = true},
    {.name = "ace", .note = NOT_BUILT, .is_switch = true, .is_refused = true},
    {.name = "acme-ip-certs", .note = NOT_BUILT, .is_switch = true, .is_refused = true},
    {.name = "secrets-url", .note = NOT_BUILT, .is_refused = true},
};

#define N_OF(a) (sizeof(a) / sizeof(a)[0])

const msock_config_schema msock_derpd_schema = {
    .program = "derpd",
    .command = "derpd",
    .file_name = "derpd.yaml",
    .env_prefix = "DERPD_",
    .size = sizeof(msock_derpd_config),
    .rows = rows,
    .n_rows = N_OF(rows),
    .env_aliases = env_aliases,
    .n_env_aliases = N_OF(env_aliases),
    .flag_aliases = flag_aliases,
    .n_flag_aliases = N_OF(flag_aliases),
};

/* -- rules between values ---------------------------------------------------------------------- */

static void check_list(const msock_config *c, const char *key, const msock_config_strings *list,
                       msock_config_report *report) {
  for (size_t i = 0; list->n > 1 && i < list->n; i++) {
    if (strcmp(list->v[i], "none") == 0) {
      msock_config_refuse(c, key, "write none alone, or addresses", "none stands beside addresses",
                          report);
    }
  }
}

static void check_whole(const msock_config *c, msock_config_report *report) {
  const msock_derpd_config *v = msock_derpd_config_values(c);
  check_list(c, "listen", &v->listen, report);
  check_list(c, "http_listen", &v->http_listen, report);
  check_list(c, "stun_listen", &v->stun_listen, report);
  check_list(c, "admin_listen", &v->admin_listen, report);
  if (msock_derpd_is_none(&v->listen) && msock_derpd_is_none(&v->stun_listen)) {
    msock_config_refuse(c, "listen", "write listen: :443, or stun_listen: :3478",
                        "neither listen nor stun_listen has an address: there is nothing to do",
                        report);
  }
  if (v->cert_key[0] && !v->cert[0]) {
    msock_config_refuse(c, "cert_key", "name the certificate with cert",
                        "a key without its certificate", report);
  }
  if (!v->tls && v->cert[0]) {
    msock_config_refuse(c, "cert", "remove it, or write tls: true",
                        "a certificate, and tls is off: the proxy in front needs it", report);
  }
  if (v->admission.fail_open && !v->admission.url[0]) {
    msock_config_refuse(c, "admission.fail_open", "set admission.url, or remove it",
                        "says what to do when the URL does not answer, and there is none", report);
  }
  if (v->mesh.with.n > 0 && !v->mesh.key[0] && !v->mesh.key_file[0]) {
    msock_config_refuse(c, "mesh.with", "set mesh.key, the same on all of them",
                        "links need the mesh key", report);
  }
  if (v->limits.key_burst && !v->limits.key_rate) {
    msock_config_refuse(c, "limits.key_burst", "set limits.key_rate", "a burst without its rate",
                        report);
  }
  if (v->limits.total_burst && !v->limits.total_rate) {
    msock_config_refuse(c, "limits.total_burst", "set limits.total_rate",
                        "a burst without its rate", report);
  }
}

/* -- loading ----------------------------------------------------------------------------------- */

/* The results of the steps are not asked for: every error is in the report. */
msock_config *msock_derpd_config_load(const msock_derpd_sources *src, msock_config_report *report) {
  const size_t errors_before = report->n_errors;
  msock_config *c = msock_config_new(&msock_derpd_schema);
  if (c == NULL) {
    msock_config_report_add(report, false, "derpd", NULL, NULL, "not enough memory");
    return NULL;
  }
  if (src->file) {
    msock_document *d = msock_document_read(src->file_name, src->file, src->file_len, report);
    if (d != NULL) {
      (void)msock_config_apply_document(c, d, report);
      msock_document_free(d);
    }
  }
  if (src->environment) {
    (void)msock_config_apply_environment(c, src->environment, report);
  }
  (void)msock_config_apply_flags(c, src->flags, src->n_flags, report);
  if (src->statedir) {
    (void)msock_config_imply(c, "statedir", src->statedir, src->statedir_because);
  }
  (void)msock_config_finish(c, report);
  check_whole(c, report);
  if (report->n_errors != errors_before) {
    msock_config_free(c);
    return NULL;
  }
  return c;
}

const msock_derpd_config *msock_derpd_config_values(const msock_config *c) {
  return msock_config_values(c);
}

msock_err msock_derpd_config_apply_rates(msock_config *c, const char *file_name,
                                         const uint8_t *bytes, size_t len,
                                         msock_config_report *report) {
  static const struct {
    const char *theirs, *ours;
  } names[] = {{"PerClientRateLimitBytesPerSec", "limits.key_rate"},
               {"PerClientRateBurstBytes", "limits.key_burst"}};
  msock_document *d = msock_document_read(file_name, bytes, len, report);
  msock_err err = d != NULL ? MSOCK_OK : MSOCK_ERR_INVALID;
  for (size_t i = 0; d != NULL && i < N_OF(names); i++) {
    const msock_document_node *n = msock_document_find(msock_document_root(d), names[i].theirs);
    if (n != NULL && msock_config_apply_node(c, names[i].ours, d, n, report) != MSOCK_OK) {
      err = MSOCK_ERR_INVALID;
    }
  }
  msock_document_free(d);
  return err;
}
