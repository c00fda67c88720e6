/* io/memory.h: what the C library's allocator keeps back. Long-lived programs call setup once,
 * before threads and large allocations, and trim after work that needed much memory for a moment.
 */
#ifndef MSOCK_IO_MEMORY_H
#define MSOCK_IO_MEMORY_H

/* One arena (the resolver's threads would each make another), and blocks of 32 KiB or more from
 * the system: untouched pages of a table cost nothing, growing moves nothing, and what is freed is
 * given back. Nothing to do with allocators other than glibc's. */
void msock_memory_setup(void);
/* Gives free pages back to the system. A millisecond for megabytes: not per packet. */
void msock_memory_trim(void);

#endif
