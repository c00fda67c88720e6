/* wireguard.json against the codec, the handshake functions and a whole engine: bytes, keys and the
 * inner states on the way. The engine answers as responder with the scalars and indices of the file
 * (replayed random bytes); as initiator it whitens its timestamps, so there the function below it
 * is asked. closes: WG-01 WG-02 WG-03 WG-06 WG-19 WG-25 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/blake2s.h"
#include "crypto/init.h"
#include "crypto/x25519.h"
#include "tests/unit/vectors.h"
#include "wg/cookie.h"
#include "wg/handshake.h"
#include "wg/messages.h"
#include "wg/replay.h"
#include "wg/session.h"
#include "wg/wg.h"

#define FILE_NAME "wireguard.json"
#define NOW_US (1000 * MSOCK_SEC)
#define MSG_MAX 512u

typedef struct bytes {
  uint8_t b[MSG_MAX];
  size_t len;
} bytes;

static bytes get(json_object *o, const char *field) {
  bytes out = {.len = 0};
  size_t len = 0;
  uint8_t *p = vectors_hex(FILE_NAME, o, field, &len);
  out.len = len < sizeof out.b ? len : sizeof out.b;
  memcpy(out.b, p, out.len);
  free(p);
  return out;
}

static void same(const char *where, const char *field, const uint8_t *got, size_t len,
                 json_object *o) {
  const bytes want = get(o, field);
  char name[128];
  snprintf(name, sizeof name, "%s/%s", where, field);
  vectors_case(FILE_NAME, name, want.len == len && memcmp(want.b, got, len) == 0,
               "bytes differ (%zu, want %zu)", len, want.len);
}

static void check(const char *where, const char *what, bool ok, const char *why) {
  char name[128];
  snprintf(name, sizeof name, "%s/%s", where, what);
  vectors_case(FILE_NAME, name, ok, "%s", why);
}

/* The keys of the file. */
typedef struct cast {
  bytes i_static, r_static, i_ephemeral, r_ephemeral;
  msock_wg_identity i, r;
  msock_wg_remote i_sees_r, r_sees_i;
} cast;

static void check_pair(json_object *pub, const char *field, const bytes *scalar) {
  uint8_t got[32];
  check("private", field, scalar->len == 32, "not 32 bytes");
  msock_x25519_public(got, scalar->b);
  same("public", field, got, sizeof got, pub);
}

static void read_cast(json_object *root, cast *c) {
  json_object *priv = vectors_get(FILE_NAME, root, "private");
  json_object *pub = vectors_get(FILE_NAME, root, "public");
  msock_node_private key;

  c->i_static = get(priv, "initiator_static");
  c->r_static = get(priv, "responder_static");
  c->i_ephemeral = get(priv, "initiator_ephemeral");
  c->r_ephemeral = get(priv, "responder_ephemeral");
  check_pair(pub, "initiator_static", &c->i_static);
  check_pair(pub, "responder_static", &c->r_static);
  check_pair(pub, "initiator_ephemeral", &c->i_ephemeral);
  check_pair(pub, "responder_ephemeral", &c->r_ephemeral);
  memcpy(key.b, c->i_static.b, sizeof key.b);
  msock_wg_identity_init(&c->i, &key);
  memcpy(key.b, c->r_static.b, sizeof key.b);
  msock_wg_identity_init(&c->r, &key);
  msock_wg_remote_init(&c->i_sees_r, &c->i, &c->r.public_key);
  msock_wg_remote_init(&c->r_sees_i, &c->r, &c->i.public_key);
}

static void check_constants(json_object *root, const cast *c) {
  json_object *o = vectors_get(FILE_NAME, root, "constants");
  same("constants", "C0", c->i.c0, 32, o);
  same("constants", "H0", c->i.h0, 32, o);
}

static uint32_t get_index(json_object *set, const char *field) {
  return (uint32_t)strtoul(vectors_str(FILE_NAME, set, field), NULL, 16);
}

