/* tests/bench/derp_load.h: the load generator for DERP servers: its connections.
 *
 * One thread, one epoll. TLS runs over memory: records are made one for each message, as stock
 * clients make them, and handed to the kernel many at a time. */
#ifndef MSOCK_BENCH_DERP_LOAD_H
#define MSOCK_BENCH_DERP_LOAD_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/key.h"

#define LOAD_RX_MAX (256u << 10) /* one frame, and what was read behind it */

typedef enum load_phase {
  LOAD_CONNECTING = 1,
  LOAD_TLS,
  LOAD_HEAD,  /* the 101 is awaited */
  LOAD_KEY,   /* ServerKey */
  LOAD_LOGIN, /* ServerInfo */
  LOAD_UP,
  LOAD_DEAD
} load_phase;

typedef struct load_conn {
  struct loader *loader;
  size_t number; /* the owner's */
  int fd;
  load_phase phase;
  SSL *ssl; /* NULL: plain TCP */
  BIO *in, *out;
  msock_node_private secret;
  msock_node_key key;
  uint8_t *rx; /* NULL while nothing is incomplete */
  size_t rx_len, rx_cap;
  uint8_t *tx; /* plain bytes, or the records that the socket did not take */
  size_t tx_at, tx_len, tx_cap;
  bool wants_out; /* epoll waits for room */
} load_conn;

typedef struct loader {
  int epoll;
  struct sockaddr_in to;
  SSL_CTX *tls; /* NULL: plain TCP */
  const msock_env *env;
  /* What happens; neither may free the connection. */
  void (*up)(load_conn *c);
  void (*packet)(load_conn *c, const uint8_t *data, size_t len);
  void *ctx;
  size_t n_up, n_dead;
} loader;

/* Connects without waiting. False: no descriptor or memory (said on stderr). */
bool load_open(loader *l, load_conn *c, size_t number);
/* Forgets the connection, with a reset: no port stays in TIME_WAIT. */
void load_close(load_conn *c);
/* A SendPacket to key, as one TLS record; load_flush gives it to the kernel. */
void load_send(load_conn *c, const msock_node_key *to, const uint8_t *data, size_t len);
void load_flush(load_conn *c);
/* Serves what is ready; waits at most so long. */
void load_turn(loader *l, int wait_ms);

#endif
