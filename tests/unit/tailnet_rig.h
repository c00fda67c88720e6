/* tests/unit/tailnet_rig.h: a tailnet and our client machines joined to it by byte pipes in memory,
 * on virtual time. */
#ifndef MSOCK_TESTS_TAILNET_RIG_H
#define MSOCK_TESTS_TAILNET_RIG_H

#include "control/channel.h"
#include "control/control.h"
#include "control/server_conn.h"
#include "control/tailnet.h"
#include "tests/unit/testing.h"

#define TRIG_CLIENTS 4
#define TRIG_KEY "key-of-the-test-tailnet"

typedef struct trig trig;

typedef struct trig_client {
  trig *rig;
  msock_control *c;
  msock_server_conn *s; /* NULL: no connection */
  uint64_t conn;
  bool cut; /* its network is gone: no dial succeeds */
  size_t dials, errors;
  msock_control_error last_error;
  bool logged_out;
} trig_client;

struct trig {
  testing_rng rng;
  msock_env env;
  msock_machine_private server;
  msock_tailnet *t;
  msock_derp_map map;
  msock_derp_region region;
  msock_derp_node node;
  trig_client clients[TRIG_CLIENTS];
  uint64_t now, wall, last_conn;
  size_t chunk; /* bytes per step; 0 = all */
};

typedef struct trig_options {
  const char *policy;
  const char *auth_key; /* of the server; NULL: open */
  uint32_t fakes;
} trig_options;

void trig_init(trig *r, const trig_options *o);
void trig_free(trig *r);
/* A client machine with this host name and key (NULL: none), wanting to run. */
trig_client *trig_client_add(trig *r, const char *hostname, const char *auth_key);
/* Moves bytes, actions and outputs until nothing happens. */
void trig_pump(trig *r);
/* Moves the clock to t (absolute), stopping at every deadline. */
void trig_until(trig *r, uint64_t t);
/* The connection goes without a word. */
void trig_cut(trig_client *c);
bool trig_running(const trig_client *c);
/* How c sees another client; NULL = not at all. */
const msock_peer *trig_sees(const trig_client *c, const trig_client *other);
void trig_set_home(trig_client *c, msock_region_id region);
void trig_set_endpoint(trig_client *c, const char *text);
size_t trig_keep_alives(const trig_client *c);

#endif
