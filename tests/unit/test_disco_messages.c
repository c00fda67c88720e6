/* Disco messages: lengths at their boundaries, what is refused, what is bounded. The bytes of the
 * reference peer are vectors_disco.c's. */
#include <string.h>

#include "disco/disco.h"
#include "tests/unit/testing.h"

enum { HDR = 2, BIND = 74, VIA = 126, REQUEST = 70, RESPONSE = 130, ENDPOINT = 18 };

static msock_disco_key key(uint8_t fill) {
  msock_disco_key k;
  memset(k.b, fill, sizeof k.b);
  return k;
}

static msock_addr endpoint(uint8_t last) {
  return (msock_addr){.ip = msock_ip_v4(203, 0, 113, last), .port = (uint16_t)(41641 + last)};
}

static msock_disco_relay_endpoint relay(uint8_t n) {
  msock_disco_relay_endpoint m = {.server = key(1),
                                  .clients = {key(2), key(3)},
                                  .lamport_id = UINT64_C(0x0102030405060708),
                                  .vni = 7,
                                  .bind_lifetime_ns = 30 * INT64_C(1000000000),
                                  .steady_lifetime_ns = 300 * INT64_C(1000000000),
                                  .n = n};
  for (uint8_t i = 0; i < n && i < MSOCK_DISCO_ENDPOINTS_MAX; i++) {
    m.endpoints[i] = endpoint(i);
  }
  return m;
}

static msock_disco_bind bind_of(msock_disco_type type) {
  msock_disco_bind m = {.type = type, .vni = 0xabcdef, .generation = 1, .remote = key(9)};
  memset(m.challenge, 0x5a, sizeof m.challenge);
  return m;
}

/* --- Ping --------------------------------------------------------------------------------- */

static const struct {
  const char *name;
  size_t len;
  msock_err want;
  bool has_key;
  uint16_t padding;
} ping_cases[] = {
    {"empty", 0, MSOCK_ERR_SHORT, false, 0},
    {"type alone", 1, MSOCK_ERR_SHORT, false, 0},
    {"one byte short", 13, MSOCK_ERR_SHORT, false, 0},
    {"old peer, no key", 14, MSOCK_OK, false, 0},
    {"31 bytes is padding, not a key", 45, MSOCK_OK, false, 31},
    {"current peer", 46, MSOCK_OK, true, 0},
    {"one byte of padding", 47, MSOCK_OK, true, 1},
    {"the largest payload of a datagram", 65507 - 78, MSOCK_OK, true, 65507 - 78 - 46},
    {"largest padding", 46 + 65535, MSOCK_OK, true, 65535},
    {"over 64 KiB", 46 + 65536, MSOCK_ERR_UNKNOWN, false, 0},
};

static uint8_t big[46 + 65536]; /* zero but for what a test sets */

START_TEST(decode_ping_lengths) {
  msock_disco_ping got = {.padding = 0xbeef};
  memset(big, 0, sizeof big);
  big[0] = MSOCK_DISCO_PING;
  memset(big + HDR, 0x11, MSOCK_DISCO_TXID_LEN);
  memset(big + HDR + MSOCK_DISCO_TXID_LEN, 0x22, MSOCK_KEY_LEN);
  ck_assert_msg(msock_disco_decode_ping(big, ping_cases[_i].len, &got) == ping_cases[_i].want, "%s",
                ping_cases[_i].name);
  if (ping_cases[_i].want != MSOCK_OK) {
    ck_assert_uint_eq(got.padding, 0xbeef); /* output untouched on error */
    return;
  }
  ck_assert_uint_eq(got.txid[0], 0x11);
  ck_assert_uint_eq(got.txid[MSOCK_DISCO_TXID_LEN - 1], 0x11);
  ck_assert_int_eq(got.has_node_key, ping_cases[_i].has_key);
  ck_assert_int_eq(msock_node_key_is_zero(&got.node_key), !ping_cases[_i].has_key);
  ck_assert_uint_eq(got.padding, ping_cases[_i].padding);
}
END_TEST

