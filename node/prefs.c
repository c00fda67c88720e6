#include "node/prefs.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/tsnode_config.h"

/* One preference: how its JSON value is printed and taken. take gets NULL for null or absent in a
 * masked document, which means the zero value, as in the reference's decoder. */
typedef struct field {
  const char *name;
  msock_pref_bit bit;
  size_t offset; /* of a bool or a text member */
  size_t size;   /* of a text member */
  json_object *(*print)(const struct field *f, const msock_prefs *p);
  msock_err (*take)(const struct field *f, msock_prefs *p, json_object *v, char *why);
  msock_err (*check)(const char *text, char *why); /* of a text member; may be NULL */
} field;

static msock_err refuse(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static msock_err refuse(char *why, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(why, MSOCK_WHY_MAX, fmt, ap);
  va_end(ap);
  return MSOCK_ERR_INVALID;
}

/* The rules are the configuration's. "%.100s": reasons quote what the user typed, but not pages of
 * it, and no URL with a user in it, which may hold a password. */
static msock_err check_by(bool (*rule)(const char *text, char why[static MSOCK_CONFIG_WHY_MAX]),
                          const char *what, const char *text, char *why) {
  char expected[MSOCK_CONFIG_WHY_MAX];
  if (text[0] == '\0' || rule(text, expected)) {
    return MSOCK_OK;
  }
  return refuse(why, "%s \"%.100s\": %s", what, strchr(text, '@') ? "..." : text, expected);
}

msock_err msock_prefs_check_hostname(const char *text, char why[static MSOCK_WHY_MAX]) {
  return check_by(msock_tsnode_check_hostname, "host name", text, why);
}

msock_err msock_prefs_check_control_url(const char *text, char why[static MSOCK_WHY_MAX]) {
  return check_by(msock_tsnode_check_url, "login server", text, why);
}

msock_err msock_prefs_check_tag(const char *text, char why[static MSOCK_WHY_MAX]) {
  if (text[0] == '\0') {
    return refuse(why, "a tag is empty");
  }
  return check_by(msock_tsnode_check_tag, "tag", text, why);
}

static msock_err check_user(const char *text, char *why) {
  return check_by(msock_tsnode_check_user, "operator", text, why);
}

msock_err msock_prefs_check_built(const msock_prefs *p, uint32_t changed,
                                  char why[static MSOCK_WHY_MAX]) {
  const uint32_t exit_bits = MSOCK_PREF_EXIT_NODE_ID | MSOCK_PREF_EXIT_NODE_IP;
  const char *what = NULL;
  if (changed & exit_bits && (p->exit_node_id[0] != '\0' || p->exit_node_ip.family != 0)) {
    what = "using an exit node";
  } else if (changed & MSOCK_PREF_EXIT_NODE_ALLOW_LAN && p->exit_node_allow_lan) {
    what = "using an exit node (ExitNodeAllowLANAccess)";
  }
  for (size_t i = 0; changed & MSOCK_PREF_ADVERTISE_ROUTES && i < p->n_advertise_routes; i++) {
    what = p->advertise_routes[i].bits == 0 ? "being an exit node (a route with /0)" : what;
  }
  if (what == NULL) {
    return MSOCK_OK;
  }
  snprintf(why, MSOCK_WHY_MAX, "%s is not in this build; nothing was changed", what);
  return MSOCK_ERR_UNKNOWN;
}

static json_object *print_bool(const field *f, const msock_prefs *p) {
  return json_object_new_boolean(*(const bool *)((const char *)p + f->offset));
}

static msock_err take_bool(const field *f, msock_prefs *p, json_object *v, char *why) {
  if (v != NULL && !json_object_is_type(v, json_type_boolean)) {
    return refuse(why, "%s must be true or false", f->name);
  }
  *(bool *)((char *)p + f->offset) = v != NULL && json_object_get_boolean(v);
  return MSOCK_OK;
}

static json_object *print_text(const field *f, const msock_prefs *p) {
  return json_object_new_string((const char *)p + f->offset);
}

/* The string in v ("" for NULL), which must hold no NUL. */
static msock_err text_of(const char *name, json_object *v, const char **out, char *why) {
  if (v != NULL && !json_object_is_type(v, json_type_string)) {
    return refuse(why, "%s must be text", name);
  }
  *out = v != NULL ? json_object_get_string(v) : "";
  if (v != NULL && strlen(*out) != (size_t)json_object_get_string_len(v)) {
    return refuse(why, "%s holds a zero byte", name);
  }
  return MSOCK_OK;
}

static msock_err take_text(const field *f, msock_prefs *p, json_object *v, char *why) {
  const char *text;
  msock_err e = text_of(f->name, v, &text, why);
  if (e == MSOCK_OK && f->check != NULL) {
    e = f->check(text, why);
  }
  if (e != MSOCK_OK) {
    return e;
  }
  if (strlen(text) >= f->size) {
    return refuse(why, "%s is too long: \"%.100s\"", f->name, text);
  }
  memset((char *)p + f->offset, 0, f->size);
  memcpy((char *)p + f->offset, text, strlen(text));
  return MSOCK_OK;
}

/* One spelling of each server, so that the pinned key is found again. */
static msock_err take_url(const field *f, msock_prefs *p, json_object *v, char *why) {
  const msock_err e = take_text(f, p, v, why);
  if (e == MSOCK_OK) {
    const size_t len = strlen(p->control_url);
    if (len > 0 && p->control_url[len - 1] == '/') {
      p->control_url[len - 1] = '\0';
    }
  }
  return e;
}

static json_object *print_ip(const field *f, const msock_prefs *p) {
  char text[MSOCK_IP_TEXT_MAX];
  (void)f;
  return json_object_new_string(p->exit_node_ip.family ? msock_ip_text(&p->exit_node_ip, text)
                                                       : "");
}

static msock_err take_ip(const field *f, msock_prefs *p, json_object *v, char *why) {
  const char *text;
  const msock_err e = text_of(f->name, v, &text, why);
  if (e != MSOCK_OK) {
    return e;
  }
  p->exit_node_ip = (msock_ip){0};
  if (text[0] != '\0' && msock_ip_parse(text, &p->exit_node_ip) != MSOCK_OK) {
    return refuse(why, "%s \"%.100s\" is not an IP address", f->name, text);
  }
  return MSOCK_OK;
}

static json_object *print_routes(const field *f, const msock_prefs *p) {
  json_object *list = json_object_new_array();
  char text[MSOCK_PREFIX_TEXT_MAX];
  (void)f;
  for (size_t i = 0; list != NULL && i < p->n_advertise_routes; i++) {
    json_object_array_add(list,
                          json_object_new_string(msock_prefix_text(&p->advertise_routes[i], text)));
  }
  return list;
}

static int compare_routes(const void *a, const void *b) {
  const msock_prefix *x = a, *y = b;
  const int c = msock_ip_compare(&x->ip, &y->ip);
  return c != 0 ? c : (int)x->bits - (int)y->bits;
}

static msock_err list_of(const char *name, json_object *v, size_t max, size_t *n, char *why) {
  if (v != NULL && !json_object_is_type(v, json_type_array)) {
    return refuse(why, "%s must be a list", name);
  }
  *n = v != NULL ? json_object_array_length(v) : 0;
  return *n <= max ? MSOCK_OK : refuse(why, "%s has too many entries", name);
}

static msock_err take_routes(const field *f, msock_prefs *p, json_object *v, char *why) {
  msock_prefix list[MSOCK_PREFS_ROUTES_MAX];
  size_t n, kept = 0;
  msock_err e = list_of(f->name, v, MSOCK_PREFS_ROUTES_MAX, &n, why);
  if (e != MSOCK_OK) {
    return e;
  }
  for (size_t i = 0; i < n; i++) {
    const char *text;
    e = text_of(f->name, json_object_array_get_idx(v, i), &text, why);
    if (e != MSOCK_OK) {
      return e;
    }
    if (msock_prefix_parse(text, &list[i]) != MSOCK_OK) {
      return refuse(why, "%s: \"%.100s\" is not a route such as 10.0.0.0/24 (host bits zero)",
                    f->name, text);
    }
  }
  qsort(list, n, sizeof *list, compare_routes);
  for (size_t i = 0; i < n; i++) {
    if (kept == 0 || !msock_prefix_equal(&p->advertise_routes[kept - 1], &list[i])) {
      p->advertise_routes[kept++] = list[i];
    }
  }
  p->n_advertise_routes = kept;
  return MSOCK_OK;
}

static json_object *print_tags(const field *f, const msock_prefs *p) {
  json_object *list = json_object_new_array();
  (void)f;
  for (size_t i = 0; list != NULL && i < p->n_advertise_tags; i++) {
    json_object_array_add(list, json_object_new_string(p->advertise_tags[i]));
  }
  return list;
}

static msock_err take_tags(const field *f, msock_prefs *p, json_object *v, char *why) {
  size_t n;
  msock_err e = list_of(f->name, v, MSOCK_PREFS_TAGS_MAX, &n, why);
  if (e != MSOCK_OK) {
    return e;
  }
  memset(p->advertise_tags, 0, sizeof p->advertise_tags);
  for (size_t i = 0; i < n; i++) {
    const char *text;
    e = text_of(f->name, json_object_array_get_idx(v, i), &text, why);
    if (e == MSOCK_OK) {
      e = msock_prefs_check_tag(text, why);
    }
    if (e != MSOCK_OK) {
      return e;
    }
    memcpy(p->advertise_tags[i], text, strlen(text));
  }
  p->n_advertise_tags = n;
  return MSOCK_OK;
}

#define BOOL(json, id, member)                                                                     \
  { json, id, offsetof(msock_prefs, member), 0, print_bool, take_bool, NULL }
#define TEXT(json, id, member, taker, checker)                                                     \
  {                                                                                                \
    json, id, offsetof(msock_prefs, member), sizeof(((msock_prefs *)0)->member), print_text,       \
        taker, checker                                                                             \
  }

static msock_err check_url(const char *text, char *why) {
  return msock_prefs_check_control_url(text, why);
}

static msock_err check_hostname(const char *text, char *why) {
  return msock_prefs_check_hostname(text, why);
}

static const field fields[] = {
    TEXT("ControlURL", MSOCK_PREF_CONTROL_URL, control_url, take_url, check_url),
    TEXT("Hostname", MSOCK_PREF_HOSTNAME, hostname, take_text, check_hostname),
    BOOL("WantRunning", MSOCK_PREF_WANT_RUNNING, want_running),
    BOOL("LoggedOut", MSOCK_PREF_LOGGED_OUT, logged_out),
    BOOL("RouteAll", MSOCK_PREF_ACCEPT_ROUTES, accept_routes),
    BOOL("CorpDNS", MSOCK_PREF_ACCEPT_DNS, accept_dns),
    BOOL("ShieldsUp", MSOCK_PREF_SHIELDS_UP, shields_up),
    BOOL("ExitNodeAllowLANAccess", MSOCK_PREF_EXIT_NODE_ALLOW_LAN, exit_node_allow_lan),
    TEXT("OperatorUser", MSOCK_PREF_OPERATOR_USER, operator_user, take_text, check_user),
    {"AdvertiseRoutes", MSOCK_PREF_ADVERTISE_ROUTES, 0, 0, print_routes, take_routes, NULL},
    {"AdvertiseTags", MSOCK_PREF_ADVERTISE_TAGS, 0, 0, print_tags, take_tags, NULL},
    TEXT("ExitNodeID", MSOCK_PREF_EXIT_NODE_ID, exit_node_id, take_text, NULL),
    {"ExitNodeIP", MSOCK_PREF_EXIT_NODE_IP, 0, 0, print_ip, take_ip, NULL},
};
#define N_FIELDS (sizeof fields / sizeof *fields)

void msock_prefs_default(msock_prefs *p) {
  *p = (msock_prefs){.accept_dns = true};
}

json_object *msock_prefs_to_json(const msock_prefs *p) {
  json_object *doc = json_object_new_object();
  for (size_t i = 0; doc != NULL && i < N_FIELDS; i++) {
    json_object *v = fields[i].print(&fields[i], p);
    if (v == NULL || json_object_object_add(doc, fields[i].name, v) != 0) {
      json_object_put(v);
      json_object_put(doc);
      return NULL;
    }
  }
  return doc;
}

char *msock_prefs_text(const msock_prefs *p) {
  json_object *doc = msock_prefs_to_json(p);
  const char *text =
      doc ? json_object_to_json_string_ext(doc, JSON_C_TO_STRING_NOSLASHESCAPE) : NULL;
  char *copy = text ? strdup(text) : NULL;
  json_object_put(doc);
  return copy;
}

msock_err msock_prefs_apply(msock_prefs *p, json_object *doc, uint32_t *changed,
                            char why[static MSOCK_WHY_MAX]) {
  msock_prefs next = *p;
  uint32_t bits = 0;
  if (!json_object_is_type(doc, json_type_object)) {
    return refuse(why, "preferences must be a JSON object");
  }
  for (size_t i = 0; i < N_FIELDS; i++) {
    json_object *v;
    if (json_object_object_get_ex(doc, fields[i].name, &v)) {
      const msock_err e = fields[i].take(&fields[i], &next, v, why);
      if (e != MSOCK_OK) {
        return e;
      }
      bits |= (uint32_t)fields[i].bit;
    }
  }
  *p = next;
  if (changed != NULL) {
    *changed = bits;
  }
  return MSOCK_OK;
}

static const field *find_field(const char *name, size_t len) {
  for (size_t i = 0; i < N_FIELDS; i++) {
    if (strlen(fields[i].name) == len && memcmp(fields[i].name, name, len) == 0) {
      return &fields[i];
    }
  }
  return NULL;
}

/* Absent, null, false, 0, "" or an empty list: what is not built in is off anyway. */
static bool is_zero_value(json_object *v) {
  switch (json_object_get_type(v)) {
  case json_type_null:
    return true;
  case json_type_boolean:
    return !json_object_get_boolean(v);
  case json_type_int:
    return json_object_get_int64(v) == 0;
  case json_type_string:
    return json_object_get_string_len(v) == 0;
  case json_type_array:
    return json_object_array_length(v) == 0;
  default:
    return false;
  }
}

msock_err msock_prefs_apply_masked(msock_prefs *p, json_object *doc, uint32_t *changed,
                                   char why[static MSOCK_WHY_MAX]) {
  msock_prefs next = *p;
  uint32_t bits = 0;
  if (!json_object_is_type(doc, json_type_object)) {
    return refuse(why, "preferences must be a JSON object");
  }
  json_object_object_foreach(doc, key, mask) {
    const size_t len = strlen(key);
    if (len <= 3 || strcmp(key + len - 3, "Set") != 0 || mask == NULL ||
        !json_object_is_type(mask, json_type_boolean) || !json_object_get_boolean(mask)) {
      continue;
    }
    char name[64];
    json_object *v = NULL;
    snprintf(name, sizeof name, "%.*s", (int)(len - 3 < sizeof name ? len - 3 : sizeof name - 1),
             key);
    json_object_object_get_ex(doc, name, &v);
    const field *f = find_field(name, len - 3);
    if (f == NULL) {
      if (is_zero_value(v)) {
        continue;
      }
      refuse(why, "preference %.60s is not in this build", name);
      return MSOCK_ERR_UNKNOWN;
    }
    const msock_err e = f->take(f, &next, v, why);
    if (e != MSOCK_OK) {
      return e;
    }
    bits |= (uint32_t)f->bit;
  }
  *p = next;
  if (changed != NULL) {
    *changed = bits;
  }
  return MSOCK_OK;
}
