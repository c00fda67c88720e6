/* io/x509_name.h: the little of X.509 that both TLS backends need and one of them lacks: names and
 * addresses in subjectAltName, the subject's CN, the relay's meta certificate. DER in, bounded
 * reads, no allocation. Source: RFC 5280 4.1 and 4.2.1.6, RFC 6125 6.4 (wildcards), derp.md 1.3. */
#ifndef MSOCK_IO_X509_NAME_H
#define MSOCK_IO_X509_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

/* A range of the certificate's bytes. */
typedef struct msock_x509_span {
  const uint8_t *p;
  size_t len;
} msock_x509_span;

typedef struct msock_x509_cert {
  msock_x509_span serial;  /* INTEGER content */
  msock_x509_span subject; /* Name content */
  msock_x509_span spki;    /* whole SubjectPublicKeyInfo, header included */
  msock_x509_span san;     /* GeneralNames content; p NULL = no such extension */
} msock_x509_cert;

/* Finds the parts of a DER certificate; spans borrow from der. False: malformed, cut, or with bytes
 * after its end. */
bool msock_x509_parse(const uint8_t *der, size_t len, msock_x509_cert *out);

/* Whether some dNSName matches: letters without case, one trailing dot of name ignored, "*" only as
 * the whole first label of a pattern with at least two more, for exactly one label. */
bool msock_x509_has_dns(const msock_x509_cert *c, const char *name);
/* Whether some iPAddress of 4 or 16 bytes equals ip. */
bool msock_x509_has_ip(const msock_x509_cert *c, const msock_ip *ip);
/* The first commonName; false when there is none. */
bool msock_x509_common_name(const msock_x509_cert *c, msock_x509_span *out);
/* Whether the CN begins with "derpkey": such certificates do not count in pin mode. */
bool msock_x509_is_meta(const msock_x509_cert *c);
/* Reads the relay's key: CN = derpkey + 64 hex digits, serial below 256. */
bool msock_x509_meta_key(const msock_x509_cert *c, uint8_t key[static 32], uint8_t *version);

#endif
