#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/prefs.h"
#include "tests/unit/testing.h"

static msock_err apply(msock_prefs *p, const char *json, bool masked, uint32_t *bits, char *why) {
  json_object *doc = json_tokener_parse(json);
  ck_assert_msg(doc != NULL, "%s", json);
  const msock_err e =
      masked ? msock_prefs_apply_masked(p, doc, bits, why) : msock_prefs_apply(p, doc, bits, why);
  json_object_put(doc);
  return e;
}

START_TEST(masked_change_keeps_the_rest) {
  msock_prefs p;
  char why[MSOCK_WHY_MAX];
  uint32_t bits = 0;
  msock_prefs_default(&p);
  ck_assert(p.accept_dns && !p.accept_routes && !p.want_running);
  ck_assert_int_eq(apply(&p,
                         "{\"Hostname\":\"box\",\"HostnameSet\":true,\"RouteAll\":true,"
                         "\"RouteAllSet\":true,\"CorpDNS\":false}",
                         true, &bits, why),
                   MSOCK_OK);
  ck_assert_uint_eq(bits, MSOCK_PREF_HOSTNAME | MSOCK_PREF_ACCEPT_ROUTES);
  ck_assert_str_eq(p.hostname, "box");
  ck_assert(p.accept_routes);
  ck_assert(p.accept_dns); /* no CorpDNSSet: not meant */
  ck_assert_int_eq(apply(&p, "{\"WantRunning\":true,\"WantRunningSet\":true}", true, &bits, why),
                   MSOCK_OK);
  ck_assert_str_eq(p.hostname, "box");
  ck_assert(p.want_running && p.accept_routes);
  /* Set without the value means the zero value, as in the reference's decoder. */
  ck_assert_int_eq(apply(&p, "{\"HostnameSet\":true}", true, &bits, why), MSOCK_OK);
  ck_assert_str_eq(p.hostname, "");
}
END_TEST

START_TEST(whole_document_round_trip) {
  msock_prefs p, q;
  char why[MSOCK_WHY_MAX];
  msock_prefs_default(&p);
  ck_assert_int_eq(
      apply(&p,
            "{\"ControlURL\":\"https://hs.example:8443/\",\"Hostname\":\"a-1\",\"WantRunning\":"
            "true,\"LoggedOut\":true,\"RouteAll\":true,\"CorpDNS\":false,\"ShieldsUp\":true,"
            "\"OperatorUser\":\"ann\",\"AdvertiseRoutes\":[\"10.2.0.0/16\",\"10.1.0.0/16\","
            "\"10.2.0.0/16\",\"fd00::/64\"],\"AdvertiseTags\":[\"tag:web\"],\"ExitNodeID\":\"n7\","
            "\"ExitNodeIP\":\"100.64.0.9\",\"ExitNodeAllowLANAccess\":true,\"NetfilterMode\":2}",
            false, NULL, why),
      MSOCK_OK);
  ck_assert_str_eq(p.control_url, "https://hs.example:8443"); /* one spelling per server */
  ck_assert_uint_eq(p.n_advertise_routes, 3);                 /* sorted, without the repeat */
  ck_assert_uint_eq(p.advertise_routes[0].ip.b[1], 1);

  char *text = msock_prefs_text(&p);
  msock_prefs_default(&q);
  ck_assert_int_eq(apply(&q, text, false, NULL, why), MSOCK_OK);
  ck_assert_mem_eq(&p, &q, sizeof p);
  free(text);
}
END_TEST