START_TEST(a_zero_node_key_is_no_key_and_its_place_is_padding) {
  uint8_t in[80] = {MSOCK_DISCO_PING};
  msock_disco_ping got;

  ck_assert_int_eq(msock_disco_decode_ping(in, 46, &got), MSOCK_OK);
  ck_assert(!got.has_node_key);
  ck_assert_uint_eq(got.padding, 32);
  in[79] = 1; /* what follows 32 zero bytes does not matter */
  ck_assert_int_eq(msock_disco_decode_ping(in, 80, &got), MSOCK_OK);
  ck_assert(!got.has_node_key);
  ck_assert_uint_eq(got.padding, 66);
  in[45] = 1; /* the last byte of the key */
  ck_assert_int_eq(msock_disco_decode_ping(in, 80, &got), MSOCK_OK);
  ck_assert(got.has_node_key);
  ck_assert_uint_eq(got.padding, 34);
}
END_TEST

START_TEST(any_ping_version_is_read) {
  uint8_t in[46] = {MSOCK_DISCO_PING, 0xff, [45] = 1};
  msock_disco_ping got;
  ck_assert_int_eq(msock_disco_decode_ping(in, sizeof in, &got), MSOCK_OK);
  ck_assert(got.has_node_key);
}
END_TEST

START_TEST(encode_ping_lengths) {
  uint8_t out[200];
  msock_disco_ping m = {.padding = 5};
  memset(m.node_key.b, 0x22, sizeof m.node_key.b);

  memset(out, 0xee, sizeof out);
  ck_assert_int_eq(msock_disco_encode_ping(&m, out, 18), MSOCK_ERR_NOBUF);
  ck_assert_uint_eq(out[0], 0xee); /* untouched */
  ck_assert_int_eq(msock_disco_encode_ping(&m, out, 19), 19);
  ck_assert_uint_eq(out[18], 0); /* padding is zero */
  ck_assert_uint_eq(out[19], 0xee);

  m.has_node_key = true;
  ck_assert_int_eq(msock_disco_encode_ping(&m, out, 50), MSOCK_ERR_NOBUF);
  ck_assert_int_eq(msock_disco_encode_ping(&m, out, 51), 51);
  ck_assert_uint_eq(out[14], 0x22);
  ck_assert_uint_eq(out[46], 0);
  m.node_key = (msock_node_key){{0}};
  ck_assert_int_eq(msock_disco_encode_ping(&m, out, 51), MSOCK_ERR_INVALID);
}
END_TEST

/* --- Pong --------------------------------------------------------------------------------- */

/* part of DISCO-12 (on the wire; the engine's tests have the socket's side) */
START_TEST(pong_sources_are_unmapped) {
  static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, 203, 0, 113, 7};
  static const uint8_t compatible[16] = {[12] = 203, 0, 113, 7};
  uint8_t four[64], six[64];
  msock_disco_pong m = {.src = {.ip = msock_ip_v4(203, 0, 113, 7), .port = 50000}}, got;

  ck_assert_int_eq(msock_disco_encode_pong(&m, four, sizeof four), MSOCK_DISCO_PONG_LEN);
  m.src.ip = msock_ip_from_bytes16(mapped);
  ck_assert_int_eq(msock_disco_encode_pong(&m, six, sizeof six), MSOCK_DISCO_PONG_LEN);
  ck_assert_mem_eq(four, six, MSOCK_DISCO_PONG_LEN);
  ck_assert_int_eq(msock_disco_decode_pong(six, MSOCK_DISCO_PONG_LEN, &got), MSOCK_OK);
  ck_assert_uint_eq(got.src.ip.family, 4);

  m.src.ip = msock_ip_from_bytes16(compatible);
  ck_assert_int_eq(msock_disco_encode_pong(&m, six, sizeof six), MSOCK_DISCO_PONG_LEN);
  ck_assert_int_eq(msock_disco_decode_pong(six, MSOCK_DISCO_PONG_LEN, &got), MSOCK_OK);
  ck_assert_uint_eq(got.src.ip.family, 6);
  ck_assert(msock_addr_equal(&got.src, &m.src));
}
END_TEST

