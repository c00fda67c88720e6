/* Echo and TSMP of the node itself: any inner packet. */
#include <stdlib.h>
#include <string.h>

#include "base/ip_packet.h"
#include "node/echo.h"
#include "tests/fuzz/fuzzing.h"

static void answered(const uint8_t *before, const uint8_t *after, size_t len, bool did) {
  msock_ip_packet k;
  FUZZ_CHECK(did || memcmp(before, after, len) == 0);
  if (did) {
    FUZZ_CHECK(msock_ip_packet_parse(after, len, &k) == MSOCK_OK);
  }
}

static void echo(const uint8_t *p, size_t len, const msock_ip *own, size_t n_own) {
  uint8_t *copy = malloc(len);
  memcpy(copy, p, len);
  const size_t n = msock_echo_answer(copy, len, own, n_own);
  FUZZ_CHECK(n <= len);
  answered(p, copy, n > 0 ? n : len, n > 0);
  if (n > 0) {
    msock_echo_reply reply;
    FUZZ_CHECK(msock_echo_parse_reply(copy, n, &reply) == MSOCK_OK);
    FUZZ_CHECK(reply.payload_len <= n);
  }
  free(copy);
}

static void tsmp(const uint8_t *p, size_t len, size_t room, const msock_ip *own, size_t n_own) {
  uint8_t *copy = malloc(len + room);
  msock_tsmp t;
  memcpy(copy, p, len);
  memset(copy + len, 0xee, room);
  const size_t n = msock_tsmp_answer(copy, len, len + room, own, n_own, 35721);
  FUZZ_CHECK(n <= len + room);
  answered(p, copy, n > 0 ? n : len, n > 0);
  if (n > 0) {
    FUZZ_CHECK(msock_tsmp_decode(copy, n, &t) == MSOCK_OK);
    FUZZ_CHECK(t.kind == MSOCK_TSMP_PONG && t.peerapi_port == 35721);
  }
  free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const uint8_t six[16] = {0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0, [15] = 1};
  const msock_ip own[2] = {msock_ip_v4(100, 64, 0, 1), msock_ip_from_bytes16(six)};
  msock_reader r = msock_reader_init(data, size);
  const uint8_t room = msock_read_u8(&r) % 4;
  size_t len = 0;
  msock_echo_reply reply;
  msock_tsmp t;
  uint8_t *p = fuzz_rest(&r, &len);

  if (len > 0) {
    echo(p, len, own, 2);
    tsmp(p, len, room, own, 2);
  }
  if (msock_echo_parse_reply(p, len, &reply) == MSOCK_OK) {
    FUZZ_CHECK(reply.payload >= p && reply.payload + reply.payload_len <= p + len);
  }
  (void)msock_tsmp_decode(p, len, &t);
  free(p);
  return 0;
}
