#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/addr.h"
#include "config/schema_internal.h"

#define FOUND_MAX 40 /* bytes of a refused text that a message repeats */

typedef struct unit {
  const char *name;
  uint64_t factor;
} unit;

static const unit duration_units[] = {
    {"d", UINT64_C(86400000000)}, {"h", UINT64_C(3600000000)}, {"m", UINT64_C(60000000)},
    {"s", UINT64_C(1000000)},     {"ms", UINT64_C(1000)},      {"us", UINT64_C(1)},
};
static const unit size_units[] = {
    {"GiB", UINT64_C(1) << 30},   {"MiB", UINT64_C(1) << 20}, {"KiB", UINT64_C(1) << 10},
    {"GB", UINT64_C(1000000000)}, {"MB", UINT64_C(1000000)},  {"KB", UINT64_C(1000)},
    {"B", UINT64_C(1)},           {"", UINT64_C(1)},
};
#define N_OF(a) (sizeof(a) / sizeof(a)[0])

static bool is_text_type(msock_config_type t) {
  return t == MSOCK_CONFIG_STRING || t == MSOCK_CONFIG_SECRET || t == MSOCK_CONFIG_SECRET_FILE;
}

/* -- growing text ------------------------------------------------------------------------------ */

void msock_config_text_add(msock_config_text *t, const char *fmt, ...) {
  va_list ap, again;
  va_start(ap, fmt);
  va_copy(again, ap);
  const int need = vsnprintf(NULL, 0, fmt, ap);
  va_end(ap);
  if (need >= 0 && !t->failed && t->cap - t->len <= (size_t)need) {
    const size_t cap = (t->len + (size_t)need + 1) * 2;
    char *p = realloc(t->p, cap);
    t->failed = p == NULL;
    t->p = p ? p : t->p;
    t->cap = p ? cap : t->cap;
  }
  if (need >= 0 && !t->failed) {
    (void)vsnprintf(t->p + t->len, t->cap - t->len, fmt, again);
    t->len += (size_t)need;
  }
  va_end(again);
}

char *msock_config_text_take(msock_config_text *t) {
  char *p = t->failed ? NULL : t->p;
  if (t->failed) {
    free(t->p);
  }
  *t = (msock_config_text){0};
  return p;
}

/* -- numbers with units ------------------------------------------------------------------------ */

/* "1m30s": a run of numbers, each with a unit of the table. A bare number only where the table has
 * an empty unit, or when it is 0. */
static bool parse_amount(const char *text, const unit *units, size_t n_units, uint64_t *out) {
  uint64_t total = 0;
  if (*text == '\0') {
    return false;
  }
  while (*text != '\0') {
    if (!isdigit((unsigned char)*text)) {
      return false;
    }
    errno = 0;
    char *end;
    const uint64_t n = strtoull(text, &end, 10);
    const size_t len = strcspn(end, "0123456789");
    uint64_t factor = n == 0 && len == 0 ? 1 : 0;
    for (size_t i = 0; i < n_units; i++) {
      if (strlen(units[i].name) == len && strncmp(units[i].name, end, len) == 0) {
        factor = units[i].factor;
      }
    }
    if (errno != 0 || factor == 0 || n > (UINT64_MAX - total) / factor) {
      return false;
    }
    total += n * factor;
    text = end + len;
  }
  *out = total;
  return true;
}

static bool parse_int(const char *text, int64_t *out) {
  const char *digits = *text == '-' ? text + 1 : text;
  char *end;
  if (!isdigit((unsigned char)*digits)) {
    return false;
  }
  errno = 0;
  const long long n = strtoll(text, &end, 10);
  if (errno != 0 || *end != '\0') {
    return false;
  }
  *out = n;
  return true;
}

static void duration_text(uint64_t us, char *buf, size_t cap) {
  size_t len = 0;
  buf[0] = '\0';
  for (size_t i = 1; i < N_OF(duration_units); i++) { /* days print as hours: 24h is a day */
    const uint64_t n = us / duration_units[i].factor;
    us %= duration_units[i].factor;
    if (n > 0 && len < cap) {
      len += (size_t)snprintf(buf + len, cap - len, "%" PRIu64 "%s", n, duration_units[i].name);
    }
  }
  if (len == 0) {
    (void)snprintf(buf, cap, "0s");
  }
}

