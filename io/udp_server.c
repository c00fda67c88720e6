#include "io/udp_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/sockaddr.h"

/* The address that was asked, of either family, comes and goes in here. */
typedef union control {
  struct cmsghdr align;
  uint8_t bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(struct in_pktinfo))];
} control;

struct msock_udp_server {
  msock_egress *eg;
  msock_purpose purpose;
  int fd;
  msock_addr at;
  msock_loop_fd *watch;
  size_t (*answer)(void *ctx, const msock_addr *from, const uint8_t *p, size_t len, uint8_t *dst);
  void *ctx;
  msock_udp_server_stats stats;
  struct mmsghdr rx[MSOCK_UDP_SERVER_BATCH], tx[MSOCK_UDP_SERVER_BATCH];
  struct iovec rx_iov[MSOCK_UDP_SERVER_BATCH], tx_iov[MSOCK_UDP_SERVER_BATCH];
  struct sockaddr_storage from[MSOCK_UDP_SERVER_BATCH];
  control info[MSOCK_UDP_SERVER_BATCH];
  uint8_t requests[MSOCK_UDP_SERVER_BATCH][MSOCK_UDP_SERVER_REQUEST_MAX];
  uint8_t answers[MSOCK_UDP_SERVER_BATCH][MSOCK_UDP_SERVER_ANSWER_MAX];
};

static void prepare(msock_udp_server *s) {
  for (size_t i = 0; i < MSOCK_UDP_SERVER_BATCH; i++) {
    s->rx_iov[i] = (struct iovec){s->requests[i], sizeof s->requests[i]};
    s->rx[i].msg_hdr = (struct msghdr){.msg_name = &s->from[i],
                                       .msg_namelen = sizeof s->from[i],
                                       .msg_iov = &s->rx_iov[i],
                                       .msg_iovlen = 1,
                                       .msg_control = &s->info[i],
                                       .msg_controllen = sizeof s->info[i]};
  }
}

/* What came with the datagram goes back with the answer: the kernel then sends from the address
 * that was asked. The interface is left to routing, which knows asymmetric paths. */
static void answer_from(struct msghdr *m) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
      struct in_pktinfo info;
      memcpy(&info, CMSG_DATA(c), sizeof info);
      info.ipi_ifindex = 0;
      info.ipi_spec_dst = info.ipi_addr;
      memcpy(CMSG_DATA(c), &info, sizeof info);
    } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
      struct in6_pktinfo info;
      memcpy(&info, CMSG_DATA(c), sizeof info);
      if (!IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr)) {
        info.ipi6_ifindex = 0;
      }
      memcpy(CMSG_DATA(c), &info, sizeof info);
    }
  }
}

/* The answers to n datagrams, in tx; gives their number. */
static size_t make_answers(msock_udp_server *s, size_t n) {
  size_t answers = 0;
  for (size_t i = 0; i < n; i++) {
    struct msghdr *m = &s->rx[i].msg_hdr;
    msock_addr from;
    if ((m->msg_flags & MSG_TRUNC) || !msock_sockaddr_to(m->msg_name, &from)) {
      continue;
    }
    const size_t len =
        s->answer(s->ctx, &from, s->requests[i], s->rx[i].msg_len, s->answers[answers]);
    if (len == 0) {
      continue;
    }
    answer_from(m);
    s->tx_iov[answers] = (struct iovec){s->answers[answers], len};
    s->tx[answers].msg_hdr = (struct msghdr){.msg_name = m->msg_name,
                                             .msg_namelen = m->msg_namelen,
                                             .msg_iov = &s->tx_iov[answers],
                                             .msg_iovlen = 1,
                                             .msg_control = m->msg_control,
                                             .msg_controllen = m->msg_controllen};
    msock_egress_account(s->eg, s->purpose, &from, 1, len);
    answers++;
  }
  return answers;
}

static void send_answers(msock_udp_server *s, size_t n) {
  for (size_t at = 0; at < n;) {
    const int sent = sendmmsg(s->fd, s->tx + at, (unsigned)(n - at), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      s->stats.answered += (uint64_t)sent;
      at += (size_t)sent;
    } else {
      s->stats.write_errors++; /* of the first of them: go on behind it */
      at++;
    }
  }
}

static void on_readable(void *ctx, bool readable, bool writable) {
  msock_udp_server *s = ctx;
  (void)readable;
  (void)writable;
  for (unsigned call = 0; call < MSOCK_UDP_SERVER_CALLS; call++) {
    prepare(s);
    const int n = recvmmsg(s->fd, s->rx, MSOCK_UDP_SERVER_BATCH, MSG_DONTWAIT, NULL);
    if (n <= 0) {
      s->stats.read_errors += n < 0 && errno != EAGAIN && errno != EINTR;
      return;
    }
    s->stats.received += (uint64_t)n;
    send_answers(s, make_answers(s, (size_t)n));
    if ((unsigned)n < MSOCK_UDP_SERVER_BATCH) {
      return;
    }
  }
}

msock_err msock_udp_server_new(msock_egress *eg, msock_purpose p, const msock_addr *on,
                               size_t (*answer)(void *ctx, const msock_addr *from, const uint8_t *p,
                                                size_t len, uint8_t *dst),
                               void *ctx, msock_udp_server **out) {
  const int yes = 1;
  msock_udp_server *s = calloc(1, sizeof *s);
  if (s == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  s->eg = eg;
  s->purpose = p;
  s->answer = answer;
  s->ctx = ctx;
  const msock_err e = msock_egress_udp_bind(eg, p, on, &s->fd, &s->at);
  if (e != MSOCK_OK) {
    free(s);
    return e;
  }
  setsockopt(s->fd, IPPROTO_IP, IP_PKTINFO, &yes, sizeof yes);
  if (on->ip.family == 6) {
    setsockopt(s->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &yes, sizeof yes);
  }
  s->watch = msock_loop_fd_new(msock_egress_loop(eg), s->fd, on_readable, s);
  if (s->watch == NULL) {
    msock_udp_server_free(s);
    return MSOCK_ERR_NOMEM;
  }
  msock_loop_fd_want(s->watch, true, false);
  *out = s;
  return MSOCK_OK;
}

void msock_udp_server_free(msock_udp_server *s) {
  if (s != NULL) {
    msock_loop_fd_free(s->watch);
    close(s->fd);
    free(s);
  }
}

msock_addr msock_udp_server_addr(const msock_udp_server *s) {
  return s->at;
}

msock_udp_server_stats msock_udp_server_get_stats(const msock_udp_server *s) {
  return s->stats;
}
