/* The client machine against the peer of control_peer.h, by exact ticks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/channel.h"
#include "crypto/x25519.h"
#include "tests/unit/control_rig.h"

static const rig_options plain = {.auth_key = "hskey-auth-abcdefghijkl-SECRETSECRETSECRET"};

/* closes: CTRL-27 CTRL-38 */
START_TEST(opening_is_register_then_stream_then_one_lite_update) {
  rig r;
  char json[1024];
  rig_init(&r, 1, &plain);
  msock_control_set_want_running(r.c, r.now, true);
  peer_stream *s = rig_request(&r, "/machine/register");
  ck_assert_str_eq(r.key_path, "/key?v=138");
  ck_assert_uint_eq(r.fetches, 1);
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_SERVER_KEY), 1);
  ck_assert(!r.dial.tls);
  ck_assert_uint_eq(r.dial.port, 80);
  ck_assert_uint_eq(peer_version(r.p), 138);
  ck_assert_ptr_nonnull(strstr(s->body, "\"Auth\":{\"AuthKey\":\"hskey-auth-abcdefghijkl-SECRET"));
  ck_assert_ptr_nonnull(strstr(s->body, "\"Version\":138"));
  ck_assert_str_eq(s->content_type, "application/json");
  static const char ok[] = "{\"MachineAuthorized\":true,\"Login\":{\"LoginName\":\"alice\"}}";
  peer_answer(r.p, s, 200, NULL, ok, sizeof ok - 1, true);

  rig_self(&r, json, sizeof json, "", "");
  peer_stream *map = rig_open_map(&r, json);
  ck_assert_ptr_nonnull(strstr(map->body, "\"Compress\":\"zstd\""));
  ck_assert_ptr_nonnull(strstr(map->body, "\"DiscoKey\":\"discokey:070707"));
  ck_assert_ptr_nonnull(strstr(map->body, "\"Hostname\":\"box\""));
  ck_assert(msock_control_connected(r.c));
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_REGISTERED), 1);
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_NETMAP), 1);
  ck_assert_int_eq(msock_control_get_state(r.c), MSOCK_CONTROL_RUNNING);
  ck_assert(rig_idle(&r));

  /* The first home region does not wait; the stream goes on meanwhile. */
  const msock_netinfo ni = {.preferred_derp = 999, .working_udp = MSOCK_TRISTATE_TRUE};
  msock_control_set_netinfo(r.c, r.now, &ni);
  peer_stream *lite = rig_request(&r, "/machine/map");
  ck_assert_ptr_nonnull(strstr(lite->body, "\"OmitPeers\":true"));
  ck_assert_ptr_nonnull(strstr(lite->body, "\"PreferredDERP\":999"));
  ck_assert_ptr_nonnull(strstr(lite->body, "\"DiscoKey\":\"discokey:070707"));
  ck_assert_ptr_null(strstr(lite->body, "Compress"));
  rig_map(&r, map, "{\"KeepAlive\":true}");
  ck_assert_uint_eq(msock_control_get_stats(r.c).keep_alives, 1);
  peer_answer(r.p, lite, 200, NULL, "", 0, true);
  ck_assert(rig_idle(&r));
  ck_assert_uint_eq(r.dials, 1);
  rig_free(&r);
}
END_TEST

/* closes: CTRL-10 */
START_TEST(one_byte_per_segment) {
  rig r;
  rig_init(&r, 2, &plain);
  r.chunk = 1;
  rig_running(&r);
  rig_free(&r);
}
END_TEST

/* closes: CTRL-39 CTRL-41 */
START_TEST(lite_updates_coalesce_and_are_retried_to_200) {
  rig r;
  rig_init(&r, 3, &plain);
  rig_running(&r);
  const uint64_t t0 = r.now;
  for (uint16_t i = 1; i <= 20; i++) {
    const msock_endpoint ep = {{msock_ip_v4(192, 0, 2, 1), (uint16_t)(4000 + i)},
                               MSOCK_ENDPOINT_LOCAL};
    msock_control_set_endpoints(r.c, r.now, &ep, 1);
    rig_until(&r, t0 + i * 5 * MSOCK_MS);
  }
  rig_until(&r, t0 + 249999);
  ck_assert(rig_idle(&r));
  rig_until(&r, t0 + 250000);
  peer_stream *lite = rig_request(&r, "/machine/map");
  ck_assert_ptr_nonnull(strstr(lite->body, "\"Endpoints\":[\"192.0.2.1:4020\"]"));
  ck_assert_ptr_nonnull(strstr(lite->body, "\"EndpointTypes\":[1]"));
  ck_assert(rig_idle(&r));
  for (int i = 0; i < 3; i++) { /* fails three times; the stream stays */
    peer_answer(r.p, lite, 500, NULL, "no", 2, true);
    ck_assert(rig_idle(&r));
    ck_assert(msock_control_connected(r.c));
    rig_until(&r, r.now + 2 * MSOCK_SEC);
    lite = rig_request(&r, "/machine/map");
  }
  peer_answer(r.p, lite, 200, NULL, "", 0, true);
  rig_pump(&r);
  ck_assert_uint_eq(msock_control_get_stats(r.c).lite_failures, 3);
  rig_until(&r, r.now + 20 * MSOCK_SEC);
  ck_assert(rig_idle(&r));
  rig_free(&r);
}
END_TEST

