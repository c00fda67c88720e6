/* Where a node's secrets are while it runs, and after: its memory is searched for them. And what
 * its log says about addresses and keys. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "crypto/box.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "tests/unit/node_rig.h"

#define MASK 0xa5u /* what is looked for must not lie in memory itself */
#define MAX_DRAWS 4096u
#define MAPPING_MAX (1ul << 30) /* larger ones are a sanitizer's own */

typedef struct masked {
  uint8_t b[32];
} masked;

static node_rig *r;
static masked draws[MAX_DRAWS]; /* all that the node drew from its env, 32 bytes at a time */
static size_t n_draws;
static bool recording;

static void drawing_random(void *ctx, void *dst, size_t len) {
  const node_rig *rig = ctx;
  rig->env.random(rig->env.ctx, dst, len);
  if (recording && len == 32) {
    ck_assert_uint_lt(n_draws, MAX_DRAWS);
    for (size_t i = 0; i < 32; i++) {
      draws[n_draws].b[i] = ((const uint8_t *)dst)[i] ^ MASK;
    }
    n_draws++;
  }
}

/* --- the search --- */

static uint8_t window[1u << 20]; /* what is read: the only place that is not searched */

/* How often the middle of it (clamping changes the ends) lies in [from, to). */
static size_t count_in(int mem, uintptr_t from, uintptr_t to, const masked *what) {
  size_t found = 0;
  for (uintptr_t at = from; at < to; at += sizeof window - 32) {
    const size_t want = to - at < sizeof window ? to - at : sizeof window;
    const ssize_t got = pread(mem, window, want, (off_t)at);
    for (ssize_t i = 0; i + 30 <= got; i++) {
      size_t k = 0;
      while (k < 30 && (uint8_t)(window[i + (ssize_t)k] ^ MASK) == what->b[1 + k]) {
        k++;
      }
      found += k == 30;
    }
    if (got < (ssize_t)want) {
      break;
    }
  }
  return found;
}

/* In everything that this process may write: heap, data, stacks, mappings. */
static size_t count_in_memory(const masked *what) {
  const int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  FILE *maps = fopen("/proc/self/maps", "r");
  const uintptr_t own = (uintptr_t)window, own_end = own + sizeof window;
  char line[512], rights[8];
  unsigned long from, to;
  size_t found = 0;
  ck_assert(mem >= 0 && maps != NULL);
  while (fgets(line, sizeof line, maps) != NULL) {
    if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) != 3 || strncmp(rights, "rw", 2) != 0 ||
        to - from > MAPPING_MAX) {
      continue;
    }
    found += count_in(mem, from, own > from && own < to ? own : to, what);
    if (own > from && own < to) {
      found += count_in(mem, own_end, to, what);
    }
  }
  fclose(maps);
  close(mem);
  memset(window, 0, sizeof window);
  return found;
}

/* Work with a secret in the clear is done in a child: this process' memory stays as it is. */
static size_t in_child(void (*work)(masked *out), masked *out) {
  int ends[2], status = 0;
  ck_assert_int_eq(pipe(ends), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    masked result;
    memset(&result, 0, sizeof result);
    work(&result);
    _exit(write(ends[1], &result, sizeof result) == (ssize_t)sizeof result ? 0 : 1);
  }
  ck_assert_int_eq(read(ends[0], out, sizeof *out), (ssize_t)sizeof *out);
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  ck_assert_int_eq(status, 0);
  close(ends[0]);
  close(ends[1]);
  return 32;
}

static void mask(const void *secret, masked *out) {
  for (size_t i = 0; i < 32; i++) {
    out->b[i] = ((const uint8_t *)secret)[i] ^ MASK;
  }
}

static msock_engine *engine(size_t i) {
  return msock_paths_engine(r->node[i].n->paths);
}