static void size_text(uint64_t bytes, char *buf, size_t cap) {
  for (size_t i = 0; i < 3; i++) { /* the binary units */
    if (bytes > 0 && bytes % size_units[i].factor == 0) {
      (void)snprintf(buf, cap, "%" PRIu64 "%s", bytes / size_units[i].factor, size_units[i].name);
      return;
    }
  }
  (void)snprintf(buf, cap, "%" PRIu64, bytes);
}

/* -- what is expected -------------------------------------------------------------------------- */

static void amount_text(const msock_config_row *row, int64_t n, char *buf, size_t cap) {
  if (row->type == MSOCK_CONFIG_DURATION) {
    duration_text((uint64_t)n, buf, cap);
  } else if (row->type == MSOCK_CONFIG_SIZE) {
    size_text((uint64_t)n, buf, cap);
  } else {
    (void)snprintf(buf, cap, "%" PRId64, n);
  }
}

static void expected_range(const msock_config_row *row, const char *what,
                           char why[static MSOCK_CONFIG_WHY_MAX]) {
  char low[48], high[48];
  if (row->min == 0 && row->max == 0) {
    (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "expected %s", what);
    return;
  }
  amount_text(row, row->min, low, sizeof low);
  amount_text(row, row->max, high, sizeof high);
  (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "expected %s from %s to %s", what, low, high);
}

static void expected_choice(const msock_config_row *row, char why[static MSOCK_CONFIG_WHY_MAX]) {
  int len = snprintf(why, MSOCK_CONFIG_WHY_MAX, "expected one of");
  for (size_t i = 0; row->choices[i] && len < (int)MSOCK_CONFIG_WHY_MAX; i++) {
    len += snprintf(why + len, MSOCK_CONFIG_WHY_MAX - (size_t)len, "%s %s", i > 0 ? "," : "",
                    row->choices[i]);
  }
}

void msock_config_value_expected(const msock_config_row *row,
                                 char why[static MSOCK_CONFIG_WHY_MAX]) {
  static const char *const plain[] = {
      [MSOCK_CONFIG_STRING] = "a text without control characters",
      [MSOCK_CONFIG_BOOL] = "true or false",
      [MSOCK_CONFIG_STRINGS] = "a list of texts",
      [MSOCK_CONFIG_IP] = "an IP address",
      [MSOCK_CONFIG_ADDRESS] = "an address with a port, or a colon and a port",
      [MSOCK_CONFIG_PREFIXES] = "a list of prefixes, ADDRESS/BITS with zero host bits",
      [MSOCK_CONFIG_SECRET] = "one word without blanks",
      [MSOCK_CONFIG_SECRET_FILE] = "the path of a file",
  };
  switch (row->type) {
  case MSOCK_CONFIG_INT:
    expected_range(row, "a whole number", why);
    return;
  case MSOCK_CONFIG_DURATION:
    expected_range(row, "a time with its unit (ms, s, m, h, d)", why);
    return;
  case MSOCK_CONFIG_SIZE:
    expected_range(row, "a size (bytes, KiB, MiB, GiB)", why);
    return;
  case MSOCK_CONFIG_ENUM:
    expected_choice(row, why);
    return;
  default:
    (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "expected %s", plain[row->type]);
  }
}

/* Adds what was found, unless it is or may hold a secret ("https://user:password@host"). */
static void add_found(const msock_config_row *row, const char *text,
                      char why[static MSOCK_CONFIG_WHY_MAX]) {
  const size_t len = strlen(why);
  if (row->type == MSOCK_CONFIG_SECRET || strchr(text, '@')) {
    return;
  }
  (void)snprintf(why + len, MSOCK_CONFIG_WHY_MAX - len, ", found \"%.*s%s\"", FOUND_MAX, text,
                 strlen(text) > FOUND_MAX ? "..." : "");
}

/* -- reading ----------------------------------------------------------------------------------- */

bool msock_config_parse_bool(const char *text, bool *out) {
  static const char *const yes[] = {"true", "yes", "on", "1"};
  static const char *const no[] = {"false", "no", "off", "0"};
  for (size_t i = 0; i < N_OF(yes); i++) {
    if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
      *out = strcasecmp(text, yes[i]) == 0;
      return true;
    }
  }
  return false;
}

