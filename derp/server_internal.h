/* derp/server_internal.h: the things of a relay and what its files ask of each other.
 *
 * A connection (relay_conn) that is logged in belongs to a key (relay_key); packets of one key to
 * another belong to a flow (relay_flow), which is also the memory of who has heard from whom. All
 * of them carry their own links (server_table.h) and timers (server_wheel.h). */
#ifndef MSOCK_DERP_SERVER_INTERNAL_H
#define MSOCK_DERP_SERVER_INTERNAL_H

#include "derp/frame.h"
#include "derp/server.h"
#include "derp/server_buffer.h"
#include "derp/server_table.h"
#include "derp/server_wheel.h"

#define RELAY_SLOT_BITS 17u /* of an id; the rest is a generation */
#define RELAY_HEARD_MAX 8u  /* connections of one key that are told when another leaves */
/* Keep-alives wake the process so often at most. */
#define RELAY_KEEPALIVE_GRID_US (250 * MSOCK_MS)

#define RELAY_FORWARD_OVERHEAD (MSOCK_DERP_HEADER_LEN + 2 * MSOCK_KEY_LEN)

typedef struct relay_flow relay_flow;
typedef struct relay_conn relay_conn;

typedef struct relay_bucket { /* zeroed: full */
  double tokens;              /* below 0: owed */
  uint64_t at_us;             /* when they were counted; 0: never */
} relay_bucket;

typedef enum relay_quota { RELAY_QUOTA_IN = 0, RELAY_QUOTA_GRACE, RELAY_QUOTA_OVER } relay_quota;

typedef struct relay_remote { /* a key that another relay of the region has */
  struct relay_remote *next;  /* of the same key, the earliest first */
  struct relay_key *key;
  relay_conn *link;
  relay_link of_link; /* in its ring of remotes */
} relay_remote;

typedef struct relay_key {
  relay_hash hash;
  msock_node_key key;
  relay_conn *conns;         /* newest first; NULL: absent (server_idle.c) */
  relay_remote *remotes;     /* relays of the region that have it */
  relay_conn *active;        /* gets the packets; the one that spoke last (derp.md 4.2) */
  uint32_t n_conns, n_flows; /* n_flows: open, from this key */
  relay_link out, in;        /* rings of flows, from and to it */
  uint32_t idle_at;          /* place in relay.idle_keys while absent, from 1; 0: none */
  uint32_t turns;            /* how often its connections took the packets from each other */
  uint64_t free_us, left;    /* absent: nothing to remember from then on; order of leaving */
  uint64_t tell_us;          /* not told of a clone again before */
  relay_bucket bytes;
  uint64_t day_bytes, month_bytes;
  uint64_t denied_us; /* when a refused flow was last reported */
  relay_quota quota;
} relay_key;

typedef struct relay_prefix {
  relay_hash hash;
  msock_ip ip; /* masked */
  uint32_t n_conns;
  relay_bucket accepts, bytes;
  relay_link idle; /* in relay.idle_prefixes while no connection is from it */
} relay_prefix;

typedef enum relay_flow_state {
  RELAY_FLOW_OPEN,
  RELAY_FLOW_QUIET, /* closed, nothing sent for a while; opens with the next packet */
  RELAY_FLOW_LEFT,  /* closed, an end has left; opens again with what its limits leave */
  RELAY_FLOW_PAUSED /* ended by a limit: packets are dropped until paused_us */
} relay_flow_state;

struct relay_flow {
  relay_hash hash;
  relay_key *src, *dst;
  relay_link out, in; /* in the rings of src and dst */
  relay_link age;     /* in relay.flows_by_age */
  relay_timer timer;
  relay_flow_state state;
  uint64_t last_us, aged_us, paused_us;
  uint64_t start_us, bytes;            /* what its limits count */
  uint64_t opened_us, before, packets; /* of this opening; before: bytes of earlier ones */
  uint32_t n_heard;
  uint32_t heard[RELAY_HEARD_MAX]; /* ids of connections of dst that got a packet */
};

typedef enum relay_phase {
  RELAY_HTTP = 1, /* reading a request head */
  RELAY_LOGIN,    /* ServerKey is out, ClientInfo is awaited */
  RELAY_ASKED,    /* the owner is asked about it */
  RELAY_UP,
  RELAY_LINK_HEAD, /* a link to another relay: its 101 is awaited */
  RELAY_LINK,      /* its frames */
  RELAY_LEFT       /* refused, ended or answered: only sends what is queued */
} relay_phase;

