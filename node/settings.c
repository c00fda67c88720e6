#include "node/settings.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/derp_map.h"
#include "config/derp_map_file.h"
#include "crypto/wipe.h"
#include "io/file.h"

struct msock_settings {
  msock_settings_sources sources;
  msock_config *config; /* NULL before the first good load */
  const msock_config_row *changed[MSOCK_SETTINGS_CHANGES_MAX];
  size_t n_changed;
};

msock_settings *msock_settings_new(const msock_settings_sources *sources) {
  msock_settings *s = calloc(1, sizeof *s);
  if (s != NULL) {
    s->sources = *sources;
  }
  return s;
}

void msock_settings_free(msock_settings *s) {
  if (s != NULL) {
    msock_config_free(s->config);
    free(s);
  }
}

/* Reads a file of the configuration. An optional one that is absent gives MSOCK_OK and NULL. */
static msock_err read_file(const char *path, bool optional, char **bytes, size_t *len,
                           msock_config_report *report) {
  char why[MSOCK_FILE_WHY_MAX];
  *bytes = NULL;
  *len = 0;
  const msock_err e = msock_file_read(path, MSOCK_SETTINGS_FILE_MAX, false, bytes, len, why);
  if (e == MSOCK_OK || (e == MSOCK_ERR_UNKNOWN && optional)) {
    return MSOCK_OK;
  }
  msock_config_report_unreadable(&msock_tsnode_schema, e, why, report);
  return MSOCK_ERR_INVALID;
}

msock_err msock_settings_load(msock_settings *s, msock_config_report *report) {
  const msock_settings_sources *from = &s->sources;
  const size_t errors_before = report->n_errors;
  char *bytes = NULL;
  size_t len = 0;

  if (from->file && read_file(from->file, from->file_is_optional, &bytes, &len, report)) {
    return MSOCK_ERR_INVALID;
  }
  msock_config *c =
      msock_tsnode_config_load(&(msock_tsnode_sources){.file_name = from->file,
                                                       .file = (const uint8_t *)bytes,
                                                       .file_len = len,
                                                       .environment = from->environment,
                                                       .flags = from->flags,
                                                       .n_flags = from->n_flags},
                               report);
  if (bytes != NULL) {
    msock_wipe(bytes, len); /* it may hold the auth key */
    free(bytes);
  }
  for (size_t i = 0; c != NULL && i < from->n_defaults; i++) {
    const msock_settings_default *d = &from->defaults[i];
    if (msock_config_imply(c, d->key, d->text, d->because) != MSOCK_OK) {
      msock_config_report_add(report, false, d->because, d->key, NULL, "not a value: %s", d->text);
    }
  }
  if (c != NULL) {
    msock_tsnode_check_built(c, report);
  }
  if (c == NULL || report->n_errors != errors_before) {
    msock_config_free(c);
    return MSOCK_ERR_INVALID;
  }
  s->n_changed =
      s->config ? msock_config_diff(s->config, c, s->changed, MSOCK_SETTINGS_CHANGES_MAX) : 0;
  if (s->n_changed > MSOCK_SETTINGS_CHANGES_MAX) {
    s->n_changed = MSOCK_SETTINGS_CHANGES_MAX;
  }
  msock_config_free(s->config);
  s->config = c;
  return MSOCK_OK;
}

const msock_tsnode_config *msock_settings_values(const msock_settings *s) {
  return msock_tsnode_config_values(s->config);
}

const msock_config *msock_settings_config(const msock_settings *s) {
  return s->config;
}

size_t msock_settings_changed(const msock_settings *s, const msock_config_row *const **rows) {
  *rows = s->changed;
  return s->n_changed;
}

/* --- into preferences --- */

static json_object *routes_of(const msock_tsnode_config *v) {
  json_object *list = json_object_new_array();
  char text[MSOCK_PREFIX_TEXT_MAX];
  for (size_t i = 0; i < v->advertise_routes.n; i++) {
    json_object_array_add(
        list, json_object_new_string(msock_prefix_text(&v->advertise_routes.v[i], text)));
  }
  return list;
}

static json_object *tags_of(const msock_tsnode_config *v) {
  json_object *list = json_object_new_array();
  for (size_t i = 0; i < v->advertise_tags.n; i++) {
    json_object_array_add(list, json_object_new_string(v->advertise_tags.v[i]));
  }
  return list;
}

/* The preference of a setting and its value; false: the setting is none. */
static bool pref_of(const char *key, const msock_tsnode_config *v, const char **name,
                    json_object **value) {
  static const char *const names[][2] = {
      {"login_server", "ControlURL"},      {"hostname", "Hostname"},
      {"operator", "OperatorUser"},        {"enabled", "WantRunning"},
      {"accept_routes", "RouteAll"},       {"accept_dns", "CorpDNS"},
      {"shields_up", "ShieldsUp"},         {"advertise_routes", "AdvertiseRoutes"},
      {"advertise_tags", "AdvertiseTags"},
  };
  const char *const texts[] = {v->login_server, v->hostname, v->operator_user};
  const bool flags[] = {v->enabled, v->accept_routes, v->accept_dns, v->shields_up};
  size_t i = 0;
  while (i < sizeof names / sizeof *names && strcmp(names[i][0], key) != 0) {
    i++;
  }
  if (i == sizeof names / sizeof *names) {
    return false;
  }
  *name = names[i][1];
  *value = i < 3    ? json_object_new_string(texts[i])
           : i < 7  ? json_object_new_boolean(flags[i - 3])
           : i == 7 ? routes_of(v)
                    : tags_of(v);
  return true;
}