static void find_disco(masked *out) { /* among the draws, the one whose public key is published */
  const msock_disco_key want = msock_engine_disco_key(engine(0));
  for (size_t i = 0; i < n_draws; i++) {
    msock_disco_private k;
    for (size_t j = 0; j < 32; j++) {
      k.b[j] = draws[i].b[j] ^ MASK;
    }
    k.b[0] &= 248u;
    k.b[31] = (uint8_t)((k.b[31] & 127u) | 64u);
    const msock_disco_key have = msock_disco_private_public(&k);
    if (msock_disco_key_equal(&have, &want)) {
      *out = draws[i];
      return;
    }
  }
  abort();
}

static void find_node_private(masked *out) {
  mask(r->node[0].n->state.node_private.b, out);
}

static void find_node_private_text(masked *out) { /* 32 digits of it, as the state file has it */
  char text[33];
  for (size_t i = 0; i < 16; i++) {
    snprintf(text + 2 * i, 3, "%02x", r->node[0].n->state.node_private.b[8 + i]);
  }
  mask(text, out);
}

static void find_shared(masked *out) { /* of node 0 with node 1 */
  msock_disco_private k;
  const msock_disco_key peer = msock_engine_disco_key(engine(1));
  msock_box_shared box;
  msock_engine_disco_private(engine(0), &k);
  if (msock_box_precompute(&box, peer.b, k.b) != MSOCK_OK) {
    abort();
  }
  mask(&box, out);
}

/* --- tests --- */

static bool direct_both_ways(node_rig *rig) {
  return node_rig_running(rig, 0) && node_rig_running(rig, 1) &&
         node_rig_path_id(rig, 0, 1) != MSOCK_ENGINE_PEER_NONE &&
         node_rig_path_id(rig, 1, 0) != MSOCK_ENGINE_PEER_NONE && node_rig_direct(rig, 0, 1) &&
         node_rig_direct(rig, 1, 0);
}

static void start_pair(void) {
  r = node_rig_new();
  const msock_env env = {.random = drawing_random, .ctx = r};
  n_draws = 0;
  recording = true;
  node_rig_start(r, 0, &env, NULL);
  node_rig_start(r, 1, NULL, NULL);
  ck_assert(node_rig_wait(r, direct_both_ways));
  recording = false;
}

/* closes: T53 */
START_TEST(the_disco_key_has_one_owner_and_dies_with_it) {
  masked disco;
  start_pair();
  in_child(find_disco, &disco);
  memset(draws, 0, sizeof draws);
  ck_assert_uint_eq(count_in_memory(&disco), 1);
  msock_disco_private *copy = malloc(sizeof *copy); /* the search would see another one */
  msock_engine_disco_private(engine(0), copy);
  ck_assert_uint_eq(count_in_memory(&disco), 2);
  msock_wipe(copy, sizeof *copy);
  free(copy);
  msock_underlay_rebind(r->node[0].n->underlay, msock_loop_now_us());
  ck_assert(node_rig_wait(r, direct_both_ways));
  ck_assert_uint_eq(count_in_memory(&disco), 1);
  node_rig_stop(r, 0);
  ck_assert_uint_eq(count_in_memory(&disco), 0);
  node_rig_free(r);
}
END_TEST

static msock_disco_key old_key;

static bool key_changed_and_direct(node_rig *rig) {
  const msock_disco_key now = msock_engine_disco_key(engine(1));
  uint32_t ids[1];
  return !msock_disco_key_equal(&now, &old_key) &&
         msock_engine_peers_of_disco(engine(0), &now, ids, 1) == 1 && direct_both_ways(rig);
}

/* closes: PRIV-15 (keys) DISCO-24 (the shared key) */
START_TEST(keys_are_wiped_on_rotation_and_exit) {
  masked shared, mine, text;
  start_pair();
  memset(draws, 0, sizeof draws);
  in_child(find_shared, &shared);
  in_child(find_node_private, &mine);
  in_child(find_node_private_text, &text);
  ck_assert_uint_eq(count_in_memory(&shared), 2); /* one at each node */
  ck_assert_uint_ge(count_in_memory(&mine), 1);
  old_key = msock_engine_disco_key(engine(1));
  node_rig_stop(r, 1); /* it comes back with another disco key */
  node_rig_start(r, 1, NULL, NULL);
  ck_assert(node_rig_wait(r, key_changed_and_direct));
  ck_assert_uint_eq(count_in_memory(&shared), 0);
  in_child(find_shared, &shared);
  ck_assert_uint_eq(count_in_memory(&shared), 2);
  node_rig_stop(r, 1);
  node_rig_stop(r, 0);
  ck_assert_uint_eq(count_in_memory(&shared), 0);
  ck_assert_uint_eq(count_in_memory(&mine), 0);
  ck_assert_uint_eq(count_in_memory(&text), 0);
  node_rig_free(r);
}
END_TEST