/* closes: CTRL-42 */
START_TEST(periodic_lite_update_finds_a_deleted_node) {
  rig r;
  rig_init(&r, 4, &plain);
  peer_stream *map = rig_running(&r);
  const uint64_t t0 = r.now;
  for (int i = 1; i <= 11; i++) { /* keep-alives feed the watchdog, as Headscale's do for a ghost */
    rig_until(&r, t0 + (uint64_t)i * 54 * MSOCK_SEC);
    rig_map(&r, map, "{\"KeepAlive\":true}");
  }
  rig_until(&r, t0 + 600 * MSOCK_SEC - 1);
  ck_assert(rig_idle(&r));
  rig_until(&r, t0 + 600 * MSOCK_SEC);
  peer_stream *lite = rig_request(&r, "/machine/map");
  const msock_node_private key = *msock_control_node_private(r.c);
  peer_answer(r.p, lite, 404, NULL, "node not found\n", 15, true);
  peer_stream *reg =
      rig_request(&r, "/machine/register"); /* at once, same key, with the auth key */
  ck_assert_ptr_nonnull(strstr(reg->body, "\"Auth\":{\"AuthKey\""));
  ck_assert_mem_eq(key.b, msock_control_node_private(r.c)->b, 32);
  ck_assert_uint_eq(rig_count_error(&r, MSOCK_CONTROL_E_MAP_NOT_FOUND), 1);
  peer_answer(r.p, reg, 200, NULL, "{\"MachineAuthorized\":true}", 26, true);
  char json[1024];
  rig_self(&r, json, sizeof json, "", "");
  rig_open_map(&r, json);
  ck_assert_int_eq(msock_control_get_state(r.c), MSOCK_CONTROL_RUNNING);
  ck_assert_uint_eq(r.dials, 1);
  rig_free(&r);
}
END_TEST

/* closes: CTRL-52 CTRL-70 */
START_TEST(watchdog_of_120_s) {
  rig r;
  rig_init(&r, 5, &plain);
  peer_stream *map = rig_running(&r);
  const uint64_t t0 = r.now;
  rig_until(&r, t0 + 59 * MSOCK_SEC);
  ck_assert(msock_control_connected(r.c));
  rig_map(&r, map, "{\"KeepAlive\":true}");
  const uint64_t t1 = r.now;
  rig_until(&r, t1 + 120 * MSOCK_SEC - 1);
  ck_assert(msock_control_connected(r.c));
  ck_assert_uint_eq(r.closes, 0);
  rig_until(&r, t1 + 120 * MSOCK_SEC);
  ck_assert(!msock_control_connected(r.c));
  ck_assert_uint_eq(r.closes, 1);
  ck_assert_ptr_nonnull(msock_netmap_self(msock_control_netmap(r.c))); /* kept */

  /* A suspend of five minutes: the clock jumps, the first expiry after it dials anew. */
  rig_free(&r);
  rig_init(&r, 6, &plain);
  rig_running(&r);
  r.now += 300 * MSOCK_SEC;
  r.wall += 300 * MSOCK_SEC;
  const size_t dials = r.dials;
  msock_control_on_expiry(r.c, r.now, r.wall);
  rig_until(&r, r.now + 3 * MSOCK_SEC);
  ck_assert_uint_gt(r.dials, dials);
  ck_assert_uint_ge(msock_control_get_stats(r.c).streams, 2);
  rig_free(&r);
}
END_TEST

/* closes: CTRL-28 */
START_TEST(ping_after_30_s_and_death_after_15_more) {
  rig r;
  rig_init(&r, 7, &plain);
  rig_running(&r);
  const uint64_t t0 = r.now;
  rig_until(&r, t0 + 30 * MSOCK_SEC - 1);
  ck_assert_uint_eq(peer_pings(r.p), 0);
  rig_until(&r, t0 + 30 * MSOCK_SEC);
  ck_assert_uint_eq(peer_pings(r.p), 1); /* and it is answered: nothing happens for 30 s more */
  rig_until(&r, t0 + 59 * MSOCK_SEC);
  ck_assert_uint_eq(r.closes, 0);
  peer_mute(r.p, true);
  rig_until(&r, t0 + 75 * MSOCK_SEC - 1);
  ck_assert_uint_eq(peer_pings(r.p), 2);
  ck_assert_uint_eq(r.closes, 0);
  rig_until(&r, t0 + 75 * MSOCK_SEC);
  ck_assert_uint_eq(r.closes, 1);
  ck_assert_uint_eq(rig_count_error(&r, MSOCK_CONTROL_E_TIMEOUT), 1);
  rig_free(&r);
}
END_TEST