START_TEST(pong_lengths) {
  uint8_t buf[40] = {0};
  msock_disco_pong m = {.src = endpoint(7)}, got = {.src.port = 1};

  ck_assert_int_eq(msock_disco_encode_pong(&m, buf, 31), MSOCK_ERR_NOBUF);
  ck_assert_uint_eq(buf[0], 0);
  ck_assert_int_eq(msock_disco_encode_pong(&m, buf, 32), 32);
  ck_assert_int_eq(msock_disco_decode_pong(buf, 31, &got), MSOCK_ERR_SHORT);
  ck_assert_uint_eq(got.src.port, 1);
  buf[1] = 9; /* any version */
  for (size_t len = 32; len <= sizeof buf; len++) {
    ck_assert_int_eq(msock_disco_decode_pong(buf, len, &got), MSOCK_OK);
    ck_assert(msock_addr_equal(&got.src, &m.src));
  }
  ck_assert_int_eq(msock_disco_encode_pong(&(msock_disco_pong){.txid = {1}}, buf, 32),
                   MSOCK_ERR_INVALID);
}
END_TEST

/* --- Call-me-maybe ------------------------------------------------------------------------ */

static const struct {
  const char *name;
  uint8_t version;
  size_t len;
  msock_err want;
} cmm_cases[] = {
    {"type alone", 0, 1, MSOCK_ERR_SHORT},        {"empty", 0, 2, MSOCK_ERR_INVALID},
    {"17 bytes", 0, 19, MSOCK_ERR_INVALID},       {"one endpoint", 0, 20, MSOCK_OK},
    {"one and a byte", 0, 21, MSOCK_ERR_INVALID}, {"two endpoints", 0, 38, MSOCK_OK},
    {"version 1", 1, 20, MSOCK_ERR_UNKNOWN},      {"version 255, empty", 255, 2, MSOCK_ERR_UNKNOWN},
};

/* part of DISCO-20 (nothing comes out of the decoder that could change state) */
START_TEST(malformed_call_me_maybe_gives_nothing) {
  uint8_t in[64] = {MSOCK_DISCO_CALL_ME_MAYBE, cmm_cases[_i].version};
  msock_disco_call_me_maybe got, before;
  memset(&got, 0x77, sizeof got);
  before = got;
  ck_assert_msg(msock_disco_decode_call_me_maybe(in, cmm_cases[_i].len, &got) == cmm_cases[_i].want,
                "%s", cmm_cases[_i].name);
  if (cmm_cases[_i].want != MSOCK_OK) {
    ck_assert_mem_eq(&got, &before, sizeof got);
  } else {
    ck_assert_uint_eq(got.n, (cmm_cases[_i].len - HDR) / ENDPOINT);
    ck_assert_uint_eq(got.left_out, 0);
  }
}
END_TEST

