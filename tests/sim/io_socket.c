/* Descriptors of simulated processes: what a kernel keeps for a socket, over net.h. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/io_internal.h"

typedef enum fd_kind { FD_UNBOUND = 0, FD_UDP, FD_STREAM, FD_LISTENER } fd_kind;

/* Bytes in order: of a stream, or datagrams behind their headers. */
typedef struct buffer {
  uint8_t *p;
  size_t off, len, cap; /* the bytes are p[off .. off+len) */
} buffer;

typedef struct datagram_head {
  msock_addr from;
  size_t len;
} datagram_head;

struct sim_fd {
  int number;
  sim_process *p;
  sim_fd *prev, *next; /* of the process */
  fd_kind kind;
  bool datagrams; /* SOCK_DGRAM */
  msock_loop_fd *watch;
  msock_addr bound; /* by bind, before listen */
  buffer rx;
  sim_udp *udp;
  sim_stream *stream;
  bool connected, eof, blocked, paused;
  int error;
  sim_listener *listener;
  sim_fd *accepted, *accept_next; /* a listener's queue, oldest first */
};

/* Numbers are all that a system call has. */
static sim_fd **table;
static size_t n_table, n_open;

sim_fd *sim_fd_of(int fd) {
  const size_t i = (size_t)(fd - SIM_FD_BASE);
  return fd >= SIM_FD_BASE && i < n_table ? table[i] : NULL;
}

static sim_fd *make(sim_process *p) {
  sim_fd *f = calloc(1, sizeof *f);
  size_t i = 0;
  assert(f != NULL);
  while (i < n_table && table[i] != NULL) {
    i++;
  }
  if (i == n_table) {
    n_table += 64;
    table = realloc(table, n_table * sizeof *table);
    assert(table != NULL);
    memset(table + i, 0, 64 * sizeof *table);
  }
  n_open++;
  table[i] = f;
  f->number = SIM_FD_BASE + (int)i;
  f->p = p;
  f->next = p->fds;
  if (f->next != NULL) {
    f->next->prev = f;
  }
  p->fds = f;
  return f;
}

int sim_fd_open(bool datagram) {
  sim_fd *f = make(sim_process_current());
  f->datagrams = datagram;
  return f->number;
}

/* --- received bytes --- */

static void put(buffer *b, const void *p, size_t len) {
  if (b->off + b->len + len > b->cap) {
    if (b->off > 0) {
      memmove(b->p, b->p + b->off, b->len);
      b->off = 0;
    }
    while (b->len + len > b->cap) {
      b->cap = b->cap == 0 ? 4096 : 2 * b->cap;
      b->p = realloc(b->p, b->cap);
      assert(b->p != NULL);
    }
  }
  if (len > 0) {
    memcpy(b->p + b->off + b->len, p, len);
  }
  b->len += len;
}

static size_t take(buffer *b, void *dst, size_t cap) {
  const size_t n = b->len < cap ? b->len : cap;
  if (n > 0) {
    memcpy(dst, b->p + b->off, n);
  }
  b->len -= n;
  b->off = b->len == 0 ? 0 : b->off + n;
  return n;
}

static void skip(buffer *b, size_t n) {
  b->len -= n;
  b->off = b->len == 0 ? 0 : b->off + n;
}

/* --- what the network says --- */

static void changed(sim_fd *f) {
  sim_loop_fd_changed(f->watch);
}

static void on_datagram(void *ctx, const msock_addr *src, const msock_addr *dst,
                        const uint8_t *bytes, size_t len) {
  sim_fd *f = ctx;
  datagram_head head;
  (void)dst;
  if (f->rx.len + sizeof head + len > SIM_UDP_BUFFER) {
    return;
  }
  memset(&head, 0, sizeof head);
  head.from = *src;
  head.len = len;
  put(&f->rx, &head, sizeof head);
  put(&f->rx, bytes, len);
  changed(f);
}

static void on_connected(void *ctx) {
  sim_fd *f = ctx;
  f->connected = true;
  changed(f);
}

static void on_bytes(void *ctx, const uint8_t *bytes, size_t len) {
  sim_fd *f = ctx;
  put(&f->rx, bytes, len);
  if (f->rx.len > SIM_RECEIVE_BUFFER && !f->paused) {
    f->paused = true;
    sim_stream_pause(f->stream, true);
  }
  changed(f);
}

static void on_writable(void *ctx) {
  sim_fd *f = ctx;
  f->blocked = false;
  changed(f);
}

static void on_closed(void *ctx, int error) {
  sim_fd *f = ctx;
  f->error = error;
  f->eof = true;
  if (error != 0) {
    sim_stream_free(f->stream);
    f->stream = NULL;
  }
  changed(f);
}

static const sim_stream_handlers handlers = {
    .connected = on_connected, .readable = on_bytes, .writable = on_writable, .closed = on_closed};

static void on_accepted(void *ctx, sim_stream *s, const msock_addr *peer) {
  sim_fd *listener = ctx, *f = make(listener->p), **at = &listener->accepted;
  (void)peer;
  f->kind = FD_STREAM;
  f->stream = s;
  f->connected = true;
  sim_stream_accept(s, &handlers, f);
  while (*at != NULL) {
    at = &(*at)->accept_next;
  }
  *at = f;
  changed(listener);
}

/* --- calls --- */

int sim_fd_bind(sim_fd *f, const msock_addr *on) {
  if (!f->datagrams) {
    f->bound = *on;
    return 0;
  }
  f->udp = sim_udp_bind(f->p->host, on, on_datagram, f);
  f->kind = f->udp != NULL ? FD_UDP : FD_UNBOUND;
  return f->udp != NULL ? 0 : -1;
}

