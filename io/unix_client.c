#include "io/unix_client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/http1.h"
#include "io/body.h"
#include "io/egress.h"
#include "io/loop.h"

typedef struct client {
  int fd;
  uint64_t timeout_us; /* between bytes when watching, in total otherwise */
  uint64_t deadline_us;
  bool per_byte;
} client;

static msock_err wait_for(const client *c, short events) {
  for (;;) {
    struct pollfd p = {.fd = c->fd, .events = events};
    const uint64_t now_us = msock_loop_now_us();
    if (now_us >= c->deadline_us) {
      return MSOCK_ERR_TIMEOUT;
    }
    const uint64_t left_ms = (c->deadline_us - now_us) / 1000 + 1;
    const int rc = poll(&p, 1, left_ms > 1000000 ? 1000000 : (int)left_ms);
    if (rc > 0) {
      return MSOCK_OK;
    }
    if (rc < 0 && errno != EINTR) {
      return MSOCK_ERR_IO;
    }
  }
}

static msock_err send_all(const client *c, const char *p, size_t len) {
  while (len > 0) {
    const msock_err err = wait_for(c, POLLOUT);
    if (err != MSOCK_OK) {
      return err;
    }
    const ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
      return MSOCK_ERR_IO;
    }
    if (n > 0) {
      p += n;
      len -= (size_t)n;
    }
  }
  return MSOCK_OK;
}

/* Bytes, or 0 at the end, or an error. */
static ptrdiff_t receive(client *c, uint8_t *dst, size_t cap) {
  for (;;) {
    const msock_err err = wait_for(c, POLLIN);
    if (err != MSOCK_OK) {
      return err;
    }
    const ssize_t n = recv(c->fd, dst, cap, MSG_DONTWAIT);
    if (n >= 0) {
      if (c->per_byte) {
        c->deadline_us = msock_loop_now_us() + c->timeout_us;
      }
      return n;
    }
    if (errno != EAGAIN && errno != EINTR) {
      return MSOCK_ERR_IO;
    }
  }
}

static msock_err send_request(client *c, const char *path, const char *method, const char *target,
                              const char *body) {
  char head[2048];
  msock_http1_builder b;
  const size_t body_len = body != NULL ? strlen(body) : 0;

  msock_err err = msock_egress_unix_connect(NULL, path, &c->fd);
  if (err != MSOCK_OK) {
    return errno == EACCES || errno == EPERM ? MSOCK_ERR_DENIED : err;
  }
  msock_http1_begin_request(&b, head, sizeof head, method, target);
  msock_http1_add(&b, "Host", "local-tsnode.sock");
  msock_http1_add(&b, "Connection", "close");
  if (body != NULL) {
    msock_http1_add(&b, "Content-Type", "application/json");
  }
  if (body != NULL || strcmp(method, "POST") == 0) {
    msock_http1_add_number(&b, "Content-Length", body_len);
  }
  const ptrdiff_t n = msock_http1_finish(&b);
  if (n < 0) {
    return MSOCK_ERR_INVALID;
  }
  err = send_all(c, head, (size_t)n);
  return err == MSOCK_OK && body_len > 0 ? send_all(c, body, body_len) : err;
}

/* Reads the answer; body bytes go to on_body, which says false to stop. */
static msock_err read_answer(client *c, bool is_head, int *status, msock_body_sink on_body,
                             void *ctx) {
  uint8_t *buf = malloc(MSOCK_HTTP1_HEAD_MAX);
  msock_body body;
  msock_err err = buf != NULL ? MSOCK_ERR_AGAIN : MSOCK_ERR_NOMEM;

  msock_body_init(&body, is_head, on_body, ctx);
  while (err == MSOCK_ERR_AGAIN) {
    const ptrdiff_t n = receive(c, buf, MSOCK_HTTP1_HEAD_MAX);
    if (n < 0) {
      err = (msock_err)n;
    } else {
      err = n == 0 ? msock_body_end(&body) : msock_body_feed(&body, buf, (size_t)n);
    }
  }
  *status = body.status;
  msock_body_clear(&body);
  free(buf);
  return err;
}

