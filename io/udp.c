#include "io/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/sockaddr.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* linux/udp.h, kernel 4.18 */
#endif
#ifndef UDP_GRO
#define UDP_GRO 104 /* kernel 5.0 */
#endif

#define TRAIN_BYTES_MAX 65507u /* largest UDP payload over IPv4 (dataplane.md 9.1) */
#define CALLS_PER_TURN 4u      /* recvmmsg calls before the other descriptors get their turn */
#define GRO_MESSAGES 8u
#define GRO_BYTES 65536u

/* Receive storage: with GRO few large buffers, else one small one per packet. */
#define PLAIN_BYTES (MSOCK_PACKET_HEADROOM + MSOCK_UDP_DATAGRAM_MAX + MSOCK_PACKET_TAILROOM)

typedef union control {
  struct cmsghdr align;
  uint8_t bytes[CMSG_SPACE(sizeof(int))];
} control;

struct msock_udp {
  msock_egress *eg;
  int fd;
  msock_addr local;
  msock_loop_fd *watch;
  msock_udp_handlers h;
  void *ctx;
  msock_udp_stats stats;
  bool *gone; /* set when freed inside a callback */
  /* receive */
  uint8_t *storage;
  size_t n_messages, message_bytes;
  struct mmsghdr rx[MSOCK_BATCH_MAX];
  struct iovec rx_iov[MSOCK_BATCH_MAX];
  struct sockaddr_storage rx_from[MSOCK_BATCH_MAX];
  control rx_control[MSOCK_BATCH_MAX];
  msock_packet pkts[MSOCK_BATCH_MAX];
  msock_addr from[MSOCK_BATCH_MAX];
  /* send */
  struct mmsghdr tx[MSOCK_BATCH_MAX];
  struct iovec tx_iov[MSOCK_BATCH_MAX];
  struct sockaddr_storage tx_to[MSOCK_BATCH_MAX];
  control tx_control[MSOCK_BATCH_MAX];
};

/* Receiving */

static void prepare_rx(msock_udp *u) {
  for (size_t i = 0; i < u->n_messages; i++) {
    const size_t room = u->message_bytes - MSOCK_PACKET_HEADROOM - MSOCK_PACKET_TAILROOM;
    u->rx_iov[i] = (struct iovec){u->storage + i * u->message_bytes + MSOCK_PACKET_HEADROOM, room};
    u->rx[i].msg_hdr = (struct msghdr){.msg_name = &u->rx_from[i],
                                       .msg_namelen = sizeof u->rx_from[i],
                                       .msg_iov = &u->rx_iov[i],
                                       .msg_iovlen = 1,
                                       .msg_control = &u->rx_control[i],
                                       .msg_controllen = sizeof u->rx_control[i]};
  }
}

static size_t segment_size(struct msghdr *m, size_t len) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
    if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
      int size = 0;
      memcpy(&size, CMSG_DATA(c), sizeof size);
      return size > 0 ? (size_t)size : len;
    }
  }
  return len;
}

/* False: freed by the owner. */
static bool deliver(msock_udp *u, size_t n, uint64_t now_us, const bool *gone) {
  if (n > 0) {
    u->h.received(u->ctx, u->pkts, u->from, n, now_us);
  }
  return !*gone;
}

/* Splits message i into packets behind the n that are there already; delivers full batches. */
static bool split(msock_udp *u, size_t i, size_t *n, uint64_t now_us, const bool *gone) {
  const size_t total = u->rx[i].msg_len;
  const size_t segment = segment_size(&u->rx[i].msg_hdr, total);
  const size_t base = MSOCK_PACKET_HEADROOM;
  msock_addr from;

  if (!msock_sockaddr_to((const struct sockaddr *)&u->rx_from[i], &from)) {
    return true;
  }
  if (u->rx[i].msg_hdr.msg_flags & MSG_TRUNC || segment > MSOCK_UDP_DATAGRAM_MAX) {
    u->stats.rx_cut++;
    return true;
  }
  for (size_t at = 0; at < total || (total == 0 && at == 0); at += segment) {
    const size_t len = total - at < segment ? total - at : segment;
    if (*n == MSOCK_BATCH_MAX) {
      if (!deliver(u, *n, now_us, gone)) {
        return false;
      }
      *n = 0;
    }
    u->pkts[*n] = (msock_packet){.buf = u->storage + i * u->message_bytes,
                                 .cap = (uint32_t)u->message_bytes,
                                 .off = (uint32_t)(base + at),
                                 .len = (uint32_t)len};
    u->from[(*n)++] = from;
    u->stats.rx_packets++;
    u->stats.rx_bytes += len;
    if (segment == 0) {
      break; /* an empty datagram */
    }
  }
  return true;
}

static bool is_passing(int system_errno) {
  return system_errno == ECONNREFUSED || system_errno == EHOSTUNREACH ||
         system_errno == ENETUNREACH || system_errno == EINTR || system_errno == ENOBUFS ||
         system_errno == ENOMEM;
}

