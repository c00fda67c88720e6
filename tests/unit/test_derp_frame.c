/* The DERP frame codec and the boxed login frames: boundaries of every type. */
#include <string.h>

#include "crypto/box.h"
#include "crypto/x25519.h"
#include "derp/frame.h"
#include "derp/login.h"
#include "tests/unit/testing.h"

static const struct {
  const char *name;
  uint8_t type;
  size_t len;
  msock_err want;
} lengths[] = {
    {"ServerInfo of any length is left to the box", MSOCK_DERP_SERVER_INFO, 0, MSOCK_OK},
    {"ClientInfo 55", MSOCK_DERP_CLIENT_INFO, 55, MSOCK_ERR_SHORT},
    {"ClientInfo 56", MSOCK_DERP_CLIENT_INFO, 56, MSOCK_OK},
    {"ClientInfo 256 KiB", MSOCK_DERP_CLIENT_INFO, 262144, MSOCK_OK},
    {"ClientInfo 256 KiB + 1", MSOCK_DERP_CLIENT_INFO, 262145, MSOCK_ERR_INVALID},
    {"SendPacket 31", MSOCK_DERP_SEND_PACKET, 31, MSOCK_ERR_SHORT},
    {"SendPacket empty", MSOCK_DERP_SEND_PACKET, 32, MSOCK_OK},
    {"SendPacket largest", MSOCK_DERP_SEND_PACKET, 32 + 65536, MSOCK_OK},
    {"SendPacket too large", MSOCK_DERP_SEND_PACKET, 32 + 65537, MSOCK_ERR_INVALID},
    {"RecvPacket 31", MSOCK_DERP_RECV_PACKET, 31, MSOCK_ERR_SHORT},
    {"RecvPacket largest", MSOCK_DERP_RECV_PACKET, 32 + 65536, MSOCK_OK},
    {"KeepAlive", MSOCK_DERP_KEEP_ALIVE, 0, MSOCK_OK},
    {"KeepAlive with a body", MSOCK_DERP_KEEP_ALIVE, 9, MSOCK_OK},
    {"NotePreferred 0", MSOCK_DERP_NOTE_PREFERRED, 0, MSOCK_ERR_SHORT},
    {"NotePreferred 1", MSOCK_DERP_NOTE_PREFERRED, 1, MSOCK_OK},
    {"NotePreferred 2", MSOCK_DERP_NOTE_PREFERRED, 2, MSOCK_ERR_INVALID},
    {"PeerGone 31", MSOCK_DERP_PEER_GONE, 31, MSOCK_ERR_SHORT},
    {"PeerGone of an old server", MSOCK_DERP_PEER_GONE, 32, MSOCK_OK},
    {"PeerGone", MSOCK_DERP_PEER_GONE, 33, MSOCK_OK},
    {"PeerPresent 31", MSOCK_DERP_PEER_PRESENT, 31, MSOCK_ERR_SHORT},
    {"PeerPresent 32", MSOCK_DERP_PEER_PRESENT, 32, MSOCK_OK},
    {"PeerPresent 49", MSOCK_DERP_PEER_PRESENT, 49, MSOCK_OK},
    {"PeerPresent longer", MSOCK_DERP_PEER_PRESENT, 60, MSOCK_OK},
    {"ForwardPacket 63", MSOCK_DERP_FORWARD_PACKET, 63, MSOCK_ERR_SHORT},
    {"ForwardPacket largest", MSOCK_DERP_FORWARD_PACKET, 64 + 65536, MSOCK_OK},
    {"ForwardPacket too large", MSOCK_DERP_FORWARD_PACKET, 64 + 65537, MSOCK_ERR_INVALID},
    {"WatchConns", MSOCK_DERP_WATCH_CONNS, 0, MSOCK_OK},
    {"WatchConns 1", MSOCK_DERP_WATCH_CONNS, 1, MSOCK_ERR_INVALID},
    {"ClosePeer 31", MSOCK_DERP_CLOSE_PEER, 31, MSOCK_ERR_SHORT},
    {"ClosePeer", MSOCK_DERP_CLOSE_PEER, 32, MSOCK_OK},
    {"ClosePeer 33", MSOCK_DERP_CLOSE_PEER, 33, MSOCK_ERR_INVALID},
    {"Ping 7", MSOCK_DERP_PING, 7, MSOCK_ERR_SHORT},
    {"Ping 8", MSOCK_DERP_PING, 8, MSOCK_OK},
    {"Ping longer", MSOCK_DERP_PING, 1000, MSOCK_OK},
    {"Pong 7", MSOCK_DERP_PONG, 7, MSOCK_ERR_SHORT},
    {"Health empty", MSOCK_DERP_HEALTH, 0, MSOCK_OK},
    {"Restarting 7", MSOCK_DERP_RESTARTING, 7, MSOCK_ERR_SHORT},
    {"Restarting 8", MSOCK_DERP_RESTARTING, 8, MSOCK_OK},
    {"the future", 0x7f, 4, MSOCK_ERR_UNKNOWN},
};