/* The inner states, walked with the same steps that handshake.c makes. */
static void check_trace(const char *name, json_object *set, const cast *c,
                        const msock_wg_initiation *im, const msock_wg_response *rm) {
  json_object *t = vectors_get(FILE_NAME, set, "trace");
  const bytes psk = get(set, "psk"), stamp = get(set, "timestamp");
  uint8_t sealed[64], tau[32], ignored[32];
  msock_noise n;

  msock_wg_noise_start(&n, &c->i, c->i_sees_r.h_responder, im->ephemeral);
  same(name, "ck_after_e", n.ck, 32, t);
  same(name, "h_after_e", n.h, 32, t);
  msock_noise_mix_dh(&n, c->i_ephemeral.b, c->r.public_key.b);
  same(name, "k_static", n.k, 32, t);
  msock_noise_seal(&n, c->i.public_key.b, 32, sealed);
  msock_noise_mix_dh(&n, c->i_static.b, c->r.public_key.b);
  same(name, "k_timestamp", n.k, 32, t);
  msock_noise_seal(&n, stamp.b, MSOCK_WG_TIMESTAMP_LEN, sealed);
  same(name, "ck_after_init", n.ck, 32, t);
  same(name, "h_after_init", n.h, 32, t);

  msock_noise_mix_hash(&n, rm->ephemeral, 32);
  msock_noise_mix_chain(&n, rm->ephemeral, 32);
  msock_noise_mix_dh_chain(&n, c->i_ephemeral.b, rm->ephemeral);
  msock_noise_mix_dh_chain(&n, c->i_static.b, rm->ephemeral);
  msock_blake2s_kdf(ignored, tau, NULL, n.ck, psk.b, 32);
  same(name, "tau", tau, 32, t);
  msock_noise_mix_psk(&n, psk.b);
  same(name, "k_empty", n.k, 32, t);
  msock_noise_seal(&n, psk.b, 0, sealed);
  same(name, "ck_after_resp", n.ck, 32, t);
  same(name, "h_after_resp", n.h, 32, t);
}

/* Decode and encode again gives the same bytes. */
static void check_codec(const char *name, json_object *set) {
  const bytes i = get(set, "initiation"), r = get(set, "response");
  msock_wg_initiation im;
  msock_wg_response rm;
  uint8_t out[MSOCK_WG_INITIATION_LEN];

  const bool iok = msock_wg_initiation_decode(i.b, i.len, &im) == MSOCK_OK;
  check(name, "initiation decodes", iok, "refused");
  if (iok) {
    msock_wg_initiation_encode(&im, out);
    same(name, "initiation", out, MSOCK_WG_INITIATION_LEN, set);
    check(name, "initiator_index", im.sender == get_index(set, "initiator_index"), "differs");
  }
  const bool rok = msock_wg_response_decode(r.b, r.len, &rm) == MSOCK_OK;
  check(name, "response decodes", rok, "refused");
  if (rok) {
    msock_wg_response_encode(&rm, out);
    same(name, "response", out, MSOCK_WG_RESPONSE_LEN, set);
    check(name, "responder_index", rm.sender == get_index(set, "responder_index"), "differs");
  }
}

/* One transport message of the set: sealed by the one, opened by the other. */
static void check_transport(const char *name, json_object *set, const char *field,
                            msock_wg_session *from, msock_wg_session *to, uint64_t counter,
                            const bytes *plain) {
  uint8_t buf[MSG_MAX + 64] = {0};
  msock_packet p = {.buf = buf, .cap = sizeof buf, .off = 32, .len = (uint32_t)plain->len};

  memcpy(buf + 32, plain->b, plain->len);
  from->send_counter = counter;
  check(name, field, msock_wg_session_seal(from, &p, 1420) == MSOCK_OK, "not sealed");
  same(name, field, buf + p.off, p.len, set);
  const bytes wire = get(set, field);
  memcpy(buf + 16, wire.b, wire.len);
  p = (msock_packet){.buf = buf, .cap = sizeof buf, .off = 16, .len = (uint32_t)wire.len};
  msock_wg_transport m = {0};
  const bool ok = msock_wg_transport_decode(wire.b, wire.len, &m) == MSOCK_OK &&
                  m.receiver == to->local_index &&
                  msock_wg_session_open(to, m.counter, &p) == MSOCK_OK && p.len >= plain->len &&
                  memcmp(buf + p.off, plain->b, plain->len) == 0;
  check(name, field, ok, "does not open to its plaintext");
}

