/* STUN, client and server side: any datagram, and what we make ourselves. */
#include <stdlib.h>
#include <string.h>

#include "netcheck/stun.h"
#include "tests/fuzz/fuzzing.h"

static void as_client(const uint8_t *p, size_t len, const msock_addr *server) {
  msock_stun_txid txid = {{0}};
  msock_addr mapped = {0};

  if (msock_stun_decode_response(p, len, server, &txid, &mapped) == MSOCK_OK) {
    const msock_stun_txid want = msock_stun_txid_of(p);
    FUZZ_CHECK(msock_stun_looks(p, len) && msock_stun_demux(p, len));
    FUZZ_CHECK(memcmp(txid.b, want.b, sizeof txid.b) == 0);
    FUZZ_CHECK(mapped.ip.family == server->ip.family);
    FUZZ_CHECK(!msock_ip_is_loopback(&mapped.ip) || msock_ip_is_loopback(&server->ip));
  }
}

static void as_server(const uint8_t *p, size_t len, bool open_to_all, const msock_addr *client) {
  msock_stun_request request;
  uint8_t answer[MSOCK_STUN_RESPONSE_MAX];
  msock_stun_txid txid;
  msock_addr mapped = {0};
  const msock_stun_verdict v = msock_stun_check_request(p, len, open_to_all, &request);

  FUZZ_CHECK(v >= MSOCK_STUN_ACCEPT && v < MSOCK_STUN_VERDICTS);
  if (v != MSOCK_STUN_ACCEPT) {
    return;
  }
  FUZZ_CHECK(msock_stun_demux(p, len));
  FUZZ_CHECK(!request.fingerprint || msock_stun_fingerprint_ok(p, len));
  const ptrdiff_t n =
      msock_stun_encode_response(&request.txid, client, request.fingerprint, answer, sizeof answer);
  FUZZ_CHECK(n > 0);
  FUZZ_CHECK(msock_stun_decode_response(answer, (size_t)n, client, &txid, &mapped) == MSOCK_OK);
  FUZZ_CHECK(msock_addr_equal(&mapped, client));
  FUZZ_CHECK(memcmp(txid.b, request.txid.b, sizeof txid.b) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const uint8_t six[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1};
  msock_reader r = msock_reader_init(data, size);
  const uint8_t flags = msock_read_u8(&r);
  size_t len = 0;
  uint8_t *p = fuzz_rest(&r, &len);
  const msock_addr peer = {.ip = (flags & 1)   ? msock_ip_from_bytes16(six)
                                 : (flags & 2) ? msock_ip_v4(127, 0, 0, 1)
                                               : msock_ip_v4(192, 0, 2, 1),
                           .port = 41641};

  (void)msock_stun_demux(p, len);
  (void)msock_stun_fingerprint_ok(p, len);
  as_client(p, len, &peer);
  as_server(p, len, (flags & 4) != 0, &peer);
  free(p);
  fuzz_count_messages(1);
  return 0;
}
