#include "disco/envelope.h"

#include <string.h>

#include "base/disco_look.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"

/* Offsets in a packet. */
enum { AT_KEY = MSOCK_DISCO_MAGIC_LEN, AT_BOX = AT_KEY + MSOCK_KEY_LEN };
_Static_assert(AT_BOX + MSOCK_BOX_OVERHEAD == MSOCK_DISCO_OVERHEAD, "magicsock.md 1.1");

static const uint8_t magic[MSOCK_DISCO_MAGIC_LEN] = MSOCK_DISCO_MAGIC_BYTES;

void msock_disco_identity_generate(const msock_env *env, msock_disco_identity *out) {
  msock_disco_private_generate(env, &out->secret);
  out->key = msock_disco_private_public(&out->secret);
}

msock_disco_identity msock_disco_identity_of(const msock_disco_private *secret) {
  msock_disco_identity me;
  msock_disco_identity_set(&me, secret);
  return me;
}

void msock_disco_identity_set(msock_disco_identity *out, const msock_disco_private *secret) {
  out->secret = *secret;
  out->key = msock_disco_private_public(secret);
}

void msock_disco_identity_wipe(msock_disco_identity *me) {
  msock_wipe(me, sizeof *me);
}

msock_err msock_disco_shared_init(msock_disco_shared *out, const msock_disco_identity *me,
                                  const msock_disco_key *peer) {
  msock_wipe(out, sizeof *out);
  if (msock_disco_key_is_zero(peer) || msock_disco_key_equal(peer, &me->key)) {
    return MSOCK_ERR_AUTH;
  }
  if (msock_box_precompute(&out->box, peer->b, me->secret.b) != MSOCK_OK) {
    msock_wipe(out, sizeof *out);
    return MSOCK_ERR_AUTH;
  }
  return MSOCK_OK;
}

void msock_disco_shared_wipe(msock_disco_shared *s) {
  msock_wipe(s, sizeof *s);
}

bool msock_disco_sender(const uint8_t *p, size_t len, msock_disco_key *out) {
  if (!msock_looks_like_disco(p, len)) {
    return false;
  }
  memcpy(out->b, p + AT_KEY, sizeof out->b);
  return true;
}

ptrdiff_t msock_disco_seal(const msock_disco_identity *me, const msock_disco_shared *to,
                           const msock_env *env, const uint8_t *msg, size_t len, uint8_t *dst,
                           size_t cap) {
  if (cap < MSOCK_DISCO_OVERHEAD || len > cap - MSOCK_DISCO_OVERHEAD) {
    return MSOCK_ERR_NOBUF;
  }
  memcpy(dst, magic, sizeof magic);
  memcpy(dst + AT_KEY, me->key.b, sizeof me->key.b);
  msock_box_seal(&to->box, env, msg, len, dst + AT_BOX);
  return (ptrdiff_t)(MSOCK_DISCO_OVERHEAD + len);
}

ptrdiff_t msock_disco_open(const msock_disco_shared *from, const uint8_t *p, size_t len,
                           uint8_t *dst, size_t cap) {
  if (!msock_has_disco_magic(p, len)) {
    return MSOCK_ERR_UNKNOWN;
  }
  if (len < MSOCK_DISCO_OVERHEAD) {
    return MSOCK_ERR_SHORT;
  }
  if (cap < len - MSOCK_DISCO_OVERHEAD) {
    return MSOCK_ERR_NOBUF;
  }
  const msock_err err = msock_box_open(&from->box, p + AT_BOX, len - AT_BOX, dst);
  return err != MSOCK_OK ? (ptrdiff_t)err : (ptrdiff_t)(len - MSOCK_DISCO_OVERHEAD);
}
