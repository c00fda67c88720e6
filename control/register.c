#include "control/register.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "control/map_request.h"
#include "crypto/wipe.h"

#define NL_KEY_ZERO "nlpub:0000000000000000000000000000000000000000000000000000000000000000"
#define KEY_ECHO_MIN                                                                               \
  12u                  /* a server text with so many characters of the key in a row is withheld    \
                        */
#define SHORT_CHARS 8u /* of a key in the log: control.md 3.3 */

/* --- request --- */

/* Appends text as a JSON string; gives the new end. dst holds 6 * strlen + 2 bytes. */
static char *put_json_string(char *dst, const char *text) {
  *dst++ = '"';
  for (; *text; text++) {
    const unsigned char c = (unsigned char)*text;
    if (c == '"' || c == '\\') {
      *dst++ = '\\';
      *dst++ = (char)c;
    } else if (c < 0x20) {
      dst += sprintf(dst, "\\u%04x", c);
    } else {
      *dst++ = (char)c;
    }
  }
  *dst++ = '"';
  return dst;
}

/* Puts the Auth member in front by hand, so that no library buffer keeps the key. */
static char *with_auth(char *text, size_t *len, const char *auth_key) {
  static const char open[] = "{\"Auth\":{\"AuthKey\":";
  char *out = malloc(sizeof open + 6 * strlen(auth_key) + 4 + *len);
  if (out) {
    memcpy(out, open, sizeof open - 1);
    char *at = put_json_string(out + sizeof open - 1, auth_key);
    *at++ = '}';
    *at++ = ',';
    memcpy(at, text + 1, *len); /* without '{', with the NUL */
    *len = (size_t)(at - out) + *len - 1;
  }
  free(text);
  return out;
}

char *msock_register_encode(const msock_register_request *r, size_t *len) {
  char key[MSOCK_KEY_TEXT_MAX];
  json_object *o = json_object_new_object();
  json_object_object_add(o, "Version", json_object_new_int64(r->version));
  json_object_object_add(o, "NodeKey",
                         json_object_new_string(msock_node_key_text(&r->node_key, key)));
  json_object_object_add(o, "OldNodeKey",
                         json_object_new_string(msock_node_key_text(&r->old_node_key, key)));
  json_object_object_add(o, "NLKey", json_object_new_string(NL_KEY_ZERO));
  if (r->logout) {
    json_object_object_add(o, "Expiry", json_object_new_string(MSOCK_LOGOUT_EXPIRY));
  }
  if (r->followup) {
    json_object_object_add(o, "Followup", json_object_new_string(r->followup));
  }
  if (r->ephemeral) {
    json_object_object_add(o, "Ephemeral", json_object_new_boolean(true));
  }
  json_object_object_add(o, "Hostinfo", msock_hostinfo_json(r->hostinfo, NULL));
  char *text = msock_control_json_text(o, len);
  return text && r->auth_key ? with_auth(text, len, r->auth_key) : text;
}

void msock_auth_key_short(const char *auth_key, char *buf, size_t cap) {
  static const char *const prefixes[] = {"hskey-auth-", "tskey-auth-"};
  size_t prefix = 0;
  for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
    if (strncmp(auth_key, prefixes[i], strlen(prefixes[i])) == 0) {
      prefix = strlen(prefixes[i]);
    }
  }
  snprintf(buf, cap, "%.*s...", (int)(prefix + SHORT_CHARS), auth_key);
}

/* --- answer --- */

bool msock_auth_url_is_sane(const char *url) {
  const size_t len = strlen(url);
  if (len > MSOCK_CONTROL_URL_MAX ||
      (strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0)) {
    return false;
  }
  for (size_t i = 0; i < len; i++) {
    if (url[i] <= ' ' || url[i] > '~' || strchr("\"'`\\<>", url[i]) != NULL) {
      return false;
    }
  }
  return strchr(url, '/')[2] != '\0';
}

static bool repeats_key(const char *text, const char *key) {
  const size_t n = key ? strlen(key) : 0;
  char part[KEY_ECHO_MIN + 1];
  bool found = false;
  for (size_t i = 0; i + KEY_ECHO_MIN <= n && !found; i++) {
    memcpy(part, key + i, KEY_ECHO_MIN);
    part[KEY_ECHO_MIN] = '\0';
    found = strstr(text, part) != NULL;
  }
  msock_wipe(part, sizeof part);
  return found || (n > 0 && n < KEY_ECHO_MIN && strstr(text, key) != NULL);
}

static void set_text(msock_register_answer *out, const char *text, size_t len,
                     const char *auth_key) {
  char clean[MSOCK_REGISTER_TEXT_MAX + 1];
  len = len < MSOCK_REGISTER_TEXT_MAX ? len : MSOCK_REGISTER_TEXT_MAX;
  for (size_t i = 0; i < len; i++) {
    clean[i] = text[i] >= ' ' && text[i] < 0x7f ? text[i] : '?';
  }
  while (len > 0 && (clean[len - 1] == '?' || clean[len - 1] == ' ')) {
    len--; /* the newline at the end */
  }
  clean[len] = '\0';
  snprintf(out->text, sizeof out->text, "%s",
           repeats_key(clean, auth_key) ? "the server's text repeats the auth key: withheld"
                                        : clean);
  msock_wipe(clean, sizeof clean);
}

static void fail(msock_register_answer *out, msock_control_error e, const char *text, size_t len,
                 const char *auth_key) {
  out->outcome = MSOCK_REGISTER_FAILED;
  out->error = e;
  set_text(out, text, len, auth_key);
}

static bool starts_with(const char *text, size_t len, const char *prefix) {
  return len >= strlen(prefix) && memcmp(text, prefix, strlen(prefix)) == 0;
}