static void check_transports(const char *name, json_object *set, const msock_wg_keys *i_keys,
                             const msock_wg_keys *r_keys) {
  const bytes plain = get(set, "data_ctr1_plain"), nothing = {.len = 0};
  const uint32_t i_index = get_index(set, "initiator_index");
  const uint32_t r_index = get_index(set, "responder_index");
  msock_wg_session *i = msock_wg_session_new(i_keys, NOW_US, i_index, r_index, 0, true);
  msock_wg_session *r = msock_wg_session_new(r_keys, NOW_US, r_index, i_index, 0, false);

  check_transport(name, set, "keepalive_ctr0", i, r, 0, &nothing);
  check_transport(name, set, "data_ctr1", i, r, 1, &plain);
  check_transport(name, set, "data_ctr_2p40", i, r, UINT64_C(1) << 40, &plain);
  check_transport(name, set, "responder_data_ctr0", r, i, 0, &plain);
  msock_wg_session_free(i);
  msock_wg_session_free(r);
}

static void check_set(json_object *set, cast *c) {
  const char *name = vectors_str(FILE_NAME, set, "name");
  const bytes psk = get(set, "psk"), stamp = get(set, "timestamp");
  uint8_t out[MSOCK_WG_INITIATION_LEN], opened[MSOCK_WG_TIMESTAMP_LEN];
  msock_wg_handshake ih, rh;
  msock_wg_initiation im;
  msock_wg_response rm;
  msock_wg_keys i_keys, r_keys;
  msock_node_key who;

  check_codec(name, set);
  bool ok = msock_wg_initiation_make(&c->i, &c->i_sees_r, c->i_ephemeral.b, stamp.b,
                                     get_index(set, "initiator_index"), &ih, &im) == MSOCK_OK;
  msock_wg_initiation_encode(&im, out);
  msock_wg_macs_write(out, MSOCK_WG_INITIATION_LEN, c->i_sees_r.mac1_key, NULL);
  same(name, "initiation", out, MSOCK_WG_INITIATION_LEN, set);

  ok = ok && msock_wg_initiation_open_static(&c->r, &im, &rh, &who) == MSOCK_OK &&
       msock_node_key_equal(&who, &c->i.public_key);
  check(name, "responder opens the static key", ok, "refused, or another key");
  ok = ok && msock_wg_initiation_open_timestamp(&c->r, &c->r_sees_i, &im, &rh, opened) == MSOCK_OK;
  check(name, "responder opens the timestamp", ok, "refused");
  if (!ok) {
    return;
  }
  same(name, "timestamp", opened, sizeof opened, set);
  ok = msock_wg_response_make(&rh, &c->r_sees_i, psk.b, c->r_ephemeral.b,
                              get_index(set, "responder_index"), &rm, &r_keys) == MSOCK_OK;
  msock_wg_response_encode(&rm, out);
  msock_wg_macs_write(out, MSOCK_WG_RESPONSE_LEN, c->r_sees_i.mac1_key, NULL);
  same(name, "response", out, MSOCK_WG_RESPONSE_LEN, set);
  ok = ok && msock_wg_response_open(&c->i, &ih, psk.b, &rm, &i_keys) == MSOCK_OK;
  check(name, "initiator opens the response", ok, "refused");
  if (!ok) {
    return;
  }
  same(name, "initiator_send_key", i_keys.send, 32, set);
  same(name, "initiator_recv_key", i_keys.recv, 32, set);
  check(name, "both ends have the same keys",
        memcmp(i_keys.send, r_keys.recv, 32) == 0 && memcmp(i_keys.recv, r_keys.send, 32) == 0,
        "they differ");
  check_trace(name, set, c, &im, &rm);
  check_transports(name, set, &i_keys, &r_keys);
}

