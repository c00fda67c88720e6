/* derpd/lists.h: settings as the relay's core wants them: limits, bans, key lists, with the files
 * that the settings name. */
#ifndef MSOCK_DERPD_LISTS_H
#define MSOCK_DERPD_LISTS_H

#include "config/derpd_config.h"
#include "derp/server_settings.h"
#include "derpd/admission.h"

#define MSOCK_DERPD_LIST_FILE_MAX (8u << 20) /* bytes of a list file */

typedef struct msock_derpd_lists {
  msock_derpd_keys admitted;
  bool has_admitted; /* there is a list, even an empty one */
  msock_derp_ban *bans;
  size_t n_bans;
} msock_derpd_lists;

/* Reads keys and bans; every line that is none goes to report with file and line. MSOCK_ERR_INVALID
 * when there were any; *out is empty then. */
msock_err msock_derpd_lists_load(const msock_derpd_config *v, msock_derpd_lists *out,
                                 msock_config_report *report);
void msock_derpd_lists_clear(msock_derpd_lists *l);

/* The core's settings. The mesh key is copied: wipe *out after use. */
void msock_derpd_core_settings(const msock_derpd_config *v, const msock_derpd_lists *l,
                               msock_derp_server_settings *out);

#endif
