/* control/tailnet_text.c: the map messages of the tiny control server (control.md 4.4, 7). */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "control/tailnet_internal.h"
#include "control/wire_time.h"

#define FAKE_PORT_BASE 20000u /* no two of them share an address */
#define WINDOW_LOG_MIN 10     /* RFC 8878 3.1.1.1.2 */
#define WINDOW_LOG_MAX 23     /* control.md 4.2 */

void msock_tailnet_addf(tailnet_text *t, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const int n = t->bad ? -1 : vsnprintf(NULL, 0, fmt, ap);
  va_end(ap);
  if (n < 0) {
    t->bad = true;
    return;
  }
  if (t->len + (size_t)n + 1 > t->cap) {
    const size_t cap = (t->len + (size_t)n + 1) * 2;
    char *p = realloc(t->p, cap);
    if (p == NULL) {
      t->bad = true;
      return;
    }
    t->p = p;
    t->cap = cap;
  }
  va_start(ap, fmt);
  vsnprintf(t->p + t->len, (size_t)n + 1, fmt, ap);
  va_end(ap);
  t->len += (size_t)n;
}

void msock_tailnet_add_string(tailnet_text *t, const char *s) {
  msock_tailnet_addf(t, "\"");
  for (; *s; s++) {
    const unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\') {
      msock_tailnet_addf(t, "\\%c", c);
    } else if (c < 0x20) {
      msock_tailnet_addf(t, "\\u%04x", c);
    } else {
      msock_tailnet_addf(t, "%c", c);
    }
  }
  msock_tailnet_addf(t, "\"");
}

static void add_addresses(tailnet_text *t, uint64_t id) {
  /* 100.64.0.0/10 in sequence, and the same number below fd7a:115c:a1e0::/48 */
  const unsigned n = (unsigned)id;
  msock_tailnet_addf(t,
                     "\"Addresses\":[\"100.%u.%u.%u/32\",\"fd7a:115c:a1e0::%x:%x/128\"],"
                     "\"AllowedIPs\":[\"100.%u.%u.%u/32\",\"fd7a:115c:a1e0::%x:%x/128\"],",
                     64 + (n >> 16 & 63), n >> 8 & 255, n & 255, n >> 16, n & 0xffff,
                     64 + (n >> 16 & 63), n >> 8 & 255, n & 255, n >> 16, n & 0xffff);
}

static void add_time(tailnet_text *t, const char *name, uint64_t wall_us) {
  char text[MSOCK_WIRE_TIME_MAX];
  msock_tailnet_addf(t, "\"%s\":\"%s\"", name, msock_wire_time_text(wall_us, text));
}

static void add_node(const msock_tailnet *t, const tailnet_node *n, tailnet_text *out) {
  char key[MSOCK_KEY_TEXT_MAX];
  msock_tailnet_addf(out,
                     "{\"ID\":%" PRIu64 ",\"StableID\":\"n%" PRIu64 "\",\"Name\":\"%s.%s.\","
                     "\"User\":1,\"Key\":\"%s\",",
                     n->id, n->id, n->name, t->cfg.domain, msock_node_key_text(&n->key, key));
  msock_tailnet_addf(out, "\"Machine\":\"%s\",", msock_machine_key_text(&n->machine, key));
  msock_tailnet_addf(out, "\"DiscoKey\":\"%s\",", msock_disco_key_text(&n->disco, key));
  add_addresses(out, n->id);
  msock_tailnet_addf(out, "\"Endpoints\":[%s],", n->endpoints ? n->endpoints : "");
  if (n->home_derp > 0) {
    msock_tailnet_addf(out, "\"HomeDERP\":%" PRId64 ",", n->home_derp);
  }
  msock_tailnet_addf(out, "\"Hostinfo\":{\"OS\":");
  msock_tailnet_add_string(out, n->os);
  msock_tailnet_addf(out, ",\"Hostname\":");
  msock_tailnet_add_string(out, n->hostname);
  msock_tailnet_addf(out, "},");
  add_time(out, "Created", n->created_us);
  msock_tailnet_addf(out, ",\"Online\":%s,\"MachineAuthorized\":true,\"Cap\":138}",
                     n->stream ? "true" : "false");
}

