/* netcheck/nat.h: what a report says about the NAT in front of this node, and what that means for
 * direct paths, in one sentence. Pure. */
#ifndef MSOCK_NETCHECK_NAT_H
#define MSOCK_NETCHECK_NAT_H

#include <stdbool.h>

#include "netcheck/home.h"

typedef enum msock_nat {
  MSOCK_NAT_UNKNOWN = 0,  /* no report yet */
  MSOCK_NAT_OFFLINE,      /* no answer of any kind */
  MSOCK_NAT_CAPTIVE,      /* no UDP, and a portal in the way */
  MSOCK_NAT_BLOCKED,      /* no UDP, relays answer by HTTPS or nobody asked them */
  MSOCK_NAT_NONE,         /* our own address is what servers see */
  MSOCK_NAT_NONE_PRIVATE, /* the same, but the address is a private one: relays of this network */
  MSOCK_NAT_EASY,         /* one mapping for all destinations */
  MSOCK_NAT_HARD,         /* a mapping for each destination */
  MSOCK_NAT_ONE_ANSWER,   /* IPv4 answers of one server only: cannot be told */
  MSOCK_NAT_IPV6_ONLY,    /* no IPv4 answer */
  MSOCK_NAT_KINDS         /* count */
} msock_nat;

/* own_address: the report's global_v4 is an address of this machine. https_asked: silence of HTTPS
 * counts (false in the privacy profile, which never asks). */
msock_nat msock_nat_of(const msock_home_report *r, bool own_address, bool https_asked);

/* Stable word: "blocked", "easy", ... */
const char *msock_nat_name(msock_nat nat);
/* One sentence for people. */
const char *msock_nat_sentence(msock_nat nat);

#endif