static void on_readable(void *ctx, bool readable, bool writable) {
  msock_udp *u = ctx;
  bool gone = false;
  (void)readable;
  (void)writable;

  u->gone = &gone;
  for (unsigned call = 0; call < CALLS_PER_TURN; call++) {
    size_t n = 0;
    prepare_rx(u);
    const int got = recvmmsg(u->fd, u->rx, (unsigned)u->n_messages, MSG_DONTWAIT, NULL);
    if (got < 0 && errno == EAGAIN) {
      break;
    }
    if (got < 0 && is_passing(errno)) { /* an ICMP error of an earlier send: read on */
      u->stats.rx_errors++;
      continue;
    }
    if (got < 0) {
      u->stats.rx_errors++;
      u->gone = NULL;
      msock_loop_fd_want(u->watch, false, false);
      u->h.dead(u->ctx, errno);
      return;
    }
    const uint64_t now_us = msock_loop_now_us();
    for (int i = 0; i < got; i++) {
      if (!split(u, (size_t)i, &n, now_us, &gone)) {
        return;
      }
    }
    if (!deliver(u, n, now_us, &gone)) {
      return;
    }
    if ((size_t)got < u->n_messages) {
      break;
    }
  }
  u->gone = NULL;
}

/* Sending */

static msock_udp_fault fault_of(int system_errno) {
  switch (system_errno) {
  case EPERM:
  case EACCES:
    return MSOCK_UDP_FAULT_LOST;
  case EHOSTUNREACH:
  case EHOSTDOWN:
  case ECONNREFUSED:
    return MSOCK_UDP_FAULT_HOST;
  case ENETUNREACH:
  case ENETDOWN:
  case EADDRNOTAVAIL:
  case EAFNOSUPPORT:
  case EINVAL:
    return MSOCK_UDP_FAULT_NETWORK;
  case EMSGSIZE:
    return MSOCK_UDP_FAULT_TOO_BIG;
  case EAGAIN:
  case ENOBUFS:
  case ENOMEM:
    return MSOCK_UDP_FAULT_FULL;
  default:
    return MSOCK_UDP_FAULT_REBIND;
  }
}

static void report(msock_udp *u, const msock_addr *to, msock_udp_fault fault, size_t n) {
  u->stats.tx_fault[fault] += n;
  if (u->h.fault != NULL) {
    u->h.fault(u->ctx, to, fault, n);
  }
}

/* How many of pkts[0..n) make one train: one address, one size, only the last shorter. */
static size_t train_length(const msock_udp *u, const msock_packet *pkts, const msock_addr *to,
                           size_t n) {
  const uint32_t size = pkts[0].len;
  size_t bytes = size, k = 1;
  if (!u->stats.gso || size == 0) {
    return 1;
  }
  while (k < n && msock_addr_equal(&to[k], &to[0]) && pkts[k].len > 0 && pkts[k].len <= size &&
         bytes + pkts[k].len <= TRAIN_BYTES_MAX) {
    bytes += pkts[k].len;
    k++;
    if (pkts[k - 1].len < size) {
      break;
    }
  }
  return k;
}

/* Message m carries pkts[first .. first+k). */
static void prepare_train(msock_udp *u, size_t m, const msock_packet *pkts, const msock_addr *to,
                          size_t first, size_t k) {
  struct msghdr *h = &u->tx[m].msg_hdr;
  for (size_t i = first; i < first + k; i++) {
    u->tx_iov[i] = (struct iovec){msock_packet_data(&pkts[i]), pkts[i].len};
  }
  *h = (struct msghdr){.msg_name = &u->tx_to[m],
                       .msg_namelen = msock_sockaddr_from(&to[first], &u->tx_to[m]),
                       .msg_iov = &u->tx_iov[first],
                       .msg_iovlen = k};
  if (k > 1) {
    const uint16_t segment = (uint16_t)pkts[first].len;
    h->msg_control = &u->tx_control[m];
    h->msg_controllen = CMSG_SPACE(sizeof segment);
    struct cmsghdr *c = CMSG_FIRSTHDR(h);
    c->cmsg_level = SOL_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(c), &segment, sizeof segment);
  }
}

typedef struct batch {
  const msock_packet *pkts;
  const msock_addr *to;
  msock_purpose purpose;
  size_t first[MSOCK_BATCH_MAX]; /* of each train */
  size_t count[MSOCK_BATCH_MAX];
  size_t n_trains;
} batch;

