/* What to dial for a node and how to check its certificate. */
#include <stdio.h>
#include <string.h>

#include "derp/client.h"
#include "derp/dial.h"
#include "derp/proxy.h"
#include "tests/unit/testing.h"

#define PIN_LOWER "08bb1a6867484cee96927085bf93a079b0be6361489e0ece7c1d6dd889cc6e49"
#define PIN_UPPER "08BB1A6867484CEE96927085BF93A079B0BE6361489E0ECE7C1D6DD889CC6E49"

/* want: candidates as "family:what@delay_ms", in order */
static const struct {
  const char *name, *host, *ipv4, *ipv6;
  bool allow_v6, v6_works;
  const char *want;
} plans[] = {
    {"both by name", "a.example.com", "", "", true, false, "6:name@0 4:name@0 "},
    {"v6 is known to work", "a.example.com", "", "", true, true, "6:name@0 4:name@200 "},
    {"literals", "a.example.com", "192.0.2.1", "2001:db8::1", true, true,
     "6:2001:db8::1@0 4:192.0.2.1@200 "},
    {"v4 none", "a.example.com", "none", "", true, true, "6:name@0 "},
    {"v6 none: v4 waits for nothing", "a.example.com", "", "none", true, true, "4:name@0 "},
    {"anything else disables too", "a.example.com", "no", "-", true, true, ""},
    {"literal of the other family disables", "a.example.com", "2001:db8::1", "none", true, true,
     ""},
    {"host is an IPv4 literal", "192.0.2.7", "", "", true, true, "4:192.0.2.7@0 "},
    {"host is an IPv6 literal", "2001:db8::7", "", "", true, true, "6:2001:db8::7@0 "},
    {"profile without IPv6", "a.example.com", "", "2001:db8::1", false, true, "4:name@0 "},
    {"host v6, profile without IPv6", "2001:db8::7", "", "", false, true, ""},
};

/* closes: CLIENT-14 (the plan; the dial itself is io's) */
START_TEST(dial_plans) {
  msock_derp_node n = {.derp_port = 8443};
  char got[256] = "", ip[MSOCK_IP_TEXT_MAX];
  snprintf(n.host_name, sizeof n.host_name, "%s", plans[_i].host);
  msock_derp_node_set_ipv4(&n, plans[_i].ipv4);
  msock_derp_node_set_ipv6(&n, plans[_i].ipv6);
  const msock_derp_dial_plan p =
      msock_derp_dial_plan_make(&n, plans[_i].allow_v6, plans[_i].v6_works);
  for (size_t i = 0; i < p.n; i++) {
    const msock_derp_candidate *c = &p.candidate[i];
    const size_t at = strlen(got);
    ck_assert_uint_eq(c->port, 8443);
    snprintf(got + at, sizeof got - at, "%u:%s@%u ", c->family,
             c->resolve ? "name" : msock_ip_text(&c->ip, ip),
             (unsigned)(c->start_delay_us / MSOCK_MS));
  }
  ck_assert_msg(strcmp(got, plans[_i].want) == 0, "%s: got %s", plans[_i].name, got);
}
END_TEST

static const struct {
  const char *name, *host, *cert;
  bool insecure;
  msock_err want;
  msock_derp_check_kind kind;
  const char *sni, *check_name, *ip;
} checks[] = {
    {"plain", "a.example.com", "", false, MSOCK_OK, MSOCK_DERP_CHECK_NAME, "a.example.com",
     "a.example.com", "none"},
    {"other certificate name", "a.example.com", "b.example.com", false, MSOCK_OK,
     MSOCK_DERP_CHECK_NAME, "a.example.com", "b.example.com", "none"},
    {"IP literal", "192.0.2.1", "", false, MSOCK_OK, MSOCK_DERP_CHECK_IP, "", "", "192.0.2.1"},
    {"IP literal, certificate name", "192.0.2.1", "b.example.com", false, MSOCK_OK,
     MSOCK_DERP_CHECK_NAME, "", "b.example.com", "192.0.2.1"},
    {"pin", "192.0.2.1", "sha256-raw:" PIN_LOWER, false, MSOCK_OK, MSOCK_DERP_CHECK_PIN, "", "",
     "192.0.2.1"},
    {"pin in upper case, DNS host", "a.example.com", "sha256-raw:" PIN_UPPER, false, MSOCK_OK,
     MSOCK_DERP_CHECK_PIN, "a.example.com", "", "none"},
    {"pin is enforced beside insecure", "a.example.com", "sha256-raw:" PIN_LOWER, true, MSOCK_OK,
     MSOCK_DERP_CHECK_PIN, "a.example.com", "", "none"},
    {"insecure", "a.example.com", "", true, MSOCK_OK, MSOCK_DERP_CHECK_NONE, "a.example.com", "",
     "none"},
    {"pin cut short", "a", "sha256-raw:08bb", false, MSOCK_ERR_INVALID, 0, "", "", ""},
    {"pin with a bad digit", "a", "sha256-raw:g" PIN_LOWER, true, MSOCK_ERR_INVALID, 0, "", "", ""},
    {"empty pin", "a", "sha256-raw:", true, MSOCK_ERR_INVALID, 0, "", "", ""},
};