/* closes: CTRL-07 */
static const struct {
  const char *name;
  int status;
  const char *body;
  msock_control_error want;
} keys[] = {
    {"400", 400, "capability version must be set", MSOCK_CONTROL_E_KEY_STATUS},
    {"empty 200", 200, "", MSOCK_CONTROL_E_KEY_EMPTY},
    {"HTML", 200, "<html>hello</html>", MSOCK_CONTROL_E_KEY_NOT_JSON},
    {"legacy hex", 200, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
     MSOCK_CONTROL_E_KEY_LEGACY},
    {"no publicKey", 200, "{\"legacyPublicKey\":\"mkey:00\"}", MSOCK_CONTROL_E_KEY_LEGACY},
};
START_TEST(key_answers) {
  rig r;
  rig_init(&r, 8, &plain);
  r.auto_key = false;
  msock_control_set_want_running(r.c, r.now, true);
  rig_pump(&r);
  ck_assert(r.fetching);
  msock_control_on_key_response(r.c, r.now, keys[_i].status, (const uint8_t *)keys[_i].body,
                                strlen(keys[_i].body));
  rig_pump(&r);
  ck_assert_msg(rig_count_error(&r, keys[_i].want) == 1, "%s", keys[_i].name);
  ck_assert_uint_eq(r.dials, 0);
  rig_free(&r);
}
END_TEST
START_TEST(key_too_long) {
  rig r;
  rig_init(&r, 9, &plain);
  r.auto_key = false;
  msock_control_set_want_running(r.c, r.now, true);
  rig_pump(&r);
  uint8_t *big = calloc(1, MSOCK_CONTROL_KEY_BODY_MAX + 1);
  msock_control_on_key_response(r.c, r.now, 200, big, MSOCK_CONTROL_KEY_BODY_MAX + 1);
  free(big);
  rig_pump(&r);
  ck_assert_uint_eq(rig_count_error(&r, MSOCK_CONTROL_E_KEY_TOO_LONG), 1);
  /* An unreachable server is asked again, with the floor of 1 s x 0.5..1.5. */
  r.fetching = false;
  rig_until(&r, r.now + 499999);
  ck_assert(!r.fetching);
  rig_until(&r, r.now + 1100000);
  ck_assert(r.fetching);
  msock_control_on_key_failed(r.c, r.now, "certificate has expired");
  rig_pump(&r);
  ck_assert_uint_eq(rig_count_error(&r, MSOCK_CONTROL_E_KEY_UNREACHABLE), 1);
  rig_free(&r);
}
END_TEST

/* closes: CTRL-08 CTRL-12 */
START_TEST(pinned_key_change_is_refused) {
  rig r;
  const rig_options o = {.wrong_key = true, .pin = true, .auth_key = "k"};
  rig_init(&r, 10, &o);
  msock_control_set_want_running(r.c, r.now, true);
  rig_pump(&r);
  ck_assert_uint_eq(r.dials, 1); /* 101, then EOF: /key is asked, and its answer refused */
  ck_assert_uint_eq(r.fetches, 1);
  ck_assert(testing_log_has(&r.log, "control.rejected"));
  ck_assert_uint_eq(rig_count_error(&r, MSOCK_CONTROL_E_KEY_CHANGED), 1);
  rig_until(&r, r.now + 7200 * MSOCK_SEC);
  ck_assert_uint_eq(r.dials, 1);
  ck_assert_uint_eq(r.fetches, 1);
  msock_control_hurry(r.c, r.now); /* asked again: refused again */
  rig_pump(&r);
  ck_assert_uint_eq(r.dials, 2);
  ck_assert_uint_eq(rig_count_error(&r, MSOCK_CONTROL_E_KEY_CHANGED), 2);
  msock_control_logout(r.c, r.now); /* a person accepts the new one: by logging out and in again */
  rig_pump(&r);
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_LOGGED_OUT), 1);
  msock_control_forget_server_key(r.c);
  msock_control_login(r.c, r.now, "k");
  rig_register_ok(&r);
  ck_assert_uint_eq(r.fetches, 3);
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_SERVER_KEY), 1);
  rig_free(&r);

  const rig_options cached = {.wrong_key = true, .auth_key = "k"}; /* a cache only: adopted once */
  rig_init(&r, 11, &cached);
  msock_control_set_want_running(r.c, r.now, true);
  rig_register_ok(&r);
  ck_assert_uint_eq(r.dials, 2);
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_SERVER_KEY), 1);
  rig_free(&r);
}
END_TEST

START_TEST(rejected_with_the_same_key_is_reported_and_backed_off) {
  rig r;
  rig_init(&r, 12, &plain);
  msock_machine_private other;
  r.auto_key = false;
  msock_machine_private_generate(&r.peer_env, &other);
  msock_control_set_want_running(r.c, r.now, true);
  rig_pump(&r);
  rig_answer_key(&r, &other); /* /key shows another key than the handshake uses */
  rig_pump(&r);
  ck_assert(r.fetching);
  rig_answer_key(&r, &other);
  rig_pump(&r);
  ck_assert_uint_eq(rig_count_error(&r, MSOCK_CONTROL_E_REJECTED), 1);
  ck_assert_uint_eq(r.dials, 1);
  rig_free(&r);
}
END_TEST

