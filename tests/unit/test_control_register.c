/* Register answers: each row of control.md 3.3 has its own code. */
#include <stdlib.h>
#include <string.h>

#include "control/register.h"
#include "control/wire_time.h"
#include "tests/unit/testing.h"

/* closes: CTRL-32 */
static const struct {
  const char *name;
  int status;
  const char *body;
  msock_register_outcome outcome;
  msock_control_error error;
} rows[] = {
    {"valid key", 200,
     "{\"MachineAuthorized\":true,\"Login\":{\"LoginName\":\"a\"},\"Error\":\"\"}",
     MSOCK_REGISTER_DONE, 0},
    {"used", 200, "{\"MachineAuthorized\":true,\"Error\":\"authkey already used\"}",
     MSOCK_REGISTER_FAILED, MSOCK_CONTROL_E_AUTHKEY_USED},
    {"expired", 200, "{\"Error\":\"authkey expired\"}", MSOCK_REGISTER_FAILED,
     MSOCK_CONTROL_E_AUTHKEY_EXPIRED},
    {"revoked", 200, "{\"Error\":\"authkey revoked\"}", MSOCK_REGISTER_FAILED,
     MSOCK_CONTROL_E_AUTHKEY_REVOKED},
    {"unknown 1", 200, "{\"Error\":\"invalid pre auth key\"}", MSOCK_REGISTER_FAILED,
     MSOCK_CONTROL_E_AUTHKEY_INVALID},
    {"unknown 2", 200, "{\"Error\":\"invalid authkey\"}", MSOCK_REGISTER_FAILED,
     MSOCK_CONTROL_E_AUTHKEY_INVALID},
    {"malformed", 200,
     "{\"Error\":\"handling register with auth key: failed to parse auth-key: bad\"}",
     MSOCK_REGISTER_FAILED, MSOCK_CONTROL_E_AUTHKEY_MALFORMED},
    {"other machine", 200, "{\"Error\":\"node exists with a different machine key\"}",
     MSOCK_REGISTER_FAILED, MSOCK_CONTROL_E_OTHER_MACHINE},
    {"no auth", 200, "{\"AuthURL\":\"http://h/register/hskey-authreq-x\"}", MSOCK_REGISTER_AUTH_URL,
     0},
    {"no auth, expired node", 200, "{\"NodeKeyExpired\":true,\"AuthURL\":\"\"}",
     MSOCK_REGISTER_KEY_EXPIRED, 0},
    {"Followup that is no URL", 200, "{\"Error\":\"invalid registration ID\"}",
     MSOCK_REGISTER_FAILED, MSOCK_CONTROL_E_REGISTRATION_ID},
    {"future Expiry", 200, "{\"Error\":\"extending key is not allowed\"}", MSOCK_REGISTER_FAILED,
     MSOCK_CONTROL_E_EXTEND_EXPIRY},
    {"logout", 200, "{\"NodeKeyExpired\":true,\"MachineAuthorized\":true}",
     MSOCK_REGISTER_KEY_EXPIRED, 0},
    {"not authorized yet", 200, "{\"MachineAuthorized\":false}", MSOCK_REGISTER_WAIT, 0},
    {"tailnet lock", 200, "{\"MachineAuthorized\":true,\"NodeKeySignature\":\"AAAA\"}",
     MSOCK_REGISTER_FAILED, MSOCK_CONTROL_E_TAILNET_LOCK},
    {"version", 400, "unsupported client version: 1.78 (112)\n", MSOCK_REGISTER_FAILED,
     MSOCK_CONTROL_E_VERSION},
    {"other 400", 400, "bad request", MSOCK_REGISTER_FAILED, MSOCK_CONTROL_E_REGISTER_STATUS},
    {"429", 429, "", MSOCK_REGISTER_FAILED, MSOCK_CONTROL_E_BUSY},
    {"500", 500, "oops", MSOCK_REGISTER_FAILED, MSOCK_CONTROL_E_REGISTER_STATUS},
    {"null body", 200, "null", MSOCK_REGISTER_FAILED, MSOCK_CONTROL_E_REGISTER_BODY},
    {"empty body", 200, "", MSOCK_REGISTER_FAILED, MSOCK_CONTROL_E_REGISTER_BODY},
    {"cut body", 200, "{\"MachineAuthorized\":tr", MSOCK_REGISTER_FAILED,
     MSOCK_CONTROL_E_REGISTER_BODY},
    {"other error", 200, "{\"Error\":\"no more room\"}", MSOCK_REGISTER_FAILED,
     MSOCK_CONTROL_E_REFUSED},
    {"error wins over URL", 200, "{\"Error\":\"authkey expired\",\"AuthURL\":\"http://h/x\"}",
     MSOCK_REGISTER_FAILED, MSOCK_CONTROL_E_AUTHKEY_EXPIRED},
    {"expired wins over URL", 200, "{\"NodeKeyExpired\":true,\"AuthURL\":\"http://h/x\"}",
     MSOCK_REGISTER_KEY_EXPIRED, 0},
    {"script URL", 200, "{\"AuthURL\":\"javascript:alert(1)\"}", MSOCK_REGISTER_FAILED,
     MSOCK_CONTROL_E_REGISTER_BODY},
};
START_TEST(each_row_has_its_code) {
  msock_register_answer a;
  msock_register_evaluate(rows[_i].status, (const uint8_t *)rows[_i].body, strlen(rows[_i].body),
                          NULL, &a);
  ck_assert_msg(a.outcome == rows[_i].outcome && a.error == rows[_i].error, "%s: %d %s",
                rows[_i].name, (int)a.outcome, msock_control_error_name(a.error));
}
END_TEST