struct relay_conn {
  uint32_t id;
  relay_phase phase;
  msock_derp_cause cause; /* why it ends; the first one counts */
  bool dead;              /* close now */
  bool linger;            /* LEFT: not before close_us */
  bool held, held_total;  /* not read: buckets; held_total: in relay.held, waits for the total */
  bool is_mesh, is_prober, is_home, is_not_ideal, is_watcher;
  bool is_linked;  /* LINK: logged in there */
  bool was_asked;  /* a question about it is open */
  bool was_denied; /* and the log has it */
  bool told_clone; /* shows the text of server_clones.c */
  bool keepalive_due, pong_due, peeked, stall_armed;
  uint8_t pong[MSOCK_DERP_PING_LEN];
  msock_addr from;
  relay_prefix *prefix; /* NULL: no address, or no limit needs it */
  msock_node_key who;   /* proven, from ASKED on */
  relay_key *key;       /* UP */
  relay_conn *same_key; /* next of key->conns */
  relay_flow *flow;     /* of the packet before: mostly that of the next */
  relay_link wake, half, held_link, question;
  relay_link remotes; /* LINK: ring */
  relay_timer timer;  /* the earliest of these; MSOCK_NEVER = none */
  uint64_t login_us, keepalive_us, stall_us, close_us, lease_us, resume_us;
  uint64_t period_us, since_us, heard_us; /* heard_us: LINK */
  uint64_t spoke;                         /* order of its last sign of life */
  uint32_t gone_tokens;                   /* "not here" notices that it may still get */
  uint64_t gone_full_us;                  /* when they were last counted */

  relay_buf *rx; /* an incomplete head or frame, or what came while the owner was asked */
  uint64_t skip; /* payload bytes of a frame that is not looked at */
  relay_list notices, disco, data; /* wait */
  relay_list out;                  /* leave next, in this order; never dropped */
  uint32_t out_at;                 /* bytes of its first frame that are gone */
  uint32_t watch_at;               /* watcher: slots below have been told */

  uint64_t bytes_in, bytes_out, packets_in, packets_out, dropped;
  uint64_t window_us, window_in, window_out; /* since window_us */
  uint64_t rate_in, rate_out;                /* of the window before */
};

typedef struct relay_slot {
  relay_conn *c; /* NULL: free */
  uint32_t generation;
  uint32_t next_free;
} relay_slot;

typedef struct relay_ban {
  relay_hash hash;
  msock_derp_ban ban;
} relay_ban;

struct msock_derp_server {
  const msock_env *env;
  msock_node_private key;
  msock_node_key public_key;
  msock_derp_server_settings set;
  msock_derp_server_stats stats;
  uint64_t seed;  /* of the hashes */
  uint64_t order; /* source of relay_conn.spoke */
  relay_wheel wheel;
  relay_pool pool;

  relay_slot *slots;
  uint32_t n_slots, n_open;       /* n_slots: allocated; n_open: in use */
  uint32_t free_first, free_last; /* the longest free comes first; UINT32_MAX: none */
  relay_link wakes, half, questions;
  size_t n_half;

  relay_table keys, prefixes, flows, bans;
  relay_link idle_prefixes, flows_by_age;
  size_t n_remotes;
  relay_key **idle_keys; /* heap, idle_cap places */
  size_t n_idle_keys, idle_cap, n_idle_prefixes;
  relay_timer idle_timer;
  uint32_t ban_bits4[33], ban_bits6[129]; /* prefixes of each length */
  uint32_t watchers[64];                  /* ids */
  size_t n_watchers;

  relay_bucket accepts, total;
  relay_link held; /* wait for the total, first come first served */
  relay_timer total_timer;
  bool has_rates; /* some rate or quota is set: the frames are charged */
  uint32_t day, month;
  uint64_t unsaved;
  bool is_draining;
  uint32_t unsettled; /* the connection whose stall deadline is not in the wheel yet */

  msock_derp_server_event *events; /* ring */
  uint32_t events_cap, events_max, events_at, n_events;

  uint8_t scratch[MSOCK_DERP_SERVER_TX_MAX];
};

enum { RELAY_TIMER_CONN = 1, RELAY_TIMER_FLOW, RELAY_TIMER_TOTAL, RELAY_TIMER_IDLE };

