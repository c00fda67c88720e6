/* derpd/metrics.h: Prometheus text (exposition format 0.0.4) under derper's names and meanings
 * (derp.md 4.7), ours under tsderp_. No key, name or address is a label: the number of series is
 * fixed. */
#ifndef MSOCK_DERPD_METRICS_H
#define MSOCK_DERPD_METRICS_H

#include "derp/server_events.h"
#include "derpd/admission.h"
#include "derpd/relay.h"
#include "derpd/stun_server.h"
#include "derpd/text.h"

/* All that is shown, as of one moment. */
typedef struct msock_derpd_snapshot {
  uint64_t now_us, started_us;
  msock_node_key key;
  const char *hostname; /* what clients call it */
  bool draining;
  msock_derp_server_stats core;
  msock_derpd_relay_stats relay;
  msock_derpd_stun_stats stun;
  msock_derpd_admission_stats admission;
  uint64_t quota_saves, quota_save_failures, reloads, reload_failures;
  uint64_t open_files, rss_bytes;
} msock_derpd_snapshot;

void msock_derpd_metrics_write(const msock_derpd_snapshot *s, msock_derpd_text *t);

#endif
