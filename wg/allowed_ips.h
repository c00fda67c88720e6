/* wg/allowed_ips.h: address to peer (dataplane.md 7). Nearly all prefixes of a tailnet are /32 and
 * /128, so exact tables come first, then a poptrie for the shorter ones. A host entry always beats
 * a shorter prefix, so the order of the two gives the longest match. */
#ifndef MSOCK_WG_ALLOWED_IPS_H
#define MSOCK_WG_ALLOWED_IPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wg/poptrie.h"
#include "wg/wg.h"

typedef struct msock_wg_hosts4 {
  struct {
    uint32_t ip;
    uint32_t peer_id; /* MSOCK_WG_PEER_NONE: slot is empty */
  } * slots;
  uint32_t cap, used; /* cap is a power of two, or 0 */
} msock_wg_hosts4;

typedef struct msock_wg_hosts6 {
  struct {
    uint8_t ip[16];
    uint32_t peer_id;
  } * slots;
  uint32_t cap, used;
} msock_wg_hosts6;

typedef struct msock_wg_allowed_ips {
  uint64_t seed; /* of the hash: peers choose addresses */
  msock_wg_hosts4 hosts4;
  msock_wg_hosts6 hosts6;
  msock_wg_route *nets; /* the shorter ones, masked and sorted, kept to rebuild the tries */
  size_t n_nets;
  msock_wg_poptrie trie4, trie6;
} msock_wg_allowed_ips; /* zero-initialised with a seed = empty */

/* Fills an empty t. Of equal prefixes the later wins. MSOCK_ERR_INVALID (family, bits),
 * MSOCK_ERR_NOMEM; t is empty then. */
msock_err msock_wg_allowed_ips_build(msock_wg_allowed_ips *t, uint64_t seed,
                                     const msock_wg_route *routes, size_t n);
void msock_wg_allowed_ips_free(msock_wg_allowed_ips *t);
/* MSOCK_WG_PEER_NONE when nothing matches. */
uint32_t msock_wg_allowed_ips_lookup(const msock_wg_allowed_ips *t, const msock_ip *ip);
size_t msock_wg_allowed_ips_count(const msock_wg_allowed_ips *t);

/* The peer's prefixes become these. t is unchanged on an error. */
msock_err msock_wg_allowed_ips_replace(msock_wg_allowed_ips *t, uint32_t peer_id,
                                       const msock_prefix *prefixes, size_t n);

typedef bool (*msock_wg_keep_fn)(const void *ctx, uint32_t peer_id);
/* Drops the entries of peers for which keep is false. MSOCK_ERR_NOMEM: t is unchanged. */
msock_err msock_wg_allowed_ips_retain(msock_wg_allowed_ips *t, msock_wg_keep_fn keep,
                                      const void *ctx);

#endif
