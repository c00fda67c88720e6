#include "io/tcp_listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/loop.h"
#include "io/sockaddr.h"

#define USER_TIMEOUT_MS 15000u /* a dead client's connection goes, as those we dial (egress.c) */
#define PAUSE_US (100 * MSOCK_MS)

struct msock_tcp_listener {
  int fd;
  msock_addr at;
  msock_loop_fd *watch;
  void (*accepted)(void *ctx, int fd, const msock_addr *peer);
  void *ctx;
  bool *gone; /* set when freed inside the callback */
  msock_loop *loop;
  msock_loop_timer pause; /* no accept until then */
};

static void on_pause_over(void *ctx, uint64_t now_us) {
  msock_tcp_listener *l = ctx;
  (void)now_us;
  msock_loop_fd_want(l->watch, true, false);
}

/* Out of descriptors or memory: the port stays readable, so looking again at once would spin. */
static void pause_accepting(msock_tcp_listener *l) {
  msock_loop_fd_want(l->watch, false, false);
  msock_loop_set_deadline(l->loop, &l->pause, msock_loop_now_us() + PAUSE_US);
}

static void on_ready(void *ctx, bool readable, bool writable) {
  msock_tcp_listener *l = ctx;
  bool gone = false;
  (void)readable;
  (void)writable;

  l->gone = &gone;
  for (unsigned i = 0; i < MSOCK_TCP_ACCEPTS_PER_TURN; i++) {
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    const int one = 1;
    const unsigned timeout_ms = USER_TIMEOUT_MS;
    msock_addr peer = {0};
    const int fd = accept4(l->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        pause_accepting(l);
      }
      break; /* EAGAIN: nobody else */
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    msock_sockaddr_to((const struct sockaddr *)&from, &peer);
    l->accepted(l->ctx, fd, &peer);
    if (gone) {
      return;
    }
  }
  l->gone = NULL;
}

msock_err msock_tcp_listener_new(msock_egress *eg, msock_purpose p, const msock_addr *on,
                                 void (*accepted)(void *ctx, int fd, const msock_addr *peer),
                                 void *ctx, msock_tcp_listener **out) {
  msock_tcp_listener *l = calloc(1, sizeof *l);
  if (l == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  l->accepted = accepted;
  l->ctx = ctx;
  l->loop = msock_egress_loop(eg);
  msock_loop_timer_init(&l->pause, on_pause_over, l);
  const msock_err e = msock_egress_tcp_listen(eg, p, on, &l->fd, &l->at);
  if (e != MSOCK_OK) {
    free(l);
    return e;
  }
  l->watch = msock_loop_fd_new(l->loop, l->fd, on_ready, l);
  if (l->watch == NULL) {
    msock_tcp_listener_free(l);
    return MSOCK_ERR_NOMEM;
  }
  msock_loop_fd_want(l->watch, true, false);
  *out = l;
  return MSOCK_OK;
}

void msock_tcp_listener_free(msock_tcp_listener *l) {
  if (l == NULL) {
    return;
  }
  if (l->gone) {
    *l->gone = true;
  }
  msock_loop_set_deadline(l->loop, &l->pause, MSOCK_NEVER);
  msock_loop_fd_free(l->watch);
  close(l->fd);
  free(l);
}

msock_addr msock_tcp_listener_addr(const msock_tcp_listener *l) {
  return l->at;
}
