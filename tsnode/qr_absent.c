#include "tsnode/qr.h"

bool msock_qr_is_built(void) {
  return false;
}

bool msock_qr_print(FILE *out, const char *text) {
  (void)out;
  (void)text;
  return false;
}