/* --- server.c --- */
/* A half-open connection; NULL: no memory. from may be NULL. */
relay_conn *relay_conn_new(msock_derp_server *s, uint64_t now_us, const msock_addr *from);
relay_conn *relay_find(const msock_derp_server *s, uint32_t conn);
void relay_wake(msock_derp_server *s, relay_conn *c);
void relay_arm(msock_derp_server *s, uint64_t now_us, relay_conn *c); /* after a deadline changed */
/* The write that was begun last has not been taken whole: its deadline gets a timer. */
void relay_settle(msock_derp_server *s, uint64_t now_us);
/* Ends it without another byte; the owner is woken to close it. */
void relay_kill(msock_derp_server *s, relay_conn *c, msock_derp_cause why);
/* Ends it once all that is queued is sent. */
void relay_finish(msock_derp_server *s, uint64_t now_us, relay_conn *c, msock_derp_cause why);
/* The same with a Health text in front, so much later that stock clients back off. */
void relay_finish_told(msock_derp_server *s, uint64_t now_us, relay_conn *c, msock_derp_cause why);
void relay_leave_half(msock_derp_server *s, relay_conn *c);

/* --- server_frames.c: bytes in --- */
/* Frames, or pieces of them. Gives the bytes used: all, unless the owner must be asked first. */
size_t relay_feed_frames(msock_derp_server *s, uint64_t now_us, relay_conn *c, const uint8_t *p,
                         size_t len);

/* --- server_send.c: bytes out --- */
/* A frame of ours; false: no memory, or too many wait (counted). */
bool relay_notice(msock_derp_server *s, relay_conn *c, const void *frame, size_t len);
bool relay_notice_frame(msock_derp_server *s, relay_conn *c, const msock_derp_frame *f);
/* A packet for c, as a ready frame; takes b over. */
void relay_queue(msock_derp_server *s, uint64_t now_us, relay_conn *c, relay_buf *b);
void relay_drop_oldest(msock_derp_server *s, relay_conn *c);  /* of its data; there is some */
void relay_drop_waiting(msock_derp_server *s, relay_conn *c); /* packets; what is begun stays */
void relay_drop_queues(msock_derp_server *s, relay_conn *c);
void relay_count_drop(msock_derp_server *s, msock_derp_drop why, bool is_disco, uint64_t bytes);
bool relay_has_output(const relay_conn *c);
void relay_windows(relay_conn *c, uint64_t now_us);

/* --- server_http.c --- */
/* Adds what may belong to a head to c->rx; gives it, and how many bytes of p were taken. NULL: no
 * memory, the connection is killed. */
relay_buf *relay_gather_head(msock_derp_server *s, relay_conn *c, const uint8_t *p, size_t len,
                             size_t *taken);
/* A request head, or a piece: gives how many bytes of p belong to it. */
size_t relay_feed_http(msock_derp_server *s, uint64_t now_us, relay_conn *c, const uint8_t *p,
                       size_t len);
void relay_greet(msock_derp_server *s, relay_conn *c);

/* --- server_login.c --- */
void relay_log_in(msock_derp_server *s, uint64_t now_us, relay_conn *c, const uint8_t *payload,
                  size_t len);
void relay_asked_in_vain(msock_derp_server *s, uint64_t now_us, relay_conn *c);
void relay_ask_again(msock_derp_server *s, uint64_t now_us, relay_conn *c);
/* UP no more: its peers, its watchers and the log are told. */
void relay_leave(msock_derp_server *s, uint64_t now_us, relay_conn *c);

/* --- server_keys.c --- */
relay_key *relay_key_find(const msock_derp_server *s, const msock_node_key *key);
relay_key *relay_key_get(msock_derp_server *s, const msock_node_key *key); /* NULL: no memory */
/* Has no connection any more. */
void relay_key_release(msock_derp_server *s, uint64_t now_us, relay_key *k);
void relay_key_forget(msock_derp_server *s, relay_key *k); /* absent; its flows go with it */
void relay_keys_free(msock_derp_server *s);

/* --- server_idle.c: keys that have left --- */
/* Remembers k as long as it says anything, or forgets it now; a full table forgets what would be
 * forgotten first. */
void relay_idle_keep(msock_derp_server *s, uint64_t now_us, relay_key *k);
/* The same at k->free_us, which the caller has set. False: no memory. */
bool relay_idle_add(msock_derp_server *s, relay_key *k);
void relay_idle_remove(msock_derp_server *s,
                       relay_key *k); /* it is back; fine when it was not in */
void relay_idle_expired(msock_derp_server *s, uint64_t now_us);
void relay_idle_changed(msock_derp_server *s, uint64_t now_us); /* other limits, or another date */

/* --- server_clones.c --- */
/* c has spoken and was not the active one of its key: now it is. */
void relay_taken_over(msock_derp_server *s, uint64_t now_us, relay_conn *c);
void relay_clone_left(msock_derp_server *s, relay_key *k); /* one connection of k has */

/* --- server_route.c --- */
/* payload: of a SendPacket. b: the buffer that it lies in, behind a frame header, or NULL; when it
 * is taken over, true comes back. */
