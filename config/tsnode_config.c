#include "config/tsnode_config.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/key.h"
#include "config/tsnode_alpha.h"

/* Limits, with their sources. */
#define LABEL_MAX 63u        /* one DNS label: RFC 1035 2.3.4 */
#define NAME_MAX_BYTES 253u  /* a whole DNS name: RFC 1035 2.3.4, without the last dot */
#define INTERFACE_MAX 15u    /* Linux: IFNAMSIZ - 1 */
#define SOCKET_PATH_MAX 107u /* Linux: sun_path - 1 */
#define USER_MAX 63u         /* ours; useradd takes 32 */
#define URL_MAX_BYTES 255u   /* ours */
#define ROUTES_MAX 64        /* ours; a stock control server approves by hand */
#define TAGS_MAX 32          /* ours */
#define MTU_MIN 576          /* RFC 791: what every IPv4 host takes */
#define MTU_MAX 1500         /* ours: above it a WireGuard packet never fits Ethernet */

#define TUN_DEFAULT "tsnode0"
#define PRIVACY "profile privacy-proxy"

/* -- rules of single values -------------------------------------------------------------------- */

typedef struct url_parts {
  char host[NAME_MAX_BYTES + 1]; /* without brackets */
} url_parts;

static bool is_host_char(char ch) {
  return isalnum((unsigned char)ch) || ch == '-' || ch == '.' || ch == '_';
}

static bool is_port(const char *text, size_t len) {
  unsigned n = 0;
  if (len == 0 || len > 5 || strspn(text, "0123456789") < len) {
    return false;
  }
  for (size_t i = 0; i < len; i++) {
    n = n * 10 + (unsigned)(text[i] - '0');
  }
  return n > 0 && n <= UINT16_MAX;
}

/* http(s)://HOST[:PORT][/]; nothing else may follow. */
static bool split_url(const char *text, url_parts *out) {
  const char *p = strncmp(text, "https://", 8) == 0  ? text + 8
                  : strncmp(text, "http://", 7) == 0 ? text + 7
                                                     : NULL;
  if (p == NULL || strlen(text) > URL_MAX_BYTES) {
    return false;
  }
  const bool bracket = *p == '[';
  p += bracket ? 1 : 0;
  size_t len = 0;
  while (bracket ? (isxdigit((unsigned char)p[len]) || p[len] == ':' || p[len] == '.')
                 : is_host_char(p[len])) {
    len++;
  }
  if (len == 0 || len > NAME_MAX_BYTES || (bracket && p[len] != ']')) {
    return false;
  }
  memcpy(out->host, p, len);
  out->host[len] = '\0';
  p += len + (bracket ? 1 : 0);
  if (*p == ':') {
    const size_t digits = strcspn(p + 1, "/");
    if (!is_port(p + 1, digits)) {
      return false;
    }
    p += 1 + digits;
  }
  msock_ip ip;
  return (*p == '\0' || strcmp(p, "/") == 0) &&
         (!bracket || msock_ip_parse(out->host, &ip) == MSOCK_OK);
}

static bool say(char why[static MSOCK_CONFIG_WHY_MAX], const char *expected) {
  (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "expected %s", expected);
  return false;
}

bool msock_tsnode_check_url(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  url_parts parts;
  return split_url(text, &parts) ||
         say(why, "http:// or https://, a host and perhaps a port (1 to 65535), "
                  "without user, password, path or query");
}

/* Proxies may want a user: http(s)://[USER:PASSWORD@]HOST:PORT. */
static bool check_proxy(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  char bare[MSOCK_CONFIG_TEXT_MAX];
  url_parts parts;
  const char *at = strrchr(text, '@');
  const char *slashes = strstr(text, "://");
  if (at && slashes && at > slashes) {
    (void)snprintf(bare, sizeof bare, "%.*s%s", (int)(slashes + 3 - text), text, at + 1);
    text = bare;
  }
  return split_url(text, &parts) || say(why, "http:// or https:// and the host of a proxy");
}

bool msock_tsnode_check_hostname(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  const size_t len = strlen(text);
  bool ok = len <= LABEL_MAX && text[0] != '-' && text[len - 1] != '-';
  for (const char *p = text; *p != '\0'; p++) {
    ok = ok && (isalnum((unsigned char)*p) || *p == '-');
  }
  return ok || say(why, "one DNS label: letters, digits and inner hyphens, at most 63");
}