/* What examples and templates leave behind: such a file was copied, but not filled in. */
bool msock_config_is_placeholder(const char *text) {
  static const char *const words[] = {
      "changeme",  "replaceme",       "placeholder", "yourkey",        "yourkeyhere", "yourauthkey",
      "secret",    "yourauthkeyhere", "yoursecret",  "yoursecrethere", "password",    "token",
      "yourtoken", "yourtokenhere",   "example",     "insertkeyhere",  "none",        "todo"};
  char bare[32];
  size_t n = 0;
  const size_t len = strlen(text);
  const char *last = strrchr(text, '-') ? strrchr(text, '-') + 1 : text;
  const size_t tail = strlen(last);

  if (len == 0) {
    return false;
  }
  if ((text[0] == '<' && text[len - 1] == '>') || text[0] == '$' ||
      (tail >= 3 && strspn(last, "xX*.") == tail)) {
    return true;
  }
  for (const char *p = text; *p != '\0'; p++) {
    if (isalnum((unsigned char)*p)) {
      if (n + 1 == sizeof bare) {
        return false;
      }
      bare[n++] = (char)tolower((unsigned char)*p);
    }
  }
  bare[n] = '\0';
  for (size_t i = 0; i < N_OF(words); i++) {
    if (strcmp(bare, words[i]) == 0) {
      return true;
    }
  }
  return false;
}

static const char *rename_item(const msock_config_row *row, const char *text) {
  for (const msock_config_rename *r = row->renames; r && r->from; r++) {
    if (strcmp(r->from, text) == 0) {
      return r->to;
    }
  }
  return text;
}

static bool has_control_bytes(const char *text, bool blanks_too) {
  for (; *text != '\0'; text++) {
    const unsigned char c = (unsigned char)*text;
    if (c < 0x20 || c == 0x7f || (blanks_too && c == ' ')) {
      return true;
    }
  }
  return false;
}

/* Rules of a text or an item of a list of texts. */
static bool check_text(const msock_config_row *row, const char *text,
                       char why[static MSOCK_CONFIG_WHY_MAX]) {
  if (*text == '\0') {
    return true;
  }
  if (has_control_bytes(text, row->type == MSOCK_CONFIG_SECRET)) {
    msock_config_value_expected(row, why);
    return false;
  }
  if (row->type == MSOCK_CONFIG_SECRET && msock_config_is_placeholder(text)) {
    (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "a placeholder, not a real secret");
    return false;
  }
  if (row->check && !row->check(text, why)) {
    add_found(row, text, why);
    return false;
  }
  return true;
}

static bool parse_address(const char *text, msock_addr *out) {
  char all[MSOCK_ADDR_TEXT_MAX];
  if (text[0] != ':') {
    return msock_addr_parse(text, out) == MSOCK_OK;
  }
  msock_addr a;
  (void)snprintf(all, sizeof all, "0.0.0.0%.8s", text); /* longer ones are no port either way */
  if (msock_addr_parse(all, &a) != MSOCK_OK) {
    return false;
  }
  *out = (msock_addr){.port = a.port};
  return true;
}

static bool in_range(const msock_config_row *row, bool is_negative, uint64_t n) {
  if (row->min == 0 && row->max == 0) {
    return true;
  }
  if (is_negative) {
    return (int64_t)n >= row->min && (int64_t)n <= row->max;
  }
  return (row->min < 0 || n >= (uint64_t)row->min) && row->max >= 0 && n <= (uint64_t)row->max;
}

/* Types whose value is not allocated. */
static bool parse_plain(const msock_config_row *row, const char *text, msock_config_slot *out) {
  switch (row->type) {
  case MSOCK_CONFIG_BOOL:
    return msock_config_parse_bool(text, &out->flag);
  case MSOCK_CONFIG_INT:
    return parse_int(text, &out->number) && in_range(row, out->number < 0, (uint64_t)out->number);
  case MSOCK_CONFIG_DURATION:
    return parse_amount(text, duration_units, N_OF(duration_units), &out->amount) &&
           in_range(row, false, out->amount);
  case MSOCK_CONFIG_SIZE:
    return parse_amount(text, size_units, N_OF(size_units), &out->amount) &&
           in_range(row, false, out->amount);
  case MSOCK_CONFIG_ENUM:
    for (int i = 0; row->choices[i]; i++) {
      if (strcmp(row->choices[i], text) == 0) {
        out->choice = i;
        return true;
      }
    }
    return false;
  case MSOCK_CONFIG_IP:
    return *text == '\0' || msock_ip_parse(text, &out->ip) == MSOCK_OK;
  case MSOCK_CONFIG_ADDRESS:
    return *text == '\0' || parse_address(text, &out->addr);
  default:
    return false;
  }
}

