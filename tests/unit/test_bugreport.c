/* What a bug report is made of: the anonymiser, the ring of log lines, the pcap writer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/log_sink.h"
#include "node/anonymize.h"
#include "node/capture.h"
#include "tests/unit/testing.h"

static msock_anonymize *make(const char *secret) {
  static msock_anonymize a;
  msock_anonymize_init(&a, secret, strlen(secret));
  ck_assert(msock_anonymize_add(&a, "box.tail.example."));
  ck_assert(msock_anonymize_add(&a, "tail.example"));
  ck_assert(msock_anonymize_add(&a, "box"));
  return &a;
}

/* The hash in the middle of the text must stand for a kind, and the rest must stay. */
static const struct {
  const char *name, *text, *head, *tail;
} replaced[] = {
    {"an address", "ip=100.64.0.7 x", "ip=ip-", " x"},
    {"with port", "to 192.0.2.1:41641,", "to ip-", ","},
    {"a prefix keeps its length", "\"10.1.0.0/16\"", "\"ip-", "/16\""},
    {"IPv6 in brackets", "[fd7a:115c:a1e0::1]:443", "[ip-", "]:443"},
    {"a name", "\"HostName\":\"box\"", "\"HostName\":\"name-", "\""},
    {"a name in capitals", "BOX up", "name-", " up"},
    {"another name of the tailnet", "other.tail.example. is", "name-", ". is"},
    {"a name with a port in an URL", "https://box.tail.example:8080/x", "https://name-", ":8080/x"},
    {"a login", "ann@example.org!", "name-", "!"},
    {"a typed key", "k=nodekey:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff.",
     "k=key-", "."},
    {"a key as logs print it", "peer=[ab+d/] y", "peer=key-", " y"},
};

START_TEST(who_is_who_is_replaced) {
  msock_anonymize *a = make("s");
  char *got = msock_anonymize_text(a, replaced[_i].text);
  const size_t head = strlen(replaced[_i].head), tail = strlen(replaced[_i].tail);
  ck_assert_ptr_nonnull(got);
  ck_assert_msg(strncmp(got, replaced[_i].head, head) == 0, "%s: %s", replaced[_i].name, got);
  ck_assert_msg(strlen(got) == head + 6 + tail && strcmp(got + head + 6, replaced[_i].tail) == 0,
                "%s: %s", replaced[_i].name, got);
  free(got);
  msock_anonymize_clear(a);
}
END_TEST

static const char *const kept[] = {
    "127.0.0.1:80 and 0.0.0.0",
    "derp.connected region=900",
    "2026-11-21T10:11:12.345Z info",
    "boxes are not a box-like thing",
    "rx_disco 12",
    "",
};

START_TEST(the_rest_stays) {
  msock_anonymize *a = make("s");
  char *got = msock_anonymize_text(a, kept[_i]);
  ck_assert_str_eq(got, kept[_i]);
  free(got);
  msock_anonymize_clear(a);
}
END_TEST

/* One node's reports can be compared; two nodes' hashes of one address differ. */
START_TEST(hashes_are_the_nodes_own) {
  char *got[3];
  static const char *const secrets[3] = {"one", "one", "two"};
  for (size_t i = 0; i < 3; i++) {
    msock_anonymize *a = make(secrets[i]);
    got[i] = msock_anonymize_text(a, i == 1 ? "100.64.0.7:1 BOX" : "100.64.0.7 box");
    msock_anonymize_clear(a);
  }
  ck_assert_str_eq(got[0], got[1]); /* the port belongs to the address, case does not count */
  ck_assert_str_ne(got[0], got[2]);
  for (size_t i = 0; i < 3; i++) {
    free(got[i]);
  }
}
END_TEST

static uint64_t clock_us;
static uint64_t fake_now(void) {
  return clock_us += 2 * MSOCK_LOG_REFILL_US; /* never limited */
}
static void nowhere(void *ctx, const char *line, size_t len) {
  (void)ctx;
  (void)line;
  (void)len;
}

