#include <string.h>

#include "base/addr.h"
#include "tests/unit/testing.h"

static const struct {
  const char *text;
  msock_err want;
} addrs[] = {
    {"192.0.2.1:41641", MSOCK_OK},
    {"[2001:db8::1]:1", MSOCK_OK},
    {"0.0.0.0:0", MSOCK_OK},
    {"192.0.2.1:65535", MSOCK_OK},
    {"192.0.2.1:65536", MSOCK_ERR_INVALID},
    {"192.0.2.1:01", MSOCK_ERR_INVALID},
    {"192.0.2.1:", MSOCK_ERR_INVALID},
    {"192.0.2.1", MSOCK_ERR_INVALID},
    {"[192.0.2.1]:1", MSOCK_ERR_INVALID},
    {"2001:db8::1:1", MSOCK_ERR_INVALID},
    {"[2001:db8::1]1", MSOCK_ERR_INVALID},
    {"[fe80::1%eth0]:1", MSOCK_ERR_INVALID},
    {"", MSOCK_ERR_INVALID},
    {":1", MSOCK_ERR_INVALID},
};

START_TEST(addr_texts) {
  char buf[MSOCK_ADDR_TEXT_MAX];
  msock_addr a = {.port = 7};
  ck_assert_msg(msock_addr_parse(addrs[_i].text, &a) == addrs[_i].want, "%s", addrs[_i].text);
  if (addrs[_i].want == MSOCK_OK) {
    ck_assert_str_eq(msock_addr_text(&a, buf), addrs[_i].text);
  } else {
    ck_assert_uint_eq(a.port, 7);
  }
}
END_TEST

static const struct {
  const char *text, *canonical; /* NULL: refused */
} prefixes[] = {
    {"100.64.0.0/10", "100.64.0.0/10"},
    {"100.64.0.1", "100.64.0.1/32"},
    {"0.0.0.0/0", "0.0.0.0/0"},
    {"::/0", "::/0"},
    {"fd7a::/16", "fd7a::/16"},
    {"fd7a:115c:a1e0::1", "fd7a:115c:a1e0::1/128"},
    {"100.64.0.1/10", NULL},
    {"10.0.0.0/33", NULL},
    {"10.0.0.0/", NULL},
    {"10.0.0.0/-1", NULL},
    {"fd7a::1/64", NULL},
    {"x/8", NULL},
};

START_TEST(prefix_texts) {
  char buf[MSOCK_PREFIX_TEXT_MAX];
  msock_prefix p;
  if (prefixes[_i].canonical == NULL) {
    ck_assert_int_eq(msock_prefix_parse(prefixes[_i].text, &p), MSOCK_ERR_INVALID);
    return;
  }
  ck_assert_int_eq(msock_prefix_parse(prefixes[_i].text, &p), MSOCK_OK);
  ck_assert_str_eq(msock_prefix_text(&p, buf), prefixes[_i].canonical);
}
END_TEST

static const struct {
  const char *prefix, *ip;
  bool want;
} contains[] = {
    {"100.64.0.0/10", "100.127.255.255", true},
    {"100.64.0.0/10", "100.128.0.0", false},
    {"0.0.0.0/0", "8.8.8.8", true},
    {"0.0.0.0/0", "::1", false},
    {"10.1.2.3", "10.1.2.3", true},
    {"10.1.2.3", "10.1.2.2", false},
    {"fd00::/9", "fd7f::1", true},
    {"fd00::/9", "fd80::1", false},
    {"::/0", "2001:db8::1", true},
};

START_TEST(prefix_contains) {
  msock_prefix p;
  msock_ip ip;
  ck_assert_int_eq(msock_prefix_parse(contains[_i].prefix, &p), MSOCK_OK);
  ck_assert_int_eq(msock_ip_parse(contains[_i].ip, &ip), MSOCK_OK);
  ck_assert_int_eq(msock_prefix_contains(&p, &ip), contains[_i].want);
}
END_TEST

START_TEST(unmap_and_classes) {
  msock_ip ip;
  ck_assert_int_eq(msock_ip_parse("::ffff:192.0.2.9", &ip), MSOCK_OK);
  ck_assert_uint_eq(ip.family, 6);
  ip = msock_ip_unmap(ip);
  const msock_ip v4 = msock_ip_v4(192, 0, 2, 9);
  ck_assert(msock_ip_equal(&ip, &v4));

  static const struct {
    const char *text;
    bool loopback, multicast, link_local, private;
  } classes[] = {
      {"127.9.9.9", true, false, false, false},   {"::1", true, false, false, false},
      {"224.0.0.1", false, true, false, false},   {"255.255.255.255", false, true, false, false},
      {"ff02::1", false, true, false, false},     {"169.254.1.1", false, false, true, false},
      {"fe80::1", false, false, true, false},     {"172.31.0.1", false, false, false, true},
      {"172.32.0.1", false, false, false, false}, {"fd00::1", false, false, false, true},
      {"100.64.0.1", false, false, false, false},
  };
  for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
    ck_assert_int_eq(msock_ip_parse(classes[i].text, &ip), MSOCK_OK);
    ck_assert_msg(msock_ip_is_loopback(&ip) == classes[i].loopback, "%s", classes[i].text);
    ck_assert_msg(msock_ip_is_multicast(&ip) == classes[i].multicast, "%s", classes[i].text);
    ck_assert_msg(msock_ip_is_link_local(&ip) == classes[i].link_local, "%s", classes[i].text);
    ck_assert_msg(msock_ip_is_private(&ip) == classes[i].private, "%s", classes[i].text);
  }
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, addr_texts, 0, COUNT(addrs));
  tcase_add_loop_test(tc, prefix_texts, 0, COUNT(prefixes));
  tcase_add_loop_test(tc, prefix_contains, 0, COUNT(contains));
  tcase_add_test(tc, unmap_and_classes);
  return testing_main("addr", tc);
}
