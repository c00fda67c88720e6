/* Text forms of base: keys, addresses, prefixes, ranges, hex, and the times of the control wire.
 * What is accepted must print back to a text that is accepted as the same value. */
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/derp_map.h"
#include "base/hex.h"
#include "base/key.h"
#include "base/policy.h"
#include "control/wire_time.h"
#include "tests/fuzz/fuzzing.h"

static void keys(const char *text) {
  char buf[MSOCK_KEY_TEXT_MAX], log[MSOCK_KEY_SHORT_MAX];
  msock_node_key node;
  msock_disco_key disco;
  msock_machine_key machine;
  msock_challenge_key challenge;
  msock_node_private node_private;
  msock_machine_private machine_private;

  if (msock_node_key_parse(text, &node) == MSOCK_OK) {
    FUZZ_CHECK(strcmp(msock_node_key_text(&node, buf), text) == 0);
    FUZZ_CHECK(strlen(msock_node_key_short(&node, log)) == 7);
  }
  if (msock_disco_key_parse(text, &disco) == MSOCK_OK) {
    FUZZ_CHECK(strcmp(msock_disco_key_text(&disco, buf), text) == 0);
    FUZZ_CHECK(strlen(msock_disco_key_short(&disco, log)) == 7);
  }
  if (msock_machine_key_parse(text, &machine) == MSOCK_OK) {
    FUZZ_CHECK(strcmp(msock_machine_key_text(&machine, buf), text) == 0);
  }
  if (msock_challenge_key_parse(text, &challenge) == MSOCK_OK) {
    FUZZ_CHECK(strcmp(msock_challenge_key_text(&challenge, buf), text) == 0);
  }
  if (msock_node_private_parse(text, &node_private) == MSOCK_OK) {
    FUZZ_CHECK(strcmp(msock_node_private_text(&node_private, buf), text) == 0);
  }
  if (msock_machine_private_parse(text, &machine_private) == MSOCK_OK) {
    FUZZ_CHECK(strcmp(msock_machine_private_text(&machine_private, buf), text) == 0);
  }
}

static void addresses(const char *text) {
  char buf[MSOCK_ADDR_TEXT_MAX];
  msock_ip ip, ip2;
  msock_addr addr, addr2;
  msock_prefix prefix, prefix2;
  msock_ip_range range;

  if (msock_ip_parse(text, &ip) == MSOCK_OK) {
    FUZZ_CHECK(ip.family == 4 || ip.family == 6);
    FUZZ_CHECK(msock_ip_parse(msock_ip_text(&ip, buf), &ip2) == MSOCK_OK);
    FUZZ_CHECK(msock_ip_equal(&ip, &ip2) && msock_ip_compare(&ip, &ip2) == 0);
    const msock_ip plain = msock_ip_unmap(ip);
    FUZZ_CHECK(!(msock_ip_is_loopback(&plain) && msock_ip_is_private(&plain)));
  }
  if (msock_addr_parse(text, &addr) == MSOCK_OK) {
    FUZZ_CHECK(msock_addr_parse(msock_addr_text(&addr, buf), &addr2) == MSOCK_OK);
    FUZZ_CHECK(msock_addr_equal(&addr, &addr2));
  }
  if (msock_prefix_parse(text, &prefix) == MSOCK_OK) {
    const msock_prefix masked = msock_prefix_mask(prefix);
    FUZZ_CHECK(prefix.bits <= msock_ip_bits(&prefix.ip));
    FUZZ_CHECK(msock_prefix_equal(&prefix, &masked)); /* no host bits */
    FUZZ_CHECK(msock_prefix_contains(&prefix, &prefix.ip));
    FUZZ_CHECK(msock_prefix_parse(msock_prefix_text(&prefix, buf), &prefix2) == MSOCK_OK);
    FUZZ_CHECK(msock_prefix_equal(&prefix, &prefix2));
  }
  if (msock_ip_range_parse(text, &range) == MSOCK_OK && !range.any) {
    FUZZ_CHECK(range.lo.family == range.hi.family);
    FUZZ_CHECK(msock_ip_compare(&range.lo, &range.hi) <= 0);
    FUZZ_CHECK(msock_ip_range_contains(&range, &range.lo));
    FUZZ_CHECK(msock_ip_range_contains(&range, &range.hi));
  }
}

static void times(const char *text) {
  char buf[MSOCK_WIRE_TIME_MAX];
  uint64_t at = 0, again = 0, wait = 0;

  if (msock_wire_time_parse(text, &at) == MSOCK_OK && at > 1) {
    FUZZ_CHECK(msock_wire_time_parse(msock_wire_time_text(at, buf), &again) == MSOCK_OK);
    FUZZ_CHECK(at == again);
  }
  (void)msock_retry_after_parse(text, UINT64_C(1795000000) * MSOCK_SEC, &wait);
}

static void hex(const char *text, size_t len) {
  uint8_t bytes[64];
  char back[2 * sizeof bytes + 1];
  const size_t n = len / 2 < sizeof bytes ? len / 2 : sizeof bytes;

  if (msock_hex_decode(text, bytes, n)) {
    msock_hex_encode(bytes, n, back);
    FUZZ_CHECK(memcmp(back, text, 2 * n) == 0);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  msock_reader r = msock_reader_init(data, size);
  size_t len = 0;
  msock_derp_node node = {0};
  char *text = fuzz_rest_text(&r, &len);

  keys(text);
  addresses(text);
  times(text);
  hex(text, len);
  msock_derp_node_set_ipv4(&node, text);
  msock_derp_node_set_ipv6(&node, text);
  FUZZ_CHECK((node.v4 == MSOCK_DERP_FAMILY_LITERAL) == (node.ipv4.family == 4));
  FUZZ_CHECK((node.v6 == MSOCK_DERP_FAMILY_LITERAL) == (node.ipv6.family == 6));
  free(text);
  return 0;
}
