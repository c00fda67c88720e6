/* The map stream: the body as it comes, or messages that are framed (and compressed) here, into the
 * netmap store; then everything a node reads out of it. */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "control/json_split.h"
#include "control/map_stream.h"
#include "filter/filter.h"
#include "tests/fuzz/fuzzing.h"

#define NOW_US (1000 * MSOCK_SEC)
#define WALL_US (UINT64_C(1795000000) * MSOCK_SEC)
#define SEPARATOR 0xffu /* between messages; never in JSON text */

enum { RAW_PLAIN = 0, RAW_ZSTD, FRAMED_PLAIN, FRAMED_ZSTD, SPLIT, MODES };

static void texts(const msock_peer *p) {
  FUZZ_CHECK(p->stable_id && p->name && p->hostname && p->os);
  FUZZ_CHECK(strlen(p->name) <= MSOCK_NETMAP_NAME_MAX);
  size_t n = 0;
  for (const char *s = NULL; (s = msock_strlist_next(&p->caps, s)) != NULL;) {
    n++;
  }
  FUZZ_CHECK(n == p->caps.n && n <= MSOCK_NETMAP_CAPS_MAX);
  FUZZ_CHECK(p->n_addresses <= MSOCK_NETMAP_ADDRESSES_MAX);
  FUZZ_CHECK(p->n_allowed <= MSOCK_NETMAP_ROUTES_MAX);
  FUZZ_CHECK(p->n_endpoints <= MSOCK_NETMAP_ENDPOINTS_MAX);
  for (size_t i = 0; i < p->n_endpoints; i++) {
    FUZZ_CHECK(p->endpoints[i].port != 0 && !msock_ip_is_multicast(&p->endpoints[i].ip));
  }
}

static void peers(const msock_netmap *nm) {
  static msock_prefix routes[MSOCK_NETMAP_ROUTES_MAX];
  const msock_route_policy policy = {.accept_routes = true, .exit_node_id = 1};
  uint64_t before = 0;

  FUZZ_CHECK(msock_netmap_count(nm) <= MSOCK_NETMAP_PEERS_MAX);
  for (size_t i = 0; i < msock_netmap_count(nm); i++) {
    const msock_peer *p = msock_netmap_at(nm, i);
    FUZZ_CHECK(i == 0 || p->id > before);
    before = p->id;
    texts(p);
    const msock_peer *by_key = msock_netmap_find_key(nm, &p->key);
    FUZZ_CHECK(p->shadowed ? by_key != p : by_key == p);
    FUZZ_CHECK(p->shadowed ? msock_netmap_find_id(nm, p->id) == NULL
                           : msock_netmap_find_id(nm, p->id) == p);
    (void)msock_netmap_find_name(nm, p->name);
    (void)msock_netmap_user(nm, p->user_id);
    const size_t n = msock_netmap_accepted_routes(nm, &policy, p, routes, MSOCK_NETMAP_ROUTES_MAX);
    FUZZ_CHECK(n <= MSOCK_NETMAP_ROUTES_MAX && (n == 0 || !(p->shadowed || p->expired)));
    for (size_t j = 0; j < p->n_addresses && !p->shadowed; j++) {
      FUZZ_CHECK(msock_netmap_find_ip(nm, &p->addresses[j].ip) == p);
    }
  }
}

