/* base/log.h: the log front-end. The sink is passed in, never global.
 *
 * An event is a stable name, "room.what" ("derp.connected"), followed by key=value text. Values
 * with spaces are put in double quotes by the caller. No private, session or pre-auth key ever goes
 * here; public keys print in short form (base/key.h). */
#ifndef MSOCK_BASE_LOG_H
#define MSOCK_BASE_LOG_H

#include <stdarg.h>

typedef enum msock_log_level {
  MSOCK_LOG_ERROR = 0,
  MSOCK_LOG_WARN = 1,
  MSOCK_LOG_INFO = 2,
  MSOCK_LOG_DEBUG = 3,
  MSOCK_LOG_TRACE = 4
} msock_log_level;

typedef struct msock_log {
  void *ctx;
  msock_log_level max; /* events above this level are not formatted */
  /* text: NUL-terminated key=value list, valid for the call, at most 1023 bytes, control bytes
   * already replaced by '?'. */
  void (*sink)(void *ctx, msock_log_level level, const char *event, const char *text);
} msock_log;

/* log may be NULL (silent). */
void msock_logf(const msock_log *log, msock_log_level level, const char *event, const char *fmt,
                ...) __attribute__((format(printf, 4, 5)));

const char *msock_log_level_name(msock_log_level level); /* "error" .. "trace" */

#endif
