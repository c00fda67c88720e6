/* derp/server_settings.h: what the owner of a relay may decide: limits, rates, quotas, admission,
 * times. All of it can be changed while the relay runs (msock_derp_server_configure).
 *
 * 0 = no limit, where a field does not say otherwise. Rates are token buckets: `per_s` tokens come
 * in a second, `burst` are kept at most. A connection whose bucket is empty is not read until there
 * are tokens again, so TCP holds its sender back: rates never drop (derp.md 4.4). The bucket of a
 * key or prefix that leaves stays until it is full: coming back gives no new burst. */
#ifndef MSOCK_DERP_SERVER_SETTINGS_H
#define MSOCK_DERP_SERVER_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/env.h"
#include "base/err.h"
#include "base/key.h"

/* Bounds of the machine; settings stay within them. */
#define MSOCK_DERP_SERVER_CONNS_MAX 131072u /* ours: slots, half-open connections included */
#define MSOCK_DERP_SERVER_BANS_MAX 65536u   /* ours: a longer list is refused */
#define MSOCK_DERP_SERVER_EVENTS_MAX 16384u /* ours: events that wait to be polled */
/* ours: absent keys that are remembered (quota, bucket, flows); what says least is forgotten */
#define MSOCK_DERP_SERVER_KEYS_IDLE_MAX 65536u
#define MSOCK_DERP_SERVER_BURST_MIN 65568u /* the largest frame that is charged: derp.md 4.4 */

#define MSOCK_DERP_SERVER_REMOTES_MAX 262144u /* ours: keys of other relays; more are unknown */

/* Times. */
#define MSOCK_DERP_SERVER_LOGIN_US (10 * MSOCK_SEC)     /* head and ClientInfo: derp.md 0 */
#define MSOCK_DERP_SERVER_KEEPALIVE_US (60 * MSOCK_SEC) /* plus 0..5 s, drawn once: derp.md 0 */
#define MSOCK_DERP_SERVER_KEEPALIVE_SPREAD_US (5 * MSOCK_SEC)
#define MSOCK_DERP_SERVER_STALL_US (2 * MSOCK_SEC) /* unsent bytes, none taken: derp.md 0 */
#define MSOCK_DERP_SERVER_MESH_STALL_US (30 * MSOCK_SEC)
#define MSOCK_DERP_SERVER_REFUSAL_US (5 * MSOCK_SEC)   /* ours: see refusal_us */
#define MSOCK_DERP_SERVER_HOME_MOVE_US (5 * MSOCK_SEC) /* a later change is a move: derp.md 4.7 */
#define MSOCK_DERP_SERVER_LINK_SILENCE_US (120 * MSOCK_SEC) /* no frame from it: derp.md 0 */
#define MSOCK_DERP_SERVER_FLOW_IDLE_US (120 * MSOCK_SEC)
#define MSOCK_DERP_SERVER_FLOW_PAUSE_US (60 * MSOCK_SEC)

/* "Not here" notices: derp.md 2.3. */
#define MSOCK_DERP_SERVER_GONE_BURST 3u
#define MSOCK_DERP_SERVER_GONE_REFILL_US MSOCK_SEC
/* Control frames (notices, presence) that wait on one connection: more are dropped and counted; a
 * watcher is closed instead, so that it comes back and is told everything again. */
#define MSOCK_DERP_SERVER_NOTICES_MAX 1024u
#define MSOCK_DERP_SERVER_WATCH_MAX 65536u

/* Queues. The reference peer has 32 packets of each kind, filled and emptied one at a time; here a
 * whole read (16 KiB, up to 400 packets) is queued before the next write. */
#define MSOCK_DERP_SERVER_QUEUE_PACKETS 512u
#define MSOCK_DERP_SERVER_QUEUE_BYTES (256u << 10)
#define MSOCK_DERP_SERVER_QUEUE_DISCO 32u           /* derp.md 0 */
#define MSOCK_DERP_SERVER_MEMORY_BYTES (256u << 20) /* ours */
#define MSOCK_DERP_SERVER_HALF_OPEN 4096u           /* ours */
#define MSOCK_DERP_SERVER_CONNS_PER_KEY 5u          /* requirements M09 */
#define MSOCK_DERP_SERVER_FLOWS 262144u             /* ours */
#define MSOCK_DERP_SERVER_PREFIX4_BITS 32u
#define MSOCK_DERP_SERVER_PREFIX6_BITS 64u /* what one site gets: RFC 6177 */

