/* control/server_h2.c: the HTTP/2 half of a server connection, over nghttp2 (control.md 2.7, 7). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/server_conn_internal.h"

static server_stream *find(msock_server_conn *c, int32_t id) {
  for (size_t i = 0; id != 0 && i < MSOCK_SERVER_STREAMS_MAX; i++) {
    if (c->streams[i].id == id) {
      return &c->streams[i];
    }
  }
  return NULL;
}

static void release(msock_server_conn *c, server_stream *s) {
  if (s->id != 0) {
    c->n_streams--;
    c->bodies -= s->body_len;
  }
  free(s->body);
  free(s->out);
  memset(s, 0, sizeof *s);
}

static int on_begin_headers(nghttp2_session *h2, const nghttp2_frame *frame, void *user) {
  msock_server_conn *c = user;
  (void)h2;
  if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
    return 0;
  }
  for (size_t i = 0; i < MSOCK_SERVER_STREAMS_MAX; i++) {
    if (c->streams[i].id == 0) {
      c->streams[i].id = frame->hd.stream_id;
      c->n_streams++;
      return 0;
    }
  }
  return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* RST_STREAM */
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user) {
  server_stream *s = find(user, frame->hd.stream_id);
  (void)h2;
  (void)flags;
  if (s == NULL) {
    return 0;
  }
  if (name_len == 7 && memcmp(name, ":method", 7) == 0 && value_len < sizeof s->method) {
    memcpy(s->method, value, value_len);
  } else if (name_len == 5 && memcmp(name, ":path", 5) == 0) {
    s->path_too_long = value_len >= sizeof s->path;
    memcpy(s->path, value, s->path_too_long ? 0 : value_len);
  }
  return 0;
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *p, size_t len,
                   void *user) {
  msock_server_conn *c = user;
  server_stream *s = find(c, id);
  (void)h2;
  (void)flags;
  if (s == NULL || s->body_too_long) {
    return 0;
  }
  if (s->body_len + len > MSOCK_SERVER_BODY_MAX || c->bodies + len > MSOCK_SERVER_BODIES_MAX) {
    s->body_too_long = true;
    return 0;
  }
  if (s->body_len + len > s->body_cap) {
    const size_t cap = (s->body_len + len) * 2;
    uint8_t *body = realloc(s->body, cap);
    if (body == NULL) {
      return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    s->body = body;
    s->body_cap = cap;
  }
  memcpy(s->body + s->body_len, p, len);
  s->body_len += len;
  c->bodies += len;
  return 0;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *user) {
  msock_server_conn *c = user;
  server_stream *s = find(c, frame->hd.stream_id);
  (void)h2;
  if (s == NULL || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
      !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
    return 0;
  }
  if (s->path_too_long) {
    msock_server_conn_respond(c, s->id, 404, "not found\n", 10);
  } else if (s->body_too_long) {
    msock_server_conn_respond(c, s->id, 413, "request body too large\n", 23);
  } else {
    msock_server_event ev = {.kind = MSOCK_SERVER_EV_REQUEST};
    ev.request.stream = s->id;
    memcpy(ev.request.method, s->method, sizeof s->method);
    memcpy(ev.request.path, s->path, sizeof s->path);
    ev.request.body = s->body;
    ev.request.body_len = s->body_len;
    msock_server_queue(c, ev);
  }
  return 0;
}

static int on_close(nghttp2_session *h2, int32_t id, uint32_t code, void *user) {
  msock_server_conn *c = user;
  server_stream *s = find(c, id);
  (void)h2;
  (void)code;
  if (s) {
    msock_server_event ev = {.kind = MSOCK_SERVER_EV_STREAM_CLOSED};
    ev.request.stream = id;
    for (size_t i = 0; i < c->n_events; i++) { /* its body goes now: no request may point there */
      msock_server_event *q = &c->events[(c->events_at + i) % SERVER_EVENTS_MAX];
      if (q->kind == MSOCK_SERVER_EV_REQUEST && q->request.stream == id) {
        *q = ev;
      }
    }
    release(c, s);
    msock_server_queue(c, ev);
    msock_server_watch_idle(c);
  }
  return 0;
}

bool msock_server_h2_start(msock_server_conn *c) {
  static const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, MSOCK_SERVER_STREAMS_MAX},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, MSOCK_SERVER_BODY_MAX},
  };
  nghttp2_session_callbacks *cb = NULL;
  if (nghttp2_session_callbacks_new(&cb) != 0) {
    return false;
  }
  nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
  nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
  const int rc = nghttp2_session_server_new(&c->h2, cb, c);
  nghttp2_session_callbacks_del(cb);
  return rc == 0 && nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, settings,
                                            sizeof settings / sizeof *settings) == 0;
}

bool msock_server_h2_is_over(const msock_server_conn *c) {
  return c->h2 && c->pending_len == 0 && !nghttp2_session_want_read(c->h2) &&
         !nghttp2_session_want_write(c->h2);
}

