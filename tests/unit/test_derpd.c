/* derpd's pure parts: settings and their document, list files, key file, quota lines, WebSocket,
 * admission answers, the map. What needs sockets is tests/derpd/run. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/derpd_config.h"
#include "derpd/admission.h"
#include "derpd/identity.h"
#include "derpd/lists.h"
#include "derpd/map.h"
#include "derpd/mesh.h"
#include "derpd/page.h"
#include "derpd/quota_file.h"
#include "derpd/sha1.h"
#include "derpd/websocket.h"
#include "tests/unit/testing.h"

#define KEY_A "nodekey:0000000000000000000000000000000000000000000000000000000000000001"
#define KEY_B "nodekey:00000000000000000000000000000000000000000000000000000000000000ff"

static msock_config_report report;

static void setup(void) {
  report = (msock_config_report){0};
}

static msock_config *load(const char *file) {
  const msock_derpd_sources src = {.file_name = "derpd.yaml",
                                   .file = (const uint8_t *)file,
                                   .file_len = file ? strlen(file) : 0};
  return msock_derpd_config_load(&src, &report);
}

/* --- settings --- */

START_TEST(defaults_need_no_file) {
  msock_config *c = load(NULL);
  ck_assert_ptr_nonnull(c);
  const msock_derpd_config *v = msock_derpd_config_values(c);
  ck_assert_str_eq(v->listen.v[0], ":443");
  ck_assert_str_eq(v->stun_listen.v[0], ":3478");
  ck_assert(v->tls && v->derp && !v->stun_public && !v->admission.fail_open);
  ck_assert_int_eq(v->limits.connections_per_key, 5);
  ck_assert_int_eq(v->limits.connections, 0);
  ck_assert_uint_eq(v->limits.flow_duration, 0);
  ck_assert_uint_eq(v->trusted_proxies.n, 2);
  ck_assert(msock_derpd_is_none(&v->http_listen));
  msock_config_free(c);
}
END_TEST

/* The core takes what the table calls valid; a settings check of its own would be a surprise at
 * start. */
START_TEST(every_default_suits_the_core) {
  msock_config *c = load("limits: {key_rate: 1, accept_rate: 1, total_rate: 1, address_rate: 1}\n"
                         "quota: {day: 1, month: 1, throttle: 1}\n");
  msock_derp_server_settings s;
  const msock_derpd_lists none = {0};
  ck_assert_ptr_nonnull(c);
  msock_derpd_core_settings(msock_derpd_config_values(c), &none, &s);
  ck_assert_msg(msock_derp_server_settings_check(&s) == NULL, "%s",
                msock_derp_server_settings_check(&s));
  ck_assert_int_eq(s.admission, MSOCK_DERP_ADMIT_ALL);
  ck_assert(!s.has_mesh_key);
  ck_assert_uint_eq(s.key.per_s, 1);
  msock_config_free(c);
}
END_TEST

static const struct {
  const char *text;
  bool ok;
  uint8_t family;
  uint16_t port;
} listens[] = {
    {":443", true, 0, 443},      {":0", true, 0, 0},
    {"192.0.2.1:1", true, 4, 1}, {"[::1]:65535", true, 6, 65535},
    {":65536", false, 0, 0},     {":", false, 0, 0},
    {"443", false, 0, 0},        {"example.com:443", false, 0, 0},
    {":4 4", false, 0, 0},       {"192.0.2.1", false, 0, 0},
};

START_TEST(listen_addresses) {
  msock_addr a = {0};
  ck_assert_int_eq(msock_derpd_parse_listen(listens[_i].text, &a) == MSOCK_OK, listens[_i].ok);
  if (listens[_i].ok) {
    ck_assert_uint_eq(a.ip.family, listens[_i].family);
    ck_assert_uint_eq(a.port, listens[_i].port);
  }
}
END_TEST

/* closes: M16 M44 (tokens) */
START_TEST(tokens_are_long_and_no_placeholders) {
  static const char *const bad[] = {"changeme", "short", "your-token-here",
                                    "with blanks in it 1234"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char file[128];
    snprintf(file, sizeof file, "admission:\n  token: \"%s\"\n", bad[i]);
    setup();
    ck_assert_ptr_null(load(file));
    ck_assert_str_eq(report.problems[0].field, "admission.token");
    ck_assert_ptr_null(strstr(report.problems[0].reason, bad[i]));
  }
  setup();
  msock_config *c = load("admission:\n  token: 0123456789abcdef\n");
  ck_assert_ptr_nonnull(c);
  msock_config_free(c);
}
END_TEST

