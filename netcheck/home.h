/* netcheck/home.h: which DERP region is home: probes, latencies, choice (netcheck.md 2).
 *
 * Pure machine, output polled. A round sends STUN from the one UDP socket that the shell owns
 * (plan.h says when and to whom), measures, chooses, files a report, and sleeps 20 to 26 s. Life of
 * a round: start -> STUN; no answer at all in 1 s, or nothing to send -> also TCP connects to the
 * regions' relay ports; every set answered, or the stop timer, or 3 s (5 s with TCP) -> end.
 *
 * A node that has no home yet decides early: at once when every region answered, else 20 to 100 ms
 * (twice the best latency) after the first answer, or 50 ms after the first TCP connect. The round
 * goes on and may correct the choice at its end under the hysteresis of netcheck.md 2.6. */
#ifndef MSOCK_NETCHECK_HOME_H
#define MSOCK_NETCHECK_HOME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/derp_map.h"
#include "base/env.h"
#include "base/err.h"
#include "base/tristate.h"
#include "netcheck/stun.h"

typedef struct msock_home_config {
  msock_env env;
  bool ipv6;     /* the UDP socket speaks IPv6 too */
  bool no_names; /* never ask for a name: nodes without an address literal are skipped, counted */
  bool no_stun;  /* no UDP socket, or TCP only: rounds start with TCP connects */
} msock_home_config;

typedef enum msock_home_kind {
  MSOCK_HOME_SEND_STUN = 1, /* addr, bytes, len: send from the UDP socket now */
  MSOCK_HOME_RESOLVE,       /* host: answer with msock_home_on_resolved(id) */
  MSOCK_HOME_TCP_PROBE,     /* addr: connect, close, answer with msock_home_on_tcp_result(id) */
  MSOCK_HOME_REPORT,        /* a report was filed: msock_home_report_of */
  MSOCK_HOME_CHANGED        /* region is the new home */
} msock_home_kind;

typedef struct msock_home_output {
  msock_home_kind kind;
  uint32_t id; /* RESOLVE, TCP_PROBE: give it back with the answer; stale ids are ignored */
  msock_region_id region;
  uint32_t node;   /* index in the region's nodes */
  msock_addr addr; /* SEND_STUN, TCP_PROBE */
  char host[256];  /* RESOLVE: the name */
  uint8_t bytes[MSOCK_STUN_REQUEST_LEN];
  size_t len;
} msock_home_output;

typedef struct msock_home_latency {
  msock_region_id region;
  uint64_t best_us; /* the smallest of the others; 0 = not measured in this report */
  uint64_t v4_us;   /* STUN over IPv4; 0 = none */
  uint64_t v6_us;
  uint64_t tcp_us; /* TCP connect */
} msock_home_latency;

/* What a round found (netcheck.md 2.1). */
typedef struct msock_home_report {
  uint64_t at_us;                /* when it was filed; 0 = none yet */
  bool final;                    /* false: filed early, the round goes on */
  bool udp, ipv4, ipv6;          /* a STUN answer came; over that family */
  msock_tristate mapping_varies; /* netcheck.md 2.4 */
  msock_addr global_v4;          /* of the first IPv4 answer; family 0 = none */
  msock_addr global_v6;          /* of the latest IPv6 answer */
  msock_region_id preferred;     /* what this report alone says; 0 = nothing */
  size_t n_regions;
  msock_home_latency regions[MSOCK_DERP_REGIONS_MAX]; /* ascending id, all of the map */
} msock_home_report;

typedef struct msock_home_stats {
  uint64_t rounds;
  uint64_t probes_sent;
  uint64_t probes_dropped;    /* too many in flight */
  uint64_t stun_skipped_name; /* sets without a probe because names are not resolved */
  uint64_t rx_unknown, rx_wrong_source, rx_malformed;
} msock_home_stats;

typedef struct msock_home msock_home;

/* NULL when memory is short. Idle until started. */
msock_home *msock_home_new(const msock_home_config *config);
void msock_home_free(msock_home *h);

/* The map; copied; NULL = none. A map that differs ends the round and, when running, starts a full
 * one. Latencies of regions that stay are kept. MSOCK_ERR_NOMEM leaves the old map. */
msock_err msock_home_set_map(msock_home *h, uint64_t now_us, const msock_derp_map *map);
/* Starts rounds; the first as soon as there is a map. */
void msock_home_start(msock_home *h, uint64_t now_us);
/* No further output until the next start; the home stays. */
void msock_home_stop(msock_home *h);
/* A full round now; during a round: right after it. */
void msock_home_probe(msock_home *h, uint64_t now_us);
/* Other network: forgets latencies, names and addresses, ends the round, starts a full one. */
void msock_home_link_changed(msock_home *h, uint64_t now_us);
/* Without a live control connection an existing home is never changed. Up at first. */
void msock_home_set_control_up(msock_home *h, bool up);

/* A datagram from the UDP socket. True: it was STUN and is dealt with; false: not ours. */
bool msock_home_on_udp(msock_home *h, uint64_t now_us, const msock_addr *from, const uint8_t *p,
                       size_t len);
/* All addresses of a name; n = 0: it failed. */
void msock_home_on_resolved(msock_home *h, uint64_t now_us, uint32_t id, const msock_ip *ips,
                            size_t n);
void msock_home_on_tcp_result(msock_home *h, uint64_t now_us, uint32_t id, bool ok);
/* A frame came over the DERP connection of that region: it is reachable (netcheck.md 2.6). */
void msock_home_on_derp_frame(msock_home *h, uint64_t now_us, msock_region_id region);

/* MSOCK_NEVER when nothing is planned. */
uint64_t msock_home_next_expiry(const msock_home *h);
void msock_home_on_expiry(msock_home *h, uint64_t now_us);
/* Poll after every call above until false. STUN and TCP are timed from this call. */
bool msock_home_next_output(msock_home *h, uint64_t now_us, msock_home_output *out);

/* Home region; 0 = none yet. */
msock_region_id msock_home_region(const msock_home *h);
/* The last report; never NULL; valid until the next call that takes the time. */
const msock_home_report *msock_home_report_of(const msock_home *h);
msock_home_stats msock_home_get_stats(const msock_home *h);

#endif