static void rest(const msock_netmap *nm, const msock_env *env) {
  const msock_derp_map *derp = msock_netmap_derp_map(nm);
  const msock_dns_config *dns = msock_netmap_dns(nm);
  const msock_health_message *health = NULL;
  const msock_filter_config cfg = {.env = *env};
  msock_derp_map copy;

  FUZZ_CHECK(derp->n_regions <= MSOCK_DERP_REGIONS_MAX);
  for (size_t i = 0; i < derp->n_regions; i++) {
    FUZZ_CHECK(msock_derp_map_find(derp, derp->regions[i].id) == &derp->regions[i]);
    FUZZ_CHECK(derp->regions[i].n_nodes <= MSOCK_DERP_NODES_MAX);
  }
  FUZZ_CHECK(msock_derp_map_copy(&copy, derp) == MSOCK_OK);
  msock_derp_map_clear(&copy);
  FUZZ_CHECK(dns->n_routes <= MSOCK_NETMAP_DNS_MAX && dns->n_records <= MSOCK_NETMAP_DNS_MAX);
  FUZZ_CHECK(msock_netmap_health(nm, &health) <= MSOCK_NETMAP_HEALTH_MAX);
  FUZZ_CHECK(msock_netmap_domain(nm) != NULL);
  if (msock_netmap_filter(nm) != NULL) {
    msock_filter *f = msock_filter_new(&cfg);
    FUZZ_CHECK(f != NULL && msock_filter_set_policy(f, msock_netmap_filter(nm)) == MSOCK_OK);
    msock_filter_free(f);
  }
}

static void read_netmap(msock_netmap *nm, const msock_env *env) {
  msock_netmap_change change;
  size_t n = 0;

  while (msock_netmap_next_change(nm, &change)) {
    FUZZ_CHECK(++n <= MSOCK_NETMAP_CHANGES_MAX + 1);
    if (change.kind == MSOCK_NETMAP_PEER_REMOVED) {
      const msock_peer *p = msock_netmap_find_id(nm, change.id);
      FUZZ_CHECK(p == NULL || n < MSOCK_NETMAP_CHANGES_MAX); /* it may have come back since */
    }
  }
  peers(nm);
  rest(nm, env);
  msock_netmap_on_expiry(nm, NOW_US, WALL_US);
  (void)msock_netmap_next_expiry(nm);
}

static bool feed(msock_map_stream *s, msock_netmap *nm, const msock_env *env, const uint8_t *p,
                 size_t len, uint8_t how) {
  for (size_t at = 0; at < len;) {
    const size_t n = fuzz_piece(how, len - at);
    for (size_t done = 0; done < n;) {
      const msock_map_notice *notice = NULL;
      size_t used = 0;
      const msock_map_failure f =
          msock_map_stream_feed(s, NOW_US, WALL_US, p + at + done, n - done, &used, &notice);
      FUZZ_CHECK(used <= n - done);
      if (f != MSOCK_MAP_FINE) {
        FUZZ_CHECK(msock_map_failure_text(f)[0] != '\0');
        return false;
      }
      FUZZ_CHECK(used > 0);
      done += used;
      if (notice != NULL) {
        FUZZ_CHECK(!msock_map_stream_started(s) || msock_netmap_self(nm) != NULL);
        FUZZ_CHECK(notice->sleep_seconds <= MSOCK_MAP_SLEEP_MAX_S);
        read_netmap(nm, env);
      }
    }
    at += n;
  }
  return true;
}

static bool framed(msock_map_stream *s, msock_netmap *nm, const msock_env *env, const uint8_t *p,
                   size_t len, bool zstd, uint8_t how) {
  const size_t cap = zstd ? ZSTD_compressBound(len) : len;
  uint8_t *frame = malloc(cap + 4);
  size_t n = len;

  if (zstd) {
    n = ZSTD_compress(frame + 4, cap, p, len, 1);
    FUZZ_CHECK(!ZSTD_isError(n));
  } else {
    memcpy(frame + 4, p, len);
  }
  for (size_t i = 0; i < 4; i++) {
    frame[i] = (uint8_t)(n >> (8 * i));
  }
  const bool on = feed(s, nm, env, frame, n + 4, how);
  free(frame);
  return on;
}

