/* io/egress.h: the one place where descriptors are opened that can put a packet on a wire.
 *
 * Every call names its purpose; the active profile's table (netcheck.md 4.1) decides before any
 * descriptor exists. The ledger says afterwards who was talked to. Only egress.c calls socket,
 * connect, bind, sendto and the resolver; udp.c sends batches behind the same verdict. */
#ifndef MSOCK_IO_EGRESS_H
#define MSOCK_IO_EGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "io/loop.h"

/* Rows of netcheck.md 4.1, then those of the relay. */
typedef enum msock_purpose {
  MSOCK_PURPOSE_CTL = 0,
  MSOCK_PURPOSE_DERP,
  MSOCK_PURPOSE_DERP_HTTP,
  MSOCK_PURPOSE_STUN,
  MSOCK_PURPOSE_WG, /* WireGuard and disco to peers and peer relays */
  MSOCK_PURPOSE_DNS_SYS,
  MSOCK_PURPOSE_DNS_FWD,
  MSOCK_PURPOSE_PORTMAP,
  MSOCK_PURPOSE_ICMP,
  MSOCK_PURPOSE_CAPTIVE,
  MSOCK_PURPOSE_LOGS,
  MSOCK_PURPOSE_UPDATE,
  MSOCK_PURPOSE_META,
  MSOCK_PURPOSE_PROXY,
  MSOCK_PURPOSE_OCSP,
  MSOCK_PURPOSE_IPV6, /* asked in addition to the caller's own purpose for any IPv6 address */
  MSOCK_PURPOSE_MCAST,
  MSOCK_PURPOSE_PEERAPI,
  MSOCK_PURPOSE_LOCAL,   /* AF_UNIX */
  MSOCK_PURPOSE_NETLINK, /* NETLINK_ROUTE: never leaves the machine */
  MSOCK_PURPOSE_ADMISSION,
  MSOCK_PURPOSE_LISTEN,
  MSOCK_PURPOSE_COUNT
} msock_purpose;

/* The id of the table: "ctl", "derp-http", ... */
const char *msock_purpose_text(msock_purpose p);

typedef enum msock_profile { MSOCK_PROFILE_FULL = 0, MSOCK_PROFILE_PRIVACY_PROXY } msock_profile;

#define MSOCK_EGRESS_REMOTES_MAX 256u  /* ledger rows; full: the longest unused row is replaced */
#define MSOCK_EGRESS_VERDICTS_MAX 256u /* ring of the last verdicts */
#define MSOCK_EGRESS_MARK UINT32_C(0x80000) /* reference bypass mark, netcheck.md 4.2 */
#define MSOCK_EGRESS_DEVICE_MAX 16u         /* IFNAMSIZ: the name with its NUL */

typedef struct msock_egress_config {
  msock_profile profile;
  bool ipv6; /* permit AF_INET6; the privacy profile denies it all the same */
  uint32_t
      mark; /* SO_MARK on every internet socket; 0 = none. Not permitted: logged once, goes on */
  char device[MSOCK_EGRESS_DEVICE_MAX]; /* "" = as the routes say; else every internet socket but
                                           those to loopback is bound to this interface, and cannot
                                           be opened while it is missing: MSOCK_ERR_IO, ENODEV */
} msock_egress_config;

typedef struct msock_egress msock_egress;
/* Borrows loop and log until freed. NULL: no memory. */
msock_egress *msock_egress_new(msock_loop *loop, const msock_egress_config *config,
                               const msock_log *log);
void msock_egress_free(msock_egress *eg);
msock_loop *msock_egress_loop(const msock_egress *eg);
const msock_egress_config *msock_egress_get_config(const msock_egress *eg);
/* From now on; sockets that are open keep their mark. */
void msock_egress_set_mark(msock_egress *eg, uint32_t mark);

/* The table as data, for `tsnode egress` and its nft output. */
bool msock_egress_allows(const msock_egress *eg, msock_purpose p);
/* Whether this purpose may look names up: its row is not literal-only and dns-sys is allowed. */
bool msock_egress_may_resolve(const msock_egress *eg, msock_purpose p);
/* Verdict for one destination, counted as allowed or denied: MSOCK_OK or MSOCK_ERR_DENIED. */
msock_err msock_egress_check(msock_egress *eg, msock_purpose p, const msock_addr *to);

/* All descriptors are non-blocking and close-on-exec; the caller closes them. MSOCK_ERR_DENIED
 * before any descriptor exists; MSOCK_ERR_IO with errno kept. */

/* A TCP connect under way: MSOCK_OK with *fd; finished when writable (SO_ERROR tells). Sets
 * TCP_NODELAY and TCP_USER_TIMEOUT 15 s. */
