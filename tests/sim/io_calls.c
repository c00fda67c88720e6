/* The socket calls of the io room (and node's close), put in place of libc's by ld --wrap: on
 * simulated descriptors they are io_socket.c's, on others the real ones. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/sockaddr.h"
#include "tests/sim/io_internal.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_socket(int domain, int type, int protocol);
int __wrap_bind(int fd, const struct sockaddr *sa, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *sa, socklen_t len);
int __wrap_listen(int fd, int backlog);
int __wrap_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags);
int __wrap_shutdown(int fd, int how);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __wrap_getsockname(int fd, struct sockaddr *sa, socklen_t *len);
int __wrap_getpeername(int fd, struct sockaddr *sa, socklen_t *len);
ssize_t __wrap_send(int fd, const void *p, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *p, size_t cap, int flags);
ssize_t __wrap_sendto(int fd, const void *p, size_t len, int flags, const struct sockaddr *sa,
                      socklen_t sa_len);
int __wrap_sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags);
int __wrap_recvmmsg(int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *timeout);

static sim_fd *of(int fd) {
  sim_fd *f = sim_fd_of(fd);
  if (f == NULL) {
    errno = EBADF;
  }
  return f;
}

int __wrap_close(int fd) {
  sim_fd *f = sim_fd_of(fd);
  if (f == NULL) {
    return __real_close(fd);
  }
  sim_fd_close(f);
  return 0;
}

int __wrap_socket(int domain, int type, int protocol) {
  (void)protocol;
  if (domain != AF_INET && domain != AF_INET6) {
    errno = EAFNOSUPPORT;
    return -1;
  }
  return sim_fd_open((type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_DGRAM);
}

int __wrap_bind(int fd, const struct sockaddr *sa, socklen_t len) {
  sim_fd *f = of(fd);
  msock_addr on;
  (void)len;
  return f != NULL && msock_sockaddr_to(sa, &on) ? sim_fd_bind(f, &on) : -1;
}

int __wrap_connect(int fd, const struct sockaddr *sa, socklen_t len) {
  sim_fd *f = of(fd);
  msock_addr to;
  (void)len;
  return f != NULL && msock_sockaddr_to(sa, &to) ? sim_fd_connect(f, &to) : -1;
}

int __wrap_listen(int fd, int backlog) {
  sim_fd *f = of(fd);
  (void)backlog;
  return f != NULL ? sim_fd_listen(f) : -1;
}

/* As the kernel: at most *len bytes of the address, *len its size. */
static void give_address(const msock_addr *a, struct sockaddr *sa, socklen_t *len) {
  struct sockaddr_storage full;
  const socklen_t n = msock_sockaddr_from(a, &full);
  if (sa != NULL && len != NULL) {
    memcpy(sa, &full, n < *len ? n : *len);
    *len = n;
  }
}

int __wrap_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags) {
  sim_fd *f = of(fd);
  msock_addr peer;
  (void)flags;
  const int accepted = f != NULL ? sim_fd_accept(f, &peer) : -1;
  if (accepted >= 0) {
    give_address(&peer, sa, len);
  }
  return accepted;
}

int __wrap_shutdown(int fd, int how) {
  sim_fd *f = of(fd);
  if (f == NULL || how != SHUT_WR) {
    return -1;
  }
  sim_fd_shutdown(f);
  return 0;
}

/* No segmentation and no coalescing here: one datagram is one message. */
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
  sim_fd *f = of(fd);
  if (f == NULL) {
    return -1;
  }
  if (level == SOL_SOCKET && name == SO_ERROR && *len == sizeof(int)) {
    const int error = sim_fd_take_error(f);
    memcpy(value, &error, sizeof error);
    return 0;
  }
  if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY && *len == sizeof(int)) {
    memset(value, 0, sizeof(int)); /* as udp sockets set it: both families */
    return 0;
  }
  errno = ENOPROTOOPT;
  return -1;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
  (void)value;
  (void)len;
  if (of(fd) == NULL) {
    return -1;
  }
  if (level == SOL_UDP && (name == UDP_GRO || name == UDP_SEGMENT)) {
    errno = ENOPROTOOPT;
    return -1;
  }
  return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *sa, socklen_t *len) {
  sim_fd *f = of(fd);
  if (f == NULL) {
    return -1;
  }
  const msock_addr a = sim_fd_local(f);
  give_address(&a, sa, len);
  return 0;
}

int __wrap_getpeername(int fd, struct sockaddr *sa, socklen_t *len) {
  sim_fd *f = of(fd);
  if (f == NULL) {
    return -1;
  }
  const msock_addr a = sim_fd_remote(f);
  give_address(&a, sa, len);
  return 0;
}

ssize_t __wrap_send(int fd, const void *p, size_t len, int flags) {
  sim_fd *f = of(fd);
  (void)flags;
  return f != NULL ? sim_fd_send(f, p, len) : -1;
}

ssize_t __wrap_recv(int fd, void *p, size_t cap, int flags) {
  sim_fd *f = of(fd);
  (void)flags;
  return f != NULL ? sim_fd_recv(f, p, cap) : -1;
}

ssize_t __wrap_sendto(int fd, const void *p, size_t len, int flags, const struct sockaddr *sa,
                      socklen_t sa_len) {
  sim_fd *f = of(fd);
  msock_addr to;
  (void)flags;
  (void)sa_len;
  if (f == NULL || !msock_sockaddr_to(sa, &to) || sim_fd_send_to(f, &to, p, len) != 0) {
    return -1;
  }
  return (ssize_t)len;
}

int __wrap_sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags) {
  sim_fd *f = of(fd);
  msock_addr to;
  unsigned i = 0;
  (void)flags;
  if (f == NULL) {
    return -1;
  }
  for (; i < n; i++) {
    const struct msghdr *h = &m[i].msg_hdr;
    if (!msock_sockaddr_to(h->msg_name, &to)) {
      errno = EINVAL;
      break;
    }
    if (sim_fd_send_to(f, &to, h->msg_iov->iov_base, h->msg_iov->iov_len) != 0) {
      break;
    }
    m[i].msg_len = (unsigned)h->msg_iov->iov_len;
  }
  return i > 0 ? (int)i : -1;
}

int __wrap_recvmmsg(int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *timeout) {
  sim_fd *f = of(fd);
  msock_addr from;
  unsigned i = 0;
  (void)flags;
  (void)timeout;
  if (f == NULL) {
    return -1;
  }
  for (; i < n; i++) {
    struct msghdr *h = &m[i].msg_hdr;
    const size_t cap = h->msg_iov->iov_len;
    const ssize_t len = sim_fd_recv_from(f, h->msg_iov->iov_base, cap, &from);
    if (len < 0) {
      break;
    }
    give_address(&from, h->msg_name, &h->msg_namelen);
    h->msg_controllen = 0;
    h->msg_flags = (size_t)len > cap ? MSG_TRUNC : 0;
    m[i].msg_len = (unsigned)((size_t)len < cap ? (size_t)len : cap);
  }
  return i > 0 ? (int)i : -1;
}
