/* control/h2.c: the HTTP/2 half of a channel, over nghttp2 (control.md 2.7). */
#include <stdlib.h>
#include <string.h>

#include "control/channel_internal.h"

#define RETRY_AFTER "retry-after"

static channel_stream *find_stream(msock_channel *ch, int32_t id) {
  for (size_t i = 0; id != 0 && i < MSOCK_CHANNEL_STREAMS_MAX; i++) {
    if (ch->streams[i].id == id) {
      return &ch->streams[i];
    }
  }
  return NULL;
}

static void release(channel_stream *s) {
  free(s->body);
  memset(s, 0, sizeof *s);
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user) {
  msock_channel *ch = user;
  channel_stream *s = find_stream(ch, frame->hd.stream_id);
  (void)h2;
  (void)flags;
  if (s == NULL || frame->hd.type != NGHTTP2_HEADERS) {
    return 0;
  }
  if (name_len == 7 && memcmp(name, ":status", 7) == 0 && value_len == 3) {
    s->status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
  } else if (name_len == sizeof RETRY_AFTER - 1 && memcmp(name, RETRY_AFTER, name_len) == 0 &&
             value_len < sizeof s->retry_after) {
    memcpy(s->retry_after, value, value_len);
    s->retry_after[value_len] = '\0';
  }
  return 0;
}

static void on_goaway(msock_channel *ch) {
  if (!ch->draining) {
    ch->draining = true;
    msock_channel_queue(ch, (channel_queued){.kind = MSOCK_CHANNEL_EV_GOAWAY});
  }
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *user) {
  msock_channel *ch = user;
  channel_stream *s = find_stream(ch, frame->hd.stream_id);
  (void)h2;
  if (frame->hd.type == NGHTTP2_HEADERS && s && !s->announced && s->status >= 200) {
    channel_queued ev = {.kind = MSOCK_CHANNEL_EV_RESPONSE, .stream = s->id, .status = s->status};
    memcpy(ev.retry_after, s->retry_after, sizeof ev.retry_after);
    s->announced = true;
    msock_channel_queue(ch, ev);
  } else if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK)) {
    ch->ping_due_us = MSOCK_NEVER;
  } else if (frame->hd.type == NGHTTP2_GOAWAY) {
    on_goaway(ch);
  }
  return 0;
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *p, size_t len,
                   void *user) {
  msock_channel *ch = user;
  (void)h2;
  (void)flags;
  if (len > 0 && find_stream(ch, id)) {
    msock_channel_queue(
        ch, (channel_queued){.kind = MSOCK_CHANNEL_EV_DATA, .stream = id, .p = p, .len = len});
  }
  return 0;
}

static int on_close(nghttp2_session *h2, int32_t id, uint32_t code, void *user) {
  msock_channel *ch = user;
  channel_stream *s = find_stream(ch, id);
  (void)h2;
  if (s) {
    msock_channel_queue(ch,
                        (channel_queued){.kind = MSOCK_CHANNEL_EV_END, .stream = id, .code = code});
    release(s);
  }
  return 0;
}

static ssize_t read_body(nghttp2_session *h2, int32_t id, uint8_t *buf, size_t cap, uint32_t *flags,
                         nghttp2_data_source *source, void *user) {
  channel_stream *s = find_stream(user, id);
  (void)h2;
  (void)source;
  if (s == NULL) {
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* cancelled: nghttp2 resets the stream */
  }
  size_t n = s->body_len - s->body_at;
  n = n < cap ? n : cap;
  memcpy(buf, s->body + s->body_at, n);
  s->body_at += n;
  if (s->body_at == s->body_len) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
  }
  return (ssize_t)n;
}

bool msock_channel_h2_start(msock_channel *ch) {
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 4096},
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, MSOCK_CHANNEL_WINDOW},
      {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 16384},
  };
  nghttp2_session_callbacks *cb = NULL;
  if (nghttp2_session_callbacks_new(&cb) != 0) {
    return false;
  }
  nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
  const int rc = nghttp2_session_client_new(&ch->h2, cb, ch);
  nghttp2_session_callbacks_del(cb);
  return rc == 0 &&
         nghttp2_submit_settings(ch->h2, NGHTTP2_FLAG_NONE, settings,
                                 sizeof settings / sizeof *settings) == 0 &&
         nghttp2_session_set_local_window_size(ch->h2, NGHTTP2_FLAG_NONE, 0,
                                               (int32_t)(2 * MSOCK_CHANNEL_WINDOW)) == 0;
}

