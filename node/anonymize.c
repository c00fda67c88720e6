#include "node/anonymize.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/addr.h"
#include "base/err.h"
#include "crypto/blake2s.h"
#include "crypto/wipe.h"

#define WORD_MAX 256u
#define HEX_KEY_MIN 24u /* shorter runs are counters and ids of our own */
#define HASH_BYTES 3u
#define LINE_MAX_BYTES 1024u /* base/log.h: the longest text of a line, with its NUL */
#define SHORT_KEY 5u         /* characters of base/key.h's log form */

void msock_anonymize_init(msock_anonymize *a, const void *secret, size_t len) {
  *a = (msock_anonymize){0};
  const msock_bytes part = {secret, len};
  msock_blake2s(a->key, &part, 1);
}

void msock_anonymize_clear(msock_anonymize *a) {
  for (size_t i = 0; i < a->n; i++) {
    free(a->names[i]);
  }
  free(a->names);
  msock_wipe(a, sizeof *a);
}

bool msock_anonymize_add(msock_anonymize *a, const char *name) {
  size_t len = strlen(name);
  len -= len > 0 && name[len - 1] == '.';
  if (len < MSOCK_ANONYMIZE_NAME_MIN) {
    return true;
  }
  if (a->n == a->cap) {
    const size_t cap = a->cap ? a->cap * 2 : 64;
    char **names = realloc(a->names, cap * sizeof *names);
    if (names == NULL) {
      return false;
    }
    a->names = names;
    a->cap = cap;
  }
  a->names[a->n] = strndup(name, len);
  a->sorted = false;
  return a->names[a->n] != NULL && ++a->n > 0;
}

static int by_text(const void *a, const void *b) {
  return strcasecmp(*(char *const *)a, *(char *const *)b);
}

static bool is_name(const msock_anonymize *a, const char *word) {
  return a->n > 0 && bsearch(&word, a->names, a->n, sizeof *a->names, by_text) != NULL;
}

/* A known name, or a longer one that ends in it ("box.tail.example"). */
static bool holds_name(const msock_anonymize *a, const char *word) {
  if (strchr(word, '@') != NULL || is_name(a, word)) {
    return true;
  }
  for (const char *dot = strchr(word, '.'); dot != NULL; dot = strchr(dot + 1, '.')) {
    if (is_name(a, dot + 1)) {
      return true;
    }
  }
  return false;
}

static bool is_quiet(const msock_ip *ip) {
  static const msock_ip zero4 = {.family = 4}, zero6 = {.family = 6};
  return msock_ip_equal(ip, &zero4) || msock_ip_equal(ip, &zero6) ||
         (ip->family == 4 && ip->b[0] == 127);
}

/* An address in any of its forms; the address itself is what is hashed. */
static bool is_address(const char *word, msock_ip *ip) {
  char bare[WORD_MAX];
  msock_addr addr;
  snprintf(bare, sizeof bare, "%s", word);
  bare[strcspn(bare, "/%")] = '\0';
  if (msock_ip_parse(bare, ip) == MSOCK_OK) {
    return true;
  }
  if (msock_addr_parse(word, &addr) != MSOCK_OK) {
    return false;
  }
  *ip = addr.ip;
  return true;
}

static bool is_key(const char *word) {
  const char *colon = strrchr(word, ':');
  const char *hex = colon != NULL ? colon + 1 : word;
  return strlen(hex) >= HEX_KEY_MIN && strspn(hex, "0123456789abcdefABCDEF") == strlen(hex);
}

typedef struct out {
  char *p;
  size_t len, cap;
  bool bad;
} out;

static void put(out *o, const char *p, size_t len) {
  if (o->len + len + 1 > o->cap && !o->bad) {
    const size_t cap = (o->len + len + 1) * 2;
    char *grown = realloc(o->p, cap);
    o->bad = grown == NULL;
    o->p = grown != NULL ? grown : o->p;
    o->cap = grown != NULL ? cap : o->cap;
  }
  if (!o->bad) {
    memcpy(o->p + o->len, p, len);
    o->len += len;
    o->p[o->len] = '\0';
  }
}

static void put_hash(const msock_anonymize *a, out *o, const char *kind, const void *what,
                     size_t len) {
  const msock_bytes part = {what, len};
  uint8_t mac[32];
  char text[32];
  msock_blake2s_mac32(mac, a->key, sizeof a->key, &part, 1);
  snprintf(text, sizeof text, "%s-%02x%02x%02x", kind, mac[0], mac[1], mac[2]);
  _Static_assert(HASH_BYTES == 3, "three bytes are printed");
  put(o, text, strlen(text));
}