START_TEST(a_rate_file_of_derper) {
  static const char text[] =
      "{\"PerClientRateLimitBytesPerSec\": 125000, \"PerClientRateBurstBytes\": 250000}";
  msock_config *c = load(NULL);
  ck_assert_int_eq(msock_derpd_config_apply_rates(c, "rate.json", (const uint8_t *)text,
                                                  sizeof text - 1, &report),
                   MSOCK_OK);
  const msock_derpd_config *v = msock_derpd_config_values(c);
  ck_assert_uint_eq(v->limits.key_rate, 125000);
  ck_assert_uint_eq(v->limits.key_burst, 250000);
  ck_assert_int_ne(msock_derpd_config_apply_rates(c, "rate.json", (const uint8_t *)"{", 1, &report),
                   MSOCK_OK);
  msock_config_free(c);
}
END_TEST

/* --- the document --- */

static void doc_line(const msock_config_row *row, char *dst, size_t cap) {
  char value[128] = "";
  if (row->default_text && row->default_text[0]) {
    snprintf(value, sizeof value, "`%s`", row->default_text);
  }
  snprintf(dst, cap, "| `%s` | %s | %s | %s |", row->key, value,
           row->reloadable ? "SIGHUP" : "restart", row->sentence);
}

/* closes: M45 */
START_TEST(document_has_every_setting) {
  char line[1024];
  char *text = calloc(1, 65536);
  FILE *f = fopen(DOCS_DIR "/derpd.md", "r");
  ck_assert_ptr_nonnull(f);
  const size_t len = fread(text, 1, 65535, f);
  fclose(f);
  ck_assert_uint_lt(len, 65535);
  for (size_t i = 0; i < msock_derpd_schema.n_rows; i++) {
    doc_line(&msock_derpd_schema.rows[i], line, sizeof line);
    ck_assert_msg(strstr(text, line) != NULL, "docs/derpd.md lacks this line: %s", line);
  }
  for (size_t i = 0; i < msock_derpd_schema.n_flag_aliases; i++) {
    snprintf(line, sizeof line, "`-%s`", msock_derpd_schema.flag_aliases[i].name);
    ck_assert_msg(strstr(text, line) != NULL, "docs/derpd.md lacks the flag %s", line);
  }
  free(text);
}
END_TEST

/* --- files --- */

START_TEST(list_files) {
  char path[] = "/tmp/tsnode-test-XXXXXX", file[256];
  const int fd = mkstemp(path);
  static const char lines[] = "# friends\n\n  " KEY_B "   # one\n" KEY_A "\n";
  ck_assert_int_eq(write(fd, lines, sizeof lines - 1), sizeof lines - 1);
  snprintf(file, sizeof file, "admission: {keys_file: %s, keys: [" KEY_B "]}\n", path);
  msock_config *c = load(file);
  msock_derpd_lists l;
  msock_node_key a, b, other = {{9}};
  ck_assert_int_eq(msock_derpd_lists_load(msock_derpd_config_values(c), &l, &report), MSOCK_OK);
  ck_assert(l.has_admitted);
  ck_assert_uint_eq(l.admitted.n, 3);
  msock_node_key_parse(KEY_A, &a);
  msock_node_key_parse(KEY_B, &b);
  ck_assert(msock_derpd_keys_have(&l.admitted, &a) && msock_derpd_keys_have(&l.admitted, &b));
  ck_assert(!msock_derpd_keys_have(&l.admitted, &other));
  msock_derpd_lists_clear(&l);
  ck_assert(!msock_derpd_keys_have(&l.admitted, &a));
  ck_assert_int_eq(write(fd, "nodekey:xyz\n", 12), 12);
  ck_assert_int_eq(msock_derpd_lists_load(msock_derpd_config_values(c), &l, &report),
                   MSOCK_ERR_INVALID);
  ck_assert_ptr_nonnull(strstr(report.problems[0].where, ":5"));
  ck_assert_ptr_null(l.admitted.v);
  msock_config_free(c);
  close(fd);
  unlink(path);
}
END_TEST

