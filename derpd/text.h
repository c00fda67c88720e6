/* derpd/text.h: a text that grows: pages, metrics, files. After a failure (memory) it stays empty
 * and says so once, at the end. */
#ifndef MSOCK_DERPD_TEXT_H
#define MSOCK_DERPD_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct msock_derpd_text {
  char *p; /* NUL-terminated once something was added */
  size_t len, cap;
  bool failed;
} msock_derpd_text;

void msock_derpd_text_add(msock_derpd_text *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void msock_derpd_text_bytes(msock_derpd_text *t, const void *p, size_t len);
/* With & < > " as entities. */
void msock_derpd_text_html(msock_derpd_text *t, const char *text);
/* "17.3 MB" (powers of 10, three digits). */
void msock_derpd_text_size(msock_derpd_text *t, uint64_t bytes);
/* "3 d 4 h", "12 min", "8 s". */
void msock_derpd_text_span(msock_derpd_text *t, uint64_t us);
void msock_derpd_text_clear(msock_derpd_text *t);

#endif
