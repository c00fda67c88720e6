/* node/dataplane.h: one packet's way through the node.
 *
 *   out: TUN read (batch) -> packet filter -> wg seals in place -> route of the path engine ->
 *        one UDP batch, or the relay
 *   in:  UDP or relay (batch) -> wg opens in place, source checked -> packet filter -> TUN write
 *
 * Without a TUN the node answers ICMP echo to its own addresses itself. TSMP pings are answered by
 * the node in both modes. Pings that were asked for here are matched on their way in.
 *
 * A handshake that found no path, or whose peer is news (it joined, moved its home region, or sent
 * something), is retried at MSOCK_DATAPLANE_NEWS_AT_MS after the news instead of after WireGuard's
 * 5 s: docs/design/0001-handshake-on-path-news.md. */
#ifndef MSOCK_NODE_DATAPLANE_H
#define MSOCK_NODE_DATAPLANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/derp_map.h"
#include "base/err.h"
#include "base/key.h"
#include "base/packet.h"
#include "filter/filter.h"
#include "io/tun.h"
#include "magicsock/magicsock.h"
#include "node/deps.h"
#include "node/pings.h"
#include "wg/wg.h"

#define MSOCK_DATAPLANE_NEWS_US (6 * MSOCK_SEC)
/* A second of quick steps, since the peer's relay connection comes up a moment after its record
 * says so; then longer ones: a fresh initiation makes the answer to the one before worthless, and
 * on a path of 300 ms none would ever be in time. */
#define MSOCK_DATAPLANE_NEWS_AT_MS                                                                 \
  { 250, 500, 750, 1000, 1300, 1700, 2300, 3100, 4200, 5700 }
/* PEER: tailscaled sends its call-me-maybe and its own handshake at once. An initiation of ours
 * that crosses that one, and our response right behind it, can leave wireguard-go with a session
 * whose index and keys belong to different handshakes (its two workers share one state): nothing of
 * ours is taken for 15 s. So we wait for its initiation first. */
#define MSOCK_DATAPLANE_HELLO_US (100 * MSOCK_MS)
#define MSOCK_DATAPLANE_ADDRS_MAX 8u

typedef struct msock_dataplane msock_dataplane;

/* One peer as the data plane knows it, by its wg id. */
typedef struct msock_dataplane_peer {
  bool in_use;
  uint32_t path;        /* its id in the path engine; MSOCK_ENGINE_PEER_NONE = not there */
  uint64_t node_id;     /* of the netmap */
  uint64_t disco_tag;   /* of its disco key, new at each start of the peer; 0 = not known yet */
  msock_region_id home; /* 0 = unknown */
  uint64_t last_rx_us;  /* authenticated traffic; 0 = never */
  uint64_t last_tx_us;
  uint64_t news_until_us;    /* unanswered handshakes are retried fast until then */
  uint8_t news_kicks;        /* of them so far: place in MSOCK_DATAPLANE_NEWS_AT_MS */
  uint64_t hello_us;         /* when a session is opened from our side; 0 = not planned */
  msock_region_id rx_region; /* where its last datagram came from; 0 = none yet */
  uint64_t tx_dropped;       /* datagrams that found no way */
} msock_dataplane_peer;

typedef struct msock_dataplane_ping {
  bool answered;
  uint64_t latency_us;
  uint64_t tag;
  msock_ip peer;
  msock_region_id region; /* the relay region it came by; 0 = direct */
  msock_addr direct;      /* the address it came from; family 0 = by relay */
} msock_dataplane_ping;

typedef struct msock_dataplane_handlers {
  /* Sends one datagram by relay. False: no way to this peer is known now. */
  bool (*send_relay)(void *ctx, const msock_node_key *dst, msock_region_id home, const uint8_t *p,
                     size_t len);
  /* Sends n <= MSOCK_BATCH_MAX datagrams to confirmed addresses, in order, now. */
  void (*send_direct)(void *ctx, const msock_packet *pkts, const msock_addr *to, size_t n);
  void (*ping_done)(void *ctx, const msock_dataplane_ping *r);
} msock_dataplane_handlers;

typedef struct msock_dataplane_counters {
  uint64_t rx_too_long;       /* over what a tunnel packet can be */
  uint64_t rx_unknown_source; /* relayed by a key that is not in the netmap */
  uint64_t rx_unclaimed;      /* passed the filter, nobody takes it (no TUN) */
  uint64_t rx_disco_keys;     /* announced inside the tunnel: counted, never applied */
  uint64_t tx_no_path;
  uint64_t rx_direct_packets, rx_direct_bytes; /* datagrams by UDP */
  uint64_t tx_direct_packets, tx_direct_bytes;
  uint64_t rx_bytes, rx_packets, tx_bytes, tx_packets; /* inside the tunnel */
} msock_dataplane_counters;

/* key: this node's; mtu_bytes: of the tunnel. NULL: no memory. Borrows deps; tun comes later by
 * set_tun. */
