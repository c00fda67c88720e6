#include "tscontrol/state.h"

#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"

#define STATE_MAX (1u << 20)

static msock_err refuse(char *why, const char *path) {
  snprintf(why, MSOCK_FILE_WHY_MAX,
           "%.200s is not a state file of tscontrol; name another file, or move this one away",
           path);
  return MSOCK_ERR_INVALID;
}

/* The lock file stands beside the state file: that one is replaced with every change. */
static msock_err lock_it(const char *path, int *lock, char *why) {
  char name[PATH_MAX];
  if ((size_t)snprintf(name, sizeof name, "%s.lock", path) >= sizeof name) {
    snprintf(why, MSOCK_FILE_WHY_MAX, "the path of the state file is too long");
    return MSOCK_ERR_INVALID;
  }
  return msock_file_lock(name, lock, why);
}

msock_err msock_tscontrol_state_load(const char *path, int *lock, msock_machine_private *key,
                                     char **nodes, char why[static MSOCK_FILE_WHY_MAX]) {
  char *text = NULL;
  size_t len = 0;
  json_object *secret = NULL, *list = NULL;
  msock_err e = lock_it(path, lock, why);
  if (e != MSOCK_OK) {
    return e == MSOCK_ERR_UNKNOWN ? MSOCK_ERR_IO : e;
  }
  e = msock_file_read(path, STATE_MAX, true, &text, &len, why);
  if (e != MSOCK_OK) {
    return e;
  }
  json_object *o = json_tokener_parse(text);
  msock_wipe(text, len);
  free(text);
  if (json_object_is_type(o, json_type_object) &&
      json_object_object_get_ex(o, "private_key", &secret) &&
      json_object_is_type(secret, json_type_string) &&
      msock_machine_private_parse(json_object_get_string(secret), key) == MSOCK_OK &&
      json_object_object_get_ex(o, "tailnet", &list)) {
    *nodes = strdup(json_object_to_json_string_ext(list, JSON_C_TO_STRING_PLAIN));
    e = *nodes ? MSOCK_OK : MSOCK_ERR_NOMEM;
  } else {
    e = refuse(why, path);
  }
  json_object_put(o);
  return e;
}

msock_err msock_tscontrol_state_save(const char *path, const msock_machine_private *key,
                                     msock_tailnet *t, char why[static MSOCK_FILE_WHY_MAX]) {
  const char *slash = strrchr(path, '/');
  char dir[PATH_MAX], secret[MSOCK_KEY_TEXT_MAX];
  size_t len = 0;
  char *nodes = msock_tailnet_state(t, &len);
  const size_t cap = len + sizeof secret + 64;
  char *all = nodes ? malloc(cap) : NULL;
  msock_err e = MSOCK_ERR_NOMEM;

  snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
  if (all != NULL) {
    const int n = snprintf(all, cap, "{\"private_key\":\"%s\",\n\"tailnet\":%s}\n",
                           msock_machine_private_text(key, secret), nodes);
    e = msock_file_write(slash == path ? "/" : dir, slash ? slash + 1 : path, all, (size_t)n, why);
    msock_wipe(all, cap);
    msock_wipe(secret, sizeof secret);
  } else {
    snprintf(why, MSOCK_FILE_WHY_MAX, "out of memory");
  }
  free(all);
  free(nodes);
  return e;
}
