#include "magicsock/choice.h"

#include "base/env.h"
#include "magicsock/limits.h"

/* Bonus points for what latency does not show (3.5, rule 5). */
#define POINTS_LOOPBACK 50u
#define POINTS_LINK_LOCAL 30u
#define POINTS_PRIVATE 20u
#define POINTS_IPV6 10u

static uint64_t place_points(const msock_ip *ip) {
  uint64_t points = 0;
  if (msock_ip_is_loopback(ip)) {
    points += POINTS_LOOPBACK;
  } else if (msock_ip_is_link_local(ip)) {
    points += POINTS_LINK_LOCAL;
  } else if (msock_ip_is_private(ip)) {
    points += POINTS_PRIVATE;
  }
  return ip->family == 6 ? points + POINTS_IPV6 : points;
}

/* Points of the faster side; latency is at most some seconds, so the product cannot overflow. */
static uint64_t speed_points(uint64_t fast, uint64_t slow) {
  return 100 - 100 * fast / slow;
}

bool msock_choice_better(const msock_choice *a, const msock_choice *b) {
  uint64_t pa = 0, pb = 0;

  if (msock_addr_equal(&a->addr, &b->addr) && a->vni == b->vni) {
    return a->mtu_bytes > b->mtu_bytes;
  }
  if (b->addr.ip.family == 0) {
    return true;
  }
  if (a->addr.ip.family == 0) {
    return false;
  }
  if ((a->vni == 0) != (b->vni == 0)) {
    return a->vni == 0;
  }
  if (a->latency_us < b->latency_us) {
    pa = speed_points(a->latency_us, b->latency_us);
  } else if (a->latency_us > b->latency_us) {
    pb = speed_points(b->latency_us, a->latency_us);
  }
  pa += place_points(&a->addr.ip);
  pb += place_points(&b->addr.ip);
  if (pa <= 1 && pb == 0) {
    return false;
  }
  return pa > pb;
}

bool msock_choice_sweep(bool has_best, bool trusted, uint64_t rtt_us, uint64_t last_sweep_us,
                        uint64_t every_us, uint64_t now_us) {
  if (!has_best || last_sweep_us == MSOCK_NEVER || !trusted) {
    return true;
  }
  if (rtt_us <= MSOCK_ENGINE_GOOD_RTT_US) {
    return false;
  }
  return now_us - last_sweep_us >= every_us;
}