/* closes: CTRL-04 CTRL-34 */
START_TEST(interactive_login) {
  rig r;
  const rig_options o = {.know_key = true};
  rig_init(&r, 13, &o);
  msock_control_set_want_running(r.c, r.now, true);
  const msock_node_private trying = *msock_control_node_private(r.c);
  peer_stream *s = rig_request(&r, "/machine/register");
  ck_assert_uint_eq(r.fetches, 0); /* the key was known */
  ck_assert_ptr_null(strstr(s->body, "Auth\""));
  static const char first[] = "{\"AuthURL\":\"http://control.example/register/one\"}";
  peer_answer(r.p, s, 200, NULL, first, sizeof first - 1, true);
  peer_stream *f = rig_request(&r, "/machine/register");
  ck_assert_ptr_nonnull(strstr(f->body, "\"Followup\":\"http://control.example/register/one\""));
  ck_assert_str_eq(msock_control_auth_url(r.c), "http://control.example/register/one");
  ck_assert_int_eq(msock_control_get_state(r.c), MSOCK_CONTROL_NEEDS_LOGIN);
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_REGISTERED), 0);
  /* A replaced URL is followed; the long poll survives 16 minutes of silence. */
  static const char second[] = "{\"AuthURL\":\"http://control.example/register/two\"}";
  peer_answer(r.p, f, 200, NULL, second, sizeof second - 1, true);
  f = rig_request(&r, "/machine/register");
  ck_assert_ptr_nonnull(strstr(f->body, "register/two"));
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_AUTH_URL), 2);
  rig_until(&r, r.now + 16 * 60 * MSOCK_SEC);
  ck_assert_uint_eq(r.closes, 0);
  ck_assert(rig_idle(&r));
  /* The same URL again: not shown again, backed off. */
  peer_answer(r.p, f, 200, NULL, second, sizeof second - 1, true);
  ck_assert(rig_idle(&r));
  rig_until(&r, r.now + 2 * MSOCK_SEC);
  f = rig_request(&r, "/machine/register");
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_AUTH_URL), 2);
  peer_answer(r.p, f, 200, NULL, "{\"MachineAuthorized\":true}", 26, true);
  rig_request(&r, "/machine/map");
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_REGISTERED), 1);
  ck_assert_mem_eq(trying.b, msock_control_node_private(r.c)->b, 32);
  ck_assert_str_eq(msock_control_auth_url(r.c), "");
  rig_free(&r);
}
END_TEST

/* closes: CTRL-33 */
START_TEST(stored_key_registers_without_auth_first) {
  rig r;
  const rig_options o = {.know_key = true, .stored = true, .auth_key = "hskey-auth-spent"};
  rig_init(&r, 14, &o);
  msock_control_set_want_running(r.c, r.now, true);
  peer_stream *s = rig_request(&r, "/machine/register");
  ck_assert_ptr_null(strstr(s->body, "AuthKey"));
  static const char gone[] = "{\"AuthURL\":\"http://control.example/register/x\"}";
  peer_answer(r.p, s, 200, NULL, gone, sizeof gone - 1, true); /* deleted meanwhile */
  s = rig_request(&r, "/machine/register");
  ck_assert_ptr_nonnull(strstr(s->body, "\"AuthKey\":\"hskey-auth-spent\""));
  ck_assert_ptr_null(strstr(s->body, "Followup"));
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_AUTH_URL), 0);
  rig_free(&r);
}
END_TEST

/* closes: CTRL-35 */
START_TEST(expired_key_is_regenerated_exactly_once) {
  rig r;
  char key[MSOCK_KEY_TEXT_MAX], want[128];
  const rig_options o = {.know_key = true, .stored = true, .auth_key = "hskey-auth-a"};
  static const char expired[] = "{\"NodeKeyExpired\":true}";
  rig_init(&r, 15, &o);
  msock_control_set_want_running(r.c, r.now, true);
  const msock_node_key old = msock_node_private_public(msock_control_node_private(r.c));
  peer_answer(r.p, rig_request(&r, "/machine/register"), 200, NULL, expired, sizeof expired - 1,
              true);
  peer_stream *s = rig_request(&r, "/machine/register");
  snprintf(want, sizeof want, "\"OldNodeKey\":\"%s\"", msock_node_key_text(&old, key));
  ck_assert_ptr_nonnull(strstr(s->body, want));
  ck_assert_ptr_nonnull(strstr(s->body, "AuthKey"));
  const msock_node_private second = *msock_control_node_private(r.c);
  ck_assert_mem_ne(old.b, msock_node_private_public(&second).b, 32);
  peer_answer(r.p, s, 200, NULL, expired, sizeof expired - 1, true);
  ck_assert(rig_idle(&r));
  ck_assert_mem_eq(second.b, msock_control_node_private(r.c)->b, 32);
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_NODE_KEY), 1);
  ck_assert_uint_eq(rig_count_error(&r, MSOCK_CONTROL_E_NODE_KEY_EXPIRED), 1);
  ck_assert_int_eq(msock_control_get_state(r.c), MSOCK_CONTROL_NEEDS_LOGIN);
  rig_until(&r, r.now + 3600 * MSOCK_SEC); /* no endless retries */
  ck_assert_uint_eq(msock_control_get_stats(r.c).registers, 2);
  rig_free(&r);
}
END_TEST

/* closes: CTRL-36 */
START_TEST(logout) {
  rig r;
  static const uint8_t zero[32];
  rig_init(&r, 16, &plain);
  rig_running(&r);
  msock_control_logout(r.c, r.now);
  peer_stream *s = rig_request(&r, "/machine/register");
  ck_assert_ptr_nonnull(strstr(s->body, "\"Expiry\":\"1970-01-01T00:02:03Z\""));
  ck_assert_ptr_null(strstr(s->body, "AuthKey"));
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_LOGGED_OUT), 0);
  peer_answer(r.p, s, 200, NULL, "{\"NodeKeyExpired\":true}", 23, true);
  rig_pump(&r);
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_LOGGED_OUT), 1);
  ck_assert_mem_eq(msock_control_node_private(r.c)->b, zero, 32);
  ck_assert_ptr_null(msock_netmap_self(msock_control_netmap(r.c)));
  ck_assert_int_eq(msock_control_get_state(r.c), MSOCK_CONTROL_NEEDS_LOGIN);
  ck_assert_uint_eq(r.closes, 1);
  rig_until(&r, r.now + 3600 * MSOCK_SEC);
  ck_assert_uint_eq(r.dials, 1);
  ck_assert_int_eq(msock_control_login(r.c, r.now, "hskey-auth-new"), MSOCK_OK);
  s = rig_request(&r, "/machine/register"); /* the machine key is the same */
  const msock_machine_key machine = msock_machine_private_public(&r.machine);
  ck_assert_mem_eq(peer_client(r.p)->b, machine.b, 32);
  rig_free(&r);
}
END_TEST