START_TEST(call_me_maybe_is_bounded_and_keeps_the_first) {
  enum { N = 3636 }; /* what a relay's frame can hold: magicsock.md 1.7 */
  static uint8_t in[HDR + N * ENDPOINT];
  msock_disco_call_me_maybe got;

  memset(in, 0, sizeof in);
  in[0] = MSOCK_DISCO_CALL_ME_MAYBE;
  for (size_t i = 0; i < N; i++) {
    uint8_t *p = in + HDR + i * ENDPOINT;
    p[0] = 0x20;
    p[16] = (uint8_t)(i >> 8);
    p[17] = (uint8_t)i;
  }
  ck_assert_int_eq(msock_disco_decode_call_me_maybe(in, sizeof in, &got), MSOCK_OK);
  ck_assert_uint_eq(got.n, MSOCK_DISCO_ENDPOINTS_MAX);
  ck_assert_uint_eq(got.left_out, N - MSOCK_DISCO_ENDPOINTS_MAX);
  ck_assert_uint_eq(got.endpoints[MSOCK_DISCO_ENDPOINTS_MAX - 1].port,
                    MSOCK_DISCO_ENDPOINTS_MAX - 1);
  ck_assert_int_eq(msock_disco_decode_call_me_maybe(in, HDR + 16 * ENDPOINT, &got), MSOCK_OK);
  ck_assert_uint_eq(got.left_out, 0);
  ck_assert_int_eq(msock_disco_decode_call_me_maybe(in, HDR + 17 * ENDPOINT, &got), MSOCK_OK);
  ck_assert_uint_eq(got.left_out, 1);
}
END_TEST

START_TEST(call_me_maybe_that_may_not_be_sent) {
  uint8_t out[HDR + MSOCK_DISCO_ENDPOINTS_MAX * ENDPOINT] = {0};
  msock_disco_call_me_maybe m = {.n = MSOCK_DISCO_ENDPOINTS_MAX}, got;

  ck_assert_int_eq(msock_disco_encode_call_me_maybe(&m, out, sizeof out), MSOCK_ERR_INVALID);
  for (uint8_t i = 0; i < m.n; i++) {
    m.endpoints[i] = endpoint(i);
  }
  ck_assert_int_eq(msock_disco_encode_call_me_maybe(&m, out, sizeof out - 1), MSOCK_ERR_NOBUF);
  ck_assert_uint_eq(out[0], 0);
  ck_assert_int_eq(msock_disco_encode_call_me_maybe(&m, out, sizeof out), sizeof out);
  ck_assert_int_eq(msock_disco_decode_call_me_maybe(out, sizeof out, &got), MSOCK_OK);
  ck_assert_uint_eq(got.n, m.n);
  for (uint8_t i = 0; i < m.n; i++) {
    ck_assert(msock_addr_equal(&got.endpoints[i], &m.endpoints[i]));
  }
  m.n++;
  ck_assert_int_eq(msock_disco_encode_call_me_maybe(&m, out, sizeof out), MSOCK_ERR_INVALID);
}
END_TEST

/* --- Peer relays -------------------------------------------------------------------------- */

START_TEST(bind_lengths_types_and_values) {
  uint8_t buf[BIND + 8] = {0};
  const msock_disco_bind m = bind_of((msock_disco_type)_i);
  msock_disco_bind got = {.vni = 1}, bad;

  ck_assert_int_eq(msock_disco_encode_bind(&m, buf, BIND - 1), MSOCK_ERR_NOBUF);
  ck_assert_uint_eq(buf[0], 0);
  ck_assert_int_eq(msock_disco_encode_bind(&m, buf, BIND), BIND);
  ck_assert_int_eq(msock_disco_decode_bind(buf, BIND - 1, &got), MSOCK_ERR_SHORT);
  ck_assert_uint_eq(got.vni, 1);
  buf[1] = 3; /* any version, and trailing bytes */
  ck_assert_int_eq(msock_disco_decode_bind(buf, sizeof buf, &got), MSOCK_OK);
  ck_assert_int_eq(got.type, m.type);
  ck_assert_uint_eq(got.vni, m.vni);
  ck_assert_uint_eq(got.generation, m.generation);
  ck_assert(msock_disco_key_equal(&got.remote, &m.remote));
  ck_assert_mem_eq(got.challenge, m.challenge, sizeof m.challenge);

  bad = m;
  bad.vni = 0;
  ck_assert_int_eq(msock_disco_encode_bind(&bad, buf, BIND), MSOCK_ERR_INVALID);
  bad.vni = MSOCK_GENEVE_VNI_MAX + 1;
  ck_assert_int_eq(msock_disco_encode_bind(&bad, buf, BIND), MSOCK_ERR_INVALID);
  bad.vni = MSOCK_GENEVE_VNI_MAX;
  ck_assert_int_eq(msock_disco_encode_bind(&bad, buf, BIND), BIND);
  bad.remote = key(0);
  ck_assert_int_eq(msock_disco_encode_bind(&bad, buf, BIND), MSOCK_ERR_INVALID);
  bad = m;
  bad.type = MSOCK_DISCO_PING;
  ck_assert_int_eq(msock_disco_encode_bind(&bad, buf, BIND), MSOCK_ERR_INVALID);

  memset(buf + HDR, 0, 4); /* VNI */
  ck_assert_int_eq(msock_disco_decode_bind(buf, BIND, &got), MSOCK_ERR_INVALID);
  buf[HDR] = 1; /* 2^24 */
  ck_assert_int_eq(msock_disco_decode_bind(buf, BIND, &got), MSOCK_ERR_INVALID);
  buf[HDR] = 0;
  buf[HDR + 3] = 1;
  ck_assert_int_eq(msock_disco_decode_bind(buf, BIND, &got), MSOCK_OK);
  memset(buf + HDR + 8, 0, MSOCK_KEY_LEN);
  ck_assert_int_eq(msock_disco_decode_bind(buf, BIND, &got), MSOCK_ERR_INVALID);
}
END_TEST

