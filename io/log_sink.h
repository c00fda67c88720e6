/* io/log_sink.h: where log events become lines on stderr, for people or as JSON
 * (requirements.md 5.8).
 *
 *   human  2026-11-21T10:11:12.345Z info  derp.connected region=900 host=derp.example
 *   json   {"ts":"2026-11-21T10:11:12.345Z","level":"info","comp":"derp","msg":"connected",
 *          "region":"900","host":"derp.example"}
 *
 * Repeats are limited per event name: a burst of MSOCK_LOG_BURST lines, then one line each
 * MSOCK_LOG_REFILL_US; the next line that passes says how many were held back (suppressed=N). */
#ifndef MSOCK_IO_LOG_SINK_H
#define MSOCK_IO_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

#define MSOCK_LOG_BURST 50u
#define MSOCK_LOG_REFILL_US UINT64_C(1000000)
#define MSOCK_LOG_NAMES 64u /* limiter slots; names that share one share its limit */
#define MSOCK_LOG_LINE_MAX 4096u
#define MSOCK_LOG_RING 16384u /* bytes of the newest lines that are kept for bug reports */

typedef struct msock_log_limit {
  uint64_t refilled_us;
  uint32_t tokens_used;
  uint32_t held_back;
} msock_log_limit;

typedef struct msock_log_sink {
  msock_log log; /* pass &sink.log on */
  bool json;
  bool (*is_limited)(const char *event);                  /* NULL = every event is */
  uint64_t (*now_us)(void);                               /* for the limiter */
  uint64_t (*wall_us)(void);                              /* for the time stamp */
  void (*write)(void *ctx, const char *line, size_t len); /* one whole line with its newline */
  void *write_ctx;
  msock_log_limit limits[MSOCK_LOG_NAMES];
  char ring[MSOCK_LOG_RING];
  size_t ring_at; /* where the next byte goes */
  bool ring_wrapped;
} msock_log_sink;

/* The newest lines, whole ones only, oldest first, NUL-terminated; dst holds MSOCK_LOG_RING + 1
 * bytes. */
void msock_log_sink_tail(const msock_log_sink *s, char dst[static MSOCK_LOG_RING + 1]);

/* write NULL = stderr. The sink must not move afterwards. */
void msock_log_sink_init(msock_log_sink *s, msock_log_level max, bool json,
                         uint64_t (*now_us)(void), uint64_t (*wall_us)(void));

#endif
