#include "derpd/lists.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "crypto/wipe.h"
#include "io/file.h"

#define LINE_MAX_BYTES 160u

/* --- list files --- */

typedef struct reader {
  msock_derpd_lists *out;
  size_t keys_cap, bans_cap;
  bool no_memory;
} reader;

/* Room for one more of elements of size bytes. */
static bool room(reader *r, void **v, size_t n, size_t *cap, size_t size) {
  if (n < *cap) {
    return true;
  }
  const size_t bigger = *cap ? *cap * 2 : 64;
  void *p = realloc(*v, bigger * size);
  if (p == NULL) {
    r->no_memory = true;
    return false;
  }
  *v = p;
  *cap = bigger;
  return true;
}

static bool add_key(reader *r, const char *text) {
  msock_node_key key;
  void *v = r->out->admitted.v;
  if (msock_node_key_parse(text, &key) != MSOCK_OK) {
    return false;
  }
  if (room(r, &v, r->out->admitted.n, &r->keys_cap, sizeof key)) {
    r->out->admitted.v = v;
    r->out->admitted.v[r->out->admitted.n++] = key;
  }
  return true;
}

static bool put_ban(reader *r, const msock_derp_ban *ban) {
  void *v = r->out->bans;
  if (room(r, &v, r->out->n_bans, &r->bans_cap, sizeof *ban)) {
    r->out->bans = v;
    r->out->bans[r->out->n_bans++] = *ban;
  }
  return true;
}

static bool add_ban(reader *r, const char *text) {
  msock_derp_ban ban = {.kind = MSOCK_DERP_BAN_KEY};
  if (msock_node_key_parse(text, &ban.key) == MSOCK_OK) {
    return put_ban(r, &ban);
  }
  ban.kind = MSOCK_DERP_BAN_PREFIX;
  return msock_prefix_parse(text, &ban.prefix) == MSOCK_OK && put_ban(r, &ban);
}

static void complain(const char *path, size_t line, const char *key, const char *expected,
                     msock_config_report *report) {
  char where[MSOCK_CONFIG_WHERE_MAX];
  snprintf(where, sizeof where, "%.280s:%zu", path, line);
  msock_config_report_add(report, false, where, key, "correct the line, or begin it with #",
                          "expected %s", expected);
}

/* One entry a line; blanks around it, empty lines and what follows a # are passed over. */
static void read_lines(reader *r, const char *path, const char *text, const char *key,
                       const char *expected, bool (*add)(reader *, const char *),
                       msock_config_report *report) {
  for (size_t line = 1; *text && !r->no_memory; line++) {
    char word[LINE_MAX_BYTES];
    const size_t len = strcspn(text, "\n");
    size_t from = 0, to = strcspn(text, "#\n");
    while (from < to && isspace((unsigned char)text[from])) {
      from++;
    }
    while (to > from && isspace((unsigned char)text[to - 1])) {
      to--;
    }
    if (to > from) {
      snprintf(word, sizeof word, "%.*s", (int)(to - from), text + from);
      if (to - from >= sizeof word || !add(r, word)) {
        complain(path, line, key, expected, report);
      }
    }
    text += len + (text[len] == '\n');
  }
}

static void read_file(reader *r, const char *path, const char *key, const char *expected,
                      bool (*add)(reader *, const char *), msock_config_report *report) {
  char why[MSOCK_FILE_WHY_MAX];
  char *text = NULL;
  size_t len = 0;
  if (path[0] == '\0') {
    return;
  }
  if (msock_file_read(path, MSOCK_DERPD_LIST_FILE_MAX, false, &text, &len, why) != MSOCK_OK) {
    msock_config_report_add(report, false, path, key, NULL, "%s", why);
    return;
  }
  read_lines(r, path, text, key, expected, add, report);
  free(text);
}

static int compare_keys(const void *a, const void *b) {
  return memcmp(a, b, sizeof(msock_node_key));
}