static void vni_zero(msock_disco_relay_endpoint *m) {
  m->vni = 0;
}
static void vni_large(msock_disco_relay_endpoint *m) {
  m->vni = MSOCK_GENEVE_VNI_MAX + 1;
}
static void bind_zero(msock_disco_relay_endpoint *m) {
  m->bind_lifetime_ns = 0;
}
static void bind_negative(msock_disco_relay_endpoint *m) {
  m->bind_lifetime_ns = INT64_MIN;
}
static void steady_zero(msock_disco_relay_endpoint *m) {
  m->steady_lifetime_ns = 0;
}
static void steady_negative(msock_disco_relay_endpoint *m) {
  m->steady_lifetime_ns = -1;
}
static void server_zero(msock_disco_relay_endpoint *m) {
  m->server = key(0);
}
static void first_zero(msock_disco_relay_endpoint *m) {
  m->clients[0] = key(0);
}
static void second_zero(msock_disco_relay_endpoint *m) {
  m->clients[1] = key(0);
}

/* The same change on the wire, where our encoder would refuse it. */
static const struct {
  const char *name;
  void (*spoil)(msock_disco_relay_endpoint *m);
  size_t at, len; /* in the relay endpoint */
  uint8_t fill;
} relay_cases[] = {
    {"VNI 0", vni_zero, 104, 4, 0},
    {"VNI over 24 bits", vni_large, 104, 1, 1},
    {"bind lifetime 0", bind_zero, 108, 8, 0},
    {"bind lifetime negative", bind_negative, 108, 1, 0x80},
    {"steady lifetime 0", steady_zero, 116, 8, 0},
    {"steady lifetime negative", steady_negative, 116, 8, 0xff},
    {"zero server key", server_zero, 0, 32, 0},
    {"zero client key", first_zero, 32, 32, 0},
    {"zero second client key", second_zero, 64, 32, 0},
};