void msock_tailnet_add_fake(const msock_tailnet *t, uint32_t i, tailnet_text *out) {
  msock_node_key key;
  msock_disco_key disco;
  char key_text[MSOCK_KEY_TEXT_MAX], disco_text[MSOCK_KEY_TEXT_MAX];
  const uint64_t id = MSOCK_TAILNET_FAKE_ID_BASE + i;
  memcpy(key.b, t->fakes[i].key, sizeof key.b);
  memcpy(disco.b, t->fakes[i].disco, sizeof disco.b);
  msock_tailnet_addf(out,
                     "{\"ID\":%" PRIu64 ",\"StableID\":\"n%" PRIu64
                     "\",\"Name\":\"fake-%u.%s.\",\"User\":1,\"Key\":\"%s\",\"DiscoKey\":\"%s\",",
                     id, id, i, t->cfg.domain, msock_node_key_text(&key, key_text),
                     msock_disco_key_text(&disco, disco_text));
  add_addresses(out, id);
  msock_tailnet_addf(out,
                     "\"Endpoints\":[\"192.0.2.%u:%u\",\"203.0.113.%u:%u\"],\"HomeDERP\":%" PRIu64
                     ",\"Hostinfo\":{\"OS\":"
                     "\"linux\",\"Hostname\":\"fake-%u\"},\"Created\":\"2026-01-01T00:00:00Z\","
                     "\"Online\":false,\"MachineAuthorized\":true,\"Cap\":138}",
                     i % 254 + 1, FAKE_PORT_BASE + i, i % 254 + 1, FAKE_PORT_BASE + i,
                     t->first_region, i);
}

static int by_id(const void *a, const void *b) {
  const tailnet_node *x = *(tailnet_node *const *)a, *y = *(tailnet_node *const *)b;
  return x->id < y->id ? -1 : x->id > y->id;
}

void msock_tailnet_full_text(const msock_tailnet *t, const tailnet_node *n, uint64_t wall_us,
                             tailnet_text *out) {
  static const char allow_all[] =
      "{\"base\":[{\"SrcIPs\":[\"*\"],\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":0,\"Last\":"
      "65535}}]}]}";
  tailnet_node *sorted[MSOCK_TAILNET_NODES_MAX];
  size_t listed = 0;

  memcpy(sorted, t->nodes, t->n_nodes * sizeof *sorted);
  qsort(sorted, t->n_nodes, sizeof *sorted, by_id);
  msock_tailnet_addf(out, "{\"Node\":");
  add_node(t, n, out);
  msock_tailnet_addf(out, ",\"DERPMap\":%s,\"Domain\":\"%s\"", t->derp_map, t->cfg.domain);
  for (size_t i = 0; i < t->n_nodes; i++) {
    if (sorted[i] != n) {
      msock_tailnet_addf(out, listed++ ? "," : ",\"Peers\":[");
      add_node(t, sorted[i], out);
    }
  }
  for (uint32_t i = 0; i < t->cfg.fake_peers; i++) {
    msock_tailnet_addf(out, listed++ ? "," : ",\"Peers\":[");
    msock_tailnet_add_fake(t, i, out);
  }
  msock_tailnet_addf(out, "%s,\"PacketFilters\":%s", listed ? "]" : "",
                     t->cfg.packet_filters ? t->cfg.packet_filters : allow_all);
  msock_tailnet_addf(
      out,
      ",\"UserProfiles\":[{\"ID\":1,\"LoginName\":\"demo\",\"DisplayName\":\"demo\"}],"
      "\"DNSConfig\":{\"Domains\":[\"%s\"]},\"Debug\":{\"DisableLogTail\":true},",
      t->cfg.domain);
  add_time(out, "ControlTime", wall_us);
  msock_tailnet_addf(out, "}");
}

void msock_tailnet_changed_text(const msock_tailnet *t, const tailnet_node *n, uint64_t wall_us,
                                tailnet_text *out) {
  msock_tailnet_addf(out, "{\"PeersChanged\":[");
  add_node(t, n, out);
  msock_tailnet_addf(out, "],");
  add_time(out, "ControlTime", wall_us);
  msock_tailnet_addf(out, "}");
}

/* As Headscale does it: level 1, and a single segment as long as clients allow that (the limit of
 * control.md 4.2), so that a client needs the same memory here and there. */
static size_t compress_text(void *dst, size_t cap, const char *json, size_t len) {
  ZSTD_CCtx *c = ZSTD_createCCtx();
  int window_log = WINDOW_LOG_MIN;
  size_t n = 0;
  while (window_log < WINDOW_LOG_MAX && ((size_t)1 << window_log) < len) {
    window_log++;
  }
  if (c != NULL && !ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, 1)) &&
      !ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log))) {
    n = ZSTD_compress2(c, dst, cap, json, len);
  }
  ZSTD_freeCCtx(c);
  return ZSTD_isError(n) ? 0 : n;
}

bool msock_tailnet_frame(const char *json, size_t len, bool compress, uint8_t **out,
                         size_t *out_len) {
  const size_t cap = compress ? ZSTD_compressBound(len) : len;
  size_t n = len;
  uint8_t *p = malloc(cap + 4);

  if (p == NULL) {
    return false;
  }
  if (compress) {
    n = compress_text(p + 4, cap, json, len);
    if (n == 0) {
      free(p);
      return false;
    }
  } else {
    memcpy(p + 4, json, len);
  }
  for (int i = 0; i < 4; i++) {
    p[i] = (uint8_t)(n >> (8 * i));
  }
  *out = p;
  *out_len = n + 4;
  return true;
}