bool msock_tsnode_check_tag(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  const char *name = text + 4;
  bool ok =
      strncmp(text, "tag:", 4) == 0 && isalpha((unsigned char)name[0]) && strlen(text) <= LABEL_MAX;
  for (const char *p = name; ok && *p != '\0'; p++) {
    ok = isalnum((unsigned char)*p) || *p == '-';
  }
  return ok || say(why, "tag: and a name of letters, digits and hyphens that begins with a letter");
}

static bool check_server_key(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  msock_machine_key key;
  return msock_machine_key_parse(text, &key) == MSOCK_OK ||
         say(why, "mkey: and 64 lower-case hex digits");
}

static bool is_interface(const char *text) {
  bool ok = strlen(text) <= INTERFACE_MAX && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
  for (const char *p = text; *p != '\0'; p++) {
    ok = ok && *p > ' ' && *p < 0x7f && *p != '/' && *p != ':';
  }
  return ok;
}

static bool check_interface(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  return is_interface(text) || say(why, "none, or an interface name of at most 15 characters");
}

static bool check_device(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  return is_interface(text) || say(why, "an interface name of at most 15 characters");
}

static bool check_absolute(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  return text[0] == '/' || say(why, "a path that begins with /");
}

static bool check_socket(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  return (text[0] == '/' && strlen(text) <= SOCKET_PATH_MAX) ||
         say(why, "a path that begins with / and has at most 107 bytes");
}

static bool check_word(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  return (strchr(text, ' ') == NULL && strlen(text) <= NAME_MAX_BYTES) ||
         say(why, "one word: an address, a node's name or its stable id");
}

bool msock_tsnode_check_user(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]) {
  return (strpbrk(text, " :/") == NULL && strlen(text) <= USER_MAX) ||
         say(why, "the name of a user of this machine");
}

/* -- the table --------------------------------------------------------------------------------- */

static const char *const profiles[] = {"full", "privacy-proxy", NULL};
static const char *const netfilter_modes[] = {"on", "nodivert", "off", NULL};
static const char *const log_levels[] = {"error", "warn", "info", "debug", "trace", NULL};
static const char *const log_formats[] = {"human", "json", NULL};

static const msock_config_rename tun_words[] = {{"userspace-networking", "none"}, {NULL, NULL}};
static const msock_config_rename log_level_words[] = {{"warning", "warn"}, {NULL, NULL}};
/* YAML 1.1 writers turn on and off into true and false. */
static const msock_config_rename netfilter_words[] = {
    {"true", "on"}, {"false", "off"}, {NULL, NULL}};

#define AT(member) offsetof(msock_tsnode_config, member)

