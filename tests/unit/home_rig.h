/* tests/unit/home_rig.h: a small world of STUN and HTTPS servers around netcheck's home machine, on
 * virtual time. */
#ifndef MSOCK_TESTS_HOME_RIG_H
#define MSOCK_TESTS_HOME_RIG_H

#include "netcheck/home.h"
#include "netcheck/transactions.h"
#include "tests/unit/testing.h"

#define MS MSOCK_MS
#define SEC MSOCK_SEC
#define SILENT 0u /* no answer, ever */

/* The world: server i is region i + 1 at 192.0.2.(i + 1). */
enum { SERVERS = 6, EVENTS = 512 };

typedef struct event {
  uint64_t at_us;
  msock_home_kind kind;
  msock_home_output cause;
  size_t server;
} event;

typedef struct world {
  msock_home *h;
  testing_rng rng;
  uint64_t now_us;
  msock_derp_map map;
  msock_derp_region regions[SERVERS];
  msock_derp_node nodes[SERVERS];
  uint64_t stun_us[SERVERS];    /* round trip; SILENT */
  uint64_t https_us[SERVERS];   /* request and answer; SILENT = refused after 1 ms;
                                 * MSOCK_NEVER = not even a time-out */
  int captive[SERVERS];         /* status on port 80; 0 = refused after 1 ms, < 0 no answer */
  const char *captive_response; /* header of those answers; NULL = as a relay's */
  uint64_t dns_us;
  msock_ip mapped;
  uint16_t port_step; /* the mapped port grows by this per server */
  event events[EVENTS];
  size_t n_events;
  size_t sent[SERVERS], requests[SERVERS], looks[SERVERS], lookups, reports;
  uint64_t report_at[64];
  size_t n_reflexive;
  msock_addr reflexive_server, reflexive; /* the last */
  bool idle;                              /* no traffic; else a packet at every step */
  unsigned send_fails;                    /* bit of each server that the system cannot send to */
  uint64_t sent_at[SERVERS][8], https_sent_at[SERVERS];
  msock_region_id changes[16];
  uint64_t changed_at[16];
  size_t n_changes;
} world;

world *world_new(size_t n);
/* Makes the machine; env is filled in. */
void world_config(world *w, msock_home_config config);
void world_free(world *w);
/* Bytes of the answer to a request that was sent. */
size_t world_answer(const world *w, const event *e, uint8_t dst[static 64]);
void world_drain(world *w);
/* Jumps from event to event; everything at end_us itself happens too. */
void run_until(world *w, uint64_t end_us);
void start(world *w);
const msock_home_report *report(const world *w);

#endif
