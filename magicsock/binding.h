/* magicsock/binding.h: what a disco key may claim (magicsock.md 2.3, rules B1 to B7). The peer
 * table is the netmap: it is asked at the moment of the packet, so a removed peer is refused at
 * once. */
#ifndef MSOCK_MAGICSOCK_BINDING_H
#define MSOCK_MAGICSOCK_BINDING_H

#include "disco/disco.h"
#include "magicsock/peers.h"

/* B3: the peer whose node key a ping claims, if control bound exactly that key to the disco key.
 * NULL: another key, or none. */
msock_path_peer *msock_binding_ping(const msock_path_peers *t, const msock_disco_member *m,
                                    const msock_disco_ping *ping);
/* What came by a relay: its source, by the relay's word, must be bound to the sender's disco key.
 */
msock_path_peer *msock_binding_relayed(const msock_path_peers *t, const msock_disco_member *m,
                                       const msock_node_key *src);

#endif
