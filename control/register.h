/* control/register.h: /machine/register: the request's JSON and what an answer means (control.md
 * 3).
 *
 * Pure values. Secrets: the request text may hold a pre-auth key; wipe it. No text given back here
 * repeats the key. */
#ifndef MSOCK_CONTROL_REGISTER_H
#define MSOCK_CONTROL_REGISTER_H

#include "control/control.h"

#define MSOCK_REGISTER_PATH "/machine/register"
#define MSOCK_REGISTER_BODY_MAX 65536u /* of an answer; real ones have 300 bytes */
#define MSOCK_REGISTER_TEXT_MAX 200u
#define MSOCK_LOGOUT_EXPIRY "1970-01-01T00:02:03Z" /* what tailscaled sends: control.md 3.5 */

typedef struct msock_register_request {
  uint32_t version;
  msock_node_key node_key;
  msock_node_key old_node_key; /* zero = none */
  const char *auth_key;        /* NULL = none */
  const char *followup;        /* the AuthURL, verbatim; NULL = none */
  bool logout;
  bool ephemeral;
  const msock_hostinfo *hostinfo;
} msock_register_request;

/* Allocated JSON text, NULL when out of memory; the caller wipes *len bytes and frees. */
char *msock_register_encode(const msock_register_request *r, size_t *len);

typedef enum msock_register_outcome {
  MSOCK_REGISTER_DONE = 0,
  MSOCK_REGISTER_AUTH_URL,    /* auth_url */
  MSOCK_REGISTER_KEY_EXPIRED, /* of a logout: done */
  MSOCK_REGISTER_WAIT,        /* MachineAuthorized false and nothing else */
  MSOCK_REGISTER_FAILED       /* error, text */
} msock_register_outcome;

typedef struct msock_register_answer {
  msock_register_outcome outcome;
  msock_control_error error;
  char text[MSOCK_REGISTER_TEXT_MAX + 1];
  char auth_url[MSOCK_CONTROL_URL_MAX + 1];
  char login[256];
} msock_register_answer;

/* In the order of control.md 3.2; a 200 with Error is a failure. auth_key: what was sent or NULL;
 * a server text that repeats it is withheld. */
void msock_register_evaluate(int status, const uint8_t *body, size_t len, const char *auth_key,
                             msock_register_answer *out);
/* A later try with the same input cannot succeed: a person has to act. */
bool msock_register_is_final(msock_control_error e);
/* For the log: prefix and the first 8 characters after it (control.md 3.3). */
void msock_auth_key_short(const char *auth_key, char *buf, size_t cap);
/* Absolute http(s), at most 2048 bytes, printable ASCII without blanks and quotes. */
bool msock_auth_url_is_sane(const char *url);

#endif
