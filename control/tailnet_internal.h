/* control/tailnet_internal.h: what the files of the tiny control server share. */
#ifndef MSOCK_CONTROL_TAILNET_INTERNAL_H
#define MSOCK_CONTROL_TAILNET_INTERNAL_H

#include <json-c/json.h>

#include "base/addr.h"
#include "control/tailnet.h"

typedef struct tailnet_node {
  uint64_t id;
  msock_machine_key machine;
  msock_node_key key;
  msock_disco_key disco;
  char hostname[64];
  char name[64]; /* unique DNS label */
  char os[32];
  char *endpoints;      /* elements of a JSON array, as we print addresses; NULL = none */
  char *endpoint_types; /* of each, by commas; 0 = the node did not say */
  int64_t home_derp;
  uint64_t created_us;
  uint64_t conn;
  int32_t stream; /* its map stream; 0 = offline */
  bool compress;
  uint64_t keepalive_us;
} tailnet_node;

typedef struct tailnet_item {
  struct tailnet_item *next;
  msock_tailnet_out out;
} tailnet_item;

typedef struct tailnet_fake {
  uint8_t key[32], disco[32];
} tailnet_fake;

struct msock_tailnet {
  const msock_env *env;
  msock_tailnet_cfg cfg;
  char *derp_map; /* value of DERPMap */
  msock_region_id first_region;
  tailnet_node *nodes[MSOCK_TAILNET_NODES_MAX];
  size_t n_nodes;
  uint64_t last_id;
  uint64_t now_us; /* of the newest call that had it */
  bool dirty;
  tailnet_fake *fakes;
  tailnet_item *out_head, **out_tail;
};

/* Growing text; bad = no memory. */
typedef struct tailnet_text {
  char *p;
  size_t len, cap;
  bool bad;
} tailnet_text;
void msock_tailnet_addf(tailnet_text *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* A JSON string of any text. */
void msock_tailnet_add_string(tailnet_text *t, const char *s);

/* tailnet.c */
void msock_tailnet_respond(msock_tailnet *t, uint64_t conn, int32_t stream, int status,
                           const char *text);
tailnet_node *msock_tailnet_by_machine(msock_tailnet *t, const msock_machine_key *m);
/* NULL: full, or no memory. */
tailnet_node *msock_tailnet_add(msock_tailnet *t, uint64_t wall_us, const msock_machine_key *m);
void msock_tailnet_remove(msock_tailnet *t, uint64_t now_us, tailnet_node *n);
/* Sets the host name and the DNS label made of it; true when it is another one. */
bool msock_tailnet_rename(msock_tailnet *t, tailnet_node *n, const char *hostname);
/* Tells the others of n as it is now. */
void msock_tailnet_announce(msock_tailnet *t, uint64_t now_us, uint64_t wall_us,
                            const tailnet_node *n);
/* One map message for a node, or for every node but one (NULL: for all). */
void msock_tailnet_send(msock_tailnet *t, uint64_t now_us, tailnet_node *n,
                        const tailnet_text *msg);
void msock_tailnet_send_others(msock_tailnet *t, uint64_t now_us, const tailnet_node *but,
                               const tailnet_text *msg);
/* Makes this stream n's map stream, in place of any before, and sends the first message. */
void msock_tailnet_open_stream(msock_tailnet *t, uint64_t now_us, uint64_t wall_us, uint64_t conn,
                               int32_t stream, tailnet_node *n, bool compress);
/* Member of an object; "" or NULL when absent or of another type. */
const char *msock_tailnet_str(json_object *o, const char *name);

/* tailnet_files.c: the value of DERPMap, allocated; NULL: no memory. */
char *msock_tailnet_derp_text(const msock_derp_map *m);

/* The first message of n's stream, and the news of n for the others. */
void msock_tailnet_full_text(const msock_tailnet *t, const tailnet_node *n, uint64_t wall_us,
                             tailnet_text *out);
void msock_tailnet_changed_text(const msock_tailnet *t, const tailnet_node *n, uint64_t wall_us,
                                tailnet_text *out);
/* A peer's record, as in Peers and PeersChanged: fake i < cfg.fake_peers. */
void msock_tailnet_add_fake(const msock_tailnet *t, uint32_t i, tailnet_text *out);
#define MSOCK_TAILNET_FAKE_ID_BASE 1000000u /* node id of fake 0 */
/* Length prefix and, when asked, one zstd frame (control.md 4.2). False: no memory. */
bool msock_tailnet_frame(const char *json, size_t len, bool compress, uint8_t **out,
                         size_t *out_len);

#endif
