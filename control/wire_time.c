#include "control/wire_time.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define US_PER_SEC INT64_C(1000000)
#define RETRY_AFTER_DIGITS_MAX 9u

/* Days since 1970-01-01 of a proleptic Gregorian date: eras of 400 years that begin in March. */
static int64_t days_of(int64_t year, int month, int day) {
  year -= month <= 2;
  const int64_t era = (year >= 0 ? year : year - 399) / 400;
  const int64_t of_era = year - era * 400;
  const int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* n digits of text as a number, -1 when one is no digit. */
static int number(const char *text, int n) {
  int v = 0;
  for (int i = 0; i < n; i++) {
    if (text[i] < '0' || text[i] > '9') {
      return -1;
    }
    v = v * 10 + (text[i] - '0');
  }
  return v;
}

static bool in_range(int year, int month, int day, int hour, int minute, int second) {
  return year >= 0 && month >= 1 && month <= 12 && day >= 1 && day <= 31 && hour >= 0 &&
         hour <= 23 && minute >= 0 && minute <= 59 && second >= 0 && second <= 60;
}

/* "Z" or "+hh:mm" as seconds east; false when it is neither. */
static bool parse_zone(const char *text, int *seconds) {
  if (strcmp(text, "Z") == 0) {
    *seconds = 0;
    return true;
  }
  const int hours = strlen(text) == 6 ? number(text + 1, 2) : -1;
  const int minutes = hours >= 0 && text[3] == ':' ? number(text + 4, 2) : -1;
  if ((text[0] != '+' && text[0] != '-') || hours < 0 || minutes < 0 || hours > 23 ||
      minutes > 59) {
    return false;
  }
  *seconds = (hours * 3600 + minutes * 60) * (text[0] == '-' ? -1 : 1);
  return true;
}

msock_err msock_wire_time_parse(const char *text, uint64_t *out) {
  int64_t fraction_us = 0;
  int zone = 0;

  if (strlen(text) < 20 || text[4] != '-' || text[7] != '-' || (text[10] | 0x20) != 't' ||
      text[13] != ':' || text[16] != ':') {
    return MSOCK_ERR_INVALID;
  }
  const int year = number(text, 4), month = number(text + 5, 2), day = number(text + 8, 2);
  const int hour = number(text + 11, 2), minute = number(text + 14, 2);
  const int second = number(text + 17, 2);
  text += 19;
  if (*text == '.') {
    const size_t n = strspn(++text, "0123456789");
    if (n == 0 || n > 9) {
      return MSOCK_ERR_INVALID;
    }
    for (size_t i = 0; i < 6; i++) {
      fraction_us = fraction_us * 10 + (i < n ? text[i] - '0' : 0);
    }
    text += n;
  }
  if (!in_range(year, month, day, hour, minute, second) || !parse_zone(text, &zone)) {
    return MSOCK_ERR_INVALID;
  }
  if (year <= 1) {
    *out = 0;
    return MSOCK_OK;
  }
  const int64_t seconds =
      days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - zone;
  const int64_t us = seconds * US_PER_SEC + fraction_us;
  *out = us > 0 ? (uint64_t)us : 1;
  return MSOCK_OK;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static bool parse_http_date(const char *text, uint64_t *out) {
  static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  if (strlen(text) != 29 || text[3] != ',' || strcmp(text + 25, " GMT") != 0) {
    return false;
  }
  const char name[4] = {text[8], text[9], text[10], '\0'};
  const char *at = strstr(months, name);
  if (at == NULL || (at - months) % 3 != 0) {
    return false;
  }
  const int month = (int)(at - months) / 3 + 1;
  const int day = number(text + 5, 2), year = number(text + 12, 4);
  const int hour = number(text + 17, 2), minute = number(text + 20, 2);
  const int second = number(text + 23, 2);
  if (!in_range(year, month, day, hour, minute, second) || year < 1970) {
    return false;
  }
  *out = (uint64_t)(days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second) *
         (uint64_t)US_PER_SEC;
  return true;
}

msock_err msock_retry_after_parse(const char *text, uint64_t wall_us, uint64_t *out) {
  const size_t n = strspn(text, "0123456789");
  uint64_t at = 0;
  if (n > 0 && text[n] == '\0' && n <= RETRY_AFTER_DIGITS_MAX) {
    *out = (uint64_t)number(text, (int)n) * (uint64_t)US_PER_SEC;
    return MSOCK_OK;
  }
  if (!parse_http_date(text, &at)) {
    return MSOCK_ERR_INVALID;
  }
  *out = at > wall_us ? at - wall_us : 0;
  return MSOCK_OK;
}

char *msock_wire_time_text(uint64_t wall_us, char buf[static MSOCK_WIRE_TIME_MAX]) {
  const uint64_t sec = wall_us / 1000000u;
  const uint32_t day_sec = (uint32_t)(sec % 86400u);
  /* civil date of a day number: eras of 400 years that begin on 1 March */
  const uint32_t z = (uint32_t)(sec / 86400u) + 719468u;
  const uint32_t era = z / 146097u, doe = z - era * 146097u;
  const uint32_t yoe = (doe - doe / 1460u + doe / 36524u - doe / 146096u) / 365u;
  const uint32_t doy = doe - (365u * yoe + yoe / 4u - yoe / 100u);
  const uint32_t mp = (5u * doy + 2u) / 153u;
  const uint32_t day = doy - (153u * mp + 2u) / 5u + 1u;
  const uint32_t month = mp < 10u ? mp + 3u : mp - 9u;
  const uint32_t year = yoe + era * 400u + (month <= 2u);
  snprintf(buf, MSOCK_WIRE_TIME_MAX, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ", year % 10000u,
           month % 100u, day % 100u, day_sec / 3600u, day_sec / 60u % 60u, day_sec % 60u,
           (unsigned)(wall_us % 1000000u));
  return buf;
}
