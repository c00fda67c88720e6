/* derp/server_clones.c: two devices with one node key (a copied disk, a restored backup): they
 * take the packets from each other, and none of them sees why. Both are told (derp.md 5.2, row 6).
 *
 * A second connection alone says nothing: a client that comes back over another network has two
 * for a while. But its old one does not speak any more; when the connections of a key speak by
 * turns, both are alive. */
#include "derp/server_internal.h"

#define TURNS 3u                       /* the old one, the new one, the old one again */
#define TELL_EVERY_US (60 * MSOCK_SEC) /* at most, to one key */

static const char clone_text[] =
    "another device is connected with the node key of this one, so packets reach only one of "
    "them: log out and in again on one of the two";

static bool tell(msock_derp_server *s, relay_conn *c, const char *text, size_t len) {
  const msock_derp_frame f = {.type = MSOCK_DERP_HEALTH, .u.health = {.text = text, .len = len}};
  return relay_notice_frame(s, c, &f);
}

void relay_taken_over(msock_derp_server *s, uint64_t now_us, relay_conn *c) {
  relay_key *k = c->key;
  k->active = c;
  k->turns += k->turns < TURNS && !c->is_mesh; /* relays of a mesh share one key at will */
  if (k->turns < TURNS || now_us < k->tell_us) {
    return;
  }
  k->tell_us = now_us + TELL_EVERY_US;
  for (relay_conn *o = k->conns; o != NULL; o = o->same_key) {
    if (!o->is_mesh && !o->dead && !o->told_clone) {
      o->told_clone = tell(s, o, clone_text, sizeof clone_text - 1);
    }
  }
}

void relay_clone_left(msock_derp_server *s, relay_key *k) {
  if (k->n_conns > 1) {
    return;
  }
  k->turns = 0;
  if (k->conns != NULL && k->conns->told_clone) {
    k->conns->told_clone = !tell(s, k->conns, "", 0);
  }
}