static void plan(msock_udp *u, batch *b, size_t from, size_t n) {
  b->n_trains = 0;
  while (from < n) {
    const size_t k = train_length(u, b->pkts + from, b->to + from, n - from);
    const msock_err err = msock_egress_check(u->eg, b->purpose, &b->to[from]);
    if (err != MSOCK_OK) {
      report(u, &b->to[from], MSOCK_UDP_FAULT_DENIED, k);
    } else {
      b->first[b->n_trains] = from;
      b->count[b->n_trains] = k;
      prepare_train(u, b->n_trains, b->pkts, b->to, from, k);
      b->n_trains++;
    }
    from += k;
  }
}

static size_t account(msock_udp *u, const batch *b, size_t t) {
  size_t bytes = 0;
  for (size_t i = 0; i < b->count[t]; i++) {
    bytes += b->pkts[b->first[t] + i].len;
  }
  u->stats.tx_packets += b->count[t];
  u->stats.tx_bytes += bytes;
  msock_egress_account(u->eg, b->purpose, &b->to[b->first[t]], b->count[t], bytes);
  return b->count[t];
}

size_t msock_udp_send(msock_udp *u, msock_purpose p, const msock_packet *pkts, const msock_addr *to,
                      size_t n) {
  batch b = {.pkts = pkts, .to = to, .purpose = p};
  size_t sent = 0, t = 0;

  n = n < MSOCK_BATCH_MAX ? n : MSOCK_BATCH_MAX;
  plan(u, &b, 0, n);
  while (t < b.n_trains) {
    const int rc =
        sendmmsg(u->fd, u->tx + t, (unsigned)(b.n_trains - t), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (rc > 0) {
      for (int i = 0; i < rc; i++) {
        sent += account(u, &b, t++);
      }
      continue;
    }
    const int system_errno = errno;
    if (b.count[t] > 1 && (system_errno == EIO || system_errno == EINVAL)) {
      u->stats.gso = false; /* this way out cannot segment: for good */
      plan(u, &b, b.first[t], n);
      t = 0;
      continue;
    }
    const msock_udp_fault fault = fault_of(system_errno);
    do { /* a full socket refuses the rest as well */
      report(u, &to[b.first[t]], fault, b.count[t]);
      t++;
    } while (fault == MSOCK_UDP_FAULT_FULL && t < b.n_trains);
  }
  return sent;
}

/* Life */

static void want_buffer(int fd, int force, int plain) {
  const int bytes = (int)MSOCK_UDP_SOCKET_BUFFER;
  if (setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof bytes) != 0) {
    setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes);
  }
}

static void probe_offloads(msock_udp *u) {
  const int on = 1;
  int size = 0;
  socklen_t len = sizeof size;
  u->stats.gso = getsockopt(u->fd, SOL_UDP, UDP_SEGMENT, &size, &len) == 0;
  u->stats.gro = setsockopt(u->fd, SOL_UDP, UDP_GRO, &on, sizeof on) == 0;
}

msock_err msock_udp_new(msock_egress *eg, msock_purpose p, const msock_addr *on,
                        const msock_udp_handlers *handlers, void *ctx, msock_udp **out) {
  const msock_addr any = {.ip = msock_ip_v4(0, 0, 0, 0)};
  msock_udp *u = calloc(1, sizeof *u);

  if (u == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  const msock_err err = msock_egress_udp_bind(eg, p, on != NULL ? on : &any, &u->fd, &u->local);
  if (err != MSOCK_OK) {
    free(u);
    return err;
  }
  u->eg = eg;
  u->h = *handlers;
  u->ctx = ctx;
  want_buffer(u->fd, SO_RCVBUFFORCE, SO_RCVBUF);
  want_buffer(u->fd, SO_SNDBUFFORCE, SO_SNDBUF);
  probe_offloads(u);
  u->n_messages = u->stats.gro ? GRO_MESSAGES : MSOCK_BATCH_MAX;
  u->message_bytes =
      u->stats.gro ? MSOCK_PACKET_HEADROOM + GRO_BYTES + MSOCK_PACKET_TAILROOM : PLAIN_BYTES;
  u->storage = malloc(u->n_messages * u->message_bytes);
  u->watch = msock_loop_fd_new(msock_egress_loop(eg), u->fd, on_readable, u);
  if (u->storage == NULL || u->watch == NULL) {
    msock_udp_free(u);
    return MSOCK_ERR_NOMEM;
  }
  msock_loop_fd_want(u->watch, true, false);
  *out = u;
  return MSOCK_OK;
}

void msock_udp_free(msock_udp *u) {
  if (u == NULL) {
    return;
  }
  if (u->gone != NULL) {
    *u->gone = true;
  }
  msock_loop_fd_free(u->watch);
  close(u->fd);
  free(u->storage);
  free(u);
}

msock_addr msock_udp_local(const msock_udp *u) {
  return u->local;
}

int msock_udp_fd(const msock_udp *u) {
  return u->fd;
}

void msock_udp_set_gso(msock_udp *u, bool on) {
  u->stats.gso = on;
}

const msock_udp_stats *msock_udp_get_stats(const msock_udp *u) {
  return &u->stats;
}
