/* tests/bench/bench_netmap.c: what a netmap costs without a node around it: time and memory of a
 * full map of N peers, plain and compressed, and the time of one patch. `./dev bench netmap` runs
 * it. Goals: control.md CTRL-72. Figures, not gates. */
#include <inttypes.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#include "base/hex.h"
#include "control/map_stream.h"
#include "crypto/init.h"

#define PIECE 4096u /* bytes in one feed, as a Noise record brings them */
#define PATCHES 2000u
#define WALL_US (UINT64_C(1795000000) * MSOCK_SEC)
#define GOAL_FULL_US 1e6 /* 5,000 peers: CTRL-72 */
#define GOAL_PATCH_US 100.0
#define GOAL_GROWTH_MB 6.0
#define MB (1024.0 * 1024.0)

typedef struct text {
  char *p;
  size_t len, cap;
} text;

typedef struct bench {
  msock_env env;
  msock_netmap *nm;
  msock_map_stream *s;
  bool zstd;
  size_t peak; /* working memory of the stream, beside what the store keeps */
} bench;

static void stop(const char *why) {
  fprintf(stderr, "bench_netmap: %s\n", why);
  exit(1);
}

static void addf(text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void addf(text *t, const char *fmt, ...) {
  char buf[2048];
  va_list ap;
  va_start(ap, fmt);
  const int n = vsnprintf(buf, sizeof buf, fmt, ap);
  va_end(ap);
  if (n < 0 || (size_t)n >= sizeof buf) {
    stop("a text is too long");
  }
  if (t->len + (size_t)n > t->cap) {
    t->cap = 2 * t->cap + (size_t)n + 4096;
    t->p = realloc(t->p, t->cap);
    if (t->p == NULL) {
      stop("out of memory");
    }
  }
  memcpy(t->p + t->len, buf, (size_t)n);
  t->len += (size_t)n;
}

static double now_us(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

/* A node with the members that Headscale sends (tests/vectors/map_full.json). */
static void add_node(text *t, uint32_t id, uint16_t port) {
  uint8_t key[32] = {(uint8_t)id, (uint8_t)(id >> 8), (uint8_t)(id >> 16), 1};
  char hex[65];
  for (size_t i = 4; i < sizeof key; i++) {
    key[i] = (uint8_t)(key[i - 4] * 167u + i);
  }
  msock_hex_encode(key, sizeof key, hex);
  addf(t,
       "{\"ID\":%" PRIu32 ",\"StableID\":\"%" PRIu32 "\",\"Name\":\"node-%" PRIu32
       ".lab.example.\",\"User\":1,\"Key\":\"nodekey:%s\",\"KeyExpiry\":\"0001-01-01T00:00:00Z\","
       "\"Machine\":\"mkey:%s\",\"DiscoKey\":\"discokey:%s\",",
       id, id, id, hex, hex, hex);
  for (int i = 0; i < 2; i++) {
    addf(t, "\"%s\":[\"100.%u.%u.%u/32\",\"fd7a:115c:a1e0::%x:%x/128\"],",
         i == 0 ? "Addresses" : "AllowedIPs", 64 + (unsigned)(id >> 16), (unsigned)(id >> 8 & 255),
         (unsigned)(id & 255), (unsigned)(id >> 16) + 1, (unsigned)(id & 65535));
  }
  addf(t,
       "\"Endpoints\":[\"192.0.2.%u:%u\",\"10.0.%u.%u:%u\"],\"HomeDERP\":999,\"Hostinfo\":{"
       "\"IPNVersion\":\"1.102.5\",\"OS\":\"linux\",\"Hostname\":\"node-%" PRIu32
       "\",\"Services\":[{\"Proto\":\"peerapi4\",\"Port\":35721}],\"NetInfo\":{\"PreferredDERP\":"
       "999}},\"Created\":\"2026-11-20T20:50:35.267991786Z\",\"Cap\":138,\"Online\":true,"
       "\"LastSeen\":\"2026-11-20T20:50:35Z\",\"MachineAuthorized\":true,\"Capabilities\":["
       "\"https://tailscale.com/cap/file-sharing\"],\"CapMap\":{"
       "\"https://tailscale.com/cap/file-sharing\":null}}",
       (unsigned)(id % 254 + 1), (unsigned)port, (unsigned)(id >> 8 & 255), (unsigned)(id & 255),
       (unsigned)port, id);
}

static text full_map(uint32_t n) {
  text t = {0};
  addf(&t, "{\"Node\":");
  add_node(&t, 1, 41641);
  addf(&t, ",\"Domain\":\"lab.example\",\"Peers\":[");
  for (uint32_t i = 0; i < n; i++) {
    addf(&t, i > 0 ? "," : "%s", "");
    add_node(&t, i + 2, 41641);
  }
  addf(&t, "],\"PacketFilters\":{\"base\":[{\"SrcIPs\":[\"*\"],\"DstPorts\":[{\"IP\":\"*\","
           "\"Ports\":{\"First\":0,\"Last\":65535}}]}]},\"ControlTime\":"
           "\"2026-11-20T20:50:35.267991786Z\"}");
  return t;
}

/* Level 1 and a single segment, as Headscale compresses. */
static size_t compress_text(void *dst, size_t cap, const text *json) {
  ZSTD_CCtx *c = ZSTD_createCCtx();
  int window_log = 10;
  while (((size_t)1 << window_log) < json->len) {
    window_log++;
  }
  ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, 1);
  ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log);
  const size_t n = ZSTD_compress2(c, dst, cap, json->p, json->len);
  ZSTD_freeCCtx(c);
  return n;
}