static bool parse_scalar(const msock_config_row *row, const char *text, msock_config_slot *slot,
                         char why[static MSOCK_CONFIG_WHY_MAX]) {
  msock_config_slot out;
  memset(&out, 0, sizeof out);
  if (strlen(text) >= MSOCK_CONFIG_TEXT_MAX) {
    (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "longer than %u bytes", MSOCK_CONFIG_TEXT_MAX - 1);
    return false;
  }
  if (is_text_type(row->type)) {
    if (!check_text(row, text, why)) {
      return false;
    }
    out.text = strdup(text);
    if (out.text == NULL) {
      (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "not enough memory");
      return false;
    }
  } else if (!parse_plain(row, text, &out)) {
    msock_config_value_expected(row, why);
    add_found(row, text, why);
    return false;
  }
  *slot = out;
  return true;
}

/* Adds one item to a list whose array has room. */
static bool parse_item(const msock_config_row *row, const char *text, msock_config_slot *out,
                       char why[static MSOCK_CONFIG_WHY_MAX]) {
  if (row->type == MSOCK_CONFIG_PREFIXES) {
    if (msock_prefix_parse(text, &out->prefixes.v[out->prefixes.n]) != MSOCK_OK) {
      (void)snprintf(why, MSOCK_CONFIG_WHY_MAX,
                     "expected a prefix, ADDRESS/BITS with zero host bits");
      add_found(row, text, why);
      return false;
    }
    out->prefixes.n++;
    return true;
  }
  if (*text == '\0' || strlen(text) >= MSOCK_CONFIG_TEXT_MAX) {
    (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "%s", *text ? "too long a text" : "an empty item");
    return false;
  }
  if (!check_text(row, text, why)) {
    return false;
  }
  char *copy = strdup(text);
  if (copy == NULL) {
    (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "not enough memory");
    return false;
  }
  out->strings.v[out->strings.n++] = copy;
  return true;
}

static bool parse_list(const msock_config_row *row, const msock_config_input *in,
                       msock_config_slot *slot, char why[static MSOCK_CONFIG_WHY_MAX],
                       size_t *bad_item) {
  msock_config_slot out;
  memset(&out, 0, sizeof out);
  const size_t max = row->max > 0 ? (size_t)row->max : MSOCK_CONFIG_LIST_MAX;
  if (in->n > max) {
    (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "more than %zu items", max);
    return false;
  }
  if (in->n > 0) {
    void *v = row->type == MSOCK_CONFIG_PREFIXES ? calloc(in->n, sizeof *out.prefixes.v)
                                                 : calloc(in->n, sizeof *out.strings.v);
    if (v == NULL) {
      (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "not enough memory");
      return false;
    }
    if (row->type == MSOCK_CONFIG_PREFIXES) {
      out.prefixes.v = v;
    } else {
      out.strings.v = v;
    }
  }
  for (size_t i = 0; i < in->n; i++) {
    if (!parse_item(row, rename_item(row, in->items[i]), &out, why)) {
      *bad_item = i;
      msock_config_value_clear(row, &out);
      return false;
    }
  }
  *slot = out;
  return true;
}

/* "a, b" as the items of a list: cuts copy at the commas and drops the blanks around them. Gives
 * the count, or SIZE_MAX when there are too many. */
static size_t split_commas(char *copy, const char **items, size_t cap) {
  size_t n = 0;
  char *p = copy + strspn(copy, " ");
  if (*p == '\0') {
    return 0;
  }
  while (p) {
    char *comma = strchr(p, ',');
    if (comma) {
      *comma = '\0';
    }
    p += strspn(p, " ");
    for (size_t len = strlen(p); len > 0 && p[len - 1] == ' '; len--) {
      p[len - 1] = '\0';
    }
    if (n == cap) {
      return SIZE_MAX;
    }
    items[n++] = p;
    p = comma ? comma + 1 : NULL;
  }
  return n;
}

static bool parse_joined_list(const msock_config_row *row, const char *text,
                              msock_config_slot *slot, char why[static MSOCK_CONFIG_WHY_MAX]) {
  size_t bad_item = SIZE_MAX; /* one text has one position: its items have none */
  const char **items = calloc(MSOCK_CONFIG_LIST_MAX, sizeof *items);
  char *copy = strdup(text);
  bool ok = false;
  if (items == NULL || copy == NULL) {
    (void)snprintf(why, MSOCK_CONFIG_WHY_MAX, "not enough memory");
    goto out;
  }
  const size_t n = split_commas(copy, items, MSOCK_CONFIG_LIST_MAX); /* SIZE_MAX is refused */
  ok = parse_list(row, &(msock_config_input){.items = items, .n = n, .is_list = true}, slot, why,
                  &bad_item);
out:
  free(items);
  free(copy);
  return ok;
}

