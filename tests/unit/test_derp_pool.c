/* The pool of DERP connections. The test is the shell, and the server of every region. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/x25519.h"
#include "derp/pool.h"
#include "derp/route.h"
#include "tests/unit/testing.h"

#define T0 (1000 * MSOCK_SEC)
#define REGIONS 3

typedef struct fixture {
  testing_rng rng;
  msock_env env;
  msock_derp_pool *p;
  uint64_t now;
  msock_node_private server, me;
  msock_node_key server_public, me_public, peer;
  msock_derp_node nodes[REGIONS][3];
  msock_derp_region regions[REGIONS];
  msock_derp_map map;
  msock_derp_action dial; /* last one */
  msock_derp_conn_id closed[8];
  size_t n_closed, n_writes;
  msock_derp_pool_event seen[32]; /* pointers in them are stale */
  size_t n_seen;
  char down_text[96], health[192];
} fixture;

static fixture x;

/* Regions 1, 2, 3 with nodes "<region>a" to "<region>c"; node b of each is for STUN only. */
static void setup(void) {
  memset(&x, 0, sizeof x);
  x.env = testing_env(&x.rng, 3);
  x.now = T0;
  x.p = msock_derp_pool_new(&x.env);
  msock_node_private_generate(&x.env, &x.server);
  msock_node_private_generate(&x.env, &x.me);
  x.server_public = msock_node_private_public(&x.server);
  x.me_public = msock_node_private_public(&x.me);
  memset(x.peer.b, 0x42, sizeof x.peer.b);
  for (size_t r = 0; r < REGIONS; r++) {
    for (size_t n = 0; n < 3; n++) {
      msock_derp_node *node = &x.nodes[r][n];
      snprintf(node->name, sizeof node->name, "%zu%c", r + 1, (char)('a' + n));
      snprintf(node->host_name, sizeof node->host_name, "%s.example.com", node->name);
      node->region_id = r + 1;
      node->derp_port = 443;
      node->stun_only = n == 1;
    }
    x.regions[r] = (msock_derp_region){.id = r + 1, .nodes = x.nodes[r], .n_nodes = 3, .score = 1};
  }
  x.map = (msock_derp_map){.regions = x.regions, .n_regions = REGIONS};
}

static void teardown(void) {
  msock_derp_pool_free(x.p);
}

/* Drains actions and events; gives the number of dials. */
static size_t settle(void) {
  msock_derp_action a;
  msock_derp_pool_event ev;
  size_t dials = 0;
  x.n_closed = x.n_writes = x.n_seen = 0;
  while (msock_derp_pool_next_event(x.p, x.now, &ev)) {
    ck_assert_uint_lt(x.n_seen, 32);
    x.seen[x.n_seen++] = ev;
    if (ev.kind == MSOCK_DERP_POOL_REGION_DOWN) {
      snprintf(x.down_text, sizeof x.down_text, "%s", ev.u.down.text);
    } else if (ev.kind == MSOCK_DERP_POOL_HEALTH) {
      snprintf(x.health, sizeof x.health, "%s", ev.u.health.text);
    }
  }
  while (msock_derp_pool_next_action(x.p, x.now, &a)) {
    if (a.kind == MSOCK_DERP_ACTION_DIAL) {
      x.dial = a;
      dials++;
    } else if (a.kind == MSOCK_DERP_ACTION_CLOSE) {
      x.closed[x.n_closed++] = a.conn;
    } else {
      x.n_writes++;
    }
  }
  return dials;
}

static const msock_derp_pool_event *saw(msock_derp_pool_event_kind kind) {
  for (size_t i = 0; i < x.n_seen; i++) {
    if (x.seen[i].kind == kind) {
      return &x.seen[i];
    }
  }
  return NULL;
}

static size_t count(msock_derp_pool_event_kind kind) {
  size_t n = 0;
  for (size_t i = 0; i < x.n_seen; i++) {
    n += x.seen[i].kind == kind;
  }
  return n;
}

static size_t expire_at(uint64_t at) {
  x.now = at;
  msock_derp_pool_on_expiry(x.p, x.now);
  return settle();
}

static uint8_t out[200000];

static size_t take(msock_derp_conn_id id) {
  const uint8_t *p;
  size_t n, total = 0;
  while (msock_derp_pool_conn_tx_peek(x.p, x.now, id, &p, &n), n > 0) {
    memcpy(out + total, p, n);
    total += n;
    msock_derp_pool_conn_tx_consume(x.p, id, n);
  }
  return total;
}

static size_t feed(msock_derp_conn_id id, const void *p, size_t n) {
  ck_assert_int_eq(msock_derp_pool_conn_feed(x.p, x.now, id, p, n), MSOCK_OK);
  return settle();
}

static size_t feed_frame(msock_derp_conn_id id, const msock_derp_frame *f) {
  uint8_t buf[2048];
  const ptrdiff_t n = msock_derp_frame_encode(f, buf, sizeof buf);
  ck_assert_int_gt(n, 0);
  return feed(id, buf, (size_t)n);
}

