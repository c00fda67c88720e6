#include "node/netcheck_json.h"

#include <inttypes.h>
#include <stdio.h>

#include "node/json_text.h"

#define NS_PER_US 1000u

static uint64_t best(const msock_home_latency *l) {
  return l->best_us;
}
static uint64_t v4(const msock_home_latency *l) {
  return l->v4_us;
}
static uint64_t v6(const msock_home_latency *l) {
  return l->v6_us;
}
static uint64_t https(const msock_home_latency *l) {
  return l->https_us;
}

static void latencies(msock_json_text *j, const char *name, const msock_home_report *r,
                      uint64_t (*of)(const msock_home_latency *l)) {
  char id[24];
  msock_json_open(j, name, '{');
  for (size_t i = 0; i < r->n_regions; i++) {
    const uint64_t us = of(&r->regions[i]);
    if (us != 0) {
      snprintf(id, sizeof id, "%" PRIu64, r->regions[i].region);
      msock_json_u64(j, id, us * NS_PER_US);
    }
  }
  msock_json_close(j, '}');
}

static void counters(msock_json_text *j, const char *name, const msock_home_counter *c, size_t n) {
  char text[MSOCK_ADDR_TEXT_MAX];
  msock_json_open(j, name, '{');
  for (size_t i = 0; i < n; i++) {
    msock_json_u64(j, msock_addr_text(&c[i].addr, text), c[i].n);
  }
  msock_json_close(j, '}');
}

static void address(msock_json_text *j, const char *name, const msock_addr *a) {
  char text[MSOCK_ADDR_TEXT_MAX];
  msock_json_str(j, name, a->ip.family != 0 ? msock_addr_text(a, text) : "");
}

static void tristate(msock_json_text *j, const char *name, msock_tristate t) {
  if (t != MSOCK_TRISTATE_UNKNOWN) {
    msock_json_bool(j, name, t == MSOCK_TRISTATE_TRUE);
  }
}

static void reflexive(msock_json_text *j, const msock_home_report *r) {
  msock_addr seen[2 * MSOCK_HOME_COUNTERS_MAX];
  char text[MSOCK_ADDR_TEXT_MAX];
  const size_t n = msock_home_reflexive(r, seen, sizeof seen / sizeof *seen);
  msock_json_open(j, "Reflexive", '[');
  for (size_t i = 0; i < n; i++) {
    msock_json_str(j, NULL, msock_addr_text(&seen[i], text));
  }
  msock_json_close(j, ']');
}

static void own(msock_json_text *j, const msock_netcheck_view *v) {
  msock_json_open(j, "TSNode", '{');
  msock_json_str(j, "NAT", msock_nat_name(v->nat));
  msock_json_str(j, "Sentence", msock_nat_sentence(v->nat));
  msock_json_u64(j, "Home", v->home);
  msock_json_bool(j, "Full", v->report->full);
  reflexive(j, v->report);
  latencies(j, "RegionHTTPSLatency", v->report, https);
  msock_json_open(j, "Regions", '[');
  for (size_t i = 0; i < v->map->n_regions; i++) {
    msock_json_open(j, NULL, '{');
    msock_json_u64(j, "RegionID", v->map->regions[i].id);
    msock_json_str(j, "RegionCode", v->map->regions[i].code);
    msock_json_str(j, "RegionName", v->map->regions[i].name);
    msock_json_close(j, '}');
  }
  msock_json_close(j, ']');
  msock_json_close(j, '}');
}

char *msock_netcheck_json(const msock_netcheck_view *v, size_t *len) {
  const msock_home_report *r = v->report;
  msock_json_text j = {0};

  msock_json_open(&j, NULL, '{');
  msock_json_time(&j, "Now", v->wall_us);
  msock_json_bool(&j, "UDP", r->udp);
  msock_json_bool(&j, "IPv6", r->ipv6);
  msock_json_bool(&j, "IPv4", r->ipv4);
  msock_json_bool(&j, "IPv6CanSend", r->ipv6_can_send);
  msock_json_bool(&j, "IPv4CanSend", r->ipv4_can_send);
  msock_json_bool(&j, "OSHasIPv6", r->os_has_ipv6);
  msock_json_bool(&j, "ICMPv4", false);
  tristate(&j, "MappingVariesByDestIP", r->mapping_varies);
  msock_json_u64(&j, "PreferredDERP", r->preferred);
  latencies(&j, "RegionLatency", r, best);
  latencies(&j, "RegionV4Latency", r, v4);
  latencies(&j, "RegionV6Latency", r, v6);
  counters(&j, "GlobalV4Counters", r->v4_counters, r->n_v4_counters);
  counters(&j, "GlobalV6Counters", r->v6_counters, r->n_v6_counters);
  address(&j, "GlobalV4", &r->global_v4);
  address(&j, "GlobalV6", &r->global_v6);
  tristate(&j, "CaptivePortal", r->captive_portal);
  own(&j, v);
  msock_json_close(&j, '}');
  return msock_json_text_take(&j, len);
}

static msock_tristate known(bool yes) {
  return yes ? MSOCK_TRISTATE_TRUE : MSOCK_TRISTATE_FALSE;
}

static void add_latency(msock_netinfo *ni, msock_region_id region, uint8_t family, uint64_t us) {
  if (us != 0 && ni->n_latencies < MSOCK_CONTROL_LATENCIES_MAX) {
    ni->latencies[ni->n_latencies++] = (msock_derp_latency){region, family, us};
  }
}

msock_netinfo msock_netcheck_netinfo(const msock_home_report *r, msock_region_id home) {
  msock_netinfo ni = {.preferred_derp = home,
                      .working_udp = known(r->udp),
                      .working_ipv6 = known(r->ipv6),
                      .os_has_ipv6 = known(r->os_has_ipv6),
                      .mapping_varies_by_dest_ip = r->mapping_varies};
  for (size_t i = 0; i < r->n_regions; i++) {
    add_latency(&ni, r->regions[i].region, 4, r->regions[i].v4_us);
    add_latency(&ni, r->regions[i].region, 6, r->regions[i].v6_us);
  }
  return ni;
}