/* Random bytes of the file by their length: an index, an ephemeral; else zero. */
typedef struct replayed {
  uint32_t index;
  uint8_t ephemeral[32];
} replayed;

static void replay_random(void *ctx, void *dst, size_t len) {
  const replayed *r = ctx;
  uint8_t *p = dst;
  memset(p, 0, len);
  if (len == 4) {
    for (unsigned i = 0; i < 4; i++) {
      p[i] = (uint8_t)(r->index >> 8 * i);
    }
  } else if (len == sizeof r->ephemeral) {
    memcpy(p, r->ephemeral, len);
  }
}

static const msock_wg_source somewhere = {.addr = {.ip = {.family = 4, .b = {192, 0, 2, 7}}}};

/* An engine with the responder's key that knows the initiator and takes everything from it. */
static msock_wg *responder(json_object *set, const cast *c, replayed *r, msock_env *env) {
  const bytes psk = get(set, "psk");
  uint32_t peer = 0;

  r->index = get_index(set, "responder_index");
  memcpy(r->ephemeral, c->r_ephemeral.b, sizeof r->ephemeral);
  *env = (msock_env){.ctx = r, .random = replay_random};
  msock_wg *wg = msock_wg_new(env, &c->r.private_key, &(msock_wg_config){.mtu_bytes = 1420});
  if (wg == NULL || msock_wg_peer_add(wg, &c->i.public_key, psk.b, &peer) != MSOCK_OK) {
    exit(1);
  }
  const msock_wg_route all = {{.ip = {.family = 4}, .bits = 0}, peer};
  msock_wg_set_allowed_ips(wg, &all, 1);
  return wg;
}

static msock_wg_result feed(msock_wg *wg, const bytes *msg, bytes *plain) {
  uint8_t buf[MSG_MAX];
  msock_packet p = {.buf = buf, .cap = sizeof buf, .off = 0, .len = (uint32_t)msg->len};
  msock_wg_result result;

  memcpy(buf, msg->b, msg->len);
  msock_wg_open(wg, NOW_US, 1, &somewhere, &p, 1, &result);
  if (plain != NULL && result.kind == MSOCK_WG_PLAIN) {
    plain->len = p.len;
    memcpy(plain->b, buf + p.off, p.len);
  }
  return result;
}

static size_t poll_one(msock_wg *wg, uint8_t out[static 2048]) {
  msock_wg_output kind;
  return msock_wg_next_output(wg, NOW_US, 1, &kind, out, 2048);
}

/* The same set through a whole engine. */
static void check_engine(json_object *set, const cast *c) {
  const char *name = vectors_str(FILE_NAME, set, "name");
  const bytes initiation = get(set, "initiation"), keepalive = get(set, "keepalive_ctr0");
  const bytes far = get(set, "data_ctr_2p40"), data = get(set, "data_ctr1");
  const bytes want = get(set, "data_ctr1_plain");
  uint8_t out[2048], buf[MSG_MAX + 64];
  bytes plain = {.len = 0};
  replayed r;
  msock_env env;
  uint32_t id = 0;

  msock_wg *wg = responder(set, c, &r, &env);
  check(name, "engine takes the initiation", feed(wg, &initiation, NULL).kind == MSOCK_WG_HANDSHAKE,
        "dropped");
  same(name, "response", out, poll_one(wg, out), set);
  check(name, "engine: keepalive_ctr0", feed(wg, &keepalive, NULL).kind == MSOCK_WG_KEEPALIVE,
        "dropped");
  for (int i = 0; i < 2; i++) {
    const bool ok = feed(wg, i ? &far : &data, &plain).kind == MSOCK_WG_PLAIN;
    check(name, i ? "engine: data_ctr_2p40" : "engine: data_ctr1",
          ok && plain.len == want.len && memcmp(plain.b, want.b, want.len) == 0,
          "not delivered as its plaintext");
    check(name, "engine: the same again", feed(wg, i ? &far : &data, NULL).kind == MSOCK_WG_DROP,
          "replayed");
  }
  msock_packet p = {.buf = buf, .cap = sizeof buf, .off = 32, .len = (uint32_t)want.len};
  memcpy(buf + 32, want.b, want.len);
  msock_wg_seal(wg, NOW_US, &p, 1, &id);
  same(name, "responder_data_ctr0", buf + p.off, p.len, set);
  msock_wg_free(wg);
}

