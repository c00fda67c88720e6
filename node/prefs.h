/* node/prefs.h: what the user asked for, as one value, with tailscaled's JSON names.
 *
 * Pure. Three documents carry preferences: the state file (all names), GET prefs (all names) and
 * PATCH prefs ("MaskedPrefs": a name counts only when "<Name>Set" is true, the rest is kept).
 * Each change is made on a copy, checked whole, and only then written: a refused document changes
 * nothing. Names: requirements.md 5.4, ipn.Prefs of tailscaled 1.102. */
#ifndef MSOCK_NODE_PREFS_H
#define MSOCK_NODE_PREFS_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"

#define MSOCK_WHY_MAX 512u           /* a reason for the user, one line, NUL included */
#define MSOCK_URL_MAX 256u           /* control URL with its NUL */
#define MSOCK_PREFS_HOSTNAME_MAX 64u /* one DNS label (RFC 1035 2.3.4) with its NUL */
#define MSOCK_PREFS_USER_MAX 64u     /* operator user name with its NUL */
#define MSOCK_PREFS_ROUTES_MAX 64u   /* advertised routes; more is refused */
#define MSOCK_PREFS_TAGS_MAX 32u     /* advertised tags; more is refused */
#define MSOCK_PREFS_TAG_MAX 64u      /* "tag:name" with its NUL */
#define MSOCK_PREFS_NODE_ID_MAX 64u

typedef struct msock_prefs {
  char control_url[MSOCK_URL_MAX];          /* ControlURL; "" = none given yet */
  char hostname[MSOCK_PREFS_HOSTNAME_MAX];  /* Hostname; "" = the system's name */
  bool want_running;                        /* WantRunning */
  bool logged_out;                          /* LoggedOut: do not log in without the user */
  bool accept_routes;                       /* RouteAll */
  bool accept_dns;                          /* CorpDNS */
  bool shields_up;                          /* ShieldsUp */
  bool exit_node_allow_lan;                 /* ExitNodeAllowLANAccess */
  char operator_user[MSOCK_PREFS_USER_MAX]; /* OperatorUser; "" = nobody */
  msock_prefix advertise_routes[MSOCK_PREFS_ROUTES_MAX]; /* AdvertiseRoutes, ascending */
  size_t n_advertise_routes;
  char advertise_tags[MSOCK_PREFS_TAGS_MAX][MSOCK_PREFS_TAG_MAX]; /* AdvertiseTags */
  size_t n_advertise_tags;
  char exit_node_id[MSOCK_PREFS_NODE_ID_MAX]; /* ExitNodeID: stable node id; "" = none */
  msock_ip exit_node_ip;                      /* ExitNodeIP; family 0 = none */
} msock_prefs;

/* Which members a change named (whether or not the value differs). */
typedef enum msock_pref_bit {
  MSOCK_PREF_CONTROL_URL = 1 << 0,
  MSOCK_PREF_HOSTNAME = 1 << 1,
  MSOCK_PREF_WANT_RUNNING = 1 << 2,
  MSOCK_PREF_LOGGED_OUT = 1 << 3,
  MSOCK_PREF_ACCEPT_ROUTES = 1 << 4,
  MSOCK_PREF_ACCEPT_DNS = 1 << 5,
  MSOCK_PREF_SHIELDS_UP = 1 << 6,
  MSOCK_PREF_EXIT_NODE_ALLOW_LAN = 1 << 7,
  MSOCK_PREF_OPERATOR_USER = 1 << 8,
  MSOCK_PREF_ADVERTISE_ROUTES = 1 << 9,
  MSOCK_PREF_ADVERTISE_TAGS = 1 << 10,
  MSOCK_PREF_EXIT_NODE_ID = 1 << 11,
  MSOCK_PREF_EXIT_NODE_IP = 1 << 12
} msock_pref_bit;

/* Fresh install: nothing set, DNS and routes as stock clients on Linux (CorpDNS true, RouteAll
 * false), not running. */
void msock_prefs_default(msock_prefs *p);

/* All names. NULL without memory; caller: json_object_put. */
json_object *msock_prefs_to_json(const msock_prefs *p);
/* The same as text; NULL without memory; caller frees. */
char *msock_prefs_text(const msock_prefs *p);

/* Whole document (state file, "UpdatePrefs" of /start): every name that is present is taken, every
 * absent one keeps the value in *p. Names that we do not know are left alone, as stock clients send
 * some that mean nothing here. MSOCK_ERR_INVALID with the reason in why, *p untouched. changed may
 * be NULL. */
msock_err msock_prefs_apply(msock_prefs *p, json_object *doc, uint32_t *changed,
                            char why[static MSOCK_WHY_MAX]);
/* MaskedPrefs: only names whose "<Name>Set" is true. "<Name>Set": true for a name that is not in
 * this build is MSOCK_ERR_UNKNOWN: nothing may seem to work that does not. */
msock_err msock_prefs_apply_masked(msock_prefs *p, json_object *doc, uint32_t *changed,
                                   char why[static MSOCK_WHY_MAX]);

/* Whether what a change asked for (msock_pref_bit in changed) can be carried out at all:
 * MSOCK_ERR_UNKNOWN with the reason in why for exit nodes, which are not built yet. */
msock_err msock_prefs_check_built(const msock_prefs *p, uint32_t changed,
                                  char why[static MSOCK_WHY_MAX]);

/* Single rules, for command lines and configuration. MSOCK_ERR_INVALID with the reason in why.
 *   hostname     "" or one DNS label: letters, digits, inner hyphens, at most 63 bytes
 *   control_url  "" or http(s)://host[:port][/], no user, query or fragment
 *   tag          "tag:" + a letter, then letters, digits, hyphens */
msock_err msock_prefs_check_hostname(const char *text, char why[static MSOCK_WHY_MAX]);
msock_err msock_prefs_check_control_url(const char *text, char why[static MSOCK_WHY_MAX]);
msock_err msock_prefs_check_tag(const char *text, char why[static MSOCK_WHY_MAX]);

#endif
