/* tests/unit/engine_rig.h: path engines back to back on a network in memory, on virtual time: NATs
 * that rewrite addresses, a relay, STUN servers, latency and loss. */
#ifndef MSOCK_TESTS_ENGINE_RIG_H
#define MSOCK_TESTS_ENGINE_RIG_H

#include "magicsock/magicsock.h"
#include "tests/unit/testing.h"

#define RIG_NODES 3u
#define RIG_LOG 8192u
#define RIG_FLIGHT 4096u
#define RIG_MAPPINGS 64u
#define RIG_PORT 41641u /* of every socket, inside */
#define RIG_REGION 7u   /* everybody's home */
#define RIG_PING_LEN 124u
#define RIG_PONG_LEN 110u

typedef enum rig_nat {
  RIG_PUBLIC = 0, /* no NAT */
  RIG_CONE,       /* one mapping, everybody may answer */
  RIG_RESTRICTED, /* one mapping, only who was sent to may answer */
  RIG_SYMMETRIC,  /* a mapping for each destination, only it may answer */
  RIG_BLOCKED     /* no UDP */
} rig_nat;

/* An output of an engine, as it was polled. */
typedef struct rig_entry {
  uint64_t at_us;
  uint32_t node;
  msock_engine_output out;
  size_t len;
} rig_entry;

typedef struct rig_mapping {
  msock_addr dst; /* who may answer; RIG_SYMMETRIC: whose mapping it is */
  uint16_t port;  /* outside */
} rig_mapping;

typedef struct rig_node {
  msock_engine *e;
  testing_rng rng;
  msock_node_key node;
  msock_disco_private disco;
  rig_nat nat;
  msock_ip inside, outside;
  rig_mapping mappings[RIG_MAPPINGS];
  uint32_t n_mappings;
  uint16_t next_port;
  bool stun_silent; /* servers do not answer */
  bool udp_out_cut; /* what it sends does not arrive */
  bool udp_cut;     /* nothing passes any more, either way */
  uint64_t data_got_udp, data_got_derp;
} rig_node;

typedef struct rig_flight {
  uint64_t at_us, order;
  uint32_t to;
  bool derp, data, stun;
  uint32_t from; /* node index */
  msock_addr src, dst;
  uint8_t bytes[256];
  size_t len;
} rig_flight;

typedef struct rig {
  uint64_t now_us;
  uint64_t one_way_us, derp_us, stun_us; /* latencies; stun: there and back */
  uint32_t loss_permille;                /* of UDP, each way */
  testing_rng rng;
  uint32_t n;
  rig_node node[RIG_NODES];
  rig_flight flight[RIG_FLIGHT];
  uint32_t n_flight;
  uint64_t order;
  rig_entry log[RIG_LOG]; /* of all outputs; full: the test fails */
  uint32_t n_log;
  bool log_off;
} rig;

/* Nodes with engines and sockets; nobody knows anybody yet. cfg is used for all; its self is set.
 */
rig *rig_new(uint64_t seed, uint32_t n, const msock_engine_config *cfg);
void rig_free(rig *r);
void rig_socket(rig *r, uint32_t i); /* binds and gives the local address, as the node does */
/* Everybody gets everybody as peer; endpoints: what their last publication lists. */
void rig_meet(rig *r);
void rig_know(rig *r, uint32_t who, uint32_t whom, const msock_addr *ep, size_t n);
/* Runs until t inclusive: every expiry and arrival at its own time. */
void rig_run(rig *r, uint64_t t);
void rig_poll(rig *r, uint32_t i);
/* One WireGuard datagram, by the route of the moment. */
void rig_data(rig *r, uint32_t from, uint32_t to);
/* The same every interval until t; both ways when two_way. */
void rig_traffic(rig *r, uint32_t a, uint32_t b, uint64_t interval_us, bool two_way, uint64_t t);
bool rig_direct(const rig *r, uint32_t a, uint32_t b);
uint32_t rig_id(const rig *r, uint32_t who, uint32_t whom);
/* Log entries of node with that kind, and length when len > 0, in [from_us, to_us]. */
uint32_t rig_count(const rig *r, uint32_t node, msock_engine_output_kind kind, size_t len,
                   uint64_t from_us, uint64_t to_us);
/* The n-th such entry (0: first); NULL: there are fewer. */
const rig_entry *rig_find(const rig *r, uint32_t node, msock_engine_output_kind kind, size_t len,
                          uint64_t from_us, uint32_t nth);
/* Time at which a became direct to b, or MSOCK_NEVER. */
uint64_t rig_direct_at(const rig *r, uint32_t a, uint64_t from_us);
msock_addr rig_addr(const char *text);

#endif