/* A packet from a peer arrives on a connection. */
static void hear(msock_derp_conn_id id, const msock_node_key *from) {
  msock_derp_frame f = {.type = MSOCK_DERP_RECV_PACKET};
  f.u.packet.key = *from;
  f.u.packet.data = (const uint8_t *)"hi";
  f.u.packet.len = 2;
  feed_frame(id, &f);
  ck_assert_ptr_nonnull(saw(MSOCK_DERP_POOL_PACKET));
}

static void send_info(msock_derp_conn_id id) {
  uint8_t buf[512];
  const msock_derp_server_info info = {.version = 2};
  const ptrdiff_t n =
      msock_derp_server_info_seal(&info, &x.server, &x.me_public, &x.env, buf, sizeof buf);
  feed(id, buf, (size_t)n);
}

/* TLS 1.2: upgrade, greeting; ClientInfo is then in tx. */
static void to_login(msock_derp_conn_id id) {
  static const char reply[] = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
  const msock_derp_conn_info info = {.local = msock_ip_v4(192, 168, 0, 2)};
  const msock_derp_frame key = {.type = MSOCK_DERP_SERVER_KEY, .u.server_key.key = x.server_public};
  msock_derp_pool_conn_up(x.p, x.now, id, &info);
  settle();
  take(id);
  feed(id, reply, sizeof reply - 1);
  feed_frame(id, &key);
}

static void to_open(msock_derp_conn_id id) {
  to_login(id);
  take(id);
  send_info(id);
  ck_assert_ptr_nonnull(saw(MSOCK_DERP_POOL_REGION_UP));
}

/* Map, key, home region 1, connected. Gives its id. */
static msock_derp_conn_id home_open(void) {
  ck_assert_int_eq(msock_derp_pool_set_map(x.p, x.now, &x.map), MSOCK_OK);
  msock_derp_pool_set_private_key(x.p, x.now, &x.me);
  msock_derp_pool_set_home(x.p, x.now, 1);
  ck_assert_uint_eq(settle(), 1);
  const msock_derp_conn_id id = x.dial.conn;
  to_open(id);
  return id;
}

static msock_err send_to(msock_region_id home) {
  return msock_derp_pool_send(x.p, x.now, &x.peer, home, (const uint8_t *)"data", 4);
}

static msock_derp_conn_status status_of(msock_region_id region) {
  msock_derp_conn_status s = {0};
  ck_assert(msock_derp_pool_conn_status(x.p, region, &s));
  return s;
}

static bool was_closed(msock_derp_conn_id id) {
  for (size_t i = 0; i < x.n_closed; i++) {
    if (x.closed[i] == id) {
      return true;
    }
  }
  return false;
}

START_TEST(nothing_is_dialled_without_map_key_and_home) {
  ck_assert_uint_eq(settle(), 0);
  msock_derp_pool_set_home(x.p, x.now, 1);
  ck_assert_uint_eq(settle(), 0);
  msock_derp_pool_set_private_key(x.p, x.now, &x.me);
  ck_assert_uint_eq(settle(), 0);
  ck_assert_int_eq(send_to(2), MSOCK_ERR_UNKNOWN);
  msock_derp_pool_set_map(x.p, x.now, &x.map);
  ck_assert_uint_eq(settle(), 1);
  ck_assert_uint_eq(x.dial.region, 1);
  ck_assert_str_eq(x.dial.check.sni, "1a.example.com");
  ck_assert_uint_eq(x.dial.tcp_budget_us, 1500 * MSOCK_MS);
  ck_assert_uint_eq(x.dial.deadline_us, x.now + 10 * MSOCK_SEC);
}
END_TEST

/* closes: CLIENT-15 */
START_TEST(nodes_in_order_without_stun_only) {
  const msock_derp_conn_info info = {0};
  msock_derp_pool_set_map(x.p, x.now, &x.map);
  msock_derp_pool_set_private_key(x.p, x.now, &x.me);
  msock_derp_pool_set_home(x.p, x.now, 1);
  ck_assert_uint_eq(settle(), 1);
  ck_assert_str_eq(x.dial.node.name, "1a");
  const msock_derp_conn_id first = x.dial.conn;
  msock_derp_pool_conn_down(x.p, x.now, first, MSOCK_DERP_DOWN_TCP, "connection refused");
  ck_assert_uint_eq(settle(), 1);
  ck_assert_str_eq(x.dial.node.name, "1c");
  ck_assert_uint_eq(x.dial.node_index, 2);
  msock_derp_pool_conn_up(x.p, x.now, x.dial.conn, &info);
  const size_t n = take(x.dial.conn);
  out[n] = '\0';
  ck_assert_ptr_nonnull(strstr((char *)out, "\r\nIdeal-Node: 1a\r\n"));
  /* a failure after TCP ends the attempt; the next one begins at node 0 */
  msock_derp_pool_conn_down(x.p, x.now, x.dial.conn, MSOCK_DERP_DOWN_IO, NULL);
  ck_assert_uint_eq(settle(), 0);
  ck_assert_uint_eq(expire_at(msock_derp_pool_next_expiry(x.p)), 1);
  ck_assert_str_eq(x.dial.node.name, "1a");
  msock_derp_pool_conn_down(x.p, x.now, x.dial.conn, MSOCK_DERP_DOWN_TLS, "bad certificate");
  ck_assert_uint_eq(settle(), 0); /* TLS failure does not try node c */
  ck_assert_str_eq(status_of(1).last_error, "bad certificate");
  expire_at(msock_derp_pool_next_expiry(x.p));
  msock_derp_pool_conn_up(x.p, x.now, x.dial.conn, &info);
  out[take(x.dial.conn)] = '\0';
  ck_assert_ptr_null(strstr((char *)out, "Ideal-Node"));
}
END_TEST