/* part of RELAY-12 (nothing comes out of the decoder) */
START_TEST(relay_endpoints_no_peer_of_good_will_sends) {
  uint8_t via[MSOCK_DISCO_MESSAGE_MAX], response[MSOCK_DISCO_MESSAGE_MAX];
  msock_disco_relay_endpoint m = relay(2), got, before;
  msock_disco_allocate_response r = {.generation = 5, .relay = m}, got_r, before_r;

  memset(&got, 0x77, sizeof got);
  memset(&got_r, 0x77, sizeof got_r);
  before = got;
  before_r = got_r;
  const ptrdiff_t via_len = msock_disco_encode_call_me_maybe_via(&m, via, sizeof via);
  const ptrdiff_t response_len =
      msock_disco_encode_allocate_response(&r, response, sizeof response);
  ck_assert_int_eq(via_len, VIA + 2 * ENDPOINT);
  ck_assert_int_eq(response_len, RESPONSE + 2 * ENDPOINT);

  memset(via + HDR + relay_cases[_i].at, relay_cases[_i].fill, relay_cases[_i].len);
  memset(response + HDR + 4 + relay_cases[_i].at, relay_cases[_i].fill, relay_cases[_i].len);
  ck_assert_msg(msock_disco_decode_call_me_maybe_via(via, (size_t)via_len, &got) ==
                    MSOCK_ERR_INVALID,
                "%s", relay_cases[_i].name);
  ck_assert_int_eq(msock_disco_decode_allocate_response(response, (size_t)response_len, &got_r),
                   MSOCK_ERR_INVALID);
  ck_assert_mem_eq(&got, &before, sizeof got);
  ck_assert_mem_eq(&got_r, &before_r, sizeof got_r);

  relay_cases[_i].spoil(&m);
  relay_cases[_i].spoil(&r.relay);
  ck_assert_int_eq(msock_disco_encode_call_me_maybe_via(&m, via, sizeof via), MSOCK_ERR_INVALID);
  ck_assert_int_eq(msock_disco_encode_allocate_response(&r, response, sizeof response),
                   MSOCK_ERR_INVALID);
}
END_TEST

START_TEST(relay_endpoint_lengths) {
  static uint8_t buf[RESPONSE + 20 * ENDPOINT];
  msock_disco_relay_endpoint m = relay(MSOCK_DISCO_ENDPOINTS_MAX), got;
  const msock_disco_allocate_response r = {.generation = UINT32_MAX, .relay = m};
  msock_disco_allocate_response got_r;

  memset(buf, 0, sizeof buf);
  ck_assert_int_eq(msock_disco_encode_allocate_response(&r, buf, MSOCK_DISCO_MESSAGE_MAX - 1),
                   MSOCK_ERR_NOBUF);
  ck_assert_uint_eq(buf[0], 0);
  ck_assert_int_eq(msock_disco_encode_allocate_response(&r, buf, sizeof buf),
                   MSOCK_DISCO_MESSAGE_MAX);
  ck_assert_int_eq(msock_disco_decode_allocate_response(buf, RESPONSE, &got_r), MSOCK_ERR_SHORT);
  ck_assert_int_eq(msock_disco_decode_allocate_response(buf, RESPONSE + 17, &got_r),
                   MSOCK_ERR_SHORT);
  ck_assert_int_eq(msock_disco_decode_allocate_response(buf, RESPONSE + 19, &got_r),
                   MSOCK_ERR_INVALID);
  ck_assert_int_eq(msock_disco_decode_allocate_response(buf, sizeof buf, &got_r), MSOCK_OK);
  ck_assert_uint_eq(got_r.relay.n, MSOCK_DISCO_ENDPOINTS_MAX);
  ck_assert_uint_eq(got_r.relay.left_out, 4);
  ck_assert_uint_eq(got_r.generation, UINT32_MAX);
  ck_assert_uint_eq(got_r.relay.lamport_id, m.lamport_id);
  ck_assert_int_eq(got_r.relay.bind_lifetime_ns, m.bind_lifetime_ns);
  ck_assert_int_eq(got_r.relay.steady_lifetime_ns, m.steady_lifetime_ns);
  ck_assert(msock_addr_equal(&got_r.relay.endpoints[15], &m.endpoints[15]));

  ck_assert_int_eq(msock_disco_encode_call_me_maybe_via(&m, buf, sizeof buf),
                   VIA + MSOCK_DISCO_ENDPOINTS_MAX * ENDPOINT);
  ck_assert_int_eq(msock_disco_decode_call_me_maybe_via(buf, VIA + 17, &got), MSOCK_ERR_SHORT);
  ck_assert_int_eq(msock_disco_decode_call_me_maybe_via(buf, VIA + 18, &got), MSOCK_OK);
  ck_assert_uint_eq(got.n, 1);
  buf[1] = 1;
  ck_assert_int_eq(msock_disco_decode_call_me_maybe_via(buf, VIA + 18, &got), MSOCK_ERR_UNKNOWN);
  m.n = 0;
  ck_assert_int_eq(msock_disco_encode_call_me_maybe_via(&m, buf, sizeof buf), MSOCK_ERR_INVALID);
  m.n = MSOCK_DISCO_ENDPOINTS_MAX + 1;
  ck_assert_int_eq(msock_disco_encode_call_me_maybe_via(&m, buf, sizeof buf), MSOCK_ERR_INVALID);
  m.n = 1;
  m.endpoints[0].ip.family = 0;
  ck_assert_int_eq(msock_disco_encode_call_me_maybe_via(&m, buf, sizeof buf), MSOCK_ERR_INVALID);
}
END_TEST

