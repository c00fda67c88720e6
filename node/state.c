#include "node/state.h"

#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "io/file.h"

#define SECRETS_MAX 8u /* private keys of one file: three, and room for a look at a strange one */
#define SECRET_PREFIX "privkey:"
#define SECRET_DIGITS (2u * MSOCK_KEY_LEN)
#define JSON_DEPTH_MAX 8
#define LOG_ID_BYTES 32u
#define PATH_MAX_BYTES 1024u /* longest state path we take */

/* Private keys outside the text, in the order they were lifted. Wiped by whoever made it. */
typedef struct secrets {
  uint8_t key[SECRETS_MAX][MSOCK_KEY_LEN];
  size_t n;
} secrets;

static msock_err refuse(msock_err e, char *why, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static msock_err refuse(msock_err e, char *why, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(why, MSOCK_WHY_MAX, fmt, ap);
  va_end(ap);
  return e;
}

static bool is_zero(const uint8_t key[static MSOCK_KEY_LEN]) {
  static const uint8_t zero[MSOCK_KEY_LEN];
  return msock_ct_equal(key, zero, MSOCK_KEY_LEN);
}

/* What stands in the text for secret i: the digits all zero but the last, which is i + 1. */
static void write_stand_in(char digits[static SECRET_DIGITS], size_t i) {
  memset(digits, '0', SECRET_DIGITS);
  digits[SECRET_DIGITS - 1] = (char)('1' + i);
}

/* Next "privkey:" in text at or after *at with 64 digits behind it; NULL = none. */
static char *next_secret(char *text, size_t len, size_t *at) {
  const size_t prefix = strlen(SECRET_PREFIX);
  for (; *at + prefix + SECRET_DIGITS <= len; (*at)++) {
    if (memcmp(text + *at, SECRET_PREFIX, prefix) == 0) {
      char *digits = text + *at + prefix;
      *at += prefix;
      return digits;
    }
  }
  return NULL;
}

static bool lift_secrets(char *text, size_t len, secrets *out) {
  size_t at = 0;
  for (char *digits; (digits = next_secret(text, len, &at)) != NULL;) {
    if (out->n == SECRETS_MAX) {
      return false;
    }
    if (msock_hex_decode(digits, out->key[out->n], MSOCK_KEY_LEN)) {
      write_stand_in(digits, out->n++);
    }
  }
  return true;
}

static void put_secrets(char *text, size_t len, const secrets *from) {
  size_t at = 0;
  for (char *digits; (digits = next_secret(text, len, &at)) != NULL;) {
    const size_t i = (size_t)(digits[SECRET_DIGITS - 1] - '1');
    const char after = digits[SECRET_DIGITS]; /* the encoder ends with a NUL */
    if (i < from->n) {
      msock_hex_encode(from->key[i], MSOCK_KEY_LEN, digits);
      digits[SECRET_DIGITS] = after;
    }
  }
}

/* Absent, null and "" leave a zero key. */
static bool take_secret(json_object *doc, const char *name, const secrets *from,
                        uint8_t out[static MSOCK_KEY_LEN]) {
  char want[sizeof SECRET_PREFIX + SECRET_DIGITS] = SECRET_PREFIX;
  json_object *v;
  memset(out, 0, MSOCK_KEY_LEN);
  if (!json_object_object_get_ex(doc, name, &v) || v == NULL) {
    return true;
  }
  if (!json_object_is_type(v, json_type_string)) {
    return false;
  }
  const char *text = json_object_get_string(v);
  if (text[0] == '\0') {
    return true;
  }
  for (size_t i = 0; i < from->n; i++) {
    write_stand_in(want + strlen(SECRET_PREFIX), i);
    if (strcmp(text, want) == 0) {
      memcpy(out, from->key[i], MSOCK_KEY_LEN);
      return true;
    }
  }
  return false;
}

static bool take_text(json_object *doc, const char *name, char *out, size_t cap) {
  json_object *v;
  out[0] = '\0';
  if (!json_object_object_get_ex(doc, name, &v) || v == NULL) {
    return true;
  }
  if (!json_object_is_type(v, json_type_string) || strlen(json_object_get_string(v)) >= cap ||
      strstr(json_object_get_string(v), SECRET_PREFIX) != NULL) { /* what looks like a key is one */
    return false;
  }
  snprintf(out, cap, "%s", json_object_get_string(v));
  return true;
}

static bool take_server_key(json_object *doc, msock_machine_key *out) {
  char text[MSOCK_KEY_TEXT_MAX];
  *out = (msock_machine_key){0};
  return take_text(doc, "server_key", text, sizeof text) &&
         (text[0] == '\0' || msock_machine_key_parse(text, out) == MSOCK_OK);
}

static bool take_addrs(json_object *doc, msock_state *s) {
  json_object *list;
  if (!json_object_object_get_ex(doc, "self_addrs", &list) || list == NULL) {
    return true;
  }
  if (!json_object_is_type(list, json_type_array) ||
      json_object_array_length(list) > MSOCK_STATE_ADDRS_MAX) {
    return false;
  }
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *v = json_object_array_get_idx(list, i);
    if (!json_object_is_type(v, json_type_string) ||
        msock_prefix_parse(json_object_get_string(v), &s->self_addrs[i]) != MSOCK_OK) {
      return false;
    }
    s->n_self_addrs++;
  }
  return true;
}

