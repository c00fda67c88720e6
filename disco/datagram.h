/* disco/datagram.h: tell the datagrams of one UDP socket apart, and the Geneve header of paths over
 * a peer relay (magicsock.md 1.5, 1.6). */
#ifndef MSOCK_DISCO_DATAGRAM_H
#define MSOCK_DISCO_DATAGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MSOCK_GENEVE_LEN 8u
#define MSOCK_GENEVE_DISCO 0x7a11u
#define MSOCK_GENEVE_WIREGUARD 0x7a12u
#define MSOCK_GENEVE_VNI_MAX 0xffffffu
#define MSOCK_GENEVE_VNI_UNSET UINT32_MAX /* no relay path: does not encode */

/* [version:2 bits, option length:6 bits][control:1 bit, critical:1 bit, reserved:6 bits]
 * [protocol:2][VNI:3][reserved:1] */
typedef struct msock_geneve {
  uint8_t version;   /* 0..3; 0 on every packet that is spoken */
  bool control;      /* set only on the relay handshake: bind, challenge, answer */
  uint16_t protocol; /* MSOCK_GENEVE_DISCO, MSOCK_GENEVE_WIREGUARD or any other */
  uint32_t vni;      /* relay session, 24 bits */
} msock_geneve;

/* Writes MSOCK_GENEVE_LEN bytes and gives their number. MSOCK_ERR_NOBUF; MSOCK_ERR_INVALID: VNI
 * unset, version over 3. dst is untouched on errors. PEER: of a larger VNI the low 24 bits are
 * sent; messages that bring one are refused when read (messages.h), so none gets here. */
ptrdiff_t msock_disco_geneve_encode(const msock_geneve *h, uint8_t *dst, size_t cap);

/* Reads the header and judges nothing: option length, critical and reserved bits are skipped.
 * MSOCK_ERR_SHORT under 8 bytes. For packets of the socket msock_disco_classify is the judge. */
msock_err msock_disco_geneve_decode(const uint8_t *p, size_t len, msock_geneve *out);

typedef enum msock_datagram_kind {
  MSOCK_DATAGRAM_JUNK = 0,        /* none of these: drop and count */
  MSOCK_DATAGRAM_STUN,            /* Binding, request or answer: only an outstanding one counts */
  MSOCK_DATAGRAM_DISCO,           /* magic and 38 bytes or more; may be too short to open */
  MSOCK_DATAGRAM_WIREGUARD,       /* first byte 1..4, then three zero bytes */
  MSOCK_DATAGRAM_GENEVE_DISCO,    /* either of the two behind a Geneve header */
  MSOCK_DATAGRAM_GENEVE_WIREGUARD /* never with the control bit */
} msock_datagram_kind;

typedef struct msock_datagram {
  msock_datagram_kind kind;
  msock_geneve geneve;    /* the two Geneve kinds; else zero */
  const uint8_t *payload; /* the whole datagram, or what follows its Geneve header; borrows p */
  size_t len;             /* of payload */
} msock_datagram;

/* Classifies a UDP payload: the one place where this is decided (magicsock.md 1.5).
 * STRICT: peers hand to WireGuard whatever is left; ours must look like WireGuard, also behind a
 * Geneve header, which must have no options and, on WireGuard, no control bit.
 * Not for payloads from DERP: those are disco or WireGuard, never STUN or Geneve. */
msock_datagram msock_disco_classify(const uint8_t *p, size_t len);

#endif
