/* tests/unit/node_rig.h: whole nodes, a control server and a relay in one process, on one loop and
 * on real sockets of the loopback. As root in a network namespace of the test's own. */
#ifndef MSOCK_TESTS_NODE_RIG_H
#define MSOCK_TESTS_NODE_RIG_H

#include "node/anonymize.h"
#include "node/node.h"
#include "node/node_internal.h"
#include "tests/unit/io_testing.h"
#include "tests/unit/testing.h"
#include "tscontrol/relay.h"
#include "tscontrol/server.h"

#define NODE_RIG_NODES 2u
#define NODE_RIG_FLAGS_MAX 16u
#define NODE_RIG_LOG_MAX 65536u

typedef struct node_rig_node {
  char dir[64], flags[8][128];
  const char *all[NODE_RIG_FLAGS_MAX];
  char state[96], socket[96];
  msock_settings *settings;
  msock_egress *egress;
  msock_tls_roots *roots;
  msock_http *http;
  msock_node_options opt;
  msock_node *n;
  msock_log log;
  msock_anonymous_log anonymous; /* in front of it in the privacy profile, as in the daemon */
  char text[NODE_RIG_LOG_MAX];   /* "level event text" lines; full: the test fails */
  size_t len;
} node_rig_node;

typedef struct node_rig {
  bool own_namespace;
  char host[MSOCK_IP_TEXT_MAX]; /* where control server and relay are */
  msock_loop *loop;
  msock_egress *egress;
  msock_log log; /* of the control server: its newest line about the endpoints of each node */
  char told[NODE_RIG_NODES][1024];
  msock_env env;
  msock_machine_private key;
  msock_tscontrol_relay *relay;
  msock_tailnet *tailnet;
  msock_tscontrol *server;
  node_rig_node node[NODE_RIG_NODES];
} node_rig;

/* Enters a namespace of its own when this is root (lo up, nothing else); gives whether it did. Call
 * it before anything opens a socket. */
bool node_rig_enter_namespace(void);
node_rig *node_rig_new(void); /* namespace, control server and relay; no nodes yet */
/* The same at an address of the namespace's own; only as root. */
node_rig *node_rig_new_at(const char *ip);
/* Node i, with these flags besides what the rig needs; NULL ends them. env NULL: the loop's. */
void node_rig_start(node_rig *r, size_t i, const msock_env *env, const char *const *flags);
void node_rig_stop(node_rig *r, size_t i); /* no-op when it does not run */
void node_rig_free(node_rig *r);

/* Turns until cond(r) holds or 20 s passed; gives whether it holds. */
bool node_rig_wait(node_rig *r, bool (*cond)(node_rig *r));
void node_rig_turns(node_rig *r, uint64_t us); /* turns for that long */
bool node_rig_running(const node_rig *r, size_t i);
/* Whether node i sends to node j directly now. */
bool node_rig_direct(const node_rig *r, size_t i, size_t j);
uint32_t node_rig_path_id(const node_rig *r, size_t i, size_t j);
msock_node_key node_rig_key(const node_rig *r, size_t i);
/* Lines of node i's log that hold all of these words (up to a NULL). */
size_t node_rig_lines(const node_rig *r, size_t i, const char *first, ...)
    __attribute__((sentinel));
/* The inode behind a descriptor of this process; 0 = none. */
uint64_t node_rig_inode(int fd);
size_t node_rig_open_fds(void);

#endif
