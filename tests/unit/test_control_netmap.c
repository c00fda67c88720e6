/* The netmap store through its real entrance: framed map messages. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "control/map_stream.h"
#include "tests/unit/testing.h"

#define WALL (UINT64_C(1795000000) * MSOCK_SEC)

typedef struct store {
  testing_rng rng;
  msock_env env;
  msock_netmap *nm;
  msock_map_stream *s;
  msock_map_failure failed;
  uint64_t wall;
} store;

static void init(store *t, bool zstd) {
  memset(t, 0, sizeof *t);
  t->env = testing_env(&t->rng, 1);
  t->nm = msock_netmap_new(&t->env, false);
  t->s = msock_map_stream_new(&t->env, t->nm, zstd);
  t->wall = WALL;
}

static void done(store *t) {
  msock_map_stream_free(t->s);
  msock_netmap_free(t->nm);
}

static uint8_t *frame(const char *json, size_t len, bool zstd, size_t *out_len) {
  uint8_t *out = malloc(ZSTD_compressBound(len) + 4);
  size_t n = len;
  if (zstd) {
    n = ZSTD_compress(out + 4, ZSTD_compressBound(len), json, len, 1);
  } else {
    memcpy(out + 4, json, len);
  }
  for (size_t i = 0; i < 4; i++) {
    out[i] = (uint8_t)(n >> (8 * i));
  }
  *out_len = n + 4;
  return out;
}

/* Gives the number of messages applied. */
static size_t feed(store *t, const uint8_t *p, size_t len) {
  size_t n = 0;
  while (len > 0 && t->failed == MSOCK_MAP_FINE) {
    const msock_map_notice *notice = NULL;
    size_t used = 0;
    t->failed = msock_map_stream_feed(t->s, 5 * MSOCK_SEC, t->wall, p, len, &used, &notice);
    n += notice != NULL;
    p += used;
    len -= used;
  }
  return n;
}

static void apply(store *t, const char *json) {
  size_t len = 0;
  uint8_t *f = frame(json, strlen(json), false, &len);
  ck_assert_msg(feed(t, f, len) == 1, "%s: %s", msock_map_failure_text(t->failed), json);
  free(f);
}

static void applyf(store *t, const char *fmt, ...) {
  char json[4096];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(json, sizeof json, fmt, ap);
  va_end(ap);
  apply(t, json);
}

#define KEY(n) "nodekey:00000000000000000000000000000000000000000000000000000000000000" n
#define DISCO(n) "discokey:00000000000000000000000000000000000000000000000000000000000000" n
#define SELF                                                                                       \
  "\"Node\":{\"ID\":1,\"Name\":\"self.lab.\",\"Key\":\"" KEY(                                      \
      "01") "\",\"Addresses\":[\"100.64.0.1/32\"],\"MachineAuthorized\":true}"
#define PEER(id, rest)                                                                             \
  "{\"ID\":" id ",\"Name\":\"p" id ".lab.\",\"Key\":\"" KEY("1" id) "\",\"DiscoKey\":\"" DISCO(    \
      "2" id) "\",\"Addresses\":[\"100.64.0." id "/32\"]" rest "}"
#define FULL "{" SELF ",\"Peers\":[" PEER("2", "") "," PEER("3", ",\"HomeDERP\":9") "]}"

/* Takes all changes; gives the OR of what of peer id, or counts kinds. */
static uint32_t changed(store *t, uint64_t id, size_t *total) {
  msock_netmap_change c;
  uint32_t what = 0;
  *total = 0;
  while (msock_netmap_next_change(t->nm, &c)) {
    (*total)++;
    what |= c.kind == MSOCK_NETMAP_PEER_CHANGED && c.id == id ? c.what : 0;
  }
  return what;
}

static size_t count_kind(store *t, msock_netmap_change_kind kind) {
  msock_netmap_change c;
  size_t n = 0;
  while (msock_netmap_next_change(t->nm, &c)) {
    n += c.kind == kind;
  }
  return n;
}

/* closes: CTRL-43 CTRL-44 */
START_TEST(messages_split_at_every_byte) {
  const bool zstd = _i == 1;
  static const char *const messages[] = {
      FULL, "{\"KeepAlive\":true}",
      ("{\"PeersChangedPatch\":[{\"NodeID\":2,\"DERPRegion\":7}],\"ControlTime\":"
       "\"2026-11-20T20:50:35Z\"}")};
  uint8_t all[8192];
  size_t len = 0;
  for (size_t i = 0; i < 3; i++) {
    size_t n = 0;
    uint8_t *f = frame(messages[i], strlen(messages[i]), zstd, &n);
    memcpy(all + len, f, n);
    len += n;
    free(f);
    memset(all + len, 0, 4); /* length 0: skipped */
    len += 4;
  }
  for (size_t at = 0; at <= len; at++) {
    store t;
    init(&t, zstd);
    const size_t n = feed(&t, all, at);
    ck_assert_msg(n + feed(&t, all + at, len - at) == 3, "split at %zu: %s", at,
                  msock_map_failure_text(t.failed));
    ck_assert_uint_eq(msock_netmap_count(t.nm), 2);
    ck_assert_uint_eq(msock_netmap_find_id(t.nm, 2)->home_derp, 7);
    ck_assert_uint_eq(msock_netmap_find_id(t.nm, 3)->home_derp, 9);
    done(&t);
  }
  store t;
  init(&t, zstd);
  size_t n = 0;
  for (size_t at = 0; at < len; at++) {
    n += feed(&t, all + at, 1);
  }
  ck_assert_uint_eq(n, 3);
  done(&t);
}
END_TEST

