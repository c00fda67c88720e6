/* node/localapi_conn.h: one LocalAPI connection: request heads and bodies in, answers out. Pure; it
 * knows HTTP/1.1 framing and deadlines, and nothing of paths and rights (localapi.h). */
#ifndef MSOCK_NODE_LOCALAPI_CONN_H
#define MSOCK_NODE_LOCALAPI_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/http1.h"
#include "node/localapi.h"

#define MSOCK_LOCALAPI_ANSWER_HEAD_MAX 256u

typedef enum msock_localapi_stage {
  MSOCK_LOCALAPI_HEAD = 0, /* waits for a request head */
  MSOCK_LOCALAPI_BODY,     /* head accepted, waits for its body */
  MSOCK_LOCALAPI_WAIT,     /* request handed out, waits for the answer */
  MSOCK_LOCALAPI_SEND,     /* answer is being sent */
  MSOCK_LOCALAPI_STREAM,   /* answer without end: pieces are sent as they come */
  MSOCK_LOCALAPI_LINGER,   /* last answer sent: waits for the caller to close */
  MSOCK_LOCALAPI_DEAD
} msock_localapi_stage;

typedef struct msock_localapi_conn {
  msock_localapi_stage stage;
  uint32_t uid;    /* of the process that opened the socket */
  uint32_t serial; /* of the request in WAIT */
  uint64_t deadline_us;
  uint8_t *in; /* bytes of the request under way and what was sent after it; wiped on free */
  size_t in_len, in_cap;
  size_t head_len, body_len; /* of the request under way; valid from BODY on */
  bool last;                 /* close after this answer */
  bool old;                  /* HTTP/1.0: takes no chunks */
  char head[MSOCK_LOCALAPI_ANSWER_HEAD_MAX];
  size_t head_size, head_sent;
  char *out; /* answer body, or the pieces of a stream that wait; owned */
  size_t out_len, out_sent;
} msock_localapi_conn;

/* A request; borrows from the connection until its next call. body is NULL while it is not there.
 */
typedef struct msock_localapi_request {
  msock_http1_head head;
  const char *body;
  size_t body_len;
} msock_localapi_request;

typedef enum msock_localapi_event {
  MSOCK_LOCALAPI_NONE = 0,
  MSOCK_LOCALAPI_GOT_HEAD,   /* answer it, or call accept */
  MSOCK_LOCALAPI_GOT_REQUEST /* whole; the stage is WAIT: answer it once */
} msock_localapi_event;

void msock_localapi_conn_init(msock_localapi_conn *c, uint64_t now_us, uint32_t uid);
void msock_localapi_conn_clear(msock_localapi_conn *c);
/* Appends bytes; answers malformed or oversized input itself, as poll does. */
void msock_localapi_conn_feed(msock_localapi_conn *c, uint64_t now_us, const uint8_t *p,
                              size_t len);
/* Next step of what was fed. out is filled unless NONE. */
msock_localapi_event msock_localapi_conn_poll(msock_localapi_conn *c, uint64_t now_us,
                                              msock_localapi_request *out);
/* After GOT_HEAD: the body may come. */
void msock_localapi_conn_accept(msock_localapi_conn *c, const msock_localapi_request *r);
/* Answers the request of GOT_HEAD (its body is not read: the connection ends) or of WAIT. body is
 * allocated and taken, NULL with len 0 = no content. */
void msock_localapi_conn_answer(msock_localapi_conn *c, uint64_t now_us, int status,
                                const char *content_type, char *body, size_t len);
/* Answers the request of WAIT with a body that goes on until somebody closes. */
void msock_localapi_conn_stream(msock_localapi_conn *c, uint64_t now_us, const char *content_type);
/* One piece of it. A caller that has MSOCK_LOCALAPI_BACKLOG_MAX bytes not read is dropped. */
void msock_localapi_conn_push(msock_localapi_conn *c, uint64_t now_us, const char *p, size_t len);
size_t msock_localapi_conn_peek(const msock_localapi_conn *c, const uint8_t **p);
void msock_localapi_conn_consume(msock_localapi_conn *c, uint64_t now_us, size_t n);
void msock_localapi_conn_expire(msock_localapi_conn *c, uint64_t now_us);
/* {"error": message} as allocated text, NULL without memory. */
char *msock_localapi_error_body(const char *message, size_t *len);

#endif
