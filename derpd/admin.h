/* derpd/admin.h: the admin listener: a page for people (/), Prometheus (/metrics, and derper's
 * /debug/varz), /healthz (the process works) and /readyz (it takes clients: not while draining).
 * Plain HTTP, one request per connection, read only. */
#ifndef MSOCK_DERPD_ADMIN_H
#define MSOCK_DERPD_ADMIN_H

#include "config/derpd_config.h"
#include "derp/server.h"
#include "derpd/metrics.h"
#include "io/egress.h"

#define MSOCK_DERPD_ADMIN_CONNS 32u                    /* more are closed at once */
#define MSOCK_DERPD_ADMIN_DEADLINE_US (15 * MSOCK_SEC) /* of one request */

typedef struct msock_derpd_admin_cfg { /* borrowed for life */
  msock_egress *egress;
  void (*snapshot)(void *ctx, msock_derpd_snapshot *out);
  void (*write_page)(void *ctx, msock_derpd_text *t);
  void *ctx;
} msock_derpd_admin_cfg;

typedef struct msock_derpd_admin msock_derpd_admin;
/* No listener configured: an idle object. MSOCK_ERR_IO with a sentence in why. */
msock_err msock_derpd_admin_new(const msock_derpd_admin_cfg *cfg, const msock_derpd_config *v,
                                msock_derpd_admin **out, char *why, size_t cap);
void msock_derpd_admin_free(msock_derpd_admin *a);
size_t msock_derpd_admin_count(const msock_derpd_admin *a);
msock_addr msock_derpd_admin_addr(const msock_derpd_admin *a, size_t i);
/* The end of a turn: ends what is over. */
void msock_derpd_admin_pump(msock_derpd_admin *a, uint64_t now_us);

#endif
