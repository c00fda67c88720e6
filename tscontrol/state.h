/* tscontrol/state.h: the state file: the server's private key and the nodes, JSON, mode 0600,
 * replaced atomically, held by one process at a time. */
#ifndef MSOCK_TSCONTROL_STATE_H
#define MSOCK_TSCONTROL_STATE_H

#include "base/err.h"
#include "base/key.h"
#include "control/tailnet.h"
#include "io/file.h"

/* Takes PATH.lock (held in *lock until the process ends) and reads the file. MSOCK_ERR_UNKNOWN:
 * there is none yet. *nodes is for msock_tailnet_load; the caller frees it. Other errors with a
 * sentence in why. */
msock_err msock_tscontrol_state_load(const char *path, int *lock, msock_machine_private *key,
                                     char **nodes, char why[static MSOCK_FILE_WHY_MAX]);
msock_err msock_tscontrol_state_save(const char *path, const msock_machine_private *key,
                                     msock_tailnet *t, char why[static MSOCK_FILE_WHY_MAX]);

#endif
