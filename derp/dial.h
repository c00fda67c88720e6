/* derp/dial.h: what to dial for a DERP node and how its certificate is to be checked, decided from
 * the map alone. The sockets, the names and the TLS check itself are the shell's. Source: derp.md
 * 1.1 to 1.3. */
#ifndef MSOCK_DERP_DIAL_H
#define MSOCK_DERP_DIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/derp_map.h"
#include "base/env.h"
#include "base/err.h"

#define MSOCK_DERP_TCP_BUDGET_US (1500 * MSOCK_MS)    /* one node, both families: derp.md 1.2 */
#define MSOCK_DERP_CONNECT_BUDGET_US (10 * MSOCK_SEC) /* DNS to ClientInfo, all nodes together */
#define MSOCK_DERP_V4_DELAY_US (200 * MSOCK_MS)       /* when IPv6 is known to work */
#define MSOCK_DERP_DEFAULT_PORT 443u

/* One address family to try. */
typedef struct msock_derp_candidate {
  uint8_t family; /* 4 or 6 */
  bool resolve;   /* look up the node's host_name in that family; else dial ip */
  msock_ip ip;    /* when !resolve */
  uint16_t port;
  uint64_t start_delay_us; /* after the dial began */
} msock_derp_candidate;

typedef struct msock_derp_dial_plan {
  msock_derp_candidate candidate[2]; /* first success wins, the others are dropped */
  size_t n;                          /* 0: both families disabled, fail at once */
} msock_derp_dial_plan;

/* allow_v6 = false leaves IPv6 out (profile); v6_works: the last netcheck saw IPv6 working. */
msock_derp_dial_plan msock_derp_dial_plan_make(const msock_derp_node *node, bool allow_v6,
                                               bool v6_works);

typedef enum msock_derp_check_kind {
  MSOCK_DERP_CHECK_NAME = 1, /* chain, and dNSName = name */
  MSOCK_DERP_CHECK_IP,       /* chain, and iPAddress SAN = ip */
  MSOCK_DERP_CHECK_PIN,      /* SHA-256 of the one certificate = pin; no chain */
  MSOCK_DERP_CHECK_NONE      /* InsecureForTests without a pin */
} msock_derp_check_kind;

typedef struct msock_derp_check {
  msock_derp_check_kind kind;
  char sni[256];   /* "" for IP literals. With PIN and a non-empty SNI the certificate must also be
                      valid for it */
  char name[256];  /* CHECK_NAME: CertName, or HostName without one */
  msock_ip ip;     /* CHECK_IP */
  uint8_t pin[32]; /* CHECK_PIN */
} msock_derp_check;

/* MSOCK_ERR_INVALID: "sha256-raw:" without 64 hex digits (either case) behind it: never dial. */
msock_err msock_derp_check_make(const msock_derp_node *node, msock_derp_check *out);

/* Host header "name" or "name:port" (port left out when 443; IPv6 literals in brackets). buf holds
 * MSOCK_DERP_HOST_MAX bytes. Returns buf. */
char *msock_derp_host_header(const msock_derp_node *node, char *buf, size_t cap);

#endif
