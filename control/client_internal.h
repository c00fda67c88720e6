/* control/client_internal.h: the client machine's inside, shared by client.c (life, connection,
 * key, time), client_sessions.c (register, map stream, lite updates) and client_queue.c (events,
 * actions, settings). */
#ifndef MSOCK_CONTROL_CLIENT_INTERNAL_H
#define MSOCK_CONTROL_CLIENT_INTERNAL_H

#include "base/backoff.h"
#include "control/channel.h"
#include "control/control.h"
#include "control/map_stream.h"
#include "control/register.h"

/* Timers. */
#define CLIENT_KEY_US (15 * MSOCK_SEC)          /* /key guard, ours; the owner's HTTP has its own */
#define CLIENT_DIAL_US (5 * MSOCK_SEC)          /* TCP + TLS: control.md 2.3 */
#define CLIENT_WATCHDOG_US (120 * MSOCK_SEC)    /* without a map message: control.md 4.3 */
#define CLIENT_COALESCE_US (250 * MSOCK_MS)     /* lite updates: control.md 4.1 */
#define CLIENT_LITE_PERIOD_US (600 * MSOCK_SEC) /* at least: control.md 4.3 */
#define CLIENT_ANSWER_US (30 * MSOCK_SEC)       /* register or lite without an answer, ours */
#define CLIENT_FOLLOWUP_US (20 * 60 * MSOCK_SEC) /* >= 16 minutes: control.md 3.4 */
#define CLIENT_LOGOUT_US (10 * MSOCK_SEC)        /* then it is forgotten here alone, ours */
#define CLIENT_DRAIN_US (5 * MSOCK_SEC)          /* after GOAWAY, ours */
#define CLIENT_FLOOR_US (1 * MSOCK_SEC)          /* refused, reset: control.md 6 */
#define CLIENT_CAP_US (30 * MSOCK_SEC)           /* control.md 6 */
#define CLIENT_CAP_YOUNG_US (3 * MSOCK_SEC)      /* x 1.5 < 5 s: CTRL-69 */
#define CLIENT_YOUNG_US (20 * MSOCK_SEC)         /* an outage of 15 s is still young: CTRL-69 */
#define CLIENT_EOF_JITTER_US (2 * MSOCK_SEC)     /* first retry after a bare EOF: control.md 6 */
#define CLIENT_HOUR_US (3600 * MSOCK_SEC)   /* unsupported version; also the cap of Retry-After */
#define CLIENT_BUSY_MIN_US (5 * MSOCK_SEC)  /* 429 without Retry-After: 5 - 10 s, 3.3 */
#define CLIENT_APPROVAL_US (10 * MSOCK_SEC) /* MachineAuthorized false: wait and retry, ours */

#define CLIENT_EVENTS_MAX 32u
#define CLIENT_PINGS_MAX 4u    /* HEAD actions that wait; more are refused and counted */
#define CLIENT_PING_MEMORY 16u /* control.md 4.7 */
#define CLIENT_HOST_MAX 255u
#define CLIENT_ERROR_BODY_MAX 200u /* of a non-200 map answer: control.md 4.2 */

typedef enum client_conn {
  CONN_NONE = 0,
  CONN_KEY,     /* waiting for /key */
  CONN_DIALING, /* waiting for conn_up */
  CONN_UP
} client_conn;

typedef enum client_auth {
  AUTH_WANTED = 0, /* register as soon as there is a connection */
  AUTH_FOLLOWUP,   /* an AuthURL is shown; long poll */
  AUTH_BLOCKED,    /* a person has to act */
  AUTH_LOGOUT,
  AUTH_DONE
} client_auth;

typedef struct client_event {
  msock_control_event_kind kind;
  msock_control_state state;
  msock_control_error error;
  msock_machine_key server_key;
  msock_node_key node_key;
  char *text; /* NULL = "" */
} client_event;

struct msock_control {
  const msock_env *env;
  bool https, pin, ephemeral, want;
  char host[CLIENT_HOST_MAX + 1];
  uint16_t port;
  uint16_t version;
  msock_machine_private machine;
  msock_machine_key server_key; /* zero = not known */
  char *auth_key;
  int64_t wall_offset_us; /* wall - now, as of the last call that had both */

  msock_disco_key disco;
  msock_hostinfo hostinfo;
  bool has_netinfo;
  msock_netinfo netinfo;
  msock_endpoint endpoints[MSOCK_CONTROL_ENDPOINTS_MAX];
  size_t n_endpoints;

