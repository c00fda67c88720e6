/* control/map_stream.h: the body of one map stream into the netmap (control.md 4.2, 4.3).
 *
 * Messages are [length:4 little-endian][that many bytes: one zstd frame or JSON]; borders of HTTP/2
 * frames mean nothing. A message is decompressed as a stream straight into the JSON walk, so memory
 * does not follow its size. Feeding stops after each message. */
#ifndef MSOCK_CONTROL_MAP_STREAM_H
#define MSOCK_CONTROL_MAP_STREAM_H

#include "control/netmap_update.h"

#define MSOCK_MAP_COMPRESSED_MAX (16u << 20) /* control.md 4.2 */
#define MSOCK_MAP_DECODED_MAX (64u << 20)    /* control.md 4.2 */
#define MSOCK_MAP_WINDOW_LOG_MAX 23          /* control.md 4.2 */

typedef enum msock_map_failure {
  MSOCK_MAP_FINE = 0,
  MSOCK_MAP_F_TOO_LONG, /* compressed length over the limit */
  MSOCK_MAP_F_BOMB,     /* decoded size over the limit */
  MSOCK_MAP_F_ZSTD,     /* corrupt, cut off, window too large, bytes after the frame */
  MSOCK_MAP_F_JSON,
  MSOCK_MAP_F_NO_NODE, /* first message without Node: close and try again */
  MSOCK_MAP_F_NOMEM
} msock_map_failure;
const char *msock_map_failure_text(msock_map_failure f);

typedef struct msock_map_stream msock_map_stream;

/* compressed: zstd was asked for. env and nm are borrowed. NULL: out of memory. */
msock_map_stream *msock_map_stream_new(const msock_env *env, msock_netmap *nm, bool compressed);
void msock_map_stream_free(msock_map_stream *s);
/* Lower limits than the defaults, for small devices. */
void msock_map_stream_set_limits(msock_map_stream *s, uint32_t compressed, uint32_t decoded);

/* Takes body bytes up to the end of a message; *used tells how many. *notice is set when a message
 * was applied by this call (valid until the next), else NULL. After a failure nothing more is
 * taken and the stream is to be closed. */
msock_map_failure msock_map_stream_feed(msock_map_stream *s, uint64_t now_us, uint64_t wall_us,
                                        const uint8_t *p, size_t len, size_t *used,
                                        const msock_map_notice **notice);
/* True once the first full message was applied. */
bool msock_map_stream_started(const msock_map_stream *s);
/* Bytes of working memory held now, zstd included; collected values are not. */
size_t msock_map_stream_memory(const msock_map_stream *s);

#endif