/* closes: CTRL-44 CTRL-55 */
START_TEST(bad_messages_change_nothing) {
  static const struct {
    const char *json;
    msock_map_failure want;
  } bad[] = {
      {"{\"Peers\":[" PEER("4", "") "],\"x\":tru}", MSOCK_MAP_F_JSON},
      {"{\"Peers\":[" PEER("4", "") "]", MSOCK_MAP_F_JSON},
      {"{\"Peers\":[" PEER("4", "") "]}}", MSOCK_MAP_F_JSON},
      {"{\"PeersRemoved\":[2],\"Node\":{\"ID\":1,\"Key\":\"nodekey:zz\"}}", MSOCK_MAP_F_JSON},
      {"[1]", MSOCK_MAP_F_JSON},
      {"7", MSOCK_MAP_F_JSON},
      {"{\"PeersRemoved\":[2,}", MSOCK_MAP_F_JSON},
  };
  size_t n = 0, len = 0;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    store t;
    init(&t, false);
    apply(&t, FULL);
    changed(&t, 0, &n);
    uint8_t *f = frame(bad[i].json, strlen(bad[i].json), false, &len);
    ck_assert_uint_eq(feed(&t, f, len), 0);
    ck_assert_msg(t.failed == bad[i].want, "%s: %s", bad[i].json, msock_map_failure_text(t.failed));
    ck_assert_uint_eq(msock_netmap_count(t.nm), 2);
    changed(&t, 0, &n);
    ck_assert_uint_eq(n, 0);
    free(f);
    done(&t);
  }
  store t; /* no reader sees half of a message: before its last byte nothing has changed */
  init(&t, false);
  uint8_t *f = frame(FULL, strlen(FULL), false, &len);
  ck_assert_uint_eq(feed(&t, f, len - 1), 0);
  ck_assert_ptr_null(msock_netmap_self(t.nm));
  ck_assert_uint_eq(msock_netmap_count(t.nm), 0);
  ck_assert_uint_eq(feed(&t, f + len - 1, 1), 1);
  ck_assert_uint_eq(msock_netmap_count(t.nm), 2);
  free(f);
  done(&t);
}
END_TEST

/* closes: CTRL-44 */
START_TEST(zstd_limits) {
  store t;
  size_t len = 0;
  const size_t big = 8u << 20;
  char *zeros = malloc(big);
  memset(zeros, ' ', big);
  uint8_t *f = frame(zeros, big, true, &len);
  init(&t, true); /* a bomb: 8 MiB out of a few hundred bytes, limit 1 MiB */
  msock_map_stream_set_limits(t.s, 1u << 20, 1u << 20);
  ck_assert_uint_eq(feed(&t, f, len), 0);
  ck_assert_int_eq(t.failed, MSOCK_MAP_F_BOMB);
  done(&t);
  free(f);
  free(zeros);

  init(&t, true); /* the length alone is refused, before a byte of it came */
  const uint8_t over[4] = {1, 0, 0, 1};
  ck_assert_uint_eq(feed(&t, over, 4), 0);
  ck_assert_int_eq(t.failed, MSOCK_MAP_F_TOO_LONG);
  ck_assert_uint_le(msock_map_stream_memory(t.s), 64u << 10);
  done(&t);

  f = frame(FULL, strlen(FULL), true, &len);
  for (size_t i = 4; i < 9; i++) { /* corrupt: magic, header */
    init(&t, true);
    f[i] ^= 0x55;
    ck_assert_uint_eq(feed(&t, f, len), 0);
    ck_assert_int_ne(t.failed, MSOCK_MAP_FINE);
    f[i] ^= 0x55;
    done(&t);
  }
  init(&t, true); /* cut off inside the frame */
  f[0] -= 3;
  ck_assert_uint_eq(feed(&t, f, len - 3), 0);
  ck_assert_int_eq(t.failed, MSOCK_MAP_F_ZSTD);
  done(&t);
  init(&t, true); /* bytes after the frame */
  f[0] += 4;
  ck_assert_uint_eq(feed(&t, f, len) + feed(&t, (const uint8_t *)"x", 1), 0);
  ck_assert_int_eq(t.failed, MSOCK_MAP_F_ZSTD);
  done(&t);
  free(f);
}
END_TEST

/* closes: CTRL-45 CTRL-46 CTRL-48 */
/* A message as Headscale frames it, which calls every frame a single segment: FULL behind `blanks`
 * random blanks; compressed with this window, then the header is rewritten (RFC 8878 3.1.1.1). */
static uint8_t *single_segment(size_t blanks, int window_log, bool repeat_begin, bool checksum,
                               size_t *out_len) {
  static const char ws[] = " \t\n\r";
  testing_rng rng;
  const msock_env env = testing_env(&rng, 7);
  const size_t len = blanks + strlen(FULL), cap = ZSTD_compressBound(len);
  uint8_t *text = malloc(len), *out = malloc(cap + 4);
  ZSTD_CCtx *c = ZSTD_createCCtx();
  env.random(env.ctx, text, blanks);
  for (size_t i = 0; i < blanks; i++) {
    text[i] = (uint8_t)ws[text[i] & 3];
  }
  if (repeat_begin) { /* so that the encoder looks back that far */
    memcpy(text + blanks - 65536, text, 65536);
  }
  memcpy(text + blanks, FULL, strlen(FULL));
  ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, 1);
  ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log);
  ZSTD_CCtx_setParameter(c, ZSTD_c_enableLongDistanceMatching, repeat_begin);
  ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, checksum);
  size_t n = ZSTD_compress2(c, out + 4, cap, text, len);
  ck_assert(!ZSTD_isError(n));
  if ((out[8] & 0x20) == 0) { /* descriptor: set the bit, take the window's byte out */
    out[8] |= 0x20;
    memmove(out + 9, out + 10, n - 6);
    n--;
  }
  for (size_t i = 0; i < 4; i++) {
    out[i] = (uint8_t)(n >> (8 * i));
  }
  ZSTD_freeCCtx(c);
  free(text);
  *out_len = n + 4;
  return out;
}