START_TEST(addresses_alone_are_taken_out_of_log_lines) {
  static const struct {
    const char *text, *want;
  } cases[] = {
      {"peer=[9cX9P] addr=203.0.113.7:41641 rtt_us=52", "peer=[9cX9P] addr=- rtt_us=52"},
      {"at 203.0.113.7. And 10.0.0.0/8, [2001:db8::1]:443", "at -. And -/8, [-]:443"},
      {"addr=0.0.0.0:1 [::]:2 127.0.0.1:3 region=900",
       "addr=0.0.0.0:1 [::]:2 127.0.0.1:3 region=900"},
      {"version=1.2.3 at 10:11:12 box.tail.example", "version=1.2.3 at 10:11:12 box.tail.example"},
      {"", ""},
  };
  char dst[80];
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    msock_anonymize_addresses(cases[i].text, dst, sizeof dst);
    ck_assert_str_eq(dst, cases[i].want);
  }
  msock_anonymize_addresses("abcdef 10.0.0.1", dst, 5);
  ck_assert_str_eq(dst, "abcd");
}
END_TEST

START_TEST(ring_keeps_the_newest_whole_lines) {
  static msock_log_sink s;
  static char tail[MSOCK_LOG_RING + 1];
  msock_log_sink_init(&s, MSOCK_LOG_INFO, false, fake_now, fake_now);
  s.write = nowhere;
  msock_logf(&s.log, MSOCK_LOG_INFO, "a.first", "n=%d", 0);
  msock_log_sink_tail(&s, tail);
  ck_assert_ptr_nonnull(strstr(tail, "a.first n=0\n"));
  for (int i = 1; i <= 1000; i++) {
    msock_logf(&s.log, MSOCK_LOG_INFO, "a.next", "n=%d", i);
  }
  msock_log_sink_tail(&s, tail);
  ck_assert_ptr_null(strstr(tail, "a.first"));
  ck_assert_uint_gt(strlen(tail), MSOCK_LOG_RING - 128);
  ck_assert_ptr_eq(strstr(tail, "info"), strchr(tail, ' ') + 1); /* it begins with a whole line */
  ck_assert_str_eq(tail + strlen(tail) - strlen("a.next n=1000\n"), "a.next n=1000\n");
}
END_TEST

static uint32_t at32(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

START_TEST(pcap_is_bounded_to_the_byte) {
  const uint8_t packet[100] = {0x45};
  msock_capture c;
  size_t len = 0;
  ck_assert_int_eq(msock_capture_begin(&c, 24 + 2 * 116), MSOCK_OK);
  msock_capture_add(&c, UINT64_C(1700000000000007), packet, sizeof packet);
  msock_capture_add(&c, UINT64_C(1700000001000008), packet, sizeof packet);
  ck_assert(!msock_capture_is_full(&c));
  msock_capture_add(&c, 0, packet, 1);
  ck_assert(msock_capture_is_full(&c));
  uint8_t *file = msock_capture_take(&c, &len);
  ck_assert_uint_eq(len, 24 + 2 * 116);
  ck_assert_uint_eq(at32(file), 0xa1b2c3d4u);
  ck_assert_uint_eq(at32(file + 20), 101); /* LINKTYPE_RAW */
  ck_assert_uint_eq(at32(file + 24), 1700000000u);
  ck_assert_uint_eq(at32(file + 28), 7);
  ck_assert_uint_eq(at32(file + 32), 100);
  ck_assert_uint_eq(file[40], 0x45);
  ck_assert_ptr_null(c.buf);
  msock_capture_add(&c, 0, packet, 1); /* not running: nothing happens */
  free(file);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, who_is_who_is_replaced, 0, (int)(sizeof replaced / sizeof *replaced));
  tcase_add_loop_test(tc, the_rest_stays, 0, (int)(sizeof kept / sizeof *kept));
  tcase_add_test(tc, hashes_are_the_nodes_own);
  tcase_add_test(tc, addresses_alone_are_taken_out_of_log_lines);
  tcase_add_test(tc, ring_keeps_the_newest_whole_lines);
  tcase_add_test(tc, pcap_is_bounded_to_the_byte);
  return testing_main("bugreport", tc);
}