bool relay_route(msock_derp_server *s, uint64_t now_us, relay_conn *from, const uint8_t *payload,
                 size_t len, relay_buf *b);
void relay_forwarded(msock_derp_server *s, uint64_t now_us, relay_conn *from,
                     const msock_derp_frame *f);
void relay_tell_gone(msock_derp_server *s, relay_conn *c, const msock_node_key *key,
                     uint8_t reason);
void relay_watch(msock_derp_server *s, relay_conn *c);
void relay_unwatch(msock_derp_server *s, relay_conn *c);
void relay_tell_present(msock_derp_server *s, const relay_conn *c);
void relay_tell_absent(msock_derp_server *s, const relay_conn *c);
/* The next PeerPresent of a watcher's first round; false: the round is over. */
bool relay_watch_next(msock_derp_server *s, relay_conn *c);
void relay_close_peer(msock_derp_server *s, const msock_node_key *key);

/* --- server_mesh.c --- */
void relay_forward_out(msock_derp_server *s, uint64_t now_us, relay_conn *from, relay_key *dst,
                       const uint8_t *data, size_t len, bool is_disco);
void relay_heard_remote(msock_derp_server *s, uint64_t now_us, const msock_node_key *src,
                        relay_conn *to);
size_t relay_feed_link_head(msock_derp_server *s, relay_conn *c, const uint8_t *p, size_t len);
msock_derp_verdict relay_judge_link(msock_derp_header h);
void relay_on_link_frame(msock_derp_server *s, uint64_t now_us, relay_conn *c, msock_derp_header h,
                         const uint8_t *payload);
void relay_link_silent(msock_derp_server *s, uint64_t now_us, relay_conn *c);
void relay_link_lost(msock_derp_server *s, uint64_t now_us, relay_conn *c);

/* --- server_flows.c --- */
/* The flow from one key to another, for a packet of len bytes. NULL: drop it (counted, reported).
 */
relay_flow *relay_flow_pass(msock_derp_server *s, uint64_t now_us, relay_conn *from, relay_key *dst,
                            size_t len);
/* The flow that remembers who has heard a key of another relay; it never opens. */
relay_flow *relay_flow_note(msock_derp_server *s, uint64_t now_us, relay_key *src, relay_key *dst);
void relay_flow_heard(relay_flow *f, const relay_conn *to);
void relay_flow_expired(msock_derp_server *s, uint64_t now_us, relay_flow *f);
/* The last connection of k has gone: its flows end, those who heard it are told. A flow whose
 * limits are partly used stays, so that coming back does not renew them. */
void relay_flows_leave(msock_derp_server *s, uint64_t now_us, relay_key *k);
void relay_flow_free(msock_derp_server *s, relay_flow *f);
/* When the flows of a key that is absent say nothing any more (walks them); 0: now. */
uint64_t relay_flows_kept_until(const msock_derp_server *s, const relay_key *k);

/* --- server_limits.c --- */
void relay_limits_changed(msock_derp_server *s, uint64_t now_us);
/* Before anything is known but the address. */
msock_derp_cause relay_may_accept(msock_derp_server *s, uint64_t now_us, const msock_addr *from);
bool relay_join_prefix(msock_derp_server *s, relay_conn *c); /* false: it is full */
void relay_leave_prefix(msock_derp_server *s, relay_conn *c);
void relay_prefixes_free(msock_derp_server *s);
/* Charges a frame; may hold the connection, or end it. */
void relay_charge(msock_derp_server *s, uint64_t now_us, relay_conn *c, uint64_t bytes);
void relay_try_resume(msock_derp_server *s, uint64_t now_us, relay_conn *c);
void relay_total_expired(msock_derp_server *s, uint64_t now_us);
/* When the bucket of k is full, from when on it says nothing; 0: it is. */
uint64_t relay_key_full_us(const msock_derp_server *s, const relay_key *k);
relay_quota relay_quota_of(const msock_derp_server *s, const relay_key *k);
void relay_quotas_changed(msock_derp_server *s, uint64_t now_us); /* a new date, or new limits */

/* --- server_bans.c --- */
msock_derp_cause relay_is_banned(const msock_derp_server *s, const msock_node_key *key,
                                 const msock_addr *from);
void relay_bans_free(msock_derp_server *s);

/* --- server_events.c --- */
/* What is known of the connection is filled in. c may be NULL. */
msock_derp_server_event relay_event(const msock_derp_server *s, uint64_t now_us,
                                    msock_derp_server_event_kind kind, const relay_conn *c);
void relay_emit(msock_derp_server *s, const msock_derp_server_event *ev);

#endif
