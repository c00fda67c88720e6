#include <string.h>

#include "io/x509_name.h"
#include "tests/unit/testing.h"
#include "tests/unit/tls_testing.h"

static const uint8_t ip[4] = {192, 0, 2, 10};

static void parse(const tls_test_cert *c, msock_x509_cert *out) {
  ck_assert(msock_x509_parse(c->der, c->len, out));
}

START_TEST(names_and_addresses) {
  static const tls_test_spec spec = {
      .cn = "CN=node", .dns = {"derp.example.com", "*.w.example", "*.example"}, .ip = ip};
  tls_test_cert c;
  msock_x509_cert x;
  msock_ip want = msock_ip_v4(192, 0, 2, 10), other = msock_ip_v4(192, 0, 2, 11), mapped;
  tls_test_make(&c, &spec, NULL, NULL);
  parse(&c, &x);
  ck_assert(msock_x509_has_dns(&x, "derp.example.com"));
  ck_assert(msock_x509_has_dns(&x, "dErp.example.COM."));
  ck_assert(msock_x509_has_dns(&x, "a.w.example"));
  ck_assert(!msock_x509_has_dns(&x, "a.b.w.example"));
  ck_assert(!msock_x509_has_dns(&x, "w.example"));
  ck_assert(!msock_x509_has_dns(&x, ".w.example"));
  ck_assert(!msock_x509_has_dns(&x, "foo.example")); /* "*.example" is too wide */
  ck_assert(!msock_x509_has_dns(&x, "*.w.example.com"));
  ck_assert(!msock_x509_has_dns(&x, "erp.example.com"));
  ck_assert(!msock_x509_has_dns(&x, ""));
  ck_assert(!msock_x509_has_dns(&x, "."));
  ck_assert(msock_x509_has_ip(&x, &want));
  ck_assert(!msock_x509_has_ip(&x, &other));
  memset(&mapped, 0, sizeof mapped);
  ck_assert(!msock_x509_has_ip(&x, &mapped)); /* "none" matches nothing */
  mapped.family = 6;
  memcpy(mapped.b, ip, 4);
  ck_assert(!msock_x509_has_ip(&x, &mapped)); /* the first four bytes are not enough */
  ck_assert(!msock_x509_is_meta(&x));
  tls_test_free(&c);
}
END_TEST

/* Every cut and every changed byte: an answer, never a read outside (run with ASan). */
START_TEST(cut_and_damaged_bytes_are_refused_or_read_safely) {
  static const tls_test_spec spec = {.cn = "CN=node", .dns = {"derp.example.com"}, .ip = ip};
  tls_test_cert c;
  msock_x509_cert x;
  const msock_ip want = msock_ip_v4(192, 0, 2, 10);
  tls_test_make(&c, &spec, NULL, NULL);
  for (size_t n = 0; n < c.len; n++) {
    uint8_t *copy = malloc(n > 0 ? n : 1);
    memcpy(copy, c.der, n);
    ck_assert(!msock_x509_parse(copy, n, &x)); /* the outer length says more */
    free(copy);
  }
  for (size_t i = 0; i < c.len; i++) {
    uint8_t *copy = malloc(c.len);
    for (unsigned v = 0; v < 256; v++) {
      uint8_t name[32];
      uint8_t version;
      memcpy(copy, c.der, c.len);
      copy[i] = (uint8_t)v;
      if (msock_x509_parse(copy, c.len, &x)) {
        msock_x509_has_dns(&x, "derp.example.com");
        msock_x509_has_ip(&x, &want);
        msock_x509_meta_key(&x, name, &version);
      }
    }
    free(copy);
  }
  uint8_t longer[2100];
  memcpy(longer, c.der, c.len);
  longer[c.len] = 0;
  ck_assert(!msock_x509_parse(longer, c.len + 1, &x));
  tls_test_free(&c);
}
END_TEST

START_TEST(the_meta_certificate_gives_its_key) {
  uint8_t want[32], got[32], der[512], version = 0;
  msock_x509_cert x;
  for (unsigned i = 0; i < 32; i++) {
    want[i] = (uint8_t)(i * 7);
  }
  const size_t n = tls_test_meta_der(der, sizeof der, want);
  ck_assert_uint_eq(n, 359); /* derp.md 1.3 */
  ck_assert(msock_x509_parse(der, n, &x));
  ck_assert(msock_x509_is_meta(&x));
  ck_assert(msock_x509_meta_key(&x, got, &version));
  ck_assert_mem_eq(got, want, 32);
  ck_assert_uint_eq(version, 2);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, names_and_addresses);
  tcase_add_test(tc, cut_and_damaged_bytes_are_refused_or_read_safely);
  tcase_add_test(tc, the_meta_certificate_gives_its_key);
  return testing_main("io_x509", tc);
}
