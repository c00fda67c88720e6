/* netcheck/home.h: the report on the network, and which DERP region is home (netcheck.md 2).
 *
 * Pure machine, output polled. A round sends STUN from the one UDP socket that the shell owns
 * (plan.h says when and to whom), measures, chooses, files a report, and sleeps 20 to 26 s. Life of
 * a round: start -> STUN; no answer at all in 1 s, or nothing to send -> also one HTTPS request to
 * every region without latency; every set answered, or the stop timer, or 3 s (5 s with HTTPS)
 * -> end. A full round without any answer after 200 ms also looks for a captive portal. ICMP echo,
 * the reference's other fallback, is left out: it needs a privilege that most systems withhold, and
 * where UDP is blocked it mostly is too.
 *
 * A node that has no home yet decides early: at once when every region answered, else 20 to 100 ms
 * (twice the best latency) after the first answer, or 50 ms after the first HTTPS answer. The round
 * goes on and may correct the choice at its end under the hysteresis of netcheck.md 2.6.
 *
 * After 45 s without traffic the rounds pause; the next packet starts one. The privacy profile
 * (sweep) has its own rhythm instead: every 30 s one request to each of at most 8 servers. */
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
#include "netcheck/captive.h"
#include "netcheck/stun.h"

#define MSOCK_HOME_COUNTERS_MAX 32u  /* mapped addresses of one report and family; more: dropped */
#define MSOCK_HOME_REFLEXIVE_MAX 32u /* answers that wait to be polled; more: dropped, counted */

typedef struct msock_home_config {
  msock_env env;
  bool ipv6;        /* the UDP socket speaks IPv6 too */
  bool os_has_ipv6; /* [::1] can be bound; false where IPv6 is not permitted */
  bool no_names;   /* never ask for a name: nodes without an address literal are skipped, counted */
  bool no_stun;    /* no UDP socket, or TCP only: rounds start with HTTPS */
  bool no_https;   /* no fallback without UDP: privacy profile */
  bool no_captive; /* never look for a captive portal: privacy profile */
  bool sweep;      /* the rhythm of the privacy profile (netcheck.md 2.8) */
} msock_home_config;

typedef enum msock_home_kind {
  MSOCK_HOME_SEND_STUN =
      1,                  /* addr, bytes, len: send from the UDP socket now, answer with _on_sent */
  MSOCK_HOME_RESOLVE,     /* host: answer with msock_home_on_resolved(id) */
  MSOCK_HOME_HTTPS_PROBE, /* target at addr: GET https://HOST/derp/latency-check, TLS as for DERP,
                           * within budget_us; answer with msock_home_on_https_result(id) */
  MSOCK_HOME_CAPTIVE_PROBE, /* addr: GET http://ADDR/generate_204?t=<unix>, no redirects, header
                             * MSOCK_CAPTIVE_CHALLENGE: challenge, within budget_us; answer with
                             * msock_home_on_captive_result(id) (captive.h) */
  MSOCK_HOME_REFLEXIVE,     /* the STUN server addr sees the socket at mapped */
  MSOCK_HOME_REPORT,        /* a report was filed: msock_home_report_of */
  MSOCK_HOME_CHANGED        /* region is the new home */
} msock_home_kind;

typedef struct msock_home_output {
  msock_home_kind kind;
  uint32_t id; /* give it back with the answer; stale ids are ignored */
  msock_region_id region;
  uint32_t node; /* index in the region's nodes */
  msock_addr addr, mapped;
  char host[256];                /* RESOLVE: the name */
  const msock_derp_node *target; /* HTTPS_PROBE; valid until the next call on this machine */
  char challenge[MSOCK_CAPTIVE_TEXT_MAX];
  uint64_t budget_us;
  uint8_t bytes[MSOCK_STUN_REQUEST_LEN];
  size_t len;
} msock_home_output;

typedef struct msock_home_latency {
  msock_region_id region;
  uint64_t best_us; /* the smallest of the others; 0 = not measured in this report */
  uint64_t v4_us;   /* STUN over IPv4; 0 = none */
  uint64_t v6_us;
  uint64_t https_us; /* request and answer, without the dial */
} msock_home_latency;

typedef struct msock_home_counter { /* a mapped address, and how many answers named it */
  msock_addr addr;
  uint32_t n;
} msock_home_counter;

