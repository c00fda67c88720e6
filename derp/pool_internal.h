/* derp/pool_internal.h: state of the pool, shared by pool.c (verbs, actions, events) and link.c
 * (the life of one region's connection). */
#ifndef MSOCK_DERP_POOL_INTERNAL_H
#define MSOCK_DERP_POOL_INTERNAL_H

#include "base/backoff.h"
#include "derp/pool.h"
#include "derp/route.h"

/* Timers, and where they come from. */
#define MSOCK_DERP_IDLE_US (60 * MSOCK_SEC)       /* not written: derp.md 3.3 */
#define MSOCK_DERP_SWEEP_US (15 * MSOCK_SEC)      /* derp.md 3.3 */
#define MSOCK_DERP_REBIND_PING_US (3 * MSOCK_SEC) /* derp.md 3.4 */
#define MSOCK_DERP_PING_LIMIT_US (5 * MSOCK_SEC)  /* derp.md 3.4, ping API */
#define MSOCK_DERP_BACKOFF_CAP_US (5 * MSOCK_SEC) /* derp.md 3.2 */
/* Ours: while an outage is young, x 1.5 < 1 s, so that a relay's restart is over within a second.
 */
#define MSOCK_DERP_BACKOFF_CAP_YOUNG_US (600 * MSOCK_MS)
#define MSOCK_DERP_BACKOFF_YOUNG_US (20 * MSOCK_SEC)
#define MSOCK_DERP_BACKOFF_RESET_US (30 * MSOCK_SEC) /* of life: derp.md 3.2 */
/* Ours: how far a server may push us by Restarting, and how long the notice is remembered. */
#define MSOCK_DERP_RESTART_WAIT_MAX_US (60 * MSOCK_SEC)
#define MSOCK_DERP_RESTART_TRY_MAX_US (300 * MSOCK_SEC)
#define MSOCK_DERP_RESTART_NOTICE_US (300 * MSOCK_SEC)

#define MSOCK_DERP_PENDING_UP 1u
#define MSOCK_DERP_PENDING_DOWN 2u
#define MSOCK_DERP_PENDING_HEALTH 4u

/* One region that was used: its connection, or the wish for one. */
typedef struct msock_derp_link {
  msock_region_id region;
  msock_derp_region_state state;
  uint64_t since_us;

  msock_derp_conn_id conn;   /* of the dial or connection; 0 = none */
  bool dial_due;             /* DIALING: the action was not given yet */
  size_t node;               /* index in the region */
  msock_derp_client *client; /* from conn_up on */
  msock_ip local;
  bool write_told;
  bool no_fast_start; /* something answered fast start with HTTP */

  msock_derp_queue queue;
  msock_backoff backoff;
  uint64_t outage_us;   /* when the present row of failures began, if there is one */
  uint64_t retry_at_us; /* WAITING; MSOCK_NEVER while nothing may be dialled */
  uint64_t attempt_deadline_us;
  uint64_t opened_at_us;
  uint64_t last_write_us, last_frame_us;

  uint64_t restart_heard_us; /* 0 = no notice pending */
  uint64_t restart_wait_us, restart_try_us;
  uint64_t restart_until_us; /* home is kept until then; 0 = no restart under way */

  msock_derp_client_counters total; /* of clients that are gone */
  unsigned pending;                 /* MSOCK_DERP_PENDING_*: events to report */
  bool down_was_up;
  char first_error[96]; /* of the current attempt */
  char last_error[96];
  char health[192];
} msock_derp_link;

struct msock_derp_pool {
  const msock_env *env;
  bool has_map, has_key, network_up;
  bool v6_allowed, v6_works;
  msock_derp_map map;
  msock_node_private key;
  msock_region_id home;

  msock_derp_link **links; /* ascending by region; at most MSOCK_DERP_REGIONS_MAX */
  size_t n_links, cap_links;
  msock_derp_conn_id last_conn;
  msock_derp_routes routes;
  /* Ids that the shell still holds and is to close. A region dials again only after next_action has
   * drained this, so one place for each region is enough. */
  msock_derp_conn_id closes[MSOCK_DERP_REGIONS_MAX];
  size_t n_closes;

  msock_derp_link *fed; /* has borrowed bytes to drain */
  bool dirty;           /* some event may be pending */
  bool reprobe;
  msock_region_id told_home; /* what the last HOME event said */
  bool told_connected, told_restarting;
  uint64_t sweep_at_us; /* MSOCK_NEVER: only home is open */
  msock_derp_pool_counters counters;
};

/* ---- link.c ---- */
msock_derp_link *msock_derp_link_find(const msock_derp_pool *p, msock_region_id region);
/* Makes one for a region of the map; NULL when the map lacks it or memory does. */
msock_derp_link *msock_derp_link_get(msock_derp_pool *p, msock_region_id region);
msock_derp_link *msock_derp_link_by_conn(const msock_derp_pool *p, msock_derp_conn_id id);
/* Closes the connection and frees the link. */
void msock_derp_link_remove(msock_derp_pool *p, size_t index);
bool msock_derp_link_is_home(const msock_derp_pool *p, const msock_derp_link *l);
/* Packets may go into its connection now. */
bool msock_derp_link_is_usable(const msock_derp_link *l);
/* Starts a new attempt at the region's first node. */
void msock_derp_link_dial(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us);
/* TCP to the current node failed. */
void msock_derp_link_next_node(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us,
                               const char *error);
void msock_derp_link_up(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us,
                        const msock_derp_conn_info *info);
void msock_derp_link_opened(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us);
/* The connection or attempt is over; by the rules of derp.md 3.2 the next one waits. */
void msock_derp_link_lost(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us,
                          const char *error, bool tell_shell);
/* The client machine closed itself; takes its CLOSED event. */
void msock_derp_link_client_closed(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us,
                                   const msock_derp_event *ev, bool tell_shell);
/* Closed on our own wish, without penalty: goes idle. */
void msock_derp_link_stop(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us, const char *why,
                          bool keep_queue);
void msock_derp_link_restarting(msock_derp_link *l, uint64_t now_us, uint32_t reconnect_in_ms,
                                uint32_t try_for_ms);
void msock_derp_link_set_health(msock_derp_pool *p, msock_derp_link *l, const char *text,
                                size_t len);
void msock_derp_link_rebind(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us, bool gone);
uint64_t msock_derp_link_next_expiry(const msock_derp_link *l);
void msock_derp_link_on_expiry(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us);
msock_derp_client_counters msock_derp_link_counters(const msock_derp_link *l);

#endif