static const msock_config_row rows[] = {
    {.key = "profile",
     .type = MSOCK_CONFIG_ENUM,
     .offset = AT(profile),
     .default_text = "full",
     .choices = profiles,
     .sentence = "full is a tailnet node as users of tailscaled expect it; privacy-proxy is IPv4 "
                 "only, one UDP socket, no name look-ups, and fails closed."},
    {.key = "enabled",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(enabled),
     .default_text = "true",
     .reloadable = true,
     .sentence = "Whether the node shall be up; false is the same as tsnode down."},
    {.key = "login_server",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(login_server),
     .example = "https://headscale.example.com",
     .check = msock_tsnode_check_url,
     .sentence = "URL of the control server."},
    {.key = "login_server_address",
     .type = MSOCK_CONFIG_IP,
     .offset = AT(login_server_address),
     .example = "192.0.2.10",
     .sentence = "Address of the control server, used instead of looking up its name; the name is "
                 "still what the certificate must show."},
    {.key = "server_key",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(server_key),
     .example = "mkey:0000000000000000000000000000000000000000000000000000000000000001",
     .check = check_server_key,
     .sentence = "Noise key of the control server, pinned from the first contact on; another key "
                 "is refused."},
    {.key = "ca_file",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(ca_file),
     .example = "/etc/tsnode/ca.pem",
     .sentence = "PEM file with further certificate authorities for control server and relays."},
    {.key = "auth_key",
     .type = MSOCK_CONFIG_SECRET,
     .offset = AT(auth_key),
     .secret_file_key = "auth_key_file",
     .sentence = "Pre-auth key for the first login; file:PATH reads it from a file."},
    {.key = "auth_key_file",
     .type = MSOCK_CONFIG_SECRET_FILE,
     .offset = AT(auth_key_file),
     .example = "/run/secrets/tsnode-auth-key",
     .sentence = "File whose first line is the pre-auth key."},
    {.key = "hostname",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(hostname),
     .example = "router-1",
     .check = msock_tsnode_check_hostname,
     .reloadable = true,
     .sentence = "Name of this node in the tailnet; empty takes the machine's name."},
    {.key = "operator",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(operator_user),
     .example = "alice",
     .check = msock_tsnode_check_user,
     .reloadable = true,
     .sentence = "User who may change settings of the running daemon without being root."},

    {.key = "accept_routes",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(accept_routes),
     .default_text = "false",
     .reloadable = true,
     .sentence = "Use the subnet routes of other nodes."},
    {.key = "accept_dns",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(accept_dns),
     .default_text = "true",
     .reloadable = true,
     .sentence = "Use the DNS settings of the tailnet."},
    {.key = "advertise_routes",
     .type = MSOCK_CONFIG_PREFIXES,
     .offset = AT(advertise_routes),
     .max = ROUTES_MAX,
     .example = "192.168.10.0/24",
     .reloadable = true,
     .sentence = "Networks behind this node that others may reach through it."},
    {.key = "advertise_exit_node",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(advertise_exit_node),
     .default_text = "false",
     .reloadable = true,
     .sentence = "Offer this node as a way to the whole Internet."},
    {.key = "advertise_tags",
     .type = MSOCK_CONFIG_STRINGS,
     .offset = AT(advertise_tags),
     .max = TAGS_MAX,
     .example = "tag:router",
     .check = msock_tsnode_check_tag,
     .sentence = "Tags that this node asks for when it logs in."},
    {.key = "exit_node",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(exit_node),
     .example = "100.64.0.7",
     .check = check_word,
     .reloadable = true,
     .sentence = "Node that carries all other traffic: its address, name or stable id."},
    {.key = "exit_node_allow_lan_access",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(exit_node_allow_lan_access),
     .default_text = "false",
     .reloadable = true,
     .sentence = "Keep the local network reachable while an exit node is in use."},
    {.key = "shields_up",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(shields_up),
     .default_text = "false",
     .reloadable = true,
     .sentence = "Refuse all connections from other nodes."},
    {.key = "netfilter_mode",
     .type = MSOCK_CONFIG_ENUM,
     .offset = AT(netfilter_mode),
     .default_text = "off",
     .choices = netfilter_modes,
     .renames = netfilter_words,
     .sentence = "Who manages firewall rules: on is tsnode, nodivert only prepares them, off "
                 "leaves the firewall alone."},

    {.key = "tun",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(tun),
     .default_text = TUN_DEFAULT,
     .renames = tun_words,
     .check = check_interface,
     .sentence = "Name of the network interface, or none to run without one."},
    {.key = "mtu",
     .type = MSOCK_CONFIG_INT,
     .offset = AT(mtu),
     .default_text = "1280",
     .min = MTU_MIN,
     .max = MTU_MAX,
     .sentence = "Largest packet inside the tunnel, in bytes."},
    {.key = "port",
     .type = MSOCK_CONFIG_INT,
     .offset = AT(port),
     .default_text = "0",
     .max = UINT16_MAX,
     .example = "41641",
     .sentence = "UDP port; 0 takes a free one."},
    {.key = "bind_interface",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(bind_interface),
     .example = "eth0",
     .check = check_device,
     .sentence = "The one interface for everything outside the tunnel, name look-ups excepted; "
                 "while it is missing nothing is sent. Empty: as the routes say."},
    {.key = "ipv6",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(ipv6),
     .default_text = "false",
     .sentence = "Use IPv6 outside the tunnel too, by one UDP socket for both; where the system "
                 "has no IPv6 the node goes on with IPv4."},
    {.key = "direct",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(direct),
     .default_text = "true",
     .sentence = "Direct UDP paths to peers; false: relays only, peers do not learn our address; "
                 "in the privacy-proxy profile no UDP at all."},
    {.key = "lan",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(lan),
     .default_text = "true",
     .sentence = "Try direct paths over private addresses; off in the privacy-proxy profile."},
    {.key = "allow_loopback",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(allow_loopback),
     .default_text = "false",
     .sentence = "Try direct paths over loopback addresses; for tests on one machine."},
    {.key = "fast_failover",
     .type = MSOCK_CONFIG_BOOL,
     .offset = AT(fast_failover),
     .default_text = "true",
     .sentence = "Go back to the relay as soon as a direct path falls silent."},
    {.key = "derp_map_file",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(derp_map_file),
     .example = "/etc/tsnode/derp.yaml",
     .sentence = "Relays to use besides those of the control server: Headscale's YAML or "
                 "tailscale's JSON form."},
    {.key = "https_proxy",
     .type = MSOCK_CONFIG_SECRET, /* may hold a password */
     .offset = AT(https_proxy),
     .example = "http://proxy.example.com:3128",
     .check = check_proxy,
     .sentence = "Proxy for connections to control server and relays; not used in the "
                 "privacy-proxy profile."},
    {.key = "no_proxy",
     .type = MSOCK_CONFIG_STRINGS,
     .offset = AT(no_proxy),
     .example = "headscale.example.com",
     .sentence = "Hosts that are reached without the proxy."},

    {.key = "statedir",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(statedir),
     .default_text = "/var/lib/tsnode",
     .check = check_absolute,
     .sentence = "Directory of the state file; kept at mode 0700."},
    {.key = "socket",
     .type = MSOCK_CONFIG_STRING,
     .offset = AT(socket),
     .default_text = "/run/tsnode/tsnode.sock",
     .check = check_socket,
     .sentence = "Socket on which the daemon answers the command line."},
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
};