/* What a round found (netcheck.md 2.1). ICMP and port mapping are not probed. */
typedef struct msock_home_report {
  uint64_t at_us;                    /* when it was filed; 0 = none yet */
  bool final;                        /* false: filed early, the round goes on */
  bool full;                         /* every region was asked, not only the fastest */
  bool udp;                          /* a STUN answer came */
  bool ipv4, ipv6;                   /* an answer came over that family, STUN or HTTPS */
  bool ipv4_can_send, ipv6_can_send; /* the system took a datagram */
  bool os_has_ipv6;
  msock_tristate mapping_varies; /* netcheck.md 2.4 */
  msock_tristate captive_portal; /* unknown: not looked for */
  msock_addr global_v4;          /* of the first IPv4 answer; family 0 = none */
  msock_addr global_v6;          /* of the latest IPv6 answer */
  size_t n_v4_counters, n_v6_counters;
  msock_home_counter v4_counters[MSOCK_HOME_COUNTERS_MAX];
  msock_home_counter v6_counters[MSOCK_HOME_COUNTERS_MAX];
  msock_region_id preferred; /* what this report alone says; 0 = nothing */
  size_t n_regions;
  msock_home_latency regions[MSOCK_DERP_REGIONS_MAX]; /* ascending id, all of the map */
} msock_home_report;

typedef struct msock_home_stats {
  uint64_t rounds;
  uint64_t probes_sent;
  uint64_t probes_dropped;    /* too many in flight */
  uint64_t stun_skipped_name; /* sets without a probe because names are not resolved */
  uint64_t rx_unknown, rx_wrong_source, rx_malformed;
  uint64_t reflexive_dropped; /* MSOCK_HOME_REFLEXIVE_MAX of them waited */
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
/* A full round, if none is under way: the next final report is a full one. False: there is nothing
 * to measure (not started, or no map). */
bool msock_home_want_full(msock_home *h, uint64_t now_us);
/* A packet went through the tunnel: rounds go on, or start again. Cheap. */
void msock_home_on_activity(msock_home *h, uint64_t now_us);
/* Other network: forgets latencies, names and addresses, ends the round, starts a full one. */
void msock_home_link_changed(msock_home *h, uint64_t now_us);
/* The UDP socket came, went, or speaks other families than before: from the next round on. */
void msock_home_set_socket(msock_home *h, bool udp, bool ipv6);
/* Without a live control connection an existing home is never changed. Up at first. */
void msock_home_set_control_up(msock_home *h, bool up);

/* A datagram from the UDP socket. True: it was STUN and is dealt with; false: not ours. */
bool msock_home_on_udp(msock_home *h, uint64_t now_us, const msock_addr *from, const uint8_t *p,
                       size_t len);
/* All addresses of a name; n = 0: it failed. */
void msock_home_on_resolved(msock_home *h, uint64_t now_us, uint32_t id, const msock_ip *ips,
                            size_t n);
/* ok: the system took the datagram, or failed in a way that counts as loss on the wire. */
void msock_home_on_sent(msock_home *h, uint8_t family, bool ok);
/* latency_us: from the request to the end of its answer, status 299 or less; 0 = it failed. */
void msock_home_on_https_result(msock_home *h, uint64_t now_us, uint32_t id, uint64_t latency_us);
/* found: msock_captive_found; false also when the request failed. */
void msock_home_on_captive_result(msock_home *h, uint64_t now_us, uint32_t id, bool found);
/* A frame came over the DERP connection of that region: it is reachable (netcheck.md 2.6). */
void msock_home_on_derp_frame(msock_home *h, uint64_t now_us, msock_region_id region);
/* The DERP connection to that region broke: the frames before no longer say that it is reachable.
 * They still count where nothing at all is measured. */
void msock_home_on_derp_lost(msock_home *h, uint64_t now_us, msock_region_id region);

/* A DERP connection to that region came up; connect_us: what its TCP connect took. Where neither
 * STUN nor HTTPS measures, this does (netcheck.md 2.8). */
void msock_home_on_derp_connected(msock_home *h, msock_region_id region, uint64_t connect_us);

/* MSOCK_NEVER when nothing is planned. */
uint64_t msock_home_next_expiry(const msock_home *h);
void msock_home_on_expiry(msock_home *h, uint64_t now_us);
/* Poll after every call above until false. STUN is timed from this call. */
bool msock_home_next_output(msock_home *h, uint64_t now_us, msock_home_output *out);

/* Home region; 0 = none yet. */
msock_region_id msock_home_region(const msock_home *h);
/* The map in force; never NULL; valid until the next msock_home_set_map. */
const msock_derp_map *msock_home_map(const msock_home *h);
/* The last report; never NULL; valid until the next call that takes the time. */
const msock_home_report *msock_home_report_of(const msock_home *h);
/* Addresses of a report to tell others (netcheck.md 2.1): the first IPv4, the latest IPv6, and what
 * was seen more than once. At most cap; gives the number. */
size_t msock_home_reflexive(const msock_home_report *r, msock_addr *out, size_t cap);
msock_home_stats msock_home_get_stats(const msock_home *h);

#endif
