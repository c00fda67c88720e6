#include "io/stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/loop_internal.h"

#define READS_PER_TURN 8u /* chunks of one stream before the others get their turn */
#define READS_PER_CHUNK                                                                            \
  64u /* small TLS records go together: an owner is called per chunk, not per record */
#define WRITES_PER_TURN 16u

typedef enum stream_state {
  STREAM_DIALING = 0,
  STREAM_HANDSHAKE,
  STREAM_UP,
  STREAM_OVER /* closed was called, or the owner has freed it */
} stream_state;

/* What only a stream that was dialled has: a relay holds ten thousand others. */
typedef struct dialled {
  msock_stream_config config;
  char host[256], cert_name[256], alpn[32];
  msock_tcp_dial *dial;
} dialled;

struct msock_stream {
  msock_loop *loop;
  msock_egress *eg; /* NULL: adopted */
  dialled *out;     /* NULL: adopted */
  msock_stream_handlers h;
  void *ctx;
  stream_state state;
  uint64_t budget_us;
  int fd;
  msock_loop_fd *watch;
  msock_loop_timer timer; /* budget; later: bytes that wait inside the TLS library */
  msock_tls *tls;
  msock_stream_info info;
  uint64_t began_us, tcp_done_us;
  bool tx_waiting;                                   /* tx_peek may have bytes */
  bool tx_blocked;                                   /* the socket took no more */
  bool read_blocked_on_write, write_blocked_on_read; /* TLS waits the other way round */
  bool paused, finishing, write_shut;
  unsigned busy; /* our frames on the stack: free only marks then */
  bool freed;
};

static void copy_text(char *dst, size_t cap, const char *src) {
  snprintf(dst, cap, "%s", src != NULL ? src : "");
}

static void close_all(msock_stream *s) {
  s->state = STREAM_OVER;
  msock_loop_set_deadline(s->loop, &s->timer, MSOCK_NEVER);
  if (s->out != NULL) {
    msock_tcp_dial_free(s->out->dial);
    s->out->dial = NULL;
  }
  msock_tls_free(s->tls);
  s->tls = NULL;
  msock_loop_fd_free(s->watch);
  s->watch = NULL;
  if (s->fd >= 0) {
    close(s->fd);
    s->fd = -1;
  }
}

void msock_stream_free(msock_stream *s) {
  if (s == NULL) {
    return;
  }
  if (s->busy > 0) { /* inside one of our callbacks: leave() does the rest */
    s->freed = true;
    s->state = STREAM_OVER;
    return;
  }
  close_all(s);
  free(s->out);
  free(s);
}

static void enter(msock_stream *s) {
  s->busy++;
}

static void leave(msock_stream *s) {
  if (--s->busy == 0 && s->freed) {
    msock_stream_free(s);
  }
}

/* The end: reason is copied first, since it may live in the TLS object. */
static void end(msock_stream *s, msock_err err, const char *reason) {
  char text[MSOCK_TLS_WHY_MAX];
  if (s->state == STREAM_OVER) {
    return;
  }
  copy_text(text, sizeof text, reason);
  close_all(s);
  s->h.closed(s->ctx, err, text);
}

static void update_watch(msock_stream *s) {
  if (s->watch == NULL || s->state == STREAM_OVER) {
    return;
  }
  if (s->state == STREAM_HANDSHAKE) {
    const bool w = msock_tls_wants_write(s->tls);
    msock_loop_fd_want(s->watch, !w, w);
    return;
  }
  const bool write = (s->tx_waiting && !s->write_blocked_on_read) || s->read_blocked_on_write;
  msock_loop_fd_want(s->watch, !s->paused || s->write_blocked_on_read, write);
}

/* Socket or TLS, same results as io/tls.h. */
static ptrdiff_t raw_read(msock_stream *s, uint8_t *dst, size_t cap) {
  if (s->tls != NULL) {
    return msock_tls_read(s->tls, dst, cap);
  }
  const ssize_t n = recv(s->fd, dst, cap, 0);
  if (n > 0) {
    return n;
  }
  if (n == 0) {
    return MSOCK_ERR_CLOSED;
  }
  return errno == EAGAIN || errno == EINTR ? MSOCK_ERR_AGAIN : MSOCK_ERR_IO;
}