typedef struct msock_derp_rate {
  uint64_t per_s; /* 0 = no limit; burst is then without meaning */
  uint64_t burst;
} msock_derp_rate;

typedef enum msock_derp_admission {
  MSOCK_DERP_ADMIT_ALL = 0, /* whoever proves a key */
  MSOCK_DERP_ADMIT_ASK      /* each login is a question to the owner; no answer = refused */
} msock_derp_admission;

typedef struct msock_derp_server_settings {
  /* connections */
  uint32_t conns;            /* logged in, mesh excepted; more are refused at login */
  uint32_t conns_per_key;    /* logged in with one key */
  uint32_t conns_per_prefix; /* open from one address prefix, logged in or not */
  uint32_t half_open;        /* not logged in yet; a new one displaces the oldest. 1 or more */
  uint8_t prefix4_bits, prefix6_bits; /* what one prefix is: 1..32, 1..128 */
  msock_derp_rate accept;             /* connections: all of them, and of one prefix */
  msock_derp_rate accept_prefix;

  /* bytes of frames that clients send (payload, derp.md 4.4). Mesh peers are exempt. A burst is
   * raised to MSOCK_DERP_SERVER_BURST_MIN. */
  msock_derp_rate key, prefix, total;

  /* Bytes that one key may send in a day and in a month. Past that it has `grace` bytes more, and
   * past those it is held to `throttle`; a throttle of 0 ends its connections and refuses new ones
   * until the day or month is over. */
  uint64_t quota_day, quota_month;
  uint64_t quota_grace;
  msock_derp_rate throttle;

  /* flows: packets of one key to another, in one direction. Past a limit they are dropped; a flow
   * that was ended by its duration or bytes may open again after `flow_pause_us`. Neither end
   * renews them by leaving: they count on when it is back before `flow_idle_us`. */
  uint32_t flows;         /* known at a time; the longest unused is forgotten. 1 or more */
  uint32_t flows_per_key; /* open, by sender */
  uint64_t flow_us;       /* duration */
  uint64_t flow_bytes;
  uint64_t flow_idle_us; /* a flow without a packet for so long has ended. 1 or more */
  uint64_t flow_pause_us;

  /* queues of one connection, and the packet memory of all. The oldest packet of a full queue is
   * dropped. 1 or more each. */
  uint32_t queue_packets, queue_bytes, queue_disco;
  uint64_t memory_bytes;

  /* admission */
  msock_derp_admission admission;
  uint64_t admission_ttl_us; /* ADMIT_ASK: an admitted key is asked about again; 0 = never */
  uint64_t login_us;         /* from open to admitted: head, ClientInfo, the owner's answer */
  bool has_mesh_key;
  uint8_t mesh_key[32]; /* a secret; who has it is a mesh peer: admitted, without limits */

  /* times */
  uint64_t stall_us;      /* bytes wait and the socket takes none: cut */
  uint64_t mesh_stall_us; /* the same for mesh peers */
  /* A refused client is told why by a Health frame and closed so much later; 0: closed at once,
   * untold. Told at once and closed at once, stock clients would come back in 10 ms: any frame
   * resets their back-off (derp.md 3.2). */
  uint64_t refusal_us;
} msock_derp_server_settings;

/* Open to all, no limits but the bounds: what msock_derp_server_new starts with. */
msock_derp_server_settings msock_derp_server_settings_default(void);
/* NULL when they can be used, else what is wrong: the field and why ("half_open is 0: ..."). */
const char *msock_derp_server_settings_check(const msock_derp_server_settings *s);

typedef enum msock_derp_ban_kind {
  MSOCK_DERP_BAN_KEY = 1,
  MSOCK_DERP_BAN_PREFIX
} msock_derp_ban_kind;
typedef struct msock_derp_ban {
  msock_derp_ban_kind kind;
  msock_node_key key;
  msock_prefix prefix; /* an address is a prefix of full length */
} msock_derp_ban;

/* What one key has sent. Days since 1970-01-01 and months since 1970-01, both as the owner counts
 * them (msock_derp_server_set_date). */
typedef struct msock_derp_usage {
  msock_node_key key;
  uint32_t day, month; /* that the bytes belong to */
  uint64_t day_bytes, month_bytes;
} msock_derp_usage;

#endif