typedef struct collected {
  char *p;
  size_t len, cap;
  bool failed;
} collected;

static bool collect(void *ctx, const uint8_t *p, size_t len) {
  collected *c = ctx;
  if (len > MSOCK_UNIX_RESPONSE_MAX - c->len) {
    return false;
  }
  if (c->len + len + 1 > c->cap) {
    const size_t cap = 2 * (c->len + len + 1);
    char *bigger = realloc(c->p, cap);
    if (bigger == NULL) {
      c->failed = true;
      return false;
    }
    c->p = bigger;
    c->cap = cap;
  }
  memcpy(c->p + c->len, p, len);
  c->len += len;
  c->p[c->len] = '\0';
  return true;
}

msock_err msock_unix_request(const char *path, const char *method, const char *target,
                             const char *body, uint64_t timeout_us, msock_unix_response *out) {
  client c = {.fd = -1, .timeout_us = timeout_us};
  collected got = {0};
  int status = 0;

  c.deadline_us = msock_loop_now_us() + timeout_us;
  collect(&got, (const uint8_t *)"", 0); /* an empty body is an empty text */
  msock_err err = got.p == NULL ? MSOCK_ERR_NOMEM : send_request(&c, path, method, target, body);
  if (err == MSOCK_OK) {
    err = read_answer(&c, strcmp(method, "HEAD") == 0, &status, collect, &got);
  }
  if (err == MSOCK_ERR_CLOSED) { /* the sink refused */
    err = got.failed ? MSOCK_ERR_NOMEM : MSOCK_ERR_INVALID;
  }
  if (c.fd >= 0) {
    const int saved = errno;
    close(c.fd);
    errno = saved;
  }
  if (err != MSOCK_OK) {
    free(got.p);
    return err;
  }
  *out = (msock_unix_response){.status = status, .body = got.p, .body_len = got.len};
  return MSOCK_OK;
}

typedef struct splitter {
  bool (*line)(void *ctx, const char *text);
  void *ctx;
  collected part;
  bool stopped;
} splitter;

static bool split(void *ctx, const uint8_t *p, size_t len) {
  splitter *s = ctx;
  while (len > 0) {
    const uint8_t *nl = memchr(p, '\n', len);
    const size_t n = nl != NULL ? (size_t)(nl - p) : len;
    if (!collect(&s->part, p, n)) {
      return false;
    }
    if (nl == NULL) {
      return true;
    }
    s->part.len = 0;
    if (!s->line(s->ctx, s->part.p)) {
      s->stopped = true;
      return false;
    }
    s->part.p[0] = '\0';
    p += n + 1;
    len -= n + 1;
  }
  return true;
}

msock_err msock_unix_request_lines(const char *path, const char *method, const char *target,
                                   const char *body, uint64_t timeout_us,
                                   bool (*line)(void *ctx, const char *text), void *ctx,
                                   int *status) {
  client c = {.fd = -1, .timeout_us = timeout_us, .per_byte = true};
  splitter s = {.line = line, .ctx = ctx};

  c.deadline_us = msock_loop_now_us() + timeout_us;
  *status = 0;
  msock_err err = send_request(&c, path, method, target, body);
  if (err == MSOCK_OK) {
    err = read_answer(&c, strcmp(method, "HEAD") == 0, status, split, &s);
  }
  if (err == MSOCK_ERR_CLOSED) {
    err = s.stopped ? MSOCK_OK : s.part.failed ? MSOCK_ERR_NOMEM : MSOCK_ERR_INVALID;
  }
  if (err == MSOCK_OK && !s.stopped && s.part.len > 0) {
    s.line(s.ctx, s.part.p); /* a last line without its end */
  }
  if (c.fd >= 0) {
    const int saved = errno;
    close(c.fd);
    errno = saved;
  }
  free(s.part.p);
  return err;
}

void msock_unix_response_clear(msock_unix_response *r) {
  free(r->body);
  *r = (msock_unix_response){0};
}