START_TEST(the_first_nodes_error_is_reported) {
  msock_derp_pool_set_map(x.p, x.now, &x.map);
  msock_derp_pool_set_private_key(x.p, x.now, &x.me);
  msock_derp_pool_set_home(x.p, x.now, 1);
  settle();
  msock_derp_pool_conn_down(x.p, x.now, x.dial.conn, MSOCK_DERP_DOWN_TCP, "one");
  settle();
  msock_derp_pool_conn_down(x.p, x.now, x.dial.conn, MSOCK_DERP_DOWN_TCP, "two");
  settle();
  ck_assert_str_eq(x.down_text, "one");
}
END_TEST

/* closes: CLIENT-14 (the 10 s budget) */
START_TEST(attempt_ends_after_10_s) {
  msock_derp_pool_set_map(x.p, x.now, &x.map);
  msock_derp_pool_set_private_key(x.p, x.now, &x.me);
  msock_derp_pool_set_home(x.p, x.now, 1);
  settle();
  const msock_derp_conn_id id = x.dial.conn;
  const uint64_t end = x.now + 10 * MSOCK_SEC;
  ck_assert_uint_eq(msock_derp_pool_next_expiry(x.p), end);
  expire_at(end - 1);
  ck_assert(!was_closed(id));
  expire_at(end);
  ck_assert(was_closed(id));
  msock_derp_pool_conn_down(x.p, x.now, id, MSOCK_DERP_DOWN_TCP, NULL); /* late: ignored */
  ck_assert_uint_eq(msock_derp_pool_get_counters(x.p).stale_reports, 1);
}
END_TEST

/* closes: CLIENT-05 CLIENT-06 */
START_TEST(fast_start_needs_tls13_and_meta_key_and_is_retried_without) {
  const msock_derp_conn_info tls12 = {.has_meta_key = true, .meta_key = x.server_public};
  const msock_derp_conn_info no_meta = {.is_tls13 = true};
  const msock_derp_conn_info both = {
      .is_tls13 = true, .has_meta_key = true, .meta_key = x.server_public};
  const msock_derp_conn_info *infos[] = {&tls12, &no_meta, &both, &both};
  msock_derp_pool_set_map(x.p, x.now, &x.map);
  msock_derp_pool_set_private_key(x.p, x.now, &x.me);
  msock_derp_pool_set_home(x.p, x.now, 1);
  for (size_t i = 0; i < 4; i++) {
    ck_assert_uint_eq(settle(), 1);
    msock_derp_pool_conn_up(x.p, x.now, x.dial.conn, infos[i]);
    out[take(x.dial.conn)] = '\0';
    ck_assert_int_eq(strstr((char *)out, "Derp-Fast-Start: 1") != NULL, i == 2);
    if (i == 2) { /* a balancer answers in HTTP: at once again, without fast start */
      ck_assert_uint_eq(feed(x.dial.conn, "HTTP/1.1 400 Bad\r\n\r\n", 20), 1);
      ck_assert_str_eq(status_of(1).last_error, "HTTP reply to fast start: status 400");
      msock_derp_pool_conn_up(x.p, x.now, x.dial.conn, infos[3]);
      out[take(x.dial.conn)] = '\0';
      ck_assert_ptr_null(strstr((char *)out, "Derp-Fast-Start"));
      break;
    }
    msock_derp_pool_conn_down(x.p, x.now, x.dial.conn, MSOCK_DERP_DOWN_IO, NULL);
    settle();
    x.now = msock_derp_pool_next_expiry(x.p);
    msock_derp_pool_on_expiry(x.p, x.now);
  }
  ck_assert_uint_eq(msock_derp_pool_get_counters(x.p).fast_start_http, 1);
}
END_TEST

START_TEST(packets_wait_while_dialling_and_go_out_with_client_info) {
  home_open();
  for (int i = 0; i < 5; i++) {
    ck_assert_int_eq(send_to(2), MSOCK_OK);
  }
  ck_assert_uint_eq(settle(), 1);
  ck_assert_uint_eq(x.dial.region, 2);
  /* a lost attempt loses no packet */
  msock_derp_pool_conn_down(x.p, x.now, x.dial.conn, MSOCK_DERP_DOWN_TLS, NULL);
  ck_assert_uint_eq(expire_at(x.now + MSOCK_SEC), 1);
  ck_assert_uint_eq(status_of(2).queued, 5);
  to_login(x.dial.conn);
  ck_assert_uint_eq(x.n_writes, 1);
  const size_t n = take(x.dial.conn); /* no ServerInfo yet */
  ck_assert_uint_eq(n, 5 + msock_derp_header_read(out).len + 5 * (5 + 32 + 4));
  ck_assert_uint_eq(status_of(2).counters.tx_packets, 5);
}
END_TEST

