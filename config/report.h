/* config/report.h: what was wrong with a configuration, in words for the person who wrote it.
 *
 * A problem has four parts: where (file:line:column, variable or flag), which field, why it is
 * refused, and the way out. Errors stop the start (exit code 10, requirements.md 5.3) or keep the
 * old configuration at SIGHUP; warnings are printed and forgotten. Values of secrets never get
 * here. A report starts as {0} and owns nothing. */
#ifndef MSOCK_CONFIG_REPORT_H
#define MSOCK_CONFIG_REPORT_H

#include <stdbool.h>
#include <stddef.h>

/* Limits. All are ours: a person mends a handful of lines per try. Longer texts are cut. */
#define MSOCK_CONFIG_PROBLEMS_MAX 16u       /* more are counted in n_left_out */
#define MSOCK_CONFIG_WHERE_MAX 320u         /* a long path and ":line:column", NUL included */
#define MSOCK_CONFIG_FIELD_MAX 128u         /* "regions.900.nodes[1].stunport" */
#define MSOCK_CONFIG_WHY_MAX 256u           /* reason, and way out */
#define MSOCK_CONFIG_PROBLEM_TEXT_MAX 1024u /* the four parts as one line */

typedef struct msock_config_problem {
  bool warning;
  char
      where[MSOCK_CONFIG_WHERE_MAX]; /* "tsnode.yaml:3:7", "environment TS_ROUTES", "flag --port" */
  char field[MSOCK_CONFIG_FIELD_MAX]; /* "" = the whole source */
  char reason[MSOCK_CONFIG_WHY_MAX];
  char way_out[MSOCK_CONFIG_WHY_MAX]; /* "" = the reason says it */
} msock_config_problem;

typedef struct msock_config_report {
  msock_config_problem problems[MSOCK_CONFIG_PROBLEMS_MAX]; /* in the order of their discovery */
  size_t n;
  size_t n_errors; /* all, also those left out; 0 = the configuration may be used */
  size_t n_left_out;
} msock_config_report;

/* Adds a problem; bytes that would disturb a terminal become '?'. field and way_out may be NULL.
 * When the table is full an error takes the place of the last warning. */
void msock_config_report_add(msock_config_report *r, bool warning, const char *where,
                             const char *field, const char *way_out, const char *reason_fmt, ...)
    __attribute__((format(printf, 6, 7)));

/* "WHERE: FIELD: REASON; WAY OUT" without the parts that are empty; warnings begin with "warning:
 * ". Returns buf. */
char *msock_config_problem_text(const msock_config_problem *p,
                                char buf[static MSOCK_CONFIG_PROBLEM_TEXT_MAX]);

#endif