/* closes: CTRL-44 (window) */
START_TEST(a_long_single_segment_is_read_with_a_bounded_window) {
  const size_t limit = (8u << 20) + (512u << 10); /* 2^23, blocks and the context */
  const size_t step[] = {1, 1024};
  for (size_t i = 0; i < 2; i++) {
    store t;
    size_t len = 0, applied = 0, peak = 0;
    uint8_t *f = single_segment(12u << 20, 22, false, true, &len);
    init(&t, true);
    for (size_t at = 0, n; at < len; at += n) {
      n = at < 64 ? step[i] : 4096;
      n = len - at < n ? len - at : n;
      applied += feed(&t, f + at, n);
      const size_t now = msock_map_stream_memory(t.s);
      peak = now > peak ? now : peak;
    }
    ck_assert_msg(applied == 1, "%s", msock_map_failure_text(t.failed));
    ck_assert_uint_eq(msock_netmap_count(t.nm), 2);
    ck_assert_uint_lt(peak, limit);
    ck_assert_uint_lt(msock_map_stream_memory(t.s), 64u << 10); /* nothing stays */
    free(f);
    done(&t);
  }
}
END_TEST

/* Farther back than the window: the checksum tells. Without a checksum it is not even tried. */
START_TEST(a_single_segment_that_looks_back_too_far_is_refused) {
  const bool checksum = _i == 0;
  store t;
  size_t len = 0;
  uint8_t *f = single_segment(12u << 20, checksum ? 24 : 22, checksum, checksum, &len);
  init(&t, true);
  ck_assert_uint_eq(feed(&t, f, len), 0);
  ck_assert_int_eq(t.failed, MSOCK_MAP_F_ZSTD);
  ck_assert_uint_eq(msock_netmap_count(t.nm), 0);
  free(f);
  done(&t);
}
END_TEST

START_TEST(lists_of_peers) {
  store t;
  size_t n = 0;
  init(&t, false);
  apply(&t, FULL);
  ck_assert_uint_eq(count_kind(&t, MSOCK_NETMAP_PEER_ADDED), 2);
  apply(&t, "{\"Peers\":[]}");
  apply(&t, "{\"Peers\":null}");
  ck_assert_uint_eq(msock_netmap_count(t.nm), 2);
  changed(&t, 0, &n);
  ck_assert_uint_eq(n, 0);
  apply(&t,
        "{\"Peers\":[" PEER("3", ",\"HomeDERP\":9") "," PEER("5", "") "],\"PeersRemoved\":[3]}");
  ck_assert_uint_eq(msock_netmap_count(t.nm), 2); /* the rest is hidden */
  ck_assert_ptr_null(msock_netmap_find_id(t.nm, 2));
  msock_netmap_change c;
  ck_assert(msock_netmap_next_change(t.nm, &c));
  ck_assert_int_eq(c.kind, MSOCK_NETMAP_PEER_REMOVED);
  ck_assert_uint_eq(c.id, 2);
  ck_assert_uint_eq(c.key.b[31], 0x12);
  ck_assert(msock_netmap_next_change(t.nm, &c));
  ck_assert_int_eq(c.kind, MSOCK_NETMAP_PEER_ADDED);
  ck_assert(!msock_netmap_next_change(t.nm, &c));

  /* A new stream: the state is replaced; no Peers means none. */
  msock_map_stream_free(t.s);
  t.s = msock_map_stream_new(&t.env, t.nm, false);
  apply(&t, "{\"KeepAlive\":true}");
  ck_assert(!msock_map_stream_started(t.s));
  ck_assert_uint_eq(msock_netmap_count(t.nm), 2); /* kept until the first message */
  apply(&t, "{" SELF "}");
  ck_assert_uint_eq(msock_netmap_count(t.nm), 0);
  ck_assert_uint_eq(count_kind(&t, MSOCK_NETMAP_PEER_REMOVED), 2);
  done(&t);

  init(&t, false);
  uint8_t *f = frame("{\"Domain\":\"x\"}", 14, false, &n);
  feed(&t, f, n);
  ck_assert_int_eq(t.failed, MSOCK_MAP_F_NO_NODE);
  free(f);
  done(&t);
}
END_TEST

/* closes: CTRL-49 */
static const struct {
  const char *field;
  uint32_t what;
} patches[] = {
    {"\"DERPRegion\":11", MSOCK_PEER_DERP},
    {"\"Cap\":77", MSOCK_PEER_CAPS},
    {"\"CapMap\":{\"a\":null,\"b\":[false]}", MSOCK_PEER_CAPS},
    {"\"Endpoints\":[\"192.0.2.9:1\",\"[2001:db8::1]:2\"]", MSOCK_PEER_ENDPOINTS},
    {"\"Key\":\"" KEY("77") "\"", MSOCK_PEER_KEY},
    {"\"DiscoKey\":\"" DISCO("78") "\"", MSOCK_PEER_DISCO},
    {"\"Online\":true", MSOCK_PEER_ONLINE},
    {"\"LastSeen\":\"2026-01-01T00:00:00Z\"", MSOCK_PEER_ONLINE},
    {"\"KeyExpiry\":\"2036-01-01T00:00:00Z\"", MSOCK_PEER_EXPIRY},
};
#define N_PATCHES (sizeof patches / sizeof *patches)
START_TEST(patch_fields_alone_and_together) {
  store t;
  size_t n = 0;
  char json[2048] = "{\"PeersChangedPatch\":[{\"NodeID\":2";
  uint32_t all = 0;
  for (size_t i = 0; i < N_PATCHES; i++) {
    init(&t, false);
    apply(&t, FULL);
    changed(&t, 0, &n);
    applyf(&t, "{\"PeersChangedPatch\":[{\"NodeID\":2,%s}]}", patches[i].field);
    ck_assert_msg(changed(&t, 2, &n) == patches[i].what && n == 1, "%s", patches[i].field);
    applyf(&t, "{\"PeersChangedPatch\":[{\"NodeID\":2,%s}]}", patches[i].field);
    changed(&t, 2, &n);
    ck_assert_msg(n == 0, "again: %s", patches[i].field);
    applyf(&t, "{\"PeersChangedPatch\":[{\"NodeID\":99,%s}]}", patches[i].field);
    changed(&t, 2, &n);
    ck_assert_uint_eq(n, 0);
    ck_assert_uint_eq(msock_netmap_count(t.nm), 2);
    done(&t);
    strcat(strcat(json, ","), patches[i].field);
    all |= patches[i].what;
  }
  init(&t, false);
  apply(&t, FULL);
  changed(&t, 0, &n);
  apply(&t, strcat(json, "}]}"));
  ck_assert_uint_eq(changed(&t, 2, &n), all);
  const msock_peer *p = msock_netmap_find_id(t.nm, 2);
  ck_assert_uint_eq(p->home_derp, 11);
  ck_assert_uint_eq(p->cap, 77);
  ck_assert(msock_strlist_has(&p->caps, "a") && msock_strlist_has(&p->caps, "b"));
  ck_assert_uint_eq(p->n_endpoints, 2);
  ck_assert_uint_eq(p->key.b[31], 0x77);
  ck_assert_uint_eq(p->disco.b[31], 0x78);
  ck_assert_uint_eq(p->online, MSOCK_PEER_ONLINE_YES);
  ck_assert_uint_eq(p->last_seen_us, UINT64_C(1767225600) * MSOCK_SEC);
  ck_assert_uint_eq(p->key_expiry_us, UINT64_C(2082758400) * MSOCK_SEC);
  ck_assert_ptr_eq(msock_netmap_find_key(t.nm, &p->key), p);
  const msock_node_key old = {{[31] = 0x12}};
  ck_assert_ptr_null(msock_netmap_find_key(t.nm, &old));
  apply(&t, "{\"PeersChangedPatch\":[{\"NodeID\":2,\"Endpoints\":[],\"CapMap\":{}}]}");
  ck_assert_uint_eq(msock_netmap_find_id(t.nm, 2)->n_endpoints, 0);
  ck_assert_uint_eq(msock_netmap_find_id(t.nm, 2)->caps.n, 0);
  apply(&t, "{\"OnlineChange\":{\"2\":false},\"PeerSeenChange\":{\"2\":true,\"3\":false}}");
  ck_assert_uint_eq(msock_netmap_find_id(t.nm, 2)->online, MSOCK_PEER_ONLINE_NO);
  ck_assert_uint_eq(msock_netmap_find_id(t.nm, 2)->last_seen_us, WALL);
  done(&t);
}
END_TEST

