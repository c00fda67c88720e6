/* io/loop_internal.h: what egress.c needs of the loop beyond io/loop.h. */
#ifndef MSOCK_IO_LOOP_INTERNAL_H
#define MSOCK_IO_LOOP_INTERNAL_H

#include <uv.h>

#include "io/loop.h"

uv_loop_t *msock_loop_uv(msock_loop *loop);
/* One buffer of MSOCK_STREAM_CHUNK bytes for whoever reads now; its content is gone at the next
 * callback. */
uint8_t *msock_loop_chunk(msock_loop *loop);

#endif