void msock_channel_h2_stop(msock_channel *ch) {
  nghttp2_session_del(ch->h2);
  ch->h2 = NULL;
  for (size_t i = 0; i < MSOCK_CHANNEL_STREAMS_MAX; i++) {
    release(&ch->streams[i]);
  }
}

void msock_channel_h2_recv(msock_channel *ch, const uint8_t *p, size_t len) {
  const ssize_t n = nghttp2_session_mem_recv(ch->h2, p, len);
  if (n < 0 || (size_t)n != len) {
    const char *text = nghttp2_strerror((int)n);
    msock_channel_fail(ch, MSOCK_CHANNEL_F_HTTP2, text, strlen(text));
  } else if (!nghttp2_session_want_read(ch->h2)) {
    /* Our own GOAWAY after a protocol error, or theirs with no stream left. */
    const char *text = ch->draining ? "the server said GOAWAY" : "HTTP/2 protocol error";
    msock_channel_fail(ch, ch->draining ? MSOCK_CHANNEL_F_EOF : MSOCK_CHANNEL_F_HTTP2, text,
                       strlen(text));
  }
}

size_t msock_channel_h2_send(msock_channel *ch, uint8_t *dst, size_t cap) {
  size_t n = 0;
  while (n < cap) {
    if (ch->pending_len == 0) {
      const ssize_t got = nghttp2_session_mem_send(ch->h2, &ch->pending);
      if (got < 0) {
        msock_channel_fail(ch, MSOCK_CHANNEL_F_HTTP2, "sending", 7);
        return 0;
      }
      if (got == 0) {
        break;
      }
      ch->pending_len = (size_t)got;
    }
    const size_t take = ch->pending_len < cap - n ? ch->pending_len : cap - n;
    memcpy(dst + n, ch->pending, take);
    ch->pending += take;
    ch->pending_len -= take;
    n += take;
  }
  return n;
}

void msock_channel_h2_ping(msock_channel *ch) {
  if (nghttp2_submit_ping(ch->h2, NGHTTP2_FLAG_NONE, NULL) != 0) {
    msock_channel_fail(ch, MSOCK_CHANNEL_F_NOMEM, "ping", 4);
  }
}

static nghttp2_nv pair(const char *name, const char *value) {
  return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                      strlen(value), NGHTTP2_NV_FLAG_NONE};
}

int32_t msock_channel_request(msock_channel *ch, const char *method, const char *path,
                              const void *body, size_t len) {
  const nghttp2_nv headers[] = {pair(":method", method), pair(":scheme", "https"),
                                pair(":authority", ch->authority), pair(":path", path),
                                pair("content-type", "application/json")};
  const nghttp2_data_provider provider = {.read_callback = read_body};
  const size_t n_headers = sizeof headers / sizeof *headers - (body ? 0 : 1);
  channel_stream *s = NULL;

  if (ch->failure != MSOCK_CHANNEL_ALIVE || ch->draining) {
    return MSOCK_ERR_CLOSED;
  }
  for (size_t i = 0; i < MSOCK_CHANNEL_STREAMS_MAX && s == NULL; i++) {
    s = ch->streams[i].id == 0 ? &ch->streams[i] : NULL;
  }
  if (s == NULL || len > MSOCK_CHANNEL_BODY_MAX) {
    return MSOCK_ERR_NOMEM;
  }
  if (body) {
    s->body = malloc(len + 1);
    if (s->body == NULL) {
      return MSOCK_ERR_NOMEM;
    }
    memcpy(s->body, body, len);
    s->body_len = len;
  }
  const int32_t id =
      nghttp2_submit_request(ch->h2, NULL, headers, n_headers, body ? &provider : NULL, NULL);
  if (id < 0) {
    release(s);
    return MSOCK_ERR_NOMEM;
  }
  s->id = id;
  return id;
}

void msock_channel_cancel(msock_channel *ch, int32_t stream) {
  channel_stream *s = find_stream(ch, stream);
  for (size_t i = ch->events_at; i < ch->events_len; i++) {
    if (ch->events[i].stream == stream && ch->events[i].kind != MSOCK_CHANNEL_EV_GOAWAY) {
      ch->events[i].stream = 0;
    }
  }
  if (s) {
    release(s);
    nghttp2_submit_rst_stream(ch->h2, NGHTTP2_FLAG_NONE, stream, NGHTTP2_CANCEL);
  }
}

size_t msock_channel_open_streams(const msock_channel *ch) {
  size_t n = 0;
  for (size_t i = 0; i < MSOCK_CHANNEL_STREAMS_MAX; i++) {
    n += ch->streams[i].id != 0;
  }
  return n;
}
