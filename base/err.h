/* base/err.h: the one set of error codes.
 *
 * A code says what the CALLER should do; the reason in words is logged once, where it is known. */
#ifndef MSOCK_BASE_ERR_H
#define MSOCK_BASE_ERR_H

typedef enum msock_err {
  MSOCK_OK = 0,
  MSOCK_ERR_AGAIN = -1,   /* bounded queue full or more input needed: drain or feed, then retry */
  MSOCK_ERR_NOBUF = -2,   /* caller's buffer too small; nothing was written */
  MSOCK_ERR_SHORT = -3,   /* input ends before the message does */
  MSOCK_ERR_UNKNOWN = -4, /* well formed, of a kind we do not speak: ignore */
  MSOCK_ERR_AUTH = -5,    /* did not open, or key not bound to the sender: drop and count */
  MSOCK_ERR_NOMEM = -6,   /* allocation failed or a bounded table is full */
  MSOCK_ERR_CLOSED = -7,  /* this object is finished; free it */
  MSOCK_ERR_INVALID = -8, /* malformed input: drop and count, or tell the user */
  MSOCK_ERR_DENIED = -9,  /* refused by the active profile or policy; nothing was opened */
  MSOCK_ERR_IO = -10,     /* the system refused: errno or the TLS library said why, in the log */
  MSOCK_ERR_TIMEOUT = -11 /* the deadline passed */
} msock_err;

/* Short stable English for a code ("input too short"). Never NULL; static storage. */
const char *msock_err_text(msock_err e);

#endif
