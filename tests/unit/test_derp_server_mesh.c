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
  static int here[N], times[N];
  msock_derp_frame f;
  for (int i = 0; i < N; i++) {
    here[i] = times[i] = 0;
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
        times[i] += present;
      }
    }
  }
  for (int i = 0; i < N; i++) {
    ck_assert_msg(here[i] == c[i].open, "key %d: told %d, is %d", i, here[i], c[i].open);
    ck_assert_int_le(times[i], 1);
  }
}
END_TEST

/* A connection in a new part of the table wakes the watcher too. */
START_TEST(a_watcher_is_woken_for_whoever_comes) {
  static relay_client c[100];
  msock_derp_frame f;
  uint32_t woken;
  login_with_key(&m, 0x5a);
  ck_assert(send_type(&m, MSOCK_DERP_WATCH_CONNS));
  while (relay_client_take(&m, T0, &f)) {
  }
  for (int i = 0; i < 100; i++) {
    bool told = false;
    relay_client_init(&c[i], &env, s, T0, NULL);
    while (msock_derp_server_next_wake(s, &woken)) {
    }
    relay_client_login(&c[i], T0);
    while (msock_derp_server_next_wake(s, &woken)) {
      told = told || woken == m.conn;
    }
    ck_assert_msg(told, "not for number %d", i);
    ck_assert(relay_client_take(&m, T0, &f));
    ck_assert(msock_node_key_equal(&f.u.peer_present.key, &c[i].key));
    relay_client_free(&c[i]);
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

/* --- links: this relay as the client of another --- */

typedef struct wire { /* a link of `from` is a connection of `to` */
  msock_derp_server *from, *to;
  uint32_t out, in;
} wire;

static msock_derp_server *another_relay(uint64_t seed) {
  static testing_rng rngs[4];
  static msock_env envs[4];
  msock_derp_server_settings set = msock_derp_server_settings_default();
  msock_node_private secret;
  envs[seed % 4] = testing_env(&rngs[seed % 4], seed);
  msock_node_private_generate(&envs[seed % 4], &secret);
  msock_derp_server *r = msock_derp_server_new(&envs[seed % 4], &secret);
  set.has_mesh_key = true;
  memset(set.mesh_key, 0x5a, sizeof set.mesh_key);
  ck_assert_int_eq(msock_derp_server_configure(r, T0, &set), MSOCK_OK);
  msock_derp_server_keep_events(r, 100);
  return r;
}

static bool carry(uint64_t now, msock_derp_server *from, uint32_t x, msock_derp_server *to,
                  uint32_t y) {
  const uint8_t *p;
  const size_t n = msock_derp_server_tx_peek(from, now, x, &p);
  if (n > 0) {
    (void)msock_derp_server_feed(to, now, y, p, n);
    msock_derp_server_tx_consume(from, now, x, n);
  }
  return n > 0;
}

static void run_wire(wire *w, uint64_t now) {
  for (bool any = true; any;) {
    any = carry(now, w->from, w->out, w->to, w->in);
    any = carry(now, w->to, w->in, w->from, w->out) || any;
  }
}

static wire link_up(msock_derp_server *from, msock_derp_server *to) {
  wire w = {.from = from, .to = to};
  ck_assert_int_eq(msock_derp_server_link(from, T0, "relay.example", &w.out), MSOCK_OK);
  ck_assert_int_eq(msock_derp_server_open(to, T0, &w.in), MSOCK_OK);
  run_wire(&w, T0);
  return w;
}

static msock_derp_server_event event_of(msock_derp_server *r, msock_derp_server_event_kind kind) {
  msock_derp_server_event ev = {0};
  do {
    ck_assert_msg(msock_derp_server_next_event(r, &ev), "no event of kind %d", (int)kind);
  } while (ev.kind != kind);
  return ev;
}

/* Two relays that watch each other, a on this one, far on the other. */
typedef struct region {
  msock_derp_server *other;
  wire there, back;
  relay_client far;
} region;

static region region_of_two(void) {
  region r = {.other = another_relay(2)};
  msock_derp_server_keep_events(s, 100);
  relay_client_init(&r.far, &env, r.other, T0, NULL);
  relay_client_login(&r.far, T0); /* before the link: told in the first round */
  r.there = link_up(s, r.other);
  r.back = link_up(r.other, s);
  relay_client_login(&a, T0); /* after it: streamed */
  run_wire(&r.back, T0);
  return r;
}

static void free_region(region *r) {
  relay_client_free(&r->far);
  msock_derp_server_free(r->other);
}

static void check_gets(relay_client *c, const msock_node_key *from, const char *text) {
  msock_derp_frame f;
  ck_assert(relay_client_take(c, T0, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_RECV_PACKET);
  ck_assert(msock_node_key_equal(&f.u.packet.key, from));
  ck_assert_uint_eq(f.u.packet.len, strlen(text));
  ck_assert_mem_eq(f.u.packet.data, text, f.u.packet.len);
}

START_TEST(clients_of_two_relays_reach_each_other) {
  region r = region_of_two();
  msock_derp_frame f;
  const msock_node_key other = msock_derp_server_key(r.other);
  const msock_derp_server_event ev = event_of(s, MSOCK_DERP_SERVER_LINKED);
  ck_assert(msock_node_key_equal(&ev.key, &other));
  ck_assert_uint_eq(msock_derp_server_get_stats(s).links, 1);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).mesh, 1);
  ck_assert(relay_client_packet(&a, T0, &r.far.key, "over there", 10));
  run_wire(&r.there, T0);
  check_gets(&r.far, &a.key, "over there");
  ck_assert(relay_client_packet(&r.far, T0, &a.key, "and back", 8));
  run_wire(&r.back, T0);
  check_gets(&a, &r.far.key, "and back");
  const msock_derp_server_stats here = msock_derp_server_get_stats(s);
  const msock_derp_server_stats there = msock_derp_server_get_stats(r.other);
  ck_assert_uint_eq(here.forwarded_out, 1);
  ck_assert_uint_eq(here.forwarded_in, 1);
  ck_assert_uint_eq(there.forwarded_in, 1);
  ck_assert_uint_eq(here.packets_in, 1);
  ck_assert_uint_eq(here.packets_out, 1);
  ck_assert_uint_eq(here.packets_queued, 0);
  ck_assert_uint_eq(here.remote_keys, 1);

  relay_client_close(&r.far, T0); /* a has heard it, and is told */
  run_wire(&r.there, T0);
  ck_assert(relay_client_take(&a, T0, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_PEER_GONE);
  ck_assert(msock_node_key_equal(&f.u.peer_gone.key, &r.far.key));
  ck_assert_uint_eq(f.u.peer_gone.reason, MSOCK_DERP_GONE_DISCONNECTED);
  ck_assert(!relay_client_take(&a, T0, &f));
  free_region(&r);
}
END_TEST

START_TEST(a_lost_link_takes_its_keys_along) {
  region r = region_of_two();
  uint8_t disco[62] = {'T', 'S', 0xf0, 0x9f, 0x92, 0xac};
  msock_derp_frame f;
  ck_assert(relay_client_packet(&r.far, T0, &a.key, "hello", 5));
  run_wire(&r.back, T0);
  check_gets(&a, &r.far.key, "hello");
  msock_derp_server_close(s, T0, r.there.out);
  (void)event_of(s, MSOCK_DERP_SERVER_UNLINKED);
  ck_assert_uint_eq(msock_derp_server_get_stats(s).remote_keys, 0);
  ck_assert(relay_client_take(&a, T0, &f));
  ck_assert_int_eq(f.type, MSOCK_DERP_PEER_GONE);
  ck_assert_uint_eq(f.u.peer_gone.reason, MSOCK_DERP_GONE_DISCONNECTED);
  ck_assert(relay_client_packet(&a, T0, &r.far.key, disco, sizeof disco));
  ck_assert(relay_client_take(&a, T0, &f));
  ck_assert_uint_eq(f.u.peer_gone.reason, MSOCK_DERP_GONE_NOT_HERE);
  r.there = link_up(s, r.other); /* and is back with them */
  ck_assert(relay_client_packet(&a, T0, &r.far.key, "again", 5));
  run_wire(&r.there, T0);
  check_gets(&r.far, &a.key, "again");
  free_region(&r);
}
END_TEST

/* A key that is here as well is served here; when it leaves here it is still in the region. */
START_TEST(local_connections_come_before_links) {
  region r = region_of_two();
  relay_client here;
  msock_derp_frame f;
  relay_client_init(&here, &env, s, T0, &r.far.secret);
  relay_client_login(&here, T0);
  ck_assert(relay_client_packet(&a, T0, &r.far.key, "near", 4));
  check_gets(&here, &a.key, "near");
  ck_assert(relay_client_packet(&here, T0, &a.key, "heard", 5));
  check_gets(&a, &here.key, "heard");
  relay_client_close(&here, T0);
  ck_assert(!relay_client_take(&a, T0, &f)); /* not gone */
  ck_assert(relay_client_packet(&a, T0, &r.far.key, "far", 3));
  run_wire(&r.there, T0);
  check_gets(&r.far, &a.key, "far");
  relay_client_free(&here);
  free_region(&r);
}
END_TEST

/* The first relay that has a key gets its packets; when it loses it, the next one. */
START_TEST(the_earliest_relay_with_a_key_comes_first) {
  region r = region_of_two();
  msock_derp_server *third = another_relay(3);
  relay_client same;
  relay_client_init(&same, &env, third, T0, &r.far.secret);
  relay_client_login(&same, T0);
  wire w = link_up(s, third);
  ck_assert(relay_client_packet(&a, T0, &r.far.key, "first", 5));
  run_wire(&r.there, T0);
  run_wire(&w, T0);
  check_gets(&r.far, &a.key, "first");
  relay_client_close(&r.far, T0);
  run_wire(&r.there, T0);
  ck_assert(relay_client_packet(&a, T0, &r.far.key, "second", 6));
  run_wire(&w, T0);
  check_gets(&same, &a.key, "second");
  relay_client_free(&same);
  free_region(&r);
  msock_derp_server_free(third);
}
END_TEST

START_TEST(a_link_to_itself_ends_with_that_reason) {
  msock_derp_server_keep_events(s, 100);
  wire w = link_up(s, s);
  ck_assert(msock_derp_server_is_done(s, w.out));
  msock_derp_server_close(s, T0, w.out);
  ck_assert_int_eq(event_of(s, MSOCK_DERP_SERVER_FAILED).cause, MSOCK_DERP_CAUSE_LINK_SELF);
}
END_TEST

START_TEST(a_silent_link_is_cut_at_its_tick) {
  region r = region_of_two();
  const uint64_t cut = T0 + MSOCK_DERP_SERVER_LINK_SILENCE_US;
  uint64_t t;
  while ((t = msock_derp_server_next_expiry(s)) < cut) {
    ck_assert(!msock_derp_server_is_done(s, r.there.out));
    msock_derp_server_on_expiry(s, t);
    relay_client_pump(&a, t);
    const uint8_t *p;
    size_t n;
    while ((n = msock_derp_server_tx_peek(s, t, r.back.in, &p)) > 0) { /* its keep-alives */
      msock_derp_server_tx_consume(s, t, r.back.in, n);
    }
  }
  msock_derp_server_on_expiry(s, cut - 1);
  ck_assert(!msock_derp_server_is_done(s, r.there.out));
  msock_derp_server_on_expiry(s, cut);
  ck_assert(msock_derp_server_is_done(s, r.there.out));
  msock_derp_server_close(s, cut, r.there.out);
  ck_assert_int_eq(event_of(s, MSOCK_DERP_SERVER_UNLINKED).cause, MSOCK_DERP_CAUSE_LINK_SILENT);
  free_region(&r);
}
END_TEST

/* The other relay's keep-alives keep it up. */
START_TEST(a_quiet_link_stays_up) {
  region r = region_of_two();
  const uint64_t end = T0 + 5 * MSOCK_DERP_SERVER_LINK_SILENCE_US;
  for (uint64_t t = T0; t < end;) {
    const uint64_t here = msock_derp_server_next_expiry(s);
    const uint64_t there = msock_derp_server_next_expiry(r.other);
    t = here < there ? here : there;
    msock_derp_server_on_expiry(s, t);
    msock_derp_server_on_expiry(r.other, t);
    run_wire(&r.there, t);
    run_wire(&r.back, t);
    relay_client_pump(&a, t);
    relay_client_pump(&r.far, t);
  }
  ck_assert(!msock_derp_server_is_done(s, r.there.out));
  ck_assert(!msock_derp_server_is_done(r.other, r.back.out));
  free_region(&r);
}
END_TEST

START_TEST(a_link_needs_the_mesh_key_and_a_sound_host) {
  msock_derp_server_settings set = msock_derp_server_settings_default();
  uint32_t conn;
  ck_assert_int_eq(msock_derp_server_link(s, T0, "evil\r\nX: y", &conn), MSOCK_ERR_INVALID);
  ck_assert_int_eq(msock_derp_server_configure(s, T0, &set), MSOCK_OK);
  ck_assert_int_eq(msock_derp_server_link(s, T0, "relay.example", &conn), MSOCK_ERR_DENIED);
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
  tcase_add_test(tc, a_watcher_is_woken_for_whoever_comes);
  tcase_add_test(tc, a_forwarded_packet_is_delivered_once_with_its_source);
  tcase_add_test(tc, close_peer_closes_every_connection_of_the_key);
  tcase_add_test(tc, clients_of_two_relays_reach_each_other);
  tcase_add_test(tc, a_lost_link_takes_its_keys_along);
  tcase_add_test(tc, local_connections_come_before_links);
  tcase_add_test(tc, the_earliest_relay_with_a_key_comes_first);
  tcase_add_test(tc, a_link_to_itself_ends_with_that_reason);
  tcase_add_test(tc, a_silent_link_is_cut_at_its_tick);
  tcase_add_test(tc, a_quiet_link_stays_up);
  tcase_add_test(tc, a_link_needs_the_mesh_key_and_a_sound_host);
  return testing_main("derp_server_mesh", tc);
}
