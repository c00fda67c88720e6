/* The report as a document with tailscale's names, and as NetInfo for the control server. */
#include <stdlib.h>
#include <string.h>

#include "control/map_request.h"
#include "node/netcheck_json.h"
#include "tests/unit/testing.h"

#include <json-c/json.h>

/* Region 900 over both families, 901 by HTTPS alone, 902 silent. */
static msock_home_report measured(void) {
  msock_home_report r = {.at_us = 5,
                         .final = true,
                         .full = true,
                         .udp = true,
                         .ipv4 = true,
                         .ipv6 = true,
                         .ipv4_can_send = true,
                         .ipv6_can_send = true,
                         .os_has_ipv6 = true,
                         .mapping_varies = MSOCK_TRISTATE_TRUE,
                         .preferred = 900,
                         .n_regions = 3};
  r.regions[0] = (msock_home_latency){.region = 900, .best_us = 11, .v4_us = 12, .v6_us = 11};
  r.regions[1] = (msock_home_latency){.region = 901, .best_us = 40, .https_us = 40};
  r.regions[2] = (msock_home_latency){.region = 902};
  r.global_v4 = (msock_addr){msock_ip_v4(203, 0, 113, 7), 4001};
  r.global_v6 = (msock_addr){{6, {0x20, 1, [15] = 7}}, 4001};
  r.v4_counters[0] = (msock_home_counter){r.global_v4, 1};
  r.v4_counters[1] = (msock_home_counter){{msock_ip_v4(203, 0, 113, 7), 4002}, 2};
  r.n_v4_counters = 2;
  r.v6_counters[0] = (msock_home_counter){r.global_v6, 1};
  r.n_v6_counters = 1;
  return r;
}

static json_object *document(const msock_home_report *r, msock_nat nat) {
  static msock_derp_region regions[] = {{.id = 900, .code = "fra", .name = "Frank\"furt"},
                                        {.id = 901, .code = "sin", .name = "Singapore"}};
  const msock_derp_map map = {regions, 2};
  const msock_netcheck_view v = {r, &map, 901, nat, 0};
  size_t len = 0;
  char *text = msock_netcheck_json(&v, &len);
  ck_assert_ptr_nonnull(text);
  ck_assert_uint_eq(strlen(text), len);
  json_object *doc = json_tokener_parse(text);
  ck_assert_msg(doc != NULL, "not JSON: %s", text);
  free(text);
  return doc;
}

/* A member by its path, "RegionLatency/900", as JSON text; "" = absent. */
static const char *at(json_object *doc, const char *path) {
  char name[64];
  json_object *v = doc;
  while (*path) {
    const size_t n = strcspn(path, "/");
    ck_assert_uint_lt(n, sizeof name);
    memcpy(name, path, n);
    name[n] = '\0';
    path += n + (path[n] != '\0');
    if (!json_object_object_get_ex(v, name, &v)) {
      return "";
    }
  }
  return json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN);
}

START_TEST(names_and_values_are_those_of_the_reference) {
  static const struct {
    const char *path, *want;
  } cases[] = {
      {"Now", "\"0001-01-01T00:00:00Z\""},
      {"UDP", "true"},
      {"IPv6", "true"},
      {"IPv4", "true"},
      {"IPv6CanSend", "true"},
      {"IPv4CanSend", "true"},
      {"OSHasIPv6", "true"},
      {"ICMPv4", "false"},
      {"MappingVariesByDestIP", "true"},
      {"UPnP", ""},
      {"PMP", ""},
      {"PCP", ""},
      {"PreferredDERP", "900"},
      {"RegionLatency", "{\"900\":11000,\"901\":40000}"}, /* nanoseconds */
      {"RegionV4Latency", "{\"900\":12000}"},
      {"RegionV6Latency", "{\"900\":11000}"},
      {"GlobalV4Counters", "{\"203.0.113.7:4001\":1,\"203.0.113.7:4002\":2}"},
      {"GlobalV6Counters", "{\"[2001::7]:4001\":1}"},
      {"GlobalV4", "\"203.0.113.7:4001\""},
      {"GlobalV6", "\"[2001::7]:4001\""},
      {"CaptivePortal", ""},
      {"TSNode/NAT", "\"hard\""},
      {"TSNode/Home", "901"},
      {"TSNode/Full", "true"},
      {"TSNode/Reflexive", "[\"203.0.113.7:4001\",\"203.0.113.7:4002\",\"[2001::7]:4001\"]"},
      {"TSNode/RegionHTTPSLatency", "{\"901\":40000}"},
      {"TSNode/Regions", "[{\"RegionID\":900,\"RegionCode\":\"fra\",\"RegionName\":"
                         "\"Frank\\\"furt\"},{\"RegionID\":901,\"RegionCode\":\"sin\","
                         "\"RegionName\":\"Singapore\"}]"},
  };
  const msock_home_report r = measured();
  json_object *doc = document(&r, MSOCK_NAT_HARD);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    ck_assert_msg(strcmp(at(doc, cases[i].path), cases[i].want) == 0, "%s: %s", cases[i].path,
                  at(doc, cases[i].path));
  }
  ck_assert_ptr_nonnull(strstr(at(doc, "TSNode/Sentence"), "hard NAT"));
  json_object_put(doc);
}
END_TEST

