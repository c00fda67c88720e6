#include "config/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Cuts at the bound; bytes that a terminal would act on become '?'. */
static void copy_clean(char *dst, size_t cap, const char *src) {
  size_t n = 0;
  for (; src != NULL && src[n] != '\0' && n + 1 < cap; n++) {
    const unsigned char c = (unsigned char)src[n];
    dst[n] = c < 0x20 || c == 0x7f ? '?' : src[n];
  }
  dst[n] = '\0';
}

/* NULL when the table is full and p may not take the place of anything. */
static msock_config_problem *room_for(msock_config_report *r, bool warning) {
  if (r->n < MSOCK_CONFIG_PROBLEMS_MAX) {
    return &r->problems[r->n++];
  }
  r->n_left_out++;
  for (size_t i = r->n; !warning && i > 0; i--) {
    if (r->problems[i - 1].warning) {
      memmove(&r->problems[i - 1], &r->problems[i], (r->n - i) * sizeof r->problems[0]);
      return &r->problems[r->n - 1];
    }
  }
  return NULL;
}

void msock_config_report_add(msock_config_report *r, bool warning, const char *where,
                             const char *field, const char *way_out, const char *reason_fmt, ...) {
  char reason[MSOCK_CONFIG_WHY_MAX];
  va_list ap;

  r->n_errors += warning ? 0 : 1;
  msock_config_problem *p = room_for(r, warning);
  if (p == NULL) {
    return;
  }
  va_start(ap, reason_fmt);
  (void)vsnprintf(reason, sizeof reason, reason_fmt, ap);
  va_end(ap);
  p->warning = warning;
  copy_clean(p->where, sizeof p->where, where);
  copy_clean(p->field, sizeof p->field, field);
  copy_clean(p->reason, sizeof p->reason, reason);
  copy_clean(p->way_out, sizeof p->way_out, way_out);
}

char *msock_config_problem_text(const msock_config_problem *p,
                                char buf[static MSOCK_CONFIG_PROBLEM_TEXT_MAX]) {
  (void)snprintf(buf, MSOCK_CONFIG_PROBLEM_TEXT_MAX, "%s%s: %s%s%s%s%s",
                 p->warning ? "warning: " : "", p->where, p->field, p->field[0] ? ": " : "",
                 p->reason, p->way_out[0] ? "; " : "", p->way_out);
  return buf;
}
