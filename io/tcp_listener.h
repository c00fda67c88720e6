/* io/tcp_listener.h: the listening end of a TCP port on the loop. Bytes then go through
 * msock_stream_adopt (io/stream.h). */
#ifndef MSOCK_IO_TCP_LISTENER_H
#define MSOCK_IO_TCP_LISTENER_H

#include "base/addr.h"
#include "base/err.h"
#include "io/egress.h"

#define MSOCK_TCP_ACCEPTS_PER_TURN 16u

typedef struct msock_tcp_listener msock_tcp_listener;
/* Port 0 = ephemeral. accepted: fd is connected, non-blocking, TCP_NODELAY, and the receiver's to
 * close. Errors as msock_egress_tcp_listen; errno tells why on MSOCK_ERR_IO. */
msock_err msock_tcp_listener_new(msock_egress *eg, msock_purpose p, const msock_addr *on,
                                 void (*accepted)(void *ctx, int fd, const msock_addr *peer),
                                 void *ctx, msock_tcp_listener **out);
void msock_tcp_listener_free(msock_tcp_listener *l); /* NULL is fine */
msock_addr msock_tcp_listener_addr(const msock_tcp_listener *l);

#endif