START_TEST(ban_lists_hold_keys_addresses_and_prefixes) {
  char path[] = "/tmp/tsnode-test-XXXXXX", file[256];
  const int fd = mkstemp(path);
  static const char lines[] = "192.0.2.7\n2001:db8::/32\n" KEY_A "\n";
  ck_assert_int_eq(write(fd, lines, sizeof lines - 1), sizeof lines - 1);
  close(fd);
  snprintf(file, sizeof file, "bans: {file: %s, prefixes: [198.51.100.0/24]}\n", path);
  msock_config *c = load(file);
  msock_derpd_lists l;
  ck_assert_int_eq(msock_derpd_lists_load(msock_derpd_config_values(c), &l, &report), MSOCK_OK);
  ck_assert(!l.has_admitted);
  ck_assert_uint_eq(l.n_bans, 4);
  ck_assert_uint_eq(l.bans[0].prefix.bits, 24);
  ck_assert_uint_eq(l.bans[1].prefix.bits, 32);
  ck_assert_uint_eq(l.bans[2].prefix.bits, 32);
  ck_assert_int_eq(l.bans[3].kind, MSOCK_DERP_BAN_KEY);
  msock_derpd_lists_clear(&l);
  msock_config_free(c);
  unlink(path);
}
END_TEST

#define HEX64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
static const struct {
  const char *text;
  bool ok;
} key_files[] = {
    {"{\n\t\"PrivateKey\": \"privkey:" HEX64 "\"\n}\n", true},
    {"{\"PrivateKey\":\"privkey:" HEX64 "\"}", true},
    {"{\"Other\":1,\"PrivateKey\" : \"privkey:" HEX64 "\"}", true},
    {"{\"PrivateKey\":\"privkey:" HEX64 "0\"}", false},
    {"{\"PrivateKey\":\"nodekey:" HEX64 "\"}", false},
    {"{\"PrivateKey\":\"privkey:", false},
    {"{\"PrivateKey\"", false},
    {"privkey:" HEX64, false},
    {"", false},
};

/* closes: M44 (key file) SERVER-25 */
START_TEST(key_files_have_derpers_form) {
  msock_node_private key;
  const char *text = key_files[_i].text;
  ck_assert_int_eq(msock_derpd_key_parse(text, strlen(text), &key) == MSOCK_OK, key_files[_i].ok);
}
END_TEST

static const struct {
  const char *line;
  bool ok;
} quota_lines[] = {
    {KEY_A " 20000 657 12 345", true},
    {KEY_A " 20000 657 12", false},
    {KEY_A " 20000 657 12 345 6", false},
    {"key 20000 657 12 345", false},
    {"", false},
    {KEY_A " x 657 12 345", false},
};

START_TEST(quota_lines_are_read_whole_or_not_at_all) {
  msock_derp_usage u = {.day = 7};
  ck_assert_int_eq(msock_derpd_quota_parse(quota_lines[_i].line, &u), quota_lines[_i].ok);
  if (quota_lines[_i].ok) {
    ck_assert_uint_eq(u.day, 20000);
    ck_assert_uint_eq(u.month, 657);
    ck_assert_uint_eq(u.day_bytes, 12);
    ck_assert_uint_eq(u.month_bytes, 345);
  } else {
    ck_assert_uint_eq(u.day, 7);
  }
}
END_TEST

START_TEST(dates_turn_at_midnight_utc) {
  uint32_t day, month;
  msock_derpd_date(0, &day, &month);
  ck_assert(day == 0 && month == 0);
  msock_derpd_date(UINT64_C(951868799) * MSOCK_SEC, &day, &month); /* 2000-02-29T23:59:59Z */
  ck_assert_uint_eq(day, 11016);
  ck_assert_uint_eq(month, 361);
  msock_derpd_date(UINT64_C(951868800) * MSOCK_SEC, &day, &month);
  ck_assert_uint_eq(day, 11017);
  ck_assert_uint_eq(month, 362);
}
END_TEST

/* --- admission --- */

static const struct {
  const char *body;
  bool allow;
} answers[] = {
    {"{\"Allow\":true}", true},
    {"{\"Allow\": true, \"More\": [1]}", true},
    {"{\"Allow\":false}", false},
    {"{\"Allow\":\"true\"}", false},
    {"{\"Allow\":1}", false},
    {"{\"allow\":true}", false},
    {"{}", false},
    {"true", false},
    {"[{\"Allow\":true}]", false},
    {"{\"Allow\":true", false},
    {"", false},
    {"{\"Allow\":{\"Allow\":true}}", false},
};

START_TEST(only_a_plain_true_admits) {
  ck_assert_int_eq(
      msock_derpd_admission_allows((const uint8_t *)answers[_i].body, strlen(answers[_i].body)),
      answers[_i].allow);
}
END_TEST