msock_err msock_settings_to_prefs(const msock_settings *s, bool changed_only, bool has_login,
                                  msock_prefs *p, uint32_t *bits, char why[static MSOCK_WHY_MAX]) {
  const msock_tsnode_config *v = msock_settings_values(s);
  json_object *doc = json_object_new_object(), *value = NULL;
  const char *name = NULL;

  for (size_t i = 0; i < (changed_only ? s->n_changed : msock_tsnode_schema.n_rows); i++) {
    const msock_config_row *row = changed_only ? s->changed[i] : &msock_tsnode_schema.rows[i];
    const bool wanted =
        changed_only ? row->reloadable : !msock_config_is_default(s->config, row->key);
    if (wanted && pref_of(row->key, v, &name, &value)) {
      json_object_object_add(doc, name, value);
    }
  }
  if (!changed_only && !has_login && !p->logged_out && v->login_server[0] != '\0' &&
      msock_config_is_default(s->config, "enabled")) {
    json_object_object_add(doc, "WantRunning", json_object_new_boolean(true));
  }
  const msock_err e = msock_prefs_apply(p, doc, bits, why);
  json_object_put(doc);
  return e;
}

/* --- what stands in files of its own --- */

/* Room for one problem in words. */
static msock_err tell(const msock_config_report *r, char why[static MSOCK_WHY_MAX]) {
  char text[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  snprintf(why, MSOCK_WHY_MAX, "%.500s",
           r->n > 0 ? msock_config_problem_text(&r->problems[0], text) : "not enough memory");
  return MSOCK_ERR_INVALID;
}

msock_err msock_settings_auth_key(const msock_settings *s, char key[static MSOCK_SETTINGS_KEY_MAX],
                                  char why[static MSOCK_WHY_MAX]) {
  const msock_tsnode_config *v = msock_settings_values(s);
  msock_config_report report = {0};
  char *bytes = NULL;
  size_t len = 0;

  key[0] = '\0';
  if (v->auth_key_file[0] == '\0') {
    snprintf(key, MSOCK_SETTINGS_KEY_MAX, "%s", v->auth_key);
    return MSOCK_OK;
  }
  if (read_file(v->auth_key_file, false, &bytes, &len, &report) != MSOCK_OK) {
    return tell(&report, why);
  }
  char *secret = msock_config_secret_from_file(&msock_tsnode_schema, "auth_key", v->auth_key_file,
                                               (const uint8_t *)bytes, len, &report);
  msock_wipe(bytes, len);
  free(bytes);
  if (secret == NULL) {
    return tell(&report, why);
  }
  const bool fits = strlen(secret) < MSOCK_SETTINGS_KEY_MAX;
  snprintf(key, MSOCK_SETTINGS_KEY_MAX, "%s", fits ? secret : "");
  msock_config_free_secret(secret);
  if (!fits) {
    snprintf(why, MSOCK_WHY_MAX, "the key in %.200s is too long", v->auth_key_file);
  }
  return fits ? MSOCK_OK : MSOCK_ERR_INVALID;
}

/* Moves the regions of extra into out, which is sorted by id and has room. */
static void add_regions(msock_derp_map *out, msock_derp_map *extra) {
  for (size_t i = 0; i < extra->n_regions; i++) {
    size_t at = 0;
    while (at < out->n_regions && out->regions[at].id < extra->regions[i].id) {
      at++;
    }
    if (at < out->n_regions && out->regions[at].id == extra->regions[i].id) {
      free(out->regions[at].nodes);
    } else {
      memmove(out->regions + at + 1, out->regions + at,
              (out->n_regions - at) * sizeof *out->regions);
      out->n_regions++;
    }
    out->regions[at] = extra->regions[i];
  }
  extra->n_regions = 0; /* their nodes moved */
  msock_derp_map_clear(extra);
}

msock_err msock_settings_derp_map(const msock_settings *s, const msock_derp_map *from,
                                  msock_derp_map *out, msock_config_report *report) {
  const char *path = msock_settings_values(s)->derp_map_file;
  msock_derp_map extra = {0};
  char *bytes = NULL;
  size_t len = 0;
  msock_err e = MSOCK_OK;

  if (path[0] == '\0') {
    return msock_derp_map_copy(out, from);
  }
  e = read_file(path, false, &bytes, &len, report);
  if (e == MSOCK_OK) {
    e = msock_derp_map_read(path, (const uint8_t *)bytes, len, &extra, report);
    free(bytes);
  }
  if (e == MSOCK_OK) {
    e = msock_derp_map_copy(out, from);
  }
  if (e == MSOCK_OK) {
    msock_derp_region *room =
        realloc(out->regions, (out->n_regions + extra.n_regions + 1) * sizeof *room);
    if (room == NULL) {
      msock_derp_map_clear(out);
      e = MSOCK_ERR_NOMEM;
    } else {
      out->regions = room;
      add_regions(out, &extra);
    }
  }
  msock_derp_map_clear(&extra);
  return e;
}
