/* config/tsnode_config.h: the settings of tsnode: the table, the struct, and both file forms.
 *
 * The file is tsnode.yaml with the keys below, or tailscaled's JSON ("version": "alpha0",
 * requirements.md 5.4), which is told apart by its version field. Names in variables: TSNODE_ + key
 * in capitals, and those of the container image (requirements.md 5.5). */
#ifndef MSOCK_CONFIG_TSNODE_CONFIG_H
#define MSOCK_CONFIG_TSNODE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "config/schema.h"

typedef enum msock_tsnode_profile {
  MSOCK_TSNODE_PROFILE_FULL = 0,
  MSOCK_TSNODE_PROFILE_PRIVACY_PROXY
} msock_tsnode_profile;

typedef enum msock_tsnode_netfilter {
  MSOCK_TSNODE_NETFILTER_ON = 0,
  MSOCK_TSNODE_NETFILTER_NODIVERT,
  MSOCK_TSNODE_NETFILTER_OFF
} msock_tsnode_netfilter;

typedef enum msock_tsnode_log_format {
  MSOCK_TSNODE_LOG_HUMAN = 0,
  MSOCK_TSNODE_LOG_JSON
} msock_tsnode_log_format;

/* Members are named as the keys are. Strings are never NULL; "" = unset. */
typedef struct msock_tsnode_config {
  int profile; /* msock_tsnode_profile */
  bool enabled;

  char *login_server; /* http(s)://host[:port][/] */
  msock_ip login_server_address;
  char *server_key; /* "mkey:..." */
  char *ca_file;
  char *auth_key; /* secret */
  char *auth_key_file;
  char *hostname;
  char *operator_user; /* key "operator" */

  bool accept_routes;
  bool accept_dns;
  msock_config_prefixes advertise_routes;
  bool advertise_exit_node;
  msock_config_strings advertise_tags;
  char *exit_node; /* address, stable id or name */
  bool exit_node_allow_lan_access;
  bool shields_up;
  int netfilter_mode; /* msock_tsnode_netfilter */

  char *tun; /* interface name, or "none" */
  int64_t mtu;
  int64_t port;
  char *bind_interface; /* "" = as the routes say */
  bool ipv6;
  bool direct;
  bool lan;
  bool allow_loopback;
  bool fast_failover;
  char *derp_map_file;
  char *https_proxy; /* secret: may hold a password */
  msock_config_strings no_proxy;

  char *statedir;
  char *socket;
  int log_level;  /* msock_log_level */
  int log_format; /* msock_tsnode_log_format */
} msock_tsnode_config;

extern const msock_config_schema msock_tsnode_schema;

/* What one load reads; everything is borrowed for the call. Keep environment and flags for the
 * reload at SIGHUP, which differs only in the file's bytes. */
typedef struct msock_tsnode_sources {
  const char *file_name; /* for messages */
  const uint8_t *file;   /* NULL = no file */
  size_t file_len;
  const char *const *environment; /* "NAME=value", ends with NULL; NULL = none */
  const char *const *flags;       /* without the program's name and verb */
  size_t n_flags;
} msock_tsnode_sources;

/* Merges all sources and checks the whole, the profile's rules included. NULL when the report got
 * an error (or memory is short, which is one too); warnings may stand in the report either way.
 * Caller: msock_config_free. */
msock_config *msock_tsnode_config_load(const msock_tsnode_sources *src,
                                       msock_config_report *report);
/* The rules of single values, for command lines and preferences too: false with "expected ..." in
 * why. "" is not asked for (unset).
 *   url       http(s)://host[:port][/], no user, path or query
 *   hostname  one DNS label (RFC 1035 2.3.4): letters, digits, inner hyphens
 *   tag       "tag:" + a letter, then letters, digits, hyphens
 *   user      a user's name of this machine */
bool msock_tsnode_check_url(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]);
bool msock_tsnode_check_hostname(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]);
bool msock_tsnode_check_tag(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]);
bool msock_tsnode_check_user(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]);

/* What a good configuration asks for and this build does not do: an error for a file or a flag, a
 * warning for a variable, which may be there for other programs. */
void msock_tsnode_check_built(const msock_config *c, msock_config_report *report);
/* Valid as long as the config lives unchanged. */
const msock_tsnode_config *msock_tsnode_config_values(const msock_config *c);

#endif
