#include <qrencode.h>

#include "tsnode/qr.h"

#define QUIET 2 /* modules around the code; four by the standard, two are enough for cameras */

bool msock_qr_is_built(void) {
  return true;
}

/* Light is what is drawn: terminals are dark more often than not, and readers take the inverse. */
static bool is_light(const QRcode *q, int x, int y) {
  return x < 0 || y < 0 || x >= q->width || y >= q->width || (q->data[y * q->width + x] & 1u) == 0;
}

bool msock_qr_print(FILE *out, const char *text) {
  static const char *const blocks[4] = {" ", "\xe2\x96\x84", "\xe2\x96\x80", "\xe2\x96\x88"};
  QRcode *q = QRcode_encodeString(text, 0, QR_ECLEVEL_L, QR_MODE_8, 1);
  if (q == NULL) {
    return false;
  }
  for (int y = -QUIET; y < q->width + QUIET; y += 2) {
    for (int x = -QUIET; x < q->width + QUIET; x++) {
      const int upper = is_light(q, x, y), lower = is_light(q, x, y + 1);
      fputs(blocks[upper * 2 + lower], out);
    }
    fputc('\n', out);
  }
  QRcode_free(q);
  return true;
}