static ptrdiff_t raw_write(msock_stream *s, const uint8_t *p, size_t len) {
  if (s->tls != NULL) {
    return msock_tls_write(s->tls, p, len);
  }
  const ssize_t n = send(s->fd, p, len, MSG_NOSIGNAL);
  if (n >= 0) {
    return n;
  }
  return errno == EAGAIN || errno == EINTR ? MSOCK_ERR_AGAIN : MSOCK_ERR_IO;
}

static void end_io(msock_stream *s, msock_err err, const char *plain_text) {
  const char *text = plain_text;
  if (s->tls != NULL && err != MSOCK_ERR_CLOSED) {
    text = msock_tls_error_text(s->tls);
  }
  end(s, err, text);
}

/* Fills the chunk: record after record while the TLS library holds more, or the socket gave all
 * that was asked for. Gives the bytes that came; *err is what ended it (MSOCK_OK: read again
 * later). */
static size_t fill(msock_stream *s, uint8_t *chunk, msock_err *err) {
  size_t got = 0;
  *err = MSOCK_OK;
  for (unsigned i = 0; i < READS_PER_CHUNK && got < MSOCK_STREAM_CHUNK; i++) {
    const size_t room = MSOCK_STREAM_CHUNK - got;
    const ptrdiff_t n = raw_read(s, chunk + got, room);
    if (n <= 0) {
      *err = (msock_err)n;
      break;
    }
    got += (size_t)n;
    if (s->tls != NULL ? !msock_tls_pending(s->tls) : (size_t)n < room) {
      break; /* the socket wakes us when there is more */
    }
  }
  return got;
}

static void read_some(msock_stream *s) {
  uint8_t *chunk = msock_loop_chunk(s->loop);
  if (chunk == NULL) {
    end(s, MSOCK_ERR_NOMEM, "out of memory");
    return;
  }
  for (unsigned i = 0; i < READS_PER_TURN && s->state == STREAM_UP && !s->paused; i++) {
    msock_err err;
    const size_t n = fill(s, chunk, &err);
    const int why = errno;
    if (n > 0) {
      s->h.readable(s->ctx, chunk, n);
    }
    if (err == MSOCK_ERR_AGAIN) {
      s->read_blocked_on_write =
          s->state == STREAM_UP && s->tls != NULL && msock_tls_wants_write(s->tls);
      return;
    }
    if (err != MSOCK_OK) {
      if (s->state == STREAM_UP) {
        end_io(s, err, err == MSOCK_ERR_CLOSED ? "the peer closed the connection" : strerror(why));
      }
      return;
    }
    if (n < MSOCK_STREAM_CHUNK) {
      return; /* all that there was; look_for_pending sees to the rest */
    }
  }
}

static void shut_when_drained(msock_stream *s) {
  if (s->finishing && !s->write_shut && s->tls == NULL) {
    s->write_shut = true;
    shutdown(s->fd, SHUT_WR);
  }
}

static void write_some(msock_stream *s) {
  for (unsigned i = 0; i < WRITES_PER_TURN && s->state == STREAM_UP && s->tx_waiting; i++) {
    const uint8_t *p = NULL;
    size_t len = 0;
    s->h.tx_peek(s->ctx, &p, &len);
    if (s->state != STREAM_UP) {
      return;
    }
    if (len == 0) {
      s->tx_waiting = false;
      shut_when_drained(s);
      return;
    }
    const ptrdiff_t n = raw_write(s, p, len);
    if (n == MSOCK_ERR_AGAIN) {
      s->tx_blocked = true;
      s->write_blocked_on_read = s->tls != NULL && !msock_tls_wants_write(s->tls);
      return;
    }
    if (n < 0) {
      end_io(s, (msock_err)n, strerror(errno));
      return;
    }
    if (s->eg != NULL) {
      msock_egress_account(s->eg, s->out->config.target.purpose, &s->info.remote, 1, (uint64_t)n);
    }
    s->h.tx_consume(s->ctx, (size_t)n);
  }
}

/* Bytes that the TLS library holds do not wake the descriptor: come back next turn. */
static void look_for_pending(msock_stream *s) {
  if (s->state == STREAM_UP && s->tls != NULL && !s->paused && msock_tls_pending(s->tls)) {
    msock_loop_set_deadline(s->loop, &s->timer, msock_loop_now_us());
  }
}

