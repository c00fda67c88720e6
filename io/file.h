/* io/file.h: the state directory and its files: atomic writes, secret files, one lock.
 *
 * A file is replaced by temp + fsync + rename + fsync of the directory, so that a crash leaves the
 * old or the new content, never a mix (control.md CTRL-02). Temp name: ".<name>.tmp". */
#ifndef MSOCK_IO_FILE_H
#define MSOCK_IO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MSOCK_FILE_WHY_MAX 320u

/* Every call that fails writes a sentence for the user into why. */

/* Makes the directory with mode 0700 (parents must exist), or checks that it is one, is ours and is
 * closed to group and other: MSOCK_ERR_DENIED, with the command that repairs it. */
msock_err msock_file_ensure_dir(const char *path, char why[static MSOCK_FILE_WHY_MAX]);

/* Writes dir/name with mode 0600 atomically. */
msock_err msock_file_write(const char *dir, const char *name, const void *data, size_t len,
                           char why[static MSOCK_FILE_WHY_MAX]);
/* The two halves: after stage the old content is still there; commit makes the new one visible. */
msock_err msock_file_stage(const char *dir, const char *name, const void *data, size_t len,
                           char why[static MSOCK_FILE_WHY_MAX]);
msock_err msock_file_commit(const char *dir, const char *name, char why[static MSOCK_FILE_WHY_MAX]);

/* Reads a regular file of at most max bytes into fresh memory (a NUL follows the bytes; *len does
 * not count it); the caller frees it, a secret after msock_wipe. secret: refuse with
 * MSOCK_ERR_DENIED when group or other have any right (CTRL-03). MSOCK_ERR_UNKNOWN: no such file.
 * MSOCK_ERR_NOBUF: longer. */
msock_err msock_file_read(const char *path, size_t max, bool secret, char **out, size_t *len,
                          char why[static MSOCK_FILE_WHY_MAX]);

/* Takes the lock file (made when absent); *fd holds it until closed or the process ends.
 * MSOCK_ERR_AGAIN: another process has it, its pid is in why. */
msock_err msock_file_lock(const char *path, int *fd, char why[static MSOCK_FILE_WHY_MAX]);
void msock_file_unlock(int fd);

#endif