static uint8_t big[300000];

START_TEST(decode_lengths) {
  msock_derp_frame f = {.type = 0xee};
  memset(big, 0xa5, sizeof big);
  ck_assert_msg(msock_derp_frame_decode(lengths[_i].type, big, lengths[_i].len, &f) ==
                    lengths[_i].want,
                "%s", lengths[_i].name);
  ck_assert_uint_eq(f.type, lengths[_i].want == MSOCK_OK ? lengths[_i].type : 0xee);
}
END_TEST

START_TEST(server_key_bounds) {
  uint8_t p[1100] = {0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91};
  msock_derp_frame f;
  ck_assert_int_eq(msock_derp_frame_decode(MSOCK_DERP_SERVER_KEY, p, 39, &f), MSOCK_ERR_SHORT);
  ck_assert_int_eq(msock_derp_frame_decode(MSOCK_DERP_SERVER_KEY, p, 40, &f), MSOCK_OK);
  ck_assert_uint_eq(f.u.server_key.extension_len, 0);
  ck_assert_int_eq(msock_derp_frame_decode(MSOCK_DERP_SERVER_KEY, p, 1024, &f), MSOCK_OK);
  ck_assert_uint_eq(f.u.server_key.extension_len, 984);
  ck_assert_int_eq(msock_derp_frame_decode(MSOCK_DERP_SERVER_KEY, p, 1025, &f), MSOCK_ERR_INVALID);
  for (size_t i = 0; i < MSOCK_DERP_MAGIC_LEN; i++) {
    p[i] ^= 1;
    ck_assert_int_eq(msock_derp_frame_decode(MSOCK_DERP_SERVER_KEY, p, 40, &f), MSOCK_ERR_INVALID);
    p[i] ^= 1;
  }
}
END_TEST

START_TEST(encode_writes_nothing_when_it_does_not_fit) {
  msock_derp_frame f = {.type = MSOCK_DERP_SEND_PACKET};
  uint8_t dst[64];
  f.u.packet.data = big;
  f.u.packet.len = 20;
  memset(dst, 0x5a, sizeof dst);
  ck_assert_int_eq(msock_derp_frame_encode(&f, dst, 56), MSOCK_ERR_NOBUF);
  for (size_t i = 0; i < sizeof dst; i++) {
    ck_assert_uint_eq(dst[i], 0x5a);
  }
  ck_assert_int_eq(msock_derp_frame_encode(&f, dst, 57), 57);
  f.u.packet.data = big + 100000;
  f.u.packet.len = MSOCK_DERP_PACKET_MAX + 1;
  ck_assert_int_eq(msock_derp_frame_encode(&f, big, 90000), MSOCK_ERR_INVALID);
  f = (msock_derp_frame){.type = 0x7f};
  ck_assert_int_eq(msock_derp_frame_encode(&f, dst, sizeof dst), MSOCK_ERR_INVALID);
}
END_TEST

START_TEST(peer_present_keeps_v6_and_unmaps_v4) {
  msock_derp_frame f = {.type = MSOCK_DERP_PEER_PRESENT}, got;
  uint8_t buf[64];
  f.u.peer_present.has_addr = true;
  f.u.peer_present.addr = (msock_addr){msock_ip_v4(192, 0, 2, 1), 99};
  ck_assert_int_eq(msock_derp_frame_encode(&f, buf, sizeof buf), 5 + 50);
  ck_assert_int_eq(msock_derp_frame_decode(f.type, buf + 5, 50, &got), MSOCK_OK);
  ck_assert(msock_addr_equal(&got.u.peer_present.addr, &f.u.peer_present.addr));
  ck_assert(!got.u.peer_present.has_flags);
  f.u.peer_present.has_flags = true;
  f.u.peer_present.flags = MSOCK_DERP_PRESENT_PROBER;
  ck_assert_int_eq(msock_ip_parse("2001:db8::9", &f.u.peer_present.addr.ip), MSOCK_OK);
  ck_assert_int_eq(msock_derp_frame_encode(&f, buf, sizeof buf), 5 + 51);
  ck_assert_int_eq(msock_derp_frame_decode(f.type, buf + 5, 51, &got), MSOCK_OK);
  ck_assert(msock_addr_equal(&got.u.peer_present.addr, &f.u.peer_present.addr));
  ck_assert_uint_eq(got.u.peer_present.flags, MSOCK_DERP_PRESENT_PROBER);
}
END_TEST

typedef struct login_fixture {
  testing_rng rng;
  msock_env env;
  msock_node_private me, server;
  msock_node_key me_public, server_public;
  uint8_t frame[MSOCK_DERP_LOGIN_FRAME_MAX];
} login_fixture;

static void login_setup(login_fixture *x) {
  x->env = testing_env(&x->rng, 7);
  msock_node_private_generate(&x->env, &x->me);
  msock_node_private_generate(&x->env, &x->server);
  x->me_public = msock_node_private_public(&x->me);
  x->server_public = msock_node_private_public(&x->server);
}

