/* config/duration.h: durations as Go writes them: "500ms", "1m30s", "1.5h", "0". Pure. */
#ifndef MSOCK_CONFIG_DURATION_H
#define MSOCK_CONFIG_DURATION_H

#include <stdbool.h>
#include <stdint.h>

#define MSOCK_DURATION_TEXT_MAX 32u

/* Units ns us ms s m h, each number with an optional fraction, largest first by habit only. Parts
 * of a microsecond are cut. False (out untouched) for anything else: no unit, a sign, over 292
 * years. */
bool msock_duration_parse(const char *text, uint64_t *out_us);
/* "1m30s", "500ms", "0s". Returns buf. */
char *msock_duration_text(uint64_t us, char buf[static MSOCK_DURATION_TEXT_MAX]);

#endif
