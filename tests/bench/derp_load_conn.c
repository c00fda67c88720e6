#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crypto/x25519.h"
#include "derp/frame.h"
#include "derp/login.h"
#include "tests/bench/derp_load.h"

#define READ_MAX 65536
#define EVENTS 256

static const char head[] = "GET /derp HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\n"
                           "Connection: Upgrade\r\nUpgrade: DERP\r\n\r\n";

static void die(load_conn *c) {
  if (c->phase == LOAD_DEAD) {
    return;
  }
  c->loader->n_up -= c->phase == LOAD_UP;
  c->loader->n_dead++;
  c->phase = LOAD_DEAD;
  epoll_ctl(c->loader->epoll, EPOLL_CTL_DEL, c->fd, NULL);
}

static void watch(load_conn *c, bool out) {
  struct epoll_event ev = {.events = EPOLLIN | (out ? (uint32_t)EPOLLOUT : 0), .data.ptr = c};
  if (c->wants_out != out) {
    c->wants_out = out;
    epoll_ctl(c->loader->epoll, EPOLL_CTL_MOD, c->fd, &ev);
  }
}

/* --- bytes out --- */

static uint8_t *room(load_conn *c, size_t len) {
  if (c->tx_len + len > c->tx_cap) {
    const size_t cap = 2 * (c->tx_len + len);
    uint8_t *more = realloc(c->tx, cap);
    if (more == NULL) {
      perror("derp_load: memory");
      exit(1);
    }
    c->tx = more;
    c->tx_cap = cap;
  }
  return c->tx + c->tx_len;
}

/* What TLS has made goes behind what waits. */
static void collect(load_conn *c) {
  const int n = c->ssl != NULL ? (int)BIO_pending(c->out) : 0;
  if (n > 0) {
    BIO_read(c->out, room(c, (size_t)n), n);
    c->tx_len += (size_t)n;
  }
}

void load_flush(load_conn *c) {
  if (c->phase == LOAD_DEAD || c->phase == LOAD_CONNECTING) {
    return;
  }
  collect(c);
  while (c->tx_at < c->tx_len) {
    const ssize_t n = send(c->fd, c->tx + c->tx_at, c->tx_len - c->tx_at, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
      die(c);
      return;
    }
    if (n < 0) {
      watch(c, true);
      return;
    }
    c->tx_at += (size_t)n;
  }
  c->tx_at = c->tx_len = 0;
  if (c->tx_cap > READ_MAX || c->phase != LOAD_UP) { /* an idle connection keeps little */
    free(c->tx);
    c->tx = NULL;
    c->tx_cap = 0;
  }
  watch(c, false);
}

static void put(load_conn *c, const void *p, size_t len) {
  if (c->phase == LOAD_DEAD) {
    return;
  }
  if (c->ssl == NULL) {
    memcpy(room(c, len), p, len);
    c->tx_len += len;
  } else if (SSL_write(c->ssl, p, (int)len) != (int)len) {
    die(c);
  }
}

void load_send(load_conn *c, const msock_node_key *to, const uint8_t *data, size_t len) {
  uint8_t frame[MSOCK_DERP_PACKET_OVERHEAD + 16384];
  msock_derp_frame f = {.type = MSOCK_DERP_SEND_PACKET};
  f.u.packet.key = *to;
  f.u.packet.data = data;
  f.u.packet.len = len;
  const ptrdiff_t n = msock_derp_frame_encode(&f, frame, sizeof frame);
  if (n > 0) {
    put(c, frame, (size_t)n);
  }
}

/* --- bytes in --- */

static void introduce(load_conn *c, const msock_node_key *server) {
  const msock_derp_client_info info = msock_derp_client_info_default();
  uint8_t buf[MSOCK_DERP_LOGIN_FRAME_MAX];
  const ptrdiff_t n =
      msock_derp_client_info_seal(&info, &c->secret, server, c->loader->env, buf, sizeof buf);
  if (n < 0) {
    die(c);
    return;
  }
  put(c, buf, (size_t)n);
  c->phase = LOAD_LOGIN;
}

static void on_frame(load_conn *c, const uint8_t *p, msock_derp_header h) {
  const uint8_t *payload = p + MSOCK_DERP_HEADER_LEN;
  if (h.type == MSOCK_DERP_RECV_PACKET && h.len >= MSOCK_KEY_LEN) {
    c->loader->packet(c, payload + MSOCK_KEY_LEN, h.len - MSOCK_KEY_LEN);
  } else if (h.type == MSOCK_DERP_SERVER_KEY && c->phase == LOAD_KEY &&
             h.len >= MSOCK_DERP_SERVER_KEY_MIN) {
    msock_node_key server;
    memcpy(server.b, payload + MSOCK_DERP_MAGIC_LEN, sizeof server.b);
    introduce(c, &server);
  } else if (h.type == MSOCK_DERP_SERVER_INFO && c->phase == LOAD_LOGIN) {
    c->phase = LOAD_UP;
    c->loader->n_up++;
    c->loader->up(c);
  }
}

