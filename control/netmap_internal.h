/* control/netmap_internal.h: the inside of the store and of an update, shared by netmap.c (values
 * and look-ups), netmap_parse.c (message to update), netmap_commit.c (update to store) and
 * netmap_routes.c. */
#ifndef MSOCK_CONTROL_NETMAP_INTERNAL_H
#define MSOCK_CONTROL_NETMAP_INTERNAL_H

#include <json-c/json.h>

#include "control/json_split.h"
#include "control/netmap.h"
#include "control/netmap_update.h"

#define NETMAP_DIGEST_LEN 32u
#define NETMAP_CLOCK_SLACK_US (60 * MSOCK_SEC)     /* control.md 5.1 */
#define NETMAP_EXPIRY_RECHECK_US (600 * MSOCK_SEC) /* ours: a stepped wall clock is noticed */

typedef struct netmap_peers { /* owned nodes */
  msock_peer **p;
  size_t n, cap;
} netmap_peers;

enum { /* netmap_patch.has */
       PATCH_DERP = 1u << 0,
       PATCH_CAP = 1u << 1,
       PATCH_CAPS = 1u << 2,
       PATCH_ENDPOINTS = 1u << 3,
       PATCH_KEY = 1u << 4,
       PATCH_DISCO = 1u << 5,
       PATCH_ONLINE = 1u << 6,
       PATCH_LAST_SEEN = 1u << 7, /* last_seen_us 0 clears it */
       PATCH_KEY_EXPIRY = 1u << 8,
       PATCH_SEEN_NOW = 1u << 9 /* PeerSeenChange true */
};

typedef struct netmap_patch {
  uint64_t id;
  uint32_t has;
  uint32_t cap;
  msock_region_id home_derp;
  msock_node_key key;
  msock_disco_key disco;
  uint8_t online;
  uint64_t last_seen_us, key_expiry_us;
  msock_addr *endpoints;
  uint16_t n_endpoints;
  msock_strlist caps;
} netmap_patch;

typedef struct netmap_patches {
  netmap_patch *p;
  size_t n, cap;
} netmap_patches;

typedef struct netmap_filter_set {
  char *name;
  bool legacy;  /* in an update: came as PacketFilter */
  bool deleted; /* in an update: null */
  msock_policy policy;
  uint8_t digest[NETMAP_DIGEST_LEN]; /* over the rules' texts */
} netmap_filter_set;

typedef struct netmap_score {
  msock_region_id id;
  double score;
} netmap_score;

typedef struct netmap_display {
  bool deleted;
  msock_health_message m;
} netmap_display;

struct msock_netmap_update {
  const msock_env *env;
  msock_netmap *nm;
  msock_json_split *split;
  json_tokener *tokener;
  bool ended; /* the top value was complete and an object */
  msock_map_notice notice;

  msock_peer *self;
  bool has_peers;
  netmap_peers peers, changed;
  uint64_t *removed;
  size_t n_removed, cap_removed;
  netmap_patches early_patches; /* PeerSeenChange, OnlineChange: applied before the others */
  netmap_patches patches;
  msock_user_profile *users;
  size_t n_users, cap_users;

  bool has_regions;
  msock_derp_map derp;
  size_t cap_regions;
  bool has_scores;
  netmap_score *scores;
  size_t n_scores, cap_scores;

  bool clear_filters;
  netmap_filter_set *sets; /* in the order of the message */
  size_t n_sets, cap_sets;
  size_t n_rules;

  bool has_dns;
  msock_dns_config dns;
  uint8_t dns_digest[NETMAP_DIGEST_LEN];

  char *domain;
  bool has_health;
  bool clear_display;
  netmap_display *display; /* both forms; ids "" = Health */
  size_t n_display, cap_display;

  bool has_control_time;
  uint64_t control_time_us;
  uint64_t bad_elements, over_bounds, skipped_endpoints;
};

