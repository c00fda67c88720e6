/* io/file.h on a disk in memory: a path is a key, directories are not kept. */
#include "io/file.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/io_internal.h"

#define PATH_BYTES 256u
#define LOCK_FD 1000 /* any number: one process at a time has the disk */

typedef struct disk_file {
  struct disk_file *next;
  char path[PATH_BYTES];
  uint8_t *bytes;
  size_t len;
} disk_file;

struct sim_disk {
  disk_file *files;
  bool full;
};

sim_disk *sim_disk_new(void) {
  sim_disk *d = calloc(1, sizeof *d);
  assert(d != NULL);
  return d;
}

void sim_disk_free(sim_disk *d) {
  while (d != NULL && d->files != NULL) {
    sim_disk_remove(d, d->files->path);
  }
  free(d);
}

static disk_file **place_of(sim_disk *d, const char *path) {
  disk_file **at = &d->files;
  while (*at != NULL && strcmp((*at)->path, path) != 0) {
    at = &(*at)->next;
  }
  return at;
}

void sim_disk_write(sim_disk *d, const char *path, const void *bytes, size_t len) {
  disk_file **at = place_of(d, path);
  if (*at == NULL) {
    *at = calloc(1, sizeof **at);
    assert(*at != NULL);
    snprintf((*at)->path, sizeof(*at)->path, "%s", path);
  }
  free((*at)->bytes);
  (*at)->bytes = malloc(len + 1);
  assert((*at)->bytes != NULL);
  if (len > 0) {
    memcpy((*at)->bytes, bytes, len);
  }
  (*at)->len = len;
}

void sim_disk_remove(sim_disk *d, const char *path) {
  disk_file **at = place_of(d, path), *f = *at;
  if (f != NULL) {
    *at = f->next;
    free(f->bytes);
    free(f);
  }
}

void sim_disk_set_full(sim_disk *d, bool full) {
  d->full = full;
}

/* --- the calls --- */

static sim_disk *disk(void) {
  sim_disk *d = sim_process_current()->disk;
  assert(d != NULL);
  return d;
}

msock_err msock_file_ensure_dir(const char *path, char why[static MSOCK_FILE_WHY_MAX]) {
  (void)path;
  (void)why;
  return MSOCK_OK;
}

static void join(char dst[static PATH_BYTES], const char *dir, const char *name, const char *end) {
  const int n = snprintf(dst, PATH_BYTES, "%s/%s%s", dir, name, end);
  assert(n > 0 && (size_t)n < PATH_BYTES);
  (void)n;
}

msock_err msock_file_stage(const char *dir, const char *name, const void *data, size_t len,
                           char why[static MSOCK_FILE_WHY_MAX]) {
  char path[PATH_BYTES];
  join(path, dir, name, ".tmp");
  if (disk()->full) {
    snprintf(why, MSOCK_FILE_WHY_MAX, "cannot write %s: No space left on device", path);
    return MSOCK_ERR_IO;
  }
  sim_disk_write(disk(), path, data, len);
  return MSOCK_OK;
}

msock_err msock_file_commit(const char *dir, const char *name,
                            char why[static MSOCK_FILE_WHY_MAX]) {
  char from[PATH_BYTES], to[PATH_BYTES];
  (void)why;
  join(from, dir, name, ".tmp");
  join(to, dir, name, "");
  const disk_file *f = *place_of(disk(), from);
  assert(f != NULL);
  sim_disk_write(disk(), to, f->bytes, f->len);
  sim_disk_remove(disk(), from);
  return MSOCK_OK;
}

msock_err msock_file_write(const char *dir, const char *name, const void *data, size_t len,
                           char why[static MSOCK_FILE_WHY_MAX]) {
  const msock_err e = msock_file_stage(dir, name, data, len, why);
  return e != MSOCK_OK ? e : msock_file_commit(dir, name, why);
}

msock_err msock_file_read(const char *path, size_t max, bool secret, char **out, size_t *len,
                          char why[static MSOCK_FILE_WHY_MAX]) {
  const disk_file *f = *place_of(disk(), path);
  (void)secret;
  if (f == NULL) {
    snprintf(why, MSOCK_FILE_WHY_MAX, "%s: no such file", path);
    return MSOCK_ERR_UNKNOWN;
  }
  if (f->len > max) {
    snprintf(why, MSOCK_FILE_WHY_MAX, "%s: longer than %zu bytes", path, max);
    return MSOCK_ERR_NOBUF;
  }
  *out = malloc(f->len + 1);
  assert(*out != NULL);
  memcpy(*out, f->bytes, f->len);
  (*out)[f->len] = '\0';
  *len = f->len;
  return MSOCK_OK;
}

msock_err msock_file_lock(const char *path, int *fd, char why[static MSOCK_FILE_WHY_MAX]) {
  (void)path;
  (void)why;
  *fd = LOCK_FD;
  return MSOCK_OK;
}

void msock_file_unlock(int fd) {
  (void)fd;
}