START_TEST(logout_without_a_server_takes_10_s) {
  rig r;
  rig_init(&r, 17, &plain);
  rig_running(&r);
  r.auto_accept = false;
  rig_down(&r, MSOCK_CONN_RESET);
  const uint64_t t0 = r.now;
  msock_control_logout(r.c, r.now);
  for (uint64_t t = t0; t < t0 + 10 * MSOCK_SEC - 1; t += 500 * MSOCK_MS) {
    rig_until(&r, t);
    if (r.dialing) {
      rig_down(&r, MSOCK_CONN_REFUSED);
    }
  }
  rig_until(&r, t0 + 10 * MSOCK_SEC - 1);
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_LOGGED_OUT), 0);
  rig_until(&r, t0 + 10 * MSOCK_SEC);
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_LOGGED_OUT), 1);
  rig_free(&r);
}
END_TEST

/* closes: CTRL-37 */
static const struct {
  const char *retry_after;
  uint64_t lo, hi; /* µs after the answer */
} busy[] = {
    {"7", 7 * MSOCK_SEC, 7 * MSOCK_SEC},
    {"date", 20 * MSOCK_SEC, 20 * MSOCK_SEC},
    {NULL, 5 * MSOCK_SEC, 10 * MSOCK_SEC},
    {"nonsense", 5 * MSOCK_SEC, 10 * MSOCK_SEC},
};
START_TEST(retry_after_is_honoured) {
  rig r;
  rig_init(&r, 18, &plain);
  r.wall = UINT64_C(784111777) * MSOCK_SEC; /* Sun, 06 Nov 1994 08:49:37 GMT */
  msock_control_set_want_running(r.c, r.now, true);
  peer_stream *s = rig_request(&r, "/machine/register");
  const char *value = busy[_i].retry_after;
  if (value && strcmp(value, "date") == 0) {
    value = "Sun, 06 Nov 1994 08:49:57 GMT";
  }
  peer_answer(r.p, s, 429, value, "slow down", 9, true);
  rig_pump(&r);
  const uint64_t t0 = r.now;
  ck_assert_uint_eq(rig_count_error(&r, MSOCK_CONTROL_E_BUSY), 1);
  rig_until(&r, t0 + busy[_i].lo - 1);
  ck_assert(rig_idle(&r));
  rig_until(&r, t0 + busy[_i].hi);
  rig_request(&r, "/machine/register");
  rig_free(&r);
}
END_TEST

START_TEST(unsupported_version_is_retried_each_hour) {
  rig r;
  static const char why[] = "unsupported client version: 1.60 (112)";
  rig_init(&r, 19, &plain);
  msock_control_set_want_running(r.c, r.now, true);
  peer_answer(r.p, rig_request(&r, "/machine/register"), 400, NULL, why, sizeof why - 1, true);
  rig_pump(&r);
  ck_assert_uint_eq(rig_count_error(&r, MSOCK_CONTROL_E_VERSION), 1);
  const uint64_t t0 = r.now;
  rig_until(&r, t0 + 3600 * MSOCK_SEC - 1);
  ck_assert_uint_eq(r.dials, 1);
  rig_until(&r, t0 + 3600 * MSOCK_SEC);
  ck_assert_uint_eq(r.dials, 2);
  rig_request(&r, "/machine/register");
  rig_free(&r);
}
END_TEST

/* closes: CTRL-45 */
START_TEST(first_message_without_node_is_closed_and_retried) {
  rig r;
  char json[1024];
  rig_init(&r, 20, &plain);
  msock_control_set_want_running(r.c, r.now, true);
  rig_register_ok(&r);
  rig_open_map(&r, "{\"ControlTime\":\"2026-11-20T20:50:35.663171667Z\"}");
  ck_assert(!msock_control_connected(r.c));
  ck_assert_uint_eq(rig_count_error(&r, MSOCK_CONTROL_E_MAP_BODY), 1);
  rig_until(&r, r.now + MSOCK_SEC);
  rig_self(&r, json, sizeof json, "", "");
  rig_open_map(&r, json);
  ck_assert(msock_control_connected(r.c));
  ck_assert_uint_eq(r.dials, 1); /* on the same connection */
  rig_free(&r);
}
END_TEST