static bool is_log_id(const char *text) {
  uint8_t bytes[LOG_ID_BYTES];
  return strlen(text) == 2 * LOG_ID_BYTES && msock_hex_decode(text, bytes, LOG_ID_BYTES);
}

static msock_err check_version(json_object *doc, char *why) {
  json_object *v;
  if (!json_object_is_type(doc, json_type_object) ||
      !json_object_object_get_ex(doc, "version", &v) || !json_object_is_type(v, json_type_int)) {
    return refuse(MSOCK_ERR_INVALID, why, "it has no \"version\": it is not a state file of ours");
  }
  const int64_t version = json_object_get_int64(v);
  if (version > MSOCK_STATE_VERSION) {
    return refuse(MSOCK_ERR_UNKNOWN, why,
                  "it has version %lld, this program knows versions up to %d", (long long)version,
                  MSOCK_STATE_VERSION);
  }
  return version == MSOCK_STATE_VERSION
             ? MSOCK_OK
             : refuse(MSOCK_ERR_INVALID, why, "version %lld never existed", (long long)version);
}

static msock_err read_doc(json_object *doc, const secrets *keys, msock_state *s, char *why) {
  json_object *prefs = NULL;
  const char *bad = NULL;
  msock_err e = check_version(doc, why);
  if (e != MSOCK_OK) {
    return e;
  }
  msock_prefs_default(&s->prefs);
  if (!take_secret(doc, "machine_private", keys, s->machine_private.b) ||
      is_zero(s->machine_private.b)) {
    bad = "machine_private";
  } else if (!take_secret(doc, "node_private", keys, s->node_private.b)) {
    bad = "node_private";
  } else if (!take_secret(doc, "old_node_private", keys, s->old_node_private.b)) {
    bad = "old_node_private";
  } else if (!take_text(doc, "server_url", s->server_url, sizeof s->server_url)) {
    bad = "server_url";
  } else if (!take_server_key(doc, &s->server_key)) {
    bad = "server_key";
  } else if (!take_text(doc, "log_id", s->log_id, sizeof s->log_id) || !is_log_id(s->log_id)) {
    bad = "log_id";
  } else if (!take_text(doc, "node_id", s->node_id, sizeof s->node_id)) {
    bad = "node_id";
  } else if (!take_addrs(doc, s)) {
    bad = "self_addrs";
  }
  if (bad != NULL) {
    return refuse(MSOCK_ERR_INVALID, why, "its \"%s\" is missing or malformed", bad);
  }
  if (json_object_object_get_ex(doc, "prefs", &prefs) && prefs != NULL) {
    e = msock_prefs_apply(&s->prefs, prefs, NULL, why);
  }
  return e;
}

