/* base/hex.h: lower-case hexadecimal, strict on input. */
#ifndef MSOCK_BASE_HEX_H
#define MSOCK_BASE_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes 2*len lower-case digits and a NUL: dst holds 2*len+1 bytes. */
void msock_hex_encode(const uint8_t *src, size_t len, char *dst);

/* Reads exactly 2*len lower-case digits from text (which may go on after them). False, dst
 * untouched beyond what was read, on the first byte that is not [0-9a-f]. */
bool msock_hex_decode(const char *text, uint8_t *dst, size_t len);

#endif