/* closes: CTRL-59 CTRL-60 */
START_TEST(ping_request) {
  rig r;
  rig_init(&r, 21, &plain);
  peer_stream *map = rig_running(&r);
  static const char own[] =
      "{\"PingRequest\":{\"URL\":\"http://control.example/machine/ping-response?id=a\"}}";
  rig_map(&r, map, own);
  rig_map(&r, map, own); /* once each */
  ck_assert_uint_eq(r.n_pings, 1);
  ck_assert_str_eq(r.pings[0], "http://control.example/machine/ping-response?id=a");
  rig_map(&r, map,
          "{\"KeepAlive\":true,\"PingRequest\":{\"URL\":\"http://control.example:80/b\"}}");
  ck_assert_uint_eq(r.n_pings, 2);
  static const char *const foreign[] = {
      "https://control.example/x",        "http://control.example:81/x",
      "http://control.example.evil/x",    "http://evil/x",
      "http://control.example@evil/x",    "http://control.example:80@evil/x",
      "http://CONTROL.example:8080/x",    "file:///etc/passwd",
      "http://control.example/a\\u0001b",
  };
  for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
    char json[256];
    snprintf(json, sizeof json, "{\"PingRequest\":{\"URL\":\"%s\"}}", foreign[i]);
    rig_map(&r, map, json);
    ck_assert_msg(r.n_pings == 2, "%s", foreign[i]);
  }
  ck_assert_uint_eq(msock_control_get_stats(r.c).pings_refused, 9);
  rig_map(&r, map, "{\"PingRequest\":{\"URL\":\"http://control.example/n\",\"URLIsNoise\":true}}");
  peer_stream *head = rig_request(&r, "/n");
  ck_assert_str_eq(head->method, "HEAD");
  peer_answer(r.p, head, 200, NULL, "", 0, true);
  rig_map(&r, map,
          "{\"PingRequest\":{\"URL\":\"http://control.example/c\",\"URLIsNoise\":true,"
          "\"Types\":\"c2n\",\"Payload\":\"R0VU\"}}");
  peer_stream *c2n = rig_request(&r, "/c");
  ck_assert_str_eq(c2n->method, "POST");
  ck_assert_int_eq(strncmp(c2n->body, "HTTP/1.1 404 ", 13), 0);

  rig_map(&r, map, "{\"Debug\":{\"Exit\":1,\"SleepSeconds\":4000}}");
  ck_assert(msock_control_connected(r.c));
  const uint64_t t0 = r.now; /* capped at 300 s */
  const msock_endpoint ep = {{msock_ip_v4(192, 0, 2, 1), 1}, MSOCK_ENDPOINT_LOCAL};
  msock_control_set_endpoints(r.c, r.now, &ep, 1);
  for (int i = 1; i < 6; i++) {
    rig_until(&r, t0 + (uint64_t)i * 50 * MSOCK_SEC);
    rig_map(&r, map, "{\"KeepAlive\":true}");
  }
  rig_until(&r, t0 + 300 * MSOCK_SEC - 1);
  ck_assert(rig_idle(&r));
  rig_until(&r, t0 + 300 * MSOCK_SEC);
  rig_request(&r, "/machine/map");
  rig_free(&r);
}
END_TEST

/* closes: CTRL-67 CTRL-68 */
START_TEST(away_for_ten_minutes) {
  rig r;
  char json[1024];
  rig_init(&r, (uint64_t)_i + 100, &plain);
  rig_running(&r);
  const size_t events = rig_count(&r, MSOCK_CONTROL_EV_NETMAP);
  const uint64_t t0 = r.now;
  r.auto_accept = false;
  rig_down(&r, MSOCK_CONN_RESET);
  uint64_t last = t0;
  uint64_t longest = 0;
  for (size_t n = 1; r.now < t0 + 600 * MSOCK_SEC; n++) {
    while (!r.dialing) {
      rig_until(&r, msock_control_next_expiry(r.c));
    }
    const uint64_t waited = r.now - last;
    const uint64_t square = (uint64_t)(n * n) * 10 * MSOCK_MS;
    uint64_t base = square < MSOCK_SEC ? MSOCK_SEC : square;
    const uint64_t cap = last - t0 < 20 * MSOCK_SEC ? 3 * MSOCK_SEC : 30 * MSOCK_SEC;
    base = base < cap ? base : cap;
    ck_assert_uint_ge(waited, base / 2);
    ck_assert_uint_le(waited, base / 2 + base);
    longest = waited > longest ? waited : longest;
    last = r.now;
    rig_down(&r, MSOCK_CONN_REFUSED);
  }
  ck_assert_uint_gt(longest, 15 * MSOCK_SEC);
  ck_assert_int_eq(msock_control_get_state(r.c), MSOCK_CONTROL_RUNNING);
  ck_assert_ptr_nonnull(msock_netmap_self(msock_control_netmap(r.c)));
  ck_assert_uint_eq(rig_count(&r, MSOCK_CONTROL_EV_NETMAP),
                    events); /* the data plane saw nothing */

  /* Back: a TCP or HTTP success does not reset the series, a good map does. */
  r.auto_accept = true;
  rig_until(&r, r.now + 45 * MSOCK_SEC);
  rig_self(&r, json, sizeof json, "", "");
  rig_open_map(&r, json);
  ck_assert_uint_eq(msock_control_get_stats(r.c).registers, 1);
  r.auto_accept = false;
  rig_down(&r, MSOCK_CONN_RESET);
  rig_until(&r, r.now + 1500 * MSOCK_MS);
  ck_assert(r.dialing);
  rig_free(&r);
}
END_TEST

START_TEST(success_below_the_map_does_not_reset_the_backoff) {
  rig r;
  rig_init(&r, 30, &plain);
  msock_control_set_want_running(r.c, r.now, true);
  rig_register_ok(&r);
  uint64_t waits[12];
  for (size_t i = 0; i < 12; i++) { /* the map request is refused each time */
    peer_stream *s = rig_request(&r, "/machine/map");
    peer_answer(r.p, s, 500, NULL, "", 0, true);
    rig_pump(&r);
    const uint64_t t = r.now;
    while (msock_control_get_stats(r.c).streams == i + 1) {
      rig_until(&r, msock_control_next_expiry(r.c));
    }
    waits[i] = r.now - t;
  }
  ck_assert_uint_le(waits[0], 15 * MSOCK_MS);
  ck_assert_uint_ge(waits[11], 720 * MSOCK_MS);
  rig_free(&r);
}
END_TEST

