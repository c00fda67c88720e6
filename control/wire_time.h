/* control/wire_time.h: the two text forms of time that control servers use, as wall time in
 * microseconds since 1970-01-01 UTC. No clock, no time zone database. */
#ifndef MSOCK_CONTROL_WIRE_TIME_H
#define MSOCK_CONTROL_WIRE_TIME_H

#include <stdint.h>

#include "base/err.h"

/* RFC 3339 with 0 to 9 fraction digits (more precise than microseconds is cut), "Z" or "+hh:mm".
 * The zero time of Go, year 1, gives 0; another time before 1970 gives 1: "long ago", since 0 means
 * "none". MSOCK_ERR_INVALID leaves out untouched. control.md 4.5. */
msock_err msock_wire_time_parse(const char *text, uint64_t *out);

#define MSOCK_WIRE_TIME_MAX 28u /* "2026-11-21T10:11:12.345678Z" + NUL */
/* RFC 3339 in UTC with six fraction digits. Returns buf. */
char *msock_wire_time_text(uint64_t wall_us, char buf[static MSOCK_WIRE_TIME_MAX]);

/* Retry-After: seconds, or an HTTP date as RFC 9110 5.6.7 prefers it ("Sun, 06 Nov 1994 08:49:37
 * GMT"). Gives the wait from wall_us on in microseconds (0 for a date that has passed). */
msock_err msock_retry_after_parse(const char *text, uint64_t wall_us, uint64_t *out);

#endif
