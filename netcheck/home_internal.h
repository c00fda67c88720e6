/* netcheck/home_internal.h: state of the home machine, shared by home.c (rounds, choice, report)
 * and home_nodes.c (which node of a region is asked, at which address). */
#ifndef MSOCK_NETCHECK_HOME_INTERNAL_H
#define MSOCK_NETCHECK_HOME_INTERNAL_H

#include "netcheck/choice.h"
#include "netcheck/home.h"
#include "netcheck/plan.h"
#include "netcheck/transactions.h"

/* Reports that are kept for the choice: 5 min + 5 s of them (netcheck.md 2.6), at 20 s or more
 * apart; when more are asked for, the oldest goes. */
#define HOME_HISTORY_MAX 16u

typedef enum name_state {
  NAME_IDLE = 0, /* not needed, or not asked for yet */
  NAME_WANTED,   /* to be asked */
  NAME_ASKED,
  NAME_DONE /* answered, or it failed */
} name_state;

typedef struct home_node {
  name_state name;
  msock_ip v4, v6; /* of the name or the literal; family 0 = unknown */
} home_node;

typedef enum tcp_state { TCP_IDLE = 0, TCP_WANTED, TCP_ASKED, TCP_DONE } tcp_state;

typedef struct home_sample {
  uint64_t at_us, rtt_us;
} home_sample;

typedef struct home_region {
  home_node *nodes;                      /* one per node of the map's region */
  home_sample history[HOME_HISTORY_MAX]; /* oldest first */
  size_t n_history;
  uint64_t heard_us;             /* last DERP frame; MSOCK_NEVER = none */
  uint64_t v4_us, v6_us, tcp_us; /* this round; 0 = not measured */
  uint64_t last_us;              /* of the last report */
  tcp_state tcp;
  size_t tcp_node;
  uint64_t tcp_sent_us;
} home_region;

typedef struct home_set {
  msock_plan_set plan;
  uint8_t next; /* try that comes next */
  bool done;    /* answered, or nobody to ask */
} home_set;

typedef enum home_phase { PHASE_IDLE = 0, PHASE_STUN, PHASE_TCP } home_phase;

struct msock_home {
  msock_home_config config;
  msock_derp_map map;
  home_region *regions; /* one per region of the map */
  home_node *nodes;     /* all of them; regions point into it */
  home_set *sets;
  size_t n_sets;
  msock_stun_table inflight;

  bool running, control_up;
  home_phase phase;
  uint32_t name_epoch, tcp_epoch; /* answers to older questions are ignored */
  bool full;                      /* the running round */
  bool full_wanted, again;        /* ask: the next round is full; start it at once */
  uint64_t round_us;              /* start of the running round */
  uint64_t last_full_us;          /* MSOCK_NEVER = none yet */
  uint64_t next_round_us, decide_us, stop_us;

  msock_region_id home;
  bool home_changed, report_filed; /* outputs that wait */
  msock_home_report now;           /* of the running round */
  msock_addr first_v4_server;
  bool had_v4, had_v6; /* answers in the last report */
  msock_home_report report;
  msock_home_stats stats;
};

/* An address of a node: known, or perhaps later, or never. */
typedef enum home_address { ADDRESS_NEVER = 0, ADDRESS_LATER, ADDRESS_KNOWN } home_address;

/* Fills literals and forgets names. */
void home_nodes_reset(msock_home *h);
/* Marks the names that a round needs: nodes that STUN (or the relay port, with tcp) would use.
 * again: also those that are known. */
void home_nodes_want(msock_home *h, size_t region, bool tcp, bool again);
/* Can STUN reach the region over the family, now or when names are known. Counts nodes that are
 * skipped because of their name. */
bool home_nodes_have_stun(msock_home *h, size_t region, uint8_t family);
/* The node for try k of a set. */
home_address home_nodes_pick_stun(const msock_home *h, const msock_plan_set *set, unsigned k,
                                  size_t *node, msock_addr *addr);
/* The relay port of a node. */
home_address home_nodes_relay(const msock_home *h, size_t region, size_t node, msock_addr *addr);
/* The next node whose name is to be asked; false when there is none. */
bool home_nodes_next_name(msock_home *h, size_t *region, size_t *node);
/* May the region be home: it has a relay node and the map lets it. */
bool home_region_eligible(const msock_derp_region *r);

#endif