#define NOT_BUILT "not in this build"
#define VERB_ONLY "belongs to the command line of one login: it has no effect here"

/* requirements.md 5.5, in the order of their rank: the first that is set wins. */
static const msock_config_alias env_aliases[] = {
    {.name = "TS_AUTHKEY", .key = "auth_key"},
    {.name = "TS_AUTH_KEY", .key = "auth_key"}, /* older images */
    {.name = "TS_STATE_DIR", .key = "statedir"},
    {.name = "TSNODE_STATE_DIR", .key = "statedir"},
    {.name = "TSNODE_CONFIG"}, /* read before this table: it names the file */
    {.name = "TS_SOCKET", .key = "socket"},
    {.name = "TS_USERSPACE", .key = "tun", .when_true = "none", .when_false = TUN_DEFAULT},
    {.name = "TS_HOSTNAME", .key = "hostname"},
    {.name = "TS_ROUTES", .key = "advertise_routes"},
    {.name = "TS_ACCEPT_DNS", .key = "accept_dns"},
    {.name = "TS_EXTRA_ARGS", .is_flags = true},
    {.name = "TS_NO_LOGS_NO_SUPPORT"}, /* there is nothing to switch off */
    {.name = "TS_SOCKS5_SERVER", .note = NOT_BUILT},
    {.name = "TS_OUTBOUND_HTTP_PROXY_LISTEN", .note = NOT_BUILT},
    {.name = "SSL_CERT_FILE", .key = "ca_file"},
    {.name = "HTTPS_PROXY", .key = "https_proxy"},
    {.name = "https_proxy", .key = "https_proxy"},
    {.name = "NO_PROXY", .key = "no_proxy"},
    {.name = "no_proxy", .key = "no_proxy"},
};

/* requirements.md 5.1. What `up` takes besides settings is passed over, as it stands in many
 * TS_EXTRA_ARGS; what is not built is refused. */