msock_dataplane *msock_dataplane_new(const msock_node_deps *deps, const msock_node_private *key,
                                     uint32_t mtu_bytes, const msock_filter_config *filter,
                                     const msock_dataplane_handlers *handlers, void *ctx);
void msock_dataplane_free(msock_dataplane *d);

/* Who decides the way of each datagram. Borrowed; set once, before any traffic. */
void msock_dataplane_set_engine(msock_dataplane *d, msock_engine *engine);
/* NULL = userspace mode. Borrowed. */
void msock_dataplane_set_tun(msock_dataplane *d, msock_tun *tun);
/* For msock_tun_open: its read callback; ctx is the data plane. */
void msock_dataplane_on_tun(void *ctx, msock_packet *pkts, size_t n, uint64_t now_us);
void msock_dataplane_set_private_key(msock_dataplane *d, const msock_node_private *key);
/* Sees every packet of the tunnel that the filter let pass, both ways; NULL = nobody. */
typedef void (*msock_dataplane_tap)(void *ctx, const uint8_t *p, size_t len);
void msock_dataplane_set_tap(msock_dataplane *d, msock_dataplane_tap tap);
/* This node's own tunnel addresses, /32 and /128, and the routes that it serves for others. */
msock_err msock_dataplane_set_addresses(msock_dataplane *d, const msock_prefix *addrs, size_t n,
                                        const msock_prefix *routes, size_t n_routes);

/* What a netmap says about a peer. */
typedef struct msock_dataplane_record {
  uint64_t node_id;
  msock_node_key key;
  msock_disco_key disco;
  msock_region_id home;
} msock_dataplane_record;

/* Adds or updates a peer; its id. Another disco key means that it was started anew and has
 * forgotten our session: then a new one is made at once, as stock nodes do. */
msock_err msock_dataplane_peer_put(msock_dataplane *d, uint64_t now_us,
                                   const msock_dataplane_record *r, uint32_t *id);
void msock_dataplane_peer_remove(msock_dataplane *d, uint32_t id);
/* Drops every peer and route. */
void msock_dataplane_clear(msock_dataplane *d);
/* MSOCK_WG_PEER_NONE when unknown. */
uint32_t msock_dataplane_peer_find(const msock_dataplane *d, const msock_node_key *key);
/* NULL for an unused id. ids are 0 .. msock_dataplane_peer_bound - 1. */
const msock_dataplane_peer *msock_dataplane_peer_at(const msock_dataplane *d, uint32_t id);
const msock_node_key *msock_dataplane_peer_key(const msock_dataplane *d, uint32_t id);
uint32_t msock_dataplane_peer_bound(const msock_dataplane *d);
/* Its id in the path engine. */
void msock_dataplane_peer_set_path(msock_dataplane *d, uint32_t id, uint32_t path);
/* It wants to talk to us and is reachable now: a session is opened from our side if it has not come
 * to one by itself in MSOCK_DATAPLANE_HELLO_US, so that a handshake of its own that came too early
 * costs nobody 5 s. */
void msock_dataplane_peer_hello(msock_dataplane *d, uint64_t now_us, uint32_t id);
/* Something about this peer's path changed: pending handshakes go out now, and fast for a while. */
void msock_dataplane_peer_news(msock_dataplane *d, uint64_t now_us, uint32_t id);

/* WireGuard datagrams from the UDP socket, n <= MSOCK_BATCH_MAX, opened in place. */
void msock_dataplane_on_udp(msock_dataplane *d, uint64_t now_us, msock_packet *pkts,
                            const msock_addr *from, size_t n);
/* A datagram that a relay delivered; disco does not come here. Collected; msock_dataplane_pump
 * works the batch off. */
void msock_dataplane_on_relay(msock_dataplane *d, uint64_t now_us, msock_region_id region,
                              const msock_node_key *src, const uint8_t *p, size_t len);
/* Works off what was collected, sends what the engine has. Once per turn, after the inputs. */
void msock_dataplane_pump(msock_dataplane *d, uint64_t now_us);
uint64_t msock_dataplane_next_expiry(const msock_dataplane *d);

/* Sends one ping; ping_done is called once with the tag. size = payload bytes (ICMP).
 * MSOCK_ERR_UNKNOWN: no peer has this address; MSOCK_ERR_NOMEM: too many at once. */
msock_err msock_dataplane_ping_send(msock_dataplane *d, uint64_t now_us, msock_ping_kind kind,
                                    const msock_ip *to, size_t size, uint64_t timeout_us,
                                    uint64_t tag);
void msock_dataplane_ping_forget(msock_dataplane *d, uint64_t tag);

msock_wg *msock_dataplane_wg(msock_dataplane *d);
msock_filter *msock_dataplane_filter(msock_dataplane *d);
const msock_dataplane_counters *msock_dataplane_counters_get(const msock_dataplane *d);

#endif