int sim_fd_connect(sim_fd *f, const msock_addr *to) {
  f->kind = FD_STREAM;
  f->stream = sim_stream_dial(f->p->host, to, &handlers, f);
  assert(f->stream != NULL);
  errno = EINPROGRESS;
  return -1;
}

int sim_fd_listen(sim_fd *f) {
  f->listener = sim_listen(f->p->host, &f->bound, on_accepted, f);
  if (f->listener == NULL) {
    return -1;
  }
  f->kind = FD_LISTENER;
  f->bound = sim_listener_addr(f->listener);
  return 0;
}

int sim_fd_accept(sim_fd *f, msock_addr *peer) {
  sim_fd *a = f->accepted;
  if (a == NULL) {
    errno = EAGAIN;
    return -1;
  }
  f->accepted = a->accept_next;
  a->accept_next = NULL;
  *peer = sim_fd_remote(a);
  return a->number;
}

static void end_stream(sim_fd *f) {
  if (f->stream != NULL && f->rx.len > 0 && !f->eof) { /* as Linux: unread bytes reset it */
    sim_stream_reset(f->stream);
  } else {
    sim_stream_free(f->stream);
  }
  f->stream = NULL;
}

void sim_fd_close(sim_fd *f) {
  while (f->accepted != NULL) {
    sim_fd *a = f->accepted;
    f->accepted = a->accept_next;
    sim_fd_close(a);
  }
  sim_listener_free(f->listener);
  sim_udp_free(f->udp);
  end_stream(f);
  if (f->prev != NULL) {
    f->prev->next = f->next;
  } else {
    f->p->fds = f->next;
  }
  if (f->next != NULL) {
    f->next->prev = f->prev;
  }
  table[f->number - SIM_FD_BASE] = NULL;
  free(f->rx.p);
  free(f);
  if (--n_open == 0) {
    free(table);
    table = NULL;
    n_table = 0;
  }
}

void sim_fd_close_all(sim_process *p) {
  while (p->fds != NULL) {
    sim_fd *f = p->fds;
    while (f->kind == FD_STREAM && f->next != NULL && f->next->kind == FD_LISTENER) {
      f = f->next; /* listeners first: they close what was not accepted */
    }
    sim_fd_close(f);
  }
}

void sim_fd_shutdown(sim_fd *f) {
  if (f->stream != NULL) {
    sim_stream_finish(f->stream);
  }
}

int sim_fd_take_error(sim_fd *f) {
  const int error = f->error;
  f->error = 0;
  return error;
}

ssize_t sim_fd_send(sim_fd *f, const void *p, size_t len) {
  if (f->error != 0) {
    errno = sim_fd_take_error(f);
    return -1;
  }
  if (f->p->muted || f->stream == NULL) {
    errno = EPIPE;
    return -1;
  }
  const size_t n = f->connected ? sim_stream_write(f->stream, p, len) : 0;
  f->blocked = n < len;
  if (n == 0 && len > 0) {
    errno = EAGAIN;
    return -1;
  }
  return (ssize_t)n;
}

ssize_t sim_fd_recv(sim_fd *f, void *p, size_t cap) {
  const size_t n = take(&f->rx, p, cap);
  if (f->paused && f->rx.len < SIM_RECEIVE_BUFFER / 2) {
    f->paused = false;
    if (f->stream != NULL) {
      sim_stream_pause(f->stream, false);
    }
  }
  if (n > 0 || cap == 0) {
    return (ssize_t)n;
  }
  if (f->error != 0) {
    errno = sim_fd_take_error(f);
    return -1;
  }
  if (f->eof) {
    return 0;
  }
  errno = EAGAIN;
  return -1;
}

int sim_fd_send_to(sim_fd *f, const msock_addr *to, const void *p, size_t len) {
  if (f->p->muted) {
    errno = EPIPE;
    return -1;
  }
  const int error = sim_udp_send(f->udp, to, p, len);
  errno = error;
  return error == 0 ? 0 : -1;
}

ssize_t sim_fd_recv_from(sim_fd *f, void *p, size_t cap, msock_addr *from) {
  datagram_head head;
  if (f->rx.len == 0) {
    errno = EAGAIN;
    return -1;
  }
  take(&f->rx, &head, sizeof head);
  const size_t n = take(&f->rx, p, head.len < cap ? head.len : cap);
  skip(&f->rx, head.len - n);
  *from = head.from;
  return (ssize_t)head.len;
}

/* --- questions --- */

msock_addr sim_fd_local(const sim_fd *f) {
  return f->kind == FD_UDP   ? sim_udp_local(f->udp)
         : f->stream != NULL ? sim_stream_local(f->stream)
                             : f->bound;
}

msock_addr sim_fd_remote(const sim_fd *f) {
  return f->stream != NULL ? sim_stream_remote(f->stream) : (msock_addr){.port = 0};
}

bool sim_fd_is_datagram(const sim_fd *f) {
  return f->datagrams;
}

bool sim_fd_is_readable(const sim_fd *f) {
  return f->kind == FD_LISTENER ? f->accepted != NULL : f->rx.len > 0 || f->eof;
}

bool sim_fd_is_writable(const sim_fd *f) {
  return f->kind == FD_STREAM ? f->connected && !f->blocked : true;
}

bool sim_fd_has_error(const sim_fd *f) {
  return f->error != 0;
}

void sim_fd_watch(sim_fd *f, msock_loop_fd *w) {
  f->watch = w;
}