/* closes: CTRL-50 */
START_TEST(a_new_key_unexpires) {
  store t;
  init(&t, false);
  apply(&t, "{" SELF ",\"Peers\":[" PEER("2", ",\"Expired\":true,\"KeyExpiry\":"
                                              "\"2020-01-01T00:00:00Z\"") "]}");
  ck_assert(msock_netmap_find_id(t.nm, 2)->expired);
  apply(&t, "{\"PeersChangedPatch\":[{\"NodeID\":2,\"Key\":\"" KEY("12") "\"}]}");
  ck_assert(msock_netmap_find_id(t.nm, 2)->expired); /* the same key changes nothing */
  apply(&t, "{\"PeersChangedPatch\":[{\"NodeID\":2,\"Key\":\"" KEY("33") "\"}]}");
  ck_assert(!msock_netmap_find_id(t.nm, 2)->expired);
  ck_assert_uint_eq(msock_netmap_find_id(t.nm, 2)->key_expiry_us, 0);
  apply(&t,
        "{\"PeersChangedPatch\":[{\"NodeID\":2,\"Key\":\"" KEY("34") "\",\"KeyExpiry\":"
                                                                     "\"2020-01-01T00:00:00Z\"}]}");
  ck_assert(msock_netmap_find_id(t.nm, 2)->expired);
  done(&t);
}
END_TEST

/* closes: CTRL-51 CTRL-53 CTRL-54 */
START_TEST(small_news_is_small) {
  store t;
  size_t n = 0;
  init(&t, false);
  apply(&t, FULL);
  changed(&t, 0, &n);
  const msock_peer *before = msock_netmap_find_id(t.nm, 3);
  apply(&t, "{\"ControlTime\":\"2026-11-18T11:06:40Z\"}");
  apply(&t, "{\"KeepAlive\":true,\"PeersRemoved\":[2],\"Node\":null}");
  apply(&t, "{\"PeersChanged\":[" PEER("2", "") "]}");
  apply(&t, "{" SELF "}");
  changed(&t, 0, &n);
  ck_assert_uint_eq(n, 0);
  apply(&t,
        "{\"PeersChanged\":[" PEER("2", ",\"Endpoints\":[\"192.0.2.1:5\"],\"Online\":true") "]}");
  ck_assert_uint_eq(changed(&t, 2, &n), MSOCK_PEER_ENDPOINTS | MSOCK_PEER_ONLINE);
  ck_assert_uint_eq(n, 1);
  ck_assert_ptr_eq(msock_netmap_find_id(t.nm, 3), before); /* untouched */
  apply(&t, "{\"PeersRemoved\":[3,77]}");
  ck_assert_uint_eq(count_kind(&t, MSOCK_NETMAP_PEER_REMOVED), 1);
  ck_assert_uint_eq(msock_netmap_count(t.nm), 1);
  done(&t);
}
END_TEST

static const msock_route_policy no_routes = {0};

static size_t accepted(store *t, const msock_route_policy *p, uint64_t id, char *out, size_t cap) {
  msock_prefix list[MSOCK_NETMAP_ROUTES_MAX];
  char text[MSOCK_PREFIX_TEXT_MAX];
  const size_t n = msock_netmap_accepted_routes(t->nm, p, msock_netmap_find_id(t->nm, id), list,
                                                MSOCK_NETMAP_ROUTES_MAX);
  out[0] = '\0';
  for (size_t i = 0; i < n; i++) {
    snprintf(out + strlen(out), cap - strlen(out), "%s ", msock_prefix_text(&list[i], text));
  }
  return n;
}

