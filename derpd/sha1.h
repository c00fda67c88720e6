/* derpd/sha1.h: SHA-1 (FIPS 180-4) for the WebSocket handshake alone, which protects nothing by it
 * (RFC 6455 10.8); libsodium has none. */
#ifndef MSOCK_DERPD_SHA1_H
#define MSOCK_DERPD_SHA1_H

#include <stddef.h>
#include <stdint.h>

#define MSOCK_DERPD_SHA1_LEN 20u

void msock_derpd_sha1(const uint8_t *p, size_t len, uint8_t out[static MSOCK_DERPD_SHA1_LEN]);

#endif
