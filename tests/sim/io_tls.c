/* io/tls.h and io/tls_server.h without cryptography: the flights of a TLS 1.2 handshake in number
 * and size, a certificate that is 32 bytes and can be pinned, then the bytes in the clear. Chains
 * and names are not modelled: without a pin the peer is believed. */
#include "io/tls.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/hex.h"
#include "crypto/blake2s.h"
#include "io/tls_server.h"
#include "tests/sim/io_internal.h"

#define HANDSHAKE_BYTE 0x16u /* TLS's record type of handshake messages */
#define CERT_AT 16u          /* where the certificate lies in the server's first flight */
#define FLIGHTS 4u

/* RFC 5246 7.3, sizes as a P-256 certificate makes them: client, server, client, server. */
static const uint16_t flight_bytes[FLIGHTS] = {240, 1200, 130, 56};

struct msock_tls_identity {
  uint8_t cert[32];
  unsigned refs;
};

struct msock_tls_roots {
  char ca_file[1];
};

struct msock_tls {
  int fd;
  bool is_server;
  unsigned flight; /* under way; FLIGHTS: done */
  uint8_t bytes[1200];
  size_t n; /* of them sent or received */
  uint8_t cert[32];
  bool pinned;
  bool wants_write, bad_pin_text;
  msock_tls_info info;
  const char *why;
};

/* --- roots --- */

msock_tls_roots *msock_tls_roots_new(const char *ca_file) {
  (void)ca_file;
  return calloc(1, sizeof(msock_tls_roots));
}

void msock_tls_roots_free(msock_tls_roots *r) {
  free(r);
}

const char *msock_tls_roots_system_path(const msock_tls_roots *r) {
  (void)r;
  return "";
}

const char *msock_tls_roots_ca_file(const msock_tls_roots *r) {
  (void)r;
  return NULL;
}

/* --- identities --- */

msock_err msock_tls_identity_from_pem(const char *pem, msock_tls_identity **out,
                                      char why[static MSOCK_TLS_WHY_MAX]) {
  msock_tls_identity *id = calloc(1, sizeof *id);
  (void)why;
  assert(id != NULL);
  id->refs = 1;
  msock_blake2s(id->cert, &(msock_bytes){pem, strlen(pem)}, 1);
  *out = id;
  return MSOCK_OK;
}

msock_err msock_tls_identity_self_signed(const char *host, uint64_t wall_us,
                                         msock_tls_identity **out,
                                         char why[static MSOCK_TLS_WHY_MAX]) {
  msock_tls_identity *id = calloc(1, sizeof *id);
  sim_process *p = sim_process_current();
  (void)host;
  (void)wall_us;
  (void)why;
  assert(id != NULL);
  id->refs = 1;
  sim_rng_fill(&p->rng, id->cert, sizeof id->cert);
  *out = id;
  return MSOCK_OK;
}

msock_err msock_tls_identity_add_meta(msock_tls_identity *id, const uint8_t key[static 32],
                                      uint64_t wall_us) {
  (void)id;
  (void)key;
  (void)wall_us;
  return MSOCK_ERR_UNKNOWN; /* TLS 1.2 shows none */
}

void msock_tls_identity_free(msock_tls_identity *id) {
  if (id != NULL && --id->refs == 0) {
    free(id);
  }
}

char *msock_tls_identity_pin(const msock_tls_identity *id,
                             char buf[static MSOCK_TLS_PIN_TEXT_MAX]) {
  const size_t prefix = strlen(MSOCK_TLS_PIN_PREFIX);
  memcpy(buf, MSOCK_TLS_PIN_PREFIX, prefix);
  for (size_t i = 0; i < sizeof id->cert; i++) {
    snprintf(buf + prefix + 2 * i, 3, "%02x", id->cert[i]);
  }
  return buf;
}

/* --- connections --- */

static msock_tls *make(int fd, bool is_server) {
  msock_tls *t = calloc(1, sizeof *t);
  assert(t != NULL);
  t->fd = fd;
  t->is_server = is_server;
  t->why = "";
  t->info = (msock_tls_info){.version = "TLSv1.2", .cipher = "TLS_SIMULATED"};
  return t;
}

