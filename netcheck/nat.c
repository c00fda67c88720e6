#include "netcheck/nat.h"

static const struct {
  const char *name, *sentence;
} texts[MSOCK_NAT_KINDS] = {
    [MSOCK_NAT_UNKNOWN] = {"unknown", "Nothing was measured yet."},
    [MSOCK_NAT_OFFLINE] = {"offline", "No relay answers, neither by UDP nor by HTTPS: this machine "
                                      "may have no Internet, or its clock may be wrong."},
    [MSOCK_NAT_CAPTIVE] = {"captive", "A captive portal holds this network: log in to it with a "
                                      "browser; until then peers may not be reached at all."},
    [MSOCK_NAT_BLOCKED] = {"blocked", "UDP is blocked: peers are reached through relays only."},
    [MSOCK_NAT_NONE] = {"none", "No NAT: this node has a public address; direct paths work unless "
                                "a firewall stops them."},
    [MSOCK_NAT_NONE_PRIVATE] = {"none-private",
                                "No NAT on the way to the relays, and a private address: direct "
                                "paths will usually work within this network."},
    [MSOCK_NAT_EASY] = {"easy", "Your NAT maps the same port for every destination (easy NAT): "
                                "direct paths will usually work."},
    [MSOCK_NAT_HARD] = {"hard",
                        "Your NAT maps another port for every destination (hard NAT): direct "
                        "paths work only towards peers with easy NAT or public addresses."},
    [MSOCK_NAT_ONE_ANSWER] = {"one-answer",
                              "UDP works, but only one STUN server answered, so it is not known "
                              "whether your NAT is easy or hard: direct paths may work."},
    [MSOCK_NAT_IPV6_ONLY] = {"ipv6-only", "UDP works over IPv6 only: direct paths work towards "
                                          "peers that have IPv6 too."},
};

static bool any_latency(const msock_home_report *r) {
  for (size_t i = 0; i < r->n_regions; i++) {
    if (r->regions[i].best_us != 0) {
      return true;
    }
  }
  return false;
}

msock_nat msock_nat_of(const msock_home_report *r, bool own_address, bool https_asked) {
  if (r->at_us == 0) {
    return MSOCK_NAT_UNKNOWN;
  }
  if (!r->udp) {
    return r->captive_portal == MSOCK_TRISTATE_TRUE ? MSOCK_NAT_CAPTIVE
           : https_asked && !any_latency(r)         ? MSOCK_NAT_OFFLINE
                                                    : MSOCK_NAT_BLOCKED;
  }
  if (r->global_v4.ip.family == 0) {
    return MSOCK_NAT_IPV6_ONLY;
  }
  if (own_address) {
    return msock_ip_is_private(&r->global_v4.ip) ? MSOCK_NAT_NONE_PRIVATE : MSOCK_NAT_NONE;
  }
  return r->mapping_varies == MSOCK_TRISTATE_TRUE    ? MSOCK_NAT_HARD
         : r->mapping_varies == MSOCK_TRISTATE_FALSE ? MSOCK_NAT_EASY
                                                     : MSOCK_NAT_ONE_ANSWER;
}

const char *msock_nat_name(msock_nat nat) {
  return texts[(unsigned)nat < MSOCK_NAT_KINDS ? nat : MSOCK_NAT_UNKNOWN].name;
}

const char *msock_nat_sentence(msock_nat nat) {
  return texts[(unsigned)nat < MSOCK_NAT_KINDS ? nat : MSOCK_NAT_UNKNOWN].sentence;
}