static void check_cookie(json_object *root, cast *c) {
  json_object *o = vectors_get(FILE_NAME, root, "cookie");
  const bytes secret = get(o, "secret"), source = get(o, "source_bytes_ip4_port_be");
  const bytes nonce = get(o, "nonce"), mac1 = get(o, "initiation_mac1"), cookie = get(o, "cookie");
  const bytes wire = get(o, "cookie_reply"), with_mac2 = get(o, "initiation_with_mac2");
  uint8_t made[16], bytes_of[MSOCK_WG_SOURCE_BYTES_MAX], out[MSOCK_WG_INITIATION_LEN];
  msock_wg_cookie_reply m;

  msock_wg_cookie_make(secret.b, source.b, source.len, made);
  same("cookie", "cookie", made, 16, o);
  msock_wg_source from = {.addr = {.ip = msock_ip_from_bytes4(source.b)}};
  from.addr.port = (uint16_t)(source.b[4] << 8 | source.b[5]);
  same("cookie", "source_bytes_ip4_port_be", bytes_of, msock_wg_source_bytes(&from, bytes_of), o);

  bool ok = msock_wg_cookie_reply_decode(wire.b, wire.len, &m) == MSOCK_OK;
  check("cookie", "cookie_reply decodes", ok, "refused");
  if (!ok) {
    return;
  }
  ok = msock_wg_cookie_open(c->i_sees_r.cookie_key, mac1.b, &m, made) == MSOCK_OK &&
       memcmp(made, cookie.b, 16) == 0;
  check("cookie", "cookie_reply opens", ok, "refused, or another cookie");
  uint8_t other[16];
  memcpy(other, mac1.b, 16);
  other[0] ^= 1;
  check("cookie", "cookie_reply needs its mac1",
        msock_wg_cookie_open(c->i_sees_r.cookie_key, other, &m, made) == MSOCK_ERR_AUTH, "opened");
  msock_wg_cookie_seal(c->r.cookie_key, nonce.b, cookie.b, mac1.b, m.receiver, &m);
  msock_wg_cookie_reply_encode(&m, out);
  same("cookie", "cookie_reply", out, MSOCK_WG_COOKIE_REPLY_LEN, o);

  memcpy(out, with_mac2.b, sizeof out);
  memset(out + sizeof out - MSOCK_WG_MACS_LEN, 0, MSOCK_WG_MACS_LEN);
  msock_wg_macs_write(out, sizeof out, c->i_sees_r.mac1_key, cookie.b);
  same("cookie", "initiation_with_mac2", out, sizeof out, o);
  same("cookie", "initiation_mac1", out + sizeof out - MSOCK_WG_MACS_LEN, 16, o);
}