/* --- mesh --- */

#define PIN "sha256-raw:" HEX64
static const struct {
  const char *text;
  bool ok;
  const char *host, *dial, *http_host, *cert_name;
  uint16_t port;
} targets[] = {
    {"derp.example.com", true, "derp.example.com", "derp.example.com", "derp.example.com", "", 443},
    {"derp.example.com:8443", true, "derp.example.com", "derp.example.com", "derp.example.com:8443",
     "", 8443},
    {"derp.example.com/10.0.0.1", true, "derp.example.com", "10.0.0.1", "derp.example.com", "",
     443},
    {"192.0.2.1:8443#" PIN, true, "192.0.2.1", "192.0.2.1", "192.0.2.1:8443", PIN, 8443},
    {"[2001:db8::1]", true, "2001:db8::1", "2001:db8::1", "[2001:db8::1]", "", 443},
    {"[2001:db8::1]:8443/backend", true, "2001:db8::1", "backend", "[2001:db8::1]:8443", "", 8443},
    {"", false, NULL, NULL, NULL, NULL, 0},
    {"a.example:", false, NULL, NULL, NULL, NULL, 0},
    {"a.example:0", false, NULL, NULL, NULL, NULL, 0},
    {"a.example:65536", false, NULL, NULL, NULL, NULL, 0},
    {"a.example/", false, NULL, NULL, NULL, NULL, 0},
    {"/b", false, NULL, NULL, NULL, NULL, 0},
    {"a.example#md5:1", false, NULL, NULL, NULL, NULL, 0},
    {"[2001:db8::1", false, NULL, NULL, NULL, NULL, 0},
    {"2001:db8::1", false, NULL, NULL, NULL, NULL, 0},
    {"a b", false, NULL, NULL, NULL, NULL, 0},
};

START_TEST(mesh_targets) {
  msock_derpd_mesh_target t = {.port = 7};
  ck_assert_msg((msock_derpd_mesh_parse(targets[_i].text, &t) == MSOCK_OK) == targets[_i].ok, "%s",
                targets[_i].text);
  if (!targets[_i].ok) {
    ck_assert_uint_eq(t.port, 7);
    return;
  }
  ck_assert_str_eq(t.host, targets[_i].host);
  ck_assert_str_eq(t.dial, targets[_i].dial);
  ck_assert_str_eq(t.http_host, targets[_i].http_host);
  ck_assert_str_eq(t.cert_name, targets[_i].cert_name);
  ck_assert_uint_eq(t.port, targets[_i].port);
}
END_TEST

/* --- WebSocket --- */