START_TEST(allocate_request_lengths_and_values) {
  uint8_t buf[REQUEST + 3] = {0};
  msock_disco_allocate_request m = {.clients = {key(2), key(3)}, .generation = 7};
  msock_disco_allocate_request got = {.generation = 99};

  ck_assert_int_eq(msock_disco_encode_allocate_request(&m, buf, REQUEST - 1), MSOCK_ERR_NOBUF);
  ck_assert_uint_eq(buf[0], 0);
  ck_assert_int_eq(msock_disco_encode_allocate_request(&m, buf, REQUEST), REQUEST);
  ck_assert_int_eq(msock_disco_decode_allocate_request(buf, REQUEST - 1, &got), MSOCK_ERR_SHORT);
  ck_assert_uint_eq(got.generation, 99);
  ck_assert_int_eq(msock_disco_decode_allocate_request(buf, sizeof buf, &got), MSOCK_OK);
  ck_assert_uint_eq(got.generation, 7);
  ck_assert(msock_disco_key_equal(&got.clients[1], &m.clients[1]));
  buf[1] = 1;
  ck_assert_int_eq(msock_disco_decode_allocate_request(buf, REQUEST, &got), MSOCK_ERR_UNKNOWN);
  buf[1] = 0;
  memset(buf + HDR + MSOCK_KEY_LEN, 0, MSOCK_KEY_LEN);
  ck_assert_int_eq(msock_disco_decode_allocate_request(buf, REQUEST, &got), MSOCK_ERR_INVALID);
  m.clients[0] = key(0);
  ck_assert_int_eq(msock_disco_encode_allocate_request(&m, buf, REQUEST), MSOCK_ERR_INVALID);
}
END_TEST

START_TEST(pairs_sort_by_bytes_in_place_too) {
  msock_disco_key pair[2] = {key(0x80), key(0x7f)};
  msock_disco_pair_sort(&pair[0], &pair[1], pair);
  ck_assert_uint_eq(pair[0].b[0], 0x7f);
  ck_assert_uint_eq(pair[1].b[0], 0x80);
  msock_disco_pair_sort(&pair[0], &pair[1], pair);
  ck_assert_uint_eq(pair[0].b[0], 0x7f);
}
END_TEST

/* --- All types ---------------------------------------------------------------------------- */

