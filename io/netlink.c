#include "io/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_BYTES 32768u /* MNL_SOCKET_DUMP_SIZE */
#define REQUEST_BYTES 512u

struct msock_netlink {
  struct mnl_socket *sock;
  uint32_t seq;
  uint32_t ifindex;
  char device[IFNAMSIZ];
  char why[MSOCK_NETLINK_WHY_MAX];
  msock_prefix *addrs, *routes; /* what this object added */
  size_t n_addrs, n_routes;
  uint32_t table;
};

typedef union request {
  struct nlmsghdr align;
  uint8_t bytes[REQUEST_BYTES];
} request;

/* One request and its answers; cb (may be NULL) sees each data message. 0, or -1 with errno. */
static int talk(struct mnl_socket *sock, struct nlmsghdr *m, mnl_cb_t cb, void *ctx) {
  uint8_t *buf = malloc(ANSWER_BYTES);
  int rc = buf == NULL ? MNL_CB_ERROR : MNL_CB_OK;

  if (buf != NULL && mnl_socket_sendto(sock, m, m->nlmsg_len) < 0) {
    rc = MNL_CB_ERROR;
  }
  while (rc > MNL_CB_STOP) {
    const ssize_t n = mnl_socket_recvfrom(sock, buf, ANSWER_BYTES);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    rc = n <= 0 ? MNL_CB_ERROR
                : mnl_cb_run(buf, (size_t)n, m->nlmsg_seq, mnl_socket_get_portid(sock), cb, ctx);
  }
  const int saved = errno;
  free(buf);
  errno = saved;
  return rc == MNL_CB_ERROR ? -1 : 0;
}

static struct mnl_socket *open_socket(msock_egress *eg) {
  int fd = -1;
  if (msock_egress_netlink(eg, 0, &fd) != MSOCK_OK) {
    return NULL;
  }
  struct mnl_socket *sock = mnl_socket_fdopen(fd);
  if (sock == NULL) {
    close(fd);
  }
  return sock;
}

static struct nlmsghdr *new_request(request *r, uint16_t type, uint16_t flags, uint32_t seq) {
  struct nlmsghdr *m = mnl_nlmsg_put_header(r);
  m->nlmsg_type = type;
  m->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
  m->nlmsg_seq = seq;
  return m;
}

static msock_err explain(msock_netlink *n, const char *doing, const char *what) {
  const int system_errno = errno;
  const char *hint = system_errno == EPERM    ? "; run as root or with CAP_NET_ADMIN"
                     : system_errno == ENODEV ? "; the device is gone"
                     : system_errno == EACCES || system_errno == EOPNOTSUPP
                         ? "; is IPv6 switched off on this device?"
                         : "";
  snprintf(n->why, sizeof n->why, "cannot %s%s%.60s on %s: %s%s", doing, what[0] ? " " : "", what,
           n->device, strerror(system_errno), hint);
  return MSOCK_ERR_IO;
}