/* closes: CLIENT-20 */
START_TEST(backoff_grows_to_the_cap_and_is_jittered) {
  uint64_t last = 0, delays[90], begun = 0;
  bool same = true;
  msock_derp_pool_set_map(x.p, x.now, &x.map);
  msock_derp_pool_set_private_key(x.p, x.now, &x.me);
  msock_derp_pool_set_home(x.p, x.now, 1);
  settle();
  for (size_t i = 0; i < 90; i++) {
    begun = i == 0 ? x.now : begun;
    if (_i == 0) { /* accept, log in, close */
      to_open(x.dial.conn);
      msock_derp_pool_conn_down(x.p, x.now, x.dial.conn, MSOCK_DERP_DOWN_EOF, NULL);
    } else { /* refuse */
      to_login(x.dial.conn);
      msock_derp_pool_conn_down(x.p, x.now, x.dial.conn, MSOCK_DERP_DOWN_EOF, NULL);
    }
    settle();
    ck_assert_str_eq(x.down_text, _i == 0 ? "closed by server" : "refused by server");
    const uint64_t at = msock_derp_pool_next_expiry(x.p);
    delays[i] = at - x.now;
    const uint64_t n = i + 1;
    const uint64_t cap = x.now - begun < 20 * MSOCK_SEC ? 600 * MSOCK_MS : 5 * MSOCK_SEC;
    const uint64_t mid = n * n * 10 * MSOCK_MS < cap ? n * n * 10 * MSOCK_MS : cap;
    ck_assert_uint_ge(delays[i], mid / 2);
    ck_assert_uint_le(delays[i], mid / 2 + mid);
    same = same && (i < 80 || delays[i] == last);
    last = delays[i];
    ck_assert_uint_eq(expire_at(at - 1), 0);
    ck_assert_uint_eq(expire_at(at), 1);
  }
  ck_assert(!same);
  ck_assert_uint_ge(last, 2500 * MSOCK_MS); /* an old outage: the long cap */
}
END_TEST

START_TEST(backoff_starts_again_after_30_s_of_life) {
  home_open();
  for (int i = 0; i < 60; i++) { /* beyond the young outage */
    msock_derp_pool_conn_down(x.p, x.now, x.dial.conn, MSOCK_DERP_DOWN_EOF, NULL);
    expire_at(msock_derp_pool_next_expiry(x.p));
    to_open(x.dial.conn);
  }
  x.now += 30 * MSOCK_SEC - 1;
  msock_derp_pool_conn_down(x.p, x.now, x.dial.conn, MSOCK_DERP_DOWN_EOF, NULL);
  ck_assert_uint_ge(msock_derp_pool_next_expiry(x.p) - x.now, 2 * MSOCK_SEC);
  expire_at(msock_derp_pool_next_expiry(x.p));
  to_open(x.dial.conn);
  x.now += 30 * MSOCK_SEC;
  msock_derp_pool_conn_down(x.p, x.now, x.dial.conn, MSOCK_DERP_DOWN_EOF, NULL);
  ck_assert_uint_le(msock_derp_pool_next_expiry(x.p) - x.now, 15 * MSOCK_MS);
}
END_TEST

/* closes: CLIENT-21 */
START_TEST(restarting_delays_reconnect_and_keeps_home) {
  const msock_derp_conn_id id = home_open();
  const msock_derp_frame f = {.type = MSOCK_DERP_RESTARTING, .u.restarting = {2500, 5000}};
  feed_frame(id, &f);
  ck_assert_uint_eq(saw(MSOCK_DERP_POOL_RESTARTING)->u.restarting.reconnect_in_ms, 2500);
  x.now += 10 * MSOCK_MS;
  const uint64_t lost = x.now;
  msock_derp_pool_conn_down(x.p, x.now, id, MSOCK_DERP_DOWN_EOF, NULL);
  settle();
  ck_assert(saw(MSOCK_DERP_POOL_REGION_DOWN)->u.down.restarting);
  ck_assert(!saw(MSOCK_DERP_POOL_HOME)->u.home.connected);
  ck_assert(saw(MSOCK_DERP_POOL_HOME)->u.home.restarting);
  ck_assert_ptr_null(saw(MSOCK_DERP_POOL_REPROBE));
  ck_assert_uint_eq(expire_at(lost + 2500 * MSOCK_MS - 1), 0);
  ck_assert_uint_eq(expire_at(lost + 2500 * MSOCK_MS), 1);
  const uint64_t until = lost + 7500 * MSOCK_MS;
  while (x.now < until) { /* it refuses all the time */
    uint64_t at = msock_derp_pool_next_expiry(x.p);
    msock_derp_pool_conn_down(x.p, x.now, x.dial.conn, MSOCK_DERP_DOWN_TLS, NULL);
    at = msock_derp_pool_next_expiry(x.p);
    ck_assert_uint_le(at, until);
    ck_assert_ptr_null(saw(MSOCK_DERP_POOL_REPROBE));
    expire_at(at);
  }
  ck_assert_ptr_nonnull(saw(MSOCK_DERP_POOL_REPROBE)); /* given up at that tick */
  ck_assert(!saw(MSOCK_DERP_POOL_HOME)->u.home.restarting);
}
END_TEST

