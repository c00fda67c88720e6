/* magicsock/limits.h: every bound and timer of the path engine, once, with its source. Spec
 * sections are magicsock.md's. Times are microseconds. */
#ifndef MSOCK_MAGICSOCK_LIMITS_H
#define MSOCK_MAGICSOCK_LIMITS_H

#include "base/env.h"

/* Tables. What happens when one is full stands behind it. */
#define MSOCK_ENGINE_PEERS_MAX 100000u    /* as wg's; peer_put says MSOCK_ERR_NOMEM */
#define MSOCK_ENGINE_NETMAP_ADDRS_MAX 64u /* 3.1, per peer; further ones are dropped, counted */
#define MSOCK_ENGINE_LEARNED_MAX 32u      /* 3.1, per peer; new ones are dropped, counted */
#define MSOCK_ENGINE_INFLIGHT_MAX 64u     /* 3.9, per peer; the oldest ping is forgotten */
#define MSOCK_ENGINE_SELF_MAX 16u         /* 3.6: we send and publish so many; reflexive first */
#define MSOCK_ENGINE_LOCAL_MAX 32u        /* addresses that the node gives; further ones ignored */
#define MSOCK_ENGINE_REFLEXIVE_MAX 16u    /* 3.10: the one seen longest ago is replaced */
#define MSOCK_ENGINE_CLAIMS_MAX 64u     /* pong claims that are not believed yet; oldest replaced */
#define MSOCK_ENGINE_OVERLAY_MAX 8u     /* prefixes; set_overlay says MSOCK_ERR_NOMEM */
#define MSOCK_ENGINE_USER_PINGS_MAX 16u /* msock_engine_ping says MSOCK_ERR_NOMEM */
#define MSOCK_ENGINE_SENDS_MAX 512u     /* datagrams waiting to be polled; dropped, counted */
#define MSOCK_ENGINE_SOURCES_MAX 65536u /* source addresses known; new ones stay unknown */
#define MSOCK_WHY_EVENTS_MAX 32u        /* per peer; the oldest is overwritten */
#define MSOCK_ENGINE_PACKET_MAX 1500u   /* largest datagram that the engine makes or opens */

/* Trust and heartbeats: 3.2, 3.5, 3.9. */
#define MSOCK_ENGINE_TICK_US (2 * MSOCK_SEC)
#define MSOCK_ENGINE_TICK_SLACK_US                                                                 \
  (500 * MSOCK_MS) /* a pong younger than tick - slack is fresh                                    \
                    */
#define MSOCK_ENGINE_TRUST_US (6500 * MSOCK_MS)
#define MSOCK_ENGINE_PING_LIFE_US (5 * MSOCK_SEC)
#define MSOCK_ENGINE_CANDIDATE_FLOOR_US (5 * MSOCK_SEC)
#define MSOCK_ENGINE_ACTIVE_US (45 * MSOCK_SEC)       /* since we last sent data */
#define MSOCK_ENGINE_LEARNED_LIFE_US (45 * MSOCK_SEC) /* of a ping source after its last ping */
#define MSOCK_ENGINE_EAGER_PEERS 64u                  /* more peers: idle ones rest */
#define MSOCK_ENGINE_IDLE_US (25 * MSOCK_SEC)         /* their round, +- 20 % */
#define MSOCK_ENGINE_GOOD_RTT_US (5 * MSOCK_MS)
#define MSOCK_ENGINE_UPGRADE_US (60 * MSOCK_SEC)
#define MSOCK_ENGINE_UPGRADE_JITTER_US (4 * MSOCK_SEC)

/* fast_failover. 3.9 has 3 retransmits after max(3 srtt, 200 ms). With 10 % loss each way 4 pings
 * in a row go missing in one heartbeat of 770: a flap in most 10 minutes (PATH-34). 10 pings at
 * max(3 srtt, 100 ms) take no longer and do so in one of 16 million. */
#define MSOCK_ENGINE_PROBE_TRIES 10u
#define MSOCK_ENGINE_PROBE_MIN_US (100 * MSOCK_MS)
#define MSOCK_ENGINE_PROBE_MAX_US (1 * MSOCK_SEC)
/* Heartbeats in a row without an answer after which another address that does answer is taken: with
 * 10 % loss each way one heartbeat in 150 gets there, and then such a pong has to come as well. A
 * peer that has moved is followed in a third of the time. */
#define MSOCK_ENGINE_PROBE_YIELD 3u
#define MSOCK_ENGINE_UNANSWERED_US (500 * MSOCK_MS) /* data sent, nothing heard: heartbeat now */
#define MSOCK_ENGINE_STALL_US (5 * MSOCK_SEC) /* a path has so long to carry a handshake: 3.9 */
#define MSOCK_ENGINE_CARRIES_US                                                                    \
  (11 * MSOCK_SEC) /* it does if data came by it: a peer that only receives says so after 10 s */