bool msock_config_value_parse(const msock_config_row *row, const msock_config_input *in,
                              msock_config_slot *slot, char why[static MSOCK_CONFIG_WHY_MAX],
                              size_t *bad_item) {
  const bool is_list_type = row->type == MSOCK_CONFIG_STRINGS || row->type == MSOCK_CONFIG_PREFIXES;
  *bad_item = SIZE_MAX;
  if (in->is_list && !is_list_type) {
    msock_config_value_expected(row, why);
    const size_t len = strlen(why);
    (void)snprintf(why + len, MSOCK_CONFIG_WHY_MAX - len, ", found a list");
    return false;
  }
  if (in->is_list) {
    return parse_list(row, in, slot, why, bad_item);
  }
  if (is_list_type) {
    return parse_joined_list(row, in->items[0], slot, why);
  }
  return parse_scalar(row, rename_item(row, in->items[0]), slot, why);
}

/* -- holding ----------------------------------------------------------------------------------- */

static size_t slot_size(msock_config_type t) {
  static const size_t sizes[] = {
      [MSOCK_CONFIG_STRING] = sizeof(char *),
      [MSOCK_CONFIG_BOOL] = sizeof(bool),
      [MSOCK_CONFIG_INT] = sizeof(int64_t),
      [MSOCK_CONFIG_DURATION] = sizeof(uint64_t),
      [MSOCK_CONFIG_SIZE] = sizeof(uint64_t),
      [MSOCK_CONFIG_ENUM] = sizeof(int),
      [MSOCK_CONFIG_STRINGS] = sizeof(msock_config_strings),
      [MSOCK_CONFIG_IP] = sizeof(msock_ip),
      [MSOCK_CONFIG_ADDRESS] = sizeof(msock_addr),
      [MSOCK_CONFIG_PREFIXES] = sizeof(msock_config_prefixes),
      [MSOCK_CONFIG_SECRET] = sizeof(char *),
      [MSOCK_CONFIG_SECRET_FILE] = sizeof(char *),
  };
  return sizes[t];
}

msock_config_slot msock_config_value_load(const msock_config_row *row, const void *values) {
  msock_config_slot slot;
  memset(&slot, 0, sizeof slot);
  memcpy(&slot, (const char *)values + row->offset, slot_size(row->type));
  return slot;
}

void msock_config_value_store(const msock_config_row *row, void *values, msock_config_slot slot) {
  msock_config_slot old = msock_config_value_load(row, values);
  msock_config_value_clear(row, &old);
  memcpy((char *)values + row->offset, &slot, slot_size(row->type));
}

void msock_config_value_clear(const msock_config_row *row, msock_config_slot *slot) {
  if (row->type == MSOCK_CONFIG_SECRET) {
    msock_config_free_secret(slot->text);
  } else if (is_text_type(row->type)) {
    free(slot->text);
  } else if (row->type == MSOCK_CONFIG_PREFIXES) {
    free(slot->prefixes.v);
  } else if (row->type == MSOCK_CONFIG_STRINGS) {
    for (size_t i = 0; i < slot->strings.n; i++) {
      free(slot->strings.v[i]);
    }
    free(slot->strings.v);
  }
  memset(slot, 0, sizeof *slot);
}

void msock_config_free_secret(char *secret) {
  if (secret) {
    explicit_bzero(secret, strlen(secret));
    free(secret);
  }
}

static bool lists_equal(const msock_config_row *row, const msock_config_slot *a,
                        const msock_config_slot *b) {
  const bool prefixes = row->type == MSOCK_CONFIG_PREFIXES;
  const size_t n = prefixes ? a->prefixes.n : a->strings.n;
  if (n != (prefixes ? b->prefixes.n : b->strings.n)) {
    return false;
  }
  for (size_t i = 0; i < n; i++) {
    if (prefixes ? !msock_prefix_equal(&a->prefixes.v[i], &b->prefixes.v[i])
                 : strcmp(a->strings.v[i], b->strings.v[i]) != 0) {
      return false;
    }
  }
  return true;
}