void msock_server_h2_stop(msock_server_conn *c) {
  nghttp2_session_del(c->h2);
  c->h2 = NULL;
  for (size_t i = 0; i < MSOCK_SERVER_STREAMS_MAX; i++) {
    release(c, &c->streams[i]);
  }
}

void msock_server_h2_recv(msock_server_conn *c, const uint8_t *p, size_t len) {
  if (nghttp2_session_mem_recv(c->h2, p, len) != (ssize_t)len) {
    c->dead = true;
  }
}

size_t msock_server_h2_send(msock_server_conn *c, uint8_t *dst, size_t cap) {
  size_t total = 0;
  while (total < cap) {
    if (c->pending_len == 0) {
      const ssize_t n = nghttp2_session_mem_send(c->h2, &c->pending);
      if (n <= 0) {
        c->dead |= n < 0;
        break;
      }
      c->pending_len = (size_t)n;
    }
    const size_t n = c->pending_len < cap - total ? c->pending_len : cap - total;
    memcpy(dst + total, c->pending, n);
    c->pending += n;
    c->pending_len -= n;
    total += n;
  }
  return total;
}

/* --- answers --- */

static ssize_t read_answer(nghttp2_session *h2, int32_t id, uint8_t *buf, size_t cap,
                           uint32_t *flags, nghttp2_data_source *source, void *user) {
  server_stream *s = find(user, id);
  (void)h2;
  (void)source;
  if (s == NULL) {
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  const size_t left = s->out_len - s->out_at;
  const size_t n = left < cap ? left : cap;
  if (n > 0) {
    memcpy(buf, s->out + s->out_at, n);
    s->out_at += n;
  }
  if (s->out_at == s->out_len) {
    s->out_at = s->out_len = 0;
    if (s->ended) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (n == 0) {
      return NGHTTP2_ERR_DEFERRED;
    }
  }
  return (ssize_t)n;
}

static msock_err append(msock_server_conn *c, server_stream *s, const void *p, size_t len) {
  if (s->out_len - s->out_at + len > MSOCK_SERVER_QUEUE_MAX) { /* a reader that does not read */
    nghttp2_submit_rst_stream(c->h2, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_ENHANCE_YOUR_CALM);
    return MSOCK_ERR_AGAIN;
  }
  if (s->out && s->out_len + len > s->out_cap) {
    memmove(s->out, s->out + s->out_at, s->out_len - s->out_at);
    s->out_len -= s->out_at;
    s->out_at = 0;
  }
  if (s->out_len + len > s->out_cap) {
    const size_t cap = s->out_len + len;
    uint8_t *out = realloc(s->out, cap);
    if (out == NULL) {
      return MSOCK_ERR_NOMEM;
    }
    s->out = out;
    s->out_cap = cap;
  }
  if (len > 0) { /* an empty answer has no buffer to add to */
    memcpy(s->out + s->out_len, p, len);
    s->out_len += len;
  }
  return MSOCK_OK;
}

static msock_err start(msock_server_conn *c, server_stream *s, int status) {
  char text[4];
  snprintf(text, sizeof text, "%03u", (unsigned)status % 1000u);
  const nghttp2_nv headers[] = {
      {(uint8_t *)":status", (uint8_t *)text, 7, 3, NGHTTP2_NV_FLAG_NONE},
      {(uint8_t *)"content-type", (uint8_t *)"application/json", 12, 16, NGHTTP2_NV_FLAG_NONE},
  };
  const nghttp2_data_provider body = {.read_callback = read_answer};
  if (s->answered) {
    return MSOCK_ERR_CLOSED;
  }
  s->answered = true;
  return nghttp2_submit_response(c->h2, s->id, headers, 2, &body) == 0 ? MSOCK_OK : MSOCK_ERR_NOMEM;
}

msock_err msock_server_conn_begin(msock_server_conn *c, int32_t stream, int status) {
  server_stream *s = find(c, stream);
  return s ? start(c, s, status) : MSOCK_ERR_CLOSED;
}

msock_err msock_server_conn_write(msock_server_conn *c, int32_t stream, const void *p, size_t len) {
  server_stream *s = find(c, stream);
  if (s == NULL || s->ended) {
    return MSOCK_ERR_CLOSED;
  }
  const msock_err e = append(c, s, p, len);
  if (e == MSOCK_OK) {
    nghttp2_session_resume_data(c->h2, stream);
  }
  return e;
}

msock_err msock_server_conn_respond(msock_server_conn *c, int32_t stream, int status,
                                    const void *body, size_t len) {
  server_stream *s = find(c, stream);
  if (s == NULL) {
    return MSOCK_ERR_CLOSED;
  }
  const msock_err e = append(c, s, body, len);
  s->ended = true;
  return e == MSOCK_OK ? start(c, s, status) : e;
}

void msock_server_conn_end(msock_server_conn *c, int32_t stream) {
  server_stream *s = find(c, stream);
  if (s && s->answered && !s->ended) {
    s->ended = true;
    nghttp2_session_resume_data(c->h2, stream);
  }
}
