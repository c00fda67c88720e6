#include "tests/unit/vectors.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"

static struct {
  size_t cases; /* of the file that is running */
  size_t total;
  size_t skipped;
  bool failed;
} run;

static const char *directory(bool *is_default) {
  const char *dir = getenv("TSNODE_VECTORS");
  const char *fallback = getenv("TSNODE_VECTORS_DEFAULT");
  *is_default = dir == NULL || *dir == '\0';
  if (!*is_default) {
    return dir;
  }
  return fallback ? fallback : "tests/vectors";
}

static void fail(const char *file, const char *why) {
  printf("vectors: %s: failed: %s\n", file, why);
  run.failed = true;
}

char *vectors_read(const char *file, size_t *len) {
  bool is_default = false;
  char path[4096];
  char *text = NULL;
  long size = 0;

  snprintf(path, sizeof path, "%s/%s", directory(&is_default), file);
  FILE *f = fopen(path, "rb");
  if (f == NULL && errno == ENOENT && !is_default) {
    printf("vectors: %s: skipped, not in %s\n", file, directory(&is_default));
    run.skipped++;
    return NULL;
  }
  if (f == NULL) {
    fail(file, strerror(errno));
    return NULL;
  }
  if (fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) <= 0 || fseek(f, 0, SEEK_SET) != 0) {
    fail(file, "empty or unreadable");
  } else if ((text = malloc((size_t)size + 1)) != NULL &&
             fread(text, 1, (size_t)size, f) == (size_t)size) {
    text[size] = '\0';
    *len = (size_t)size;
  } else {
    fail(file, "unreadable");
    free(text);
    text = NULL;
  }
  fclose(f);
  run.cases = 0;
  return text;
}

json_object *vectors_open(const char *file) {
  size_t len = 0;
  char *text = vectors_read(file, &len);
  if (text == NULL) {
    return NULL;
  }
  json_object *o = json_tokener_parse(text);
  free(text);
  if (o == NULL) {
    fail(file, "not JSON");
  }
  return o;
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

size_t vectors_list(const char *prefix, char **names, size_t cap) {
  bool is_default = false;
  const char *dir = directory(&is_default);
  size_t n = 0;
  DIR *d = opendir(dir);

  for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
    const size_t len = strlen(e->d_name);
    if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 && len > 5 &&
        strcmp(e->d_name + len - 5, ".json") == 0 && n < cap) {
      names[n++] = strdup(e->d_name);
    }
  }
  if (d) {
    closedir(d);
  }
  if (n == 0 && is_default) {
    fail(prefix, "no such files in the default directory");
  } else if (n == 0) {
    printf("vectors: %s*: skipped, not in %s\n", prefix, dir);
    run.skipped++;
  }
  qsort(names, n, sizeof *names, by_name);
  return n;
}

void vectors_case(const char *file, const char *name, bool ok, const char *why, ...) {
  run.cases++;
  run.total++;
  if (!ok) {
    va_list ap;
    printf("vectors: %s: %s: failed: ", file, name);
    va_start(ap, why);
    vprintf(why, ap);
    va_end(ap);
    printf("\n");
    run.failed = true;
  }
}

void vectors_done(const char *file) {
  printf("vectors: %s: %zu cases\n", file, run.cases);
  if (run.cases == 0) {
    fail(file, "no case found");
  }
  run.cases = 0;
}

int vectors_exit(void) {
  if (run.failed) {
    return 1;
  }
  return run.total == 0 ? 77 : 0;
}

static void die(const char *file, const char *field, const char *why) {
  printf("vectors: %s: failed: field \"%s\" %s\n", file, field, why);
  exit(1);
}

json_object *vectors_get(const char *file, json_object *o, const char *field) {
  json_object *v = NULL;
  if (!json_object_object_get_ex(o, field, &v)) {
    die(file, field, "is missing");
  }
  return v;
}

const char *vectors_str(const char *file, json_object *o, const char *field) {
  json_object *v = vectors_get(file, o, field);
  if (!json_object_is_type(v, json_type_string)) {
    die(file, field, "is not a string");
  }
  return json_object_get_string(v);
}

unsigned char *vectors_hex(const char *file, json_object *o, const char *field, size_t *len) {
  const char *hex = vectors_str(file, o, field);
  const size_t n = strlen(hex) / 2;
  unsigned char *p = malloc(n + 1);
  if (p == NULL || strlen(hex) % 2 != 0 || !msock_hex_decode(hex, p, n)) {
    die(file, field, "is not hex");
  }
  *len = n;
  return p;
}
