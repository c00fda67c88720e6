/* io/unix_client.h: one blocking request over a Unix socket, for the command line. */
#ifndef MSOCK_IO_UNIX_CLIENT_H
#define MSOCK_IO_UNIX_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MSOCK_UNIX_RESPONSE_MAX (8u << 20)

typedef struct msock_unix_response {
  int status;
  char *body; /* NUL-terminated; free with msock_unix_response_clear */
  size_t body_len;
} msock_unix_response;

/* Sends "METHOD target" with an optional JSON body and waits for the whole answer.
 *   MSOCK_ERR_IO        nobody listens on path, or the connection broke (errno kept)
 *   MSOCK_ERR_DENIED    no right to open the socket
 *   MSOCK_ERR_TIMEOUT, MSOCK_ERR_INVALID (not an HTTP answer, or over the bound), MSOCK_ERR_NOMEM
 */
msock_err msock_unix_request(const char *path, const char *method, const char *target,
                             const char *body, uint64_t timeout_us, msock_unix_response *out);
/* The same, but each complete line of the answer's body is given to line as it comes (watch
 * commands); returning false ends the request. timeout_us counts between bytes. */
msock_err msock_unix_request_lines(const char *path, const char *method, const char *target,
                                   const char *body, uint64_t timeout_us,
                                   bool (*line)(void *ctx, const char *text), void *ctx,
                                   int *status);
void msock_unix_response_clear(msock_unix_response *r);

#endif
