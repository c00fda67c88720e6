/* The relay core among relays of its region: who is here, packets of their clients, ClosePeer. */
#include <stdlib.h>
#include <string.h>

#include "crypto/x25519.h"
#include "tests/unit/relay_rig.h"
#include "tests/unit/testing.h"

#define T0 (1000 * MSOCK_SEC)

static testing_rng rng;
static msock_env env;
static msock_node_private server_secret;
static msock_derp_server *s;
static relay_client m, a, b;

static void setup(void) {
  msock_derp_server_settings set = msock_derp_server_settings_default();
  env = testing_env(&rng, 13);
  msock_node_private_generate(&env, &server_secret);
  s = msock_derp_server_new(&env, &server_secret);
  ck_assert_ptr_nonnull(s);
  set.has_mesh_key = true;
  memset(set.mesh_key, 0x5a, sizeof set.mesh_key);
  ck_assert_int_eq(msock_derp_server_configure(s, T0, &set), MSOCK_OK);
  relay_client_init(&m, &env, s, T0, NULL);
  relay_client_init(&a, &env, s, T0, NULL);
  relay_client_init(&b, &env, s, T0, NULL);
}

static void teardown(void) {
  relay_client_free(&m);
  relay_client_free(&a);
  relay_client_free(&b);
  msock_derp_server_free(s);
}

static void login_with_key(relay_client *c, uint8_t byte) {
  msock_derp_client_info info = msock_derp_client_info_default();
  info.has_mesh_key = true;
  memset(info.mesh_key, 0x5a, sizeof info.mesh_key);
  info.mesh_key[31] = byte;
  relay_client_login_as(c, T0, &info);
}

static bool send_type(relay_client *c, uint8_t type) {
  const msock_derp_frame f = {.type = type};
  return relay_client_frame(c, T0, &f);
}

static bool forward(relay_client *c, const msock_node_key *src, const msock_node_key *dst,
                    const void *p, size_t len) {
  msock_derp_frame f = {.type = MSOCK_DERP_FORWARD_PACKET};
  f.u.forward.src = *src;
  f.u.forward.dst = *dst;
  f.u.forward.data = p;
  f.u.forward.len = len;
  return relay_client_frame(c, T0, &f);
}

/* The next frame of a watcher: is it PeerPresent of c, with these flags? */
static void check_present(const relay_client *c, unsigned flags, const msock_addr *at) {
  msock_derp_frame f;
  relay_client_pump(&m, T0);
  ck_assert_uint_ge(m.rx_len, MSOCK_DERP_HEADER_LEN);
  ck_assert_uint_eq(msock_derp_header_read(m.rx).len, 51);
  if (at != NULL) { /* v4-mapped on the wire */
    static const uint8_t mapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7, 1, 2};
    ck_assert_mem_eq(m.rx + MSOCK_DERP_HEADER_LEN + MSOCK_KEY_LEN, mapped, sizeof mapped);
  }
  ck_assert(relay_client_take(&m, T0, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_PEER_PRESENT);
  ck_assert(msock_node_key_equal(&f.u.peer_present.key, &c->key));
  ck_assert(f.u.peer_present.has_addr && f.u.peer_present.has_flags);
  ck_assert_uint_eq(f.u.peer_present.flags, flags);
  if (at != NULL) {
    ck_assert(msock_addr_equal(&f.u.peer_present.addr, at));
  }
}

static const uint8_t mesh_types[] = {MSOCK_DERP_WATCH_CONNS, MSOCK_DERP_CLOSE_PEER,
                                     MSOCK_DERP_FORWARD_PACKET};

/* closes: SERVER-16 (none, a wrong one, the right one; each mesh frame) */
START_TEST(mesh_frames_need_the_mesh_key) {
  const uint8_t type = mesh_types[_i];
  relay_client_login(&a, T0);
  login_with_key(&b, 0x5b); /* wrong in its last byte: a plain client, no error */
  login_with_key(&m, 0x5a);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).mesh, 1);
  ck_assert(!send_type(&a, type));
  ck_assert(msock_derp_server_is_done(s, a.conn));
  ck_assert(!send_type(&b, type));
  ck_assert(msock_derp_server_is_done(s, b.conn));
  ck_assert(send_type(&m, type));
  ck_assert(!msock_derp_server_is_done(s, m.conn));
}
END_TEST

/* No mesh key configured: nobody has it, all zeros included. */
START_TEST(without_a_mesh_key_nobody_is_a_mesh_peer) {
  msock_derp_server_settings set = msock_derp_server_settings_default();
  msock_derp_client_info info = msock_derp_client_info_default();
  ck_assert_int_eq(msock_derp_server_configure(s, T0, &set), MSOCK_OK);
  info.has_mesh_key = true;
  relay_client_login_as(&a, T0, &info);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).mesh, 0);
  ck_assert(!send_type(&a, MSOCK_DERP_WATCH_CONNS));
}
END_TEST