static void evaluate_status(int status, const char *text, size_t len, const char *auth_key,
                            msock_register_answer *out) {
  char line[MSOCK_REGISTER_TEXT_MAX + 1];
  if (status == 400 && starts_with(text, len, "unsupported client version")) {
    fail(out, MSOCK_CONTROL_E_VERSION, text, len, auth_key);
    return;
  }
  const int n =
      snprintf(line, sizeof line, "HTTP %d: %.*s", status, (int)(len < 150 ? len : 150), text);
  fail(out, status == 429 || status == 503 ? MSOCK_CONTROL_E_BUSY : MSOCK_CONTROL_E_REGISTER_STATUS,
       line, (size_t)n, auth_key);
  msock_wipe(line, sizeof line);
}

/* Error texts of Headscale v0.29: control.md 3.3. The more special ones come first. */
static msock_control_error error_of(const char *text) {
  static const struct {
    const char *part;
    msock_control_error error;
  } rows[] = {
      {"failed to parse auth-key", MSOCK_CONTROL_E_AUTHKEY_MALFORMED},
      {"authkey already used", MSOCK_CONTROL_E_AUTHKEY_USED},
      {"authkey expired", MSOCK_CONTROL_E_AUTHKEY_EXPIRED},
      {"authkey revoked", MSOCK_CONTROL_E_AUTHKEY_REVOKED},
      {"invalid pre auth key", MSOCK_CONTROL_E_AUTHKEY_INVALID},
      {"invalid authkey", MSOCK_CONTROL_E_AUTHKEY_INVALID},
      {"node exists with a different machine key", MSOCK_CONTROL_E_OTHER_MACHINE},
      {"invalid registration ID", MSOCK_CONTROL_E_REGISTRATION_ID},
      {"extending key is not allowed", MSOCK_CONTROL_E_EXTEND_EXPIRY},
      {"unsupported client version", MSOCK_CONTROL_E_VERSION},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    if (strstr(text, rows[i].part)) {
      return rows[i].error;
    }
  }
  return MSOCK_CONTROL_E_REFUSED;
}

static const char *text_of(json_object *o, const char *name) {
  json_object *v = NULL;
  return json_object_object_get_ex(o, name, &v) && json_object_is_type(v, json_type_string)
             ? json_object_get_string(v)
             : "";
}

static bool flag_of(json_object *o, const char *name) {
  json_object *v = NULL;
  return json_object_object_get_ex(o, name, &v) && json_object_is_type(v, json_type_boolean) &&
         json_object_get_boolean(v);
}

static void evaluate_json(json_object *o, const char *auth_key, msock_register_answer *out) {
  json_object *login = NULL;
  const char *error = text_of(o, "Error"), *url = text_of(o, "AuthURL");

  if (json_object_object_get_ex(o, "Login", &login)) {
    snprintf(out->login, sizeof out->login, "%.255s", text_of(login, "LoginName"));
  }
  if (*error) {
    fail(out, error_of(error), error, strlen(error), auth_key);
  } else if (*text_of(o, "NodeKeySignature")) {
    static const char why[] = "the server wants tailnet lock signatures: not supported";
    fail(out, MSOCK_CONTROL_E_TAILNET_LOCK, why, sizeof why - 1, NULL);
  } else if (flag_of(o, "NodeKeyExpired")) {
    out->outcome = MSOCK_REGISTER_KEY_EXPIRED;
  } else if (*url && msock_auth_url_is_sane(url)) {
    out->outcome = MSOCK_REGISTER_AUTH_URL;
    snprintf(out->auth_url, sizeof out->auth_url, "%s", url);
  } else if (*url) {
    static const char why[] = "the server's login URL is malformed: not shown";
    fail(out, MSOCK_CONTROL_E_REGISTER_BODY, why, sizeof why - 1, NULL);
  } else {
    out->outcome = flag_of(o, "MachineAuthorized") ? MSOCK_REGISTER_DONE : MSOCK_REGISTER_WAIT;
  }
}

void msock_register_evaluate(int status, const uint8_t *body, size_t len, const char *auth_key,
                             msock_register_answer *out) {
  memset(out, 0, sizeof *out);
  if (status != 200) {
    evaluate_status(status, (const char *)body, len, auth_key, out);
    return;
  }
  json_tokener *t = json_tokener_new_ex(16);
  json_object *o = t && len <= MSOCK_REGISTER_BODY_MAX
                       ? json_tokener_parse_ex(t, (const char *)body, (int)len)
                       : NULL;
  if (json_object_is_type(o, json_type_object)) {
    evaluate_json(o, auth_key, out);
  } else {
    static const char why[] = "the answer is not a JSON object";
    fail(out, MSOCK_CONTROL_E_REGISTER_BODY, why, sizeof why - 1, NULL);
  }
  json_object_put(o);
  if (t) {
    json_tokener_free(t);
  }
}

bool msock_register_is_final(msock_control_error e) {
  switch (e) {
  case MSOCK_CONTROL_E_AUTHKEY_USED:
  case MSOCK_CONTROL_E_AUTHKEY_EXPIRED:
  case MSOCK_CONTROL_E_AUTHKEY_REVOKED:
  case MSOCK_CONTROL_E_AUTHKEY_INVALID:
  case MSOCK_CONTROL_E_AUTHKEY_MALFORMED:
  case MSOCK_CONTROL_E_OTHER_MACHINE:
  case MSOCK_CONTROL_E_EXTEND_EXPIRY:
  case MSOCK_CONTROL_E_TAILNET_LOCK:
    return true;
  default:
    return false;
  }
}
