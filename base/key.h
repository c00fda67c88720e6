/* base/key.h: the 32-byte Curve25519 keys, one type each, so that one cannot be passed for another.
 *
 * Text form: prefix + 64 lower-case hex digits (docs/wire.md#keys, spec control.md 1). An all-zero
 * key means "absent" and is legal text. Private keys have no log formatter; their text form exists
 * for the state file alone. Wipe private keys with msock_wipe (crypto/wipe.h) when done. */
#ifndef MSOCK_BASE_KEY_H
#define MSOCK_BASE_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MSOCK_KEY_LEN 32u
#define MSOCK_KEY_TEXT_MAX 80u /* longest text form with its NUL: "discokey:" + 64 + NUL fits */
#define MSOCK_KEY_SHORT_MAX 8u /* "[abcde]" + NUL */

typedef struct msock_node_key {
  uint8_t b[MSOCK_KEY_LEN];
} msock_node_key; /* public: WireGuard static, DERP identity. "nodekey:" */
typedef struct msock_node_private {
  uint8_t b[MSOCK_KEY_LEN];
} msock_node_private; /* "privkey:" */
typedef struct msock_disco_key {
  uint8_t b[MSOCK_KEY_LEN];
} msock_disco_key; /* public, "discokey:" */
typedef struct msock_disco_private {
  uint8_t b[MSOCK_KEY_LEN];
} msock_disco_private; /* never written anywhere: no text form */
typedef struct msock_machine_key {
  uint8_t b[MSOCK_KEY_LEN];
} msock_machine_key; /* public: client machine, or the control server's key. "mkey:" */
typedef struct msock_machine_private {
  uint8_t b[MSOCK_KEY_LEN];
} msock_machine_private; /* "privkey:" */
typedef struct msock_challenge_key {
  uint8_t b[MSOCK_KEY_LEN];
} msock_challenge_key; /* public, "chalpub:" */

/* Parse the exact text form (NUL-terminated, nothing before or after). MSOCK_ERR_INVALID on a wrong
 * prefix, length, upper-case or non-hex digit; out untouched then. */
msock_err msock_node_key_parse(const char *text, msock_node_key *out);
msock_err msock_disco_key_parse(const char *text, msock_disco_key *out);
msock_err msock_machine_key_parse(const char *text, msock_machine_key *out);
msock_err msock_challenge_key_parse(const char *text, msock_challenge_key *out);
msock_err msock_node_private_parse(const char *text, msock_node_private *out);
msock_err msock_machine_private_parse(const char *text, msock_machine_private *out);

/* Write the text form with its NUL; the buffer holds MSOCK_KEY_TEXT_MAX bytes. Returns buf. */
char *msock_node_key_text(const msock_node_key *k, char buf[static MSOCK_KEY_TEXT_MAX]);
char *msock_disco_key_text(const msock_disco_key *k, char buf[static MSOCK_KEY_TEXT_MAX]);
char *msock_machine_key_text(const msock_machine_key *k, char buf[static MSOCK_KEY_TEXT_MAX]);
char *msock_challenge_key_text(const msock_challenge_key *k, char buf[static MSOCK_KEY_TEXT_MAX]);
/* For the state file only; wipe buf after use. */
char *msock_node_private_text(const msock_node_private *k, char buf[static MSOCK_KEY_TEXT_MAX]);
char *msock_machine_private_text(const msock_machine_private *k,
                                 char buf[static MSOCK_KEY_TEXT_MAX]);

/* Log form "[abcde]": the first five base64 characters of a public key, as the field prints them.
 */
char *msock_node_key_short(const msock_node_key *k, char buf[static MSOCK_KEY_SHORT_MAX]);
char *msock_disco_key_short(const msock_disco_key *k, char buf[static MSOCK_KEY_SHORT_MAX]);

bool msock_node_key_is_zero(const msock_node_key *k);
bool msock_disco_key_is_zero(const msock_disco_key *k);
bool msock_machine_key_is_zero(const msock_machine_key *k);
/* Plain compares: public keys only. Secrets are compared with msock_ct_equal (crypto/wipe.h). */
bool msock_node_key_equal(const msock_node_key *a, const msock_node_key *b);
bool msock_disco_key_equal(const msock_disco_key *a, const msock_disco_key *b);
bool msock_machine_key_equal(const msock_machine_key *a, const msock_machine_key *b);

#endif