msock_err msock_tls_new(const msock_tls_config *config, int fd, msock_tls **out) {
  const char *name = config->cert_name != NULL ? config->cert_name : "";
  const size_t prefix = strlen(MSOCK_TLS_PIN_PREFIX);
  *out = make(fd, false);
  if (strncmp(name, MSOCK_TLS_PIN_PREFIX, prefix) == 0) {
    (*out)->pinned = true;
    if (strlen(name + prefix) != 64 || !msock_hex_decode(name + prefix, (*out)->cert, 32)) {
      (*out)->why = "bad pin";
      return MSOCK_ERR_INVALID;
    }
  }
  return MSOCK_OK;
}

msock_err msock_tls_accept(msock_tls_identity *id, int fd, msock_tls **out) {
  *out = make(fd, true);
  memcpy((*out)->cert, id->cert, sizeof id->cert);
  return MSOCK_OK;
}

void msock_tls_free(msock_tls *t) {
  free(t);
}

static msock_err fail(msock_tls *t, msock_err err, const char *why) {
  t->why = why;
  return err;
}

static msock_err send_flight(msock_tls *t) {
  const size_t size = flight_bytes[t->flight];
  if (t->n == 0) {
    memset(t->bytes, 0, size);
    t->bytes[0] = HANDSHAKE_BYTE;
    if (t->flight == 1) {
      memcpy(t->bytes + CERT_AT, t->cert, sizeof t->cert);
    }
  }
  const ssize_t n = send(t->fd, t->bytes + t->n, size - t->n, MSG_NOSIGNAL);
  if (n < 0 && errno == EAGAIN) {
    t->wants_write = true;
    return MSOCK_ERR_AGAIN;
  }
  if (n < 0) {
    return fail(t, MSOCK_ERR_IO, strerror(errno));
  }
  t->n += (size_t)n;
  return t->n < size ? MSOCK_ERR_AGAIN : MSOCK_OK;
}

static msock_err receive_flight(msock_tls *t) {
  const size_t size = flight_bytes[t->flight];
  const ssize_t n = recv(t->fd, t->bytes + t->n, size - t->n, 0);
  t->wants_write = false;
  if (n == 0) {
    return fail(t, MSOCK_ERR_CLOSED, "the peer closed the connection in the handshake");
  }
  if (n < 0) {
    return errno == EAGAIN ? MSOCK_ERR_AGAIN : fail(t, MSOCK_ERR_IO, strerror(errno));
  }
  t->n += (size_t)n;
  if (t->bytes[0] != HANDSHAKE_BYTE) {
    return fail(t, MSOCK_ERR_IO, "the peer does not speak TLS");
  }
  if (t->n < size) {
    return MSOCK_ERR_AGAIN;
  }
  if (t->flight == 1 && t->pinned && memcmp(t->bytes + CERT_AT, t->cert, sizeof t->cert) != 0) {
    return fail(t, MSOCK_ERR_AUTH, "the certificate is not the pinned one");
  }
  return MSOCK_OK;
}

msock_err msock_tls_handshake(msock_tls *t) {
  while (t->flight < FLIGHTS) {
    const bool ours = (t->flight % 2 == 1) == t->is_server;
    const msock_err e = ours ? send_flight(t) : receive_flight(t);
    if (e != MSOCK_OK) {
      return e;
    }
    t->flight++;
    t->n = 0;
  }
  t->wants_write = false;
  return MSOCK_OK;
}

ptrdiff_t msock_tls_read(msock_tls *t, uint8_t *dst, size_t cap) {
  const ssize_t n = recv(t->fd, dst, cap, 0);
  t->wants_write = false;
  if (n > 0) {
    return n;
  }
  if (n == 0) {
    return MSOCK_ERR_CLOSED;
  }
  return errno == EAGAIN ? MSOCK_ERR_AGAIN : fail(t, MSOCK_ERR_IO, strerror(errno));
}

ptrdiff_t msock_tls_write(msock_tls *t, const uint8_t *src, size_t len) {
  const ssize_t n = send(t->fd, src, len, MSG_NOSIGNAL);
  if (n >= 0) {
    t->wants_write = false;
    return n;
  }
  t->wants_write = errno == EAGAIN;
  return errno == EAGAIN ? MSOCK_ERR_AGAIN : fail(t, MSOCK_ERR_IO, strerror(errno));
}

bool msock_tls_wants_write(const msock_tls *t) {
  return t->wants_write;
}

bool msock_tls_pending(const msock_tls *t) {
  (void)t;
  return false;
}

const msock_tls_info *msock_tls_get_info(const msock_tls *t) {
  return &t->info;
}

const char *msock_tls_error_text(const msock_tls *t) {
  return t->why;
}

const char *msock_tls_backend(void) {
  return "simulated TLS 1.2";
}
