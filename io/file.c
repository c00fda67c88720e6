#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_MAX_BYTES 1024u

static msock_err refuse(char *why, const char *doing, const char *path) {
  const int system_errno = errno;
  snprintf(why, MSOCK_FILE_WHY_MAX, "cannot %s %.180s: %s", doing, path, strerror(system_errno));
  return system_errno == EACCES || system_errno == EPERM ? MSOCK_ERR_DENIED : MSOCK_ERR_IO;
}

msock_err msock_file_ensure_dir(const char *path, char why[static MSOCK_FILE_WHY_MAX]) {
  struct stat st;
  if (mkdir(path, 0700) != 0 && errno != EEXIST) {
    return refuse(why, "make directory", path);
  }
  if (stat(path, &st) != 0) {
    return refuse(why, "look at", path);
  }
  if (!S_ISDIR(st.st_mode)) {
    snprintf(why, MSOCK_FILE_WHY_MAX, "%.200s is not a directory; choose another state directory",
             path);
    return MSOCK_ERR_DENIED;
  }
  if (st.st_uid != geteuid()) {
    snprintf(why, MSOCK_FILE_WHY_MAX, "%.200s belongs to another user (uid %u); chown it", path,
             (unsigned)st.st_uid);
    return MSOCK_ERR_DENIED;
  }
  if ((st.st_mode & 077) != 0) {
    snprintf(why, MSOCK_FILE_WHY_MAX,
             "%.100s holds keys but is open to other users (mode %03o); run: chmod 700 %.100s",
             path, (unsigned)(st.st_mode & 0777), path);
    return MSOCK_ERR_DENIED;
  }
  return MSOCK_OK;
}

static bool join(char *dst, const char *dir, const char *name, const char *before,
                 const char *after) {
  const int n = snprintf(dst, PATH_MAX_BYTES, "%s/%s%s%s", dir, before, name, after);
  return n > 0 && (size_t)n < PATH_MAX_BYTES;
}

static bool write_all(int fd, const char *p, size_t len) {
  while (len > 0) {
    const ssize_t n = write(fd, p, len);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return false;
    }
    p += n;
    len -= (size_t)n;
  }
  return true;
}

msock_err msock_file_stage(const char *dir, const char *name, const void *data, size_t len,
                           char why[static MSOCK_FILE_WHY_MAX]) {
  char temp[PATH_MAX_BYTES];
  if (!join(temp, dir, name, ".", ".tmp")) {
    errno = ENAMETOOLONG;
    return refuse(why, "write", dir);
  }
  unlink(temp); /* left by a crash; a fresh one has our mode and is not a link */
  const int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) {
    return refuse(why, "create", temp);
  }
  if (fchmod(fd, 0600) != 0 || !write_all(fd, data, len) || fsync(fd) != 0) {
    const msock_err err = refuse(why, "write", temp);
    close(fd);
    unlink(temp);
    return err;
  }
  close(fd);
  return MSOCK_OK;
}

msock_err msock_file_commit(const char *dir, const char *name,
                            char why[static MSOCK_FILE_WHY_MAX]) {
  char temp[PATH_MAX_BYTES], path[PATH_MAX_BYTES];
  if (!join(temp, dir, name, ".", ".tmp") || !join(path, dir, name, "", "")) {
    errno = ENAMETOOLONG;
    return refuse(why, "write", dir);
  }
  if (rename(temp, path) != 0) {
    const msock_err err = refuse(why, "replace", path);
    unlink(temp);
    return err;
  }
  const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 || fsync(fd) != 0) {
    const msock_err err = refuse(why, "sync directory", dir);
    if (fd >= 0) {
      close(fd);
    }
    return err;
  }
  close(fd);
  return MSOCK_OK;
}

msock_err msock_file_write(const char *dir, const char *name, const void *data, size_t len,
                           char why[static MSOCK_FILE_WHY_MAX]) {
  const msock_err err = msock_file_stage(dir, name, data, len, why);
  return err == MSOCK_OK ? msock_file_commit(dir, name, why) : err;
}

static msock_err check_file(int fd, const char *path, size_t max, bool secret, size_t *size,
                            char *why) {
  struct stat st;
  if (fstat(fd, &st) != 0) {
    return refuse(why, "look at", path);
  }
  if (!S_ISREG(st.st_mode)) {
    snprintf(why, MSOCK_FILE_WHY_MAX, "%.200s is not a regular file", path);
    return MSOCK_ERR_DENIED;
  }
  if (secret && (st.st_mode & 077) != 0) {
    snprintf(why, MSOCK_FILE_WHY_MAX,
             "%.100s holds secrets but is open to other users (mode %03o); run: chmod 600 %.100s",
             path, (unsigned)(st.st_mode & 0777), path);
    return MSOCK_ERR_DENIED;
  }
  if (st.st_size < 0 || (uintmax_t)st.st_size > max) {
    snprintf(why, MSOCK_FILE_WHY_MAX, "%.200s is longer than %zu bytes", path, max);
    return MSOCK_ERR_NOBUF;
  }
  *size = (size_t)st.st_size;
  return MSOCK_OK;
}

msock_err msock_file_read(const char *path, size_t max, bool secret, char **out, size_t *len,
                          char why[static MSOCK_FILE_WHY_MAX]) {
  size_t size = 0, got = 0;
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */
  if (fd < 0) {
    const bool absent = errno == ENOENT;
    const msock_err err = refuse(why, "read", path);
    return absent ? MSOCK_ERR_UNKNOWN : err;
  }
  msock_err err = check_file(fd, path, max, secret, &size, why);
  char *p = err == MSOCK_OK ? malloc(size + 1) : NULL;
  if (err == MSOCK_OK && p == NULL) {
    snprintf(why, MSOCK_FILE_WHY_MAX, "out of memory");
    err = MSOCK_ERR_NOMEM;
  }
  while (err == MSOCK_OK && got < size) {
    const ssize_t n = read(fd, p + got, size - got);
    if (n < 0 && errno != EINTR) {
      err = refuse(why, "read", path);
    } else if (n == 0) {
      break; /* became shorter */
    } else if (n > 0) {
      got += (size_t)n;
    }
  }
  close(fd);
  if (err != MSOCK_OK) {
    free(p);
    return err;
  }
  p[got] = '\0';
  *out = p;
  *len = got;
  return MSOCK_OK;
}

msock_err msock_file_lock(const char *path, int *out, char why[static MSOCK_FILE_WHY_MAX]) {
  char pid[32] = "";
  const int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) {
    return refuse(why, "open lock file", path);
  }
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const bool held = errno == EWOULDBLOCK;
    const msock_err err = refuse(why, "lock", path);
    if (held) {
      const ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
      pid[n > 0 ? n : 0] = '\0';
      pid[strcspn(pid, "\n")] = '\0';
      snprintf(why, MSOCK_FILE_WHY_MAX,
               "another daemon (pid %s) uses this directory (%.180s is locked); stop it first",
               pid[0] != '\0' ? pid : "unknown", path);
    }
    close(fd);
    return held ? MSOCK_ERR_AGAIN : err;
  }
  const int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
  if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n) {
    const msock_err err = refuse(why, "write", path);
    close(fd);
    return err;
  }
  *out = fd;
  return MSOCK_OK;
}

void msock_file_unlock(int fd) {
  if (fd >= 0) {
    close(fd);
  }
}