msock_err msock_netlink_new(msock_egress *eg, const char *device, msock_netlink **out) {
  msock_netlink *n = calloc(1, sizeof *n);
  *out = n;
  if (n == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  snprintf(n->device, sizeof n->device, "%s", device);
  n->sock = open_socket(eg);
  if (n->sock == NULL) {
    return explain(n, "open netlink", "");
  }
  n->ifindex = if_nametoindex(n->device);
  return n->ifindex != 0 ? MSOCK_OK : explain(n, "find the device", "");
}

void msock_netlink_free(msock_netlink *n) {
  if (n == NULL) {
    return;
  }
  if (n->sock != NULL) {
    mnl_socket_close(n->sock);
  }
  free(n->addrs);
  free(n->routes);
  free(n);
}

const char *msock_netlink_why(const msock_netlink *n) {
  return n->why;
}

/* Link */

static struct nlmsghdr *link_request(msock_netlink *n, request *r, struct ifinfomsg **info) {
  struct nlmsghdr *m = new_request(r, RTM_NEWLINK, NLM_F_ACK, ++n->seq);
  *info = mnl_nlmsg_put_extra_header(m, sizeof **info);
  (*info)->ifi_family = AF_UNSPEC;
  (*info)->ifi_index = (int)n->ifindex;
  return m;
}

msock_err msock_netlink_set_mtu(msock_netlink *n, uint32_t mtu_bytes) {
  request r;
  struct ifinfomsg *info;
  struct nlmsghdr *m = link_request(n, &r, &info);
  mnl_attr_put_u32(m, IFLA_MTU, mtu_bytes);
  return talk(n->sock, m, NULL, NULL) == 0 ? MSOCK_OK : explain(n, "set the MTU", "");
}

msock_err msock_netlink_set_up(msock_netlink *n, bool up) {
  request r;
  struct ifinfomsg *info;
  struct nlmsghdr *m = link_request(n, &r, &info);
  info->ifi_change = IFF_UP;
  info->ifi_flags = up ? IFF_UP : 0;
  return talk(n->sock, m, NULL, NULL) == 0 ? MSOCK_OK
                                           : explain(n, up ? "bring up" : "take down", "the link");
}

/* Addresses and routes: both are sets of prefixes */

typedef int (*apply_fn)(msock_netlink *n, const msock_prefix *p, bool add);

static uint8_t family_of(const msock_prefix *p) {
  return p->ip.family == 4 ? AF_INET : AF_INET6;
}

static size_t ip_bytes(const msock_prefix *p) {
  return p->ip.family == 4 ? 4 : 16;
}

static int apply_address(msock_netlink *n, const msock_prefix *p, bool add) {
  request r;
  struct nlmsghdr *m =
      new_request(&r, add ? RTM_NEWADDR : RTM_DELADDR,
                  add ? NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE : NLM_F_ACK, ++n->seq);
  struct ifaddrmsg *a = mnl_nlmsg_put_extra_header(m, sizeof *a);
  a->ifa_family = family_of(p);
  a->ifa_prefixlen = p->bits;
  a->ifa_flags = p->ip.family == 6 ? IFA_F_NODAD : 0; /* nobody else is on this link */
  a->ifa_scope = RT_SCOPE_UNIVERSE;
  a->ifa_index = n->ifindex;
  mnl_attr_put(m, IFA_LOCAL, ip_bytes(p), p->ip.b);
  mnl_attr_put(m, IFA_ADDRESS, ip_bytes(p), p->ip.b);
  return talk(n->sock, m, NULL, NULL);
}

static int apply_route(msock_netlink *n, const msock_prefix *p, bool add) {
  request r;
  struct nlmsghdr *m =
      new_request(&r, add ? RTM_NEWROUTE : RTM_DELROUTE,
                  add ? NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE : NLM_F_ACK, ++n->seq);
  struct rtmsg *rt = mnl_nlmsg_put_extra_header(m, sizeof *rt);
  rt->rtm_family = family_of(p);
  rt->rtm_dst_len = p->bits;
  rt->rtm_table = n->table < 256 ? (uint8_t)n->table : RT_TABLE_UNSPEC;
  rt->rtm_protocol = RTPROT_STATIC;
  rt->rtm_scope = p->ip.family == 4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  rt->rtm_type = RTN_UNICAST;
  mnl_attr_put(m, RTA_DST, ip_bytes(p), p->ip.b);
  mnl_attr_put_u32(m, RTA_OIF, n->ifindex);
  mnl_attr_put_u32(m, RTA_TABLE, n->table);
  return talk(n->sock, m, NULL, NULL);
}

static bool holds(const msock_prefix *list, size_t n, const msock_prefix *p) {
  for (size_t i = 0; i < n; i++) {
    if (msock_prefix_equal(&list[i], p)) {
      return true;
    }
  }
  return false;
}

/* Removes what left *have, adds what is new; *have follows step by step, so that a refusal in the
 * middle leaves it true. What the kernel lost already counts as removed. */
static msock_err make_equal(msock_netlink *n, msock_prefix *have, size_t *n_have,
                            const msock_prefix *want, size_t n_want, apply_fn apply,
                            const char *noun) {
  char text[MSOCK_PREFIX_TEXT_MAX], doing[40];
  for (size_t i = 0; i < *n_have;) {
    if (holds(want, n_want, &have[i])) {
      i++;
      continue;
    }
    if (apply(n, &have[i], false) != 0 && errno != ESRCH && errno != EADDRNOTAVAIL) {
      snprintf(doing, sizeof doing, "remove %s", noun);
      return explain(n, doing, msock_prefix_text(&have[i], text));
    }
    have[i] = have[--*n_have];
  }
  for (size_t i = 0; i < n_want; i++) {
    if (holds(have, *n_have, &want[i])) {
      continue;
    }
    if (apply(n, &want[i], true) != 0) {
      snprintf(doing, sizeof doing, "add %s", noun);
      return explain(n, doing, msock_prefix_text(&want[i], text));
    }
    have[(*n_have)++] = want[i];
  }
  return MSOCK_OK;
}

/* Room for the old and the new set at once. */
static bool reserve(msock_prefix **list, size_t have, size_t want) {
  msock_prefix *bigger = realloc(*list, (have + want + 1) * sizeof **list);
  if (bigger == NULL) {
    return false;
  }
  *list = bigger;
  return true;
}

static msock_err over_bound(msock_netlink *n, const char *noun, size_t bound) {
  snprintf(n->why, sizeof n->why, "more than %zu %s for %s, or out of memory", bound, noun,
           n->device);
  return MSOCK_ERR_NOMEM;
}

msock_err msock_netlink_set_addresses(msock_netlink *n, const msock_prefix *addrs, size_t count) {
  if (count > MSOCK_NETLINK_ADDRS_MAX || !reserve(&n->addrs, n->n_addrs, count)) {
    return over_bound(n, "addresses", MSOCK_NETLINK_ADDRS_MAX);
  }
  return make_equal(n, n->addrs, &n->n_addrs, addrs, count, apply_address, "address");
}

msock_err msock_netlink_set_routes(msock_netlink *n, const msock_prefix *routes, size_t count,
                                   uint32_t table) {
  if (count > MSOCK_NETLINK_ROUTES_MAX || !reserve(&n->routes, n->n_routes, count)) {
    return over_bound(n, "routes", MSOCK_NETLINK_ROUTES_MAX);
  }
  if (table == 0) {
    table = RT_TABLE_MAIN;
  }
  if (n->table != table && n->n_routes > 0) { /* they live in the old table: take them out there */
    const msock_err err = make_equal(n, n->routes, &n->n_routes, NULL, 0, apply_route, "route");
    if (err != MSOCK_OK) {
      return err;
    }
  }
  n->table = table;
  return make_equal(n, n->routes, &n->n_routes, routes, count, apply_route, "route");
}

/* Reading */

/* attr if it lies inside the message, else NULL. */
static const struct nlattr *inside(const struct nlmsghdr *m, const struct nlattr *attr) {
  const char *tail = mnl_nlmsg_get_payload_tail(m);
  return mnl_attr_ok(attr, (int)(tail - (const char *)attr)) ? attr : NULL;
}

static const struct nlattr *first_attr(const struct nlmsghdr *m, size_t header) {
  return inside(m, mnl_nlmsg_get_payload_offset(m, header));
}

static const struct nlattr *next_attr(const struct nlmsghdr *m, const struct nlattr *attr) {
  return inside(m, mnl_attr_next(attr));
}

typedef struct address_list {
  msock_netlink_addr *dst;
  size_t cap, n;
  uint32_t except;
} address_list;

static int on_address(const struct nlmsghdr *m, void *ctx) {
  address_list *list = ctx;
  const struct ifaddrmsg *a = mnl_nlmsg_get_payload(m);
  const struct nlattr *attr;
  msock_netlink_addr got = {.bits = a->ifa_prefixlen, .ifindex = a->ifa_index};

  if ((a->ifa_family != AF_INET && a->ifa_family != AF_INET6) || a->ifa_index == list->except ||
      list->n == list->cap || (a->ifa_flags & (IFA_F_TENTATIVE | IFA_F_DEPRECATED)) != 0) {
    return MNL_CB_OK;
  }
  const size_t want = a->ifa_family == AF_INET ? 4 : 16;
  for (attr = first_attr(m, sizeof *a); attr != NULL; attr = next_attr(m, attr)) {
    const int type = mnl_attr_get_type(attr);
    /* IFA_ADDRESS is the peer on a point-to-point link; IFA_LOCAL is ours there. */
    if ((type != IFA_LOCAL && (type != IFA_ADDRESS || got.ip.family != 0)) ||
        mnl_attr_get_payload_len(attr) != want) {
      continue;
    }
    const uint8_t *b = mnl_attr_get_payload(attr);
    got.ip = want == 4 ? msock_ip_from_bytes4(b) : msock_ip_from_bytes16(b);
  }
  if (got.ip.family == 0 || msock_ip_is_loopback(&got.ip) ||
      if_indextoname(got.ifindex, got.ifname) == NULL) {
    return MNL_CB_OK;
  }
  list->dst[list->n++] = got;
  return MNL_CB_OK;
}

static int on_link(const struct nlmsghdr *m, void *ctx) {
  const struct ifinfomsg *info = mnl_nlmsg_get_payload(m);
  unsigned *flags = ctx;
  *flags = info->ifi_flags;
  return MNL_CB_OK;
}

/* An address stays on a link that is down, but nothing gets out there. A carrier that is lost for a
 * moment (roaming between access points) takes no connection down: it is not asked for. */
static bool link_is_up(struct mnl_socket *sock, uint32_t ifindex, uint32_t seq) {
  unsigned flags = 0;
  request r;
  struct nlmsghdr *m = new_request(&r, RTM_GETLINK, NLM_F_ACK, seq);
  struct ifinfomsg *info = mnl_nlmsg_put_extra_header(m, sizeof *info);
  info->ifi_family = AF_UNSPEC;
  info->ifi_index = (int)ifindex;
  return talk(sock, m, on_link, &flags) == 0 && (flags & IFF_UP) != 0;
}

/* Moves the addresses of links that are up to the front; gives their number. */
static size_t keep_up(struct mnl_socket *sock, msock_netlink_addr *list, size_t n) {
  uint32_t last = 0; /* addresses of one link lie together: asked once */
  bool up = false;
  size_t kept = 0;
  for (size_t i = 0; i < n; i++) {
    if (i == 0 || list[i].ifindex != last) {
      last = list[i].ifindex;
      up = link_is_up(sock, last, (uint32_t)i + 2);
    }
    if (up) {
      list[kept++] = list[i];
    }
  }
  return kept;
}

msock_err msock_netlink_list_addresses(msock_egress *eg, const char *except,
                                       msock_netlink_addr *dst, size_t cap, size_t *n) {
  address_list list = {.dst = dst, .cap = cap};
  request r;

  struct mnl_socket *sock = open_socket(eg);
  if (sock == NULL) {
    return MSOCK_ERR_IO;
  }
  list.except = except != NULL ? if_nametoindex(except) : 0;
  struct nlmsghdr *m = new_request(&r, RTM_GETADDR, NLM_F_DUMP, 1);
  struct ifaddrmsg *a = mnl_nlmsg_put_extra_header(m, sizeof *a);
  a->ifa_family = AF_UNSPEC;
  const int rc = talk(sock, m, on_address, &list);
  if (rc == 0) {
    list.n = keep_up(sock, list.dst, list.n);
  }
  mnl_socket_close(sock);
  *n = list.n;
  return rc == 0 ? MSOCK_OK : MSOCK_ERR_IO;
}

typedef struct route_search {
  uint8_t family; /* 4 or 6 */
  uint32_t except;
  bool found;
  msock_netlink_route best;
} route_search;

static int on_route(const struct nlmsghdr *m, void *ctx) {
  route_search *s = ctx;
  const struct rtmsg *rt = mnl_nlmsg_get_payload(m);
  const struct nlattr *attr;
  const size_t ip_len = s->family == 4 ? 4 : 16;
  msock_netlink_route got = {0};

  if (rt->rtm_dst_len != 0 || rt->rtm_family != (s->family == 4 ? AF_INET : AF_INET6) ||
      rt->rtm_table != RT_TABLE_MAIN || rt->rtm_type != RTN_UNICAST) {
    return MNL_CB_OK;
  }
  for (attr = first_attr(m, sizeof *rt); attr != NULL; attr = next_attr(m, attr)) {
    const int type = mnl_attr_get_type(attr);
    const size_t len = mnl_attr_get_payload_len(attr);
    if (type == RTA_GATEWAY && len == ip_len) {
      const uint8_t *b = mnl_attr_get_payload(attr);
      got.gateway = s->family == 4 ? msock_ip_from_bytes4(b) : msock_ip_from_bytes16(b);
    } else if (type == RTA_OIF && len == 4) {
      got.ifindex = mnl_attr_get_u32(attr);
    } else if (type == RTA_PRIORITY && len == 4) {
      got.metric = mnl_attr_get_u32(attr);
    }
  }
  const bool ours = s->except != 0 && got.ifindex == s->except;
  if (!ours && (!s->found || got.metric < s->best.metric)) {
    s->best = got;
    s->found = true;
  }
  return MNL_CB_OK;
}

msock_err msock_netlink_default_route(msock_egress *eg, uint8_t family, const char *except,
                                      msock_netlink_route *out) {
  route_search search = {.family = family, .except = except ? if_nametoindex(except) : 0};
  request r;

  struct mnl_socket *sock = open_socket(eg);
  if (sock == NULL) {
    return MSOCK_ERR_IO;
  }
  struct nlmsghdr *m = new_request(&r, RTM_GETROUTE, NLM_F_DUMP, 1);
  struct rtmsg *rt = mnl_nlmsg_put_extra_header(m, sizeof *rt);
  rt->rtm_family = family == 4 ? AF_INET : AF_INET6;
  const int rc = talk(sock, m, on_route, &search);
  mnl_socket_close(sock);
  if (rc != 0) {
    return MSOCK_ERR_IO;
  }
  if (!search.found) {
    return MSOCK_ERR_UNKNOWN;
  }
  *out = search.best;
  return MSOCK_OK;
}

/* Monitor */

struct msock_netlink_monitor {
  msock_loop *loop;
  int fd;
  msock_loop_fd *watch;
  msock_loop_timer settle;
  void (*changed)(void *ctx);
  void *ctx;
};

/* Addresses, links, default routes. Other routes come and go by the thousand on some machines. */
static int on_news(const struct nlmsghdr *m, void *ctx) {
  bool *news = ctx;
  const bool is_route = m->nlmsg_type == RTM_NEWROUTE || m->nlmsg_type == RTM_DELROUTE;
  const struct rtmsg *rt = mnl_nlmsg_get_payload(m);
  *news = *news || !is_route || rt->rtm_dst_len == 0;
  return MNL_CB_OK;
}

/* What changed is of no interest: the owner looks anew. Lost messages (ENOBUFS) are a change too.
 */
static void on_message(void *ctx, bool readable, bool writable) {
  msock_netlink_monitor *m = ctx;
  uint8_t *buf = malloc(ANSWER_BYTES);
  bool news = buf == NULL;
  ssize_t n = 0;
  (void)readable;
  (void)writable;
  while (buf != NULL &&
         ((n = recv(m->fd, buf, ANSWER_BYTES, MSG_DONTWAIT)) > 0 || errno == ENOBUFS)) {
    if (n < 0 || mnl_cb_run(buf, (size_t)n, 0, 0, on_news, &news) == MNL_CB_ERROR) {
      news = true;
    }
  }
  free(buf);
  if (news) {
    msock_loop_set_deadline(m->loop, &m->settle, msock_loop_now_us() + MSOCK_NETLINK_SETTLE_US);
  }
}

static void on_settled(void *ctx, uint64_t now_us) {
  msock_netlink_monitor *m = ctx;
  (void)now_us;
  m->changed(m->ctx);
}

msock_err msock_netlink_monitor_new(msock_egress *eg, void (*changed)(void *ctx), void *ctx,
                                    msock_netlink_monitor **out) {
  const uint32_t groups =
      RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
  msock_netlink_monitor *m = calloc(1, sizeof *m);
  if (m == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  m->loop = msock_egress_loop(eg);
  m->changed = changed;
  m->ctx = ctx;
  msock_loop_timer_init(&m->settle, on_settled, m);
  const msock_err err = msock_egress_netlink(eg, groups, &m->fd);
  if (err != MSOCK_OK) {
    free(m);
    return err;
  }
  m->watch = msock_loop_fd_new(m->loop, m->fd, on_message, m);
  if (m->watch == NULL) {
    msock_netlink_monitor_free(m);
    return MSOCK_ERR_NOMEM;
  }
  msock_loop_fd_want(m->watch, true, false);
  *out = m;
  return MSOCK_OK;
}

void msock_netlink_monitor_free(msock_netlink_monitor *m) {
  if (m == NULL) {
    return;
  }
  msock_loop_set_deadline(m->loop, &m->settle, MSOCK_NEVER);
  msock_loop_fd_free(m->watch);
  close(m->fd);
  free(m);
}
