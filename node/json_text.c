#include "node/json_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAP 1024u

/* Room for n more bytes and a NUL. */
static bool reserve(msock_json_text *j, size_t n) {
  if (j->bad) {
    return false;
  }
  if (j->cap - j->len > n) {
    return true;
  }
  size_t cap = j->cap ? j->cap : FIRST_CAP;
  while (cap - j->len <= n) {
    if (cap > SIZE_MAX / 2) {
      j->bad = true;
      return false;
    }
    cap *= 2;
  }
  char *buf = realloc(j->buf, cap);
  if (buf == NULL) {
    j->bad = true;
    return false;
  }
  j->buf = buf;
  j->cap = cap;
  return true;
}

static void append(msock_json_text *j, const char *text, size_t len) {
  if (reserve(j, len)) {
    memcpy(j->buf + j->len, text, len);
    j->len += len;
    j->buf[j->len] = '\0';
  }
}

/* Invalid UTF-8 is replaced, so that the document stays one whatever a peer calls itself. Gives the
 * bytes of the sequence at p, 0 when it is not one (RFC 3629 4). */
static size_t utf8_len(const unsigned char *p) {
  const unsigned char lo = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
  const unsigned char hi = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
  const size_t n = p[0] >= 0xc2 && p[0] <= 0xdf   ? 2
                   : p[0] >= 0xe0 && p[0] <= 0xef ? 3
                   : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                                  : 0;
  if (n == 0 || p[1] < lo || p[1] > hi) {
    return 0;
  }
  for (size_t i = 2; i < n; i++) {
    if (p[i] < 0x80 || p[i] > 0xbf) {
      return 0;
    }
  }
  return n;
}

static void append_quoted(msock_json_text *j, const char *text) {
  const unsigned char *p = (const unsigned char *)text;
  append(j, "\"", 1);
  while (*p) {
    char escape[8];
    if (*p == '"' || *p == '\\') {
      escape[0] = '\\';
      escape[1] = (char)*p++;
      append(j, escape, 2);
    } else if (*p < 0x20 || *p == 0x7f) {
      append(j, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", *p++));
    } else if (*p < 0x80) {
      append(j, (const char *)p++, 1);
    } else {
      const size_t n = utf8_len(p);
      append(j, n ? (const char *)p : "\xef\xbf\xbd", n ? n : 3);
      p += n ? n : 1;
    }
  }
  append(j, "\"", 1);
}

static void begin(msock_json_text *j, const char *key) {
  if (j->comma) {
    append(j, ",", 1);
  }
  if (key != NULL) {
    append_quoted(j, key);
    append(j, ":", 1);
  }
  j->comma = true;
}

void msock_json_open(msock_json_text *j, const char *key, char bracket) {
  begin(j, key);
  append(j, &bracket, 1);
  j->comma = false;
}

void msock_json_close(msock_json_text *j, char bracket) {
  append(j, &bracket, 1);
  j->comma = true;
}

void msock_json_str(msock_json_text *j, const char *key, const char *text) {
  begin(j, key);
  append_quoted(j, text ? text : "");
}

void msock_json_bool(msock_json_text *j, const char *key, bool v) {
  begin(j, key);
  append(j, v ? "true" : "false", v ? 4 : 5);
}

void msock_json_u64(msock_json_text *j, const char *key, uint64_t v) {
  char text[24];
  begin(j, key);
  append(j, text, (size_t)snprintf(text, sizeof text, "%" PRIu64, v));
}

void msock_json_seconds(msock_json_text *j, const char *key, uint64_t us) {
  char text[32];
  begin(j, key);
  append(j, text,
         (size_t)snprintf(text, sizeof text, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000));
}

void msock_json_null(msock_json_text *j, const char *key) {
  msock_json_raw(j, key, "null");
}

void msock_json_raw(msock_json_text *j, const char *key, const char *json) {
  begin(j, key);
  append(j, json, strlen(json));
}

/* Days since 1970-01-01 to a date of the Gregorian calendar, by eras of 400 years that begin on
 * 1 March. */
static void civil_date(uint64_t days, unsigned *year, unsigned *month, unsigned *day) {
  const uint64_t d = days + 719468; /* from 0000-03-01 */
  const uint64_t in_era = d % 146097;
  const uint64_t y = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
  const uint64_t in_year = in_era - (365 * y + y / 4 - y / 100);
  const uint64_t m = (5 * in_year + 2) / 153;
  *day = (unsigned)(in_year - (153 * m + 2) / 5 + 1);
  *month = (unsigned)(m < 10 ? m + 3 : m - 9);
  *year = (unsigned)(y + 400 * (d / 146097) + (*month <= 2));
}

void msock_json_time(msock_json_text *j, const char *key, uint64_t wall_us) {
  const uint64_t s = wall_us / 1000000;
  unsigned year, month, day;
  char text[64];
  if (wall_us == 0) {
    msock_json_str(j, key, "0001-01-01T00:00:00Z");
    return;
  }
  civil_date(s / 86400, &year, &month, &day);
  const int n = snprintf(text, sizeof text, "%04u-%02u-%02uT%02u:%02u:%02u", year, month, day,
                         (unsigned)(s / 3600 % 24), (unsigned)(s / 60 % 60), (unsigned)(s % 60));
  if (wall_us % 1000000 != 0) {
    snprintf(text + n, sizeof text - (size_t)n, ".%06uZ", (unsigned)(wall_us % 1000000));
  } else {
    snprintf(text + n, sizeof text - (size_t)n, "Z");
  }
  msock_json_str(j, key, text);
}

char *msock_json_text_take(msock_json_text *j, size_t *len) {
  char *text = j->bad ? NULL : j->buf;
  if (text == NULL) {
    free(j->buf);
    *len = 0;
  } else {
    *len = j->len;
  }
  *j = (msock_json_text){0};
  return text;
}
