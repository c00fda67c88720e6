/* derp/server_events.h: what a relay tells its owner: events in order, counters, and why.
 *
 * An event is for the log and for accounting; nothing in the relay waits for it. The words of the
 * relays that people know map so: a reservation is an admitted connection, a circuit is a flow
 * (packets of one key to another, one direction). */
#ifndef MSOCK_DERP_SERVER_EVENTS_H
#define MSOCK_DERP_SERVER_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/key.h"

/* Why a connection or flow was refused, or ended. */
typedef enum msock_derp_cause {
  MSOCK_DERP_CAUSE_NONE = 0,
  /* ends */
  MSOCK_DERP_CAUSE_EOF,          /* the owner closed it: the stream ended */
  MSOCK_DERP_CAUSE_PROTOCOL,     /* malformed frame, or a mesh frame without the mesh key */
  MSOCK_DERP_CAUSE_STALL,        /* its socket took nothing for too long */
  MSOCK_DERP_CAUSE_LOGIN,        /* no well-formed ClientInfo */
  MSOCK_DERP_CAUSE_LOGIN_TIME,   /* not logged in, or not answered for, in time */
  MSOCK_DERP_CAUSE_DISPLACED,    /* half-open, and newer ones needed the room */
  MSOCK_DERP_CAUSE_CLOSE_PEER,   /* a mesh peer asked for it */
  MSOCK_DERP_CAUSE_RESTART,      /* the relay is draining */
  MSOCK_DERP_CAUSE_MEMORY,       /* packet memory is used up, or the system has none */
  MSOCK_DERP_CAUSE_HTTP,         /* a request that was answered: no DERP connection */
  MSOCK_DERP_CAUSE_WATCH_BEHIND, /* a watcher that does not read its notices */
  /* links to other relays */
  MSOCK_DERP_CAUSE_LINK_SELF,   /* it has led to this one */
  MSOCK_DERP_CAUSE_LINK_SILENT, /* nothing came over it for too long */
  /* refusals */
  MSOCK_DERP_CAUSE_ADMISSION, /* the owner said no */
  MSOCK_DERP_CAUSE_BAN_KEY,
  MSOCK_DERP_CAUSE_BAN_PREFIX,
  MSOCK_DERP_CAUSE_CONNS,
  MSOCK_DERP_CAUSE_CONNS_PER_KEY,
  MSOCK_DERP_CAUSE_CONNS_PER_PREFIX,
  MSOCK_DERP_CAUSE_ACCEPT_RATE,
  MSOCK_DERP_CAUSE_ACCEPT_RATE_PREFIX,
  MSOCK_DERP_CAUSE_QUOTA,
  /* flows */
  MSOCK_DERP_CAUSE_FLOWS_PER_KEY,
  MSOCK_DERP_CAUSE_FLOW_TIME,
  MSOCK_DERP_CAUSE_FLOW_BYTES,
  MSOCK_DERP_CAUSE_FLOW_IDLE,
  MSOCK_DERP_CAUSE_FLOW_LEFT, /* one of its ends left */
  MSOCK_DERP_CAUSE_FLOW_ROOM, /* the table was full and it was the longest unused */
  MSOCK_DERP_CAUSES           /* how many */
} msock_derp_cause;

/* Stable word for logs and metric labels ("accept_rate"), and a sentence for people, which is what
 * a refused client is told. Never NULL; static storage. */
const char *msock_derp_cause_word(msock_derp_cause c);
const char *msock_derp_cause_text(msock_derp_cause c);

typedef enum msock_derp_server_event_kind {
  MSOCK_DERP_SERVER_OPENED = 1,  /* logged in: count = connections of the key, this one included */
  MSOCK_DERP_SERVER_CLOSED,      /* after OPENED: cause, count = remaining, duration, bytes */
  MSOCK_DERP_SERVER_ADMITTED,    /* reservation accepted: renewed = the key was here already */
  MSOCK_DERP_SERVER_DENIED,      /* reservation denied: cause; no key when it was refused unread */
  MSOCK_DERP_SERVER_TIMED_OUT,   /* reservation timed out: no (new) answer about the key in time */
  MSOCK_DERP_SERVER_FAILED,      /* closed before a login was complete: cause */
  MSOCK_DERP_SERVER_FLOW_OPENED, /* circuit accepted: key to peer */
  MSOCK_DERP_SERVER_FLOW_DENIED, /* circuit denied: cause. At most one a second and sender; the
                                    counter has them all */
  MSOCK_DERP_SERVER_FLOW_CLOSED, /* circuit closed: cause, duration, bytes, packets */
  MSOCK_DERP_SERVER_QUOTA_GRACE, /* the key has used up its quota; it lives on grace now */
  MSOCK_DERP_SERVER_LINKED,      /* a link to another relay is up: key is that relay's */
  MSOCK_DERP_SERVER_UNLINKED,    /* and down: cause, duration */
  MSOCK_DERP_SERVER_QUOTA_OVER   /* and now that too: throttled, or closed */
} msock_derp_server_event_kind;