static void check_kdf(json_object *root) {
  json_object *list = vectors_get(FILE_NAME, root, "kdf");
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *o = json_object_array_get_idx(list, i);
    json_object *t = vectors_get(FILE_NAME, o, "t");
    const bytes key = get(o, "key"), input = get(o, "input");
    uint8_t out[3][32],
        ck[32] = {0}; /* HMAC pads a key with zeros, so padding it here is the same */
    char name[32];
    snprintf(name, sizeof name, "kdf/%zu", i);
    memcpy(ck, key.b, key.len < 32 ? key.len : 32);
    msock_blake2s_kdf(out[0], out[1], out[2], ck, input.b, input.len);
    for (size_t k = 0; k < json_object_array_length(t) && k < 3; k++) {
      char hex[65];
      for (size_t b = 0; b < 32; b++) {
        snprintf(hex + 2 * b, 3, "%02x", out[k][b]);
      }
      vectors_case(FILE_NAME, name,
                   strcmp(hex, json_object_get_string(json_object_array_get_idx(t, k))) == 0,
                   "t%zu differs", k + 1);
    }
  }
}

static void check_replay(json_object *root) {
  json_object *o = vectors_get(FILE_NAME, root, "replay");
  json_object *list = vectors_get(FILE_NAME, o, "sequence");
  msock_wg_replay w = {0};

  check("replay", "window",
        json_object_get_int64(vectors_get(FILE_NAME, o, "window")) == MSOCK_WG_REPLAY_WINDOW,
        "another width");
  check("replay", "limit_exclusive",
        strtoull(vectors_str(FILE_NAME, o, "limit_exclusive"), NULL, 10) ==
            MSOCK_WG_REJECT_AFTER_MESSAGES,
        "another limit");
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *step = json_object_array_get_idx(list, i);
    const char *counter = json_object_get_string(json_object_array_get_idx(step, 0));
    const bool want = json_object_get_boolean(json_object_array_get_idx(step, 1));
    char name[64];
    snprintf(name, sizeof name, "replay/%zu (%s)", i, counter);
    vectors_case(FILE_NAME, name, msock_wg_replay_accept(&w, strtoull(counter, NULL, 10)) == want,
                 "want %d", want);
  }
}

/* One byte changed, cut off or added: what a negative of the file does to a good message. */
static bool one_edit(const bytes *a, const bytes *b) {
  const size_t shorter = a->len < b->len ? a->len : b->len;
  size_t differ = a->len > b->len ? a->len - b->len : b->len - a->len;
  for (size_t i = 0; i < shorter; i++) {
    differ += a->b[i] != b->b[i];
  }
  return differ == 1;
}

/* A negative must be a near miss of a good message of the first set, else it proves little. */
static bool near_miss(json_object *set, const bytes *msg) {
  static const char *const fields[] = {"initiation", "response", "keepalive_ctr0", "data_ctr1"};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    const bytes good = get(set, fields[i]);
    if (one_edit(msg, &good)) {
      return true;
    }
  }
  return false;
}

static bool response_refused(json_object *set, cast *c, const bytes *msg) {
  const bytes psk = get(set, "psk"), stamp = get(set, "timestamp");
  msock_wg_handshake hs;
  msock_wg_initiation im;
  msock_wg_response rm;
  msock_wg_keys keys;

  if (msock_wg_response_decode(msg->b, msg->len, &rm) != MSOCK_OK) {
    return true;
  }
  return msock_wg_initiation_make(&c->i, &c->i_sees_r, c->i_ephemeral.b, stamp.b,
                                  get_index(set, "initiator_index"), &hs, &im) == MSOCK_OK &&
         msock_wg_response_open(&c->i, &hs, psk.b, &rm, &keys) != MSOCK_OK;
}