msock_err msock_state_parse(char *text, size_t len, msock_state *out,
                            char why[static MSOCK_WHY_MAX]) {
  secrets keys = {0};
  msock_state s = {0};
  json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX);
  json_object *doc = NULL;
  msock_err e = MSOCK_ERR_NOMEM;

  snprintf(why, MSOCK_WHY_MAX, "out of memory");
  if (tok == NULL) {
    return e;
  }
  if (len > MSOCK_STATE_FILE_MAX || !lift_secrets(text, len, &keys)) {
    e = refuse(MSOCK_ERR_INVALID, why, "it is too long");
    goto out;
  }
  json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
  doc = json_tokener_parse_ex(tok, text, (int)len);
  const enum json_tokener_error je = json_tokener_get_error(tok);
  if (je == json_tokener_continue) {
    e = refuse(MSOCK_ERR_INVALID, why, "it ends too early");
  } else if (je != json_tokener_success) {
    e = refuse(MSOCK_ERR_INVALID, why, "it is not JSON at byte %zu: %s",
               json_tokener_get_parse_end(tok), json_tokener_error_desc(je));
  } else {
    e = read_doc(doc, &keys, &s, why);
  }
  if (e == MSOCK_OK) {
    *out = s;
    why[0] = '\0';
  }

out:
  json_object_put(doc);
  json_tokener_free(tok);
  msock_wipe(&keys, sizeof keys);
  msock_wipe(&s, sizeof s);
  return e;
}

/* Takes v; false without memory. */
static bool add(json_object *doc, const char *name, json_object *v) {
  if (v == NULL || json_object_object_add(doc, name, v) != 0) {
    json_object_put(v);
    return false;
  }
  return true;
}

static bool add_text(json_object *doc, const char *name, const char *text) {
  return add(doc, name, json_object_new_string(text));
}

static bool add_secret(json_object *doc, const char *name, const uint8_t key[static MSOCK_KEY_LEN],
                       secrets *keys) {
  char text[sizeof SECRET_PREFIX + SECRET_DIGITS] = SECRET_PREFIX;
  if (is_zero(key)) {
    return add_text(doc, name, "");
  }
  write_stand_in(text + strlen(SECRET_PREFIX), keys->n);
  memcpy(keys->key[keys->n++], key, MSOCK_KEY_LEN);
  return add_text(doc, name, text);
}

static json_object *addrs_to_json(const msock_state *s) {
  json_object *list = json_object_new_array();
  char text[MSOCK_PREFIX_TEXT_MAX];
  for (size_t i = 0; list != NULL && i < s->n_self_addrs; i++) {
    json_object_array_add(list, json_object_new_string(msock_prefix_text(&s->self_addrs[i], text)));
  }
  return list;
}

char *msock_state_print(const msock_state *s, size_t *len) {
  secrets keys = {0};
  char server_key[MSOCK_KEY_TEXT_MAX] = "";
  char *text = NULL;
  json_object *doc = json_object_new_object();
  if (doc == NULL) {
    return NULL;
  }
  if (!msock_machine_key_is_zero(&s->server_key)) {
    msock_machine_key_text(&s->server_key, server_key);
  }
  if (add(doc, "version", json_object_new_int(MSOCK_STATE_VERSION)) &&
      add_text(doc, "server_url", s->server_url) && add_text(doc, "server_key", server_key) &&
      add_secret(doc, "machine_private", s->machine_private.b, &keys) &&
      add_secret(doc, "node_private", s->node_private.b, &keys) &&
      add_secret(doc, "old_node_private", s->old_node_private.b, &keys) &&
      add_text(doc, "log_id", s->log_id) && add_text(doc, "node_id", s->node_id) &&
      add(doc, "self_addrs", addrs_to_json(s)) &&
      add(doc, "prefs", msock_prefs_to_json(&s->prefs))) {
    const char *json = json_object_to_json_string_length(
        doc, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE, len);
    text = json != NULL ? strdup(json) : NULL;
  }
  if (text != NULL) {
    put_secrets(text, *len, &keys);
  }
  json_object_put(doc);
  msock_wipe(&keys, sizeof keys);
  return text;
}

void msock_state_fresh(msock_state *s, const msock_env *env) {
  uint8_t id[LOG_ID_BYTES];
  *s = (msock_state){0};
  msock_machine_private_generate(env, &s->machine_private);
  env->random(env->ctx, id, sizeof id);
  msock_hex_encode(id, sizeof id, s->log_id);
  msock_prefs_default(&s->prefs);
}

