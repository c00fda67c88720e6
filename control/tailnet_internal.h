/* control/tailnet_internal.h: what tailnet.c (who hears what) and tailnet_text.c (the JSON) share.
 */
#ifndef MSOCK_CONTROL_TAILNET_INTERNAL_H
#define MSOCK_CONTROL_TAILNET_INTERNAL_H

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
  char *endpoints; /* elements of a JSON array, checked; NULL = none */
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

/* The first message of n's stream, and the news of n for the others. */
void msock_tailnet_full_text(const msock_tailnet *t, const tailnet_node *n, uint64_t wall_us,
                             tailnet_text *out);
void msock_tailnet_changed_text(const msock_tailnet *t, const tailnet_node *n, uint64_t wall_us,
                                tailnet_text *out);
/* Length prefix and, when asked, one zstd frame (control.md 4.2). False: no memory. */
bool msock_tailnet_frame(const char *json, size_t len, bool compress, uint8_t **out,
                         size_t *out_len);

#endif