/* closes: CLIENT-22 */
START_TEST(health_is_kept_cleaned_and_cleared) {
  const msock_derp_conn_id id = home_open();
  msock_derp_frame f = {.type = MSOCK_DERP_HEALTH, .u.health = {"a\x1b[1m\xc3\xa4\xff", 8}};
  feed_frame(id, &f);
  ck_assert_str_eq(x.health, "a?[1m\xc3\xa4?");
  ck_assert_str_eq(status_of(1).health, x.health);
  f.u.health.len = 0;
  feed_frame(id, &f);
  ck_assert_str_eq(x.health, "");
  f.u.health.text = "sick";
  f.u.health.len = 4;
  feed_frame(id, &f);
  msock_derp_pool_conn_down(x.p, x.now, id, MSOCK_DERP_DOWN_EOF, NULL);
  settle();
  ck_assert_str_eq(x.health, "");
}
END_TEST

/* closes: CLIENT-23 */
START_TEST(home_switch_tells_both_servers) {
  const msock_derp_conn_id one = home_open();
  send_to(2);
  settle();
  const msock_derp_conn_id two = x.dial.conn;
  to_open(two);
  take(two);
  msock_derp_pool_set_home(x.p, x.now, 2);
  ck_assert_uint_eq(settle(), 0);
  ck_assert_uint_eq(x.n_writes, 2);
  ck_assert(saw(MSOCK_DERP_POOL_HOME)->u.home.connected);
  ck_assert_uint_eq(saw(MSOCK_DERP_POOL_HOME)->region, 2);
  ck_assert_uint_eq(take(one), 6);
  ck_assert_mem_eq(out, "\x07\0\0\0\x01\0", 6);
  ck_assert_uint_eq(take(two), 6);
  ck_assert_mem_eq(out, "\x07\0\0\0\x01\x01", 6);
}
END_TEST

/* closes: POOL-01 */
START_TEST(home_stays_and_others_close_60_to_75_s_after_the_last_write) {
  const uint8_t keep_alive[] = {6, 0, 0, 0, 0};
  const msock_derp_conn_id home = home_open();
  send_to(2);
  settle();
  const msock_derp_conn_id other = x.dial.conn;
  to_open(other);
  x.now += 7 * MSOCK_SEC;
  send_to(2);
  const uint64_t last_write = x.now;
  uint64_t closed_at = 0;
  while (closed_at == 0 && x.now < last_write + 300 * MSOCK_SEC) {
    const uint64_t at = msock_derp_pool_next_expiry(x.p);
    feed(home, keep_alive, 5);
    feed(other, keep_alive, 5); /* receiving does not keep it open */
    hear(other, &x.peer);
    expire_at(at);
    if (was_closed(other)) {
      closed_at = x.now;
    }
    ck_assert(!was_closed(home));
  }
  ck_assert_uint_ge(closed_at - last_write, 60 * MSOCK_SEC);
  ck_assert_uint_le(closed_at - last_write, 75 * MSOCK_SEC);
  ck_assert_int_eq(status_of(2).state, MSOCK_DERP_REGION_IDLE);
  ck_assert_uint_eq(msock_derp_pool_get_counters(x.p).idle_closes, 1);
  for (int i = 0; i < 20; i++) { /* home lives on with keepalives alone, and no sweep wakes us */
    feed(home, keep_alive, 5);
    ck_assert_uint_eq(msock_derp_pool_next_expiry(x.p), x.now + 120 * MSOCK_SEC);
    expire_at(x.now + 62 * MSOCK_SEC);
    ck_assert_int_eq(status_of(1).state, MSOCK_DERP_REGION_OPEN);
  }
}
END_TEST

/* closes: POOL-02 CLIENT-07 */
START_TEST(replies_go_by_the_learned_route_until_peer_gone) {
  const msock_derp_conn_id id = home_open();
  hear(id, &x.peer);
  ck_assert_int_eq(send_to(2), MSOCK_OK); /* the peer's home 2 is not open */
  ck_assert_uint_eq(settle(), 0);
  ck_assert_uint_eq(take(id), 5 + 32 + 4);
  ck_assert_uint_eq(msock_derp_pool_get_counters(x.p).tx_by_route, 1);
  ck_assert_int_eq(send_to(0), MSOCK_OK); /* home unknown: same way */
  ck_assert_uint_eq(take(id), 5 + 32 + 4);
  msock_derp_frame gone = {.type = MSOCK_DERP_PEER_GONE, .u.peer_gone.key = x.peer};
  gone.u.peer_gone.has_reason = _i > 0;
  gone.u.peer_gone.reason = (uint8_t)(_i == 2 ? 0x55 : _i);
  feed_frame(id, &gone);
  ck_assert_ptr_nonnull(saw(MSOCK_DERP_POOL_PEER_GONE));
  ck_assert_int_eq(status_of(1).state, MSOCK_DERP_REGION_OPEN);
  ck_assert_uint_eq(msock_derp_pool_get_counters(x.p).routes, 0);
  ck_assert_int_eq(send_to(0), MSOCK_ERR_UNKNOWN);
  ck_assert_uint_eq(msock_derp_pool_get_counters(x.p).tx_no_route, 1);
  ck_assert_int_eq(send_to(2), MSOCK_OK);
  ck_assert_uint_eq(settle(), 1);
  ck_assert_uint_eq(x.dial.region, 2);
}
END_TEST