static const msock_config_alias flag_aliases[] = {
    {.name = "authkey", .key = "auth_key"},
    {.name = "reset", .note = VERB_ONLY, .is_switch = true},
    {.name = "force-reauth", .note = VERB_ONLY, .is_switch = true},
    {.name = "json", .note = VERB_ONLY, .is_switch = true},
    {.name = "qr", .note = VERB_ONLY, .is_switch = true},
    {.name = "timeout", .note = VERB_ONLY},
    {.name = "accept-risk"},
    {.name = "no-logs-no-support", .is_switch = true},
    {.name = "snat-subnet-routes", .note = NOT_BUILT, .is_switch = true, .is_refused = true},
    {.name = "stateful-filtering", .note = NOT_BUILT, .is_switch = true, .is_refused = true},
    {.name = "ssh", .note = NOT_BUILT, .is_switch = true, .is_refused = true},
    {.name = "relay-server-port", .note = NOT_BUILT, .is_refused = true},
    {.name = "relay-server-static-endpoints", .note = NOT_BUILT, .is_refused = true},
    {.name = "socks5-server", .note = NOT_BUILT, .is_refused = true},
    {.name = "outbound-http-proxy-listen", .note = NOT_BUILT, .is_refused = true},
};

#define N_OF(a) (sizeof(a) / sizeof(a)[0])

const msock_config_schema msock_tsnode_schema = {
    .program = "tsnode",
    .command = "tsnode daemon",
    .file_name = "tsnode.yaml",
    .env_prefix = "TSNODE_",
    .size = sizeof(msock_tsnode_config),
    .rows = rows,
    .n_rows = N_OF(rows),
    .env_aliases = env_aliases,
    .n_env_aliases = N_OF(env_aliases),
    .flag_aliases = flag_aliases,
    .n_flag_aliases = N_OF(flag_aliases),
};

/* -- rules between values ---------------------------------------------------------------------- */

/* The profile's table: netcheck.md 4.1. */
static void check_privacy(msock_config *c, msock_config_report *report) {
  const msock_tsnode_config *v = msock_tsnode_config_values(c);
  char where[MSOCK_CONFIG_WHERE_MAX];
  url_parts url;
  msock_ip ip;

  if (msock_config_imply(c, "lan", "false", PRIVACY) != MSOCK_OK) {
    msock_config_refuse(c, "lan", NULL, "not enough memory", report);
  }
  if (v->lan) {
    msock_config_refuse(c, "lan", "remove it, or choose profile: full",
                        "direct paths over private addresses are off in " PRIVACY, report);
  }
  if (v->ipv6) {
    msock_config_refuse(c, "ipv6", "remove it, or choose profile: full", PRIVACY " is IPv4 only",
                        report);
  }
  if (v->login_server[0] != '\0' && v->login_server_address.family == 0 &&
      split_url(v->login_server, &url) && msock_ip_parse(url.host, &ip) != MSOCK_OK) {
    msock_config_refuse(
        c, "login_server",
        "pin its address (login_server_address: 192.0.2.10), or choose profile: full",
        PRIVACY " looks up no names, and this one would need it", report);
  }
  if (v->https_proxy[0] != '\0') {
    msock_config_report_add(report, true, msock_config_origin_where(c, "https_proxy", where),
                            "https_proxy", NULL, "not used in " PRIVACY);
    if (msock_config_override(c, "https_proxy", "", PRIVACY) != MSOCK_OK) {
      msock_config_refuse(c, "https_proxy", NULL, "not enough memory", report);
    }
  }
}

static void check_families(const msock_config *c, msock_config_report *report) {
  const msock_tsnode_config *v = msock_tsnode_config_values(c);
  const char *way_out = v->profile == MSOCK_TSNODE_PROFILE_FULL
                            ? "write an IPv4 address, or ipv6: true"
                            : "write an IPv4 address";
  url_parts url;
  msock_ip ip;
  if (v->ipv6) {
    return;
  }
  if (v->login_server_address.family == 6) {
    msock_config_refuse(c, "login_server_address", way_out, "an IPv6 address, and ipv6 is off",
                        report);
  }
  if (v->login_server_address.family == 0 && split_url(v->login_server, &url) &&
      msock_ip_parse(url.host, &ip) == MSOCK_OK && ip.family == 6) {
    msock_config_refuse(c, "login_server", way_out, "an IPv6 address, and ipv6 is off", report);
  }
}