bool msock_config_value_equal(const msock_config_row *row, const msock_config_slot *a,
                              const msock_config_slot *b) {
  switch (row->type) {
  case MSOCK_CONFIG_BOOL:
    return a->flag == b->flag;
  case MSOCK_CONFIG_INT:
    return a->number == b->number;
  case MSOCK_CONFIG_DURATION:
  case MSOCK_CONFIG_SIZE:
    return a->amount == b->amount;
  case MSOCK_CONFIG_ENUM:
    return a->choice == b->choice;
  case MSOCK_CONFIG_IP:
    return msock_ip_equal(&a->ip, &b->ip);
  case MSOCK_CONFIG_ADDRESS:
    return msock_addr_equal(&a->addr, &b->addr);
  case MSOCK_CONFIG_STRINGS:
  case MSOCK_CONFIG_PREFIXES:
    return lists_equal(row, a, b);
  default: /* texts; a secret is compared with another of the same user, in one process */
    return strcmp(a->text, b->text) == 0;
  }
}

bool msock_config_value_is_unset(const msock_config_row *row, const msock_config_slot *slot) {
  return is_text_type(row->type) && (slot->text == NULL || slot->text[0] == '\0');
}

/* -- printing ---------------------------------------------------------------------------------- */

/* Plain where YAML reads it back as it is, else in double quotes. */
static void print_text(msock_config_text *t, const char *text) {
  static const char safe[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:+-@";
  const size_t len = strlen(text);
  if (len > 0 && strspn(text, safe) == len && isalnum((unsigned char)text[0]) &&
      text[len - 1] != ':' && strcmp(text, "null") != 0) {
    msock_config_text_add(t, "%s", text);
    return;
  }
  if (len > 0 && strspn(text, safe) == len && text[0] == '/' && text[len - 1] != ':') {
    msock_config_text_add(t, "%s", text); /* a path */
    return;
  }
  msock_config_text_add(t, "\"");
  for (const char *p = text; *p != '\0'; p++) {
    const unsigned char c = (unsigned char)*p;
    if (c < 0x20 || c == 0x7f) {
      msock_config_text_add(t, "\\x%02X", c);
    } else {
      msock_config_text_add(t, "%s%c", c == '"' || c == '\\' ? "\\" : "", *p);
    }
  }
  msock_config_text_add(t, "\"");
}

static void print_list(const msock_config_row *row, const msock_config_slot *slot,
                       msock_config_text *t) {
  char buf[MSOCK_PREFIX_TEXT_MAX];
  const bool prefixes = row->type == MSOCK_CONFIG_PREFIXES;
  const size_t n = prefixes ? slot->prefixes.n : slot->strings.n;
  msock_config_text_add(t, "[");
  for (size_t i = 0; i < n; i++) {
    msock_config_text_add(t, "%s", i > 0 ? ", " : "");
    print_text(t, prefixes ? msock_prefix_text(&slot->prefixes.v[i], buf) : slot->strings.v[i]);
  }
  msock_config_text_add(t, "]");
}

void msock_config_value_print(const msock_config_row *row, const msock_config_slot *slot,
                              msock_config_text *t) {
  char buf[64];
  switch (row->type) {
  case MSOCK_CONFIG_BOOL:
    msock_config_text_add(t, "%s", slot->flag ? "true" : "false");
    return;
  case MSOCK_CONFIG_INT:
    msock_config_text_add(t, "%" PRId64, slot->number);
    return;
  case MSOCK_CONFIG_DURATION:
    duration_text(slot->amount, buf, sizeof buf);
    msock_config_text_add(t, "%s", buf);
    return;
  case MSOCK_CONFIG_SIZE:
    size_text(slot->amount, buf, sizeof buf);
    msock_config_text_add(t, "%s", buf);
    return;
  case MSOCK_CONFIG_ENUM:
    msock_config_text_add(t, "%s", row->choices[slot->choice]);
    return;
  case MSOCK_CONFIG_IP:
    print_text(t, slot->ip.family == 0 ? "" : msock_ip_text(&slot->ip, buf));
    return;
  case MSOCK_CONFIG_ADDRESS:
    if (slot->addr.ip.family == 0) {
      (void)snprintf(buf, sizeof buf, ":%u", slot->addr.port);
      buf[slot->addr.port == 0 ? 0 : strlen(buf)] = '\0'; /* unset */
    } else {
      msock_addr_text(&slot->addr, buf);
    }
    print_text(t, buf);
    return;
  case MSOCK_CONFIG_STRINGS:
  case MSOCK_CONFIG_PREFIXES:
    print_list(row, slot, t);
    return;
  case MSOCK_CONFIG_SECRET:
    msock_config_text_add(t, "%s", slot->text[0] ? "(set)" : "(not set)");
    return;
  default:
    print_text(t, slot->text);
  }
}