/* closes: CTRL-56 */
START_TEST(node_forms) {
  store t;
  char out[256];
  init(&t, false);
  apply(
      &t,
      "{" SELF ",\"Peers\":[" PEER("2", "") "," PEER("3", ",\"AllowedIPs\":null") "," PEER(
          "4",
          ",\"Allowe"
          "dIPs\":["
          "]") "," PEER("5",
                        ",\"DERP\":\"127.3.3.40:12\"") "," PEER("6",
                                                                ",\"DERP\":\"127.3.3.40:12\","
                                                                "\"HomeDERP\":"
                                                                "3") "," PEER("7",
                                                                              ",\"DERP\":\"10.0.0."
                                                                              "1:12\","
                                                                              "\"UnsignedPeerAPIOnl"
                                                                              "y\":"
                                                                              "true,"
                                                                              "\"AllowedIPs\":["
                                                                              "\"10.0.0.0/"
                                                                              "8\"]") "," PEER("8",
                                                                                               ",\""
                                                                                               "End"
                                                                                               "poi"
                                                                                               "n"
                                                                                               "ts"
                                                                                               "\":"
                                                                                               "["
                                                                                               "\"1"
                                                                                               "27."
                                                                                               "0."
                                                                                               "0."
                                                                                               "1:"
                                                                                               "1\""
                                                                                               ",\""
                                                                                               "1."
                                                                                               "2."
                                                                                               "3."
                                                                                               "4:"
                                                                                               "0\""
                                                                                               ","
                                                                                               "\"2"
                                                                                               "24."
                                                                                               "0."
                                                                                               "0."
                                                                                               "1:"
                                                                                               "1\""
                                                                                               ",\""
                                                                                               "0."
                                                                                               "0."
                                                                                               "0."
                                                                                               "0:"
                                                                                               "1\""
                                                                                               ","
                                                                                               "\"b"
                                                                                               "ad"
                                                                                               "\","
                                                                                               "\"1"
                                                                                               "92."
                                                                                               "0."
                                                                                               "2."
                                                                                               "1:"
                                                                                               "7\""
                                                                                               "]") ",{\"ID\":9,\"Key\":\"bad\"},17]}");
  ck_assert_uint_eq(msock_netmap_count(t.nm), 7);
  ck_assert_uint_eq(msock_netmap_get_stats(t.nm).bad_elements, 2);
  accepted(&t, &no_routes, 2, out, sizeof out);
  ck_assert_str_eq(out, "100.64.0.2/32 ");
  accepted(&t, &no_routes, 3, out, sizeof out);
  ck_assert_str_eq(out, "100.64.0.3/32 ");
  ck_assert_uint_eq(accepted(&t, &no_routes, 4, out, sizeof out), 0);
  ck_assert_uint_eq(msock_netmap_find_id(t.nm, 5)->home_derp, 12);
  ck_assert_uint_eq(msock_netmap_find_id(t.nm, 6)->home_derp, 3);
  ck_assert_uint_eq(msock_netmap_find_id(t.nm, 7)->home_derp, 0);
  accepted(&t, &(msock_route_policy){.accept_routes = true}, 7, out, sizeof out);
  ck_assert_str_eq(out, "100.64.0.7/32 ");
  ck_assert_uint_eq(msock_netmap_find_id(t.nm, 8)->n_endpoints, 1);
  ck_assert_uint_eq(msock_netmap_get_stats(t.nm).skipped_endpoints, 5);
  ck_assert_ptr_nonnull(msock_netmap_find_name(t.nm, "P8.LAB"));
  ck_assert_ptr_eq(msock_netmap_find_name(t.nm, "p8"), msock_netmap_find_name(t.nm, "p8.lab."));
  ck_assert_ptr_null(msock_netmap_find_name(t.nm, "p"));
  done(&t);
}
END_TEST

/* closes: CTRL-66 */
START_TEST(routes_are_accepted_by_policy) {
  store t;
  char out[512];
  const msock_route_policy routes = {.accept_routes = true}, exit2 = {.exit_node_id = 2};
  init(&t, false);
  apply(&t, "{" SELF ",\"Peers\":[" PEER(
                "2",
                ",\"AllowedIPs\":[\"100.64.0.2/32\",\"10.0.0.0/8\",\"10.1.0.0/16\",\"0.0.0.0/0\","
                "\"::/0\",\"100.64.0.1/32\",\"100.64.0.3/32\"]") "," PEER("3",
                                                                          ",\"AllowedIPs\":[\"100."
                                                                          "64.0.3/32\",\"10.0.0.0/"
                                                                          "8\",\"10.1.0.0/"
                                                                          "16\",\"0.0.0.0/0\"],"
                                                                          "\"PrimaryRoutes\":[\"10."
                                                                          "1.0.0/16\"]") "]}");
  accepted(&t, &no_routes, 2, out, sizeof out);
  ck_assert_str_eq(out, "100.64.0.2/32 ");
  accepted(&t, &routes, 2, out, sizeof out); /* 10/8: tie, lower ID; never self's or peer 3's own */
  ck_assert_str_eq(out, "100.64.0.2/32 10.0.0.0/8 ");
  accepted(&t, &routes, 3, out, sizeof out); /* 10.1/16: primary */
  ck_assert_str_eq(out, "100.64.0.3/32 10.1.0.0/16 ");
  accepted(&t, &exit2, 2, out, sizeof out);
  ck_assert_str_eq(out, "100.64.0.2/32 0.0.0.0/0 ::/0 ");
  accepted(&t, &exit2, 3, out, sizeof out);
  ck_assert_str_eq(out, "100.64.0.3/32 ");
  count_kind(&t, MSOCK_NETMAP_ROUTES);
  apply(&t, "{\"PeersRemoved\":[3]}");
  ck_assert_uint_eq(count_kind(&t, MSOCK_NETMAP_ROUTES), 1);
  accepted(&t, &routes, 2, out, sizeof out);
  ck_assert_str_eq(out, "100.64.0.2/32 10.0.0.0/8 10.1.0.0/16 100.64.0.3/32 ");
  done(&t);
}
END_TEST

