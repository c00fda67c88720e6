/* derpd/stun_server.h: the STUN listeners: derper's rules (netcheck.md 1.2, 1.3), silence for
 * everybody else unless stun_public; answers leave from the address that was asked. */
#ifndef MSOCK_DERPD_STUN_SERVER_H
#define MSOCK_DERPD_STUN_SERVER_H

#include "config/derpd_config.h"
#include "io/egress.h"
#include "netcheck/stun.h"

typedef struct msock_derpd_stun_stats { /* derp.md 4.7, stun_requests and stun_addrfamily */
  uint64_t success, not_stun, read_errors, write_errors;
  uint64_t family4, family6;
  uint64_t verdicts[MSOCK_STUN_VERDICTS];
} msock_derpd_stun_stats;

typedef struct msock_derpd_stun msock_derpd_stun;
/* No listener configured: an idle object. MSOCK_ERR_IO with a sentence in why: an address cannot be
 * bound. Borrows eg for life. */
msock_err msock_derpd_stun_new(msock_egress *eg, const msock_derpd_config *v,
                               msock_derpd_stun **out, char *why, size_t cap);
void msock_derpd_stun_free(msock_derpd_stun *s);
void msock_derpd_stun_set_public(msock_derpd_stun *s, bool is_public);
size_t msock_derpd_stun_count(const msock_derpd_stun *s);
msock_addr msock_derpd_stun_addr(const msock_derpd_stun *s, size_t i);
msock_derpd_stun_stats msock_derpd_stun_get_stats(const msock_derpd_stun *s);

#endif
