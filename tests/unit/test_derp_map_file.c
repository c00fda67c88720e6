#include "config/derp_map_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/testing.h"

#define PIN "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static msock_err read_map(const char *text, msock_derp_map *m, msock_config_report *r) {
  *r = (msock_config_report){0};
  return msock_derp_map_read("derp.yaml", (const uint8_t *)text, strlen(text), m, r);
}

static const char *problem(const msock_config_report *r, size_t i) {
  static char buf[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  ck_assert_uint_lt(i, r->n);
  return msock_config_problem_text(&r->problems[i], buf);
}

static const char yaml_form[] = "regions:\n"
                                "  1: null\n"
                                "  901:\n"
                                "    regionid: 901\n"
                                "    regioncode: lab\n"
                                "    regionname: My Lab\n"
                                "    nomeasurenohome: true\n"
                                "    nodes:\n"
                                "      - name: 901a\n"
                                "        regionid: 901\n"
                                "        hostname: lab.example.com\n"
                                "        ipv4: none\n"
                                "        ipv6: 2001:db8::1\n"
                                "        stunport: -1\n"
                                "        derpport: 8443\n"
                                "        certname: sha256-raw:" PIN "\n"
                                "  900:\n"
                                "    regionid: 900\n"
                                "    avoid: true\n"
                                "    nodes:\n"
                                "      - name: 900a\n"
                                "        regionid: 900\n"
                                "        hostname: derp.example.com\n"
                                "        ipv4: 198.51.100.1\n"
                                "        stunport: 0\n"
                                "        stunonly: false\n"
                                "        derpport: 0\n"
                                "        stun_plain: true\n"
                                "      - name: 900b\n"
                                "        regionid: 900\n"
                                "        hostname: stun.example.com\n"
                                "        stunonly: true\n"
                                "        canport80: true\n"
                                "        insecurefortests: true\n"
                                "        stuntestip: 127.0.0.1\n"
                                "homeparams:\n"
                                "  regionscore:\n"
                                "    901: 0.5\n";

static const char json_form[] =
    "{\"Regions\":{\"1\":null,"
    "\"901\":{\"RegionID\":901,\"RegionCode\":\"lab\",\"RegionName\":\"My Lab\","
    "\"NoMeasureNoHome\":true,\"Nodes\":[{\"Name\":\"901a\",\"RegionID\":901,"
    "\"HostName\":\"lab.example.com\",\"IPv4\":\"none\",\"IPv6\":\"2001:db8::1\",\"STUNPort\":-1,"
    "\"DERPPort\":8443,\"CertName\":\"sha256-raw:" PIN "\"}]},"
    "\"900\":{\"RegionID\":900,\"Avoid\":true,\"Latitude\":48.1,\"Longitude\":-11.5,"
    "\"Nodes\":[{\"Name\":\"900a\",\"RegionID\":900,"
    "\"HostName\":\"derp.example.com\",\"IPv4\":\"198.51.100.1\",\"stun_plain\":true},"
    "{\"Name\":\"900b\",\"RegionID\":900,\"HostName\":\"stun.example.com\",\"STUNOnly\":true,"
    "\"CanPort80\":true,\"InsecureForTests\":true,\"STUNTestIP\":\"127.0.0.1\"}]}},"
    "\"HomeParams\":{\"RegionScore\":{\"901\":5e-1}},\"omitDefaultRegions\":true}";

START_TEST(headscale_yaml) {
  msock_config_report r;
  msock_derp_map m;
  const msock_err err = read_map(yaml_form, &m, &r);
  ck_assert_msg(err == MSOCK_OK && r.n == 0, "%s", r.n ? problem(&r, 0) : "");
  ck_assert_uint_eq(m.n_regions, 2);
  const msock_derp_region *region = &m.regions[0]; /* ascending */
  ck_assert_uint_eq(region->id, 900);
  ck_assert_str_eq(region->code, "");
  ck_assert_double_eq(region->score, 1.0);
  ck_assert_uint_eq(region->n_nodes, 2);
  const msock_derp_node *n = &region->nodes[0];
  ck_assert_str_eq(n->name, "900a");
  ck_assert_uint_eq(n->region_id, 900);
  ck_assert_str_eq(n->host_name, "derp.example.com");
  ck_assert_int_eq(n->v4, MSOCK_DERP_FAMILY_LITERAL);
  ck_assert_int_eq(n->v6, MSOCK_DERP_FAMILY_RESOLVE);
  ck_assert_uint_eq(n->derp_port, 443);
  ck_assert_uint_eq(n->stun_port, 3478);
  ck_assert(n->stun_plain && !n->stun_only && !n->insecure_for_tests);
  n = &region->nodes[1];
  ck_assert(n->stun_only && n->can_port80 && n->insecure_for_tests && !n->stun_plain);
  ck_assert_uint_eq(n->stun_test_ip.family, 4);

  ck_assert(msock_derp_map_find(&m, 900)->avoid);
  region = msock_derp_map_find(&m, 901);
  ck_assert(!region->avoid);
  ck_assert_str_eq(region->code, "lab");
  ck_assert_str_eq(region->name, "My Lab");
  ck_assert(region->no_measure_no_home);
  ck_assert_double_eq(region->score, 0.5);
  n = &region->nodes[0];
  ck_assert_int_eq(n->v4, MSOCK_DERP_FAMILY_OFF);
  ck_assert_int_eq(n->v6, MSOCK_DERP_FAMILY_LITERAL);
  ck_assert_uint_eq(n->derp_port, 8443);
  ck_assert_uint_eq(n->stun_port, 0);
  ck_assert_str_eq(n->cert_name, "sha256-raw:" PIN);
  msock_derp_map_clear(&m);
}
END_TEST

START_TEST(tailscale_json_says_the_same) {
  msock_config_report r;
  msock_derp_map yaml, json;
  ck_assert_int_eq(read_map(yaml_form, &yaml, &r), MSOCK_OK);
  const msock_err err = read_map(json_form, &json, &r);
  ck_assert_msg(err == MSOCK_OK && r.n == 0, "%s", r.n ? problem(&r, 0) : "");
  ck_assert_uint_eq(yaml.n_regions, json.n_regions);
  for (size_t i = 0; i < yaml.n_regions; i++) {
    ck_assert(msock_derp_region_equal(&yaml.regions[i], &json.regions[i]));
  }
  msock_derp_map_clear(&yaml);
  msock_derp_map_clear(&json);
}
END_TEST

/* derp.md 1.3: an upper-case pin is accepted and compared in lower case. */
START_TEST(pin_is_lower_cased) {
  msock_config_report r;
  msock_derp_map m;
  char text[512] = "regions: {9: {regionid: 9, nodes: [{name: a, regionid: 9, hostname: 192.0.2.1, "
                   "certname: 'sha256-raw:" PIN "'}]}}";
  for (char *p = strstr(text, "raw:") + 4; *p != '\''; p++) {
    *p = *p >= 'a' ? (char)(*p - 32) : *p;
  }
  ck_assert_int_eq(read_map(text, &m, &r), MSOCK_OK);
  ck_assert_str_eq(m.regions[0].nodes[0].cert_name, "sha256-raw:" PIN);
  msock_derp_map_clear(&m);
}
END_TEST

#define NODE(fields) "regions: {9: {regionid: 9, nodes: [{" fields "}]}}"
#define OK "name: a, regionid: 9, hostname: h"

static const struct {
  const char *text, *problem;
} warnings[] = {
    {"regions: {9: {nodes: [{" OK "}]}}", "warning: derp.yaml:1:14: regions.9.RegionID: missing, "
                                          "taken from its key: 9; write it: some programs need it"},
    {NODE("name: a, hostname: h"),
     "warning: derp.yaml:1:36: regions.9.nodes[0].RegionID: missing, taken from its region: 9; "
     "write it: some programs need it"},
    {NODE("regionid: 9, hostname: h"), "warning: derp.yaml:1:36: regions.9.nodes[0].Name: missing, "
                                       "called 9a; write one that no other node has"},
    {NODE(OK ", stunprot: 1"), "warning: derp.yaml:1:82: regions.9.nodes[0].stunprot: unknown "
                               "field, left out; did you mean STUNPort?"},
    {NODE(OK ", ipv4: off"),
     "warning: derp.yaml:1:78: regions.9.nodes[0].ipv4: no IPv4 address: IPv4 is off for this "
     "node; write an IPv4 address or none"},
    {NODE(OK ", ipv6: 192.0.2.1"),
     "warning: derp.yaml:1:78: regions.9.nodes[0].ipv6: no IPv6 address: IPv6 is off for this "
     "node; write an IPv6 address or none"},
    {"regions: {9: {regionid: 9, nodes: [{" OK "}]}, 8: {regionid: 8, nodes: []}}",
     "warning: derp.yaml:1:99: regions.8.nodes: no nodes: the region is left out; list its nodes, "
     "or write null for the whole region"},
};

START_TEST(warnings_keep_the_map) {
  msock_config_report r;
  msock_derp_map m;
  const msock_err err = read_map(warnings[_i].text, &m, &r);
  ck_assert_msg(err == MSOCK_OK, "%s", r.n ? problem(&r, 0) : "");
  ck_assert_uint_eq(r.n, 1);
  ck_assert_str_eq(problem(&r, 0), warnings[_i].problem);
  ck_assert_uint_eq(m.n_regions, 1);
  ck_assert_uint_eq(m.regions[0].nodes[0].region_id, 9);
  msock_derp_map_clear(&m);
}
END_TEST

static const struct {
  const char *text, *problem;
} bad[] = {
    {"- a\n", "derp.yaml:1:1: expected a DERP map: a mapping with regions; write regions: and "
              "below it 900: with its nodes"},
    {"region: {}\n", NULL}, /* two problems: the name, and what is missing */
    {"regions: [900]\n", "derp.yaml:1:10: regions: expected a mapping of at most 256 region "
                         "numbers; write regions: and below it 900: with its nodes"},
    {"regions: {0: {}}\n",
     "derp.yaml:1:14: regions.0: expected a region number from 1 to 9007199254740991 as the key; "
     "900 to 999 are kept for relays of your own"},
    {"regions: {09: {}}\n",
     "derp.yaml:1:15: regions.09: expected a region number from 1 to 9007199254740991 as the key; "
     "900 to 999 are kept for relays of your own"},
    {"regions: {9007199254740992: {}}\n",
     "derp.yaml:1:29: regions.9007199254740992: expected a region number from 1 to "
     "9007199254740991 as the key; 900 to 999 are kept for relays of your own"},
    {"regions:\n  9: {regionid: 9, nodes: [{" OK "}]}\n  9: {}\n",
     "derp.yaml:3:3: 9: written twice, first on line 2; keep one of the two"},
    {"regions: {9: {regionid: 8, nodes: [{" OK "}]}}",
     "derp.yaml:1:25: regions.9.regionid: expected 9 as in its key, found \"8\""},
    {NODE("name: a, regionid: 8, hostname: h"),
     "derp.yaml:1:56: regions.9.nodes[0].regionid: expected 9 as in its region, found \"8\""},
    {NODE("name: a, regionid: 9"), "derp.yaml:1:36: regions.9.nodes[0].HostName: expected a DNS "
                                   "name or an IP address; for example: derp.example.com"},
    {NODE("name: a, regionid: 9, hostname: 'https://h'"),
     "derp.yaml:1:69: regions.9.nodes[0].hostname: expected a DNS name or an IP address; for "
     "example: derp.example.com"},
    {NODE(OK ", derpport: 65536"), "derp.yaml:1:82: regions.9.nodes[0].derpport: expected a port "
                                   "from 0 to 65535, found \"65536\""},
    {NODE(OK ", derpport: -1"), "derp.yaml:1:82: regions.9.nodes[0].derpport: expected a port from "
                                "0 to 65535, found \"-1\""},
    {NODE(OK ", stunport: -2"), "derp.yaml:1:82: regions.9.nodes[0].stunport: expected a port from "
                                "-1 to 65535, found \"-2\""},
    {NODE(OK ", stunonly: 5"), "derp.yaml:1:82: regions.9.nodes[0].stunonly: expected true or "
                               "false, found \"5\""},
    {NODE(OK ", certname: 'sha256-raw:12'"),
     "derp.yaml:1:82: regions.9.nodes[0].certname: expected sha256-raw: and 64 hex digits; it is "
     "the SHA-256 of the certificate in DER form"},
    {NODE(OK ", ipv4: none, ipv6: none"),
     "derp.yaml:1:36: regions.9.nodes[0]: IPv4 and IPv6 are both off: nobody can reach it; write "
     "the address of one of the two"},
    {NODE(OK ", stuntestip: x"),
     "derp.yaml:1:84: regions.9.nodes[0].stuntestip: expected an IP address"},
    {NODE(OK ", HostName: g"),
     "derp.yaml:1:82: regions.9.nodes[0].HostName: written twice; keep one of the two"},
    {"regions: {9: {regionid: 9, nodes: [{" OK "}, {" OK "}]}}",
     "derp.yaml:1:1: regions: two nodes are called \"a\", in regions 9 and 9; give each node a "
     "name of its own, such as 900a"},
    {"regions: {9: {regionid: 9, nodes: [x]}}",
     "derp.yaml:1:36: regions.9.nodes[0]: expected a mapping with name, hostname and so on"},
    {"regions: {9: {regionid: 9, nodes: {a: 1}}}",
     "derp.yaml:1:35: regions.9.nodes: expected a list of at most 16 nodes"},
    {"regions: {9: x}", "derp.yaml:1:14: regions.9: expected a mapping with regionid, nodes and so "
                        "on"},
};

START_TEST(bad_maps_are_refused) {
  msock_config_report r;
  msock_derp_map m = {.n_regions = 7};
  ck_assert_int_eq(read_map(bad[_i].text, &m, &r), MSOCK_ERR_INVALID);
  ck_assert_uint_eq(m.n_regions, 0);
  ck_assert_ptr_null(m.regions);
  ck_assert_uint_eq(r.n_errors, 1);
  if (bad[_i].problem) {
    ck_assert_str_eq(problem(&r, 0), bad[_i].problem);
  } else {
    ck_assert_str_eq(problem(&r, 0),
                     "warning: derp.yaml:1:9: region: unknown field, left out; did you mean "
                     "Regions?");
  }
}
END_TEST

START_TEST(scores_are_checked) {
  static const struct {
    const char *score;
    double want;
    bool warns;
  } cases[] = {{"9: 2", 2.0, false},  {"9: 0.25", 0.25, false}, {"9: 0", 1.0, true},
               {"9: -1", 1.0, true},  {"9: fast", 1.0, true},   {"9: nan", 1.0, true},
               {"8: 0.5", 1.0, true}, {"", 1.0, false}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char text[256];
    msock_config_report r;
    msock_derp_map m;
    (void)snprintf(text, sizeof text,
                   "regions: {9: {regionid: 9, nodes: [{" OK "}]}}\n"
                   "HomeParams: {RegionScore: {%s}}\n",
                   cases[i].score);
    ck_assert_int_eq(read_map(text, &m, &r), MSOCK_OK);
    ck_assert_msg(r.n == cases[i].warns, "%s", cases[i].score);
    ck_assert_double_eq(m.regions[0].score, cases[i].want);
    msock_derp_map_clear(&m);
  }
}
END_TEST

START_TEST(tables_are_bounded) {
  for (unsigned over = 0; over <= 1; over++) {
    msock_config_report r;
    msock_derp_map m;
    char *text = calloc(MSOCK_DERP_REGIONS_MAX + 2, 128);
    (void)strcpy(text, "regions:\n");
    for (unsigned id = 1; id <= MSOCK_DERP_REGIONS_MAX + over; id++) {
      (void)sprintf(text + strlen(text),
                    "  %u: {regionid: %u, nodes: [{name: n%u, regionid: %u, hostname: h}]}\n", id,
                    id, id, id);
    }
    ck_assert_int_eq(read_map(text, &m, &r), over ? MSOCK_ERR_INVALID : MSOCK_OK);
    ck_assert_uint_eq(m.n_regions, over ? 0 : MSOCK_DERP_REGIONS_MAX);
    msock_derp_map_clear(&m);
    free(text);
  }
}
END_TEST

/* Each single damaged byte gives a map or errors, never both. */
START_TEST(damaged_maps_are_refused_cleanly) {
  testing_rng rng;
  const msock_env env = testing_env(&rng, 11);
  for (size_t i = 0; i < 2000; i++) {
    char text[sizeof json_form];
    msock_config_report r;
    msock_derp_map m;
    memcpy(text, json_form, sizeof text);
    text[msock_env_uniform(&env, sizeof text - 1)] = (char)(1 + msock_env_uniform(&env, 255));
    const msock_err err = read_map(text, &m, &r);
    ck_assert_int_eq(err == MSOCK_OK, r.n_errors == 0);
    ck_assert_int_eq(err == MSOCK_OK || m.regions == NULL, true);
    msock_derp_map_clear(&m);
  }
}
END_TEST

#define N_OF(a) ((int)(sizeof(a) / sizeof(a)[0]))

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, headscale_yaml);
  tcase_add_test(tc, tailscale_json_says_the_same);
  tcase_add_test(tc, pin_is_lower_cased);
  tcase_add_loop_test(tc, warnings_keep_the_map, 0, N_OF(warnings));
  tcase_add_loop_test(tc, bad_maps_are_refused, 0, N_OF(bad));
  tcase_add_test(tc, scores_are_checked);
  tcase_add_test(tc, tables_are_bounded);
  tcase_add_test(tc, damaged_maps_are_refused_cleanly);
  return testing_main("derp_map_file", tc);
}
