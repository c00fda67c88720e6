#include "base/log.h"

#include <stdio.h>

void msock_logf(const msock_log *log, msock_log_level level, const char *event, const char *fmt,
                ...) {
  char text[1024];
  va_list ap;

  if (log == NULL || log->sink == NULL || level > log->max) {
    return;
  }
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  for (char *p = text; *p; p++) {
    if ((unsigned char)*p < 0x20 || *p == 0x7f) {
      *p = '?';
    }
  }
  log->sink(log->ctx, level, event, text);
}

const char *msock_log_level_name(msock_log_level level) {
  static const char *const names[] = {"error", "warn", "info", "debug", "trace"};
  return level <= MSOCK_LOG_TRACE ? names[level] : "trace";
}