START_TEST(conflicts_keep_the_lower_id) {
  store t;
  init(&t, false);
  apply(&t,
        "{" SELF ",\"Peers\":["
        "{\"ID\":2,\"Key\":\"" KEY(
            "12") "\",\"Addresses\":[\"100.64.0.2/32\"]},"
                  "{\"ID\":3,\"Key\":\"" KEY(
                      "13") "\",\"Addresses\":[\"100.64.0.2/32\"]},"
                            "{\"ID\":4,\"Key\":\"" KEY(
                                "12") "\",\"Addresses\":[\"100.64.0.4/32\"]},"
                                      "{\"ID\":5,\"Key\":\"" KEY(
                                          "01") "\",\"Addresses\":[\"100.64.0.5/32\"]},"
                                                "{\"ID\":6,\"Key\":\"" KEY(
                                                    "16") "\",\"Addresses\":[\"100.64.0.4/32\"]},"
                                                          "{\"ID\":1,\"Key\":\"" KEY(
                                                              "17") "\",\"Addresses\":[\"100.64.0."
                                                                    "7/32\"]}]}");
  ck_assert_uint_eq(msock_netmap_count(t.nm), 5); /* self is never a peer */
  ck_assert_uint_eq(msock_netmap_get_stats(t.nm).conflicts, 3);
  ck_assert_uint_eq(count_kind(&t, MSOCK_NETMAP_PEER_ADDED), 2);
  ck_assert_ptr_nonnull(msock_netmap_find_id(t.nm, 2));
  ck_assert_ptr_null(msock_netmap_find_id(t.nm, 3));
  ck_assert_ptr_null(msock_netmap_find_id(t.nm, 4));
  ck_assert_ptr_null(msock_netmap_find_id(t.nm, 5));
  ck_assert_ptr_nonnull(msock_netmap_find_id(t.nm, 6));
  apply(&t, "{\"PeersRemoved\":[2]}"); /* those that it hid come forward */
  ck_assert_ptr_nonnull(msock_netmap_find_id(t.nm, 3));
  ck_assert_ptr_nonnull(msock_netmap_find_id(t.nm, 4));
  ck_assert_ptr_null(msock_netmap_find_id(t.nm, 6)); /* now 4 holds its address */
  done(&t);
}
END_TEST

/* closes: CTRL-57 */
START_TEST(derp_map_rules) {
  store t;
  init(&t, false);
  apply(&t, "{" SELF ",\"DERPMap\":{\"Regions\":{\"9\":{\"RegionID\":9,\"RegionCode\":\"a\","
            "\"Nodes\":[{\"Name\":\"9a\",\"RegionID\":9,\"HostName\":\"h\",\"IPv4\":\"192.0.2.1\","
            "\"IPv6\":\"none\",\"STUNPort\":-1,\"DERPPort\":0}]},\"4\":{\"RegionID\":4},"
            "\"5\":null},\"HomeParams\":{\"RegionScore\":{\"9\":0.5,\"4\":-1}}}}");
  const msock_derp_map *m = msock_netmap_derp_map(t.nm);
  ck_assert_uint_eq(m->n_regions, 2);
  ck_assert_uint_eq(m->regions[0].id, 4);
  const msock_derp_region *r = msock_derp_map_find(m, 9);
  ck_assert(r->score > 0.49 && r->score < 0.51);
  ck_assert_uint_eq(r->nodes[0].stun_port, 0);
  ck_assert_uint_eq(r->nodes[0].derp_port, 443);
  ck_assert_int_eq(r->nodes[0].v4, MSOCK_DERP_FAMILY_LITERAL);
  ck_assert_int_eq(r->nodes[0].v6, MSOCK_DERP_FAMILY_OFF);
  ck_assert_uint_eq(count_kind(&t, MSOCK_NETMAP_DERP_MAP), 1);
  apply(&t, "{\"DERPMap\":{\"Regions\":null}}");
  apply(&t, "{\"DERPMap\":null}");
  ck_assert_uint_eq(msock_netmap_derp_map(t.nm)->n_regions, 2);
  ck_assert_uint_eq(count_kind(&t, MSOCK_NETMAP_DERP_MAP), 0);
  apply(&t, "{\"DERPMap\":{\"HomeParams\":{\"RegionScore\":{}}}}");
  ck_assert(msock_derp_map_find(msock_netmap_derp_map(t.nm), 9)->score > 0.99);
  apply(&t, "{\"DERPMap\":{\"Regions\":{\"9\":null,\"4\":{\"RegionID\":4}}}}");
  ck_assert_uint_eq(msock_netmap_derp_map(t.nm)->n_regions, 1);
  ck_assert_uint_eq(count_kind(&t, MSOCK_NETMAP_DERP_MAP), 2);
  done(&t);
}
END_TEST

/* closes: CTRL-58 */
START_TEST(cap_map_forms) {
  store t;
  init(&t, false);
  apply(&t, "{\"Node\":{\"ID\":1,\"Key\":\"" KEY(
                "01") "\",\"CapMap\":{\"a\":null,\"b\":[],"
                      "\"c\":[false],\"d\":[{}]},\"Capabilities\":[\"e\",\"a\"]}}");
  const msock_peer *self = msock_netmap_self(t.nm);
  for (const char *name = "abcde"; *name; name++) {
    const char text[2] = {*name, '\0'};
    ck_assert_msg(msock_strlist_has(&self->caps, text), "%s", text);
  }
  ck_assert_uint_eq(self->caps.n, 5);
  ck_assert(!self->machine_authorized);
  done(&t);
}
END_TEST