/* Everything through an engine that is in the middle of the set's session. */
static bool engine_refuses(json_object *set, const cast *c, const bytes *msg) {
  const bytes initiation = get(set, "initiation"), keepalive = get(set, "keepalive_ctr0");
  uint8_t out[2048];
  replayed r;
  msock_env env;
  msock_wg *wg = responder(set, c, &r, &env);

  const bool is_handshake = msg->len > 0 && msg->b[0] == MSOCK_WG_TYPE_INITIATION;
  if (!is_handshake) {
    feed(wg, &initiation, NULL);
    poll_one(wg, out);
    bytes later = keepalive; /* only where the negative is not itself a changed keepalive */
    if (!one_edit(msg, &keepalive)) {
      feed(wg, &later, NULL);
    }
  }
  const msock_wg_result got = feed(wg, msg, NULL);
  const bool silent = poll_one(wg, out) == 0;
  const uint64_t accepted = msock_wg_counters_get(wg)->rx_initiations;
  msock_wg_free(wg);
  return silent && accepted == (is_handshake ? 0 : 1) && got.kind != MSOCK_WG_PLAIN &&
         got.kind != MSOCK_WG_KEEPALIVE;
}

/* An initiation with this ephemeral, everything else as its sender would compute it. */
static bytes with_ephemeral(json_object *set, cast *c, const bytes *ephemeral) {
  const bytes stamp = get(set, "timestamp");
  static const uint8_t zero[32];
  bytes out = {.len = MSOCK_WG_INITIATION_LEN};
  msock_wg_initiation m = {.sender = 1};
  msock_noise n;

  memcpy(m.ephemeral, ephemeral->b, sizeof m.ephemeral);
  msock_wg_noise_start(&n, &c->i, c->i_sees_r.h_responder, m.ephemeral);
  msock_noise_mix_key(&n, zero, sizeof zero);
  msock_noise_seal(&n, c->i.public_key.b, 32, m.enc_static);
  msock_noise_mix_dh(&n, c->i_static.b, c->r.public_key.b);
  msock_noise_seal(&n, stamp.b, MSOCK_WG_TIMESTAMP_LEN, m.enc_timestamp);
  msock_wg_initiation_encode(&m, out.b);
  msock_wg_macs_write(out.b, out.len, c->i_sees_r.mac1_key, NULL);
  return out;
}

static void check_negative(json_object *root, json_object *set, cast *c) {
  json_object *list = vectors_get(FILE_NAME, root, "negative");
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *o = json_object_array_get_idx(list, i);
    const char *why = vectors_str(FILE_NAME, o, "why");
    json_object *raw = vectors_get(FILE_NAME, o, "msg");
    if (raw == NULL) { /* JSON null */
      const bytes ephemeral = get(o, "ephemeral");
      uint8_t shared[32];
      check("negative", why, msock_x25519(shared, c->r_static.b, ephemeral.b) == MSOCK_ERR_AUTH,
            "its shared secret is not zero");
      const bytes msg = with_ephemeral(set, c, &ephemeral);
      check("negative", why, engine_refuses(set, c, &msg), "accepted");
      continue;
    }
    const bytes msg = get(o, "msg");
    check("negative", why, near_miss(set, &msg), "not one change away from a good message");
    check("negative", why,
          msg.len > 0 && msg.b[0] == MSOCK_WG_TYPE_RESPONSE ? response_refused(set, c, &msg)
                                                            : engine_refuses(set, c, &msg),
          "accepted");
  }
}

int main(void) {
  if (msock_crypto_init() != MSOCK_OK) {
    return 1;
  }
  json_object *root = vectors_open(FILE_NAME);
  if (root == NULL) {
    return vectors_exit();
  }
  cast c;
  read_cast(root, &c);
  check_constants(root, &c);
  json_object *sets = vectors_get(FILE_NAME, root, "sets");
  for (size_t i = 0; i < json_object_array_length(sets); i++) {
    check_set(json_object_array_get_idx(sets, i), &c);
    check_engine(json_object_array_get_idx(sets, i), &c);
  }
  check_cookie(root, &c);
  check_kdf(root);
  check_replay(root);
  if (json_object_array_length(sets) > 0) {
    check_negative(root, json_object_array_get_idx(sets, 0), &c);
  }
  json_object_put(root);
  vectors_done(FILE_NAME);
  return vectors_exit();
}