static void go_up(msock_stream *s) {
  s->state = STREAM_UP;
  s->tx_waiting = true;
  s->info.tls = s->tls != NULL ? msock_tls_get_info(s->tls) : NULL;
  s->info.tls_us = s->tls != NULL ? msock_loop_now_us() - s->tcp_done_us : 0;
  msock_loop_set_deadline(s->loop, &s->timer, MSOCK_NEVER);
  if (s->h.up != NULL) {
    s->h.up(s->ctx, &s->info);
  }
}

static void handshake(msock_stream *s) {
  const msock_err err = msock_tls_handshake(s->tls);
  if (err == MSOCK_ERR_AGAIN) {
    return;
  }
  if (err != MSOCK_OK) {
    end(s, err, msock_tls_error_text(s->tls));
    return;
  }
  go_up(s);
}

static void work(msock_stream *s, bool readable, bool writable) {
  enter(s);
  if (s->state == STREAM_HANDSHAKE) {
    handshake(s);
    readable = writable = s->state == STREAM_UP;
  }
  if (s->state == STREAM_UP && (readable || (writable && s->read_blocked_on_write))) {
    s->read_blocked_on_write = false;
    read_some(s);
  }
  if (s->state == STREAM_UP && (writable || (readable && s->write_blocked_on_read))) {
    s->write_blocked_on_read = s->tx_blocked = false;
    write_some(s);
  }
  look_for_pending(s);
  update_watch(s);
  leave(s);
}

static void on_ready(void *ctx, bool readable, bool writable) {
  work(ctx, readable, writable);
}

static void on_timer(void *ctx, uint64_t now_us) {
  msock_stream *s = ctx;
  (void)now_us;
  if (s->state == STREAM_UP) {
    work(s, true, false);
    return;
  }
  char text[MSOCK_TLS_WHY_MAX];
  snprintf(text, sizeof text, "no %s with %.200s within %llu ms",
           s->state == STREAM_DIALING ? "connection" : "TLS handshake",
           s->out != NULL ? s->out->host : "the client", (unsigned long long)(s->budget_us / 1000));
  enter(s);
  end(s, MSOCK_ERR_TIMEOUT, text);
  leave(s);
}

static void start_tls(msock_stream *s) {
  const msock_err err = msock_tls_new(&s->out->config.tls_config, s->fd, &s->tls);
  if (err != MSOCK_OK) {
    end(s, err, s->tls != NULL ? msock_tls_error_text(s->tls) : "out of memory");
    return;
  }
  s->state = STREAM_HANDSHAKE;
  handshake(s);
}

static void on_dialled(void *ctx, const msock_tcp_result *r) {
  msock_stream *s = ctx;
  enter(s);
  if (r->err != MSOCK_OK) {
    end(s, r->err, r->why);
    leave(s);
    return;
  }
  msock_tcp_dial_free(s->out->dial); /* over; its memory is not needed for the life of the stream */
  s->out->dial = NULL;
  s->fd = r->fd;
  s->info.local = r->local;
  s->info.remote = r->remote;
  s->tcp_done_us = msock_loop_now_us();
  s->info.tcp_us = s->tcp_done_us - s->began_us;
  s->watch = msock_loop_fd_new(s->loop, s->fd, on_ready, s);
  if (s->watch == NULL) {
    end(s, MSOCK_ERR_NOMEM, "cannot watch the connection: out of memory");
  } else if (s->out->config.tls) {
    start_tls(s);
  } else {
    go_up(s);
  }
  update_watch(s);
  leave(s);
}

static msock_stream *make(msock_loop *loop, const msock_stream_handlers *handlers, void *ctx) {
  msock_stream *s = calloc(1, sizeof *s);
  if (s != NULL) {
    s->loop = loop;
    s->h = *handlers;
    s->ctx = ctx;
    s->fd = -1;
    msock_loop_timer_init(&s->timer, on_timer, s);
  }
  return s;
}

