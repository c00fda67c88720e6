/* netcheck/stun.h: the one STUN codec, both sides (netcheck.md 1.1 to 1.4; RFC 8489).
 *
 * Pure: no allocation, clock or I/O. Only Binding is spoken, one address comes back. */
#ifndef MSOCK_NETCHECK_STUN_H
#define MSOCK_NETCHECK_STUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"

#define MSOCK_STUN_HEADER_LEN 20u
#define MSOCK_STUN_REQUEST_LEN 40u  /* header, SOFTWARE "tailnode", FINGERPRINT */
#define MSOCK_STUN_RESPONSE_MAX 52u /* IPv6 address and FINGERPRINT */
#define MSOCK_STUN_PORT 3478u

typedef struct msock_stun_txid {
  uint8_t b[12]; /* random, used once */
} msock_stun_txid;

/* A Binding request: 40 bytes, or with plain the bare 20-byte header, which the reference's relays
 * never answer (netcheck.md 1.1). Gives the length, or MSOCK_ERR_NOBUF with dst untouched. */
ptrdiff_t msock_stun_encode_request(const msock_stun_txid *txid, bool plain, uint8_t *dst,
                                    size_t cap);

/* Is it a STUN message at all: 20 bytes, top two bits zero, cookie (netcheck.md 1.4, 1). */
bool msock_stun_looks(const uint8_t *p, size_t len);

/* First test of a datagram from the shared UDP socket: STUN of the Binding method, request or
 * answer (netcheck.md 1.6, 1). False: Geneve, disco or WireGuard. */
bool msock_stun_demux(const uint8_t *p, size_t len);

/* Transaction id of a message that passed msock_stun_looks. */
msock_stun_txid msock_stun_txid_of(const uint8_t *p);

/* Reads a Binding success response (netcheck.md 1.4).
 *   server  address that was asked: a mapped address of another family is refused, and a loopback
 *           one unless the server is on loopback
 *   txid, mapped  filled only on MSOCK_OK; mapped is unmapped (::ffff:a.b.c.d becomes a.b.c.d)
 * MSOCK_ERR_UNKNOWN: not STUN, or another type (also error responses: the transaction stays open).
 * MSOCK_ERR_INVALID: malformed, wrong FINGERPRINT at the end, or an address that cannot be ours. */
msock_err msock_stun_decode_response(const uint8_t *p, size_t len, const msock_addr *server,
                                     msock_stun_txid *txid, msock_addr *mapped);

/* The last attribute is a FINGERPRINT and it is right. False for anything malformed. */
bool msock_stun_fingerprint_ok(const uint8_t *p, size_t len);

/* Why a server is silent, or not. One counter each. */
typedef enum msock_stun_verdict {
  MSOCK_STUN_ACCEPT = 0,
  MSOCK_STUN_NOT_STUN,
  MSOCK_STUN_NOT_BINDING,     /* STUN, but not a Binding request */
  MSOCK_STUN_MALFORMED,       /* attributes do not walk to the end of the datagram */
  MSOCK_STUN_OTHER_SOFTWARE,  /* no SOFTWARE "tailnode" */
  MSOCK_STUN_NO_FINGERPRINT,  /* the last attribute is another one */
  MSOCK_STUN_BAD_FINGERPRINT, /* it is there and wrong */
  MSOCK_STUN_BAD_LENGTH,      /* header length is not datagram length - 20 */
  MSOCK_STUN_VERDICTS         /* count */
} msock_stun_verdict;

typedef struct msock_stun_request {
  msock_stun_txid txid;
  bool fingerprint; /* it ended in a correct FINGERPRINT */
} msock_stun_request;

/* Server side (netcheck.md 1.3). With open_to_all (stun_public) SOFTWARE and FINGERPRINT may be
 * absent; a FINGERPRINT that is there must be right. out is filled only on MSOCK_STUN_ACCEPT. */
msock_stun_verdict msock_stun_check_request(const uint8_t *p, size_t len, bool open_to_all,
                                            msock_stun_request *out);

/* The answer: XOR-MAPPED-ADDRESS with the client's address, unmapped, and FINGERPRINT when asked
 * for (only under stun_public, when the request had one). 32, 44, 40 or 52 bytes; MSOCK_ERR_NOBUF
 * with dst untouched; MSOCK_ERR_INVALID without an address. */
ptrdiff_t msock_stun_encode_response(const msock_stun_txid *txid, const msock_addr *client,
                                     bool fingerprint, uint8_t *dst, size_t cap);

#endif
