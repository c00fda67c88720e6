/* Longest prefix match against a naive search, and the swaps. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/testing.h"
#include "wg/allowed_ips.h"

#define PREFIXES 10000u
#define LOOKUPS 1000000u

/* The reference: the address space cut at every begin and end of a prefix, each piece with its
 * owner, found by bisection. A plain walk over all prefixes checks it on a sample. */
typedef struct piece {
  uint8_t from[16];
  uint32_t owner;
} piece;

typedef struct pieces {
  piece *at;
  size_t n;
} pieces;

typedef struct placed {
  msock_wg_route route;
  size_t place;
} placed;

static int by_start(const void *a, const void *b) {
  const placed *x = a, *y = b;
  const int c = memcmp(x->route.prefix.ip.b, y->route.prefix.ip.b, 16);
  if (c != 0) {
    return c;
  }
  if (x->route.prefix.bits != y->route.prefix.bits) {
    return x->route.prefix.bits < y->route.prefix.bits ? -1 : 1;
  }
  return x->place < y->place ? -1 : 1;
}

static void cut(pieces *t, const uint8_t from[static 16], uint32_t owner) {
  if (t->n == 0 || memcmp(t->at[t->n - 1].from, from, 16) != 0) {
    t->n++;
  }
  memcpy(t->at[t->n - 1].from, from, 16);
  t->at[t->n - 1].owner = owner;
}

