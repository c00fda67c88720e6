#include "io/memory.h"

#include <stdlib.h> /* says which C library it is */
#ifdef __GLIBC__
#include <malloc.h>
#endif

#define MMAP_BYTES (32 * 1024) /* glibc's own 128 KiB grows by itself with what is freed */
#define TRIM_BYTES (64 * 1024) /* free bytes at the heap's end that stay */

void msock_memory_setup(void) {
#ifdef __GLIBC__
  (void)mallopt(M_ARENA_MAX, 1);
  (void)mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
  (void)mallopt(M_TRIM_THRESHOLD, TRIM_BYTES);
  (void)mallopt(M_TOP_PAD, 0);
#endif
}

void msock_memory_trim(void) {
#ifdef __GLIBC__
  (void)malloc_trim(0);
#endif
}
