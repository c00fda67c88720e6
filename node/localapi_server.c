#include "node/localapi_server.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/stream.h"
#include "io/unix_server.h"

#define PASSWD_BUF_MAX 4096u

typedef struct client {
  struct msock_localapi_server *server;
  msock_stream *stream; /* NULL = slot free */
  bool finished;        /* sending side was shut down */
} client;

struct msock_localapi_server {
  msock_loop *loop;
  const msock_log *log;
  msock_localapi *api;
  msock_unix_server *listener;
  msock_loop_timer timer;
  msock_loop_hook hook;
  client clients[MSOCK_LOCALAPI_CONNS_MAX]; /* by connection id */
};

static uint32_t id_of(const client *c) {
  return (uint32_t)(c - c->server->clients);
}

static void drop(client *c) {
  msock_stream_free(c->stream);
  c->stream = NULL;
  msock_localapi_closed(c->server->api, id_of(c));
}

static void on_readable(void *ctx, const uint8_t *p, size_t len) {
  client *c = ctx;
  msock_localapi_feed(c->server->api, msock_loop_now_us(), id_of(c), p, len);
}

static void on_tx_peek(void *ctx, const uint8_t **p, size_t *len) {
  client *c = ctx;
  *len = msock_localapi_tx_peek(c->server->api, id_of(c), p);
}

static void on_tx_consume(void *ctx, size_t n) {
  client *c = ctx;
  msock_localapi_tx_consume(c->server->api, msock_loop_now_us(), id_of(c), n);
}

static void on_closed(void *ctx, msock_err err, const char *reason) {
  client *c = ctx;
  (void)err;
  (void)reason; /* a caller that goes away is not news */
  drop(c);
}

static const msock_stream_handlers handlers = {
    .readable = on_readable,
    .tx_peek = on_tx_peek,
    .tx_consume = on_tx_consume,
    .closed = on_closed,
};

static void on_accepted(void *ctx, int fd, const msock_unix_peer *peer) {
  msock_localapi_server *s = ctx;
  const int id = msock_localapi_open(s->api, msock_loop_now_us(), peer->uid);
  if (id < 0) {
    close(fd);
    return;
  }
  client *c = &s->clients[id];
  *c = (client){.server = s};
  if (msock_stream_adopt(s->loop, fd, &handlers, c, &c->stream) != MSOCK_OK) {
    c->stream = NULL;
    msock_localapi_closed(s->api, (uint32_t)id);
  }
}

/* After each turn: send what was answered, close what is over, set the deadline. */
static void flush(void *ctx, uint64_t now_us) {
  msock_localapi_server *s = ctx;
  (void)now_us;
  for (int id = msock_localapi_next_ready(s->api, 0); id >= 0;
       id = msock_localapi_next_ready(s->api, (uint32_t)id + 1)) {
    client *c = &s->clients[id];
    const msock_localapi_phase phase = msock_localapi_conn_phase(s->api, (uint32_t)id);
    if (phase == MSOCK_LOCALAPI_OVER) {
      drop(c);
    } else if (phase == MSOCK_LOCALAPI_OPEN) {
      msock_stream_want_write(c->stream);
    } else if (!c->finished) {
      c->finished = true;
      msock_stream_finish(c->stream);
    }
  }
  msock_loop_set_deadline(s->loop, &s->timer, msock_localapi_next_expiry(s->api));
}

static void on_deadline(void *ctx, uint64_t now_us) {
  msock_localapi_server *s = ctx;
  msock_localapi_on_expiry(s->api, now_us);
}

/* The socket's directory, as a service manager without RuntimeDirectory leaves it to us. */
static msock_err make_parent(const char *path, char why[static MSOCK_WHY_MAX]) {
  char dir[256];
  const char *slash = strrchr(path, '/');
  const size_t len = slash != NULL ? (size_t)(slash - path) : 0;
  if (len == 0) {
    return MSOCK_OK;
  }
  if (len >= sizeof dir) {
    snprintf(why, MSOCK_WHY_MAX, "socket path is too long: %.200s...", path);
    return MSOCK_ERR_INVALID;
  }
  memcpy(dir, path, len);
  dir[len] = '\0';
  if (mkdir(dir, 0755) != 0 && errno != EEXIST) {
    snprintf(why, MSOCK_WHY_MAX, "cannot make directory %s for the socket: %s", dir,
             strerror(errno));
    return MSOCK_ERR_IO;
  }
  return MSOCK_OK;
}

static msock_err start(msock_localapi_server *s, msock_egress *eg, const char *path,
                       char why[static MSOCK_WHY_MAX]) {
  msock_err e = make_parent(path, why);
  if (e != MSOCK_OK) {
    return e;
  }
  e = msock_unix_server_new(eg, path, MSOCK_LOCALAPI_SOCKET_MODE, on_accepted, s, &s->listener);
  if (e == MSOCK_ERR_AGAIN) {
    snprintf(why, MSOCK_WHY_MAX, "another daemon is already running: it answers on %.200s", path);
  } else if (e != MSOCK_OK) {
    snprintf(why, MSOCK_WHY_MAX, "cannot listen on %.200s: %s", path,
             e == MSOCK_ERR_IO ? strerror(errno) : msock_err_text(e));
  }
  return e;
}

msock_err msock_localapi_server_new(msock_loop *loop, msock_egress *eg, const char *path,
                                    const msock_localapi_backend *backend, const msock_log *log,
                                    msock_localapi_server **out, char why[static MSOCK_WHY_MAX]) {
  msock_localapi_server *s = calloc(1, sizeof *s);
  msock_localapi *api = msock_localapi_new(backend, (uint32_t)geteuid(), log);
  if (s == NULL || api == NULL) {
    free(s);
    msock_localapi_free(api);
    snprintf(why, MSOCK_WHY_MAX, "out of memory");
    return MSOCK_ERR_NOMEM;
  }
  s->loop = loop;
  s->log = log;
  s->api = api;
  const msock_err e = start(s, eg, path, why);
  if (e != MSOCK_OK) {
    msock_localapi_free(api);
    free(s);
    return e;
  }
  msock_loop_timer_init(&s->timer, on_deadline, s);
  msock_loop_hook_add(loop, &s->hook, flush, s);
  *out = s;
  return MSOCK_OK;
}

void msock_localapi_server_free(msock_localapi_server *s) {
  if (s == NULL) {
    return;
  }
  msock_unix_server_free(s->listener);
  for (size_t i = 0; i < MSOCK_LOCALAPI_CONNS_MAX; i++) {
    msock_stream_free(s->clients[i].stream);
  }
  msock_loop_hook_remove(&s->hook);
  msock_loop_set_deadline(s->loop, &s->timer, MSOCK_NEVER);
  msock_localapi_free(s->api);
  free(s);
}

msock_localapi *msock_localapi_server_api(msock_localapi_server *s) {
  return s->api;
}

void msock_localapi_server_set_operator(msock_localapi_server *s, const char *user) {
  struct passwd entry, *found = NULL;
  char buf[PASSWD_BUF_MAX];
  const bool known =
      user[0] != '\0' && getpwnam_r(user, &entry, buf, sizeof buf, &found) == 0 && found != NULL;
  if (user[0] != '\0' && !known) {
    msock_logf(s->log, MSOCK_LOG_WARN, "localapi.operator_unknown", "user=%s", user);
  }
  msock_localapi_set_operator(s->api, known, known ? (uint32_t)entry.pw_uid : 0);
}
