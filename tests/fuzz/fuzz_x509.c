/* The little of X.509 that io reads by itself: any bytes as a certificate. */
#include <stdlib.h>
#include <string.h>

#include "io/x509_name.h"
#include "tests/fuzz/fuzzing.h"

static void inside(msock_x509_span s, const uint8_t *p, size_t len) {
  FUZZ_CHECK(s.p == NULL || (s.p >= p && s.p + s.len <= p + len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const uint8_t six[16] = {[15] = 1};
  const msock_ip ips[2] = {msock_ip_v4(127, 0, 0, 1), msock_ip_from_bytes16(six)};
  msock_reader r = msock_reader_init(data, size);
  msock_x509_cert c;
  msock_x509_span cn;
  uint8_t key[32], version = 0;
  size_t len = 0;
  uint8_t *p = fuzz_rest(&r, &len);

  if (msock_x509_parse(p, len, &c)) {
    inside(c.serial, p, len);
    inside(c.subject, p, len);
    inside(c.spki, p, len);
    inside(c.san, p, len);
    (void)msock_x509_has_dns(&c, "derp.example.com.");
    (void)msock_x509_has_dns(&c, "localhost");
    (void)msock_x509_has_ip(&c, &ips[0]);
    (void)msock_x509_has_ip(&c, &ips[1]);
    if (msock_x509_common_name(&c, &cn)) {
      inside(cn, p, len);
    }
    FUZZ_CHECK(!msock_x509_meta_key(&c, key, &version) || msock_x509_is_meta(&c));
  }
  free(p);
  return 0;
}