/* closes: SERVER-17 */
START_TEST(a_watcher_is_told_who_is_here_and_what_changes) {
  const msock_addr at = {.ip = msock_ip_v4(192, 0, 2, 7), .port = 0x0102};
  msock_derp_client_info info = msock_derp_client_info_default();
  relay_client again;
  msock_derp_frame f;
  bool seen_a = false, seen_m = false;
  ck_assert_int_eq(msock_derp_server_set_from(s, T0, a.conn, &at), MSOCK_OK);
  relay_client_login(&a, T0);
  login_with_key(&m, 0x5a);
  ck_assert(send_type(&m, MSOCK_DERP_WATCH_CONNS));
  for (int i = 0; i < 2; i++) { /* in no order, itself included */
    ck_assert(relay_client_take(&m, T0, &f));
    ck_assert_int_eq(f.type, MSOCK_DERP_PEER_PRESENT);
    seen_a = seen_a || (msock_node_key_equal(&f.u.peer_present.key, &a.key) &&
                        f.u.peer_present.flags == MSOCK_DERP_PRESENT_REGULAR &&
                        msock_addr_equal(&f.u.peer_present.addr, &at));
    seen_m = seen_m || (msock_node_key_equal(&f.u.peer_present.key, &m.key) &&
                        f.u.peer_present.flags == MSOCK_DERP_PRESENT_MESH);
  }
  ck_assert(seen_a && seen_m);
  ck_assert(!relay_client_take(&m, T0, &f));
  ck_assert(send_type(&m, MSOCK_DERP_WATCH_CONNS)); /* twice is once */
  ck_assert(!relay_client_take(&m, T0, &f));

  info.is_prober = true;
  ck_assert_int_eq(msock_derp_server_set_from(s, T0, b.conn, &at), MSOCK_OK);
  relay_client_login_as(&b, T0, &info);
  check_present(&b, MSOCK_DERP_PRESENT_PROBER, &at);
  relay_client_init(&again, &env, s, T0, &b.secret);
  relay_client_login(&again, T0);
  check_present(&again, MSOCK_DERP_PRESENT_REGULAR, NULL);
  relay_client_close(&again, T0); /* 2 to 1: nothing */
  ck_assert(!relay_client_take(&m, T0, &f));
  relay_client_close(&b, T0);
  ck_assert(relay_client_take(&m, T0, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_PEER_GONE);
  ck_assert(msock_node_key_equal(&f.u.peer_gone.key, &b.key));
  ck_assert_uint_eq(f.u.peer_gone.reason, MSOCK_DERP_GONE_DISCONNECTED);
  ck_assert(!relay_client_take(&m, T0, &f));
  relay_client_free(&again);
}
END_TEST

START_TEST(the_ideal_node_header_is_passed_on) {
  static const char head[] = "GET /derp HTTP/1.1\r\nHost: x\r\nIdeal-Node: 900a\r\n"
                             "Derp-Fast-Start: 1\r\nUpgrade: DERP\r\n\r\n";
  const msock_derp_client_info info = msock_derp_client_info_default();
  const msock_node_key server = msock_derp_server_key(s);
  uint8_t buf[MSOCK_DERP_LOGIN_FRAME_MAX];
  msock_derp_frame f;
  login_with_key(&m, 0x5a);
  ck_assert(send_type(&m, MSOCK_DERP_WATCH_CONNS));
  ck_assert(relay_client_take(&m, T0, &f)); /* itself */
  ck_assert(relay_client_write(&a, T0, head, sizeof head - 1));
  const ptrdiff_t n = msock_derp_client_info_seal(&info, &a.secret, &server, &env, buf, sizeof buf);
  ck_assert(relay_client_write(&a, T0, buf, (size_t)n));
  check_present(&a, MSOCK_DERP_PRESENT_NOT_IDEAL, NULL);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).not_ideal, 1);
}
END_TEST

/* The server's own key: the watcher is this relay itself. */
START_TEST(it_does_not_watch_itself) {
  relay_client self;
  msock_derp_frame f;
  relay_client_login(&a, T0);
  relay_client_init(&self, &env, s, T0, &server_secret);
  login_with_key(&self, 0x5a);
  ck_assert(send_type(&self, MSOCK_DERP_WATCH_CONNS));
  ck_assert(!relay_client_take(&self, T0, &f));
  relay_client_free(&self);
}
END_TEST

/* Told while it reads slowly, a watcher ends up with the right picture: every key once present, and
 * those who left in between gone after they were present, or never told. */
