#include "config/duration.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define MAX_US (UINT64_MAX / 2000) /* 292 years, as in Go */

static const struct {
  const char *name;
  uint64_t ns;
} units[] = {
    {"ns", 1},          {"us", 1000},          {"\xc2\xb5s", 1000},     {"ms", 1000000},
    {"s", 1000000000u}, {"m", 60000000000ull}, {"h", 3600000000000ull},
};

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/* The unit at p, which ends before the next number; 0 = none. */
static uint64_t take_unit(const char **p) {
  const size_t len = strcspn(*p, "0123456789.");
  for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
    if (strlen(units[i].name) == len && memcmp(units[i].name, *p, len) == 0) {
      *p += len;
      return units[i].ns;
    }
  }
  return 0;
}

/* One "number unit" in nanoseconds, kept as whole microseconds and a rest. */
static bool take_part(const char **p, uint64_t *us, uint64_t *rest_ns) {
  uint64_t whole = 0, fraction = 0, scale = 1;
  bool digits = false;
  for (; is_digit(**p); (*p)++, digits = true) {
    if (whole > MAX_US) {
      return false;
    }
    whole = whole * 10 + (uint64_t)(**p - '0');
  }
  if (**p == '.') {
    (*p)++;
    for (; is_digit(**p); (*p)++, digits = true) {
      if (scale < 1000000) { /* further digits change nothing that is kept */
        fraction = fraction * 10 + (uint64_t)(**p - '0');
        scale *= 10;
      }
    }
  }
  const uint64_t ns = digits ? take_unit(p) : 0;
  if (ns == 0) {
    return false;
  }
  if (ns >= 1000) {
    if (whole > MAX_US / (ns / 1000)) {
      return false;
    }
    *us += whole * (ns / 1000) + fraction * (ns / 1000) / scale;
  } else {
    *us += whole / 1000;
    *rest_ns += whole % 1000;
  }
  return *us <= MAX_US;
}

bool msock_duration_parse(const char *text, uint64_t *out_us) {
  uint64_t us = 0, rest_ns = 0;
  if (strcmp(text, "0") == 0) {
    *out_us = 0;
    return true;
  }
  if (*text == '\0') {
    return false;
  }
  for (const char *p = text; *p;) {
    if (!take_part(&p, &us, &rest_ns)) {
      return false;
    }
  }
  *out_us = us + rest_ns / 1000;
  return true;
}

char *msock_duration_text(uint64_t us, char buf[static MSOCK_DURATION_TEXT_MAX]) {
  const unsigned long long s = us / 1000000;
  if (us > 0 && us < 1000000) {
    if (us % 1000 == 0) {
      snprintf(buf, MSOCK_DURATION_TEXT_MAX, "%ums", (unsigned)(us / 1000));
    } else {
      snprintf(buf, MSOCK_DURATION_TEXT_MAX, "%uus", (unsigned)us);
    }
  } else if (s < 60) {
    snprintf(buf, MSOCK_DURATION_TEXT_MAX, "%llus", s);
  } else if (s < 3600) {
    snprintf(buf, MSOCK_DURATION_TEXT_MAX, "%llum%llus", s / 60, s % 60);
  } else {
    snprintf(buf, MSOCK_DURATION_TEXT_MAX, "%lluh%llum%llus", s / 3600, s / 60 % 60, s % 60);
  }
  return buf;
}
