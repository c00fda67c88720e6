/* derpd: a DERP relay and STUN server. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/init.h"
#include "derpd/daemon.h"
#include "derpd/options.h"
#include "io/tls.h"

extern char **environ;

static msock_exit fail(msock_exit code, const char *why) {
  fprintf(stderr, "derpd: %s\n", why);
  return code;
}

/* To a new file, which is never replaced, or to standard output. */
static msock_exit generate_config(const msock_derpd_options *o) {
  char why[320];
  char *text = msock_config_generate(&msock_derpd_schema);
  if (text == NULL) {
    return fail(MSOCK_EXIT_OTHER, "out of memory");
  }
  msock_exit code = MSOCK_EXIT_OK;
  if (!o->file_is_named) {
    fputs(text, stdout);
  } else {
    const int fd = open(o->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0) {
      snprintf(why, sizeof why, "cannot write %.200s: %s%s", o->file, strerror(errno),
               errno == EEXIST ? "; move it away first" : "");
      code = fail(MSOCK_EXIT_OTHER, why);
    } else {
      printf("wrote %s: every setting, with its default; begin a line without # to change one\n",
             o->file);
    }
  }
  free(text);
  return code;
}

static msock_exit check_config(msock_config *c) {
  char *text = msock_config_print(c);
  if (text == NULL) {
    return fail(MSOCK_EXIT_OTHER, "out of memory");
  }
  fputs(text, stdout);
  free(text);
  return MSOCK_EXIT_OK;
}

static msock_exit with_config(const msock_derpd_options *o) {
  msock_config_report *report = calloc(1, sizeof *report); /* the stack stays for good */
  msock_config *c = report ? msock_derpd_options_load(o, report) : NULL;
  msock_exit code = MSOCK_EXIT_CONFIG;
  if (report != NULL) {
    msock_derpd_print_problems(report);
  }
  free(report);
  if (c == NULL) {
    return code;
  }
  if (o->check_config) {
    code = check_config(c);
  } else if (o->verb == MSOCK_DERPD_MAP) {
    code = msock_derpd_print_map(o, c);
  } else {
    return msock_derpd_run(o, c);
  }
  msock_config_free(c);
  return code;
}

int main(int argc, char **argv) {
  msock_derpd_options o;
  char why[MSOCK_DERPD_USAGE_MAX];
  msock_exit code = msock_derpd_options_parse(argc - 1, argv + 1, (const char *const *)environ,
                                              geteuid() == 0, &o, why);
  if (code != MSOCK_EXIT_OK) {
    fail(code, why);
    fprintf(stderr, "See: derpd --help\n");
  } else if (o.help) {
    msock_derpd_print_help();
  } else if (o.version) {
    printf("derpd %s (%s)\n", TSNODE_VERSION, msock_tls_backend());
  } else if (o.generate_config) {
    code = generate_config(&o);
  } else if (msock_crypto_init() != MSOCK_OK) {
    code = fail(MSOCK_EXIT_OTHER, "libsodium does not start");
  } else {
    code = with_config(&o);
  }
  msock_derpd_options_clear(&o);
  return (int)code;
}