/* closes: CLIENT-18 CLIENT-19 (the decision; the TLS check is io's) */
START_TEST(certificate_checks) {
  msock_derp_node n = {.derp_port = 443, .insecure_for_tests = checks[_i].insecure};
  msock_derp_check c = {0};
  char ip[MSOCK_IP_TEXT_MAX];
  static const uint8_t pin_head[] = {0x08, 0xbb, 0x1a, 0x68};
  snprintf(n.host_name, sizeof n.host_name, "%s", checks[_i].host);
  snprintf(n.cert_name, sizeof n.cert_name, "%s", checks[_i].cert);
  ck_assert_msg(msock_derp_check_make(&n, &c) == checks[_i].want, "%s", checks[_i].name);
  if (checks[_i].want != MSOCK_OK) {
    ck_assert_int_eq(c.kind, 0);
    return;
  }
  ck_assert_msg(c.kind == checks[_i].kind, "%s", checks[_i].name);
  ck_assert_str_eq(c.sni, checks[_i].sni);
  ck_assert_str_eq(c.name, checks[_i].check_name);
  ck_assert_str_eq(msock_ip_text(&c.ip, ip), checks[_i].ip);
  if (c.kind == MSOCK_DERP_CHECK_PIN) {
    ck_assert_mem_eq(c.pin, pin_head, sizeof pin_head);
    ck_assert_uint_eq(c.pin[31], 0x49);
  }
}
END_TEST

static const struct {
  const char *host;
  uint16_t port;
  const char *want;
} hosts[] = {
    {"a.example.com", 443, "a.example.com"}, {"a.example.com", 8443, "a.example.com:8443"},
    {"2001:db8::1", 443, "[2001:db8::1]"},   {"2001:db8::1", 1, "[2001:db8::1]:1"},
    {"192.0.2.1", 8443, "192.0.2.1:8443"},
};

START_TEST(host_headers) {
  msock_derp_node n = {.derp_port = hosts[_i].port};
  char buf[MSOCK_DERP_HOST_MAX];
  snprintf(n.host_name, sizeof n.host_name, "%s", hosts[_i].host);
  ck_assert_str_eq(msock_derp_host_header(&n, buf, sizeof buf), hosts[_i].want);
}
END_TEST

/* closes: CLIENT-25 (the exchange; the connection is io's) */
START_TEST(proxy_connect) {
  msock_derp_node n = {.host_name = "a.example.com", .derp_port = 443};
  char buf[512];
  int status = 0;
  msock_derp_node_set_ipv4(&n, "192.0.2.1"); /* not for the proxy */
  static const char want[] = "CONNECT a.example.com:443 HTTP/1.1\r\nHost: a.example.com:443\r\n"
                             "Proxy-Authorization: Basic dTpw\r\n\r\n";
  ck_assert_int_eq(msock_derp_proxy_request(&n, "Basic dTpw", buf, sizeof buf), sizeof want - 1);
  ck_assert_str_eq(buf, want);
  ck_assert_int_eq(msock_derp_proxy_request(&n, "x\r\ny", buf, sizeof buf), MSOCK_ERR_NOBUF);
  strcpy(n.host_name, "2001:db8::1");
  n.derp_port = 8443;
  ck_assert_int_gt(msock_derp_proxy_request(&n, NULL, buf, sizeof buf), 0);
  ck_assert_str_eq(buf, "CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\n\r\n");

  static const char ok[] = "HTTP/1.1 200 Connection established\r\nX: y\r\n\r\nsurplus";
  const size_t head = sizeof ok - 1 - 7;
  for (size_t len = 0; len < head; len++) {
    ck_assert_int_eq(msock_derp_proxy_reply((const uint8_t *)ok, len, &status), MSOCK_ERR_AGAIN);
  }
  ck_assert_int_eq(msock_derp_proxy_reply((const uint8_t *)ok, sizeof ok - 1, &status), head);
  static const int others[] = {201, 204, 301, 407, 502};
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
    const int len = snprintf(buf, sizeof buf, "HTTP/1.1 %d Some\r\n\r\n", others[i]);
    ck_assert_int_eq(msock_derp_proxy_reply((const uint8_t *)buf, (size_t)len, &status),
                     MSOCK_ERR_DENIED);
    ck_assert_int_eq(status, others[i]);
  }
  ck_assert_int_eq(msock_derp_proxy_reply((const uint8_t *)"\x16\x03\r\n\r\n", 6, &status),
                   MSOCK_ERR_INVALID);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, dial_plans, 0, sizeof plans / sizeof plans[0]);
  tcase_add_loop_test(tc, certificate_checks, 0, sizeof checks / sizeof checks[0]);
  tcase_add_loop_test(tc, host_headers, 0, sizeof hosts / sizeof hosts[0]);
  tcase_add_test(tc, proxy_connect);
  return testing_main("derp_dial", tc);
}
