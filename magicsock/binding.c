#include "magicsock/binding.h"

static msock_path_peer *bound(const msock_path_peers *t, const msock_disco_member *m,
                              const msock_node_key *node) {
  msock_path_peer *p = msock_peers_find(t, node);
  return p != NULL && p->disco == m ? p : NULL;
}

msock_path_peer *msock_binding_ping(const msock_path_peers *t, const msock_disco_member *m,
                                    const msock_disco_ping *ping) {
  return ping->has_node_key ? bound(t, m, &ping->node_key) : NULL;
}

msock_path_peer *msock_binding_relayed(const msock_path_peers *t, const msock_disco_member *m,
                                       const msock_node_key *src) {
  return bound(t, m, src);
}