/* One word of text; what follows a name in it (":8080") is kept. */
static void put_word(const msock_anonymize *a, out *o, const char *p, size_t len) {
  char word[WORD_MAX], lower[WORD_MAX];
  msock_ip ip;
  if (len >= sizeof word) {
    put_hash(a, o, "key", p, len);
    return;
  }
  memcpy(word, p, len);
  word[len] = '\0';
  while (len > 0 && strchr(".:", word[len - 1]) != NULL) { /* the end of a sentence or label */
    word[--len] = '\0';
  }
  const char *rest = p + len;
  const size_t n_rest = strspn(rest, ".:");
  if (is_address(word, &ip)) {
    if (is_quiet(&ip)) {
      put(o, word, len);
    } else {
      put_hash(a, o, "ip", &ip.b, ip.family == 4 ? 4 : 16);
    }
  } else if (is_key(word)) {
    put_hash(a, o, "key", word, len);
  } else {
    char *colon = strchr(word, ':');
    const size_t tail = colon != NULL ? strlen(colon) : 0;
    if (colon != NULL) {
      *colon = '\0';
    }
    for (size_t i = 0; i <= len - tail; i++) {
      lower[i] = (char)tolower((unsigned char)word[i]);
    }
    if (holds_name(a, word)) {
      put_hash(a, o, "name", lower, strlen(lower));
      put(o, p + len - tail, tail);
    } else {
      put(o, p, len);
    }
  }
  put(o, rest, n_rest);
}

static bool is_word_char(char c) {
  return isalnum((unsigned char)c) || (c != '\0' && strchr("._-:@", c) != NULL);
}

static size_t word_length(const char *text) {
  size_t len = 0;
  while (is_word_char(text[len])) {
    len++;
  }
  return len;
}

/* "[abcde]": how logs print a public key. */
static bool is_short_key(const char *text) {
  size_t n = 1;
  if (text[0] != '[') {
    return false;
  }
  while (isalnum((unsigned char)text[n]) || text[n] == '+' || text[n] == '/') {
    n++;
  }
  return n == SHORT_KEY + 1 && text[n] == ']';
}

char *msock_anonymize_text(msock_anonymize *a, const char *text) {
  out o = {0};
  if (!a->sorted && a->n > 0) {
    qsort(a->names, a->n, sizeof *a->names, by_text);
    a->sorted = true;
  }
  put(&o, "", 0);
  while (*text && !o.bad) {
    size_t len = word_length(text);
    if (len > 0) {
      put_word(a, &o, text, len);
    } else if (is_short_key(text)) {
      put_hash(a, &o, "key", text + 1, SHORT_KEY);
      len = SHORT_KEY + 2;
    } else {
      put(&o, text, len = 1);
    }
    text += len;
  }
  if (o.bad) {
    free(o.p);
    return NULL;
  }
  return o.p;
}

/* --- addresses alone --- */

/* A word that is an address, its full stop or colon apart. Gives the address' length, or 0. */
static size_t address_length(const char *text, size_t len) {
  char word[WORD_MAX];
  msock_ip ip;
  while (len > 0 && strchr(".:", text[len - 1]) != NULL) {
    len--;
  }
  if (len == 0 || len >= sizeof word) {
    return 0;
  }
  memcpy(word, text, len);
  word[len] = '\0';
  return is_address(word, &ip) && !is_quiet(&ip) ? len : 0;
}

void msock_anonymize_addresses(const char *text, char *dst, size_t cap) {
  size_t at = 0;
  while (*text != '\0' && at + 1 < cap) {
    const size_t len = word_length(text), hidden = address_length(text, len);
    const size_t keep = hidden > 0 ? 0 : len > 0 ? len : 1;
    if (hidden > 0) {
      dst[at++] = '-';
      text += hidden;
    }
    for (size_t i = 0; i < keep && at + 1 < cap; i++) {
      dst[at++] = text[i];
    }
    text += keep;
  }
  dst[at] = '\0';
}

static void hide_and_pass(void *ctx, msock_log_level level, const char *event, const char *text) {
  const msock_anonymous_log *l = ctx;
  char hidden[LINE_MAX_BYTES];
  if (level <= l->to->max) {
    msock_anonymize_addresses(text, hidden, sizeof hidden);
    l->to->sink(l->to->ctx, level, event, hidden);
  }
}

void msock_anonymous_log_init(msock_anonymous_log *l, const msock_log *to) {
  *l = (msock_anonymous_log){.log = {.ctx = l, .max = MSOCK_LOG_TRACE, .sink = hide_and_pass},
                             .to = to};
}
