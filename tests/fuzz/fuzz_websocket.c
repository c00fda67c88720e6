/* WebSocket frames of a client, in pieces: the same bytes in any cut give the same stream, bounded.
 */
#include <stdlib.h>
#include <string.h>

#include "derpd/websocket.h"
#include "tests/fuzz/fuzzing.h"

#define OUT_MAX (1u << 20)

typedef struct result {
  uint8_t *stream; /* DATA */
  size_t stream_len;
  uint8_t *control; /* pongs, and the last close */
  size_t control_len;
  bool closed;
} result;

static void put(uint8_t *dst, size_t *len, const uint8_t *p, size_t n) {
  FUZZ_CHECK(*len + n <= OUT_MAX);
  memcpy(dst + *len, p, n);
  *len += n;
}

static void feed(const uint8_t *p, size_t len, uint8_t how, result *r) {
  msock_derpd_ws w = {0};
  while (len > 0 && !r->closed) {
    const size_t piece = fuzz_piece(how, len);
    uint8_t *out = malloc(piece + MSOCK_DERPD_WS_CONTROL_MAX + MSOCK_DERPD_WS_HEAD_MAX);
    for (size_t used = 0; used < piece && !r->closed;) {
      msock_derpd_ws_step step;
      size_t n = 0;
      const size_t took = msock_derpd_ws_feed(&w, p + used, piece - used, &step, out, &n);
      FUZZ_CHECK(took > 0 && took <= piece - used);
      FUZZ_CHECK(n <= piece + MSOCK_DERPD_WS_CONTROL_MAX + MSOCK_DERPD_WS_HEAD_MAX);
      fuzz_touch(out, n);
      if (step == MSOCK_DERPD_WS_DATA) {
        FUZZ_CHECK(n <= took);
        put(r->stream, &r->stream_len, out, n);
      } else {
        FUZZ_CHECK(n >= 2 && n == 2u + out[1]);
        put(r->control, &r->control_len, out, n);
        r->closed = step == MSOCK_DERPD_WS_CLOSE;
      }
      used += took;
    }
    free(out);
    p += piece;
    len -= piece;
  }
}

static result fresh(void) {
  return (result){.stream = malloc(OUT_MAX), .control = malloc(OUT_MAX)};
}

static void drop(result *r) {
  free(r->stream);
  free(r->control);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  msock_reader r = msock_reader_init(data, size);
  const uint8_t how = (uint8_t)fuzz_choice(&r, 256);
  size_t len = 0;
  uint8_t *p = fuzz_rest(&r, &len);
  result whole = fresh(), cut = fresh();
  if (len < OUT_MAX / 2) {
    feed(p, len, 0, &whole);
    feed(p, len, how, &cut);
    FUZZ_CHECK(whole.closed == cut.closed && whole.stream_len == cut.stream_len &&
               whole.control_len == cut.control_len);
    FUZZ_CHECK(memcmp(whole.stream, cut.stream, whole.stream_len) == 0);
    FUZZ_CHECK(memcmp(whole.control, cut.control, whole.control_len) == 0);
  }
  drop(&whole);
  drop(&cut);
  free(p);
  return 0;
}
