/* tests/sim/nat.h: one NAT box as a table: which outside port an inside socket gets towards whom,
 * and what may come back (RFC 4787 words). Pure: the network of net.h asks it for each packet. */
#ifndef MSOCK_TESTS_SIM_NAT_H
#define MSOCK_TESTS_SIM_NAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "tests/sim/world.h"

#define SIM_NAT_UDP_US (120 * MSOCK_SEC)  /* mapping life without outbound traffic */
#define SIM_NAT_TCP_US (7200 * MSOCK_SEC) /* the same for streams */
#define SIM_NAT_TABLE 4096u               /* mappings; full: the longest unused one is replaced */
#define SIM_NAT_REMOTES 4096u /* of one mapping, for filtering; full: the longest unused goes */
#define SIM_NAT_FIRST_PORT 1024u

typedef enum sim_mapping {
  SIM_EIM = 0,        /* one outside port for an inside socket, whoever it talks to */
  SIM_ADM,            /* one for each remote address */
  SIM_EDM_SEQUENTIAL, /* one for each remote address and port; the next free port */
  SIM_EDM_RANDOM      /* the same; a random port */
} sim_mapping;

typedef enum sim_filtering {
  SIM_EIF = 0, /* anybody may send to a mapping */
  SIM_ADF,     /* addresses it has sent to */
  SIM_APDF     /* addresses and ports it has sent to */
} sim_filtering;

typedef struct sim_nat_config {
  sim_mapping mapping;
  sim_filtering filtering;
  bool preserve_port; /* the inside port when it is free outside (with EDM: for the first remote) */
  bool hairpin;       /* inside hosts reach each other by their outside addresses */
  uint64_t udp_us;    /* mapping life; 0: SIM_NAT_UDP_US */
  uint32_t table;     /* bound; 0: SIM_NAT_TABLE */
} sim_nat_config;

typedef enum sim_proto { SIM_UDP = 0, SIM_TCP } sim_proto;

typedef struct sim_nat_table sim_nat_table;
sim_nat_table *sim_nat_table_new(const sim_nat_config *config, sim_rng rng);
void sim_nat_table_free(sim_nat_table *t);

/* A packet from inside to remote: the outside port, made or refreshed. 0: no port is left. */
uint16_t sim_nat_out(sim_nat_table *t, uint64_t now_us, sim_proto proto, const msock_addr *inside,
                     const msock_addr *remote);
/* A packet from remote to the outside port: true with *inside when it passes. Does not refresh. */
bool sim_nat_in(sim_nat_table *t, uint64_t now_us, sim_proto proto, uint16_t port,
                const msock_addr *remote, msock_addr *inside);
/* Whose the outside port is, whoever asks; changes nothing. */
bool sim_nat_peek(const sim_nat_table *t, sim_proto proto, uint16_t port, msock_addr *inside);
/* Forgets everything, or the mappings of one inside socket. */
void sim_nat_flush(sim_nat_table *t);
void sim_nat_flush_socket(sim_nat_table *t, const msock_addr *inside);
/* A manual forward: the outside port always leads to inside, whoever sends; answers to them leave
 * by it, everything else as without it. */
void sim_nat_forward(sim_nat_table *t, uint16_t port, const msock_addr *inside);
uint32_t sim_nat_count(const sim_nat_table *t, uint64_t now_us); /* live mappings */
const sim_nat_config *sim_nat_get_config(const sim_nat_table *t);

#endif
