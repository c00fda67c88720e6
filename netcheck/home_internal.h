/* netcheck/home_internal.h: state of the home machine, shared by home.c (rounds, choice, report),
 * home_fallback.c (HTTPS and captive portals, where UDP gets no answer) and home_nodes.c (which
 * node of a region is asked, at which address). */
#ifndef MSOCK_NETCHECK_HOME_INTERNAL_H
#define MSOCK_NETCHECK_HOME_INTERNAL_H

#include "netcheck/choice.h"
#include "netcheck/home.h"
#include "netcheck/plan.h"
#include "netcheck/transactions.h"

/* Reports that are kept for the choice: 5 min + 5 s of them (netcheck.md 2.6), at 20 s or more
 * apart; when more are asked for, the oldest goes. */
#define HOME_HISTORY_MAX 16u
#define HOME_CAPTIVE_MAX 5u /* (R) requests of one look for a captive portal, netcheck.md 2.5 */

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

typedef enum https_state { HTTPS_IDLE = 0, HTTPS_WANTED, HTTPS_ASKED, HTTPS_DONE } https_state;

typedef struct home_sample {
  uint64_t at_us, rtt_us;
} home_sample;

typedef struct home_region {
  home_node *nodes;                      /* one per node of the map's region */
  home_sample history[HOME_HISTORY_MAX]; /* oldest first */
  size_t n_history;
  uint64_t heard_us;               /* last DERP frame; MSOCK_NEVER = none */
  uint64_t v4_us, v6_us, https_us; /* this round; 0 = not measured */
  uint64_t last_us;                /* of the last report */
  uint64_t derp_us;                /* last TCP connect to its relay; 0 = none */
  https_state https;
  size_t https_node; /* the one that is asked, or comes next */
  uint8_t https_family;
} home_region;

typedef struct home_set {
  msock_plan_set plan;
  uint8_t next; /* try that comes next */
  bool done;    /* answered, or nobody to ask */
} home_set;

typedef enum home_phase { PHASE_IDLE = 0, PHASE_STUN, PHASE_HTTPS } home_phase;

/* The look for a captive portal of the running round. */
typedef struct home_captive {
  uint64_t at_us; /* when it begins; MSOCK_NEVER = not (again) in this round */
  size_t n, next, open;
  struct {
    size_t region, node;
    bool done;
  } probes[HOME_CAPTIVE_MAX];
} home_captive;

typedef struct home_reflexive {
  msock_addr server, mapped;
} home_reflexive;

struct msock_home {
  msock_home_config config;
  msock_derp_map map;
  home_region *regions; /* one per region of the map */
  home_node *nodes;     /* all of them; regions point into it */
  home_set *sets;
  size_t n_sets;
  msock_stun_table inflight;
  /* Scratch of one call: 40 KiB that a stack would keep for good, and here are touched by as many
   * regions as there are. */
  msock_choice_region choice_in[MSOCK_DERP_REGIONS_MAX];
  msock_plan_region plan_in[MSOCK_DERP_REGIONS_MAX];
  msock_plan_set plan_sets[2 * MSOCK_DERP_REGIONS_MAX];

  bool running, control_up;
  home_phase phase;
  uint32_t name_epoch, round_epoch; /* answers to older questions are ignored */
  bool full;                        /* the running round */
  bool full_wanted, again;          /* ask: the next round is full; start it at once */
  uint64_t round_us;                /* start of the running round */
  uint64_t last_full_us;            /* MSOCK_NEVER = none yet */
  uint64_t next_round_us, decide_us, stop_us;
  uint64_t active_us; /* last traffic */
  bool paused;        /* a round was due, and nobody needed it */
  home_captive captive;

  msock_region_id home;
  bool home_changed, report_filed; /* outputs that wait */
  home_reflexive reflexive[MSOCK_HOME_REFLEXIVE_MAX];
  size_t n_reflexive;
  msock_home_report now; /* of the running round */
  msock_addr first_v4_server;
  bool had_v4, had_v6; /* answers in the last report */
  msock_home_report report;
  msock_home_stats stats;
};

/* An address of a node: known, or perhaps later, or never. */
typedef enum home_address { ADDRESS_NEVER = 0, ADDRESS_LATER, ADDRESS_KNOWN } home_address;

/* Fills literals and forgets names. */
void home_nodes_reset(msock_home *h);
/* Marks the names that a round needs: nodes that STUN (or with relay the relay port) would use.
 * again: also those that are known. */
void home_nodes_want(msock_home *h, size_t region, bool relay, bool again);
/* How many nodes STUN can reach over the family, now or when names are known. Counts nodes that are
 * skipped because of their name. */
size_t home_nodes_count_stun(msock_home *h, size_t region, uint8_t family);
/* The node for try k of a set. */
home_address home_nodes_pick_stun(const msock_home *h, const msock_plan_set *set, unsigned k,
                                  size_t *node, msock_addr *addr);
/* The relay port of a node. */
home_address home_nodes_relay(const msock_home *h, size_t region, size_t node, msock_addr *addr);
/* The next node whose name is to be asked; false when there is none. */
bool home_nodes_next_name(msock_home *h, size_t *region, size_t *node);
/* May the region be home: the map lets it, and it has a relay node that can be dialled. */
bool home_region_eligible(const msock_home *h, size_t region);

/* home.c. */
typedef enum home_question { QUESTION_NAME = 0, QUESTION_HTTPS, QUESTION_CAPTIVE } home_question;
uint32_t home_question_id(const msock_home *h, home_question q, size_t region, size_t node);
/* Splits an id; false when it is of another epoch or kind, or out of range. */
bool home_question_read(const msock_home *h, uint32_t id, home_question q, size_t *region,
                        size_t *node);
size_t home_region_index(const msock_home *h, msock_region_id id); /* n_regions: not in the map */
bool home_needs_home(const msock_home *h);
/* Brings the round to where time and answers allow. At the end of every input. */
void home_advance(msock_home *h, uint64_t now_us);

/* home_fallback.c. */
#define HOME_ROUND_LIMIT_US (5000u * MSOCK_MS) /* (R) netcheck.md 2.2: a round with fallbacks */
/* Begins HTTPS: every region that may be home and has no latency. */
void home_https_start(msock_home *h);
/* Moves regions to a node with an address; gives how many are still open. */
size_t home_https_open(msock_home *h);
bool home_https_next(msock_home *h, uint64_t now_us, msock_home_output *out);
/* The captive check: planned at the begin of a round, started when it is due and UDP silent. */
void home_captive_plan(msock_home *h);
void home_captive_start_if_due(msock_home *h, uint64_t now_us);
bool home_captive_next(msock_home *h, uint64_t now_us, msock_home_output *out);

#endif
