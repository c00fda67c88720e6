/* disco/relay.h: what both ends of a UDP peer relay must compute alike (magicsock.md section 4). */
#ifndef MSOCK_DISCO_RELAY_H
#define MSOCK_DISCO_RELAY_H

#include <stdint.h>

#include "base/addr.h"
#include "base/key.h"
#include "disco/messages.h"

#define MSOCK_DISCO_RELAY_SECRET_LEN 32u

/* The pair in the order in which messages carry it: bytes ascending. */
void msock_disco_pair_sort(const msock_disco_key *a, const msock_disco_key *b,
                           msock_disco_key out[static 2]);

/* Server side: the challenge that binds a client's address to its handshake, a MAC under a secret
 * that only the server has (magicsock.md 4.5). Compare with msock_ct_equal. src must have an
 * address. */
void msock_disco_relay_challenge(const uint8_t secret[static MSOCK_DISCO_RELAY_SECRET_LEN],
                                 uint32_t vni, uint32_t generation, const msock_disco_key *remote,
                                 const msock_addr *src,
                                 uint8_t out[static MSOCK_DISCO_CHALLENGE_LEN]);

#endif