/* closes: CTRL-69 */
START_TEST(back_within_5_s_after_a_restart_of_up_to_15_s) {
  rig r;
  char json[1024];
  const rig_options o = {.https = (_i & 1) != 0, .auth_key = "k"};
  rig_init(&r, (uint64_t)_i, &o);
  rig_running(&r);
  const uint64_t outage = 1 * MSOCK_SEC + (uint64_t)_i * 14 * MSOCK_SEC / 50;
  const uint64_t t0 = r.now;
  r.auto_accept = false;
  rig_down(&r, MSOCK_CONN_EOF);
  while (r.now < t0 + outage) {
    const uint64_t due = msock_control_next_expiry(r.c);
    rig_until(&r, due < t0 + outage ? due : t0 + outage);
    if (r.dialing && r.now < t0 + outage) {
      rig_down(&r, MSOCK_CONN_REFUSED);
    }
  }
  r.auto_accept = true;
  if (r.dialing) {
    rig_accept(&r);
  }
  rig_until(&r, t0 + outage + 5 * MSOCK_SEC);
  ck_assert_int_eq(r.dial.tls, o.https); /* the same port each time: no lock-out */
  ck_assert_uint_eq(r.dial.port, o.https ? 443 : 80);
  rig_self(&r, json, sizeof json, "", "");
  rig_open_map(&r, json);
  rig_free(&r);
}
END_TEST

START_TEST(expired_self_logs_in_again_while_the_stream_runs) {
  rig r;
  char json[1024];
  rig_init(&r, 40, &plain);
  peer_stream *map = rig_running(&r);
  const msock_node_private before = *msock_control_node_private(r.c);
  rig_self(&r, json, sizeof json, ",\"Expired\":true", "");
  rig_map(&r, map, json);
  ck_assert_int_eq(msock_control_get_state(r.c), MSOCK_CONTROL_EXPIRED);
  peer_stream *reg = rig_request(&r, "/machine/register");
  ck_assert_ptr_nonnull(strstr(reg->body, "AuthKey"));
  ck_assert_mem_ne(before.b, msock_control_node_private(r.c)->b, 32);
  ck_assert_mem_eq(before.b, msock_control_old_node_private(r.c)->b, 32);
  ck_assert(msock_control_connected(r.c));
  if (_i == 0) { /* it works: a new stream for the new key */
    peer_answer(r.p, reg, 200, NULL, "{\"MachineAuthorized\":true}", 26, true);
    rig_self(&r, json, sizeof json, "", "");
    rig_open_map(&r, json);
    ck_assert_uint_eq(msock_control_get_stats(r.c).streams, 2);
  } else { /* refused; later the operator lifts the expiry: the old key again */
    static const char used[] = "{\"Error\":\"authkey already used\"}";
    peer_answer(r.p, reg, 200, NULL, used, sizeof used - 1, true);
    rig_pump(&r);
    ck_assert_uint_eq(rig_count_error(&r, MSOCK_CONTROL_E_AUTHKEY_USED), 1);
    ck_assert_int_eq(msock_control_get_state(r.c), MSOCK_CONTROL_EXPIRED);
    ck_assert(msock_control_connected(r.c));
    reg = rig_request(&r, "/machine/register"); /* the spent key is dropped: a person can help */
    ck_assert_ptr_null(strstr(reg->body, "AuthKey"));
    static const char url[] = "{\"AuthURL\":\"https://ctl.example/register/x\"}";
    peer_answer(r.p, reg, 200, NULL, url, sizeof url - 1, true);
    rig_pump(&r);
    ck_assert_str_eq(msock_control_auth_url(r.c), "https://ctl.example/register/x");
    ck_assert_int_eq(msock_control_get_state(r.c), MSOCK_CONTROL_EXPIRED);
    rig_self(&r, json, sizeof json, "", "");
    rig_map(&r, map, json);
    ck_assert_str_eq(msock_control_auth_url(r.c), "");
    ck_assert_mem_eq(before.b, msock_control_node_private(r.c)->b, 32);
  }
  ck_assert_int_eq(msock_control_get_state(r.c), MSOCK_CONTROL_RUNNING);
  rig_free(&r);
}
END_TEST

/* closes: CTRL-29 */
START_TEST(goaway_lets_running_streams_end_and_dials_anew) {
  rig r;
  rig_init(&r, 41, &plain);
  peer_stream *map = rig_running(&r);
  const msock_netinfo ni = {.preferred_derp = 1};
  msock_control_set_netinfo(r.c, r.now, &ni);
  peer_stream *lite = rig_request(&r, "/machine/map");
  peer_goaway(r.p);
  rig_pump(&r);
  ck_assert_uint_eq(r.closes, 0);
  peer_answer(r.p, lite, 200, NULL, "", 0, true); /* both streams still work */
  rig_map(&r, map, "{\"KeepAlive\":true}");
  ck_assert_uint_eq(msock_control_get_stats(r.c).keep_alives, 1);
  ck_assert_uint_eq(msock_control_get_stats(r.c).lite_failures, 0);
  const uint64_t t0 = r.now;
  rig_until(&r, t0 + 5 * MSOCK_SEC - 1);
  ck_assert_uint_eq(r.closes, 0);
  rig_until(&r, t0 + 7 * MSOCK_SEC);
  ck_assert_uint_eq(r.closes, 1);
  ck_assert_uint_eq(r.dials, 2);
  rig_request(&r, "/machine/map");
  rig_free(&r);
}
END_TEST

