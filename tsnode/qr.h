/* tsnode/qr.h: a QR code for a terminal, for the URL of an interactive login. Two files, one of
 * them in a build: qr_libqrencode.c, or qr_absent.c where that library is missing. */
#ifndef MSOCK_TSNODE_QR_H
#define MSOCK_TSNODE_QR_H

#include <stdbool.h>
#include <stdio.h>

/* Whether this build can; named in `version`. */
bool msock_qr_is_built(void);
/* Draws text with half blocks, light on dark, with the quiet zone that readers want. False: not
 * built, no memory, or the text is too long for a code (2,953 bytes). */
bool msock_qr_print(FILE *out, const char *text);

#endif
