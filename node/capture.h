/* node/capture.h: packets of the tunnel as a pcap file in memory, bounded in bytes. A plain value;
 * pure. Format: the classic pcap file, microseconds, LINKTYPE_RAW (101): a packet begins with its
 * IP header (draft-ietf-opsawg-pcap). */
#ifndef MSOCK_NODE_CAPTURE_H
#define MSOCK_NODE_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MSOCK_CAPTURE_BYTES_MAX (4u * 1024u * 1024u) /* fits one LocalAPI answer */
#define MSOCK_CAPTURE_SNAPLEN 2048u                  /* above every tunnel packet */

typedef struct msock_capture {
  uint8_t *buf; /* NULL = not running */
  size_t len, limit;
  uint64_t packets, dropped; /* dropped: the limit was reached, or no memory */
  size_t cap;
} msock_capture;

/* limit: bytes of the whole file, cut to MSOCK_CAPTURE_BYTES_MAX. MSOCK_ERR_NOMEM. */
msock_err msock_capture_begin(msock_capture *c, size_t limit);
/* One packet; wall_us since 1970. */
void msock_capture_add(msock_capture *c, uint64_t wall_us, const uint8_t *p, size_t len);
bool msock_capture_is_full(const msock_capture *c);
/* The file, now the caller's to free; the capture is not running any more. */
uint8_t *msock_capture_take(msock_capture *c, size_t *len);

#endif