START_TEST(peer_gone_on_another_connection_keeps_the_route) {
  const msock_derp_conn_id one = home_open();
  send_to(2);
  settle();
  const msock_derp_conn_id two = x.dial.conn;
  to_open(two);
  hear(one, &x.peer);
  const msock_derp_frame gone = {.type = MSOCK_DERP_PEER_GONE, .u.peer_gone.key = x.peer};
  feed_frame(two, &gone);
  ck_assert_uint_eq(msock_derp_pool_get_counters(x.p).routes, 1);
}
END_TEST

/* closes: POOL-03 */
START_TEST(open_connection_to_the_peers_home_wins) {
  const msock_derp_conn_id one = home_open();
  send_to(2);
  settle();
  const msock_derp_conn_id two = x.dial.conn;
  to_open(two);
  take(two);
  hear(one, &x.peer);
  ck_assert_int_eq(send_to(2), MSOCK_OK);
  ck_assert_uint_eq(take(one), 0);
  ck_assert_uint_eq(take(two), 5 + 32 + 4);
}
END_TEST

static bool is_192(void *ctx, const msock_ip *local) {
  (void)ctx;
  return local->b[0] == 192;
}

static bool none(void *ctx, const msock_ip *local) {
  (void)ctx;
  (void)local;
  return false;
}

/* closes: POOL-05 */
START_TEST(rebind_closes_vanished_and_pings_the_others) {
  const msock_derp_conn_id one = home_open();
  send_to(2);
  settle();
  const msock_derp_conn_id two = x.dial.conn;
  to_open(two);
  take(two);
  msock_derp_pool_on_rebind(x.p, x.now, is_192, NULL);
  ck_assert_uint_eq(settle(), 1); /* home again, the other not */
  ck_assert_uint_eq(x.dial.region, 1);
  ck_assert(was_closed(one) && was_closed(two));
  ck_assert_int_eq(status_of(2).state, MSOCK_DERP_REGION_IDLE);

  to_open(x.dial.conn);
  take(x.dial.conn);
  msock_derp_pool_on_rebind(x.p, x.now, none, NULL);
  settle();
  ck_assert_uint_eq(take(x.dial.conn), 13);
  out[0] = MSOCK_DERP_PONG;
  feed(x.dial.conn, out, 13);
  ck_assert_ptr_nonnull(saw(MSOCK_DERP_POOL_PONG));

  msock_derp_pool_on_rebind(x.p, x.now, none, NULL);
  const uint64_t end = x.now + 3 * MSOCK_SEC;
  const msock_derp_conn_id three = x.dial.conn;
  expire_at(end - 1);
  ck_assert(!was_closed(three));
  expire_at(end);
  ck_assert(was_closed(three));
  ck_assert_str_eq(x.down_text, "no answer to ping");
}
END_TEST

START_TEST(rebind_restarts_dials_and_ends_backoff) {
  msock_derp_pool_set_map(x.p, x.now, &x.map);
  msock_derp_pool_set_private_key(x.p, x.now, &x.me);
  msock_derp_pool_set_home(x.p, x.now, 1);
  settle();
  const msock_derp_conn_id first = x.dial.conn;
  msock_derp_pool_on_rebind(x.p, x.now, none, NULL);
  ck_assert_uint_eq(settle(), 1);
  ck_assert(was_closed(first));
  msock_derp_pool_conn_down(x.p, x.now, x.dial.conn, MSOCK_DERP_DOWN_TLS, NULL);
  ck_assert_uint_eq(settle(), 0);
  msock_derp_pool_on_rebind(x.p, x.now, none, NULL);
  ck_assert_uint_eq(settle(), 1);
}
END_TEST

