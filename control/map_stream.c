#include "control/map_stream.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define LENGTH_BYTES 4u
#define FRAME_HEAD 18u             /* RFC 8878 3.1.1.1: magic 4, descriptor 1 and up to 13 */
#define DESCRIPTOR_AT 4u           /* in the frame */
#define SINGLE_SEGMENT 0x20u       /* bit of the descriptor: the window is the whole content */
#define CHECKSUM 0x04u             /* bit of the descriptor: the content's hash ends the frame */
#define WINDOW_MAX_DESCRIPTOR 0x68 /* RFC 8878 3.1.1.1.2: exponent 13, 2^23 bytes */
#define CHUNK 16384u               /* decoded bytes handed to the walk at once */

struct msock_map_stream {
  const msock_env *env;
  msock_netmap *nm;
  msock_netmap_update *update;
  ZSTD_DCtx *zstd;
  bool compressed;
  bool started;
  msock_map_failure failed;
  uint32_t max_compressed, max_decoded;

  uint8_t head[LENGTH_BYTES];
  size_t head_len;
  uint32_t length;  /* of the message */
  uint32_t left;    /* bytes of it still to come */
  uint32_t decoded; /* bytes decoded so far */
  bool frame_done;
  uint8_t frame_head[FRAME_HEAD]; /* gathered, to be looked at before zstd sees it */
  size_t frame_head_len;
  msock_map_notice notice; /* of the message applied last */
  uint8_t chunk[CHUNK];
};

const char *msock_map_failure_text(msock_map_failure f) {
  switch (f) {
  case MSOCK_MAP_FINE:
    return "ok";
  case MSOCK_MAP_F_TOO_LONG:
    return "map message over the length limit";
  case MSOCK_MAP_F_BOMB:
    return "map message decodes to more than the limit";
  case MSOCK_MAP_F_ZSTD:
    return "map message is not one valid zstd frame";
  case MSOCK_MAP_F_JSON:
    return "map message is not valid JSON, or self is malformed";
  case MSOCK_MAP_F_NO_NODE:
    return "first map message has no Node";
  case MSOCK_MAP_F_NOMEM:
    return "out of memory while reading the map";
  }
  return "unknown";
}

msock_map_stream *msock_map_stream_new(const msock_env *env, msock_netmap *nm, bool compressed) {
  msock_map_stream *s = calloc(1, sizeof *s);
  if (s == NULL) {
    return NULL;
  }
  s->env = env;
  s->nm = nm;
  s->compressed = compressed;
  s->max_compressed = MSOCK_MAP_COMPRESSED_MAX;
  s->max_decoded = MSOCK_MAP_DECODED_MAX;
  s->update = msock_netmap_update_new(env, nm);
  if (s->update == NULL) {
    free(s);
    return NULL;
  }
  return s;
}

void msock_map_stream_free(msock_map_stream *s) {
  if (s) {
    msock_netmap_update_free(s->update);
    ZSTD_freeDCtx(s->zstd);
    free(s);
  }
}

void msock_map_stream_set_limits(msock_map_stream *s, uint32_t compressed, uint32_t decoded) {
  s->max_compressed = compressed;
  s->max_decoded = decoded;
}

bool msock_map_stream_started(const msock_map_stream *s) {
  return s->started;
}

size_t msock_map_stream_memory(const msock_map_stream *s) {
  return sizeof *s + msock_netmap_update_memory(s->update) +
         (s->zstd ? ZSTD_sizeof_DCtx(s->zstd) : 0);
}

static msock_map_failure failure_of(msock_err err) {
  return err == MSOCK_OK          ? MSOCK_MAP_FINE
         : err == MSOCK_ERR_NOMEM ? MSOCK_MAP_F_NOMEM
                                  : MSOCK_MAP_F_JSON;
}

static msock_map_failure begin_message(msock_map_stream *s) {
  s->left = (uint32_t)s->head[3] << 24 | (uint32_t)s->head[2] << 16 | (uint32_t)s->head[1] << 8 |
            s->head[0];
  s->length = s->left;
  s->decoded = 0;
  s->frame_done = false;
  s->frame_head_len = 0;
  if (s->left > s->max_compressed) {
    return MSOCK_MAP_F_TOO_LONG;
  }
  if (s->left == 0) {
    s->head_len = 0; /* length 0: skip */
    return MSOCK_MAP_FINE;
  }
  msock_netmap_update_begin(s->update);
  if (s->compressed && s->zstd == NULL) {
    s->zstd = ZSTD_createDCtx();
    if (s->zstd == NULL) {
      return MSOCK_MAP_F_NOMEM;
    }
    ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, MSOCK_MAP_WINDOW_LOG_MAX);
  }
  if (s->compressed) {
    ZSTD_DCtx_reset(s->zstd, ZSTD_reset_session_only);
  }
  return MSOCK_MAP_FINE;
}

static msock_map_failure take_decoded(msock_map_stream *s, const uint8_t *p, size_t len) {
  if (len > s->max_decoded - s->decoded) {
    return MSOCK_MAP_F_BOMB;
  }
  s->decoded += (uint32_t)len;
  return failure_of(msock_netmap_update_feed(s->update, p, len));
}