  /* connection */
  client_conn conn;
  msock_channel *channel;
  uint64_t dial_due_us; /* when CONN_NONE: not before */
  uint64_t conn_due_us; /* guard of CONN_KEY and CONN_DIALING */
  uint64_t drain_due_us;
  bool verify_key;  /* the handshake was rejected: look at /key first */
  bool key_retried; /* a changed key was adopted once since the last good map */
  bool key_stopped; /* pinned key changed: nothing more until set_want_running */
  msock_backoff backoff;
  uint64_t outage_us; /* when the present row of failures began; MSOCK_NEVER = none */
  bool act_close, act_fetch, act_dial, dial_taken;

  /* auth */
  client_auth auth;
  msock_node_private node, old_node;
  bool registered;    /* the server knows node */
  bool stored;        /* node came from the state file or was registered */
  bool use_auth_key;  /* the next register carries it */
  bool regenerated;   /* one key regeneration per login: CTRL-35 */
  bool relogin_tried; /* for the present expiry of self */
  bool relogin;       /* the login under way was caused by expiry: may be called off */
  int32_t register_stream;
  int register_status;
  char register_retry[48];
  bool sent_auth_key;
  uint8_t *register_body;
  size_t register_len;
  uint64_t register_due_us;   /* when to send */
  uint64_t register_guard_us; /* when to give up waiting */
  uint64_t logout_due_us;
  msock_backoff register_backoff;
  char *auth_url;

  /* map stream */
  int32_t map_id;
  int map_status;
  char map_retry[48];
  msock_map_stream *map;
  bool connected;      /* its first message came */
  bool not_found;      /* a 404 since the last good map */
  uint64_t map_due_us; /* when to open */
  uint64_t watchdog_us;
  uint64_t hold_us; /* Debug.SleepSeconds */
  char error_body[CLIENT_ERROR_BODY_MAX + 1];
  size_t error_len;

  /* lite updates */
  int32_t lite_id;
  int lite_status;
  char lite_retry[48];
  bool lite_dirty;
  uint64_t lite_due_us, lite_guard_us;
  msock_backoff lite_backoff;

  msock_netmap *netmap;
  uint8_t ping_seen[CLIENT_PING_MEMORY][16]; /* digests of URLs */
  size_t ping_at;
  char *pings[CLIENT_PINGS_MAX];
  char *browse_url;

  msock_control_state state;
  client_event events[CLIENT_EVENTS_MAX];
  size_t n_events;
  msock_control_stats stats;
};

/* client_queue.c */
void client_push(msock_control *c, client_event e, const char *text);
void client_error(msock_control *c, msock_control_error e, const char *text);
/* The one function that changes the state. */
void client_set_state(msock_control *c, msock_control_state s);
/* Copies text, frees what was there. False: out of memory, *slot is NULL. */
bool client_set_text(char **slot, const char *text);
void client_queue_free(msock_control *c);

/* client.c */
/* Drops the connection; tries again after delay_us. */
void client_disconnect(msock_control *c, uint64_t now_us, uint64_t delay_us);
void client_set_auth_key(msock_control *c, char *owned); /* wipes the one before */
/* One more failure: the delay by the shared back-off. */
uint64_t client_backoff(msock_control *c, uint64_t now_us, uint64_t floor_us);
uint64_t client_wall(const msock_control *c, uint64_t now_us);
/* Starts whatever is due and possible now. Called at the end of every input. */
void client_drive(msock_control *c, uint64_t now_us);

/* client_sessions.c */
void client_sessions_drop(msock_control *c); /* the channel is gone: forget stream ids */
void client_sessions_drive(msock_control *c, uint64_t now_us);
void client_sessions_expiry(msock_control *c, uint64_t now_us);
uint64_t client_sessions_next_expiry(const msock_control *c);
void client_on_channel_event(msock_control *c, uint64_t now_us, const msock_channel_event *ev);
void client_update_state(msock_control *c, uint64_t now_us);
void client_dirty(msock_control *c, uint64_t now_us, uint64_t delay_us);
void client_new_key(msock_control *c); /* node becomes old_node; a trying key is made */
void client_finish_logout(msock_control *c, uint64_t now_us);

/* client_ping.c */
void client_on_ping(msock_control *c, const msock_map_notice *notice);

#endif
