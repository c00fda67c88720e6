/* io/pem.h: the certificates of a PEM file (RFC 7468), one at a time: a bundle of 150 roots never
 * exists in memory as a whole. */
#ifndef MSOCK_IO_PEM_H
#define MSOCK_IO_PEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MSOCK_PEM_CERT_MAX 8192u /* DER bytes; today's largest root has 2,007 */

/* der is valid for the call. False: enough. */
typedef bool (*msock_pem_sink)(void *ctx, const uint8_t *der, size_t len);

/* Hands every CERTIFICATE of the file to sink. A block that is not Base64 or is longer than
 * MSOCK_PEM_CERT_MAX is left out, other blocks and text are skipped. 0, or errno of open or read;
 * ENOMEM. */
int msock_pem_walk(const char *path, msock_pem_sink sink, void *ctx);

#endif
