#include "node/link.h"

#include <stdlib.h>
#include <string.h>

#include "io/netlink.h"

struct msock_link {
  msock_node_deps deps;
  const char *device;
  void (*changed)(void *ctx);
  void *ctx;
  msock_netlink_monitor *monitor;
  msock_ip addrs[MSOCK_NETLINK_ADDRS_MAX]; /* sorted */
  size_t n;
  msock_netlink_route routes[2]; /* default, IPv4 and IPv6; all zero: none */
};

static int by_ip(const void *a, const void *b) {
  return msock_ip_compare(a, b);
}

static bool counts(const msock_link *l, const msock_netlink_addr *a) {
  const char *only = msock_egress_get_config(l->deps.egress)->device;
  if (only[0] != '\0' && strcmp(only, a->ifname) != 0) {
    return false;
  }
  return a->ip.family == 4 || (msock_egress_allows(l->deps.egress, MSOCK_PURPOSE_IPV6) &&
                               !msock_ip_is_link_local(&a->ip));
}

/* The addresses now; true when they differ from before. */
static bool refresh_addresses(msock_link *l) {
  msock_netlink_addr found[MSOCK_NETLINK_ADDRS_MAX];
  msock_ip now[MSOCK_NETLINK_ADDRS_MAX];
  size_t n_found = 0, n = 0;

  if (msock_netlink_list_addresses(l->deps.egress, l->device, found, MSOCK_NETLINK_ADDRS_MAX,
                                   &n_found) != MSOCK_OK) {
    return false;
  }
  for (size_t i = 0; i < n_found; i++) {
    if (counts(l, &found[i])) {
      now[n++] = found[i].ip;
    }
  }
  qsort(now, n, sizeof *now, by_ip);
  const bool same = n == l->n && memcmp(now, l->addrs, n * sizeof *now) == 0;
  memcpy(l->addrs, now, n * sizeof *now);
  l->n = n;
  return !same;
}

/* A way out that only got another metric is the same way. */
static bool refresh_route(msock_link *l, uint8_t family, msock_netlink_route *have) {
  msock_netlink_route now = {0};
  const msock_err e = msock_netlink_default_route(l->deps.egress, family, l->device, &now);
  if (e != MSOCK_OK && e != MSOCK_ERR_UNKNOWN) {
    return false;
  }
  const bool same = now.ifindex == have->ifindex && msock_ip_equal(&now.gateway, &have->gateway);
  *have = now;
  return !same;
}

static bool refresh(msock_link *l) {
  const bool v6 = msock_egress_allows(l->deps.egress, MSOCK_PURPOSE_IPV6);
  bool news = refresh_addresses(l);
  news = refresh_route(l, 4, &l->routes[0]) || news;
  return (v6 && refresh_route(l, 6, &l->routes[1])) || news;
}

static void on_monitor(void *ctx) {
  msock_link *l = ctx;
  if (refresh(l)) {
    msock_logf(l->deps.log, MSOCK_LOG_INFO, "link.changed", "addresses=%zu default_route=%s", l->n,
               l->routes[0].ifindex != 0 || l->routes[1].ifindex != 0 ? "yes" : "no");
    l->changed(l->ctx);
  }
}

msock_err msock_link_new(const msock_node_deps *deps, const char *device,
                         void (*changed)(void *ctx), void *ctx, msock_link **out) {
  msock_link *l = calloc(1, sizeof *l);
  if (l == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  l->deps = *deps;
  l->device = device;
  l->changed = changed;
  l->ctx = ctx;
  const msock_err e = msock_netlink_monitor_new(deps->egress, on_monitor, l, &l->monitor);
  if (e != MSOCK_OK) {
    free(l);
    return e;
  }
  refresh(l);
  *out = l;
  return MSOCK_OK;
}

void msock_link_free(msock_link *l) {
  if (l) {
    msock_netlink_monitor_free(l->monitor);
    free(l);
  }
}

bool msock_link_has(const msock_link *l, const msock_ip *ip) {
  return msock_ip_is_loopback(ip) || bsearch(ip, l->addrs, l->n, sizeof *l->addrs, by_ip) != NULL;
}

size_t msock_link_addresses(const msock_link *l, msock_ip *out, size_t cap) {
  const size_t n = l->n < cap ? l->n : cap;
  memcpy(out, l->addrs, n * sizeof *out);
  return n;
}
