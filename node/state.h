/* node/state.h: what survives a restart: one JSON file, mode 0600, in a directory of mode 0700.
 *
 * control.md 1. Content: version, the server and its pinned key, machine and node private keys, the
 * old node key while a login is under way, log id, node id, last own addresses, preferences. Disco
 * keys have no text form and never get here. A node key that is still being tried is the caller's,
 * in memory: it is put into node_private, and saved, only when the server has accepted it.
 *
 * Private keys never pass through the JSON library: its buffers are not wiped. They are lifted out
 * of the text before it is parsed and put in after it is printed. */
#ifndef MSOCK_NODE_STATE_H
#define MSOCK_NODE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/env.h"
#include "base/err.h"
#include "base/key.h"
#include "node/prefs.h"

#define MSOCK_STATE_FILE "tsnode.state"
#define MSOCK_STATE_VERSION 1
#define MSOCK_STATE_FILE_MAX (256u * 1024u) /* larger is refused: ours are a few KiB */
#define MSOCK_STATE_ADDRS_MAX 8u
#define MSOCK_STATE_LOG_ID_MAX 65u /* 64 hex digits and a NUL */

typedef struct msock_state {
  char server_url[MSOCK_URL_MAX];        /* whose keys these are; "" = never logged in */
  msock_machine_key server_key;          /* pinned control key; zero = none yet */
  msock_machine_private machine_private; /* made by msock_state_fresh, kept for good */
  msock_node_private node_private;       /* zero = not logged in */
  msock_node_private old_node_private;   /* zero unless a login is under way */
  char log_id[MSOCK_STATE_LOG_ID_MAX];   /* Hostinfo.BackendLogID: random, stable */
  char node_id[MSOCK_PREFS_NODE_ID_MAX]; /* stable node id given by the server; "" = none */
  msock_prefix self_addrs[MSOCK_STATE_ADDRS_MAX];
  size_t n_self_addrs;
  msock_prefs prefs;
} msock_state;

/* New machine key and log id, default preferences. */
void msock_state_fresh(msock_state *s, const msock_env *env);
/* Forgets the login (node keys, node id, addresses), keeps machine key, server pin and preferences:
 * control.md 3, logout. */
void msock_state_forget_login(msock_state *s);
/* Wipes everything. */
void msock_state_clear(msock_state *s);
bool msock_state_has_node_key(const msock_state *s);

/* Text form. parse takes the keys out of text, which is left without them, and fills out only on
 * MSOCK_OK; MSOCK_ERR_INVALID (not ours, damaged), MSOCK_ERR_UNKNOWN (a newer version); the reason
 * in why names no file. print gives allocated text of *len bytes plus a NUL, NULL without memory:
 * the caller wipes and frees it. */
msock_err msock_state_parse(char *text, size_t len, msock_state *out,
                            char why[static MSOCK_WHY_MAX]);
char *msock_state_print(const msock_state *s, size_t *len);

/* A path that is NULL, here and below, means state in memory alone: always fresh, never written, no
 * lock.
 *
 * Reads the file. An absent file is a fresh start (*fresh = true), nothing is written. Refused,
 * with a reason that names the file and the way out: group or other bits (MSOCK_ERR_DENIED),
 * damaged (MSOCK_ERR_INVALID), of a newer version (MSOCK_ERR_UNKNOWN), unreadable (MSOCK_ERR_IO). A
 * refused file is never touched. fresh may be NULL. */
msock_err msock_state_load(const char *path, const msock_env *env, msock_state *out, bool *fresh,
                           char why[static MSOCK_WHY_MAX]);
/* Replaces the file at once or not at all: temporary name, fsync, rename, fsync of the directory.
 * MSOCK_ERR_IO (disk full, read-only): the old file stands, the reason is in why. */
msock_err msock_state_save(const char *path, const msock_state *s, char why[static MSOCK_WHY_MAX]);

/* One daemon per directory. Makes the directory (0700; its parents must exist), then takes
 * "<path>.lock", held until msock_state_unlock or the end of the process. MSOCK_ERR_AGAIN: another
 * daemon holds it. MSOCK_ERR_DENIED: the directory is open to others. MSOCK_ERR_IO. */
typedef struct msock_state_lock {
  int fd; /* -1 = not held */
} msock_state_lock;
msock_err msock_state_take_lock(const char *path, msock_state_lock *out,
                                char why[static MSOCK_WHY_MAX]);
void msock_state_unlock(msock_state_lock *l);

#endif
