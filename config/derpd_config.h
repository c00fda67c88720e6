/* config/derpd_config.h: the settings of derpd: the table, the struct, the rules between values.
 *
 * The file is derpd.yaml with the keys below. Names in variables: DERPD_ + key in capitals. Every
 * key is explained in docs/derpd.md and by --generate-config. */
#ifndef MSOCK_CONFIG_DERPD_CONFIG_H
#define MSOCK_CONFIG_DERPD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "config/schema.h"

#define MSOCK_DERPD_LISTEN_MAX 16u /* addresses of one kind; ours */

typedef enum msock_derpd_log_format {
  MSOCK_DERPD_LOG_HUMAN = 0,
  MSOCK_DERPD_LOG_JSON
} msock_derpd_log_format;

typedef struct msock_derpd_admission_config {
  msock_config_strings keys; /* "nodekey:<64 hex>" */
  char *keys_file;           /* one key a line */
  char *url;
  bool fail_open;
  uint64_t timeout;   /* us */
  uint64_t cache;     /* us an answer holds */
  uint64_t last_good; /* us an admission outlives a URL that does not answer */
  uint64_t recheck;   /* us until a connected key is asked about again; 0 = never */
  char *token;        /* secret */
  char *token_file;
} msock_derpd_admission_config;

typedef struct msock_derpd_limits_config { /* 0 = no limit */
  int64_t connections, connections_per_key, connections_per_address;
  int64_t handshakes;
  int64_t accept_rate, accept_burst;
  int64_t address_accept_rate, address_accept_burst;
  uint64_t key_rate, key_burst;         /* bytes per second, bytes */
  uint64_t address_rate, address_burst; /* the same for one address */
  uint64_t total_rate, total_burst;     /* and for all together */
  int64_t flows_per_key;
  uint64_t flow_duration; /* us */
  uint64_t flow_bytes;
  uint64_t write_timeout; /* us */
  uint64_t memory;        /* bytes of packets that wait; never 0 */
} msock_derpd_limits_config;

typedef struct msock_derpd_quota_config { /* 0 = none */
  uint64_t day, month;                    /* bytes per key */
  uint64_t grace;                         /* bytes above, at full speed */
  uint64_t throttle;                      /* bytes per second after that */
  uint64_t save_interval;                 /* us between writes of the counters */
} msock_derpd_quota_config;

/* Members are named as the keys are. Strings are never NULL; "" = unset. */
typedef struct msock_derpd_config {
  char *hostname;
  char *statedir;
  char *key_file;
  msock_config_strings listen;
  bool tls;
  char *cert;
  char *cert_key;
  msock_config_prefixes trusted_proxies;
  msock_config_strings http_listen;
  msock_config_strings stun_listen;
  bool stun_public;
  msock_config_strings admin_listen;
  bool derp;
  char *home;
  uint64_t drain_time;   /* us */
  uint64_t drain_spread; /* us */
  char *rate_config;
  int log_level;  /* msock_log_level */
  int log_format; /* msock_derpd_log_format */
  msock_derpd_admission_config admission;
  struct {
    char *key; /* secret */
    char *key_file;
    msock_config_strings with; /* HOST[:PORT][/DIALHOST][#sha256-raw:HEX] */
  } mesh;
  msock_derpd_limits_config limits;
  msock_derpd_quota_config quota;
  struct {
    msock_config_strings keys;
    msock_config_prefixes prefixes;
    char *file;
  } bans;
} msock_derpd_config;

extern const msock_config_schema msock_derpd_schema;

/* What one load reads; everything is borrowed for the call. Keep environment and flags for the
 * reload at SIGHUP, which differs only in the bytes of the files. */
typedef struct msock_derpd_sources {
  const char *file_name; /* for messages */
  const uint8_t *file;   /* NULL = no file */
  size_t file_len;
  const char *const *environment; /* "NAME=value", ends with NULL; NULL = none */
  const char *const *flags;       /* without the program's name and verb */
  size_t n_flags;
  const char *statedir; /* where it is when nobody set it; NULL = the built-in place */
  const char *statedir_because;
} msock_derpd_sources;

/* Merges all sources and checks the whole. NULL when the report got an error. Caller:
 * msock_config_free. */
msock_config *msock_derpd_config_load(const msock_derpd_sources *src, msock_config_report *report);
/* Valid as long as the config lives unchanged. */
const msock_derpd_config *msock_derpd_config_values(const msock_config *c);

/* derper's -rate-config file: JSON with PerClientRateLimitBytesPerSec and PerClientRateBurstBytes
 * (derp.md 4.4), into limits.key_rate and limits.key_burst. */
msock_err msock_derpd_config_apply_rates(msock_config *c, const char *file_name,
                                         const uint8_t *bytes, size_t len,
                                         msock_config_report *report);

/* "192.0.2.1:443", "[::1]:443" or ":443" (family 0: every address of this machine). */
msock_err msock_derpd_parse_listen(const char *text, msock_addr *out);
/* "none" alone means that there is no such listener. */
bool msock_derpd_is_none(const msock_config_strings *list);

#endif
