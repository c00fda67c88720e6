/* node/settings.h: the configuration of a running daemon: its sources, what they gave at the last
 * good load, and how it becomes preferences. Loaded at start and again at SIGHUP; a bad load keeps
 * what is in force. */
#ifndef MSOCK_NODE_SETTINGS_H
#define MSOCK_NODE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/derp_map.h"
#include "config/tsnode_config.h"
#include "node/prefs.h"

#define MSOCK_SETTINGS_FILE_MAX (1024u * 1024u) /* larger files are refused: ours are a few KiB */
#define MSOCK_SETTINGS_CHANGES_MAX 64u          /* rows of the table that one reload can name */
#define MSOCK_SETTINGS_KEY_MAX 512u             /* auth key with its NUL, as LocalAPI takes */

/* A default that depends on who runs the daemon ("tun" = "none" without root). */
typedef struct msock_settings_default {
  const char *key, *text, *because;
} msock_settings_default;

/* Everything is borrowed for the life of the settings. */
typedef struct msock_settings_sources {
  const char *file;      /* path; NULL = none */
  bool file_is_optional; /* a path by default: when absent, there is none */
  const char *const *environment;
  const char *const *flags;
  size_t n_flags;
  const msock_settings_default *defaults;
  size_t n_defaults;
} msock_settings_sources;

typedef struct msock_settings msock_settings;

/* Nothing is read yet. NULL without memory. */
msock_settings *msock_settings_new(const msock_settings_sources *sources);
void msock_settings_free(msock_settings *s); /* wipes secrets */

/* Reads all sources. MSOCK_ERR_INVALID: the report has the errors, what was in force stays.
 * Warnings may stand in the report either way. */
msock_err msock_settings_load(msock_settings *s, msock_config_report *report);
/* After a good load; valid until the next one. */
const msock_tsnode_config *msock_settings_values(const msock_settings *s);
const msock_config *msock_settings_config(const msock_settings *s);
/* Rows that the last load changed (none at the first), in table order. */
size_t msock_settings_changed(const msock_settings *s, const msock_config_row *const **rows);

/* Writes into p what the configuration asks for: at start everything that some source gives, after
 * a reload (changed_only) what changed and may change in a running daemon. *bits = what was named
 * (msock_pref_bit). MSOCK_ERR_INVALID with the reason in why, p untouched.
 * A configuration that has a server, and no word on `enabled`, brings a node up that never logged
 * in and was not logged out. */
msock_err msock_settings_to_prefs(const msock_settings *s, bool changed_only, bool has_login,
                                  msock_prefs *p, uint32_t *bits, char why[static MSOCK_WHY_MAX]);

/* The pre-auth key of the configuration, its file read now; "" when there is none. The caller wipes
 * key. MSOCK_ERR_INVALID with the reason, which never repeats the key. */
msock_err msock_settings_auth_key(const msock_settings *s, char key[static MSOCK_SETTINGS_KEY_MAX],
                                  char why[static MSOCK_WHY_MAX]);

/* Adds the regions of derp_map_file to a copy of from; a region of both is the file's. out is
 * uninitialised before, the caller's to clear after MSOCK_OK. */
msock_err msock_settings_derp_map(const msock_settings *s, const msock_derp_map *from,
                                  msock_derp_map *out, msock_config_report *report);

#endif