/* Gives the bytes used. */
static size_t on_bytes(load_conn *c, const uint8_t *p, size_t len) {
  size_t at = 0;
  if (c->phase == LOAD_HEAD) {
    const uint8_t *end = memmem(p, len, "\r\n\r\n", 4);
    if (end == NULL) {
      return 0;
    }
    if (len < 12 || memcmp(p + 8, " 101", 4) != 0) {
      fprintf(stderr, "derp_load: answer: %.*s\n", 32, (const char *)p);
      die(c);
      return len;
    }
    at = (size_t)(end - p) + 4;
    c->phase = LOAD_KEY;
  }
  while (len - at >= MSOCK_DERP_HEADER_LEN && c->phase != LOAD_DEAD) {
    const msock_derp_header h = msock_derp_header_read(p + at);
    if (len - at - MSOCK_DERP_HEADER_LEN < h.len) {
      break;
    }
    on_frame(c, p + at, h);
    at += MSOCK_DERP_HEADER_LEN + h.len;
  }
  return at;
}

/* Plain bytes: behind what was incomplete, or where they lie. */
static void take(load_conn *c, const uint8_t *p, size_t len) {
  if (c->rx_len > 0) {
    if (c->rx_len + len > c->rx_cap) {
      c->rx_cap = c->rx_len + len + READ_MAX;
      c->rx = realloc(c->rx, c->rx_cap);
    }
    memcpy(c->rx + c->rx_len, p, len);
    p = c->rx;
    len += c->rx_len;
  }
  const size_t used = on_bytes(c, p, len);
  const size_t left = len - used;
  if (left > 0 && c->rx == NULL) {
    c->rx_cap = left + READ_MAX;
    c->rx = malloc(c->rx_cap);
  }
  if (left > 0) {
    memmove(c->rx, p + used, left);
  }
  c->rx_len = left;
}

static void read_tls(load_conn *c) {
  static uint8_t plain[READ_MAX];
  if (c->phase == LOAD_TLS) {
    const int r = SSL_do_handshake(c->ssl);
    if (r != 1) {
      if (SSL_get_error(c->ssl, r) != SSL_ERROR_WANT_READ) {
        ERR_print_errors_fp(stderr);
        die(c);
      }
      return;
    }
    c->phase = LOAD_HEAD;
    put(c, head, sizeof head - 1);
  }
  int n;
  while (c->phase != LOAD_DEAD && (n = SSL_read(c->ssl, plain, sizeof plain)) > 0) {
    take(c, plain, (size_t)n);
  }
}

static void on_readable(load_conn *c) {
  static uint8_t raw[READ_MAX];
  const ssize_t n = recv(c->fd, raw, sizeof raw, 0);
  if (n == 0 || (n < 0 && errno != EAGAIN)) {
    die(c);
    return;
  }
  if (n < 0) {
    return;
  }
  if (c->ssl == NULL) {
    take(c, raw, (size_t)n);
  } else {
    BIO_write(c->in, raw, (int)n);
    read_tls(c);
  }
  load_flush(c);
}

static void on_connected(load_conn *c) {
  int err = 0;
  socklen_t len = sizeof err;
  getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
  if (err != 0) {
    fprintf(stderr, "derp_load: connect: %s\n", strerror(err));
    die(c);
    return;
  }
  c->phase = c->ssl != NULL ? LOAD_TLS : LOAD_HEAD;
  if (c->ssl != NULL) {
    read_tls(c);
  } else {
    put(c, head, sizeof head - 1);
  }
  load_flush(c);
}

void load_turn(loader *l, int wait_ms) {
  struct epoll_event ev[EVENTS];
  const int n = epoll_wait(l->epoll, ev, EVENTS, wait_ms);
  for (int i = 0; i < n; i++) {
    load_conn *c = ev[i].data.ptr;
    if (c->phase == LOAD_CONNECTING) {
      on_connected(c);
      continue;
    }
    if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && c->phase != LOAD_DEAD) {
      on_readable(c);
    }
    if (ev[i].events & EPOLLOUT && c->phase != LOAD_DEAD) {
      load_flush(c);
    }
  }
}

/* --- life --- */

static bool start_tls(load_conn *c) {
  c->ssl = SSL_new(c->loader->tls);
  c->in = BIO_new(BIO_s_mem());
  c->out = BIO_new(BIO_s_mem());
  if (c->ssl == NULL || c->in == NULL || c->out == NULL) {
    return false;
  }
  SSL_set_bio(c->ssl, c->in, c->out);
  SSL_set_connect_state(c->ssl);
  SSL_set_tlsext_host_name(c->ssl, "localhost");
  return true;
}

bool load_open(loader *l, load_conn *c, size_t number) {
  const int one = 1;
  *c = (load_conn){.loader = l, .number = number, .phase = LOAD_CONNECTING, .wants_out = true};
  msock_node_private_generate(l->env, &c->secret);
  c->key = msock_node_private_public(&c->secret);
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c->fd < 0 || (l->tls != NULL && !start_tls(c))) {
    perror("derp_load: socket");
    return false;
  }
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(c->fd, (const struct sockaddr *)&l->to, sizeof l->to) != 0 && errno != EINPROGRESS) {
    perror("derp_load: connect");
    return false;
  }
  struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
  return epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &ev) == 0;
}

void load_close(load_conn *c) {
  const struct linger reset = {.l_onoff = 1, .l_linger = 0};
  if (c->phase == LOAD_UP) {
    c->loader->n_up--;
  }
  setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  close(c->fd);
  SSL_free(c->ssl);
  free(c->rx);
  free(c->tx);
  *c = (load_conn){.fd = -1, .phase = LOAD_DEAD, .loader = c->loader};
}