/* closes: CTRL-62 CTRL-63 CTRL-64 */
START_TEST(filters) {
  store t;
  init(&t, false);
  apply(&t, "{" SELF "}");
  ck_assert_ptr_null(msock_netmap_filter(t.nm)); /* none yet: drop all */
  apply(
      &t,
      "{\"PacketFilters\":{\"base\":[{\"SrcIPs\":[\"100.64.0.0-100.64.0.9\",\"bad\",\"*\","
      "\"10.0.0.0/8\",\"10.0.0.1/8\",\"cap:x/y\",\"2.0.0.0-1.0.0.0\",7],\"DstPorts\":[{\"IP\":"
      "\"*\",\"Ports\":{\"First\":1,\"Last\":2}},{\"IP\":\"*\",\"Ports\":{\"First\":3,\"Last\":2}}"
      "]},{\"SrcIPs\":[\"*\"],\"IPProto\":[47,300],\"DstPorts\":[]},{\"SrcIPs\":[\"*\"],"
      "\"IPProto\":[-1,256]},{\"SrcIPs\":[\"*\"],\"SrcBits\":[8]}],\"more\":[{\"SrcIPs\":[\"*\"]}"
      "]}}");
  const msock_policy *p = msock_netmap_filter(t.nm);
  ck_assert_uint_eq(p->n_rules, 4);
  ck_assert_uint_eq(p->rules[0].n_srcs, 4);
  ck_assert_str_eq(p->rules[0].srcs[3].cap, "x/y");
  ck_assert_uint_eq(p->rules[0].n_dsts, 1);
  ck_assert_uint_eq(p->rules[1].n_protos, 1);
  ck_assert(p->rules[2].no_proto && !p->rules[1].no_proto);
  ck_assert_uint_eq(count_kind(&t, MSOCK_NETMAP_FILTER), 1);
  apply(&t, "{\"PacketFilters\":{\"more\":[{\"SrcIPs\":[\"*\"]}]},\"PacketFilter\":null}");
  ck_assert_uint_eq(count_kind(&t, MSOCK_NETMAP_FILTER), 0); /* the same again */
  ck_assert_uint_eq(msock_netmap_filter(t.nm)->n_rules, 4);
  apply(&t, "{\"PacketFilters\":{\"more\":null}}");
  ck_assert_uint_eq(msock_netmap_filter(t.nm)->n_rules, 3);
  apply(&t, "{\"PacketFilter\":[{\"SrcIPs\":[\"1.2.3.4\"]}]}"); /* = base */
  ck_assert_uint_eq(msock_netmap_filter(t.nm)->n_rules, 1);
  apply(&t, "{\"PacketFilters\":{\"z\":[{\"SrcIPs\":[\"*\"]}],\"*\":null}}"); /* clear, then add */
  ck_assert_uint_eq(msock_netmap_filter(t.nm)->n_rules, 1);
  ck_assert(msock_netmap_filter(t.nm)->rules[0].srcs[0].range.any);
  apply(&t, "{\"PacketFilters\":{\"*\":null}}");
  ck_assert_ptr_nonnull(msock_netmap_filter(t.nm));
  ck_assert_uint_eq(msock_netmap_filter(t.nm)->n_rules, 0);
  done(&t);
}
END_TEST

/* closes: CTRL-71 */
START_TEST(expiry_follows_control_time) {
  store t;
  msock_netmap_change c;
  init(&t, false);
  t.wall = WALL - UINT64_C(31536000) * MSOCK_SEC; /* our clock is a year late */
  apply(&t,
        "{" SELF ",\"Peers\":[" PEER(
            "2", ",\"KeyExpiry\":\"2026-11-18T11:07:10Z\"") "],"
                                                            "\"ControlTime\":\"2026-11-18T11:06:"
                                                            "40Z\"}"); /* = WALL; expiry in 30 s */
  ck_assert(!msock_netmap_find_id(t.nm, 2)->expired);
  ck_assert_int_eq(msock_netmap_clock_offset_us(t.nm), INT64_C(31536000000000));
  const uint64_t due = msock_netmap_next_expiry(t.nm);
  ck_assert_uint_eq(due, 35 * MSOCK_SEC); /* fed at 5 s */
  while (msock_netmap_next_change(t.nm, &c)) {
  }
  msock_netmap_on_expiry(t.nm, due - 1, t.wall + 30 * MSOCK_SEC - 1);
  ck_assert(!msock_netmap_find_id(t.nm, 2)->expired);
  msock_netmap_on_expiry(t.nm, due, t.wall + 30 * MSOCK_SEC);
  ck_assert(msock_netmap_find_id(t.nm, 2)->expired);
  ck_assert(msock_netmap_next_change(t.nm, &c));
  ck_assert_uint_eq(c.what, MSOCK_PEER_EXPIRY);
  char out[64];
  ck_assert_uint_eq(accepted(&t, &no_routes, 2, out, sizeof out), 0);
  /* Within 60 s of ours the server's clock is taken for ours. */
  applyf(&t, "{\"ControlTime\":\"2025-11-18T11:07:39Z\"}");
  ck_assert_int_eq(msock_netmap_clock_offset_us(t.nm), 0);
  done(&t);
}
END_TEST

/* closes: CTRL-72 */
START_TEST(memory_does_not_follow_the_message) {
  enum { PEERS = 5000 };
  store t;
  size_t len = 0, cap = 8u << 20, peak = 0;
  char *json = malloc(cap);
  len += (size_t)snprintf(json, cap, "{%s,\"Peers\":[", SELF);
  for (int i = 0; i < PEERS; i++) {
    len += (size_t)snprintf(
        json + len, cap - len,
        "%s{\"ID\":%d,\"StableID\":\"%d\",\"Name\":\"node-%d.lab.example.\",\"User\":1,"
        "\"Key\":\"nodekey:%064x\",\"Machine\":\"mkey:%064x\",\"DiscoKey\":\"discokey:%064x\","
        "\"Addresses\":[\"100.%d.%d.%d/32\"],\"AllowedIPs\":[\"100.%d.%d.%d/32\"],"
        "\"Endpoints\":[\"192.0.2.1:%d\",\"198.51.100.7:%d\"],\"HomeDERP\":999,\"Hostinfo\":{"
        "\"OS\":\"linux\",\"Hostname\":\"node-%d\",\"Filler\":\"%0400d\"},\"Cap\":138,"
        "\"Online\":true}",
        i ? "," : "", i + 2, i + 2, i, i + 1000, i, i + 9, 64 + i / 65025, i / 255 % 255 + 1,
        i % 255, 64 + i / 65025, i / 255 % 255 + 1, i % 255, 1000 + i, 1000 + i, i, 0);
  }
  len += (size_t)snprintf(json + len, cap - len, "]}");
  init(&t, true);
  size_t n = 0;
  uint8_t *f = frame(json, len, true, &n);
  size_t applied = 0;
  for (size_t at = 0; at < n; at += 1024) {
    applied += feed(&t, f + at, n - at < 1024 ? n - at : 1024);
    const size_t now = msock_map_stream_memory(t.s);
    peak = now > peak ? now : peak;
  }
  ck_assert_uint_eq(applied, 1);
  ck_assert_uint_eq(msock_netmap_count(t.nm), PEERS);
  ck_assert_uint_gt(len, 4u << 20);
  ck_assert_uint_lt(peak, len / 2); /* zstd's window of level 1 is 512 KiB */
  ck_assert_uint_lt(msock_map_stream_memory(t.s), 64u << 10);
  size_t total = 0;
  changed(&t, 0, &total);
  ck_assert_uint_ge(total, PEERS);
  free(f);
  free(json);
  done(&t);
}
END_TEST