typedef struct msock_derp_server_event {
  msock_derp_server_event_kind kind;
  msock_derp_cause cause;
  uint64_t at_us;
  uint32_t conn;       /* 0: none */
  uint32_t count;      /* connections of the key */
  uint32_t total;      /* connections logged in */
  bool has_key;        /* false: refused or failed before a key was proven */
  bool renewed;        /* ADMITTED */
  bool is_mesh;        /* the mesh key was given */
  msock_node_key key;  /* of the client; of a flow: its source */
  msock_node_key peer; /* of a flow: its destination */
  msock_addr from;     /* family 0: not known, or no connection's */
  uint64_t duration_us;
  uint64_t bytes_in, bytes_out; /* packet payload from and to the client; a flow has bytes_in */
  uint64_t packets_in, packets_out;
} msock_derp_server_event;

/* Why a packet was dropped: the labels of derp_packets_dropped (derp.md 4.7), then ours. */
typedef enum msock_derp_drop {
  MSOCK_DERP_DROP_UNKNOWN_DEST = 0,
  MSOCK_DERP_DROP_UNKNOWN_DEST_ON_FWD,
  MSOCK_DERP_DROP_GONE_DISCONNECTED, /* queued for a connection that closed */
  MSOCK_DERP_DROP_QUEUE_HEAD,        /* the oldest of a full queue */
  MSOCK_DERP_DROP_QUEUE_TAIL,        /* the new one: larger than its queue, or memory used up */
  MSOCK_DERP_DROP_WRITE_ERROR,       /* given to a socket that then failed */
  MSOCK_DERP_DROP_DUP_CLIENT,        /* no connection of the key is active */
  MSOCK_DERP_DROP_FLOW_LIMIT,        /* its flow was refused or ended by a limit */
  MSOCK_DERP_DROPS
} msock_derp_drop;
const char *msock_derp_drop_word(msock_derp_drop d); /* "unknown_dest" ... */

#define MSOCK_DERP_KIND_DISCO 0u
#define MSOCK_DERP_KIND_OTHER 1u

/* Counters grow for life; gauges say so. Byte counters are of packet payload (derp.md 4.7).
 * packets_in + forwarded_in = packets_out + forwarded_out + all drops + packets_queued. */
typedef struct msock_derp_server_stats {
  uint64_t accepted; /* derp_accepts: DERP connections, HTTP requests that were answered apart */
  uint64_t http_answers;
  uint64_t logins, login_failures;
  uint64_t refused[MSOCK_DERP_CAUSES]; /* by cause: denials of connections and flows */
  uint64_t closed[MSOCK_DERP_CAUSES];  /* by cause: ends of connections */
  uint64_t packets_in, packets_out;    /* derp_packets_received, _sent */
  uint64_t bytes_in, bytes_out;
  uint64_t packets_in_kind[2]; /* MSOCK_DERP_KIND_* */
  uint64_t dropped[MSOCK_DERP_DROPS][2], dropped_bytes[MSOCK_DERP_DROPS][2];
  uint64_t packets_queued;              /* gauge */
  uint64_t forwarded_in, forwarded_out; /* derp_packets_forwarded_*: one hop over the mesh */
  uint64_t gone_disconnected, gone_not_here;
  uint64_t notices_lost; /* PeerGone that a full connection did not get */
  uint64_t pings, pongs;
  uint64_t unknown_frames; /* frames that were skipped */
  uint64_t home_moves_in, home_moves_out;
  uint64_t dup_conns_total; /* derp_total_dup_client_conns */
  uint64_t protocol_errors, stalls;
  uint64_t rate_waits; /* derp_rate_limit_per_client_waited: reads that were held back */
  uint64_t throttled;  /* of these, by the throttle behind a quota */
  uint64_t flows_opened, flows_closed, flow_bytes; /* flow_bytes: of flows that have closed */
  uint64_t restarting_sent;
  uint64_t events_lost;         /* the owner did not poll */
  double queue_duration_ms;     /* gauge: derp_average_queue_duration_ms */
  uint64_t memory_bytes;        /* gauge: packets and partial frames */
  uint64_t conns, half_open;    /* gauges: derp_current_connections; not logged in */
  uint64_t home, not_ideal;     /* gauges */
  uint64_t keys, keys_idle;     /* gauges: with connections; absent and remembered */
  uint64_t dup_keys, dup_conns; /* gauges */
  uint64_t links, remote_keys;  /* gauges: to other relays; keys that they have */
  uint64_t watchers, mesh;      /* gauges */
  uint64_t flows_open;          /* gauge */
  uint64_t bans;                /* gauge */
} msock_derp_server_stats;

#endif