START_TEST(link_change) {
  rig r;
  rig_init(&r, 42, &plain);
  rig_running(&r);
  peer_mute(r.p, true);
  const uint64_t t0 = r.now;
  msock_control_on_link_change(r.c, r.now, false);
  rig_until(&r, t0 + 3 * MSOCK_SEC - 1);
  ck_assert_uint_eq(peer_pings(r.p), 1);
  ck_assert_uint_eq(r.closes, 0);
  rig_until(&r, t0 + 3 * MSOCK_SEC);
  ck_assert_uint_eq(r.closes, 1);
  rig_until(&r, r.now + 100 * MSOCK_MS);
  ck_assert_uint_eq(r.dials, 2);
  msock_control_on_link_change(r.c, r.now, true); /* its address is gone: at once */
  rig_pump(&r);
  ck_assert_uint_eq(r.closes, 2);
  ck_assert_uint_eq(r.dials, 3);
  rig_free(&r);
}
END_TEST

/* closes: CTRL-06 CTRL-32 */
START_TEST(no_secret_reaches_the_log_or_an_event) {
  static const char *const answers[] = {
      ("{\"Error\":\"handling register with auth key: failed to parse auth-key: "
       "hskey-auth-abcdefghijkl-SECRETSECRETSECRET\"}"),
      "{\"Error\":\"odd words about SECRETSECRETSECRET\"}",
      "{\"AuthURL\":\"http://control.example/register/URLQUERYSECRET\"}",
  };
  rig r;
  rig_init(&r, 43, &plain);
  msock_control_set_want_running(r.c, r.now, true);
  peer_stream *s = rig_request(&r, "/machine/register");
  peer_answer(r.p, s, 200, NULL, answers[_i], strlen(answers[_i]), true);
  rig_until(&r, r.now + 10 * MSOCK_SEC);
  for (size_t i = 0; i < r.log.n; i++) {
    ck_assert_ptr_null(strstr(r.log.events[i], "SECRET"));
  }
  for (size_t i = 0; i < r.n_events; i++) {
    if (r.events[i].kind == MSOCK_CONTROL_EV_ERROR) {
      ck_assert_ptr_null(strstr(r.events[i].text, "SECRET"));
    }
  }
  ck_assert_uint_gt(r.n_events, 0);
  rig_free(&r);
}
END_TEST

START_TEST(want_running_off_closes_and_keeps_the_netmap) {
  rig r;
  rig_init(&r, 44, &plain);
  rig_running(&r);
  msock_control_set_want_running(r.c, r.now, false);
  rig_pump(&r);
  ck_assert_uint_eq(r.closes, 1);
  ck_assert_int_eq(msock_control_get_state(r.c), MSOCK_CONTROL_STOPPED);
  ck_assert_ptr_nonnull(msock_netmap_self(msock_control_netmap(r.c)));
  ck_assert_uint_eq(msock_control_next_expiry(r.c), MSOCK_NEVER);
  msock_control_set_want_running(r.c, r.now, true);
  rig_request(&r, "/machine/map"); /* registered already: no needless round trip */
  rig_free(&r);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, opening_is_register_then_stream_then_one_lite_update);
  tcase_add_test(tc, one_byte_per_segment);
  tcase_add_test(tc, lite_updates_coalesce_and_are_retried_to_200);
  tcase_add_test(tc, periodic_lite_update_finds_a_deleted_node);
  tcase_add_test(tc, watchdog_of_120_s);
  tcase_add_test(tc, ping_after_30_s_and_death_after_15_more);
  tcase_add_loop_test(tc, key_answers, 0, sizeof keys / sizeof *keys);
  tcase_add_test(tc, key_too_long);
  tcase_add_test(tc, pinned_key_change_is_refused);
  tcase_add_test(tc, rejected_with_the_same_key_is_reported_and_backed_off);
  tcase_add_test(tc, interactive_login);
  tcase_add_test(tc, stored_key_registers_without_auth_first);
  tcase_add_test(tc, expired_key_is_regenerated_exactly_once);
  tcase_add_test(tc, logout);
  tcase_add_test(tc, logout_without_a_server_takes_10_s);
  tcase_add_loop_test(tc, retry_after_is_honoured, 0, sizeof busy / sizeof *busy);
  tcase_add_test(tc, unsupported_version_is_retried_each_hour);
  tcase_add_test(tc, first_message_without_node_is_closed_and_retried);
  tcase_add_test(tc, ping_request);
  tcase_add_loop_test(tc, away_for_ten_minutes, 0, 5);
  tcase_add_test(tc, success_below_the_map_does_not_reset_the_backoff);
  tcase_add_loop_test(tc, back_within_5_s_after_a_restart_of_up_to_15_s, 0, 50);
  tcase_add_loop_test(tc, expired_self_logs_in_again_while_the_stream_runs, 0, 2);
  tcase_add_test(tc, goaway_lets_running_streams_end_and_dials_anew);
  tcase_add_test(tc, link_change);
  tcase_add_loop_test(tc, no_secret_reaches_the_log_or_an_event, 0, 3);
  tcase_add_test(tc, want_running_off_closes_and_keeps_the_netmap);
  return testing_main("control_client", tc);
}
