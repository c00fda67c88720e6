/* tests/fuzz/replay.c: runs a target on files and on the files of folders, once each, without
 * libFuzzer: the corpus as a regression test for every compiler and sanitizer. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzzing.h"

#define PATH_BYTES 4096

static bool run_file(const char *path) {
  FILE *f = fopen(path, "rb");
  if (f == NULL) {
    fprintf(stderr, "replay: cannot open %s\n", path);
    return false;
  }
  size_t len = 0, cap = 4096;
  uint8_t *p = malloc(cap);
  for (size_t n; p != NULL && (n = fread(p + len, 1, cap - len, f)) > 0;) {
    len += n;
    if (len == cap) {
      cap *= 2;
      p = realloc(p, cap);
    }
  }
  fclose(f);
  if (p == NULL) {
    fprintf(stderr, "replay: out of memory for %s\n", path);
    return false;
  }
  uint8_t *fit = malloc(len); /* just as large as the input: overreads are seen */
  if (fit != NULL || len == 0) {
    memcpy(fit != NULL ? fit : p, p, len);
    LLVMFuzzerTestOneInput(fit, len);
  }
  free(fit);
  free(p);
  return true;
}

static bool run_path(const char *path, unsigned *count) {
  DIR *d = opendir(path);
  if (d == NULL) {
    (*count)++;
    return run_file(path);
  }
  bool ok = true;
  for (const struct dirent *e; (e = readdir(d)) != NULL;) {
    char name[PATH_BYTES];
    if (e->d_name[0] == '.') {
      continue;
    }
    if (snprintf(name, sizeof name, "%s/%s", path, e->d_name) >= (int)sizeof name) {
      ok = false;
      continue;
    }
    ok = run_file(name) && ok;
    (*count)++;
  }
  closedir(d);
  return ok;
}

int main(int argc, char **argv) {
  unsigned count = 0;
  bool ok = argc > 1;
  LLVMFuzzerInitialize(&argc, &argv);
  for (int i = 1; i < argc; i++) {
    ok = run_path(argv[i], &count) && ok;
  }
  printf("%u inputs\n", count);
  return ok && count > 0 ? 0 : 1;
}