START_TEST(types_and_their_names) {
  const uint8_t known = _i >= MSOCK_DISCO_PING && _i <= MSOCK_DISCO_ALLOCATE_RESPONSE;
  const uint8_t in[2] = {(uint8_t)_i, 0xff};
  msock_disco_type got = MSOCK_DISCO_PING;

  ck_assert_int_eq(msock_disco_type_of(in, 0, &got), MSOCK_ERR_SHORT);
  ck_assert_int_eq(msock_disco_type_of(in, 1, &got), MSOCK_ERR_SHORT);
  ck_assert_int_eq(msock_disco_type_of(in, 2, &got), known ? MSOCK_OK : MSOCK_ERR_UNKNOWN);
  ck_assert_int_eq(got, known ? _i : MSOCK_DISCO_PING);
  ck_assert_int_eq(strcmp(msock_disco_type_text((msock_disco_type)_i), "unknown") != 0, known);
}
END_TEST

/* Runs every decoder; gives how many took the message. */
static int decode_with_all(const uint8_t *p, size_t len) {
  union {
    msock_disco_ping ping;
    msock_disco_pong pong;
    msock_disco_call_me_maybe cmm;
    msock_disco_bind bind;
    msock_disco_relay_endpoint via;
    msock_disco_allocate_request request;
    msock_disco_allocate_response response;
  } m;
  return (msock_disco_decode_ping(p, len, &m.ping) == MSOCK_OK) +
         (msock_disco_decode_pong(p, len, &m.pong) == MSOCK_OK) +
         (msock_disco_decode_call_me_maybe(p, len, &m.cmm) == MSOCK_OK) +
         (msock_disco_decode_bind(p, len, &m.bind) == MSOCK_OK) +
         (msock_disco_decode_call_me_maybe_via(p, len, &m.via) == MSOCK_OK) +
         (msock_disco_decode_allocate_request(p, len, &m.request) == MSOCK_OK) +
         (msock_disco_decode_allocate_response(p, len, &m.response) == MSOCK_OK);
}

START_TEST(a_decoder_takes_its_own_types_only) {
  uint8_t in[RESPONSE + ENDPOINT]; /* long enough for all, a whole list for none but its own */
  for (int type = 0; type < 256; type++) {
    for (size_t len = 0; len <= sizeof in; len++) {
      memset(in, 1, sizeof in);
      in[0] = (uint8_t)type;
      in[1] = 0;
      memset(in + HDR, 0, 4); /* VNI of a bind: 24 bits */
      in[HDR + 3] = 1;
      const bool known = type >= MSOCK_DISCO_PING && type <= MSOCK_DISCO_ALLOCATE_RESPONSE;
      ck_assert_int_le(decode_with_all(in, len), known ? 1 : 0);
    }
  }
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, decode_ping_lengths, 0, sizeof ping_cases / sizeof ping_cases[0]);
  tcase_add_test(tc, a_zero_node_key_is_no_key_and_its_place_is_padding);
  tcase_add_test(tc, any_ping_version_is_read);
  tcase_add_test(tc, encode_ping_lengths);
  tcase_add_test(tc, pong_sources_are_unmapped);
  tcase_add_test(tc, pong_lengths);
  tcase_add_loop_test(tc, malformed_call_me_maybe_gives_nothing, 0,
                      sizeof cmm_cases / sizeof cmm_cases[0]);
  tcase_add_test(tc, call_me_maybe_is_bounded_and_keeps_the_first);
  tcase_add_test(tc, call_me_maybe_that_may_not_be_sent);
  tcase_add_loop_test(tc, bind_lengths_types_and_values, MSOCK_DISCO_BIND,
                      MSOCK_DISCO_BIND_ANSWER + 1);
  tcase_add_loop_test(tc, relay_endpoints_no_peer_of_good_will_sends, 0,
                      sizeof relay_cases / sizeof relay_cases[0]);
  tcase_add_test(tc, relay_endpoint_lengths);
  tcase_add_test(tc, allocate_request_lengths_and_values);
  tcase_add_test(tc, pairs_sort_by_bytes_in_place_too);
  tcase_add_loop_test(tc, types_and_their_names, 0, 256);
  tcase_add_test(tc, a_decoder_takes_its_own_types_only);
  return testing_main("disco_messages", tc);
}
