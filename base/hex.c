#include "base/hex.h"

void msock_hex_encode(const uint8_t *src, size_t len, char *dst) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < len; i++) {
    dst[2 * i] = digits[src[i] >> 4];
    dst[2 * i + 1] = digits[src[i] & 15u];
  }
  dst[2 * len] = '\0';
}

static int nibble(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  if (c >= 'a' && c <= 'f') {
    return c - 'a' + 10;
  }
  return -1;
}

bool msock_hex_decode(const char *text, uint8_t *dst, size_t len) {
  for (size_t i = 0; i < len; i++) {
    const int hi = nibble(text[2 * i]);
    const int lo = hi < 0 ? -1 : nibble(text[2 * i + 1]);
    if (lo < 0) {
      return false;
    }
    dst[i] = (uint8_t)(hi << 4 | lo);
  }
  return true;
}
