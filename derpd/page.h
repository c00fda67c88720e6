/* derpd/page.h: the status page: who is connected, how fast, what was dropped or refused and why.
 * Plain HTML and SVG, no scripts; it asks to be loaded again every few seconds. */
#ifndef MSOCK_DERPD_PAGE_H
#define MSOCK_DERPD_PAGE_H

#include "derp/server.h"
#include "derpd/metrics.h"
#include "derpd/text.h"

#define MSOCK_DERPD_HISTORY 240u /* samples of the curve: an hour */
#define MSOCK_DERPD_HISTORY_STEP_US (15 * MSOCK_SEC)
#define MSOCK_DERPD_PAGE_PEERS 200u /* rows; the busiest ones */
#define MSOCK_DERPD_PAGE_REFRESH_S 5u

typedef struct msock_derpd_history {
  uint64_t in[MSOCK_DERPD_HISTORY], out[MSOCK_DERPD_HISTORY]; /* bytes per second, a ring */
  size_t at, n;
  uint64_t last_in, last_out, last_us; /* counters at the last sample; last_us 0 = none yet */
} msock_derpd_history;

/* One sample, from the counters as they are. */
void msock_derpd_history_add(msock_derpd_history *h, uint64_t now_us, uint64_t bytes_in,
                             uint64_t bytes_out);

void msock_derpd_page_write(const msock_derpd_snapshot *s, const msock_derpd_history *h,
                            const msock_derp_server *core, msock_derpd_text *t);

#endif
