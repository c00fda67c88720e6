#include "disco/relay.h"

#include <assert.h>
#include <string.h>

#include "base/cursor.h"
#include "crypto/blake2s.h"

void msock_disco_pair_sort(const msock_disco_key *a, const msock_disco_key *b,
                           msock_disco_key out[static 2]) {
  const bool swap = memcmp(a->b, b->b, sizeof a->b) > 0;
  const msock_disco_key first = swap ? *b : *a, second = swap ? *a : *b;
  out[0] = first;
  out[1] = second;
}

void msock_disco_relay_challenge(const uint8_t secret[static MSOCK_DISCO_RELAY_SECRET_LEN],
                                 uint32_t vni, uint32_t generation, const msock_disco_key *remote,
                                 const msock_addr *src,
                                 uint8_t out[static MSOCK_DISCO_CHALLENGE_LEN]) {
  uint8_t input[4 + 4 + MSOCK_KEY_LEN + 16 + 2];
  msock_writer w = msock_writer_init(input, sizeof input);
  const msock_ip ip = msock_ip_unmap(src->ip);

  assert(ip.family != 0);
  msock_write_be32(&w, vni);
  msock_write_be32(&w, generation);
  msock_write_copy(&w, remote->b, sizeof remote->b);
  msock_write_copy(&w, ip.b, msock_ip_bits(&ip) / 8u);
  /* Little endian as the reference server has it: only its vectors see the difference. */
  msock_write_u8(&w, (uint8_t)src->port);
  msock_write_u8(&w, (uint8_t)(src->port >> 8));
  msock_blake2s_mac32(out, secret, MSOCK_DISCO_RELAY_SECRET_LEN, &(msock_bytes){input, w.total}, 1);
}