static void check_whole(msock_config *c, msock_config_report *report) {
  const msock_tsnode_config *v = msock_tsnode_config_values(c);
  if (v->profile == MSOCK_TSNODE_PROFILE_PRIVACY_PROXY) {
    check_privacy(c, report);
  }
  check_families(c, report);
  if (v->exit_node[0] != '\0' && v->advertise_exit_node) {
    msock_config_refuse(c, "exit_node", "keep one of the two",
                        "a node that offers itself as exit node cannot use another one", report);
  }
}

/* -- what is not built ------------------------------------------------------------------------- */

typedef struct not_built {
  const char *key;
  const char *reason, *way_out;
  bool warn; /* harmless: a warning from every source */
} not_built;

/* Whether the value asks for what is not there. */
static bool asks_for_it(const msock_tsnode_config *v, const char *key) {
  return strcmp(key, "netfilter_mode") == 0        ? v->netfilter_mode != MSOCK_TSNODE_NETFILTER_OFF
         : strcmp(key, "exit_node") == 0           ? v->exit_node[0] != '\0'
         : strcmp(key, "advertise_exit_node") == 0 ? v->advertise_exit_node
         : strcmp(key, "exit_node_allow_lan_access") == 0 ? v->exit_node_allow_lan_access
         : strcmp(key, "https_proxy") == 0                ? v->https_proxy[0] != '\0'
         : strcmp(key, "accept_dns") == 0                 ? v->accept_dns
         : strcmp(key, "advertise_routes") == 0
             ? v->advertise_routes.n > 0 && strcmp(v->tun, "none") == 0
             : true;
}

void msock_tsnode_check_built(const msock_config *c, msock_config_report *report) {
  static const not_built list[] = {
      {"netfilter_mode", "firewall rules are not in this build", "write netfilter_mode: off",
       false},
      {"exit_node", "exit nodes are not in this build", "remove it", false},
      {"advertise_exit_node", "exit nodes are not in this build", "remove it", false},
      {"exit_node_allow_lan_access", "exit nodes are not in this build", "remove it", false},
      {"https_proxy",
       "proxies are not in this build: connections to control server and relays "
       "are direct",
       "remove it", false},
      {"accept_dns", "name resolution for the tailnet is not in this build",
       "write accept_dns: false", true},
      {"advertise_routes", "routes need a network interface, and tun is none",
       "run as root with a tun, or remove it", false},
  };
  const msock_tsnode_config *v = msock_tsnode_config_values(c);
  char where[MSOCK_CONFIG_WHERE_MAX];
  for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
    const not_built *b = &list[i];
    if (!msock_config_is_default(c, b->key) && asks_for_it(v, b->key)) {
      msock_config_origin_where(c, b->key, where);
      const bool variable = strncmp(where, "environment ", 12) == 0;
      msock_config_report_add(report, b->warn || variable, where, b->key, b->way_out, "%s",
                              b->reason);
    }
  }
}

/* -- loading ----------------------------------------------------------------------------------- */

static void apply_file(msock_config *c, const msock_tsnode_sources *src,
                       msock_config_report *report) {
  msock_document *d = msock_document_read(src->file_name, src->file, src->file_len, report);
  if (d == NULL) {
    return;
  }
  if (msock_tsnode_is_alpha(d)) {
    (void)msock_tsnode_apply_alpha(c, d, report);
  } else {
    (void)msock_config_apply_document(c, d, report);
  }
  msock_document_free(d);
}

/* The results of the steps are not asked for: every error is in the report. */
msock_config *msock_tsnode_config_load(const msock_tsnode_sources *src,
                                       msock_config_report *report) {
  const size_t errors_before = report->n_errors;
  msock_config *c = msock_config_new(&msock_tsnode_schema);
  if (c == NULL) {
    msock_config_report_add(report, false, "tsnode", NULL, NULL, "not enough memory");
    return NULL;
  }
  if (src->file) {
    apply_file(c, src, report);
  }
  if (src->environment) {
    (void)msock_config_apply_environment(c, src->environment, report);
  }
  (void)msock_config_apply_flags(c, src->flags, src->n_flags, report);
  (void)msock_config_finish(c, report);
  check_whole(c, report);
  if (report->n_errors != errors_before) {
    msock_config_free(c);
    return NULL;
  }
  return c;
}

const msock_tsnode_config *msock_tsnode_config_values(const msock_config *c) {
  return msock_config_values(c);
}
