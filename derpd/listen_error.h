/* derpd/listen_error.h: why an address cannot be listened on, and the way out (requirements.md M22,
 * D29). */
#ifndef MSOCK_DERPD_LISTEN_ERROR_H
#define MSOCK_DERPD_LISTEN_ERROR_H

#include <stddef.h>

#include "base/err.h"

/* Reads errno when e is MSOCK_ERR_IO. what: "STUN on UDP"; key: the setting that names another. */
void msock_derpd_listen_error(msock_err e, const char *what, const char *address, const char *key,
                              char *why, size_t cap);

#endif
