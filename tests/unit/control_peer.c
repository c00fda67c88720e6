#include "tests/unit/control_peer.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http1.h"
#include "control/noise.h"

struct peer {
  const msock_env *env;
  msock_machine_private server;
  peer_early early;
  bool upgraded, failed, mute;
  char head[4096];
  size_t head_len;
  msock_machine_key client;
  uint16_t version;
  msock_control_records records;
  uint8_t rx[8192];
  size_t rx_len;
  uint8_t *tx;
  size_t tx_len;
  nghttp2_session *h2;
  peer_stream streams[PEER_STREAMS];
  size_t pings;
};

static void put(peer *p, const void *bytes, size_t len) {
  p->tx = realloc(p->tx, p->tx_len + len + 1);
  memcpy(p->tx + p->tx_len, bytes, len);
  p->tx_len += len;
}

static void seal(peer *p, const uint8_t *bytes, size_t len) {
  uint8_t frame[MSOCK_CONTROL_FRAME_MAX];
  const ptrdiff_t n = msock_control_record_seal(&p->records, bytes, len, frame);
  if (n < 0) {
    abort();
  }
  put(p, frame, (size_t)n);
}

static void seal_all(peer *p, const uint8_t *bytes, size_t len) {
  while (len > 0) {
    const size_t n = len < MSOCK_CONTROL_PLAIN_MAX ? len : MSOCK_CONTROL_PLAIN_MAX;
    seal(p, bytes, n);
    bytes += n;
    len -= n;
  }
}

static peer_stream *stream_of(peer *p, int32_t id) {
  for (size_t i = 0; i < PEER_STREAMS; i++) {
    if (p->streams[i].id == id) {
      return &p->streams[i];
    }
  }
  return NULL;
}

static void drop_stream(peer_stream *s) {
  free(s->body);
  free(s->out);
  memset(s, 0, sizeof *s);
}

static int on_begin(nghttp2_session *h2, const nghttp2_frame *f, void *user) {
  peer *p = user;
  (void)h2;
  peer_stream *s = stream_of(p, 0);
  for (size_t i = 0; s == NULL && i < PEER_STREAMS; i++) {
    if (p->streams[i].closed && p->streams[i].taken) {
      drop_stream(&p->streams[i]);
      s = &p->streams[i];
    }
  }
  if (s == NULL) {
    abort();
  }
  s->id = f->hd.stream_id;
  return 0;
}

static void copy(char *dst, size_t cap, const uint8_t *v, size_t len) {
  snprintf(dst, cap, "%.*s", (int)len, (const char *)v);
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *f, const uint8_t *n, size_t nl,
                     const uint8_t *v, size_t vl, uint8_t flags, void *user) {
  peer_stream *s = stream_of(user, f->hd.stream_id);
  (void)h2;
  (void)flags;
  if (s && nl == 7 && memcmp(n, ":method", 7) == 0) {
    copy(s->method, sizeof s->method, v, vl);
  } else if (s && nl == 5 && memcmp(n, ":path", 5) == 0) {
    copy(s->path, sizeof s->path, v, vl);
  } else if (s && nl == 12 && memcmp(n, "content-type", 12) == 0) {
    copy(s->content_type, sizeof s->content_type, v, vl);
  }
  return 0;
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *b, size_t len,
                   void *user) {
  peer_stream *s = stream_of(user, id);
  (void)h2;
  (void)flags;
  if (s) {
    s->body = realloc(s->body, s->body_len + len + 1);
    memcpy(s->body + s->body_len, b, len);
    s->body_len += len;
    s->body[s->body_len] = '\0';
  }
  return 0;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *f, void *user) {
  peer *p = user;
  peer_stream *s = stream_of(p, f->hd.stream_id);
  (void)h2;
  if (f->hd.type == NGHTTP2_PING && !(f->hd.flags & NGHTTP2_FLAG_ACK)) {
    p->pings++;
  } else if ((f->hd.type == NGHTTP2_HEADERS || f->hd.type == NGHTTP2_DATA) && s &&
             (f->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
    s->complete = true;
  }
  return 0;
}

static int on_close(nghttp2_session *h2, int32_t id, uint32_t code, void *user) {
  peer_stream *s = stream_of(user, id);
  (void)h2;
  (void)code;
  if (s) {
    s->closed = true;
  }
  return 0;
}

static ssize_t read_out(nghttp2_session *h2, int32_t id, uint8_t *buf, size_t cap, uint32_t *flags,
                        nghttp2_data_source *src, void *user) {
  peer_stream *s = stream_of(user, id);
  size_t n = s->out_len - s->out_at;
  (void)h2;
  (void)src;
  if (n == 0 && !s->out_end) {
    s->deferred = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  n = n < cap ? n : cap;
  if (n > 0) {
    memcpy(buf, s->out + s->out_at, n);
  }
  s->out_at += n;
  if (s->out_at == s->out_len && s->out_end) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
  }
  return (ssize_t)n;
}

peer *peer_new(const msock_env *env, const msock_machine_private *server, peer_early early) {
  static const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 250},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1048576},
      {9, 1}, /* Headscale sends it; a client must ignore it */
  };
  nghttp2_session_callbacks *cb;
  peer *p = calloc(1, sizeof *p);
  p->env = env;
  p->server = *server;
  p->early = early;
  nghttp2_session_callbacks_new(&cb);
  nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin);
  nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
  nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
  nghttp2_session_server_new(&p->h2, cb, p);
  nghttp2_session_callbacks_del(cb);
  nghttp2_submit_settings(p->h2, NGHTTP2_FLAG_NONE, settings, 3);
  return p;
}