START_TEST(a_slow_watcher_has_the_right_picture) {
  enum { N = 400 };
  static relay_client c[N];
  static int here[N];
  msock_derp_frame f;
  for (int i = 0; i < N; i++) {
    here[i] = 0;
    relay_client_init(&c[i], &env, s, T0, NULL);
    if (i < N - 20) {
      relay_client_login(&c[i], T0);
    }
    free(c[i].rx);
    c[i].rx = NULL;
  }
  login_with_key(&m, 0x5a);
  ck_assert(send_type(&m, MSOCK_DERP_WATCH_CONNS));
  for (int round = 0; round < 20; round++) {
    const uint8_t *p;
    const size_t n = msock_derp_server_tx_peek(s, T0, m.conn, &p);
    const size_t some = n < 1000 ? n : 1000;
    memcpy(m.rx + m.rx_len, p, some);
    m.rx_len += some;
    msock_derp_server_tx_consume(s, T0, m.conn, some);
    relay_client_close(&c[round * 19], T0);
    relay_client *late = &c[N - 20 + round];
    late->rx = malloc(RELAY_RIG_RX_MAX);
    relay_client_login(late, T0);
    relay_client_free(late);
  }
  while (relay_client_take(&m, T0, &f)) {
    const bool present = f.type == MSOCK_DERP_PEER_PRESENT;
    const msock_node_key *key = present ? &f.u.peer_present.key : &f.u.peer_gone.key;
    for (int i = 0; i < N; i++) {
      if (msock_node_key_equal(key, &c[i].key)) {
        here[i] = present;
      }
    }
  }
  for (int i = 0; i < N; i++) {
    ck_assert_msg(here[i] == c[i].open, "key %d: told %d, is %d", i, here[i], c[i].open);
  }
}
END_TEST

/* closes: SERVER-18 */
START_TEST(a_forwarded_packet_is_delivered_once_with_its_source) {
  uint8_t disco[62] = {'T', 'S', 0xf0, 0x9f, 0x92, 0xac};
  msock_node_private stranger;
  relay_client m2;
  msock_derp_frame f;
  msock_node_private_generate(&env, &stranger);
  const msock_node_key far = msock_node_private_public(&stranger);
  relay_client_login(&a, T0);
  login_with_key(&m, 0x5a);
  relay_client_init(&m2, &env, s, T0, NULL);
  login_with_key(&m2, 0x5a); /* another relay: hears nothing of it */
  ck_assert(forward(&m, &far, &a.key, "hello", 5));
  ck_assert(relay_client_take(&a, T0, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_RECV_PACKET);
  ck_assert(msock_node_key_equal(&f.u.packet.key, &far));
  ck_assert_uint_eq(f.u.packet.len, 5);
  ck_assert_mem_eq(f.u.packet.data, "hello", 5);
  ck_assert(!relay_client_take(&a, T0, &f));

  ck_assert(forward(&m, &a.key, &far, "nobody", 6)); /* not here: dropped, data is silent */
  ck_assert(!relay_client_take(&m, T0, &f) && !relay_client_take(&m2, T0, &f));
  ck_assert(forward(&m, &a.key, &far, disco, sizeof disco));
  ck_assert(relay_client_take(&m, T0, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_PEER_GONE);
  ck_assert(msock_node_key_equal(&f.u.peer_gone.key, &far));
  ck_assert_uint_eq(f.u.peer_gone.reason, MSOCK_DERP_GONE_NOT_HERE);
  ck_assert(!relay_client_take(&m2, T0, &f));
  const msock_derp_server_stats n = msock_derp_server_get_stats(s);
  ck_assert_uint_eq(n.forwarded_in, 3);
  ck_assert_uint_eq(n.dropped[MSOCK_DERP_DROP_UNKNOWN_DEST_ON_FWD][MSOCK_DERP_KIND_OTHER], 1);
  ck_assert_uint_eq(n.dropped[MSOCK_DERP_DROP_UNKNOWN_DEST_ON_FWD][MSOCK_DERP_KIND_DISCO], 1);
  ck_assert_uint_eq(n.packets_out, 1);
  relay_client_free(&m2);
}
END_TEST

/* closes: SERVER-19 */
START_TEST(close_peer_closes_every_connection_of_the_key) {
  msock_derp_frame f = {.type = MSOCK_DERP_CLOSE_PEER};
  relay_client a2;
  relay_client_login(&a, T0);
  relay_client_init(&a2, &env, s, T0, &a.secret);
  relay_client_login(&a2, T0);
  relay_client_login(&b, T0);
  login_with_key(&m, 0x5a);
  f.u.close_peer = a.key;
  ck_assert(relay_client_frame(&m, T0, &f));
  ck_assert(msock_derp_server_is_done(s, a.conn) && msock_derp_server_is_done(s, a2.conn));
  ck_assert(!msock_derp_server_is_done(s, b.conn) && !msock_derp_server_is_done(s, m.conn));
  ck_assert(!relay_client_take(&m, T0, &f)); /* no reply */
  relay_client_close(&a, T0);
  relay_client_close(&a2, T0);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).closed[MSOCK_DERP_CAUSE_CLOSE_PEER], 2);
  relay_client_free(&a2);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_loop_test(tc, mesh_frames_need_the_mesh_key, 0, 3);
  tcase_add_test(tc, without_a_mesh_key_nobody_is_a_mesh_peer);
  tcase_add_test(tc, a_watcher_is_told_who_is_here_and_what_changes);
  tcase_add_test(tc, the_ideal_node_header_is_passed_on);
  tcase_add_test(tc, it_does_not_watch_itself);
  tcase_add_test(tc, a_slow_watcher_has_the_right_picture);
  tcase_add_test(tc, a_forwarded_packet_is_delivered_once_with_its_source);
  tcase_add_test(tc, close_peer_closes_every_connection_of_the_key);
  return testing_main("derp_server_mesh", tc);
}