START_TEST(client_info_round_trip) {
  login_fixture x;
  login_setup(&x);
  msock_derp_client_info in = msock_derp_client_info_default(), out;
  in.is_prober = true;
  in.has_mesh_key = true;
  memset(in.mesh_key, 0xab, sizeof in.mesh_key);
  memset(in.app_name, '/', sizeof in.app_name - 1);
  const ptrdiff_t n =
      msock_derp_client_info_seal(&in, &x.me, &x.server_public, &x.env, x.frame, sizeof x.frame);
  ck_assert_int_gt(n, 0);
  msock_node_key who;
  ck_assert_int_eq(msock_derp_client_info_open(x.frame + 5, (size_t)n - 5, &x.server, &who, &out),
                   MSOCK_OK);
  ck_assert(msock_node_key_equal(&who, &x.me_public));
  ck_assert_int_eq(out.version, 2);
  ck_assert(out.can_ack_pings && out.is_prober && out.has_mesh_key);
  ck_assert_mem_eq(out.mesh_key, in.mesh_key, sizeof in.mesh_key);
  ck_assert_str_eq(out.app_name, in.app_name);

  x.frame[n - 1] ^= 1;
  out.version = 77;
  ck_assert_int_eq(msock_derp_client_info_open(x.frame + 5, (size_t)n - 5, &x.server, &who, &out),
                   MSOCK_ERR_AUTH);
  ck_assert_int_eq(out.version, 77); /* untouched on error */
  ck_assert_int_eq(
      msock_derp_client_info_seal(&in, &x.me, &x.server_public, &x.env, x.frame, (size_t)n - 1),
      MSOCK_ERR_NOBUF);
  const msock_node_key zero = {{0}};
  ck_assert_int_lt(msock_derp_client_info_seal(&in, &x.me, &zero, &x.env, x.frame, sizeof x.frame),
                   0);
}
END_TEST

/* The largest ClientInfo that a server takes: 262144 bytes of payload, padded with blanks. */
START_TEST(client_info_largest) {
  login_fixture x;
  login_setup(&x);
  static char text[262144];
  const size_t room = MSOCK_DERP_CLIENT_INFO_MAX - MSOCK_KEY_LEN - MSOCK_BOX_OVERHEAD;
  msock_box_shared shared;
  msock_derp_client_info out;
  msock_node_key who;
  memset(text, ' ', sizeof text);
  memcpy(text, "{\"version\":3}", 13);
  memcpy(big, x.me_public.b, 32);
  ck_assert_int_eq(msock_box_precompute(&shared, x.server_public.b, x.me.b), MSOCK_OK);
  msock_box_seal(&shared, &x.env, (const uint8_t *)text, room, big + 32);
  ck_assert_int_eq(
      msock_derp_client_info_open(big, MSOCK_DERP_CLIENT_INFO_MAX, &x.server, &who, &out),
      MSOCK_OK);
  ck_assert_int_eq(out.version, 3);
  msock_box_seal(&shared, &x.env, (const uint8_t *)text, room + 1, big + 32);
  ck_assert_int_eq(
      msock_derp_client_info_open(big, MSOCK_DERP_CLIENT_INFO_MAX + 1, &x.server, &who, &out),
      MSOCK_ERR_INVALID);
}
END_TEST

START_TEST(server_info_round_trip) {
  login_fixture x;
  login_setup(&x);
  const msock_derp_server_info in = {.version = 2, .bytes_per_second = 1000, .burst_bytes = 70000};
  msock_derp_server_info out = {0};
  const ptrdiff_t n =
      msock_derp_server_info_seal(&in, &x.server, &x.me_public, &x.env, x.frame, sizeof x.frame);
  ck_assert_int_gt(n, 0);
  ck_assert_uint_eq(x.frame[0], MSOCK_DERP_SERVER_INFO);
  ck_assert_int_eq(
      msock_derp_server_info_open(x.frame + 5, (size_t)n - 5, &x.me, &x.server_public, &out),
      MSOCK_OK);
  ck_assert_uint_eq(out.bytes_per_second, 1000);
  ck_assert_uint_eq(out.burst_bytes, 70000);
  for (size_t len = 0; len < (size_t)n - 5; len++) {
    ck_assert_int_ne(msock_derp_server_info_open(x.frame + 5, len, &x.me, &x.server_public, &out),
                     MSOCK_OK);
  }
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, decode_lengths, 0, sizeof lengths / sizeof lengths[0]);
  tcase_add_test(tc, server_key_bounds);
  tcase_add_test(tc, encode_writes_nothing_when_it_does_not_fit);
  tcase_add_test(tc, peer_present_keeps_v6_and_unmaps_v4);
  tcase_add_test(tc, client_info_round_trip);
  tcase_add_test(tc, client_info_largest);
  tcase_add_test(tc, server_info_round_trip);
  return testing_main("derp_frame", tc);
}