/* The first address behind a prefix; false when it reaches the end of the space. */
static bool behind(const msock_prefix *p, uint8_t out[static 16]) {
  memcpy(out, p->ip.b, 16);
  for (int bit = (int)p->bits - 1; bit >= 0; bit--) {
    out[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
    if (out[bit / 8] & (0x80 >> bit % 8)) {
      return true;
    }
  }
  return false;
}

static void leave(pieces *t, const placed *stack, size_t *depth) {
  uint8_t next[16];
  (*depth)--;
  if (behind(&stack[*depth].route.prefix, next)) {
    cut(t, next, *depth > 0 ? stack[*depth - 1].route.peer_id : MSOCK_WG_PEER_NONE);
  }
}

static pieces pieces_new(const msock_wg_route *routes, size_t n) {
  pieces t = {.at = calloc(2 * n + 2, sizeof *t.at)};
  placed *p = calloc(n, sizeof *p), *stack = calloc(n, sizeof *stack);
  size_t depth = 0;
  static const uint8_t zero[16];

  for (size_t i = 0; i < n; i++) {
    p[i] = (placed){routes[i], i};
    p[i].route.prefix = msock_prefix_mask(routes[i].prefix);
  }
  qsort(p, n, sizeof *p, by_start);
  cut(&t, zero, MSOCK_WG_PEER_NONE);
  for (size_t i = 0; i < n; i++) {
    while (depth > 0 &&
           !msock_prefix_contains(&stack[depth - 1].route.prefix, &p[i].route.prefix.ip)) {
      leave(&t, stack, &depth);
    }
    cut(&t, p[i].route.prefix.ip.b, p[i].route.peer_id);
    stack[depth++] = p[i];
  }
  while (depth > 0) {
    leave(&t, stack, &depth);
  }
  free(p);
  free(stack);
  return t;
}

static uint32_t naive_lookup(const pieces *t, const msock_ip *ip) {
  size_t lo = 0, hi = t->n;
  while (hi - lo > 1) {
    const size_t mid = lo + (hi - lo) / 2;
    if (memcmp(t->at[mid].from, ip->b, 16) <= 0) {
      lo = mid;
    } else {
      hi = mid;
    }
  }
  return t->at[lo].owner;
}

static uint32_t walk(const msock_wg_route *routes, size_t n, const msock_ip *ip) {
  uint32_t best = MSOCK_WG_PEER_NONE;
  int longest = -1;
  for (size_t i = 0; i < n; i++) {
    const msock_prefix p = msock_prefix_mask(routes[i].prefix);
    if (p.bits >= longest && msock_prefix_contains(&p, ip)) {
      best = routes[i].peer_id;
      longest = p.bits;
    }
  }
  return best;
}

static msock_ip random_ip(const msock_env *env, uint8_t family) {
  msock_ip ip = {.family = family};
  env->random(env->ctx, ip.b, family == 4 ? 4 : 16);
  ip.b[0] &= 3; /* crowded, so that prefixes nest */
  if (family == 6) {
    memset(ip.b + 2, 0, (size_t)msock_env_uniform(env, 11));
  }
  return ip;
}

/* closes: WG-29 */
START_TEST(equals_a_naive_search) {
  const uint8_t family = _i ? 6 : 4;
  testing_rng rng;
  const msock_env env = testing_env(&rng, 29 + (uint64_t)_i);
  msock_wg_route *routes = calloc(PREFIXES, sizeof *routes);
  msock_wg_allowed_ips t;
  for (uint32_t i = 0; i < PREFIXES; i++) {
    const uint64_t most = family == 4 ? 32 : 128;
    routes[i].prefix.ip = random_ip(&env, family);
    routes[i].prefix.bits = (uint8_t)(i % 4 ? msock_env_uniform(&env, most + 1) : most);
    if (i % 10 == 9) { /* equal prefixes, and ones inside another */
      routes[i].prefix.ip = routes[msock_env_uniform(&env, i)].prefix.ip;
    }
    routes[i].peer_id = i % 2000;
  }
  ck_assert_int_eq(msock_wg_allowed_ips_build(&t, 5, routes, PREFIXES), MSOCK_OK);
  const pieces n = pieces_new(routes, PREFIXES);
  size_t hits = 0;
  for (uint32_t i = 0; i < LOOKUPS; i++) {
    msock_ip ip = random_ip(&env, family);
    if (i % 2) { /* near a prefix: its first address with some later bits changed */
      ip = routes[msock_env_uniform(&env, PREFIXES)].prefix.ip;
      const uint32_t bit = (uint32_t)msock_env_uniform(&env, family == 4 ? 33 : 129);
      if (bit < msock_ip_bits(&ip)) {
        ip.b[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
      }
    }
    const uint32_t want = naive_lookup(&n, &ip);
    const uint32_t got = msock_wg_allowed_ips_lookup(&t, &ip);
    if (got != want) {
      char text[MSOCK_IP_TEXT_MAX];
      ck_abort_msg("%s: %u, not %u", msock_ip_text(&ip, text), got, want);
    }
    if (i % 10000 == 0) {
      ck_assert_uint_eq(walk(routes, PREFIXES, &ip), want);
    }
    hits += want != MSOCK_WG_PEER_NONE;
  }
  ck_assert_uint_gt(hits, LOOKUPS / 4);
  free(n.at);
  free(routes);
  msock_wg_allowed_ips_free(&t);
}
END_TEST

static msock_prefix prefix(const char *text) {
  msock_prefix p;
  ck_assert_int_eq(msock_prefix_parse(text, &p), MSOCK_OK);
  return p;
}

static uint32_t owner(const msock_wg_allowed_ips *t, const char *text) {
  msock_ip ip;
  ck_assert_int_eq(msock_ip_parse(text, &ip), MSOCK_OK);
  return msock_wg_allowed_ips_lookup(t, &ip);
}

START_TEST(boundaries) {
  const msock_wg_route routes[] = {
      {prefix("0.0.0.0/0"), 1},     {prefix("10.0.0.0/8"), 2},  {prefix("10.0.0.0/31"), 3},
      {prefix("10.0.0.1/32"), 4},   {prefix("::/0"), 5},        {prefix("fd00::/127"), 6},
      {prefix("fd00::1/128"), 7},   {prefix("10.0.0.0/8"), 8},  {prefix("128.0.0.0/1"), 9},
      {prefix("10.64.0.0/10"), 10}, {prefix("fd00::/126"), 11},
  };
  msock_wg_allowed_ips t;
  ck_assert_int_eq(msock_wg_allowed_ips_build(&t, 1, routes, 11), MSOCK_OK);
  ck_assert_uint_eq(owner(&t, "9.9.9.9"), 1);
  ck_assert_uint_eq(owner(&t, "10.1.1.1"), 8); /* the later of equal prefixes */
  ck_assert_uint_eq(owner(&t, "10.0.0.0"), 3);
  ck_assert_uint_eq(owner(&t, "10.0.0.1"), 4);
  ck_assert_uint_eq(owner(&t, "10.0.0.2"), 8);
  ck_assert_uint_eq(owner(&t, "10.127.255.255"), 10);
  ck_assert_uint_eq(owner(&t, "10.128.0.0"), 8);
  ck_assert_uint_eq(owner(&t, "255.255.255.255"), 9);
  ck_assert_uint_eq(owner(&t, "fd00::"), 6);
  ck_assert_uint_eq(owner(&t, "fd00::1"), 7);
  ck_assert_uint_eq(owner(&t, "fd00::2"), 11);
  ck_assert_uint_eq(owner(&t, "fd00::4"), 5);
  const msock_ip none = {0};
  ck_assert_uint_eq(msock_wg_allowed_ips_lookup(&t, &none), MSOCK_WG_PEER_NONE);
  ck_assert_uint_eq(msock_wg_allowed_ips_count(&t), 10);
  msock_wg_allowed_ips_free(&t);
  ck_assert_uint_eq(owner(&t, "9.9.9.9"), MSOCK_WG_PEER_NONE);
}
END_TEST

START_TEST(one_peer_is_replaced) {
  const msock_wg_route routes[] = {{prefix("10.0.0.1/32"), 1},
                                   {prefix("10.1.0.0/16"), 1},
                                   {prefix("10.0.0.2/32"), 2},
                                   {prefix("fd00::2/128"), 2}};
  const msock_prefix next[] = {prefix("10.0.0.2/32"), prefix("10.2.0.0/16")};
  const msock_prefix bad[] = {{{.family = 4}, 33}};
  msock_wg_allowed_ips t;
  ck_assert_int_eq(msock_wg_allowed_ips_build(&t, 1, routes, 4), MSOCK_OK);
  ck_assert_int_eq(msock_wg_allowed_ips_replace(&t, 1, bad, 1), MSOCK_ERR_INVALID);
  ck_assert_uint_eq(owner(&t, "10.0.0.1"), 1); /* unchanged on an error */
  ck_assert_int_eq(msock_wg_allowed_ips_replace(&t, 1, next, 2), MSOCK_OK);
  ck_assert_uint_eq(owner(&t, "10.0.0.1"), MSOCK_WG_PEER_NONE);
  ck_assert_uint_eq(owner(&t, "10.1.0.1"), MSOCK_WG_PEER_NONE);
  ck_assert_uint_eq(owner(&t, "10.2.0.1"), 1);
  ck_assert_uint_eq(owner(&t, "10.0.0.2"), 1); /* taken over */
  ck_assert_uint_eq(owner(&t, "fd00::2"), 2);
  ck_assert_int_eq(msock_wg_allowed_ips_replace(&t, 1, NULL, 0), MSOCK_OK);
  ck_assert_uint_eq(msock_wg_allowed_ips_count(&t), 1);
  msock_wg_allowed_ips_free(&t);
  const msock_wg_route wrong = {bad[0], 1};
  ck_assert_int_eq(msock_wg_allowed_ips_build(&t, 1, &wrong, 1), MSOCK_ERR_INVALID);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, equals_a_naive_search, 0, 2);
  tcase_add_test(tc, boundaries);
  tcase_add_test(tc, one_peer_is_replaced);
  return testing_main("wg_allowed_ips", tc);
}