struct msock_netmap {
  const msock_env *env;
  bool allow_loopback;
  msock_peer *self;
  netmap_peers peers;  /* ascending id */
  uint32_t *key_slots; /* hash of node key -> index + 1; visible peers only */
  size_t n_key_slots;  /* a power of two */

  msock_derp_map derp;
  netmap_score *scores;
  size_t n_scores;

  bool filter_seen;
  netmap_filter_set *sets;
  size_t n_sets;
  msock_policy filter; /* shallow union of the sets' rules */

  msock_dns_config dns;
  uint8_t dns_digest[NETMAP_DIGEST_LEN];
  msock_user_profile *users; /* ascending id */
  size_t n_users, cap_users;
  char *domain;
  msock_health_message *health;
  size_t n_health;

  int64_t clock_offset_us;
  uint64_t expiry_due_us; /* now_us time */

  msock_netmap_change *changes; /* ring */
  size_t changes_at, n_changes, cap_changes;
  bool resync;
  msock_netmap_stats stats;
};

/* netmap.c: values */
void netmap_peer_free(msock_peer *p);
msock_peer *netmap_peer_copy(const msock_peer *p); /* NULL when out of memory */
/* Bits of what differs. */
uint32_t netmap_peer_diff(const msock_peer *a, const msock_peer *b);
void netmap_peers_clear(netmap_peers *v);
bool netmap_peers_push(netmap_peers *v, msock_peer *p); /* false: out of memory, p not taken */
/* Grows *p (elements of size) so that index n exists; false when out of memory. */
bool netmap_grow(void **p, size_t *cap, size_t n, size_t size);
bool netmap_strlist_add(msock_strlist *l, const char *text); /* false: out of memory */
void netmap_strlist_clear(msock_strlist *l);
bool netmap_strlist_copy(msock_strlist *to, const msock_strlist *from);
bool netmap_strlist_equal(const msock_strlist *a, const msock_strlist *b);
void netmap_dns_clear(msock_dns_config *d);
void netmap_health_clear(msock_health_message *m);
void netmap_set_clear(netmap_filter_set *s);
void netmap_patch_clear(netmap_patch *p);
void netmap_user_clear(msock_user_profile *u);
void netmap_push_change(msock_netmap *nm, msock_netmap_change c);
uint64_t netmap_server_now(const msock_netmap *nm, uint64_t wall_us);
bool netmap_is_expired(const msock_peer *p, uint64_t server_us);
/* Rebuilds key_slots and says in shadow[i] (of n peers) who loses a conflict. */
bool netmap_index(const netmap_peers *peers, const msock_peer *self, bool *shadow, uint32_t **slots,
                  size_t *n_slots, uint64_t *conflicts);

/* node_json.c: *out is NULL with MSOCK_OK never; MSOCK_ERR_INVALID: no ID or no key. */
msock_err netmap_node_parse(json_object *o, bool allow_loopback, msock_peer **out,
                            uint64_t *skipped_endpoints);
msock_err netmap_patch_parse(json_object *o, bool allow_loopback, netmap_patch *out,
                             uint64_t *skipped_endpoints);
/* A copy of text with control bytes as '?', cut at max bytes; NULL text gives "". */
char *netmap_text(const char *text, size_t max);
/* Field helpers: NULL / fallback when absent or of another type. */
const char *netmap_str(json_object *o, const char *field);
bool netmap_bool(json_object *o, const char *field);
/* 0 when absent, not a number or negative. */
uint64_t netmap_uint(json_object *o, const char *field);
json_object *netmap_array(json_object *o, const char *field);

/* rules_json.c: MSOCK_ERR_UNKNOWN = skip this rule (SrcBits, Bits). */
msock_err netmap_rule_parse(json_object *o, msock_policy_rule *out, uint64_t *bad_entries);
/* derp_json.c: MSOCK_ERR_INVALID = no id. */
msock_err netmap_region_parse(json_object *o, const char *key, msock_derp_region *out);

#endif
