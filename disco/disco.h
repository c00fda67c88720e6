/* disco/disco.h: the disco protocol, by which nodes test paths to each other. The one header to
 * include.
 *
 * Pure: no allocation, clock, I/O or table. A datagram's life, with the file that does each step:
 *
 *   bytes from the UDP socket      datagram.h  msock_disco_classify: STUN, disco, WireGuard, junk;
 *                                              a Geneve header (paths over a peer relay) is read
 *   who claims to have sent it     envelope.h  msock_disco_sender: look the key up BEFORE opening
 *   open                           envelope.h  msock_disco_open, with the peer's msock_disco_shared
 *   which message                  messages.h  msock_disco_type_of, then the decoder of that type
 *
 * and back: an encoder of messages.h, msock_disco_seal, for a relay path a Geneve header in front.
 * The caller keeps one msock_disco_shared per peer disco key (an X25519 each) and wipes it when the
 * key leaves the netmap or ours changes. An opened message is authentic but not yet believed: what
 * a disco key may claim is the path engine's to check (magicsock.md section 2).
 *
 * Source: magicsock.md section 1, checked against bytes of the reference peer
 * (tests/vectors/disco.json). What a reader would not expect of peers is marked PEER; where ours is
 * stricter than they are, STRICT. */
#ifndef MSOCK_DISCO_DISCO_H
#define MSOCK_DISCO_DISCO_H

#include "disco/datagram.h"
#include "disco/envelope.h"
#include "disco/messages.h"
#include "disco/relay.h"

#endif
