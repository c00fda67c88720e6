#include "io/log_sink.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static unsigned slot_of(const char *event) {
  uint32_t h = 2166136261u; /* FNV-1a */
  for (; *event; event++) {
    h = (h ^ (uint8_t)*event) * 16777619u;
  }
  return h % MSOCK_LOG_NAMES;
}

/* False: held back. Otherwise *held gives how many were before. */
static bool admit(msock_log_limit *l, uint64_t now_us, uint32_t *held) {
  const uint64_t refill = (now_us - l->refilled_us) / MSOCK_LOG_REFILL_US;
  if (refill > 0) {
    l->tokens_used = refill >= l->tokens_used ? 0 : l->tokens_used - (uint32_t)refill;
    l->refilled_us += refill * MSOCK_LOG_REFILL_US;
  }
  if (l->tokens_used >= MSOCK_LOG_BURST) {
    l->held_back++;
    return false;
  }
  l->tokens_used++;
  *held = l->held_back;
  l->held_back = 0;
  return true;
}

static void time_text(uint64_t wall_us, char *buf, size_t cap) {
  const time_t sec = (time_t)(wall_us / 1000000u);
  struct tm tm;
  char date[32];
  gmtime_r(&sec, &tm);
  strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
  snprintf(buf, cap, "%s.%03uZ", date, (unsigned)(wall_us / 1000u % 1000u));
}

typedef struct line {
  char text[MSOCK_LOG_LINE_MAX];
  size_t len;
} line;

static void put(line *l, const char *p, size_t n) {
  const size_t room = sizeof l->text - 4 - l->len; /* leaves room for "}\n" and an open quote */
  n = n < room ? n : room;
  memcpy(l->text + l->len, p, n);
  l->len += n;
}

static void put_json_string(line *l, const char *p, size_t n) {
  put(l, "\"", 1);
  for (size_t i = 0; i < n; i++) {
    char hex[8];
    if (p[i] == '"' || p[i] == '\\') {
      put(l, (const char[]){'\\', p[i]}, 2);
    } else if ((unsigned char)p[i] < 0x20) {
      put(l, hex, (size_t)snprintf(hex, sizeof hex, "\\u%04x", (unsigned)(unsigned char)p[i]));
    } else {
      put(l, p + i, 1);
    }
  }
  put(l, "\"", 1);
}

/* One key=value of text: value may be in double quotes. Gives where the next one begins. */
static const char *next_pair(const char *at, const char **key, size_t *klen, const char **val,
                             size_t *vlen) {
  while (*at == ' ') {
    at++;
  }
  const size_t n = strcspn(at, "= ");
  if (*at == '\0' || at[n] != '=') {
    return NULL;
  }
  *key = at;
  *klen = n;
  at += n + 1;
  if (*at == '"') {
    *val = ++at;
    *vlen = strcspn(at, "\"");
    at += *vlen;
    return *at == '"' ? at + 1 : at;
  }
  *val = at;
  *vlen = strcspn(at, " ");
  return at + *vlen;
}

static void write_json(line *l, const char *ts, msock_log_level level, const char *event,
                       const char *text, uint32_t held) {
  const char *dot = strchr(event, '.');
  const char *key = NULL, *val = NULL, *at = text, *after;
  size_t klen = 0, vlen = 0;
  char number[48];

  put(l, "{\"ts\":", 6);
  put_json_string(l, ts, strlen(ts));
  put(l, ",\"level\":", 9);
  put_json_string(l, msock_log_level_name(level), strlen(msock_log_level_name(level)));
  put(l, ",\"comp\":", 8);
  put_json_string(l, event, dot ? (size_t)(dot - event) : 0);
  put(l, ",\"msg\":", 7);
  put_json_string(l, dot ? dot + 1 : event, strlen(dot ? dot + 1 : event));
  while ((after = next_pair(at, &key, &klen, &val, &vlen)) != NULL) {
    put(l, ",", 1);
    put_json_string(l, key, klen);
    put(l, ":", 1);
    put_json_string(l, val, vlen);
    at = after;
  }
  if (*at != '\0') { /* words that are no pair: keep them */
    put(l, ",\"text\":", 8);
    put_json_string(l, at, strlen(at));
  }
  if (held > 0) {
    put(l, number, (size_t)snprintf(number, sizeof number, ",\"suppressed\":%" PRIu32, held));
  }
  memcpy(l->text + l->len, "}\n", 2);
  l->len += 2;
}

static void write_human(line *l, const char *ts, msock_log_level level, const char *event,
                        const char *text, uint32_t held) {
  char head[128];
  put(l, head,
      (size_t)snprintf(head, sizeof head, "%s %-5s %s", ts, msock_log_level_name(level), event));
  if (*text) {
    put(l, " ", 1);
    put(l, text, strlen(text));
  }
  if (held > 0) {
    put(l, head, (size_t)snprintf(head, sizeof head, " suppressed=%" PRIu32, held));
  }
  l->text[l->len++] = '\n';
}

static void remember(msock_log_sink *s, const char *p, size_t len) {
  for (size_t i = 0; i < len; i++) {
    s->ring[s->ring_at++] = p[i];
    if (s->ring_at == MSOCK_LOG_RING) {
      s->ring_at = 0;
      s->ring_wrapped = true;
    }
  }
}

void msock_log_sink_tail(const msock_log_sink *s, char dst[static MSOCK_LOG_RING + 1]) {
  size_t len = 0, cut = 0;
  if (s->ring_wrapped) {
    memcpy(dst, s->ring + s->ring_at, MSOCK_LOG_RING - s->ring_at);
    len = MSOCK_LOG_RING - s->ring_at;
  }
  memcpy(dst + len, s->ring, s->ring_at);
  len += s->ring_at;
  dst[len] = '\0';
  if (s->ring_wrapped) { /* the oldest line lost its beginning */
    cut = strcspn(dst, "\n");
    cut += dst[cut] == '\n';
  }
  memmove(dst, dst + cut, len - cut + 1);
}

static void sink(void *ctx, msock_log_level level, const char *event, const char *text) {
  msock_log_sink *s = ctx;
  char ts[64];
  uint32_t held = 0;
  line l;

  const bool limited = s->is_limited == NULL || s->is_limited(event);
  if (limited && !admit(&s->limits[slot_of(event)], s->now_us(), &held)) {
    return;
  }
  l.len = 0;
  time_text(s->wall_us(), ts, sizeof ts);
  if (s->json) {
    write_json(&l, ts, level, event, text, held);
  } else {
    write_human(&l, ts, level, event, text, held);
  }
  remember(s, l.text, l.len);
  if (s->write) {
    s->write(s->write_ctx, l.text, l.len);
  } else {
    fwrite(l.text, 1, l.len, stderr);
  }
}

void msock_log_sink_init(msock_log_sink *s, msock_log_level max, bool json,
                         uint64_t (*now_us)(void), uint64_t (*wall_us)(void)) {
  *s = (msock_log_sink){.json = json, .now_us = now_us, .wall_us = wall_us};
  s->log = (msock_log){.ctx = s, .max = max, .sink = sink};
}
