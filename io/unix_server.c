#include "io/unix_server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/loop.h"

struct msock_unix_server {
  int fd;
  msock_loop_fd *watch;
  void (*accepted)(void *ctx, int fd, const msock_unix_peer *peer);
  void *ctx;
  char path[128];
  bool *gone; /* set when freed inside the callback */
};

static bool peer_of(int fd, msock_unix_peer *out) {
  struct ucred cred;
  socklen_t len = sizeof cred;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0) {
    return false;
  }
  *out = (msock_unix_peer){.pid = cred.pid, .uid = cred.uid, .gid = cred.gid};
  return true;
}

static void on_ready(void *ctx, bool readable, bool writable) {
  msock_unix_server *s = ctx;
  bool gone = false;
  (void)readable;
  (void)writable;

  s->gone = &gone;
  for (unsigned i = 0; i < MSOCK_UNIX_ACCEPTS_PER_TURN; i++) {
    msock_unix_peer peer;
    const int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      break; /* EAGAIN, or out of descriptors: the next turn tries again */
    }
    if (!peer_of(fd, &peer)) {
      close(fd);
      continue;
    }
    s->accepted(s->ctx, fd, &peer);
    if (gone) {
      return;
    }
  }
  s->gone = NULL;
}

msock_err msock_unix_server_new(msock_egress *eg, const char *path, unsigned mode,
                                void (*accepted)(void *ctx, int fd, const msock_unix_peer *peer),
                                void *ctx, msock_unix_server **out) {
  msock_unix_server *s = calloc(1, sizeof *s);
  if (s == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  s->accepted = accepted;
  s->ctx = ctx;
  snprintf(s->path, sizeof s->path, "%s", path);
  const msock_err err = msock_egress_unix_listen(eg, path, mode, &s->fd);
  if (err != MSOCK_OK) {
    free(s);
    return err;
  }
  s->watch = msock_loop_fd_new(msock_egress_loop(eg), s->fd, on_ready, s);
  if (s->watch == NULL) {
    msock_unix_server_free(s);
    return MSOCK_ERR_NOMEM;
  }
  msock_loop_fd_want(s->watch, true, false);
  *out = s;
  return MSOCK_OK;
}

void msock_unix_server_free(msock_unix_server *s) {
  if (s == NULL) {
    return;
  }
  if (s->gone != NULL) {
    *s->gone = true;
  }
  msock_loop_fd_free(s->watch);
  close(s->fd);
  unlink(s->path);
  free(s);
}
