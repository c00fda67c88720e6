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
};

static int by_ip(const void *a, const void *b) {
  return msock_ip_compare(a, b);
}

/* The addresses now; true when they differ from before. */
static bool refresh(msock_link *l) {
  msock_netlink_addr found[MSOCK_NETLINK_ADDRS_MAX];
  msock_ip now[MSOCK_NETLINK_ADDRS_MAX];
  size_t n = 0;

  if (msock_netlink_list_addresses(l->deps.egress, l->device, found, MSOCK_NETLINK_ADDRS_MAX, &n) !=
      MSOCK_OK) {
    return false;
  }
  for (size_t i = 0; i < n; i++) {
    now[i] = found[i].ip;
  }
  qsort(now, n, sizeof *now, by_ip);
  const bool same = n == l->n && memcmp(now, l->addrs, n * sizeof *now) == 0;
  memcpy(l->addrs, now, n * sizeof *now);
  l->n = n;
  return !same;
}

static void on_monitor(void *ctx) {
  msock_link *l = ctx;
  if (refresh(l)) {
    msock_logf(l->deps.log, MSOCK_LOG_INFO, "link.changed", "addresses=%zu", l->n);
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
