/* base/derp_map.h: the DERP map as a value: control fills it, derp dials by it, netcheck measures
 * it.
 *
 * Field meanings: derp.md 1.1, control.md 4.6. The map owns its regions and nodes. */
#ifndef MSOCK_BASE_DERP_MAP_H
#define MSOCK_BASE_DERP_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"

#define MSOCK_DERP_REGIONS_MAX 256u
#define MSOCK_DERP_NODES_MAX 16u /* nodes of one region */

typedef uint64_t msock_region_id; /* 1 .. 2^53-1; 0 = none */

typedef enum msock_derp_family {
  MSOCK_DERP_FAMILY_RESOLVE = 0, /* field empty: resolve host_name */
  MSOCK_DERP_FAMILY_LITERAL,     /* dial the literal in ip */
  MSOCK_DERP_FAMILY_OFF          /* "none" or any other text */
} msock_derp_family;

typedef struct msock_derp_node {
  char name[64]; /* unique id such as "900a"; not a host name */
  msock_region_id region_id;
  char host_name[256]; /* DNS name or IP literal: SNI, Host header, default certificate name */
  char cert_name[256]; /* "" = host_name; another name; or "sha256-raw:<64 hex>" */
  msock_derp_family v4, v6;
  msock_ip ipv4, ipv6; /* set when the family is LITERAL */
  uint16_t derp_port;  /* 443 when the map says 0 */
  uint16_t stun_port;  /* 3478 when the map says 0; 0 here = no STUN (map: -1) */
  bool stun_only;
  bool insecure_for_tests; /* no chain verification; a pin is still enforced */
  bool can_port80;
  bool stun_plain;       /* ours, from configuration only: bare 20-byte STUN request */
  msock_ip stun_test_ip; /* family 0 = unset */
} msock_derp_node;

typedef struct msock_derp_region {
  msock_region_id id;
  char code[32];
  char name[64];
  bool no_measure_no_home; /* never probe or home there; still connect when a peer's home */
  bool avoid;              /* home and its probes stay; nobody new comes */
  double score;            /* HomeParams.RegionScore; 1.0 = neutral */
  msock_derp_node *nodes;  /* in priority order */
  size_t n_nodes;
} msock_derp_region;

typedef struct msock_derp_map {
  msock_derp_region *regions; /* ascending id */
  size_t n_regions;
} msock_derp_map;

/* NULL when absent. */
const msock_derp_region *msock_derp_map_find(const msock_derp_map *m, msock_region_id id);
/* Deep copy into an uninitialised out; MSOCK_ERR_NOMEM leaves it empty. */
msock_err msock_derp_map_copy(msock_derp_map *out, const msock_derp_map *from);
/* Frees the content and zeroes *m. */
void msock_derp_map_clear(msock_derp_map *m);
bool msock_derp_region_equal(const msock_derp_region *a, const msock_derp_region *b);
/* Fills family and literal from the map's IPv4 / IPv6 text. */
void msock_derp_node_set_ipv4(msock_derp_node *n, const char *text);
void msock_derp_node_set_ipv6(msock_derp_node *n, const char *text);

#endif