/* closes: POOL-06 */
START_TEST(map_change_reconnects_only_changed_regions) {
  const msock_derp_conn_id one = home_open();
  send_to(2);
  settle();
  const msock_derp_conn_id two = x.dial.conn;
  to_open(two);
  x.regions[1].score = 0.5; /* netcheck's business */
  msock_derp_pool_set_map(x.p, x.now, &x.map);
  settle();
  ck_assert_uint_eq(x.n_closed, 0);
  x.nodes[0][0].derp_port = 8443;
  msock_derp_pool_set_map(x.p, x.now, &x.map);
  ck_assert_uint_eq(settle(), 1);
  ck_assert(was_closed(one) && !was_closed(two));
  ck_assert_uint_eq(x.dial.node.derp_port, 8443);
  ck_assert_uint_eq(count(MSOCK_DERP_POOL_REPROBE), 1);
  to_open(x.dial.conn);
  const msock_derp_conn_id again = x.dial.conn;

  msock_derp_pool_set_map(x.p, x.now, NULL);
  ck_assert_uint_eq(settle(), 0);
  ck_assert(was_closed(again) && was_closed(two));
  ck_assert(!saw(MSOCK_DERP_POOL_HOME)->u.home.connected);
  ck_assert_int_eq(send_to(2), MSOCK_ERR_UNKNOWN);
  msock_derp_pool_set_map(x.p, x.now, &x.map);
  ck_assert_uint_eq(settle(), 1);
  ck_assert_uint_eq(x.dial.region, 1);
}
END_TEST

START_TEST(region_that_leaves_the_map_is_closed) {
  home_open();
  send_to(3);
  settle();
  const msock_derp_conn_id three = x.dial.conn;
  x.map.n_regions = 2;
  msock_derp_pool_set_map(x.p, x.now, &x.map);
  settle();
  ck_assert(was_closed(three));
  msock_derp_conn_status s;
  ck_assert(!msock_derp_pool_conn_status(x.p, 3, &s));
}
END_TEST

/* closes: POOL-07 */
START_TEST(loss_clears_routes_and_asks_for_one_probe) {
  const msock_derp_conn_id id = home_open();
  hear(id, &x.peer);
  ck_assert_uint_eq(msock_derp_pool_get_counters(x.p).routes, 1);
  msock_derp_pool_conn_down(x.p, x.now, id, MSOCK_DERP_DOWN_IO, "reset");
  settle();
  ck_assert_uint_eq(msock_derp_pool_get_counters(x.p).routes, 0);
  ck_assert_uint_eq(count(MSOCK_DERP_POOL_REPROBE), 1);
  ck_assert(saw(MSOCK_DERP_POOL_REGION_DOWN)->u.down.was_up);
  expire_at(x.now + MSOCK_SEC);
  ck_assert_uint_eq(count(MSOCK_DERP_POOL_REPROBE), 0);
}
END_TEST

/* closes: CLIENT-12 */
START_TEST(silent_home_is_redialled) {
  const msock_derp_conn_id id = home_open();
  expire_at(x.now + 120 * MSOCK_SEC);
  ck_assert(was_closed(id));
  ck_assert_str_eq(x.down_text, "silent for 120 s");
  ck_assert_uint_eq(expire_at(x.now + MSOCK_SEC), 1);
}
END_TEST

START_TEST(key_change_closes_all_and_home_returns) {
  const msock_derp_conn_id id = home_open();
  msock_derp_pool_set_private_key(x.p, x.now, &x.me); /* the same: nothing */
  ck_assert_uint_eq(settle(), 0);
  ck_assert_uint_eq(x.n_closed, 0);
  msock_node_private other = x.server;
  msock_derp_pool_set_private_key(x.p, x.now, &other);
  ck_assert_uint_eq(settle(), 1);
  ck_assert(was_closed(id));
  msock_derp_pool_set_private_key(x.p, x.now, NULL);
  ck_assert_uint_eq(settle(), 0);
  ck_assert_int_eq(send_to(2), MSOCK_ERR_UNKNOWN);
}
END_TEST

START_TEST(network_down_closes_and_up_resumes) {
  const msock_derp_conn_id id = home_open();
  msock_derp_pool_set_network(x.p, x.now, false);
  ck_assert_uint_eq(settle(), 0);
  ck_assert(was_closed(id));
  ck_assert_int_eq(send_to(2), MSOCK_OK); /* waits */
  ck_assert_uint_eq(settle(), 0);
  msock_derp_pool_set_network(x.p, x.now, true);
  ck_assert_uint_eq(settle(), 2);
}
END_TEST

START_TEST(region_without_a_dialable_node_backs_off) {
  for (size_t n = 0; n < 3; n++) {
    x.nodes[0][n].v4 = x.nodes[0][n].v6 = MSOCK_DERP_FAMILY_OFF;
  }
  msock_derp_pool_set_map(x.p, x.now, &x.map);
  msock_derp_pool_set_private_key(x.p, x.now, &x.me);
  msock_derp_pool_set_home(x.p, x.now, 1);
  ck_assert_uint_eq(settle(), 0);
  ck_assert_str_eq(x.down_text, "no address family of the node is enabled");
  ck_assert_uint_gt(msock_derp_pool_next_expiry(x.p), x.now);
  strcpy(x.nodes[0][2].cert_name, "sha256-raw:12");
  msock_derp_pool_set_map(x.p, x.now, &x.map);
  ck_assert_uint_eq(settle(), 0);
}
END_TEST