static void stream(msock_reader *r, unsigned mode, uint8_t how, const msock_env *env) {
  msock_netmap *nm = msock_netmap_new(env, (how & 1) != 0);
  const bool zstd = mode == RAW_ZSTD || mode == FRAMED_ZSTD;
  msock_map_stream *s = msock_map_stream_new(env, nm, zstd);
  size_t len = 0;
  uint8_t *p = fuzz_rest(r, &len);
  bool on = true;

  FUZZ_CHECK(nm != NULL && s != NULL);
  msock_map_stream_set_limits(s, 1u << 20, 4u << 20);
  if (mode == RAW_PLAIN || mode == RAW_ZSTD) {
    (void)feed(s, nm, env, p, len, how);
  }
  for (size_t at = 0; mode >= FRAMED_PLAIN && on && at < len;) {
    const uint8_t *end = memchr(p + at, (int)SEPARATOR, len - at);
    const size_t n = end != NULL ? (size_t)(end - (p + at)) : len - at;
    on = framed(s, nm, env, p + at, n, zstd, how);
    at += n + 1;
  }
  msock_netmap_reset(nm);
  read_netmap(nm, env);
  FUZZ_CHECK(msock_netmap_self(nm) == NULL && msock_netmap_count(nm) == 0);
  msock_map_stream_free(s);
  msock_netmap_free(nm);
  free(p);
}

/* The splitter alone: pieces must give the same events as the whole. */
typedef struct walk {
  uint8_t modes; /* two bits for each level */
  uint32_t sum;
  size_t n, depth;
} walk;

static msock_json_mode mode_of(void *ctx, const msock_json_path *path) {
  const walk *w = ctx;
  FUZZ_CHECK(path->depth <= MSOCK_JSON_PATH_MAX);
  return (msock_json_mode)(((w->modes >> (2 * (path->depth % 4))) & 3) % 3);
}

static msock_err on_event(void *ctx, msock_json_event_kind kind, const msock_json_path *path,
                          const char *text, size_t len) {
  walk *w = ctx;
  w->n++;
  w->sum = w->sum * 31 + (uint32_t)kind;
  for (size_t i = 0; i < path->depth; i++) {
    w->sum = w->sum * 31 + (uint32_t)strlen(path->key[i]);
  }
  if (kind == MSOCK_JSON_VALUE) {
    FUZZ_CHECK(text[len] == '\0');
    for (size_t i = 0; i < len; i++) {
      w->sum = w->sum * 31 + (uint8_t)text[i];
    }
  } else if (kind == MSOCK_JSON_BEGIN_OBJECT || kind == MSOCK_JSON_BEGIN_ARRAY) {
    w->depth++;
  } else if (kind == MSOCK_JSON_END) {
    FUZZ_CHECK(w->depth-- > 0);
  }
  return MSOCK_OK;
}

static msock_err walk_text(walk *w, const uint8_t *p, size_t len, uint8_t how) {
  const msock_json_handler handler = {.ctx = w, .mode = mode_of, .event = on_event};
  msock_json_split *s = msock_json_split_new(&handler);
  msock_err e = MSOCK_OK;

  FUZZ_CHECK(s != NULL);
  for (size_t at = 0; at < len && e == MSOCK_OK;) {
    const size_t n = fuzz_piece(how, len - at);
    e = msock_json_split_feed(s, p + at, n);
    at += n;
  }
  if (e == MSOCK_OK) {
    e = msock_json_split_finish(s);
  }
  FUZZ_CHECK(e != MSOCK_OK || w->depth == 0);
  msock_json_split_free(s);
  return e;
}

static void split(msock_reader *r, uint8_t how) {
  const uint8_t modes = msock_read_u8(r);
  walk whole = {.modes = modes}, pieces = {.modes = modes};
  size_t len = 0;
  uint8_t *p = fuzz_rest(r, &len);

  const msock_err a = walk_text(&whole, p, len, 0), b = walk_text(&pieces, p, len, how);
  FUZZ_CHECK(a == b && whole.n == pieces.n && whole.sum == pieces.sum);
  free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  msock_reader r = msock_reader_init(data, size);
  const unsigned mode = fuzz_choice(&r, MODES);
  const uint8_t how = msock_read_u8(&r);
  fuzz_rng rng;
  const msock_env env = fuzz_env(&rng, 1);

  if (mode == SPLIT) {
    split(&r, how);
  } else {
    stream(&r, mode, how, &env);
  }
  return 0;
}
