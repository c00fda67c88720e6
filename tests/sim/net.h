/* tests/sim/net.h: hosts, NAT boxes and the links between them, on a world's virtual time.
 *
 * A realm is an address space: the internet, or the inside of one NAT box, whose outside is another
 * realm (double NAT, CGNAT). A host has interfaces in realms. A packet stays in its realm when the
 * destination lives there, goes in through a box whose outside address it is, or leaves by the
 * realm's box. Private and link-local destinations that nobody owns die silently.
 *
 * No callback is made from inside a call of its own owner: bytes, errors of streams and connects
 * come in a later event. Callbacks may free any object of this header, their own included. */
#ifndef MSOCK_TESTS_SIM_NET_H
#define MSOCK_TESTS_SIM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "tests/sim/nat.h"
#include "tests/sim/world.h"

#define SIM_INTERFACES 4u
#define SIM_DATAGRAM_MAX 65507u
#define SIM_UDP_OVERHEAD 28u /* IPv4 and UDP header; 48 with IPv6 */

typedef struct sim_net sim_net;
typedef struct sim_realm sim_realm;
typedef struct sim_nat sim_nat;
typedef struct sim_host sim_host;

sim_net *sim_net_new(sim_world *w);
/* Frees hosts, boxes, sockets and streams too; no callback is made. */
void sim_net_free(sim_net *n);
sim_world *sim_net_world(const sim_net *n);

/* --- boxes and hosts --- */

sim_realm *sim_net_internet(sim_net *n);
/* outside_ip family 0: the next free public address (in the internet), or the next of the realm.
 * The inside is 192.168.K.0/24, or 100.64.K.0/24 with cgnat. */
sim_nat *sim_nat_new(sim_net *n, const char *name, sim_realm *outside, const sim_nat_config *config,
                     const msock_ip *outside_ip, bool cgnat);
sim_realm *sim_nat_inside(sim_nat *b);
msock_ip sim_nat_address(const sim_nat *b);
sim_nat_table *sim_nat_table_of(sim_nat *b);
/* A new public address, mappings gone (a new DHCP lease); ip NULL: the next free one. */
void sim_nat_renumber(sim_nat *b, const msock_ip *ip);
/* Mappings gone, nothing passes for down_us, streams through it are reset by the next packet. */
void sim_nat_reboot(sim_nat *b, uint64_t down_us);
void sim_nat_drop_mappings(sim_nat *b);

sim_host *sim_host_new(sim_net *n, const char *name);
const char *sim_host_name(const sim_host *h);
sim_net *sim_host_net(const sim_host *h);
/* Adds interface `ifname` ("eth0") in a realm; ip NULL: the next free address of the realm. The
 * first interface that is up carries the default route. Gives its index, from 1. */
uint32_t sim_host_attach(sim_host *h, sim_realm *r, const msock_ip *ip, const char *ifname);
/* Another address on the interface, or another realm: the old address is gone at once. */
void sim_host_renumber(sim_host *h, uint32_t ifindex, const msock_ip *ip);
void sim_host_move(sim_host *h, uint32_t ifindex, sim_realm *r, const msock_ip *ip);
void sim_host_set_interface_up(sim_host *h, uint32_t ifindex, bool up);
/* The first IPv4 address, family 0 without one. */
msock_ip sim_host_address(const sim_host *h);
/* A host that is switched off keeps its objects, gets and sends nothing. Suspended machines too. */
void sim_host_set_power(sim_host *h, bool on);

typedef struct sim_interface {
  char name[16];
  uint32_t index;
  sim_realm *realm;
  msock_ip ip;
  uint8_t bits;
  bool up;
} sim_interface;
/* Those that are up; n <= SIM_INTERFACES. The default route is the first one's, its gateway is .1
 * of the same prefix. */
size_t sim_host_interfaces(const sim_host *h, sim_interface out[SIM_INTERFACES]);
/* Called in an event of its own after interfaces or addresses changed. Replaces an earlier one; cb
 * NULL ends. */
void sim_host_on_change(sim_host *h, void (*cb)(void *ctx), void *ctx);

/* --- links --- */

/* One direction of one host's access link. A path's figures are those of the sender's up and the
 * receiver's down link added; within one realm that is not the internet: SIM_LAN_US each way and
 * nothing else. */
#define SIM_LAN_US (500 * UINT64_C(1))
typedef struct sim_link {
  uint64_t latency_us, jitter_us; /* uniform in latency ± jitter, not below 0 */
  uint32_t loss_permille;         /* streams: a lost segment costs its retransmission's time */
  uint32_t reorder_permille;      /* so many datagrams do not wait for those before them */
  uint64_t reorder_us;            /* and are late by up to this */
  uint32_t mtu_bytes;             /* 0: 1500. Longer packets vanish (a black hole) */
  bool mtu_known;                 /* the host knows: EMSGSIZE instead */
  bool udp_blocked, tcp_blocked;  /* dropped; streams stall */
  bool (*dropped)(const uint8_t *bytes, size_t len); /* pairs only: a firewall that looks inside */
  bool udp_refused; /* up only: sends give EPERM, as a local firewall does */
} sim_link;
sim_link *sim_host_up(sim_host *h); /* change the fields at any time */
sim_link *sim_host_down(sim_host *h);
/* Both directions: latency_us each way, the other fields stay. */
void sim_host_set_latency(sim_host *h, uint64_t latency_us);
void sim_host_block_udp(sim_host *h, bool in, bool out);
/* Extra figures of one ordered pair of hosts, added to the rest. NULL ends. */
void sim_net_set_pair(sim_net *n, const sim_host *from, const sim_host *to, const sim_link *l);