#define MSOCK_ENGINE_BARRED_US (60 * MSOCK_SEC) /* disco passes, data does not: 3.9 */
#define MSOCK_ENGINE_FLAP_WINDOW_US (60 * MSOCK_SEC)
#define MSOCK_ENGINE_FLAP_LOSSES 2u /* more in the window: pongs must be repeated */
#define MSOCK_ENGINE_FLAP_PONGS_MAX 3u
#define MSOCK_ENGINE_FLAP_GAP_US (100 * MSOCK_MS) /* between pongs that count */

/* A lossy direct path against the relay, by measurement: share of the last heartbeats lost, both
 * ways together. 10 % each way lose 19 %, and 46 % of 64 once in ten million windows; 30 % each way
 * lose 51 %. */
#define MSOCK_ENGINE_LOSS_SAMPLES 64u    /* fewer are no measure */
#define MSOCK_ENGINE_LOSSY_PERMILLE 460u /* from here on the relay is measured */
#define MSOCK_ENGINE_RELAY_PROBES 8u     /* pings by the relay, one each tick */
#define MSOCK_ENGINE_RELAY_GOOD 7u       /* so many answered: the relay is the better path */
#define MSOCK_ENGINE_LOSSY_HOLD_US (60 * MSOCK_SEC)

/* Bursts: pings to all candidates at these times after the trigger (3.9). */
#define MSOCK_ENGINE_BURST_STEPS 6u
#define MSOCK_ENGINE_BURST_AT_MS                                                                   \
  { 0, 100, 300, 700, 1500, 3000 }
#define MSOCK_ENGINE_BURST_CANDIDATES 24u
#define MSOCK_ENGINE_REVERSE_GAP_US (200 * MSOCK_MS)
#define MSOCK_ENGINE_REVERSE_MAX 4u
#define MSOCK_ENGINE_REVERSE_WINDOW_US (5 * MSOCK_SEC)

/* Budgets: burst and rate (3.9). */
#define MSOCK_ENGINE_PEER_PINGS 40u
#define MSOCK_ENGINE_PEER_PINGS_PER_SEC 10u
#define MSOCK_ENGINE_NODE_PINGS 400u
#define MSOCK_ENGINE_NODE_PINGS_PER_SEC 200u
#define MSOCK_ENGINE_IDLE_PINGS                                                                    \
  200u /* what idle peers leave of the node's burst for the others                                 \
        */
#define MSOCK_ENGINE_PEER_PONGS 50u
#define MSOCK_ENGINE_PEER_PONGS_PER_SEC 50u
#define MSOCK_ENGINE_NODE_CMMS 100u /* relays limit their clients' rate too */
#define MSOCK_ENGINE_NODE_CMMS_PER_SEC 50u

/* Call-me-maybe: 3.6, 3.9. */
#define MSOCK_ENGINE_CMM_US (5 * MSOCK_SEC)
#define MSOCK_ENGINE_CMM_EAGER_US (60 * MSOCK_SEC) /* after traffic or news; then the back-off */
#define MSOCK_ENGINE_CMM_BACKOFF_SEC                                                               \
  { 10, 20, 40, 60 }
#define MSOCK_ENGINE_CMM_BACKOFF_STEPS 4u
#define MSOCK_ENGINE_CMM_GAP_US (1 * MSOCK_SEC)   /* answers and sweeps for received ones */
#define MSOCK_ENGINE_CMM_WAIT_US (400 * MSOCK_MS) /* for a STUN answer */
#define MSOCK_ENGINE_FRESH_US (27 * MSOCK_SEC)    /* own reflexive addresses */

/* Own addresses: 3.2, 3.10. */
#define MSOCK_ENGINE_STUN_US (30 * MSOCK_SEC)
#define MSOCK_ENGINE_STUN_GAP_US (1 * MSOCK_SEC) /* between rounds asked for by peers */
#define MSOCK_ENGINE_REFLEXIVE_LIFE_US (310 * MSOCK_SEC)
#define MSOCK_ENGINE_VARIES_US (3 * MSOCK_SEC) /* answers of one STUN round */
#define MSOCK_ENGINE_PUBLISH_DEBOUNCE_US (100 * MSOCK_MS)
#define MSOCK_ENGINE_REBIND_HOLD_US (500 * MSOCK_MS) /* a new socket waits so long for STUN */
#define MSOCK_ENGINE_PUBLISH_US (5 * MSOCK_SEC)      /* one publication each, after a burst of 4 */
#define MSOCK_ENGINE_PUBLISH_BURST 4u
#define MSOCK_ENGINE_REBIND_GAP_US (5 * MSOCK_SEC) /* 5.3 */

#endif
