/* io/unix_server.h: the listening end of a Unix socket, with the peer's credentials. Bytes then go
 * through msock_stream_adopt (io/stream.h). */
#ifndef MSOCK_IO_UNIX_SERVER_H
#define MSOCK_IO_UNIX_SERVER_H

#include <stdint.h>

#include "base/err.h"
#include "io/egress.h"

#define MSOCK_UNIX_ACCEPTS_PER_TURN 16u

typedef struct msock_unix_peer {
  int64_t pid;
  uint32_t uid, gid;
} msock_unix_peer;

typedef struct msock_unix_server msock_unix_server;
/* accepted: fd is connected, non-blocking, and the receiver's to close. mode: of the socket file,
 * e.g. 0660. MSOCK_ERR_AGAIN: another daemon answers on that path. MSOCK_ERR_IO: errno. */
msock_err msock_unix_server_new(msock_egress *eg, const char *path, unsigned mode,
                                void (*accepted)(void *ctx, int fd, const msock_unix_peer *peer),
                                void *ctx, msock_unix_server **out);
void msock_unix_server_free(msock_unix_server *s); /* removes the socket file */

#endif
