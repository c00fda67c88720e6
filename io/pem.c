#include "io/pem.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEGIN "-----BEGIN CERTIFICATE-----"
#define END "-----END CERTIFICATE-----"
#define LINE_BYTES 512u /* RFC 7468 writes 64; longer ones come in pieces */
#define TEXT_MAX (4u * (MSOCK_PEM_CERT_MAX / 3) + 4) /* its Base64, without line ends */

typedef struct walk {
  bool inside, too_long;
  size_t len; /* Base64 characters of the block so far */
  char text[TEXT_MAX];
  uint8_t der[MSOCK_PEM_CERT_MAX];
} walk;

static bool starts(const char *line, const char *mark) {
  return strncmp(line, mark, strlen(mark)) == 0;
}

static void gather(walk *w, const char *line) {
  const size_t n = strcspn(line, "\r\n");
  if (n > TEXT_MAX - w->len) {
    w->too_long = true;
    return;
  }
  memcpy(w->text + w->len, line, n);
  w->len += n;
}

/* The block has ended. False: the sink has enough. */
static bool hand_out(walk *w, msock_pem_sink sink, void *ctx) {
  size_t len = 0;
  if (w->too_long || w->len == 0 ||
      sodium_base642bin(w->der, sizeof w->der, w->text, w->len, " \t", &len, NULL,
                        sodium_base64_VARIANT_ORIGINAL) != 0) {
    return true;
  }
  return sink(ctx, w->der, len);
}

static int read_lines(FILE *f, walk *w, msock_pem_sink sink, void *ctx) {
  char line[LINE_BYTES];
  while (fgets(line, sizeof line, f) != NULL) {
    if (starts(line, BEGIN)) {
      w->inside = true;
      w->too_long = false;
      w->len = 0;
    } else if (w->inside && starts(line, END)) {
      w->inside = false;
      if (!hand_out(w, sink, ctx)) {
        return 0;
      }
    } else if (w->inside) {
      gather(w, line);
    }
  }
  return ferror(f) ? (errno != 0 ? errno : EIO) : 0;
}

int msock_pem_walk(const char *path, msock_pem_sink sink, void *ctx) {
  FILE *f = fopen(path, "re");
  if (f == NULL) {
    return errno;
  }
  walk *w = malloc(sizeof *w);
  int rc = ENOMEM;
  if (w != NULL) {
    w->inside = false;
    errno = 0;
    rc = read_lines(f, w, sink, ctx);
  }
  free(w);
  fclose(f);
  return rc;
}