START_TEST(auth_urls) {
  char url[MSOCK_CONTROL_URL_MAX + 2];
  ck_assert(msock_auth_url_is_sane("https://h/register/x?y=1&z=2"));
  ck_assert(!msock_auth_url_is_sane("https://"));
  ck_assert(!msock_auth_url_is_sane("//h/x"));
  ck_assert(!msock_auth_url_is_sane("ftp://h/x"));
  ck_assert(!msock_auth_url_is_sane("https://h/a b"));
  ck_assert(!msock_auth_url_is_sane("https://h/a\nb"));
  ck_assert(!msock_auth_url_is_sane("https://h/$(id)\"`"));
  memset(url, 'a', sizeof url);
  memcpy(url, "https://h/", 10);
  url[MSOCK_CONTROL_URL_MAX] = '\0';
  ck_assert(msock_auth_url_is_sane(url));
  url[MSOCK_CONTROL_URL_MAX] = 'a';
  url[MSOCK_CONTROL_URL_MAX + 1] = '\0';
  ck_assert(!msock_auth_url_is_sane(url));
}
END_TEST

/* closes: CTRL-06 */
START_TEST(auth_keys_in_texts) {
  char buf[64];
  msock_auth_key_short("hskey-auth-abcdefghijkl-secret", buf, sizeof buf);
  ck_assert_str_eq(buf, "hskey-auth-abcdefgh...");
  msock_auth_key_short("0011223344556677889900", buf, sizeof buf);
  ck_assert_str_eq(buf, "00112233...");

  const msock_hostinfo h = {.hostname = "a\"b", .os = "linux"};
  const msock_register_request r = {
      .version = 138, .auth_key = "k\"\\\n", .hostinfo = &h, .ephemeral = true};
  size_t len = 0;
  char *text = msock_register_encode(&r, &len);
  ck_assert_uint_eq(len, strlen(text));
  ck_assert_int_eq(
      strncmp(text, "{\"Auth\":{\"AuthKey\":\"k\\\"\\\\\\u000a\"},\"Version\":138,", 47), 0);
  ck_assert_ptr_nonnull(strstr(text, "\"Hostname\":\"a\\\"b\""));
  ck_assert_ptr_nonnull(strstr(text, "\"Ephemeral\":true"));
  free(text);
}
END_TEST

static const struct {
  const char *text;
  msock_err err;
  uint64_t us;
} times[] = {
    {"1970-01-01T00:02:03Z", MSOCK_OK, 123000000},
    {"0001-01-01T00:00:00Z", MSOCK_OK, 0},
    {"1969-12-31T23:59:59Z", MSOCK_OK, 1},
    {"2026-11-20T20:50:35.663171667Z", MSOCK_OK, UINT64_C(1795207835663171)},
    {"2026-11-20T20:50:35.5Z", MSOCK_OK, UINT64_C(1795207835500000)},
    {"2026-11-20T22:50:35+02:00", MSOCK_OK, UINT64_C(1795207835000000)},
    {"2024-02-29T00:00:00Z", MSOCK_OK, UINT64_C(1709164800000000)},
    {"2026-11-20T20:50:35.6631716678Z", MSOCK_ERR_INVALID, 0},
    {"2026-11-20T20:50:35", MSOCK_ERR_INVALID, 0},
    {"2026-13-20T20:50:35Z", MSOCK_ERR_INVALID, 0},
    {"2026-11-20 20:50:35Z", MSOCK_ERR_INVALID, 0},
    {"", MSOCK_ERR_INVALID, 0},
};
START_TEST(rfc3339) {
  uint64_t us = 42;
  ck_assert_msg(msock_wire_time_parse(times[_i].text, &us) == times[_i].err, "%s", times[_i].text);
  ck_assert_msg(us == (times[_i].err == MSOCK_OK ? times[_i].us : 42), "%s: %llu", times[_i].text,
                (unsigned long long)us);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, each_row_has_its_code, 0, sizeof rows / sizeof *rows);
  tcase_add_test(tc, auth_urls);
  tcase_add_test(tc, auth_keys_in_texts);
  tcase_add_loop_test(tc, rfc3339, 0, sizeof times / sizeof *times);
  return testing_main("control_register", tc);
}