START_TEST(feeding_is_one_connection_at_a_time) {
  const uint8_t keep_alive[] = {6, 0, 0, 0, 0};
  const msock_derp_conn_id one = home_open();
  send_to(2);
  settle();
  const msock_derp_conn_id two = x.dial.conn;
  to_open(two);
  ck_assert_int_eq(msock_derp_pool_conn_feed(x.p, x.now, one, keep_alive, 5), MSOCK_OK);
  ck_assert_int_eq(msock_derp_pool_conn_feed(x.p, x.now, two, keep_alive, 5), MSOCK_ERR_AGAIN);
  settle();
  ck_assert_int_eq(msock_derp_pool_conn_feed(x.p, x.now, two, keep_alive, 5), MSOCK_OK);
  ck_assert_int_eq(msock_derp_pool_conn_feed(x.p, x.now, 999, keep_alive, 5), MSOCK_ERR_CLOSED);
}
END_TEST

/* The route table against a plain array, through growth, removal and eviction. */
START_TEST(route_table_agrees_with_a_model) {
  msock_derp_routes r;
  static uint64_t model[6000];
  msock_derp_routes_init(&r, &x.env);
  for (int step = 0; step < 20000; step++) {
    const uint64_t i = msock_env_uniform(&x.env, 3000);
    const uint64_t conn = 1 + msock_env_uniform(&x.env, 5);
    msock_node_key k = {{(uint8_t)i, (uint8_t)(i >> 8)}};
    if (msock_env_uniform(&x.env, 3) == 0) {
      msock_derp_routes_remove(&r, &k, conn);
      model[i] = model[i] == conn ? 0 : model[i];
    } else {
      ck_assert_int_eq(msock_derp_routes_set(&r, &k, conn), MSOCK_OK);
      model[i] = conn;
    }
    ck_assert_uint_eq(msock_derp_routes_get(&r, &k), model[i]);
  }
  msock_derp_routes_drop_conn(&r, 2);
  size_t n = 0;
  for (uint64_t i = 0; i < 3000; i++) {
    const msock_node_key k = {{(uint8_t)i, (uint8_t)(i >> 8)}};
    ck_assert_uint_eq(msock_derp_routes_get(&r, &k), model[i] == 2 ? 0 : model[i]);
    n += model[i] != 0 && model[i] != 2;
  }
  ck_assert_uint_eq(r.n, n);
  for (uint64_t i = 0; i < 3 * MSOCK_DERP_ROUTES_MAX; i++) { /* a flood of strangers */
    msock_node_key k = {{0xff, (uint8_t)i, (uint8_t)(i >> 8)}};
    ck_assert_int_eq(msock_derp_routes_set(&r, &k, 9), MSOCK_OK);
    ck_assert_uint_eq(msock_derp_routes_get(&r, &k), 9);
  }
  ck_assert_uint_eq(r.n, MSOCK_DERP_ROUTES_MAX);
  ck_assert_uint_gt(r.evicted, 0);
  msock_derp_routes_drop_conn(&r, 9);
  for (uint64_t conn = 1; conn <= 5; conn++) {
    msock_derp_routes_drop_conn(&r, conn);
  }
  ck_assert_uint_eq(r.n, 0);
  msock_derp_routes_free(&r);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, nothing_is_dialled_without_map_key_and_home);
  tcase_add_test(tc, nodes_in_order_without_stun_only);
  tcase_add_test(tc, the_first_nodes_error_is_reported);
  tcase_add_test(tc, attempt_ends_after_10_s);
  tcase_add_test(tc, fast_start_needs_tls13_and_meta_key_and_is_retried_without);
  tcase_add_test(tc, packets_wait_while_dialling_and_go_out_with_client_info);
  tcase_add_loop_test(tc, backoff_grows_to_the_cap_and_is_jittered, 0, 2);
  tcase_add_test(tc, backoff_starts_again_after_30_s_of_life);
  tcase_add_test(tc, restarting_delays_reconnect_and_keeps_home);
  tcase_add_test(tc, health_is_kept_cleaned_and_cleared);
  tcase_add_test(tc, home_switch_tells_both_servers);
  tcase_add_test(tc, home_stays_and_others_close_60_to_75_s_after_the_last_write);
  tcase_add_loop_test(tc, replies_go_by_the_learned_route_until_peer_gone, 0, 3);
  tcase_add_test(tc, peer_gone_on_another_connection_keeps_the_route);
  tcase_add_test(tc, open_connection_to_the_peers_home_wins);
  tcase_add_test(tc, rebind_closes_vanished_and_pings_the_others);
  tcase_add_test(tc, rebind_restarts_dials_and_ends_backoff);
  tcase_add_test(tc, map_change_reconnects_only_changed_regions);
  tcase_add_test(tc, region_that_leaves_the_map_is_closed);
  tcase_add_test(tc, loss_clears_routes_and_asks_for_one_probe);
  tcase_add_test(tc, silent_home_is_redialled);
  tcase_add_test(tc, key_change_closes_all_and_home_returns);
  tcase_add_test(tc, network_down_closes_and_up_resumes);
  tcase_add_test(tc, region_without_a_dialable_node_backs_off);
  tcase_add_test(tc, feeding_is_one_connection_at_a_time);
  tcase_add_test(tc, route_table_agrees_with_a_model);
  return testing_main("derp_pool", tc);
}