/* --- the log --- */

/* Addresses with a meaning: anything that parses as one, but loopback and the wildcard. */
static size_t addresses_in(const char *text) {
  size_t n = 0;
  while (*text != '\0') {
    const size_t len = strspn(text, "0123456789abcdefABCDEF.:");
    char word[128];
    msock_ip ip;
    msock_addr addr;
    snprintf(word, sizeof word, "%.*s", (int)len, text);
    if (strspn(word, "0123456789") < len &&
        (msock_addr_parse(word, &addr) == MSOCK_OK || msock_ip_parse(word, &ip) == MSOCK_OK)) {
      const msock_ip at = msock_addr_parse(word, &addr) == MSOCK_OK ? addr.ip : ip;
      n += !msock_ip_is_loopback(&at) && !msock_ip_is_unspecified(&at);
    }
    text += len > 0 ? len : 1;
  }
  return n;
}

/* Hexadecimal or base64 words as long as a key. */
static size_t long_keys_in(const char *text) {
  size_t n = 0;
  while (*text != '\0') {
    const size_t hex = strspn(text, "0123456789abcdefABCDEF");
    const size_t b64 = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                    "+/=");
    n += hex >= 64 || (b64 >= 43 && hex < b64);
    text += b64 > 0 ? b64 : 1;
  }
  return n;
}

static void start_private_pair(const char *profile) {
  const char *flags[] = {profile, "--log-level=trace", "--lan=false", "--allow-loopback=false",
                         NULL};
  r = node_rig_new_at("203.0.113.5");
  node_rig_start(r, 0, NULL, flags);
  node_rig_start(r, 1, NULL, flags);
  ck_assert(node_rig_wait(r, direct_both_ways));
  msock_underlay_rebind(r->node[0].n->underlay, msock_loop_now_us());
  ck_assert(node_rig_wait(r, direct_both_ways));
  node_rig_stop(r, 1);
  node_rig_turns(r, 200 * MSOCK_MS);
  node_rig_stop(r, 0);
}

/* closes: PRIV-15 (log) */
START_TEST(the_log_holds_short_keys_and_in_the_privacy_profile_no_addresses) {
  if (geteuid() != 0) {
    return; /* no addresses of our own */
  }
  start_private_pair("--profile=full");
  const char *log = r->node[0].text;
  ck_assert_ptr_nonnull(strstr(log, "path.confirmed"));
  ck_assert_uint_gt(addresses_in(log), 0); /* there would be some to hide */
  ck_assert_uint_eq(long_keys_in(log), 0);
  node_rig_free(r);
  start_private_pair("--profile=privacy-proxy");
  log = r->node[0].text;
  ck_assert_ptr_nonnull(strstr(log, "path.confirmed peer=["));
  ck_assert_ptr_nonnull(strstr(log, "udp.bound addr=0.0.0.0:"));
  ck_assert_msg(addresses_in(log) == 0, "%s", log);
  ck_assert_msg(long_keys_in(log) == 0, "%s", log);
  node_rig_free(r);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_set_timeout(tc, 60);
  tcase_add_test(tc, the_disco_key_has_one_owner_and_dies_with_it);
  tcase_add_test(tc, keys_are_wiped_on_rotation_and_exit);
  tcase_add_test(tc, the_log_holds_short_keys_and_in_the_privacy_profile_no_addresses);
  return testing_main("node_secrets", tc);
}
