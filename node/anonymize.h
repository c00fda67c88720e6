/* node/anonymize.h: takes names, addresses and keys out of a text that goes to strangers (bug
 * reports). Each becomes a short keyed hash, the same one each time, so that a reader can still
 * follow who is who. Pure.
 *
 * Replaced: words that are an address, prefix or address with port (ip-xxxxxx), typed keys and long
 * hexadecimal (key-xxxxxx), words with an "@", and whatever name was added, alone or as the end of
 * a longer DNS name (name-xxxxxx). Addresses that say nothing stay: 0.0.0.0, loopback. */
#ifndef MSOCK_NODE_ANONYMIZE_H
#define MSOCK_NODE_ANONYMIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

#define MSOCK_ANONYMIZE_NAME_MIN 2u /* shorter names would hit ordinary words */

typedef struct msock_anonymize {
  uint8_t key[32];
  char **names; /* sorted once it is used */
  size_t n, cap;
  bool sorted;
} msock_anonymize;

/* secret: what makes the hashes this node's own; they cannot be guessed without it. */
void msock_anonymize_init(msock_anonymize *a, const void *secret, size_t len);
void msock_anonymize_clear(msock_anonymize *a);
/* Copies name without a trailing dot; case does not count. False without memory. */
bool msock_anonymize_add(msock_anonymize *a, const char *name);
/* A new text; NULL without memory. */
char *msock_anonymize_text(msock_anonymize *a, const char *text);

/* Takes only the addresses out, without a trace: each becomes "-". dst gets at most cap bytes with
 * the NUL; the text never grows. */
void msock_anonymize_addresses(const char *text, char *dst, size_t cap);

/* A log whose lines pass through msock_anonymize_addresses: what the privacy profile writes. */
typedef struct msock_anonymous_log {
  msock_log log;
  const msock_log *to;
} msock_anonymous_log;
/* to is borrowed; its level counts. */
void msock_anonymous_log_init(msock_anonymous_log *l, const msock_log *to);

#endif
