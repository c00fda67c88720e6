#include "magicsock/eligible.h"

static bool v4_in(const msock_ip *ip, uint8_t a, uint8_t b, uint8_t bits) {
  const msock_prefix p = {.ip = msock_ip_v4(a, b, 0, 0), .bits = bits};
  return msock_prefix_contains(&p, ip);
}

static bool shared_space(const msock_ip *ip) { /* RFC 6598 */
  return v4_in(ip, 100, 64, 10);
}

/* 0.0.0.0/8 and 240.0.0.0/4, the latter with the broadcast address: no host is there. */
static bool no_host(const msock_ip *ip) {
  return msock_ip_is_unspecified(ip) || msock_ip_is_multicast(ip) || v4_in(ip, 0, 0, 8) ||
         v4_in(ip, 240, 0, 4);
}

/* 127.3.3.40 stands for a relay inside disco (1.7) and may never reach a socket. */
static bool relay_stand_in(const msock_ip *ip) {
  const msock_ip stand_in = msock_ip_v4(127, 3, 3, 40);
  return msock_ip_equal(ip, &stand_in);
}

static bool global_v6(const msock_ip *ip) {
  const msock_prefix global = {.ip = {.family = 6, .b = {0x20}}, .bits = 3};
  return msock_prefix_contains(&global, ip);
}

bool msock_eligible_addr(const msock_eligible *f, msock_eligible_use use, const msock_addr *addr) {
  const msock_ip *ip = &addr->ip;

  if (addr->port == 0 || no_host(ip) || relay_stand_in(ip)) {
    return false;
  }
  for (size_t i = 0; i < f->n_overlay; i++) {
    if (msock_prefix_contains(&f->overlay[i], ip)) {
      return false; /* a tunnel in the tunnel */
    }
  }
  if (msock_ip_is_loopback(ip)) {
    return f->loopback && (ip->family == 4 || f->ipv6);
  }
  if (ip->family == 4) {
    if (msock_ip_is_link_local(ip)) {
      return false;
    }
    if (shared_space(ip)) {
      return f->lan && use == MSOCK_USE_CANDIDATE;
    }
    return f->lan || !msock_ip_is_private(ip);
  }
  if (ip->family != 6 || !f->ipv6) {
    return false;
  }
  return global_v6(ip) || (f->lan && msock_ip_is_private(ip));
}

bool msock_eligible_public(const msock_addr *addr) {
  const msock_ip *ip = &addr->ip;
  if (addr->port == 0 || no_host(ip) || msock_ip_is_loopback(ip) || msock_ip_is_link_local(ip) ||
      msock_ip_is_private(ip)) {
    return false;
  }
  return ip->family == 4 ? !shared_space(ip) : ip->family == 6 && global_v6(ip);
}