msock_err msock_egress_tcp_connect(msock_egress *eg, msock_purpose p, const msock_addr *to,
                                   int *fd);
/* The same without the connect, for libcurl, which then connects to exactly that address. */
msock_err msock_egress_tcp_open(msock_egress *eg, msock_purpose p, const msock_addr *to, int *fd);
/* Listening TCP socket. Port 0 = ephemeral: *at gets the real address. at may be NULL. */
msock_err msock_egress_tcp_listen(msock_egress *eg, msock_purpose p, const msock_addr *on, int *fd,
                                  msock_addr *at);
/* UDP socket; at as above. An IPv6 address gives one socket for both families (V6ONLY off, read
 * back): IPv4 peers are seen and addressed as IPv4, the kernel does the mapping. MSOCK_ERR_IO with
 * EAFNOSUPPORT where IPv6 is switched off. */
msock_err msock_egress_udp_bind(msock_egress *eg, msock_purpose p, const msock_addr *on, int *fd,
                                msock_addr *at);
/* One datagram, counted in the ledger. MSOCK_ERR_AGAIN: the socket buffer is full. */
msock_err msock_egress_sendto(msock_egress *eg, msock_purpose p, int fd, const msock_addr *to,
                              const void *data, size_t len);
/* Unprivileged ICMP echo socket of that family (4 or 6). */
msock_err msock_egress_icmp(msock_egress *eg, uint8_t family, int *fd);
/* Listens on a path; a stale socket file is replaced, a live one is MSOCK_ERR_AGAIN. mode: e.g.
 * 0660. */
msock_err msock_egress_unix_listen(msock_egress *eg, const char *path, unsigned mode, int *fd);
/* eg may be NULL: the command line has no profile. Blocking connect (local: at once). */
msock_err msock_egress_unix_connect(msock_egress *eg, const char *path, int *fd);
/* NETLINK_ROUTE socket, bound, joined to the given RTMGRP_* groups (0 = none). */
msock_err msock_egress_netlink(msock_egress *eg, uint32_t groups, int *fd);

/* Bytes that went through a socket opened here (streams, batches). Not a verdict. */
void msock_egress_account(msock_egress *eg, msock_purpose p, const msock_addr *remote,
                          uint64_t packets, uint64_t bytes);

/* Name look-up by the system resolver on libuv's pool. */
#define MSOCK_RESOLVE_IPS_MAX 16u /* more answers are dropped */
typedef struct msock_resolve msock_resolve;
/* MSOCK_OK: ips[0..n), n > 0, in the system's order. MSOCK_ERR_IO: why is the resolver's text. */
typedef void (*msock_resolve_cb)(void *ctx, msock_err err, const msock_ip *ips, size_t n,
                                 const char *why);
/* family: 4, 6, or 0 = what the profile permits. cb is called once, in a later turn. *out is for
 * cancelling and is gone once cb was called. MSOCK_ERR_DENIED: this profile or purpose is
 * literal-only. MSOCK_ERR_INVALID: name is empty, too long, or an address literal (dial it). */
msock_err msock_egress_resolve(msock_egress *eg, msock_purpose p, const char *name, uint8_t family,
                               msock_resolve_cb cb, void *ctx, msock_resolve **out);
/* cb will not be called. NULL is fine. */
void msock_resolve_cancel(msock_resolve *r);

typedef struct msock_egress_row { /* per purpose, exact */
  uint64_t allowed, denied;       /* verdicts */
  uint64_t packets, bytes;
  uint64_t first_us, last_us; /* 0 = never used */
} msock_egress_row;
typedef struct msock_egress_remote { /* per purpose and remote; bounded, see above */
  msock_purpose purpose;
  msock_addr remote;
  uint64_t packets, bytes;
  uint64_t first_us, last_us;
} msock_egress_remote;
typedef struct msock_egress_verdict {
  uint64_t at_us;
  msock_purpose purpose;
  msock_addr to; /* ip.family 0: not an internet address (a name, a local socket) */
  bool allowed;
} msock_egress_verdict;

const msock_egress_row *msock_egress_get_row(const msock_egress *eg, msock_purpose p);
/* Copies up to cap rows, most recently used first; gives the number copied. */
size_t msock_egress_remotes(const msock_egress *eg, msock_egress_remote *dst, size_t cap);
/* Copies up to cap verdicts, newest first. Opens and refusals are kept; per-packet passes are not.
 */
size_t msock_egress_verdicts(const msock_egress *eg, msock_egress_verdict *dst, size_t cap);

#endif
