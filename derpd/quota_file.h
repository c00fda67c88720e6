/* derpd/quota_file.h: the bytes that each key has sent today and this month, kept over restarts in
 * statedir/quota. Few writes: one each quota.save_interval while something was sent, and one at the
 * end. A write that fails leaves the old file whole; the relay goes on and says so.
 *
 *   derpd-quota 1
 *   nodekey:<hex> DAY MONTH DAY_BYTES MONTH_BYTES       (days and months since 1970) */
#ifndef MSOCK_DERPD_QUOTA_FILE_H
#define MSOCK_DERPD_QUOTA_FILE_H

#include "base/err.h"
#include "base/log.h"
#include "config/derpd_config.h"
#include "derp/server.h"

#define MSOCK_DERPD_QUOTA_NAME "quota"
#define MSOCK_DERPD_QUOTA_FILE_MAX (32u << 20)

/* Days and months since 1970 (UTC). Pure. */
void msock_derpd_date(uint64_t wall_us, uint32_t *day, uint32_t *month);

/* Into the core. No file: MSOCK_OK. Lines that cannot be read are left out and told in why with
 * MSOCK_ERR_INVALID; MSOCK_ERR_IO: not readable. */
msock_err msock_derpd_quota_load(const char *statedir, msock_derp_server *core, char *why,
                                 size_t cap);
msock_err msock_derpd_quota_save(const char *statedir, const msock_derp_server *core, char *why,
                                 size_t cap);
/* One line of the file; false: not a line of it. Pure. */
bool msock_derpd_quota_parse(const char *line, msock_derp_usage *out);

#endif