void peer_free(peer *p) {
  if (p) {
    nghttp2_session_del(p->h2);
    for (size_t i = 0; i < PEER_STREAMS; i++) {
      drop_stream(&p->streams[i]);
    }
    free(p->tx);
    free(p);
  }
}

static int digit(char c) {
  static const char d[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const char *at = c ? strchr(d, c) : NULL;
  return at ? (int)(at - d) : 0;
}

static void unbase64(const char *t, size_t len, uint8_t *out, size_t cap) {
  for (size_t i = 0, n = 0; i + 3 < len; i += 4) {
    const uint32_t v = (uint32_t)digit(t[i]) << 18 | (uint32_t)digit(t[i + 1]) << 12 |
                       (uint32_t)digit(t[i + 2]) << 6 | (uint32_t)digit(t[i + 3]);
    for (int s = 16; s >= 0 && n < cap; s -= 8) {
      out[n++] = (uint8_t)(v >> s);
    }
  }
}

static void send_early(peer *p) {
  static const char json[] = "{\"nodeKeyChallenge\":\"chalpub:"
                             "f71d93c5f491b839a4f0bbddb97aab628babb80cd030bf9ca8a39393ff374244\"}";
  uint8_t all[128] = {0xff, 0xff, 0xff, 0x54, 0x53, 0, 0, 0, sizeof json - 1};
  memcpy(all + 9, json, sizeof json - 1);
  if (p->early == PEER_EARLY_ONE_RECORD) {
    seal(p, all, 9 + sizeof json - 1);
  } else if (p->early == PEER_EARLY_THREE_RECORDS) {
    seal(p, all, 5);
    seal(p, all + 5, 4);
    seal(p, all + 9, sizeof json - 1);
  }
}

static size_t upgrade(peer *p, const uint8_t *bytes, size_t len) {
  static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\n"
                               "Upgrade: tailscale-control-protocol\r\n"
                               "Connection: upgrade\r\n\r\n";
  uint8_t init[MSOCK_CONTROL_INITIATION_LEN], resp[MSOCK_CONTROL_RESPONSE_LEN], eph[32];
  msock_http1_head h;
  const size_t before = p->head_len;
  const size_t room = sizeof p->head - 1 - before;
  const size_t take = len < room ? len : room;
  memcpy(p->head + before, bytes, take);
  p->head_len += take;
  const ptrdiff_t n = msock_http1_parse_request((const uint8_t *)p->head, p->head_len, &h);
  if (n <= 0) {
    return take;
  }
  const msock_http1_header *hs = msock_http1_find(&h, "X-Tailscale-Handshake");
  unbase64(hs->value.p, hs->value.len, init, sizeof init);
  p->head[n] = '\0';
  put(p, answer, sizeof answer - 1);
  p->env->random(p->env->ctx, eph, sizeof eph);
  if (msock_control_respond(&p->server, eph, init, resp, &p->version, &p->client, &p->records) !=
      MSOCK_OK) {
    p->failed = true;
    return take;
  }
  put(p, resp, sizeof resp);
  send_early(p);
  p->upgraded = true;
  return (size_t)n - before;
}

bool peer_feed(peer *p, const uint8_t *bytes, size_t len) {
  uint8_t plain[MSOCK_CONTROL_PLAIN_MAX];
  while (len > 0 && !p->failed) {
    if (!p->upgraded) {
      const size_t n = upgrade(p, bytes, len);
      bytes += n;
      len -= n;
      continue;
    }
    p->rx[p->rx_len++] = *bytes++;
    len--;
    if (p->rx_len < MSOCK_CONTROL_MSG_HEADER_LEN) {
      continue;
    }
    const ptrdiff_t size = msock_control_record_size(&p->records, p->rx);
    if (size < 0) {
      p->failed = true;
    } else if ((size_t)size == p->rx_len) {
      p->rx_len = 0;
      const ptrdiff_t n = msock_control_record_open(&p->records, p->rx, (size_t)size, plain);
      p->failed = n < 0 || (n > 0 && nghttp2_session_mem_recv(p->h2, plain, (size_t)n) != n);
    }
  }
  return !p->failed;
}

uint8_t *peer_tx(peer *p, size_t *len) {
  const uint8_t *b;
  ssize_t n;
  while (p->upgraded && !p->failed && (n = nghttp2_session_mem_send(p->h2, &b)) > 0) {
    seal_all(p, b, (size_t)n);
  }
  uint8_t *out = p->tx;
  *len = p->tx_len;
  p->tx = NULL;
  p->tx_len = 0;
  if (p->mute) {
    *len = 0;
  }
  return out;
}

const char *peer_head(const peer *p) {
  return p->head;
}

const msock_machine_key *peer_client(const peer *p) {
  return &p->client;
}

uint16_t peer_version(const peer *p) {
  return p->version;
}

peer_stream *peer_take(peer *p) {
  peer_stream *first = NULL;
  for (size_t i = 0; i < PEER_STREAMS; i++) {
    peer_stream *s = &p->streams[i];
    if (s->id != 0 && s->complete && !s->taken && (first == NULL || s->id < first->id)) {
      first = s;
    }
  }
  if (first) {
    first->taken = true;
  }
  return first;
}

static void append(peer_stream *s, const void *body, size_t len, bool end) {
  s->out = realloc(s->out, s->out_len + len + 1);
  if (len > 0) {
    memcpy(s->out + s->out_len, body, len);
  }
  s->out_len += len;
  s->out_end = s->out_end || end;
}

void peer_answer(peer *p, peer_stream *s, int status, const char *retry_after, const void *body,
                 size_t len, bool end) {
  char text[8];
  snprintf(text, sizeof text, "%d", status);
  nghttp2_nv nv[2] = {{(uint8_t *)":status", (uint8_t *)text, 7, 3, 0},
                      {(uint8_t *)"retry-after", (uint8_t *)(uintptr_t)retry_after, 11,
                       retry_after ? strlen(retry_after) : 0, 0}};
  const nghttp2_data_provider dp = {.read_callback = read_out};
  append(s, body, len, end);
  nghttp2_submit_response(p->h2, s->id, nv, retry_after ? 2 : 1, &dp);
}

void peer_write(peer *p, peer_stream *s, const void *body, size_t len, bool end) {
  append(s, body, len, end);
  if (s->deferred) {
    s->deferred = false;
    nghttp2_session_resume_data(p->h2, s->id);
  }
}

void peer_reset(peer *p, peer_stream *s) {
  nghttp2_submit_rst_stream(p->h2, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_INTERNAL_ERROR);
}

void peer_goaway(peer *p) {
  nghttp2_submit_goaway(p->h2, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(p->h2),
                        NGHTTP2_NO_ERROR, NULL, 0);
}

void peer_raw_record(peer *p, const void *bytes, size_t len) {
  const uint8_t *b;
  ssize_t n;
  while ((n = nghttp2_session_mem_send(p->h2, &b)) > 0) {
    seal_all(p, b, (size_t)n);
  }
  seal(p, bytes, len);
}

void peer_early_head(peer *p, const void *bytes, size_t len) {
  seal(p, bytes, len);
  p->upgraded = false; /* no HTTP/2 from here on */
}

size_t peer_pings(const peer *p) {
  return p->pings;
}

void peer_mute(peer *p, bool mute) {
  p->mute = mute;
}