/* A refused document changes nothing, and says why. */
static const struct {
  const char *json;
  msock_err want;
  const char *why; /* part of the reason */
} bad[] = {
    {"{\"Hostname\":\"ok\",\"HostnameSet\":true,\"ShieldsUp\":1,\"ShieldsUpSet\":true}",
     MSOCK_ERR_INVALID, "ShieldsUp must be true or false"},
    {"{\"Hostname\":\"a.b\",\"HostnameSet\":true}", MSOCK_ERR_INVALID, "one DNS label"},
    {"{\"Hostname\":\"-a\",\"HostnameSet\":true}", MSOCK_ERR_INVALID, "hyphen"},
    {"{\"Hostname\":7,\"HostnameSet\":true}", MSOCK_ERR_INVALID, "must be text"},
    {"{\"ControlURL\":\"hs.example\",\"ControlURLSet\":true}", MSOCK_ERR_INVALID, "https://"},
    {"{\"ControlURL\":\"https://h/x\",\"ControlURLSet\":true}", MSOCK_ERR_INVALID,
     "\"https://h/x\": expected"},
    {"{\"ControlURL\":\"https://h:0\",\"ControlURLSet\":true}", MSOCK_ERR_INVALID,
     "port (1 to 65535)"},
    {"{\"ControlURL\":\"https://h:65536\",\"ControlURLSet\":true}", MSOCK_ERR_INVALID,
     "port (1 to 65535)"},
    {"{\"ControlURL\":\"https://:8\",\"ControlURLSet\":true}", MSOCK_ERR_INVALID, "a host"},
    {"{\"ControlURL\":\"http://u:p@h\",\"ControlURLSet\":true}", MSOCK_ERR_INVALID,
     "\"...\": expected"},
    {"{\"AdvertiseRoutes\":[\"10.0.0.1/8\"],\"AdvertiseRoutesSet\":true}", MSOCK_ERR_INVALID,
     "10.0.0.1/8"},
    {"{\"AdvertiseTags\":[\"web\"],\"AdvertiseTagsSet\":true}", MSOCK_ERR_INVALID, "tag:"},
    {"{\"AdvertiseTags\":[\"tag:1\"],\"AdvertiseTagsSet\":true}", MSOCK_ERR_INVALID, "letter"},
    {"{\"ExitNodeIP\":\"x\",\"ExitNodeIPSet\":true}", MSOCK_ERR_INVALID, "not an IP address"},
    {"{\"RunSSH\":true,\"RunSSHSet\":true,\"Hostname\":\"ok\",\"HostnameSet\":true}",
     MSOCK_ERR_UNKNOWN, "RunSSH is not in this build"},
    {"[]", MSOCK_ERR_INVALID, "object"},
};
START_TEST(refusals_change_nothing) {
  msock_prefs p, before;
  char why[MSOCK_WHY_MAX] = "";
  uint32_t bits = 77;
  msock_prefs_default(&p);
  before = p;
  ck_assert_int_eq(apply(&p, bad[_i].json, true, &bits, why), bad[_i].want);
  ck_assert_msg(strstr(why, bad[_i].why) != NULL, "\"%s\" lacks \"%s\"", why, bad[_i].why);
  ck_assert_mem_eq(&p, &before, sizeof p);
  ck_assert_uint_eq(bits, 77);
}
END_TEST

START_TEST(what_is_not_built_in_may_be_switched_off) {
  msock_prefs p;
  char why[MSOCK_WHY_MAX];
  msock_prefs_default(&p);
  ck_assert_int_eq(
      apply(&p, "{\"RunSSH\":false,\"RunSSHSet\":true,\"RunWebClientSet\":true}", true, NULL, why),
      MSOCK_OK);
}
END_TEST

START_TEST(hostname_boundaries) {
  char why[MSOCK_WHY_MAX], name[66];
  memset(name, 'a', sizeof name);
  name[63] = '\0';
  ck_assert_int_eq(msock_prefs_check_hostname(name, why), MSOCK_OK);
  name[63] = 'a';
  name[64] = '\0';
  ck_assert_int_eq(msock_prefs_check_hostname(name, why), MSOCK_ERR_INVALID);
  ck_assert_int_eq(msock_prefs_check_hostname("", why), MSOCK_OK);
  ck_assert_int_eq(msock_prefs_check_control_url("http://[::1]:80/", why), MSOCK_OK);
  ck_assert_int_eq(msock_prefs_check_control_url("http://127.0.0.1:8080", why), MSOCK_OK);
  ck_assert_int_eq(msock_prefs_check_control_url("http://[::1", why), MSOCK_ERR_INVALID);
}
END_TEST

START_TEST(lists_are_bounded) {
  msock_prefs p;
  char why[MSOCK_WHY_MAX];
  for (size_t n = MSOCK_PREFS_ROUTES_MAX; n <= MSOCK_PREFS_ROUTES_MAX + 1; n++) {
    json_object *doc = json_object_new_object(), *list = json_object_new_array();
    for (size_t i = 0; i < n; i++) {
      char text[32];
      snprintf(text, sizeof text, "10.%zu.0.0/16", i);
      json_object_array_add(list, json_object_new_string(text));
    }
    json_object_object_add(doc, "AdvertiseRoutes", list);
    msock_prefs_default(&p);
    ck_assert_int_eq(msock_prefs_apply(&p, doc, NULL, why),
                     n <= MSOCK_PREFS_ROUTES_MAX ? MSOCK_OK : MSOCK_ERR_INVALID);
    json_object_put(doc);
  }
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, masked_change_keeps_the_rest);
  tcase_add_test(tc, whole_document_round_trip);
  tcase_add_loop_test(tc, refusals_change_nothing, 0, (int)(sizeof bad / sizeof *bad));
  tcase_add_test(tc, what_is_not_built_in_may_be_switched_off);
  tcase_add_test(tc, hostname_boundaries);
  tcase_add_test(tc, lists_are_bounded);
  return testing_main("prefs", tc);
}
