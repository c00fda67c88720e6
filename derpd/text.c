#include "derpd/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAP 1024u
#define LINE_MAX_BYTES 1024u /* of one add; longer ones are cut */

static bool fit(msock_derpd_text *t, size_t more) {
  const size_t want = t->len + more + 1;
  if (t->failed || want <= t->cap) {
    return !t->failed;
  }
  size_t cap = t->cap ? t->cap : FIRST_CAP;
  while (cap < want) {
    cap *= 2;
  }
  char *p = realloc(t->p, cap);
  if (p == NULL) {
    msock_derpd_text_clear(t);
    t->failed = true;
    return false;
  }
  t->p = p;
  t->cap = cap;
  return true;
}

void msock_derpd_text_bytes(msock_derpd_text *t, const void *p, size_t len) {
  if (fit(t, len)) {
    memcpy(t->p + t->len, p, len);
    t->len += len;
    t->p[t->len] = '\0';
  }
}

void msock_derpd_text_add(msock_derpd_text *t, const char *fmt, ...) {
  char line[LINE_MAX_BYTES];
  va_list ap;
  va_start(ap, fmt);
  const int n = vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  if (n > 0) {
    msock_derpd_text_bytes(t, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
  }
}

void msock_derpd_text_html(msock_derpd_text *t, const char *text) {
  for (; *text; text++) {
    switch (*text) {
    case '&':
      msock_derpd_text_add(t, "&amp;");
      break;
    case '<':
      msock_derpd_text_add(t, "&lt;");
      break;
    case '>':
      msock_derpd_text_add(t, "&gt;");
      break;
    case '"':
      msock_derpd_text_add(t, "&quot;");
      break;
    default:
      msock_derpd_text_bytes(t, text, 1);
    }
  }
}

void msock_derpd_text_size(msock_derpd_text *t, uint64_t bytes) {
  static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  double v = (double)bytes;
  size_t unit = 0;
  while (v >= 999.5 && unit + 1 < sizeof units / sizeof *units) {
    v /= 1000;
    unit++;
  }
  msock_derpd_text_add(t, "%.*f %s", unit > 0 && v < 99.95 ? 1 : 0, v, units[unit]);
}

void msock_derpd_text_span(msock_derpd_text *t, uint64_t us) {
  const uint64_t s = us / 1000000;
  if (s < 120) {
    msock_derpd_text_add(t, "%" PRIu64 " s", s);
  } else if (s < 7200) {
    msock_derpd_text_add(t, "%" PRIu64 " min", s / 60);
  } else if (s < 172800) {
    msock_derpd_text_add(t, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
  } else {
    msock_derpd_text_add(t, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s / 3600 % 24);
  }
}

void msock_derpd_text_clear(msock_derpd_text *t) {
  free(t->p);
  *t = (msock_derpd_text){0};
}
