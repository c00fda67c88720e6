/* tests/sim/net_internal.h: what net.c (topology), net_udp.c and net_stream.c share. */
#ifndef MSOCK_TESTS_SIM_NET_INTERNAL_H
#define MSOCK_TESTS_SIM_NET_INTERNAL_H

#include "tests/sim/net.h"

#define SIM_CHAIN 4u /* boxes on one side of a path; more: the packet is lost */

/* Who has an address in a realm: a host or a box. */
typedef struct sim_owner {
  msock_ip ip;
  sim_host *host; /* NULL: box */
  sim_nat *box;
} sim_owner;

struct sim_realm {
  sim_nat *gateway; /* the box whose inside this is; NULL: the internet */
  msock_prefix prefix;
  uint8_t bits;      /* of an interface in it */
  uint32_t next_ip;  /* last number given */
  sim_owner *owners; /* sorted by address */
  size_t n, cap;
};

struct sim_nat {
  sim_nat *next;
  sim_net *net;
  char name[24];
  sim_realm inside, *outside;
  msock_ip ip;
  bool cgnat;
  sim_nat_table *table;
  uint64_t down_until_us;
};

struct sim_host {
  sim_host *next;
  sim_net *net;
  uint32_t id;
  char name[24];
  bool on;
  sim_interface interfaces[SIM_INTERFACES]; /* index = place + 1 */
  uint32_t n_interfaces;
  sim_link up, down;
  sim_rng rng; /* ephemeral ports */
  struct sim_udp *sockets;
  struct sim_listener *listeners;
  struct sim_stream *streams;
  sim_event changed;
  void (*on_change)(void *ctx);
  void *on_change_ctx;
};

/* Extra figures of an ordered pair, and when its last datagram arrives (order under jitter). */
typedef struct sim_pair {
  uint32_t from, to;
  bool used, has_link;
  sim_link link;
  uint64_t last_us;
} sim_pair;

struct sim_udp {
  sim_udp *next, **self;
  sim_host *host;
  uint64_t serial;
  msock_addr local; /* as bound */
  sim_udp_cb cb;
  void *ctx;
};

struct sim_net {
  sim_world *w;
  sim_realm internet;
  sim_nat *boxes;
  sim_host *hosts;
  uint32_t n_hosts, n_boxes;
  uint64_t n_sockets; /* ever */
  sim_rng rng;        /* loss, jitter */
  sim_pair *pairs;
  uint32_t n_pairs, cap_pairs; /* open addressing, cap is a power of two */
  void (*tap)(void *ctx, const sim_tap_event *ev);
  void *tap_ctx;
  sim_net_stats stats;
  struct sim_flight *flights; /* ring of datagrams under way */
};

/* The outcome of going out through boxes: where the destination's address lives, and what the
 * source looks like there. */
typedef struct sim_climb {
  sim_realm *realm;
  msock_addr src;
  bool lan;         /* never left the neighbourhood */
  const char *lost; /* NULL: found somebody */
} sim_climb;
void sim_net_climb(sim_net *n, sim_realm *from, sim_proto proto, const msock_addr *src,
                   const msock_addr *dst, sim_climb *out);
/* Going in, through the boxes at dst: the host and its inside address. NULL with *why: not let in.
 * peek: nothing changes, filters are not asked. */
sim_host *sim_net_descend(sim_net *n, sim_realm *at, sim_proto proto, const msock_addr *src,
                          const msock_addr *dst, bool peek, msock_addr *inside, const char **why);

/* The interface for a destination; fixed: bound source address, or family 0. NULL: errno is in
 * *error. */
const sim_interface *sim_host_route(const sim_host *h, const msock_addr *to, const msock_ip *fixed,
                                    int *error);
bool sim_host_has(const sim_host *h, const msock_ip *ip);
uint16_t sim_host_ephemeral(sim_host *h, bool (*taken)(const sim_host *h, uint16_t port));

/* One way's delay from one host to another (to NULL: unknown), jitter drawn; lan as in sim_climb.
 */
uint64_t sim_net_delay(sim_net *n, const sim_host *from, const sim_host *to, bool lan);
uint32_t sim_net_loss_permille(const sim_net *n, const sim_host *from, const sim_host *to);
/* NULL: there is nothing about this pair. make: then it is made. */
sim_pair *sim_net_pair(const sim_net *n, const sim_host *from, const sim_host *to);
sim_pair *sim_net_make_pair(sim_net *n, const sim_host *from, const sim_host *to);

/* net_udp.c, net_stream.c: when the network goes. */
void sim_net_free_udp(sim_net *n);
void sim_host_free_streams(sim_host *h);

#endif
