/* io/stream.h: a TCP byte stream on the loop, with or without TLS: DERP, control, HTTP, LocalAPI.
 *
 * Pull model for writing: when the socket takes bytes, the owner is asked tx_peek and told
 * tx_consume(n) for what was taken. After it has produced output the owner calls
 * msock_stream_want_write. Reading: chunks from one buffer that all streams of a loop share.
 * The owner may free the stream in any callback. */
#ifndef MSOCK_IO_STREAM_H
#define MSOCK_IO_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "io/egress.h"
#include "io/tcp.h"
#include "io/tls.h"
#include "io/tls_server.h"

#define MSOCK_STREAM_CHUNK 16384u /* bytes per readable call at most: one TLS record */

typedef struct msock_stream_info {
  msock_addr local, remote;  /* family 0 on a Unix socket */
  const msock_tls_info *tls; /* NULL: plain */
  uint64_t tcp_us;           /* time the TCP dial took, look-up included */
  uint64_t tls_us;           /* time the TLS handshake took; 0 when plain */
} msock_stream_info;

/* All get the owner's ctx. */
typedef struct msock_stream_handlers {
  void (*up)(void *ctx, const msock_stream_info *info);      /* connected; may be NULL */
  void (*readable)(void *ctx, const uint8_t *p, size_t len); /* p is valid for the call */
  /* Bytes to send: *p, *len (0 = nothing now). They stay as they are until consumed. */
  void (*tx_peek)(void *ctx, const uint8_t **p, size_t *len);
  void (*tx_consume)(void *ctx, size_t n);
  /* The end, once; MSOCK_ERR_CLOSED: the peer closed in order. reason: text for the user. No other
   * callback follows; the owner still frees the stream. */
  void (*closed)(void *ctx, msock_err err, const char *reason);
} msock_stream_handlers;

typedef struct msock_stream_config { /* copied; what tls points to is borrowed until free */
  msock_tcp_target target;
  bool tls;
  msock_tls_config tls_config; /* host, cert_name, alpn: copied too */
  uint64_t budget_us;          /* TCP and TLS together; MSOCK_ERR_TIMEOUT after */
} msock_stream_config;

typedef struct msock_stream msock_stream;
/* Errors as msock_tcp_dial_new; nothing is called before a later turn. */
msock_err msock_stream_dial(msock_egress *eg, const msock_stream_config *config,
                            const msock_stream_handlers *handlers, void *ctx, msock_stream **out);
/* A plain stream over a connected descriptor (accepted, or a Unix socket), which it owns from now
 * on, also on error. No up callback. Not accounted in the ledger. */
msock_err msock_stream_adopt(msock_loop *loop, int fd, const msock_stream_handlers *handlers,
                             void *ctx, msock_stream **out);
/* The same with TLS, as the server: up comes after the handshake, which has budget_us. Keeps a
 * reference to id. */
msock_err msock_stream_accept_tls(msock_loop *loop, int fd, msock_tls_identity *id,
                                  uint64_t budget_us, const msock_stream_handlers *handlers,
                                  void *ctx, msock_stream **out);
/* Says that tx_peek has bytes. Cheap; may be called at any time, also before up. */
void msock_stream_want_write(msock_stream *s);
/* The same, and writes it now if the socket takes it: at the end of a turn, for owners that gather
 * what goes out. The owner may be told closed inside the call. */
void msock_stream_flush(msock_stream *s);
/* Stop and resume reading: back-pressure. */
void msock_stream_pause_read(msock_stream *s, bool pause);
/* After the output is drained: shut down the sending side, keep reading until the peer's end. */
void msock_stream_finish(msock_stream *s);
/* Closes at once, without a callback. NULL is fine. */
void msock_stream_free(msock_stream *s);

#endif
