/* node/localapi_server.h: the LocalAPI (localapi.h) on a Unix socket. */
#ifndef MSOCK_NODE_LOCALAPI_SERVER_H
#define MSOCK_NODE_LOCALAPI_SERVER_H

#include "base/err.h"
#include "base/log.h"
#include "io/egress.h"
#include "io/loop.h"
#include "node/localapi.h"
#include "node/prefs.h"

/* Everybody on the machine may connect: the rights are judged by the peer's uid (localapi.h). */
#define MSOCK_LOCALAPI_SOCKET_MODE 0666u

typedef struct msock_localapi_server msock_localapi_server;

/* Listens on path; its directory is made (0755) when missing. Answers leave by an after-turn hook,
 * so a backend may reply at any time. The reason of a refusal is in why: MSOCK_ERR_AGAIN = another
 * daemon answers there. */
msock_err msock_localapi_server_new(msock_loop *loop, msock_egress *eg, const char *path,
                                    const msock_localapi_backend *backend, const msock_log *log,
                                    msock_localapi_server **out, char why[static MSOCK_WHY_MAX]);
void msock_localapi_server_free(msock_localapi_server *s);
/* For replies: msock_localapi_reply(msock_localapi_server_api(s), now_us, req, ...). */
msock_localapi *msock_localapi_server_api(msock_localapi_server *s);
/* Looks the operator up among the machine's users; "" or an unknown name = no operator. */
void msock_localapi_server_set_operator(msock_localapi_server *s, const char *user);

#endif
