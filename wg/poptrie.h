/* wg/poptrie.h: longest prefix match over read-only arrays: Asai and Ohara, "Poptrie" (SIGCOMM
 * 2015), 6 bits a step, children and leaves found by counting bits. Without the paper's direct
 * table of 2^18 entries: tailnets have few prefixes that are not hosts. Built once, then only read.
 */
#ifndef MSOCK_WG_POPTRIE_H
#define MSOCK_WG_POPTRIE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "wg/wg.h"

typedef struct msock_wg_poptrie_node {
  uint64_t children; /* bit v: branch v goes to another node */
  uint64_t leaves;   /* bit v: the leaf of branch v differs from the one before it */
  uint32_t first_child;
  uint32_t first_leaf;
} msock_wg_poptrie_node;

typedef struct msock_wg_poptrie {
  msock_wg_poptrie_node *nodes; /* [0] is the root; NULL: nothing matches */
  uint32_t *values;             /* peer ids, or MSOCK_WG_PEER_NONE */
  uint32_t n_nodes, cap_nodes;
  uint32_t n_values, cap_values;
} msock_wg_poptrie; /* zero-initialised = empty */

/* routes: masked, of one family, sorted by address and then by length, no two equal.
 * MSOCK_ERR_NOMEM; t is empty then. */
msock_err msock_wg_poptrie_build(msock_wg_poptrie *t, const msock_wg_route *routes, size_t n);
void msock_wg_poptrie_free(msock_wg_poptrie *t);
/* MSOCK_WG_PEER_NONE when nothing matches. address: 16 bytes, zero behind an IPv4 address. */
uint32_t msock_wg_poptrie_lookup(const msock_wg_poptrie *t, const uint8_t address[static 16]);

#endif