/* One message with its length in front. */
static text framed(const text *json, bool zstd) {
  const size_t cap = zstd ? ZSTD_compressBound(json->len) : json->len;
  text f = {.p = malloc(cap + 4), .cap = cap + 4};
  if (f.p == NULL) {
    stop("out of memory");
  }
  size_t n = json->len;
  if (zstd) {
    n = compress_text(f.p + 4, cap, json);
    if (ZSTD_isError(n)) {
      stop("zstd");
    }
  } else {
    memcpy(f.p + 4, json->p, n);
  }
  for (size_t i = 0; i < 4; i++) {
    f.p[i] = (char)(n >> (8 * i));
  }
  f.len = n + 4;
  return f;
}

static void feed(bench *b, const text *f) {
  const msock_map_notice *notice = NULL;
  for (size_t at = 0, used = 0; at < f->len; at += used) {
    const size_t n = f->len - at < PIECE ? f->len - at : PIECE;
    const msock_map_failure e = msock_map_stream_feed(
        b->s, 1000 * MSOCK_SEC, WALL_US, (const uint8_t *)f->p + at, n, &used, &notice);
    if (e != MSOCK_MAP_FINE) {
      stop(msock_map_failure_text(e));
    }
    const size_t held = msock_map_stream_memory(b->s);
    b->peak = held > b->peak ? held : b->peak;
  }
}

static void drain(bench *b) {
  msock_netmap_change c;
  while (msock_netmap_next_change(b->nm, &c)) {
  }
}

/* Mean time of a message that changes one peer; patch: PeersChangedPatch, else the whole peer. */
static double change_us(bench *b, uint32_t n, bool patch) {
  double total = 0;
  for (uint32_t i = 0; i < PATCHES; i++) {
    const uint32_t id = i * 7919u % n + 2;
    text json = {0};
    if (patch) {
      addf(&json,
           "{\"PeersChangedPatch\":[{\"NodeID\":%" PRIu32 ",\"Endpoints\":[\"192.0.2.7:%u\"]}]}",
           id, 1000 + (unsigned)i);
    } else {
      addf(&json, "{\"PeersChanged\":[");
      add_node(&json, id, (uint16_t)(1000 + i));
      addf(&json, "]}");
    }
    text f = framed(&json, b->zstd);
    const double start = now_us();
    feed(b, &f);
    drain(b);
    total += now_us() - start;
    free(json.p);
    free(f.p);
  }
  return total / PATCHES;
}

static void row(uint32_t n, bool zstd) {
  bench b = {.env = {.random = msock_crypto_random}, .zstd = zstd};
  text json = full_map(n);
  text f = framed(&json, zstd);
  const size_t json_len = json.len;
  free(json.p);

  const size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
  b.nm = msock_netmap_new(&b.env, false);
  b.s = b.nm != NULL ? msock_map_stream_new(&b.env, b.nm, zstd) : NULL;
  if (b.s == NULL) {
    stop("out of memory");
  }
  const double start = now_us();
  feed(&b, &f);
  drain(&b);
  const double full = now_us() - start;
  if (msock_netmap_count(b.nm) != n) {
    stop("peers are missing");
  }
  const size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
  const double patch = change_us(&b, n, true), peer = change_us(&b, n, false);
  printf("%6" PRIu32 "  %-5s %9.2f %9.2f %10.1f %10.2f %11.0f %9.1f %9.1f\n", n,
         zstd ? "zstd" : "plain", (double)json_len / MB, (double)f.len / MB, full / 1e3,
         (double)(after - before) / MB, (double)b.peak / 1024, patch, peer);
  free(f.p);
  msock_map_stream_free(b.s);
  msock_netmap_free(b.nm);
}

int main(int argc, char **argv) {
  static const uint32_t usual[] = {2, 1000, 5000};
  if (msock_crypto_init() != MSOCK_OK) {
    stop("crypto self-test failed");
  }
  printf("netmap store alone\n peers  form   JSON MB   wire MB    full ms   store MB  working KB"
         "  patch us   peer us\n");
  for (int i = 1; i < argc; i++) {
    row((uint32_t)strtoul(argv[i], NULL, 10), false);
    row((uint32_t)strtoul(argv[i], NULL, 10), true);
  }
  for (size_t i = 0; argc == 1 && i < sizeof usual / sizeof *usual; i++) {
    row(usual[i], false);
    row(usual[i], true);
  }
  printf("goal at 5,000: full map %.0f ms, store %.0f MB, one patch %.0f us\n", GOAL_FULL_US / 1e3,
         GOAL_GROWTH_MB, GOAL_PATCH_US);
  return 0;
}
