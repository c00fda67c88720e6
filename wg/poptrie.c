#include "wg/poptrie.h"

#include <stdlib.h>
#include <string.h>

#define STRIDE 6u
#define BRANCHES 64u

/* Bits [at, at + 6) of the address; zero behind its end. */
static uint32_t branch_of(const uint8_t *address, uint32_t at) {
  const uint32_t byte = at / 8;
  const uint32_t two = (uint32_t)address[byte] << 8 | (byte < 15 ? address[byte + 1] : 0u);
  return two >> (16 - STRIDE - at % 8) & (BRANCHES - 1);
}

static uint32_t count_upto(uint64_t bits, uint32_t branch) {
  return (uint32_t)__builtin_popcountll(bits & (UINT64_MAX >> (BRANCHES - 1 - branch)));
}

static msock_err grow(void **p, uint32_t *cap, uint32_t want, size_t size) {
  if (want <= *cap) {
    return MSOCK_OK;
  }
  const uint32_t bigger = want > *cap * 2 ? want : *cap * 2;
  void *q = realloc(*p, bigger * size);
  if (q == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  *p = q;
  *cap = bigger;
  return MSOCK_OK;
}

/* The routes below one branch. */
typedef struct span {
  size_t first, end;
} span;

/* Sorts the routes of a node at this depth into its 64 branches: those that end here set the value
 * of the branches they cover (a shorter one comes first, so a longer one overwrites it), the others
 * are a span for the child. */
static void spread(const msock_wg_route *routes, span all, uint32_t depth, uint32_t inherited,
                   uint32_t values[static BRANCHES], span below[static BRANCHES]) {
  for (uint32_t v = 0; v < BRANCHES; v++) {
    values[v] = inherited;
    below[v] = (span){0, 0};
  }
  for (size_t i = all.first; i < all.end; i++) {
    const uint32_t bits = routes[i].prefix.bits;
    const uint32_t v = branch_of(routes[i].prefix.ip.b, depth);
    if (bits <= depth + STRIDE) {
      const uint32_t covered = 1u << (depth + STRIDE - bits);
      for (uint32_t k = 0; k < covered; k++) {
        values[v + k] = routes[i].peer_id;
      }
    } else {
      if (below[v].end == 0) {
        below[v].first = i;
      }
      below[v].end = i + 1;
    }
  }
}

static msock_err build_node(msock_wg_poptrie *t, const msock_wg_route *routes, span all,
                            uint32_t depth, uint32_t inherited, uint32_t at) {
  uint32_t values[BRANCHES];
  span below[BRANCHES];
  msock_wg_poptrie_node node = {.first_child = t->n_nodes, .first_leaf = t->n_values};
  uint32_t n_leaves = 0, last = 0, n_children = 0;

  spread(routes, all, depth, inherited, values, below);
  if (grow((void **)&t->values, &t->cap_values, t->n_values + BRANCHES, sizeof *t->values) !=
      MSOCK_OK) {
    return MSOCK_ERR_NOMEM;
  }
  for (uint32_t v = 0; v < BRANCHES; v++) {
    if (below[v].end != 0) {
      node.children |= UINT64_C(1) << v;
      n_children++;
    } else if (n_leaves == 0 || values[v] != last) {
      node.leaves |= UINT64_C(1) << v;
      last = values[v];
      t->values[t->n_values + n_leaves++] = last;
    }
  }
  t->n_values += n_leaves;
  if (grow((void **)&t->nodes, &t->cap_nodes, t->n_nodes + n_children, sizeof *t->nodes) !=
      MSOCK_OK) {
    return MSOCK_ERR_NOMEM;
  }
  t->n_nodes += n_children;
  t->nodes[at] = node;
  uint32_t child = node.first_child;
  for (uint32_t v = 0; v < BRANCHES; v++) {
    if (below[v].end != 0) {
      const msock_err e = build_node(t, routes, below[v], depth + STRIDE, values[v], child++);
      if (e != MSOCK_OK) {
        return e;
      }
    }
  }
  return MSOCK_OK;
}

msock_err msock_wg_poptrie_build(msock_wg_poptrie *t, const msock_wg_route *routes, size_t n) {
  *t = (msock_wg_poptrie){0};
  if (n == 0) {
    return MSOCK_OK;
  }
  msock_err e = grow((void **)&t->nodes, &t->cap_nodes, 1, sizeof *t->nodes);
  if (e == MSOCK_OK) {
    t->n_nodes = 1;
    e = build_node(t, routes, (span){0, n}, 0, MSOCK_WG_PEER_NONE, 0);
  }
  if (e != MSOCK_OK) {
    msock_wg_poptrie_free(t);
  }
  return e;
}

void msock_wg_poptrie_free(msock_wg_poptrie *t) {
  free(t->nodes);
  free(t->values);
  *t = (msock_wg_poptrie){0};
}

uint32_t msock_wg_poptrie_lookup(const msock_wg_poptrie *t, const uint8_t address[static 16]) {
  if (t->nodes == NULL) {
    return MSOCK_WG_PEER_NONE;
  }
  const msock_wg_poptrie_node *node = t->nodes;
  for (uint32_t at = 0;; at += STRIDE) {
    const uint32_t v = branch_of(address, at);
    if ((node->children >> v & 1u) == 0) {
      return t->values[node->first_leaf + count_upto(node->leaves, v) - 1];
    }
    node = &t->nodes[node->first_child + count_upto(node->children, v) - 1];
  }
}
