/* derp/server_http.h: the request heads of a relay (derp.md 1.4, 1.6): what to do with one, and the
 * answers that every DERP server gives. The core uses it on plain streams; a program that has more
 * paths, or WebSocket, reads the head itself, asks here, and goes on with msock_derp_server_start.
 */
#ifndef MSOCK_DERP_SERVER_HTTP_H
#define MSOCK_DERP_SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/http1.h"
#include "base/key.h"

#define MSOCK_DERP_HTTP_ANSWER_MAX 1024u /* holds every answer of ours, body included */

typedef enum msock_derp_http_verdict {
  MSOCK_DERP_HTTP_UPGRADE = 1, /* send the answer (none with fast start), then DERP */
  MSOCK_DERP_HTTP_WEBSOCKET,   /* /derp, "Upgrade: websocket", subprotocol "derp": no answer made */
  MSOCK_DERP_HTTP_ANSWER,      /* send the answer, then close */
  MSOCK_DERP_HTTP_OTHER        /* a path that is not DERP's: no answer made */
} msock_derp_http_verdict;

typedef struct msock_derp_http_out {
  msock_derp_http_verdict verdict;
  bool not_ideal; /* UPGRADE: the client has told that it would rather be elsewhere */
  size_t len;     /* of the answer; 0 = none */
  char answer[MSOCK_DERP_HTTP_ANSWER_MAX];
} msock_derp_http_out;

/* Paths: /derp, /derp/probe, /derp/latency-check, /generate_204, /robots.txt. */
void msock_derp_http_judge(const msock_http1_head *h, const msock_node_key *server,
                           msock_derp_http_out *out);
/* A small answer of any status: text/plain body (may be ""), "Connection: close". */
void msock_derp_http_answer(msock_derp_http_out *out, int status, const char *body);

#endif
