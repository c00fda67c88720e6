/* tests/unit/control_rig.h: a client machine and a peer on one virtual clock. */
#ifndef MSOCK_TESTS_CONTROL_RIG_H
#define MSOCK_TESTS_CONTROL_RIG_H

#include "control/control.h"
#include "tests/unit/control_peer.h"
#include "tests/unit/testing.h"

#define RIG_EVENTS 64
#define RIG_PINGS 8

typedef struct rig {
  testing_rng rng, peer_rng;
  testing_log log;
  msock_env env, peer_env;
  msock_machine_private server, machine;
  msock_control *c;
  peer *p; /* of the present connection, NULL when none */
  uint64_t now, wall;
  size_t chunk; /* bytes per segment, 0 = all at once */
  size_t fetches, dials, closes;
  bool dialing; /* a DIAL waits for rig_accept or rig_refuse */
  msock_control_action dial;
  bool fetching;
  char key_path[64];
  char pings[RIG_PINGS][512];
  size_t n_pings;
  bool auto_accept; /* take each DIAL at once */
  bool auto_key;    /* answer each FETCH_KEY with the server's key at once */
  msock_control_event events[RIG_EVENTS];
  size_t n_events;
} rig;

typedef struct rig_options {
  bool https, pin, stored, wrong_key, know_key;
  const char *host;
  const char *auth_key;
  uint16_t port;
} rig_options;

void rig_init(rig *r, uint64_t seed, const rig_options *o);
void rig_free(rig *r);
/* Moves bytes, actions and events until nothing happens. */
void rig_pump(rig *r);
/* Moves the clock to t (absolute), stopping at each deadline. */
void rig_until(rig *r, uint64_t t);
void rig_accept(rig *r);
void rig_down(rig *r, msock_conn_down why);
void rig_answer_key(rig *r, const msock_machine_private *server);
/* Next request that came; fails the test when there is none or its path differs. */
peer_stream *rig_request(rig *r, const char *path);
/* No request waits. */
bool rig_idle(rig *r);
size_t rig_count(const rig *r, msock_control_event_kind kind);
size_t rig_count_error(const rig *r, msock_control_error e);
/* Answers register with success / opens the map with this JSON as the first message. */
void rig_register_ok(rig *r);
peer_stream *rig_open_map(rig *r, const char *json);
/* One framed zstd message on a stream. */
void rig_map(rig *r, peer_stream *s, const char *json);
uint8_t *rig_frame(const char *json, size_t len, bool zstd, size_t *out_len);
/* Self node JSON with the machine's present node key; extra: more members with a leading comma. */
void rig_self(rig *r, char *buf, size_t cap, const char *extra, const char *top);
/* All the way to RUNNING; gives the map stream. */
peer_stream *rig_running(rig *r);

#endif