void msock_state_forget_login(msock_state *s) {
  msock_wipe(&s->node_private, sizeof s->node_private);
  msock_wipe(&s->old_node_private, sizeof s->old_node_private);
  memset(s->node_id, 0, sizeof s->node_id);
  memset(s->self_addrs, 0, sizeof s->self_addrs);
  s->n_self_addrs = 0;
}

void msock_state_clear(msock_state *s) {
  msock_wipe(s, sizeof *s);
}

bool msock_state_has_node_key(const msock_state *s) {
  return !is_zero(s->node_private.b);
}

/* "dir/name" apart; a bare name is in ".". */
static msock_err split_path(const char *path, char dir[static PATH_MAX_BYTES], const char **name,
                            char *why) {
  const char *slash = strrchr(path, '/');
  *name = slash != NULL ? slash + 1 : path;
  if (strlen(path) >= PATH_MAX_BYTES || (*name)[0] == '\0') {
    return refuse(MSOCK_ERR_INVALID, why, "\"%.200s\" is not a path of a state file", path);
  }
  if (slash == NULL) {
    memcpy(dir, ".", 2);
  } else {
    const size_t len = slash == path ? 1 : (size_t)(slash - path);
    memcpy(dir, path, len);
    dir[len] = '\0';
  }
  return MSOCK_OK;
}

msock_err msock_state_load(const char *path, const msock_env *env, msock_state *out, bool *fresh,
                           char why[static MSOCK_WHY_MAX]) {
  char reason[MSOCK_WHY_MAX] = "";
  char *text = NULL;
  size_t len = 0;
  if (fresh != NULL) {
    *fresh = false;
  }
  why[0] = '\0';
  if (path == NULL) {
    msock_state_fresh(out, env);
    return MSOCK_OK;
  }
  msock_err e = msock_file_read(path, MSOCK_STATE_FILE_MAX, true, &text, &len, reason);
  if (e == MSOCK_ERR_UNKNOWN) {
    msock_state_fresh(out, env);
    if (fresh != NULL) {
      *fresh = true;
    }
    return MSOCK_OK;
  }
  if (e != MSOCK_OK) {
    return refuse(e == MSOCK_ERR_NOBUF ? MSOCK_ERR_INVALID : e, why, "%s", reason);
  }
  e = msock_state_parse(text, len, out, reason);
  msock_wipe(text, len);
  free(text);
  if (e == MSOCK_ERR_UNKNOWN) {
    return refuse(e, why, "state file %.150s is of a newer tsnode: %.100s; run that one", path,
                  reason);
  }
  if (e != MSOCK_OK) {
    return refuse(e, why,
                  "state file %.110s cannot be used: %.100s; put a good copy back, or move it away "
                  "(mv '%.110s' '%.110s.bad') and log in again as a new device",
                  path, reason, path, path);
  }
  return MSOCK_OK;
}

msock_err msock_state_save(const char *path, const msock_state *s, char why[static MSOCK_WHY_MAX]) {
  char dir[PATH_MAX_BYTES];
  const char *name;
  size_t len = 0;
  if (path == NULL) {
    return MSOCK_OK;
  }
  msock_err e = split_path(path, dir, &name, why);
  if (e != MSOCK_OK) {
    return e;
  }
  char *text = msock_state_print(s, &len);
  if (text == NULL) {
    return refuse(MSOCK_ERR_NOMEM, why, "out of memory");
  }
  e = msock_file_write(dir, name, text, len, why);
  msock_wipe(text, len);
  free(text);
  return e;
}

msock_err msock_state_take_lock(const char *path, msock_state_lock *out,
                                char why[static MSOCK_WHY_MAX]) {
  char dir[PATH_MAX_BYTES], lock[PATH_MAX_BYTES + 8];
  const char *name;
  out->fd = -1;
  if (path == NULL) {
    return MSOCK_OK;
  }
  msock_err e = split_path(path, dir, &name, why);
  if (e == MSOCK_OK) {
    e = msock_file_ensure_dir(dir, why);
  }
  if (e == MSOCK_OK) {
    snprintf(lock, sizeof lock, "%s.lock", path);
    e = msock_file_lock(lock, &out->fd, why);
  }
  return e;
}

void msock_state_unlock(msock_state_lock *l) {
  if (l->fd >= 0) {
    msock_file_unlock(l->fd);
    l->fd = -1;
  }
}