START_TEST(overflowing_changes_become_one_resync) {
  store t;
  msock_netmap_change c;
  init(&t, false);
  apply(&t, FULL);
  for (size_t i = 0; i < MSOCK_NETMAP_CHANGES_MAX + 5; i++) {
    apply(&t, i % 2 ? "{\"OnlineChange\":{\"2\":true}}" : "{\"OnlineChange\":{\"2\":false}}");
  }
  ck_assert(msock_netmap_next_change(t.nm, &c));
  ck_assert_int_eq(c.kind, MSOCK_NETMAP_RESYNC);
  ck_assert(!msock_netmap_next_change(t.nm, &c));
  done(&t);
}
END_TEST

START_TEST(dns_users_health_reset) {
  static const char dns[] =
      "{\"DNSConfig\":{\"Proxied\":true,\"Domains\":[\"lab.\",\"corp.\"],\"Routes\":{"
      "\"64.100.in-addr.arpa\":[],\"corp.\":[{\"Addr\":\"10.9.0.53\"}],\"x.\":[]},\"Resolvers\":"
      "[{\"Addr\":\"1.1.1.1\"}],\"ExtraRecords\":[{\"Name\":\"s.lab\",\"Value\":\"100.64.0.9\"}]}}";
  store t;
  const msock_health_message *h = NULL;
  size_t n = 0;
  init(&t, false);
  apply(&t, FULL);
  changed(&t, 0, &n);
  apply(&t, dns);
  apply(&t, dns);
  ck_assert_uint_eq(count_kind(&t, MSOCK_NETMAP_DNS), 1);
  const msock_dns_config *d = msock_netmap_dns(t.nm);
  ck_assert(d->proxied);
  ck_assert_uint_eq(d->domains.n, 2);
  ck_assert_uint_eq(d->n_routes, 2);
  ck_assert_str_eq(d->routes[0].suffix, "corp.");
  ck_assert_str_eq(d->records[0].value, "100.64.0.9");
  apply(&t, "{\"UserProfiles\":[{\"ID\":5,\"LoginName\":\"bob\"},{\"ID\":2,\"LoginName\":"
            "\"al\\u0001\"}]}");
  apply(&t, "{\"UserProfiles\":[{\"ID\":5,\"LoginName\":\"bob\"}]}");
  ck_assert_uint_eq(count_kind(&t, MSOCK_NETMAP_USERS), 1);
  ck_assert_str_eq(msock_netmap_user(t.nm, 5)->login, "bob");
  ck_assert_str_eq(msock_netmap_user(t.nm, 2)->login, "al?");
  apply(&t, "{\"Health\":[\"bad\"],\"DisplayMessages\":{\"a\":{\"Title\":\"T\",\"Text\":\"x\","
            "\"Severity\":\"high\"}}}");
  ck_assert_uint_eq(msock_netmap_health(t.nm, &h), 2);
  apply(&t, "{\"Health\":null}");
  ck_assert_uint_eq(msock_netmap_health(t.nm, &h), 2);
  apply(&t, "{\"Health\":[]}");
  ck_assert_uint_eq(msock_netmap_health(t.nm, &h), 1);
  ck_assert_str_eq(h[0].title, "T");
  apply(&t, "{\"DisplayMessages\":{\"a\":null,\"b\":{\"Text\":\"y\"}}}");
  ck_assert_uint_eq(msock_netmap_health(t.nm, &h), 1);
  ck_assert_str_eq(h[0].text, "y");
  apply(&t, "{\"DisplayMessages\":{\"*\":null}}");
  ck_assert_uint_eq(msock_netmap_health(t.nm, &h), 0);
  changed(&t, 0, &n);
  msock_netmap_reset(t.nm);
  ck_assert_ptr_null(msock_netmap_self(t.nm));
  ck_assert_ptr_null(msock_netmap_filter(t.nm));
  ck_assert_uint_eq(count_kind(&t, MSOCK_NETMAP_PEER_REMOVED), 2);
  done(&t);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, messages_split_at_every_byte, 0, 2);
  tcase_add_test(tc, bad_messages_change_nothing);
  tcase_add_test(tc, zstd_limits);
  tcase_add_test(tc, a_long_single_segment_is_read_with_a_bounded_window);
  tcase_add_loop_test(tc, a_single_segment_that_looks_back_too_far_is_refused, 0, 2);
  tcase_add_test(tc, lists_of_peers);
  tcase_add_test(tc, patch_fields_alone_and_together);
  tcase_add_test(tc, a_new_key_unexpires);
  tcase_add_test(tc, small_news_is_small);
  tcase_add_test(tc, node_forms);
  tcase_add_test(tc, routes_are_accepted_by_policy);
  tcase_add_test(tc, conflicts_keep_the_lower_id);
  tcase_add_test(tc, derp_map_rules);
  tcase_add_test(tc, cap_map_forms);
  tcase_add_test(tc, filters);
  tcase_add_test(tc, expiry_follows_control_time);
  tcase_add_test(tc, memory_does_not_follow_the_message);
  tcase_add_test(tc, overflowing_changes_become_one_resync);
  tcase_add_test(tc, dns_users_health_reset);
  return testing_main("control_netmap", tc);
}