/* FIPS 180-4 and RFC 6455 1.3. */
START_TEST(known_digests) {
  static const struct {
    const char *text, *hex;
  } cases[] = {
      {"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
      {"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
      {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" /* 64: two blocks */,
       "0098ba824b5c16427bd7a1122a5a442a25ec644d"},
  };
  char accept[MSOCK_DERPD_WS_ACCEPT_MAX], hex[41];
  uint8_t digest[MSOCK_DERPD_SHA1_LEN];
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    msock_derpd_sha1((const uint8_t *)cases[i].text, strlen(cases[i].text), digest);
    for (size_t k = 0; k < sizeof digest; k++) {
      snprintf(hex + 2 * k, 3, "%02x", digest[k]);
    }
    ck_assert_str_eq(hex, cases[i].hex);
  }
  msock_derpd_ws_accept("dGhlIHNhbXBsZSBub25jZQ==", 24, accept);
  ck_assert_str_eq(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}
END_TEST

/* A masked frame of a client; gives its length. */
static size_t frame(uint8_t first, const char *payload, size_t len, uint8_t *dst) {
  static const uint8_t mask[4] = {1, 2, 3, 4};
  size_t at = 0;
  dst[at++] = first;
  if (len < 126) {
    dst[at++] = (uint8_t)(0x80 | len);
  } else {
    dst[at++] = 0x80 | 126;
    dst[at++] = (uint8_t)(len >> 8);
    dst[at++] = (uint8_t)len;
  }
  memcpy(dst + at, mask, 4);
  at += 4;
  for (size_t i = 0; i < len; i++) {
    dst[at + i] = (uint8_t)payload[i] ^ mask[i & 3];
  }
  return at + len;
}

/* Every cut of the same bytes gives the same stream. */
START_TEST(messages_of_any_cut_are_one_stream) {
  static char big[300];
  uint8_t wire[1024], out[2048], got[1024];
  size_t n = 0, got_len = 0;
  memset(big, 'b', sizeof big);
  n += frame(0x82, "abc", 3, wire + n);
  n += frame(0x02, "de", 2, wire + n); /* begins a message in pieces */
  n += frame(0x89, "ping", 4, wire + n);
  n += frame(0x80, "f", 1, wire + n);
  n += frame(0x82, "", 0, wire + n);
  n += frame(0x8a, "stray pong", 10, wire + n);
  n += frame(0x82, big, sizeof big, wire + n);
  msock_derpd_ws w = {0};
  unsigned pongs = 0;
  for (size_t at = 0; at < n;) {
    const size_t piece = n - at < (size_t)_i ? n - at : (size_t)_i;
    for (size_t used = 0; used < piece;) {
      msock_derpd_ws_step step;
      size_t len;
      used += msock_derpd_ws_feed(&w, wire + at + used, piece - used, &step, out, &len);
      if (step == MSOCK_DERPD_WS_PONG) {
        ck_assert_uint_eq(len, 6);
        ck_assert_mem_eq(out, "\x8a\x04ping", 6);
        pongs++;
      } else {
        ck_assert_int_eq(step, MSOCK_DERPD_WS_DATA);
        memcpy(got + got_len, out, len);
        got_len += len;
      }
    }
    at += piece;
  }
  ck_assert_uint_eq(pongs, 1);
  ck_assert_uint_eq(got_len, 6 + sizeof big);
  ck_assert_mem_eq(got, "abcdef", 6);
  ck_assert_mem_eq(got + 6, big, sizeof big);
}
END_TEST

static const struct {
  const char *name;
  uint8_t bytes[14];
  size_t len;
  unsigned code;
} bad_frames[] = {
    {"text", {0x81, 0x80, 0, 0, 0, 0}, 6, 1003},
    {"not masked", {0x82, 0x00, 0, 0, 0, 0}, 6, 1002},
    {"extension bits", {0xc2, 0x80, 0, 0, 0, 0}, 6, 1002},
    {"continuation of nothing", {0x80, 0x80, 0, 0, 0, 0}, 6, 1002},
    {"control in pieces", {0x09, 0x80, 0, 0, 0, 0}, 6, 1002},
    {"long control", {0x89, 0xfe, 0, 126, 0, 0, 0, 0}, 8, 1002},
    {"unknown control", {0x8b, 0x80, 0, 0, 0, 0}, 6, 1002},
    {"length with the top bit", {0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 14, 1002},
};

START_TEST(wrong_frames_close_with_their_code) {
  msock_derpd_ws w = {0};
  msock_derpd_ws_step step = MSOCK_DERPD_WS_DATA;
  uint8_t out[256];
  size_t n = 0;
  msock_derpd_ws_feed(&w, bad_frames[_i].bytes, bad_frames[_i].len, &step, out, &n);
  ck_assert_msg(step == MSOCK_DERPD_WS_CLOSE, "%s", bad_frames[_i].name);
  ck_assert_uint_eq(n, 4);
  ck_assert_uint_eq(out[0], 0x88);
  ck_assert_uint_eq((unsigned)out[2] << 8 | out[3], bad_frames[_i].code);
}
END_TEST

static const struct {
  uint64_t len;
  size_t n;
  uint8_t want[10];
} heads[] = {
    {0, 2, {0x82, 0}},
    {125, 2, {0x82, 125}},
    {126, 4, {0x82, 126, 0, 126}},
    {65535, 4, {0x82, 126, 0xff, 0xff}},
    {65536, 10, {0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
};

START_TEST(heads_of_our_messages) {
  uint8_t got[MSOCK_DERPD_WS_HEAD_MAX];
  ck_assert_uint_eq(msock_derpd_ws_head(heads[_i].len, got), heads[_i].n);
  ck_assert_mem_eq(got, heads[_i].want, heads[_i].n);
}
END_TEST

/* --- what is shown --- */

START_TEST(maps_name_what_clients_need) {
  msock_config *c = load("hostname: relay.example\nlisten: ':443'\nhttp_listen: ':80'\n");
  const msock_derpd_map_options yaml = {.address = "192.0.2.1"};
  const msock_derpd_map_options bad = {.name = "a \"quoted\" name"};
  msock_derpd_text t = {0};
  char why[256];
  ck_assert(msock_derpd_map_write(msock_derpd_config_values(c), &yaml, "", &t, why, sizeof why));
  ck_assert_ptr_nonnull(strstr(t.p, "hostname: \"relay.example\"\n        ipv4: \"192.0.2.1\"\n"
                                    "        ipv6: \"none\"\n        derpport: 0\n"
                                    "        stunport: 0\n"));
  ck_assert_ptr_nonnull(strstr(t.p, "canport80: true"));
  ck_assert_ptr_null(strstr(t.p, "certname"));
  msock_derpd_text_clear(&t);
  ck_assert(!msock_derpd_map_write(msock_derpd_config_values(c), &bad, "", &t, why, sizeof why));
  msock_derpd_text_clear(&t);
  msock_config_free(c);
}
END_TEST

START_TEST(texts_are_safe_and_short) {
  msock_derpd_text t = {0};
  msock_derpd_text_html(&t, "<a href=\"x\">&");
  msock_derpd_text_add(&t, "|");
  msock_derpd_text_size(&t, 999);
  msock_derpd_text_add(&t, "|");
  msock_derpd_text_size(&t, 1500);
  msock_derpd_text_add(&t, "|");
  msock_derpd_text_size(&t, 999950);
  msock_derpd_text_add(&t, "|");
  msock_derpd_text_span(&t, 119 * MSOCK_SEC);
  msock_derpd_text_add(&t, "|");
  msock_derpd_text_span(&t, 3 * 86400 * MSOCK_SEC + 4 * 3600 * MSOCK_SEC);
  ck_assert_str_eq(t.p, "&lt;a href=&quot;x&quot;&gt;&amp;|999 B|1.5 kB|1.0 MB|119 s|3 d 4 h");
  msock_derpd_text_clear(&t);
}
END_TEST

START_TEST(history_is_bytes_per_second) {
  static msock_derpd_history h;
  msock_derpd_history_add(&h, 1 * MSOCK_SEC, 1000, 0);
  ck_assert_uint_eq(h.n, 0); /* the first is only where counting begins */
  msock_derpd_history_add(&h, 3 * MSOCK_SEC, 5000, 20);
  ck_assert_uint_eq(h.n, 1);
  ck_assert_uint_eq(h.in[0], 2000);
  ck_assert_uint_eq(h.out[0], 10);
  for (uint64_t i = 0; i < 2 * MSOCK_DERPD_HISTORY; i++) {
    msock_derpd_history_add(&h, (4 + i) * MSOCK_SEC, 5000, 20);
  }
  ck_assert_uint_eq(h.n, MSOCK_DERPD_HISTORY);
}
END_TEST

#define COUNT(a) (int)(sizeof(a) / sizeof *(a))

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--print") == 0) { /* the table for the document */
    for (size_t i = 0; i < msock_derpd_schema.n_rows; i++) {
      char line[1024];
      doc_line(&msock_derpd_schema.rows[i], line, sizeof line);
      puts(line);
    }
    return 0;
  }
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, NULL);
  tcase_add_test(tc, defaults_need_no_file);
  tcase_add_test(tc, every_default_suits_the_core);
  tcase_add_loop_test(tc, listen_addresses, 0, COUNT(listens));
  tcase_add_test(tc, tokens_are_long_and_no_placeholders);
  tcase_add_test(tc, a_rate_file_of_derper);
  tcase_add_test(tc, document_has_every_setting);
  tcase_add_test(tc, list_files);
  tcase_add_test(tc, ban_lists_hold_keys_addresses_and_prefixes);
  tcase_add_loop_test(tc, key_files_have_derpers_form, 0, COUNT(key_files));
  tcase_add_loop_test(tc, quota_lines_are_read_whole_or_not_at_all, 0, COUNT(quota_lines));
  tcase_add_test(tc, dates_turn_at_midnight_utc);
  tcase_add_loop_test(tc, only_a_plain_true_admits, 0, COUNT(answers));
  tcase_add_loop_test(tc, mesh_targets, 0, COUNT(targets));
  tcase_add_test(tc, known_digests);
  tcase_add_loop_test(tc, messages_of_any_cut_are_one_stream, 1, 40);
  tcase_add_loop_test(tc, wrong_frames_close_with_their_code, 0, COUNT(bad_frames));
  tcase_add_loop_test(tc, heads_of_our_messages, 0, COUNT(heads));
  tcase_add_test(tc, maps_name_what_clients_need);
  tcase_add_test(tc, texts_are_safe_and_short);
  tcase_add_test(tc, history_is_bytes_per_second);
  return testing_main("derpd", tc);
}