START_TEST(what_is_not_known_is_absent_or_empty) {
  msock_home_report r = {.at_us = 5, .captive_portal = MSOCK_TRISTATE_TRUE};
  json_object *doc = document(&r, MSOCK_NAT_CAPTIVE);
  ck_assert_str_eq(at(doc, "UDP"), "false");
  ck_assert_str_eq(at(doc, "MappingVariesByDestIP"), "");
  ck_assert_str_eq(at(doc, "GlobalV4"), "\"\"");
  ck_assert_str_eq(at(doc, "GlobalV6Counters"), "{}");
  ck_assert_str_eq(at(doc, "RegionLatency"), "{}");
  ck_assert_str_eq(at(doc, "CaptivePortal"), "true");
  json_object_put(doc);
  r.captive_portal = MSOCK_TRISTATE_FALSE;
  r.mapping_varies = MSOCK_TRISTATE_FALSE;
  doc = document(&r, MSOCK_NAT_BLOCKED);
  ck_assert_str_eq(at(doc, "CaptivePortal"), "false");
  ck_assert_str_eq(at(doc, "MappingVariesByDestIP"), "false");
  json_object_put(doc);
}
END_TEST

START_TEST(netinfo_says_all_that_a_report_knows) {
  const msock_home_report r = measured();
  const msock_netinfo ni = msock_netcheck_netinfo(&r, 901);
  const msock_hostinfo host = {.hostname = "a", .os = "linux"};
  json_object *doc = msock_hostinfo_json(&host, &ni);
  static const struct {
    const char *path, *want;
  } cases[] = {
      {"NetInfo/PreferredDERP", "901"}, /* the home in force, not what this report alone says */
      {"NetInfo/WorkingUDP", "true"},
      {"NetInfo/WorkingIPv6", "true"},
      {"NetInfo/OSHasIPv6", "true"},
      {"NetInfo/MappingVariesByDestIP", "true"},
      {"NetInfo/UPnP", ""},
      {"NetInfo/PMP", ""},
      {"NetInfo/PCP", ""},
      {"NetInfo/DERPLatency/900-v4", "0.000012"},
      {"NetInfo/DERPLatency/900-v6", "0.000011"},
      {"NetInfo/DERPLatency/901-v4", ""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    ck_assert_msg(strcmp(at(doc, cases[i].path), cases[i].want) == 0, "%s: %s", cases[i].path,
                  at(doc, cases[i].path));
  }
  json_object_put(doc);
  const msock_home_report nothing = {.at_us = 5};
  const msock_netinfo bare = msock_netcheck_netinfo(&nothing, 900);
  ck_assert_int_eq(bare.working_udp, MSOCK_TRISTATE_FALSE);
  ck_assert_int_eq(bare.os_has_ipv6, MSOCK_TRISTATE_FALSE);
  ck_assert_int_eq(bare.mapping_varies_by_dest_ip, MSOCK_TRISTATE_UNKNOWN);
  ck_assert_uint_eq(bare.n_latencies, 0);
}
END_TEST

/* closes: NC-20 (NetInfo: what counts as a change) */
START_TEST(latency_alone_is_no_news) {
  msock_home_report r = measured();
  const msock_netinfo before = msock_netcheck_netinfo(&r, 900);
  r.regions[0].v4_us = 999;
  r.regions[2].v4_us = 1;
  msock_netinfo after = msock_netcheck_netinfo(&r, 900);
  ck_assert(msock_netinfo_equal(&before, &after));
  after = msock_netcheck_netinfo(&r, 901);
  ck_assert(!msock_netinfo_equal(&before, &after));
  bool *const flags[] = {&r.udp, &r.ipv6, &r.os_has_ipv6};
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
    *flags[i] = false;
    after = msock_netcheck_netinfo(&r, 900);
    ck_assert(!msock_netinfo_equal(&before, &after));
    *flags[i] = true;
  }
  r.mapping_varies = MSOCK_TRISTATE_FALSE;
  after = msock_netcheck_netinfo(&r, 900);
  ck_assert(!msock_netinfo_equal(&before, &after));
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, names_and_values_are_those_of_the_reference);
  tcase_add_test(tc, what_is_not_known_is_absent_or_empty);
  tcase_add_test(tc, netinfo_says_all_that_a_report_knows);
  tcase_add_test(tc, latency_alone_is_no_news);
  return testing_main("netcheck_json", tc);
}