/* The config and the texts it points to. */
static dialled *copy_config(const msock_stream_config *config) {
  const msock_tls_config *tc = &config->tls_config;
  dialled *d = calloc(1, sizeof *d);
  if (d != NULL) {
    d->config = *config;
    copy_text(d->host, sizeof d->host, config->tls ? tc->host : config->target.host);
    copy_text(d->cert_name, sizeof d->cert_name, tc->cert_name);
    copy_text(d->alpn, sizeof d->alpn, tc->alpn);
    d->config.tls_config.host = d->host;
    d->config.tls_config.cert_name = d->cert_name;
    d->config.tls_config.alpn = tc->alpn != NULL ? d->alpn : NULL;
  }
  return d;
}

msock_err msock_stream_dial(msock_egress *eg, const msock_stream_config *config,
                            const msock_stream_handlers *handlers, void *ctx, msock_stream **out) {
  msock_stream *s = make(msock_egress_loop(eg), handlers, ctx);
  if (s == NULL || (s->out = copy_config(config)) == NULL) {
    free(s);
    return MSOCK_ERR_NOMEM;
  }
  s->eg = eg;
  s->budget_us = config->budget_us;
  s->began_us = msock_loop_now_us();
  const msock_err err =
      msock_tcp_dial_new(eg, &s->out->config.target, on_dialled, s, &s->out->dial);
  if (err != MSOCK_OK) {
    msock_stream_free(s);
    return err;
  }
  msock_loop_set_deadline(s->loop, &s->timer, s->began_us + config->budget_us);
  *out = s;
  return MSOCK_OK;
}

/* A stream over an open descriptor, which is closed on error. */
static msock_err adopt(msock_loop *loop, int fd, const msock_stream_handlers *handlers, void *ctx,
                       msock_stream **out) {
  msock_stream *s = make(loop, handlers, ctx);
  if (s == NULL) {
    close(fd);
    return MSOCK_ERR_NOMEM;
  }
  s->fd = fd;
  s->watch = msock_loop_fd_new(loop, fd, on_ready, s);
  if (s->watch == NULL) {
    msock_stream_free(s);
    return MSOCK_ERR_NOMEM;
  }
  *out = s;
  return MSOCK_OK;
}

msock_err msock_stream_adopt(msock_loop *loop, int fd, const msock_stream_handlers *handlers,
                             void *ctx, msock_stream **out) {
  msock_stream *s = NULL;
  const msock_err err = adopt(loop, fd, handlers, ctx, &s);
  if (err != MSOCK_OK) {
    return err;
  }
  s->state = STREAM_UP;
  s->tx_waiting = true;
  update_watch(s);
  *out = s;
  return MSOCK_OK;
}

msock_err msock_stream_accept_tls(msock_loop *loop, int fd, msock_tls_identity *id,
                                  uint64_t budget_us, const msock_stream_handlers *handlers,
                                  void *ctx, msock_stream **out) {
  msock_stream *s = NULL;
  msock_err err = adopt(loop, fd, handlers, ctx, &s);
  if (err != MSOCK_OK) {
    return err;
  }
  err = msock_tls_accept(id, fd, &s->tls);
  if (err != MSOCK_OK) {
    msock_stream_free(s);
    return err;
  }
  s->budget_us = budget_us;
  s->began_us = s->tcp_done_us = msock_loop_now_us();
  s->state = STREAM_HANDSHAKE;
  msock_loop_set_deadline(loop, &s->timer, s->began_us + budget_us);
  update_watch(s);
  *out = s;
  return MSOCK_OK;
}

void msock_stream_want_write(msock_stream *s) {
  s->tx_waiting = true;
  if (s->state == STREAM_UP && s->busy == 0) {
    update_watch(s);
  }
}

void msock_stream_flush(msock_stream *s) {
  s->tx_waiting = true;
  if (s->state != STREAM_UP || s->busy != 0) {
    return;
  }
  enter(s);
  if (!s->tx_blocked) { /* else the socket's word is awaited */
    write_some(s);
  }
  update_watch(s);
  leave(s);
}

void msock_stream_pause_read(msock_stream *s, bool pause) {
  s->paused = pause;
  if (s->state == STREAM_UP && s->busy == 0) {
    look_for_pending(s);
    update_watch(s);
  }
}

void msock_stream_finish(msock_stream *s) {
  s->finishing = true;
  msock_stream_want_write(s);
}