static msock_map_failure decompress(msock_map_stream *s, const uint8_t *p, size_t len) {
  ZSTD_inBuffer in = {.src = p, .size = len};
  bool full = true;
  while (in.pos < in.size || full) {
    if (s->frame_done) {
      return in.pos < in.size ? MSOCK_MAP_F_ZSTD : MSOCK_MAP_FINE;
    }
    ZSTD_outBuffer out = {.dst = s->chunk, .size = sizeof s->chunk};
    const size_t rc = ZSTD_decompressStream(s->zstd, &out, &in);
    if (ZSTD_isError(rc)) {
      return MSOCK_MAP_F_ZSTD;
    }
    s->frame_done = rc == 0;
    full = out.pos == out.size;
    const msock_map_failure f = take_decoded(s, s->chunk, out.pos);
    if (f != MSOCK_MAP_FINE) {
      return f;
    }
  }
  return MSOCK_MAP_FINE;
}

/* TRAP Headscale marks every frame as a single segment: a decoder then keeps all of the content as
 * its window, and past 2^23 bytes (some 9,000 peers) our limit would refuse it. Its encoder looks
 * back 4 MiB at most, so a longer content is decoded with the largest window that we allow. One
 * that reaches farther back decodes to something else, so this is done only where a checksum will
 * tell. Writes the head to give to zstd, gives its length. */
static size_t bounded_head(const uint8_t *head, size_t len, uint8_t out[static FRAME_HEAD + 1]) {
  const unsigned long long content = ZSTD_getFrameContentSize(head, len);
  memcpy(out, head, len);
  if (len < FRAME_HEAD || content == ZSTD_CONTENTSIZE_ERROR ||
      content == ZSTD_CONTENTSIZE_UNKNOWN || content <= (1u << MSOCK_MAP_WINDOW_LOG_MAX) ||
      (head[DESCRIPTOR_AT] & SINGLE_SEGMENT) == 0 || (head[DESCRIPTOR_AT] & CHECKSUM) == 0) {
    return len;
  }
  out[DESCRIPTOR_AT] = (uint8_t)(head[DESCRIPTOR_AT] & ~SINGLE_SEGMENT);
  out[DESCRIPTOR_AT + 1] = WINDOW_MAX_DESCRIPTOR;
  memcpy(out + DESCRIPTOR_AT + 2, head + DESCRIPTOR_AT + 1, len - DESCRIPTOR_AT - 1);
  return len + 1;
}

static msock_map_failure take_compressed(msock_map_stream *s, const uint8_t *p, size_t len) {
  const size_t want = s->length < FRAME_HEAD ? s->length : FRAME_HEAD;
  const size_t missing = want - s->frame_head_len;
  if (missing > 0) {
    uint8_t head[FRAME_HEAD + 1];
    const size_t n = len < missing ? len : missing;
    memcpy(s->frame_head + s->frame_head_len, p, n);
    s->frame_head_len += n;
    if (n < missing) {
      return MSOCK_MAP_FINE;
    }
    const msock_map_failure f = decompress(s, head, bounded_head(s->frame_head, want, head));
    if (f != MSOCK_MAP_FINE) {
      return f;
    }
    p += n;
    len -= n;
  }
  return len > 0 ? decompress(s, p, len) : MSOCK_MAP_FINE;
}

/* Minutes pass between messages of a quiet tailnet: the context (96 KiB and its window, which may
 * be megabytes) is made anew for each, and goes before the message is applied. */
static void free_context(msock_map_stream *s) {
  ZSTD_freeDCtx(s->zstd);
  s->zstd = NULL;
}

static msock_map_failure end_message(msock_map_stream *s, uint64_t now_us, uint64_t wall_us) {
  const msock_map_notice *notice = NULL;
  s->head_len = 0;
  if (s->compressed && !s->frame_done) {
    return MSOCK_MAP_F_ZSTD;
  }
  free_context(s);
  msock_map_failure f = failure_of(msock_netmap_update_finish(s->update, &notice));
  if (f != MSOCK_MAP_FINE) {
    return f;
  }
  s->notice = *notice;
  const bool first = !s->started && !s->notice.keep_alive;
  if (first && !s->notice.has_node) {
    return MSOCK_MAP_F_NO_NODE;
  }
  f = failure_of(msock_netmap_commit(s->nm, s->update, first, now_us, wall_us));
  s->started = s->started || (f == MSOCK_MAP_FINE && first);
  return f;
}

msock_map_failure msock_map_stream_feed(msock_map_stream *s, uint64_t now_us, uint64_t wall_us,
                                        const uint8_t *p, size_t len, size_t *used,
                                        const msock_map_notice **notice) {
  size_t at = 0;
  *notice = NULL;
  while (at < len && s->failed == MSOCK_MAP_FINE && *notice == NULL) {
    if (s->head_len < LENGTH_BYTES) {
      s->head[s->head_len++] = p[at++];
      if (s->head_len == LENGTH_BYTES) {
        s->failed = begin_message(s);
      }
      continue;
    }
    const size_t take = len - at < s->left ? len - at : s->left;
    s->failed = s->compressed ? take_compressed(s, p + at, take) : take_decoded(s, p + at, take);
    at += take;
    s->left -= (uint32_t)take;
    if (s->failed == MSOCK_MAP_FINE && s->left == 0) {
      s->failed = end_message(s, now_us, wall_us);
      *notice = s->failed == MSOCK_MAP_FINE ? &s->notice : NULL;
    }
  }
  *used = at;
  return s->failed;
}
