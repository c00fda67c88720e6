/* io/tcp.h: dial a TCP connection: candidates with start delays, first success wins (derp.md 1.2).
 *
 * A family whose candidates all failed does not wait out the other family's delay. */
#ifndef MSOCK_IO_TCP_H
#define MSOCK_IO_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/derp_map.h"
#include "base/err.h"
#include "io/egress.h"
#include "io/loop.h"

#define MSOCK_TCP_CANDIDATES_MAX 16u           /* literals and answers together; more: ignored */
#define MSOCK_TCP_V4_DELAY_US (200 * MSOCK_MS) /* derp.md 1.2, when IPv6 is known to work */
#define MSOCK_TCP_NODE_BUDGET_US (1500 * MSOCK_MS) /* derp.md 1.2, both families together */
#define MSOCK_TCP_WHY_MAX 200u

/* Where to. Copied by the dial. */
typedef struct msock_tcp_target {
  msock_purpose purpose;
  char host[256]; /* resolved for the families below; may be an IP literal or "" */
  bool resolve_v4, resolve_v6;
  msock_ip literal[2]; /* dialled without DNS; family 0 = unset */
  uint16_t port;
  uint64_t v4_delay_us; /* IPv4 candidates start this late */
  uint64_t budget_us;   /* whole dial, look-up included */
} msock_tcp_target;

/* Plain target: a literal host is dialled, a name resolved in the permitted families. */
void msock_tcp_target_host(msock_tcp_target *t, msock_purpose p, const char *host, uint16_t port,
                           uint64_t budget_us);
/* The rules of derp.md 1.1 and 1.2: literals, `none`, a literal HostName dials only its family,
 * DERPPort, IPv4 200 ms late when ipv6_works, 1.5 s. */
void msock_tcp_target_derp(msock_tcp_target *t, const msock_derp_node *n, bool ipv6_works);

typedef struct msock_tcp_dial msock_tcp_dial;
typedef struct msock_tcp_result {
  msock_err err; /* MSOCK_OK, MSOCK_ERR_IO, MSOCK_ERR_TIMEOUT, MSOCK_ERR_DENIED */
  int fd;        /* connected, owned by the receiver; -1 on error */
  msock_addr local, remote;
  char why[MSOCK_TCP_WHY_MAX]; /* on error: what failed where, and what to do */
} msock_tcp_result;

/* cb is called once, in a later turn, unless freed before; the dial is over then and still has to
 * be freed. Immediate errors: MSOCK_ERR_NOMEM; MSOCK_ERR_INVALID: nothing to dial (both families
 * off); MSOCK_ERR_DENIED. */
msock_err msock_tcp_dial_new(msock_egress *eg, const msock_tcp_target *t,
                             void (*cb)(void *ctx, const msock_tcp_result *r), void *ctx,
                             msock_tcp_dial **out);
/* Cancels when still under way. NULL is fine. */
void msock_tcp_dial_free(msock_tcp_dial *d);

#endif