msock_err msock_derpd_lists_load(const msock_derpd_config *v, msock_derpd_lists *out,
                                 msock_config_report *report) {
  const size_t before = report->n_errors;
  *out = (msock_derpd_lists){0};
  reader r = {.out = out};
  out->has_admitted = v->admission.keys.n > 0 || v->admission.keys_file[0];
  for (size_t i = 0; i < v->admission.keys.n; i++) {
    (void)add_key(&r, v->admission.keys.v[i]); /* checked by its row */
  }
  read_file(&r, v->admission.keys_file, "admission.keys_file",
            "nodekey: and 64 lower-case hex digits", add_key, report);
  for (size_t i = 0; i < v->bans.keys.n; i++) {
    (void)add_ban(&r, v->bans.keys.v[i]);
  }
  for (size_t i = 0; i < v->bans.prefixes.n; i++) {
    const msock_derp_ban ban = {.kind = MSOCK_DERP_BAN_PREFIX, .prefix = v->bans.prefixes.v[i]};
    (void)put_ban(&r, &ban);
  }
  read_file(&r, v->bans.file, "bans.file", "a node key, an address or a prefix with zero host bits",
            add_ban, report);
  if (out->n_bans > MSOCK_DERP_SERVER_BANS_MAX) {
    msock_config_report_add(report, false, v->bans.file, "bans",
                            "name prefixes in place of addresses", "more than %u bans",
                            MSOCK_DERP_SERVER_BANS_MAX);
  }
  if (r.no_memory) {
    msock_config_report_add(report, false, "derpd", NULL, NULL, "not enough memory for the lists");
  }
  if (report->n_errors != before) {
    msock_derpd_lists_clear(out);
    return MSOCK_ERR_INVALID;
  }
  if (out->admitted.n > 0) {
    qsort(out->admitted.v, out->admitted.n, sizeof *out->admitted.v, compare_keys);
  }
  return MSOCK_OK;
}

void msock_derpd_lists_clear(msock_derpd_lists *l) {
  free(l->admitted.v);
  free(l->bans);
  *l = (msock_derpd_lists){0};
}

/* --- the core's settings --- */

static msock_derp_rate rate(uint64_t per_s, uint64_t burst) {
  return (msock_derp_rate){.per_s = per_s, .burst = burst ? burst : per_s};
}

static void set_mesh_key(const char *text, msock_derp_server_settings *s) {
  char lower[2 * sizeof s->mesh_key + 1];
  for (size_t i = 0; i < sizeof lower; i++) { /* checked by its row: 64 digits */
    lower[i] = (char)tolower((unsigned char)text[i]);
  }
  s->has_mesh_key = msock_hex_decode(lower, s->mesh_key, sizeof s->mesh_key);
  msock_wipe(lower, sizeof lower);
}

void msock_derpd_core_settings(const msock_derpd_config *v, const msock_derpd_lists *l,
                               msock_derp_server_settings *out) {
  const msock_derpd_limits_config *m = &v->limits;
  msock_derp_server_settings s = msock_derp_server_settings_default();
  s.conns = (uint32_t)m->connections;
  s.conns_per_key = (uint32_t)m->connections_per_key;
  s.conns_per_prefix = (uint32_t)m->connections_per_address;
  s.half_open = (uint32_t)m->handshakes;
  s.accept = rate((uint64_t)m->accept_rate, (uint64_t)m->accept_burst);
  s.accept_prefix = rate((uint64_t)m->address_accept_rate, (uint64_t)m->address_accept_burst);
  s.key = rate(m->key_rate, m->key_burst);
  s.prefix = rate(m->address_rate, m->address_burst);
  s.total = rate(m->total_rate, m->total_burst);
  s.flows_per_key = (uint32_t)m->flows_per_key;
  s.flow_us = m->flow_duration;
  s.flow_bytes = m->flow_bytes;
  s.stall_us = m->write_timeout;
  s.memory_bytes = m->memory;
  s.quota_day = v->quota.day;
  s.quota_month = v->quota.month;
  s.quota_grace = v->quota.grace;
  s.throttle = rate(v->quota.throttle, 0);
  s.admission = l->has_admitted || v->admission.url[0] || v->admission.token[0]
                    ? MSOCK_DERP_ADMIT_ASK
                    : MSOCK_DERP_ADMIT_ALL;
  s.admission_ttl_us = v->admission.recheck;
  if (v->mesh.key[0]) {
    set_mesh_key(v->mesh.key, &s);
  }
  *out = s;
}