/* --- UDP --- */

typedef struct sim_udp sim_udp;
typedef void (*sim_udp_cb)(void *ctx, const msock_addr *src, const msock_addr *dst,
                           const uint8_t *bytes, size_t len);
/* on NULL or port 0: an ephemeral port (random, 32768..60999); an unspecified address: all, of IPv4
 * or, with ::, both. NULL with errno EADDRINUSE or EADDRNOTAVAIL. */
sim_udp *sim_udp_bind(sim_host *h, const msock_addr *on, sim_udp_cb cb, void *ctx);
void sim_udp_free(sim_udp *u); /* NULL is fine */
msock_addr sim_udp_local(const sim_udp *u);
/* 0, or the errno that Linux would give: EPERM, ENETUNREACH, EHOSTUNREACH, EMSGSIZE, EINVAL. */
int sim_udp_send(sim_udp *u, const msock_addr *to, const uint8_t *bytes, size_t len);

/* --- streams, as TCP is --- */

#define SIM_STREAM_WINDOW 262144u           /* bytes written and not yet read by the other end */
#define SIM_STREAM_DIAL_US (20 * MSOCK_SEC) /* unanswered connects: ETIMEDOUT */
#define SIM_STREAM_USER_TIMEOUT_US (15 * MSOCK_SEC) /* unacknowledged bytes: ETIMEDOUT */
#define SIM_STREAM_RETRY_US (3 * MSOCK_SEC) /* longest pause between tries of a stalled stream */
typedef struct sim_stream sim_stream;
typedef struct sim_listener sim_listener;

typedef struct sim_stream_handlers {
  void (*connected)(void *ctx); /* dialled streams only */
  void (*readable)(void *ctx, const uint8_t *bytes, size_t len);
  void (*writable)(void *ctx); /* after a write that was not taken whole */
  /* Once, nothing follows: 0 the other end finished and everything was read; else an errno:
   * ECONNREFUSED, ECONNRESET, ETIMEDOUT, ENETUNREACH, EHOSTUNREACH. Free the stream then. */
  void (*closed)(void *ctx, int error);
} sim_stream_handlers;

/* handlers are copied. NULL only without memory; everything else comes by closed. */
sim_stream *sim_stream_dial(sim_host *h, const msock_addr *to, const sim_stream_handlers *handlers,
                            void *ctx);
/* accepted: call sim_stream_accept or sim_stream_free at once. NULL with errno EADDRINUSE. */
sim_listener *sim_listen(sim_host *h, const msock_addr *on,
                         void (*accepted)(void *ctx, sim_stream *s, const msock_addr *peer),
                         void *ctx);
void sim_listener_free(sim_listener *l); /* NULL is fine; accepted streams stay */
msock_addr sim_listener_addr(const sim_listener *l);
void sim_stream_accept(sim_stream *s, const sim_stream_handlers *handlers, void *ctx);
/* Gives the number of bytes taken; less than len: wait for writable. */
size_t sim_stream_write(sim_stream *s, const uint8_t *bytes, size_t len);
void sim_stream_pause(sim_stream *s, bool paused); /* no readable while paused: back-pressure */
void sim_stream_finish(sim_stream *s); /* the other end reads what was written, then 0 */
void sim_stream_reset(sim_stream *s);  /* the other end gets ECONNRESET; frees */
/* finish and forget: what was written still arrives. NULL is fine. */
void sim_stream_free(sim_stream *s);
msock_addr sim_stream_local(const sim_stream *s);
msock_addr sim_stream_remote(const sim_stream *s);
/* Every stream of the host breaks: told to both ends (reset) or to nobody (they find out by their
 * timers, as after a crash of a box in between). */
void sim_host_break_streams(sim_host *h, bool told);

/* --- what an observer sees --- */

typedef enum sim_tap_kind {
  SIM_TAP_SENT = 0, /* at the sender, before everything; src is the inside address */
  SIM_TAP_RECEIVED, /* at the receiver's socket; src is what it sees */
  SIM_TAP_LOST      /* with why */
} sim_tap_kind;
typedef struct sim_tap_event {
  sim_tap_kind kind;
  sim_host *host;         /* sender, or receiver when RECEIVED */
  const sim_udp *socket;  /* of host; NULL when LOST */
  sim_host *from;         /* who sent it */
  uint64_t socket_serial; /* of the sending socket: never the same for two */
  msock_addr src, dst;
  msock_addr sent_to; /* the destination as the sender wrote it */
  const uint8_t *bytes;
  size_t len;
  const char *why;
} sim_tap_event;
void sim_net_set_tap(sim_net *n, void (*cb)(void *ctx, const sim_tap_event *ev), void *ctx);

typedef struct sim_net_stats {
  uint64_t sent, received, lost, bytes;
} sim_net_stats;
const sim_net_stats *sim_net_get_stats(const sim_net *n);

#endif
